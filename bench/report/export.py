"""How do the results of a sweep leave for other programs? CSV and JSON with everything in them, Markdown to read."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...errors import FormatError
from .axes import bytes_text, short
from .data import Row, number, plain, read_sweep

__all__ = ["COLUMNS", "FORMATS", "csv_text", "json_text", "markdown_text"]

# The order of columns; what else a row has follows, sorted.
COLUMNS = (
    "key", "model", "data", "method", "weight_bits", "activation_bits", "t_drive", "state_bits", "seed", "samples",
    "accuracy", "accuracy_drive", "ann_accuracy", "float_accuracy", "agreement", "accuracy_by_step", "latency_mean",
    "latency_max", "extra_steps_max", "spikes", "synops", "saturations", "mismatches", "verified_samples", "seconds",
    "peak_rss_bytes", "formula_bits", "measured_bytes", "weight_formula_bits", "weight_measured_bytes", "layers",
    "versions", "source_sha256", "created", "error",
)  # fmt: skip


def _columns(rows: Sequence[Row]) -> list[str]:
    names = {name for row in rows for name in row}
    return [*(name for name in COLUMNS if name in names), *sorted(names.difference(COLUMNS))]


def _some(rows: Iterable[Row]) -> list[Row]:
    rows = list(rows)
    if not rows:
        raise FormatError("there is no row to export; run intsnn bench first, or name the file that holds its results")
    return rows


def csv_text(rows: Iterable[Row]) -> str:
    """All rows as CSV (RFC 4180, UTF-8): a column for each field, lists and tables in it as JSON.

    Floats have the digits that give the same float again. A field that is None or absent is empty.

    Raises
    ------
    FormatError
        If there is no row.
    """
    rows = _some(rows)
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    columns = _columns(rows)
    writer.writerow(columns)
    writer.writerows([_csv(row.get(name)) for name in columns] for row in rows)
    return out.getvalue()


def _csv(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair has no form in UTF-8
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=True)


def json_text(rows: Iterable[Row]) -> str:
    """All rows as JSON: a list of objects, nothing left out or rounded.

    Raises
    ------
    FormatError
        If there is no row, or one holds NaN or infinity, which JSON has no form for.
    """
    rows = _some(rows)
    for row in rows:
        for name, value in row.items():
            if not _finite(value):
                raise FormatError(f"row {plain(row.get('key'))}: {plain(name)} holds NaN or infinity; export as CSV")
    return json.dumps(rows, indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, list | tuple) else True


# ---------------------------------------------------------------------------------------------------------------------
# Markdown
# ---------------------------------------------------------------------------------------------------------------------

READ = (
    ("model", "model", str), ("data", "data", str), ("method", "method", str), ("weights", "weight_bits", str),
    ("activations", "activation_bits", str), ("T", "t_drive", str), ("states", "state_bits", str),
    ("seed", "seed", str),
    ("samples", "samples", "{:,}".format), ("accuracy %", "accuracy", "{:.2f}".format),
    ("after T %", "accuracy_drive", "{:.2f}".format), ("integer ANN %", "ann_accuracy", "{:.2f}".format),
    ("float %", "float_accuracy", "{:.2f}".format), ("agreement %", "agreement", "{:.2f}".format),
    ("spikes", "spikes", short), ("synops", "synops", short), ("last spike", "latency_mean", "{:.2f}".format),
    ("mismatches", "mismatches", "{:,}".format), ("memory", "measured_bytes", bytes_text),
    ("by formula", "formula_bits", lambda bits: bytes_text(bits / 8)), ("error", "error", str),
)  # fmt: skip
TEXTS = ("model", "data", "method", "error")


def markdown_text(rows: Iterable[Row]) -> str:
    """The columns that people read first, as a table, sorted and rounded; columns that no row has are left out.

    Raises
    ------
    FormatError
        If there is no row.
    """
    rows = read_sweep(_some(rows)).rows
    used = [entry for entry in READ if any(row.get(entry[1]) not in (None, "") for row in rows)]
    cells = [[_shown(row, name, write) for _, name, write in used] for row in rows]
    heads = [head for head, _, _ in used]
    widths = [max(3, *(len(line[at]) for line in [heads, *cells])) for at in range(len(used))]
    left = [name in TEXTS for _, name, _ in used]
    lines = [_line(heads, widths, left)]
    rules = ("-" * (width - 1) + ("-" if to_left else ":") for width, to_left in zip(widths, left, strict=True))
    lines.append(_line(list(rules), widths, left))
    lines += [_line(line, widths, left) for line in cells]
    return "\n".join(lines) + "\n"


def _shown(row: Row, name: str, write: Any) -> str:
    value = row.get(name)
    if value is None or value == "":
        return "" if name == "error" else "\N{EN DASH}"
    if name in TEXTS or number(row, name) is None:
        return re.sub(r"([\\`*_{}\[\]<>&|#~$!])", r"\\\1", plain(value, 2000))
    return write(value)


def _line(cells: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    padded = (
        cell.ljust(width) if on_the_left else cell.rjust(width)
        for cell, width, on_the_left in zip(cells, widths, left, strict=True)
    )
    return "| " + " | ".join(padded) + " |"


FORMATS: dict[str, Callable[[Iterable[Row]], str]] = {"csv": csv_text, "json": json_text, "markdown": markdown_text}
