"""Sweeps: which cells there are, what their numbers mean, and that every cell is computed once."""

import dataclasses
import json
from types import SimpleNamespace

import command_line
import hostile
import numpy as np
import pytest

from intsnn import NeuronRule, convert, integer_ann, simulate, verify
from intsnn.bench.provenance import digest_of, source_digest, sources
from intsnn.bench.speed.evaluate import evaluate
from intsnn.bench.speed.workloads import build
from intsnn.bench.sweep import cells as bench_cells
from intsnn.bench.sweep import sweep as bench_sweep
from intsnn.bench.sweep import tallies, workers
from intsnn.bench.sweep.cells import Cells
from intsnn.bench.sweep.grid import Grid, ModelSpec, parse_method, read_toml
from intsnn.bench.sweep.results import Results, read_rows
from intsnn.bench.sweep.sweep import sweep
from intsnn.bench.sweep.tallies import Tally, ann_view, measure, spike_view
from intsnn.bench.sweep.workers import Workers
from intsnn.conversion.pipeline import convert_float
from intsnn.conversion.quantise import quantise_network
from intsnn.datasets import catalogue as datasets
from intsnn.datasets.splitmix import shuffled
from intsnn.errors import ConversionError, FormatError, IntsnnError
from intsnn.files import network_file as files
from intsnn.layers import Affine, Conv2d, SumPool2d
from intsnn.models.keras import load as keras
from intsnn.network.float_nodes import FloatAffine, FloatAvgPool2d, FloatConv2d, FloatFlatten, FloatInput
from intsnn.network.floating import FloatNetwork, forward
from intsnn.network.quantised import InputScale

TIMES = ("seconds", "peak_rss_bytes", "created", "same_as")  # of a row: no part of the result


def conv(name, filters, kernel, padding="valid", shape=None):
    config = {
        "name": name, "filters": filters, "kernel_size": [kernel, kernel], "strides": [1, 1], "padding": padding,
        "data_format": "channels_last", "activation": "relu",
    }  # fmt: skip
    return ("Conv2D", config | ({"batch_input_shape": [None, *shape]} if shape else {}))


def pool(kind, name):
    config = {"name": name, "pool_size": [2, 2], "strides": [2, 2], "padding": "valid", "data_format": "channels_last"}
    return (kind, config)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A Keras file: two convolutions, an average and a max-pool, 8x8 images, ten classes."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.h5"
    layers = [
        conv("c1", 4, 3, "same", (8, 8, 1)), pool("AveragePooling2D", "p1"), conv("c2", 6, 3, "same"),
        pool("MaxPooling2D", "p2"), ("Flatten", {"name": "flat", "data_format": "channels_last"}),
        ("Dense", {"name": "out", "units": 10, "activation": "softmax"}),
    ]  # fmt: skip
    rng = np.random.default_rng(5)
    weights = {
        "c1": {"kernel": rng.normal(size=(3, 3, 1, 4)), "bias": rng.normal(size=4) * 0.1},
        "p1": {}, "c2": {"kernel": rng.normal(size=(3, 3, 4, 6)) * 0.3, "bias": rng.normal(size=6) * 0.1},
        "p2": {}, "flat": {}, "out": {"kernel": rng.normal(size=(24, 10)), "bias": rng.normal(size=10) * 0.1},
    }  # fmt: skip
    hostile.keras_file(path, layers, {n: {k: v.astype("f4") for k, v in w.items()} for n, w in weights.items()})
    return str(path)


@pytest.fixture(scope="module")
def quantised(tiny, tmp_path_factory):
    """The same, quantised, and as a spiking network."""
    folder = tmp_path_factory.mktemp("quantised")
    found = convert_float(
        keras.load(tiny), datasets.load("digits:train:100"), evaluation=datasets.load("digits:5"), weight_bits=3,
        activation_bits=2,
    )  # fmt: skip
    files.save(found.quantised, folder / "ann.h5")
    files.save(found.network, folder / "snn.h5")
    return SimpleNamespace(ann=str(folder / "ann.h5"), snn=str(folder / "snn.h5"))


def grid(model, **options):
    """A small grid on the digits."""
    base = {"data": ("digits",), "samples": 40, "verify": 4, "calibration_samples": 100, "weights": (4,)}
    return Grid(models=(ModelSpec(model),), **(base | options))


def run(found, path, **options):
    """Sweep in this process: the rows by cell, and the summary."""
    with Results(path) as results, Workers() as local:
        summary = sweep(Cells(found, trust=True), results, local, **options)
    return {key_of(row): row for row in read_rows(path)}, summary


def key_of(row):
    names = ("model", "data", "method", "weight_bits", "activation_bits", "t_drive", "state_bits", "seed")
    return tuple(row[name] for name in names)


def lasting(rows):
    """Rows without what may differ from run to run."""
    return {key: {name: row[name] for name in row if name not in TIMES} for key, row in rows.items()}


def good(*arguments):
    return command_line.good("bench", *arguments)


def bad(code, *arguments):
    return command_line.bad(code, "bench", *arguments)


# -- the grid ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, name, settings",
    [
        ("qffs", "qffs", {"method": "qffs"}),
        (" fast-snn + no-cap", "fast-snn+no-cap", {"method": "fast-snn", "cap": False}),
        ("ca-lif+v-negative=-0.50", "ca-lif+v-negative=-0.5", {"method": "ca-lif", "v_negative": -0.5}),
        ("qffs+unsigned+bias-once+unsigned", "qffs+bias-once+unsigned",
         {"method": "qffs", "signed": False, "bias": "once"}),
    ],
)  # fmt: skip
def test_methods_have_one_spelling(text, name, settings):
    assert parse_method(text) == (name, settings)
    assert parse_method(name) == (name, settings)


@pytest.mark.parametrize("text", ["", "magic", "fast-snn+magic", "ca-lif+v-negative=x", "ca-lif+v-negative=-2"])
def test_methods_that_are_none(text):
    with pytest.raises(FormatError):
        parse_method(text)


TOML = """
models = ["a.h5", {file = "sub/b.h5", name = "second", backend = "theano", calibrate = "mine.npz:train:50"}]
data = ["mnist", "mine.npz:test"]
methods = ["fast-snn", "qffs+no-cap"]
weights = [1, 2, 8]
activations = [2, 3]
t_drive = ["levels", 9]
state_bits = ["proven", 16]
seeds = [0, 3]
samples = "all"
detail = 500
first_last = 8
bias_correction = false
"""


def test_toml(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(TOML)
    found = read_toml(path)
    assert found.models == (
        ModelSpec(str(tmp_path / "a.h5")),
        ModelSpec(str(tmp_path / "sub/b.h5"), "second", "theano", calibrate=str(tmp_path / "mine.npz:train:50")),
    )
    assert [source.label for source in found.models] == ["a", "second"]
    assert found.data == ("mnist", str(tmp_path / "mine.npz:test")) and found.methods == ("fast-snn", "qffs+no-cap")
    assert found.weights == (1, 2, 8) and found.t_drive == (None, 9) and found.state_bits == (None, 16)
    assert found.samples is None and found.detail == 500 and found.verify == 32 and not found.bias_correction
    (tmp_path / "empty.toml").write_text("")
    assert read_toml(tmp_path / "empty.toml") == Grid()


@pytest.mark.parametrize(
    "text, word",
    [
        ("weights = 4", "a list"),
        ("weights = [9]", "1 to 8"),
        ("weights = [true]", "True"),
        ("weights = ['4']", "'4'"),
        ("wieghts = [4]", "'wieghts'"),
        ("methods = ['magic']", "magic"),
        ("data = [3]", "text"),
        ("samples = 0", "samples"),
        ("samples = 'some'", "some"),
        ("state_bits = [2]", "3 to 48"),
        ("bias_correction = 1", "true or false"),
        ("models = ['a.h5', 'x/a.h5']", "called 'a'"),
        ("models = [{name = 'x'}]", "file"),
        ("models = [{file = 'x.h5', colour = 'red'}]", "colour"),
        ("weights = [", "no TOML"),
        ("seeds = [-1]", "seeds"),
    ],
)
def test_toml_that_cannot_be(text, word, tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    with pytest.raises(FormatError, match="sweep.toml") as caught:
        read_toml(path)
    assert word in str(caught.value) and "\n" not in str(caught.value)[:60]


def test_cells_are_the_product_of_the_axes(tiny):
    found = grid(tiny, weights=(1, 4), activations=(2, 3), state_bits=(None, 16), t_drive=(None, 5), seeds=(0, 1))
    cells = Cells(found, trust=True)
    listed = cells.all()
    assert len(listed) == 2 * 2 * 2 * 2 * 2 * 3 == len({cell.spec for cell in listed})
    assert [cell.spec for cell in listed] == [cell.spec for cell in Cells(found, trust=True).all()]
    assert listed[0].method == "fast-snn" and listed[0].samples == 40 and listed[0].data == "digits:test:40"
    groups = [cell.work.spec for cell in listed]
    assert groups == sorted(groups, key=groups.index)  # what shares work stands together


def test_a_key_names_everything_that_counts(tiny, tmp_path):
    def specs(**options):
        return [cell.spec for cell in Cells(grid(tiny, **options), trust=True).all()]

    base = specs()
    copy = tmp_path / "other name.h5"
    copy.write_bytes(open(tiny, "rb").read())
    assert [cell.spec for cell in Cells(grid(str(copy)), trust=True).all()] == base  # names are for people
    changes = (
        {"samples": 39}, {"verify": 5}, {"reference": 0}, {"detail": 7}, {"calibration_samples": 99}, {"first_last": 8},
        {"bias_correction": False}, {"weights": (5,)}, {"activations": (5,)}, {"t_drive": (3,)}, {"state_bits": (20,)},
        {"seeds": (1,)}, {"methods": ("fast-snn+no-cap",)},
        {"data": ("digits:train",), "models": (ModelSpec(tiny, calibrate="digits:test"),)},
        {"models": (ModelSpec(tiny, calibrate="digits:train:90"),)},
        {"models": (ModelSpec(tiny, input_scale="1/16,0"),)},
    )  # fmt: skip
    seen = set(base)
    for change in changes:
        options = dict(change)
        models = options.pop("models", None)
        found = grid(tiny, **options)
        if models:
            found = dataclasses.replace(found, models=models)
        changed = {cell.spec for cell in Cells(found, trust=True).all()}
        assert not changed & seen, change
        seen |= changed
    cell = Cells(grid(tiny), trust=True).all()[0]
    assert cell.key("one source") != cell.key("another")


def test_the_source_of_a_row_is_every_file_that_counts(tmp_path):
    """A byte more in a kernel changes the digest; reports and the command line are no part of it."""
    found = sources()
    assert {
        "kernels/layers/compiled.py",
        "intsnn/conversion/quantise.py",
        "intsnn/conversion/spikes.py",
        "bench/sweep/tallies.py",
        "models/keras/load.py",
    } <= set(found)
    assert not {"intsnn/cli/main.py", "intsnn/cli/console.py", "bench/speed/measure.py", "bench/report/write.py"} & set(
        found
    )
    assert all(path.is_file() for path in found.values()) and digest_of(found) == source_digest()
    longer = tmp_path / "linear.py"
    longer.write_bytes(found["kernels/layers/compiled.py"].read_bytes() + b"\n")
    assert digest_of(found | {"kernels/layers/compiled.py": longer}) != source_digest()
    assert digest_of(found | {"kernels/other.py": longer}) != source_digest()


# -- what the numbers mean --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tiny, tmp_path_factory):
    """Rows of one grid, and the network and data of w4 a3 made and run without the benchmark."""
    path = tmp_path_factory.mktemp("measured") / "r.sqlite"
    found = grid(tiny, weights=(1, 4), activations=(3,), methods=("fast-snn", "qffs", "fast-snn+unsigned"))
    rows, summary = run(found, path)
    assert summary.computed == 6 and not summary.undone
    test, train = datasets.load("digits:40"), datasets.load("digits:train:100")
    made = convert_float(keras.load(tiny), train, evaluation=test, weight_bits=4, activation_bits=3)
    return SimpleNamespace(rows=rows, test=test, made=made, network=made.network, path=path)


def row_of(measured, method="fast-snn", weights=4):
    return measured.rows["tiny", "digits:test:40", method, weights, 3, 7, None, 0]


def test_accuracies_are_those_of_the_pipeline(measured):
    row, stages = row_of(measured), {stage.name: stage.accuracy for stage in measured.made.stages}
    assert row["accuracy"] == stages["SNN, settled"] and row["accuracy_drive"] == stages["SNN, T = 7"]
    assert row["ann_accuracy"] == stages["thresholds and biases (integer ANN)"]
    assert row["float_accuracy"] == stages["float"]
    assert row["agreement"] == 100.0 and row["mismatches"] == 0 and row["equality_due"] and row["reasons"] == []
    assert row["error"] is None and row["samples"] == row["detail_samples"] == 40 and row["settled"]
    assert (
        row["key"] in {entry["key"] for entry in read_rows(measured.path)} and row["source_sha256"] == source_digest()
    )
    assert row["versions"]["numpy"] == np.__version__


def test_accuracy_after_each_step(measured):
    """What a run of t steps answers, for every t; behind the drive, what the settling run has by then."""
    row, network, test = row_of(measured), measured.network, measured.test
    curve = row["accuracy_by_step"]
    assert len(curve) == 7 + row["extra_steps_max"] and row["extra_steps_max"] > 0
    for t in range(1, 8):
        guesses = simulate(network, test.images, steps=t).predictions
        assert curve[t - 1] == 100 * (guesses == test.labels).sum() / 40
    assert curve[6] == row["accuracy_drive"] and curve[-1] == row["accuracy"]


def test_spikes_latency_and_ranges(measured):
    row, network, test = row_of(measured), measured.network, measured.test
    result = simulate(network, test.images, settle=True, record=("spikes", "v", "out.current"))
    assert row["spikes"] == sum(layer.spikes for layer in result.layers.values()) / 40
    last, decided = [], []
    for b in range(40):
        active = [
            t for t in range(result.steps) if any(np.any(r[t, b]) for k, r in result.records.items() if "spikes" in k)
        ]
        last.append(max(active) + 1)
        totals = np.cumsum(result.records["out.current"][:, b], axis=0)
        guesses = totals.argmax(axis=1)
        decided.append(max([t + 2 for t in range(len(guesses)) if guesses[t] != guesses[-1]], default=1))
    assert row["latency_mean"] == sum(last) / 40 and row["latency_max"] == max(last)
    assert row["decision_mean"] == sum(decided) / 40
    assert row["extra_steps_max"] == result.extra_steps.max()
    layers = {layer["name"]: layer for layer in row["layers"]}
    for name in network.neurons:
        report, layer = result.layers[name], layers[name]
        assert layer["neurons"] == report.neurons and layer["spikes"] == report.spikes / 40
        assert layer["spike_rate"] == report.spikes / 40 / (report.neurons * 7)
        assert (layer["v_min"], layer["v_max"]) == (report.v_low, report.v_high)
        assert layer["v_bits"] == network.nodes[name].v_format.bits >= layer["peak_bits"] > 1
        assert layer["bound_bits"] >= layer["peak_bits"] and layer["saturations"] == 0
        assert layer["dead"] == report.dead


def test_synops_are_counted_one_by_one(measured):
    """Against convolutions of ones: how many outputs each spike reaches."""
    row, network, test = row_of(measured), measured.network, measured.test
    result = simulate(network, test.images, settle=True, record=("spikes",))
    total = 0
    for name, layer in network.nodes.items():
        if not isinstance(layer, Affine | Conv2d) or network.inputs_of(name)[0] == network.input_name:
            continue
        source, area = network.inputs_of(name)[0], 1
        nodes, chain = [], []
        while source not in network.spiking:
            chain.append(source)
            source = network.inputs_of(source)[0]
        maps = np.abs(result.records[f"{source}.spikes"]).sum(axis=(0, 1))[None].astype(np.float64)
        nodes.append(FloatInput(name="in", shape=network.shapes[source]))
        for step in reversed(chain):
            node, last = network.nodes[step], nodes[-1].name
            if isinstance(node, SumPool2d):
                area *= int(np.prod(node.kernel_size))
                nodes.append(FloatAvgPool2d(name=step, inputs=(last,), kernel=node.kernel_size, stride=node.stride))
            else:
                nodes.append(FloatFlatten(name=step, inputs=(last,)))
        ones, last = np.ones(layer.weight.shape), (nodes[-1].name,)
        if isinstance(layer, Affine):
            nodes.append(FloatAffine(name="end", inputs=last, weight=ones))
        else:
            nodes.append(FloatConv2d(name="end", inputs=last, weight=ones, padding=layer.padding, stride=layer.stride))
        counted = forward(FloatNetwork(tuple(nodes), "end"), maps, dtype=np.float64).sum() * area
        assert {entry["name"]: entry for entry in row["layers"]}[name]["synops"] == pytest.approx(
            counted / 40, rel=1e-12
        )
        total += round(counted)
    assert row["synops"] == total / 40 > 1000


@pytest.mark.parametrize("name, size", [("mlp-b1", {}), ("lenet-b64", {"size": 12, "batch": 3})])
def test_synops_agree_with_the_speed_benchmark(name, size):
    """Which counts them from a float32 evaluation of its own."""
    workload = build(name, width=0.1, pool="max", **size)
    network, x = workload.network, workload.inputs
    result = simulate(network, x, steps=workload.steps, record=("spikes",))
    maps = {
        key.removesuffix(".spikes"): np.abs(r).sum(axis=(0, 1), dtype=np.int64) for key, r in result.records.items()
    }
    wanted = evaluate(network, x, workload.steps)
    batch = x.shape[0 if workload.constant else 1]
    found = tallies.synops(network, maps)
    for connection, count in found.items():
        assert count == round(wanted.synops[connection] * batch)
    first = {layer for layer in wanted.macs if network.inputs_of(layer)[0] == network.input_name}
    assert set(found) == set(wanted.macs) - first and found


def test_rows_say_what_memory_says(measured):
    from intsnn.analysis.memory.report import cell

    row, found = row_of(measured), cell(measured.network)
    for name in ("formula_bits", "measured_bytes", "weight_formula_bits", "weight_measured_bytes"):
        assert row[name] == found[name] > 0
    layers = {layer["name"]: layer for layer in row["layers"]}
    assert {n for n, layer in found["layers"].items() if layer["memory"]} <= set(layers)
    assert layers["c2"]["memory"] == found["layers"]["c2"]["memory"]
    one = row_of(measured, weights=1)
    assert one["weight_formula_bits"] * 4 == row["weight_formula_bits"]


def test_methods_that_cannot_differ_are_measured_once(measured, tiny, tmp_path):
    """QFFS resets a step later, which no compare sees: its row is that of Fast-SNN, and by itself it gives the same."""
    assert row_of(measured, "qffs")["same_as"] == "fast-snn" and row_of(measured)["same_as"] is None
    assert row_of(measured, "fast-snn+unsigned")["same_as"] is None
    found = grid(tiny, weights=(1, 4), activations=(3,), methods=("qffs", "fast-snn"))
    alone, _ = run(found, tmp_path / "alone.sqlite", share=False)
    assert {row["same_as"] for row in alone.values()} == {None}
    for key, row in lasting(alone).items():
        assert row == lasting(measured.rows)[key]


@pytest.mark.parametrize("bits", [None, 0, 2, 5])
def test_equal_views_give_equal_spikes(quantised, bits):
    """The claim behind sharing, also for membranes that saturate: of the least width that takes them, and some more."""
    ann = files.load(quantised.ann)
    x = datasets.load("digits:60").images
    results = {}
    if bits is not None:
        bits += least_state_bits(ann)
    for method in ("fast-snn", "qffs", "ca-lif"):
        network = convert(ann, NeuronRule(method, state_bits=bits)).network
        results[method] = spike_view(network), simulate(network, x, settle=True, record=("spikes",), keep_final=True)
    view, first = results["fast-snn"]
    for other, result in results.values():
        assert other == view
        assert all(np.array_equal(first.records[key], result.records[key]) for key in first.records)
        for name, layer in first.layers.items():
            assert dataclasses.asdict(layer) == dataclasses.asdict(result.layers[name])
    # the least width that takes them, and two bits more, saturate; five bits more hold everything
    assert (first.overflows > 0) == (bits is not None and bits < least_state_bits(ann) + 5)


def least_state_bits(ann):
    """The narrowest membranes that `ann` can be converted to."""
    for bits in range(3, 40):
        try:
            convert(ann, NeuronRule(state_bits=bits))
            return bits
        except ConversionError:
            pass
    raise AssertionError


def test_views_tell_networks_apart(quantised):
    ann = files.load(quantised.ann)
    rules = {
        "base": NeuronRule(), "cap": NeuronRule(cap=False), "signed": NeuronRule(signed=False),
        "v": NeuronRule("ca-lif", v_negative=-1),
        "once": NeuronRule(bias="once"), "odd": NeuronRule(odd_thresholds=True), "drive": NeuronRule(t_drive=5),
        "bits": NeuronRule(state_bits=30),
    }  # fmt: skip
    networks = {name: convert(ann, rule).network for name, rule in rules.items()}
    assert len({spike_view(network) for network in networks.values()}) == len(networks)
    views = {name: ann_view(network) for name, network in networks.items()}
    x = datasets.load("digits:20").images
    levels = {name: integer_ann(network, x).levels for name, network in networks.items()}
    for name, view in views.items():
        if view == views["base"]:
            assert all(np.array_equal(levels[name][key], levels["base"][key]) for key in levels[name]), name
    assert {name for name, view in views.items() if view == views["base"]} >= {"base", "cap", "signed", "v", "once"}


def test_published_variants_report_their_mismatch(measured):
    row, network = (
        row_of(measured, "fast-snn+unsigned"),
        convert(measured.made.quantised, NeuronRule(signed=False)).network,
    )
    outcome = verify(network, measured.test.images, reference=0)
    assert row["mismatches"] == 0 and not row["equality_due"] and "unsigned" in row["reasons"][0]
    assert row["ann_mismatches"] == outcome.ann_mismatches > 0
    assert row["agreement"] == 100 * outcome.ann_agreement / 40


def test_saturating_states_are_counted(tiny, tmp_path):
    rows, _ = run(grid(tiny, activations=(3,), methods=("fast-snn",), state_bits=(None, 13, 9, 3)), tmp_path / "r")
    by_bits = {key[6]: row for key, row in rows.items()}
    assert by_bits[None]["saturations"] == 0 and by_bits[None]["equality_due"]
    assert by_bits[3]["accuracy"] is None and "3 bits" in by_bits[3]["error"] and by_bits[3]["layers"] == []
    assert by_bits[3]["error"].startswith("ConversionError: ") and by_bits[3]["t_drive"] == 7
    narrow = [row for bits, row in by_bits.items() if bits in (13, 9) and not row["error"]]
    assert narrow
    for row in narrow:
        states = [layer for layer in row["layers"] if layer["kind"] == "Neuron"]
        assert {layer["v_bits"] for layer in states} == {row["state_bits"]}
        assert row["saturations"] == sum(layer["saturations"] for layer in states)
        assert row["equality_due"] == (row["saturations"] == 0)
    assert any(row["saturations"] for row in narrow)


def test_the_status_says_when_no_cell_came_out(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--model", tiny, "--data", "digits", "--samples", 5, "--verify", 1, "--reference", 0, "--jobs", 1)
    options += ("--method", "fast-snn", "--trust", "--json", "r.json")
    line = bad(3, *options, "--state-bits", "3")
    assert "the only cell failed" in line and "3 bits" in line
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["failed"] == 1 and found["rows"][0]["error"]
    assert "all 2 cells failed" in bad(3, *options, "--state-bits", "3,4")
    assert "1 of 2 cells failed" in good(*options, "--state-bits", "3,proven")
    assert json.loads((tmp_path / "r.json").read_text())["failed"] == 1


def test_seeds_choose_calibration_samples(tiny, tmp_path):
    rows, _ = run(grid(tiny, methods=("fast-snn",), seeds=(0, 1, 2), calibration_samples=30), tmp_path / "r")
    assert len({row["spikes"] for row in rows.values()}) == 3
    train = datasets.load("digits:train")
    chosen = np.sort(shuffled(len(train), 2)[:30])
    cells = Cells(grid(tiny, methods=("fast-snn",), seeds=(2,), calibration_samples=30), trust=True)
    cell = cells.all()[0]
    network = cells.networks(cell.work, ["fast-snn"])["fast-snn"]
    made = quantise_network(
        cells.models["tiny"].folded,
        train.images[chosen],
        weight_bits=4,
        activation_bits=4,
        input_scale=InputScale(train.scale),
        input_format=network.nodes[network.input_name].format,
    )
    assert spike_view(network) == spike_view(convert(made.network).network)


def test_quantised_and_spiking_files_are_run_as_they_are(quantised, tmp_path):
    found = Grid(
        models=(ModelSpec(quantised.ann), ModelSpec(quantised.snn)), data=("digits",), samples=20, verify=2,
        weights=(1, 8),
        activations=(2, 4),
    )  # fmt: skip
    rows, summary = run(found, tmp_path / "r.sqlite")
    assert [key[:1] + key[2:5] for key in rows] == [
        ("ann", "fast-snn", 3, 2), ("ann", "qffs", 3, 2), ("ann", "ca-lif", 3, 2), ("snn", "as-is", 3, 2),
    ]  # fmt: skip
    outputs = {row["accuracy"] for row in rows.values()}
    test = datasets.load("digits:20")
    guesses = simulate(files.load(quantised.snn), test.images, settle=True).predictions
    assert outputs == {100 * (guesses == test.labels).sum() / 20} and summary.computed == 4
    assert {row["float_accuracy"] for row in rows.values()} == {None}
    more, _ = run(
        dataclasses.replace(found, models=(ModelSpec(quantised.snn),), state_bits=(12,)), tmp_path / "r.sqlite"
    )
    assert "as it is" in [row["error"] for row in more.values() if row["error"]][0]


def test_data_without_labels(quantised, tmp_path):
    path = tmp_path / "plain.npz"
    np.savez(path, x=datasets.load("digits:10").images, maximum=16)
    rows, _ = run(Grid(models=(ModelSpec(quantised.snn),), data=(str(path),), verify=2), tmp_path / "r.sqlite")
    (row,) = rows.values()
    assert row["accuracy"] is None and row["accuracy_by_step"] is None and row["ann_accuracy"] is None
    assert row["agreement"] == 100.0 and row["mismatches"] == 0 and row["spikes"] > 0 and row["error"] is None


# -- however it is computed -------------------------------------------------------------------------------------------


def test_the_split_changes_nothing(measured, tiny, tmp_path, monkeypatch):
    """Whatever the batches, blocks and parts, the sums are the same."""
    monkeypatch.setattr(bench_sweep, "BATCH", 1)
    monkeypatch.setattr(bench_sweep, "LEAST_BATCH", 7)
    monkeypatch.setattr(tallies, "RECORD_BYTES", 40_000)
    monkeypatch.setattr(tallies, "ANN_SAMPLES", 5)
    rows, _ = run(grid(tiny, weights=(1, 4), activations=(3,), methods=("fast-snn",)), tmp_path / "r.sqlite")
    for key, row in lasting(rows).items():
        assert row == lasting(measured.rows)[key]


def test_detail_on_some_samples(measured, tiny, tmp_path):
    """Accuracy and agreement are those of all samples, curves and spikes those of the first."""
    rows, _ = run(grid(tiny, activations=(3,), methods=("fast-snn",), detail=9), tmp_path / "r.sqlite")
    (row,), full = rows.values(), row_of(measured)
    for name in ("accuracy", "ann_accuracy", "agreement", "float_accuracy", "samples"):
        assert row[name] == full[name], name
    nine, _ = run(grid(tiny, activations=(3,), methods=("fast-snn",), samples=9), tmp_path / "nine.sqlite")
    (few,) = nine.values()
    assert row["detail_samples"] == 9
    for name in ("accuracy_drive", "accuracy_by_step", "spikes", "synops", "latency_mean", "decision_mean", "layers"):
        assert row[name] == few[name], name
    assert row["extra_steps_max"] >= few["extra_steps_max"]
    assert row["by_theorem"] == row["samples"] - 9 and few["by_theorem"] == full["by_theorem"] == 0
    assert few["compared"] <= row["compared"] < full["compared"]


def test_tallies_add_up_in_any_order():
    parts = [
        Tally(samples=2, correct=1, extra_max=k, output_low=-k, correct_by_step=np.arange(k + 1)) for k in (3, 1, 2)
    ]
    forward_sum, backward = parts[0] + parts[1] + parts[2], parts[2] + (parts[1] + parts[0])
    assert forward_sum.samples == 6 and forward_sum.extra_max == 3 and forward_sum.output_low == -3
    assert forward_sum.correct_by_step.tolist() == [0, 3, 5, 6] == backward.correct_by_step.tolist()
    assert (Tally() + parts[0]).correct_by_step.tolist() == [0, 1, 2, 3]


def test_a_wrong_count_is_noticed(quantised, monkeypatch):
    """Two ways to count the same must agree: a simulation whose record lacks a spike is an error."""
    exact = tallies.simulate

    def lossy(*arguments, **options):
        result = exact(*arguments, **options)
        record = result.records["c1/relu.spikes"]
        record[tuple(np.argwhere(record)[0])] = 0
        return result

    monkeypatch.setattr(tallies, "simulate", lossy)
    data = datasets.load("digits:5")
    with pytest.raises(IntsnnError, match="c1/relu"):
        measure([files.load(quantised.snn)], [0], data.images, data.labels, True)


# -- once ------------------------------------------------------------------------------------------------------------


def test_nothing_is_computed_twice(tiny, tmp_path, monkeypatch):
    path = tmp_path / "r.sqlite"
    first, summary = run(grid(tiny, activations=(2, 3)), path)
    assert (summary.cells, summary.found, summary.computed) == (6, 0, 6)
    tasks = []
    exact = workers.run_task
    monkeypatch.setattr(workers, "run_task", lambda task: tasks.append(task) or exact(task))
    same, summary = run(grid(tiny, activations=(2, 3)), path)
    assert same == first and (summary.found, summary.computed) == (6, 0) and tasks == []
    more, summary = run(grid(tiny, activations=(2, 3, 4)), path)
    assert (summary.cells, summary.found, summary.computed) == (9, 6, 3) and len(tasks) == 4
    assert {key: more[key] for key in first} == first


def test_a_group_is_completed(tiny, tmp_path):
    """A cell whose neighbours are there already is measured by itself, with the same result."""
    path = tmp_path / "r.sqlite"
    run(grid(tiny, methods=("fast-snn",)), path)
    rows, summary = run(grid(tiny, methods=("qffs", "fast-snn", "ca-lif")), path)
    assert (summary.found, summary.computed) == (1, 2)
    whole, _ = run(grid(tiny), tmp_path / "whole.sqlite")
    assert lasting(rows) == lasting(whole)


def test_another_source_computes_again(tiny, tmp_path, monkeypatch):
    path = tmp_path / "r.sqlite"
    before, _ = run(grid(tiny, methods=("fast-snn",)), path)
    for module in (bench_sweep, bench_cells, workers):
        monkeypatch.setattr(module, "source_digest", lambda: "0" * 64)
    after, summary = run(grid(tiny, methods=("fast-snn",)), path)
    assert (summary.found, summary.stale, summary.computed) == (0, 1, 1)
    assert len(read_rows(path)) == 1 and len(read_rows(path, every=True)) == 2
    (old,), (new,) = before.values(), after.values()
    assert old["key"] != new["key"] and old["accuracy"] == new["accuracy"] and new["source_sha256"] == "0" * 64


def test_a_fault_of_ours_leaves_the_cell_undone(tiny, tmp_path, monkeypatch):
    """An exception that nobody meant is no result; what else is to do is done."""
    exact = tallies.measure

    def broken(networks, *rest):
        if networks[0].levels == 3:
            raise ZeroDivisionError("planted")
        return exact(networks, *rest)

    monkeypatch.setattr(tallies, "measure", broken)
    path = tmp_path / "r.sqlite"
    rows, summary = run(grid(tiny, activations=(2, 3), methods=("fast-snn",)), path)
    assert summary.computed == 1 and [key[4] for key in rows] == [3]
    ((name, reason),) = summary.undone.items()
    assert "a2" in name and "ZeroDivisionError: planted" in reason
    monkeypatch.setattr(tallies, "measure", exact)
    rows, summary = run(grid(tiny, activations=(2, 3), methods=("fast-snn",)), path)
    assert (summary.found, summary.computed) == (1, 1) and len(rows) == 2


def test_a_worker_with_another_source_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "source_digest", lambda: "1" * 64)
    rows, summary = run(grid(tiny, methods=("fast-snn",)), tmp_path / "r.sqlite")
    assert rows == {} and "another source" in next(iter(summary.undone.values()))


# -- the command ------------------------------------------------------------------------------------------------------


def test_command(tiny, tmp_path):
    path, left = tmp_path / "r.sqlite", tmp_path / "r.json"
    options = ("--model", tiny, "--data", "digits", "--samples", 30, "--verify", 3, "--activations", "2,3", "--trust",
               "--method", "fast-snn,qffs", "--jobs", 1, "--results", path, "--json", left)  # fmt: skip
    plan = good(*options, "--dry-run")
    assert "4 cells" in plan and plan.count("to do") == 4 and not path.exists()
    text = good(*options)
    found = json.loads(left.read_text())
    assert found["computed"] == 4 and found["found"] == 0 and found["undone"] == {} and len(found["rows"]) == 4
    assert found["rows"] == read_rows(path)
    assert "[4/4] tiny digits:test:30 qffs w8 a3: " in text and "4 cells computed" in text
    for row in found["rows"]:
        assert f"{row['accuracy']:.2f} %" in text and row["mismatches"] == 0
    again = good(*options)
    assert "4 of 4 cells are there already" in again and "0 cells computed, 4 were there" in again
    assert json.loads(left.read_text())["rows"] == found["rows"]
    assert good(*options, "--dry-run").count("there") == 4


def test_command_from_toml_with_options_on_top(tiny, tmp_path):
    config = tmp_path / "sweep.toml"
    config.write_text(
        f"models = [{{file = '{tiny}', name = 'mine'}}]\ndata = ['digits']\nsamples = 20\nverify = 2\n"
        "weights = [2, 4]\nactivations = [2]\nmethods = ['fast-snn']\n"
    )
    path = tmp_path / "r.sqlite"
    good("--config", config, "--results", path, "--jobs", 1, "--trust", "--weights", "3", "--seed", "0,1")
    assert [(row["model"], row["weight_bits"], row["seed"]) for row in read_rows(path)] == [
        ("mine", 3, 0),
        ("mine", 3, 1),
    ]


def test_command_finds_mismatches(tiny, tmp_path, monkeypatch):
    """A path that computes something else ends the command with status 4; the row says how many differ."""
    exact = workers._verify
    monkeypatch.setattr(workers, "_verify", lambda task: exact(task) | {"path_mismatches": 3})
    path = tmp_path / "r.sqlite"
    options = ("--model", tiny, "--data", "digits", "--samples", 10, "--verify", 2, "--method", "qffs", "--trust")
    line = bad(4, *options, "--jobs", 1, "--results", path)
    assert "qffs" in line and "w8 a4" in line and read_rows(path)[0]["mismatches"] == 3


def test_quick_with_report(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the extra `report`")
    monkeypatch.chdir(tmp_path)
    good("--quick", "--samples", 40, "--weights", "2,4", "--method", "fast-snn", "--jobs", 1, "--reference", 0)
    rows = read_rows("bench-quick.sqlite")
    assert sorted((row["weight_bits"], row["activation_bits"]) for row in rows) == [(2, 2), (2, 4), (4, 2), (4, 4)]
    assert {row["model"] for row in rows} == {"digits_cnn"} and max(row["accuracy"] for row in rows) > 95
    page = (tmp_path / "bench-quick" / "report.html").read_text("utf-8")
    assert "digits_cnn" in page and f"{max(row['accuracy'] for row in rows):.2f}" in page


def test_without_matplotlib(tiny, tmp_path, monkeypatch):
    import importlib.util

    exact = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else exact(name, *a))
    monkeypatch.chdir(tmp_path)
    options = ("--model", tiny, "--data", "digits", "--samples", 5, "--verify", 1, "--method", "qffs", "--trust")
    assert "matplotlib" in bad(3, *options, "--jobs", 1, "--report", "here")
    text = good("--quick", "--samples", 5, "--weights", "4", "--activations", "2", "--method", "qffs", "--jobs", 1)
    assert "no report" in text and not (tmp_path / "bench-quick").exists()


@pytest.mark.parametrize(
    "code, options, word",
    [
        (2, [], "nothing to sweep"),
        (2, ["--model", "{tiny}"], "--data"),
        (2, ["--model", "{tiny}", "--data", "digits", "--weights", "9"], "1 to 8"),
        (2, ["--model", "{tiny}", "--data", "digits", "--weights", "four"], "four"),
        (2, ["--model", "{tiny}", "--data", "digits", "--method", "magic"], "magic"),
        (2, ["--model", "{tiny}", "--data", "digits", "--backend", "dask"], "scheduler"),
        (2, ["--model", "{tiny}", "--data", "digits", "--scheduler", "tcp://x:1"], "scheduler"),
        (2, ["--model", "{tiny}", "--data", "digits", "--results", "{tiny}"], "also what is read"),
        (2, ["--quick", "speed", "--workload", "mlp-b1"], "--quick"),
        (3, ["--model", "missing.h5", "--data", "digits"], "missing.h5"),
        (3, ["--config", "missing.toml"], "missing.toml"),
        (3, ["--model", "{tiny}", "--data", "digits", "--results", "no/such/folder.sqlite"], "no folder"),
        (3, ["--model", "{tiny}", "--data", "digits", "--samples", "100000"], "360"),
        (3, ["--model", "{tiny}", "--data", "{npz}"], "calibrate"),
        (3, ["--model", "{tiny}", "--data", "digits", "--results", "{npz}"], "no SQLite"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_command_that_cannot_be(code, options, word, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "own.npz", x=np.zeros((3, 1, 8, 8), np.uint8), y=np.zeros(3, np.int64))
    filled = [option.format(tiny=tiny, npz=tmp_path / "own.npz") for option in options]
    assert word in bad(code, *filled)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.npz"]


def test_subcommands_and_help():
    assert "--weights" in good("--help") and "speed" in good("--help")
    assert "--workload" in good("speed", "--help")


def test_the_page_about_sweeps(measured, repository, tmp_path):
    """Its TOML is taken as it stands, and it explains every column and every option."""
    import re

    text = (repository / "docs" / "benchmark.md").read_text("utf-8")
    (tmp_path / "sweep.toml").write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
    found = read_toml(tmp_path / "sweep.toml")
    assert len(found.models) == 3 and found.state_bits == (None, 16) and found.calibration_samples is None
    row = row_of(measured)
    layers = {name for layer in row["layers"] for name in layer} - {"kind", "proven"}
    for name in {*row, *layers, *(item.name for item in dataclasses.fields(Grid))}:
        assert f"`{name}`" in text, name
    options = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", good("--help"), re.MULTILINE))
    assert len(options) > 20 and {option for option in options if option not in text} <= {"--help", "--trust", "--json"}
