"""Narrow membranes on request: proven never to overflow, refined as far as they allow, moved levels counted."""

import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conversion_channels import SHAPES
from test_convert import images, quantised

from intsnn import NeuronRule, convert, simulate, verify
from intsnn.conversion.fold import fold
from intsnn.conversion.quantise import quantise_network
from intsnn.engine.backends.stepwise.plan import Plan
from intsnn.engine.program import lower
from intsnn.errors import ConversionError, FormatError
from intsnn.formats.fixed import Fixed
from intsnn.kernels.toolchain.tier import tier
from intsnn.network.float_nodes import FloatAdd, FloatInput
from intsnn.network.floating import FloatNetwork
from intsnn.network.quantised import InputScale, QuantAffine, QuantisedNetwork, QuantReLU
from intsnn.network.schedule import schedule


def rows(made):
    """What is reported of the neuron layers."""
    return {name: made.layers[name] for name in made.network.neurons}


def least(source, **options):
    """The bits that the error says are enough, and its layer."""
    with pytest.raises(ConversionError, match="coarsest charge unit") as caught:
        convert(source, NeuronRule(membrane_bits=3, **options))
    name, needed, given_ = re.fullmatch(
        r"layer '(\w+)': even .* can need (\d+) bits; membrane_bits is 3; give at least (\d+), or fewer .*",
        str(caught.value),
    ).groups()
    assert needed == given_
    return name, int(needed)


def holds(network, bits):
    """Every membrane has this format, and the bounds prove that it never overflows."""
    bounds, fmt = network.bounds(), Fixed(bits)
    for name in network.neurons:
        layer, bound = network.nodes[name], bounds[name]
        assert layer.v_format == fmt
        assert fmt.min <= bound.v_low.min() and bound.v_high.max() <= fmt.max
        assert 1 <= np.min(layer.threshold) and np.max(layer.threshold) <= fmt.max


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    bits=st.sampled_from((1, 2, 4, 8)),
    activation=st.integers(1, 5),
    join=st.booleans(),
    method=st.sampled_from(("fast-snn", "qffs", "ca-lif")),
    more=st.integers(0, 8),
)
def test_membranes_of_the_asked_width_never_overflow(seed, bits, activation, join, method, more):
    """From the least width that the error names: proven, seen, equal to the integer ANN; one bit less is refused."""
    source = quantised(seed, (1 << activation) - 1, bits, join=join)
    name, enough = least(source, method=method)
    width = enough + more
    made = convert(source, NeuronRule(method, membrane_bits=width))
    holds(made.network, width)
    assert all(row["membrane_bits"] == width >= row["needed_bits"] for row in rows(made).values())
    outcome = verify(made.network, images(seed, 2), reference=1)
    assert outcome.due and outcome.ok and outcome.overflows == 0 and outcome.mismatches == 0
    with pytest.raises(ConversionError, match=f"layer '{name}'.* can need {enough} bits; .* is {enough - 1};"):
        convert(source, NeuronRule(method, membrane_bits=enough - 1))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), bits=st.sampled_from((2, 4, 8)), activation=st.integers(1, 4), join=st.booleans())
def test_no_refinement_that_fits_moves_fewer_levels(seed, bits, activation, join):
    """Against every other largest refinement: none that fits is better, and the finest that fits is taken."""
    source = quantised(seed, (1 << activation) - 1, bits, join=join)
    others = [rows(convert(source, NeuronRule(most_shift=shift))) for shift in range(13)]
    free, wide = others[-1], least(source)[1]
    for width in range(wide, max(row["needed_bits"] for row in free.values()) + 2):
        for name, row in rows(convert(source, NeuronRule(membrane_bits=width))).items():
            if free[name]["needed_bits"] <= width:
                assert row == free[name] | {"membrane_bits": width}  # nothing is given up that need not be
            for other in others:
                if other[name]["needed_bits"] <= width:
                    assert row["moved_levels"] <= other[name]["moved_levels"] or row["branches"] > 1
                    assert row["moved_levels"] == 0 or other[name]["shift"] <= row["shift"] or row["branches"] == 1
            if row["branches"] > 1 and free[name]["needed_bits"] > width:
                finer = next(other[name] for other in others if other[name]["shift"] == row["shift"] + 1)
                assert finer["needed_bits"] > width  # a join is as fine as it can be


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_units_that_are_settled_before_a_neuron_become_coarser(shape):
    """Units that are settled before a neuron give up their refinement too."""
    network = FloatNetwork(shape(np.random.default_rng(7)), shape(np.random.default_rng(7))[-1].name)
    x = np.random.default_rng(8).integers(0, 256, (6, *network.input_shape)).astype(np.uint8)
    source = quantise_network(fold(network), x, weight_bits=4, activation_bits=3, rounding="nearest").network
    free = max(row["needed_bits"] for row in rows(convert(source)).values())
    enough = least(source)[1]
    assert enough <= free - 2
    for width in (enough, (enough + free) // 2, free):
        made = convert(source, NeuronRule(membrane_bits=width))
        holds(made.network, width)
        outcome = verify(made.network, x, reference=1)
        assert outcome.due and outcome.ok and outcome.overflows == 0 and outcome.mismatches == 0


def test_thresholds_that_nothing_reaches_fit_too():
    """In a join that stays below its first level the threshold needs a bit more than the membrane."""
    codes = np.array([[3, -1], [1, 2]])
    nodes = (
        FloatInput(name="in", shape=(2,)),
        QuantAffine(name="d1", inputs=("in",), codes=codes, scale=0.5),
        QuantAffine(name="d2", inputs=("in",), codes=codes - 1, scale=0.4),
        FloatAdd(name="a", inputs=("d1", "d2")),
        QuantReLU(name="r", inputs=("a",), step=0.9, levels=3),
        QuantAffine(name="d3", inputs=("r",), codes=np.array([[1, 1]]), scale=1.0),
    )
    source = QuantisedNetwork(FloatNetwork(nodes, "d3"), InputScale(), Fixed(2, signed=False))
    name, enough = least(source)
    network = convert(source, NeuronRule(membrane_bits=enough)).network
    holds(network, enough)
    assert name == "r" and network.bounds()[name].membrane_format.bits < enough


def test_a_threshold_is_at_least_one_unit():
    """Where the coarsest unit is larger than a level, membranes as narrow as possible still have a finer one."""
    nodes = (
        FloatInput(name="in", shape=(2,)),
        QuantAffine(name="d1", inputs=("in",), codes=np.array([[1, -1], [1, 1]]), scale=0.5),
        QuantReLU(name="r1", inputs=("d1",), step=0.25, levels=3),
        QuantAffine(name="d2", inputs=("r1",), codes=np.array([[3, -1], [1, 2]]), scale=1.1),
        QuantReLU(name="r2", inputs=("d2",), step=0.07, levels=3),
        QuantAffine(name="d3", inputs=("r2",), codes=np.array([[1, 1]]), scale=1.0),
    )
    source = QuantisedNetwork(FloatNetwork(nodes, "d3"), InputScale(), Fixed(2, signed=False))
    made = convert(source, NeuronRule(membrane_bits=least(source)[1]))
    assert made.layers["r2"]["shift"] == 2 and made.layers["r2"]["theta_min"] == 1
    holds(made.network, least(source)[1])


# -- levels that move --------------------------------------------------------------------------------------------------


def begins(levels, count):
    """Index of the charge at which each of `count` levels begins, of levels in the order of charges."""
    return [int(np.searchsorted(levels, n)) for n in range(1, count + 1)]


def branch(network, name, channel, top):
    """Ends of the charge of a connection in whole codes, by adding up what each input can bring."""
    layer = network.nodes[name]
    root = network.inputs_of(name)[0]
    while network.nodes[root].passive:
        root = network.inputs_of(root)[0]
    source = network.nodes[root]
    most = source.high * network.t_drive if source.takes_input else top
    codes = np.asarray(layer.weight[channel]).ravel()
    factor = int(np.broadcast_to(layer.multiplier, len(layer.weight))[channel])
    lattice = network.t_drive if source.takes_input else 1
    return int(codes[codes < 0].sum()) * most, int(codes[codes > 0].sum()) * most, factor, lattice


def counted(source, made, name, connections, steps, top):
    """Boundaries of neurons `name` that differ between exact rationals of the quantised ANN and the integers."""
    network, neuron, count = made.network, made.network.nodes[name], 0
    step = Fraction(source.graph[name].step)
    for channel in range(network.shapes[name][0]):
        parts = [branch(network, each, channel, top) for each in connections]
        total, real = 0, Fraction(0)
        for each in connections:
            bias = network.nodes[each].bias
            total += 0 if bias is None else int(bias[channel])
            real += Fraction(float(source.graph[each].bias[channel]))
        main, before = connections[0], steps[0]
        unit = Fraction(float(np.broadcast_to(made.joined[main].scale, network.shapes[main][0])[channel])) * before
        unit /= parts[0][2]  # of a fine unit
        grid = int(np.gcd.reduce([factor * lattice for _, _, factor, lattice in parts]))
        low = -(-sum(least * factor for least, _, factor, _ in parts) // grid)
        high = sum(most * factor for _, most, factor, _ in parts) // grid
        theta = int(np.broadcast_to(neuron.threshold, network.shapes[name][0])[channel])
        charges = range(low, high + 1)
        whole = [min(top, max(0, (charge * grid + total + (theta >> 1)) // theta)) for charge in charges]
        exact = [min(top, max(0, (charge * grid * unit + real + step / 2) // step)) for charge in charges]
        count += sum(a != b for a, b in zip(begins(whole, top), begins(exact, top), strict=True))
    return count


def test_moved_levels_are_those_that_begin_elsewhere():
    """Against every reachable charge of every channel, in rationals, at several widths."""
    compared = []
    for seed in range(8):
        levels = (3, 7, 15)[seed % 3]
        source = quantised(seed, levels, 3, join=False)
        first = Fraction(float(source.input_scale.scale) / levels)
        narrow = NeuronRule(membrane_bits=least(source)[1] + 1)
        for made in (convert(source, rule) for rule in (NeuronRule(most_shift=0), NeuronRule(most_shift=1), narrow)):
            for name, connection, step in (("r1", "c1", first), ("r2", "c2", Fraction(source.graph["r1"].step))):
                found = made.layers[name]
                assert found["levels"] == levels * made.network.shapes[name][0]
                if connection not in made.dead:
                    assert found["moved_levels"] == counted(source, made, name, [connection], [step], levels)
                    compared.append(found["moved_levels"])
    assert len(compared) > 20 and sum(moved > 0 for moved in compared) > 10 and 0 in compared


def test_moved_levels_of_a_join_are_those_beside_its_rounded_factors():
    compared = []
    for seed in range(6):
        levels = (3, 7)[seed % 2]
        source = quantised(seed, levels, 3)
        step = Fraction(source.graph["r3"].step)
        order = sorted(("c4", "skip"), key=lambda name: -np.median(source.graph[name].scale))
        narrow = NeuronRule(membrane_bits=least(source)[1])
        for made in (convert(source, rule) for rule in (NeuronRule(most_shift=0), NeuronRule(most_shift=2), narrow)):
            found = made.layers["r4"]
            assert found["branches"] == 2 and found["levels"] == levels * 6
            if made.dead.keys().isdisjoint(order):
                assert found["moved_levels"] == counted(source, made, "r4", order, [step, step], levels)
                compared.append(found["moved_levels"])
    assert len(compared) > 6 and sum(moved > 0 for moved in compared) > 4


# -- what is asked for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 1, 2, 5, 9, 10, 11])
def test_no_unit_is_finer_than_asked(most):
    for seed in range(6):
        made = convert(quantised(seed, 15, 8), NeuronRule(most_shift=most))
        assert max(row["shift"] for row in rows(made).values()) <= most
    assert verify(made.network, images(seed, 2), reference=0).mismatches == 0
    free = convert(quantised(seed, 15, 8))
    assert max(row["shift"] for row in rows(free).values()) >= 10  # joins


def test_units_before_a_neuron_are_no_finer_than_asked():
    """A linear layer in front of another one is refined by 2**10 for its bias, or by as little as is wanted."""
    nodes = SHAPES[0](np.random.default_rng(7))
    network = FloatNetwork(nodes, nodes[-1].name)
    x = np.random.default_rng(8).integers(0, 256, (6, *network.input_shape)).astype(np.uint8)
    source = quantise_network(fold(network), x, weight_bits=4, activation_bits=3, rounding="nearest").network
    needed = [rows(convert(source, NeuronRule(most_shift=most)))["r"]["needed_bits"] for most in (0, 2, 12)]
    assert needed[0] + 3 <= needed[1] <= needed[0] + 4 and needed[1] + 8 <= needed[2]


def test_one_width_or_the_other():
    with pytest.raises(FormatError, match="state_bits 12 and membrane_bits 16: .* give one of both"):
        NeuronRule(state_bits=12, membrane_bits=16)
    for wrong in (2, 49, 7.5, "16"):
        with pytest.raises(FormatError, match="membrane_bits"):
            NeuronRule(membrane_bits=wrong)


@pytest.mark.skipif(tier() == "portable", reason="no vectors here")
@pytest.mark.parametrize("method", ["fast-snn", "qffs", "ca-lif"])
@pytest.mark.parametrize("activation", [1, 2])
def test_narrow_membranes_run_in_16_bits(method, activation):
    """Every layer of a network with membranes of 16 bits takes the kernel of that width, where wide ones do not."""

    def types(network):
        when = schedule(network, None, None, True)
        plan = Plan(lower(network, when), "layer")
        return {plan.neuron_operation(name).state_type for name in network.neurons}

    x, tried = images(5, 4), 0
    for seed in range(8):
        source = quantised(seed, (1 << activation) - 1, 4)
        if least(source, method=method)[1] > 16:
            continue
        tried += 1
        narrow = convert(source, NeuronRule(method, membrane_bits=16)).network
        assert types(narrow) == {np.int16}
        assert np.int32 in types(convert(source, NeuronRule(method)).network)
        runs = [simulate(narrow, x, settle=True, path=path) for path in ("layer", "step", "reference")]
        assert all(np.array_equal(run.outputs, runs[0].outputs) and run.overflows == 0 for run in runs)
    assert tried
