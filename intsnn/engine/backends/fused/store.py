"""The flat constants of a table: weights, and what belongs to channels, one behind the other."""

from __future__ import annotations

import numpy as np

from ....layers.schedule import Schedule, bias_schedule
from ..flat import FlatArrays
from .layout import padded

__all__ = ["Store"]

NAMES = ("rows", "dots", "numbers", "big")  # as in `Constants` of intsnn.kernels.fused.opcodes


class Store(FlatArrays):
    """Four flat arrays that grow: weights as rows (int8) and for dot products, numbers of 32 and of 64 bits.

    Every `put` answers where its numbers begin.
    """

    def __init__(self, schedule: Schedule, tiles) -> None:
        self.schedule, self.tiles = schedule, tiles
        super().__init__(dict(zip(NAMES, (np.int8, tiles.DOT_TYPE, np.int32, np.int64), strict=True)))

    def put_numbers(self, values, channels: int, padding: int = 0, wide: bool = False) -> int:
        """One number for each channel, and `padding` for those that only fill up a tile."""
        full = np.full(padded(channels), padding, np.int64)
        full[:channels] = np.broadcast_to(values, (channels,))
        return self.put("big", full) if wide else self.put("numbers", full.astype(np.int32))

    def put_bias(self, bias: np.ndarray | None, mode: str, channels: int, wide: bool = False) -> int:
        """Rows of the driven steps and one of zeros."""
        driven = self.schedule.driven
        rows = np.zeros((driven + 1, padded(channels)), np.int64)
        if bias is not None:
            rows[:driven, :channels] = bias_schedule(bias, mode, self.schedule.drive, 0, driven)
        return self.put("big", rows) if wide else self.put("numbers", rows.astype(np.int32))

    def put_dots(self, matrix: np.ndarray) -> int:
        """Weights ``(K, channels)`` for dot products, tile after tile."""
        wide = self.tiles.DOT_WIDTH
        parts = [self.tiles.pack_dots(matrix[:, c : c + wide]) for c in range(0, matrix.shape[1], wide)]
        return self.put("dots", np.concatenate(parts))
