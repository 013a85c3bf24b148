"""The integer ANN prepared for speed: outputs of many samples in one compiled call, and levels where asked for.

`CountPass` lays a program of totals out once and runs it on what `Source` brings; threads take samples from a queue.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ....formats.integers import for_kernel
from ....kernels.count.opcodes import CountInlet
from ...inputs import Source
from ...program import Program
from ...result import to_api
from ..share import share
from .table import CountTable

__all__ = ["CountPass"]

BATCH_BYTES = 64 << 20
GRAIN = 4  # samples that a thread takes at a time


class CountPass:
    """One pass of totals through a network.

    Parameters
    ----------
    program : Program
        Of a schedule of totals.
    constant : mapping of input name to bool
        Whether an input is the same in every driven step.
    keep : bool
        Whether levels are wanted.
    threads : int
    """

    def __init__(self, program: Program, constant: Mapping[str, bool], keep: bool = False, threads: int = 1) -> None:
        self.program, self.network, self.threads = program, program.network, threads
        self.constant = dict(constant)
        self.table = CountTable(program, self.constant, keep)
        self._free: list[tuple[np.ndarray, ...]] = []
        shapes = self.network.shapes
        self._width = sum(math.prod(shapes[name]) for name in self.table.outputs)
        self._kept = sum(math.prod(shapes[name]) for name in self.table.kept)
        self._empty = {kind: np.zeros((1, 1), dtype) for kind, dtype in self.table.dtypes.items()}

    @property
    def batch(self) -> int:
        """Samples of a call whose levels take at most `BATCH_BYTES`."""
        size = 8 * (self._kept + self._width) + sum(math.prod(self.network.shapes[name]) for name in self.constant)
        return max(64, min(4096, BATCH_BYTES // size))

    @property
    def nothing(self) -> tuple[np.ndarray, np.ndarray]:
        """What `run` answers for no samples."""
        return np.zeros((0, self._width), np.int64), np.zeros((0, self._kept), np.int64)

    def run(self, sources: Mapping[str, Source], start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Totals of the outputs and what is kept of the samples ``start..stop``, both int64 in the order of kernels."""
        return self._run(self._inlet(sources, start, stop), stop - start)

    @property
    def takes_bytes(self) -> bool:
        """Whether the only input goes in as bytes, each as it is."""
        kinds = [kind for kind, _, _ in self.table.inputs.values()]
        factor = next(iter(self.table.inputs.values()))[2]
        alone = len(kinds) == 1 and self._empty[kinds[0]].dtype == np.uint8
        return alone and factor == self.program.schedule.driven

    def run_codes(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`run` of codes ``(B, H * W * C)`` uint8 in the order of kernels, where `takes_bytes`."""
        _, shorts, longs = self._empty.values()
        return self._run((self.table.loads, codes, shorts, longs), len(codes))

    def _run(self, inlet: tuple, samples: int) -> tuple[np.ndarray, np.ndarray]:
        totals, kept = np.empty((samples, self._width), np.int64), np.empty((samples, self._kept), np.int64)
        run, constants, answers = self.table.run_totals, self.table.constants, (totals, kept)
        held = [self._take() for _ in range(min(self.threads, max(1, samples // 2)))]
        try:
            if len(held) == 1:
                run(0, samples, constants, inlet, held[0], answers)
            else:
                grain = max(GRAIN, min(self.table.block, -(-samples // len(held))))
                share(lambda buffers, a, b: run(a, b, constants, inlet, buffers, answers), held, samples, grain)
        finally:
            self._free.extend(held)
        return totals, kept

    def outputs(self, totals: np.ndarray, name: str) -> np.ndarray:
        """Outputs ``(B, K)`` of the output `name`, in API order."""
        size = math.prod(self.network.shapes[name])
        return self._part(totals, self.table.outputs[name], name).reshape(len(totals), size)

    def levels(self, kept: np.ndarray, name: str) -> np.ndarray:
        """Levels ``(B, *shape)`` of a layer."""
        return self._part(kept, self.table.kept[name], name)

    def _part(self, values: np.ndarray, column: int, name: str) -> np.ndarray:
        shape = self.network.shapes[name]
        part = values[:, column : column + math.prod(shape)]
        return part if len(shape) == 1 else np.ascontiguousarray(to_api(part, shape))

    def _take(self) -> tuple[np.ndarray, ...]:
        try:
            return self._free.pop()  # one step, whatever other threads do
        except IndexError:
            return self.table.buffers()

    def _inlet(self, sources: Mapping[str, Source], start: int, stop: int) -> tuple:
        parts: dict[int, list[np.ndarray]] = {kind: [] for kind in self._empty}
        for name, (kind, _, factor) in self.table.inputs.items():
            parts[kind].append(self._codes(name, sources[name], start, stop, self._empty[kind].dtype, factor))
        arrays = [
            (found[0] if len(found) == 1 else np.concatenate(found, axis=1)) if found else self._empty[kind]
            for kind, found in parts.items()
        ]
        return tuple(CountInlet(self.table.loads, *arrays))

    def _codes(self, name: str, source: Source, start: int, stop: int, dtype: np.dtype, factor: int) -> np.ndarray:
        """Codes ``(B, H * W * C)`` of the samples, those of all driven steps together."""
        driven = self.program.schedule.driven
        if source.constant:
            layer = source.layer
            if dtype == source.data.dtype == np.uint8 and (layer.multiplier, layer.offset) == (1, 0):
                return _channels_last(source.raw(start, stop)[0], layer.shape)
            codes = source.block(start, stop, np.int64)[:, 0]
            codes = codes if factor != 1 else codes * driven
        else:
            codes = source.block(start, stop, np.int64)[:, :driven].sum(axis=1)
        return for_kernel(codes, dtype)


def _channels_last(codes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``(B, C * H * W)`` of one type as ``(B, H * W * C)``."""
    if len(shape) == 3 and shape[0] > 1:
        codes = codes.reshape(len(codes), shape[0], -1).swapaxes(1, 2).reshape(len(codes), -1)
    return for_kernel(codes)
