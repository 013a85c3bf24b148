"""The float twin of integer learning: the same network and rule in float64, nothing rounded.

For tests and comparisons only. It draws the same time constants, readouts and start weights as the `Learner` of the
same seed. Values are real: P and Q in units of a spike, U in units of the threshold scale, weights in -1..1.

A step can be led (`Lead`) by the spikes and powers of two of an integer step: both then follow the same path, and every
quantity can be compared with the bound of ``docs/learning.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...kernels.learning.parameters import DRAW_TAU_MEMBRANE, DRAW_TAU_SYNAPSE
from ...learning.constants import LayerConstants, layer_constants, starting_weights, time_constants
from ...learning.rule import LearningNetwork

__all__ = ["Lead", "Twin", "TwinLayer"]


@dataclass(frozen=True)
class Lead:
    """What an integer step decided: spikes ``(B, neurons)``, pool choices ``(B, outputs)``, four exponents of two."""

    fired: np.ndarray
    choice: np.ndarray
    scales: tuple[float, float, float] | None = None


@dataclass(eq=False)
class TwinLayer:
    """Real constants, weights and states of one layer."""

    constants: LayerConstants
    decay_p: np.ndarray
    tau_m: np.ndarray
    decay_q: np.ndarray
    tau_s: np.ndarray
    p_top: float
    q_top: float
    weight: np.ndarray
    bias: np.ndarray
    readout: np.ndarray
    feedback: np.ndarray
    p: np.ndarray = field(default_factory=lambda: np.zeros(0))
    q: np.ndarray = field(default_factory=lambda: np.zeros(0))
    r: np.ndarray = field(default_factory=lambda: np.zeros(0))


class Twin:
    """Float64 form of `intsnn.learning.learner.Learner`.

    Parameters
    ----------
    network : LearningNetwork
    seed : int
        As of the learner.
    normalise : bool
        Errors and gradients are divided by powers of two and clipped, as in the rule; otherwise they are plain
        derivatives of the loss, and weights move by `rate` times them.
    rate : float
        Learning rate of plain gradients.
    """

    def __init__(self, network: LearningNetwork, seed: int = 0, normalise: bool = True, rate: float = 0.0) -> None:
        self.network, self.normalise, self.rate = network, normalise, rate
        self.rule = network.rule
        self.layers = [self._layer(i, seed) for i in range(len(network.layers))]
        self.seen: list[dict[str, np.ndarray]] = [{} for _ in self.layers]
        self.t = 0

    def _layer(self, index: int, seed: int) -> TwinLayer:
        k = layer_constants(self.network, index, seed)
        rule, c = self.rule, k.parameters
        m, unit_m = time_constants(rule.tau_membrane, k.inputs, seed, index, DRAW_TAU_MEMBRANE)
        s, unit_s = time_constants(rule.tau_synapse, k.inputs, seed, index, DRAW_TAU_SYNAPSE)
        tau_m, tau_s = np.array(m, float) / unit_m, np.array(s, float) / unit_s
        q_top = tau_s.max() ** 2 * float(rule.trace_cap)
        return TwinLayer(
            constants=k,
            decay_p=1 - 1 / tau_m,
            tau_m=tau_m,
            decay_q=1 - 1 / tau_s,
            tau_s=tau_s,
            p_top=q_top * tau_m.max() ** 2,
            q_top=q_top,
            weight=starting_weights(self.network, index, k, seed) / (c.master_max + 1),
            bias=np.zeros(k.window.out_channels),
            readout=k.readout * float(k.scales["readout"]),
            feedback=k.feedback * float(k.scales["readout"]),
        )

    def begin(self, samples: int) -> None:
        """All traces 0."""
        self.t = 0
        for layer in self.layers:
            layer.p, layer.q = np.zeros((samples, layer.tau_m.size)), np.zeros((samples, layer.tau_m.size))
            layer.r = np.zeros((samples, layer.constants.neurons))

    def step(self, frame: np.ndarray, labels=None, leads: list[Lead] | None = None, rate_shift: int = 0) -> np.ndarray:
        """One step; predictions ``(layers, B)``. `labels` None: no learning. `seen` keeps what was computed."""
        x = frame if frame.ndim == 2 else np.moveaxis(frame, 1, 3).reshape(frame.shape[0], -1)
        predictions = []
        for index, layer in enumerate(self.layers):
            lead = leads[index] if leads else None
            seen = self.seen[index] = self._forward(layer, x, lead)
            if self.t >= self.rule.burn_in:
                predictions.append(self._read(layer, seen))
                if labels is not None:
                    self._errors(layer, seen, np.asarray(labels), lead)
                    self._move(layer, seen, rate_shift)
            else:
                predictions.append(np.full(len(x), -1))
            x = seen["spikes"]
        self.t += 1
        return np.array(predictions)

    # -- forward -------------------------------------------------------------------------------

    def _forward(self, layer: TwinLayer, x, lead: Lead | None) -> dict[str, np.ndarray]:
        k, rule = layer.constants, self.rule
        g = float(rule.refractory_decay)
        layer.p, layer.q = (
            np.minimum(layer.decay_p * layer.p + layer.tau_m * layer.q, layer.p_top),
            np.minimum(layer.decay_q * layer.q + layer.tau_s * x, layer.q_top),
        )
        window = k.window
        columns = unfold(layer.p, window)  # (B, pixels, taps)
        scale = float(k.scales["sum"])
        flat = layer.weight.reshape(-1, window.out_channels)
        u = columns @ flat * (float(rule.weight_scale) * scale) + layer.bias * (float(rule.bias_scale) * scale)
        u = u.reshape(len(x), -1) - g * layer.r
        limit = float(rule.state_range) * rule.state_clamp
        u = np.clip(u, -limit, limit)
        # the integer compares U rounded to its grid
        fired = u >= float(rule.threshold) if lead is None else lead.fired
        layer.r = g * layer.r + fired
        pools = pooled(window, k.pool)
        choice = u[:, pools].argmax(2) if lead is None else lead.choice
        chosen = np.take_along_axis(pools[None].repeat(len(x), 0), choice[:, :, None].astype(int), 2)[:, :, 0]
        return {
            "p": layer.p.copy(), "q": layer.q.copy(), "r": layer.r.copy(), "u": u, "chosen": chosen, "columns": columns,
            "spikes": fired[:, pools].any(2).astype(float),
        }  # fmt: skip

    def _read(self, layer: TwinLayer, seen) -> np.ndarray:
        seen["a"] = 1 / (1 + np.exp(-np.take_along_axis(seen["u"], seen["chosen"], 1)))
        limit = 1 - float(layer.constants.scales["y"])
        seen["y"] = np.clip(seen["a"] @ layer.readout.T, -limit, limit)
        return seen["y"].argmax(1)

    # -- errors and weights ----------------------------------------------------------------------

    def _normal(self, x, scale: float | None):
        """x divided by a power of two and clipped, and the power."""
        if not self.normalise:
            return x, 1.0
        scale = power(x) if scale is None else scale
        return np.clip(x / scale, -1, 1), scale

    def _errors(self, layer: TwinLayer, seen, labels, lead: Lead | None) -> None:
        k, rule = layer.constants, self.rule
        scales = lead.scales if lead is not None and lead.scales else (None, None, None)
        samples = len(labels)
        target = np.eye(self.network.classes)[labels]
        seen["delta"] = (seen["y"] + 1) / 2 - target
        first, _ = self._normal(seen["delta"], scales[0])
        # the original leaves out the 1/2 of (y + 1) / 2 when errors go back: it vanishes where they are normalised
        factor = 1.0 if self.normalise else 0.5
        seen["v"] = first @ layer.feedback * factor
        second, _ = self._normal(seen["v"], scales[1])
        share = samples if rule.mean_penalties else 1
        rate = float(rule.rate_penalty) / (share * (k.outputs if rule.mean_penalties else 1))
        quiet = float(rule.quiet_penalty) / (share * (k.neurons if rule.mean_penalties else 1))
        slope = seen["a"] * (1 - seen["a"])
        h = np.full(seen["u"].shape, -quiet * (seen["u"].mean() < float(rule.quiet_level)))
        rows = np.arange(samples)[:, None]
        h[rows, seen["chosen"]] += (second + rate) * slope
        seen["h"] = h
        e, _ = self._normal(h, scales[2])
        seen["e"] = e
        window = k.window
        per_pixel = e.reshape(samples, -1, window.out_channels)
        seen["gradient"] = np.einsum("bpt,bpo->to", seen["columns"], per_pixel).reshape(layer.weight.shape)
        seen["bias_gradient"] = per_pixel.sum((0, 1))
        if not self.normalise:  # plain derivatives by the weights
            scale = float(k.scales["sum"])
            seen["gradient"] *= float(rule.weight_scale) * scale
            seen["bias_gradient"] *= float(rule.bias_scale) * scale

    def _move(self, layer: TwinLayer, seen, rate_shift: int) -> None:
        grid = layer.constants.parameters.master_max + 1
        for values, gradient in ((layer.weight, seen["gradient"]), (layer.bias, seen["bias_gradient"])):
            if self.normalise:
                values -= gradient / power(gradient) * 2.0**-rate_shift / grid
            else:
                values -= self.rate * gradient
            np.clip(values, -1 + 1 / grid, 1 - 1 / grid, out=values)


def power(x: np.ndarray) -> float:
    """The power of two nearest to max|x|, 1 for 0."""
    most = np.abs(x).max()
    return 2.0 ** np.round(np.log2(most)) if most else 1.0


def pooled(window, pool) -> np.ndarray:
    """Neurons of each pool window in row order, ``(outputs, size * size)``."""
    y, x, c, dy, dx = np.ogrid[: pool.height, : pool.width, : window.out_channels, : pool.size, : pool.size]
    index = ((y * pool.size + dy) * window.out_width + x * pool.size + dx) * window.out_channels + c
    return index.reshape(-1, pool.size * pool.size)


def unfold(p: np.ndarray, window) -> np.ndarray:
    """Inputs of every output pixel, ``(B, pixels, kernel height * kernel width * C)``."""
    maps = p.reshape(-1, window.height, window.width, window.channels)
    bottom = (window.out_height - 1) * window.stride_y + window.kernel_height - window.height - window.pad_top
    right = (window.out_width - 1) * window.stride_x + window.kernel_width - window.width - window.pad_left
    maps = np.pad(maps, ((0, 0), (window.pad_top, max(bottom, 0)), (window.pad_left, max(right, 0)), (0, 0)))
    y = np.arange(window.out_height)[:, None] * window.stride_y + np.arange(window.kernel_height)
    x = np.arange(window.out_width)[:, None] * window.stride_x + np.arange(window.kernel_width)
    found = maps[:, y[:, None, :, None], x[None, :, None, :]]  # (B, out y, out x, ky, kx, C)
    return found.reshape(len(maps), window.out_height * window.out_width, -1)
