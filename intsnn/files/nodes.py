"""How does one layer become named arrays and attributes, and back?

Every field of a layer is stored under its own name by the codec of its declared type, so that a field which is added
to a layer later is stored too, or refused by name if its type has none. Nothing is looked up in the file but by
name, and everything found there has to be asked for: what is left over is an error. The layout is written down in
``docs/files.md``.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

import numpy as np

from ..errors import FormatError, IntsnnError, UnsupportedError
from ..formats.fixed import Fixed
from ..layers.base import kinds
from ..layers.neurons import Decay, Refractory
from ..network.float_activations import FloatHardTanh, FloatLeakyReLU, FloatSigmoid
from ..network.float_moves import FloatConcat, FloatSelect, FloatSigns
from ..network.float_nodes import (
    FloatAdd,
    FloatAffine,
    FloatAvgPool2d,
    FloatBatchNorm,
    FloatConv2d,
    FloatFlatten,
    FloatInput,
    FloatMaxPool2d,
    FloatReLU,
    FloatSoftmax,
    FloatUpsample2d,
)
from ..network.node import FloatNode
from ..network.quantised import QuantAffine, QuantConv2d, QuantHardTanh, QuantReLU
from . import arrays, values
from .record import NONE, Budget, Record, code_of

__all__ = ["FLOAT_NODES", "LAYERS", "QUANTISED", "read_layer", "stored_fields", "write_layer"]

# what a file may name: the kinds of layers, of quantised nodes and of float nodes
LAYERS: Mapping[str, type] = kinds()
_PLAIN = {  # nodes without codes, levels or trained arrays
    "MaxPool2d": FloatMaxPool2d,
    "AvgPool2d": FloatAvgPool2d,
    "Upsample2d": FloatUpsample2d,
    "Flatten": FloatFlatten,
    "Add": FloatAdd,
    "Select": FloatSelect,
    "Signs": FloatSigns,
    "Concat": FloatConcat,
}
QUANTISED: Mapping[str, type] = types.MappingProxyType(
    {
        "Input": FloatInput,
        "QuantConv2d": QuantConv2d,
        "QuantAffine": QuantAffine,
        "QuantReLU": QuantReLU,
        "QuantHardTanh": QuantHardTanh,
        **_PLAIN,
    }
)
FLOAT_NODES: Mapping[str, type] = types.MappingProxyType(
    {
        "Input": FloatInput,
        "Conv2d": FloatConv2d,
        "Affine": FloatAffine,
        "BatchNorm": FloatBatchNorm,
        "ReLU": FloatReLU,
        "HardTanh": FloatHardTanh,
        "LeakyReLU": FloatLeakyReLU,
        "Softmax": FloatSoftmax,
        "Sigmoid": FloatSigmoid,
        **_PLAIN,
    }
)

# the codec of every declared type; `| None` is added by `_optional`
_CODECS = {**values.CODECS, **arrays.CODECS}
_PARTS = (Decay, Refractory)  # dataclasses inside a layer: their fields are stored as "field.part"


@cache
def _marks(cls: type) -> Mapping[str, Mapping[str, Any]]:
    """What the fields of a class say of themselves.

    ``weights``: the field with their format; ``integers``: an array of a float node that holds no floats; ``signed``: a
    pair that may be negative; ``stored`` False: it follows from others; ``written`` ``unless default``: so that files
    of networks without it are what they were.
    """
    return types.MappingProxyType({item.name: item.metadata for item in fields(cls)})


@cache
def _defaults(cls: type) -> Mapping[str, Any]:
    return types.MappingProxyType({item.name: item.default for item in fields(cls)})


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


def _codec(cls: type, name: str, hint: Any) -> values.Codec:
    if "signed" in _marks(cls)[name]:
        return values.RANGE
    if "integers" in _marks(cls)[name]:
        return arrays.PLACES
    if hint is np.ndarray and issubclass(cls, FloatNode):
        return arrays.float_weights(cls.rank) if name == "weight" else arrays.FLOATS  # type: ignore[attr-defined]
    if hint is np.ndarray:
        return arrays.INTEGERS
    if hint not in _CODECS:
        raise FormatError(f"{cls.__name__}.{name}: no rule stores a {hint}; add one to intsnn/files/values.py")
    return _CODECS[hint]


def _put_fields(record: Record, thing: Any, prefix: str = "") -> None:
    cls: Any = type(thing)
    for name, hint in stored_fields(cls).items():
        value, key = getattr(thing, name), prefix + name
        hint, optional = _optional(hint)
        if _marks(cls)[name].get("written") == "unless default" and value == _defaults(cls)[name]:
            continue
        if value is None and optional:
            record.attributes[key] = NONE
        elif "weights" in _marks(cls)[name]:
            arrays.put_weights(record, key, value, getattr(thing, _marks(cls)[name]["weights"]))
        elif hint in _PARTS:
            _put_fields(record, value, f"{key}.")
        else:
            _codec(cls, name, hint).put(record, key, value)


def _get_fields(record: Record, cls: Any, budget: Budget, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    required = {item.name for item in fields(cls) if item.default is MISSING and item.default_factory is MISSING}
    for name, hint in stored_fields(cls).items():
        key = prefix + name
        hint, optional = _optional(hint)
        if not record.has(key):
            if name in required:
                raise record.refuse(f"{key!r} is missing")
        elif optional and isinstance(record.attributes.get(key), str) and record.attributes[key] == NONE:
            found[name] = None
            record.take(key)
        elif "weights" in (marks := _marks(cls)[name]):
            fmt, rank = found.get(marks["weights"], Fixed(8)), cls.rank
            # codes of a quantised layer come with the float64 weights that they stand for
            found[name] = arrays.get_weights(record, key, fmt, rank, budget, 16 if issubclass(cls, FloatNode) else 8)
        elif hint in _PARTS:
            found[name] = _build(record, hint, _get_fields(record, hint, budget, f"{key}."))
        else:
            found[name] = _codec(cls, name, hint).get(record, key)
            if isinstance(found[name], np.ndarray):
                budget.spend(record, 8 * found[name].size)
    return found


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
    registry : LAYERS, QUANTISED or FLOAT_NODES
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
        hint = "; quantise the network first" if registry is QUANTISED else ""
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
    registry : LAYERS, QUANTISED or FLOAT_NODES
    budget : Budget
        What its arrays take in memory is spent before they are made.
    fixed
        Fields that the record does not hold (the name).

    Raises
    ------
    ImportRefused
        Codes ``field, enum, format, range, shape, size-mismatch, budget``.
    """
    kind = values.TEXT.get(record, "type")
    if kind not in registry:
        raise record.refuse(f"the type is {kind[:60]!r}; one of {', '.join(registry)} is needed", "enum")
    cls = registry[kind]
    found = _get_fields(record, cls, budget)
    record.finish(f"{', '.join(stored_fields(cls))} of a {kind}" if stored_fields(cls) else f"no fields of a {kind}")
    return _build(record, cls, {**found, **fixed})
