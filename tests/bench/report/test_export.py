"""Exports of a sweep: what goes out comes back."""

import copy
import csv
import io
import json
import math
import re

import pytest
import sweep_rows

from intsnn.bench.report.export import COLUMNS, csv_text, json_text, markdown_text
from intsnn.errors import FormatError

TEXTS = {"key", "model", "data", "method", "source_sha256", "created", "error", "same_as"}


def rows():
    """Ordinary rows, a failed one, one with awkward texts and numbers, one with a field that no other has."""
    found = sweep_rows.make_rows(models=("lenet5",), methods=("qffs",), weights=(2, 8), activations=(3,), seeds=(0, 1))
    found[1] = sweep_rows.fail(found[1], 'line one\nline two, "quoted"')
    found[2] |= {
        "model": "=a,b;\"c\"\r\n| d | <b> `e` \\ *f* 漢", "accuracy": 0.1 + 0.2, "seed": 2**63 - 1, "seconds": 5e-324,
        "synops": 1.7976931348623157e308, "method": "-1",
    }  # fmt: skip
    found[3] |= {"same_as": "fast-snn", "settings": {"detail": None, "x": [1.5, "ü"]}}
    return found


def from_csv(text):
    """The rows that a CSV holds: texts as they are, everything else as JSON; nothing is None."""
    table = list(csv.DictReader(io.StringIO(text, newline="")))
    return [
        {name: None if value == "" else value if name in TEXTS else json.loads(value) for name, value in row.items()}
        for row in table
    ]


def filled(found):
    names = {name for row in found for name in row}
    return [{name: row.get(name) for name in names} for row in found]


def test_csv_comes_back_the_same():
    text = csv_text(rows())
    assert from_csv(text) == filled(rows())
    for given, found in zip(rows(), from_csv(text), strict=True):
        for name, value in given.items():
            assert type(found[name]) is type(value), name
    head = text.split("\r\n")[0].split(",")
    assert head == [*COLUMNS, "same_as", "settings"]


def test_json_comes_back_the_same():
    found = json.loads(json_text(rows()))
    assert found == rows()
    assert [list(row) for row in found] == [list(row) for row in rows()]


def test_what_has_no_form_is_not_made_up():
    row = sweep_rows.make_row()
    for value in (math.nan, math.inf):
        for wrong in (row | {"accuracy": value}, row | {"layers": [{"v": {"x": [value]}}]}):
            with pytest.raises(FormatError, match="NaN or infinity"):
                json_text([wrong])
    text = csv_text([row | {"accuracy": math.nan, "model": "half \ud800"}])
    assert ",nan," in text and "half \\ud800" in text
    text.encode("utf-8")


@pytest.mark.parametrize("export", [csv_text, json_text, markdown_text])
def test_no_rows_are_an_error(export):
    with pytest.raises(FormatError, match="no row"):
        export([])


@pytest.mark.parametrize("export", [csv_text, json_text, markdown_text])
def test_rows_are_not_changed(export):
    given, kept = rows(), rows()
    export(given)
    assert given == kept


def cells(line):
    """Cells of a line of a Markdown table, escapes taken back."""
    parts = re.split(r"(?<!\\)\|", line)
    assert parts[0] == "" and parts[-1] == ""
    return [re.sub(r"\\([^\w\s])", r"\1", part.strip()) for part in parts[1:-1]]


def test_markdown_is_a_table():
    lines = markdown_text(rows()).splitlines()
    assert len(lines) == 2 + len(rows())
    table = [cells(line) for line in lines]
    assert len({len(line) for line in table}) == 1
    assert len({len(line) for line in lines[:2]}) == 1  # padded for those who read the source
    assert all(re.fullmatch(r"-+:?", cell) for cell in table[1])
    found = [dict(zip(table[0], line, strict=True)) for line in table[2:]]
    assert {row["error"] for row in found} == {"", 'line one line two, "quoted"'}
    by_accuracy = {row["accuracy %"] for row in found}
    assert by_accuracy == {"–" if r["accuracy"] is None else f"{r['accuracy']:.2f}" for r in rows()}
    assert "states" not in table[0]  # no row has them
    assert '=a,b;"c" | d | <b> `e` \\ *f* 漢' in {row["model"] for row in found}
    assert not re.search(r"(?<!\\)[<`*]", "".join(lines[2:]))


def test_markdown_shows_failed_rows():
    given = [sweep_rows.fail(sweep_rows.make_row()), copy.deepcopy(sweep_rows.make_row(seed=1))]
    text = markdown_text(given)
    assert text.count("the worker died (signal 9)") == 1 and text.count("\n") == 4
