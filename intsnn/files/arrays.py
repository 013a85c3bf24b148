"""How are the arrays of an object stored: channels as they are, weights packed to their width?"""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from ..errors import FormatError, IntsnnError
from ..formats.fixed import Fixed
from ..formats.packing import pack, packed_size, unpack
from ..formats.weights import Bipolar, Levels
from .record import PACKED, Budget, Record, code_of
from .values import FLOAT, INT, Codec, what_is

__all__ = ["CODECS", "FLOATS", "INTEGERS", "PLACES", "float_weights", "get_weights", "narrowest", "put_weights"]

MOST_PACKED_BITS = 8


def narrowest(array: np.ndarray) -> np.ndarray:
    """Integers in the smallest dtype that holds them, unsigned unless one is negative."""
    if array.size == 0:
        return array.astype(np.uint8)
    return array.astype(Fixed.for_range(int(array.min()), int(array.max())).dtype)


def _put_integers(record: Record, name: str, value: np.ndarray) -> None:
    if np.ndim(value) == 0:
        INT.put(record, name, np.asarray(value).item())
    else:
        record.arrays[name] = narrowest(np.asarray(value))


def _get_integers(record: Record, name: str) -> np.ndarray | int:
    if name in record.attributes:
        return INT.get(record, name)
    value = record.take(name)
    if value.dtype.kind not in "iu" or value.ndim not in (1, 3):  # which of both the layer says
        raise record.refuse(f"{name!r} is {what_is(value)}; whole numbers, one per channel, are needed")
    return value


def _put_floats(record: Record, name: str, value: Any) -> None:
    if np.ndim(value) == 0:
        FLOAT.put(record, name, value)
    elif value.dtype in (np.float16, np.float32, np.float64):
        record.arrays[name] = value
    else:
        raise FormatError(f"{name}: found {value.dtype}; floats of at most 64 bits are stored")


def _get_floats(record: Record, name: str) -> np.ndarray | float:
    if name in record.attributes:
        return FLOAT.get(record, name)
    value = record.take(name)
    if value.dtype.kind != "f" or value.ndim != 1:
        raise record.refuse(f"{name!r} is {what_is(value)}; floats, one per channel, are needed")
    return value


@cache
def float_weights(rank: int) -> Codec:
    """Of float weights with `rank` axes, none of them empty: a dataset in the type that they have."""

    def get(record: Record, name: str) -> np.ndarray:
        value = record.take(name)
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise record.refuse(f"{name!r} is {what_is(value)}; a dataset of floats is needed")
        if value.ndim != rank or 0 in value.shape:
            raise record.refuse(f"{name!r} has shape {value.shape}; {rank} axes, none empty, are needed", "shape")
        return value

    return Codec(_put_floats, get)


def _put_places(record: Record, name: str, value: np.ndarray) -> None:
    record.arrays[name] = narrowest(value)


def _get_places(record: Record, name: str) -> np.ndarray:
    value = record.take(name)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
        raise record.refuse(f"{name!r} is {what_is(value)}; a dataset of whole numbers is needed")
    if value.ndim not in (1, 3) or 0 in value.shape:
        raise record.refuse(f"{name!r} has shape {value.shape}; (C, H, W) or (N,), none empty, is needed", "shape")
    return value


def _packs(fmt: Fixed | Bipolar | Levels) -> bool:
    return not isinstance(fmt, Fixed) or fmt.bits <= MOST_PACKED_BITS


def put_weights(record: Record, name: str, value: np.ndarray, fmt: Fixed | Bipolar | Levels) -> None:
    if _packs(fmt):
        record.arrays[name + PACKED] = pack(fmt.codes(value), fmt)
        record.shapes[name + PACKED] = tuple(value.shape)
    else:
        record.arrays[name] = narrowest(value)


def get_weights(record: Record, name: str, fmt: Fixed | Bipolar | Levels, rank: int, budget: Budget, wide: int):
    """Integers of packed or plain weights; `wide`: bytes that each will take in memory."""
    packed = name + PACKED
    if (name in record.arrays) == (packed in record.arrays):
        found = "both are" if name in record.arrays else "neither is"
        raise record.refuse(f"one dataset {name!r} (plain) or {packed!r} is needed; {found} there")
    value = record.take(packed if packed in record.arrays else name)
    is_packed = packed in record.arrays
    if is_packed and packed not in record.shapes:
        raise record.refuse(f"dataset {packed!r} has no attribute 'shape'", "shape")
    shape = record.shapes[packed] if is_packed else value.shape
    if len(shape) != rank or 0 in shape:
        raise record.refuse(f"{name!r} has shape {shape}; {rank} axes, none empty, are needed", "shape")
    count = 1
    for size in shape:
        count *= size
    budget.spend(record, count * wide)
    if not is_packed:
        if value.dtype.kind not in "iu":
            raise record.refuse(f"{name!r} is {what_is(value)}; whole numbers are needed")
        return value
    if not _packs(fmt):
        raise record.refuse(f"{packed!r}: weights of {fmt} are stored plain, as {name!r}", "format")
    if value.dtype != np.uint8 or value.ndim != 1 or value.size != packed_size(count, fmt.bits):
        raise record.refuse(
            f"{packed!r} is {what_is(value)}; {shape} at {fmt.bits} bits takes {packed_size(count, fmt.bits)} bytes",
            "size-mismatch",
        )
    try:
        return fmt.values(unpack(value, fmt, shape))
    except IntsnnError as error:
        raise record.refuse(f"{packed!r}: {error}", code_of(error)) from None


INTEGERS, FLOATS = Codec(_put_integers, _get_integers), Codec(_put_floats, _get_floats)
PLACES = Codec(_put_places, _get_places)

# by declared type; an array alone is one of integers, or of floats in a float network
CODECS: Mapping[Any, Codec] = types.MappingProxyType({np.ndarray | int: INTEGERS, np.ndarray | float: FLOATS})
