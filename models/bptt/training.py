"""The training loop on frames of events: the same bits on every run and after every interruption (on the CPU).

All that is random in an epoch follows from (seed, stage, epoch), so a checkpoint holds no state of a generator. It is
written at the end of an epoch, beside its name and then renamed.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConversionError, DataNotFoundError, FormatError, ImportRefused
from ...hdf5 import _replacing as replacing
from ..architectures_trained import blueprint
from ..event_frames import frame_set
from .network import EventNetwork
from .recipes import EventRecipe

__all__ = ["Frames", "Progress", "Trained", "build", "evaluate", "load_frames", "one_thread", "scatter_norms", "train"]

VERSION = 1  # of the checkpoint
EVALUATION_BATCH = 250
SETTLING = 64  # batches from which the statistics of the BatchNorms are taken at the end
SLOWER = 0.02  # rate of alpha and beta: Adam takes whole steps along gradients that a BatchNorm makes almost nothing
LOGITS = 10.0  # mean currents are small against what a softmax needs


@dataclass(frozen=True, eq=False)
class Frames:
    """Binned recordings: `frames` (N, T, C, H, W) uint8, `labels` (N,) int64, the number of `classes`."""

    name: str
    frames: np.ndarray
    labels: np.ndarray
    classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, chosen: np.ndarray, name: str) -> Frames:
        """Some of the recordings."""
        return Frames(name, self.frames[chosen], self.labels[chosen], self.classes)


def load_frames(spec: str, recipe: EventRecipe) -> Frames:
    """Event data by name (`intsnn.models.event_data.load_events`), binned as the recipe says."""
    from ..event_data import load_events

    found = load_events(spec)
    return Frames(found.name, frame_set(found, **asdict(recipe.binning)), found.labels, len(found.classes))


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
    """Outcome of `train`: the network in evaluation mode, its recipe, and an entry for each epoch."""

    network: EventNetwork
    recipe: EventRecipe
    history: list[dict] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of training, over all its parts."""
        return sum(item["seconds"] for item in self.history)


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
    right = 0
    with torch.no_grad():
        for start in range(0, len(data), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            found = network(_batch(data.frames[part], torch.device(device))).argmax(1).cpu().numpy()
            right += int((found == data.labels[part]).sum())
    return 100.0 * right / max(1, len(data))


def _generator(seed: int, stage: int, epoch: int) -> torch.Generator:
    words = np.random.SeedSequence([seed, stage, epoch]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))


def _moved(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """All frames of a batch moved by up to `most` pixels, with nothing where they came from."""
    if most == 0:
        return x
    dy, dx = (int(n) - most for n in torch.randint(0, 2 * most + 1, (2,), generator=generator))
    padded = F.pad(x, (most, most, most, most))
    return padded[..., most - dy : most - dy + x.shape[-2], most - dx : most - dx + x.shape[-1]]


class _Run:
    """One training: its state, and how it is kept."""

    def __init__(self, recipe: EventRecipe, data: Frames, device: str, checkpoint: str | None, resume: bool) -> None:
        self.recipe, self.data, self.checkpoint = recipe, data, checkpoint
        self.device = torch.device(device)
        self.network = build(recipe, data.frames.shape[2:], data.classes).to(self.device)
        self.labels = torch.from_numpy(data.labels).to(self.device)
        self.history: list[dict] = []
        self.stage, self.epoch = 0, 0
        self.optimiser: torch.optim.Adam | None = None
        if resume and checkpoint and os.path.exists(checkpoint):
            self._resume(checkpoint)

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
            "quantised": any(module.quantiser.bits is not None for module in self.network.linear.values()),
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
        different = [name for name in own if own[name] != identity.get(name)]
        if different:
            raise FormatError(
                f"{path} belongs to another training ({', '.join(different)} differ); give another file or start anew"
            )
        self.stage, self.epoch, self.history = state["stage"], state["epoch"], json.loads(state["history"])
        if state["quantised"]:
            self.network.quantise()
        self.network.load_state_dict(state["network"])
        if state["optimiser"] is not None:
            self.optimiser = self._optimiser()
            self.optimiser.load_state_dict(state["optimiser"])

    def _optimiser(self) -> torch.optim.Adam:
        slow = [p for module in self.network.linear.values() for p in module.quantiser.parameters()]
        known = {id(parameter) for parameter in slow}
        others = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        groups = [{"params": others, "factor": 1.0}, {"params": slow, "factor": SLOWER}]
        return torch.optim.Adam(groups, lr=self.rate(0.0))

    @property
    def quantised(self) -> bool:
        """Whether the present stage has quantised weights."""
        return self.recipe.stages[self.stage][0] != "float"

    def rate(self, done: float) -> float:
        """Learning rate after `done` epochs of the stage."""
        start = self.recipe.rate if self.quantised else self.recipe.float_rate
        return start * 0.5 * (1 + math.cos(math.pi * done / self.recipe.stages[self.stage][1]))

    def begin_stage(self) -> None:
        """Quantise where the stage says so; a new optimiser."""
        if self.quantised:
            self.network.quantise()
        self.optimiser = self._optimiser()

    def run_epoch(self, tell: Callable[[int, int, float], None]) -> float:
        """One pass over the training data; the mean loss."""
        optimiser, (stage, epochs) = self.optimiser, self.recipe.stages[self.stage]
        if optimiser is None:
            raise RuntimeError("a stage has to begin before its epochs")
        generator = _generator(self.recipe.seed, self.stage, self.epoch)
        torch.manual_seed(int(torch.randint(0, 2**62, (1,), generator=generator)))  # dropout
        order = torch.randperm(len(self.data), generator=generator).numpy()
        batches = max(1, len(order) // self.recipe.batch)  # an incomplete last batch is left out
        total = torch.zeros((), device=self.device)
        self.network.train()
        self.network.begin_epoch(self.epoch, epochs)
        for batch in range(batches):
            for group in optimiser.param_groups:
                group["lr"] = group["factor"] * self.rate(self.epoch + batch / batches)
            chosen = order[batch * self.recipe.batch : (batch + 1) * self.recipe.batch]
            x = _moved(_batch(self.data.frames[chosen], self.device), self.recipe.shift, generator)
            output = self.network(x) * LOGITS
            loss = F.cross_entropy(output, self.labels[chosen], label_smoothing=self.recipe.smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += loss.detach()
            if batch % 20 == 19 or batch == batches - 1:
                mean = float(total) / (batch + 1)
                if not math.isfinite(mean):
                    raise ConversionError(
                        f"recipe {self.recipe.name!r}: the loss is {mean} in stage {stage!r}, epoch {self.epoch + 1}; "
                        "lower its learning rate"
                    )
                tell(batch + 1, batches, mean)
        return float(total) / batches

    def settle_norms(self) -> None:
        """Statistics of the BatchNorms from the weights as inference has them."""
        norms = [module.norm for module in self.network.linear.values() if module.norm is not None]
        self.network.eval()
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        size = self.recipe.batch
        order = torch.randperm(
            len(self.data), generator=_generator(self.recipe.seed, len(self.recipe.stages), 0)
        ).numpy()
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
    progress: Callable[[Progress], None] | None = None,
    log: Callable[[dict], None] | None = None,
    stop_after: int | None = None,
) -> Trained:
    """Train the network of a recipe.

    Parameters
    ----------
    recipe : EventRecipe
    data : Frames
        What is learned.
    test : Frames, optional
        Measured at the end of each stage. Nothing is chosen by it.
    checkpoint : path-like, optional
        Written after every epoch. With `resume`, a training that it belongs to goes on from there, and on the CPU with
        as many threads the result is the same as without the interruption, bit for bit.
    device : str, optional
        ``"cpu"`` or ``"cuda"``; default: a GPU that is there.
    progress, log : callable, optional
        Called with a `Progress` during, and with the entry of the history after each epoch.
    stop_after : int, optional
        Return after this many epochs of this call, finished or not.

    Raises
    ------
    ConversionError
        A loss that is not finite, an architecture that cannot spike.
    FormatError, ImportRefused
        A checkpoint of another training, or one that cannot be read.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.startswith("cuda") and not torch.cuda.is_available():
        raise DataNotFoundError("torch finds no GPU here; leave the device out or give cpu")
    run = _Run(recipe, data, device, os.fspath(checkpoint) if checkpoint else None, resume)
    begun, done = time.monotonic(), 0
    stages = recipe.stages
    remaining = sum(epochs for _, epochs in stages[run.stage :]) - run.epoch
    while run.stage < len(stages) and (stop_after is None or done < stop_after):
        name, epochs = stages[run.stage]
        if run.optimiser is None:
            run.begin_stage()
        started = time.monotonic()

        def tell(
            batch: int, batches: int, loss: float, name: str = name, epochs: int = epochs, done: int = done
        ) -> None:
            if progress is not None:
                part = done + batch / batches
                left = (time.monotonic() - begun) / part * (remaining - part)
                progress(Progress(name, run.epoch, epochs, batch, batches, loss, left))

        loss = run.run_epoch(tell)
        run.epoch += 1
        last = run.epoch == epochs
        if last and run.stage == len(stages) - 1:
            run.settle_norms()
        entry = {
            "stage": run.stage, "name": name, "epoch": run.epoch, "loss": loss,
            "accuracy": evaluate(run.network, test, run.device) if last and test is not None else None,
            "seconds": time.monotonic() - started,
        }  # fmt: skip
        run.history.append(entry)
        if last:
            run.stage, run.epoch, run.optimiser = run.stage + 1, 0, None
        done += 1
        run.save()
        if log is not None:
            log(entry)
    return Trained(run.network.to("cpu").eval(), recipe, run.history)
