"""Is it an array of integers, and are they in range?

NumPy turns mixed or large integers into floats and wraps what it casts; here both are errors instead.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, SupportsIndex

import numpy as np

from ..errors import FormatError, RangeError
from .arguments import array_of

__all__ = ["at_index", "check_range", "each", "for_kernel", "integer_array", "limits", "smallest_dtype"]


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
