"""The compiled twin of `camera_reference.py`, and the shortest way from images to binned frames.

Only pixels that the image can reach in a tick are looked at; the others see no change.
"""

from typing import NamedTuple

import numpy as np

from ..numbers.compiled import random_word
from ..toolchain.jit import kernel
from .camera_reference import DRAW_JITTER, DRAW_MISMATCH, DRAW_NOISE, DRAW_TIME, POSITION_BITS, Sensor

__all__ = ["Bins", "Sensor", "frames", "stream", "thresholds"]

BITS = np.int64(POSITION_BITS)
ONE_PIXEL = np.int64(1 << POSITION_BITS)
FRACTION = np.int64((1 << POSITION_BITS) - 1)


@kernel
def _drawn(seed, step, part, sample, element, draw, limit):
    """A random integer in ``0 .. limit - 1`` (`limit` at most 2**31)."""
    word = np.int64(random_word(seed, step, part, sample, element, draw) >> np.uint64(33))
    return (word * np.int64(limit)) >> np.int64(31)


@kernel
def thresholds(seed, threshold, mismatch, out):
    """Write the threshold of each pixel to `out` ``(pixels,)`` int32."""
    for pixel in range(out.size):
        out[pixel] = threshold - mismatch + _drawn(seed, 0, 0, 0, pixel, DRAW_MISMATCH, 2 * mismatch + 1)


@kernel
def _box(image):
    """First and last row and column of `image` that are not zero; an empty box for a black image."""
    top, bottom, left, right = image.shape[0], -1, image.shape[1], -1
    for j in range(image.shape[0]):
        for i in range(image.shape[1]):
            if image[j, i] != 0:
                top, bottom = min(top, j), max(bottom, j)
                left, right = min(left, i), max(right, i)
    return top, bottom, left, right


class Bins(NamedTuple):
    """How events become frames: `bin_us` time units each from `start` on, `divide` pixels to one, counts to `clip`."""

    start: int
    bin_us: int
    divide_y: int
    divide_x: int
    clip: int


class _Seen(NamedTuple):
    """The rows and columns that can see an image in a tick, the last ones included."""

    first_row: int
    last_row: int
    first_column: int
    last_column: int


@kernel
def _seen(box, path, k, start_y, start_x, shape):
    """Pixels that see the image at its positions before and after tick k."""
    top, bottom, left, right = box
    before = max(k - 1, 0)
    high, low = max(path[k, 0], path[before, 0]) + start_y, min(path[k, 0], path[before, 0]) + start_y
    far, near = max(path[k, 1], path[before, 1]) + start_x, min(path[k, 1], path[before, 1]) + start_x
    # a pixel sees the rows top - 1 < y - y0 / 16 < bottom + 1, here of both positions
    return _Seen(
        max(0, (low >> BITS) + top - 1),
        min(shape[0] - 1, (high >> BITS) + bottom + 1),
        max(0, (near >> BITS) + left - 1),
        min(shape[1] - 1, (far >> BITS) + right + 1),
    )


@kernel(inline="always")
def _put(events, count, x, y, time, polarity):
    """One more event; it is counted even if it does not fit."""
    if count < events.shape[0]:
        events[count, 0], events[count, 1], events[count, 2], events[count, 3] = x, y, time, polarity
    return count + 1


@kernel
def _noise(sensor, k, part, sample, events, count):
    """In some ticks an event comes from nowhere; the new count."""
    seed, tick, (rows, columns) = sensor.seed, sensor.tick, sensor.levels.shape
    if _drawn(seed, k - 1, part, sample, 0, DRAW_NOISE, 1024) >= sensor.noise:
        return count
    pixel = _drawn(seed, k - 1, part, sample, 1, DRAW_NOISE, 2 * rows * columns)
    time = (k - 1) * tick + _drawn(seed, k - 1, part, sample, 0, DRAW_TIME, tick)
    return _put(events, count, (pixel >> 1) % columns, (pixel >> 1) // columns, time, pixel & 1)


@kernel
def stream(image, sensor, part, sample, last, events):
    """Events of one image in the order of the specification; how many there are.

    Parameters
    ----------
    image : (h, w) uint8, with a border of one black pixel around it
    sensor : Sensor
        Of a table ``(256,)`` and levels ``(H, W)`` int32 and a path ``(ticks + 1, 2)`` int64; the corner is that of the
        image without its border.
    part, sample : int
        As in the specification.
    last : (H, W) int32
        Scratch.
    events : (n, 4) int32
        Receives x, y, t, p of the first n events; more are counted, not written.
    """
    table, levels, path, seed, tick, jitter = (
        sensor.table, sensor.levels, sensor.path, sensor.seed, sensor.tick, sensor.jitter
    )  # fmt: skip
    rows, columns = levels.shape
    box = _box(image)
    start_y = sensor.corner_y - ONE_PIXEL - jitter + _drawn(seed, 0, part, sample, 0, DRAW_JITTER, 2 * jitter + 1)
    start_x = sensor.corner_x - ONE_PIXEL - jitter + _drawn(seed, 0, part, sample, 1, DRAW_JITTER, 2 * jitter + 1)
    black = table[0]
    codes = np.empty(columns, table.dtype)
    count = np.int64(0)
    for y in range(rows):
        for x in range(columns):
            last[y, x] = black
    for k in range(path.shape[0]):
        y0, x0 = start_y + path[k, 0], start_x + path[k, 1]
        seen = _seen(box, path, k, start_y, start_x, levels.shape)
        shift_y, shift_x = (-y0) >> BITS, (-x0) >> BITS
        fy, fx = (-y0) & FRACTION, (-x0) & FRACTION
        w00, w01 = np.int32((ONE_PIXEL - fy) * (ONE_PIXEL - fx)), np.int32((ONE_PIXEL - fy) * fx)
        w10, w11 = np.int32(fy * (ONE_PIXEL - fx)), np.int32(fy * fx)
        from_x = min(max(seen.first_column, -shift_x), seen.last_column + 1)  # that see the image or its border
        to_x = max(min(seen.last_column + 1, image.shape[1] - 1 - shift_x), from_x)
        for y in range(seen.first_row, seen.last_row + 1):
            j = y + shift_y
            codes[seen.first_column : seen.last_column + 1] = black
            if 0 <= j < image.shape[0] - 1:
                for x in range(from_x, to_x):
                    i = x + shift_x
                    value = (
                        image[j, i] * w00 + image[j, i + 1] * w01 + image[j + 1, i] * w10 + image[j + 1, i + 1] * w11
                    )
                    codes[x] = table[value >> np.int32(2 * BITS)]
            for x in range(seen.first_column, seen.last_column + 1):
                moved = codes[x] - last[y, x]
                level = levels[y, x]
                if k == 0:
                    last[y, x] = codes[x]
                elif moved <= -level or moved >= level:
                    polarity = np.int64(moved > 0)
                    times = np.int64(moved if polarity else -moved) // level
                    last[y, x] += times * level if polarity else -times * level
                    for n in range(times):
                        time = (k - 1) * tick + tick * (n + 1) // (times + 1)
                        count = _put(events, count, x, y, time, polarity)
        if k > 0:
            count = _noise(sensor, k, part, sample, events, count)
    return count


@kernel
def frames(images, samples, sensor, part, bins, last, events, out):
    """Streams of many images, binned; the largest number of events of a stream (more than fit: nothing is valid).

    Parameters
    ----------
    images : (N, h, w) uint8, with their borders
    samples : (N,) int64
        Their numbers in the set, for the random bits.
    sensor, part, last, events
        As in `stream`.
    bins : Bins
    out : (N, steps, 2, rows, columns) uint8
        Receives the counts.
    """
    most = np.int64(0)
    for n in range(images.shape[0]):
        count = stream(images[n], sensor, part, samples[n], last, events)
        most = max(most, count)
        frame = out[n]
        frame[:] = 0
        for e in range(min(count, events.shape[0])):
            time = np.int64(events[e, 2]) - bins.start
            if time < 0:
                continue
            step = time // bins.bin_us
            row, column = events[e, 1] // bins.divide_y, events[e, 0] // bins.divide_x
            if step < frame.shape[0] and row < frame.shape[2] and column < frame.shape[3]:
                cell = frame[step, events[e, 3], row, column]
                if cell < bins.clip:
                    frame[step, events[e, 3], row, column] = cell + 1
    return most
