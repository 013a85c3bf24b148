"""Which arrays does a learning step work in, and which batches do not fit them?"""

from __future__ import annotations

import numpy as np

from ..errors import RangeError
from ..formats.integers import smallest_dtype
from .constants import LayerConstants

__all__ = ["Buffers", "at_least", "check_sums"]


def at_least(kind, largest: int) -> np.dtype:
    """`kind`, or a wider type that holds +-`largest`."""
    found = smallest_dtype(-largest, largest)
    return found if found.itemsize > np.dtype(kind).itemsize else np.dtype(kind)


class Buffers:
    """Scratch arrays of one layer and batch size."""

    def __init__(self, constants: LayerConstants, samples: int, classes: int, object_arrays: bool) -> None:
        c = constants.parameters
        neurons, outputs = constants.neurons, constants.outputs
        most_v = classes * c.error_max * int(np.abs(constants.feedback.astype(np.int64)).max(initial=1))

        def zeros(shape, largest):
            return np.zeros(shape, object if object_arrays else at_least(np.int32, largest))

        self.charges = zeros((samples, neurons), constants.sums)
        self.u = np.zeros((samples, neurons), at_least(np.int16, c.u_max))
        self.choice = np.zeros((samples, outputs), np.uint8)
        self.spikes = np.zeros((samples, outputs), np.uint8)
        self.y = np.zeros((samples, classes), np.int64)
        self.delta = np.zeros((samples, classes), np.int64)
        self.predicted = np.full(samples, -1, np.int64)
        self.v = zeros((samples, outputs), most_v)
        self.e = np.zeros((samples, neurons), smallest_dtype(-c.error_max, c.error_max))
        self.bias_gradient = np.zeros(constants.window.out_channels, np.int64)
        self.gradient: np.ndarray | None = None
        self.tiles: tuple | None = None
        self._shape, self._zeros = (samples, constants), zeros

    def gradients(self) -> np.ndarray:
        """Zeros for the gradient of the weights; made when first needed."""
        samples, constants = self._shape
        if self.gradient is None:
            window = constants.window
            shape = (window.kernel_height, window.kernel_width, window.channels, window.out_channels)
            self.gradient = self._zeros(shape, samples * constants.gradients)
        self.gradient[:] = 0
        return self.gradient

    def dense(self, kernels) -> tuple[np.ndarray, ...]:
        """Inputs and errors of a dense layer as its kernels read them; made when first needed."""
        if self.tiles is None:
            samples, constants = self._shape
            self.tiles = kernels.scratch(samples, constants.inputs, constants.neurons)
        return self.tiles


def check_sums(index: int, constants: LayerConstants, samples: int, classes: int) -> None:
    """Refuse a batch whose sums could leave 63 bits, before anything of it is worked on."""
    c = constants.parameters
    sums = {
        "gradients": constants.gradients,
        "membranes": constants.neurons * c.u_max,
        "activities": constants.outputs * int(constants.table.max()),
        "errors": classes * (2 * c.activation_max + 2) ** 2,
    }
    for name, most in sums.items():
        if samples * most >= 1 << 62:
            raise RangeError(
                f"layer {index}: the {name} of {samples:,} samples sum up to {samples * most}, which leaves 63 bits; "
                f"take at most {((1 << 62) - 1) // most:,} samples at a time, or narrower widths"
            )
