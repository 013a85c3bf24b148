"""How does a trained Keras network get in?

Reads the legacy HDF5 files of Keras 1, 2 and 3 (whole models, and weights with the architecture as JSON), ``.keras``
archives and ``.weights.h5`` files, without Keras: numpy, json, zipfile and the bounded HDF5 reader. Nothing in the file
is executed or looked up by name except in one closed table of layers, and what a layer does is written out as nodes of
:mod:`intsnn.network.floating`. What is not in the table is an error that names the layer.

The parts, each below the next: ``keras_graph`` (which layers, in which order), ``keras_files`` (what a file holds),
``keras_builder`` (how tensors of Keras become ours), ``keras_layers`` (what each layer becomes); here they are joined.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...errors import ImportRefused, ShapeError, UnsupportedError
from ...formats.arguments import flag, instance, path_of, whole, wholes
from ...network.float_nodes import FloatFlatten, FloatInput
from ...network.floating import FloatNetwork
from . import files as keras_files
from .builder import Builder, Value
from .files import Source
from .graph import FIRST, LAST, MAX_SIDE, Layer, layers_of, short
from .layers import BUILDERS, REASONS

__all__ = ["load"]


def load(
    path: str | os.PathLike[str],
    *,
    architecture: str | os.PathLike[str] | None = None,
    backend: str | None = None,
    input_shape: Sequence[int] | None = None,
    trust: bool = False,
    budget: int = 1 << 30,
) -> FloatNetwork:
    """Read a trained Keras network.

    Parameters
    ----------
    path : path-like
        ``.h5``/``.hdf5`` of Keras 1, 2 or 3, ``.keras``, or ``.weights.h5``; told apart by content.
    architecture : path-like, optional
        JSON as ``model.to_json()`` writes it, for files that hold weights only. A JSON of the same name beside ``path``
        is taken by itself where the file has no architecture.
    backend : {"theano", "tensorflow"}, optional
        What the network was trained with, where the file does not say: Theano stores convolution kernels flipped.
    input_shape : sequence of int, optional
        ``(C, H, W)`` or ``(N,)`` where the file leaves it open.
    trust : bool
        Read HDF5 in this process; see :func:`intsnn.files.hdf5.read_tree`.
    budget : int
        Most bytes of weights.

    Returns
    -------
    FloatNetwork
        ``metadata`` has ``format, keras_version, backend, source_sha256``, ``notes``, and ``tensors``: one entry per
        array with path, shape, dtype, min, max and what was done to its axes.

    Raises
    ------
    DataNotFoundError
        If a file is missing.
    ImportRefused
        If a file breaks a rule of the bounded reader, is no Keras file, has a damaged or absurd configuration (``code``
        ``json, json-size, json-depth, config``), weights that do not belong (``weights``), no architecture
        (``architecture``), or leaves the backend open (``backend``).
    UnsupportedError
        If a layer or an option has no counterpart here; the message names it.
    ShapeError
        If weights and architecture do not fit together.
    """
    label = path_of(path)
    trust, budget = flag(trust, "trust"), whole(budget, "budget", 1)
    architecture = None if architecture is None else path_of(architecture, "architecture")
    instance(backend, "backend", str, none=True, needed="the name of a backend")
    if input_shape is not None:
        input_shape = wholes(input_shape, "input_shape", 1, MAX_SIDE)
    if backend not in (None, "theano", "tensorflow"):
        raise ImportRefused(f"backend {backend!r} is not known; give 'theano' or 'tensorflow'", code="backend")
    source = keras_files.read(path, trust=trust, budget=budget)
    if architecture is None and source.config is None:
        beside = os.path.splitext(label)[0] + ".json"
        architecture = beside if os.path.isfile(beside) else None
    if architecture is not None:
        source = replace(source, config=keras_files.read_json(os.fspath(architecture)))
    if source.config is None:
        raise ImportRefused(
            f"{label} holds weights only; give the architecture as JSON (model.to_json()), with architecture= or "
            "--architecture, or beside it under the same name",
            code="architecture",
        )
    return _build(source, backend, input_shape)


def _snake(name: str) -> str:
    """Name that Keras saves a layer of a class under."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _groups_of(source: Source, layers: list[Layer]) -> dict[str, str]:
    """Where each layer's arrays are: by name, or by position or class and counter in the listed order."""
    if source.naming == "name":
        return {layer.name: layer.name for layer in layers}
    if source.naming == "index":
        shift = 1 if layers[0].kind == "InputLayer" and len(source.weights) == len(layers) - 1 else 0
        return {layer.name: f"#{k - shift}" for k, layer in enumerate(layers)}
    groups: dict[str, str] = {}
    counts: dict[str, int] = {}
    for layer in layers:
        base = _snake(layer.kind)
        number = counts[base] = counts.get(base, -1) + 1
        groups[layer.name] = f"{base}_{number}" if number else base
    return groups


def _layout_of(layers: list[Layer], backend: str | None) -> str:
    for flat in (False, True):
        for layer in layers:
            if (layer.kind == "Flatten") == flat and (found := layer.data_format()) is not None:
                return found
    return FIRST if backend == "theano" and any(layer.keras1 for layer in layers) else LAST


def _input(b: Builder, layer: Layer, given: Sequence[int] | None, features: int | None) -> Value:
    """Make the input node from the shape in ``layer``, the user's, or the first dense kernel."""
    shape = layer.get("batch_input_shape", "batch_shape")
    if isinstance(shape, list) and shape and isinstance(shape[0], list) and len(shape) == 1:
        shape = shape[0]
    if shape is None and layer.get("input_shape") is not None:
        shape = [None, *layer.get("input_shape")] if isinstance(layer.get("input_shape"), list) else "?"
    if shape is None and layer.get("input_dim") is not None:
        shape = [None, layer.get("input_dim")]
    if shape is None and features is not None and given is None:
        shape = [None, features]
    source = replace(layer, kind="InputLayer", name=layer.name if layer.kind == "InputLayer" else "input")
    if shape is not None and (
        not isinstance(shape, list)
        or not 2 <= len(shape) <= 5
        or not all(n is None or (type(n) is int and 1 <= n <= MAX_SIDE * 16) for n in shape[1:])
    ):
        raise source.bad(f"the input shape is {short(shape)}; (batch, sizes from 1 to {MAX_SIDE * 16}) is needed")
    if given is not None:
        given = tuple(given)
        wanted = None if shape is None else tuple(shape[1:])
        if wanted is not None and len(wanted) == 3 and b.layout == LAST:
            wanted = (wanted[2], wanted[0], wanted[1])
        if wanted is not None and (
            len(wanted) != len(given) or any(w not in (None, g) for w, g in zip(wanted, given, strict=True))
        ):
            raise ShapeError(f"input_shape {given} does not fit the model's {wanted}")
        return b.emit(FloatInput, source, "", (), shape=given)
    if shape is None or None in shape[1:]:
        raise source.bad("the model leaves the input shape open; give input_shape=(C, H, W)")
    shape = tuple(shape[1:])
    if len(shape) == 2:
        return replace(b.emit(FloatInput, source, "", (), shape=(1, *shape)), grid=True)
    if len(shape) == 4:
        raise source.unsupported(f"an input of shape {shape}; vectors and images are taken")
    if len(shape) == 3 and b.layout == LAST:
        shape = (shape[2], shape[0], shape[1])
    return b.emit(FloatInput, source, "", (), shape=shape)


def _build(source: Source, backend: str | None, given: Sequence[int] | None) -> FloatNetwork:
    config = source.config
    version = source.keras_version or config.get("keras_version")
    told = source.backend or config.get("backend")
    backend = backend or (told if isinstance(told, str) else None) or _only_backend(version)
    layers, output, listed = layers_of(config, source.label)
    b = Builder(source, backend, _layout_of(layers, backend), _groups_of(source, listed))
    values: dict[str, Value] = {}
    for layer in layers:
        if layer.kind == "InputLayer":
            if any(node.takes_input for node in b.nodes):
                raise layer.unsupported("a second input; exactly one is taken")
            values[layer.name] = _input(b, layer, given, None)
            continue
        builder = BUILDERS.get(layer.kind)
        if builder is None:
            why = REASONS.get(layer.kind, f"the layers that can be taken are {', '.join(sorted(BUILDERS))}")
            raise layer.unsupported(f"is not supported: {why}")
        policy = layer.get("dtype")
        if isinstance(policy, dict) and "Quantized" in str(policy.get("class_name")):
            raise layer.unsupported("quantised by Keras; save the network before it is quantised")
        if layer.inbound:
            inputs = [values[name] for name in layer.inbound]
        elif not b.nodes:
            kernel = source.weights.get(b.groups[layer.name], [])
            features = kernel[0].value.shape[0] if layer.kind == "Dense" and kernel and kernel[0].value.ndim else None
            inputs = [_input(b, layer, given, features)]
        else:
            raise layer.bad("it has no input")
        values[layer.name] = builder(b, layer, inputs)
    result = _finish(b, values[output], next(layer for layer in layers if layer.name == output))
    for group, arrays in source.weights.items():
        if arrays and group not in b.used:
            raise ImportRefused(
                f"{source.label}: the file has weights for {group!r}, which the architecture does not use",
                code="weights",
                where=group,
            )
    metadata = {
        "format": source.format,
        "keras_version": version if isinstance(version, str) else None,
        "backend": backend,
        "source": os.path.basename(source.label),
        "source_sha256": source.sha256,
        "tensors": b.tensors,
        "notes": b.notes,
    }
    return FloatNetwork(tuple(b.nodes), result.node, metadata)


def _only_backend(version: Any) -> str | None:
    """Keras 2.4 and later 2.x ran on TensorFlow alone, and nothing since runs on Theano."""
    match = re.match(r"(\d+)\.(\d+)", version) if isinstance(version, str) else None
    return "tensorflow" if match and (int(match[1]), int(match[2])) >= (2, 4) else None


def _finish(b: Builder, value: Value, layer: Layer) -> Value:
    value = b.padded(layer, value)
    if value.image:
        if value.shape[1:] != (1, 1):
            raise layer.unsupported(f"the output is an image {value.shape}; a vector of classes is taken")
        value = b.emit(FloatFlatten, layer, "classes", (value.node,))
    if value.order is not None:
        raise layer.unsupported("the output is a flattened image; a dense layer or a pooling has to follow")
    behind = {value.node}
    for node in reversed(b.nodes):
        if node.orders and node.name not in behind:
            raise UnsupportedError(f"layer {node.name!r} ({node.source}): softmax is only taken at the end")
        if node.name in behind and node.permutes:
            behind.update(node.inputs)
    return value
