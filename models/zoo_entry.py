"""How a network enters the zoo: from what ``intsnn train`` wrote to a packed spiking network and its card.

``python -m intsnn.models.zoo_entry NAME QUANTISED.h5 TRAINING.json``: the file and the JSON of the training. Everything
on the card is measured here on all test data, but for the accuracies in torch and what was compared with torch, which
the training has measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np

from .. import datasets
from ..ann import integer_ann
from ..convert import Rule, convert
from ..errors import ConversionError
from ..files import load, read_info, save, stored_bytes
from ..hdf5 import _replacing as replacing
from ..layers import Affine, Conv2d
from ..quantised import QuantAffine, QuantConv2d, QuantisedNetwork
from ..scores import mean_iou
from ..simulate import simulate
from .zoo import FOLDER, Card

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
        If the file is no quantised ANN, or the settled spikes differ from it.
    """
    network, about = load(quantised), read_info(quantised).provenance
    if not isinstance(network, QuantisedNetwork):
        raise ConversionError(f"{quantised} holds no quantised ANN; give what intsnn train wrote")
    recipe, last = about["settings"], about["settings"]["stages"][-1]
    converted = convert(network, Rule(recipe["method"])).network
    data = datasets.load(training["test"])
    labels, guesses = np.asarray(data.labels), []
    right = drive = ann_right = mismatches = compared = extra = first = 0
    for start in range(0, len(data), BATCH):
        part = slice(start, start + BATCH)
        run = simulate(converted, data.images[part], settle=True, keep_final=True, threads=threads)
        ann = integer_ann(converted, data.images[part])
        guesses.append(run.predictions)
        found = run.predictions == data.labels[part]
        right, first = right + int(found.sum()), first + int(found[: max(0, FIRST - start)].sum())
        ann_right += int((ann.predictions == data.labels[part]).sum())
        drive += int((simulate(converted, data.images[part], threads=threads).predictions == data.labels[part]).sum())
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
    file = folder / f"{name}.h5"
    folder.mkdir(exist_ok=True)
    kept = {key: value for key, value in about.items() if key != "history"} | {"source": f"recipe {recipe['name']}"}
    save(converted, file, provenance=kept)
    weights = sum(n.codes.size for n in network.graph.nodes if isinstance(n, QuantConv2d | QuantAffine))
    packed = stored_bytes(converted)
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
        ann_accuracy=100.0 * ann_right / labels.size,
        accuracy=100.0 * right / labels.size,
        accuracy_drive=100.0 * drive / labels.size,
        samples=len(data),
        extra_steps=extra,
        mismatches=mismatches,
        compared=compared,
        torch_differing=tuple(  # type: ignore[arg-type]
            sum(training[f"levels_differing_float{bits}"].values()) for bits in (32, 64)
        ),
        first_right=first,
        memory={
            "weights": weights,
            "weight_bytes": sum(
                packed[node]["weight"] for node, layer in converted.nodes.items() if isinstance(layer, Affine | Conv2d)
            ),
            "float_bytes": 4 * weights,
            "file_bytes": file.stat().st_size,
        },
        mean_iou=mean_iou(np.concatenate(guesses), labels, len(data.classes)) if labels.ndim == 3 else None,
        seconds=round(training["seconds"], 1),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        note=recipe["note"],
    )
    with replacing(folder / f"{name}.json") as temporary:
        Path(temporary).write_text(json.dumps(made.values(), indent=2) + "\n", "utf-8")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Add one network."""
    parser = argparse.ArgumentParser(prog="python -m intsnn.models.zoo_entry", description="Add a network to the zoo.")
    parser.add_argument("name")
    parser.add_argument("quantised", metavar="QUANTISED.h5")
    parser.add_argument("training", metavar="TRAINING.json")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    training = json.loads(Path(options.training).read_text("utf-8"))
    made = add(options.name, options.quantised, training, options.folder)
    print(f"{made.name}: settled {made.accuracy:.2f} %, {made.memory['file_bytes']:,} bytes")


if __name__ == "__main__":
    main()
