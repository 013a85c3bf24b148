"""Spike-timing rules: the plain and the compiled form agree, and both do what a pair of spikes should."""

import numba
import numpy as np
import pytest

from intsnn.errors import FormatError, RangeError, ShapeError
from intsnn.formats.fixed import Rounding
from intsnn.kernels.learning import parameters as P
from intsnn.kernels.numbers.reference import random_word
from intsnn.layers import Decay
from intsnn.learning.stdp import PairRule, Plasticity, Trace, by_shift


def random_rule(rng):
    def decay():
        rounding = Rounding(int(rng.integers(8)))
        return (
            Decay(),
            Decay.by_shift(int(rng.integers(1, 5)), rounding, bool(rng.integers(2))),
            Decay.by_multiply(int(rng.integers(0, 17)), 4, rounding),
            Decay.by_subtract(int(rng.integers(1, 5))),
        )[int(rng.integers(4))]

    pre, post = (
        Trace(bits, int(rng.integers(1, 1 << bits)), decay())
        for bits in (int(rng.integers(1, 7)), int(rng.integers(1, 7)))
    )
    return PairRule(
        tuple(rng.integers(-2, 40, pre.top + 1)),
        tuple(rng.integers(-2, 40, post.top + 1)),
        pre,
        post,
        weight_bits=int(rng.integers(1, 10)),
        signed=bool(rng.integers(2)),
        places=int(rng.integers(0, 12)),
        rounding=Rounding(int(rng.integers(8))),
        soft=bool(rng.integers(2)),
        nearest=bool(rng.integers(2)),
        eligibility=decay(),
        eligibility_bits=int(rng.integers(2, 14)),
    )


def random_weights(rng, rule, shape):
    low, high = rule.weight_range
    return rng.integers(low, high + 1, shape)


@pytest.mark.parametrize("rewarded", [False, True])
def test_compiled_equals_reference(rewarded):
    changed, cases = 0, 4 if numba.config.DISABLE_JIT else 40
    for case in range(cases):
        rng = np.random.default_rng(case)
        rule, samples = random_rule(rng), int(rng.integers(1, 4))
        weight = random_weights(rng, rule, (int(rng.integers(1, 9)), int(rng.integers(1, 7))))
        runs = [Plasticity(rule, weight, samples, seed=case, path=path) for path in ("reference", "compiled")]
        for t in range(30):
            pre = (rng.random((samples, weight.shape[0])) < 0.3).astype(np.uint8) * rng.integers(1, 3)
            post = rng.random((samples, weight.shape[1])) < 0.3
            reward = rng.integers(-3, 4, samples) * (t % 3 == 0) if rewarded else None
            for run in runs:
                run.step(pre, post, reward)
            one, two = runs
            for name in ("weight", "x", "y", "counters"):
                assert np.array_equal(getattr(one, name), getattr(two, name)), (case, t, name)
            assert not rewarded or np.array_equal(one.eligibility, two.eligibility)
        assert one.weights_sha256() == two.weights_sha256()
        changed += int(one.counters[P.PAIR_CHANGED])
        low, high = rule.weight_range
        assert one.weight.min() >= low and one.weight.max() <= high
    assert changed > 10 * cases


def plain_rule(**changes):
    trace = Trace(7, 64, Decay.by_shift(1, Rounding.TRN))
    settings = {"pre": trace, "post": trace, "weight_bits": 8, "rounding": "floor", "places": 0} | changes
    return PairRule(by_shift(7, 2), by_shift(7, 3), **settings)


@pytest.mark.parametrize("path", ["compiled", "reference"])
def test_the_window_of_a_pair(path):
    """Pre n steps before post: + (64 >> n) >> 2; post before pre: - (64 >> n) >> 3; together: nothing."""
    for distance in range(-5, 6):
        learner = Plasticity(plain_rule(), [[100]], path=path)
        first, second = (([[1]], [[0]]), ([[0]], [[1]]))
        if distance < 0:
            first, second = second, first
        if distance == 0:
            learner.step([[1]], [[1]])
        else:
            learner.step(*first)
            for _ in range(abs(distance) - 1):
                learner.step([[0]], [[0]])
            learner.step(*second)
        change = (64 >> distance) >> 2 if distance > 0 else -((64 >> -distance) >> 3) if distance < 0 else 0
        assert learner.weight[0, 0] == 100 + change


def test_bounds_soft_and_hard():
    hard = Plasticity(plain_rule(), [[253, 3]])
    hard.step([[1]], [[0, 0]])
    hard.step([[0]], [[1, 1]])
    assert hard.weight.tolist() == [[255, 11]] and hard.counters[P.PAIR_CLIPPED] == 1
    soft = Plasticity(plain_rule(soft=True, places=8), [[255, 0, 128]])
    soft.step([[1]], [[0, 0, 0]])
    soft.step([[0]], [[1, 1, 1]])
    assert soft.weight.tolist() == [[255, 8 * 255 >> 8, 128 + (8 * 127 >> 8)]]


def test_reward_decides_what_becomes_of_a_pair():
    """The same pair, rewarded, punished and neither; the eligibility fades until the reward comes."""
    for reward, expected in ((2, 100 + (2 * 4 >> 1)), (-2, 100 - (2 * 4 >> 1)), (0, 100)):
        rule = plain_rule(places=1, eligibility=Decay.by_shift(1))
        learner = Plasticity(rule, [[100]])
        learner.step([[1]], [[0]], [0])
        learner.step([[0]], [[1]], [0])
        assert learner.eligibility[0, 0, 0] == 8 and learner.weight[0, 0] == 100
        learner.step([[0]], [[0]], [reward])
        assert learner.eligibility[0, 0, 0] == 4 and learner.weight[0, 0] == expected
        learner.begin()
        assert not learner.eligibility.any() and not learner.x.any()


@pytest.mark.parametrize("path", ["compiled", "reference"])
@pytest.mark.parametrize("places", [0, 40])
def test_rewards_of_a_large_batch_leave_64_bits_and_are_exact(path, places):
    """Sums of 256 (within int64) to 600 products of 55 bits, of either sign, and some that cancel far beyond 2**63."""
    once = Trace(1, 1, Decay())
    top, most = (1 << 31) - 1, (1 << 24) - 1
    rule = PairRule(
        (0, most), (0, 0), once, once, weight_bits=16, signed=True, places=places, rounding="floor",
        eligibility_bits=32, eligibility=Decay(),
    )  # fmt: skip
    for samples, kept in ((256, 256), (257, 257), (600, 600), (600, 1), (600, -600), (599, 0)):
        learner = Plasticity(rule, [[-7]], samples, path=path)
        one = np.ones((samples, 1), np.uint8)
        learner.step(one, 0 * one, np.zeros(samples, np.int64))
        reward = np.full(samples, most)
        if kept <= 0:
            reward *= -1
        if abs(kept) < samples:  # pairs that cancel: the sum of the first half alone leaves 64 bits
            reward[samples // 2 :] *= -1
            reward[-1] = 3 if samples % 2 == 0 else 0
        learner.step(0 * one, 255 * one, reward)
        held = min(255 * most, top)
        expected = -7 + (sum(map(int, reward)) * held >> places)
        assert learner.weight[0, 0] == min(max(expected, -(1 << 15)), (1 << 15) - 1), (samples, kept)
        assert learner.counters[P.PAIR_CLIPPED] == (not -(1 << 15) <= expected < 1 << 15)


@pytest.mark.parametrize(
    "reward",
    [np.array([2**64 - 1], np.uint64), np.array([2**63], np.uint64), np.array([-(2**63)]), [1 << 24], [-(1 << 24)]],
)
def test_rewards_beyond_their_range_change_nothing(reward):
    learner = Plasticity(plain_rule(), [[100]])
    learner.step([[1]], [[0]], [0])
    with pytest.raises(RangeError, match="2\\*\\*24"):
        learner.step([[0]], [[1]], reward)
    assert learner.steps == 1 and learner.x[0, 0] == 64 and learner.weight[0, 0] == 100
    learner.step([[0]], [[1]], [(1 << 24) - 1])  # the largest


@pytest.mark.parametrize("reward", [[0, -(1 << 24)], [-(1 << 24), 0], [0, 1 << 24], [1 << 24, 0]])
def test_the_least_and_the_greatest_reward_of_a_batch_are_in_range(reward):
    learner = Plasticity(plain_rule(), [[100]], 2)
    with pytest.raises(RangeError, match="2\\*\\*24"):
        learner.step([[0], [0]], [[1], [1]], reward)


@pytest.mark.parametrize("path", ["compiled", "reference"])
def test_eligibilities_fade_by_the_words_of_their_samples(path):
    """A decay that rounds at random: the word of (seed, step, 0, draw, sample, synapse), samples from 0 on."""
    rule = plain_rule(eligibility=Decay.by_shift(3, Rounding.STOCHASTIC, False), eligibility_bits=16)
    learner = Plasticity(rule, np.full((5, 4), 100), 3, seed=9, path=path)
    learner.step(np.ones((3, 5), int), np.zeros((3, 4), int), [0, 0, 0])
    learner.step(np.zeros((3, 5), int), np.full((3, 4), 3), [0, 0, 0])
    held = learner.eligibility.tolist()
    assert {x for one in held for row in one for x in row} == {3 * 8}
    learner.eligibility[:] += np.arange(5, dtype=np.int32)[:, None]  # 24 to 28: a word decides about the fraction
    held = learner.eligibility.tolist()
    learner.step(np.zeros((3, 5), int), np.zeros((3, 4), int), [0, 0, 0])
    for b, one in enumerate(held):
        for i, row in enumerate(one):
            for j, x in enumerate(row):
                word = random_word(9, 2, 0, P.DRAW_ELIGIBILITY, b, 4 * i + j)
                assert learner.eligibility[b, i, j] == x - (x + (word & 7) >> 3)
    assert len(np.unique(learner.eligibility[:, 3])) == 2


def test_counters_never_wrap():
    """The step in which a counter could leave 64 bits is refused before anything has changed."""
    learner = Plasticity(plain_rule(), [[100]])
    learner.step([[1]], [[0]])
    room = 255 * max(by_shift(7, 2))
    learner.counters[P.PAIR_UP] = (1 << 63) - room
    with pytest.raises(RangeError, match="after 1 steps a counter could leave 64 bits"):
        learner.step([[0]], [[1]])
    assert learner.weight[0, 0] == 100 and learner.x[0, 0] == 64 and learner.steps == 1
    learner.counters[P.PAIR_UP] -= 1
    learner.step([[0]], [[255]])
    assert learner.counters[P.PAIR_UP] > (1 << 63) - 1 - room


def test_random_rounding_keeps_the_mean():
    """Changes of 5/64 of a step: thousands of synapses move by 5/64 on average, and exact ones exactly."""
    table = tuple(5 if x else 0 for x in range(128))
    rule = PairRule(table, table, places=6, weight_bits=8)
    learner = Plasticity(rule, np.full((64, 128), 100))
    learner.step(np.ones((1, 64), np.uint8), np.zeros((1, 128), np.uint8))
    learner.step(np.zeros((1, 64), np.uint8), np.ones((1, 128), np.uint8))
    moved = learner.weight - 100
    assert set(np.unique(moved)) == {0, 1} and abs(moved.mean() - 5 / 64) < 0.01
    exact = Plasticity(PairRule(tuple(64 * x for x in table), table, places=6), np.full((8, 8), 100))
    exact.step(np.ones((1, 8), np.uint8), np.zeros((1, 8), np.uint8))
    exact.step(np.zeros((1, 8), np.uint8), np.ones((1, 8), np.uint8))
    assert (exact.weight == 105).all()


def test_inputs_that_fire_together_win():
    """Half of the inputs fire before the output, half at random times: the first half ends stronger."""
    rng = np.random.default_rng(3)
    rule = plain_rule(places=2, rounding="stochastic", soft=False)
    learner = Plasticity(rule, np.full((20, 1), 100), seed=1)
    for _ in range(120):
        pre = np.zeros((3, 1, 20), np.uint8)
        pre[0, 0, :10] = 1
        pre[rng.integers(0, 3, 10), 0, np.arange(10, 20)] = 1
        for t in range(3):
            learner.step(pre[t], [[int(t == 1)]])
        for _ in range(4):
            learner.step(np.zeros((1, 20), np.uint8), [[0]])
    assert learner.weight[:10].min() > 200 and learner.weight[10:].mean() < learner.weight[:10].mean() - 60


@pytest.mark.parametrize(
    "what, error, part",
    [
        (lambda: Trace(0), FormatError, "Trace.bits: found 0"),
        (lambda: Trace(decay=Decay.by_shift([1, 2])), FormatError, "Trace.decay: found numbers for 2 channels"),
        (lambda: Trace(3, 9), FormatError, "amplitude: found 9"),
        (lambda: PairRule((1, 2), by_shift(7, 1)), FormatError, "2 entries"),
        (lambda: PairRule(by_shift(7, 0, 1 << 20), by_shift(7, 1)), FormatError, "2\\*\\*24"),
        (lambda: plain_rule(weight_bits=0), FormatError, "weight_bits: found 0"),
        (lambda: Plasticity(plain_rule(), [[300]]), RangeError, "300"),
        (lambda: Plasticity(plain_rule(), [1, 2]), ShapeError, "shape"),
        (lambda: Plasticity(plain_rule(), [[1.5]]), ShapeError, "float64"),
        (lambda: Plasticity(plain_rule(), [[1]], path="gpu"), FormatError, "'gpu'"),
        (lambda: Plasticity(plain_rule(), [[1]]).step([[1, 0]], [[0]]), ShapeError, "pre spikes"),
        (lambda: Plasticity(plain_rule(), [[1]]).step([[1]], [[-1]]), RangeError, "post spikes"),
        (lambda: Plasticity(plain_rule(), [[1]]).step([[1]], [[1]], [0.5]), ShapeError, "reward"),
        (lambda: Plasticity(plain_rule(), [[1]]).step([[1]], [[1]], [1 << 24]), RangeError, "2\\*\\*24"),
    ],
)
def test_what_cannot_be_is_an_error(what, error, part):
    with pytest.raises(error, match=part):
        what()
