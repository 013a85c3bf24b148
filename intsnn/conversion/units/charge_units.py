"""Where do the levels of a neuron begin, and which unit, threshold and bias put them there?

Arrays (C,) have an entry for each channel. Charges are whole numbers of steps of `lattice` coarse units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ...network.quantised import QuantReLU

__all__ = ["Boundaries", "bits_over", "boundaries", "channels"]


def channels(values, size: int) -> np.ndarray:
    """One float64 for each of `size` channels."""
    return np.ascontiguousarray(np.broadcast_to(np.asarray(values, np.float64), (size,)))


def bits_over(value: float, most: float) -> int:
    """By how many binary orders `value` is above `most`."""
    return max(0, math.ceil(math.log2(value / most)))


@dataclass(frozen=True, eq=False)
class Boundaries:
    """Levels of one neuron layer by the charge of the one branch into it.

    Attributes
    ----------
    begins : (C, L) float64
        Whole charge, in steps of `lattice`, at which each level above the least begins.
    bottom : int
        The least level.
    low, high : (C, 1) float64
        Ends of the charges that can come, `high` one beyond.
    lattice : int or (C,) int64
    reach : (low, high), each (C,) float64
        The same in coarse units.
    level : (C,)
        Of a dead channel: the level that it always has.
    dead : (C,) bool
        The level is the same for every charge.
    """

    begins: np.ndarray
    bottom: int
    low: np.ndarray
    high: np.ndarray
    lattice: int | np.ndarray
    reach: tuple[np.ndarray, np.ndarray]
    level: np.ndarray
    dead: np.ndarray

    def without_slight(self, node: QuantReLU, unit: np.ndarray, bias: np.ndarray, largest: int) -> Boundaries:
        """Dead, too, are channels whose thresholds are beyond `largest` and whose charges span under half a level."""
        low, high = self.reach
        middle = (low + high) / 2 * unit + bias
        slight = ~self.dead & (node.step / unit >= largest) & ((high - low) * unit < node.step / 2)
        level = np.where(slight, np.clip(np.floor(middle / node.step + 0.5), node.bottom, node.levels), self.level)
        return replace(self, level=level, dead=self.dead | slight)

    def unit(self, node: QuantReLU, unit: np.ndarray, area: np.ndarray, largest: int) -> np.ndarray:
        """The units (C,), and for dead channels some in which a level is a whole number of biases, or nearly."""
        if not self.dead.any():
            return unit
        live = ~self.dead
        unit = np.where(self.dead, 1.0, unit)  # as coarse as the others
        widest = float((node.step / unit[live]).max(initial=1.0))
        return np.where(self.dead, node.step / np.minimum(np.maximum(np.floor(widest), 4 * area), largest), unit)

    def placed(
        self, node: QuantReLU, unit: np.ndarray, theta: np.ndarray, shift: np.ndarray,
        real: tuple[np.ndarray, np.ndarray], fitted: bool,
    ) -> tuple[np.ndarray, int]:  # fmt: skip
        """Biases (C,) in fine units, and how many levels do not begin where they should.

        `real`: bias of the neuron in real units and how often a pool adds it up; `fitted`: biases may move to where no
        level does.
        """
        bias, area = real
        edge = self._edges(theta)
        whole = np.floor(np.where(self.dead, self.level * node.step, bias) / (unit * area) + 0.5)
        times = np.round(area)
        span = (self.lattice * 2.0**shift).astype(np.int64)[:, None]
        if fitted:
            near = _nearest_bias(whole, edge, self, span, times)
            whole = np.where(self.dead, whole, near)
        total = (whole * times).astype(np.int64)  # a pool adds it up
        moved = self._moved(edge, total, span)
        found = np.clip((total + (theta >> 1)) // theta, node.bottom, node.levels)
        moved += int(np.abs(found - self.level)[self.dead].sum())
        return whole, moved

    def _moved(self, edge: np.ndarray, total: np.ndarray, span: np.ndarray) -> int:
        """How many levels of live channels do not begin where they should, beside whole biases `total` (C,)."""
        start = np.clip(-((total[:, None] - edge) // span), self.low, self.high)
        return int((start != self.begins)[~self.dead].sum())

    def _edges(self, theta: np.ndarray) -> np.ndarray:
        """Charges (C, L), in fine units and without bias, that reach each level."""
        n = np.arange(self.bottom + 1, self.bottom + 1 + self.begins.shape[1])
        return n * theta[:, None] - (theta[:, None] >> 1)

    def moved_in_sum(self, theta: np.ndarray, total: np.ndarray) -> int:
        """The same of a sum of branches whose coarse units are the fine ones, in all channels."""
        edge = self._edges(theta)
        return replace(self, dead=np.zeros_like(self.dead))._moved(edge, total, np.asarray(self.lattice)[:, None])


def boundaries(
    node: QuantReLU, unit: np.ndarray, bias: np.ndarray, reach: tuple[np.ndarray, np.ndarray, int | np.ndarray]
) -> Boundaries:
    """Where levels begin for charges in `reach` (low, high, lattice), each worth `unit`, beside a real bias."""
    reach_low, reach_high, lattice = reach
    low, high = np.ceil(reach_low / lattice)[:, None], np.floor(reach_high / lattice)[:, None] + 1
    n = np.arange(node.bottom + 1, node.levels + 1)
    step = lattice[:, None] if isinstance(lattice, np.ndarray) else lattice
    with np.errstate(over="ignore"):
        begins = np.ceil(((n - 0.5) * node.step - bias[:, None]) / unit[:, None] / step)
    begins = np.clip(begins, low, high)
    level = node.bottom + (begins <= low).sum(axis=1)
    dead = ((begins <= low) | (begins >= high)).all(axis=1)
    return Boundaries(begins, node.bottom, low, high, lattice, (reach_low, reach_high), level, dead)


def _nearest_bias(near, edges, known: Boundaries, size: np.ndarray, area) -> np.ndarray:
    """Biases (C,) closest to `near` with which every level begins at its charge, `near` itself where there is none.

    Parameters
    ----------
    near : (C,) float64
        Whole numbers; the neuron gets `area` times as much.
    edges : (C, L) int64
        Charge, in fine units and without bias, that reaches each level.
    known : Boundaries
        In steps of `size` fine units; a level at an end of what can be reached only must not begin on the other side.
    """
    starts = known.begins
    least = np.where(starts < known.high, edges - starts * size, -np.inf).max(axis=1)
    most = np.where(starts > known.low, edges - (starts - 1) * size, np.inf).min(axis=1) - 1
    first, last = np.ceil(least / area), np.floor(most / area)
    return np.where(first <= last, np.clip(near, first, last), near)
