"""What is in a file that Keras wrote: the architecture and the arrays of each layer, whatever the age of the layout.

Legacy HDF5 (``layer_names``, or ``nb_layers`` of Keras 1), ``.weights.h5`` (``layers/<group>/vars/<number>``) and the
``.keras`` archive around it. Sizes are checked before anything is taken in; what a name means is left to the caller.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...errors import DataNotFoundError, ImportRefused, UnsupportedError
from ...files.hdf5 import Tree, read_tree, read_tree_bytes
from ..torch.advice import state_dict_advice, torch_archive
from .graph import MAX_LAYERS

__all__ = ["Array", "Source", "parse_json", "read", "read_json"]

MAX_JSON = 1 << 20
MAX_JSON_DEPTH = 32

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


@dataclass(frozen=True)
class Array:
    """An array of a layer."""

    path: str
    role: str  # kernel, bias, ...; "" where the file only numbers them
    value: np.ndarray
    kind: str  # its type, as the file has it
    owner: str = ""  # names before its own: that of the layer it belongs to comes last

    @property
    def real(self) -> bool:
        """Whether it holds numbers that a float network can have."""
        return self.value.dtype.kind == "f" and self.kind != "bfloat16"


@dataclass(frozen=True)
class Source:
    """What one file holds; `config` is None where it has weights only."""

    label: str
    format: str
    sha256: str
    config: Any = None
    keras_version: str | None = None
    backend: str | None = None
    # weights by layer name, in the order of the file; or, without names, by "#0", "#1", ... or by saved group, where
    # "sequential/dense" is a group within a nested model's
    weights: Mapping[str, list[Array]] = field(default_factory=dict)
    naming: str = "name"  # name, index or class
    names: Mapping[str, str | None] = field(default_factory=dict)  # of the saved groups: the layer's, if it is told


def read(path: str | os.PathLike[str], *, trust: bool, budget: int) -> Source:
    """Return what a file holds; ``.keras`` archives and HDF5 are told apart by content.

    Raises
    ------
    ImportRefused, DataNotFoundError, UnsupportedError
        As :func:`intsnn.models.keras.load.load` says.
    """
    label = os.fspath(path)
    if _is_zip(label):
        return _read_archive(label, trust, budget)
    return _read_hdf5(label, read_tree(path, trust=trust, budget=budget, skip=_SKIP, attributes=_ATTRIBUTES))


def _is_zip(path: str) -> bool:
    try:
        if not os.path.isfile(path):
            return False  # the HDF5 reader says what it is
        with open(path, "rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def read_json(path: str) -> dict:
    """Return the JSON object in a file; refuses one that is too long, too deep or none."""
    if not os.path.exists(path):
        raise DataNotFoundError(f"there is no architecture file {path}")
    if not os.path.isfile(path):
        raise ImportRefused(f"{path}: is not a regular file; a JSON file is needed", code="not-regular")
    with open(path, "rb") as file:
        return parse_json(file.read(MAX_JSON + 1), path)


def parse_json(data: bytes | str, label: str) -> dict:
    """Return the JSON object in a text, whose size and depth are checked first; `label` names it in errors."""
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


def _read_archive(label: str, trust: bool, budget: int) -> Source:
    limits = {"config.json": MAX_JSON, "metadata.json": 1 << 16, "model.weights.h5": budget}
    members: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(label) as archive:
            names = archive.namelist()
            if "config.json" not in names or "model.weights.h5" not in names:
                if any(name.endswith("data.pkl") for name in names):
                    raise torch_archive(label)
                raise ImportRefused(f"{label}: is a zip archive, not a Keras model", code="zip")
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
    config = parse_json(members["config.json"], f"{label}: config.json")
    version = None
    if "metadata.json" in members:
        version = parse_json(members["metadata.json"], f"{label}: metadata.json").get("keras_version")
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


def _read_hdf5(label: str, tree: Tree) -> Source:
    found: dict[str, Any] = {}
    for group in ("", "model_weights"):
        for name in ("keras_version", "backend", "model_config"):
            value = tree.attribute(group, name)
            if isinstance(value, list) and len(value) == 1:
                value = value[0]
            if isinstance(value, str):
                found.setdefault(name, value)
    config = parse_json(found["model_config"], f"{label}: model_config") if "model_config" in found else None
    common: dict[str, Any] = {"sha256": tree.sha256, "config": config}
    common |= {"keras_version": found.get("keras_version"), "backend": found.get("backend")}
    for group in ("model_weights", ""):
        names = _names(tree, group, "layer_names")
        if names is not None:
            kind = "keras h5 (model)" if config is not None else "keras h5 (weights)"
            return Source(label, kind, weights=_named_weights(label, tree, group, names), **common)
    for group in ("model_weights", ""):
        count = tree.attribute(group, "nb_layers")
        if isinstance(count, int):
            weights = _counted_weights(label, tree, group, count)
            return Source(label, "keras 1 h5 (nb_layers)", weights=weights, naming="index", **common)
    source = _read_numbered(label, tree)
    if source is None:
        raise ImportRefused(
            f"{label}: is HDF5, but not of Keras: neither 'layer_names' nor 'nb_layers' nor a group 'layers'; "
            f"{state_dict_advice()}",
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
    "variance": "variance",
    "mean": "mean",
    "count": "count",
    "mask": "mask",
    "threshold": "threshold",
    "pruning_step": "pruning_step",
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


def _named_weights(label: str, tree: Tree, group: str, names: list[str]) -> dict[str, list[Array]]:
    if len(set(names)) < len(names):
        raise ImportRefused(f"{label}: 'layer_names' names a layer twice", code="weights", where=group)
    weights: dict[str, list[Array]] = {}
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
            entries.append(_array(tree, full, _role(weight), weight.rpartition("/")[0]))
        weights[name] = entries
    for path in tree.datasets:
        if path not in used and (not group or path.startswith(group + "/")) and "top_level_model_weights" not in path:
            raise ImportRefused(f"{label}: the array {path!r} belongs to no layer", code="weights", where=path)
    return weights


def _counted_weights(label: str, tree: Tree, group: str, count: int) -> dict[str, list[Array]]:
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
            entries.append(_array(tree, full))
        weights[f"#{k}"] = entries
    return weights


def _read_numbered(label: str, tree: Tree) -> Source | None:
    """Read ``layers/<group>/vars/<i>``, as ``.keras`` and ``.weights.h5`` have it."""
    for root in ("layers", "_layer_checkpoint_dependencies"):
        if root not in tree.groups:
            continue
        weights: dict[str, list[Array]] = {}
        names: dict[str, str | None] = {}
        for group in tree.groups:
            match = re.fullmatch(rf"{root}/(.+)/vars", group)
            if match and not match[1].endswith("/seed_generator"):
                arrays = tree.below(group)
                try:
                    order = sorted(arrays, key=int)
                except ValueError:
                    raise ImportRefused(f"{label}: {group!r} holds more than numbers", code="weights") from None
                key = match[1].replace(f"/{root}/", "/")
                weights[key] = [_array(tree, f"{group}/{i}") for i in order]
                name = tree.attribute(group, "name")
                names[key] = name if isinstance(name, str) else None
        known = {array.path for entries in weights.values() for array in entries}
        for path in tree.datasets:
            if path.startswith(root + "/") and path not in known and "/seed_generator/" not in path:
                raise UnsupportedError(f"{label}: the array {path!r} is none of those that layers of Keras have")
        common: dict[str, Any] = {"sha256": tree.sha256, "backend": "tensorflow"}
        return Source(label, "keras weights.h5", weights=weights, naming="class", names=names, **common)
    return None


def _array(tree: Tree, path: str, role: str = "", owner: str = "") -> Array:
    """An array as it is; what needs real numbers looks at `Array.real`."""
    value = tree.datasets[path]
    told = tree.attribute(path, "dtype")
    kind = told if isinstance(told, str) else str(value.dtype)
    if value.dtype == np.float16:
        value = value.astype(np.float32)
    return Array(path, role, value, kind, owner)
