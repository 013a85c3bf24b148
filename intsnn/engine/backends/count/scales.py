"""Levels without a division: per channel five numbers, proven for every sum that can come.

The level of a sum S is ``n(S) = clip(floor((V0 + m S + B) / theta), bottom, L)``, here counted from the bottom: V0 is
larger by as many thresholds, and the line lower in the end. With ``u = min(max(S, low), high) - low``
it is ``(u * factor + offset) >> (32 + shift)``: a straight line between the steps of a staircase. `find_scales` looks
for the line and proves it: n never falls, so that it is enough to see that the line reaches k at the first S of every
level k, and not at the S before (a division by an invariant integer as in Granlund and Montgomery, PLDI 1994; here the
line has to be right only where levels change, so that 32 bits of factor do).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Scales", "find_scales", "divided_levels"]

MOST_SHIFT = 30
MOST_BITS = 62  # of everything that is computed here, and of u * factor + offset
LARGEST = (1 << 32) - 1  # factor
INT32 = (-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True, eq=False)
class Scales:
    """Of every channel (C,): `low` and `high` (int32), `factor` (uint32), `shift` (0 to 30), `offset` (int64)."""

    low: np.ndarray
    high: np.ndarray
    factor: np.ndarray
    shift: np.ndarray
    offset: np.ndarray

    def levels(self, sums: np.ndarray) -> np.ndarray:
        """Levels (…, C) of sums (…, C): what the kernels compute."""
        u = (np.clip(sums, self.low, self.high) - self.low).astype(np.uint64)
        line = (u * self.factor.astype(np.uint64)).astype(np.int64) + self.offset
        return line >> (32 + self.shift)


def divided_levels(sums, multiplier, start, threshold, ends: tuple[int, int]) -> np.ndarray:
    """The same by a division: ``clip(floor((start + multiplier * sums) / threshold), *ends)``."""
    return np.clip((start + multiplier * sums) // threshold, *ends)


def find_scales(
    multiplier: np.ndarray,
    start: np.ndarray,
    threshold: np.ndarray,
    ends: tuple[int, int],
    low: np.ndarray,
    high: np.ndarray,
) -> Scales | None:
    """The scales of a layer, or None where a channel has none.

    Parameters
    ----------
    multiplier : (C,)
        Of the sums, at least 0.
    start : (C,)
        V0 and bias of the whole drive.
    threshold : (C,)
        At least 1.
    ends : (int, int)
        Least level, 0 or below, and L.
    low, high : (C,)
        Every sum lies between them, ends included.
    """
    numbers = [np.array([int(x) for x in values], object) for values in (multiplier, start, threshold, low, high)]
    m, b, theta, low, high = numbers
    bottom, top = ends[0], ends[1] - ends[0]
    b = b - bottom * theta
    largest = max(top * int(theta.max()) + int(np.abs(b).max()), int(np.abs(low).max()), int(np.abs(high).max()))
    if largest.bit_length() > MOST_BITS or int(low.min()) < INT32[0] or int(high.max()) > INT32[1]:
        return None
    m, b, theta, low, high = (values.astype(np.int64) for values in (m, b, theta, low, high))
    k = np.arange(1, top + 1, dtype=np.int64)
    flat = m == 0
    first = -((b[:, None] - k * theta[:, None]) // np.where(flat, 1, m)[:, None])  # smallest S of level k
    below = np.where(flat, np.clip(b // theta, 0, top), (first <= low[:, None]).sum(axis=1))  # level of the lowest
    above = np.where(flat, below, (first <= high[:, None]).sum(axis=1))  # of the highest
    moves = above > below
    begin = np.where(moves, np.maximum(first[:, 0] - 1, low), 0)
    end = np.where(moves, np.take_along_axis(first, np.maximum(above - 1, 0)[:, None], 1)[:, 0], 0)
    shift = _shifts(m, theta, top)
    unit = np.int64(1) << (32 + shift)
    if shift.min() < 0:
        return None
    line = [(int(a) << (32 + int(s))) // int(t) for a, t, s in zip(m, theta, shift, strict=True)]
    factor = np.where(moves, np.minimum(np.array(line, np.int64), LARGEST), 0)
    counts = (k > below[:, None]) & (k <= above[:, None])
    offset, sure = _offsets(factor, first - begin[:, None], counts, k, unit, below, above, end - begin)
    if not sure.all():  # one more on the last place of the factor leans the other way
        steeper = np.where(sure, factor, factor + 1)
        offset, sure = _offsets(steeper, first - begin[:, None], counts, k, unit, below, above, end - begin)
        factor = steeper
    if not sure.all() or int(factor.max(initial=0)) > LARGEST:
        return None
    return Scales(begin, end, factor, shift, offset + bottom * unit)


def _shifts(m: np.ndarray, theta: np.ndarray, top: int) -> np.ndarray:
    """The largest shifts with which the factor has 32 bits, and the line fewer than `MOST_BITS`; -1: there is none."""
    room = MOST_BITS - 32 - (top + 2).bit_length()
    found = [
        min(MOST_SHIFT, room, max(0, (t // a).bit_length() - 2) if t >= a else -1) if a else 0
        for a, t in zip(m.tolist(), theta.tolist(), strict=True)
    ]
    return np.array(found, np.int64)


def _offsets(factor, at, counts, k, unit, below, above, span):
    """Offsets that make the line right at every step, and where there is one: the largest lower bound."""
    step = k * unit[:, None]
    least = np.where(counts, step - factor[:, None] * np.where(counts, at, 0), np.int64(-1) << 62).max(axis=1)
    most = np.where(counts, step - 1 - factor[:, None] * np.where(counts, at - 1, 0), np.int64(1) << 62).min(axis=1)
    least = np.maximum(least, below * unit)
    most = np.minimum(most, (above + 1) * unit - 1 - factor * span)
    return least, least <= most
