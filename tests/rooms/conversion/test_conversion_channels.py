"""Healthy networks convert: dead channels, linear layers in a row, joins in front of linear layers, other orders."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsnn import NeuronRule, convert, integer_ann, simulate
from intsnn.conversion.fold import fold
from intsnn.conversion.quantise import quantise_network
from intsnn.formats.fixed import Fixed
from intsnn.formats.weights import Bipolar, Levels
from intsnn.network.float_nodes import (
    FloatAdd,
    FloatAffine,
    FloatAvgPool2d,
    FloatBatchNorm,
    FloatConv2d,
    FloatFlatten,
    FloatInput,
    FloatMaxPool2d,
    FloatReLU,
    FloatSoftmax,
)
from intsnn.network.floating import FloatNetwork, forward
from intsnn.network.quantised import InputScale, QuantAffine, QuantisedNetwork, QuantReLU


def dense(name, source, weight, bias=None):
    bias = None if bias is None else np.asarray(bias, np.float32)
    return FloatAffine(name=name, inputs=(source,), weight=np.asarray(weight, np.float32), bias=bias)


def conv(rng, name, source, outputs, inputs, kernel=3, **options):
    weight = rng.normal(0, 0.3, (outputs, inputs, kernel, kernel)).astype(np.float32)
    return FloatConv2d(name=name, inputs=(source,), weight=weight, **options)


def norm(rng, name, source, channels, gamma=None):
    parts = {"gamma": rng.random(channels) + 0.5, "beta": rng.normal(0, 0.2, channels)}
    parts |= {"mean": rng.normal(0, 0.2, channels), "variance": rng.random(channels) + 0.5}
    if gamma is not None:
        parts["gamma"] = gamma
    parts = {key: np.asarray(value, np.float32) for key, value in parts.items()}
    return FloatBatchNorm(name=name, inputs=(source,), epsilon=1e-3, **parts)


def relu(name, source):
    return FloatReLU(name=name, inputs=(source,), max_value=None)


def flat(name, source):
    return FloatFlatten(name=name, inputs=(source,))


def hidden(rng, weight, bias):
    """16 inputs, 8 hidden neurons, 5 outputs."""
    nodes = (
        FloatInput(name="in", shape=(16,)),
        dense("h", "in", weight, bias),
        FloatReLU(name="r", inputs=("h",), max_value=2.0),
        dense("o", "r", rng.normal(0, 0.4, (5, 8))),
    )
    return FloatNetwork(nodes, "o")


def vectors(rng, count=40):
    return rng.integers(0, 256, (count, 16)).astype(np.uint8)


def settles(made, x):
    """The settled network equals its integer ANN, level for level; that ANN is returned."""
    ann = integer_ann(made.network, x)
    run = simulate(made.network, x, settle=True, keep_final=True)
    assert run.settled and run.overflows == 0
    for name, levels in ann.levels.items():
        assert np.array_equal(run.final[f"{name}.counts"], levels), name
    assert np.array_equal(run.outputs, ann.outputs)
    return ann


def expected_levels(source, made, x):
    """Levels of the quantised ANN in float64, of each activation."""
    names = [node.name for node in source.graph.nodes if isinstance(node, QuantReLU)]
    real = forward(source.graph, source.input_scale.apply(x).astype(np.float64), dtype=np.float64, record=names)
    return {name: np.rint(real[name] / source.graph[name].step).astype(np.int64) for name in names}


@pytest.mark.parametrize("tiny", [1e-30, 1e-7, 0.0, 1e-38])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_channels_of_tiny_weights_become_zero(tiny, bits):
    """One channel of three without a bias, with one, and with one far beyond the clip: the level of the bias stays."""
    rng = np.random.default_rng(3)
    weight, bias = rng.normal(0, 0.35, (8, 16)), np.zeros(8)
    weight[[1, 3, 5]] = tiny * rng.choice((-1, 1), (3, 16))
    bias[[3, 5]] = 0.4, 50.0
    x = vectors(rng)
    made = quantise_network(fold(hidden(rng, weight, bias)), x, weight_bits=bits, activation_bits=3, rounding="nearest")
    found = convert(made.network)
    assert found.dead == {"h": 3}
    layer = found.network.nodes["h"]
    charges = layer.weight * np.asarray(layer.multiplier).reshape(-1, 1)
    assert not charges[[1, 3, 5]].any() and charges[0].any()
    ann = settles(found, x)
    want = expected_levels(made.network, found, x)["r"]
    assert np.array_equal(ann.levels["r"], want)
    assert not want[:, 1].any() and (want[:, 5] == 7).all()


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    fmt=st.sampled_from((Fixed(8, narrow=True), Fixed(2, narrow=True), Bipolar(), Levels((-4, -2, -1, 0, 1, 2, 4)))),
    levels=st.sampled_from((1, 3, 15, 255)),
)
def test_every_order_of_scales_converts(seed, fmt, levels):
    """Scales from 1e-40 to 10 in one layer, biases of any size: levels are those of the quantised ANN."""
    rng = np.random.default_rng(seed)
    if isinstance(fmt, Levels):
        codes = rng.choice(fmt.table, (8, 16))
    else:
        codes = rng.choice((-1, 1), (8, 16)) if isinstance(fmt, Bipolar) else rng.integers(-1, 2, (8, 16))
    scale = 10.0 ** rng.choice((-40.0, -9.0, -6.0, -2.0, -1.0), 8)
    bias = rng.normal(0, 1, 8) * 10.0 ** rng.choice((-30.0, -1.0, 0.0, 7.0), 8)
    nodes = (
        FloatInput(name="in", shape=(16,)),
        QuantAffine(name="h", inputs=("in",), codes=codes, scale=scale, bias=bias, weight_format=fmt),
        QuantReLU(name="r", inputs=("h",), step=1.0 / levels, levels=levels),
        QuantAffine(name="o", inputs=("r",), codes=rng.integers(-7, 8, (5, 8)), scale=0.1, bias=rng.normal(size=5)),
    )
    source = QuantisedNetwork(FloatNetwork(nodes, "o"), InputScale())
    found, x = convert(source), vectors(rng, 12)
    ann = settles(found, x)
    want = expected_levels(source, found, x)["r"]
    report = found.layers["r"]
    if report["moved_levels"] == 0:
        assert np.array_equal(ann.levels["r"], want)
    assert np.abs(ann.levels["r"] - want).max() <= report["moved_levels"]


def test_a_dead_branch_of_a_join_adds_nothing():
    """The branch is 1e-30 in one channel; rounded up to one unit it would drown the other branch."""
    rng = np.random.default_rng(5)
    kinds = {}
    for tiny in (1e-30, 0.0):
        rng = np.random.default_rng(5)
        main, skip = conv(rng, "c2", "r1", 4, 4, padding=((1, 1), (1, 1))), conv(rng, "c3", "r1", 4, 4, kernel=1)
        first = conv(rng, "c1", "in", 4, 1)
        for node, dead in ((main, [2]), (skip, [1, 2])):
            weight = node.weight.copy()
            weight[dead] = tiny
            kinds[node.name] = replace(node, weight=weight)
        nodes = (
            FloatInput(name="in", shape=(1, 8, 8)), first, relu("r1", "c1"), kinds["c2"], kinds["c3"],
            FloatAdd(name="a", inputs=("c2", "c3")), relu("r2", "a"), flat("f", "r2"),
            dense("o", "f", rng.normal(0, 0.2, (5, 144))),
        )  # fmt: skip
        x = rng.integers(0, 256, (8, 1, 8, 8)).astype(np.uint8)
        made = quantise_network(FloatNetwork(nodes, "o"), x, weight_bits=4, rounding="nearest", bias_correction=False)
        found = convert(made.network)
        kinds[tiny] = settles(found, x).levels["r2"]
        if tiny:
            assert found.dead["c2"] == 1 and found.dead["c3"] == 2
        assert np.abs(kinds[tiny] - expected_levels(made.network, found, x)["r2"]).max() <= 1
    assert np.array_equal(kinds[1e-30], kinds[0.0])


def separable(rng):
    return (
        FloatInput(name="in", shape=(1, 10, 10)),
        conv(rng, "d", "in", 1, 1, bias=np.array([0.05], np.float32)),
        conv(rng, "p", "d", 6, 1, kernel=1, bias=rng.normal(0, 0.1, 6).astype(np.float32)),
        relu("r", "p"), flat("f", "r"), dense("o", "f", rng.normal(0, 0.1, (5, 384))),
    )  # fmt: skip


def norm_first(rng):
    return (
        FloatInput(name="in", shape=(1, 10, 10)),
        norm(rng, "n", "in", 1),
        conv(rng, "c", "n", 6, 1, padding=((1, 1), (1, 1))),
        relu("r", "c"), flat("f", "r"), dense("o", "f", rng.normal(0, 0.1, (5, 600))),
    )  # fmt: skip


def pre_activation(rng):
    """Two blocks: x + conv(relu(norm(conv(relu(norm(x)))))), a norm, a ReLU and a mean at the end."""
    same = ((1, 1), (1, 1))
    nodes = [FloatInput(name="in", shape=(1, 8, 8)), conv(rng, "c0", "in", 4, 1, padding=same)]
    last = "c0"
    for k in "12":
        nodes += [
            norm(rng, f"na{k}", last, 4), relu(f"ra{k}", f"na{k}"), conv(rng, f"ca{k}", f"ra{k}", 4, 4, padding=same),
            norm(rng, f"nb{k}", f"ca{k}", 4), relu(f"rb{k}", f"nb{k}"),
            conv(rng, f"cb{k}", f"rb{k}", 4, 4, padding=same), FloatAdd(name=f"a{k}", inputs=(last, f"cb{k}")),
        ]  # fmt: skip
        last = f"a{k}"
    nodes += [
        norm(rng, "n", last, 4), relu("r", "n"),
        FloatAvgPool2d(name="g", inputs=("r",), kernel=(8, 8), stride=(8, 8)), flat("f", "g"),
        dense("o", "f", rng.normal(0, 0.5, (5, 4))),
    ]  # fmt: skip
    return tuple(nodes)


def sum_of_activations(rng):
    return (
        FloatInput(name="in", shape=(1, 8, 8)),
        conv(rng, "c1", "in", 4, 1), relu("r1", "c1"), conv(rng, "c2", "in", 4, 1), relu("r2", "c2"),
        FloatAdd(name="a", inputs=("r1", "r2")), flat("f", "a"), dense("h", "f", rng.normal(0, 0.1, (6, 144))),
        relu("r3", "h"), dense("o", "r3", rng.normal(0, 0.3, (5, 6))),
    )  # fmt: skip


def convolution_at_the_end(rng):
    return (
        FloatInput(name="in", shape=(1, 8, 8)),
        conv(rng, "c1", "in", 4, 1), relu("r1", "c1"), conv(rng, "c2", "r1", 5, 4, kernel=1),
        FloatAvgPool2d(name="g", inputs=("c2",), kernel=(6, 6), stride=(6, 6)), flat("f", "g"),
        FloatSoftmax(name="s", inputs=("f",)),
    )  # fmt: skip


def two_readers(rng):
    """One convolution that two activations and a join read."""
    return (
        FloatInput(name="in", shape=(1, 8, 8)),
        conv(rng, "c1", "in", 4, 1), relu("r1", "c1"), FloatReLU(name="r2", inputs=("c1",), max_value=0.2),
        conv(rng, "c2", "r1", 4, 4, kernel=1), FloatAdd(name="a", inputs=("c1", "c2")), relu("r3", "a"),
        FloatAdd(name="b", inputs=("r3", "r2")), flat("f", "b"), dense("o", "f", rng.normal(0, 0.1, (5, 144))),
    )  # fmt: skip


def norm_before_max_pool(rng):
    return (
        FloatInput(name="in", shape=(1, 8, 8)),
        conv(rng, "c1", "in", 4, 1), relu("r1", "c1"), norm(rng, "n", "r1", 4),
        FloatMaxPool2d(name="m", inputs=("n",), kernel=(2, 2), stride=(2, 2)), flat("f", "m"),
        dense("o", "f", rng.normal(0, 0.1, (5, 36))),
    )  # fmt: skip


SHAPES = (
    separable, norm_first, pre_activation, sum_of_activations, convolution_at_the_end, two_readers,
    norm_before_max_pool,
)  # fmt: skip


@pytest.mark.parametrize("bits", [(8, 4), (8, 8), (4, 4), (1, 2)])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_linear_layers_in_a_row_and_joins_before_them(shape, bits):
    """They convert at every width, settle on their integer ANN, and that is the quantised ANN but for roundings."""
    rng = np.random.default_rng(7)
    network = FloatNetwork(shape(rng), shape(rng)[-1].name)
    x = rng.integers(0, 256, (6, *network.input_shape)).astype(np.uint8)
    folded = fold(network)
    scaled = InputScale().apply(x)
    wanted = forward(network, scaled) if not isinstance(network.nodes[-1], FloatSoftmax) else None
    if wanted is not None:
        assert np.abs(forward(folded, scaled) - wanted).max() < 1e-4
    made = quantise_network(folded, x, weight_bits=bits[0], activation_bits=bits[1], rounding="nearest")
    found = convert(made.network)
    ann = settles(found, x)
    real = forward(made.network.graph, made.network.input_scale.apply(x).astype(np.float64), dtype=np.float64)
    outputs = ann.outputs * found.layers["readout"]["unit"]
    assert np.abs(outputs - real).max() <= 0.02 * np.abs(real).max() + 1e-6


def test_narrow_membranes_still_say_that_they_are_too_narrow():
    """Only what no width holds is taken as dead; a membrane that was asked for is not widened by force."""
    from intsnn.errors import ConversionError

    rng = np.random.default_rng(3)
    made = quantise_network(fold(hidden(rng, rng.normal(0, 0.35, (8, 16)), None)), vectors(rng))
    with pytest.raises(ConversionError, match="give more state bits"):
        convert(made.network, NeuronRule(state_bits=6))


def test_codes_become_shorter_where_no_threshold_fits():
    """255 levels behind two layers of 8 bits: the first gives up bits, and the report says how many."""
    rng = np.random.default_rng(1)
    nodes = list(separable(rng))
    nodes[1] = replace(nodes[1], bias=None)
    network = FloatNetwork(tuple(nodes), "o")
    x = rng.integers(0, 256, (20, 1, 10, 10)).astype(np.uint8)
    made = quantise_network(
        fold(network), x, weight_bits=8, activation_bits=8, rounding="nearest", bias_correction=False
    )
    step = made.network.graph["r"].step
    graph = FloatNetwork(
        tuple(replace(n, step=step * 200) if n.name == "r" else n for n in made.network.graph.nodes), "o"
    )
    found = convert(replace(made.network, graph=graph))
    assert found.coarsened and settles(found, x)


def test_flags_of_keras_may_be_numbers():
    from intsnn.errors import ImportRefused
    from intsnn.models.keras.graph import Layer

    assert Layer("n", "BatchNormalization", {"scale": 1}).flag("scale") is True
    assert Layer("n", "BatchNormalization", {"center": 0}).flag("center") is False
    for wrong in (2, -1, 1.0, "true"):
        with pytest.raises(ImportRefused, match="true or false is needed"):
            Layer("n", "BatchNormalization", {"scale": wrong}).flag("scale")


@pytest.mark.parametrize("seed", range(14))
def test_orders_of_magnitude_and_decayed_channels(seed):
    """Layers up to 100 times larger than others, channels decayed, norms scaled away: all convert and mean the same."""
    rng = np.random.default_rng(seed)
    nodes = list(SHAPES[seed % len(SHAPES)](rng))
    for i, node in enumerate(nodes):
        if isinstance(node, FloatConv2d | FloatAffine):
            chance = rng.random(len(node.weight))
            weight = node.weight * np.float32(10.0 ** rng.uniform(-1, 1))
            weight[chance < 0.15] *= 1e-30
            weight[(chance > 0.15) & (chance < 0.25)] *= 10.0 ** rng.uniform(-7, 2)
            nodes[i] = replace(node, weight=weight)
        elif isinstance(node, FloatBatchNorm):
            gamma = np.where(rng.random(len(node.gamma)) < 0.2, 1e-20, node.gamma).astype(np.float32)
            nodes[i] = replace(node, gamma=gamma)
    network = FloatNetwork(tuple(nodes), nodes[-1].name)
    x = rng.integers(0, 256, (6, *network.input_shape)).astype(np.uint8)
    bits, activations = (int(rng.choice(choice)) for choice in ((1, 2, 4, 8), (1, 2, 4, 8)))
    made = quantise_network(fold(network), x, weight_bits=bits, activation_bits=activations)
    found = convert(made.network)
    outputs = integer_ann(found.network, x).outputs * found.layers["readout"]["unit"]
    real = forward(made.network.graph, made.network.input_scale.apply(x).astype(np.float64), dtype=np.float64)
    assert np.abs(outputs - real).max() <= 0.03 * np.abs(real).max()
