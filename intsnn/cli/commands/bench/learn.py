"""``intsnn bench learn``: learning with integers at other widths, against the float twin."""

from __future__ import annotations

import json

import click

from ....errors import DataNotFoundError
from ...common import USAGE, Failure, check_output, finish, json_option, options_checked, writing

__all__ = ["command"]

RESULTS = "learn.jsonl"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _cells(row: dict) -> tuple:
    """A row of the summary as text; a twin has no loss and saves nothing."""
    if row["kind"] == "float":
        return f"float twin {row['widths']}".strip(), row["runs"], f"{row['accuracy']:.2f}", "", "", "", "", ""
    figures = [row[name] for name in ("accuracy", "loss", "error", "error_tests", "own_loss", "saving")]
    return row["widths"] or "as in the recipe", row["runs"], *("" if x is None else f"{x:.2f}" for x in figures)


@click.command("learn")
@click.option("--recipe", required=True, metavar="NAME", help="Of integer learning (train --list), or a .toml file.")
@click.option("--widths", multiple=True, metavar="TEXT", help="A point: what differs, as 'P8 Q6'; more than one is "
              "possible.")  # fmt: skip
@click.option("--sweep", "sweeps", default="", metavar="GROUP,...", help="Widths that change by themselves: PQ, S, EG, "
              "W, P, Q, R, U, A, Sig, E, G.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="0 to N - 1.")
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Other than those of the recipe: to try it.")
@click.option("--validation", is_flag=True, help="Test on a fifth of the training data: to choose settings by.")
@click.option("--no-twin", is_flag=True, help="Without the float twin, which needs torch: accuracies, no losses.")
@click.option("--own-twins", is_flag=True, help="A float twin with the readouts and scales of each of --widths, too.")
@click.option("--results", default=RESULTS, show_default=True, metavar="FILE", help="JSON lines, which are continued.")
@click.option("--plot", "plot_folder", metavar="DIR", help="Draw each group (PNG and SVG; needs matplotlib).")
@click.option("--dry-run", is_flag=True, help="Say which runs there are and stop.")
@json_option
def command(
    recipe: str, widths: tuple[str, ...], sweeps: str, seeds: int, epochs: int | None, validation: bool, no_twin: bool,
    own_twins: bool, results: str, plot_folder: str | None, dry_run: bool, json_path: str | None,
) -> None:  # fmt: skip
    """Learn with integers at other widths: accuracy, loss against the float twin, memory.

    The recipe is trained as it is and with each change, for every seed; runs that have ended are in the results file at
    once, and the same command goes on where it stopped.

    Example: intsnn bench learn --recipe decolle-nmnist --sweep S,EG --widths "P8 Q6 S4" --seeds 5 --plot plots
    """
    from ....bench.learning import plots as learn_plots
    from ....bench.learning import study as learn_study
    from ...console import Console

    check_output(json_path, results, recipe)
    check_output(results, recipe)
    if plot_folder is not None:
        learn_plots.check_plots()
    groups = _words(sweeps)
    unknown = [name for name in groups if name not in learn_study.SWEEPS]
    if unknown:
        raise Failure(f"--sweep {unknown[0]}: choose of {', '.join(learn_study.SWEEPS)}", USAGE)
    part = "validation" if validation else "test"
    changes = "" if epochs is None else json.dumps({"epochs": epochs})
    console = Console(json_path)
    with options_checked():
        name = learn_study.OF_RECIPE + recipe
        runs = list(learn_study.plan([name], seeds, seeds, groups, widths, changes, part, not no_twin, own_twins))
        keys = [run.key for run in runs]  # widths that cannot be are found here, and results that are none
        there = {row["key"] for row in learn_study.rows(results)}
    if dry_run:
        each = dict(zip(keys, runs, strict=True))  # a point may be named twice
        rows = [(r.seed, r.kind, r.widths, "there" if k in there else "to do") for k, r in each.items()]
        console.table(f"{len(each)} runs", ("seed", "kind", "widths", ""), rows)
        finish(console, {"recipe": recipe, "results": results, "to_do": len(each.keys() - there), "runs": len(each)})
        return
    computed = 0
    try:
        with writing(results), console.progress("learning") as progress:
            for number, count, run, row in learn_study.study(results, runs):
                computed = number
                if progress is None:
                    console.line(f"[{number}/{count}] {learn_study.line_of(run, row)}")
                else:
                    progress(number, count)
    except ImportError as error:
        raise DataNotFoundError(
            f"the float twin needs {error.name}, which is not installed: pip install intsnn[qat], or give --no-twin"
        ) from error
    wanted = set(keys)
    found = [row for row in learn_study.rows(results) if row["key"] in wanted]
    table = learn_study.summary(found)
    console.table(
        f"{recipe}: {len(found)} runs, {computed} of them computed now; {results}",
        ("widths", "runs", "accuracy %", "loss, points", "over seeds +-", "over tests +-", "own twin: loss",
         "memory saved %"),
        [_cells(row) for row in table],
    )  # fmt: skip
    written: list[str] = []
    if plot_folder is not None:
        with writing(plot_folder):
            written = learn_plots.plot_widths(
                table, {group: learn_study.SWEEPS[group] for group in groups}, plot_folder
            )
        for path in written:
            console.line(f"written {path}")
    finish(console, {"recipe": recipe, "results": results, "computed": computed, "plots": written, "rows": table,
                    "runs": found})  # fmt: skip
