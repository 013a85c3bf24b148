"""Values that are moved, set side by side or spread before a convolution, against a plain definition of each."""

import numpy as np
import pytest

from intsnn.errors import IntsnnError
from intsnn.network import (
    FloatConcat,
    FloatHardTanh,
    FloatInput,
    FloatLeakyReLU,
    FloatNetwork,
    FloatSelect,
    FloatSigmoid,
    FloatSigns,
    forward,
)
from intsnn.network.composed import TransposedWindow, cropping, transposed_convolution, zero_padding


def run(shape, nodes, x):
    net = FloatNetwork((FloatInput(name="in", shape=shape), *nodes), nodes[-1].name)
    return forward(net, x, dtype=np.float64)


def scattered(x, weight, bias, stride, padding, extra, dilation, groups):
    """Each input value adds its kernel to the output: the definition of a transposed convolution."""
    n, channels, height, width = x.shape
    _, per_group, kh, kw = weight.shape
    rows = (height - 1) * stride[0] + dilation[0] * (kh - 1) + 1
    columns = (width - 1) * stride[1] + dilation[1] * (kw - 1) + 1
    out = np.zeros((n, per_group * groups, rows + extra[0], columns + extra[1]))
    for c in range(channels):
        group = c // (channels // groups)
        for o in range(per_group):
            for y in range(height):
                for z in range(width):
                    for i in range(kh):
                        for j in range(kw):
                            at = (y * stride[0] + i * dilation[0], z * stride[1] + j * dilation[1])
                            out[:, group * per_group + o, at[0], at[1]] += x[:, c, y, z] * weight[c, o, i, j]
    out = out + (0 if bias is None else bias[:, None, None])
    (top, bottom), (left, right) = padding
    return out[:, :, top : out.shape[2] - bottom, left : out.shape[3] - right]


@pytest.mark.parametrize("seed", range(40))
def test_transposed_convolution(seed):
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 1, 2]))
    channels, out = groups * int(rng.integers(1, 3)), int(rng.integers(1, 4))
    kernel, stride, dilation = (tuple(map(int, rng.integers(1, k, 2))) for k in (5, 4, 3))
    sizes = tuple(map(int, rng.integers(1, 6, 2)))
    extra = tuple(int(rng.integers(0, s)) for s in stride)
    full = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(sizes, stride, dilation, kernel, strict=True)]
    padding = tuple((int(rng.integers(0, (n + 1) // 2)), int(rng.integers(0, (n + 1) // 2))) for n in full)
    weight = rng.normal(size=(channels, out, *kernel))
    bias = rng.normal(size=out * groups) if seed % 2 else None
    x = rng.normal(size=(2, channels, *sizes))
    expected = scattered(x, weight, bias, stride, padding, extra, dilation, groups)
    nodes = transposed_convolution(
        "up", "in", (channels, *sizes), weight, bias=bias,
        window=TransposedWindow(stride, padding, extra, dilation, groups),
    )  # fmt: skip
    assert np.allclose(run((channels, *sizes), nodes, x), expected)


def test_cropped_and_padded():
    x = np.arange(2 * 3 * 4 * 5, dtype=float).reshape(2, 3, 4, 5)
    shape = (3, 4, 5)
    assert np.array_equal(run(shape, [cropping("c", "in", shape, ((1, 0), (2, 1)))], x), x[:, :, 1:, 2:4])
    wide = np.pad(x, ((0, 0), (0, 0), (0, 2), (1, 0)))
    assert np.array_equal(run(shape, [zero_padding("p", "in", shape, ((0, 2), (1, 0)))], x), wide)
    with pytest.raises(IntsnnError, match="leaves nothing"):
        cropping("c", "in", shape, ((2, 2), (0, 0)))


def test_selected():
    """Any order, a value twice, a zero: axes in another order are one of them."""
    x = np.arange(24, dtype=float).reshape(1, 2, 3, 4)
    turned = np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2)
    assert np.array_equal(
        run((2, 3, 4), [FloatSelect(name="s", inputs=("in",), places=turned)], x)[0], x[0][:].transpose(1, 0, 2)
    )
    picked = run((2, 3, 4), [FloatSelect(name="s", inputs=("in",), places=np.array([5, 5, -1]))], x)
    assert picked.tolist() == [[5, 5, 0]]
    for places, words in ((np.array([24]), "-1"), (np.array([-2]), "-1"), (np.zeros((2, 2), int), r"\(C, H, W\)")):
        with pytest.raises(IntsnnError, match=words):
            run((2, 3, 4), [FloatSelect(name="s", inputs=("in",), places=places)], x)


def test_signs():
    x = np.arange(1, 13, dtype=float).reshape(1, 3, 2, 2)
    turned = run((3, 2, 2), [FloatSigns(name="s", inputs=("in",), signs=np.array([1, -1, 1]))], x)
    assert np.array_equal(turned[0], x[0] * np.array([1, -1, 1]).reshape(3, 1, 1))
    for signs in (np.array([1, -1]), np.array([1, 0, 1]), np.ones((3, 1), int)):
        with pytest.raises(IntsnnError, match="signs"):
            run((3, 2, 2), [FloatSigns(name="s", inputs=("in",), signs=signs)], x)


def test_side_by_side():
    x = np.arange(12, dtype=float).reshape(1, 3, 2, 2)
    part = FloatSelect(name="part", inputs=("in",), places=np.arange(4).reshape(1, 2, 2))
    net = FloatNetwork(
        (FloatInput(name="in", shape=(3, 2, 2)), part, FloatConcat(name="both", inputs=("part", "in"))), "both"
    )
    assert net.shapes["both"] == (4, 2, 2)
    assert np.array_equal(forward(net, x), np.concatenate([x[:, :1], x], axis=1))
    small = FloatSelect(name="part", inputs=("in",), places=np.arange(2).reshape(1, 2, 1))
    with pytest.raises(IntsnnError, match="all but the channels"):
        FloatNetwork(
            (FloatInput(name="in", shape=(3, 2, 2)), small, FloatConcat(name="both", inputs=("part", "in"))), "both"
        )


def test_activations_of_two_sides():
    x = np.array([[-800.0, -2.0, -0.25, 0.0, 0.5, 3.0, 800.0]])
    shape = (7,)
    assert run(shape, [FloatHardTanh(name="h", inputs=("in",))], x).tolist() == [[-1, -1, -0.25, 0, 0.5, 1, 1]]
    assert run(shape, [FloatHardTanh(name="h", inputs=("in",), limit=None)], x).tolist() == x.tolist()
    leaky = run(shape, [FloatLeakyReLU(name="l", inputs=("in",), slope=0.5)], x)
    assert leaky.tolist() == [[-400, -1, -0.125, 0, 0.5, 3, 800]]
    with np.errstate(all="raise", under="ignore"):
        found = run(shape, [FloatSigmoid(name="s", inputs=("in",))], x)
    assert found[0, 0] == 0 and found[0, 3] == 0.5 and found[0, 6] == 1 and np.all(np.diff(found) > 0)
    for wrong in (0, -1, np.inf, "1"):
        with pytest.raises(IntsnnError):
            run(shape, [FloatHardTanh(name="h", inputs=("in",), limit=wrong)], x)
    for wrong in (-0.1, 1.5, None):
        with pytest.raises(IntsnnError):
            run(shape, [FloatLeakyReLU(name="l", inputs=("in",), slope=wrong)], x)
