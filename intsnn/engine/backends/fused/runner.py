"""A network prepared for speed: the fused path behind one call, numpy array in, outputs out.

`prepare` packs weights and lays out small buffers once; the `Runner` it returns answers the outputs (and extra steps)
of `simulate` with the same bits and no per-layer report. Feed-forward integrate-and-fire networks inside proven
bounds run fused (`intsnn.kernels.fused.interpreter`); anything else is refused with the reason.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ....errors import UnsupportedError
from ....formats.arguments import STEPS, flag, whole, whole_or_none
from ....formats.integers import for_kernel
from ....network.bounds import analyse, check_totals
from ....network.schedule import Duration, duration
from ....network.spiking import spiking_network
from ...inputs import Source
from ...result import predict, to_api
from ...simulation import MOST_THREADS
from .table import BUFFERS, Program, why_not_fused

__all__ = ["Outcome", "Runner", "prepare", "why_not_fused"]

LONGEST_CHUNK = 16
NO_CODES, NO_FRAMES = np.zeros((1, 1, 1), np.int32), np.zeros((1, 1, 1), np.int8)
BYTES = (np.dtype(np.int8), np.dtype(np.uint8))
GRAIN = 4  # samples that a thread takes at a time


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of a `Runner`: `outputs` (B, K) int64, `extra_steps` (B,), `settled` and `predictions` (B,)."""

    network: object
    outputs: np.ndarray
    extra_steps: np.ndarray
    settled: bool | None

    @property
    def predictions(self) -> np.ndarray:
        """Index of the first best output of each sample."""
        return predict(self.network, self.outputs)


@dataclass(frozen=True, eq=False)
class _Again:
    """A call whose inputs look like those of an earlier one: frames of bytes that the kernel reads where they are.

    Nothing in it depends on the values, which are still looked at. For small networks finding it out again in every
    call takes as long as the network.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    frames: tuple[int, int, int]
    least: int  # of the input format
    most: int
    key: tuple
    program: Program
    extent: Callable
    before: tuple  # arguments of `run_samples` up to the frames, and behind them
    behind: tuple

    def fits(self, inputs) -> bool:
        """Whether `inputs` is such an array."""
        return (
            type(inputs) is np.ndarray
            and inputs.shape == self.shape
            and inputs.dtype is self.dtype
            and inputs.flags.c_contiguous
            and inputs.flags.writeable
        )


class Runner:
    """A prepared network; call it with inputs as `simulate` takes them. Made by `prepare`."""

    def __init__(self, network, steps: int | None, settle: bool, threads: int) -> None:
        self.network = spiking_network(network)
        self.steps, self.settle = whole_or_none(steps, "steps", 1, STEPS), flag(settle, "settle")
        self.threads = whole(threads, "threads", 1, MOST_THREADS)
        self._programs: dict[tuple, Program] = {}
        self._buffers: dict[tuple, list[tuple[np.ndarray, ...]]] = {}
        self._lock = threading.Lock()
        self._input = network.nodes[network.input_name]
        self._output_shape = network.shapes[network.output_name]
        self._known_lengths: dict[int | None, Duration] = {}
        self._again: _Again | None = None

    def _lengths(self, source: Source) -> Duration:
        """The same as in `simulate`."""
        known = self._known_lengths.get(source.steps)
        if known is None:
            known = duration(self.network, source.steps, self.steps, self.settle)
            self._known_lengths[source.steps] = known
        return known

    def _program(self, constant: bool, driven: int, limit: int) -> tuple[tuple, Program]:
        key = (constant, driven, limit)
        if key not in self._programs:
            bounds = analyse(self.network, limit, driven)
            check_totals(self.network, bounds, limit, driven)
            reason = why_not_fused(self.network, bounds, not constant)
            if reason:
                raise UnsupportedError(f"prepare: {reason}; use simulate")
            chunk = min(LONGEST_CHUNK, limit if limit > driven else driven)
            kept = limit > driven or driven > chunk
            self._programs[key] = Program(self.network, bounds, constant, driven, chunk, kept)
        return key, self._programs[key]

    def buffers(self) -> dict[str, int]:
        """Bytes of every buffer that a thread holds, by name, for the programs used so far (largest of each)."""
        found: dict[str, int] = {}
        for sets in self._buffers.values():
            for arrays in sets:
                for name, array in zip(BUFFERS, arrays, strict=True):
                    found[name] = max(found.get(name, 0), array.nbytes)
        return found

    def __call__(self, inputs, *, time_axis: int | None = None) -> Outcome:
        """Outputs of `inputs` (as in `simulate`), the same bits for any number of threads."""
        again = self._again
        if again is not None and time_axis is None and again.fits(inputs):
            frames = inputs.view(np.int8).reshape(again.frames)
            low, high = again.extent(inputs.reshape(-1))
            if again.least <= low and high <= again.most:
                return self._run(again.key, again.program, (*again.before, frames, *again.behind), again.frames[1])
        source = Source(self._input, inputs, time_axis)
        length = self._lengths(source)
        driven, least, limit = length.driven, length.least, length.limit
        key, program = self._program(source.constant, driven, limit)
        codes, frames, area = self._inputs(source)
        before = (*program.layout, codes)
        behind = (
            area, program.input_slot, program.input_by, source.constant, driven, least, limit, self.settle,
            *program.constants,
        )  # fmt: skip
        if time_axis is None and isinstance(inputs, np.ndarray) and inputs.dtype in BYTES and frames.base is not None:
            from ....kernels.inputs.rate import extent

            known = self._input.format
            self._again = _Again(
                inputs.shape, inputs.dtype, frames.shape, known.min, known.max, key, program, extent, before, behind
            )
        return self._run(key, program, (*before, frames, *behind), source.samples)

    def _run(self, key: tuple, program: Program, arguments: tuple, samples: int) -> Outcome:
        """Outputs of `samples` samples from the arguments of the kernel in front of the buffers."""
        shape, settle, run = self._output_shape, self.settle, program.run_samples
        totals = np.empty((samples, math.prod(shape)), np.int64)
        extra = np.empty(samples, np.int64)
        settled = np.empty(samples, np.bool_)

        def work(buffers, start, stop):
            run(start, stop, *arguments, *buffers, totals, extra, settled)

        held = self._take(key, program, min(self.threads, max(1, samples // 2)))
        try:
            if len(held) == 1:
                work(held[0], 0, samples)
            else:
                self._share(work, held, samples, program.block)
        finally:
            with self._lock:
                self._buffers[key].extend(held)
        outputs = totals
        if len(shape) == 3:
            outputs = np.ascontiguousarray(to_api(totals, shape).reshape(samples, -1))
        done = bool(settled.all()) if settle else None
        return Outcome(self.network, outputs, extra, done)

    def _take(self, key, program: Program, count: int) -> list[tuple[np.ndarray, ...]]:
        with self._lock:
            free = self._buffers.setdefault(key, [])
            return [free.pop() if free else program.buffers() for _ in range(count)]

    def _share(self, work, held, samples: int, block: int) -> None:
        """Threads take a block or a few samples at a time: a slow core gets fewer of them."""
        grain = max(GRAIN, block)
        spans = itertools.count(0, grain)
        failures: list[BaseException] = []

        def loop(buffers):
            try:
                while not failures:
                    start = next(spans)
                    if start >= samples:
                        return
                    work(buffers, start, min(start + grain, samples))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=loop, args=(buffers,)) for buffers in held[1:]]
        for thread in threads:
            thread.start()
        loop(held[0])
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def _inputs(self, source: Source):
        """Codes of constant inputs (B, 1, H * W * C) int32, or frames (T, B, C * H * W) int8; and pixels."""
        if source.constant:
            return source.block(0, source.samples, np.int32), NO_FRAMES, 1
        layer = source.layer
        raw = source.raw(0, source.samples)
        if layer.multiplier != 1 or layer.offset != 0:
            raw = raw.astype(np.int64) * layer.multiplier + layer.offset
        if raw.dtype != np.int8:
            # the format is checked, and its bound was checked to be small: no value is lost
            raw = raw.view(np.int8) if raw.dtype.itemsize == 1 else raw.astype(np.int8)
        area = math.prod(layer.shape[1:]) if len(layer.shape) == 3 else 1
        return NO_CODES, for_kernel(raw), area


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
