"""One training from the data to the file: what ``intsnn train`` does for the recipes of this package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch

from ... import datasets
from ...convert import Rule, convert
from ...pipeline import accuracy
from ...simulate import simulate
from .bridge import compare_levels, export
from .recipes import Recipe, recipe
from .training import Progress, Trained, train

__all__ = ["run"]


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
    chosen = recipe(name)
    if settings["seed"] is not None:
        chosen = replace(chosen, seed=settings["seed"])
    if settings["epochs"] is not None:
        stages = tuple(replace(stage, epochs=min(stage.epochs, settings["epochs"])) for stage in chosen.stages)
        chosen = replace(chosen, stages=stages)
    torch.set_num_threads(settings["threads"])
    data = datasets.load(settings["data"] or f"{chosen.data}:train")
    test = datasets.load(settings["test"] or f"{chosen.data}:test")
    say(f"{name}: {chosen.architecture} on {data.name}, {chosen.epochs} epochs, seed {chosen.seed}")
    trained = train(
        chosen, data, test, checkpoint=settings["checkpoint"], resume=not settings["anew"],
        device=settings["device"], progress=progress, log=_log(chosen, say),
    )  # fmt: skip
    facts = {"recipe": name, "data": data.name, "test": test.name, "seed": chosen.seed, "method": chosen.method}
    provenance = {
        "source": "intsnn train", "settings": asdict(chosen), "data": data.name, "torch": str(torch.__version__),
        "threads": settings["threads"],
        "history": [{key: value for key, value in entry.items() if key != "seconds"} for entry in trained.history],
    }  # fmt: skip
    export(trained.network, settings["output"], maximum=data.maximum, metadata=facts, provenance=provenance)
    return _measure(trained, settings, test, data.maximum, say) | facts | {"history": trained.history}


def _log(chosen: Recipe, say: Callable[[str], None]) -> Callable[[dict], None]:
    """A line for each epoch."""

    def log(entry: dict) -> None:
        stage = chosen.stages[entry["stage"]]
        line = f"{stage.name:>8}  epoch {entry['epoch']}/{stage.epochs}  loss {entry['loss']:.4f}"
        left = (sum(s.epochs for s in chosen.stages[entry["stage"] :]) - entry["epoch"]) * entry["seconds"]
        line += f"  {entry['seconds']:.0f} s, about {left / 60:.0f} min left"
        say(line + (f"  test {entry['accuracy']:.2f} %" if entry["accuracy"] is not None else ""))

    return log


def _measure(trained: Trained, settings: dict, test, maximum: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Convert what was written, settle it on the test data, compare every level with torch."""
    from ...files import load

    converted = convert(load(settings["output"]), Rule(trained.recipe.method)).network
    run = simulate(converted, test.images, settle=True, threads=settings["threads"])
    driven = simulate(converted, test.images, threads=settings["threads"])
    levels = compare_levels(trained.network, converted, test.images, maximum, threads=settings["threads"])
    stages = [
        {"name": stage.name, "accuracy": trained.accuracy_of(number)}
        for number, stage in enumerate(trained.recipe.stages)
    ]
    values = {
        "stages": stages,
        "accuracy": accuracy(run.predictions, test.labels),
        "accuracy_drive": accuracy(driven.predictions, test.labels),
        "t_drive": converted.t_drive,
        "extra_steps": int(run.extra_steps.max(initial=0)),
        "settled": run.settled,
        "levels_compared": levels.compared,
        "levels_differing_float32": levels.single,
        "levels_differing_float64": levels.double,
        "seconds": trained.seconds,
    }
    say(f"torch {stages[-1]['accuracy']:.2f} %; spikes: T = {converted.t_drive} {values['accuracy_drive']:.2f} %, "
        f"settled {values['accuracy']:.2f} % ({values['extra_steps']} extra steps at most)")  # fmt: skip
    say(
        f"settled spikes against torch: {levels.compared:,} levels, {levels.differing[0]} differ from float32, "
        f"{levels.differing[1]} from float64"
    )
    say(f"written {settings['output']}")
    return values
