"""Codes and scales of single weights, and the layers that hold them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import FormatError
from ..formats.arguments import array_of, flag, shown, whole
from ..formats.fixed import Fixed
from ..formats.weights import Bipolar
from ..network.quantised import with_codes

__all__ = ["Width", "quantise_weights", "quantised_node", "weight_format"]

TINY = 1e-150  # no weight is smaller


def weight_format(bits: int) -> Fixed | Bipolar:
    """Format of `bits`-wide weights: bipolar for 1 bit, else symmetric two's complement."""
    bits = whole(bits, "weights: bits", 1, 8)
    return Bipolar() if bits == 1 else Fixed(bits, narrow=True)


def quantise_weights(weight: np.ndarray, bits: int, per_channel: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of least square error.

    Parameters
    ----------
    weight : (O, ...) float
    bits : 1 to 8
        1: ``codes`` are -1 and +1, the scale is the mean absolute weight.
    per_channel : bool
        One scale per output channel, or one for all.

    Returns
    -------
    codes : int64 array of the shape of `weight`
    scale : (O,) float64, positive
    """
    bits, per_channel = whole(bits, "weights: bits", 1, 8), flag(per_channel, "per_channel")
    weight = array_of(weight, "weight")
    if weight.ndim < 1 or not weight.size or weight.dtype.kind not in "fiu" or not np.isfinite(weight).all():
        raise FormatError(f"weight: found {shown(weight)}; finite numbers (O, ...) are needed")
    outputs = weight.shape[0]
    rows = weight.astype(np.float64).reshape(outputs if per_channel else 1, -1)
    rows = np.where(np.abs(rows) < TINY, 0.0, rows)  # their squares would vanish
    largest = np.abs(rows).max(axis=1)
    fallback = largest.max() if largest.max() > 0 else 1.0
    if bits == 1:
        codes = np.where(rows >= 0, 1, -1)
        scale = np.abs(rows).mean(axis=1)
        scale[scale == 0] = fallback * 2.0**-20  # an all-zero channel still has to be +-1: make it negligible
    else:
        top = (1 << (bits - 1)) - 1
        top_scale = np.where(largest > 0, largest, fallback) / top
        best = np.full(rows.shape[0], np.inf)
        scale = top_scale.copy()
        for factor in np.linspace(0.3, 1.0, 71):
            trial = top_scale * factor
            rounded = np.clip(np.floor(rows / trial[:, None] + 0.5), -top, top) * trial[:, None]
            error = np.square(rounded - rows).sum(axis=1)
            better = error < best
            best[better], scale[better] = error[better], trial[better]
        codes = np.clip(np.floor(rows / scale[:, None] + 0.5), -top, top)
    if not per_channel:
        scale = np.repeat(scale, outputs)
    return codes.astype(np.int64).reshape(weight.shape), scale


def quantised_node(node, codes: np.ndarray, scale: np.ndarray, bits: int):
    """The convolution or dense layer `node` with `codes` and `scale` in place of its weight."""
    return with_codes(node, codes, scale, weight_format(bits))


@dataclass(frozen=True)
class Width:
    """Bits of the weights of a layer, and whether each output channel has a scale of its own."""

    bits: int
    per_channel: bool
