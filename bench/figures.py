"""Where do the figures of the documentation come from? Each table is written from a stored result.

A result is a file ``docs/figures/NAME.json``; a table of README or ``docs/`` stands under the line
``<!-- figures: NAME -->``. ``python -m intsnn.bench.figures`` writes the tables again, ``--check`` says what differs.

    what, command, commit, data, date : str
        What was measured, with which command, at which commit, on which data, when.
    columns : list of [title, key] or [title, key, format]
        Columns of the table; `format` is what Python's `format` takes for numbers.
    results : list of objects
        One a row, by key. A text is shown as it is, null as nothing.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataNotFoundError, FormatError
from ..support.atomic import replacing

__all__ = ["FIELDS", "commit", "documents", "load", "main", "render", "store", "tables", "today", "write"]

FIELDS = ("what", "command", "commit", "data", "date", "columns", "results")
MARK = re.compile(r"^<!-- figures: ([a-z0-9-]+) -->$")


def _cell(value: Any, form: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return format(value, form)


def load(path: Path) -> dict[str, Any]:
    """The stored result in the file `path`.

    Raises
    ------
    DataNotFoundError, FormatError
        There is no such file; it is no stored result.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError:
        raise DataNotFoundError(f"{path}: there is no such result; a table names it") from None
    except ValueError as error:
        raise FormatError(f"{path}: {error}; a stored result is JSON") from None
    missing = [name for name in FIELDS if not (isinstance(found, dict) and found.get(name))]
    if missing:
        raise FormatError(f"{path}: {', '.join(missing)} is missing; a stored result has {', '.join(FIELDS)}")
    return found


def render(result: dict[str, Any]) -> list[str]:
    """`result` as the lines of a Markdown table."""
    columns = [(title, key, *form) for title, key, *form in result["columns"]]
    lines = ["| " + " | ".join(title for title, *_ in columns) + " |", "|" + "---|" * len(columns)]
    for row in result["results"]:
        cells = [_cell(row.get(key), form[0] if form else "") for _, key, *form in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return [re.sub(r"  +", " ", line) for line in lines]


def documents(root: Path) -> list[Path]:
    """README and every page of ``docs/``."""
    return [page for page in (root / "README.md", *sorted((root / "docs").glob("*.md"))) if page.is_file()]


def tables(text: str) -> list[tuple[int, int, str | None]]:
    """First line, line behind the last, and the name above it (None where there is none) of each table in `text`."""
    lines, found, at = text.split("\n"), [], 0
    while at < len(lines):
        if not lines[at].startswith("|"):
            at += 1
            continue
        end = at
        while end < len(lines) and lines[end].startswith("|"):
            end += 1
        mark = MARK.match(lines[at - 1]) if at else None
        found.append((at, end, mark[1] if mark else None))
        at = end
    return found


def written(text: str, folder: Path) -> str:
    """`text` with every table that has a name written from its stored result in `folder`."""
    lines = text.split("\n")
    for start, end, name in reversed(tables(text)):
        if name is not None:
            lines[start:end] = render(load(folder / f"{name}.json"))
    return "\n".join(lines)


def write(root: Path, check: bool = False) -> list[Path]:
    """Write the tables of all documents below `root` (only look, with `check`) and return the pages that differ."""
    changed = []
    for page in documents(root):
        text = page.read_text("utf-8")
        fresh = written(text, root / "docs" / "figures")
        if fresh != text:
            changed.append(page)
            if not check:
                with replacing(page) as temporary:
                    Path(temporary).write_text(fresh, "utf-8")
    return changed


@functools.cache
def commit() -> str:
    """The commit of the sources, with a plus where they hold changes that are in none."""
    call = ["git", "-C", str(Path(__file__).resolve().parent), "describe", "--always", "--dirty=+", "--abbrev=10"]
    return subprocess.run([*call, "--exclude=*"], capture_output=True, text=True, check=True).stdout.strip()


def today() -> str:
    """Today's date."""
    return datetime.date.today().isoformat()


def store(
    path: Path, what: str, command: str, data: str, columns: Sequence[Sequence[str]], results: Iterable[dict[str, Any]]
) -> None:
    """Write a result to `path`, one row a line, with today's date and the commit of the sources."""
    head = {
        "what": what, "command": command, "commit": commit(), "data": data,
        "date": today(),
    }  # fmt: skip
    fields = [f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items()]
    for name, rows in (("columns", columns), ("results", results)):
        inner = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows)
        fields.append(f"{json.dumps(name)}: [\n{inner}\n ]")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        Path(temporary).write_text("{\n " + ",\n ".join(fields) + "\n}\n", "utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Write the tables, or say which pages differ from the stored results."""
    parser = argparse.ArgumentParser(prog="python -m intsnn.bench.figures", description=__doc__.split("\n\n")[0])
    parser.add_argument("--root", type=Path, default=Path(), metavar="FOLDER", help="checkout; default: this folder")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page differs")
    options = parser.parse_args(arguments)
    changed = write(options.root, options.check)
    for page in changed:
        print(f"{page}: {'differs from the stored results' if options.check else 'written'}")
    if options.check and changed:
        sys.exit(1)


if __name__ == "__main__":
    main()
