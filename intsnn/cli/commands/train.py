"""``intsnn train``: make a trained network again, from its recipe, of whatever family (`models.families`)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

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

if TYPE_CHECKING:
    from ...models.training.recipes import Family, Progress

__all__ = ["command"]


def recipes() -> dict[str, tuple[Any, Family]]:
    """Every recipe by name, with its family."""
    from ...models.families import FAMILIES

    return {name: (each, family) for family in FAMILIES for name, each in family.recipes.items()}


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
    family = table[recipe][1] if recipe in table else _of_files()
    if not family.needs_output:
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
    with options_checked(), _bar() as progress:
        values = family.run(recipe, settings, progress, console.line)
    if plots:
        from ...bench.learning.plots import plot_history

        values["plots"] = plot_history(values["history"], plots, values["recipe"])
    finish(console, values)


def _of_files() -> Family:
    """The family that trains recipes from TOML files."""
    from ...models.families import FAMILIES

    return next(family for family in FAMILIES if family.from_file)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Progress], None] | None]:
    """A bar with the time left on a terminal; None elsewhere, where there is a line for each epoch."""
    from rich.console import Console as Terminal
    from rich.progress import BarColumn, Progress, TextColumn

    screen = Terminal(stderr=True)
    if not screen.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("training", total=1.0, note="")

        def show(state) -> None:
            description, note = _shown(state)
            bar.update(task, completed=state.part, description=description, note=note)

        yield show


def _shown(state: Progress) -> tuple[str, str]:
    """Where a training is, and what else."""
    left = "" if state.left is None else f", {_time(state.left)} left"
    return f"{state.stage}, epoch {state.epoch + 1}/{state.epochs}", state.note + left


def _time(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {int(seconds) % 60:02d} s"
