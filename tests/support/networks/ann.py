"""Random feed-forward networks that have an integer ANN: every kind of layer, width, number of levels and size of tile.

They come from a seed alone, so that other processes (other tiers of instructions) draw the same ones.
"""

import numpy as np

from intsnn.formats.fixed import Fixed
from intsnn.layers import (
    Add,
    Affine,
    Conv2d,
    Flatten,
    Input,
    MaxPool2d,
    Readout,
    Scale,
    SignedIF,
    SumPool2d,
    Upsample2d,
)
from intsnn.network.spiking import Network

CHANNELS = (1, 2, 3, 5, 8, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 130)
LEVELS = (1, 2, 3, 7, 15, 31, 63, 127, 254, 255, 256, 300, 5000)
MOST = 1 << 13  # values of a layer
MOST_PRODUCTS = 3_000_000  # of a connection, for one sample


class _Growing:
    """A network that grows at its end."""

    def __init__(self, rng, shape, fmt):
        self.rng, self.nodes, self.edges = rng, {"in": Input(shape, fmt)}, []
        self.end, self.shape = "in", shape

    def put(self, layer, shape, *sources):
        name = f"{type(layer).__name__.lower()}{len(self.nodes)}"
        self.nodes[name] = layer
        self.edges += [(source, name) for source in sources or (self.end,)]
        self.end, self.shape = name, tuple(int(n) for n in shape)
        return name

    def any(self, *values):
        return values[self.rng.integers(len(values))]

    def weighted(self, *shape):
        bits = int(self.any(1, 2, 4, 8, 8, 8, 9, 12))
        top = max(1, (1 << (bits - 1)) - 1)
        weight = self.rng.integers(-top, top + 1, shape)
        if self.rng.random() < 0.2:
            weight[self.rng.random(shape) < 0.8] = 0
        parts = {"weight_format": Fixed(max(2, bits))}
        if self.rng.random() < 0.7:
            parts |= {"bias": self.rng.integers(-500, 900, shape[0]), "bias_mode": self.any("spread", "step", "once")}
        if self.rng.random() < 0.4:
            most = int(self.any(3, 40, 1 << 12))
            parts["multiplier"] = self.rng.integers(-1 if most == 3 else 1, most, shape[0])
        return {"weight": weight, **parts}

    def fire(self):
        """Thresholds such that levels are spread; sometimes far off."""
        rng, channels = self.rng, self.shape[0]
        scale = int(self.any(1, 30, 300, 3000, 100_000))
        theta = rng.integers(1, 2 * scale + 1, channels) if rng.random() < 0.6 else int(rng.integers(1, 2 * scale + 1))
        start = np.asarray(theta) >> 1 if rng.random() < 0.7 else int(rng.integers(-scale, scale + 1))
        self.put(SignedIF(theta, int(self.any(*LEVELS)), v_initial=start), self.shape)

    def convolution(self, channels=None, same=False):
        rng, (inputs, height, width) = self.rng, self.shape
        kernel = (1, 1) if rng.random() < 0.2 else (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        groups, outputs = 1, channels or int(self.any(*CHANNELS))
        if not same and rng.random() < 0.35 and inputs > 1:
            groups = int(self.any(inputs, *[g for g in range(2, inputs + 1) if inputs % g == 0]))
            outputs = groups * int(self.any(1, 1, 1, 2, 3))
        if same:
            stride, dilation, padding = (1, 1), (1, 1), tuple(((k - 1) // 2, k // 2) for k in kernel)
        else:
            stride, dilation = tuple(rng.integers(1, 3, 2).tolist()), tuple(rng.integers(1, 3, 2).tolist())
            padding = tuple(tuple(rng.integers(0, 3, 2).tolist()) for _ in range(2))
        sizes = [
            (n + sum(p) - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip((height, width), padding, dilation, kernel, stride, strict=True)
        ]
        terms = outputs * inputs // groups * kernel[0] * kernel[1] * max(0, sizes[0]) * max(0, sizes[1])
        if min(sizes) < 1 or outputs * sizes[0] * sizes[1] > MOST or terms > MOST_PRODUCTS:
            return False
        layer = Conv2d(
            **self.weighted(outputs, inputs // groups, *kernel), stride=stride, dilation=dilation, padding=padding,
            groups=groups,
        )  # fmt: skip
        self.put(layer, (outputs, *sizes))
        return True

    def dense(self):
        if len(self.shape) == 3:
            self.put(Flatten(), (int(np.prod(self.shape)),))
        outputs = int(self.any(*CHANNELS))
        self.put(Affine(**self.weighted(outputs, self.shape[0])), (outputs,))

    def pool(self):
        rng, (channels, height, width) = self.rng, self.shape
        kernel = (height, width) if rng.random() < 0.2 else tuple(rng.integers(1, 4, 2).tolist())
        stride = tuple(rng.integers(1, 3, 2).tolist())
        padding = tuple((int(rng.integers(0, k)), int(rng.integers(0, k))) for k in kernel)
        layer = self.any(SumPool2d, MaxPool2d)(kernel, stride=stride, padding=padding)
        sizes = [(n + sum(p) - k) // s + 1 for n, p, k, s in zip((height, width), padding, kernel, stride, strict=True)]
        if min(sizes) >= 1:
            self.put(layer, (channels, *sizes))

    def upsample(self):
        factor, (channels, height, width) = tuple(self.rng.integers(1, 3, 2).tolist()), self.shape
        layer = Upsample2d(factor, self.any("nearest", "zeros"))
        sizes = layer.sizes(height, width)
        if channels * sizes[0] * sizes[1] <= MOST:
            self.put(layer, (channels, *sizes))

    def join(self):
        """Around a connection of the same shape, or around nothing; of values, of their multiples, or of sums."""
        rng, start, shape = self.rng, self.end, self.shape
        if len(shape) == 3:
            if not self.convolution(shape[0], same=True):
                return
        else:
            self.put(Affine(**self.weighted(shape[0], shape[0])), shape)
        branches = [self.end]
        for _ in range(int(rng.integers(1, 3))):
            if rng.random() < 0.5:
                factor = rng.integers(-3, 9, shape[0]) if rng.random() < 0.5 else int(rng.integers(1, 50))
                branches.append(self.put(Scale(factor), shape, start))
            else:
                branches.append(start)
        self.put(Add(), shape, *branches)


def ann_network(seed):
    """A network, and inputs for it: constant codes, or a few frames."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 41)),)
    if rng.random() < 0.75:
        shape = (int(rng.integers(1, 5)), int(rng.integers(1, 12)), int(rng.integers(1, 12)))
    fmt = (Fixed(8, signed=False), Fixed(8, signed=False), Fixed(4, signed=False), Fixed(8), Fixed(16))[rng.integers(5)]
    net = _Growing(rng, shape, fmt)
    for _ in range(int(rng.integers(1, 6))):
        flat = len(net.shape) == 1
        kinds = ["unit", "unit", "unit", "join"] + ([] if flat else ["pool", "pool", "upsample", "flat"])
        what = kinds[rng.integers(len(kinds))]
        if what == "unit":
            net.dense() if flat else net.convolution()
            net.fire()
        elif what == "join":
            net.join()
            net.fire()
        elif what == "flat":
            net.put(Flatten(), (int(np.prod(net.shape)),))
        else:
            getattr(net, what)()
    if rng.random() < 0.7:
        if rng.random() < 0.7:
            net.dense()
        net.put(Readout(), net.shape)
    elif not net.nodes[net.end].answers:
        net.fire()
    network = Network(net.nodes, tuple(net.edges), t_drive=int(rng.integers(1, 9)))
    samples = int(rng.integers(1, 8))
    size = (samples, *shape) if rng.random() < 0.7 else (int(rng.integers(1, 6)), samples, *shape)
    codes = rng.integers(fmt.min, fmt.max + 1, size)
    codes[rng.random(size) < 0.3] = 0
    return network, codes.astype(np.uint8 if fmt == Fixed(8, signed=False) else np.int64)
