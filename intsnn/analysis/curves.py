"""How right is a network after each step? One run answers for all T."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..engine.result import places, predict
from ..engine.simulation import MOST_THREADS, simulate
from ..errors import ShapeError, UnsupportedError
from ..formats.arguments import STEPS, array_of, whole
from ..formats.integers import whole_array
from ..network.spiking import spiking_network
from .scores import check_labels

__all__ = ["Curve", "curve"]

VALUES = 1 << 23  # of outputs in all steps that are held at a time


@dataclass(frozen=True, eq=False)
class Curve:
    """Outcome of `curve`.

    Attributes
    ----------
    right : (T,) int64
        Predictions that are right after 1, 2, ... T steps.
    labelled : int
        How many there are to be right.
    spikes : int
        Of either sign, of all neurons and samples, in all T steps.
    """

    right: np.ndarray
    labelled: int
    spikes: int

    @property
    def accuracy(self) -> list[float]:
        """Per cent right after each step."""
        return (100.0 * self.right / self.labelled).tolist()


def curve(network, images: np.ndarray, labels: np.ndarray, steps: int, *, threads: int = 1) -> Curve:
    """Observe `network` for `steps` steps, driven for T_drive of them, and compare its answer after every step.

    Parameters
    ----------
    network : Network
        With a readout that adds up, of classes or of maps of classes.
    images : (N, *shape) integers
    labels : (N,) or (N, H, W) int64
    steps : int
    threads : int

    Raises
    ------
    UnsupportedError
        If the output is no sum.
    ShapeError, RangeError
        Labels that the outputs cannot stand for, or none.
    """
    spiking_network(network)
    steps = whole(steps, "steps", 1, STEPS)
    threads = whole(threads, "threads", 1, MOST_THREADS)
    images, labels = array_of(images, "images"), whole_array(labels, "labels")
    if images.ndim < 2 or labels.ndim < 1 or len(labels) != len(images):
        raise ShapeError(f"curve: found images {images.shape} and labels {labels.shape}; one label for each is needed")
    output = network.nodes[network.output_name]
    if output.spikes or not output.keeps_total:
        raise UnsupportedError("an answer after each step needs a Readout that adds up")
    check_labels(labels, places(network)[0], "of a curve")
    source = network.inputs_of(network.output_name)[0]
    key = f"{source}.{'spikes' if source in network.spiking else 'current'}"
    block = max(1, VALUES // (steps * int(np.prod(network.shapes[source]))))
    right, spikes = np.zeros(steps, np.int64), 0
    for start in range(0, len(images), block):
        part = slice(start, start + block)
        run = simulate(network, images[part], steps=steps, record=[key], threads=threads)
        totals = np.cumsum(run.records[key].astype(np.int64), axis=0)
        for step in range(steps):
            guesses = predict(network, totals[step].reshape(len(totals[step]), -1))
            right[step] += int((guesses == labels[part]).sum())
        spikes += sum(layer.spikes for layer in run.layers.values())
    return Curve(right, int(labels.size), spikes)
