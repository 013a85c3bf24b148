"""What `train` learned with integers is opened by `inspect`, `run` and `memory`, with the figures of its training."""

import json
from types import SimpleNamespace

import h5py
import numba
import numpy as np
import pytest
from command_line import bad, good

from intsnn.errors import ImportRefused
from intsnn.learning import files as learn_files
from intsnn.learning import memory as learn_memory
from intsnn.models.learning import learned
from intsnn.models.learning.decolle_recipes import RECIPES, recipe, recipe_from_json

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="takes too long without the compiler")

TOML = """
base = "decolle-digits"
data = "digits:train:80"
test = "digits:test:60"
layers = [{conv = 4, kernel = 3, padding = 1, pool = 2}, {dense = 20}]
steps = 10
test_steps = 12
batch = 20
test_batch = 25
epochs = 1
"""


@pytest.fixture(scope="module")
def decolle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decolle")
    (folder / "mine.toml").write_text(TOML)
    good("train", "--recipe", folder / "mine.toml", "-o", folder / "net.h5", "--json", folder / "t.json",
         "--checkpoint", folder / "c")  # fmt: skip
    values = json.loads((folder / "t.json").read_text())
    return SimpleNamespace(folder=folder, path=folder / "net.h5", values=values)


@pytest.fixture(scope="module")
def stdp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stdp")
    good("train", "--recipe", "stdp-digits", "-o", folder / "net.h5", "--json", folder / "t.json", "--steps", 300,
         "--data", "digits:train:300", "--test", "digits:test:80", "--checkpoint", folder / "c")  # fmt: skip
    values = json.loads((folder / "t.json").read_text())
    return SimpleNamespace(folder=folder, path=folder / "net.h5", values=values)


def command(made, name, *options):
    """What a command printed, and the JSON that it left."""
    report = made.folder / "r.json"
    text = good(name, made.path, "--json", report, *options)
    return text, json.loads(report.read_text())


def test_run_gives_what_the_training_gave(decolle):
    text, found = command(decolle, "run", "--data", "digits:test:60")
    assert found["accuracy"] == decolle.values["accuracy"] and found["accuracies"] == decolle.values["accuracies"]
    assert (
        found["samples"] == 60 and found["steps"] == 12 and found["weights_sha256"] == decolle.values["weights_sha256"]
    )
    assert found["correct"] == round(found["accuracy"] * 60 / 100) and "60 right" in text and "of the same data" in text
    _, threaded = command(decolle, "run", "--data", "digits:test:60", "--threads", 2)
    assert threaded["accuracies"] == found["accuracies"]
    _, longer = command(decolle, "run", "--data", "digits:30", "--steps", 15)
    assert longer["steps"] == 15 and longer["samples"] == 30


def test_run_of_plasticity_gives_what_the_training_gave(stdp):
    _, found = command(stdp, "run", "--data", "digits:test:80")
    assert found["accuracy"] == stdp.values["accuracy"] > 20 and found["samples"] == 80
    assert found["weights_sha256"] == stdp.values["weights_sha256"]


def test_inspect(decolle, stdp):
    text, found = command(decolle, "inspect")
    rows = {row["name"]: row for row in found["layers"]}
    assert found["kind"] == "learner" and [row["kind"] for row in rows.values()] == ["Conv", "Dense"]
    assert rows["layer1"]["shape"] == [4, 8, 8] and rows["layer1"]["parameters"] == 4 * 9 + 4
    assert rows["layer2"]["shape"] == [20] and rows["layer2"]["parameters"] == 20 * 4 * 4 * 4 + 20
    assert rows["layer1"]["format"] == "fxp-s8/0" and rows["layer1"]["state_bits"] == 6
    saved = learn_files.load(decolle.path).learner()
    for row, layer in zip(rows.values(), saved.layers, strict=True):
        assert row["weight"] == {"low": layer.weight.min(), "high": layer.weight.max()}
    assert found["totals"]["parameters"] == 40 + 1300 and found["totals"]["neurons"] == 256 + 20
    assert decolle.values["weights_sha256"] in text and "mine" in text and "3x3 pad 1, pool 2" in text
    _, found = command(stdp, "inspect")
    (row,) = found["layers"]
    assert found["kind"] == "plasticity" and row["parameters"] == 64 * 60 and row["format"] == "fxp-u8/0"
    assert found["totals"]["weight_bytes"] == 64 * 60 and found["facts"]["recipe"] == "stdp-digits"


def test_memory(decolle, stdp):
    _, found = command(decolle, "memory")
    expected = learn_memory.memory(learn_files.load(decolle.path).network)
    assert found["bits"] == expected.bits == decolle.values["memory"]["formula_bits"]
    assert found["measured_bytes"] == expected.measured_bytes == decolle.values["memory"]["measured_bytes"]
    _, found = command(decolle, "memory", "--convention", "declared")
    assert found["bits"] != expected.bits
    _, found = command(stdp, "memory")
    kinds = {name: entry["bits"] for name, entry in found["kinds"].items()}
    assert kinds["weights"] + kinds["traces"] == stdp.values["memory"]["weight_and_trace_bits"]


def test_what_cannot_be_asked(decolle, stdp):
    path = decolle.path
    assert "--strict" in bad(2, "run", path, "--data", "digits:20", "--strict")
    assert "--record" in bad(2, "run", path, "--data", "digits:20", "--record", decolle.folder / "x.h5")
    assert "--data" in bad(2, "memory", path, "--data", "digits:20")
    assert "--width" in bad(2, "memory", path, "--width", "W=4")
    assert "declared" in bad(2, "memory", stdp.path, "--convention", "schaefer-joshi")
    other = decolle.folder / "other.npz"
    np.savez(other, x=np.zeros((4, 1, 9, 9), np.uint8), y=np.arange(4))
    for made in (decolle, stdp):
        assert "9" in bad(3, "run", made.path, "--data", other)
    # another command says that it is none of its files
    assert bad(3, "verify", path, "--data", "digits:20")


def test_checkpoints_are_opened_too(decolle, stdp):
    assert "layer2" in good("inspect", decolle.folder / "c")
    assert "layer1" in good("inspect", stdp.folder / "c") and "weights" in good("memory", stdp.folder / "c")
    assert "stand for" in bad(2, "run", stdp.folder / "c", "--data", "digits:20")
    assert "train it again" in bad(2, "run", decolle.folder / "c", "--data", "digits:20")


def test_files_of_others_are_nothing_learned(tmp_path, decolle):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = [1, 2, 3]
    assert learned.load(tmp_path / "a.h5") is None
    assert bad(3, "inspect", tmp_path / "a.h5") and bad(3, "inspect", tmp_path / "none.h5")


CHANGES = {
    "classes": lambda d: d["network"].update(classes=1 << 30),
    "units": lambda d: d["network"]["layers"][1].update(units=1 << 30),
    "kernel": lambda d: d["network"]["layers"][0].update(kernel=7, padding=3),
    "rule": lambda d: d["network"].update(rule=[]),
    "settings": lambda d: d["facts"].update(settings={"layers": 3}),
    "digest": lambda d: d.update(weights_sha256="0" * 64),
}


@pytest.mark.parametrize("change", CHANGES)
def test_descriptions_that_lie(change, decolle, tmp_path):
    path = tmp_path / "net.h5"
    path.write_bytes(decolle.path.read_bytes())
    with h5py.File(path, "r+") as file:
        values = json.loads(file["description"][:].tobytes())
        CHANGES[change](values)
        del file["description"]
        file["description"] = np.frombuffer(json.dumps(values).encode(), np.uint8)
    assert bad(3, "run", path, "--data", "digits:20")


@pytest.mark.parametrize("name", ["weight", "adaptation", "share"])
def test_arrays_that_lie(name, stdp, tmp_path):
    path = tmp_path / "net.h5"
    for array in (np.zeros(3, np.int64), np.full((64, 60), -5), np.zeros((64, 60)), np.full(60, 1 << 62)):
        path.write_bytes(stdp.path.read_bytes())
        with h5py.File(path, "r+") as file:
            del file[name]
            file[name] = array
        with pytest.raises(ImportRefused):
            learned.load(path)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_comes_back_from_json(name):
    chosen = recipe(name)
    assert recipe_from_json(json.loads(json.dumps(chosen.to_json()))) == chosen
