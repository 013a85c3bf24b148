"""What every training with torch shares: stages and epochs, checkpoints, the same bits on every run (on the CPU).

All that is random in an epoch follows from (seed, stage, epoch), so a checkpoint holds no state of a generator. It is
written at the end of an epoch, beside its name and then renamed; a run that is killed loses one epoch at most.
"""

from __future__ import annotations

import json
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import ConversionError, DataNotFoundError, ImportRefused
from ...support.atomic import replacing
from .checkpoints import SAMPLES, check_identity, goes_on, samples_sha256

__all__ = ["Outcome", "EpochProgress", "Run", "chosen_device", "generator_of"]

VERSION = 1  # of the checkpoint
DAMAGED = (AttributeError, KeyError, TypeError, ValueError, RuntimeError)  # what its fields can cause; torch: the last

AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)
AnyRecipe = TypeVar("AnyRecipe")


@dataclass(frozen=True)
class EpochProgress:
    """Where a training is; `left` are seconds, None until there is an estimate. `loss` is the mean of the epoch."""

    stage: str
    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    left: float | None

    @property
    def part(self) -> float:
        """Share of the stage that is done, 0 to 1."""
        return (self.epoch + self.batch / self.batches) / self.epochs

    @property
    def note(self) -> str:
        """What a line of progress says."""
        return f"loss {self.loss:.4f}"


@dataclass(eq=False)
class Outcome(Generic[AnyNetwork, AnyRecipe]):
    """A network that was trained, in evaluation mode, its recipe, and an entry for each epoch."""

    network: AnyNetwork
    recipe: AnyRecipe
    history: list[dict] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of training, over all its parts."""
        return sum(item["seconds"] for item in self.history)


def generator_of(seed: int, stage: int, epoch: int) -> torch.Generator:
    """The generator of one epoch."""
    words = np.random.SeedSequence([seed, stage, epoch]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))


def chosen_device(name: str | None) -> str:
    """The device of that name; by default a GPU that is there.

    Raises
    ------
    DataNotFoundError
        A GPU that is not there.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DataNotFoundError("torch finds no GPU here; leave the device out or give cpu")
    return name


class Run(ABC, Generic[AnyNetwork]):
    """One training: where it is, how it goes on, and how it is kept.

    Parameters
    ----------
    recipe : dataclass
        With ``name``, ``seed`` and ``batch``.
    data : sized
        With a ``name``; what is learned.
    network : nn.Module
        As it is before training.
    stages : sequence of (str, int)
        Name and epochs of each.
    device : torch.device
    checkpoint : path-like or None
    """

    def __init__(
        self, recipe: Any, data: Any, network: AnyNetwork, stages: Sequence[tuple[str, int]],
        device: torch.device, checkpoint: str | os.PathLike[str] | None,
    ) -> None:  # fmt: skip
        self.recipe, self.data, self.network = recipe, data, network
        self.stages, self.device = stages, device
        self.checkpoint = os.fspath(checkpoint) if checkpoint else None
        self.history: list[dict] = []
        self.stage, self.epoch = 0, 0
        self.optimiser: torch.optim.Optimizer | None = None
        self.resumed = ""  # what is to be said where it goes on from a checkpoint

    # -- what a kind of training adds ----------------------------------------------------------------------------------

    @abstractmethod
    def prepare_stage(self) -> None:
        """Make the network that of the present stage, before its first epoch."""

    @abstractmethod
    def new_optimiser(self) -> torch.optim.Optimizer:
        """The optimiser of the present stage; a group with a ``factor`` learns at so many times the rate."""

    @abstractmethod
    def rate(self, done: float) -> float:
        """Learning rate after `done` epochs of the stage."""

    @abstractmethod
    def begin_epoch(self) -> None:
        """What changes from epoch to epoch."""

    @abstractmethod
    def loss(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of the samples with the numbers `chosen` (on the CPU)."""

    @abstractmethod
    def finish(self) -> None:
        """What is done to the network after its last epoch, before it is measured and kept."""

    @abstractmethod
    def accuracy(self, test: Any) -> float:
        """Per cent of `test` that is right."""

    def extra(self) -> dict[str, Any]:
        """More fields of a checkpoint."""
        return {}

    def completed(self, kept: object) -> object:
        """The recipe of a checkpoint, as this version would have written it."""
        return kept

    @abstractmethod
    def rebuild(self, state: dict[str, Any]) -> None:
        """Give the network the parts that it had when the checkpoint `state` was written."""

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    @cached_property
    def _samples(self) -> str:
        return samples_sha256(self.data)

    def _identity(self) -> str:
        """What a checkpoint belongs to: all that decides the result."""
        identity = {"recipe": asdict(self.recipe), "data": self.data.name, "samples": len(self.data)}
        identity[SAMPLES] = self._samples
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
            **self.extra(),
            "history": json.dumps(self.history),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict() if self.optimiser is not None else None,
        }
        with replacing(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def resume(self) -> None:
        """Go on from the checkpoint if there is one.

        Raises
        ------
        ImportRefused
            A file that is no checkpoint.
        FormatError
            One of another training.
        """
        path = self.checkpoint
        if not path or not os.path.exists(path):
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            version, identity = state["version"], json.loads(state["identity"])
        except Exception as error:
            raise ImportRefused(f"{path} is no checkpoint that can be read: {type(error).__name__}") from error
        if version != VERSION:
            raise ImportRefused(f"{path} is a checkpoint of version {version}; this intsnn reads {VERSION}")
        if isinstance(identity, dict):
            identity["recipe"] = self.completed(identity.get("recipe"))
        check_identity(path, json.loads(self._identity()), identity)
        try:
            self._restore(state)
        except DAMAGED as error:
            raise ImportRefused(f"{path} is no checkpoint that can be read: {error}", code="field") from error
        self.resumed = goes_on(path, f"{len(self.history)} epochs", json.loads(self._identity()))

    def _restore(self, state: dict[str, Any]) -> None:
        """Be where the checkpoint `state` was written."""
        self.stage, self.epoch, self.history = int(state["stage"]), int(state["epoch"]), json.loads(state["history"])
        self.rebuild(state)
        self.network.load_state_dict(state["network"])
        if state["optimiser"] is not None:
            self.optimiser = self.new_optimiser()
            self.optimiser.load_state_dict(state["optimiser"])

    # -- work ----------------------------------------------------------------------------------------------------------

    def _run_epoch(self, optimiser: torch.optim.Optimizer, tell: Callable[[int, int, float], None]) -> float:
        """One pass over the training data; the mean loss."""
        generator = generator_of(self.recipe.seed, self.stage, self.epoch)
        torch.manual_seed(int(torch.randint(0, 2**62, (1,), generator=generator)))  # dropout
        order = torch.randperm(len(self.data), generator=generator)
        size = self.recipe.batch
        batches = max(1, len(order) // size)  # an incomplete last batch is left out
        total = torch.zeros((), device=self.device)
        self.network.train()
        self.begin_epoch()
        for batch in range(batches):
            rate = self.rate(self.epoch + batch / batches)
            for group in optimiser.param_groups:
                group["lr"] = group.get("factor", 1.0) * rate
            loss = self.loss(order[batch * size : (batch + 1) * size], generator)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += loss.detach()
            if batch % 20 == 19 or batch == batches - 1:
                mean = float(total) / (batch + 1)
                if not math.isfinite(mean):
                    raise ConversionError(
                        f"recipe {self.recipe.name!r}: the loss is {mean} in stage {self.stages[self.stage][0]!r}, "
                        f"epoch {self.epoch + 1}; lower its learning rate"
                    )
                tell(batch + 1, batches, mean)
        return float(total) / batches

    def through(
        self,
        test: Any = None,
        progress: Callable[[EpochProgress], None] | None = None,
        log: Callable[[dict], None] | None = None,
        stop_after: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> AnyNetwork:
        """All that is left, or `stop_after` epochs of it; the network on the CPU in evaluation mode.

        `test` is measured at the end of each stage; `progress` is called during, `log` with the entry of the history
        after each epoch, `say` with a line where it goes on from a checkpoint.
        """
        done, start = 0, time.monotonic()
        remaining = sum(epochs for _, epochs in self.stages[self.stage :]) - self.epoch
        if self.resumed and say is not None:
            say(self.resumed)
        while self.stage < len(self.stages) and (stop_after is None or done < stop_after):
            name, epochs = self.stages[self.stage]
            if self.optimiser is None:
                self.prepare_stage()
                self.optimiser = self.new_optimiser()
            began = time.monotonic()

            def tell(
                batch: int, batches: int, loss: float, name: str = name, epochs: int = epochs, done: int = done
            ) -> None:
                if progress is not None:
                    part = done + batch / batches
                    left = (time.monotonic() - start) / part * (remaining - part)
                    progress(EpochProgress(name, self.epoch, epochs, batch, batches, loss, left))

            loss = self._run_epoch(self.optimiser, tell)
            self.epoch += 1
            last = self.epoch == epochs
            if last and self.stage == len(self.stages) - 1:
                self.finish()
            entry = {
                "stage": self.stage, "name": name, "epoch": self.epoch, "loss": loss,
                "accuracy": self.accuracy(test) if last and test is not None else None,
                "seconds": time.monotonic() - began,
            }  # fmt: skip
            self.history.append(entry)
            if last:
                self.stage, self.epoch, self.optimiser = self.stage + 1, 0, None
            done += 1
            self.save()
            if log is not None:
                log(entry)
        return self.network.to("cpu").eval()
