"""Accuracy after every step, another T_drive without another ANN, parts switched off in turn."""

import json
from dataclasses import replace

import numpy as np
import pytest

from intsnn.analysis.curves import curve
from intsnn.bench.studies import ablation
from intsnn.conversion.redrive import redriven
from intsnn.datasets.catalogue import load
from intsnn.engine.ann import equality_conditions, integer_ann
from intsnn.engine.simulation import simulate
from intsnn.errors import ConversionError, UnsupportedError
from intsnn.files.network_file import save
from intsnn.formats.fixed import Fixed
from intsnn.layers import Add, Affine, AvgPool2d, Conv2d, Flatten, Input, Readout, SignedIF, SumPool2d
from intsnn.models.readers import load as read
from intsnn.network.spiking import Network


@pytest.fixture(scope="module")
def network():
    return read("zoo:digits-ca-lif")


@pytest.fixture(scope="module")
def data():
    return load("digits:test:60")


def test_the_curve_is_what_single_runs_give(network, data):
    steps = network.t_drive + 4
    found = curve(network, data.images, data.labels, steps)
    for t in (1, 2, network.t_drive, steps):
        run = simulate(network, data.images, steps=t)
        assert found.right[t - 1] == (run.predictions == data.labels).sum()
    assert found.labelled == 60 and found.accuracy[-1] == 100.0 * found.right[-1] / 60
    assert found.spikes == sum(layer.spikes for layer in run.layers.values())


def test_the_curve_of_maps_counts_pixels():
    weight = np.arange(-4, 5).reshape(3, 1, 1, 3)
    network = Network.sequential(Input((1, 4, 4)), Conv2d(weight, padding=((0, 0), (1, 1))), Readout(), t_drive=2)
    x = np.random.default_rng(0).integers(0, 9, (5, 1, 4, 4))
    labels = np.random.default_rng(1).integers(0, 3, (5, 4, 4))
    found = curve(network, x, labels, 2)
    assert found.labelled == 80 and found.right[1] == (simulate(network, x).predictions == labels).sum()


def test_no_curve_without_a_sum():
    network = Network.sequential(
        Input((2,)), Affine([[1, 2]]), SignedIF(3, levels=3), Readout("first_spike"), t_drive=3
    )
    with pytest.raises(UnsupportedError, match="adds up"):
        curve(network, np.zeros((1, 2), np.int64), np.zeros(1, np.int64), 3)


# -- T_drive -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits-ca-lif", "digits-qffs", "digits-binary"])
def test_levels_do_not_depend_on_the_drive(name, data):
    """L, T_drive and steps are three numbers."""
    network = read(f"zoo:{name}")
    before = integer_ann(network, data.images)
    for drive in (1, 2, 8, 10, 64, 128):
        made = redriven(network, drive)
        assert made.t_drive == drive and made.levels == network.levels
        assert all(made.nodes[n].max_count == network.levels for n in made.neurons) and not equality_conditions(made)
        run = simulate(made, data.images, settle=True, keep_final=True)
        assert run.settled and run.overflows == 0 and run.steps >= drive
        for layer, levels in before.levels.items():
            assert np.array_equal(run.final[f"{layer}.counts"], levels)
        assert np.array_equal(run.outputs, before.outputs)


def test_the_old_drive_gives_the_old_network(network):
    again = redriven(network, network.t_drive)
    for name, layer in network.nodes.items():
        for field in ("threshold", "multiplier", "bias", "v_initial"):
            assert np.array_equal(getattr(layer, field, None), getattr(again.nodes[name], field, None))


def test_odd_thresholds_and_a_pool_behind_the_connection():
    rng = np.random.default_rng(0)
    first = Conv2d(rng.integers(-3, 4, (4, 1, 3, 3)), rng.integers(-9, 9, 4), Fixed(3), "spread", padding=1)
    network = Network.sequential(
        Input((1, 6, 6), Fixed(4, signed=False)), first, SumPool2d(2),
        ("n", SignedIF([7, 11, 30, 13], levels=3, v_initial=[3, 5, 15, 6])), Flatten(),
        Affine(rng.integers(-3, 4, (3, 36)), rng.integers(-9, 9, 3), Fixed(3), "spread"), Readout(),
        t_drive=3, levels=3,
    )  # fmt: skip
    x = rng.integers(0, 16, (30, 1, 6, 6))
    before = integer_ann(network, x)
    assert len(np.unique(before.levels["n"])) == 4
    for drive in (2, 5, 7, 12):
        run = simulate(redriven(network, drive), x, settle=True, keep_final=True)
        assert np.array_equal(run.final["n.counts"], before.levels["n"])
        assert np.array_equal(run.outputs, before.outputs)


def test_what_has_no_other_drive_is_said():
    def chain(*layers, **options):
        return Network.sequential(Input((1, 2, 2)), *layers, **({"t_drive": 3, "levels": 3} | options))

    conv = Conv2d(np.ones((1, 1, 1, 1), np.int64))
    with pytest.raises(UnsupportedError, match="no T_drive and levels"):
        redriven(chain(conv, SignedIF(3, 3), levels=None), 8)
    with pytest.raises(UnsupportedError, match="no connection to neurons alone"):
        redriven(chain(conv, Readout()), 8)
    with pytest.raises(UnsupportedError, match="bias in every step"):
        redriven(chain(replace(conv, bias=2), SignedIF(3, 3)), 8)
    with pytest.raises(UnsupportedError, match="rounds in every step"):
        redriven(chain(conv, SignedIF(3, 3), AvgPool2d(2), Readout()), 8)
    nodes = {"x": Input((1, 2, 2)), "a": conv, "b": conv, "add": Add(), "n": SignedIF(3, 3)}
    edges = (("x", "a"), ("x", "b"), ("a", "add"), ("b", "add"), ("add", "n"))
    with pytest.raises(UnsupportedError, match="no connection to neurons alone"):
        redriven(Network(nodes, edges, t_drive=3, levels=3), 8)


# -- ablation ----------------------------------------------------------------------------------------------------------


def test_parts_are_switched_off_one_at_a_time(network):
    for part, changed in (
        ("cap", "has no cap"), ("negative spikes", "is unsigned"), ("v_negative = 0", "below v_negative"),
    ):  # fmt: skip
        found = equality_conditions(ablation.without(network, part))
        assert len(found) == len(network.neurons) and all(changed in reason for reason in found)
    once = ablation.without(network, "spread bias")
    assert not equality_conditions(once)
    assert all(layer.bias_mode == "once" for layer in once.nodes.values() if isinstance(layer, Affine | Conv2d))
    with pytest.raises(UnsupportedError, match="no part 'noise'"):
        ablation.without(network, "noise")


def test_a_row_says_what_runs_say(network, data):
    row = ablation.measure("x", network, data, network.t_drive + 5)
    run = simulate(network, data.images, settle=True)
    assert row.settled == row.ann == 100.0 * (run.predictions == data.labels).sum() / 60
    assert row.accuracy[-1] == row.settled and row.driven == row.accuracy[network.t_drive - 1]
    assert row.rests and row.differing == 0 and row.compared > 60 * 1000
    uncapped = ablation.measure("y", ablation.without(network, "cap"), data, network.t_drive + 5)
    assert uncapped.differing > 0 and uncapped.accuracy[: network.t_drive] == row.accuracy[: network.t_drive]


def test_a_run_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    file = tmp_path / "rows.json"
    options = ["zoo:digits-qffs", "--data", "digits:test:30", "--t-drive", "8", "--json", str(file)]
    ablation.main(options)
    whole, said = json.loads(file.read_text()), capsys.readouterr().out
    assert [row["name"] for row in whole["rows"]] == [
        "complete", "without cap", "without negative spikes", "without v_negative = 0", "without spread bias",
        "T_drive 8",
    ]  # fmt: skip
    assert "| complete | " in said and "at rest" in said
    file.write_text(json.dumps(whole | {"rows": whole["rows"][:4]}))
    measured, real = [], ablation.measure
    monkeypatch.setattr(ablation, "measure", lambda name, *rest: measured.append(name) or real(name, *rest))
    ablation.main(options)
    assert measured == ["without spread bias", "T_drive 8"] and json.loads(file.read_text()) == whole
    options[2] = "digits:test:20"
    measured.clear()
    ablation.main(options)
    assert len(measured) == 6  # other data


def test_a_tuned_network_stands_beside_it(tmp_path, network):
    save(network, tmp_path / "tuned.h5")
    found = ablation.rows(read("zoo:digits-qffs"), read(tmp_path / "tuned.h5"), [])
    assert list(found)[5:] == ["fine-tuned", "fine-tuned, without cap", "fine-tuned, without negative spikes"]
    assert found["fine-tuned"].levels == network.levels


def test_only_converted_networks_are_taken(tmp_path):
    with pytest.raises(ConversionError, match="no converted network"):
        save(Network.sequential(Input((1,)), Affine([[1]]), Readout()), tmp_path / "net.h5")
        ablation.main([str(tmp_path / "net.h5"), "--data", "digits", "--json", str(tmp_path / "x.json")])
