"""The constants of a table: flat arrays that weights, scales, biases and offsets of runs are appended to."""

from __future__ import annotations

import numpy as np

from ....kernels.count.opcodes import BYTES
from ....kernels.toolchain.arrays import zeros
from .places import Slot
from .windows import WindowReading

__all__ = ["ConstantPools", "padded_channels"]

KINDS = {"weights_8": np.int8, "weights_16": np.int16, "numbers": np.int32, "big": np.int64}
SLACK = 256  # elements behind an array that vectors may read


def padded_channels(channels: int) -> int:
    """`channels` up to whole tiles."""
    return -(-channels // 64) * 64


class ConstantPools:
    """What grows while a table is laid out.

    Attributes
    ----------
    longest, widest : int
        Elements of the longest run in 64 bits, and sums of a pixel whose channels are by themselves.
    """

    def __init__(self) -> None:
        from ....kernels.count import vectors

        self._pack = vectors.pack_tile
        self._kinds = KINDS if 4 in vectors.FORMS else KINDS | {"weights_8": np.int16}
        self._parts: dict[str, list[np.ndarray]] = {name: [] for name in KINDS}
        self._used = dict.fromkeys(KINDS, 0)
        self.longest, self.widest = 64, vectors.MOST_SUMS

    def put(self, pool: str, values) -> int:
        """Append to a flat pool, from a cache line on; where it begins."""
        array = np.asarray(values).reshape(-1)
        at, line = self._used[pool], 64 // np.dtype(self._kinds[pool]).itemsize
        full = np.zeros(-(-array.size // line) * line, self._kinds[pool])
        full[: array.size] = array
        self._parts[pool].append(full)
        self._used[pool] += full.size
        return at

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

    def arrays(self) -> list[np.ndarray]:
        """All of them, as `CountConstants` has them."""
        found = []
        for parts, kind in zip(self._parts.values(), self._kinds.values(), strict=True):
            found.append(zeros(sum(part.size for part in parts) + SLACK, kind))
            if parts:
                found[-1][:-SLACK] = np.concatenate(parts)
        return found
