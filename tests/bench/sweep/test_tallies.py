"""A sweep counts the operations of layer kinds that it never heard of by what they say, or refuses them by name."""

import numpy as np
import pytest

from intsnn import Add, Affine, Fixed, Flatten, Input, Network, Readout, Scale, SignedIF, SumPool2d
from intsnn.bench.sweep.tallies import splits_alike, synops
from intsnn.errors import UnsupportedError
from intsnn.formats.fixed import Rounding
from intsnn.layers import LIF, Decay


class Silent(Scale, kind=False):
    """A layer that does not say where spikes go."""

    def spread(self, spikes, inputs, shape):
        return None


class Doubled(Scale, kind=False):
    """A layer that sends every spike twice."""

    def spread(self, spikes, inputs, shape):
        return 2 * inputs[0]


def network(between):
    weights = np.ones((5, 4), np.int64), np.ones((3, 5), np.int64)
    layers = (Affine(weights[0]), SignedIF(3, 2), between, Affine(weights[1]), Readout())
    return Network.sequential(Input((4,), Fixed(8, signed=False)), *layers, t_drive=2, levels=2)


def test_a_layer_says_where_spikes_go():
    maps = {"neuron_2": np.array([7, 0, 1, 2, 0])}
    assert synops(network(Scale(2)), maps) == {"affine_4": 30}
    assert synops(network(Doubled(2)), maps) == {"affine_4": 60}
    with pytest.raises(UnsupportedError, match="silent_3: a Silent does not say where spikes go"):
        synops(network(Silent(2)), maps)


def test_spikes_of_all_branches_arrive():
    """By hand: windows of 2 of a sum of two maps, the second of which is the input."""
    nodes = {
        "in": Input((1, 2, 2), Fixed(8, signed=False)), "n": SignedIF(3, 2), "sum": Add(), "m": SignedIF(3, 2),
        "both": Add(), "pool": SumPool2d(2), "flat": Flatten(), "dense": Affine(np.ones((3, 1), np.int64)),
        "out": Readout(),
    }  # fmt: skip
    edges = (
        ("in", "n"), ("in", "sum"), ("n", "sum"), ("sum", "m"), ("n", "both"), ("m", "both"), ("both", "pool"),
        ("pool", "flat"), ("flat", "dense"), ("dense", "out"),
    )  # fmt: skip
    found = Network(nodes, edges, t_drive=2, levels=2)
    maps = {"n": np.array([[[1, 2], [0, 0]]]), "m": np.array([[[0, 1], [3, 0]]])}
    assert synops(found, maps) == {"dense": 3 * 7}


@pytest.mark.parametrize("rounding, alike", [(Rounding.STOCHASTIC, False), (Rounding.RND, True)])
def test_random_bits_are_keyed_by_the_sample(rounding, alike):
    layers = (Affine(np.ones((3, 4), np.int64)), LIF(3, Decay.by_shift(2, rounding)), Readout())
    assert splits_alike(Network.sequential(Input((4,), Fixed(8, signed=False)), *layers)) is alike
