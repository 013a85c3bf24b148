"""Spike-timing recipes: the competition by hand, learning, interruptions, the command."""

import json
from dataclasses import replace

import numba
import numpy as np
import pytest
from click.testing import CliRunner

from intsnn.cli.main import main
from intsnn.datasets import catalogue as datasets
from intsnn.errors import FormatError, ImportRefused
from intsnn.files.hdf5 import read_tree, write_tree
from intsnn.models.learning.sequences import RateSequences
from intsnn.models.learning.stdp import Training, answers, compete, shares, train
from intsnn.models.learning.stdp_recipes import RECIPES, StdpRecipe, pair_rule

compiled_only = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="takes too long without the compiler")


@pytest.fixture(scope="module")
def small():
    chosen = replace(RECIPES["stdp-digits"], neurons=20, steps=15, epochs=2)
    data = RateSequences(datasets.load("digits:train:300"), chosen, False)
    return chosen, data, RateSequences(datasets.load("digits:test:100"), chosen, True)


def test_competition_by_hand():
    """Leak, input, threshold with adaptation, one winner, the first of equals, reset of all."""
    chosen = replace(RECIPES["stdp-digits"], neurons=3, threshold=10, leak_shift=2)
    v = np.array([[8, 0, 0], [16, 16, 0], [40, 0, 0]])
    weight = np.array([[3, 9, 0], [1, 5, 9]])
    frame = np.array([[1, 1], [0, 0], [0, 0]], np.uint8)
    spikes = compete(v, frame, weight, chosen, np.array([0, 1, 0]))
    # v: 6 + 4 = 10 (at 10), 14 (3 above 11), 9; 12 and 12: 2 above, 1 above; 30 alone
    assert spikes.tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert v.tolist() == [[0, 0, 0]] * 3
    v = np.array([[4, 4, 7]])
    assert not compete(v, frame[1:2], weight, chosen, np.zeros(3, int)).any() and v.tolist() == [[3, 3, 6]]


def test_the_rule_potentiates_what_came_before():
    rule = pair_rule(RECIPES["stdp-mnist"])
    assert rule.potentiation[0] == -200 and rule.potentiation[63] == 16 * 63 - 200 and set(rule.depression) == {0}


def right(work, test):
    """Per cent of the test images."""
    learned = work.chosen, work.synapse.weight, work.adaptation, shares(work)
    return 100 * (answers(*learned, test) == test.labels).sum() / len(test)


@compiled_only
def test_it_learns_and_both_paths_agree(small):
    chosen, data, test = small
    work = train(chosen, data)
    before, after = (right(each, test) for each in (Training(chosen, data), work))
    speaking = int((shares(work).sum(0) > 0).sum())
    assert after > 45 > before + 5 and speaking > 5
    fast = train(chosen, data, steps=45)
    plain = Training(chosen, data, path="reference")
    for _ in range(3):
        plain.present()
    assert plain.weights_sha256() == fast.weights_sha256() and plain.steps == fast.steps == 45


@compiled_only
def test_interrupted_is_uninterrupted(small, tmp_path):
    chosen, data, _ = small
    path = str(tmp_path / "c")
    whole = train(chosen, data)
    for steps in (1, 100, 460, None):
        part = train(chosen, data, steps=steps, checkpoint=path)
    assert part.weights_sha256() == whole.weights_sha256() and part.history == whole.history
    assert part.synapse.counters.tolist() == whole.synapse.counters.tolist() and part.fired == whole.fired
    with pytest.raises(FormatError, match="another training.*gain"):
        train(replace(chosen, gain=9), data, checkpoint=path)
    images = datasets.load("digits:train:300")
    flipped = replace(images, images=images.images[::-1].copy(), labels=images.labels[::-1].copy())
    with pytest.raises(FormatError, match=r"another training \(samples_sha256 differ\)"):
        train(chosen, RateSequences(flipped, chosen, False), checkpoint=path)
    said = []
    train(chosen, data, checkpoint=path, say=said.append)
    assert len(said) == 1 and "its samples are those of" in said[0]
    content = open(path, "rb").read()
    open(path, "wb").write(content[: len(content) // 2])
    with pytest.raises(ImportRefused):
        train(chosen, data, checkpoint=path)


@compiled_only
@pytest.mark.parametrize(
    "change",
    [
        {"identity": []}, {"identity": None}, {"version": 2}, {"format": "other"}, {"steps": "many"}, {"epoch": None},
        {"history": 1}, {"sha256": ""},
    ],
)  # fmt: skip
def test_checkpoints_that_lie_are_refused(small, tmp_path, change):
    chosen, data, _ = small
    path = str(tmp_path / "c")
    train(chosen, data, steps=1, checkpoint=path)
    arrays = {name: np.array(array) for name, array in read_tree(path, trust=True).datasets.items()}
    facts = json.loads(arrays["description"].tobytes())
    missing = {name: value for name, value in facts.items() if name not in change}
    for wrong in (facts | change, missing, [facts]):
        text = np.frombuffer(json.dumps(wrong).encode(), np.uint8)
        write_tree(path, arrays | {"description": text})
        with pytest.raises(ImportRefused, match="c is no checkpoint that can be read"):
            train(chosen, data, checkpoint=path)


@compiled_only
def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["train", "--recipe", "stdp-digits", "--data", "digits:train:100", "--test", "digits:test:50"]
    result = CliRunner().invoke(main, [*options, "--steps", "300", "--seed", "3", "--json", "r.json"])
    assert result.exit_code == 0, result.output
    values = json.loads((tmp_path / "r.json").read_text())
    assert values["steps"] == 300 and values["seed"] == 3 and values["accuracy"] > 10
    assert values["memory"]["weight_and_trace_bits"] == 64 * 60 * 8 + 64 * 6
    assert f"weights {values['weights_sha256']}" in result.output
    assert f"learned the samples of digits:train:100 (sha256 {values['samples_sha256'][:16]})" in result.output
    assert len(values["samples_sha256"]) == len(values["test_sha256"]) == 64
    assert (tmp_path / "stdp-digits.checkpoint").exists()


def test_values_are_checked():
    with pytest.raises(FormatError, match="neurons: found 0"):
        StdpRecipe("x", "", "digits", "digits", neurons=0)
    for name, value in (("threshold", 1.5), ("adapt_up", 1 << 60), ("leak_shift", -1), ("gain", True)):
        with pytest.raises(FormatError, match=f"{name}: found"):
            StdpRecipe("x", "", "digits", "digits", **{name: value})
    with pytest.raises(FormatError, match="peak: found 300; 1 to 256"):
        StdpRecipe("x", "", "digits", "digits", peak=300)
