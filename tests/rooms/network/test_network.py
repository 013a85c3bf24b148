"""Networks and layers are checked when they are built; every message names the layer."""

import numpy as np
import pytest

from intsnn.errors import FormatError, RangeError, ShapeError
from intsnn.formats.fixed import Fixed, Rounding
from intsnn.formats.weights import Bipolar, apot
from intsnn.layers import (
    IF,
    Add,
    Affine,
    AvgPool2d,
    Conv2d,
    CubaLIF,
    Decay,
    Flatten,
    Input,
    MaxPool2d,
    Readout,
    Scale,
    SumPool2d,
)
from intsnn.network.spiking import Network

IMAGE = Input((2, 6, 5))
VECTOR = Input((3,))


def one(shape):
    return np.ones(shape, int)


GRAPHS = {
    "an edge to nowhere": (
        {"in": VECTOR, "n": IF(1)}, [("in", "n"), ("n", "x")],
        ShapeError, r"edge \('n', 'x'\) names 'x', which is no layer",
    ),
    "no input": ({"n": IF(1), "m": IF(1)}, [("n", "m")], ShapeError, "found no Input layer"),
    "no output": (
        {"in": VECTOR, "join": Add(), "n": IF(1), "back": Affine(one((3, 3)), delay=1)},
        [("in", "join"), ("join", "n"), ("n", "back"), ("back", "join")],
        ShapeError, "every layer feeds another; at least one output",
    ),
    "a fed input": (
        {"in": VECTOR, "n": IF(1), "m": IF(1)}, [("in", "n"), ("n", "in"), ("n", "m")],
        ShapeError, r"the Input 'in' is fed by \['n'\]",
    ),
    "nothing feeds": (
        {"in": VECTOR, "n": IF(1), "join": Add()}, [("in", "join"), ("n", "join")],
        ShapeError, r"nothing feeds 'n' \(Neuron\)",
    ),
    "two sources": (
        {"in": VECTOR, "n": IF(1), "m": IF(1)}, [("in", "n"), ("in", "m"), ("n", "m")],
        ShapeError, r"'m' \(Neuron\) is fed by \['in', 'n'\]; join them with Add",
    ),
    "a loop without delay": (
        {"in": VECTOR, "join": Add(), "n": IF(1), "back": Affine(one((3, 3))), "out": Readout()},
        [("in", "join"), ("join", "n"), ("n", "back"), ("back", "join"), ("n", "out")],
        ShapeError, r"\['join', 'n', 'back', 'out'\] form a loop without delay",
    ),
    "a loop that starts at no neuron": (
        {"in": VECTOR, "join": Add(), "back": Affine(one((3, 3)), delay=1), "out": Readout()},
        [("in", "join"), ("join", "back"), ("back", "join"), ("join", "out")],
        ShapeError, "edge back from 'join' to 'back' must start at a Neuron",
    ),
    "a loop of the wrong width": (
        {"in": VECTOR, "join": Add(), "n": IF(1), "back": Affine(one((2, 3)), delay=1), "out": Readout()},
        [("in", "join"), ("join", "n"), ("n", "back"), ("back", "join"), ("n", "out")],
        ShapeError, "join .Add.: found inputs of shapes",
    ),
    "an add of one": ({"in": VECTOR, "join": Add()}, [("in", "join")], ShapeError, "join .Add.*at least two"),
    "an add of two shapes": (
        {"in": VECTOR, "a": Affine(one((2, 3))), "join": Add()}, [("in", "a"), ("in", "join"), ("a", "join")],
        ShapeError, r"join \(Add\): found inputs of shapes \[\(3,\), \(2,\)\]",
    ),
    "no layer": ({"in": VECTOR, "n": "IF"}, [("in", "n")], FormatError, "'n' is a str, which is no layer"),
}  # fmt: skip


@pytest.mark.parametrize("nodes, edges, kind, text", GRAPHS.values(), ids=GRAPHS)
def test_graphs_that_cannot_be(nodes, edges, kind, text):
    with pytest.raises(kind, match=text):
        Network(nodes, edges)


CHAINS = {
    "a map into Affine": ((IMAGE, ("a", Affine(one((4, 60))))), ShapeError, r"a \(Affine\).*\(60,\); put a Flatten"),
    "a wrong Affine": ((VECTOR, ("a", Affine(one((4, 2))))), ShapeError, r"a \(Affine\): found input \(3,\)"),
    "a vector into Conv2d": (
        (VECTOR, ("c", Conv2d(one((1, 1, 1, 1))))), ShapeError, r"c \(Conv2d\): found input \(3,\); \(C, H, W\)",
    ),
    "a vector into a pool": ((VECTOR, ("p", SumPool2d(2))), ShapeError, r"p \(SumPool2d\): found input \(3,\)"),
    "channels": (
        (IMAGE, ("c", Conv2d(one((4, 3, 1, 1))))), ShapeError, r"c \(Conv2d\): found 2 input channels.*3 x 1",
    ),
    "channels of groups": (
        (IMAGE, ("c", Conv2d(one((4, 2, 1, 1)), groups=2))), ShapeError, "found 2 input channels, weights take 2 x 2",
    ),
    "a large kernel": (
        (IMAGE, ("c", Conv2d(one((1, 2, 3, 3)), dilation=3))), ShapeError, r"c \(Conv2d\): the kernel \(3, 3\) is",
    ),
    "a large pool": ((IMAGE, ("p", MaxPool2d(7))), ShapeError, r"p \(MaxPool2d\): the kernel \(7, 7\) is larger"),
    "scales": ((IMAGE, ("s", Scale([1, 2, 3]))), ShapeError, r"s \(Scale\): found 3 scales for 2 channels"),
    "thresholds": ((IMAGE, ("n", IF([1, 2, 3]))), ShapeError, r"n \(Neuron\): parameters for 3 channels.*has 2"),
    "labels": ((VECTOR, ("r", Readout(labels=("a", "b")))), ShapeError, r"r \(Readout\): 2 labels for 3 outputs"),
    "a sum of 64 bits": (
        (Input((3,), Fixed(32)), ("a", Affine(one((1, 3)) << 31, weight_format=Fixed(33)))),
        RangeError, r"a \(Affine\): a sum of one step can need more than 63 bits",
    ),
    "an input of 64 bits": ((Input((3,), Fixed(64)), ("n", IF(1))), RangeError, r"\(Input\): a sum of one step"),
    "a shift of 64 bits": (
        (Input((3,), Fixed(48)), ("n", CubaLIF(1, Decay(), Decay(), u_shift=31))),
        RangeError, r"n \(Neuron\): the input shifted by 31 can need more than 63 bits",
    ),
    "a name twice": ((VECTOR, ("n", IF(1)), ("n", IF(1))), ShapeError, "two layers are called 'n'"),
}  # fmt: skip


@pytest.mark.parametrize("layers, kind, text", CHAINS.values(), ids=CHAINS)
def test_chains_that_cannot_be(layers, kind, text):
    with pytest.raises(kind, match=text):
        Network.sequential(*layers)


LAYERS = {
    "rank": (lambda: Affine(one((2, 2, 2))), ShapeError, r"Affine.weight: found shape \(2, 2, 2\); 2 axes"),
    "empty": (lambda: Conv2d(one((2, 0, 1, 1))), ShapeError, "Conv2d.weight: found shape .*none empty"),
    "a float": (lambda: Affine([[0.5]]), FormatError, "Affine.weight: .*not whole numbers"),
    "not a number": (lambda: Affine([[np.nan]]), FormatError, "Affine.weight: .*not whole numbers"),
    "a text": (lambda: Affine([["1"]]), FormatError, "Affine.weight: found dtype"),
    "65 bits": (lambda: Affine([[1 << 64]]), FormatError, "Affine.weight: .*within 64 bits"),
    "uint64": (lambda: Affine(np.array([[2**63]], np.uint64)), FormatError, "does not fit 64 bits signed"),
    "a wide weight": (
        lambda: Affine([[-9, 3]], weight_format=Fixed(4)), RangeError, r"values -9 to 3 do not fit .* \(-8 to 7\)",
    ),
    "no level": (lambda: Affine([[5]], weight_format=apot(4)), RangeError, "value 5 is not a level"),
    "no sign": (lambda: Affine([[0]], weight_format=Bipolar()), RangeError, r"allowed are \[-1, 1\]"),
    "biases": (lambda: Affine(one((2, 3)), bias=[1, 2, 3]), ShapeError, r"Affine.bias: found shape \(3,\).*or 2"),
    "multipliers": (lambda: Affine(one((2, 3)), multiplier=[1]), ShapeError, r"Affine.multiplier: found shape \(1,\)"),
    "a bias mode": (lambda: Affine([[1]], bias_mode="all"), FormatError, "bias_mode: found 'all'; choose one of step"),
    "a delay": (lambda: Affine([[1]], delay=2), FormatError, "Affine.delay: found 2; 0 or 1"),
    "a stride": (lambda: Conv2d(one((1, 1, 1, 1)), stride=0), ShapeError, "Conv2d.stride: found 0"),
    "a dilation": (lambda: Conv2d(one((1, 1, 1, 1)), dilation=(1, 2, 3)), ShapeError, "Conv2d.dilation"),
    "a padding": (lambda: Conv2d(one((1, 1, 1, 1)), padding=-1), ShapeError, "Conv2d.padding: found -1"),
    "three paddings": (lambda: Conv2d(one((1, 1, 1, 1)), padding=(1, 1, 1)), ShapeError, "Conv2d.padding: found"),
    "groups": (lambda: Conv2d(one((3, 1, 1, 1)), groups=2), ShapeError, "groups: 2 does not divide the 3"),
    "a pool of padding": (lambda: MaxPool2d(2, padding=2), ShapeError, "MaxPool2d.padding: .*leaves windows"),
    "a random pool": (lambda: AvgPool2d(2, rounding=Rounding.STOCHASTIC), FormatError, "AvgPool2d.rounding"),
    "a pool of nothing": (lambda: SumPool2d(0), ShapeError, "SumPool2d.kernel_size: found 0"),
    "a matrix of scales": (lambda: Scale([[1]]), ShapeError, "Scale.scale: found shape"),
    "a readout": (lambda: Readout("mean"), FormatError, "Readout.kind: found 'mean'; choose one of sum"),
    "an input of rank 2": (lambda: Input((2, 3)), ShapeError, r"Input: found shape \(2, 3\)"),
    "an input of size 0": (lambda: Input((0,)), ShapeError, "every size at least 1"),
    "t_drive": (lambda: Network.sequential(VECTOR, IF(1), t_drive=0), FormatError, "Network.t_drive: found 0"),
    "levels": (lambda: Network.sequential(VECTOR, IF(1), levels=1 << 21), FormatError, "Network.levels: found 2097152"),
}  # fmt: skip


@pytest.mark.parametrize("build, kind, text", LAYERS.values(), ids=LAYERS)
def test_layers_that_cannot_be(build, kind, text):
    with pytest.raises(kind, match=text):
        build()


def test_shapes_are_inferred():
    network = Network.sequential(
        Input((2, 7, 8)),
        Conv2d(one((3, 2, 3, 2)), stride=(2, 1), padding=((1, 0), (0, 1)), dilation=(2, 1)),
        IF([1, 2, 3]), AvgPool2d((2, 3), stride=(1, 2), padding=((0, 1), (0, 0))), Flatten(), Affine(one((4, 18))),
        Readout(),
    )  # fmt: skip
    assert list(network.shapes.values()) == [(2, 7, 8), (3, 2, 8), (3, 2, 8), (3, 2, 3), (18,), (4,), (4,)]
    assert network.order == tuple(network.nodes)
    assert network.neurons == network.spiking == ("neuron_2",)
    assert (network.input_name, network.output_name, network.recurrent) == ("input_0", "readout_6", False)
    assert network.describe("conv2d_1") == "conv2d_1: Conv2d (3, 2, 8)"


def test_padding_notations_are_one():
    for padding in (1, (1, 1), ((1, 1), (1, 1))):
        assert Conv2d(one((1, 1, 2, 2)), padding=padding).padding == ((1, 1), (1, 1))
    assert MaxPool2d(3, padding=(1, 2)).padding == ((1, 1), (2, 2))
    assert MaxPool2d(3).stride == (3, 3)


def test_order_follows_the_edges_not_the_dictionary():
    nodes = {"out": Readout(), "n": IF(1), "join": Add(), "back": Affine(one((3, 3)), delay=1), "in": VECTOR}
    edges = [("n", "out"), ("join", "n"), ("back", "join"), ("in", "join"), ("n", "back")]
    network = Network(nodes, edges)
    assert network.order == ("in", "back", "join", "n", "out") and network.recurrent
    chain = Network.sequential(VECTOR, Affine(one((3, 3)), delay=1), IF(1))  # a delay alone makes no loop
    assert chain.order == tuple(chain.nodes) and not chain.recurrent


def test_weights_are_copied_and_frozen():
    weight = np.ones((2, 3), np.int64)
    layer = Affine(weight)
    weight[0, 0] = 100
    assert layer.weight[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[0, 0] = 2
    with pytest.raises(TypeError):
        Network.sequential(VECTOR, layer).nodes["x"] = layer


def test_settling_bound():
    layers = [VECTOR, IF(1), Affine(one((3, 3)), delay=1), IF(1)]
    assert Network.sequential(*layers, t_drive=7, levels=3).settling_bound == 2 * 3 + 1
    assert Network.sequential(*layers, t_drive=7).settling_bound == 2 * 7 + 1
    assert Network.sequential(*layers).settling_bound is None
