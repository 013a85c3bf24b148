"""The fused path on small networks that go through every kind of operation, against `oracle`: quick, also as Python."""

import numpy as np
import oracle
import pytest

from intsnn.engine.backends.fused import connections, layout
from intsnn.engine.backends.fused.runner import prepare
from intsnn.formats.fixed import Fixed
from intsnn.kernels.fused.opcodes import Arena
from intsnn.layers import (
    IF,
    LIF,
    Add,
    Affine,
    AvgPool2d,
    Conv2d,
    CubaLIF,
    Decay,
    Flatten,
    Input,
    MaxPool2d,
    Readout,
    Refractory,
    Scale,
    SignedIF,
    SumPool2d,
    Upsample2d,
)
from intsnn.network.spiking import Network

BIT = Fixed(1, signed=False)
WIDE = Fixed(48)


def weights(seed, *shape, top=9):
    return np.random.default_rng(seed).integers(-top, top + 1, shape)


def conv(seed, out, inp, kernel=3, **parts):
    return Conv2d(weights(seed, out, inp, kernel, kernel), **parts)


def maps(fmt, *layers, classes=3, kind="sum", **options):
    """A network on maps of 2 x 5 x 4, with a dense readout."""
    network = [Input((2, 5, 4), fmt), *layers]
    shape = Network.sequential(*network).shapes
    size = int(np.prod(list(shape.values())[-1]))
    return Network.sequential(
        *network, Flatten(), Affine(weights(9, classes, size), bias=[3, -1, 2][:classes]), Readout(kind), **options
    )


def joined(seed, first):
    """Two branches and an identity into one neuron, `first` behind them."""
    nodes = {
        "in": Input((2, 4, 4), BIT),
        "c": conv(seed, 3, 2, padding=1, bias=[1, 0, -2]),
        "n": SignedIF([5, 9, 14], 3, v_format=WIDE),
        "a": conv(seed + 1, 3, 3, padding=1, multiplier=[1, 2, 3]),
        "b": conv(seed + 2, 3, 3, kernel=1),
        "s": Scale([4, -3, 7]),
        "join": Add(),
        "m": first,
        "f": Flatten(),
        "d": Affine(weights(seed + 3, 4, 48)),
        "o": Readout(),
    }
    edges = [
        ("in", "c"), ("c", "n"), ("n", "a"), ("n", "b"), ("n", "s"), ("a", "join"), ("b", "join"), ("s", "join"),
        ("join", "m"), ("m", "f"), ("f", "d"), ("d", "o"),
    ]  # fmt: skip
    return Network(nodes, edges, t_drive=5, levels=3)


def added(*branches):
    """Two neurons, and all branches of the first and the input of the network itself into one."""
    nodes = {"in": Input((3, 4, 4), Fixed(3)), "c": conv(1, 3, 3, padding=1), "n": SIGNED, "join": Add(), "m": SIGNED}
    edges = [("in", "c"), ("c", "n"), ("in", "join"), ("join", "m")]
    for i, branch in enumerate(branches):
        nodes[f"b{i}"] = branch
        edges += [("n", f"b{i}"), (f"b{i}", "join")]
    nodes |= {"f": Flatten(), "d": Affine(weights(4, 4, 48)), "o": Readout()}
    return Network(nodes, [*edges, ("m", "f"), ("f", "d"), ("d", "o")], t_drive=5, levels=3)


SIX = IF([7, 12, 5, 9, 3, 20], v_format=WIDE)
FAR = {"threshold_format": WIDE, "v_format": WIDE}
BIG = SignedIF([1 << 34, 1 << 33, 1 << 35], 3, **FAR)
LOW = IF([700, 120, 500], v_format=Fixed(12))
SIGNED = SignedIF([7, 12, 5], 3, v_format=WIDE)
NETWORKS = {
    "dense": Network.sequential(
        Input((6,), BIT), Affine(weights(1, 40, 6), bias=2), IF(9, v_format=WIDE), Affine(weights(2, 35, 40)),
        SignedIF(20, 2, v_format=WIDE), Affine(weights(3, 4, 35)), Readout(), t_drive=5,
    ),
    "every width of tile": Network.sequential(
        Input((6,), BIT), Affine(weights(1, 480, 6), bias=2), IF(9, v_format=WIDE), Affine(weights(2, 33, 480, top=2)),
        SignedIF(20, 2, v_format=WIDE), Affine(weights(3, 4, 33)), Readout(), t_drive=3,
    ),
    "uncounted": maps(BIT, conv(1, 3, 2), IF([7, 9, 4], v_format=WIDE), t_drive=4),
    "convolutions": maps(
        BIT, conv(1, 3, 2, padding=1, bias=[4, -3, 0], bias_mode="step"), SIGNED,
        conv(2, 3, 3, padding=((1, 0), (0, 1)), stride=(1, 2), multiplier=[2, -1, 3]), SIGNED, t_drive=4,
    ),
    "dilation": maps(BIT, conv(1, 3, 2, kernel=2, dilation=(2, 1), padding=1), SIGNED, t_drive=4),
    "sum pool": maps(BIT, conv(1, 3, 2, padding=1), SIGNED, SumPool2d(2, stride=(1, 2), padding=1), t_drive=4),
    "max pool": maps(
        BIT, conv(1, 3, 2, padding=1), SIGNED, MaxPool2d(2, stride=1), conv(4, 2, 3, kernel=2),
        IF(6, v_format=WIDE), t_drive=4,
    ),
    "signed input": maps(Fixed(4), conv(1, 3, 2, padding=1), SIGNED, conv(2, 3, 3), SIGNED, t_drive=3),
    "bytes": maps(
        Fixed(8, signed=False), conv(1, 3, 2, padding=1), IF([70, 900, 4], max_count=1, v_format=WIDE), t_drive=3
    ),
    "wide codes": maps(Fixed(12), conv(1, 3, 2, padding=1, bias=5), SIGNED, t_drive=3),
    "wide numbers": maps(
        BIT, conv(1, 3, 2, multiplier=1 << 29, bias=1 << 33),
        SignedIF([1 << 32, 1 << 31, 9], 3, threshold_format=WIDE, v_format=WIDE), t_drive=4,
    ),
    "one window": Network.sequential(
        Input((2, 3, 3), BIT), Conv2d(weights(1, 5, 2, 3, 3)), IF(4, v_format=WIDE), Conv2d(weights(2, 3, 5, 1, 1)),
        Readout(), t_drive=4,
    ),
    "groups": maps(
        BIT, conv(1, 4, 2, padding=1), IF(7, v_format=WIDE), conv(2, 6, 2, groups=2, multiplier=3, bias=2), SIX,
        t_drive=4,
    ),
    "planes": maps(
        BIT, conv(1, 3, 2, padding=1), SIGNED, conv(2, 3, 1, groups=3, padding=1, stride=2), SIGNED, t_drive=4
    ),
    "planes of a join": added(conv(2, 3, 1, groups=3, padding=1, bias=4, multiplier=[1, 2, 3])),
    "joins of all": added(AvgPool2d(3, stride=1, padding=1), conv(5, 3, 3, kernel=1, dilation=(1, 3))),
    "dilation of columns": maps(BIT, conv(1, 3, 2, kernel=2, dilation=(1, 2), padding=1, bias=3), SIGNED, t_drive=4),
    "large weights": maps(BIT, Conv2d(weights(1, 3, 2, 3, 3, top=999), weight_format=Fixed(12)), LOW, t_drive=4),
    "large sums": maps(
        Fixed(8), conv(1, 3, 2, multiplier=1 << 10), conv(2, 3, 1, groups=3, kernel=2, bias=1 << 40), BIG,
        conv(3, 3, 3, kernel=1, multiplier=1 << 30), LIF([1 << 33, 1 << 30, 9], Decay.by_shift(2), **FAR), t_drive=4,
    ),
    "large pool": maps(BIT, conv(1, 3, 2, padding=1), SIGNED, SumPool2d((5, 4)), t_drive=4),
    "pool behind a pool": maps(
        BIT, conv(1, 3, 2, padding=1), SIGNED, SumPool2d((5, 3), 1), SumPool2d((1, 2)), SIGNED, t_drive=4
    ),
    "average": maps(BIT, conv(1, 3, 2, padding=1), SIGNED, AvgPool2d(2, rounding="RND_CONV"), SIGNED, t_drive=4),
    "pools of the input": maps(Fixed(4), MaxPool2d(2, 1, padding=1), SumPool2d(2, 1), conv(1, 3, 2), SIGNED, t_drive=4),
    "greatest of sums": maps(BIT, conv(1, 3, 2, padding=1), MaxPool2d(2, 1), SIGNED, t_drive=4),
    "larger maps": maps(
        BIT, conv(1, 3, 2), SIGNED, Upsample2d((2, 3)), conv(2, 3, 3), SIGNED, Upsample2d(2, "zeros"), conv(3, 3, 3),
        SIGNED, t_drive=4,
    ),
    "larger sums": maps(Fixed(4), Upsample2d(2, "zeros"), conv(1, 3, 2), Upsample2d(2), SIGNED, t_drive=4),
    "maps go out": Network.sequential(
        Input((2, 5, 4), BIT), conv(1, 3, 2), SIGNED, conv(2, 2, 3, kernel=1, bias=7), Readout(), t_drive=4
    ),
    "values go out": Network.sequential(
        Input((2, 5, 4), BIT), conv(1, 4, 2, padding=1), IF(7), conv(2, 4, 2, groups=2, bias=7), Readout(), t_drive=4
    ),
    "groups are read": Network.sequential(
        Input((2, 5, 4), BIT), conv(1, 4, 2, padding=1), IF(7),
        Conv2d(weights(2, 6, 2, 6, 4), groups=2, padding=((1, 0), (0, 0)), bias=3, multiplier=[1, 2, 3, 4, 5, 6]),
        Readout(), t_drive=4,
    ),
    "neurons go out": Network.sequential(Input((2, 5, 4), BIT), conv(1, 3, 2), SIGNED, t_drive=4),
    "maxima go out": Network.sequential(Input((2, 5, 4), BIT), conv(1, 3, 2), SIGNED, MaxPool2d(2, 1), t_drive=4),
    "the first spike": maps(BIT, conv(1, 3, 2), SIGNED, kind="first_spike", t_drive=4),
    "the input goes out": Network.sequential(Input((3,), Fixed(4)), Affine(weights(1, 2, 3)), Readout(), t_drive=4),
    "leaks": maps(
        BIT, conv(1, 3, 2, padding=1, bias=2), LIF([7, 3, 9], Decay.by_multiply(3, 2), reset="zero"), conv(2, 3, 3),
        LIF([7, 12, 5], Decay.by_shift(1, "RND"), bias=[3, -1, 2]), t_drive=4,
    ),
    "leaks by channel": maps(
        BIT, conv(1, 3, 2, padding=1, bias=2), LIF([7, 3, 9], Decay.by_multiply([3, 0, 7], [2, 1, 3]), reset="zero"),
        conv(2, 3, 3), LIF(9, Decay.by_shift([1, 0, 4], "RND_CONV")), t_drive=4,
    ),
    "leaks by channel one by one": maps(
        BIT, conv(1, 3, 2), LIF([7, 3, 9], Decay.by_subtract([3, 0, 1]), max_spikes_per_step=2),
        conv(2, 3, 3, kernel=2),
        IF(3, refractory=Refractory("trace", amplitude=9, decay=Decay.by_shift([1, 0, 3]))), t_drive=4,
    ),
    "currents leak by channel": maps(
        BIT, conv(1, 3, 2), CubaLIF([70, 30, 90], Decay.by_shift([1, 0, 2]), Decay.by_subtract([3, 0, 9]), u_shift=2),
        SumPool2d((3, 2), 1), IF(1, reset="zero", v_format=Fixed(8)), t_drive=4,
    ),
    "late resets": maps(
        BIT, conv(1, 3, 2, padding=1), LIF([7, 3, 9], Decay.by_shift(2), signed=True, reset_delay=1), conv(2, 3, 3),
        IF([4, 9, 5], reset="zero", reset_delay=1, compare=">"), t_drive=4,
    ),
    "currents": maps(
        BIT, conv(1, 3, 2), CubaLIF([70, 30, 90], Decay.by_shift(1), Decay.by_subtract(3), u_shift=2, compare=">"),
        SumPool2d((3, 2), 1), IF(1, reset="zero", v_format=Fixed(8)), t_drive=4,
    ),
    "rest": maps(
        BIT, conv(1, 3, 2), IF(3, refractory=Refractory("counter", steps=2)), conv(2, 3, 3, kernel=2),
        IF(3, refractory=Refractory("trace", amplitude=9, decay=Decay.by_shift(1)), max_spikes_per_step=3), t_drive=4,
    ),
    "overflow": maps(
        BIT, conv(1, 3, 2), SignedIF([7, 12, 5], 3, v_format=Fixed(5)), conv(2, 3, 3, kernel=2),
        IF(9, v_format=Fixed(6), v_overflow="WRAP", acc_format=Fixed(6)), t_drive=4,
    ),
    "joins": joined(3, SignedIF([20, 30, 44], 3, v_format=WIDE)),
    "joins of uncounted": joined(8, IF([20, 30, 44], v_format=WIDE)),
}  # fmt: skip


def codes(network, seed, lead):
    layer = network.nodes[network.input_name]
    found = np.random.default_rng(seed).integers(layer.format.min, layer.format.max + 1, (*lead, *layer.shape))
    found[np.random.default_rng(seed + 1).random(found.shape) < 0.4] = 0
    return found


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("settle", [False, True])
def test_constant_input(name, settle):
    network = NETWORKS[name]
    inputs = codes(network, 5, (3,))
    options = {"settle": True} if settle else {"steps": 6}
    expected = oracle.simulate(network, inputs, **options)
    found = prepare(network, **options)(inputs)
    assert found.outputs.tolist() == expected["outputs"]
    if settle:
        assert found.extra_steps.tolist() == expected["extra"] and found.settled == expected["settled"]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_dot_products_and_rows(monkeypatch, name, share):
    """Whatever tier: dot products wherever there are some to choose, and weight rows alone."""
    monkeypatch.setattr(connections, "DENSE_SHARE", dict.fromkeys(connections.DENSE_SHARE, (share,) * 3))
    network = NETWORKS[name]
    inputs = codes(network, 9, (3,))
    for steps in (1, 5):
        found = prepare(network, steps=steps)(inputs).outputs.tolist()
        assert found == oracle.simulate(network, inputs, steps=steps)["outputs"]


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("busy", ["11111", "00111", "11100", "01010", "00100", "00001", "10000", "00000"])
def test_steps_without_spikes(monkeypatch, share, busy):
    """Their sums are zero wherever they lie; biases still make the neurons fire. One sample is silent, one is not."""
    monkeypatch.setattr(connections, "DENSE_SHARE", dict.fromkeys(connections.DENSE_SHARE, (share,) * 3))
    network = maps(
        BIT, conv(4, 3, 2, bias=[5, 0, -2]), IF(4), conv(5, 70, 3, kernel=1, bias=weights(6, 70)), IF(9, v_initial=3),
        conv(7, 2, 70, padding=1), SignedIF(50, 4),
    )  # fmt: skip
    frames = codes(network, 8, (5, 3)) * np.array([int(bit) for bit in busy])[:, None, None, None, None]
    frames[:, 1] = 0
    found = prepare(network)(frames).outputs.tolist()
    assert found == oracle.simulate(network, frames)["outputs"]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_lay_in_memory_is_not_read(monkeypatch, name, share):
    """Buffers full of what other maps left; lists have room for real values alone (as Python, an index behind it)."""
    made = layout.Layout.buffers

    def used(self):
        arena, aside = made(self)
        for name, array in zip(Arena._fields, arena, strict=True):
            array[:] = 0 if name == "counts" else 7  # the first counts are the zeros that neurons begin with
        return arena, aside

    monkeypatch.setattr(layout.Layout, "buffers", used)
    monkeypatch.setattr(connections, "DENSE_SHARE", dict.fromkeys(connections.DENSE_SHARE, (share,) * 3))
    network = NETWORKS[name]
    for inputs in (codes(network, 7, (4, 3)), codes(network, 9, (3,))):
        steps = None if inputs.ndim == len(network.shapes[network.input_name]) + 2 else 4
        found = prepare(network, steps=steps)(inputs).outputs.tolist()
        assert found == oracle.simulate(network, inputs, steps=steps)["outputs"]


@pytest.mark.parametrize("name", NETWORKS)
def test_frames(name):
    network = NETWORKS[name]
    inputs = codes(network, 7, (4, 3))
    expected = oracle.simulate(network, inputs)
    assert prepare(network)(inputs).outputs.tolist() == expected["outputs"]
    first = prepare(network, steps=2)(inputs).outputs.tolist()
    assert first == oracle.simulate(network, inputs, steps=2)["outputs"]


def test_many_steps_in_several_passes():
    """More steps than one pass takes: states are kept between them."""
    network = NETWORKS["max pool"]
    inputs = codes(network, 3, (40, 2))
    network = Network(network.nodes, network.edges)
    assert prepare(network)(inputs).outputs.tolist() == oracle.simulate(network, inputs)["outputs"]


@pytest.mark.parametrize("neurons, whole", [(64, True), (6000, False)])
def test_blocks_of_samples_fit_the_cache(neurons, whole):
    """Samples that go through the tail together are halved until what they need, 16 spikes a neuron, is small."""
    network = Network.sequential(
        Input((2,), BIT), Affine(np.ones((neurons, 2), int)), IF(2, v_format=WIDE), Affine(np.ones((1, neurons), int)),
        Readout(),
    )  # fmt: skip
    runner = prepare(network)
    frames = codes(network, 1, (16, 20))
    assert runner(frames).outputs.ravel().tolist() == (frames.sum(axis=(0, 2)) // 2 * neurons).tolist()
    (pool,) = runner._pools.values()
    found = pool.table.layout
    assert (found.block == layout.MOST_SAMPLES) is whole and found.block * neurons * 16 <= layout.BLOCK_BYTES
