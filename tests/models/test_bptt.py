"""Training through time: neuron and surrogate, integers equal to torch, resume, export, wrong use."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="torch is not installed: pip install intsnn[qat]")

from networks.qat import one_thread  # noqa: E402, F401

from intsnn.cli.main import main  # noqa: E402
from intsnn.engine.simulation import simulate  # noqa: E402
from intsnn.errors import ConversionError, DataNotFoundError, FormatError, ImportRefused  # noqa: E402
from intsnn.files.network_file import load, save  # noqa: E402
from intsnn.models.bptt.compare import compare_spikes, float_spikes  # noqa: E402
from intsnn.models.bptt.integers import fold, integer_network, torch_integers  # noqa: E402
from intsnn.models.bptt.network import EventNetwork  # noqa: E402
from intsnn.models.bptt.neuron import lif  # noqa: E402
from intsnn.models.bptt.recipes import RECIPES, Binning, EventRecipe, recipe  # noqa: E402
from intsnn.models.bptt.training import Frames, build, evaluate, scatter_norms, train  # noqa: E402
from intsnn.models.bptt.work import integer_accuracy, weight_bytes, write_floats  # noqa: E402
from intsnn.models.training.architectures import blueprint  # noqa: E402
from intsnn.models.training.blueprint import Blueprint, Chain, Conv, Dense, Flatten, MaxPool, Relu, Upsample  # noqa: E402

TINY = EventRecipe(
    name="tiny", data="digits-saccades", width=0.03125, binning=Binning(steps=4, bin_us=78_750, clip=1), batch=16,
    float_epochs=1, epochs=2, hard_epochs=1, seed=3, first="same", last="same", decay=(1, 1),
)  # fmt: skip


def random_frames(count, steps=4, size=17, clip=1, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.integers(1, clip + 1, (count, steps, 2, size, size)) * (rng.random((count, steps, 2, size, size)) < 0.2)
            ).astype(np.uint8)  # fmt: skip


def some_data(count=96, seed=0):
    """Two classes that differ in which half of the sensor is busy."""
    frames = random_frames(count, seed=seed)
    labels = np.arange(count) % 2
    frames[labels == 0, :, :, :8] = 0
    frames[labels == 1, :, :, 9:] = 0
    return Frames("halves", frames, labels, 2)


def randomised(network, seed=0):
    """BatchNorms as after some training, signs of gamma mixed."""
    scatter_norms(network, seed)
    return network.eval()


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.75])
def test_spikes_and_gradient_are_those_of_autograd(reset, decay):
    """The same neuron written with torch operations, its spike a function with the surrogate as gradient."""

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v):
            ctx.save_for_backward(v)
            return (v >= 1).to(v)

        @staticmethod
        def backward(ctx, grad):
            (v,) = ctx.saved_tensors
            return grad * 1.5 / (1 + (torch.pi / 2 * 3.0 * (v - 1)) ** 2)

    generator = torch.Generator().manual_seed(0)
    x = torch.randn((7, 3, 5), generator=generator, dtype=torch.float64, requires_grad=True)
    v, spikes = torch.zeros(3, 5, dtype=torch.float64), []
    for t in range(7):
        v = decay * v + x[t]
        spike = Spike.apply(v)
        v = v * (1 - spike.detach()) if reset == "zero" else v - spike.detach()
        spikes.append(spike)
    weights = torch.randn((7, 3, 5), generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad((torch.stack(spikes) * weights).sum(), x)
    found = lif(x, decay, reset, 3.0)
    assert torch.equal(found, torch.stack(spikes)) and 0 < found.sum() < found.numel()
    (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    assert (gradient - expected).abs().max() < 1e-12


@pytest.mark.parametrize("weight", ["binary", "ternary", "five", "powers", "3-bit", "4-bit"])
def test_integers_equal_torch_for_every_kind_of_weight(weight):
    found = replace(TINY, weight=weight, seed=5)
    network = build(found, (2, 17, 17), 10)
    network.quantise()
    randomised(network)
    result = compare_spikes(network, integer_network(network), random_frames(20), bits=(4, 20))
    assert result.integers == 0 and result.spikes > 1000
    assert result.double_by_bits[20] == 0 and result.double_by_bits[4] > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"decay": (3, 2)}, {"decay": (0, 0)}, {"decay": (1, 0)}, {"reset": "subtract"}, {"first": "8-bit"},
        {"first": "8-bit", "last": "8-bit"}, {"fraction_bits": 0}, {"binning": Binning(steps=4, clip=3)},
        {"architecture": "lenet", "width": 0.1}, {"architecture": "vgg11", "width": 0.05},
    ],
    ids=str,
)  # fmt: skip
def test_integers_equal_torch_for_every_rule(changes):
    found = replace(TINY, **changes)
    network = build(found, (2, 17, 17), 10)
    network.quantise()
    randomised(network, 1)
    frames = random_frames(10, clip=found.binning.clip)
    result = compare_spikes(network, integer_network(network), frames, bits=())
    assert result.integers == 0 and result.spikes > 100


def test_thresholds_and_biases_are_the_nearest_integers():
    """From the parameters themselves: the threshold is 2**f / a, the bias 2**f b / a, each rounded half up."""
    network = build(TINY, (2, 17, 17), 10)
    network.quantise()
    randomised(network, 3)
    for name, folded in fold(network).items():
        module = network.linear[name]
        alpha = float(module.quantiser.alpha.detach())
        if folded.threshold is None:
            expected = [(int(folded.bias[i]), float(bias) / alpha * 256) for i, bias in enumerate(module.bias.detach())]
        else:
            expected = []
            for i in range(len(folded.codes)):
                gamma, beta, mu, variance = (
                    float(values.detach()[i])
                    for values in (
                        module.norm.weight, module.norm.bias, module.norm.running_mean, module.norm.running_var
                    )
                )  # fmt: skip
                sigma = (variance + module.norm.eps) ** 0.5
                a, b = abs(gamma) * alpha / sigma, beta - gamma * mu / sigma
                expected += [(int(folded.threshold[i]), 256 / a), (int(folded.bias[i]), 256 * b / a)]
        for found, real in expected:
            assert -0.5 - 1e-6 < real - found < 0.5 + 1e-6, (name, found, real)
    assert abs(folded.bias).max() > 0


def test_the_file_holds_the_network(tmp_path):
    network = build(TINY, (2, 17, 17), 10)
    network.quantise()
    randomised(network)
    save(integer_network(network, metadata={"recipe": "tiny"}), tmp_path / "net.h5")
    again = load(tmp_path / "net.h5")
    frames = random_frames(10)
    assert compare_spikes(network, again, frames, bits=()).integers == 0
    assert again.metadata["events"]["steps"] == 4 and again.t_drive == 4
    spikes, outputs = torch_integers(network, frames)
    run = simulate(again, frames.swapaxes(0, 1))
    np.testing.assert_array_equal(run.outputs, outputs)
    assert set(spikes) == set(network.spiking) and run.overflows == 0
    data = Frames("random", frames, outputs.argmax(1), 10)
    assert integer_accuracy(again, data) == 100.0


def test_a_pool_fires_where_any_neuron_does():
    chain = Chain()
    chain.add(Conv, "conv", outputs=3, kernel=1)
    chain.add(Relu, "neurons")
    chain.add(MaxPool, "pool", kernel=3, stride=2, padding=1)
    chain.add(Flatten, "flat")
    chain.add(Dense, "classes", outputs=2, norm=False)
    network = EventNetwork(Blueprint("one", (2, 9, 9), tuple(chain.layers)), TINY)
    network.quantise()
    randomised(network, 2)
    frames = random_frames(8, size=9)
    run = simulate(integer_network(network), frames.swapaxes(0, 1), record=("spikes",))
    neurons, pool = run.records["neurons.spikes"], run.records["pool.spikes"]
    padded = np.pad(neurons, ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(3, 4))[:, :, :, ::2, ::2]
    np.testing.assert_array_equal(pool, windows.max((5, 6)))
    assert 0 < pool.mean() < 1


def test_negative_gamma_turns_the_codes_around():
    network = build(TINY, (2, 17, 17), 10)
    network.quantise()
    before = fold(network)["conv1"]
    with torch.no_grad():
        network.linear["conv1"].norm.weight.neg_()
    after = fold(network)["conv1"]
    np.testing.assert_array_equal(after.codes, -before.codes)
    np.testing.assert_array_equal(after.threshold, before.threshold)
    with torch.no_grad():
        network.linear["conv1"].norm.weight[0] = 0.0  # reads nothing: a threshold out of reach, not a crash
    randomly = random_frames(3)
    assert compare_spikes(network.eval(), integer_network(network), randomly, bits=()).integers == 0


def test_training_learns_and_resumes_in_the_same_bits(tmp_path):
    data, test = some_data(), some_data(40, seed=1)
    log = []
    whole = train(TINY, data, test, log=log.append)
    assert [entry["name"] for entry in log] == ["float", "binary", "binary"]
    assert whole.history[-1]["accuracy"] > 80
    assert evaluate(whole.network, test) == whole.history[-1]["accuracy"]
    state = tmp_path / "state"
    for _ in range(3):
        parts = train(TINY, data, test, checkpoint=state, stop_after=1)
    for (name, one), other in zip(whole.network.state_dict().items(), parts.network.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    done = train(TINY, data, test, checkpoint=state)  # nothing is left to do
    assert torch.equal(done.network.linear["conv1"].weight, whole.network.linear["conv1"].weight)
    integers = integer_network(whole.network)
    assert compare_spikes(whole.network, integers, test.frames, bits=()).integers == 0
    assert abs(integer_accuracy(integers, test) - whole.history[-1]["accuracy"]) <= 5
    with pytest.raises(FormatError, match=r"belongs to another training \(recipe differ\)"):
        train(replace(TINY, seed=4), data, test, checkpoint=state)
    state.write_bytes(b"damaged")
    with pytest.raises(ImportRefused, match="no checkpoint that can be read"):
        train(TINY, data, checkpoint=state)


def test_hard_epochs_take_the_steps_forward_and_the_sigmoids_backward():
    network = build(TINY, (2, 17, 17), 10)
    network.quantise()
    module = network.linear["conv1"]
    codes, scale, _ = module.quantiser.codes(module.weight)
    gradients = []
    for epoch in (0, 1):
        network.train()
        network.begin_epoch(epoch, 2)
        module.quantiser.tau = 100.0
        value = module.quantiser(module.weight)
        assert module.quantiser.hard == bool(epoch)
        assert bool((value.detach() - codes * scale[0]).abs().max() < 1e-6) == bool(epoch)
        gradients.append(torch.autograd.grad(value.sum(), module.weight)[0])
    assert torch.equal(*gradients) and gradients[0].abs().max() > 0


def test_a_twin_has_no_integers_but_a_file(tmp_path):
    network = build(replace(TINY, weight="float"), (2, 17, 17), 10)
    network.quantise()
    with pytest.raises(ConversionError, match="layer 'conv1': its weights are float"):
        integer_network(network.eval())
    write_floats(network, tmp_path / "floats.h5")
    count = sum(module.weight.numel() for module in network.linear.values())
    binary = build(TINY, (2, 17, 17), 10)
    binary.quantise()
    weights, stored = weight_bytes(integer_network(binary.eval()))
    assert weights == count and count / 8 <= stored < count / 8 + 4
    assert (tmp_path / "floats.h5").stat().st_size > 4 * count


def test_the_float_network_is_the_float_network():
    """What is recorded in evaluation is what the logits are made of."""
    network = build(TINY, (2, 17, 17), 10)
    network.quantise()
    randomised(network)
    frames = random_frames(4)
    spikes = float_spikes(network, frames, torch.float32)
    last = network.linear["classes"]
    counts = torch.from_numpy(spikes["dense1_relu"].sum(0).astype(np.float32))
    expected = counts @ last.quantiser(last.weight).T / 4 + last.bias
    with torch.no_grad():
        found = network(torch.from_numpy(frames.swapaxes(0, 1).astype(np.float32)))
    assert (found - expected).abs().max() < 1e-5


def test_command_trains_exports_and_runs(tmp_path):
    def call(*arguments):
        return CliRunner().invoke(main, list(map(str, arguments)))

    net, out = tmp_path / "net.h5", tmp_path / "out.json"
    options = ["--data", "digits-saccades:train:96", "--test", "digits-saccades:test:40", "--epochs", 1]
    done = call("train", "--recipe", "plif-digits-saccades-binary", "-o", net, *options, "--json", out)
    assert done.exit_code == 0, done.output
    values = json.loads(out.read_text())
    assert (
        values["differing_integers"] == 0
        and values["weight_bytes"] * 8 > values["weights"] > values["weight_bytes"] * 5
    )
    done = call("run", net, "--data", "digits-saccades:test:40", "--json", out)
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text())["accuracy"] == values["accuracy"]
    done = call("run", net, "--data", "digits:test:40")
    assert done.exit_code == 3 and "its samples are (1, 8, 8)" in done.output
    done = call("run", "zoo:digits-qffs", "--data", "digits-saccades:test:4")
    assert done.exit_code == 3 and "does not say how events become frames" in done.output
    done = call("run", net, "--data", "digits-saccades:test:400")
    assert done.exit_code == 2 and "400 are asked for" in done.output
    done = call("train", "--recipe", "plif-digits-saccades-float", "-o", tmp_path / "twin.h5", *options)
    assert done.exit_code == 0 and "the weights are float" in done.output


def test_wrong_recipes_and_networks_are_said():
    with pytest.raises(DataNotFoundError, match="no recipe 'none'"):
        recipe("none")
    for changes, part in (
        ({"weight": "six"}, "weight is 'six'"), ({"last": "x"}, "last is 'x'"), ({"reset": "none"}, "reset is 'none'"),
        ({"decay": (3, 1)}, "the decay 3 / 2"), ({"hard_epochs": 9}, "of the last 9 hard"),
        ({"fraction_bits": 17}, "17 binary places"),
    ):  # fmt: skip
        with pytest.raises(FormatError, match=part):
            replace(TINY, **changes)
    with pytest.raises(ConversionError, match="is a chain of"):
        EventNetwork(blueprint("resnet20", input_shape=(2, 17, 17)), TINY)
    layers = (
        Upsample(name="up", inputs=("input",)), Flatten(name="flat", inputs=("up",)),
        Dense(name="end", inputs=("flat",), outputs=3, norm=False),
    )  # fmt: skip
    with pytest.raises(ConversionError, match="'up'.*is a chain of"):
        EventNetwork(Blueprint("x", (2, 4, 4), layers), TINY)
    assert all(found.note and found.data for found in RECIPES.values())
