"""How the values of a program lie: maps with channels fastest, padded to whole tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....layers import primitives as P
from ...program import Program
from .layout import padded
from .store import Store

__all__ = ["SUMS", "Maps"]

SUMS = "\0sums"  # ends the name of a charge that holds the sums of a connection alone


class Maps:
    """Sizes of the values of `program`, as fields of an operation."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one sample, as the API has it."""
        return self.program.values[name].shape

    def of(self, name: str) -> tuple[int, int, int]:
        """Height, width and padded channels of a value, or of the charge of that name."""
        shape = self.shape(name.removesuffix(SUMS))
        return (shape[1], shape[2], padded(shape[0])) if len(shape) == 3 else (1, 1, padded(shape[0]))

    def places(self, source: str, name: str) -> dict[str, int]:
        """Sizes of maps of which every place is by itself."""
        h, w, c = self.of(source)
        oh, ow, oc = self.of(name)
        return {
            "HEIGHT": h, "WIDTH_IN": w, "CHANNELS": c, "OUT_HEIGHT": oh, "OUT_WIDTH": ow, "OUT_CHANNELS": oc,
            "KERNEL_Y": 1, "KERNEL_X": 1, "STRIDE_Y": 1, "STRIDE_X": 1, "TOP": 0, "LEFT": 0, "DILATION_Y": 1,
            "DILATION_X": 1, "IN_CHANNELS": self.shape(source)[0], "REAL_OUT": self.shape(name)[0], "GROUPS": 1,
        }  # fmt: skip

    def windows(self, source: str, name: str, window) -> dict[str, int]:
        """Sizes of maps and of the windows over them."""
        return self.places(source, name) | {
            "KERNEL_Y": window.kernel_height, "KERNEL_X": window.kernel_width, "STRIDE_Y": window.stride_y,
            "STRIDE_X": window.stride_x, "TOP": window.pad_top, "LEFT": window.pad_left,
            "DILATION_Y": window.dilation_y, "DILATION_X": window.dilation_x, "GROUPS": window.groups,
        }  # fmt: skip

    def maximum_states(self, source: str, name: str) -> int:
        """Totals that a max-pool keeps: of its inputs, then its own."""
        return math.prod(self.of(source)) + math.prod(self.of(name))

    def copied(self, store: Store, sources: Sequence[str], at: int, name: str, copy: P.Copy) -> dict[str, int]:
        """Sizes, and for each piece of the output where it comes from, in the source of number `at`.

        -1 stands for zeros, -2 for pieces that the copy from another source writes; pixels where they stay whole.
        """
        source, begin = sources[at], sum(math.prod(self.shape(other)) for other in sources[:at])
        here, there = self._lying(name), self._lying(source)
        channels, pieces = self.of(name)[2], 1
        where = np.full(math.prod(self.of(name)), -2 if at else -1, np.int64)
        places = copy.places.reshape(-1)
        inside = (places >= begin) & (places < begin + len(there))
        others = np.where(places < 0, -2 if at else -1, -2)
        where[here] = np.where(inside, there[np.where(inside, places - begin, 0)], others)
        if channels == self.of(source)[2]:
            pixels = where.reshape(-1, channels)[:, : self.shape(name)[0]]
            first = pixels[:, :1]
            whole = np.where(first < 0, first, first + np.arange(pixels.shape[1]))
            if np.array_equal(pixels, whole) and not (np.maximum(first, 0) % channels).any():
                pieces, where = channels, first
        index = store.put("numbers", where.astype(np.int32))
        return self.places(source, name) | {"INDEX": index, "GRANULE": pieces}

    def _lying(self, name: str) -> np.ndarray:
        """Where each element in API order (C, H, W) lies."""
        shape = self.shape(name)
        if len(shape) == 1:
            return np.arange(shape[0])
        c, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
        return ((y * shape[2] + x) * self.of(name)[2] + c).reshape(-1)
