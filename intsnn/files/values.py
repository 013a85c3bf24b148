"""How is one value stored among the attributes and arrays of an object, and got out again?

Pairs of functions, ``put_x(record, name, value)`` and ``get_x(record, name)``, one pair per kind of value. What is put
in is checked to be storable without loss; what is got out is checked for type, size and range before it is used, and
the record remembers what was taken, so that anything left over can be refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import FormatError, ImportRefused, IntsnnError, RangeError, ShapeError
from ..formats.arguments import shown
from ..formats.fixed import Fixed
from ..formats.notation import parse
from ..formats.packing import pack, packed_size, unpack
from ..formats.weights import Bipolar, Levels
from ..network.quantised import InputScale
from .hdf5 import MAX_TEXT

__all__ = [
    "NONE",
    "PACKED",
    "Budget",
    "Record",
    "code_of",
    "get_bool",
    "get_fixed",
    "get_float",
    "get_floats",
    "get_format",
    "get_int",
    "get_integers",
    "get_json",
    "get_padding",
    "get_pair",
    "get_range",
    "get_scale",
    "get_sizes",
    "get_text",
    "get_texts",
    "get_weights",
    "mode_getter",
    "narrowest",
    "plain_text",
    "put_bool",
    "put_float",
    "put_floats",
    "put_format",
    "put_int",
    "put_integers",
    "put_json",
    "put_mode",
    "put_padding",
    "put_pair",
    "put_range",
    "put_scale",
    "put_sizes",
    "put_text",
    "put_texts",
    "put_weights",
    "refusal",
]

NONE = "none"  # an optional field that is not given
PACKED = "_packed"  # ending of the dataset of a packed field
MOST_PACKED_BITS = 8
MAX_SIZE = 1 << 31  # of one axis of a packed array
MAX_JSON_DEPTH = 32
MAX_DIGITS = 400  # of a number in an input scale: what a float can hold
_FRACTION = re.compile(r"[+-]?\d{1,400}(\.\d{1,400}|/\d{1,400})?")


def refusal(label: str, where: str, message: str, code: str = "field") -> ImportRefused:
    """The error for what is wrong at `where` in the file called `label`."""
    spot = f" at {where!r}" if where else ""
    return ImportRefused(f"{label}{spot}: {message}", code=code, where=where)


def code_of(error: Exception) -> str:
    """Short name of the rule that a constructor found broken."""
    codes: dict[type, str] = {RangeError: "range", ShapeError: "shape"}
    return codes.get(type(error), "field")


class Budget:
    """Bytes that the arrays of one file may still take in memory."""

    def __init__(self, size: int) -> None:
        self.size = self.left = int(size)

    def spend(self, record: Record, size: int) -> None:
        """Take `size` bytes, or refuse with code ``budget``."""
        self.left -= size
        if self.left < 0:
            raise record.refuse(
                f"the arrays need more than the budget of {self.size} bytes in memory; give a larger budget", "budget"
            )


@dataclass(eq=False)
class Record:
    """Attributes and arrays of one object of a file, by name.

    Attributes
    ----------
    label, path : str
        The file and the object, for messages.
    attributes : dict
        str, int, float, list of str or small integer arrays.
    arrays : dict of str to numpy.ndarray
    shapes : dict of str to tuple of int
        Attribute ``shape`` of packed arrays.
    """

    label: str = ""
    path: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def refuse(self, message: str, code: str = "field") -> ImportRefused:
        """The error for something wrong in this object."""
        return refusal(self.label, self.path, message, code)

    def has(self, name: str) -> bool:
        """Whether anything is stored for the field `name`."""
        return (
            name in self.attributes
            or name in self.arrays
            or name + PACKED in self.arrays
            or any(key.startswith(name + ".") for key in self.attributes)
        )

    def take(self, name: str) -> Any:
        """The attribute or array called `name`; what is both or neither is refused."""
        if name in self.attributes and name in self.arrays:
            raise self.refuse(f"{name!r} is there as an attribute and as a dataset; keep one")
        for store in (self.attributes, self.arrays):
            if name in store:
                self.used.add(name)
                return store[name]
        raise self.refuse(f"{name!r} is missing")

    def finish(self, known: str) -> None:
        """Refuse whatever was never taken; `known` says what could have been there."""
        left = [name for name in (*self.attributes, *self.arrays) if name not in self.used]
        if left:
            raise self.refuse(f"{left[0]!r} is unknown here; known are {known}")


# ---------------------------------------------------------------------------------------------------------------------
# plain values: one pair of functions (put into a record, get out of it) per declared type
# ---------------------------------------------------------------------------------------------------------------------


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


def _whole(value: Any, what: str) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not -(1 << 63) <= int(value) < 1 << 63:
        raise FormatError(f"{what}: found {value!r}; a whole number of 64 bits is needed")
    return int(value)


def put_int(record: Record, name: str, value: Any) -> None:
    record.attributes[name] = _whole(value, name)


def get_int(record: Record, name: str) -> int:
    value = record.take(name)
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise record.refuse(f"{name!r} is {_shown(value)}; a whole number of 64 bits is needed")
    return value


def put_bool(record: Record, name: str, value: Any) -> None:
    if not isinstance(value, bool | np.bool_):
        raise FormatError(f"{name}: found {value!r}; True or False is needed")
    record.attributes[name] = int(value)


def get_bool(record: Record, name: str) -> bool:
    value = get_int(record, name)
    if value not in (0, 1):
        raise record.refuse(f"{name!r} is {value}; 0 or 1 is needed")
    return bool(value)


def put_float(record: Record, name: str, value: Any) -> None:
    value = float(value)
    if not np.isfinite(value):
        raise FormatError(f"{name}: found {value}; a finite number is needed")
    record.attributes[name] = value


def get_float(record: Record, name: str) -> float:
    value = record.take(name)
    if type(value) not in (float, int):
        raise record.refuse(f"{name!r} is {_shown(value)}; one number is needed")
    return float(value)


def put_text(record: Record, name: str, value: Any) -> None:
    record.attributes[name] = plain_text(value, name)


def get_text(record: Record, name: str) -> str:
    value = record.take(name)
    if not isinstance(value, str):
        raise record.refuse(f"{name!r} is {_shown(value)}; text is needed")
    return value


def put_texts(record: Record, name: str, value: Any) -> None:
    record.attributes[name] = [plain_text(item, name) for item in value]


def get_texts(record: Record, name: str) -> tuple[str, ...]:
    value = record.take(name)
    if isinstance(value, str):
        return (value,)
    if isinstance(value, np.ndarray) and value.shape == (0,):  # how an empty list arrives from h5py
        return ()
    if not isinstance(value, list):
        raise record.refuse(f"{name!r} is {_shown(value)}; a list of names is needed")
    return tuple(value)


def put_sizes(record: Record, name: str, value: Any) -> None:
    record.attributes[name] = np.asarray([_whole(item, name) for item in value], np.int64)


def _sizes(record: Record, name: str, value: Any) -> np.ndarray:
    if type(value) is int:
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu" or value.size > 8:
        raise record.refuse(f"{name!r} is {_shown(value)}; a few whole numbers are needed")
    if value.size and not (0 <= int(value.min()) and int(value.max()) < MAX_SIZE):
        raise record.refuse(f"{name!r} holds {value.min()} to {value.max()}; 0 to {MAX_SIZE - 1} are possible", "range")
    return value.astype(np.int64)


def get_sizes(record: Record, name: str) -> tuple[int, ...]:
    value = _sizes(record, name, record.take(name))
    if value.ndim > 1:
        raise record.refuse(f"{name!r} has shape {value.shape}; a list of sizes is needed")
    return tuple(value.reshape(-1).tolist())


def put_pair(record: Record, name: str, value: Any) -> None:
    put_sizes(record, name, (value, value) if isinstance(value, int | np.integer) else value)


def get_pair(record: Record, name: str) -> tuple[int, int]:
    value = _sizes(record, name, record.take(name))
    if value.shape not in ((), (2,)):
        raise record.refuse(f"{name!r} has shape {value.shape}; one number or two (rows, columns) are needed")
    down, right = np.broadcast_to(value, (2,)).tolist()
    return down, right


def put_range(record: Record, name: str, value: Any) -> None:
    put_sizes(record, name, value)


def get_range(record: Record, name: str) -> tuple[int, int]:
    value = record.take(name)
    if not isinstance(value, np.ndarray) or value.shape != (2,) or value.dtype.kind not in "iu":
        raise record.refuse(f"{name!r} is {_shown(value)}; two whole numbers (smallest, largest) are needed")
    low, high = value.tolist()
    if high >= 1 << 63 or low > high:
        raise record.refuse(f"{name!r} is {low} to {high}, which is no range of 64 bits", "range")
    return low, high


def put_padding(record: Record, name: str, value: Any) -> None:
    (top, bottom), (left, right) = value
    numbers = [_whole(item, name) for item in (top, bottom, left, right)]
    record.attributes[name] = np.asarray(numbers, np.int64).reshape(2, 2)


def get_padding(record: Record, name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    value = _sizes(record, name, record.take(name))
    if value.shape not in ((), (2,), (2, 2)):
        raise record.refuse(
            f"{name!r} has shape {value.shape}; p, (py, px) or ((top, bottom), (left, right)) is needed"
        )
    pairs = value if value.ndim == 2 else np.broadcast_to(np.atleast_1d(value).reshape(-1, 1), (2, 2))
    (top, bottom), (left, right) = pairs.tolist()
    return (top, bottom), (left, right)


def put_mode(record: Record, name: str, value: Any) -> None:
    record.attributes[name] = value.name


def mode_getter(kind: type[Enum]) -> Callable[[Record, str], Any]:
    def get(record: Record, name: str) -> Any:
        text = get_text(record, name)
        if text not in kind.__members__:
            raise record.refuse(f"{name!r} is {text[:60]!r}; one of {', '.join(kind.__members__)} is needed", "enum")
        return kind[text]

    return get


def put_format(record: Record, name: str, value: Any) -> None:
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


def get_format(record: Record, name: str) -> Fixed | Bipolar | Levels:
    value = record.take(name)
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
        try:
            return Levels(tuple(value.tolist()))
        except FormatError as error:
            raise record.refuse(f"{name!r}: {error}", "format") from None
    if not isinstance(value, str):
        raise record.refuse(f"{name!r} is {_shown(value)}; a format such as 'fxp-s8/0' is needed", "format")
    try:
        notation = parse(value)
    except FormatError as error:
        raise record.refuse(f"{name!r}: {error}", "format") from None
    if notation.rounding is not None or notation.overflow is not None:
        raise record.refuse(f"{name!r} is {value!r}; a format without rounding and overflow is needed", "format")
    return notation.format


def get_fixed(record: Record, name: str) -> Fixed:
    value = get_format(record, name)
    if not isinstance(value, Fixed):
        raise record.refuse(f"{name!r} is {value}; a fixed-point format such as 'fxp-s8/0' is needed", "format")
    return value


# ---------------------------------------------------------------------------------------------------------------------
# arrays
# ---------------------------------------------------------------------------------------------------------------------


def narrowest(array: np.ndarray) -> np.ndarray:
    """Integers in the smallest dtype that holds them, unsigned unless one is negative."""
    if array.size == 0:
        return array.astype(np.uint8)
    return array.astype(Fixed.for_range(int(array.min()), int(array.max())).dtype)


def put_integers(record: Record, name: str, value: np.ndarray) -> None:
    if np.ndim(value) == 0:
        record.attributes[name] = _whole(np.asarray(value).item(), name)
    else:
        record.arrays[name] = narrowest(np.asarray(value))


def get_integers(record: Record, name: str) -> np.ndarray | int:
    if name in record.attributes:
        return get_int(record, name)
    value = record.take(name)
    if value.dtype.kind not in "iu" or value.ndim != 1:
        raise record.refuse(f"{name!r} is {_shown(value)}; whole numbers, one per channel, are needed")
    return value


def put_floats(record: Record, name: str, value: Any) -> None:
    if np.ndim(value) == 0:
        put_float(record, name, value)
    elif value.dtype in (np.float16, np.float32, np.float64):
        record.arrays[name] = value
    else:
        raise FormatError(f"{name}: found {value.dtype}; floats of at most 64 bits are stored")


def get_floats(record: Record, name: str) -> np.ndarray | float:
    if name in record.attributes:
        return get_float(record, name)
    value = record.take(name)
    if value.dtype.kind != "f" or value.ndim != 1:
        raise record.refuse(f"{name!r} is {_shown(value)}; floats, one per channel, are needed")
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
            raise record.refuse(f"{name!r} is {_shown(value)}; whole numbers are needed")
        return value
    if not _packs(fmt):
        raise record.refuse(f"{packed!r}: weights of {fmt} are stored plain, as {name!r}", "format")
    if value.dtype != np.uint8 or value.ndim != 1 or value.size != packed_size(count, fmt.bits):
        raise record.refuse(
            f"{packed!r} is {_shown(value)}; {shape} at {fmt.bits} bits takes {packed_size(count, fmt.bits)} bytes",
            "size-mismatch",
        )
    try:
        return fmt.values(unpack(value, fmt, shape))
    except IntsnnError as error:
        raise record.refuse(f"{packed!r}: {error}", code_of(error)) from None


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 else text[:50] + "..."


def put_scale(record: Record, name: str, scale: InputScale) -> None:
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


def get_scale(record: Record, name: str) -> InputScale:
    """The input scale in attribute `name`; exponents are not taken (they could be of any size)."""
    text = get_text(record, name)
    if not _is_scale(text):
        raise record.refuse(f"{name!r} is {text[:60]!r}; SCALE[,OFFSET] such as '1/255' or '2/255,-1' is needed")
    return InputScale.parse(text)


def put_json(record: Record, what: str, value: Mapping) -> None:
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


def get_json(record: Record, name: str) -> dict:
    """The JSON object in attribute `name`: of bounded depth, finite numbers only."""
    text = get_text(record, name)
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
