"""The speed comparison: all peers and paths compute one function, and the results have the promised form.

Nothing here asserts a time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from waiting import HANGING

from intsnn import IF, LIF, Affine, Conv2d, Decay, Fixed, Flatten, Input, Network, Readout, Upsample2d, simulate
from intsnn.bench.speed import ann_pass, count, evaluate, peers, plots, workloads
from intsnn.bench.speed import measure as speed
from intsnn.cli import speed_tables as present
from intsnn.cli.console import Console
from intsnn.cli.main import main
from intsnn.engine.ann import integer_ann
from intsnn.engine.backends.fused.accepts import refuses
from intsnn.engine.backends.fused.runner import prepare
from intsnn.engine.program import lower
from intsnn.errors import FormatError, MismatchError, RangeError, UnsupportedError
from intsnn.layers.schedule import Schedule

ROOT = Path(__file__).resolve().parents[3]
SIZES = {"lenet-b64": 12, "vgg16-224-b1": 32, "mobilenet-b8": 64}
WIDTHS = {"mobilenet-b8": 1}


def small(name, **options):
    """A workload that is over in milliseconds."""
    return workloads.build(
        name, **{"batch": 3, "width": WIDTHS.get(name, 1 / 8), "size": SIZES.get(name, 16)} | options
    )


def plain(network, inputs, steps):
    """Integer outputs by loops over numpy's int64: a third opinion, sharing nothing with either of the others."""
    shape = network.shapes[network.input_name]
    constant = inputs.ndim == len(shape) + 1
    values, v, counts, total = {}, {}, {}, 0
    for t in range(steps):
        for name in network.order:
            layer = network.nodes[name]
            kind = type(layer).__name__
            sources = [values[s] for s in network.inputs_of(name)]
            if kind == "Input":
                out = (inputs if constant else inputs[t]).astype(np.int64)
            elif kind == "Affine":
                out = sources[0] @ layer.weight.T
            elif kind in ("Conv2d", "SumPool2d", "MaxPool2d"):
                kernel = layer.weight.shape[2:] if kind == "Conv2d" else layer.kernel_size
                x = sources[0]
                if kind == "MaxPool2d":
                    counts[name, "in"] = x = counts.get((name, "in"), 0) + x
                x = np.pad(x, ((0, 0), (0, 0), *layer.padding))
                windows = np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3))
                windows = windows[:, :, :: layer.stride[0], :: layer.stride[1]]
                if kind == "Conv2d":
                    weight = layer.weight.reshape(layer.groups, -1, *layer.weight.shape[1:])
                    seen = windows.reshape(len(windows), layer.groups, -1, *windows.shape[2:])
                    out = np.einsum("bgcyxij,gocij->bgoyx", seen, weight, optimize=True)
                    out = out.reshape(len(out), -1, *out.shape[3:])
                elif kind == "SumPool2d":
                    out = windows.sum((4, 5))
                else:
                    largest = windows.max((4, 5))
                    out = largest - counts.get((name, "out"), 0)
                    counts[name, "out"] = largest
            elif kind == "Neuron":
                v[name] = v.get(name, 0)
                if layer.leaks:  # and the spikes before come off only now
                    v[name] = (v[name] * layer.v_decay.multiplier >> layer.v_decay.shift) - counts.get(name, 0)
                v[name] = v[name] + sources[0]
                out = (v[name] > layer.threshold - (not layer.leaks)).astype(np.int64)
                if layer.leaks:
                    counts[name] = out * int(layer.threshold)
                else:
                    v[name] = v[name] - out * int(layer.threshold)
            elif kind == "Flatten":
                out = sources[0].reshape(len(sources[0]), -1)
            elif kind == "Scale":
                out = sources[0] * int(layer.scale)
            elif kind == "Add":
                out = sources[0] + sources[1]
            else:
                total = total + sources[0]
                continue
            values[name] = out
    return total


@pytest.mark.parametrize("name", workloads.NAMES)
def test_one_function(name):
    """The runner, simulate, the evaluation in float32 and plain numpy agree, and every layer spikes."""
    work = small(name)
    network, steps = work.network, work.steps
    assert refuses(lower(network, Schedule(steps, steps, steps, steps)), frames=not work.constant) is None
    outputs = prepare(network, steps=steps)(work.inputs).outputs
    assert outputs.any()
    assert np.array_equal(outputs, simulate(network, work.inputs, steps=steps, path="layer").outputs)
    assert np.array_equal(outputs, plain(network, work.inputs, steps))
    assert np.array_equal(outputs, evaluate.evaluate(network, work.inputs, steps).outputs)
    assert np.array_equal(outputs[: work.expected_samples], work.expected.outputs)
    assert set(work.expected.rates) == set(network.neurons)
    assert all(0.05 <= rate <= 0.20 for rate in work.expected.rates.values()), work.expected.rates


@pytest.mark.parametrize("name", ["lenet-b64", "vgg-b32-int8"])
def test_max_pools(name):
    work = small(name, pool="max")
    outputs = prepare(work.network, steps=work.steps)(work.inputs).outputs
    assert outputs.any()
    assert np.array_equal(outputs, plain(work.network, work.inputs, work.steps))
    assert np.array_equal(outputs, evaluate.evaluate(work.network, work.inputs, work.steps).outputs)


@pytest.mark.parametrize("pool", ["sum", "max"])
@pytest.mark.parametrize("name", workloads.NAMES)
@pytest.mark.parametrize("peer", [p for p in peers.PEERS if peers.PEERS[p].kind == "snn"])
def test_peers_compute_the_same(peer, name, pool):
    if peers.absent(peers.PEERS[peer]):
        pytest.skip(peers.absent(peers.PEERS[peer]))
    work = small(name, pool=pool)
    if name == "lif-b64" and peer.startswith("spikingjelly"):
        with pytest.raises(UnsupportedError, match="leaks by channel have no form"):
            peers.prepare_peer(peers.PEERS[peer], work, 1)
        return
    call = peers.prepare_peer(peers.PEERS[peer], work, 1)
    ours = prepare(work.network, steps=work.steps)(work.inputs).outputs
    assert np.array_equal(call(work.inputs), ours)
    assert np.array_equal(call(work.inputs), ours)  # nothing is left from the call before


@pytest.mark.parametrize("name", workloads.NAMES)
def test_the_ann_pass_runs_on_integers(name, tmp_path):
    """The int8 ANN has an output for each sample; the products are integer operators after fusion."""
    peer = peers.PEERS["onnxruntime-int8"]
    if peers.absent(peer):
        pytest.skip(peers.absent(peer))
    work = small(name)
    outputs = peers.prepare_peer(peer, work, 1)(work.inputs)
    assert outputs.shape == (3, work.network.shapes["output"][0]) and np.abs(outputs).max() > 0
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3  # it warns that such a file is for this machine only
    onnxruntime.InferenceSession(ann_pass._Onnx(work.network).model(work.constant), options, ["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    connections = sum(isinstance(layer, Affine | Conv2d) for layer in work.network.nodes.values())
    assert kinds.count("QLinearConv") + kinds.count("QGemm") == connections, kinds


def test_layers_without_a_form_in_the_int8_pass_are_refused():
    pytest.importorskip("onnx")
    layers = (Upsample2d(2), Flatten(), Affine(np.ones((2, 16), np.int64)), Readout())
    network = Network.sequential(Input((1, 2, 2), Fixed(8, signed=False)), *layers)
    with pytest.raises(UnsupportedError, match=r"upsample2d_1 \(Upsample2d\) has no form in the peers"):
        ann_pass._Onnx(network).model(True)


def test_sizes_are_those_of_the_names():
    """At full size, from the shapes alone where building takes long."""
    work = workloads.build("mlp-b1")
    assert work.inputs.shape == (8, 1, 784) and work.macs == 784 * 1024 + 1024 * 1024 + 10240
    work = workloads.build("lenet-b64", batch=2)
    assert work.inputs.shape == (2, 1, 28, 28) and work.macs == 9 * 32 * 784 + 9 * 32 * 64 * 196 + 3136 * 128 + 1280
    narrow = small("resnet18-b8", size=32)
    assert sum(isinstance(layer, Conv2d) for layer in narrow.network.nodes.values()) == 20
    narrow = small("vgg16-224-b1")
    assert sum(isinstance(layer, Conv2d) for layer in narrow.network.nodes.values()) == 13
    assert narrow.network.shapes["output"] == (1000,)
    assert np.abs(small("vgg-b32-int4").network.nodes["conv2d_1"].weight).max() == 7
    assert np.abs(small("vgg-b32-int8").network.nodes["conv2d_1"].weight).max() == 127


def test_seeds_and_options():
    assert np.array_equal(small("lenet-b64").expected.outputs, small("lenet-b64").expected.outputs)
    assert not np.array_equal(small("lenet-b64").expected.outputs, small("lenet-b64", seed=1).expected.outputs)
    assert small("mlp-b1", density=0.5).inputs.mean() > 0.4
    for wrong in ({"batch": 0}, {"rate": 0.0}, {"density": 2.0}, {"pool": "mean"}, {"steps": 0}):
        with pytest.raises(FormatError):
            small("mlp-b1", **wrong)
    with pytest.raises(FormatError, match="mlp-b256"):
        workloads.build("mlp")


def test_synops_by_hand():
    """A corner pixel is seen by four windows, an edge by six, the middle by nine."""
    weight = np.ones((2, 1, 3, 3), np.int64)
    shape = (1, 3, 3)
    network = Network.sequential(
        Input(shape, Fixed(1, signed=False)), ("conv", Conv2d(weight, padding=1)), IF(1000), Flatten(),
        ("dense", Affine(np.ones((5, 18), np.int64))), Readout(),
    )  # fmt: skip
    frames = np.zeros((2, 1, *shape), np.uint8)
    frames[0, 0, 0, 0, 0] = frames[0, 0, 0, 0, 1] = frames[1, 0, 0, 1, 1] = 1
    found = evaluate.evaluate(network, frames, 2)
    assert found.synops == {"conv": 2 * (4 + 6 + 9), "dense": 0} and found.macs == {"conv": 18 * 9, "dense": 90}


def test_evaluation_refuses_what_it_cannot_say():
    def network(neuron, value):
        return Network.sequential(Input((1,)), Affine(np.array([[value]]), weight_format=Fixed(24)), neuron, Readout())

    codes = np.array([[255]], np.uint8)
    with pytest.raises(RangeError, match="2\\*\\*24"):
        evaluate.evaluate(network(IF(5), 1 << 20), codes, 2)
    with pytest.raises(UnsupportedError, match="integrate-and-fire"):
        evaluate.evaluate(network(LIF(5, Decay.by_shift(2)), 1), codes, 2)


def test_thresholds_hit_the_rate():
    rng = np.random.default_rng(0)
    current = rng.integers(-1000, 1000, (6, 2, 500)).astype(np.float32)
    for rate in (0.05, 0.1, 0.2):
        spikes = evaluate.fire(current, evaluate.threshold_for(current, 6, rate), 6)
        assert abs(spikes.mean() - rate) < 0.01


def test_interleaving_covers_everybody():
    seen = []
    calls = {name: (lambda x, name=name: seen.append(name)) for name in "abc"}
    times = speed.interleave(calls, np.zeros(1), 3, 1e-9)
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3, "c": 3}
    assert "".join(seen[6:]) == "abccbaabc"


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """One quick run of the command, with whatever peers are installed."""
    path = tmp_path_factory.mktemp("speed") / "speed.json"
    options = ["bench", "speed", "--quick", "--workload", "mlp-b1", "--rounds", "2", "--json", str(path)]
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 0, done.output
    return json.loads(path.read_text()), done.output


def test_json(result):
    found, text = result
    installed = [name for name, peer in peers.PEERS.items() if not peers.absent(peer)]
    counts = [row for row in found["rows"] if row["kind"] == "count"]
    found["rows"] = [row for row in found["rows"] if row["kind"] != "count"]
    assert [row["peer"] for row in found["rows"]] == installed
    assert [row["peer"] for row in counts] == ["onnxruntime-int8"] * ("onnxruntime-int8" in installed)
    assert all(row["ratio"] > 0 and row["equal"] is None for row in counts)
    peaks = found["machine"]["peaks"]
    assert peaks["products"] > 0 and peaks["additions"] > 0 and all(speed > 0 for speed in peaks["read"].values())
    assert set(found["absent"]) == set(peers.PEERS) - set(installed)
    for row in found["rows"]:
        assert row["workload"] == "mlp-b1" and row["threads"] == 1 and row["kind"] == peers.PEERS[row["peer"]].kind
        assert row["kind"] in ("snn", "ann-int8") and row["equal"] is (True if row["kind"] == "snn" else None)
        low, high = row["spread"]
        assert 0 < low <= row["ratio"] <= high and row["ours_ms"] > 0 and row["peer_ms"] > 0
        assert row["peer"] in text
    (facts,) = found["workloads"]
    assert facts["buffer_bytes"] == sum(facts["buffers"].values()) > 0 and facts["synops_per_second"] > 0
    assert facts["macs_per_step"] == 1861632 and all(0.05 <= r <= 0.2 for r in facts["rates"].values())
    assert found["settings"]["rounds"] == 2 and found["machine"]["cores"] >= 1
    for name in found["absent"]:
        assert f"absent: {name}" in text


def test_absent_peers_are_named(monkeypatch, capsys):
    gone = peers.Peer("gone", "snn", ("no-such-package-anywhere",), lambda w, n: None, "")
    broken = peers.Peer("broken", "snn", ("numpy",), lambda w, n: __import__("no_such_module_anywhere"), "")
    monkeypatch.setitem(peers.PEERS, "gone", gone)
    monkeypatch.setitem(peers.PEERS, "broken", broken)
    options = {"batch": 1, "width": 1 / 8}
    found = speed.measure("mlp-b1", peers=["gone", "broken"], rounds=1, seconds=1e-6, options=options)
    assert found["rows"] == [] and set(found["absent"]) == {"gone", "broken"}
    assert "no-such-package-anywhere is not installed" in found["absent"]["gone"]
    facts = {key: value for key, value in found.items() if key != "rows"}
    machine = speed.machine() | {"peaks": {"products": 1, "additions": 1, "read": {}}}
    shown = {"rows": [], "workloads": [facts], "scaling": [], "absent": found["absent"], "machine": machine,
             "settings": {"rounds": 1, "threads": 1}}  # fmt: skip
    present.show_speed(Console(None), shown)
    text = capsys.readouterr().out
    assert "absent: gone (no-such-package-anywhere is not installed)" in text and "absent: broken" in text


@pytest.mark.parametrize("name", workloads.NAMES)
def test_the_count_path_of_a_workload(name):
    """Max-pools and 255 levels, one step of inputs: the integers of the layers."""
    work = small(name)
    if name == "lif-b64":
        with pytest.raises(UnsupportedError, match="lif_2 leaks"):
            count.prepare_count(work, 1)
        return
    network = count.counted(work)
    assert {layer.max_count for layer in network.nodes.values() if layer.fires} == {count.LEVELS}
    inputs = work.inputs if work.constant else work.inputs[0]
    found = count.prepare_count(work, 1)(work.inputs)
    assert np.array_equal(found, integer_ann(network, inputs, steps=1, path="step").outputs) and found.any()


def test_a_wrong_count_is_not_timed(monkeypatch):
    exact = count.integer_ann

    def wrong(*arguments, **options):
        result = exact(*arguments, **options)
        result.outputs[0, 0] += 1
        return result

    monkeypatch.setattr(count, "integer_ann", wrong)
    with pytest.raises(MismatchError, match="outputs of the count path differ"):
        count.prepare_count(small("mlp-b1"), 1)


def test_a_wrong_answer_is_not_timed(monkeypatch):
    def build(name, **options):
        work = small(name)
        work.expected.outputs[0, 0] += 1
        return work

    monkeypatch.setattr(speed, "build", build)
    with pytest.raises(MismatchError, match="differ from the evaluation"):
        speed.measure("mlp-b1", peers=[], rounds=1, seconds=1e-6)


def test_a_wrong_peer_is_an_error(monkeypatch):
    row = {"workload": "mlp-b1", "peer": "torch-step", "equal": False}
    monkeypatch.setattr(speed, "_in_process", lambda job: {"rows": [row], "absent": {}})
    with pytest.raises(MismatchError, match="mlp-b1 \\(torch-step\\)"):
        speed.run(["mlp-b1"], peers=[])


def test_threads_and_scaling(monkeypatch, capsys):
    """All points of all axes, at small size and in this process."""

    def in_process(job):
        size = {"batch": min(4, job["options"].get("batch", 4)), "width": 1 / 16}
        job = job | {"options": job["options"] | size}
        return speed.measure(job.pop("name"), **job)

    monkeypatch.setattr(speed, "_in_process", in_process)
    found = speed.run(["mlp-b256"], rounds=1, threads=2, peers=[], seconds=1e-6, scaling=True)
    assert [point["axis"] for point in found["scaling"]] == [a for a, (_, ps) in speed.SCALING.items() for _ in ps]
    assert [p["value"] for p in found["scaling"] if p["axis"] == "steps"] == [1, 2, 4, 8, 16, 32]
    assert found["workloads"][0]["speedup"]["threads"] == 2
    json.dumps(found, allow_nan=False)
    present.show_speed(Console(None), found)
    text = capsys.readouterr().out
    assert "Threads against one" in text and "How cost grows" in text


def test_wrong_use():
    for options, part in (
        (["--workload", "nope"], "mlp-b256"),
        (["--peers", "nope"], "spikingjelly-m"),
        (["--rounds", "0"], "rounds"),
    ):
        done = CliRunner().invoke(main, ["bench", "speed", *options])
        assert done.exit_code == 2 and part in done.output, done.output
    done = CliRunner().invoke(main, ["bench", "speed", "--help"])
    assert done.exit_code == 0 and "--workload" in done.output and "--real" in done.output


def test_real_networks_need_data(monkeypatch):
    monkeypatch.delenv("INTSNN_DATA", raising=False)
    monkeypatch.setattr(speed, "_in_process", lambda job: {"rows": [], "absent": {}, "name": job["name"]})
    assert speed.run(["mlp-b1"], peers=[], real=True)["absent"] == {"real networks": "INTSNN_DATA is not set"}


@pytest.mark.parametrize("name, layers", [("real-mlp", 2), ("real-lenet5", 4)])
def test_a_real_network(name, layers, data_root):
    """Signed neurons, caps, biases and max-pools in the peers too; the MLP needs them in float64."""
    found = speed.measure(name, peers=["torch-step", "torch-folded"], rounds=1, seconds=1e-6)
    assert len(found["rates"]) == layers and all(0 < rate < 1 for rate in found["rates"].values())
    for row in found["rows"]:
        assert row["equal"] is True


def test_plots(result, tmp_path, monkeypatch):
    if not _has("matplotlib"):
        pytest.skip("matplotlib is not installed")
    found = result[0] | {"scaling": []}
    rows = found["rows"] or [
        {"workload": "w", "peer": "p", "ratio": 2.0, "spread": [1.0, 3.0], "ours_ms": 1.0, "peer_ms": 2.0}
    ]
    points = [{"axis": "steps", "value": n, "workload": "w", "ours_ms": n, "rows": rows} for n in (1, 2)]
    written = plots.plot_speed(found | {"rows": rows, "scaling": points}, str(tmp_path / "new"))
    assert [Path(path).name for path in written] == ["speed.png", "speed.svg", "scaling.png", "scaling.svg"]
    assert all(Path(path).stat().st_size > 1000 for path in written)


def test_plots_without_matplotlib(monkeypatch, tmp_path):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else find(name, *a))
    done = CliRunner().invoke(main, ["bench", "speed", "--plot", str(tmp_path)])
    assert done.exit_code == 3 and "intsnn[report]" in done.output


def test_nothing_heavy_before_it_is_needed():
    code = (
        "import sys\nfrom intsnn.bench.speed import peers, plots, measure as speed, workloads\n"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'snntorch', 'spikingjelly', 'matplotlib', 'numba') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=dict(os.environ), timeout=HANGING
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def _has(name):
    import importlib.util

    return importlib.util.find_spec(name) is not None
