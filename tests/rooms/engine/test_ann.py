"""The theorem: run until quiet, the network has the counts of the integer quantised ANN, in every neuron."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsnn.engine.ann import equality_conditions, integer_ann
from intsnn.engine.inputs import Events
from intsnn.engine.simulation import simulate
from intsnn.errors import UnsupportedError
from intsnn.formats.fixed import Fixed, Overflow
from intsnn.layers import (
    IF,
    LIF,
    QFFS,
    Add,
    Affine,
    AvgPool2d,
    Conv2d,
    CubaLIF,
    Decay,
    Flatten,
    Input,
    MaxPool2d,
    Readout,
    Refractory,
    Scale,
    SignedIF,
    SumPool2d,
)
from intsnn.network.spiking import Network

SEED = st.integers(0, 2**32 - 1)


def converted(seed, levels, *, late=0, delay=0, bias_mode="spread", drive=None, wide=False, **neuron):
    """A random network as conversion makes them: conv, residual join, pools, dense, readout."""
    rng = np.random.default_rng(seed)
    channels = 17 if wide else 3
    height, width = 6, 5

    def unit(channels, low, high):
        theta = rng.integers(low, high, channels)
        parts = neuron | ({"v_negative": -theta} if neuron.get("v_negative") == "-theta" else {})
        return replace(SignedIF(theta, levels, reset_delay=late), **parts)

    def weighted(*shape):
        total = rng.integers(-20, 60, shape[0])
        return {"weight": rng.integers(-7, 8, shape), "bias": total, "bias_mode": bias_mode}

    nodes = {
        "in": Input((2, height, width), Fixed(4, signed=False)),
        "conv1": Conv2d(**weighted(channels, 2, 3, 3), padding=((1, 1), (0, 2))),
        "n1": unit(channels, 100, 500),
        "conv2": Conv2d(**weighted(channels, channels, 3, 3), padding=1, delay=delay),
        "skip": Scale(rng.integers(1, 9, channels)),
        "join": Add(),
        "n2": unit(channels, 8, 60),
        "max": MaxPool2d((2, 2), stride=1, padding=((0, 1), (1, 0))),
        "depth": Conv2d(**weighted(channels, 1, 2, 2), groups=channels, stride=2, delay=delay),
        "n3": unit(channels, 4, 20),
        "sums": SumPool2d(2, stride=1),
        "n4": unit(channels, 1, 5),
        "flat": Flatten(),
        "dense1": Affine(**weighted(6, channels * 2), multiplier=rng.integers(1, 3, 6)),
        "n5": unit(6, 5, 25),
        "dense2": Affine(**weighted(4, 6)),
        "out": Readout(),
    }  # fmt: skip
    edges = [
        ("in", "conv1"), ("conv1", "n1"), ("n1", "conv2"), ("n1", "skip"), ("conv2", "join"), ("skip", "join"),
        ("join", "n2"), ("n2", "max"), ("max", "depth"), ("depth", "n3"), ("n3", "sums"), ("sums", "n4"),
        ("n4", "flat"), ("flat", "dense1"), ("dense1", "n5"), ("n5", "dense2"), ("dense2", "out"),
    ]  # fmt: skip
    return Network(nodes, edges, t_drive=drive or levels, levels=levels)


def codes(seed, samples=3):
    return np.random.default_rng(seed + 1).integers(0, 16, (samples, 2, 6, 5))


def plain_ann(network, inputs, drive):
    """The quantised ANN by numpy, from the weights alone: levels by layer, outputs. All in int64."""
    values, order = {}, network.order
    for name in order:
        layer = network.nodes[name]
        sources = [values[s] for s in network.inputs_of(name)]
        x = sources[0] if sources else None
        kind = type(layer).__name__
        if kind == "Input":
            values[name] = inputs.astype(np.int64) * drive
        elif kind == "Affine":
            total = layer.bias * (drive if layer.bias_mode == "step" else 1)
            values[name] = np.einsum("oi,bi->bo", layer.weight, x) * layer.multiplier + total
        elif kind == "Conv2d":
            total = layer.bias * (drive if layer.bias_mode == "step" else 1)
            windows = patches(np.pad(x, ((0, 0), (0, 0), *layer.padding)), layer.weight.shape[2:], layer.stride)
            grouped = windows.reshape(len(x), layer.groups, -1, *windows.shape[2:])
            weight = layer.weight.reshape(layer.groups, -1, *layer.weight.shape[1:])
            sums = np.einsum("goikl,bgihwkl->bgohw", weight, grouped)
            values[name] = sums.reshape(len(x), -1, *sums.shape[3:]) + total[:, None, None]
        elif kind == "Scale":
            values[name] = x * layer.scale[:, None, None]
        elif kind == "Add":
            values[name] = sum(sources)
        elif kind == "SumPool2d":
            values[name] = patches(x, layer.kernel_size, layer.stride).sum(axis=(4, 5))
        elif kind == "MaxPool2d":
            padded = np.pad(x, ((0, 0), (0, 0), *layer.padding), constant_values=np.iinfo(np.int64).min)
            values[name] = patches(padded, layer.kernel_size, layer.stride).max(axis=(4, 5))
        elif kind == "Flatten":
            values[name] = x.reshape(len(x), -1)
        elif kind == "Neuron":
            shape = (-1, *[1] * (x.ndim - 2))
            theta, start = (np.broadcast_to(a, x.shape[1:2]).reshape(shape) for a in (layer.threshold, layer.v_initial))
            values[name] = np.clip((x + start) // theta, 0, network.levels)
        else:
            values[name] = x
    return values


def patches(x, kernel, stride):
    """Windows of ``(B, C, H, W)`` as ``(B, C, H', W', kh, kw)``."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    return windows[:, :, :: stride[0], :: stride[1]]


def mismatches(network, inputs, **options):
    """Neurons whose settled count is not the level of the ANN, by layer."""
    ann = integer_ann(network, inputs)
    run = simulate(network, inputs, settle=True, keep_final=True, **options)
    found = {name: int((run.final[f"{name}.counts"] != levels).sum()) for name, levels in ann.levels.items()}
    found["outputs"] = int((run.outputs != ann.outputs).sum())
    return found, run, ann


@settings(max_examples=25)
@given(SEED, st.sampled_from((1, 3, 7, 15)), st.sampled_from(("spread", "once", "step")), st.booleans())
def test_integer_ann_is_the_plain_one(seed, levels, bias_mode, wide):
    network, inputs = converted(seed, levels, bias_mode=bias_mode, wide=wide), codes(seed)
    expected, found = plain_ann(network, inputs, levels), integer_ann(network, inputs)
    assert set(found.levels) == set(network.spiking)
    for name, value in found.levels.items():
        assert np.array_equal(value, expected[name]), name
    assert np.array_equal(found.outputs, expected["out"])
    assert np.array_equal(found.predictions, expected["out"].argmax(axis=1))
    small = integer_ann(network, inputs, batch_size=2)
    assert np.array_equal(small.outputs, found.outputs)


@settings(max_examples=60)
@given(
    SEED, st.sampled_from((1, 3, 7, 15)), st.sampled_from((0, 1)), st.sampled_from((0, 1)),
    st.sampled_from(("spread", "once", "step")), st.booleans(),
)  # fmt: skip
def test_settled_network_is_the_integer_ann(seed, levels, late, delay, bias_mode, wide):
    network = converted(seed, levels, late=late, delay=delay, bias_mode=bias_mode, wide=wide)
    assert equality_conditions(network) == []
    found, run, ann = mismatches(network, codes(seed))
    assert found == dict.fromkeys(found, 0)
    assert run.settled and run.overflows == 0
    assert run.extra_steps.max() <= network.settling_bound
    assert sum(int(levels.sum()) for levels in ann.levels.values()) > 0


@settings(max_examples=10)
@given(SEED, st.sampled_from((1, 3, 7)))
def test_settled_reference_is_the_integer_ann(seed, levels):
    found, *_ = mismatches(converted(seed, levels), codes(seed, 1), path="reference")
    assert found == dict.fromkeys(found, 0)


@settings(max_examples=25)
@given(SEED, st.sampled_from((3, 7)), st.integers(1, 9), st.sampled_from(("spread", "once", "step")), st.booleans())
def test_frames_settle_to_the_ann_of_their_sum(seed, levels, steps, bias_mode, as_events):
    """Input that changes, and may be shorter or longer than the drive: charge and bias of the driven steps count."""
    network = converted(seed, levels, bias_mode=bias_mode)
    frames = np.random.default_rng(seed).integers(0, 16, (steps, 2, 2, 6, 5))
    inputs = frames
    if as_events:
        step, sample, index = np.nonzero(frames.reshape(steps, 2, 60))
        inputs = Events(step, sample, index, steps, 2, frames.reshape(steps, 2, 60)[step, sample, index])
    found, run, _ = mismatches(network, inputs)
    assert found == dict.fromkeys(found, 0) and run.settled


@settings(max_examples=15)
@given(SEED, st.sampled_from((3, 7)), st.sampled_from((1, 2, 20)))
def test_drive_and_levels_are_two_numbers(seed, levels, drive):
    """T_drive shorter or longer than L: the ANN has the charge of the drive and the levels of the cap."""
    network = converted(seed, levels, drive=drive)
    found, run, _ = mismatches(network, codes(seed))
    assert found == dict.fromkeys(found, 0) and run.settled
    assert np.array_equal(integer_ann(network, codes(seed)).outputs, plain_ann(network, codes(seed), drive)["out"])


BROKEN = {
    "unsigned": ({"signed": False}, "n1 is unsigned"),
    "no cap": ({"max_count": None}, "n1 has no cap"),
    "v_negative = -theta": ({"v_negative": "-theta"}, "n1 takes spikes back below v_negative = -"),
}


@pytest.mark.parametrize("parts, reason", BROKEN.values(), ids=BROKEN)
def test_the_conditions_matter(parts, reason):
    """Without one of them, some neuron of some network settles elsewhere, and the reason is named."""
    wrong = 0
    for seed in range(20):
        network = converted(seed, 3, **parts)
        reasons = equality_conditions(network)
        assert any(text.startswith(reason) for text in reasons) and len(reasons) == len(network.neurons)
        wrong += sum(mismatches(network, codes(seed))[0].values())
    assert wrong > 0


def test_an_unsettled_run_differs():
    """After the drive alone, deeper layers are not yet there: settling is a condition too."""
    wrong = 0
    for seed in range(8):
        network = converted(seed, 3)
        run = simulate(network, codes(seed), keep_final=True)
        assert run.settled is None
        wrong += int((run.final["n5.counts"] != integer_ann(network, codes(seed)).levels["n5"]).sum())
    assert wrong > 0


def test_an_overflow_breaks_equality_and_is_counted():
    wrong = 0
    for seed in range(8):
        network = converted(seed, 7, v_format=Fixed(10), v_overflow=Overflow.WRAP)
        found, run, _ = mismatches(network, codes(seed))
        assert run.overflows > 0
        wrong += sum(found.values())
    assert wrong > 0


def chain(neuron, **options):
    return Network.sequential(Input((3,)), ("w", Affine(np.ones((2, 3), int))), ("n", neuron), **options)


def test_conditions_are_named():
    def reasons(neuron, **options):
        return equality_conditions(chain(neuron, t_drive=7, **{"levels": 7, **options}))

    assert reasons(SignedIF(5, 7)) == reasons(QFFS(5, 7)) == []
    assert reasons(SignedIF(5, 3)) == ["n is capped at 3, not at L = 7"]
    assert reasons(SignedIF(5, 3), levels=None) == []
    assert reasons(SignedIF(5, 7, compare=">")) == ["n compares with >: v = theta may stay"]
    for neuron, text in (
        (LIF(5, Decay.by_shift(2), signed=True, max_count=7), "n leaks"),
        (CubaLIF(5, Decay(), Decay(), signed=True, max_count=7), "n leaks"),
        (SignedIF(5, 7, refractory=Refractory("counter", steps=1)), "n leaks or has a refractory state"),
        (SignedIF(5, 7, reset="zero"), "n does not reset by subtraction"),
        (SignedIF(5, 7, bias=1), "n has a bias of its own"),
    ):
        assert [r for r in reasons(neuron) if r.startswith(text)], text


def test_networks_without_an_ann():
    def refused(network, text):
        with pytest.raises(UnsupportedError, match=f"no integer ANN: .*{text}"):
            integer_ann(network, np.zeros((1, *network.shapes[network.input_name]), int))
        assert equality_conditions(network)

    refused(chain(LIF(5, Decay.by_shift(2), max_count=3)), "n leaks")
    refused(chain(IF(5)), "n has no number of levels")
    refused(chain(IF(5, max_count=3, reset="zero")), "n does not reset")
    refused(Network.sequential(Input((1, 2, 2)), ("p", AvgPool2d(2)), SignedIF(5, 3)), "p rounds in every step")
    refused(Network.sequential(Input((2,)), SignedIF(5, 3), ("r", Readout("first_spike"))), "r answers the step")
    loop = {
        "in": Input((2,)),
        "a": Add(),
        "n": SignedIF(5, 3),
        "b": Affine(np.ones((2, 2), int), delay=1),
        "o": Readout(),
    }
    edges = [("in", "a"), ("b", "a"), ("a", "n"), ("n", "b"), ("n", "o")]
    refused(Network(loop, edges, t_drive=3), "the network is recurrent")


def test_ann_of_a_network_that_ends_with_neurons():
    network = chain(SignedIF([5, 11], 7), t_drive=7, levels=7)
    inputs = np.array([[1, 0, 2], [3, 9, 1], [0, 0, 0]])
    found = integer_ann(network, inputs)
    assert found.outputs.tolist() == [[4, 2], [7, 7], [0, 0]]  # 21 / 5, 21 / 11 -> 1.9; 91 / 5 -> 7
    assert np.array_equal(found.levels["n"], found.outputs) and found.predictions.tolist() == [0, 0, 0]
    assert np.array_equal(simulate(network, inputs, settle=True).outputs, found.outputs)


def test_no_samples():
    found = integer_ann(chain(SignedIF(5, 7), t_drive=7), np.zeros((0, 3), int))
    assert found.outputs.shape == (0, 2) and found.levels["n"].shape == (0, 2)
