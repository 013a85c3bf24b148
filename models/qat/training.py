"""The training loop: from a recipe to a network, the same bits on every run and after every interruption (on the CPU).

All that is random in an epoch follows from (seed, stage, epoch), so a checkpoint holds no state of a generator. It is
written at the end of an epoch, beside its name and then renamed; a run that is killed loses one epoch at most.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...datasets import Dataset
from ...errors import ConversionError, DataNotFoundError, FormatError, ImportRefused
from ...hdf5 import _replacing as replacing
from ..architectures_trained import blueprint
from .activations import ClipReLU, LsqReLU
from .align import align
from .augment import augment
from .network import QuantNetwork
from .recipes import SIGMOID_KINDS, TOOLKIT_KINDS, Recipe, Stage
from .sigmoids import SigmoidWeight, temperature
from .toolkit import ToolkitReLU, ToolkitWeight
from .weights import ApotWeight, MaxWeight, SymmetricWeight

__all__ = ["Progress", "Trained", "build", "evaluate", "train", "trained_network"]

VERSION = 1  # of the checkpoint
EVALUATION_BATCH = 500
SAMPLE = 512  # training images that new activation scales are chosen from


@dataclass(frozen=True)
class Progress:
    """Where a training is; `left` are seconds, None until there is an estimate. `loss` is the mean of the epoch."""

    stage: str
    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    left: float | None


@dataclass(eq=False)
class Trained:
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

    network: QuantNetwork
    recipe: Recipe
    history: list[dict] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(item["seconds"] for item in self.history)

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
            found = network(part).argmax(1).cpu().numpy()
            right += int((found == data.labels[start : start + EVALUATION_BATCH]).sum())
    return 100.0 * right / max(1, data.labels.size)


def _generator(seed: int, stage: int, epoch: int) -> torch.Generator:
    words = np.random.SeedSequence([seed, stage, epoch]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))


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


class _Run:
    """One training: its state, and how it is kept."""

    def __init__(self, recipe: Recipe, data: Dataset, device: str, checkpoint: str | None, resume: bool) -> None:
        self.recipe, self.device, self.checkpoint = recipe, torch.device(device), checkpoint
        if data.labels is None:
            raise ConversionError(f"data {data.name}: it has no labels to learn")
        self.data = data
        classes = len(data.classes) or int(data.labels.max()) + 1
        self.network = build(recipe, data.images.shape[1:], classes).to(self.device)
        self.layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.network.to(memory_format=self.layout)
        self.images = _images(data, data.images.shape[1:], self.device)
        self.labels = torch.from_numpy(data.labels).to(self.device)
        self.history: list[dict] = []
        self.stage, self.epoch = 0, 0
        self.optimiser: torch.optim.SGD | None = None
        if resume and checkpoint and os.path.exists(checkpoint):
            self._resume(checkpoint)

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def _identity(self) -> str:
        """What a checkpoint belongs to: all that decides the result."""
        identity = {"recipe": asdict(self.recipe), "data": self.data.name, "samples": len(self.data)}
        return json.dumps(identity | {"threads": torch.get_num_threads()}, sort_keys=True)

    def save(self) -> None:
        """Write the checkpoint, all or nothing."""
        if self.checkpoint is None:
            return
        state = {
            "version": VERSION,
            "identity": self._identity(),
            "stage": self.stage,
            "epoch": self.epoch,
            "history": json.dumps(self.history),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict() if self.optimiser is not None else None,
        }
        with replacing(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def _resume(self, path: str) -> None:
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            version, identity = state["version"], json.loads(state["identity"])
        except Exception as error:
            raise ImportRefused(f"{path} is no checkpoint that can be read: {type(error).__name__}") from error
        own = json.loads(self._identity())
        if version != VERSION:
            raise ImportRefused(f"{path} is a checkpoint of version {version}; this intsnn reads {VERSION}")
        identity["recipe"] = _completed(identity.get("recipe"))
        different = [name for name in own if own[name] != identity.get(name)]
        if different:
            raise FormatError(
                f"{path} belongs to another training ({', '.join(different)} differ); give another file or start anew"
            )
        self.stage, self.epoch, self.history = state["stage"], state["epoch"], json.loads(state["history"])
        stage = self.recipe.stages[min(self.stage, len(self.recipe.stages) - 1)]
        begun = self.stage + (state["optimiser"] is not None)
        if any(stage.merge for stage in self.recipe.stages[:begun]):
            self.network.merge()
        if state["optimiser"] is not None or self.stage >= len(self.recipe.stages):
            self.network.set_bits(stage.weight_bits, stage.activation_bits, stage.end_bits)
        elif self.stage:
            before = self.recipe.stages[self.stage - 1]
            self.network.set_bits(before.weight_bits, before.activation_bits, before.end_bits)
        self.network.load_state_dict(state["network"])
        if state["optimiser"] is not None:
            self.optimiser = _optimiser(self.network, self.recipe, stage)
            self.optimiser.load_state_dict(state["optimiser"])

    # -- work ----------------------------------------------------------------------------------------------------------

    def begin_stage(self) -> None:
        """Set the widths of the stage; new activation scales come from the first images."""
        stage = self.recipe.stages[self.stage]
        sample = self.images[:SAMPLE].float() / self.data.maximum
        if stage.merge:
            self.network.merge()
        self.network.set_bits(stage.weight_bits, stage.activation_bits, stage.end_bits, sample)
        self.optimiser = _optimiser(self.network, self.recipe, stage)

    def run_epoch(self, tell: Callable[[int, int, float], None]) -> float:
        """One pass over the training data; the mean loss."""
        stage, assert_optimiser = self.recipe.stages[self.stage], self.optimiser
        generator = _generator(self.recipe.seed, self.stage, self.epoch)
        torch.manual_seed(int(torch.randint(0, 2**62, (1,), generator=generator)))  # dropout
        order = torch.randperm(len(self.images), generator=generator).to(self.device)
        batches = max(1, len(order) // self.recipe.batch)  # an incomplete last batch is left out
        total = torch.zeros((), device=self.device)
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, SigmoidWeight):
                module.tau = temperature(self.epoch)
        for batch in range(batches):
            for group in assert_optimiser.param_groups:
                group["lr"] = _rate(stage, self.epoch + batch / batches)
            chosen = order[batch * self.recipe.batch : (batch + 1) * self.recipe.batch]
            x = augment(
                self.images[chosen].float() / self.data.maximum,
                stage.augmentation or self.recipe.augmentation,
                generator,
            )
            x = x.contiguous(memory_format=self.layout)
            loss = F.cross_entropy(self.network(x), self.labels[chosen], label_smoothing=self.recipe.smoothing)
            assert_optimiser.zero_grad(set_to_none=True)
            loss.backward()
            assert_optimiser.step()
            total += loss.detach()
            if batch % 20 == 19 or batch == batches - 1:
                mean = float(total) / (batch + 1)
                if not math.isfinite(mean):
                    raise ConversionError(
                        f"recipe {self.recipe.name!r}: the loss is {mean} in stage {stage.name!r}, epoch "
                        f"{self.epoch + 1}; lower its learning rate"
                    )
                tell(batch + 1, batches, mean)
        return float(total) / batches


def train(
    recipe: Recipe,
    data: Dataset,
    test: Dataset | None = None,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = True,
    device: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    log: Callable[[dict], None] | None = None,
    stop_after: int | None = None,
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
        Called with a `Progress` a few times a second.
    log : callable, optional
        Called with the entry of the history after each epoch.
    stop_after : int, optional
        Return after this many epochs of this call, finished or not.

    Raises
    ------
    ConversionError
        Data without labels or of another shape, a loss that is not finite.
    FormatError, ImportRefused
        A checkpoint of another training, or one that cannot be read.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.startswith("cuda") and not torch.cuda.is_available():
        raise DataNotFoundError("torch finds no GPU here; leave the device out or give cpu")
    run = _Run(recipe, data, device, os.fspath(checkpoint) if checkpoint else None, resume)
    done, start = 0, time.monotonic()
    finished = sum(stage.epochs for stage in recipe.stages[: run.stage]) + run.epoch
    remaining = recipe.epochs - finished
    while run.stage < len(recipe.stages) and (stop_after is None or done < stop_after):
        stage = recipe.stages[run.stage]
        if run.optimiser is None:
            run.begin_stage()
        began = time.monotonic()

        def tell(batch: int, batches: int, loss: float, stage: Stage = stage, done: int = done) -> None:
            if progress is not None:
                part = done + batch / batches
                left = (time.monotonic() - start) / part * (remaining - part)
                progress(Progress(stage.name, run.epoch, stage.epochs, batch, batches, loss, left))

        loss = run.run_epoch(tell)
        run.epoch += 1
        last = run.epoch == stage.epochs
        if last and run.stage == len(recipe.stages) - 1:
            align(run.network)  # what joins need is part of the network that is measured and kept
        entry = {
            "stage": run.stage, "name": stage.name, "epoch": run.epoch, "loss": loss,
            "accuracy": evaluate(run.network, test, run.device) if last and test is not None else None,
            "seconds": time.monotonic() - began,
        }  # fmt: skip
        run.history.append(entry)
        if last:
            run.stage, run.epoch, run.optimiser = run.stage + 1, 0, None
        done += 1
        run.save()
        if log is not None:
            log(entry)
    network = run.network.to("cpu").eval()
    return Trained(network, recipe, run.history)


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
