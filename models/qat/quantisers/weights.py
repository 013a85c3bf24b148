"""Weight quantisers that are trained: whole-number codes with a scale, and a gradient for both.

A quantiser has two faces that must agree: `forward` gives the real weights that training computes with, `codes` the
integers, their scale and their format for the file. ``forward(w) == codes * scale``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from ....errors import FormatError
from ....formats.fixed import Fixed
from ....formats.weights import Bipolar, Levels, apot
from .rounding import half_up

__all__ = ["WEIGHTS", "ApotWeight", "MaxWeight", "SymmetricWeight", "WeightQuantiser", "nearest_level"]

LEAST_SCALE = 1e-8


class WeightQuantiser(nn.Module, ABC):
    """Weights of one layer to integers and back; without `bits` they pass as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.bits: int | None = None

    def set_bits(self, bits: int | None, weight: Tensor) -> None:
        """Change the width; scales are chosen anew from `weight` ``(O, ...)``."""
        self.check(bits)
        self.bits = bits
        if bits is not None:
            with torch.no_grad():
                self.initialise(weight)

    def check(self, bits: int | None) -> None:
        """FormatError for a width that this quantiser does not have."""
        if bits is not None and not 2 <= bits <= 8:
            raise FormatError(f"weights: found {bits} bits; 2 to 8 are possible")

    def initialise(self, weight: Tensor) -> None:
        """Choose scales from `weight`, for the bits that are set."""

    @abstractmethod
    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor, Fixed | Bipolar | Levels]:
        """Integers ``(O, ...)`` int64, scale ``(O,)`` float and the format of the integers."""

    def latent(self, weight: Tensor) -> Tensor:
        """The weights before rounding, as the quantiser sees them."""
        return weight


# -- symmetric codes, learned scale ------------------------------------------------------------------------------------


class _Symmetric(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, scale, top, scales):
        shape = (-1, *(1,) * (weight.ndim - 1))
        ratio = weight / scale.reshape(shape)
        clipped = ratio.clamp(-top, top)
        rounded = half_up(clipped)
        inside = ratio.abs() < top
        ctx.save_for_backward(inside, rounded - clipped * inside)
        ctx.factor = 1.0 / math.sqrt(weight.numel() / scales * top)
        return rounded * scale.reshape(shape)

    @staticmethod
    def backward(ctx, grad):
        inside, slope = ctx.saved_tensors
        scale = (grad * slope).flatten(1).sum(1) * ctx.factor
        return grad * inside, scale, None, None


class SymmetricWeight(WeightQuantiser):
    """Codes ``-(2**(b-1) - 1) .. 2**(b-1) - 1`` with a learned scale (LSQ for weights, Esser et al. 2020).

    Parameters
    ----------
    outputs : int
        Output channels.
    per_channel : bool
        A scale for each of them, or one for all.
    """

    def __init__(self, outputs: int, per_channel: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(outputs if per_channel else 1))
        self.outputs = outputs

    @property
    def top(self) -> int:
        """Largest code."""
        return (1 << ((self.bits or 8) - 1)) - 1

    def initialise(self, weight: Tensor) -> None:
        rows = weight.detach().reshape(self.scale.numel(), -1)
        self.scale.copy_(least_error_scale(rows, self.top))

    def _scale(self) -> Tensor:
        return self.scale.clamp(min=LEAST_SCALE).expand(self.outputs)

    def forward(self, weight: Tensor) -> Tensor:
        if self.bits is None:
            return weight
        return _Symmetric.apply(weight, self._scale(), self.top, self.scale.numel())

    def codes(self, weight):
        scale = self._scale().detach()
        ratio = weight.detach() / scale.reshape(-1, *(1,) * (weight.ndim - 1))
        return half_up(ratio.clamp(-self.top, self.top)).long(), scale, Fixed(self.bits or 8, narrow=True)


def least_error_scale(rows: Tensor, top: int) -> Tensor:
    """Scale of least square error for codes ``-top .. top``, one for each of the `rows` ``(R, N)``."""
    largest = rows.abs().amax(1)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest)) / top
    best, found = torch.full_like(largest, math.inf), largest.clone()
    for factor in torch.linspace(0.3, 1.0, 36, dtype=rows.dtype, device=rows.device):
        trial = (largest * factor)[:, None]
        error = (half_up((rows / trial).clamp(-top, top)) * trial - rows).square().sum(1)
        better = error < best
        best, found = torch.where(better, error, best), torch.where(better, trial[:, 0], found)
    return found


# -- additive powers of two --------------------------------------------------------------------------------------------


def nearest_level(x: Tensor, table: Tensor) -> Tensor:
    """Index of the entry of `table` (rising) that is nearest to each of `x`; of two, the larger."""
    return torch.bucketize(x, (table[1:] + table[:-1]) / 2, right=True)


class _Apot(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, alpha, table):
        ratio = weight / alpha
        value = table[nearest_level(ratio.clamp(-1, 1), table)]
        ctx.save_for_backward(ratio.sign() * (ratio.abs() > 1) + (value - ratio) * (ratio.abs() <= 1))
        return value

    @staticmethod
    def backward(ctx, grad):
        (slope,) = ctx.saved_tensors
        return grad, (grad * slope).sum().reshape(()), None  # the gradient of the weights is not clipped


class ApotWeight(WeightQuantiser):
    """Additive powers of two (Li et al. 2020) as Fast-SNN trains them (Hu et al. 2023).

    The weights of a layer, less their mean and over their standard deviation, are divided by a learned alpha, clipped
    to [-1, 1] and moved to the nearest level ``table / max(table)``. What comes out is not scaled back: a BatchNorm
    follows. alpha has the gradient ``sum(g * (sign(w) [|w| > 1] + (q - w) [|w| <= 1]))``.

    Parameters
    ----------
    initial : float
        alpha at the start; the authors' code has 3.0.
    """

    def __init__(self, initial: float = 3.0) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(float(initial)))

    def check(self, bits: int | None) -> None:
        if bits is not None:
            apot(bits)

    def _table(self, like: Tensor) -> Tensor:
        integers = torch.tensor(apot(cast(int, self.bits)).table, dtype=like.dtype, device=like.device)
        return integers / integers.max()

    def latent(self, weight: Tensor) -> Tensor:
        return (weight - weight.mean()) / weight.std().clamp(min=LEAST_SCALE)

    def forward(self, weight: Tensor) -> Tensor:
        if self.bits is None:
            return weight
        return _Apot.apply(self.latent(weight), self.alpha.clamp(min=LEAST_SCALE), self._table(weight))

    def codes(self, weight):
        fmt = apot(cast(int, self.bits))  # float weights have no codes
        ratio = (self.latent(weight.detach()) / self.alpha.detach().clamp(min=LEAST_SCALE)).clamp(-1, 1)
        integers = torch.tensor(fmt.table, device=weight.device)
        found = integers[nearest_level(ratio, self._table(weight))]
        return found, torch.full((weight.shape[0],), 1.0 / fmt.max, dtype=weight.dtype), fmt


# -- the first and the last layer --------------------------------------------------------------------------------------


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, scale, top):
        return half_up(weight / scale).clamp(-top, top) * scale

    @staticmethod
    def backward(ctx, grad):
        return grad, None, None


class MaxWeight(WeightQuantiser):
    """Codes of 8 bits (or others) with the scale ``max|w| / top`` and a straight-through gradient.

    Fast-SNN's code takes the maximum without the absolute value and does not clip, so that its codes can leave the
    format; here both are as the format needs them.
    """

    @property
    def top(self) -> int:
        """Largest code."""
        return (1 << ((self.bits or 8) - 1)) - 1

    def _scale(self, weight: Tensor) -> Tensor:
        return (weight.detach().abs().max() / self.top).clamp(min=LEAST_SCALE)

    def forward(self, weight: Tensor) -> Tensor:
        if self.bits is None:
            return weight
        return _Straight.apply(weight, self._scale(weight), self.top)

    def codes(self, weight):
        weight = weight.detach()
        scale = self._scale(weight)
        codes = half_up(weight / scale).clamp(-self.top, self.top).long()
        return codes, scale.expand(weight.shape[0]).clone(), Fixed(self.bits or 8, narrow=True)


WEIGHTS = ("symmetric", "apot", "max")
