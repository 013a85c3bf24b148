"""How large can the charge of a branch become, proven from weights, levels and input codes?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ConversionError
from .charge_units import channels

__all__ = ["Ranges", "Term", "whole_ratios"]


@dataclass(eq=False)
class Term:
    """One branch into a neuron or readout: where its multiplier goes and the value of one unit of charge."""

    node: str  # connection that carries the multiplier, or the Scale to insert before
    unit: np.ndarray  # (C,) real value of one unit of charge before the multiplier
    scaled: bool  # True: `node` is a connection; False: an identity that needs a Scale
    settled: bool = False  # an identity whose unit was refined where it was settled


def whole_ratios(units: list[Any]) -> tuple[float, list[int]] | None:
    """The finest of `units` and how often it is in each, where each is one number and a multiple of it."""
    if any(np.unique(np.asarray(unit)).size != 1 or np.isnan(unit).any() for unit in units):
        return None
    each = [float(np.asarray(unit).reshape(-1)[0]) for unit in units]
    finest = min(each)
    ratios = [round(unit / finest) for unit in each]
    near = all(abs(unit / finest - ratio) < 1e-9 * ratio for unit, ratio in zip(each, ratios, strict=True))
    return (finest, ratios) if near else None


@dataclass(frozen=True, eq=False)
class Ranges:
    """Ranges of charges in a network that is being made.

    Attributes
    ----------
    nodes, sources : mapping of layer to layer, and to the names that it reads
    units : mapping of layer to float or (C,)
        Real value of one count or unit of charge.
    added, identities : set of str
        Sums of branches; multipliers of branches that are no connection.
    drive, levels : int
    """

    nodes: Mapping[str, Any]
    sources: Mapping[str, list[str]]
    units: Mapping[str, Any]
    added: set[str]
    identities: set[str]
    drive: int
    levels: int

    def is_count(self, name: str) -> bool:
        """Whether a value is made of spike counts and input codes, moved and added up."""
        layer = self.nodes[name]
        if layer.takes_input or layer.fires:
            return True
        moved = layer.passive or layer.gathers or name in self.added or name in self.identities
        return moved and all(self.is_count(source) for source in self.sources[name])

    def reach(self, term: Term) -> tuple[np.ndarray, np.ndarray, int]:
        """Range (C,) and lattice of the charge of a branch in coarse units, from counts in [0, L] and input codes."""
        size = len(term.unit)
        if not term.scaled:
            least, most = self.ends(self.sources[term.node][0])
            return np.full(size, least), np.full(size, most), 1
        layer, source = self.nodes[term.node], self.sources[term.node][0]
        root = source
        while self.nodes[root].passive:
            root = self.sources[root][0]
        lattice = self.drive if self.nodes[root].takes_input else 1
        low, high = self.sums(layer.weight, source)
        pooled = float(np.round(channels(self.units[term.node], size) / term.unit)[0])  # a pool behind it adds up sums
        return low * pooled, high * pooled, lattice

    def sums(self, weight: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray]:
        """Ends (C,) of the weighted sums of `source`, whose values and paddings lie in its range and 0."""
        low, high = self.ends(source)
        low, high = min(low, 0.0), max(high, 0.0)
        weight = weight.reshape(len(weight), -1).astype(np.float64)
        positive, negative = np.maximum(weight, 0).sum(axis=1), np.minimum(weight, 0).sum(axis=1)
        return positive * low + negative * high, positive * high + negative * low

    def ends(self, name: str) -> tuple[float, float]:
        """Ends of the total charge of any element of `name`, over the drive and in its own unit."""
        layer = self.nodes[name]
        if layer.takes_input:
            return float(layer.low * self.drive), float(layer.high * self.drive)
        if layer.fires:
            return float(-self.levels if layer.lowest_count else 0), float(self.levels)
        if layer.weighted:
            low, high = self.sums(layer.weight, self.sources[name][0])
            bias = 0.0 if layer.bias is None else layer.bias.astype(np.float64)
            return float((low * layer.multiplier + bias).min()), float((high * layer.multiplier + bias).max())
        each = [self.ends(source) for source in self.sources[name]]
        if layer.gathers:
            return min(low for low, _ in each), max(high for _, high in each)
        ends = np.sum(each, axis=0)
        if name in self.identities:
            ends = np.multiply.outer(np.asarray(layer.scale, np.float64).reshape(-1), ends)
        elif layer.passive:
            ends = ends * float(layer.area)
        elif name not in self.added:
            raise ConversionError(f"layer {name!r}: a {type(layer).__name__} does not say how large a charge becomes")
        if not (name in self.added or layer.permutes):
            ends = np.append(ends, 0.0)  # what pads and stands between
        return float(ends.min()), float(ends.max())
