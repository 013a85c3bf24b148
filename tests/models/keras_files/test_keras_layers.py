"""Each layer of Keras alone, against what Keras says that it computes; whole numbers, so equality is exact."""

import numpy as np
import pytest
from hostile import keras_file
from networks.keras import conv, depthwise, ours, rows, seen, transposed

from intsnn.errors import ImportRefused, ShapeError, UnsupportedError
from intsnn.models.keras.layers.table import BUILDERS, REASONS
from intsnn.models.keras.load import load
from intsnn.network.floating import forward

RNG = np.random.default_rng(4)


def whole(*shape):
    return RNG.integers(-3, 4, shape).astype(np.float32)


IMAGE, SIGNAL = whole(2, 6, 7, 2), whole(2, 11, 3)


def network(folder, x, layers, weights=None, flat=True, **options):
    """The network of `layers` behind an input of the shape of `x`, with a Flatten at its end."""
    found = [("InputLayer", {"name": "in", "batch_input_shape": [None, *x.shape[1:]]})]
    found += [(kind, {"name": f"l{k}"} | config) for k, (kind, config) in enumerate(layers)]
    found += [("Flatten", {"name": "end"})] if flat else []
    return load(keras_file(folder / "x.h5", found, weights or {}, **options), trust=True)


def check(folder, x, layers, expected, weights=None, data=None):
    net = network(folder, x, layers, weights)
    found = forward(net, ours(x) if data is None else data, dtype=np.float64)
    np.testing.assert_array_equal(found, expected.reshape(len(x), -1))
    return net


# --- signals


@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (3, 1), (1, 2)])
def test_conv1d(padding, stride, dilation, tmp_path):
    k, b = whole(4, 3, 5), whole(5)
    options = {"filters": 5, "kernel_size": [4], "strides": [stride], "padding": padding, "dilation_rate": [dilation]}
    y = conv(SIGNAL, k, stride, padding, dilation) + b
    net = check(tmp_path, SIGNAL, [("Conv1D", options)], y, {"l0": {"kernel": k, "bias": b}})
    assert net.input_shape == (3, 1, 11)
    assert net["l0"].weight.shape == (5, 3, 1, 4)


def test_grouped_conv1d(tmp_path):
    x, k = whole(2, 8, 4), whole(3, 2, 6)
    y = np.concatenate([conv(x[..., :2], k[..., :3]), conv(x[..., 2:], k[..., 3:])], axis=-1)
    options = {"filters": 6, "kernel_size": 3, "groups": 2, "use_bias": False}
    check(tmp_path, x, [("Conv1D", options)], y, {"l0": {"kernel": k}})


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_depthwise_and_separable_conv1d(padding, tmp_path):
    d, p, b, e = whole(3, 3, 2), whole(1, 6, 4), whole(4), whole(2, 4, 2)
    layers = [
        ("SeparableConv1D", {"filters": 4, "kernel_size": 3, "depth_multiplier": 2, "padding": padding, "strides": 2}),
        ("DepthwiseConv1D", {"kernel_size": 2, "depth_multiplier": 2, "use_bias": False, "padding": padding}),
    ]  # fmt: skip
    y = depthwise(conv(depthwise(SIGNAL, d, 2, padding), p) + b, e, 1, padding)
    weights = {"l0": {"depthwise_kernel": d, "pointwise_kernel": p, "bias": b}, "l1": {"depthwise_kernel": e}}
    check(tmp_path, SIGNAL, layers, y, weights)


@pytest.mark.parametrize("kind", ["MaxPooling1D", "AveragePooling1D"])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_pools_of_signals(kind, padding, tmp_path):
    x = SIGNAL * 12
    view = seen(rows(x), (1, 4), (1, 3), padding, fill=np.nan)
    y = (np.nanmax if "Max" in kind else np.nanmean)(view, axis=(3, 4))
    check(tmp_path, x, [(kind, {"pool_size": [4], "strides": [3], "padding": padding})], y)


def test_a_pool_of_signals_steps_by_its_size(tmp_path):
    y = seen(rows(SIGNAL), (1, 2), (1, 2), "valid").max(axis=(3, 4))
    check(tmp_path, SIGNAL, [("MaxPooling1D", {"pool_size": 2})], y)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("kind", ["GlobalMaxPooling", "GlobalAveragePooling"])
@pytest.mark.parametrize("axes", [1, 2])
def test_global_pools(kind, axes, keep, tmp_path):
    x = (SIGNAL * 11 if axes == 1 else IMAGE * 42).astype(np.float64)
    y = (np.max if "Max" in kind else np.mean)(x, axis=tuple(range(1, axes + 1)))
    net = network(tmp_path, x, [(f"{kind}{axes}D", {"keepdims": keep})], flat=False)
    np.testing.assert_array_equal(forward(net, ours(x), dtype=np.float64), y)
    assert net.shapes["l0"] == ((x.shape[-1], 1, 1) if keep else (x.shape[-1],))


def test_borders_of_signals(tmp_path):
    layers = [
        ("ZeroPadding1D", {"padding": [2, 1]}),
        ("UpSampling1D", {"size": 3}),
        ("Cropping1D", {"cropping": [4, 5]}),
        ("ZeroPadding1D", {"padding": 1}),
        ("Conv1D", {"filters": 2, "kernel_size": [3], "use_bias": False}),
    ]
    k = whole(3, 3, 2)
    y = np.pad(SIGNAL, ((0, 0), (2, 1), (0, 0))).repeat(3, axis=1)[:, 4:-5]
    check(tmp_path, SIGNAL, layers, conv(np.pad(y, ((0, 0), (1, 1), (0, 0))), k), {"l4": {"kernel": k}})


def test_dense_and_norm_over_the_channels_of_signals(tmp_path):
    k, gamma, beta = whole(3, 4), whole(4), whole(4)
    norm = {"gamma": gamma, "beta": beta, "moving_mean": np.zeros(4, "f4"), "moving_variance": np.full(4, 3.5, "f4")}
    layers = [("Dense", {"units": 4, "use_bias": False}), ("BatchNormalization", {"axis": [2], "epsilon": 0.5})]
    net = check(tmp_path, SIGNAL, layers, SIGNAL @ k / 2 * gamma + beta, {"l0": {"kernel": k}, "l1": norm})
    assert net.input_shape == (3, 1, 11)


def test_channels_first_signals(tmp_path):
    """Flatten of channels_first goes through channels last."""
    x, k = whole(2, 3, 11), whole(4, 3, 5)
    first = {"data_format": "channels_first"}
    layers = [("Conv1D", first | {"filters": 5, "kernel_size": [4], "use_bias": False})]
    found = [("InputLayer", {"name": "in", "batch_input_shape": [None, 3, 11]})]
    found += [("Conv1D", {"name": "l0"} | layers[0][1]), ("Flatten", {"name": "end"} | first)]
    net = load(keras_file(tmp_path / "x.h5", found, {"l0": {"kernel": k}}), trust=True)
    y = conv(x.transpose(0, 2, 1), k).reshape(2, -1)
    np.testing.assert_array_equal(forward(net, x, dtype=np.float64), y)


# --- transposed convolutions


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("stride, more", [(1, None), (2, None), (3, None), (2, 0), (2, 1), (3, 1)])
def test_conv2d_transpose(padding, kernel, stride, more, tmp_path):
    if padding == "same" and more == 0 and kernel % 2 == 0:
        kernel += 4  # TensorFlow runs no such network: the result would be of another size
        more = 1
    x, k, b = whole(2, 4, 3, 2), whole(kernel, kernel, 3, 2), whole(3)
    options = {"filters": 3, "kernel_size": [kernel] * 2, "strides": [stride] * 2, "padding": padding}
    if more is not None:
        options["output_padding"] = [more] * 2
    y = transposed(x, k, stride, padding, more) + b
    check(tmp_path, x, [("Conv2DTranspose", options)], y, {"l0": {"kernel": k, "bias": b}})


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_conv1d_transpose(padding, tmp_path):
    k = whole(3, 4, 3)
    options = {"filters": 4, "kernel_size": [3], "strides": [2], "padding": padding, "use_bias": False}
    y = transposed(SIGNAL[:, :, None], k[:, None], 2, padding)[:, :, :1]  # the columns beside it are the stride's
    check(
        tmp_path,
        SIGNAL,
        [("Conv1DTranspose", options | {"activation": "relu"})],
        np.maximum(y, 0),
        {"l0": {"kernel": k}},
    )


def test_dilated_conv2d_transpose(tmp_path):
    x, k = whole(2, 4, 3, 2), whole(2, 2, 3, 2)
    wide = np.zeros((3, 3, 3, 2), np.float32)
    wide[::2, ::2] = k
    options = {"filters": 3, "kernel_size": [2, 2], "dilation_rate": [2, 2], "use_bias": False}
    check(tmp_path, x, [("Conv2DTranspose", options)], transposed(x, wide, 1, "valid"), {"l0": {"kernel": k}})


# --- images


def test_borders_of_images(tmp_path):
    layers = [("UpSampling2D", {"size": [2, 3]}), ("Cropping2D", {"cropping": [[1, 2], [0, 4]]}), ("Identity", {})]
    check(tmp_path, IMAGE, layers, IMAGE.repeat(2, axis=1).repeat(3, axis=2)[:, 1:-2, :-4])


@pytest.mark.parametrize("dims", [[1, 2, 3], [2, 1, 3], [3, 1, 2], [1, 3, 2], [3, 2, 1]])
def test_permute(dims, tmp_path):
    y = IMAGE.transpose(0, *dims)
    k = whole(2, 2, y.shape[-1], 2)
    options = {"filters": 2, "kernel_size": [2, 2], "use_bias": False}
    check(tmp_path, IMAGE, [("Permute", {"dims": dims})], y)
    check(tmp_path, IMAGE, [("Permute", {"dims": dims}), ("Conv2D", options)], conv(y, k), {"l1": {"kernel": k}})


def test_channels_are_shuffled_by_relabelling(tmp_path):
    x = whole(2, 4, 4, 6)
    layers = [("Reshape", {"target_shape": [4, 4, 2, 3]}), ("Permute", {"dims": [1, 2, 4, 3]})]
    layers += [("Reshape", {"target_shape": [4, 4, 6]}), ("ReLU", {}), ("MaxPooling2D", {"pool_size": [2, 2]})]
    y = np.maximum(x.reshape(2, 4, 4, 2, 3).transpose(0, 1, 2, 4, 3).reshape(2, 4, 4, 6), 0)
    y = seen(y, (2, 2), (2, 2), "valid").max(axis=(3, 4))
    net = check(tmp_path, x, layers, y)
    assert [type(node).__name__ for node in net.nodes].count("FloatSelect") == 2  # the shuffle, the order of the end


def test_reshapes_that_mix_axes(tmp_path):
    k = whole(2, 14, 3)
    layers = [
        ("Reshape", {"target_shape": [-1, 14]}),
        ("Conv1D", {"filters": 3, "kernel_size": [2], "use_bias": False}),
    ]
    check(tmp_path, IMAGE, layers, conv(IMAGE.reshape(2, 6, 14), k), {"l1": {"kernel": k}})


def test_the_head_of_mobilenet(tmp_path):
    """A pooled vector becomes a map of one position and a vector again; nothing is moved."""
    k = whole(1, 1, 2, 5)
    layers = [
        ("GlobalAveragePooling2D", {}),
        ("Reshape", {"target_shape": [1, 1, 2]}),
        ("Dropout", {"rate": 0.5}),
        ("Conv2D", {"filters": 5, "kernel_size": [1, 1], "use_bias": False}),
        ("Reshape", {"target_shape": [5]}),
        ("Activation", {"activation": "softmax"}),
    ]
    x = IMAGE * 42
    net = network(tmp_path, x, layers, {"l3": {"kernel": k}})
    found = forward(net, ours(x), record=["l4"], dtype=np.float64)["l4"]
    np.testing.assert_array_equal(found, x.astype(np.float64).mean(axis=(1, 2)) @ k[0, 0])
    kinds = [type(node).__name__ for node in net.nodes]
    assert kinds == ["FloatInput", "FloatAvgPool2d", "FloatFlatten", "FloatConv2d", "FloatFlatten", "FloatSoftmax"]


# --- activations


@pytest.mark.parametrize(
    "kind, config, slope",
    [
        ("LeakyReLU", {"alpha": 0.25}, 0.25),
        ("LeakyReLU", {"negative_slope": 0.5}, 0.5),
        ("LeakyReLU", {}, 0.3),
        ("LeakyReLU", {"negative_slope": 0.0}, 0),
        ("ReLU", {"negative_slope": 0.125}, 0.125),
        ("Activation", {"activation": "leaky_relu"}, 0.2),
        ("Activation", {"activation": {"class_name": "LeakyReLU", "config": {"negative_slope": 0.75}}}, 0.75),
    ],
)
def test_slopes(kind, config, slope, tmp_path):
    check(tmp_path, IMAGE, [(kind, config)], np.where(IMAGE > 0, IMAGE, IMAGE * np.float64(slope)))


@pytest.mark.parametrize("activation", ["leaky_relu", "hard_tanh"])
def test_zeros_win_over_what_a_two_sided_activation_lets_through(activation, tmp_path):
    layers = [("Activation", {"activation": activation}), ("ZeroPadding2D", {"padding": 1})]
    layers.append(("MaxPooling2D", {"pool_size": [2, 2], "strides": [1, 1]}))
    x = -1 - np.abs(IMAGE)
    y = np.maximum(x * 0.2, -9) if activation == "leaky_relu" else np.clip(x, -1, 1)
    y = seen(np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0))), (2, 2), (1, 1), "valid").max(axis=(3, 4))
    net = network(tmp_path, x, layers)
    assert np.abs(forward(net, ours(x), dtype=np.float64) - y.reshape(2, -1)).max() < 1e-6


def test_other_activations(tmp_path):
    check(tmp_path, IMAGE, [("Activation", {"activation": "hard_tanh"})], np.clip(IMAGE, -1, 1))
    limited = {"class_name": "ReLU", "config": {"max_value": 2.0}}
    k = whole(2, 3)
    x = whole(4, 2)
    dense = [("Dense", {"units": 3, "use_bias": False, "activation": limited})]
    check(tmp_path, x, dense, np.clip(x @ k, 0, 2), {"l0": {"kernel": k}})


def test_sigmoid_at_the_end(tmp_path):
    x, k = whole(5, 4), whole(4, 1)
    net = network(
        tmp_path, x, [("Dense", {"units": 1, "use_bias": False, "activation": "sigmoid"})], {"l0": {"kernel": k}}
    )
    assert ((forward(net, x) > 0.5) == (x @ k > 0)).all()
    with pytest.raises(UnsupportedError, match="'l0' .Activation l0.: softmax and sigmoid are only taken at the end"):
        network(tmp_path, x, [("Activation", {"activation": "sigmoid"}), ("ReLU", {})])


def test_softmax_over_every_pixel(tmp_path):
    net = network(tmp_path, IMAGE, [("Softmax", {"axis": 3})], flat=False)
    assert net.shapes[net.output] == (2, 6, 7)
    np.testing.assert_allclose(forward(net, ours(IMAGE)).sum(axis=1), 1, rtol=1e-6)
    with pytest.raises(UnsupportedError, match="the axis of the channels is taken"):
        network(tmp_path, IMAGE, [("Softmax", {"axis": 1})])


# --- constants


@pytest.mark.parametrize("scale, offset", [(0.5, -1.0), ([0.5, 4.0], [1.0, -2.0]), ([2.0, -0.25], 0.0), (1.0, 0.0)])
def test_rescaling(scale, offset, tmp_path):
    check(tmp_path, IMAGE, [("Rescaling", {"scale": scale, "offset": offset})], IMAGE * np.array(scale) + offset)


def test_rescaling_of_a_flat_image(tmp_path):
    scale = [float(n) for n in range(84)]
    net = check(tmp_path, IMAGE, [("Flatten", {}), ("Rescaling", {"scale": scale})], IMAGE.reshape(2, -1) * scale)
    assert net["l1"].gamma.shape == (84,)


@pytest.mark.parametrize("where", ["weights", "options", "scalar"])
def test_normalization(where, tmp_path):
    mean, variance = np.array([1, -2], "f4"), np.array([4, 0.25], "f4")
    options, weights = {"axis": [-1]}, {}
    if where == "weights":
        weights = {"l0": {"mean": mean, "variance": variance, "count": np.int64(5)}}
    elif where == "options":
        options |= {"mean": mean.tolist(), "variance": [variance.tolist()]}
    else:
        mean, variance, options = 3, 16, {"axis": None, "mean": 3, "variance": 16.0}
    check(tmp_path, IMAGE, [("Normalization", options)], (IMAGE - mean) / np.sqrt(variance), weights)


def test_normalization_of_nothing_that_varies(tmp_path):
    """Keras divides by at least 1e-7."""
    options = {"axis": None, "mean": 0.0, "variance": 0.0}
    net = network(tmp_path, IMAGE, [("Normalization", options)])
    assert net["l0"].gamma[0] == np.float32(1e7)


# --- what is refused, each with a reason of its own


@pytest.mark.parametrize("kind", sorted(REASONS))
def test_reasons(kind, tmp_path):
    assert kind not in BUILDERS
    with pytest.raises(UnsupportedError) as caught:
        network(tmp_path, IMAGE, [(kind, {})])
    assert f"layer 'l0' ({kind}): is not supported: {REASONS[kind]}" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["hard_swish", "hard_silu", "hard_sigmoid", "swish", "silu", "elu", "gelu", "selu", "softplus", "softsign",
             "tanh", "mish", "exponential", "log_softmax", "mine>relu"],
)  # fmt: skip
def test_activations_that_have_no_counterpart(name, tmp_path):
    with pytest.raises(UnsupportedError, match=f"layer 'l0' .*activation '{name}' has no .*: .* \\(relu, relu6"):
        network(tmp_path, IMAGE, [("Activation", {"activation": name})])


@pytest.mark.parametrize(
    "kind, config, error, words",
    [
        ("UpSampling2D", {"interpolation": "bilinear"}, UnsupportedError, "'nearest' is taken"),
        ("Cropping2D", {"cropping": [[3, 3], [0, 0]]}, ShapeError, "leaves nothing"),
        ("Cropping1D", {"cropping": [1, 1]}, ShapeError, "a signal with channels"),
        ("Conv1D", {"filters": 2, "kernel_size": [3]}, ShapeError, "a signal with channels"),
        (
            "Conv2DTranspose",
            {"filters": 2, "kernel_size": [3, 3], "output_padding": [1, 1]},
            ImportRefused,
            "the stride",
        ),
        ("Rescaling", {"scale": "much"}, ImportRefused, "finite numbers"),
        ("Rescaling", {"scale": [1.0, 2.0, 3.0]}, ImportRefused, "does not fit"),
        ("Rescaling", {"scale": [[[1.0]], *[[[2.0]]] * 5]}, UnsupportedError, "from position to position"),
        ("Rescaling", {"scale": [[1.0], [1.0, 2.0]]}, ImportRefused, "finite numbers"),
        ("Normalization", {"mean": 1.0, "variance": -1.0}, ImportRefused, "variance at least 0"),
        ("Permute", {"dims": [0, 1, 2]}, ImportRefused, "in another order"),
        ("Activation", {"activation": {"class_name": "ELU", "config": {}}}, UnsupportedError, "LeakyReLU and Softmax"),
        ("Conv2D", {"filters": 2, "kernel_size": [3, 3], "padding": "causal"}, UnsupportedError, "'causal'"),
    ],
)
def test_options_that_cannot_be(kind, config, error, words, tmp_path):
    weights = {"l0": {"kernel": whole(3, 3, 2, 2), "bias": whole(2)}} if kind.startswith("Conv2D") else {}
    with pytest.raises(error, match=f"layer 'l0' .{kind}.*{words}"):
        network(tmp_path, IMAGE, [(kind, config)], weights)
