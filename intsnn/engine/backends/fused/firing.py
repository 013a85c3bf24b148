"""Neurons that are more than integrate-and-fire, as numbers for the kernels of `intsnn.kernels.neurons`."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from ....layers import primitives as P
from ....layers.base import fits
from ....layers.neurons import Neuron
from ...program import Instruction, Program
from ..stepwise.neuron_constants import neuron_parameters
from ..stepwise.neuron_width import Narrow, narrowest
from .layout import padded
from .store import Store

__all__ = ["general_neuron"]

WIDTHS = (32, 64)  # of membranes
GENERAL = 3  # level of code that takes any neuron, see `FIRE_GENERAL`


def general_neuron(store: Store, fields: dict[str, int], program: Program, instruction: Instruction) -> int:
    """Add what a neuron is to the `fields` of its operation; how many elements of states it keeps.

    Its states are v, u and the refractory state among membranes, the count and what is still to be reset among counts.
    """
    layer = cast(P.Fire, instruction.primitive).neuron
    channels, (feeding,) = fields["REAL_OUT"], instruction.inputs
    narrow = None if fields.get("FROM_WIDE") else _narrow(program, instruction, layer, feeding)
    if narrow is None:
        wide = bool(fields.get("FROM_WIDE")) or not all(fits(np.asarray(e), np.asarray(e), 32) for e in _reach(layer))
        fields["LEVEL"] = GENERAL
        parameters = neuron_parameters(layer, 0, 0)
        fields["PARAMETERS"] = store.put("big", np.asarray(parameters, np.int64))
        far = 1 << 61
        rows = (("THRESHOLD", layer.threshold, far), ("V_NEGATIVE", layer.v_negative, -far), ("BIAS", layer.bias, 0))
        for word, values, rest in rows:
            fields[word] = store.put_numbers(values, channels, rest, wide=True)
    else:
        from ....kernels.neurons.vector import LEVEL

        wide = narrow.state_type is np.int64
        fields["LEVEL"] = int(narrow.constants[LEVEL])
        fields["PARAMETERS"] = store.put("big", narrow.constants)
        fields["LANES"] = store.put("big" if wide else "numbers", _lanes(layer, channels, narrow.state_type))
    fields["WIDE"] = int(wide)
    fields["V_INITIAL"] = store.put_numbers(layer.v_initial, channels, 0, wide)
    more = layer.u_format is not None or layer.refractory.kind != "none"
    fields["PLANES"] = planes = 3 if more else 1 + layer.reset_delay
    return planes * math.prod((fields["OUT_HEIGHT"], fields["OUT_WIDTH"], fields["OUT_CHANNELS"]))


def _narrow(program: Program, instruction: Instruction, layer: Neuron, feeding: str) -> Narrow | None:
    """The vector kernel of a neuron, if there is one."""
    from ....kernels.toolchain.tier import tier

    low, high = layer.u_range or (0, 0)
    if tier() == "portable" or low > 0 or high < 0:  # a current that is never 0 would drive channels that only fill up
        return None
    return narrowest(
        layer, program.values[feeding].bound, instruction.output.bound, np.int32, program.schedule.limit,
        program.values[instruction.name].shape, False, WIDTHS,
    )  # fmt: skip


def _reach(layer: Neuron) -> list[int]:
    """Ends of every state and number that lies among membranes."""
    formats = [layer.v_format, *([layer.u_format] if layer.u_format is not None else [])]
    ends = [end for fmt in formats for end in (fmt.min, fmt.max)] + list(layer.u_range or ())
    if layer.refractory.kind == "trace":
        ends += [layer.refractory.format.min, layer.refractory.format.max]
    return ends


def _lanes(layer: Neuron, channels: int, kind: type) -> np.ndarray:
    """The table of `intsnn.kernels.neurons.vector.Settings` for padded channels, which never fire."""
    from ....kernels.neurons.vector import lanes_of

    highest, strict = np.iinfo(kind).max, int(layer.compare == ">")
    period = padded(channels)
    rows = (
        (np.asarray(layer.threshold) + strict, highest), (layer.threshold, 0),
        (layer.v_negative if layer.signed else 0, 0), (layer.bias, 0),
    )  # fmt: skip
    values: np.ndarray = np.zeros((len(rows), period), kind)
    for row, (given, rest) in zip(values, rows, strict=True):
        row[:channels], row[channels:] = given, rest
    columns = np.arange(period + lanes_of(8 * np.dtype(kind).itemsize)) % period
    return np.ascontiguousarray(values[:, columns])
