"""The compiled twin of `camera_reference.py`, and the shortest way from images to binned frames.

Only pixels that the image can reach in a tick are looked at; the others see no change.
"""

import numpy as np

from ..numbers.compiled import random_word
from ..toolchain.jit import kernel
from .camera_reference import DRAW_JITTER, DRAW_MISMATCH, DRAW_NOISE, DRAW_TIME, POSITION_BITS

__all__ = ["frames", "stream", "thresholds"]

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


@kernel
def stream(image, table, levels, path, corner_y, corner_x, tick, jitter, noise, seed, part, sample, last, events):
    """Events of one image in the order of the specification; how many there are.

    Parameters
    ----------
    image : (h, w) uint8, with a border of one black pixel around it
    table : (256,) int32
    levels : (H, W) int32
    path : (ticks + 1, 2) int64
    corner_y, corner_x, tick, jitter, noise, seed, part, sample : int
        As in the specification; the corner is that of the image without its border.
    last : (H, W) int32
        Scratch.
    events : (n, 4) int32
        Receives x, y, t, p of the first n events; more are counted, not written.
    """
    rows, columns = levels.shape
    top, bottom, left, right = _box(image)
    start_y = corner_y - ONE_PIXEL - jitter + _drawn(seed, 0, part, sample, 0, DRAW_JITTER, 2 * jitter + 1)
    start_x = corner_x - ONE_PIXEL - jitter + _drawn(seed, 0, part, sample, 1, DRAW_JITTER, 2 * jitter + 1)
    black = table[0]
    codes = np.empty(columns, table.dtype)
    count = np.int64(0)
    for k in range(path.shape[0]):
        y0, x0 = start_y + path[k, 0], start_x + path[k, 1]
        before = max(k - 1, 0)
        high, low = max(path[k, 0], path[before, 0]) + start_y, min(path[k, 0], path[before, 0]) + start_y
        far, near = max(path[k, 1], path[before, 1]) + start_x, min(path[k, 1], path[before, 1]) + start_x
        # a pixel sees the rows top - 1 < y - y0 / 16 < bottom + 1, here of both positions
        first_row = max(0, (low >> BITS) + top - 1)
        last_row = min(rows - 1, (high >> BITS) + bottom + 1)
        first_column = max(0, (near >> BITS) + left - 1)
        last_column = min(columns - 1, (far >> BITS) + right + 1)
        shift_y, shift_x = (-y0) >> BITS, (-x0) >> BITS
        fy, fx = (-y0) & FRACTION, (-x0) & FRACTION
        w00, w01 = np.int32((ONE_PIXEL - fy) * (ONE_PIXEL - fx)), np.int32((ONE_PIXEL - fy) * fx)
        w10, w11 = np.int32(fy * (ONE_PIXEL - fx)), np.int32(fy * fx)
        if k == 0:
            for y in range(rows):
                for x in range(columns):
                    last[y, x] = black
        begin = (k - 1) * tick
        from_x = min(max(first_column, -shift_x), last_column + 1)  # columns that see the image or its border
        to_x = max(min(last_column + 1, image.shape[1] - 1 - shift_x), from_x)
        for y in range(first_row, last_row + 1):
            j = y + shift_y
            codes[first_column : last_column + 1] = black
            if 0 <= j < image.shape[0] - 1:
                for x in range(from_x, to_x):
                    i = x + shift_x
                    value = (
                        image[j, i] * w00 + image[j, i + 1] * w01 + image[j + 1, i] * w10 + image[j + 1, i + 1] * w11
                    )
                    codes[x] = table[value >> np.int32(2 * BITS)]
            if k == 0:
                for x in range(first_column, last_column + 1):  # no slices: their error message is made with floats
                    last[y, x] = codes[x]
                continue
            for x in range(first_column, last_column + 1):
                moved = codes[x] - last[y, x]
                level = levels[y, x]
                if -level < moved < level:
                    continue
                polarity = np.int64(moved > 0)
                times = np.int64(moved if polarity else -moved) // level
                last[y, x] += times * level if polarity else -times * level
                for n in range(times):
                    if count < events.shape[0]:
                        events[count, 0], events[count, 1] = x, y
                        events[count, 2] = begin + tick * (n + 1) // (times + 1)
                        events[count, 3] = polarity
                    count += 1
        if k > 0 and _drawn(seed, k - 1, part, sample, 0, DRAW_NOISE, 1024) < noise:
            pixel = _drawn(seed, k - 1, part, sample, 1, DRAW_NOISE, 2 * rows * columns)
            if count < events.shape[0]:
                events[count, 0], events[count, 1] = (pixel >> 1) % columns, (pixel >> 1) // columns
                events[count, 2] = begin + _drawn(seed, k - 1, part, sample, 0, DRAW_TIME, tick)
                events[count, 3] = pixel & 1
            count += 1
    return count


@kernel
def frames(
    images, samples, table, levels, path, corner_y, corner_x, tick, jitter, noise, seed, part, start, bin_us,
    divide_y, divide_x, clip, last, events, out,
):  # fmt: skip
    """Streams of many images, binned; the largest number of events of a stream (more than fit: nothing is valid).

    Parameters
    ----------
    images : (N, h, w) uint8, with their borders
    samples : (N,) int64
        Their numbers in the set, for the random bits.
    start, bin_us, divide_y, divide_x, clip : int
    out : (N, steps, 2, rows, columns) uint8
        Receives the counts.
    """
    most = np.int64(0)
    for n in range(images.shape[0]):
        count = stream(
            images[n], table, levels, path, corner_y, corner_x, tick, jitter, noise, seed, part, samples[n], last,
            events,
        )  # fmt: skip
        most = max(most, count)
        frame = out[n]
        frame[:] = 0
        for e in range(min(count, events.shape[0])):
            time = np.int64(events[e, 2]) - start
            if time < 0:
                continue
            step = time // bin_us
            row, column = events[e, 1] // divide_y, events[e, 0] // divide_x
            if step < frame.shape[0] and row < frame.shape[2] and column < frame.shape[3]:
                cell = frame[step, events[e, 3], row, column]
                if cell < clip:
                    frame[step, events[e, 3], row, column] = cell + 1
    return most
