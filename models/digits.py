"""How the embedded digits network was trained: numpy only, seeded, on the 1,437 training images.

``python -m intsnn.models.digits -o FILE`` trains it again (about a minute) and writes the Keras-layout file that
is shipped as ``intsnn/datasets/data/digits_cnn.h5``. Widths, augmentation and smoothing were chosen by accuracy
on parts of the training images, held out in turn.

Arrays are float32 and channels last, as in the file: images ``(N, H, W, C)``, kernels ``(H, W, in, out)``.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from ..datasets import catalogue as datasets
from ..files.hdf5 import write_tree
from ..support.pipes import say

__all__ = ["forward", "main", "network_file", "save", "train"]

SHAPES = {  # name -> shape of the kernel; the bias has the last axis
    "conv1": (3, 3, 1, 16),
    "conv2": (3, 3, 16, 32),
    "conv3": (3, 3, 32, 64),
    "dense1": (256, 32),
    "dense2": (32, 10),
}
EPOCHS = 150
BATCH = 32
RATE = 2e-3
DECAY = 5e-4  # of the weights, decoupled from the gradient
SMOOTH = 0.1  # of the labels
SEED = 1

Parameters = dict[str, np.ndarray]


def network_file() -> Path:
    """Path of the trained network that comes with the package (Keras layout, HDF5)."""
    return Path(datasets.__file__).resolve().parent / "data" / "digits_cnn.h5"


def initial(rng: np.random.Generator) -> Parameters:
    """He-normal kernels, zero biases."""
    parameters = {}
    for name, shape in SHAPES.items():
        deviation = np.sqrt(2 / np.prod(shape[:-1]))
        parameters[f"{name}/kernel"] = rng.normal(0, deviation, shape).astype(np.float32)
        parameters[f"{name}/bias"] = np.zeros(shape[-1], np.float32)
    return parameters


def _patches(x: np.ndarray) -> np.ndarray:
    """All 3x3 neighbourhoods with a border of zeros: (N, H, W, C) -> (N*H*W, 9*C)."""
    n, height, width, channels = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    columns = np.empty((n, height, width, 9, channels), x.dtype)
    for tap in range(9):
        row, column = divmod(tap, 3)
        columns[:, :, :, tap] = padded[:, row : row + height, column : column + width]
    return columns.reshape(n * height * width, 9 * channels)


def _gather(columns: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The transpose of `_patches`: every tap is added back to the pixel it came from."""
    n, height, width, channels = shape
    columns = columns.reshape(n, height, width, 9, channels)
    padded = np.zeros((n, height + 2, width + 2, channels), columns.dtype)
    for tap in range(9):
        row, column = divmod(tap, 3)
        padded[:, row : row + height, column : column + width] += columns[:, :, :, tap]
    return padded[:, 1:-1, 1:-1]


class Conv:
    """3x3 convolution with a border of zeros, then ReLU."""

    def __init__(self, name: str) -> None:
        self.name = name

    def forward(self, x: np.ndarray, parameters: Parameters) -> np.ndarray:
        kernel = parameters[f"{self.name}/kernel"]
        self.shape, self.columns = x.shape, _patches(x)
        y = self.columns @ kernel.reshape(-1, kernel.shape[-1]) + parameters[f"{self.name}/bias"]
        self.output = np.maximum(y, 0).reshape(*x.shape[:3], -1)
        return self.output

    def backward(self, dy: np.ndarray, parameters: Parameters, gradients: Parameters) -> np.ndarray:
        kernel = parameters[f"{self.name}/kernel"]
        dy = (dy * (self.output > 0)).reshape(-1, kernel.shape[-1])
        gradients[f"{self.name}/kernel"] = (self.columns.T @ dy).reshape(kernel.shape)
        gradients[f"{self.name}/bias"] = dy.sum(0)
        return _gather(dy @ kernel.reshape(-1, kernel.shape[-1]).T, self.shape)


class Pool:
    """Mean or maximum of 2x2 blocks."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def forward(self, x: np.ndarray, parameters: Parameters) -> np.ndarray:
        n, height, width, channels = x.shape
        blocks = x.reshape(n, height // 2, 2, width // 2, 2, channels)
        if self.kind == "mean":
            y = blocks.mean((2, 4))
            self.share = np.broadcast_to(np.float32(0.25), blocks.shape)
        else:
            y = blocks.max((2, 4))
            hit = blocks == y[:, :, None, :, None]
            self.share = hit / hit.sum((2, 4), keepdims=True, dtype=np.float32)
        return y

    def backward(self, dy: np.ndarray, parameters: Parameters, gradients: Parameters) -> np.ndarray:
        n, height, width, channels = dy.shape
        return (self.share * dy[:, :, None, :, None]).reshape(n, 2 * height, 2 * width, channels)


class Dense:
    """Fully connected; flattens what it is given. ReLU unless it is the last."""

    def __init__(self, name: str, relu: bool) -> None:
        self.name, self.relu = name, relu

    def forward(self, x: np.ndarray, parameters: Parameters) -> np.ndarray:
        self.shape, self.input = x.shape, x.reshape(len(x), -1)
        y = self.input @ parameters[f"{self.name}/kernel"] + parameters[f"{self.name}/bias"]
        self.output = np.maximum(y, 0) if self.relu else y
        return self.output

    def backward(self, dy: np.ndarray, parameters: Parameters, gradients: Parameters) -> np.ndarray:
        if self.relu:
            dy = dy * (self.output > 0)
        gradients[f"{self.name}/kernel"] = self.input.T @ dy
        gradients[f"{self.name}/bias"] = dy.sum(0)
        return (dy @ parameters[f"{self.name}/kernel"].T).reshape(self.shape)


def layers() -> list:
    """The network, input to output: 8x8x1 -> 10 logits."""
    return [
        Conv("conv1"),
        Conv("conv2"),
        Pool("mean"),
        Conv("conv3"),
        Pool("max"),
        Dense("dense1", relu=True),
        Dense("dense2", relu=False),
    ]


def forward(images: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Logits of uint8 images with values 0..16.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, 1, 8, 8)
    parameters : dict
        ``NAME/kernel`` and ``NAME/bias`` of every layer in `SHAPES`, float32.

    Returns
    -------
    ndarray of float32, shape (N, 10)
    """
    x = images.transpose(0, 2, 3, 1).astype(np.float32) / 16
    for layer in layers():
        x = layer.forward(x, parameters)
    return x


def augment(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image turned, scaled, sheared and shifted a little; bilinear, zeros outside.

    Parameters
    ----------
    x : ndarray of float32, shape (N, 8, 8, 1)
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32, shape (N, 8, 8, 1)
    """
    n, size = x.shape[:2]
    angle = rng.uniform(-0.2, 0.2, n)
    zoom = rng.uniform(0.88, 1.15, (2, n))
    shear = rng.uniform(-0.2, 0.2, n)
    shift = rng.uniform(-0.8, 0.8, (2, n))
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.array([[cosine, -sine], [sine, cosine + shear * sine]]) / zoom[:, None]
    middle = (size - 1) / 2
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij")).reshape(2, -1) - middle
    rows, columns = np.einsum("ijn,jp->inp", matrix, grid) + shift[:, :, None] + middle
    padded = np.pad(x[..., 0], ((0, 0), (2, 2), (2, 2)))
    rows, columns = np.clip(rows + 2, 0, size + 2.999), np.clip(columns + 2, 0, size + 2.999)
    top, left = rows.astype(np.int64), columns.astype(np.int64)
    down, right = rows - top, columns - left
    sample = np.arange(n)[:, None]
    value = (
        padded[sample, top, left] * (1 - down) * (1 - right)
        + padded[sample, top, left + 1] * (1 - down) * right
        + padded[sample, top + 1, left] * down * (1 - right)
        + padded[sample, top + 1, left + 1] * down * right
    )
    return value.reshape(x.shape).astype(np.float32)


def train(images: np.ndarray, labels: np.ndarray, *, epochs: int = EPOCHS, seed: int = SEED) -> Parameters:
    """Train with Adam, a cosine rate and augmented images; return the running mean of the weights.

    The same seed gives the same weights on the same machine and numpy build; another BLAS sums in another
    order, and the last bits, then the weights, differ.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, 1, 8, 8), values 0..16
    labels : ndarray of int, shape (N,)
    epochs : int
    seed : int

    Returns
    -------
    dict of ndarray, float32
    """
    rng = np.random.default_rng(seed)
    x = images.transpose(0, 2, 3, 1).astype(np.float32) / 16
    parameters = initial(rng)
    mean = {name: np.zeros_like(value) for name, value in parameters.items()}
    square = {name: np.zeros_like(value) for name, value in parameters.items()}
    average = {name: value.copy() for name, value in parameters.items()}
    per_epoch = len(x) // BATCH
    steps = epochs * per_epoch
    net = layers()
    for step in range(steps):
        if step % per_epoch == 0:
            order = rng.permutation(len(x))
        chosen = order[step % per_epoch * BATCH :][:BATCH]
        y = augment(x[chosen], rng)
        for layer in net:
            y = layer.forward(y, parameters)
        y = np.exp(y - y.max(1, keepdims=True))
        y /= y.sum(1, keepdims=True)
        y -= SMOOTH / 10  # gradient of the cross-entropy against smoothed labels
        y[np.arange(BATCH), labels[chosen]] -= 1 - SMOOTH
        y /= BATCH
        gradients: Parameters = {}
        for layer in reversed(net):
            y = layer.backward(y, parameters, gradients)
        rate = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
        bias1, bias2 = 1 - 0.9 ** (step + 1), 1 - 0.999 ** (step + 1)
        for name, value in parameters.items():
            gradient = gradients[name]
            mean[name] += 0.1 * (gradient - mean[name])
            square[name] += 0.001 * (gradient * gradient - square[name])
            update = (mean[name] / bias1) / (np.sqrt(square[name] / bias2) + 1e-8)
            if name.endswith("kernel"):
                update += DECAY * value
            value -= (rate * update).astype(np.float32)
            average[name] += np.float32(0.005) * (value - average[name])
    return average


def save(path: str | Path, parameters: Parameters) -> None:
    """Write the network as Keras 2 would: architecture as JSON, kernels by layer, channels last.

    Parameters
    ----------
    path : path-like
    parameters : dict
        As from `train`.
    """

    def layer(kind: str, name: str, **config: object) -> dict:
        return {"class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32"} | config}

    def conv(name: str) -> dict:
        height, width, _, filters = SHAPES[name]
        return layer(
            "Conv2D",
            name,
            filters=filters,
            kernel_size=[height, width],
            strides=[1, 1],
            padding="same",
            data_format="channels_last",
            dilation_rate=[1, 1],
            activation="relu",
            use_bias=True,
        )

    def pool(kind: str, name: str) -> dict:
        window = {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid", "data_format": "channels_last"}
        return layer(kind, name, **window)

    def dense(name: str, activation: str) -> dict:
        return layer("Dense", name, units=SHAPES[name][-1], activation=activation, use_bias=True)

    stack = [
        conv("conv1"),
        conv("conv2"),
        pool("AveragePooling2D", "pool1"),
        conv("conv3"),
        pool("MaxPooling2D", "pool2"),
        layer("Flatten", "flatten", data_format="channels_last"),
        dense("dense1", "relu"),
        dense("dense2", "softmax"),
    ]
    stack[0]["config"]["batch_input_shape"] = [None, 8, 8, 1]
    names = [each["config"]["name"] for each in stack]
    about = {"backend": "tensorflow", "keras_version": "2.2.4"}  # the version whose layout this is
    model = {"class_name": "Sequential", "config": {"name": "digits_cnn", "layers": stack}}
    attributes: dict[str, dict] = {
        "": about | {"model_config": json.dumps(model)},
        "model_weights": about | {"layer_names": names},
    }
    arrays = {}
    for name in names:
        weights = [f"{name}/kernel:0", f"{name}/bias:0"] if name in SHAPES else []
        attributes[f"model_weights/{name}"] = {"weight_names": weights}
        for weight in weights:
            arrays[f"model_weights/{name}/{weight}"] = parameters[weight.removesuffix(":0")]
    write_tree(path, arrays, attributes)


def main(arguments: list[str] | None = None) -> None:
    """Train, save, and print the accuracy on the images that were never trained on."""
    parser = argparse.ArgumentParser(prog="python -m intsnn.models.digits", description="Train the digits network.")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="HDF5 file to write")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(arguments)
    learn, test = datasets.load("digits:train"), datasets.load("digits:test")
    parameters = train(learn.images, np.asarray(learn.labels), epochs=options.epochs, seed=options.seed)
    for data in (learn, test):
        right = int((forward(data.images, parameters).argmax(1) == data.labels).sum())
        say(f"{data.name}: {right} of {len(data)} right, {100 * right / len(data):.2f} %")
    save(options.output, parameters)


if __name__ == "__main__":
    main()
