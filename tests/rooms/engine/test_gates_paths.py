"""The gates of the fast paths: at each, the last value that fits and the first that does not, against `oracle`.

A gate that is one off still gives right numbers for almost every network. Here stand those for which it does not.
"""

import numpy as np
import oracle
import pytest
from test_narrow import fit, needs_vectors, run_both, width

from intsnn.engine.backends.fused import connections
from intsnn.engine.backends.fused.runner import prepare
from intsnn.engine.backends.stepwise.neuron_width import _Range, _settles
from intsnn.engine.backends.stepwise.plan import Plan
from intsnn.engine.inputs import Events
from intsnn.engine.program import lower
from intsnn.engine.simulation import simulate
from intsnn.errors import RangeError, UnsupportedError
from intsnn.formats.fixed import Fixed, Overflow, Rounding
from intsnn.kernels.fused.opcodes import Kind, Operation
from intsnn.layers import (
    IF,
    LIF,
    Affine,
    Conv2d,
    Decay,
    Flatten,
    Input,
    MaxPool2d,
    Neuron,
    Readout,
    Refractory,
    Scale,
    SignedIF,
    SumPool2d,
)
from intsnn.layers.schedule import Schedule
from intsnn.network.spiking import Network

BIT = Fixed(1, signed=False)


def agree(network, inputs, **options):
    """All paths of `simulate` give the outputs, spikes and membranes of the oracle; those outputs."""
    inputs = np.asarray(inputs)
    expected = oracle.simulate(network, inputs, **options)
    record = [f"{name}.{what}" for name in network.neurons for what in ("spikes", "v")]
    for path in ("reference", "step", "layer"):
        found = simulate(network, inputs, path=path, record=record, **options)
        assert found.outputs.tolist() == expected["outputs"], path
        for key, values in found.records.items():
            name, _, what = key.rpartition(".")
            rows = [s.traces[name]["v"] if what == "v" else s.history[name] for s in expected["samples"]]
            assert values.swapaxes(0, 1).tolist() == rows, (path, key)
    return found.outputs.tolist()


def fused(network, inputs, **options):
    """The fused path gives the outputs of the oracle."""
    inputs = np.asarray(inputs)
    expected = oracle.simulate(network, inputs, **options)["outputs"]
    assert prepare(network, **options)(inputs).outputs.tolist() == expected
    return expected


def kinds(network, inputs, **options):
    """Names of the operations of the fused path."""
    runner = prepare(network, **options)
    runner(np.asarray(inputs))
    (pool,) = runner._pools.values()
    return [Kind(number).name for number in pool.table.constants[0][:, Operation.KIND]]


def test_networks_of_spikes_alone_compile_no_more():
    """What knows all operations takes long to compile: it runs where one of them is met."""

    def kernel(*layers):
        runner = prepare(Network.sequential(Input((2, 3, 3), BIT), *layers, Readout(), t_drive=3), settle=True)
        runner(np.ones((2, 2, 3, 3), int))
        (pool,) = runner._pools.values()
        return pool.table.run_samples.__name__

    spikes = [Conv2d(np.ones((3, 2, 2, 2), int)), SignedIF(3, 3), MaxPool2d(2), Flatten(), Affine([[1, 2, 3]])]
    assert kernel(*spikes) == "run_samples"
    assert kernel(*spikes[:1], LIF(3, Decay.by_shift(1)), *spikes[2:]) == "run_all_samples"
    assert kernel(*spikes[:3]) == "run_all_samples"
    planes = Conv2d(np.ones((2, 1, 2, 2), int), groups=2)
    assert kernel(planes, *spikes[1:4], Affine([[1, 2]])) == "run_all_samples"


def not_fused(network, inputs, text, **options):
    """The fused path refuses; the others are right."""
    with pytest.raises(UnsupportedError, match=text):
        prepare(network, **options)(np.asarray(inputs))


# -- the type of a sum ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fmt, bias, value, kind",
    [
        (Fixed(15, signed=False), 0, 32767, np.int16),
        (Fixed(15, signed=False), 1, 32767, np.int32),  # 32768
        (Fixed(16), 0, -32768, np.int16),
        (Fixed(16), -1, -32768, np.int32),  # -32769
    ],
)
@pytest.mark.parametrize("convolution", [False, True])
def test_sums_of_16_bits(fmt, bias, value, kind, convolution):
    parts = {"bias": bias, "bias_mode": "step"}
    layer = Conv2d([[[[1]]]], **parts) if convolution else Affine([[1]], **parts)
    shape = (1, 1, 1) if convolution else (1,)
    neuron = IF(32768, v_format=Fixed(24)) if value > 0 else SignedIF(40000, 3, v_format=Fixed(24))
    network = Network.sequential(Input(shape, fmt), ("w", layer), ("n", neuron))
    assert Plan(lower(network, Schedule(3, 3, 3, 3)), "layer").dtypes["w"] is kind
    agree(network, np.reshape([value, 0, value // 2], (3, *shape)), steps=3)


@pytest.mark.parametrize("multiplier, bias, kind", [(2**31 - 1, 0, np.int32), (2**31 - 1, 1, np.int64),
                                                    (2**31, 0, np.int64), (-(2**31), -1, np.int64)])  # fmt: skip
def test_sums_of_32_bits(multiplier, bias, kind):
    layer = Affine([[1]], multiplier=multiplier, bias=bias, bias_mode="step")
    network = Network.sequential(Input((1,), BIT), ("w", layer), ("o", Readout()))
    assert Plan(lower(network, Schedule(2, 2, 2, 2)), "layer").dtypes["w"] is kind
    assert agree(network, [[1], [0]], steps=2) == [[2 * (multiplier + bias)], [2 * bias]]


def test_multipliers_beyond_32_bits_on_small_sums():
    """The sum fits 32 bits, its factor does not."""
    network = Network.sequential(Input((1,), BIT), ("w", Affine([[-1]], multiplier=2**31)), ("o", Readout()))
    assert agree(network, [[1]], steps=2) == [[-(2**32)]]


def test_current_shifted_to_the_63rd_bit():
    def network(multiplier):
        neuron = Neuron(5, u_format=Fixed(48), u_shift=31, v_format=Fixed(48))
        return Network.sequential(Input((1,), BIT), Affine([[1]], multiplier=multiplier), ("n", neuron), t_drive=2)

    for most in (2**31 - 1, -(2**31)):  # times 2**31: the ends of 63 bits
        agree(network(most), [[1]])
        with pytest.raises(RangeError, match="63 bits"):
            network(most + (1 if most > 0 else -1))


# -- the input --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", [Fixed(4), Fixed(4, narrow=True), Fixed(4, signed=False), Fixed(8), BIT])
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int64])
def test_ends_of_the_input_format(fmt, dtype):
    network = Network.sequential(Input((1,), fmt), Affine([[1]]), ("o", Readout()))
    information = np.iinfo(dtype)

    def forms(value):
        yield np.full((1, 1), value, dtype)
        yield np.full((2, 1, 1), value, dtype)
        yield Events([0, 1], [0, 0], [0, 0], 2, 1, np.array([value, value], dtype))

    for end, beyond in ((fmt.min, fmt.min - 1), (fmt.max, fmt.max + 1)):
        for inputs in forms(end):
            assert simulate(network, inputs, steps=2).outputs.tolist() == [[2 * end]]
        if information.min <= beyond <= information.max:
            for inputs in forms(beyond):
                with pytest.raises(RangeError, match=f"is {beyond};"):
                    simulate(network, inputs, steps=2)


@pytest.mark.parametrize("low, within", [(-16, True), (-15, True), (-17, False), (-14, False)])
def test_frames_of_16_and_17(low, within):
    """A frame of 16, or of -16, is listed as so many events; of 17 it is a value."""
    layer = Input((1,), Fixed(5), 1, low + 16)  # codes of -16 to 15
    assert (layer.low, layer.high) == (low, low + 31)
    for multiplier in (1, -1):
        neuron = SignedIF(7, 3, v_format=Fixed(24))
        network = Network.sequential(layer, Affine([[3 * multiplier]]), neuron, Affine([[1]]), Readout())
        frames = np.array([15, -16, 15, 15, -16, 1, 0, -16])[:, None, None]
        fused(network, frames)
        assert ("FEED" not in kinds(network, frames)) is within


def test_events_of_samples_behind_the_first_block():
    rng = np.random.default_rng(0)
    dense = rng.integers(0, 2, (4, 7, 3))
    step, sample, index = np.nonzero(dense)
    network = Network.sequential(Input((3,), BIT), Affine([[1, 10, 100]]), ("o", Readout()))
    events = Events(step, sample, index, 4, 7)
    for size in (1, 2, 3, 7):
        found = simulate(network, events, batch_size=size).outputs.ravel()
        assert found.tolist() == (dense.sum(axis=0) @ [1, 10, 100]).tolist()


def test_no_sample_leaves_no_neuron_dead():
    network = Network.sequential(Input((1,), BIT), Affine([[1]]), ("n", IF(2)), t_drive=3)
    report = simulate(network, np.zeros((0, 1), int)).layers["n"]
    assert (report.dead, report.always_on, report.spikes, report.overflows, report.peak_v) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("rounding", [Rounding.TRN, Rounding.RND, Rounding.RND_CONV])
@pytest.mark.parametrize("factor, places", [(3, 2), (45, 6), (1, 1)])
def test_refractory_traces_decay_on_every_path(rounding, factor, places):
    refractory = Refractory("trace", amplitude=37, decay=Decay.by_multiply(factor, places, rounding))
    neuron = Neuron(20, v_format=Fixed(24), reset="none", v_decay=Decay.by_shift(1), refractory=refractory)
    network = Network.sequential(Input((1,), Fixed(6, signed=False)), Affine([[1]]), ("n", neuron))
    agree(network, np.array([30, 40, 50, 3, 0, 60, 60, 20, 9, 63, 63, 63])[:, None, None])


# -- the fused path ---------------------------------------------------------------------------------


def dense(weights, fmt, neuron=None):
    neuron = neuron or IF(1 << 20, v_format=Fixed(48))
    return Network.sequential(Input((len(weights),), fmt), Affine([weights]), neuron, Affine([[1]]), Readout())


def test_fused_sums_of_32_bits():
    """Unsigned codes of 16 bits: weights of 32,768 in all stay below 2**31, one more takes 64 bits."""
    last = [127] * 258 + [2]
    assert sum(last) * 65535 < 1 << 31 <= (sum(last) + 1) * 65535
    full = np.full((1, 259), 65535)
    for end, wide in ((2, False), (3, True)):
        network = dense([*last[:-1], end], Fixed(16, signed=False))
        fused(network, full, steps=3)
        assert ("CONNECT_WIDE" in kinds(network, full, steps=3)) is wide
    last = [-127] * 516 + [-3]  # signed codes: 65,535 * 32,768
    full = np.full((1, 517), -32768)
    for end, wide in ((-3, False), (-4, True)):
        network = dense([*last[:-1], end], Fixed(16))
        fused(network, full, steps=2)
        assert ("CONNECT_WIDE" in kinds(network, full, steps=2)) is wide


def test_fused_multipliers_and_weights():
    def network(weight, multiplier):
        return Network.sequential(
            Input((1,), BIT), Affine([[weight]], multiplier=multiplier, weight_format=Fixed(9)),
            IF(3, v_format=Fixed(48)), Affine([[1]]), Readout(),
        )  # fmt: skip

    fused(network(127, 2**31 - 1), [[1]], steps=2)
    fused(network(-127, -(2**31 - 1)), [[1]], steps=2)
    assert "CURRENT" in kinds(network(127, 1), [[1]], steps=2)
    for weight in (128, -128):  # no byte
        fused(network(weight, 2**31 - 1), [[1]], steps=2)
        assert "CONNECT_VALUES" in kinds(network(weight, 1), [[1]], steps=2)
    not_fused(network(1, 2**31), [[1]], "beyond 31 bits", steps=2)
    not_fused(network(1, -(2**31)), [[1]], "beyond 31 bits", steps=2)


def test_fused_counts_of_15_bits():
    def network(cap):
        neuron = IF(1, max_count=cap, v_format=Fixed(48))
        return Network.sequential(Input((1,), BIT), Affine([[1]]), neuron, Affine([[1]]), Readout())

    steps = (1 << 15) + 3
    assert prepare(network((1 << 15) - 1), steps=steps)([[1]]).outputs.tolist() == [[(1 << 15) - 1]]
    not_fused(network(1 << 15), [[1]], "more than 15", steps=steps)
    assert simulate(network(1 << 15), [[1]], steps=steps).outputs.tolist() == [[1 << 15]]
    assert prepare(network(None), steps=(1 << 15) - 1)([[1]]).outputs.tolist() == [[(1 << 15) - 1]]
    not_fused(network(None), [[1]], "more than 15", steps=1 << 15)


@pytest.mark.parametrize("largest", [127, 126, 100, 7])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_of_rows_in_16_bits(monkeypatch, largest, sign):
    """As many weights as 16 bits surely hold, and more: parts are added in 32 bits in time."""
    monkeypatch.setattr(connections, "DENSE_SHARE", dict.fromkeys(connections.DENSE_SHARE, (1.0,) * 3))
    safe = ((1 << 15) - 1) // largest
    size = 2 * safe + 9
    network = Network.sequential(
        Input((size,), BIT), Affine(np.full((2, size), sign * largest)), SignedIF(largest, v_format=Fixed(48)),
        Affine([[1, 1]]), Readout(),
    )  # fmt: skip
    frames = np.zeros((2, 5, size), np.uint8)
    for b, events in enumerate((safe - 3, safe, safe + 1, safe + 5, size)):
        frames[0, b, :events] = 1
    assert prepare(network)(frames).outputs.tolist() == simulate(network, frames).outputs.tolist()
    charge = simulate(network, frames, record=("affine_1.current",)).records["affine_1.current"][0, :, 0].tolist()
    assert charge == [sign * largest * int(frame.sum()) for frame in frames[0]]


@pytest.mark.parametrize("kernel, fits", [((4, 4), True), ((2, 8), True), ((1, 17), False), ((3, 6), False)])
@pytest.mark.parametrize("signed", [False, True])
def test_pools_that_are_listed(kernel, fits, signed):
    """A pool of 16 spikes is listed, of 17 it is a value."""
    neuron = SignedIF(2, 9, v_format=Fixed(24)) if signed else IF(2, v_format=Fixed(24))
    network = Network.sequential(
        Input((1, *kernel), Fixed(4)), Conv2d([[[[1]]]]), neuron, SumPool2d(kernel), Flatten(), Affine([[5]]),
        IF(3, v_format=Fixed(24)), Affine([[2]]), Readout(), t_drive=6,
    )  # fmt: skip
    frames = np.full((6, 1, 1, *kernel), 3)
    frames[3:] = -8
    fused(network, frames)
    assert ("SUM_POOL" in kinds(network, frames)) is fits and ("SUM_VALUES" in kinds(network, frames)) is not fits


@pytest.mark.parametrize("last, within", [(1, True), (2, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_planes_of_16_bits(last, within, sign):
    """Channels that each meet weights of 32,767 in all are summed in 16 bits, of 32,768 not."""
    row = np.array([127] * 258 + [last]) * sign
    network = Network.sequential(
        Input((2, 1, 259), BIT), Conv2d(np.stack([row, -row])[:, None, None], groups=2), Readout()
    )
    frames = np.ones((3, 1, 2, 1, 259), int)
    assert fused(network, frames) == [[3 * sign * (32766 + last), -3 * sign * (32766 + last)]]
    assert ("CONNECT_PLANES" in kinds(network, frames)) is within


def test_values_of_32_bits():
    """What other neurons read, pools sum and factors make lies in 32 bits; the first that does not fit is refused."""

    def charge(bias, *read):
        return Network.sequential(Input((1,), BIT), Affine([[1]], bias=bias, bias_mode="step"), *read, Readout())

    neuron = IF(1 << 30, reset="zero", compare=">")
    for bias, wide in (((1 << 31) - 2, False), ((1 << 31) - 1, True)):
        fused(charge(bias, neuron), [[1]], steps=3)
        assert ("CONNECT_WIDE" in kinds(charge(bias, neuron), [[1]], steps=3)) is wide
    fused(charge((1 << 31) - 2), [[1]], steps=3)
    not_fused(charge((1 << 31) - 1), [[1]], "the sums of affine_1 need more than 32 bits", steps=3)

    def pooled(fmt, multiplier=1):
        pool = SumPool2d((1, 2)), Scale(multiplier)
        return Network.sequential(Input((1, 1, 2), fmt), *pool, IF(1 << 30, compare=">"), Readout())

    edge = np.full((1, 1, 1, 2), -(1 << 30))
    fused(pooled(Fixed(31)), edge, steps=2)
    not_fused(pooled(Fixed(31, signed=False)), -edge, "the sums of sumpool2d_1 need more than 32 bits", steps=2)
    fused(pooled(Fixed(1, signed=False), (1 << 30) - 1), edge // edge, steps=2)
    not_fused(pooled(BIT, 1 << 30), edge // edge, "the sums of scale_2 need more than 32 bits", steps=2)
    not_fused(pooled(BIT, 1 << 31), edge // edge, "scale_2 has multipliers beyond 31 bits", steps=2)


def test_totals_of_32_bits():
    """A max-pool keeps running totals: of one step they fit, of two they do not."""
    network = Network.sequential(Input((1, 1, 2), Fixed(31, signed=False)), MaxPool2d((1, 2)), Readout())
    full = np.array([[[[(1 << 31) - 1, 5]]]])
    assert fused(network, full, steps=1) == [[(1 << 31) - 1]]
    not_fused(network, full, "the totals of maxpool2d_1 need more than 32 bits", steps=2)


def test_codes_of_32_bits():
    def network(fmt):
        return Network.sequential(
            Input((1,), fmt), IF(1 << 40, threshold_format=Fixed(48), v_format=Fixed(48)), Readout()
        )

    for fmt in (Fixed(31, signed=False), Fixed(32)):
        fused(network(fmt), [[fmt.max], [fmt.min]], steps=1100)
    for fmt in (Fixed(33), Fixed(32, signed=False)):
        not_fused(network(fmt), [[1]], "the codes of input_0 need more than 32 bits", steps=2)


@pytest.mark.parametrize("weight, last", [(8, 31), (-1, 256)])
def test_fused_membranes_that_cannot_overflow(weight, last):
    """Nine bits hold -256 to 255: 31 times 8, 256 times -1, and no step more."""
    network = Network.sequential(
        Input((1,), BIT), Affine([[weight]]), IF(1, v_format=Fixed(9)), Affine([[1]]), Readout()
    )
    for steps, plain in ((last, True), (last + 1, False)):
        fused(network, [[1]], steps=steps)
        assert ("FIRE_GENERAL" in kinds(network, [[1]], steps=steps)) is not plain


# -- the width of a neuron --------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [32767, 32768, 40000, 65536])
def test_refractory_counters_of_16_bits(steps):
    neuron = IF(1, v_format=Fixed(8), refractory=Refractory("counter", steps=steps))
    network = Network.sequential(Input((1,), BIT), Affine([[1]]), ("n", neuron))
    assert agree(network, [[1]], steps=30) == [[1]]


@needs_vectors
def test_widths_at_the_refractory_counter():
    def neuron(steps):
        return IF(1, v_format=Fixed(8), refractory=Refractory("counter", steps=steps))

    assert width(neuron((1 << 15) - 1), 0, 1) == 16
    assert width(neuron(1 << 15), 0, 1) == 32


def test_totals_bound_nothing_behind_a_lossy_sum():
    """An unsigned sum drops what comes back: the membrane climbs with every spike, whatever the counts before it."""
    frames = np.array([1, -1] * 20)[:, None, None]
    network = Network.sequential(
        Input((1,), Fixed(2)), Affine([[1]]), SignedIF(1, 3, v_initial=0), Affine([[10000]], weight_format=Fixed(16)),
        ("n", IF(32000, v_format=Fixed(48), acc_format=Fixed(14, signed=False))),
    )  # fmt: skip
    assert agree(network, frames) == [[6]]


def test_late_resets_lift_the_membrane():
    """A negative spike whose reset comes a step later adds a threshold to what then flows in."""
    frames = np.array([1000] + [-1000] * 40 + [1000] * 3)[:, None, None]
    neuron = LIF(
        32000, Decay.by_shift(5), v_initial=32000, v_format=Fixed(48), signed=True, reset_delay=1
    )  # fmt: skip
    agree(Network.sequential(Input((1,), Fixed(11, narrow=True)), Affine([[1]]), ("n", neuron)), frames)


@needs_vectors
def test_widths_at_late_resets():
    """A spike subtracts theta from what flows in, one taken back adds it."""

    def neuron(theta, **parts):
        return LIF(theta, Decay.by_multiply(1, 1), reset_delay=1, **parts)

    # where a step adds c at most, x <= x / 2 + 1 + c holds up to 2 * (c + 1)
    assert width(neuron(16282, signed=True), 0, 100, counts=False) == 16
    assert width(neuron(16283, signed=True), 0, 100, counts=False) == 32
    assert width(neuron(16383), 0, 100, counts=False) == 16  # downwards: theta alone, and one more number
    assert width(neuron(16384), 0, 100, counts=False) == 32
    assert width(neuron(32767, reset="zero"), 0, 100, counts=False) == 16


@needs_vectors
def test_second_overflow_of_a_step():
    """Taking a spike back adds a threshold: where that could leave the format again, the general neuron counts it."""
    for negative, vectors in ((28, True), (29, False)):  # 28 + 100 - 1 is the end of eight bits
        neuron = Neuron(100, v_format=Fixed(8), signed=True, v_negative=negative)
        assert (fit(neuron, -90, 90) is not None) is vectors
        network = Network.sequential(Input((1,), Fixed(8, narrow=True)), Affine([[1]]), ("n", neuron))
        frames = np.array([100, 28, 28, 100, 28, -90, 127, 127, 28, 28, 1, 28])[:, None, None]
        agree(network, frames)


def test_negative_spikes_leave_a_high_membrane():
    """v_negative = theta = 30,000: every spike but the first is taken back, and v climbs beyond 16 bits."""
    neuron = LIF(30000, Decay.by_shift(5), v_format=Fixed(32), signed=True, v_negative=30000)
    network = Network.sequential(Input((1,), Fixed(11, signed=False)), Affine([[1]]), ("n", neuron))
    frames = np.full((400, 1, 1), 940)
    agree(network, frames)


@needs_vectors
def test_widths_at_the_start():
    """Where v may start, or a negative spike may leave it, has to fit, too."""
    quiet = {"decay": Decay.by_shift(1), "v_format": Fixed(32)}
    assert width(LIF(100, **quiet, v_initial=32767), 0, 9, counts=False) == 16
    assert width(LIF(100, **quiet, v_initial=32768), 0, 9, counts=False) == 32
    assert width(LIF(100, **quiet, v_initial=-32768), -9, 9, counts=False) == 16
    assert width(LIF(100, **quiet, v_initial=-32769), -9, 9, counts=False) == 32
    for negative, bits in ((16383, 16), (16384, 32)):
        assert width(LIF(16384, **quiet, signed=True, v_negative=negative), 0, 9) == bits


@needs_vectors
@pytest.mark.parametrize("theta, strict, bits", [(32766, True, 16), (32767, True, 32), (32767, False, 16),
                                                 (32768, False, 32), (2**31 - 2, True, 32), (2**31 - 1, True, 64),
                                                 (2**31 - 1, False, 32), (2**31, False, 64)])  # fmt: skip
def test_widths_at_the_threshold(theta, strict, bits):
    """With > the least v that fires is one above the threshold."""
    parts = {"threshold_format": Fixed(48), "reset": "none", "compare": ">" if strict else ">="}
    assert width(Neuron(theta, v_format=Fixed(16), **parts), -9, 9, steps=2) == bits
    neuron = Neuron(theta, v_format=Fixed(40), v_initial=theta - 1, **parts)
    network = Network.sequential(Input((1,), Fixed(2)), Affine([[1]]), ("n", neuron))
    agree(network, np.array([0, 1, 0, 1, -1, -1, 0])[:, None, None])


def test_thresholds_out_of_reach_never_fire():
    """v ends at 32,767, and > 32,767 would need more bits than the membrane has."""
    neuron = Neuron(32767, v_format=Fixed(16), reset="none", compare=">")
    network = Network.sequential(Input((1,), Fixed(15, signed=False)), Affine([[1]]), ("n", neuron))
    assert agree(network, [[32767]], steps=5) == [[0]]


@needs_vectors
def test_widths_at_a_cap_and_a_count():
    leaky = LIF(60, Decay.by_shift(4))
    assert width(leaky, -20, 30, steps=32767) == 16
    assert width(leaky, -20, 30, steps=32768) == 32
    capped = LIF(60, Decay.by_shift(4), max_count=32767)
    assert width(capped, -20, 30, steps=10**6) == 16
    assert width(LIF(60, Decay.by_shift(4), max_count=32768), -20, 30, steps=10**6) == 32


@needs_vectors
@pytest.mark.parametrize("low, high, bits", [(-32768, 0, 16), (-32769, 0, 32), (0, 32767, 16), (0, 32768, 32),
                                             (128 - 2**31, 0, 32), (127 - 2**31, 0, 64), (0, 2**31 - 128, 32),
                                             (0, 2**31 - 127, 64)])  # fmt: skip
def test_widths_at_the_charge_of_a_step(low, high, bits):
    """16 bits have a saturating addition; beside it, what is added to v (eight bits) needs room."""
    assert width(Neuron(5, v_format=Fixed(8), reset="none"), low, high, current_type=np.int64) == bits


@needs_vectors
def test_leaks_hold_what_the_proof_says():
    """At the last charge for which a leaking membrane is proven to stay within 16 bits, and the next one."""
    for leak, most in ((Decay.by_shift(5), 1022), (Decay.by_multiply(31, 5), 1022), (Decay.by_multiply(1, 1), 16382)):
        assert width(LIF(1 << 30, leak), 0, most, steps=10**6, counts=False) == 32  # the threshold itself
        assert width(LIF(9, leak, reset="none"), 0, most, steps=10**6, counts=False) == 16, leak
        assert width(LIF(9, leak, reset="none"), 0, most + 1, steps=10**6, counts=False) == 32, leak
    assert width(LIF(9, Decay.by_subtract(500), reset="none"), 0, 500, steps=10**6, counts=False) == 16
    assert width(LIF(9, Decay.by_subtract(500), reset="none"), 0, 501, steps=10**6, counts=False) == 32


@pytest.mark.parametrize("rounding", [mode for mode in Rounding if mode is not Rounding.STOCHASTIC])
def test_no_leak_leaves_where_it_settles(rounding):
    """The range is held from every start in it, under the least and the most charge, for ever: x in, x' in."""
    leaks = [Decay.by_shift(k, rounding, least) for k in (0, 1, 3) for least in (False, True)]
    leaks += [Decay.by_multiply(m, k, rounding) for m, k in ((0, 2), (1, 1), (3, 2), (5, 3), (15, 4))]
    leaks += [Decay.by_subtract(n) for n in (0, 3, 9)]
    for leak in leaks:
        for low, high in ((-9, 9), (0, 7), (-3, 0), (-1, 2)):
            if leak.kind == "subtract" and max(-low, high) > leak.amount:
                continue
            where = _settles(leak, _Range(low, high), _Range(0, 0), 10**9)
            for x in range(where.low, where.high + 1):
                y = oracle.leak(x, leak, 0)
                assert where.low <= y + low and y + high <= where.high, (leak, low, high, x)


def test_leaks_reach_the_top_of_where_they_settle():
    """From 0 under a constant charge: what is proven is not more than one unit of the leak above what is reached."""
    for leak, charge in ((Decay.by_shift(5), 700), (Decay.by_shift(3, Rounding.RND), 40), (Decay.by_multiply(7, 3), 9)):
        x = 0
        for _ in range(500):
            x = oracle.leak(x, leak, 0) + charge
        top = _settles(leak, _Range(0, charge), _Range(0, 0), 10**9).high
        assert x <= top <= x + 2 * (1 << leak.shift)


@needs_vectors
@pytest.mark.parametrize("bits, low, places", [(20, 11, 12), (20, 12, 13), (24, 7, 8), (24, 8, 9), (28, 4, 5),
                                               (30, 1, 3), (30, 2, 3), (16, 15, 17), (16, 17, 20)])  # fmt: skip
def test_products_of_a_leak(bits, low, places):
    """A state of `bits` bits times a factor about 2**low: products about 2**31, where 32 bits end.

    In lanes of 16 bits neither a product of 64 bits nor a factor of 16 has room.
    """
    for factor in ((1 << low) - 1, 1 << low, (1 << low) + 1, (1 << low) + (1 << low - 1), (1 << places) - 1):
        for rounding in (Rounding.TRN, Rounding.RND_CONV):
            leak = Decay.by_multiply(factor, places, rounding)
            layer = Neuron(1, v_decay=leak, v_format=Fixed(bits), reset="none")
            top = 1 << (bits - 1)
            assert run_both(layer, -top, top - 1, factor, 64, 1, 1, 12, 1) is not None


@needs_vectors
def test_widths_at_the_factor_of_a_leak():
    """Lanes of 16 bits hold any factor over 2**16, and one of 15 bits over more."""
    for factor, places, bits in ((40000, 16, 16), (65535, 16, 16), (32767, 17, 16), (32768, 17, 32), (40000, 17, 32)):
        leak = Decay.by_multiply(factor, places)
        assert width(Neuron(5, v_decay=leak, v_format=Fixed(16), reset="none"), -9, 9) == bits, (factor, places)


@needs_vectors
def test_widths_at_a_leak_by_channel():
    """The channel that needs most decides: the last number that fits among others, and the first that does not."""

    def bits(leak, v_bits=16, most=9, steps=10):
        layer = Neuron(5, v_decay=leak, v_format=Fixed(v_bits), reset="none")
        assert run_both(layer, -most, most, 3, channels=3, pixels=2, steps=8) is not None
        return width(layer, -most, most, steps=steps, shape=(3,))

    assert bits(Decay.by_shift([1, 15, 0])) == 16 and bits(Decay.by_shift([1, 16, 0])) == 32
    assert bits(Decay.by_shift([1, 31, 0], "RND")) == 32
    # over 2**16 any factor, at places of its own; over more one of 15 bits, once all have the same places
    assert bits(Decay.by_multiply([1, 65535, 65536], [0, 16, 16])) == 16
    assert bits(Decay.by_multiply([1, 32767, 3], [3, 17, 17])) == 16
    assert bits(Decay.by_multiply([1, 32767, 3], [2, 17, 17])) == 32
    assert bits(Decay.by_multiply([1, 32768, 3], [17, 17, 17])) == 32
    assert bits(Decay.by_multiply([1, 3, 2**31 - 1], [2, 4, 31])) == 32
    assert bits(Decay.by_multiply([1, 3, 2**31], [2, 4, 31])) == 64
    assert bits(Decay.by_subtract([1, 32767, 0])) == 16 and bits(Decay.by_subtract([1, 32768, 0])) == 32


@needs_vectors
def test_leaks_by_channel_hold_what_the_proof_says():
    """The channel that forgets least bounds the membrane."""
    for leak in (Decay.by_shift([1, 5, 3]), Decay.by_multiply([1, 31, 7], [1, 5, 3]), Decay.by_multiply([1, 31, 0], 5)):
        for most, bits in ((1022, 16), (1023, 32)):
            layer = LIF(9, leak, reset="none")
            assert width(layer, 0, most, steps=10**6, shape=(3,), counts=False) == bits, leak
    assert _settles(Decay.by_subtract([500, 9]), _Range(0, 9), _Range(0, 0), 10**6).high < 32
    assert _settles(Decay.by_subtract([500, 8]), _Range(0, 9), _Range(0, 0), 10**6).high == 9 * 10**6


@needs_vectors
@pytest.mark.parametrize("mode", [Overflow.SAT, Overflow.WRAP])
@pytest.mark.parametrize("v_bits", [15, 16, 17, 31, 32, 33])
def test_states_at_the_width_of_the_lanes(mode, v_bits):
    top = 1 << (v_bits - 1)
    layer = Neuron(1000, v_format=Fixed(v_bits), v_overflow=mode, reset="none")
    run_both(layer, -top, top - 1, v_bits, current_type=np.int64 if v_bits > 31 else np.int32)
    for shift in (0, 1, 15):
        layer = Neuron(1000, u_format=Fixed(v_bits), u_overflow=mode, u_shift=shift, reset="none")
        run_both(layer, -(top >> shift), (top - 1) >> shift, v_bits, current_type=np.int64 if v_bits > 31 else np.int32)
