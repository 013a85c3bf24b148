"""``intsnn tune``: from a checkpoint to a file that is no worse on the training data, in T steps."""

import json

import pytest
from click.testing import CliRunner

from intsnn.cli.main import main
from intsnn.conversion.spikes import NeuronRule, convert
from intsnn.datasets.catalogue import load as load_data
from intsnn.engine.simulation import simulate
from intsnn.files.network_file import load, read_info

torch = pytest.importorskip("torch", reason="torch is not installed: pip install intsnn[qat]")

DATA = ["--data", "digits:train:160", "--test", "digits:test:50", "--epochs", 2]


def call(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A short training and its checkpoint."""
    path, threads = tmp_path_factory.mktemp("tune"), torch.get_num_threads()
    done = call("train", "--recipe", "digits-fast", *DATA, "-o", path / "net.h5", "--json", path / "net.json")
    assert done.exit_code == 0, done.output
    yield path
    torch.set_num_threads(threads)


def driven(path, data):
    network = convert(load(path), NeuronRule("fast-snn")).network
    return 100.0 * float((simulate(network, data.images).predictions == data.labels).mean())


def test_training_says_how_right_it_is_after_each_step(folder):
    values = json.loads((folder / "net.json").read_text())
    assert len(values["accuracy_by_step"]) == values["t_drive"] + values["extra_steps"]
    assert values["accuracy_by_step"][values["t_drive"] - 1] == values["accuracy_drive"]
    assert values["accuracy_by_step"][-1] == values["accuracy"]
    assert values["accuracy_drive"] == driven(folder / "net.h5", load_data("digits:test:50"))


def test_tuning_goes_from_a_checkpoint_to_a_file(folder):
    options = ["--recipe", "digits-fast", "--checkpoint", folder / "net.h5.checkpoint", *DATA, "--rate", 0.01]
    done = call("tune", *options, "-o", folder / "tuned.h5", "--json", folder / "tuned.json")
    assert done.exit_code == 0, done.output
    values, training = json.loads((folder / "tuned.json").read_text()), load_data("digits:train:160")
    before = json.loads((folder / "net.json").read_text())
    assert values["before"]["accuracy_by_step"] == before["accuracy_by_step"]
    assert [attempt["layer"] for attempt in values["attempts"]] == ["conv2", "dense1"]
    first, last = values["attempts"][0], values["attempts"][-1]
    assert first["before"] == driven(folder / "net.h5", training)
    assert driven(folder / "tuned.h5", training) == (last["after"] if last["kept"] else last["before"])
    assert driven(folder / "tuned.h5", training) >= driven(folder / "net.h5", training)
    assert sum(values["levels_differing_float64"].values()) == 0
    about = read_info(folder / "tuned.h5").provenance
    assert about["source"] == "intsnn tune" and about["attempts"] == values["attempts"]


def test_what_cannot_be_tuned_is_said(folder):
    options = ["--recipe", "digits-fast", *DATA, "-o", folder / "x.h5"]
    done = call("tune", *options, "--checkpoint", folder / "none")
    assert done.exit_code == 3 and "there is no checkpoint" in done.output
    done = call("tune", *options, "--checkpoint", folder / "net.h5.checkpoint", "--seed", 9)
    assert done.exit_code == 2 and "belongs to another training" in done.output
    done = call("tune", *options, "--checkpoint", folder / "net.h5")
    assert done.exit_code == 3 and "no checkpoint that can be read" in done.output
    from intsnn.models.qat.recipes import recipe
    from intsnn.models.qat.training import train

    train(recipe("digits-qffs"), load_data("digits:train:64"), device="cpu", checkpoint=folder / "cut", stop_after=1)
    done = call(
        "tune",
        "--recipe",
        "digits-qffs",
        "--data",
        "digits:train:64",
        "--checkpoint",
        folder / "cut",
        "-o",
        folder / "x.h5",
    )
    assert done.exit_code == 2 and "stage 1 of 2; let it finish" in done.output and not (folder / "x.h5").exists()
