"""One training from the events to the file: what ``intsnn train`` does for the recipes of this package."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...analysis.scores import check_labels
from ...datasets.overlap import unseen
from ...engine.result import places
from ...engine.simulation import simulate
from ...errors import FormatError
from ...files.hdf5 import write_tree
from ...files.network_file import load, save, stored_bytes
from ...network.spiking import Network
from ..training.checkpoints import learned
from ..training.provenance import epoch_line, facts, provenance, seeded, without_seconds
from ..training.recipes import Progress
from .compare import compare_spikes
from .integers import integer_network
from .network import EventNetwork
from .recipes import recipe
from .training import Frames, Trained, evaluate, load_frames, train

__all__ = ["integer_accuracy", "measure", "run", "weight_bytes", "write_floats"]

COMPARED = 100  # test streams of which every spike is compared
BLOCK = 1000


def run(
    name: str,
    settings: dict[str, Any],
    progress: Callable[[Progress], None] | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train by the recipe `name`, write the integer network and measure what becomes of it.

    Parameters and result are those of `intsnn.models.qat.work.run`. Recipes with float weights write their weights and
    no network; nothing simulates those.
    """
    chosen = seeded(recipe(name), settings)
    if settings["epochs"] is not None:
        most = settings["epochs"]
        if most < 1:
            raise FormatError(f"epochs: found {most}; at least 1 is needed")
        chosen = replace(
            chosen, float_epochs=min(chosen.float_epochs, most), epochs=min(chosen.epochs, most),
            hard_epochs=min(chosen.hard_epochs, most),
        )  # fmt: skip
    torch.set_num_threads(settings["threads"])
    data = load_frames(settings["data"] or chosen.train_spec, chosen, "train")
    test = load_frames(settings["test"] or f"{chosen.data}:test", chosen)
    overlap = unseen(data, test, settings.get("allow_overlap", False), say)
    stages = dict(chosen.stages)
    say(f"{name}: {chosen.architecture} on {data.name}, {sum(stages.values())} epochs, seed {chosen.seed}")
    trained = train(
        chosen, data, test, checkpoint=settings["checkpoint"], resume=not settings["anew"], device=settings["device"],
        progress=progress, log=lambda entry: say(epoch_line(entry, stages[entry["name"]])), say=say,
    )  # fmt: skip
    about = facts(name, chosen, data, test, "weight") | overlap
    say(learned(data.name, test.name, about))
    values = {"torch_accuracy": trained.history[-1]["accuracy"], "seconds": trained.seconds, "history": trained.history}
    if chosen.weight == "float" or "float" in (chosen.first, chosen.last):
        write_floats(trained.network, settings["output"])
        say(f"torch {values['torch_accuracy']:.2f} %; the weights are float: written {settings['output']}, no network")
        return about | values
    origin = provenance("intsnn train", chosen, data, settings["threads"]) | {
        "history": without_seconds(trained.history)
    }
    save(integer_network(trained.network, metadata=about), settings["output"], provenance=origin)
    values |= measure(trained, load(settings["output"]), test, settings["threads"])  # type: ignore[arg-type]
    say(f"torch {values['torch_accuracy']:.2f} %; integers {values['accuracy']:.2f} %")
    say(
        f"{values['spikes_compared']:,} values compared: {values['differing_integers']} differ from torch on integers, "
        f"{values['differing_float32']} from the float network"
    )
    say(f"{values['weights']:,} weights in {values['weight_bytes']:,} bytes; written {settings['output']}")
    return about | values


def integer_accuracy(network: Network, data: Frames, threads: int = 1) -> float:
    """Per cent of `data` that the integer network gets right."""
    check_labels(data.labels, places(network)[0], data.name)
    right = 0
    for start in range(0, len(data), BLOCK):
        part = slice(start, start + BLOCK)
        found = simulate(network, data.frames[part].swapaxes(0, 1), threads=threads, strict=True)
        right += int((found.predictions == data.labels[part]).sum())
    return 100.0 * right / len(data)


def weight_bytes(network: Network) -> tuple[int, int]:
    """Number of weights, and the bytes that they take in the file."""
    layers = {name: layer for name, layer in network.nodes.items() if layer.weighted}
    stored = stored_bytes(network)
    return sum(layer.weight.size for layer in layers.values()), sum(stored[name]["weight"] for name in layers)


def measure(trained: Trained, network: Network, test: Frames, threads: int = 1, compared: int = COMPARED) -> dict:
    """Accuracy of the integer network `network` on `test`, and what differs from torch on its first streams."""
    found = compare_spikes(trained.network, network, test.frames[:compared])
    weights, stored = weight_bytes(network)
    return {
        "accuracy": integer_accuracy(network, test, threads),
        "torch_accuracy": evaluate(trained.network, test),
        "spikes_compared": found.compared,
        "spikes": found.spikes,
        "differing_integers": found.integers,
        "differing_float32": found.single,
        "differing_float64": found.double,
        "differing_float64_by_bits": found.double_by_bits,
        "weights": weights,
        "weight_bytes": stored,
    }


def write_floats(network: EventNetwork, path: str | os.PathLike[str]) -> None:
    """Weights of a network as float32 in HDF5, one dataset a layer: what packed integers are compared with."""
    arrays = {
        f"weights/{name}": module.weight.detach().cpu().numpy().astype(np.float32)
        for name, module in network.linear.items()
    }
    write_tree(path, arrays, {"": {"format": "float weights"}, "weights": {"layers": list(arrays)}})
