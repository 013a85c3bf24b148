"""The float network against loops written from the definition; whole numbers, so equality is exact."""

import itertools

import numpy as np
import pytest

from intsnn.errors import FormatError, ShapeError, UnsupportedError
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
from intsnn.network.floating import FloatNetwork, blocks, forward


def whole(rng, *shape):
    return rng.integers(-4, 5, shape).astype(np.float32)


def network(shape, *nodes, output=None):
    return FloatNetwork((FloatInput(name="in", shape=shape), *nodes), output or nodes[-1].name)


def conv_loops(x, weight, bias, stride, padding, dilation, groups):
    n, channels, height, width = x.shape
    out, per_group, kh, kw = weight.shape
    (top, bottom), (left, right) = padding
    rows = (height + top + bottom - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (width + left + right - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((n, out, rows, columns))
    for b, o, r, c in np.ndindex(y.shape):
        total = 0.0 if bias is None else float(bias[o])
        group = o // (out // groups)
        for k, i, j in itertools.product(range(per_group), range(kh), range(kw)):
            row, column = r * stride[0] - top + i * dilation[0], c * stride[1] - left + j * dilation[1]
            if 0 <= row < height and 0 <= column < width:
                total += float(x[b, group * per_group + k, row, column]) * float(weight[o, k, i, j])
        y[b, o, r, c] = total
    return y


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((0, 1), (2, 0))])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize(("channels", "out", "groups"), [(4, 6, 1), (4, 6, 2), (4, 8, 4)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 2)])
def test_conv(stride, padding, dilation, channels, out, groups, kernel):
    rng = np.random.default_rng(sum(stride) + 10 * groups)
    weight, bias, x = whole(rng, out, channels // groups, *kernel), whole(rng, out), whole(rng, 2, channels, 7, 6)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    net = network((channels, 7, 6), FloatConv2d(name="c", inputs=("in",), weight=weight, bias=bias, **options))
    expected = conv_loops(x, weight, bias, **options)
    assert net.shapes["c"] == expected.shape[1:]
    np.testing.assert_array_equal(forward(net, x), expected)


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 0), (0, 1))])
@pytest.mark.parametrize(("kernel", "stride"), [((2, 2), (2, 2)), ((3, 2), (1, 2))])
def test_pools(padding, kernel, stride):
    x = whole(np.random.default_rng(3), 2, 3, 6, 7) * 60  # divisible by every window size
    options = {"inputs": ("in",), "kernel": kernel, "stride": stride, "padding": padding}
    pools = {
        "max": FloatMaxPool2d(name="max", **options),
        "mean": FloatAvgPool2d(name="mean", **options),
        "all": FloatAvgPool2d(name="all", count_include_pad=True, **options),
    }
    values = forward(network((3, 6, 7), *pools.values()), x, record=pools)
    for b, c, i, j in np.ndindex(values["max"].shape):
        window = [
            x[b, c, row, column]
            for row in range(i * stride[0] - padding[0][0], i * stride[0] - padding[0][0] + kernel[0])
            for column in range(j * stride[1] - padding[1][0], j * stride[1] - padding[1][0] + kernel[1])
            if 0 <= row < 6 and 0 <= column < 7
        ]
        assert values["max"][b, c, i, j] == max(window)
        assert values["mean"][b, c, i, j] == sum(window) / len(window)
        assert values["all"][b, c, i, j] == sum(window) / (kernel[0] * kernel[1])


def test_vectors():
    rng = np.random.default_rng(4)
    weight, bias, x = whole(rng, 5, 12), whole(rng, 5), whole(rng, 3, 3, 2, 2)
    gamma, beta, mean, variance = whole(rng, 3), whole(rng, 3), whole(rng, 3), np.full(3, 4, np.float32)
    norm = FloatBatchNorm(name="bn", inputs=("in",), gamma=gamma, beta=beta, mean=mean, variance=variance, epsilon=0.0)
    nodes = (
        norm,
        FloatReLU(name="relu", inputs=("bn",), max_value=6.0),
        FloatAdd(name="add", inputs=("relu", "in", "relu")),
        FloatFlatten(name="flat", inputs=("add",)),
        FloatAffine(name="fc", inputs=("flat",), weight=weight, bias=bias),
        FloatSoftmax(name="p", inputs=("fc",)),
    )
    net = network((3, 2, 2), *nodes)
    values = forward(net, x, record=["bn", "add", "fc", "p"])
    expected = (x - mean[:, None, None]) / 2 * gamma[:, None, None] + beta[:, None, None]
    np.testing.assert_array_equal(values["bn"], expected)
    added = 2 * np.minimum(np.maximum(expected, 0), 6) + x
    np.testing.assert_array_equal(values["add"], added)
    np.testing.assert_array_equal(values["fc"], added.reshape(3, 12) @ weight.T + bias)
    assert (np.abs(values["p"].sum(axis=1) - 1) < 1e-6).all()
    np.testing.assert_array_equal(values["p"].argmax(1), values["fc"].argmax(1))
    assert [node.name for node in net.consumers("relu")] == ["add"]
    assert net["fc"] is nodes[4]


def test_batches_types_and_shapes_of_the_data():
    rng = np.random.default_rng(5)
    nodes = (
        FloatAffine(name="a", inputs=("in",), weight=whole(rng, 8, 784)),
        FloatReLU(name="r", inputs=("a",)),
        FloatAffine(name="b", inputs=("r",), weight=whole(rng, 3, 8)),
    )
    net = network((784,), *nodes)
    x = rng.integers(0, 4, (23, 1, 28, 28)).astype(np.float64)
    expected = np.maximum(x.reshape(23, 784) @ nodes[0].weight.T, 0) @ nodes[2].weight.T
    for batch in (None, 1, 7, 64):
        np.testing.assert_array_equal(forward(net, x, batch=batch), expected)
    assert forward(net, x).dtype == np.float32
    assert forward(net, x, dtype=np.float64).dtype == np.float64
    assert forward(net, x[:0]).shape == (0, 3)
    assert forward(net, x[:0], record=["a"])["a"].shape == (0, 8)
    sizes = [part["a"].shape[0] for part in blocks(net, x, record=["a"], batch=10)]
    assert sizes == [10, 10, 3]


def test_weights_are_read_only():
    node = FloatAffine(name="a", inputs=("in",), weight=np.ones((2, 2)))
    with pytest.raises(ValueError, match="read-only"):
        node.weight[0, 0] = 2


CONV = {"weight": np.ones((2, 3, 3, 3)), "inputs": ("in",)}


@pytest.mark.parametrize(
    "build",
    [
        lambda: network((3, 8, 8), FloatConv2d(name="L", **CONV, groups=3)),
        lambda: network((4, 8, 8), FloatConv2d(name="L", **CONV)),
        lambda: network((3, 2, 8), FloatConv2d(name="L", **CONV)),
        lambda: network((3, 8, 8), FloatConv2d(name="L", **CONV, bias=np.ones(3))),
        lambda: network((3, 8, 8), FloatConv2d(name="L", **CONV, stride=(0, 1))),
        lambda: network((3, 8, 8), FloatConv2d(name="L", **CONV, padding=((-1, 0), (0, 0)))),
        lambda: network((3,), FloatConv2d(name="L", **CONV)),
        lambda: network((3, 8, 8), FloatAffine(name="L", inputs=("in",), weight=np.ones((2, 192)))),
        lambda: network((7,), FloatAffine(name="L", inputs=("in",), weight=np.ones((2, 8)))),
        lambda: network((3, 8, 8), FloatMaxPool2d(name="L", inputs=("in",), kernel=(9, 9), stride=(1, 1))),
        lambda: network(
            (3, 8, 8),
            FloatMaxPool2d(name="L", inputs=("in",), kernel=(2, 2), stride=(1, 1), padding=((2, 0), (0, 0))),
        ),
        lambda: network((3,), FloatReLU(name="r", inputs=("in",)), FloatAdd(name="L", inputs=("in",))),
        lambda: network((3,), FloatReLU(name="L", inputs=("later",))),
        lambda: network((3,), FloatReLU(name="L", inputs=("in",)), FloatReLU(name="L", inputs=("in",))),
        lambda: network((3,), FloatReLU(name="r", inputs=("in",)), output="L"),
    ],
)
def test_shapes_that_do_not_fit(build):
    with pytest.raises(ShapeError, match="'L'"):
        build()


def test_other_errors():
    with pytest.raises(FormatError, match="finite floats"):
        FloatAffine(name="L", weight=np.array([[np.nan]]))
    with pytest.raises(FormatError, match="finite floats"):
        FloatAffine(name="L", weight=np.ones((1, 1), int))
    with pytest.raises(FormatError, match="max_value"):
        network((3,), FloatReLU(name="r", inputs=("in",), max_value=-1.0))
    with pytest.raises(UnsupportedError, match="2 inputs"):
        network((3,), FloatInput(name="in2", shape=(3,)))
    net = network((3,), FloatReLU(name="r", inputs=("in",)))
    with pytest.raises(ShapeError, match=r"\(2, 4\)"):
        forward(net, np.zeros((2, 4)))
    with pytest.raises(ShapeError, match="'ghost' is not a layer"):
        forward(net, np.zeros((2, 3)), record=["ghost"])
    with pytest.raises(ShapeError, match="batch"):
        forward(net, np.zeros((2, 3)), batch=0)
