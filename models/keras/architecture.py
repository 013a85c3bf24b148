"""Which layers does a Keras model have, in which order, and what does each read? Models within models are laid flat.

A layer that is called several times is there once for every call, with the arrays of the one group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import ImportRefused, UnsupportedError
from .calls import Call, Tensor, calls_of, complaint, tensors
from .graph import MAX_LAYERS, Layer, Ref, short

__all__ = ["ModelGraph", "Entry", "graph_of"]

_SEQUENTIAL = ("Sequential",)
_MODELS = (*_SEQUENTIAL, "Functional", "Model")
_OPERATORS = ("TFOpLambda", "SlicingOpLambda")
_OPERATOR_MODULES = ("keras.src.ops", "keras.ops")
_PRUNED = "PruneLowMagnitude"
_HOME = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras", "builtins")
_TOOLS = {
    "tensorflow_model_optimization": (_PRUNED, "QuantizeWrapperV2", "QuantizeWrapper", "QuantizeLayer"),
    "qkeras": ("QDense", "QConv1D", "QConv2D", "QDepthwiseConv2D", "QActivation", "QBatchNormalization"),
}


_Key = tuple[str, int]  # a layer of one model, and the number of a call


@dataclass(frozen=True)
class Entry:
    """One item of a model's list of layers.

    Attributes
    ----------
    layer : Layer
        The layer as it is listed, a pruning wrapper taken off.
    kind : str
        Class under which it is listed: that of the wrapper, if it has one.
    calls : list of Call
    model : _Model or None
        What it holds, if it is a model.
    """

    layer: Layer
    kind: str
    calls: list[Call] = field(default_factory=list)
    model: Any = None


@dataclass(frozen=True)
class _Model:
    entries: dict[str, Entry]
    sequential: bool
    inputs: list[str]
    outputs: list[Tensor]


@dataclass(frozen=True)
class ModelGraph:
    """Calls of layers that the output needs, inputs first; the call that is the output; all items as listed."""

    layers: list[Layer]
    output: str
    listed: list[Entry]


def graph_of(config: dict, label: str) -> ModelGraph:
    """Return what a model configuration describes.

    Raises `ImportRefused` for one that is damaged, `UnsupportedError` for a model that is no graph of layers.
    """

    def bad(message: str) -> ImportRefused:
        return ImportRefused(f"{label}: {message}", code="config")

    config = _before_keras_1(config, label)
    kind = config.get("class_name")
    if kind not in _MODELS:
        raise UnsupportedError(f"{label}: the model is a {short(kind)}; Sequential and Functional models are taken")
    own = _own_class(config, kind)
    if own:
        raise UnsupportedError(f"{label}: the model is {own}")
    model = _model(config, bad, ())
    if len(model.outputs) != 1:
        raise UnsupportedError(f"{label}: the model has {len(model.outputs)} outputs; exactly one is taken")
    flat = _Flat(bad)
    outputs = flat.add(model, "", None)
    return ModelGraph(flat.layers, outputs[0], list(model.entries.values()))


def _before_keras_1(config: dict, label: str) -> dict:
    """JSON of Keras 0.x says the class as "name", and the options of a layer beside it."""
    if config.get("class_name") is not None or not isinstance(config.get("name"), str):
        return config
    if config["name"] != "Sequential" or not isinstance(config.get("layers"), list):
        raise UnsupportedError(
            f"{label}: the model is a {short(config['name'])} of Keras before 1.0; of these only Sequential is taken"
        )
    entries = []
    for index, options in enumerate(config["layers"]):
        if not isinstance(options, dict) or not isinstance(options.get("name"), str):
            raise ImportRefused(f"{label}: layer {index} of the configuration is no layer", code="config")
        kind = options["name"]
        entries.append({"class_name": kind, "config": options | {"name": f"{kind.lower()}_{index + 1}"}})
    return {"class_name": "Sequential", "config": entries}


def _own_class(entry: dict, kind: str) -> str:
    """Why the class of an entry is not the one of Keras that has its name, or nothing."""
    module, registered = entry.get("module"), entry.get("registered_name")
    name = registered if isinstance(registered, str) and ">" in registered else kind
    if ">" in name and name.split(">")[0] not in _HOME:
        tool = any(name.split(">")[-1] in kinds for kinds in _TOOLS.values())
        return "" if tool else f"a class of the user's own ({short(name)}), whose code is not in the file"
    if isinstance(module, str):
        base = module.split(".")[0]
        if not any(module == home or module.startswith(home + ".") for home in _HOME) and kind not in _TOOLS.get(
            base, ()
        ):
            return f"a class of the user's own ({short(f'{module}.{kind}')}), whose code is not in the file"
    elif registered is not None:
        return f"a class of the user's own ({short(registered)}), whose code is not in the file"
    return ""


def _model(config: dict, bad: Callable[[str], Exception], path: tuple[str, ...]) -> _Model:
    body = config.get("config")
    entries = body.get("layers") if isinstance(body, dict) else body
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LAYERS:
        raise bad(f"the configuration has no list of 1 to {MAX_LAYERS} layers" + (f" in {path[-1]!r}" if path else ""))
    found: dict[str, Entry] = {}
    for index, item in enumerate(entries):
        entry = _entry(item, index, bad, path)
        name = entry.layer.path[-1]
        if name in found:
            raise bad(f"two layers are called {name!r}")
        found[name] = entry
    if config.get("class_name") in _SEQUENTIAL:
        names = list(found)
        for before, name in zip(names, names[1:], strict=False):
            found[name] = replace(found[name], calls=[Call((Tensor(before, 0, 0),))])
        return _Model(found, True, [], [Tensor(names[-1], 0, 0)])
    for name, item in zip(list(found), entries, strict=True):
        calls = calls_of(item.get("inbound_nodes"), found[name].layer)
        found[name] = replace(found[name], calls=calls)
    ends = body if isinstance(body, dict) else {}
    outputs = [Tensor(*end) for end in _ends(ends.get("output_layers"), bad)]
    found = _renumbered(found, outputs)
    inputs = [end[0] for end in _ends(ends.get("input_layers"), bad)]
    inputs = inputs or [name for name, entry in found.items() if entry.kind == "InputLayer"]
    return _Model(found, False, inputs, outputs)


def _entry(item: Any, index: int, bad: Callable[[str], Exception], path: tuple[str, ...]) -> Entry:
    if not isinstance(item, dict) or not isinstance(item.get("config"), dict | list):
        raise bad(f"layer {index} of the configuration is no layer")
    options = item["config"] if isinstance(item["config"], dict) else {}
    kind = item.get("class_name")
    name = item.get("name") or options.get("name") or f"{kind}_{index}"
    if not isinstance(name, str) or not isinstance(kind, str) or not 0 < len(name) <= 255 or len(kind) > 255:
        raise bad(f"layer {index} of the configuration has no name or class")
    listed, module = kind, item.get("module")
    operator = kind in _OPERATORS or (isinstance(module, str) and module.startswith(_OPERATOR_MODULES))
    own = _own_class(item, kind)
    if not own and kind == _PRUNED and isinstance(options.get("layer"), dict):
        inner = options["layer"]
        if not isinstance(inner.get("config"), dict) or not isinstance(inner.get("class_name"), str):
            raise bad(f"layer {name!r} (PruneLowMagnitude) of the configuration wraps no layer")
        item, options, kind = inner, inner["config"], inner["class_name"]
        own = _own_class(inner, kind)
    layer = Layer("/".join((*path, name)), kind, options, path=(*path, name), operator=operator)
    if own:
        layer = replace(layer, fault=layer.unsupported(f"is {own}; a network of layers of Keras itself is taken"))
    elif kind in _MODELS and not operator:
        return Entry(layer, listed, model=_model(item, bad, layer.path))
    return Entry(layer, listed)


def _ends(value: Any, bad: Callable[[str], Exception]) -> list[tuple[str, int, int]]:
    """``input_layers``/``output_layers``: ``["a", 0, 0]``, a list of such, or such by name."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list) and value and isinstance(value[0], str):
        value = [value]
    if not isinstance(value, list):
        return []
    found = []
    for item in value:
        if not isinstance(item, list) or not item or not isinstance(item[0], str):
            raise bad(f"an end of the model is {short(item)}; [name, call, output] is needed")
        numbers = [n if type(n) is int and 0 <= n <= MAX_LAYERS else 0 for n in (*item[1:3], 0, 0)[:2]]
        found.append((item[0], numbers[0], numbers[1]))
    return found


def _renumbered(entries: dict[str, Entry], outputs: list[Tensor]) -> dict[str, Entry]:
    """Calls of a model count from 1 in files of Keras 2, where 0 is the call that built it: make them count from 0."""
    used: dict[str, set[int]] = {}
    for call in (call for entry in entries.values() for call in entry.calls):
        for tensor in tensors([call.arguments, call.options]):
            used.setdefault(tensor.layer, set()).add(tensor.node)
    for tensor in outputs:
        used.setdefault(tensor.layer, set()).add(tensor.node)
    shifted = {name for name, nodes in used.items() if name in entries and entries[name].model and 0 not in nodes}
    if not shifted:
        return entries

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return replace(value, node=value.node - 1) if value.layer in shifted else value
        if isinstance(value, list | tuple):
            return type(value)(moved(part) for part in value)
        if isinstance(value, dict):
            return {name: moved(part) for name, part in value.items()}
        return value

    outputs[:] = moved(outputs)
    return {
        name: replace(entry, calls=[Call(moved(call.arguments), moved(call.options)) for call in entry.calls])
        for name, entry in entries.items()
    }


class _Flat:
    """The calls so far, laid flat."""

    def __init__(self, bad: Callable[[str], Exception]) -> None:
        self.bad = bad
        self.layers: list[Layer] = []
        self.names: set[str] = set()

    def add(self, model: _Model, prefix: str, given: Sequence[str] | None) -> list[str]:
        """Append the calls that the outputs of `model` need; return the calls that are its outputs.

        `given` are the calls that it reads, None for the outermost model.
        """
        done: dict[_Key, list[str]] = {}
        if given is not None:
            self.give(model, prefix, given, done)
        open_: set[_Key] = set()
        stack = [self.key(model, tensor, None) for tensor in model.outputs]
        while stack:
            name, number = key = stack[-1]
            if key in done:
                stack.pop()
                continue
            entry = model.entries[name]
            call = entry.calls[number] if entry.calls else Call(())
            needed = [self.key(model, t, entry.layer) for t in tensors([call.arguments, call.options])]
            missing = [other for other in needed if other not in done]
            if not missing:
                stack.pop()
                open_.discard(key)
                done[key] = self.called(entry, number, call, prefix, done)
                continue
            open_.add(key)
            for other in missing:
                if other in open_:
                    raise self.bad(f"the layers {name!r} and {other[0]!r} depend on each other")
                stack.append(other)
        return [_output(done, tensor) for tensor in model.outputs]

    def give(self, model: _Model, prefix: str, given: Sequence[str], done: dict[_Key, list[str]]) -> None:
        """Put what a nested model is called with in the place of its own inputs."""
        wanted = 1 if model.sequential else len(model.inputs)
        if len(given) != wanted:
            raise self.bad(f"the model {prefix!r} has {wanted} inputs and is called with {len(given)}")
        if not model.sequential:
            done.update({(name, 0): [call] for name, call in zip(model.inputs, given, strict=True)})
            return
        name, entry = next(iter(model.entries.items()))
        if entry.kind == "InputLayer":
            done[name, 0] = [given[0]]
        else:
            done[name, 0] = self.called(entry, 0, Call((Tensor("", 0, 0),)), prefix, {("", 0): [given[0]]})

    def key(self, model: _Model, tensor: Tensor, layer: Layer | None) -> _Key:
        entry = model.entries.get(tensor.layer)
        if entry is None:
            if layer is None:
                raise self.bad(f"the output {short(tensor.layer)} is not a layer")
            raise layer.bad(f"its input {short(tensor.layer)} is not a layer")
        calls = max(len(entry.calls), 1)
        if tensor.node >= calls:
            where = layer or entry.layer
            raise where.bad(f"reads call {tensor.node} of {tensor.layer!r}, whose calls are 0 to {calls - 1}")
        return tensor.layer, tensor.node

    def called(
        self, entry: Entry, number: int, call: Call, prefix: str, done: dict[_Key, list[str]]
    ) -> list[str]:  # fmt: skip
        """Append one call; return its outputs."""
        own = entry.layer.path[-1] + (f":{number + 1}" if number else "")
        name = f"{prefix}/{own}" if prefix else own
        inbound = tuple(_output(done, tensor) for tensor in tensors([call.arguments, call.options]))
        why = complaint(call)
        if entry.model is not None:
            if why:
                raise entry.layer.unsupported(why)
            return self.add(entry.model, name, inbound or None)
        if len(self.layers) >= MAX_LAYERS:
            raise self.bad(f"the model has more than {MAX_LAYERS} layers, those of repeated models counted")
        if name in self.names:
            raise self.bad(f"two layers are called {name!r}")
        self.names.add(name)
        layer = replace(entry.layer, name=name, inbound=inbound, complaint=why)
        layer = replace(layer, arguments=_resolved(call.arguments, done), options=_resolved(call.options, done))
        self.layers.append(layer)
        return [name]


def _output(done: dict[_Key, list[str]], tensor: Tensor) -> str:
    outputs = done[tensor.layer, tensor.node]
    if tensor.index >= len(outputs):
        raise UnsupportedError(
            f"layer {tensor.layer!r}: its output {tensor.index} is read; it has {len(outputs)} that can be taken"
        )
    return outputs[tensor.index]


def _resolved(value: Any, done: dict[_Key, list[str]]) -> Any:
    """Arguments with the call in place of every tensor."""
    if isinstance(value, Tensor):
        return Ref(_output(done, value))
    if isinstance(value, list | tuple):
        return type(value)(_resolved(part, done) for part in value)
    if isinstance(value, dict):
        return {name: _resolved(part, done) for name, part in value.items()}
    return value
