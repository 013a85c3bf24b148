"""What a learner is fed with: batches of binary frames, from recordings of events or from images.

Everything is an integer, and every random choice follows from (seed, epoch, sample): a batch can be made again at any
time, so no checkpoint holds the state of a generator.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ...datasets import catalogue as datasets
from ...datasets.overlap import digests
from ...errors import FormatError, ShapeError
from ...kernels.learning.parameters import DRAW_INPUT, DRAW_ORDER, DRAW_WINDOW, EVALUATION
from .decolle_recipes import Recipe
from .stdp_recipes import StdpRecipe

__all__ = ["EventSequences", "RateSequences", "Sequences", "order", "sequences"]

KEPT = 1 << 28  # bytes of packed frames that are kept for the next epoch


def words(count: int, seed: int, epoch: int, draw: int, sample: int = 0) -> np.ndarray:
    """Random words of 64 bits by a counter: `kernels/learning/parameters.py`."""
    from ...kernels.learning.compiled import random_words

    out = np.empty(count, np.uint64)
    random_words(seed, epoch, 0, draw, sample, out)
    return out


def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of ``0 .. count - 1`` for an epoch."""
    return np.argsort(words(count, seed, epoch, DRAW_ORDER), kind="stable")


class Sequences(Protocol):
    """What a training is fed with: `shape` ``(C, H, W)`` of a frame, `steps` of them in a sequence."""

    name: str
    labels: np.ndarray
    classes: int
    shape: tuple[int, ...]
    steps: int

    def __len__(self) -> int: ...

    def digests(self) -> list[bytes]:
        """What each sequence is known by (`intsnn.datasets.overlap`)."""
        ...

    def frames(self, indices, epoch: int) -> np.ndarray:
        """``(steps, B, C, H, W)`` uint8 of some sequences in an epoch."""
        ...


class EventSequences:
    """Frames of recordings.

    Parameters
    ----------
    events : EventSet
        Of `intsnn.datasets.events`.
    chosen : Recipe
    test : bool
        Sequences of `test_steps`, always from `start_us` on; otherwise of `steps`.
    """

    def __init__(self, events, chosen: Recipe, test: bool) -> None:
        self.events, self.name, self.labels = events, events.name, np.asarray(events.labels, np.int64)
        self.classes = len(events.classes)
        polarities, height, width = events.shape
        self.shape: tuple[int, ...] = (polarities, height // chosen.divide, width // chosen.divide)
        self.steps = chosen.test_steps if test else chosen.steps
        self._bin_us, self._divide, self._seed = chosen.bin_us, chosen.divide, chosen.seed
        self._start_us, self._warned = chosen.start_us, False
        self._random = chosen.window == "random" and not test
        self._kept: dict[int, np.ndarray] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.labels)

    def digests(self) -> list[bytes]:
        """Of the recordings."""
        return self.events.digests()

    def frames(self, indices, epoch: int) -> np.ndarray:
        """``(steps, B, C, H, W)`` uint8, 0 or 1."""
        found = np.stack([self._one(int(i), epoch) for i in indices], axis=1)
        if not self._warned and not found.any():
            from ...datasets.framing import warn_if_empty

            self._warned = True
            warn_if_empty(self.events, np.asarray(indices), found, self.steps, self._bin_us, self._start_us)
        return found

    def _one(self, index: int, epoch: int) -> np.ndarray:
        if self._random:
            return self._binned(index, epoch)
        size = self.steps * int(np.prod(self.shape))
        packed = self._kept.get(index)
        if packed is None:
            frames = self._binned(index, epoch)
            packed = np.packbits(frames)
            if self._bytes + packed.nbytes <= KEPT:
                self._kept[index] = packed
                self._bytes += packed.nbytes
            return frames
        return np.unpackbits(packed, count=size).reshape(self.steps, *self.shape)

    def _binned(self, index: int, epoch: int) -> np.ndarray:
        from ...datasets.framing import frames

        events = self.events.events(index)
        start = self._start_us
        if start is None:
            start = int(events["t"][0]) if len(events) else 0
        if self._random and len(events):
            # the window ends within the recording, unless that is too short
            room = int(events["t"][-1]) - start - self.steps * self._bin_us
            if room > 0:
                start += int(words(1, self._seed, epoch, DRAW_WINDOW, index)[0] % np.uint64(room + 1))
        return frames(
            events, shape=self.events.shape, warn=False, steps=self.steps, bin_us=self._bin_us, divide=self._divide,
            start_us=start, clip=1,
        )  # fmt: skip


class RateSequences:
    """Spikes of images: in every step a pixel fires with probability code / maximum * peak / 256.

    A test draws the same spikes in every epoch, others than a training.
    """

    def __init__(self, data: datasets.Dataset, chosen: Recipe | StdpRecipe, test: bool) -> None:
        if data.labels is None:
            raise FormatError(f"data {data.name}: it has no labels to learn")
        self.name, self.labels = data.name, np.asarray(data.labels, np.int64)
        self.classes = len(data.classes) or int(self.labels.max()) + 1
        self.shape = data.images.shape[1:]
        self.steps = getattr(chosen, "test_steps", chosen.steps) if test else chosen.steps
        self._seed, self._test, self._images = chosen.seed, test, data.images
        self.maximum, self.assumed = data.maximum, data.assumed
        # a spike where 16 random bits lie below: exact for every code
        codes = data.images.reshape(len(data), -1).astype(np.int64)
        self._levels = ((codes * chosen.peak << 8) // data.maximum).astype(np.uint32)

    def __len__(self) -> int:
        return len(self.labels)

    def digests(self) -> list[bytes]:
        """Of the images."""
        return digests(self._images)

    def frames(self, indices, epoch: int) -> np.ndarray:
        """``(steps, B, C, H, W)`` uint8, 0 or 1."""
        size = self._levels.shape[1]
        row = (size + 3) // 4
        found = np.empty((self.steps, len(indices), *self.shape), np.uint8)
        for b, index in enumerate(indices):
            drawn = words(self.steps * row, self._seed, EVALUATION if self._test else epoch, DRAW_INPUT, int(index))
            lanes = drawn.astype("<u8").view("<u2").reshape(self.steps, -1)[:, :size]
            found[:, b] = (lanes < self._levels[index]).reshape(self.steps, *self.shape)
        return found


def sequences(chosen: Recipe, test: bool, spec: str | None = None) -> Sequences:
    """Training or test data of a recipe; `spec` names others than its own, of the same part where it says none.

    Raises
    ------
    DataNotFoundError
        Data that are not there.
    ShapeError
        A set without samples.
    """
    spec, part = spec or (chosen.test if test else chosen.data), "test" if test else "train"
    found: Sequences
    if chosen.coding == "rate":
        found = RateSequences(datasets.load(spec, part), chosen, test)
    else:
        from ...datasets.events import load_events

        found = EventSequences(load_events(spec, part), chosen, test)
    if not len(found):
        raise ShapeError(f"data {spec}: there is no sample in it")
    if not test and found.classes < 2:
        raise ShapeError(f"data {found.name}: there is one class in it; learning needs two to tell apart")
    return found
