"""Every table of measured figures is what its stored result says, and the cheap ones are what the code gives today."""

import json
import os
import re
from pathlib import Path

import pytest

from intsnn.bench import figures
from intsnn.bench.studies import conversion as study
from intsnn.datasets import catalogue as datasets
from intsnn.errors import DataNotFoundError, FormatError
from intsnn.models import digits
from intsnn.models.readers import load

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "figures"
STORED = sorted(FOLDER.glob("*.json"))
DATA = os.environ.get("INTSNN_DATA", "")
MEASURED = re.compile(r"\d\.\d\d|\d\.\d+ %")  # what a table of words does not hold
# pages and tables that define numbers, and measure none
WORDS = {"docs/semantics.md", "docs/memory.md", "docs/learning.md | | published | corrected |"}
pytestmark = pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="installed without documentation")


def result(name):
    return figures.load(FOLDER / f"{name}.json")


def test_the_pages_hold_the_stored_figures():
    assert figures.write(ROOT, check=True) == []


def test_every_result_has_its_place_and_no_measured_table_is_without_one():
    named = []
    for page in figures.documents(ROOT):
        text = page.read_text("utf-8")
        lines = text.split("\n")
        for start, end, name in figures.tables(text):
            place = page.relative_to(ROOT).as_posix()
            where = f"{place}:{start + 1}"
            if name is not None:
                named.append(name)
            elif not WORDS & {place, f"{place} {lines[start]}"}:
                cells = [cell for line in lines[start:end] for cell in line.split("|") if "`" not in cell]
                assert not any(MEASURED.search(cell) for cell in cells), f"{where}: a table of figures has no result"
    assert len(set(named)) == len(named), "two tables of one result"
    assert sorted(named) == sorted(path.stem for path in STORED)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_a_result_says_where_it_comes_from(path):
    found = figures.load(path)
    assert re.fullmatch(r"[0-9a-f]{7,40}\+?", found["commit"]) and re.fullmatch(r"20\d\d-\d\d-\d\d", found["date"])
    assert re.search(r"intsnn|python -m", found["command"])
    keys = {key for _, key, *_ in found["columns"]}
    assert all(keys & set(row) for row in found["results"])


def test_a_changed_figure_is_seen_and_written(tmp_path):
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    figures.store(
        tmp_path / "docs" / "figures" / "a.json", "what", "python -m x", "data",
        [["", "row"], ["right", "right", ".2f"], ["bytes", "bytes", ","]],
        [{"row": "one", "right": 98.125, "bytes": 12345}, {"row": "two", "right": None, "bytes": 7}],
    )  # fmt: skip
    page = tmp_path / "README.md"
    page.write_text("x\n\n<!-- figures: a -->\n| old |\n|---|\n| 1 |\n\n| words |\n|---|\n| y |\n")
    assert figures.write(tmp_path, check=True) == [page] and "| old |" in page.read_text()
    assert figures.write(tmp_path) == [page] and figures.write(tmp_path, check=True) == []
    assert page.read_text() == (
        "x\n\n<!-- figures: a -->\n| | right | bytes |\n|---|---|---|\n| one | 98.12 | 12,345 |\n| two | | 7 |\n\n"
        "| words |\n|---|\n| y |\n"
    )
    page.write_text(page.read_text().replace("98.12", "98.13"))
    with pytest.raises(SystemExit) as stop:
        figures.main(["--root", str(tmp_path), "--check"])
    assert stop.value.code == 1


def test_what_is_no_result_is_refused(tmp_path):
    with pytest.raises(DataNotFoundError, match="no such result"):
        figures.load(tmp_path / "none.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(FormatError, match="JSON"):
        figures.load(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps({"what": "x", "results": []}))
    with pytest.raises(FormatError, match="command, commit, data, date, columns, results is missing"):
        figures.load(tmp_path / "a.json")


def test_the_digits_are_right_as_stored():
    """One row of the table of roundings, measured again."""
    stored = {row["row"]: row for row in result("roundings")["results"]}
    found = study.roundings(
        "digits", load(digits.network_file()), datasets.load("digits:train"), datasets.load("digits:test"),
        roundings=("auto",), widths=(2, 4),
    )  # fmt: skip
    assert found == [{key: stored["digits, auto"][key] for key in ("row", "2", "4")}]


def test_the_membranes_of_the_digits_are_as_stored():
    """Half of the table of narrow membranes, measured again."""
    stored = [row for row in result("membranes")["results"] if row["row"].startswith("digits")]
    source = study.small_codes(load(digits.network_file()), datasets.load("digits:train"))
    assert study.membranes("digits", source, datasets.load("digits:test")) == stored and len(stored) == len(study.ASKED)


@pytest.mark.skipif(not DATA, reason="INTSNN_DATA names no folder")
def test_the_mlp_is_right_as_stored():
    """One row of the README's first table, but for the comparison of all paths, measured again."""
    mlp = study.NETWORKS[0]
    stored = next(row for row in result("reached")["results"] if row["network"] == mlp.shown)
    found = study.reached(Path(DATA) / "models" / "keras", mlp, check=False)
    assert {key: stored[key] for key in found} == found and {"float", "w8 a4", "w4 a4"} <= set(found)
