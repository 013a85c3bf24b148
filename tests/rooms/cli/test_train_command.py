"""``intsnn train``: a file, a checkpoint, the same file after an interruption, errors of one line."""

import json
import sys

import pytest
from click.testing import CliRunner

from intsnn.cli.commands import train as command
from intsnn.cli.main import main
from intsnn.files.network_file import load, read_info
from intsnn.network.quantised import QuantisedNetwork


def call(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_recipes_are_listed_without_torch(tmp_path):
    done = call("--list", "--json", tmp_path / "list.json")
    assert done.exit_code == 0 and "lenet-mnist-qffs" in done.output
    listed = json.loads((tmp_path / "list.json").read_text())["recipes"]
    assert {entry["name"] for entry in listed} == set(command.recipes())
    assert all(entry["note"] and entry["data"] for entry in listed)


def test_wrong_use_is_said():
    assert call().exit_code == 2
    done = call("--recipe", "none", "-o", "x.h5")
    assert done.exit_code == 2 and "there is no recipe 'none'; choose one of" in done.output
    done = call("--recipe", "digits-qffs", "-o", "nowhere/x.h5")
    assert done.exit_code == 3 and "there is no folder" in done.output


def test_without_torch_it_says_what_to_install(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("intsnn.models.qat.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    done = call("--recipe", "digits-qffs", "-o", tmp_path / "x.h5")
    assert done.exit_code == 3 and "pip install intsnn[qat]" in done.output


def test_an_interrupted_training_ends_in_the_same_file(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install intsnn[qat]")
    threads = torch.get_num_threads()
    options = ["--recipe", "digits-qffs", "--data", "digits:train:320", "--test", "digits:test:50", "--epochs", 2]
    try:
        done = call(*options, "-o", tmp_path / "whole.h5", "--json", tmp_path / "whole.json")
        assert done.exit_code == 0, done.output
        from intsnn.models.qat import training

        real, count = training._Run.save, []

        def save(self):
            real(self)
            count.append(1)
            if len(count) == 3:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training._Run, "save", save)
            stopped = call(*options, "-o", tmp_path / "cut.h5")
        assert stopped.exit_code == 130 and not (tmp_path / "cut.h5").exists()
        assert (tmp_path / "cut.h5.checkpoint").exists()
        again = call(*options, "-o", tmp_path / "cut.h5")
        assert again.exit_code == 0 and "epoch 1/2" not in again.output  # only the last epoch was left
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "cut.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    values = json.loads((tmp_path / "whole.json").read_text())
    assert values["settled"] is True and values["levels_compared"] > 0
    assert sum(values["levels_differing_float64"].values()) == 0
    assert [stage["name"] for stage in values["stages"]] == ["float", "w4 a2"]
    network = load(tmp_path / "whole.h5")
    assert isinstance(network, QuantisedNetwork) and network.levels == 3
    about = read_info(tmp_path / "whole.h5").provenance
    assert about["settings"]["name"] == "digits-qffs" and about["data"] == "digits:train:320"
