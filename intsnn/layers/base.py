"""The layers of a network: frozen descriptions of exact integer operations, named after NIR.

A layer says what is computed, never how. Shapes are ``(C, H, W)`` or ``(N,)`` without batch and
time. Weights are the integers that multiply (for `Bipolar` and `Levels` the values, not the codes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..errors import FormatError, IntsnnError, RangeError, ShapeError
from ..formats.arguments import array_of, choice, instance, sequence, shown, text, whole, wholes
from ..formats.fixed import Fixed, Rounding
from ..formats.notation import as_rounding
from ..formats.weights import Bipolar, Levels

__all__ = [
    "Add",
    "Affine",
    "AvgPool2d",
    "Conv2d",
    "Flatten",
    "Input",
    "MaxPool2d",
    "Readout",
    "Scale",
    "SumPool2d",
    "Upsample2d",
    "integers",
    "output_shape",
]

WeightFormat = Fixed | Bipolar | Levels
BIAS_MODES = ("step", "spread", "once")
READOUTS = ("sum", "count", "first_spike")
UPSAMPLINGS = ("nearest", "zeros")
LARGEST_SIDE = 1 << 20  # of a kernel, stride, padding, dilation or factor
MOST_ELEMENTS = 1 << 31  # of one sample in a layer


def integers(values, what: str) -> np.ndarray:
    """`values` as a read-only, C-contiguous int64 array; whole numbers only.

    Arrays of floats are taken where every one is a whole number, and arrays of booleans as 0 and 1; one single number
    has to be an integer.

    Raises
    ------
    FormatError
        If a value is not a whole number within 64 bits.
    """
    array = array_of(values, what)
    if array.ndim == 0:
        array = np.asarray(
            whole(values, what, -(1 << 63), (1 << 63) - 1, allowed="a whole number within 64 bits is needed")
        )
    elif array.dtype == object:
        for x in array.ravel().tolist():
            whole(x, what, -(1 << 63), (1 << 63) - 1, allowed="every value must be a whole number within 64 bits")
    elif array.dtype.kind == "f":
        if not np.all(np.isfinite(array)) or np.any(array != np.trunc(array)) or np.any(np.abs(array) >= 2.0**63):
            raise FormatError(f"{what}: found {array.dtype} values that are not whole numbers; quantise them first")
    elif array.dtype.kind not in "iub":
        raise FormatError(f"{what}: found dtype {array.dtype}; give whole numbers")
    elif array.dtype == np.uint64 and array.size and int(array.max()) >= 1 << 63:
        raise FormatError(f"{what}: {int(array.max())} does not fit 64 bits signed")
    result = np.ascontiguousarray(array, dtype=np.int64).reshape(array.shape)
    if result is values or result.base is not None:
        result = result.copy()
    result.setflags(write=False)
    return result


def _several(value) -> bool:
    """Whether `value` is a list of numbers, not one."""
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def pair(value, what: str, least: int = 1) -> tuple[int, int]:
    """An int or a pair of ints as a pair, each at least `least`."""
    needed = f"give a whole number or a pair of them, {least} to 2**20"
    if not _several(value):
        value = (value, value)
    result = tuple(value)
    if len(result) != 2:
        raise ShapeError(f"{what}: found {shown(value)}; {needed}")
    one, two = (whole(x, what, least, LARGEST_SIDE, error=ShapeError, allowed=needed) for x in result)
    return one, two


def padding_pairs(value, what: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding as ``((top, bottom), (left, right))`` from an int, a pair, or that form itself."""
    if not _several(value):
        value = (value, value)
    if len(value) != 2:
        raise ShapeError(f"{what}: found {shown(value)}; give p, (py, px) or ((top, bottom), (left, right))")
    vertical, horizontal = (pair(v, what, least=0) for v in value)
    return vertical, horizontal


def sizes_of_map(shape, what: str) -> tuple[int, ...]:
    """`shape` as ``(N,)`` or ``(C, H, W)`` with sizes from 1."""
    needed = "give (N,) or (C, H, W), every size at least 1, below 2**31 elements"
    try:
        found = wholes(shape, "shape", 1, MOST_ELEMENTS)
    except IntsnnError:
        found = ()
    if len(found) not in (1, 3) or math.prod(found) >= MOST_ELEMENTS:
        seen = f"({', '.join(map(shown, shape[:8]))})" if isinstance(shape, list | tuple) else shown(shape)
        raise ShapeError(f"{what}: found shape {seen}; {needed}")
    return found


@dataclass(frozen=True)
class Input:
    """What comes in: integers of shape `shape` (``(C, H, W)`` or ``(N,)``) in `format`.

    The network sees ``multiplier * x + offset``. Values outside `format` are an error, never clipped.
    """

    shape: tuple[int, ...]
    format: Fixed = Fixed(8, signed=False)
    multiplier: int = 1
    offset: int = 0

    @property
    def low(self) -> int:
        """Smallest integer that the network sees."""
        return min(self.multiplier * self.format.min, self.multiplier * self.format.max) + self.offset

    @property
    def high(self) -> int:
        """Largest integer that the network sees."""
        return max(self.multiplier * self.format.min, self.multiplier * self.format.max) + self.offset

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", sizes_of_map(self.shape, "Input"))
        instance(self.format, "Input.format", Fixed)
        for name in ("multiplier", "offset"):
            object.__setattr__(self, name, whole(getattr(self, name), f"Input.{name}", -(1 << 62), 1 << 62))


@dataclass(frozen=True, eq=False)
class _Connection:
    """What `Affine` and `Conv2d` share: ``current_t = multiplier * sum(weight * spikes_t) + bias_t``.

    `bias_mode` says how a bias B is spread over the T driven steps: ``"step"`` adds B in every
    driven step, ``"spread"`` adds ``floor((t+1)B/T) - floor(tB/T)`` (B in total), ``"once"`` adds B at t = 0.
    """

    weight: np.ndarray
    bias: np.ndarray | None = None
    weight_format: WeightFormat = Fixed(8)
    bias_mode: str = "step"
    multiplier: np.ndarray | int = 1
    delay: int = 0

    def _check(self, rank: int) -> None:
        name = type(self).__name__
        weight = integers(self.weight, f"{name}.weight")
        if weight.ndim != rank or 0 in weight.shape:
            raise ShapeError(f"{name}.weight: found shape {weight.shape}; {rank} axes, none empty, are needed")
        outputs = weight.shape[0]
        instance(self.weight_format, f"{name}.weight_format", Fixed, Bipolar, Levels)
        if isinstance(self.weight_format, Fixed):
            low, high = self.weight_format.min, self.weight_format.max
            if weight.min() < low or weight.max() > high:
                raise RangeError(
                    f"{name}.weight: values {weight.min()} to {weight.max()} do not fit {self.weight_format} "
                    f"({low} to {high}); quantise them or widen the format"
                )
        else:
            allowed = np.asarray((-1, 1) if isinstance(self.weight_format, Bipolar) else self.weight_format.table)
            outside = ~np.isin(weight, allowed)
            if outside.any():
                raise RangeError(
                    f"{name}.weight: value {weight[outside][0]} is not a level of {self.weight_format}; "
                    f"allowed are {sorted(set(allowed.tolist()))}"
                )
        object.__setattr__(self, "weight", weight)
        for field_name in ("bias", "multiplier"):
            value = getattr(self, field_name)
            if value is None and field_name == "bias":
                continue
            array = integers(value, f"{name}.{field_name}")
            if array.shape not in ((), (outputs,)):
                raise ShapeError(f"{name}.{field_name}: found shape {array.shape}; give one integer or {outputs}")
            full = np.ascontiguousarray(np.broadcast_to(array, (outputs,)))
            full.setflags(write=False)
            object.__setattr__(self, field_name, full)
        choice(self.bias_mode, f"{name}.bias_mode", BIAS_MODES)
        object.__setattr__(self, "delay", whole(self.delay, f"{name}.delay", 0, 1, allowed="0 or 1 step is possible"))


@dataclass(frozen=True, eq=False)
class Affine(_Connection):
    """Dense connection: `weight` ``(out, in)``, input ``(in,)`` (put `Flatten` before it), output ``(out,)``.

    Raises `ShapeError`, `RangeError` or `FormatError` for weights, biases or modes that cannot be.
    """

    def __post_init__(self) -> None:
        self._check(2)


@dataclass(frozen=True, eq=False)
class Conv2d(_Connection):
    """Cross-correlation: `weight` ``(O, I / groups, kh, kw)``, `padding` may be asymmetric.

    Raises `ShapeError`, `RangeError` or `FormatError` for weights, biases or modes that cannot be.
    """

    stride: tuple[int, int] | int = 1
    padding: tuple | int = 0
    dilation: tuple[int, int] | int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        self._check(4)
        object.__setattr__(self, "stride", pair(self.stride, "Conv2d.stride"))
        object.__setattr__(self, "dilation", pair(self.dilation, "Conv2d.dilation"))
        object.__setattr__(self, "padding", padding_pairs(self.padding, "Conv2d.padding"))
        object.__setattr__(self, "groups", whole(self.groups, "Conv2d.groups", 1, error=ShapeError))
        if self.weight.shape[0] % self.groups:
            raise ShapeError(f"Conv2d.groups: {self.groups} does not divide the {self.weight.shape[0]} output channels")


@dataclass(frozen=True, eq=False)
class Scale:
    """Multiplies each channel by an integer: `scale` one integer or ``(C,)``."""

    scale: np.ndarray | int = 1

    def __post_init__(self) -> None:
        scale = integers(self.scale, "Scale.scale")
        if scale.ndim > 1:
            raise ShapeError(f"Scale.scale: found shape {scale.shape}; give one integer or one per channel")
        object.__setattr__(self, "scale", scale)


@dataclass(frozen=True)
class _Pool:
    kernel_size: tuple[int, int] | int = 2
    stride: tuple[int, int] | int | None = None
    padding: tuple | int = 0

    def __post_init__(self) -> None:
        name = type(self).__name__
        kernel_size = pair(self.kernel_size, f"{name}.kernel_size")
        stride = pair(kernel_size if self.stride is None else self.stride, f"{name}.stride")
        padding = padding_pairs(self.padding, f"{name}.padding")
        object.__setattr__(self, "kernel_size", kernel_size)
        object.__setattr__(self, "stride", stride)
        object.__setattr__(self, "padding", padding)
        for pads, size in zip(padding, kernel_size, strict=True):
            if max(pads) >= size:
                raise ShapeError(f"{name}.padding: {self.padding} leaves windows of kernel {self.kernel_size} empty")


@dataclass(frozen=True)
class SumPool2d(_Pool):
    """Sum over windows; padding counts as zero. `stride` defaults to `kernel_size`."""


@dataclass(frozen=True)
class AvgPool2d(_Pool):
    """Window sum divided by the window size and rounded to an integer in every step.

    Rounding per step loses charge; converted networks use `SumPool2d` with a scaled threshold instead.
    Padding counts as zero and belongs to the window size.
    """

    rounding: Rounding = Rounding.RND

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rounding", as_rounding(self.rounding, "AvgPool2d.rounding"))
        if self.rounding is Rounding.STOCHASTIC:
            raise FormatError("AvgPool2d.rounding: STOCHASTIC is for neuron states; choose a deterministic mode")


@dataclass(frozen=True)
class MaxPool2d(_Pool):
    """Exact maximum of spike counts: the output is the step difference of ``max_i C_i(t)``.

    Each output spike is in {-1, 0, +1} where the inputs are; padding never wins over a count of zero.
    """


@dataclass(frozen=True)
class Upsample2d:
    """Enlarges maps by whole factors (rows, columns).

    `mode` ``"nearest"`` repeats every value, H becomes ``factor * H``; ``"zeros"`` puts ``factor - 1`` zeros between
    neighbours, H becomes ``factor * (H - 1) + 1``: in front of a `Conv2d` that is a transposed convolution.
    """

    factor: tuple[int, int] | int = 2
    mode: str = "nearest"

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", pair(self.factor, "Upsample2d.factor"))
        choice(self.mode, "Upsample2d.mode", UPSAMPLINGS)

    def sizes(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result."""
        rows, columns = pair(self.factor, "Upsample2d.factor")
        if self.mode == "nearest":
            return rows * height, columns * width
        return rows * (height - 1) + 1, columns * (width - 1) + 1


@dataclass(frozen=True)
class Flatten:
    """``(C, H, W)`` to ``(C * H * W,)``, in that order."""


@dataclass(frozen=True)
class Add:
    """Sum of two or more inputs of one shape (residual join)."""


@dataclass(frozen=True)
class Readout:
    """Accumulates its input over all steps, without a neuron; the class is the first largest output.

    `kind` ``"sum"`` adds currents or spikes; ``"count"`` is its name when spikes come in;
    ``"first_spike"`` answers the step of the first positive spike (earlier is better, the index breaks ties).
    """

    kind: str = "sum"
    labels: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        choice(self.kind, "Readout.kind", READOUTS)
        labels = sequence(self.labels, "Readout.labels", "names of the outputs are needed")
        object.__setattr__(self, "labels", tuple(text(name, "Readout.labels: a name") for name in labels))


def _windows(size: int, kernel: int, stride: int, pads: tuple[int, int], dilation: int = 1) -> int:
    return (size + pads[0] + pads[1] - dilation * (kernel - 1) - 1) // stride + 1


def output_shape(name: str, layer, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Shape that `layer` (called `name`) makes of its inputs' `shapes`; `ShapeError` where they do not fit."""
    kind = type(layer).__name__
    if isinstance(layer, Add):
        if len(shapes) < 2 or any(shape != shapes[0] for shape in shapes):
            raise ShapeError(f"{name} (Add): found inputs of shapes {shapes}; at least two of one shape are needed")
        return shapes[0]
    if len(shapes) != 1:
        raise ShapeError(f"{name} ({kind}): found {len(shapes)} inputs; exactly one is possible, join them with Add")
    shape = shapes[0]
    if isinstance(layer, Affine):
        if shape != (layer.weight.shape[1],):
            hint = "; put a Flatten before it" if len(shape) == 3 else ""
            raise ShapeError(f"{name} (Affine): found input {shape}, weights take ({layer.weight.shape[1]},){hint}")
        return (layer.weight.shape[0],)
    if isinstance(layer, Flatten):
        return (int(np.prod(shape)),)
    if isinstance(layer, Scale):
        scale = np.asarray(layer.scale)
        if scale.ndim and scale.shape[0] != shape[0]:
            raise ShapeError(f"{name} (Scale): found {scale.shape[0]} scales for {shape[0]} channels")
        return shape
    if isinstance(layer, Conv2d | Upsample2d | _Pool):
        if len(shape) != 3:
            raise ShapeError(f"{name} ({kind}): found input {shape}; (C, H, W) is needed")
        channels, height, width = shape
        if isinstance(layer, Upsample2d):
            return (channels, *layer.sizes(height, width))
        if isinstance(layer, Conv2d):
            outputs, per_group, rows, columns = layer.weight.shape
            if channels != per_group * layer.groups:
                raise ShapeError(
                    f"{name} (Conv2d): found {channels} input channels, weights take {per_group} x {layer.groups}"
                )
            kernel, dilation = (rows, columns), pair(layer.dilation, name)
        else:
            outputs, kernel, dilation = channels, pair(layer.kernel_size, name), (1, 1)
        stride, padding = pair(layer.stride, name), padding_pairs(layer.padding, name)
        sizes = [
            _windows(n, k, s, p, d)
            for n, k, s, p, d in zip((height, width), kernel, stride, padding, dilation, strict=True)
        ]
        if min(sizes) < 1:
            raise ShapeError(f"{name} ({kind}): the kernel {kernel} is larger than the padded input {shape}")
        return (outputs, *sizes)
    return shape
