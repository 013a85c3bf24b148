"""The two paths of learning behind one set of names, and the bounds by which the compiled one chooses its ways."""

from __future__ import annotations

from typing import Any

import numpy as np

from .constants import LayerConstants

__all__ = ["Compiled", "Plain"]

BOTH = ("traces", "fire", "read", "output_errors", "exponent", "spread", "local_peak", "errors", "update", "largest")


class _Kernels:
    """What both paths have by name; the last five only where a dense layer stores no gradient."""

    traces: Any
    fire: Any
    read: Any
    output_errors: Any
    exponent: Any
    spread: Any
    local_peak: Any
    errors: Any
    update: Any
    largest: Any
    accumulate_bias: Any
    lay_out: Any
    coarse: Any
    dense_peak: Any
    dense_step: Any
    scratch: Any


class Plain(_Kernels):
    """The specification, with the extra arguments of the compiled path left out."""

    def __init__(self) -> None:
        from ..kernels.learning import reference as plain

        self._plain = plain
        for name in (*BOTH, "accumulate_bias"):
            setattr(self, name, getattr(plain, name))

    def aligned(self, array: np.ndarray) -> np.ndarray:
        return array

    def packed(self, constants: LayerConstants) -> np.ndarray:
        return np.zeros(0, np.int16)

    def pack(self, weight, window, packed) -> None:
        pass

    def charge(self, p, weight, packed, constants, out) -> None:
        self._plain.charge(p, weight, constants.window, out)

    def accumulate(self, p, e, constants, part, parts, gradient) -> None:
        if part == 0:
            self._plain.accumulate(p, e, constants.window, gradient)

    def dense_fits(self, constants, p, master) -> bool:
        return False

    def dense_takes(self, shift: int, peak: int, constants) -> bool:
        return False


class Compiled(_Kernels):
    """The compiled kernels, and the bounds that choose among their ways."""

    def __init__(self) -> None:
        from ..kernels.learning import compiled as learn
        from ..kernels.learning import dense as learn_dense
        from ..kernels.learning import sums as learn_connect

        self._connect, self._dense = learn_connect, learn_dense
        for name in BOTH:
            setattr(self, name, getattr(learn, name))
        self.accumulate_bias = learn_connect.accumulate_bias
        for name in ("lay_out", "coarse", "dense_peak", "dense_step", "scratch"):
            setattr(self, name, getattr(learn_dense, name))

    def aligned(self, array: np.ndarray) -> np.ndarray:
        """The same from a cache line on."""
        from ..kernels.toolchain.arrays import zeros

        found = zeros(array.shape, array.dtype)
        found[...] = array
        return found

    def packed(self, constants: LayerConstants) -> np.ndarray:
        return np.zeros(self._connect.packed_shape(constants.window), np.int16)

    def pack(self, weight, window, packed) -> None:
        self._connect.pack(weight, window, packed)

    def charge(self, p, weight, packed, constants, out) -> None:
        narrow = p.dtype == np.int16
        if narrow and constants.sums >= 1 << 31:
            narrow = constants.sums // constants.parameters.p_max * int(self.largest(p)) < 1 << 31
        self._connect.charge(p, weight, packed, constants.window, narrow, out)

    def accumulate(self, p, e, constants, part, parts, gradient) -> None:
        pairs = 0
        if p.dtype == np.int16:
            pairs = ((1 << 31) - 1) // (2 * constants.gradients)
            if pairs < p.shape[0] // 2 + 1:
                most = constants.gradients // constants.parameters.p_max * max(1, int(self.largest(p)))
                pairs = ((1 << 31) - 1) // (2 * most)
        self._connect.accumulate(p, e, constants.window, pairs, part, parts, gradient)

    def dense_fits(self, constants, p, master) -> bool:
        """Whether a gradient need not be stored: one pixel, whole tiles, 16 bits, sums of the batch below 2**30."""
        window = constants.window
        if (
            window.height * window.width > 1
            or window.out_channels % self._dense.WIDTH
            or p.dtype != np.int16
            or master.dtype != np.int16
        ):
            return False
        if len(p) * constants.gradients < 1 << 30:
            return True
        return len(p) * constants.gradients // constants.parameters.p_max * int(self.largest(p)) < 1 << 30

    def dense_takes(self, shift: int, peak: int, constants) -> bool:
        """Whether gradients up to `peak` (-1: of unknown size) can be divided by ``2**shift`` there."""
        return shift >= 0 and bool(self._dense.fits(shift, peak, constants.parameters, constants.window.out_channels))
