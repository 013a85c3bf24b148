"""The count path: one pass of totals, the same integers as the layers of `simulate` on totals, whatever the network."""

from dataclasses import replace

import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from networks.ann import ann_network

from intsnn.engine.ann import integer_ann, prepare_ann
from intsnn.engine.backends.count import scales
from intsnn.engine.backends.count.places import Slot, SlotLayout
from intsnn.engine.backends.count.table import CountTable
from intsnn.engine.program import lower
from intsnn.errors import FormatError, RangeError, UnsupportedError
from intsnn.formats.fixed import Fixed
from intsnn.kernels import selftest
from intsnn.kernels.count import vectors
from intsnn.kernels.count.opcodes import BYTES, LONGS, SHORTS, After, CountKind, CountOperation
from intsnn.layers import (
    LIF,
    Affine,
    AvgPool2d,
    Conv2d,
    Decay,
    Flatten,
    Input,
    MaxPool2d,
    Neuron,
    Readout,
    SignedIF,
    SumPool2d,
)
from intsnn.network.schedule import schedule
from intsnn.network.spiking import Network

RNG = np.random.default_rng(11)
TOPS = (1, 2, 7, 15, 31, 100, 254, 255, 256, 1000, 4096, 5000, 40_000, (1 << 31) - 1)


def with_an_ann(network, tops):
    """`network` with neurons that count to one of `tops`, and sums instead of averages."""
    nodes = {}
    for at, (name, layer) in enumerate(network.nodes.items()):
        if isinstance(layer, Neuron):
            top = tops[at % len(tops)]
            parts = {"signed": True, "v_negative": 0, "max_count": top, "acc_format": None}
            layer = replace(layer, min_count=(0, -top, -1)[at % 3], **parts)
        elif isinstance(layer, AvgPool2d):
            layer = SumPool2d(layer.kernel_size, layer.stride, layer.padding)
        elif isinstance(layer, Readout):
            layer = Readout()
        nodes[name] = layer
    return Network(nodes, network.edges, t_drive=network.t_drive, levels=None)


def compare(network, inputs, steps=None, **options):
    """Both paths, in everything; what the layers refuse the count path refuses as well."""
    try:
        expected = integer_ann(network, inputs, steps=steps, path="step")
    except RangeError as error:
        with pytest.raises(RangeError) as found:
            integer_ann(network, inputs, steps=steps)
        assert str(found.value) == str(error)
        return None
    found = integer_ann(network, inputs, steps=steps, path="count", **options)
    assert np.array_equal(found.outputs, expected.outputs)
    assert set(found.levels) == set(expected.levels)
    for name, levels in expected.levels.items():
        assert found.levels[name].dtype == np.int64 and np.array_equal(found.levels[name], levels), name
    assert np.array_equal(found.predictions, expected.predictions)
    alone = integer_ann(network, inputs, steps=steps, levels=False)
    assert np.array_equal(alone.outputs, expected.outputs) and not alone.levels
    return expected


@settings(max_examples=120)
@given(
    strategies.cases(recurrent=False, settle=True, plain=True, samples=st.integers(0, 9)),
    st.lists(st.sampled_from(TOPS), min_size=1, max_size=3),
    st.sampled_from((None, 1, 2, 100)),
)
def test_random_networks(case, tops, batch_size):
    compare(with_an_ann(case.network, tops), case.inputs, case.steps, batch_size=batch_size)


@settings(max_examples=60)
@given(
    strategies.cases(recurrent=False, settle=True, plain=True, wide=True),
    st.lists(st.sampled_from(TOPS), min_size=1, max_size=3),
)
def test_random_networks_of_wide_numbers(case, tops):
    compare(with_an_ann(case.network, tops), case.inputs, case.steps)


# -- networks from seeds ----------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_networks_from_seeds(first):
    for seed in range(first, first + 20):
        compare(*ann_network(seed), threads=1 + seed % 2)


# -- levels without a division ----------------------------------------------------------------------


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1), st.sampled_from((1, 2, 3, 7, 31, 255, 4096)), st.sampled_from((0, 0, 1, 5, 255)))
def test_scales_are_the_division(seed, top, below):
    """At every sum where a level begins, at the one before, at the ends and between: what is found is exact."""
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 6))
    bits, reach = int(rng.integers(1, 30)), 1 << int(rng.integers(1, 24))
    multiplier = rng.integers(0, 1 << int(rng.integers(1, 14)), channels)
    threshold = rng.integers(1, 1 << bits, channels) + multiplier * int(rng.integers(0, 3))
    start = rng.integers(-(1 << bits), 1 << bits, channels) * int(rng.integers(1, 9))
    low, high = np.full(channels, -reach), np.full(channels, int(rng.integers(0, reach)))
    found = scales.find_scales(multiplier, start, threshold, (-below, top), low, high)
    if found is None:
        return
    k = np.arange(1 - below, top + 1)[:, None]
    first = -((start - k * threshold) // np.maximum(multiplier, 1))
    sums = np.concatenate([first, first - 1, rng.integers(-reach, high[0] + 1, (200, channels)), [low, high]])
    sums = np.clip(sums, low, high)
    assert np.array_equal(found.levels(sums), scales.divided_levels(sums, multiplier, start, threshold, (-below, top)))


def test_scales_are_found_where_they_are_needed():
    """Converted networks have them: thresholds of many units of their sums."""
    rng = np.random.default_rng(1)
    for top in (1, 15, 255):
        for unit in (1, 1 << 6, 1 << 12):
            theta = rng.integers(2 * unit, 5000 * unit, 64)
            for bottom in (0, -top):
                args = np.full(64, unit), rng.integers(-9 * unit, 9 * unit, 64), theta, (bottom, top)
                assert scales.find_scales(*args, np.full(64, -(1 << 22)), np.full(64, 1 << 22)) is not None, (top, unit)
    several = scales.find_scales(np.array([5]), np.array([0]), np.array([2]), (0, 7), np.array([-9]), np.array([9]))
    assert several is None  # more than a level for every sum: a division
    wide = scales.find_scales(
        np.array([1]), np.array([0]), np.array([9]), (0, 7), np.array([-(1 << 40)]), np.array([1 << 40])
    )
    assert wide is None


# -- what is laid out -------------------------------------------------------------------------------


def table_of(network, keep=False, constant=True):
    program = lower(network, schedule(network, None if constant else 1, 1, True).of_totals())
    return CountTable(program, dict.fromkeys(network.inputs, constant), keep)


def kinds_of(table):
    return [CountKind(row[CountOperation.KIND]).name for row in table.constants[0]]


def test_what_becomes_of_a_network():
    """A connection and its neuron are one operation; a flattening in front of a dense layer is none."""
    rng = np.random.default_rng(1)
    network = Network.sequential(
        Input((3, 8, 8), Fixed(8, signed=False)), Conv2d(rng.integers(-7, 8, (16, 3, 3, 3)), padding=1),
        SignedIF(900, 255), MaxPool2d(2), Flatten(), Affine(rng.integers(-7, 8, (9, 256))), SignedIF(90, 7),
        Affine(rng.integers(-7, 8, (4, 9))), Readout(),
    )  # fmt: skip
    table = table_of(network)
    assert kinds_of(table) == ["CONNECT", "MOST", "CONNECT", "CONNECT"]
    after = table.constants[0][:, CountOperation.AFTER]
    assert [int(after[i]) for i in (0, 2, 3)] == [After.LEVEL, After.LEVEL, After.OUTPUT]
    assert table.constants[1] == 2  # the dense layers are the tail
    small = BYTES if 4 in vectors.FORMS else SHORTS
    assert set(table.constants[0][:3, CountOperation.TARGET_CLASS].tolist()) == {small}


def test_widths_at_the_edge_of_a_class():
    """Levels to 255 are bytes where there are byte products, to 32767 16 bits; then 64 bits."""

    def target(top, weight=7):
        network = Network.sequential(
            Input((2,), Fixed(8, signed=False)),
            Affine([[1, 2]]),
            SignedIF(5, top),
            Affine([[weight]], weight_format=Fixed(9)),
            Readout(),
        )
        return int(table_of(network).constants[0][0, CountOperation.TARGET_CLASS])

    small = BYTES if 4 in vectors.FORMS else SHORTS
    assert [target(top) for top in (255, 256, 32767, 32768)] == [small, SHORTS, SHORTS, LONGS]
    assert [target(255, weight) for weight in (127, -127, 128, -128)] == [small, small, SHORTS, SHORTS]


def test_slots_that_are_in_use_at_once_do_not_overlap():
    rng = np.random.default_rng(3)
    for _ in range(50):
        layout = SlotLayout()
        for _ in range(int(rng.integers(1, 12))):
            slot = Slot(int(rng.integers(4)), *rng.integers(1, 6, 3).tolist())
            slot.widen(rng.integers(0, 3, 4).tolist())
            slot.first, slot.last = np.sort(rng.integers(0, 9, 2)).tolist()
            slot.shared = bool(rng.random() < 0.8)
            layout.add(slot)
        together = {id(slot) for slot in layout.slots if rng.random() < 0.3}
        sizes = layout.place(together)
        for i, one in enumerate(layout.slots):
            assert one.at + (layout.block - 1) * one.by + one.size <= sizes[one.kind]
            for other in layout.slots[:i]:
                at_once = not one.shared or not other.shared or (one.first <= other.last and other.first <= one.last)
                if one.kind == other.kind and (at_once or one.by or other.by):
                    spans = [
                        (s.at + b * s.by, s.at + b * s.by + s.size) for s in (one, other) for b in range(layout.block)
                    ]
                    spans = sorted(set(spans))
                    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False)), (one, other)


# -- prepared ---------------------------------------------------------------------------------------


def test_prepared_once_run_often():
    network, codes = ann_network(7)
    expected = integer_ann(network, codes, path="step")
    for threads in (1, 3):
        run = prepare_ann(network, levels=True, threads=threads)
        for inputs, some in ((codes, slice(None)), (codes[:1], slice(0, 1)), (codes, slice(None))):
            found = run(inputs)
            assert np.array_equal(found.outputs, expected.outputs[some])
            for name, levels in expected.levels.items():
                assert np.array_equal(found.levels[name], levels[some])
    assert not prepare_ann(network)(codes).levels


@pytest.mark.parametrize("bits, drive", [(8, 1), (8, 3), (4, 3)])
def test_bytes_like_those_before_take_a_short_way(bits, drive):
    """Their values are looked at all the same, and so are other shapes, types and orders."""
    rng = np.random.default_rng(bits)
    network = Network.sequential(
        Input((9,), Fixed(bits, signed=False)), Affine(rng.integers(-7, 8, (5, 9))), SignedIF(40, 7),
        Affine(rng.integers(-7, 8, (3, 5))), Readout(), t_drive=drive,
    )  # fmt: skip
    run = prepare_ann(network, levels=True)
    codes = rng.integers(0, 1 << bits, (6, 9)).astype(np.uint8)
    locked = codes.copy()
    locked.setflags(write=False)
    for inputs in (
        codes,
        codes[::-1],
        codes.copy(),
        locked,
        codes[:2],
        codes.astype(np.int64),
        np.asfortranarray(codes),
    ):
        found, expected = run(inputs), integer_ann(network, inputs, path="step")
        assert np.array_equal(found.outputs, expected.outputs)
        assert all(np.array_equal(found.levels[name], levels) for name, levels in expected.levels.items())
    run(codes)
    if bits < 8:
        wrong = codes.copy()
        wrong[3, 2] = 1 << bits
        with pytest.raises(RangeError, match="sample 3, element 2"):
            run(wrong)


def test_bad_options():
    network, codes = ann_network(7)
    with pytest.raises(FormatError, match="path: found 'fused'; choose one of auto, count, step"):
        integer_ann(network, codes, path="fused")
    with pytest.raises(FormatError, match="threads"):
        integer_ann(network, codes, threads=0)
    leaky = Network.sequential(Input((2,)), Affine([[1, 2]]), LIF(5, Decay.by_shift(2)))
    with pytest.raises(UnsupportedError, match="leaks"):
        prepare_ann(leaky)


def test_vectors_equal_their_plain_twins():
    for case in selftest._count_cases(
        lambda shape, kind, low=-100, high=100: RNG.integers(low, high, shape).astype(kind)
    ):
        assert selftest.fault_of(case) == "", case.name
