"""Files of our own: everything comes back exactly, and nothing that was damaged or made up comes in."""

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest
from counting import bytes_taken
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import HANGING, ended, until_line

from intsnn.conversion import convert
from intsnn.engine import integer_ann
from intsnn.errors import DataNotFoundError, FormatError, ImportRefused, IntsnnError, ShapeError, UnsupportedError
from intsnn.files import network_file as files
from intsnn.files import nodes as layout
from intsnn.files.network_file import FileInfo, load, read_info, save, stored_bytes
from intsnn.files.record import Budget, Record
from intsnn.files.values import SCALE
from intsnn.formats.fixed import Fixed, Overflow, Rounding
from intsnn.formats.packing import packed_size
from intsnn.formats.weights import Bipolar, Levels, apot
from intsnn.layers import (
    IF,
    LIF,
    QFFS,
    Add,
    Affine,
    AvgPool2d,
    CaLIF,
    Concat,
    Conv2d,
    CubaLIF,
    Decay,
    Flatten,
    Input,
    MaxPool2d,
    Neuron,
    Readout,
    Refractory,
    Scale,
    Select,
    SignedIF,
    SumPool2d,
    Upsample2d,
    loihi,
)
from intsnn.layers.base import Layer
from intsnn.layers.connections import BIAS_MODES
from intsnn.layers.ports import READOUTS
from intsnn.network import float_activations, float_moves, float_nodes, quantised
from intsnn.network import floating as floatnet
from intsnn.network.float_activations import FloatHardTanh, FloatLeakyReLU, FloatSigmoid
from intsnn.network.float_moves import FloatConcat, FloatSelect, FloatSigns
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
    FloatUpsample2d,
)
from intsnn.network.floating import FloatNetwork
from intsnn.network.quantised import (
    InputScale,
    QuantAffine,
    QuantConv2d,
    QuantHardTanh,
    QuantisedNetwork,
    QuantReLU,
)
from intsnn.network.spiking import Network

LONG_TABLE = Levels(tuple(range(-(1 << 62), -(1 << 62) + 256 * 10**15, 10**15)))
FORMATS = (
    *(Fixed(bits, signed=signed) for bits in range(1, 9) for signed in (True, False)),
    *(Fixed(bits) for bits in (9, 12, 16, 17, 32, 33, 63, 64)),
    Fixed(8, 3, narrow=True),
    Fixed(2, -5, narrow=True),
    Fixed(16, 40, signed=False),
    Bipolar(),
    *(apot(bits) for bits in (2, 3, 4, 5)),
    Levels((-7, 5)),
    Levels((-300, -1, 0, 2, 70000)),
    LONG_TABLE,
)
NARROW = Fixed(4, narrow=True)
NAMES = ("conv/1", "a b", "%2F", ".", "..", "Größe", "none", "x" * 255)


def same(a, b):
    """Whether two things are equal in every field, type, dtype, shape and value."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, item.name), getattr(b, item.name)) for item in dataclasses.fields(a))
    if hasattr(a, "keys"):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def codes_in(fmt, shape, rng):
    """Random weights of a format, its smallest and largest among them."""
    table = getattr(fmt, "table", None) or ((-1, 1) if isinstance(fmt, Bipolar) else None)
    if table:
        values = rng.choice(np.asarray(table), shape)
    else:
        low, high = max(fmt.min, -(1 << 63)), min(fmt.max, (1 << 63) - 1)
        values = rng.integers(low, high, shape, endpoint=True)
    flat = values.reshape(-1)
    flat[0], flat[-1] = max(fmt.min, -(1 << 63)), min(fmt.max, (1 << 63) - 1)
    return values


def small_network(rng):
    """Every part that a small network can have, in few bytes."""
    nodes = {
        "input": Input((2, 4, 4), Fixed(4, signed=False)),
        "conv/1": Conv2d(
            rng.integers(-4, 4, (3, 2, 3, 3)), [1, -2, 300], Fixed(3), "spread", [1, 2, 3], padding=((0, 1), (1, 0))
        ),
        "if": SignedIF([7, 8, 9], 3),
        "flat": Flatten(),
        "fc": Affine(rng.choice([-1, 1], (4, 27)), weight_format=Bipolar()),
        "out": Readout(labels=("a", "b", "c", "d")),
    }
    names = list(nodes)
    return Network(
        nodes, tuple(zip(names[:-1], names[1:], strict=True)), t_drive=3, levels=3, metadata={"a": [1, None]}
    )


def small_quantised(rng, fmt=NARROW, bias=np.float64):
    def vector(n):
        return rng.normal(size=n).astype(bias)

    nodes = (
        FloatInput(name="in", shape=(2, 6, 6), source="file/in"),
        QuantConv2d(
            name="conv/1", inputs=("in",), codes=codes_in(fmt, (4, 1, 3, 3), rng), scale=rng.uniform(0.1, 1, 4),
            weight_format=fmt, bias=vector(4), stride=(1, 2), padding=((1, 0), (2, 1)), dilation=(2, 1), groups=2,
        ),
        QuantReLU(name="relu", inputs=("conv/1",), step=0.1, levels=15),
        QuantConv2d(
            name="same", inputs=("relu",), codes=codes_in(fmt, (4, 4, 1, 1), rng), scale=0.5, weight_format=fmt
        ),
        FloatAdd(name="add", inputs=("relu", "same")),
        QuantReLU(name="relu2", inputs=("add",), step=2.0**-20 / 3, levels=15),
        FloatMaxPool2d(name="max", inputs=("relu2",), kernel=(2, 2), stride=(1, 1), padding=((1, 0), (0, 1))),
        FloatAvgPool2d(name="mean", inputs=("max",), kernel=(2, 2), stride=(2, 2), count_include_pad=True),
        FloatSelect(name="turn", inputs=("mean",), places=np.arange(8)[::-1]),
        FloatFlatten(name="flat", inputs=("mean",)),
        FloatConcat(name="both", inputs=("turn", "flat")),
    )  # fmt: skip
    size = FloatNetwork(nodes, "both").shapes["both"][0]
    last = QuantAffine(
        name="fc", inputs=("both",), codes=codes_in(fmt, (3, size), rng), scale=0.25, weight_format=fmt, bias=vector(3)
    )
    graph = FloatNetwork((*nodes, last), "fc", {"format": "test", "tensors": [{"n": 1.5}]})
    return QuantisedNetwork(graph, InputScale(Fraction(2, 255), Fraction(-1, 3)), Fixed(9, 1))


def small_float(rng, dtype=np.float32):
    """Every kind of float node, each field of it at something else than its default."""

    def values(*shape):
        return rng.normal(size=shape).astype(dtype)

    nodes = (
        FloatInput(name="in", shape=(2, 6, 6), source="file/in"),
        FloatConv2d(
            name="conv/1", inputs=("in",), weight=values(4, 1, 3, 3), bias=values(4), stride=(1, 2),
            padding=((1, 0), (2, 1)), dilation=(2, 1), groups=2,
        ),
        FloatBatchNorm(
            name="norm", inputs=("conv/1",), gamma=values(4), beta=values(4), mean=values(4),
            variance=np.abs(values(4)), epsilon=2.0**-20 / 3,
        ),
        FloatReLU(name="relu", inputs=("norm",), max_value=6.5),
        FloatHardTanh(name="hard", inputs=("norm",), limit=None),
        FloatHardTanh(name="tanh", inputs=("hard",), limit=0.75),
        FloatLeakyReLU(name="leaky", inputs=("norm",), slope=0.1),
        FloatAdd(name="add", inputs=("relu", "tanh", "leaky")),
        FloatMaxPool2d(name="max", inputs=("add",), kernel=(2, 2), stride=(1, 1), padding=((1, 0), (0, 1))),
        FloatAvgPool2d(
            name="mean", inputs=("max",), kernel=(2, 2), stride=(2, 2), padding=((0, 1), (0, 0)),
            count_include_pad=True,
        ),
        FloatUpsample2d(name="up", inputs=("mean",), factor=(1, 2), mode="zeros"),
    )  # fmt: skip
    size = int(np.prod(FloatNetwork(nodes, "up").shapes["up"]))
    last = (
        FloatSelect(name="some", inputs=("up",), places=rng.integers(-1, size, (4, 1, 2))),
        FloatFlatten(name="flat", inputs=("up",)),
        FloatSigns(name="signs", inputs=("some",), signs=np.array([1, -1, -1, 1])),
        FloatFlatten(name="few", inputs=("signs",)),
        FloatConcat(name="both", inputs=("flat", "few")),
        FloatAffine(name="fc", inputs=("both",), weight=values(3, size + 8), bias=values(3)),
        FloatSigmoid(name="sigmoid", inputs=("fc",)),
        FloatSoftmax(name="softmax", inputs=("sigmoid",)),
    )
    return FloatNetwork((*nodes, *last), "softmax", {"format": "test", "tensors": [{"n": 1.5}]})


# ---------------------------------------------------------------------------------------------------------------------
# everything comes back
# ---------------------------------------------------------------------------------------------------------------------

FULL_DECAY = Decay("multiply", 12, 4000, 17, Rounding.RND_CONV, True)
EXAMPLES = {
    Input: Input((3, 4, 5), Fixed(5, 2), -3, 70000),
    Affine: Affine([[1, -2], [3, 0]], [-1, 1 << 40], Fixed(3, 1), "once", [-7, 1 << 33], 1),
    Conv2d: Conv2d(
        np.ones((4, 1, 2, 3), int), [1, 2, 3, 4], Levels((-3, 1)), "spread", 5, 1, (2, 3), ((1, 2), (0, 4)), (3, 1), 2
    ),
    Scale: Scale([3, -4]),
    SumPool2d: SumPool2d((3, 2), (1, 4), ((1, 2), (0, 1))),
    AvgPool2d: AvgPool2d((3, 2), (1, 4), ((1, 2), (0, 1)), Rounding.RND_MIN_INF),
    MaxPool2d: MaxPool2d((3, 2), (1, 4), ((1, 2), (0, 1))),
    Upsample2d: Upsample2d((3, 1), "zeros"),
    Flatten: Flatten(),
    Select: Select([[[3, -1]], [[0, 3]]]),
    Add: Add(),
    Concat: Concat(),
    Readout: Readout("first_spike", ("zero", "", "größer")),
    Neuron: Neuron(
        threshold=[5, 6],
        v_initial=[-1, 2],
        v_format=Fixed(20, 1),
        v_overflow=Overflow.WRAP,
        v_decay=FULL_DECAY,
        u_format=Fixed(24, 2, narrow=True),
        u_overflow=Overflow.TRAP,
        u_range=(-(1 << 23) + 1, 1 << 23),
        u_decay=Decay("subtract", amount=3),
        u_shift=6,
        acc_format=Fixed(16),
        acc_overflow=Overflow.SAT_SYM,
        bias=[-1, 300],
        bias_format=Fixed(12),
        threshold_format=Fixed(9, signed=False),
        compare=">",
        reset="subtract",
        reset_delay=1,
        signed=True,
        v_negative=-3,
        max_count=15,
        max_spikes_per_step=3,
        refractory=Refractory("trace", 2, 9, FULL_DECAY, Fixed(11)),
        preset="mine",
        restart_every=7,
        restart_phase=2,
        min_count=-4,
    ),
}
LEFT_AT_DEFAULT = {(Neuron, "reset")}  # the other resets exclude max_spikes_per_step > 1; tested below


def test_registry_knows_every_layer():
    """A layer class that is added without a place in files turns this red."""
    found = {cls for cls in Layer.kinds.values() if cls.__module__.startswith("intsnn.")}
    assert found == {cls for cls in layout.LAYERS.values() if cls in found} == set(EXAMPLES)
    nodes = {
        cls
        for name, cls in vars(quantised).items()
        if isinstance(cls, type) and issubclass(cls, float_nodes.FloatNode) and not name.startswith("_")
    }
    nodes -= {float_nodes.FloatNode, FloatConv2d, float_nodes.FloatAffine}
    assert nodes <= set(layout.QUANTISED.values())
    floats = {
        cls
        for module in (float_nodes, float_moves, float_activations)
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, float_nodes.FloatNode) and cls is not float_nodes.FloatNode
    }
    made = {type(node) for node in small_float(np.random.default_rng(0)).nodes}
    assert floats == set(layout.FLOAT_NODES.values()) == made


@pytest.mark.parametrize("cls", EXAMPLES, ids=lambda cls: cls.__name__)
def test_every_field_round_trips(cls):
    """The example sets every field to something else than its default, so that none can be forgotten."""
    layer = EXAMPLES[cls]
    for item in dataclasses.fields(cls):
        if item.default is not dataclasses.MISSING and (cls, item.name) not in LEFT_AT_DEFAULT:
            assert not np.array_equal(getattr(layer, item.name), item.default), f"{item.name} is at its default"
    record = layout.write_layer(layer, layout.LAYERS, "x")
    assert same(layout.read_layer(record, layout.LAYERS, Budget(1 << 20)), layer)
    assert set(layout.stored_fields(cls)) == {item.name for item in dataclasses.fields(cls)}


def test_moves_and_two_sides_come_back(tmp_path):
    """Places and signs are integers of a float graph; the file of a network with them gives the same integers."""
    places = np.arange(24).reshape(6, 2, 2)[::-1].copy()
    places[0, 0, 1] = -1
    nodes = (
        FloatInput(name="in", shape=(1, 2, 2)),
        QuantConv2d(name="c", inputs=("in",), codes=np.array([[[[3]]], [[[-2]]], [[[5]]]]), scale=0.4),
        QuantReLU(name="r", inputs=("c",), step=0.3, levels=3),
        QuantHardTanh(name="h", inputs=("c",), step=0.3, levels=3),
        FloatSigns(name="s", inputs=("h",), signs=np.array([1, -1, 1])),
        FloatConcat(name="both", inputs=("r", "s")),
        FloatSelect(name="some", inputs=("both",), places=places),
        FloatFlatten(name="flat", inputs=("some",)),
        QuantAffine(name="d", inputs=("flat",), codes=np.arange(-24, 24).reshape(2, 24) // 8, scale=0.5),
    )
    given = QuantisedNetwork(FloatNetwork(nodes, "d"))
    save(given, tmp_path / "q.h5")
    found = load(tmp_path / "q.h5", trust=True)
    x = np.arange(0, 256, 3).reshape(-1, 1, 1, 1) * np.array([[1, 0], [1, 1]])
    assert found.graph["some"].places.dtype.kind == "i" and np.array_equal(found.graph["some"].places, places)
    assert np.array_equal(floatnet.forward(found.graph, x), floatnet.forward(given.graph, x))
    first, second = convert(given).network, convert(found).network
    save(first, tmp_path / "n.h5")
    for network in (second, load(tmp_path / "n.h5", trust=True)):
        assert np.array_equal(integer_ann(network, x).outputs, integer_ann(first, x).outputs)
    assert first.nodes["h"].min_count == -3 and np.unique(integer_ann(first, x).levels["h"]).min() == -3


@pytest.mark.parametrize("part", [Decay, Refractory, Fixed, Levels, Bipolar, InputScale])
def test_parts_have_the_fields_that_files_know(part):
    """Values inside a field: a field that is added to them has to reach the file too."""
    known = {
        Decay: "kind shift multiplier amount rounding at_least_one",
        Refractory: "kind steps amplitude decay format",
        Fixed: "bits frac signed narrow",
        Levels: "table",
        Bipolar: "",
        InputScale: "scale offset",
    }
    assert [item.name for item in dataclasses.fields(part)] == known[part].split()


def test_containers_have_the_fields_that_files_know():
    def names(cls):
        return [item.name for item in dataclasses.fields(cls)]

    assert names(Network) == ["nodes", "edges", "t_drive", "levels", "metadata"]
    assert names(QuantisedNetwork) == ["graph", "input_scale", "input_format"]
    assert names(FloatNetwork) == ["nodes", "output", "metadata", "shapes"]


@dataclasses.dataclass(frozen=True)
class Odd:
    """A layer with a field of a type that has no rule."""

    table: dict[str, int] = dataclasses.field(default_factory=dict)


def test_field_without_rule_is_named():
    with pytest.raises(FormatError, match=r"Odd\.table: no rule"):
        layout.write_layer(Odd(), {"Odd": Odd}, "x")


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: str(fmt)[:30])
def test_weight_formats(fmt, tmp_path):
    rng = np.random.default_rng(1)
    for shape in ((1, 1), (3, 5), (2, 8)):
        layer = Affine(codes_in(fmt, shape, rng), weight_format=fmt)
        record = layout.write_layer(layer, layout.LAYERS, "x")
        assert same(layout.read_layer(record, layout.LAYERS, Budget(1 << 20)), layer)
        if isinstance(fmt, Fixed) and fmt.bits > 8:
            assert record.arrays["weight"].dtype.itemsize in (fmt.bits // 8, fmt.dtype.itemsize)
        else:
            assert record.arrays["weight_packed"].nbytes == packed_size(shape[0] * shape[1], fmt.bits)


@pytest.mark.parametrize("fmt", [Fixed(bits) for bits in range(1, 9)] + [Bipolar(), apot(4), Fixed(8, narrow=True)])
@pytest.mark.parametrize("bias", [np.float32, np.float64])
def test_quantised_networks(fmt, bias, tmp_path):
    network = small_quantised(np.random.default_rng(fmt.bits), fmt, bias)
    save(network, tmp_path / "q.h5", provenance={"bits": fmt.bits})
    again = load(tmp_path / "q.h5", trust=True)
    assert same(again, network)
    assert read_info(tmp_path / "q.h5", trust=True).kind == "quantised-ann"
    x = np.random.default_rng(0).normal(size=(2, 2, 6, 6))
    assert np.array_equal(floatnet.forward(again.graph, x), floatnet.forward(network.graph, x))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_networks(dtype, tmp_path):
    """Bit for bit, in the types that they have; and a plan that reads a default for each field would be seen."""
    network = small_float(np.random.default_rng(1), dtype)
    for node in network.nodes:
        for item in dataclasses.fields(node):
            if item.default is not dataclasses.MISSING and item.name not in ("inputs", "source"):
                named = [n for n in network.nodes if type(n) is type(node)]
                assert any(not np.array_equal(getattr(n, item.name), item.default) for n in named), item.name
    save(network, tmp_path / "f.h5", provenance={"source": "here"})
    again = load(tmp_path / "f.h5")
    assert same(again.nodes, network.nodes) and same(again, network)
    info = read_info(tmp_path / "f.h5", trust=True)
    assert (info.kind, info.provenance) == ("float-ann", {"source": "here"})
    x = np.random.default_rng(0).normal(size=(2, 2, 6, 6))
    assert np.array_equal(floatnet.forward(again, x), floatnet.forward(network, x))
    assert files.network_digest(again) == files.network_digest(network)
    other = FloatNetwork(network.nodes, "fc", network.metadata)
    assert files.network_digest(other) != files.network_digest(network)


def test_bytes_of_a_float_network():
    network = small_float(np.random.default_rng(1))
    sizes = stored_bytes(network)
    assert sizes["conv/1"]["weight"] == 4 * 4 * 9 and sizes["norm"]["gamma"] == 16
    assert sizes["some"]["places"] == 8  # one byte each


def preset_layers():
    whole = st.integers(1, 1 << 16)
    decays = st.one_of(
        st.just(Decay()),
        st.builds(Decay.by_shift, st.integers(0, 31), st.sampled_from(Rounding), st.booleans()),
        st.builds(Decay.by_multiply, st.integers(0, 4096), st.just(12), st.sampled_from(Rounding)),
        st.builds(Decay.by_subtract, st.integers(0, 99)),
        st.builds(Decay.by_shift, st.lists(st.integers(0, 31), min_size=3, max_size=3), st.sampled_from(Rounding)),
        st.builds(Decay.by_multiply, st.lists(st.integers(0, 4096), min_size=3, max_size=3), st.just([12, 13, 14])),
        st.builds(Decay.by_subtract, st.lists(st.integers(0, 1 << 20), min_size=3, max_size=3)),
    )
    threshold = st.one_of(whole, st.lists(whole, min_size=3, max_size=3))
    refractory = st.builds(
        Refractory, st.sampled_from(("none", "counter", "trace")), st.integers(0, 9), st.integers(-9, 9), decays
    )
    plain = st.builds(
        IF, threshold, reset=st.sampled_from(("subtract", "zero", "none")), compare=st.sampled_from((">", ">=")),
        bias=st.lists(st.integers(-(1 << 20), 1 << 20), min_size=3, max_size=3), refractory=refractory,
        v_overflow=st.sampled_from(Overflow), acc_format=st.one_of(st.none(), st.just(Fixed(40, -2))),
    )  # fmt: skip
    leaky = st.builds(LIF, threshold, decays, v_format=st.builds(Fixed, st.integers(20, 48)))
    current = st.builds(CubaLIF, threshold, decays, decays)
    signed = st.builds(SignedIF, threshold, st.one_of(st.none(), st.integers(1, 255)), st.integers(-9, 0))
    qffs = st.builds(QFFS, threshold, st.integers(1, 255))
    calcium = st.builds(CaLIF, threshold, st.integers(1, 255))
    chip = st.builds(loihi, st.integers(1, 1000), st.integers(0, 4095), st.integers(0, 4095), st.integers(-99, 99))
    return st.one_of(plain, leaky, current, signed, qffs, calcium, chip)


@st.composite
def networks(draw):
    """Conv or dense networks with joins, pools, every preset, names of every kind and shuffled nodes."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    fmt = draw(st.sampled_from([f for f in FORMATS if f is not LONG_TABLE and f.max < 1 << 20]))
    bias = draw(
        st.one_of(st.none(), st.integers(-99, 99), st.lists(st.integers(-(1 << 40), 99), min_size=3, max_size=3))
    )
    shared = {"weight_format": fmt, "bias": bias, "bias_mode": draw(st.sampled_from(BIAS_MODES))}
    shared |= {"multiplier": draw(st.integers(-300, 300)), "delay": draw(st.integers(0, 1))}
    chain = [Input((2, 6, 6), Fixed(8, signed=draw(st.booleans())), draw(st.integers(1, 9)), draw(st.integers(-9, 9)))]
    chain.append(Conv2d(codes_in(fmt, (3, 2, 3, 3), rng), padding=draw(st.integers(0, 2)), **shared))
    chain.append(draw(preset_layers()))
    pool = draw(st.sampled_from((None, SumPool2d, MaxPool2d, AvgPool2d, Scale)))
    if pool is Scale:
        chain.append(Scale(draw(st.one_of(st.integers(-9, 9), st.just([1, -2, 3000])))))
    elif pool:
        chain.append(pool(2, draw(st.integers(1, 3)), draw(st.integers(0, 1))))
    labels = list(NAMES[: draw(st.integers(0, len(NAMES)))]) + [f"layer{i}" for i in range(9)]
    nodes = dict(zip(labels, chain, strict=False))
    names = list(nodes)
    edges = list(zip(names[:-1], names[1:], strict=True))
    if draw(st.booleans()):  # both branches of the join from the same source
        nodes["join"] = Add()
        edges += [(names[-1], "join"), (names[-1], "join")]
        names.append("join")
    nodes["tail"] = Flatten()
    edges.append((names[-1], "tail"))
    if draw(st.booleans()):
        nodes["out"] = Readout(draw(st.sampled_from(READOUTS)))
        edges.append(("tail", "out"))
    order = draw(st.permutations(list(nodes)))
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )
    try:
        return Network(
            {name: nodes[name] for name in order},
            tuple(draw(st.permutations(edges))),
            draw(st.one_of(st.none(), st.integers(1, 1 << 20))),
            draw(st.one_of(st.none(), st.integers(1, 255))),
            draw(st.dictionaries(st.text(), json_values, max_size=3)),
        )
    except IntsnnError:  # a width that cannot be proven: no network, nothing to store
        return None


@settings(max_examples=80)
@given(networks())
def test_networks_round_trip(tmp_path_factory, network):
    if network is None:
        return
    path = tmp_path_factory.mktemp("net") / "n.h5"
    save(network, path)
    again = load(path, trust=True)
    assert same(again.nodes | {}, network.nodes | {})
    assert (again.edges, again.t_drive, again.levels) == (network.edges, network.t_drive, network.levels)
    assert again.metadata == network.metadata and again.order == network.order


def test_recurrent_network_and_child_reader(tmp_path):
    nodes = {
        "in": Input((3,)), "fc": Affine(np.eye(3, dtype=int)), "add": Add(), "if": IF(9),
        "back": Affine(np.ones((3, 3), int), delay=1), "out": Readout(),
    }  # fmt: skip
    edges = (("in", "fc"), ("fc", "add"), ("back", "add"), ("add", "if"), ("if", "back"), ("if", "out"))
    network = Network(nodes, edges)
    assert network.recurrent
    save(network, tmp_path / "r.h5", provenance={"source": "x.h5", "sha256": "0" * 64, "settings": {"bits": (4, 8)}})
    again = load(tmp_path / "r.h5")
    assert same(dict(again.nodes), dict(nodes)) and again.edges == edges and again.order == network.order
    info = read_info(tmp_path / "r.h5")
    assert info.provenance == {"source": "x.h5", "sha256": "0" * 64, "settings": {"bits": [4, 8]}}
    assert isinstance(info, FileInfo) and info.schema == 1 and info.version and len(info.sha256) == 64


def test_integers_are_narrow_and_bytes_exist(tmp_path):
    network = small_network(np.random.default_rng(0))
    save(network, tmp_path / "n.h5")
    sizes = stored_bytes(network)
    with h5py.File(tmp_path / "n.h5") as file:
        stored = {}
        file["nodes"].visititems(lambda path, thing: stored.update({path: thing}) if hasattr(thing, "dtype") else None)
        assert stored["conv%2F1/weight_packed"].nbytes == packed_size(54, 3) == sizes["conv/1"]["weight"]
        assert stored["fc/weight_packed"].nbytes == 14 == sizes["fc"]["weight"]
        assert stored["conv%2F1/bias"].dtype == np.int16 and stored["if/threshold"].dtype == np.uint8
        assert {path: item.nbytes for path, item in stored.items()} == {
            f"{name.replace('/', '%2F')}/{field}{'_packed' * (field == 'weight')}": size
            for name, found in sizes.items()
            for field, size in found.items()
            if field != "attributes"
        }


# ---------------------------------------------------------------------------------------------------------------------
# what cannot be saved
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata, part",
    [
        ({"a": np.zeros(3)}, "plain JSON"),
        ({"a": float("nan")}, "finite"),
        ({1: 2}, "keys"),
        ({"a": "x" * (1 << 20)}, "bytes as JSON"),
        ([1], "Mapping"),
    ],
)
def test_metadata_that_is_no_json(metadata, part, tmp_path):
    with pytest.raises(FormatError, match=part):
        save(Network.sequential(Input((2,)), Readout(), metadata=metadata), tmp_path / "n.h5")
    assert os.listdir(tmp_path) == []


def test_nested_too_deep(tmp_path):
    deep = []
    for _ in range(40):
        deep = [deep]
    with pytest.raises(FormatError, match="nested"):
        save(Network.sequential(Input((2,)), Readout()), tmp_path / "n.h5", provenance={"a": deep})


@pytest.mark.parametrize("name", ["", "x" * 256, "a\0b", "\ud800"])
def test_names_that_cannot_be_stored(name, tmp_path):
    with pytest.raises(FormatError, match="name"):
        save(Network.sequential((name, Input((2,))), Readout()), tmp_path / "n.h5")


def test_things_that_cannot_be_stored(tmp_path):
    path = tmp_path / "n.h5"
    graph = FloatNetwork((FloatInput(name="x", shape=(2,)), FloatReLU(name="r", inputs=("x",))), "r")
    with pytest.raises(UnsupportedError, match="'r': a FloatReLU cannot be stored.*quantise the network first"):
        save(QuantisedNetwork(graph), path)
    with pytest.raises(UnsupportedError, match="'conv/1': a QuantConv2d cannot be stored"):
        save(small_quantised(np.random.default_rng(0)).graph, path)
    with pytest.raises(FormatError, match="a tuple of 1 cannot be saved; a Network, QuantisedNetwork or FloatNetwork"):
        save((graph,), path)
    wide = FloatAffine(name="r", inputs=("x",), weight=np.ones((1, 2), np.longdouble))
    with pytest.raises(FormatError, match="layer 'r': weight: found .*; floats of at most 64 bits are stored"):
        save(FloatNetwork((graph.nodes[0], wide), "r"), path)
    with pytest.raises(ShapeError, match="more values than"):
        save(Network.sequential(Input((1 << 12, 1 << 7, 1 << 7)), Readout()), path)
    with pytest.raises(FormatError, match="input.scale"):
        save(QuantisedNetwork(FloatNetwork((graph.nodes[0],), "x"), InputScale(Fraction(1, 10**500))), path)
    many = {"in": Input((1,))} | {f"f{i}": Flatten() for i in range(3)}
    names = list(many)
    files_max, files.MAX_NODES = files.MAX_NODES, 3
    try:
        with pytest.raises(FormatError, match="4 layers"):
            save(Network(many, tuple(zip(names[:-1], names[1:], strict=True))), path)
    finally:
        files.MAX_NODES = files_max
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------------------------------------------------------
# what may not come in
# ---------------------------------------------------------------------------------------------------------------------


def by_hand(path, edit=None, make=small_quantised):
    """A quantised network (or what else is made) without digest, as another program would write it."""
    save(make(np.random.default_rng(5)), path)
    with h5py.File(path, "r+") as file:
        del file.attrs["digest"], file.attrs["intsnn"]
        if edit:
            edit(file)


def network_by_hand(path, edit=None):
    by_hand(path, edit, small_network)


def float_by_hand(path, edit=None):
    by_hand(path, edit, small_float)


def attribute(path, name, value):
    def edit(file):
        file[path].attrs[name] = value

    return edit


def dataset(path, value):
    def edit(file):
        if path in file:
            del file[path]
        file[path] = value

    return edit


def fill(path, value):
    def edit(file):
        file[path][...] = value

    return edit


def without(path, name=None):
    def edit(file):
        if name:
            del file[path].attrs[name]
        else:
            del file[path]

    return edit


CONV, FC = "nodes/conv%2F1", "nodes/fc"
ORDER = ["in", "conv/1", "relu", "same", "add", "relu2", "max", "mean", "turn", "flat", "both", "fc"]
WRONG_QUANTISED = {
    "no format": (without("/", "format"), "format"),
    "other format": (attribute("/", "format", "nir"), "format"),
    "no schema": (without("/", "schema"), "field"),
    "newer schema": (attribute("/", "schema", 2), "schema"),
    "older schema": (attribute("/", "schema", 0), "schema"),
    "schema as text": (attribute("/", "schema", "1"), "field"),
    "unknown kind": (attribute("/", "kind", "snn"), "kind"),
    "the other kind": (attribute("/", "kind", "network"), "field"),
    "no kind": (without("/", "kind"), "field"),
    "wrong digest": (attribute("/", "digest", "0" * 64), "digest"),
    "ours without digest": (attribute("/", "intsnn", "0.1.0"), "digest"),
    "unknown root field": (attribute("/", "colour", 3), "field"),
    "unknown node field": (attribute("nodes/relu", "threshold", 3), "field"),
    "unknown dataset": (dataset(f"{CONV}/mask", np.ones(3)), "field"),
    "dataset at the root": (dataset("stray", np.ones(3)), "field"),
    "dataset among nodes": (dataset("nodes/stray", np.ones(3)), "field"),
    "attribute of a dataset": (attribute(f"{CONV}/bias", "unit", "V"), "field"),
    "stray group": (lambda file: file.create_group("extra"), "order"),
    "stray node": (lambda file: file.create_group("nodes/extra"), "order"),
    "group in a node": (lambda file: file.create_group("nodes/relu/extra"), "order"),
    "no order": (without("nodes", "order"), "field"),
    "no nodes": (without("nodes"), "field"),
    "order of numbers": (attribute("nodes", "order", [1, 2]), "field"),
    "order names a node twice": (attribute("nodes", "order", [*ORDER, "fc"]), "order"),
    "order names nothing": (attribute("nodes", "order", [*ORDER, "ghost"]), "order"),
    "order without a node": (attribute("nodes", "order", ORDER[:-1]), "order"),
    "order reversed": (attribute("nodes", "order", ORDER[::-1]), "shape"),
    "order with an empty name": (attribute("nodes", "order", [*ORDER, ""]), "name"),
    "no output": (without("/", "output"), "field"),
    "output is no node": (attribute("/", "output", "ghost"), "shape"),
    "input is no node": (attribute("nodes/relu", "inputs", ["ghost"]), "shape"),
    "two inputs": (attribute("nodes/relu", "inputs", ["in", "conv/1"]), "shape"),
    "inputs are numbers": (attribute("nodes/relu", "inputs", [1, 2]), "field"),
    "no type": (without("nodes/relu", "type"), "field"),
    "unknown type": (attribute("nodes/relu", "type", "Lambda"), "enum"),
    "type of the other kind": (attribute("nodes/relu", "type", "Neuron"), "enum"),
    "no codes": (without(f"{CONV}/codes_packed"), "field"),
    "codes twice": (dataset(f"{CONV}/codes", np.ones((4, 1, 3, 3), np.int8)), "field"),
    "packed without shape": (without(f"{CONV}/codes_packed", "shape"), "shape"),
    "shape of another rank": (attribute(f"{CONV}/codes_packed", "shape", [4, 9]), "shape"),
    "shape too large": (attribute(f"{CONV}/codes_packed", "shape", [4, 1, 3, 4]), "size-mismatch"),
    "shape of a bomb": (attribute(f"{CONV}/codes_packed", "shape", [1 << 30, 1 << 30, 1 << 30, 3]), "budget"),
    "shape beyond 32 bits": (attribute(f"{CONV}/codes_packed", "shape", [1 << 40, 1, 3, 3]), "shape"),
    "negative shape": (attribute(f"{CONV}/codes_packed", "shape", [4, -1, 3, -3]), "shape"),
    "empty shape": (attribute(f"{CONV}/codes_packed", "shape", [0, 1, 3, 3]), "shape"),
    "shape as text": (attribute(f"{CONV}/codes_packed", "shape", "4"), "shape"),
    "packed too short": (dataset(f"{CONV}/codes_packed", np.zeros(3, np.uint8)), "shape"),
    "packed code out of a narrow range": (fill(f"{CONV}/codes_packed", 0x88), "range"),
    "wider format": (attribute(CONV, "weight_format", "fxp-s5/0"), "size-mismatch"),
    "format too wide to pack": (attribute(CONV, "weight_format", "fxp-s16/0"), "format"),
    "no such format": (attribute(CONV, "weight_format", "int8"), "format"),
    "format with a rounding": (attribute(CONV, "weight_format", "ap_fixed<4,4,AP_RND>"), "format"),
    "format as number": (attribute(CONV, "weight_format", 8), "format"),
    "input format of a weight": (attribute("/", "input_format", "bipolar"), "format"),
    "negative scale": (dataset(f"{CONV}/scale", -np.ones(4)), "field"),
    "scale of nan": (dataset(f"{CONV}/scale", np.full(4, np.nan)), "not-finite"),
    "scale of another size": (dataset(f"{CONV}/scale", np.ones(5)), "field"),
    "scale of integers": (dataset(f"{CONV}/scale", np.ones(4, int)), "field"),
    "scale with two axes": (dataset(f"{CONV}/scale", np.ones((4, 1))), "field"),
    "bias of another size": (dataset(f"{CONV}/bias", np.ones(5)), "shape"),
    "bias of integers": (dataset(f"{CONV}/bias", np.ones(4, int)), "field"),
    "stride of zero": (attribute(CONV, "stride", [0, 1]), "shape"),
    "stride of three": (attribute(CONV, "stride", [1, 1, 1]), "field"),
    "stride negative": (attribute(CONV, "stride", [-1, 1]), "range"),
    "stride of floats": (attribute(CONV, "stride", [1.0, 1.0]), "field"),
    "padding of a bomb": (attribute(CONV, "padding", [(1 << 31) - 1] * 2), "shape"),
    "padding beyond": (attribute(CONV, "padding", 1 << 40), "range"),
    "padding of three": (attribute(CONV, "padding", [1, 2, 3]), "field"),
    "groups of zero": (attribute(CONV, "groups", 0), "shape"),
    "groups as text": (attribute(CONV, "groups", "2"), "field"),
    "no step": (without("nodes/relu", "step"), "field"),
    "step of zero": (attribute("nodes/relu", "step", 0.0), "field"),
    "step of infinity": (attribute("nodes/relu", "step", np.inf), "not-finite"),
    "step as text": (attribute("nodes/relu", "step", "0.1"), "field"),
    "no levels": (attribute("nodes/relu", "levels", 0), "field"),
    "levels as float": (attribute("nodes/relu", "levels", 15.0), "field"),
    "pool kernel of zero": (attribute("nodes/max", "kernel", [0, 0]), "shape"),
    "truth value of two": (attribute("nodes/mean", "count_include_pad", 2), "field"),
    "input shape of a bomb": (attribute("nodes/in", "shape", [2, 1 << 30, 1 << 30]), "shape"),
    "input shape of zero": (attribute("nodes/in", "shape", [2, 0, 6]), "shape"),
    "input scale of zero": (attribute("/", "input_scale", "0"), "field"),
    "input scale with an exponent": (attribute("/", "input_scale", "1e999999999"), "field"),
    "input scale that divides by zero": (attribute("/", "input_scale", "1/0"), "field"),
    "input scale of three": (attribute("/", "input_scale", "1,2,3"), "field"),
    "place beyond the input": (fill("nodes/turn/places", 8), "shape"),
    "concatenation of one": (attribute("nodes/both", "inputs", ["turn"]), "shape"),
    "float node among codes": (attribute("nodes/relu", "type", "ReLU"), "enum"),
    "metadata is no json": (attribute("/", "metadata", "{"), "json"),
    "metadata is a list": (attribute("/", "metadata", "[]"), "json"),
    "metadata of nan": (attribute("/", "metadata", '{"a": NaN}'), "json"),
    "metadata of infinity": (attribute("/", "metadata", '{"a": 1e999}'), "json"),
    "metadata of brackets": (attribute("/", "metadata", "[" * 100000), "json"),
    "provenance too deep": (attribute("/", "provenance", '{"a":' * 40 + "1" + "}" * 40), "json"),
    "soft link": (lambda file: file.__setitem__("nodes/extra", h5py.SoftLink("/nodes/relu")), "soft-link"),
    "external link": (lambda file: file.__setitem__("nodes/extra", h5py.ExternalLink("x.h5", "/")), "external-link"),
}  # fmt: skip
WRONG_FLOAT = {
    "the other kind": (attribute("/", "kind", "quantised-ann"), "enum"),
    "input scale of the other kind": (attribute("/", "input_scale", "1/255"), "field"),
    "input format of the other kind": (attribute("/", "input_format", "fxp-u8/0"), "field"),
    "ours without digest": (attribute("/", "intsnn", "0.1.0"), "digest"),
    "unknown node field": (attribute("nodes/relu", "levels", 3), "field"),
    "type of the other kind": (attribute("nodes/relu", "type", "QuantReLU"), "enum"),
    "class name as type": (attribute("nodes/relu", "type", "FloatReLU"), "enum"),
    "output is no node": (attribute("/", "output", "ghost"), "shape"),
    "order reversed": (attribute("nodes", "order", ["softmax", "in"]), "order"),
    "no weight": (without(f"{CONV}/weight"), "field"),
    "weight of integers": (dataset(f"{CONV}/weight", np.ones((4, 1, 3, 3), int)), "field"),
    "weight as one number": (
        lambda file: (without(f"{CONV}/weight")(file), attribute(CONV, "weight", 1.0)(file)), "field",
    ),
    "weight twice": (attribute(CONV, "weight", 1.0), "field"),
    "weight of another rank": (dataset(f"{CONV}/weight", np.ones((4, 9))), "shape"),
    "weight without elements": (dataset(f"{CONV}/weight", np.ones((4, 0, 3, 3))), "shape"),
    "weight of other channels": (dataset(f"{CONV}/weight", np.ones((4, 3, 3, 3))), "shape"),
    "weight of nan": (dataset(f"{CONV}/weight", np.full((4, 1, 3, 3), np.nan)), "not-finite"),
    "packed weight": (dataset(f"{CONV}/weight_packed", np.zeros(3, np.uint8)), "field"),
    "transposed weight": (lambda file: dataset(f"{FC}/weight", file[f"{FC}/weight"][()].T)(file), "shape"),
    "bias of another size": (dataset(f"{CONV}/bias", np.ones(5)), "shape"),
    "gamma of another size": (dataset("nodes/norm/gamma", np.ones(3)), "shape"),
    "gamma of integers": (dataset("nodes/norm/gamma", np.ones(4, int)), "field"),
    "gamma with two axes": (dataset("nodes/norm/gamma", np.ones((4, 1))), "field"),
    "no gamma": (without("nodes/norm/gamma"), "field"),
    "no gamma by name": (
        lambda file: (without("nodes/norm/gamma")(file), attribute("nodes/norm", "gamma", "none")(file)), "field",
    ),
    "negative variance": (dataset("nodes/norm/variance", -np.ones(4)), "field"),
    "negative epsilon": (attribute("nodes/norm", "epsilon", -1.0), "field"),
    "epsilon as text": (attribute("nodes/norm", "epsilon", "1e-5"), "field"),
    "no epsilon": (without("nodes/norm", "epsilon"), "field"),
    "limit of zero": (attribute("nodes/relu", "max_value", 0.0), "field"),
    "limit of infinity": (attribute("nodes/tanh", "limit", np.inf), "not-finite"),
    "limit below zero": (attribute("nodes/tanh", "limit", -1.0), "field"),
    "slope above one": (attribute("nodes/leaky", "slope", 1.5), "field"),
    "slope as a list": (attribute("nodes/leaky", "slope", [0.1, 0.2]), "field"),
    "factor of zero": (attribute("nodes/up", "factor", 0), "shape"),
    "factor of a bomb": (attribute("nodes/up", "factor", [1 << 20, 1 << 20]), "shape"),
    "unknown mode": (attribute("nodes/up", "mode", "cubic"), "field"),
    "places of floats": (dataset("nodes/some/places", np.zeros((4, 1, 2))), "field"),
    "places as a number": (
        lambda file: (without("nodes/some/places")(file), attribute("nodes/some", "places", 1)(file)), "field",
    ),
    "places with two axes": (dataset("nodes/some/places", np.zeros((4, 2), int)), "shape"),
    "no places at all": (dataset("nodes/some/places", np.zeros(0, int)), "shape"),
    "place before the input": (dataset("nodes/some/places", np.full((4, 1, 2), -2)), "shape"),
    "place beyond the input": (dataset("nodes/some/places", np.full((4, 1, 2), 1 << 40)), "shape"),
    "place beyond 64 bits": (dataset("nodes/some/places", np.full((4, 1, 2), 1 << 63, np.uint64)), "field"),
    "input of a bomb": (attribute("nodes/in", "shape", [2, 1 << 30, 1 << 30]), "shape"),
    "padding of a bomb": (attribute(CONV, "padding", 1 << 20), "shape"),
    "branches of two shapes": (attribute("nodes/add", "inputs", ["in", "relu"]), "shape"),
    "concatenation of two ranks": (attribute("nodes/both", "inputs", ["up", "flat"]), "shape"),
    "metadata of brackets": (attribute("/", "metadata", "[" * 100000), "json"),
    "external link": (lambda file: file.__setitem__("nodes/extra", h5py.ExternalLink("x.h5", "/")), "external-link"),
}  # fmt: skip
NEURON = "nodes/if"
WRONG_NETWORK = {
    "no edges": (without("edges"), "edges"),
    "edges of floats": (dataset("edges", np.zeros((2, 2))), "edges"),
    "edges of three": (dataset("edges", np.zeros((2, 3), int)), "edges"),
    "edge to nowhere": (dataset("edges", np.array([[0, 9]])), "edges"),
    "edge from before": (dataset("edges", np.array([[-1, 1]])), "edges"),
    "edges that leave a node out": (dataset("edges", np.array([[0, 1]])), "shape"),
    "edges in a loop": (dataset("edges", np.array([[0, 1], [1, 2], [2, 1], [3, 4], [4, 5]])), "shape"),
    "attribute of edges": (lambda file: file["edges"].attrs.create("shape", [5, 2]), "field"),
    "no threshold": (without("nodes/if/threshold"), "field"),
    "threshold of zero": (dataset("nodes/if/threshold", np.zeros(3, int)), "range"),
    "threshold of another size": (dataset("nodes/if/threshold", np.array([1, 2])), "field"),
    "threshold twice": (attribute(NEURON, "threshold", 3), "field"),
    "threshold with two axes": (dataset("nodes/if/threshold", np.ones((3, 1), int)), "field"),
    "threshold beyond 64 bits": (dataset("nodes/if/threshold", np.full(3, 1 << 63, np.uint64)), "field"),
    "number beyond 64 bits": (attribute(NEURON, "max_count", np.uint64(1 << 63)), "field"),
    "unknown compare": (attribute(NEURON, "compare", "=="), "field"),
    "unknown reset": (attribute(NEURON, "reset", "half"), "field"),
    "unknown overflow": (attribute(NEURON, "v_overflow", "CLIP"), "enum"),
    "overflow as number": (attribute(NEURON, "v_overflow", 0), "field"),
    "unknown decay": (attribute(NEURON, "v_decay.kind", "cosine"), "field"),
    "unknown part of a decay": (attribute(NEURON, "v_decay.tau", 3), "field"),
    "decay as a value": (attribute(NEURON, "v_decay", "shift"), "field"),
    "shift too large": (attribute(NEURON, "refractory.decay.shift", 99), "field"),
    "rounding of a decay": (attribute(NEURON, "refractory.decay.rounding", "NEAREST"), "enum"),
    "range the wrong way round": (attribute(NEURON, "u_range", [3, -3]), "range"),
    "range of three": (attribute(NEURON, "u_range", [1, 2, 3]), "field"),
    "state too wide": (attribute(NEURON, "v_format", "fxp-s64/0"), "field"),
    "state of one bit": (attribute(NEURON, "v_format", "fxp-s2/0"), "range"),
    "unused bits are set": (fill("nodes/fc/weight_packed", 255), "range"),
    "other weights": (fill("nodes/fc/weight_packed", 15), None),
    "labels of another number": (attribute("nodes/out", "labels", ["a", "b"]), "shape"),
    "t_drive of zero": (attribute("/", "t_drive", 0), "field"),
    "levels as text": (attribute("/", "levels", "many"), "field"),
    "levels beyond the limit": (attribute("/", "levels", 1 << 21), "field"),
    "input of a bomb": (attribute("nodes/input", "shape", [2, 1 << 20, 1 << 20]), "shape"),
    "padding of a bomb": (attribute("nodes/conv%2F1", "padding", 1 << 30), "shape"),
    "bias mode": (attribute("nodes/conv%2F1", "bias_mode", "often"), "field"),
    "delay of two": (attribute("nodes/conv%2F1", "delay", 2), "field"),
    "multiplier of floats": (dataset("nodes/conv%2F1/multiplier", np.ones(3)), "field"),
}  # fmt: skip


def refused(path, code):
    with bytes_taken() as taken, pytest.raises(ImportRefused) as caught:
        load(path, trust=True)
    message = str(caught.value)
    assert caught.value.code == code, message
    assert os.fspath(path) in message and "\n" not in message and len(message) < 1000
    assert taken.most < 16 << 20


@pytest.mark.parametrize("case", WRONG_QUANTISED)
def test_wrong_quantised_files(case, tmp_path):
    edit, code = WRONG_QUANTISED[case]
    by_hand(tmp_path / "q.h5", edit)
    refused(tmp_path / "q.h5", code)


@pytest.mark.parametrize("case", WRONG_FLOAT)
def test_wrong_float_files(case, tmp_path):
    edit, code = WRONG_FLOAT[case]
    float_by_hand(tmp_path / "f.h5", edit)
    refused(tmp_path / "f.h5", code)


@pytest.mark.parametrize("case", WRONG_NETWORK)
def test_wrong_networks(case, tmp_path):
    edit, code = WRONG_NETWORK[case]
    network_by_hand(tmp_path / "n.h5", edit)
    if code is None:  # another network, but a good one
        assert not same(load(tmp_path / "n.h5", trust=True), small_network(np.random.default_rng(5)))
    else:
        refused(tmp_path / "n.h5", code)


def test_files_without_edits_are_taken(tmp_path):
    by_hand(tmp_path / "q.h5")
    assert same(load(tmp_path / "q.h5", trust=True), small_quantised(np.random.default_rng(5)))
    float_by_hand(tmp_path / "f.h5")
    assert same(load(tmp_path / "f.h5", trust=True), small_float(np.random.default_rng(5)))
    network_by_hand(tmp_path / "n.h5")
    assert same(dict(load(tmp_path / "n.h5", trust=True).nodes), dict(small_network(np.random.default_rng(5)).nodes))


def test_edits_of_our_files_are_noticed(tmp_path):
    """Every array element and attribute counts for the digest."""
    save(small_network(np.random.default_rng(0)), tmp_path / "n.h5")
    for edit in (
        attribute("/", "levels", 7),
        attribute("nodes/if", "preset", "LIF"),
        lambda file: file["nodes/conv%2F1/bias"].write_direct(np.array([1, -2, 301], np.int16)),
        dataset("nodes/conv%2F1/bias", np.array([1, -2, 300], np.int32)),
    ):
        copy = tmp_path / "copy.h5"
        copy.write_bytes((tmp_path / "n.h5").read_bytes())
        with h5py.File(copy, "r+") as file:
            edit(file)
        refused(copy, "digest")


def test_newer_schema_says_what_is_read(tmp_path):
    by_hand(tmp_path / "q.h5", attribute("/", "schema", 7))
    with pytest.raises(ImportRefused, match=r"has schema 7; this intsnn \(.*\) reads schema 1; upgrade intsnn"):
        load(tmp_path / "q.h5", trust=True)


def test_unknown_field_is_named_with_file_and_object(tmp_path):
    by_hand(tmp_path / "q.h5", attribute("nodes/relu", "threshold", 3))
    with pytest.raises(
        ImportRefused, match=r"q\.h5 at 'nodes/relu': 'threshold' is unknown here; known are .*step"
    ) as caught:
        load(tmp_path / "q.h5")
    assert caught.value.where == "nodes/relu"


def test_no_file_and_other_files(tmp_path):
    with pytest.raises(DataNotFoundError):
        load(tmp_path / "none.h5")
    with h5py.File(tmp_path / "keras.h5", "w") as file:
        file.attrs["model_config"] = "{}"
    refused(tmp_path / "keras.h5", "format")
    assert not files.is_ours(files.read_tree(tmp_path / "keras.h5", trust=True))


def test_budget_counts_the_unpacked_weights(tmp_path):
    network = Network.sequential(Input((1000,)), Affine(np.ones((1000, 1000), int), weight_format=Bipolar()), Readout())
    save(network, tmp_path / "n.h5")
    with pytest.raises(ImportRefused) as caught:
        load(tmp_path / "n.h5", trust=True, budget=7 << 20)  # 125 kB packed, 8 MB as integers of 64 bits
    assert caught.value.code == "budget"
    assert load(tmp_path / "n.h5", trust=True, budget=9 << 20).shapes == network.shapes


@pytest.mark.parametrize("made", [small_network, small_quantised, small_float])
def test_sizes_are_checked_before_a_network_is_made(made, tmp_path, monkeypatch):
    """Few bytes can ask for a layer of any size; nothing of that size may be made to find it out."""
    network = made(np.random.default_rng(0))
    save(network, tmp_path / "n.h5")
    shapes = getattr(network, "graph", network).shapes
    most = max(int(np.prod(shape)) for shape in shapes.values())
    monkeypatch.setattr(files, "MAX_VALUES", most)
    assert same(load(tmp_path / "n.h5", trust=True), network)
    monkeypatch.setattr(files, "MAX_VALUES", most - 1)
    monkeypatch.setattr(files, "Network", None)
    monkeypatch.setattr(files, "QuantisedNetwork", type("Never", (), {"input_format": Fixed(8)}))
    with pytest.raises(ImportRefused, match=f"at most {most - 1} are read"):
        load(tmp_path / "n.h5", trust=True)


def test_what_hands_may_write(tmp_path):
    """Plain codes, one number for a pair, one input as text, absent fields, other notations, single precision."""

    def edit(file):
        codes = small_quantised(np.random.default_rng(5)).graph["conv/1"].codes
        del file[f"{CONV}/codes_packed"], file[CONV].attrs["source"], file[CONV].attrs["dilation"]
        file[f"{CONV}/codes"] = codes.astype(">i2")
        file[CONV].attrs["weight_format"] = "ap_fixed<4,4> narrow"
        file[CONV].attrs["stride"] = 1
        file[CONV].attrs["padding"] = [0, 2]
        file[CONV].attrs["inputs"] = "in"
        file[CONV].attrs["bias"] = "none"
        del file[f"{CONV}/bias"], file[f"{CONV}/scale"]
        file[CONV].attrs["scale"] = np.float32(0.3)
        del file.attrs["input_scale"], file.attrs["input_format"], file.attrs["metadata"], file.attrs["provenance"]
        file["nodes/max"].attrs["kernel"] = np.uint8(3)
        file["nodes/mean"].attrs["count_include_pad"] = True
        file["nodes/in"].attrs["inputs"] = []
        del file[f"{FC}/codes_packed"]
        file[f"{FC}/codes"] = np.ones((3, 20), np.int8)

    by_hand(tmp_path / "q.h5", edit)
    network = load(tmp_path / "q.h5", trust=True)
    node = network.graph["conv/1"]
    assert np.array_equal(node.codes, small_quantised(np.random.default_rng(5)).graph["conv/1"].codes)
    assert (node.stride, node.padding, node.dilation, node.bias) == ((1, 1), ((0, 0), (2, 2)), (1, 1), None)
    assert node.weight_format == Fixed(4, narrow=True) and set(node.scale) == {float(np.float32(0.3))}
    assert (network.input_scale, network.input_format) == (InputScale(), Fixed(8, signed=False))
    assert network.graph["max"].kernel == (3, 3) and network.graph["mean"].count_include_pad


def test_what_hands_may_write_of_floats(tmp_path):
    """One type of number beside another, absent fields, one number for a pair, other byte order, wide places."""

    def edit(file):
        dataset(f"{CONV}/weight", small_float(np.random.default_rng(5))["conv/1"].weight.astype(">f8"))(file)
        file[CONV].attrs["inputs"] = "in"
        del file[f"{CONV}/bias"], file["nodes/hard"].attrs["limit"], file["nodes/leaky"].attrs["slope"]
        del file["nodes/relu"].attrs["max_value"], file.attrs["metadata"], file.attrs["provenance"]
        file["nodes/norm"].attrs["epsilon"] = 1
        file["nodes/max"].attrs["kernel"] = np.uint8(2)
        dataset("nodes/some/places", np.arange(8, dtype=np.uint64).reshape(4, 1, 2))(file)

    float_by_hand(tmp_path / "f.h5", edit)
    network = load(tmp_path / "f.h5", trust=True)
    assert np.array_equal(network["conv/1"].weight, small_float(np.random.default_rng(5))["conv/1"].weight)
    assert network["conv/1"].weight.dtype == np.float64 and network["conv/1"].bias is None
    assert (network["hard"].limit, network["leaky"].slope, network["relu"].max_value) == (1.0, 0.01, None)
    assert network["norm"].epsilon == 1.0 and network["some"].places.max() == 7 and network.metadata == {}


def test_the_script_in_the_documentation(repository, tmp_path):
    """The very text of the page, run with h5py and numpy alone, gives a file that converts without calibration."""
    page = (repository / "docs" / "files.md").read_text("utf-8")
    (script,) = re.findall(r"<!-- test: written with h5py alone -->\n```python\n(.*?)^```", page, re.M | re.S)
    script += "\nimport sys\nassert not [name for name in sys.modules if name.startswith('intsnn')]\n"
    subprocess.run([sys.executable, "-I", "-c", script], cwd=tmp_path, check=True, timeout=HANGING)
    network = load(tmp_path / "quantised.h5")
    assert isinstance(network, QuantisedNetwork) and network.levels == 15
    assert read_info(tmp_path / "quantised.h5").version == ""

    from intsnn.conversion.spikes import convert

    found = convert(network)
    weight, codes = found.network.nodes["conv"].weight, network.graph["conv"].codes
    live = weight.any(axis=(1, 2, 3))  # of the others no charge that the input can give moves a level
    assert np.array_equal(weight[live], codes[live]) and 2 * live.sum() > live.size
    assert found.dead == {"conv": int((~live).sum())}
    save(network, tmp_path / "again.h5")
    assert same(load(tmp_path / "again.h5", trust=True), network)


def test_the_script_for_floats_in_the_documentation(repository, tmp_path):
    page = (repository / "docs" / "files.md").read_text("utf-8")
    (script,) = re.findall(r"<!-- test: floats written with h5py alone -->\n```python\n(.*?)^```", page, re.M | re.S)
    script = f"import h5py\nimport numpy as np\n\nrng = np.random.default_rng(0)\n{script}"
    subprocess.run([sys.executable, "-I", "-c", script], cwd=tmp_path, check=True, timeout=HANGING)
    network = load(tmp_path / "floats.h5")
    assert isinstance(network, FloatNetwork) and network.shapes["norm"] == (6, 3, 3)
    save(network, tmp_path / "again.h5")
    assert same(load(tmp_path / "again.h5", trust=True), network)


def test_types_in_the_documentation(repository):
    """Every type and every field of a quantised and of a float network is on the page."""
    page = (repository / "docs" / "files.md").read_text("utf-8")
    for kind, cls in (*layout.QUANTISED.items(), *layout.FLOAT_NODES.items()):
        assert f"`{kind}`" in page
        for field in layout.stored_fields(cls):
            assert f"`{field}`" in page, field
    for name in ("t_drive", "levels", "edges", "order", "digest", "provenance", "metadata"):
        assert f"`{name}`" in page


@pytest.mark.parametrize(
    "text", ["1/255", "0.0039", "-1/3", "2/255,-1", "1e9", "1/0", "", ",", "1,", " 1", "x", "9" * 401]
)
def test_scales(text):
    record = Record("f", "", {"input_scale": text})
    if text in ("1/255", "0.0039", "2/255,-1"):
        scale = SCALE.get(record, "input_scale")
        assert scale == InputScale.parse(text)
        out = Record()
        SCALE.put(out, "input_scale", scale)
        assert SCALE.get(out, "input_scale") == scale
    else:
        with pytest.raises(ImportRefused):
            SCALE.get(record, "input_scale")


# ---------------------------------------------------------------------------------------------------------------------
# damage
# ---------------------------------------------------------------------------------------------------------------------


def damaged(data, number):
    """The `number`-th damaged copy: a byte changed, or (every fifth) the end cut off."""
    rng = random.Random(number)
    if number % 5 == 0:
        return data[: rng.randrange(len(data))]
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :]


def verdict(path, whole, trust):
    try:
        found = load(path, trust=trust)
    except (ImportRefused, DataNotFoundError) as error:
        return getattr(error, "code", "missing")
    return "same" if same(found, whole) else "DIFFERENT"


def judge(source, first, last):
    """In a process of its own, as the library may crash in it: one line for each damaged copy."""
    whole, data = load(source, trust=True), Path(source).read_bytes()
    copy = Path(source).with_name("damaged.h5")
    for number in range(first, last):
        copy.write_bytes(damaged(data, number))
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, 10)  # of processor time: ends a library that hangs, on any machine
        print(number, verdict(copy, whole, True), flush=True)


@pytest.mark.parametrize("make", [small_network, small_quantised, small_float], ids=["network", "quantised", "float"])
def test_damage_is_noticed(make, tmp_path):
    """A changed byte or a missing end is refused, or changes nothing that counts."""
    network, path, count = make(np.random.default_rng(0)), tmp_path / "whole.h5", 120
    save(network, path)
    verdicts, start = {}, 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    while start < count:
        command = [sys.executable, __file__, str(path), str(start), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=HANGING)
        for line in done.stdout.splitlines():
            number, _, found = line.partition(" ")
            verdicts[int(number)] = found
        if done.returncode == 0:
            break
        assert done.returncode < 0, done.stderr  # the library crashed or hung: go on behind it
        start = max(verdicts, default=start - 1) + 2
    judged = set(verdicts.values())
    assert "DIFFERENT" not in judged
    assert {"same", "truncated", "digest"} <= judged
    assert all(found != "same" for number, found in verdicts.items() if number % 5 == 0)
    # those that crashed the library, and some others, through the child process
    data, copy = path.read_bytes(), tmp_path / "copy.h5"
    crashed = [number for number in range(count) if number not in verdicts]
    for number in crashed[:5] + list(range(3)):
        copy.write_bytes(damaged(data, number))
        assert verdict(copy, load(path, trust=True), False) != "DIFFERENT"


# ---------------------------------------------------------------------------------------------------------------------
# all or nothing
# ---------------------------------------------------------------------------------------------------------------------

DIE = """
import os, sys
import numpy as np
from intsnn.files import network_file as files
from intsnn.files.hdf5 import write as hdf5
from intsnn.layers import Affine, Input, Readout
from intsnn.network.spiking import Network
from intsnn.formats.fixed import Fixed

def network(value):
    return Network.sequential(Input((300,)), Affine(np.full((200, 300), value), weight_format=Fixed(12)), Readout())

mode, path = sys.argv[1:]
if mode == "rename":
    os.replace = lambda *a: os._exit(9)
elif mode == "sync":
    os.fsync = lambda *a: os._exit(9)
elif mode == "data":
    hdf5.write_attributes = lambda *a: os._exit(9)
elif mode == "loop":
    print("ready", flush=True)
    while True:
        for value in (1, 2):
            files.save(network(value), path)
files.save(network(2), path)
"""


def constant(value):
    return Network.sequential(Input((300,)), Affine(np.full((200, 300), value), weight_format=Fixed(12)), Readout())


def weights_of(path):
    return set(np.unique(load(path, trust=True).nodes["affine_1"].weight).tolist())


def start(mode, path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    command = [sys.executable, "-c", DIE, mode, os.fspath(path)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("mode", ["rename", "sync", "data"])
def test_a_run_that_dies_while_writing_leaves_the_old_file(mode, tmp_path):
    path = tmp_path / "n.h5"
    save(constant(1), path)
    before = path.read_bytes()
    with start(mode, path) as process:
        assert ended(process) == 9
    assert path.read_bytes() == before and weights_of(path) == {1}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_run_that_is_killed_at_any_time_leaves_a_whole_file(tmp_path):
    path = tmp_path / "n.h5"
    save(constant(1), path)
    for delay in (0.0, 0.003, 0.011, 0.042, 0.1):
        with start("loop", path) as process:
            try:
                until_line(process, "ready")
                time.sleep(delay)  # any moment will do
            finally:
                process.kill()
            assert ended(process) == -signal.SIGKILL
        assert weights_of(path) in ({1}, {2})


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "n.h5"
    save(constant(1), path)

    def fail(*arguments):
        raise OSError("no space left on device")

    monkeypatch.setattr("intsnn.files.hdf5.write.write_attributes", fail)
    with pytest.raises(OSError, match="no space"):
        save(constant(2), path)
    assert weights_of(path) == {1} and os.listdir(tmp_path) == ["n.h5"]


def test_info_is_plain(tmp_path):
    save(small_network(np.random.default_rng(0)), tmp_path / "n.h5", provenance={"method": "qffs"})
    assert json.dumps(dataclasses.asdict(read_info(tmp_path / "n.h5", trust=True)))


if __name__ == "__main__":
    judge(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
