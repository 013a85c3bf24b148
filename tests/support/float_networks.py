"""Random float networks of every kind of layer that converts, from a seed."""

import numpy as np

from intsnn.network import (
    FloatAdd,
    FloatAffine,
    FloatAvgPool2d,
    FloatBatchNorm,
    FloatConcat,
    FloatConv2d,
    FloatFlatten,
    FloatHardTanh,
    FloatInput,
    FloatLeakyReLU,
    FloatMaxPool2d,
    FloatNetwork,
    FloatReLU,
    FloatSelect,
    FloatSigmoid,
    FloatSoftmax,
    FloatUpsample2d,
)

__all__ = ["random_network"]


class Sketch:
    """Nodes so far, and the shape of each."""

    def __init__(self, rng, shape):
        self.rng, self.nodes, self.shapes = rng, [FloatInput(name="in", shape=shape)], {"in": shape}

    def put(self, kind, *inputs, **options):
        node = kind(name=f"{kind.__name__[5:].lower()}{len(self.nodes)}", inputs=inputs, **options)
        self.shapes[node.name] = node.output_shape([self.shapes[name] for name in inputs])
        self.nodes.append(node)
        return node.name

    def chance(self, share):
        return self.rng.random() < share

    def convolution(self, x, out=None, kernel=None):
        rng, channels = self.rng, self.shapes[x][0]
        if out is None and channels > 1 and self.chance(0.2):  # each channel by itself
            weight = rng.normal(0, 0.5, (channels, 1, 3, 3))
            padding = ((1, 1), (1, 1))
            return self.put(FloatConv2d, x, weight=weight, padding=padding, groups=channels)
        out, kernel = out or int(rng.integers(1, 5)), kernel or int(rng.choice([1, 3]))
        weight = rng.normal(0, 1 / np.sqrt(channels * kernel**2), (out, channels, kernel, kernel))
        bias = rng.normal(0, 0.2, out) if self.chance(0.7) else None
        return self.put(FloatConv2d, x, weight=weight, bias=bias, padding=((kernel // 2,) * 2,) * 2)

    def norm(self, x):
        rng, channels = self.rng, self.shapes[x][0]
        gamma, beta, mean = (rng.normal(at, 0.5, channels) for at in (0.3, 0, 0))
        variance = rng.uniform(0.5, 2, channels)
        return self.put(FloatBatchNorm, x, gamma=gamma, beta=beta, mean=mean, variance=variance, epsilon=1e-3)

    def activation(self, x):
        kind = self.rng.choice(["relu", "relu6", "tanh", "leaky", "none"], p=[0.35, 0.2, 0.15, 0.1, 0.2])
        if kind == "none":
            return x
        options = {"relu6": {"max_value": 1.5}, "tanh": {"limit": 1.0}, "leaky": {"slope": 0.25}}.get(kind, {})
        return self.put({"tanh": FloatHardTanh, "leaky": FloatLeakyReLU}.get(kind, FloatReLU), x, **options)

    def pool(self, x):
        if min(self.shapes[x][1:]) < 2:
            return x
        kind = FloatMaxPool2d if self.chance(0.5) else FloatAvgPool2d
        return self.put(kind, x, kernel=(2, 2), stride=(2, 2))

    def move(self, x):
        if self.chance(0.5):
            return self.put(FloatUpsample2d, x, factor=(2, 2), mode=str(self.rng.choice(["nearest", "zeros"])))
        shape = self.shapes[x]
        places = np.arange(int(np.prod(shape))).reshape(shape)
        places = (
            places[::-1] if self.chance(0.5) else np.pad(places[:, 1:], ((0, 0), (0, 1), (0, 0)), constant_values=-1)
        )
        return self.put(FloatSelect, x, places=places)

    def meet(self, one, other):
        """Two branches side by side, or added up."""
        if one == other or self.shapes[one][1:] != self.shapes[other][1:]:
            return other
        if self.chance(0.5):
            return self.put(FloatConcat, one, other)
        if self.shapes[one] != self.shapes[other]:
            one = self.convolution(one, self.shapes[other][0], 1)
        return self.put(FloatAdd, one, other)


def random_network(seed):
    """A float network for images, of up to six blocks behind its first ReLU, with three outputs."""
    rng = np.random.default_rng(seed)
    s = Sketch(rng, (int(rng.integers(1, 4)), 6, 6))
    x, kept = s.convolution("in"), []
    x = s.put(FloatReLU, s.norm(x) if s.chance(0.4) else x)
    for _ in range(int(rng.integers(1, 7))):
        block = str(rng.choice(["layer", "norm", "pool", "keep", "meet", "move"], p=[0.35, 0.1, 0.15, 0.12, 0.2, 0.08]))
        if block == "layer":
            x = s.convolution(x)
            x = s.activation(s.norm(x) if s.chance(0.5) else x)
        elif block == "keep":
            kept.append(x)
        elif block == "meet" and kept:
            x = s.meet(kept.pop(), x)
            x = s.activation(x) if s.chance(0.5) else x
        elif block in ("norm", "pool", "move"):
            x = getattr(s, block)(x)
    size = s.shapes[x][1:]
    if s.chance(0.5):
        x = s.put(FloatMaxPool2d if s.chance(0.5) else FloatAvgPool2d, x, kernel=size, stride=size)
    x = s.put(FloatFlatten, x)
    weight = rng.normal(0, 1 / np.sqrt(s.shapes[x][0]), (3, s.shapes[x][0]))
    x = s.put(FloatAffine, x, weight=weight, bias=rng.normal(0, 0.2, 3))
    end = str(rng.choice(["", "softmax", "sigmoid"]))
    if end:
        x = s.put(FloatSoftmax if end == "softmax" else FloatSigmoid, x)
    return FloatNetwork(tuple(s.nodes), x)
