"""Where a run stopped, so that another goes on from there with the same bits.

A `State` holds every integer that outlives a step: membranes, synaptic currents, net counts, resets that are still to
come, refractory periods, delay lines, totals. It knows neither backend nor batch: any of those that give states takes
those of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FormatError, RangeError, ShapeError
from ..formats.arguments import STEPS, instance, shown, whole
from ..formats.integers import whole_array

__all__ = ["State"]


@dataclass(frozen=True, eq=False)
class State:
    """Integers of each sample between two steps of a run.

    Attributes
    ----------
    step : int
        How many steps are done: the number of the next one.
    arrays : mapping of ``"layer.quantity"`` to (B, *shape) int64
        ``u``, ``v``, ``count``, ``pending`` (spikes whose reset is still to come) and ``refractory`` of neurons,
        ``line`` (what a delay holds back) of connections, ``inputs`` and ``count`` of max-pools, ``total`` of readouts.

    Indexed, a state is that of the chosen samples (a slice, or an array of indices or truth values).
    """

    step: int
    arrays: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", whole(self.step, "State.step", 0, STEPS))
        instance(self.arrays, "State.arrays", Mapping)
        arrays = {}
        for name, values in self.arrays.items():
            if not isinstance(name, str):
                raise FormatError(f"State.arrays: found the name {shown(name)}; 'layer.quantity' is needed")
            arrays[name] = whole_array(values, f"State.arrays: {name}")
            if arrays[name].ndim < 2:
                raise ShapeError(f"State.arrays: {name}: found shape {arrays[name].shape}; (B, *shape) is needed")
        if len({len(values) for values in arrays.values()}) > 1:
            raise ShapeError("State.arrays: found arrays of different numbers of samples; one number is needed")
        object.__setattr__(self, "arrays", arrays)

    @property
    def samples(self) -> int | None:
        """Number of samples; None if there is nothing that outlives a step."""
        return next((len(values) for values in self.arrays.values()), None)

    def belongs(self, names: set[str]) -> None:
        """`ShapeError` unless it holds what is called `names`, and nothing else."""
        for missing in sorted(names - self.arrays.keys()):
            raise ShapeError(f"state: {missing} is missing; a state of another network?")
        for unknown in sorted(self.arrays.keys() - names):
            raise ShapeError(f"state: it has {unknown}, which this network does not keep; a state of another network?")

    def __getitem__(self, rows: Any) -> State:
        try:
            return State(self.step, {name: values[rows] for name, values in self.arrays.items()})
        except IndexError as error:
            raise ShapeError(f"State: {error}; choose samples by a slice or by an array of indices") from None


@dataclass(frozen=True)
class Kept:
    """One quantity of a layer as a state has it: its shape, and the integers that a run can leave in it.

    `low` and `high` are integers, or one per channel.
    """

    shape: tuple[int, ...]
    low: Any
    high: Any


def checked(name: str, kept: Kept, values: np.ndarray) -> np.ndarray:
    """`values` ``(B, *shape)`` as the kernels have them, ``(B, elements)``, channel fastest.

    Raises
    ------
    ShapeError, RangeError
        They are of another network, or no run of this one leaves them.
    """
    if values.shape[1:] != kept.shape:
        raise ShapeError(f"state: {name} has shape {values.shape[1:]}; this network needs {kept.shape}")
    channels = (-1, *(1,) * (len(kept.shape) - 1))
    low, high = (
        np.broadcast_to(np.asarray(end, object), (kept.shape[0],)).reshape(channels) for end in (kept.low, kept.high)
    )
    ends = [np.clip(end.astype(object), -(1 << 63), (1 << 63) - 1).astype(np.int64) for end in (low, high)]
    outside = (values < ends[0]) | (values > ends[1])
    if outside.any():
        at = tuple(int(i) for i in np.argwhere(outside)[0])
        raise RangeError(
            f"state: {name} of sample {at[0]}, element {at[1:]} is {int(values[at])}; no run of this network that long "
            f"leaves anything beyond {int(ends[0].min())} to {int(ends[1].max())}"
        )
    flat = np.moveaxis(values, 1, -1) if len(kept.shape) == 3 else values
    return flat.reshape(len(values), -1)
