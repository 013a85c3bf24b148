"""The command line end to end: what it prints and writes, how it fails, what it leaves behind."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import hostile
import numpy as np
import pytest
from click.testing import CliRunner
from command_line import bad, call, good
from waiting import HANGING

import intsnn
from intsnn.cli.console import Console
from intsnn.cli.main import COMMANDS, main, one_line
from intsnn.conversion.pipeline import convert_float
from intsnn.conversion.spikes import NeuronRule
from intsnn.datasets import catalogue as datasets
from intsnn.errors import FormatError
from intsnn.files import network_file as files
from intsnn.files import recording
from intsnn.formats.fixed import Fixed
from intsnn.kernels.toolchain.once import working
from intsnn.models import digits, readers
from intsnn.models.keras import load as keras
from intsnn.network.quantised import InputScale

SOURCE = str(digits.network_file())
ROOT = Path(__file__).resolve().parents[3]
JSON_COMMANDS = ("convert", "run", "verify", "inspect", "demo")


def python(code, *, cwd=None, **environment):
    """Run Python source in a process of its own, the source tree first."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=HANGING,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path} | environment,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def converted(folder):
    """A converted network, what `convert` printed and the JSON it left."""
    net, report = folder / "net.h5", folder / "convert.json"
    options = ("--weights", 4, "--calibrate", "digits:train:200", "--evaluate", "digits:60", "--threads", 2)
    text = good("convert", SOURCE, "-o", net, "--json", report, *options)
    return SimpleNamespace(path=net, text=text, json=json.loads(report.read_text()))


@pytest.fixture(scope="module")
def quantised(folder):
    """A quantised ANN as another program may have left it."""
    path = folder / "quantised.h5"
    found = convert_float(
        keras.load(SOURCE),
        datasets.load("digits:train:100"),
        evaluation=datasets.load("digits:test:1"),
        weight_bits=3,
        activation_bits=2,
        input_scale=InputScale.parse("1/16"),
    )
    files.save(found.quantised, path)
    return path


# -- what the commands do ---------------------------------------------------------------------------------------------


def test_convert_shows_every_stage_and_layer(converted):
    stages = [stage["name"] for stage in converted.json["stages"]]
    assert stages[0] == "float" and stages[-1] == "SNN, settled" and len(stages) >= 6
    for name in stages:
        assert name in converted.text
    assert [row["name"] for row in converted.json["layers"] if "threshold" in row] == [
        f"{name}/relu" for name in ("conv1", "conv2", "conv3", "dense1")
    ]
    for row in converted.json["layers"]:
        assert row["name"] in converted.text
        if row["kind"] in ("Conv2d", "Affine"):
            assert 0 < row["zeroed"] < row["weights"] and row["clipped"] >= 0
        elif row["kind"] == "Neuron":
            assert row["moved_levels"] == 0 and row["membrane_bits"] > 8 and row["shift"] >= 0
    losses = [stage["loss"] for stage in converted.json["stages"][1:]]
    assert sum(losses) == pytest.approx(converted.json["float_accuracy"] - converted.json["accuracy"])
    assert converted.json["accuracy"] > 90
    assert "digits:test:60" in converted.text and "1/16" in converted.text
    assert "calibration data" not in converted.text


def test_convert_records_where_the_network_comes_from(converted):
    found = files.read_info(converted.path).provenance
    assert found["source"] == "digits_cnn.h5" and found["source_sha256"] == keras.load(SOURCE).metadata["source_sha256"]
    assert found["calibrated_on"] == "digits:train:200" and found["input_scale"] == "1/16"
    assert found["settings"]["weights"] == 4 and found["settings"]["method"] == "fast-snn"
    assert found["stages"] == converted.json["stages"]
    assert files.load(converted.path).metadata["input_scale"] == "1/16"


def test_convert_says_that_it_evaluates_on_the_calibration_data(folder):
    text = good("convert", SOURCE, "-o", folder / "same.h5", "--calibrate", "digits:train:50", "--activations", 2)
    assert "Accuracy on the calibration data, digits:train:50 (give unseen data with --evaluate)" in text


@pytest.mark.parametrize(
    "options, check",
    [
        (["--no-cap"], lambda n: n.max_count is None),
        (["--v-negative", "-1"], lambda n: (n.v_negative == -n.threshold).all()),
        (["--unsigned"], lambda n: not n.signed),
        (["--method", "qffs"], lambda n: n.preset == "QFFS" and n.reset_delay == 1),
        (["--method", "ca-lif"], lambda n: n.preset == "CaLIF"),
        (["--odd-thresholds"], lambda n: (n.threshold % 2 == 1).all()),
        (["--membrane-bits", "19"], lambda n: n.v_format == Fixed(19)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_convert_variants(options, check, quantised, folder):
    net = folder / "variant.h5"
    good("convert", quantised, "-o", net, *options)
    network = files.load(net)
    assert network.neurons and all(check(network.nodes[name]) for name in network.neurons)


def test_convert_makes_narrow_membranes(quantised, folder):
    """Asked for, proven, written down with the file; what cannot be is refused in a line that says what can."""
    net, report = folder / "narrow.h5", folder / "narrow.json"

    def convert(*options):
        text = good("convert", quantised, "-o", net, "--json", report, "--evaluate", "digits:60", *options)
        found = json.loads(report.read_text())
        assert files.read_info(net).provenance["settings"] == found["settings"]
        return text, found, [row for row in found["layers"] if row["kind"] == "Neuron"]

    text, found, free = convert()
    assert (found["settings"]["max_shift"], found["settings"]["membrane_bits"]) == (NeuronRule().most_shift, None)
    assert "levels moved" not in text and all(row["membrane_bits"] == row["needed_bits"] for row in free)
    text, found, coarse = convert("--max-shift", 0)
    moved, levels = (sum(row[key] for row in coarse) for key in ("moved_levels", "levels"))
    assert found["settings"]["max_shift"] == 0 and {row["shift"] for row in coarse} == {0} and moved > 0
    assert f"{moved:,} of {levels:,} levels moved" in text
    assert all(row["membrane_bits"] < wide["membrane_bits"] for row, wide in zip(coarse, free, strict=True))
    enough = max(row["needed_bits"] for row in coarse)
    line = bad(3, "convert", quantised, "-o", folder / "none.h5", "--membrane-bits", enough - 1)
    assert f"can need {enough} bits" in line and f"give at least {enough}" in line and not (folder / "none.h5").exists()
    text, found, narrow = convert("--membrane-bits", enough)
    assert found["settings"]["membrane_bits"] == enough and {row["membrane_bits"] for row in narrow} == {enough}
    assert f"{enough} bits, proven never to overflow" in text
    assert all(row["needed_bits"] <= enough and str(row["moved_levels"]) in text for row in narrow)
    assert good("verify", net, "--data", "digits:60")
    assert "bits, saturating; " in convert("--state-bits", 16, "--max-shift", 1)[0]
    assert "give one of both" in bad(2, "convert", quantised, "-o", net, "--membrane-bits", 16, "--state-bits", 16)


def test_convert_drive_and_bias(quantised, folder):
    net = folder / "drive.h5"
    good("convert", quantised, "-o", net, "--t-drive", 8, "--bias", "once")
    network = files.load(net)
    assert network.t_drive == 8 and network.levels == 3
    assert {layer.bias_mode for layer in network.nodes.values() if hasattr(layer, "bias_mode")} == {"once"}


def test_convert_input_scale_is_recorded(folder):
    net, report = folder / "scaled.h5", folder / "scaled.json"
    data = ("--calibrate", "digits:train:50", "--activations", 2)
    good("convert", SOURCE, "-o", net, "--input-scale", "2/16,-1", "--json", report, *data)
    network = files.load(net)
    layer = network.nodes[network.input_name]
    assert (layer.multiplier, layer.offset) == (1, -8)
    assert network.metadata["input_scale"] == "1/8,-1" == json.loads(report.read_text())["input_scale"]


def test_convert_a_quantised_network_needs_no_data(quantised, folder):
    net, report = folder / "from_quantised.h5", folder / "from_quantised.json"
    good("convert", quantised, "-o", net, "--json", report)
    assert json.loads(report.read_text())["accuracy"] is None
    text = good("convert", quantised, "-o", net, "--json", report, "--evaluate", "digits:60")
    found = json.loads(report.read_text())
    assert [stage["name"] for stage in found["stages"]][0] == "quantised ANN" and "quantised ANN" in text
    assert found["calibrated_on"] is None and "weights" not in found["settings"]
    line = bad(2, "convert", quantised, "-o", net, "--weights", 4, "--first-last", 8)
    assert "--weights" in line and "--first-last" in line


def test_an_open_input_size_is_said_by_an_option(folder):
    """Convert and inspect name the option, and take it."""
    layers, weights = hostile.small()
    layers[0][1]["batch_input_shape"] = [None, None, 6, 1]
    hostile.keras_file(folder / "open.h5", layers, weights)
    rng = np.random.default_rng(0)
    np.savez(folder / "six.npz", x=rng.integers(0, 256, (20, 1, 6, 6)).astype(np.uint8), y=rng.integers(0, 4, 20))
    converted = ("convert", folder / "open.h5", "-o", folder / "open_net.h5", "--calibrate", folder / "six.npz")
    for arguments in (("inspect", folder / "open.h5"), converted):
        assert "--input-shape C,H,W" in bad(3, *arguments)
        assert "C,H,W (images)" in bad(2, *arguments, "--input-shape", "1,six,6")
        assert "does not fit" in bad(3, *arguments, "--input-shape", "1,6,7")
        good(*arguments, "--input-shape", "1,6,6")
    assert next(iter(files.load(folder / "open_net.h5").shapes.values())) == (1, 6, 6)


def test_convert_takes_the_architecture_from_json(folder):
    layers, weights = hostile.small()
    model = hostile.sequential(layers)
    data = folder / "six.npz"
    rng = np.random.default_rng(0)
    np.savez(data, x=rng.integers(0, 256, (20, 1, 6, 6)).astype(np.uint8), y=rng.integers(0, 4, 20))
    hostile.keras_file(folder / "alone.h5", layers, weights, full=False)
    arguments = ("convert", folder / "alone.h5", "-o", folder / "alone_net.h5", "--calibrate", data)
    assert "--architecture" in bad(3, *arguments)
    (folder / "elsewhere.json").write_text(json.dumps(model))
    good(*arguments, "--architecture", folder / "elsewhere.json")
    first = (folder / "alone_net.h5").read_bytes()
    provenance = files.read_info(folder / "alone_net.h5").provenance
    assert provenance["architecture"] == "elsewhere.json"
    (folder / "alone.json").write_text(json.dumps(model))
    text = good(*arguments)
    assert "1/255" in text and first
    good("inspect", folder / "alone.h5")


def test_run_reports_what_was_asked_for(converted, folder):
    report = folder / "run.json"
    text = good("run", converted.path, "--data", "digits:60", "--json", report)
    found = json.loads(report.read_text())
    for key in ("accuracy", "samples", "correct", "steps", "extra_steps", "spikes_per_neuron", "overflows", "seconds"):
        assert key in found
    data, network = datasets.load("digits:60"), files.load(converted.path)
    result = intsnn.simulate(network, data.images, settle=True)
    assert found["samples"] == 60 and found["correct"] == int((result.predictions == data.labels).sum())
    assert found["accuracy"] == 100 * found["correct"] / 60 == converted.json["accuracy"]
    assert found["settled"] is True and found["steps"] == result.steps == 15 + found["extra_steps"]
    assert found["spikes_per_neuron"] == result.spikes_per_neuron and found["overflows"] == 0
    assert [layer["name"] for layer in found["layers"]] == list(network.neurons)
    assert [layer["spikes"] for layer in found["layers"]] == [result.layers[n].spikes for n in network.neurons]
    assert f"{found['accuracy']:.2f} %" in text


def test_run_for_some_steps_only(converted, folder):
    report = folder / "steps.json"
    good("run", converted.path, "--data", "digits:20", "--steps", 4, "--no-settle", "--json", report)
    found = json.loads(report.read_text())
    result = intsnn.simulate(files.load(converted.path), datasets.load("digits:20").images, steps=4)
    assert found["steps"] == 4 and found["extra_steps"] == 0 and found["settled"] is None
    assert found["spikes_per_neuron"] == result.spikes_per_neuron
    text = good("run", converted.path, "--data", "digits:20", "--steps", 4)
    assert "--no-settle" in text


def test_run_gives_the_same_whatever_the_path_and_split(converted, folder):
    found = []
    for options in (["--threads", 1], ["--threads", 2, "--batch-size", 3], ["--path", "step", "--batch-size", 7]):
        report = folder / "same.json"
        good("run", converted.path, "--data", "digits:20", "--json", report, *options)
        values = json.loads(report.read_text())
        found.append({key: values[key] for key in values if key not in ("seconds", "threads", "path")})
    how = [values.pop("how") for values in found]
    assert found[0] == found[1] == found[2]
    assert [h["answers"] for h in how] == ["theorem", "steps", "steps"] and how[0]["compared"] > 0


def test_settled_answers_by_the_theorem(converted, folder):
    """A pass of totals answers; some samples run in steps, and say what steps alone can."""
    text, found = {}, {}
    tried = {"default": [], "few": ["--checked", 5], "none": ["--checked", 0], "all": ["--simulate"]}
    for name, options in tried.items():
        report = folder / "how.json"
        text[name] = good("run", converted.path, "--data", "digits:60", "--json", report, *options)
        found[name] = json.loads(report.read_text())
    whole = found["all"]
    assert whole["how"] == {"answers": "steps", "simulated": 60} and "theorem" not in text["all"]
    for name, simulated in (("default", 60), ("few", 5), ("none", 0)):
        values = found[name]
        assert values["how"]["answers"] == "theorem" and values["how"]["simulated"] == simulated
        assert bool(values["how"]["compared"]) == bool(simulated)
        assert (values["samples"], values["correct"], values["accuracy"]) == (60, whole["correct"], whole["accuracy"])
        assert f"{simulated} samples simulated step by step: 0 differ" in " ".join(text[name].split())
    assert found["default"]["layers"] == whole["layers"] and set(whole) == set(found["few"])
    refused = bad(2, "run", converted.path, "--data", "digits:9", "--checked", 3, "--simulate")
    assert "--checked: equality with the integer ANN cannot be used: with these options all samples run" in refused


def test_run_records_to_a_file(converted, folder):
    record = folder / "record.h5"
    good("run", converted.path, "--data", "digits:5", "--record", record, "--what", "spikes, v,conv1/relu.counts")
    found = recording.load(record)
    network, data = files.load(converted.path), datasets.load("digits:5")
    result = intsnn.simulate(network, data.images, settle=True, record=("spikes", "v"))
    for name in network.neurons:
        for quantity in ("spikes", "v"):
            expected = result.records[f"{name}.{quantity}"]
            for b in range(5):
                assert np.array_equal(found.sample(name, quantity, b), expected[: found.rows[b], b])
    assert "counts" in found.layers["conv1/relu"] and found.network_sha256 == files.network_digest(network)
    assert np.array_equal(found.inputs, data.images) and found.labels.tolist() == data.labels.tolist()
    good("run", converted.path, "--data", "digits:5", "--record", record, "--length", "equal")
    found = recording.load(record)
    assert found.layers["conv1/relu"]["v"].shape == (5, result.steps, 16, 8, 8)
    assert "--what" in bad(2, "run", converted.path, "--data", "digits:5", "--record", record, "--what", "noise")
    assert "no.such" in bad(2, "run", converted.path, "--data", "digits:5", "--record", record, "--what", "no.such.v")


def test_run_without_labels(converted, folder):
    path, report = folder / "unlabelled.npz", folder / "unlabelled.json"
    np.savez(path, x=datasets.load("digits:4").images, maximum=16)
    text = good("run", converted.path, "--data", path, "--json", report)
    found = json.loads(report.read_text())
    assert found["accuracy"] is None and found["correct"] is None and found["samples"] == 4
    assert "without labels" in text


def test_run_strict(folder):
    weight = np.full((2, 4), 100)
    network = intsnn.Network.sequential(
        intsnn.Input((4,)), intsnn.Affine(weight), intsnn.IF(10**6, v_format=intsnn.Fixed(16)), t_drive=4
    )
    net, data, report = folder / "narrow.h5", folder / "narrow.npz", folder / "narrow.json"
    files.save(network, net)
    np.savez(data, x=np.full((3, 4), 255, np.uint8))
    good("run", net, "--data", data, "--json", report)
    found = json.loads(report.read_text())
    assert found["overflows"] > 0 and found["settled"] is None and found["steps"] == 4
    line = bad(3, "run", net, "--data", data, "--strict")
    assert "neuron_2" in line and "step 0" in line and "102000" in line


def test_verify_finds_equality(converted, folder):
    report = folder / "verify.json"
    text = good("verify", converted.path, "--data", "digits:12", "--reference", 1, "--json", report)
    found = json.loads(report.read_text())
    assert found["mismatches"] == 0 and found["reference_samples"] == 1 and found["samples"] == 12
    assert found["compared"] > 10**5 and found["due"] and found["ok"] and found["first"] is None
    assert found["settled"] and found["ann_agreement"] == 12
    assert "equal wherever equality is due" in text


def test_verify_names_the_first_difference(converted, folder, monkeypatch):
    module = sys.modules["intsnn.analysis.verification"]
    exact = module.prepare_ann

    def wrong(network, **options):
        def run(inputs):
            result = exact(network, **options)(inputs)
            if len(inputs) > 2:
                result.levels["conv2/relu"][1, 3, 2, 5] += 1
            return result

        return run

    monkeypatch.setattr(module, "prepare_ann", wrong)
    report = folder / "mismatch.json"
    line = bad(4, "verify", converted.path, "--data", "digits:10", "--reference", 1, "--json", report)
    assert "conv2/relu" in line and "(3, 2, 5)" in line and "sample 2" in line
    found = json.loads(report.read_text())
    assert found["mismatches"] == 1 and found["layers"]["conv2/relu"] == 1 and not found["ok"]
    assert found["first"]["expected"] == found["first"]["found"] + 1 and found["first"]["neuron"] == [3, 2, 5]


def test_verify_shows_the_mismatch_of_published_variants(quantised, folder):
    net, report = folder / "published.h5", folder / "published.json"
    good("convert", quantised, "-o", net, "--unsigned")
    text = good("verify", net, "--data", "digits:30", "--reference", 0, "--json", report)
    found = json.loads(report.read_text())
    assert found["mismatches"] == 0 and found["ann_mismatches"] > 0 and not found["due"] and found["reasons"]
    assert "not due" in text and "unsigned" in text


def test_inspect_a_network(converted, folder):
    report = folder / "inspect.json"
    text = good("inspect", converted.path, "--json", report)
    found = json.loads(report.read_text())
    network = files.load(converted.path)
    rows = {row["name"]: row for row in found["layers"]}
    assert list(rows) == list(network.order) and found["kind"] == "network"
    bounds = network.bounds()
    for name, row in rows.items():
        assert name in text and tuple(row["shape"]) == network.shapes[name]
    assert (
        rows["conv2"]["format"].startswith("fxp-s4/0") and rows["conv2"]["sum_bits"] == bounds["conv2"].step_format.bits
    )
    assert rows["conv2/relu"]["state_bits"] == network.nodes["conv2/relu"].v_format.bits
    threshold = network.nodes["conv2/relu"].threshold
    assert rows["conv2/relu"]["threshold"] == {"low": threshold.min(), "high": threshold.max()}
    assert found["totals"]["weight_bytes"] == sum(
        (layer.weight.size * 4 + 7) // 8 for layer in network.nodes.values() if hasattr(layer, "weight")
    )
    assert found["totals"]["bytes"] == sum(row["bytes"] for row in rows.values())
    assert found["file_bytes"] == converted.path.stat().st_size
    assert found["provenance"]["source"] == "digits_cnn.h5" and "digits:train:200" in text


NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?( to .*)?")


def texts_of(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)
    elif isinstance(value, str):
        yield value


def test_json_gives_numbers_as_numbers(converted, quantised, folder):
    report = folder / "numbers.json"
    for path in (converted.path, quantised, SOURCE):
        good("inspect", path, "--json", report)
        layers = json.loads(report.read_text())["layers"]
        assert not [text for text in texts_of(layers) if NUMBER.fullmatch(text)]
        for key in ("weight", "bias", "threshold", "multiplier", "scale"):
            for row in layers:
                assert key not in row or (set(row[key]) == {"low", "high"} and row[key]["low"] <= row[key]["high"])
    assert not [text for text in texts_of(converted.json["layers"]) if NUMBER.fullmatch(text)]
    row = next(row for row in layers if row["kind"] == "FloatConv2d")
    assert row["kernel"] == [3, 3] and row["stride"] == [1, 1] and row["padding"] == [[1, 1], [1, 1]]


def test_bytes_beside_each_other_count_the_same(converted):
    """Weights beside weights, and everything beside everything: 31,850 numbers, 154 of them biases."""
    trained = keras.load(SOURCE)
    weights = sum(node.weight.size for node in trained.nodes if hasattr(node, "weight"))
    found = converted.json
    assert found["float_weight_bytes"] == 4 * weights and found["float_bytes"] == 4 * found["totals"]["parameters"]
    assert found["totals"]["weight_bytes"] * 8 == found["float_weight_bytes"]  # 4 bits for 32
    lines = [line.split() for line in converted.text.splitlines() if "packed" in line]
    assert [line[0] for line in lines] == ["weights", "all"]
    assert f"float32 {4 * weights:,} bytes; packed {found['totals']['weight_bytes']:,}" in converted.text
    assert f"float32 {found['float_bytes']:,} bytes; packed {found['totals']['bytes']:,}" in converted.text


def test_inspect_other_files(quantised, folder):
    report = folder / "other.json"
    text = good("inspect", quantised, "--json", report)
    found = json.loads(report.read_text())
    assert found["kind"] == "quantised-ann" and "fxp-s3/0" in text and found["facts"]["levels"] == 3
    text = good("inspect", SOURCE, "--json", report, "--trust")
    found = json.loads(report.read_text())
    assert found["kind"] == "float" and found["facts"]["backend"] == "tensorflow"
    assert found["totals"]["parameters"] == 31850 and found["totals"]["bytes"] == 4 * 31850
    assert "FloatMaxPool2d" in text and "16x8x8" in text


def test_float_files_are_inspected_and_converted(folder):
    """A float network in a file of ours is taken where a Keras file is, with the same integers."""
    path, report = folder / "floats.h5", folder / "floats.json"
    files.save(keras.load(SOURCE), path, provenance={"trained_by": "somebody"})
    text = good("inspect", path, "--json", report)
    found = json.loads(report.read_text())
    assert found["kind"] == "float" and found["totals"]["parameters"] == 31850
    assert found["provenance"] == {"trained_by": "somebody"} and "somebody" in text
    assert found["network_sha256"] == files.network_digest(keras.load(SOURCE))
    good("inspect", SOURCE, "--json", report, "--trust")
    assert "network_sha256" not in json.loads(report.read_text())
    made = []
    for source in (path, SOURCE):
        good("convert", source, "-o", folder / "made.h5", "--calibrate", "digits:train:50")
        made.append(files.network_digest(files.load(folder / "made.h5", trust=True)))
    assert made[0] == made[1]


def words(lines):
    """Lines with their figures, without the rules and spaces of a terminal of some width."""
    return [" ".join(line.replace("─", " ").split()) for line in lines]


def test_demo(folder):
    report, net = folder / "demo.json", folder / "demo.h5"
    text = good("demo", "--json", report, "-o", net)
    found = json.loads(report.read_text())
    assert found["samples"] == 360 and found["mismatches"] == 0 and found["compared"] > 10**7
    assert found["accuracy"] > 97 and found["float_accuracy"] > 98 and found["verify"]["reference_samples"] == 2
    assert found["memory"]["integer"]["bytes"] * 6 < found["memory"]["float"]["bytes"]
    assert found["stages"][-1]["accuracy"] == found["accuracy"]
    for word in ("float", "SNN, settled", "with biases and thresholds", "equal wherever equality is due"):
        assert word in text
    assert files.load(net).levels == 15
    lines = [line for line in text.rstrip().splitlines() if "compiling kernels" not in line]
    shown = words(lines[:-2])  # without the file and the seconds
    if (ROOT / "README.md").is_file():
        block = re.search(r"```\n(A trained Keras network.*?)\n```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
        assert block and words(block[1].splitlines()) == shown  # to the last figure


# -- how they fail ----------------------------------------------------------------------------------------------------


def test_a_float_network_needs_calibration(folder):
    line = bad(2, "convert", SOURCE, "-o", folder / "none.h5")
    assert "--calibrate" in line and "for example" in line
    assert not (folder / "none.h5").exists()


def test_a_trained_network_does_not_run(quantised, converted, folder):
    for command in ("run", "verify"):
        assert "convert it first" in bad(3, command, SOURCE, "--data", "digits:5")
        assert "convert it first" in bad(3, command, quantised, "--data", "digits:5")
    assert "already" in bad(3, "convert", converted.path, "-o", folder / "x.h5", "--calibrate", "digits:train:9")


@pytest.mark.parametrize(
    "code, spec, part",
    [
        (3, "mnist", "INTSNN_DATA"),
        (3, "no/such/file.npz", "no file"),
        (2, "no-such-set", "unknown data set"),
        (2, "digits:0", "at least 1"),
        (2, "digits:test:999999", "360"),
    ],
)
def test_data_that_are_not_there(code, spec, part, converted, monkeypatch):
    monkeypatch.delenv("INTSNN_DATA", raising=False)
    for command in ("run", "verify"):
        assert part in bad(code, command, converted.path, "--data", spec)


def test_data_that_do_not_fit(converted, folder):
    path = folder / "odd.npz"
    np.savez(path, x=np.zeros((2, 1, 9, 9), np.uint8))
    assert "(1, 9, 9)" in bad(3, "run", converted.path, "--data", path)
    np.savez(path, x=np.zeros((2, 1, 8, 8), np.float32))
    assert "float32" in bad(3, "run", converted.path, "--data", path)
    np.savez(path, x=np.full((2, 1, 8, 8), 200, np.uint8))
    assert "200" in bad(3, "run", converted.path, "--data", path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--weights", "9"],
        ["--activations", "0"],
        ["--method", "magic"],
        ["--input-scale", "one"],
        ["--input-scale", "1,2,3"],
        ["--input-scale", "-1"],
        ["--v-negative", "1"],
        ["--threads", "0"],
        ["--t-drive", "0"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_options_that_cannot_be(arguments, folder):
    bad(2, "convert", SOURCE, "-o", folder / "none.h5", "--calibrate", "digits:train:9", *arguments)
    assert not (folder / "none.h5").exists()


def test_places_that_cannot_be_written(converted, folder):
    calibrate = ("--calibrate", "digits:train:9")
    assert "no folder" in bad(3, "convert", SOURCE, "-o", folder / "no" / "net.h5", *calibrate)
    assert "folder" in bad(2, "convert", SOURCE, "-o", folder, *calibrate)
    assert "no folder" in bad(3, "inspect", SOURCE, "--json", folder / "no" / "x.json")
    before = converted.path.read_bytes()
    assert "also what is read" in bad(2, "run", converted.path, "--data", "digits:5", "--record", converted.path)
    assert "also what is read" in bad(2, "inspect", converted.path, "--json", converted.path)
    assert converted.path.read_bytes() == before


def damaged(kind, converted, folder):
    """A file with one fault, by name."""
    path = folder / f"{kind}.h5"
    if kind == "garbage":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "truncated":
        whole = converted.path.read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 3])
    elif kind == "flipped":
        whole = bytearray(converted.path.read_bytes())
        at = whole.find(b"fxp-s4/0")
        whole[at + 5 : at + 6] = b"7"
        path.write_bytes(whole)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "nan":
        layers, weights = hostile.small()
        weights["conv"]["kernel"][1, 1, 0, 2] = np.nan
        hostile.keras_file(path, layers, weights)
    elif kind == "folder":
        path.mkdir(exist_ok=True)
    return path


@pytest.mark.parametrize("kind", ["garbage", "truncated", "flipped", "empty", "nan", "folder", "missing"])
@pytest.mark.parametrize("command", ["convert", "run", "verify", "inspect"])
def test_damaged_files(command, kind, converted, folder):
    path = damaged(kind, converted, folder)
    options = {
        "convert": ("-o", folder / "none.h5", "--calibrate", "digits:train:9"),
        "run": ("--data", "digits:5"),
        "verify": ("--data", "digits:5"),
        "inspect": (),
    }
    line = bad(3, command, path, *options[command])
    assert kind in line
    assert not (folder / "none.h5").exists()


HOSTILE = ("external_link", "soft_loop", "shape_bomb", "gzip_bomb", "virtual_dataset", "external_storage", "noise")


@pytest.mark.parametrize(
    "case",
    [c for c in hostile.TREES if c.name in HOSTILE] + hostile.NETWORKS[::12],
    ids=lambda case: case.name,
)
def test_hostile_files(case, tmp_path):
    bad(3, "inspect", case.make(tmp_path))


def test_names_in_files_cannot_write_to_the_terminal():
    assert one_line("a\nb \x1b[31mred\x07") == "a b \\x1b[31mred\\x07"


def test_faults_of_ours_and_interruptions(converted, monkeypatch):
    def broken(error):
        def load(*_, **__):
            raise error

        return load

    for error, code, word in (
        (TypeError("an int is\nneeded"), 5, "TypeError: an int is needed"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "net.h5"), 3, "net.h5: No space left on device"),
        (MemoryError(), 3, "memory"),
        (intsnn.errors.MismatchError("unequal"), 4, "unequal"),
    ):
        monkeypatch.setattr(datasets, "load", broken(error))
        assert word in bad(code, "run", converted.path, "--trust", "--data", "digits:5")


class Screen(io.StringIO):
    """A terminal, or none."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize("terminal", [False, True])
def test_compiling_is_said_once(monkeypatch, terminal):
    """On standard error: one line, or on a terminal a bar, which goes to that of the command where one is shown."""
    screen = Screen(terminal)

    def compiling(*arguments, **options):
        monkeypatch.setattr(sys, "stderr", screen)
        with working("one"), working("called by one"):
            pass
        with Console(None).progress("measure"), working("two"):
            pass
        raise FormatError("enough")

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(readers, "load", compiling)
    done = CliRunner().invoke(main, ["run", SOURCE, "--data", "digits:5", "--json", "-"])
    assert done.exit_code == 3 and "Error: enough" in screen.getvalue() and done.stdout == ""
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    if not terminal:
        assert shown.startswith("compiling kernels (once)\n") and shown.count("compiling") == 1
        return
    bars = [re.escape("compiling kernels (once)") + rf" \S+ {ready}/\?" for ready in (0, 2)]
    assert re.search(rf"^\s*{bars[0]}.*measure +\S+ 0/\? \S+\n{bars[1]}", shown, re.DOTALL)
    assert "\x1b[2K" in screen.getvalue()  # erased in the end


def test_nobody_else_is_told(capfd):
    with working("one"):
        pass
    assert capfd.readouterr() == ("", "")


def test_a_traceback_on_request(folder):
    code = "from intsnn.cli.main import main; main(['inspect', 'missing.h5'])"
    plain, full = python(code, cwd=folder), python(code, cwd=folder, INTSNN_DEBUG="1")
    assert plain.returncode == full.returncode == 3
    assert plain.stderr.startswith("Error: ") and plain.stderr.count("\n") == 1 and plain.stdout == ""
    assert "Traceback" in full.stderr and plain.stderr in full.stderr


# -- processes of their own -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command):
    text = good(*filter(None, [command]), "--help")
    assert "Usage:" in text and (command or "convert") in text
    if command in JSON_COMMANDS:
        assert "--json" in text


def test_the_table_of_commands_says_what_they_say():
    """Every module of a command is listed, with the line of help that it has itself."""
    modules = {path.stem for path in (Path(intsnn.__file__).parent / "cli" / "commands").iterdir()} - {
        "__pycache__",
        "__init__",
    }
    parts = {name for name in modules if "_" in name or name == "common"}  # of a group, or shared
    assert modules - parts == set(COMMANDS) >= {*JSON_COMMANDS, "bench"}
    for name, line in COMMANDS.items():
        command = main.get_command(None, name)
        assert command.name == name and command.help.split("\n\n")[0].replace("\n", " ") == line
        assert f"{name} " in good("--help") and line in good("--help")
    assert "No such command" in call("nonsense").text and call("nonsense").code == 2


def test_help_is_light():
    code = "import runpy, sys\nsys.argv = ['intsnn', '--help']\n"
    code += "try:\n    runpy.run_module('intsnn', run_name='__main__')\n"
    code += "except SystemExit as end:\n    heavy = 'numba h5py rich joblib'.split()\n"
    code += "    heavy += ['intsnn.cli.commands.' + name for name in " + repr(sorted(COMMANDS)) + "]\n"
    code += "    print(end.code, [name for name in heavy if name in sys.modules])"
    done = python(code)
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr
    assert "Usage:" in done.stdout


def test_version():
    assert good("--version").strip() == f"intsnn, version {intsnn.__version__}"


def test_json_to_standard_output_and_tables_elsewhere(converted):
    done = python(f"from intsnn.cli.main import main; main(['inspect', {str(converted.path)!r}, '--json', '-'])")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "network" and "conv2/relu" in done.stderr


def test_piped_output_is_plain_text(converted):
    done = python(f"from intsnn.cli.main import main; main(['run', {str(converted.path)!r}, '--data', 'digits:5'])")
    assert done.returncode == 0 and done.stderr in ("", "compiling kernels (once)\n")
    assert "\x1b" not in done.stdout and re.search(r"conv1/relu +1,024 ", done.stdout)


KILLED = """
import os, signal, sys
from intsnn.support import atomic
from intsnn.cli.main import main

def publish(temporary, path):
    assert os.path.getsize(temporary) > 1000
    os.kill(os.getpid(), signal.SIGKILL)

atomic.publish = publish
main(sys.argv[1:] or {arguments!r})
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_run_killed_while_writing_leaves_the_old_file_whole(converted, quantised, folder):
    net = folder / "kept.h5"
    net.write_bytes(converted.path.read_bytes())
    done = python(KILLED.format(arguments=["convert", str(quantised), "-o", str(net)]))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert net.read_bytes() == converted.path.read_bytes()
    assert files.load(net).levels == 15
    good("convert", quantised, "-o", net)
    assert files.load(net).levels == 3


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
from intsnn.cli.main import main
main({arguments!r})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no limit on the size of files")
def test_a_full_disk_leaves_the_old_file_whole(converted, quantised, folder):
    net = folder / "full.h5"
    net.write_bytes(converted.path.read_bytes())
    listing = sorted(folder.iterdir())
    done = python(LIMITED.format(arguments=["convert", str(quantised), "-o", str(net)]))
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert net.read_bytes() == converted.path.read_bytes()
    assert sorted(folder.iterdir()) == listing
