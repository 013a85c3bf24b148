"""ONNX files that are none, damaged, too large or made to do harm: each is refused in one sentence."""

import os

import numpy as np
import pytest

from intsnn.errors import DataNotFoundError, FormatError, ImportRefused, IntsnnError, UnsupportedError
from intsnn.models.onnx.load import load
from intsnn.models.onnx.wire import MAX_DEPTH, check_fields, is_onnx

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_models import kinds, model, protobuf, saved, varint  # noqa: E402

SHAPE = (2, 5, 5)
W = np.random.default_rng(2).normal(size=(4, 2, 3, 3)).astype(np.float32)
NODES = [("Conv", "x,w", "c", {"pads": [1] * 4}), ("Relu", "c", "y", {})]


def plain(**changes):
    return model(NODES, SHAPE, {"w": W}, dtype=np.float32, **changes)


def refused(path, error=ImportRefused, **options):
    """The sentence, and the code, with which a file is refused."""
    with pytest.raises(error) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    return str(caught.value), getattr(caught.value, "code", "")


# -- files ------------------------------------------------------------------------------------------------------------


def test_what_is_onnx(tmp_path):
    data = plain().SerializeToString()
    path = saved(tmp_path / "any.name", data)
    assert is_onnx(data) and is_onnx(path) and is_onnx(str(path)) and is_onnx(memoryview(data))
    assert is_onnx(data[:100]) and is_onnx(data[: len(data) // 2])
    documented = plain()
    documented.producer_name = "someone"
    documented.doc_string = "x" * (1 << 17)  # longer than what is looked at
    assert is_onnx(documented.SerializeToString())


OTHERS = {
    "empty": b"", "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(60), "zip": b"PK\x03\x04" + bytes(60),
    "pickle": b"\x80\x02}q\x00.",
    "text": b"version https://git-lfs.github.com/spec/v1\n", "json": b'{"ir_version": 8}', "zeros": bytes(64),
    "safetensors": (80).to_bytes(8, "little") + b'{"w":{"dtype":"F32"}}', "numpy": b"\x93NUMPY\x01\x00",
    "words": b"\x08\x08 not a model", "version alone": b"\x08\x08", "other graph": b"\x08\x08\x3a\x04\x7fabc",
    "png": b"\x89PNG\r\n\x1a\n", "newline": b"\n\n\n\n\n", "no version": protobuf(7, protobuf(2, b"g")),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not(tmp_path, name):
    path = saved(tmp_path / "m.onnx", OTHERS[name])
    assert not is_onnx(OTHERS[name]) and not is_onnx(path)
    _, code = refused(path)
    assert code == {"empty": "empty", "text": "lfs-pointer"}.get(name, "not-onnx")


def test_what_is_no_file(tmp_path):
    assert not is_onnx(tmp_path) and not is_onnx(tmp_path / "missing")
    assert "there is no file" in refused(tmp_path / "missing", DataNotFoundError)[0]
    assert refused(tmp_path)[1] == "not-regular"
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe")[1] == "not-regular" and not is_onnx(tmp_path / "pipe")


@pytest.mark.parametrize(
    "options", [{"trust": 1}, {"budget": 0}, {"budget": "x"}, {"input_shape": (0,)}, {"input_shape": "abc"}]
)
def test_arguments(tmp_path, options):
    with pytest.raises(FormatError):
        load(saved(tmp_path / "m.onnx", plain()), **options)


@pytest.mark.parametrize("trust", [False, True])
def test_every_cut(tmp_path, trust):
    data = plain().SerializeToString()
    for size in range(1, len(data)):
        path = saved(tmp_path / "m.onnx", data[:size])
        message, code = refused(path, IntsnnError, trust=trust)
        if is_onnx(path) and not trust and size < len(data) - 20:
            assert code == "truncated" and "is cut off" in message, (size, message)


def test_budget(tmp_path):
    path = saved(tmp_path / "m.onnx", plain())
    size = path.stat().st_size
    assert "more than the budget of 10" in refused(path, budget=10)[0]
    assert refused(path, budget=size - 1)[1] == "too-large"
    assert load(path, budget=size)


def test_small_numbers_that_become_large(tmp_path):
    """A byte in the file is eight in memory."""
    tensor = TensorProto(dims=[4000], data_type=TensorProto.INT64, name="s", int64_data=[1] * 4000)
    made = plain()
    made.graph.initializer.append(tensor)
    data = made.SerializeToString()
    assert "numbers take more than the budget" in refused(saved(tmp_path / "m.onnx", data), budget=len(data) + 100)[0]
    assert load(saved(tmp_path / "m.onnx", data), budget=len(data) + 40_000)


# -- messages ---------------------------------------------------------------------------------------------------------


def enclosed(depth):
    """A graph in an attribute of a node of a graph, and so on."""
    graph = protobuf(2, b"g")
    for _ in range(depth):
        graph = protobuf(1, protobuf(4, b"If") + protobuf(5, protobuf(6, graph)))
    return protobuf(1, 8) + protobuf(7, graph)


def test_depth():
    check_fields(enclosed(MAX_DEPTH // 3 - 1), "m", 1 << 20)
    with pytest.raises(ImportRefused, match="nested deeper"):
        check_fields(enclosed(MAX_DEPTH), "m", 1 << 20)


def test_many_empty_messages(tmp_path):
    """Two bytes each in the file, a hundred in memory."""
    data = protobuf(1, 8) + protobuf(7, protobuf(2, b"g") + b"\x0a\x00" * (1 << 19))
    assert refused(saved(tmp_path / "m.onnx", data))[1] == "count"


DAMAGED = {
    "group": (protobuf(1, 8) + protobuf(7, protobuf(2, b"g")) + b"\x0b", "damaged"),
    "field 0": (protobuf(1, 8) + protobuf(7, protobuf(2, b"g")) + b"\x02\x00", "damaged"),
    "long number": (protobuf(1, 8) + protobuf(7, protobuf(2, b"g")) + b"\x28" + b"\xff" * 11, "damaged"),
    "inner end": (protobuf(1, 8) + protobuf(7, protobuf(2, b"g") + protobuf(1, b"\x0a\x20abc")), "damaged"),
    "huge length": (protobuf(1, 8) + protobuf(7, protobuf(2, b"g")) + b"\x32" + varint(1 << 62), "truncated"),
    "no graph": (protobuf(1, 8) + protobuf(2, b"me") + protobuf(8, protobuf(2, 17)), ""),
    "kind of a field": (protobuf(1, 8) + protobuf(7, protobuf(2, b"g") + protobuf(1, 5)), ""),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(tmp_path, name):
    data, code = DAMAGED[name]
    found = refused(saved(tmp_path / "m.onnx", data), IntsnnError)
    assert not code or found[1] == code


@pytest.mark.parametrize("seed", range(12))
def test_bytes_at_random(tmp_path, seed):
    """Whatever is changed, the answer is a network or one sentence."""
    rng = np.random.default_rng(seed)
    nodes = [
        *NODES[:1], ("MaxPool", "c", "p", {"kernel_shape": [2, 2]}), ("Reshape", "p,s", "f", {}),
        ("Gemm", "f,g", "h", {"transB": 1}), ("Softmax", "h", "y", {"axis": -1}),
    ]  # fmt: skip
    arrays = {"w": W, "s": np.array([0, -1]), "g": np.ones((3, 64), np.float32)}
    data = model(nodes, SHAPE, arrays, dtype=np.float32).SerializeToString()
    structure = [k for k, byte in enumerate(data) if byte in b"\x08\x0a\x10\x12\x1a\x22\x2a\x32\x3a"] or [0]
    read = 0
    for turn in range(60):
        changed = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.choice(structure)) + int(rng.integers(2)) if turn % 2 else int(rng.integers(len(data)))
            changed[place] = int(rng.integers(256))
        try:
            load(saved(tmp_path / "m.onnx", bytes(changed)), trust=turn % 3 == 0, budget=1 << 24)
            read += 1
        except IntsnnError as error:
            assert "\n" not in str(error)
    assert read < 60


# -- graphs -----------------------------------------------------------------------------------------------------------


def test_cycles_and_order(tmp_path):
    circle = model([("Add", "x,b", "a", {}), ("Relu", "a", "b", {})], SHAPE)
    assert (
        "node 'a' (Add) reads 'b', which only it or a later node computes" in refused(saved(tmp_path / "m", circle))[0]
    )
    own = model([("Add", "x,y", "y", {})], SHAPE)
    assert "only it or a later node" in refused(saved(tmp_path / "m", own))[0]
    late = model([NODES[1], NODES[0]], SHAPE, {"w": W}, output="y")
    message, code = refused(saved(tmp_path / "m", late))
    assert "nodes have to be sorted" in message and code == "graph"


def test_what_is_missing(tmp_path):
    message, code = refused(saved(tmp_path / "m", model(NODES, SHAPE)))
    assert "node 'c' (Conv) reads 'w', which is nowhere in the file" in message and code == "graph"
    assert (
        "does not depend on its input" in refused(saved(tmp_path / "m", model(NODES, SHAPE, {"w": W}, output="w")))[0]
    )
    assert "does not depend" in refused(saved(tmp_path / "m", model(NODES, SHAPE, {"w": W}, output="zzz")))[0]
    assert "output is its input" in refused(saved(tmp_path / "m", model(NODES, SHAPE, {"w": W}, output="x")))[0]


def test_names_twice(tmp_path):
    twice = model([*NODES, ("Relu", "c", "c", {})], SHAPE, {"w": W})
    assert "'c' is computed twice" in refused(saved(tmp_path / "m", twice))[0]
    arrays = plain()
    arrays.graph.initializer.append(arrays.graph.initializer[0])
    assert "two initialisers have one name" in refused(saved(tmp_path / "m", arrays))[0]
    long = model([("Relu", "x", "y" * 300, {})], SHAPE)
    assert "a name of more than 255" in refused(saved(tmp_path / "m", long))[0]
    lines = model([("Erf", "x", "a\nb", {})], SHAPE)
    assert "node 'a b' (Erf)" in refused(saved(tmp_path / "m", lines), UnsupportedError)[0]


def test_names_that_are_no_text(tmp_path):
    data = plain().SerializeToString().replace(b"Relu", b"Re\xff\xfe")
    assert refused(saved(tmp_path / "m", data), IntsnnError)


@pytest.mark.parametrize("opset", [1, 6, 99])
def test_opsets(tmp_path, opset):
    assert (
        f"has opset {opset}; export it with" in refused(saved(tmp_path / "m", plain(opset=opset)), UnsupportedError)[0]
    )


def test_domains_functions_and_branches(tmp_path):
    other = plain(domains=("com.microsoft",))
    other.graph.node[1].domain = "com.microsoft"
    assert "of the domain 'com.microsoft'" in refused(saved(tmp_path / "m", other), UnsupportedError)[0]
    functions = plain()
    functions.functions.append(helper.make_function("d", "F", ["a"], ["b"], [], [helper.make_opsetid("", 17)]))
    assert "holds functions of its own" in refused(saved(tmp_path / "m", functions), UnsupportedError)[0]
    inner = helper.make_graph([], "g", [], [])
    branch = model([("If", "x", "y", {"then_branch": inner, "else_branch": inner})], SHAPE)
    assert "one plain graph" in refused(saved(tmp_path / "m", branch), UnsupportedError)[0]


def with_weight(tensor):
    made = plain()
    tensor.name = "w"
    made.graph.initializer[0].CopyFrom(tensor)
    return made


WEIGHTS = {
    "too few bytes": (TensorProto(dims=W.shape, data_type=1, raw_data=bytes(100)), "has 100 bytes; float of shape"),
    "too few numbers": (TensorProto(dims=W.shape, data_type=1, float_data=[1.0] * 5), "has 5 numbers; float of shape"),
    "none": (TensorProto(dims=W.shape, data_type=1), "has 0 numbers"),
    "huge": (TensorProto(dims=[1 << 40, 1 << 40], data_type=1), "of up to 2**40 values"),
    "large": (TensorProto(dims=[1 << 20, 1 << 20], data_type=1), "more than is left of the budget"),
    "huge and flat": (TensorProto(dims=[1 << 62, 0, 1 << 62], data_type=1), "of up to 2**40 values"),
    "empty": (TensorProto(dims=[0, 2, 3, 3], data_type=1), "has no values"),
    "negative": (TensorProto(dims=[-4, 2, 3, 3], data_type=1), "sizes from 0"),
    "rank": (TensorProto(dims=[1] * 9, data_type=1, raw_data=bytes(4)), "up to 8 sizes"),
    "text": (TensorProto(dims=[1], data_type=8, string_data=[b"x"]), "has the type 8; numbers are read"),
    "unknown": (TensorProto(dims=[1], data_type=77, raw_data=b"x"), "has the type 77"),
    "whole": (numpy_helper.from_array(np.ones(W.shape, np.int32)), "is of int32; floats are needed"),
    "no number": (numpy_helper.from_array(np.full(W.shape, np.nan, np.float32)), "not finite"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(tmp_path, name):
    tensor, message = WEIGHTS[name]
    assert message in refused(saved(tmp_path / "m", with_weight(tensor)), IntsnnError)[0]


def test_types_of_weights(tmp_path):
    """As raw bytes and as a list, wide and narrow."""
    whole = np.arange(W.size).reshape(W.shape) % 7
    for kind in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16):
        for raw in (False, True):
            values = whole.reshape(-1).astype(helper.tensor_dtype_to_np_dtype(kind))
            tensor = helper.make_tensor("w", kind, W.shape, values.tobytes() if raw else values.tolist(), raw=raw)
            net = load(saved(tmp_path / "m", with_weight(tensor)))
            assert np.array_equal(net.nodes[1].weight, whole), (kind, raw)


BOMBS = {
    "constant of shape": (
        [("ConstantOfShape", "s", "z", {}), ("Add", "x,z", "y", {})], {"s": np.array([1 << 30, 1 << 30])}, "up to",
    ),
    "expand": ([("Expand", "w,s", "z", {}), ("Add", "x,z", "y", {})], {"s": np.array([1 << 30, 4, 2, 3, 3])}, "1 to"),
    "expand of the input": ([("Expand", "x,s", "y", {})], {"s": np.array([1 << 30, 2, 5, 5])}, "1 to"),
    "range": (
        [("Range", "a,b,c", "z", {}), ("Add", "x,z", "y", {})],
        {"a": np.array(0), "b": np.array(1 << 60), "c": np.array(1)}, "up to",
    ),
    "range by nothing": (
        [("Range", "a,b,c", "z", {}), ("Add", "x,z", "y", {})],
        {"a": np.array(0.0), "b": np.array(np.inf), "c": np.array(1.0)}, "do not fit",
    ),
    "pad": ([("Pad", "x,p", "y", {})], {"p": np.array([0, 0, 0, 1 << 60, 0, 0, 0, 0])}, "values"),
    "pads of a window": ([("Conv", "x,w", "y", {"pads": [1 << 50, 0, 0, 0]})], {}, "numbers are needed"),
    "large pads": ([("Conv", "x,w", "y", {"pads": [1 << 20, 0, 0, 1 << 20]})], {}, "more than"),
    "stride": ([("ConvTranspose", "x,t", "y", {"strides": [1 << 20, 1 << 20]})], {"t": W[:2]}, "more than"),
    "extra": ([("ConvTranspose", "x,t", "y", {"output_padding": [1 << 19, 1 << 19]})], {"t": W[:2]}, "more than"),
    "factors": ([("Resize", "x,,s", "y", {})], {"s": np.array([1, 1, 1 << 30, 1], np.float32)}, "more than"),
    "outer product": (
        [("Reshape", "w,a", "r", {}), ("Reshape", "w,b", "c", {}), ("Mul", "r,c", "d", {}), ("Add", "x,d", "y", {})],
        {"a": np.array([-1, 1]), "b": np.array([1, -1]), "w": np.ones(1 << 13, np.float32)}, "more than",
    ),
    "gather": ([("Gather", "x,i", "y", {"axis": 1})], {"i": np.zeros(1 << 21, np.int32)}, "1 to"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(tmp_path, name):
    nodes, arrays, message = BOMBS[name]
    path = saved(tmp_path / "m", model(nodes, SHAPE, {"w": W} | arrays, dtype=np.float32, opset=18))
    assert message in refused(path, IntsnnError)[0]


def test_many_large_steps(tmp_path):
    """Each is allowed, all together are not."""
    nodes = [("Transpose", "x", "t0", {"perm": [0, 2, 1]})]
    nodes += [("Transpose", f"t{k}", f"t{k + 1}", {"perm": [0, 2, 1]}) for k in range(40)]
    path = saved(tmp_path / "m", model(nodes, (512, 512), dtype=np.float32))
    assert refused(path, budget=1 << 24)[1] == "too-large"
    assert load(path)


# -- weights beside the file ------------------------------------------------------------------------------------------


def external(**entries):
    made = plain()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": "m.bin"} | entries).items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return made


def test_weights_beside_the_file(tmp_path):
    (tmp_path / "m.bin").write_bytes(bytes(12) + W.tobytes())
    net = load(saved(tmp_path / "m.onnx", external(offset=12, length=W.nbytes)))
    assert kinds(net) == ["Conv2d", "ReLU"] and np.array_equal(net.nodes[1].weight, W)
    assert len(net.metadata["external"]["m.bin"]) == 64


def test_what_the_library_writes_beside(tmp_path):
    onnx.save(plain(), tmp_path / "m.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    assert np.array_equal(load(tmp_path / "m.onnx").nodes[1].weight, W)


@pytest.mark.parametrize(
    "location", ["../m.bin", "/etc/hostname", "a/m.bin", "..", ".", "", "a\\m.bin", "C:m.bin", "m.bin\0x", "x" * 300]
)
def test_places_that_are_not_read(tmp_path, location):
    (tmp_path / "m.bin").write_bytes(W.tobytes())
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "m.bin").write_bytes(W.tobytes())
    (tmp_path / "a" / "m.onnx").write_bytes(b"")
    message, code = refused(saved(tmp_path / "m.onnx", external(location=location)))
    assert code == "external" and "only a file of the same folder" in message


def test_a_place_that_is_no_text(tmp_path):
    data = external(location="abcd").SerializeToString().replace(b"abcd", b"ab\xff\xfe")
    assert refused(saved(tmp_path / "m.onnx", data))[1] == "external"


def test_links_folders_and_sizes(tmp_path):
    (tmp_path / "real").write_bytes(W.tobytes())
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe"):
        assert "no regular file" in refused(saved(tmp_path / "m.onnx", external(location=name)))[0]
    assert "is not beside it" in refused(saved(tmp_path / "m.onnx", external(location="none")), DataNotFoundError)[0]
    for bad in ({"offset": 4}, {"offset": -1}, {"length": 4}, {"length": "many"}, {"length": 1 << 70}):
        message, code = refused(saved(tmp_path / "m.onnx", external(location="real", **bad)))
        assert code == "external" and f"{W.nbytes} bytes are needed" in message


def test_without_the_library(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install 'intsnn[onnx]'" in refused(saved(tmp_path / "m.onnx", plain()), UnsupportedError)[0]
