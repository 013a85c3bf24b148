"""How is a network kept in a file of our own?

HDF5 with a version, everything in its narrowest form, written all or nothing, and read as if it came from a stranger.
Three kinds of file: a spiking ``"network"``, a ``"quantised-ann"`` and a ``"float-ann"``. Other programs may write the
last two as well: that is the way in for networks that were trained or quantised elsewhere. The layout is in
``docs/files.md``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import FormatError, ImportRefused, IntsnnError, ShapeError
from ..formats.arguments import flag, instance, mapping, path_of, shown, text, whole
from ..layers.base import output_shape
from ..network.floating import FloatNetwork
from ..network.quantised import InputScale, QuantisedNetwork
from ..network.spiking import Network
from ..support.version import __version__
from .hdf5 import MAX_NAME, MAX_OBJECTS, Tree, read_tree, write_tree
from .nodes import FLOAT_NODES, LAYERS, QUANTISED, read_layer, write_layer
from .record import NONE, PACKED, Budget, Record, code_of, refusal
from .values import FIXED, FORMAT, INT, JSON, SCALE, TEXT, TEXTS, plain_text

__all__ = [
    "FileInfo", "SCHEMA", "component", "from_tree", "info_from_tree", "is_ours", "load", "network_digest", "read_info",
    "save", "stored_bytes",
]  # fmt: skip

OURS = "intsnn"
SCHEMA = 1
KINDS = {"network": LAYERS, "quantised-ann": QUANTISED, "float-ann": FLOAT_NODES}
MAX_NODES = 1024
MAX_VALUES = 1 << 24  # of one sample in one layer: what follows from a few numbers must not fill the memory

_COMMON = ("format", "schema", "kind", "intsnn", "digest", "provenance", "metadata")
_OWN = {
    "network": ("t_drive", "levels"),
    "quantised-ann": ("output", "input_scale", "input_format"),
    "float-ann": ("output",),
}


@dataclass(frozen=True)
class FileInfo:
    """What a file says about itself.

    Attributes
    ----------
    kind : str
        ``"network"``, ``"quantised-ann"`` or ``"float-ann"``.
    schema : int
        Version of the layout.
    version : str
        Of the intsnn that wrote it; ``""`` where another program did.
    provenance : dict
        Where the network comes from and how it was made, as given to :func:`save`.
    sha256 : str
        Of the whole file; ``""`` where there is none.
    """

    kind: str
    schema: int
    version: str = ""
    provenance: dict = field(default_factory=dict)
    sha256: str = ""


# ---------------------------------------------------------------------------------------------------------------------
# writing
# ---------------------------------------------------------------------------------------------------------------------


def save(
    network: Network | QuantisedNetwork | FloatNetwork,
    path: str | os.PathLike[str],
    *,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a network to an HDF5 file, all or nothing.

    Parameters
    ----------
    network : Network, QuantisedNetwork or FloatNetwork
    path : path-like
        Usually ``*.h5``. A file of that name stays whole until the new one is complete and on disk.
    provenance : mapping, optional
        Plain JSON values: name and SHA-256 of the source, settings of the conversion.

    Raises
    ------
    FormatError
        If metadata, provenance or names cannot be stored, or there are more objects than a reader takes.
    UnsupportedError
        If a layer is of a class that has no place in the file.
    """
    if provenance is not None:
        mapping(provenance, "provenance")
    path = path_of(path)
    datasets, attributes = _flatten(network, provenance or {})
    write_tree(path, datasets, attributes)


def stored_bytes(network: Network | QuantisedNetwork | FloatNetwork) -> dict[str, dict[str, int]]:
    """Bytes that :func:`save` stores for each node, before any compression by HDF5.

    Returns
    -------
    dict of str to dict of str to int
        By node, then by field for what is an array (weights packed), and ``"attributes"`` for all single numbers and
        texts together (64 bits a number).
    """
    registry, nodes = _parts(network)
    sizes = {}
    for name, layer in nodes.items():
        record = write_layer(layer, registry, name)
        sizes[name] = {key.removesuffix(PACKED): array.nbytes for key, array in record.arrays.items()}
        sizes[name]["attributes"] = sum(_attribute_bytes(value) for value in record.attributes.values()) + sum(
            8 * len(shape) for shape in record.shapes.values()
        )
    return sizes


def _attribute_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list):
        return sum(len(item.encode()) for item in value)
    return value.nbytes if isinstance(value, np.ndarray) else 8


def _parts(network: Network | QuantisedNetwork | FloatNetwork) -> tuple[Mapping[str, type], dict[str, Any]]:
    if isinstance(network, Network):
        return LAYERS, dict(network.nodes)
    if isinstance(network, QuantisedNetwork):
        return QUANTISED, {node.name: node for node in network.graph.nodes}
    if isinstance(network, FloatNetwork):
        return FLOAT_NODES, {node.name: node for node in network.nodes}
    raise FormatError(f"network: {shown(network)} cannot be saved; a Network, QuantisedNetwork or FloatNetwork can")


def _flatten(network: Network | QuantisedNetwork | FloatNetwork, provenance: Mapping) -> tuple[dict, dict]:
    """Datasets and attributes of the whole file, by path."""
    registry, nodes = _parts(network)
    datasets: dict[str, np.ndarray] = {}
    attributes: dict[str, dict[str, Any]] = {"nodes": {"order": list(nodes)}}
    for name, layer in nodes.items():
        path = f"nodes/{component(name)}"
        record = write_layer(layer, registry, name)
        attributes[path] = record.attributes
        for key, array in record.arrays.items():
            datasets[f"{path}/{key}"] = array
        for key, shape in record.shapes.items():
            attributes[f"{path}/{key}"] = {"shape": np.asarray(shape, np.int64)}
    # a reader needs all of these: where the end of the list is lost, `format` is the first to be missed
    root = Record(attributes={"intsnn": __version__})
    JSON.put(root, "provenance", provenance)
    shapes: Mapping[str, tuple[int, ...]]
    if isinstance(network, Network):
        index = {name: i for i, name in enumerate(nodes)}
        edges = [(index[a], index[b]) for a, b in network.edges]
        datasets["edges"] = np.asarray(edges, np.uint16).reshape(-1, 2)
        kind, shapes = "network", network.shapes
        JSON.put(root, "metadata", network.metadata)
        for name in _OWN[kind]:
            value = getattr(network, name)
            root.attributes[name] = NONE if value is None else int(value)
    else:
        graph = network if isinstance(network, FloatNetwork) else network.graph
        kind, shapes = "float-ann", graph.shapes
        JSON.put(root, "metadata", graph.metadata)
        TEXT.put(root, "output", graph.output)
        if isinstance(network, QuantisedNetwork):
            kind = "quantised-ann"
            SCALE.put(root, "input_scale", network.input_scale)
            FORMAT.put(root, "input_format", network.input_format)
    root.attributes |= {"kind": kind, "schema": SCHEMA, "format": OURS}
    objects = len(datasets) + len(nodes) + 1
    if len(nodes) > MAX_NODES or objects > MAX_OBJECTS:
        raise FormatError(
            f"the network has {len(nodes)} layers and {len(datasets)} arrays; a file holds {MAX_NODES} layers and "
            f"{MAX_OBJECTS} objects"
        )
    for name, shape in shapes.items():
        if math.prod(shape) > MAX_VALUES:
            raise ShapeError(f"layer {name!r}: {shape} are more values than the {MAX_VALUES} that a file may ask for")
    attributes[""] = root.attributes
    attributes[""] = {"digest": _digest(datasets, attributes), **attributes[""]}
    return datasets, attributes


def component(name: str) -> str:
    """Name of the group of a node: HDF5 has no ``/`` in names, and ``.`` and ``..`` mean something else."""
    plain_text(name, "the name of a layer")
    escaped = name.replace("%", "%25").replace("/", "%2F")
    if escaped in (".", ".."):
        escaped = escaped.replace(".", "%2E")
    if not escaped or len(escaped.encode()) > MAX_NAME:
        raise FormatError(f"the name of a layer is {name[:60]!r}; 1 to {MAX_NAME} bytes are possible")
    return escaped


def network_digest(network: Network | QuantisedNetwork | FloatNetwork) -> str:
    """SHA-256 of what a network computes, hexadecimal: the digest of its file without what is told about it.

    Version, provenance and metadata are left out (``docs/files.md``): the same layers, values and edges have the same
    digest, wherever they come from and whichever version stores them.
    """
    datasets, attributes = _flatten(network, {})
    told = ("digest", "intsnn", "provenance", "metadata")
    attributes[""] = {name: value for name, value in attributes[""].items() if name not in told}
    return _digest(datasets, attributes)


def _digest(datasets: Mapping[str, np.ndarray], attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 over every array and attribute in a fixed order, except the digest itself."""
    digest = hashlib.sha256()

    def line(*parts: Any) -> None:
        digest.update(json.dumps(parts).encode() + b"\n")

    for path in sorted(datasets):
        array = datasets[path]
        line("dataset", path, array.dtype.newbyteorder("<").str, list(array.shape))
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    for path in sorted(attributes):
        for name in sorted(attributes[path]):
            if (path, name) == ("", "digest"):
                continue
            value = attributes[path][name]
            if isinstance(value, np.ndarray):
                value = ["array", value.dtype.str, list(value.shape), value.tolist()]
            line("attribute", path, name, type(value).__name__, value)
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# reading
# ---------------------------------------------------------------------------------------------------------------------


def load(
    path: str | os.PathLike[str], *, trust: bool = False, budget: int = 1 << 30
) -> Network | QuantisedNetwork | FloatNetwork:
    """Read a network from a file that :func:`save` or, for quantised and float networks, another program wrote.

    Parameters
    ----------
    path : path-like
    trust : bool
        Read in this process instead of a child with limited resources (:func:`intsnn.files.hdf5.read_tree`): quicker,
        and only for files of known origin. Everything is checked either way.
    budget : int
        Most bytes that the arrays may take, in the file and again in memory.

    Raises
    ------
    DataNotFoundError
        If there is no such file.
    ImportRefused
        If the file or anything in it is not as it has to be; ``where`` names the object, ``code`` the rule: those of
        :func:`intsnn.files.hdf5.read_tree`, and ``format, schema, kind, digest, field, enum, range, shape, json, name,
        order, edges, size-mismatch, budget``.
    """
    path, trust, budget = path_of(path), flag(trust, "trust"), whole(budget, "budget", 1)
    return from_tree(read_tree(path, trust=trust, budget=budget), path, budget=budget)


def read_info(path: str | os.PathLike[str], *, trust: bool = False) -> FileInfo:
    """What a file says about itself; parameters and errors are those of :func:`load`."""
    path = path_of(path)
    return info_from_tree(read_tree(path, trust=flag(trust, "trust")), path)


def is_ours(tree: Tree) -> bool:
    """Whether what was read claims to be a file of ours; importers of other formats need not look at it then."""
    return instance(tree, "tree", Tree).attribute("", "format") == OURS


def info_from_tree(tree: Tree, label: str) -> FileInfo:
    """As :func:`read_info`, of a file called `label` that was read already."""
    return _header(instance(tree, "tree", Tree), text(label, "label"))[0]


def from_tree(tree: Tree, label: str, *, budget: int = 1 << 30) -> Network | QuantisedNetwork | FloatNetwork:
    """As :func:`load`, of a file called `label` that was read already."""
    info, root, metadata = _header(instance(tree, "tree", Tree), text(label, "label"))
    registry = KINDS[info.kind]
    order, records = _records(tree, label, extra=("edges",) if info.kind == "network" else ())
    left = Budget(whole(budget, "budget", 1))
    if info.kind == "network":
        nodes = {name: read_layer(record, registry, left) for name, record in zip(order, records, strict=True)}
        edges = _edges(tree, label, order)
        t_drive, levels = (_optional_int(root, name) for name in _OWN["network"])
        root.finish(", ".join(_COMMON + _OWN["network"]))
        return _checked(label, lambda: _network(label, nodes, edges, t_drive, levels, metadata))
    layers = tuple(read_layer(record, registry, left, name=name) for name, record in zip(order, records, strict=True))
    output = TEXT.get(root, "output")
    quantised = info.kind == "quantised-ann"
    scale = SCALE.get(root, "input_scale") if quantised and root.has("input_scale") else InputScale()
    fmt = FIXED.get(root, "input_format") if quantised and root.has("input_format") else QuantisedNetwork.input_format
    root.finish(", ".join(_COMMON + _OWN[info.kind]))
    graph = _checked(label, lambda: FloatNetwork(layers, output, metadata))
    _check_values(label, graph.shapes)
    if not quantised:
        return graph
    return _checked(label, lambda: QuantisedNetwork(graph, scale, fmt))


def _header(tree: Tree, label: str) -> tuple[FileInfo, Record, dict]:
    """Format, schema, kind, digest and the JSON parts; the record of the root with the rest still to be taken."""
    root = Record(label, "", dict(tree.attributes.get("", {})))
    if not is_ours(tree):
        raise refusal(
            label,
            "",
            f"is HDF5, but no file of intsnn (its attribute 'format' has to be {OURS!r}); convert it first",
            "format",
        )
    TEXT.get(root, "format")
    schema = INT.get(root, "schema")
    if schema != SCHEMA:
        raise refusal(
            label,
            "",
            f"has schema {schema}; this intsnn ({__version__}) reads schema {SCHEMA}"
            + ("; upgrade intsnn" if schema > SCHEMA else ""),
            "schema",
        )
    kind = TEXT.get(root, "kind")
    if kind not in KINDS:
        raise refusal(label, "", f"holds a {kind[:60]!r}; one of {', '.join(KINDS)} is needed", "kind")
    version = TEXT.get(root, "intsnn") if root.has("intsnn") else ""
    digest = TEXT.get(root, "digest") if root.has("digest") else ""
    # who writes by hand need not compute it; where we wrote, it has to be there
    if digest or version:
        found = _digest(tree.datasets, tree.attributes)
        if digest != found:
            raise refusal(label, "", "its contents do not fit its digest; the file is damaged or was edited", "digest")
    provenance, metadata = (JSON.get(root, name) if root.has(name) else {} for name in ("provenance", "metadata"))
    return FileInfo(kind, schema, version, provenance, tree.sha256), root, metadata


def _optional_int(root: Record, name: str) -> int | None:
    if not root.has(name):
        return None
    if root.attributes[name] == NONE:
        root.take(name)
        return None
    return INT.get(root, name)


def _records(tree: Tree, label: str, extra: tuple[str, ...]) -> tuple[tuple[str, ...], list[Record]]:
    """The nodes in their order; every group, dataset and attribute of the file has to belong to one of them."""
    top = Record(label, "nodes", dict(tree.attributes.get("nodes", {})))
    order = TEXTS.get(top, "order")
    top.finish("order")
    if not 1 <= len(order) <= MAX_NODES or len(set(order)) < len(order):
        raise top.refuse(f"'order' names {len(order)} nodes; 1 to {MAX_NODES}, each once, are possible", "order")
    records: dict[str, Record] = {}
    for name in order:
        try:
            path = f"nodes/{component(name)}"
        except FormatError as error:
            raise top.refuse(f"'order': {error}", "name") from None
        if path not in tree.groups:
            raise top.refuse(f"'order' names {name[:60]!r}, but there is no group {path[:80]!r}", "order")
        records[path] = Record(label, path, dict(tree.attributes.get(path, {})))
    for path in tree.groups:
        if path not in records and path not in ("", "nodes"):
            raise refusal(label, path, "is a group that 'order' does not name", "order")
    for path, array in tree.datasets.items():
        group, _, name = path.rpartition("/")
        found = dict(tree.attributes.get(path, {}))
        if path in extra:
            shape = None
        elif group in records:
            records[group].arrays[name] = array
            shape = found.pop("shape", None) if name.endswith(PACKED) else None
        else:
            raise refusal(label, path, "is a dataset that belongs to no node")
        if found:
            raise refusal(label, path, f"has the attribute {next(iter(found))!r}, which is unknown here")
        if shape is not None:
            holder = Record(label, path, {"shape": shape})
            if not isinstance(shape, np.ndarray) or shape.ndim != 1 or shape.dtype.kind not in "iu":
                raise holder.refuse("its attribute 'shape' is no list of whole numbers", "shape")
            if shape.size and not (1 <= int(shape.min()) and int(shape.max()) < 1 << 31):
                raise holder.refuse(f"its attribute 'shape' holds {shape.min()} to {shape.max()}", "shape")
            records[group].shapes[name] = tuple(int(n) for n in shape)
    return order, list(records.values())


def _edges(tree: Tree, label: str, order: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    if "edges" not in tree.datasets:
        raise refusal(label, "edges", "is missing; a network has a dataset (E, 2) of places in the order", "edges")
    edges = tree.datasets["edges"]
    if edges.dtype.kind not in "iu" or edges.ndim != 2 or edges.shape[1] != 2:
        raise refusal(
            label, "edges", f"is {edges.dtype} of shape {edges.shape}; whole numbers (E, 2) are needed", "edges"
        )
    if len(edges) > MAX_NODES * 16:
        raise refusal(label, "edges", f"has {len(edges)} edges; at most {MAX_NODES * 16} are read", "edges")
    if edges.size and not (0 <= int(edges.min()) and int(edges.max()) < len(order)):
        raise refusal(
            label, "edges", f"names node {edges.min()} to {edges.max()}; there are 0 to {len(order) - 1}", "edges"
        )
    return tuple((order[a], order[b]) for a, b in edges.tolist())


def _network(label: str, nodes: dict, edges: tuple, t_drive, levels, metadata: dict) -> Network:
    _check_values(label, _rough_shapes(nodes, edges))
    return Network(nodes, edges, t_drive, levels, metadata)


def _rough_shapes(nodes: Mapping[str, Any], edges: tuple) -> dict[str, tuple[int, ...]]:
    """Shapes as `Network` will infer them, before it makes anything of that size; what does not fit is left to it."""
    sources: dict[str, list[str]] = {name: [] for name in nodes}
    for a, b in edges:
        sources[b].append(a)
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(len(nodes)):
        before = len(shapes)
        for name, layer in nodes.items():
            if name in shapes:
                continue
            known = [shapes[source] for source in sources[name] if source in shapes]
            found = layer.output_shape(name, []) if layer.takes_input else layer.shape_in_a_loop(known)
            if found is None and known and len(known) == len(sources[name]):
                found = output_shape(name, layer, known)
            if found is not None:
                shapes[name] = found
            if name in shapes and math.prod(shapes[name]) > MAX_VALUES:
                return {name: shapes[name]}
        if len(shapes) == before:
            break
    return shapes


def _check_values(label: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        if math.prod(shape) > MAX_VALUES:
            raise refusal(
                label,
                f"nodes/{name}",
                f"a sample would have {shape} values here; at most {MAX_VALUES} are read",
                "shape",
            )


def _checked(label: str, build: Any) -> Any:
    """Run a constructor; what it finds wrong is said of the file."""
    try:
        return build()
    except ImportRefused:
        raise
    except IntsnnError as error:
        raise refusal(label, "", str(error), code_of(error)) from None
