"""The gates of the count path and of answers at rest: the last value that fits, the first that does not, every side."""

from dataclasses import replace

import numpy as np
import pytest

from intsnn.engine.ann import integer_ann
from intsnn.engine.settled import settle, unproven
from intsnn.errors import MismatchError
from intsnn.formats.fixed import Fixed, Overflow
from intsnn.layers import (
    Add,
    Affine,
    Conv2d,
    Flatten,
    Input,
    MaxPool2d,
    Readout,
    Scale,
    SignedIF,
    SumPool2d,
)
from intsnn.network.spiking import Network

BYTE = Fixed(8, signed=False)
SIDES = [((1, 0), (0, 0)), ((0, 1), (0, 0)), ((0, 0), (1, 0)), ((0, 0), (0, 1)), ((0, 2), (2, 1))]


def alike(network, inputs, steps=1):
    """Both paths of the integer ANN; more than a few levels must not all be the same."""
    expected = integer_ann(network, inputs, steps=steps, path="step")
    found = integer_ann(network, inputs, steps=steps, path="count")
    assert np.array_equal(found.outputs, expected.outputs)
    for name, levels in expected.levels.items():
        assert np.array_equal(found.levels[name], levels), name
        assert np.ptp(levels) > 0 or levels.size < 40, name
    bare = integer_ann(network, inputs, steps=steps, levels=False)  # then maps share memory that others have left
    assert np.array_equal(bare.outputs, expected.outputs)


@pytest.mark.parametrize("padding", SIDES)
def test_borders_of_maps_that_lie_where_others_lay(padding):
    """Four convolutions in a row: the third map takes the place of the first, and its border has to be cleared."""
    rng = np.random.default_rng(5)
    nodes, shape = {"in": Input((2, 6, 6), BYTE)}, (2, 6, 6)
    for at in range(4):
        weight = rng.integers(-3, 8, (5, shape[0], 2, 2))
        nodes[f"conv{at}"] = Conv2d(weight, padding=padding)
        nodes[f"n{at}"] = SignedIF((900, 40, 30, 30)[at], levels=15)
        shape = (5, 6, 6)
    nodes |= {"sum": SumPool2d(2), "flat": Flatten()}
    size = Network.sequential(*nodes.items()).shapes["flat"][0]
    nodes |= {"dense": Affine(rng.integers(-7, 8, (3, size))), "out": Readout()}
    alike(Network.sequential(*nodes.items()), rng.integers(0, 256, (3, 2, 6, 6)).astype(np.uint8))


@pytest.mark.parametrize("kind", [MaxPool2d, SumPool2d])
@pytest.mark.parametrize("padding", SIDES[:4])
@pytest.mark.parametrize("levels", [15, 300])
def test_pools_that_begin_in_the_padding(kind, padding, levels):
    """On every side; of bytes, and of 16 bits."""
    rng = np.random.default_rng(3)
    theta = 7 if levels > 255 else 90
    network = Network.sequential(
        Input((3, 5, 5), BYTE), Conv2d(rng.integers(-7, 8, (18, 3, 1, 1))), SignedIF(theta, levels=levels),
        kind((2, 2), stride=2, padding=padding), Conv2d(rng.integers(-7, 8, (4, 18, 1, 1))), SignedIF(60, levels=15),
        Flatten(), Readout(),
    )  # fmt: skip
    alike(network, rng.integers(0, 256, (3, 3, 5, 5)).astype(np.uint8))


@pytest.mark.parametrize("pixels", [(1, 1), (1, 2), (2, 2), (5, 1), (7, 1), (3, 3), (5, 5), (13, 1)])
@pytest.mark.parametrize("channels", [5, 33, 64, 70])
def test_groups_of_pixels_and_tiles_of_channels(pixels, channels):
    """Joins in every order of their branches: charges are added once, however the last group of pixels falls."""
    rng = np.random.default_rng(channels)
    shape = (channels, *pixels)

    def weights():
        return Conv2d(rng.integers(-7, 8, (channels, channels, 1, 1)), bias=rng.integers(-99, 99, channels))

    for order in (("conv", "skip"), ("skip", "conv"), ("conv", "other"), ("n", "conv", "other", "skip")):
        nodes = {
            "in": Input(shape, BYTE), "first": weights(), "n": SignedIF(300, levels=31), "conv": weights(),
            "other": weights(), "skip": Scale(rng.integers(-9, 30, channels)), "join": Add(),
            "out": SignedIF(90, levels=31),
        }  # fmt: skip
        edges = [("in", "first"), ("first", "n"), *((("n", b)) for b in ("conv", "other", "skip") if b in order)]
        edges += [*((branch, "join") for branch in order), ("join", "out")]
        used = {name for edge in edges for name in edge}
        network = Network({name: layer for name, layer in nodes.items() if name in used}, tuple(edges))
        alike(network, rng.integers(0, 256, (2, *shape)).astype(np.uint8))


# -- what stands in for steps -----------------------------------------------------------------------


def reaching(high, low=0, **parts):
    """One neuron whose membrane can reach from `low` to `high`, and no further: one driven step of one bit."""
    parts = {"v_initial": 0, "v_format": Fixed(8)} | parts
    neuron = replace(SignedIF(10_000, 1, threshold_format=Fixed(16)), **parts)
    weights = Affine([[high], [low]], weight_format=Fixed(16))
    return Network.sequential(Input((1,), Fixed(1, signed=False)), weights, ("n", neuron), Readout(), t_drive=1)


def test_the_last_membrane_that_fits():
    inputs = np.zeros((1, 1), int)
    assert unproven(reaching(127), inputs) == []
    assert unproven(reaching(128), inputs) == [f"the membrane of n may overflow {Fixed(8)}"]
    assert unproven(reaching(0, -128), inputs) == []
    assert unproven(reaching(0, -129), inputs) == [f"the membrane of n may overflow {Fixed(8)}"]


def test_the_lowest_code_that_is_never_given():
    """A symmetric saturation turns the lowest code into another."""
    inputs = np.zeros((1, 1), int)
    assert unproven(reaching(0, -127, v_overflow=Overflow.SAT_SYM), inputs) == []
    assert len(unproven(reaching(0, -128, v_overflow=Overflow.SAT_SYM), inputs)) == 1


def test_the_last_sum_that_fits():
    inputs, wide = np.zeros((1, 1), int), {"v_format": Fixed(16), "acc_format": Fixed(8)}
    assert unproven(reaching(127, **wide), inputs) == []
    assert unproven(reaching(128, **wide), inputs) == [f"the sums of n may overflow {Fixed(8)}"]


@pytest.mark.parametrize("by", [1, -1])
@pytest.mark.parametrize("what", ["outputs", "counts"])
def test_a_step_too_many_or_too_few_is_named(monkeypatch, by, what):
    """Planted in the simulation, whichever of both is larger."""
    from intsnn.engine import settled

    exact = settled.simulate

    def wrong(*arguments, **options):
        result = exact(*arguments, **options)
        if what == "outputs":
            result.outputs[1, 0] += by
        else:
            result.final["n.counts"][1, 0] += by
        return result

    monkeypatch.setattr(settled, "simulate", wrong)
    said = "outputs of sample 1" if what == "outputs" else "the net counts of n of sample 1"
    with pytest.raises(MismatchError, match=said):
        settle(reaching(100), np.ones((3, 1), int))
