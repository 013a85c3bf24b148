"""Functions that a model applies to tensors without a layer, as Keras 2 and 3 save them."""

import numpy as np
import pytest
from hostile import keras_file
from networks.keras import largest, ours

from intsnn.errors import ImportRefused, UnsupportedError
from intsnn.models.keras.load import load
from intsnn.network.floating import forward

RNG = np.random.default_rng(5)


def whole(*shape):
    return RNG.integers(-3, 4, shape).astype(np.float32)


X = whole(2, 4, 5, 4)


def tensor(name):
    return {
        "class_name": "__keras_tensor__",
        "config": {"shape": [], "dtype": "float32", "keras_history": [name, 0, 0]},
    }


def lambda_2(function, inbound, name="op"):
    """An operator of Keras 2; `inbound` is its one call."""
    kind = "SlicingOpLambda" if function == "__operators__.getitem" else "TFOpLambda"
    config = {"name": name, "trainable": True, "dtype": "float32", "function": function}
    return {"class_name": kind, "name": name, "config": config, "inbound_nodes": [inbound]}


def operation_3(kind, args, module="keras.src.ops.numpy", name="op", **config):
    """An operation of Keras 3; `module` None: as its HDF5 files have it."""
    entry = {"class_name": kind, "name": name, "config": {"name": name} | config}
    entry["inbound_nodes"] = [{"args": args, "kwargs": {}}]
    return entry | ({"module": module, "registered_name": kind} if module else {})


def network(folder, entries, shape, output="op", version="2.13.0"):
    start = {"class_name": "InputLayer", "name": "in", "config": {"name": "in", "batch_input_shape": [None, *shape]}}
    start["inbound_nodes"] = []
    relu = {"class_name": "ReLU", "name": "r", "config": {"name": "r", "trainable": True}}
    relu["inbound_nodes"] = [[["in", 0, 0, {}]]]
    flat = {"class_name": "Flatten", "name": "end", "config": {"name": "end"}, "inbound_nodes": [[[output, 0, 0, {}]]]}
    body = {"name": "m", "layers": [start, relu, *entries, flat], "input_layers": [["in", 0, 0]]}
    model = {"class_name": "Functional", "config": body | {"output_layers": [["end", 0, 0]]}}
    return load(keras_file(folder / "x.h5", None, {}, model=model, version=version), trust=True)


def check(folder, entry, expected, x=X):
    net = network(folder, [entry], x.shape[1:])
    np.testing.assert_array_equal(forward(net, ours(x), dtype=np.float64), expected.reshape(len(x), -1))
    return net


R = np.maximum(X, 0)  # the layer "r"
C = [1.0, -2.0, 4.0, 0.5]  # one number for each channel
GETITEM, LIMITS = "__operators__.getitem", {"clip_value_min": 1, "clip_value_max": 2}
FULL = {"start": None, "stop": None, "step": None}

OLD = {
    "x + c": ("__operators__.add", ["in", 0, 0, {"y": 1.5, "name": None}], X + 1.5),
    "c + x": ("math.add", ["_CONSTANT_VALUE", -1, C, {"y": ["in", 0, 0]}], X + C),
    "x + y": ("__operators__.add", ["in", 0, 0, {"y": ["r", 0, 0], "name": None}], X + R),
    "x - c": ("math.subtract", ["in", 0, 0, {"y": C}], X - C),
    "c - x": ("math.subtract", ["_CONSTANT_VALUE", -1, 1.0, {"y": ["in", 0, 0]}], 1 - X),
    "x - y": ("math.subtract", ["in", 0, 0, {"y": ["r", 0, 0]}], X - R),
    "x * c": ("math.multiply", ["in", 0, 0, {"y": C}], X * C),
    "c * x": ("math.multiply", ["_CONSTANT_VALUE", -1, 2.0, {"y": ["in", 0, 0]}], 2 * X),
    "x / c": ("math.truediv", ["in", 0, 0, {"y": C}], X / C),
    "-x": ("math.negative", ["in", 0, 0, {"name": None}], -X),
    "bias": ("nn.bias_add", ["in", 0, 0, {"bias": C}], X + C),
    "relu": ("nn.relu", ["in", 0, 0, {"name": None}], R),
    "relu6": ("nn.relu6", ["in", 0, 0, {}], np.clip(X, 0, 6)),
    "leaky": ("nn.leaky_relu", ["in", 0, 0, {"alpha": 0.5}], np.where(X > 0, X, X / 2)),
    "clip": ("clip_by_value", ["in", 0, 0, {"clip_value_min": 0, "clip_value_max": 2}], np.clip(X, 0, 2)),
    "clip both": ("clip_by_value", ["in", 0, 0, {"clip_value_min": -2, "clip_value_max": 2.0}], np.clip(X, -2, 2)),
    "cast": ("cast", ["in", 0, 0, {"dtype": "float32"}], X),
    "concat": ("concat", [["r", 0, 0, {"axis": -1}], ["in", 0, 0, {"axis": -1}]], np.concatenate([R, X], axis=-1)),
    "reshape": ("reshape", ["in", 0, 0, {"shape": [-1, 5, 16]}], X.reshape(2, 5, 16)),
    "transpose": ("compat.v1.transpose", ["in", 0, 0, {"perm": [0, 2, 1, 3]}], X.transpose(0, 2, 1, 3)),
    "mean": ("math.reduce_mean", ["in", 0, 0, {"axis": [1, 2], "keepdims": True}], X.astype("f8").mean(axis=(1, 2))),
    "max": ("math.reduce_max", ["in", 0, 0, {"axis": [-3, -2]}], X.max(axis=(1, 2))),
    "expand": ("expand_dims", ["in", 0, 0, {"axis": -1}], X),
    "pad": ("compat.v1.pad", ["in", 0, 0, {"paddings": [[0, 0], [1, 0], [0, 2], [0, 0]]}],
            np.pad(X, ((0, 0), (1, 0), (0, 2), (0, 0)))),
    "slice": ("__operators__.getitem", ["in", 0, 0, {"slice_spec": [FULL, {"start": 1, "stop": -1, "step": 2}]}],
              X[:, 1:-1:2]),
    "reverse": ("__operators__.getitem",
                ["in", 0, 0, {"slice_spec": [{"class_name": "__ellipsis__"}, FULL | {"step": -1}]}], X[..., ::-1]),
    "one column": ("__operators__.getitem", ["in", 0, 0, {"slice_spec": [FULL, FULL, 2]}], X[:, :, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_operators_of_keras_2(name, tmp_path):
    function, inbound, expected = OLD[name]
    check(tmp_path, lambda_2(function, inbound), expected)


NUMPY = {"class_name": "__numpy__", "config": {"value": C, "dtype": "float32"}}
SLICE = {"class_name": "__slice__", "config": {"start": None, "stop": None, "step": -1}}
NEW = {
    "x + c": ("Add", [tensor("in"), NUMPY], {}, X + C),
    "x + y": ("Add", [tensor("in"), tensor("r")], {}, X + R),
    "c - x": ("Subtract", [1, tensor("in")], {}, 1 - X),
    "x * c": ("Multiply", [tensor("in"), 2.0], {}, 2 * X),
    "x / c": ("TrueDivide", [tensor("in"), 4.0], {}, X / 4),
    "-x": ("Negative", [tensor("in")], {}, -X),
    "relu": ("Relu", [tensor("in")], {}, R),
    "leaky": ("LeakyRelu", [tensor("in")], {"negative_slope": 0.25}, np.where(X > 0, X, X / 4)),
    "clip": ("Clip", [tensor("in")], {"x_min": 0, "x_max": 2}, np.clip(X, 0, 2)),
    "concat": ("Concatenate", [[tensor("r"), tensor("in")]], {"axis": -1}, np.concatenate([R, X], axis=-1)),
    "reshape": ("Reshape", [tensor("in")], {"newshape": [-1, 80]}, X.reshape(2, 80)),
    "reverse": ("GetItem", [tensor("in"), [{"class_name": "__ellipsis__", "config": {}}, SLICE]], {}, X[..., ::-1]),
    "mean": ("Mean", [tensor("in")], {"axis": [1, 2], "keepdims": False}, X.astype("f8").mean(axis=(1, 2))),
}


@pytest.mark.parametrize("module", ["keras.src.ops.numpy", None])
@pytest.mark.parametrize("name", NEW)
def test_operations_of_keras_3(name, module, tmp_path):
    kind, args, config, expected = NEW[name]
    check(tmp_path, operation_3(kind, args, module, **config), expected)


def test_a_model_that_scales_its_input(tmp_path):
    """What preprocess_input of MobileNet leaves in a model."""
    first = lambda_2("math.truediv", ["in", 0, 0, {"y": 128.0}], "a")
    last = lambda_2("math.subtract", ["a", 0, 0, {"y": 1.0}], "b")
    net = network(tmp_path, [first, last], X.shape[1:], "b")
    np.testing.assert_array_equal(forward(net, ours(X), dtype=np.float64), (X / 128 - 1).reshape(2, -1))
    assert [node.scales for node in net.nodes] == [False, True, True, False, False]


def test_places_of_vectors_and_slices(tmp_path):
    """Slices of a flattened image, set side by side in another order, and added to it."""
    x = whole(2, 3, 2, 2)
    flat = {"class_name": "Flatten", "name": "f", "config": {"name": "f"}, "inbound_nodes": [[["in", 0, 0, {}]]]}
    head = lambda_2("__operators__.getitem", ["f", 0, 0, {"slice_spec": [FULL, FULL | {"stop": 5}]}], "head")
    tail = lambda_2("__operators__.getitem", ["f", 0, 0, {"slice_spec": [FULL, FULL | {"start": 5}]}], "tail")
    both = lambda_2("concat", [["tail", 0, 0, {"axis": 1}], ["head", 0, 0, {"axis": 1}]], "both")
    total = lambda_2("math.add", ["both", 0, 0, {"y": ["f", 0, 0]}])
    net = network(tmp_path, [flat, head, tail, both, total], x.shape[1:])
    v = x.reshape(2, -1)
    expected = np.concatenate([v[:, 5:], v[:, :5]], axis=1) + v
    np.testing.assert_array_equal(forward(net, ours(x), dtype=np.float64), expected)


def test_a_dense_layer_behind_a_slice(tmp_path):
    x, k = whole(3, 7), whole(4, 2)
    back = {"start": 5, "stop": 1, "step": -1}
    part = lambda_2("__operators__.getitem", ["in", 0, 0, {"slice_spec": [FULL, back]}])
    start = {"class_name": "InputLayer", "name": "in", "config": {"name": "in", "batch_input_shape": [None, 7]}}
    start["inbound_nodes"] = []
    dense = {"class_name": "Dense", "name": "d", "config": {"name": "d", "units": 2, "use_bias": False}}
    dense["inbound_nodes"] = [[["op", 0, 0, {}]]]
    body = {"layers": [start, part, dense], "input_layers": [["in", 0, 0]], "output_layers": [["d", 0, 0]]}
    model = {"class_name": "Functional", "config": body}
    net = load(keras_file(tmp_path / "x.h5", None, {"d": {"kernel": k}}, model=model), trust=True)
    np.testing.assert_array_equal(forward(net, x, dtype=np.float64), x[:, 5:1:-1] @ k)


def test_softmax_says_its_axis(tmp_path):
    for axis, inside in ((-1, False), (1, True)):
        entry = lambda_2("nn.softmax", ["in", 0, 0, {"axis": axis}])
        if inside:
            with pytest.raises(UnsupportedError, match="the axis of the channels"):
                network(tmp_path, [entry], X.shape[1:])
        else:
            assert network(tmp_path, [entry], X.shape[1:])["op"].orders


def test_pads_wait_for_a_pool(tmp_path):
    pad = lambda_2("pad", ["in", 0, 0, {"paddings": [[0, 0], [1, 1], [1, 1], [0, 0]]}], "pad")
    pool = {"class_name": "MaxPooling2D", "name": "p", "config": {"name": "p", "pool_size": [2, 2], "strides": [1, 1]}}
    pool["inbound_nodes"] = [[["pad", 0, 0, {}]]]
    net = network(tmp_path, [pad, pool], X.shape[1:], "p")
    expected = largest(np.pad(X, ((0, 0), (1, 1), (1, 1), (0, 0))), 2, 1)
    np.testing.assert_array_equal(forward(net, ours(X), dtype=np.float64), expected.reshape(2, -1))


@pytest.mark.parametrize(
    "entry, error, words",
    [
        (lambda_2("os.system", ["in", 0, 0, {}]), UnsupportedError, "applies the function 'os.system' to a tensor"),
        (lambda_2("linalg.matmul", ["in", 0, 0, {"b": ["r", 0, 0]}]), UnsupportedError, "use a Dense layer"),
        (lambda_2("math.multiply", ["in", 0, 0, {"y": ["r", 0, 0]}]), UnsupportedError, "multiplies two tensors"),
        (lambda_2("math.truediv", ["_CONSTANT_VALUE", -1, 1.0, {"y": ["in", 0, 0]}]), UnsupportedError, "by a tensor"),
        (lambda_2("math.truediv", ["in", 0, 0, {"y": 0.0}]), ImportRefused, "divides by 0"),
        (lambda_2("math.add", ["in", 0, 0, {}]), ImportRefused, "no argument 'y'"),
        (lambda_2("math.add", ["in", 0, 0, {"y": "much"}]), ImportRefused, "finite numbers"),
        (lambda_2("math.add", ["in", 0, 0, {"y": [1.0, 2.0]}]), ImportRefused, "does not fit"),
        (lambda_2("concat", [["r", 0, 0, {"axis": 1}], ["in", 0, 0, {"axis": 1}]]), UnsupportedError, "channel axis"),
        (lambda_2("reshape", ["in", 0, 0, {"shape": [2, 80]}]), UnsupportedError, "sizes of a sample"),
        (lambda_2("cast", ["in", 0, 0, {"dtype": "int32"}]), UnsupportedError, "real numbers"),
        (lambda_2("clip_by_value", ["in", 0, 0, LIMITS]), UnsupportedError, "0 .. a"),
        (lambda_2("math.reduce_mean", ["in", 0, 0, {"axis": -1}]), UnsupportedError, "all positions of a map"),
        (lambda_2("pad", ["in", 0, 0, {"paddings": [[0, 0], [1, 0], [0, 2], [1, 0]]}]), UnsupportedError, "channels"),
        (lambda_2(GETITEM, ["in", 0, 0, {"slice_spec": [0]}]), UnsupportedError, "out of the batch"),
        (lambda_2(GETITEM, ["in", 0, 0, {"slice_spec": [FULL, 9]}]), ImportRefused, "do not fit"),
        (lambda_2(GETITEM, ["in", 0, 0, {"slice_spec": [FULL] * 5}]), ImportRefused, "its tensor has 4"),
        (lambda_2(GETITEM, ["in", 0, 0, {"slice_spec": [FULL, [1]]}]), UnsupportedError, "is indexed by"),
        (lambda_2("transpose", ["in", 0, 0, {"perm": [1, 0, 2, 3]}]), UnsupportedError, "has to stay first"),
        (operation_3("Conv", [tensor("in")], "keras.src.ops.nn"), UnsupportedError, "applies the function 'Conv'"),
        (operation_3("Add", [tensor("in"), tensor("r")], "mine.ops"), UnsupportedError, "the user's own"),
    ],
)  # fmt: skip
def test_operators_that_are_refused(entry, error, words, tmp_path):
    with pytest.raises(error, match=f"layer 'op' .{entry['class_name']}.: .*{words}"):
        network(tmp_path, [entry], X.shape[1:])
