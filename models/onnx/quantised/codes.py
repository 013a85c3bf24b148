"""Which whole numbers does a quantiser of a file mean? Codes and scales of constants, levels of computed values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ....formats.fixed import Fixed
from ....formats.weights import Bipolar
from ....network.quantised import QuantReLU
from ..builder import Assembly, Codes, Coding, Given, Placed
from ..graph import OnnxNode
from ..moves import SHAPERS

__all__ = ["constant_codes", "fired", "in_shape", "scalar"]

# What may read values whose rounding is left out: they go on to be read by these alone, to the end of the network.
PASSING = (
    *SHAPERS,
    "Add",
    "Cast",
    "DequantizeLinear",
    "LogSoftmax",
    "QLinearAdd",
    "QuantizeLinear",
    "Sigmoid",
    "Softmax",
)
MOST_BITS = 16
ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ROUND": np.rint, "FLOOR": np.floor, "CEIL": np.ceil, "ROUND_TO_ZERO": np.trunc, "DOWN": np.trunc,
    "HALF_EVEN": np.rint, "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
}  # fmt: skip


def scalar(b: Assembly, op: OnnxNode, inputs: Sequence[Given], index: int, role: str) -> float:
    """A constant of one number."""
    found = b.constant(op, inputs, index, role)
    if found.size != 1 or not np.isfinite(found).all():
        raise op.unsupported(f"its {role} is {found.shape}; one finite number is taken for a value that is computed")
    return float(found.reshape(-1)[0])


def in_shape(op: OnnxNode, scale: np.ndarray, shape: tuple[int, ...], axis: int | None, role: str) -> np.ndarray:
    """A scale or zero point in the shape of what it belongs to: one number, one along `axis`, or as it broadcasts."""
    if scale.ndim == 1 and scale.size > 1 and axis is not None:
        if not -len(shape) <= axis < len(shape) or shape[axis] != scale.size:
            raise op.bad(f"its {role} has {scale.size} numbers; axis {axis} of {shape} does not")
        line = [1] * len(shape)
        line[axis] = scale.size
        scale = scale.reshape(line)
    if scale.size == 1:
        scale = scale.reshape(())
    try:
        return np.broadcast_to(scale, shape)
    except ValueError:
        raise op.unsupported(
            f"its {role} is {scale.shape}, its input {shape}; one number, or one per channel, is taken"
        ) from None


def constant_codes(
    b: Assembly, op: OnnxNode, codes: np.ndarray, scale: np.ndarray, zero: np.ndarray, form: Fixed | Bipolar
) -> np.ndarray:
    """The real values of codes; where they can be weights here, the codes are kept for the layer that reads them."""
    if scale.dtype.kind != "f" or not (np.isfinite(scale) & (scale > 0)).all():
        raise op.bad("its scale has to be positive and finite")
    whole = codes.astype(np.int64) - zero.astype(np.int64)
    with np.errstate(all="ignore"):
        found = (whole * scale).astype(scale.dtype)
    if not zero.any() and (not isinstance(form, Fixed) or form.signed):
        b.codes[op.outputs[0]] = Codes(whole, scale.astype(np.float64), form)
    b.file.charge(16 * codes.size, str(op))
    return found


def _root(b: Assembly, name: str) -> Any:
    """The node whose values another one only moves or chooses from."""
    node = b.nodes[name]
    while node.moves_only or node.chooses:
        node = b.nodes[node.inputs[0]]
    return node


def _levels_of(b: Assembly, name: str) -> Coding | None:
    """The codes that the value of a node is made of: levels of activations in one unit, moved, chosen, side by side."""
    node = _root(b, name)
    parts = [_root(b, each) for each in node.inputs] if node.gathers else [node]
    if all(each.activates and each.quantised and each.step == parts[0].step for each in parts):
        return Coding(parts[0].step, 0, 0, max(each.levels for each in parts))
    return None


def fired(b: Assembly, op: OnnxNode, x: Placed, coding: Coding) -> Placed:
    """A computed value behind a quantiser.

    The first one of the input says what its codes are; one that finds the levels it makes changes nothing; unsigned
    levels from 0 are neurons; anything else is only left out at the end of the network.
    """
    if not np.isfinite(coding.scale) or coding.scale <= 0:
        raise op.bad(f"its scale is {coding.scale}; a positive number is needed")
    if _root(b, x.node).takes_input:
        if b.input_coding not in (None, coding):
            raise op.unsupported("it quantises the input in another way than a quantiser before")
        b.input_coding = coding
        return x
    before = _levels_of(b, x.node)
    if before is not None and before.scale == coding.scale and coding.zero == 0:
        if coding.low <= before.low and before.high <= coding.high:
            return x
    if coding.zero == 0 and coding.low == 0:
        x = b.settle(op, x)
        return b.emit(QuantReLU, op, "", (x.node,), x.dims, step=coding.scale, levels=coding.high)
    why = (
        f"{op}: its codes are {coding.low} .. {coding.high} with the zero point {coding.zero}; inside a network levels "
        "are unsigned with the zero point 0, as behind a ReLU"
    )
    b.ends[op.outputs[0]] = (why, PASSING)
    b.note(f"node {op.name!r}: that values are rounded and limited at the end of the network is left out")
    return x
