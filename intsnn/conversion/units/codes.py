"""What can be done to codes of weights: which formats have a zero, and shorter ones where a unit has to be coarser."""

from __future__ import annotations

import numpy as np

from ...formats.fixed import Fixed
from ...formats.weights import Bipolar, Levels

__all__ = ["holds_zero", "shorter_codes"]


def holds_zero(fmt: Fixed | Bipolar | Levels) -> bool:
    """Whether weights of this format can be zero."""
    return 0 in fmt.table if isinstance(fmt, Levels) else isinstance(fmt, Fixed)


def shorter_codes(codes: np.ndarray, bits: np.ndarray, one: bool) -> tuple[np.ndarray, np.ndarray]:
    """Codes of output channels, shorter by `bits` (C,), and by what their units grow (C,).

    The largest code of each channel, or of all where they share `one` unit, stays exact.
    """
    most = np.abs(codes.reshape(len(bits), -1)).max(axis=1).astype(np.float64)
    most = np.full(len(bits), most.max()) if one else most
    kept = np.floor(most / 2.0**bits + 0.5)
    factor = np.where((bits > 0) & (kept > 0), most / np.maximum(kept, 1), 2.0**bits)
    return np.floor(codes / factor.reshape(-1, *(1,) * (codes.ndim - 1)) + 0.5), factor
