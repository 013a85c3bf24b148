"""Named neurons: parts of `Neuron` as publications and chips have them."""

from __future__ import annotations

from ..errors import RangeError
from ..formats.arguments import instance, whole, whole_or_none
from ..formats.fixed import Fixed, Overflow, Rounding
from ..formats.integers import whole_array
from .neurons import INT31, Decay, Neuron

__all__ = ["CaLIF", "CubaLIF", "IF", "LIF", "QFFS", "SignedIF", "loihi"]

WIDE = Fixed(32)


def IF(threshold, **parts) -> Neuron:
    """Integrate and fire: no leak, reset by subtraction, `>=`; further `parts` as in `Neuron`."""
    return Neuron(threshold, **{"preset": "IF", **parts})


def LIF(threshold, decay: Decay, **parts) -> Neuron:
    """Leaky integrate and fire: `decay`, of the layer or by channel, acts on v before the input is added."""
    return Neuron(threshold, v_decay=decay, **{"preset": "LIF", **parts})


def CubaLIF(threshold, u_decay: Decay, v_decay: Decay, u_format: Fixed = WIDE, **parts) -> Neuron:
    """Current-based LIF: the synaptic current u leaks with `u_decay`, the membrane v with `v_decay`."""
    instance(u_format, "CubaLIF.u_format", Fixed)
    return Neuron(threshold, u_decay=u_decay, v_decay=v_decay, u_format=u_format, **{"preset": "CubaLIF", **parts})


def SignedIF(threshold, levels: int | None = None, v_negative=0, **parts) -> Neuron:
    """Signed IF of Fast-SNN (Hu et al. 2023): -1 where v < `v_negative` and the net count is positive.

    V0 = threshold >> 1. `levels` caps the net count; None is the published, uncapped neuron.
    """
    threshold = whole_array(threshold, "SignedIF.threshold")
    levels = whole_or_none(levels, f"{parts.get('preset', 'SignedIF')}.levels", 1, INT31)
    return Neuron(
        threshold,
        v_initial=parts.pop("v_initial", threshold >> 1),
        signed=True,
        v_negative=v_negative,
        max_count=levels,
        **{"preset": "SignedIF", **parts},
    )


def QFFS(threshold, levels: int | None, **parts) -> Neuron:
    """Neuron of QFFS (Li et al. 2022): count cap, negative spikes, reset applied at the next step.

    `levels` None leaves the cap out, to see what it is for.
    """
    return SignedIF(threshold, levels, **{"reset_delay": 1, "preset": "QFFS", **parts})


def CaLIF(threshold, levels: int | None = None, v_negative=0, **parts) -> Neuron:
    """Calcium-gated bipolar neuron of Gao et al. (2023), reconstructed: calcium is the net count.

    The constant leak of the paper carries the bias of the layer (`bias` here, or that of the connection).
    """
    return SignedIF(threshold, levels, v_negative, **{"preset": "CaLIF", **parts})


def loihi(vth: int, du: int, dv: int, bias: int = 0) -> Neuron:
    """LIF process of Loihi in lava's fixed-point arithmetic.

    `vth` 17 bits, `du` and `dv` 0...4095 (12-bit decays toward zero), `bias` already shifted by its exponent.
    u wraps into (-2**23, 2**23], v saturates symmetrically at 2**23 - 1, compare is `>`, reset to zero.
    """
    vth = whole(vth, "loihi.vth", 0, (1 << 17) - 1, error=RangeError)
    du, dv = (whole(value, f"loihi.{name}", 0, 4095, error=RangeError) for name, value in (("du", du), ("dv", dv)))
    bias = whole(bias, "loihi.bias", WIDE.min, WIDE.max)
    return Neuron(
        threshold=vth << 6,
        v_format=Fixed(24),
        v_overflow=Overflow.SAT_SYM,
        v_decay=Decay.by_multiply(4096 - dv, 12, Rounding.TRN_ZERO),
        u_format=Fixed(24),
        u_overflow=Overflow.WRAP,
        u_range=(-(1 << 23) + 1, 1 << 23),
        u_decay=Decay.by_multiply(4096 - (du + 1), 12, Rounding.TRN_ZERO),
        u_shift=6,
        bias=bias,
        compare=">",
        reset="zero",
        preset="loihi",
    )
