"""Layer-wise fine-tuning of Fast-SNN (Hu et al. 2023): the network learns to be right in T steps, one layer at a time.

In T steps without corrections a layer sees spikes that are spread unevenly in time, and its counts miss the levels of
the quantised ANN. For each layer but the first and the last, in order::

    target   level of the untouched ANN behind the layer
    in, out  mean over T steps of the spikes that enter and leave it in the spiking network
    proxy    the layer of the ANN applied to `in`; its value is replaced by `out`, its gradient kept
    loss     mean square of out - target

The spiking network is the integer one, converted again after every batch. After each epoch its accuracy on the training
data decides: kept if it improved, else rolled back.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...analysis.scores import accuracy
from ...conversion.spikes import NeuronRule, convert
from ...datasets.catalogue import Dataset
from ...engine.simulation import simulate
from ...errors import ConversionError, FormatError
from ...network.quantised import InputScale
from ...network.spiking import Network
from ..training import blueprint as parts
from ..training.loop import generator_of
from .bridge import quantised
from .network import QuantNetwork

__all__ = ["Attempt", "Tuned", "Tuning", "tune"]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Settings; those of the publication but for what is said.

    Attributes
    ----------
    epochs : int
        For each layer (the publication: 1, deep networks 8).
    rate, momentum, decay : float
    batch : int
    steps : int or None
        T; None is L.
    forced : bool
        Keep what was learned, whatever the accuracy.
    frozen_norms : bool
        BatchNorms keep their statistics (the publication does both, by network).
    samples : int or None
        Of the training data that decide between keeping and rolling back; None: all.
    seed : int
    """

    epochs: int = 1
    rate: float = 1e-3
    momentum: float = 0.9
    decay: float = 5e-4
    batch: int = 128
    steps: int | None = None
    forced: bool = False
    frozen_norms: bool = True
    samples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2 or not self.rate > 0 or (self.steps is not None and self.steps < 1):
            raise FormatError(f"tuning: epochs, rate, batch and steps have to be positive, found {self}")


@dataclass(frozen=True)
class Attempt:
    """One epoch of one layer: per cent right of the training data `before` and `after`, and whether it was kept."""

    layer: str
    before: float
    after: float
    kept: bool
    loss: float


@dataclass(eq=False)
class Tuned:
    """Outcome of `tune`: the tuned copy of the network, and every attempt."""

    network: QuantNetwork
    attempts: list[Attempt] = field(default_factory=list)


def layers_to_tune(network: QuantNetwork) -> list[tuple[str, str]]:
    """(layer with weights, its activation), without the first; where several branches meet, the main one.

    A layer with weights that no activation follows directly (the output, a branch into a join) is left alone.
    """
    plan = network.blueprint
    found = []
    for layer in plan.weighted[1:]:
        readers = plan.readers(layer.name)
        if len(readers) == 1 and isinstance(readers[0], parts.Relu):
            found.append((layer.name, readers[0].name))
    return found


class _Spiking:
    """The spiking network that a trained network stands for at present."""

    def __init__(self, network: QuantNetwork, rule: NeuronRule, maximum: int, steps: int | None) -> None:
        self.network, self.rule, self.steps = network, rule, steps
        self.scale = InputScale(f"1/{maximum}")  # type: ignore[arg-type]
        self.refresh()

    def refresh(self) -> None:
        """Convert the network as it is now."""
        from ...formats.fixed import Fixed

        fmt = Fixed.for_range(0, self.scale.scale.denominator)
        made = quantised(self.network, input_scale=self.scale, input_format=fmt)
        self.converted: Network = convert(made, self.rule).network
        drive = self.converted.t_drive or 1
        self.share = drive / min(self.steps or drive, drive)  # of a mean over T steps, in levels

    def counts(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Net counts of every activation after T steps, without corrections."""
        run = simulate(self.converted, images, steps=self.steps, keep_final=True)
        return {name: run.final[f"{name}.counts"] for name in self.network.activations}

    def accuracy(self, data: Dataset) -> float:
        """Per cent right after T steps."""
        found = simulate(self.converted, data.images, steps=self.steps).predictions
        return accuracy(found, cast(np.ndarray, data.labels))


def _entering(network: QuantNetwork, layer: str, counts: dict[str, np.ndarray], share: float, dtype) -> Tensor:
    """What enters `layer` as the mean of spikes, through the pools and flattens in between.

    A mean over T steps is counts times step, and times `share` where only a part of the drive is observed.
    """
    plan = {item.name: item for item in network.blueprint.layers}
    path: list[parts.Layer] = []
    name = plan[layer].inputs[0]
    while name not in network.activations:
        if name == "input" or not plan[name].passive:
            raise ConversionError(f"layer {layer!r}: what enters it does not come from one activation; it is not tuned")
        path.append(plan[name])
        name = plan[name].inputs[0]
    x = torch.from_numpy(counts[name]).to(dtype) * (network.activations[name].step.detach() * share)
    for item in reversed(path):
        x = x if isinstance(item, parts.Dropout) else network.apply_layer(item, [x])
    return x


def tune(
    network: QuantNetwork,
    data: Dataset,
    settings: Tuning | None = None,
    *,
    rule: NeuronRule | None = None,
    log: Callable[[Attempt], None] | None = None,
) -> Tuned:
    """Fine-tune a trained network layer by layer for T steps.

    Parameters
    ----------
    network : QuantNetwork
        Trained and quantised; it is not changed.
    data : Dataset
        Training data: integer images with labels. No test data are involved.
    settings : Tuning
    rule : NeuronRule
        Neuron; default: Fast-SNN as published, without the cap.
    log : callable, optional
        Called with every `Attempt`.

    Raises
    ------
    ConversionError
        If the network is not quantised, or a layer has no single activation before it.
    """
    settings = settings or Tuning()
    rule = rule or NeuronRule("fast-snn", cap=False)
    if data.labels is None:
        raise ConversionError(f"data {data.name}: it has no labels to judge by")
    original, tuned = copy.deepcopy(network).eval(), copy.deepcopy(network).eval()
    judged = data if settings.samples is None else _first(data, settings.samples)
    spiking = _Spiking(tuned, rule, data.maximum, settings.steps)
    outcome = Tuned(tuned)
    best = spiking.accuracy(judged)
    for number, (layer, activation) in enumerate(layers_to_tune(tuned)):
        module = tuned.linear[layer]
        optimiser = torch.optim.SGD(
            [p for p in module.parameters() if p.requires_grad],
            lr=settings.rate, momentum=settings.momentum, weight_decay=settings.decay,
        )  # fmt: skip
        for epoch in range(settings.epochs):
            before = copy.deepcopy(module.state_dict())
            order = torch.randperm(len(data), generator=generator_of(settings.seed, number, epoch)).numpy()
            losses = []
            module.train(not settings.frozen_norms)
            for start in range(0, len(order) - settings.batch + 1, settings.batch):
                chosen = order[start : start + settings.batch]
                losses.append(_step(original, spiking, layer, activation, data, chosen, optimiser))
                spiking.refresh()
            module.eval()
            spiking.refresh()
            after = spiking.accuracy(judged)
            kept = settings.forced or after > best
            attempt = Attempt(layer, best, after, kept, float(np.mean(losses)) if losses else 0.0)
            outcome.attempts.append(attempt)
            if kept:
                best = after
            else:
                module.load_state_dict(before)
                spiking.refresh()
            if log is not None:
                log(attempt)
    return outcome


def _step(
    original: QuantNetwork, spiking: _Spiking, layer: str, activation: str, data: Dataset, chosen: np.ndarray,
    optimiser: torch.optim.Optimizer,
) -> float:  # fmt: skip
    """One batch for one layer; the loss."""
    tuned, images = spiking.network, np.ascontiguousarray(data.images[chosen])
    dtype = next(tuned.parameters()).dtype
    counts = spiking.counts(images)
    with torch.no_grad():
        x = torch.from_numpy(images).to(dtype) / data.maximum
        target = original(x, record=[activation])[activation]
        entering = _entering(tuned, layer, counts, spiking.share, dtype)
        leaving = torch.from_numpy(counts[activation]).to(dtype) * (tuned.activations[activation].step * spiking.share)
    proxy = tuned.activations[activation](tuned.linear[layer](entering))
    out = proxy + (leaving - proxy).detach()  # the value of the spikes, the gradient of the proxy
    loss = F.mse_loss(out, target)
    optimiser.zero_grad(set_to_none=True)
    step = [p for p in tuned.activations[activation].parameters() if p.requires_grad]
    for parameter in step:  # the scale of the activation stays as it is
        parameter.requires_grad_(False)
    loss.backward()
    for parameter in step:
        parameter.requires_grad_(True)
        parameter.grad = None
    optimiser.step()
    return float(loss.detach())


def _first(data: Dataset, count: int) -> Dataset:
    from dataclasses import replace

    labels = None if data.labels is None else data.labels[:count]
    return replace(data, images=data.images[:count], labels=labels, name=f"{data.name}:{count}")
