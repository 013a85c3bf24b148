"""Networks as Keras saves them, with what each layer computes by its definition, channels last: no Keras is needed."""

import numpy as np
from hostile import keras_file


def ours(x):
    """Samples in the axes of a float network: (N, C, H, W), signals (N, C, 1, L)."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x.transpose(0, 2, 1)[:, :, None] if x.ndim == 3 else x


# --- definitions; a signal is an image of one row


def rows(x):
    return x[:, None] if x.ndim == 3 else x


def back(y, x):
    return y[:, 0] if x.ndim == 3 else y


def spaces(size, kernel, stride, padding, dilation=1):
    span = (kernel - 1) * dilation + 1
    if padding == "valid":
        return 0, 0
    if padding == "causal":
        return span - 1, 0
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def seen(x, kernel, stride, padding, dilation=(1, 1), fill=0):
    """(N, rows, columns, kh, kw, C): what each position of the result sees."""
    pads = [spaces(*axis[:3], padding, axis[3]) for axis in zip(x.shape[1:3], kernel, stride, dilation, strict=True)]
    x = np.pad(x.astype(np.float64), ((0, 0), *pads, (0, 0)), constant_values=fill)
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(1, 2))[:, :: stride[0], :: stride[1]]
    return view[..., :: dilation[0], :: dilation[1]].transpose(0, 1, 2, 4, 5, 3)


def conv(x, kernel, stride=1, padding="valid", dilation=1):
    """Conv1D with a kernel (k, I, O), Conv2D with (kh, kw, I, O)."""
    y, k = rows(x), kernel if kernel.ndim == 4 else kernel[None]
    one = (1, stride) if x.ndim == 3 else (stride, stride)
    two = (1, dilation) if x.ndim == 3 else (dilation, dilation)
    return back(np.einsum("nrcijk,ijko->nrco", seen(y, k.shape[:2], one, padding, two), k), x)


def depthwise(x, kernel, stride=1, padding="valid"):
    y, k = rows(x), kernel if kernel.ndim == 4 else kernel[None]
    one = (1, stride) if x.ndim == 3 else (stride, stride)
    y = np.einsum("nrcijk,ijkm->nrckm", seen(y, k.shape[:2], one, padding), k)
    return back(y.reshape(*y.shape[:3], -1), x)


def transposed(x, kernel, stride, padding, more=None):
    """Every input adds its kernel (kh, kw, O, I); "same" is what a forward convolution with it would take in."""
    (n, height, width, _), (kh, kw, out, _) = x.shape, kernel.shape
    full = np.zeros((n, (height - 1) * stride + kh, (width - 1) * stride + kw, out))
    for r in range(height):
        for c in range(width):
            at = (slice(None), slice(r * stride, r * stride + kh), slice(c * stride, c * stride + kw))
            full[at] += np.einsum("nk,ijok->nijo", x[:, r, c], kernel)
    for axis, k in ((1, kh), (2, kw)):
        size = x.shape[axis]
        if more is None:
            wanted = size * stride + (max(k - stride, 0) if padding == "valid" else 0)
        else:
            wanted = (size - 1) * stride + k + more - (2 * (k // 2) if padding == "same" else 0)
        before = spaces(wanted, k, stride, padding)[0]
        full = np.moveaxis(full, axis, 0)[before:][:wanted]
        full = np.concatenate([full, np.zeros((wanted - len(full), *full.shape[1:]))])
        full = np.moveaxis(full, 0, axis)
    return full


def largest(x, size, stride, padding="valid"):
    return seen(x, (size, size), (stride, stride), padding, fill=-np.inf).max(axis=(3, 4))


def softmax(x):
    y = np.exp(x - x.max(axis=-1, keepdims=True))
    return y / y.sum(axis=-1, keepdims=True)


# --- models


class Tensor:
    """The output of a layer: its name, and its value for the samples at hand."""

    def __init__(self, name, value):
        self.name, self.value = name, value

    @property
    def channels(self):
        return self.value.shape[-1]


class Functional:
    """A Functional model that grows by layers with random weights; `self.x` are its samples.

    `age` 2 or 3: of the spelling of the configuration.
    """

    def __init__(self, shape, age=2, samples=2, seed=0):
        self.age, self.rng = age, np.random.default_rng(seed)
        self.x = self.rng.normal(size=(samples, *shape)).astype(np.float32)
        self.entries, self.weights, self.counts = [], {}, {}
        key = "batch_input_shape" if age == 2 else "batch_shape"
        self.start = self.layer("InputLayer", {key: [None, *shape]}, [], self.x.astype(np.float64))

    def layer(self, kind, config, inputs, value, weights=None, listed=False):
        """A layer that reads `inputs` and gives `value`; `listed`: it is called with a list."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        name = config.get("name", f"{kind.lower()}_{self.counts[kind]}")
        entry = {"class_name": kind, "name": name, "config": {"name": name, "trainable": True} | config}
        entry["inbound_nodes"] = [self.call(inputs, listed)] if inputs else []
        self.entries.append(entry)
        self.weights[name] = {key: np.asarray(array, np.float32) for key, array in (weights or {}).items()}
        return Tensor(name, value)

    def call(self, inputs, listed=False):
        if self.age == 2:
            return [[tensor.name, 0, 0, {}] for tensor in inputs]
        made = [
            {"class_name": "__keras_tensor__", "config": {"shape": [], "keras_history": [tensor.name, 0, 0]}}
            for tensor in inputs
        ]
        return {"args": [made] if listed else made, "kwargs": {}}

    def drawn(self, *shape, scale=None):
        scale = np.sqrt(2 / np.prod(shape[:-1])) if scale is None else scale
        return self.rng.normal(0, scale, shape).astype(np.float32)

    def conv(self, t, filters, size=1, stride=1, padding="same", bias=False, activation="linear"):
        k, b = self.drawn(size, size, t.channels, filters), self.drawn(filters, scale=0.1)
        config = {"filters": filters, "kernel_size": [size] * 2, "strides": [stride] * 2, "padding": padding}
        config |= {"use_bias": bias, "activation": activation, "data_format": "channels_last"}
        y = conv(t.value, k, stride, padding) + (b if bias else 0)
        y = {"relu": lambda y: np.maximum(y, 0), "softmax": softmax}.get(activation, lambda y: y)(y)
        return self.layer("Conv2D", config, [t], y, {"kernel": k} | ({"bias": b} if bias else {}))

    def up(self, t, filters):
        """Transposed convolution that doubles rows and columns."""
        k = self.drawn(2, 2, filters, t.channels)
        config = {"filters": filters, "kernel_size": [2, 2], "strides": [2, 2], "padding": "same", "use_bias": False}
        return self.layer("Conv2DTranspose", config, [t], transposed(t.value, k, 2, "same"), {"kernel": k})

    def depthwise(self, t, stride=1, padding="same"):
        k = self.drawn(3, 3, t.channels, 1, scale=0.4)
        config = {"kernel_size": [3, 3], "strides": [stride] * 2, "padding": padding, "use_bias": False}
        y = depthwise(t.value, k, stride, padding)
        return self.layer("DepthwiseConv2D", config, [t], y, {"depthwise_kernel": k})

    def norm(self, t):
        n = t.channels
        gamma, beta = 1 + self.drawn(n, scale=0.1), self.drawn(n, scale=0.1)
        mean, variance = self.drawn(n, scale=0.1), self.rng.uniform(0.5, 2, n).astype(np.float32)
        y = (t.value - mean) / np.sqrt(variance.astype(np.float64) + 1e-3) * gamma + beta
        weights = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
        return self.layer("BatchNormalization", {"axis": [3], "epsilon": 1e-3}, [t], y, weights)

    def relu(self, t, limit=None):
        return self.layer("ReLU", {"max_value": limit}, [t], np.clip(t.value, 0, limit))

    def pad(self, t, sides):
        return self.layer("ZeroPadding2D", {"padding": sides}, [t], np.pad(t.value, ((0, 0), *sides, (0, 0))))

    def pool(self, t, size, stride):
        config = {"pool_size": [size] * 2, "strides": [stride] * 2}
        return self.layer("MaxPooling2D", config, [t], largest(t.value, size, stride))

    def mean(self, t, keep=False):
        y = t.value.mean(axis=(1, 2), keepdims=keep)
        return self.layer("GlobalAveragePooling2D", {"keepdims": keep} if keep else {}, [t], y)

    def add(self, *tensors):
        return self.layer("Add", {}, tensors, sum(t.value for t in tensors), listed=True)

    def beside(self, *tensors):
        y = np.concatenate([t.value for t in tensors], axis=-1)
        return self.layer("Concatenate", {"axis": -1}, tensors, y, listed=True)

    def reshape(self, t, *shape):
        return self.layer("Reshape", {"target_shape": list(shape)}, [t], t.value.reshape(len(t.value), *shape))

    def dense(self, t, units, activation="softmax"):
        k, b = self.drawn(t.channels, units), self.drawn(units, scale=0.1)
        y = t.value @ k + b
        y = softmax(y) if activation == "softmax" else np.maximum(y, 0) if activation == "relu" else y
        return self.layer("Dense", {"units": units, "activation": activation}, [t], y, {"kernel": k, "bias": b})

    def config(self, output, name="net"):
        ends = [[self.start.name, 0, 0]], [[output.name, 0, 0]]
        body = {"name": name, "layers": self.entries, "input_layers": ends[0], "output_layers": ends[1]}
        return {"class_name": "Functional", "config": body}

    def save(self, path, output, **options):
        version = {2: "2.4.0", 3: "3.4.1"}[self.age]
        return keras_file(path, None, self.weights, model=self.config(output), version=version, **options)
