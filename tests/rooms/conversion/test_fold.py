"""Folding keeps the function of a float network."""

import numpy as np
import pytest

from intsnn.conversion.fold import fold
from intsnn.errors import UnsupportedError
from intsnn.network.float_nodes import (
    FloatAdd,
    FloatAffine,
    FloatAvgPool2d,
    FloatBatchNorm,
    FloatConv2d,
    FloatFlatten,
    FloatInput,
    FloatMaxPool2d,
    FloatReLU,
    FloatSoftmax,
)
from intsnn.network.floating import FloatNetwork, forward


def norm(name, source, channels, rng):
    return FloatBatchNorm(
        name=name,
        inputs=(source,),
        gamma=rng.normal(size=channels),
        beta=rng.normal(size=channels),
        mean=rng.normal(size=channels),
        variance=rng.random(channels) + 0.1,
        epsilon=1e-3,
    )


def residual(rng):
    """conv-bn-pool-relu, a residual block with bn, relu behind the add, dense with softmax."""

    def conv(name, source, out, inp):
        return FloatConv2d(
            name=name, inputs=(source,), weight=rng.normal(size=(out, inp, 3, 3)), padding=((1, 1), (1, 1))
        )

    return FloatNetwork(
        (
            FloatInput(name="in", shape=(2, 8, 8)),
            conv("c1", "in", 4, 2),
            norm("b1", "c1", 4, rng),
            FloatMaxPool2d(name="p", inputs=("b1",), kernel=(2, 2), stride=(2, 2)),
            FloatReLU(name="r1", inputs=("p",)),
            conv("c2", "r1", 4, 4),
            norm("b2", "c2", 4, rng),
            FloatAdd(name="a", inputs=("b2", "r1")),
            FloatReLU(name="r2", inputs=("a",), max_value=6.0),
            norm("b3", "r2", 4, rng),  # follows no linear layer
            conv("c3", "b3", 3, 4),
            FloatReLU(name="r3", inputs=("c3",)),
            FloatReLU(name="r4", inputs=("r3",)),
            FloatAvgPool2d(name="g", inputs=("r4",), kernel=(4, 4), stride=(4, 4)),
            FloatFlatten(name="f", inputs=("g",)),
            norm("b4", "f", 3, rng),
            FloatAffine(name="d", inputs=("b4",), weight=rng.normal(size=(5, 3)), bias=rng.normal(size=5)),
            FloatSoftmax(name="s", inputs=("d",)),
        ),
        "s",
    )


@pytest.mark.parametrize("seed", range(5))
def test_same_classes_and_logits_without_norms(seed):
    rng = np.random.default_rng(seed)
    network = residual(rng)
    folded = fold(network)
    kinds = {type(node).__name__ for node in folded.nodes}
    assert "FloatBatchNorm" not in kinds and "FloatSoftmax" not in kinds
    assert [n.name for n in folded.nodes if isinstance(n, FloatReLU)] == ["r1", "r2", "r3"]
    x = rng.normal(size=(7, 2, 8, 8))
    before = forward(network, x, dtype=np.float64)
    logits = forward(folded, x, dtype=np.float64)
    after = np.exp(logits - logits.max(axis=1, keepdims=True))
    after /= after.sum(axis=1, keepdims=True)
    assert np.abs(before - after).max() < 1e-9


def test_relu_moves_before_the_pool():
    folded = fold(residual(np.random.default_rng(0)))
    assert folded["p"].inputs == ("r1",) and folded["r1"].inputs == ("c1",)


def pooled(*tail):
    rng = np.random.default_rng(0)
    head = (
        FloatInput(name="in", shape=(1, 6, 6)),
        FloatConv2d(name="c", inputs=("in",), weight=rng.normal(size=(2, 1, 3, 3))),
    )
    return FloatNetwork((*head, *tail), tail[-1].name)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (
            pooled(
                FloatSoftmax(name="s", inputs=("c",)),
                FloatConv2d(name="d", inputs=("s",), weight=np.ones((1, 2, 2, 2))),
            ),
            "'s': a softmax inside the network",
        ),
        (
            pooled(
                FloatReLU(name="r", inputs=("c",)),
                FloatAvgPool2d(name="g", inputs=("r",), kernel=(2, 2), stride=(2, 2), padding=((0, 1), (0, 1))),
            ),
            "'g': an average pool whose windows have different sizes",
        ),
    ],
)
def test_what_has_no_spiking_form_is_named(network, said):
    with pytest.raises(UnsupportedError, match=said):
        fold(network)
