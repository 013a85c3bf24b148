"""How much accuracy does learning with integers cost, and at which width does it break?

``python -m intsnn.bench.learn_study --results runs.jsonl`` trains a small convolutional network with integers and with
the float twin (same network, rule, seeds, batches and budget), then with each width changed by itself. Every run is
one line of JSON in the file; a run that is there is never computed again, so a study can be stopped and called again.
``--table`` prints what is there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import learn_memory
from ..learn import Conv, LearningNetwork, Rule, Schedule
from ..models.decolle_data import order, sequences
from ..models.decolle_recipes import Recipe, with_widths
from ..models.decolle_training import test_accuracy, train

__all__ = ["Run", "Subset", "compute", "main", "plan", "rows", "summary"]

# pools of recordings and how many of them, drawn by the seed, are for training and for testing
POOLS = {
    "nmnist": (("nmnist:train", "nmnist:test"), 800, 300),
    "mnist-saccades": (("mnist-saccades:train:6000",), 800, 300),
    "digits": (("digits:train:300",), 200, 100),
}
BASE = Recipe(
    name="study",
    note="",
    data="",
    test="",
    layers=(Conv(16, 5, 2, pool=2), Conv(64, 5, 2)),
    rule=Rule.corrected(tau_membrane=(5, 8), tau_synapse=(3, 4), weight_scale="0.04", burn_in=8),
    schedule=Schedule(-3, 2),
    divide=3,
    bin_us=10_000,
    steps=30,
    test_steps=30,
    batch=32,
    epochs=3,
)
TINY = replace(
    BASE, layers=(Conv(4, 3, 1, pool=2), Conv(6, 3, 1, pool=2)), coding="rate", divide=1, steps=10, test_steps=10,
    batch=20, epochs=1, rule=replace(BASE.rule, burn_in=4),
)  # fmt: skip
# one group of widths at a time, from below the published ones to above
SWEEPS = {
    "PQ": [f"P{p} Q{p - 2}" for p in (6, 7, 8, 9, 10, 11, 13, 14)],
    "S": [f"S{s}" for s in (2, 3, 4, 5, 7, 8)],
    "EG": [f"E{e} G{e + 4}" for e in (2, 3, 4, 5, 7, 8)],
    "W": [f"W{w}" for w in (2, 4, 6, 10)],
    "U": [f"U{u}" for u in (3, 4, 5, 8)],
    "E": [f"E{e}" for e in (2, 3, 4, 5)],
    "G": [f"G{g}" for g in (6, 7, 8, 9, 12)],
}


@dataclass(frozen=True)
class Run:
    """One training of the study.

    Parameters
    ----------
    data : str
        Of `POOLS`.
    seed : int
    widths : str
        What differs from the published widths.
    kind : {"integer", "float"}
    changes : str
        Fields of the rule that differ, as JSON.
    """

    data: str
    seed: int
    widths: str = ""
    kind: str = "integer"
    changes: str = ""

    @property
    def recipe(self) -> Recipe:
        """Everything that decides the result, but for the split; on another grid G the real learning rate stays."""
        found = replace(TINY if self.data == "digits" else BASE, seed=self.seed)
        if self.changes:
            found = replace(found, rule=replace(found.rule, **json.loads(self.changes)))
        found = with_widths(found, self.widths)
        finer = found.rule.widths.gradient - BASE.rule.widths.gradient
        return replace(found, schedule=replace(found.schedule, start=found.schedule.start - finer))

    @property
    def key(self) -> str:
        """Digest of all that decides the result."""
        spec = {"recipe": self.recipe.to_json(), "pool": POOLS[self.data], "data": self.data, "kind": self.kind}
        return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


class Subset:
    """Some sequences of several sets."""

    def __init__(self, parts: Sequence[Any], indices, name: str) -> None:
        self._parts, self._indices, self.name = parts, np.asarray(indices), name
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.labels = np.concatenate([part.labels for part in parts])[self._indices]
        self.shape, self.classes, self.steps = parts[0].shape, parts[0].classes, parts[0].steps

    def __len__(self) -> int:
        return len(self._indices)

    def frames(self, indices, epoch: int) -> np.ndarray:
        """As of `decolle_data.EventSequences.frames`."""
        found = []
        for index in self._indices[indices]:
            part = int(np.searchsorted(self._starts, index, side="right")) - 1
            found.append(self._parts[part].frames([index - self._starts[part]], epoch))
        return np.concatenate(found, axis=1)


_PARTS: dict[tuple, list[Any]] = {}


def split(run: Run) -> tuple[Subset, Subset]:
    """Training and test sequences of a run, drawn by its seed."""
    specs, count, tests = POOLS[run.data]
    chosen = replace(run.recipe, seed=0 if run.recipe.coding == "events" else run.seed)
    key = (run.data, chosen.seed)
    if key not in _PARTS:
        _PARTS.clear()
        _PARTS[key] = [sequences(chosen, False, spec) for spec in specs]
    parts = _PARTS[key]
    drawn = order(sum(len(part) for part in parts), run.seed, 1 << 32)
    name = f"{run.data}, split {run.seed}"
    return Subset(parts, drawn[:count], name), Subset(parts, drawn[count : count + tests], name)


def compute(run: Run) -> dict[str, Any]:
    """Train and test; plain values."""
    data, test = split(run)
    began, cpu, chosen = time.monotonic(), time.process_time(), run.recipe
    network = LearningNetwork(data.shape, chosen.layers, data.classes, chosen.rule)
    values: dict[str, Any] = {}
    if run.kind == "integer":
        trained = train(chosen, data, test)
        accuracies, last = trained.accuracies, trained.history[-1]
        values = {"weights_sha256": trained.learner.weights_sha256(), "saturations": last["saturations"]}
        values |= {"train": last["train"], "loss": last["loss"], "steps": trained.learner.steps}
    else:
        accuracies, values["steps"] = _float(chosen, network, data, test)
    size = learn_memory.memory(network)
    return {
        "key": run.key, "data": run.data, "seed": run.seed, "widths": run.widths, "kind": run.kind,
        "changes": run.changes, "accuracy": accuracies[-1], "accuracies": accuracies, "tested": len(test),
        "formula_bits": size.bits, "fp32_bits": size.bits_fp32, "saving": size.saving,
        "measured_bytes": size.measured_bytes, "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu, **values,
    }  # fmt: skip


def _float(chosen: Recipe, network: LearningNetwork, data: Subset, test: Subset) -> tuple[list[float], int]:
    """The same batches through the float twin."""
    from .learn_float import FloatLearner

    learner: Any = FloatLearner(network, chosen.seed)
    size = min(chosen.batch, len(data))
    for epoch in range(chosen.epochs):
        drawn = order(len(data), chosen.seed, epoch)
        for batch in range(len(data) // size):
            indices = drawn[batch * size : (batch + 1) * size]
            state = learner.begin(size)
            for frame in data.frames(indices, epoch):
                learner.learn(state, frame, data.labels[indices], chosen.schedule.shift(epoch))
    return test_accuracy(learner, test, chosen.test_batch), learner.steps


def plan(data: Sequence[str], seeds: int, sweep_seeds: int, sweeps: Sequence[str]) -> Iterator[Run]:
    """Runs in order: the base point of every seed with its twin, then one group of widths at a time."""
    for seed in range(seeds):
        for name in data:
            yield Run(name, seed)
            yield Run(name, seed, kind="float")
    for seed in range(sweep_seeds):
        for group in sweeps:
            for widths in SWEEPS[group]:
                yield Run(data[0], seed, widths)


def rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Finished runs; a last line that was cut off is none."""
    found: dict[str, dict[str, Any]] = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for line in file:
                try:
                    row = json.loads(line)
                    found[row["key"]] = row
                except (ValueError, KeyError, TypeError):
                    continue
    return list(found.values())


def _append(path: str | os.PathLike[str], row: dict[str, Any]) -> None:
    """One line, on disk; a line that was cut off is ended first."""
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            cut = file.read(1) != b"\n"
        else:
            cut = False
        file.write((b"\n" if cut else b"") + json.dumps(row, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def summary(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By data, kind, widths and changes: runs, mean accuracy, and the mean loss against the twin of the same seed.

    ``loss`` is in points, over the seeds that have a twin; ``error`` is its standard error (None for one seed).
    """
    twins = {(row["data"], row["seed"]): row["accuracy"] for row in found if row["kind"] == "float"}
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in found:
        groups.setdefault((row["data"], row["kind"], row["widths"], row["changes"]), []).append(row)
    table = []
    for (data, kind, widths, changes), group in groups.items():
        losses = [
            twins[row["data"], row["seed"]] - row["accuracy"] for row in group if (row["data"], row["seed"]) in twins
        ]
        table.append(
            {
                "data": data, "kind": kind, "widths": widths, "changes": changes, "runs": len(group),
                "accuracy": statistics.mean(row["accuracy"] for row in group),
                "loss": statistics.mean(losses) if losses else None,
                "error": statistics.stdev(losses) / len(losses) ** 0.5 if len(losses) > 1 else None,
                "saving": group[0]["saving"] if kind == "integer" else 0.0,
                "formula_bits": group[0]["formula_bits"] if kind == "integer" else group[0]["fp32_bits"],
            }
        )  # fmt: skip
    return table


def table_text(found: Sequence[dict[str, Any]]) -> str:
    """The summary as a table in Markdown."""
    lines = ["| data | widths | runs | accuracy | loss, points | memory saved |", "|---|---|---|---|---|---|"]
    for row in summary(found):
        name = "float twin" if row["kind"] == "float" else row["widths"] or "as published"
        if row["changes"]:
            name += f" {row['changes']}"
        loss = "" if row["loss"] is None or row["kind"] == "float" else f"{row['loss']:+.2f}"
        if loss and row["error"] is not None:
            loss += f" ± {row['error']:.2f}"
        saved = "" if row["kind"] == "float" else f"{row['saving']:.2f} %"
        lines.append(f"| {row['data']} | {name} | {row['runs']} | {row['accuracy']:.2f} % | {loss} | {saved} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute what is missing, then print the table."""
    parser = argparse.ArgumentParser(prog="python -m intsnn.bench.learn_study", description=__doc__)
    parser.add_argument("--results", required=True, help="file of JSON lines; is added to")
    parser.add_argument("--data", default="nmnist,mnist-saccades", help=f"of {', '.join(POOLS)}")
    parser.add_argument("--seeds", type=int, default=5, help="of the base point and its twin")
    parser.add_argument("--sweep-seeds", type=int, default=1)
    parser.add_argument("--sweeps", default="PQ,S,EG", help=f"of {', '.join(SWEEPS)}; empty: none")
    parser.add_argument("--widths", action="append", default=[], help="one more point, on every seed: 'P9 Q8'")
    parser.add_argument("--rule", action="append", default=[], help="one more point: fields of the rule as JSON")
    parser.add_argument("--most", type=int, default=None, help="stop after so many runs")
    parser.add_argument("--table", action="store_true", help="compute nothing, print the table")
    given = parser.parse_args(arguments)
    names = [name for name in given.data.split(",") if name]
    sweeps = [name for name in given.sweeps.split(",") if name]
    for name, known in [(n, POOLS) for n in names] + [(n, SWEEPS) for n in sweeps]:
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")
    wanted = list(plan(names, given.seeds, given.sweep_seeds, sweeps))
    wanted += [Run(names[0], seed, text) for text in given.widths for seed in range(given.seeds)]
    wanted += [Run(names[0], seed, changes=text) for text in given.rule for seed in range(given.seeds)]
    done = {row["key"] for row in rows(given.results)}
    missing = [] if given.table else [run for run in wanted if run.key not in done][: given.most]
    for number, run in enumerate(missing, 1):
        row = compute(run)
        _append(given.results, row)
        print(
            f"[{number}/{len(missing)}] {run.data} seed {run.seed} {run.kind} {run.widths or 'as published'} "
            f"{run.changes}: {row['accuracy']:.2f} % ({row['cpu_seconds']:.0f} s)",
            flush=True,
        )
    print(table_text(rows(given.results)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
