"""One int8 pass of ONNX Runtime: the architecture of a workload as a quantised ANN, not T steps of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...layers.base import padding_pairs, pair
from ...layers.connections import Affine, Conv2d
from ...layers.joins import Add, Scale
from ...layers.neurons import Neuron
from ...layers.pooling import MaxPool2d, SumPool2d
from ...layers.ports import Input
from ...layers.reshape import Flatten

__all__ = ["int8_pass"]


class _Onnx:
    """The same architecture as a quantised ANN: uint8 activations, int8 weights, ReLU where the neurons are.

    Scales keep the activations in their range; the outputs mean nothing, the time does.
    """

    def __init__(self, network) -> None:
        import onnx

        self.onnx, self.network = onnx, network
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.scale = self.constant("scale", np.float32(1 / 255))
        self.zero = self.constant("zero", np.uint8(0))
        self.no_shift = self.constant("no_shift", np.int8(0))

    def constant(self, name: str, values) -> str:
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes) -> str:
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def quantised(self, source: str) -> str:
        """Through uint8 and back: the form in which ONNX says that a value is kept in 8 bits."""
        codes = self.node("QuantizeLinear", [source, self.scale, self.zero], f"{source}_kept")
        return self.node("DequantizeLinear", [codes, self.scale, self.zero], f"{source}_values")

    def weights(self, name: str, layer) -> str:
        codes = self.constant(f"{name}_codes", layer.weight.astype(np.int8))
        kept = (6 / layer.weight[0].size) ** 0.5  # activations neither grow nor vanish through ReLU
        scale = self.constant(f"{name}_scale", np.float32(kept / np.abs(layer.weight).max()))
        return self.node("DequantizeLinear", [codes, scale, self.no_shift], f"{name}_weight")

    def model(self, constant: bool) -> bytes:
        network, helper, T = self.network, self.onnx.helper, self.onnx.TensorProto
        values: dict[str, str] = {}
        for name in network.order:
            layer = network.nodes[name]
            sources = [values[s] for s in network.inputs_of(name)]
            if isinstance(layer, Input):
                scale = self.scale if constant else self.constant("input_scale", np.float32(1))
                values[name] = self.node("DequantizeLinear", ["input", scale, self.zero], "input_values")
            elif isinstance(layer, Conv2d):
                (top, bottom), (left, right) = padding_pairs(layer.padding, name)
                options = {"pads": [top, left, bottom, right], "strides": list(pair(layer.stride, name))}
                weights = self.weights(name, layer)
                values[name] = self.node("Conv", [sources[0], weights], name, group=layer.groups, **options)
                if not isinstance(network.nodes[self._reader(name)], Neuron):  # a branch of a join
                    values[name] = self.quantised(values[name])
            elif isinstance(layer, Affine):
                values[name] = self.node("Gemm", [sources[0], self.weights(name, layer)], name, transB=1)
            elif isinstance(layer, Neuron):
                values[name] = self.quantised(self.node("Relu", sources, name))
            elif isinstance(layer, SumPool2d | MaxPool2d):
                if network.shapes[name][1:] == (1, 1) and isinstance(layer, SumPool2d):
                    pooled = self.node("GlobalAveragePool", sources, name)
                else:
                    kernel, stride = pair(layer.kernel_size, name), pair(layer.stride, name)
                    options = {"kernel_shape": list(kernel), "strides": list(stride)}
                    pooled = self.node("MaxPool", sources, name, **options)
                values[name] = self.quantised(pooled)
            elif isinstance(layer, Flatten):
                values[name] = self.quantised(self.node("Flatten", sources, name))  # else what follows is float
            elif isinstance(layer, Scale):
                values[name] = sources[0]
            elif isinstance(layer, Add):
                values[name] = self.node("Add", sources, name)
            elif layer.answers:
                last = sources[0]
            else:
                raise UnsupportedError(f"{name} ({type(layer).__name__}) has no form in the peers")
        shape = list(network.shapes[network.input_name])
        found = helper.make_graph(
            self.nodes,
            "ann",
            [helper.make_tensor_value_info("input", T.UINT8, ["batch", *shape])],
            [helper.make_tensor_value_info(last, T.FLOAT, None)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 17)]
        return helper.make_model(found, opset_imports=opsets, ir_version=8).SerializeToString()

    def _reader(self, name: str) -> str:
        return next(b for a, b in self.network.edges if a == name)


def int8_pass(workload, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """One pass over the inputs of one step."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    model = _Onnx(workload.network).model(workload.constant)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def call(inputs: np.ndarray) -> np.ndarray:
        return session.run(None, {"input": inputs if workload.constant else inputs[0]})[0]

    return call
