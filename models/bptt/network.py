"""A blueprint as a spiking torch module that is trained through time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ConversionError
from ..qat.network import Linear
from ..qat.quantisers.sigmoids import STEEPEST, SigmoidWeight
from ..qat.quantisers.weights import MaxWeight, WeightQuantiser
from ..training import blueprint as parts
from ..training.blueprint import Blueprint
from .neuron import lif
from .recipes import EventRecipe

TAKEN = parts.Conv | parts.Dense | parts.Relu | parts.MaxPool | parts.Flatten | parts.Dropout

__all__ = ["EventNetwork", "StepWeight"]


class StepWeight(SigmoidWeight):
    """The sum of sigmoids, which can also take the steps of inference forward and the sigmoids backward (`hard`)."""

    def __init__(self, levels: str) -> None:
        super().__init__(levels, soft_backward=levels == "binary")
        self.hard = False

    def forward(self, weight: Tensor) -> Tensor:
        soft = super().forward(weight)
        if self.bits is None or not self.training or not self.hard:
            return soft
        codes, scale, _ = self.codes(weight)
        return soft + (codes.to(weight.dtype) * scale[0] - soft.detach())


class EventNetwork(nn.Module):
    """The network of a blueprint with LIF neurons for its ReLUs.

    A max-pool passes on a spike where any neuron of its window fires. The last layer is dense; what it makes of the
    spikes of all steps is summed.

    Parameters
    ----------
    blueprint : Blueprint
        A chain that ends in a dense layer without BatchNorm.
    recipe : EventRecipe
        Neuron and weights.

    Raises
    ------
    ConversionError
        For a layer that has no spiking form here, naming it.
    """

    def __init__(self, blueprint: Blueprint, recipe: EventRecipe) -> None:
        super().__init__()
        self.blueprint, self.recipe = blueprint, recipe
        self.decay = recipe.decay[0] / (1 << recipe.decay[1])
        self.modules_by_name = nn.ModuleDict()
        previous = "input"
        for layer in blueprint.layers:
            if layer.inputs != (previous,) or not isinstance(layer, TAKEN):
                raise ConversionError(
                    f"layer {layer.name!r}: an event network is a chain of convolutions, dense layers, neurons and "
                    "max-pools"
                )
            previous = layer.name
        last = blueprint.layers[-1]
        if not isinstance(last, parts.Dense) or last.norm:
            raise ConversionError(f"layer {last.name!r}: an event network ends in a dense layer without BatchNorm")
        ends = {blueprint.weighted[0].name: recipe.first, last.name: recipe.last}
        for layer in blueprint.weighted:
            inputs = blueprint.shapes[layer.inputs[0]][0]
            self.modules_by_name[layer.name] = Linear(layer, inputs, self._quantiser(ends.get(layer.name, "same")))

    def _quantiser(self, policy: str) -> WeightQuantiser:
        if policy == "8-bit":
            return MaxWeight()
        if policy == "float" or self.recipe.weight == "float":
            return StepWeight("binary")  # never gets bits
        return StepWeight(self.recipe.weight)

    @property
    def linear(self) -> dict[str, Linear]:
        """Layers with weights by name."""
        return {name: m for name, m in self.modules_by_name.items() if isinstance(m, Linear)}

    def quantise(self) -> None:
        """From float weights to those of the recipe."""
        weighted = list(self.linear)
        for name, module in self.linear.items():
            policy = {weighted[0]: self.recipe.first, weighted[-1]: self.recipe.last}.get(name, "same")
            if self.recipe.weight == "float" or policy == "float":
                continue
            module.quantiser.set_bits(8 if policy == "8-bit" else self._bits(module.quantiser), module.weight)

    @staticmethod
    def _bits(quantiser: WeightQuantiser) -> int:
        from ...formats.weights import Levels

        return Levels(cast(StepWeight, quantiser).table).bits

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Temperature and form of the quantisers in the 0-based `epoch` of the quantised stage."""
        for module in self.linear.values():
            if isinstance(module.quantiser, StepWeight):
                module.quantiser.tau = min(self.recipe.warming * (epoch + 1), STEEPEST)
                module.quantiser.hard = epoch >= epochs - self.recipe.hard_epochs

    def forward(self, frames: Tensor, record: Iterable[str] = ()) -> Tensor | dict[str, Tensor]:
        """The output for frames ``(T, B, C, H, W)``, mean over the steps; or the spikes ``(T, B, ...)`` of layers."""
        wanted, kept = set(record), {}
        steps, samples = frames.shape[:2]
        x = frames.flatten(0, 1)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        for layer in self.blueprint.layers:
            if layer is self.blueprint.layers[-1]:
                counts = x.reshape(steps, samples, -1).sum(0)
                module = self.linear[layer.name]
                x = F.linear(counts, module.quantiser(module.weight)) / steps + cast(Tensor, module.bias)
            elif isinstance(layer, parts.Conv | parts.Dense):
                x = self.modules_by_name[layer.name](x)
            elif isinstance(layer, parts.Relu):
                parted = x.unflatten(0, (steps, samples))
                x = lif(parted, self.decay, self.recipe.reset, self.recipe.surrogate).flatten(0, 1)
            elif isinstance(layer, parts.MaxPool):
                x = F.max_pool2d(x, layer.kernel, layer.stride, layer.padding)
            elif isinstance(layer, parts.Flatten):
                x = x.flatten(1)
            elif isinstance(layer, parts.Dropout):
                if self.training and self.recipe.dropout > 0:
                    mask = torch.empty((1, samples, *x.shape[1:])).bernoulli_(1 - self.recipe.dropout).to(x)
                    x = (x.unflatten(0, (steps, samples)) * (mask / (1 - self.recipe.dropout))).flatten(0, 1)
            else:
                raise ConversionError(f"layer {layer.name!r}: a {type(layer).__name__} has no spiking form here")
            if layer.name in wanted:
                kept[layer.name] = x.unflatten(0, (steps, samples)) if layer is not self.blueprint.layers[-1] else x
        return kept if wanted else x

    @property
    def spiking(self) -> tuple[str, ...]:
        """Names of the layers that send spikes."""
        return tuple(layer.name for layer in self.blueprint.layers if isinstance(layer, parts.Relu | parts.MaxPool))
