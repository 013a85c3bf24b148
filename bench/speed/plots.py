"""How does a speed comparison look? Bars of ratios, and curves of cost; matplotlib from the extra ``report``."""

from __future__ import annotations

import os
from typing import Any

from ...errors import UnsupportedError

__all__ = ["check_plots", "plot_speed"]

AXES = {"steps": "steps T", "batch": "samples in a call", "width": "hidden width", "density": "spike density"}


def check_plots() -> None:
    """`UnsupportedError` where there is no matplotlib."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise UnsupportedError("plots need matplotlib, which is not installed; install intsnn[report]")


def plot_speed(result: dict[str, Any], folder: str) -> list[str]:
    """Draw what `bench.speed.run` found into `folder`, as PNG and SVG; the files that were written."""
    check_plots()
    from matplotlib.figure import Figure

    os.makedirs(folder, exist_ok=True)
    written: list[str] = []

    def save(figure, name: str) -> None:
        for ending in ("png", "svg"):
            written.append(os.path.join(folder, f"{name}.{ending}"))
            figure.savefig(written[-1], dpi=150, bbox_inches="tight")

    rows = result["rows"]
    if rows:
        names = list(dict.fromkeys(row["workload"] for row in rows))
        figure = Figure(figsize=(8, 0.6 + 0.24 * (len(rows) + len(names))))
        axes = figure.add_subplot()
        peers = list(dict.fromkeys(row["peer"] for row in rows))
        place, ticks = 0.0, []
        for name in names:
            for row in (row for row in rows if row["workload"] == name):
                low, high = row["spread"]
                error = [[row["ratio"] - low], [high - row["ratio"]]]
                colour = f"C{peers.index(row['peer']) % 10}"
                axes.barh(place, row["ratio"], xerr=error, color=colour, height=0.8, error_kw={"lw": 0.8})
                ticks.append((place, f"{name}  {row['peer']}"))
                place -= 1
            place -= 0.6
        axes.set_yticks([at for at, _ in ticks], [label for _, label in ticks], fontsize=7)
        axes.set_xscale("log")
        axes.axvline(1, color="black", lw=0.8)
        axes.set_xlabel("time of the peer / our time (median over rounds; whiskers: least and largest)")
        save(figure, "speed")
    curves = result["scaling"]
    kinds = [axis for axis in AXES if any(point["axis"] == axis for point in curves)]
    if kinds:
        figure = Figure(figsize=(4 * len(kinds), 3.2))
        for number, axis in enumerate(kinds):
            axes = figure.add_subplot(1, len(kinds), number + 1)
            points = [point for point in curves if point["axis"] == axis]
            axes.plot([p["value"] for p in points], [p["ours_ms"] for p in points], "o-", label="intsnn")
            for peer in dict.fromkeys(row["peer"] for p in points for row in p["rows"]):
                found = [(p["value"], row["peer_ms"]) for p in points for row in p["rows"] if row["peer"] == peer]
                axes.plot(*zip(*found, strict=True), "s--", label=peer)
            axes.set(xscale="log", yscale="log", xlabel=AXES[axis], ylabel="ms a call", title=points[0]["workload"])
            axes.legend(fontsize=7)
        figure.tight_layout()
        save(figure, "scaling")
    return written
