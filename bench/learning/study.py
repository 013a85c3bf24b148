"""How much accuracy does learning with integers cost, and at which width does it break?

``python -m intsnn.bench.learning.study --results runs.jsonl`` trains a small convolutional network with integers and
with the float twin (same network, rule, seeds, batches and budget), then with each width changed by itself. Every run
is one line of JSON in the file; a run that is there is never computed again, so a study can be stopped and called
again. ``--table`` prints what is there. ``intsnn bench learn`` does the same for a recipe and its own training and
test data.

Each pool of recordings has a fixed test set, a part of the pool or another set. A run for ``test`` trains on what is
left, drawn and ordered by its seed; one for ``validation`` trains on four fifths of that and is tested on the last
fifth: settings are chosen by those only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from ...analysis.scores import check_labels
from ...datasets.overlap import check_overlap
from ...errors import FormatError
from ...learning import memory as learn_memory
from ...learning.learner import Conv, LearningNetwork, Rule, Schedule
from ...models.learning.decolle import train
from ...models.learning.decolle_recipes import Recipe, recipe, with_widths
from ...models.learning.sequences import order, sequences
from ...support.pipes import say

__all__ = ["SWEEPS", "Run", "Subset", "compute", "main", "plan", "rows", "study", "summary"]


class Pool(NamedTuple):
    """Recordings: how many are for training, drawn by the seed, and for testing, always the same.

    Tests are from `test`, or where that is None from `sets`.
    """

    sets: tuple[str, ...]
    training: int
    testing: int
    test: str | None = None


POOLS = {
    "nmnist": Pool(("nmnist:train", "nmnist:test"), 700, 400),
    "mnist-saccades": Pool(("mnist-saccades:train:6000",), 700, 400),
    "mnist-saccades-full": Pool(("mnist-saccades:train",), 7500, 10_000, "mnist-saccades:test"),
    "digits": Pool(("digits:train:300",), 200, 100),
}
OF_RECIPE = "recipe:"  # and its name, in the place of a pool: the training and test data of the recipe
PARTS = ("test", "validation")
BEGIN = b'{"key": "'  # of every line of a results file
ROUNDING = ("trace_rounding", "gradient_scale", "step_limit")  # fields of the rule that only integers feel
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
    epochs=8,
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
    "P": [f"P{p}" for p in (6, 8, 10, 14)],
    "Q": [f"Q{q}" for q in (4, 6, 8, 12)],
    "R": [f"R{r}" for r in (1, 3, 4, 6)],
    "U": [f"U{u}" for u in (3, 4, 5, 8)],
    "A": [f"A{a}" for a in (3, 4, 5, 8)],
    "Sig": [f"Sig{s}" for s in (3, 4, 5, 8)],
    "E": [f"E{e}" for e in (2, 3, 4, 5)],
    "G": [f"G{g}" for g in (6, 7, 8, 9, 12)],
}


@dataclass(frozen=True)
class Run:
    """One training of the study.

    Parameters
    ----------
    data : str
        Of `POOLS`, or `OF_RECIPE` with the name of a recipe or a TOML file.
    seed : int
    widths : str
        What differs from the published widths. The float twin feels of them what is drawn or decided before learning:
        the codes of the readouts, the scale of outputs, the range of the weights.
    kind : {"integer", "float"}
    changes : str
        Fields of the rule, of the schedule or of the recipe that differ, as JSON.
    part : {"test", "validation"}
        What it is tested on.
    """

    data: str
    seed: int
    widths: str = ""
    kind: str = "integer"
    changes: str = ""
    part: str = "test"

    @property
    def recipe(self) -> Recipe:
        """Everything that decides the result, but for the split; on another grid G the real learning rate stays."""
        if self.data.startswith(OF_RECIPE):
            base = recipe(self.data.removeprefix(OF_RECIPE))
        else:
            base = TINY if self.data == "digits" else BASE
        found = replace(base, seed=self.seed)
        changes = json.loads(self.changes) if self.changes else {}
        for name in ("rule", "schedule"):
            known = {item.name for item in fields(getattr(found, name))}
            own = {key: changes.pop(key) for key in list(changes) if key in known}
            found = replace(found, **{name: replace(getattr(found, name), **own)})
        found = replace(found, **changes)
        found = with_widths(found, self.widths)
        finer = found.rule.widths.gradient - base.rule.widths.gradient
        return replace(found, schedule=replace(found.schedule, start=found.schedule.start - finer))

    @property
    def key(self) -> str:
        """Digest of all that decides the result."""
        pool = [value for value in POOLS.get(self.data, ()) if value is not None] or None
        spec = {"recipe": self.recipe.to_json(), "pool": pool, "data": self.data, "kind": self.kind}
        spec["part"] = self.part
        return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


class Subset:
    """Some sequences of several sets."""

    def __init__(self, parts: Sequence[Any], indices, name: str) -> None:
        self.parts, self.indices, self.name = parts, np.asarray(indices), name
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.labels = np.concatenate([part.labels for part in parts])[self.indices]
        self.shape, self.classes, self.steps = parts[0].shape, parts[0].classes, parts[0].steps

    def __len__(self) -> int:
        return len(self.indices)

    def digests(self) -> list[bytes]:
        """What each sequence is known by."""
        known = [digest for part in self.parts for digest in part.digests()]
        return [known[index] for index in self.indices]

    def frames(self, indices, epoch: int) -> np.ndarray:
        """As of `decolle_data.EventSequences.frames`."""
        found = []
        for index in self.indices[indices]:
            part = int(np.searchsorted(self._starts, index, side="right")) - 1
            found.append(self.parts[part].frames([index - self._starts[part]], epoch))
        return np.concatenate(found, axis=1)


FRAMES = ("data", "test", "seed", "coding", "steps", "test_steps", "bin_us", "divide", "window", "peak")  # decide them
_PARTS: dict[tuple, tuple[list[Any], Any]] = {}


def split(run: Run) -> tuple[Subset, Subset]:
    """Training and test sequences of a run; in validation the last fifth of the training sequences is tested on.

    All training data of a recipe are learned, in its own order: a run is what ``intsnn train`` does.
    """
    training, own = _parts(run)
    everything, pool = np.arange(sum(len(part) for part in training)), POOLS.get(run.data)
    if pool is None:
        tests, drawn = np.arange(len(own)), everything
        if run.part == "validation":
            drawn = drawn[order(len(drawn), run.seed, 1 << 32)]
    else:
        fixed, tests = order(len(everything), 0, 1 << 32), np.arange(pool.testing)
        if own is None:
            tests, fixed = fixed[: pool.testing], fixed[pool.testing :]
        drawn = fixed[order(len(fixed), run.seed, 1 << 32)][: pool.training]
    name = f"{run.data}, {run.part}"
    if run.part == "validation":
        cut = len(drawn) * 4 // 5
        return Subset(training, drawn[:cut], f"{name} {run.seed}"), Subset(training, drawn[cut:], name)
    return Subset(training, drawn, f"{name} {run.seed}"), Subset(training if own is None else [own], tests, name)


def _parts(run: Run) -> tuple[list[Any], Any]:
    """Sets to learn from, and the one that is for tests alone if there is one; those of the last run are kept."""
    chosen, pool = run.recipe, POOLS.get(run.data)
    if pool is not None and chosen.coding == "events":
        chosen = replace(chosen, seed=0)  # draws nothing: one set serves every seed
    key = (pool, *(getattr(chosen, name) for name in FRAMES))
    if key not in _PARTS:
        _PARTS.clear()
        if pool is None:
            data, test = sequences(chosen, False), sequences(chosen, True)
            advice = "give the recipe other data to learn, or to be tested on"
            check_overlap(data.digests(), test.digests(), (data.name, test.name), False, advice)
            check_labels(test.labels, data.classes, test.name)
            _PARTS[key] = [data], test
        else:
            own = None if pool.test is None else sequences(chosen, False, pool.test)
            _PARTS[key] = [sequences(chosen, False, spec) for spec in pool.sets], own
    return _PARTS[key]


def compute(run: Run) -> dict[str, Any]:
    """Train and test; plain values."""
    data, test = split(run)
    began, cpu, chosen = time.monotonic(), time.process_time(), run.recipe
    network = LearningNetwork(data.shape, chosen.layers, data.classes, chosen.rule)
    learner: Any
    if run.kind == "integer":
        trained = train(chosen, data, Subset(test.parts, test.indices[:1], test.name))
        learner, last = trained.learner, trained.history[-1]
        values = {"weights_sha256": learner.weights_sha256(), "saturations": last["saturations"]}
        values |= {
            "train": last["train"],
            "loss": last["loss"],
            "changed": [each["changed"] for each in trained.history],
        }
    else:
        learner, values = _float(chosen, network, data), {}
    right, shares = _right(learner, test, chosen.test_batch)
    accuracies = [100.0 * float(layer.mean()) for layer in right]
    size = learn_memory.memory(network)
    return {
        "key": run.key, "data": run.data, "seed": run.seed, "widths": run.widths, "kind": run.kind,
        "changes": run.changes, "part": run.part, "accuracy": accuracies[-1],
        "accuracies": accuracies, "tested": len(test), "steps": learner.steps,
        "right": np.packbits(right[-1]).tobytes().hex(), "shares": shares,
        "formula_bits": size.bits, "fp32_bits": size.bits_fp32, "saving": size.saving,
        "measured_bytes": size.measured_bytes, "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu, **values,
    }  # fmt: skip


def _right(learner, test: Subset, batch: int) -> tuple[np.ndarray, list[float]]:
    """Which tests each readout gets right by the vote of all steps ``(layers, N)``; per cent of votes for the label."""
    found, shares = [], []
    for start in range(0, len(test), batch):
        indices = np.arange(start, min(start + batch, len(test)))
        votes, labels = learner.votes(test.frames(indices, 0), first_sample=start), test.labels[indices]
        found.append(votes.argmax(2) == labels)
        shares.append(votes[:, np.arange(len(labels)), labels] / votes.sum(2))
    return np.concatenate(found, axis=1), [100.0 * float(x) for x in np.concatenate(shares, axis=1).mean(1)]


def _float(chosen: Recipe, network: LearningNetwork, data: Subset) -> Any:
    """The same batches through the float twin."""
    from .float_torch import FloatLearner

    learner: Any = FloatLearner(network, chosen.seed)
    size = min(chosen.batch, len(data))
    for epoch in range(chosen.epochs):
        drawn = order(len(data), chosen.seed, epoch)
        for batch in range(len(data) // size):
            indices = drawn[batch * size : (batch + 1) * size]
            state = learner.begin(size)
            for frame in data.frames(indices, epoch):
                learner.learn(state, frame, data.labels[indices], chosen.schedule.shift(epoch))
    return learner


def plan(
    data: Sequence[str], seeds: int, sweep_seeds: int, sweeps: Sequence[str], points: Sequence[str] = (),
    changes: str = "", part: str = "test", twins: bool = True, own_twins: bool = False,
) -> Iterator[Run]:  # fmt: skip
    """Runs in order: the base point of every seed with its twin, further points, then one group of widths at a time.

    With `own_twins` each of the further points has a twin with its widths.
    """
    for seed in range(seeds):
        for name in data:
            yield Run(name, seed, changes=changes, part=part)
            if twins:
                yield Run(name, seed, kind="float", changes=twin_changes(changes), part=part)
            for widths in points:
                yield Run(name, seed, widths, changes=changes, part=part)
                if own_twins:
                    yield Run(name, seed, widths, "float", twin_changes(changes), part)
    for seed in range(sweep_seeds):
        for name in data:
            for group in sweeps:
                for widths in SWEEPS[group]:
                    yield Run(name, seed, widths, changes=changes, part=part)


def twin_changes(changes: str) -> str:
    """Those of `changes` that the float twin feels."""
    kept = {name: value for name, value in json.loads(changes or "{}").items() if name not in ROUNDING}
    return json.dumps(kept) if kept else ""


def rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Finished runs; a line that was cut off is none.

    Raises
    ------
    FormatError
        A file that is something else: nothing may be added to it.
    """
    found: dict[str, dict[str, Any]] = {}
    if os.path.exists(path):
        with open(path, "rb") as file:
            begin = file.read(len(BEGIN))
        if not BEGIN.startswith(begin):
            raise FormatError(f"{os.fspath(path)} holds no runs of a study; give another file for the results")
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


def study(path: str | os.PathLike[str], wanted: Sequence[Run], most: int | None = None) -> Iterator[tuple]:
    """Compute what is missing in the file: number, how many there are to do, the run, its result."""
    done = {row["key"] for row in rows(path)}
    each = {run.key: run for run in wanted}  # a point may be named twice
    missing = [run for key, run in each.items() if key not in done][:most]
    for number, run in enumerate(missing, 1):
        row = compute(run)
        _append(path, row)
        yield number, len(missing), run, row


def line_of(run: Run, row: dict[str, Any]) -> str:
    """A line about a run that has ended."""
    name = " ".join(word for word in (run.kind, run.widths or "as published", run.changes, run.part) if word)
    return (
        f"{run.data} seed {run.seed} {name}: {row['accuracy']:.2f} %, {row['shares'][-1]:.2f} % of votes "
        f"({row['cpu_seconds']:.0f} s)"
    )


def summary(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By data, part, kind, widths and changes: runs, mean accuracy, and the mean loss against the twins.

    ``loss`` is in points, over the seeds that have a twin. ``error`` is its standard error over seeds (None for one
    seed), ``error_tests`` that over test sequences, each with the mean of its seeds (None where sets differ by seed).
    ``own_loss`` is the loss against twins of the same widths, None where there are none.
    """
    twins = {
        (row["data"], row["part"], row["changes"], row["seed"], row["widths"]): row
        for row in found
        if row["kind"] == "float"
    }
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in found:
        key = tuple(row[name] for name in ("data", "part", "kind", "widths", "changes"))
        groups.setdefault(key, []).append(row)
    table = []
    for (data, part, kind, widths, changes), group in groups.items():
        pairs = [(twins.get((data, part, twin_changes(changes), row["seed"], "")), row) for row in group]
        both = [(twin, row) for twin, row in pairs if twin is not None]
        own = [(twins.get((data, part, twin_changes(changes), row["seed"], widths)), row) for row in group]
        own_losses = [twin["accuracy"] - row["accuracy"] for twin, row in own if twin is not None]
        losses = [twin["accuracy"] - row["accuracy"] for twin, row in both]
        by_test = np.mean([_bits(twin) - _bits(row) for twin, row in both], axis=0) if both and part == "test" else None
        table.append(
            {
                "data": data, "part": part, "kind": kind, "widths": widths, "changes": changes, "runs": len(group),
                "accuracy": statistics.mean(row["accuracy"] for row in group),
                "loss": statistics.mean(losses) if losses else None,
                "own_loss": statistics.mean(own_losses) if own_losses and kind == "integer" else None,
                "error": statistics.stdev(losses) / len(losses) ** 0.5 if len(losses) > 1 else None,
                "error_tests": None if by_test is None else 100 * float(by_test.std(ddof=1)) / len(by_test) ** 0.5,
                "saving": group[0]["saving"] if kind == "integer" else 0.0,
                "formula_bits": group[0]["formula_bits"] if kind == "integer" else group[0]["fp32_bits"],
            }
        )  # fmt: skip
    return table


def _bits(row: dict[str, Any]) -> np.ndarray:
    """Which tests a run got right, 0 or 1."""
    packed = np.frombuffer(bytes.fromhex(row["right"]), np.uint8)
    return np.unpackbits(packed, count=row["tested"]).astype(np.int64)


def table_text(found: Sequence[dict[str, Any]]) -> str:
    """The summary as a table in Markdown; the first error is over seeds, the second over test sequences."""
    lines = [
        "| data | part | widths | runs | accuracy | loss, points | memory saved |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in summary(found):
        name = " ".join(["float twin"] * (row["kind"] == "float") + [row["widths"]] * bool(row["widths"]))
        name = name or "as published"
        if row["changes"]:
            name += f" {row['changes']}"
        loss = "" if row["loss"] is None or row["kind"] == "float" else f"{row['loss']:+.2f}"
        for error in ("error", "error_tests") if loss else ():
            loss += "" if row[error] is None else f" ± {row[error]:.2f}"
        saved = "" if row["kind"] == "float" else f"{row['saving']:.2f} %"
        lines.append(
            f"| {row['data']} | {row['part']} | {name} | {row['runs']} | {row['accuracy']:.2f} % | {loss} | {saved} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute what is missing, then print the table."""
    parser = argparse.ArgumentParser(prog="python -m intsnn.bench.learning.study", description=__doc__)
    parser.add_argument("--results", required=True, help="file of JSON lines; is added to")
    parser.add_argument("--data", default="nmnist,mnist-saccades", help=f"of {', '.join(POOLS)}")
    parser.add_argument("--seeds", type=int, default=5, help="of the base point and its twin")
    parser.add_argument("--sweep-seeds", type=int, default=1)
    parser.add_argument("--sweeps", default="PQ,S,EG", help=f"of {', '.join(SWEEPS)}; empty: none")
    parser.add_argument("--widths", action="append", default=[], help="one more point, on every seed: 'P9 Q8'")
    parser.add_argument("--own-twins", action="store_true", help="a float twin for each of --widths")
    parser.add_argument(
        "--settings", action="append", help="fields of rule, schedule or recipe as JSON, for integers and twin alike"
    )
    parser.add_argument(
        "--part", choices=PARTS, default="test", help="what is tested on; settings are chosen by validation"
    )
    parser.add_argument("--most", type=int, default=None, help="stop after so many runs")
    parser.add_argument("--table", action="store_true", help="compute nothing, print the table")
    given = parser.parse_args(arguments)
    names = [name for name in given.data.split(",") if name]
    sweeps = [name for name in given.sweeps.split(",") if name]
    for name, known in [(n, POOLS) for n in names] + [(n, SWEEPS) for n in sweeps]:
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")
    wanted = [
        run
        for changes in given.settings or [""]
        for run in plan(
            names, given.seeds, given.sweep_seeds, sweeps, given.widths, changes, given.part, True, given.own_twins
        )
    ]
    for number, count, run, row in study(given.results, wanted, 0 if given.table else given.most):
        say(f"[{number}/{count}] {line_of(run, row)}")
    say(table_text(rows(given.results)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
