"""Is it an array of integers, and are they in range?

NumPy turns mixed or large integers into floats and wraps what it casts; here both are errors instead.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, SupportsIndex

import numpy as np

from ..errors import FormatError, RangeError
from .arguments import array_of, whole

__all__ = ["at_index", "check_range", "each", "for_kernel", "integer_array", "limits", "smallest_dtype", "whole_array"]


def integer_array(codes, what: str = "codes") -> np.ndarray:
    """Return `codes` as an array of integers: an integer dtype, or objects that are all Python ints.

    Booleans count as 0 and 1.

    Raises
    ------
    FormatError
        An element is not an integer.
    """
    array = array_of(codes, what)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind in "iu":
        return array
    if array.size == 0 and not isinstance(codes, np.ndarray):
        return array.astype(np.int64)  # an empty list
    # NumPy turns a list that mixes int64 and uint64 into float64: look at the list itself
    array = np.asarray(codes, dtype=object) if not isinstance(codes, np.ndarray) else array
    if array.dtype == object and all(
        isinstance(c, (int, np.integer, np.bool_)) and not isinstance(c, (Enum, np.timedelta64)) for c in array.flat
    ):
        return each(int, array)
    raise FormatError(f"{what} are of type {np.asarray(codes).dtype}; codes must be integers")


def each(function: Callable[[Any], Any], array: np.ndarray) -> np.ndarray:
    """Return `function` of every element, in an object array of the same shape."""
    out = np.empty(array.shape, dtype=object)
    out.ravel()[:] = [function(x) for x in array.flat]
    return out


def for_kernel(array: np.ndarray, dtype=None) -> np.ndarray:
    """`array` as kernels are compiled for it: in C order, aligned, writeable, in the byte order of the machine.

    An array that is read-only or lies otherwise would have them compiled anew, a minute long, and is copied instead.
    """
    kind = np.dtype(array.dtype if dtype is None else dtype).newbyteorder("=")
    return np.require(array, kind, ["C", "A", "W"])


def at_index(index: Iterable[SupportsIndex]) -> str:
    """Return the words of an error that say where an element is: " at index 3", " at index (0, 3)", or none."""
    places = tuple(int(i) for i in index)
    return f" at index {places if len(places) != 1 else places[0]}" if places else ""


def limits(array: np.ndarray) -> tuple[int, int]:
    """Smallest and largest element of a non-empty integer array, as Python ints."""
    return int(array.min()), int(array.max())


def check_range(array: np.ndarray, lo: int, hi: int, what: str, allowed: str) -> None:
    """Raise RangeError naming the first element outside [lo, hi]."""
    if array.size == 0:
        return
    least, most = limits(array)
    if lo <= least and most <= hi:
        return
    flat = array.ravel()
    where = next(i for i in range(flat.size) if not lo <= int(flat[i]) <= hi)
    element = at_index(np.unravel_index(where, array.shape))
    raise RangeError(f"{what}: {int(flat[where])}{element} is outside {lo}..{hi}, the range of {allowed}")


def smallest_dtype(lo: int, hi: int) -> np.dtype:
    """Smallest NumPy integer dtype that holds lo..hi; unsigned unless lo is negative."""
    for dtype in (np.uint8, np.uint16, np.uint32, np.uint64) if lo >= 0 else (np.int8, np.int16, np.int32, np.int64):
        info = np.iinfo(dtype)
        if info.min <= lo and hi <= info.max:
            return np.dtype(dtype)
    raise FormatError(f"the range {lo}..{hi} does not fit in 64 bits; narrow the values")


def whole_array(values, what: str) -> np.ndarray:
    """`values` as a read-only, C-contiguous int64 array; whole numbers only.

    Arrays of floats are taken where every one is a whole number, and arrays of booleans as 0 and 1; one single number
    has to be an integer.

    Raises
    ------
    FormatError
        If a value is not a whole number within 64 bits.
    """
    array = array_of(values, what)
    if array.ndim == 0:
        array = np.asarray(
            whole(values, what, -(1 << 63), (1 << 63) - 1, allowed="a whole number within 64 bits is needed")
        )
    elif array.dtype == object:
        for x in array.ravel().tolist():
            whole(x, what, -(1 << 63), (1 << 63) - 1, allowed="every value must be a whole number within 64 bits")
    elif array.dtype.kind == "f":
        if not np.all(np.isfinite(array)) or np.any(array != np.trunc(array)) or np.any(np.abs(array) >= 2.0**63):
            raise FormatError(f"{what}: found {array.dtype} values that are not whole numbers; quantise them first")
    elif array.dtype.kind not in "iub":
        raise FormatError(f"{what}: found dtype {array.dtype}; give whole numbers")
    elif array.dtype == np.uint64 and array.size and int(array.max()) >= 1 << 63:
        raise FormatError(f"{what}: {int(array.max())} does not fit 64 bits signed")
    result = np.ascontiguousarray(array, dtype=np.int64).reshape(array.shape)
    if result is values or result.base is not None:
        result = result.copy()
    result.setflags(write=False)
    return result
