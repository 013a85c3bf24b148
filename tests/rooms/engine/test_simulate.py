"""Simulation: the reference against an independent simulator, and every other path against the reference."""

from dataclasses import replace

import numpy as np
import oracle
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from intsnn.engine.backends.fused.runner import prepare
from intsnn.engine.inputs import Events, encode_rate
from intsnn.engine.simulation import simulate
from intsnn.errors import FormatError, RangeError, ShapeError, UnsupportedError
from intsnn.files import recording
from intsnn.formats.fixed import Fixed, Overflow, Rounding
from intsnn.kernels.numbers.reference import random_word
from intsnn.layers import (
    IF,
    LIF,
    Add,
    Affine,
    Conv2d,
    Decay,
    Flatten,
    Input,
    MaxPool2d,
    Neuron,
    Readout,
    Scale,
    SignedIF,
)
from intsnn.network.spiking import Network

BINARY, BYTE = Fixed(1, signed=False), Fixed(8)


def everything(network):
    """Names of all records that a network can give."""
    names = []
    for name, layer in network.nodes.items():
        if isinstance(layer, Neuron):
            names += [f"{name}.{q}" for q in ("spikes", "counts", "v") + ("u",) * (layer.u_format is not None)]
        elif isinstance(layer, MaxPool2d):
            names += [f"{name}.spikes", f"{name}.counts"]
        elif not isinstance(layer, Readout):
            names.append(f"{name}.current")
    return names


def assert_same(one, two):
    """Two results are equal in every bit that a user can see."""
    assert one.outputs.tolist() == two.outputs.tolist()
    assert one.predictions.tolist() == two.predictions.tolist()
    assert one.extra_steps.tolist() == two.extra_steps.tolist()
    assert (one.steps, one.settled) == (two.steps, two.settled)
    assert one.layers == two.layers
    assert one.records.keys() == two.records.keys() and one.final.keys() == two.final.keys()
    for mine, other in ((one.records, two.records), (one.final, two.final)):
        for key, values in mine.items():
            assert values.dtype == other[key].dtype and np.array_equal(values, other[key]), key


def outcome(network, inputs, **options):
    """What a run gives: its result, or the text of its error."""
    try:
        return simulate(network, inputs, **options)
    except RangeError as error:
        return str(error)


# -- the specification ------------------------------------------------------------------------------


@settings(max_examples=150)
@given(strategies.cases(samples=2))
def test_reference_is_the_documented_simulation(case):
    """Records of every node and step, outputs, rest and counters, against `oracle` (no code in common)."""
    network = case.network
    found = simulate(
        network, case.inputs, path="reference", record=everything(network), keep_final=True, **case.options
    )
    expected = oracle.simulate(network, case.inputs, **case.options)
    assert found.outputs.tolist() == expected["outputs"]
    assert found.predictions.tolist() == expected["predictions"]
    assert found.extra_steps.tolist() == expected["extra"]
    assert found.steps == max(expected["lengths"])
    assert found.settled == (expected["settled"] if case.settle else None)
    for key, values in found.records.items():
        name, quantity = key.rsplit(".", 1)
        for b, sample in enumerate(expected["samples"]):
            length = expected["lengths"][b]
            rows = sample.traces[name][quantity] if quantity in "uv" else sample.history[name]
            if quantity == "counts":
                rows = [sample.total(name, t) for t in range(length)]
            assert values[:length, b].tolist() == rows[:length], key
            rest = values[length:, b]
            held = values[length - 1, b] if quantity in ("u", "v", "counts") else 0
            assert np.array_equal(rest, np.broadcast_to(held, rest.shape)), key
    for b, sample in enumerate(expected["samples"]):
        for name, layer in network.nodes.items():
            if isinstance(layer, Neuron):
                assert found.final[f"{name}.v"][b].tolist() == sample.traces[name]["v"][-1]
            if isinstance(layer, Neuron | MaxPool2d):
                assert found.final[f"{name}.counts"][b].tolist() == sample.total(name, len(sample.history[name]) - 1)
    for name, report in found.layers.items():
        samples = expected["samples"]
        notes = [note for sample in samples for note in sample.overflows[name]]
        assert report.wraps == sum(note[-1] == "WRAP" for note in notes)
        assert report.saturations == sum(note[-1] in ("SAT", "SAT_SYM") for note in notes)
        assert report.underflows == sum(sample.underflows[name] for sample in samples)
        assert report.peak_v == max(sample.peaks[name][0] for sample in samples)
        assert report.peak_sum == max(sample.peaks[name][1] for sample in samples)
        rows = [[oracle.flat(row) for row in sample.history[name]] for sample in samples]
        assert report.spikes == sum(abs(s) for sample in rows for row in sample for s in row)
        columns = [[row[i] for sample in rows for row in sample] for i in range(report.neurons)]
        assert report.dead == sum(not any(column) for column in columns)
        driven = expected["driven"]
        columns = [[row[i] for sample in rows for row in sample[:driven]] for i in range(report.neurons)]
        assert report.always_on == sum(all(column) for column in columns)


@settings(max_examples=80)
@given(strategies.cases(samples=2, wide=True))
def test_reference_is_the_documented_simulation_of_wide_networks(case):
    """The same for numbers of up to 48 bits, maps of 12 x 12 and 40 steps."""
    test_reference_is_the_documented_simulation.hypothesis.inner_test(case)


# -- all paths --------------------------------------------------------------------------------------


@settings(max_examples=120)
@given(strategies.cases(samples=3), st.booleans())
def test_all_paths_agree(case, recorded):
    """Without records the vector loops run, with records the plain ones: both must be the reference."""
    network = case.network
    record = everything(network) if recorded else ()
    paths = ["step"] if network.recurrent else ["step", "layer", "auto"]
    expected = simulate(
        network, case.inputs, path="reference", record=record, keep_final=True, batch_size=3, **case.options
    )
    for path in paths:
        found = simulate(network, case.inputs, path=path, record=record, keep_final=True, **case.options)
        assert_same(found, expected)


@settings(max_examples=60)
@given(strategies.cases(samples=9, plain=True), st.booleans())
def test_plain_networks_agree(case, recorded):
    """The same with integrate-and-fire neurons only: what the narrow kernel and the chunks of steps take."""
    test_all_paths_agree.hypothesis.inner_test(case, recorded)


@settings(max_examples=120)
@given(strategies.cases(samples=3, wide=True), st.booleans())
def test_wide_networks_agree(case, recorded):
    """The same for numbers of up to 48 bits, maps of 12 x 12 and 40 steps."""
    test_all_paths_agree.hypothesis.inner_test(case, recorded)


@settings(max_examples=80)
@given(strategies.cases(samples=3, wide=True, plain=True, recurrent=False), st.booleans())
def test_wide_plain_networks_agree(case, recorded):
    test_all_paths_agree.hypothesis.inner_test(case, recorded)


@settings(max_examples=50)
@given(strategies.cases(samples=9))
def test_batches_and_threads_change_nothing(case):
    record = everything(case.network)
    expected = simulate(case.network, case.inputs, record=record, keep_final=True, batch_size=64, **case.options)
    for batch_size, threads in ((1, 1), (7, 1), (64, 2), (1, 2), (7, 2), (2, 2), (None, 2)):
        found = simulate(
            case.network, case.inputs, record=record, keep_final=True, batch_size=batch_size, threads=threads,
            **case.options,
        )  # fmt: skip
        assert_same(found, expected)


@settings(max_examples=15)
@given(strategies.cases(samples=9))
def test_batches_change_nothing_in_the_reference(case):
    record = everything(case.network)
    runs = [
        simulate(case.network, case.inputs, record=record, path="reference", batch_size=n, **case.options)
        for n in (1, 7, 64)
    ]
    assert_same(runs[0], runs[2])
    assert_same(runs[1], runs[2])


# -- overflow errors --------------------------------------------------------------------------------


@st.composite
def trapping_cases(draw, wide=False):
    """A case in which some formats of some neurons are under TRAP."""
    case = draw(strategies.cases(samples=2 if wide else 5, wide=wide))
    nodes = {}
    for name, layer in case.network.nodes.items():
        if isinstance(layer, Neuron):
            modes = {n: Overflow.TRAP for n in ("v_overflow", "u_overflow", "acc_overflow") if draw(st.booleans())}
            layer = strategies.without(layer, **modes)
        nodes[name] = layer
    case.network = Network(nodes, case.network.edges, case.network.t_drive, case.network.levels)
    return case


@settings(max_examples=60)
@given(trapping_cases(), st.booleans())
def test_overflow_errors_are_the_same_on_all_paths(case, strict):
    """The first overflow of the first sample that has one is named, whatever ran before it."""
    network = case.network
    expected = outcome(network, case.inputs, path="reference", strict=strict, batch_size=1, **case.options)
    try:
        oracle.simulate(network, case.inputs, strict=strict, **case.options)
        assert not isinstance(expected, str), expected
    except oracle.Trapped as trapped:
        sample, step, _, neuron, name, quantity, value, _ = trapped.args[0]
        place = _coordinates(neuron, network.shapes[name])
        assert isinstance(expected, str)
        assert expected.startswith(f"{name}: {quantity} of {place} is {value} at step {step} of sample {sample}; ")
    for options in ({"path": "step", "batch_size": 2}, {"batch_size": 64}, {"batch_size": 1, "threads": 2}):
        found = outcome(network, case.inputs, strict=strict, **options, **case.options)
        if isinstance(expected, str):
            assert found == expected
        else:
            assert_same(found, expected)


@settings(max_examples=40)
@given(trapping_cases(wide=True), st.booleans())
def test_overflow_errors_of_wide_networks_are_the_same(case, strict):
    test_overflow_errors_are_the_same_on_all_paths.hypothesis.inner_test(case, strict)


def _coordinates(neuron, shape):
    if len(shape) == 1:
        return f"neuron {neuron}"
    channels, _, width = shape
    return f"neuron (c={neuron % channels}, y={neuron // channels // width}, x={neuron // channels % width})"


def one_neuron(neuron, fmt=BYTE, weight=1, **options):
    """Input, weight, neuron: the smallest network."""
    return Network.sequential(Input((1,), fmt), Affine([[weight]], **options), ("neuron", neuron))


@pytest.mark.parametrize("path", ["reference", "step", "layer"])
def test_overflow_message(path):
    network = one_neuron(IF(100, v_format=Fixed(8)))
    text = "neuron: v of neuron 0 is 160 at step 1 of sample 2; fxp-s8/0 holds -128 to 127; widen the format"
    with pytest.raises(RangeError, match=text):
        simulate(network, [[0], [50], [80]], steps=3, strict=True, path=path)
    result = simulate(network, [[0], [50], [80]], steps=3, path=path)
    assert result.layers["neuron"].saturations == result.overflows == 1
    assert result.outputs.tolist() == [[0], [1], [2]]


@pytest.mark.parametrize("path", ["reference", "step", "layer"])
def test_trap_is_not_hidden_by_an_earlier_saturation(path):
    neuron = IF(1, acc_format=Fixed(3), v_format=Fixed(4), v_overflow=Overflow.TRAP, reset="none", max_count=1)
    with pytest.raises(RangeError, match="v of neuron 0 is 9 at step 2"):
        simulate(one_neuron(neuron), [[5]], steps=5, path=path)  # acc saturates at 3 from step 0 on
    with pytest.raises(RangeError, match="acc of neuron 0 is 5 at step 0 of sample 0; fxp-s3/0 holds -4 to 3"):
        simulate(one_neuron(neuron), [[5]], steps=5, path=path, strict=True)


def test_overflow_message_names_the_range_that_holds():
    neuron = IF(100, v_format=Fixed(8), v_overflow=Overflow.SAT_SYM)
    with pytest.raises(RangeError, match="v of neuron 0 is -128 .* holds -127 to 127"):
        simulate(one_neuron(neuron), [[-64]], steps=3, strict=True)


# -- time -------------------------------------------------------------------------------------------


def test_bias_schedules():
    def currents(mode, steps, **options):
        network = Network.sequential(
            Input((1,), BINARY),
            ("a", Affine([[0], [0]], bias=[7, -7], bias_mode=mode)),
            IF(100, signed=True),
            **options,
        )
        return simulate(network, [[0]], steps=steps, record=["a.current"]).records["a.current"][:, 0].T.tolist()

    assert currents("step", 6, t_drive=4) == [[7, 7, 7, 7, 0, 0], [-7, -7, -7, -7, 0, 0]]
    assert currents("once", 6, t_drive=4) == [[7, 0, 0, 0, 0, 0], [-7, 0, 0, 0, 0, 0]]
    assert currents("spread", 6, t_drive=4) == [[1, 2, 2, 2, 0, 0], [-2, -2, -2, -1, 0, 0]]
    assert currents("spread", 2, t_drive=4) == [[1, 2], [-2, -2]]  # nothing is rescaled by steps
    assert currents("spread", 5) == [[1, 1, 2, 1, 2], [-2, -1, -2, -1, -1]]  # without t_drive: over the run


@given(st.integers(-(10**6), 10**6), st.integers(1, 400))
def test_spread_bias_adds_up_exactly(total, drive):
    from intsnn.layers.schedule import bias_schedule

    rows = bias_schedule(np.array([total]), "spread", drive, 0, drive + 3)[:, 0].tolist()
    assert sum(rows) == total and rows[drive:] == [0, 0, 0]
    assert set(rows[:drive]) <= {total // drive, -(-total // drive)}
    prefix = np.cumsum(rows[:drive]).tolist()
    assert all(abs(p * drive - total * (t + 1)) < drive for t, p in enumerate(prefix))


def test_the_drive_ends():
    """Constant input flows for min(steps, T_drive) steps; then the network sees 0, not the offset."""
    network = Network.sequential(
        ("in", Input((1,), Fixed(4), multiplier=2, offset=1)), IF(1000), ("r", Readout()), t_drive=3
    )
    found = simulate(network, [[5]], steps=5, record=["in.current"]).records["in.current"]
    assert found[:, 0, 0].tolist() == [11, 11, 11, 0, 0]
    frames = np.full((2, 1, 1), 5)
    found = simulate(network, frames, steps=5, record=["in.current"]).records["in.current"]
    assert found[:, 0, 0].tolist() == [11, 11, 0, 0, 0]
    assert simulate(network, [[5]]).steps == 3
    assert simulate(network, [[5]], steps=2).steps == 2
    assert simulate(network, [[5]], steps=2, settle=True).steps == 3  # settling finishes the drive


def test_frames_events_and_constants_agree():
    rng = np.random.default_rng(5)
    network = Network.sequential(
        Input((2, 3, 3), Fixed(4)), Conv2d(rng.integers(-8, 8, (17, 2, 2, 2)), padding=((0, 1), (1, 0))), IF(9),
        Flatten(), Affine(rng.integers(-8, 8, (3, 153))), Readout(),
    )  # fmt: skip
    codes = rng.integers(-8, 8, (5, 2, 3, 3))
    frames = np.repeat(codes[None], 20, axis=0)
    step, sample, index = np.nonzero(frames.reshape(20, 5, 18))
    events = Events(step, sample, index, 20, 5, frames.reshape(20, 5, 18)[step, sample, index])
    expected = simulate(network, codes, steps=20)
    assert expected.layers["neuron_2"].spikes > 100
    for inputs, options in (
        (frames, {}), (events, {}), (np.moveaxis(frames, 0, 2), {"time_axis": 2}), (frames.astype(np.int8), {}),
    ):  # fmt: skip
        assert_same(simulate(network, inputs, steps=20, **options), expected)


def test_images_into_a_flat_input():
    """For an input of N elements, images count in C, H, W order."""
    network = Network.sequential(Input((4,), Fixed(4)), Affine([[1, 2, 3, 4]]), Readout())
    assert simulate(network, np.arange(4).reshape(1, 1, 2, 2), steps=1).outputs.tolist() == [[20]]
    assert simulate(network, np.arange(4).reshape(1, 1, 1, 2, 2)).outputs.tolist() == [[20]]


@pytest.mark.parametrize("path", ["reference", "step", "layer"])
def test_settling(path):
    """Layer 2 has to take a spike back after the drive; the counts are those of the ANN, the extra step is counted."""
    network = Network.sequential(
        Input((2,), BINARY),
        Affine([[4, 0], [1, 3]]),
        ("one", SignedIF([8, 8], levels=3)),
        Affine([[4, -8]]),
        ("two", SignedIF(4, levels=3)),
        t_drive=3,
        levels=3,
    )
    frames = np.array([[[1, 0]], [[1, 0]], [[0, 1]]])
    driven = simulate(network, frames, path=path, record="spikes", keep_final=True)
    assert (driven.settled, driven.steps, driven.extra_steps.tolist()) == (None, 3, [0])
    settled = simulate(network, frames, path=path, record="spikes", keep_final=True, settle=True)
    assert settled.settled
    for key in driven.records:
        assert np.array_equal(settled.records[key][:3], driven.records[key])
    assert settled.steps == 3 + settled.extra_steps.max()


@pytest.mark.parametrize("path", ["reference", "step", "layer"])
def test_extra_steps_are_counted_per_sample(path):
    """A membrane charged to n thresholds in one step of the drive needs n - 1 steps more."""
    network = one_neuron(IF(2), Fixed(8))
    network = Network(network.nodes, network.edges, t_drive=1, levels=100)
    for batch_size in (1, 3, 64):
        found = simulate(network, [[0], [2], [7], [40], [1]], settle=True, path=path, batch_size=batch_size, record="v")
        assert found.extra_steps.tolist() == [0, 0, 2, 19, 0]
        assert found.outputs.tolist() == [[0], [1], [3], [20], [0]]
        assert found.steps == 20 and found.settled
        assert found.records["neuron.v"][-1, :, 0].tolist() == [0, 0, 1, 0, 1]  # states stay at rest
    short = Network(network.nodes, network.edges, t_drive=1, levels=10)
    found = simulate(short, [[7], [40]], settle=True, path=path)
    assert not found.settled and found.extra_steps.tolist() == [2, 10] and found.outputs.tolist() == [[3], [11]]
    assert simulate(short, [[7]], settle=True, path=path).settled


@pytest.mark.parametrize("path", ["reference", "step", "layer"])
def test_rest_waits_for_delay_lines_in_a_row(path):
    """Nothing fires while a spike is under way through two delays; that is not rest."""
    layers = [Input((1,), BINARY), ("one", IF(1)), Affine([[1]], delay=1), Affine([[1]], delay=1), ("two", IF(1))]
    network = Network.sequential(*layers, t_drive=1, levels=1)
    found = simulate(network, [[1]], settle=True, record="spikes", path=path)
    assert found.records["one.spikes"][:, 0, 0].tolist() == [1, 0, 0]
    assert found.records["two.spikes"][:, 0, 0].tolist() == [0, 0, 1]
    assert found.settled and found.extra_steps.tolist() == [2]
    network = Network.sequential(layers[0], *layers[2:], t_drive=1, levels=1)  # the same from the input
    assert simulate(network, [[1]], settle=True, path=path).outputs.tolist() == [[1]]
    network = Network.sequential(*layers[:-1], ("r", Readout()), t_drive=1, levels=1)  # and to the readout
    assert simulate(network, [[1]], settle=True, path=path).outputs.tolist() == [[1]]


@pytest.mark.parametrize("path", ["reference", "step", "layer"])
def test_what_a_sample_at_rest_left_behind_is_not_under_way(path):
    """One sample ends with the drive of 3 steps, firing; the other in the last 3 of 11 more, in the same buffers."""
    network = Network.sequential(
        Input((1,), Fixed(4)), ("one", IF(1)), Affine([[1]], delay=1), Readout(), t_drive=3, levels=10
    )
    found = simulate(network, [[1], [4]], settle=True, path=path)
    assert found.outputs.tolist() == [[3], [12]] and found.extra_steps.tolist() == [0, 9]
    assert found.settled


@pytest.mark.parametrize("path", ["reference", "step", "layer"])
def test_delay(path):
    network = one_neuron(IF(1), BINARY, delay=1)
    frames = np.array([1, 0, 1, 1, 0])[:, None, None]
    found = simulate(network, frames, record="spikes", path=path).records["neuron.spikes"]
    assert found[:, 0, 0].tolist() == [0, 1, 0, 1, 1]
    frames = (np.arange(40) % 3 == 0).astype(int)[:, None, None]  # over several chunks of steps
    found = simulate(network, frames, record="spikes", path=path).records["neuron.spikes"]
    assert found[:, 0, 0].tolist() == [0, *frames[:-1, 0, 0].tolist()]


@pytest.mark.parametrize("path", ["reference", "step"])
def test_recurrence_takes_one_step(path):
    """A spike that comes back as an inhibition in the next step."""
    nodes = {
        "in": Input((1,), BINARY), "join": Add(), "n": IF(1, v_format=Fixed(6)), "back": Affine([[-2]], delay=1),
        "out": Readout("count"),
    }  # fmt: skip
    edges = [("in", "join"), ("back", "join"), ("join", "n"), ("n", "back"), ("n", "out")]
    network = Network(nodes, edges)
    assert network.recurrent
    found = simulate(network, [[1]], steps=7, record=["spikes", "v", "back.current"], path=path)
    assert found.records["n.spikes"][:, 0, 0].tolist() == [1, 0, 0, 1, 0, 0, 1]
    assert found.records["back.current"][:, 0, 0].tolist() == [0, -2, 0, 0, -2, 0, 0]
    assert found.records["n.v"][:, 0, 0].tolist() == [0, -1, 0, 0, -1, 0, 0]
    with pytest.raises(UnsupportedError, match="recurrent"):
        simulate(network, [[1]], steps=7, path="layer")


@pytest.mark.parametrize("path", ["reference", "step", "layer"])
def test_max_pool_is_the_difference_of_the_greatest_count(path):
    """Inputs fire in turns: the greatest count grows once, not with every spike; a spike taken back shows as -1."""
    network = Network.sequential(Input((1, 1, 2), Fixed(2)), ("pool", MaxPool2d((1, 2))))
    frames = np.array([[1, 0], [0, 1], [1, 1], [-1, 0], [0, -1], [0, -1]])[:, None, None, None, :]
    found = simulate(network, frames, record=["spikes", "counts"], path=path)
    assert found.records["pool.spikes"].ravel().tolist() == [1, 0, 1, 0, -1, 0]
    assert found.records["pool.counts"].ravel().tolist() == [1, 1, 2, 2, 1, 1]
    assert found.outputs.tolist() == [[1]]


@pytest.mark.parametrize("path", ["reference", "step", "layer"])
def test_max_pool_of_large_values(path):
    """Totals beyond 32 bits, steps beyond 8 bits; of one sample and of more samples than steps."""
    network = Network.sequential(Input((1, 1, 2), Fixed(31, signed=False)), ("pool", MaxPool2d((1, 2))))
    top = 2**31 - 1
    found = simulate(network, np.array([[[[5, top]]]]), steps=7, record="spikes", path=path)
    assert found.outputs.tolist() == [[7 * top]]
    assert found.records["pool.spikes"].ravel().tolist() == [top] * 7
    found = simulate(network, np.array([[[[5, top]]], [[[3, 2]]], [[[0, top - 1]]]]), steps=2, path=path)
    assert found.outputs.tolist() == [[2 * top], [6], [2 * top - 2]]


# -- readouts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["reference", "step", "layer"])
def test_first_index_wins_ties(path):
    frames = np.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 1, 0]])[:, None, :]
    for kind, outputs, best in (("sum", [1, 2, 2, 1], 1), ("count", [1, 2, 2, 1], 1), ("first_spike", [1, 0, 1, 0], 1)):
        network = Network.sequential(Input((4,), BINARY), Readout(kind))
        found = simulate(network, frames, path=path)
        assert found.outputs.tolist() == [outputs] and found.predictions.tolist() == [best]
    silent = simulate(network, np.zeros((3, 1, 4), int), path=path)
    assert silent.outputs.tolist() == [[-1] * 4] and silent.predictions.tolist() == [0]
    late = simulate(network, frames[:1] * [[0, 0, 0, 1]], path=path)
    assert late.outputs.tolist() == [[-1, -1, -1, 0]] and late.predictions.tolist() == [3]


def test_output_needs_counts():
    network = Network.sequential(Input((1,), BINARY), Affine([[1]]))
    with pytest.raises(ShapeError, match="output 'affine_1' has no counts"):
        simulate(network, [[1]], steps=1)


# -- random bits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["reference", "step", "layer"])
def test_stochastic_rounding_uses_the_documented_keys(path):
    """Layer index: position in `Network.order`; element: (y W + x) C + c; sample: its number in the run."""
    decay = Decay.by_shift(3, Rounding.STOCHASTIC)
    neuron = LIF(10**6, decay, v_initial=[1001, 2003])
    network = Network.sequential(Input((2, 2, 3), BINARY), Scale(1), ("n", neuron))
    assert network.order.index("n") == 2
    seed, steps = 77, 3
    found = simulate(network, np.zeros((5, 2, 2, 3), int), steps=steps, seed=seed, path=path, record="v", batch_size=2)
    for sample in range(5):
        for c, start in enumerate((1001, 2003)):
            for y in range(2):
                for x in range(3):
                    v = start
                    for t in range(steps):
                        word = random_word(seed, t, 2, sample, (y * 3 + x) * 2 + c, 1)
                        v -= (v + word % 8) >> 3
                        assert found.records["n.v"][t, sample, c, y, x] == v
    other = simulate(network, np.zeros((5, 2, 2, 3), int), steps=steps, seed=78, path=path, record="v")
    assert not np.array_equal(found.records["n.v"], other.records["n.v"])


def test_rate_encoding():
    codes = np.array([[0, 1, 128, 255], [255, 0, 64, 3]])
    spikes = encode_rate(codes, 400, 255, seed=3)
    assert spikes.shape == (400, 2, 4) and spikes.dtype == np.int8
    for t in range(0, 400, 57):
        for b in range(2):
            for i in range(4):
                word = random_word(3, t, 0, b, i, 3) >> 33
                assert spikes[t, b, i] == (word * 255 < codes[b, i] << 31)
    counts = spikes.sum(axis=0, dtype=np.int64)
    assert counts[0, 0] == counts[1, 1] == 0 and counts[0, 3] == counts[1, 0] == 400
    assert 150 < counts[0, 2] < 250
    assert not np.array_equal(spikes, encode_rate(codes, 400, 255, seed=4))
    with pytest.raises(RangeError, match="codes 0 to 255; 0 to 254"):
        encode_rate(codes, 3, 254)
    with pytest.raises(RangeError, match="maximum"):
        encode_rate(codes, 3, 0)


# -- records, errors, options -----------------------------------------------------------------------


@settings(max_examples=25)
@given(strategies.cases(samples=5), st.sampled_from((1, 2, 64)), st.sampled_from((1, 2)))
def test_records_on_disk_are_those_in_memory(tmp_path_factory, case, batch_size, threads):
    """Ragged: the rows of all samples end to end; equal: all as long as the longest; the same as in memory."""
    record = everything(case.network)
    path = tmp_path_factory.mktemp("records") / "records.h5"
    expected = simulate(case.network, case.inputs, record=record, **case.options)
    lengths = oracle.simulate(case.network, case.inputs, **case.options)["lengths"]
    for length in ("ragged", "equal"):
        found = simulate(
            case.network, case.inputs, record=record, record_to=path, record_length=length, batch_size=batch_size,
            threads=threads, **case.options,
        )  # fmt: skip
        assert found.records == {}
        assert found.outputs.tolist() == expected.outputs.tolist() and found.layers == expected.layers
        stored = recording.load(path, trust=True)
        assert stored.rows.tolist() == lengths and stored.extra_steps.tolist() == expected.extra_steps.tolist()
        assert np.array_equal(stored.outputs, expected.outputs)
        assert np.array_equal(stored.predictions, expected.predictions)
        for key, values in expected.records.items():
            name, _, quantity = key.rpartition(".")
            whole = stored.layers[name][quantity]
            if length == "equal":
                assert np.array_equal(whole, values.swapaxes(0, 1))
            else:
                assert whole.shape == (sum(lengths), *values.shape[2:])
            for b, rows in enumerate(lengths):
                assert np.array_equal(stored.sample(name, quantity, b), values[:rows, b])


def test_a_failed_run_leaves_the_old_record(tmp_path):
    path = tmp_path / "records.h5"
    network = one_neuron(IF(100, v_format=Fixed(8)))
    simulate(network, [[1]], steps=2, record="v", record_to=path)
    before = path.read_bytes()
    with pytest.raises(RangeError):
        simulate(network, [[1], [1], [127]], steps=3, strict=True, record="v", record_to=path, batch_size=1)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("path", ["reference", "step", "layer"])
@pytest.mark.parametrize("kind", ["constant", "frames", "events"])
def test_input_out_of_range_is_an_error(path, kind):
    network = Network.sequential(Input((2,), Fixed(4)), Affine([[1, 1]]), IF(3))
    codes = np.array([[7, -8], [0, 8], [0, 0]])
    where = "element 1" if kind == "constant" else "element 1, step 1"
    text = f"input: sample 1, {where} is 8; fxp-s4/0 holds -8 to 7"
    inputs, options = codes, {"steps": 3}
    if kind == "frames":
        inputs, options = np.stack([codes * 0, codes]), {}
    elif kind == "events":
        inputs, options = Events([1, 1], [1, 1], [1, 1], 2, 3, [4, 4]), {}  # events on one place add up
    for batch_size in (1, 64):
        with pytest.raises(RangeError, match=text):
            simulate(network, inputs, path=path, batch_size=batch_size, **options)


def test_inputs_that_do_not_fit():
    network = Network.sequential(Input((1, 2, 2), BINARY), IF(1))
    for shape in ((2, 2), (5, 1, 2, 3), (5, 4), (2, 5, 1, 2, 3)):
        with pytest.raises(ShapeError, match="input: found an array of shape"):
            simulate(network, np.zeros(shape, int), steps=1)
    with pytest.raises(FormatError, match="not whole numbers"):
        simulate(network, np.full((1, 1, 2, 2), 0.5), steps=1)
    assert simulate(network, np.ones((1, 1, 2, 2)), steps=1).outputs.sum() == 4  # whole floats are exact
    with pytest.raises(RangeError, match="Events.index: found 0 to 4; the input has 4"):
        simulate(network, Events([0, 0], [0, 0], [0, 4], 1, 1))
    with pytest.raises(RangeError, match="Events.step: found 0 to 3; 0 to 2"):
        Events([0, 3], [0, 0], [0, 0], 3, 1)
    with pytest.raises(RangeError, match="Events.sample"):
        Events([0], [-1], [0], 3, 1)
    with pytest.raises(ShapeError, match="Events.index"):
        Events([0], [0], [0, 1], 3, 1)


def test_options_that_cannot_be():
    network = Network.sequential(Input((1,), BINARY), ("a", Affine([[1]])), ("n", IF(1)))
    for options, text in (
        ({"path": "fast"}, "path: found 'fast'"),
        ({"steps": 0}, "steps: found 0"),
        ({"threads": 0}, "threads"),
        ({"batch_size": 0}, "batch_size"),
        ({"record": "x"}, "record: found 'x'"),
        ({"record": ["b.v"]}, "record: found 'b.v'"),
        ({"record": ["a.v"]}, "a .Affine. has no v"),
        ({"record": ["n.u"]}, "n .Neuron. has no u"),
        ({"record": ["n.current"]}, "n .Neuron. has no current"),
    ):
        with pytest.raises(FormatError, match=text):
            simulate(network, [[1]], **{"steps": 1, **options})
    with pytest.raises(FormatError, match="no t_drive"):
        simulate(network, [[1]])


def test_no_samples():
    network = Network.sequential(Input((2,), BINARY), IF(1), Readout())
    found = simulate(network, np.zeros((0, 2), int), steps=3, settle=True)
    assert found.outputs.shape == (0, 2) and found.samples == 0 and found.predictions.tolist() == []
    assert found.layers["neuron_1"].spikes == 0 and found.spikes_per_neuron == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_progress(threads):
    network = Network.sequential(Input((1,), BINARY), IF(1))
    seen = []
    simulate(
        network, np.ones((7, 1), int), steps=2, batch_size=3, threads=threads,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(3, 7), (6, 7), (7, 7)]


def test_counters():
    """One neuron that never fires, one that always does, one in between; a decay that loses a state."""
    network = Network.sequential(
        Input((3,), Fixed(4)), ("n", LIF(4, Decay.by_multiply(1, 2), v_format=Fixed(4), v_overflow=Overflow.WRAP))
    )
    report = simulate(network, [[0, 4, 3], [1, 7, 0]], steps=3).layers["n"]
    assert (report.neurons, report.dead, report.always_on, report.spikes) == (3, 2, 1, 6)
    assert report.peak_sum == 7 and report.peak_v == 7
    # sample 0: v = 3, 3 -> floor(3 / 4) = 0 twice; sample 1: 1 -> 0 twice and 7 - 4 = 3 -> 0 twice
    assert report.underflows == 6 and report.overflows == 0
    wide = simulate(network, [[0, 0, -5]], steps=9).layers["n"]
    assert wide.peak_sum == 5 and wide.peak_v == 7 and wide.wraps == 0


def test_spikes_per_neuron():
    network = Network.sequential(Input((2,), BINARY), IF(1), IF(2))
    found = simulate(network, [[1, 1], [0, 1]], steps=4)
    assert found.layers["neuron_1"].spikes == 12 and found.layers["neuron_2"].spikes == 6
    assert found.spikes_per_neuron == 18 / 8


def test_wide_sums_use_wide_types():
    """Weights, sums and membranes around 32 bits: types are chosen from the bound, results are exact."""
    big = 2**31 - 1
    for weights in ([big, 1], [big, -big], [1, 1], [-(2**31), big]):
        network = Network.sequential(
            Input((2,), Fixed(16)), Affine([weights], weight_format=Fixed(33)),
            ("n", SignedIF(1000, v_format=Fixed(48))), Readout(),
        )  # fmt: skip
        inputs = [[1, 0], [0, 1], [1, 1], [-32768, 32767], [32767, -32768]]
        record = everything(network)
        expected = simulate(network, inputs, steps=3, path="reference", record=record)
        for path in ("step", "layer"):
            assert_same(simulate(network, inputs, steps=3, path=path, record=record), expected)


def test_v_negative_beyond_32_bits():
    neuron = SignedIF(4, levels=3, v_negative=-(1 << 40), v_format=Fixed(48))
    frames = np.array([7, -7, -7])[:, None, None]
    for path in ("reference", "step", "layer"):
        found = simulate(one_neuron(neuron), frames, record="spikes", path=path)
        assert found.records["neuron.spikes"].ravel().tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    "neuron",
    [
        SignedIF(4, levels=3, v_negative=-(1 << 40), v_format=Fixed(48)),
        SignedIF(1 << 33, levels=3, v_initial=0, threshold_format=Fixed(48), v_format=Fixed(48)),
        SignedIF([1 << 33, 5], levels=3, v_initial=(1 << 33) - 9, threshold_format=Fixed(48), v_format=Fixed(48)),
    ],
    ids=["v_negative", "threshold", "v_initial"],
)
@pytest.mark.parametrize("multiplier", [1, 1 << 29])
def test_fused_path_holds_wide_membranes(neuron, multiplier):
    """Numbers beyond 32 bits, over one pass and over many."""
    connection = Affine([[1], [-1]], bias=[3, 1 << 34], multiplier=multiplier, bias_mode="step")
    network = Network.sequential(Input((1,), BYTE), connection, ("n", neuron), Affine([[1, 1]]), Readout(), t_drive=3)
    for options in ({"steps": 3}, {"steps": 20}, {"settle": True}):
        want = simulate(network, [[7], [100]], **options)
        got = prepare(network, **options)([[7], [100]])
        assert got.outputs.tolist() == want.outputs.tolist()


@pytest.mark.parametrize("neuron", [IF(4, v_format=Fixed(9, signed=False), v_overflow=Overflow.SAT_SYM)])
def test_fused_path_holds_what_it_takes(neuron):
    """Formats that overflow do so there too; where that is an error, the run is left to others."""
    network = Network.sequential(Input((1,), BYTE), Affine([[1]]), ("n", neuron), Affine([[1]]), Readout())
    want = simulate(network, [[7], [100]], steps=50)
    assert prepare(network, steps=50)([[7], [100]]).outputs.tolist() == want.outputs.tolist()
    with pytest.raises(UnsupportedError, match="fused gives no reports"):
        simulate(network, [[7]], steps=50, strict=True, path="fused")
    trapped = replace(neuron, v_overflow=Overflow.TRAP)
    with pytest.raises(UnsupportedError, match="prepare: n may overflow where an overflow is an error"):
        prepare(replace(network, nodes={**network.nodes, "n": trapped}), steps=3)([[7]])
