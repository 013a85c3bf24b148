"""How a network enters the zoo: from what ``intsnn train`` wrote to a packed spiking network and its card.

``python -m intsnn.models.zoo.entry NAME NETWORK.h5 TRAINING.json``: the file and the JSON of the training. A quantised
ANN is converted (`add`), an event network is spiking already (`add_events`). Everything on the card is measured here on
all test data, but for the accuracies in torch and what was compared with torch, which the training has measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from ...analysis.scores import check_labels, mean_iou
from ...conversion.spikes import NeuronRule, convert
from ...datasets import catalogue as datasets
from ...datasets.binned import event_inputs
from ...engine.ann import integer_ann
from ...engine.result import places
from ...engine.simulation import simulate
from ...errors import ConversionError
from ...files.network_file import load, read_info, save, stored_bytes
from ...network.quantised import QuantisedNetwork
from ...network.spiking import Network
from ...support.atomic import replacing
from .catalogue import FOLDER, Card

__all__ = ["add", "main"]

FIRST = 100
BATCH = 500


def add(name: str, quantised: str | Path, training: dict, folder: Path = FOLDER, threads: int = 1) -> Card:
    """Convert, measure and write one network with its card.

    Parameters
    ----------
    name : str
        Name in the zoo.
    quantised : path
        What the training wrote.
    training : dict
        What the training said (its JSON).
    folder : path
        Where the zoo is.

    Raises
    ------
    ConversionError
        If the file is no quantised ANN, the data have no labels, or the settled spikes differ from it.
    """
    network, about = load(quantised), read_info(quantised).provenance
    if not isinstance(network, QuantisedNetwork):
        raise ConversionError(f"{quantised} holds no quantised ANN; give what intsnn train wrote")
    recipe, last = about["settings"], about["settings"]["stages"][-1]
    converted = convert(network, NeuronRule(recipe["method"])).network
    data = datasets.load(training["test"])
    if data.labels is None:
        raise ConversionError(f"data {data.name}: an accuracy needs labels")
    check_labels(data.labels, places(converted)[0], data.name)
    found = _settled(name, converted, data, threads)
    labels, mean = data.labels, None
    if labels.ndim == 3:
        mean = mean_iou(found.predictions, labels, len(data.classes))
    file = _write(name, converted, about, folder)
    made = Card(
        name=name,
        description=f"{recipe['architecture']} on {recipe['data']}, {last['weight_bits']}-bit weights, "
        f"{last['activation_bits']}-bit activations, {recipe['method']}",
        data=data.name,
        recipe=recipe["name"],
        command=f"intsnn train --recipe {recipe['name']} --seed {recipe['seed']} -o {name}.quantised.h5",
        seed=recipe["seed"],
        architecture=recipe["architecture"],
        method=recipe["method"],
        weight_bits=last["weight_bits"],
        end_bits=last["end_bits"] or last["weight_bits"],
        activation_bits=last["activation_bits"],
        t_drive=converted.t_drive or 0,
        float_accuracy=training["stages"][0]["accuracy"],
        quantised_accuracy=training["stages"][-1]["accuracy"],
        ann_accuracy=100.0 * found.ann_right / labels.size,
        accuracy=100.0 * int((found.predictions == labels).sum()) / labels.size,
        accuracy_drive=100.0 * found.drive_right / labels.size,
        samples=len(data),
        extra_steps=found.extra_steps,
        mismatches=0,
        compared=found.compared,
        torch_differing=tuple(  # type: ignore[arg-type]
            sum(training[f"levels_differing_float{bits}"].values()) for bits in (32, 64)
        ),
        first_right=int((found.predictions == labels)[:FIRST].sum()),
        memory=_memory(converted, file),
        mean_iou=mean,
        seconds=round(training["seconds"], 1),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        note=recipe["note"],
    )
    return _keep(made, folder)


@dataclass(frozen=True, eq=False)
class _Settled:
    """What a converted network makes of all data: predictions at rest, and how many labels others get right."""

    predictions: np.ndarray
    drive_right: int
    ann_right: int
    extra_steps: int
    compared: int


def _settled(name: str, network: Network, data: datasets.Dataset, threads: int) -> _Settled:
    """Run until quiet, and compare with the integer ANN and with a run that stops after the drive.

    Raises
    ------
    ConversionError
        A network that does not come to rest, overflows, or differs from the integer ANN.
    """
    labels, guesses = cast(np.ndarray, data.labels), []
    drive = ann_right = mismatches = compared = extra = 0
    for start in range(0, len(data), BATCH):
        part = slice(start, start + BATCH)
        run = simulate(network, data.images[part], settle=True, keep_final=True, threads=threads)
        ann = integer_ann(network, data.images[part])
        guesses.append(run.predictions)
        ann_right += int((ann.predictions == labels[part]).sum())
        drive += int((simulate(network, data.images[part], threads=threads).predictions == labels[part]).sum())
        for layer, levels in ann.levels.items():
            mismatches += int((levels != run.final[f"{layer}.counts"]).sum())
            compared += levels.size
        mismatches += int((ann.outputs != run.outputs).sum())
        compared += ann.outputs.size
        extra = max(extra, int(run.extra_steps.max()))
        if not run.settled or run.overflows:
            raise ConversionError(f"{name}: the network does not come to rest, or overflows; it cannot join the zoo")
    if mismatches:
        raise ConversionError(f"{name}: {mismatches} of {compared} settled values differ from the integer ANN")
    return _Settled(np.concatenate(guesses), drive, ann_right, extra, compared)


def add_events(
    name: str, file: str | Path, training: dict, twin: float | None = None, folder: Path = FOLDER, threads: int = 1
) -> Card:
    """Measure and write one network that was trained on events.

    Parameters
    ----------
    name, training, folder
        As in `add`.
    file : path
        The spiking network that the training wrote.
    twin : float, optional
        Accuracy of the same recipe with float weights and as many epochs.

    Raises
    ------
    ConversionError
        If the file is no event network, if its spikes differ from those of the same integers in torch, or if it
        overflows.
    """
    network, about = load(file), read_info(file).provenance
    if not isinstance(network, Network) or "events" not in network.metadata:
        raise ConversionError(f"{file} holds no network for events; give what intsnn train wrote")
    if training["differing_integers"]:
        raise ConversionError(
            f"{name}: {training['differing_integers']} of {training['spikes_compared']} spikes differ from torch"
        )
    recipe, data = about["settings"], event_inputs(network, training["test"])
    check_labels(data.labels, places(network)[0], data.name)
    right = np.empty(len(data.labels), np.bool_)
    for start in range(0, len(right), BATCH):
        part = slice(start, start + BATCH)
        run = simulate(network, data.images[:, part], threads=threads)
        right[part] = run.predictions == data.labels[part]
        if run.overflows:
            raise ConversionError(f"{name}: the network overflows; it cannot join the zoo")
    accuracy = 100.0 * int(right.sum()) / len(right)
    widths = [layer.weight_format.bits for layer in network.nodes.values() if layer.weighted]
    written = _write(name, network, about, folder)
    made = Card(
        name=name,
        description=f"{recipe['architecture']} on {recipe['data']}, {recipe['weight']} weights, trained through time",
        data=data.name,
        recipe=recipe["name"],
        command=f"intsnn train --recipe {recipe['name']} --seed {recipe['seed']} -o {name}.h5",
        seed=recipe["seed"],
        architecture=recipe["architecture"],
        method="bptt",
        weight_bits=widths[1],
        end_bits=widths[0],
        activation_bits=1,
        t_drive=recipe["binning"]["steps"],
        float_accuracy=twin,
        quantised_accuracy=training["torch_accuracy"],
        ann_accuracy=None,
        accuracy=accuracy,
        accuracy_drive=accuracy,
        samples=len(right),
        extra_steps=0,
        mismatches=training["differing_integers"],
        compared=training["spikes_compared"],
        torch_differing=(training["differing_float32"], training["differing_float64"]),
        first_right=int(right[:FIRST].sum()),
        memory=_memory(network, written),
        seconds=round(training["seconds"], 1),
        sha256=hashlib.sha256(written.read_bytes()).hexdigest(),
        note=recipe["note"],
    )
    return _keep(made, folder)


def _write(name: str, network: Network, about: dict, folder: Path) -> Path:
    """The file of a network, without the history of its training."""
    file = folder / f"{name}.h5"
    folder.mkdir(exist_ok=True)
    kept = {key: value for key, value in about.items() if key != "history"}
    save(network, file, provenance=kept | {"source": f"recipe {about['settings']['name']}"})
    return file


def _memory(network: Network, file: Path) -> dict[str, int]:
    layers = {name: layer for name, layer in network.nodes.items() if layer.weighted}
    packed, weights = stored_bytes(network), sum(layer.weight.size for layer in layers.values())
    return {
        "weights": weights, "weight_bytes": sum(packed[name]["weight"] for name in layers), "float_bytes": 4 * weights,
        "file_bytes": file.stat().st_size,
    }  # fmt: skip


def _keep(made: Card, folder: Path) -> Card:
    with replacing(folder / f"{made.name}.json") as temporary:
        Path(temporary).write_text(json.dumps(made.values(), indent=2) + "\n", "utf-8")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Add one network."""
    parser = argparse.ArgumentParser(prog="python -m intsnn.models.zoo.entry", description="Add a network to the zoo.")
    parser.add_argument("name")
    parser.add_argument("network", metavar="NETWORK.h5")
    parser.add_argument("training", metavar="TRAINING.json")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--twin", metavar="TRAINING.json", help="of an event network: that of its float twin")
    options = parser.parse_args(arguments)
    training = json.loads(Path(options.training).read_text("utf-8"))
    twin = json.loads(Path(options.twin).read_text("utf-8")) if options.twin else None
    if "spikes_compared" in training:
        reached = twin["torch_accuracy"] if twin else None
        made = add_events(options.name, options.network, training, reached, options.folder)
    else:
        made = add(options.name, options.network, training, options.folder)
    print(f"{made.name}: settled {made.accuracy:.2f} %, {made.memory['file_bytes']:,} bytes")


if __name__ == "__main__":
    main()
