"""Which operations follow from constants alone? They are carried out while the graph is read: a closed, small table.

Exporters write the sizes of a reshape as such a computation, and weights in another layout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .builder import MAX_VALUES
from .files import TYPES
from .graph import OnnxNode

__all__ = ["FOLDED", "constant_node"]


def constant_node(op: OnnxNode) -> np.ndarray:
    """The array of a Constant."""
    for name, read in (("value", op.tensor), ("value_ints", op.integers), ("value_floats", op.numbers)):
        if op.has(name):
            found: Any = read(name)  # type: ignore[operator]
            return found if name == "value" else np.array(found, np.int64 if name == "value_ints" else np.float32)
    if op.has("value_int"):
        return np.array(op.integer("value_int", 0), np.int64)
    if op.has("value_float"):
        return np.array(op.number("value_float", 0.0), np.float32)
    raise op.unsupported("a constant that is no dense array of numbers")


def _broadcast(op: OnnxNode, arrays: Sequence[np.ndarray]) -> None:
    """Refuse arrays that do not fit together, or whose result would be too large."""
    try:
        shape = np.broadcast_shapes(*(each.shape for each in arrays))
    except ValueError:
        raise op.bad(f"constants of {', '.join(str(each.shape) for each in arrays)} do not fit together") from None
    if math.prod(shape) > MAX_VALUES:
        raise op.bad(f"its result {shape} has more than {MAX_VALUES} values")


def _by_element(function: Callable[..., np.ndarray]) -> Callable[[OnnxNode, list[np.ndarray]], np.ndarray]:
    def fold(op: OnnxNode, arrays: list[np.ndarray]) -> np.ndarray:
        _broadcast(op, arrays)
        with np.errstate(all="ignore"):
            return np.asarray(function(*arrays))

    return fold


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind == "f":
        return a / b
    return np.trunc(a / b).astype(a.dtype) if (b != 0).all() else np.zeros_like(a)


def _concat(op: OnnxNode, arrays: list[np.ndarray]) -> np.ndarray:
    if sum(each.size for each in arrays) > MAX_VALUES:
        raise op.bad(f"its result has more than {MAX_VALUES} values")
    return np.concatenate(arrays, op.integer("axis", 0))


def _cast(op: OnnxNode, arrays: list[np.ndarray]) -> np.ndarray:
    name, dtype, _ = TYPES.get(op.integer("to", 0), ("", None, ""))
    if dtype is None:
        raise op.unsupported(f"it casts to type {op.integer('to', 0)}; numbers of 8 to 64 bits are taken")
    with np.errstate(all="ignore"):
        found = arrays[0].astype(dtype)
    return found.astype(np.float32) if name == "float16" else found


def _constant_of_shape(op: OnnxNode, arrays: list[np.ndarray]) -> np.ndarray:
    sizes = [int(n) for n in arrays[0].reshape(-1)[:9]]
    if len(sizes) > 8 or any(n < 0 for n in sizes) or math.prod(sizes) > MAX_VALUES:
        raise op.bad(f"it makes an array of {sizes}; up to {MAX_VALUES} values are possible")
    value = op.tensor("value")
    value = np.zeros(1, np.float32) if value is None else value
    return np.full(sizes, value.reshape(-1)[0] if value.size else 0, value.dtype)


def _range(op: OnnxNode, arrays: list[np.ndarray]) -> np.ndarray:
    start, stop, step = (each.reshape(-1)[0] for each in arrays)
    count = math.ceil((float(stop) - float(start)) / float(step)) if step else MAX_VALUES + 1
    if count > MAX_VALUES:
        raise op.bad(f"it counts from {start} to {stop} by {step}; up to {MAX_VALUES} values are possible")
    return start + step * np.arange(max(count, 0)).astype(arrays[0].dtype)


def _reduce(function: Callable[..., np.ndarray]) -> Callable[[OnnxNode, list[np.ndarray]], np.ndarray]:
    def fold(op: OnnxNode, arrays: list[np.ndarray]) -> np.ndarray:
        axes = op.integers("axes")
        if axes is None and len(arrays) > 1:
            axes = tuple(int(n) for n in arrays[1].reshape(-1))
        return np.asarray(function(arrays[0], axis=axes or None, keepdims=bool(op.integer("keepdims", 1))))

    return fold


def _shape(op: OnnxNode, arrays: list[np.ndarray]) -> np.ndarray:
    """Of a tensor whose sizes are those of the array."""
    end = op.integer("end", 1 << 31)
    return np.array(arrays[0].shape[op.integer("start", 0) : end], np.int64)


# Operator -> function of the operation and its inputs, all of them constants.
FOLDED: dict[str, Callable[[OnnxNode, list[np.ndarray]], np.ndarray]] = {
    "Add": _by_element(np.add),
    "Sub": _by_element(np.subtract),
    "Mul": _by_element(np.multiply),
    "Div": _by_element(_divide),
    "Pow": _by_element(np.power),
    "Neg": _by_element(np.negative),
    "Abs": _by_element(np.abs),
    "Sqrt": _by_element(np.sqrt),
    "Reciprocal": _by_element(np.reciprocal),
    "Floor": _by_element(np.floor),
    "Ceil": _by_element(np.ceil),
    "Mod": _by_element(lambda a, b: np.mod(a, b) if a.dtype.kind == "f" or (b != 0).all() else np.zeros_like(a)),
    "Equal": _by_element(np.equal),
    "Less": _by_element(np.less),
    "Greater": _by_element(np.greater),
    "Not": _by_element(np.logical_not),
    "And": _by_element(np.logical_and),
    "Or": _by_element(np.logical_or),
    "Where": _by_element(np.where),
    "Min": _by_element(lambda *each: np.minimum.reduce(np.broadcast_arrays(*each))),
    "Max": _by_element(lambda *each: np.maximum.reduce(np.broadcast_arrays(*each))),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "Shape": _shape,
    "Size": lambda op, arrays: np.array(arrays[0].size, np.int64),
}
