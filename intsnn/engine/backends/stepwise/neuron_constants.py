"""A neuron as the plain integers that kernels take."""

from __future__ import annotations

import numpy as np

from ....layers.neurons import Decay, Neuron

__all__ = ["neuron_channels", "neuron_parameters"]


def _codes(decay: Decay) -> tuple[int, int, int]:
    """A `Decay` as the three integers of `NeuronParameters`."""
    from ....kernels import parameters as P

    kind = {"none": P.NONE, "shift": P.SHIFT, "multiply": P.MULTIPLY, "subtract": P.SUBTRACT}[decay.kind]
    return kind, int(decay.rounding), int(decay.at_least_one)


def neuron_channels(neuron: Neuron, channels: int, dtype=np.int64) -> np.ndarray:
    """What differs from channel to channel, as kernels take it: (PER_CHANNEL * channels,)."""
    from ....kernels.parameters import PER_CHANNEL

    rows = [neuron.threshold, neuron.v_negative, neuron.bias]
    for decay in (neuron.u_decay, neuron.v_decay, neuron.refractory.decay):
        rows += [{"shift": decay.shift, "multiply": decay.multiplier}.get(decay.kind, decay.amount), decay.shift]
    found = np.empty((PER_CHANNEL, channels), np.int64)
    for row, values in zip(found, rows, strict=True):
        row[:] = values
    return found.astype(dtype).reshape(-1)


def neuron_parameters(neuron: Neuron, seed: int, layer: int):
    """The parts of `neuron` that are the same for all channels, as kernels take them."""
    from ....kernels import parameters as P

    u_decay, v_decay, trace_decay = _codes(neuron.u_decay), _codes(neuron.v_decay), _codes(neuron.refractory.decay)
    acc, u, trace = neuron.acc_format, neuron.u_format, neuron.refractory.format
    u_low, u_high = neuron.u_range or ((u.min, u.max) if u else (0, 0))
    return P.NeuronParameters(
        has_acc=int(acc is not None),
        acc_low=acc.min if acc else 0,
        acc_high=acc.max if acc else 0,
        acc_overflow=int(neuron.acc_overflow),
        has_u=int(u is not None),
        u_low=u_low,
        u_high=u_high,
        u_overflow=int(neuron.u_overflow),
        u_decay=u_decay[0],
        u_rounding=u_decay[1],
        u_least=u_decay[2],
        u_shift=neuron.u_shift,
        v_low=neuron.v_format.min,
        v_high=neuron.v_format.max,
        v_overflow=int(neuron.v_overflow),
        v_decay=v_decay[0],
        v_rounding=v_decay[1],
        v_least=v_decay[2],
        strict=int(neuron.compare == ">"),
        reset={"none": P.RESET_NONE, "subtract": P.RESET_SUBTRACT, "zero": P.RESET_ZERO}[neuron.reset],
        reset_delay=neuron.reset_delay,
        signed=int(neuron.signed),
        max_count=-1 if neuron.max_count is None else neuron.max_count,
        max_spikes=neuron.max_spikes_per_step,
        refractory={"none": P.REFRACTORY_NONE, "counter": P.REFRACTORY_COUNTER, "trace": P.REFRACTORY_TRACE}[
            neuron.refractory.kind
        ],
        refractory_steps=neuron.refractory.steps,
        trace_amplitude=neuron.refractory.amplitude,
        trace_low=trace.min,
        trace_high=trace.max,
        trace_decay=trace_decay[0],
        trace_rounding=trace_decay[1],
        trace_least=trace_decay[2],
        seed=seed,
        layer=layer,
        min_count=neuron.min_count,
    )
