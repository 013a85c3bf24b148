"""The float twin: integer learning stays within stated bounds of it, and its gradients are those of automatic
differentiation."""

import numpy as np
import pytest

from intsnn.bench.learning.exact import random_frame
from intsnn.bench.learning.float_twin import Lead, Twin, pooled, unfold
from intsnn.kernels.learning import reference as exact
from intsnn.learning.learner import Conv, Dense, Learner, LearningNetwork, Rule, Widths

WIDE = Widths(
    weight=16, gradient=20, membrane=20, synapse=18, refractory=12, state=18, readout=12, activation=14, sigmoid=16,
    error=15, constant=24, slope=16,
)  # fmt: skip


def network(widths=WIDE, **changes):
    settings = {
        "widths": widths, "weight_scale": "0.002", "tau_membrane": (3, 9), "tau_synapse": (2, 5), "burn_in": 3,
        "dropout": 0, "rate_penalty": "0.2", "quiet_penalty": "0.05", "quiet_level": "0.3",
    } | changes  # fmt: skip
    layers = (Conv(5, 3, 1, pool=2), Conv(4, 2, stride=2), Dense(7))
    return LearningNetwork((2, 7, 7), layers, 3, Rule.corrected(**settings))


def bounds(k, twin, p, q, r, t):
    """Bounds of ``docs/learning.md`` on |integer - real| of P, Q, R and U after t steps, in real units.

    `twin` is the layer of the twin; every trace step rounds once (half a code) and uses constants rounded to K places.
    """
    c, s = k.parameters, {name: float(x) for name, x in k.scales.items()}
    constant = 2.0 ** -(c.places + 1)
    held_q = 1 - twin.decay_q + 1e-300
    gone = 1 - twin.decay_q**t
    e_q = s["q"] * (0.5 + constant * (c.q_max + 2)) * gone / held_q
    e_p = (s["p"] * (0.5 + constant * (c.p_max + c.q_max)) + twin.tau_m * e_q) * twin.tau_m
    g = float(c.refractory_decay) * 2.0**-c.places
    e_r = s["r"] * (0.5 + constant * (c.r_max + 1)) / (1 - g)
    weights = np.abs(twin.weight).reshape(-1, k.window.out_channels)
    gain = s["charge"] / s["weight"] / s["p"]  # of U from weight 1 and P of 1
    per_pixel = unfold(np.broadcast_to(e_p, p.shape) + 0 * p, k.window) @ weights * gain
    # forward weights are half a W step from the master weights, constants of the membrane 2**-charge_places from theirs
    per_pixel += unfold(np.abs(p), k.window).sum(2, keepdims=True) * gain * s["weight"] * 0.5
    e_u = per_pixel.reshape(len(p), -1) + e_r + 0.5 * s["u"] + 0.5 * s["weight"] * s["bias"] / s["weight"] + 1e-6
    return e_p, e_q, e_r, e_u


@pytest.mark.parametrize("inclusive", [False, True])
def test_wide_integers_stay_within_the_bounds(inclusive):
    """Traces, membranes, readouts, errors and gradients; spikes and exponents of the twin are the integer ones."""
    net = network(inclusive_codes=inclusive)
    learner, twin = Learner(net, seed=4), Twin(net, seed=4)
    samples, rng = 3, np.random.default_rng(1)
    state, labels = learner.begin(samples), np.array([0, 2, 1])
    twin.begin(samples)
    compared = 0
    for t in range(1, 26):
        frame = random_frame(rng, samples, net.shape, 0.4)
        before = [np.array(r) for r in state.r]
        learner.learn(state, frame, labels)
        for one, two in zip(learner.layers, twin.layers, strict=True):  # the twin learns what the integers learned
            two.next = one.master / (2.0**19), one.bias_master / 2.0**19
        leads = []
        for buffers, k in zip(learner.buffers, learner.batch_constants, strict=True):
            c = k.parameters
            scales = None
            if t > 3:
                first = exact.exponent(int(np.abs(buffers.delta).max()))
                second = exact.exponent(int(np.abs(buffers.v).max()))
                third = local_exponent(buffers, k)
                scales = real_exponents(k, first, second, third)
            leads.append(Lead(buffers.u >= c.threshold, buffers.choice, scales))
        twin.step(frame.astype(float), labels if t > 3 else None, leads)
        for i, (buffers, k) in enumerate(zip(learner.buffers, learner.batch_constants, strict=True)):
            s = {name: float(x) for name, x in k.scales.items()}
            real, layer = twin.seen[i], twin.layers[i]
            e_p, e_q, e_r, e_u = bounds(k, layer, real["p"], real["q"], real["r"], t)
            for name, codes, bound in (("p", state.p[i], e_p), ("q", state.q[i], e_q), ("r", state.r[i], e_r)):
                assert (np.abs(codes * s[name] - real[name]) <= bound).all(), (t, i, name)
                assert (bound < 0.02 * max(real[name].max(), layer.p_top * (name == "p"), s[name] * 100)).all()
            error = np.abs(buffers.u * s["u"] - real["u"])
            assert (error <= e_u).all(), (t, i)
            assert e_u.max() < 0.1
            if t <= 3:
                continue
            chosen = np.take_along_axis(e_u, real["chosen"], 1)
            e_a = chosen / 4 + 0.5 * s["sigmoid"] + (0 if inclusive else s["sigmoid"])
            e_y = e_a @ np.abs(layer.readout.T) + 0.5 * s["y"]
            assert (np.abs(buffers.y * s["y"] - real["y"]) <= e_y).all(), (t, i)
            e_delta = e_y / 2
            half = k.parameters.activation_max + 1
            assert (np.abs(buffers.delta / (2 * half) - real["delta"]) <= e_delta).all()
            grid = 2.0**-k.parameters.error_places
            first, second, third = leads[i].scales
            e_first = e_delta / first + 1.5 * grid
            e_v = e_first @ np.abs(layer.feedback)
            readout = s["readout"] * grid
            assert (np.abs(buffers.v * readout - real["v"]) <= e_v + 1e-12).all(), (t, i)
            e_second = e_v / second + 1.5 * grid
            e_slope = chosen / 10 + 2.0 ** -(net.rule.widths.slope + 2)  # |sigmoid''| <= 0.0963
            rest = 2.0**-k.parameters.penalty_places * grid
            e_h = e_second / 4 + (1 + 0.3) * e_slope + rest
            quiet_flips = 0.05 / (samples * k.neurons)  # the two means may lie on different sides of the level
            e_last = np.full(real["e"].shape, (rest + quiet_flips) / third + 1.5 * grid)
            np.put_along_axis(e_last, real["chosen"], (e_h + quiet_flips) / third + 1.5 * grid, 1)
            assert (np.abs(buffers.e * grid - real["e"]) <= e_last).all(), (t, i)
            per_pixel = e_last.reshape(samples, -1, k.window.out_channels)
            columns = unfold(np.broadcast_to(e_p, real["p"].shape) + 0 * real["p"], k.window)
            limit = np.einsum("bpt,bpo->to", real["columns"] + columns, per_pixel)
            limit += np.einsum("bpt,bpo->to", columns, np.abs(real["e"]).reshape(per_pixel.shape))
            gradient = learner_gradient(learner, i, state) * s["p"] * grid
            assert (np.abs(gradient - real["gradient"].reshape(limit.shape)) <= limit + 1e-9).all(), (t, i)
            assert limit.max() < 0.25 * np.abs(real["gradient"]).max()
            compared += 1
        assert all(before[i].shape == state.r[i].shape for i in range(3))
        for layer in twin.layers:
            layer.weight[:], layer.bias[:] = layer.next
    assert compared == 3 * 22


def learner_gradient(learner, index, state):
    """The integer gradient of the last step, from the errors that are still there."""
    k, buffers = learner.batch_constants[index], learner.buffers[index]
    columns = unfold(state.p[index].astype(float), k.window)
    return np.einsum("bpt,bpo->to", columns, buffers.e.reshape(len(columns), -1, k.window.out_channels).astype(float))


def local_exponent(buffers, k):
    """Exponent of the local errors, as the learner had it: of the greatest |h|."""
    c = k.parameters
    quiet = int(c.quiet_factor * int(buffers.u.sum()) < c.quiet_sum)
    shift = exact.exponent(int(np.abs(buffers.v).max())) - c.error_places
    return exact.exponent(
        exact.local_peak(buffers.v, shift, buffers.choice, buffers.u, k.slope, quiet, c, k.window, k.pool)
    )


def real_exponents(k, first, second, third):
    """The three powers of two in the units of the twin."""
    c, grid = k.parameters, 2.0**-k.parameters.error_places
    slope = k.slope.max() + 1  # codes of the slope: 1/4 is 2**D
    return (
        2.0**first / (2 * (c.activation_max + 1)),
        2.0**second * grid * float(k.scales["readout"]),
        2.0**third * grid * 2.0**-c.penalty_places / (4 * slope),
    )


def test_published_widths_follow_the_twin():
    """At the published widths no bound is small, but gradients still point where those of the twin point."""
    net = network(Widths(), weight_scale="0.004")
    learner, twin = Learner(net, seed=4), Twin(net, seed=4)
    rng, labels = np.random.default_rng(1), np.array([0, 2, 1, 0])
    state = learner.begin(4)
    twin.begin(4)
    angles = []
    for t in range(1, 26):
        frame = random_frame(rng, 4, net.shape, 0.4)
        learner.learn(state, frame, labels)
        leads = [
            Lead(buffers.u >= k.parameters.threshold, buffers.choice)
            for buffers, k in zip(learner.buffers, learner.batch_constants, strict=True)
        ]
        twin.step(frame.astype(float), labels, leads)
        for layer, weights in zip(twin.layers, learner.layers, strict=True):
            layer.weight[:], layer.bias[:] = weights.master / 512, weights.bias_master / 512
        for i in range(3) if t > 6 else ():
            one, two = learner_gradient(learner, i, state).ravel(), twin.seen[i]["gradient"].ravel()
            angles.append(one @ two / max(np.linalg.norm(one) * np.linalg.norm(two), 1e-9))
    assert np.median(angles) > 0.95 and min(angles) > 0.5


def test_gradients_agree_with_automatic_differentiation():
    """Plain derivatives of the twin, feedback equal to the readout, against torch: weights, biases, penalties."""
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare gradients with")
    net = network(quiet_level="9")
    twin = Twin(net, seed=2, normalise=False)
    twin.begin(3)
    rng, labels = np.random.default_rng(0), np.array([1, 0, 2])
    for layer in twin.layers:
        layer.feedback = layer.readout
        layer.bias[:] = rng.normal(0, 0.1, layer.bias.shape)
    for _ in range(8):
        twin.step(random_frame(rng, 3, net.shape, 0.5).astype(float), labels)
    rule = net.rule
    for layer, seen in zip(twin.layers, twin.seen, strict=True):
        k = layer.constants
        w = k.window
        weight = torch.tensor(layer.weight.reshape(-1, w.out_channels), requires_grad=True)
        bias = torch.tensor(layer.bias, requires_grad=True)
        columns = torch.tensor(seen["columns"])
        u = columns @ weight * float(rule.weight_scale) * float(k.scales["sum"]) + bias * float(k.scales["sum"])
        u = u.reshape(3, -1)
        offset = torch.tensor(seen["u"]) - u.detach()  # the refractory part
        u = u + offset
        pools = torch.tensor(pooled(w, k.pool))
        activity = torch.sigmoid(u)[:, pools].amax(2)
        y = activity @ torch.tensor(layer.readout.T)
        assert np.abs(y.detach().numpy() - seen["y"]).max() < 1e-12 and np.abs(seen["y"]).max() < 0.999
        loss = 0.5 * ((y + 1) / 2 - torch.eye(3, dtype=torch.float64)[torch.tensor(labels)]).square().sum()
        loss = loss + float(rule.rate_penalty) * torch.relu(activity + 0.01).mean()
        loss = loss + float(rule.quiet_penalty) * torch.relu(float(rule.quiet_level) - u.mean())
        loss.backward()
        assert np.abs(weight.grad.numpy() - seen["gradient"].reshape(weight.shape)).max() < 1e-12
        assert np.abs(bias.grad.numpy() - seen["bias_gradient"]).max() < 1e-12
        assert np.abs(weight.grad.numpy()).max() > 1e-6
