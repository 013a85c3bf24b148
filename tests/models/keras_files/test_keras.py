"""Keras files of every age against an evaluator that works in Keras' own axes; whole numbers, so equality is exact."""

import json
import zipfile

import h5py
import hostile
import numpy as np
import pytest
from hostile import keras_file, sequential

from intsnn.errors import DataNotFoundError, ImportRefused, ShapeError, UnsupportedError
from intsnn.models.keras import files as keras_files
from intsnn.models.keras import weights as keras_weights
from intsnn.models.keras.load import load
from intsnn.network.float_nodes import FloatConv2d
from intsnn.network.floating import forward

RNG = np.random.default_rng(9)


def whole(*shape):
    return RNG.integers(-3, 4, shape).astype(np.float32)


# --- what Keras computes, channels last, from the definition of each layer


def windows(x, kernel, stride, padding, fill):
    """(N, H, W, C) -> (N, rows, columns, kh, kw, C), padded as TensorFlow does."""
    if padding == "same":
        pads = []
        for n, k, s in zip(x.shape[1:3], kernel, stride, strict=True):
            total = max((-(-n // s) - 1) * s + k - n, 0)
            pads.append((total // 2, total - total // 2))
        x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(1, 2))[:, :: stride[0], :: stride[1]]
    return view.transpose(0, 1, 2, 4, 5, 3)


def conv(x, kernel, bias=0, stride=(1, 1), padding="valid"):
    return np.einsum("nrcijk,ijko->nrco", windows(x, kernel.shape[:2], stride, padding, 0), kernel) + bias


def depthwise(x, kernel, stride=(1, 1), padding="valid"):
    y = np.einsum("nrcijk,ijkm->nrckm", windows(x, kernel.shape[:2], stride, padding, 0), kernel)
    return y.reshape(*y.shape[:3], -1)


def pool(x, kernel, stride, padding, mean):
    view = windows(x, kernel, stride, padding, np.nan)
    return (np.nanmean if mean else np.nanmax)(view, axis=(3, 4))


def relu(x, limit=np.inf):
    return np.clip(x, 0, limit)


def check(path, x, expected, **options):
    """Import, run on channels-first data, compare with what Keras gives on its own."""
    net = load(path, trust=True, **options)
    data = x.transpose(0, 3, 1, 2) if x.ndim == 4 else x
    np.testing.assert_array_equal(forward(net, data, dtype=np.float64), expected)
    return net


def conv_config(name, filters, kernel, **options):
    return (
        "Conv2D",
        {"name": name, "filters": filters, "kernel_size": kernel, "data_format": "channels_last"} | options,
    )


def dense_config(name, units, **options):
    return ("Dense", {"name": name, "units": units} | options)


FLAT = ("Flatten", {"name": "flat", "data_format": "channels_last"})


# --- ages of the format


def lenet(flat=True):
    """Layers, weights and the answer on given data, with channels last."""
    k1, b1, k2, b2 = whole(3, 2, 2, 5), whole(5), whole(60, 4), whole(4)
    layers = [
        conv_config(
            "c", 5, [3, 2], batch_input_shape=[None, 8, 9, 2], strides=[2, 2], padding="same", activation="relu"
        ),
        (
            "MaxPooling2D",
            {"name": "p", "pool_size": [2, 2], "strides": [2, 2], "padding": "same", "data_format": "channels_last"},
        ),
        ("Dropout", {"name": "d", "rate": 0.5}),
        FLAT,
        dense_config("out", 4),
    ]
    layers[-1][1]["units"] = 4
    weights = {"c": {"kernel": k1, "bias": b1}, "p": {}, "d": {}, "flat": {}}
    x = whole(3, 8, 9, 2)
    y = pool(relu(conv(x, k1, b1, (2, 2), "same")), (2, 2), (2, 2), "same", False)
    k2 = whole(y[0].size, 4)
    weights["out"] = {"kernel": k2, "bias": b2}
    return layers, weights, x, y.reshape(3, -1) @ k2 + b2


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    "storage",
    [{}, {"chunks": True}, {"chunks": True, "compression": "gzip", "shuffle": True}, {"compression": "lzf"}],
    ids=["contiguous", "chunked", "gzip", "lzf"],
)
def test_keras_2(storage, trust, tmp_path):
    layers, weights, x, expected = lenet()
    path = keras_file(tmp_path / "x.h5", layers, weights, **storage)
    net = check(path, x, expected)
    if not trust:
        other = load(path)
        np.testing.assert_array_equal(forward(other, x.transpose(0, 3, 1, 2)), expected)
    assert net.metadata["keras_version"] == "2.4.0"
    assert net.metadata["backend"] == "tensorflow"
    assert len(net.metadata["source_sha256"]) == 64
    report = {(t["layer"], t["role"]): t for t in net.metadata["tensors"]}
    kernel = report["out", "kernel"]
    assert kernel["path"] == "model_weights/out/out/kernel:0"
    assert kernel["permutation"] == "rows H,W,C->C,H,W, (in, out)->(out, in)"
    assert (kernel["shape"], kernel["dtype"]) == (weights["out"]["kernel"].shape, "float32")
    assert (kernel["min"], kernel["max"]) == (weights["out"]["kernel"].min(), weights["out"]["kernel"].max())
    assert report["c", "kernel"]["permutation"] == "HWIO->OIHW"


@pytest.mark.parametrize("split", [1, 2, 3])
def test_split_attributes(split, tmp_path):
    layers, weights, x, expected = lenet()
    check(keras_file(tmp_path / "x.h5", layers, weights, split=split), x, expected)


def test_keras_2_0_lists_layers_without_a_name(tmp_path):
    layers, weights, x, expected = lenet()
    model = sequential(layers)
    model["config"] = model["config"]["layers"]
    check(keras_file(tmp_path / "x.h5", None, weights, model=model, inner="{layer}/{name}"), x, expected)


def test_keras_3_h5(tmp_path):
    layers, weights, x, expected = lenet()
    first = layers[0][1]
    layers.insert(0, ("InputLayer", {"name": "in", "batch_shape": first.pop("batch_input_shape")}))
    first["activation"] = {"module": "builtins", "class_name": "function", "config": "relu", "registered_name": None}
    weights = {"in": {}, **weights}
    path = keras_file(tmp_path / "x.h5", layers, weights, version="3.4.1", inner="tiny/{layer}/{name}")
    check(path, x, expected)


@pytest.mark.parametrize("beside", [True, False])
def test_weights_only(beside, tmp_path):
    layers, weights, x, expected = lenet()
    path = keras_file(tmp_path / "x.h5", layers, weights, full=False)
    architecture = tmp_path / ("x.json" if beside else "other.json")
    architecture.write_text(json.dumps(sequential(layers)))
    check(path, x, expected, architecture=None if beside else architecture)
    with pytest.raises(DataNotFoundError, match=r"absent\.json"):
        load(path, architecture=tmp_path / "absent.json", trust=True)
    architecture.write_text("{}" + " " * (1 << 20))
    with pytest.raises(ImportRefused) as caught:
        load(path, architecture=architecture, trust=True)
    assert caught.value.code == "json-size"


def archive(path, layers, weights, named):
    """Write a .keras archive: groups are named by class and counter, arrays by number."""
    inner, counts = path.with_suffix(".tmp"), {}
    with h5py.File(inner, "w") as file:
        for kind, config in layers:
            base = keras_weights.snake(kind)
            count = counts[base] = counts.get(base, -1) + 1
            group = file.create_group(f"layers/{base}_{count}" if count else f"layers/{base}")
            group = group.create_group("vars")
            if named:
                group.attrs["name"] = config["name"]
            for k, array in enumerate(weights.get(config["name"], {}).values()):
                group[str(k)] = array
        file["optimizer/vars/0"] = np.int64(3)
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, "u4")
    with zipfile.ZipFile(path, "w") as zip_:
        zip_.writestr("metadata.json", json.dumps({"keras_version": "3.4.1"}))
        zip_.writestr("config.json", json.dumps(sequential(layers)))
        zip_.write(inner, "model.weights.h5")
        zip_.writestr("assets/note.txt", "never read")
    return path


@pytest.mark.parametrize("named", [True, False])
def test_keras_3_archive(named, tmp_path):
    layers, weights, x, expected = lenet()
    layers[4:4] = [dense_config("mid", weights["out"]["kernel"].shape[0], use_bias=False)]
    weights = {"mid": {"kernel": np.eye(weights["out"]["kernel"].shape[0], dtype="f4")}, **weights}
    path = archive(tmp_path / "x.keras", layers, weights, named)
    net = check(path, x, expected)
    assert net.metadata["keras_version"] == "3.4.1"
    weights_only = path.with_suffix(".weights.h5")
    path.with_suffix(".tmp").rename(weights_only)
    (tmp_path / "a.json").write_text(json.dumps(sequential(layers)))
    check(weights_only, x, expected, architecture=tmp_path / "a.json")


def keras_1(theano):
    """A Keras 1 network; kernels are OIHW with axis order "th", and flipped by Theano."""
    k1, b1, k2, b2 = whole(3, 3, 2, 4), whole(4), whole(4 * 3 * 2, 5), whole(5)
    conv1 = {"nb_filter": 4, "nb_row": 3, "nb_col": 3, "border_mode": "valid", "subsample": [2, 2], "bias": True}
    layers = [
        ("Convolution2D", conv1 | {"name": "c", "dim_ordering": "th", "batch_input_shape": [None, 2, 8, 6]}),
        ("Activation", {"name": "a", "activation": "relu"}),
        ("Flatten", {"name": "f"}),
        ("Dense", {"name": "out", "output_dim": 5, "bias": True}),
    ]
    stored = k1.transpose(3, 2, 0, 1)
    stored = stored[:, :, ::-1, ::-1] if theano else stored
    weights = {"c": {"W": stored, "b": b1}, "a": {}, "f": {}, "out": {"W": k2, "b": b2}}
    x = whole(3, 8, 6, 2)
    y = relu(conv(x, k1, b1, (2, 2)))
    return layers, weights, x, y.transpose(0, 3, 1, 2).reshape(3, -1) @ k2 + b2


@pytest.mark.parametrize("backend", ["theano", "tensorflow"])
def test_keras_1(backend, tmp_path):
    layers, weights, x, expected = keras_1(backend == "theano")
    path = keras_file(tmp_path / "x.h5", layers, weights, version="1.1.0", backend=None, inner="{layer}_{name}")
    with pytest.raises(ImportRefused, match="give backend='theano' or 'tensorflow'") as caught:
        load(path, trust=True)
    assert caught.value.code == "backend"
    net = check(path, x, expected, backend=backend)
    report = next(t for t in net.metadata["tensors"] if (t["layer"], t["role"]) == ("c", "kernel"))
    assert ("flipped" in report["permutation"]) == (backend == "theano")
    other = {"theano": "tensorflow", "tensorflow": "theano"}[backend]
    assert (forward(load(path, backend=other, trust=True), x.transpose(0, 3, 1, 2)) != expected).any()


def test_keras_1_counts_its_layers(tmp_path):
    layers, weights, x, expected = keras_1(True)
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.attrs["nb_layers"] = len(layers)
        for k, arrays in enumerate(weights.values()):
            group = file.create_group(f"layer_{k}")
            group.attrs["nb_params"] = len(arrays)
            for p, array in enumerate(arrays.values()):
                group[f"param_{p}"] = array
    (tmp_path / "x.json").write_text(json.dumps(sequential(layers)))
    check(path, x, expected, backend="theano")


def test_dense_networks_need_no_backend(tmp_path):
    k, x = whole(7, 3), whole(4, 7)
    layers = [("Dense", {"name": "out", "output_dim": 3, "bias": False, "input_dim": 7})]
    path = keras_file(tmp_path / "x.h5", layers, {"out": {"W": k}}, version=None, backend=None, inner="{layer}_{name}")
    check(path, x, x @ k)


# --- axes


@pytest.mark.parametrize("key", ["channels_first", "channels_last", None])
def test_flatten_of_channels_first(key, tmp_path):
    """Keras >= 2.2 writes data_format and, for channels_first, flattens through channels last."""
    k1, x = whole(2, 2, 2, 3), whole(2, 5, 4, 2)
    layers = [
        conv_config("c", 3, [2, 2], use_bias=False, data_format="channels_first", batch_input_shape=[None, 2, 5, 4])
    ]
    layers += [
        ("Flatten", {"name": "flat"} | ({"data_format": key} if key else {})),
        dense_config("out", 4, use_bias=False),
    ]
    y = conv(x, k1)
    k2 = whole(y[0].size, 4)
    flat = y if key == "channels_first" else y.transpose(0, 3, 1, 2)
    path = keras_file(tmp_path / "x.h5", layers, {"c": {"kernel": k1}, "out": {"kernel": k2}}, version="2.2.4")
    check(path, x, flat.reshape(2, -1) @ k2)


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (5, 5)])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 2), (4, 3), (1, 1), (5, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("kind", ["conv", "max", "mean"])
def test_same_padding(size, kernel, stride, kind, tmp_path):
    common = {"strides": list(stride), "padding": "same", "data_format": "channels_last", "name": "L"}
    common["batch_input_shape"] = [None, *size, 2]
    k1, x = whole(*kernel, 2, 3), whole(2, *size, 2) * 360
    if kind == "conv":
        layers = [("Conv2D", common | {"filters": 3, "kernel_size": list(kernel), "use_bias": False})]
        weights, y = {"L": {"kernel": k1}}, conv(x, k1, 0, stride, "same")
    else:
        name = {"max": "MaxPooling2D", "mean": "AveragePooling2D"}[kind]
        layers = [(name, common | {"pool_size": list(kernel)})]
        weights, y = {}, pool(x, kernel, stride, "same", kind == "mean")
    k2 = whole(y[0].size, 2)
    layers += [FLAT, dense_config("out", 2, use_bias=False)]
    check(keras_file(tmp_path / "x.h5", layers, weights | {"out": {"kernel": k2}}), x, y.reshape(2, -1) @ k2)


@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [7, 8])
def test_same_padding_of_theano_is_centred(kernel, stride, size, tmp_path):
    k, x = whole(kernel, kernel, 1, 1), whole(2, size, size, 1)
    options = {
        "strides": [stride] * 2,
        "padding": "same",
        "use_bias": False,
        "batch_input_shape": [None, size, size, 1],
    }
    layers = [conv_config("c", 1, [kernel] * 2, **options), FLAT]
    half = kernel // 2
    y = conv(np.pad(x, ((0, 0), (half, half), (half, half), (0, 0))), k[::-1, ::-1], 0, (stride, stride))
    count = -(-size // stride)
    y = y[:, :count, :count]
    k2 = whole(count * count, 2)
    layers.append(dense_config("out", 2, use_bias=False))
    path = keras_file(tmp_path / "x.h5", layers, {"c": {"kernel": k}, "out": {"kernel": k2}}, backend="theano")
    check(path, x, y.reshape(2, -1) @ k2)


# --- layers


def norm(channels):
    """Batch normalisation whose arithmetic is exact: variance + epsilon is 4."""
    gamma, beta, mean = whole(channels) * 2, whole(channels), whole(channels)
    arrays = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": np.full(channels, 3.5, "f4")}
    return arrays, lambda x: (x - mean) / 2 * gamma + beta


def test_separable_depthwise_and_batch_norm(tmp_path):
    d1, d2, p2, b2 = whole(3, 3, 2, 2), whole(2, 2, 4, 1), whole(1, 1, 4, 3), whole(3)
    n1, f1 = norm(4)
    n2, f2 = norm(12)
    depth = {"name": "dw", "kernel_size": [3, 3], "depth_multiplier": 2, "use_bias": False}
    layers = [
        ("InputLayer", {"name": "in", "batch_input_shape": [None, 6, 7, 2]}),
        ("DepthwiseConv2D", depth | {"padding": "same", "data_format": "channels_last"}),
        ("BatchNormalization", {"name": "n1", "axis": [3], "epsilon": 0.5}),
        ("ReLU", {"name": "r1", "max_value": 6.0, "negative_slope": 0.0, "threshold": 0.0}),
        (
            "SeparableConv2D",
            {"name": "sep", "filters": 3, "kernel_size": [2, 2], "strides": [2, 2], "activation": "relu"},
        ),
        ("AveragePooling2D", {"name": "p", "pool_size": [1, 1], "data_format": "channels_last"}),
        ("Reshape", {"name": "flat", "target_shape": [-1]}),
        ("BatchNormalization", {"name": "n2", "axis": -1, "epsilon": 0.5}),
        dense_config("out", 3, use_bias=False),
    ]
    x = whole(2, 6, 7, 2)
    y = relu(f1(depthwise(x, d1, (1, 1), "same")), 6)
    y = relu(conv(depthwise(y, d2, (2, 2)), p2, b2))
    flat = y.reshape(2, -1)
    n2, f2 = norm(flat.shape[1])
    k = whole(flat.shape[1], 3)
    weights = {
        "dw": {"depthwise_kernel": d1},
        "n1": n1,
        "sep": {"depthwise_kernel": d2, "pointwise_kernel": p2, "bias": b2},
        "n2": n2,
        "out": {"kernel": k},
    }
    path = keras_file(tmp_path / "x.h5", layers, weights)
    check(path, x, f2(flat) @ k)
    weights["n1"] = dict(reversed(n1.items()))  # names beat positions
    check(keras_file(tmp_path / "y.h5", layers, weights), x, f2(flat) @ k)
    layers[2][1]["center"] = layers[2][1]["scale"] = False
    weights["n1"] = {key: n1[key] for key in ("moving_mean", "moving_variance")}
    y = relu((depthwise(x, d1, (1, 1), "same") - n1["moving_mean"]) / 2, 6)
    y = relu(conv(depthwise(y, d2, (2, 2)), p2, b2)).reshape(2, -1)
    check(keras_file(tmp_path / "z.h5", layers, weights), x, f2(y) @ k)


def test_epsilon_defaults_to_a_thousandth(tmp_path):
    arrays, _ = norm(4)
    layers = [
        ("InputLayer", {"name": "in", "batch_input_shape": [None, 4]}),
        ("BatchNormalization", {"name": "n"}),
    ]
    net = load(keras_file(tmp_path / "x.h5", layers, {"n": arrays}), trust=True)
    assert net["n"].epsilon == 1e-3


@pytest.mark.parametrize("after", ["conv", "same conv", "max", "relu max", "mean", "flat", "add"])
def test_zero_padding(after, tmp_path):
    x, k1 = whole(2, 5, 6, 2) * 360 - 720, whole(3, 3, 2, 2)
    pad = [[1, 2], [0, 1]]
    padded = np.pad(x, ((0, 0), *pad, (0, 0)))
    nodes = {"in": ("InputLayer", {"batch_input_shape": [None, 5, 6, 2]}, [])}
    weights, source = {}, "in"
    if after == "relu max":
        nodes["r"] = ("ReLU", {}, ["in"])
        source, padded = "r", relu(padded)
    nodes["z"] = ("ZeroPadding2D", {"padding": pad, "data_format": "channels_last"}, [source])
    options = {"kernel_size": [3, 3], "filters": 2, "use_bias": False}
    if after == "conv":
        nodes["y"], y = ("Conv2D", options, ["z"]), conv(padded, k1)
    elif after == "same conv":
        nodes["y"] = ("Conv2D", options | {"padding": "same", "strides": [2, 2]}, ["z"])
        y = conv(padded, k1, 0, (2, 2), "same")
    elif after in ("max", "relu max", "mean"):
        kind = "AveragePooling2D" if after == "mean" else "MaxPooling2D"
        nodes["y"] = (kind, {"pool_size": [3, 3], "strides": [2, 2]}, ["z"])
        y = pool(padded, (3, 3), (2, 2), "valid", after == "mean")
    elif after == "flat":
        nodes["y"], y = ("Activation", {"activation": "linear"}, ["z"]), padded
    else:
        nodes["y"], y = ("Add", {}, ["z", "z"]), 2 * padded
    if "conv" in after:
        weights["y"] = {"kernel": k1}
    nodes["flat"] = ("Flatten", {"data_format": "channels_last"}, ["y"])
    nodes["out"] = ("Dense", {"units": 3, "use_bias": False}, ["flat"])
    weights["out"] = {"kernel": whole(y[0].size, 3)}
    expected = y.reshape(2, -1) @ weights["out"]["kernel"]
    net = check(keras_file(tmp_path / "x.h5", None, weights, model=functional(nodes, 2)), x, expected)
    copies = [n for n in net.nodes if isinstance(n, FloatConv2d) and n.name.split("/")[-1].startswith("pad")]
    assert len(copies) == {"max": 1, "flat": 1, "add": 2}.get(after, 0)  # elsewhere it is folded


@pytest.mark.parametrize(
    "before, folds",
    [
        ([("ReLU", {})], True),
        ([("ReLU", {}), ("Dropout", {"rate": 0.5}), ("Activation", {"activation": "linear"})], True),
        ([], False),
        ([("ReLU", {}), ("BatchNormalization", {"epsilon": 0.5})], False),
        ([("ReLU", {}), ("Conv2D", {"kernel_size": 1, "filters": 2, "use_bias": False})], False),
        ([("ReLU", {}), ("Conv2D", {"kernel_size": 1, "filters": 2, "use_bias": False, "activation": "relu"})], True),
    ],
    ids=["relu", "relu, nothing", "input", "relu, norm", "relu, conv", "conv with relu"],
)
def test_zeros_fold_into_a_max_pool_only_right_after_a_relu(before, folds, tmp_path):
    """A max pool never takes its own padding, but it takes zeros that the network puts around negative values."""
    layers = [("InputLayer", {"name": "in", "batch_input_shape": [None, 4, 4, 2]})]
    layers += [(kind, {"name": f"b{k}"} | config) for k, (kind, config) in enumerate(before)]
    layers += [
        ("ZeroPadding2D", {"name": "z", "padding": [[1, 0], [0, 2]], "data_format": "channels_last"}),
        ("MaxPooling2D", {"name": "y", "pool_size": [3, 3], "strides": [1, 1]}),
        FLAT,
        dense_config("out", 24, use_bias=False),
    ]
    x = -1 - np.arange(64, dtype=np.float32).reshape(2, 4, 4, 2) % 7
    x[1] += 4  # one image all negative, one of both signs
    y, weights = x, {"out": {"kernel": np.eye(24, dtype="f4")}}
    for k, (kind, config) in enumerate(before):
        if kind == "ReLU":
            y = relu(y)
        elif kind == "BatchNormalization":
            arrays, function = norm(2)
            arrays["beta"] -= 60  # below zero whatever the data
            y, weights[f"b{k}"] = function(y), arrays
        elif kind == "Conv2D":
            kernel = -np.ones((1, 1, 2, 2), np.float32)
            y, weights[f"b{k}"] = conv(y, kernel), {"kernel": kernel}
            y = relu(y) if "activation" in config else y
    expected = pool(np.pad(y, ((0, 0), (1, 0), (0, 2), (0, 0))), (3, 3), (1, 1), "valid", False).reshape(2, -1)
    net = check(keras_file(tmp_path / "x.h5", layers, weights), x, expected)
    assert ([n.name for n in net.nodes if n.name.endswith("/pad")] == []) == folds
    assert (net["y"].padding != ((0, 0), (0, 0))) == folds


# --- graphs


def functional(nodes, age, output="out"):
    """Configuration of a Functional model from ``name -> (class, config, inputs)``, as Keras 1/2 or 3 spells it."""
    entries = []
    for name, (kind, config, inputs) in nodes.items():
        if age == 3:
            tensors = [
                {
                    "class_name": "__keras_tensor__",
                    "config": {"shape": [], "dtype": "float32", "keras_history": [i, 0, 0]},
                }
                for i in inputs
            ]
            args = [tensors] if kind == "Add" else tensors
            inbound = [{"args": args, "kwargs": {}}] if inputs else []
        else:
            inbound = [[[i, 0, 0, {}] if age == 2 else [i, 0, 0] for i in inputs]] if inputs else []
        entries.append({"class_name": kind, "name": name, "config": {"name": name} | config, "inbound_nodes": inbound})
    ends = [output, 0, 0] if age == 3 else [[output, 0, 0]]
    kind = {1: "Model", 2: "Functional", 3: "Functional"}[age]
    return {"class_name": kind, "config": {"name": "m", "layers": entries[::-1], "output_layers": ends}}


@pytest.mark.parametrize("age", [1, 2, 3])
def test_residual_graph(age, tmp_path):
    """Layers are listed backwards, so that nothing can rely on their order."""
    k1, k2, b2, k3 = whole(3, 3, 2, 4), whole(1, 1, 2, 4), whole(4), whole(4, 3)
    merge = ("Merge", {"mode": "sum"}) if age == 1 else ("Add", {})
    last = {"data_format": "channels_last"}
    shape = {"batch_shape" if age == 3 else "batch_input_shape": [None, 8, 8, 2]}
    nodes = {
        "in": ("InputLayer", shape, []),
        "c1": ("Conv2D", last | {"filters": 4, "kernel_size": 3, "padding": "same", "use_bias": False}, ["in"]),
        "r1": ("Activation", {"activation": "relu"}, ["c1"]),
        "c2": ("Conv2D", last | {"filters": 4, "kernel_size": [1, 1]}, ["in"]),
        "add": (*merge, ["r1", "c2"]),
        "r2": ("ReLU", {}, ["add"]),
        "gap": ("GlobalAveragePooling2D", last, ["r2"]),
        "out": ("Dense", {"units": 3, "use_bias": False}, ["gap"]),
    }
    weights = {"c1": {"kernel": k1}, "c2": {"kernel": k2, "bias": b2}, "out": {"kernel": k3}}
    x = whole(2, 8, 8, 2)
    y = relu(relu(conv(x, k1, 0, (1, 1), "same")) + conv(x, k2, b2)).mean(axis=(1, 2)) @ k3
    version = {1: "1.2.0", 2: "2.4.0", 3: "3.4.1"}[age]
    net = check(keras_file(tmp_path / "x.h5", None, weights, model=functional(nodes, age), version=version), x, y)
    assert net.output == "out"
    assert [node.source for node in net.nodes if node.name == "add"] == [f"{merge[0]} add"]


def test_reshapes_and_dense_over_pixels(tmp_path):
    """A vector becomes an image at the input, a pooled vector an image for 1x1 convolutions, and back."""
    k1, k2, k3 = whole(2, 2, 1, 4), whole(1, 1, 4, 3), whole(4, 4)
    layers = [
        ("InputLayer", {"name": "in", "batch_input_shape": [None, 25]}),
        ("Reshape", {"name": "image", "target_shape": [5, 5, 1]}),
        conv_config("c1", 4, [2, 2], use_bias=False, activation="relu"),
        dense_config("pixels", 4, use_bias=False),
        ("GlobalAveragePooling2D", {"name": "gap", "data_format": "channels_last"}),
        ("Reshape", {"name": "up", "target_shape": [1, 1, 4]}),
        conv_config("c2", 3, [1, 1], use_bias=False),
        ("Reshape", {"name": "down", "target_shape": [3]}),
        ("Softmax", {"name": "p", "axis": -1}),
    ]
    weights = {"c1": {"kernel": k1}, "pixels": {"kernel": k3}, "c2": {"kernel": k2}}
    net = load(keras_file(tmp_path / "x.h5", layers, weights), trust=True)
    x = whole(3, 5, 5, 1)
    y = (relu(conv(x, k1)) @ k3).mean(axis=(1, 2)) @ k2[0, 0]
    assert net.input_shape == (1, 5, 5)
    before = net["p"].inputs[0]
    np.testing.assert_array_equal(forward(net, x.reshape(3, 25), record=[before], dtype=np.float64)[before], y)
    np.testing.assert_array_equal(forward(net, x.transpose(0, 3, 1, 2)).argmax(1), y.argmax(1))


def test_images_without_channels(tmp_path):
    k, x = whole(20, 3), whole(4, 5, 4)
    layers = [("Flatten", {"name": "f", "batch_input_shape": [None, 5, 4]}), dense_config("out", 3, use_bias=False)]
    net = check(keras_file(tmp_path / "x.h5", layers, {"out": {"kernel": k}}), x[..., None], x.reshape(4, 20) @ k)
    assert net.input_shape == (1, 5, 4)


def test_input_shape_from_the_user(tmp_path):
    layers, weights, x, expected = lenet()
    layers[0][1]["batch_input_shape"] = [None, None, None, 2]
    path = keras_file(tmp_path / "x.h5", layers, weights)
    with pytest.raises(ImportRefused, match="input_shape"):
        load(path, trust=True)
    check(path, x, expected, input_shape=(2, 8, 9))
    with pytest.raises(ShapeError, match="does not fit"):
        load(path, trust=True, input_shape=(3, 8, 9))


# --- refusals


@pytest.mark.parametrize("case", hostile.NETWORKS, ids=lambda case: case.name)
def test_hostile(case, tmp_path):
    path = case.make(tmp_path)
    error = ImportRefused if isinstance(case.expected, str) else case.expected
    with pytest.raises(error) as caught:
        load(path, trust=True, **case.options)
    message = str(caught.value)
    assert "\n" not in message
    assert "layer '" in message or path.stem in message or "attribute" in message
    if error is ImportRefused:
        assert caught.value.code == case.expected


def test_the_file_that_the_hostile_ones_are_made_from_is_taken(tmp_path):
    net = load(keras_file(tmp_path / "x.h5", *hostile.small()))
    assert net.shapes[net.output] == (4,)


@pytest.mark.parametrize(
    "case", [c for c in hostile.TREES if c.name in ("gzip_bomb", "lfs_pointer", "folder", "missing")]
)
def test_what_the_reader_refuses_stays_refused(case, tmp_path):
    with pytest.raises((ImportRefused, DataNotFoundError)) as caught:
        load(case.make(tmp_path))
    assert getattr(caught.value, "code", DataNotFoundError) == case.expected


@pytest.mark.parametrize("text", ["[" * 1_000_000, '"' + '\\"' * 500_000, '{"a": "' + "[" * 500_000, "\\" * 1000, ""])
def test_json_is_scanned_in_linear_time(text):
    with pytest.raises(ImportRefused) as caught:
        keras_files.parse_json(text, "x")
    assert caught.value.code in ("json", "json-depth", "json-size")


def test_brackets_in_text_do_not_count():
    assert keras_files.parse_json(json.dumps({"a": "[" * 100 + '\\"{'}), "x") == {"a": "[" * 100 + '\\"{'}


def test_unknown_backend(tmp_path):
    with pytest.raises(ImportRefused, match="'jax' is not known"):
        load(tmp_path / "x.h5", backend="jax")


def test_theano_names_what_it_cannot_do(tmp_path):
    layers, weights, _, _ = lenet()
    with pytest.raises(UnsupportedError, match="'p' .MaxPooling2D.: padding 'same' of the Theano backend"):
        load(keras_file(tmp_path / "x.h5", layers, weights, backend="theano"), trust=True)


# --- real networks; the counts on all test images are in the documentation of the data

REAL = {
    "mlp_98.15.h5": ("mnist", 255, None, 492),
    "99.20.h5": ("mnist", 255, "theano", 497),
    "99.16.h5": ("mnist", 255, "theano", 497),
    "weights.09-0.99.h5": ("mnist", 255, None, 496),
    "lenet5_keras_98.96_b.h5": ("mnist", 255, None, 495),
    "lenet5_keras_99.14.h5": ("mnist", 255, None, 494),
    "83.62_parsed.h5": ("cifar10", 255, "theano", 430),
    "mlperf_tiny_resnet8.h5": ("cifar10", 1, None, 445),
    "fashion_cnn.keras": ("fashion-mnist", 255, None, 459),
}


def images(root, name, count):
    import gzip

    if name == "cifar10":
        with np.load(root / "cifar10" / "cifar10_test1900.npz") as data:
            return data["x"][:count], data["y"][:count]
    folder = root / name
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        x = np.frombuffer(file.read(16 + 784 * count)[16:], np.uint8).reshape(count, 1, 28, 28)
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        return x, np.frombuffer(file.read(8 + count)[8:], np.uint8)


@pytest.mark.parametrize("name", REAL)
def test_real_networks(name, data_root):
    """Correct answers on the first 500 test images."""
    data, divisor, backend, expected = REAL[name]
    x, y = images(data_root, data, 500)
    net = load(data_root / "models" / "keras" / name, backend=backend)
    answers = forward(net, x.astype(np.float32) / np.float32(divisor)).argmax(1)
    assert int((answers == y).sum()) == expected


@pytest.mark.parametrize("name", ["lenet5_keras_98.96_b.h5", "83.62_parsed.h5"])
def test_unflipped_theano_kernels_are_useless(name, data_root):
    data, divisor, _, expected = REAL[name]
    x, y = images(data_root, data, 500)
    net = load(data_root / "models" / "keras" / name, backend="tensorflow", trust=True)
    answers = forward(net, x.astype(np.float32) / np.float32(divisor)).argmax(1)
    assert int((answers == y).sum()) < expected - 100
