"""Models as a whole: well-known ones, models within models, layers that are called twice, wrappers, old spellings."""

import json
import zipfile

import h5py
import numpy as np
import pytest
from hostile import keras_file, sequential
from networks.keras import Functional, conv, ours, softmax

from intsnn.errors import ImportRefused, UnsupportedError
from intsnn.models.keras.load import load
from intsnn.network.floating import forward

RNG = np.random.default_rng(7)


def whole(*shape):
    return RNG.integers(-3, 4, shape).astype(np.float32)


# --- the well-known ones, as Keras builds them


def mobilenet(age, keep):
    """Separable blocks with zeros put at two sides before a stride, and a convolution as the last layer."""
    m = Functional((32, 32, 3), age)
    t = m.relu(m.norm(m.conv(m.start, 8, 3, 2)), 6.0)
    for filters, stride in ((16, 1), (16, 2), (24, 1), (24, 2)):
        t = m.pad(t, ((0, 1), (0, 1))) if stride == 2 else t
        t = m.relu(m.norm(m.depthwise(t, stride, "valid" if stride == 2 else "same")), 6.0)
        t = m.relu(m.norm(m.conv(t, filters)), 6.0)
    t = m.mean(t, keep)
    t = t if keep else m.reshape(t, 1, 1, 24)
    t = m.layer("Dropout", {"rate": 0.001}, [t], t.value)
    t = m.reshape(m.conv(t, 10, bias=True), 10)
    return m, m.layer("Activation", {"activation": "softmax"}, [t], softmax(t.value))


def mobilenet_2(age):
    """Inverted residuals: wide inside, linear where they are added."""
    m = Functional((32, 32, 3), age)
    t = m.relu(m.norm(m.conv(m.start, 8, 3, 2)), 6.0)
    for filters, stride in ((8, 1), (12, 2), (12, 1), (16, 1)):
        y = m.relu(m.norm(m.conv(t, 4 * t.channels)), 6.0)
        y = m.pad(y, ((0, 1), (0, 1))) if stride == 2 else y
        y = m.relu(m.norm(m.depthwise(y, stride, "valid" if stride == 2 else "same")), 6.0)
        y = m.norm(m.conv(y, filters))
        t = m.add(t, y) if stride == 1 and filters == t.channels else y
    t = m.relu(m.norm(m.conv(t, 32)), 6.0)
    return m, m.dense(m.mean(t), 10)


def resnet_2(age):
    """Pre-activation: the sums are not activated, a pool of stride 2 is the shortcut."""
    m = Functional((32, 32, 3), age)
    t = m.conv(m.pad(m.start, ((3, 3), (3, 3))), 8, 7, 2, "valid", bias=True)
    t = m.pool(m.pad(t, ((1, 1), (1, 1))), 3, 2)  # zeros win over negative values here
    for block in range(3):
        first, stride = block == 0, 2 if block == 2 else 1
        active = m.relu(m.norm(t))
        shortcut = m.conv(active, 16, bias=True) if first else m.pool(t, 1, stride) if stride > 1 else t
        y = m.relu(m.norm(m.conv(active, 4)))
        y = m.conv(m.pad(y, ((1, 1), (1, 1))), 4, 3, stride, "valid")
        t = m.add(shortcut, m.conv(m.relu(m.norm(y)), 16, bias=True))
    return m, m.dense(m.mean(m.relu(m.norm(t))), 10)


def unet(age):
    m = Functional((16, 16, 2), age)
    first = m.conv(m.start, 4, 3, activation="relu", bias=True)
    second = m.relu(m.norm(m.conv(m.pool(first, 2, 2), 8, 3)))
    third = m.conv(m.pool(second, 2, 2), 8, 3, activation="relu", bias=True)
    y = m.conv(m.beside(m.up(third, 8), second), 8, 3, activation="relu", bias=True)
    bigger = m.layer("UpSampling2D", {"size": [2, 2]}, [y], y.value.repeat(2, axis=1).repeat(2, axis=2))
    y = m.conv(m.beside(bigger, first), 4, 3, activation="relu", bias=True)
    return m, m.conv(y, 3, activation="softmax", bias=True)


BUILT = {
    "mobilenet, old head": lambda age: mobilenet(age, False),
    "mobilenet": lambda age: mobilenet(age, True),
    "mobilenet 2": mobilenet_2,
    "resnet 2": resnet_2,
    "u-net": unet,
}


@pytest.mark.parametrize("age", [2, 3])
@pytest.mark.parametrize("name", BUILT)
def test_networks_as_keras_builds_them(name, age, tmp_path):
    model, output = BUILT[name](age)
    net = load(model.save(tmp_path / "x.h5", output), trust=True)
    expected = ours(output.value) if output.value.ndim == 4 else output.value
    found = forward(net, ours(model.x), dtype=np.float64)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-10
    assert found.std() > 1e-3  # it tells samples and classes apart


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2"])
def test_networks_of_keras_itself(name, tmp_path):
    keras = pytest.importorskip("keras")
    alpha = 0.35 if name == "MobileNetV2" else 0.25
    model = getattr(keras.applications, name)(input_shape=(32, 32, 3), weights=None, classes=7, alpha=alpha)
    x = RNG.normal(size=(2, 32, 32, 3)).astype(np.float32)
    model.save(tmp_path / "x.keras")
    found = forward(load(tmp_path / "x.keras", trust=True), ours(x))
    assert np.abs(found - np.asarray(model(x))).max() < 1e-5


# --- models within models


def base(age=2):
    m = Functional((6,), age)
    hidden = m.dense(m.start, 5, "relu")
    return m, m.dense(hidden, 6, "linear")


def applied(m, x):
    first, second = (m.weights[name] for name in ("dense_1", "dense_2"))
    return np.maximum(x @ first["kernel"] + first["bias"], 0) @ second["kernel"] + second["bias"]


def around(nested, calls, age, start=1):
    """A model that calls `nested`, one call after the other, and adds what all of them give."""
    m = Functional((6,), age)
    config = nested["config"]
    previous, inbound = m.start.name, []
    for number in range(calls):
        history = [previous, 0 if previous == m.start.name else start + number - 1, 0]
        training = {"training": False}
        tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": history}}
        inbound.append([[*history, training]] if age == 2 else {"args": [tensor], "kwargs": training})
        previous = config["name"]
    entry = {"class_name": nested["class_name"], "name": config["name"], "config": config, "inbound_nodes": inbound}
    m.entries.append(entry)
    out = m.config(m.start)
    out["config"]["output_layers"] = [[config["name"], start + calls - 1, 0]]
    return m, out


@pytest.mark.parametrize("calls", [1, 2, 3])
@pytest.mark.parametrize("start", [0, 1])
def test_a_functional_model_is_called(calls, start, tmp_path):
    """Keras 2 counts the calls of a model from 1."""
    inner, output = base()
    model, config = around(inner.config(output, "base"), calls, 2, start)
    arrays = {f"{name}/{key}": array for name, group in inner.weights.items() for key, array in group.items()}
    weights = {"inputlayer_1": {}, "base": dict(sorted(arrays.items()))}
    net = load(keras_file(tmp_path / "x.h5", None, weights, model=config, inner="{name}:0"), trust=True)
    y = model.x.astype(np.float64)
    for _ in range(calls):
        y = applied(inner, y)
    assert np.abs(forward(net, model.x, dtype=np.float64) - y).max() < 1e-12
    names = [node.name for node in net.nodes]
    assert names[:3] == ["inputlayer_1", "base/dense_1", "base/dense_1/relu"]
    assert ("base:2/dense_1" in names) == (calls > 1)


def numbered(path, groups, config, names=None):
    """An archive of Keras 3; `names` are those that groups carry."""
    with h5py.File(path.with_suffix(".tmp"), "w") as file:
        for group, arrays in groups.items():
            made = file.create_group(f"{group}/vars")
            if names is not None:
                made.attrs["name"] = names[group]
            for k, array in enumerate(arrays):
                made[str(k)] = array
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.4.1"}))
        archive.writestr("config.json", json.dumps(config))
        archive.write(path.with_suffix(".tmp"), "model.weights.h5")
    return path


@pytest.mark.parametrize("named", [False, True])
def test_models_within_models_in_archives(named, tmp_path):
    """Two models, one in the other, each with dense layers that are counted on their own."""
    k = {name: whole(3, 3) for name in ("deep", "deep again", "middle", "out")}

    def dense(name):
        return {"class_name": "Dense", "config": {"name": name, "units": 3, "use_bias": False, "activation": "relu"}}

    def model(name, *layers):
        start = {"class_name": "InputLayer", "config": {"name": f"{name} in", "batch_shape": [None, 3]}}
        return {"class_name": "Sequential", "config": {"name": name, "layers": [start, *layers]}}

    inner = model("inner", dense("deep"), dense("deep again"))
    config = model("outer", model("middle", inner, dense("middle")), dense("out"))
    groups = {
        "layers/input_layer": [],
        "layers/sequential": [],
        "layers/sequential/layers/sequential": [],
        "layers/sequential/layers/sequential/layers/dense": [k["deep"]],
        "layers/sequential/layers/sequential/layers/dense_1": [k["deep again"]],
        "layers/sequential/layers/dense": [k["middle"]],
        "layers/dense": [k["out"]],
    }
    told = ["outer in", "middle", "inner", "deep", "deep again", "middle", "out"]
    names = dict(zip(groups, told, strict=True)) if named else None
    if named:  # names beat counters
        one, two = (f"layers/sequential/layers/sequential/layers/dense{end}" for end in ("", "_1"))
        groups[one], groups[two], names[one], names[two] = groups[two], groups[one], names[two], names[one]
    net = load(numbered(tmp_path / "x.keras", groups, config, names), trust=True)
    x = y = whole(4, 3)
    for kernel in k.values():
        y = np.maximum(y @ kernel, 0)
    np.testing.assert_array_equal(forward(net, x, dtype=np.float64), y)


def test_a_model_that_begins_with_a_model(tmp_path):
    """Nothing but the inner model says the shape of the input."""
    k, out = whole(2, 2, 1, 3), whole(3, 4)
    layers = [("Conv2D", {"name": "c", "batch_input_shape": [None, 5, 4, 1], "filters": 3, "kernel_size": [2, 2]})]
    layers[0][1]["use_bias"] = False
    layers.append(("GlobalMaxPooling2D", {"name": "gap"}))
    nested = sequential(layers)
    nested["config"]["name"] = "base"
    config = sequential([("Dense", {"name": "out", "units": 4, "use_bias": False})])
    config["config"]["layers"].insert(0, nested)
    weights = {"base": {"c/kernel": k}, "out": {"out/kernel": out}}
    net = load(keras_file(tmp_path / "x.h5", None, weights, model=config, inner="{name}:0"), trust=True)
    x = whole(2, 5, 4, 1)
    np.testing.assert_array_equal(forward(net, ours(x), dtype=np.float64), conv(x, k).max(axis=(1, 2)) @ out)


def test_models_that_cannot_be_called(tmp_path):
    inner, output = base()
    _, config = around(inner.config(output, "base"), 1, 2)
    config["config"]["layers"][-1]["inbound_nodes"][0][0][3]["training"] = True
    with pytest.raises(UnsupportedError, match="layer 'base' .Functional.: is called with training=True"):
        load(keras_file(tmp_path / "x.h5", None, {}, model=config), trust=True)
    config["config"]["layers"][-1]["inbound_nodes"][0] *= 2
    config["config"]["layers"][-1]["inbound_nodes"][0][0][3]["training"] = False
    with pytest.raises(ImportRefused, match="the model 'base' has 1 inputs and is called with 2"):
        load(keras_file(tmp_path / "x.h5", None, {}, model=config), trust=True)


def test_models_that_grow_without_end(tmp_path):
    """Each model calls the next one several times: a small file, and more layers than anything has."""
    leaf = {"name": "leaf", "layers": [{"class_name": "Dropout", "config": {"name": "d", "rate": 0.5}}]}
    nested = {"class_name": "Sequential", "config": leaf}
    for level in range(5):
        calls = [[["in", 0, 0]], *([[["m", k, 0]] for k in range(8)])]
        entry = nested | {"name": "m", "inbound_nodes": calls}
        start = {"class_name": "InputLayer", "name": "in", "inbound_nodes": []}
        start["config"] = {"name": "in", "batch_input_shape": [None, 3]}
        body = {"name": f"n{level}", "layers": [start, entry], "input_layers": [["in", 0, 0]]}
        nested = {"class_name": "Functional", "config": body | {"output_layers": [["m", 8, 0]]}}
    with pytest.raises(ImportRefused, match="more than 4096 layers, those of repeated models counted"):
        load(keras_file(tmp_path / "x.h5", None, {}, model=nested), trust=True)


def test_names_that_meet_when_models_are_laid_flat(tmp_path):
    inner, output = base()
    _, config = around(inner.config(output, "base"), 1, 2)
    twin = {"class_name": "ReLU", "name": "base/dense_2", "config": {"name": "base/dense_2"}}
    config["config"]["layers"].append(twin | {"inbound_nodes": [[["base", 1, 0]]]})
    config["config"]["output_layers"] = [["base/dense_2", 0, 0]]
    with pytest.raises(ImportRefused, match="two layers are called 'base/dense_2'"):
        load(keras_file(tmp_path / "x.h5", None, {}, model=config), trust=True)


@pytest.mark.parametrize(
    "options, words", [({"training": True}, "as in training"), ({"mask": 1}, "a mask"), ({"x": 2}, "called with 'x'")]
)
def test_layers_that_are_called_in_another_way(options, words, tmp_path):
    m = Functional((5,))
    output = m.dense(m.start, 3)
    m.entries[-1]["inbound_nodes"] = [[["inputlayer_1", 0, 0, options]]]
    with pytest.raises(UnsupportedError, match=f"layer 'dense_1' .Dense.: is .*{words}"):
        load(m.save(tmp_path / "x.h5", output), trust=True)
    m.entries[-1]["inbound_nodes"] = [[["inputlayer_1", 0, 0, {"training": False, "mask": None}]]]
    load(m.save(tmp_path / "x.h5", output), trust=True)


# --- layers that are called twice


@pytest.mark.parametrize("age", [2, 3])
def test_a_layer_is_called_twice(age, tmp_path):
    m = Functional((5,), age)
    t = m.dense(m.start, 5, "relu")
    again = m.call([t])
    m.entries[-1]["inbound_nodes"].append(again)
    m.entries.append({"class_name": "Add", "name": "sum", "config": {"name": "sum"}})
    histories = [[t.name, 0, 0], [t.name, 1, 0]]
    tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": h}} for h in histories]
    call = [[*h, {}] for h in histories] if age == 2 else {"args": [tensors], "kwargs": {}}
    m.entries[-1]["inbound_nodes"] = [call]
    t.name = "sum"
    net = load(m.save(tmp_path / "x.h5", t), trust=True)
    k, b = (m.weights["dense_1"][name] for name in ("kernel", "bias"))
    once = np.maximum(m.x.astype(np.float64) @ k + b, 0)
    expected = once + np.maximum(once @ k + b, 0)
    assert np.abs(forward(net, m.x, dtype=np.float64) - expected).max() < 1e-12
    assert net["dense_1"].weight.shape == net["dense_1:2"].weight.shape
    assert len([entry for entry in net.metadata["tensors"] if entry["role"] == "kernel"]) == 2


# --- wrappers, classes of others


def pruned(folder, module=None):
    k = whole(4, 3)
    inner = {"class_name": "Dense", "config": {"name": "d", "units": 3, "use_bias": False, "activation": "relu"}}
    config = sequential([
        ("InputLayer", {"name": "in", "batch_input_shape": [None, 4]}),
        ("PruneLowMagnitude", {"name": "prune_low_magnitude_d", "layer": inner, "block_size": [1, 1]}),
    ])  # fmt: skip
    if module:
        config["config"]["layers"][1] |= {"module": module, "registered_name": "PruneLowMagnitude"}
    arrays = {"kernel": k, "mask": np.ones((4, 3), "f4"), "threshold": np.float32(0.1), "pruning_step": np.int64(7)}
    return keras_file(folder / "x.h5", None, {"prune_low_magnitude_d": arrays}, model=config), k


@pytest.mark.parametrize("module", [None, "tensorflow_model_optimization.python.core.sparsity.keras.pruning_wrapper"])
def test_pruning_wrappers_are_taken_off(module, tmp_path):
    path, k = pruned(tmp_path, module)
    x = whole(2, 4)
    np.testing.assert_array_equal(forward(load(path, trust=True), x), np.maximum(x @ k, 0))


def test_pruning_wrappers_in_archives(tmp_path):
    """The layer's arrays are below its wrapper's, which keeps masks of its own."""
    k = whole(4, 3)
    inner = {"class_name": "Dense", "config": {"name": "d", "units": 3, "use_bias": False}}
    config = sequential([("InputLayer", {"name": "in", "batch_shape": [None, 4]})])
    wrapper = {"class_name": "PruneLowMagnitude", "config": {"name": "p", "layer": inner}}
    config["config"]["layers"].append(wrapper)
    group = "layers/prune_low_magnitude"
    groups = {"layers/input_layer": [], group: [np.ones((4, 3), "f4"), np.float32(0.1)], f"{group}/layer": [k]}
    x = whole(2, 4)
    net = load(numbered(tmp_path / "x.keras", groups, config), trust=True)
    np.testing.assert_array_equal(forward(net, x), x @ k)


@pytest.mark.parametrize(
    "entry",
    [
        {"module": None, "registered_name": "mine>Dense"},
        {"module": "my_layers", "registered_name": "Dense"},
        {"module": "keras_but_not_really.layers", "registered_name": None},
        {"module": None, "registered_name": "Dense"},
        {"class_name": "mine>Dense"},
    ],
)
def test_own_classes_are_never_taken_for_those_of_keras(entry, tmp_path):
    config = sequential([("Dense", {"name": "d", "units": 3, "input_dim": 4})])
    config["config"]["layers"][0] |= entry
    weights = {"d": {"kernel": whole(4, 3), "bias": whole(3)}}
    with pytest.raises(UnsupportedError, match="layer 'd' .*: is a class of the user's own .*Dense"):
        load(keras_file(tmp_path / "x.h5", None, weights, model=config), trust=True)
    config["config"]["layers"][0] |= {"class_name": "Dense", "module": "keras.layers", "registered_name": None}
    load(keras_file(tmp_path / "x.h5", None, weights, model=config), trust=True)
    config |= {"module": "mine", "registered_name": "mine>Sequential"}
    with pytest.raises(UnsupportedError, match="the model is a class of the user's own"):
        load(keras_file(tmp_path / "x.h5", None, weights, model=config), trust=True)


# --- before Keras 1


def before_1(kind="Sequential"):
    layers = [
        {"name": "Convolution2D", "nb_filter": 3, "nb_row": 2, "nb_col": 2, "input_shape": [2, 5, 4],
         "border_mode": "valid", "subsample": [1, 1], "activation": "relu", "dim_ordering": "th"},
        {"name": "Flatten"},
        {"name": "Dense", "output_dim": 4, "activation": "linear"},
        {"name": "Activation", "activation": "softmax"},
    ]  # fmt: skip
    return {"name": kind, "layers": layers}


def test_json_of_keras_before_1(tmp_path):
    k, b, d, c = whole(3, 2, 2, 2), whole(3), whole(36, 4), whole(4)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["nb_layers"] = 4
        for n, arrays in enumerate([(k, b), (), (d, c), ()]):
            group = file.create_group(f"layer_{n}")
            group.attrs["nb_params"] = len(arrays)
            for p, array in enumerate(arrays):
                group[f"param_{p}"] = array
    (tmp_path / "x.json").write_text(json.dumps(before_1()))
    net = load(tmp_path / "x.h5", backend="theano", trust=True)
    x = whole(2, 5, 4, 2)
    y = np.maximum(conv(x, k[:, :, ::-1, ::-1].transpose(2, 3, 1, 0)) + b, 0)
    y = y.transpose(0, 3, 1, 2).reshape(2, -1) @ d + c
    found = forward(net, ours(x), record=["dense_3"], dtype=np.float64)["dense_3"]
    np.testing.assert_array_equal(found, y)
    (tmp_path / "x.json").write_text(json.dumps(before_1("Graph")))
    with pytest.raises(UnsupportedError, match="the model is a 'Graph' of Keras before 1.0"):
        load(tmp_path / "x.h5", backend="theano", trust=True)


# --- the input


def test_signals_and_images_without_channels(tmp_path):
    """Two axes are a signal, unless the first layer that minds flattens them."""
    shapes = {}
    for kind, config in (("Conv1D", {"filters": 2, "kernel_size": [2]}), ("Flatten", {}), ("Dense", {"units": 3})):
        layers = [("InputLayer", {"name": "in", "batch_input_shape": [None, 5, 4]}), (kind, {"name": "l"} | config)]
        layers[1][1]["use_bias"] = False
        kernel = {"Conv1D": whole(2, 4, 2), "Dense": whole(4, 3)}.get(kind)
        weights = {} if kernel is None else {"l": {"kernel": kernel}}
        shapes[kind] = load(keras_file(tmp_path / "x.h5", layers, weights), trust=True).input_shape
    assert shapes == {"Conv1D": (4, 1, 5), "Flatten": (1, 5, 4), "Dense": (4, 1, 5)}


def test_an_input_that_is_a_vector_and_an_image(tmp_path):
    """Only where nothing else reads the vector does it come in as an image."""
    m = Functional((12,))
    y = m.conv(m.reshape(m.start, 2, 3, 2), 2, 2, padding="valid")
    y = m.beside(m.dense(m.start, 3, "linear"), m.reshape(y, 4))
    net = load(m.save(tmp_path / "x.h5", y), trust=True)
    assert net.input_shape == (12,)
    assert np.abs(forward(net, m.x, dtype=np.float64) - y.value).max() < 1e-12


def test_open_sizes_are_said_by_the_user(tmp_path):
    layers = [("Conv1D", {"name": "c", "filters": 2, "kernel_size": [2], "use_bias": False})]
    layers[0][1]["batch_input_shape"] = [None, None, 3]
    path = keras_file(tmp_path / "x.h5", layers, {"c": {"kernel": whole(2, 3, 2)}})
    with pytest.raises(ImportRefused, match=r"leaves the input shape open \(any, 3\); say it with --input-shape C,H,W"):
        load(path, trust=True)
    assert load(path, trust=True, input_shape=(3, 1, 9)).input_shape == (3, 1, 9)
    assert load(path, trust=True, input_shape=(3, 9)).shapes["c"] == (2, 1, 8)
