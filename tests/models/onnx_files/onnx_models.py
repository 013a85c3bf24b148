"""ONNX models of a few nodes, and what the reference evaluator of ONNX computes of them."""

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from intsnn.models.onnx.load import load
from intsnn.network.floating import forward

TOLERANCE = 1e-5


def model(nodes, shape, arrays=None, *, opset=17, batch="N", dtype=np.float64, output=None, domains=()):
    """Nodes ``(kind, inputs, outputs, attributes)`` as a model of ``x``; what the last computes is its output."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    made = [
        helper.make_node(op, inputs.split(",") if inputs else [], outputs.split(","), **attributes)
        for op, inputs, outputs, attributes in nodes
    ]
    last = output or nodes[-1][2].split(",")[0]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", kind, [batch, *shape])],
        [helper.make_tensor_value_info(last, kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (arrays or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def saved(path, made):
    """Where a model was written; bytes are written as they are."""
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


def expected(made, x):
    return ReferenceEvaluator(made).run(None, {"x": x})[0]


def by_runtime(made, x):
    """What onnxruntime computes."""
    from onnxruntime import InferenceSession

    return InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def check(folder, made, x, judge=expected, **options):
    """Read a model, run it, and compare with the reference evaluator; the network."""
    net = load(saved(folder / "m.onnx", made), **options)
    wanted = judge(made, x)
    found = forward(net, x, dtype=np.float64)
    assert found.size == wanted.size, (found.shape, wanted.shape)
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=TOLERANCE, atol=TOLERANCE)
    return net


def kinds(net):
    """Names of the classes of its nodes, without the input."""
    return [type(each).__name__.removeprefix("Float") for each in net.nodes[1:]]


def protobuf(number, payload):
    """A field of bytes, or of a whole number."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value):
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


__all__ = ["by_runtime", "check", "expected", "kinds", "model", "onnx", "protobuf", "saved", "varint"]
