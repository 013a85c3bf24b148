"""How does one layer become named arrays and attributes, and back?

Every field of a layer is stored under its own name by the rule for its declared type, so that a field which is added
to a layer later is stored too, or refused by name if its type has no rule. Nothing is looked up in the file but by
name, and everything found there has to be asked for: what is left over is an error. The layout is written down in
``docs/files.md``.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from .errors import FormatError, ImportRefused, IntsnnError, RangeError, ShapeError, UnsupportedError
from .floatnet import FloatAdd, FloatAvgPool2d, FloatConv2d, FloatFlatten, FloatInput, FloatMaxPool2d, FloatNode
from .formats import Bipolar, Fixed, Levels, Overflow, Rounding, pack, packed_size, parse, unpack
from .layers import Add, Affine, AvgPool2d, Conv2d, Flatten, Input, MaxPool2d, Readout, Scale, SumPool2d
from .neurons import Decay, Neuron, Refractory
from .quantised import InputScale, QuantAffine, QuantConv2d, QuantReLU

__all__ = ["LAYERS", "QUANTISED", "Budget", "Record", "read_layer", "refusal", "stored_fields", "write_layer"]

# the closed registries: the type that a file names, and what it is here
LAYERS: Mapping[str, type] = types.MappingProxyType(
    {
        cls.__name__: cls
        for cls in (Input, Affine, Conv2d, Scale, SumPool2d, AvgPool2d, MaxPool2d, Flatten, Add, Readout, Neuron)
    }
)
QUANTISED: Mapping[str, type] = types.MappingProxyType(
    {
        "Input": FloatInput,
        "QuantConv2d": QuantConv2d,
        "QuantAffine": QuantAffine,
        "QuantReLU": QuantReLU,
        "MaxPool2d": FloatMaxPool2d,
        "AvgPool2d": FloatAvgPool2d,
        "Flatten": FloatFlatten,
        "Add": FloatAdd,
    }
)

NONE = "none"  # an optional field that is not given
PACKED = "_packed"  # ending of the dataset of a packed field
MOST_PACKED_BITS = 8
MAX_SIZE = 1 << 31  # of one axis of a packed array
MAX_DIGITS = 400  # of a number in an input scale: what a float can hold
_FRACTION = re.compile(r"[+-]?\d{1,400}(\.\d{1,400}|/\d{1,400})?")


def refusal(label: str, where: str, message: str, code: str = "field") -> ImportRefused:
    """The error for what is wrong at `where` in the file called `label`."""
    spot = f" at {where!r}" if where else ""
    return ImportRefused(f"{label}{spot}: {message}", code=code, where=where)


def _code_of(error: Exception) -> str:
    """Short name of the rule that a constructor found broken."""
    return {RangeError: "range", ShapeError: "shape"}.get(type(error), "field")


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
        raise FormatError(f"{what}: found {value!r}; text is needed")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise FormatError(f"{what}: found {value!r}, which is no valid Unicode") from None
    if "\0" in value:
        raise FormatError(f"{what}: found {value!r}; text with a NUL cannot be stored")
    return value


def _whole(value: Any, what: str) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not -(1 << 63) <= int(value) < 1 << 63:
        raise FormatError(f"{what}: found {value!r}; a whole number of 64 bits is needed")
    return int(value)


def _put_int(record: Record, name: str, value: Any) -> None:
    record.attributes[name] = _whole(value, name)


def _get_int(record: Record, name: str) -> int:
    value = record.take(name)
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise record.refuse(f"{name!r} is {_shown(value)}; a whole number of 64 bits is needed")
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
        raise record.refuse(f"{name!r} is {_shown(value)}; one number is needed")
    return float(value)


def _put_text(record: Record, name: str, value: Any) -> None:
    record.attributes[name] = plain_text(value, name)


def _get_text(record: Record, name: str) -> str:
    value = record.take(name)
    if not isinstance(value, str):
        raise record.refuse(f"{name!r} is {_shown(value)}; text is needed")
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
        raise record.refuse(f"{name!r} is {_shown(value)}; a list of names is needed")
    return tuple(value)


def _put_sizes(record: Record, name: str, value: Any) -> None:
    record.attributes[name] = np.asarray([_whole(item, name) for item in value], np.int64)


def _sizes(record: Record, name: str, value: Any) -> np.ndarray:
    if type(value) is int:
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu" or value.size > 8:
        raise record.refuse(f"{name!r} is {_shown(value)}; a few whole numbers are needed")
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
        raise record.refuse(f"{name!r} is {_shown(value)}; two whole numbers (smallest, largest) are needed")
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
        raise record.refuse(f"{name!r} has shape {value.shape}; p, (py, px) or ((top, bottom), (left, right)) is needed")
    pairs = value if value.ndim == 2 else np.broadcast_to(np.atleast_1d(value).reshape(-1, 1), (2, 2))
    (top, bottom), (left, right) = pairs.tolist()
    return (top, bottom), (left, right)


def _put_mode(record: Record, name: str, value: Any) -> None:
    record.attributes[name] = value.name


def _mode_getter(kind: type) -> Callable[[Record, str], Any]:
    def get(record: Record, name: str) -> Any:
        text = _get_text(record, name)
        if text not in kind.__members__:
            raise record.refuse(f"{name!r} is {text[:60]!r}; one of {', '.join(kind.__members__)} is needed", "enum")
        return kind[text]

    return get


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
        raise record.refuse(f"{name!r} is {_shown(value)}; a format such as 'fxp-s8/0' is needed", "format")
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


# ---------------------------------------------------------------------------------------------------------------------
# arrays
# ---------------------------------------------------------------------------------------------------------------------


def narrowest(array: np.ndarray) -> np.ndarray:
    """Integers in the smallest dtype that holds them, unsigned unless one is negative."""
    if array.size == 0:
        return array.astype(np.uint8)
    return array.astype(Fixed.for_range(int(array.min()), int(array.max())).dtype)


def _put_integers(record: Record, name: str, value: np.ndarray) -> None:
    if np.ndim(value) == 0:
        record.attributes[name] = _whole(np.asarray(value).item(), name)
    else:
        record.arrays[name] = narrowest(np.asarray(value))


def _get_integers(record: Record, name: str) -> np.ndarray | int:
    if name in record.attributes:
        return _get_int(record, name)
    value = record.take(name)
    if value.dtype.kind not in "iu" or value.ndim != 1:
        raise record.refuse(f"{name!r} is {_shown(value)}; whole numbers, one per channel, are needed")
    return value


def _put_floats(record: Record, name: str, value: Any) -> None:
    if np.ndim(value) == 0:
        _put_float(record, name, value)
    elif value.dtype in (np.float16, np.float32, np.float64):
        record.arrays[name] = value
    else:
        raise FormatError(f"{name}: found {value.dtype}; floats of at most 64 bits are stored")


def _get_floats(record: Record, name: str) -> np.ndarray | float:
    if name in record.attributes:
        return _get_float(record, name)
    value = record.take(name)
    if value.dtype.kind != "f" or value.ndim != 1:
        raise record.refuse(f"{name!r} is {_shown(value)}; floats, one per channel, are needed")
    return value


def _packs(fmt: Fixed | Bipolar | Levels) -> bool:
    return not isinstance(fmt, Fixed) or fmt.bits <= MOST_PACKED_BITS


def _put_weights(record: Record, name: str, value: np.ndarray, fmt: Fixed | Bipolar | Levels) -> None:
    if _packs(fmt):
        record.arrays[name + PACKED] = pack(fmt.codes(value), fmt)
        record.shapes[name + PACKED] = tuple(value.shape)
    else:
        record.arrays[name] = narrowest(value)


def _get_weights(record: Record, name: str, fmt: Fixed | Bipolar | Levels, rank: int, budget: Budget, wide: int):
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
            f"{packed!r} is {_shown(value)}; shape {shape} at {fmt.bits} bits takes {packed_size(count, fmt.bits)} bytes",
            "size-mismatch",
        )
    try:
        return fmt.values(unpack(value, fmt, shape))
    except IntsnnError as error:
        raise record.refuse(f"{packed!r}: {error}", _code_of(error)) from None


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 else text[:50] + "..."


# ---------------------------------------------------------------------------------------------------------------------
# fields and layers
# ---------------------------------------------------------------------------------------------------------------------

_PAIR, _PADDING = (_put_pair, _get_pair), (_put_padding, _get_padding)
_FORMAT, _WHOLE = (_put_format, _get_fixed), (_put_integers, _get_integers)
# the rule of every declared type; `| None` is added by `_rule`
_RULES: dict[Any, tuple[Callable, Callable]] = {
    int: (_put_int, _get_int),
    bool: (_put_bool, _get_bool),
    float: (_put_float, _get_float),
    str: (_put_text, _get_text),
    tuple[str, ...]: (_put_texts, _get_texts),
    tuple[int, ...]: (_put_sizes, _get_sizes),
    tuple[int, int]: _PAIR,
    tuple[int, int] | int: _PAIR,
    tuple | int: _PADDING,
    tuple[tuple[int, int], tuple[int, int]]: _PADDING,
    Fixed: _FORMAT,
    Fixed | Bipolar | Levels: (_put_format, _get_format),
    Rounding: (_put_mode, _mode_getter(Rounding)),
    Overflow: (_put_mode, _mode_getter(Overflow)),
    np.ndarray | int: _WHOLE,
    np.ndarray | float: (_put_floats, _get_floats),
}
_PARTS = (Decay, Refractory)  # dataclasses inside a layer: their fields are stored as "field.part"
_RANGES = frozenset({(Neuron, "u_range")})  # pairs that may be negative
_WEIGHTS = frozenset({(Affine, "weight"), (Conv2d, "weight"), (QuantAffine, "codes"), (QuantConv2d, "codes")})
_ELSEWHERE = {  # fields that are not in the record of a layer
    QuantConv2d: {"weight"},  # follows from codes and scale
    QuantAffine: {"weight"},
}


@cache
def stored_fields(cls: type) -> Mapping[str, Any]:
    """Fields of a layer class that are stored with it, and their declared types; formats come before weights."""
    hints = typing.get_type_hints(cls)
    left_out = _ELSEWHERE.get(cls, set()) | ({"name"} if issubclass(cls, FloatNode) else set())
    names = [item.name for item in fields(cls) if item.init and item.name not in left_out]
    names.sort(key=lambda name: (cls, name) in _WEIGHTS)
    return types.MappingProxyType({name: hints[name] for name in names})


def _optional(hint: Any) -> tuple[Any, bool]:
    """A type without its ``None``, and whether it had one."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union else ()
    if type(None) not in options:
        return hint, False
    rest = [option for option in options if option is not type(None)]
    result = rest[0]
    for option in rest[1:]:
        result = result | option
    return result, True


def _rule(cls: type, name: str, hint: Any) -> tuple[Callable, Callable]:
    if (cls, name) in _RANGES:
        return _put_range, _get_range
    if hint is np.ndarray:
        return (_put_floats, _get_floats) if issubclass(cls, FloatNode) else _WHOLE
    if hint not in _RULES:
        raise FormatError(f"{cls.__name__}.{name}: no rule stores a {hint}; add one to intsnn/layout.py")
    return _RULES[hint]


def _put_fields(record: Record, thing: Any, prefix: str = "") -> None:
    cls = type(thing)
    for name, hint in stored_fields(cls).items():
        value, key = getattr(thing, name), prefix + name
        hint, optional = _optional(hint)
        if value is None and optional:
            record.attributes[key] = NONE
        elif (cls, name) in _WEIGHTS:
            _put_weights(record, key, value, thing.weight_format)
        elif hint in _PARTS:
            _put_fields(record, value, f"{key}.")
        else:
            _rule(cls, name, hint)[0](record, key, value)


def _get_fields(record: Record, cls: type, budget: Budget, prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    required = {item.name for item in fields(cls) if item.default is MISSING and item.default_factory is MISSING}
    for name, hint in stored_fields(cls).items():
        key = prefix + name
        hint, optional = _optional(hint)
        if not record.has(key):
            if name in required:
                raise record.refuse(f"{key!r} is missing")
        elif optional and isinstance(record.attributes.get(key), str) and record.attributes[key] == NONE:
            values[name] = None
            record.take(key)
        elif (cls, name) in _WEIGHTS:
            fmt = values.get("weight_format", Fixed(8))
            rank = 4 if issubclass(cls, Conv2d | FloatConv2d) else 2
            # codes of a quantised layer come with the float64 weights that they stand for
            values[name] = _get_weights(record, key, fmt, rank, budget, 16 if issubclass(cls, FloatNode) else 8)
        elif hint in _PARTS:
            values[name] = _build(record, hint, _get_fields(record, hint, budget, f"{key}."))
        else:
            values[name] = _rule(cls, name, hint)[1](record, key)
            if isinstance(values[name], np.ndarray):
                budget.spend(record, 8 * values[name].size)
    return values


def _build(record: Record, cls: type, values: dict[str, Any]) -> Any:
    try:
        return cls(**values)
    except IntsnnError as error:
        raise record.refuse(str(error), _code_of(error)) from None
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:  # no constructor checks every combination
        raise record.refuse(f"these values make no {cls.__name__} ({error})") from None


def write_layer(layer: Any, registry: Mapping[str, type], name: str) -> Record:
    """Attributes and arrays of one layer, its type among them.

    Parameters
    ----------
    layer : object of a class in `registry`
    registry : LAYERS or QUANTISED
    name : str
        For messages.

    Returns
    -------
    Record
        Integers in the narrowest dtype; weights of 1 to 8 bits packed, in the dataset ``<field>_packed``.

    Raises
    ------
    UnsupportedError
        If the class is not in the registry.
    FormatError
        If a value cannot be stored.
    """
    kinds = {cls: kind for kind, cls in registry.items()}
    if type(layer) not in kinds:
        hint = "; quantise the network first" if isinstance(layer, FloatNode) else ""
        raise UnsupportedError(
            f"layer {name!r}: a {type(layer).__name__} cannot be stored; {', '.join(kinds.values())} can{hint}"
        )
    record = Record(attributes={"type": kinds[type(layer)]})
    try:
        _put_fields(record, layer)
    except FormatError as error:
        raise FormatError(f"layer {name!r}: {error}") from None
    return record


def read_layer(record: Record, registry: Mapping[str, type], budget: Budget, **fixed: Any) -> Any:
    """The layer that a record describes, checked by its constructor.

    Parameters
    ----------
    record : Record
    registry : LAYERS or QUANTISED
    budget : Budget
        What its arrays take in memory is spent before they are made.
    fixed
        Fields that the record does not hold (the name).

    Raises
    ------
    ImportRefused
        Codes ``field, enum, format, range, shape, size-mismatch, budget``.
    """
    kind = _get_text(record, "type")
    if kind not in registry:
        raise record.refuse(f"the type is {kind[:60]!r}; one of {', '.join(registry)} is needed", "enum")
    cls = registry[kind]
    values = _get_fields(record, cls, budget)
    record.finish(f"{', '.join(stored_fields(cls))} of a {kind}" if stored_fields(cls) else f"no fields of a {kind}")
    return _build(record, cls, {**values, **fixed})


def scale_text(scale: InputScale) -> str:
    """An input scale as ``"1/255"`` or ``"2/255,-1"``, exactly. FormatError where its numbers are too long."""
    text = str(scale)
    if not _is_scale(text):
        raise FormatError(f"input_scale: its numbers have more than {MAX_DIGITS} digits or exceed a float; round it")
    return text


def _is_scale(text: str) -> bool:
    parts = text.split(",")
    if len(parts) > 2 or not all(_FRACTION.fullmatch(part) for part in parts):
        return False
    try:
        numbers = [float(Fraction(part)) for part in parts]
    except (ArithmeticError, ValueError):
        return False
    return numbers[0] > 0


def read_scale(record: Record, name: str) -> InputScale:
    """The input scale in attribute `name`; exponents are not taken (they could be of any size)."""
    text = _get_text(record, name)
    if not _is_scale(text):
        raise record.refuse(f"{name!r} is {text[:60]!r}; SCALE[,OFFSET] such as '1/255' or '2/255,-1' is needed")
    return InputScale.parse(text)
