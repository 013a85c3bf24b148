"""The vector neurons against the specification: every part, every width, and that the proofs behind a width hold."""

import dataclasses

import numpy as np
import pytest
import strategies
from hypothesis import example, given, settings
from hypothesis import strategies as st

from intsnn.engine.backends.stepwise.neuron_constants import neuron_channels, neuron_parameters
from intsnn.engine.backends.stepwise.neuron_width import narrowest
from intsnn.formats.fixed import Fixed, Overflow, Rounding
from intsnn.kernels.neurons import reference
from intsnn.kernels.parameters import COUNTERS, FIRSTS
from intsnn.kernels.toolchain.tier import tier
from intsnn.layers import IF, LIF, QFFS, Bound, CubaLIF, Decay, Neuron, Refractory, SignedIF, loihi
from intsnn.layers.schedule import Schedule

SEED = st.integers(0, 2**32 - 1)
needs_vectors = pytest.mark.skipif(tier() == "portable", reason="the tier portable has no vector neurons")


def objects(value, size):
    """One Python integer per channel."""
    array = np.empty(size, object)
    array[:] = value
    return array


def bound_of(low, high, steps, channels):
    """Bound of a charge of `low` to `high` a step."""
    ends = (low, high, min(low, 0) * steps, max(high, 0) * steps)
    return Bound(*(objects(end, channels) for end in ends))


def fit(layer, low, high, steps=40, shape=(5, 3), current_type=np.int32, counts=True):
    """The vector kernel of a layer that a charge of `low` to `high` flows into."""
    charge = bound_of(low, high, steps, shape[0])
    return narrowest(
        layer,
        charge,
        layer.bound([charge], [shape], Schedule(steps, steps, steps, steps)),
        current_type,
        steps,
        shape,
        counts,
    )


class Side:
    """Arrays of one kernel: states, what it writes, what it counts."""

    def __init__(self, layer, samples, size, dtype, count_type, pending_type, counted):
        self.layer, self.samples, self.size, self.dtype = layer, samples, size, dtype

        def state(there, kind):
            return np.zeros((samples, size if there else 0), kind)

        self.u, self.v = state(layer.u_format is not None, dtype), state(True, dtype)
        self.count, self.pending = state(counted, count_type), state(layer.reset_delay, pending_type)
        self.refractory = state(layer.refractory.kind != "none", dtype)
        self.counters, self.first = (np.zeros(n, object if dtype is object else np.int64) for n in (COUNTERS, FIRSTS))

    def rows(self, steps, recorded):
        """Fresh arrays for a call: spikes and records."""
        self.out = np.full((self.samples, steps, self.size), 99, object if self.dtype is object else np.int8)
        self.records = [
            np.full((self.samples, steps if there else 0, self.size), 99, self.dtype)
            for there in (recorded and self.layer.u_format is not None, recorded)
        ]
        return self.out, *self.records, self.counters, self.first

    @property
    def states(self):
        return self.u, self.v, self.count, self.pending, self.refractory


def run_both(layer, low, high, seed, channels=5, pixels=3, samples=3, steps=40, longest=6, current_type=np.int32):
    """Both kernels on the same charges, call by call; the vector kernel's `Narrow`, or None where there is none.

    Charges are extreme more often than not; between calls a sample may come to rest.
    """
    from intsnn.kernels.neurons.narrow import narrow_run

    rng = np.random.default_rng(seed)
    counts, recorded = bool(rng.integers(2)), bool(rng.integers(2))
    narrow = fit(layer, low, high, steps, (channels, pixels), current_type, counts)
    if narrow is None:
        return None
    size = channels * pixels
    plain = Side(layer, samples, size, object, object, object, True)
    fast = Side(layer, samples, size, narrow.state_type, narrow.count_type, np.int8, narrow.counted)
    for side in (plain, fast):
        side.v.reshape(samples, pixels, channels)[...] = np.asarray(layer.v_initial)
    parameters = neuron_parameters(layer, 3, 1)
    uncapped = parameters if narrow.capped else parameters._replace(max_count=-1)
    each = neuron_channels(layer, channels)
    alive, now = np.ones(samples, np.uint8), 0
    while now < steps and alive.any():
        length = min(int(rng.integers(1, longest + 1)), steps - now)
        shape = (samples, 1 if rng.random() < 0.3 else length, size)
        charge = rng.integers(low, high + 1, shape)
        charge = np.where(rng.random(shape) < 0.6, rng.choice([low, high], shape), charge)
        driven = int(rng.integers(0, length + 1))
        reference.neuron_run(
            charge.astype(object), driven, now, 7, parameters, each.astype(object), alive,
            *plain.states, *plain.rows(length, recorded),
        )  # fmt: skip
        narrow_run(
            narrow.constants, narrow.table, narrow.period, charge.astype(current_type), driven, now, 7, uncapped,
            each, alive, *fast.states, *fast.rows(length, recorded),
        )  # fmt: skip
        for name in ("out", "u", "v", "pending", "refractory", "counters", "first", *["count"] * narrow.counted):
            assert getattr(fast, name).tolist() == getattr(plain, name).tolist(), (name, now)
        assert [a.tolist() for a in fast.records] == [a.tolist() for a in plain.records], now
        now += length
        if rng.random() < 0.1:
            alive[rng.integers(samples)] = 0
    return narrow


@st.composite
def scaled(draw, channels, scale=None):
    """A random neuron whose numbers need more or fewer bits, and the range of its charge."""
    layer = draw(strategies.neurons(channels, scale=scale))
    layer = dataclasses.replace(layer, max_spikes_per_step=1)
    if layer.refractory.kind == "trace":
        layer = dataclasses.replace(layer, refractory=Refractory("counter", steps=draw(st.integers(0, 3))))
    steady = [r for r in Rounding if r != Rounding.STOCHASTIC]
    for name in ("v_decay", "u_decay"):
        kind = getattr(layer, name)
        layer = dataclasses.replace(layer, **{name: dataclasses.replace(kind, rounding=draw(st.sampled_from(steady)))})
    if scale is not None:
        return layer, draw(st.integers(-scale, 0)), draw(st.integers(0, scale))
    power = draw(st.sampled_from((0, 0, 3, 9, 16, 26)))
    if power:
        bits = draw(st.integers(min(power + 8, 40), 48))
        parts = {name: np.asarray(getattr(layer, name)) << power for name in ("threshold", "bias", "v_negative")}
        parts |= {"v_format": Fixed(bits), "v_initial": 0, "acc_format": None, "bias_format": Fixed(48)}
        layer = dataclasses.replace(layer, **parts, threshold_format=Fixed(48))
    low = draw(st.integers(-60, 0)) << power
    return layer, low, draw(st.integers(0, 90)) << power


@needs_vectors
@settings(max_examples=120)
@given(st.data(), SEED)
def test_any_neuron(data, seed):
    """Whatever is accepted gives the integers of the specification, also after a long time."""
    channels, pixels = data.draw(st.sampled_from(((1, 1), (5, 3), (33, 2), (64, 2), (70, 1), (3, 50))))
    layer, low, high = data.draw(scaled(channels))
    kind = np.int64 if high - low > 2**30 else np.int32
    run_both(layer, low, high, seed, channels, pixels, data.draw(st.integers(1, 4)), current_type=kind)


@needs_vectors
@settings(max_examples=120)
@given(st.data(), SEED, st.sampled_from((60, 1 << 14, 1 << 16, 1 << 30, 1 << 31, 1 << 40)))
def test_any_wide_neuron(data, seed, scale):
    """The same where every number of the neuron may be as large as its charge, and every state has up to 48 bits."""
    channels, pixels = data.draw(st.sampled_from(((1, 1), (5, 3), (33, 2), (70, 1))))
    layer, low, high = data.draw(scaled(channels, scale))
    kind = np.int64 if high - low > 2**30 else np.int32
    run_both(layer, low, high, seed, channels, pixels, data.draw(st.integers(1, 3)), current_type=kind)


LEAKS = [
    *(Decay.by_shift(k, mode, least) for k in (0, 1, 5) for mode in Rounding for least in (False, True)),
    *(Decay.by_multiply(m, k, mode) for m, k in ((0, 3), (1, 1), (5, 3), (3000, 12), (4095, 12)) for mode in Rounding),
    *(Decay.by_subtract(n) for n in (1, 40)),
]
LEAKS = [leak for leak in LEAKS if leak.rounding != Rounding.STOCHASTIC]


@needs_vectors
@pytest.mark.parametrize("bits, power", [(16, 0), (32, 12), (64, 30)])
def test_every_leak_on_every_state(bits, power):
    """All leaks and roundings at each width: a state of every size, both signs, ends of the format included."""
    for leak in LEAKS:
        layer = Neuron(1, v_decay=leak, v_format=Fixed(12 + power), reset="none", v_overflow=Overflow.SAT)
        top = (1 << 11) << power
        narrow = run_both(layer, -top, top, 5, 64, 3, 1, 30, 1, np.int64 if power > 18 else np.int32)
        assert narrow.state_type(0).itemsize * 8 == bits, leak


@needs_vectors
@pytest.mark.parametrize("mode", [Overflow.SAT, Overflow.SAT_SYM, Overflow.WRAP])
@pytest.mark.parametrize("bits", [7, 16, 24, 32, 40])
@settings(max_examples=10)
@given(SEED)
def test_overflows_are_counted_and_the_first_is_named(mode, bits, seed):
    """In u, v and acc, at the width of the lanes and below."""
    rng = np.random.default_rng(seed)
    top = 1 << (bits - 2)
    fmt, parts = Fixed(bits), {}
    if rng.integers(2):
        parts = {"u_format": fmt, "u_overflow": mode, "u_decay": Decay.by_shift(3, Rounding.RND)}
    if rng.integers(2):
        parts |= {"acc_format": Fixed(bits - 1), "acc_overflow": mode}
    layer = Neuron(
        rng.integers(1, top, 5), v_format=fmt, v_overflow=mode, v_decay=Decay.by_multiply(7, 3, Rounding.TRN_ZERO),
        bias=int(rng.integers(-9, 9)), threshold_format=Fixed(48), **parts,
    )  # fmt: skip
    assert run_both(layer, -top, top, seed, current_type=np.int64 if bits > 30 else np.int32) is not None


@needs_vectors
@settings(max_examples=30)
@given(SEED, st.integers(1, 140), st.integers(1, 3), st.sampled_from((1, 16)))
def test_any_number_of_neurons(seed, channels, pixels, longest):
    """Short tiles, channels that are no multiple of a vector, samples that are one stretch or not."""
    rng = np.random.default_rng(seed)
    layer = SignedIF(rng.integers(5, 40, channels), levels=int(rng.integers(1, 9)), v_negative=-3, v_format=Fixed(16))
    narrow = run_both(layer, -20, 30, seed, channels, pixels, 4, longest=longest, current_type=np.int16)
    assert narrow.state_type is np.int16


@needs_vectors
@example(0, 16)
@given(SEED, st.sampled_from((16, 24)))
@settings(max_examples=20)
def test_published_neurons(seed, bits):
    for layer in (
        IF(60, v_format=Fixed(bits)),
        SignedIF(60, levels=7, v_format=Fixed(bits)),
        QFFS(60, 7, v_format=Fixed(bits)),
        LIF(60, Decay.by_shift(4), v_format=Fixed(bits), refractory=Refractory("counter", steps=2)),
        CubaLIF(60, Decay.by_shift(2), Decay.by_multiply(3000, 12), u_format=Fixed(bits), v_format=Fixed(bits)),
        loihi(10, 100, 200, 64),
    ):
        assert run_both(layer, -200, 300, seed) is not None


# -- which width ------------------------------------------------------------------------------------


def width(layer, low, high, **options):
    """Bits of the vector kernel, None: only the general one does."""
    narrow = fit(layer, low, high, **options)
    return None if narrow is None else narrow.state_type(0).itemsize * 8


LEVELS = (
    (IF(60), {}, 0),
    (LIF(60, Decay.by_shift(4)), {}, 0),
    (LIF(60, Decay.by_shift(4)), {"counts": True}, 1),
    (LIF(60, Decay.by_shift(4), v_format=Fixed(8)), {}, 1),
    (SignedIF(60, levels=5), {}, 1),
    (QFFS(60, 5), {}, 2),
    (CubaLIF(60, Decay.by_shift(1), Decay.by_shift(1)), {}, 2),
    (LIF(60, Decay(), refractory=Refractory("counter", steps=1)), {}, 2),
)


@needs_vectors
@pytest.mark.parametrize("layer, options, level", LEVELS)
def test_simple_neurons_take_simple_code(layer, options, level):
    from intsnn.kernels.neurons.vector import LEVEL

    assert fit(layer, -20, 30, **{"counts": False, **options}).constants[LEVEL] == level


@needs_vectors
def test_width_follows_the_proof():
    """The declared format does not count: what can be reached in the steps of the run does."""
    assert width(IF(60), -20, 30) == 16
    assert width(IF(60), -20, 30, steps=1000) == 16  # 30 000 at most
    assert width(IF(60), -20, 30, steps=2000) == 32
    assert width(IF(60, v_format=Fixed(16)), -20, 30, steps=2000) == 16  # saturates
    assert width(IF(60, v_overflow=Overflow.TRAP), -20, 30, steps=2000) == 32
    assert width(IF(60, v_format=Fixed(16), v_overflow=Overflow.TRAP), -20, 30, steps=2000) is None  # could trap
    assert width(LIF(60, Decay.by_shift(4)), -20, 30, steps=10**9, counts=False) == 16  # never above 31 * 16
    assert width(LIF(60, Decay.by_shift(4)), -20, 30, steps=10**9) == 32  # but the count may be
    assert width(IF(60), -20, 40000) == 32
    assert width(IF(60), -20, 2**31) == 64
    assert width(LIF(60, Decay.by_multiply(1, 1)), -20, 2**29) == 32
    assert width(LIF(60, Decay.by_multiply(1, 1)), -20, 2**30) == 64


@needs_vectors
def test_what_only_the_general_neuron_does():
    stochastic = Decay.by_shift(3, Rounding.STOCHASTIC)
    trace = Refractory("trace", amplitude=3)
    for parts in ({"v_decay": stochastic}, {"refractory": trace}, {"max_spikes_per_step": 2}):
        assert fit(Neuron(60, **parts), -20, 30) is None, parts
    wraps = {"v_format": Fixed(6, narrow=True), "v_overflow": Overflow.WRAP}  # a modulus that is no power of two
    assert fit(Neuron(10, **wraps), -20, 30) is None


@needs_vectors
def test_cap_that_cannot_be_reached_is_dropped():
    assert fit(IF(60, max_count=40), -20, 30, steps=40, counts=False).capped is False
    assert fit(IF(60, max_count=39), -20, 30, steps=40, counts=False).capped is True
    assert fit(IF(60, max_count=40), -20, 30, steps=40, counts=False).counted is False
