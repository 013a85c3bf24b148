"""Which layers does a Keras configuration have, in which order, and what does each read?

The configuration comes from a file: every value is checked before it is used, and options are looked up under their
names of every age. Knows no arrays and no nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ...errors import ImportRefused, UnsupportedError

__all__ = ["FIRST", "LAST", "MAX_LAYERS", "MAX_SIDE", "Layer", "layers_of", "short"]

MAX_LAYERS = 4096
MAX_SIDE = 1 << 16
FIRST, LAST = "channels_first", "channels_last"


@dataclass(frozen=True)
class Layer:
    """One layer of the configuration, with checked access to its options under their old and new names."""

    name: str
    kind: str
    config: dict
    inbound: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"layer {self.name!r} ({self.kind})"

    def bad(self, message: str) -> ImportRefused:
        return ImportRefused(f"{self}: {message}", code="config", where=self.name)

    def unsupported(self, message: str) -> UnsupportedError:
        return UnsupportedError(f"{self}: {message}")

    def get(self, *keys: str, default: Any = None) -> Any:
        for key in keys:
            if self.config.get(key) is not None:
                return self.config[key]
        return default

    def integer(self, *keys: str, default: Any = None, low: int = 1, high: int = 1 << 24) -> int:
        value = self.get(*keys, default=default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise self.bad(f"{keys[0]} is {short(value)}; an integer in {low}..{high} is needed")
        return value

    def pair(self, *keys: str, default: Any = None, low: int = 1, high: int = MAX_SIDE) -> tuple[int, int]:
        value = self.get(*keys, default=default)
        if type(value) is int:
            value = [value, value]
        if (
            not isinstance(value, list | tuple)
            or len(value) != 2
            or not all(type(n) is int and low <= n <= high for n in value)
        ):
            raise self.bad(f"{keys[0]} is {short(value)}; two integers in {low}..{high} are needed")
        return tuple(value)

    def number(self, *keys: str, default: Any = None) -> float:
        value = self.get(*keys, default=default)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self.bad(f"{keys[0]} is {short(value)}; a finite number is needed")
        return float(value)

    def flag(self, *keys: str, default: bool = True) -> bool:
        value = self.get(*keys, default=default)
        if type(value) is int and value in (0, 1):  # Keras writes what it was given
            value = bool(value)
        if type(value) is not bool:
            raise self.bad(f"{keys[0]} is {short(value)}; true or false is needed")
        return value

    def padding(self) -> str:
        value = self.get("padding", "border_mode", default="valid")
        if value not in ("valid", "same"):
            raise self.unsupported(f"padding {short(value)}; 'valid' and 'same' are taken")
        return value

    def data_format(self) -> str | None:
        value = self.get("data_format", "dim_ordering")
        if value in (None, "default"):
            return None
        result = {"th": FIRST, "tf": LAST, FIRST: FIRST, LAST: LAST}.get(value if isinstance(value, str) else "")
        if result is None:
            raise self.bad(f"data_format is {short(value)}; 'channels_last' or 'channels_first' is needed")
        return result

    def activation(self) -> str:
        value = self.get("activation", default="linear")
        if isinstance(value, dict):  # Keras 3 spells functions out
            value = value.get("config") if isinstance(value.get("config"), str) else value.get("class_name")
        if not isinstance(value, str):
            raise self.bad(f"activation is {short(value)}")
        return value

    @property
    def keras1(self) -> bool:
        return any(key in self.config for key in ("nb_filter", "nb_row", "dim_ordering", "border_mode", "output_dim"))


def short(value: Any) -> str:
    """Return a value from a file for a message, at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_SEQUENTIAL = ("Sequential",)
_FUNCTIONAL = ("Functional", "Model")


def layers_of(config: Any, label: str) -> tuple[list[Layer], str, list[Layer]]:
    """Return the layers that the output needs (inputs first), the output's name, and all layers as they are listed."""

    def bad(message: str) -> ImportRefused:
        return ImportRefused(f"{label}: {message}", code="config")

    kind, body = config.get("class_name"), config.get("config")
    if kind not in _SEQUENTIAL + _FUNCTIONAL:
        raise UnsupportedError(f"{label}: the model is a {short(kind)}; Sequential and Functional models are taken")
    entries = body.get("layers") if isinstance(body, dict) else body
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LAYERS:
        raise bad(f"the configuration has no list of 1 to {MAX_LAYERS} layers")
    layers: dict[str, Layer] = {}
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict | list):
            raise bad(f"layer {index} of the configuration is no layer")
        options = entry["config"] if isinstance(entry["config"], dict) else {}
        cls = entry.get("class_name")
        name = entry.get("name") or options.get("name") or f"{cls}_{index}"
        if not isinstance(name, str) or not isinstance(cls, str) or not 0 < len(name) <= 255 or len(cls) > 255:
            raise bad(f"layer {index} of the configuration has no name or class")
        if name in layers:
            raise bad(f"two layers are called {name!r}")
        layers[name] = Layer(name, cls, options)
    if kind in _SEQUENTIAL:
        names = list(layers)
        chain = [replace(layers[b], inbound=(a,)) for a, b in zip(names, names[1:], strict=False)]
        return [layers[names[0]], *chain], names[-1], list(layers.values())
    for entry, layer in zip(entries, list(layers.values()), strict=True):
        inbound = _inbound(entry.get("inbound_nodes"), layer)
        for name in inbound:
            if name not in layers:
                raise layer.bad(f"its input {short(name)} is not a layer")
        layers[layer.name] = replace(layer, inbound=inbound)
    outputs = _ends(body.get("output_layers"))
    if len(outputs) != 1:
        raise UnsupportedError(f"{label}: the model has {len(outputs)} outputs; exactly one is taken")
    if outputs[0] not in layers:
        raise bad(f"the output {short(outputs[0])} is not a layer")
    return _sorted(layers, outputs[0], bad), outputs[0], list(layers.values())


def _ends(value: Any) -> list[str]:
    """Names in ``input_layers``/``output_layers``: ``["a", 0, 0]`` or a list of such."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        value = [value]
    if not isinstance(value, list):
        return []
    return [item[0] for item in value if isinstance(item, list) and item and isinstance(item[0], str)]


def _inbound(value: Any, layer: Layer) -> tuple[str, ...]:
    """Names of the layers that a layer reads, from the three spellings of ``inbound_nodes``."""
    if value in (None, []):
        return ()
    if not isinstance(value, list):
        raise layer.bad("inbound_nodes is no list")
    if len(value) > 1:
        raise layer.unsupported("is used more than once (shared weights); each layer may be called once")
    call, names = value[0], []
    if isinstance(call, dict):  # Keras 3: {"args": [tensor or [tensor, ...]], "kwargs": {}}
        found: list[Any] = []

        def tensors(item: Any) -> None:
            if isinstance(item, list):
                for part in item:
                    tensors(part)
            elif isinstance(item, dict) and item.get("class_name") == "__keras_tensor__":
                config = item.get("config")
                found.append(config.get("keras_history") if isinstance(config, dict) else None)
            else:
                raise layer.unsupported("is called with more than tensors")

        tensors(call.get("args", []))
        for key, item in (call.get("kwargs") or {}).items():
            if item not in (None, False) and key not in ("training", "mask"):
                raise layer.unsupported(f"is called with {short(key)}")
    elif isinstance(call, list):  # Keras 1, 2: [["name", 0, 0, {}], ...]
        found = [call] if call and isinstance(call[0], str) else call
        if any(isinstance(item, list) and len(item) > 3 and item[3] not in ({}, None) for item in found):
            raise layer.unsupported("is called with extra arguments")
    else:
        raise layer.bad("inbound_nodes has an unknown form")
    for history in found:
        if not isinstance(history, list) or len(history) < 3 or not isinstance(history[0], str):
            raise layer.bad("inbound_nodes has an unknown form")
        if history[1:3] != [0, 0]:
            raise layer.unsupported(f"reads a second call or output of {history[0]!r}")
        names.append(history[0])
    return tuple(names)


def _sorted(layers: dict[str, Layer], output: str, bad: Callable[[str], Exception]) -> list[Layer]:
    order: dict[str, Layer] = {}
    open_: set[str] = set()
    stack = [output]
    while stack:
        name = stack[-1]
        if name in order:
            stack.pop()
            continue
        missing = [n for n in layers[name].inbound if n not in order]
        if not missing:
            order[name] = layers[stack.pop()]
            open_.discard(name)
            continue
        open_.add(name)
        for other in missing:
            if other in open_:
                raise bad(f"the layers {name!r} and {other!r} depend on each other")
            stack.append(other)
    return list(order.values())
