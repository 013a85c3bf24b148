"""What a connection reads: the runs of neighbouring elements that make up a window, and the weights in that order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....kernels.parameters import Window
from .places import Slot

__all__ = ["WindowReading", "border_of", "copied_runs", "dense_over", "fit_bytes"]


@dataclass(frozen=True, eq=False)
class WindowReading:
    """A group of a connection.

    Attributes
    ----------
    weight : (O, I, kh, kw) int64
    dilation, pads : (int, int)
        Rows and columns.
    first : int
        First channel of the source that is read.
    """

    weight: np.ndarray
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    first: int = 0

    def runs(self, source: Slot, whole: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Offsets of the runs from the first pixel of a window at the origin, and weights ``(runs, elements, O)``.

        `whole`: a row of a window may be one run.
        """
        outputs, inputs, kh, kw = self.weight.shape
        (dy, dx), (top, left), c = self.dilation, self.pads, source.channels
        offsets = (np.arange(kh) * dy - top)[:, None] * source.row + (np.arange(kw) * dx - left) * c + self.first
        ordered = self.weight.transpose(2, 3, 1, 0)  # (kh, kw, I, O)
        if not whole or inputs != c or dx != 1:
            return offsets.reshape(-1), ordered.reshape(kh * kw, inputs, outputs)
        if kw * c == source.row and dy == 1:  # rows follow each other
            return offsets[:1, 0], ordered.reshape(1, kh * kw * inputs, outputs)
        return offsets[:, 0], ordered.reshape(kh, kw * inputs, outputs)


def border_of(w: Window) -> tuple[int, int, int, int]:
    """How far windows reach beyond a map: above, below, left and right."""
    below = (w.out_height - 1) * w.stride_y + (w.kernel_height - 1) * w.dilation_y + 1 - w.pad_top - w.height
    right = (w.out_width - 1) * w.stride_x + (w.kernel_width - 1) * w.dilation_x + 1 - w.pad_left - w.width
    return w.pad_top, max(0, below), w.pad_left, max(0, right)


def dense_over(weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Weights ``(O, N, 1, 1)`` of a dense layer as one window over the map whose flattening it reads."""
    return weight.reshape(len(weight), *(shape if len(shape) == 3 else (*shape, 1, 1)))


def fit_bytes(weight: np.ndarray) -> bool:
    """Whether weights and their negatives are bytes."""
    return not weight.size or (int(weight.min()) >= -127 and int(weight.max()) <= 127)


def copied_runs(
    places: np.ndarray, shape: tuple[int, ...], source: Slot, target: Slot, wanted: np.ndarray | None = None
) -> np.ndarray:
    """Runs (source, target, length) of a copy, from the origins of both; a source of -1 is zeros.

    `places`: as in `Copy`, of a value of `shape`; `wanted`: which outputs come from it, where not all do.
    """
    places = places if wanted is None else np.where(wanted, places, -1)
    c, y, x = np.unravel_index(np.maximum(places.reshape(-1), 0), shape if len(shape) == 3 else (*shape, 1, 1))
    come = np.where(places.reshape(-1) < 0, -1, y * source.row + x * source.channels + c)
    here = places.shape if places.ndim == 3 else (*places.shape, 1, 1)
    channel, row, column = np.unravel_index(np.arange(places.size), here)
    go = row * target.row + column * target.channels + channel
    order = np.argsort(go)
    order = order if wanted is None else order[wanted.reshape(-1)[order]]
    come, go = come[order], go[order]
    follows = (np.diff(go) == 1) & np.where(come[1:] < 0, come[:-1] < 0, (np.diff(come) == 1) & (come[:-1] >= 0))
    begins = np.flatnonzero(np.concatenate([[True], ~follows]))
    return np.stack([come[begins], go[begins], np.diff([*begins, len(go)])], axis=1)
