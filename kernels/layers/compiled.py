"""Compiled connections and pools: twins of `reference.py`, same names, signatures and integers.

Sums are kept in the type of the output (int32 or int64, chosen from a static bound): modular
arithmetic in between is exact because the final sum is proven to fit.
"""

from ..numbers.compiled import round_div
from ..toolchain.jit import kernel, like
from .vector import add_rows


@kernel
def _list_events(x, height, width, channels, offsets, indices, values):
    """Non-zero entries of one sample in the order row, step, column, channel.

    The events of row y, step t and column x are ``offsets[(y * T + t) * width + x]`` up to the next offset;
    an index is ``x * channels + c``. Neighbouring columns lie together: a kernel row is one range.
    """
    steps = x.shape[0]
    total = 0
    for y in range(height):
        for t in range(steps):
            for px in range(width):
                offsets[(y * steps + t) * width + px] = total
                base = (y * width + px) * channels
                for c in range(channels):
                    value = x[t, base + c]
                    indices[total] = px * channels + c  # written always, kept only if the value counts: no branch
                    values[total] = value
                    total += value != 0
    offsets[height * steps * width] = total


@kernel
def convolve(x, weight, window, multiplier, bias, alive, offsets, indices, values, sums, out):
    """Twin of `reference.convolve`.

    Scratch: `offsets` (pixels * Tx + 1,), `indices` and `values` (pixels * Tx * C + 1,), `sums` (O,).
    """
    samples, steps_in, _ = x.shape
    steps = out.shape[1]
    outputs = window.out_channels
    per_group = outputs // window.groups
    inputs_per_group = window.channels // window.groups
    rows = weight.reshape(-1)
    kernel_row = window.kernel_width * window.channels * per_group
    # with dilation the columns of a kernel row lie apart: one range each
    taps, span = (1, window.kernel_width) if window.dilation_x == 1 else (window.kernel_width, 1)
    for b in range(samples):
        if not alive[b]:
            continue
        _list_events(x[b], window.height, window.width, window.channels, offsets, indices, values)
        if offsets[window.height * window.width * steps_in] == 0:  # silence: only the bias flows
            for t in range(steps):
                added = bias[t if bias.shape[0] > 1 else 0]
                for base in range(0, out.shape[2], outputs):
                    for o in range(outputs):
                        out[b, t, base + o] = added[o]
            continue
        for out_y in range(window.out_height):
            for out_x in range(window.out_width):
                base = (out_y * window.out_width + out_x) * outputs
                left = out_x * window.stride_x - window.pad_left
                for s in range(steps_in):
                    sums[:] = 0
                    for ky in range(window.kernel_height):
                        y = out_y * window.stride_y - window.pad_top + ky * window.dilation_y
                        if y < 0 or y >= window.height:
                            continue
                        line = (y * steps_in + s) * window.width
                        for tap in range(taps):
                            first = left + tap * window.dilation_x
                            begin = offsets[line + max(0, min(first, window.width))]
                            end = offsets[line + max(0, min(first + span, window.width))]
                            # the weights of event index i start at row (ky, tap, i - first * channels)
                            row_at = ky * kernel_row + (tap - first) * window.channels * per_group
                            if window.groups == 1:
                                add_rows(sums, 0, outputs, rows, row_at, outputs, indices, values, begin, end)
                            else:
                                for e in range(begin, end):
                                    start = (indices[e] % window.channels) // inputs_per_group * per_group
                                    add_rows(sums, start, per_group, rows, row_at, per_group, indices, values, e, e + 1)
                    for t in range(s, s + 1) if steps_in > 1 else range(steps):
                        added = bias[t if bias.shape[0] > 1 else 0]
                        target = out[b, t, base : base + outputs]
                        for o in range(outputs):
                            target[o] = sums[o] * multiplier[o] + added[o]


@kernel
def sum_pool(x, window, alive, out):
    """Twin of `reference.sum_pool`."""
    channels = window.channels
    for b in range(x.shape[0]):
        if not alive[b]:
            continue
        for t in range(x.shape[1]):
            for out_y in range(window.out_height):
                for out_x in range(window.out_width):
                    base = (out_y * window.out_width + out_x) * channels
                    target = out[b, t, base : base + channels]
                    target[:] = 0
                    for ky in range(window.kernel_height):
                        y = out_y * window.stride_y - window.pad_top + ky * window.dilation_y
                        if y < 0 or y >= window.height:
                            continue
                        for kx in range(window.kernel_width):
                            px = out_x * window.stride_x - window.pad_left + kx * window.dilation_x
                            if px < 0 or px >= window.width:
                                continue
                            start = (y * window.width + px) * channels
                            source = x[b, t, start : start + channels]
                            for c in range(channels):
                                target[c] += source[c]


@kernel
def divide(x, divisor, mode, alive, out):
    """Twin of `reference.divide`."""
    for b in range(x.shape[0]):
        if alive[b]:
            for t in range(x.shape[1]):
                for i in range(x.shape[2]):
                    out[b, t, i] = round_div(x[b, t, i], divisor, mode, 0)


@kernel
def max_pool(x, window, alive, count, best, out):
    """Twin of `reference.max_pool`."""
    channels = window.channels
    for b in range(x.shape[0]):
        if not alive[b]:
            continue
        for t in range(out.shape[1]):
            source = x[b, t if x.shape[1] > 1 else 0]
            for i in range(source.shape[0]):
                count[b, i] += source[i]
            for out_y in range(window.out_height):
                for out_x in range(window.out_width):
                    base = (out_y * window.out_width + out_x) * channels
                    for c in range(channels):
                        found = False
                        new = like(best[b, 0], 0)
                        for ky in range(window.kernel_height):
                            y = out_y * window.stride_y - window.pad_top + ky * window.dilation_y
                            if y < 0 or y >= window.height:
                                continue
                            for kx in range(window.kernel_width):
                                px = out_x * window.stride_x - window.pad_left + kx * window.dilation_x
                                if px < 0 or px >= window.width:
                                    continue
                                value = count[b, (y * window.width + px) * channels + c]
                                if not found or value > new:
                                    new = value
                                    found = True
                        out[b, t, base + c] = new - best[b, base + c]
                        best[b, base + c] = new


@kernel
def scale(x, factor, alive, out):
    """Twin of `reference.scale`."""
    channels = factor.shape[0]
    for b in range(x.shape[0]):
        if alive[b]:
            for t in range(x.shape[1]):
                for base in range(0, x.shape[2], channels):
                    for c in range(channels):
                        out[b, t, base + c] = x[b, t, base + c] * factor[c]


@kernel
def add(first, second, alive, out):
    """Twin of `reference.add`."""
    for b in range(out.shape[0]):
        if alive[b]:
            for t in range(out.shape[1]):
                left = first[b, t if first.shape[1] > 1 else 0]
                right = second[b, t if second.shape[1] > 1 else 0]
                target = out[b, t]
                for i in range(target.shape[0]):
                    target[i] = left[i] + right[i]


@kernel
def accumulate(x, steps, alive, total):
    """Twin of `reference.accumulate`."""
    for b in range(x.shape[0]):
        if alive[b]:
            for t in range(steps):
                source = x[b, t if x.shape[1] > 1 else 0]
                for i in range(source.shape[0]):
                    total[b, i] += source[i]


@kernel
def first_spike(x, steps, start, alive, step_of):
    """Twin of `reference.first_spike`."""
    for b in range(x.shape[0]):
        if alive[b]:
            for t in range(steps):
                source = x[b, t if x.shape[1] > 1 else 0]
                for i in range(source.shape[0]):
                    if source[i] > 0 and step_of[b, i] < 0:
                        step_of[b, i] = start + t
