"""Brevitas as the toolkit: half-up rounding, power-of-two and free scales, exported as they are."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install intsnn[qat]")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("brevitas", reason="brevitas is not installed: pip install intsnn[qat]")

from networks.qat import one_thread  # noqa: E402, F401

from intsnn.conversion.spikes import NeuronRule, convert  # noqa: E402
from intsnn.datasets.catalogue import load  # noqa: E402
from intsnn.errors import FormatError  # noqa: E402
from intsnn.formats.fixed import Fixed  # noqa: E402
from intsnn.models.qat.bridge import compare_levels, quantised  # noqa: E402
from intsnn.models.qat.network import QuantNetwork  # noqa: E402
from intsnn.models.qat.quantisers.toolkit import SCALES, ToolkitReLU, ToolkitWeight  # noqa: E402
from intsnn.models.qat.recipes import recipe  # noqa: E402
from intsnn.models.qat.training import train  # noqa: E402
from intsnn.models.training.architectures import blueprint  # noqa: E402
from intsnn.network.quantised import QuantReLU  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of the toolkit


def is_power_of_two(value):
    return math.frexp(value)[0] == 0.5


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("bits", [2, 4, 7])
def test_activations_give_the_levels_of_the_integer_side(scales, bits):
    module = ToolkitReLU(scales).double()
    module.set_bits(bits)
    module.train()
    module(torch.from_numpy(np.random.default_rng(0).normal(0, 1, (100, 40))))  # the toolkit looks at it
    module(torch.zeros(1, 40, dtype=torch.float64))
    module.eval()
    step, levels = float(module.step.detach()), (1 << bits) - 1
    assert is_power_of_two(step) == (scales == "power-of-two")
    x = np.linspace(-2 * step, (levels + 2) * step, 3001)
    if scales == "power-of-two":  # exact ties
        x = np.concatenate([x, (np.arange(-2, levels + 2) + 0.5) * step])
    node = QuantReLU(name="relu", inputs=("x",), step=step, levels=levels)
    assert np.array_equal(module(torch.from_numpy(x)).detach().numpy(), node.apply([x]))


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_are_codes_times_scale(scales, bits):
    weight = torch.nn.Parameter(torch.from_numpy(np.random.default_rng(1).normal(0, 0.2, (6, 30))))
    module = ToolkitWeight(scales).double()
    module.set_bits(bits, weight)
    codes, scale, fmt = module.codes(weight)
    top = (1 << (bits - 1)) - 1
    assert fmt == Fixed(bits, narrow=True) and int(codes.abs().max()) <= top
    assert is_power_of_two(float(scale[0])) == (scales == "power-of-two")
    ratio = weight.detach().numpy() / float(scale[0])
    assert np.array_equal(codes.numpy(), np.clip(np.floor(ratio + 0.5), -top, top))
    assert torch.equal(module(weight).detach(), codes * scale[0])
    module(weight).sum().backward()
    assert weight.grad.abs().sum() > 0
    with pytest.raises(FormatError, match="belongs to the parameter"):
        module(weight.detach().clone())


@pytest.mark.parametrize("scales", SCALES)
def test_a_merged_network_is_exported_as_it_is(scales):
    torch.manual_seed(0)
    plan = blueprint("convnet", width=0.5)
    network = QuantNetwork(plan, lambda: ToolkitReLU(scales), lambda layer: ToolkitWeight(scales))
    x = torch.rand(64, 1, 8, 8)
    network.train()
    for _ in range(10):
        network(x)
    network.eval()
    before = network(x)
    network.merge()
    assert torch.allclose(network(x), before, atol=1e-5)
    assert all(module.norm is None and module.bias is not None for module in network.linear.values())
    network.set_bits(4, 3, None, x)
    network.train()
    network(x)
    network.eval()
    found = quantised(network)
    bias = {name: module.bias.detach().numpy() for name, module in network.linear.items()}
    assert all(np.array_equal(found.graph[name].bias, bias[name].astype(np.float64)) for name in bias)
    conversion = convert(found, NeuronRule("ca-lif"))
    levels = compare_levels(network, conversion.network, np.random.default_rng(3).integers(0, 256, (40, 1, 8, 8)))
    assert levels.differing[1] == 0 and levels.differing[0] <= 2, levels
    if scales == "power-of-two":  # layers that are fed by counts need shifts alone
        for name in ("conv2_relu", "dense1_relu"):
            theta = {int(t) for t in np.ravel(conversion.network.nodes[name].threshold)}
            assert len(theta) == 1 and is_power_of_two(theta.pop())


@pytest.mark.parametrize("name", ["digits-ca-lif", "digits-ca-lif-free"])
def test_training_with_the_toolkit_resumes_to_the_same_bits(name, tmp_path):
    chosen = recipe(name)
    stages = tuple(replace(stage, epochs=2) for stage in chosen.stages)
    chosen, data = replace(chosen, stages=stages, width=0.25), load("digits:train:320")
    whole = train(chosen, data, device="cpu").network.state_dict()
    for cut in (1, 2, 3):
        path = tmp_path / f"{cut}.pt"
        train(chosen, data, device="cpu", checkpoint=path, stop_after=cut)
        again = train(chosen, data, device="cpu", checkpoint=path).network.state_dict()
        assert whole.keys() == again.keys() and all(torch.equal(whole[key], again[key]) for key in whole)


def test_other_scales_are_refused():
    with pytest.raises(FormatError, match="power-of-two, free"):
        ToolkitReLU("powers")
