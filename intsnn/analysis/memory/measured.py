"""What do the arrays of a network really take: in its file, loaded, and in a run?

Everything here is the size of something that was made: packed arrays as `intsnn.files.save` stores them, buffers of a
run of one sample, random codes packed at the widths of an architecture.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np

from ...files.network_file import save
from ...files.nodes import LAYERS, write_layer
from ...files.record import PACKED
from ...formats.fixed import Fixed
from ...formats.packing import pack
from ...formats.weights import Bipolar
from ...network.spiking import Network
from .formulas import FLOAT_BITS, Item

__all__ = ["FileBytes", "allocate", "file_bytes", "network_items", "run_bytes", "runner_bytes", "with_run"]

MOST_BLOCK = 16  # samples that the fused path takes at a time at most
ATTRIBUTE = 8  # bytes of a whole number that is stored as an attribute
UNSIGNED = ("P", "Q", "R", "Sig", "spikes", "input events")  # symbols whose codes are never negative
# buffers of a run, by what the executor calls them
RUN_KINDS = {
    "v": "membranes", "u": "currents", "refractory": "traces", "count": "counts", "pending": "counts", "best": "counts",
    "total": "readouts", "offsets": "event buffers", "indices": "event buffers", "values": "event buffers",
    "delay line": "spikes", "late": "spikes", "silence": "inputs", "codes": "inputs",
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# an architecture without weights
# ---------------------------------------------------------------------------------------------------------------------


def allocate(items: Iterable[Item], seed: int = 0) -> dict[tuple[str, str, str], np.ndarray]:
    """Arrays of random numbers for `items`, by (layer, kind, name): what holds them at their widths.

    32-bit weights are float32, everything else random codes packed densely by `intsnn.formats.packing.pack`.
    """
    rng = np.random.default_rng(seed)
    arrays = {}
    for item in items:
        if item.width == FLOAT_BITS and item.kind in ("weights", "biases"):
            array = rng.standard_normal(item.count, np.float32)
        else:
            signed = item.name not in UNSIGNED
            fmt = Bipolar() if item.width == 1 and signed else Fixed(item.width, signed=signed)
            low, high = (0, 1) if isinstance(fmt, Bipolar) else (fmt.min, fmt.max)
            array = pack(rng.integers(low, high, item.count, endpoint=True), fmt)
        arrays[item.layer, item.kind, item.name] = array
    return arrays


# ---------------------------------------------------------------------------------------------------------------------
# the parameters and states of a network
# ---------------------------------------------------------------------------------------------------------------------


def network_items(network: Network) -> list[Item]:
    """Parameters (measured: as stored in a file) and states of one sample (not measured yet), at declared widths.

    Where a field has no declared width, it is the least that holds its values; a parameter that changes nothing (a bias
    of 0, a multiplier of 1) has width 0.
    """
    bounds = network.bounds()
    items = []
    for name in network.order:
        layer, bound = network.nodes[name], bounds[name]
        record = write_layer(layer, LAYERS, name)

        def parameter(kind, field, width, idle=None, name=name, layer=layer, record=record):
            values = np.asarray(attrgetter(field)(layer))
            stored = record.arrays.get(field + PACKED, record.arrays.get(field))
            used = idle is None or bool(np.any(values != idle))
            return Item(
                name, kind, field, values.size, width if used else 0, FLOAT_BITS if used else 0,
                stored.nbytes if stored is not None else ATTRIBUTE, values.nbytes,
            )  # fmt: skip

        items += [parameter(p.kind, p.field, p.bits, p.idle) for p in layer.parameters()]
        sources = network.inputs_of(name)
        shapes = [network.shapes[source] for source in sources]
        states = layer.states(shapes, network.shapes[name], [bounds[source] for source in sources], bound)
        items += [Item(name, s.kind, s.name, s.count, s.bits, s.float_bits) for s in states]
    return items


def run_bytes(network: Network, steps: int | None = None) -> tuple[dict[tuple[str, str, str], int], int]:
    """Bytes of the buffers of a run of one sample, step by step, and of the weights and constants prepared for it.

    Parameters
    ----------
    network : Network
    steps : int, optional
        Of the run: the longer it is, the wider are the integers that hold its states. By default it is driven for
        T_drive steps (without T_drive for one) and goes on to the settling bound.

    Returns
    -------
    dict of (layer, kind, name) to int
        Buffers of `intsnn.engine.backends.stepwise.plan.Worker`, as they are after a driven and an undriven step.
    int
        Arrays of the `Plan`: weights and parameters in the types that the kernels take.
    """
    from ...engine.backends.stepwise.plan import Plan, Worker
    from ...engine.inputs import Source
    from ...engine.program import lower
    from ...layers.schedule import Schedule

    sizes: dict[tuple[str, str], int] = {}

    class Measured(Worker):
        def buffer(self, name: str, what: str, shape: tuple[int, ...], dtype) -> np.ndarray:
            array = super().buffer(name, what, shape, dtype)
            sizes[name, what] = max(sizes.get((name, what), 0), array.nbytes)
            return array

    sources = {name: Source(network.nodes[name], _one_sample(network, name)) for name in network.inputs}
    driven = network.t_drive or steps or 1
    limit = max(steps or 0, driven + max(1, network.settling_bound or 0))
    plan = Plan(lower(network, Schedule(driven, driven, limit, driven, network.levels)), "step")
    worker = Measured(plan)
    worker.begin(sources, 0, 1)
    for step in (0, driven):
        worker.advance(step, 1)
    for name, codes in worker.codes.items():
        sizes[name, "codes"] = codes.nbytes
    found: dict[tuple[str, str, str], int] = {}
    for (name, what), size in sizes.items():
        if not size:
            continue
        kind = RUN_KINDS.get(what, "sums")
        if what == "out" and plan.by_name[name].node in network.spiking:
            kind = "spikes"
        key = plan.by_name[name].node, kind, what
        found[key] = max(size, found.get(key, 0))
    prepared = sum(_own_arrays(operation) for operation in plan.operations)
    return found, prepared


def _one_sample(network: Network, name: str) -> np.ndarray:
    """The least input: constant codes of a converted network, else one frame."""
    layer = network.nodes[name]
    value = min(max(0, layer.format.min), layer.format.max)
    frames = () if network.t_drive else (1,)
    return np.full((*frames, 1, *layer.shape), value, np.int64)


def runner_bytes(network: Network) -> dict[str, int]:
    """Buffers of one thread of the fused path by name, for as many samples as it takes at a time.

    Raises
    ------
    UnsupportedError
        The network has no fused form; the reason is named.
    """
    from ...engine.backends.fused.runner import prepare

    sample = _one_sample(network, network.input_name)
    runner = prepare(network, settle=network.levels is not None)
    runner(np.repeat(sample, MOST_BLOCK, axis=0 if network.t_drive else 1))
    return runner.buffers()


def _own_arrays(thing: Any) -> int:
    return sum(value.nbytes for value in vars(thing).values() if isinstance(value, np.ndarray))


def with_run(items: Iterable[Item], sizes: Mapping[tuple[str, str, str], int], real: Iterable[Item] = ()) -> list[Item]:
    """`items` with the measured `sizes` (by layer, kind, name) where there are any.

    `real` says how many numbers there really are, where that may differ. What no item stands for comes behind the
    others of its layer, uncounted.
    """
    left = dict(sizes)
    counts = {(item.layer, item.kind, item.name): item.count for item in real}
    found = []
    for item in items:
        key = item.layer, item.kind, item.name
        size, numbers = left.pop(key, None), counts.get(key, item.count)
        if size is not None:
            item = replace(item, measured_bytes=size, measured_count=None if numbers == item.count else numbers)
        found.append(item)
    found += [Item(*key, counts.get(key, 0), 0, 0, size) for key, size in left.items()]
    order = {layer: None for layer in (*(item.layer for item in real), *(item.layer for item in found))}
    places = {layer: place for place, layer in enumerate(order)}
    return sorted(found, key=lambda item: places[item.layer])


# ---------------------------------------------------------------------------------------------------------------------
# a file
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileBytes:
    """Where the bytes of a file are; they add up to `total`.

    Attributes
    ----------
    arrays : dict of str to int
        By dataset, as the arrays are: weights packed.
    compression : int
        What HDF5 makes of them (negative where deflate gains).
    attributes : int
        Numbers and texts of the layers and of the network, without their names.
    structure : int
        All the rest: names, types, tables and free space of HDF5.
    total : int
        Size of the file.
    """

    arrays: dict[str, int]
    compression: int
    attributes: int
    structure: int
    total: int


def file_bytes(network: Network, provenance: Mapping[str, Any] | None = None) -> FileBytes:
    """Save `network` to a temporary file and say where its bytes are."""
    from ...files.hdf5 import storage

    with tempfile.TemporaryDirectory(prefix="intsnn-") as folder:
        path = os.path.join(folder, "network.h5")
        save(network, path, provenance=provenance)
        total = os.path.getsize(path)
        datasets, attributes = storage(path)
    arrays = {name: size for name, (size, _) in datasets.items()}
    stored = sum(size for _, size in datasets.values())
    return FileBytes(arrays, stored - sum(arrays.values()), attributes, total - stored - attributes, total)
