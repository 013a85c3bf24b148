"""What do the operators of quantised files become? Pairs of ONNX, its layers of codes, and the quantisers of QONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ....formats.fixed import Fixed
from ....formats.weights import Bipolar
from ..arithmetic import ARITHMETIC
from ..builder import Assembly, Coding, Given, Placed
from ..graph import OnnxNode
from ..layers import LAYERS
from .codes import MOST_BITS, ROUNDINGS, constant_codes, fired, in_shape, scalar

__all__ = ["QUANTISED", "WHY_NOT"]

QONNX = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
# Number of a type -> (bits, signed)
CODES = {2: (8, False), 3: (8, True), 4: (16, False), 5: (16, True), 6: (32, True), 21: (4, False), 22: (4, True)}
TYPES = {"uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6}
WHY_NOT = {
    **dict.fromkeys(
        ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"),
        "scales that depend on the input; quantise the network statically",
    ),
    "Trunc": "it cuts bits off sums; an average pool with a quantiser behind it is taken",
}


def _kind(b: Assembly, op: OnnxNode, name: str, zero: np.ndarray | None) -> tuple[int, bool]:
    """Bits and sign of codes, from the type of their zero point."""
    number = (
        op.integer("output_dtype", 0) or b.narrow.get(name) or (2 if zero is None else TYPES.get(str(zero.dtype), 0))
    )
    if number not in CODES:
        raise op.unsupported(f"codes of type {number or zero.dtype}; whole numbers of 4, 8 and 16 bits are taken")  # type: ignore[union-attr]
    return CODES[number]


def _limits(bits: int, signed: bool, narrow: bool = False) -> tuple[int, int]:
    if not signed:
        return 0, (1 << bits) - (2 if narrow else 1)
    return -(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1


def _name(op: OnnxNode, index: int) -> str:
    return op.inputs[index] if index < len(op.inputs) else ""


def _no_blocks(op: OnnxNode) -> None:
    if op.integer("block_size", 0):
        raise op.unsupported("scales of blocks; one scale, or one per channel, is taken")


def _quantize(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Any:
    _no_blocks(op)
    zero = b.optional(op, inputs, 2, "zero point")
    bits, signed = _kind(b, op, _name(op, 2), zero)
    low, high = _limits(bits, signed)
    x = inputs[0]
    if isinstance(x, np.ndarray):
        axis = op.integer("axis", 1)
        scale = in_shape(op, b.constant(op, inputs, 1, "scale"), x.shape, axis, "scale")
        shift = in_shape(op, np.zeros(1) if zero is None else zero, x.shape, axis, "zero point")
        codes = _rounded(op, x, scale, shift, np.rint)
        return np.clip(codes, low, high).astype(np.int8 if signed and bits <= 8 else np.int32)
    view = b.computed(op, inputs)
    point = 0 if zero is None else int(scalar(b, op, inputs, 2, "zero point"))
    coding = Coding(scalar(b, op, inputs, 1, "scale"), point, low, high)
    b.codings[op.outputs[0]] = coding
    return fired(b, op, view, coding)


def _rounded(
    op: OnnxNode, x: np.ndarray, scale: np.ndarray, zero: np.ndarray | int, rounding: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Codes of a constant, not limited yet."""
    with np.errstate(all="ignore"):
        found = rounding(x / scale) + zero
    if scale.dtype.kind != "f" or not (scale > 0).all() or not np.isfinite(found).all():
        raise op.bad("its scale has to be positive, and what it divides finite")
    return found


def _dequantize(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Any:
    _no_blocks(op)
    zero = b.optional(op, inputs, 2, "zero point")
    x = inputs[0]
    if isinstance(x, np.ndarray):
        if x.dtype.kind not in "iu":
            raise op.bad(f"its input is of {x.dtype}; whole numbers are needed")
        axis = op.integer("axis", 1)
        scale = in_shape(op, b.constant(op, inputs, 1, "scale"), x.shape, axis, "scale")
        shift = in_shape(op, np.zeros(1, np.int8) if zero is None else zero, x.shape, axis, "zero point")
        number = b.narrow.get(_name(op, 0)) or TYPES.get(str(x.dtype), 0)
        bits, signed = CODES.get(number, (32, True))
        return constant_codes(b, op, x, scale, shift, Fixed(bits, signed=signed))
    view = b.computed(op, inputs)
    coding = b.codings.get(op.inputs[0])
    step, point = scalar(b, op, inputs, 1, "scale"), 0 if zero is None else int(scalar(b, op, inputs, 2, "zero point"))
    if coding is None:  # the input itself is codes
        number = b.input_type if b.nodes[view.node].takes_input else 0
        if number not in CODES:
            raise op.unsupported("it reads no codes of a quantiser")
        return fired(b, op, view, Coding(step, point, *_limits(*CODES[number])))
    if (step, point) != (coding.scale, coding.zero):
        raise op.unsupported(
            f"its scale {step:g} and zero point {point} are not those of the quantiser before it, {coding.scale:g} and "
            f"{coding.zero}"
        )
    return view


# -- layers of codes --------------------------------------------------------------------------------------------------


def _layer(kind: str, given: Sequence[int], bias: int | None, out: tuple[int, int]) -> Callable[..., Placed]:
    """A layer of ONNX or of onnxruntime that reads and writes codes.

    `given`: inputs of x, its scale and zero point, weight, its scale and zero point; `bias`: of whole numbers; `out`:
    scale and zero point of the result.
    """

    def build(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
        inputs = [*inputs, *[None] * (max(*given, *out, bias or 0) + 1 - len(inputs))]
        names = [*op.inputs, *[""] * (len(inputs) - len(op.inputs))]

        def part(*indices: int) -> tuple[list[Given], tuple[str, ...]]:
            return [inputs[k] for k in indices], tuple(names[k] for k in indices)

        taken, told = part(*given[:3])
        x = _dequantize(b, replace(op, inputs=told, outputs=(f"{op.name}/x",)), taken)
        taken, told = part(*given[3:])
        axis = 0 if kind == "Conv" or op.integer("transB", 0) else 1
        values = _scaled_weight(b, replace(op, inputs=told, outputs=told[:1]), taken, axis)
        parts: list[Given] = [x, values]
        if bias is not None and inputs[bias] is not None:
            scale = scalar(b, op, inputs, given[1], "scale") * b.constant(op, inputs, given[4], "scale").astype(
                np.float64
            )
            parts.append(b.constant(op, inputs, bias, "bias").reshape(-1) * scale.reshape(-1))
        inner = replace(op, kind=kind, domain="", inputs=(names[given[0]], names[given[3]], names[bias or 0]))
        y = LAYERS[kind](b, inner, parts)
        taken, told = part(*out)
        if taken[0] is None:
            return y  # real values, at the end
        return _quantize(b, replace(op, inputs=(names[0], *told)), [y, *taken])

    return build


def _sum(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Any:
    """A sum of codes: that of their real values, quantised."""
    inputs = [*inputs, *[None] * (8 - len(inputs))]
    names = (*op.inputs, *[""] * (8 - len(op.inputs)))
    parts = [
        _dequantize(b, replace(op, inputs=names[k : k + 3], outputs=(f"{op.name}/{k}",)), inputs[k : k + 3])
        for k in (0, 3)
    ]
    inner = replace(op, kind="Add", domain="", inputs=(names[0], names[3]))
    total: Any = ARITHMETIC["Add"](b, inner, parts)
    return _quantize(b, replace(op, inputs=(names[0], *names[6:8])), [total, *inputs[6:8]])


def _scaled_weight(b: Assembly, op: OnnxNode, inputs: Sequence[Given], axis: int) -> np.ndarray:
    codes, scale = b.constant(op, inputs, 0, "weight"), b.constant(op, inputs, 1, "weight scale")
    zero = b.optional(op, inputs, 2, "weight zero point")
    zero = np.zeros(1, np.int8) if zero is None else zero
    number = b.narrow.get(op.inputs[0]) or TYPES.get(str(codes.dtype), 0)
    bits, signed = CODES.get(number, (32, True))
    along = in_shape(op, scale.reshape(-1), codes.shape, axis, "weight scale")
    shift = in_shape(op, zero.reshape(-1), codes.shape, axis, "weight zero point")
    return constant_codes(b, op, codes, along, shift, Fixed(bits, signed=signed))


# -- QONNX ------------------------------------------------------------------------------------------------------------


def _quant(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Any:
    bits = scalar(b, op, inputs, 3, "bit width")
    signed, narrow = bool(op.integer("signed", 1)), bool(op.integer("narrow", 0))
    rounding = op.text("rounding_mode", "ROUND").upper()
    if bits != int(bits) or not 1 + signed <= bits <= MOST_BITS:
        raise op.unsupported(f"a width of {bits:g} bits; {1 + signed} to {MOST_BITS} are taken")
    if rounding not in ROUNDINGS:
        raise op.unsupported(f"rounding mode {rounding!r}; {', '.join(ROUNDINGS)} are taken")
    low, high = _limits(int(bits), signed, narrow)
    x = inputs[0]
    if isinstance(x, np.ndarray):
        scale = in_shape(op, b.constant(op, inputs, 1, "scale"), x.shape, None, "scale")
        zero = in_shape(op, b.constant(op, inputs, 2, "zero point"), x.shape, None, "zero point")
        if not (np.abs(zero) <= 1 << MOST_BITS).all() or (zero != np.rint(zero)).any():
            raise op.bad(f"its zero point has to be whole, of up to {MOST_BITS} bits")
        codes = np.clip(_rounded(op, x, scale, 0, lambda value: ROUNDINGS[rounding](value + zero)), low, high)
        return constant_codes(b, op, codes, scale, zero, Fixed(int(bits), signed=signed, narrow=narrow and signed))
    zero_point = scalar(b, op, inputs, 2, "zero point")
    if zero_point != int(zero_point):
        raise op.bad(f"its zero point is {zero_point}; a whole number is needed")
    if rounding not in ("ROUND", "HALF_EVEN", "HALF_UP"):
        raise op.unsupported(f"rounding mode {rounding!r} of a computed value; ROUND is taken")
    return fired(b, op, b.computed(op, inputs), Coding(scalar(b, op, inputs, 1, "scale"), int(zero_point), low, high))


def _bipolar(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> np.ndarray:
    x = inputs[0]
    if not isinstance(x, np.ndarray):
        raise op.unsupported("values of -1 and +1 have no spikes; weights alone are bipolar here")
    scale = in_shape(op, b.constant(op, inputs, 1, "scale"), x.shape, None, "scale")
    codes = np.where(x >= 0, 1, -1)
    return constant_codes(b, op, codes, scale, np.zeros_like(codes), Bipolar())


OPERANDS = (0, 1, 2, 3, 4, 5)
QUANTISED: dict[tuple[str, str], Callable[[Assembly, OnnxNode, Sequence[Given]], Any]] = {
    ("", "QuantizeLinear"): _quantize,
    ("", "DequantizeLinear"): _dequantize,
    ("", "QLinearConv"): _layer("Conv", OPERANDS, 8, (6, 7)),
    ("", "QLinearMatMul"): _layer("MatMul", OPERANDS, None, (6, 7)),
    ("com.microsoft", "QGemm"): _layer("Gemm", OPERANDS, 6, (7, 8)),
    ("com.microsoft", "QLinearAdd"): _sum,
    ("com.microsoft", "QuantizeLinear"): _quantize,
    ("com.microsoft", "DequantizeLinear"): _dequantize,
    **{(domain, kind): _quant for domain in QONNX for kind in ("Quant", "IntQuant")},
    **{(domain, "BipolarQuant"): _bipolar for domain in QONNX},
}
