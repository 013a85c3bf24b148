"""Neurons: Loihi to the letter, presets, the level law of integrate-and-fire, and what is refused."""

import itertools

import numpy as np
import pytest

from intsnn.engine.simulation import simulate
from intsnn.errors import FormatError, RangeError, ShapeError
from intsnn.formats.fixed import Fixed, Overflow, Rounding
from intsnn.layers import (
    IF,
    LIF,
    QFFS,
    Affine,
    CaLIF,
    Conv2d,
    CubaLIF,
    Decay,
    Input,
    Neuron,
    Refractory,
    SignedIF,
    loihi,
)  # fmt: skip
from intsnn.network.spiking import Network

PATHS = ("reference", "step", "layer")


def drive(neuron, charges, path="reference", fmt=Fixed(20), weight=1, record=("spikes", "v")):  # noqa: B008
    """Run one neuron on a list of charges: {quantity: list}."""
    network = Network.sequential(Input((1,), fmt), Affine([[weight]]), ("n", neuron))
    found = simulate(network, np.array(charges)[:, None, None], record=record, path=path)
    return {key.split(".")[1]: values.ravel().tolist() for key, values in found.records.items()}


# -- Loihi ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_loihi_current_decays(path):
    found = drive(loihi(vth=1 << 16, du=2047, dv=0), [128] + [0] * 7, path, record=["u"])
    assert found["u"] == [8192, 4096, 2048, 1024, 512, 256, 128, 64]


@pytest.mark.parametrize("path", PATHS)
def test_loihi_negative_membrane(path):
    """Decay rounds toward zero, and there is no lower threshold."""
    found = drive(loihi(vth=1 << 16, du=0, dv=2048), [-128] + [0] * 7, path)
    assert found["v"] == [-8192, -12286, -14331, -15351, -15859, -16111, -16235, -16295]
    assert not any(found["spikes"])


@pytest.mark.parametrize("path", PATHS)
def test_loihi_bias_and_strict_threshold(path):
    """Step 3 reaches 512 = threshold and must not fire."""
    found = drive(loihi(vth=8, du=0, dv=0, bias=2 << 6), [0] * 15, path)
    assert np.flatnonzero(found["spikes"]).tolist() == [4, 9, 14]
    assert found["v"][:6] == [128, 256, 384, 512, 0, 128]


@pytest.mark.parametrize("path", PATHS)
def test_loihi_overflow(path):
    """u wraps into (-2^23, 2^23], v saturates at ±(2^23 - 1); 4095 removes u in one step."""
    top = 1 << 23
    found = drive(
        loihi(vth=(1 << 17) - 1, du=4095, dv=0), [top >> 6, -(top >> 6), (top >> 6) + 1], path, record=("u", "v")
    )
    assert found["u"] == [top, top, 64 - top]
    assert found["v"] == [0, 0, 64 - top]  # saturated at 2^23 - 1, over the threshold: spike and reset
    found = drive(loihi(vth=(1 << 17) - 1, du=4095, dv=0), [-(top >> 6) + 1] * 3, path)
    assert found["v"] == [64 - top, 1 - top, 1 - top]


def test_loihi_parameters():
    for options in ({"vth": 1 << 17, "du": 0, "dv": 0}, {"vth": 1, "du": 4096, "dv": 0}, {"vth": 1, "du": 0, "dv": -1}):
        with pytest.raises(RangeError, match="loihi"):
            loihi(**options)


# -- parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "neuron, charges, spikes, v",
    [
        (IF(10), [10, 9, 1, 25, 0, 0], [1, 0, 1, 1, 1, 0], [0, 9, 0, 15, 5, 5]),
        (IF(10, compare=">"), [10, 1, 0], [0, 1, 0], [10, 1, 1]),
        (IF(10, reset="zero"), [25, 9, 1], [1, 0, 1], [0, 9, 0]),
        (IF(10, reset="none"), [25, -16, 1], [1, 0, 1], [25, 9, 10]),
        (IF(10, reset_delay=1), [12, 0, 9, 0], [1, 0, 1, 0], [12, 2, 11, 1]),
        (IF(10, reset="zero", reset_delay=1), [12, 3, 8, 0], [1, 0, 1, 0], [12, 3, 11, 0]),
        (IF(10, max_count=2), [10, 10, 10, 10], [1, 1, 0, 0], [0, 0, 10, 20]),
        (IF(10, max_spikes_per_step=3), [35, 25, 9], [3, 3, 0], [5, 0, 9]),
        (IF(10, max_spikes_per_step=3, compare=">"), [30, 1], [2, 1], [10, 1]),
        (IF(10, max_spikes_per_step=3, max_count=4), [35, 25], [3, 1], [5, 20]),
        (SignedIF(10, v_initial=0), [-5, 15, -1, -11, 0], [0, 1, -1, 0, 0], [-5, 0, 9, -2, -2]),
        (SignedIF(10, v_initial=0, v_negative=-10), [10, -10, -1, 0], [1, 0, -1, 0], [0, -10, -1, -1]),
        (SignedIF(10, v_initial=0, max_spikes_per_step=3), [30, -25, -9], [3, -3, 0], [0, 5, -4]),
        (LIF(100, Decay.by_shift(1)), [7, 0, 0, -7, 0], [0] * 5, [7, 4, 2, -6, -3]),
        (LIF(100, Decay.by_shift(3)), [7, 0, 0], [0] * 3, [7, 7, 7]),
        (LIF(100, Decay.by_shift(3, at_least_one=True)), [3, 0, 0, 0, -1, 0], [0] * 6, [3, 2, 1, 0, -1, 0]),
        (LIF(100, Decay.by_multiply(3, 2)), [9, 0, -9], [0] * 3, [9, 6, -5]),
        (LIF(100, Decay.by_multiply(3, 2, Rounding.TRN_ZERO)), [-9, 0, 0], [0] * 3, [-9, -6, -4]),
        (LIF(100, Decay.by_subtract(4)), [9, 0, 0, 0, -3, 0], [0] * 6, [9, 5, 1, 0, -3, 0]),
        (IF(10, v_format=Fixed(5)), [9, 9, -40, -1], [0, 1, 0, 0], [9, 5, -16, -16]),
        (IF(10, v_format=Fixed(5), v_overflow=Overflow.SAT_SYM), [-40, 0], [0, 0], [-15, -15]),
        (IF(10, v_format=Fixed(5), v_overflow=Overflow.WRAP), [9, 9, 0], [0, 0, 0], [9, -14, -14]),
        (IF(10, v_format=Fixed(5, signed=False)), [-3, 5, -9], [0] * 3, [0, 5, 0]),
        (IF(10, acc_format=Fixed(4)), [30, 30, -30], [0, 1, 0], [7, 4, -4]),
        (IF(10, bias=4), [0, 0, 0, 0], [0, 0, 1, 0], [4, 8, 2, 6]),
        (IF(10, refractory=Refractory("counter", steps=2)), [12, 9, 9, 9], [1, 0, 0, 1], [2, 2, 2, 1]),
        (
            IF(10, refractory=Refractory("trace", amplitude=6, decay=Decay.by_shift(1))), [10, 10, 3, 0],
            [1, 0, 1, 0], [0, 10, 3, 3],
        ),
    ],
)  # fmt: skip
def test_parts(neuron, charges, spikes, v, path):
    assert drive(neuron, charges, path) == {"spikes": spikes, "v": v}


BY_CHANNEL = {
    "shifts": Decay.by_shift([0, 1, 3, 31]),
    "rounded shifts": Decay.by_shift([0, 1, 3, 31], Rounding.RND_CONV),
    "shifts by at least one": Decay.by_shift([0, 1, 3, 31], Rounding.RND_ZERO, at_least_one=True),
    "factors": Decay.by_multiply([0, 1, 3, 4], 2),
    "factors of their own places": Decay.by_multiply([0, 3, 5, 4095], [0, 2, 3, 12], Rounding.RND_INF),
    "places": Decay.by_multiply(1, [0, 1, 2, 7], Rounding.TRN_ZERO),
    "amounts": Decay.by_subtract([0, 1, 4, 99]),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("leak", BY_CHANNEL.values(), ids=BY_CHANNEL)
def test_leaks_by_channel_are_those_of_the_channels(leak, path):
    """Every leak of a neuron, in dense layers and in maps: each channel moves as a layer with its leak alone."""
    charges = [37, -60, 5, 0, 90, -3, 0, 0, 41]

    def neuron(decay):
        trace = Refractory("trace", amplitude=20, decay=decay)
        yield LIF(50, decay)
        yield CubaLIF(50, decay, Decay.by_shift(2), Fixed(12))
        yield LIF(50, Decay.by_subtract(1), refractory=trace)

    def each(decay):
        numbers = [np.broadcast_to(n, 4).tolist() for n in (decay.shift, decay.multiplier, decay.amount)]
        return [Decay(decay.kind, *n, decay.rounding, decay.at_least_one) for n in zip(*numbers, strict=True)]

    alone = [list(neuron(one)) for one in each(leak)]
    for n, together in enumerate(neuron(leak)):
        dense = Network.sequential(Input((1,), Fixed(20)), Affine([[1]] * 4), ("n", together))
        maps = Network.sequential(Input((1, 2, 1), Fixed(20)), Conv2d(np.ones((4, 1, 1, 1), int)), ("n", together))
        data = np.array(charges)[:, None, None]
        for network, shape in ((dense, (1,)), (maps, (1, 2, 1))):
            given = np.broadcast_to(data.reshape(-1, *[1] * (len(shape) + 1)), (len(charges), 1, *shape))
            found = simulate(network, given, record=("spikes", "v"), path=path).records
            for c in range(4):
                right = drive(alone[c][n], charges, path)
                for what in ("spikes", "v"):
                    rows = found[f"n.{what}"].reshape(len(charges), 4, -1)[:, c].T.tolist()
                    assert rows == [right[what]] * len(rows), (what, c)


@pytest.mark.parametrize("path", PATHS)
def test_current_based_neuron(path):
    neuron = CubaLIF(20, Decay.by_shift(1), Decay.by_multiply(3, 2), u_format=Fixed(6), u_shift=1)
    found = drive(neuron, [8, 0, 40, 0], path, record=("u", "v", "spikes"))
    assert found["u"] == [16, 8, 31, 16]  # 84 saturates at 31
    assert found["v"][:2] == [16, 0]


@pytest.mark.parametrize("path", PATHS)
def test_bias_of_the_neuron_ends_with_the_drive(path):
    network = Network.sequential(Input((1,)), Affine([[0]]), ("n", IF(100, bias=3)), t_drive=2)
    found = simulate(network, [[0]], steps=4, record="v", path=path)
    assert found.records["n.v"].ravel().tolist() == [3, 6, 6, 6]


def test_presets():
    assert IF(7).preset == "IF" and LIF(7, Decay()).preset == "LIF" and loihi(1, 0, 0).preset == "loihi"
    signed = SignedIF([8, 9], levels=15)
    assert signed.v_initial.tolist() == [4, 4] and signed.signed and signed.max_count == 15
    assert signed.v_negative == 0 and signed.reset_delay == 0 and signed.preset == "SignedIF"
    assert SignedIF(8).max_count is None
    assert SignedIF(8, v_initial=1).v_initial == 1
    delayed = QFFS(8, 3)
    assert (delayed.reset_delay, delayed.max_count, delayed.preset) == (1, 3, "QFFS")
    assert CaLIF(8, 3, v_negative=-8).v_negative == -8 and CaLIF(8).preset == "CaLIF"


def test_delayed_reset_gives_the_same_spikes():
    """QFFS applies the reset one step later: the same spikes, another membrane in the steps between."""
    rng = np.random.default_rng(3)
    charges = rng.integers(-20, 30, 200).tolist()
    at_once, late = (drive(SignedIF(13, 7, reset_delay=d), charges) for d in (0, 1))
    assert at_once["spikes"] == late["spikes"] and any(at_once["spikes"])
    assert late["v"] == [v + 13 * s for v, s in zip(at_once["v"], at_once["spikes"], strict=True)]


# -- the level law ----------------------------------------------------------------------------------


def test_half_a_threshold_rounds_half_up():
    """floor((X + (theta >> 1)) / theta) is X / theta rounded half up, for odd thresholds too."""
    for theta, x in itertools.product(range(1, 40), range(-200, 400)):
        assert (x + (theta >> 1)) // theta == (2 * x + theta) // (2 * theta)


@pytest.mark.parametrize("path", ["step", "layer"])
@pytest.mark.parametrize("late", [0, 1])
def test_counts_follow_the_level_law(path, late):
    """Every threshold of 1 to 39 with every charge of -20 to 40 a step: the count is the rounded, clipped level."""
    thetas, charges, steps = np.arange(1, 40), np.arange(-20, 41), 7
    network = Network.sequential(
        Input((1,), Fixed(8)), Affine(np.ones((39, 1), int)), SignedIF(thetas, levels=steps, reset_delay=late)
    )
    found = simulate(network, charges[:, None], steps=steps, path=path).outputs
    level = np.clip((2 * steps * charges[:, None] + thetas) // (2 * thetas), 0, steps)
    assert np.array_equal(found, level)


# -- what cannot be ---------------------------------------------------------------------------------

REFUSED = {
    "a wide threshold": (lambda: IF(1 << 31), RangeError, "Neuron.threshold: values .* do not fit fxp-s32/0"),
    "a wide start": (lambda: IF(1, v_initial=8, v_format=Fixed(4)), RangeError, "Neuron.v_initial: values 8 to 8"),
    "a wide v_negative": (lambda: IF(1, v_negative=-9, v_format=Fixed(4)), RangeError, "Neuron.v_negative"),
    "a wide bias": (lambda: IF(1, bias=8, bias_format=Fixed(4)), RangeError, "Neuron.bias: values 8 to 8 do not fit"),
    "half a threshold": (lambda: IF(0.5), FormatError, "Neuron.threshold: found 0.5; a whole number"),
    "half a signed threshold": (lambda: SignedIF(0.5), FormatError, "threshold: found 0.5; a whole number"),
    "a matrix": (lambda: IF([[1]]), FormatError, "Neuron.threshold: found shape"),
    "no threshold": (lambda: IF(0), RangeError, "Neuron.threshold: found 0; reset by subtraction needs at least 1"),
    "a compare": (lambda: IF(1, compare="=="), FormatError, "Neuron.compare: found '=='"),
    "a reset": (lambda: IF(1, reset="soft"), FormatError, "Neuron.reset: found 'soft'"),
    "a reset delay": (lambda: IF(1, reset_delay=2), FormatError, "Neuron.reset_delay: found 2"),
    "a cap": (lambda: IF(1, max_count=0), FormatError, "Neuron.max_count: found 0"),
    "spikes": (lambda: IF(1, max_spikes_per_step=128), FormatError, "max_spikes_per_step: found 128; 1 to 127"),
    "spikes without subtraction": (
        lambda: IF(1, max_spikes_per_step=2, reset="zero"), FormatError, "needs reset='subtract'",
    ),
    "both spikes due": (lambda: SignedIF(4, v_negative=5), RangeError, "Neuron.v_negative: found a value above"),
    "channels": (lambda: IF([1, 2], v_initial=[1, 2, 3]), FormatError, "different numbers of channels"),
    "a wide product": (
        lambda: LIF(1, Decay.by_multiply(1, 30), v_format=Fixed(40)), FormatError, "Neuron.v_decay: .*at most 62 bits",
    ),
    "a wide product of u": (
        lambda: CubaLIF(1, Decay.by_multiply(1, 31), Decay()), FormatError, "Neuron.u_decay: .*at most 62 bits",
    ),
    "a shift": (lambda: IF(1, u_shift=32), FormatError, "Neuron.u_shift: found 32"),
    "a wide v": (lambda: IF(1, v_format=Fixed(49)), FormatError, "Neuron.v_format: found fxp-s49/0"),
    "a wide threshold format": (lambda: IF(1, threshold_format=Fixed(64)), FormatError, "Neuron.threshold_format"),
    "a wide trace": (
        lambda: IF(1, refractory=Refractory("trace", format=Fixed(49))), FormatError, "Neuron.refractory.format",
    ),
    "an overflow mode": (lambda: IF(1, v_overflow=4), FormatError, "v_overflow: found 4; choose a mode, one of SAT"),
    "a decay": (lambda: Decay("half"), FormatError, "Decay.kind: found 'half'"),
    "a decay shift": (lambda: Decay.by_shift(32), FormatError, "Decay.shift: found 32"),
    "a growing state": (lambda: Decay.by_multiply(5, 2), FormatError, r"Decay.multiplier: found 5; 0 to 2\*\*2"),
    "a decay amount": (lambda: Decay.by_subtract(-1), FormatError, "Decay.amount: found -1"),
    "a decay shift of a channel": (
        lambda: Decay.by_shift([1, 32]), FormatError, "Decay.shift of channel 1: found 32; 0 to 31 is possible",
    ),
    "a growing channel": (
        lambda: Decay.by_multiply([4, 2], [2, 0]), FormatError, "Decay.multiplier of channel 1: found 2; .*no state",
    ),
    "a growing channel of one factor": (
        lambda: Decay.by_multiply(3, [2, 1]), FormatError, r"Decay.multiplier: found 3; .*no state grow",
    ),
    "a decay amount of a channel": (lambda: Decay.by_subtract([0, -1]), FormatError, "amount of channel 1: found -1"),
    "a decay of two axes": (lambda: Decay.by_shift([[1, 2]]), FormatError, r"Decay.shift: found shape \(1, 2\)"),
    "a decay of no channel": (lambda: Decay.by_shift([]), FormatError, r"Decay.shift: found shape \(0,\)"),
    "a decay of floats": (lambda: Decay.by_shift([1, 0.5]), FormatError, "Decay.shift: found float64 values"),
    "a decay of two sizes": (
        lambda: Decay.by_multiply([1, 1], [2, 2, 2]), FormatError, "multiplier: found 2 channels and 3 of the shift",
    ),
    "an unused number of another size": (
        lambda: Decay("shift", [1, 2], amount=[1, 2, 3]), FormatError, r"Decay: numbers for .* channels \[2, 3\]",
    ),
    "a wide product of one channel": (
        lambda: LIF(1, Decay.by_multiply(1, [2, 30]), v_format=Fixed(40)), FormatError, "v_decay: .* times 30 bits",
    ),
    "a refractory": (lambda: Refractory("absolute"), FormatError, "Refractory.kind: found 'absolute'"),
    "refractory steps": (lambda: Refractory("counter", steps=-1), FormatError, "Refractory.steps: found -1"),
    "an amplitude": (lambda: Refractory("trace", amplitude=1 << 31), FormatError, "Refractory.amplitude"),
}  # fmt: skip


@pytest.mark.parametrize("build, kind, text", REFUSED.values(), ids=REFUSED)
def test_neurons_that_cannot_be(build, kind, text):
    with pytest.raises(kind, match=text):
        build()


def test_decays_are_values():
    """Equal where all numbers are, whatever they were given as; arrays are copied and stay as they are."""
    given = np.array([1, 2])
    leak = Decay.by_shift(given)
    given[0] = 9
    assert leak.shift.tolist() == [1, 2] and not leak.shift.flags.writeable
    assert leak == Decay.by_shift((1, 2)) and hash(leak) == hash(Decay.by_shift([1, 2])) and leak != Decay.by_shift(1)
    assert Decay.by_shift(np.int16(3)) == Decay.by_shift(3) and Decay.by_shift(1) != 1
    assert leak.channels == 2 and Decay.by_shift(3).channels is None
    assert Decay.by_multiply([1, 1, 2], [1, 1, 3]).distinct() == [Decay.by_multiply(1, 1), Decay.by_multiply(2, 3)]


def test_leaks_have_as_many_channels_as_the_neuron():
    assert LIF(5, Decay.by_shift([1, 2, 3])).channels == 3
    with pytest.raises(FormatError, match=r"different numbers of channels \[2, 3\]"):
        Network.sequential(Input((3,)), LIF([1, 2], Decay.by_shift([1, 2, 3])))
    for leak in (
        {"v_decay": Decay.by_shift([1, 2])},
        {"refractory": Refractory("trace", decay=Decay.by_shift([1, 2]))},
    ):
        with pytest.raises(ShapeError, match="parameters for 2 channels, the input .3,. has 3"):
            Network.sequential(Input((3,)), IF(5, **leak))


def test_channels():
    assert IF(1).channels is None and IF([1, 2]).channels == 2
    assert Neuron([1, 2], bias=[0, 1]).channels == 2
