"""Hypothesis strategies: random networks with every part, and inputs for them.

Structure is drawn (and shrinks); weights come from one drawn seed, since no weight matters by itself.
"""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from intsnn.formats import Bipolar, Fixed, Overflow, Rounding, apot
from intsnn.inputs import Events
from intsnn.layers import (
    Add,
    Affine,
    AvgPool2d,
    Conv2d,
    Flatten,
    Input,
    MaxPool2d,
    Readout,
    Scale,
    SumPool2d,
    Upsample2d,
)
from intsnn.network import Network
from intsnn.neurons import Decay, Neuron, Refractory

QUIET_MODES = (Overflow.SAT, Overflow.SAT_SYM, Overflow.WRAP)
# channels of a layer: mostly few; beside 16, 32 and 64 lie the borders of the vector loops
WIDTHS = st.one_of(st.integers(1, 4), st.integers(1, 4), st.sampled_from((16, 17, 35, 64, 67)))
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
def decays(draw):
    """Every kind of leak."""
    kind = draw(st.sampled_from(("none", "shift", "multiply", "subtract")))
    rounding = draw(st.sampled_from(Rounding))
    if kind == "shift":
        return Decay.by_shift(draw(st.integers(0, 4)), rounding, draw(st.booleans()))
    if kind == "multiply":
        shift = draw(st.integers(0, 12))
        return Decay.by_multiply(draw(st.integers(0, 1 << shift)), shift, rounding)
    if kind == "subtract":
        return Decay.by_subtract(draw(st.integers(0, 9)))
    return Decay()


@st.composite
def state_formats(draw, unsigned=True):
    """A narrow or wide format of a state."""
    bits = draw(st.integers(4, 24))
    signed = draw(st.booleans()) if unsigned else True
    return Fixed(bits, signed=signed, narrow=signed and draw(st.booleans()))


@st.composite
def neurons(draw, channels, plain=False):
    """A neuron with random parts; `plain`: integrate and fire without leak (what fast kernels take)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    v_format = draw(st.one_of(st.just(Fixed(32)), state_formats()))
    top = min(v_format.max, draw(st.sampled_from((3, 12, 60))))
    threshold = rng.integers(1, top + 1, channels) if draw(st.booleans()) else int(rng.integers(1, top + 1))
    signed = draw(st.booleans())
    negative = draw(st.sampled_from((0, 0, 0, -1, "-theta", 1)))
    v_negative = -np.asarray(threshold) if negative == "-theta" else negative
    v_negative = np.maximum(v_negative, v_format.min)
    start = draw(st.sampled_from(("zero", "half", "low")))
    v_initial = {"zero": 0, "half": np.asarray(threshold) >> 1, "low": max(v_format.min, -7)}[start]
    parts = {
        "v_initial": v_initial,
        "v_format": v_format,
        "v_overflow": draw(st.sampled_from(QUIET_MODES)),
        "signed": signed,
        "v_negative": v_negative,
        "max_count": draw(st.sampled_from((None, 1, 3, 7))),
        "reset_delay": draw(st.sampled_from((0, 0, 1))),
        "acc_format": draw(st.one_of(st.none(), state_formats())),
        "acc_overflow": draw(st.sampled_from(QUIET_MODES)),
    }
    if not plain:
        parts["v_decay"] = draw(decays())
        parts["compare"] = draw(st.sampled_from((">=", ">")))
        parts["reset"] = draw(st.sampled_from(("subtract", "subtract", "zero", "none")))
        parts["bias"] = rng.integers(-3, 6, channels) if draw(st.booleans()) else 0
        if parts["reset"] == "subtract":
            parts["max_spikes_per_step"] = draw(st.sampled_from((1, 1, 2, 5)))
        if draw(st.booleans()):
            parts["u_format"] = draw(state_formats())
            parts["u_overflow"] = draw(st.sampled_from(QUIET_MODES))
            parts["u_decay"] = draw(decays())
            parts["u_shift"] = draw(st.sampled_from((0, 0, 3, 6)))
            if draw(st.booleans()) and parts["u_format"].signed:
                half = 1 << (parts["u_format"].bits - 1)
                parts["u_range"] = (1 - half, half)
        refractory = draw(st.sampled_from(("none", "none", "counter", "trace")))
        if refractory == "counter":
            parts["refractory"] = Refractory("counter", steps=draw(st.integers(0, 3)))
        elif refractory == "trace":
            parts["refractory"] = Refractory(
                "trace", amplitude=draw(st.integers(-4, 9)), decay=draw(decays()), format=draw(state_formats())
            )
    return Neuron(threshold, **parts)


@st.composite
def connections(draw, inputs, outputs, kernel=None, **geometry):
    """`Affine` (no `kernel`) or `Conv2d` with random weight format, bias and multiplier."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (outputs, inputs) if kernel is None else (outputs, inputs, *kernel)
    weight_format = draw(st.sampled_from((Fixed(2), Fixed(4), Fixed(4), Fixed(9), Bipolar(), apot(3), apot(4))))
    if isinstance(weight_format, Fixed):
        weight = rng.integers(weight_format.min, weight_format.max + 1, shape)
        weight[rng.random(shape) < 0.2] = 0
    else:
        weight = rng.choice((-1, 1) if isinstance(weight_format, Bipolar) else weight_format.table, shape)
    bias = draw(st.sampled_from((None, "one", "many")))
    multiplier = draw(st.sampled_from((1, 1, 1, -2, "many")))
    parts = {
        "weight_format": weight_format,
        "bias": {None: None, "one": int(rng.integers(-9, 20)), "many": rng.integers(-9, 20, outputs)}[bias],
        "bias_mode": draw(st.sampled_from(("step", "spread", "once"))),
        "multiplier": rng.integers(-3, 5, outputs) if multiplier == "many" else multiplier,
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
    """A graph that grows at its end."""

    def __init__(self, draw, layer):
        self.draw, self.nodes, self.edges = draw, {"in": layer}, []
        self.end, self.shape = "in", layer.shape

    def put(self, layer, shape, *sources):
        name = f"{type(layer).__name__.lower()}{len(self.nodes)}"
        self.nodes[name] = layer
        self.edges += [(source, name) for source in sources or (self.end,)]
        self.end, self.shape = name, shape
        return name

    def delay(self):
        return self.draw(st.sampled_from((0, 0, 0, 1)))

    def neuron(self, plain):
        self.put(self.draw(neurons(self.shape[0], plain)), self.shape)

    def convolution(self):
        draw, (channels, height, width) = self.draw, self.shape
        groups = draw(st.sampled_from([g for g in (1, channels) if channels % g == 0]))
        outputs = groups * draw(WIDTHS if groups == 1 else st.sampled_from((1, 2, 2, 17)))
        kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        stride = draw(st.one_of(st.integers(1, 2), st.tuples(st.integers(1, 2), st.integers(1, 3))))
        dilation = draw(st.sampled_from((1, 1, 2, (1, 2))))
        padding = draw(pads(3))
        layer = draw(
            connections(
                channels // groups, outputs, kernel, stride=stride, dilation=dilation, padding=padding, groups=groups,
                delay=self.delay(),
            )
        )  # fmt: skip
        sizes = [
            (n + sum(p) - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip((height, width), layer.padding, layer.dilation, kernel, layer.stride, strict=True)
        ]
        if min(sizes) >= 1:
            self.put(layer, (outputs, *sizes))

    def affine(self):
        outputs = self.draw(WIDTHS)
        self.put(self.draw(connections(self.shape[0], outputs, delay=self.delay())), (outputs,))

    def pool(self):
        draw, (channels, height, width) = self.draw, self.shape
        kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        options = {"stride": draw(st.sampled_from((None, 1, 2, (1, 2)))), "padding": draw(pads(min(kernel)))}
        kind = draw(st.sampled_from((SumPool2d, AvgPool2d, MaxPool2d)))
        if kind is AvgPool2d:
            options["rounding"] = draw(st.sampled_from(DETERMINISTIC))
        layer = kind(kernel, **options)
        sizes = [
            (n + sum(p) - k) // s + 1
            for n, p, k, s in zip((height, width), layer.padding, kernel, layer.stride, strict=True)
        ]
        if min(sizes) >= 1:
            self.put(layer, (channels, *sizes))

    def upsample(self):
        factor = (self.draw(st.integers(1, 3)), self.draw(st.integers(1, 2)))
        layer = Upsample2d(factor, self.draw(st.sampled_from(("nearest", "zeros"))))
        channels, height, width = self.shape
        if layer.mode == "nearest":
            sizes = (height * factor[0], width * factor[1])
        else:
            sizes = (height + (height - 1) * (factor[0] - 1), width + (width - 1) * (factor[1] - 1))
        if sizes[0] * sizes[1] <= 100:
            self.put(layer, (channels, *sizes))

    def scale(self):
        factors = self.draw(st.one_of(st.integers(-3, 4), st.lists(st.integers(-3, 4), min_size=3, max_size=3)))
        if isinstance(factors, list):
            factors = np.resize(factors, self.shape[0])
        self.put(Scale(factors), self.shape)

    def residual(self):
        """A branch around a connection of the same shape (or around nothing: x + x)."""
        draw, start, shape = self.draw, self.end, self.shape
        if draw(st.booleans()):
            self.same_shape(self.delay())
            if draw(st.booleans()):
                self.neuron(True)
                self.same_shape(0)
        sources = [self.end, start]
        if draw(st.booleans()):
            sources.append(start)
        self.put(Add(), shape, *sources)

    def same_shape(self, delay):
        if len(self.shape) == 1:
            layer = self.draw(connections(self.shape[0], self.shape[0], delay=delay))
        else:
            kernel = self.draw(st.sampled_from(((1, 1), (3, 3), (2, 1))))
            padding = tuple(((k - 1) // 2, k // 2) for k in kernel)
            layer = self.draw(connections(self.shape[0], self.shape[0], kernel, padding=padding, delay=delay))
        self.put(layer, self.shape)

    def recurrence(self):
        """Neurons whose spikes come back one step later."""
        start, shape = self.end, self.shape
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
def cases(draw, recurrent=None, settle=None, samples=4, plain=None):
    """A random network with inputs; `plain`: only neurons that the fast kernel takes."""
    shape = draw(
        st.one_of(
            st.tuples(st.integers(1, 6)),
            st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
        )
    )
    fmt = draw(st.sampled_from((Fixed(1, signed=False), Fixed(3, signed=False), Fixed(4), Fixed(8, signed=False))))
    layer = Input(shape, fmt, draw(st.sampled_from((1, 1, 1, -1, 3))), draw(st.sampled_from((0, 0, 0, -2, 5))))
    builder = _Builder(draw, layer)
    only_plain = draw(st.booleans()) if plain is None else plain
    loops = draw(st.sampled_from((False, False, True))) if recurrent is None else recurrent
    kinds = ["connection", "neuron", "neuron", "scale", "residual"]
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
    t_drive = draw(st.one_of(st.none(), st.integers(1, 7)))
    levels = draw(st.one_of(st.none(), st.sampled_from((1, 3, 7))))
    network = Network(builder.nodes, tuple(builder.edges), t_drive=t_drive, levels=levels)
    inputs, given = draw(network_inputs(layer, samples))
    steps = (
        draw(st.integers(1, 9)) if given is None and t_drive is None else draw(st.one_of(st.none(), st.integers(1, 9)))
    )
    return Case(network, inputs, steps, draw(st.booleans()) if settle is None else settle, draw(st.integers(0, 2**40)))


@st.composite
def network_inputs(draw, layer, samples):
    """Constant codes, frames or events for `layer`: (inputs, number of steps or None)."""
    kind = draw(st.sampled_from(("constant", "frames", "events")))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = samples if isinstance(samples, int) else draw(samples)
    fmt, size = layer.format, int(np.prod(layer.shape))
    dtype = draw(st.sampled_from((np.int64, np.int16)))

    def codes(shape):
        found = rng.integers(fmt.min, fmt.max + 1, shape)
        found[rng.random(shape) < 0.4] = 0
        return found.astype(dtype)

    if kind == "constant":
        return codes((count, *layer.shape)), None
    steps = draw(st.integers(1, 20 if size < 8 else 6))
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
