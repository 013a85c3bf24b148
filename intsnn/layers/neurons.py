"""One declarative neuron with orthogonal parts; presets over it stand in `intsnn.layers.presets`.

The order within a step is normative (``docs/semantics.md``):

1. acc: the whole synaptic sum of the step (connection bias included), overflow of `acc_format` once;
2. u (only with `u_format`): ``u = overflow(decay(u) + (acc << u_shift))``, else ``u = acc``;
3. v: ``v = overflow(decay(v) - pending reset + u + bias)``, not in a refractory (counter) step;
4. compare ``v`` (minus the refractory trace) with the threshold, cap and polarity;
5. reset, at once or pending for the next step; net count and refractory state follow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import FormatError, RangeError, ShapeError
from ..formats.arguments import choice, flag, instance, text, whole, whole_or_none, wholes
from ..formats.fixed import Fixed, Overflow, Rounding
from ..formats.integers import whole_array
from ..formats.notation import as_overflow, as_rounding
from . import primitives
from .base import (
    Bound,
    Build,
    Layer,
    ParameterSize,
    Shape,
    StateSize,
    Value,
    at_least_zero,
    at_most_zero,
    fits,
    least_bits,
    objects,
)  # fmt: skip
from .schedule import Schedule

__all__ = ["Decay", "Neuron", "Refractory"]

COMPARES = (">=", ">")
RESETS = ("subtract", "zero", "none")
INT31 = (1 << 31) - 1


def _numbers(value: Any, what: str, high: Any, allowed: str = "") -> np.ndarray | int:
    """0 to `high` (of each channel): one number as an int, or one per channel as a read-only int64 array."""
    if not isinstance(value, list | tuple) and not (isinstance(value, np.ndarray) and value.ndim):
        return whole(value, what, 0, int(np.min(high)), allowed=allowed)
    found = whole_array(value, what)
    if found.ndim != 1 or not found.size:
        raise FormatError(f"{what}: found shape {found.shape}; give one integer or one per channel")
    if np.ndim(high) and len(high) != len(found):
        raise FormatError(f"{what}: found {len(found)} channels and {len(high)} of the shift; give one number")
    bad = np.flatnonzero((found < 0) | (found > high))
    if bad.size:
        c = int(bad[0])
        whole(int(found[c]), f"{what} of channel {c}", 0, int(np.broadcast_to(high, found.shape)[c]), allowed=allowed)
    return found


@dataclass(frozen=True, eq=False)
class Decay:
    """How a state leaks in one step; `shift`, `multiplier`, `amount`: one integer or one per channel, (channels,).

    ``"none"``: x; ``"shift"``: ``x - round(x / 2**shift)``; ``"multiply"``: ``round(x * multiplier / 2**shift)``;
    ``"subtract"``: `amount` toward zero. `at_least_one`: a non-zero x moves by at least 1 (shift only; Xylo).

    Raises `FormatError` for a number out of its range and for numbers of different numbers of channels.
    """

    kind: str = "none"
    shift: np.ndarray | int = 0
    multiplier: np.ndarray | int = 0
    amount: np.ndarray | int = 0
    rounding: Rounding = Rounding.TRN
    at_least_one: bool = False

    def __post_init__(self) -> None:
        choice(self.kind, "Decay.kind", ("none", "shift", "multiply", "subtract"))
        object.__setattr__(self, "shift", _numbers(self.shift, "Decay.shift", 31))
        shift = np.asarray(self.shift)
        most, words = (1 << shift, f"0 to 2**{shift.min()} lets no state grow")
        if shift.ndim:
            words = "0 to 2**shift lets no state grow"
        if self.kind != "multiply":
            most, words = np.asarray(1 << 31), "0 to 2**31 is possible"
        object.__setattr__(self, "multiplier", _numbers(self.multiplier, "Decay.multiplier", most, words))
        object.__setattr__(self, "amount", _numbers(self.amount, "Decay.amount", INT31))
        self.channels  # noqa: B018 (they have to agree)
        object.__setattr__(self, "rounding", as_rounding(self.rounding, "Decay.rounding"))
        object.__setattr__(self, "at_least_one", flag(self.at_least_one, "Decay.at_least_one"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Decay) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        """All fields; numbers per channel as tuples."""
        numbers = (self.shift, self.multiplier, self.amount)
        plain = (tuple(n.tolist()) if isinstance(n, np.ndarray) else n for n in numbers)
        return self.kind, *plain, self.rounding, self.at_least_one

    @property
    def channels(self) -> int | None:
        """Number of channels that it has numbers for, or None where they are the same for all."""
        sizes = {len(n) for n in (self.shift, self.multiplier, self.amount) if isinstance(n, np.ndarray)}
        if len(sizes) > 1:
            raise FormatError(f"Decay: numbers for different numbers of channels {sorted(sizes)}; give one number")
        return sizes.pop() if sizes else None

    def distinct(self) -> list[Decay]:
        """Every leak among the channels once, each the same for all channels."""
        if self.channels is None:
            return [self]
        rows = np.broadcast_arrays(self.shift, self.multiplier, self.amount)
        found = np.unique(np.stack(rows), axis=1).T.tolist()
        return [Decay(self.kind, a, b, c, self.rounding, self.at_least_one) for a, b, c in found]

    @classmethod
    def by_shift(cls, shift: np.ndarray | int, rounding: Rounding = Rounding.TRN, at_least_one: bool = False) -> Decay:
        """``x - (x >> shift)``."""
        return cls("shift", shift=shift, rounding=rounding, at_least_one=at_least_one)

    @classmethod
    def by_multiply(
        cls, multiplier: np.ndarray | int, shift: np.ndarray | int, rounding: Rounding = Rounding.TRN
    ) -> Decay:
        """``(x * multiplier) >> shift``."""
        return cls("multiply", shift=shift, multiplier=multiplier, rounding=rounding)

    @classmethod
    def by_subtract(cls, amount: np.ndarray | int) -> Decay:
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
class Neuron(Layer):
    """A layer of spiking neurons; `threshold`, `v_initial`, `v_negative`, `bias`: one integer or one per channel.

    So are the numbers of every `Decay`. A channel is one output of a dense layer, one map of others.

    Raises `FormatError` for a part that cannot be and `RangeError` for a parameter outside its format.
    """

    threshold: np.ndarray | int
    v_initial: np.ndarray | int = 0
    v_format: Fixed = Fixed(32)
    v_overflow: Overflow = Overflow.SAT
    v_decay: Decay = Decay()
    u_format: Fixed | None = None
    u_overflow: Overflow = Overflow.SAT
    u_range: tuple[int, int] | None = field(default=None, metadata={"signed": True})
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
    restart_every: int = field(default=0, metadata={"written": "unless default"})
    restart_phase: int = field(default=0, metadata={"written": "unless default"})
    min_count: int = field(default=0, metadata={"written": "unless default"})

    spikes = True
    fires = True
    answers = True

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
            array = whole_array(getattr(self, name), f"Neuron.{name}")
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
        object.__setattr__(self, "min_count", self._floor())
        most = whole(self.max_spikes_per_step, "Neuron.max_spikes_per_step", 1, 127)
        object.__setattr__(self, "max_spikes_per_step", most)
        for name in ("restart_every", "restart_phase"):
            object.__setattr__(self, name, whole(getattr(self, name), f"Neuron.{name}", 0, INT31))
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
            places = int(np.max(decay.shift))
            if state is not None and decay.kind == "multiply" and state.bits + places > 62:
                raise FormatError(f"Neuron.{name}: {state} times {places} bits; at most 62 bits together")
        for name in ("v_format", "u_format", "acc_format", "threshold_format", "bias_format"):
            fmt = getattr(self, name)
            if fmt is not None and fmt.bits > 48:
                raise FormatError(f"Neuron.{name}: found {fmt}; at most 48 bits are possible")
        if trace is not None and trace.bits > 48:
            raise FormatError(f"Neuron.refractory.format: found {trace}; at most 48 bits are possible")

    def _floor(self) -> int:
        """`min_count`, below 0 only where spikes have two signs."""
        least = whole(self.min_count, "Neuron.min_count", -INT31, 0, allowed=f"{-INT31} to 0 is possible")
        if least and not self.signed:
            raise FormatError(f"Neuron.min_count: found {least}; a net count below 0 needs signed=True")
        return least

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
        sizes |= {d.channels for d in self._leaks().values() if d.channels is not None}
        if len(sizes) > 1:
            raise FormatError(f"Neuron: parameters for different numbers of channels {sorted(sizes)}; give one number")
        return sizes.pop() if sizes else None

    def _leaks(self) -> dict[str, Decay]:
        """The decays by the names of their fields."""
        return {"v_decay": self.v_decay, "u_decay": self.u_decay, "refractory.decay": self.refractory.decay}

    # -- what every layer answers ------------------------------------------------------------------

    @property
    def leaks(self) -> bool:
        """Whether what came in is forgotten, or held back, with time."""
        return self._decays or bool(self.restart_every)

    @property
    def _decays(self) -> bool:
        return self.v_decay.kind != "none" or self.u_format is not None or self.refractory.kind != "none"

    @property
    def rests_at(self) -> int:
        """`max_count` where reaching it is what may be needed to come to rest, else 0."""
        return 0 if self.max_count is None or self.reset != "subtract" or self.leaks else self.max_count

    @property
    def lowest_count(self) -> int:
        """`min_count`: where a net count ends that falls."""
        return self.min_count

    def restarts(self, step: int) -> bool:
        """Whether u, v, what is still to be reset and the refractory state begin anew before `step`."""
        return bool(self.restart_every) and step > 0 and (step - self.restart_phase) % self.restart_every == 0

    def most(self, steps: int) -> int:
        """Largest net count after `steps` steps."""
        most = steps * self.max_spikes_per_step
        return most if self.max_count is None else min(self.max_count, most)

    def least(self, steps: int) -> int:
        """Smallest net count after `steps` steps."""
        return max(self.min_count, -steps * self.max_spikes_per_step)

    def output_shape(self, name: str, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def check_channels(self, name: str, shape: Shape) -> None:
        try:
            channels = self.channels
        except FormatError as error:
            raise FormatError(f"{name}: {error}") from None
        if channels not in (None, shape[0]):
            raise ShapeError(f"{name} (Neuron): parameters for {channels} channels, the input {shape} has {shape[0]}")

    def check_widths(self, name: str, inputs: Sequence[Bound], bound: Bound) -> None:
        if self.u_format is not None and not fits(inputs[0].low, inputs[0].high, 63 - self.u_shift):
            raise RangeError(f"{name} (Neuron): the input shifted by {self.u_shift} can need more than 63 bits")

    def bound_alone(self, size: int, schedule: Schedule) -> Bound:
        """Ranges of the spikes of `size` channels, whatever comes in."""
        ones, spikes = objects(1, size), self.max_spikes_per_step
        most = self.most(schedule.limit)
        if schedule.totals:  # any level up to the cap, whatever the steps
            most = self.max_count or schedule.levels or most
        least = self.min_count if schedule.totals else self.least(schedule.limit)
        return Bound(ones * (-spikes if self.signed else 0), ones * spikes, ones * least, ones * most)

    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        source = inputs[0]
        alone = self.bound_alone(len(source.low), schedule)
        if self.leaks or self.reset != "subtract" or schedule.totals:
            return alone
        size, driven, most = len(source.low), schedule.driven, self.most(schedule.limit)
        bias, theta = objects(self.bias, size), objects(self.threshold, size)
        start = objects(self.v_initial, size)
        q_low = source.total_low + at_most_zero(bias * driven)
        q_high = source.total_high + at_least_zero(bias * driven)
        lowest = np.minimum(start + q_low - theta * most, start)
        # after a positive spike v >= 0, and from there the charge can only fall from its top to its bottom
        span = at_least_zero(q_high) - at_most_zero(q_low)
        recent = np.minimum(start + at_most_zero(q_low), -span)
        highest = np.maximum(start + q_high, start)
        if self.min_count:  # after a negative spike v < v_negative + theta, and it rises by no more than the span
            taken_back = np.minimum(
                highest - theta * self.least(schedule.limit),
                theta * self.max_spikes_per_step + objects(self.v_negative, size) + span,
            )
            highest = np.maximum(highest, taken_back)
        return Bound(*alone.parts, np.maximum(lowest, recent), highest)

    def lower(self, build: Build, inputs: Sequence[Value], schedule: Schedule) -> Value:
        if schedule.totals:
            top, start = self.max_count or schedule.levels or 1, np.asarray(self.v_initial)
            return build(primitives.Level(start, np.asarray(self.threshold), top, self.min_count), inputs[0])
        return build(primitives.Fire(self), inputs[0])

    def no_ann(self, name: str, levels: int | None) -> list[str]:
        reasons = []
        if self._decays:
            reasons.append(f"{name} leaks or has a refractory state")
        if self.restart_every:
            reasons.append(f"{name} begins anew (restart_every)")
        if self.reset != "subtract":
            reasons.append(f"{name} does not reset by subtraction")
        if self.max_count is None and levels is None:
            reasons.append(f"{name} has no number of levels (max_count, or levels of the network)")
        if np.any(self.bias):
            reasons.append(f"{name} has a bias of its own (put it on the connection)")
        return reasons

    @property
    def draws(self) -> bool:
        """Whether one of its states decays by a rounding with random bits."""
        decays = [d for d in self._leaks().values() if d.kind in ("shift", "multiply")]
        return any(decay.rounding is Rounding.STOCHASTIC for decay in decays)

    def details(self) -> dict[str, Any]:
        words = [self.preset or "Neuron", "signed" if self.signed else "unsigned"]
        words.append(f"cap {self.max_count}" if self.max_count is not None else "no cap")
        if self.min_count:
            words.append(f"down to {self.min_count}")
        negative = np.asarray(self.v_negative)
        if negative.any():
            low, high = negative.min(), negative.max()
            words.append(f"v_negative {low}" + (f" to {high}" if high > low else ""))
        if self.reset != "subtract" or self.reset_delay:
            words.append(f"reset {self.reset}" + (" a step later" if self.reset_delay else ""))
        for name, decay in (("v_decay", self.v_decay), ("u_decay", self.u_decay)):
            if decay.kind != "none":
                words.append(f"{name} {decay.kind}" + (" by channel" if decay.channels else ""))
        if self.refractory.kind != "none":
            words.append(f"refractory {self.refractory.kind}")
        return {
            "threshold": np.asarray(self.threshold), "levels": self.max_count, "detail": ", ".join(words),
            "format": str(self.v_format), "state_bits": self.v_format.bits,
        }  # fmt: skip

    def spread(self, spikes: np.ndarray, inputs: Sequence[np.ndarray], shape: Shape) -> np.ndarray | None:
        return spikes

    def parameters(self) -> list[ParameterSize]:
        found = [
            ParameterSize("thresholds", "threshold", self.threshold_format.bits),
            ParameterSize("thresholds", "v_negative", self.v_format.bits, 0),
            ParameterSize("initial values", "v_initial", self.v_format.bits, 0),
            ParameterSize("biases", "bias", self.bias_format.bits, 0),
        ]
        for name, decay in self._leaks().items():  # one number for all channels is a part of the neuron, like its kind
            for part in ("shift", "multiplier", "amount"):
                numbers = getattr(decay, part)
                if isinstance(numbers, np.ndarray):
                    found.append(ParameterSize("leaks", f"{name}.{part}", least_bits(numbers)))
        return found

    def states(self, shapes, shape, bounds, bound) -> list[StateSize]:
        size = math.prod(shape)
        found = [StateSize("membranes", "v", size, self.v_format.bits)]
        if self.u_format is not None:
            found.append(StateSize("currents", "u", size, self.u_format.bits))
        if self.refractory.kind != "none":
            trace = self.refractory.kind == "trace"
            bits = self.refractory.format.bits if trace else self.refractory.steps.bit_length()
            found.append(StateSize("traces", "refractory", size, bits))
        if self.max_count is not None or self.signed:  # else nothing asks for the count
            bits = bound.total_format.bits if self.min_count else int(bound.total_high.max()).bit_length()
            found.append(StateSize("counts", "count", size, bits))
        spike = bound.step_format.bits
        if self.reset_delay:
            found.append(StateSize("counts", "pending", size, spike))
        return [*found, StateSize("spikes", "out", size, spike, spike)]
