"""The exactness check finds what it looks for, and finds nothing in a correct build."""

import numba
import numpy as np
import pytest

from intsnn.bench.learning import exact as learn_exact
from intsnn.errors import MismatchError
from intsnn.kernels.learning import compiled

CASES, STEPS = ((0,), 4) if numba.config.DISABLE_JIT else ((1, 7, 12), 25)


@pytest.mark.parametrize("case", CASES)
def test_all_ways_agree(case):
    counts = learn_exact.check(case, STEPS)
    assert counts["steps"] == 2 * STEPS and counts["spikes"] > 0


def test_configurations_differ():
    """Fifty configurations are fifty different sets of widths; each width takes several values."""
    widths = [learn_exact.random_network(np.random.default_rng(case)).rule.widths for case in range(50)]
    assert len(set(widths)) == 50
    assert all(len({getattr(each, name) for each in widths}) > 2 for name in learn_exact.RANGES)


@pytest.mark.parametrize("name, change", [("fire", "r"), ("update", "master"), ("errors", "e")])
def test_a_wrong_kernel_is_seen(monkeypatch, name, change):
    """One code too many in one element of one kernel's answer."""
    right = getattr(compiled, name)
    place = {"fire": 5, "update": 0, "errors": 10}[name]

    def wrong(*arguments):
        right(*arguments)
        arguments[place].reshape(-1)[0] += 1

    monkeypatch.setattr(compiled, name, wrong)
    with pytest.raises(MismatchError, match="differs between"):
        learn_exact.check(1, 6)


def test_the_command(capsys, monkeypatch):
    assert learn_exact.main(["--configs", "1", "--steps", "3", "--first", "4"]) == 0
    assert "1 configurations, 6 compared steps" in capsys.readouterr().out
    monkeypatch.setattr(learn_exact, "difference", lambda *_: "everything")
    assert learn_exact.main(["--configs", "1", "--steps", "2"]) == 4
    assert "everything differs" in capsys.readouterr().err
