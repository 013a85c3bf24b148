"""What a local learning rule is made of: widths, time constants, schedule and the layers that learn.

Frozen descriptions only. `learn_constants` turns them into the integers that kernels take, `learn` runs them;
``docs/learning.md`` states every equation. Real numbers are given as integers, `Fraction` or text (``"0.65"``), never
rounded before they become fixed-point constants.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any

from ..errors import FormatError, ShapeError
from ..formats.arguments import choice, flag, instance, mapping, rational, sequence, shown, whole, whole_or_none
from ..formats.arguments import text as a_text
from ..formats.fixed import Rounding
from ..formats.notation import as_rounding
from ..layers.base import positions, sizes_of_map

__all__ = ["Conv", "Dense", "LearningNetwork", "Rule", "Schedule", "Widths"]

LETTERS = {  # of the publication
    "W": "weight", "G": "gradient", "P": "membrane", "Q": "synapse", "R": "refractory", "U": "state", "S": "readout",
    "A": "activation", "Sig": "sigmoid", "E": "error", "RNG": "random", "K": "constant", "D": "slope",
}  # fmt: skip
LIMITS = {
    "weight": (2, 16), "gradient": (2, 24), "membrane": (1, 20), "synapse": (1, 20), "refractory": (1, 12),
    "state": (2, 20), "readout": (2, 16), "activation": (2, 16), "sigmoid": (1, 16), "error": (2, 16),
    "random": (1, 16), "constant": (4, 24), "slope": (2, 16),
}  # fmt: skip


def fraction(value, what: str) -> Fraction:
    """`value` as an exact rational; a float is taken as the decimal that it prints as.

    Raises
    ------
    FormatError
        Not a finite number.
    """
    return rational(value, what)


@dataclass(frozen=True)
class Widths:
    """Bits of every quantity of the rule; the letters are those of Schaefer & Joshi (2020).

    Parameters
    ----------
    weight : int
        W, weights of the forward pass.
    gradient : int
        G, grid of the master weights and of their changes.
    membrane, synapse, refractory : int
        P, Q, R: the three traces.
    state : int
        U, membrane.
    readout, activation, sigmoid : int
        S, A, Sig: readout weights, readout outputs, quantised sigmoid.
    error : int
        E, normalised errors.
    random : int
        RNG, random bits of one rounding.
    constant : int
        Binary places of decays and gains (ours: the original keeps them in float).
    slope : int
        Bits of the table of the slope of the sigmoid (ours).

    Raises
    ------
    FormatError
        A width outside its limits.

    Examples
    --------
    >>> Widths.parse("P8 Q8").membrane
    8
    >>> str(Widths())
    'W8 G10 P12 Q10 R2 U6 S6 A6 Sig6 E6 RNG16 K16 D8'
    """

    weight: int = 8
    gradient: int = 10
    membrane: int = 12
    synapse: int = 10
    refractory: int = 2
    state: int = 6
    readout: int = 6
    activation: int = 6
    sigmoid: int = 6
    error: int = 6
    random: int = 16
    constant: int = 16
    slope: int = 8

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            words = f"{low} to {high} bits are possible"
            object.__setattr__(self, name, whole(getattr(self, name), f"Widths.{name}", low, high, allowed=words))

    @classmethod
    def parse(cls, text: str, base: Widths | None = None) -> Widths:
        """Widths from letters and numbers, ``"W8 Q10 P12 R2 S6 U6 A6 Sig6 E6 G10"``.

        What is not named is that of `base`, by default as published.

        Raises
        ------
        FormatError
            A letter that is none of the widths, or one twice.
        """
        instance(base, "base", Widths, none=True)
        found: dict[str, int] = {}
        rest = re.sub(r"[\s,]+", "", a_text(text, "the text of widths"))
        while rest:
            match = re.match(r"([A-Za-z]+)(\d+)", rest)
            if not match or len(match[2]) > 4 or match[1] not in LETTERS or LETTERS[match[1]] in found:
                letters = ", ".join(LETTERS)
                raise FormatError(f"widths {text!r} cannot be read at {rest!r}; each of {letters} once, with its bits")
            found[LETTERS[match[1]]] = int(match[2])
            rest = rest[match.end() :]
        return replace(base or cls(), **found)

    def __str__(self) -> str:
        return " ".join(f"{letter}{getattr(self, name)}" for letter, name in LETTERS.items())


@dataclass(frozen=True)
class Schedule:
    """Learning rate ``2**-shift``: halved after every `every` epochs, from ``2**-start`` on.

    As in the original the first halving comes one epoch early: ``shift = start + (epoch + 1) // every``.
    """

    start: int = 0
    every: int | None = 80

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", whole(self.start, "Schedule.start", -16, 40))
        object.__setattr__(self, "every", whole_or_none(self.every, "Schedule.every", 1, 1 << 31))

    def shift(self, epoch: int) -> int:
        """Right shift of the gradients in `epoch`, counted from 0."""
        epoch = whole(epoch, "Schedule.shift: epoch", 0, 1 << 40)
        return self.start + (0 if self.every is None else (epoch + 1) // self.every)


@dataclass(frozen=True)
class Rule:
    """Integer DECOLLE: everything that is not the shape of the network.

    `Rule.published()` and `Rule.corrected()` are the two named modes; every field can be changed by itself.

    Parameters
    ----------
    widths : Widths
    tau_membrane, tau_synapse : pair
        Least and greatest time constant in steps; each input element draws its own. Equal ends: one for all.
    refractory_decay : Fraction
        Decay of R per step.
    weight_scale : Fraction
        What a weight of the value 1 adds to U for an input trace of the value 1.
    bias_scale : Fraction
        What a bias of the value 1 adds to U.
    trace_cap : Fraction
        Traces are clipped to this part of the greatest value that they can reach.
    trace_rounding : Rounding
        Of P and Q; STOCHASTIC draws 16 random bits for each.
    state_range, state_clamp
        U has the step ``state_range / (2**(U - 1) - 1)`` and is clipped to +-`state_clamp` times `state_range`.
    threshold : Fraction
        A neuron fires where U is at or above it.
    inclusive_codes : bool
        P, Q, R and the sigmoid reach the code 2**b, one more than b bits hold.
    zero_start : bool
        All weights and biases begin at 0.
    inclusive_random : bool
        The random rounding of the original, in which an exact value moves once in 2**RNG.
    dropout : Fraction
        How often a readout is dropped in a step.
    dropout_in_test : bool
    rate_penalty, quiet_penalty, quiet_level : Fraction
        Regularisers: `rate_penalty` times the mean pooled activity, and `quiet_penalty` times
        ``max(0, quiet_level - mean U)``.
    mean_penalties : bool
        False: each neuron feels the penalties undivided, not divided by how many neurons and samples there are.
    gradient_scale : {"batch", "previous"}
        Normalise a gradient by its own greatest value, or by that of the step before: then no gradient is ever stored.
    step_limit : int or None
        Largest change of a weight in one step, in units of the G grid; None: as far as the grid goes.
    burn_in : int
        Steps at the start of a sequence without learning and without votes.

    Raises
    ------
    FormatError
        A value that cannot be.
    """

    widths: Widths = field(default_factory=Widths)
    tau_membrane: tuple = (5, 35)
    tau_synapse: tuple = (5, 10)
    refractory_decay: Fraction = Fraction(13, 20)
    weight_scale: Fraction = Fraction(4, 100000)
    bias_scale: Fraction = Fraction(1)
    trace_cap: Fraction = Fraction(1)
    trace_rounding: Rounding = Rounding.RND_CONV
    state_range: Fraction = Fraction(8)
    state_clamp: int = 1
    threshold: Fraction = Fraction(0)
    inclusive_codes: bool = False
    zero_start: bool = False
    inclusive_random: bool = False
    dropout: Fraction = Fraction(0)
    dropout_in_test: bool = False
    rate_penalty: Fraction = Fraction(2, 100)
    quiet_penalty: Fraction = Fraction(1, 10000)
    quiet_level: Fraction = Fraction(1, 10)
    mean_penalties: bool = True
    gradient_scale: str = "batch"
    step_limit: int | None = None
    burn_in: int = 50

    @classmethod
    def published(cls, **changes) -> Rule:
        """The rule of Schaefer & Joshi (2020) with what is odd about it (``docs/learning.md`` lists it)."""
        return replace(
            cls(
                bias_scale=Fraction(4, 100000), state_clamp=8, inclusive_codes=True, zero_start=True,
                inclusive_random=True, dropout=Fraction(1, 2), dropout_in_test=True,
            ),
            **changes,
        )  # fmt: skip

    @classmethod
    def corrected(cls, **changes) -> Rule:
        """The same rule without the oddities: codes that fit their bits, random start, biases that act."""
        return replace(cls(dropout=Fraction(1, 2)), **changes)

    def __post_init__(self) -> None:
        for name in (
            "refractory_decay", "weight_scale", "bias_scale", "trace_cap", "state_range", "threshold", "dropout",
            "rate_penalty", "quiet_penalty", "quiet_level",
        ):  # fmt: skip
            object.__setattr__(self, name, fraction(getattr(self, name), f"Rule.{name}"))
        for name in ("tau_membrane", "tau_synapse"):
            given = getattr(self, name)
            pair = tuple(
                fraction(x, f"Rule.{name}") for x in (given if isinstance(given, tuple | list) else (given, given))
            )
            if len(pair) != 2 or not 1 < pair[0] <= pair[1] <= 1 << 20:
                seen = ", ".join(str(x)[:20] for x in pair[:4])
                raise FormatError(f"Rule.{name}: found ({seen}); give (low, high) above 1, in steps")
            object.__setattr__(self, name, pair)
        instance(self.widths, "Rule.widths", Widths)
        object.__setattr__(self, "trace_rounding", as_rounding(self.trace_rounding, "Rule.trace_rounding"))
        for name in ("inclusive_codes", "zero_start", "inclusive_random", "dropout_in_test", "mean_penalties"):
            object.__setattr__(self, name, flag(getattr(self, name), f"Rule.{name}"))
        for name in ("state_clamp", "burn_in"):
            object.__setattr__(self, name, whole(getattr(self, name), f"Rule.{name}"))
        object.__setattr__(self, "step_limit", whole_or_none(self.step_limit, "Rule.step_limit"))
        ranges = {
            "refractory_decay": (0, Fraction(255, 256)), "weight_scale": (Fraction(1, 1 << 40), 1 << 20),
            "bias_scale": (0, 1 << 20),
            "trace_cap": (Fraction(1, 1 << 20), 1), "state_range": (Fraction(1, 1 << 20), 1 << 20),
            "dropout": (0, Fraction(255, 256)), "rate_penalty": (0, 1 << 10), "quiet_penalty": (0, 1 << 10),
            "quiet_level": (-(1 << 10), 1 << 10), "state_clamp": (1, 64), "burn_in": (0, 1 << 40),
            "step_limit": (1, 1 << 24),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise FormatError(f"Rule.{name}: found {shown(value)}; {low} to {high} is possible")
        if abs(self.threshold) > self.state_range * self.state_clamp:
            raise FormatError(f"Rule.threshold: found {shown(self.threshold)}, which U never reaches")
        choice(self.gradient_scale, "Rule.gradient_scale", ("batch", "previous"))

    def to_json(self) -> dict:
        """Every field as a plain value, for files and reports."""
        found: dict = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                value = [str(x) for x in value]
            elif isinstance(value, Rounding):
                value = value.name
            elif isinstance(value, Fraction | Widths):
                value = str(value)
            found[item.name] = value
        return found

    @classmethod
    def from_json(cls, values: dict) -> Rule:
        """The rule that `to_json` described.

        Raises
        ------
        FormatError
            A field that a rule does not have.
        """
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(mapping(values, "the values of a rule")) - known):
            raise FormatError(f"a rule has no field {unknown[0]!r}; the fields are {', '.join(sorted(known))}")
        plain: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in values.items()}
        if isinstance(plain.get("widths"), str):
            plain["widths"] = Widths.parse(plain["widths"])
        return cls(**plain)


LARGEST = 1 << 24  # units or size of a side


@dataclass(frozen=True)
class Conv:
    """Convolution that learns, with spike max-pool: square kernel, zero padding, pool windows that do not overlap."""

    channels: int
    kernel: int
    padding: int = 0
    stride: int = 1
    pool: int = 1

    def __post_init__(self) -> None:
        ends = {"channels": (1, LARGEST), "kernel": (1, LARGEST), "padding": (0, LARGEST), "stride": (1, LARGEST)}
        for name, (low, high) in (ends | {"pool": (1, 15)}).items():
            object.__setattr__(self, name, whole(getattr(self, name), f"Conv.{name}", low, high, error=ShapeError))


@dataclass(frozen=True)
class Dense:
    """Fully connected layer that learns; maps are taken in H, W, C order."""

    units: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", whole(self.units, "Dense.units", 1, LARGEST, error=ShapeError))


@dataclass(frozen=True)
class LearningNetwork:
    """A chain of layers, each with its own readout of `classes` outputs.

    Parameters
    ----------
    shape : tuple
        Input ``(C, H, W)`` or ``(N,)``.
    layers : sequence of Conv or Dense
    classes : int
    rule : Rule

    Raises
    ------
    ShapeError
        A kernel or pool larger than what comes in, or a convolution of something that is no map.
    """

    shape: tuple[int, ...]
    layers: tuple
    classes: int
    rule: Rule = field(default_factory=Rule.corrected)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", sizes_of_map(self.shape, "LearningNetwork"))
        object.__setattr__(self, "layers", sequence(self.layers, "LearningNetwork.layers", "Conv or Dense are needed"))
        if not self.layers:
            raise ShapeError("LearningNetwork.layers: found none; at least 1 is needed")
        classes = whole(self.classes, "LearningNetwork.classes", 2, 1 << 16, error=ShapeError)
        object.__setattr__(self, "classes", classes)
        instance(self.rule, "LearningNetwork.rule", Rule)
        self.geometry()

    def geometry(self) -> list[tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]]:
        """For each layer its input, its neurons and its pooled output, each as ``(H, W, C)``."""
        found = []
        here = (1, 1, self.shape[0]) if len(self.shape) == 1 else (self.shape[1], self.shape[2], self.shape[0])
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Dense):
                here = (1, 1, here[0] * here[1] * here[2])
                neurons = pooled = (1, 1, layer.units)
            elif isinstance(layer, Conv):
                height, width = (positions(n + 2 * layer.padding, layer.kernel, layer.stride) for n in here[:2])
                neurons = (height, width, layer.channels)
                pooled = (height // layer.pool, width // layer.pool, layer.channels)
                if min(*neurons, *pooled) < 1:
                    raise ShapeError(f"layer {i} ({layer}) is larger than its input of {here[0]}x{here[1]}")
            else:
                raise ShapeError(f"LearningNetwork.layers: layer {i} is {shown(layer)}; Conv and Dense can learn")
            found.append((here, neurons, pooled))
            here = pooled
        return found
