"""Half-up rounding with the gradient of the identity, as every quantiser here uses it.

`torch.round` goes to the even neighbour; the membranes of intsnn start at ``theta >> 1`` and round half up.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["half_up", "straight_half_up"]


def half_up(x: Tensor) -> Tensor:
    """``floor(x + 1/2)``."""
    return torch.floor(x + 0.5)


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return half_up(x)

    @staticmethod
    def backward(ctx, grad):
        return grad


def straight_half_up(x: Tensor) -> Tensor:
    """``floor(x + 1/2)``, whose gradient is taken to be 1."""
    return _Straight.apply(x)
