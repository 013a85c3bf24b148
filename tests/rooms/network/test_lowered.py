"""A network is lowered once for each form of a run: what is kept, what is dropped; it ends with its network."""

import gc
import weakref

import numpy as np

from intsnn.engine import program
from intsnn.engine.program import lower
from intsnn.engine.simulation import simulate
from intsnn.formats.fixed import Fixed
from intsnn.layers import IF, Affine, Input, Readout
from intsnn.layers.schedule import Schedule
from intsnn.network.spiking import Network


def network(threshold=5):
    return Network.sequential(Input((2,), Fixed(8)), Affine([[3, -1], [1, 4]]), IF(threshold), Readout())


def of_steps(steps):
    return Schedule(driven=steps, least=steps, limit=steps, drive=steps)


def test_one_program_for_one_schedule(monkeypatch):
    """The least recently used goes; sums of a longer run have other bounds, and totals others than steps."""
    exact, made = program.Program, []
    monkeypatch.setattr(program, "Program", lambda *given: made.append(given[1]) or exact(*given))
    net = network()
    first = lower(net, of_steps(1))
    assert lower(net, of_steps(1)) is first and len(made) == 1
    assert lower(net, of_steps(1).of_totals()) is not first
    for steps in range(2, program.KEPT):
        lower(net, of_steps(steps))
    assert lower(net, of_steps(1)) is first and len(made) == program.KEPT  # used last, so it stays
    lower(net, of_steps(99))
    assert lower(net, of_steps(1)) is first and len(made) == program.KEPT + 1
    lower(net, of_steps(1).of_totals())
    assert len(made) == program.KEPT + 2 and len(net.lowered) == program.KEPT
    assert lower(network(), of_steps(1)) is not first  # another network, though it looks alike


def test_bounds_are_those_of_the_schedule():
    net = network()
    found = {steps: lower(net, of_steps(steps)).bounds["affine_1"].total_high.max() for steps in (1, 7, 1)}
    assert found[7] == 7 * found[1]


def test_runs_of_other_lengths_do_not_meet():
    x = np.array([[3, 1], [1, 2]])
    net = network()
    for steps in (1, 9, 2, 1, 30, 9):
        expected = simulate(network(), x, steps=steps).outputs
        for path in ("layer", "step", "fused"):
            assert np.array_equal(simulate(net, x, steps=steps, path=path, reports=False).outputs, expected)


def test_they_end_with_their_network():
    net = network()
    seen = weakref.ref(lower(net, of_steps(1)))
    del net
    gc.collect()
    assert seen() is None
