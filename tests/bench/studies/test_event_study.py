"""The study of binary weights on event data: its parts are trained once, summed up rightly, and go on after a stop."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install intsnn[qat]")

from intsnn.bench.studies import events as event_study  # noqa: E402
from intsnn.bench.studies.events import fold_parts, folds, main, memory, report, seeds, wilson  # noqa: E402
from intsnn.errors import DataNotFoundError, FormatError  # noqa: E402

SMALL = {"width": 0.03125, "float_epochs": 1, "epochs": 1, "hard_epochs": 1, "data": "digits-saccades"}


def test_interval():
    low, high = wilson(95, 100)
    assert (round(low, 2), round(high, 2)) == (88.82, 97.85)  # as in tables of the interval
    assert wilson(0, 10)[0] == pytest.approx(0, abs=1e-9) and wilson(10, 10)[1] == pytest.approx(100)


def test_folds_are_a_partition():
    parts = fold_parts(1100)
    assert [len(part) for part in parts] == [110] * 10
    assert sorted(np.concatenate(parts).tolist()) == list(range(1100))


def test_seeds_are_trained_once(tmp_path, monkeypatch):
    monkeypatch.setattr(event_study, "COMPARED", 5)
    said = []
    options = {"samples": 64, **SMALL}
    seeds("plif-saccades-binary", [4], tmp_path, said.append, **options)
    assert len(said) == 2
    whole = report(tmp_path)
    names = "seeds-plif-saccades-binary binary", "seeds-plif-saccades-binary float"
    assert set(whole["groups"]) == set(names)
    binary, twin = (whole["groups"][name] for name in names)
    assert binary["total"] == twin["total"] == 360 and binary["differing_integers"] == 0 < binary["spikes"]
    assert whole["drops"][names[0]]["each"] == [twin["accuracies"][0] - binary["accuracies"][0]]
    assert binary["interval"][0] < binary["mean"] < binary["interval"][1]
    files = {file: file.read_text() for file in tmp_path.glob("*.json")}
    seeds("plif-saccades-binary", [4], tmp_path, said.append, **options)  # nothing is trained again
    assert len(said) == 2 and {file: file.read_text() for file in tmp_path.glob("*.json")} == files
    next(iter(tmp_path.glob("seeds-*-binary.json"))).unlink()
    seeds("plif-saccades-binary", [4], tmp_path, said.append, **options)
    again = report(tmp_path)
    assert len(said) == 3 and again["groups"] == whole["groups"]  # and comes out the same
    with pytest.raises(FormatError, match="is the result of other settings"):
        seeds("plif-saccades-binary", [4], tmp_path, said.append, **options | {"rate": 1e-3})


def test_every_recording_is_held_out_once(tmp_path, monkeypatch):
    monkeypatch.setattr(event_study, "fold_parts", lambda count: np.array_split(np.arange(count), 2))
    whole = event_study._frames

    def few(spec, chosen, folder):
        found = whole(spec, chosen, folder)
        return found.part(np.arange(40), found.name)

    monkeypatch.setattr(event_study, "_frames", few)
    folds("plif-nmnist-binary", tmp_path, lambda text: None, **SMALL)
    found = report(tmp_path)
    assert {name: entry["total"] for name, entry in found["groups"].items()} == {
        "folds-plif-nmnist-binary binary": 80, "folds-plif-nmnist-binary float": 80,
    }  # fmt: skip


def test_memory_is_measured_on_files(tmp_path, monkeypatch):
    monkeypatch.setattr(event_study, "SIZES", {"plif": (2, 16, 16)})
    memory(tmp_path, lambda text: None)
    found = report(tmp_path)["memory"]["plif"]
    assert found["weight_bytes"] * 8 == found["weights"] and found["float_file_bytes"] > 4 * found["weights"]
    assert 20 < found["ratio_files"] < 32 and found["ratio_weights"] == 32
    assert found["weight_bytes"] < found["stored_bytes"] < found["file_bytes"]


def test_the_folder_has_to_be_there(tmp_path, capsys):
    with pytest.raises(DataNotFoundError, match="make it first"):
        main(["report", "--folder", str(tmp_path / "none")])
    main(["report", "--folder", str(tmp_path)])
    assert json.loads(capsys.readouterr().out) == {"groups": {}, "drops": {}, "memory": {}}
