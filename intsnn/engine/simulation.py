"""Run a network on data: the same integers for every batch size, thread count and path.

Three numbers that are not to be mixed up: L (levels, `max_count` of the neurons), T_drive (in the
network: how long input and bias flow) and `steps` (how long is observed). See ``docs/semantics.md``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FormatError, RangeError, ShapeError
from ..formats.arguments import (
    STEPS,
    choice,
    flag,
    function_or_none,
    path_of,
    seed_of,
    sequence,
    shown,
    whole,
    whole_or_none,
)
from ..formats.fixed import Overflow
from ..layers.base import MaxPool2d, Readout, integers
from ..layers.neurons import Neuron
from ..network.bounds import fits
from ..network.schedule import duration
from ..network.spiking import spiking_network
from .backends.stepwise.plan import PATHS, Plan, Worker
from .inputs import Source
from .result import LayerReport, Result, predict, to_api

if TYPE_CHECKING:
    from ..files.recording import RecordingWriter

__all__ = ["simulate"]

QUANTITIES = ("spikes", "counts", "v", "u", "current")
BLOCK_BYTES = 2 << 20  # largest buffer of a block: a few of them stay in cache
MOST_SAMPLES = 64
MOST_THREADS = 1024


@dataclass(eq=False)
class _Block:
    """What a worker hands back for the samples ``start..stop``."""

    start: int
    stop: int
    outputs: np.ndarray
    extra: np.ndarray
    steps: int
    settled: bool
    reports: dict[str, dict]
    overflows: tuple[tuple | None, tuple | None]
    records: dict[str, np.ndarray]
    lengths: np.ndarray
    final: dict[str, np.ndarray]


def record_dtype(plan, name: str, quantity: str):
    """Type of a record: int8 for spikes (a max-pool of currents may send more), else int64."""
    bound = plan.bounds[name]
    return np.int8 if quantity == "spikes" and fits(bound.low, bound.high, 8) else np.int64


def _wanted(network, record: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`record` as quantities per layer; ``"v"`` means v of every neuron layer."""
    wanted: dict[str, set[str]] = {}
    for entry in (record,) if isinstance(record, str) else sequence(record, "record", "names are needed"):
        if not isinstance(entry, str):
            raise FormatError(f"record: found {shown(entry)}; names are needed")
        name, _, quantity = entry.rpartition(".")
        if quantity not in QUANTITIES or (name and name not in network.nodes):
            raise FormatError(
                f"record: found {shown(entry)}; give a quantity ({', '.join(QUANTITIES)}) or layer.quantity with a "
                f"layer of {', '.join(network.nodes)}"
            )
        for target in (name,) if name else _layers_with(network, quantity):
            if target not in _layers_with(network, quantity):
                raise FormatError(f"record: {target} ({type(network.nodes[target]).__name__}) has no {quantity}")
            wanted.setdefault(target, set()).add(quantity)
    return {name: tuple(sorted(quantities)) for name, quantities in wanted.items()}


def _layers_with(network, quantity: str) -> tuple[str, ...]:
    if quantity == "v":
        return network.neurons
    if quantity == "u":
        return tuple(name for name in network.neurons if network.nodes[name].u_format is not None)
    if quantity in ("spikes", "counts"):
        return network.spiking
    return tuple(n for n in network.nodes if not isinstance(network.nodes[n], Neuron | MaxPool2d | Readout))


class _Run:
    """One simulation: cuts the samples into blocks and puts the blocks together again."""

    def __init__(self, network, source, steps, settle, wanted, keep_final, path, seed) -> None:
        self.network, self.source, self.settle = network, source, settle
        self.wanted, self.keep_final = wanted, keep_final
        length = duration(network, source.steps, steps, settle)
        self.driven, self.minimum, self.limit = length.driven, length.least, length.limit
        output = network.output_name
        if not isinstance(network.nodes[output], Neuron | MaxPool2d | Readout):
            raise ShapeError(f"Network: the output {output!r} has no counts; end with a Neuron or a Readout")
        if path == "layer" and network.recurrent:
            raise FormatError("path: a recurrent network has no layer path; use step")
        if path == "auto":
            path = "step" if network.recurrent else "layer"
        self.plan = Plan(network, self.limit, self.driven, path, seed, counts=keep_final)

    @property
    def input_steps(self) -> int:
        """Steps of an input with a time axis that are looked at."""
        return min(self.driven, self.source.steps or self.driven)

    def inputs(self, block: _Block) -> np.ndarray:
        """What went into a block: ``(B, *shape)`` constant codes, or ``(B, T, *shape)`` of the driven steps."""
        raw = self.source.raw(block.start, block.stop)
        shape = self.network.nodes[self.network.input_name].shape
        if self.source.constant:
            return raw.reshape(raw.shape[1], *shape)
        return raw[: self.input_steps].swapaxes(0, 1).reshape(raw.shape[1], -1, *shape)

    def block(self, worker: Worker, start: int, stop: int) -> _Block:
        """Run the samples ``start..stop`` to their end."""
        worker.begin(self.source, start, stop)
        plan, samples = self.plan, stop - start
        tallies = {name: self._new_tally(name) for name in self.network.spiking}
        pieces: dict[str, list[np.ndarray]] = {}
        last = np.zeros(samples, np.int64)  # steps up to and including the last active one
        done, now = False, 0
        while now < self.limit and not done:
            goal = self.driven if now < self.driven else self.minimum if now < self.minimum else self.limit
            steps = plan.chunks(now, goal, now < self.driven)
            worker.advance(now, steps)
            active = np.zeros((samples, steps), np.uint8)
            for name, tally in tallies.items():
                values = worker.values[name]
                if isinstance(self.network.nodes[name], MaxPool2d):  # passes on the spikes of other neurons
                    active |= (values != 0).any(axis=2).astype(np.uint8) & worker.alive[:, None]
                    continue
                tally["spikes"] += plan.neuron.tally(
                    values, worker.driven_steps, worker.alive, active, tally["ever"], tally["always"]
                )
            self._collect(worker, pieces, steps)
            latest = np.where(active.any(axis=1), now + steps - np.argmax(active[:, ::-1], axis=1), 0)
            last = np.maximum(last, latest)
            now += steps
            if self.settle and now > self.driven and now >= self.minimum:
                worker.alive[(last < now) & ~worker.on_the_way()] = 0  # its latest step was quiet
                done = not worker.alive.any()
        resting = (worker.alive == 0) | ((last < now) & ~worker.on_the_way())  # where it ended, buffers are of the past
        settled = bool(resting.all()) if self.limit > self.driven else now == self.driven
        extra = np.maximum(last - self.driven, 0) if self.settle else np.zeros(samples, np.int64)
        lengths = np.maximum(self.driven + extra, self.minimum) if self.settle else np.full(samples, now)
        overflows = self._overflow(worker, False), self._overflow(worker, True)
        records, final = {}, {}
        if overflows[1] is None:  # a trapped value may have grown beyond any type: the run is an error
            records, final = self._assemble(worker, pieces, lengths), self._final(worker)
        return _Block(
            start, stop, self._outputs(worker), extra, int(lengths.max(initial=0)), settled,
            self._reports(worker, tallies), overflows, records, lengths, final,
        )  # fmt: skip

    def _new_tally(self, name: str) -> dict:
        size = self.plan.sizes[name]
        return {"spikes": 0, "ever": np.zeros(size, np.uint8), "always": np.ones(size, np.uint8)}

    def _outputs(self, worker: Worker) -> np.ndarray:
        name = self.network.output_name
        state = worker.states[name]
        total = state["total"] if "total" in state else state["count"]
        shape = self.network.shapes[name]
        return to_api(total.astype(np.int64), shape).reshape(worker.samples, -1)

    def _final(self, worker: Worker) -> dict[str, np.ndarray]:
        if not self.keep_final:
            return {}
        found = {f"{name}.counts": worker.states[name]["count"] for name in self.network.spiking}
        for name in self.network.neurons:
            found[f"{name}.v"] = self.plan.neuron_operation(name).membrane(worker)
        shapes = self.network.shapes
        return {key: to_api(found[key].astype(np.int64), shapes[key.rpartition(".")[0]]) for key in found}

    def _collect(self, worker: Worker, pieces: dict[str, list[np.ndarray]], steps: int) -> None:
        for name, quantities in self.wanted.items():
            for quantity in quantities:
                if quantity in ("u", "v"):
                    kind = self.plan.neuron_operation(name).state_type
                    size = self.plan.sizes[name]
                    block = worker.buffer(name, f"{quantity} record", (worker.samples, steps, size), kind)
                else:
                    block = worker.values[name]
                    if block.shape[1] != steps:
                        block = np.broadcast_to(block, (block.shape[0], steps, block.shape[2]))
                if quantity != "counts":
                    pieces.setdefault(f"{name}.{quantity}", []).append(block.copy())
                elif "spikes" not in quantities:
                    pieces.setdefault(f"{name}.spikes", []).append(block.copy())

    def _assemble(self, worker: Worker, pieces, lengths: np.ndarray) -> dict[str, np.ndarray]:
        """Records ``(B, T, *shape)`` of the block; after its own end a sample rests."""
        records: dict[str, np.ndarray] = {}
        whole = {key: np.concatenate(parts, axis=1)[:, : int(lengths.max(initial=0))] for key, parts in pieces.items()}
        for name, quantities in self.wanted.items():
            for quantity in quantities:
                key = f"{name}.{quantity}"
                if quantity == "counts":
                    spikes = _rest(whole[f"{name}.spikes"].astype(np.int64), lengths, holds=False)
                    found = np.cumsum(spikes, axis=1)
                else:
                    dtype = record_dtype(self.plan, name, quantity)
                    found = _rest(whole[key].astype(dtype), lengths, holds=quantity in ("u", "v"))
                alias = name in self.plan.aliases  # recorded as the map that it stands for
                source = self.network.inputs_of(name)[0] if alias else name
                shaped = to_api(found, self.network.shapes[source])
                records[key] = shaped.reshape(*found.shape[:2], *self.network.shapes[name])
        return records

    def _reports(self, worker: Worker, tallies: dict) -> dict[str, dict]:
        from ..kernels import parameters as P

        reports = {}
        for name in self.network.neurons:
            counters = [int(x) for x in worker.states[name]["counters"]]
            reports[name] = {
                "spikes": int(tallies[name]["spikes"]),
                "ever": tallies[name]["ever"],
                "always": tallies[name]["always"],
                "saturations": counters[P.SATURATED],
                "wraps": counters[P.WRAPPED],
                "traps": counters[P.TRAPPED],
                "underflows": counters[P.UNDERFLOWS],
                "peak_v": max(counters[P.V_HIGH], -counters[P.V_LOW]),
                "peak_sum": max(counters[P.SUM_HIGH], -counters[P.SUM_LOW]),
                "v_low": counters[P.V_LOW],
                "v_high": counters[P.V_HIGH],
                "sum_low": counters[P.SUM_LOW],
                "sum_high": counters[P.SUM_HIGH],
            }
        return reports

    def _overflow(self, worker: Worker, trapped: bool) -> tuple | None:
        """First overflow (under TRAP) of the block as (sample, step, layer index, neuron, which, value, layer)."""
        from ..kernels.parameters import FIRST_TRAPPED

        at, found = FIRST_TRAPPED if trapped else 0, []
        for name in self.network.neurons:
            which, sample, step, neuron, value = (int(x) for x in worker.states[name]["first"][at : at + 5])
            if which:
                found.append((sample, step, self.plan.layers[name], neuron, which, value, name))
        return min(found) if found else None


def _rest(block: np.ndarray, lengths: np.ndarray, holds: bool) -> np.ndarray:
    """Overwrite what lies behind each sample's own end: zero, or its last state."""
    for b, length in enumerate(lengths.tolist()):
        block[b, length:] = block[b, length - 1] if holds else 0
    return block


def _name_of(layer: str, neuron: int, shape: tuple[int, ...]) -> str:
    """Neuron number of the kernels as coordinates."""
    if len(shape) == 1:
        return f"neuron {neuron}"
    channels, _, width = shape
    return f"neuron (c={neuron % channels}, y={neuron // channels // width}, x={neuron // channels % width})"


def _check_overflow(network, overflows: tuple[tuple | None, tuple | None], strict: bool) -> None:
    """Raise for the first overflow in strict mode, else for the first one under TRAP."""
    overflow = overflows[0 if strict else 1]
    if overflow is None:
        return
    sample, step, _, neuron, which, value, name = overflow
    layer = network.nodes[name]
    quantity = ("", "acc", "u", "v", "refractory trace")[which]
    fmt, mode = {
        "acc": (layer.acc_format, layer.acc_overflow),
        "u": (layer.u_format, layer.u_overflow),
        "v": (layer.v_format, layer.v_overflow),
        "refractory trace": (layer.refractory.format, Overflow.SAT),
    }[quantity]
    low, high = layer.u_range if quantity == "u" and layer.u_range else (fmt.min, fmt.max)
    low = -high if mode == Overflow.SAT_SYM and low < 0 else low
    raise RangeError(
        f"{name}: {quantity} of {_name_of(name, neuron, network.shapes[name])} is {value} at step {step} of sample "
        f"{sample}; {fmt} holds {low} to {high}; widen the format or lower weights and inputs"
    )


def _merge_reports(network, plan, blocks: list[dict[str, dict]]) -> dict[str, LayerReport]:
    layers = {}
    for name in network.neurons:
        report = LayerReport(name, plan.sizes[name])
        parts = [block[name] for block in blocks]
        for key in ("spikes", "saturations", "wraps", "traps", "underflows"):
            setattr(report, key, sum(part[key] for part in parts))
        for key in ("peak_v", "peak_sum", "v_high", "sum_high"):
            setattr(report, key, max((part[key] for part in parts), default=0))
        for key in ("v_low", "sum_low"):
            setattr(report, key, min((part[key] for part in parts), default=0))
        if parts:
            report.dead = int((np.maximum.reduce([part["ever"] for part in parts]) == 0).sum())
            report.always_on = int(np.minimum.reduce([part["always"] for part in parts]).sum())
        layers[name] = report
    return layers


def simulate(
    network,
    inputs,
    *,
    steps: int | None = None,
    settle: bool = False,
    record: Iterable[str] = (),
    record_to=None,
    record_labels=None,
    record_length: str = "ragged",
    strict: bool = False,
    threads: int = 1,
    batch_size: int | None = None,
    path: str = "auto",
    seed: int = 0,
    keep_final: bool = False,
    time_axis: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Simulate `network` on `inputs`, bit for bit.

    Parameters
    ----------
    network : Network
    inputs : array or Events
        ``(B, *shape)`` constant codes, ``(T, B, *shape)`` frames or spike trains, or `Events`.
    steps : int, optional
        How many steps are observed; default T_drive of the network, else the length of the input. Input and bias
        stop after ``min(steps, T_drive)``; nothing is rescaled.
    settle : bool
        Finish the drive and run each sample until no neuron fires, at most layers x L steps more.
    record : names
        ``"spikes"``, ``"counts"``, ``"v"``, ``"u"``, ``"current"`` of every layer that has it, or ``"layer.v"``.
    record_to : path, optional
        Write the records to this HDF5 file instead of memory, with inputs, outputs and predictions
        (``docs/files.md``; `intsnn.files.recording.load` reads it).
    record_labels : (B,) or (B, H, W) integers, optional
        Labels that go into that file.
    record_length : {"ragged", "equal"}
        In that file: of every sample its own steps, end to end, or of all as many as the longest has.
    strict : bool
        Any overflow is an error.
    threads : int
        Blocks of samples are taken from a queue by this many threads.
    batch_size : int, optional
        Samples per block; chosen by memory if not given. Never changes a bit.
    path : {"auto", "layer", "step", "reference"}
    seed : int
        Key of stochastic rounding, 0 to 2**63 - 1.
    keep_final : bool
        Keep the final net counts and membranes of every spiking layer in `Result.final`.
    time_axis : int, optional
        Time axis of frames, if not the first.
    progress : callable, optional
        Called with (samples done, samples in all).

    Raises
    ------
    RangeError
        Input outside its format; a total that could need more than 63 bits (before anything runs); an overflow under
        TRAP or `strict` (layer, step, neuron and value are named).
    ShapeError, FormatError
        Inputs or options that do not fit the network.
    """
    spiking_network(network)
    choice(path, "path", ("auto", *PATHS))
    steps = whole_or_none(steps, "steps", 1, STEPS)
    threads = whole(threads, "threads", 1, MOST_THREADS)
    batch_size = whole_or_none(batch_size, "batch_size", 1)
    seed = seed_of(seed)
    settle, strict, keep_final = flag(settle, "settle"), flag(strict, "strict"), flag(keep_final, "keep_final")
    record_to = None if record_to is None else path_of(record_to, "record_to")
    choice(record_length, "record_length", ("ragged", "equal"))
    function_or_none(progress, "progress")
    source = Source(network.nodes[network.input_name], inputs, time_axis)
    wanted = _wanted(network, record)
    run = _Run(network, source, steps, settle, wanted, keep_final, path, seed)
    if batch_size is None:
        batch_size = max(1, min(MOST_SAMPLES, BLOCK_BYTES // max(1, run.plan.bytes_per_sample())))
    spans = [(a, min(a + batch_size, source.samples)) for a in range(0, source.samples, batch_size)]
    if record_labels is not None:
        record_labels = integers(record_labels, "record_labels")
        if record_labels.ndim == 0 or len(record_labels) != source.samples:
            found = f"found shape {record_labels.shape}"
            raise ShapeError(f"record_labels: {found}; one for each of the {source.samples} samples is needed")
    collected = _Collector(run, source.samples, record_to, progress, record_labels, record_length)
    kept = {n: tuple(q for q in qs if q in ("u", "v")) for n, qs in wanted.items()}
    with collected:
        if threads == 1 or len(spans) < 2:
            worker = Worker(run.plan, kept)
            for span in spans:
                collected.take(run.block(worker, *span), strict)
        else:
            _in_threads(run, kept, spans, threads, collected, strict)
    return collected.result()


def _in_threads(run: _Run, kept, spans, threads: int, collected: _Collector, strict: bool) -> None:
    """Blocks from one queue; taken in order so that records stream and errors are the same for any count."""
    local = threading.local()

    def work(span):
        if not hasattr(local, "worker"):
            local.worker = Worker(run.plan, kept)
        return run.block(local.worker, *span)

    with ThreadPoolExecutor(threads) as pool:
        waiting = []
        try:
            remaining = iter(spans)
            for span in remaining:
                waiting.append(pool.submit(work, span))
                if len(waiting) >= 2 * threads:
                    collected.take(waiting.pop(0).result(), strict)
            while waiting:
                collected.take(waiting.pop(0).result(), strict)
        finally:
            for future in waiting:
                future.cancel()


class _Collector:
    """Puts blocks together in order; streams records to a file if asked."""

    def __init__(self, run: _Run, samples: int, record_to, progress, labels, length: str) -> None:
        self.run, self.samples, self.record_to, self.progress = run, samples, record_to, progress
        self.labels, self.length = labels, length
        self.blocks: list[_Block] = []
        self.writer: RecordingWriter | None = None

    def __enter__(self):
        if self.record_to is not None:
            from ..files.recording import RecordingWriter

            run = self.run
            shape = run.network.nodes[run.network.input_name].shape
            facts = {"steps": run.minimum, "driven": run.driven, "settle": int(run.settle)}
            self.writer = RecordingWriter(
                self.record_to, run.network, run.wanted, run.plan.bounds, facts,
                shape if run.source.constant else (run.input_steps, *shape), self.labels, self.length,
            ).__enter__()  # fmt: skip
        return self

    def __exit__(self, kind, error, trace):
        if self.writer is not None:
            return self.writer.__exit__(kind, error, trace)
        return None

    def take(self, block: _Block, strict: bool) -> None:
        """Add the next block."""
        _check_overflow(self.run.network, block.overflows, strict)
        if self.writer is not None:
            self.writer.take(block, self.run.inputs(block), predict(self.run.network, block.outputs))
            block.records = {}
        self.blocks.append(block)
        if self.progress is not None:
            self.progress(block.stop, self.samples)

    def result(self) -> Result:
        """All blocks as one `Result`."""
        run, blocks = self.run, self.blocks
        network = run.network
        size = int(np.prod(network.shapes[network.output_name]))
        outputs = np.concatenate([b.outputs for b in blocks]) if blocks else np.zeros((0, size), np.int64)
        steps = max((b.steps for b in blocks), default=0)
        records = {}
        for key in blocks[0].records if blocks else ():
            parts = []
            for block in blocks:
                part, short = block.records[key], steps - block.records[key].shape[1]
                if short:
                    holds = not key.endswith((".spikes", ".current"))
                    tail = np.repeat(part[:, -1:], short, axis=1)
                    part = np.concatenate([part, tail if holds else np.zeros_like(tail)], axis=1)
                parts.append(part)
            records[key] = np.swapaxes(np.concatenate(parts), 0, 1)
        keys = blocks[0].final if blocks else ()
        return Result(
            outputs=outputs,
            predictions=predict(network, outputs) if size else np.zeros(len(outputs), np.int64),
            steps=steps,
            extra_steps=np.concatenate([b.extra for b in blocks]) if blocks else np.zeros(0, np.int64),
            settled=all(b.settled for b in blocks) if run.settle else None,
            layers=_merge_reports(network, run.plan, [b.reports for b in blocks]),
            records=records,
            final={key: np.concatenate([b.final[key] for b in blocks]) for key in keys},
        )
