"""The embedded network: what it reaches, that the file is a Keras file, and that its training repeats."""

import json

import numpy as np
import pytest

from intsnn.datasets import catalogue as datasets
from intsnn.files.hdf5 import read_tree
from intsnn.models import digits
from intsnn.models.keras import load as keras
from intsnn.network import floating as floatnet


def stored(path):
    """Parameters of a file, and the whole tree."""
    tree = read_tree(path)
    names = [f"{layer}/{part}" for layer in digits.SHAPES for part in ("kernel", "bias")]
    return {name: tree.datasets[f"model_weights/{name.split('/')[0]}/{name}:0"] for name in names}, tree


def test_embedded_network_reaches_its_accuracy():
    parameters, _ = stored(digits.network_file())
    for part, right in (("train", 1437), ("test", 356)):
        data = datasets.load(f"digits:{part}")
        assert int((digits.forward(data.images, parameters).argmax(1) == data.labels).sum()) == right


def test_file_is_laid_out_as_keras_does():
    parameters, tree = stored(digits.network_file())
    model = json.loads(tree.attributes[""]["model_config"])
    kinds = [layer["class_name"] for layer in model["config"]["layers"]]
    assert model["class_name"] == "Sequential"
    assert kinds == "Conv2D Conv2D AveragePooling2D Conv2D MaxPooling2D Flatten Dense Dense".split()
    names = [layer["config"]["name"] for layer in model["config"]["layers"]]
    assert list(tree.attributes["model_weights"]["layer_names"]) == names
    assert list(tree.attributes["model_weights/dense1"]["weight_names"]) == ["dense1/kernel:0", "dense1/bias:0"]
    for name, shape in digits.SHAPES.items():
        assert parameters[f"{name}/kernel"].shape == shape and parameters[f"{name}/kernel"].dtype == np.float32


def test_importer_reads_the_same_network():
    data = datasets.load("digits:test")
    network = keras.load(digits.network_file())
    outputs = floatnet.forward(network, data.images.astype(np.float32) / data.maximum)
    assert int((outputs.argmax(1) == data.labels).sum()) == 356


def test_training_learns_and_repeats(tmp_path):
    data = datasets.load("digits:train:320")
    first = digits.train(data.images, data.labels, epochs=12)
    again = digits.train(data.images, data.labels, epochs=12)
    other = digits.train(data.images, data.labels, epochs=12, seed=2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any((first[name] != other[name]).any() for name in first)
    before = digits.initial(np.random.default_rng(1))
    right = [(digits.forward(data.images, p).argmax(1) == data.labels).sum() for p in (before, first)]
    assert right[0] < 100 and right[1] > 200
    digits.save(tmp_path / "net.h5", first)
    parameters, _ = stored(tmp_path / "net.h5")
    assert all(np.array_equal(parameters[name], first[name]) for name in first)


@pytest.mark.parametrize("kind", ["mean", "max"])
def test_pools_share_the_gradient(kind):
    """The gradient that a pool hands back sums to the one it got: exact in powers of two."""
    rng = np.random.default_rng(0)
    pool = digits.Pool(kind)
    x = rng.permutation(2 * 4 * 6 * 3).reshape(2, 4, 6, 3).astype(np.float32)
    y = pool.forward(x, {})
    dy = rng.integers(-8, 8, y.shape).astype(np.float32)
    dx = pool.backward(dy, {}, {})
    assert np.array_equal(dx.reshape(2, 2, 2, 3, 2, 3).sum((2, 4)), dy)


def test_convolution_and_its_transpose_agree():
    """<patches(x), c> = <x, gather(c)> for whole numbers: the backward pass is the transpose of the forward pass."""
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, (2, 5, 4, 3)).astype(np.float64)
    columns = rng.integers(-9, 9, (2 * 5 * 4, 27)).astype(np.float64)
    assert (digits._patches(x) * columns).sum() == (x * digits._gather(columns, x.shape)).sum()
