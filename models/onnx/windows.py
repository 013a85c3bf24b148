"""Which window does a node of the file mean? Strides, padding and factors, with "same" and rounding up written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from ...network.node import Padding, Pair
from .builder import MAX_VALUES, Assembly, Given
from .graph import OnnxNode

__all__ = ["FileWindow", "whole_factors", "window_of"]

LONGEST_AXIS = 1 << 14  # that is resized: each of its places is looked at
AUTO = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def _rows(values: Sequence, one) -> tuple:
    """Two values for rows and columns; signals have one row."""
    return (one, values[0]) if len(values) == 1 else (values[0], values[1])


@dataclass(frozen=True)
class FileWindow:
    """Rows and columns of each; `surplus` is what windows reach beyond the padding where sizes are rounded up."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: Padding
    surplus: Padding = ((0, 0), (0, 0))

    def padded(self, pads: Sequence[Pair]) -> FileWindow:
        """With another padding."""
        return replace(self, padding=_rows(pads, (0, 0)))

    def reached(self) -> Padding:
        """Padding and surplus together."""
        (top, bottom), (left, right) = self.padding
        return (top, bottom + self.surplus[0][1]), (left, right + self.surplus[1][1])


def window_of(
    op: OnnxNode, sizes: Sequence[int], kernel: Sequence[int], *, ceil: bool = False, same: bool = True
) -> FileWindow:
    """The window of a convolution or pool over maps, or signals, of `sizes`.

    `ceil`: sizes are rounded up. `same`: whether "same" is understood as of what goes in; else it is no padding.
    """
    axes = len(sizes)
    if op.has("kernel_shape") and op.integers("kernel_shape") != tuple(kernel):
        raise op.bad(f"kernel_shape is {op.integers('kernel_shape')}, its weight has {tuple(kernel)}")
    stride, dilation = op.sizes("strides", axes, 1), op.sizes("dilations", axes, 1)
    auto = op.text("auto_pad", "NOTSET") or "NOTSET"
    if auto not in AUTO:
        raise op.bad(f"auto_pad is {auto!r}; {', '.join(AUTO)} are possible")
    pads: list[Pair] = [(0, 0)] * axes
    if auto == "NOTSET":
        both = op.integers("pads") or (0,) * (2 * axes)
        if len(both) != 2 * axes or any(abs(n) > MAX_VALUES for n in both):
            raise op.bad(f"pads are {list(both[:8])}; {2 * axes} numbers are needed")
        if min(both) < 0:
            raise op.unsupported(f"pads are {list(both[:8])}; numbers from 0 are taken, cut with a Slice")
        pads = list(zip(both[:axes], both[axes:], strict=True))
    elif auto != "VALID" and same:
        for k, (n, size, s, d) in enumerate(zip(sizes, kernel, stride, dilation, strict=True)):
            total = max((-(-n // s) - 1) * s + (size - 1) * d + 1 - n, 0)
            low = total // 2 if auto == "SAME_UPPER" else total - total // 2
            pads[k] = (low, total - low)
    over = [0] * axes
    if ceil and auto == "NOTSET":
        for k, (n, size, s, d, (low, high)) in enumerate(zip(sizes, kernel, stride, dilation, pads, strict=True)):
            over[k] = _beyond(n, (size - 1) * d + 1, s, low, high)
    return FileWindow(
        _rows(kernel, 1),
        _rows(stride, 1),
        _rows(dilation, 1),
        _rows(pads, (0, 0)),
        _rows([(0, n) for n in over], (0, 0)),
    )


def _beyond(size: int, span: int, stride: int, low: int, high: int) -> int:
    """How far the last window reaches beyond the padding; one that would begin there is none."""
    total = size + low + high
    count = -(-(total - span) // stride) + 1
    if (count - 1) * stride >= size + low:
        count -= 1
    return max((count - 1) * stride + span - total, 0)


# -- enlarging --------------------------------------------------------------------------------------------------------


def whole_factors(b: Assembly, op: OnnxNode, inputs: Sequence[Given], shape: tuple[int, ...]) -> tuple[int, ...]:
    """By which whole factors a Resize or Upsample repeats the values along each axis behind the channels.

    Raises `UnsupportedError` for anything that is not a repetition.
    """
    mode = op.text("mode", "nearest")
    if mode != "nearest":
        raise op.unsupported(f"mode {mode!r} computes values between others; 'nearest' by whole factors is taken")
    scales, wanted = _asked(b, op, inputs)
    axes = op.integers("axes") or tuple(range(len(shape)))
    given = scales if wanted is None else wanted
    if given is None or len(given) != len(axes) or any(not -len(shape) <= axis < len(shape) for axis in axes):
        raise op.bad(f"its scales or sizes do not fit the axes of {shape}")
    if wanted is not None and op.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise op.unsupported("a keep_aspect_ratio_policy; 'stretch' is taken")
    factors = [Fraction(1)] * len(shape)
    for axis, value in zip(axes, given, strict=True):
        if not math.isfinite(value):
            raise op.bad(f"a scale is {value}")
        factors[axis] = Fraction(value) / (1 if wanted is None else shape[axis])
    if any(f.denominator != 1 or f < 1 for f in factors) or factors[:2] != [1, 1]:
        told = ", ".join(f"{float(f):g}" for f in factors)
        raise op.unsupported(f"it resizes by {told}; whole factors of rows and columns are taken")
    found = tuple(int(f) for f in factors[2:])
    if math.prod(shape) * math.prod(found) > MAX_VALUES:
        raise op.bad(f"its result has more than {MAX_VALUES} values")
    for n, factor in zip(shape[2:], found, strict=True):
        _check_places(op, n, factor)
    return found


def _asked(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> tuple[list[float] | None, list[int] | None]:
    """Scales, or sizes."""
    if op.has("scales"):
        return list(op.numbers("scales")), None
    index = 1 if op.opset < 11 else 2
    scales = b.optional(op, inputs, index, "scales")
    sizes = b.optional(op, inputs, 3, "sizes") if op.opset >= 11 else None
    if sizes is not None and sizes.size:
        return None, list(b.indices(op, sizes, "sizes"))
    if scales is None or scales.ndim != 1 or scales.dtype.kind != "f":
        raise op.bad("it has neither scales nor sizes")
    return [float(x) for x in scales[:9]], None


def _check_places(op: OnnxNode, size: int, factor: int) -> None:
    """Refuse coordinates by which output `i` is not the repeated value ``i // factor``."""
    if factor == 1 or op.kind == "Upsample" or op.opset < 11:
        return
    rule = op.text("coordinate_transformation_mode", "half_pixel")
    rounding = op.text("nearest_mode", "round_prefer_floor")
    half = Fraction(1, 2)
    count = size * factor
    if count > LONGEST_AXIS:
        raise op.unsupported(f"an axis of {count} values; up to {LONGEST_AXIS} are taken")
    for i in range(count):
        if rule in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
            x = (i + half) / factor - half
        elif rule == "asymmetric":
            x = Fraction(i, factor)
        elif rule == "tf_half_pixel_for_nn":
            x = (i + half) / factor
        elif rule == "align_corners":
            x = Fraction(i * (size - 1), count - 1)
        else:
            raise op.unsupported(f"coordinate_transformation_mode {rule!r}; half_pixel and asymmetric are taken")
        place = {
            "round_prefer_floor": math.ceil(x - half), "round_prefer_ceil": math.floor(x + half),
            "floor": math.floor(x), "ceil": math.ceil(x),
        }.get(rounding)  # fmt: skip
        if place is None or min(max(place, 0), size - 1) != i // factor:
            raise op.unsupported(
                f"coordinates {rule!r} with nearest_mode {rounding!r} do not repeat each value {factor} times"
            )
