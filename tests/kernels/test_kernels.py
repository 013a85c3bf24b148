"""Kernels: the compiled twins against the plain functions, element by element, on random arrays of several types."""

import itertools

import numba
import numpy as np
import oracle
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from intsnn.engine.backends.stepwise.neuron_constants import neuron_channels, neuron_parameters
from intsnn.engine.backends.stepwise.neuron_width import narrowest
from intsnn.formats.fixed import Fixed, Overflow, Rounding
from intsnn.kernels.layers import compiled as linear
from intsnn.kernels.layers import reference, vector
from intsnn.kernels.neurons import compiled as neuron
from intsnn.kernels.neurons import reference as neuron_reference
from intsnn.kernels.parameters import COUNTERS, FIRSTS, TRAPPED, Window
from intsnn.kernels.toolchain.tier import tier
from intsnn.layers import Bound, Decay, Neuron, Refractory
from intsnn.layers.schedule import Schedule

SEED = st.integers(0, 2**32 - 1)
SMALL = {np.int8: 3, np.int32: 1000, np.int64: 1 << 40}
LANES = vector.LANES
CHANNELS = st.one_of(st.integers(1, 5), st.sampled_from((LANES - 1, LANES, LANES + 1, 2 * LANES + 3, 5 * LANES)))


@st.composite
def windows(draw, pool=False):
    """Random geometry of a connection or pool; every output pixel sees a part of the map."""
    groups = 1 if pool else draw(st.sampled_from((1, 1, 2, 3)))
    channels = draw(st.integers(1, 3)) * groups
    outputs = channels if pool else groups * draw(CHANNELS)
    sizes = []
    for _ in range(2):
        size, kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
        dilation = 1 if pool else draw(st.integers(1, 2))
        before, after = draw(st.integers(0, kernel - 1)), draw(st.integers(0, kernel - 1))
        size = max(size, dilation * (kernel - 1) + 1 - before - after)
        out = (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
        sizes.append((size, out, kernel, stride, before, dilation))
    (h, oh, kh, sy, top, dy), (w, ow, kw, sx, left, dx) = sizes
    return Window(h, w, channels, oh, ow, outputs, kh, kw, sy, sx, top, left, dy, dx, groups)


def values(rng, shape, dtype, density=0.5):
    """Random integers of `dtype`, many of them 0 and ±1."""
    found = rng.integers(-SMALL[dtype], SMALL[dtype] + 1, shape)
    found = np.where(rng.random(shape) < 0.5, np.sign(found), found)
    found[rng.random(shape) >= density] = 0
    return found.astype(dtype)


def marked(rng, samples):
    """Which samples are alive; at least one of several is not."""
    alive = np.ones(samples, np.uint8)
    if samples > 1:
        alive[rng.integers(samples)] = 0
    return alive


def both(name, module, make, *outputs):
    """Call the plain and the compiled kernel on equal copies; `outputs` (names of arrays) must agree."""
    plain, fast = make(), make()
    for key, value in plain.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "i":
            plain[key] = value.astype(object)
    one = getattr(neuron_reference if module is neuron else reference, name)(*plain.values())
    two = getattr(module, name)(*fast.values())
    assert one == two
    for key in outputs:
        assert plain[key].tolist() == fast[key].tolist(), (name, key)


# (input, weight, sum)
TYPES = [
    (np.int8, np.int8, np.int16),
    (np.int8, np.int8, np.int32),
    (np.int32, np.int8, np.int32),
    (np.int8, np.int32, np.int64),
    (np.int64, np.int8, np.int64),
]


@pytest.mark.parametrize("types", TYPES, ids=lambda types: "-".join(t.__name__ for t in types))
@settings(max_examples=25)
@given(data=st.data())
def test_convolve(types, data):
    window, seed = data.draw(windows()), data.draw(SEED)
    steps, constant, varied = data.draw(st.integers(1, 5)), data.draw(st.booleans()), data.draw(st.booleans())
    kind, weight_kind, sum_kind = types

    def make():
        rng = np.random.default_rng(seed)
        samples, steps_in, outputs = int(rng.integers(1, 4)), 1 if constant else steps, window.out_channels
        size = window.height * window.width * window.channels
        x = values(rng, (samples, steps_in, size), kind, rng.choice([0.05, 0.5, 1]))
        weight = values(
            rng,
            (window.kernel_height, window.kernel_width, window.channels, outputs // window.groups),
            weight_kind,
            0.9,
        )
        return {
            "x": x,
            "weight": weight,
            "window": window,
            "multiplier": values(rng, outputs, np.int8, 0.9).astype(sum_kind),
            "bias": values(rng, (steps if varied else 1, outputs), np.int32).astype(sum_kind),
            "alive": marked(rng, samples),
            "offsets": np.empty(window.height * window.width * steps_in + 1, np.int32),
            "indices": np.empty(size * steps_in + 1, np.int32),
            "values": np.empty(size * steps_in + 1, sum_kind),
            "sums": np.empty(outputs, sum_kind),
            "out": np.full((samples, steps, window.out_height * window.out_width * outputs), 99, sum_kind),
        }

    both("convolve", linear, make, "out")


def test_convolve_ignores_what_wraps_in_between():
    """Partial sums may leave 32 bits as long as the sum of the step fits."""
    big = 2**30
    weight = np.array([[[[big], [big], [big], [-big], [-big], [-big + 7]]]], np.int32)
    out = np.zeros((1, 1, 1), np.int32)
    with np.errstate(over="ignore"):  # without the compiler NumPy's integers wrap as well, and say so
        linear.convolve(
            np.ones((1, 1, 6), np.int8), weight, Window(1, 1, 6, 1, 1, 1), np.ones(1, np.int32),
            np.zeros((1, 1), np.int32), np.ones(1, np.uint8), np.empty(2, np.int32), np.empty(7, np.int32),
            np.empty(7, np.int32), np.empty(1, np.int32), out,
        )  # fmt: skip
    assert out.tolist() == [[[7]]]


@pytest.mark.parametrize("kind, sum_kind", [(np.int8, np.int32), (np.int32, np.int32), (np.int64, np.int64)])
@settings(max_examples=30)
@given(data=st.data())
def test_pools(kind, sum_kind, data):
    window, seed, steps = data.draw(windows(pool=True)), data.draw(SEED), data.draw(st.integers(1, 4))
    constant, mode = data.draw(st.booleans()), data.draw(st.sampled_from(strategies.DETERMINISTIC))

    def arrays(steps_in):
        rng = np.random.default_rng(seed)
        samples = int(rng.integers(1, 4))
        x = values(rng, (samples, steps_in, window.height * window.width * window.channels), kind)
        return rng, x, marked(rng, samples), window.out_height * window.out_width * window.out_channels

    def summed():
        _, x, alive, size = arrays(steps)
        return {"x": x, "window": window, "alive": alive, "out": np.full((len(x), steps, size), 99, sum_kind)}

    both("sum_pool", linear, summed, "out")

    def divided():
        rng, x, alive, _ = arrays(steps)
        x = x.astype(sum_kind)
        return {"x": x, "divisor": int(rng.integers(1, 10)), "mode": int(mode), "alive": alive, "out": x.copy()}

    both("divide", linear, divided, "out")

    def greatest():
        rng, x, alive, size = arrays(1 if constant else steps)
        wide = np.int64 if kind is np.int64 else np.int32
        count = values(rng, (len(x), x.shape[2]), kind).astype(wide)
        best = values(rng, (len(x), size), kind).astype(wide)
        return {
            "x": x, "window": window, "alive": alive, "count": count, "best": best,
            "out": np.full((len(x), steps, size), 99, wide),
        }  # fmt: skip

    both("max_pool", linear, greatest, "out", "count", "best")


@pytest.mark.parametrize("kind, sum_kind", [(np.int8, np.int32), (np.int32, np.int64), (np.int64, np.int64)])
@settings(max_examples=30)
@given(data=st.data())
def test_elementwise(kind, sum_kind, data):
    seed, steps, channels, pixels = (
        data.draw(s) for s in (SEED, st.integers(1, 4), st.integers(1, 5), st.integers(1, 4))
    )
    lengths = data.draw(st.sampled_from([(steps, steps), (1, steps), (steps, 1)]))

    def arrays(*steps_in):
        rng = np.random.default_rng(seed)
        samples = int(rng.integers(1, 4))
        return rng, marked(rng, samples), [values(rng, (samples, n, channels * pixels), kind) for n in steps_in]

    def added():
        _, alive, (one, two) = arrays(*lengths)
        out = np.full((len(one), steps, channels * pixels), 99, sum_kind)
        return {"first": one, "second": two, "alive": alive, "out": out}

    both("add", linear, added, "out")

    def scaled():
        rng, alive, (x,) = arrays(steps)
        factor = values(rng, channels, np.int8).astype(sum_kind)
        return {"x": x, "factor": factor, "alive": alive, "out": np.full(x.shape, 99, sum_kind)}

    both("scale", linear, scaled, "out")

    def accumulated():
        rng, alive, (x,) = arrays(lengths[0])
        return {"x": x, "steps": steps, "alive": alive, "total": values(rng, (len(x), x.shape[2]), np.int64)}

    both("accumulate", linear, accumulated, "total")

    def first():
        rng, alive, (x,) = arrays(lengths[0])
        step_of = rng.choice([-1, -1, 5], (len(x), x.shape[2]))
        return {"x": x, "steps": steps, "start": 7, "alive": alive, "step_of": step_of}

    both("first_spike", linear, first, "step_of")


@settings(max_examples=40)
@given(SEED, st.integers(1, 5), st.integers(0, 5), st.integers(1, 40))
def test_tally(seed, steps, driven, size):
    def make():
        rng = np.random.default_rng(seed)
        x = rng.integers(-127, 128, (2, steps, size)).astype(np.int8)
        x[rng.random(x.shape) < 0.7] = 0
        x[rng.random(x.shape[:2]) < 0.4] = 0
        found = {"x": x, "driven": driven, "alive": marked(rng, 2), "active": np.zeros((2, steps), np.uint8)}
        return found | {name: rng.integers(0, 2, size).astype(np.uint8) for name in ("ever", "always")}

    both("tally", neuron, make, "active", "ever", "always")


@pytest.mark.parametrize("kind", [np.int32, np.int64])
@settings(max_examples=40)
@given(SEED, st.integers(1, 6), st.integers(-300, 0), st.integers(1, 300))
def test_levels(kind, seed, channels, bottom, top):
    def make():
        rng = np.random.default_rng(seed)
        threshold = rng.integers(1, 20, channels)
        x = rng.integers(-500, 500, (2, 1, 4 * channels)).astype(kind)
        out = np.full(x.shape, 99, np.int32)
        start = rng.integers(-9, 20, channels)
        ends = (bottom, top)
        return {"x": x, "start": start, "threshold": threshold, "ends": ends, "alive": marked(rng, 2), "out": out}

    both("levels", neuron, make, "out")


@settings(max_examples=60)
@given(
    st.integers(-(2**47), 2**47 - 1), strategies.decays(), st.integers(0, 2**64 - 1)
)  # every kind, every rounding, stochastic too
def test_decay(x, decay, word):
    from intsnn.engine.backends.stepwise.neuron_constants import _codes

    kind, rounding, least = _codes(decay)
    second = decay.shift
    first = {"shift": second, "multiply": decay.multiplier}.get(decay.kind, decay.amount)
    expected = oracle.leak(x, decay, word)
    assert neuron_reference.decay(x, kind, first, second, rounding, least, word) == expected
    signed = word - (1 << 64) if word >> 63 else word
    assert neuron.decay(np.int64(x), kind, first, second, rounding, least, np.int64(signed)) == expected


@pytest.mark.parametrize("sum_kind", [np.int16, np.int32, np.int64])
@pytest.mark.parametrize("row_kind", [np.int8, np.int32, np.int64])
@settings(max_examples=25)
@given(SEED, st.integers(1, 9 * LANES), st.integers(0, 12))
def test_add_rows(sum_kind, row_kind, seed, width, events):
    """The tiles of 64, 32 and 16 sums and the rest, for any width and place."""
    rng = np.random.default_rng(seed)
    at, stride, row_at, begin = (int(n) for n in rng.integers(0, 40, 4))
    stride += width
    indices = rng.integers(0, 7, begin + events + 3).astype(np.int32)
    factors = values(rng, begin + events + 3, np.int8).astype(sum_kind)
    rows = values(rng, row_at + 7 * stride + width, row_kind)
    sums = values(rng, at + width + 20, np.int8).astype(sum_kind)
    expected = sums.astype(object)
    plain = [a.astype(object) for a in (rows, indices, factors)]
    vector.plain_add_rows(expected, at, width, plain[0], row_at, stride, plain[1], plain[2], begin, begin + events)
    if numba.config.DISABLE_JIT:  # NumPy refuses to store what does not fit; numbers without a width are as good
        sums = sums.astype(object)
        rows, factors = rows.astype(object), factors.astype(object)
    _add_rows(sums, at, width, rows, row_at, stride, indices, factors, begin, begin + events)
    modulus = 1 << np.iinfo(sum_kind).bits  # sums are modular: the caller proves that the last one fits
    assert [int(x) % modulus for x in sums] == [x % modulus for x in expected.tolist()]


def _add_rows(*arguments):
    """`add_rows` is pasted into its callers, so it needs one."""
    if not hasattr(_add_rows, "compiled"):
        add_rows = vector.add_rows

        def caller(sums, at, width, rows, row_at, stride, indices, values, begin, end):
            add_rows(sums, at, width, rows, row_at, stride, indices, values, begin, end)

        _add_rows.compiled = numba.njit(caller)
    _add_rows.compiled(*arguments)


# -- the general neuron -----------------------------------------------------------------------------


def run_neuron(module, layer, current, v, u=None, count=None, pending=None, refractory=None, driven=0, seed=0):
    """One call on one sample of one pixel: (spikes, u, v, count, pending, refractory, counters, firsts)."""
    dtype = object if module is neuron_reference else np.int64
    small = object if module is neuron_reference else np.int32
    size, steps = current.shape[2], current.shape[1]

    def state(given, needed, kind):
        full = np.zeros((len(current), size if needed else 0), kind)
        if given is not None and needed:
            full[:] = given
        return full

    states = [
        state(u, layer.u_format is not None, dtype),
        state(v, True, dtype),
        state(count, True, small),
        state(pending, layer.reset_delay, small),
        state(refractory, layer.refractory.kind != "none", dtype),
    ]
    out = np.zeros((len(current), steps, size), object if module is neuron_reference else np.int8)
    records = [np.zeros((len(current), steps, size), dtype) if needed else np.zeros((len(current), 0, size), dtype)
               for needed in (layer.u_format is not None, True)]  # fmt: skip
    counters, firsts = np.zeros(COUNTERS, dtype), np.zeros(FIRSTS, dtype)
    module.neuron_run(
        current.astype(dtype), driven, 5, 3, neuron_parameters(layer, seed, 2),
        neuron_channels(layer, size, dtype), np.ones(len(current), np.uint8), *states, out, *records,
        counters, firsts,
    )  # fmt: skip
    return [a.tolist() for a in (out, *states, *records, counters, firsts)]


def run_vector(layer, current, v, u=0, count=0, pending=0, refractory=0, driven=0):
    """`run_neuron` of the vector kernel, or None where the layer has none: a charge of -40 to 40, for a long time."""
    from intsnn.kernels.neurons.narrow import narrow_run

    charge = [np.array([end], object) for end in (-40, 40, -40_000, 40_000)]
    bound = Bound(*charge)
    own = layer.bound([bound], [(1,)], Schedule(1000, 1000, 1000, 1000))
    narrow = narrowest(layer, bound, own, np.int32, 1000, (1,))
    if narrow is None:
        return None
    rows, kind = len(current), narrow.state_type
    given = ((u, layer.u_format, kind), (v, True, kind), (count, True, narrow.count_type),
             (pending, layer.reset_delay, np.int8), (refractory, layer.refractory.kind != "none", kind))  # fmt: skip
    states = [np.zeros((rows, 1 if there else 0), dtype) for _, there, dtype in given]
    for state, (value, there, _) in zip(states, given, strict=True):
        state[...] = value if there else 0
    out = np.full((rows, 1, 1), 99, np.int8)
    records = [np.zeros((rows, 1 if there else 0, 1), kind) for there in (layer.u_format, True)]
    counters, firsts = np.zeros(COUNTERS, np.int64), np.zeros(FIRSTS, np.int64)
    narrow_run(
        narrow.constants, narrow.table, narrow.period, current.astype(np.int32), driven, 5, 3,
        neuron_parameters(layer, 0, 2), neuron_channels(layer, 1), np.ones(rows, np.uint8), *states, out,
        *records, counters, firsts,
    )  # fmt: skip
    return [a.tolist() for a in (out, *states, *records, counters, firsts)]


@settings(max_examples=250)
@given(st.data(), SEED, st.sampled_from((None, None, 60, 1 << 16, 1 << 31, 1 << 40)))
def test_neuron_run(data, seed, scale):
    """Any neuron, any state, several samples and steps; of a `scale`: with numbers as large as that, and all states."""
    channels = data.draw(st.integers(1, 4))
    layer = data.draw(strategies.neurons(channels, scale=scale))
    trapped = {n: Overflow.TRAP for n in ("v_overflow", "acc_overflow") if data.draw(st.integers(0, 4)) == 0}
    layer = strategies.without(layer, **trapped)
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(1, 8))
    low, high = (-40, 60) if scale is None else (-scale, scale + 1)
    current, most = rng.integers(low, high, (2, steps, channels)), 99 if scale is None else 1 << 48

    def inside(fmt):
        return rng.integers(max(fmt.min, -most), min(fmt.max, most) + 1, (2, channels))

    v, count = inside(layer.v_format), rng.integers(0, 3, (2, channels))
    u = inside(layer.u_format) if layer.u_format else None
    pending = rng.integers(-1, 2, (2, channels))
    refractory = rng.integers(0, 3, (2, channels))
    arguments = (layer, current, v, u, count, pending, refractory, int(rng.integers(0, steps + 1)), seed)
    found, expected = run_neuron(neuron, *arguments), run_neuron(neuron_reference, *arguments)
    # with numbers that large, what a trapped run leaves behind may be cut off: its error names the first one
    if expected[-2][TRAPPED] and scale is not None and scale >= 1 << 31:
        found, expected = found[-1], expected[-1]
    assert found == expected


FAMILY = [
    *(
        {"compare": compare, "reset": reset, "reset_delay": late, "signed": signed}
        for compare, reset, late, signed in itertools.product(
            (">=", ">"), ("subtract", "zero", "none"), (0, 1), (False, True)
        )
    ),
    *(
        {"v_format": fmt, "v_overflow": mode, "v_initial": 0}
        for fmt in (Fixed(6), Fixed(6, narrow=True), Fixed(6, signed=False))
        for mode in (Overflow.SAT, Overflow.SAT_SYM, Overflow.WRAP)
    ),
    *({"v_decay": Decay.by_shift(2, mode)} for mode in Rounding),
    *({"v_decay": Decay.by_shift(3, mode, at_least_one=True)} for mode in Rounding),
    *({"v_decay": Decay.by_multiply(11, 4, mode)} for mode in Rounding),
    {"v_decay": Decay.by_subtract(3)},
    {"v_decay": Decay.by_multiply(0, 4)},
    *({"max_count": 1, "signed": signed} for signed in (False, True)),
    *({"max_spikes_per_step": 3, "signed": signed, "compare": c} for signed in (False, True) for c in (">=", ">")),
    {"max_spikes_per_step": 4, "max_count": 2, "signed": True},
    *({"signed": True, "min_count": -2, "max_spikes_per_step": most, "max_count": 2} for most in (1, 3)),
    {"signed": True, "min_count": -1, "reset_delay": 1},
    {"signed": True, "v_negative": -7},
    {"signed": True, "v_negative": 1, "reset_delay": 1},
    {"bias": -5},
    {"acc_format": Fixed(4), "acc_overflow": Overflow.WRAP},
    {"acc_format": Fixed(4), "acc_overflow": Overflow.SAT_SYM},
    {"u_format": Fixed(6), "u_decay": Decay.by_shift(1), "u_shift": 1, "u_overflow": Overflow.WRAP},
    {"u_format": Fixed(6), "u_overflow": Overflow.WRAP, "u_range": (-31, 32)},
    {"refractory": Refractory("counter", steps=2)},
    {"refractory": Refractory("trace", amplitude=3, decay=Decay.by_shift(1), format=Fixed(4))},
]


class _Still:
    """What `oracle.Sample` reads of a network: one neuron, fed from outside."""

    def __init__(self, layer):
        self.nodes, self.edges, self.order = {"in": None, "x": None, "n": layer}, [], ("in", "x", "n")
        self.shapes = {"n": (1,)}


@pytest.mark.parametrize("parts", FAMILY, ids=lambda parts: " ".join(f"{k}={v}" for k, v in parts.items())[:70])
def test_one_step_exhaustively(parts):
    """Every membrane of 6 bits with every small input and several states before, in one step, by all kernels."""
    layer = Neuron(5, **{"v_format": Fixed(6), **parts})
    fmt, wraps = layer.v_format, layer.v_overflow == Overflow.WRAP
    grid = np.array(list(itertools.product(range(fmt.min, fmt.max + 1), (-40, *range(-11, 12), 17, 40))))
    for state in ({"C": 0}, {"C": 1, "u": 9, "late": 1, "hold": 1, "r": 3}, {"C": 2, "late": -1, "r": 7}):
        expected = []
        for row, (start, charge) in enumerate(grid.tolist()):
            sample = oracle.Sample(_Still(layer), None, 3 + row, driven=6, drive=6, seed=11)
            full = {"u": 0, "v": start, "C": 0, "late": 0, "hold": 0, "r": 0} | state
            for key, used in (
                ("u", layer.u_format is not None), ("late", layer.reset_delay),
                ("hold", layer.refractory.kind == "counter"), ("r", layer.refractory.kind == "trace"),
            ):  # fmt: skip
                full[key] = full[key] if used else 0
            sample.state["n", (0,)] = full
            s = sample.neuron("n", layer, (0,), charge, 5)
            expected.append((s, full, sample.overflows["n"]))
        before = state.get("r", 0) if layer.refractory.kind == "trace" else state.get("hold", 0)
        arguments = (
            layer, grid[:, 1][:, None, None], grid[:, 0][:, None], state.get("u", 0), state["C"], state.get("late", 0),
            before, 1,
        )  # fmt: skip
        found = {module.__name__: run_neuron(module, *arguments, seed=11) for module in (neuron_reference, neuron)}
        if tier() != "portable":
            found["vector"] = run_vector(*arguments)
            assert (found["vector"] is None) == (
                layer.max_spikes_per_step > 1 or layer.refractory.kind == "trace" or (layer.v_format.narrow and wraps)
                or layer.v_decay.rounding == Rounding.STOCHASTIC
            )  # fmt: skip
        for kernel, results in found.items():
            if results is None:
                continue
            out, u, v, count, pending, refractory, *_, counters, firsts = results
            for row, (s, full, _) in enumerate(expected):
                where = (kernel, grid[row].tolist(), state)
                assert (out[row], v[row], count[row]) == ([[s]], [full["v"]], [full["C"]]), where
                assert u[row] == [full["u"]] * len(u[row]), where
                assert pending[row] == [full["late"]] * len(pending[row]), where
                after = full["r"] if layer.refractory.kind == "trace" else full["hold"]
                assert refractory[row] == [after] * len(refractory[row]), where
            overflows = sum(len(notes) for _, _, notes in expected)
            assert sum(counters[:3]) == overflows and (firsts[0] != 0) == (overflows > 0)
