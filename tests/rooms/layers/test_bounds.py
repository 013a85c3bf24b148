"""Static bounds: nothing that a run can show lies outside, and simple cases are met exactly."""

import numpy as np
import oracle
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from intsnn.engine.simulation import simulate
from intsnn.formats.fixed import Fixed, Overflow
from intsnn.layers import (
    IF,
    LIF,
    Add,
    Affine,
    AvgPool2d,
    Conv2d,
    Decay,
    Flatten,
    Input,
    MaxPool2d,
    Neuron,
    Readout,
    Scale,
    SignedIF,
    SumPool2d,
)
from intsnn.network.spiking import Network

BINARY = Fixed(1, signed=False)


def within(values, low, high):
    """Whether ``(T, B, C, ...)`` lies between one bound per channel."""
    shape = (1, 1, -1, *[1] * (values.ndim - 3))
    low, high = (np.array(bound.tolist(), object).reshape(shape) for bound in (low, high))
    return bool(((low <= values) & (values <= high)).all())


def driven_steps(case):
    """How many steps of a case are driven (`oracle.simulate` says the same)."""
    _, given, _ = oracle.frames_of(case.network, case.inputs)
    steps = case.steps or case.network.t_drive or given
    limits = [n for n in (case.network.t_drive, given) if n is not None]
    return min(limits or [steps]) if case.settle else min([steps, *limits])


@settings(max_examples=150)
@given(strategies.cases(samples=4))
def test_nothing_leaves_the_bounds(case):
    network = case.network
    record = ["current", "spikes", "counts", "v"]
    result = simulate(network, case.inputs, record=record, **case.options)
    bounds = network.bounds(result.steps, driven_steps(case))
    for key, values in result.records.items():
        name, quantity = key.rsplit(".", 1)
        bound = bounds[name]
        if quantity in ("current", "spikes"):
            assert within(values, bound.low, bound.high), key
            assert within(np.cumsum(values, axis=0, dtype=np.int64), bound.total_low, bound.total_high), key
        elif quantity == "counts":
            assert within(values, bound.total_low, bound.total_high), key
        elif bound.v_low is not None and result.layers[name].overflows == 0:
            assert within(values, bound.v_low, bound.v_high), key
            peak = result.layers[name].peak_v  # before reset
            assert peak <= max(-int(bound.v_low.min()), int(bound.v_high.max()))


@settings(max_examples=60)
@given(strategies.cases(samples=2, wide=True))
def test_nothing_leaves_the_bounds_of_wide_networks(case):
    test_nothing_leaves_the_bounds.hypothesis.inner_test(case)


@settings(max_examples=60)
@given(strategies.cases(samples=4, plain=True, settle=True))
def test_formats_from_the_bounds_never_overflow(case):
    """Membranes in the format that the bounds propose: strict, and not one bit differs."""
    network = case.network
    saturate = {"v_overflow": Overflow.SAT, "acc_overflow": Overflow.SAT}  # symmetric modes hold one code less
    plain = {
        name: strategies.without(layer, v_format=Fixed(40), acc_format=None, **saturate)
        for name, layer in network.nodes.items()
        if isinstance(layer, Neuron)
    }
    wide = Network({**network.nodes, **plain}, network.edges, network.t_drive, network.levels)
    expected = simulate(wide, case.inputs, record="v", **case.options)
    steps = expected.steps + 1 + max(1, sum(getattr(layer, "delay", 0) for layer in network.nodes.values()))
    bounds = wide.bounds(steps, driven_steps(case))
    nodes = dict(wide.nodes)
    for name in wide.neurons:
        fmt, sums = bounds[name].membrane_format, bounds[wide.inputs_of(name)[0]].step_format
        if fmt is None or fmt.bits > 48 or fmt.min > wide.nodes[name].v_negative.min():
            continue  # it leaks, or the format does not hold one of its parameters
        nodes[name] = strategies.without(wide.nodes[name], v_format=fmt, acc_format=sums)
    narrow = Network(nodes, wide.edges, wide.t_drive, wide.levels)
    found = simulate(narrow, case.inputs, record="v", **case.options)
    for name, layer in nodes.items():
        if layer is not wide.nodes[name]:
            assert found.layers[name].overflows == 0
    for key, values in expected.records.items():
        assert np.array_equal(found.records[key], values), key
    assert np.array_equal(found.outputs, expected.outputs)


# -- met exactly ------------------------------------------------------------------------------------


def span(bound, what=""):
    return [list(pair) for pair in zip(getattr(bound, f"{what}low"), getattr(bound, f"{what}high"), strict=True)]


def test_connection_is_tight():
    """The worst input of each channel reaches the bound."""
    weight = np.array([[3, -4, 2], [-1, -1, -1]])
    network = Network.sequential(
        Input((3,), Fixed(3)), ("a", Affine(weight, bias=[5, -2], multiplier=[1, -2])), ("r", Readout())
    )
    bound = network.bounds(1, 1)["a"]
    inputs = np.array(np.meshgrid(*[range(-4, 4)] * 3)).reshape(3, -1).T
    found = simulate(network, inputs, steps=1).outputs
    # the bias is absent in steps that are not driven: the other ends belong to the weights alone
    assert (bound.low.tolist(), bound.high.tolist()) == ([-32, -26], [36, 18])
    assert (found.min(axis=0).tolist(), found.max(axis=0).tolist()) == ([-32 + 5, -26], [36, 18 - 2])


def test_unbiased_connection_is_met_exactly():
    rng = np.random.default_rng(1)
    weight = rng.integers(-9, 10, (5, 4))
    network = Network.sequential(Input((4,), Fixed(2)), ("a", Affine(weight)), ("r", Readout()))
    inputs = np.array(np.meshgrid(*[range(-2, 2)] * 4)).reshape(4, -1).T
    found = simulate(network, inputs, steps=1).outputs
    bound = network.bounds(1, 1)["a"]
    assert bound.low.tolist() == found.min(axis=0).tolist() and bound.high.tolist() == found.max(axis=0).tolist()
    three = network.bounds(3, 3)["a"]
    assert three.total_low.tolist() == (3 * found.min(axis=0)).tolist()


@pytest.mark.parametrize("steps", [1, 5])
def test_membrane_is_tight(steps):
    """The charge of all steps before the first spike, and the charge that falls away after the last."""
    network = Network.sequential(Input((1,), BINARY), Affine([[-7]]), ("n", IF(10)))
    assert span(network.bounds(steps, steps)["n"], "v_") == [[-7 * steps, 0]]
    assert simulate(network, [[1]], steps=steps, record="v").records["n.v"].min() == -7 * steps
    network = Network.sequential(Input((1,), BINARY), Affine([[7]]), ("n", IF(100)))
    assert network.bounds(steps, steps)["n"].v_high.tolist() == [7 * steps]
    assert simulate(network, [[1]], steps=steps, record="v").records["n.v"].max() == 7 * steps


def test_capped_neurons_bound_what_follows():
    """A net count in [0, L] bounds the charge of the next layer for any number of steps."""
    layers = [Input((2,)), Affine([[1, 1]]), ("one", SignedIF(5, 3)), ("w", Affine([[4], [-6]])), ("two", IF(9))]
    network = Network.sequential(*layers, t_drive=3, levels=3)
    for steps in (3, 50, 5000):
        bounds = network.bounds(steps, 3)
        assert span(bounds["one"]) == [[-1, 1]] and span(bounds["one"], "total_") == [[0, 3]]
        assert span(bounds["w"]) == [[-4, 4], [-6, 6]] and span(bounds["w"], "total_") == [[0, 12], [-18, 0]]
        assert [b[0] for b in span(bounds["two"], "v_")] == [0 - 12, -18] and bounds["two"].v_high.tolist() == [12, 0]
    free = Network.sequential(*layers[:2], ("one", SignedIF(5)), *layers[3:], t_drive=3)
    assert span(free.bounds(50, 3)["w"], "total_") == [[0, 200], [-300, 0]]


@pytest.mark.parametrize("neuron, low", [(IF(5), 0), (SignedIF(5, 3), -1)])
def test_what_comes_back_is_bounded_by_the_neuron_alone(neuron, low):
    """A loop of weight 2: unsigned neurons never send anything below 0."""
    nodes = {"in": Input((1,), BINARY), "join": Add(), "n": neuron, "loop": Affine([[2]], delay=1), "r": Readout()}
    edges = [("in", "join"), ("loop", "join"), ("join", "n"), ("n", "loop"), ("n", "r")]
    bounds = Network(nodes, edges).bounds(4, 4)
    assert span(bounds["loop"]) == [[2 * low, 2]] and span(bounds["join"]) == [[2 * low, 3]]


def test_biases():
    def total(mode, driven=4):
        network = Network.sequential(
            Input((1,), BINARY), ("a", Affine([[0], [0]], bias=[7, -7], bias_mode=mode)), IF(9)
        )
        bound = network.bounds(9, driven)["a"]
        return span(bound), span(bound, "total_")

    assert total("step") == ([[0, 7], [-7, 0]], [[0, 28], [-28, 0]])
    assert total("once") == ([[0, 7], [-7, 0]], [[0, 7], [-7, 0]])
    assert total("spread") == ([[0, 2], [-2, 0]], [[0, 7], [-7, 0]])


def test_passive_layers():
    image = Input((2, 4, 4), Fixed(3))
    for layer, step, total in (
        (SumPool2d(2), [-16, 12], [-32, 24]),
        (Scale(-3), [-9, 12], [-18, 24]),
        (MaxPool2d(2), [-10, 4], [-8, 6]),
        (AvgPool2d(2), [-5, 4], [-10, 8]),
        (Conv2d(np.ones((2, 1, 2, 1), int), groups=2), [-8, 6], [-16, 12]),
    ):
        bound = Network.sequential(image, ("x", layer), IF(1)).bounds(2, 2)["x"]
        assert span(bound, "total_") == [total] * 2, layer
        assert bound.low[0] <= step[0] or type(layer) is MaxPool2d
        assert bound.high.tolist() == [step[1]] * 2 or type(layer) is MaxPool2d, layer
    nodes = {"in": image, "s": Scale([1, -1]), "x": Add(), "f": Flatten(), "r": Readout()}
    edges = [("in", "s"), ("s", "x"), ("in", "x"), ("in", "x"), ("x", "f"), ("f", "r")]
    bounds = Network(nodes, edges).bounds(1, 1)
    assert span(bounds["x"]) == [[-12, 9], [-11, 10]]
    assert bounds["f"].low.tolist() == [-12] * 16 + [-11] * 16


def test_leaky_neurons_have_no_membrane_bound():
    network = Network.sequential(Input((1,)), ("n", LIF(5, Decay.by_shift(1))))
    bound = network.bounds(3, 3)["n"]
    assert bound.v_low is None and bound.membrane_format is None
    assert span(bound, "total_") == [[0, 3]]


def test_formats_of_a_bound():
    network = Network.sequential(Input((1,), BINARY), ("a", Affine([[100], [-28]])), ("n", IF(300)))
    bounds = network.bounds(10, 10)
    assert bounds["a"].step_format == Fixed(8) and bounds["a"].total_format == Fixed(11)
    assert bounds["n"].membrane_format == Fixed(11)


@given(st.integers(1, 62), st.integers(-(2**61), 2**61), st.integers(0, 2**20))
def test_fits(bits, low, size):
    from intsnn.layers import fits

    low, high = np.array([low], object), np.array([low + size], object)
    assert fits(low, high, bits) == (-(2 ** (bits - 1)) <= low[0] and high[0] < 2 ** (bits - 1))
