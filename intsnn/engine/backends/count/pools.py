"""The constants of a table: flat arrays that weights, scales, biases and offsets of runs are appended to."""

from __future__ import annotations

import numpy as np

from ....kernels.count.opcodes import BYTES
from ..flat import FlatArrays
from .places import Slot
from .windows import WindowReading

__all__ = ["ConstantPools", "padded_channels"]

KINDS: dict[str, type] = {"weights_8": np.int8, "weights_16": np.int16, "numbers": np.int32, "big": np.int64}


def padded_channels(channels: int) -> int:
    """`channels` up to whole tiles."""
    return -(-channels // 64) * 64


class ConstantPools(FlatArrays):
    """What grows while a table is laid out.

    Attributes
    ----------
    longest, widest : int
        Elements of the longest run in 64 bits, and sums of a pixel whose channels are by themselves.
    """

    def __init__(self) -> None:
        from ....kernels.count import vectors

        self._pack = vectors.pack_tile
        super().__init__(KINDS if 4 in vectors.FORMS else KINDS | {"weights_8": np.int16})
        self.longest, self.widest = 64, vectors.MOST_SUMS

    def channels(self, values, channels: int, padding: int = 0, small: bool = False) -> int:
        """One number for each channel, in 64 bits; `small`: in 32, modulo 2**32."""
        full = np.full(padded_channels(channels), padding, np.int64)
        full[:channels] = np.broadcast_to(np.asarray(values, object), (channels,)).astype(np.int64)
        if small:
            return self.put("numbers", (full & 0xFFFFFFFF).astype(np.uint32).view(np.int32))
        return self.put("big", full)

    def tiles(self, source: Slot, reading: WindowReading, fields: dict[str, int]) -> dict[str, int]:
        """Weights of dot products, tile after tile."""
        depth = 4 if source.kind == BYTES else 2
        runs, matrix = reading.runs(source)
        count, length, outputs = matrix.shape
        deep = -(-length // depth) * depth
        full = np.zeros((count, deep, padded_channels(outputs)), np.int64)
        full[:, :length, :outputs] = matrix
        full = full.reshape(count * deep, -1)
        parts, column = [], 0
        while column < outputs:
            width = 64 if outputs - column > 32 else 32
            parts.append(self._pack(full[:, column : column + width], depth))
            column += width
        weights = self.put("weights_8" if depth == 4 else "weights_16", np.concatenate(parts))
        return {
            "RUNS": self.put("big", runs), "RUN_COUNT": count, "RUN_LENGTH": deep, "WEIGHTS": weights, "FORM": depth,
        }  # fmt: skip

    def each(self, source: Slot, reading: WindowReading, fields: dict[str, int]) -> dict[str, int]:
        """Weights of channels by themselves ``(taps, C)``."""
        runs, matrix = reading.runs(source, whole=False)
        full = np.zeros((len(runs), fields["PADDED"]), np.int64)
        full[:, : matrix.shape[2]] = matrix[:, 0]
        self.widest = max(self.widest, fields["PADDED"])
        return {"RUNS": self.put("big", runs), "RUN_COUNT": len(runs), "WEIGHTS": self.put("weights_16", full)}

    def wide(self, source: Slot, reading: WindowReading, fields: dict[str, int]) -> dict[str, int]:
        """Weights of 64 bits ``(runs, elements, C)``."""
        runs, matrix = reading.runs(source)
        self.longest = max(self.longest, *matrix.shape[1:])
        return {
            "RUNS": self.put("big", runs), "RUN_COUNT": len(runs), "RUN_LENGTH": matrix.shape[1],
            "WEIGHTS": self.put("big", matrix),
        }  # fmt: skip
