"""A run that is cut anywhere, and goes on from its state on any path, gives the bits of a run in one piece."""

from dataclasses import replace

import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from intsnn.engine.ann import integer_ann
from intsnn.engine.inputs import Events
from intsnn.engine.simulation import simulate
from intsnn.engine.state import State
from intsnn.errors import FormatError, IntsnnError, RangeError, ShapeError, UnsupportedError
from intsnn.formats.fixed import Fixed, Rounding
from intsnn.layers import (
    IF,
    LIF,
    Add,
    Affine,
    CubaLIF,
    Decay,
    Flatten,
    Input,
    MaxPool2d,
    Neuron,
    Readout,
    Refractory,
    SignedIF,
)
from intsnn.network.spiking import Network

RECORD = ("spikes", "v", "u", "counts")
BYTE = Fixed(8, signed=False)


def dense(case):
    """The inputs of a case as an array, and whether they come by steps."""
    layer = case.network.nodes[case.network.input_name]
    if not isinstance(case.inputs, Events):
        return case.inputs, case.inputs.ndim == len(layer.shape) + 2
    frames = case.inputs.frames(0, case.inputs.samples, int(np.prod(layer.shape)))
    return np.swapaxes(frames, 0, 1).reshape(case.inputs.steps, case.inputs.samples, *layer.shape), True


def in_pieces(network, inputs, by_steps, lengths, paths, seed):
    """Results of the pieces, each from the state of the one before; of pairs of samples in between."""
    results, state, now = [], None, 0
    for length, path in zip(lengths, paths, strict=True):
        part = inputs[now : now + length] if by_steps else inputs
        found = simulate(
            network,
            part,
            steps=length,
            record=RECORD,
            keep_final=True,
            keep_state=True,
            state=state,
            path=path,
            seed=seed,
        )
        assert found.state.step == now + length
        results, state, now = [*results, found], found.state, now + length
    return results


def spread_without_drive(network):
    layers = network.nodes.values()
    return network.t_drive is None and any(
        layer.weighted and layer.bias is not None and layer.bias_mode == "spread" for layer in layers
    )


@settings(max_examples=200)
@given(st.data())
def test_any_network_cut_anywhere(data):
    """Leaks, delays, recurrence, random bits: records, finals and outputs, each piece on another path."""
    case = data.draw(strategies.cases(settle=False, samples=3))
    network, (inputs, by_steps) = case.network, dense(case)
    total = len(inputs) if by_steps else case.options["steps"] or network.t_drive
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, total - 1)), max_size=3))) if total > 1 else []
    lengths = np.diff([0, *cuts, total]).tolist()
    paths = ["step", "reference"] if network.recurrent else ["layer", "step", "reference"]
    chosen = [data.draw(st.sampled_from(paths)) for _ in lengths]
    seed = case.options["seed"]
    try:
        one = simulate(network, inputs, steps=total, record=RECORD, keep_final=True, path="step", seed=seed)
    except IntsnnError as error:  # an overflow that is trapped
        with pytest.raises(type(error)):
            in_pieces(network, inputs, by_steps, lengths, chosen, seed)
        return
    if len(lengths) > 1 and spread_without_drive(network):
        with pytest.raises(UnsupportedError, match="is spread over a drive that nothing declares"):
            in_pieces(network, inputs, by_steps, lengths, chosen, seed)
        return
    pieces = in_pieces(network, inputs, by_steps, lengths, chosen, seed)
    assert np.array_equal(pieces[-1].outputs, one.outputs)
    assert np.array_equal(pieces[-1].predictions, one.predictions)
    for key, values in one.records.items():
        assert np.array_equal(np.concatenate([piece.records[key] for piece in pieces]), values), key
    for key, values in one.final.items():
        assert np.array_equal(pieces[-1].final[key], values), key


def leaky():
    nodes = {
        "in": Input((2, 2, 2), BYTE), "pool": MaxPool2d(2), "flat": Flatten(),
        "w": Affine([[3, -1], [2, 5], [1, 1]], delay=1, bias=[1, 0, -1]),
        "join": Add(),
        "n": CubaLIF(
            40, Decay.by_shift(2, Rounding.STOCHASTIC), Decay.by_shift(3), reset_delay=1,
            refractory=Refractory("counter", 2),
        ),
        "back": Affine([[0, -9, 0], [3, 0, 0], [0, 0, 1]], delay=1), "out": Readout(),
    }  # fmt: skip
    edges = [
        ("in", "pool"), ("pool", "flat"), ("flat", "w"), ("w", "join"), ("back", "join"), ("join", "n"), ("n", "back"),
        ("n", "out"),
    ]  # fmt: skip
    return Network(nodes, edges)


def test_what_a_state_holds():
    frames = np.random.default_rng(0).integers(0, 40, (6, 3, 2, 2, 2))
    state = simulate(leaky(), frames, keep_state=True).state
    assert state.step == 6 and state.samples == 3
    assert {key: values.shape for key, values in state.arrays.items()} == {
        "w.line": (3, 2), "back.line": (3, 3), "n.u": (3, 3), "n.v": (3, 3), "n.count": (3, 3), "n.pending": (3, 3),
        "n.refractory": (3, 3), "pool.inputs": (3, 2, 2, 2), "pool.count": (3, 2, 1, 1), "out.total": (3, 3),
    }  # fmt: skip
    assert simulate(leaky(), frames).state is None
    assert np.array_equal(state[1:].arrays["n.v"], state.arrays["n.v"][1:])
    assert state[np.array([True, False, True])].samples == 2


def test_samples_part_and_go_on_alone():
    """Random bits are keyed by the number of a sample, so there are none here."""
    network = Network.sequential(Input((2,), BYTE), Affine([[3, -2], [1, 4]]), LIF(30, Decay.by_shift(2)), Readout())
    frames = np.random.default_rng(1).integers(0, 9, (9, 4, 2))
    state = simulate(network, frames[:4], keep_state=True).state
    whole = simulate(network, frames).outputs
    assert np.array_equal(simulate(network, frames[4:, 2:], state=state[2:]).outputs, whole[2:])
    assert np.array_equal(simulate(network, frames[4:, [3, 0]], state=state[[3, 0]]).outputs, whole[[3, 0]])


def test_drive_and_rest_of_a_converted_network():
    """Constant codes are driven up to T_drive, wherever the run is cut; the last piece settles."""
    network = Network.sequential(
        Input((2,), BYTE), Affine([[3, -2], [1, 4]], bias=[5, 9], bias_mode="spread"), SignedIF(90, 7),
        Affine([[1, -1]]), Readout(), t_drive=7, levels=7,
    )  # fmt: skip
    codes = np.random.default_rng(2).integers(0, 256, (5, 2))
    one = simulate(network, codes, settle=True)
    for cut in range(1, 10):
        first = simulate(network, codes, steps=cut, keep_state=True)
        rest = simulate(network, codes, settle=True, state=first.state)
        assert np.array_equal(rest.outputs, one.outputs) and rest.settled
        assert np.array_equal(rest.extra_steps, one.extra_steps) or cut > 7


def test_going_on_from_rest():
    """The state of a settled run is the same on every path; a run from it sees one quiet step, whatever is recorded."""
    network = Network.sequential(
        Input((2,), BYTE), Affine([[3, -2], [1, 4]]), SignedIF(90, 7), Affine([[1, -1]]), Readout(), t_drive=7, levels=7
    )
    codes = np.random.default_rng(2).integers(0, 256, (70, 2))  # more than one block
    options = {"settle": True, "keep_state": True, "record": RECORD}
    found = {path: simulate(network, codes, path=path, **options) for path in ("layer", "step", "reference")}
    for path, run in found.items():
        assert run.settled and run.state.step == found["step"].state.step, path
        assert all(np.array_equal(v, found["step"].state.arrays[k]) for k, v in run.state.arrays.items()), path
    late = simulate(network, codes, steps=60, keep_state=True).state  # beyond every bound
    for state in (found["layer"].state, late):
        again = simulate(network, codes, state=state, **options)
        assert again.settled and again.steps == 1 and again.state.step == state.step + 1
        assert np.array_equal(again.outputs, found["step"].outputs)
        assert not again.records["neuron_2.spikes"].any() and len(again.records["neuron_2.v"]) == 1
    nothing = simulate(network, codes[:0], state=late[:0], **options)
    assert nothing.state.samples == nothing.samples == 0 and nothing.state.arrays.keys() == late.arrays.keys()
    # without reports the fused backend may serve, but not from a state
    assert simulate(network, codes, settle=True, reports=False).backend == "fused"
    assert simulate(network, codes, settle=True, reports=False, state=late).backend == "layer"
    with pytest.raises(UnsupportedError, match="fused gives no state"):
        simulate(network, codes, settle=True, path="fused", state=late)


def test_rest_is_not_said_unseen():
    """Two neurons that wake each other up never rest, however late one looks."""
    nodes = {
        "in": Input((2,), Fixed(1, signed=False)), "w": Affine([[1, 0], [0, 1]]), "join": Add(), "n": IF(1),
        "back": Affine([[0, 1], [1, 0]], delay=1), "out": Readout("count"),
    }  # fmt: skip
    edges = [("in", "w"), ("w", "join"), ("back", "join"), ("join", "n"), ("n", "back"), ("n", "out")]
    network = Network(nodes, edges, t_drive=1)
    state = simulate(network, [[1, 0]], steps=50, keep_state=True).state
    assert not simulate(network, [[1, 0]], settle=True).settled
    assert not simulate(network, [[1, 0]], settle=True, state=state).settled


def test_states_that_are_refused():
    network, codes = leaky(), np.zeros((4, 3, 2, 2, 2), int)
    state = simulate(network, codes, keep_state=True).state

    def wrong(**arrays):
        return State(state.step, {**state.arrays, **{key.replace("_", "."): value for key, value in arrays.items()}})

    with pytest.raises(ShapeError, match="found 2 samples for inputs of 3"):
        simulate(network, codes, state=state[:2])
    with pytest.raises(ShapeError, match=r"state: n.v has shape \(4,\); this network needs \(3,\)"):
        simulate(network, codes, state=wrong(n_v=np.zeros((3, 4), int)))
    with pytest.raises(RangeError, match="state: n.refractory of sample 1"):
        simulate(network, codes, state=wrong(n_refractory=np.array([[0, 0, 0], [0, 3, 0], [0, 0, 0]])))
    with pytest.raises(RangeError, match="state: n.v of sample 0"):
        simulate(network, codes, state=wrong(n_v=np.full((3, 3), 1 << 40)))
    with pytest.raises(ShapeError, match="state: n.v is missing"):
        simulate(network, codes, state=State(4, {key: v for key, v in state.arrays.items() if key != "n.v"}))
    with pytest.raises(ShapeError, match="state: it has other.v"):
        simulate(network, codes, state=wrong(other_v=np.zeros((3, 1), int)))
    with pytest.raises(FormatError, match="whole number"):
        State(1, {"n.v": np.full((2, 2), 0.5)})
    with pytest.raises(ShapeError, match="different numbers of samples"):
        State(1, {"a.v": np.zeros((2, 1), int), "b.v": np.zeros((3, 1), int)})


@pytest.mark.parametrize("width", [12, 20, 48])
def test_no_state_breaks_the_narrow_kernels(width):
    """Whatever is put in, every path gives the same answer or the same refusal."""
    neuron = Neuron(7, v_format=Fixed(width), v_decay=Decay.by_shift(3), reset="subtract", reset_delay=1, signed=True)
    network = Network.sequential(Input((1,), Fixed(4)), ("w", Affine([[3]])), ("n", neuron), Readout())
    frames = np.ones((5, 1, 1), int)
    made = simulate(network, frames, keep_state=True).state
    for value in (0, -100, 2047, -2048, 32767, -32768, (1 << width - 1) - 1, -(1 << width - 1), 1 << 60):
        state = State(made.step, {**made.arrays, "n.v": np.array([[value]])})
        answers = set()
        for path in ("layer", "step", "reference"):
            try:
                answers.add(str(simulate(network, frames, state=state, path=path).outputs.tolist()))
            except RangeError:
                answers.add("refused")
        assert len(answers - {"refused"}) <= 1, value


@pytest.mark.parametrize("path", ["layer", "step", "reference"])
@pytest.mark.parametrize("every, phase", [(3, 0), (4, 2), (1, 0), (5, 13)])
def test_a_layer_that_begins_anew(path, every, phase):
    """The same as pieces between which its states are put back by hand; the net count goes on."""
    parts = {
        "u_format": Fixed(16),
        "u_decay": Decay.by_shift(1),
        "reset_delay": 1,
        "refractory": Refractory("counter", 2),
    }
    first, then = Neuron(20, v_initial=3, v_decay=Decay.by_shift(3), **parts), IF(9)

    def network(**options):
        layers = ("w", Affine([[5, -2], [3, 4]])), ("n", replace(first, **options)), Affine([[4, 3]]), ("m", then)
        return Network.sequential(Input((2,), BYTE), *layers, Readout())

    frames = np.random.default_rng(3).integers(0, 9, (17, 3, 2))
    options = {"record": RECORD, "keep_state": True, "keep_final": True}
    found = simulate(network(restart_every=every, restart_phase=phase), frames, path=path, **options)
    pieces, state, now = [], None, 0
    for step in range(1, 18):
        if step == 17 or (step - phase) % every == 0:
            pieces.append(simulate(network(), frames[now:step], state=state, path="step", **options))
            arrays = dict(pieces[-1].state.arrays)
            arrays |= {f"n.{what}": arrays[f"n.{what}"] * 0 for what in ("u", "pending", "refractory")}
            state, now = State(step, arrays | {"n.v": arrays["n.v"] * 0 + 3}), step
    assert np.array_equal(found.outputs, pieces[-1].outputs) and found.outputs.any()
    for key, values in found.records.items():
        assert np.array_equal(values, np.concatenate([piece.records[key] for piece in pieces])), key
    assert np.array_equal(found.final["n.counts"], pieces[-1].final["n.counts"])
    with pytest.raises(UnsupportedError, match="begins anew"):
        integer_ann(network(restart_every=every), frames)


def test_several_inputs_and_outputs():
    """Data by name, outputs by name; decisions are those of the first output."""
    nodes = {
        "left": Input((2,), BYTE), "right": Input((3,), BYTE), "a": Affine([[1, 2]]), "b": Affine([[3, 1, -1]]),
        "sum": Add(), "n": IF(4), "w": Affine([[1], [2]]), "first": Readout(), "second": Readout("first_spike"),
    }  # fmt: skip
    edges = [
        ("left", "a"), ("right", "b"), ("a", "sum"), ("b", "sum"), ("sum", "n"), ("n", "w"), ("w", "first"),
        ("n", "second"),
    ]  # fmt: skip
    network = Network(nodes, edges)
    assert network.inputs == ("left", "right") and network.outputs == ("first", "second")
    left, right = np.array([[1, 0], [0, 3]]), np.array([[0, 1, 0], [1, 0, 0]])
    data = {"left": left, "right": np.repeat(right[None], 5, axis=0)}
    found = {path: simulate(network, data, steps=5, path=path) for path in ("fused", "layer", "step", "reference")}
    charge = left @ [1, 2] + right @ [3, 1, -1]
    spikes = [[c * (t + 1) // 4 - c * t // 4 for t in range(5)] for c in np.minimum(charge, 4).tolist()]
    for run in found.values():
        assert run.named.keys() == {"first", "second"}
        assert run.outputs.tolist() == run.named["first"].tolist() == [[sum(s), 2 * sum(s)] for s in spikes]
        assert run.named["second"].tolist() == [[s.index(1)] for s in spikes]
    with pytest.raises(ShapeError, match="the network has the inputs left, right; give the data of each by name"):
        simulate(network, left)
    with pytest.raises(ShapeError, match="found data for left; the inputs are left, right"):
        simulate(network, {"left": left})
    with pytest.raises(ShapeError, match="different numbers of samples"):
        simulate(network, {"left": left[:1], "right": right})
