"""Hypothesis strategies: random networks with every part, and inputs for them.

Structure is drawn (and shrinks); weights come from one drawn seed, since no weight matters by itself. `wide` cases have
states of up to 48 bits, weights and inputs of 16, multipliers of 2^31, thresholds of 2^40, maps of 12 x 12, kernels of
7 and 40 steps; `test_strategies.py` counts how often.
"""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from intsnn.engine.inputs import Events
from intsnn.formats.fixed import Fixed, Overflow, Rounding
from intsnn.formats.weights import Bipolar, apot
from intsnn.layers import (
    Add,
    Affine,
    AvgPool2d,
    Conv2d,
    Decay,
    Flatten,
    Input,
    MaxPool2d,
    Neuron,
    Readout,
    Refractory,
    Scale,
    SumPool2d,
    Upsample2d,
)
from intsnn.layers.base import padding_pairs, pair
from intsnn.network.spiking import Network

QUIET_MODES = (Overflow.SAT, Overflow.SAT_SYM, Overflow.WRAP)
# channels of a layer: mostly few; beside 16, 32 and 64 lie the borders of the vector loops
WIDTHS = st.one_of(st.integers(1, 4), st.integers(1, 4), st.sampled_from((16, 17, 35, 64, 67)))
# Of wide cases: bits of a sum of one step, so that its total over any run stays below 63; and terms of all sums, in a
# step of one sample and in the driven steps of all samples, since plain Python adds them one by one.
MOST_BITS, MOST_TERMS, MOST_OF_A_RUN = 52, 30_000, 200_000
DETERMINISTIC = tuple(mode for mode in Rounding if mode is not Rounding.STOCHASTIC)


@dataclass
class Case:
    """A network, something to run it on and the options of the run."""

    network: Network
    inputs: object
    steps: int | None
    settle: bool
    seed: int

    @property
    def options(self):
        return {"steps": self.steps, "settle": self.settle, "seed": self.seed}

    def __repr__(self):
        lines = [f"{name} <- {self.network.inputs_of(name)}: {layer}" for name, layer in self.network.nodes.items()]
        drive = f"t_drive={self.network.t_drive} levels={self.network.levels}"
        return "\n".join([*lines, f"{drive} {self.options}", f"inputs={self.inputs!r}"])


@st.composite
def decays(draw, bits=None, channels=None):
    """Every kind of leak; `bits` of the state, where leaks may reach as far as these allow.

    With `channels` the numbers of some are those of each channel.
    """
    kind = draw(st.sampled_from(("none", "shift", "multiply", "subtract")))
    rounding = draw(st.sampled_from(Rounding))
    far = bits is not None and draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def numbers(low, high):
        """One number or one per channel, ends more often than others; `high` may be an array."""
        size = channels if channels is not None and (np.ndim(high) or draw(st.booleans())) else None
        if size is None:
            return int(rng.integers(low, high, endpoint=True)) if rng.random() < 0.8 else int(rng.choice([low, high]))
        any_number = rng.integers(low, high, size, endpoint=True)
        return np.where(rng.random(size) < 0.8, any_number, np.where(rng.random(size) < 0.5, low, high))

    if kind == "shift":
        return Decay.by_shift(numbers(*((5, 31) if far else (0, 4))), rounding, draw(st.booleans()))
    if kind == "multiply":
        shift = numbers(*((13, min(31, 62 - bits)) if far else (0, 12)))
        return Decay.by_multiply(numbers(0, 1 << np.asarray(shift)), shift, rounding)
    if kind == "subtract":
        return Decay.by_subtract(numbers(0, (1 << 31) - 1 if far else 9))
    return Decay()


@st.composite
def state_formats(draw, wide=False):
    """A format of a state, of 4 to 24 bits; of up to 48 if it may be `wide`."""
    bits = draw(st.integers(25, 48) if wide and draw(st.booleans()) else st.integers(4, 24))
    signed = draw(st.booleans())
    return Fixed(bits, signed=signed, narrow=signed and draw(st.booleans()))


@st.composite
def neurons(draw, channels, plain=False, scale=None):
    """A neuron with random parts; `plain`: integrate and fire without leak (what fast kernels take).

    `scale`: how large the charge of a step can be, of a wide neuron: its numbers go up to that, and beyond.
    """
    wide = scale is not None
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    whole = (Fixed(32), Fixed(48)) if wide else (Fixed(32),)
    v_format = draw(st.one_of(st.sampled_from(whole), state_formats(wide)))
    tops = (60, scale, scale, scale // 8, 1 << 31, 1 << 40) if wide else (3, 12, 60)
    top = max(1, min(v_format.max, draw(st.sampled_from(tops)), 1 << 40))
    threshold = rng.integers(1, top + 1, channels) if draw(st.booleans()) else int(rng.integers(1, top + 1))
    signed = draw(st.booleans())
    negative = draw(st.sampled_from((0, 0, 0, -1, "-theta", 1) + (-(1 << 40),) * wide))
    v_negative = -np.asarray(threshold) if negative == "-theta" else negative
    v_negative = np.maximum(v_negative, v_format.min)
    start = draw(st.sampled_from(("zero", "half", "low")))
    low = v_format.min if wide else max(v_format.min, -7)
    parts = {
        "v_initial": {"zero": 0, "half": np.asarray(threshold) >> 1, "low": low}[start],
        "v_format": v_format,
        "v_overflow": draw(st.sampled_from(QUIET_MODES)),
        "signed": signed,
        "min_count": draw(st.sampled_from((0, 0, -1, -3, -7) + (1 - (1 << 31),) * wide)) if signed else 0,
        "v_negative": v_negative,
        "max_count": draw(st.sampled_from((None, 1, 3, 7) + ((1 << 31) - 1,) * wide)),
        "reset_delay": draw(st.sampled_from((0, 0, 1))),
        "acc_format": draw(st.one_of(st.none(), state_formats(wide))),
        "acc_overflow": draw(st.sampled_from(QUIET_MODES)),
    }
    if wide:
        parts |= {"threshold_format": Fixed(48), "bias_format": Fixed(48)}
    if not plain:
        parts["v_decay"] = draw(decays(v_format.bits if wide else None, channels))
        parts["compare"] = draw(st.sampled_from((">=", ">")))
        parts["reset"] = draw(st.sampled_from(("subtract", "subtract", "zero", "none")))
        most = draw(st.sampled_from((6, min(scale, 1 << 40) + 1, 1 << 40))) if wide else 6
        parts["bias"] = rng.integers(-(most >> 1), most, channels) if draw(st.booleans()) else 0
        if parts["reset"] == "subtract":
            parts["max_spikes_per_step"] = draw(st.sampled_from((1, 1, 2, 5)))
        if draw(st.booleans()):
            parts["u_format"] = draw(state_formats(wide))
            parts["u_overflow"] = draw(st.sampled_from(QUIET_MODES))
            parts["u_decay"] = draw(decays(parts["u_format"].bits if wide else None, channels))
            parts["u_shift"] = draw(st.sampled_from((0, 0, 3, 6)))
            if draw(st.booleans()) and parts["u_format"].signed:
                half = 1 << (parts["u_format"].bits - 1)
                parts["u_range"] = (1 - half, half)
        refractory = draw(st.sampled_from(("none", "none", "counter", "trace")))
        if refractory == "counter":
            parts["refractory"] = Refractory("counter", steps=draw(st.integers(0, 3)))
        elif refractory == "trace":
            fmt, most = draw(state_formats(wide)), 1 << 31 if wide and draw(st.booleans()) else 9
            parts["refractory"] = Refractory(
                "trace", amplitude=draw(st.integers(-(most >> 1), most - 1)),
                decay=draw(decays(fmt.bits if wide else None, channels)), format=fmt,
            )  # fmt: skip
    return Neuron(threshold, **parts)


FORMATS = (Fixed(2), Fixed(4), Fixed(4), Fixed(9), Bipolar(), apot(3), apot(4))
WIDE_FORMATS = (*FORMATS, Fixed(12), Fixed(16), Fixed(16, narrow=True), Fixed(16))


def _most(fmt):
    """The largest weight of a format."""
    return 1 if isinstance(fmt, Bipolar) else -fmt.min if isinstance(fmt, Fixed) else max(fmt.table)


@st.composite
def connections(draw, inputs, outputs, kernel=None, room=None, **geometry):
    """`Affine` (no `kernel`) or `Conv2d` with random weight format, bias and multiplier.

    `room`, of a wide one: how large weights times multiplier may become, summed over all inputs.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (outputs, inputs) if kernel is None else (outputs, inputs, *kernel)
    formats, taps = FORMATS, int(np.prod(shape[1:]))
    if room is not None:
        formats = [fmt for fmt in WIDE_FORMATS if _most(fmt) * taps <= room]
    weight_format = draw(st.sampled_from(formats))
    if isinstance(weight_format, Fixed):
        weight = rng.integers(weight_format.min, weight_format.max + 1, shape)
        weight[rng.random(shape) < 0.2] = 0
    else:
        weight = rng.choice((-1, 1) if isinstance(weight_format, Bipolar) else weight_format.table, shape)
    bias = draw(st.sampled_from((None, "one", "many")))
    least, most, one = -3, 5, (1, 1, 1, -2, "many")
    if room is not None:
        free = room // (_most(weight_format) * taps)
        largest = draw(
            st.sampled_from([n for n in (1, 4, 1 << 15, 1 << 24, (1 << 31) - 1, 1 << 31, 1 << 31) if n <= free])
        )
        least, most, one = -largest, largest + 1, (1, largest, -largest, largest - (largest > 1), "many")
    multiplier = draw(st.sampled_from(one))
    span = (-9, 20) if room is None or draw(st.booleans()) else (-(1 << 40), 1 << 40)
    parts = {
        "weight_format": weight_format,
        "bias": {None: None, "one": int(rng.integers(*span)), "many": rng.integers(*span, outputs)}[bias],
        "bias_mode": draw(st.sampled_from(("step", "spread", "once"))),
        "multiplier": rng.integers(least, most, outputs) if multiplier == "many" else multiplier,
        **geometry,
    }
    return Affine(weight, **parts) if kernel is None else Conv2d(weight, **parts)


@st.composite
def pads(draw, most):
    """Padding in one of its three notations, less than `most` on each side."""
    side = st.integers(0, most - 1)
    form = draw(st.sampled_from(("none", "int", "pair", "sides")))
    if form == "none":
        return 0
    if form == "int":
        return draw(side)
    if form == "pair":
        return (draw(side), draw(side))
    return ((draw(side), draw(side)), (draw(side), draw(side)))


class _Builder:
    """A graph that grows at its end; of a wide one it is known how large its sums and how many their terms can be."""

    def __init__(self, draw, layer, wide=False):
        self.draw, self.nodes, self.edges, self.wide = draw, {"in": layer}, [], wide
        self.end, self.shape = "in", layer.shape
        self.most, self.terms = max(-layer.low, layer.high, 1), int(np.prod(layer.shape))

    def put(self, layer, shape, *sources, most=None):
        """`most`: how large the values of the layer can be, if that is not what it reads."""
        name = f"{type(layer).__name__.lower()}{len(self.nodes)}"
        self.nodes[name] = layer
        self.edges += [(source, name) for source in sources or (self.end,)]
        self.end, self.shape = name, shape
        self.most = self.most if most is None else most
        self.terms += int(np.prod(shape))
        return name

    def fits(self, most, terms=0):
        """Whether a layer with such sums may come next."""
        return not self.wide or (most <= 1 << MOST_BITS and self.terms + terms <= MOST_TERMS)

    def delay(self):
        return self.draw(st.sampled_from((0, 0, 0, 1)))

    def neuron(self, plain):
        layer = self.draw(neurons(self.shape[0], plain, self.most if self.wide else None))
        if layer.max_count is not None and layer.max_count > 40:  # a run that settles may take as many steps
            layer = replace(layer, max_count=40)
        layer = replace(layer, min_count=max(layer.min_count, -40))
        self.put(layer, self.shape, most=layer.max_spikes_per_step)

    def connect(self, inputs, outputs, kernel=None, pixels=1, shape=None, **geometry):
        """A connection with `inputs` a group, if there is room for it."""
        taps = inputs * int(np.prod(kernel or 1))
        if not self.fits(2 * self.most * taps, outputs * taps * pixels):
            return
        room = (1 << (MOST_BITS - 1)) // self.most if self.wide else None
        layer = self.draw(connections(inputs, outputs, kernel, room, **geometry))
        factor = int(np.abs(layer.multiplier).max(initial=0)) * _most(layer.weight_format)
        bias = 0 if layer.bias is None else int(np.abs(layer.bias).max())
        self.terms += outputs * taps * pixels
        self.put(layer, shape or (outputs,), most=max(1, self.most * taps * factor + bias))

    def convolution(self):
        draw, (channels, height, width) = self.draw, self.shape
        side = st.sampled_from((1, 2, 3, 3, 5, 7, 7)) if self.wide else st.integers(1, 3)
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        groups = draw(st.sampled_from(divisors + 2 * divisors[1:-1]))
        outputs = groups * draw(WIDTHS if groups == 1 else st.sampled_from((1, 2, 2, 17)))
        kernel = (draw(side), draw(side))
        stride = draw(st.one_of(st.integers(1, 2), st.tuples(st.integers(1, 2), st.integers(1, 3))))
        dilation = draw(st.sampled_from((1, 1, 2, (1, 2))))
        padding = draw(pads(4 if self.wide else 3))
        sizes = [
            (n + sum(p) - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                (height, width), padding_pairs(padding, ""), pair(dilation, ""), kernel, pair(stride, ""), strict=True
            )
        ]
        if min(sizes) >= 1:
            self.connect(
                channels // groups, outputs, kernel, sizes[0] * sizes[1], (outputs, *sizes), stride=stride,
                dilation=dilation, padding=padding, groups=groups, delay=self.delay(),
            )  # fmt: skip

    def affine(self):
        self.connect(self.shape[0], self.draw(WIDTHS), delay=self.delay())

    def pool(self):
        draw, (channels, height, width) = self.draw, self.shape
        side = st.integers(1, 7 if self.wide else 3)
        kernel = (draw(side), draw(side))
        options = {"stride": draw(st.sampled_from((None, 1, 2, (1, 2)))), "padding": draw(pads(min(kernel)))}
        kind = draw(st.sampled_from((SumPool2d, AvgPool2d, MaxPool2d)))
        if kind is AvgPool2d:
            options["rounding"] = draw(st.sampled_from(DETERMINISTIC))
        layer = kind(kernel, **options)
        sizes = [
            (n + sum(p) - k) // s + 1
            for n, p, k, s in zip((height, width), layer.padding, kernel, layer.stride, strict=True)
        ]
        area, size = kernel[0] * kernel[1], channels * sizes[0] * sizes[1]
        if min(sizes) >= 1 and self.fits(area * self.most, area * size):
            self.terms += area * size
            self.put(layer, (channels, *sizes), most=area * self.most)

    def upsample(self):
        factor = (self.draw(st.integers(1, 3)), self.draw(st.integers(1, 2)))
        layer = Upsample2d(factor, self.draw(st.sampled_from(("nearest", "zeros"))))
        channels, height, width = self.shape
        if layer.mode == "nearest":
            sizes = (height * factor[0], width * factor[1])
        else:
            sizes = (height + (height - 1) * (factor[0] - 1), width + (width - 1) * (factor[1] - 1))
        if sizes[0] * sizes[1] <= (300 if self.wide else 100):
            self.put(layer, (channels, *sizes))

    def scale(self):
        factors = self.draw(st.one_of(st.integers(-3, 4), st.lists(st.integers(-3, 4), min_size=3, max_size=3)))
        if isinstance(factors, list):
            factors = np.resize(factors, self.shape[0])
        if self.fits(4 * self.most):
            self.put(Scale(factors), self.shape, most=4 * self.most)

    def residual(self):
        """A branch around a connection of the same shape (or around nothing: x + x)."""
        draw, start, shape, most = self.draw, self.end, self.shape, self.most
        if draw(st.booleans()):
            self.same_shape(self.delay())
            if draw(st.booleans()):
                self.neuron(True)
                self.same_shape(0)
        sources = [self.end, start]
        if draw(st.booleans()):
            sources.append(start)
        if self.fits(self.most + 2 * most):
            self.put(Add(), shape, *sources, most=self.most + 2 * most)

    def same_shape(self, delay):
        if len(self.shape) == 1:
            self.connect(self.shape[0], self.shape[0], delay=delay)
        else:
            kernel = self.draw(st.sampled_from(((1, 1), (3, 3), (2, 1))))
            padding = tuple(((k - 1) // 2, k // 2) for k in kernel)
            channels, height, width = self.shape
            self.connect(channels, channels, kernel, height * width, self.shape, padding=padding, delay=delay)

    def recurrence(self):
        """Neurons whose spikes come back one step later, if there is room for them."""
        start, shape = self.end, self.shape
        if not self.fits(2 * self.most, 10 * int(np.prod(shape)) * shape[0]):
            self.neuron(False)
            return
        loop = f"loop{len(self.nodes)}"
        self.nodes[loop] = None  # its layer comes below
        self.put(Add(), shape, start, loop)
        self.neuron(self.draw(st.booleans()))
        end = self.end
        self.same_shape(1)
        name = self.end
        self.nodes[loop] = self.nodes.pop(name)
        self.edges = [edge for edge in self.edges if edge[1] != name] + [(end, loop)]
        self.end, self.shape = end, shape


@st.composite
def cases(draw, recurrent=None, settle=None, samples=4, plain=None, wide=False):
    """A random network with inputs; `plain`: only neurons that the fast kernel takes; `wide`: see above."""
    side = st.integers(1, 12 if wide else 4)
    channels = st.sampled_from((1, 2, 3, 4, 6)) if wide else st.integers(1, 3)
    flat = draw(st.sampled_from((True, False, False) if wide else (True, False)))
    shape = draw(st.tuples(st.integers(1, 6)) if flat else st.tuples(channels, side, side))
    formats = (Fixed(1, signed=False), Fixed(3, signed=False), Fixed(4), Fixed(8, signed=False))
    multipliers, offsets = (1, 1, 1, -1, 3), (0, 0, 0, -2, 5)
    if wide:
        formats += (Fixed(12), Fixed(16), Fixed(16, signed=False), Fixed(16, signed=False))
        multipliers += (1, 1, 1, (1 << 31) - 1, 1 << 31, -(1 << 31), -(1 << 16))
        offsets += (1 << 31, -(1 << 40))
    layer = Input(
        shape, draw(st.sampled_from(formats)), draw(st.sampled_from(multipliers)), draw(st.sampled_from(offsets))
    )
    builder = _Builder(draw, layer, wide)
    only_plain = draw(st.booleans()) if plain is None else plain
    loops = draw(st.sampled_from((False, False, True))) if recurrent is None else recurrent
    kinds = ["connection"] * (2 if wide else 1) + ["neuron", "neuron", "scale", "residual"]
    for _ in range(draw(st.integers(1, 5))):
        space = len(builder.shape) == 3
        what = draw(st.sampled_from(kinds + (["pool", "pool", "pool", "upsample", "flatten"] if space else [])))
        if what == "connection":
            builder.convolution() if space else builder.affine()
        elif what == "neuron":
            builder.neuron(only_plain)
        elif what == "pool":
            builder.pool()
        elif what == "flatten":
            builder.put(Flatten(), (int(np.prod(builder.shape)),))
        else:
            getattr(builder, what)()
    if loops:
        builder.recurrence()
    elif not any(isinstance(node, Neuron) for node in builder.nodes.values()):
        builder.neuron(only_plain)
    if draw(st.booleans()):
        if len(builder.shape) == 3:
            builder.put(Flatten(), (int(np.prod(builder.shape)),))
        builder.affine()
    if loops or not isinstance(builder.nodes[builder.end], Neuron) or draw(st.booleans()):
        builder.put(Readout(draw(st.sampled_from(("sum", "count", "first_spike")))), builder.shape)
    longest, frames = 9, None
    if wide:
        longest = frames = max(1, min(40, MOST_OF_A_RUN // (samples * builder.terms)))
    t_drive = draw(st.one_of(st.none(), st.integers(1, longest if wide else 7)))
    levels = draw(st.one_of(st.none(), st.sampled_from((1, 3, 7))))
    network = Network(builder.nodes, tuple(builder.edges), t_drive=t_drive, levels=levels)
    inputs, given = draw(network_inputs(layer, samples, frames))
    steps = st.one_of(st.integers(1, longest), st.just(longest)) if wide else st.integers(1, longest)
    steps = draw(steps) if given is None and t_drive is None else draw(st.one_of(st.none(), steps))
    return Case(network, inputs, steps, draw(st.booleans()) if settle is None else settle, draw(st.integers(0, 2**40)))


@st.composite
def network_inputs(draw, layer, samples, longest=None):
    """Constant codes, or at most `longest` frames or steps of events for `layer`: (inputs, number of steps or None)."""
    kind = draw(st.sampled_from(("constant", "frames", "events")))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = samples if isinstance(samples, int) else draw(samples)
    fmt, size = layer.format, int(np.prod(layer.shape))
    dtype = draw(st.sampled_from((np.int64, np.int16 if fmt.max < 1 << 15 else np.uint16)))

    def codes(shape):
        found = rng.integers(fmt.min, fmt.max + 1, shape)
        found[rng.random(shape) < 0.4] = 0
        return found.astype(dtype)

    if kind == "constant":
        return codes((count, *layer.shape)), None
    steps = draw(st.integers(1, longest or (20 if size < 8 else 6)))
    if kind == "frames":
        return codes((steps, count, *layer.shape)), steps
    dense = codes((steps, count, size))
    dense[rng.random(dense.shape) < 0.5] = 0
    step, sample, index = np.nonzero(dense)
    order = rng.permutation(len(step))
    value = dense[step, sample, index][order]
    step, sample, index = step[order], sample[order], index[order]
    if len(step) and fmt.signed:  # two events at one place add up
        step, sample, index = (np.append(a, a[0]) for a in (step, sample, index))
        value = np.append(value, -np.sign(value[0]))
    value = None if fmt.bits == 1 and draw(st.booleans()) else value
    return Events(step, sample, index, steps, count, value), steps


def without(neuron, **parts):
    """`neuron` with some parts replaced."""
    return replace(neuron, **parts)
