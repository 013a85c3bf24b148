"""How is a result shown: tables and progress for people, JSON for programs?

Tables have no colour that carries meaning; bars appear only on a terminal. JSON files are written all or nothing. What
nobody reads any more (``| head``) goes nowhere, and the command goes on to its results and its exit status.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..support.atomic import replacing
from ..support.pipes import Stream, to_stdout

__all__ = ["Compiling", "Console", "number", "percent", "points", "size", "terminal"]

NUMBER = re.compile(r"[-+]?[0-9]|$")
PIPED_WIDTH = 240  # columns where there is no terminal to ask: nothing is cut


class Console:
    """What one command shows, and the JSON that it leaves.

    Parameters
    ----------
    json_path : str or None
        Where `finish` writes the JSON; with ``"-"`` it goes to standard output and the tables to standard error.
    """

    def __init__(self, json_path: str | None) -> None:
        self.json_path = json_path
        self.terminal = terminal(sys.stderr if json_path == "-" else sys.stdout)

    def line(self, text: str = "") -> None:
        """One line, as it is."""
        self.terminal.print(Text(text), soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A table; columns that are empty in every row are left out, numbers stand on the right."""
        rows = [list(row) for row in rows]
        used = [i for i in range(len(columns)) if any(row[i] not in (None, "") for row in rows)]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i in used:
            on_the_right = all(not isinstance(row[i], str) or NUMBER.match(row[i]) for row in rows) and i > 0
            table.add_column(columns[i], justify="right" if on_the_right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(_shown(row[i])) for i in used))
        self.line()
        self.terminal.print(Text(title, style="bold"), soft_wrap=True)  # a title of the table would be wrapped to it
        # rich pads to the full width; what follows a line is of no use in a file
        with self.terminal.capture() as capture:
            self.terminal.print(table)
        lines = [line.rstrip() for line in capture.get().splitlines()]
        self.terminal.file.write("\n".join(line for line in lines if line) + "\n")

    @contextlib.contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None] | None]:
        """A bar on a terminal: the function to call with (done, total); None elsewhere."""
        screen = terminal(sys.stderr)
        if not screen.is_terminal:
            yield None
            return
        with _bars(screen) as bars:
            task = bars.add_task(title, total=None)
            try:
                yield lambda done, total: bars.update(task, completed=done, total=total)
            finally:
                bars.remove_task(task)

    def finish(self, values: dict[str, Any]) -> None:
        """Write `values` as JSON if that was asked for."""
        if self.json_path is None:
            return
        text = json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        if self.json_path == "-":
            to_stdout(text)
            return
        with replacing(self.json_path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.write(text)


_shown_bars: list[Progress] = []  # on the terminal now; two of them would write over each other


@contextlib.contextmanager
def _bars(screen: Terminal) -> Iterator[Progress]:
    """The bars that are on the terminal, or new ones."""
    if _shown_bars:
        yield _shown_bars[-1]
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        _shown_bars.append(bars)
        try:
            yield bars
        finally:
            _shown_bars.remove(bars)


class Compiling:
    """What standard error shows of kernels that are compiled: on a terminal how many are ready, elsewhere one line.

    Called with the name of a kernel, before it is compiled and after (`kernels.toolchain.once.listening`).
    """

    TITLE = "compiling kernels (once)"

    def __init__(self) -> None:
        self._screen = terminal(sys.stderr)
        self._depth = self._ready = 0
        self._open = contextlib.ExitStack()
        self._said = False

    def __call__(self, name: str, ready: bool) -> None:
        self._depth += -1 if ready else 1
        self._ready += ready
        if not self._screen.is_terminal:
            if not self._said:
                self._screen.file.write(f"{self.TITLE}\n")
                self._screen.file.flush()
            self._said = True
        elif self._depth == 1 and not ready:
            self._bars = self._open.enter_context(_bars(self._screen))
            self._task = self._bars.add_task(self.TITLE, total=None, completed=self._ready)
            self._open.callback(self._bars.remove_task, self._task)
        elif self._depth:
            self._bars.update(self._task, completed=self._ready)
        else:
            self._open.close()


def terminal(stream) -> Terminal:
    """Width and colour of a terminal, or neither."""
    stream = Stream(stream)
    width = None if stream.isatty() else PIPED_WIDTH
    return Terminal(file=stream, width=width, markup=False, highlight=False, emoji=False)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int) else str(value)


def number(value: int) -> str:
    """``1,234,567``."""
    return f"{value:,}"


def percent(value: float | None) -> str:
    """``98.61 %``, or nothing."""
    return "" if value is None else f"{value:.2f} %"


def points(value: float | None) -> str:
    """A loss in points of a per cent, with its sign: ``+0.28`` is a loss; a plain 0 is written 0.00."""
    if value is None:
        return ""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


def size(count: int) -> str:
    """``12,345 bytes``."""
    return f"{count:,} byte" + ("" if count == 1 else "s")
