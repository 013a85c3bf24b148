"""Spike-timing plasticity with integers: pair-based rules, and their three-factor form with a reward.

A rule says how spikes leave traces and what a spike that meets a trace changes; ``docs/learning.md`` states the
equations. `Plasticity` holds weights and traces and applies a rule to the spikes of any simulation, step by step.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import FormatError, RangeError, ShapeError
from ..formats.arguments import array_of, choice, flag, instance, seed_of, shown, whole, wholes
from ..formats.fixed import Rounding
from ..formats.integers import for_kernel, smallest_dtype
from ..formats.notation import as_rounding
from ..kernels.learning.parameters import PAIR_COUNTERS, PairParameters
from ..layers.neurons import Decay

__all__ = ["PairRule", "Plasticity", "Trace", "by_shift"]

KINDS = {"none": 0, "shift": 1, "multiply": 2, "subtract": 3}
WORD = 62  # bits that a sum may take
MOST_SAMPLES = 1 << 30
REWARD = 1 << 24  # rewards are smaller


def by_shift(trace_bits: int, shift: int, gain: int = 1) -> tuple[int, ...]:
    """Table of changes proportional to the trace: ``gain * trace >> shift`` for every trace of `trace_bits`.

    Examples
    --------
    >>> by_shift(3, 1)
    (0, 0, 1, 1, 2, 2, 3, 3)
    """
    trace_bits = whole(trace_bits, "by_shift: trace_bits", 1, 16)
    shift = whole(shift, "by_shift: shift", 0, WORD)
    gain = whole(gain, "by_shift: gain", -(1 << 40), 1 << 40)
    return tuple(gain * trace >> shift for trace in range(1 << trace_bits))


def _for_all(decay: Decay, what: str) -> None:
    """`decay` has to be one for all synapses."""
    instance(decay, what, Decay)
    if decay.channels is not None:
        raise FormatError(f"{what}: found numbers for {decay.channels} channels; traces leak alike, give one number")


@dataclass(frozen=True)
class Trace:
    """A decaying memory of spikes, 0 .. 2**bits - 1: grows by `amplitude` with a spike and saturates."""

    bits: int = 7
    amplitude: int = 64
    decay: Decay = field(default_factory=lambda: Decay.by_shift(4, at_least_one=True))

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", whole(self.bits, "Trace.bits", 1, 16))
        object.__setattr__(self, "amplitude", whole(self.amplitude, "Trace.amplitude", 0, self.top))
        _for_all(self.decay, "Trace.decay")

    @property
    def top(self) -> int:
        """Largest code."""
        return (1 << self.bits) - 1


@dataclass(frozen=True)
class PairRule:
    """What a pair of spikes changes.

    Parameters
    ----------
    potentiation : tuple of int
        Change by the trace of the input when the output fires, one entry for each code of `pre`.
    depression : tuple of int
        Change by the trace of the output when the input fires (taken away), one entry for each code of `post`.
    pre, post : Trace
    weight_bits : int
    signed : bool
        Weights in ``-2**(b-1) .. 2**(b-1) - 1``, or from 0.
    places : int
        Changes count in ``2**-places`` of a weight step.
    rounding : Rounding
        Of the change of a step; STOCHASTIC keeps the mean of changes below one step.
    soft : bool
        Changes are multiplied by the distance to the end of the range that they lead to.
    nearest : bool
        A spike sets its trace to the amplitude: only the last spike counts.
    eligibility : Decay
        Of the three-factor form, with `eligibility_bits` (signed).

    Raises
    ------
    FormatError
        A table of the wrong length, or widths whose sums would leave 64 bits.
    """

    potentiation: tuple[int, ...]
    depression: tuple[int, ...]
    pre: Trace = field(default_factory=Trace)
    post: Trace = field(default_factory=Trace)
    weight_bits: int = 8
    signed: bool = False
    places: int = 0
    rounding: Rounding = Rounding.STOCHASTIC
    soft: bool = False
    nearest: bool = False
    eligibility: Decay = field(default_factory=lambda: Decay.by_shift(5, Rounding.TRN_ZERO, at_least_one=True))
    eligibility_bits: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "rounding", as_rounding(self.rounding, "PairRule.rounding"))
        for name in ("pre", "post"):
            instance(getattr(self, name), f"PairRule.{name}", Trace)
        _for_all(self.eligibility, "PairRule.eligibility")
        for name in ("signed", "soft", "nearest"):
            object.__setattr__(self, name, flag(getattr(self, name), f"PairRule.{name}"))
        for name, low, high in (("weight_bits", 1, 16), ("places", 0, 40), ("eligibility_bits", 2, 32)):
            object.__setattr__(self, name, whole(getattr(self, name), f"PairRule.{name}", low, high))
        for name, trace in (("potentiation", self.pre), ("depression", self.post)):
            table = wholes(getattr(self, name), f"PairRule.{name}")
            object.__setattr__(self, name, table)
            if len(table) != trace.top + 1:
                raise FormatError(
                    f"PairRule.{name}: found {len(table)} entries; a trace of {trace.bits} bits needs {trace.top + 1}"
                )
            if max(map(abs, table)) >= 1 << 24:
                raise FormatError(f"PairRule.{name}: found {max(map(abs, table))}; changes are below 2**24")

    @property
    def weight_range(self) -> tuple[int, int]:
        """Least and greatest weight."""
        if self.signed:
            return -(1 << self.weight_bits - 1), (1 << self.weight_bits - 1) - 1
        return 0, (1 << self.weight_bits) - 1

    def parameters(self, seed: int, layer: int) -> PairParameters:
        """The integers that kernels take."""
        seed, layer = seed_of(seed), seed_of(layer, "layer")

        def parts(decay: Decay) -> tuple[int, int, int, int, int]:
            first = {"shift": decay.shift, "multiply": decay.multiplier}.get(decay.kind, decay.amount)
            return KINDS[decay.kind], int(first), int(decay.shift), int(decay.rounding), int(decay.at_least_one)

        low, high = self.weight_range
        return PairParameters(
            *parts(self.pre.decay), self.pre.amplitude, self.pre.top,
            *parts(self.post.decay), self.post.amplitude, self.post.top,
            int(self.nearest), low, high, int(self.soft), self.places, int(self.rounding),
            *parts(self.eligibility), (1 << self.eligibility_bits - 1) - 1, seed, layer,
        )  # fmt: skip


class Plasticity:
    """Weights between two groups of neurons, and the traces by which they change.

    Parameters
    ----------
    rule : PairRule
    weight : (inputs, outputs) integers
        Start, within the range of the rule.
    samples : int
        Sequences that run side by side; their changes are summed and applied once a step.
    seed, layer : int
        Keys of random bits.
    path : {"compiled", "reference"}
    """

    def __init__(
        self, rule: PairRule, weight, samples: int = 1, seed: int = 0, layer: int = 0, path: str = "compiled"
    ) -> None:
        instance(rule, "Plasticity.rule", PairRule)
        samples = whole(samples, "Plasticity.samples", 1, MOST_SAMPLES)
        seed, layer = seed_of(seed, "Plasticity.seed"), seed_of(layer, "Plasticity.layer")
        choice(path, "Plasticity.path", ("compiled", "reference"))
        weight = array_of(weight, "Plasticity.weight")
        low, high = rule.weight_range
        if weight.ndim != 2 or weight.dtype.kind not in "iu":
            raise ShapeError(
                f"Plasticity: weights are {weight.dtype} of shape {weight.shape}; integers (in, out) are needed"
            )
        if weight.size and (weight.min() < low or weight.max() > high):
            raise RangeError(f"Plasticity: weights {weight.min()} to {weight.max()} lie outside {low} to {high}")
        self.rule, self.samples, self.steps = rule, samples, 0
        self.parameters = rule.parameters(seed, layer)
        self.weight = np.ascontiguousarray(weight.astype(smallest_dtype(min(low, -1), high)))
        self._shape, self._weight_type = self.weight.shape, self.weight.dtype
        self.x = np.zeros((samples, weight.shape[0]), np.int32)
        self.y = np.zeros((samples, weight.shape[1]), np.int32)
        self.eligibility: np.ndarray | None = None
        self.counters = np.zeros(PAIR_COUNTERS, np.int64)
        self._tables = np.array(rule.potentiation, np.int64), np.array(rule.depression, np.int64)
        if path == "compiled":
            from ..kernels.learning import pair as kernels
        else:
            from ..kernels.learning import pair_reference as kernels  # type: ignore[no-redef]
        self._kernels = kernels
        largest = samples * 255 * max(int(np.abs(table).max()) for table in self._tables)
        self._counted = max(1, largest) * weight.size  # the most that a counter grows by in a step
        if largest * (high - low if rule.soft else 1) >= 1 << WORD or self._counted >= 1 << WORD:
            raise FormatError(f"Plasticity: changes of {samples} samples would leave 64 bits")

    def begin(self) -> None:
        """Traces and eligibility back to 0: new sequences."""
        self.x[:] = 0
        self.y[:] = 0
        if self.eligibility is not None:
            self.eligibility[:] = 0

    def step(self, pre, post, reward=None) -> None:
        """Learn from the spikes of one step.

        Parameters
        ----------
        pre : (samples, inputs), post : (samples, outputs)
            Spikes, 0 .. 255.
        reward : (samples,) integers or None
            None: pair-based rule. Otherwise the three-factor form; pairs only leave a trace, and weights move by
            the sum of reward times trace.

        Raises
        ------
        ShapeError, RangeError
            Spikes or a reward that do not fit, or so many steps that a counter could leave 64 bits in this one; nothing
            has changed then.
        """
        self._check_arrays()
        pre, post = (self._spikes(v, t.shape, n) for v, t, n in ((pre, self.x, "pre"), (post, self.y, "post")))
        if reward is not None:
            reward = self._reward(reward)
        if max(map(abs, self.counters.tolist())) + self._counted >= 1 << 63:
            raise RangeError(
                f"Plasticity.step: after {self.steps:,} steps a counter could leave 64 bits; set its counters to 0"
            )
        k, c = self._kernels, self.parameters
        k.fade(self.x, self.y, c, self.steps, 0)
        if reward is None:
            k.pair_step(pre, post, self.x, self.y, *self._tables, c, self.steps, self.weight, self.counters)
        else:
            if self.eligibility is None:
                self.eligibility = np.zeros((self.samples, *self.weight.shape), np.int32)
            k.reward_step(
                pre, post, self.x, self.y, *self._tables, reward, c, self.steps, 0, self.eligibility,
                self.weight, self.counters,
            )  # fmt: skip
        k.mark(pre, post, self.x, self.y, c)
        self.steps += 1

    def _check_arrays(self) -> None:
        """Refuse arrays that were put in the place of ours and do not fit the kernels."""
        inputs, outputs = self._shape
        kinds: dict[str, tuple[tuple[int, ...], Any]] = {
            "weight": (self._shape, self._weight_type), "x": ((self.samples, inputs), np.int32),
            "y": ((self.samples, outputs), np.int32), "counters": ((PAIR_COUNTERS,), np.int64),
            "eligibility": ((self.samples, *self._shape), np.int32),
        }  # fmt: skip
        for name, (shape, kind) in kinds.items():
            array = getattr(self, name)
            if array is None and name == "eligibility":
                continue
            if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != kind:
                raise ShapeError(
                    f"Plasticity.{name}: found {shown(array)}; {np.dtype(kind)} of shape {shape} is needed"
                )
            if not (array.flags.c_contiguous and array.flags.writeable and array.flags.aligned):
                raise FormatError(f"Plasticity.{name}: found a read-only array or a view; own arrays are needed")

    def _reward(self, reward) -> np.ndarray:
        reward = array_of(reward, "Plasticity.step: reward")
        if reward.shape != (self.samples,) or reward.dtype.kind not in "iu":
            raise ShapeError(
                f"Plasticity.step: found a reward of {reward.dtype} of shape {reward.shape}; integers of shape "
                f"({self.samples},) are needed"
            )
        least, most = (int(reward.min()), int(reward.max())) if reward.size else (0, 0)
        if not -REWARD < least <= most < REWARD:
            raise RangeError(f"Plasticity.step: found rewards from {least} to {most}; their size is below 2**24")
        return reward.astype(np.int64)

    def _spikes(self, spikes, shape, name: str) -> np.ndarray:
        spikes = array_of(spikes, f"Plasticity.step: {name}")
        if spikes.shape != shape:
            raise ShapeError(f"Plasticity.step: found {name} spikes of shape {spikes.shape}; {shape} is needed")
        if spikes.dtype.kind not in "biu" or (spikes.size and (spikes.min() < 0 or spikes.max() > 255)):
            raise RangeError(f"Plasticity.step: {name} spikes are counts from 0 to 255")
        return for_kernel(spikes, np.uint8)

    def weights_sha256(self) -> str:
        """Digest of the weights: int32, little-endian."""
        return hashlib.sha256(np.ascontiguousarray(self.weight, "<i4").tobytes()).hexdigest()
