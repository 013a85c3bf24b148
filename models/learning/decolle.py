"""The loop of integer learning: from a recipe to weights, the same bits on every run and after every interruption.

All that is random follows from (seed, epoch, sample, step), and a checkpoint holds the traces of the batch at hand.
It may therefore be written between any two steps; a run that is killed anywhere ends in the same weights.
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ...errors import FormatError, ImportRefused, RangeError, ShapeError
from ...kernels.learning.parameters import COUNTERS, LOSS, P_CLIPPED, Q_CLIPPED, SPIKES, U_CLIPPED, W_CHANGED, W_CLIPPED
from ...learning.files import load, save
from ...learning.learner import Learner, LearningNetwork, State
from ..training.checkpoints import SAMPLES, check_identity, goes_on, samples_sha256
from .decolle_recipes import Recipe
from .sequences import Sequences, order

__all__ = ["SequenceProgress", "Steps", "Trained", "Training", "network_of", "right_answers", "test_accuracy", "train"]

SATURATIONS = {"membrane_trace": P_CLIPPED, "synapse_trace": Q_CLIPPED, "state": U_CLIPPED, "weight": W_CLIPPED}


class Steps:
    """How far something is that counts its learning steps."""

    step: int
    steps: int

    @property
    def part(self) -> float:
        """Share of the whole that is done."""
        return self.step / max(1, self.steps)


@dataclass(frozen=True)
class SequenceProgress(Steps):
    """Where a training is. `accuracy` is that of the epoch so far, in per cent of the sequences that were finished."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    step: int
    steps: int
    loss: float
    accuracy: float | None
    changed: int
    saturations: int
    left: float | None
    stage: str = "learning"

    @property
    def note(self) -> str:
        """What a line of progress says."""
        text = f"loss {self.loss:.4f}"
        if self.accuracy is not None:
            text += f"  train {self.accuracy:.1f} %"
        return text + f"  {self.changed:,} weight changes  {self.saturations:,} saturations"


@dataclass(eq=False)
class Trained:
    """Outcome of `train`.

    Attributes
    ----------
    learner : Learner
    history : list of dict
        For each epoch: `Training.entry`.
    accuracies : list of float
        Per cent of the test set by the readout of each layer; the last is that of the network.
    totals : (layers, COUNTERS) int64
        Counters of the whole training.
    seconds : float
        Of this call.
    """

    learner: Learner
    history: list[dict[str, Any]]
    accuracies: list[float]
    totals: np.ndarray
    seconds: float

    @property
    def accuracy(self) -> float:
        return self.accuracies[-1]


def network_of(chosen: Recipe, data: Sequences) -> LearningNetwork:
    """The network of a recipe for its data."""
    return LearningNetwork(data.shape, chosen.layers, data.classes, chosen.rule)


def test_accuracy(learner: Learner, data: Sequences, batch: int) -> list[float]:
    """Per cent of `data` that each layer's readout gets right by the vote of all steps; ties go to the first class."""
    return [100.0 * int(count) / len(data) for count in right_answers(learner, data, batch)]


def right_answers(learner: Learner, data: Sequences, batch: int) -> np.ndarray:
    """How many of `data` each layer's readout gets right, ``(layers,)`` int64."""
    right = np.zeros(len(learner.layers), np.int64)
    for start in range(0, len(data), batch):
        indices = np.arange(start, min(start + batch, len(data)))
        votes = learner.votes(data.frames(indices, 0), first_sample=start)
        right += (votes.argmax(2) == data.labels[indices]).sum(1)
    return right


@dataclass(eq=False)
class Training:
    """One training: where it is, and what it counted."""

    chosen: Recipe
    data: Sequences
    learner: Learner
    epoch: int = 0
    batch: int = 0
    state: State | None = None
    votes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    tally: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        layers, size = len(self.learner.layers), min(self.chosen.batch, len(self.data))
        self.size = size
        self.batches = len(self.data) // size  # an incomplete last batch is left out
        self.votes = np.zeros((layers, size, self.data.classes), np.int64)
        # of the epoch, by layer: counters, then finished sequences, those of them that were right, judged steps
        self.tally = np.zeros((layers, COUNTERS + 3), np.int64)
        self.totals = np.zeros((layers, COUNTERS), np.int64)
        self._order: tuple[int, np.ndarray] | None = None
        self._frames: np.ndarray | None = None

    @property
    def steps_of_an_epoch(self) -> int:
        return self.batches * self.chosen.steps

    def indices(self) -> np.ndarray:
        """Samples of the batch at hand."""
        if self._order is None or self._order[0] != self.epoch:
            self._order = self.epoch, order(len(self.data), self.chosen.seed, self.epoch)
        return self._order[1][self.batch * self.size : (self.batch + 1) * self.size]

    def step(self) -> bool:
        """One learning step; whether it was the last of an epoch, which `close` then ends."""
        indices = self.indices()
        if self._frames is None:
            self._frames = self.data.frames(indices, self.epoch)
        if self.state is None:
            self.state = self.learner.begin(self.size)
            self.votes[:] = 0
        t = self.state.t
        labels = self.data.labels[indices]
        shift = self.chosen.schedule.shift(self.epoch)
        outcome = self.learner.learn(self.state, self._frames[t], labels, shift)
        self.tally[:, :COUNTERS] += outcome.counters
        self.totals += outcome.counters
        if t >= self.chosen.rule.burn_in:
            self.tally[:, COUNTERS + 2] += self.size
            rows = np.arange(self.size)
            for votes, predicted in zip(self.votes, outcome.predictions, strict=True):
                votes[rows, predicted] += 1
        if t + 1 < self.chosen.steps:
            return False
        self.tally[:, COUNTERS] += self.size
        self.tally[:, COUNTERS + 1] += (self.votes.argmax(2) == labels).sum(1)
        self.state, self._frames = None, None
        self.batch += 1
        return self.batch == self.batches

    def close(self, accuracies: list[float] | None) -> dict[str, Any]:
        """End an epoch; what goes into the history."""
        entry = self.entry() | {"test": accuracies}
        self.history.append(entry)
        self.epoch, self.batch = self.epoch + 1, 0
        self.tally[:] = 0
        return entry

    def entry(self) -> dict[str, Any]:
        """Figures of the epoch so far: counts are of all layers, ``train`` and ``loss`` of each."""
        half = 1 << self.chosen.rule.widths.activation - 1
        judged, finished = self.tally[:, COUNTERS + 2], self.tally[:, COUNTERS]
        loss = self.tally[:, LOSS] / np.maximum(judged, 1) / (8 * half * half)
        return {
            "epoch": self.epoch + 1,
            "steps": self.learner.steps,
            "loss": [float(value) for value in loss],
            "train": [100.0 * int(r) / int(n) for r, n in zip(self.tally[:, COUNTERS + 1], finished, strict=True) if n],
            "changed": int(self.tally[:, W_CHANGED].sum()),
            "spikes": int(self.tally[:, SPIKES].sum()),
            "saturations": {name: int(self.tally[:, which].sum()) for name, which in SATURATIONS.items()},
            "rate_shift": self.chosen.schedule.shift(self.epoch),
        }

    @cached_property
    def _samples(self) -> str:
        return samples_sha256(self.data)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        """All that decides the result, but for the number of steps."""
        own = self.chosen.to_json()
        for name in ("name", "note", "data", "test", "test_steps", "test_batch", "epochs"):
            own.pop(name)
        return own | {"data": self.data.name, "samples": len(self.data), SAMPLES: self._samples}

    def save(self, path: str) -> None:
        """Write the checkpoint, all or nothing."""
        facts = {
            "identity": self.identity(), "epoch": self.epoch, "batch": self.batch, "history": self.history,
        }  # fmt: skip
        extra = {"votes": self.votes, "tally": self.tally, "totals": self.totals}
        save(path, self.learner, self.state, facts, extra)

    def resume(self, path: str) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        ImportRefused
            A file that is no checkpoint.
        FormatError
            One of another training.
        """
        saved = load(path)
        others = [name for name in ("network", "seed") if getattr(saved, name) != getattr(self.learner, name)]
        check_identity(path, self.identity(), saved.facts.get("identity"), others)
        try:
            self.epoch, self.batch = int(saved.facts["epoch"]), int(saved.facts["batch"])
            self.history = list(saved.facts["history"])
            for name in ("votes", "tally", "totals"):
                getattr(self, name)[:] = saved.extra[name]
            saved.restore(self.learner)
            self.state = saved.state(self.learner)
        except (FormatError, KeyError, TypeError, ValueError) as error:
            raise ImportRefused(f"{path} is no checkpoint that can be read: {error}", code="field") from None
        done = (self.epoch * self.batches + self.batch) * self.chosen.steps + (self.state.t if self.state else 0)
        if done != self.learner.steps:
            raise ImportRefused(f"{path} is no checkpoint that can be read: its counts disagree", code="range")


def train(
    chosen: Recipe,
    data: Sequences,
    test: Sequences,
    *,
    steps: int | None = None,
    threads: int = 1,
    checkpoint: str | None = None,
    resume: bool = True,
    save_every: float = 60.0,
    progress: Callable[[SequenceProgress], None] | None = None,
    log: Callable[[dict[str, Any]], None] | None = None,
    say: Callable[[str], None] | None = None,
    path: str = "compiled",
) -> Trained:
    """Train by a recipe, with integers only.

    Parameters
    ----------
    chosen : Recipe
    data, test : Sequences
        Nothing is chosen by the test data.
    steps : int, optional
        So many learning steps, instead of the epochs of the recipe; an epoch may be cut short.
    threads : int
        Never changes a bit.
    checkpoint : str, optional
        Written every `save_every` seconds, at the end of an epoch and at the end. With `resume`, a training that it
        belongs to goes on from there to the same bits, with any number of threads.
    progress : callable, optional
        Called with a `SequenceProgress` a few times a second.
    log : callable, optional
        Called with the entry of the history after each epoch.
    say : callable, optional
        Called with a line where a training goes on.
    path : {"compiled", "reference"}

    Raises
    ------
    ShapeError
        Test data of another shape than the training data.
    RangeError
        So many steps that a counter could leave 64 bits.
    FormatError, ImportRefused
        A checkpoint of another training, or one that cannot be read.
    """
    if test.shape != data.shape or test.classes != data.classes:
        raise ShapeError(
            f"data {test.name}: {test.shape} with {test.classes} classes; {data.name} has {data.shape} with "
            f"{data.classes}"
        )
    began = time.monotonic()
    work = Training(chosen, data, Learner(network_of(chosen, data), chosen.seed, threads, path))
    if checkpoint:
        _sweep(checkpoint)
        if resume and os.path.exists(checkpoint):
            work.resume(checkpoint)
            if say is not None:
                say(goes_on(checkpoint, f"{work.learner.steps:,} learning steps", work.identity()))
    goal = steps if steps is not None else chosen.epochs * work.steps_of_an_epoch
    _check_totals(work, goal)
    first, saved, told = work.learner.steps, time.monotonic(), 0.0
    accuracies: list[float] | None = None
    while work.learner.steps < goal:
        accuracies = None
        if work.step():
            number = work.epoch + 1
            if number == chosen.epochs or (chosen.tests_every and number % chosen.tests_every == 0):
                accuracies = test_accuracy(work.learner, test, chosen.test_batch)
            entry = work.close(accuracies)
            if log is not None:
                log(entry)
            saved = -save_every  # now
        now = time.monotonic()
        if checkpoint and now - saved >= save_every:
            work.save(checkpoint)
            saved = now
        if progress is not None and now - told > 0.2:
            told = now
            progress(_progress(work, goal, first, now - began))
    if checkpoint and work.learner.steps > first:
        work.save(checkpoint)
    if accuracies is None:
        accuracies = test_accuracy(work.learner, test, chosen.test_batch)
    return Trained(work.learner, work.history, accuracies, work.totals, time.monotonic() - began)


def _check_totals(work: Training, goal: int) -> None:
    """Refuse a training whose counters could leave 64 bits, before it begins."""
    half = 1 << work.chosen.rule.widths.activation - 1
    for index, constants in enumerate(work.learner.constants):
        c = constants.parameters
        each = max(
            constants.neurons * c.u_max, constants.outputs * int(constants.table.max()), constants.inputs,
            work.data.classes * (2 * half) ** 2, constants.neurons * constants.inputs,
        )  # fmt: skip
        if goal * work.size * each >= 1 << 63:
            raise RangeError(
                f"recipe {work.chosen.name!r}: {goal:,} steps of {work.size:,} sequences may count up to "
                f"{goal * work.size * each} in layer {index}, which leaves 64 bits; take fewer steps or narrower widths"
            )


def _progress(work: Training, goal: int, first: int, seconds: float) -> SequenceProgress:
    done = work.learner.steps - first
    entry = work.entry() if work.tally.any() or not work.history else work.history[-1]
    return SequenceProgress(
        epoch=work.epoch,
        epochs=-(-goal // work.steps_of_an_epoch),
        batch=work.batch,
        batches=work.batches,
        step=work.learner.steps,
        steps=goal,
        loss=entry["loss"][-1],
        accuracy=entry["train"][-1] if entry["train"] else None,
        changed=entry["changed"],
        saturations=sum(entry["saturations"].values()),
        left=seconds / done * (goal - work.learner.steps) if done else None,
    )


def _sweep(checkpoint: str) -> None:
    """Remove what a killed run left beside its checkpoint."""
    folder, name = os.path.split(os.path.abspath(checkpoint))
    for left in glob.glob(os.path.join(glob.escape(folder), glob.escape(f".{name}.") + "*.tmp")):
        with contextlib.suppress(OSError):
            os.unlink(left)
