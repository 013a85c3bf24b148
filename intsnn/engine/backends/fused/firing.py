"""Neurons that are more than integrate-and-fire, as numbers for the kernels of `intsnn.kernels.neurons`."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from ....layers import primitives as P
from ....layers.base import fits
from ....layers.neurons import Neuron
from ...program import Instruction, Program
from ..stepwise.neuron_constants import neuron_channels, neuron_parameters
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
        fields["PARAMETERS"] = store.put("big", np.asarray(neuron_parameters(layer, 0, 0), np.int64))
        fields["LANES"] = store.put("big", _each(layer, channels))
    else:
        from ....kernels.neurons.vector import LEVEL

        wide = narrow.state_type is np.int64
        fields["LEVEL"] = int(narrow.constants[LEVEL])
        fields["PARAMETERS"] = store.put("big", narrow.constants)
        fields["LANES"] = store.put("big" if wide else "numbers", _lanes(narrow))
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


def _each(layer: Neuron, channels: int) -> np.ndarray:
    """What the general neuron takes by channel, for padded channels, which never fire."""
    from ....kernels.parameters import PER_CHANNEL, THRESHOLD, V_NEGATIVE

    values = np.zeros((PER_CHANNEL, padded(channels)), np.int64)
    values[THRESHOLD], values[V_NEGATIVE] = 1 << 61, -(1 << 61)
    values[:, :channels] = neuron_channels(layer, channels).reshape(PER_CHANNEL, -1)
    return values


def _lanes(narrow: Narrow) -> np.ndarray:
    """The table of `intsnn.kernels.neurons.vector.Settings` for padded channels, which never fire."""
    from ....kernels.neurons.vector import FIRE, lanes_of

    kind, channels = narrow.state_type, narrow.rows.shape[1]
    period = padded(channels)
    values: np.ndarray = np.zeros((len(narrow.rows), period), kind)
    values[FIRE] = np.iinfo(kind).max
    values[:, :channels] = narrow.rows
    columns = np.arange(period + lanes_of(8 * np.dtype(kind).itemsize)) % period
    return np.ascontiguousarray(values[:, columns])
