"""Where integers come into a network and leave it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..formats.arguments import choice, instance, sequence, text, whole
from ..formats.fixed import Fixed
from . import primitives
from .base import Bound, Build, Layer, Shape, StateSize, Value, at_least_zero, at_most_zero, objects, sizes_of_map
from .schedule import Schedule

__all__ = ["Input", "Readout"]

READOUTS = ("sum", "count", "first_spike")


@dataclass(frozen=True)
class Input(Layer):
    """What comes in: integers of shape `shape` (``(C, H, W)`` or ``(N,)``) in `format`.

    The network sees ``multiplier * x + offset``. Values outside `format` are an error, never clipped.
    """

    shape: tuple[int, ...]  # type: ignore[assignment]
    format: Fixed = Fixed(8, signed=False)
    multiplier: int = 1
    offset: int = 0

    arity = (0, 0)
    takes_input = True

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

    def output_shape(self, name: str, inputs: Sequence[Shape]) -> Shape:
        return self.shape

    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        low, high = objects(self.low, self.shape[0]), objects(self.high, self.shape[0])
        driven = schedule.driven
        return Bound(at_most_zero(low), at_least_zero(high), at_most_zero(low * driven), at_least_zero(high * driven))

    def lower(self, build: Build, inputs: Sequence[Value], schedule: Schedule) -> Value:
        return build(primitives.Feed(self))

    def details(self) -> dict[str, Any]:
        found: dict[str, Any] = {"format": str(self.format)}
        if (self.multiplier, self.offset) != (1, 0):
            found["detail"] = f"{self.multiplier} x {self.offset:+d}"
            found |= {"multiplier": np.asarray(self.multiplier), "offset": self.offset}
        return found

    def states(self, shapes, shape, bounds, bound) -> list[StateSize]:
        return [StateSize("inputs", "codes", math.prod(shape), self.format.bits)]


@dataclass(frozen=True)
class Readout(Layer):
    """Accumulates its input over all steps, without a neuron; the class is the first largest output.

    `kind` ``"sum"`` adds currents or spikes; ``"count"`` is its name when spikes come in;
    ``"first_spike"`` answers the step of the first positive spike (earlier is better, the index breaks ties).
    """

    kind: str = "sum"
    labels: tuple[str, ...] = field(default=())

    answers = True

    def __post_init__(self) -> None:
        choice(self.kind, "Readout.kind", READOUTS)
        labels = sequence(self.labels, "Readout.labels", "names of the outputs are needed")
        object.__setattr__(self, "labels", tuple(text(name, "Readout.labels: a name") for name in labels))

    @property
    def by_time(self) -> bool:
        """Whether the answer is when something happened, not how much."""
        return self.kind == "first_spike"

    @property
    def keeps_total(self) -> bool:
        """Whether it keeps a running total of what it makes."""
        return not self.by_time

    def output_shape(self, name: str, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def check_channels(self, name: str, shape: Shape) -> None:
        if self.labels and len(self.labels) != shape[0]:
            raise ShapeError(f"{name} (Readout): {len(self.labels)} labels for {shape[0]} outputs")

    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        return Bound(*inputs[0].parts)

    def lower(self, build: Build, inputs: Sequence[Value], schedule: Schedule) -> Value:
        return build(primitives.FirstSpike() if self.by_time else primitives.Accumulate(), inputs[0])

    def no_ann(self, name: str, levels: int | None) -> list[str]:
        return [f"{name} answers the step of a spike, and an ANN has no steps"] if self.by_time else []

    def details(self) -> dict[str, Any]:
        return {"detail": self.kind}

    def states(self, shapes, shape, bounds, bound) -> list[StateSize]:
        total = bound.total_format
        return [StateSize("readouts", "total", math.prod(shape), total.bits + (not total.signed))]
