"""What every layer answers, and the ranges and windows that the answers are made of.

A layer is one frozen class that says what is computed, never how: which shape its output has, how large it can become,
and which primitives it is made of (`intsnn.layers.primitives`). Shapes are ``(C, H, W)`` or ``(N,)`` without batch and
time. Weights are the integers that multiply (for `Bipolar` and `Levels` the values, not the codes). Passes over a
network read the facts of a layer (`Layer.spikes`, `Layer.area`, …) and never ask for its class.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np

from ..errors import IntsnnError, RangeError, ShapeError
from ..formats.arguments import shown, whole, wholes
from ..formats.fixed import Fixed
from ..kernels.parameters import Window
from .schedule import Schedule

__all__ = ["Bound", "Build", "Layer", "ParameterSize", "Shape", "StateSize", "Value", "fits", "kinds", "output_shape"]

Shape = tuple[int, ...]
LARGEST_SIDE = 1 << 20  # of a kernel, stride, padding, dilation or factor
MOST_ELEMENTS = 1 << 31  # of one sample in a layer
FLOAT_BITS = 32
STEP_BITS = 63  # signed, of every sum of one step


# -- ranges ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Bound:
    """Ranges of one stream, one Python integer per channel (dtype object).

    Attributes
    ----------
    low, high : (C,)
        One step.
    total_low, total_high : (C,)
        Running total after any number of the steps asked for.
    v_low, v_high : (C,) or None
        Membrane, before and after reset (neurons only).
    """

    low: np.ndarray
    high: np.ndarray
    total_low: np.ndarray
    total_high: np.ndarray
    v_low: np.ndarray | None = None
    v_high: np.ndarray | None = None

    @property
    def step_format(self) -> Fixed:
        """Narrowest format that holds every sum of one step."""
        return Fixed.for_range(int(self.low.min()), int(self.high.max()))

    @property
    def total_format(self) -> Fixed:
        """Narrowest format that holds every running total."""
        return Fixed.for_range(int(self.total_low.min()), int(self.total_high.max()))

    @property
    def membrane_format(self) -> Fixed | None:
        """Narrowest format in which the membrane never overflows."""
        if self.v_low is None or self.v_high is None:
            return None
        return Fixed.for_range(int(self.v_low.min()), int(self.v_high.max()))

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """`low`, `high`, `total_low`, `total_high`."""
        return self.low, self.high, self.total_low, self.total_high

    def with_zero(self) -> Bound:
        """The ranges with 0 among them: something may be missing in a step, or lie in the padding."""
        low, high, total_low, total_high = self.parts
        return Bound(
            at_most_zero(low), at_least_zero(high), at_most_zero(total_low), at_least_zero(total_high)
        )  # fmt: skip

    def times(self, factor) -> Bound:
        """The ranges of `factor` (an integer or one per channel) times the stream."""
        low, high, total_low, total_high = (part * objects(factor, len(self.low)) for part in self.parts)
        return Bound(
            np.minimum(low, high), np.maximum(low, high),
            np.minimum(total_low, total_high), np.maximum(total_low, total_high),
        )  # fmt: skip


def fits(low: np.ndarray, high: np.ndarray, bits: int) -> bool:
    """Whether every range lies within a signed integer of `bits`."""
    return int(low.min()) >= -(1 << (bits - 1)) and int(high.max()) < 1 << (bits - 1)


def objects(values, size: int) -> np.ndarray:
    """One Python integer per channel."""
    array = np.empty(size, dtype=object)
    array[:] = np.broadcast_to(np.asarray(values), (size,)).tolist()
    return array


def at_most_zero(array: np.ndarray) -> np.ndarray:
    """The smaller of 0 and each."""
    return objects([min(0, x) for x in array.tolist()], len(array))


def at_least_zero(array: np.ndarray) -> np.ndarray:
    """The larger of 0 and each."""
    return objects([max(0, x) for x in array.tolist()], len(array))


# -- what a layer is ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Value:
    """A stream of integers between two primitives: its name (of the node that makes it), shape and proven ranges."""

    name: str
    shape: Shape
    bound: Bound


class Build(Protocol):
    """What a layer makes its values with.

    ``build(primitive, *inputs)`` is the output of the layer, of its shape and bound; ``build(…, part=NAME, bound=…)`` a
    value of the same shape that only the layer itself reads.
    """

    shape: Shape
    """Of the output of the layer."""

    def __call__(self, primitive: Any, *inputs: Value, part: str = "", bound: Bound | None = None) -> Value: ...


class Layer(ABC):
    """Base of all layers: frozen dataclasses that answer `output_shape`, `bound` and `lower`.

    Attributes
    ----------
    arity : (int, int or None)
        How many inputs are possible, at least and at most.
    spikes : bool
        Whether it makes spikes that are counted.
    fires : bool
        Whether these are spikes of neurons, with membranes; a max-pool only passes on those of others.
    answers : bool
        Whether it can be the output of a network.
    keeps_total : bool
        Whether it keeps a running total of what it makes.
    weighted : bool
        Whether it multiplies by weights (`weight`, `bias`, `multiplier`).
    moves_only : bool
        Whether values are copied and none is computed.
    permutes : bool
        Whether each value is there once, in another order: none is missing, none is added.
    monotone : bool
        Whether the order of values is kept: a maximum before is a maximum behind it.
    passive, gathers : bool
        Whether its values are those of its only input in the same unit: moved, added up or chosen; whether they are
        those of several inputs side by side.
    rounds : bool
        Whether a step is rounded, so that a sum over steps depends on how it is cut.
    draws : bool
        Whether it rounds with random bits, which are keyed by the number of the sample.
    area : int
        How many values are added up before anything else happens to them.
    delay : int
        Steps by which the input comes later.
    """

    arity: ClassVar[tuple[int, int | None]] = (1, 1)
    spikes: ClassVar[bool] = False
    fires: ClassVar[bool] = False
    answers: ClassVar[bool] = False
    weighted: ClassVar[bool] = False
    moves_only: ClassVar[bool] = False
    permutes: ClassVar[bool] = False
    monotone: ClassVar[bool] = False
    passive: ClassVar[bool] = False
    gathers: ClassVar[bool] = False
    rounds: ClassVar[bool] = False
    takes_input: ClassVar[bool] = False
    kinds: ClassVar[dict[str, type[Layer]]] = {}
    delay: int = 0

    def __init_subclass__(cls, kind: bool = True, **options: Any) -> None:
        """Every class with a public name is a kind of layer that files and networks know; bases are none."""
        super().__init_subclass__(**options)
        if kind and not cls.__name__.startswith("_"):
            Layer.kinds[cls.__name__] = cls

    @property
    def area(self) -> int:
        """How many values are added up before anything else happens to them."""
        return 1

    @property
    def cells(self) -> int:
        """How many times as large as what comes out a sum on the way to it may be."""
        return 1

    @property
    def rests_at(self) -> int:
        """Spikes after which it is at rest for sure, where it may need more than the levels of a network, else 0."""
        return 0

    @property
    def lowest_count(self) -> int:
        """The net count, 0 or less, at which it stops to fall."""
        return 0

    @property
    def draws(self) -> bool:
        """Whether it rounds with random bits, which are keyed by the number of the sample."""
        return False

    @property
    def keeps_total(self) -> bool:
        """Whether it keeps a running total of what it makes."""
        return self.spikes

    @abstractmethod
    def output_shape(self, name: str, inputs: Sequence[Shape]) -> Shape:
        """Shape of the output of the layer called `name`; `ShapeError` where `inputs` do not fit."""

    def shape_in_a_loop(self, known: Sequence[Shape]) -> Shape | None:
        """Shape of the output where only some inputs are known yet, or None: a loop needs a layer that can tell."""
        return None

    @abstractmethod
    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        """Ranges of the output, from those of the `inputs` and their shapes."""

    @abstractmethod
    def lower(self, build: Build, inputs: Sequence[Value], schedule: Schedule) -> Value:
        """The output, made by primitives."""

    def check_channels(self, name: str, shape: Shape) -> None:  # noqa: B027  most have no parameters per channel
        """Refuse parameters per channel that do not fit `shape`."""

    def check_widths(self, name: str, inputs: Sequence[Bound], bound: Bound) -> None:
        """Refuse sums of one step that may need more than 63 bits."""
        if not fits(bound.low * self.cells, bound.high * self.cells, STEP_BITS):
            raise RangeError(
                f"{name} ({type(self).__name__}): a sum of one step can need more than {STEP_BITS} bits; "
                "use smaller weights or multipliers"
            )

    def no_ann(self, name: str, levels: int | None) -> list[str]:
        """Why a network with this layer has no integer ANN."""
        return []

    def spread(self, spikes: np.ndarray, inputs: Sequence[np.ndarray], shape: Shape) -> np.ndarray | None:
        """How often a spike reaches each place of the output, from how often one reaches the `inputs`; None:
        it does not say.

        `spikes` are those that the layer fires itself.
        """
        return None

    def details(self) -> dict[str, Any]:
        """What a description says of it besides its shape and window; of arrays it says the ends."""
        return {}

    def parameters(self) -> list[ParameterSize]:
        """What it keeps for good."""
        return []

    def states(self, shapes: Sequence[Shape], shape: Shape, bounds: Sequence[Bound], bound: Bound) -> list[StateSize]:
        """What it keeps from step to step, for one sample."""
        return []


def kinds() -> Mapping[str, type[Layer]]:
    """Every kind of layer by its name: all files of this folder are looked at, and nothing else has to list them."""
    package = __package__ or ""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
    return MappingProxyType(Layer.kinds)


@dataclass(frozen=True)
class StateSize:
    """Integers that a layer keeps from step to step: what they are, how many, and how wide (as float: `float_bits`)."""

    kind: str
    name: str
    count: int
    bits: int
    float_bits: int = FLOAT_BITS


@dataclass(frozen=True)
class ParameterSize:
    """A field that a layer keeps for good: what it is, and its width; where all values are `idle` it does nothing."""

    kind: str
    field: str
    bits: int
    idle: int | None = None


def least_bits(values) -> int:
    """Bits of the narrowest format that holds `values`."""
    values = np.asarray(values)
    return Fixed.for_range(int(values.min()), int(values.max())).bits if values.size else 0


def output_shape(name: str, layer: Layer, shapes: Sequence[Shape]) -> Shape:
    """Shape that `layer` (called `name`) makes of its inputs' `shapes`; `ShapeError` where they do not fit."""
    most = layer.arity[1]
    if most is not None and len(shapes) != most:
        kind = type(layer).__name__
        raise ShapeError(f"{name} ({kind}): found {len(shapes)} inputs; exactly one is possible, join them with Add")
    return layer.output_shape(name, shapes)


# -- windows -----------------------------------------------------------------------------------------------------------


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


def one_map(name: str, layer: Layer, inputs: Sequence[Shape]) -> Shape:
    """The only input of a layer, which has to be a map ``(C, H, W)``."""
    (shape,) = inputs
    if len(shape) != 3:
        raise ShapeError(f"{name} ({type(layer).__name__}): found input {shape}; (C, H, W) is needed")
    return shape


def positions(size: int, kernel: int, stride: int, dilation: int = 1) -> int:
    """How many windows of `kernel` elements there are along `size` elements, padding included; under 1: none fits."""
    return (size - dilation * (kernel - 1) - 1) // stride + 1


def windows(name: str, layer: Layer, shape: Shape, outputs: int, kernel, stride, padding, dilation=(1, 1)) -> Shape:
    """``(outputs, rows, columns)``: how many windows of `kernel` there are in maps of `shape`."""
    axes = zip(shape[1:], kernel, stride, padding, dilation, strict=True)
    sizes = [positions(n + sum(pads), k, s, d) for n, k, s, pads, d in axes]
    if min(sizes) < 1:
        kind = type(layer).__name__
        raise ShapeError(f"{name} ({kind}): the kernel {kernel} is larger than the padded input {shape}")
    return (outputs, *sizes)


def window(shape: Shape, out: Shape, kernel, stride, padding, dilation=(1, 1), groups: int = 1) -> Window:
    """Geometry of a connection or pool from maps of `shape` to maps of `out`, as kernels take it."""
    (height, width), (y, x), (dy, dx) = kernel, stride, dilation
    (top, _), (left, _) = padding
    return Window(
        shape[1], shape[2], shape[0], out[1], out[2], out[0], height, width, y, x, top, left, dy, dx, groups
    )  # fmt: skip
