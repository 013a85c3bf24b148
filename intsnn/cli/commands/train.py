"""``intsnn train``: make a trained network again, from its recipe.

Recipes come in families: a module with `RECIPES` (name to something with `note` and `data`) that needs no extra, and
a module whose ``run(name, settings, progress, say)`` does the work and returns plain values. A new family is one line
in `FAMILIES`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import click

from ...errors import DataNotFoundError
from ..common import (
    DATA_HELP,
    LEARN_HELP,
    USAGE,
    Failure,
    check_output,
    finish,
    json_option,
    options_checked,
    overlap_option,
)

__all__ = ["FAMILIES", "command"]

# modules below intsnn: where the recipes are, and what trains them
FAMILIES = (
    (".models.qat.recipes", ".models.qat.work"),
    (".models.bptt.recipes", ".models.bptt.work"),
    (".models.learning.decolle_recipes", ".models.learning.decolle_report"),
    (".models.learning.stdp_recipes", ".models.learning.stdp_report"),
)
INTEGERS = (
    ".models.learning.decolle_report",
    ".models.learning.stdp_report",
)  # these need no output: their weights stay in the checkpoint
FROM_FILE = ".models.learning.decolle_report"  # trains recipes from TOML files
PACKAGE = __package__.split(".")[0]


def recipes() -> dict[str, tuple[Any, str]]:
    """Every recipe by name, with the module that trains it."""
    found: dict[str, tuple[Any, str]] = {}
    for where, worker in FAMILIES:
        table: Mapping[str, Any] = importlib.import_module(where, PACKAGE).RECIPES
        found |= {name: (each, worker) for name, each in table.items()}
    return found


@click.command("train")
@click.option("--recipe", metavar="NAME", help="What to train; --list shows all. Or a .toml file (docs/learning.md).")
@click.option("--list", "list_", is_flag=True, help="Show the recipes.")
@click.option("-o", "--output", metavar="NET.h5", help="Where the network goes; for `intsnn convert`.")
@click.option("--data", metavar="DATA", help=f"Other training data. {LEARN_HELP}")
@click.option("--test", metavar="DATA", help=f"Other test data. {DATA_HELP}")
@overlap_option
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), metavar="N", help="Other seed than that of the recipe.")
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="At most N epochs a stage: to try it out.")
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Integer learning: so many learning steps.")
@click.option("--checkpoint", metavar="FILE", help="Default: NET.h5.checkpoint, or RECIPE.checkpoint.")
@click.option(
    "--save-every", type=click.FloatRange(min=0), metavar="S", help="Integer learning: seconds between checkpoints."
)
@click.option("--plots", metavar="DIR", help="Integer learning: draw loss, accuracy and changes (matplotlib).")
@click.option("--anew", is_flag=True, help="Start again where a checkpoint is there.")
@click.option("--device", metavar="NAME", help="cpu or cuda; default: a GPU that is there.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", default=1, show_default=True)
@json_option
def command(
    recipe: str | None, list_: bool, output: str | None, plots: str | None, json_path: str | None, **settings
) -> None:  # fmt: skip
    """Train a network by a recipe.

    A run that was interrupted goes on where it is called again, and ends in the same bits on the CPU (with as many
    threads; recipes that learn with integers: with any number). At the end a quantised network is converted and its
    settled spikes are compared with what was trained.

    Example: intsnn train --recipe lenet-mnist-qffs -o lenet.h5 && intsnn convert lenet.h5 -o net.h5

    Example: intsnn train --recipe decolle-digits --steps 2000 --json digits.json
    """
    from ..console import Console

    table = recipes()
    console = Console(json_path)
    if list_:
        rows = [(name, each.data, each.note) for name, (each, _) in table.items()]
        console.table("Recipes", ("recipe", "data", "note"), rows)
        finish(console, {"recipes": [{"name": n, "data": d, "note": note} for n, d, note in rows]})
        return
    if recipe is None:
        raise Failure("--recipe NAME is needed; --list shows the recipes", USAGE)
    if recipe not in table and not recipe.endswith(".toml"):
        raise Failure(f"there is no recipe {recipe!r}; choose one of {', '.join(table)}, or a .toml file", USAGE)
    where = table[recipe][1] if recipe in table else FROM_FILE
    if where in INTEGERS:
        stem = output or os.path.splitext(os.path.basename(recipe))[0]
    elif output is None:
        raise Failure(f"-o NET.h5 is needed for recipe {recipe}", USAGE)
    elif plots or settings["steps"] or settings["save_every"] is not None:
        raise Failure(f"recipe {recipe}: --steps, --save-every and --plots are for learning with integers", USAGE)
    else:
        stem = output
    settings["output"] = output
    settings["checkpoint"] = settings["checkpoint"] or f"{stem}.checkpoint"
    check_output(output)
    check_output(settings["checkpoint"], output)
    check_output(json_path, output)
    if plots:
        from ...bench.learning.plots import check_plots

        check_plots()
    try:
        worker = importlib.import_module(where, PACKAGE)
    except ImportError as error:
        raise DataNotFoundError(
            f"training needs {error.name}, which is not installed: pip install intsnn[qat]"
        ) from error
    with options_checked(), _bar() as progress:
        values = worker.run(recipe, settings, progress, console.line)
    if plots:
        from ...bench.learning.plots import plot_history

        values["plots"] = plot_history(values["history"], plots, values["recipe"])
    finish(console, values)


@contextlib.contextmanager
def _bar() -> Iterator[Any]:
    """A bar with the time left on a terminal; None elsewhere, where there is a line for each epoch."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("training", total=1.0, note="")

        def show(state) -> None:
            part, description, note = _shown(state)
            bar.update(task, completed=part, description=description, note=note)

        yield show


def _shown(state: Any) -> tuple[float, str, str]:
    """Share that is done, where it is, what else: of any family's progress."""
    note = state.note if hasattr(state, "note") else f"loss {state.loss:.4f}"
    if state.left is not None:
        note += f", {_time(state.left)} left"
    part = state.part if hasattr(state, "part") else (state.epoch + state.batch / state.batches) / state.epochs
    return part, f"{state.stage}, epoch {state.epoch + 1}/{state.epochs}", note


def _time(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {int(seconds) % 60:02d} s"
