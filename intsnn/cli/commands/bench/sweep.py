"""``intsnn bench``: a sweep over bit widths, or one of the subcommands."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import click

from ...common import (
    DATA_HELP,
    INTERRUPTED,
    MISMATCH,
    REFUSED,
    USAGE,
    Failure,
    check_output,
    cores,
    finish,
    json_option,
    options_checked,
    trust_option,
    writing,
)
from . import learn, speed

__all__ = ["command"]

RESULTS = "bench.sqlite"
QUICK_RESULTS, QUICK_REPORT = "bench-quick.sqlite", "bench-quick"
QUICK = {"weights": (1, 2, 4, 8), "activations": (2, 4), "data": ("digits",)}


class Numbers(click.ParamType):
    """``1,2,4`` as a tuple of integers; `nothing` is a word that stands for None."""

    name = "list"

    def __init__(self, nothing: str | None = None) -> None:
        self.nothing = nothing

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        found: list[int | None] = []
        for word in str(value).split(","):
            word = word.strip()
            if word == self.nothing:
                found.append(None)
            elif word.isdecimal():
                found.append(int(word))
            else:
                other = f" or {self.nothing}" if self.nothing else ""
                self.fail(f"{word!r} is no number{other}; give some with commas between them", param, ctx)
        return tuple(found)


class Curves(click.ParamType):
    """A number of samples, or "all"."""

    name = "samples"

    def convert(self, value, param, ctx):
        if value == "all" or (isinstance(value, str) and value.isascii() and value.isdigit() and int(value) > 0):
            return value
        self.fail(f"{value!r} is no number of samples; give one from 1, or all", param, ctx)


@click.group("bench", invoke_without_command=True)
@click.option("--config", metavar="FILE.toml", help="The sweep in TOML; options here take precedence.")
@click.option("--model", "models", multiple=True, metavar="FILE", help="What convert takes, zoo:NAME, or recipe:NAME, "
              "which is trained for each cell; more than one is possible.")  # fmt: skip
@click.option("--data", multiple=True, metavar="DATA", help=f"More than one is possible. {DATA_HELP}")
@click.option("--method", "methods", multiple=True, metavar="NAME", help="fast-snn, qffs, ca-lif, or with +no-cap, "
              "+unsigned, +v-negative=X, +bias-once; more than one is possible; default: the three.")  # fmt: skip
@click.option(
    "--weights", type=Numbers(), metavar="BITS,...", help="Widths of the weights; default 8, or of the recipe."
)
@click.option("--activations", type=Numbers(), metavar="BITS,...",
              help="L = 2^BITS - 1 levels; default 4, or of the recipe.")  # fmt: skip
@click.option("--t-drive", type=Numbers("levels"), metavar="N,...", help="Driven steps; default: levels, that is L.")
@click.option("--state-bits", type=Numbers("proven"), metavar="BITS,...",
              help="Widths of the membranes, which saturate; default: proven, that is as wide as needed.")  # fmt: skip
@click.option("--seed", "seeds", type=Numbers(), metavar="N,...",
              help="Which calibration samples, 0: the first ones; of a recipe: of the training.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Of a recipe: at most N a stage, to try it.")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="The first N of the data; default all.")
@click.option("--curves", type=Curves(), metavar="N|all",
              help="On how many to measure spikes, layers and the accuracy after each step; default 1000.")  # fmt: skip
@click.option("--detail", type=click.IntRange(min=1), metavar="N", help="Another name of --curves.")
@click.option(
    "--verify", type=click.IntRange(min=0), metavar="N", help="On how many all paths are compared; default 32."
)
@click.option("--reference", type=click.IntRange(min=0), metavar="N", help="... and the plain reference; default 1.")
@click.option("--calibrate", metavar="DATA", help="Data for the scales, or for a recipe, none of which may be tested "
              "on; default: the training part.")  # fmt: skip
@click.option("--calibration-samples", type=click.IntRange(min=1), metavar="N", help="Default 2000.")
@click.option("--first-last", type=click.IntRange(1, 8), metavar="BITS", help="Other width for first and last layer.")
@click.option("--rounding", type=click.Choice(["auto", "nearest", "compensated"]),
              help="Of the weights; default: auto, what errs less on held-back calibration data.")  # fmt: skip
@click.option("--no-bias-correction", is_flag=True, help="Leave the biases as they are.")
@click.option("--input-scale", metavar="SCALE[,OFFSET]", help="Of all models given here.")
@click.option("--keras-backend", type=click.Choice(["theano", "tensorflow"]), help="Where a model does not say.")
@click.option("--results", metavar="FILE", help=f"SQLite file, which is continued; default {RESULTS}.")
@click.option("--report", "report_folder", metavar="DIR", help="Write the report here (needs matplotlib).")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes; default: all cores.")
@click.option("--backend", type=click.Choice(["local", "dask"]), default="local", show_default=True)
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster, such as tcp://10.0.0.1:8786.")
@click.option("--no-share", is_flag=True, help="Measure also networks whose spikes cannot differ, each by itself.")
@click.option("--quick", is_flag=True, help="The embedded digits: everything in less than two minutes.")
@click.option("--dry-run", is_flag=True, help="Say which cells there are and stop.")
@trust_option
@json_option
@click.pass_context
def command(ctx: click.Context, **options: Any) -> None:
    """Sweep bit widths: accuracy, memory, spikes; measure speed.

    Without a subcommand every cell of models x data x methods x weights x activations x state bits x seeds is
    converted (a recipe: trained), run to rest, verified on a sample and measured; finished cells are in the results
    file at once, and the same command goes on where it stopped.

    Example: intsnn bench --model lenet.h5 --data mnist --weights 1,2,4,8 --activations 2,4 --report report
    """
    if ctx.invoked_subcommand is not None:
        given = [p.opts[0] for p in ctx.command.params if p.name in options and _given(ctx, p.name)]
        if given:
            raise Failure(f"{', '.join(given)}: options of the sweep, and {ctx.invoked_subcommand} is none", USAGE)
        return
    _sweep(ctx, options)


command.add_command(speed.command)
command.add_command(learn.command)


def _given(ctx: click.Context, name: str | None) -> bool:
    return name is not None and ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _grid(ctx: click.Context, options: dict[str, Any]):
    """What is to be swept: the file, then --quick, then the options."""
    from ....bench.sweep.grid import Grid, ModelSpec, read_toml

    grid = read_toml(options["config"]) if options["config"] else Grid()
    changes: dict[str, Any] = {}
    if options["quick"]:
        from ....models import digits

        changes |= QUICK | {"models": (ModelSpec(os.fspath(digits.network_file())),)}
    shared = {"input_scale": "input_scale", "keras_backend": "backend", "calibrate": "calibrate"}
    common = {field: options[name] for name, field in shared.items() if options[name] is not None}
    if options["models"]:
        changes["models"] = tuple(ModelSpec(file) for file in options["models"])
    if common:
        sources = changes.get("models", grid.models)
        changes["models"] = tuple(dataclasses.replace(source, **common) for source in sources)
    for name in ("data", "weights", "activations", "t_drive", "state_bits", "seeds"):
        if options[name]:
            changes[name] = options[name]
    if options["methods"]:
        changes["methods"] = tuple(word.strip() for text in options["methods"] for word in text.split(","))
    for name in ("samples", "detail", "verify", "reference", "calibration_samples", "first_last", "epochs", "rounding"):
        if options[name] is not None:
            changes[name] = options[name]
    if options["curves"] is not None:
        if options["detail"] is not None:
            raise Failure("--curves and --detail are two names of one number; give one of them", USAGE)
        changes["detail"] = None if options["curves"] == "all" else int(options["curves"])
    if options["no_bias_correction"]:
        changes["bias_correction"] = False
    grid = dataclasses.replace(grid, **changes)
    if not grid.models or not grid.data:
        what = "--model FILE" if not grid.models else "--data DATA"
        raise Failure(f"there is nothing to sweep: give {what}, --config FILE.toml or --quick", USAGE)
    return grid.check()


def _sweep(ctx: click.Context, options: dict[str, Any]) -> None:
    import time

    from ....bench.sweep.cells import Cells
    from ....bench.sweep.results import Results
    from ....bench.sweep.sweep import sweep
    from ....bench.sweep.workers import Workers
    from ...console import Console
    from ...sweep_view import View, show_rows

    start = time.perf_counter()
    results = options["results"] or (QUICK_RESULTS if options["quick"] else RESULTS)
    report_folder = options["report_folder"] or (QUICK_REPORT if options["quick"] else None)
    with options_checked():
        grid = _grid(ctx, options)
        workers = Workers(options["backend"], options["jobs"] or cores(), options["scheduler"])
    check_output(results, *(source.file for source in grid.models), options["config"])
    check_output(options["json_path"], results, *(source.file for source in grid.models), options["config"])
    if options["report_folder"] and not _can_draw():
        raise Failure("--report needs matplotlib, which is not installed; install intsnn[report]", REFUSED)
    cells = Cells(grid, trust=options["trust"])
    console = Console(options["json_path"])
    listed = cells.all()
    if options["dry_run"]:
        _show_plan(console, cells, listed, results)
        return
    view = View(console)
    with Results(results) as store:
        try:
            with workers, view():
                summary = sweep(cells, store, workers, events=view.events, share=not options["no_share"])
        except KeyboardInterrupt:
            done = len(store.keys())
            message = f"interrupted; {done} cells are in {results}, and the same command goes on from there"
            raise Failure(message, INTERRUPTED) from None
        asked = {cell.spec for cell in listed}
        rows = [values for spec, values in store.rows() if spec in asked]
    show_rows(console, rows)
    console.line()
    for note in cells.notes:
        console.line(note)
    console.line(_summary(summary, results, time.perf_counter() - start))
    failed = sum(row["error"] is not None for row in rows)
    if failed:
        console.line(f"{failed} of {len(rows)} cells failed")
    written = None
    if report_folder is not None:
        written = _report(console, rows, report_folder, results)
    counts = {**dataclasses.asdict(summary), "failed": failed}
    values = {"results": results, "report": written, **counts, "notes": cells.notes, "rows": rows}
    finish(console, values)
    _judge(summary, rows, results)


def _show_plan(console, cells, listed, results: str) -> None:
    from ....bench.provenance import source_digest
    from ....bench.sweep.results import read_rows

    known = {row["key"] for row in read_rows(results, every=True)} if os.path.exists(results) else set()
    rows = [
        (c.model, c.data, c.method, c.weight_bits, c.activation_bits, c.t_drive, c.state_bits, c.seed, c.samples,
         "there" if c.key(source_digest()) in known else "to do")
        for c in listed
    ]  # fmt: skip
    columns = ("model", "data", "method", "w", "a", "T", "state bits", "seed", "samples", "")
    console.table(f"{len(listed)} cells", columns, rows)
    wanted = [
        cells.training(c, f"{results}.trained") for c, row in zip(listed, rows, strict=True) if row[-1] == "to do"
    ]
    trainings = {training.key: training for training in wanted if training is not None and not training.done}
    for training in trainings.values():
        console.line(f"to be trained: {training}, {training.recipe.epochs} epochs")


def _summary(summary, results: str, seconds: float) -> str:
    parts = [f"{summary.computed} cells computed", f"{summary.found} were there"] if summary.found else [
        f"{summary.computed} cells computed"
    ]  # fmt: skip
    if summary.trained:
        parts.append(f"{summary.trained} networks trained")
    if summary.stale:
        parts.append(f"{summary.stale} of them anew, for they came from another source of intsnn")
    if summary.retries:
        parts.append(f"{summary.retries} tasks given out again after a worker died")
    return f"{', '.join(parts)}; {results}; {seconds:.1f} s"


def _can_draw() -> bool:
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def _report(console, rows, folder: str, results: str) -> str | None:
    """Where the report was written, if it can be drawn here."""
    if not _can_draw():
        console.line("no report: it needs matplotlib, which is not installed (install intsnn[report])")
        return None
    from ....bench.report.write import write_report

    name = os.path.basename(results)
    with writing(folder), console.progress("plots") as progress:
        written = write_report(rows, folder, command=f"intsnn bench --results {name}", source=name, progress=progress)
    console.line(f"written {written[-1]}")
    return written[-1]


def _judge(summary, rows, results: str) -> None:
    """Raise for what is not as it must be."""
    wrong = [row for row in rows if row["mismatches"]]
    if wrong:
        first = wrong[0]
        name = f"{first['model']} {first['method']} w{first['weight_bits']} a{first['activation_bits']}"
        raise Failure(f"{len(wrong)} cells have mismatches where equality is due; the first is {name}", MISMATCH)
    if summary.undone:
        name, reason = next(iter(summary.undone.items()))
        undone = f"{len(summary.undone)} cells are not in {results}; the first is {name}: {reason}"
        raise Failure(f"{undone}; the same command tries again", REFUSED)
    if rows and all(row["error"] for row in rows):
        first = rows[0]
        name = f"{first['model']} {first['method']} w{first['weight_bits']} a{first['activation_bits']}"
        count = "the only cell" if len(rows) == 1 else f"all {len(rows)} cells"
        raise Failure(f"{count} failed; the first is {name}: {first['error']}", REFUSED)
