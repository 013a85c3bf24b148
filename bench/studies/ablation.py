"""What does each part of a converted network pay for? Accuracy after every step, with each part switched off in turn.

``python -m intsnn.bench.studies.ablation NET --data DATA --json FILE``: NET is a spiking network (``zoo:NAME`` too).
Rows are the network as it is, without the cap on counts, without negative spikes, with a negative threshold of
-theta, with the bias all at once; and, where it is asked for, with another T_drive (``--t-drive 8,16,32``) and after
fine-tuning (``--tuned FILE``). The columns are T; behind T_drive nothing flows in any more: what they gain is what
extra steps pay for. FILE is written after each row and read again: a run that was killed goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...analysis.curves import curve
from ...analysis.scores import accuracy
from ...conversion.redrive import redriven
from ...datasets import catalogue as datasets
from ...datasets.catalogue import Dataset
from ...engine.ann import integer_ann
from ...engine.simulation import simulate
from ...errors import ConversionError, UnsupportedError
from ...models.readers import load
from ...models.zoo.catalogue import find
from ...network.spiking import Network
from ...support.atomic import replacing
from ...support.pipes import say

__all__ = ["PARTS", "Row", "main", "measure", "rows", "without"]

PARTS = ("cap", "negative spikes", "v_negative = 0", "spread bias")
MOST_STEPS = 400  # of a table


@dataclass(frozen=True)
class Row:
    """One network and what it reaches.

    Attributes
    ----------
    name : str
    t_drive, levels : int
    accuracy : list of float
        Per cent right after 1, 2, ... steps, the last one some way beyond rest of the complete network.
    driven, settled, ann : float
        After T_drive; at rest (or at the bound, if it never rests); of the integer ANN.
    rests : bool
        Whether every sample came to rest.
    extra_steps : int
    differing : int
        Levels and outputs at rest that differ from those of the integer ANN, of `compared`.
    compared : int
    spikes : float
        Of either sign, per neuron and sample, in all steps of the table.
    """

    name: str
    t_drive: int
    levels: int
    accuracy: list[float]
    driven: float
    settled: float
    ann: float
    rests: bool
    extra_steps: int
    differing: int
    compared: int
    spikes: float


def without(network: Network, part: str) -> Network:
    """`network` with one of `PARTS` switched off; membranes get the width that this takes."""
    nodes: dict[str, Any] = dict(network.nodes)
    for name, layer in network.nodes.items():
        if layer.fires:
            if part == "cap":
                layer = replace(layer, max_count=None)
            elif part == "negative spikes":
                layer = replace(layer, signed=False)
            elif part == "v_negative = 0":
                layer = replace(layer, v_negative=-np.asarray(layer.threshold))
            nodes[name] = layer
        elif layer.weighted and part == "spread bias":
            nodes[name] = replace(layer, bias_mode="once")
    if part not in PARTS:
        raise UnsupportedError(f"ablation: there is no part {part!r}; choose of {', '.join(PARTS)}")
    made = replace(network, nodes=nodes)
    bounds = made.bounds()
    for name in made.neurons:
        nodes[name] = replace(nodes[name], v_format=bounds[name].membrane_format)
    return replace(made, nodes=nodes)


def measure(name: str, network: Network, data: Dataset, steps: int, threads: int = 1) -> Row:
    """One row; `steps` columns."""
    labels = np.asarray(data.labels)
    found = curve(network, data.images, labels, steps, threads=threads)
    run = simulate(network, data.images, settle=True, keep_final=True, threads=threads)
    ann = integer_ann(network, data.images)
    differing, compared = int((ann.outputs != run.outputs).sum()), ann.outputs.size
    for layer, levels in ann.levels.items():
        differing += int((levels != run.final[f"{layer}.counts"]).sum())
        compared += levels.size
    neurons = sum(int(np.prod(network.shapes[layer])) for layer in network.neurons)
    drive, levels_ = network.t_drive or 0, network.levels or 0
    return Row(
        name, drive, levels_, found.accuracy, found.accuracy[drive - 1], accuracy(run.predictions, labels),
        accuracy(ann.predictions, labels), bool(run.settled), int(run.extra_steps.max(initial=0)), differing, compared,
        found.spikes / max(1, neurons * len(data)),
    )  # fmt: skip


def rows(network: Network, tuned: Network | None, drives: list[int]) -> dict[str, Network]:
    """The networks of the table by the names of their rows."""
    found = {"complete": network}
    found |= {f"without {part}": without(network, part) for part in PARTS}
    if tuned is not None:
        found["fine-tuned"] = tuned
        found |= {f"fine-tuned, without {part}": without(tuned, part) for part in PARTS[:2]}
    found |= {f"T_drive {drive}": redriven(network, drive) for drive in drives}
    return found


def _spiking(path: str) -> Network:
    network = load(path)
    if not isinstance(network, Network) or network.t_drive is None or network.levels is None:
        raise ConversionError(f"{path} holds no converted network; intsnn convert makes one")
    return network


def _digest(path: str) -> str:
    return hashlib.sha256(Path(find(path)).read_bytes()).hexdigest()


def run(
    path: str, tuned_path: str | None, spec: str, drives: list[int], steps: int | None, file: str, threads: int
) -> list[Row]:
    """Measure what `file` does not hold yet, and say every row as it comes.

    Raises
    ------
    ConversionError
        If a network is not a converted one, or the data have no labels.
    """
    network, data = _spiking(path), datasets.load(spec)
    tuned = _spiking(tuned_path) if tuned_path else None
    if data.labels is None:
        raise ConversionError(f"data {data.name}: an accuracy needs labels")
    identity: dict[str, Any] = {
        "network": path, "sha256": _digest(path), "tuned": tuned_path and _digest(tuned_path), "data": data.name,
        "steps": steps,
    }  # fmt: skip
    held = json.loads(Path(file).read_text("utf-8")) if Path(file).exists() else {}
    same = {key: held.get(key) for key in identity} == identity
    done = {row["name"]: Row(**row) for row in held.get("rows", [])} if same else {}
    if steps is None:
        rest = simulate(network, data.images, settle=True, threads=threads)
        identity["columns"] = (network.t_drive or 0) + int(rest.extra_steps.max(initial=0)) + 1
    else:
        identity["columns"] = steps
    result = []
    for name, made in rows(network, tuned, drives).items():
        began = time.monotonic()
        if name not in done:
            columns = min(MOST_STEPS, max(identity["columns"], (made.t_drive or 0) + (network.levels or 0)))
            done[name] = measure(name, made, data, columns, threads)
            kept = identity | {"rows": [asdict(row) for row in done.values()]}
            with replacing(file) as temporary:
                Path(temporary).write_text(json.dumps(kept, indent=2) + "\n", "utf-8")
        row = done[name]
        say(
            f"{name}: {row.driven:.2f} % after {row.t_drive} steps, {row.settled:.2f} % "
            f"{'at rest' if row.rests else 'at the bound'} ({row.extra_steps} extra), ANN {row.ann:.2f} %, "
            f"{row.differing:,} of {row.compared:,} levels differ ({time.monotonic() - began:.0f} s)"
        )
        result.append(row)
    return result


def table(found: list[Row]) -> str:
    """Accuracies by T as Markdown; columns where something changes, and the last."""
    longest = max(len(row.accuracy) for row in found)
    few = [*range(1, min(longest, 12) + 1), *(t for t in (16, 24, 32, 48, 64, 96, 128, 160, 256) if 12 < t <= longest)]
    lines = ["| | " + " | ".join(f"T = {t}" for t in few) + " | at rest |", "|---" * (len(few) + 2) + "|"]
    for row in found:
        cells = [f"{row.accuracy[t - 1]:.2f}" if t <= len(row.accuracy) else "" for t in few]
        rest = f"{row.settled:.2f}" if row.rests else "never"
        lines.append(f"| {row.name} | " + " | ".join(cells) + f" | {rest} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m intsnn.bench.studies.ablation", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("network", metavar="NET")
    parser.add_argument("--data", required=True)
    parser.add_argument("--tuned", metavar="NET.h5", help="the same network after intsnn tune, converted")
    parser.add_argument("--t-drive", default="", metavar="T,T,...", help="rows driven for other numbers of steps")
    parser.add_argument("--steps", type=int, metavar="T", help="columns; default: one more than the network needs")
    parser.add_argument("--json", required=True, metavar="FILE")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    drives = [int(word) for word in options.t_drive.split(",") if word]
    found = run(
        options.network, options.tuned, options.data, drives, options.steps, options.json, options.threads
    )  # fmt: skip
    say(table(found))


if __name__ == "__main__":
    main()
