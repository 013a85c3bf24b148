"""Every reason why a network does not convert, at once; a first layer that scales is part of the input scale."""

from fractions import Fraction

import numpy as np
import pytest

from intsnn.conversion import convert_float
from intsnn.conversion.fold import fold, obstacles, refusals, without_rescaling
from intsnn.datasets.catalogue import Dataset
from intsnn.errors import UnsupportedError
from intsnn.network import (
    FloatAdd,
    FloatAffine,
    FloatAvgPool2d,
    FloatBatchNorm,
    FloatConv2d,
    FloatFlatten,
    FloatInput,
    FloatLeakyReLU,
    FloatNetwork,
    FloatReLU,
    FloatSigmoid,
    FloatSoftmax,
    InputScale,
    forward,
)

RNG = np.random.default_rng(1)


def chain(*nodes):
    return FloatNetwork((FloatInput(name="in", shape=(1, 4, 4)), *nodes), nodes[-1].name)


def conv(name, source, channels=1):
    return FloatConv2d(name=name, inputs=(source,), weight=RNG.normal(size=(3, channels, 1, 1)))


def tail(source, size=48):
    return (
        FloatFlatten(name="f", inputs=(source,)),
        FloatAffine(name="o", inputs=("f",), weight=RNG.normal(size=(2, size))),
    )


def test_every_reason_is_listed():
    network = chain(
        conv("c", "in"), FloatSigmoid(name="s", inputs=("c",)), conv("d", "s", 3),
        FloatLeakyReLU(name="l", inputs=("d",)), FloatAdd(name="a", inputs=("l", "d")),
        FloatReLU(name="r", inputs=("a",)),
        FloatAvgPool2d(name="p", inputs=("r",), kernel=(2, 2), stride=(2, 2), padding=((1, 1), (1, 1))), *tail("p", 27),
    )  # fmt: skip
    found = refusals(network)
    assert [name for name, _ in found] == ["s", "l", "p"]
    assert all(words in reason for words, (_, reason) in zip(("sigmoid", "LeakyReLU", "windows"), found, strict=True))
    assert obstacles(network) == found
    with pytest.raises(UnsupportedError, match="layer 's': a sigmoid inside"):
        fold(network)


def test_what_no_layer_says():
    assert "no ReLU" in obstacles(chain(*tail("in", 16)))[0][1]
    assert "no convolution or dense" in obstacles(chain(FloatReLU(name="r", inputs=("in",))))[0][1]
    assert obstacles(chain(conv("c", "in"), FloatReLU(name="r", inputs=("c",)), *tail("r"))) == []


def norm(name, source, scale, shift, channels=1):
    each = np.full(channels, 1.0)
    return FloatBatchNorm(
        name=name, inputs=(source,), gamma=scale * each, beta=shift * each, mean=0 * each, variance=each, epsilon=0.0
    )


def test_a_first_scale_is_that_of_the_input():
    """x / 127.5 - 1, as preprocessing layers write it, of raw codes; on top of what the data are said to be worth."""
    network = chain(
        norm("half", "in", np.float32(1 / 127.5), 0.0), norm("shift", "half", 1.0, -1.0), conv("c", "shift"),
        FloatReLU(name="r", inputs=("c",)), *tail("r"), FloatSoftmax(name="sm", inputs=("o",)),
    )  # fmt: skip
    plain, scale = without_rescaling(network, None, InputScale())
    assert scale == InputScale(Fraction(2, 255), Fraction(-1)) and "half" not in plain.shapes
    assert without_rescaling(network, InputScale(Fraction(1, 2)), InputScale())[1].scale == Fraction(1, 255)
    raw = RNG.integers(0, 256, (40, 1, 4, 4))
    assert np.allclose(forward(network, raw), forward(plain, scale.apply(raw)), atol=1e-5)
    data = Dataset("mine", raw, RNG.integers(0, 2, 40), (), 255, "here")
    made = convert_float(network, data, weight_bits=8, activation_bits=6)
    assert made.quantised.input_scale == scale and made.stages[-1].accuracy is not None


def test_a_scale_of_each_channel_stays_a_layer():
    wide = FloatNetwork(
        (
            FloatInput(name="in", shape=(2, 4, 4)),
            FloatBatchNorm(
                name="n", inputs=("in",), gamma=np.array([1.0, 2.0]), beta=np.zeros(2), mean=np.zeros(2),
                variance=np.ones(2), epsilon=0.0,
            ), conv("c", "n", 2), FloatReLU(name="r", inputs=("c",)), *tail("r"),
        ),
        "o",
    )  # fmt: skip
    same, scale = without_rescaling(wide, None, InputScale(Fraction(1, 7)))
    assert same is wide and scale == InputScale(Fraction(1, 7))
