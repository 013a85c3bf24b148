"""How is one value stored among the attributes of an object, and got out again?

A `Codec` for each kind of value. What is put in is checked to be storable without loss; what is got out is checked for
type, size and range before it is used, and the record remembers what was taken, so that anything left over can be
refused. Arrays are in `arrays`.
"""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import FormatError
from ..formats.arguments import shown
from ..formats.fixed import Fixed, Overflow, Rounding
from ..formats.notation import parse
from ..formats.weights import Bipolar, Levels
from ..network.quantised import InputScale
from .hdf5 import MAX_TEXT
from .record import Record

__all__ = [
    "BOOL", "CODECS", "FIXED", "FLOAT", "FORMAT", "INT", "JSON", "PADDING", "PAIR", "RANGE", "SCALE", "SIZES", "TEXT",
    "TEXTS", "Codec", "mode", "plain_text", "what_is",
]  # fmt: skip

MAX_SIZE = 1 << 31  # of one axis of a packed array
MAX_JSON_DEPTH = 32
MAX_DIGITS = 400  # of a number in an input scale: what a float can hold
_FRACTION = re.compile(r"[+-]?\d{1,400}(\.\d{1,400}|/\d{1,400})?")


@dataclass(frozen=True)
class Codec:
    """How one kind of value is kept in a `Record` under a name.

    Attributes
    ----------
    put : callable(record, name, value)
        FormatError where it cannot be kept without loss.
    get : callable(record, name)
        The value; ImportRefused where something else is found.
    """

    put: Callable[[Record, str, Any], None]
    get: Callable[[Record, str], Any]


def plain_text(value: Any, what: str) -> str:
    """`value` if HDF5 can hold it as text."""
    if not isinstance(value, str):
        raise FormatError(f"{what}: found {shown(value)}; text is needed")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise FormatError(f"{what}: found {shown(value)}, which is no valid Unicode") from None
    if "\0" in value:
        raise FormatError(f"{what}: found {shown(value)}; text with a NUL cannot be stored")
    return value


def what_is(value: Any) -> str:
    """What was found, for messages."""
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 else text[:50] + "..."


def _whole(value: Any, what: str) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not -(1 << 63) <= int(value) < 1 << 63:
        raise FormatError(f"{what}: found {value!r}; a whole number of 64 bits is needed")
    return int(value)


def _put_int(record: Record, name: str, value: Any) -> None:
    record.attributes[name] = _whole(value, name)


def _get_int(record: Record, name: str) -> int:
    value = record.take(name)
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise record.refuse(f"{name!r} is {what_is(value)}; a whole number of 64 bits is needed")
    return value


def _put_bool(record: Record, name: str, value: Any) -> None:
    if not isinstance(value, bool | np.bool_):
        raise FormatError(f"{name}: found {value!r}; True or False is needed")
    record.attributes[name] = int(value)


def _get_bool(record: Record, name: str) -> bool:
    value = _get_int(record, name)
    if value not in (0, 1):
        raise record.refuse(f"{name!r} is {value}; 0 or 1 is needed")
    return bool(value)


def _put_float(record: Record, name: str, value: Any) -> None:
    value = float(value)
    if not np.isfinite(value):
        raise FormatError(f"{name}: found {value}; a finite number is needed")
    record.attributes[name] = value


def _get_float(record: Record, name: str) -> float:
    value = record.take(name)
    if type(value) not in (float, int):
        raise record.refuse(f"{name!r} is {what_is(value)}; one number is needed")
    return float(value)


def _put_text(record: Record, name: str, value: Any) -> None:
    record.attributes[name] = plain_text(value, name)


def _get_text(record: Record, name: str) -> str:
    value = record.take(name)
    if not isinstance(value, str):
        raise record.refuse(f"{name!r} is {what_is(value)}; text is needed")
    return value


def _put_texts(record: Record, name: str, value: Any) -> None:
    record.attributes[name] = [plain_text(item, name) for item in value]


def _get_texts(record: Record, name: str) -> tuple[str, ...]:
    value = record.take(name)
    if isinstance(value, str):
        return (value,)
    if isinstance(value, np.ndarray) and value.shape == (0,):  # how an empty list arrives from h5py
        return ()
    if not isinstance(value, list):
        raise record.refuse(f"{name!r} is {what_is(value)}; a list of names is needed")
    return tuple(value)


def _put_sizes(record: Record, name: str, value: Any) -> None:
    record.attributes[name] = np.asarray([_whole(item, name) for item in value], np.int64)


def _sizes(record: Record, name: str, value: Any) -> np.ndarray:
    if type(value) is int:
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu" or value.size > 8:
        raise record.refuse(f"{name!r} is {what_is(value)}; a few whole numbers are needed")
    if value.size and not (0 <= int(value.min()) and int(value.max()) < MAX_SIZE):
        raise record.refuse(f"{name!r} holds {value.min()} to {value.max()}; 0 to {MAX_SIZE - 1} are possible", "range")
    return value.astype(np.int64)


def _get_sizes(record: Record, name: str) -> tuple[int, ...]:
    value = _sizes(record, name, record.take(name))
    if value.ndim > 1:
        raise record.refuse(f"{name!r} has shape {value.shape}; a list of sizes is needed")
    return tuple(value.reshape(-1).tolist())


def _put_pair(record: Record, name: str, value: Any) -> None:
    _put_sizes(record, name, (value, value) if isinstance(value, int | np.integer) else value)


def _get_pair(record: Record, name: str) -> tuple[int, int]:
    value = _sizes(record, name, record.take(name))
    if value.shape not in ((), (2,)):
        raise record.refuse(f"{name!r} has shape {value.shape}; one number or two (rows, columns) are needed")
    down, right = np.broadcast_to(value, (2,)).tolist()
    return down, right


def _put_range(record: Record, name: str, value: Any) -> None:
    _put_sizes(record, name, value)


def _get_range(record: Record, name: str) -> tuple[int, int]:
    value = record.take(name)
    if not isinstance(value, np.ndarray) or value.shape != (2,) or value.dtype.kind not in "iu":
        raise record.refuse(f"{name!r} is {what_is(value)}; two whole numbers (smallest, largest) are needed")
    low, high = value.tolist()
    if high >= 1 << 63 or low > high:
        raise record.refuse(f"{name!r} is {low} to {high}, which is no range of 64 bits", "range")
    return low, high


def _put_padding(record: Record, name: str, value: Any) -> None:
    (top, bottom), (left, right) = value
    numbers = [_whole(item, name) for item in (top, bottom, left, right)]
    record.attributes[name] = np.asarray(numbers, np.int64).reshape(2, 2)


def _get_padding(record: Record, name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    value = _sizes(record, name, record.take(name))
    if value.shape not in ((), (2,), (2, 2)):
        raise record.refuse(
            f"{name!r} has shape {value.shape}; p, (py, px) or ((top, bottom), (left, right)) is needed"
        )
    pairs = value if value.ndim == 2 else np.broadcast_to(np.atleast_1d(value).reshape(-1, 1), (2, 2))
    (top, bottom), (left, right) = pairs.tolist()
    return (top, bottom), (left, right)


def _put_format(record: Record, name: str, value: Any) -> None:
    text = str(value)
    try:
        exact = parse(text).format == value
    except FormatError:  # a table too long for the notation
        exact = False
    if exact:
        record.attributes[name] = text
    elif isinstance(value, Levels):
        record.attributes[name] = np.asarray(value.table, np.int64)
    else:
        raise FormatError(f"{name}: found {value!r}; a number format is needed")


def _get_format(record: Record, name: str) -> Fixed | Bipolar | Levels:
    value = record.take(name)
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
        try:
            return Levels(tuple(value.tolist()))
        except FormatError as error:
            raise record.refuse(f"{name!r}: {error}", "format") from None
    if not isinstance(value, str):
        raise record.refuse(f"{name!r} is {what_is(value)}; a format such as 'fxp-s8/0' is needed", "format")
    try:
        notation = parse(value)
    except FormatError as error:
        raise record.refuse(f"{name!r}: {error}", "format") from None
    if notation.rounding is not None or notation.overflow is not None:
        raise record.refuse(f"{name!r} is {value!r}; a format without rounding and overflow is needed", "format")
    return notation.format


def _get_fixed(record: Record, name: str) -> Fixed:
    value = _get_format(record, name)
    if not isinstance(value, Fixed):
        raise record.refuse(f"{name!r} is {value}; a fixed-point format such as 'fxp-s8/0' is needed", "format")
    return value


def _put_scale(record: Record, name: str, scale: InputScale) -> None:
    """An input scale as ``"1/255"`` or ``"2/255,-1"``, exactly. FormatError where its numbers are too long."""
    text = str(scale)
    if not _is_scale(text):
        raise FormatError(f"{name}: its numbers have more than {MAX_DIGITS} digits or exceed a float; round it")
    record.attributes[name] = text


def _is_scale(text: str) -> bool:
    parts = text.split(",")
    if len(parts) > 2 or not all(_FRACTION.fullmatch(part) for part in parts):
        return False
    try:
        numbers = [float(Fraction(part)) for part in parts]
    except (ArithmeticError, ValueError):
        return False
    return numbers[0] > 0


def _get_scale(record: Record, name: str) -> InputScale:
    """The input scale in attribute `name`; exponents are not taken (they could be of any size)."""
    text = _get_text(record, name)
    if not _is_scale(text):
        raise record.refuse(f"{name!r} is {text[:60]!r}; SCALE[,OFFSET] such as '1/255' or '2/255,-1' is needed")
    return InputScale.parse(text)


def _put_json(record: Record, what: str, value: Mapping) -> None:
    """A mapping of plain values as JSON; tuples become lists, numbers of NumPy plain ones."""
    if not isinstance(value, Mapping):
        raise FormatError(f"{what}: found {type(value).__name__}; a mapping of plain values is needed")
    text = json.dumps(_plain(value, what, 0), separators=(",", ":"))
    if len(text) > MAX_TEXT:
        raise FormatError(f"{what}: takes {len(text)} bytes as JSON, more than {MAX_TEXT}; leave details out")
    record.attributes[what] = text


def _plain(value: Any, what: str, depth: int) -> Any:
    """`value` as what JSON gives back: dicts with text keys, lists, text, numbers, truth values, None."""
    if depth > MAX_JSON_DEPTH - 1:
        raise FormatError(f"{what}: is nested more than {MAX_JSON_DEPTH} deep")
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise FormatError(f"{what}: holds {value}; every number has to be finite")
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(item, what, depth + 1) for item in value]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise FormatError(f"{what}: has the key {key!r}; keys have to be text")
        return {key: _plain(item, f"{what}.{key}", depth + 1) for key, item in value.items()}
    raise FormatError(f"{what}: holds a {type(value).__name__}; only plain JSON values are stored")


def _get_json(record: Record, name: str) -> dict:
    """The JSON object in attribute `name`: of bounded depth, finite numbers only."""
    text = _get_text(record, name)
    depth = deepest = 0
    for sign in re.sub(r'"(?:[^"\\]|\\.)*"?', "", text):
        depth += (sign in "[{") - (sign in "]}")
        deepest = max(deepest, depth)
    if deepest > MAX_JSON_DEPTH:
        raise record.refuse(f"{name!r} is JSON nested {deepest} deep; at most {MAX_JSON_DEPTH} is read", "json")

    def no_number(word: str) -> None:
        raise ValueError(f"{word} is no finite number")

    try:
        value = json.loads(text, parse_constant=no_number)
        if not isinstance(value, dict):
            raise ValueError("an object is needed")
        return _plain(value, name, 0)
    except (ValueError, RecursionError) as error:
        raise record.refuse(f"{name!r} is no JSON to be read ({str(error)[:200]})", "json") from None


def mode(kind: type[Enum]) -> Codec:
    """Of the members of an enumeration, by name."""

    def put(record: Record, name: str, value: Any) -> None:
        record.attributes[name] = value.name

    def get(record: Record, name: str) -> Any:
        text = _get_text(record, name)
        if text not in kind.__members__:
            raise record.refuse(f"{name!r} is {text[:60]!r}; one of {', '.join(kind.__members__)} is needed", "enum")
        return kind[text]

    return Codec(put, get)


INT, BOOL, FLOAT = Codec(_put_int, _get_int), Codec(_put_bool, _get_bool), Codec(_put_float, _get_float)
TEXT, TEXTS = Codec(_put_text, _get_text), Codec(_put_texts, _get_texts)
SIZES, PAIR = Codec(_put_sizes, _get_sizes), Codec(_put_pair, _get_pair)
RANGE, PADDING = Codec(_put_range, _get_range), Codec(_put_padding, _get_padding)
FORMAT, FIXED = Codec(_put_format, _get_format), Codec(_put_format, _get_fixed)
SCALE, JSON = Codec(_put_scale, _get_scale), Codec(_put_json, _get_json)

# by declared type
CODECS: Mapping[Any, Codec] = types.MappingProxyType(
    {
        int: INT,
        bool: BOOL,
        float: FLOAT,
        str: TEXT,
        tuple[str, ...]: TEXTS,
        tuple[int, ...]: SIZES,
        tuple[int, int]: PAIR,
        tuple[int, int] | int: PAIR,
        tuple | int: PADDING,
        tuple[tuple[int, int], tuple[int, int]]: PADDING,
        Fixed: FIXED,
        Fixed | Bipolar | Levels: FORMAT,
        Rounding: mode(Rounding),
        Overflow: mode(Overflow),
    }
)
