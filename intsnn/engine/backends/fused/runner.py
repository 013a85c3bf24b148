"""A network prepared for speed: the fused backend behind one call, numpy array in, outputs out.

`prepare` packs weights and lays out small buffers once; the `Runner` it returns answers the outputs (and extra steps)
of `simulate` with the same bits and no per-layer report. Feed-forward networks run fused
(`intsnn.kernels.fused.interpreter`); what does not, `accepts` refuses with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ....errors import UnsupportedError
from ....formats.arguments import STEPS, flag, whole, whole_or_none
from ....formats.integers import for_kernel
from ....kernels.fused.opcodes import Arena, Aside, Inlet, Length
from ....layers.schedule import Schedule
from ....network.schedule import schedule
from ....network.spiking import Network, spiking_network
from ...inputs import Source, frames_given, sources_of
from ...program import Program, lower
from ...result import Result, to_api
from ..base import Request
from ..share import share
from .accepts import refuses
from .table import Table

__all__ = ["Fused", "Runner", "prepare"]

MOST_THREADS = 1024
LONGEST_CHUNK = 16
NO_CODES, NO_FRAMES = np.zeros((1, 1, 1), np.int32), np.zeros((1, 1, 1), np.int8)
BYTES = (np.dtype(np.int8), np.dtype(np.uint8))
GRAIN = 4  # samples that a thread takes at a time


@dataclass(frozen=True, eq=False)
class _SameShapeCall:
    """A call whose inputs look like those of an earlier one: frames of bytes that the kernel reads where they are.

    Nothing in it depends on the values, which are still looked at. For small networks finding it out again in every
    call takes as long as the network.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    frames: tuple[int, int, int]
    least: int  # of the input format
    most: int
    pool: _Pool
    extent: Callable
    feed: tuple  # of `run_samples`, but for the frames; and the length of the run
    length: tuple

    def fits(self, inputs) -> bool:
        """Whether `inputs` is such an array."""
        return (
            type(inputs) is np.ndarray
            and inputs.shape == self.shape
            and inputs.dtype is self.dtype
            and inputs.flags.c_contiguous
            and inputs.flags.writeable
        )


class _Pool:
    """The buffers of a table, one set for each thread that runs it."""

    def __init__(self, table: Table) -> None:
        self.table = table
        places, shapes = table.answers, table.program.network.shapes
        self.name = table.program.network.output_name
        self.size = max(end for _, end, _ in places.values())
        begin, end, by_time = places[self.name]
        self.as_they_lie = (begin, end) == (0, self.size) and not by_time and len(shapes[self.name]) == 1
        self.free: list[tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]] = []

    def run(self, network: Network, threads: int, feed: tuple, length: tuple, samples: int) -> Result:
        """Outputs of the samples in `feed`."""
        name, run, constants = self.name, self.table.run_samples, self.table.constants
        settle = length[-1]
        totals = np.empty((samples, self.size), np.int64)
        extra = np.empty(samples, np.int64)
        settled = np.empty(samples, np.bool_)
        answers = (totals, extra, settled)  # those of `Answers`

        def work(buffers, start, stop):
            run(start, stop, constants, feed, length, *buffers, answers)

        held = self._take(min(threads, max(1, samples // 2)))
        try:
            if len(held) == 1:
                work(held[0], 0, samples)
            else:
                share(work, held, samples, max(GRAIN, self.table.layout.block))
        finally:
            self.free.extend(held)
        if self.as_they_lie:
            named = {name: totals}
        else:
            named = {n: _answer(totals, place, network.shapes[n]) for n, place in self.table.answers.items()}
        done = bool(settled.all()) if settle else None
        when = self.table.program.schedule
        steps = (max(when.driven + int(extra.max()), when.least) if settle else when.limit) if samples else 0
        return Result(network, named[name], steps, extra, done, named=named, backend="fused")

    def _take(self, count: int) -> list:
        """Buffers for `count` threads, used ones before new ones."""
        held = []
        for _ in range(count):
            try:
                held.append(self.free.pop())  # one step, whatever other threads do
            except IndexError:
                held.append(self.table.layout.buffers())
        return held


def _answer(totals: np.ndarray, place: tuple[int, int, bool], shape: tuple[int, ...]) -> np.ndarray:
    """One output among all, in API order; steps are counted from 1 there."""
    begin, end, by_time = place
    found = totals[:, begin:end] - int(by_time)
    return np.ascontiguousarray(to_api(found, shape).reshape(len(found), -1) if len(shape) == 3 else found)


def _table(program: Program, constant: bool) -> Table:
    when = program.schedule
    chunk = min(LONGEST_CHUNK, when.limit if when.limit > when.driven else when.driven)
    return Table(program, constant, chunk, when.limit > when.driven or when.driven > chunk)


def _arguments(table: Table, sources: Mapping[str, Source], settle: bool) -> tuple[tuple, tuple]:
    """What goes in, and for how long: that of `Inlet` and of `Length`."""
    codes, frames, area = _codes(sources) if table.coded else _frames(*sources.values())
    when = table.program.schedule
    layout = table.layout
    feed = Inlet(codes, area, layout.input_slot, layout.input_by, table.coded, frames)
    return tuple(feed), tuple(Length(when.driven, when.least, when.limit, settle))


def _codes(sources: Mapping[str, Source]) -> tuple[np.ndarray, np.ndarray, int]:
    """Codes (B, T or 1, H * W * C) int32, those of several inputs one behind the other; no frames."""
    blocks = [source.block(0, source.samples, np.int32) for source in sources.values()]
    if len(blocks) > 1:
        steps = frames_given(sources) or 1
        blocks = [block[:, :steps] if block.shape[1] > 1 else block.repeat(steps, axis=1) for block in blocks]
        blocks = [np.concatenate(blocks, axis=2)]
    return blocks[0], NO_FRAMES, 1


def _frames(source: Source) -> tuple[np.ndarray, np.ndarray, int]:
    """No codes; frames (T, B, C * H * W) int8, and pixels."""
    layer = source.layer
    raw = source.raw(0, source.samples)
    if layer.multiplier != 1 or layer.offset != 0:
        raw = raw.astype(np.int64) * layer.multiplier + layer.offset
    if raw.dtype != np.int8:
        # the format is checked, and its bound was checked to be small: no value is lost
        raw = raw.view(np.int8) if raw.dtype.itemsize == 1 else raw.astype(np.int8)
    area = math.prod(layer.shape[1:]) if len(layer.shape) == 3 else 1
    return NO_CODES, for_kernel(raw), area


class Fused:
    """Backend of whole samples in one compiled call; gives outputs only."""

    name = "fused"
    gives = frozenset({"outputs"})

    def refuses(self, program: Program, frames: bool = False) -> str | None:
        """What has no fused form; see `intsnn.engine.backends.fused.accepts`."""
        return refuses(program, frames)

    def run(self, request: Request) -> Result:
        """All samples, shared by the threads."""
        table = _table(request.program, not request.frames)
        feed, length = _arguments(table, request.sources, request.settle)
        result = _Pool(table).run(request.program.network, request.threads, feed, length, request.samples)
        if request.progress is not None:
            request.progress(request.samples, request.samples)
        return result


class Runner:
    """A prepared network; call it with inputs as `simulate` takes them. Made by `prepare`."""

    def __init__(self, network, steps: int | None, settle: bool, threads: int) -> None:
        self.network = spiking_network(network)
        self.steps, self.settle = whole_or_none(steps, "steps", 1, STEPS), flag(settle, "settle")
        self.threads = whole(threads, "threads", 1, MOST_THREADS)
        self._pools: dict[tuple, _Pool] = {}
        self._input = network.nodes[network.input_name]
        self._schedules: dict[int | None, Schedule] = {}
        self._again: _SameShapeCall | None = None

    def _pool(self, given: int | None) -> _Pool:
        """Table and buffers for inputs of so many frames, None: constant ones."""
        when = self._schedules.get(given)
        if when is None:
            when = self._schedules[given] = schedule(self.network, given, self.steps, self.settle)
        key = (given is None, when)
        if key not in self._pools:
            program = lower(self.network, when)
            reason = refuses(program, given is not None)
            if reason:
                raise UnsupportedError(f"prepare: {reason}; use simulate")
            self._pools[key] = _Pool(_table(program, given is None))
        return self._pools[key]

    def buffers(self) -> dict[str, int]:
        """Bytes of every buffer that a thread holds, by name, for the tables used so far (largest of each)."""
        found: dict[str, int] = {}
        for pool in self._pools.values():
            for arrays in pool.free:
                names, held = (*Arena._fields, *Aside._fields), (*arrays[0], *arrays[1])
                for field, array in zip(names, held, strict=True):
                    name = field.replace("_", " ")
                    found[name] = max(found.get(name, 0), array.nbytes)
        return found

    def __call__(self, inputs, *, time_axis: int | None = None) -> Result:
        """Outputs of `inputs` (as in `simulate`), the same bits for any number of threads."""
        again = self._again
        if again is not None and time_axis is None and again.fits(inputs):
            frames = inputs.view(np.int8).reshape(again.frames)
            low, high = again.extent(inputs.reshape(-1))
            if again.least <= low and high <= again.most:
                feed = (*again.feed, frames)
                return again.pool.run(self.network, self.threads, feed, again.length, again.frames[1])
        sources = sources_of(self.network, inputs, time_axis)
        pool = self._pool(frames_given(sources))
        feed, length = _arguments(pool.table, sources, self.settle)
        frames = feed[-1]
        if time_axis is None and isinstance(inputs, np.ndarray) and inputs.dtype in BYTES and frames.base is not None:
            from ....kernels.inputs.rate import extent

            known = self._input.format
            self._again = _SameShapeCall(
                inputs.shape, inputs.dtype, frames.shape, known.min, known.max, pool, extent, feed[:-1], length
            )
        return pool.run(self.network, self.threads, feed, length, sources[self.network.input_name].samples)


def prepare(network, *, steps: int | None = None, settle: bool = False, threads: int = 1) -> Runner:
    """Prepare `network` for many fast runs.

    Parameters
    ----------
    steps, settle, threads
        As in `simulate`.

    Returns
    -------
    Runner
        Call it with inputs. Raises `UnsupportedError` with the reason where the network has no fused form, and
        `RangeError` as `simulate` does.
    """
    return Runner(network, steps, settle, threads)
