"""A kind of float node that the passes never heard of converts by what it says of itself, or is refused by name."""

from dataclasses import dataclass

import numpy as np
import pytest

from intsnn.conversion.compensate import compensate
from intsnn.conversion.fold import fold
from intsnn.conversion.quantise import quantise_network
from intsnn.conversion.redrive import redriven
from intsnn.conversion.spikes import convert
from intsnn.conversion.weights import Width
from intsnn.engine.ann import integer_ann
from intsnn.engine.simulation import simulate
from intsnn.errors import ConversionError, UnsupportedError
from intsnn.layers.base import Bound, one_map
from intsnn.layers.reshape import Moving
from intsnn.network.float_nodes import FloatAffine, FloatConv2d, FloatFlatten, FloatInput, FloatReLU
from intsnn.network.floating import FloatNetwork, forward
from intsnn.network.node import FloatNode
from intsnn.network.quantised import QuantisedNetwork


@dataclass(frozen=True)
class Mirror(Moving, kind=False):
    """Maps with their columns from right to left."""

    def output_shape(self, name, inputs):
        return one_map(name, self, inputs)

    def places(self, shape):
        return np.arange(np.prod(shape)).reshape(shape)[:, :, ::-1]

    def bound(self, inputs, shapes, schedule):
        return Bound(*inputs[0].parts)


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatMirror(FloatNode):
    """The same of a float network."""

    passive = True
    moves_only = True

    def apply(self, arrays):
        return np.ascontiguousarray(arrays[0][..., ::-1])

    def becomes(self, converter, sources):
        converter.add(self.name, Mirror(), *sources)
        converter.units[self.name] = converter.units[sources[0]]


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatSquare(FloatNode):
    """What no integer layer computes."""

    def apply(self, arrays):
        return np.square(arrays[0])


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatTwice(FloatAffine):
    """A dense layer of a kind of its own, whose codes no class holds."""


RAW = np.random.default_rng(1).integers(0, 256, (40, 1, 4, 5))


def chain(*kinds, last=FloatAffine, behind=None):
    """Convolution, nodes of `kinds`, ReLU, nodes of `behind`, and a dense layer."""
    chance = np.random.default_rng(0)
    nodes = [FloatInput(name="input", shape=(1, 4, 5))]

    def add(kind, **options):
        nodes.append(kind(name=f"{kind.__name__}_{len(nodes)}", inputs=(nodes[-1].name,), **options))

    add(FloatConv2d, weight=chance.normal(size=(2, 1, 2, 2)), bias=chance.normal(size=2) / 4)
    for kind in kinds:
        add(kind)
    add(FloatReLU)
    for kind in behind or ():
        add(kind)
    add(FloatFlatten)
    add(last, weight=chance.normal(size=(3, 24)))
    return FloatNetwork(tuple(nodes), nodes[-1].name)


CHAINS = [
    ((FloatMirror,), ()), ((), (FloatMirror,)), ((FloatMirror,), (FloatMirror,)), ((FloatFlatten,), ()),
    ((FloatMirror, FloatFlatten), ()),
]  # fmt: skip


@pytest.mark.parametrize("kinds, behind", CHAINS)
@pytest.mark.parametrize("rounding", ["nearest", "compensated"])
def test_a_new_kind_converts(kinds, behind, rounding):
    network = fold(chain(*kinds, behind=behind))
    found = quantise_network(network, RAW, rounding=rounding)
    made = convert(found.network)
    assert sum(type(layer) is Mirror for layer in made.network.nodes.values()) == (*kinds, *behind).count(FloatMirror)
    outputs = simulate(made.network, RAW, settle=True).outputs
    assert np.array_equal(outputs, integer_ann(made.network, RAW).outputs)
    # the integers stand for the real outputs of the quantised ANN, in units of the readout
    real = forward(found.network.graph, (RAW / 255).astype(np.float64), dtype=np.float64)
    unit = made.network.metadata["readout_unit"]
    assert np.abs(outputs * unit - real).max() < 0.02 * np.ptp(real)
    if FloatFlatten in kinds:  # a multiplier stands between the connection and its neurons
        with pytest.raises(UnsupportedError, match="FloatConv2d_1 reads the input and is no connection to neurons"):
            redriven(made.network, 2 * made.network.t_drive)
        return
    slower = redriven(made.network, 2 * made.network.t_drive)
    assert all(
        np.array_equal(levels, integer_ann(made.network, RAW).levels[name])
        for name, levels in integer_ann(slower, RAW).levels.items()
    )


def test_a_kind_without_integers_is_refused_by_name():
    found = quantise_network(fold(chain(FloatSquare)), RAW, rounding="nearest")
    with pytest.raises(UnsupportedError, match="layer 'FloatSquare_2': a FloatSquare has no integer form"):
        convert(found.network)


def test_weights_of_an_unknown_kind_are_refused_by_name():
    network = fold(chain(last=FloatTwice))
    with pytest.raises(UnsupportedError, match="layer 'FloatTwice_4': the weights of a FloatTwice have no codes"):
        quantise_network(network, RAW, rounding="nearest")
    widths = {node.name: Width(4, True) for node in network.nodes if node.weighted}
    with pytest.raises(UnsupportedError, match="layer 'FloatTwice_4': the weights of a FloatTwice have no codes"):
        compensate(network, (RAW / 255).astype(np.float32), widths)


def test_what_has_no_codes_yet_is_refused_by_name():
    graph = quantise_network(fold(chain()), RAW, rounding="nearest").network.graph
    plain = chain()
    nodes = tuple(plain[node.name] if node.name == "FloatConv2d_1" else node for node in graph.nodes)
    with pytest.raises(ConversionError, match="FloatConv2d_1.*is not quantised; quantise the network first"):
        convert(QuantisedNetwork(FloatNetwork(nodes, graph.output)))
