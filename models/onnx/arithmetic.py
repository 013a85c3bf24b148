"""What do sums, products and concatenations become? A scale and shift by constants; sums and rows of branches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ...network.float_moves import FloatConcat
from ...network.float_nodes import FloatAdd, FloatBatchNorm
from .builder import Assembly, Given, Placed
from .graph import OnnxNode
from .layers import along

__all__ = ["ARITHMETIC", "scaled"]


def scaled(
    b: Assembly, op: OnnxNode, x: Placed, scale: np.ndarray | float = 1.0, shift: np.ndarray | float = 0.0
) -> Placed:
    """``scale * x + shift`` with constants as ONNX broadcasts them; `op.unsupported` where they repeat `x`."""
    values = [np.asarray(each, np.float64) for each in (scale, shift)]
    dims, rank = x.dims, len(x.dims) + 1
    spread = []
    for value in values:
        shape = (1,) * (rank - value.ndim) + value.shape
        if len(shape) != rank or any(n not in (1, m) for n, m in zip(shape, (1, *dims), strict=True)):
            raise op.unsupported(f"its constant of {value.shape} repeats a value of the shape {(1, *dims)}")
        spread.append(value.reshape(shape)[0])
    varies = sorted({k for value in spread for k in range(rank - 1) if _varies(value, k)})
    if all((value == k).all() for value, k in zip(spread, (1, 0), strict=True)):
        return x
    if len(varies) < 2 and dims:
        axis = varies[0] if varies else 0
        given = [_line(value, axis, dims[axis]) for value in spread]
    else:  # one of each for every value
        axis, x = 0, x.relabelled((math.prod(dims),))
        given = [np.broadcast_to(value, dims).reshape(-1) for value in spread]

    b.file.charge(32 * len(given[0]), str(op))

    def make(view: Placed) -> Placed:
        zeros, ones = np.zeros(len(given[0])), np.ones(len(given[0]))
        return b.emit(
            FloatBatchNorm, op, "", (view.node,), view.dims, gamma=given[0], beta=given[1], mean=zeros, variance=ones,
            epsilon=0.0,
        )  # fmt: skip

    return along(b, op, x, axis, make).relabelled(dims)


def _varies(value: np.ndarray, axis: int) -> bool:
    return value.shape[axis] > 1 and bool((value != np.take(value, [0], axis)).any())


def _line(value: np.ndarray, axis: int, size: int) -> np.ndarray:
    """The values along an axis, of an array that changes along no other."""
    line = value[tuple(slice(None) if k == axis else 0 for k in range(value.ndim))]
    return np.ascontiguousarray(np.broadcast_to(line, (size,)))


def _parts(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> tuple[list[Placed], list[np.ndarray]]:
    """Computed values and constants among the inputs."""
    constants = [b.weights(op, inputs, k, "constant") for k, each in enumerate(inputs) if isinstance(each, np.ndarray)]
    return [each for each in inputs if isinstance(each, Placed)], constants


def _add(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    views, constants = _parts(b, op, inputs)
    x = views[0]
    if any(each.dims != x.dims for each in views):
        told = ", ".join(str((1, *each.dims)) for each in views)
        raise op.unsupported(f"adds values of the shapes {told}; branches have to be of one shape")
    if len(views) > 1:
        x = b.emit(FloatAdd, op, "sum" if constants else "", [b.settle(op, each).node for each in views], x.dims)
    for constant in constants:
        x = scaled(b, op, x, shift=constant)
    return x


def _subtract(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    views, constants = _parts(b, op, inputs)
    if len(inputs) != 2:
        raise op.bad(f"it has {len(inputs)} inputs; two are needed")
    if not constants:
        negative = scaled(b, op, views[1], -1.0)
        return _add(b, op, [views[0], negative])
    (x,), (constant,) = views, constants
    return scaled(b, op, x, shift=-constant) if isinstance(inputs[0], Placed) else scaled(b, op, x, -1.0, constant)


def _multiply(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    views, constants = _parts(b, op, inputs)
    if len(views) > 1:
        raise op.unsupported(
            "multiplies two values that both depend on the input (a gate, SiLU, squeeze and excitation); that has no "
            "integer form"
        )
    x = views[0]
    for constant in constants:
        x = scaled(b, op, x, constant)
    return x


def _divide(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    x = inputs[0]
    if len(inputs) != 2 or not isinstance(x, Placed) or isinstance(inputs[1], Placed):
        raise op.unsupported("divides by a value that depends on the input; only constants are divided by")
    constant = b.weights(op, inputs, 1, "constant").astype(np.float64)
    if (constant == 0).any():
        raise op.bad("divides by 0")
    return scaled(b, op, x, 1 / constant)


def _negative(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    return scaled(b, op, b.computed(op, inputs), -1.0)


def _concat(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    views = [b.computed(op, inputs, k) for k in range(len(inputs))]
    first = views[0].dims
    rank = len(first) + 1
    axis = op.integer("axis", 1)
    if not -rank <= axis < rank or axis % rank == 0:
        raise op.unsupported(f"its axis is {axis}; 1 to {rank - 1} are taken, the batch is not")
    axis = axis % rank - 1
    if any(each.dims[:axis] + each.dims[axis + 1 :] != first[:axis] + first[axis + 1 :] for each in views):
        raise op.bad(f"its inputs {[(1, *each.dims) for each in views[:8]]} do not fit beside each other")
    if len(views) == 1:
        return views[0]
    dims = (*first[:axis], sum(each.dims[axis] for each in views), *first[axis + 1 :])
    if axis == 0 and len(first) <= 3:
        return b.emit(FloatConcat, op, "", [b.settle(op, each).node for each in views], dims)
    flat = [b.settle(op, each.relabelled((math.prod(each.dims),))).node for each in views]
    side = b.emit(FloatConcat, op, "", flat)
    starts = np.cumsum([0, *(math.prod(each.dims) for each in views)])
    places = [
        start + np.arange(math.prod(each.dims)).reshape(each.dims)
        for start, each in zip(starts[:-1], views, strict=True)
    ]
    return Placed(side.node, dims, np.concatenate(places, axis))


def _split(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> list[Placed]:
    x = b.computed(op, inputs)
    rank = len(x.dims) + 1
    axis = op.integer("axis", 0)
    if not -rank <= axis < rank or axis % rank == 0:
        raise op.unsupported(f"its axis is {axis}; 1 to {rank - 1} are taken, the batch is not")
    axis = axis % rank - 1
    given, size, count = b.optional(op, inputs, 1, "split"), x.dims[axis], len(op.outputs)
    parts = op.integers("split") if given is None else b.indices(op, given, "sizes")
    if parts is None:
        each = -(-size // count)
        parts = tuple(max(min(each, size - k * each), 0) for k in range(count))
    if sum(parts) != size or len(parts) != count or min(parts) < 1:
        raise op.bad(f"it splits {size} into {list(parts)[:8]} for {count} outputs")
    pieces = np.split(x.moved(lambda p: p).places, np.cumsum(parts)[:-1], axis)  # type: ignore[arg-type]
    return [Placed(x.node, each.shape, each) for each in pieces]


ARITHMETIC: dict[str, Callable[[Assembly, OnnxNode, Sequence[Given]], Placed | list[Placed]]] = {
    "Add": _add,
    "Concat": _concat,
    "Div": _divide,
    "Mul": _multiply,
    "Neg": _negative,
    "Split": _split,
    "Sub": _subtract,
    "Sum": _add,
}
