"""One declarative neuron with orthogonal parts, and named presets over it.

The order within a step is normative (``docs/semantics.md``):

1. acc: the whole synaptic sum of the step (connection bias included), overflow of `acc_format` once;
2. u (only with `u_format`): ``u = overflow(decay(u) + (acc << u_shift))``, else ``u = acc``;
3. v: ``v = overflow(decay(v) - pending reset + u + bias)``, not in a refractory (counter) step;
4. compare ``v`` (minus the refractory trace) with the threshold, cap and polarity;
5. reset, at once or pending for the next step; net count and refractory state follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import FormatError, RangeError
from ..formats.arguments import choice, flag, instance, text, whole, whole_or_none, wholes
from ..formats.fixed import Fixed, Overflow, Rounding
from ..formats.notation import as_overflow, as_rounding
from .base import integers

__all__ = ["CaLIF", "CubaLIF", "Decay", "IF", "LIF", "Neuron", "QFFS", "Refractory", "SignedIF", "loihi"]

COMPARES = (">=", ">")
RESETS = ("subtract", "zero", "none")
WIDE = Fixed(32)
INT31 = (1 << 31) - 1


@dataclass(frozen=True)
class Decay:
    """How a state leaks in one step.

    ``"none"``: x; ``"shift"``: ``x - round(x / 2**shift)``; ``"multiply"``: ``round(x * multiplier / 2**shift)``;
    ``"subtract"``: `amount` toward zero. `at_least_one`: a non-zero x moves by at least 1 (shift only; Xylo).
    """

    kind: str = "none"
    shift: int = 0
    multiplier: int = 0
    amount: int = 0
    rounding: Rounding = Rounding.TRN
    at_least_one: bool = False

    def __post_init__(self) -> None:
        choice(self.kind, "Decay.kind", ("none", "shift", "multiply", "subtract"))
        object.__setattr__(self, "shift", whole(self.shift, "Decay.shift", 0, 31))
        most, words = (1 << self.shift, f"0 to 2**{self.shift} lets no state grow")
        if self.kind != "multiply":
            most, words = 1 << 31, "0 to 2**31 is possible"
        object.__setattr__(self, "multiplier", whole(self.multiplier, "Decay.multiplier", 0, most, allowed=words))
        object.__setattr__(self, "amount", whole(self.amount, "Decay.amount", 0, INT31))
        object.__setattr__(self, "rounding", as_rounding(self.rounding, "Decay.rounding"))
        object.__setattr__(self, "at_least_one", flag(self.at_least_one, "Decay.at_least_one"))

    @classmethod
    def by_shift(cls, shift: int, rounding: Rounding = Rounding.TRN, at_least_one: bool = False) -> Decay:
        """``x - (x >> shift)``."""
        return cls("shift", shift=shift, rounding=rounding, at_least_one=at_least_one)

    @classmethod
    def by_multiply(cls, multiplier: int, shift: int, rounding: Rounding = Rounding.TRN) -> Decay:
        """``(x * multiplier) >> shift``."""
        return cls("multiply", shift=shift, multiplier=multiplier, rounding=rounding)

    @classmethod
    def by_subtract(cls, amount: int) -> Decay:
        """`amount` toward zero."""
        return cls("subtract", amount=amount)


@dataclass(frozen=True)
class Refractory:
    """What follows a spike.

    ``"counter"``: for `steps` steps the membrane is held and the neuron silent (input to v is lost; u goes on).
    ``"trace"``: r decays, is subtracted from v in the compare, and grows by `amplitude` with each spike.
    """

    kind: str = "none"
    steps: int = 0
    amplitude: int = 0
    decay: Decay = Decay()
    format: Fixed = Fixed(16)

    def __post_init__(self) -> None:
        choice(self.kind, "Refractory.kind", ("none", "counter", "trace"))
        object.__setattr__(self, "steps", whole(self.steps, "Refractory.steps", 0, INT31))
        object.__setattr__(self, "amplitude", whole(self.amplitude, "Refractory.amplitude", -(1 << 31), INT31))
        instance(self.decay, "Refractory.decay", Decay)
        instance(self.format, "Refractory.format", Fixed)


@dataclass(frozen=True, eq=False)
class Neuron:
    """A layer of spiking neurons; `threshold`, `v_initial`, `v_negative`, `bias`: one integer or one per channel.

    Raises `FormatError` for a part that cannot be and `RangeError` for a parameter outside its format.
    """

    threshold: np.ndarray | int
    v_initial: np.ndarray | int = 0
    v_format: Fixed = Fixed(32)
    v_overflow: Overflow = Overflow.SAT
    v_decay: Decay = Decay()
    u_format: Fixed | None = None
    u_overflow: Overflow = Overflow.SAT
    u_range: tuple[int, int] | None = None
    u_decay: Decay = Decay()
    u_shift: int = 0
    acc_format: Fixed | None = None
    acc_overflow: Overflow = Overflow.SAT
    bias: np.ndarray | int = 0
    bias_format: Fixed = Fixed(32)
    threshold_format: Fixed = Fixed(32)
    compare: str = ">="
    reset: str = "subtract"
    reset_delay: int = 0
    signed: bool = False
    v_negative: np.ndarray | int = 0
    max_count: int | None = None
    max_spikes_per_step: int = 1
    refractory: Refractory = Refractory()
    preset: str = ""

    def __post_init__(self) -> None:
        for name in ("v_format", "threshold_format", "bias_format"):
            instance(getattr(self, name), f"Neuron.{name}", Fixed)
        for name in ("u_format", "acc_format"):
            instance(getattr(self, name), f"Neuron.{name}", Fixed, none=True)
        for name in ("v_decay", "u_decay"):
            instance(getattr(self, name), f"Neuron.{name}", Decay)
        instance(self.refractory, "Neuron.refractory", Refractory)
        for name, fmt in (
            ("threshold", self.threshold_format),
            ("v_initial", self.v_format),
            ("v_negative", self.v_format),
            ("bias", self.bias_format),
        ):
            array = integers(getattr(self, name), f"Neuron.{name}")
            if array.ndim > 1:
                raise FormatError(f"Neuron.{name}: found shape {array.shape}; give one integer or one per channel")
            if array.size and (array.min() < fmt.min or array.max() > fmt.max):
                raise RangeError(
                    f"Neuron.{name}: values {array.min()} to {array.max()} do not fit {fmt} ({fmt.min} to {fmt.max})"
                )
            object.__setattr__(self, name, array)
        for name in ("v_overflow", "u_overflow", "acc_overflow"):
            object.__setattr__(self, name, as_overflow(getattr(self, name), f"Neuron.{name}"))
        choice(self.compare, "Neuron.compare", COMPARES)
        choice(self.reset, "Neuron.reset", RESETS)
        text(self.preset, "Neuron.preset")
        delay = whole(self.reset_delay, "Neuron.reset_delay", 0, 1, allowed="0 or 1 step is possible")
        object.__setattr__(self, "reset_delay", delay)
        object.__setattr__(self, "signed", flag(self.signed, "Neuron.signed"))
        object.__setattr__(self, "max_count", whole_or_none(self.max_count, "Neuron.max_count", 1, INT31))
        most = whole(self.max_spikes_per_step, "Neuron.max_spikes_per_step", 1, 127)
        object.__setattr__(self, "max_spikes_per_step", most)
        object.__setattr__(self, "u_shift", whole(self.u_shift, "Neuron.u_shift", 0, 31))
        object.__setattr__(self, "u_range", self._range_of_u())
        if self.max_spikes_per_step > 1 and self.reset != "subtract":
            raise FormatError("Neuron.max_spikes_per_step: more than one spike needs reset='subtract'")
        threshold = np.asarray(self.threshold)
        if self.reset == "subtract" and threshold.size and threshold.min() < 1:
            raise RangeError(f"Neuron.threshold: found {threshold.min()}; reset by subtraction needs at least 1")
        if self.channels != 0 and self.signed and np.any(self.v_negative > self.threshold):
            raise RangeError("Neuron.v_negative: found a value above the threshold; both spikes would be due at once")
        trace = self.refractory.format if self.refractory.kind == "trace" else None
        for name, state, decay in (
            ("v_decay", self.v_format, self.v_decay),
            ("u_decay", self.u_format, self.u_decay),
            ("refractory.decay", trace, self.refractory.decay),
        ):
            if state is not None and decay.kind == "multiply" and state.bits + decay.shift > 62:
                raise FormatError(f"Neuron.{name}: {state} times {decay.shift} bits; at most 62 bits together")
        for name in ("v_format", "u_format", "acc_format", "threshold_format", "bias_format"):
            fmt = getattr(self, name)
            if fmt is not None and fmt.bits > 48:
                raise FormatError(f"Neuron.{name}: found {fmt}; at most 48 bits are possible")
        if trace is not None and trace.bits > 48:
            raise FormatError(f"Neuron.refractory.format: found {trace}; at most 48 bits are possible")

    def _range_of_u(self) -> tuple[int, int] | None:
        """`u_range`, in order and of no more codes than `u_format` has, at most one beyond its end."""
        if self.u_range is None:
            return None
        found = wholes(self.u_range, "Neuron.u_range", -(1 << 47), 1 << 47, needed="None or (low, high) is possible")
        if len(found) != 2 or found[0] > found[1]:
            raise FormatError(f"Neuron.u_range: found {found}; None or (low, high) with low <= high is possible")
        low, high = found
        if self.u_format is None:
            raise FormatError("Neuron.u_range: found a range without u_format; give both or none")
        fmt = self.u_format
        if low < fmt.min - 1 or high > fmt.max + 1 or high - low >= 1 << fmt.bits:
            raise FormatError(
                f"Neuron.u_range: found {low} to {high}; at most the {1 << fmt.bits} codes of {fmt}, and at most one "
                "beyond an end, are possible"
            )
        if self.u_overflow == Overflow.SAT_SYM and low < 0 > high:
            raise FormatError(f"Neuron.u_range: found {low} to {high}; SAT_SYM needs an upper end of at least 0")
        return low, high

    @property
    def channels(self) -> int | None:
        """Number of channels that the parameters fix, or None."""
        parameters = map(np.asarray, (self.threshold, self.v_initial, self.v_negative, self.bias))
        sizes = {a.shape[0] for a in parameters if a.ndim}
        if len(sizes) > 1:
            raise FormatError(f"Neuron: parameters for different numbers of channels {sorted(sizes)}; give one number")
        return sizes.pop() if sizes else None


def IF(threshold, **parts) -> Neuron:
    """Integrate and fire: no leak, reset by subtraction, `>=`; further `parts` as in `Neuron`."""
    return Neuron(threshold, **{"preset": "IF", **parts})


def LIF(threshold, decay: Decay, **parts) -> Neuron:
    """Leaky integrate and fire: `decay` acts on v before the input is added."""
    return Neuron(threshold, v_decay=decay, **{"preset": "LIF", **parts})


def CubaLIF(threshold, u_decay: Decay, v_decay: Decay, u_format: Fixed = WIDE, **parts) -> Neuron:
    """Current-based LIF: the synaptic current u leaks with `u_decay`, the membrane v with `v_decay`."""
    instance(u_format, "CubaLIF.u_format", Fixed)
    return Neuron(threshold, u_decay=u_decay, v_decay=v_decay, u_format=u_format, **{"preset": "CubaLIF", **parts})


def SignedIF(threshold, levels: int | None = None, v_negative=0, **parts) -> Neuron:
    """Signed IF of Fast-SNN (Hu et al. 2023): -1 where v < `v_negative` and the net count is positive.

    V0 = threshold >> 1. `levels` caps the net count; None is the published, uncapped neuron.
    """
    threshold = integers(threshold, "SignedIF.threshold")
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
