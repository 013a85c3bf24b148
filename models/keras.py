"""How does a trained Keras network get in?

Reads the legacy HDF5 files of Keras 1, 2 and 3 (whole models, and weights with the architecture as JSON), ``.keras``
archives and ``.weights.h5`` files, without Keras: numpy, json, zipfile and the bounded HDF5 reader. Nothing in the file
is executed or looked up by name except in one closed table of layers, and what a layer does is written out as nodes of
:mod:`intsnn.floatnet`. What is not in the table is an error that names the layer.

Everything about axes is settled here: kernels become ``(O, I, kh, kw)`` cross-correlations, images ``(C, H, W)``, and
the rows of a dense layer after a flatten follow.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import DataNotFoundError, ImportRefused, ShapeError, UnsupportedError
from ..floatnet import (
    FloatAdd,
    FloatAffine,
    FloatAvgPool2d,
    FloatBatchNorm,
    FloatConv2d,
    FloatFlatten,
    FloatInput,
    FloatMaxPool2d,
    FloatNetwork,
    FloatNode,
    FloatReLU,
    FloatSoftmax,
)
from ..hdf5 import Tree, read_tree, read_tree_bytes

__all__ = ["load"]

MAX_JSON = 1 << 20
MAX_JSON_DEPTH = 32
MAX_LAYERS = 4096
MAX_SIDE = 1 << 16
MAX_VALUES = 1 << 24  # of one layer's output for one sample

_ATTRIBUTES = (
    "layer_names*",
    "weight_names*",
    "backend",
    "keras_version",
    "model_config",
    "nb_layers",
    "nb_params",
    "name",
    "dtype",
)
_SKIP = ("optimizer_weights", "optimizer", "metrics", "_metrics")
_FIRST, _LAST = "channels_first", "channels_last"


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
        Read HDF5 in this process; see :func:`intsnn.hdf5.read_tree`.
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
    label = os.fspath(path)
    if backend not in (None, "theano", "tensorflow"):
        raise ImportRefused(f"backend {backend!r} is not known; give 'theano' or 'tensorflow'", code="backend")
    if _is_zip(label):
        source = _read_archive(label, trust, budget)
    else:
        tree = read_tree(path, trust=trust, budget=budget, skip=_SKIP, attributes=_ATTRIBUTES)
        source = _read_legacy(label, tree)
    if architecture is None and source.config is None:
        beside = os.path.splitext(label)[0] + ".json"
        architecture = beside if os.path.isfile(beside) else None
    if architecture is not None:
        config = _parse_json(_read_small(os.fspath(architecture)), os.fspath(architecture))
        source = replace(source, config=config)
    if source.config is None:
        raise ImportRefused(
            f"{label} holds weights only; give the architecture as JSON (model.to_json()), with architecture= or "
            "--architecture, or beside it under the same name",
            code="architecture",
        )
    return _build(source, backend, input_shape)


# ---------------------------------------------------------------------------------------------------------------------
# files
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Array:
    path: str
    role: str  # kernel, bias, ...; "" where the file only numbers them
    value: np.ndarray


@dataclass(frozen=True)
class _Source:
    label: str
    format: str
    sha256: str
    config: Any = None
    keras_version: str | None = None
    backend: str | None = None
    # weights by layer name, in the order of the file; or, without names, by "#0", "#1", ... or by saved group name
    weights: Mapping[str, list[_Array]] = field(default_factory=dict)
    naming: str = "name"  # name, index or class


def _is_zip(path: str) -> bool:
    try:
        if not os.path.isfile(path):
            return False  # the HDF5 reader says what it is
        with open(path, "rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def _read_small(path: str) -> bytes:
    if not os.path.exists(path):
        raise DataNotFoundError(f"there is no architecture file {path}")
    if not os.path.isfile(path):
        raise ImportRefused(f"{path}: is not a regular file; a JSON file is needed", code="not-regular")
    with open(path, "rb") as file:
        return file.read(MAX_JSON + 1)


def _parse_json(data: bytes | str, label: str) -> dict:
    if len(data) > MAX_JSON:
        raise ImportRefused(f"{label}: more than {MAX_JSON} bytes of JSON", code="json-size")
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    except UnicodeDecodeError:
        raise ImportRefused(f"{label}: the architecture is not JSON (no UTF-8)", code="json") from None
    depth = 0
    # strings are skipped whole (an unfinished one to the end), so that the scan is linear whatever the text is
    for match in re.finditer(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', text, re.DOTALL):
        if match[0] in "[{":
            depth += 1
            if depth > MAX_JSON_DEPTH:
                raise ImportRefused(f"{label}: JSON nested deeper than {MAX_JSON_DEPTH}", code="json-depth")
        elif match[0] in "]}":
            depth -= 1
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImportRefused(f"{label}: the architecture is not JSON ({str(error)[:100]})", code="json") from None
    if not isinstance(config, dict):
        raise ImportRefused(f"{label}: the architecture is not a JSON object", code="config")
    return config


def _read_archive(label: str, trust: bool, budget: int) -> _Source:
    limits = {"config.json": MAX_JSON, "metadata.json": 1 << 16, "model.weights.h5": budget}
    members: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(label) as archive:
            names = archive.namelist()
            if "config.json" not in names or "model.weights.h5" not in names:
                torch = any(name.endswith("data.pkl") for name in names)
                what = "a PyTorch archive (pickled, never loaded here; export it to HDF5)" if torch else "a zip archive"
                raise ImportRefused(f"{label}: is {what}, not a Keras model", code="zip")
            for info in archive.infolist():
                limit = limits.get(info.filename)
                if limit is None:
                    continue
                if info.filename in members or info.flag_bits & 1 or info.compress_type not in (0, 8):
                    raise ImportRefused(f"{label}: {info.filename} is doubled, encrypted or packed oddly", code="zip")
                if info.file_size > min(limit, 200 * info.compress_size + (1 << 16)):
                    raise ImportRefused(f"{label}: {info.filename} claims {info.file_size} bytes", code="zip")
                with archive.open(info) as member:
                    members[info.filename] = member.read(limit + 1)
                if len(members[info.filename]) > limit:
                    raise ImportRefused(f"{label}: {info.filename} has more than {limit} bytes", code="zip")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, ImportRefused):
            raise
        raise ImportRefused(f"{label}: is a damaged zip archive ({str(error)[:100]})", code="zip") from None
    with open(label, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = _parse_json(members["config.json"], f"{label}: config.json")
    version = None
    if "metadata.json" in members:
        version = _parse_json(members["metadata.json"], f"{label}: metadata.json").get("keras_version")
    tree = read_tree_bytes(
        members["model.weights.h5"],
        label=f"{label}: model.weights.h5",
        trust=trust,
        budget=budget,
        skip=_SKIP,
        attributes=_ATTRIBUTES,
    )
    source = _read_numbered(label, tree)
    if source is None:
        raise ImportRefused(f"{label}: model.weights.h5 has no group 'layers'", code="weights")
    version = version if isinstance(version, str) else None
    return replace(source, format="keras archive", sha256=digest, config=config, keras_version=version)


def _read_legacy(label: str, tree: Tree) -> _Source:
    found: dict[str, Any] = {}
    for group in ("", "model_weights"):
        for name in ("keras_version", "backend", "model_config"):
            value = tree.attribute(group, name)
            if isinstance(value, list) and len(value) == 1:
                value = value[0]
            if isinstance(value, str):
                found.setdefault(name, value)
    config = _parse_json(found["model_config"], f"{label}: model_config") if "model_config" in found else None
    common = {"sha256": tree.sha256, "config": config}
    common |= {"keras_version": found.get("keras_version"), "backend": found.get("backend")}
    for group in ("model_weights", ""):
        names = _names(tree, group, "layer_names")
        if names is not None:
            kind = "keras h5 (model)" if config is not None else "keras h5 (weights)"
            return _Source(label, kind, weights=_named_weights(label, tree, group, names), **common)
    for group in ("model_weights", ""):
        count = tree.attribute(group, "nb_layers")
        if isinstance(count, int):
            weights = _counted_weights(label, tree, group, count)
            return _Source(label, "keras 1 h5 (nb_layers)", weights=weights, naming="index", **common)
    source = _read_numbered(label, tree)
    if source is None:
        raise ImportRefused(
            f"{label}: is HDF5, but not of Keras: neither 'layer_names' nor 'nb_layers' nor a group 'layers'",
            code="not-keras",
        )
    return replace(source, **common | {"backend": common["backend"] or source.backend})


def _names(tree: Tree, path: str, name: str) -> list[str] | None:
    """Read a list of names that may be split over ``name0``, ``name1``, ... (attributes have at most 64 KB)."""
    parts = [tree.attribute(path, name)]
    if parts[0] is None:
        parts = []
        while (part := tree.attribute(path, f"{name}{len(parts)}")) is not None:
            parts.append(part)
        if not parts:
            return None
    result: list[str] = []
    for part in parts:
        if isinstance(part, np.ndarray) and part.size == 0:
            continue  # an empty list is stored as an empty float64 array
        if isinstance(part, str):
            part = [part] if part else []
        if not isinstance(part, list):
            raise ImportRefused(f"attribute {name!r} of {path!r} is not a list of names", code="weights", where=path)
        result += part
    return result


_ROLES = {
    "depthwise_kernel": "depthwise_kernel",
    "pointwise_kernel": "pointwise_kernel",
    "moving_variance": "variance",
    "running_std": "variance",  # Keras 1 calls it so and keeps the variance in it
    "moving_mean": "mean",
    "running_mean": "mean",
    "kernel": "kernel",
    "gamma": "gamma",
    "beta": "beta",
    "bias": "bias",
    "W": "kernel",
    "b": "bias",
}


def _role(name: str) -> str:
    name = re.sub(r":\d+$", "", name)
    for ending, role in _ROLES.items():
        if re.search(rf"(^|[/_]){ending}(_\d+)?$", name):
            return role
    return ""


def _named_weights(label: str, tree: Tree, group: str, names: list[str]) -> dict[str, list[_Array]]:
    if len(set(names)) < len(names):
        raise ImportRefused(f"{label}: 'layer_names' names a layer twice", code="weights", where=group)
    weights: dict[str, list[_Array]] = {}
    used = set()
    for name in names:
        path = f"{group}/{name}" if group else name
        entries = []
        for weight in _names(tree, path, "weight_names") or []:
            full = f"{path}/{weight}"
            if full not in tree.datasets:
                raise ImportRefused(
                    f"{label}: layer {name!r} names the weight {weight!r}, but there is no {full!r} in the file",
                    code="weights",
                    where=path,
                )
            if full in used:
                raise ImportRefused(f"{label}: layer {name!r} names {weight!r} twice", code="weights", where=path)
            used.add(full)
            entries.append(_Array(full, _role(weight), _floats(label, tree, full)))
        weights[name] = entries
    for path in tree.datasets:
        if path not in used and (not group or path.startswith(group + "/")) and "top_level_model_weights" not in path:
            raise ImportRefused(f"{label}: the array {path!r} belongs to no layer", code="weights", where=path)
    return weights


def _counted_weights(label: str, tree: Tree, group: str, count: int) -> dict[str, list[_Array]]:
    if not 0 < count <= MAX_LAYERS:
        raise ImportRefused(f"{label}: nb_layers is {count}", code="weights", where=group)
    weights = {}
    for k in range(count):
        path = f"{group}/layer_{k}" if group else f"layer_{k}"
        number = tree.attribute(path, "nb_params", 0)
        if not isinstance(number, int) or not 0 <= number <= 64:
            raise ImportRefused(f"{label}: nb_params of {path!r} is {number!r}", code="weights", where=path)
        entries = []
        for p in range(number):
            full = f"{path}/param_{p}"
            if full not in tree.datasets:
                raise ImportRefused(f"{label}: there is no {full!r} in the file", code="weights", where=path)
            entries.append(_Array(full, "", _floats(label, tree, full)))
        weights[f"#{k}"] = entries
    return weights


def _read_numbered(label: str, tree: Tree) -> _Source | None:
    """Read ``layers/<group>/vars/<i>``, as ``.keras`` and ``.weights.h5`` have it."""
    for root in ("layers", "_layer_checkpoint_dependencies"):
        if root not in tree.groups:
            continue
        weights: dict[str, list[_Array]] = {}
        names: dict[str, str | None] = {}
        for group in tree.groups:
            match = re.fullmatch(rf"{root}/([^/]+)/vars", group)
            if match:
                arrays = tree.below(group)
                try:
                    order = sorted(arrays, key=int)
                except ValueError:
                    raise ImportRefused(f"{label}: {group!r} holds more than numbers", code="weights") from None
                weights[match[1]] = [_Array(f"{group}/{i}", "", _floats(label, tree, f"{group}/{i}")) for i in order]
                name = tree.attribute(group, "name")
                names[match[1]] = name if isinstance(name, str) else None
        known = {array.path for entries in weights.values() for array in entries}
        for path in tree.datasets:
            if path.startswith(root + "/") and path not in known and "/seed_generator/" not in path:
                raise UnsupportedError(f"{label}: the array {path!r} belongs to a nested model or layer; flatten it")
        if weights and None not in names.values() and len(set(names.values())) == len(names):
            weights = {names[group]: entries for group, entries in weights.items()}
            return _Source(label, "keras weights.h5", tree.sha256, backend="tensorflow", weights=weights)
        return _Source(label, "keras weights.h5", tree.sha256, backend="tensorflow", weights=weights, naming="class")
    return None


def _floats(label: str, tree: Tree, path: str) -> np.ndarray:
    array = tree.datasets[path]
    if array.dtype.kind != "f" or tree.attribute(path, "dtype") == "bfloat16":
        raise UnsupportedError(
            f"{label}: {path!r} has type {tree.attribute(path, 'dtype') or array.dtype}; only float16, float32 and "
            "float64 weights are read (save the network before it is quantised)"
        )
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


# ---------------------------------------------------------------------------------------------------------------------
# configuration
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """One layer of the configuration, with checked access to its options under their old and new names."""

    name: str
    kind: str
    config: dict
    inbound: tuple[str, ...] = ()

    def bad(self, message: str) -> ImportRefused:
        return ImportRefused(f"layer {self.name!r} ({self.kind}): {message}", code="config", where=self.name)

    def unsupported(self, message: str) -> UnsupportedError:
        return UnsupportedError(f"layer {self.name!r} ({self.kind}): {message}")

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
            raise self.bad(f"{keys[0]} is {_short(value)}; an integer in {low}..{high} is needed")
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
            raise self.bad(f"{keys[0]} is {_short(value)}; two integers in {low}..{high} are needed")
        return tuple(value)

    def number(self, *keys: str, default: Any = None) -> float:
        value = self.get(*keys, default=default)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self.bad(f"{keys[0]} is {_short(value)}; a finite number is needed")
        return float(value)

    def flag(self, *keys: str, default: bool = True) -> bool:
        value = self.get(*keys, default=default)
        if type(value) is not bool:
            raise self.bad(f"{keys[0]} is {_short(value)}; true or false is needed")
        return value

    def padding(self) -> str:
        value = self.get("padding", "border_mode", default="valid")
        if value not in ("valid", "same"):
            raise self.unsupported(f"padding {_short(value)}; 'valid' and 'same' are taken")
        return value

    def data_format(self) -> str | None:
        value = self.get("data_format", "dim_ordering")
        if value in (None, "default"):
            return None
        result = {"th": _FIRST, "tf": _LAST, _FIRST: _FIRST, _LAST: _LAST}.get(value if isinstance(value, str) else "")
        if result is None:
            raise self.bad(f"data_format is {_short(value)}; 'channels_last' or 'channels_first' is needed")
        return result

    def activation(self) -> str:
        value = self.get("activation", default="linear")
        if isinstance(value, dict):  # Keras 3 spells functions out
            value = value.get("config") if isinstance(value.get("config"), str) else value.get("class_name")
        if not isinstance(value, str):
            raise self.bad(f"activation is {_short(value)}")
        return value

    @property
    def keras1(self) -> bool:
        return any(key in self.config for key in ("nb_filter", "nb_row", "dim_ordering", "border_mode", "output_dim"))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_SEQUENTIAL = ("Sequential",)
_FUNCTIONAL = ("Functional", "Model")


def _layers_of(config: Any, label: str) -> tuple[list[_Layer], str, list[_Layer]]:
    """Return the layers that the output needs (inputs first), the output's name, and all layers as they are listed."""

    def bad(message: str) -> ImportRefused:
        return ImportRefused(f"{label}: {message}", code="config")

    kind, body = config.get("class_name"), config.get("config")
    if kind not in _SEQUENTIAL + _FUNCTIONAL:
        raise UnsupportedError(f"{label}: the model is a {_short(kind)}; Sequential and Functional models are taken")
    entries = body.get("layers") if isinstance(body, dict) else body
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LAYERS:
        raise bad(f"the configuration has no list of 1 to {MAX_LAYERS} layers")
    layers: dict[str, _Layer] = {}
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
        layers[name] = _Layer(name, cls, options)
    if kind in _SEQUENTIAL:
        names = list(layers)
        chain = [replace(layers[b], inbound=(a,)) for a, b in zip(names, names[1:], strict=False)]
        return [layers[names[0]], *chain], names[-1], list(layers.values())
    for entry, layer in zip(entries, list(layers.values()), strict=True):
        inbound = _inbound(entry.get("inbound_nodes"), layer)
        for name in inbound:
            if name not in layers:
                raise layer.bad(f"its input {_short(name)} is not a layer")
        layers[layer.name] = replace(layer, inbound=inbound)
    outputs = _ends(body.get("output_layers"))
    if len(outputs) != 1:
        raise UnsupportedError(f"{label}: the model has {len(outputs)} outputs; exactly one is taken")
    if outputs[0] not in layers:
        raise bad(f"the output {_short(outputs[0])} is not a layer")
    return _sorted(layers, outputs[0], bad), outputs[0], list(layers.values())


def _ends(value: Any) -> list[str]:
    """Names in ``input_layers``/``output_layers``: ``["a", 0, 0]`` or a list of such."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        value = [value]
    if not isinstance(value, list):
        return []
    return [item[0] for item in value if isinstance(item, list) and item and isinstance(item[0], str)]


def _inbound(value: Any, layer: _Layer) -> tuple[str, ...]:
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
                raise layer.unsupported(f"is called with {_short(key)}")
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


def _sorted(layers: dict[str, _Layer], output: str, bad: Callable[[str], Exception]) -> list[_Layer]:
    order: dict[str, _Layer] = {}
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


# ---------------------------------------------------------------------------------------------------------------------
# building
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Value:
    """What a Keras tensor is here."""

    node: str
    shape: tuple[int, ...]  # (C, H, W) or (N,)
    order: np.ndarray | None = None  # vectors: position j here is position order[j] in Keras
    pad: tuple | None = None  # zeros still to be put around an image, ((top, bottom), (left, right))
    grid: bool = False  # an input of rank 2 in Keras, (H, W) without channels

    @property
    def image(self) -> bool:
        return len(self.shape) == 3


class _Builder:
    def __init__(self, source: _Source, backend: str | None, layout: str, groups: dict[str, str]) -> None:
        self.source, self.backend, self.layout, self.groups = source, backend, layout, groups
        self.nodes: list[FloatNode] = []
        self.tensors: list[dict] = []
        self.notes: list[str] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.used: set[str] = set()

    def emit(self, cls: type[FloatNode], layer: _Layer, part: str, inputs: Sequence[str], **options: Any) -> _Value:
        name = base = f"{layer.name}/{part}" if part else layer.name
        count = 1
        while part and name in self.shapes:
            count += 1
            name = f"{base}_{count}"
        node = cls(name=name, inputs=tuple(inputs), source=f"{layer.kind} {layer.name}", **options)
        shape = node._shape([self.shapes[n] for n in inputs])
        if math.prod(shape) > MAX_VALUES:
            raise layer.bad(f"its output {shape} is too large")
        self.nodes.append(node)
        self.shapes[name] = shape
        return _Value(name, shape)

    def node(self, name: str) -> FloatNode:
        return next(node for node in self.nodes if node.name == name)

    def padded(self, layer: _Layer, value: _Value) -> _Value:
        """Put pending zeros around an image by a 1x1 convolution that copies each channel."""
        if value.pad is None:
            return value
        ones = np.ones((value.shape[0], 1, 1, 1), np.float32)
        inputs = (value.node,)
        return self.emit(FloatConv2d, layer, "pad", inputs, weight=ones, padding=value.pad, groups=value.shape[0])

    def weights(self, layer: _Layer, expected: Mapping[str, tuple[int | None, ...]]) -> dict[str, np.ndarray]:
        """Take a layer's arrays by role; ``expected`` has the roles in the order of the file, and their shapes."""
        group = self.groups[layer.name]
        arrays = self.source.weights.get(group, [])
        self.used.add(group)
        roles = ["kernel" if a.role == "depthwise_kernel" and "kernel" in expected else a.role for a in arrays]
        wanted = list(expected)
        where = {"code": "weights", "where": layer.name}
        if len(arrays) != len(wanted):
            raise ImportRefused(
                f"layer {layer.name!r} ({layer.kind}): the file has {len(arrays)} arrays for it "
                f"({', '.join(a.path for a in arrays) or 'none'}), {len(wanted)} are needed ({', '.join(wanted)})",
                **where,
            )
        if sorted(roles) == sorted(wanted):
            chosen = dict(zip(roles, arrays, strict=True))
        elif any(role and role not in wanted for role in roles) or len({r for r in roles if r}) < sum(map(bool, roles)):
            raise ImportRefused(
                f"layer {layer.name!r} ({layer.kind}): its arrays are {', '.join(a.path for a in arrays)}; "
                f"{', '.join(wanted)} are needed",
                **where,
            )
        else:
            chosen = dict(zip(wanted, arrays, strict=True))
        for role, shape in expected.items():
            found = chosen[role].value.shape
            if len(found) != len(shape) or any(w is not None and w != f for w, f in zip(shape, found, strict=True)):
                wish = ", ".join("any" if n is None else str(n) for n in shape)
                raise ShapeError(
                    f"layer {layer.name!r} ({layer.kind}): its {role} ({chosen[role].path}) is {found}, "
                    f"the architecture needs ({wish})"
                )
        self._report = {}
        for role, array in chosen.items():
            value = array.value
            entry = {
                "layer": layer.name,
                "role": role,
                "path": array.path,
                "shape": value.shape,
                "dtype": str(value.dtype),
                "min": float(value.min()) if value.size else 0.0,
                "max": float(value.max()) if value.size else 0.0,
                "permutation": "none",
            }
            self.tensors.append(entry)
            self._report[role] = entry
        return {role: array.value for role, array in chosen.items()}

    def report(self, role: str, text: str) -> None:
        entry = self._report[role]
        entry["permutation"] = text if entry["permutation"] == "none" else f"{entry['permutation']}, {text}"

    def check_layout(self, layer: _Layer, value: _Value) -> None:
        if not value.image or value.grid:
            raise ShapeError(f"layer {layer.name!r} ({layer.kind}): it needs an image with channels, not a vector")
        if (layer.data_format() or self.layout) != self.layout:
            raise layer.unsupported("channels_first and channels_last are mixed in one network")

    def spaces(self, layer: _Layer, value: _Value, kernel, stride, dilation=(1, 1)) -> tuple:
        """Explicit padding of a window layer, pending zeros included."""
        pending = value.pad or ((0, 0), (0, 0))
        if layer.padding() == "valid":
            return pending
        result = []
        for n, k, s, d, (before, after) in zip(value.shape[1:], kernel, stride, dilation, pending, strict=True):
            n, k = n + before + after, (k - 1) * d + 1
            total = max((-(-n // s) - 1) * s + k - n, 0)
            low = total // 2
            if self.backend == "theano":  # centres the window: half the kernel before, whatever the stride
                low = k // 2
                total = low + max((-(-n // s) - 1) * s + k - n - low, 0)
            result.append((before + low, after + total - low))
        return tuple(result)

    def activate(self, layer: _Layer, value: _Value, name: str | None = None) -> _Value:
        name = name or layer.activation()
        if name == "linear":
            return value
        if name not in ("relu", "relu6", "softmax"):
            raise layer.unsupported(
                f"activation {name!r} has no integer spiking counterpart; relu, relu6, linear, and softmax at "
                "the end are taken"
            )
        value = self.padded(layer, value)
        if name == "softmax":
            if value.image and value.shape[1:] != (1, 1):
                raise layer.unsupported("softmax over an image; it is taken over a vector at the end")
            result = self.emit(FloatSoftmax, layer, self._part(layer, name), (value.node,))
        else:
            limit = 6.0 if name == "relu6" else None
            result = self.emit(FloatReLU, layer, self._part(layer, name), (value.node,), max_value=limit)
        return replace(result, order=value.order, grid=value.grid)

    def _part(self, layer: _Layer, part: str) -> str:
        return "" if layer.name not in self.shapes else part

    def one(self, layer: _Layer, inputs: list[_Value]) -> _Value:
        if len(inputs) != 1:
            raise layer.bad(f"it has {len(inputs)} inputs; one is needed")
        return inputs[0]


def _conv(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    x = b.one(layer, inputs)
    b.check_layout(layer, x)
    filters = layer.integer("filters", "nb_filter")
    if layer.get("kernel_size") is None:
        kernel = (layer.integer("nb_row", high=MAX_SIDE), layer.integer("nb_col", high=MAX_SIDE))
    else:
        kernel = layer.pair("kernel_size")
    stride, dilation = layer.pair("strides", "subsample", default=[1, 1]), layer.pair("dilation_rate", default=[1, 1])
    groups = layer.integer("groups", default=1)
    channels = x.shape[0]
    if channels % groups or filters % groups:
        raise layer.bad(f"groups is {groups}, which does not divide {channels} input and {filters} output channels")
    if layer.keras1 and b.layout == _FIRST:
        shape, name, axes = (filters, channels // groups, *kernel), "OIHW", (0, 1, 2, 3)
    else:
        shape, name, axes = (*kernel, channels // groups, filters), "HWIO->OIHW", (3, 2, 0, 1)
    bias = layer.flag("use_bias", "bias")
    w = b.weights(layer, {"kernel": shape} | ({"bias": (filters,)} if bias else {}))
    weight = w["kernel"].transpose(axes)
    b.report("kernel", name)
    weight = _unflip(b, layer, weight)
    padding = b.spaces(layer, x, kernel, stride, dilation)
    y = b.emit(
        FloatConv2d,
        layer,
        "",
        (x.node,),
        weight=np.ascontiguousarray(weight),
        bias=w.get("bias"),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    return b.activate(layer, y)


def _unflip(b: _Builder, layer: _Layer, weight: np.ndarray) -> np.ndarray:
    """Theano's kernels are those of a true convolution."""
    if weight.shape[2:] == (1, 1):
        return weight
    if b.backend is None:
        raise ImportRefused(
            f"layer {layer.name!r} ({layer.kind}): the file does not say whether its kernels come from Theano, where "
            "they are stored flipped; give backend='theano' or 'tensorflow' (--backend)",
            code="backend",
            where=layer.name,
        )
    if b.backend != "theano":
        return weight
    b.report("kernel", "rows and columns flipped")
    return weight[:, :, ::-1, ::-1]


def _depthwise(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    x = b.one(layer, inputs)
    b.check_layout(layer, x)
    channels, kernel = x.shape[0], layer.pair("kernel_size")
    stride, dilation = layer.pair("strides", default=[1, 1]), layer.pair("dilation_rate", default=[1, 1])
    if b.backend == "theano":
        raise layer.unsupported("depthwise kernels of the Theano backend; save the network with another backend")
    multiplier = layer.integer("depth_multiplier", default=1)
    separable = layer.kind == "SeparableConv2D"
    out = layer.integer("filters") if separable else channels * multiplier
    role = "depthwise_kernel" if separable else "kernel"
    expected: dict[str, tuple] = {role: (*kernel, channels, multiplier)}
    if separable:
        expected["pointwise_kernel"] = (1, 1, channels * multiplier, out)
    if layer.flag("use_bias"):
        expected["bias"] = (out,)
    w = b.weights(layer, expected)
    weight = np.ascontiguousarray(w[role].transpose(2, 3, 0, 1)).reshape(channels * multiplier, 1, *kernel)
    b.report(role, "HWCM->(CM)1HW")
    y = b.emit(
        FloatConv2d,
        layer,
        "depthwise" if separable else "",
        (x.node,),
        weight=weight,
        bias=None if separable else w.get("bias"),
        stride=stride,
        padding=b.spaces(layer, x, kernel, stride, dilation),
        dilation=dilation,
        groups=channels,
    )
    if separable:
        weight = np.ascontiguousarray(w["pointwise_kernel"].transpose(3, 2, 0, 1))
        b.report("pointwise_kernel", "HWIO->OIHW")
        y = b.emit(FloatConv2d, layer, "", (y.node,), weight=weight, bias=w.get("bias"))
    return b.activate(layer, y)


def _dense(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    x = b.one(layer, inputs)
    x = b.padded(layer, x)
    units = layer.integer("units", "output_dim")
    if x.grid or (x.image and b.layout == _FIRST):
        raise layer.unsupported("a dense layer over the columns of an image; flatten it first")
    expected = {"kernel": (x.shape[0], units)} | ({"bias": (units,)} if layer.flag("use_bias", "bias") else {})
    w = b.weights(layer, expected)
    weight = w["kernel"]
    if x.order is not None:
        weight = weight[x.order]
        b.report("kernel", "rows H,W,C->C,H,W")
    weight = np.ascontiguousarray(weight.T)
    b.report("kernel", "(in, out)->(out, in)")
    if x.image:  # over the channels of each pixel, which is a 1x1 convolution
        y = b.emit(FloatConv2d, layer, "", (x.node,), weight=weight[:, :, None, None], bias=w.get("bias"))
    else:
        y = b.emit(FloatAffine, layer, "", (x.node,), weight=weight, bias=w.get("bias"))
    return b.activate(layer, y)


def _batch_norm(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    x = b.padded(layer, b.one(layer, inputs))
    if layer.get("mode", default=0) != 0:
        raise layer.unsupported(f"mode {_short(layer.get('mode'))} normalises with the batch at hand; mode 0 is taken")
    axis = layer.get("axis", default=-1)
    if isinstance(axis, list) and len(axis) == 1:
        axis = axis[0]
    rank = 4 if x.image else 2
    if type(axis) is not int or not -rank <= axis < rank or x.grid:
        raise layer.bad(f"axis is {_short(axis)} on a tensor of {rank} axes")
    if axis % rank != (1 if rank == 2 or b.layout == _FIRST else 3):
        raise layer.unsupported(f"axis {axis} is not the channel axis ({b.layout}); only that is taken")
    channels = x.shape[0]
    roles = [r for r, on in (("gamma", layer.flag("scale")), ("beta", layer.flag("center"))) if on]
    w = b.weights(layer, {role: (channels,) for role in [*roles, "mean", "variance"]})
    values = {"gamma": np.ones(channels, np.float32), "beta": np.zeros(channels, np.float32)} | w
    if x.order is not None:
        values = {role: value[x.order] for role, value in values.items()}
        for role in w:
            b.report(role, "H,W,C->C,H,W")
    epsilon = layer.number("epsilon", default=1e-3)
    if not epsilon >= 0 or not (values["variance"] + epsilon > 0).all():
        raise layer.bad(f"variance + epsilon ({epsilon:g}) is not positive everywhere")
    if "running_std" in next((t["path"] for t in reversed(b.tensors) if t["role"] == "variance"), ""):
        b.notes.append(f"layer {layer.name!r}: 'running_std' of Keras 1 was read as a variance")
    y = b.emit(FloatBatchNorm, layer, "", (x.node,), epsilon=epsilon, **values)
    return replace(y, order=x.order)


def _activation(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    return b.activate(layer, b.one(layer, inputs))


def _softmax(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    if layer.get("axis", default=-1) not in (-1, [-1], 1):
        raise layer.unsupported(f"axis {_short(layer.get('axis'))}; the last axis is taken")
    return b.activate(layer, b.one(layer, inputs), "softmax")


def _relu(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    x = b.padded(layer, b.one(layer, inputs))
    limit = None if layer.get("max_value") is None else layer.number("max_value")
    if layer.number("negative_slope", default=0.0) or layer.number("threshold", default=0.0):
        raise layer.unsupported(
            "negative_slope or threshold is not 0; a plain ReLU, with or without max_value, is taken"
        )
    if limit is not None and limit <= 0:
        raise layer.bad(f"max_value is {limit}; it has to be positive")
    y = b.emit(FloatReLU, layer, "", (x.node,), max_value=limit)
    return replace(y, order=x.order, grid=x.grid)


def _pool(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    x = b.one(layer, inputs)
    b.check_layout(layer, x)
    maximum = layer.kind.startswith("Max")
    kernel = layer.pair("pool_size", default=[2, 2])
    stride = layer.pair("strides", default=list(kernel))
    same = layer.padding() == "same"
    if same and b.backend == "theano":
        raise layer.unsupported("padding 'same' of the Theano backend, which pads in its own way; 'valid' is taken")
    pending = x.pad
    # zeros around an image never win after a ReLU and count in a mean: only then they can be padding of the pool itself
    folds = pending is not None and not same and all(max(p) < k for p, k in zip(pending, kernel, strict=True))
    folds = folds and (not maximum or isinstance(b.node(x.node), FloatReLU))
    if not folds:
        x = b.padded(layer, x)
    options = {"kernel": kernel, "stride": stride, "padding": b.spaces(layer, x, kernel, stride)}
    if maximum:
        return b.emit(FloatMaxPool2d, layer, "", (x.node,), **options)
    return b.emit(FloatAvgPool2d, layer, "", (x.node,), count_include_pad=bool(folds), **options)


def _global_average(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    x = b.padded(layer, b.one(layer, inputs))
    b.check_layout(layer, x)
    size = x.shape[1:]
    keep = layer.flag("keepdims", default=False)
    y = b.emit(FloatAvgPool2d, layer, "" if keep else "pool", (x.node,), kernel=size, stride=size)
    return y if keep else b.emit(FloatFlatten, layer, "", (y.node,))


def _zero_padding(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    x = b.one(layer, inputs)
    b.check_layout(layer, x)
    value = layer.get("padding", default=[1, 1])
    if type(value) is int:
        value = [value, value]
    if isinstance(value, list) and len(value) == 4:  # Keras 1: top, bottom, left, right
        value = [value[:2], value[2:]]
    if isinstance(value, list) and len(value) == 2:
        value = [[n, n] if type(n) is int else n for n in value]
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(
            isinstance(p, list) and len(p) == 2 and all(type(n) is int and 0 <= n <= 1024 for n in p) for p in value
        )
    ):
        raise layer.bad(f"padding is {_short(layer.get('padding'))}; integers in 0..1024 for each side are needed")
    old = x.pad or ((0, 0), (0, 0))
    return replace(x, pad=tuple((a + c, e + d) for (a, e), (c, d) in zip(old, value, strict=True)))


def _hwc_order(shape: tuple[int, ...]) -> np.ndarray | None:
    channels, height, width = shape
    if channels == 1 or height * width == 1:
        return None
    return np.arange(math.prod(shape)).reshape(height, width, channels).transpose(2, 0, 1).reshape(-1)


def _flatten(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    x = b.padded(layer, b.one(layer, inputs))
    if not x.image:
        return x
    # Keras >= 2.2 writes data_format, and for channels_first goes through channels last; before that it did not
    explicit = layer.data_format()
    if explicit == _FIRST and (b.layout == _LAST or x.grid):
        raise layer.unsupported("channels_first and channels_last are mixed in one network")
    order = None
    if b.layout == _LAST or explicit == _FIRST:
        order = _hwc_order(x.shape)
    return replace(b.emit(FloatFlatten, layer, "", (x.node,)), order=order)


def _reshape(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    x = b.padded(layer, b.one(layer, inputs))
    target = layer.get("target_shape", "dims")
    size = math.prod(x.shape)
    if (
        not isinstance(target, list)
        or not 1 <= len(target) <= 8
        or not all(type(n) is int and (n == -1 or 1 <= n <= MAX_VALUES) for n in target)
        or target.count(-1) > 1
    ):
        raise layer.bad(f"target_shape is {_short(target)}; sizes, at most one of them -1, are needed")
    known = math.prod(n for n in target if n != -1)
    if size % known or (-1 not in target and known != size):
        raise ShapeError(f"layer {layer.name!r} (Reshape): {size} values do not fit {target}")
    target = [size // known if n == -1 else n for n in target]
    if len(target) == 1:
        if not x.image:
            return x
        order = _hwc_order(x.shape) if b.layout == _LAST else None
        return replace(b.emit(FloatFlatten, layer, "", (x.node,)), order=order)
    if len(target) == 3:
        shape = tuple(target) if b.layout == _FIRST else (target[2], target[0], target[1])
        if shape == x.shape:
            return replace(x, grid=False)
        node = b.node(x.node)
        if isinstance(node, FloatInput):  # the data come in as images anyway
            if len(b.nodes) != 1:
                raise layer.unsupported("reshapes an input that another branch uses as it is")
            b.nodes.clear()
            b.shapes.clear()
            if shape[0] > 1 and b.layout == _LAST:
                b.notes.append(f"the input is taken as images {shape} (C, H, W), not as vectors in H, W, C order")
            return b.emit(FloatInput, replace(layer, name=node.name), "", (), shape=shape)
        if (
            isinstance(node, FloatFlatten)
            and b.shapes[node.inputs[0]] == shape
            and (shape[1:] == (1, 1) or (x.order is None) == (b.layout == _FIRST))
        ):
            return _Value(node.inputs[0], shape)  # back to what was flattened before
    raise layer.unsupported(f"reshapes {x.shape} to {target}; reshaping is taken at the input, to a vector, and back")


def _add(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    if layer.kind == "Merge":
        if layer.get("mode", default="sum") != "sum":
            raise layer.unsupported(f"merge mode {_short(layer.get('mode'))}; 'sum' is taken")
        if layer.get("layers"):
            raise layer.unsupported("nested models; a flat Functional model is taken")
    inputs = [b.padded(layer, x) for x in inputs]
    if len(inputs) < 2:
        raise layer.bad(f"it has {len(inputs)} inputs; two or more are needed")
    first = inputs[0].order
    if any((x.order is None) != (first is None) for x in inputs) or (
        first is not None and not all(np.array_equal(x.order, first) for x in inputs)
    ):
        raise layer.unsupported("adds vectors of which only some come from a flatten")
    return replace(b.emit(FloatAdd, layer, "", [x.node for x in inputs]), order=first)


def _nothing(b: _Builder, layer: _Layer, inputs: list[_Value]) -> _Value:
    return b.one(layer, inputs)


# the only way from a name in a file to code
_BUILDERS: dict[str, Callable[[_Builder, _Layer, list[_Value]], _Value]] = {
    "Conv2D": _conv,
    "Convolution2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _depthwise,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "BatchNormalizationV1": _batch_norm,
    "BatchNormalizationV2": _batch_norm,
    "Activation": _activation,
    "ReLU": _relu,
    "Softmax": _softmax,
    "MaxPooling2D": _pool,
    "AveragePooling2D": _pool,
    "GlobalAveragePooling2D": _global_average,
    "ZeroPadding2D": _zero_padding,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Add": _add,
    "Merge": _add,
} | dict.fromkeys(
    (
        "ActivityRegularization",
        "AlphaDropout",
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
        "RandomContrast",
        "RandomFlip",
        "RandomRotation",
        "RandomTranslation",
        "RandomZoom",
        "SpatialDropout2D",
    ),
    _nothing,
)

_WHY = {
    "Lambda": "it carries Python code, which is never run",
    "Permute": "it mixes image axes; bring the network into one axis order first",
    "LSTM": "recurrent layers have no conversion to spikes here",
    "GRU": "recurrent layers have no conversion to spikes here",
    "SimpleRNN": "recurrent layers have no conversion to spikes here",
    "Rescaling": "take it out of the model and give its scale as the input scale",
    "GlobalMaxPooling2D": "use GlobalAveragePooling2D, or MaxPooling2D over the whole image",
    "LeakyReLU": "negative outputs have no spikes; use ReLU",
    "Sequential": "nested models are not taken; build one flat model",
    "Functional": "nested models are not taken; build one flat model",
    "Model": "nested models are not taken; build one flat model",
}


def _snake(name: str) -> str:
    """Name that Keras saves a layer of a class under."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _groups_of(source: _Source, layers: list[_Layer]) -> dict[str, str]:
    """Where each layer's arrays are: by name, or by position or class and counter in the listed order."""
    if source.naming == "name":
        return {layer.name: layer.name for layer in layers}
    if source.naming == "index":
        shift = 1 if layers[0].kind == "InputLayer" and len(source.weights) == len(layers) - 1 else 0
        return {layer.name: f"#{k - shift}" for k, layer in enumerate(layers)}
    groups, counts = {}, {}
    for layer in layers:
        base = _snake(layer.kind)
        number = counts[base] = counts.get(base, -1) + 1
        groups[layer.name] = f"{base}_{number}" if number else base
    return groups


def _layout_of(layers: list[_Layer], backend: str | None) -> str:
    for flat in (False, True):
        for layer in layers:
            if (layer.kind == "Flatten") == flat and (found := layer.data_format()) is not None:
                return found
    return _FIRST if backend == "theano" and any(layer.keras1 for layer in layers) else _LAST


def _input(b: _Builder, layer: _Layer, given: Sequence[int] | None, features: int | None) -> _Value:
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
        raise source.bad(f"the input shape is {_short(shape)}; (batch, sizes from 1 to {MAX_SIDE * 16}) is needed")
    if given is not None:
        given = tuple(given)
        wanted = None if shape is None else tuple(shape[1:])
        if wanted is not None and len(wanted) == 3 and b.layout == _LAST:
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
    if len(shape) == 3 and b.layout == _LAST:
        shape = (shape[2], shape[0], shape[1])
    return b.emit(FloatInput, source, "", (), shape=shape)


def _build(source: _Source, backend: str | None, given: Sequence[int] | None) -> FloatNetwork:
    config = source.config
    version = source.keras_version or config.get("keras_version")
    told = source.backend or config.get("backend")
    backend = backend or (told if isinstance(told, str) else None) or _only_backend(version)
    layers, output, listed = _layers_of(config, source.label)
    b = _Builder(source, backend, _layout_of(layers, backend), _groups_of(source, listed))
    values: dict[str, _Value] = {}
    for layer in layers:
        if layer.kind == "InputLayer":
            if any(isinstance(node, FloatInput) for node in b.nodes):
                raise layer.unsupported("a second input; exactly one is taken")
            values[layer.name] = _input(b, layer, given, None)
            continue
        builder = _BUILDERS.get(layer.kind)
        if builder is None:
            why = _WHY.get(layer.kind, f"the layers that can be taken are {', '.join(sorted(_BUILDERS))}")
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


def _finish(b: _Builder, value: _Value, layer: _Layer) -> _Value:
    value = b.padded(layer, value)
    if value.image:
        if value.shape[1:] != (1, 1):
            raise layer.unsupported(f"the output is an image {value.shape}; a vector of classes is taken")
        value = b.emit(FloatFlatten, layer, "classes", (value.node,))
    if value.order is not None:
        raise layer.unsupported("the output is a flattened image; a dense layer or a pooling has to follow")
    behind = {value.node}
    for node in reversed(b.nodes):
        if isinstance(node, FloatSoftmax) and node.name not in behind:
            raise UnsupportedError(f"layer {node.name!r} ({node.source}): softmax is only taken at the end")
        if node.name in behind and isinstance(node, FloatFlatten):
            behind.update(node.inputs)
    return value
