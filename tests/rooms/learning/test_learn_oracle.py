"""Learning against an oracle that knows the documentation only: every weight, trace, spike and prediction of a step."""

from dataclasses import asdict, fields
from fractions import Fraction

import learn_oracle
import numba
import numpy as np
import pytest

from intsnn.errors import FormatError, ShapeError
from intsnn.formats.fixed import Rounding
from intsnn.kernels.learning import parameters as P
from intsnn.layers import Decay
from intsnn.learning.constants import layer_constants
from intsnn.learning.learner import Conv, Dense, Learner, LearningNetwork, Rule, Widths
from intsnn.learning.rule import LETTERS
from intsnn.learning.stdp import PairRule, Plasticity, Trace

GROUPS, EACH = (20, 10) if not numba.config.DISABLE_JIT else (2, 2)
NARROW = {
    "W": (2, 8), "G": (2, 14), "P": (2, 14), "Q": (2, 12), "R": (1, 6), "U": (2, 7), "S": (2, 8), "A": (2, 9),
    "Sig": (1, 9), "E": (2, 8), "RNG": (1, 16), "K": (6, 20), "D": (2, 12),
}  # fmt: skip
WIDE = {
    "W": (6, 10), "G": (12, 20), "P": (12, 18), "Q": (10, 16), "R": (4, 10), "U": (6, 9), "S": (6, 12), "A": (6, 14),
    "Sig": (6, 14), "E": (6, 12), "RNG": (10, 16), "K": (12, 22), "D": (6, 14),
}  # fmt: skip


def between(rng, ends):
    return int(rng.integers(ends[0], ends[1] + 1))


def pick(rng, values):
    return values[int(rng.integers(len(values)))]


def drawn_rule(rng, wide):
    """Every field of a rule; penalties from none to such that decide, levels that the mean of U meets exactly."""
    widths = Widths(**{LETTERS[letter]: between(rng, ends) for letter, ends in (WIDE if wide else NARROW).items()})
    make = pick(rng, (Rule.published, Rule.corrected))
    rule = make(
        widths=widths,
        weight_scale=Fraction(between(rng, (1, 60)), pick(rng, (100, 1000))),
        bias_scale=pick(rng, (1, Fraction(1, 30), "0.00004")),
        tau_membrane=(between(rng, (2, 5)), between(rng, (5, 20))),
        tau_synapse=pick(rng, ((2, 4), (3, 3), (Fraction(5, 2), 7))),
        refractory_decay=Fraction(between(rng, (0, 9)), 10),
        trace_cap=Fraction(between(rng, (1, 4)), 4),
        trace_rounding=pick(rng, (*Rounding, Rounding.RND_CONV, Rounding.RND_CONV, Rounding.STOCHASTIC)),
        state_range=pick(rng, (8, 4, Fraction(3, 2))),
        state_clamp=pick(rng, (1, 1, 2, 8)),
        threshold=Fraction(between(rng, (-4, 4)), 8),
        dropout=Fraction(between(rng, (0, 3)), 4),
        dropout_in_test=bool(rng.integers(2)),
        rate_penalty=pick(rng, (0, Fraction(1, 50), Fraction(1, 7), 3)),
        quiet_penalty=pick(rng, (0, Fraction(1, 10_000), Fraction(1, 3), 2, 16)),
        quiet_level=pick(rng, (0, 0, Fraction(1, 10), Fraction(-1, 3), 2)),
        mean_penalties=bool(rng.integers(2)),
        inclusive_codes=bool(rng.integers(2)),
        inclusive_random=bool(rng.integers(2)),
        zero_start=bool(rng.random() < 0.3),
        gradient_scale=pick(rng, ("batch", "previous")),
        step_limit=pick(rng, (None, None, 1, 3, 9)),
        burn_in=pick(rng, (0, 0, 1, 2)),
    )
    return rule


def drawn_network(rng, wide, seed):
    """The first network of a drawn form whose kernels fit its maps and whose sums fit 64 bits."""
    while True:
        try:
            network = drawn_form(rng, wide)
            [layer_constants(network, i, seed) for i in range(len(network.layers))]
        except (FormatError, ShapeError):
            continue
        return network


def drawn_form(rng, wide):
    """One to three layers: convolutions with padding, stride and pool, dense layers, inputs with and without a map."""
    size = (between(rng, (1, 2)), between(rng, (4, 6)), between(rng, (4, 6)))
    if rng.random() < 0.25:
        size, layers = (between(rng, (3, 12)),), [Dense(pick(rng, (1, 5, 32)))]
    else:
        layers = [
            Conv(
                between(rng, (1, 3)), between(rng, (1, 4)), padding=between(rng, (0, 2)), stride=between(rng, (1, 2)),
                pool=pick(rng, (1, 1, 2)),
            )
        ]  # fmt: skip
        if rng.random() < 0.4:
            layers.append(Conv(between(rng, (1, 3)), between(rng, (1, 2)), padding=1, pool=pick(rng, (1, 2))))
    if rng.random() < 0.4:
        layers.append(Dense(between(rng, (1, 6))))
    return LearningNetwork(size, tuple(layers), between(rng, (2, 5)), drawn_rule(rng, wide))


def handed_over(network, seed):
    """The oracle of a network: nothing but plain values."""
    layers = [
        ("dense", layer.units) if isinstance(layer, Dense)
        else ("conv", layer.channels, layer.kernel, layer.padding, layer.stride, layer.pool)
        for layer in network.layers
    ]  # fmt: skip
    rule = {item.name: getattr(network.rule, item.name) for item in fields(network.rule) if item.name != "widths"}
    rule["trace_rounding"] = rule["trace_rounding"].name
    named = asdict(network.rule.widths)
    widths = {letter: named[name] for letter, name in LETTERS.items()}
    return learn_oracle.Net(network.shape, layers, network.classes, rule, widths, seed)


def compare(case, path="compiled"):
    """Learn, watch and learn again; the first difference fails. What happened: changed weights, spikes, losses."""
    rng = np.random.default_rng(case)
    wide = case % 8 == 7
    seed = int(rng.integers(1 << 40))
    network = drawn_network(rng, wide, seed)
    learner = Learner(network, seed, path=path, chunk=pick(rng, (None, None, 1, 2)))
    oracle = handed_over(network, seed)
    counts = np.zeros(3, np.int64)
    for learning, steps in ((True, 4), (False, 3), (True, 3)):
        samples, first = between(rng, (1, 3)), 0 if learning else between(rng, (0, 5))
        state, theirs = learner.begin(samples, first), oracle.begin(samples, first)
        labels = rng.integers(0, network.classes, samples).tolist()
        density, shift = pick(rng, (0.1, 0.3, 0.6)), pick(rng, (0, 0, 1, 2, -1, -5, 9))
        for t in range(network.rule.burn_in + steps):
            frame = (rng.random((samples, *network.shape)) < density) * rng.integers(1, pick(rng, (2, 2, 4, 256)))
            expected = oracle.advance(theirs, frame.tolist(), labels if learning else None, shift)
            found = learner.learn(state, frame, labels, shift) if learning else learner.watch(state, frame)
            where = f"case {case}, step {t}, {'learning' if learning else 'watching'}"
            assert found.predictions.tolist() == expected[0], where
            assert found.spikes.tolist() == expected[1], where
            for index, (own, other) in enumerate(zip(learner.layers, oracle.layers, strict=True)):
                assert own.weight.reshape(-1).tolist() == other.weight, (where, index)
                assert own.master.reshape(-1).tolist() == other.master, (where, index)
                assert own.bias.tolist() == other.bias and own.bias_master.tolist() == other.bias_master, (where, index)
                assert own.exponents == other.exponents, (where, index)
                assert int(found.counters[index, P.SPIKES]) == other.fired, (where, index)
                assert not learning or int(found.counters[index, P.LOSS]) == other.loss, (where, index)
                for name, trace in zip("pqr", zip(*theirs["traces"][index], strict=True), strict=True):
                    assert getattr(state, name)[index].tolist() == list(trace), (where, index, name)
            counts += found.counters[:, [P.W_CHANGED, P.SPIKES, P.LOSS]].sum(0)
    return counts


@pytest.mark.parametrize("group", range(GROUPS))
def test_two_hundred_networks_learn_as_the_documentation_says(group):
    counts = np.sum([compare(EACH * group + i) for i in range(EACH)], axis=0)
    assert (counts > 0).all()


@pytest.mark.parametrize("case", range(1000, 1004))
def test_the_plain_path_learns_as_the_documentation_says(case):
    compare(case, "reference")


# -- spike-timing plasticity ----------------------------------------------------------------------------------------


def drawn_decay(rng):
    rounding = Rounding(int(rng.integers(8)))
    return pick(
        rng,
        (
            Decay(), Decay.by_shift(between(rng, (1, 6)), rounding, bool(rng.integers(2))),
            Decay.by_multiply(between(rng, (0, 16)), 4, rounding), Decay.by_subtract(between(rng, (1, 9))),
        ),
    )  # fmt: skip


def compare_pairs(case, path="compiled"):
    rng = np.random.default_rng(case)
    traces = []
    for _ in range(2):
        bits = between(rng, (1, 7))
        traces.append(Trace(bits, between(rng, (0, (1 << bits) - 1)), drawn_decay(rng)))
    large = 1 << pick(rng, (4, 10, 23))
    tables = [tuple(int(n) for n in rng.integers(-large // 4, large, trace.top + 1)) for trace in traces]
    signed, weight_bits = bool(rng.integers(2)), between(rng, (1, 16))
    rule = PairRule(
        *tables, *traces, weight_bits=weight_bits, signed=signed, places=pick(rng, (0, 3, 8, 20, 40)),
        rounding=Rounding(int(rng.integers(8))), soft=bool(rng.integers(2)), nearest=bool(rng.integers(2)),
        eligibility=drawn_decay(rng), eligibility_bits=pick(rng, (2, 9, 16, 32)),
    )  # fmt: skip
    low = -(1 << weight_bits - 1) if signed else 0
    high = low + (1 << weight_bits) - 1
    samples, rewarded = pick(rng, (1, 2, 5)), bool(rng.integers(2))
    weight = rng.integers(low, high + 1, (between(rng, (1, 5)), between(rng, (1, 4))))
    learner = Plasticity(rule, weight, samples, seed=case, layer=case % 3, path=path)
    oracle = learn_oracle.Pairs(
        {
            "potentiation": tables[0], "depression": tables[1], "low": low, "high": high, "places": rule.places,
            "rounding": rule.rounding, "soft": rule.soft, "nearest": rule.nearest, "eligibility": rule.eligibility,
            "eligibility_bits": rule.eligibility_bits,
            **{name: (t.bits, t.amplitude, t.decay) for name, t in zip(("pre", "post"), traces, strict=True)},
        },
        weight.tolist(), samples, case, case % 3,
    )  # fmt: skip
    for t in range(12):
        pre, post = ((rng.random((samples, n)) < 0.4) * rng.integers(1, pick(rng, (2, 3, 256))) for n in weight.shape)
        reward = rng.integers(-(1 << 24) + 1, 1 << 24, samples) >> pick(rng, (0, 12, 22)) if rewarded else None
        learner.step(pre, post, reward)
        oracle.step(pre.tolist(), post.tolist(), reward.tolist() if rewarded else None)
        assert learner.weight.tolist() == oracle.weight, (case, t)
        assert learner.x.tolist() == oracle.x and learner.y.tolist() == oracle.y, (case, t)
        if rewarded:
            assert learner.eligibility.tolist() == oracle.held, (case, t)
    return learner.counters[P.PAIR_CHANGED]


def test_pairs_change_weights_as_the_documentation_says():
    assert sum(compare_pairs(case) for case in range(100 if not numba.config.DISABLE_JIT else 4)) > 100
    compare_pairs(1000, "reference")
