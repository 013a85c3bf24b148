"""What a description says of layers comes from the layers."""

import numpy as np

from intsnn import Affine, Fixed, Input, Network, Readout, Scale, SignedIF
from intsnn.analysis.description import describe
from intsnn.layers import LIF, Decay


def test_a_leaking_membrane_needs_no_proven_width():
    layers = (Affine(np.ones((3, 4), np.int64)), LIF(3, Decay.by_shift(2)), Readout())
    rows = describe(Network.sequential(Input((4,), Fixed(8, signed=False)), *layers)).layers
    (neuron,) = (row for row in rows if "neurons" in row)
    assert neuron["state_bits_needed"] is None and neuron["state_bits"] == 32
    assert "v_decay shift" in neuron["detail"] and "by channel" not in neuron["detail"]
    by_channel = (Affine(np.ones((3, 4), np.int64)), LIF(3, Decay.by_shift([1, 2, 3])), Readout())
    rows = describe(Network.sequential(Input((4,), Fixed(8, signed=False)), *by_channel)).layers
    assert any("v_decay shift by channel" in row["detail"] for row in rows if "neurons" in row)


def test_layers_say_what_they_are():
    weight = np.array([[3, -2], [1, 4]])
    layers = (Affine(weight, bias=[1, -7], multiplier=2), SignedIF([5, 9], 3), Scale([2, 3]), Readout())
    found = describe(Network.sequential(Input((2,), Fixed(8, signed=False), 2, -1), *layers, t_drive=3, levels=3))
    entering, dense, neuron, scale, answer = found.layers
    assert entering["detail"] == "2 x -1" and entering["format"] == "fxp-u8/0" and entering["offset"] == -1
    assert dense["parameters"] == 6 and dense["bias"] == {"low": -7, "high": 1} and dense["bias_mode"] == "step"
    assert dense["multiplier"] == {"low": 2, "high": 2} and dense["format"] == "fxp-s8/0"
    assert dense["sum_bits"] == 14  # 2 * (1 + 4) * 509 at most
    assert neuron["threshold"] == {"low": 5, "high": 9} and neuron["levels"] == 3 and neuron["neurons"] == 2
    assert "sum_bits" not in neuron and "signed, cap 3" in neuron["detail"]
    assert scale["multiplier"] == {"low": 2, "high": 3} and scale["sum_bits"] == 3
    assert answer["detail"] == "sum" and "state_bits" in answer and "sum_bits" not in answer
    assert found.totals["parameters"] == 6 and found.totals["neurons"] == 2
