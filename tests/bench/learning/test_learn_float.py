"""The torch form of the float twin is the float twin."""

import numpy as np
import pytest

from intsnn.bench.learning.exact import random_frame
from intsnn.bench.learning.float_twin import Twin
from intsnn.learning.learner import Conv, Dense, Learner, LearningNetwork, Rule

pytest.importorskip("torch", reason="torch is not installed: there is no float form to compare")


def network(**changes):
    settings = {
        "weight_scale": "0.004", "tau_membrane": (3, 9), "tau_synapse": (2, 5), "burn_in": 3, "dropout": 0,
        "rate_penalty": "0.2", "quiet_penalty": "0.05", "quiet_level": "0.3",
    } | changes  # fmt: skip
    layers = (Conv(5, 3, 1, pool=2), Conv(4, 2, stride=2), Dense(7))
    return LearningNetwork((2, 7, 7), layers, 3, Rule.corrected(**settings))


def test_it_is_the_twin():
    """Thirty learning steps in float64: the same membranes, predictions, gradients and weights."""
    from intsnn.bench.learning.float_torch import FloatLearner

    net = network()
    twin, learner = Twin(net, seed=4), FloatLearner(net, seed=4, single=False)
    twin.begin(4)
    state, rng, labels = learner.begin(4), np.random.default_rng(1), np.array([0, 2, 1, 0])
    for _ in range(30):
        frame = random_frame(rng, 4, net.shape, 0.4)
        expected = twin.step(frame.astype(float), labels, rate_shift=-2)
        assert np.array_equal(learner.learn(state, frame, labels, -2), expected)
    for one, two, gradient, seen in zip(learner.layers, twin.layers, learner.gradients, twin.seen, strict=True):
        assert np.abs(one["weight"].numpy().transpose(2, 3, 1, 0) - two.weight).max() < 1e-12
        assert np.abs(one["bias"].numpy() - two.bias).max() < 1e-12
        assert np.abs(gradient.numpy().transpose(2, 3, 1, 0) - seen["gradient"]).max() < 1e-8
    assert np.abs(learner.layers[0]["weight"].numpy()).max() > 0.1


def test_readouts_are_dropped_as_in_the_integer_learner():
    from intsnn.bench.learning.float_torch import FloatLearner

    net = network(dropout="1/2", burn_in=0)
    learner, integer = FloatLearner(net, seed=9), Learner(net, seed=9)
    state, other = learner.begin(6), integer.begin(6)
    frame = random_frame(np.random.default_rng(0), 6, net.shape)
    labels = np.zeros(6, np.int64)
    for step in range(2):
        kept = [learner._kept(index, layer, state, step, False).numpy() for index, layer in enumerate(learner.layers)]
        integer.learn(other, frame, labels)
        for index, mask in enumerate(kept):  # a dropped readout has no error, others have one unless y is -1
            delta = integer.buffers[index].delta
            assert not delta[mask == 0].any() and delta[mask == 1].any()
        assert 0.2 < np.mean(kept) < 0.8
    assert learner._kept(0, learner.layers[0], state, 0, True).numpy().all()  # no drop-out in tests
