"""Compensated rounding: codes that make up for each other's errors, layer after layer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsnn import convert, verify
from intsnn.conversion import quantise as module
from intsnn.conversion.compensate import ROWS, _sums, compensate
from intsnn.conversion.fold import fold
from intsnn.conversion.quantise import calibrate, quantise_network
from intsnn.conversion.weights import Width, quantise_weights
from intsnn.datasets import catalogue as datasets
from intsnn.errors import FormatError
from intsnn.formats.fixed import Fixed
from intsnn.formats.weights import Bipolar
from intsnn.models import digits
from intsnn.models.keras import load as keras
from intsnn.network.float_nodes import (
    FloatAffine,
    FloatAvgPool2d,
    FloatConv2d,
    FloatFlatten,
    FloatInput,
    FloatMaxPool2d,
    FloatReLU,
)
from intsnn.network.floating import FloatNetwork, forward
from intsnn.network.quantised import InputScale, QuantAffine, QuantConv2d


def dense(weight, bias=None):
    """One dense layer behind the input."""
    nodes = (
        FloatInput(name="in", shape=(weight.shape[1],)),
        FloatAffine(name="d", inputs=("in",), weight=weight, bias=bias),
    )
    return FloatNetwork(nodes, "d")


def deep(rng, groups=1, bias=True):
    """Convolutions (one with groups), pools, a dense layer."""

    def b(n):
        return rng.normal(size=n) if bias else None

    nodes = (
        FloatInput(name="in", shape=(2, 8, 8)),
        FloatConv2d(
            name="c1", inputs=("in",), weight=rng.normal(size=(4, 2, 3, 3)), bias=b(4), padding=((1, 1), (1, 1))
        ),
        FloatReLU(name="r1", inputs=("c1",)),
        FloatMaxPool2d(name="p1", inputs=("r1",), kernel=(2, 2), stride=(2, 2)),
        FloatConv2d(
            name="c2", inputs=("p1",), weight=rng.normal(size=(6, 4 // groups, 3, 3)), bias=b(6), groups=groups
        ),
        FloatReLU(name="r2", inputs=("c2",)),
        FloatAvgPool2d(name="p2", inputs=("r2",), kernel=(2, 2), stride=(2, 2)),
        FloatFlatten(name="f", inputs=("p2",)),
        FloatAffine(name="d", inputs=("f",), weight=rng.normal(size=(3, 6)), bias=b(3)),
    )
    return FloatNetwork(nodes, "d")


@pytest.mark.parametrize(
    "options",
    [{}, {"padding": ((1, 0), (2, 1))}, {"stride": (2, 1)}, {"dilation": (1, 2)}, {"groups": 2}],
    ids=str,
)
def test_rows_are_what_outputs_see(options):
    """Their products with the weights are the sums of the convolution, position by position."""
    rng = np.random.default_rng(0)
    groups = options.get("groups", 1)
    node = FloatConv2d(name="c", inputs=("in",), weight=rng.normal(size=(4, 6 // groups, 3, 2)), **options)
    network = FloatNetwork((FloatInput(name="in", shape=(6, 7, 8)), node), "c")
    x = rng.normal(size=(5, 6, 7, 8))
    wanted = forward(network, x, dtype=np.float64).transpose(0, 2, 3, 1).reshape(-1, 4)
    weight = node.weight.astype(np.float64).reshape(groups, 4 // groups, -1)
    assert np.allclose(
        _sums(node.rows(x, ROWS), weight).reshape(-1, 4), wanted, rtol=0, atol=1e-12
    )  # floats of two orders


def test_many_positions_are_sampled():
    node = FloatConv2d(name="c", inputs=("in",), weight=np.ones((1, 1, 2, 2)))
    rows = node.rows(np.arange(40 * 33 * 33, dtype=np.float64).reshape(40, 1, 33, 33), ROWS)
    assert rows.shape == (20_000, 1, 4) and len(np.unique(rows[:, 0, 0])) == 20_000


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), bits=st.integers(1, 8))
def test_inputs_that_do_not_vary_together_are_rounded_to_nearest(seed, bits):
    """There is nothing to make up with: the codes are those of each weight by itself."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(5, 8))
    hadamard = np.array([[1]])
    for _ in range(3):
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    x = np.concatenate([hadamard, -hadamard]).astype(np.float64)  # no mean, no covariance, all the same variance
    made = compensate(dense(weight), x, {"d": Width(bits, True)})["d"]
    codes, scale = quantise_weights(weight, bits)
    assert np.array_equal(made.codes, codes)
    assert np.allclose(made.bias, 0, atol=1e-12)
    error = np.square(x @ weight.T - x @ (made.codes * made.scale[:, None]).T).sum()
    assert error <= np.square(x @ weight.T - x @ (codes * scale[:, None]).T).sum() * (1 + 1e-9)  # the fit can only help


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_sums_of_inputs_that_vary_together_come_nearer(bits):
    """Against the best scale and bias for the nearest codes."""
    errors = np.zeros(2)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        weight = rng.normal(size=(6, 20))
        x = np.maximum(rng.normal(size=(400, 5)) @ rng.normal(size=(5, 20)) + 0.3 * rng.normal(size=(400, 20)), 0)
        wanted = x @ weight.T
        made = compensate(dense(weight), x, {"d": Width(bits, True)})["d"]
        found = x @ (made.codes * made.scale[:, None]).T + made.bias
        codes, _ = quantise_weights(weight, bits)
        sums = x @ codes.T
        slope = ((sums - sums.mean(0)) * (wanted - wanted.mean(0))).mean(0) / sums.var(0)
        best = slope * (sums - sums.mean(0)) + wanted.mean(0)
        errors += np.square(found - wanted).sum(), np.square(best - wanted).sum()
        assert np.allclose(found.mean(axis=0), wanted.mean(axis=0))
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
@pytest.mark.parametrize("groups", [1, 2])
def test_whole_networks(bits, groups):
    """Codes within their format, positive scales, few bits nearer to the network than nearest codes; it verifies."""
    rng = np.random.default_rng(bits)
    network = deep(rng, groups)
    raw = rng.integers(0, 256, (150, 2, 8, 8)).astype(np.uint8)
    shared = calibrate(network, raw)
    made, plain = (
        quantise_network(network, shared, weight_bits=bits, activation_bits=4, rounding=rounding)
        for rounding in ("compensated", "nearest")
    )
    wanted = forward(dict(made.stages)["activations 4 bit"], shared.inputs)
    errors = [np.square(forward(q.network.graph, shared.inputs) - wanted).mean() for q in (made, plain)]
    assert errors[0] < errors[1] * (0.9 if bits < 3 else 1.3)
    for name in ("c1", "c2", "d"):
        node = made.network.graph[name]
        assert node.weight_format == (Bipolar() if bits == 1 else Fixed(bits, narrow=True)) and (node.scale > 0).all()
        assert set(np.unique(node.codes)) <= (
            {-1, 1} if bits == 1 else set(range(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1)))
        )
        assert made.zeroed[name] == int((node.codes == 0).sum())
    assert [name for name, _ in made.stages] == ["clip", "activations 4 bit", f"weights {bits} bit", "compensation"]
    outcome = verify(convert(made.network).network, raw[:6], reference=1)
    assert outcome.due and outcome.mismatches == 0


def test_linear_layers_in_a_row_take_one_scale():
    rng = np.random.default_rng(2)
    nodes = (
        FloatInput(name="in", shape=(12,)),
        FloatAffine(name="a", inputs=("in",), weight=rng.normal(size=(9, 12))),
        FloatAffine(name="b", inputs=("a",), weight=rng.normal(size=(4, 9))),
    )
    network = FloatNetwork(nodes, "b")
    raw = rng.integers(0, 256, (80, 12)).astype(np.uint8)
    made = quantise_network(network, raw, weight_bits=2, rounding="compensated").network
    assert len(np.unique(made.graph["a"].scale)) == 1 < len(np.unique(made.graph["b"].scale))


def test_biases_stay_on_request():
    rng = np.random.default_rng(4)
    network = deep(rng)
    raw = rng.integers(0, 256, (60, 2, 8, 8)).astype(np.uint8)
    made = quantise_network(network, raw, weight_bits=2, rounding="compensated", bias_correction=False)
    for name in ("c1", "c2", "d"):
        assert np.array_equal(made.network.graph[name].bias, network[name].bias)
    bare = quantise_network(deep(rng, bias=False), raw, weight_bits=2, rounding="compensated", bias_correction=False)
    assert all(bare.network.graph[name].bias is None for name in ("c1", "c2", "d"))


def test_dead_and_constant_inputs():
    """Inputs that never vary, or are never there, harm nothing."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(50, 6))
    x[:, 2], x[:, 4] = 0, 7
    weight = rng.normal(size=(3, 6))
    made = compensate(dense(weight, np.ones(3)), x, {"d": Width(3, True)})["d"]
    found = x @ (made.codes * made.scale[:, None]).T + made.bias
    assert np.isfinite(made.scale).all() and np.allclose(found.mean(axis=0), (x @ weight.T + 1).mean(axis=0))
    silent = compensate(dense(weight), np.zeros((5, 6)), {"d": Width(3, True)})["d"]
    assert np.array_equal(silent.codes, quantise_weights(weight, 3)[0]) and np.allclose(silent.bias, 0)


def test_layers_that_are_too_large_keep_their_nearest_codes(monkeypatch):
    from intsnn.conversion import compensate as module

    rng = np.random.default_rng(8)
    weight, x = rng.normal(size=(4, 10)), rng.normal(size=(60, 10)) @ rng.normal(size=(10, 10))
    nearest, _ = quantise_weights(weight, 2)
    assert not np.array_equal(compensate(dense(weight), x, {"d": Width(2, True)})["d"].codes, nearest)
    monkeypatch.setattr(module, "LARGEST", 9)
    made = compensate(dense(weight), x, {"d": Width(2, True)})["d"]
    assert np.array_equal(made.codes, nearest)


def test_auto_takes_what_errs_less_on_held_back_samples(monkeypatch):
    """Each candidate is fitted without the samples that judge it; the winner is made again with all of them."""
    trained, learn = keras.load(digits.network_file()), datasets.load("digits:train:300")
    folded = fold(trained)
    shared = calibrate(folded, learn.images, InputScale(learn.scale))
    for bits, names in ((2, {"activations", "nearest", "compensated"}), (8, {"activations", "nearest"})):
        made = quantise_network(folded, shared, weight_bits=bits, activation_bits=4)
        assert set(made.errors) == names  # 8 bits add too little to look further
        assert made.rounding == min(names - {"activations"}, key=made.errors.get)
        same = quantise_network(folded, shared, weight_bits=bits, activation_bits=4, rounding=made.rounding)
        assert same.errors == {} and same.rounding == made.rounding
        for node in same.network.graph.nodes:
            if isinstance(node, QuantConv2d | QuantAffine):
                other = made.network.graph[node.name]
                assert np.array_equal(other.codes, node.codes) and np.array_equal(other.bias, node.bias)
    fits, real = [], module.compensate

    def spoiled(network, inputs, widths, correct_bias):
        fits.append(inputs)
        made = real(network, inputs, widths, correct_bias)
        last = made[made.output]
        node = replace(last, scale=last.scale * 50, weight=None)
        return FloatNetwork((*(n for n in made.nodes if n is not last), node), made.output)

    monkeypatch.setattr(module, "compensate", spoiled)
    made = quantise_network(folded, shared, weight_bits=2, activation_bits=4)
    assert made.rounding == "nearest" and made.errors["compensated"] > made.errors["nearest"]
    assert len(fits) == 1 and np.array_equal(fits[0], shared.inputs[:150])
    assert "bias correction" in [name for name, _ in made.stages]
    with pytest.raises(FormatError, match="rounding"):
        quantise_network(folded, shared, rounding="up")


def test_auto_with_one_sample():
    network = dense(np.random.default_rng(0).normal(size=(3, 8)))
    made = quantise_network(network, datasets.load("digits:1").images.reshape(1, 64)[:, :8], weight_bits=1)
    assert set(made.errors) >= {"activations", "nearest"}


def test_what_it_is_for():
    """Real digits, a trained network: with one and two bits nothing is left of it without, and most with."""
    trained, test = keras.load(digits.network_file()), datasets.load("digits:test")
    folded, learn = fold(trained), datasets.load("digits:train")
    shared = calibrate(folded, learn.images, InputScale(learn.scale))
    found = {}
    for bits in (1, 2):
        for rounding in ("nearest", "compensated"):
            made = quantise_network(folded, shared, weight_bits=bits, activation_bits=4, rounding=rounding)
            guesses = forward(made.network.graph, InputScale(test.scale).apply(test.images)).argmax(axis=1)
            found[bits, rounding] = 100 * (guesses == test.labels).mean()
    assert found[1, "nearest"] < 30 and found[1, "compensated"] > 90
    assert found[2, "nearest"] < 85 and found[2, "compensated"] > 96
