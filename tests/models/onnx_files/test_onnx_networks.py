"""Networks of several operators, drawn at random, and as exporters write them, against the reference evaluator."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402
from onnx_models import by_runtime, check, kinds, model, saved  # noqa: E402

from intsnn.errors import ShapeError, UnsupportedError  # noqa: E402
from intsnn.models.onnx.load import load  # noqa: E402
from intsnn.network.floating import forward  # noqa: E402


class Drawing:
    """A network that grows at random: nodes, arrays, and the shape of the tensor at its end."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.arrays, self.count = [], {}, 0
        size = tuple(map(int, self.random.integers(4, 9, 2)))
        self.start = (
            (int(self.random.integers(1, 5)), *size) if seed % 3 else (int(self.random.integers(1, 5)), size[0])
        )
        self.name, self.shape = "x", self.start

    def array(self, *shape):
        return self.constant(self.random.normal(size=shape))

    def constant(self, value):
        self.count += 1
        self.arrays[f"a{self.count}"] = np.asarray(value)
        return f"a{self.count}"

    def add(self, kind, inputs, shape=None, **attributes):
        self.count += 1
        name = f"t{self.count}"
        self.nodes.append((kind, ",".join(inputs), name, attributes))
        self.name, self.shape = name, self.shape if shape is None else tuple(shape)
        return name

    @property
    def axes(self):
        return len(self.shape) - 1

    def window(self, most=3):
        """A kernel and padding that fit."""
        kernel = [int(self.random.integers(1, min(most, n) + 1)) for n in self.shape[1:]]
        return kernel, [int(self.random.integers(1, 3)) for _ in kernel]

    def sizes(self, kernel, stride, pads):
        return [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(self.shape[1:], kernel, stride, pads, strict=True)]

    def conv(self):
        (kernel, stride), channels = self.window(), self.shape[0]
        groups = int(self.random.choice([g for g in (1, 2, 3, 4) if channels % g == 0]))
        out = groups * int(self.random.integers(1, 4))
        pads = [int(self.random.integers(0, k)) for k in kernel]
        inputs = [self.name, self.array(out, channels // groups, *kernel)]
        inputs += [self.array(out)] if self.random.integers(2) else []
        shape = (out, *self.sizes(kernel, stride, pads))
        self.add("Conv", inputs, shape, strides=stride, pads=pads * 2, group=groups)

    def transposed(self):
        (kernel, stride), out = self.window(), int(self.random.integers(1, 4))
        more = [int(self.random.integers(0, s)) for s in stride]
        sizes = [(n - 1) * s + k + e for n, s, k, e in zip(self.shape[1:], stride, kernel, more, strict=True)]
        if max(sizes) < 20:
            weight = self.array(self.shape[0], out, *kernel)
            self.add("ConvTranspose", [self.name, weight], (out, *sizes), strides=stride, output_padding=more)

    def pool(self):
        kernel, stride = self.window()
        kind = ("MaxPool", "AveragePool")[int(self.random.integers(2))]
        shape = (self.shape[0], *self.sizes(kernel, stride, [0] * self.axes))
        self.add(kind, [self.name], shape, kernel_shape=kernel, strides=stride)

    def norm(self):
        c = self.shape[0]
        variance = self.constant(np.abs(self.random.normal(size=c)) + 0.1)
        self.add("BatchNormalization", [self.name, *(self.array(c) for _ in range(3)), variance])

    def activation(self):
        kind = ("Relu", "LeakyRelu", "Clip")[int(self.random.integers(3))]
        bounds = [self.constant(low) for low in ((0.0, 2.0), (-1.0, 1.0))[int(self.random.integers(2))]]
        self.add(kind, [self.name, *(bounds if kind == "Clip" else [])])

    def branch(self):
        before = self.name
        self.activation()
        self.constants()
        self.add(("Add", "Sub")[int(self.random.integers(2))], [before, self.name])

    def concat(self):
        before, channels = self.name, self.shape[0]
        self.activation()
        self.add("Concat", [self.name, before], (2 * channels, *self.shape[1:]), axis=1)

    def constants(self):
        kind = ("Add", "Mul", "Sub", "Div")[int(self.random.integers(4))]
        shape = [(), (self.shape[0], *(1,) * self.axes), self.shape][int(self.random.integers(3))]
        value = self.constant(np.abs(self.random.normal(size=shape)) + 0.5)
        swapped = kind != "Div" and self.random.integers(2)
        self.add(kind, [value, self.name] if swapped else [self.name, value])

    def moves(self):
        rank = len(self.shape) + 1
        perm = [0, *map(int, 1 + self.random.permutation(rank - 1))]
        self.add("Transpose", [self.name], [self.shape[k - 1] for k in perm[1:]], perm=perm)
        if self.random.integers(2):
            axis = int(self.random.integers(1, rank))
            keep = int(self.random.integers(1, self.shape[axis - 1] + 1))
            bounds = [self.constant(np.array([n])) for n in (self.shape[axis - 1] - keep, 1 << 31, axis)]
            shape = list(self.shape)
            shape[axis - 1] = keep
            self.add("Slice", [self.name, *bounds], shape)
        if self.random.integers(2):
            pads = self.random.integers(0, 2, (2, rank - 1))
            both = self.constant(np.array([0, *pads[0], 0, *pads[1]]))
            self.add("Pad", [self.name, both], [n + a + b for n, a, b in zip(self.shape, *pads.tolist(), strict=True)])

    def reshape(self):
        order = [int(n) for n in self.random.permutation(self.shape)]
        self.add("Reshape", [self.name, self.constant(np.array([0, *order]))], order)

    def end(self):
        ending = int(self.random.integers(4))
        if ending == 0:
            return
        size = int(np.prod(self.shape))
        self.add("Flatten", [self.name], (size,))
        out = int(self.random.integers(1, 6))
        if ending == 1:
            self.add("Gemm", [self.name, self.array(size, out), self.array(out)], (out,))
        else:
            self.add("MatMul", [self.name, self.array(size, out)], (out,))
            self.add("Add", [self.name, self.array(out)])
        if ending == 3:
            self.add(("Softmax", "Sigmoid")[int(self.random.integers(2))], [self.name])

    def grow(self, steps):
        parts = [self.conv, self.conv, self.transposed, self.pool, self.norm, self.activation, self.activation]
        parts += [self.branch, self.concat, self.constants, self.moves, self.reshape]
        for _ in range(steps):
            parts[int(self.random.integers(len(parts)))]()
        self.end()
        if not self.nodes:
            self.activation()
        return model(self.nodes, self.start, self.arrays)


@pytest.mark.parametrize("seed", range(200))
def test_random_networks(tmp_path, seed):
    drawing = Drawing(seed)
    made = drawing.grow(3 + seed % 6)
    x = drawing.random.normal(size=(2, *drawing.start))
    net = check(tmp_path, made, x)
    assert net.metadata["source"] == "m.onnx" and len(net.metadata["source_sha256"]) == 64


# -- what exporters write ---------------------------------------------------------------------------------------------

W = np.random.default_rng(2).normal(size=(4, 2, 3, 3))
MIXED = [
    ("Conv", "x,w", "c", {"pads": [1] * 4}), ("Relu", "c", "r", {}), ("GlobalAveragePool", "r", "g", {}),
    ("Flatten", "g", "f", {}), ("LogSoftmax", "f", "y", {"axis": 1}),
]  # fmt: skip


def test_report_of_arrays_and_notes(tmp_path):
    made = model(MIXED, (2, 5, 5), {"w": W})
    made.producer_name, made.producer_version = "pytorch", "2.9"
    net = load(saved(tmp_path / "m.onnx", made), trust=True)
    assert (
        net.metadata["format"] == "onnx" and net.metadata["opset"] == 17 and net.metadata["producer"] == "pytorch 2.9"
    )
    (entry,) = net.metadata["tensors"]
    assert entry == {
        "layer": "c", "role": "weight", "path": "w", "shape": (4, 2, 3, 3), "dtype": "float64", "min": W.min(),
        "max": W.max(), "permutation": "none",
    }  # fmt: skip
    assert ["LogSoftmax" in note for note in net.metadata["notes"]] == [True]
    x = np.random.default_rng(3).normal(size=(2, 2, 5, 5))
    logarithm = onnx.reference.ReferenceEvaluator(made).run(None, {"x": x})[0]
    np.testing.assert_allclose(np.log(forward(net, x, dtype=np.float64)), logarithm, rtol=1e-9)


def test_initialisers_that_are_listed_as_inputs(tmp_path):
    """Old exporters list every initialiser as an input, too."""
    made = model(MIXED[:2], (2, 5, 5), {"w": W})
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.DOUBLE, W.shape))
    assert kinds(check(tmp_path, made, np.ones((1, 2, 5, 5)))) == ["Conv2d", "ReLU"]


def test_open_sizes(tmp_path):
    made = model(MIXED, ("C", "H", "W"), {"w": W})
    path = saved(tmp_path / "m.onnx", made)
    with pytest.raises(ShapeError, match=r"\(\?, \?, \?, \?\) leaves sizes open; give input_shape"):
        load(path)
    assert load(path, input_shape=(2, 7, 6)).input_shape == (2, 7, 6)
    with pytest.raises(ShapeError, match="input_shape .2, 7. does not fit"):
        load(path, input_shape=(2, 7))
    del made.graph.input[0].type.tensor_type.shape.dim[:]
    made.graph.input[0].type.tensor_type.ClearField("shape")
    path = saved(tmp_path / "m.onnx", made)
    assert load(path, input_shape=(2, 7, 6)).input_shape == (2, 7, 6)
    with pytest.raises(ShapeError, match="is open"):
        load(path)


def test_signals_may_be_given_as_maps_of_one_row(tmp_path):
    path = saved(tmp_path / "m.onnx", model([("Relu", "x", "y", {})], (3, "L")))
    assert load(path, input_shape=(3, 8)).input_shape == load(path, input_shape=(3, 1, 8)).input_shape == (3, 1, 8)


def test_batches(tmp_path):
    assert load(saved(tmp_path / "m.onnx", model(MIXED, (2, 5, 5), {"w": W}, batch=1))).input_shape == (2, 5, 5)
    with pytest.raises(UnsupportedError, match="a batch of 8; export it with an open batch"):
        load(saved(tmp_path / "m.onnx", model(MIXED, (2, 5, 5), {"w": W}, batch=8)))


def test_parts_that_the_output_does_not_need(tmp_path):
    """An operator that is not taken, and a weight that is damaged, on the way to nowhere."""
    nodes = [("Erf", "x", "e", {}), *MIXED]
    assert kinds(load(saved(tmp_path / "m.onnx", model(nodes, (2, 5, 5), {"w": W}))))[0] == "Conv2d"


@pytest.mark.parametrize("count", ["inputs", "outputs"])
def test_one_input_and_one_output(tmp_path, count):
    made = model(MIXED[:2], (2, 5, 5), {"w": W})
    other = helper.make_tensor_value_info("c" if count == "outputs" else "z", TensorProto.DOUBLE, None)
    (made.graph.output if count == "outputs" else made.graph.input).append(other)
    with pytest.raises(UnsupportedError, match=f"has 2 {count}.*exactly one is taken"):
        load(saved(tmp_path / "m.onnx", made))


def test_names_that_many_nodes_share(tmp_path):
    made = model(
        [("Conv", "x,w", "c", {}), ("ConvTranspose", "c,w", "d", {"strides": [2, 2], "pads": [3] * 4}),
         ("Relu", "d", "e", {}), ("Relu", "e", "y", {})], (2, 6, 6), {"w": W},
    )  # fmt: skip
    for node in made.graph.node:
        node.name = "x"
    net = check(tmp_path, made, np.random.default_rng(0).normal(size=(2, 2, 6, 6)))
    assert len({node.name for node in net.nodes}) == len(net.nodes)


def test_what_is_used_twice_is_moved_once(tmp_path):
    made = model(
        [("Flatten", "x", "f", {}), ("Gemm", "f,a", "g", {}), ("Gemm", "f,b", "h", {}), ("Add", "g,h", "s", {}),
         ("Add", "s,c", "y", {})], (2, 3, 3),
        {"a": np.ones((18, 2)), "b": np.eye(18)[:, :2], "c": np.ones(2)},
    )  # fmt: skip
    net = check(tmp_path, made, np.random.default_rng(0).normal(size=(2, 2, 3, 3)))
    assert kinds(net) == ["Flatten", "Affine", "Affine", "Add", "BatchNorm"]


def test_a_bias_is_not_taken_from_what_others_read(tmp_path):
    """The product is read without the constant, too."""
    made = model(
        [("MatMul", "x,a", "m", {}), ("Add", "m,c", "b", {}), ("Relu", "m", "r", {}), ("Add", "b,r", "y", {})], (4,),
        {"a": np.random.default_rng(1).normal(size=(4, 3)), "c": np.arange(3.0)},
    )  # fmt: skip
    net = check(tmp_path, made, np.random.default_rng(0).normal(size=(2, 4)))
    assert "BatchNorm" in kinds(net)


def test_zeros_are_not_padding_of_a_pool(tmp_path):
    made = model(
        [("Pad", "x,p", "a", {}), ("MaxPool", "a", "y", {"kernel_shape": [2, 2]})], (1, 3, 3),
        {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
    )  # fmt: skip
    net = check(tmp_path, made, -np.ones((1, 1, 3, 3)))
    assert kinds(net) == ["Select", "MaxPool2d"]


def test_whole_numbers_as_input(tmp_path):
    made = model([("Cast", "x", "f", {"to": 11}), ("Mul", "f,s", "y", {})], (3,), {"s": np.array(1 / 255)}, dtype="f8")
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    net = load(saved(tmp_path / "m.onnx", made))
    assert "whole numbers" in net.metadata["notes"][0]
    np.testing.assert_allclose(forward(net, np.array([[0, 51, 255]]), dtype=np.float64), [[0, 0.2, 1]])


def test_runtime_agrees_on_a_network_of_many_kinds(tmp_path):
    pytest.importorskip("onnxruntime")
    drawing = Drawing(7)
    made = drawing.grow(12)
    floats = {name: np.float32(value) if value.dtype.kind == "f" else value for name, value in drawing.arrays.items()}
    made = model(drawing.nodes, drawing.start, floats, dtype=np.float32)
    check(tmp_path, made, drawing.random.normal(size=(2, *drawing.start)).astype(np.float32), by_runtime)
