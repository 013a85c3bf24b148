"""Recipes of spike-timing plasticity: one layer that learns images without labels. Nothing runs here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ...formats.arguments import whole
from ...layers.neurons import Decay
from ...learning.stdp import PairRule, Trace

__all__ = ["RECIPES", "StdpRecipe", "pair_rule"]

LIMITS = {  # so that membranes and thresholds stay far within 64 bits
    "neurons": (1, 1 << 20), "steps": (1, 1 << 20), "peak": (1, 256), "batch": (1, 1 << 20), "epochs": (1, 1 << 20),
    "seed": (0, (1 << 62) - 1), "weight_bits": (1, 16), "leak_shift": (0, 31), "threshold": (1, 1 << 40),
    "adapt_up": (0, 1 << 20), "adapt_shift": (0, 31), "trace_bits": (1, 16), "trace_shift": (0, 31),
    "gain": (1, 1 << 20), "offset": (-(1 << 20), 1 << 20), "places": (0, 40),
}  # fmt: skip


@dataclass(frozen=True)
class StdpRecipe:
    """Images as random spikes, neurons of which at most one fires in a step, weights that follow what fired before.

    In every step, for each sample side by side: ``v = v - (v >> leak_shift) + sum of w x``; of the neurons with
    ``v >= threshold + adaptation`` the one that is furthest above fires, and every v returns to 0. Adaptation grows by
    `adapt_up` with each spike of a training and falls by ``adaptation >> adapt_shift`` with each image, so that no
    neuron fires for everything. When an output fires, the weight of input i changes by
    ``(gain * trace_i - offset) / 2**places``, rounded at random.

    Parameters
    ----------
    name, note, data, test : str
    neurons, steps, peak, batch, epochs, seed : int
        `peak`: the brightest pixel fires with probability `peak` / 256.
    weight_bits, leak_shift, threshold, adapt_up, adapt_shift : int
    trace_bits, trace_shift, gain, offset, places : int

    Raises
    ------
    FormatError
        A value that is no whole number, or outside its limits.
    """

    name: str
    note: str
    data: str
    test: str
    neurons: int = 100
    steps: int = 30
    peak: int = 64
    batch: int = 10
    epochs: int = 1
    seed: int = 0
    weight_bits: int = 8
    leak_shift: int = 4
    threshold: int = 6000
    adapt_up: int = 256
    adapt_shift: int = 8
    trace_bits: int = 6
    trace_shift: int = 3
    gain: int = 16
    offset: int = 200
    places: int = 6

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            whole(getattr(self, name), f"recipe {self.name!r}: {name}", low, high)
        pair_rule(self)


def pair_rule(chosen: StdpRecipe) -> PairRule:
    """The plasticity of a recipe: potentiation less an offset where the output fires, nothing where the input does."""
    trace = Trace(chosen.trace_bits, (1 << chosen.trace_bits) - 1, Decay.by_shift(chosen.trace_shift))
    change = tuple(chosen.gain * code - chosen.offset for code in range(1 << chosen.trace_bits))
    return PairRule(
        change, (0,) * (1 << chosen.trace_bits), trace, trace, weight_bits=chosen.weight_bits, places=chosen.places,
        nearest=True,
    )  # fmt: skip


_ALL = (
    StdpRecipe(
        name="stdp-mnist",
        note="100 neurons learn 5,000 MNIST images without labels, pair-based plasticity",
        data="mnist:train:5000",
        test="mnist:test:1000",
    ),
    StdpRecipe(
        name="stdp-digits",
        note="the same on the embedded 8x8 digits: needs no data folder",
        data="digits:train",
        test="digits:test",
        neurons=60,
        threshold=1200,
        adapt_up=48,
        epochs=3,
    ),
)

RECIPES: Mapping[str, StdpRecipe] = MappingProxyType({each.name: each for each in _ALL})
