"""A stream of events from an image that moves before a sensor, in plain Python integers: the specification.

Positions are in 1/16 pixel. A pixel of the sensor sees the image between its pixels by bilinear weights of 4 bits
each, which is exact in integers; what it sees is a code of a table (linear or logarithmic), and each full threshold by
which the code has moved since the last event of the pixel is one event more.
"""

from typing import Any, NamedTuple

from ..numbers.reference import random_word

__all__ = ["DRAW_JITTER", "DRAW_MISMATCH", "DRAW_NOISE", "DRAW_TIME", "POSITION_BITS", "Sensor", "stream", "thresholds"]

POSITION_BITS = 4
DRAW_NOISE, DRAW_TIME, DRAW_JITTER, DRAW_MISMATCH = 64, 65, 66, 67


class Sensor(NamedTuple):
    """What all streams of a sensor share; its sequences are arrays for compiled code."""

    table: Any  # 256 int: what a pixel that sees a code reports
    levels: Any  # rows of int: thresholds of the pixels, each at least 1
    path: Any  # (dy, dx): position of the image at the start and after each tick, in 1/16 pixel
    corner_y: int  # where its first pixel lies at position (0, 0), in 1/16 pixel
    corner_x: int
    tick: int  # time units of a tick
    jitter: int  # every stream starts moved by up to so many 1/16 pixels
    noise: int  # in how many of 1,024 ticks an event comes from nowhere
    seed: int  # first part of the key of the random bits


def _drawn(seed: int, step: int, part: int, sample: int, element: int, draw: int, limit: int) -> int:
    """A random integer in ``0 .. limit - 1``."""
    return (random_word(seed, step, part, sample, element, draw) >> 33) * limit >> 31


def thresholds(seed: int, pixels: int, threshold: int, mismatch: int) -> list[int]:
    """Threshold of each pixel: the fixed pattern of one sensor, ``threshold - mismatch .. threshold + mismatch``."""
    return [
        threshold - mismatch + _drawn(seed, 0, 0, 0, pixel, DRAW_MISMATCH, 2 * mismatch + 1) for pixel in range(pixels)
    ]


def stream(image, sensor, part, sample):
    """Events of one image, tick by tick and in C order of the pixels within a tick.

    Parameters
    ----------
    image : rows of int
        Codes 0 .. 255.
    sensor : Sensor
    part, sample : int
        Rest of the key of the random bits.

    Returns
    -------
    list of (x, y, t, p)
        `t` from 0; `p` is 1 where it became brighter.
    """
    table, levels, path, *corner, tick, jitter, noise, seed = sensor
    rows, columns, height, width = len(levels), len(levels[0]), len(image), len(image[0])

    def seen(y, x, top, left):
        """What the pixel (y, x) reports while the image lies at (top, left)."""
        iy, fy = divmod((y << POSITION_BITS) - top, 1 << POSITION_BITS)
        ix, fx = divmod((x << POSITION_BITS) - left, 1 << POSITION_BITS)
        total = 0
        for j, wy in ((iy, (1 << POSITION_BITS) - fy), (iy + 1, fy)):
            for i, wx in ((ix, (1 << POSITION_BITS) - fx), (ix + 1, fx)):
                if 0 <= j < height and 0 <= i < width:
                    total += int(image[j][i]) * wy * wx
        return int(table[total >> 2 * POSITION_BITS])

    start = [
        corner[axis] - jitter + _drawn(seed, 0, part, sample, axis, DRAW_JITTER, 2 * jitter + 1) for axis in range(2)
    ]
    places = [(start[0] + int(dy), start[1] + int(dx)) for dy, dx in path]
    last = [[seen(y, x, *places[0]) for x in range(columns)] for y in range(rows)]
    events = []
    for k, place in enumerate(places[1:]):
        begin = k * tick
        for y in range(rows):
            for x in range(columns):
                moved = seen(y, x, *place) - last[y][x]
                level, polarity = int(levels[y][x]), int(moved > 0)
                count = abs(moved) // level
                last[y][x] += (1 if polarity else -1) * count * level
                for i in range(count):
                    events.append((x, y, begin + tick * (i + 1) // (count + 1), polarity))
        if _drawn(seed, k, part, sample, 0, DRAW_NOISE, 1024) < noise:
            pixel = _drawn(seed, k, part, sample, 1, DRAW_NOISE, 2 * rows * columns)
            when = begin + _drawn(seed, k, part, sample, 0, DRAW_TIME, tick)
            events.append((pixel // 2 % columns, pixel // 2 // columns, when, pixel % 2))
    return events
