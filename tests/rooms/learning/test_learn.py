"""Integer learning: the compiled path equals the plain one, whatever the threads and the split of the batch."""

import os
from fractions import Fraction

import numba
import numpy as np
import pytest

from intsnn.bench.learning.exact import random_frame, random_network
from intsnn.errors import FormatError, RangeError, ShapeError
from intsnn.kernels.learning import parameters as P
from intsnn.kernels.learning import reference as exact
from intsnn.learning.constants import layer_constants
from intsnn.learning.learner import Conv, Dense, Learner, LearningNetwork, Rule, Schedule, Widths

# INTSNN_LONG=1: the full comparison, a few minutes; few and short ones where kernels run as Python
CASES, STEPS = (50, 1000) if os.environ.get("INTSNN_LONG") else (2, 6) if numba.config.DISABLE_JIT else (8, 30)


def same(left, right, left_state, right_state, outcomes, others):
    """Everything that two learners hold and answered, exactly, with types and shapes."""
    assert np.array_equal(outcomes.predictions, others.predictions)
    assert np.array_equal(outcomes.counters, others.counters)
    assert np.array_equal(outcomes.spikes, others.spikes)
    for name in ("p", "q", "r"):
        for one, two in zip(getattr(left_state, name), getattr(right_state, name), strict=True):
            assert one.dtype == two.dtype and np.array_equal(one, two), name
    for one, two in zip(left.layers, right.layers, strict=True):
        for name in ("master", "bias_master", "weight", "bias"):
            a, b = getattr(one, name), getattr(two, name)
            assert a.dtype == b.dtype and np.array_equal(a, b), name
        assert one.exponents == two.exponents
    for one, two in zip(left.buffers, right.buffers, strict=True):
        for name in ("charges", "u", "choice", "spikes", "y", "delta", "predicted", "v", "e", "bias_gradient"):
            assert np.array_equal(getattr(one, name), getattr(two, name)), name
        if one.gradient is not None and two.gradient is not None:  # dense layers may do without
            assert np.array_equal(one.gradient, two.gradient)
    assert left.weights_sha256() == right.weights_sha256()


def run_together(learners, rng, samples, steps, sequence=40):
    """The same stream through all of them, new sequences now and then; everything compared in every step."""
    network = learners[0].network
    changed = 0
    for t in range(steps):
        if t % sequence == 0:
            states = [learner.begin(samples) for learner in learners]
            labels = rng.integers(0, network.classes, samples)
        frame = random_frame(rng, samples, network.shape, density=rng.choice([0.02, 0.3]))
        shift = int(rng.integers(0, 3))
        outcomes = [learner.learn(state, frame, labels, shift) for learner, state in zip(learners, states, strict=True)]
        for learner, state, outcome in zip(learners[1:], states[1:], outcomes[1:], strict=True):
            same(learners[0], learner, states[0], state, outcomes[0], outcome)
        changed += int(outcomes[0].counters[:, P.W_CHANGED].sum())
    return changed


@pytest.mark.parametrize("case", range(CASES))
def test_compiled_equals_reference(case):
    rng = np.random.default_rng(case)
    network = random_network(rng, wide=case % 8 == 7)
    learners = [Learner(network, seed=case, path=path) for path in ("reference", "compiled")]
    assert run_together(learners, rng, int(rng.integers(1, 4)), STEPS) > 0


def test_threads_and_splits_do_not_matter():
    """Eight samples at once, one after another, in threes, and in two threads; with pools, strides and random bits."""
    for case in (101, 102, 103)[:CASES]:
        rng = np.random.default_rng(case)
        network = random_network(rng)
        options = [{}, {"chunk": 1}, {"chunk": 3}, {"threads": 2}, {"threads": 3, "chunk": 2}]
        learners = [Learner(network, seed=5, **option) for option in options]
        assert run_together(learners, rng, 8, min(STEPS, 25)) > 0


def test_blocks_wider_than_a_tile():
    """More outputs than a register tile is wide and more rows than it is high, with and without many inputs at 0."""
    rule = Rule.corrected(burn_in=0, weight_scale="0.002", tau_membrane=(2, 5), tau_synapse=(2, 5))
    for density in (0.01, 0.5):
        rng = np.random.default_rng(1)
        network = LearningNetwork((3, 5, 5), (Conv(37, 3, 1), Conv(34, 2, 0, pool=2), Dense(65)), 3, rule)
        learners = [
            Learner(network, seed=2, path="reference"),
            Learner(network, seed=2),
            Learner(network, 2, threads=2),
        ]
        states, labels = [learner.begin(3) for learner in learners], np.array([0, 1, 2])
        for _ in range(3):
            frame = random_frame(rng, 3, network.shape, density)
            outcomes = [one.learn(state, frame, labels) for one, state in zip(learners, states, strict=True)]
            for i in (1, 2):
                same(learners[0], learners[i], states[0], states[i], outcomes[0], outcomes[i])


def test_evaluation_changes_nothing_and_does_not_depend_on_the_batch():
    rng = np.random.default_rng(4)
    rule = Rule.published(burn_in=1, weight_scale="0.01", tau_membrane=(3, 6), trace_rounding="STOCHASTIC")
    network = LearningNetwork((2, 6, 6), (Conv(4, 3, 1, pool=2), Dense(6)), 4, rule)
    learner = Learner(network, seed=3)
    state = learner.begin(2)
    for _ in range(6):
        learner.learn(state, random_frame(rng, 2, network.shape), [1, 2])
    before, steps = learner.weights_sha256(), learner.steps
    frames = np.stack([random_frame(rng, 5, network.shape) for _ in range(7)])
    whole = learner.votes(frames)
    parts = [learner.votes(frames[:, a:b], first_sample=a) for a, b in ((0, 2), (2, 3), (3, 5))]
    assert np.array_equal(whole, np.concatenate(parts, axis=1))
    assert whole.sum() == 2 * 5 * (7 - 1)  # layers, samples, steps after the burn-in
    assert (learner.weights_sha256(), learner.steps) == (before, steps)
    plain = Learner(network, seed=3, path="reference")
    for mine, theirs in zip(plain.layers, learner.layers, strict=True):
        for name in ("master", "bias_master", "weight", "bias"):
            getattr(mine, name)[:] = getattr(theirs, name)
    assert np.array_equal(plain.votes(frames), whole)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="500 learning steps take too long without the compiler")
def test_training_reduces_the_loss():
    """Four patterns of lines: the readout of the last layer learns them."""
    rule = Rule.corrected(
        burn_in=5, weight_scale="0.005", tau_membrane=(3, 8), tau_synapse=(2, 4), dropout=0, widths=Widths.parse("G8")
    )
    network = LearningNetwork((1, 8, 8), (Conv(8, 3, 1, pool=2), Dense(120)), 4, rule)
    learner = Learner(network, seed=1)
    rng = np.random.default_rng(0)
    labels = np.arange(8) % 4
    patterns = np.zeros((4, 1, 8, 8), np.uint8)
    for k in range(2):
        patterns[k, 0, 2 + 3 * k] = patterns[2 + k, 0, :, 2 + 3 * k] = 1
    losses, errors = [], []
    for _ in range(25):
        state = learner.begin(8)
        loss = wrong = 0
        for _ in range(20):
            frame = patterns[labels] & (rng.random((8, 1, 8, 8)) < 0.6)
            outcome = learner.learn(state, frame.astype(np.uint8), labels)
            loss += int(outcome.counters[-1, P.LOSS])
            wrong += int(outcome.counters[-1, P.ERRORS])
        losses.append(loss)
        errors.append(wrong)
    assert 2 * losses[-1] < losses[0]
    assert errors[0] > 80 and errors[-1] < 20  # of 8 * 15 predictions


def test_one_seed_is_one_run():
    network = random_network(np.random.default_rng(9))
    digests = []
    for seed in (1, 1, 2):
        learner, rng = Learner(network, seed=seed), np.random.default_rng(0)
        state = learner.begin(3)
        for _ in range(8):
            learner.learn(state, random_frame(rng, 3, network.shape), [0, 1, 0])
        digests.append(learner.weights_sha256())
    assert digests[0] == digests[1] != digests[2]


def test_gradients_may_be_normalised_by_the_step_before():
    """With ``previous`` the first step takes its own exponent, every later one that of the last gradient not 0."""
    rule = Rule.corrected(burn_in=0, weight_scale="0.01", tau_membrane=(2, 4), gradient_scale="previous", step_limit=3)
    network = LearningNetwork((1, 4, 4), (Conv(3, 3, 1),), 3, rule)
    learner, rng = Learner(network, seed=0), np.random.default_rng(0)
    state = learner.begin(2)
    assert learner.layers[0].exponents == [-1, -1]
    moves = 0
    for _ in range(30):
        before, used = learner.layers[0].master.astype(int).copy(), learner.layers[0].exponents[0]
        learner.learn(state, random_frame(rng, 2, network.shape), [0, 2])
        greatest = int(np.abs(learner.buffers[0].gradient).max())
        own = exact.exponent(greatest)
        assert learner.layers[0].exponents[0] == (own if greatest else used)
        used = own if used < 0 else used
        moved = np.abs(learner.layers[0].master - before).max()
        assert moved <= min(3, (greatest >> used) + 1)
        moves += int(moved)
    assert moves > 10


@pytest.mark.parametrize(
    "what, error, part",
    [
        (lambda: Widths(weight=1), FormatError, "2 to 16 bits"),
        (lambda: Widths.parse("W8 W9"), FormatError, "W9"),
        (lambda: Widths.parse("X3"), FormatError, "X3"),
        (lambda: Rule(tau_membrane=(1, 5)), FormatError, "tau_membrane"),
        (lambda: Rule(dropout=2), FormatError, "dropout"),
        (lambda: Rule(dropout="half"), FormatError, "'half'"),
        (lambda: Rule(threshold=9), FormatError, "never reaches"),
        (lambda: Rule(gradient_scale="own"), FormatError, "'own'"),
        (lambda: Rule.from_json({"speed": 3}), FormatError, "'speed'"),
        (lambda: Schedule(every=0), FormatError, "every"),
        (lambda: LearningNetwork((1, 4, 4), (Conv(2, 7),), 3), ShapeError, "layer 0"),
        (lambda: LearningNetwork((1, 4, 4), (Conv(2, 3, pool=3),), 3), ShapeError, "layer 0"),
        (lambda: LearningNetwork((1, 4, 4), (), 3), ShapeError, "layers: found none"),
        (lambda: LearningNetwork((1, 4, 4), ("conv",), 3), ShapeError, "'conv'"),
        (lambda: LearningNetwork((4, 4), (Dense(2),), 3), ShapeError, "shape"),
        (lambda: Conv(0, 3), ShapeError, "Conv.channels: found 0"),
        (lambda: Dense(0), ShapeError, "Dense.units: found 0"),
        (lambda: Learner(small(), path="fast"), FormatError, "'fast'"),
        (lambda: Learner(small(), threads=0), FormatError, "threads: found 0"),
        (lambda: Learner(small()).begin(0), ShapeError, "samples: found 0"),
        (lambda: step(np.zeros((2, 1, 4, 4), np.uint8), [0]), ShapeError, "labels"),
        (lambda: step(np.zeros((2, 1, 4, 4), np.uint8), [0, 3]), RangeError, "0 to 3; 0 to 2"),
        (lambda: step(np.zeros((2, 4, 4), np.uint8), [0, 1]), ShapeError, "frame"),
        (lambda: step(np.full((2, 1, 4, 4), -1), [0, 1]), RangeError, "0 to 255"),
        (lambda: step(np.zeros((2, 1, 4, 4)), [0, 1]), RangeError, "float64"),
        (
            lambda: Learner(LearningNetwork((1, 4, 4), (Conv(2, 3),), 3, Rule(weight_scale=Fraction(1, 1 << 40)))),
            FormatError,
            "would leave 64 bits",
        ),
    ],
)
def test_what_cannot_be_is_an_error(what, error, part):
    with pytest.raises(error, match=part):
        what()


def small():
    return LearningNetwork((1, 4, 4), (Conv(2, 3),), 3)


def step(frame, labels):
    learner = Learner(small())
    learner.learn(learner.begin(2), frame, labels)


def test_rules_travel_as_plain_values():
    import json

    for rule in (Rule.published(), Rule.corrected(step_limit=2, trace_rounding="floor", widths=Widths.parse("P8 Q7"))):
        assert Rule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


def test_schedule_of_the_original():
    schedule = Schedule(every=80)
    assert [schedule.shift(epoch) for epoch in (0, 78, 79, 158, 159, 319)] == [0, 0, 1, 1, 2, 4]
    assert Schedule(start=2, every=None).shift(1000) == 2


@pytest.mark.parametrize("scale", ["batch", "previous"])
def test_outputs_that_fill_no_tile_store_their_gradient(scale):
    """The arrays of the other way have room for whole tiles only."""
    rule = Rule.corrected(burn_in=0, weight_scale="0.0005", tau_membrane=(4, 9), gradient_scale=scale)
    learner = Learner(LearningNetwork((45,), (Dense(40), Dense(32)), 3, rule), 3)
    state, rng = learner.begin(5), np.random.default_rng(8)
    for _ in range(4):
        learner.learn(state, random_frame(rng, 5, (45,), density=0.6), rng.integers(0, 3, 5))
    assert learner.buffers[0].tiles is None and learner.buffers[0].gradient is not None


def test_dense_layers_learn_without_a_stored_gradient():
    """The same weights as with one: own exponents and those of the step before, one to three threads, odd sizes."""
    for scale, widths in (("batch", "W7 G9"), ("batch", "RNG11 E10 P9"), ("previous", "RNG11")):
        rule = Rule.corrected(
            burn_in=1, weight_scale="0.0005", tau_membrane=(4, 9), tau_synapse=(3, 6), gradient_scale=scale,
            widths=Widths.parse(widths),
        )  # fmt: skip
        network = LearningNetwork((45,), (Dense(64), Dense(32)), 3, rule)
        learners = [Learner(network, 3, path="reference"), *(Learner(network, 3, threads=n) for n in (1, 2, 3))]
        rng = np.random.default_rng(8)
        states, labels = [learner.begin(5) for learner in learners], rng.integers(0, 3, 5)
        for _ in range(8):
            frame = random_frame(rng, 5, (45,), density=0.6)
            outcomes = [one.learn(state, frame, labels) for one, state in zip(learners, states, strict=True)]
            for i in (1, 2, 3):
                same(learners[0], learners[i], states[0], states[i], outcomes[0], outcomes[i])
        assert all(learner.buffers[0].gradient is None for learner in learners[1:])  # the way was taken in every step
        assert outcomes[0].counters[0, P.W_CHANGED] > 0 and learners[0].layers[0].exponents[0] > 0


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="takes too long without the compiler")
@pytest.mark.parametrize("case", range(40))
def test_dense_steps_are_those_of_a_stored_gradient(case):
    """Any number of samples, inputs and parts; traces and errors up to their limits; few and many steps allowed."""
    from intsnn.kernels.learning import compiled as learn
    from intsnn.kernels.learning import dense as learn_dense
    from intsnn.kernels.learning import sums as learn_connect

    rng = np.random.default_rng(case)
    samples, inputs, outputs = int(rng.integers(1, 12)), int(rng.integers(1, 70)), 32 * int(rng.integers(1, 4))
    rule = Rule.corrected(
        widths=Widths.parse(["", "E4 P8", "E9", "E12 P7", "W4 G6"][case % 5]),
        step_limit=[None, 1, 3, 200][int(rng.integers(0, 4))],
    )
    constants = layer_constants(LearningNetwork((inputs,), (Dense(outputs),), 3, rule), 0, 0)
    c = constants.parameters
    p = rng.integers(0, rng.choice([2, 300, c.p_max]) + 1, (samples, inputs)).clip(0, c.p_max).astype(np.int16)
    e = rng.integers(-c.error_max, c.error_max + 1, (samples, outputs)).astype(
        np.int8 if c.error_max < 128 else np.int16
    )
    start = rng.integers(-c.master_max, c.master_max + 1, (inputs, outputs)).astype(np.int16)

    gradient = np.zeros((1, 1, inputs, outputs), np.int64)
    learn_connect.accumulate(p, e, constants.window, 0, 0, 1, gradient)
    assert np.array_equal(gradient[0, 0], p.T.astype(np.int64) @ e)
    peak = int(learn.largest(gradient))
    shift = max(0, int(learn.exponent(peak)) + int(rng.integers(-1, 4)))
    expected = [start.copy(), np.zeros((inputs, outputs), np.int8), np.zeros(P.COUNTERS, np.int64)]
    learn.update(
        expected[0].reshape(-1), gradient.reshape(-1), shift, c, 5, P.DRAW_WEIGHT, expected[1].reshape(-1), expected[2]
    )  # fmt: skip

    scratch = learn_dense.scratch(samples, inputs, outputs)
    for name, array in scratch._asdict().items():
        if name not in ("inputs", "coarse_inputs"):  # nothing of the batch before is left, but for rows that are none
            array[:] = 77
    learn_dense.lay_out(p, e, scratch)
    parts = int(rng.integers(1, 4))
    coarsely = learn_dense.coarse(e, c, scratch)
    assert coarsely == (learn_dense.COARSE and c.error_max < 128 and c.p_max >> 6 < 256)
    found = max(learn_dense.dense_peak(scratch, c, coarsely, part, parts) for part in range(parts))
    assert learn.exponent(found) == learn.exponent(peak) and found >= peak
    taken = 0
    for bound in (-1, found):
        if not learn_dense.fits(shift, bound, c, outputs):
            continue
        master, weight, counters = start.copy(), np.zeros((inputs, outputs), np.int8), np.zeros(P.COUNTERS, np.int64)
        sizes = [
            learn_dense.dense_step(scratch, shift, bound, c, 5, P.DRAW_WEIGHT, part, parts, master, weight, counters)
            for part in range(parts)
        ]
        assert max(sizes) == (peak if bound < 0 else found)
        assert np.array_equal(master, expected[0]) and np.array_equal(weight, expected[1])
        assert np.array_equal(counters, expected[2])
        taken += 1
    assert taken


@pytest.mark.parametrize("inclusive", [False, True])
def test_gradients_far_above_their_shift(inclusive):
    """Where the step before was small, or the rate is high, sums shifted to the left would leave 64 bits."""
    from intsnn.kernels.learning import compiled as learn

    rule = Rule.corrected(widths=Widths.parse("W8 G18 RNG16"), inclusive_random=inclusive)
    c = layer_constants(LearningNetwork((3,), (Dense(2),), 3, rule), 0, 5).parameters
    rng = np.random.default_rng(1)
    sizes = [
        0,
        1,
        5,
        (1 << 18) - 3,
        1 << 18,
        1 << 45,
        (1 << 46) - 1,
        1 << 46,
        1 << 47,
        (1 << 48) + 12345,
        (1 << 62) - 1,
    ]
    gradient = np.array([sign * size for size in sizes for sign in (1, -1)], np.int64)
    for shift in range(18):
        start = rng.integers(-c.master_max, c.master_max + 1, gradient.size).astype(np.int32)
        found = []
        for kernels in (exact, learn):
            master, weight, counters = start.copy(), np.zeros(start.size, np.int8), np.zeros(P.COUNTERS, np.int64)
            kernels.update(master, gradient, shift, c, 3, P.DRAW_WEIGHT, weight, counters)
            found.append((master.tolist(), weight.tolist(), counters.tolist()))
        assert found[0] == found[1]


def test_sums_of_a_batch_have_a_bound():
    """The largest batch that keeps 62 bits is taken, one more is refused by the name of the layer and the sum."""
    from intsnn.learning.buffers import check_sums

    rule = Rule.corrected(widths=Widths.parse("P20 E16 U16 A16"))
    constants = layer_constants(LearningNetwork((2, 40, 40), (Conv(2, 3, pool=2),), 3, rule), 0, 0)
    most = ((1 << 62) - 1) // constants.gradients
    check_sums(7, constants, most, 3)
    with pytest.raises(RangeError, match=f"layer 7: the gradients of {most + 1:,} samples .* at most {most:,} samples"):
        check_sums(7, constants, most + 1, 3)
    with pytest.raises(RangeError, match="the errors of"):
        check_sums(0, layer_constants(LearningNetwork((2,), (Dense(2),), 3, rule), 0, 0), 1 << 20, 1 << 16)


@pytest.mark.parametrize(
    "labels, shift, part",
    [
        ([1.9, 0.2], 0, "labels are of type float64"),
        (["1", "2"], 0, "labels are of type"),
        ([float("nan"), 1], 0, "labels are of type float64"),
        ([0, 1], 0.5, "rate_shift: found 0.5"),
        ([0, 1], True, "rate_shift: found True"),
        ([0, 1], 65, "-64 to 64"),
        ([0, 1], "1", "rate_shift: found .1."),
    ],
)
def test_labels_and_rates_are_integers(labels, shift, part):
    learner = Learner(small())
    with pytest.raises(FormatError, match=part):
        learner.learn(learner.begin(2), np.zeros((2, 1, 4, 4), np.uint8), labels, shift)
    assert learner.steps == 0


def test_a_rate_beyond_the_sums_is_the_greatest_there_is():
    """Shifts are brought into 0 .. 62: all gradients are clipped, or none moves a weight but by chance."""
    rule = Rule.corrected(burn_in=0, weight_scale="0.01", tau_membrane=(2, 4), step_limit=3)
    network = LearningNetwork((1, 4, 4), (Conv(3, 3), Dense(32)), 3, rule)
    for shift in (-64, -20, 50, 64):
        learners = [Learner(network, 1, path="reference"), Learner(network, 1)]
        rng, states = np.random.default_rng(0), [learner.begin(2) for learner in learners]
        for _ in range(4):
            frame = random_frame(rng, 2, network.shape, 0.5)
            outcomes = [one.learn(state, frame, [0, 2], shift) for one, state in zip(learners, states, strict=True)]
            same(*learners, *states, *outcomes)
