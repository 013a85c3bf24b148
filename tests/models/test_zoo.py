"""The zoo: cards that say what is in the files, files that give what the cards say, `zoo:NAME` for a file."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from intsnn.cli.common import read_inputs
from intsnn.cli.main import main
from intsnn.datasets import catalogue as datasets
from intsnn.engine.ann import integer_ann
from intsnn.engine.simulation import simulate
from intsnn.errors import ConversionError, DataNotFoundError, ImportRefused
from intsnn.files.network_file import load, read_info, save
from intsnn.formats.fixed import Fixed
from intsnn.formats.weights import Bipolar
from intsnn.layers import LIF, Affine, Conv2d, Decay, Flatten, Input, Readout
from intsnn.models import readers
from intsnn.models.zoo import catalogue as zoo
from intsnn.models.zoo import entry as zoo_entry
from intsnn.network.float_nodes import FloatInput
from intsnn.network.floating import FloatNetwork
from intsnn.network.quantised import QuantAffine, QuantisedNetwork, QuantReLU
from intsnn.network.spiking import Network

NAMES = zoo.names()
DIGITS = [name for name in NAMES if zoo.card(name).data.startswith("digits")]
EVENTS = [name for name in NAMES if zoo.card(name).method == "bptt"]
OTHERS = [name for name in NAMES if name not in DIGITS]


def test_there_are_networks_and_they_are_small():
    assert DIGITS, "at least one needs no data that do not come with intsnn"
    assert sum(path.stat().st_size for path in zoo.FOLDER.iterdir()) < 6 << 20
    assert sorted(path.name for path in zoo.FOLDER.iterdir()) == sorted(
        f"{name}{ending}" for name in NAMES for ending in (".h5", ".json")
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_is_in_the_file(name):
    card, file = zoo.card(name), zoo.FOLDER / f"{name}.h5"
    network = load(file, trust=True)
    assert isinstance(network, Network) and card.name == name
    assert card.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert card.memory["file_bytes"] == file.stat().st_size
    layers = [layer for layer in network.nodes.values() if isinstance(layer, Affine | Conv2d)]
    widths = [layer.weight_format.bits for layer in layers]
    assert set(widths[1:-1]) == {card.weight_bits} and {widths[0], widths[-1]} == {card.end_bits}
    assert network.t_drive == card.t_drive
    assert card.memory["weights"] == sum(layer.weight.size for layer in layers)
    assert card.memory["weight_bytes"] == sum(-(-layer.weight.size * layer.weight_format.bits // 8) for layer in layers)
    assert card.memory["float_bytes"] == 4 * card.memory["weights"]
    assert card.mismatches == 0 and card.compared > 0
    settings = read_info(file, trust=True).provenance["settings"]
    assert settings["name"] == card.recipe and settings["seed"] == card.seed
    assert f"--recipe {card.recipe} --seed {card.seed}" in card.command
    assert card.float_accuracy > 50 and card.quantised_accuracy == pytest.approx(card.accuracy, abs=0.1)
    if name in EVENTS:
        assert (card.ann_accuracy, card.extra_steps, card.activation_bits) == (None, 0, 1)
        assert network.metadata["events"]["steps"] == card.t_drive and network.levels is None
    else:
        assert card.accuracy == card.ann_accuracy and settings["method"] == card.method
        assert network.levels == 2**card.activation_bits - 1


@pytest.mark.parametrize("name", DIGITS)
def test_running_gives_the_accuracy_of_the_card_exactly(name, tmp_path):
    card = zoo.card(name)
    done = CliRunner().invoke(main, ["run", f"zoo:{name}", "--data", card.data, "--json", str(tmp_path / "run.json")])
    assert done.exit_code == 0, done.output
    values = json.loads((tmp_path / "run.json").read_text())
    assert values["accuracy"] == card.accuracy and values["samples"] == card.samples
    assert values["extra_steps"] == card.extra_steps and values["overflows"] == 0
    assert values["settled"] is (None if name in EVENTS else True)


@pytest.mark.parametrize("name", OTHERS)
def test_the_first_samples_are_right_as_often_as_the_card_says(name, data_root):
    card = zoo.card(name)
    network = readers.load(f"zoo:{name}")
    data = read_inputs(network, f"{card.data}:{zoo_entry.FIRST}")
    if name in EVENTS:
        assert int((simulate(network, data.images).predictions == data.labels).sum()) == card.first_right
        return
    run = simulate(network, data.images, settle=True, keep_final=True)
    assert int((run.predictions == data.labels).sum()) == card.first_right
    ann = integer_ann(network, data.images)
    assert np.array_equal(ann.outputs, run.outputs)
    assert all(np.array_equal(levels, run.final[f"{layer}.counts"]) for layer, levels in ann.levels.items())


# -- the command and the name ------------------------------------------------------------------------------------------


def test_the_list_is_the_cards(tmp_path):
    done = CliRunner().invoke(main, ["zoo", "--json", str(tmp_path / "zoo.json")])
    assert done.exit_code == 0 and all(f"zoo:{name}" in done.output for name in NAMES)
    listed = json.loads((tmp_path / "zoo.json").read_text())["networks"]
    assert [entry["name"] for entry in listed] == list(NAMES)
    for entry in listed:
        card = zoo.card(entry["name"])
        assert (entry["data"], entry["accuracy"]) == (card.data, card.accuracy) and entry == card.values()


@pytest.mark.parametrize("command", ["inspect", "memory"])
def test_other_commands_take_the_name(command):
    done = CliRunner().invoke(main, [command, f"zoo:{DIGITS[0]}"])
    assert done.exit_code == 0 and f"zoo:{DIGITS[0]}" in done.output, done.output


def test_a_name_that_is_not_there():
    with pytest.raises(DataNotFoundError, match=f"no network 'zoo:lion'; the zoo has {NAMES[0]}"):
        readers.load("zoo:lion")
    with pytest.raises(DataNotFoundError):
        zoo.card("../zoo")
    assert zoo.find("net.h5") == "net.h5" and zoo.find(Path("zoo:x")) == Path("zoo:x")
    done = CliRunner().invoke(main, ["run", "zoo:lion", "--data", "digits"])
    assert done.exit_code == 3 and "the zoo has" in done.output


def test_a_damaged_card_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    for content in ("{", "{}", '{"torch_differing": [0, 0], "name": "a"}'):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(ImportRefused, match="is no card"):
            zoo.card("a")


# -- how an entry is made ----------------------------------------------------------------------------------------------


def small(method="fast-snn"):
    rng = np.random.default_rng(0)
    nodes = (
        FloatInput(name="input", shape=(1, 8, 8)),
        zoo_flatten(),
        QuantAffine(name="a", inputs=("flat",), codes=rng.integers(-7, 8, (20, 64)), scale=0.05),
        QuantReLU(name="r", inputs=("a",), step=0.3, levels=3),
        QuantAffine(name="b", inputs=("r",), codes=rng.integers(-7, 8, (10, 20)), scale=0.1, bias=rng.normal(0, 1, 10)),
    )
    about = {
        "settings": {
            "name": "by hand", "seed": 5, "method": method, "architecture": "dense", "data": "digits", "note": "",
            "stages": [{"weight_bits": 8, "activation_bits": 2, "end_bits": None}],
        }
    }  # fmt: skip
    return QuantisedNetwork(FloatNetwork(nodes, "b")), about


def zoo_flatten():
    from intsnn.network.float_nodes import FloatFlatten

    return FloatFlatten(name="flat", inputs=("input",))


TRAINING = {
    "test": "digits:test:120",
    "stages": [{"name": "float", "accuracy": 12.5}, {"name": "w8 a2", "accuracy": 11.0}],
    "levels_differing_float32": {"r": 3},
    "levels_differing_float64": {"r": 0},
    "seconds": 1.5,
}


def test_an_entry_measures_what_it_says(tmp_path):
    network, about = small()
    save(network, tmp_path / "q.h5", provenance=about)
    card = zoo_entry.add("hand", tmp_path / "q.h5", TRAINING, tmp_path / "zoo")
    data = datasets.load("digits:test:120")
    run = simulate(load(tmp_path / "zoo" / "hand.h5"), data.images, settle=True)
    assert card.accuracy == 100.0 * int((run.predictions == data.labels).sum()) / 120
    assert card.first_right == int((run.predictions == data.labels)[:100].sum())
    assert card.extra_steps == run.extra_steps.max() and card.compared == 120 * 30 and card.mismatches == 0
    assert card.torch_differing == (3, 0) and card.float_accuracy == 12.5 and card.quantised_accuracy == 11.0
    assert card.memory["weights"] == card.memory["weight_bytes"] == 1480 and card.data == "digits:test:120"
    written = json.loads((tmp_path / "zoo" / "hand.json").read_text())
    assert written == card.values() and sorted(p.name for p in (tmp_path / "zoo").iterdir()) == ["hand.h5", "hand.json"]


def events_network(binned=True):
    rng = np.random.default_rng(0)
    binning = {"steps": 4, "bin_us": 78_750, "divide": 4, "start_us": 0, "clip": 1}
    layers = (
        Input((2, 8, 8), Fixed(1, signed=False)), Conv2d(rng.choice([-1, 1], (3, 2, 3, 3)), weight_format=Fixed(8)),
        LIF(3, Decay.by_multiply(3, 2), reset="zero"), Flatten(),
        Affine(rng.choice([-1, 1], (10, 108)), weight_format=Bipolar()), Readout("count"),
    )  # fmt: skip
    return Network.sequential(*layers, t_drive=4, metadata={"events": binning} if binned else {})


EVENT_TRAINING = {
    "test": "digits-saccades:test:130", "torch_accuracy": 9.5, "spikes_compared": 1000, "differing_integers": 0,
    "differing_float32": 4, "differing_float64": 2, "seconds": 2.25,
}  # fmt: skip


def test_an_entry_of_an_event_network(tmp_path):
    settings = {"name": "by hand", "seed": 3, "architecture": "tiny", "data": "digits-saccades", "weight": "binary",
                "binning": {"steps": 4}, "note": "", "history": []}  # fmt: skip
    save(events_network(), tmp_path / "n.h5", provenance={"settings": settings})
    card = zoo_entry.add_events("hand", tmp_path / "n.h5", EVENT_TRAINING, 77.5, tmp_path / "zoo")
    data = read_inputs(events_network(), "digits-saccades:test:130")
    right = simulate(events_network(), data.images).predictions == data.labels
    assert card.accuracy == 100.0 * int(right.sum()) / 130 and card.first_right == int(right[:100].sum())
    assert (card.float_accuracy, card.quantised_accuracy, card.ann_accuracy) == (77.5, 9.5, None)
    assert (card.weight_bits, card.end_bits, card.compared, card.torch_differing) == (1, 8, 1000, (4, 2))
    assert card.memory["weights"] == 54 + 1080 and card.memory["weight_bytes"] == 54 + 135
    assert load(tmp_path / "zoo" / "hand.h5").metadata["events"]["divide"] == 4

    with pytest.raises(ConversionError, match="hand: 5 of 1000 spikes differ"):
        zoo_entry.add_events("hand", tmp_path / "n.h5", EVENT_TRAINING | {"differing_integers": 5}, None, tmp_path)
    save(events_network(binned=False), tmp_path / "n.h5", provenance={"settings": settings})
    with pytest.raises(ConversionError, match="holds no network for events"):
        zoo_entry.add_events("hand", tmp_path / "n.h5", EVENT_TRAINING, None, tmp_path)


def test_what_differs_does_not_enter(tmp_path, monkeypatch):
    network, about = small()
    save(network, tmp_path / "q.h5", provenance=about)
    real = zoo_entry.integer_ann

    def wrong(*arguments, **options):
        found = real(*arguments, **options)
        found.levels["r"][0, 0] += 1
        return found

    monkeypatch.setattr(zoo_entry, "integer_ann", wrong)
    with pytest.raises(ConversionError, match="hand: 1 of 3600 settled values differ"):
        zoo_entry.add("hand", tmp_path / "q.h5", TRAINING, tmp_path / "zoo")
    assert not list((tmp_path / "zoo").iterdir()) if (tmp_path / "zoo").exists() else True
    spiking = tmp_path / "spiking.h5"
    from intsnn.conversion.spikes import convert

    save(convert(network).network, spiking, provenance=about)
    with pytest.raises(ConversionError, match="holds no quantised ANN"):
        zoo_entry.add("hand", spiking, TRAINING, tmp_path / "zoo")


def test_data_without_labels_do_not_make_an_entry(tmp_path):
    network, about = small()
    save(network, tmp_path / "q.h5", provenance=about)
    np.savez(tmp_path / "bare.npz", x=np.zeros((3, 1, 8, 8), np.uint8))
    with pytest.raises(ConversionError, match="an accuracy needs labels"):
        zoo_entry.add("hand", tmp_path / "q.h5", TRAINING | {"test": str(tmp_path / "bare.npz")}, tmp_path / "zoo")
