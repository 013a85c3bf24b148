"""The speed comparison of learning steps compares equal steps."""

import numpy as np
import pytest

from intsnn.bench.learning import speed as learn_speed
from intsnn.errors import MismatchError


def test_dense_step_is_the_step_of_torch():
    """Ours in three ways and torch in two: the same weights from the same random numbers; a figure for each."""
    pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    found = learn_speed.dense(rounds=2, seconds=0, size=64, batch=7)
    assert len(found["times"]) == 6 and len(found["ratios"]) == 9
    assert all(0 < least <= median for median, least in found["times"].values())


def test_a_different_step_is_seen(monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    plain = learn_speed._Torch.plain

    def wrong(self):
        plain(self)
        self.master[0, 0] += 1

    monkeypatch.setattr(learn_speed._Torch, "plain", wrong)
    with pytest.raises(MismatchError, match="plain"):
        learn_speed.dense(rounds=1, seconds=0, size=64, batch=4)


def test_network_of_the_publication():
    network = learn_speed.gesture_network()
    sizes = [np.prod(neurons) for _, neurons, _ in network.geometry()]
    assert sizes == [64 * 30 * 30, 128 * 13 * 13, 128 * 11 * 11]


def test_the_command(tmp_path, capsys, monkeypatch):
    """What is printed is what is in the JSON."""
    import json

    times = {"ours": (1.0, 0.5), "torch": (3.0, 2.0)}
    found = {"times": times, "ratios": {"torch / ours": (3.0, 2.5, 4.0)}}
    monkeypatch.setattr(learn_speed, "dense", lambda rounds, seconds: found | {"rounds": rounds})
    monkeypatch.setattr(learn_speed, "network", lambda batch, steps, threads: {"steps_per_second": batch * steps})
    path = tmp_path / "s.json"
    assert learn_speed.main(["--rounds", "3", "--steps", "5", "--batch", "4", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "3.00 (2.50 .. 4.00)" in out and "steps_per_second: 20" in out
    kept = json.loads(path.read_text())["dense"]
    assert kept["times"] == {"ours": [1.0, 0.5], "torch": [3.0, 2.0]} and kept["rounds"] == 3
    assert kept["ratios"] == {"torch / ours": [3.0, 2.5, 4.0]}
