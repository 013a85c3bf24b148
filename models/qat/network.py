"""A blueprint as a torch module whose weights and activations are quantised while it learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UnsupportedError
from ..training import blueprint as parts
from ..training.blueprint import Blueprint
from .quantisers.activations import Activation
from .quantisers.weights import WeightQuantiser

__all__ = ["Linear", "QuantNetwork"]


Weighted = parts.Conv | parts.ConvTranspose | parts.Dense
Norm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d


def statistics(norm: Norm) -> tuple[Tensor, Tensor]:
    """Running mean and variance ``(O,)`` of a BatchNorm. Ours keep both; torch's annotation says that some do not."""
    return cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)


def _unknown(layer: parts.Layer) -> UnsupportedError:
    return UnsupportedError(f"layer {layer.name!r}: a {type(layer).__name__} cannot be trained here")


class Linear(nn.Module):
    """A convolution (transposed or not) or dense layer, its quantiser, and the BatchNorm behind it if there is one."""

    def __init__(self, layer: Weighted, inputs: int, quantiser: WeightQuantiser) -> None:
        super().__init__()
        self.layer, self.quantiser = layer, quantiser
        self.weight = nn.Parameter(torch.empty(layer.weight_shape(inputs)))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.bias = None if layer.norm else nn.Parameter(torch.zeros(layer.outputs))
        norm = nn.BatchNorm1d if self.weight.ndim == 2 else nn.BatchNorm2d
        self.norm = norm(layer.outputs) if layer.norm else None

    def merge(self) -> None:
        """Fold the BatchNorm into weights and bias, by its running statistics; the function in evaluation stays."""
        if self.norm is None:
            return
        with torch.no_grad():
            mean, variance = statistics(self.norm)
            factor = self.norm.weight / torch.sqrt(variance + self.norm.eps)
            self.weight.mul_(factor.reshape(-1, *(1,) * (self.weight.ndim - 1)))
            self.bias = nn.Parameter(self.norm.bias - factor * mean)
        self.norm = None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.quantiser(self.weight)
        if isinstance(self.layer, parts.Conv):
            layer = self.layer
            y = F.conv2d(x, weight, self.bias, layer.stride, layer.padding, 1, layer.groups)
        elif isinstance(self.layer, parts.ConvTranspose):
            y = F.conv_transpose2d(x, weight.transpose(0, 1), self.bias, self.layer.stride, self.layer.padding)
        elif isinstance(self.layer, parts.Dense):
            y = F.linear(x, weight, self.bias)
        else:
            raise UnsupportedError(
                f"layer {self.layer.name!r}: a {type(self.layer).__name__} has no form in torch here"
            )
        return y if self.norm is None else self.norm(y)


class QuantNetwork(nn.Module):
    """The network of a blueprint.

    Parameters
    ----------
    blueprint : Blueprint
    activation : function
        Makes an `Activation`.
    weight : function
        Makes the `WeightQuantiser` of a layer, given the layer.
    ends : function, optional
        Makes those of the first and the last layer with weights, if they are others.

    Notes
    -----
    ``bits_of(activations, weights, ends)`` have to be set before the network is quantised; until then it is a float
    network with plain ReLUs.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        activation: Callable[[], Activation],
        weight: Callable[[Weighted], WeightQuantiser],
        ends: Callable[[Weighted], WeightQuantiser] | None = None,
    ) -> None:
        super().__init__()
        self.blueprint = blueprint
        self.modules_by_name = nn.ModuleDict()
        self.ends = {blueprint.weighted[0].name, blueprint.weighted[-1].name}
        self.late = {
            layer.name
            for layer in blueprint.layers
            if isinstance(layer, parts.Relu) and [type(r) for r in blueprint.readers(layer.name)] == [parts.MaxPool]
        }
        for layer in blueprint.layers:
            if layer.weighted:
                make = ends if ends is not None and layer.name in self.ends else weight
                inputs = blueprint.shapes[layer.inputs[0]][0]
                part = cast(Weighted, layer)
                self.modules_by_name[layer.name] = Linear(part, inputs, make(part))
            elif isinstance(layer, parts.Relu):
                self.modules_by_name[layer.name] = activation()
            elif isinstance(layer, parts.Dropout):
                self.modules_by_name[layer.name] = nn.Dropout(layer.rate)
            elif layer.passive or layer.joins:
                continue
            else:
                raise _unknown(layer)

    def __getitem__(self, name: str) -> nn.Module:
        return self.modules_by_name[name]

    @property
    def linear(self) -> dict[str, Linear]:
        """Layers with weights by name."""
        return {name: m for name, m in self.modules_by_name.items() if isinstance(m, Linear)}

    @property
    def activations(self) -> dict[str, Activation]:
        """Activations by name."""
        return {name: m for name, m in self.modules_by_name.items() if isinstance(m, Activation)}

    def merge(self) -> None:
        """Fold every BatchNorm into the weights before it: what follows is trained without."""
        for module in self.linear.values():
            module.merge()

    def set_bits(
        self, weights: int | None, activations: int | None, ends: int | None, sample: Tensor | None = None
    ) -> None:
        """Change the widths; None is float.

        Parameters
        ----------
        weights, activations, ends : int or None
            Bits; `ends` for the first and last layer with weights (default: as `weights`).
        sample : Tensor, optional
            A batch of inputs. Activations that had no levels before take their scale from it; without it they keep
            the scale that they have.
        """
        fresh = [m for m in self.activations.values() if m.bits is None]
        for name, module in self.linear.items():
            bits = ends if name in self.ends and weights is not None and ends is not None else weights
            module.quantiser.set_bits(bits, module.weight)
        if activations is not None and fresh and sample is not None:
            self._initialise(fresh, activations, sample)
        for activation in self.activations.values():
            activation.set_bits(activations)

    def _initialise(self, fresh: list[Activation], bits: int, sample: Tensor) -> None:
        """Scales from what enters each activation, in order: later ones see the earlier ones quantised."""
        modes = {module: module.training for module in self.modules()}
        self.train()  # the running statistics of a BatchNorm belong to the weights of before
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.eval()

        def first(module: Activation, inputs: tuple[Tensor, ...]) -> None:
            module.set_bits(bits)
            module.initialise(inputs[0])

        hooks = [module.register_forward_pre_hook(first) for module in fresh]
        with torch.no_grad():
            self(sample)
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode

    def forward(self, x: Tensor, record: Iterable[str] = ()) -> Tensor | dict[str, Tensor]:
        """The output for `x` ``(B, *input_shape)``, or the values of the layers in `record` by name.

        A ReLU that only a max-pool reads is applied behind it, which gives the same values (both are monotone) for a
        quarter of the work, and a gradient that does not depend on ties; unless there is something to record.
        """
        wanted = set(record)
        late = set() if wanted else self.late
        values: dict[str, Tensor] = {"input": x}
        kept: dict[str, Tensor] = {}
        last = {name: i for i, layer in enumerate(self.blueprint.layers) for name in layer.inputs}
        for i, layer in enumerate(self.blueprint.layers):
            inputs = [values[name] for name in layer.inputs]
            if layer.name in late:
                values[layer.name] = inputs[0]
            else:
                values[layer.name] = self.apply_layer(layer, inputs)
                if layer.inputs[0] in late:
                    values[layer.name] = self.modules_by_name[layer.inputs[0]](values[layer.name])
            if layer.name in wanted:
                kept[layer.name] = values[layer.name]
            for name in set(layer.inputs):
                if last[name] == i:
                    del values[name]
        return kept if wanted else values[self.blueprint.output]

    def apply_layer(self, layer: parts.Layer, inputs: list[Tensor]) -> Tensor:
        """One layer on the values of those that it reads."""
        x = inputs[0]
        if layer.name in self.modules_by_name:
            return self.modules_by_name[layer.name](x)
        if isinstance(layer, parts.MaxPool):
            return F.max_pool2d(x, layer.kernel, layer.stride, layer.padding)
        if isinstance(layer, parts.AvgPool):
            return F.avg_pool2d(x, layer.kernel, layer.stride) if layer.kernel else x.mean((2, 3), keepdim=True)
        if isinstance(layer, parts.Upsample):
            return F.interpolate(x, scale_factor=layer.factor, mode="nearest")
        if isinstance(layer, parts.Flatten):
            return x.flatten(1)
        if layer.joins:
            return sum(inputs[1:], x)
        raise _unknown(layer)
