"""What do outputs say, and how good is it: classes of images or of pixels, or real values?

Images have one label each, maps ``(N, H, W)`` one for each pixel; an accuracy is that of whatever has a label. Where
outputs are no classes, what counts is their distance from real targets.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RangeError, ShapeError

if TYPE_CHECKING:
    from ..datasets.catalogue import Dataset

__all__ = [
    "Aim", "OutputError", "accuracy", "aim_of", "check_labels", "classes_of", "confusion", "mean_iou",
    "near_chance", "output_error",
]  # fmt: skip

BINARY = "one output: class 1 where it is above 0"


def classes_of(outputs: int) -> int:
    """How many classes so many outputs tell apart: a single one tells two."""
    return max(2, outputs)


def check_labels(labels: np.ndarray, outputs: int, name: str) -> None:
    """Refuse labels that the outputs of a network cannot stand for.

    Parameters
    ----------
    labels : ndarray of integers
    outputs : int
        Of each sample or pixel.
    name : str
        Of the data, for the message.

    Raises
    ------
    ShapeError
        There are none, or they are no whole numbers.
    RangeError
        One is negative, or beyond the classes.
    """
    labels = np.asarray(labels)
    if not labels.size:
        raise ShapeError(f"data {name}: there is no sample in it; an accuracy needs one")
    if labels.dtype.kind not in "iu":
        raise ShapeError(f"data {name}: labels are {labels.dtype}; whole numbers from 0 are needed")
    low, high, classes = int(labels.min()), int(labels.max()), classes_of(outputs)
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        more = "; targets of a regression are stored as floats" if outputs == 1 else ""
        raise RangeError(
            f"data {name}: found the label {wrong}; a network of {outputs} output{'s' * (outputs > 1)} knows the "
            f"classes 0 to {classes - 1}{more}"
        )


@dataclass(frozen=True)
class Aim:
    """What the outputs of a network are held against on some data.

    Attributes
    ----------
    kind : {"classes", "targets", "input", "nothing"}
        Labels; real targets; the input, which an autoencoder gives back; or nothing that is known.
    note : str
        What a reader of the figure has to know, or ``""``.
    """

    kind: str
    note: str = ""

    @property
    def decision(self) -> str | None:
        """How a class is chosen: ``"sign"`` of one output, ``"largest"`` of several; None where there are none."""
        return None if self.kind != "classes" else "sign" if self.note == BINARY else "largest"


def aim_of(data: Dataset, outputs: int, pixels: int, inputs: int) -> Aim:
    """What a network of `outputs` (at each of `pixels` places) and `inputs` values a sample is judged by on `data`.

    An autoencoder is known by as many values that go out as come in, more than twice as many as `data` have classes.

    Raises
    ------
    ShapeError, RangeError
        Labels or targets that the outputs cannot stand for, or no sample at all.
    """
    if not len(data):
        raise ShapeError(f"data {data.name}: there is no sample in it; one is needed")
    targets = getattr(data, "targets", None)
    if targets is not None:
        if targets.shape != (len(data), outputs * pixels):
            raise ShapeError(
                f"data {data.name}: found real targets of shape {targets.shape}; ({len(data)}, {outputs * pixels}) is "
                "needed, and labels of classes are stored as whole numbers"
            )
        return Aim("targets", "the error is that to the real targets of the file")
    returned = outputs * pixels == inputs
    if data.labels is None:
        return Aim("input", "as many outputs as inputs: the error is that to the input") if returned else Aim("nothing")
    check_labels(data.labels, outputs, data.name)
    if returned and pixels == 1 and outputs > 2 * max(len(data.classes), int(data.labels.max()) + 1):
        return Aim("input", "as many outputs as inputs, far more than classes: the error is that to the input")
    return Aim("classes", BINARY if outputs == 1 else "")


@dataclass(frozen=True)
class OutputError:
    """Distance of outputs from what they should be, over all of them: mean, root mean square, largest."""

    mean_absolute: float
    rms: float
    largest: float

    def values(self) -> dict[str, float]:
        """As plain values."""
        return asdict(self)


def output_error(found: np.ndarray, wanted: np.ndarray) -> OutputError:
    """Distance of `found` from `wanted`, in float64 and in their unit.

    Raises
    ------
    ShapeError
        If their sizes differ, or there are none.
    """
    if len(found) != len(wanted) or found.size != wanted.size or not found.size:
        raise ShapeError(f"found outputs {found.shape} for targets {wanted.shape}; one for each is needed")
    distance = np.abs(np.asarray(found, np.float64).reshape(len(found), -1) - np.reshape(wanted, (len(wanted), -1)))
    rms = math.sqrt(float(np.mean(np.square(distance))))
    return OutputError(float(distance.mean()), rms, float(distance.max()))


def near_chance(percent: float, labels: np.ndarray, outputs: int) -> str | None:
    """Why an accuracy says nothing, or None.

    It is near chance within three standard errors of guessing among the classes, and where always giving the most
    frequent label is as good.
    """
    share, size = 1 / classes_of(outputs), labels.size
    _, counts = np.unique(labels, return_counts=True)
    often = 100.0 * int(counts.max()) / size
    limit = min(share + 3 * math.sqrt(share * (1 - share) / size), (1 + share) / 2)
    if percent <= 100.0 * limit:
        return f"guessing has {100 * share:.2f} %"
    if len(counts) > 1 and percent <= often:
        return f"always the most frequent class has {often:.2f} %"
    return None


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Per cent of equal entries.

    Raises
    ------
    ShapeError
        If there is not one label for each prediction (classes of images do not compare with classes of pixels), or
        there is none.
    """
    if predictions.shape != labels.shape:
        raise ShapeError(f"found labels {labels.shape} for predictions {predictions.shape}; one for each is needed")
    if not labels.size:
        raise ShapeError("found no label; an accuracy needs one")
    return 100.0 * int((predictions == labels).sum()) / labels.size


def confusion(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """How often label i was taken for j: ``(classes, classes)`` int64."""
    pairs = labels.ravel() * classes + predictions.ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def mean_iou(predictions: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Mean over the classes of intersection over union, in per cent.

    Both are summed over all pixels of all images first; classes that neither occur nor are predicted are left out.

    Parameters
    ----------
    predictions, labels : (N, H, W) int64
        From 0 to `classes` - 1.
    """
    table = confusion(predictions, labels, classes)
    both = np.diag(table)
    either = table.sum(axis=0) + table.sum(axis=1) - both
    there = either > 0
    return 100.0 * float((both[there] / either[there]).mean()) if there.any() else 0.0
