"""What kernels take by name: the geometry of a window, the parts of a neuron, its state and what is noted of it.

Named tuples, because both plain Python and Numba read them by name.
"""

from typing import NamedTuple

import numpy as np

# kinds of decay
NONE, SHIFT, MULTIPLY, SUBTRACT = 0, 1, 2, 3
# kinds of reset
RESET_NONE, RESET_SUBTRACT, RESET_ZERO = 0, 1, 2
# kinds of refractory period
REFRACTORY_NONE, REFRACTORY_COUNTER, REFRACTORY_TRACE = 0, 1, 2
# which quantity overflowed (first entry of a `first` record); a record is (which, sample, step, neuron, value)
ACC, U, V, TRACE = 1, 2, 3, 4
# an array of `first` records holds the first overflow of any mode and from here on the first trapped one
FIRST_TRAPPED = 5
FIRSTS = 10
# rows, one behind the other, of what differs from channel to channel; two numbers of each leak: shift, multiplier
# or amount to subtract, and the shift of a multiplier
THRESHOLD, V_NEGATIVE, BIAS, U_LEAK, U_PLACES, V_LEAK, V_PLACES, TRACE_LEAK, TRACE_PLACES = range(9)
PER_CHANNEL = 9
# which draw of the random generator
DRAW_U, DRAW_V, DRAW_TRACE = 0, 1, 2

# indices into a counter array of int64
SATURATED, WRAPPED, TRAPPED, UNDERFLOWS, V_LOW, V_HIGH, SUM_LOW, SUM_HIGH = range(8)
COUNTERS = 8


class Window(NamedTuple):
    """A sliding window over a map stored as ``(H, W, C)``."""

    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    out_channels: int
    kernel_height: int = 1
    kernel_width: int = 1
    stride_y: int = 1
    stride_x: int = 1
    pad_top: int = 0
    pad_left: int = 0
    dilation_y: int = 1
    dilation_x: int = 1
    groups: int = 1


class NeuronParameters(NamedTuple):
    """Every part of a neuron that is the same for all channels."""

    has_acc: int = 0
    acc_low: int = 0
    acc_high: int = 0
    acc_overflow: int = 0
    has_u: int = 0
    u_low: int = 0
    u_high: int = 0
    u_overflow: int = 0
    u_decay: int = NONE
    u_rounding: int = 0
    u_least: int = 0
    u_shift: int = 0
    v_low: int = 0
    v_high: int = 0
    v_overflow: int = 0
    v_decay: int = NONE
    v_rounding: int = 0
    v_least: int = 0
    strict: int = 0  # 1: spike where v > threshold, 0: v >= threshold
    reset: int = RESET_SUBTRACT
    reset_delay: int = 0
    signed: int = 0
    max_count: int = -1  # -1: none
    max_spikes: int = 1
    refractory: int = REFRACTORY_NONE
    refractory_steps: int = 0
    trace_amplitude: int = 0
    trace_low: int = 0
    trace_high: int = 0
    trace_decay: int = NONE
    trace_rounding: int = 0
    trace_least: int = 0
    seed: int = 0
    layer: int = 0
    min_count: int = 0  # net counts do not fall below


class NeuronState(NamedTuple):
    """What neurons carry from step to step, ``(B, P * C)`` each; empty where they have no such part."""

    u: np.ndarray
    v: np.ndarray
    counts: np.ndarray  # spikes so far
    pending: np.ndarray  # spikes whose reset is still to come
    refractory: np.ndarray


class Records(NamedTuple):
    """Receive the state at the end of each step, ``(B, T, P * C)`` each; empty where it is not asked for."""

    u: np.ndarray
    v: np.ndarray
