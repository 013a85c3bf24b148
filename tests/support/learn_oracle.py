"""Learning with integers once more: one sample, one neuron, one weight at a time, in plain Python integers.

Written from the equations of ``docs/learning.md``; imports nothing of intsnn. A network comes as plain values: shape of
its input, layers as ``("conv", channels, kernel, padding, stride, pool)`` or ``("dense", units)``, the fields of the
rule and the widths by their letters. There is no array, no window structure, no buffer and no split of a batch in here.
"""

import decimal
import functools
import math
from fractions import Fraction

from oracle import leak, random_word, rounded_value

KIND = 1 << 32
OF_P, OF_Q, OF_DROPOUT, OF_WEIGHT, OF_BIAS = range(KIND, KIND + 5)
OF_TAU_M, OF_TAU_S, OF_READOUT, OF_FEEDBACK, OF_START = range(KIND + 8, KIND + 13)
OF_PRE, OF_POST, OF_PAIR, OF_ELIGIBILITY, OF_REWARD = range(KIND + 16, KIND + 21)
EVALUATION = 1 << 48


def clip(x, low, high):
    return low if x < low else high if x > high else x


def nearest(x, places):
    """``x / 2**places`` to the nearest, a tie to even."""
    if places <= 0:
        return x << -places
    whole, rest = x >> places, x & ((1 << places) - 1)
    half = 1 << places - 1
    return whole + (rest > half or (rest == half and whole % 2))


def rounded_log2(square):
    """round(log2 x) of the x > 0 whose square is given."""
    square, e = Fraction(square), 0
    while square.denominator << 2 * e + 1 <= square.numerator:  # x >= 2**(e + 1/2)
        e += 1
    while e <= 0 and square.denominator > square.numerator << 1 - 2 * e:
        e -= 1
    return e


def exponent(peak):
    return rounded_log2(peak * peak) if peak else 0


def quantised(values, bits):
    """E of a list of numbers, over all of it."""
    shift = exponent(max((abs(x) for x in values), default=0)) - (bits - 1)
    top = (1 << bits - 1) - 1
    return [clip(nearest(x, shift), -top, top) for x in values]


@functools.cache
def sixteen(seed, step, layer, kind, sample, element):
    return random_word(seed, step, layer, kind, sample, element // 4) >> 16 * (element % 4) & 0xFFFF


def uniform(seed, layer, kind, element):
    """A fraction of 32 bits in [0, 1)."""
    return Fraction(random_word(seed, 0, layer, kind, 0, element) >> 32, 1 << 32)


@functools.cache
def sigmoid(code, step):
    with decimal.localcontext(decimal.Context(prec=90)):
        x = decimal.Decimal(code * step.numerator) / decimal.Decimal(step.denominator)
        return Fraction(1 / (1 + (-x).exp()))


class Layer:
    """Constants, weights and biases of one layer."""

    def __init__(self, spec, here, classes, rule, widths, seed, index):
        w, self.rule, self.widths, self.classes = widths, rule, widths, classes
        self.seed, self.index = seed, index
        height, width, channels = here
        if spec[0] == "dense":
            height, width, channels = 1, 1, height * width * channels
            outputs, kernel, padding, stride, pool = spec[1], 1, 0, 1, 1
        else:
            _, outputs, kernel, padding, stride, pool = spec
        rows, columns = ((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
        self.inputs, self.channels, self.outputs, self.kernel = height * width * channels, channels, outputs, kernel
        self.pixels, self.neurons = rows * columns, rows * columns * outputs
        self.after = (rows // pool, columns // pool, outputs)
        self.pooled = math.prod(self.after)
        fan_in = kernel * kernel * channels
        self.taps = [  # of each output pixel: pixel of the input and place in the kernel
            [
                ((y * stride + ky - padding) * width + x * stride + kx - padding, ky * kernel + kx)
                for ky in range(kernel)
                for kx in range(kernel)
                if 0 <= y * stride + ky - padding < height and 0 <= x * stride + kx - padding < width
            ]
            for y in range(rows)
            for x in range(columns)
        ]
        self.pools = [  # of each pooled element: its neurons, row by row
            [((y * pool + dy) * columns + x * pool + dx) * outputs + o for dy in range(pool) for dx in range(pool)]
            for y in range(self.after[0])
            for x in range(self.after[1])
            for o in range(outputs)
        ]
        # traces
        one = 1 << w["K"]
        low, high = rule["tau_membrane"]
        tau_m = [low + (high - low) * uniform(seed, index, OF_TAU_M, i) for i in range(self.inputs)]
        low, high = rule["tau_synapse"]
        tau_s = [low + (high - low) * uniform(seed, index, OF_TAU_S, i) for i in range(self.inputs)]
        top_m, top_s, cap = max(tau_m), max(tau_s), rule["trace_cap"]
        self.a = [round((1 - 1 / t) * one) for t in tau_m]
        self.m = [round(t / top_m**2 * Fraction(2) ** (w["P"] - w["Q"]) * one) for t in tau_m]
        self.b = [round((1 - 1 / t) * one) for t in tau_s]
        self.s = [round(t / (top_s**2 * cap) * (1 << w["Q"]) * one) for t in tau_s]
        less = 0 if rule["inclusive_codes"] else 1
        self.p_max, self.q_max, self.r_max = ((1 << w[letter]) - less for letter in "PQR")
        # membrane
        self.step = rule["state_range"] / ((1 << w["U"] - 1) - 1)
        self.u_max = rule["state_clamp"] * ((1 << w["U"] - 1) - 1)
        self.theta = math.ceil(rule["threshold"] / self.step)
        narrow = max(0, rounded_log2(Fraction(9 * fan_in, 4) / (1 << 2 * (w["W"] - 1))))
        unit = Fraction(1, 1 << w["W"] - 1 + narrow)
        decay = rule["refractory_decay"]
        of_charge = rule["weight_scale"] * unit * top_s**2 * top_m**2 * cap / (1 << w["P"])
        of_bias = rule["bias_scale"] * unit
        of_r = decay / ((1 - decay) * (1 << w["R"]))
        w_max = (1 << w["W"] - 1) - 1
        most = (fan_in * w_max * self.p_max * of_charge + w_max * of_bias + self.r_max * of_r) / self.step + self.u_max
        self.k = min(48, 60 - (math.floor(most) + 1).bit_length())
        self.c_gain, self.b_gain, self.r_gain = (
            round(x / self.step * (1 << self.k)) for x in (of_charge, of_bias, of_r)
        )
        self.g, self.h = round(decay * one), round((1 - decay) * (1 << w["R"]) * one)
        # readout
        grid = 1 << w["S"] - 1

        def codes(kind, count, limit, top):
            return [clip(round((2 * uniform(seed, index, kind, i) - 1) * limit), -top, top) for i in range(count)]

        count = classes * self.pooled
        readout, feedback = codes(OF_READOUT, count, grid, grid - 1), codes(OF_FEEDBACK, count, grid, grid - 1)
        feedback = [f if s == 0 else abs(f) if s > 0 else -abs(f) for s, f in zip(readout, feedback, strict=True)]
        self.readout = [readout[k * self.pooled : (k + 1) * self.pooled] for k in range(classes)]
        self.feedback = [feedback[k * self.pooled : (k + 1) * self.pooled] for k in range(classes)]
        d = max(0, rounded_log2(4 * self.pooled * (1 - Fraction(3, 2) / grid) ** 2))
        self.y_shift = w["S"] - 1 + w["Sig"] + d - (w["A"] - 1)
        # weights
        self.k_max, self.w_max = (1 << w["G"] - 1) - 1, w_max
        self.n_max = (1 << w["G"]) - 2 if rule["step_limit"] is None else rule["step_limit"]
        limit = max(Fraction(1 << 20, math.isqrt(fan_in << 40)), Fraction(3, 2) / (1 << w["W"] - 1)) * (1 << w["G"] - 1)
        size = fan_in * outputs
        self.master = [0] * size if rule["zero_start"] else codes(OF_START, size, limit, self.k_max)
        self.bias_master = [0] * outputs
        self.exponents = [-1, -1]
        self.renew()

    def renew(self):
        shift = self.widths["G"] - self.widths["W"]
        self.weight = [clip(nearest(k, shift), -self.w_max, self.w_max) for k in self.master]
        self.bias = [clip(nearest(k, shift), -self.w_max, self.w_max) for k in self.bias_master]

    def table(self, code):
        top = (1 << self.widths["Sig"]) - (0 if self.rule["inclusive_codes"] else 1)
        return min(round(sigmoid(code, self.step) * (1 << self.widths["Sig"])), top)

    def slope(self, code):
        value = sigmoid(code, self.step)
        bits = self.widths["D"]
        return min(round(value * (1 - value) * (1 << bits + 2)), (1 << bits) - 1)

    # -- one step ---------------------------------------------------------------------------------

    def trace(self, value, top, kind, step, sample, element):
        places = self.widths["K"]
        if self.rule["trace_rounding"] == "STOCHASTIC":
            bits = sixteen(self.seed, step, self.index, kind, sample, element)
            return clip((value + (bits * 2**places >> 16)) >> places, 0, top)
        mode = _Mode(self.rule["trace_rounding"])
        return clip(rounded_value(Fraction(value, 1 << places), mode), 0, top)

    def forward(self, state, x, step, first):
        """Traces, membranes and spikes of all samples; the spikes after the pool."""
        self.u, self.p, self.stands, out = [], [], [], []
        self.fired = 0
        for sample, (p, q, r) in enumerate(state):
            for i in range(self.inputs):
                old_p, old_q, spikes = p[i], q[i], x[sample][i]
                number = first + sample
                p[i] = self.trace(self.a[i] * old_p + self.m[i] * old_q, self.p_max, OF_P, step, number, i)
                q[i] = self.trace(self.b[i] * old_q + self.s[i] * spikes, self.q_max, OF_Q, step, number, i)
            u = []
            for pixel, taps in enumerate(self.taps):
                for o in range(self.outputs):
                    charge = 0
                    for source, place in taps:
                        for c in range(self.channels):
                            value = p[source * self.channels + c]
                            if value:
                                charge += value * self.weight[(place * self.channels + c) * self.outputs + o]
                    n = pixel * self.outputs + o
                    total = self.c_gain * charge + self.b_gain * self.bias[o] - self.r_gain * r[n]
                    code = clip(nearest(total, self.k), -self.u_max, self.u_max)
                    spike = int(code >= self.theta)
                    r[n] = clip(nearest(self.g * r[n] + self.h * spike, self.widths["K"]), 0, self.r_max)
                    self.fired += spike
                    u.append(code)
            chosen = [min(neurons, key=lambda n: (-u[n], neurons.index(n))) for neurons in self.pools]
            self.u.append(u)
            self.p.append(p)
            self.stands.append(chosen)
            out.append([int(u[n] >= self.theta) for n in chosen])
        return out

    def judge(self, labels, step, first):
        """Predictions; errors of the readouts in `delta`, where there are labels."""
        half = 1 << self.widths["A"] - 1
        drop = round(self.rule["dropout"] * (1 << 16))
        if labels is None and not self.rule["dropout_in_test"]:
            drop = 0
        predictions, self.delta, self.loss = [], [], 0
        for sample, (u, chosen) in enumerate(zip(self.u, self.stands, strict=True)):
            a = [self.table(u[n]) for n in chosen]
            outputs = []
            for k in range(self.classes):
                total = sum(s * value for s, value in zip(self.readout[k], a, strict=True))
                y = clip(nearest(total, self.y_shift), -(half - 1), half - 1)
                dropped = drop and sixteen(self.seed, step, self.index, OF_DROPOUT, first + sample, k) < drop
                outputs.append(0 if dropped else y + half)
                if labels is not None:
                    target = 2 * half if k == labels[sample] else 0
                    self.delta.append(0 if dropped else y + half - target)
                    self.loss += (outputs[-1] - target) ** 2
            predictions.append(outputs.index(max(outputs)))
        return predictions

    def penalties(self, samples):
        """lambda 1, lambda 2 and X."""
        rule, places = self.rule, self.widths["E"] - 1
        each = (samples * self.pooled, samples * self.neurons) if rule["mean_penalties"] else (1, 1)
        rate, quiet = (
            rule[name] / n * (1 << places) for name, n in zip(("rate_penalty", "quiet_penalty"), each, strict=True)
        )
        slope = self.widths["D"] + 2
        least = min((x for x in (rate, quiet * (1 << slope)) if x > 0), default=Fraction(8))
        x = 0
        while least * (1 << x) < 8 and x < 56 - places - slope:
            x += 1
        return round(rate * (1 << x)), round(quiet * (1 << x + slope)), x

    def learn(self, step, rate_shift):
        bits, samples = self.widths["E"], len(self.u)
        delta = quantised(self.delta, bits)
        v = [
            sum(delta[sample * self.classes + k] * self.feedback[k][j] for k in range(self.classes))
            for sample in range(samples)
            for j in range(self.pooled)
        ]
        v = quantised(v, bits)
        rate, quiet, x = self.penalties(samples)
        total = sum(map(sum, self.u))
        if not total * self.step < self.rule["quiet_level"] * samples * self.neurons:
            quiet = 0
        h = []
        for sample, (u, chosen) in enumerate(zip(self.u, self.stands, strict=True)):
            own = [-quiet] * self.neurons
            for j, n in enumerate(chosen):
                own[n] += (v[sample * self.pooled + j] * (1 << x) + rate) * self.slope(u[n])
            h += own
        e = quantised(h, bits)
        gradient, of_bias = [0] * len(self.master), [0] * self.outputs
        for sample, p in enumerate(self.p):
            for pixel, taps in enumerate(self.taps):
                for o in range(self.outputs):
                    error = e[sample * self.neurons + pixel * self.outputs + o]
                    of_bias[o] += error
                    if error:
                        for source, place in taps:
                            for c in range(self.channels):
                                gradient[(place * self.channels + c) * self.outputs + o] += (
                                    error * p[source * self.channels + c]
                                )
        self.move(0, self.master, gradient, step, OF_WEIGHT, rate_shift)
        self.move(1, self.bias_master, of_bias, step, OF_BIAS, rate_shift)
        self.renew()

    def move(self, which, master, gradient, step, kind, rate_shift):
        peak = max(map(abs, gradient))
        own, before = exponent(peak), self.exponents[which]
        if peak:
            self.exponents[which] = own
        if self.rule["gradient_scale"] == "previous" and before >= 0:
            own = before
        shift = clip(own + rate_shift, 0, 62)
        bits = self.widths["RNG"]
        for i, g in enumerate(gradient):
            v = sixteen(self.seed, step, self.index, kind, 0, i) >> 16 - bits
            if self.rule["inclusive_random"]:
                size = abs(g)
                fraction = nearest(size % (1 << shift), shift - (bits - 1))
                n = min((size >> shift) + (fraction >= (v + 1) // 2), self.n_max)
                n = 0 if g == 0 else n if g > 0 else -n
            else:
                n = clip((g * (1 << bits) // (1 << shift) + v) >> bits, -self.n_max, self.n_max)
            master[i] = clip(master[i] - n, -self.k_max, self.k_max)


class _Mode:
    """A rounding by its name, as `rounded_value` takes it."""

    def __init__(self, name):
        self.name = name


class Net:
    """A chain of layers that learn, and the number of steps it has learned."""

    def __init__(self, shape, layers, classes, rule, widths, seed):
        here = (1, 1, shape[0]) if len(shape) == 1 else (shape[1], shape[2], shape[0])
        self.shape, self.rule, self.steps, self.layers = shape, rule, 0, []
        for index, spec in enumerate(layers):
            self.layers.append(Layer(spec, here, classes, rule, widths, seed, index))
            here = self.layers[-1].after

    def begin(self, samples, first=0):
        """Traces P, Q and R of all samples and layers; the number of the first sample."""
        traces = [
            [([0] * layer.inputs, [0] * layer.inputs, [0] * layer.neurons) for _ in range(samples)]
            for layer in self.layers
        ]
        return {"t": 0, "first": first, "traces": traces}

    def flat(self, frame):
        """A sample ``[c][y][x]`` in the order (y, x, c)."""
        if len(self.shape) == 1:
            return list(frame)
        channels, height, width = self.shape
        return [frame[c][y][x] for y in range(height) for x in range(width) for c in range(channels)]

    def advance(self, state, frames, labels=None, rate_shift=0):
        """One step, a learning one where there are labels; predictions of all layers and the last spikes."""
        learning = labels is not None
        step = self.steps if learning else EVALUATION + state["t"]
        x, predictions = [self.flat(frame) for frame in frames], []
        for layer, traces in zip(self.layers, state["traces"], strict=True):
            x = layer.forward(traces, x, step, state["first"])
            if state["t"] < self.rule["burn_in"]:
                predictions.append([-1] * len(x))
                layer.loss = 0
                continue
            predictions.append(layer.judge(labels, step, state["first"]))
            if learning:
                layer.learn(step, rate_shift)
        state["t"] += 1
        self.steps += learning
        return predictions, x


class Pairs:
    """Spike-timing plasticity between two groups, with or without a reward.

    `rule` has the fields of the documentation: ``potentiation, depression`` (tables), ``pre, post`` (bits, amplitude,
    decay), ``low, high`` of a weight, ``places, rounding, soft, nearest, eligibility, eligibility_bits``; decays and
    roundings are objects with the attributes that `oracle.leak` reads.
    """

    def __init__(self, rule, weight, samples, seed, layer):
        self.rule, self.seed, self.layer, self.steps = rule, seed, layer, 0
        self.weight = [list(row) for row in weight]
        inputs, outputs = len(weight), len(weight[0])
        self.x = [[0] * inputs for _ in range(samples)]
        self.y = [[0] * outputs for _ in range(samples)]
        self.held = [[[0] * outputs for _ in range(inputs)] for _ in range(samples)]

    def word(self, kind, sample, element):
        return random_word(self.seed, self.steps, self.layer, kind, sample, element)

    def rounded(self, total, kind, element):
        divisor = 1 << self.rule["places"]
        if self.rule["rounding"].name == "STOCHASTIC":
            return (total + self.word(kind, 0, element) % divisor) // divisor
        return rounded_value(Fraction(total, divisor), self.rule["rounding"])

    def step(self, pre, post, reward=None):
        rule = self.rule
        for traces, decay, kind in ((self.x, rule["pre"][2], OF_PRE), (self.y, rule["post"][2], OF_POST)):
            for sample, row in enumerate(traces):
                for i, value in enumerate(row):
                    row[i] = leak(value, decay, self.word(kind, sample, i))
        for i in range(len(self.weight)):
            for j in range(len(self.weight[i])):
                self.synapse(i, j, pre, post, reward)
        for traces, spikes, (bits, amplitude, _) in ((self.x, pre, rule["pre"]), (self.y, post, rule["post"])):
            for row, fired in zip(traces, spikes, strict=True):
                for i, count in enumerate(fired):
                    if count:
                        row[i] = amplitude if rule["nearest"] else min(row[i] + amplitude * count, (1 << bits) - 1)
        self.steps += 1

    def synapse(self, i, j, pre, post, reward):
        rule, element, w = self.rule, i * len(self.weight[i]) + j, self.weight[i][j]
        pairs = [
            (post[b][j] * rule["potentiation"][self.x[b][i]], pre[b][i] * rule["depression"][self.y[b][j]])
            for b in range(len(pre))
        ]
        if reward is None:
            up, down = sum(a for a, _ in pairs), sum(b for _, b in pairs)
            change = up - down
            if rule["soft"]:
                change = up * (rule["high"] - w) - down * (w - rule["low"])
            change = self.rounded(change, OF_PAIR, element)
        else:
            top, total = (1 << rule["eligibility_bits"] - 1) - 1, 0
            for b, (up, down) in enumerate(pairs):
                faded = leak(self.held[b][i][j], rule["eligibility"], self.word(OF_ELIGIBILITY, b, element))
                self.held[b][i][j] = clip(faded + up - down, -top, top)
                total += reward[b] * self.held[b][i][j]
            change = self.rounded(total, OF_REWARD, element)
        self.weight[i][j] = clip(w + change, rule["low"], rule["high"])
