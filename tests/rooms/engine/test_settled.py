"""Answers at rest by the equality theorem: where it is proven those of a settling run, else it says why not."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks.ann import ann_network

from intsnn.engine import settled
from intsnn.engine.inputs import Events
from intsnn.engine.settled import settle, unproven
from intsnn.engine.simulation import simulate
from intsnn.errors import FormatError, MismatchError, RangeError, UnsupportedError
from intsnn.formats.fixed import Fixed, Overflow
from intsnn.layers import LIF, Affine, Decay, Input, Readout, SignedIF
from intsnn.network.spiking import Network

BYTE = Fixed(8, signed=False)


def dense(**options):
    neuron = replace(SignedIF(40, levels=7), **options)
    layers = [Affine([[3, -1], [1, 4]]), ("n", neuron), Affine([[1, -1], [2, 1]]), Readout()]
    return Network.sequential(Input((2,), BYTE), *layers, t_drive=7, levels=7)


def codes(samples=30, shape=(2,)):
    return np.random.default_rng(0).integers(0, 256, (samples, *shape))


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_it_is_the_settling_run(seed):
    network, inputs = ann_network(seed)
    if any(layer.fires and layer.max_count > 400 for layer in network.nodes.values()):
        return  # as many steps
    try:
        reasons = unproven(network, inputs)
    except RangeError:
        return
    if reasons:
        with pytest.raises(UnsupportedError) as found:
            settle(network, inputs)
        assert reasons[0] in str(found.value)
        return
    found, run = settle(network, inputs, checked=2), simulate(network, inputs, settle=True)
    assert np.array_equal(found.outputs, run.outputs) and np.array_equal(found.predictions, run.predictions)
    assert found.compared > 0 and found.samples == run.samples
    assert found.simulated.samples == len(found.chosen) == min(2, run.samples)
    assert run.settled and not run.overflows


def test_conditions_that_no_bound_proves():
    """One bit less than the membrane can need, and the network runs in steps."""
    network = dense()
    assert unproven(network, codes()) == []
    widths = [width for width in range(7, 24) if not unproven(dense(v_format=Fixed(width)), codes())]
    least = widths[0]
    assert widths == list(range(least, 24))
    reasons = unproven(dense(v_format=Fixed(least - 1)), codes())
    assert reasons == [f"the membrane of n may overflow {Fixed(least - 1)}"]
    found = unproven(dense(acc_format=Fixed(8)), codes())
    assert found == [f"the sums of n may overflow {Fixed(8)}"]
    assert unproven(dense(acc_format=Fixed(24)), codes()) == []
    symmetric = Network.sequential(
        Input((1,), Fixed(8)), Affine([[1]]), ("n", replace(SignedIF(1, 1, v_initial=0), v_format=Fixed(9))), Readout(),
        t_drive=2,
    )  # fmt: skip
    low = unproven(symmetric, np.zeros((1, 1), int))
    tight = replace(symmetric.nodes["n"], v_overflow=Overflow.SAT_SYM)
    other = Network({**symmetric.nodes, "n": tight}, symmetric.edges, t_drive=2)
    assert len(unproven(other, np.zeros((1, 1), int))) >= len(low)


@pytest.mark.parametrize(
    "network, said",
    [
        (dense(signed=False), "unsigned"),
        (dense(max_count=None), "no cap"),
        (dense(v_negative=-40), "v_negative"),
        (Network.sequential(Input((2,), BYTE), Affine([[1, 2]]), LIF(5, Decay.by_shift(2)), t_drive=3), "leaks"),
    ],
)
def test_conditions_of_the_theorem(network, said):
    with pytest.raises(UnsupportedError, match=said):
        settle(network, codes())


def test_samples_that_are_simulated_lie_among_all():
    found = settle(dense(), codes(1000))
    assert len(found.chosen) == 100 and found.chosen[0] == 0 and found.chosen[-1] == 999
    assert np.ptp(np.diff(found.chosen)) <= 1
    assert settle(dense(), codes(5)).chosen.tolist() == [0, 1, 2, 3, 4]
    assert settle(dense(), codes(5), checked=0).compared == 0
    assert settle(dense(), codes(0)).outputs.shape == (0, 2)
    with pytest.raises(FormatError, match="checked"):
        settle(dense(), codes(), checked=-1)


def test_events_and_frames():
    frames = np.random.default_rng(1).integers(0, 2, (7, 12, 2))
    step, sample, index = np.nonzero(frames)
    run = simulate(dense(), frames, settle=True)
    for inputs in (frames, Events(step, sample, index, 7, 12)):
        found = settle(dense(), inputs, checked=5)
        assert np.array_equal(found.outputs, run.outputs) and found.simulated.samples == 5


@pytest.mark.parametrize("what, reports", [("outputs", True), ("outputs", False), ("levels", True)])
def test_a_difference_is_an_error(monkeypatch, what, reports):
    """Planted in the pass of totals: nothing is answered."""
    if what == "outputs":
        exact = settled.prepare_ann

        def wrong(network, **options):
            def run(inputs, **more):
                result = exact(network, **options)(inputs, **more)
                result.outputs[0, 1] += 1
                return result

            return run

        monkeypatch.setattr(settled, "prepare_ann", wrong)
        said = r"outputs of sample 0 differ at \(1,\)"
    else:
        plain = settled.integer_ann

        def other(*arguments, **options):
            result = plain(*arguments, **options)
            result.levels["n"][3, 1] += 1
            return result

        monkeypatch.setattr(settled, "integer_ann", other)
        said = r"the net counts of n of sample 3 differ at \(1,\)"
    with pytest.raises(MismatchError, match=said):
        settle(dense(), codes(), reports=reports)


def test_outputs_alone():
    """Without reports the fastest path checks, and only outputs are compared."""
    found = settle(dense(), codes(), checked=4, reports=False)
    assert found.compared == found.simulated.outputs.size == 8 and found.simulated.backend == "fused"
