"""What outputs say, and how good it is: one output, real values, labels that cannot be, figures that say nothing."""

import json

import numpy as np
import pytest
from command_line import bad, good
from hostile import keras_file

from intsnn.analysis.curves import curve
from intsnn.analysis.scores import accuracy, aim_of, check_labels, near_chance, output_error
from intsnn.conversion.pipeline import convert_float
from intsnn.datasets.catalogue import Dataset, full_scale, load
from intsnn.engine.ann import integer_ann
from intsnn.engine.backends.fused.runner import prepare
from intsnn.engine.result import decide
from intsnn.engine.simulation import simulate
from intsnn.errors import IntsnnError, RangeError, ShapeError
from intsnn.files import network_file as files
from intsnn.layers import Affine, Conv2d, Input, Readout, SignedIF
from intsnn.network.float_nodes import FloatAffine, FloatInput, FloatReLU
from intsnn.network.floating import FloatNetwork, forward
from intsnn.network.spiking import Network


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def data(images, labels=None, *, targets=None, classes=None, maximum=255):
    """A data set in memory."""
    count = 0 if labels is None or not len(labels) else int(np.max(labels)) + 1
    names = tuple(map(str, range(count))) if classes is None else classes
    return Dataset("own", images, labels, names, maximum, "memory", targets=targets)


def binary(rng, count=64):
    """Codes of 16 bytes, and whether they are bright."""
    labels = (np.arange(count) % 4 == 0).astype(np.int64)
    images = rng.integers(0, 100, (count, 16))
    images[labels == 1] += 150
    return images.astype(np.uint8), labels


def sums(outputs=1):
    """Float network: the sum of 16 rectified inputs less 6.5, in each of its outputs."""
    return FloatNetwork(
        (
            FloatInput(name="in", shape=(16,)),
            FloatAffine(name="a", inputs=("in",), weight=np.eye(16, dtype=np.float32), bias=np.zeros(16, np.float32)),
            FloatReLU(name="r", inputs=("a",)),
            FloatAffine(
                name="out", inputs=("r",), weight=np.ones((outputs, 16), np.float32),
                bias=np.full(outputs, -6.5, np.float32),
            ),
        ),
        "out",
    )  # fmt: skip


# -- decisions -------------------------------------------------------------------------------------------------------


def test_one_output_is_decided_by_its_sign():
    assert decide(np.array([[-3], [0], [1], [7]])).tolist() == [0, 0, 1, 1]
    assert decide(np.array([[-3.5, -4], [0, 0], [1, 2]])).tolist() == [0, 0, 1]
    assert decide(np.array([[[-1]], [[1]]]), axis=2).tolist() == [[0], [1]]
    maps = np.array([[[[0, 1], [2, -1]]]])
    assert decide(maps).tolist() == [[[0, 1], [1, 0]]] and decide(maps).dtype == np.int64


def test_every_path_of_a_network_decides_alike():
    net = Network.sequential(
        Input((2,)), Affine([[3, -2]]), SignedIF(7, levels=3), ("w", Affine([[2]], bias=-1)), Readout(), t_drive=3,
        levels=3,
    )  # fmt: skip
    codes = np.array([[0, 0], [1, 0], [9, 1], [4, 3]])
    run = simulate(net, codes, settle=True)
    assert len(set((run.outputs[:, 0] > 0).tolist())) == 2, "both classes occur"
    expected = (run.outputs[:, 0] > 0).astype(np.int64)
    assert np.array_equal(run.predictions, expected)
    assert np.array_equal(integer_ann(net, codes).predictions, expected)
    assert np.array_equal(prepare(net, settle=True)(codes).predictions, expected)
    assert np.array_equal(simulate(net, codes, settle=True, path="reference").predictions, expected)
    after = curve(net, codes, expected, run.steps)
    assert after.right[-1] == len(codes) and after.accuracy[-1] == 100.0


def test_maps_of_one_channel_are_decided_pixel_by_pixel():
    net = Network.sequential(Input((1, 2, 2)), ("c", Conv2d(np.full((1, 1, 1, 1), 2), bias=-9)), Readout(), t_drive=1)
    run = simulate(net, np.array([[[[0, 4], [5, 9]]]]))
    assert run.outputs.tolist() == [[-9, -1, 1, 9]] and run.predictions.tolist() == [[[0, 0], [1, 1]]]


def test_a_first_spike_of_one_output_is_class_1_where_it_came():
    net = Network.sequential(
        Input((1,)), Affine([[1]]), SignedIF(5, levels=3), Readout("first_spike"), t_drive=3, levels=3
    )
    run = simulate(net, np.array([[0], [9], [2]]), settle=True)
    assert (run.outputs[:, 0] >= 0).astype(int).tolist() == run.predictions.tolist() == [0, 1, 1]


@pytest.mark.parametrize("weights", [8, 4])
def test_a_pipeline_of_one_output_counts_both_classes(rng, weights):
    images, labels = binary(rng)
    found = convert_float(sums(), data(images, labels), weight_bits=weights)
    assert [stage.accuracy for stage in found.stages] == [100.0] * len(found.stages)
    assert found.aim.decision == "sign" and "above 0" in found.aim.note and not found.warnings
    turned = convert_float(sums(), data(images, 1 - labels), weight_bits=weights)
    assert [stage.accuracy for stage in turned.stages] == [0.0] * len(turned.stages)
    assert "guessing has 50.00 %" in turned.warnings[0]


# -- real values -----------------------------------------------------------------------------------------------------


def test_a_regression_has_an_error_in_real_units(rng):
    images, _ = binary(rng)
    network = sums(2)
    exact = forward(network, images.astype(np.float32) / np.float32(255)).astype(np.float64)
    found = convert_float(network, data(images, targets=exact + [1, -1]), activation_bits=8)
    assert found.aim.kind == "targets" and found.aim.decision is None
    first, last = found.stages[0], found.stages[-1]
    assert all(stage.accuracy is None for stage in found.stages)
    assert first.error.largest == 0 and first.target_error.rms == pytest.approx(1.0)
    # two roundings to 255 levels of an input up to 1, and a rounded bias: far below the 1 of a wrong unit
    assert 0 < last.error.rms < 0.1 and 0.9 < last.target_error.rms < 1.1
    outputs = simulate(found.network, images, settle=True).outputs * found.network.metadata["readout_unit"]
    assert output_error(outputs, exact) == last.error


def test_an_autoencoder_is_held_against_its_input(rng):
    images, labels = binary(rng)
    network = sums(16)
    scaled = images.astype(np.float32) / np.float32(255)
    for known in (None, labels):  # two classes are not what 16 outputs stand for
        found = convert_float(network, data(images, known), activation_bits=8)
        assert found.aim.kind == "input" and "input" in found.aim.note
        assert found.stages[0].target_error == output_error(forward(network, scaled), scaled)
    assert aim_of(data(images, np.arange(64) % 16), 16, 1, 16).kind == "classes"
    assert aim_of(data(images), 3, 1, 16).kind == "nothing"


def test_output_error():
    found = output_error(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 4.0], [3.0, 4.0]]))
    assert (found.mean_absolute, found.rms, found.largest) == (0.5, 1.0, 2.0)
    for wrong in (np.zeros((2, 3)), np.zeros((0, 2)), np.zeros((4, 1))):
        with pytest.raises(ShapeError):
            output_error(np.zeros((2, 2)), wrong)


# -- labels and data that cannot be ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels, outputs, part",
    [
        ([0, 1, 2], 1, "the label 2"), ([0, -1], 1, "the label -1"), ([0, 3], 3, "the label 3"),
        ([-1, 5], 10, "the label -1"), ([], 10, "no sample"), ([0.5, 1.0], 2, "whole numbers"),
    ],
)  # fmt: skip
def test_labels_that_outputs_cannot_stand_for(labels, outputs, part):
    with pytest.raises((RangeError, ShapeError), match=part) as caught:
        check_labels(np.array(labels), outputs, "own")
    assert isinstance(caught.value, IntsnnError) and "own" in str(caught.value)
    check_labels(np.array([0, max(1, outputs - 1)]), outputs, "own")  # the last class there is


def test_no_accuracy_of_nothing():
    with pytest.raises(ShapeError, match="needs one"):
        accuracy(np.zeros(0, np.int64), np.zeros(0, np.int64))
    with pytest.raises(ShapeError, match="no sample"):
        aim_of(data(np.zeros((0, 16), np.uint8)), 1, 1, 16)


def test_wrong_labels_stop_a_conversion_and_a_curve(rng):
    images, labels = binary(rng)
    with pytest.raises(RangeError, match="classes 0 to 1; targets of a regression"):
        convert_float(sums(), data(images, labels + 1))
    net = Network.sequential(Input((1,)), Affine([[1], [2]]), Readout(), t_drive=1)
    with pytest.raises(RangeError, match="the label 2"):
        curve(net, np.array([[1]]), np.array([2]), 1)


def test_targets_of_another_number(rng):
    images, _ = binary(rng)
    with pytest.raises(ShapeError, match="real targets"):
        convert_float(sums(2), data(images, targets=np.zeros((64, 1))))


# -- doubts ----------------------------------------------------------------------------------------------------------


def test_figures_near_chance():
    even = np.arange(1000) % 10
    assert "10.00 %" in near_chance(10.0, even, 10) and near_chance(12.0, even, 10) and not near_chance(13.0, even, 10)
    rare = (np.arange(100) == 0).astype(np.int64)  # 99 % of class 0
    assert "99.00 %" in near_chance(99.0, rare, 1) and near_chance(100.0, rare, 1) is None
    assert near_chance(100.0, np.zeros(4, np.int64), 10) is None and near_chance(100.0, np.array([0, 1]), 2) is None


def test_full_scale_of_codes():
    tables = {1: 1, 2: 2, 3: 3, 9: 15, 15: 15, 16: 16, 17: 31, 64: 64, 65: 127, 128: 255, 249: 255, 255: 255, 256: 511}
    assert {high: full_scale(0, high) for high in tables} == tables
    assert [full_scale(low, high) for low, high in ((-128, 127), (-100, 3), (0, 0))] == [127, 127, 1]


# -- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A Keras file of one output, and binary data for it."""
    folder, rng = tmp_path_factory.mktemp("one"), np.random.default_rng(0)
    images, labels = binary(rng)
    np.savez(folder / "data.npz", x=images, y=labels)
    first = {"name": "a", "units": 16, "activation": "relu", "use_bias": True, "batch_input_shape": [None, 16]}
    layers = [("Dense", first), ("Dense", {"name": "out", "units": 1, "activation": "linear", "use_bias": True})]
    weights = {
        "a": {"kernel": np.eye(16, dtype=np.float32), "bias": np.zeros(16, np.float32)},
        "out": {"kernel": np.ones((16, 1), np.float32), "bias": np.array([-6.5], np.float32)},
    }
    keras_file(folder / "one.h5", layers, weights)
    text = good(
        "convert", folder / "one.h5", "-o", folder / "net.h5", "--calibrate", folder / "data.npz", "--json",
        folder / "convert.json",
    )  # fmt: skip
    return folder, text, json.loads((folder / "convert.json").read_text()), images, labels


def test_commands_say_how_one_output_is_decided(one):
    folder, text, values, _, labels = one
    assert "one output: class 1 where it is above 0" in text and "Accuracy on the calibration data" in text
    assert values["accuracy"] == values["float_accuracy"] == 100.0 and values["decision"] == "sign"
    assert values["on_calibration_data"] and values["overlap"] is None and values["warnings"] == []
    text = good("run", folder / "net.h5", "--data", folder / "data.npz", "--json", folder / "run.json")
    run = json.loads((folder / "run.json").read_text())
    assert f"({len(labels)} of {len(labels)} right)" in text and "above 0" in text and "no unseen data" in text
    assert (run["accuracy"], run["decision"], run["judged_by"]) == (100.0, "sign", "classes")
    text = good("verify", folder / "net.h5", "--data", folder / "data.npz", "--reference", 1)
    assert f"{len(labels)} of {len(labels)} predictions agree" in text


def test_commands_give_the_error_of_real_targets(one, tmp_path):
    folder, _, _, images, _ = one
    exact = images.sum(axis=1) / 255 - 6.5
    np.savez(tmp_path / "real.npz", x=images, y=exact)
    text = good("run", folder / "net.h5", "--data", tmp_path / "real.npz", "--json", tmp_path / "run.json")
    run = json.loads((tmp_path / "run.json").read_text())
    network = files.load(folder / "net.h5")
    outputs = simulate(network, images, settle=True).outputs * network.metadata["readout_unit"]
    assert run["accuracy"] is None and run["judged_by"] == "targets" and "%" not in text.splitlines()[0]
    assert run["target_error"] == output_error(outputs, exact[:, None]).values()
    text = good(
        "convert", folder / "one.h5", "-o", tmp_path / "net.h5", "--calibrate", tmp_path / "real.npz", "--json",
        tmp_path / "convert.json",
    )  # fmt: skip
    values = json.loads((tmp_path / "convert.json").read_text())
    assert "in real units" in text and values["accuracy"] is None and values["target_error"]["rms"] < 1
    assert values["stages"][0]["error"]["largest"] == 0


def test_commands_refuse_labels_and_data_that_cannot_be(one, tmp_path):
    folder, _, _, images, labels = one
    wrong = {
        "beyond": ({"y": labels * 2}, "the label 2"),
        "negative": ({"y": labels - 1}, "from 0"),
        "many": ({"y": np.zeros((64, 2))}, "real targets"),
        "empty": ({"x": images[:0], "y": labels[:0]}, "no image"),
    }
    for name, (arrays, part) in wrong.items():
        np.savez(tmp_path / f"{name}.npz", **({"x": images} | arrays))
        calls = [
            ("run", folder / "net.h5", "--data", tmp_path / f"{name}.npz"),
            ("convert", folder / "one.h5", "-o", tmp_path / "x.h5", "--calibrate", tmp_path / f"{name}.npz"),
        ]
        for arguments in calls:
            assert part in bad(3, *arguments), arguments
    assert not (tmp_path / "x.h5").exists()


def test_the_input_scale_of_a_file_is_said_and_doubted(one, tmp_path):
    folder = one[0]
    digits = load("digits:train:200")
    np.savez(tmp_path / "own.npz", x=digits.images, y=digits.labels)
    own = load(tmp_path / "own.npz")
    assert own.maximum == 16 and "0 to 16" in own.assumed
    np.savez(tmp_path / "said.npz", x=digits.images, y=digits.labels, maximum=20)
    assert load(tmp_path / "said.npz").maximum == 20 and load(tmp_path / "said.npz").assumed == ""
    convert = ("convert", folder / "one.h5", "-o", tmp_path / "net.h5", "--json", tmp_path / "c.json", "--calibrate")
    text = good(*convert, folder / "data.npz")
    assert "assumed: the codes in data.npz are 0 to 249" in text and "--input-scale" in text
    assert "0 to 249" in json.loads((tmp_path / "c.json").read_text())["input_scale_assumed"]
    text = good(*convert, folder / "data.npz", "--input-scale", "1/100000")
    values = json.loads((tmp_path / "c.json").read_text())
    assert "assumed" not in text and "warning: " in text and values["input_scale_assumed"] is None
    assert "75.00 %" in values["warnings"][0] and "1/100000" in values["warnings"][0]


def test_both_parts_of_a_file_have_one_scale(tmp_path):
    np.savez(tmp_path / "two.npz", x_train=np.array([[0, 200]], np.uint8), x_test=np.array([[3, 9]], np.uint8))
    assert load(tmp_path / "two.npz").maximum == load(tmp_path / "two.npz", "train").maximum == 255


def test_a_sweep_of_one_output_counts_both_classes(one, tmp_path):
    folder, _, _, images, labels = one
    np.savez(tmp_path / "learn.npz", x=images[:32], y=labels[:32])
    np.savez(tmp_path / "test.npz", x=images[32:], y=labels[32:])
    sweep = (
        "bench", "--model", folder / "one.h5", "--calibrate", tmp_path / "learn.npz", "--method", "qffs", "--jobs", 1,
        "--verify", 2, "--reference", 0, "--trust", "--json", tmp_path / "s.json",
    )  # fmt: skip
    text = good(*sweep, "--data", tmp_path / "test.npz", "--results", tmp_path / "r.sqlite")
    values = json.loads((tmp_path / "s.json").read_text())
    (row,) = values["rows"]
    names = ("accuracy", "ann_accuracy", "float_accuracy", "agreement")
    assert [row[name] for name in names] == [100.0] * 4 and row["accuracy_by_step"][-1] == 100.0
    assert "class 1 where it is above 0" in text and "0 to 248, and no" in "".join(values["notes"])
    np.savez(tmp_path / "real.npz", x=images[32:], y=labels[32:] * 1.5)
    text = good(*sweep, "--data", tmp_path / "real.npz", "--results", tmp_path / "r2.sqlite")
    (row,) = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert row["accuracy"] is row["float_accuracy"] is None and "no accuracy" in text and row["agreement"] == 100.0
    np.savez(tmp_path / "three.npz", x=images[32:], y=labels[32:] * 2)
    assert "the label 2" in bad(3, *sweep, "--data", tmp_path / "three.npz", "--results", tmp_path / "r3.sqlite")
