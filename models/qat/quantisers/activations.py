"""Activation quantisers that are trained: the step of LSQ, the clip of Fast-SNN.

Both give ``step * n`` with whole ``n = clip(floor(x / step + 1/2), 0, L)``, which is what a settled neuron counts. They
differ in what is learned and in its gradient. With no bits they are a plain ReLU.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ....errors import FormatError
from .rounding import half_up

__all__ = ["ACTIVATIONS", "Activation", "ClipReLU", "LsqReLU"]

LEAST_STEP = 1e-6  # a step that training pushed to zero or below is held here


class _Lsq(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, step, levels, elements):
        ratio = x / step
        clipped = ratio.clamp(0, levels)
        rounded = half_up(clipped)
        inside = (ratio > 0) & (ratio < levels)
        ctx.save_for_backward(inside, rounded - clipped * inside)
        ctx.factor = 1.0 / math.sqrt(max(1, x.shape[0] if elements == "batch" else x.numel()) * levels)
        return rounded * step

    @staticmethod
    def backward(ctx, grad):
        inside, slope = ctx.saved_tensors
        return grad * inside, ((grad * slope).sum() * ctx.factor).reshape(()), None, None


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, clip, levels):
        step = clip / levels
        value = half_up((x / step).clamp(0, levels)) * step
        above = x > clip
        ctx.save_for_backward((x > 0) & ~above, torch.where(above, 1.0, (value - x.clamp(min=0)) / clip))
        return value

    @staticmethod
    def backward(ctx, grad):
        inside, slope = ctx.saved_tensors
        return grad * inside, (grad * slope).sum().reshape(()), None


class Activation(nn.Module, ABC):
    """A ReLU with `levels` steps above zero, or without any (`bits` None).

    Attributes
    ----------
    bits : int or None
        L = 2**bits - 1.
    """

    scale: nn.Parameter  # what is learned: () float

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.bits: int | None = None
        self.scale = nn.Parameter(torch.tensor(float(initial)))

    @property
    def levels(self) -> int:
        """L; an error while there are no bits."""
        if self.bits is None:
            raise FormatError("activation: it is not quantised yet; set its bits first")
        return (1 << self.bits) - 1

    @property
    @abstractmethod
    def step(self) -> Tensor:
        """Value of one level, positive."""

    def set_bits(self, bits: int | None) -> None:
        """Change the number of levels; the range that is covered stays."""
        if bits is not None and not 1 <= bits <= 8:
            raise FormatError(f"activation: found {bits} bits; 1 to 8 are possible")
        self.bits = bits

    @abstractmethod
    def initialise(self, x: Tensor) -> None:
        """Choose the scale from a batch of inputs `x`."""


class LsqReLU(Activation):
    """Learned step size (Esser et al. 2020, as QFFS uses it, Li et al. 2022).

    The step has the gradient ``sum(g * (round(c) - c * inside)) / sqrt(N * L)``, c the clipped ratio.

    Parameters
    ----------
    initial : float
        Step before any data are seen.
    elements : {"batch", "all"}
        N: the length of the first axis (QFFS), or all elements (LSQ).
    """

    def __init__(self, initial: float = 0.4, elements: str = "batch") -> None:
        super().__init__(initial)
        if elements not in ("batch", "all"):
            raise FormatError(f"activation: found elements={elements!r}; choose batch or all")
        self.elements = elements

    @property
    def step(self) -> Tensor:
        return self.scale.clamp(min=LEAST_STEP)

    def set_bits(self, bits: int | None) -> None:
        before = None if self.bits is None else self.levels
        super().set_bits(bits)
        if before is not None and bits is not None:
            with torch.no_grad():
                self.scale.mul_(before / self.levels)

    def initialise(self, x: Tensor) -> None:
        with torch.no_grad():
            self.scale.copy_(least_error_clip(x, self.levels) / self.levels)

    def forward(self, x: Tensor) -> Tensor:
        if self.bits is None:
            return torch.relu(x)
        return _Lsq.apply(x, self.step, self.levels, self.elements)


class ClipReLU(Activation):
    """Learned clip (Hu et al. 2023, Fast-SNN): ``(s / L) * clip(floor(L x / s + 1/2), 0, L)``.

    The clip s has the gradient ``sum(g * ([x > s] + (Q - x) / s * [x <= s]))`` of the rectified x.

    Parameters
    ----------
    initial : float
        Clip s at the start; the authors' code has 8.0 and 6.0.
    """

    def __init__(self, initial: float = 8.0) -> None:
        super().__init__(initial)

    @property
    def clip(self) -> Tensor:
        """s, positive."""
        return self.scale.clamp(min=LEAST_STEP)

    @property
    def step(self) -> Tensor:
        return self.clip / self.levels

    def initialise(self, x: Tensor) -> None:
        with torch.no_grad():
            self.scale.copy_(least_error_clip(x, self.levels))

    def forward(self, x: Tensor) -> Tensor:
        if self.bits is None:
            return torch.relu(x)
        return _Clip.apply(x, self.clip, self.levels)


def least_error_clip(x: Tensor, levels: int) -> Tensor:
    """Clip of least square error for `levels` steps on the rectified values of `x`; 1 if there are none above zero."""
    positive = x.detach()[x.detach() > 0].flatten()
    if not positive.numel():
        return torch.ones((), dtype=x.dtype)
    if positive.numel() > 1 << 18:  # evenly spaced, the same on every machine
        positive = positive[:: positive.numel() >> 18]
    best, found = math.inf, positive.max()
    for candidate in positive.max() * torch.linspace(0.05, 1.0, 96, dtype=x.dtype, device=x.device):
        step = candidate / levels
        error = float((half_up((positive / step).clamp(max=levels)) * step - positive).square().sum())
        if error < best:
            best, found = error, candidate
    return found


ACTIVATIONS = {"lsq": LsqReLU, "clip": ClipReLU}
