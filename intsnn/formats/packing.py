"""How codes of 1 to 32 bits lie in bytes: densely, low bits first, in the order of the array."""

import numpy as np

from ..errors import FormatError, RangeError
from .arguments import array_of, shown, whole, wholes
from .fixed import Fixed
from .integers import check_range, for_kernel, integer_array
from .weights import Bipolar, Levels, WeightFormat

__all__ = ["pack", "packed_size", "unpack"]

MOST_BITS = 32


def packed_size(count: int, bits: int) -> int:
    """Return the number of bytes that `count` codes of `bits` bits take when packed."""
    return (whole(count, "count", 0) * whole(bits, "bits", 1, MOST_BITS) + 7) // 8


def _packing_parts(weight_format: WeightFormat) -> tuple[int, int, int, bool]:
    """Width, smallest code, largest code and signedness of the codes of a packable format."""
    if isinstance(weight_format, Fixed):
        if weight_format.bits > MOST_BITS:
            raise FormatError(f"{weight_format} cannot be packed; formats of 1 to {MOST_BITS} bits can")
        return weight_format.bits, weight_format.min, weight_format.max, weight_format.signed
    if isinstance(weight_format, Bipolar):
        return 1, 0, 1, False
    if isinstance(weight_format, Levels):
        return weight_format.bits, 0, len(weight_format.table) - 1, False
    raise FormatError(f"weight_format: found {shown(weight_format)}; Fixed, Bipolar or Levels is needed")


def pack(codes, weight_format: WeightFormat) -> np.ndarray:
    """Return `codes` packed densely at the width of their format.

    Parameters
    ----------
    codes : integer array, any shape
        Codes (for `Bipolar` and `Levels`: 0 and up), taken in C order.
    weight_format : Fixed of at most 32 bits, Bipolar or Levels

    Returns
    -------
    (ceil(n * bits / 8),) uint8
        Bit j of code i is bit ``(i * bits + j) % 8`` of byte ``(i * bits + j) // 8``.

    Raises
    ------
    RangeError
        A code is outside the format.
    FormatError
        A format of more than 32 bits.
    """
    from ..kernels.numbers import packing  # late: whoever only names formats need not wait for the compiler

    bits, lo, hi, _ = _packing_parts(weight_format)
    array = integer_array(codes)
    check_range(array, lo, hi, "codes", str(weight_format))
    out = np.zeros(packed_size(array.size, bits), dtype=np.uint8)
    fields = (array.ravel().astype(np.int64) & ((1 << bits) - 1)).astype(np.uint8 if bits <= 8 else np.uint32)
    packing.pack(fields, bits, out)
    return out


def unpack(data, weight_format: WeightFormat, shape: int | tuple[int, ...] | np.ndarray) -> np.ndarray:
    """Return the codes that `pack` put into `data`.

    Parameters
    ----------
    data : (ceil(n * bits / 8),) uint8
    weight_format : Fixed of at most 32 bits, Bipolar or Levels
    shape : int, tuple of int or (dimensions,) integers
        Shape of the codes; n is its product.

    Returns
    -------
    integer array of `shape`
        int8 for a signed format, else uint8; above 8 bits the next wider types.

    Raises
    ------
    RangeError
        A code is outside the format, the length does not fit the shape, or unused bits are set.
    """
    from ..kernels.numbers import packing  # late, as in `pack`

    bits, lo, hi, signed = _packing_parts(weight_format)
    if not isinstance(shape, list | tuple) and not (isinstance(shape, np.ndarray) and shape.ndim):
        shape = (whole(shape, "shape", 0),)
    shape = wholes(shape, "shape", 0)
    data = array_of(data, "data")
    if data.ndim != 1 or data.dtype != np.uint8:
        raise FormatError(f"packed codes: data: found {shown(data)} for shape {shape}; 1-d uint8 is needed")
    count = 1
    for n in shape:
        count *= n
    if data.size != packed_size(count, bits):
        raise RangeError(
            f"{data.size} bytes of packed codes for shape {shape} at {bits} bits; {packed_size(count, bits)} are needed"
        )
    used = count * bits % 8
    if used and int(data[-1]) >> used:
        raise RangeError(f"the last packed byte is {int(data[-1])}; its bits above bit {used - 1} must be 0")
    out = np.empty(count, dtype=Fixed(bits, signed=signed).dtype)
    packing.unpack(for_kernel(data), bits, signed, out)
    check_range(out, lo, hi, "packed codes", str(weight_format))
    return out.reshape(shape)
