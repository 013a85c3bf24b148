"""With what is a layer called? The arguments of ``inbound_nodes`` in the spelling of every age of Keras."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .graph import MAX_LAYERS, Layer, short

__all__ = ["Call", "Tensor", "calls_of", "complaint", "tensors"]

_CONSTANT = "_CONSTANT_VALUE"


@dataclass(frozen=True)
class Tensor:
    """Output `index` of call `node` of a layer, as a file names it."""

    layer: str
    node: int
    index: int


@dataclass(frozen=True)
class Call:
    """One call of a layer: positional arguments (tensors, lists of them, constants) and those by name."""

    arguments: tuple
    options: dict[str, Any] = field(default_factory=dict)


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in arguments, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)


def calls_of(value: Any, layer: Layer) -> list[Call]:
    """Return the calls of a layer from its ``inbound_nodes``; `layer` is named in errors."""
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_LAYERS:
        raise layer.bad("inbound_nodes is no list of calls")
    return [_new(call, layer) if isinstance(call, dict) else _old(call, layer) for call in value]


def _tensor(history: Any, layer: Layer) -> Tensor:
    if (
        not isinstance(history, list)
        or len(history) < 3
        or not isinstance(history[0], str)
        or not all(type(n) is int and 0 <= n <= MAX_LAYERS for n in history[1:3])
    ):
        raise layer.bad("inbound_nodes has an unknown form")
    return Tensor(history[0], history[1], history[2])


def _new(call: dict, layer: Layer) -> Call:
    """Keras 3: ``{"args": [tensor or [tensor, ...]], "kwargs": {}}``."""

    def made(item: Any) -> Any:
        if isinstance(item, list):
            return [made(part) for part in item]
        if isinstance(item, dict) and item.get("class_name") == "__keras_tensor__":
            config = item.get("config")
            return _tensor(config.get("keras_history") if isinstance(config, dict) else None, layer)
        if isinstance(item, dict) and item.get("class_name") == "__tuple__":
            return made(item.get("items", []))
        if isinstance(item, dict) and item.get("class_name") in ("__numpy__", "__tensor__"):
            config = item.get("config")
            return config.get("value") if isinstance(config, dict) else None
        return item

    args, kwargs = call.get("args", []), call.get("kwargs") or {}
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise layer.bad("inbound_nodes has an unknown form")
    return Call(tuple(made(args)), {name: made(item) for name, item in kwargs.items()})


def _old(call: Any, layer: Layer) -> Call:
    """Keras 1, 2: ``[["name", 0, 0, {}], ...]``, or one such entry alone (operators), whose dict is of the call."""
    if not isinstance(call, list) or not call:
        raise layer.bad("inbound_nodes has an unknown form")
    alone = isinstance(call[0], str)
    entries = [call] if alone else call
    options: dict[str, Any] = {}
    found: list[Any] = []
    for entry in entries:
        if not isinstance(entry, list) or len(entry) < 3:
            raise layer.bad("inbound_nodes has an unknown form")
        if len(entry) > 3 and entry[3] is not None:
            if not isinstance(entry[3], dict):
                raise layer.bad("inbound_nodes has an unknown form")
            options |= entry[3]
        found.append(entry[2] if entry[0] == _CONSTANT else _tensor(entry, layer))

    def made(item: Any) -> Any:
        if isinstance(item, list):
            if len(item) == 3 and isinstance(item[0], str) and all(type(n) is int for n in item[1:]):
                return item[2] if item[0] == _CONSTANT else _tensor(item, layer)
            return [made(part) for part in item]
        return item

    return Call((found[0],) if alone else (found,), {name: made(item) for name, item in options.items()})


def complaint(call: Call) -> str:
    """Why a layer (not an operator) cannot be called so, or nothing."""
    for name, value in call.options.items():
        if name == "training" and value is True:
            return "is called with training=True, which makes it behave as in training; call it without and save again"
        if value in (None, False) or name == "training":
            continue
        if name == "mask":
            return "is called with a mask; take the masking out"
        return f"is called with {short(name)}; tensors alone are taken"
    first = call.arguments[0] if len(call.arguments) == 1 else list(call.arguments)
    if not all(isinstance(item, Tensor) for item in (first if isinstance(first, list) else [first])):
        return "is called with more than tensors"
    return ""
