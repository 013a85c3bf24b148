"""Training on frames of events: data, optimiser and loss of what `intsnn.models.training.loop` runs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...analysis.scores import check_labels
from ...datasets.framing import frame_set
from ...datasets.overlap import digests
from ...engine.result import decide
from ..training.architectures import blueprint
from ..training.loop import EpochProgress, Outcome, Run, chosen_device, generator_of
from .network import EventNetwork
from .recipes import EventRecipe

__all__ = ["Frames", "Trained", "build", "evaluate", "load_frames", "one_thread", "scatter_norms", "train"]

EVALUATION_BATCH = 250
SETTLING = 64  # batches from which the statistics of the BatchNorms are taken at the end
SLOWER = 0.02  # rate of alpha and beta: Adam takes whole steps along gradients that a BatchNorm makes almost nothing
LOGITS = 10.0  # mean currents are small against what a softmax needs


@dataclass(frozen=True, eq=False)
class Frames:
    """Binned recordings: `frames` (N, T, C, H, W) uint8, `labels` (N,) int64, the number of `classes`.

    `contents` answers what each is known by (`intsnn.datasets.overlap`); without it the frames do.
    """

    name: str
    frames: np.ndarray
    labels: np.ndarray
    classes: int
    contents: Callable[[], list[bytes]] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def digests(self) -> list[bytes]:
        """What each recording is known by."""
        return digests(self.frames) if self.contents is None else self.contents()

    def part(self, chosen: np.ndarray, name: str) -> Frames:
        """Some of the recordings."""
        return Frames(name, self.frames[chosen], self.labels[chosen], self.classes)


def load_frames(spec: str, recipe: EventRecipe, part: str = "test") -> Frames:
    """Event data by name (`intsnn.datasets.events.load_events`), binned as the recipe says."""
    from ...datasets.events import load_events

    found = load_events(spec, part)
    frames = frame_set(found, **asdict(recipe.binning))
    return Frames(found.name, frames, found.labels, len(found.classes), found.digests)


class Trained(Outcome[EventNetwork, EventRecipe]):
    """Outcome of `train`: the network in evaluation mode, its recipe, and an entry for each epoch."""


def one_thread() -> None:
    """Let torch use one thread: the results belong to a number of threads."""
    torch.set_num_threads(1)


def build(recipe: EventRecipe, shape: tuple[int, ...], classes: int) -> EventNetwork:
    """The network of a recipe as it is before training, from its seed."""
    torch.manual_seed(recipe.seed)
    return EventNetwork(blueprint(recipe.architecture, input_shape=shape, classes=classes, width=recipe.width), recipe)


def scatter_norms(network: EventNetwork, seed: int = 0) -> None:
    """Random BatchNorms as training may leave them, for networks that are to be measured and not trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.linear.values():
            if module.norm is None:
                bias = cast(Tensor, module.bias)
                bias.copy_(torch.randn(bias.shape, generator=generator))
                continue
            for tensor, low, high in (
                (module.norm.weight, -2.0, 2.0), (module.norm.bias, -1.0, 1.0), (module.norm.running_mean, -2.0, 2.0),
                (module.norm.running_var, 0.5, 9.0),
            ):  # fmt: skip
                values = cast(Tensor, tensor)
                values.copy_(torch.rand(values.shape, generator=generator) * (high - low) + low)


def _batch(frames: np.ndarray, device: torch.device) -> Tensor:
    """``(B, T, C, H, W)`` bytes as ``(T, B, C, H, W)`` floats."""
    return torch.from_numpy(np.ascontiguousarray(frames.swapaxes(0, 1))).to(device).float()


def evaluate(network: EventNetwork, data: Frames, device: str | torch.device = "cpu") -> float:
    """Per cent of `data` that the network gets right, as it computes in torch."""
    network.eval()
    check_labels(data.labels, data.classes, data.name)
    right = 0
    with torch.no_grad():
        for start in range(0, len(data), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            found = decide(network(_batch(data.frames[part], torch.device(device))).cpu().numpy())
            right += int((found == data.labels[part]).sum())
    return 100.0 * right / len(data)


def _moved(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """All frames of a batch moved by up to `most` pixels, with nothing where they came from."""
    if most == 0:
        return x
    dy, dx = (int(n) - most for n in torch.randint(0, 2 * most + 1, (2,), generator=generator))
    padded = F.pad(x, (most, most, most, most))
    return padded[..., most - dy : most - dy + x.shape[-2], most - dx : most - dx + x.shape[-1]]


class _Run(Run[EventNetwork]):
    """One training on frames: its network and its optimiser."""

    recipe: EventRecipe
    data: Frames

    def __init__(
        self, recipe: EventRecipe, data: Frames, device: str, checkpoint: str | os.PathLike[str] | None, resume: bool
    ) -> None:  # fmt: skip
        place = torch.device(device)
        check_labels(data.labels, data.classes, data.name)
        network = build(recipe, data.frames.shape[2:], data.classes).to(place)
        super().__init__(recipe, data, network, recipe.stages, place, checkpoint)
        self.labels = torch.from_numpy(data.labels).to(place)
        if resume:
            self.resume()

    def extra(self) -> dict[str, Any]:
        return {"quantised": any(module.quantiser.bits is not None for module in self.network.linear.values())}

    def rebuild(self, state: dict[str, Any]) -> None:
        if state["quantised"]:
            self.network.quantise()

    @property
    def quantised(self) -> bool:
        """Whether the present stage has quantised weights."""
        return self.stages[self.stage][0] != "float"

    def prepare_stage(self) -> None:
        if self.quantised:
            self.network.quantise()

    def new_optimiser(self) -> torch.optim.Adam:
        slow = [p for module in self.network.linear.values() for p in module.quantiser.parameters()]
        known = {id(parameter) for parameter in slow}
        others = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        groups = [{"params": others, "factor": 1.0}, {"params": slow, "factor": SLOWER}]
        return torch.optim.Adam(groups, lr=self.rate(0.0))

    def rate(self, done: float) -> float:
        start = self.recipe.rate if self.quantised else self.recipe.float_rate
        return start * 0.5 * (1 + math.cos(math.pi * done / self.stages[self.stage][1]))

    def begin_epoch(self) -> None:
        self.network.begin_epoch(self.epoch, self.stages[self.stage][1])

    def loss(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        x = _moved(_batch(self.data.frames[chosen.numpy()], self.device), self.recipe.shift, generator)
        output = self.network(x) * LOGITS
        return F.cross_entropy(output, self.labels[chosen.to(self.device)], label_smoothing=self.recipe.smoothing)

    def accuracy(self, test: Frames) -> float:
        return evaluate(self.network, test, self.device)

    def finish(self) -> None:
        """Statistics of the BatchNorms from the weights as inference has them."""
        norms = [module.norm for module in self.network.linear.values() if module.norm is not None]
        self.network.eval()
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        size = self.recipe.batch
        order = torch.randperm(len(self.data), generator=generator_of(self.recipe.seed, len(self.stages), 0)).numpy()
        with torch.no_grad():
            for start in range(0, min(len(order), SETTLING * size), size):
                self.network(_batch(self.data.frames[order[start : start + size]], self.device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.network.eval()


def train(
    recipe: EventRecipe,
    data: Frames,
    test: Frames | None = None,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = True,
    device: str | None = None,
    progress: Callable[[EpochProgress], None] | None = None,
    log: Callable[[dict], None] | None = None,
    stop_after: int | None = None,
    say: Callable[[str], None] | None = None,
) -> Trained:
    """Train the network of a recipe on frames of events.

    Parameters, checkpoints and errors are those of `intsnn.models.qat.training.train`; an architecture that cannot
    spike is a `ConversionError` too.
    """
    run = _Run(recipe, data, chosen_device(device), checkpoint, resume)
    return Trained(run.through(test, progress, log, stop_after, say), recipe, run.history)
