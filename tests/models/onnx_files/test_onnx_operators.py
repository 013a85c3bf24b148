"""Each operator of ONNX alone, in every form that is taken, against other evaluators; and how others are refused."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx_models import by_runtime, check, kinds, model, saved  # noqa: E402

from intsnn.errors import IntsnnError, UnsupportedError  # noqa: E402
from intsnn.models.onnx.load import load  # noqa: E402

RNG = np.random.default_rng(5)


def normal(*shape):
    return RNG.normal(size=shape)


def ints(*values):
    return np.array(values, np.int64)


def one(kind, inputs="x", **attributes):
    """A single node."""
    return [(kind, inputs, "y", attributes)]


IMAGE, SIGNAL, VECTOR = (4, 6, 7), (4, 9), (6,)
W = {"w": normal(6, 4, 3, 2), "b": normal(6)}
W1 = {"w": normal(6, 4, 3), "b": normal(6)}
T = {"w": normal(4, 3, 3, 2), "b": normal(3)}
NORM = {"g": normal(4), "b": normal(4), "m": normal(4), "v": np.abs(normal(4)) + 0.1}

# Name -> (nodes, shape of the input, arrays, opset, kinds of nodes that are expected or None)
CASES = {
    "conv": (one("Conv", "x,w"), IMAGE, W, 17, ["Conv2d"]),
    "conv bias": (one("Conv", "x,w,b", strides=[2, 1], pads=[1, 0, 2, 1]), IMAGE, W, 11, ["Conv2d"]),
    "conv dilated": (one("Conv", "x,w,b", dilations=[2, 3], kernel_shape=[3, 2]), IMAGE, W, 22, ["Conv2d"]),
    "conv groups": (one("Conv", "x,w", group=2), IMAGE, {"w": normal(6, 2, 3, 3)}, 7, ["Conv2d"]),
    "conv depthwise": (one("Conv", "x,w", group=4, pads=[1] * 4), IMAGE, {"w": normal(8, 1, 3, 3)}, 17, ["Conv2d"]),
    "conv upper": (one("Conv", "x,w", auto_pad="SAME_UPPER", strides=[2, 2]), IMAGE, W, 17, ["Conv2d"]),
    "conv lower": (one("Conv", "x,w", auto_pad="SAME_LOWER", strides=[2, 3]), IMAGE, W, 17, ["Conv2d"]),
    "conv valid": (one("Conv", "x,w", auto_pad="VALID"), IMAGE, W, 17, ["Conv2d"]),
    "conv 1d": (one("Conv", "x,w,b", strides=[2], pads=[2, 1]), SIGNAL, W1, 17, ["Conv2d"]),
    "conv 1d dilated": (one("Conv", "x,w", dilations=[3], auto_pad="SAME_UPPER"), SIGNAL, W1, 17, ["Conv2d"]),
    "transposed": (one("ConvTranspose", "x,w,b"), IMAGE, T, 17, ["Conv2d"]),
    "transposed stride": (
        one("ConvTranspose", "x,w,b", strides=[2, 3], pads=[1, 0, 1, 1], output_padding=[1, 2]), IMAGE, T, 17,
        ["Upsample2d", "Conv2d"],
    ),
    "transposed groups": (
        one("ConvTranspose", "x,w", group=2, dilations=[2, 1], strides=[1, 2]), IMAGE, {"w": normal(4, 3, 2, 2)}, 11,
        ["Upsample2d", "Conv2d"],
    ),
    "transposed crop": (
        one("ConvTranspose", "x,w", pads=[3, 2, 3, 2]), IMAGE, T, 17, ["Select", "Conv2d"],
    ),
    "transposed shape": (
        one("ConvTranspose", "x,w", strides=[2, 2], output_shape=[12, 13]), IMAGE, T, 17, ["Upsample2d", "Conv2d"],
    ),
    "transposed 1d": (
        one("ConvTranspose", "x,w,b", strides=[2], pads=[1, 1], output_padding=[1]), SIGNAL,
        {"w": normal(4, 3, 3), "b": normal(3)}, 17, ["Upsample2d", "Conv2d"],
    ),
    "gemm": (one("Gemm", "x,w,b"), VECTOR, {"w": normal(6, 5), "b": normal(5)}, 17, ["Affine"]),
    "gemm scaled": (
        one("Gemm", "x,w,b", alpha=0.5, beta=2.0, transB=1), VECTOR, {"w": normal(5, 6), "b": normal(1, 5)}, 13,
        ["Affine"],
    ),
    "gemm one bias": (one("Gemm", "x,w,b", transB=1), VECTOR, {"w": normal(5, 6), "b": normal(1)}, 9, ["Affine"]),
    "gemm plain": (one("Gemm", "x,w"), VECTOR, {"w": normal(6, 5)}, 17, ["Affine"]),
    "matmul": (one("MatMul", "x,w"), VECTOR, {"w": normal(6, 5)}, 17, ["Affine"]),
    "matmul add": (
        [("MatMul", "x,w", "m", {}), ("Add", "b,m", "y", {})], VECTOR, {"w": normal(6, 5), "b": normal(5)}, 17,
        ["Affine"],
    ),
    "matmul rows": (
        [("MatMul", "x,w", "m", {}), ("Add", "m,b", "y", {})], SIGNAL, {"w": normal(9, 5), "b": normal(5)}, 17,
        ["Select", "Conv2d", "Select"],
    ),
    "matmul one row": (one("MatMul", "x,w"), (1, 6), {"w": normal(1, 6, 5)}, 17, ["Flatten", "Affine"]),
    "conv add": (
        [("Conv", "x,w", "m", {}), ("Add", "m,b", "y", {})], IMAGE, {"w": W["w"], "b": normal(6, 1, 1)}, 17, ["Conv2d"],
    ),
    "norm": (one("BatchNormalization", "x,g,b,m,v", epsilon=0.01), IMAGE, NORM, 17, ["BatchNorm"]),
    "norm 1d": (one("BatchNormalization", "x,g,b,m,v"), SIGNAL, NORM, 9, ["BatchNorm"]),
    "norm vector": (one("BatchNormalization", "x,g,b,m,v"), (4,), NORM, 15, ["BatchNorm"]),
    "relu": (one("Relu"), IMAGE, {}, 17, ["ReLU"]),
    "relu6": (one("Clip", "x,l,h"), IMAGE, {"l": np.array(0.0), "h": np.array(1.5)}, 17, ["ReLU"]),
    "relu6 old": (one("Clip", min=0.0, max=0.75), IMAGE, {}, 7, ["ReLU"]),
    "clip below": (one("Clip", "x,l"), IMAGE, {"l": np.array(0.0)}, 12, ["ReLU"]),
    "clip two sides": (one("Clip", "x,l,h"), VECTOR, {"l": np.array(-0.5), "h": np.array(0.5)}, 17, ["HardTanh"]),
    "clip nothing": ([("Clip", "x", "c", {}), ("Relu", "c", "y", {})], VECTOR, {}, 17, ["ReLU"]),
    "maximum": (one("Max", "z,x"), IMAGE, {"z": np.array(0.0)}, 17, ["ReLU"]),
    "leaky": (one("LeakyRelu", alpha=0.25), IMAGE, {}, 17, ["LeakyReLU"]),
    "prelu": (one("PRelu", "x,s"), IMAGE, {"s": np.full((4, 1, 1), 0.25)}, 17, ["LeakyReLU"]),
    "max pool": (one("MaxPool", kernel_shape=[2, 3], strides=[2, 2]), IMAGE, {}, 17, ["MaxPool2d"]),
    "max pool ceil": (one("MaxPool", kernel_shape=[2, 2], strides=[2, 3], ceil_mode=1), IMAGE, {}, 17, ["MaxPool2d"]),
    "max pool ceil pads": (
        one("MaxPool", kernel_shape=[3], strides=[3], pads=[1, 1], ceil_mode=1), (2, 5), {}, 17, ["MaxPool2d"],
    ),
    "max pool pads": (one("MaxPool", kernel_shape=[3, 3], pads=[1, 0, 1, 2]), IMAGE, {}, 12, ["MaxPool2d"]),
    "max pool same": (
        one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"), IMAGE, {}, 11, ["MaxPool2d"],
    ),
    "max pool 1d": (one("MaxPool", kernel_shape=[3], strides=[2], pads=[1, 1]), SIGNAL, {}, 17, ["MaxPool2d"]),
    "average": (one("AveragePool", kernel_shape=[2, 3], strides=[2, 2]), IMAGE, {}, 17, ["AvgPool2d"]),
    "average pads": (one("AveragePool", kernel_shape=[3, 3], pads=[1] * 4), IMAGE, {}, 19, ["AvgPool2d"]),
    "average counted": (
        one("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1), IMAGE, {}, 17, ["AvgPool2d"],
    ),
    "average ceil": (
        one("AveragePool", kernel_shape=[4, 4], strides=[3, 3], ceil_mode=1), IMAGE, {}, 22, ["AvgPool2d"],
    ),
    "average 1d": (one("AveragePool", kernel_shape=[3], strides=[3]), SIGNAL, {}, 17, ["AvgPool2d"]),
    "global average": (one("GlobalAveragePool"), IMAGE, {}, 17, ["AvgPool2d", "Flatten"]),
    "global average 1d": (one("GlobalAveragePool"), SIGNAL, {}, 17, ["AvgPool2d", "Flatten"]),
    "global max": (one("GlobalMaxPool"), IMAGE, {}, 17, ["MaxPool2d", "Flatten"]),
    "mean": (one("ReduceMean", axes=[2, -1], keepdims=0), IMAGE, {}, 13, ["AvgPool2d", "Flatten"]),
    "mean new": (one("ReduceMean", "x,a"), IMAGE, {"a": ints(2, 3)}, 18, ["AvgPool2d", "Flatten"]),
    "mean of channels": (one("ReduceMean", axes=[1], keepdims=0), IMAGE, {}, 13, None),
    "mean of rows": (one("ReduceMean", axes=[2]), IMAGE, {}, 13, None),
    "largest": (one("ReduceMax", axes=[2, 3], keepdims=0), IMAGE, {}, 13, ["MaxPool2d", "Flatten"]),
    "branches": (
        [("Relu", "x", "r", {}), ("Add", "r,x", "y", {})], IMAGE, {}, 17, ["ReLU", "Add"],
    ),
    "branches three": (
        [("Relu", "x", "r", {}), ("LeakyRelu", "x", "l", {}), ("Sum", "r,x,l", "y", {})], VECTOR, {}, 17, None,
    ),
    "difference": (
        [("Relu", "x", "r", {}), ("Sub", "r,x", "y", {})], IMAGE, {}, 17, ["ReLU", "BatchNorm", "Add"],
    ),
    "add channels": (one("Add", "x,c"), IMAGE, {"c": normal(1, 4, 1, 1)}, 17, ["BatchNorm"]),
    "add one": (one("Add", "c,x"), IMAGE, {"c": np.array(0.5)}, 17, ["BatchNorm"]),
    "add values": (one("Add", "x,c"), VECTOR, {"c": normal(6)}, 17, ["BatchNorm"]),
    "add columns": (one("Add", "x,c"), IMAGE, {"c": normal(7)}, 17, None),
    "add places": (one("Add", "x,c"), IMAGE, {"c": normal(4, 6, 7)}, 17, None),
    "sub constant": (one("Sub", "x,c"), IMAGE, {"c": normal(4, 1, 1)}, 17, ["BatchNorm"]),
    "sub from": (one("Sub", "c,x"), IMAGE, {"c": normal(4, 1, 1)}, 17, ["BatchNorm"]),
    "mul": (one("Mul", "x,c"), IMAGE, {"c": normal(4, 1, 1)}, 17, ["BatchNorm"]),
    "div": (one("Div", "x,c"), VECTOR, {"c": np.array([3.0])}, 17, ["BatchNorm"]),
    "negative": (one("Neg"), VECTOR, {}, 17, ["BatchNorm"]),
    "concat": (
        [("Relu", "x", "r", {}), ("Concat", "x,r,x", "y", {"axis": 1})], IMAGE, {}, 17, ["ReLU", "Concat"],
    ),
    "concat vectors": (
        [("Relu", "x", "r", {}), ("Concat", "x,r", "y", {"axis": -1})], VECTOR, {}, 17, ["ReLU", "Concat"],
    ),
    "concat columns": ([("Relu", "x", "r", {}), ("Concat", "x,r", "y", {"axis": 3})], IMAGE, {}, 17, None),
    "split": (
        [("Split", "x,s", "a,b", {"axis": 1}), ("Relu", "b", "r", {}), ("Concat", "r,a", "y", {"axis": 1})], IMAGE,
        {"s": ints(1, 3)}, 17, None,
    ),
    "split old": ([("Split", "x", "a,b", {"axis": 2}), ("Sub", "a,b", "y", {})], IMAGE, {}, 11, None),
    "flatten": (one("Flatten"), IMAGE, {}, 17, ["Flatten"]),
    "reshape vector": (one("Reshape", "x,s"), IMAGE, {"s": ints(0, -1)}, 17, ["Flatten"]),
    "reshape back": (
        [("Flatten", "x", "f", {}), ("Reshape", "f,s", "i", {}), ("Relu", "i", "y", {})], IMAGE,
        {"s": ints(-1, 4, 6, 7)}, 17, ["ReLU"],
    ),
    "reshape otherwise": (
        [("Flatten", "x", "f", {}), ("Relu", "f", "r", {}), ("Flatten", "r", "g", {}), ("Reshape", "g,s", "y", {})],
        IMAGE, {"s": ints(-1, 7, 4, 6)}, 17, ["Flatten", "ReLU", "Select"],
    ),
    "reshape flattened": (
        [("Relu", "x", "r", {}), ("Flatten", "r", "f", {}), ("Relu", "f", "q", {}), ("Reshape", "f,s", "i", {}),
         ("Conv", "i,k", "y", {})], IMAGE, {"s": ints(-1, 7, 4, 6), "k": normal(2, 7, 2, 2)}, 17,
        ["ReLU", "Select", "Conv2d"],
    ),
    "reshape two ways": (
        [("Flatten", "x", "f", {}), ("Gemm", "f,g", "q", {}), ("Reshape", "f,s", "i", {}), ("Conv", "i,k", "c", {}),
         ("Flatten", "c", "d", {}), ("Add", "d,q", "y", {})], (1, 2, 6),
        {"s": ints(-1, 3, 2, 2), "k": normal(2, 3, 1, 1), "g": normal(12, 8)}, 17, None,
    ),
    "reshape input": (
        [("Reshape", "x,s", "i", {}), ("Conv", "i,w", "y", {})], (168,), {"s": ints(-1, 4, 6, 7)} | W, 17, ["Conv2d"],
    ),
    "squeeze": (
        [("GlobalAveragePool", "x", "g", {}), ("Squeeze", "g,a", "y", {})], IMAGE, {"a": ints(2, 3)}, 17,
        ["AvgPool2d", "Flatten"],
    ),
    "squeeze old": (
        [("GlobalAveragePool", "x", "g", {}), ("Squeeze", "g", "y", {"axes": [-1, 2]})], IMAGE, {}, 11, None,
    ),
    "unsqueeze": (
        [("Unsqueeze", "x,a", "u", {}), ("Conv", "u,w", "y", {})], (6, 7), {"a": ints(1), "w": normal(2, 1, 3, 3)}, 17,
        ["Conv2d"],
    ),
    "transpose": ([("Transpose", "x", "y", {"perm": [0, 2, 3, 1]})], IMAGE, {}, 17, ["Select"]),
    "channels last": (
        [("Transpose", "x", "t", {"perm": [0, 2, 3, 1]}), ("Transpose", "t", "b", {"perm": [0, 3, 1, 2]}),
         ("Relu", "b", "y", {})], IMAGE, {}, 17, ["ReLU"],
    ),
    "shuffle": (
        [("Reshape", "x,s", "a", {}), ("Transpose", "a", "b", {"perm": [0, 2, 1, 3, 4]}), ("Reshape", "b,t", "c", {}),
         ("Relu", "c", "y", {})], IMAGE, {"s": ints(0, 2, 2, 6, 7), "t": ints(0, 4, 6, 7)}, 17, ["Select", "ReLU"],
    ),
    "relu of five axes": (
        [("Reshape", "x,s", "a", {}), ("Relu", "a", "b", {}), ("Reshape", "b,t", "y", {})], IMAGE,
        {"s": ints(0, 2, 2, 6, 7), "t": ints(0, 4, 6, 7)}, 17, ["ReLU"],
    ),
    "pad": (one("Pad", "x,p"), IMAGE, {"p": ints(0, 0, 1, 2, 0, 1, 0, 1)}, 13, ["Select"]),
    "pad old": (one("Pad", pads=[0, 0, 1, 2, 0, 0, 0, 1]), IMAGE, {}, 10, ["Select"]),
    "pad conv": (
        [("Pad", "x,p", "a", {}), ("Conv", "a,w", "y", {"pads": [1, 0, 0, 1]})], IMAGE,
        {"p": ints(0, 0, 1, 2, 0, 0, 0, 1)} | W, 17, ["Conv2d"],
    ),
    "pad axes": (one("Pad", "x,p,v,a"), IMAGE, {"p": ints(1, 2), "a": ints(-1), "v": np.array(0.0)}, 18, ["Select"]),
    "pad edge": (one("Pad", "x,p", mode="edge"), IMAGE, {"p": ints(0, 0, 1, 2, 0, 0, 0, 1)}, 13, ["Select"]),
    "pad reflect": (one("Pad", "x,p", mode="reflect"), IMAGE, {"p": ints(0, 0, 1, 2, 0, 0, 3, 1)}, 13, ["Select"]),
    "pad negative": (one("Pad", "x,p"), IMAGE, {"p": ints(0, 0, -1, 2, 0, 0, 0, -3)}, 13, ["Select"]),
    "slice": (one("Slice", "x,s,e,a"), IMAGE, {"s": ints(1, -4), "e": ints(3, 99), "a": ints(1, 3)}, 13, ["Select"]),
    "slice steps": (
        one("Slice", "x,s,e,a,t"), IMAGE, {"s": ints(-1, 0), "e": ints(-99, 6), "a": ints(3, 2), "t": ints(-2, 2)}, 13,
        ["Select"],
    ),
    "slice old": (one("Slice", starts=[1, 0], ends=[4, 2], axes=[2, 1]), IMAGE, {}, 9, ["Select"]),
    "gather": (one("Gather", "x,i", axis=1), IMAGE, {"i": ints(3, -4, 1)}, 13, ["Select"]),
    "gather one": (one("Gather", "x,i", axis=2), IMAGE, {"i": np.array(2)}, 13, ["Select"]),
    "depth to space": (one("DepthToSpace", blocksize=2), (8, 3, 2), {}, 13, ["Select"]),
    "pixel shuffle": (one("DepthToSpace", blocksize=2, mode="CRD"), (8, 3, 2), {}, 13, ["Select"]),
    "space to depth": (one("SpaceToDepth", blocksize=2), (3, 4, 6), {}, 13, ["Select"]),
    "expand": (one("Expand", "x,s"), (4, 1, 3), {"s": ints(1, 4, 2, 3)}, 13, ["Select"]),
    "upsample": (one("Upsample", "x,s"), IMAGE, {"s": np.array([1, 1, 2, 3], np.float32)}, 9, ["Upsample2d"]),
    "upsample old": (one("Upsample", scales=[1.0, 1.0, 3.0, 1.0]), IMAGE, {}, 7, ["Upsample2d"]),
    "resize 10": (one("Resize", "x,s"), IMAGE, {"s": np.array([1, 1, 2, 2], np.float32)}, 10, ["Upsample2d"]),
    "resize": (
        one("Resize", "x,,s", coordinate_transformation_mode="asymmetric", nearest_mode="floor"), IMAGE,
        {"s": np.array([1, 1, 2, 3], np.float32)}, 13, ["Upsample2d"],
    ),
    "resize half": (one("Resize", "x,,s"), IMAGE, {"s": np.array([1, 1, 3, 3], np.float32)}, 18, ["Upsample2d"]),
    "resize sizes": (
        [("Shape", "x", "a", {}), ("Slice", "a,zero,two", "c", {}), ("Concat", "c,s", "d", {"axis": 0}),
         ("Resize", "x,,,d", "y", {})], IMAGE, {"zero": ints(0), "two": ints(2), "s": ints(12, 7)}, 13, ["Upsample2d"],
    ),
    "resize 1d": (one("Resize", "x,,s"), SIGNAL, {"s": np.array([1, 1, 2], np.float32)}, 13, ["Upsample2d"]),
    "identity": ([("Identity", "x", "i", {}), ("Relu", "i", "y", {})], IMAGE, {}, 17, ["ReLU"]),
    "dropout": ([("Dropout", "x", "i,mask", {}), ("Relu", "i", "y", {})], IMAGE, {}, 13, ["ReLU"]),
    "cast": ([("Cast", "x", "i", {"to": 11}), ("Relu", "i", "y", {})], IMAGE, {}, 13, ["ReLU"]),
    "softmax": (one("Softmax"), VECTOR, {}, 17, ["Softmax"]),
    "softmax old": (one("Softmax"), IMAGE, {}, 11, None),
    "softmax channels": (one("Softmax", axis=1), IMAGE, {}, 13, ["Softmax"]),
    "softmax columns": (one("Softmax"), IMAGE, {}, 13, None),
    "sigmoid": (one("Sigmoid"), VECTOR, {}, 17, ["Sigmoid"]),
    "view": (  # as exporters write x.view(x.size(0), -1)
        [("Shape", "x", "s", {}), ("Gather", "s,zero", "n", {"axis": 0}), ("Unsqueeze", "n,axis", "u", {}),
         ("Concat", "u,rest", "t", {"axis": 0}), ("Reshape", "x,t", "f", {}), ("Relu", "f", "y", {})], IMAGE,
        {"zero": np.array(0), "axis": ints(0), "rest": ints(-1)}, 17, ["Flatten", "ReLU"],
    ),
    "view of sizes": (
        [("Shape", "x", "s", {"start": 1, "end": 3}), ("ReduceProd", "s", "p", {"keepdims": 1}),
         ("Constant", "", "c", {"value_ints": [0]}), ("Concat", "c,p,m", "t", {"axis": 0}),
         ("Reshape", "x,t", "y", {})], IMAGE, {"m": ints(-1)}, 17, None,
    ),
    "sizes by a condition": (  # as exporters write unflatten
        [("Mod", "d,two", "m", {}), ("Equal", "m,zero", "e", {}), ("Not", "e", "n", {}), ("Where", "n,s,t", "w", {}),
         ("Reshape", "x,w", "y", {})], IMAGE,
        {"d": np.array(7), "two": np.array(2), "zero": np.array(0), "s": ints(0, -1), "t": ints(1, 1)}, 17, ["Flatten"],
    ),
    "constant weight": (
        [("Constant", "", "c", {"value": onnx.numpy_helper.from_array(normal(5, 6))}),
         ("Transpose", "c", "t", {}), ("MatMul", "x,t", "y", {})], VECTOR, {}, 13, ["Affine"],
    ),
    "folded weight": (
        [("Mul", "w,two", "d", {}), ("Reshape", "d,s", "r", {}), ("Gemm", "x,r", "y", {})], VECTOR,
        {"w": normal(30), "two": np.array(2.0), "s": ints(6, 5)}, 13, ["Affine"],
    ),
}  # fmt: skip


# What the reference evaluator does not compute, or not as the specification has it.
# What onnxruntime does not compute: constants of float64, gaps with "same".
OTHERS = {"cast", "constant weight", "conv 1d dilated"}
BEYOND = {
    "transposed groups", "transposed shape", "norm 1d", "max pool pads", "pad negative", "upsample old", "resize 10",
    "softmax old",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in CASES if name not in BEYOND])
def test_operator(tmp_path, name):
    nodes, shape, arrays, opset, wanted = CASES[name]
    x = np.random.default_rng(1).normal(size=(2, *shape))
    net = check(tmp_path, model(nodes, shape, arrays, opset=opset), x)
    assert wanted is None or kinds(net) == wanted


@pytest.mark.parametrize("name", [name for name in CASES if name not in OTHERS])
def test_operator_in_the_runtime(tmp_path, name):
    """The same in float32, by other people's code again."""
    pytest.importorskip("onnxruntime")
    nodes, shape, arrays, opset, wanted = CASES[name]
    arrays = {key: value.astype(np.float32) if value.dtype.kind == "f" else value for key, value in arrays.items()}
    x = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    net = check(tmp_path, model(nodes, shape, arrays, opset=opset, dtype=np.float32), x, by_runtime)
    assert wanted is None or kinds(net) == wanted


FLOATS = {"w": W["w"].astype(np.float16), "b": W["b"].astype(np.float16)}


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_floats(tmp_path, dtype):
    arrays = {name: value.astype(dtype) for name, value in W.items()}
    made = model(one("Conv", "x,w,b"), IMAGE, arrays, dtype=dtype)
    net = load(saved(tmp_path / "m.onnx", made))
    assert net.nodes[1].weight.dtype == np.float32 and np.array_equal(net.nodes[1].weight, arrays["w"])


REFUSED = {
    "lstm": (one("LSTM", "x,w,w", hidden_size=3), SIGNAL, {"w": normal(1, 2, 2)}, "LSTM.*recurrent"),
    "gelu": (one("Gelu"), VECTOR, {}, "Gelu.*no integer spiking counterpart"),
    "hard swish": (one("HardSwish"), VECTOR, {}, "HardSwish.*no integer"),
    "hard sigmoid": (one("HardSigmoid"), VECTOR, {}, "HardSigmoid.*no integer"),
    "silu": ([("Sigmoid", "x", "s", {}), ("Mul", "x,s", "y", {})], VECTOR, {}, r"'y' \(Mul\).*SiLU"),
    "tanh": (one("Tanh"), VECTOR, {}, "Tanh.*Clip from -a to a"),
    "unknown": (one("Einsum", equation="ij->ij"), VECTOR, {}, "'y' .Einsum.: is not supported: operators that are"),
    "attention": ([("MatMul", "x,x", "y", {})], (4, 4), {}, "attention"),
    "layer norm": (one("LayerNormalization", "x,w"), VECTOR, {"w": normal(6)}, "values at hand"),
    "training norm": (one("BatchNormalization", "x,g,b,m,v", training_mode=1), IMAGE, NORM, "eval mode"),
    "clip": (one("Clip", "x,l,h"), VECTOR, {"l": np.array(-1.0), "h": np.array(2.0)}, r"clips to -1.0 .. 2.0; 0 .."),
    "slope": (one("LeakyRelu", alpha=1.5), VECTOR, {}, "slope is 1.5; 0 to 1"),
    "slopes": (one("PRelu", "x,s"), VECTOR, {"s": np.linspace(0, 1, 6)}, "differ between channels"),
    "pool dilation": (one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), IMAGE, {}, "without gaps"),
    "three axes": (one("Conv", "x,w"), (1, 3, 3, 3), {"w": normal(1, 1, 2, 2, 2)}, "images .N, C, H, W. are taken"),
    "batch gone": (one("Reshape", "x,s"), VECTOR, {"s": ints(-1)}, "batch has to stay"),
    "batch moved": (one("Transpose", perm=[1, 0]), VECTOR, {}, "batch has to stay"),
    "trans A": (one("Gemm", "x,w", transA=1), (1,), {"w": normal(1, 2)}, "transA mixes the samples"),
    "pad value": (one("Pad", "x,p,v"), VECTOR, {"p": ints(0, 1, 0, 1), "v": np.array(1.0)}, "pads with 1; only zeros"),
    "linear": (one("Resize", "x,,s", mode="linear"), IMAGE, {"s": np.array([1, 1, 2, 2], np.float32)}, "'nearest'"),
    "factor": (one("Resize", "x,,s"), IMAGE, {"s": np.array([1, 1, 1.5, 2], np.float32)}, "whole factors"),
    "places": (
        one("Resize", "x,,s", nearest_mode="floor"), IMAGE, {"s": np.array([1, 1, 2, 2], np.float32)}, "do not repeat"
    ),
    "weights computed": ([("Relu", "x", "r", {}), ("Conv", "x,r", "y", {})], IMAGE, {}, "weight is computed"),
    "log inside": (
        [("LogSoftmax", "x", "l", {}), ("Relu", "l", "y", {})], VECTOR, {}, "only left out at the end"
    ),
    "dropout": (one("Dropout", "x,r,t"), VECTOR, {"r": np.array(0.5), "t": np.array(True)}, "eval mode"),
    "mask": ([("Dropout", "x", "d,m", {}), ("Relu", "m", "y", {})], VECTOR, {}, "is not taken"),
    "divided by": (one("Div", "c,x"), VECTOR, {"c": np.array(1.0)}, "only constants are divided by"),
    "repeats": (one("Add", "x,c"), (1, 6, 7), {"c": normal(3, 1, 1)}, "repeats a value"),
    "branches": (
        [("GlobalAveragePool", "x", "g", {}), ("Add", "x,g", "y", {})], IMAGE, {}, "branches have to be of one shape"
    ),
    "cast": (one("Cast", to=7), VECTOR, {}, "casts a computed value"),
    "argmax": (one("ArgMax", axis=1), VECTOR, {}, "end with the scores"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name_and_reason(tmp_path, name):
    nodes, shape, arrays, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message) as caught:
        load(saved(tmp_path / "m.onnx", model(nodes, shape, arrays, opset=20)))
    assert "\n" not in str(caught.value) and "node '" in str(caught.value)


BAD = {
    "weights too few": (one("Conv", "x,w"), IMAGE, {"w": normal(6, 3, 3, 3)}, "does not fit 4 input channels"),
    "weights of signals": (one("Conv", "x,w"), IMAGE, {"w": normal(6, 4, 3)}, "needs 4 axes"),
    "kernel": (one("Conv", "x,w", kernel_shape=[5, 5]), IMAGE, W, "its weight has .3, 2."),
    "window": (one("MaxPool", kernel_shape=[9, 9]), IMAGE, {}, "does not fit"),
    "pads": (one("Conv", "x,w", pads=[1, 1]), IMAGE, W, "4 numbers are needed"),
    "stride": (one("Conv", "x,w", strides=[0, 1]), IMAGE, W, "from 1 to"),
    "auto pad": (one("Conv", "x,w", auto_pad="SOME"), IMAGE, W, "NOTSET, VALID"),
    "reshape": (one("Reshape", "x,s"), VECTOR, {"s": ints(1, 4)}, "does not fit"),
    "reshape twice": (one("Reshape", "x,s"), VECTOR, {"s": ints(-1, -1)}, "does not fit"),
    "axes": (one("Unsqueeze", "x,a"), VECTOR, {"a": ints(9)}, "cannot be"),
    "perm": (one("Transpose", perm=[0, 1, 1]), SIGNAL, {}, "cannot be"),
    "gather": (one("Gather", "x,i", axis=1), VECTOR, {"i": ints(6)}, "not within an axis of 6"),
    "slice": (one("Slice", "x,s,e"), VECTOR, {"s": ints(0), "e": ints(1, 2)}, "one length"),
    "nothing left": (one("Slice", "x,s,e,a"), VECTOR, {"s": ints(3), "e": ints(3), "a": ints(1)}, "shape"),
    "split": ([("Split", "x,s", "a,y", {"axis": 1})], VECTOR, {"s": ints(1, 3)}, "splits 6"),
    "gemm": (one("Gemm", "x,w"), VECTOR, {"w": normal(5, 4)}, "takes 5 values"),
    "gemm of maps": (one("Gemm", "x,w"), IMAGE, {"w": normal(5, 4)}, "flatten it first"),
    "bias": (one("Gemm", "x,w,b"), VECTOR, {"w": normal(6, 4), "b": normal(3)}, "one number for each of 4 outputs"),
    "zero": (one("Div", "x,c"), VECTOR, {"c": np.array(0.0)}, "divides by 0"),
    "infinite": (one("Mul", "x,c"), VECTOR, {"c": np.array(np.inf)}, "not finite"),
    "blocks": (one("DepthToSpace", blocksize=3), IMAGE, {}, "do not fit"),
    "attribute": (one("LeakyRelu", alpha=[1, 2]), VECTOR, {}, "attribute alpha is of kind"),
    "concat": (
        [("GlobalAveragePool", "x", "g", {}), ("Concat", "x,g", "y", {"axis": 1})], IMAGE, {}, "fit beside each other"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be(tmp_path, name):
    nodes, shape, arrays, message = BAD[name]
    with pytest.raises(IntsnnError, match=message) as caught:
        load(saved(tmp_path / "m.onnx", model(nodes, shape, arrays, opset=20)))
    assert "\n" not in str(caught.value)


def test_average_of_counted_zeros_and_places_behind_them(tmp_path):
    """Zeros of the padding count, what a rounded size reaches behind them does not: a sum by hand."""
    pads = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4, "ceil_mode": 1, "count_include_pad": 1}
    x = np.random.default_rng(1).normal(size=(2, 3, 6, 6))
    net = load(saved(tmp_path / "m.onnx", model(one("AveragePool", **pads), (3, 6, 6), opset=22)))
    from intsnn.network.floating import forward

    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    wanted = np.stack(
        [np.stack([padded[:, :, i : i + 3, j : j + 3].mean((2, 3)) for j in (0, 2, 4, 6)], -1) for i in (0, 2, 4, 6)],
        -2,
    )
    np.testing.assert_allclose(forward(net, x, dtype=np.float64), wanted, rtol=1e-12)
