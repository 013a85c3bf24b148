"""Where net counts stop to fall, on every path: the last one that is possible and the first that is not."""

from dataclasses import replace

import numpy as np
import pytest

from intsnn.engine import equality_conditions, integer_ann, prepare, simulate
from intsnn.formats import Fixed
from intsnn.layers import Affine, Concat, Conv2d, Input, MaxPool2d, Neuron, Readout, Scale, Select, SignedIF
from intsnn.network import Network

PATHS = ("reference", "step", "layer", "fused")


def chain(neuron, channels=1):
    return Network.sequential(
        Input((1,), Fixed(20)), Affine(np.ones((channels, 1), int)), ("n", neuron), ("r", Readout()), t_drive=6
    )


@pytest.mark.parametrize("floor", [0, -1, -3, -6, -7, -(1 << 31) + 1])
@pytest.mark.parametrize("wide", [False, True], ids=["16 bits", "64 bits"])
def test_gates_the_count_stops_at_its_floor(floor, wide):
    """Minus one threshold in each step: as many spikes are taken back as the floor allows, v keeps the rest."""
    theta = 5 << 28 if wide else 5
    multiplier = theta // 5
    neuron = SignedIF(theta, 4, min_count=floor, v_format=Fixed(48), threshold_format=Fixed(48), v_initial=0)
    network = Network.sequential(
        Input((1,), Fixed(20)), Affine([[1]], multiplier=multiplier), ("n", neuron), ("r", Readout()), t_drive=6
    )
    fewest = max(floor, -6)
    for path in PATHS:
        found = simulate(network, [[-5]], steps=6, path=path, reports=False, keep_final=path != "fused")
        assert found.outputs.tolist() == [[fewest]], path
        if path != "fused":
            assert found.final["n.v"].ravel().tolist() == [-6 * theta - fewest * theta], path
    # from the floor it rises again by the whole way
    up = np.concatenate([np.full((6, 1, 1), -5), np.full((9, 1, 1), 5)])
    for path in PATHS:
        found = simulate(replace(network, t_drive=15), up, time_axis=0, path=path, reports=False)
        assert found.outputs.tolist() == [[min(4, 3)]], path  # 9 up, 6 down: v forgets nothing


@pytest.mark.parametrize("most", [1, 3])
def test_gates_several_spikes_at_once_end_at_the_floor(most):
    neuron = Neuron(5, signed=True, min_count=-4, max_count=9, max_spikes_per_step=most)
    for path in ("reference", "step", "layer", "fused"):
        found = simulate(chain(neuron), [[-12]], steps=6, path=path, reports=False)
        assert found.outputs.tolist() == [[-4]], path
        one = simulate(chain(neuron), [[-12]], steps=1, path=path, reports=False)
        assert one.outputs.tolist() == [[-min(most, 3)]], path


@pytest.mark.parametrize("top", [1, 3, 127, 5000, 1 << 20])
@pytest.mark.parametrize("pool", [False, True])
def test_gates_levels_of_both_signs(top, pool):
    """Every level between the ends, one step beyond them, and both sides of every tie; 5000: by a division."""
    theta = 6
    net = Network(
        {
            "in": Input((1, 1, 2), Fixed(32)), "c": Conv2d(np.array([1, -1]).reshape(2, 1, 1, 1)),
            "n": SignedIF(theta, top, min_count=-top, v_format=Fixed(48)),
            **({"p": MaxPool2d((1, 2))} if pool else {}), "r": Readout(),
        },
        (("in", "c"), ("c", "n"), *((("n", "p"), ("p", "r")) if pool else (("n", "r"),))), t_drive=1, levels=top,
    )  # fmt: skip
    assert equality_conditions(net) == []
    near = {-top - 2, -top - 1, -top, 1 - top, -2, -1, 0, 1, 2, top - 1, top, top + 1}
    charges = sorted({theta * k + d for k in near for d in (-4, -3, -2, 0, 2, 3, 4)})
    x = np.stack([charges, charges[::-1]], axis=1).reshape(-1, 1, 1, 2)
    levels = np.clip(np.floor_divide(np.concatenate([x, -x], axis=1) + theta // 2, theta), -top, top)
    for path in ("count", "step"):
        found = integer_ann(net, x, path=path)
        assert np.array_equal(found.levels["n"], levels), path
        expected = levels.max(axis=3, keepdims=True) if pool else levels
        assert np.array_equal(found.outputs.reshape(expected.shape), expected), path
    if top <= 127:
        some = slice(None, None, 7)
        for path in PATHS:
            rest = simulate(net, x[some], settle=True, path=path, reports=False)
            assert np.array_equal(rest.outputs, integer_ann(net, x[some]).outputs), path


def test_gates_a_settling_run_has_time_for_both_ways():
    """Spikes that all went up first have to come down as far as they can: L steps would not do."""
    top = 5
    net = Network.sequential(
        Input((1,), Fixed(8)), Affine([[1]]), ("n", SignedIF(2, top, min_count=-top)), ("r", Readout()),
        t_drive=top + 1, levels=top,
    )  # fmt: skip
    assert net.settling_bound == 2 * top
    frames = np.array([2] * top + [-4 * top - 2]).reshape(-1, 1, 1)
    for path in PATHS:
        found = simulate(net, frames, settle=True, time_axis=0, path=path, reports=False)
        assert found.outputs.tolist() == [[-top]] and np.all(found.settled), path
        assert found.extra_steps.tolist() == [2 * top - 1], path  # the last driven step takes one back


def test_gates_copies_from_several_inputs():
    """Pieces of maps of any number of channels, whole pixels and single values, from spikes and from values."""
    rng = np.random.default_rng(3)
    for channels in ((1, 2), (32, 32), (32, 5), (40, 64, 3)):
        names, nodes, edges = [], {"in": Input((2, 3, 3), Fixed(8))}, []
        for i, c in enumerate(channels):
            nodes |= {f"c{i}": Conv2d(rng.integers(-9, 9, (c, 2, 1, 1))), f"n{i}": SignedIF(700, 3, min_count=-3)}
            edges += [("in", f"c{i}"), (f"c{i}", f"n{i}")]
            names.append(f"n{i}")
        total = sum(channels)
        order = rng.permutation(total * 9).reshape(total, 3, 3)
        order[0, 0, 0] = -1
        nodes |= {
            "both": Concat(), "moved": Select(order), "scaled": Scale(-1), "again": Concat(),
            "d": Conv2d(rng.integers(-9, 9, (4, 2 * total, 2, 2)), padding=((1, 0), (0, 1))), "r": Readout(),
        }  # fmt: skip
        edges += [*((n, "both") for n in names), ("both", "moved"), ("moved", "scaled"), ("both", "again")]
        edges += [("scaled", "again"), ("again", "d"), ("d", "r")]
        net = Network(nodes, tuple(edges), t_drive=3, levels=3)
        x = rng.integers(-100, 100, (3, 2, 3, 3))
        spikes = [simulate(net, x, settle=True, path=path, reports=False).outputs for path in PATHS]
        assert all(np.array_equal(spikes[0], other) for other in spikes[1:]), channels
        assert prepare(net, settle=True)(x).outputs.tolist() == spikes[0].tolist()
        for path in ("count", "step"):
            assert np.array_equal(integer_ann(net, x, path=path).outputs, spikes[0]), (channels, path)
        levels = integer_ann(net, x).levels
        both = np.concatenate([levels[n] for n in names], axis=1)
        moved = np.where(order < 0, 0, both.reshape(3, -1)[:, order])
        again = np.pad(np.concatenate([both, -moved], axis=1), ((0, 0), (0, 0), (1, 0), (0, 1)))
        weight = nodes["d"].weight
        taps = sum(
            np.einsum("oc,nchw->nohw", weight[:, :, i, j], again[:, :, i : i + 3, j : j + 3])
            for i in range(2)
            for j in range(2)
        )
        assert np.array_equal(spikes[0].reshape(taps.shape), taps), channels
