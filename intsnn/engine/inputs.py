"""What goes into a network: constant codes, frames or spike trains, and event lists.

`Source` brings all of them to one form: blocks of samples, integers in the layout of the kernels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ..errors import RangeError, ShapeError
from ..formats.arguments import STEPS, array_of, instance, seed_of, whole
from ..formats.integers import for_kernel, whole_array
from ..layers.ports import Input

__all__ = ["Events", "Source", "encode_rate"]

MOST_SPIKES = 1 << 40  # bytes of a spike train
MOST = (1 << 63) - 1  # of a code


@dataclass(frozen=True, eq=False)
class Events:
    """Spikes as a list: event i adds `value[i]` at `step[i]` to element `index[i]` of sample `sample[i]`.

    `index` counts elements of the input shape in C, H, W order. `value` defaults to 1. Several events on one
    element and step add up, exactly. All arrays are one-dimensional and of one length.
    """

    step: np.ndarray
    sample: np.ndarray
    index: np.ndarray
    steps: int
    samples: int
    value: np.ndarray | None = None

    def __post_init__(self) -> None:
        names = ("step", "sample", "index", "value")
        object.__setattr__(self, "steps", whole(self.steps, "Events.steps", 1, STEPS))
        object.__setattr__(self, "samples", whole(self.samples, "Events.samples", 0, STEPS))
        size = array_of(self.step, "Events.step").shape
        for name in names:
            value = getattr(self, name)
            if value is None and name == "value":
                value = np.ones(size, np.int64)
            array = whole_array(value, f"Events.{name}")
            if array.ndim != 1 or array.shape != size:
                raise ShapeError(f"Events.{name}: found shape {array.shape}, step has {size}; one length is needed")
            object.__setattr__(self, name, array)
        for name, top in (("step", self.steps), ("sample", self.samples)):
            array = getattr(self, name)
            if array.size and (array.min() < 0 or array.max() >= top):
                raise RangeError(f"Events.{name}: found {array.min()} to {array.max()}; 0 to {top - 1} is possible")
        order = np.argsort(self.sample, kind="stable")
        for name in names:
            array = getattr(self, name)[order]
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def frames(self, start: int, stop: int, size: int) -> np.ndarray:
        """Dense ``(stop - start, steps, size)`` int64 of the samples ``start..stop``.

        Where events on one element add up to more than 64 bits, it holds Python integers: every sum is exact.
        """
        if self.index.size and (self.index.min() < 0 or self.index.max() >= size):
            raise RangeError(
                f"Events.index: found {self.index.min()} to {self.index.max()}; the input has {size} elements"
            )
        first, last = np.searchsorted(self.sample, (start, stop))
        part = slice(first, last)
        value = cast(np.ndarray, self.value)[part]
        most = max(-int(value.min()), int(value.max())) * len(value) if len(value) else 0
        where = (self.sample[part] - start, self.step[part], self.index[part])
        shape = (stop - start, self.steps, size)
        if most < 1 << 63:
            dense = np.zeros(shape, np.int64)
            np.add.at(dense, where, value)
            return dense
        sums: dict[tuple[int, ...], int] = {}
        for *place, x in zip(*(array.tolist() for array in (*where, value)), strict=True):
            sums[tuple(place)] = sums.get(tuple(place), 0) + x
        fit = all(-MOST <= x <= MOST for x in sums.values())
        dense = np.zeros(shape, np.int64 if fit else object)
        for at, x in sums.items():
            dense[at] = x
        return dense


@functools.cache
def _limits(dtype: np.dtype) -> tuple[int, int]:
    """What a dtype of whole numbers holds."""
    return (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


class Source:
    """Inputs of a run, cut into blocks of samples.

    Parameters
    ----------
    layer : Input
    data : array or Events
        ``(B, *shape)``: constant codes, driven in every step; ``(T, B, *shape)``: one frame a step; or events.
        For an input of shape ``(N,)``, images of N elements are taken in C, H, W order.
    time_axis : int or None
        Where the time axis of frames is, if not first; says also that `data` has one.

    Raises
    ------
    ShapeError, RangeError, FormatError
        If shape, values or dtype do not fit the input.
    """

    def __init__(self, layer: Input, data, time_axis: int | None = None) -> None:
        self.layer = instance(layer, "layer", Input)
        self.size = math.prod(layer.shape)
        self.events: Events | None = None
        self.data: Any = None
        self.steps: int | None = None
        if isinstance(data, Events):
            self.events = data
            self.samples, self.steps = data.samples, data.steps
            return
        data = array_of(data, "input")
        if time_axis is not None:
            time_axis = whole(time_axis, "time_axis", -data.ndim, data.ndim - 1, error=ShapeError)
            data = np.moveaxis(data, time_axis, 0)
        rank = len(layer.shape)
        has_time = time_axis is not None or data.ndim == rank + 2 or (rank == 1 and data.ndim == 5)
        lead = 2 if has_time else 1
        found = data.shape[lead:]
        images = rank == 1 and len(found) == 3 and math.prod(found) == self.size  # of N elements, for an input (N,)
        if data.ndim < lead or (found != layer.shape and not images):
            raise ShapeError(
                f"input: found an array of shape {data.shape}; (B, *{layer.shape}) for constant codes or "
                f"(T, B, *{layer.shape}) for frames is needed"
            )
        self.data = data
        self.steps = data.shape[0] if has_time else None
        self.samples = data.shape[lead - 1]

    @property
    def constant(self) -> bool:
        """Whether every driven step sees the same codes."""
        return self.steps is None

    def raw(self, start: int, stop: int) -> np.ndarray:
        """Untransformed integers of the samples ``start..stop`` as ``(T or 1, B, elements)``, checked."""
        count = stop - start
        if self.events is not None:
            raw = self.events.frames(start, stop, self.size).swapaxes(0, 1)
        elif self.constant:
            raw = self._whole(self.data[start:stop]).reshape(1, count, self.size)
        else:
            raw = self._whole(self.data[:, start:stop]).reshape(cast(int, self.steps), count, self.size)
        fmt = self.layer.format
        if raw.size and not self._fits(raw):
            step, sample, element = np.argwhere((raw < fmt.min) | (raw > min(fmt.max, MOST)))[0]
            when = "" if self.constant else f", step {step}"
            raise RangeError(
                f"input: sample {start + int(sample)}, element {int(element)}{when} is "
                f"{int(raw[step, sample, element])}; {fmt} holds {fmt.min} to "
                f"{fmt.max}; scale the data or widen the input format"
            )
        return raw

    def _fits(self, raw: np.ndarray) -> bool:
        """Whether every value is in the input format; what the dtype proves is not looked at."""
        fmt = self.layer.format
        if raw.dtype == object:  # sums of events
            return fmt.min <= int(raw.min()) and int(raw.max()) <= min(fmt.max, MOST)
        low, high = _limits(raw.dtype)
        return (low >= fmt.min or int(raw.min()) >= fmt.min) and (high <= fmt.max or int(raw.max()) <= fmt.max)

    @staticmethod
    def _whole(data: np.ndarray) -> np.ndarray:
        """Whole numbers of any integer type as they are; others through `integers`."""
        return data if data.dtype.kind in "ib" or data.dtype in (np.uint8, np.uint16) else whole_array(data, "input")

    def block(self, start: int, stop: int, dtype) -> np.ndarray:
        """Codes of the samples ``start..stop`` as ``(B, T or 1, H * W * C)`` of `dtype`, checked and transformed."""
        count = stop - start
        codes = self.raw(start, stop).swapaxes(0, 1)
        if self.layer.multiplier != 1 or self.layer.offset != 0 or codes.dtype == bool:
            codes = codes.astype(np.int64) * self.layer.multiplier + self.layer.offset
        if len(self.layer.shape) == 3:
            channels, height, width = self.layer.shape
            codes = codes.reshape(count, codes.shape[1], channels, height * width).swapaxes(2, 3)
        return for_kernel(codes.reshape(count, codes.shape[1], self.size), dtype)


def sources_of(network, inputs, time_axis: int | None) -> dict[str, Source]:
    """The data of every input by name, looked at.

    Raises
    ------
    ShapeError, FormatError
        An input has no data, or data have no input; or the inputs have different numbers of samples.
    """
    if isinstance(inputs, Mapping):
        if set(inputs) != set(network.inputs):
            found = ", ".join(map(str, inputs)) or "nothing"
            raise ShapeError(f"input: found data for {found}; the inputs are {', '.join(network.inputs)}")
    elif len(network.inputs) > 1:
        raise ShapeError(
            f"input: the network has the inputs {', '.join(network.inputs)}; give the data of each by name"
        )
    else:
        inputs = {network.input_name: inputs}
    sources = {name: Source(network.nodes[name], inputs[name], time_axis) for name in network.inputs}
    if len({source.samples for source in sources.values()}) > 1:
        found = ", ".join(f"{name}: {source.samples}" for name, source in sources.items())
        raise ShapeError(f"input: found different numbers of samples ({found}); one number is needed")
    return sources


def frames_given(sources: Mapping[str, Source]) -> int | None:
    """Frames of the inputs that come by steps: the fewest; None if all are constant."""
    return min((source.steps for source in sources.values() if source.steps is not None), default=None)


def encode_rate(codes, steps: int, maximum: int, seed: int = 0) -> np.ndarray:
    """Random spike trains: element i of sample s fires at step t with probability ``codes / maximum``.

    Parameters
    ----------
    codes : (B, ...) integers in 0..maximum
    steps : int
    maximum : int
        Code that fires in every step.
    seed : int
        0 to 2**63 - 1.

    Returns
    -------
    (T, B, ...) int8 of 0 and 1. The bits depend on (seed, step, sample, element) alone: fires where
    ``(word >> 33) * maximum < codes * 2**31`` with the counter-based generator of ``docs/semantics.md``.
    """
    from ..kernels.inputs.rate import rate  # compiled code is loaded when first needed

    codes = whole_array(codes, "encode_rate.codes")
    steps = whole(steps, "encode_rate.steps", 1, STEPS)
    maximum = whole(maximum, "encode_rate.maximum", 1, (1 << 31) - 1, error=RangeError)
    seed = seed_of(seed, "encode_rate.seed")
    if codes.ndim == 0:
        raise ShapeError("encode_rate.codes: found one number; samples first, (B, ...), are needed")
    if steps * codes.size >= MOST_SPIKES:
        raise RangeError(f"encode_rate.steps: found {steps} for {codes.size} codes; below 2**40 spikes are possible")
    if codes.size and (codes.min() < 0 or codes.max() > maximum):
        raise RangeError(f"encode_rate: found codes {codes.min()} to {codes.max()}; 0 to {maximum} is possible")
    out = np.empty((steps, codes.shape[0], int(np.prod(codes.shape[1:]))), np.int8)
    rate(for_kernel(codes.reshape(out.shape[1:])), maximum, seed, out)
    return out.reshape(steps, *codes.shape)
