"""Architectures to train: sizes as published, any width and input, errors that name the layer. No torch needed."""

import pytest

from intsnn.errors import DataNotFoundError, FormatError, ShapeError
from intsnn.models.training.architectures import BLUEPRINTS, blueprint
from intsnn.models.training.blueprint import (
    Add,
    Blueprint,
    Chain,
    Conv,
    ConvTranspose,
    Dense,
    Flatten,
    MaxPool,
    Relu,
    Upsample,
)


@pytest.mark.parametrize(
    "name, weights",
    [
        ("lenet", 25 * 32 + 25 * 32 * 64 + 1024 * 256 + 2560),
        # 36.891392 MB in FP32 is printed for VGG-11 with this head
        ("vgg11", 36891392 // 4),
        ("vgg16", 14710464 + 5120),
        ("resnet18", 27 * 64 + 4 * 36864 + (73728 + 147456) + 2 * 147456 + 8192 + (294912 + 589824) + 2 * 589824
         + 32768 + (1179648 + 2359296) + 2 * 2359296 + 131072 + 5120),
        ("resnet20", 432 + 6 * 2304 + 4608 + 5 * 9216 + 512 + 18432 + 5 * 36864 + 2048 + 640),
    ],
)  # fmt: skip
def test_weights_are_as_many_as_published(name, weights):
    assert sum(blueprint(name).weights().values()) == weights


def test_resnet20_and_vgg16_have_their_depth():
    layers = blueprint("resnet20").weighted
    assert sum(not layer.name.endswith("s") or layer.name == "classes" for layer in layers) == 20
    assert len(blueprint("vgg16").weighted) == 14  # 13 convolutions and one dense layer of the three
    assert len([layer for layer in blueprint("resnet18").layers if isinstance(layer, Add)]) == 8


@pytest.mark.parametrize("name", list(BLUEPRINTS))
@pytest.mark.parametrize("shape, width", [((1, 28, 28), 0.25), ((3, 32, 32), 0.125), ((2, 34, 34), 0.1)])
def test_every_architecture_takes_other_widths_and_sizes(name, shape, width):
    if name == "hourglass" and shape[1] % 4:
        shape = (2, 36, 32)
    found = blueprint(name, input_shape=shape, classes=7, width=width)
    assert found.shapes["input"] == shape and found.shapes[found.output][0] == 7
    assert found.shapes[found.output][1:] == (shape[1:] if name == "hourglass" else ())
    assert sum(found.weights().values()) < sum(blueprint(name, input_shape=shape).weights().values())
    assert blueprint(name, input_shape=shape, width=2.0).weighted[0].outputs == 2 * blueprint(name).weighted[0].outputs


def test_what_does_not_fit_is_named():
    with pytest.raises(ShapeError, match="'conv2'.*does not fit"):
        blueprint("lenet", input_shape=(1, 8, 8))
    with pytest.raises(FormatError, match="positive"):
        blueprint("lenet", width=0)
    with pytest.raises(DataNotFoundError, match="no architecture 'lenet5'.*lenet, vgg11"):
        blueprint("lenet5")
    with pytest.raises(ShapeError, match="'dense'.*needs a vector"):
        Blueprint("x", (1, 4, 4), (Dense(name="dense", inputs=("input",), outputs=3),))
    with pytest.raises(FormatError, match="two layers are called 'a'"):
        Blueprint("x", (4,), (Relu(name="a", inputs=("input",)), Relu(name="a", inputs=("a",))))
    with pytest.raises(FormatError, match="reads .'b'., not an earlier layer"):
        Blueprint("x", (4,), (Relu(name="a", inputs=("b",)),))
    with pytest.raises(FormatError, match="has no layers"):
        Blueprint("x", (4,), ())
    with pytest.raises(ShapeError, match="4 n x 4 m"):
        blueprint("hourglass", input_shape=(1, 26, 24))
    with pytest.raises(ShapeError, match="'up'.*enlarges images"):
        Blueprint("x", (4,), (Upsample(name="up", inputs=("input",)),))
    with pytest.raises(ShapeError, match="'grow'.*padding below the kernel"):
        Blueprint("x", (1, 4, 4), (ConvTranspose(name="grow", inputs=("input",), outputs=3, kernel=2, padding=2),))
    with pytest.raises(FormatError, match="'a': a Relu has no weights"):
        Relu(name="a", inputs=("input",)).weight_shape(3)
    with pytest.raises(ShapeError, match="'grow': nothing is left"):
        Blueprint("x", (1, 1, 1), (ConvTranspose(name="grow", inputs=("input",), outputs=3, kernel=2, padding=1),))
    conv = Conv(name="conv", inputs=("input",), outputs=3, kernel=1)
    with pytest.raises(ShapeError, match="'sum'.*one shape"):
        Blueprint("x", (1, 4, 4), (conv, Add(name="sum", inputs=("conv", "input"))))
    with pytest.raises(ShapeError, match="groups"):
        Blueprint("x", (3, 4, 4), (Conv(name="conv", inputs=("input",), outputs=4, kernel=1, groups=2),))


def test_a_chain_reads_what_came_before():
    chain = Chain()
    chain.add(Conv, "conv", outputs=4, kernel=3, stride=2, padding=1)
    chain.add(MaxPool, "pool", kernel=3, stride=2, padding=1)
    chain.add(Flatten, "flat")
    chain.add(Dense, "out", outputs=2)
    made = Blueprint("x", (1, 9, 7), tuple(chain.layers))
    assert made.shapes == {
        "input": (1, 9, 7), "conv": (4, 5, 4), "pool": (4, 3, 2), "flat": (24,), "out": (2,),
    }  # fmt: skip
    assert [layer.name for layer in made.readers("conv")] == ["pool"]
