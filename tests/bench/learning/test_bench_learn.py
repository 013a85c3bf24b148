"""``intsnn bench learn``: what it runs, goes on with, prints, draws and refuses."""

import json
import sys

import numba
import pytest
from click.testing import CliRunner

from intsnn.bench.learning import plots as learn_plots
from intsnn.bench.learning import study as learn_study
from intsnn.bench.learning.study import Run
from intsnn.cli.main import main

compiled_only = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="takes too long without the compiler")
TOML = """
base = "decolle-digits"
data = "digits:train:100"
test = "digits:test:40"
epochs = 1
steps = 10
test_steps = 10
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(TOML)
    return tmp_path


def learn(*arguments, recipe="small.toml"):
    return CliRunner().invoke(main, ["bench", "learn", "--recipe", recipe, *arguments])


@compiled_only
def test_a_study_of_a_recipe_and_how_it_goes_on(folder):
    options = ("--no-twin", "--widths", "P8 Q6", "--seeds", "2", "--json", "a.json")
    done = learn(*options)
    assert done.exit_code == 0, done.output
    found = json.loads((folder / "a.json").read_text())
    assert found["computed"] == 4 and found["results"] == "learn.jsonl"
    assert {(row["kind"], row["widths"], row["seed"]) for row in found["runs"]} == {
        ("integer", widths, seed) for widths in ("", "P8 Q6") for seed in (0, 1)
    }
    assert len({row["weights_sha256"] for row in found["runs"]}) == 4
    assert all(row["tested"] == 40 and row["steps"] == 40 for row in found["runs"])  # 4 batches of 10 steps
    by_widths = {row["widths"]: row for row in found["rows"]}
    mean = sum(row["accuracy"] for row in found["runs"] if not row["widths"]) / 2
    assert by_widths[""]["accuracy"] == pytest.approx(mean) and by_widths[""]["loss"] is None
    assert by_widths["P8 Q6"]["saving"] > by_widths[""]["saving"] and f"{mean:.2f}" in done.output

    kept = (folder / "learn.jsonl").read_text()
    again = learn(*options)
    assert json.loads((folder / "a.json").read_text())["computed"] == 0
    assert "4 runs, 0 of them computed now" in again.output and (folder / "learn.jsonl").read_text() == kept
    more = learn("--no-twin", "--widths", "G9", "--epochs", "2", "--json", "b.json")
    assert more.exit_code == 0
    found = json.loads((folder / "b.json").read_text())  # more epochs are other runs
    assert found["computed"] == 2 and {row["steps"] for row in found["runs"]} == {80}
    held = learn("--no-twin", "--validation", "--json", "c.json")
    assert held.exit_code == 0 and json.loads((folder / "c.json").read_text())["runs"][0]["tested"] == 20


def test_a_plan_is_shown_and_nothing_computed(folder, monkeypatch):
    monkeypatch.setattr(learn_study, "compute", lambda run: pytest.fail("nothing was to be computed"))
    done = learn("--sweep", "S,EG", "--widths", "S2", "--dry-run", "--json", "a.json")  # S2 twice
    assert done.exit_code == 0 and not (folder / "learn.jsonl").exists()
    points = learn_study.SWEEPS["S"] + learn_study.SWEEPS["EG"]
    assert f"{2 + len(points)} runs" in done.output and all(point in done.output for point in points)
    assert json.loads((folder / "a.json").read_text())["to_do"] == 2 + len(points)


def test_a_point_that_is_named_twice_is_computed_once(folder, monkeypatch):
    row = rows_of({("integer", "", 0): 50.0})[0]
    monkeypatch.setattr(learn_study, "compute", lambda run: {"key": run.key} | row | {"widths": run.widths})
    monkeypatch.setattr(learn_study, "line_of", lambda run, row: run.widths)
    done = learn("--no-twin", "--sweep", "S", "--widths", "S2", "--widths", "S2", "--widths", "P12")  # P12: as it is
    assert done.exit_code == 0, done.output
    assert f"[{1 + len(learn_study.SWEEPS['S'])}/{1 + len(learn_study.SWEEPS['S'])}]" in done.output
    widths = [row["widths"] for row in learn_study.rows(folder / "learn.jsonl")]
    assert len(widths) == len(set(widths)) == 1 + len(learn_study.SWEEPS["S"])


@pytest.mark.parametrize(
    "arguments, code, part",
    [
        (("--sweep", "S,none"), 2, "--sweep none: choose of PQ, S"), (("--widths", "P99"), 2, "found 99; 1 to 20"),
        (("--widths", "X3"), 2, "X3"), (("--seeds", "0"), 2, "seeds"), (("--json", "learn.jsonl"), 2, "learn.jsonl"),
        (("--results", "no/folder.jsonl"), 3, "there is no folder"),
        (("--results", "small.toml"), 2, "small.toml is also"), (("--json", "small.toml"), 2, "small.toml is also"),
        (("--results", "other.json"), 2, "other.json holds no runs"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_an_error(folder, arguments, code, part):
    (folder / "other.json").write_text('{\n  "a": 1\n}\n')
    done = learn(*arguments)
    assert done.exit_code == code and part in done.output and not (folder / "learn.jsonl").exists()
    assert (folder / "small.toml").read_text() == TOML and (folder / "other.json").read_text() == '{\n  "a": 1\n}\n'


@compiled_only
def test_the_recipe_as_it_is_learns_what_train_learns(folder):
    assert learn("--no-twin", "--json", "a.json").exit_code == 0
    trained = CliRunner().invoke(main, ["train", "--recipe", "small.toml", "--json", "b.json"])
    assert trained.exit_code == 0, trained.output
    found, other = (json.loads((folder / name).read_text()) for name in ("a.json", "b.json"))
    run = found["runs"][0]
    assert all(run[name] == other[name] for name in ("weights_sha256", "steps", "accuracy", "accuracies"))


def test_the_help_names_every_group():
    text = " ".join(learn("--help").output.split())
    assert f"themselves: {', '.join(learn_study.SWEEPS)}." in text


def test_recipes_that_are_none(folder):
    for name in ("nothing", "stdp-digits", "missing.toml"):
        done = learn(recipe=name)
        assert done.exit_code != 0 and name in done.output


@compiled_only
def test_without_torch_it_says_what_the_twin_needs(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    done = learn()
    assert done.exit_code == 3 and "pip install intsnn[qat], or give --no-twin" in done.output
    assert len(learn_study.rows(folder / "learn.jsonl")) == 1  # the integers were there


def rows_of(accuracies):
    """Rows of a file: accuracy by kind, widths and seed."""
    return [
        {"data": "digits", "part": "test", "kind": kind, "widths": widths, "changes": "", "seed": seed, "tested": 8,
         "accuracy": accuracy, "right": "0f", "saving": 50.0, "formula_bits": 1, "fp32_bits": 2}
        for (kind, widths, seed), accuracy in accuracies.items()
    ]  # fmt: skip


ACCURACIES = {
    ("float", "", 0): 80.0, ("float", "", 1): 90.0, ("integer", "", 0): 79.0, ("integer", "", 1): 86.0,
    ("integer", "S2", 0): 84.0, ("integer", "S2", 1): 88.0, ("float", "S2", 1): 91.0, ("integer", "S3", 0): 60.0,
}  # fmt: skip


def test_losses_are_against_the_twin_of_the_recipe_and_that_of_the_same_widths():
    table = {(row["kind"], row["widths"]): row for row in learn_study.summary(rows_of(ACCURACIES))}
    assert table["integer", ""]["loss"] == table["integer", ""]["own_loss"] == 2.5
    assert table["integer", "S2"]["loss"] == -1.0 and table["integer", "S2"]["own_loss"] == 3.0  # of seed 1 only
    assert table["integer", "S3"]["loss"] == 20.0 and table["integer", "S3"]["own_loss"] is None
    assert table["float", "S2"]["own_loss"] is None
    text = learn_study.table_text(rows_of(ACCURACIES))
    assert "| float twin S2 | 1 | 91.00 %" in text and "| float twin | 2 | 85.00 %" in text


def test_twins_in_a_plan():
    runs = list(learn_study.plan(["digits"], 1, 1, ["S"], ["P8"], own_twins=True))
    assert [(run.kind, run.widths) for run in runs[:4]] == [
        ("integer", ""), ("float", ""), ("integer", "P8"), ("float", "P8"),
    ]  # fmt: skip
    assert all(run.kind == "integer" for run in learn_study.plan(["digits"], 2, 1, ["S"], ["P8"], twins=False))
    assert Run("digits", 0, "P8", "float").key != Run("digits", 0, "", "float").key


def test_plots_of_widths(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install intsnn[report]")
    table = learn_study.summary(rows_of(ACCURACIES))
    written = learn_plots.plot_widths(table, {"S": learn_study.SWEEPS["S"]}, str(tmp_path / "plots"))
    assert [path.rsplit("/", 1)[1] for path in written] == ["widths-S.png", "widths-S.svg"]
    drawn = (tmp_path / "plots" / "widths-S.svg").read_text()
    assert "<svg" in drawn and "S8" not in drawn  # a point that nobody has run is left out
