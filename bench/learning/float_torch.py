"""The float twin of integer learning on torch: `learn_twin.Twin` with drop-out, fast enough to train.

Same network, rule, time constants, readouts, start weights and dropped readouts as the `Learner` of the same seed;
nothing is rounded. For comparisons of accuracy only; tests hold it against `learn_twin`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...kernels.learning.parameters import DRAW_DROPOUT, EVALUATION
from ...learning.constants import log2_round
from ...learning.rule import Conv, LearningNetwork
from .float_twin import Twin

__all__ = ["FloatLearner", "FloatState"]


@dataclass(eq=False)
class FloatState:
    """Traces of a batch, ``(B, C, H, W)`` for each layer."""

    p: list[Any]
    q: list[Any]
    r: list[Any]
    samples: int
    first_sample: int = 0
    t: int = 0


class FloatLearner:
    """The rule in floating point, with the calls of `intsnn.learning.learner.Learner`.

    Parameters
    ----------
    network : LearningNetwork
    seed : int
    single : bool
        float32 instead of float64.
    threads : int
    """

    def __init__(self, network: LearningNetwork, seed: int = 0, single: bool = True, threads: int = 1) -> None:
        import torch

        torch.set_num_threads(threads)
        self.torch, self.network, self.seed, self.rule = torch, network, seed, network.rule
        self.kind = torch.float32 if single else torch.float64
        self.steps = 0
        self.layers = [self._layer(layer, index) for index, layer in enumerate(Twin(network, seed).layers)]
        self.gradients: list[Any] = [None] * len(self.layers)

    def _tensor(self, values) -> Any:
        return self.torch.tensor(np.ascontiguousarray(values), dtype=self.kind)

    def _layer(self, twin, index: int) -> dict[str, Any]:
        """What `Twin` drew, channels first."""
        w, pool, rule = twin.constants.window, twin.constants.pool, self.rule

        def maps(values, height, width, channels):
            return self._tensor(values.reshape(-1, height, width, channels).transpose(0, 3, 1, 2))

        k, c = twin.constants, twin.constants.parameters
        own = self.network.layers[index]
        here = (w.height, w.width, w.channels)
        after = (pool.height, pool.width, w.out_channels)
        scale = float(k.scales["sum"])
        return {
            "decay_p": maps(twin.decay_p, *here), "tau_m": maps(twin.tau_m, *here),
            "decay_q": maps(twin.decay_q, *here), "tau_s": maps(twin.tau_s, *here),
            "p_top": twin.p_top, "q_top": twin.q_top,
            "weight": self._tensor(twin.weight.transpose(3, 2, 0, 1)), "bias": self._tensor(twin.bias),
            "readout": maps(twin.readout, *after).flatten(1), "feedback": maps(twin.feedback, *after).flatten(1),
            "gain": float(rule.weight_scale) * scale, "bias_gain": float(rule.bias_scale) * scale,
            "stride": (w.stride_y, w.stride_x), "padding": (w.pad_top, w.pad_left),
            "pool": own.pool if isinstance(own, Conv) else 1, "here": here, "after": after,
            "neurons": (w.out_channels, w.out_height, w.out_width), "grid": c.master_max + 1,
            "limit": float(rule.state_range) * rule.state_clamp, "y_limit": 1 - float(k.scales["y"]),
            "drop": c.dropout,
        }  # fmt: skip

    def begin(self, samples: int, first_sample: int = 0) -> FloatState:
        """Traces at the start of `samples` sequences."""
        zeros = self.torch.zeros

        def of(name, key):
            return [zeros((samples, *shape(layer)), dtype=self.kind) for layer in self.layers for shape in (key,)]

        def inputs(layer):
            height, width, channels = layer["here"]
            return channels, height, width

        return FloatState(
            of("p", inputs), of("q", inputs), of("r", lambda layer: layer["neurons"]), samples, first_sample
        )

    def learn(self, state: FloatState, frame, labels, rate_shift: int = 0) -> np.ndarray:
        """One step of a training sequence; predictions ``(layers, B)``, -1 in the burn-in."""
        found = self._step(state, frame, np.asarray(labels, np.int64), rate_shift, self.steps)
        self.steps += 1
        return found

    def votes(self, frames, first_sample: int = 0) -> np.ndarray:
        """As of `Learner.votes`."""
        state = self.begin(frames.shape[1], first_sample)
        counts = np.zeros((len(self.layers), frames.shape[1], self.network.classes), np.int64)
        rows = np.arange(frames.shape[1])
        for frame in frames:
            for layer, chosen in enumerate(self._step(state, frame, None, 0, EVALUATION + state.t)):
                if chosen[0] >= 0:
                    counts[layer, rows, chosen] += 1
        return counts

    # -- one step ------------------------------------------------------------------------------------------------------

    def _step(self, state: FloatState, frame, labels, rate_shift: int, step: int) -> np.ndarray:
        with self.torch.no_grad():
            x = self._tensor(frame)
            x = x if x.ndim == 4 else x[:, :, None, None]
            awake, predictions = state.t >= self.rule.burn_in, []
            for index, layer in enumerate(self.layers):
                flat = layer["here"][0] * layer["here"][1] == 1 and x.shape[2] * x.shape[3] > 1
                if flat:  # a dense layer takes maps in H, W, C order
                    x = x.permute(0, 2, 3, 1).reshape(len(x), -1, 1, 1)
                u, pooled, where, x = self._forward(layer, state, index, x)
                if not awake:
                    predictions.append(np.full(state.samples, -1))
                    continue
                a = self.torch.sigmoid(pooled).flatten(1)
                y = (a @ layer["readout"].T).clamp(-layer["y_limit"], layer["y_limit"])
                kept = self._kept(index, layer, state, step, labels is None)
                output = (y + 1) / 2 * kept
                predictions.append(output.argmax(1).numpy())
                if labels is not None:
                    self._learn(layer, index, state, u, a, where, output, labels, kept, rate_shift)
            state.t += 1
        return np.array(predictions)

    def _forward(self, layer, state: FloatState, index: int, x):
        torch, g = self.torch, float(self.rule.refractory_decay)
        p, q, r = state.p[index], state.q[index], state.r[index]
        p.mul_(layer["decay_p"]).addcmul_(layer["tau_m"].expand_as(q), q).clamp_(max=layer["p_top"])
        q.mul_(layer["decay_q"]).addcmul_(layer["tau_s"].expand_as(x), x).clamp_(max=layer["q_top"])
        u = torch.nn.functional.conv2d(p, layer["weight"] * layer["gain"], stride=layer["stride"],
                                       padding=layer["padding"])  # fmt: skip
        u = u + (layer["bias"] * layer["bias_gain"])[:, None, None]
        u = (u - g * r).clamp_(-layer["limit"], layer["limit"])
        threshold = float(self.rule.threshold)
        r.mul_(g).add_((u >= threshold).to(self.kind))
        if layer["pool"] == 1:
            return u, u, None, (u >= threshold).to(self.kind)
        pooled, where = torch.nn.functional.max_pool2d(u, layer["pool"], return_indices=True)
        return u, pooled, where, (pooled >= threshold).to(self.kind)

    def _kept(self, index: int, layer, state: FloatState, step: int, testing: bool):
        """1 for readouts that are not dropped: the draws of the integer learner."""
        classes = self.network.classes
        if not layer["drop"] or (testing and not self.rule.dropout_in_test):
            return self.torch.ones((state.samples, classes), dtype=self.kind)
        from ...kernels.learning.compiled import random_words

        words = np.empty((state.samples, (classes + 3) // 4), np.uint64)
        for b in range(state.samples):
            random_words(self.seed, step, index, DRAW_DROPOUT, state.first_sample + b, words[b])
        lanes = words.astype("<u8").view("<u2")[:, :classes]
        return self._tensor(lanes >= layer["drop"])

    def _normal(self, x):
        """x divided by the power of two nearest to its greatest size, clipped to +-1."""
        most = float(x.abs().max())
        return x.div(power(most)).clamp_(-1, 1)

    def _learn(self, layer, index, state, u, a, where, output, labels, kept, rate_shift: int) -> None:
        torch, rule, samples = self.torch, self.rule, state.samples
        target = torch.nn.functional.one_hot(torch.from_numpy(labels), self.network.classes).to(self.kind)
        v = self._normal((output - target) * kept) @ layer["feedback"]
        outputs, neurons = a.shape[1], int(np.prod(layer["neurons"]))
        share = samples if rule.mean_penalties else 1
        rate = float(rule.rate_penalty) / (share * (outputs if rule.mean_penalties else 1))
        quiet = float(rule.quiet_penalty) / (share * (neurons if rule.mean_penalties else 1))
        quiet *= float(u.mean()) < float(rule.quiet_level)
        chosen = (self._normal(v) + rate) * a * (1 - a)
        height, width, channels = layer["after"]
        chosen = chosen.reshape(samples, channels, height, width)
        if where is None:
            h = chosen - quiet
        else:
            h = torch.full((samples, channels, u.shape[2] * u.shape[3]), -quiet, dtype=self.kind)
            h.scatter_add_(2, where.flatten(2), chosen.flatten(2))
            h = h.reshape(u.shape)
        e = self._normal(h)
        gradient = torch.nn.grad.conv2d_weight(state.p[index], layer["weight"].shape, e, stride=layer["stride"],
                                               padding=layer["padding"])  # fmt: skip
        self.gradients[index] = gradient
        grid = layer["grid"]
        for values, change in ((layer["weight"], gradient), (layer["bias"], e.sum((0, 2, 3)))):
            most = float(change.abs().max())
            values.add_(change, alpha=-(2.0**-rate_shift) / grid / power(most)).clamp_(-1 + 1 / grid, 1 - 1 / grid)


def power(most: float) -> float:
    """The power of two nearest to `most`, 1 for 0."""
    from fractions import Fraction

    return 2.0 ** log2_round(Fraction(most) ** 2) if most else 1.0
