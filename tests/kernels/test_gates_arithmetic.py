"""Ends of parameters, and ties of random numbers."""

import numpy as np
import pytest

from intsnn.engine.inputs import encode_rate
from intsnn.engine.simulation import simulate
from intsnn.errors import IntsnnError
from intsnn.formats.arithmetic import RandomKey, add, multiply, negate, shift_left, subtract
from intsnn.formats.fixed import Fixed, Overflow, Rounding
from intsnn.kernels.inputs.rate import DRAW_ENCODE, LAYER_OF_INPUT
from intsnn.kernels.numbers.reference import random_word
from intsnn.layers import Affine, Decay, Input, Neuron, Refractory
from intsnn.network.spiking import Network


def test_rate_at_a_tie_does_not_fire():
    """An element fires where its word is below its share: at exactly the share it rests, one code above it fires."""
    words = [random_word(5, 0, LAYER_OF_INPUT, 0, i, DRAW_ENCODE) >> 33 for i in range(64)]
    ties = [i for i, word in enumerate(words) if word % 2 == 0]
    assert len(ties) > 9
    for more in (0, 1):
        codes = np.zeros((1, 64), np.int64)
        codes[0, ties] = [words[i] // 2 + more for i in ties]
        fired = encode_rate(codes, 1, 1 << 30, seed=5)[0, 0]
        assert fired[ties].tolist() == [more] * len(ties)


@pytest.mark.parametrize("bits, words", [(0, 1), (1, 1), (64, 1), (65, 2), (128, 2), (129, 3), (192, 3), (193, 4)])
def test_words_of_many_bits(bits, words):
    """As many draws of 64 bits as are needed, the first one least."""
    found = RandomKey(5, 1, 2, 3, 7).word(9, bits)
    assert found == sum(random_word(5, 1, 2, 3, 9, 7 + i) << 64 * i for i in range(words))


def test_the_seed_is_0_where_none_is_given():
    x, fmt, to = np.arange(-60, 60), Fixed(8), Fixed(8, frac=-3)
    random = {"to": to, "rounding": Rounding.STOCHASTIC, "overflow": Overflow.SAT}
    for work in (
        lambda **seed: add(x, fmt, x, fmt, **random, **seed)[0],
        lambda **seed: subtract(x, fmt, -x, fmt, **random, **seed)[0],
        lambda **seed: multiply(x, fmt, x * 0 + 1, fmt, **random, **seed)[0],
        lambda **seed: negate(x, fmt, **random, **seed)[0],
        lambda **seed: shift_left(x, fmt, 1, **random, **seed)[0],
    ):
        assert np.array_equal(work(), work(seed=0)) and not np.array_equal(work(), work(seed=1))


@pytest.mark.parametrize("shift", [0, 1, 5, 31])
def test_ends_of_decays(shift):
    for decay in (
        Decay.by_shift(shift), Decay.by_multiply(0, shift), Decay.by_multiply(1 << shift, shift), Decay.by_subtract(0),
        Decay.by_subtract((1 << 31) - 1),
    ):  # fmt: skip
        x = np.array([[5]])
        network = Network.sequential(
            Input((1,)), Affine([[1]]), ("n", Neuron(99, v_decay=decay, v_format=Fixed(16))), t_drive=4
        )
        kept = {
            "shift": lambda v, s=shift: v - (v >> s), "multiply": lambda v, d=decay, s=shift: v * d.multiplier >> s,
            "subtract": lambda v, d=decay: max(0, v - d.amount),
        }[decay.kind]  # fmt: skip
        v, want = 0, []
        for _ in range(4):
            v = kept(v) + 5
            want.append(v)
        assert simulate(network, x, record="v").records["n.v"].ravel().tolist() == want
    for wrong in (
        lambda: Decay.by_shift(-1), lambda: Decay.by_shift(32), lambda: Decay.by_multiply((1 << shift) + 1, shift),
        lambda: Decay.by_multiply(-1, shift), lambda: Decay.by_subtract(-1), lambda: Decay.by_subtract(1 << 31),
    ):  # fmt: skip
        with pytest.raises(IntsnnError):
            wrong()
    assert Decay.by_shift([31, 0]).shift.tolist() == [31, 0]  # the last that fits, and one behind it that does not
    with pytest.raises(IntsnnError, match="Decay.shift of channel 1"):
        Decay.by_shift([31, 32])


def test_ends_of_neurons():
    def trace(bits):
        return Neuron(5, refractory=Refractory("trace", amplitude=1, format=Fixed(bits)))

    trace(48)
    for wrong in (
        lambda: trace(49), lambda: Neuron(5, v_format=Fixed(49)), lambda: Neuron(5, u_format=Fixed(49)),
        lambda: Neuron(5, u_shift=32), lambda: Neuron(5, u_shift=-1), lambda: Neuron(5, max_count=0),
        lambda: Neuron(5, max_spikes_per_step=0), lambda: Neuron(5, max_spikes_per_step=128), lambda: Neuron(0),
        lambda: Neuron(5, signed=True, v_negative=6), lambda: Neuron(5, reset_delay=2),
        lambda: Neuron(5, v_format=Fixed(32), v_decay=Decay.by_multiply(1, 31)),
    ):  # fmt: skip
        with pytest.raises(IntsnnError):
            wrong()
    Neuron(5, v_format=Fixed(31), v_decay=Decay.by_multiply(1, 31))
    Neuron(5, signed=True, v_negative=5)
    assert Neuron(5).u_shift == 0 and Refractory().format == Fixed(16)
    assert Neuron(5).v_decay == Decay() and Decay().rounding is Rounding.TRN
