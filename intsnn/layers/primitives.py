"""The operations that layers are made of: a small closed set that every backend knows, each with exact integer meaning.

`Program` (`intsnn.engine.program`) is a list of these with the values between them and their proven ranges; backends
run, count or print it. Values lie as ``(H, W, C)``, channel fastest; what counts places in API order (C, H, W) says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..formats.fixed import Rounding
from ..kernels.parameters import Window

if TYPE_CHECKING:
    from .neurons import Neuron
    from .ports import Input

__all__ = [
    "PRIMITIVES",
    "Accumulate",
    "Connect",
    "Copy",
    "Divide",
    "Feed",
    "Fire",
    "FirstSpike",
    "Level",
    "Primitive",
    "Reduce",
    "Sum",
    "Times",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Primitive:
    """An operation without its inputs and outputs."""


@dataclass(frozen=True, eq=False)
class Feed(Primitive):
    """What comes in from outside: in driven steps ``multiplier * x + offset``, else 0."""

    input: Input


@dataclass(frozen=True, eq=False)
class Connect(Primitive):
    """``multiplier * sum(weight * x) + b_t``: weights ``(O, I / groups, kh, kw)`` over the windows of a map.

    A dense connection is one window over ``(I,)``. `bias` ``(O,)`` or None is spread over the driven steps by
    `bias_mode` (`intsnn.layers.schedule.bias_schedule`). With `delay` 1 x is that of the step before.
    """

    weight: np.ndarray
    window: Window
    multiplier: np.ndarray
    bias: np.ndarray | None = None
    bias_mode: str = "step"
    delay: int = 0


@dataclass(frozen=True, eq=False)
class Fire(Primitive):
    """One step of spiking neurons; x is their synaptic sum."""

    neuron: Neuron


@dataclass(frozen=True, eq=False)
class Level(Primitive):
    """``clip(floor((v_initial + x) / threshold), bottom, top)``; `v_initial`, `threshold` one integer or ``(C,)``."""

    v_initial: np.ndarray
    threshold: np.ndarray
    top: int
    bottom: int = 0


@dataclass(frozen=True, eq=False)
class Reduce(Primitive):
    """Over windows of a map: the ``"sum"``, or the step difference of the ``"max"`` of running totals."""

    window: Window
    kind: str


@dataclass(frozen=True, eq=False)
class Divide(Primitive):
    """``x / divisor``, rounded to an integer in every step."""

    divisor: int
    rounding: Rounding


@dataclass(frozen=True, eq=False)
class Copy(Primitive):
    """Each output is one value of the inputs, or 0: `places`, in the shape of the output, are indices in API order.

    They count through one input after the other; -1 is for 0.
    """

    places: np.ndarray


@dataclass(frozen=True, eq=False)
class Times(Primitive):
    """``factor * x``, `factor` one integer or ``(C,)``."""

    factor: np.ndarray


@dataclass(frozen=True, eq=False)
class Sum(Primitive):
    """Sum of all inputs."""


@dataclass(frozen=True, eq=False)
class Accumulate(Primitive):
    """Running total of x."""


@dataclass(frozen=True, eq=False)
class FirstSpike(Primitive):
    """The step of the first positive x, -1 as long as there is none."""


PRIMITIVES = (Feed, Connect, Fire, Level, Reduce, Divide, Copy, Times, Sum, Accumulate, FirstSpike)
