"""Sums over time: exact on every path up to the last that 63 bits hold, refused before the run beyond."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsnn.engine.ann import integer_ann
from intsnn.engine.backends.fused.runner import prepare
from intsnn.engine.backends.stepwise import firing
from intsnn.engine.backends.stepwise.plan import Plan
from intsnn.engine.inputs import Events
from intsnn.engine.program import lower
from intsnn.engine.simulation import simulate
from intsnn.errors import IntsnnError, RangeError, UnsupportedError
from intsnn.formats.fixed import Fixed, Overflow
from intsnn.kernels.fused.opcodes import Kind, Operation
from intsnn.layers import (
    IF,
    Add,
    Affine,
    AvgPool2d,
    Conv2d,
    Flatten,
    Input,
    MaxPool2d,
    Neuron,
    Readout,
    Scale,
    SignedIF,
    SumPool2d,
)
from intsnn.layers.schedule import Schedule
from intsnn.network.spiking import Network

PATHS = ("reference", "step", "layer")
BIT = Fixed(1, signed=False)
WIDE = Fixed(48)
LIMIT = 1 << 62  # of a total


def refusals(network, inputs, **options):
    """What every path says to a run that it must refuse; the fused one says the same or has no form of the network."""
    said = set()
    for path in PATHS:
        with pytest.raises(RangeError) as error:
            simulate(network, inputs, path=path, **options)
        said.add(str(error.value))
    with pytest.raises((RangeError, UnsupportedError)) as error:
        prepare(network, **options)(inputs)
    if not isinstance(error.value, UnsupportedError):
        said.add(str(error.value))
    return said


def all_equal(network, inputs, **options):
    """Outputs of all paths, which are those of the oracle."""
    expected = oracle.simulate(network, np.asarray(inputs), **options)["outputs"]
    for path in PATHS:
        assert simulate(network, inputs, path=path, **options).outputs.tolist() == expected, path
    return expected


def readout(kind="sum"):
    """2^57 a step: 31 steps fit, and so do 32 of the negative ones."""
    weight = [[1 << 27], [-(1 << 27)]]
    return Network.sequential(
        Input((1,), BIT), Affine(weight, weight_format=Fixed(32), multiplier=1 << 30), ("r", Readout(kind))
    )


def spikes():
    """The same behind a neuron that fires in every step."""
    layer = Affine([[1 << 27], [-(1 << 27)]], weight_format=Fixed(32), multiplier=1 << 30)
    return Network.sequential(Input((1,), BIT), IF(1), layer, ("r", Readout()))


def pool():
    """Two inputs of a max-pool, of which the first is always the larger; what it sends is one spike a step."""
    nodes = {
        "in": Input((1, 1, 2), BIT),
        "w": Scale(1 << 57),
        "r": MaxPool2d((1, 2)),
        "n": IF(1 << 40, v_format=WIDE, threshold_format=WIDE),
    }
    return Network(nodes, [("in", "w"), ("w", "r"), ("r", "n")])


def joined():
    """Half of the charge by each of two ways."""
    nodes = {"in": Input((2,), BIT), "a": Scale(1 << 56), "b": Scale(1 << 56), "j": Add(), "r": Readout()}
    return Network(nodes, [("in", "a"), ("in", "b"), ("a", "j"), ("b", "j"), ("j", "r")])


def summed():
    nodes = {"in": Input((1, 2, 2), BIT), "w": Scale(1 << 55), "p": SumPool2d(2), "r": Readout()}
    return Network(nodes, [("in", "w"), ("w", "p"), ("p", "r")])


def averaged():
    """An average is bounded with one more than it has, for each step: 2^57 - 1 and one."""
    nodes = {"in": Input((1, 2, 2), BIT), "w": Scale((1 << 57) - 1), "p": AvgPool2d(2), "r": Readout()}
    return Network(nodes, [("in", "w"), ("w", "p"), ("p", "r")])


def late():
    """A delayed connection: what it has not sent yet counts in its bound, and may never be observed."""
    layer = Affine([[1 << 27]], weight_format=Fixed(32), multiplier=1 << 30, delay=1)
    return Network.sequential(Input((1,), BIT), layer, ("r", Readout()))


def biased():
    """The bias flows in driven steps, whatever comes in."""
    bias = [(1 << 57) - (1 << 30), 5]
    return Network.sequential(
        Input((1,), BIT), Affine([[1 << 30], [0]], bias=bias, weight_format=Fixed(32)), ("r", Readout())
    )


def offset():
    """An offset flows in driven steps too."""
    layer = Input((1,), Fixed(2), multiplier=-(1 << 20), offset=(1 << 57) - (1 << 21))
    return Network.sequential(layer, ("r", Readout()))


GATES = [readout, spikes, pool, joined, summed, averaged, late, biased, offset]


@pytest.mark.parametrize("make", GATES, ids=lambda make: make.__name__)
def test_last_step_that_fits_and_the_first_that_does_not(make):
    network = make()
    size = network.shapes["in" if "in" in network.nodes else network.input_name]
    inputs = np.ones((1, *size), int)
    bound = network.bounds(31, 31)["r"]
    assert -LIMIT <= bound.total_low.min() and LIMIT - (1 << 57) <= bound.total_high.max() < LIMIT
    found = all_equal(network, inputs, steps=31)
    assert max(found[0]) == (31 if make is pool else found[0][0])
    (said,) = refusals(network, inputs, steps=32)
    assert said.startswith("r (") and f"its total over 32 steps, 32 of them driven, can reach {1 << 62}," in said
    assert "run fewer steps" in said
    # the same steps with a drive that ends in time
    short = Network(network.nodes, network.edges, t_drive=31)
    if make not in (spikes, averaged):  # there steps count, driven or not
        assert max(all_equal(short, inputs, steps=40)[0]) == (
            40 if make is pool else found[0][0] + (make is late) * (1 << 57)
        )
    # frames: as many as there are
    frames = np.ones((31, 1, *size), int)
    all_equal(network, frames)
    assert all(text.startswith("r (") for text in refusals(network, np.ones((32, 1, *size), int)))


def test_negative_totals_have_one_more():
    layer = Affine([[-(1 << 27)]], weight_format=Fixed(32), multiplier=1 << 30)
    network = Network.sequential(Input((1,), BIT), layer, ("r", Readout()))
    assert all_equal(network, [[1]], steps=32) == [[-(1 << 62)]]
    (said,) = refusals(network, [[1]], steps=33)
    assert f"can reach {-33 << 57}," in said


def test_settling_counts_its_steps():
    """What a run can take, not what it takes: 3 driven steps and the bound of the rest."""

    def network(levels):
        layer = Affine([[1 << 27]], weight_format=Fixed(32), multiplier=1 << 30)
        return Network.sequential(Input((1,), BIT), SignedIF(1), layer, ("r", Readout()), t_drive=3, levels=levels)

    assert all_equal(network(28), [[1]], settle=True) == [[3 << 57]]
    (said,) = refusals(network(29), [[1]], settle=True)
    assert said.startswith("r (Readout): its total over 32 steps, 3 of them driven")
    assert all_equal(network(29), [[1]]) == [[3 << 57]]


def test_caps_bound_totals_for_any_number_of_steps():
    def network(cap, *loop):
        layer = Affine([[1 << 27]], weight_format=Fixed(32), multiplier=1 << 30)
        return Network.sequential(Input((1,), BIT), IF(1, max_count=cap), layer, ("r", Readout()))

    assert all_equal(network(31), [[1]], steps=50) == [[31 << 57]]
    assert len(refusals(network(32), [[1]], steps=50)) == 1


def recurrent(cap):
    nodes = {
        "in": Input((1,), BIT), "j": Add(), "n": IF(1, max_count=cap), "back": Affine([[1]], delay=1),
        "w": Affine([[1 << 27]], weight_format=Fixed(32), multiplier=1 << 30), "r": Readout(),
    }  # fmt: skip
    edges = [("in", "j"), ("back", "j"), ("j", "n"), ("n", "back"), ("n", "w"), ("w", "r")]
    return Network(nodes, edges, t_drive=1)


def test_recurrent_networks():
    """One spike that goes round and round."""
    for cap, steps in ((None, 31), (31, 50)):
        expected = oracle.simulate(recurrent(cap), np.array([[1]]), steps=steps)["outputs"]
        for path in ("reference", "step"):
            assert simulate(recurrent(cap), [[1]], steps=steps, path=path).outputs.tolist() == expected == [[31 << 57]]
    for path in ("reference", "step"):
        with pytest.raises(RangeError, match="r .Readout.: its total over 32 steps"):
            simulate(recurrent(None), [[1]], steps=32, path=path)


def test_first_spike_keeps_no_total():
    network = readout("first_spike")
    assert all_equal(network, [[1], [0]], steps=50) == [[0, -1], [-1, -1]]


def test_what_only_neurons_read_is_no_total():
    """A membrane holds what its format holds: charge without end is no reason to refuse a run."""
    network = Network.sequential(Input((1,), Fixed(62)), IF(1, v_format=WIDE), Affine([[1]]), Readout())
    assert all_equal(network, [[(1 << 61) - 1]], steps=9) == [[9]]


def plan(network, steps):
    return Plan(lower(network, Schedule(steps, steps, steps, steps)), "step")


def test_every_path_refuses_alike():
    """A network that the fused path takes, for a number of steps that nobody could wait for."""
    network = Network.sequential(
        Input((1, 2, 2), BIT), Conv2d([[[[1, 1], [1, 1]]]]), IF(1), Flatten(), Affine([[127]], multiplier=1 << 24),
        ("r", Readout()),
    )  # fmt: skip
    inputs = np.ones((2, 1, 2, 2), np.uint8)
    assert np.array_equal(prepare(network, steps=5)(inputs).outputs, simulate(network, inputs, steps=5).outputs)
    steps = (1 << 31) - 1
    (said,) = refusals(network, inputs, steps=steps, settle=True)
    assert said.startswith("r (Readout)") and f"over {2 * steps} steps, {steps} of them driven" in said
    with pytest.raises(RangeError):
        prepare(network, steps=steps, settle=True)(inputs)


def test_counts_of_neurons():
    """31 bits of counts are widened, 63 bits are refused."""
    network = Network.sequential(Input((1,), BIT), ("n", Neuron(1, max_spikes_per_step=127)))
    edge = (1 << 31) // 127  # 127 of them: 2^31 - 2^31 % 127
    for steps, kind in ((edge, np.int32), (edge + 1, np.int64)):
        assert plan(network, steps).neuron_operation("n").count_type is kind
    narrow = Network.sequential(Input((1,), BIT), ("n", SignedIF(1 << 40, v_format=WIDE, threshold_format=WIDE)))
    for steps, kind in (((1 << 31) - 1, np.int32), (1 << 31, np.int64)):
        assert plan(narrow, steps).neuron_operation("n").count_type is kind
    for steps in (LIMIT // 127 + 1, LIMIT):
        with pytest.raises(RangeError, match=f"n .Neuron.: its total over {steps} steps"):
            plan(network, steps)


def test_wide_counts_are_counted(monkeypatch):
    """A count of 64 bits is the same count."""
    network = Network.sequential(
        Input((1,), Fixed(8)), ("n", Neuron(1, max_spikes_per_step=127, signed=True, max_count=300))
    )
    frames = np.array([127, 100, 100, -50, 20]).reshape(5, 1, 1)
    expected = all_equal(network, frames)
    made = firing.FireBinding.__init__

    def wide(operation, *arguments):
        made(operation, *arguments)
        operation.count_type = np.int64

    monkeypatch.setattr(firing.FireBinding, "__init__", wide)
    assert simulate(network, frames, keep_final=True).final["n.counts"].tolist() == expected == [[297]]


def test_spikes_of_a_step_are_summed_in_parts():
    """More neurons than 32 bits hold the spikes of."""
    from intsnn.kernels.neurons import compiled as neuron

    size = (1 << 24) + (1 << 18)
    x = np.full((1, 1, size), 127, np.int8)
    x[0, 0, 0] = -127
    ever, always, active = np.zeros(size, np.uint8), np.ones(size, np.uint8), np.zeros((1, 1), np.uint8)
    assert neuron.tally(x, 1, np.ones(1, np.uint8), active, ever, always) == 127 * size > 1 << 31
    assert active[0, 0] == 1 and ever.all() and always.all()


# -- inside a step ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [(1 << 29) - 1, 1 << 29, (1 << 30) - 1, (1 << 60) // 4 - 9])
def test_window_of_an_average(value):
    """The window is summed before it is divided: 4 x 2^29 is the first sum beyond 31 bits."""
    fmt = Fixed(59 if value > 1 << 31 else 31)
    network = Network.sequential(Input((1, 2, 2), fmt), ("p", AvgPool2d(2)), ("r", Readout()))
    assert all_equal(network, np.full((1, 1, 2, 2), value), steps=1) == [[value]]
    assert all_equal(network, np.full((1, 1, 2, 2), -value), steps=2) == [[-2 * value]]


def test_a_window_beyond_63_bits_is_refused():
    with pytest.raises(RangeError, match="p .AvgPool2d.: a sum of one step can need more than 63 bits"):
        Network.sequential(Input((1, 2, 2), Fixed(61)), ("p", AvgPool2d(2)), Readout())
    Network.sequential(Input((1, 2, 2), Fixed(60)), ("p", AvgPool2d((1, 2))), Readout())


def test_a_trap_is_an_error_whatever_grows_behind_it():
    neuron = Neuron((1 << 47) - 1, v_format=WIDE, threshold_format=WIDE, v_overflow=Overflow.TRAP, reset="none")
    network = Network.sequential(Input((1,), Fixed(62)), ("n", neuron))
    for path in PATHS:
        with pytest.raises(RangeError, match=f"n: v of neuron 0 is {-(1 << 61)} at step 0 of sample 0"):
            simulate(network, np.full((10, 1, 1), -(1 << 61)), path=path, record="v", keep_final=True)


# -- the fused path ---------------------------------------------------------------------------------


def pooled():
    """Four neurons in two windows of a sum-pool: 2 a step for each input of the max-pool."""
    return Network.sequential(
        Input((1, 1, 4), BIT), Conv2d([[[[1]]]]), IF(1), SumPool2d((1, 2)), ("m", MaxPool2d((1, 2))), Flatten(),
        Affine([[1]]), Readout(),
    )  # fmt: skip


def test_fused_totals_of_a_max_pool():
    """Kept in 16 bits: the last run that they hold; then in 32."""

    def frames(steps):
        return np.ones((steps, 1, 1, 1, 4), np.int8)

    steps = ((1 << 15) - 1) // 2
    for most, kind in ((steps, "MAX_POOL"), (steps + 1, "MAX_VALUES")):
        runner = prepare(pooled())
        assert runner(frames(most)).outputs.tolist() == [[2 * most]]
        (pool,) = runner._pools.values()
        assert Kind[kind] in pool.table.constants[0][:, Operation.KIND]


# -- the integer ANN --------------------------------------------------------------------------------


def test_totals_of_the_ann():
    """Every connection carries totals there."""

    def network(drive):
        layer = Affine([[1 << 27], [-(1 << 27)]], weight_format=Fixed(32), multiplier=1 << 30)
        neuron = SignedIF((1 << 47) - 1, 3, v_format=WIDE, threshold_format=WIDE)
        return Network.sequential(Input((1,), BIT), ("w", layer), ("n", neuron), t_drive=drive)

    assert integer_ann(network(31), [[1]]).outputs.tolist() == [[3, 0]]
    with pytest.raises(
        RangeError, match=f"w .Affine.: its total over 32 steps, 32 of them driven, can reach {1 << 62},"
    ):
        integer_ann(network(32), [[1]])


def test_levels_of_the_ann_beyond_its_steps():
    """One driven step, and a level that a network reaches in many: the sums behind it are wide enough."""
    layers = [Input((1,), Fixed(16)), ("n", SignedIF(1, 1000)), Affine([[1 << 28]], weight_format=Fixed(32)), Readout()]
    network = Network.sequential(*layers, t_drive=1)
    assert integer_ann(network, [[900], [32000], [0]]).outputs.tolist() == [[900 << 28], [1000 << 28], [0]]
    assert simulate(network, [[900], [32000], [0]], settle=True).outputs.tolist() == [[900 << 28], [1000 << 28], [0]]


@pytest.mark.parametrize("mode", ["step", "spread", "once"])
@pytest.mark.parametrize("given", [3, 7, 9])
def test_bias_of_the_ann(mode, given):
    """The sum of what the driven steps have, without a list of them."""
    bias = [100, -33, 5]
    network = Network.sequential(Input((1,)), Affine([[0]] * 3, bias=bias, bias_mode=mode), ("r", Readout()), t_drive=7)
    frames = np.zeros((given, 1, 1), int)
    assert integer_ann(network, frames).outputs.tolist() == all_equal(network, frames)


# -- events -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("values, total", [
    ((2**63 - 1, 2**63 - 1), 2**64 - 2), ((2**63 - 1, 2**63 - 1, 5), 2**64 + 3),
    ((-(2**63), -(2**63), 1), -(2**64) + 1),
    ((-(2**63),), -(2**63)), ((2**62, 2**62), 2**63),
])  # fmt: skip
def test_events_that_add_up_to_too_much(values, total):
    network = Network.sequential(Input((2,), Fixed(4)), IF(3))
    same = [0] * len(values)
    events = Events(same, same, same, 3, 1, values)
    for path in PATHS:
        with pytest.raises(RangeError, match=f"input: sample 0, element 0, step 0 is {total};"):
            simulate(network, events, path=path)


def test_events_that_add_up_to_a_code():
    """Large parts of a small sum."""
    network = Network.sequential(Input((2,), Fixed(4)), ("r", Readout()))
    events = Events([0] * 4, [0] * 4, [1] * 4, 2, 1, [2**63 - 1, -(2**63), 2**63 - 1, -(2**63) + 7])
    assert all(simulate(network, events, path=path).outputs.tolist() == [[0, 5]] for path in PATHS)


# -- at large ---------------------------------------------------------------------------------------


@st.composite
def wide_networks(draw):
    """Networks with totals around 2^62: weights, multipliers, formats and steps of all sizes."""
    bits = st.integers(1, 40)
    signed = draw(st.booleans())
    fmt = Fixed(draw(st.integers(2, 30)), signed=signed)
    nodes, edges, last = {"in": Input((1, 1, 2), fmt)}, [], "in"

    def put(layer):
        nonlocal last
        name = f"{type(layer).__name__.lower()}{len(nodes)}"
        nodes[name] = layer
        edges.append((last, name))
        last = name

    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(("scale", "neuron", "max", "sum", "average", "late")))
        factor = draw(st.sampled_from((-1, 1))) * (1 << draw(bits))
        if kind == "scale":
            put(Scale(factor))
        elif kind == "late":
            put(
                Conv2d(
                    [[[[1]]]],
                    multiplier=factor,
                    bias=draw(st.integers(-(1 << 40), 1 << 40)),
                    delay=draw(st.integers(0, 1)),
                )
            )
        elif kind == "neuron":
            theta = 1 << draw(st.integers(0, 46))
            cap = draw(st.sampled_from((None, 3, 30)))
            put(Neuron(theta, v_format=WIDE, threshold_format=WIDE, signed=draw(st.booleans()), max_count=cap))
        else:
            put({"max": MaxPool2d, "sum": SumPool2d, "average": AvgPool2d}[kind]((1, 2), 1, ((0, 0), (0, 1))))
    put(Readout(draw(st.sampled_from(("sum", "sum", "first_spike")))))
    t_drive = draw(st.sampled_from((None, 1, 5)))
    inputs = draw(st.lists(st.sampled_from((fmt.min, fmt.max, 1)), min_size=4, max_size=4))
    return nodes, edges, t_drive, np.array(inputs).reshape(2, 1, 1, 2), draw(st.integers(1, 40))


@settings(max_examples=150)
@given(wide_networks(), st.booleans())
def test_wide_networks_are_exact_or_refused_alike(case, settle):
    nodes, edges, t_drive, inputs, steps = case
    try:
        network = Network(nodes, edges, t_drive)
    except RangeError as error:
        assert "one step" in str(error)
        return
    options = {"steps": steps, "settle": settle}
    outcomes = []
    for path in PATHS:
        try:
            outcomes.append(simulate(network, inputs, path=path, **options).outputs.tolist())
        except IntsnnError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    if isinstance(outcomes[0], list):
        assert outcomes[0] == oracle.simulate(network, inputs, **options)["outputs"]
    else:
        assert "bits; run fewer steps" in outcomes[0]
