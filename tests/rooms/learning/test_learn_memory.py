"""Memory of a network that learns: the published numbers, a case by hand, and arrays that were measured."""

import numpy as np
import pytest

from intsnn.analysis.memory.report import formula
from intsnn.bench.learning.speed import gesture_network
from intsnn.learning.learner import Conv, Dense, Learner, LearningNetwork, Rule, Widths
from intsnn.learning.memory import architecture_of, memory, symbols
from intsnn.models.published import architecture


def test_the_published_base_point():
    """26,462,796 bits and 73.781 % as printed, for the widths of the published rule."""
    published = formula(architecture("decolle-dvsgesture"), symbols(Rule.published().widths))
    assert (published.bits, published.bits_fp32) == (26_462_796, 100_928_576)
    assert round(published.saving, 3) == 73.781


@pytest.mark.parametrize("convention, bits", [
    ("schaefer-joshi-corrected", 28_354_956), ("schaefer-joshi-prepool", 29_131_788),
])  # fmt: skip
def test_the_network_of_the_recipe_has_the_published_sizes(convention, bits):
    """Sizes from our layers are those of the named architecture, but for the digit that was lost in print."""
    ours = architecture_of(gesture_network(Rule.published()))
    assert formula(ours, None, convention).bits == bits
    theirs = formula(architecture("decolle-dvsgesture"), None, convention)
    assert [(i.layer, i.name, i.count, i.width) for i in formula(ours, None, convention).items] == [
        (i.layer, i.name, i.count, i.width) for i in theirs.items
    ]


def test_a_case_by_hand():
    """Conv(2, 3x3, pad 1, pool 2) on 1x4x4 and Dense(5), 3 classes."""
    net = LearningNetwork((1, 4, 4), (Conv(2, 3, 1, pool=2), Dense(5)), 3, Rule.corrected(widths=Widths()))
    found = formula(architecture_of(net))
    first = 18 * (8 + 10) + 16 * (12 + 10) + 8 * (2 + 6) + 2 * 3 * 8 * 6 + 3 * 6 + (3 + 8) * 6
    second = 40 * (8 + 10) + 8 * (12 + 10) + 5 * (2 + 6) + 2 * 3 * 5 * 6 + 3 * 6 + (3 + 5) * 6
    assert found.bits == first + second
    report = memory(net)
    assert report.bits == found.bits and report.saving == found.saving


def test_measured_bytes_are_those_of_the_arrays():
    net = LearningNetwork((1, 4, 4), (Conv(2, 3, 1, pool=2), Dense(5)), 3, Rule.corrected())
    items = {(item.layer, item.name): item for item in memory(net).items}
    assert items["layer1", "W"].measured_bytes == 18 and items["layer1", "P"].measured_bytes == 2 * 16
    assert items["layer1", "master"].measured_bytes == 2 * 18 and items["layer1", "master"].formula_bits == 0
    assert items["layer1", "G"].measured_bytes == 4 * 18
    assert items["layer2", "S"].measured_bytes == 2 * 3 * 5
    assert (
        items["layer1", "U"].measured_count == 32 and items["layer1", "U"].count == 8
    )  # the formula counts pooled ones
    learner = Learner(net)
    assert items["layer2", "constants"].measured_bytes == sum(
        getattr(learner.constants[1], name).nbytes for name in ("decay_p", "gain_p", "decay_q", "gain_q")
    )
    assert np.int16 == learner.layers[0].master.dtype


def test_dense_layers_store_no_gradient():
    net = LearningNetwork((40,), (Dense(64),), 3, Rule.corrected(weight_scale="0.0005", tau_membrane=(4, 9)))
    items = {item.name: item for item in memory(net).items}
    assert items["G"].measured_bytes in (0, 40 * 64 * 4)  # 0 where the first exponent allows the fused way
