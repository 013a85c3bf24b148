"""Memory by formula and measured: published totals to the bit, dense packing, and rows that add up."""

import json
import os
from dataclasses import replace

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import cases

from intsnn import IF, Affine, CubaLIF, Decay, Fixed, Flatten, Input, MaxPool2d, Network, Readout, Refractory, simulate
from intsnn.analysis.memory.formulas import (
    BASE_WIDTHS,
    CONVENTIONS,
    KINDS,
    Architecture,
    Sizes,
    count,
    float_share,
    resolve_widths,
    saving_ratio,
)
from intsnn.analysis.memory.measured import allocate, runner_bytes
from intsnn.analysis.memory.process import peak_memory
from intsnn.analysis.memory.report import accumulators, allocated, cell, formula, memory
from intsnn.cli.main import main
from intsnn.conversion.pipeline import convert_float
from intsnn.datasets import catalogue as datasets
from intsnn.engine.backends.stepwise.plan import Plan, Worker
from intsnn.engine.inputs import Source
from intsnn.engine.program import lower
from intsnn.errors import DataNotFoundError, FormatError, IntsnnError, UnsupportedError
from intsnn.files.network_file import save
from intsnn.formats.packing import unpack
from intsnn.formats.weights import Bipolar, Levels, apot
from intsnn.layers import Conv2d
from intsnn.layers.schedule import Schedule
from intsnn.models import digits
from intsnn.models.keras import load as keras
from intsnn.models.published import ARCHITECTURES, architecture

DECOLLE = architecture("decolle-dvsgesture")
VGG = architecture("vgg11-binary")

# ---------------------------------------------------------------------------------------------------------------------
# published figures
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convention, bits, bits_fp32, saving",
    [
        ("schaefer-joshi", 26_462_796, 100_928_576, "73.781"),
        ("schaefer-joshi-corrected", 28_354_956, 111_296_576, "74.523"),
        ("schaefer-joshi-prepool", 29_131_788, 116_623_424, "75.021"),
    ],
)
def test_totals_of_schaefer_and_joshi(convention, bits, bits_fp32, saving):
    report = formula(DECOLLE, convention=convention)
    assert (report.bits, report.bits_fp32, f"{report.saving:.3f}") == (bits, bits_fp32, saving)


def test_sums_of_the_published_layers_and_quantities():
    report = formula(DECOLLE)
    assert report.convention == "schaefer-joshi"
    assert {name: (total["bits"], total["bits_fp32"]) for name, total in report.totals("layer").items()} == {
        "layer1": (368_324, 1_685_184),
        "layer2": (10_700_548, 43_918_016),
        "layer3": (15_393_924, 55_325_376),
    }
    assert {name: total["bits"] for name, total in report.totals("name").items()} == {
        "W": 9_683_968, "G": 12_104_960, "P": 456_960, "Q": 380_800, "R": 52_544, "U": 157_632, "S": 3_467_904,
        "A": 198, "E": 157_830,
    }  # fmt: skip


def test_sizes_of_the_architecture():
    assert [(s.weights, s.inputs, s.outputs, s.neurons) for s in DECOLLE.layers] == [
        (6272, 2048, 14_400, 57_600),
        (401_408, 14_400, 21_632, 21_632),
        (802_816, 21_632, 3200, 15_488),
    ]
    assert [s.published_outputs for s in DECOLLE.layers] == [1440, None, None]


def test_binary_weights_of_the_check_network():
    report = formula(VGG)
    assert report.convention == "binary-weight"
    assert report.bits_fp32 // 8 == 36_891_392 and report.bits // 8 == 1_179_392
    assert report.bits_fp32 % 8 == report.bits % 8 == 0
    assert f"{report.ratio:.2f}" == "31.28"
    kept = sum(item.count for item in report.items if item.width == 32)
    assert kept == 6848 and sum(item.count for item in report.items) == 9_222_848
    assert saving_ratio(kept / 9_222_848) == pytest.approx(report.ratio, rel=1e-12)


@pytest.mark.parametrize("ratio, share", [(30.5, "0.159"), (31.0, "0.104"), (31.5, "0.051")])
def test_share_of_parameters_in_floating_point(ratio, share):
    assert f"{100 * float_share(ratio):.3f}" == share
    assert saving_ratio(float_share(ratio)) == pytest.approx(ratio, rel=1e-12)


def test_measured_arrays_of_the_architecture_are_as_large_as_they_are():
    """Bytes of every array from the shapes in the text, not from the formula; a misprint makes no array smaller."""
    report = allocated(DECOLLE)
    expected = 0
    for weights, biases, inputs, neurons, outputs, events in (
        (6272, 64, 2048, 64 * 30 * 30, 64 * 15 * 15, 2048),
        (401_408, 128, 14_400, 128 * 13 * 13, 128 * 13 * 13, 0),
        (802_816, 128, 21_632, 128 * 11 * 11, 128 * 5 * 5, 0),
    ):
        for numbers, bits in (
            (weights, 8), (biases, 8), (weights, 10), (biases, 10), (inputs, 12), (inputs, 10), (neurons, 2),
            (neurons, 6), (2 * 11 * outputs, 6), (11, 6), (11 + neurons, 6), (outputs, 6), (outputs, 1), (events, 1),
        ):  # fmt: skip
            expected += -(-numbers * bits // 8)
    assert report.measured_bytes == expected
    assert report.bits == 26_462_796  # the formula is that of the print
    printed = [i for i in report.items if (i.layer, i.name) == ("layer1", "U")][0]
    assert (printed.count, printed.measured_count, printed.measured_bytes) == (1440, 57_600, 43_200)
    assert [i.measured_count for i in report.items if (i.layer, i.name) == ("layer2", "U")] == [None]
    full = allocated(DECOLLE, convention="declared")
    assert full.measured_bytes == expected and 0 <= 8 * expected - full.bits < 8 * len(full.items)
    assert allocated(VGG).measured_bytes == 1_179_392


def test_allocated_arrays_hold_random_codes():
    items = count(DECOLLE.layers[:1], resolve_widths({"P": 11}, DECOLLE.widths), "declared")
    arrays = allocate(items, seed=1)
    codes = unpack(arrays["layer1", "traces", "P"], Fixed(11, signed=False), 2048)
    assert codes.min() < 64 and codes.max() > 1983  # all of the range is used, and no more fits 11 bits
    again = allocate(items, seed=1)
    assert all(np.array_equal(arrays[key], again[key]) for key in arrays)
    floats = allocate(count(VGG.layers[:1], resolve_widths(None, VGG.widths), "binary-weight"))
    (only,) = floats.values()
    assert only.dtype == np.float32 and only.size == 1728


# ---------------------------------------------------------------------------------------------------------------------
# any architecture
# ---------------------------------------------------------------------------------------------------------------------

NUMBERS = st.integers(0, 5000)
WIDTHS = st.dictionaries(st.sampled_from(tuple(BASE_WIDTHS)), st.integers(0, 32))


@st.composite
def architectures(draw):
    layers = tuple(
        Sizes(
            f"layer{i}", weights=draw(NUMBERS), inputs=draw(NUMBERS), neurons=draw(NUMBERS), outputs=draw(NUMBERS),
            biases=draw(NUMBERS), classes=draw(st.integers(0, 20)), events=draw(NUMBERS),
            published_outputs=draw(st.one_of(st.none(), NUMBERS)),
        )
        for i in range(draw(st.integers(1, 3)))
    )  # fmt: skip
    return Architecture("drawn", "", layers, BASE_WIDTHS, "declared")


@given(architectures(), WIDTHS, st.sampled_from(tuple(CONVENTIONS)))
def test_totals_are_the_sums_of_items(found, widths, convention):
    report = formula(found, widths, convention)
    assert report.bits == sum(item.count * item.width for item in report.items)
    assert all(item.kind in KINDS and item.width > 0 and item.count > 0 for item in report.items)
    for by in ("layer", "kind", "name"):
        totals = report.totals(by).values()
        assert sum(total["bits"] for total in totals) == report.bits
        assert sum(total["bits_fp32"] for total in totals) == report.bits_fp32
    by_layer = report.by_layer()
    assert sum(entry["formula_bits"] for kinds in by_layer.values() for entry in kinds.values()) == report.bits
    values = report.as_json()
    assert values["bits"] == sum(item["formula_bits"] for item in values["items"]) and values["measured_bytes"] is None
    json.dumps(values, allow_nan=False)


@given(architectures(), WIDTHS)
def test_the_published_formula_as_one_sum(found, widths):
    w = {**BASE_WIDTHS, **widths}
    expected = 0
    for layer in found.layers:
        n_o = layer.outputs if layer.published_outputs is None else layer.published_outputs
        expected += layer.weights * (w["W"] + w["G"]) + layer.inputs * (w["P"] + w["Q"]) + n_o * (w["R"] + w["U"])
        expected += 2 * layer.classes * n_o * w["S"] + layer.classes * w["A"] + (layer.classes + n_o) * w["E"]
    assert formula(found, widths, "schaefer-joshi").bits == expected


# which kinds of items each width belongs to, in the convention that counts most
OWNERS = {
    "W": {"W", "b"}, "Q": {"Q"}, "P": {"P"}, "R": {"R"}, "S": {"S"}, "U": {"U"}, "A": {"A"}, "Sig": {"Sig"}, "E": {"E"},
    "G": {"G", "Gb"},
}  # fmt: skip


@given(
    architectures(),
    WIDTHS,
    st.sampled_from(tuple(BASE_WIDTHS)),
    st.integers(1, 32),
    st.sampled_from(tuple(CONVENTIONS)),
)
def test_one_width_changes_exactly_its_items(found, widths, symbol, bits, convention):
    widths[symbol] = widths.get(symbol, 0) or 1  # an array that is not there cannot change
    before = formula(found, widths, convention).items
    after = formula(found, {**widths, symbol: bits}, convention).items
    assert [(i.layer, i.kind, i.name, i.count) for i in before] == [(i.layer, i.kind, i.name, i.count) for i in after]
    owned = {"W"} if convention == "binary-weight" else OWNERS[symbol]
    for old, new in zip(before, after, strict=True):
        if old.name in owned and (convention != "binary-weight" or symbol == "W"):
            assert new.formula_bits == old.count * bits
        else:
            assert new == old


def test_widths_and_names_that_cannot_be():
    for widths in ({"X": 3}, {"W": 33}, {"W": -1}, {"W": 2.0}, {"W": True}):
        with pytest.raises(FormatError, match="width"):
            formula(DECOLLE, widths)
    with pytest.raises(FormatError, match="choose one of declared, schaefer-joshi"):
        formula(DECOLLE, convention="joshi")
    with pytest.raises(DataNotFoundError, match="decolle-dvsgesture"):
        architecture("vgg")
    with pytest.raises(FormatError, match="layer, kind, name"):
        formula(DECOLLE).totals("width")
    for share in (-0.1, 1.1):
        with pytest.raises(FormatError, match="share"):
            saving_ratio(share)
    with pytest.raises(FormatError, match="ratio"):
        float_share(33)
    assert formula(DECOLLE, {"W": 0, "G": 0}).totals("kind").keys() & {"weights", "gradients"} == set()


# ---------------------------------------------------------------------------------------------------------------------
# networks: what is stored
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    return keras.load(digits.network_file())


@pytest.fixture(scope="module")
def converted(trained):
    """The digits network by width of its weights."""
    data = datasets.load("digits:train:60")
    made = {}

    def make(bits):
        if bits not in made:
            made[bits] = convert_float(trained, data, weight_bits=bits, activation_bits=3).network
        return made[bits]

    return make


def stored_arrays(path):
    """Bytes of the arrays of a file by path, read with h5py alone, and of what HDF5 keeps for them."""
    arrays, kept = {}, 0

    def visit(name, thing):
        nonlocal kept
        if isinstance(thing, h5py.Dataset):
            arrays[name] = thing[()].nbytes
            kept += thing.id.get_storage_size()

    with h5py.File(path) as file:
        file.visititems(visit)
    return arrays, kept


@pytest.mark.parametrize("bits", range(1, 9))
def test_weights_of_a_converted_network_are_dense_in_the_file(converted, bits, tmp_path):
    network = converted(bits)
    report = memory(network, provenance={"source": "test"}, run=False)
    path = tmp_path / "net.h5"
    save(network, path, provenance={"source": "test"})
    arrays, kept = stored_arrays(path)

    weights = [item for item in report.items if item.kind == "weights"]
    assert sum(item.count for item in weights) == 144 + 4608 + 18_432 + 8192 + 320
    assert {item.width for item in weights} == {bits}
    in_file = {name: size for name, size in arrays.items() if name.endswith("weight_packed")}
    assert sum(in_file.values()) == sum(item.measured_bytes for item in weights)
    formula_bytes = sum(item.formula_bits for item in weights) / 8
    assert abs(sum(in_file.values()) - formula_bytes) <= 0.02 * formula_bytes

    # weights by formula, what their last bytes are filled with, and the itemised extras: that is the file
    file = report.file
    assert file.arrays == arrays and file.total == os.path.getsize(path)
    extras = sum(size for name, size in file.arrays.items() if name not in in_file)
    assert file.compression == kept - sum(arrays.values())
    assert sum(in_file.values()) + extras + file.compression + file.attributes + file.structure == file.total
    assert file.structure > 0 and file.attributes > 0


FORMATS = [
    *(Fixed(bits) for bits in range(1, 9)),
    *(Fixed(bits, signed=False) for bits in range(1, 9)),
    *(Fixed(bits, narrow=True) for bits in range(2, 9)),
    Bipolar(),
    *(apot(bits) for bits in range(2, 6)),
    Levels(tuple(range(-30, 37))),  # 67 levels: 7 bits
]


@pytest.mark.parametrize("weight_format", FORMATS, ids=str)
def test_every_format_is_dense(weight_format, tmp_path):
    """Random codes cannot be compressed: what the file holds is what the format needs."""
    rng = np.random.default_rng(3)
    if isinstance(weight_format, Fixed):
        weight = rng.integers(weight_format.min, weight_format.max, (123, 101), endpoint=True)
    else:
        weight = rng.choice((-1, 1) if isinstance(weight_format, Bipolar) else weight_format.table, (123, 101))
    network = Network.sequential(Input((101,)), Affine(weight, weight_format=weight_format), IF(9), Readout())
    save(network, tmp_path / "net.h5")
    arrays, _ = stored_arrays(tmp_path / "net.h5")
    expected = 123 * 101 * weight_format.bits / 8
    assert expected <= arrays["nodes/affine_1/weight_packed"] < expected + 1
    (item,) = (item for item in memory(network, run=False, file=False).items if item.kind == "weights")
    assert item.measured_bytes == arrays["nodes/affine_1/weight_packed"] and item.formula_bits == 8 * expected
    assert item.loaded_bytes == 8 * 123 * 101


# ---------------------------------------------------------------------------------------------------------------------
# networks: what runs
# ---------------------------------------------------------------------------------------------------------------------


def small():
    """Conv 1 to 2 channels of 3x3 on 6x6, neurons 4x4, max-pool 2x2, three outputs; all widths declared."""
    rng = np.random.default_rng(0)
    neuron = IF(
        np.array([9, 30]), v_initial=np.array([4, 15]), v_format=Fixed(11), threshold_format=Fixed(5, signed=False),
        max_count=5, signed=True, bias_format=Fixed(4),
    )  # fmt: skip
    return Network.sequential(
        Input((1, 6, 6), Fixed(3, signed=False)),
        ("conv", Conv2d(rng.integers(-3, 4, (2, 1, 3, 3)), bias=[-9, 5], weight_format=Fixed(3))),
        ("if", neuron),
        ("pool", MaxPool2d(2)),
        ("flat", Flatten()),
        ("dense", Affine(rng.choice((-1, 1), (3, 8)), weight_format=Bipolar(), multiplier=[1, 2, 3])),
        ("out", Readout()),
        t_drive=5,
        levels=5,
    )


def test_items_of_a_small_network():
    network = small()
    report = memory(network)
    rows = {(i.layer, i.name): (i.kind, i.count, i.width) for i in report.items if i.width}
    total = network.bounds()["out"].total_format
    assert rows == {
        ("input_0", "codes"): ("inputs", 36, 3),
        ("conv", "weight"): ("weights", 18, 3),
        ("conv", "bias"): ("biases", 2, 5),  # -9 to 5
        ("if", "threshold"): ("thresholds", 2, 5),
        ("if", "v_initial"): ("initial values", 2, 11),
        ("if", "v"): ("membranes", 32, 11),
        ("if", "count"): ("counts", 32, 3),
        ("if", "out"): ("spikes", 32, 2),
        ("pool", "count"): ("counts", 32, 3),
        ("pool", "best"): ("counts", 8, 3),
        ("pool", "out"): ("spikes", 8, 2),
        ("dense", "weight"): ("weights", 24, 1),
        ("dense", "multiplier"): ("scales", 3, 2),
        ("out", "total"): ("readouts", 3, total.bits),
    }
    sizes = {(i.layer, i.name): i.measured_bytes for i in report.items}
    assert sizes["conv", "weight"] == 7 and sizes["dense", "weight"] == 3  # packed
    assert sizes["conv", "bias"] == 2 and sizes["if", "threshold"] == 2  # int8
    assert sizes["if", "bias"] == 8  # one 0, kept as an attribute and not counted
    worker = Worker(Plan(lower(network, Schedule(5, 5, 6, 5)), "step"))
    worker.begin({"input_0": Source(network.nodes["input_0"], np.zeros((1, 1, 6, 6), int))}, 0, 1)
    assert sizes["if", "v"] == worker.states["if"]["v"].nbytes
    assert sizes["if", "count"] == worker.states["if"]["count"].nbytes
    assert sizes["pool", "best"] == worker.states["pool"]["count"].nbytes
    assert sizes["out", "total"] == worker.states["out"]["total"].nbytes == 24
    assert report.prepared_bytes > 0
    assert all(item.measured_bytes is not None for item in report.items)


@pytest.mark.parametrize("steps, width", [(1, 2), (40, 2), (400, 4)])
def test_states_are_measured_as_the_run_keeps_them(steps, width):
    """Weight 7, codes to 15: a membrane that is never reset grows by up to 105 a step, and 16 bits hold 312 of them."""
    network = Network.sequential(
        Input((4,), Fixed(4, signed=False)),
        Affine(np.eye(3, 4, dtype=int) * 7),
        ("n", IF(500, reset="none", v_format=Fixed(30))),
        Readout(),
    )
    codes = np.full((1, 4), 15)
    result = simulate(network, codes, steps=steps)
    found = {(i.layer, i.name): i.measured_bytes for i in memory(network, result=result, file=False).items}
    worker = Worker(Plan(lower(network, Schedule(steps, steps, steps, steps)), "step"))
    worker.begin({"input_0": Source(network.nodes["input_0"], codes)}, 0, 1)
    state = worker.states["n"]["v"]
    assert found["n", "v"] == state.nbytes and state.dtype.itemsize == width


def test_widths_are_those_of_signed_accumulators():
    """Sums from 0 to 7 * 15 take 7 bits as they are, and 8 with a sign."""
    network = Network.sequential(Input((1,), Fixed(4, signed=False)), Affine([[7]]), ("o", Readout()))
    assert network.bounds()["o"].total_format == Fixed(7, signed=False)
    report = memory(network, run=False, file=False)
    assert next(i.width for i in report.items if i.layer == "o") == 8
    found = accumulators(network)["o"]
    assert found.bound_bits == found.v_bits == 8


def test_published_conventions_of_a_network():
    network = small()
    report = memory(network, "schaefer-joshi", widths={"P": 12, "G": 10}, run=False, file=False)
    # the connection to the readout feeds no neurons
    expected = 18 * (3 + 10) + 36 * 12 + 32 * 11 + 24 * (1 + 10) + 8 * 12
    corrected = memory(network, "schaefer-joshi-prepool", widths={"P": 12, "G": 10}, run=False, file=False)
    assert corrected.bits == expected
    assert report.bits == expected - (32 - 8) * 11  # it counts neurons behind the pool
    binary = memory(network, "binary-weight", run=False, file=False)
    assert (binary.bits, binary.bits_fp32) == (18 * 3 + 24 * 1 + 2 * 32, 32 * (18 + 24 + 2))
    assert {i.name: i.measured_bytes for i in binary.items if i.width and i.layer == "conv"} == {"W": 7, "b": 2}
    assert binary.measured_bytes == memory(network, run=False, file=False).measured_bytes
    with pytest.raises(FormatError, match="declares its own"):
        memory(network, widths={"P": 12})
    with pytest.raises(FormatError, match="width W: the network declares its own"):
        memory(network, "schaefer-joshi", widths={"W": 12})


def test_states_of_other_neurons_are_counted():
    neuron = CubaLIF(20, Decay.by_shift(2), Decay.by_shift(3), Fixed(9), v_format=Fixed(13), reset_delay=1)
    network = Network.sequential(Input((4,)), ("d", Affine(np.eye(4), delay=1)), ("n", neuron), Readout())
    report = memory(network)
    rows = {(i.layer, i.name): (i.kind, i.count, i.width) for i in report.items if i.width}
    assert rows["n", "u"] == ("currents", 4, 9) and rows["n", "v"] == ("membranes", 4, 13)
    assert rows["n", "pending"] == ("counts", 4, 1) and rows["d", "delay line"] == ("spikes", 4, 8)
    assert all(i.measured_bytes > 0 for i in report.items)


def test_leaks_by_channel_are_counted():
    """At the least width that holds them, as the file stores them; one number for all is a part of the neuron."""
    refractory = Refractory("trace", decay=Decay.by_shift([1, 2, 3, 4]))
    neuron = CubaLIF(20, Decay.by_shift(2), Decay.by_multiply([1, 300, 9, 4096], 12), refractory=refractory)
    network = Network.sequential(Input((4,)), Affine(np.eye(4)), ("n", neuron), Readout())
    items = [i for i in memory(network).items if i.kind == "leaks"]
    leaks = {i.name: (i.count, i.width, i.measured_bytes, i.loaded_bytes) for i in items}
    assert leaks == {"v_decay.multiplier": (4, 13, 8, 32), "refractory.decay.shift": (4, 3, 4, 32)}


@settings(max_examples=12)  # each new mixture of types is compiled
@given(cases())
def test_any_network(case):
    network = case.network
    report = memory(network, file=False)
    assert report.bits == sum(item.formula_bits for item in report.items)
    assert report.measured_bytes == sum(item.measured_bytes for item in report.items)
    keys = [(i.layer, i.kind, i.name) for i in report.items]
    assert len(set(keys)) == len(keys) and {kind for _, kind, _ in keys} <= set(KINDS)
    # every state that the formula counts has an array in the run
    assert all(i.measured_bytes for i in report.items if i.width)


@settings(max_examples=40)
@given(cases(), st.data())
def test_a_wider_membrane_changes_its_items_only(case, data):
    network = case.network
    if not network.neurons:
        return
    name = data.draw(st.sampled_from(network.neurons))
    layer = network.nodes[name]
    wider = replace(layer, v_format=replace(layer.v_format, bits=layer.v_format.bits + 1))
    other = replace(network, nodes={**network.nodes, name: wider})
    before = memory(network, run=False, file=False).items
    after = memory(other, run=False, file=False).items
    for old, new in zip(before, after, strict=True):
        mine = old.layer == name and old.name in ("v", "v_initial", "v_negative") and old.width
        if mine:
            assert (new.width, new.count) == (old.width + 1, old.count)
        elif old.kind in ("readouts", "counts", "spikes"):  # a proven range may change with what the format lets by
            assert new.count == old.count
        else:
            assert new == old


def test_accumulators_by_hand():
    """One neuron, weight 3, input 4 over 3 steps, threshold 5: v before reset 12, 19, 26."""
    network = Network.sequential(
        Input((1,), Fixed(3, signed=False)),
        Affine([[3]]),
        ("n", IF(5, v_format=Fixed(9))),
        Affine([[-2]]),
        ("o", Readout()),
    )
    result = simulate(network, np.array([[4]]), steps=3)
    found = accumulators(network, result)["n"]
    assert (found.v_min, found.v_max, found.peak_bits) == (0, 26, 6)
    assert (found.sum_peak_bits, found.sum_bound_bits) == (5, 6)  # 12; at most 3 * 7 = 21
    assert found.v_bits == 9 and found.proven
    readout = accumulators(network, result)["o"]
    assert (readout.v_min, readout.v_max, readout.peak_bits) == (-6, -6, 4) and readout.proven
    assert accumulators(network)["n"].peak_bits is None
    leaky = Network.sequential(Input((1,)), Affine([[3]]), ("n", IF(5, v_decay=Decay.by_shift(1), v_format=Fixed(12))))
    found = accumulators(leaky)["n"]
    assert not found.proven and found.bound_bits == 12


@settings(max_examples=20)
@given(cases())
def test_observed_widths_are_those_of_every_path_and_within_bounds(case):
    network = case.network
    fast = simulate(network, case.inputs, **case.options)
    plain = simulate(network, case.inputs, path="reference", **case.options)
    assert fast.layers == plain.layers
    driven = fast.steps
    bounds = network.bounds(fast.steps, driven)
    for name, report in fast.layers.items():
        assert max(report.v_high, -report.v_low) == report.peak_v
        assert max(report.sum_high, -report.sum_low) == report.peak_sum
        if not fast.overflows and bounds[name].v_low is not None:  # counters start at 0
            assert min(0, bounds[name].v_low.min()) <= report.v_low
            assert report.v_high <= max(0, bounds[name].v_high.max())


def test_a_cell_has_what_a_sweep_stores(converted):
    network = converted(3)
    result = simulate(network, datasets.load("digits:20").images, settle=True)
    found = cell(network, result)
    report = memory(network, result=result, file=False)
    assert found["formula_bits"] == report.bits and found["measured_bytes"] == report.measured_bytes
    assert found["weight_formula_bits"] == 3 * 31_696 and found["weight_measured_bytes"] == -(-3 * 31_696 // 8)
    layers = found["layers"]
    assert set(layers) >= set(network.neurons) | {"readout"}
    assert layers["conv2"]["memory"]["weights"] == {"formula_bits": 3 * 4608, "measured_bytes": 3 * 4608 // 8}
    for name in (*network.neurons, "readout"):
        entry = layers[name]
        assert 1 < entry["peak_bits"] <= entry["bound_bits"] <= entry["v_bits"]
        assert entry["v_min"] <= 0 or name == "readout"
    total = sum(e["measured_bytes"] for layer in layers.values() for e in layer["memory"].values())
    assert total == found["measured_bytes"]
    json.dumps(found, allow_nan=False)


def test_a_cell_writes_no_file(monkeypatch):
    def refuse(*_):
        raise AssertionError("a file is written")

    monkeypatch.setattr("intsnn.analysis.memory.report.file_bytes", refuse)
    network = small()
    assert cell(network)["formula_bits"] == memory(network, file=False).bits
    with pytest.raises(AssertionError, match="is written"):
        memory(network)


def test_buffers_of_the_fast_path(converted):
    network = converted(4)
    found = runner_bytes(network)
    assert all(isinstance(size, int) and size >= 0 for size in found.values())
    neurons = sum(int(np.prod(network.shapes[name])) for name in network.neurons)
    assert sum(found.values()) > 4 * neurons
    decay = Decay.by_shift(1, "STOCHASTIC")
    leaky = Network.sequential(Input((1,)), Affine([[3]]), IF(5, v_decay=decay), Readout())
    with pytest.raises(UnsupportedError):
        runner_bytes(leaky)


# ---------------------------------------------------------------------------------------------------------------------
# a process
# ---------------------------------------------------------------------------------------------------------------------


def test_peak_of_a_process():
    network = Network.sequential(Input((1000,)), Affine(np.ones((2, 1000))), IF(3), Readout())
    peak_memory(network, np.zeros((1, 1000), np.int64), steps=1)  # compiles what is not yet compiled
    found = peak_memory(network, np.zeros((50, 1000), np.int64), steps=1)
    assert found["samples"] == 50 and found["threads"] == 1
    assert 1 << 20 < found["peak_bytes"] < 1 << 36
    if found["imported_bytes"] is not None:
        assert 1 << 20 < found["imported_bytes"] < found["ready_bytes"] <= found["peak_bytes"]
        assert found["run_bytes"] == found["peak_bytes"] - found["ready_bytes"]
        # 100 MB of input have to show before the run
        many = peak_memory(network, np.zeros((12_500, 1000), np.int64), steps=1)
        assert many["ready_bytes"] > found["ready_bytes"] + (90 << 20)


def test_a_process_that_fails_says_why():
    with pytest.raises(IntsnnError, match="holds 0 to 7"):
        peak_memory(small(), np.full((1, 1, 6, 6), 8))
    with pytest.raises(IntsnnError, match=r"longer than 0\.01 s"):
        peak_memory(small(), np.zeros((1, 1, 6, 6), int), timeout=0.01)


# ---------------------------------------------------------------------------------------------------------------------
# the command
# ---------------------------------------------------------------------------------------------------------------------


def call(*arguments):
    done = CliRunner().invoke(main, ["memory", *map(str, arguments)])
    return done.exit_code, done.output


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_command_on_an_architecture(name, tmp_path):
    code, text = call(name, "--json", tmp_path / "found.json")
    assert code == 0, text
    found = json.loads((tmp_path / "found.json").read_text())
    report = allocated(architecture(name))
    assert {"bits", "bits_fp32", "saving", "measured_bytes", "items"} <= found.keys()
    assert (found["bits"], found["bits_fp32"]) == (report.bits, report.bits_fp32)
    assert found["measured_bytes"] == report.measured_bytes and found["saving"] == report.saving
    assert f"{report.bits:,} bits" in text and f"{report.ratio:.2f}x" in text
    code, text = call(name, "--width", "W=4", "--convention", "schaefer-joshi-corrected", "--json", "-")
    assert code == 0, text
    assert json.loads(text[text.index("{") :])["widths"]["W"] == 4


def test_command_on_a_file(converted, tmp_path):
    network = converted(5)
    path = tmp_path / "net.h5"
    save(network, path, provenance={"source": "test"})
    code, text = call(path, "--data", "digits:30", "--threads", 1, "--json", tmp_path / "found.json")
    assert code == 0, text
    found = json.loads((tmp_path / "found.json").read_text())
    report = memory(network, provenance={"source": "test"})
    assert found["bits"] == report.bits and found["measured_bytes"] == report.measured_bytes
    assert found["file"]["total"] == found["file_bytes"] == path.stat().st_size
    assert found["peak"]["samples"] == 30 and found["peak"]["peak_bytes"] > 0
    assert found["runner_buffers"] == runner_bytes(network)
    observed = {entry["layer"]: entry["peak_bits"] for entry in found["accumulators"]}
    result = simulate(network, datasets.load("digits:30").images, settle=True)
    assert observed == {name: entry.peak_bits for name, entry in accumulators(network, result).items()}
    assert "Accumulators" in text and "structure of HDF5" in text


def test_command_refuses_in_one_line(tmp_path):
    for code, arguments, words in (
        (2, ("decolle-dvsgesture", "--convention", "none"), "choose one of declared"),
        (2, ("decolle-dvsgesture", "--width", "W"), "NAME=BITS"),
        (2, ("decolle-dvsgesture", "--width", "X=3"), "known are W, Q"),
        (2, ("decolle-dvsgesture", "--width", "W=99"), "0 to 32"),
        (2, ("decolle-dvsgesture", "--data", "digits"), "without weights"),
        (3, (tmp_path / "no.h5",), "no named architecture"),
        (3, (digits.network_file(),), "convert it first"),
    ):
        found, text = call(*arguments)
        assert found == code and words in text and "Traceback" not in text, text
        assert len([line for line in text.splitlines() if line.startswith("Error: ")]) == 1
