"""Quantisers of Brevitas, the off-the-shelf toolkit: what they train is exported as it is.

They round half to even; the one thing that is changed here is that they round half up. Scales are powers of two
(``"power-of-two"``) or free; those of the activations are learned from the 99.999th percentile of the first batch on.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ....errors import FormatError
from ....formats.fixed import Fixed
from .activations import Activation
from .rounding import straight_half_up
from .weights import WeightQuantiser

__all__ = ["SCALES", "ToolkitReLU", "ToolkitWeight"]

SCALES = ("power-of-two", "free")


class _HalfUp(nn.Module):
    """What Brevitas calls float to int."""

    def __init__(self) -> None:  # it asks for the arguments
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return straight_half_up(x)


def _check(scales: str) -> None:
    if scales not in SCALES:
        raise FormatError(f"scales: found {scales!r}; choose one of {', '.join(SCALES)}")


class ToolkitWeight(WeightQuantiser):
    """Symmetric weights of one layer, the scale from the largest weight (rounded up to a power of two, or free).

    Parameters
    ----------
    scales : {"power-of-two", "free"}
    """

    def __init__(self, scales: str = "power-of-two") -> None:
        super().__init__()
        _check(scales)
        self.scales = scales
        self.core: Any = None  # a layer of the toolkit

    def initialise(self, weight: Tensor) -> None:
        """Make the toolkit's layer around the very parameter, whose scale it follows."""
        import brevitas.nn as toolkit
        from brevitas.quant import Int8WeightPerTensorFixedPoint, Int8WeightPerTensorFloat

        base: Any = Int8WeightPerTensorFixedPoint if self.scales == "power-of-two" else Int8WeightPerTensorFloat

        class Quantiser(base):
            float_to_int_impl = _HalfUp

        if not isinstance(weight, nn.Parameter):
            weight = nn.Parameter(weight)
        layer = toolkit.QuantLinear(1, 1, bias=False, weight_quant=Quantiser, weight_bit_width=self.bits)
        layer.weight = weight  # the proxy is made anew, and with it the scale
        self.core = layer.to(weight.device, weight.dtype)
        self.core.train(self.training)

    def _quantised(self, weight: Tensor) -> Any:
        if self.core is None or self.core.weight is not weight:
            raise FormatError("weights: a toolkit quantiser belongs to the parameter whose bits were set")
        return self.core.quant_weight()

    def forward(self, weight: Tensor) -> Tensor:
        return weight if self.bits is None else self._quantised(weight).value

    def codes(self, weight):
        found = self._quantised(weight)
        codes = found.int().long().detach()
        scale = found.scale.detach().reshape(1).expand(weight.shape[0]).clone()
        return codes, scale, Fixed(cast(int, self.bits), narrow=True)


class ToolkitReLU(Activation):
    """The toolkit's quantised ReLU: unsigned levels, one learned scale.

    Parameters
    ----------
    scales : {"power-of-two", "free"}
    """

    def __init__(self, scales: str = "power-of-two") -> None:
        nn.Module.__init__(self)  # the scale is the toolkit's
        _check(scales)
        self.scales = scales
        self.bits = None
        self.core: Any = None
        self.core_bits: int | None = None
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)  # says on which device it is

    def set_bits(self, bits: int | None) -> None:
        super().set_bits(bits)
        if bits is None or (self.core is not None and self.core_bits == bits):
            return
        import brevitas.nn as toolkit
        from brevitas.quant import Uint8ActPerTensorFixedPoint, Uint8ActPerTensorFloat

        base: Any = Uint8ActPerTensorFixedPoint if self.scales == "power-of-two" else Uint8ActPerTensorFloat

        class Quantiser(base):
            float_to_int_impl = _HalfUp
            collect_stats_steps = 1  # a checkpoint does not hold statistics that are half collected

        self.core = toolkit.QuantReLU(act_quant=Quantiser, bit_width=bits).to(self.place.device, self.place.dtype)
        self.core.train(self.training)
        self.core_bits = bits

    @property
    def step(self) -> Tensor:
        return self.core.act_quant.scale()

    def initialise(self, x: Tensor) -> None:
        """Nothing: the toolkit looks at the first batch itself."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) if self.bits is None else self.core(x)
