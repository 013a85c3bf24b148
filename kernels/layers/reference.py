"""The specification of connections and pools: plain Python integers, unbounded, readable, slow.

The compiled twins in `compiled.py` have the same names and signatures and give the same integers. Arrays
here hold Python integers (dtype object) or anything that converts exactly.

Layout: values ``(B, T, H * W * C)``, channel fastest. A T of 1 where more steps are asked for means
"the same in every step". `alive` marks the samples of the block that are still running; the others
are left as they are. Arguments that only the compiled twins use are named with an underscore.
"""

from ..numbers.reference import round_div


def windows(window):
    """Yield ``(output pixel, [(input pixel, kernel y, kernel x), ...])``; padding is left out."""
    for out_y in range(window.out_height):
        for out_x in range(window.out_width):
            inside = []
            for ky in range(window.kernel_height):
                y = out_y * window.stride_y - window.pad_top + ky * window.dilation_y
                for kx in range(window.kernel_width):
                    x = out_x * window.stride_x - window.pad_left + kx * window.dilation_x
                    if 0 <= y < window.height and 0 <= x < window.width:
                        inside.append((y * window.width + x, ky, kx))
            yield out_y * window.out_width + out_x, inside


def convolve(x, weight, window, multiplier, bias, alive, _offsets, _indices, _values, _sums, out):
    """``out[b, t, p, o] = multiplier[o] * sum(weight * x[b, t]) + bias[t, o]``.

    Parameters
    ----------
    x : (B, Tx, H * W * C) integers, Tx = T or 1
    weight : (kernel_height, kernel_width, C, O / groups)
        The row of input channel c holds the output channels of the group of c.
    window : Window
    multiplier : (O,)
    bias : (Tb, O), Tb = T or 1
    alive : (B,) bool
    out : (B, T, H_out * W_out * O), written
    """
    taps = list(windows(window))
    rows = weight.tolist()
    per_group = window.out_channels // window.groups
    inputs_per_group = window.channels // window.groups
    factors, offsets = multiplier.tolist(), bias.tolist()
    for b in range(x.shape[0]):
        if not alive[b]:
            continue
        for s in range(x.shape[1]):
            values = x[b, s].tolist()
            for pixel, inside in taps:
                sums = [0] * window.out_channels
                for source, ky, kx in inside:
                    for c in range(window.channels):
                        value = values[source * window.channels + c]
                        if value:
                            first = (c // inputs_per_group) * per_group
                            for o, w in enumerate(rows[ky][kx][c]):
                                sums[first + o] += w * value
                for t in range(out.shape[1]) if x.shape[1] == 1 else (s,):
                    added = offsets[t if len(offsets) > 1 else 0]
                    for o in range(window.out_channels):
                        out[b, t, pixel * window.out_channels + o] = sums[o] * factors[o] + added[o]


def sum_pool(x, window, alive, out):
    """``out[b, t, p, c]`` = sum of `x` over the window of output pixel p; padding counts as zero."""
    for b in range(x.shape[0]):
        if alive[b]:
            for t in range(x.shape[1]):
                values = x[b, t].tolist()
                for pixel, inside in windows(window):
                    for c in range(window.channels):
                        out[b, t, pixel * window.channels + c] = sum(
                            values[source * window.channels + c] for source, _, _ in inside
                        )


def divide(x, divisor, mode, alive, out):
    """``out = x / divisor`` rounded by `mode` (the second half of an average pool)."""
    for b in range(x.shape[0]):
        if alive[b]:
            for t in range(x.shape[1]):
                for i, value in enumerate(x[b, t].tolist()):
                    out[b, t, i] = round_div(value, divisor, mode, 0)


def max_pool(x, window, alive, count, best, out):
    """Exact spike max-pool: ``out_t = max_i C_i(t) - max_i C_i(t - 1)``.

    `count` ``(B, H * W * C)`` are the net counts of the inputs, `best` ``(B, H_out * W_out * C)`` their
    maxima; both are carried from call to call and start at 0.
    """
    for b in range(x.shape[0]):
        if not alive[b]:
            continue
        for t in range(out.shape[1]):
            for i, value in enumerate(x[b, t if x.shape[1] > 1 else 0].tolist()):
                count[b, i] += value
            for pixel, inside in windows(window):
                for c in range(window.channels):
                    new = max(count[b, source * window.channels + c] for source, _, _ in inside)
                    i = pixel * window.channels + c
                    out[b, t, i] = new - best[b, i]
                    best[b, i] = new


def scale(x, factor, alive, out):
    """``out[b, t, p, c] = x[b, t, p, c] * factor[c]``."""
    channels = len(factor)
    for b in range(x.shape[0]):
        if alive[b]:
            for t in range(x.shape[1]):
                for i, value in enumerate(x[b, t].tolist()):
                    out[b, t, i] = value * factor[i % channels]


def add(first, second, alive, out):
    """``out = first + second``, either of them constant over time or not."""
    for b in range(out.shape[0]):
        if alive[b]:
            for t in range(out.shape[1]):
                left = first[b, t if first.shape[1] > 1 else 0].tolist()
                right = second[b, t if second.shape[1] > 1 else 0].tolist()
                for i, (one, two) in enumerate(zip(left, right, strict=True)):
                    out[b, t, i] = one + two


def accumulate(x, steps, alive, total):
    """``total[b] += x[b, t]`` for each of `steps` steps."""
    for b in range(x.shape[0]):
        if alive[b]:
            for t in range(steps):
                for i, value in enumerate(x[b, t if x.shape[1] > 1 else 0].tolist()):
                    total[b, i] += value


def first_spike(x, steps, start, alive, step_of):
    """Note in `step_of` the step of the first positive value; -1 where there was none yet."""
    for b in range(x.shape[0]):
        if alive[b]:
            for t in range(steps):
                for i, value in enumerate(x[b, t if x.shape[1] > 1 else 0].tolist()):
                    if value > 0 and step_of[b, i] < 0:
                        step_of[b, i] = start + t
