"""Quantised ONNX files: pairs of quantisers, layers of codes, QONNX; against evaluators of other people and by hand."""

from fractions import Fraction

import numpy as np
import pytest

from intsnn.conversion.spikes import convert
from intsnn.errors import IntsnnError, UnsupportedError
from intsnn.formats.fixed import Fixed
from intsnn.formats.weights import Bipolar
from intsnn.models.onnx.load import load
from intsnn.network.floating import FloatNetwork, forward
from intsnn.network.quantised import QuantisedNetwork

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx.reference.op_run import OpRun  # noqa: E402
from onnx_models import model as any_model  # noqa: E402
from onnx_models import saved  # noqa: E402

GENERAL = "qonnx.custom_op.general"


def model(*parts, **options):
    """A model of the first opset whose quantisers have blocks and four bits; older ones the evaluator does not know."""
    return any_model(*parts, **{"opset": 21} | options)


def kinds(net):
    return [type(node).__name__.removeprefix("Float") for node in net.graph.nodes[1:]]


def coded(net):
    """Layers with weights, in order."""
    return [node for node in net.graph.nodes if node.weighted]


def firing(net):
    return [node for node in net.graph.nodes if node.activates]


def levels(net, x):
    """Levels of every activation, by the name of its node, and how far each value is from a tie."""
    names = [name for node in firing(net) for name in (node.name, *node.inputs)]
    values = forward(net.graph, x, record=names, dtype=np.float64)
    return {
        node.name: (
            np.rint(values[node.name] / node.step).astype(int),
            np.abs(np.mod(values[node.inputs[0]] / node.step, 1) - 0.5),
        )
        for node in firing(net)
    }  # fmt: skip


# -- what onnxruntime's quantiser writes ------------------------------------------------------------------------------


def plain():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return (rng.normal(size=shape) * 0.4).astype(np.float32)

    nodes = [
        ("Conv", "x,w1,b1", "c1", {"pads": [1] * 4}), ("Relu", "c1", "r1", {}),
        ("MaxPool", "r1", "p1", {"kernel_shape": [2, 2], "strides": [2, 2]}), ("Conv", "p1,w2,b2", "c2", {}),
        ("Relu", "c2", "r2", {}), ("Flatten", "r2", "f", {}), ("Gemm", "f,w3,b3", "g", {"transB": 1}),
        ("Relu", "g", "r3", {}), ("MatMul", "r3,w4", "m", {}), ("Add", "m,b4", "y", {}),
    ]  # fmt: skip
    arrays = {
        "w1": normal(4, 1, 3, 3), "b1": normal(4), "w2": normal(6, 4, 3, 3), "b2": normal(6), "w3": normal(8, 24),
        "b3": normal(8), "w4": normal(8, 3), "b4": normal(3),
    }  # fmt: skip
    return model(nodes, (1, 8, 8), arrays, dtype=np.float32, opset=17)


RAW = np.random.default_rng(2).integers(0, 256, (20, 1, 8, 8))


class Samples:
    def __init__(self):
        self.left = [{"x": (each[None] / 255).astype(np.float32)} for each in RAW]

    def get_next(self):
        return self.left.pop() if self.left else None


def run_all(made, x):
    """Every tensor of a model, as onnxruntime computes it, unchanged."""
    from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    names = [name for node in made.graph.node for name in node.output]
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"x": x}), strict=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_what_the_quantiser_of_onnxruntime_writes(tmp_path, form, per_channel):
    quantization = pytest.importorskip("onnxruntime.quantization")
    quantization.quantize_static(
        saved(tmp_path / "float.onnx", plain()), tmp_path / "q.onnx", Samples(),
        quant_format=quantization.QuantFormat[form], per_channel=per_channel,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
        reduce_range=form == "QOperator",  # products of 8 bits saturate on processors without instructions for them
    )  # fmt: skip
    net, made = load(tmp_path / "q.onnx"), onnx.load(tmp_path / "q.onnx")
    assert isinstance(net, QuantisedNetwork) and net.input_format == Fixed(8, signed=False)
    assert kinds(net) == [
        "QuantConv2d", "QuantReLU", "MaxPool2d", "QuantConv2d", "QuantReLU", "Flatten", "QuantAffine", "QuantReLU",
        "QuantAffine",
    ]  # fmt: skip
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in made.graph.initializer}
    for node, name in zip(coded(net), ("w1", "w2", "w3", "w4"), strict=True):
        codes = stored[f"{name}_quantized"]
        codes = codes.T if codes.ndim == 2 and codes.shape != node.codes.shape else codes
        assert np.array_equal(node.codes, codes)
        assert np.array_equal(node.scale, np.broadcast_to(stored[f"{name}_scale"], len(node.scale)))
    x = net.input_scale.apply(RAW)
    values = run_all(made, x)
    outputs = {node.name or node.output[0]: node.output[0] for node in made.graph.node}
    for name, (found, from_tie) in levels(net, x).items():
        wanted = values[outputs[net.graph[name].source.split()[-1]]].reshape(found.shape)
        differ = found != wanted
        # an earlier level that ties moved may move others: none did here but those that lie on a tie themselves
        assert differ.sum() <= 3 and (np.abs(found - wanted.astype(int)) <= 1).all() and (from_tie[differ] < 1e-4).all()
    scores = forward(net.graph, x, dtype=np.float64)
    bias = coded(net)[-1].bias  # what the end of the file rounds, before and behind it, is left out here
    for name, shift in (("m", -bias), ("y", bias)):
        step, zero = stored[f"{name}_scale"], stored[f"{name}_zero_point"].astype(int)
        scores = (np.clip(np.rint((scores + shift) / step) + zero, 0, 255) - zero) * step
    off = np.abs(scores - values[made.graph.output[0].name]) > 1e-5
    assert off.sum() <= 2, off.sum()
    assert {"m", "y"} == {note.split("'")[1][0] for note in net.graph.metadata["notes"][:2]}
    assert "halves to even" in net.graph.metadata["notes"][-1]
    assert convert(net).network.inputs


# -- pairs by hand ----------------------------------------------------------------------------------------------------


def pair(name, scale, zero, then, tensor):
    """A quantiser and its opposite behind `tensor`."""
    return [
        ("QuantizeLinear", f"{tensor},{scale},{zero}", f"{name}q", {}),
        ("DequantizeLinear", f"{name}q,{scale},{zero}", then, {}),
    ]  # fmt: skip


SCALES = {
    "s": np.float32(1 / 128), "sa": np.float32(0.037), "z": np.uint8(0), "ws": np.float32([0.01, 0.02, 0.015]),
    "w": np.random.default_rng(3).integers(-127, 128, (3, 2, 2, 2)).astype(np.int8),
    "g": np.float32([1.5, -0.5, 0.0]), "b": np.float32([0.1, 0.2, 0.3]), "m": np.float32([0.1, -0.1, 0]),
    "v": np.float32([1, 2, 3]), "d": np.random.default_rng(4).integers(-7, 8, (12, 4)).astype(np.int8),
    "ds": np.float32([0.1, 0.05, 0.2, 0.07]),
}  # fmt: skip
WEIGHTS = [
    ("DequantizeLinear", "w,ws", "wd", {"axis": 0}), ("DequantizeLinear", "d,ds", "dd", {"axis": 1}),
]  # fmt: skip
FRONT = [*pair("i", "s", "z", "xd", "x"), *WEIGHTS, ("Conv", "xd,wd", "c", {})]
END = [("Flatten", "ad", "f", {}), ("MatMul", "f,dd", "y", {})]


def same(folder, made, shape, evaluator=None, largest=255):
    """A network, whose levels and outputs on codes as input are those of an evaluator, ties apart."""
    net = load(saved(folder / "m.onnx", made))
    assert isinstance(net, QuantisedNetwork)
    x = net.input_scale.apply(np.random.default_rng(6).integers(0, largest + 1, (16, *shape)))
    wanted = (evaluator or ReferenceEvaluator(made)).run(None, {"x": x})[0]
    found = forward(net.graph, x, dtype=np.float64).reshape(wanted.shape)
    off = ~np.isclose(found, wanted, rtol=1e-4, atol=1e-4).reshape(len(x), -1).all(axis=1)
    near = np.zeros(len(x), bool)
    for _, from_tie in levels(net, x).values():
        near |= (from_tie.reshape(len(x), -1) < 1e-4).any(axis=1)
    assert not (off & ~near).any() and off.mean() < 0.3
    return net


def test_pairs_with_normalisation_between(tmp_path):
    nodes = [
        *FRONT, ("BatchNormalization", "c,g,b,m,v", "n", {}), ("Relu", "n", "r", {}),
        *pair("a", "sa", "z", "ad", "r"), *END,
    ]  # fmt: skip
    net = same(tmp_path, model(nodes, (2, 3, 3), SCALES, dtype=np.float32), (2, 3, 3), largest=127)
    assert kinds(net) == ["QuantConv2d", "QuantReLU", "Flatten", "QuantAffine"]
    conv, dense = coded(net)
    sign = np.array([1, -1, 0])[:, None, None, None]  # of gamma
    assert np.array_equal(conv.codes, sign * SCALES["w"]) and np.array_equal(dense.codes, SCALES["d"].T)
    assert np.array_equal(dense.scale, SCALES["ds"]) and dense.weight_format == Fixed(8)
    assert firing(net)[0].levels == 255 and firing(net)[0].step == SCALES["sa"]
    assert net.input_scale.scale == Fraction(1, 128) and net.input_format == Fixed(8, signed=False)


def test_a_limit_is_a_number_of_levels(tmp_path):
    nodes = [*FRONT, ("Clip", "c,lo,hi", "r", {}), *pair("a", "sa", "z", "ad", "r"), *END]
    arrays = SCALES | {"lo": np.float32(0), "hi": np.float32(0.99)}
    net = same(tmp_path, model(nodes, (2, 3, 3), arrays, dtype=np.float32), (2, 3, 3), largest=127)
    assert firing(net)[0].levels == 27  # 0.99 / 0.037 is 26.8


def test_levels_come_before_pools(tmp_path):
    nodes = [
        *FRONT, ("Relu", "c", "r", {}), ("MaxPool", "r", "p", {"kernel_shape": [2, 2]}),
        *pair("a", "sa", "z", "ad", "p"), ("Flatten", "ad", "f", {}), ("Gemm", "f,dd", "y", {}),
    ]  # fmt: skip
    arrays = SCALES | {"d": SCALES["d"][:3]}
    net = same(tmp_path, model(nodes, (2, 3, 3), arrays, dtype=np.float32), (2, 3, 3), largest=127)
    assert kinds(net) == ["QuantConv2d", "QuantReLU", "MaxPool2d", "Flatten", "QuantAffine"]


def test_the_same_levels_again_change_nothing(tmp_path):
    nodes = [
        *FRONT, *pair("a", "sa", "z", "a1", "c"), ("MaxPool", "aq", "pq", {"kernel_shape": [1, 1]}),
        ("DequantizeLinear", "pq,sa,z", "p", {}), *pair("b", "sa", "z", "b1", "p"),
        ("Reshape", "bq,shape", "hq", {}), ("DequantizeLinear", "hq,sa,z", "f", {}), ("MatMul", "f,dd", "y", {}),
    ]  # fmt: skip
    arrays = SCALES | {"shape": np.array([0, -1])}
    net = same(tmp_path, model(nodes, (2, 3, 3), arrays, dtype=np.float32), (2, 3, 3), largest=127)
    assert kinds(net).count("QuantReLU") == 1


@pytest.mark.parametrize("second, zero", [("sb", "z"), ("sa", "z4")])
def test_other_levels_are_levels_again(tmp_path, second, zero):
    """Another step, or fewer of them."""
    nodes = [*FRONT, *pair("a", "sa", "z", "a1", "c"), *pair("b", second, zero, "ad", "a1"), *END]
    made = model(nodes, (2, 3, 3), SCALES | {"sb": np.float32(0.05)}, dtype=np.float32)
    made.graph.initializer.append(helper.make_tensor("z4", TensorProto.UINT4, [], [0]))
    net = same(tmp_path, made, (2, 3, 3), largest=127)
    assert [node.levels for node in firing(net)] == [255, 255 if zero == "z" else 15]


def test_a_pool_that_two_quantisers_read_stays_before_them(tmp_path):
    nodes = [
        *FRONT, ("MaxPool", "c", "p", {"kernel_shape": [1, 2]}), *pair("a", "sa", "z", "a1", "p"),
        *pair("b", "sb", "z", "b1", "p"), ("Add", "a1,b1", "ad", {}), ("Flatten", "ad", "f", {}),
        ("MatMul", "f,dd", "y", {}),
    ]  # fmt: skip
    arrays = SCALES | {"sb": np.float32(0.05), "d": SCALES["d"][:6]}
    net = same(tmp_path, model(nodes, (2, 3, 3), arrays, dtype=np.float32), (2, 3, 3), largest=127)
    assert kinds(net)[:2] == ["QuantConv2d", "MaxPool2d"] and kinds(net).count("QuantReLU") == 2


def test_four_bits(tmp_path):
    int4, uint4 = TensorProto.INT4, TensorProto.UINT4
    nodes = [*FRONT, *pair("a", "sa", "z4", "ad", "c"), *END]
    made = model(nodes, (2, 3, 3), SCALES, dtype=np.float32, opset=21)
    made.ir_version = 10
    codes = np.clip(SCALES["d"], -8, 7)
    place = next(k for k, each in enumerate(made.graph.initializer) if each.name == "d")
    made.graph.initializer[place].CopyFrom(helper.make_tensor("d", int4, codes.shape, codes.reshape(-1).tolist()))
    made.graph.initializer.append(helper.make_tensor("z4", uint4, [], [0]))
    net = same(tmp_path, made, (2, 3, 3), largest=127)
    assert coded(net)[1].weight_format == Fixed(4) and np.array_equal(coded(net)[1].codes, codes.T)
    assert firing(net)[0].levels == 15


def test_weights_that_are_quantised_in_the_graph(tmp_path):
    """As a training with fake quantisation exports them, with a transposition behind."""
    rng = np.random.default_rng(8)
    nodes = [
        *pair("i", "s", "z", "xd", "x"), ("QuantizeLinear", "w,ws,wz", "wq", {"axis": 0}),
        ("DequantizeLinear", "wq,ws,wz", "wd", {"axis": 0}), ("Transpose", "wd", "wt", {}),
        ("Gemm", "xd,wt,b", "y", {"alpha": 0.5}),
    ]  # fmt: skip
    arrays = {
        "s": np.float32(1 / 255), "z": np.uint8(0), "w": rng.normal(size=(5, 6)).astype(np.float32),
        "ws": np.float32([0.1, 0.02, 0.03, 0.04, 0.05]), "wz": np.zeros(5, np.int8), "b": np.float32(np.arange(5)),
    }  # fmt: skip
    net = same(tmp_path, model(nodes, (6,), arrays, dtype=np.float32), (6,))
    (dense,) = coded(net)
    wanted = np.clip(np.rint(arrays["w"] / arrays["ws"][:, None]), -128, 127)
    assert np.array_equal(dense.codes, wanted) and np.array_equal(dense.scale, arrays["ws"].astype(float) / 2)


@pytest.mark.parametrize("kind, zero, wanted", [(np.uint8, 128, False), (np.int8, 0, True), (np.int8, -128, True)])
def test_the_input_may_have_a_zero_point(tmp_path, kind, zero, wanted):
    nodes = [*pair("i", "s", "zi", "xd", "x"), *WEIGHTS[1:], ("MatMul", "xd,dd", "y", {})]
    made = model(nodes, (12,), SCALES | {"zi": kind(zero)}, dtype=np.float32)
    net = load(saved(tmp_path / "m.onnx", made))
    assert net.input_format == Fixed(8, signed=wanted)
    assert (net.input_scale.scale, net.input_scale.offset) == (Fraction(1, 128), -Fraction(zero, 128))


def test_codes_as_input(tmp_path):
    """The file begins with codes; the network takes their real values."""
    nodes = [("DequantizeLinear", "x,s,z", "xd", {}), *WEIGHTS[1:], ("MatMul", "xd,dd", "y", {})]
    made = model(nodes, (12,), SCALES, dtype=np.float32)
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    net = load(saved(tmp_path / "m.onnx", made))
    raw = np.random.default_rng(0).integers(0, 256, (5, 12)).astype(np.uint8)
    wanted = ReferenceEvaluator(made).run(None, {"x": raw})[0]
    np.testing.assert_allclose(forward(net.graph, net.input_scale.apply(raw)), wanted, rtol=1e-5, atol=1e-5)


def test_halves(tmp_path):
    """The file rounds to even, a level here is one higher where an even number is just below; nothing else differs."""
    nodes = [
        *pair("i", "s", "z", "xd", "x"),
        *WEIGHTS[1:],
        ("MatMul", "xd,dd", "c", {}),
        *pair("a", "sa", "z", "y", "c"),
    ]
    arrays = SCALES | {"s": np.float32(1), "ds": np.float32(1), "sa": np.float32(8)}  # sums are whole, steps are 8
    made = model(nodes, (12,), arrays, dtype=np.float32)
    net = load(saved(tmp_path / "m.onnx", made))
    x = np.random.default_rng(0).integers(0, 256, (400, 12)).astype(np.float32)
    sums = x @ SCALES["d"].astype(np.float32)
    found, wanted = forward(net.graph, x), ReferenceEvaluator(made).run(None, {"x": x})[0]
    ties = (sums % 16 == 4) & (sums > 0) & (sums < 255 * 8)
    assert ties.sum() > 30 and np.array_equal(found != wanted, ties) and (found - wanted == 8 * ties).all()


# -- QONNX ------------------------------------------------------------------------------------------------------------


class Quant(OpRun):
    op_domain = GENERAL

    def _run(self, x, scale, zero, bits, signed=None, narrow=None, rounding_mode=None):
        top = 2 ** (int(bits) - bool(signed)) - 1 - (0 if signed else int(narrow))
        low = (-top - (0 if narrow else 1)) if signed else 0
        return (((np.rint(np.clip(x / scale + zero, low, top)) - zero) * scale).astype(x.dtype),)


class BipolarQuant(OpRun):
    op_domain = GENERAL

    def _run(self, x, scale):
        return (np.where(x >= 0, scale, -scale).astype(x.dtype),)


class Growing:
    """A quantised network in QONNX, drawn at random."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.arrays, self.count = [], {"zero": np.array(0.0)}, 0
        self.name, self.channels, self.size = "x", 2, 6
        self.quant("x", 1 / 255, 8, signed=0)

    def array(self, value):
        self.count += 1
        self.arrays[f"a{self.count}"] = np.asarray(value, np.float64)
        return f"a{self.count}"

    def add(self, kind, inputs, **attributes):
        self.count += 1
        domain = {"domain": GENERAL} if "Quant" in kind else {}
        self.nodes.append((kind, ",".join(inputs), f"t{self.count}", attributes | domain))
        return f"t{self.count}"

    def quant(self, name, scale, bits, **attributes):
        options = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"} | attributes
        self.name = self.add("Quant", [name, self.array(scale), "zero", self.array(bits)], **options)
        return self.name

    def weight(self, *shape, axis=0):
        weight = self.array(self.rng.normal(size=shape))
        line = [1] * len(shape)
        line[axis] = shape[axis] if self.rng.integers(2) else 1
        scale = self.array(self.rng.uniform(0.1, 0.5, line))
        bits = int(self.rng.integers(1, 9))
        if bits == 1:
            return self.add("BipolarQuant", [weight, scale])
        narrow = int(self.rng.integers(2))
        return self.add(
            "Quant", [weight, scale, "zero", self.array(bits)], signed=1, narrow=narrow, rounding_mode="ROUND"
        )  # fmt: skip

    def fire(self, name):
        if self.rng.integers(2):
            name = self.add("Relu", [name])
        return self.quant(name, float(self.rng.uniform(0.1, 0.6)), int(self.rng.integers(1, 9)), signed=0)

    def layer(self):
        out = int(self.rng.integers(1, 5))
        name = self.add("Conv", [self.name, self.weight(out, self.channels, 3, 3)], pads=[1] * 4)
        if self.rng.integers(2):
            variance = self.array(self.rng.uniform(0.5, 2, out))
            values = [self.array(self.rng.uniform(0.2, 1, out)), *(self.array(self.rng.normal(size=out)) for _ in "bm")]
            name = self.add("BatchNormalization", [name, *values, variance])
        elif self.rng.integers(2):
            name = self.add("Add", [name, self.array(self.rng.normal(size=(out, 1, 1)))])
        self.channels = out
        if self.size > 3 and self.rng.integers(2):
            name, self.size = self.add("MaxPool", [name], kernel_shape=[2, 2], strides=[2, 2]), self.size // 2
        self.fire(name)

    def branch(self):
        weights = [self.weight(self.channels, self.channels, 1, 1) for _ in "ab"]
        self.fire(self.add("Add", [self.add("Conv", [self.name, each]) for each in weights]))

    def grow(self, steps):
        for _ in range(steps):
            (self.layer if self.rng.integers(3) else self.branch)()
        name = self.add("Flatten", [self.name])
        weight = self.weight(self.channels * self.size**2, 4, axis=1)
        self.add("Softmax" if self.rng.integers(2) else "Identity", [self.add("MatMul", [name, weight])])
        return model(self.nodes, (2, 6, 6), self.arrays, domains=(GENERAL,))


@pytest.mark.parametrize("seed", range(40))
def test_qonnx(tmp_path, seed):
    growing = Growing(seed)
    made = growing.grow(1 + seed % 3)
    net = load(saved(tmp_path / "m.onnx", made))
    assert net.input_scale.scale == Fraction(1 / 255) and net.input_format == Fixed(8, signed=False)
    x = net.input_scale.apply(growing.rng.integers(0, 256, (6, 2, 6, 6))).astype(np.float64)
    names = [name for _, _, name, _ in growing.nodes]
    del made.graph.output[:]
    made.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    run = ReferenceEvaluator(made, new_ops=[Quant, BipolarQuant]).run(None, {"x": x})
    values = dict(zip(names, run, strict=True))
    for name, (found, from_tie) in levels(net, x).items():
        wanted = values[name] if found.shape == values[name].shape else None  # a pool went behind it
        if wanted is not None:
            step = net.graph[name].step
            assert (np.rint(wanted / step).astype(int) == found)[from_tie > 1e-6].all()
    scores = forward(net.graph, x, dtype=np.float64)
    last = values[names[-2]]  # before a softmax
    np.testing.assert_allclose(scores, last, rtol=1e-9, atol=1e-9)
    formats = {type(node.weight_format) for node in coded(net)}
    assert formats <= {Fixed, Bipolar} and all(node.levels >= 1 for node in firing(net))


def test_bipolar_codes_and_a_signed_input(tmp_path):
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(3, 4))
    nodes = [
        ("Quant", "x,s,zero,b", "xq", {"domain": GENERAL, "signed": 1, "narrow": 1}),
        ("BipolarQuant", "w,s", "wq", {"domain": GENERAL}), ("Gemm", "xq,wq", "y", {"transB": 1}),
    ]  # fmt: skip
    arrays = {"s": np.array(0.25), "zero": np.array(0.0), "b": np.array(4.0), "w": weight}
    net = load(saved(tmp_path / "m.onnx", model(nodes, (4,), arrays, domains=(GENERAL,))))
    (dense,) = coded(net)
    assert dense.weight_format == Bipolar() and np.array_equal(dense.codes, np.where(weight >= 0, 1, -1))
    assert np.array_equal(dense.scale, [0.25] * 3) and net.input_format == Fixed(4)


def test_an_input_that_is_not_quantised(tmp_path):
    nodes = [*WEIGHTS[1:], ("MatMul", "x,dd", "y", {})]
    net = load(saved(tmp_path / "m.onnx", model(nodes, (12,), SCALES, dtype=np.float32)))
    assert (
        net.input_scale.scale == Fraction(1, 255) and "does not quantise its input" in net.graph.metadata["notes"][-1]
    )


def test_weights_alone(tmp_path):
    """Files that are made small: their real values, as a float network."""
    nodes = [*WEIGHTS[1:], ("MatMul", "x,dd", "c", {}), ("Relu", "c", "y", {})]
    net = load(saved(tmp_path / "m.onnx", model(nodes, (12,), SCALES, dtype=np.float32)))
    assert isinstance(net, FloatNetwork) and "weights are codes in the file" in net.metadata["notes"][-1]
    assert np.array_equal(net.nodes[1].weight, (SCALES["d"] * SCALES["ds"]).T)


def test_transposed_convolution(tmp_path):
    rng = np.random.default_rng(4)
    nodes = [
        *pair("i", "s", "z", "xd", "x"), ("DequantizeLinear", "w,ws", "wd", {"axis": 1}),
        ("ConvTranspose", "xd,wd", "y", {"strides": [2, 2]}),
    ]  # fmt: skip
    arrays = {
        "s": np.float32(0.5), "z": np.uint8(0), "w": rng.integers(-9, 9, (2, 3, 3, 2)).astype(np.int8),
        "ws": np.float32([0.1, 0.2, 0.3]),
    }  # fmt: skip
    net = same(tmp_path, model(nodes, (2, 3, 3), arrays, dtype=np.float32), (2, 3, 3))
    assert kinds(net) == ["Upsample2d", "QuantConv2d"] and np.array_equal(coded(net)[0].scale, arrays["ws"])
    assert np.array_equal(coded(net)[0].codes, arrays["w"].transpose(1, 0, 2, 3)[..., ::-1, ::-1])


# -- what is not taken ------------------------------------------------------------------------------------------------


def q(kind="Quant", **attributes):
    return {"domain": GENERAL, "signed": 0, "narrow": 0} | attributes


MORE = SCALES | {
    "z3": np.uint8(3), "si": np.int8(0), "sn": np.float32(-1), "sc": np.float32([1, 2, 3]),
    "w9": np.float32(np.ones((12, 4))),
    "wz": np.int8(1), "two": np.float32(2), "bits": np.float32(4), "zf": np.float32(0), "half": np.float32(1.5),
    "s2": np.float32(0.5),
}  # fmt: skip
Q = "QuantizeLinear"
REFUSED = {
    "zero point": ([*FRONT, *pair("a", "sa", "z3", "ad", "c"), *END], "node 'aq'.*zero point 3; inside a network"),
    "signed": ([*FRONT, *pair("a", "sa", "si", "ad", "c"), *END], "-128 .. 127 with the zero point 0; inside"),
    "scale per channel": ([*FRONT, *pair("a", "sc", "z", "ad", "c"), *END], "its scale is .3,.; one finite number"),
    "not the same": (
        [*FRONT, (Q, "c,sa,z", "aq", {}), ("DequantizeLinear", "aq,s,z", "ad", {}), *END],
        "are not those of the quantiser",
    ),
    "codes as values": ([*FRONT, (Q, "c,sa,z", "ad", {}), *END], "the codes of a quantiser; a DequantizeLinear has to"),
    "no codes": ([*FRONT, ("DequantizeLinear", "c,sa,z", "ad", {}), *END], "reads no codes"),
    "relu": ([*FRONT, ("Relu", "c", "ad", {}), *END], "'ad' .Relu ad.: no quantiser of unsigned levels follows"),
    "leaky": (
        [*FRONT, ("LeakyRelu", "c", "l", {}), *pair("a", "sa", "z", "ad", "l"), *END], "'l' .LeakyRelu l.: has no form",
    ),
    "average": (
        [*FRONT, ("Relu", "c", "r", {}), ("AveragePool", "r", "p", {"kernel_shape": [1, 1]}),
         *pair("a", "sa", "z", "ad", "p"), *END], "no quantiser of unsigned levels",
    ),
    "weights": (
        [*FRONT, *pair("a", "sa", "z", "ad", "c"), ("Flatten", "ad", "f", {}), ("MatMul", "f,w9", "y", {})],
        "'y' .MatMul y.: its weights are not quantised",
    ),
    "weight zero point": (
        [*pair("i", "s", "z", "xd", "x"), ("DequantizeLinear", "w,s,wz", "wd", {}), ("Conv", "xd,wd", "y", {})],
        "not to signed codes with the zero point 0",
    ),
    "scales of inputs": (
        [("DequantizeLinear", "w,sw", "wd", {"axis": 1}), ("Conv", "x,wd", "y", {})], "scales differ within an output",
    ),
    "two inputs": (
        [*pair("i", "s", "z", "xd", "x"), *pair("j", "sa", "z", "xe", "x"), ("Add", "xd,xe", "y", {})],
        "quantises the input in another way",
    ),
    "blocks": ([("DequantizeLinear", "w,s", "wd", {"block_size": 2}), ("Conv", "x,wd", "y", {})], "scales of blocks"),
    "dynamic": ([("DynamicQuantizeLinear", "x", "y,s1,z1", {})], "scales that depend on the input"),
    "bipolar values": ([("BipolarQuant", "x,two", "y", {"domain": GENERAL})], "have no spikes"),
    "truncation": ([("Trunc", "x,two,zf,bits,bits", "y", {"domain": GENERAL})], "cuts bits off sums"),
    "width": ([("Quant", "x,two,zf,half", "y", q())], "a width of 1.5 bits; 1 to 16"),
    "rounding": ([("Quant", "x,two,zf,bits", "y", q(rounding_mode="FLOOR"))], "'FLOOR' of a computed value; ROUND"),
    "negative scale": ([("Quant", "x,sn,zf,bits", "y", q())], "its scale is -1.0; a positive"),
    "shape of a scale": ([("Quant", "w,sc,zf,bits", "wd", q()), ("Conv", "x,wd", "y", {})], "one per channel"),
    "norm of bipolar": (
        [("BipolarQuant", "w,two", "wd", {"domain": GENERAL}), ("Conv", "x,wd", "c", {}),
         ("BatchNormalization", "c,g,b,m,v", "y", {})], "bipolar weights cannot be 0",
    ),
    "no opposite": (
        [("DequantizeLinear", "low,s", "wd", {}), ("Conv", "x,wd", "c", {}),
         ("BatchNormalization", "c,g,b,m,v", "y", {})],
        "no opposite of 8 bits",
    ),
}  # fmt: skip
MORE |= {"sw": np.float32([0.1, 0.2]), "low": np.full((3, 2, 2, 2), -128, np.int8)}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name):
    nodes, message = REFUSED[name]
    made = model(nodes, (2, 3, 3), MORE, dtype=np.float32, opset=21, domains=(GENERAL,))
    error = IntsnnError if name == "negative scale" else UnsupportedError
    with pytest.raises(error, match=message) as caught:
        load(saved(tmp_path / "m.onnx", made))
    assert "\n" not in str(caught.value)


def test_a_quantiser_without_inputs_or_of_what_is_not_finite(tmp_path):
    for nodes, message in (
        ([("Quant", "", "wd", q()), ("MatMul", "x,wd", "y", {})], "it has no input"),
        ([("Quant", "inf,two,zf,bits", "wd", q()), ("MatMul", "x,wd", "y", {})], "what it divides finite"),
        (
            [(Q, "inf,two,z", "wq", {}), ("DequantizeLinear", "wq,two,z", "w1", {}), ("MatMul", "x,w1", "y", {})],
            "finite",
        ),
    ):
        made = model(nodes, (1,), MORE | {"inf": np.float32([[np.inf]])}, dtype=np.float32, domains=(GENERAL,))
        with pytest.raises(IntsnnError, match=message):
            load(saved(tmp_path / "m.onnx", made))
