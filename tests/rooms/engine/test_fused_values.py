"""The fused path on networks of every kind: what it takes beside integrate-and-fire on lists of spikes."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import DETERMINISTIC, cases, neurons

from intsnn.engine.backends.fused.accepts import REFUSED
from intsnn.engine.backends.fused.runner import prepare
from intsnn.engine.simulation import simulate
from intsnn.errors import UnsupportedError
from intsnn.formats.fixed import Fixed, Rounding
from intsnn.layers import LIF, Add, Affine, Conv2d, Decay, Flatten, Input, Readout, SignedIF
from intsnn.network.spiking import Network


def fed_forward(network):
    """`network` without delays and random roundings."""

    def sure(decay):
        which = int(np.max(decay.shift)) % len(DETERMINISTIC)
        return replace(decay, rounding=DETERMINISTIC[which]) if random(decay) else decay

    def random(decay):
        return decay.rounding is Rounding.STOCHASTIC

    nodes = {}
    for name, layer in network.nodes.items():
        if layer.weighted:
            layer = replace(layer, delay=0)
        elif layer.fires:
            refractory = replace(layer.refractory, decay=sure(layer.refractory.decay))
            layer = replace(layer, v_decay=sure(layer.v_decay), u_decay=sure(layer.u_decay), refractory=refractory)
        nodes[name] = layer
    return Network(nodes, network.edges, t_drive=network.t_drive, levels=network.levels)


def equal(network, inputs, path="step", **options):
    """Whether the fused path gives the outputs, extra steps and rest of another one; None where it refuses."""
    want = simulate(network, inputs, path=path, **options)
    options.pop("seed", None)
    for threads in (1, 2):
        try:
            got = prepare(network, threads=threads, **options)(inputs)
        except UnsupportedError as error:
            assert any(re.search(words.format(r"\S+"), str(error)) for words in REFUSED.values())
            return str(error)
        assert got.outputs.tolist() == want.outputs.tolist()
        assert got.extra_steps.tolist() == want.extra_steps.tolist()
        assert got.settled == want.settled and got.steps == want.steps
        assert got.predictions.tolist() == want.predictions.tolist()
    return None


@settings(deadline=None, max_examples=150)
@given(case=cases(recurrent=False, samples=st.sampled_from((1, 5, 20))))
def test_fused_equals_steps_on_networks_of_every_kind(case):
    assert equal(fed_forward(case.network), case.inputs, **case.options) is None


@settings(deadline=None, max_examples=60)
@given(case=cases(recurrent=False, samples=2, wide=True))
def test_wide_networks_are_equal_or_refused(case):
    equal(fed_forward(case.network), case.inputs, **case.options)


@settings(deadline=None, max_examples=40)
@given(case=cases(recurrent=False, samples=2))
def test_fused_equals_the_reference(case):
    assert equal(fed_forward(case.network), case.inputs, "reference", **case.options) is None


@st.composite
def long_runs(draw):
    """Neurons of any kind, dense or on maps, in more channels than a tile and more steps than a pass; and frames."""
    channels = draw(st.sampled_from((3, 35, 67)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    neuron = draw(neurons(channels))
    if draw(st.booleans()):
        first = Conv2d(rng.integers(-9, 10, (channels, 2, 2, 2)), bias=draw(st.sampled_from((None, 3))))
        layers = [Input((2, 3, 4), Fixed(3)), first, neuron]
        layers += [Conv2d(rng.integers(-9, 10, (channels, 1, 2, 2)), groups=channels), draw(neurons(channels))]
        layers += [Flatten(), Affine(rng.integers(-9, 10, (5, 2 * channels)))]
    else:
        layers = [Input((6,), Fixed(3)), Affine(rng.integers(-9, 10, (channels, 6))), neuron]
        layers += [Affine(rng.integers(-9, 10, (channels, channels))), draw(neurons(channels))]
        layers += [Affine(rng.integers(-9, 10, (5, channels)))]
    layers.append(Readout(draw(st.sampled_from(("sum", "first_spike")))))
    network = fed_forward(Network.sequential(*layers, t_drive=draw(st.sampled_from((None, 18, 40)))))
    shape = (40, draw(st.sampled_from((2, 19))), *layers[0].shape)
    return network, rng.integers(-4, 4, shape) * (rng.random(shape) < 0.5)


@settings(deadline=None, max_examples=80)
@given(run=long_runs(), settle=st.booleans(), steps=st.sampled_from((None, 17, 45)))
def test_long_runs_of_every_neuron(run, settle, steps):
    network, frames = run
    assert equal(network, frames, steps=steps, settle=settle) is None


@pytest.mark.parametrize("settle", [False, True])
@pytest.mark.parametrize("frames", [(), ("a",), ("a", "b"), ("c",)])
def test_several_inputs_and_outputs(settle, frames):
    """Maps, rows and constants join; neurons, maps, sums and first spikes go out."""
    rng = np.random.default_rng(len(frames))

    def weights(*size):
        return rng.integers(-9, 10, size)

    nodes = {
        "a": Input((2, 3, 4), Fixed(4)), "b": Input((3, 3, 4), Fixed(1, signed=False)), "c": Input((7,), Fixed(12)),
        "ca": Conv2d(weights(3, 2, 1, 1), bias=4), "join": Add(), "n": SignedIF([9, 20, 35], 3), "f": Flatten(),
        "d": Affine(weights(5, 36)), "dc": Affine(weights(5, 7)), "both": Add(), "m": LIF(90, Decay.by_shift(2)),
        "maps": Readout(), "first": Readout("first_spike"), "sums": Readout(), "w": Affine(weights(4, 5)),
    }  # fmt: skip
    edges = [
        ("a", "ca"), ("ca", "join"), ("b", "join"), ("join", "n"), ("n", "f"), ("f", "d"), ("d", "both"), ("c", "dc"),
        ("dc", "both"), ("both", "m"), ("join", "maps"), ("m", "first"), ("m", "w"), ("w", "sums"),
    ]  # fmt: skip
    network = Network(nodes, edges, t_drive=6, levels=3)
    inputs = {}
    for name, steps in (("a", 6), ("b", 9), ("c", 7)):
        fmt, lead = nodes[name].format, (steps, 5) if name in frames else (5,)
        inputs[name] = rng.integers(fmt.min, fmt.max + 1, (*lead, *nodes[name].shape))
    want = simulate(network, inputs, settle=settle, path="step")
    got = prepare(network, settle=settle)(inputs)
    assert list(got.named) == list(want.named) == ["maps", "first", "sums"]
    for name, values in want.named.items():
        assert values.any() and got.named[name].tolist() == values.tolist(), name
    assert got.outputs.tolist() == want.outputs.tolist() and got.extra_steps.tolist() == want.extra_steps.tolist()
