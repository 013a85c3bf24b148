"""How do the results of a sweep become a report: one page that needs nothing beside it, and its plots as files?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from ...errors import FormatError
from ...support.atomic import replacing
from ..speed.plots import check_plots
from .data import Row, read_sweep
from .figures import sweep_plots
from .layer_figures import layer_plots
from .page import page
from .style import render

__all__ = ["write_report"]


def write_report(
    rows: Iterable[Row],
    folder: str | os.PathLike[str],
    *,
    command: str | None = None,
    source: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write ``report.html`` into `folder`, and every plot of it as SVG and PNG into ``plots/`` there.

    Everything is drawn before anything is written; each file then replaces its forerunner at once, ``report.html``
    last. The same rows give the same bytes, whatever their order.

    Parameters
    ----------
    rows : iterable of dict
        Cells of a sweep, as `bench.results.read_rows` gives them.
    folder : path
        Made if it is not there, with its parents.
    command, source : str, optional
        The command that made the report and the name of the results; both are shown.
    progress : function of (plots done, plots in all), optional

    Returns
    -------
    list of str
        The files that were written; ``report.html`` is the last.

    Raises
    ------
    FormatError
        If there is no row.
    UnsupportedError
        If matplotlib is not installed.
    OSError
        If a file cannot be written.
    """
    sweep = read_sweep(rows)
    if not sweep.rows:
        raise FormatError("there is no row to report; run intsnn bench first, or name the file that holds its results")
    check_plots()
    plots = [*sweep_plots(sweep.points), *layer_plots(sweep.points)]
    pictures = []
    for plot in plots:
        pictures.append(render(plot))
        if progress is not None:
            progress(len(pictures), len(plots))
    text = page(sweep, pictures, command=command, source=source)
    files = [
        (os.path.join("plots", f"{picture.plot.name}.{ending}"), content)
        for picture in pictures
        for ending, content in (("svg", picture.svg), ("png", picture.png))
    ]
    written = []
    os.makedirs(os.path.join(folder, "plots"), exist_ok=True)
    for name, content in [*files, ("report.html", text.encode("utf-8"))]:
        written.append(os.path.join(folder, name))
        with replacing(written[-1]) as temporary, open(temporary, "wb") as file:
            file.write(content)
    return written
