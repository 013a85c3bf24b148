"""How do simulators of spikes compute the same network? SpikingJelly and snnTorch: their neurons between torch modules.

They are imported when a network is made.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...layers.base import padding_pairs
from ...layers.connections import Affine, Conv2d
from ...layers.joins import Add, Scale
from ...layers.neurons import Neuron
from ...layers.pooling import MaxPool2d, SumPool2d
from ...layers.ports import Input
from ...layers.reshape import Flatten
from .torch_loops import Call, TorchNetwork

__all__ = ["snn_torch", "spikingjelly"]


def _modules(this: TorchNetwork, conv, linear, avg_pool, neuron) -> dict[str, Any]:
    """A module for each node that computes; `conv` and so on are the classes to make them of."""
    torch = this.torch
    found: dict[str, Any] = {}
    if not this.plain() or this.biases:
        raise UnsupportedError("only unsigned integrate-and-fire networks without bias have a form in this peer")
    for name, layer in this.network.nodes.items():
        if isinstance(layer, Conv2d):
            outputs, inputs, *kernel = layer.weight.shape
            (top, bottom), (left, right) = padding_pairs(layer.padding, name)
            if (top, left) != (bottom, right):
                raise UnsupportedError(f"{name}: asymmetric padding has no form in this peer")
            sizes = (inputs * layer.groups, outputs, kernel, layer.stride, (top, left))
            module = conv(*sizes, groups=layer.groups, bias=False)
        elif isinstance(layer, Affine):
            module = linear(*layer.weight.shape[::-1], bias=False)
        elif isinstance(layer, SumPool2d):
            module = avg_pool(layer.kernel_size, layer.stride, 0, divisor_override=1)
        elif isinstance(layer, Neuron):
            module = neuron(name)
        else:
            continue
        module = module.to(this.dtype)
        if name in this.weights:
            with torch.no_grad():
                module.weight.copy_(this.weights[name])
        found[name] = module.eval()
    return found


def _walk(this: TorchNetwork, modules: dict[str, Any], x, fire, states: dict | None):
    """One pass over the graph; `fire` runs a neuron module. Answers what the readout sees.

    `states` holds the counts of max-pools between steps; None: x has all steps.
    """
    values: dict[str, Any] = {}
    for name in this.network.order:
        layer = this.network.nodes[name]
        sources = [values[s] for s in this.network.inputs_of(name)]
        if isinstance(layer, Input):
            values[name] = x
        elif isinstance(layer, Neuron):
            values[name] = fire(name, modules[name], sources[0])
        elif name in modules:
            values[name] = modules[name](sources[0])
        elif isinstance(layer, Flatten):
            values[name] = sources[0].flatten(2 if states is None else 1)
        elif isinstance(layer, MaxPool2d):
            if states is None:
                values[name] = this.max_pool_all(layer, sources[0])
            else:
                values[name] = this.max_pool_step(name, layer, states, sources[0])
        elif isinstance(layer, Scale):
            values[name] = sources[0] * this.parameters[name]
        elif isinstance(layer, Add):
            values[name] = sum(sources[1:], sources[0])
        elif layer.answers:
            return sources[0]
        else:
            raise UnsupportedError(f"{name} ({type(layer).__name__}) has no form in the peers")
    raise UnsupportedError("the network has no readout")


def spikingjelly(workload, threads: int, mode: str) -> Call:
    """IFNode with soft reset (`v_reset=None`), torch backend; reset before each call."""
    this = TorchNetwork(workload, threads)
    if this.kept:
        raise UnsupportedError("leaks by channel have no form in SpikingJelly's IFNode")
    from spikingjelly.activation_based import functional, layer, neuron

    torch = this.torch
    modules = _modules(
        this,
        lambda *a, **k: layer.Conv2d(*a, step_mode=mode, **k),
        lambda *a, **k: layer.Linear(*a, step_mode=mode, **k),
        lambda *a, **k: layer.AvgPool2d(*a, step_mode=mode, **k),
        lambda name: neuron.IFNode(v_threshold=this.parameters[name][0], v_reset=None, step_mode=mode),
    )
    whole = torch.nn.ModuleList(modules.values()).eval()

    def fire(name, module, current):
        return module(current)

    def call(inputs: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            functional.reset_net(whole)
            x = this.frames(inputs)
            if mode == "m":
                x = x.unsqueeze(0).repeat(this.steps, *(1,) * x.ndim) if this.constant else x
                return this.integer_outputs(_walk(this, modules, x, fire, None).sum(0))
            total, states = 0, dict[str, Any]()
            for t in range(this.steps):
                total = total + _walk(this, modules, x if this.constant else x[t], fire, states)
            return this.integer_outputs(total)

    return call


def snn_torch(workload, threads: int) -> Call:
    """Leaky with its default delayed subtraction; beta 1, or by channel with membranes rounded down (`state_quant`).

    It compares ``>``. Without leaks the delay changes no spike, and membranes that start at 1/2 make the compare ``>=``
    for integers.
    """
    this = TorchNetwork(workload, threads)
    import snntorch

    torch = this.torch
    modules = _modules(
        this,
        torch.nn.Conv2d,
        torch.nn.Linear,
        torch.nn.AvgPool2d,
        lambda name: snntorch.Leaky(
            beta=this.kept.get(name, 1.0), threshold=this.parameters[name][0], reset_mechanism="subtract",
            state_quant=torch.floor if name in this.kept else False,
        ),
    )  # fmt: skip

    def call(inputs: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            membranes: dict[str, Any] = {}

            def fire(name, module, current):
                if name not in membranes:
                    membranes[name] = torch.full_like(current, 0.0 if name in this.kept else 0.5)
                spikes, membranes[name] = module(current, membranes[name])
                return spikes

            x = this.frames(inputs)
            total, states = 0, dict[str, Any]()
            for t in range(this.steps):
                total = total + _walk(this, modules, x if this.constant else x[t], fire, states)
            return this.integer_outputs(total)

    return call
