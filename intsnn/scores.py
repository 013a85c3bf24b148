"""How good are predictions, of images or of pixels?

Images have one label each, maps ``(N, H, W)`` one for each pixel; an accuracy is that of whatever has a label.
"""

from __future__ import annotations

import numpy as np

from .errors import ShapeError

__all__ = ["accuracy", "confusion", "mean_iou"]


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Per cent of equal entries.

    Raises
    ------
    ShapeError
        If there is not one label for each prediction: classes of images do not compare with classes of pixels.
    """
    if predictions.shape != labels.shape:
        raise ShapeError(f"found labels {labels.shape} for predictions {predictions.shape}; one for each is needed")
    return 100.0 * int((predictions == labels).sum()) / max(1, labels.size)


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
