"""The fused path: every output, extra step and spike is that of `simulate`."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsnn import (
    IF,
    Add,
    Affine,
    Conv2d,
    Events,
    Fixed,
    Flatten,
    Input,
    MaxPool2d,
    Network,
    Readout,
    Scale,
    SignedIF,
    SumPool2d,
    simulate,
)
from intsnn.bench.speed.workloads import build
from intsnn.engine.backends.fused import connections, layout
from intsnn.engine.backends.fused.accepts import REFUSED, refuses
from intsnn.engine.backends.fused.runner import prepare
from intsnn.engine.program import lower
from intsnn.errors import FormatError, RangeError, ShapeError, UnsupportedError
from intsnn.formats.fixed import Rounding
from intsnn.kernels import selftest
from intsnn.kernels.toolchain import tier as cpu
from intsnn.layers import LIF, Decay
from intsnn.network.schedule import schedule


@st.composite
def cases(draw):
    """A network that the fused path takes, its input and the options of the run."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from((1, 3, 7)))
    constant = draw(st.booleans())
    top = draw(st.sampled_from((3, 127)))
    unit = draw(st.sampled_from((1, 1, 1 << 18, 1 << 22)))  # charges and membranes beyond 32 bits
    side = draw(st.sampled_from(((7, 6), (7, 6), (12, 12))))
    nodes = {"in": Input((draw(st.integers(1, 3)), *side), Fixed(8, signed=False) if constant else Fixed(3))}
    edges, last = [], "in"
    shape = nodes["in"].shape

    def put(name, layer, *sources):
        nodes[name] = layer
        edges.extend((source, name) for source in sources)
        return name

    def weights(*size):
        return rng.integers(-top, top + 1, size)

    def connection(outputs, kernel, stride, padding):
        return Conv2d(
            weights(outputs, shape[0], kernel, kernel), stride=stride, padding=padding,
            dilation=(draw(st.sampled_from((1, 1, 2))), 1) if kernel == 2 else 1,
            bias=rng.integers(-40, 40, outputs) if draw(st.booleans()) else None,
            bias_mode=draw(st.sampled_from(("spread", "step", "once"))),
            multiplier=unit
            * (rng.integers(1, 9, outputs) if draw(st.booleans()) else draw(st.sampled_from((1, 4)))),
        )  # fmt: skip

    def neuron(channels, size):
        theta = rng.integers(1, size, channels) if draw(st.booleans()) else int(rng.integers(1, size))
        kind = draw(st.sampled_from(("if", "signed", "published", "late", "negative", "both sides")))
        wide = {"threshold_format": Fixed(48), "v_format": Fixed(48)} if unit > 1 else {}
        if kind == "if":
            most, start = draw(st.sampled_from((None, levels))), int(rng.integers(-5, 5))
            return IF(theta, max_count=most, v_initial=start, **wide)
        if kind == "negative":
            return SignedIF(theta, levels, v_negative=-np.asarray(theta), **wide)
        if kind == "both sides":
            return SignedIF(theta, levels, min_count=-draw(st.sampled_from((1, levels))), **wide)
        late = int(kind == "late")
        return SignedIF(theta, None if kind == "published" else levels, reset_delay=late, **wide)

    for i in range(draw(st.integers(1, 3))):
        outputs = draw(st.sampled_from((1, 3, 31, 33, 64, 70)))
        kernel = draw(st.sampled_from((1, 2, 3, 3, 5, 7)))
        pads = draw(st.sampled_from((0, 1, ((0, 1), (1, 0)))))
        layer = connection(outputs, kernel, draw(st.integers(1, 2)), pads)
        try:
            last_shape = shape
            conv = put(f"c{i}", layer, last)
            probe = Network(nodes, edges).shapes[conv]
        except ShapeError:  # the map became too small for this kernel
            nodes.pop(f"c{i}", None)
            edges[:] = [e for e in edges if e[1] != f"c{i}"]
            break
        shape = probe
        size = 20 * top * unit * (255 if constant and i == 0 else 1)
        fed = conv
        if i > 0 and unit == 1 and draw(st.booleans()):  # a residual join: 1x1 convolution or identity
            if last_shape == shape and draw(st.booleans()):
                scaled = put(f"s{i}", Scale(rng.integers(1, 30, shape[0])), last)
                fed = put(f"a{i}", Add(), *((conv, scaled) if draw(st.booleans()) else (scaled, conv)))
            elif last_shape == shape:
                fed = put(f"a{i}", Add(), conv, last)
            elif last_shape[1:] == shape[1:]:
                skip = put(f"k{i}", Conv2d(weights(shape[0], last_shape[0], 1, 1), bias=rng.integers(-9, 9)), last)
                fed = put(f"a{i}", Add(), skip, conv)
        last = put(f"n{i}", neuron(shape[0], size), fed)
        if min(shape[1:]) >= 2 and draw(st.booleans()):
            pool = MaxPool2d(2, draw(st.integers(1, 2))) if draw(st.booleans()) else SumPool2d(2, 2)
            last = put(f"p{i}", pool, last)
            shape = Network(nodes, edges).shapes[last]
    if last == "in":
        last = put("n", neuron(5, 20 * top * unit), put("c", connection(5, 1, 1, 0), last))
        shape = Network(nodes, edges).shapes[last]
    if draw(st.booleans()):
        last = put("f", Flatten(), last)
        if draw(st.booleans()):
            hidden = draw(st.sampled_from((40, 300)))
            last = put(
                "d", Affine(weights(hidden, int(np.prod(shape))), multiplier=draw(st.sampled_from((1, 2)))), last
            )
            last = put("nd", neuron(hidden, 30 * top), last)
            shape = (hidden,)
        last = put("o", Affine(weights(10, int(np.prod(shape))), bias=rng.integers(-99, 99, 10)), last)
    else:
        last = put("o", Conv2d(weights(4, shape[0], *shape[1:])), last)
    put("out", Readout(), last)
    drive = draw(st.sampled_from((None, levels, 5)))
    network = Network(nodes, edges, t_drive=drive, levels=levels)
    samples = draw(st.sampled_from((1, 5, 20)))
    steps = draw(st.sampled_from((None, 1, 4, 19, 40) if drive else (1, 4, 19, 40)))
    if constant:
        inputs = rng.integers(0, 256, (samples, *nodes["in"].shape)).astype(np.uint8)
    elif draw(st.booleans()):
        inputs = rng.integers(-2, 3, (draw(st.sampled_from((1, 4, 18))), samples, *nodes["in"].shape)) * (
            rng.random((samples, *nodes["in"].shape)) < 0.3
        )
    else:
        count = 30 * samples
        length, elements = 6, int(np.prod(nodes["in"].shape))
        place = rng.choice(length * samples * elements, min(count, length * elements), replace=False)
        inputs = Events(
            place % length, place // length % samples, place // length // samples % elements, length, samples
        )
    return network, inputs, {"steps": steps, "settle": draw(st.booleans())}


@settings(deadline=None, max_examples=120)
@given(case=cases())
def test_fused_equals_simulate(case):
    network, inputs, options = case
    want = simulate(network, inputs, **options)
    got = prepare(network, **options)(inputs)
    assert np.array_equal(got.outputs, want.outputs)
    assert np.array_equal(got.extra_steps, want.extra_steps)
    assert np.array_equal(got.predictions, want.predictions)
    assert got.settled == want.settled
    threaded = prepare(network, **options, threads=2)(inputs)
    assert np.array_equal(threaded.outputs, want.outputs)
    assert np.array_equal(threaded.extra_steps, want.extra_steps)


def small(neuron=None, connection=None):
    connection = connection or Affine([[3, -2], [1, 4]])
    return Network.sequential(Input((2,)), connection, neuron or IF(5), Affine([[1, 1]]), Readout(), t_drive=3)


def recurrent():
    nodes = {"in": Input((2,)), "back": Affine(np.eye(2, dtype=int), delay=1), "join": Add(), "n": IF(5)}
    nodes["out"] = Readout()
    return Network(nodes, [("in", "join"), ("n", "back"), ("back", "join"), ("join", "n"), ("n", "out")])


REFUSALS = {
    "recurrent": recurrent(),
    "delay": small(connection=Affine([[3, -2], [1, 4]], delay=1)),
    "multipliers": small(connection=Affine([[3, -2], [1, 4]], multiplier=1 << 31)),
    "weights": small(connection=Affine([[1 << 31, 0], [0, 1]], weight_format=Fixed(33))),
    "sums": Network.sequential(Input((2,)), Affine([[3, -2], [1, 4]], multiplier=1 << 30), Readout()),
    "codes": Network.sequential(Input((2,), Fixed(33)), Affine([[0, 0]]), IF(3), Readout()),
    "totals": Network.sequential(Input((1, 1, 2), Fixed(31, signed=False)), MaxPool2d((1, 2)), Readout(), t_drive=3),
    "counts": Network.sequential(Input((2,)), IF(5), Readout(), t_drive=1 << 15),
    "random": small(LIF(5, Decay.by_shift(2, Rounding.STOCHASTIC))),
    "trap": small(IF(5, v_format=Fixed(6), v_overflow="TRAP")),
    "restart": small(IF(5, restart_every=2)),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSALS)
def test_what_is_not_fused_says_why(why):
    network = REFUSALS[why]
    said = REFUSED[why].format(r"\S+")
    reason = refuses(lower(network, schedule(network, None, network.t_drive or 3, False)))
    assert reason is not None and re.fullmatch(said, reason)
    with pytest.raises(UnsupportedError, match=said):
        prepare(network, steps=network.t_drive or 3)(np.zeros((1, *network.shapes[network.input_name]), np.uint8))


def test_what_is_refused_is_documented(repository):
    """The list of `docs/speed.md` has a line for each reason, and every reason is shown above."""
    text = (repository / "docs" / "speed.md").read_text()
    listed = text.partition("What has no fused form")[2].partition("* ")[2].partition("\n\n")[0]
    assert re.findall(r"(?:^|, |\n\* )`(\w+)`", listed) == list(REFUSED)
    assert set(REFUSALS) | {"ann", "kind"} == set(REFUSED)


def test_many_events_in_one_sum():
    """More events than int16 holds: parts are added in 32 bits."""
    weight = np.full((40, 2000), 127)
    network = Network.sequential(
        Input((2000,), Fixed(1, signed=False)), Affine(weight), IF(1000), Affine(np.ones((1, 40), int)), Readout()
    )
    ones = np.ones((2, 1, 2000), np.uint8)
    want = simulate(network, ones, record=("current",))
    assert want.records["affine_1.current"].max() == 254000
    assert np.array_equal(prepare(network)(ones).outputs, want.outputs)


@pytest.mark.parametrize("padding", [((0, 1), (1, 0)), ((1, 0), (0, 1))])
def test_window_in_the_padding(padding):
    """A window beside the only pixel sees nothing: such a layer is no dense one."""
    network = Network.sequential(
        Input((1, 1, 1)), Conv2d([[[[3]]]]), IF(5), Conv2d([[[[4]]]], stride=2, padding=padding), IF(3),
        Flatten(), Affine([[1]]), Readout(), t_drive=4,
    )  # fmt: skip
    x = np.arange(20, dtype=np.uint8).reshape(-1, 1, 1, 1)
    assert np.array_equal(prepare(network)(x).outputs, simulate(network, x).outputs)


def test_same_runner_many_times_and_shapes():
    """Buffers are used again: earlier runs leave nothing behind."""
    rng = np.random.default_rng(0)
    network = Network.sequential(
        Input((1, 6, 6)), Conv2d(rng.integers(-9, 9, (4, 1, 3, 3))), SignedIF(700, 3), MaxPool2d(2),
        Flatten(), Affine(rng.integers(-9, 9, (3, 16))), Readout(), t_drive=3, levels=3,
    )  # fmt: skip
    runner = prepare(network, settle=True, threads=2)
    for samples in (3, 40, 1, 17):
        x = rng.integers(0, 256, (samples, 1, 6, 6)).astype(np.uint8)
        assert np.array_equal(runner(x).outputs, simulate(network, x, settle=True).outputs)
    assert runner(np.zeros((0, 1, 6, 6), np.uint8)).outputs.shape == (0, 3)
    assert sum(runner.buffers().values()) > 0
    with pytest.raises(RangeError, match="input: sample 0"):
        runner(np.full((1, 1, 6, 6), 256))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_frames_like_those_before_take_a_short_way(dtype):
    """Later frames of one shape skip what does not depend on values; their values are looked at as before."""
    rng = np.random.default_rng(1)
    network = Network.sequential(
        Input((30,), Fixed(1, signed=False)), Affine(rng.integers(-9, 9, (20, 30))), IF(11),
        Affine(rng.integers(-9, 9, (3, 20))), Readout(),
    )  # fmt: skip
    runner = prepare(network)
    for _ in range(3):
        x = rng.integers(0, 2, (5, 4, 30)).astype(dtype)
        for form in (x, np.asfortranarray(x), x.tolist(), np.repeat(x, 2, axis=2)[:, :, ::2], x.astype(bool), x[:, :2]):
            assert np.array_equal(runner(form).outputs, simulate(network, np.array(form)).outputs)
    for wrong in (2, -1 if dtype is np.int8 else 255):
        x[4, 3, 29] = wrong
        with pytest.raises(RangeError, match=f"sample 3, element 29, step 4 is {wrong}; "):
            runner(x)
    with pytest.raises(ShapeError):
        runner(np.zeros((5, 4, 31), dtype))


def test_bad_options():
    with pytest.raises(FormatError, match="threads"):
        prepare(small(), threads=0)
    with pytest.raises(FormatError, match="steps"):
        prepare(small(), steps=0)(np.zeros((1, 2), np.uint8))


@settings(deadline=None, max_examples=25)
@given(case=cases(), share=st.sampled_from((0.0, 0.999)))
def test_weight_rows_and_dot_products_give_the_same(case, share):
    """Whatever decides between them: all layers dense, or none."""
    network, inputs, options = case
    want = simulate(network, inputs, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "DENSE_SHARE", dict.fromkeys(connections.DENSE_SHARE, (share,) * 3))
        got = prepare(network, **options)(inputs)
    assert np.array_equal(got.outputs, want.outputs)
    assert np.array_equal(got.extra_steps, want.extra_steps)


def test_no_tier_of_this_machine_was_given_up():
    assert "failed its self-test" not in cpu.reason()


@pytest.mark.parametrize("seed", range(3))
def test_tiles_equal_their_plain_twins(seed):
    for case in selftest.cases(seed):
        assert selftest.fault_of(case) == ""


@settings(deadline=None, max_examples=100)
@given(wishes=st.dictionaries(st.integers(), st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 99))))
def test_what_is_in_use_at_once_does_not_overlap(wishes):
    wishes = {name: (min(a, b), max(a, b), size) for name, (a, b, size) in wishes.items()}
    places = layout.first_fit(wishes)
    for one, (begin, end, size) in wishes.items():
        for other, (begin_2, end_2, size_2) in wishes.items():
            if one != other and begin <= end_2 and begin_2 <= end:
                assert places[one] + size <= places[other] or places[other] + size_2 <= places[one]


def test_buffers_of_a_deep_network_are_small():
    """The runner of the VGG workload holds at most 2 MiB a thread beyond weights, input and output."""
    workload = build("vgg-b32-int8", batch=2)
    runner = prepare(workload.network, steps=workload.steps)
    outputs = runner(workload.inputs).outputs
    assert np.array_equal(outputs[: workload.expected_samples], workload.expected.outputs)
    assert sum(runner.buffers().values()) <= 2 << 20  # without sums of bytes a tenth more than with them
