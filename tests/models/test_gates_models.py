"""Choices in learning, integer ANN, conversion and counting that change results by little: one case each."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from intsnn import NeuronRule, convert, integer_ann, simulate
from intsnn.analysis.memory.report import accumulators
from intsnn.conversion.compensate import DAMPING, compensate
from intsnn.conversion.quantise import quantise_network
from intsnn.conversion.weights import Width, quantise_weights
from intsnn.engine.ann import equality_conditions
from intsnn.errors import RangeError
from intsnn.formats.fixed import Fixed
from intsnn.layers import IF, Affine, Input, Readout, SignedIF
from intsnn.learning.buffers import check_sums
from intsnn.learning.constants import layer_constants
from intsnn.learning.learner import Conv, Dense, Learner, LearningNetwork
from intsnn.learning.learner import Rule as LearningRule
from intsnn.network.float_nodes import FloatAffine, FloatAvgPool2d, FloatFlatten, FloatInput
from intsnn.network.floating import FloatNetwork, forward
from intsnn.network.quantised import InputScale, QuantAffine, QuantConv2d, QuantisedNetwork, QuantReLU
from intsnn.network.spiking import Network

# -- learning ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["compiled", "reference"])
def test_a_mean_at_the_level_is_not_quiet(path):
    """With weights of 0 every U is 0: at a level of 0 nothing is missing, above it something is."""

    def after(level, penalty):
        rule = LearningRule(
            zero_start=True, burn_in=0, quiet_penalty=penalty, quiet_level=level, rate_penalty=0, mean_penalties=False
        )
        learner = Learner(LearningNetwork((9,), [Dense(8)], 3, rule), seed=4, path=path)
        state = learner.begin(2)
        learner.learn(state, np.full((2, 9), 200, np.uint8), np.array([0, 2]))
        return learner.weights_sha256()

    without = after(0, 0)
    assert after(0, 4) == without
    assert after(Fraction(-1, 1000), 4) == without
    assert after(Fraction(1, 1000), 4) != without


@pytest.mark.parametrize("path", ["compiled", "reference"])
@pytest.mark.parametrize("in_test", [False, True])
def test_dropout_in_a_test_is_asked_for(path, in_test):
    """In a test readouts are dropped where the rule says so, and only there; in training always."""

    def learner(dropout):
        rule = LearningRule(burn_in=0, dropout=dropout, dropout_in_test=in_test)
        return Learner(LearningNetwork((9,), [Dense(40)], 5, rule), seed=4, path=path)

    frames = np.random.default_rng(0).integers(0, 200, (6, 30, 9)).astype(np.uint8)
    drops, keeps = learner(Fraction(1, 2)), learner(0)
    assert np.array_equal(drops.votes(frames), keeps.votes(frames)) is not in_test
    for one in (drops, keeps):
        state = one.begin(30)
        one.learn(state, frames[0], np.arange(30) % 5)
    assert drops.weights_sha256() != keeps.weights_sha256()


def test_pools_of_three_learn_the_same():
    """Nine places a window, more than twice three."""

    def learned(path):
        network = LearningNetwork((2, 8, 8), [Conv(3, 3, pool=3)], 3, LearningRule(burn_in=0))
        learner = Learner(network, seed=2, path=path)
        state = learner.begin(2)
        for frame in np.random.default_rng(0).integers(0, 90, (3, 2, 2, 8, 8)).astype(np.uint8):
            learner.learn(state, frame, np.array([0, 2]))
        return learner.weights_sha256()

    assert learned("compiled") == learned("reference")


def test_maps_of_a_learner_that_are_not_square():
    """(H, W, C) of what comes in, of the neurons and behind the pool."""
    network = LearningNetwork((2, 5, 8), [Conv(3, 3, pool=2), Dense(7)], 4)
    assert network.geometry() == [((5, 8, 2), (3, 6, 3), (1, 3, 3)), ((1, 1, 9), (1, 1, 7), (1, 1, 7))]


@pytest.mark.parametrize("what", ["gradients", "membranes", "activities", "errors"])
def test_sums_over_a_batch_end_at_62_bits(what):
    """Each sum by itself, the others made 0: as many samples as fit, and one more."""
    network = LearningNetwork((1, 4, 4), [Conv(3, 3, pool=2)], 5)
    constants = layer_constants(network, 0, 1)
    none = constants.parameters._replace(u_max=0, activation_max=-1)
    bare = dataclasses.replace(constants, parameters=none, gradients=0, table=np.zeros_like(constants.table))
    most, parts, classes = {
        "gradients": (77, {"gradients": 77}, 5),
        "membranes": (2 * 2 * 3 * 31, {"parameters": none._replace(u_max=31)}, 5),
        "activities": (3 * 63, {"table": np.array([0, 40, 63])}, 5),
        "errors": (5 * 64**2, {"parameters": none._replace(activation_max=31)}, 5),
    }[what]
    bare = dataclasses.replace(bare, **parts)
    fitting = ((1 << 62) - 1) // most
    check_sums(0, bare, fitting, classes)
    with pytest.raises(RangeError, match=f"the {what} of "):
        check_sums(0, bare, fitting + 1, classes)


# -- the integer ANN --------------------------------------------------------------------------------


@pytest.mark.parametrize("t_drive, frames, driven", [(None, 3, 3), (7, 3, 3), (3, 7, 3), (None, 1, 1), (5, 5, 5)])
def test_the_ann_is_driven_as_long_as_its_frames(t_drive, frames, driven):
    """A bias of 10 in each driven step, and the charge of the frames of those steps."""
    layer = Affine([[1]], bias=10, bias_mode="step")
    network = Network.sequential(
        Input((1,)), layer, ("n", SignedIF(4, 1000, v_initial=0, v_format=Fixed(24))), t_drive=t_drive
    )
    inputs = np.arange(1, frames + 1)[:, None, None]
    charge = sum(10 + x for x in range(1, driven + 1))
    assert integer_ann(network, inputs).outputs.tolist() == [[charge // 4]]


def test_settled_frames_are_the_ann_of_their_steps():
    layer = Affine([[1], [2]], bias=[3, -1], bias_mode="step")
    network = Network.sequential(
        Input((1,)), layer, ("n", SignedIF([7, 5], 15, v_format=Fixed(24))), Affine([[1, 1]]), Readout(), levels=15
    )
    inputs = np.array([4, 0, 9])[:, None, None]
    found = integer_ann(network, inputs)
    assert found.levels["n"].tolist() == [[min(15, (3 + 22) // 7), min(15, (2 + 23) // 5)]]  # V0 and the whole charge
    assert simulate(network, inputs, settle=True).outputs.tolist() == found.outputs.tolist()


@pytest.mark.parametrize("negative", [[0, -5], [-5, 0], [-1, -5], -5])
def test_one_channel_that_takes_back_late_is_named(negative):
    network = Network.sequential(Input((1,)), Affine([[1], [1]]), ("n", SignedIF(9, 3, negative)), t_drive=3)
    assert equality_conditions(network) == ["n takes spikes back below v_negative = -5, not below 0"]


# -- conversion -------------------------------------------------------------------------------------


def chain(seed, kernel, pool_first, levels=7, bits=4):
    """A convolution, a pool that is not square (before or behind its ReLU), and two layers more."""
    rng = np.random.default_rng(seed)
    top = (1 << (bits - 1)) - 1

    def conv(name, source, out, inp):
        return QuantConv2d(
            name=name, inputs=(source,), codes=rng.integers(-top, top + 1, (out, inp, 3, 3)),
            scale=(rng.random(out) + 0.5) / (top * 2 * np.sqrt(inp)), bias=rng.normal(size=out) * 0.1,
            weight_format=Fixed(bits, narrow=True), padding=((1, 1), (1, 1)),
        )  # fmt: skip

    def relu(name, source):
        return QuantReLU(name=name, inputs=(source,), step=(rng.random() + 0.5) / levels, levels=levels)

    pool = {"kernel": kernel, "stride": kernel}
    nodes = [FloatInput(name="in", shape=(1, 6, 6)), conv("c1", "in", 3, 1)]
    if pool_first:
        nodes += [FloatAvgPool2d(name="p", inputs=("c1",), **pool), relu("r1", "p")]
    else:
        nodes += [relu("r1", "c1"), FloatAvgPool2d(name="p", inputs=("r1",), **pool)]
    nodes += [conv("c2", "r1" if pool_first else "p", 4, 3), relu("r2", "c2")]
    nodes += [FloatFlatten(name="f", inputs=("r2",))]
    size = 4 * (6 // kernel[0]) * (6 // kernel[1])
    nodes += [
        QuantAffine(
            name="d", inputs=("f",), codes=rng.integers(-top, top + 1, (3, size)), scale=0.1,
            weight_format=Fixed(bits, narrow=True),
        )
    ]  # fmt: skip
    return QuantisedNetwork(FloatNetwork(tuple(nodes), "d"), InputScale())


@pytest.mark.parametrize("kernel", [(2, 3), (3, 2), (1, 3), (2, 2)])
@pytest.mark.parametrize("pool_first", [True, False])
def test_pools_of_any_shape_convert_exactly(kernel, pool_first):
    """Sums over a pool are its mean times its area: of both sides, not of one squared."""
    equal = 0
    for seed in range(4):
        source = chain(seed, kernel, pool_first)
        made = convert(source)
        x = np.random.default_rng(seed).integers(0, 256, (5, 1, 6, 6)).astype(np.uint8)
        levels = integer_ann(made.network, x).levels
        names = ("r1", "r2")
        real = forward(
            source.graph, source.input_scale.apply(x).astype(np.float64), dtype=np.float64, record=names
        )  # fmt: skip
        for name in names:
            if made.layers[name]["moved_levels"]:
                break  # what follows has other inputs
            assert np.array_equal(levels[name], np.rint(real[name] / source.graph[name].step).astype(int)), name
            equal += 1
    assert equal >= 4


def test_thresholds_are_the_nearest_whole_ones():
    rounded_up = 0
    for seed in range(4):
        source = chain(seed, (2, 2), False)
        graph, rule = source.graph, NeuronRule(most_shift=seed)
        made = convert(source, rule)
        unit = graph["c2"].scale * graph["r1"].step / 4 / 2 ** made.layers["r2"]["shift"]  # a pool of 4 between them
        ideal = graph["r2"].step / unit
        theta = np.broadcast_to(made.network.nodes["r2"].threshold, ideal.shape)
        assert np.abs(theta - ideal).max() <= 0.5
        rounded_up += int((theta > ideal).sum())
        assert (made.layers["r2"]["theta_min"], made.layers["r2"]["theta_max"]) == (theta.min(), theta.max())
    assert rounded_up > 0


def test_one_channel_behind_a_pool():
    """A pool that a ReLU reads gets a factor of its own: one, for the only channel."""
    conv = QuantConv2d(
        name="c", inputs=("in",), codes=np.array([[[[3]]]]), scale=0.2, weight_format=Fixed(4, narrow=True)
    )
    nodes = (
        FloatInput(name="in", shape=(1, 2, 2)),
        conv,
        QuantReLU(name="r", inputs=("c",), step=0.1, levels=3),
        FloatAvgPool2d(name="p", inputs=("r",), kernel=(2, 2), stride=(2, 2)),
        QuantReLU(name="s", inputs=("p",), step=0.07, levels=3),
        FloatFlatten(name="f", inputs=("s",)),
        QuantAffine(name="d", inputs=("f",), codes=np.array([[1], [-1]]), scale=0.5, weight_format=Fixed(4)),
    )
    source = QuantisedNetwork(FloatNetwork(nodes, "d"), InputScale())
    x = np.random.default_rng(0).integers(0, 256, (9, 1, 2, 2)).astype(np.uint8)
    made = convert(source)
    real = forward(source.graph, source.input_scale.apply(x).astype(np.float64), dtype=np.float64, record=("r", "s"))
    for name, step in (("r", 0.1), ("s", 0.07)):
        assert np.array_equal(integer_ann(made.network, x).levels[name], np.rint(real[name] / step).astype(int))


def affine(weight, bias=None):
    nodes = (
        FloatInput(name="in", shape=(weight.shape[1],)),
        FloatAffine(name="d", inputs=("in",), weight=weight, bias=bias),
    )
    return FloatNetwork(nodes, "d")


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_beyond_the_largest_code_are_counted(bits, per_channel):
    """Every weight by hand: its own code without an end, against the largest one."""
    rng = np.random.default_rng(bits)
    weight = rng.standard_t(2, (6, 40))
    weight[0, :3] = 0
    if per_channel:
        network = affine(weight)
    else:  # what a linear layer reads next has one scale
        nodes = (
            *affine(weight).nodes,
            FloatAffine(name="e", inputs=("d",), weight=rng.normal(size=(2, 6)), bias=None),
        )
        network = FloatNetwork(nodes, "e")
    found = quantise_network(network, rng.integers(0, 256, (20, 40)), weight_bits=bits, rounding="nearest")
    node = found.network.graph["d"]
    scales = np.broadcast_to(node.scale, (6,))
    assert bool(np.ptp(scales)) is per_channel
    top = max(1, 2 ** (bits - 1) - 1)
    beyond = zeroed = 0
    for row, codes, scale in zip(weight.tolist(), node.codes.tolist(), scales.tolist(), strict=True):
        for w, code in zip(row, codes, strict=True):
            beyond += abs(w) / scale > top + 0.5
            zeroed += w != 0 and code == 0
    assert found.clipped["d"] == beyond and (beyond or bits > 2)
    assert found.zeroed["d"] == zeroed


def obs_codes(weight, spread, scale, top):
    """Inputs one by one, the one that varies most first: round it, then solve for all that are left."""
    weight, left = weight.copy(), sorted(range(len(spread)), key=lambda i: (-spread[i, i], i))
    codes = np.zeros(weight.shape, np.int64)
    while left:
        i, left = left[0], left[1:]
        codes[:, i] = np.clip(np.floor(weight[:, i] / scale + 0.5), -top, top)
        error = weight[:, i] - codes[:, i] * scale
        if left:
            share = np.linalg.solve(spread[np.ix_(left, left)], spread[left, i])
            weight[:, left] += np.outer(error, share)
    return codes


def test_damping_of_the_covariance():
    """Codes with a hundredth of the mean variance added to each: neither without it nor with ten times as much."""
    assert DAMPING == 0.01
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 24)) + 0.05 * rng.normal(size=(400, 24))
    weight = rng.normal(size=(30, 24))
    node = compensate(affine(weight), x, {"d": Width(3, True)})["d"]
    spread = np.cov(x, rowvar=False, bias=True)
    _, scale = quantise_weights(weight, 3, True)

    def codes(damping):
        return obs_codes(weight, spread + damping * np.diag(spread).mean() * np.eye(24), scale, 3)

    assert np.array_equal(node.codes, codes(0.01))
    assert not np.array_equal(node.codes, codes(0.1))
    assert not np.array_equal(node.codes, codes(0.001))


# -- counting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("start, bits", [(0, 2), (1, 2), (5, 4), (7, 4), (8, 5)])
def test_unsigned_bounds_are_counted_as_signed(start, bits):
    """Widths of accumulators are signed: what is proven to lie in 0 .. 7 takes four bits."""
    network = Network.sequential(
        Input((1,)), Affine([[0]]), ("n", IF(9, v_initial=start, v_format=Fixed(6, signed=False))), t_drive=3
    )
    found = accumulators(network)["n"]
    assert found.proven and found.bound_bits == bits and found.v_bits == 7
    signed = network.nodes["n"]
    signed = dataclasses.replace(signed, v_format=Fixed(6))
    again = Network.sequential(Input((1,)), Affine([[0]]), ("n", signed), t_drive=3)
    assert accumulators(again)["n"].v_bits == 6 and accumulators(again)["n"].bound_bits == bits


def test_membranes_below_zero_are_counted_once():
    network = Network.sequential(
        Input((1,), Fixed(3, signed=False)), Affine([[-1]]), ("n", IF(9, v_format=Fixed(12))), t_drive=3
    )
    assert accumulators(network)["n"].bound_bits == 6  # -21 .. 0, and a threshold less after a spike
