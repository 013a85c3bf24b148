"""One training, or one fine-tuning, from the data to the file: ``intsnn train`` and ``intsnn tune``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, cast

import torch

from ...analysis.curves import curve
from ...analysis.scores import accuracy, check_labels, mean_iou
from ...conversion.spikes import NeuronRule, convert
from ...datasets import catalogue as datasets
from ...datasets.overlap import unseen
from ...engine.simulation import simulate
from ...network.quantised import QuantisedNetwork
from ..training.checkpoints import learned
from ..training.provenance import epoch_line, facts, provenance, seeded, without_seconds
from ..training.recipes import Progress
from .bridge import compare_levels, export
from .network import QuantNetwork
from .recipes import Recipe, recipe
from .training import train, trained_network
from .tuning import Attempt, Tuning, tune

__all__ = ["fine_tune", "run"]


def run(
    name: str,
    settings: dict[str, Any],
    progress: Callable[[Progress], None] | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train by the recipe `name`, write the quantised network and measure what becomes of it.

    Parameters
    ----------
    name : str
    settings : dict
        ``output`` and ``checkpoint`` (paths); ``data``, ``test``, ``seed``, ``epochs`` and ``device`` (None: those of
        the recipe); ``anew`` (bool); ``threads`` (int).
    progress : callable or None
        Called during each epoch.
    say : callable
        Called with a line of text after each epoch and with the results.

    Returns
    -------
    dict
        Plain values: recipe, history, accuracies in per cent, compared and differing levels.
    """
    chosen, data, test, overlap = _prepared(name, settings, say)
    say(f"{name}: {chosen.architecture} on {data.name}, {chosen.epochs} epochs, seed {chosen.seed}")
    trained = train(
        chosen, data, test, checkpoint=settings["checkpoint"], resume=not settings["anew"],
        device=settings["device"], progress=progress, log=_log(chosen, say), say=say,
    )  # fmt: skip
    about = facts(name, chosen, data, test, "method") | overlap
    origin = provenance("intsnn train", chosen, data, settings["threads"]) | {
        "history": without_seconds(trained.history)
    }
    export(trained.network, settings["output"], maximum=data.maximum, metadata=about, provenance=origin)
    stages = [
        {"name": stage.name, "accuracy": trained.accuracy_of(number)} for number, stage in enumerate(chosen.stages)
    ]
    say(f"torch {stages[-1]['accuracy']:.2f} %")
    say(learned(data.name, test.name, about))
    values = _measure(trained.network, chosen, settings, test, say) | about
    return {"stages": stages} | values | {"seconds": trained.seconds, "history": trained.history}


def fine_tune(name: str, settings: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Fine-tune what a training left in its checkpoint, write it and measure what becomes of it.

    Parameters
    ----------
    name : str
        Recipe of the training.
    settings : dict
        ``output`` and ``checkpoint`` (paths); ``data``, ``test``, ``seed`` and ``epochs`` as in the training;
        ``tune_epochs``, ``rate``, ``steps``, ``samples``, ``force`` (see `Tuning`); ``threads``.
    say : callable

    Returns
    -------
    dict
        Plain values: attempts, accuracies in per cent before and after, compared and differing levels.
    """
    chosen, data, test, overlap = _prepared(name, settings, say)
    original = trained_network(chosen, data, settings["checkpoint"])
    options = Tuning(
        epochs=settings["tune_epochs"], rate=settings["rate"], steps=settings["steps"], samples=settings["samples"],
        forced=settings["force"], seed=chosen.seed, batch=min(128, len(data)),
    )  # fmt: skip

    def log(attempt: Attempt) -> None:
        verdict = "kept" if attempt.kept else "rolled back"
        say(f"{attempt.layer}: {attempt.before:.3f} -> {attempt.after:.3f} % of the training data, {verdict}")

    say(f"{name}: fine-tuned on {data.name} for T = {settings['steps'] or 'T_drive'}, seed {chosen.seed}")
    outcome = tune(original, data, options, rule=NeuronRule(chosen.method), log=log)
    about = facts(name, chosen, data, test, "method") | overlap
    attempts = [asdict(attempt) for attempt in outcome.attempts]
    origin = provenance("intsnn tune", chosen, data, settings["threads"], tuning=asdict(options))
    origin |= {"attempts": attempts}
    export(original, settings["output"], maximum=data.maximum, metadata=about, provenance=origin)
    say("before:")
    before = _measure(original, chosen, settings, test, say)
    export(outcome.network, settings["output"], maximum=data.maximum, metadata=about, provenance=origin)
    say("after:")
    after = _measure(outcome.network, chosen, settings, test, say)
    return after | about | {"before": before, "attempts": attempts}


def _prepared(
    name: str, settings: dict[str, Any], say: Callable[[str], None]
) -> tuple[Recipe, datasets.Dataset, datasets.Dataset, dict[str, Any]]:
    """The recipe with what was changed about it, its data and what of them overlaps; torch gets its threads."""
    chosen = seeded(recipe(name), settings)
    if settings["epochs"] is not None:
        stages = tuple(replace(stage, epochs=min(stage.epochs, settings["epochs"])) for stage in chosen.stages)
        chosen = replace(chosen, stages=stages)
    torch.set_num_threads(settings["threads"])
    data = datasets.load(settings["data"] or f"{chosen.data}:train", "train")
    test = datasets.load(settings["test"] or f"{chosen.data}:test")
    if data.labels is not None and test.labels is not None:
        check_labels(test.labels, max(len(data.classes), int(data.labels.max()) + 1), test.name)
    return chosen, data, test, unseen(data, test, settings.get("allow_overlap", False), say)


def _log(chosen: Recipe, say: Callable[[str], None]) -> Callable[[dict], None]:
    """A line for each epoch."""

    def log(entry: dict) -> None:
        stages = chosen.stages[entry["stage"] :]
        left = (sum(stage.epochs for stage in stages) - entry["epoch"]) * entry["seconds"]
        say(epoch_line(entry, stages[0].epochs, f", about {left / 60:.0f} min left"))

    return log


def _measure(
    network: QuantNetwork, chosen: Recipe, settings: dict, test, say: Callable[[str], None]
) -> dict[str, Any]:  # fmt: skip
    """Convert what was written, settle it on the test data, compare every level with torch."""
    from ...files.network_file import load

    threads = settings["threads"]
    converted = convert(cast(QuantisedNetwork, load(settings["output"])), NeuronRule(chosen.method)).network
    run = simulate(converted, test.images, settle=True, threads=threads)
    drive, extra = converted.t_drive or 0, int(run.extra_steps.max(initial=0))
    by_step = curve(converted, test.images, test.labels, drive + extra, threads=threads).accuracy
    levels = compare_levels(network, converted, test.images, test.maximum, threads=threads)
    overlap = None
    if test.labels.ndim == 3:
        overlap = mean_iou(run.predictions, test.labels, len(test.classes))
    values = {
        **({} if overlap is None else {"mean_iou": overlap}),
        "accuracy": accuracy(run.predictions, test.labels),
        "accuracy_drive": by_step[drive - 1],
        "accuracy_by_step": by_step,
        "t_drive": converted.t_drive,
        "extra_steps": extra,
        "settled": run.settled,
        "levels_compared": levels.compared,
        "levels_differing_float32": levels.single,
        "levels_differing_float64": levels.double,
    }
    say(f"spikes: T = {drive} {by_step[drive - 1]:.2f} %, settled {values['accuracy']:.2f} % ({extra} extra steps at "
        f"most); after each step: {', '.join(f'{value:.2f}' for value in by_step)}")  # fmt: skip
    if overlap is not None:
        say(f"mean intersection over union of {len(test.classes)} classes, settled: {overlap:.2f} %")
    say(
        f"settled spikes against torch: {levels.compared:,} levels, {levels.differing[0]} differ from float32, "
        f"{levels.differing[1]} from float64"
    )
    say(f"written {settings['output']}")
    return values
