"""Leaky integrate-and-fire neurons over all steps at once, with a surrogate for the gradient of the spike."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["lif"]


class _Lif(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, decay, to_zero, sharpness):
        potential, spikes = torch.empty_like(x), torch.empty_like(x)
        kept = torch.zeros_like(x[0])
        for t in range(len(x)):
            torch.add(x[t], kept, alpha=decay, out=potential[t])
            torch.ge(potential[t], 1.0, out=spikes[t])
            if to_zero:
                torch.addcmul(potential[t], potential[t], spikes[t], value=-1.0, out=kept)
            else:
                torch.sub(potential[t], spikes[t], out=kept)
        ctx.save_for_backward(potential, spikes)
        ctx.settings = decay, to_zero, sharpness
        return spikes

    @staticmethod
    def backward(ctx, grad):
        potential, spikes = ctx.saved_tensors
        decay, to_zero, sharpness = ctx.settings
        # derivative of atan(pi/2 * sharpness * (v - 1)) / pi
        slope = (potential - 1.0).mul_(math.pi / 2 * sharpness).square_().add_(1.0).reciprocal_().mul_(sharpness / 2)
        found = slope.mul_(grad)
        for t in range(len(found) - 2, -1, -1):  # the reset itself passes no gradient
            later = found[t + 1]
            if to_zero:
                later = torch.addcmul(later, later, spikes[t], value=-1.0)
            found[t].add_(later, alpha=decay)
        return found, None, None, None


def lif(x: Tensor, decay: float, reset: str = "zero", sharpness: float = 2.0) -> Tensor:
    """Spikes of neurons with threshold 1: ``v = decay * v + x; spike = v >= 1``, then the reset.

    Parameters
    ----------
    x : (T, ...) Tensor
        Input of every step.
    decay : float
    reset : {"zero", "subtract"}
        The membrane after a spike: 0, or less 1.
    sharpness : float
        Of the surrogate, the derivative of ``atan(pi/2 * sharpness * (v - 1)) / pi`` (Fang et al. 2021). The reset
        passes no gradient.

    Returns
    -------
    (T, ...) Tensor of 0 and 1
    """
    return _Lif.apply(x, float(decay), reset == "zero", float(sharpness))
