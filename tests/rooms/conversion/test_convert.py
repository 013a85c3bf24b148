"""Conversion: the integer ANN and the settled network equal the quantised ANN they come from."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import intsnn
from intsnn import NeuronRule, convert, integer_ann, simulate, verify
from intsnn.conversion.quantise import best_clip, calibrate, quantise_network
from intsnn.conversion.spikes import METHODS
from intsnn.conversion.weights import quantise_weights
from intsnn.engine.ann import equality_conditions
from intsnn.errors import ConversionError, FormatError
from intsnn.formats.fixed import Fixed
from intsnn.formats.weights import Bipolar
from intsnn.layers import Affine, Neuron
from intsnn.network.float_nodes import (
    FloatAdd,
    FloatAffine,
    FloatAvgPool2d,
    FloatConv2d,
    FloatFlatten,
    FloatInput,
    FloatMaxPool2d,
    FloatReLU,
)
from intsnn.network.floating import FloatNetwork, forward
from intsnn.network.quantised import InputScale, QuantAffine, QuantConv2d, QuantisedNetwork, QuantReLU


def quantised(seed, levels, bits, scale=None, join=True, step=None):
    """A small residual network with every kind of branch; scales are random, so no threshold is whole."""
    rng = np.random.default_rng(seed)
    top = max(1, (1 << (bits - 1)) - 1)

    def codes(*shape):
        return rng.choice((-1, 1), shape) if bits == 1 else rng.integers(-top, top + 1, shape)

    def scales(n, fan):
        return (rng.random(n) + 0.5) / (top * np.sqrt(fan))

    def fmt():
        return Bipolar() if bits == 1 else Fixed(bits, narrow=True)

    def conv(name, source, out, inp, kernel=3, pad=1):
        return QuantConv2d(
            name=name, inputs=(source,), codes=codes(out, inp, kernel, kernel), scale=scales(out, inp * kernel**2),
            bias=rng.normal(size=out) * 0.1, weight_format=fmt(), padding=((pad, pad), (pad, pad)),
        )  # fmt: skip

    def relu(name, source):
        return QuantReLU(name=name, inputs=(source,), step=(step or rng.random() + 0.5) / levels, levels=levels)

    nodes = [
        FloatInput(name="in", shape=(1, 8, 8)),
        conv("c1", "in", 4, 1),
        relu("r1", "c1"),
        FloatMaxPool2d(name="p", inputs=("r1",), kernel=(2, 2), stride=(2, 2)),
        conv("c2", "p", 4, 4),
        relu("r2", "c2"),
    ]
    last = "r2"
    if join:
        nodes += [
            conv("c3", "r2", 4, 4),
            FloatAdd(name="a1", inputs=("c3", "p")),
            relu("r3", "a1"),
            conv("c4", "r3", 6, 4),
            conv("skip", "r3", 6, 4, kernel=1, pad=0),
            FloatAdd(name="a2", inputs=("c4", "skip")),
            relu("r4", "a2"),
        ]
        last = "r4"
    width = 6 if join else 4
    nodes += [
        FloatAvgPool2d(name="g", inputs=(last,), kernel=(2, 2), stride=(2, 2)),
        FloatFlatten(name="f", inputs=("g",)),
        QuantAffine(
            name="d", inputs=("f",), codes=codes(5, width * 4), scale=scales(5, 24), bias=rng.normal(size=5) * 0.1,
            weight_format=fmt(),
        ),
    ]  # fmt: skip
    return QuantisedNetwork(FloatNetwork(tuple(nodes), "d"), scale or InputScale())


def images(seed, count=12):
    return np.random.default_rng(seed + 1000).integers(0, 256, (count, 1, 8, 8)).astype(np.uint8)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), bits=st.sampled_from((1, 2, 3, 4, 8)), activation=st.integers(1, 5))
def test_chain_equals_the_quantised_ann_exactly(seed, bits, activation):
    """Without joins: every level equals that of the real-valued quantised ANN where no level moved."""
    levels = (1 << activation) - 1
    source = quantised(seed, levels, bits, join=False)
    made = convert(source)
    x = images(seed)
    ann = integer_ann(made.network, x)
    real = forward(source.graph, source.input_scale.apply(x).astype(np.float64), dtype=np.float64, record=("r1", "r2"))
    for name in ("r1", "r2"):
        want = np.rint(real[name] / source.graph[name].step).astype(np.int64)
        if made.layers[name]["moved_levels"] == 0:
            assert np.array_equal(ann.levels[name], want), name


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    bits=st.sampled_from((1, 2, 4, 8)),
    activation=st.integers(1, 5),
    method=st.sampled_from(METHODS),
    bias=st.sampled_from(("spread", "once")),
    drive=st.sampled_from((None, 4, 20)),
)
def test_settled_network_equals_its_integer_ann(seed, bits, activation, method, bias, drive):
    made = convert(quantised(seed, (1 << activation) - 1, bits), NeuronRule(method=method, bias=bias, t_drive=drive))
    assert equality_conditions(made.network) == []
    x = images(seed)
    ann = integer_ann(made.network, x)
    run = simulate(made.network, x, settle=True, keep_final=True)
    assert run.settled and run.overflows == 0
    assert run.extra_steps.max() <= made.network.settling_bound
    for name, levels in ann.levels.items():
        assert np.array_equal(run.final[f"{name}.counts"], levels), name
    assert np.array_equal(run.outputs, ann.outputs)


def test_published_variants_differ_and_say_why():
    """Unsigned, uncapped or slow to take back: not equal, and the conditions name it."""
    for rule, word in (
        (NeuronRule(signed=False), "unsigned"),
        (NeuronRule(cap=False), "no cap"),
        (NeuronRule(method="ca-lif", v_negative=-1.0), "v_negative"),
    ):
        seen = 0
        for seed in range(6):
            network = convert(quantised(seed, 3, 4), rule).network
            assert all(word in reason for reason in equality_conditions(network)), rule
            outcome = verify(network, images(seed), reference=1)
            assert not outcome.due and outcome.path_mismatches == 0 and outcome.ok
            seen += outcome.ann_mismatches
        assert seen > 0, rule


def test_verify_finds_a_planted_difference(monkeypatch):
    """A network whose compiled neuron is wrong by one threshold is caught, and the place is named."""
    from intsnn.kernels.neurons import compiled as neuron
    from intsnn.kernels.neurons import narrow as membrane

    network = convert(quantised(3, 7, 4)).network
    vector, general = membrane.narrow_run, neuron.neuron_run

    def wrong(constants, table, *rest):
        table = table.copy()
        table[:2] += 1
        return vector(constants, table, *rest)

    def also_wrong(*arguments):
        return general(*arguments[:5], arguments[5] + 1, *arguments[6:])

    monkeypatch.setattr(membrane, "narrow_run", wrong)
    monkeypatch.setattr(neuron, "neuron_run", also_wrong)  # what the tier `portable` takes
    outcome = verify(network, images(3, 3), reference=1)
    assert not outcome.ok and outcome.path_mismatches > 0
    assert outcome.first.layer.startswith("r1") and "against reference" in outcome.first.between
    assert outcome.first.expected != outcome.first.found


def test_input_scale_with_offset():
    """2x - 1 and x/255 - 0.5 become whole codes; levels of the first layer are those of the real network."""
    for text in ("2/255,-1", "1/255,-0.5", "1"):
        scale = InputScale.parse(text)
        source = quantised(5, 15, 8, scale=scale, join=False, step=3.0 if text != "1" else 500.0)
        made = convert(source)
        x = images(5)
        ann = integer_ann(made.network, x)
        exact = np.asarray(x, np.float64) * float(scale.scale) + float(scale.offset)
        real = forward(source.graph, exact, dtype=np.float64, record=("r1",))["r1"]
        assert made.layers["r1"]["moved_levels"] == 0
        assert np.array_equal(ann.levels["r1"], np.rint(real / source.graph["r1"].step).astype(np.int64))
    assert InputScale.parse("1/255,-0.5").integers() == (2, -255, Fraction(1, 510))


@pytest.mark.parametrize("text", ["", "a", "1/0", "1,2,3", "-1", "0"])
def test_bad_input_scale(text):
    with pytest.raises(FormatError, match="input scale"):
        InputScale.parse(text)


def test_least_shift_is_needed():
    """With a coarser unit than the converter chose, levels move; the report says how many."""
    source = quantised(11, 15, 2, join=False)
    fine = convert(source)
    coarse = convert(source, NeuronRule(most_shift=0))
    assert any(fine.layers[n]["shift"] > 0 for n in ("r1", "r2"))
    assert sum(coarse.layers[n]["moved_levels"] for n in ("r1", "r2")) > 0
    assert sum(fine.layers[n]["moved_levels"] for n in ("r1", "r2")) == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pooled", [False, True])
def test_a_boundary_all_but_on_a_charge(method, pooled):
    """No unit is fine enough for a level that begins 1e-7 steps beside a whole charge: the bias moves instead."""
    bias = np.array([0.8 - 1e-7, 0.7 + 1e-7, 3.1 - 1e-8])
    pool = FloatAvgPool2d(name="pool", inputs=("c",), kernel=(2, 2), stride=(2, 2))  # of four equal values
    nodes = (
        FloatInput(name="input", shape=(1, 2, 2) if pooled else (1, 1, 1)),
        QuantConv2d(name="c", inputs=("input",), codes=[[[[1]]], [[[1]]], [[[-3]]]], scale=0.1, bias=bias),
        *([pool] if pooled else []),
        QuantReLU(name="r", inputs=("pool" if pooled else "c",), step=1.0, levels=3),
        FloatFlatten(name="flat", inputs=("r",)),
        QuantAffine(name="out", inputs=("flat",), codes=np.eye(3, dtype=int), scale=1.0),
    )
    network = QuantisedNetwork(FloatNetwork(nodes, "out"), InputScale(Fraction(1)), Fixed(6, signed=False))
    made = convert(network, NeuronRule(method))
    assert made.layers["r"]["moved_levels"] == 0
    x = np.arange(40)
    z = np.array([1, 1, -3]) * Fraction(1, 10) * x[:, None] + [Fraction(b) for b in bias]
    expected = np.array([[min(3, max(0, int((value + Fraction(1, 2)) // 1))) for value in row] for row in z])
    inputs = np.broadcast_to(x[:, None, None, None], (40, *nodes[0].shape)).astype(np.uint8)
    run = simulate(made.network, inputs, settle=True, keep_final=True)
    assert np.array_equal(run.final["r.counts"].reshape(40, 3), expected)


def test_the_old_name_of_the_rule():
    assert intsnn.Rule is NeuronRule and intsnn.conversion.Rule is NeuronRule


def test_odd_thresholds():
    network = convert(quantised(2, 7, 4), NeuronRule(odd_thresholds=True)).network
    for name in network.neurons:
        assert np.all(network.nodes[name].threshold % 2 == 1)


def test_zero_channel_gives_a_constant():
    """BatchNorm with gamma 0 leaves zero weights: the neuron shows its bias."""
    graph = FloatNetwork(
        (
            FloatInput(name="in", shape=(3,)),
            QuantAffine(
                name="d1", inputs=("in",), codes=np.array([[0, 0, 0], [1, 1, 1]]), scale=np.array([0.5, 0.5]),
                bias=np.array([0.7, 0.0]),
            ),
            QuantReLU(name="r", inputs=("d1",), step=0.25, levels=7),
            QuantAffine(name="d2", inputs=("r",), codes=np.array([[1, 0], [0, 1]]), scale=0.1),
        ),
        "d2",
    )  # fmt: skip
    made = convert(QuantisedNetwork(graph, InputScale(Fraction(1, 255))))
    ann = integer_ann(made.network, np.array([[0, 0, 0], [255, 255, 255]], np.uint8))
    assert ann.levels["r"].tolist() == [[3, 0], [3, 6]]


def test_threshold_below_one_is_an_error():
    graph = FloatNetwork(
        (
            FloatInput(name="in", shape=(2,)),
            QuantAffine(name="d1", inputs=("in",), codes=np.ones((1, 2), int), scale=1e6),
            QuantReLU(name="r", inputs=("d1",), step=1e-6, levels=3),
            QuantAffine(name="d2", inputs=("r",), codes=np.ones((2, 1), int), scale=1.0),
        ),
        "d2",
    )
    with pytest.raises(ConversionError, match="'r': the threshold of channel 0"):
        convert(QuantisedNetwork(graph, InputScale()))


def test_unquantised_layer_is_named():
    graph = FloatNetwork(
        (
            FloatInput(name="in", shape=(1, 4, 4)),
            FloatConv2d(name="c", inputs=("in",), weight=np.ones((1, 1, 3, 3))),
            QuantReLU(name="r", inputs=("c",), step=1.0, levels=3),
        ),
        "r",
    )
    with pytest.raises(ConversionError, match="'c'.*not quantised"):
        convert(QuantisedNetwork(graph))


def test_linear_chain_without_a_relu():
    """A linear layer behind a linear layer: the inner one has one scale per tensor, the charge flows through."""
    rng = np.random.default_rng(0)
    graph = FloatNetwork(
        (
            FloatInput(name="in", shape=(1, 6, 6)),
            QuantConv2d(name="c1", inputs=("in",), codes=rng.integers(-7, 8, (3, 1, 3, 3)), scale=0.05,
                        bias=rng.normal(size=3)),
            FloatAvgPool2d(name="g", inputs=("c1",), kernel=(2, 2), stride=(2, 2)),
            QuantConv2d(name="c2", inputs=("g",), codes=rng.integers(-7, 8, (4, 3, 2, 2)), scale=rng.random(4) + 0.1),
            QuantReLU(name="r", inputs=("c2",), step=0.3, levels=7),
            FloatFlatten(name="f", inputs=("r",)),
            QuantAffine(name="d", inputs=("f",), codes=rng.integers(-7, 8, (3, 4)), scale=0.1),
        ),
        "d",
    )  # fmt: skip
    source = QuantisedNetwork(graph)
    made = convert(source)
    x = rng.integers(0, 256, (40, 1, 6, 6)).astype(np.uint8)
    ann = integer_ann(made.network, x)
    real = forward(graph, source.input_scale.apply(x), dtype=np.float64, record=("r",))["r"]
    different = (ann.levels["r"] != np.rint(real / 0.3).astype(np.int64)).mean()
    assert different < 0.02  # the rounded inner bias may move a level now and then
    run = simulate(made.network, x, settle=True, keep_final=True)
    assert np.array_equal(run.final["r.counts"], ann.levels["r"])


# -- post-training quantisation ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), bits=st.integers(2, 8))
def test_weight_codes_are_the_nearest_of_their_scale(seed, bits):
    weight = np.random.default_rng(seed).normal(size=(5, 3, 2, 2))
    codes, scale = quantise_weights(weight, bits)
    top = (1 << (bits - 1)) - 1
    assert np.abs(codes).max() <= top and (scale > 0).all()
    error = np.abs(codes * scale[:, None, None, None] - weight)
    inside = np.abs(weight) <= (top + 0.5) * scale[:, None, None, None]
    assert (error[inside] <= np.broadcast_to(scale[:, None, None, None], weight.shape)[inside] / 2 + 1e-12).all()
    largest = np.abs(weight).reshape(5, -1).max(axis=1) / top
    plain = np.clip(np.floor(weight / largest[:, None, None, None] + 0.5), -top, top) * largest[:, None, None, None]
    assert np.square(error).sum() <= np.square(plain - weight).sum() + 1e-12


def test_one_bit_weights_are_signs_times_the_mean():
    weight = np.array([[1.0, -3.0], [0.0, 0.0]])
    codes, scale = quantise_weights(weight, 1)
    assert codes[0].tolist() == [1, -1] and scale[0] == 2.0
    assert scale[1] < 1e-5  # an empty channel: as good as nothing


def test_best_clip_finds_the_range():
    counts = np.zeros(4096, np.int64)
    counts[:1024] = 1000  # uniform on the first quarter, a few far out
    counts[-1] = 1
    assert 0.2 < best_clip(counts, 1.0, 15) < 0.4
    assert best_clip(counts, 1.0, 15, max_value=0.1) <= 0.1


def test_stages_and_bias_correction():
    """Bias correction makes the mean output of a linear layer that of the unquantised one."""
    rng = np.random.default_rng(1)
    graph = FloatNetwork(
        (
            FloatInput(name="in", shape=(2, 6, 6)),
            FloatConv2d(name="c", inputs=("in",), weight=rng.normal(size=(4, 2, 3, 3)), padding=((1, 1), (1, 1))),
            FloatReLU(name="r", inputs=("c",)),
            FloatFlatten(name="f", inputs=("r",)),
            FloatAffine(name="d", inputs=("f",), weight=rng.normal(size=(3, 144))),
        ),
        "d",
    )
    raw = rng.integers(0, 256, (50, 2, 6, 6)).astype(np.uint8)
    result = quantise_network(graph, raw, weight_bits=2, activation_bits=4, rounding="nearest")
    assert [name for name, _ in result.stages] == ["clip", "activations 4 bit", "weights 2 bit", "bias correction"]
    x = InputScale().apply(raw).astype(np.float64)
    want = forward(graph, x, dtype=np.float64, record=("c",))["c"].mean(axis=(0, 2, 3))
    got = forward(result.network.graph, x, dtype=np.float64, record=("c",))["c"].mean(axis=(0, 2, 3))
    before = forward(result.stages[2][1], x, dtype=np.float64, record=("c",))["c"].mean(axis=(0, 2, 3))
    assert np.abs(got - want).max() < 1e-6 < np.abs(before - want).max()


def test_converted_layers_are_the_codes():
    source = quantised(4, 15, 4, join=False)
    network = convert(source).network
    assert np.array_equal(network.nodes["c2"].weight, source.graph["c2"].codes)
    assert isinstance(network.nodes["d"], Affine) and isinstance(network.nodes["r1"], Neuron)
    assert network.nodes["r1"].max_count == 15 and network.t_drive == 15
    assert np.array_equal(network.nodes["r1"].v_initial, network.nodes["r1"].threshold >> 1)


def test_states_of_a_given_width():
    """All membranes have the width that was asked for; narrow ones saturate, and then equality is no longer due."""
    source = quantised(7, 15, 4)
    free = convert(source)
    needed = max(row["membrane_bits"] for row in free.layers.values() if "membrane_bits" in row)
    wide = convert(source, NeuronRule(state_bits=needed + 1))
    assert {wide.network.nodes[name].v_format for name in wide.network.neurons} == {Fixed(needed + 1)}
    x = images(7, 4)
    outcome = verify(wide.network, x, reference=0)
    assert outcome.due and outcome.mismatches == 0
    outputs = [simulate(made.network, x, settle=True).outputs for made in (wide, free)]
    assert np.array_equal(*outputs)
    seen = []
    for bits in range(needed, 2, -2):
        try:
            narrow = convert(source, NeuronRule(state_bits=bits)).network
        except ConversionError as error:
            assert f"{bits} bits" in str(error) and f"up to {2 ** (bits - 2) - 1}" in str(error)
            break
        for name in narrow.neurons:
            assert narrow.nodes[name].v_format == Fixed(bits) and narrow.nodes[name].threshold.max() < 1 << (bits - 2)
        outcome = verify(narrow, x, reference=1 if len(seen) == 2 else 0)
        assert outcome.path_mismatches == 0 and outcome.due == (outcome.overflows == 0) and outcome.ok
        seen.append(outcome.overflows)
    assert seen[0] == 0 and seen[-1] > 0 and bits > 3
    with pytest.raises(FormatError, match="state_bits"):
        NeuronRule(state_bits=2)


@pytest.mark.parametrize("bits", range(1, 9))
def test_one_calibration_serves_all_widths(bits):
    """What `calibrate` found gives the codes, steps and biases that the samples themselves give."""
    rng = np.random.default_rng(3)
    graph = FloatNetwork(
        (
            FloatInput(name="in", shape=(1, 6, 6)),
            FloatConv2d(name="c", inputs=("in",), weight=rng.normal(size=(4, 1, 3, 3)), bias=rng.normal(size=4)),
            FloatReLU(name="r", inputs=("c",)),
            FloatFlatten(name="f", inputs=("r",)),
            FloatAffine(name="d", inputs=("f",), weight=rng.normal(size=(3, 64)) * 0.1),
        ),
        "d",
    )
    raw = rng.integers(0, 256, (40, 1, 6, 6)).astype(np.uint8)
    shared = calibrate(graph, raw)
    for activation in (3, 2, 3):
        alone = quantise_network(graph, raw, weight_bits=bits, activation_bits=activation).network
        found = quantise_network(graph, shared, weight_bits=bits, activation_bits=activation).network
        for name in ("c", "d"):
            one, other = alone.graph[name], found.graph[name]
            assert np.array_equal(one.codes, other.codes) and np.array_equal(one.scale, other.scale)
            assert np.array_equal(one.bias, other.bias) and one.weight_format == other.weight_format
        assert alone.graph["r"].step == found.graph["r"].step and alone.input_scale == found.input_scale
        assert convert(found).network.neurons == ("r",)
    assert isinstance(found.graph["c"].weight_format, Bipolar if bits == 1 else Fixed)
    with pytest.raises(ConversionError, match="another network"):
        quantise_network(FloatNetwork(graph.nodes, "d"), shared)
