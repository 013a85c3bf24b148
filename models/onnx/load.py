"""How does a trained network get in that was exported to ONNX?

The package ``onnx`` parses the file, after its fields were walked and counted; nothing in it is executed or looked up
by name except in closed tables of operators, and what an operator does is written out as nodes of
`intsnn.network.floating`. What is not in the tables is an error that names the node.

The parts, each below the next: ``wire`` (is it ONNX, and whole?), ``files`` (what the file holds), ``graph`` (which
operations, in which order), ``builder`` (what a tensor is here), ``constants``, ``moves``, ``windows``, ``layers``,
``arithmetic`` (what each operator becomes), ``tidy`` (fewer nodes); here they are joined.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import ImportRefused, IntsnnError, ShapeError, UnsupportedError
from ...formats.arguments import flag, path_of, shown, whole, wholes
from ...network.float_nodes import FloatFlatten, FloatInput
from ...network.floating import FloatNetwork
from ...network.quantised import QuantisedNetwork
from .arithmetic import ARITHMETIC
from .builder import MAX_VALUES, Assembly, Given, Placed, drawn
from .constants import FOLDED, constant_node
from .files import ModelFile, open_model
from .graph import MAX_SIDE, OnnxNode, operations_of
from .layers import LAYERS
from .moves import MOVERS, SHAPERS
from .quantised.network import is_quantised, quantised_network
from .quantised.operators import QUANTISED, WHY_NOT
from .tidy import tidied

__all__ = ["load"]

FLOATS = (1, 10, 11, 16)  # numbers of types that are floats
NARROW = (21, 22)  # of those of 4 bits
KEEPING = (*SHAPERS, *MOVERS, "MaxPool")  # what may read codes, and gives codes
MAX_RANK = 8
COMPUTED = {**LAYERS, **ARITHMETIC}
# Why some well-known operators are not taken.
REASONS = {
    **dict.fromkeys(("LSTM", "GRU", "RNN"), "recurrent layers have no conversion to spikes here"),
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), "a graph that branches or repeats; export one plain graph"),
    **dict.fromkeys(
        ("Gelu", "Elu", "Selu", "Celu", "Mish", "Softplus", "Softsign", "Erf", "Swish", "HardSwish", "HardSigmoid"),
        "this activation has no integer spiking counterpart; train with Relu, Clip or LeakyRelu",
    ),
    "Tanh": "this activation has no integer spiking counterpart; train with Relu, or Clip from -a to a",
    **dict.fromkeys(
        ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "LpNormalization",
         "MeanVarianceNormalization", "RMSNormalization"),
        "it normalises with the values at hand; BatchNormalization is taken",
    ),
    **dict.fromkeys(("ArgMax", "TopK"), "the network has to end with the scores; take it off"),
    **dict.fromkeys(("LpPool", "GlobalLpPool"), "powers have no integer form; MaxPool and AveragePool are taken"),
    "Attention": "products of two computed values have no integer form",
}  # fmt: skip


def load(
    path: str | os.PathLike[str],
    *,
    input_shape: Sequence[int] | None = None,
    trust: bool = False,
    budget: int = 1 << 30,
) -> FloatNetwork | QuantisedNetwork:
    """Read a trained network from an ONNX file.

    Parameters
    ----------
    path : path-like
        A model with one input and one output. Weights may lie in files of the same folder ("external data").
    input_shape : sequence of int, optional
        ``(C, H, W)``, ``(C, L)`` or ``(N,)`` where the file leaves sizes open.
    trust : bool
        Leave out the walk over all fields before the library parses them: quicker, for files of known origin.
    budget : int
        Most bytes of the file, and of the arrays made of it.

    Returns
    -------
    FloatNetwork or QuantisedNetwork
        The second where weights have codes or activations levels in the file. Signals ``(C, L)`` of the file are maps
        ``(C, 1, L)``. ``metadata``, of the graph, has ``format, opset, producer, source, source_sha256``, ``external``
        (digests of files beside it), ``notes``, and ``tensors``: one entry per array with layer, role, path, shape,
        dtype, min, max and what was done to its axes.

    Raises
    ------
    DataNotFoundError
        If the file, or one beside it that it names, is missing.
    ImportRefused
        If it is no ONNX (``code`` ``not-onnx``), too large for `budget`, damaged, or its graph, an attribute or an
        array cannot be; the message names the node.
    UnsupportedError
        If an operator or an option has no counterpart here, or the package ``onnx`` is missing.
    ShapeError
        If `input_shape` is needed or does not fit.
    """
    label = path_of(path)
    trust, budget = flag(trust, "trust"), whole(budget, "budget", 1)
    if input_shape is not None:
        input_shape = wholes(input_shape, "input_shape", 1, MAX_SIDE)
    file = open_model(label, trust=trust, budget=budget)
    return _network(file, input_shape)


def _network(file: ModelFile, given: tuple[int, ...] | None) -> FloatNetwork | QuantisedNetwork:
    graph = file.model.graph
    if len(graph.output) != 1:
        raise UnsupportedError(f"{file.label}: has {len(graph.output)} outputs; exactly one is taken")
    operations = operations_of(file)
    b = Assembly(file)
    values = _initial(b, given)
    for op in operations:
        _run(b, op, values)
    result = values.get(graph.output[0].name)
    if not isinstance(result, Placed):
        raise ImportRefused(
            f"{file.label}: its output {shown(graph.output[0].name)} does not depend on its input", code="graph"
        )
    draft = tidied(b, _end(b, operations[-1] if operations else None, result))
    metadata = {
        "format": "onnx",
        "opset": file.opset,
        "producer": " ".join(f"{file.model.producer_name} {file.model.producer_version}".split())[:100],
        "source": os.path.basename(file.label),
        "source_sha256": file.sha256,
        "external": dict(file.beside),
        "tensors": b.tensors,
        "notes": b.notes,
    }
    if is_quantised(b, draft):
        return quantised_network(b, draft, metadata)
    return FloatNetwork(draft.sorted(), draft.output, metadata)


# -- what comes in ----------------------------------------------------------------------------------------------------


def _initial(b: Assembly, given: tuple[int, ...] | None) -> dict[str, Any]:
    """The input of the graph, and its initialisers, which are read when they are needed."""
    graph = b.file.model.graph
    values: dict[str, Any] = {each.name: each for each in graph.initializer}
    if len(values) < len(graph.initializer):
        raise ImportRefused(f"{b.file.label}: two initialisers have one name", code="graph")
    inputs = [each for each in graph.input if each.name not in values]
    if len(inputs) != 1:
        names = ", ".join(shown(each.name) for each in inputs[:4])
        raise UnsupportedError(f"{b.file.label}: has {len(inputs)} inputs ({names}); exactly one is taken")
    dims = _input_dims(b, inputs[0], given)
    if not math.prod(dims) <= MAX_VALUES:
        raise ShapeError(f"{b.file.label}: its input {dims} has more than {MAX_VALUES} values")
    name = " ".join(inputs[0].name.split())[:255] or "input"
    node = FloatInput(name=name, source="input", shape=drawn(dims))
    b.nodes[name], b.shapes[name] = node, node.shape
    return values | {inputs[0].name: Placed(name, dims)}


def _input_dims(b: Assembly, entry: Any, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """Sizes of the input behind the batch."""
    label, kind = b.file.label, entry.type.tensor_type
    if not entry.type.HasField("tensor_type") or kind.elem_type not in (*FLOATS, 2, 3):
        raise UnsupportedError(f"{label}: its input is of type {kind.elem_type}; floats, uint8 and int8 are taken")
    b.input_type = kind.elem_type
    if kind.elem_type not in FLOATS:
        b.note("the input is whole numbers in the file; they are taken as they are")
    if not kind.HasField("shape"):
        if given is None:
            raise ShapeError(f"{label}: the shape of its input is open; give input_shape=(C, H, W)")
        return given
    sizes = [each.dim_value if each.HasField("dim_value") else None for each in kind.shape.dim]
    told = f"({', '.join('?' if n is None else str(n) for n in sizes[:9])})"
    if not 2 <= len(sizes) <= MAX_RANK or any(n is not None and not 1 <= n <= MAX_VALUES for n in sizes[1:]):
        raise UnsupportedError(f"{label}: its input is {told}; (batch, sizes) with sizes from 1 are taken")
    if sizes[0] not in (None, 0, 1):
        raise UnsupportedError(
            f"{label}: its input {told} is a batch of {sizes[0]}; export it with an open batch, or one of 1"
        )
    wanted = sizes[1:]
    if given is not None and len(given) == 3 and given[1] == 1 and len(wanted) == 2:
        given = (given[0], given[2])
    if given is None:
        if None in wanted:
            raise ShapeError(f"{label}: its input {told} leaves sizes open; give input_shape=(C, H, W)")
        return tuple(n for n in wanted if n is not None)
    if len(given) != len(wanted) or any(w not in (None, g) for w, g in zip(wanted, given, strict=True)):
        raise ShapeError(f"{label}: input_shape {given} does not fit its input {told}")
    return given


# -- what is done -----------------------------------------------------------------------------------------------------


def _run(b: Assembly, op: OnnxNode, values: dict[str, Any]) -> None:
    """Add what an operation computes to `values`."""
    if op.domain and (op.domain, op.kind) not in QUANTISED:
        told = WHY_NOT.get(op.kind, "operators of ONNX itself and quantisers of QONNX are taken")
        raise op.unsupported(f"is of the domain {shown(op.domain)}; {told}")
    _check_reading(b, op)
    inputs: list[Given] = []
    for name in op.inputs:
        if name and name not in values:
            raise op.unsupported(f"reads {shown(name)}, an output of another node that is not taken")
        value = values[name] if name else None
        if value is not None and not isinstance(value, Placed | np.ndarray):
            if value.data_type in NARROW:
                b.narrow[name] = value.data_type
            value = values[name] = b.file.array(value, f"the initialiser {shown(name)}")
        inputs.append(value)
    found = _outcome(b, op, inputs)
    found = found if isinstance(found, list) else [found]
    if len(found) > len(op.outputs):
        raise op.bad(f"it has {len(op.outputs)} outputs; {len(found)} are computed")
    for name, value in zip(op.outputs, found, strict=False):
        if isinstance(value, Placed):
            if not 1 <= math.prod(value.dims) <= MAX_VALUES or len(value.dims) > MAX_RANK:
                raise op.bad(f"its result has the shape {(1, *value.dims)}")
            b.file.charge(0 if value.places is None else value.places.nbytes, str(op))
        else:
            value = np.asarray(value)  # of no axes, numpy gives scalars
            b.file.charge(value.nbytes, str(op))
        values[name] = value


def _check_reading(b: Assembly, op: OnnxNode) -> None:
    """Refuse what reads codes as if they were values, or what is computed at the end of the network alone."""
    for name in op.inputs:
        why, passing = b.ends.get(name, ("", (op.kind,)))
        if op.kind not in passing:
            raise UnsupportedError(why)
        if why:
            b.ends[op.outputs[0]] = (why, passing)
        if name in b.codings and (op.domain, op.kind) not in QUANTISED:
            if op.kind not in KEEPING:
                raise op.unsupported(
                    f"reads {shown(name)}, the codes of a quantiser; a DequantizeLinear has to be between"
                )
            b.codings[op.outputs[0]] = b.codings[name]


def _outcome(b: Assembly, op: OnnxNode, inputs: list[Given]) -> Any:
    """What an operation computes: a view, an array, or several."""
    kind = op.kind
    if (op.domain, kind) in QUANTISED:
        if not inputs:
            raise op.bad("it has no input")
        return QUANTISED[op.domain, kind](b, op, inputs)
    if kind == "Constant":
        return constant_node(op)
    known = all(isinstance(each, np.ndarray) for each in inputs if each is not None)
    x = inputs[0] if inputs else None
    if kind in ("Shape", "Size") and isinstance(x, Placed):
        return FOLDED[kind](op, [np.broadcast_to(np.int8(0), (1, *x.dims))])
    if kind in SHAPERS or kind in MOVERS:
        if x is None:
            raise op.bad("it has no input")
        return _moved(b, op, inputs, x)
    if known and kind in FOLDED:
        return _folded(op, [each for each in inputs if each is not None])  # type: ignore[misc]
    if kind in COMPUTED and not known:
        return COMPUTED[kind](b, op, inputs)
    if kind in ("Dropout", "Cast") and isinstance(x, Placed):
        return _nothing(b, op, inputs, x)
    if known:
        raise op.unsupported("it computes a constant; fold the constants before, or save them as initialisers")
    why = WHY_NOT.get(kind) or REASONS.get(
        kind, f"operators that are taken are {', '.join(sorted({*COMPUTED, *SHAPERS, *MOVERS}))}"
    )
    raise op.unsupported(f"is not supported: {why}")


def _folded(op: OnnxNode, arrays: list[np.ndarray]) -> np.ndarray:
    try:
        return FOLDED[op.kind](op, arrays)
    except IntsnnError:
        raise
    except (ValueError, TypeError, IndexError, OverflowError, ArithmeticError, MemoryError) as error:
        raise op.bad(f"its constants do not fit ({' '.join(str(error).split())[:100]})") from None


def _moved(b: Assembly, op: OnnxNode, inputs: list[Given], x: Placed | np.ndarray) -> Placed | np.ndarray:
    """What an operation that only moves values makes of a computed value or a constant."""
    shape = (1, *x.dims) if isinstance(x, Placed) else x.shape
    if op.kind in SHAPERS:
        target = SHAPERS[op.kind](b, op, inputs, shape)
        if isinstance(x, np.ndarray):
            _move_codes(b, op, lambda a: a.reshape(target))
            return x.reshape(target)
        if not target or target[0] != 1:
            raise op.unsupported(f"gives {shape} the shape {target}; the batch has to stay the first axis")
        return x.relabelled(target[1:])
    move = MOVERS[op.kind](b, op, inputs, shape)
    if isinstance(x, np.ndarray):
        places = move(np.arange(x.size).reshape(shape))
        if places.size and places.min() >= 0:
            _move_codes(b, op, lambda a: a.reshape(-1)[places])
        return np.append(x.reshape(-1), x.dtype.type(0))[places]  # the last for -1
    found = x.moved(lambda places: _behind_batch(op, shape, move(places[None])))
    return found


def _move_codes(b: Assembly, op: OnnxNode, move: Callable[[np.ndarray], np.ndarray]) -> None:
    """The codes of a constant go with it."""
    codes = b.codes.get(op.inputs[0])
    if codes is not None:
        b.codes[op.outputs[0]] = codes.turned(move)


def _behind_batch(op: OnnxNode, shape: tuple[int, ...], places: np.ndarray) -> np.ndarray:
    if not places.ndim or places.shape[0] != 1:
        raise op.unsupported(f"makes {places.shape} of {shape}; the batch has to stay the first axis")
    return places[0]


def _nothing(b: Assembly, op: OnnxNode, inputs: list[Given], x: Placed) -> Placed:
    """A Dropout of a network that is trained, or a Cast between floats."""
    if op.kind == "Cast":
        if op.integer("to", 0) not in FLOATS:
            raise op.unsupported(f"it casts a computed value to type {op.integer('to', 0)}; floats are taken")
        if op.integer("to", 0) in (10, 16):
            b.note(f"node {op.name!r}: values are not rounded to 16 bits")
        return x
    training = b.optional(op, inputs, 2, "training_mode")
    if training is not None and training.any():
        raise op.unsupported("it drops values at random; export the network in eval mode")
    return x


def _end(b: Assembly, op: OnnxNode | None, result: Placed) -> str:
    """The node of the output, in place; where all axes but one are of size 1 it is a vector."""
    if op is None:
        raise ImportRefused(f"{b.file.label}: its output is its input", code="graph")
    if math.prod(result.dims) == max(result.dims, default=1):
        result = result.relabelled((math.prod(result.dims),))
    found = b.settle(op, result)
    if b.nodes[found.node].takes_input:
        found = b.emit(FloatFlatten, op, "output", (found.node,))
    return found.node
