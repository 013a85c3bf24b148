"""What is seen of a sweep while it runs, and of its results: a live table on a terminal, a line a cell elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..bench.sweep.sweep import Events
from .console import Console, number, terminal

__all__ = ["View", "show_rows"]

SHOWN_ROWS = 12
QUIET_SECONDS = 30.0  # between two lines about trainings, where there is no bar
REMEMBERED_SECONDS = 900.0  # of progress, for the time left: batches differ

# heading, column of the row, how it is shown
COLUMNS = (
    ("model", "model", str), ("data", "data", str), ("method", "method", str), ("w", "weight_bits", str),
    ("a", "activation_bits", str), ("T", "t_drive", str), ("state bits", "state_bits", str), ("seed", "seed", str),
    ("accuracy", "accuracy", "{:.2f} %".format), ("after T", "accuracy_drive", "{:.2f} %".format),
    ("ANN", "ann_accuracy", "{:.2f} %".format), ("float", "float_accuracy", "{:.2f} %".format),
    ("agree", "agreement", "{:.2f} %".format), ("spikes", "spikes", lambda x: number(round(x))),
    ("synops", "synops", lambda x: number(round(x))), ("steps", "latency_mean", "{:.1f}".format),
    ("weights", "weight_measured_bytes", number), ("memory", "measured_bytes", number),
    ("saturated", "saturations", number), ("unequal", "mismatches", number),
)  # fmt: skip
VARYING = ("w", "a", "accuracy", "weights", "memory")  # shown in any case
BRIEF = ("model", "method", "w", "a", "T", "state bits", "accuracy", "ANN", "float", "spikes", "weights", "unequal")


def cells_of(row: dict[str, Any], names: tuple[str, ...] | None = None) -> list[str]:
    """The columns of a row as texts."""
    chosen = [column for column in COLUMNS if names is None or column[0] in names]
    return ["" if row.get(key) is None else show(row[key]) for _, key, show in chosen]


class View:
    """Follows a sweep; `events` is what it listens to."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.cells = self.done = self.finished_rows = 0
        self.last: deque[dict[str, Any]] = deque(maxlen=SHOWN_ROWS)
        self.live: Live | None = None
        self.progress: Progress | None = None
        self.said = time.monotonic()
        self.events = Events(self.begins, self.finished, self.moved, self.trains)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[View]:
        screen = terminal(sys.stderr)
        if not screen.is_terminal:
            yield self
            return
        columns = (
            TextColumn("{task.fields[cells]}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[training]}", markup=False),
        )  # fmt: skip
        self.progress = Progress(*columns, console=screen, speed_estimate_period=REMEMBERED_SECONDS)
        self.task = self.progress.add_task("sweep", total=None, cells="", training="")
        with Live(console=screen, transient=True, auto_refresh=True, refresh_per_second=4) as self.live:
            self.live.update(self._picture())
            yield self
        self.live = None

    def begins(self, cells: int, found: int) -> None:
        """All cells are known."""
        self.cells, self.done = cells, found
        if found and self.live is None:
            self.console.line(f"{found} of {cells} cells are there already")
        self._refresh()

    def finished(self, row: dict[str, Any]) -> None:
        """A cell is committed."""
        self.done += 1
        self.last.append(row)
        if self.live is None:
            self.console.line(f"[{self.done}/{self.cells}] {_sentence(row)}")
        self._refresh()

    def moved(self, done: int, cost: int) -> None:
        """Work was done."""
        if self.progress is not None:
            self.progress.update(self.task, completed=done, total=max(1, cost))
        self._refresh()

    def trains(self, text: str) -> None:
        """A training has come so far; nothing: none is under way."""
        if self.progress is not None:
            self.progress.update(self.task, training=text)
        elif text and time.monotonic() - self.said >= QUIET_SECONDS:
            self.said = time.monotonic()
            self.console.line(f"training {text}")

    def _refresh(self) -> None:
        if self.progress is not None:
            self.progress.update(self.task, cells=f"{self.done} of {self.cells} cells")
        if self.live is not None:
            self.live.update(self._picture())

    def _picture(self):
        table = Table(box=None, pad_edge=False)
        rows = [cells_of(row, BRIEF) for row in self.last]
        heads = [column[0] for column in COLUMNS if column[0] in BRIEF]
        used = [i for i in range(len(heads)) if any(row[i] for row in rows)]
        for i in used:
            table.add_column(heads[i], justify="left" if i < 2 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(Text(row[i]) for i in used))
        progress = [] if self.progress is None else [self.progress]
        return Group(table, *progress) if rows else Group(*progress)


def _sentence(row: dict[str, Any]) -> str:
    """A row in one line."""
    state = "" if row["state_bits"] is None else f" v{row['state_bits']}"
    name = f"{row['model']} {row['data']} {row['method']} w{row['weight_bits']} a{row['activation_bits']}{state}"
    if row["error"]:
        return f"{name}: {row['error']}"
    if row["accuracy"] is None:
        return f"{name}: {row['mismatches']} mismatches"
    ann = "" if row["ann_accuracy"] is None else f" (ANN {row['ann_accuracy']:.2f} %)"
    return f"{name}: {row['accuracy']:.2f} %{ann}, {row['mismatches']} mismatches"


def show_rows(console: Console, rows: list[dict[str, Any]]) -> None:
    """All rows as one table; what is the same in all of them is said once, and so are problems."""
    order = ("model", "data", "seed", "method", "weight_bits", "activation_bits", "t_drive", "state_bits")
    rows = sorted(rows, key=lambda row: tuple((row[key] is None, row[key]) for key in order))
    good = [cells_of(row) for row in rows if not row["error"]]
    heads = [column[0] for column in COLUMNS]
    same = [i for i in range(len(heads)) if good and len({row[i] for row in good}) == 1]
    if len(good) > 1:
        hidden = [i for i in same if heads[i] not in VARYING]
        kept = [i for i in range(len(heads)) if i not in hidden]
        common = ", ".join(f"{heads[i]} {good[0][i]}" for i in hidden if good[0][i])
    else:
        kept, common = list(range(len(heads))), ""
    if good:
        title = "Results (spikes and synops of an inference; weights and memory in bytes)"
        console.table(title, [heads[i] for i in kept], [[row[i] for i in kept] for row in good])
        if common:
            console.line(f"of all: {common}")
    for row in rows:
        if row["error"]:
            console.line(_sentence(row))
