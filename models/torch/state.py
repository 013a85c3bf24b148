"""How does a stored state dict become a float network? Its arrays, and a description of the layers that they belong to.

The description is a list of layers in JSON or TOML (``docs/files.md``), or a float network whose arrays are replaced.
Neither needs PyTorch, and neither can name anything outside the table of layers.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from ...errors import DataNotFoundError, FormatError, ImportRefused, IntsnnError, ShapeError
from ...files.network_file import load
from ...formats.arguments import flag, instance, mapping, path_of, shown, text, whole, wholes
from ...network.floating import FloatNetwork
from ...network.node import FloatNode
from .calls import called
from .layers import KINDS_OF_LAYERS, becomes, why_not
from .sketch import Signal, Sketch, Spot
from .stored import HDF5, StateDict, read_state

__all__ = ["load_state"]

MAX_TEXT = 1 << 20
MAX_LAYERS = 1024
JOINS = {"Add": "add", "Concat": "cat"}
KEYS = ("name", "type", "inputs")
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "variance"}


def load_state(
    path: str | os.PathLike[str],
    architecture: str | os.PathLike[str] | Mapping[str, Any] | FloatNetwork,
    *,
    prefix: str = "",
    trust: bool = False,
    budget: int = 1 << 30,
) -> FloatNetwork:
    """The network of a PyTorch state dict that is stored in HDF5 or as safetensors. PyTorch is not needed.

    Parameters
    ----------
    path : path-like
        HDF5 with dotted (``"0.weight"``) or nested (``"0/weight"``) names, or safetensors, which needs the extra of
        that name. Told apart by content; pickles are never loaded.
    architecture : path-like, mapping or FloatNetwork
        A JSON or TOML file with the list of layers, the same as a mapping (both in ``docs/files.md``), or a float
        network or the file of one, whose arrays are replaced.
    prefix : str
        What names of arrays begin with before those of the layers, ``"model."`` say. Others are left out then.
    trust : bool
        Read HDF5 in this process; see :func:`intsnn.files.hdf5.read_tree`.
    budget : int
        Most bytes of arrays.

    Returns
    -------
    FloatNetwork
        ``metadata`` has ``format``, ``source``, ``source_sha256`` and perhaps ``notes``.

    Raises
    ------
    DataNotFoundError
        If a file is missing.
    ImportRefused
        If a file breaks a rule of its reader, is a pickle (``zip``), the description is none (``architecture``), or
        arrays and layers do not belong together (``weights``).
    UnsupportedError
        If a layer or option has no counterpart here, or an array is of no type that is taken.
    ShapeError
        If sizes do not fit together.
    """
    label, trust, budget = path_of(path), flag(trust, "trust"), whole(budget, "budget", 1)
    prefix = text(prefix, "prefix")
    plan = _plan(architecture, trust, budget)
    state = _Arrays(label, read_state(label, trust=trust, budget=budget), prefix)
    metadata = {"format": state.format, "source": os.path.basename(label), "source_sha256": state.sha256}
    where = "architecture" if isinstance(architecture, Mapping | FloatNetwork) else path_of(architecture)
    try:
        if isinstance(plan, FloatNetwork):
            nodes = tuple(_refilled(node, state) for node in plan.nodes)
            network = FloatNetwork(nodes, plan.output, {**plan.metadata, **metadata})
        else:
            network = _built(plan, state, metadata)
    except FormatError as error:
        raise ImportRefused(f"{where}: {error}", code="architecture") from None
    state.finish()
    return network


# -- the description --------------------------------------------------------------------------------------------------


def _plan(architecture: Any, trust: bool, budget: int) -> Mapping[str, Any] | FloatNetwork:
    if isinstance(architecture, FloatNetwork):
        return architecture
    if isinstance(architecture, Mapping):
        return mapping(architecture, "architecture")
    path = path_of(architecture, "architecture")
    if not os.path.exists(path):
        raise DataNotFoundError(f"architecture: there is no file {path}")
    if not os.path.isfile(path):
        raise ImportRefused(f"{path}: is not a regular file; JSON, TOML or HDF5 is needed", code="not-regular")
    with open(path, "rb") as file:
        data = file.read(MAX_TEXT + 1)
    if data.startswith(HDF5):
        found = load(path, trust=trust, budget=budget)
        if not isinstance(found, FloatNetwork):
            raise ImportRefused(f"{path}: holds {shown(found)}; a float network is needed as a template", code="kind")
        return found
    if len(data) > MAX_TEXT:
        raise ImportRefused(f"{path}: the architecture has more than {MAX_TEXT} bytes", code="architecture")
    try:
        words = data.decode("utf-8-sig")
        plan = tomllib.loads(words) if path.lower().endswith(".toml") else json.loads(words)
    except (ValueError, RecursionError) as error:
        raise ImportRefused(
            f"{path}: the architecture is no {'TOML' if path.lower().endswith('.toml') else 'JSON'} to be read "
            f"({' '.join(str(error).split())[:100]})",
            code="architecture",
        ) from None
    if not isinstance(plan, dict):
        raise ImportRefused(
            f"{path}: the architecture is {shown(plan)}; an object with 'input' and 'layers' is needed",
            code="architecture",
        )
    return plan


def _built(plan: Mapping[str, Any], state: _Arrays, metadata: dict[str, Any]) -> FloatNetwork:
    """The network of a list of layers."""
    if unknown := set(plan) - {"input", "layers", "output"}:
        raise FormatError(f"architecture: {sorted(unknown)[0]!r} is not known; it has input, layers and output")
    layers = instance(plan.get("layers"), "architecture: layers", list, tuple, needed="a list of layers")
    if not 1 <= len(layers) <= MAX_LAYERS:
        raise FormatError(f"architecture: {len(layers)} layers; 1 to {MAX_LAYERS} are read")
    shape = wholes(plan.get("input"), "architecture: input", 1, 1 << 24, needed="the shape of one sample is needed")
    sketch = Sketch()
    values: dict[str, Signal] = {"input": sketch.begin(shape)}
    last = "input"
    for number, layer in enumerate(layers):
        mapping(layer, f"architecture: layer {number}")
        kind = text(layer.get("type"), f"architecture: the type of layer {number}")
        name = text(layer.get("name", f"{kind.lower()}_{number}"), f"architecture: the name of layer {number}")
        if not name or name in values:
            raise FormatError(f"architecture: layer {number} is called {name[:80]!r}; a name of its own is needed")
        inputs = layer.get("inputs", last)
        inputs = [inputs] if isinstance(inputs, str) else inputs
        instance(inputs, f"architecture: inputs of layer {name[:80]!r}", list, tuple, needed="a list of names")
        for source in inputs:
            if not isinstance(source, str) or source not in values:
                raise FormatError(f"architecture: layer {name[:80]!r} reads {shown(source)}, no layer before it")
        values[name] = _layer(sketch, Spot(name, kind), layer, [values[source] for source in inputs], state)
        last = name
    output = text(plan.get("output", last), "architecture: output")
    if output not in values:
        raise FormatError(f"architecture: output is {output[:80]!r}, which is no layer")
    return sketch.finish(values[output], metadata)


def _layer(sketch: Sketch, at: Spot, layer: Mapping, inputs: list[Signal], state: _Arrays) -> Signal:
    given = {name: value for name, value in layer.items() if name not in KEYS}
    kind = KINDS_OF_LAYERS.get(at.kind)
    if at.kind in JOINS or kind is None:
        if at.kind in JOINS and (given or len(inputs) < 2):
            raise at.bad("it has two or more inputs, and no options")
        if at.kind == "Concat":
            return called(sketch, replace(at, kind="cat"), (inputs, 1), {})
        if at.kind == "Add":
            result = inputs[0]
            for other in inputs[1:]:
                result = called(sketch, replace(at, kind="add"), (result, other), {})
            return result
        raise at.unsupported(why_not(at.kind))
    known = (*kind.options, *kind.sizes)
    if unknown := [name for name in given if name not in known]:
        raise at.bad(f"{unknown[0]!r} is not known; it has {', '.join((*KEYS, *known))}")
    if len(inputs) != 1:
        raise at.bad(f"it has {len(inputs)} inputs; one is needed")
    arrays = {name: array for name in kind.arrays if (array := state.get(at.name, name)) is not None}
    if kind.arrays and not arrays and at.get("affine", True):
        raise state.missing(f"{at.name}.{kind.arrays[0]}")
    return becomes(sketch, replace(at, options=given, arrays=arrays), inputs[0])


# -- the arrays -------------------------------------------------------------------------------------------------------


class _Arrays:
    """The arrays of a state dict, and which of them were taken."""

    def __init__(self, label: str, state: StateDict, prefix: str) -> None:
        self.label, self.format, self.sha256 = label, state.format, state.sha256
        arrays = state.arrays
        for start in ("state_dict.", prefix):  # the first as checkpoints hold it
            if start and (start == prefix or all(name.startswith(start) for name in arrays)):
                arrays = {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}
        if not arrays:
            begins = f" that begins with {prefix[:80]!r}; it has {self._some(state.arrays)}" if prefix else ""
            raise ImportRefused(f"{label}: holds no array{begins}", code="weights")
        self.arrays, self.used = arrays, set[str]()

    @staticmethod
    def _some(arrays: Mapping[str, Any]) -> str:
        names = [name[:60] for name in arrays]
        return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")

    def get(self, layer: str, name: str) -> np.ndarray | None:
        key = f"{layer}.{name}"
        self.used.add(key)
        return self.arrays.get(key)

    def missing(self, key: str) -> ImportRefused:
        ends = [name for name in self.arrays if name.endswith(f".{key}")]
        start = ends[0].removesuffix(key) if ends else ""
        more = f"; give prefix={start[:60]!r}" if start else f"; it has {self._some(self.arrays)}"
        return ImportRefused(f"{self.label}: there is no array {key[:80]!r}{more}", code="weights", where=key)

    def finish(self) -> None:
        """Refuse arrays that no layer has taken."""
        left = [name for name in self.arrays if name not in self.used]
        if left:
            raise ImportRefused(
                f"{self.label}: the array {left[0][:80]!r} belongs to no layer of the architecture", code="weights",
                where=left[0],
            )  # fmt: skip


def _refilled(node: FloatNode, state: _Arrays) -> FloatNode:
    """A node of a template with the arrays of the state dict."""
    if not (node.weighted or node.scales):
        return node
    kind, _, module = node.source.partition(" ")
    own = node.name if any(name.startswith(f"{node.name}.") for name in state.arrays) else module or node.name
    if node.weighted:
        held = [name for name in ("weight", "bias") if getattr(node, name) is not None]
        found = {name: _array(node, state, own, name, name, kind) for name in held}
    elif node.source and not kind.startswith("BatchNorm"):
        return node  # constants of the program, no parameters
    else:
        trained = [name for name in NORM if name.startswith("running") or f"{own}.{name}" in state.arrays]
        found = {NORM[name]: _array(node, state, own, name, NORM[name], kind) for name in trained}
    try:
        made: Any = replace(node, **cast(Any, found))
        return made
    except IntsnnError as error:
        raise ImportRefused(f"{state.label}: {error}", code="weights", where=own) from None


def _array(node: Any, state: _Arrays, own: str, name: str, ours: str, kind: str) -> np.ndarray:
    """One array as the template has it, of its shape."""
    value = state.get(own, name)
    if value is None:
        raise state.missing(f"{own}.{name}")
    needed = getattr(node, ours).shape
    if name == "weight" and len(needed) == 4:
        if value.ndim == 3:  # one-dimensional layers are maps of one row
            value = value[:, :, None, :]
        if value.ndim == 2:  # dense layers along an axis are convolutions of 1 x 1
            value = value[:, :, None, None]
        if kind.startswith("ConvTranspose") and value.ndim == 4 and value.shape[0] % node.groups == 0:
            inputs, outputs, height, width = value.shape
            parts = value.reshape(node.groups, inputs // node.groups, outputs, height, width)
            value = parts.transpose(0, 2, 1, 3, 4)[..., ::-1, ::-1].reshape(-1, inputs // node.groups, height, width)
    if value.shape != needed:
        raise ShapeError(f"layer {node.name!r}: {own}.{name} is {value.shape} here, {needed} in the template")
    return np.ascontiguousarray(value)
