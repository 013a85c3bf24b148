"""What is in a file of records: the layout, written while a run goes on, and read again.

The layout is schema 2 of ``docs/files.md``: one group a layer below ``layers``, named as in a file of a network, one
dataset a quantity in it, and what belongs to the samples (inputs, outputs, predictions, labels) below ``samples``. No
name of a layer can collide with another, or with what else the file holds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ImportRefused, RangeError
from ..formats.fixed import Fixed
from ..support.version import __version__
from .hdf5 import open_record, read_tree
from .network_file import component, network_digest

__all__ = ["LENGTHS", "Recording", "RecordingWriter", "load", "stored_type"]

FORMAT, SCHEMA = "intsnn-record", 2
LENGTHS = ("ragged", "equal")
HELD = ("v", "u", "counts")  # keep their last value where a sample is at rest; all others are 0 there
MOST_RATIO = 1100  # deflate makes no more than 1032 of 1, of which silence is


def _signed(low: int, high: int) -> np.dtype:
    """The narrowest signed type that holds `low` to `high`."""
    for bits in (8, 16, 32):
        if -(1 << bits - 1) <= low and high < 1 << bits - 1:
            return np.dtype(f"i{bits // 8}")
    return np.dtype(np.int64)


def stored_type(layer: Any, bound: Any, quantity: str) -> np.dtype:
    """The narrowest signed type that is proven to hold a quantity of a layer, from its formats and its `Bound`.

    The same for every path and batch, since bounds know neither.
    """
    if quantity == "u":
        return _signed(*_ends(layer.u_format, layer.u_range))
    if quantity == "v":
        low, high = layer.v_format.min, layer.v_format.max
        if bound.v_low is None:  # nothing is proven of what leaks
            return _signed(low, high)
        proven_low, proven_high = int(bound.v_low.min()), int(bound.v_high.max())
        inside = low <= proven_low and proven_high <= high  # else an overflow may give any code of the format
        return _signed(proven_low, proven_high) if inside else _signed(low, high)
    if quantity == "counts":
        return _signed(min(0, int(bound.total_low.min())), max(0, int(bound.total_high.max())))
    return _signed(min(0, int(bound.low.min())), max(0, int(bound.high.max())))


def _ends(fmt: Fixed, ends: tuple[int, int] | None) -> tuple[int, int]:
    low, high = (fmt.min, fmt.max) if ends is None else ends
    return min(0, low), max(0, high)


class RecordingWriter:
    """Writes records block by block; a context manager, like `intsnn.files.hdf5.RecordWriter`.

    Parameters
    ----------
    path : path-like
    network : Network
    wanted : mapping of layer to tuple of str
        Quantities to keep.
    bounds : mapping of layer to Bound
        Of the run.
    facts : mapping of str to int or str
        Attributes of the file.
    input_shape : tuple of int
        Of one sample: ``(*shape)``, or ``(T, *shape)`` where the input has a time axis.
    labels : (N,) or (N, H, W) integers, or None
    length : {"ragged", "equal"}
    """

    def __init__(
        self, path: str | os.PathLike[str], network, wanted: Mapping[str, tuple[str, ...]], bounds, facts: Mapping,
        input_shape: tuple[int, ...], labels: np.ndarray | None, length: str,
    ) -> None:  # fmt: skip
        self.equal, self.labels, self.samples = length == "equal", labels, 0
        size = int(np.prod(network.shapes[network.output_name]))
        source = network.nodes[network.input_name].format
        maps = network.shapes[network.output_name]
        pixels = maps[1:] if len(maps) == 3 and maps[1:] != (1, 1) else ()
        fields: dict[str, tuple[tuple, Any]] = {
            "samples/rows": ((), np.int32),
            "samples/extra_steps": ((), np.int32),
            "samples/inputs": (input_shape, _signed(source.min, source.max) if source.signed else source.dtype),
            "samples/outputs": ((size,), np.int64),
            "samples/predictions": (pixels, np.int32),
        }
        if labels is not None:
            fields["samples/labels"] = (labels.shape[1:], np.int32)
        attributes: dict[str, dict[str, Any]] = {
            "": {"format": FORMAT, "schema": SCHEMA, "intsnn": __version__, "network_sha256": network_digest(network),
                 "length": length, **facts},
            "layers": {"order": list(wanted)},
        }  # fmt: skip
        self.paths: dict[str, str] = {}
        for name, quantities in wanted.items():
            group = f"layers/{component(name)}"
            shape = network.shapes[name]
            attributes[group] = {"kind": type(network.nodes[name]).__name__, "shape": np.asarray(shape, np.int64)}
            for quantity in quantities:
                self.paths[f"{name}.{quantity}"] = path_ = f"{group}/{quantity}"
                kind = stored_type(network.nodes[name], bounds[name], quantity)
                fields[path_] = ((None, *shape) if self.equal else shape, kind)
        self.types = {name: np.dtype(kind) for name, (_, kind) in fields.items()}
        self.file = open_record(path, fields, attributes, rows=int(facts["steps"]))

    def __enter__(self) -> RecordingWriter:
        self.file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.__exit__(*error)

    def take(self, block, inputs: np.ndarray, predictions: np.ndarray) -> None:
        """Add a `simulate._Block`, the raw integers that went in and the predictions of its samples."""
        lengths, count = block.lengths, len(block.outputs)
        labels = None if self.labels is None else self.labels[self.samples : self.samples + count]
        self.samples += count
        own = {"rows": lengths, "extra_steps": block.extra, "inputs": inputs, "outputs": block.outputs,
               "predictions": predictions, "labels": labels}  # fmt: skip
        for name, values in own.items():
            if values is not None:
                self._append(f"samples/{name}", np.asarray(values))
        for key, values in block.records.items():
            if not self.equal:
                values = np.concatenate([values[b, :length] for b, length in enumerate(lengths.tolist())])
            self._append(self.paths[key], values, key.rpartition(".")[2] in HELD)

    def _append(self, path: str, values: np.ndarray, hold: bool = False) -> None:
        kind = self.types[path]
        limits = np.iinfo(kind)
        if values.size and not (limits.min <= values.min() and values.max() <= limits.max):
            raise RangeError(f"record {path}: {values.min()} to {values.max()} do not fit {kind}")
        self.file.append(path, values.astype(kind), hold)


@dataclass(frozen=True, eq=False)
class Recording:
    """What a file of records holds.

    Attributes
    ----------
    network_sha256 : str
        Digest of the network that ran (`intsnn.files.network_digest`).
    steps, driven : int
        How many steps were observed at least, and how many of them were driven.
    settle : bool
    length : {"ragged", "equal"}
    rows, extra_steps : (N,) integers
        Steps of each sample, and those beyond the drive until its last spike.
    inputs : (N, *shape) or (N, T, *shape) integers
        As they were given, before the multiplier and the offset of the input.
    outputs : (N, K) int64
    predictions : (N,) or (N, H, W) integers
    labels : the same, or None
    layers : dict of str to dict of str to ndarray
        By layer and quantity: ``(N, T, *shape)`` where the length is equal, else ``(sum of rows, *shape)``.
    """

    network_sha256: str
    steps: int
    driven: int
    settle: bool
    length: str
    rows: np.ndarray
    extra_steps: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    predictions: np.ndarray
    labels: np.ndarray | None
    layers: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def sample(self, layer: str, quantity: str, index: int) -> np.ndarray:
        """The steps of one sample, ``(rows of it, *shape)``, whatever the length."""
        found = self.layers[layer][quantity]
        if self.length == "equal":
            return found[index, : self.rows[index]]
        start = int(self.rows[:index].sum(dtype=np.int64))
        return found[start : start + int(self.rows[index])]


def load(path: str | os.PathLike[str], *, trust: bool = False, budget: int = 1 << 30) -> Recording:
    """Read a file of records.

    Parameters
    ----------
    path : path-like
    trust : bool
        Read in this process, as `intsnn.files.load` says.
    budget : int
        Most bytes of all arrays together.

    Raises
    ------
    DataNotFoundError, ImportRefused
        No such file, or one that is no file of records of this schema.
    """
    label = os.fspath(path)
    tree = read_tree(path, trust=trust, budget=budget, ratio=MOST_RATIO)
    root = tree.attributes.get("", {})
    if root.get("format") != FORMAT or root.get("schema") != SCHEMA:
        raise ImportRefused(f"{label} holds no records of schema {SCHEMA}", code="format")
    own = tree.below("samples")
    order = tree.attribute("layers", "order", [])
    try:
        found = Recording(
            str(root["network_sha256"]), int(root["steps"]), int(root["driven"]), bool(root["settle"]),
            str(root["length"]), own["rows"], own["extra_steps"], own["inputs"], own["outputs"], own["predictions"],
            own.get("labels"),
            {name: tree.below(f"layers/{component(name)}") for name in (order if isinstance(order, list) else ())},
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ImportRefused(f"{label} is no file of records that can be read: {error!r}", code="field") from None
    count = len(found.rows)
    fits = found.length in LENGTHS and all(len(own[name]) == count for name in own)
    total = count if found.length == "equal" else int(found.rows.sum(dtype=np.int64))
    if not fits or any(len(array) != total for layer in found.layers.values() for array in layer.values()):
        raise ImportRefused(f"{label}: the arrays do not have one entry for each sample", code="shape")
    return found
