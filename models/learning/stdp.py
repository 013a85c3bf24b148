"""Images learned by spike-timing plasticity, integers only: the same bits on every run and after every interruption."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ...errors import ImportRefused
from ...files.hdf5 import read_tree, write_tree
from ...kernels.learning.parameters import DRAW_START, PAIR_CHANGED, PAIR_CLIPPED, PAIR_COUNTERS
from ...learning.stdp import Plasticity
from ..training.checkpoints import SAMPLES, check_identity, goes_on, samples_sha256
from .decolle import Steps
from .sequences import RateSequences, order, words
from .stdp_recipes import StdpRecipe, pair_rule

__all__ = ["PairProgress", "Training", "answers", "responses", "shares", "train"]

FORMAT = "intsnn-stdp"


@dataclass(frozen=True)
class PairProgress(Steps):
    """Where a training is."""

    epoch: int
    epochs: int
    step: int
    steps: int
    fired: int
    changed: int
    left: float | None
    stage: str = "learning"

    @property
    def note(self) -> str:
        """What a line of progress says."""
        return f"{self.fired:,} spikes  {self.changed:,} weight changes"


@dataclass(eq=False)
class Training:
    """One layer that learns: weights in `synapse`, thresholds above `threshold` in `adaptation`, and where it is."""

    chosen: StdpRecipe
    data: RateSequences
    path: str = "compiled"
    epoch: int = 0
    batch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        c = self.chosen
        inputs = int(np.prod(self.data.shape))
        drawn = words(inputs * c.neurons, c.seed, 0, DRAW_START)
        top = (1 << c.weight_bits) - 1
        start = ((drawn >> np.uint64(32)) * np.uint64(top) >> np.uint64(33)).astype(np.int64)  # the lower half
        self.size = min(c.batch, len(self.data))
        self.batches = len(self.data) // self.size
        self.synapse = Plasticity(pair_rule(c), start.reshape(inputs, c.neurons), self.size, c.seed, path=self.path)
        self.adaptation = np.zeros(c.neurons, np.int64)
        self.fired = 0

    @property
    def steps(self) -> int:
        return self.synapse.steps

    def present(self) -> None:
        """Learn one batch of images."""
        c = self.chosen
        indices = order(len(self.data), c.seed, self.epoch)[self.batch * self.size : (self.batch + 1) * self.size]
        frames = self.data.frames(indices, self.epoch)
        v = np.zeros((self.size, c.neurons), np.int64)
        self.synapse.begin()
        for frame in frames.reshape(c.steps, self.size, -1):
            spikes = compete(v, frame, self.synapse.weight, c, self.adaptation)
            self.synapse.step(frame, spikes)
            self.adaptation += spikes.sum(0, dtype=np.int64) * c.adapt_up
            self.fired += int(spikes.sum())
        for _ in range(self.size):
            self.adaptation -= self.adaptation >> c.adapt_shift
        self.batch += 1
        if self.batch == self.batches:
            counters = self.synapse.counters
            self.history.append(
                {
                    "epoch": self.epoch + 1, "steps": self.steps, "fired": self.fired,
                    "changed": int(counters[PAIR_CHANGED]), "saturations": int(counters[PAIR_CLIPPED]),
                }
            )  # fmt: skip
            self.epoch, self.batch = self.epoch + 1, 0

    def weights_sha256(self) -> str:
        """Digest of weights and adaptation."""
        return hashlib.sha256(
            self.synapse.weights_sha256().encode() + self.adaptation.astype("<i8").tobytes()
        ).hexdigest()

    @cached_property
    def _samples(self) -> str:
        return samples_sha256(self.data)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        """All that decides the result, but for the number of epochs."""
        own = asdict(self.chosen)
        for name in ("name", "note", "data", "test", "epochs"):
            own.pop(name)
        return own | {"data": self.data.name, "samples": len(self.data), SAMPLES: self._samples}

    def save(self, path: str, share: np.ndarray | None = None, learned: Mapping[str, Any] | None = None) -> None:
        """Write the checkpoint, all or nothing; at the end with what the neurons stand for and facts to keep."""
        facts: dict[str, Any] = {
            "format": FORMAT, "version": 1, "identity": self.identity(), "epoch": self.epoch, "batch": self.batch,
            "fired": self.fired, "history": self.history, "steps": self.steps, "sha256": self.weights_sha256(),
        } | ({} if learned is None else {"learned": dict(learned)})  # fmt: skip
        text = np.frombuffer(json.dumps(facts, sort_keys=True).encode(), np.uint8)
        arrays = {"weight": self.synapse.weight, "adaptation": self.adaptation, "counters": self.synapse.counters}
        if share is not None:
            arrays["share"] = share
        write_tree(path, {"description": text, **arrays})

    def resume(self, path: str) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        ImportRefused
            A file that is no checkpoint.
        FormatError
            One of another training.
        """
        tree = read_tree(path)
        damaged = (AttributeError, KeyError, TypeError, ValueError, RecursionError)
        try:
            facts = json.loads(np.asarray(tree.datasets["description"], np.uint8).tobytes())
            if facts["format"] != FORMAT or facts["version"] != 1:
                raise ValueError("another format")
        except damaged as error:
            raise ImportRefused(f"{path} is no checkpoint that can be read: {error}", code="field") from None
        check_identity(path, self.identity(), facts.get("identity"))
        try:
            self._restore(tree.datasets, facts)
        except damaged as error:
            raise ImportRefused(f"{path} is no checkpoint that can be read: {error}", code="field") from None

    def _restore(self, arrays: Mapping[str, Any], facts: dict[str, Any]) -> None:
        """Be where `save` was called."""
        self.synapse.weight[:] = arrays["weight"]
        self.adaptation[:] = arrays["adaptation"]
        self.synapse.counters[:PAIR_COUNTERS] = arrays["counters"]
        self.synapse.steps, self.fired = int(facts["steps"]), int(facts["fired"])
        self.epoch, self.batch, self.history = int(facts["epoch"]), int(facts["batch"]), list(facts["history"])
        if self.weights_sha256() != facts["sha256"]:
            raise ValueError("its weights are not those whose digest it states")


def compete(v, frame, weight, c: StdpRecipe, adaptation) -> np.ndarray:
    """Spikes ``(B, neurons)`` uint8 of one step; `v` moves on. At most one neuron of a sample fires."""
    v -= v >> c.leak_shift
    for b, row in enumerate(frame):
        v[b] += weight[np.flatnonzero(row)].sum(0, dtype=np.int64)  # the frame is 0 or 1
    above = v - (c.threshold + adaptation)
    winner = above.argmax(1)
    rows = np.arange(len(v))
    fires = above[rows, winner] >= 0
    spikes = np.zeros(v.shape, np.uint8)
    spikes[rows[fires], winner[fires]] = 1
    v[fires] = 0
    return spikes


def responses(
    c: StdpRecipe, weight: np.ndarray, adaptation: np.ndarray, data: RateSequences, count: int | None = None
) -> np.ndarray:
    """Spikes of each neuron for each of the first `count` images, ``(N, neurons)``, without learning."""
    found = []
    total = len(data) if count is None else min(count, len(data))
    for start in range(0, total, 100):
        indices = np.arange(start, min(start + 100, total))
        frames = data.frames(indices, 0)
        v = np.zeros((len(indices), c.neurons), np.int64)
        spikes = np.zeros(v.shape, np.int64)
        for frame in frames.reshape(c.steps, len(indices), -1):
            spikes += compete(v, frame, weight, c, adaptation)
        found.append(spikes)
    return np.concatenate(found)


def shares(work: Training, samples: int = 2000) -> np.ndarray:
    """What the spikes of a neuron count for a class, in 1 / 1024: ``(classes, neurons)`` int64.

    By the responses to the first `samples` training images; 0 for all classes where a neuron never fires.
    """
    labels = work.data.labels[:samples]
    seen = responses(work.chosen, work.synapse.weight, work.adaptation, work.data, samples)
    classes = work.data.classes
    by_class = np.stack([seen[labels == k].sum(0) for k in range(classes)])  # (classes, neurons)
    present = np.maximum(np.bincount(labels, minlength=classes), 1)
    even = (by_class << 20) // present[:, None]  # classes are not equally frequent
    return (even << 10) // np.maximum(even.sum(0), 1)


def answers(
    c: StdpRecipe, weight: np.ndarray, adaptation: np.ndarray, share: np.ndarray, data: RateSequences
) -> np.ndarray:
    """The class of each image, ``(N,)``: that with the greatest sum of spikes times shares."""
    return (responses(c, weight, adaptation, data) @ share.T).argmax(1)


def train(
    chosen: StdpRecipe,
    data: RateSequences,
    *,
    steps: int | None = None,
    checkpoint: str | None = None,
    resume: bool = True,
    save_every: float = 60.0,
    progress: Callable[[PairProgress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Training:
    """Train by a recipe; `steps` is rounded up to whole batches. The others are those of `decolle_training.train`."""
    work = Training(chosen, data)
    if checkpoint and resume and os.path.exists(checkpoint):
        work.resume(checkpoint)
        if say is not None:
            say(goes_on(checkpoint, f"{work.steps:,} steps", work.identity()))
    goal = steps if steps is not None else chosen.epochs * work.batches * chosen.steps
    began, first = time.monotonic(), work.steps
    saved, told = began, 0.0
    while work.steps < goal:
        work.present()
        now = time.monotonic()
        if checkpoint and now - saved >= save_every:
            work.save(checkpoint)
            saved = now
        if progress is not None and now - told > 0.2:
            told, done = now, work.steps - first
            left = (now - began) / done * (goal - work.steps)
            epochs = -(-goal // (work.batches * chosen.steps))
            changed = int(work.synapse.counters[PAIR_CHANGED])
            progress(PairProgress(work.epoch, epochs, work.steps, goal, work.fired, changed, left))
    if checkpoint and work.steps > first:
        work.save(checkpoint)
    return work
