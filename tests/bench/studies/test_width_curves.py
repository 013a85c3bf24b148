"""Width curves: products of whole numbers in floats are the integer ANN; a file that is gone on with."""

import json

import numpy as np
import pytest

from intsnn import convert, integer_ann, save
from intsnn.bench.studies import width_curves
from intsnn.conversion.quantise import quantise_network
from intsnn.datasets.catalogue import load
from intsnn.errors import RangeError
from intsnn.models import digits
from intsnn.network.float_nodes import (
    FloatAdd,
    FloatAvgPool2d,
    FloatConv2d,
    FloatFlatten,
    FloatInput,
    FloatMaxPool2d,
    FloatReLU,
)
from intsnn.network.floating import FloatNetwork
from intsnn.network.quantised import InputScale


def branches(rng):
    """Max-pool, mean, grouped convolution, an identity and a convolution that meet, a readout without weights."""
    same = ((1, 1), (1, 1))

    def conv(name, source, outputs, inputs, kernel=3, **options):
        weight = rng.normal(0, 0.4, (outputs, inputs, kernel, kernel))
        return FloatConv2d(name=name, inputs=(source,), weight=weight, bias=rng.normal(0, 0.1, outputs), **options)

    nodes = (
        FloatInput(name="in", shape=(1, 8, 8)),
        conv("c1", "in", 4, 1, padding=same), FloatReLU(name="r1", inputs=("c1",)),
        FloatMaxPool2d(name="m", inputs=("r1",), kernel=(2, 2), stride=(2, 2)),
        conv("c2", "m", 4, 2, groups=2, padding=same), FloatAdd(name="a", inputs=("c2", "m")),
        FloatReLU(name="r2", inputs=("a",)), FloatAvgPool2d(name="g", inputs=("r2",), kernel=(2, 2), stride=(2, 2)),
        conv("c3", "g", 5, 4, kernel=2), FloatFlatten(name="f", inputs=("c3",)),
    )  # fmt: skip
    return FloatNetwork(nodes, "f")


@pytest.mark.parametrize("bits", [(1, 2), (4, 4), (8, 8)])
def test_products_are_the_integer_ann(bits):
    rng = np.random.default_rng(2)
    raw = rng.integers(0, 256, (9, 1, 8, 8)).astype(np.uint8)
    made = quantise_network(
        branches(rng), raw, weight_bits=bits[0], activation_bits=bits[1], input_scale=InputScale.parse("2/255,-1")
    )
    network = convert(made.network).network
    ann, found = integer_ann(network, raw), width_curves.levels_and_outputs(network, raw)
    assert set(found) == {*ann.levels, network.output_name}
    for name, levels in ann.levels.items():
        assert found[name].dtype == np.int64 and np.array_equal(found[name], levels), name
    assert np.array_equal(found[network.output_name], ann.outputs)


def test_a_sum_beyond_floats_is_refused():
    network = convert(
        quantise_network(branches(np.random.default_rng(2)), np.ones((3, 1, 8, 8), np.uint8)).network
    ).network
    with pytest.raises(RangeError, match="exact to 53 bits"):
        width_curves.levels_and_outputs(network, np.full((1, 1, 8, 8), 1 << 52))


def test_what_cannot_be_measured_is_refused(tmp_path, capsys):
    """A network that is integers already, and data without labels."""
    made = quantise_network(branches(np.random.default_rng(2)), np.ones((3, 1, 8, 8), np.uint8)).network
    save(made, tmp_path / "quantised.h5")
    np.savez(tmp_path / "plain.npz", x=load("digits:test:9").images, maximum=16)
    samples = ["--calibrate", "digits:train:9", "-o", str(tmp_path / "curves.json")]
    for model, data, words in (
        (tmp_path / "quantised.h5", "digits:test:9", "is not quantised yet"),
        (digits.network_file(), tmp_path / "plain.npz", "needs labels"),
    ):
        assert width_curves.main([str(model), "--data", str(data), *samples]) == 3
        assert words in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "curves.json").exists()


def test_the_command_goes_on_and_measures(tmp_path, monkeypatch, capsys):
    """One entry a width, each with what made it; what is there is not computed again."""
    output = tmp_path / "curves.json"
    given = [str(digits.network_file()), "--data", "digits:test", "--calibrate", "digits:train:200", "-o", str(output)]
    given += ["--commit", "0123", "--check", "4"]
    assert width_curves.main([*given, "--weights", "2"]) == 0
    assert width_curves.main([*given, "--weights", "2,8"]) == 0
    rows = json.loads(output.read_text())["results"]
    assert [(row["weights"], row["activations"], row["commit"], row["images"]) for row in rows] == [
        (2, 4, "0123", 360),
        (8, 4, "0123", 360),
    ]
    assert "--weights 2 " in rows[0]["command"] + " " and str(tmp_path) not in rows[0]["network"]
    assert capsys.readouterr().out.count("w2 a4") == 1
    test = load("digits:test")
    for row in rows:
        assert row["float"] > 98 and row["accuracy"] * 3.6 == pytest.approx(round(row["accuracy"] * 3.6), abs=1e-9)
        assert set(row["errors"]) >= {"activations", "nearest"}
    made = [row["accuracy"] for row in rows]
    assert 80 < made[0] <= 100 and made[1] > 97 and len(test) == 360

    table = tmp_path / "table.json"
    assert width_curves.main(["--join", str(output), "-o", str(table)]) == 0
    found = json.loads(table.read_text())
    assert found["commit"] == "0123" and found["cells"] == rows and len(found["results"]) == 1
    assert {found["results"][0][width] for width in "28"} == set(made)
    assert [title for title, *_ in found["columns"]][4:] == ["w2", "w8", "compensated up to w"]

    def wrong(network, codes):
        values = real(network, codes)
        return values | {"readout": values["readout"] + 1}

    real = width_curves.levels_and_outputs
    monkeypatch.setattr(width_curves, "levels_and_outputs", wrong)
    assert width_curves.main([*given, "--weights", "4"]) == 3
    assert "not those of the integer ANN" in capsys.readouterr().out
    assert len(json.loads(output.read_text())["results"]) == 2
