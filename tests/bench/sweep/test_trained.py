"""Cells that train: what they learn is kept, shared, resumed, and measured like any other network."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner
from sweeping import environment, group_is_empty, lasting
from waiting import rest, until

from intsnn import Fixed, NeuronRule, convert, simulate
from intsnn.bench.provenance import training_digest
from intsnn.bench.sweep import trained
from intsnn.bench.sweep.cells import Cells
from intsnn.bench.sweep.grid import Grid, ModelSpec, read_toml
from intsnn.bench.sweep.results import Results, read_rows
from intsnn.bench.sweep.sweep import Events, sweep
from intsnn.bench.sweep.trained import Training, planned
from intsnn.bench.sweep.workers import Workers
from intsnn.cli.main import main
from intsnn.datasets import catalogue as datasets
from intsnn.errors import DataNotFoundError, FormatError, ShapeError
from intsnn.models.qat import recipes
from intsnn.models.zoo import catalogue as zoo
from intsnn.network.quantised import InputScale

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install intsnn[qat]"
)

TINY = recipes.Recipe(
    name="tiny",
    data="digits",
    architecture="convnet",
    width=0.25,
    batch=64,
    method="qffs",
    stages=(
        recipes.Stage(name="float", epochs=2, rate=0.1),
        recipes.Stage(name="w4 a2", epochs=2, rate=0.05, weight_bits=4, activation_bits=2),
    ),
)


@pytest.fixture(autouse=True)
def tiny_recipe(monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)


def grid(*models, **options):
    """The tiny recipe on the digits."""
    base = {"data": ("digits",), "samples": 16, "verify": 2, "reference": 0, "methods": ("fast-snn", "qffs")}
    return Grid(models=models or (ModelSpec("recipe:tiny", calibrate="digits:train:256"),), **(base | options))


def run(found, path, workers=None, **options):
    """Sweep in this process: rows by method and widths, and the summary."""
    with Results(path) as results, workers or Workers() as local:
        summary = sweep(Cells(found, trust=True), results, local, **options)
    names = ("model", "method", "weight_bits", "activation_bits", "state_bits", "seed")
    return {tuple(row[name] for name in names): row for row in read_rows(path)}, summary


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two widths, trained and measured."""
    pytest.importorskip("torch", reason="torch is not installed: pip install intsnn[qat]")
    path, patch = tmp_path_factory.mktemp("swept") / "r.sqlite", pytest.MonkeyPatch()
    patch.setitem(recipes.RECIPES, "tiny", TINY)
    rows, summary = run(grid(weights=(2, 4), activations=(2,)), path)
    patch.undo()
    assert (summary.computed, summary.trained, summary.undone) == (4, 2, {})
    return path, rows


# -- what is trained --------------------------------------------------------------------------------------------------


@needs_torch
def test_a_cell_has_the_numbers_of_the_network_that_it_trains(swept):
    """The same recipe, trained, converted and run without the benchmark."""
    import torch

    from intsnn.models.qat.bridge import quantised
    from intsnn.models.qat.training import train

    recipe = dataclasses.replace(
        TINY, seed=0, stages=(TINY.stages[0], dataclasses.replace(TINY.stages[1], name="w2 a2", weight_bits=2))
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    learned = train(recipe, datasets.load("digits:train:256"), device="cpu")
    torch.set_num_threads(threads)
    network = quantised(learned.network, input_scale=InputScale(Fraction(1, 16)), input_format=Fixed(5, signed=False))
    test, row = datasets.load("digits:16"), swept[1]["recipe:tiny", "qffs", 2, 2, None, 0]
    outcome = simulate(convert(network, NeuronRule("qffs")).network, test.images, settle=True)
    assert row["accuracy"] == 100 * (outcome.predictions == test.labels).sum() / 16
    assert row["spikes"] == sum(layer.spikes for layer in outcome.layers.values()) / 16
    assert row["agreement"] == 100.0 and row["mismatches"] == 0 and row["equality_due"] and row["verified_samples"] == 2
    assert row["training"]["loss"] == learned.history[-1]["loss"] and row["training"]["epochs"] == 4
    assert row["training"]["settings"]["seed"] == 0 and row["training"]["data"] == "digits:train:256"
    assert row["float_accuracy"] is None and row["error"] is None and row["t_drive"] == 3
    four = swept[1]["recipe:tiny", "qffs", 4, 2, None, 0]
    assert four["weight_formula_bits"] == 2 * row["weight_formula_bits"] and four["spikes"] != row["spikes"]


def test_widths_seed_and_epochs_of_the_cell():
    found = planned(recipes.recipe("digits-fast"), weight_bits=3, activation_bits=5, seed=9, epochs=7, first_last=None)
    assert [(s.weight_bits, s.activation_bits, s.end_bits, s.epochs) for s in found.stages] == [
        (None, None, None, 7), (4, 4, 8, 7), (3, 3, 8, 7), (3, 5, 8, 7),
    ]  # fmt: skip
    assert found.seed == 9 and found.name == "digits-fast"
    whole = planned(TINY, weight_bits=4, activation_bits=2, seed=1, epochs=None, first_last=6)
    assert [s.epochs for s in whole.stages] == [2, 2] and whole.stages[-1].end_bits == 6
    assert whole.stages[0] == TINY.stages[0]


def test_without_widths_a_recipe_has_its_own():
    cells = Cells(grid()).all()
    assert {(c.weight_bits, c.activation_bits, c.model) for c in cells} == {(4, 2, "recipe:tiny")} and len(cells) == 2


def test_keys_name_what_decides_a_training(tmp_path):
    def key(folder=tmp_path, recipe=TINY, data="digits:train:256", sha256="0"):
        return Training(recipe, datasets.load(data), sha256, str(folder)).key

    base = key()
    assert key(folder=tmp_path / "elsewhere") == base == key(recipe=dataclasses.replace(TINY, note="other"))
    changed = [
        key(recipe=dataclasses.replace(TINY, seed=2)), key(recipe=dataclasses.replace(TINY, width=0.5)),
        key(recipe=dataclasses.replace(TINY, stages=TINY.stages[1:])), key(data="digits:train:200"), key(sha256="1"),
    ]  # fmt: skip
    assert len({base, *changed}) == 6


def test_cells_ask_for_a_training_of_their_own_only_where_it_differs(tmp_path):
    def keys(**options):
        cells = Cells(grid(**options))
        return {cells.training(cell.work, str(tmp_path)).key for cell in cells.all()}

    base = keys(weights=(4,), activations=(2,))
    assert len(base) == 1
    for same in ({"methods": ("ca-lif",)}, {"state_bits": (20,)}, {"t_drive": (9,)}, {"samples": 12}, {"verify": 3}):
        assert keys(weights=(4,), activations=(2,), **same) == base, same
    others = [
        keys(weights=(3,), activations=(2,)), keys(weights=(4,), activations=(3,)), keys(seeds=(1,)), keys(epochs=1),
        keys(first_last=8),
    ]  # fmt: skip
    assert len(set().union(base, *others)) == 6


def test_a_changed_kernel_is_no_reason_to_train_again(monkeypatch):
    from intsnn.bench import provenance

    exact, before = provenance.sources(), training_digest()
    assert "models/qat/training.py" in exact and "models/qat/recipes.py" in exact

    def digest_without(name):
        monkeypatch.setattr(provenance, "sources", lambda: {k: v for k, v in exact.items() if k != name})
        provenance.training_digest.cache_clear()
        return provenance.training_digest()

    try:
        for name in ("kernels/neurons/compiled.py", "models/qat/recipes.py", "intsnn/conversion/spikes.py"):
            assert digest_without(name) == before, name
        for name in ("models/qat/training.py", "models/training/architectures.py", "models/qat/quantisers/weights.py"):
            assert digest_without(name) != before, name
    finally:
        provenance.training_digest.cache_clear()


# -- once, and to the end ---------------------------------------------------------------------------------------------


@needs_torch
def test_nothing_is_trained_twice(swept, tmp_path, monkeypatch):
    """Other methods, states and samples find what was trained; so does a sweep whose results are gone."""
    path, calls = tmp_path / "r.sqlite", []
    exact = trained.train
    monkeypatch.setattr(trained, "train", lambda training: calls.append(str(training)) or exact(training))
    rows, summary = run(grid(weights=(4,)), path)
    assert summary.trained == 1 and calls == ["tiny w4 a2 seed 0"]
    more, summary = run(grid(weights=(4,), methods=("fast-snn", "ca-lif"), state_bits=(None, 20)), path)
    assert (summary.found, summary.computed, summary.trained) == (1, 3, 0) and len(calls) == 1
    states = more["recipe:tiny", "fast-snn", 4, 2, 20, 0]["layers"]
    assert {layer["v_bits"] for layer in states if layer["kind"] == "Neuron"} == {20}
    path.unlink()
    again, summary = run(grid(weights=(4,)), path)
    assert (summary.computed, summary.trained) == (2, 0) and len(calls) == 1
    for key, row in again.items():
        assert row["accuracy"] == rows[key]["accuracy"] == swept[1][key]["accuracy"]
    _, summary = run(grid(weights=(4,), seeds=(0, 1)), path)
    assert summary.trained == 1 and calls[1:] == ["tiny w4 a2 seed 1"]


@needs_torch
@pytest.mark.parametrize("broken", [False, True])
def test_a_training_that_was_interrupted_goes_on(broken, swept, tmp_path, monkeypatch):
    """After Ctrl-C in its third epoch; a checkpoint that cannot be read begins anew. The rows are the same."""
    path, seen = tmp_path / "r.sqlite", []
    from intsnn.models.qat import training

    exact = training.train

    def interrupted(*arguments, log, **options):
        def stop(entry):
            log(entry)
            seen.append((entry["stage"], entry["epoch"]))
            if len(seen) == 3:
                raise KeyboardInterrupt

        return exact(*arguments, log=stop, **options)

    monkeypatch.setattr(training, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(grid(weights=(4,)), path)
    folder = tmp_path / "r.sqlite.trained"
    (checkpoint,) = folder.glob("*.checkpoint")
    (progress,) = folder.glob("*.progress")
    assert json.loads(progress.read_text())["epochs"] == 3 and read_rows(path) == []
    if broken:
        checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    rows, summary = run(grid(weights=(4,)), path)
    whole = [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert seen == whole[:3] + (whole if broken else whole[3:])
    assert summary.trained == 1 and [file.suffix for file in folder.iterdir()] == [".h5"]
    assert without(rows) == {key: row for key, row in without(swept[1]).items() if key[2] == 4}


def without(rows):
    """Rows without what may differ from run to run."""
    times = ("seconds", "peak_rss_bytes", "created")
    return {key: {name: row[name] for name in row if name not in times} for key, row in rows.items()}


# runs first in every process below the sweep: the one that trains kills the sweep when an epoch is done
DEADLY = """
import os, signal
exact = os.replace

def replace(source, target):
    exact(source, target)
    if target.endswith(".progress"):
        os.kill(os.getppid(), signal.SIGKILL)

os.replace = replace
"""


@needs_torch
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_sweep_killed_while_it_trains_goes_on(tmp_path):
    """The command with two processes, ``kill -9``; then another one, which has less to do and ends in the same rows."""
    options = ("--model", "recipe:digits-qffs", "--data", "digits", "--samples", "16", "--verify", "2", "--epochs", "2",
               "--reference", "0", "--method", "qffs", "--trust", "--calibrate", "digits:train:256")  # fmt: skip
    path, first = tmp_path / "r.sqlite", tmp_path / "first"
    first.mkdir()
    (first / "sitecustomize.py").write_text(DEADLY)
    paths = os.pathsep.join([str(first), environment()["PYTHONPATH"]])
    command = [sys.executable, "-m", "intsnn", "bench", *options, "--results", str(path), "--jobs", "2"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env=environment() | {"PYTHONPATH": paths},
    )  # fmt: skip
    said = rest(process)
    assert process.returncode == -signal.SIGKILL, said
    until(lambda: group_is_empty(process.pid))
    done = CliRunner().invoke(main, ["bench", *options, "--results", str(path), "--jobs", "1"])
    assert done.exit_code == 0 and "1 networks trained" in done.output, done.output
    alone = tmp_path / "alone.sqlite"
    found = Grid(
        models=(ModelSpec("recipe:digits-qffs", calibrate="digits:train:256"),), data=("digits",), samples=16, verify=2,
        reference=0, methods=("qffs",), epochs=2,
    )  # fmt: skip
    run(found, alone)
    assert lasting(path) == lasting(alone) and len(lasting(path)) == 1


@needs_torch
def test_who_computes_elsewhere_does_not_train(swept, tmp_path, monkeypatch):
    """A cluster gets what was trained here."""
    elsewhere, kinds = Workers(), []
    elsewhere.backend = "dask"
    exact = elsewhere.do
    monkeypatch.setattr(elsewhere, "do", lambda tasks: exact(kinds.append(task.kind) or task for task in tasks))
    rows, summary = run(grid(weights=(4,)), tmp_path / "r.sqlite", elsewhere)
    assert summary.trained == 1 and set(kinds) == {"verify", "measure"}
    assert without(rows) == {key: row for key, row in without(swept[1]).items() if key[2] == 4}


@needs_torch
def test_how_far_a_training_is(tmp_path, monkeypatch):
    from intsnn.bench.sweep import sweep as module

    said, moves, exact = [], [], trained.replacing

    @contextlib.contextmanager
    def noticed(path):
        with exact(path) as temporary:
            yield temporary
        until(lambda: said)  # the first epoch waits until somebody has looked

    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(trained, "replacing", noticed)
    events = Events(trains=said.append, moved=lambda done, cost: moves.append((done, cost)))
    run(grid(weights=(4,), methods=("qffs",), epochs=3), tmp_path / "r.sqlite", events=events)
    assert any(text.startswith("tiny w4 a2 seed 0: epoch ") and "of 4, loss" in text for text in said)
    assert "" in said  # when none is left
    assert moves[0][0] == 0 and moves[-1][0] == moves[-1][1] and len({cost for _, cost in moves}) == 1
    assert all(0 <= done <= cost for done, cost in moves)


# -- what cannot be ---------------------------------------------------------------------------------------------------


def test_without_torch_the_other_cells_are_computed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    models = (ModelSpec("recipe:tiny"), ModelSpec("zoo:digits-qffs"))
    rows, summary = run(grid(*models), tmp_path / "r.sqlite")
    assert [key[0] for key in rows] == ["zoo:digits-qffs"] and len(summary.undone) == 2
    assert {reason for reason in summary.undone.values()} == {
        "training needs torch, which is not installed; install intsnn[qat]"
    }


@needs_torch
def test_widths_that_a_recipe_cannot_have_are_the_error_of_the_cell(tmp_path, monkeypatch):
    binary = dataclasses.replace(TINY, weight="binary", stages=tuple(
        dataclasses.replace(stage, epochs=1, weight_bits=stage.weight_bits and 1) for stage in TINY.stages
    ))  # fmt: skip
    monkeypatch.setitem(recipes.RECIPES, "tiny", binary)
    rows, summary = run(grid(weights=(1, 3), methods=("qffs",)), tmp_path / "r.sqlite")
    one, three = (rows["recipe:tiny", "qffs", bits, 2, None, 0] for bits in (1, 3))
    assert one["error"] is None and one["accuracy"] is not None and summary.trained == 1 and not summary.undone
    assert three["error"].startswith("FormatError: ") and "3" in three["error"] and three["accuracy"] is None


@pytest.mark.parametrize(
    "source, data, kind, word",
    [
        ("recipe:none", "digits", DataNotFoundError, "no recipe 'none'"),
        ("zoo:none", "digits", DataNotFoundError, "zoo has"),
        ("recipe:tiny", "{npz}", ShapeError, "recipe:tiny learns"),
    ],
)
def test_models_that_cannot_be(source, data, kind, word, tmp_path):
    np.savez(tmp_path / "own.npz", x=np.zeros((60, 1, 9, 9), np.uint8), y=np.zeros(60, np.int64))
    found = grid(ModelSpec(source), data=(data.format(npz=tmp_path / "own.npz"),))
    with pytest.raises(kind, match=word):
        Cells(found).all()


def test_a_recipe_that_does_not_quantise(monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", dataclasses.replace(TINY, stages=TINY.stages[:1]))
    with pytest.raises(FormatError, match="'tiny' ends in a float network"):
        Cells(grid())


# -- the zoo ----------------------------------------------------------------------------------------------------------


def test_a_network_of_the_zoo_has_the_numbers_of_its_card(tmp_path):
    """It is run as it is: one cell, whatever the axes."""
    card = zoo.card("digits-ca-lif")
    found = grid(ModelSpec("zoo:digits-ca-lif"), samples=None, weights=(1, 8), activations=(2, 3), seeds=(0, 1, 2))
    rows, summary = run(found, tmp_path / "r.sqlite")
    assert summary.cells == 1
    row = rows["zoo:digits-ca-lif", "as-is", card.weight_bits, card.activation_bits, None, 0]
    assert row["accuracy"] == card.accuracy and row["ann_accuracy"] == card.ann_accuracy
    assert row["accuracy_drive"] == card.accuracy_drive and row["extra_steps_max"] == card.extra_steps
    assert row["weight_measured_bytes"] == card.memory["weight_bytes"] and row["samples"] == card.samples
    assert row["model_sha256"] == card.sha256 and row["training"] is None and row["mismatches"] == 0


def test_names_in_toml_are_no_paths(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(
        'models = ["zoo:digits-fast", {file = "recipe:tiny", name = "mine", calibrate = "digits:train:90"}]\n'
        'data = ["digits"]\nepochs = 3\n'
    )
    found = read_toml(path)
    assert found.epochs == 3 and found.weights is None
    assert found.models == (
        ModelSpec("zoo:digits-fast"), ModelSpec("recipe:tiny", "mine", calibrate="digits:train:90"),
    )  # fmt: skip
    assert [source.label for source in found.models] == ["zoo:digits-fast", "mine"]


def test_the_command_says_what_would_be_trained(tmp_path):
    options = ["bench", "--model", "recipe:digits-qffs", "--data", "digits", "--weights", "2,3", "--epochs", "1",
               "--results", str(tmp_path / "r.sqlite"), "--dry-run"]  # fmt: skip
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 0, done.output
    for bits in (2, 3):
        assert f"to be trained: digits-qffs w{bits} a2 seed 0, 2 epochs" in done.output
    assert "6 cells" in done.output and list(tmp_path.iterdir()) == []
    bad = CliRunner().invoke(main, [*options, "--epochs", "0"])
    assert bad.exit_code == 2 and "--epochs" in bad.output
