"""Training with quantisers: network, widths, optimiser and loss of what `intsnn.models.training.loop` runs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...analysis.scores import check_labels
from ...datasets.catalogue import Dataset
from ...engine.result import decide
from ...errors import ConversionError, DataNotFoundError, FormatError
from ..training.architectures import blueprint
from ..training.loop import EpochProgress, Outcome, Run, chosen_device
from .align import align
from .augment import augment
from .network import QuantNetwork
from .quantisers.activations import ClipReLU, LsqReLU
from .quantisers.sigmoids import SigmoidWeight, temperature
from .quantisers.toolkit import ToolkitReLU, ToolkitWeight
from .quantisers.weights import ApotWeight, MaxWeight, SymmetricWeight
from .recipes import SIGMOID_KINDS, TOOLKIT_KINDS, Recipe, Stage

__all__ = ["Trained", "build", "evaluate", "train", "trained_network"]

EVALUATION_BATCH = 500
SAMPLE = 512  # training images that new activation scales are chosen from


class Trained(Outcome[QuantNetwork, Recipe]):
    """Outcome of `train`.

    Attributes
    ----------
    network : QuantNetwork
        In evaluation mode, on the CPU.
    recipe : Recipe
    history : list of dict
        For each epoch ``stage, epoch, loss, seconds``, and ``accuracy`` (per cent of the test set) after a stage.
    seconds : float
        Of training, over all its parts.
    """

    def accuracy_of(self, stage: int) -> float | None:
        """Accuracy at the end of stage number `stage`."""
        found = [item["accuracy"] for item in self.history if item["stage"] == stage and item["accuracy"] is not None]
        return found[-1] if found else None


def _weight(kind: str):
    def make(layer):
        if kind == "apot":
            return ApotWeight()
        if kind == "max":
            return MaxWeight()
        if kind in SIGMOID_KINDS:
            return SigmoidWeight(kind, soft_backward=kind == "binary")
        if kind in TOOLKIT_KINDS:
            return ToolkitWeight(kind)
        # without a BatchNorm the layer is a readout, or feeds one: one unit for all its outputs
        return SymmetricWeight(layer.outputs, kind == "symmetric" and layer.norm)

    return make


def build(recipe: Recipe, input_shape: tuple[int, ...], classes: int) -> QuantNetwork:
    """The network of a recipe as it is before training, from its seed."""
    torch.manual_seed(recipe.seed)

    def activation():
        if recipe.activation in TOOLKIT_KINDS:
            return ToolkitReLU(recipe.activation)
        return LsqReLU(elements=recipe.step_elements) if recipe.activation == "lsq" else ClipReLU()

    plan = blueprint(recipe.architecture, input_shape=input_shape, classes=classes, width=recipe.width)
    return QuantNetwork(plan, activation, _weight(recipe.weight), _weight(recipe.ends) if recipe.ends else None)


def _images(data: Dataset, network_shape: tuple[int, ...], device) -> Tensor:
    """Codes of a data set on the device, as they are stored: they become floats batch by batch."""
    if data.images.shape[1:] != tuple(network_shape):
        raise ConversionError(f"data {data.name}: its samples are {data.images.shape[1:]}, not {network_shape}")
    return torch.from_numpy(np.ascontiguousarray(data.images)).to(device)


def evaluate(network: QuantNetwork, data: Dataset, device="cpu") -> float:
    """Per cent of `data` that the network, as it computes in torch, gets right."""
    images = _images(data, network.blueprint.input_shape, device)
    network.eval()
    right = 0
    if data.labels is None:
        raise ConversionError(f"data {data.name}: it has no labels to compare with")
    with torch.no_grad():
        for start in range(0, len(images), EVALUATION_BATCH):
            part = images[start : start + EVALUATION_BATCH].float() / data.maximum
            outputs = network(part).cpu().numpy()
            if start == 0:
                check_labels(data.labels, outputs.shape[1], data.name)
            found = decide(outputs)
            right += int((found == data.labels[start : start + EVALUATION_BATCH]).sum())
    return 100.0 * right / data.labels.size


def _optimiser(network: QuantNetwork, recipe: Recipe, stage: Stage) -> torch.optim.SGD:
    """Weight decay is for weights alone: it has no business with scales, biases and BatchNorms."""
    weights = [module.weight for module in network.linear.values()]
    known = {id(parameter) for parameter in weights}
    others = [parameter for parameter in network.parameters() if id(parameter) not in known]
    groups = [{"params": weights, "weight_decay": stage.decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=stage.rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def _rate(stage: Stage, done: float) -> float:
    """Learning rate after `done` epochs."""
    if stage.drops:
        return stage.rate * 0.1 ** sum(done >= drop for drop in stage.drops)
    return stage.rate * 0.5 * (1 + math.cos(math.pi * done / stage.epochs))


def _completed(kept: object) -> object:
    """A recipe of a checkpoint; a field that recipes or stages did not have yet is as if it had its default."""
    if not isinstance(kept, dict) or not isinstance(kept.get("stages"), list):
        return kept

    def defaults(cls: type) -> dict:
        return {item.name: item.default for item in fields(cls) if item.default is not MISSING}

    stages = [defaults(Stage) | stage if isinstance(stage, dict) else stage for stage in kept["stages"]]
    return defaults(Recipe) | kept | {"stages": stages}


class _Run(Run[QuantNetwork]):
    """One training on images: its widths and its optimiser."""

    recipe: Recipe
    data: Dataset

    def __init__(
        self, recipe: Recipe, data: Dataset, device: str, checkpoint: str | os.PathLike[str] | None, resume: bool
    ) -> None:  # fmt: skip
        if data.labels is None:
            raise ConversionError(f"data {data.name}: it has no labels to learn")
        place = torch.device(device)
        classes = len(data.classes) or int(data.labels.max(initial=0)) + 1
        if classes < 2:
            raise ConversionError(f"data {data.name}: there is one class in it; a training needs two to tell apart")
        check_labels(data.labels, classes, data.name)
        self.layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        network = build(recipe, data.images.shape[1:], classes).to(place)
        network = network.to(memory_format=self.layout)  # type: ignore[call-overload]  # torch's overloads lack it alone
        stages = [(stage.name, stage.epochs) for stage in recipe.stages]
        super().__init__(recipe, data, network, stages, place, checkpoint)
        self.images = _images(data, data.images.shape[1:], place)
        self.labels = torch.from_numpy(data.labels).to(place)
        if resume:
            self.resume()

    @property
    def settings(self) -> Stage:
        """Of the present stage, or of the last one when all are done."""
        return self.recipe.stages[min(self.stage, len(self.stages) - 1)]

    def completed(self, kept: object) -> object:
        return _completed(kept)

    def rebuild(self, state: dict[str, Any]) -> None:
        stages, begun = self.recipe.stages, state["optimiser"] is not None
        if any(stage.merge for stage in stages[: self.stage + begun]):
            self.network.merge()
        if begun or self.stage >= len(stages):
            now = self.settings
        elif self.stage:
            now = stages[self.stage - 1]
        else:
            return
        self.network.set_bits(now.weight_bits, now.activation_bits, now.end_bits)

    def prepare_stage(self) -> None:
        """Set the widths of the stage; new activation scales come from the first images."""
        stage = self.settings
        sample = self.images[:SAMPLE].float() / self.data.maximum
        if stage.merge:
            self.network.merge()
        self.network.set_bits(stage.weight_bits, stage.activation_bits, stage.end_bits, sample)

    def new_optimiser(self) -> torch.optim.SGD:
        return _optimiser(self.network, self.recipe, self.settings)

    def rate(self, done: float) -> float:
        return _rate(self.settings, done)

    def begin_epoch(self) -> None:
        for module in self.network.modules():
            if isinstance(module, SigmoidWeight):
                module.tau = temperature(self.epoch)

    def loss(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        chosen = chosen.to(self.device)
        kind = self.settings.augmentation or self.recipe.augmentation
        x = augment(self.images[chosen].float() / self.data.maximum, kind, generator)
        x = x.contiguous(memory_format=self.layout)
        return F.cross_entropy(self.network(x), self.labels[chosen], label_smoothing=self.recipe.smoothing)

    def finish(self) -> None:
        align(self.network)  # what joins need is part of the network that is measured and kept

    def accuracy(self, test: Dataset) -> float:
        return evaluate(self.network, test, self.device)


def train(
    recipe: Recipe,
    data: Dataset,
    test: Dataset | None = None,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = True,
    device: str | None = None,
    progress: Callable[[EpochProgress], None] | None = None,
    log: Callable[[dict], None] | None = None,
    stop_after: int | None = None,
    say: Callable[[str], None] | None = None,
) -> Trained:
    """Train the network of a recipe.

    Parameters
    ----------
    recipe : Recipe
    data : Dataset
        What is learned.
    test : Dataset, optional
        Measured at the end of each stage. Nothing is chosen by it.
    checkpoint : path-like, optional
        Written after every epoch. With `resume`, a training that it belongs to goes on from there, and on the CPU with
        as many threads the result is the same as without the interruption, bit for bit.
    device : str, optional
        ``"cpu"`` or ``"cuda"``; default: a GPU that is there.
    progress : callable, optional
        Called with an `EpochProgress` a few times a second.
    log : callable, optional
        Called with the entry of the history after each epoch.
    stop_after : int, optional
        Return after this many epochs of this call, finished or not.
    say : callable, optional
        Called with a line where a training goes on from a checkpoint.

    Raises
    ------
    ConversionError
        Data without labels or of another shape, a loss that is not finite.
    FormatError, ImportRefused
        A checkpoint of another training, or one that cannot be read.
    """
    run = _Run(recipe, data, chosen_device(device), checkpoint, resume)
    return Trained(run.through(test, progress, log, stop_after, say), recipe, run.history)


def trained_network(recipe: Recipe, data: Dataset, checkpoint: str | os.PathLike[str]) -> QuantNetwork:
    """The network of a training that is finished, from its checkpoint: in evaluation mode, on the CPU.

    Raises
    ------
    DataNotFoundError
        If there is no such file.
    FormatError, ImportRefused
        If it belongs to another training, cannot be read, or the training is not finished.
    """
    path = os.fspath(checkpoint)
    if not os.path.exists(path):
        raise DataNotFoundError(f"there is no checkpoint {path}; intsnn train writes it beside the network")
    run = _Run(recipe, data, "cpu", path, True)
    if run.stage < len(recipe.stages):
        raise FormatError(f"{path}: the training is in stage {run.stage + 1} of {len(recipe.stages)}; let it finish")
    return run.network.eval()
