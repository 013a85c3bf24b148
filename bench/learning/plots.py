"""What did a training do, and what does each width cost? matplotlib, extra ``report``."""

from __future__ import annotations

import os
from typing import Any

from ..speed.plots import check_plots

__all__ = ["check_plots", "plot_history", "plot_widths"]

LABELS = {
    "loss": "loss of a step", "train": "training sequences right, %", "test": "test sequences right, %",
    "changed": "weight changes", "spikes": "spikes", "fired": "spikes", "saturations": "saturations",
}  # fmt: skip
COUNTS = ("changed", "spikes", "fired", "saturations")


def plot_history(history: list[dict[str, Any]], folder: str, name: str) -> list[str]:
    """Draw the history of a training into `folder`, as PNG and SVG; the files written.

    Of an entry are drawn, against ``epoch``: numbers, numbers by layer (lists) and by kind (dicts); None is left out.
    """
    check_plots()
    from matplotlib.figure import Figure

    panels = [name for name in LABELS if any(entry.get(name) is not None for entry in history)]
    figure = Figure(figsize=(9, 3 * max(1, (len(panels) + 1) // 2)))
    for number, panel in enumerate(panels, 1):
        axes = figure.add_subplot((len(panels) + 1) // 2, 2, number)
        for label, points in _curves(history, panel).items():
            axes.plot(*zip(*points, strict=True), "o-", ms=3, label=label or None)
        axes.set(xlabel="epoch", ylabel=LABELS[panel])
        if panel in COUNTS:
            axes.set_yscale("symlog")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=7)
    figure.suptitle(name)
    return _save(figure, folder, name)


def _save(figure, folder: str, name: str) -> list[str]:
    """As PNG and SVG; the files written."""
    os.makedirs(folder, exist_ok=True)
    figure.tight_layout()
    written = []
    for ending in ("png", "svg"):
        written.append(os.path.join(folder, f"{name}.{ending}"))
        figure.savefig(written[-1], dpi=150)
    return written


def plot_widths(table: list[dict[str, Any]], groups: dict[str, list[str]], folder: str) -> list[str]:
    """Draw accuracy at the widths of each group, beside that of the recipe and of its twin; the files written.

    Parameters
    ----------
    table : list of dict
        Of `learn_study.summary`, for one recipe.
    groups : dict
        Widths by the name of their group, in the order in which they are drawn.
    folder : str
    """
    check_plots()
    from matplotlib.figure import Figure

    of = {row["widths"]: row for row in table if row["kind"] == "integer"}
    twin = next((row for row in table if row["kind"] == "float" and not row["widths"]), None)
    written = []
    for group, points in groups.items():
        shown = [of[point] for point in points if point in of]
        figure = Figure(figsize=(7, 4))
        axes = figure.add_subplot()
        places = list(range(len(shown)))
        errors = [row["error"] or 0.0 for row in shown]
        axes.errorbar(places, [row["accuracy"] for row in shown], errors, fmt="o-", capsize=3, label="integers")
        axes.set_xticks(places, [row["widths"] for row in shown], rotation=45)
        for name, row, style in (("as in the recipe", of.get(""), "--"), ("float twin", twin, ":")):
            if row is not None:
                axes.axhline(row["accuracy"], color="0.4", ls=style, lw=1, label=name)
        axes.set(ylabel="test sequences right, %", title=f"{table[0]['data']}: {group}")
        axes.legend(fontsize=8)
        written += _save(figure, folder, f"widths-{group}")
    return written


def _curves(history: list[dict[str, Any]], panel: str) -> dict[str, list[tuple[int, float]]]:
    """Points of each curve of a panel; a layer that has no value in an entry has no point there."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in history:
        value = entry.get(panel)
        if isinstance(value, list):
            parts = {f"layer {number}": part for number, part in enumerate(value, 1)}
        elif isinstance(value, dict):
            parts = value
        else:
            parts = {} if value is None else {"": value}
        for label, part in parts.items():
            found.setdefault(label, []).append((entry["epoch"], part))
    return found
