"""How do the neurons of a converted network behave?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConversionError, FormatError
from ..formats.arguments import choice, flag, real, whole, whole_or_none
from ..formats.fixed import Fixed
from ..layers.neurons import Neuron
from ..layers.presets import IF, QFFS, CaLIF, SignedIF

__all__ = ["METHODS", "MOST_SHIFT", "NeuronRule", "Rule", "TooFine", "neuron"]

METHODS = ("fast-snn", "qffs", "ca-lif")
MOST_SHIFT = 12  # finest charge unit: 2**-12 of the coarse one


class TooFine(ConversionError):
    """A threshold or membrane of `layer` is `bits` too wide; coarser units in front of it may help."""

    def __init__(self, message: str, layer: str, bits: int) -> None:
        super().__init__(message)
        self.layer, self.bits = layer, bits


@dataclass(frozen=True)
class NeuronRule:
    """How the neurons of a converted network behave.

    `method`: which published neuron; the defaults are the exact ones of all three (strict ``v < 0`` with a positive
    net count, cap L). `cap=False`, `v_negative` (in thresholds, -1 to 0) and `signed=False` give the published or
    reconstructed variants. `bias`: ``"spread"`` evenly over the drive, ``"once"`` at its start. `t_drive`: default L.
    `odd_thresholds`: no exact ties between half-up and half-even. `most_shift`: no charge unit is refined by more than
    2**r (joins go further where a branch would vanish, unless r is less than the default).

    By default each membrane has the width in which it provably never overflows. `membrane_bits`: all have this width,
    and provably never overflow; charge units are refined as far as that allows. `state_bits`: all have this width, and
    saturate.
    """

    method: str = "fast-snn"
    cap: bool = True
    v_negative: float = 0.0
    signed: bool = True
    bias: str = "spread"
    t_drive: int | None = None
    odd_thresholds: bool = False
    most_shift: int = MOST_SHIFT
    state_bits: int | None = None
    membrane_bits: int | None = None

    def __post_init__(self) -> None:
        choice(self.method, "method", METHODS)
        choice(self.bias, "bias", ("spread", "once"))
        for name in ("cap", "signed", "odd_thresholds"):
            object.__setattr__(self, name, flag(getattr(self, name), name))
        words = "-1 to 0 thresholds are possible"
        object.__setattr__(self, "v_negative", real(self.v_negative, "v_negative", -1, 0, allowed=words))
        object.__setattr__(self, "t_drive", whole_or_none(self.t_drive, "t_drive", 1, 1 << 20))
        object.__setattr__(self, "most_shift", whole(self.most_shift, "most_shift", 0, 16))
        for name in ("state_bits", "membrane_bits"):
            object.__setattr__(self, name, whole_or_none(getattr(self, name), name, 3, 48))
        if self.state_bits is not None and self.membrane_bits is not None:
            raise FormatError(
                f"state_bits {self.state_bits} and membrane_bits {self.membrane_bits}: membranes saturate or they "
                "provably never do; give one of both"
            )

    @property
    def largest_threshold(self) -> int:
        """A membrane has to reach its threshold with room to pass it: two thresholds fit `state_bits`."""
        return (1 << 31) - 1 if self.state_bits is None else min(1 << 31, 1 << (self.state_bits - 2)) - 1


Rule = NeuronRule  # its name so far, kept for users


def neuron(rule: NeuronRule, theta: np.ndarray, levels: int, two_sided: bool = False) -> Neuron:
    """Neurons of thresholds `theta` (C,) that count up to `levels`; their membranes get their width later.

    Those of an activation with two sides count down to ``-levels``.
    """
    cap = levels if rule.cap else None
    threshold = theta if np.ptp(theta) else int(theta[0])
    least = {"min_count": -levels if rule.cap else 1 - (1 << 31)} if two_sided else {}
    widths: dict[str, Any] = {
        **least,
        "v_format": Fixed(48),
        "threshold_format": Fixed.for_range(0, int(theta.max())),
        "bias_format": Fixed(1),
    }
    if not rule.signed:
        start = np.asarray(threshold) >> 1
        return IF(threshold, v_initial=start, max_count=cap, **widths)
    each = np.ceil(rule.v_negative * np.asarray(threshold, np.float64)).astype(np.int64)
    negative = each if np.any(each) else 0
    if rule.method == "qffs":
        return QFFS(threshold, cap, v_negative=negative, **widths)
    make = CaLIF if rule.method == "ca-lif" else SignedIF
    return make(threshold, cap, negative, **widths)
