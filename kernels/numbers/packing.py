"""Dense packing of 1- to 32-bit codes into bytes, little-endian bit order; twins in `reference.py`."""

import numpy as np

from ..toolchain.jit import kernel

__all__ = ["pack", "unpack"]


@kernel
def pack(codes, bits, out):
    """Write the low `bits` bits of every code densely into `out`.

    Bit j of code i becomes bit ``(i * bits + j) % 8`` of byte ``(i * bits + j) // 8``; unused high
    bits of the last byte become 0. Twin: `exact.pack_bits`.

    Parameters
    ----------
    codes : (n,) uint8 or uint32, each below ``2**bits``
    bits : int
        1..32.
    out : (ceil(n * bits / 8),) uint8
        Receives the packed bytes.
    """
    window = np.int64(0)  # bits not yet written; fewer than 8 between codes, at most 39 within
    filled = np.int64(0)
    at = np.int64(0)
    for i in range(codes.size):
        window |= np.int64(codes[i]) << filled
        filled += bits
        while filled >= 8:
            out[at] = np.uint8(window & 255)
            at += 1
            window >>= 8
            filled -= 8
    if filled > 0:
        out[at] = np.uint8(window & 255)


@kernel
def unpack(data, bits, signed, out):
    """Read ``out.size`` codes of `bits` bits from `data`; the inverse of `pack`.

    Twin: `exact.unpack_bits`.

    Parameters
    ----------
    data : (ceil(n * bits / 8),) uint8
    bits : int
        1..32.
    signed : bool
        Whether the top bit of a code counts as ``-2**(bits - 1)``.
    out : (n,) of an integer type that holds them
        Receives the codes.
    """
    size = np.int64(1) << np.int64(bits)
    limit = size >> np.int64(signed)
    window = np.int64(0)
    filled = np.int64(0)
    at = np.int64(0)
    for i in range(out.size):
        while filled < bits:
            window |= np.int64(data[at]) << filled
            at += 1
            filled += 8
        code = window & (size - 1)
        window >>= bits
        filled -= bits
        if code >= limit:
            code -= size
        out[i] = code
