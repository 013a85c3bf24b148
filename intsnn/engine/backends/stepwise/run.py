"""Blocks of samples, run step by step on threads and put together again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....errors import RangeError
from ....formats.fixed import Overflow
from ....layers.base import fits
from ...program import Program
from ...result import LayerReport, Result, predict, to_api
from ...state import State
from ..base import WANTS, Request
from .plan import Plan, Worker

__all__ = ["BLOCK_BYTES", "Stepwise"]

BLOCK_BYTES = 2 << 20  # largest buffer of a block: a few of them stay in cache
MOST_SAMPLES = 64


@dataclass(frozen=True)
class Stepwise:
    """Backend of one of the three paths of `intsnn.engine.backends.stepwise.plan`; gives everything."""

    name: str
    gives = frozenset(WANTS)

    def refuses(self, program: Program, frames: bool = False) -> str | None:
        """Layer by layer nothing can come back."""
        return "a recurrent network has no layer path; use step" if self.name == "layer" and program.recurrent else None

    def run(self, request: Request) -> Result:
        """The samples in blocks, on as many threads as are asked for."""
        run = _Run(request, self.name)
        batch = request.batch_size
        if batch is None:
            batch = max(1, min(MOST_SAMPLES, BLOCK_BYTES // max(1, run.plan.bytes_per_sample())))
        spans = [(a, min(a + batch, request.samples)) for a in range(0, request.samples, batch)]
        kept = {n: tuple(q for q in qs if q in ("u", "v")) for n, qs in request.record.items()}
        with _Collector(run) as collected:
            if request.threads == 1 or len(spans) < 2:
                worker = Worker(run.plan, kept)
                for span in spans:
                    collected.take(run.block(worker, *span))
            else:
                _in_threads(run, kept, spans, collected)
        return collected.result()


@dataclass(eq=False)
class _Block:
    """What a worker hands back for the samples ``start..stop``."""

    start: int
    stop: int
    outputs: np.ndarray
    named: dict[str, np.ndarray]
    extra: np.ndarray
    steps: int
    done: int
    settled: bool
    reports: dict[str, dict]
    overflows: tuple[tuple | None, tuple | None]
    records: dict[str, np.ndarray]
    lengths: np.ndarray
    final: dict[str, np.ndarray]
    state: dict[str, np.ndarray]


def record_dtype(plan, name: str, quantity: str):
    """Type of a record: int8 for spikes (a max-pool of currents may send more), else int64."""
    bound = plan.bounds[name]
    return np.int8 if quantity == "spikes" and fits(bound.low, bound.high, 8) else np.int64


class _Run:
    """One simulation: cuts the samples into blocks and puts the blocks together again."""

    def __init__(self, request: Request, path: str) -> None:
        self.request, self.network, self.schedule = request, request.program.network, request.schedule
        counts = bool(request.needs & {"final", "state"})
        self.plan = Plan(request.program, path, request.seed, counts)
        self.began = 0
        if request.start is not None:
            self.began = request.start.step
            request.start.belongs({f"{op.name}.{what}" for op in self.plan.operations for what in op.outlives()})

    def block(self, worker: Worker, start: int, stop: int) -> _Block:
        """Run the samples ``start..stop`` to their end."""
        request, schedule, plan, samples = self.request, self.schedule, self.plan, stop - start
        worker.begin(request.sources, start, stop, request.start)
        tallies = {name: self._new_tally(name) for name in self.network.spiking}
        before = {}
        if request.start is not None:  # net counts go on, too
            before = {name: worker.states[name]["count"][:, None].astype(np.int64) for name in self.network.spiking}
        pieces: dict[str, list[np.ndarray]] = {}
        last = np.zeros(samples, np.int64)  # steps up to and including the last active one
        done, now = False, self.began
        while now < schedule.limit and not done:
            goal = next(end for end in (schedule.driven, schedule.least, schedule.limit) if now < end)
            steps = plan.chunks(now, goal, now < schedule.driven)
            if "state" in request.wants and request.settle and now >= schedule.driven:
                steps = 1  # the state is that of the first step at rest, on every path
            worker.advance(now, steps)
            active = np.zeros((samples, steps), np.uint8)
            for name, tally in tallies.items():
                values = worker.values[name]
                if not self.network.nodes[name].fires:  # passes on the spikes of other neurons
                    active |= (values != 0).any(axis=2).astype(np.uint8) & worker.alive[:, None]
                    continue
                tally["spikes"] += plan.neuron.tally(
                    values, worker.driven_steps, worker.alive, active, tally["ever"], tally["always"]
                )
            self._collect(worker, pieces, steps)
            latest = np.where(active.any(axis=1), now + steps - np.argmax(active[:, ::-1], axis=1), 0)
            last = np.maximum(last, latest)
            now += steps
            if request.settle and now > schedule.driven and now >= schedule.least:
                worker.alive[(last < now) & ~worker.on_the_way()] = 0  # its latest step was quiet
                done = not worker.alive.any()
        resting = (worker.alive == 0) | ((last < now) & ~worker.on_the_way())  # where it ended, buffers are of the past
        settled = bool(resting.all()) if schedule.limit > schedule.driven else now == schedule.driven
        if request.settle:
            extra = np.maximum(last - schedule.driven, 0)
            # of a run that goes on from rest, the one step in which that was seen
            lengths = np.maximum(np.maximum(schedule.driven + extra, schedule.least) - self.began, min(1, now))
        else:
            extra, lengths = np.zeros(samples, np.int64), np.full(samples, now - self.began)
        overflows = self._overflow(worker, False), self._overflow(worker, True)
        records, final, state = {}, {}, {}
        if overflows[1] is None:  # a trapped value may have grown beyond any type: the run is an error
            records, final = self._assemble(worker, pieces, lengths, before), self._final(worker)
            state = self._state(worker)
        named = {name: self._outputs(worker, name) for name in self.network.outputs}
        return _Block(
            start, stop, named[self.network.output_name], named, extra, int(lengths.max(initial=0)), now, settled,
            self._reports(worker, tallies), overflows, records, lengths, final, state,
        )  # fmt: skip

    def _new_tally(self, name: str) -> dict:
        size = self.plan.sizes[name]
        return {"spikes": 0, "ever": np.zeros(size, np.uint8), "always": np.ones(size, np.uint8)}

    def _outputs(self, worker: Worker, name: str) -> np.ndarray:
        state = worker.states[name]
        total = state["total"] if "total" in state else state["count"]
        shape = self.network.shapes[name]
        return to_api(total.astype(np.int64), shape).reshape(worker.samples, -1)

    def _state(self, worker: Worker) -> dict[str, np.ndarray]:
        if "state" not in self.request.wants:
            return {}
        return {key: values for operation in self.plan.operations for key, values in operation.left(worker).items()}

    def _final(self, worker: Worker) -> dict[str, np.ndarray]:
        if "final" not in self.request.wants:
            return {}
        found = {f"{name}.counts": worker.states[name]["count"] for name in self.network.spiking}
        for name in self.network.neurons:
            found[f"{name}.v"] = self.plan.neuron_operation(name).membrane(worker)
        shapes = self.network.shapes
        return {key: to_api(found[key].astype(np.int64), shapes[key.rpartition(".")[0]]) for key in found}

    def _collect(self, worker: Worker, pieces: dict[str, list[np.ndarray]], steps: int) -> None:
        for name, quantities in self.request.record.items():
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

    def _assemble(self, worker: Worker, pieces, lengths: np.ndarray, before) -> dict[str, np.ndarray]:
        """Records ``(B, T, *shape)`` of the block; after its own end a sample rests."""
        records: dict[str, np.ndarray] = {}
        whole = {key: np.concatenate(parts, axis=1)[:, : int(lengths.max(initial=0))] for key, parts in pieces.items()}
        for name, quantities in self.request.record.items():
            for quantity in quantities:
                key = f"{name}.{quantity}"
                if quantity == "counts":
                    spikes = _rest(whole[f"{name}.spikes"].astype(np.int64), lengths, holds=False)
                    found = np.cumsum(spikes, axis=1) + before.get(name, 0)
                else:
                    dtype = record_dtype(self.plan, name, quantity)
                    found = _rest(whole[key].astype(dtype), lengths, holds=quantity in ("u", "v"))
                source = self.plan.aliases.get(name, name)  # an alias is recorded as the map that it stands for
                shaped = to_api(found, self.network.shapes[source])
                records[key] = shaped.reshape(*found.shape[:2], *self.network.shapes[name])
        return records

    def _reports(self, worker: Worker, tallies: dict) -> dict[str, dict]:
        from ....kernels import parameters as P

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
        from ....kernels.parameters import FIRST_TRAPPED

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
        parts = [block[name] for block in blocks]
        report = LayerReport.of_parts(name, plan.sizes[name], parts)
        if parts:
            report.dead = int((np.maximum.reduce([part["ever"] for part in parts]) == 0).sum())
            report.always_on = int(np.minimum.reduce([part["always"] for part in parts]).sum())
        layers[name] = report
    return layers


def _in_threads(run: _Run, kept, spans, collected: _Collector) -> None:
    """Blocks from one queue; taken in order so that records stream and errors are the same for any count."""
    local, threads = threading.local(), run.request.threads

    def work(span):
        if not hasattr(local, "worker"):
            local.worker = Worker(run.plan, kept)
        return run.block(local.worker, *span)

    with ThreadPoolExecutor(threads) as pool:
        waiting = []
        try:
            for span in spans:
                waiting.append(pool.submit(work, span))
                if len(waiting) >= 2 * threads:
                    collected.take(waiting.pop(0).result())
            while waiting:
                collected.take(waiting.pop(0).result())
        finally:
            for future in waiting:
                future.cancel()


class _Collector:
    """Puts blocks together in order; streams records to a file if asked."""

    def __init__(self, run: _Run) -> None:
        self.run, self.request = run, run.request
        self.blocks: list[_Block] = []
        self.writer: Any = None

    def __enter__(self):
        if self.request.recorder is not None:
            self.writer = self.request.recorder(self.request).__enter__()
        return self

    def __exit__(self, kind, error, trace):
        if self.writer is not None:
            return self.writer.__exit__(kind, error, trace)
        return None

    def take(self, block: _Block) -> None:
        """Add the next block."""
        request, network = self.request, self.run.network
        _check_overflow(network, block.overflows, request.strict)
        if self.writer is not None:
            inputs = request.inputs(network.input_name, block.start, block.stop)
            self.writer.take(block, inputs, predict(network, block.outputs))
            block.records = {}
        self.blocks.append(block)
        if request.progress is not None:
            request.progress(block.stop, request.samples)

    def result(self) -> Result:
        """All blocks as one `Result`."""
        run, blocks, request = self.run, self.blocks, self.request
        network = run.network
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
        named = {
            name: _joined([b.named[name] for b in blocks], int(np.prod(network.shapes[name])))
            for name in network.outputs
        }
        state = None
        if "state" in request.wants:
            kept = {f"{op.name}.{what}": k.shape for op in run.plan.operations for what, k in op.outlives().items()}
            none = {name: np.zeros((0, *shape), np.int64) for name, shape in kept.items()}
            arrays = _stacked([b.state for b in blocks]) if blocks else none
            state = State(max((b.done for b in blocks), default=run.began), arrays)
        return Result(
            network=network,
            outputs=named[network.output_name],
            steps=steps,
            extra_steps=np.concatenate([b.extra for b in blocks]) if blocks else np.zeros(0, np.int64),
            settled=all(b.settled for b in blocks) if request.settle else None,
            layers=_merge_reports(network, run.plan, [b.reports for b in blocks]),
            records=records,
            final=_stacked([b.final for b in blocks]),
            state=state,
            named=named,
            backend=run.plan.path,
        )


def _joined(parts: list[np.ndarray], size: int) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros((0, size), np.int64)


def _stacked(blocks: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.concatenate([block[key] for block in blocks]) for key in (blocks[0] if blocks else ())}
