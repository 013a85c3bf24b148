"""The random networks of the other tests reach the corners: how often, counted over draws that are always the same."""

from collections import Counter

import numpy as np
import strategies
from hypothesis import given, settings

from intsnn.engine.inputs import Events
from intsnn.engine.simulation import simulate
from intsnn.formats.fixed import Fixed
from intsnn.layers import Affine, AvgPool2d, Conv2d, Input, MaxPool2d, Neuron, SumPool2d

DRAWS = 400
# how many of the draws have it at least: about a quarter of what is usual, since a change of a strategy draws others
CORNERS = {
    "v of 25 to 32 bits, of its own": 8, "v of 33 to 40 bits": 5, "v of 41 to 48 bits": 8,
    "v unsigned, of more than 32 bits": 5, "u of more than 24 bits": 8, "acc of more than 24 bits": 15,
    "trace of more than 24 bits": 3, "threshold beyond 2^31": 8, "threshold beyond 2^39": 2,
    "threshold beyond 2^24 that fires": 12, "weight of 16 bits": 20, "input of 16 bits": 30,
    "input without sign of 16 bits": 20, "multiplier beyond 2^30": 10, "multiplier of 2^31": 2,
    "multiplier of an input beyond 2^30": 12, "groups in between": 3, "kernel of 7": 4, "pool of 7": 3,
    "map of 12": 10, "map of 10 x 10 or more": 5, "steps beyond 30": 20, "40 steps": 20, "sums beyond 32 bits": 50,
    "sums beyond 45 bits": 12, "membranes beyond 32 bits": 20, "loop": 25, "max-pool": 5, "average": 8,
    "events": 25, "leak of more than 12 places": 8, "bias beyond 2^31": 12,
}  # fmt: skip


def corners(case):
    """Names of the corners that a case and its run are in."""
    network, found = case.network, set()
    run = simulate(network, case.inputs, path="step", **case.options)  # every path is equal, this one is quick

    def note(name, holds):
        if holds:
            found.add(name)

    for name, layer in network.nodes.items():
        shape = network.shapes[name]
        if isinstance(layer, Neuron):
            bits, trace = layer.v_format.bits, layer.refractory.format
            report, theta = run.layers[name], int(np.max(layer.threshold))
            note("v of 25 to 32 bits, of its own", 25 <= bits <= 32 and layer.v_format != Fixed(32))
            note("v of 33 to 40 bits", 33 <= bits <= 40)
            note("v of 41 to 48 bits", 41 <= bits <= 48)
            note("v unsigned, of more than 32 bits", bits > 32 and not layer.v_format.signed)
            note("u of more than 24 bits", layer.u_format is not None and layer.u_format.bits > 24)
            note("acc of more than 24 bits", layer.acc_format is not None and layer.acc_format.bits > 24)
            note("trace of more than 24 bits", layer.refractory.kind == "trace" and trace.bits > 24)
            note("threshold beyond 2^31", theta > 1 << 31)
            note("threshold beyond 2^39", theta > 1 << 39)
            note("threshold beyond 2^24 that fires", int(np.min(layer.threshold)) > 1 << 24 and report.spikes)
            note("membranes beyond 32 bits", report.peak_v >= 1 << 31)
            note("sums beyond 32 bits", report.peak_sum >= 1 << 31)
            note("sums beyond 45 bits", report.peak_sum >= 1 << 44)
            note("leak of more than 12 places", max(np.max(layer.u_decay.shift), np.max(layer.v_decay.shift)) > 12)
            note("bias beyond 2^31", np.abs(layer.bias).max() > 1 << 31)
        elif isinstance(layer, Affine | Conv2d):
            note("weight of 16 bits", np.abs(layer.weight).max() >= 1 << 14)
            note("multiplier beyond 2^30", np.abs(layer.multiplier).max() > 1 << 30)
            note("multiplier of 2^31", np.abs(layer.multiplier).max() == 1 << 31)
            note("loop", name.startswith("loop"))
        elif isinstance(layer, Input):
            given = case.inputs.value if isinstance(case.inputs, Events) else np.asarray(case.inputs)
            note(
                "input of 16 bits", given is not None and given.size and np.abs(given.astype(np.int64)).max() >= 1 << 14
            )
            note("input without sign of 16 bits", layer.format == Fixed(16, signed=False))
            note("multiplier of an input beyond 2^30", abs(layer.multiplier) > 1 << 30)
        if isinstance(layer, Conv2d):
            channels = network.shapes[network.inputs_of(name)[0]][0]
            note("groups in between", 1 < layer.groups < channels)
            note("kernel of 7", max(layer.weight.shape[2:]) == 7)
        if isinstance(layer, SumPool2d | AvgPool2d | MaxPool2d):
            note("pool of 7", max(layer.kernel_size) == 7)
            note("max-pool", isinstance(layer, MaxPool2d))
            note("average", isinstance(layer, AvgPool2d))
        note("map of 12", len(shape) == 3 and max(shape[1:]) == 12)
        note("map of 10 x 10 or more", len(shape) == 3 and min(shape[1:]) >= 10)
    note("events", isinstance(case.inputs, Events))
    driven = [n for n in (case.steps, network.t_drive) if n is not None]
    note("steps beyond 30", run.steps > 30)
    note("40 steps", 40 in driven)
    return found


def test_wide_cases_reach_the_corners():
    reached = Counter()

    @settings(max_examples=DRAWS)
    @given(strategies.cases(samples=2, wide=True))
    def draw(case):
        reached.update(corners(case))

    draw()
    print(sorted(reached.items()))
    missed = {name: (reached[name], least) for name, least in CORNERS.items() if reached[name] < least}
    assert missed == {} and reached.keys() == CORNERS.keys()


def test_plain_cases_have_neither_leak_nor_loop_but_the_numbers():
    """What the vector loops and the fused path may take is wide too."""
    reached = Counter()

    @settings(max_examples=100)
    @given(strategies.cases(samples=1, wide=True, plain=True, recurrent=False))
    def draw(case):
        reached.update(corners(case))

    draw()
    for name in ("v of 41 to 48 bits", "threshold beyond 2^31", "weight of 16 bits", "multiplier beyond 2^30"):
        assert reached[name] > 0, name
    assert not {"loop", "leak of more than 12 places", "u of more than 24 bits"} & reached.keys()


def test_other_cases_stay_small():
    """They are for many examples, and for shrinking."""

    @settings(max_examples=100)
    @given(strategies.cases(samples=2))
    def draw(case):
        assert not {"map of 12", "kernel of 7", "steps beyond 30", "sums beyond 32 bits"} & corners(case) or case.settle

    draw()
