"""How does one layer become named arrays and attributes, and back?

Every field of a layer is stored under its own name by the rule for its declared type, so that a field which is added
to a layer later is stored too, or refused by name if its type has no rule. Nothing is looked up in the file but by
name, and everything found there has to be asked for: what is left over is an error. The layout is written down in
``docs/files.md``.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

import numpy as np

from ..errors import FormatError, IntsnnError, UnsupportedError
from ..formats.fixed import Fixed, Overflow, Rounding
from ..formats.weights import Bipolar, Levels
from ..layers.base import kinds
from ..layers.neurons import Decay, Refractory
from ..network.floating import (
    FloatAdd,
    FloatAvgPool2d,
    FloatFlatten,
    FloatInput,
    FloatMaxPool2d,
    FloatNode,
    FloatUpsample2d,
)
from ..network.quantised import QuantAffine, QuantConv2d, QuantReLU
from .values import (
    NONE,
    Budget,
    Record,
    code_of,
    get_bool,
    get_fixed,
    get_float,
    get_floats,
    get_format,
    get_int,
    get_integers,
    get_padding,
    get_pair,
    get_range,
    get_sizes,
    get_text,
    get_texts,
    get_weights,
    mode_getter,
    put_bool,
    put_float,
    put_floats,
    put_format,
    put_int,
    put_integers,
    put_mode,
    put_padding,
    put_pair,
    put_range,
    put_sizes,
    put_text,
    put_texts,
    put_weights,
)

__all__ = ["LAYERS", "QUANTISED", "read_layer", "stored_fields", "write_layer"]

# what a file may name: the kinds of layers, and those of quantised nodes
LAYERS: Mapping[str, type] = kinds()
QUANTISED: Mapping[str, type] = types.MappingProxyType(
    {
        "Input": FloatInput,
        "QuantConv2d": QuantConv2d,
        "QuantAffine": QuantAffine,
        "QuantReLU": QuantReLU,
        "MaxPool2d": FloatMaxPool2d,
        "AvgPool2d": FloatAvgPool2d,
        "Upsample2d": FloatUpsample2d,
        "Flatten": FloatFlatten,
        "Add": FloatAdd,
    }
)

_PAIR, _PADDING = (put_pair, get_pair), (put_padding, get_padding)
_FORMAT, _WHOLE = (put_format, get_fixed), (put_integers, get_integers)
# the rule of every declared type; `| None` is added by `_rule`
_RULES: dict[Any, tuple[Callable, Callable]] = {
    int: (put_int, get_int),
    bool: (put_bool, get_bool),
    float: (put_float, get_float),
    str: (put_text, get_text),
    tuple[str, ...]: (put_texts, get_texts),
    tuple[int, ...]: (put_sizes, get_sizes),
    tuple[int, int]: _PAIR,
    tuple[int, int] | int: _PAIR,
    tuple | int: _PADDING,
    tuple[tuple[int, int], tuple[int, int]]: _PADDING,
    Fixed: _FORMAT,
    Fixed | Bipolar | Levels: (put_format, get_format),
    Rounding: (put_mode, mode_getter(Rounding)),
    Overflow: (put_mode, mode_getter(Overflow)),
    np.ndarray | int: _WHOLE,
    np.ndarray | float: (put_floats, get_floats),
}
_PARTS = (Decay, Refractory)  # dataclasses inside a layer: their fields are stored as "field.part"


@cache
def _marks(cls: type) -> Mapping[str, Mapping[str, Any]]:
    """What the fields of a class say of themselves: ``weights`` (the field with their format), ``signed`` (a pair that
    may be negative), ``stored`` (False: it follows from others)."""
    return types.MappingProxyType({item.name: item.metadata for item in fields(cls)})


@cache
def stored_fields(cls: type) -> Mapping[str, Any]:
    """Fields of a layer class that are stored with it, and their declared types; formats come before weights."""
    hints = typing.get_type_hints(cls)
    left_out = {"name"} if issubclass(cls, FloatNode) else set()
    names = [item.name for item in fields(cls) if item.init and item.metadata.get("stored", True)]
    names = [name for name in names if name not in left_out]
    names.sort(key=lambda name: "weights" in _marks(cls)[name])
    return types.MappingProxyType({name: hints[name] for name in names})


def _optional(hint: Any) -> tuple[Any, bool]:
    """A type without its ``None``, and whether it had one."""
    options = (
        typing.get_args(hint) if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union else ()
    )
    if type(None) not in options:
        return hint, False
    rest = [option for option in options if option is not type(None)]
    result = rest[0]
    for option in rest[1:]:
        result = result | option
    return result, True


def _rule(cls: type, name: str, hint: Any) -> tuple[Callable, Callable]:
    if "signed" in _marks(cls)[name]:
        return put_range, get_range
    if hint is np.ndarray:
        return (put_floats, get_floats) if issubclass(cls, FloatNode) else _WHOLE
    if hint not in _RULES:
        raise FormatError(f"{cls.__name__}.{name}: no rule stores a {hint}; add one to intsnn/files/nodes.py")
    return _RULES[hint]


def __put_fields(record: Record, thing: Any, prefix: str = "") -> None:
    cls: Any = type(thing)
    for name, hint in stored_fields(cls).items():
        value, key = getattr(thing, name), prefix + name
        hint, optional = _optional(hint)
        if value is None and optional:
            record.attributes[key] = NONE
        elif "weights" in _marks(cls)[name]:
            put_weights(record, key, value, getattr(thing, _marks(cls)[name]["weights"]))
        elif hint in _PARTS:
            __put_fields(record, value, f"{key}.")
        else:
            _rule(cls, name, hint)[0](record, key, value)


def __get_fields(record: Record, cls: Any, budget: Budget, prefix: str = "") -> dict[str, Any]:
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
        elif "weights" in (marks := _marks(cls)[name]):
            fmt, rank = values.get(marks["weights"], Fixed(8)), cls.rank
            # codes of a quantised layer come with the float64 weights that they stand for
            values[name] = get_weights(record, key, fmt, rank, budget, 16 if issubclass(cls, FloatNode) else 8)
        elif hint in _PARTS:
            values[name] = _build(record, hint, __get_fields(record, hint, budget, f"{key}."))
        else:
            values[name] = _rule(cls, name, hint)[1](record, key)
            if isinstance(values[name], np.ndarray):
                budget.spend(record, 8 * values[name].size)
    return values


def _build(record: Record, cls: type, values: dict[str, Any]) -> Any:
    try:
        return cls(**values)
    except IntsnnError as error:
        raise record.refuse(str(error), code_of(error)) from None
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
        __put_fields(record, layer)
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
    kind = get_text(record, "type")
    if kind not in registry:
        raise record.refuse(f"the type is {kind[:60]!r}; one of {', '.join(registry)} is needed", "enum")
    cls = registry[kind]
    values = __get_fields(record, cls, budget)
    record.finish(f"{', '.join(stored_fields(cls))} of a {kind}" if stored_fields(cls) else f"no fields of a {kind}")
    return _build(record, cls, {**values, **fixed})
