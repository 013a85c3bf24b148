"""What does a report say, and in which order? The page around plots and tables."""

from __future__ import annotations

import html
import importlib.metadata
from collections.abc import Iterable, Sequence
from typing import Any

from .data import TOLERANCE, Setting, Sweep, failure_of, families, label, number, plain, selected
from .style import Picture, inline
from .tables import CELLS, FAILED, LAYERS, NONE, SUMMARY, Column, cell_rows, layer_rows, summary_rows, table, text
from .template import document

__all__ = ["page"]

REM = 7.6  # widest that an inch of a plot becomes: letters as large as those around it
HEADING = "Accuracy and memory of integer spiking networks"
# section of plots -> id, heading, what it shows
SECTIONS = {
    "pareto": (
        "Accuracy and memory",
        "Each point is one setting: accuracy of the settled spiking network against all memory that it holds for one "
        "sample: as it exists here (measured), and by formula. The line is the Pareto front: nothing measured here is "
        "at least as small and more accurate. Where errors span a wide range, the accuracy axis is logarithmic in "
        "them.",
    ),
    "widths": (
        "Width of weights and activations",
        "Accuracy in per cent for each pair of widths, and the T that the activations were driven for. Colours are "
        "logarithmic in the error and the same for all methods of a model.",
    ),
    "steps": (
        "Accuracy against T",
        "Accuracy of the settled network against the driven steps T, one line for each width of the weights. A gap is "
        "a cell without a result.",
    ),
    "curve": (
        "Accuracy after t steps",
        "What a reader of the output sees after t steps; a mark ends the drive, the line goes on until the network is "
        "quiet. Width of the weights as in the selected cell of the method.",
    ),
    "memory": (
        "Memory of each layer",
        "Bytes by kind, as they exist (thick) and by formula (thin), in the selected cell of each model.",
    ),
    "rates": (
        "Spike rates",
        "Spikes per neuron and driven step in each layer of neurons; width of the weights as in the selected cell of "
        "the method.",
    ),
    "registers": (
        "Membranes and sums",
        "In the selected cell: least and largest membrane that occurred, in codes and as a share of the register; bits "
        "that the sums and membranes of a layer needed, and those that they were proven to fit.",
    ),
}


def page(sweep: Sweep, pictures: Sequence[Picture], *, command: str | None, source: str | None) -> str:
    """The whole report as one document that needs nothing beside it."""
    parts: list[tuple[str, str, str]] = [("summary", "Summary", _summary(sweep))]
    for name, (heading, about) in SECTIONS.items():
        mine = [picture for picture in pictures if picture.plot.section == name]
        body = f"<p>{html.escape(about)}</p>\n"
        body += _plots(mine) if mine else '<p class="note">No row has what this plot needs.</p>\n'
        parts.append((name, heading, body))
    parts.append(("cells", "All cells", _all_cells(sweep)))
    if sweep.failed:
        parts.append(("failed", "Failed cells", _failed(sweep)))
    if sweep.missing:
        parts.append(("missing", "Cells without a row", _missing(sweep)))
    parts.append(("layers", "Layers of the selected cells", _layers(sweep)))
    parts.append(("made", "How this was made", _made(sweep, command, source)))
    links = "".join(f'<li><a href="#{name}">{html.escape(heading)}</a></li>' for name, heading, _ in parts)
    sections = "".join(
        f'<section id="{name}">\n<h2>{html.escape(heading)}</h2>\n{body}</section>\n' for name, heading, body in parts
    )
    head = f'<header>\n<h1>{HEADING}</h1>\n{_lead(sweep)}<nav aria-label="Sections"><ul>{links}</ul></nav>\n</header>\n'
    return document(HEADING, f"{head}<main>\n{sections}</main>")


def _lead(sweep: Sweep) -> str:
    settings = [point.setting for point in sweep.points]
    samples = sorted({s.samples for s in settings if s.samples is not None})
    parts = [
        _list("model", (s.model for s in settings)),
        _list("data", (s.data for s in settings), same="data"),
        _list("method", (s.method for s in settings)),
    ]
    if samples:
        parts.append(" or ".join(f"{count:,}" for count in samples) + " samples")
    mismatches, verified = _total(sweep, "mismatches"), _total(sweep, "verified_samples")
    facts = [
        ("cells with a result", f"{len(sweep.rows) - len(sweep.failed):,} of {len(sweep.rows):,}", bool(sweep.failed)),
        ("mismatches", NONE if mismatches is None else f"{mismatches:,}", bool(mismatches)),
        ("samples verified bit for bit", NONE if verified is None else f"{verified:,}", False),
    ]
    out = f'<p class="lead">{"; ".join(parts)}.</p>\n<dl class="facts">'
    for name, value, bad in facts:
        out += f"<div><dt>{html.escape(name)}</dt><dd{' class=bad' if bad else ''}>{value}</dd></div>"
    return out + "</dl>\n" + _warnings(sweep)


def _list(noun: str, values: Iterable[str], same: str | None = None) -> str:
    distinct = list(dict.fromkeys(values))
    if len(distinct) > 6:
        return f"{len(distinct)} {same or noun + 's'}"
    return f"{noun if len(distinct) == 1 else same or noun + 's'} {text(', '.join(distinct))}"


def _total(sweep: Sweep, name: str) -> int | float | None:
    values = [value for row in sweep.rows if (value := number(row, name)) is not None]
    return sum(values) if values else None


def _warnings(sweep: Sweep) -> str:
    found = []
    if sweep.failed:
        found.append(f'{_many(len(sweep.failed), "cell")} failed: <a href="#failed">which, and why</a>.')
    if sweep.missing:
        found.append(f'{_many(len(sweep.missing), "cell")} of the grid without a row: <a href="#missing">which</a>.')
    unlabelled = sum(number(row, "accuracy") is None for row in sweep.rows) - len(sweep.failed)
    if unlabelled > 0:
        found.append(f"{_many(unlabelled, 'cell')} without an accuracy (data without labels): in the tables only.")
    wrong = sum(bool(number(row, "mismatches")) for row in sweep.rows)
    if wrong:
        found.append(f"{_many(wrong, 'cell')} with mismatches: numbers that must be equal are not.")
    saturated = sum(bool(number(row, "saturations")) for row in sweep.rows)
    if saturated:
        found.append(f"{_many(saturated, 'cell')} with saturated sums or membranes.")
    sources = {plain(row["source_sha256"]) for row in sweep.rows if row.get("source_sha256")}
    if len(sources) > 1:
        found.append(f"The rows come from {len(sources)} versions of the source code; compare them with care.")
    place = [
        f"{_many(len(points), 'measured setting')} without a measured memory: in the tables, not in the first plots."
        for points in [[p for p in sweep.points if p.accuracy is not None and p.memory() is None]]
        if points
    ]
    return "".join(f'<p class="warning">{line}</p>\n' for line in found + place)


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _plots(pictures: Sequence[Picture]) -> str:
    """Figures side by side; where a model has one for each method, below its name."""
    groups: dict[str, list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(picture.plot.subject, []).append(picture)
    most = max(map(len, groups.values())) if "" not in groups else 0
    out = []
    for subject, group in groups.items():
        if len(groups) > 1:
            out.append(f"<h3>{text(subject)}</h3>\n")
        out.append(_figures(group, "plots small" if most > 2 else "plots"))
    return "".join(out)


def _figures(pictures: Sequence[Picture], kind: str) -> str:
    out = [f'<div class="{kind}">\n']
    for picture in pictures:
        plot = picture.plot
        out.append(f'<figure id="{plot.name}" style="max-width:{REM * plot.size[0]:.4g}rem">')
        out.append(f'<div role="img" aria-label="{text(plot.about)}">{inline(picture)}</div>\n')
        links = (f'<a href="plots/{plot.name}.{ending}">{ending.upper()}</a>' for ending in ("svg", "png"))
        out.append(f"<figcaption>{' · '.join(links)}</figcaption></figure>\n")
    return "".join([*out, "</div>\n"])


def _summary(sweep: Sweep) -> str:
    about = (
        f"<p>The <em>selected</em> cell of a model has the least memory among those within {TOLERANCE} points of a "
        "per cent of the best accuracy. Plots of single layers show it. Accuracies are those of the settled spiking "
        "network in integers; memory is what exists for one sample, in bytes (1 kB is 1000). Where a setting was run "
        "with several seeds, values are means, and whiskers span the seeds.</p>\n"
    )
    return about + table(SUMMARY, summary_rows(sweep), "Summary")


def _all_cells(sweep: Sweep) -> str:
    about = (
        "<p>Every row of the results. <em>After T</em>: when the drive ends, before the network is quiet. "
        "<em>Agreement</em>: samples whose prediction is that of the integer quantised ANN. Spikes and synaptic "
        "operations are per inference. What is measured in detail (after T, spikes, operations, last spike) may be so "
        "on fewer samples. <em>Equality due</em>: under the conditions of the cell every number has to be that of the "
        "integer ANN; elsewhere differences are a result.</p>\n"
    )
    return about + table(CELLS, cell_rows(sweep), "All cells", sortable=True)


def _failed(sweep: Sweep) -> str:
    rows = [{**row, "failed": True, "why": failure_of(row)} for row in sweep.failed]
    return table(FAILED, rows, "Failed cells")


def _missing(sweep: Sweep) -> str:
    about = "<p>Combinations of the widths that a method was run with; no row says what became of them.</p>\n"
    rows = [{name: getattr(setting, name) for name in Setting.__dataclass_fields__} for setting in sweep.missing]
    return about + table(FAILED[:-1], [{**row, "seed": None} for row in rows], "Cells without a row")


def _layers(sweep: Sweep) -> str:
    out = ["<p>One table for each method. Layers of the other cells are in the exports (CSV, JSON).</p>\n"]
    for family in families(sweep.points):
        chosen = selected(family)
        rows = layer_rows(chosen.rows[0]) if chosen else []
        if chosen and rows:
            title = f"{label(chosen, sweep.points, method=True)} · {chosen.setting.bits}"
            out.append(f"<details><summary>{text(title)}</summary>{table(LAYERS, rows, title)}</details>\n")
    return "".join(out) if len(out) > 1 else '<p class="note">No row has layers.</p>\n'


def _merged(found: Iterable[Any]) -> list[tuple[str, str]]:
    """Every name in some dictionaries, with all values that it has there."""
    values: dict[str, set[str]] = {}
    for item in found:
        for name, value in item.items() if isinstance(item, dict) else ():
            values.setdefault(plain(name), set()).add(NONE if value is None else plain(value))
    return [(name, ", ".join(sorted(values[name]))) for name in sorted(values)]


def _made(sweep: Sweep, command: str | None, source: str | None) -> str:
    out = []
    if command:
        out.append(f"<pre>{text(command, 4000)}</pre>\n")
    if source:
        out.append(f"<p>From <code>{text(source)}</code>.</p>\n")
    seeds = sorted({seed for row in sweep.rows if (seed := number(row, "seed")) is not None})
    said = ", ".join(map(str, seeds)) if len(seeds) <= 20 else f"{len(seeds)} from {seeds[0]} to {seeds[-1]}"
    facts = [("seeds", said)]
    facts += [(f"setting: {name}", values) for name, values in _merged(row.get("settings") for row in sweep.rows)]
    for what, field in (("model", "model_sha256"), ("data", "data_sha256")):
        named = _merged({row.get(what): row[field]} for row in sweep.rows if row.get(field))
        facts += [(f"{what} {name}, SHA-256", values) for name, values in named]
    facts += [(f"version: {name}", values) for name, values in _merged(row.get("versions") for row in sweep.rows)]
    hashes = sorted({plain(row["source_sha256"]) for row in sweep.rows if row.get("source_sha256")})
    facts.append(("source code, SHA-256", ", ".join(hashes)))
    created = sorted(plain(row["created"]) for row in sweep.rows if row.get("created"))
    if created:
        facts.append(("measured", created[0] if created[0] == created[-1] else f"{created[0]} to {created[-1]}"))
    facts.append(("drawn with", f"matplotlib {importlib.metadata.version('matplotlib')}"))
    rows = [{"what": name, "value": value} for name, value in facts if value]
    columns = (Column("what", "what", "name"), Column("value", "value", "wide"))
    return "".join(out) + table(columns, rows, "Versions and seeds")
