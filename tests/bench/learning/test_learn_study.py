"""The study of widths: what it plans, that it never computes twice, and what its table says."""

import json

import numba
import pytest

from intsnn.bench.learning import study as learn_study
from intsnn.bench.learning.study import BASE, SWEEPS, Run
from intsnn.datasets import catalogue as datasets
from intsnn.learning.learner import Widths


def test_the_base_point_has_the_published_widths():
    assert BASE.rule.widths == Widths() and Run("nmnist", 0).recipe.rule.widths == Widths()


def test_plan():
    runs = list(learn_study.plan(["nmnist", "digits"], 5, 1, ["S"]))
    assert [run.seed for run in runs if run.data == "nmnist" and run.kind == "float"] == [0, 1, 2, 3, 4]
    assert [run.widths for run in runs[-len(SWEEPS["S"]) :]] == SWEEPS["S"]
    assert len({run.key for run in runs}) == len(runs) == 2 * (2 * 5 + len(SWEEPS["S"]))
    more = list(learn_study.plan(["digits"], 2, 0, [], ["P9"], '{"epochs": 2, "trace_rounding": "TRN"}', "validation"))
    assert [(run.kind, run.widths, run.seed) for run in more[3:]] == [
        ("integer", "", 1), ("float", "", 1), ("integer", "P9", 1),
    ]  # fmt: skip
    assert {run.part for run in more} == {"validation"} and {run.recipe.epochs for run in more} == {2}
    assert more[1].changes == '{"epochs": 2}'  # the twin feels no rounding


def test_keys_follow_what_decides():
    base = Run("digits", 0)
    others = [Run("digits", 1), Run("digits", 0, "P8"), Run("digits", 0, kind="float"),
              Run("digits", 0, changes='{"dropout": 0}'), Run("digits", 0, part="validation"),
              Run("digits", 0, changes='{"start": 1}')]  # fmt: skip
    assert len({base.key, *(run.key for run in others)}) == 7
    assert Run("digits", 0, "P12").key == base.key  # the published width
    assert others[3].recipe.rule.dropout == 0
    assert Run("digits", 0, "G8").recipe.schedule.shift(0) == base.recipe.schedule.shift(0) + 2  # the same real rate


def test_every_sweep_holds_widths_that_can_be():
    for texts in SWEEPS.values():
        for text in texts:
            assert Run("nmnist", 0, text).recipe.rule.widths != Widths()


def test_splits_do_not_overlap():
    data, test = learn_study.split(Run("digits", 3))
    assert not set(data.indices) & set(test.indices) and len(data) == 200 and len(test) == 100
    again, _ = learn_study.split(Run("digits", 3))
    other, same = learn_study.split(Run("digits", 4))
    assert list(same.indices) == list(test.indices)  # of every seed
    less, held = learn_study.split(Run("digits", 3, part="validation"))
    assert list(less.indices) + list(held.indices) == list(data.indices) and len(held) == 40
    assert list(again.indices) == list(data.indices) != list(other.indices)
    assert data.frames([0, 5], 0).shape == (10, 2, 1, 8, 8)
    assert (data.frames([5], 0)[:, 0] == data.frames([0, 5], 0)[:, 1]).all()


def test_a_pool_with_a_test_set_of_its_own(monkeypatch):
    pool = learn_study.Pool(("digits:train:300",), 250, 60, "digits:test:60")
    monkeypatch.setitem(learn_study.POOLS, "digits", pool)
    data, test = learn_study.split(Run("digits", 3))
    assert len(set(data.indices)) == 250 and data.indices.max() < 300  # drawn from the whole training set
    recordings = datasets.load("digits:test:60")
    assert list(test.labels) == list(recordings.labels) and list(test.indices) == list(range(60))
    shown = test.frames(range(60), 0).sum(axis=(0, 2)).reshape(60, -1) > 0  # only dark pixels never fire
    assert not (shown & (recordings.images.reshape(60, -1) == 0)).any()
    less, held = learn_study.split(Run("digits", 3, part="validation"))
    assert list(less.indices) + list(held.indices) == list(data.indices)  # nothing of the test set


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="takes too long without the compiler")
def test_resume_and_table(tmp_path, capsys, monkeypatch):
    """Two calls compute every run once; a cut last line is computed again; losses pair seeds."""
    pytest.importorskip("torch", reason="torch is not installed: no float twin")
    path = tmp_path / "runs.jsonl"
    options = ["--results", str(path), "--data", "digits", "--seeds", "2", "--sweeps", ""]
    assert learn_study.main([*options, "--most", "3"]) == 0
    first = path.read_text().splitlines()
    assert len(first) == 3
    path.write_text("\n".join(first)[:-20])  # the third was cut off
    assert learn_study.main(options) == 0
    found = learn_study.rows(path)
    assert len(found) == 4 and len({row["key"] for row in found}) == 4
    kept = {row["key"]: row for row in map(json.loads, first)}
    for row in found:
        if row["key"] in kept:
            assert row["accuracy"] == kept[row["key"]]["accuracy"]
            assert row.get("weights_sha256") == kept[row["key"]].get("weights_sha256")
    monkeypatch.setattr(learn_study, "compute", lambda run: pytest.fail("it was there"))
    capsys.readouterr()
    assert learn_study.main(options) == 0
    out = capsys.readouterr().out
    table = {row["kind"]: row for row in learn_study.summary(found)}
    paired = [
        next(r["accuracy"] for r in found if r["kind"] == "float" and r["seed"] == seed)
        - next(r["accuracy"] for r in found if r["kind"] == "integer" and r["seed"] == seed)
        for seed in (0, 1)
    ]
    assert table["integer"]["loss"] == pytest.approx(sum(paired) / 2) and table["integer"]["runs"] == 2
    assert f"| digits | test | as published | 2 | {table['integer']['accuracy']:.2f} %" in out
    assert all(row["steps"] == 100 and row["tested"] == 100 for row in found)
