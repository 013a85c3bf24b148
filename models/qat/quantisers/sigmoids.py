"""The differentiable quantisation function: a sum of sigmoids that becomes a staircase as its temperature rises.

Shymyrbay, Fouda & Eltawil (IJCNN 2023, arXiv 2305.19295) after Yang et al. (CVPR 2019). For levels ``q_0 < ... < q_n``
with gaps ``s_i = q_i - q_(i-1)`` and ``o = sum(s) / 2``::

    training    Q(w) = alpha * (sum_i s_i * sigmoid(tau * (beta * w - c_i)) - o)
    inference   Q(w) = alpha * (sum_i s_i * [beta * w - c_i > 0] - o)

alpha and beta are learned, one of each a layer; the c_i are fixed when the widths are set. ``o`` puts the staircase
symmetrically around zero, so the levels have to be symmetric.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ....errors import FormatError
from ....formats.weights import Bipolar, Levels
from .weights import LEAST_SCALE, WeightQuantiser

__all__ = ["LEVEL_SETS", "SigmoidWeight", "centres", "temperature"]

# name -> levels; the first four are those of the publication
LEVEL_SETS = {
    "binary": (-1, 1),
    "ternary": (-1, 0, 1),
    "five": (-2, -1, 0, 1, 2),
    "powers": (-4, -2, -1, 0, 1, 2, 4),
    "3-bit": tuple(range(-3, 4)),
    "4-bit": tuple(range(-7, 8)),
}
STEEPEST, WARMING = 2000.0, 20.0
EXPONENT = 10.0  # the authors hold the argument of the sigmoid within this


def temperature(epoch: int) -> float:
    """tau of the 0-based `epoch`: 20, 40, ... up to 2000."""
    return min(WARMING * (epoch + 1), STEEPEST)


class _Sigmoids(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, alpha, beta, offsets, gaps, tau, soft):
        ratio = beta * weight
        value = torch.full_like(weight, -0.5 * float(gaps.sum()))
        slope = torch.zeros_like(weight)
        for offset, gap in zip(offsets, gaps, strict=True):
            argument = ratio - offset
            part = gap * torch.sigmoid((tau * argument).clamp(-EXPONENT, EXPONENT))
            value += part
            back = gap * torch.sigmoid(argument.clamp(-EXPONENT, EXPONENT)) if soft else part
            slope += back * (gap - back) / gap
        ctx.save_for_backward(weight, alpha, beta, value, slope)
        ctx.tau = tau
        return alpha * value

    @staticmethod
    def backward(ctx, grad):
        weight, alpha, beta, value, slope = ctx.saved_tensors
        scaled = grad * slope * (ctx.tau * alpha)
        return (
            scaled * beta,
            (grad * value).sum().reshape(alpha.shape),
            (scaled * weight).sum().reshape(beta.shape),
            None, None, None, None,
        )  # fmt: skip


def centres(values: Tensor, levels: tuple[int, ...], rounds: int = 100) -> Tensor:
    """Sorted centres of `values` in as many clusters as there are levels (one-dimensional k-means from the levels on).

    A cluster that has no values keeps its centre.
    """
    found = torch.tensor(levels, dtype=values.dtype, device=values.device)
    ordered = values.detach().flatten().sort().values
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    for _ in range(rounds):
        edges = torch.searchsorted(ordered, (found[1:] + found[:-1]) / 2)
        edges = torch.cat([edges.new_zeros(1), edges, edges.new_full((1,), len(ordered))])
        count = edges.diff()
        means = (sums[edges[1:]] - sums[edges[:-1]]) / count.clamp(min=1)
        moved = torch.where(count > 0, means, found)
        if torch.equal(moved, found):
            break
        found = moved
    return found


class SigmoidWeight(WeightQuantiser):
    """Weights on the levels of a set, by a sum of sigmoids in training and by steps otherwise.

    Parameters
    ----------
    levels : str or tuple of int
        A name of `LEVEL_SETS`, or whole levels, rising and symmetric around zero.
    soft_backward : bool
        Take the sigmoids of the gradient at temperature 1 (and still multiply by tau), as the parent code does for
        binary weights so that the gradient does not vanish.

    Attributes
    ----------
    tau : float
        Temperature; set it at the start of each epoch (`temperature`).
    """

    offsets: Tensor  # c_i, (n,)

    def __init__(self, levels: str | tuple[int, ...] = "binary", soft_backward: bool = False) -> None:
        super().__init__()
        if isinstance(levels, str):
            if levels not in LEVEL_SETS:
                raise FormatError(f"weights: there is no set of levels {levels!r}; choose one of {list(LEVEL_SETS)}")
            levels = LEVEL_SETS[levels]
        self.table = Levels(tuple(levels)).table  # rising and distinct
        if any(a != -b for a, b in zip(self.table, reversed(self.table), strict=True)):
            raise FormatError(f"weights: the levels {self.table} are not symmetric around zero")
        self.soft_backward = soft_backward
        self.tau = temperature(0)
        self.alpha = nn.Parameter(torch.ones(()))
        self.beta = nn.Parameter(torch.ones(()))
        self.register_buffer("offsets", torch.zeros(len(self.table) - 1))

    def check(self, bits: int | None) -> None:
        if bits is not None and bits != Levels(self.table).bits:
            raise FormatError(
                f"weights: {len(self.table)} levels have codes of {Levels(self.table).bits} bits, not {bits}"
            )

    def initialise(self, weight: Tensor) -> None:
        weight = weight.detach()
        self.beta.fill_(1.25 * self.table[-1] / float(weight.abs().max().clamp(min=LEAST_SCALE)))
        self.alpha.copy_(1 / self.beta)
        found = centres(self.beta * weight, self.table)
        self.offsets.copy_((found[1:] + found[:-1]) / 2)

    def _gaps(self, like: Tensor) -> Tensor:
        return torch.tensor(self.table, dtype=like.dtype, device=like.device).diff()

    def _alpha(self) -> Tensor:
        return self.alpha.clamp(min=LEAST_SCALE)

    def forward(self, weight: Tensor) -> Tensor:
        if self.bits is None:
            return weight
        if not self.training:
            codes, scale, _ = self.codes(weight)
            return codes.to(weight.dtype) * scale[0]
        return _Sigmoids.apply(
            weight, self._alpha(), self.beta, self.offsets, self._gaps(weight), self.tau, self.soft_backward
        )

    def codes(self, weight):
        ratio = self.beta.detach() * weight.detach()
        above = torch.zeros(weight.shape, dtype=torch.long, device=weight.device)
        for offset in self.offsets:
            above += ratio - offset > 0
        codes = torch.tensor(self.table, device=weight.device)[above]
        fmt = Bipolar() if self.table == (-1, 1) else Levels(self.table)
        return codes, self._alpha().detach().expand(weight.shape[0]).clone(), fmt
