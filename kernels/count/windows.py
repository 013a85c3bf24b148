"""Windows of the count path: the largest value of each channel, or the sum of all.

Plain functions say what they mean and are the tier ``portable``; the others are written as vectors.
"""

from typing import NamedTuple

import numpy as np

from ..toolchain.emit import Emit, emitted, vector
from ..toolchain.jit import kernel
from ..toolchain.tier import tier

__all__ = ["WindowPlaces", "plain_window", "window_most", "window_total"]

LANES = 16  # channels of a vector


class WindowPlaces(NamedTuple):
    """A window of a map that is not empty: `ny` rows, `row` apart, of `nx` pixels, `pixel` apart."""

    at: int
    ny: int
    nx: int
    row: int
    pixel: int
    channels: int
    to: int


def plain_window(data, out, window, most):
    """``out[window.to + c]``: largest value of a window, or the sum of all."""
    for c in range(window.channels):
        best = np.int64(data[window.at + c]) if most else np.int64(0)
        for y in range(window.ny):
            for x in range(window.nx):
                value = np.int64(data[window.at + y * window.row + x * window.pixel + c])
                best = max(best, value) if most else best + value
        out[window.to + c] = best


def _plain_most(data, out, window):
    for c in range(window.channels):
        best = data[window.at + c]
        for y in range(window.ny):
            for x in range(window.nx):
                value = data[window.at + y * window.row + x * window.pixel + c]
                if value > best:
                    best = value
        out[window.to + c] = best


def _plain_total(data, out, window):
    for c in range(window.channels):
        total = np.int64(0)
        for y in range(window.ny):
            for x in range(window.nx):
                total += np.int64(data[window.at + y * window.row + x * window.pixel + c])
        out[window.to + c] = total


def _window(e: Emit, most: bool):
    """Sixteen channels at a time, the last of a row again with those before; fewer than sixteen one by one."""
    b = e.builder
    source, target = e.element("data"), e.element("out")
    signed = source.width > 8

    def channels(lanes: int, c):
        kind = vector(lanes, source) if lanes > 1 else source
        wide = kind if most or source == target else (vector(lanes, target) if lanes > 1 else target)
        start = e.pointer("data", b.add(e.whole("window.at"), c))
        cell = e.cell(e.read(start, kind) if most else e.zeros(wide))
        with e.loop(0, e.whole("window.ny")) as y:
            line = e.shift(start, b.mul(y, e.whole("window.row")))
            with e.loop(0, e.whole("window.nx")) as x:
                value, old = e.read(e.shift(line, b.mul(x, e.whole("window.pixel"))), kind), e.get(cell)
                if most:
                    larger = b.icmp_signed(">", value, old) if signed else b.icmp_unsigned(">", value, old)
                    e.put(b.select(larger, value, old), cell)
                else:
                    value = value if wide == kind else (b.sext if signed else b.zext)(value, wide)
                    e.put(b.add(old, value), cell)
        e.write(e.get(cell), e.pointer("out", b.add(e.whole("window.to"), c)))

    count = e.whole("window.channels")
    with b.if_else(b.icmp_signed(">=", count, e.number(LANES))) as (many, few):
        with many:
            last = b.sub(count, e.number(LANES))
            with e.loop(0, count, LANES) as c:
                channels(LANES, b.select(b.icmp_signed("<", c, last), c, last))
        with few, e.loop(0, count) as c:
            channels(1, c)


if tier() == "portable":
    window_most, window_total = kernel(_plain_most), kernel(_plain_total)
else:
    window_most = emitted("data out window", lambda e: _window(e, True))
    window_total = emitted("data out window", lambda e: _window(e, False))
