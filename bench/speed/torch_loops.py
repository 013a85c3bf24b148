"""How would somebody who knows torch write the same network? Loops by hand, and what simulators share with them.

Integers below 2**24 are exact in float32, so outputs are equal (in float64 where sums go further). Torch is imported
when a network is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ...errors import UnsupportedError
from ...layers.connections import Affine, Conv2d
from ...layers.joins import Add, Scale
from ...layers.neurons import Neuron
from ...layers.pooling import MaxPool2d, SumPool2d
from ...layers.ports import Input, Readout
from ...layers.reshape import Flatten
from ...layers.schedule import bias_schedule
from .evaluate import kept_share

__all__ = ["Call", "TorchNetwork", "torch_folded", "torch_step"]

Call = Callable[[np.ndarray], np.ndarray]
Padding = tuple[tuple[int, int], tuple[int, int]]  # the form that layers bring any padding into


class TorchNetwork:
    """Constants and functions of a network's layers, as float tensors; no gradients anywhere."""

    def __init__(self, workload, threads: int, channels_last: bool = False) -> None:
        import torch

        torch.set_num_threads(threads)
        self.torch, self.network, self.steps = torch, workload.network, workload.steps
        self.precision = np.dtype(workload.precision)
        self.dtype = getattr(torch, workload.precision)
        self.constant, self.channels_last = workload.constant, channels_last
        self.drive = min(self.network.t_drive or self.steps, self.steps)
        self.weights: dict[str, Any] = {}
        self.biases: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}
        self.kept: dict[str, Any] = {}  # what leaks leave of a membrane, by channel
        for name, layer in self.network.nodes.items():
            rank = len(self.network.shapes[name])
            if isinstance(layer, Affine | Conv2d):
                self._connection(name, layer, rank)
            elif isinstance(layer, Neuron):
                self._neuron(name, layer, rank)
            elif isinstance(layer, Scale):
                self.parameters[name] = self._number(layer.scale, rank)
            elif isinstance(layer, Add | Flatten | Input | MaxPool2d | Readout | SumPool2d):
                continue
            else:
                raise UnsupportedError(f"{name} ({type(layer).__name__}) has no form in the peers")

    def _tensor(self, values):
        return self.torch.tensor(np.asarray(values, self.precision))

    def _number(self, values, rank: int):
        """One number where all are equal, else a tensor along the channels."""
        values = np.asarray(values)
        if np.all(values == values.flat[0]):
            return float(values.flat[0])
        return self._tensor(values).reshape(-1, *(1,) * (rank - 1))

    def _connection(self, name: str, layer, rank: int) -> None:
        if layer.delay:
            raise UnsupportedError(f"{name}: delays have no form in the peers")
        weight = self._tensor(layer.weight * layer.multiplier.reshape(-1, *(1,) * (layer.weight.ndim - 1)))
        if weight.ndim == 4 and self.channels_last:
            weight = weight.contiguous(memory_format=self.torch.channels_last)
        self.weights[name] = weight
        if layer.bias is not None:
            schedule = bias_schedule(layer.bias, layer.bias_mode, self.network.t_drive or self.steps, 0, self.steps)
            self.biases[name] = self._tensor(schedule.astype(self.precision)).reshape(
                self.steps, -1, *(1,) * (rank - 1)
            )

    def _neuron(self, name: str, layer: Neuron, rank: int) -> None:
        kept = kept_share(layer, name)
        numbers = [self._number(values, rank) for values in (layer.threshold, layer.v_initial, layer.v_negative)]
        self.parameters[name] = (*numbers, layer.signed, layer.max_count)
        if kept is not None:
            self.kept[name] = self._tensor(kept)

    def plain(self) -> bool:
        """Whether all neurons are unsigned, start at 0, have one threshold and no cap: what simulators offer."""
        found = [self.parameters[name] for name in self.network.neurons]
        return all(isinstance(p[0], float) and p[1] == 0 and not p[3] and p[4] is None for p in found)

    def frames(self, inputs: np.ndarray):
        """``(B, ...)`` or ``(T, B, ...)`` as float tensor, transformed as `Input` says."""
        layer = self.network.nodes[self.network.input_name]
        x = self.torch.from_numpy(inputs).to(self.dtype)
        if (layer.multiplier, layer.offset) != (1, 0):
            x = x * layer.multiplier + layer.offset
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=self.torch.channels_last)
        return x

    def linear(self, name: str, layer, x):
        """Product of a connection, without its bias."""
        F = self.torch.nn.functional
        weight = self.weights[name]
        if isinstance(layer, Affine):
            return F.linear(x, weight)
        (top, bottom), (left, right) = layer.padding
        if (top, left) != (bottom, right):
            x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
        return F.conv2d(x, weight, None, layer.stride, (top, left), layer.dilation, layer.groups)

    def sum_pool(self, layer: SumPool2d, x):
        """Sums of windows: an average pool that divides by 1."""
        (top, bottom), (left, right) = cast(Padding, layer.padding)
        F = self.torch.nn.functional
        if (top, left) != (bottom, right):
            x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
        return F.avg_pool2d(x, layer.kernel_size, layer.stride, (top, left), divisor_override=1)

    def max_pool(self, layer: MaxPool2d, counts):
        """Largest counts of windows (they are never negative: zero padding never wins)."""
        (top, bottom), (left, right) = cast(Padding, layer.padding)
        F = self.torch.nn.functional
        if (top, left) != (bottom, right):
            counts, top, left = F.pad(counts, (left, right, top, bottom)), 0, 0
        return F.max_pool2d(counts, layer.kernel_size, layer.stride, (top, left))

    def max_pool_step(self, name: str, layer: MaxPool2d, states: dict, spikes):
        """By how much the largest counts grow in this step."""
        counts, before = states.setdefault(name, [self.torch.zeros_like(spikes), 0])
        counts += spikes
        states[name][1] = largest = self.max_pool(layer, counts)
        return largest - before

    def max_pool_all(self, layer: MaxPool2d, spikes):
        """The same for all steps ``(T, B, ...)``."""
        largest = self.max_pool(layer, spikes.cumsum(0).flatten(0, 1)).unflatten(0, spikes.shape[:2])
        return self.torch.diff(largest, dim=0, prepend=self.torch.zeros_like(largest[:1]))

    def first_connections(self) -> set[str]:
        """Connections that read the input, and what only passes it on."""
        found = {self.network.input_name}
        for name in self.network.order:
            sources = self.network.inputs_of(name)
            passes = isinstance(self.network.nodes[name], Affine | Conv2d | Flatten)
            if sources and passes and all(isinstance(self.network.nodes[s], Input | Flatten) for s in sources):
                if sources[0] in found:
                    found.add(name)
        return found

    def integer_outputs(self, total) -> np.ndarray:
        return total.round().to(self.torch.int64).reshape(len(total), -1).numpy()


class _HandWritten(TorchNetwork):
    """A loop that somebody who knows torch would write: in-place membranes, nothing recomputed."""

    def start(self, name: str, current) -> list:
        """State of a neuron layer: membrane and, where needed, counts."""
        _, initial, _, signed, cap = self.parameters[name]
        v = self.torch.zeros_like(current)
        if not isinstance(initial, float) or initial:
            v += initial
        return [v, self.torch.zeros_like(current) if signed or cap is not None else None]

    def fire(self, name: str, state: list, current):
        """One step of a neuron layer."""
        threshold, _, lowest, signed, cap = self.parameters[name]
        if name in self.kept:
            return self.leak(name, state, current, threshold)
        v, counts = state
        v += current
        over = v >= threshold
        if cap is not None:
            over &= counts < cap
        spikes = over.to(v.dtype)
        if signed:
            spikes -= ((v < lowest) & (counts > 0)).to(v.dtype)
        if counts is not None:
            counts += spikes
        if isinstance(threshold, float):
            v.sub_(spikes, alpha=threshold)
        else:
            v.sub_(spikes * threshold)
        return spikes

    def leak(self, name: str, state: list, current, threshold: float):
        """One step of neurons that leak: a membrane, and the spikes that are taken off it now."""
        v, before = state
        v.mul_(self.kept[name]).floor_().add_(current)
        if before is not None:
            v.sub_(before, alpha=threshold)
        state[1] = spikes = (v > threshold).to(v.dtype)
        return spikes


def torch_step(workload, threads: int, channels_last: bool) -> Call:
    """Step by step; the products of a constant input are computed once."""
    this = _HandWritten(workload, threads, channels_last)
    network = this.network
    once = this.first_connections() if workload.constant else set()

    def call(inputs: np.ndarray) -> np.ndarray:
        with this.torch.inference_mode():
            x = this.frames(inputs)
            values: dict[str, Any] = {}
            products: dict[str, Any] = {}  # that are computed once
            states: dict[str, list] = {}
            total: Any = 0
            for t in range(this.steps):
                for name in network.order:
                    layer = network.nodes[name]
                    sources = [values[s] for s in network.inputs_of(name)]
                    if name in products:
                        out = products[name]
                    elif isinstance(layer, Input):
                        out = x if workload.constant else x[t]
                    elif isinstance(layer, Affine | Conv2d):
                        out = this.linear(name, layer, sources[0])
                    elif isinstance(layer, Neuron):
                        if name not in states:
                            states[name] = this.start(name, sources[0])
                        out = this.fire(name, states[name], sources[0])
                    elif isinstance(layer, MaxPool2d):
                        out = this.max_pool_step(name, layer, states, sources[0])
                    elif isinstance(layer, SumPool2d):
                        out = this.sum_pool(layer, sources[0])
                    elif isinstance(layer, Flatten):
                        out = sources[0].flatten(1)
                    elif isinstance(layer, Scale):
                        out = sources[0] * this.parameters[name]
                    elif isinstance(layer, Add):
                        out = sum(sources[1:], sources[0])
                    else:
                        total = total + sources[0]
                        continue
                    if name in once:
                        products[name] = out
                    values[name] = out + this.biases[name][t] if name in this.biases else out
            return this.integer_outputs(total)

    return call


def torch_folded(workload, threads: int) -> Call:
    """Layer by layer, T folded into the batch: the strongest plain form in torch."""
    this = _HandWritten(workload, threads)
    torch, network = this.torch, this.network
    last = network.inputs_of(network.output_name)[0]  # what is only summed is one product over counts
    over_counts = last if last in this.weights and last not in this.biases else None

    def neuron(name: str, current):
        """``(T or 1, B, ...)`` currents to ``(T, B, ...)`` spikes."""
        state = this.start(name, current[0])
        return torch.stack([this.fire(name, state, current[t if len(current) > 1 else 0]) for t in range(this.steps)])

    def folded(function, x):
        out = function(x.flatten(0, 1))
        return out.unflatten(0, x.shape[:2])

    def call(inputs: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = this.frames(inputs)
            values: dict[str, Any] = {}
            total = None
            for name in network.order:
                layer = network.nodes[name]
                sources = [values[s] for s in network.inputs_of(name)]
                if isinstance(layer, Input):
                    out = x[None] if workload.constant else x
                elif isinstance(layer, Affine | Conv2d):
                    if name == over_counts:
                        sources[0] = sources[0].sum(0, keepdim=True)
                    out = folded(lambda y, name=name, layer=layer: this.linear(name, layer, y), sources[0])
                    if name in this.biases:
                        out = out + this.biases[name][:, None]
                elif isinstance(layer, Neuron):
                    out = neuron(name, sources[0])
                elif isinstance(layer, MaxPool2d):
                    out = this.max_pool_all(layer, sources[0])
                elif isinstance(layer, SumPool2d):
                    out = folded(lambda y, layer=layer: this.sum_pool(layer, y), sources[0])
                elif isinstance(layer, Flatten):
                    out = sources[0].flatten(2)
                elif isinstance(layer, Scale):
                    out = sources[0] * this.parameters[name]
                elif isinstance(layer, Add):
                    out = sum(sources[1:], sources[0])
                else:
                    same = len(sources[0]) == 1 and network.inputs_of(name)[0] != over_counts
                    total = sources[0].sum(0) * (this.steps if same else 1)
                    continue
                values[name] = out
            return this.integer_outputs(total)

    return call
