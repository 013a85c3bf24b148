"""``intsnn report``: the results of a sweep as a page with plots, and for other programs."""

from __future__ import annotations

import os

import click

from ...support.pipes import to_stdout
from ..common import REFUSED, USAGE, Failure, check_output, writing

__all__ = ["command"]


@click.command("report")
@click.argument("results")
@click.option("-o", "--output", metavar="DIR", help="Write report.html and plots/ here; needs matplotlib.")
@click.option("--csv", "csv_path", metavar="FILE", help="Write all rows as CSV (- for stdout).")
@click.option("--json", "json_path", metavar="FILE", help="Write all rows as JSON (- for stdout).")
@click.option("--markdown", "markdown_path", metavar="FILE", help="Write a table to read (- for stdout).")
def command(
    results: str, output: str | None, csv_path: str | None, json_path: str | None, markdown_path: str | None
) -> None:
    """Show the RESULTS of a sweep as a page with plots.

    RESULTS is the file that intsnn bench left. DIR/report.html needs nothing beside it, no network either; DIR/plots/
    has every plot as SVG and PNG. --csv, --json and --markdown export the rows.

    Example: intsnn report sweep.sqlite -o report --csv sweep.csv
    """
    from ...bench.report.export import FORMATS
    from ...bench.sweep.results import read_rows
    from ...support.atomic import replacing
    from ..console import Console

    asked = {"csv": csv_path, "json": json_path, "markdown": markdown_path}
    exports = {name: path for name, path in asked.items() if path is not None}
    _check(results, output, exports)
    rows = read_rows(results)
    console = Console("-" if "-" in exports.values() else None)
    texts = {name: FORMATS[name](rows) for name in exports}  # all of them before any is written
    for name, path in exports.items():
        if path == "-":
            continue  # last: its reader may leave early
        with writing(path), replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(texts[name])
        console.line(f"written {path} ({len(rows)} rows)")
    if output is not None:
        from ...bench.report.write import write_report

        words = ["intsnn report", os.path.basename(results), "-o", os.path.basename(os.path.abspath(output))]
        with writing(output), console.progress("plots") as progress:
            written = write_report(
                rows, output, command=" ".join(words), source=os.path.basename(results), progress=progress
            )
        failed = sum(row.get("error") is not None for row in rows)
        console.line(
            f"written {written[-1]} ({len(rows)} rows{f', {failed} of them failed' if failed else ''}; "
            f"{(len(written) - 1) // 2} plots)"
        )
    for name, path in exports.items():
        if path == "-":
            with writing(path):
                to_stdout(texts[name])


def _check(results: str, output: str | None, exports: dict[str, str]) -> None:
    """Find out before the work that its result has no place to go."""
    if output is None and not exports:
        raise Failure("there is nothing to write; give -o DIR, --csv FILE, --json FILE or --markdown FILE", USAGE)
    if list(exports.values()).count("-") > 1:
        raise Failure("standard output takes one format; write the others to files", USAGE)
    places = [os.path.abspath(path) for path in exports.values() if path != "-"]
    if len(set(places)) < len(places):
        raise Failure("two formats would go to the same file; give them different names", USAGE)
    for path in exports.values():
        check_output(path, results)
    if output is not None:
        if os.path.exists(output) and not os.path.isdir(output):
            raise Failure(f"{output} is a file; give the name of a folder", USAGE)
        from ...bench.speed.plots import check_plots

        check_plots()
        above = os.path.abspath(output)
        while not os.path.exists(above):
            above = os.path.dirname(above)
        if not os.path.isdir(above) or not os.access(above, os.W_OK):
            raise Failure(f"{output}: nothing can be written in {above}", REFUSED)
