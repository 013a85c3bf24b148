"""Which tables has a report, and how does a value look in them?

Every text that comes from a row passes `text`; nothing else turns a value into markup.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .axes import bytes_text, integer, short
from .data import Point, Row, Sweep, failure_of, front, label, number, plain, selected, subjects
from .layer_figures import kinds_of, layers_of

__all__ = [
    "CELLS",
    "FAILED",
    "LAYERS",
    "NONE",
    "SUMMARY",
    "Column",
    "cell_rows",
    "layer_rows",
    "summary_rows",
    "table",
    "text",
]

NONE = "\N{EN DASH}"


def text(value: Any, longest: int = 300) -> str:
    """Any value as escaped text."""
    return html.escape(plain(value, longest), quote=True)


@dataclass(frozen=True)
class Column:
    """Of a table: heading, field or function of a row, how its value is written, whether it is a number."""

    head: str
    field: str
    write: str = "text"


def _written(value: Any, write: str) -> str:
    """A value as text: numbers to the precision that they have, bytes in powers of 1000."""
    longest = 4000 if write == "wide" else 300
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if write in ("text", "name", "wide") or isinstance(value, str) or not isinstance(value, int | float):
        return text(value, longest)
    if value != value or value in (float("inf"), float("-inf")):
        return text(value)
    return {
        "percent": lambda v: f"{v:.2f}",
        "rate": lambda v: f"{100 * v:.2f}",
        "bytes": bytes_text,
        "count": integer,
        "short": short,
        "decimal": lambda v: f"{v:.2f}",
        "number": lambda v: f"{v:,}" if isinstance(v, int) else f"{v:.6g}",
    }[write](value)


def table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], about: str, *, sortable: bool = False) -> str:
    """Rows as a table in a box of its own that scrolls; columns that no row has are left out (named if sortable)."""
    used = [column for column in columns if any(row.get(column.field) not in (None, "") for row in rows)]
    absent = [column.head for column in columns if column not in used]
    out = [f'<div class="box" tabindex="0" role="region" aria-label="{text(about)}">']
    out.append(f"<table{' class=sortable' if sortable else ''}><thead><tr>")
    out += [f'<th scope="col"{_class(column)}>{html.escape(column.head)}</th>' for column in used]
    out.append("</tr></thead><tbody>\n")
    for row in rows:
        out.append('<tr class="failed">' if row.get("failed") else "<tr>")
        out += [_cell(row.get(column.field), column, not place) for place, column in enumerate(used)]
        out.append("</tr>\n")
    out.append("</tbody></table></div>\n")
    if absent and sortable:
        out.append(f'<p class="note">No row has: {html.escape(", ".join(absent))}.</p>\n')
    return "".join(out)


def _class(column: Column) -> str:
    kind = {"text": "", "name": ' class="name"', "wide": ' class="wide"'}.get(column.write, ' class="n"')
    return kind


def _cell(value: Any, column: Column, head: bool) -> str:
    raw = "" if not isinstance(value, int | float) or isinstance(value, bool) else f' data-v="{value!r}"'
    tag = 'th scope="row"' if head else "td"
    return f"<{tag}{_class(column)}{raw}>{_written(value, column.write)}</{tag.split()[0]}>"


# ---------------------------------------------------------------------------------------------------------------------
# what is in the tables
# ---------------------------------------------------------------------------------------------------------------------

CELLS = (
    Column("model", "model", "name"), Column("data", "data", "name"), Column("method", "method", "name"),
    Column("weights", "weight_bits", "number"), Column("activations", "activation_bits", "number"),
    Column("T", "t_drive", "number"), Column("states", "state_bits", "number"), Column("seed", "seed", "number"),
    Column("samples", "samples", "number"), Column("result", "state"), Column("accuracy %", "accuracy", "percent"),
    Column("after T %", "accuracy_drive", "percent"), Column("integer ANN %", "ann_accuracy", "percent"),
    Column("float %", "float_accuracy", "percent"), Column("agreement %", "agreement", "percent"),
    Column("memory", "measured_bytes", "bytes"), Column("memory, formula", "formula_bytes", "bytes"),
    Column("weights, measured", "weight_measured_bytes", "bytes"),
    Column("weights, formula", "weight_formula_bytes", "bytes"),
    Column("spikes", "spikes", "short"), Column("synops", "synops", "short"),
    Column("last spike, mean", "latency_mean", "decimal"), Column("last spike, latest", "latency_max", "number"),
    Column("steps after T", "extra_steps_max", "number"), Column("saturations", "saturations", "number"),
    Column("mismatches", "mismatches", "number"), Column("verified samples", "verified_samples", "number"),
    Column("equality due", "equality_due", "text"), Column("differ from ANN", "ann_mismatches", "number"),
    Column("at rest", "settled", "text"), Column("same network as", "same_as"),
    Column("samples in detail", "detail_samples", "number"),
    Column("seconds", "seconds", "decimal"), Column("peak process memory", "peak_rss_bytes", "bytes"),
)  # fmt: skip

FAILED = (
    Column("model", "model", "name"), Column("data", "data", "name"), Column("method", "method", "name"),
    Column("weights", "weight_bits", "number"), Column("activations", "activation_bits", "number"),
    Column("T", "t_drive", "number"), Column("states", "state_bits", "number"), Column("seed", "seed", "number"),
    Column("samples", "samples", "number"), Column("why", "why", "wide"),
)  # fmt: skip

SUMMARY = (
    Column("model", "title", "name"), Column("float %", "float", "percent"), Column("best %", "best", "percent"),
    Column("cell", "best_cell", "name"), Column("memory", "best_memory", "bytes"),
    Column("selected %", "accuracy", "percent"), Column("cell", "cell", "name"),
    Column("memory", "memory", "bytes"), Column("by formula", "formula", "bytes"),
    Column("T", "t_drive", "number"), Column("spikes", "spikes", "short"), Column("results", "count"),
)  # fmt: skip

LAYERS = (
    Column("layer", "name", "name"), Column("kind", "kind"), Column("neurons", "neurons", "number"),
    Column("spike rate %", "spike_rate", "rate"), Column("v least", "v_min", "count"),
    Column("v largest", "v_max", "count"),
    Column("v bits", "v_bits", "number"), Column("bound bits", "bound_bits", "number"),
    Column("peak bits", "peak_bits", "number"), Column("sum: bound bits", "sum_bound_bits", "number"),
    Column("sum: peak bits", "sum_peak_bits", "number"), Column("saturations", "saturations", "number"),
    Column("silent neurons", "dead", "number"), Column("synops", "synops", "short"),
    Column("bytes", "measured", "number"),
    Column("bytes, formula", "formula", "number"), Column("measured by kind", "kinds", "wide"),
)  # fmt: skip


def cell_rows(sweep: Sweep) -> list[dict[str, Any]]:
    """All rows as the table shows them, with the part that they play in the plots."""
    parts: dict[int, list[str]] = {}
    for group in subjects(sweep.points):
        on_fronts = (("front", front(group)), ("front by formula", front(group, "formula")))
        for name, points in (*on_fronts, ("selected", [selected(group)])):
            for point in points:
                for row in point.rows if point else ():
                    parts.setdefault(id(row), []).append(name)
    found = []
    for row in sweep.rows:
        failed = failure_of(row) is not None
        found.append(
            {
                **row,
                "failed": failed,
                "state": "failed" if failed else ", ".join(parts.get(id(row), [])) or "measured",
                "formula_bytes": _eighth(number(row, "formula_bits")),
                "weight_formula_bytes": _eighth(number(row, "weight_formula_bits")),
            }
        )
    return found


def _eighth(bits: float | None) -> float | None:
    return None if bits is None else bits / 8


def summary_rows(sweep: Sweep) -> list[dict[str, Any]]:
    found = []
    for group in subjects(sweep.points):
        measured = [point for point in group if point.accuracy is not None]
        chosen = selected(group)
        best = max(measured, key=lambda point: (point.accuracy or 0, -(point.memory() or 0)), default=None)
        row: dict[str, Any] = {"title": label(group[0], sweep.points), "failed": chosen is None}
        row["count"] = f"{sum(len(p.rows) for p in group)} of {sum(len(p.rows) + len(p.failed) for p in group)}"
        if best is not None and chosen is not None:
            row |= {"best": best.accuracy, "best_cell": _cell_name(best), "best_memory": best.memory()}
            row |= {"accuracy": chosen.accuracy, "cell": _cell_name(chosen), "memory": chosen.memory()}
            row |= {"formula": chosen.memory("formula"), "t_drive": chosen.setting.t_drive}
            row["spikes"] = chosen.mean("spikes")
            row["float"] = max((value for point in group for value in point.values("float_accuracy")), default=None)
        found.append(row)
    return found


def _cell_name(point: Point) -> str:
    return f"{point.setting.method} {point.setting.bits}"


def layer_rows(row: Row) -> list[dict[str, Any]]:
    found = []
    for layer in layers_of(row):
        kinds = kinds_of(layer)
        formula, measured = (
            sum(pair[side] or 0 for pair in kinds.values())
            if any(pair[side] is not None for pair in kinds.values())
            else None
            for side in (0, 1)
        )
        said = "; ".join(f"{kind} {bytes_text(pair[1])}" for kind, pair in kinds.items() if pair[1] is not None)
        found.append({**layer, "formula": formula, "measured": measured, "kinds": said})
    return found
