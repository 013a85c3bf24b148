"""The equations of integer learning one by one: plain and compiled, against exact rationals and the published facts."""

from fractions import Fraction

import numba
import numpy as np
import pytest

from intsnn.kernels.learning import compiled as learn
from intsnn.kernels.learning import parameters as P
from intsnn.kernels.learning import reference as plain
from intsnn.kernels.learning import sums as learn_connect
from intsnn.learning.constants import for_batch, layer_constants, log2_round, sigmoid_tables
from intsnn.learning.learner import Conv, Learner, LearningNetwork, Rule, Widths

TAUS = {"tau_membrane": (35, 35), "tau_synapse": (10, 10)}


def gesture(**changes):
    """The published network for DVS Gesture."""
    layers = (Conv(64, 7, 2, pool=2), Conv(128, 7, 2), Conv(128, 7, 2, pool=2))
    return LearningNetwork((2, 32, 32), layers, 11, Rule.published(**changes))


def tiny(rule, samples=1):
    network = LearningNetwork((2, 4, 4), (Conv(3, 3, 1, pool=2),), 4, rule)
    return for_batch(layer_constants(network, 0, seed=1), rule, samples)


# -- powers of two -----------------------------------------------------------------------------------


def test_exponent_is_the_nearest_power_of_two():
    """2**e is nearest in the logarithm: m**2 lies between 2**(2e - 1) and 2**(2e + 1)."""
    values = list(range(1, 5000)) + [(1 << k) + d for k in range(12, 62) for d in (-1, 0, 1)]
    values += [int(Fraction(14142135623730950488016887, 10**25) * (1 << k)) + d for k in range(3, 61) for d in (0, 1)]
    for m in values:
        e = plain.exponent(m)
        assert Fraction(1, 2) * 4**e < m * m < 2 * 4**e
        assert learn.exponent(m) == e
    assert plain.exponent(0) == learn.exponent(0) == 0


def test_log2_round_of_squares():
    for numerator in range(1, 60):
        for denominator in range(1, 20):
            square = Fraction(numerator, denominator)
            e = log2_round(square)
            assert 4**e <= 2 * square and square < 2 * 4**e if e >= 0 else 1 <= 2 * square * 4**-e < 4


@pytest.mark.parametrize("bits", [2, 4, 6, 9])
def test_errors_are_the_published_quantiser(bits):
    """round(clip(x / 2**e, +-(1 - 2**(1 - b))) * 2**(b - 1)), half to even, for every x of every greatest value."""
    c = tiny(Rule.published(widths=Widths(error=bits))).parameters
    top = 1 - Fraction(1, 1 << bits - 1)
    for greatest in (1, 2, 3, 5, 22, 23, 90, 91, 700):
        e = plain.exponent(greatest)
        shift = e - c.error_places
        for x in range(-greatest, greatest + 1):
            value = min(max(Fraction(x, 1 << e), -top), top)
            assert plain.error_code(x, shift, c) == round(value * (1 << bits - 1))
        codes = np.arange(-greatest, greatest + 1)[None]
        v = np.zeros((1, 1), np.int64)
        for x in codes[0]:  # the compiled quantiser, seen through a feedback of one readout
            learn.spread(np.array([[x]]), shift, np.ones((1, 1), np.int8), c, v)
            assert v[0, 0] == plain.error_code(int(x), shift, c)


# -- random rounding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_random_rounding_has_the_probability_of_the_fraction(bits):
    """Over all 2**b random numbers the sum is floor(f * 2**b) more than the floors; exact values never move."""
    c = tiny(Rule.corrected(widths=Widths(random=bits))).parameters
    for shift in (0, 1, 3, 9):
        for x in (0, 1, 5, 7, 8, 300, 511, 512, -1, -7, -8, -300, -512):
            steps = [plain.stochastic_step(x, shift, v << 16 - bits, c) for v in range(1 << bits)]
            assert steps == [learn._stochastic_step(x, shift, v << 16 - bits, c) for v in range(1 << bits)]
            floor, fraction = x >> shift, Fraction(x, 1 << shift) - (x >> shift)
            assert sum(steps) == (floor << bits) + int(fraction * (1 << bits))


@pytest.mark.parametrize("bits", [2, 5, 16])
def test_random_rounding_of_the_original(bits):
    """Fraction and random number on a grid of 2**(1 - b), the number uniform with both ends halved, a tie goes up."""
    c = tiny(Rule.published(widths=Widths(random=bits))).parameters
    grid = 1 << bits - 1
    lanes = range(1 << bits) if bits < 16 else sorted({*range(0, 1 << 16, 4099), 1, 65535})
    moved = 0
    for shift, x in ((0, 3), (2, 8), (2, 9), (5, 31), (18, 131072 + 77)):
        for v in lanes:
            fraction = round((Fraction(x, 1 << shift) - (x >> shift)) * grid)
            number = (v + 1) // 2  # of 0 .. grid
            expected = (x >> shift) + (fraction >= number)
            assert plain.stochastic_step(x, shift, v << 16 - bits, c) == expected
            assert learn._stochastic_step(x, shift, v << 16 - bits, c) == expected
            for kernels in (plain.stochastic_step, learn._stochastic_step):
                assert kernels(-x, shift, v << 16 - bits, c) == -expected
            moved += expected != x >> shift and x % (1 << shift) == 0
        assert plain.stochastic_step(0, shift, 0, c) == learn._stochastic_step(0, shift, 0, c) == 0
    assert moved == 2  # each exact value once, by the random number 0


def test_changes_at_rate_one_are_at_most_two():
    rng = np.random.default_rng(0)
    c = tiny(Rule.published()).parameters
    seen = set()
    for greatest in (5, 90, 91, 181, 5000):
        gradient = rng.integers(-greatest, greatest + 1, 3000)
        gradient[0] = greatest
        master, weight = np.zeros(3000, np.int16), np.zeros(3000, np.int8)
        counters = np.zeros(P.COUNTERS, np.int64)
        learn.update(master, gradient, learn.exponent(greatest), c, 3, P.DRAW_WEIGHT, weight, counters)
        assert counters[P.W_CHANGED] == np.count_nonzero(master)
        seen |= set(master.tolist())
    assert seen == {-2, -1, 0, 1, 2}


def test_update_plain_and_compiled_around_blocks_of_random_words():
    rng = np.random.default_rng(5)
    for rule in (Rule.published(widths=Widths.parse("W3 G12 RNG7")), Rule.corrected(widths=Widths.parse("W8 G5"))):
        c = tiny(rule).parameters
        for size in (1, 3, 1023, 1026, 2050):
            master = rng.integers(-c.master_max, c.master_max + 1, size).astype(np.int16)
            gradient = rng.integers(-3000, 3001, size)
            gradient[: size // 3] = 0
            runs = []
            for kernels in (plain, learn):
                mine, weight, counters = master.copy(), np.zeros(size, np.int16), np.zeros(P.COUNTERS, np.int64)
                kernels.update(mine, gradient, 9, c, 77, P.DRAW_BIAS, weight, counters)
                runs.append((mine, weight, counters))
            for one, two in zip(*runs, strict=True):
                assert np.array_equal(one, two)


# -- widths and scales -------------------------------------------------------------------------------


def test_forward_weights_follow_from_the_master_weights():
    c = tiny(Rule.published()).parameters
    master = np.arange(-511, 512).astype(np.int16)
    for kernels in (plain, learn):
        mine, weight = master.copy(), np.zeros(master.size, np.int8)
        kernels.update(
            mine, np.zeros(master.size, np.int32), 0, c, 0, P.DRAW_WEIGHT, weight, np.zeros(P.COUNTERS, np.int64)
        )
        assert np.array_equal(mine, master)
        assert weight.tolist() == [min(max(round(Fraction(k, 4)), -127), 127) for k in range(-511, 512)]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="a million random numbers take too long without the compiler")
def test_scales_of_the_published_network():
    network = gesture(**TAUS)
    constants = [layer_constants(network, i, seed=0) for i in range(3)]
    assert [k.outputs for k in constants] == [14400, 21632, 3200]
    assert [k.inputs for k in constants] == [2048, 14400, 21632]
    scales = [k.parameters.readout_shift - (5 + 6 - 5) for k in constants]
    assert [1 << s for s in scales] == [256, 256, 128]
    for k in constants:
        c = k.parameters
        assert (c.p_max, c.q_max, c.r_max, c.u_max) == (
            4096,
            1024,
            4,
            8 * 31,
        )  # codes that 12, 10, 2 and 6 bits cannot hold
        assert k.scales["u"] == Fraction(8, 31) and k.scales["sum"] == 1
        assert k.scales["charge"] == Fraction(122500 * 4, 100000 * 4096 * 128)
        assert k.scales["r"] == 1 / Fraction(35, 100) / 4
        assert abs(Fraction(c.charge_gain, 1 << c.charge_places) - k.scales["charge"] / k.scales["u"]) < Fraction(
            1, 1 << 40
        )
        assert (np.sign(k.feedback) * np.sign(k.readout) >= 0).all()
        assert np.abs(k.readout).max() == 31 and (k.feedback[k.readout == 0] != 0).any()
    corrected = tiny(Rule.corrected()).parameters
    assert (corrected.p_max, corrected.q_max, corrected.r_max, corrected.u_max) == (4095, 1023, 3, 31)


def test_narrow_weights_are_scaled_down_as_in_the_original():
    """2**round(log2(1.5 / 2**(W - 1) * sqrt(fan in))), at least 1."""
    for bits, fan, scale in ((8, 98, 1), (4, 98, 2), (4, 6272, 16), (2, 98, 8)):
        kernel, channels = (7, fan // 49)
        network = LearningNetwork((channels, 8, 8), (Conv(2, kernel),), 3, Rule.published(widths=Widths(weight=bits)))
        assert layer_constants(network, 0, 0).scales["sum"] == Fraction(1, scale)


def test_sigmoid_tables():
    table, slope = sigmoid_tables(248, Fraction(8, 31), 6, True, 8)
    assert len(table) == len(slope) == 497
    assert table[248] == 32 and table[0] == 0 and table[-1] == 64 and slope[248] == 255
    assert all(a <= b for a, b in zip(table, table[1:], strict=False))
    assert all(a + b == 64 for a, b in zip(table, table[::-1], strict=True)) and slope == slope[::-1]
    for code in range(-248, 249):
        value = 1 / (1 + np.exp(-code * 8 / 31))
        assert abs(table[code + 248] - value * 64) < 0.5 + 1e-9
        assert slope[code + 248] == min(round(value * (1 - value) * 1024), 255)
    assert max(sigmoid_tables(248, Fraction(8, 31), 6, False, 8)[0]) == 63


def test_penalties_keep_their_size():
    """Rounded to at least three bits, and the quiet gate is the exact comparison of the mean."""
    for samples in (1, 7, 72):
        for mean in (True, False):
            rule = Rule.corrected(mean_penalties=mean)
            k = tiny(rule, samples)
            c = k.parameters
            share = Fraction(1, samples) if mean else Fraction(1)
            rate = rule.rate_penalty * (share / k.outputs if mean else 1) * 32
            quiet = rule.quiet_penalty * (share / k.neurons if mean else 1) * 32
            assert abs(Fraction(c.rate_penalty, 1 << c.penalty_places) / rate - 1) <= Fraction(1, 16)
            assert abs(Fraction(c.quiet_penalty, 1 << c.penalty_places + 10) / quiet - 1) <= Fraction(1, 16)
            for total in range(-5, 200):
                mean_u = Fraction(total, samples * k.neurons) * k.scales["u"]
                assert (c.quiet_factor * total < c.quiet_sum) == (mean_u < rule.quiet_level)


# -- one step ----------------------------------------------------------------------------------------


def test_oddities_of_the_original_are_there():
    """Everything fires at the start, R of two bits never falls back to 0, and no weight is other than 0."""
    learner = Learner(gesture_small(Rule.published()), seed=0)
    assert not any(weights.master.any() for weights in learner.layers)
    state = learner.begin(1)
    first = learner.learn(state, np.zeros((1, 1, 6, 6), np.uint8), [0])
    assert first.spikes.all() and first.counters[0, P.SPIKES] == learner.constants[0].neurons
    silent = [learner.learn(state, np.zeros((1, 1, 6, 6), np.uint8), [0]).counters[0, P.SPIKES] for _ in range(20)]
    assert silent == [0] * 20 and (state.r[0] == 1).all()  # round(0.65 * 1) is 1
    floor = Learner(gesture_small(Rule.corrected(zero_start=True, widths=Widths(refractory=6))), seed=0)
    state = floor.begin(1)
    for _ in range(20):
        floor.learn(state, np.zeros((1, 1, 6, 6), np.uint8), [0])
    assert state.r[0].max() > 1  # more bits keep it too: half a code is enough for every decay above one half
    assert any(weights.master.any() for weights in Learner(gesture_small(Rule.corrected()), seed=0).layers)


def gesture_small(rule):
    return LearningNetwork((1, 6, 6), (Conv(4, 3, 1, pool=2),), 3, rule)


def test_judgement_by_hand():
    """Output (y / 32 + 1) / 2 in units of 1/64: y = -31, 0, 10 is 1, 32, 42; the target adds -64 for the label."""
    c = tiny(Rule.corrected(dropout=0)).parameters
    y = np.array([[-31, 0, 10], [5, 5, -2]])
    for kernels in (plain, learn):
        delta, predicted, counters = np.zeros_like(y), np.zeros(2, np.int64), np.zeros(P.COUNTERS, np.int64)
        peak = kernels.output_errors(y, np.array([1, P.NO_LABEL]), c, 0, 0, delta, predicted, counters)
        assert delta.tolist() == [[1, -32, 42], [0, 0, 0]] and peak == 42
        assert predicted.tolist() == [2, 0]  # the first of equals
        assert counters[P.LOSS] == 1 + 32**2 + 42**2 and counters[P.ERRORS] == 1


def test_dropped_readouts_answer_nothing_and_learn_nothing():
    c = tiny(Rule.published()).parameters
    y = np.full((400, 4), 7)
    labels = np.arange(400) % 4
    found = []
    for kernels in (plain, learn):
        delta, predicted, counters = np.zeros_like(y), np.zeros(400, np.int64), np.zeros(P.COUNTERS, np.int64)
        kernels.output_errors(y, labels, c, 12, 3, delta, predicted, counters)
        found.append((delta.tolist(), predicted.tolist(), counters.tolist()))
    assert found[0] == found[1]
    delta, predicted = np.array(found[0][0]), np.array(found[0][1])
    dropped = delta == 0
    assert 0.42 < dropped.mean() < 0.58
    kept = ~dropped.all(1)
    assert (predicted[kept] == dropped[kept].argmin(1)).all()  # the first that was kept
    loss = np.where(dropped, 64 * (labels[:, None] == np.arange(4)), 39 - 64 * (labels[:, None] == np.arange(4)))
    assert found[0][2][P.LOSS] == (loss**2).sum()


def test_pool_takes_the_first_of_equals():
    c = tiny(Rule.corrected()).parameters
    k = tiny(Rule.corrected())
    u = np.zeros((1, k.neurons), np.int16)
    charges = np.zeros((1, k.neurons), np.int32)
    for kernels in (plain, learn):
        r, choice = np.zeros((1, k.neurons), np.int16), np.zeros((1, k.outputs), np.uint8)
        spikes = np.zeros((1, k.outputs), np.uint8)
        charges[:] = -(1 << 22)
        charges[0, (1 * 4 + 2) * 3 + 1] = charges[0, (1 * 4 + 3) * 3 + 1] = 5  # row 1, columns 2 and 3: one window
        kernels.fire(charges, np.zeros(3, np.int8), c, k.window, k.pool, r, u, choice, spikes, np.zeros(10, np.int64))
        assert choice[0].tolist() == [0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
        assert spikes[0].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]


def test_sums_on_both_ways_with_and_without_32_bits():
    """Many and few active inputs, sums in 32 and 64 bits, in parts and chunks of pairs: always the plain sum."""
    from intsnn.kernels.parameters import Window

    rng = np.random.default_rng(2)
    for height, width, channels, outputs, kernel, pad, stride, samples in (
        (6, 7, 3, 5, 3, 1, 1, 3), (5, 5, 2, 40, 3, 0, 2, 4), (1, 1, 30, 70, 1, 0, 1, 5), (6, 6, 1, 3, 5, 2, 1, 2),
    ):  # fmt: skip
        window = Window(
            height, width, channels, (height + 2 * pad - kernel) // stride + 1,
            (width + 2 * pad - kernel) // stride + 1, outputs, kernel, kernel, stride, stride, pad, pad,
        )  # fmt: skip
        neurons = window.out_height * window.out_width * outputs
        for density in (0.02, 0.9):
            p = rng.integers(0, 4097, (samples, height * width * channels))
            p = (p * (rng.random(p.shape) < density)).astype(np.int16)
            weight = rng.integers(-127, 128, (kernel, kernel, channels, outputs)).astype(np.int8)
            e = rng.integers(-31, 32, (samples, neurons)).astype(np.int8)
            packed = np.zeros(learn_connect.packed_shape(window), np.int16)
            learn_connect.pack(weight, window, packed)
            charge = np.zeros((samples, neurons), object)
            plain.charge(p, weight, window, charge)
            gradient, bias = np.zeros(weight.shape, object), np.zeros(outputs, object)
            mine = np.zeros(outputs, np.int64)
            plain.accumulate(p, e, window, gradient)
            plain.accumulate_bias(e, bias)
            learn_connect.accumulate_bias(e, mine)
            assert np.array_equal(mine, bias) and bias.any()
            for narrow, kind in ((True, np.int32), (False, np.int32), (True, np.int64), (False, np.int64)):
                out = np.zeros((samples, neurons), kind)
                learn_connect.charge(p, weight, packed, window, narrow, out)
                assert np.array_equal(out, charge)
            for pairs, parts, kind in ((0, 1, np.int64), (0, 3, np.int32), (1, 2, np.int32), (9, 1, np.int64)):
                mine = np.zeros(weight.shape, kind)
                for part in range(parts):
                    learn_connect.accumulate(p, e, window, pairs, part, parts, mine)
                assert np.array_equal(mine, gradient)
