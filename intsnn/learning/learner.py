"""Learning with integers only: layers that learn from their own readout, step by step.

A `Learner` holds the weights; a `State` the traces of one batch of sequences. Every step is the same integers for every
number of threads, every split of the batch and both paths (``"compiled"`` and the plain ``"reference"``).
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..errors import FormatError, RangeError, ShapeError
from ..formats.arguments import array_of, choice, instance, seed_of, shown, whole, whole_or_none
from ..formats.integers import for_kernel, integer_array, smallest_dtype
from ..kernels.learning.parameters import COUNTERS, DRAW_BIAS, DRAW_WEIGHT, EVALUATION, NO_LABEL, U_SUM
from . import backends as learn_paths
from .buffers import Buffers, at_least, check_sums
from .constants import LayerConstants, for_batch, layer_constants, starting_weights
from .rule import Conv, Dense, LearningNetwork, Rule, Schedule, Widths

__all__ = ["Conv", "Dense", "Learner", "LearningNetwork", "StepOutcome", "Rule", "Schedule", "State", "Widths"]

PATHS = ("compiled", "reference")
MOST_THREADS = 1024
MOST_SAMPLES = 1 << 31  # of a batch
MOST_FIRST = 1 << 62  # number of a sequence
MOST_STEPS = 1 << 40  # of a sequence
UNKNOWN = -1  # exponent of a gradient that was never seen


@dataclass(eq=False)
class Weights:
    """What one layer has learned: master codes, and the forward codes that follow from them.

    `master` ``(kernel height, kernel width, in, out)`` and `bias_master` ``(out,)`` are the state; `weight`, `bias` and
    `packed` are renewed from them. `exponents` are those of the last gradients of weights and biases.
    """

    master: np.ndarray
    bias_master: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    packed: np.ndarray
    exponents: list[int]
    stale: bool = True


def _arrays(weights: Weights) -> dict[str, np.ndarray]:
    return {name: getattr(weights, name) for name in ("master", "bias_master", "weight", "bias", "packed")}


@dataclass(eq=False)
class State:
    """Traces of a batch of sequences: for each layer `p` and `q` ``(B, inputs)`` and `r` ``(B, neurons)``.

    `Learner.begin` makes it; it belongs to learners of the same `network` and `seed`, of any path and threads.
    """

    p: list[np.ndarray]
    q: list[np.ndarray]
    r: list[np.ndarray]
    samples: int
    first_sample: int = 0
    t: int = 0
    network: LearningNetwork | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class StepOutcome:
    """What one step did.

    Attributes
    ----------
    predictions : (layers, B) int64
        First largest output of each readout; -1 in the burn-in.
    counters : (layers, COUNTERS) int64
        By the indices of ``kernels/learning/parameters.py``.
    spikes : (B, outputs) uint8
        Spikes of the last layer.
    """

    predictions: np.ndarray
    counters: np.ndarray
    spikes: np.ndarray


class Learner:
    """A network that learns with integers only.

    Parameters
    ----------
    network : LearningNetwork
    seed : int
        Of time constants, readouts, start weights and every random bit; 0 .. 2**63 - 1.
    threads : int
        So many parts of a batch, and of the weights, are worked on at a time.
    path : {"compiled", "reference"}
        The same integers; the reference is slow.
    chunk : int or None
        Samples of one call of a kernel, None: an equal share for each thread. Never changes a result.

    Raises
    ------
    FormatError
        An unknown path, a seed or count that cannot be, or widths whose sums would leave 64 bits.
    """

    def __init__(
        self,
        network: LearningNetwork,
        seed: int = 0,
        threads: int = 1,
        path: str = "compiled",
        chunk: int | None = None,
    ) -> None:
        instance(network, "Learner.network", LearningNetwork)
        choice(path, "Learner.path", PATHS)
        seed = seed_of(seed, "Learner.seed")
        threads = whole(threads, "Learner.threads", 1, MOST_THREADS)
        chunk = whole_or_none(chunk, "Learner.chunk", 1)
        self.network, self.seed, self.threads, self.path, self.chunk = network, seed, threads, path, chunk
        self.steps = 0  # of learning and burn-in together, over the whole life
        self.constants = [layer_constants(network, i, seed) for i in range(len(network.layers))]
        self._kernels = learn_paths.Compiled() if path == "compiled" else learn_paths.Plain()
        self.layers = [self._fresh(i) for i in range(len(network.layers))]
        self._kinds = [{name: (a.shape, a.dtype) for name, a in _arrays(layer).items()} for layer in self.layers]
        self.batch_constants: list[LayerConstants] = []
        self.buffers: list[Buffers] = []
        self._samples = 0
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def _fresh(self, index: int) -> Weights:
        constants = self.constants[index]
        c = constants.parameters
        master = starting_weights(self.network, index, constants, self.seed)
        kind = smallest_dtype(-c.weight_max, c.weight_max)
        outputs = constants.window.out_channels
        weights = Weights(
            master=self._kernels.aligned(master),
            bias_master=np.zeros(outputs, master.dtype),
            weight=self._kernels.aligned(np.zeros(master.shape, kind)),
            bias=np.zeros(outputs, kind),
            packed=self._kernels.packed(constants),
            exponents=[UNKNOWN, UNKNOWN],
        )
        self.renew(index, weights)
        return weights

    def renew(self, index: int, weights: Weights) -> None:
        """Forward codes from the master codes: an update by a gradient of 0."""
        c = self.constants[index].parameters
        for master, weight in ((weights.master, weights.weight), (weights.bias_master, weights.bias)):
            nothing, counters = np.zeros(master.size, np.int32), np.zeros(COUNTERS, np.int64)
            self._kernels.update(master.reshape(-1), nothing, 0, c, 0, DRAW_WEIGHT, weight.reshape(-1), counters)
        weights.stale = True

    # -- a run ---------------------------------------------------------------------------------

    def begin(self, samples: int, first_sample: int = 0) -> State:
        """Traces at the start of `samples` sequences, all 0.

        `first_sample` numbers the sequences, for random bits of evaluations that do not depend on the batch.
        """
        samples = whole(samples, "Learner.begin: samples", 1, MOST_SAMPLES, error=ShapeError)
        first_sample = whole(first_sample, "Learner.begin: first_sample", 0, MOST_FIRST)
        traces = self._trace_type()
        return State(
            p=[np.zeros((samples, k.inputs), traces) for k in self.constants],
            q=[np.zeros((samples, k.inputs), traces) for k in self.constants],
            r=[np.zeros((samples, k.neurons), np.int16) for k in self.constants],
            samples=samples,
            first_sample=first_sample,
            network=self.network,
            seed=self.seed,
        )

    def _trace_type(self) -> np.dtype:
        widths = self.network.rule.widths
        return at_least(np.int16, 1 << max(widths.membrane, widths.synapse))

    def check_state(self, state: State) -> None:
        """Refuse a state that the compiled kernels of this learner would read or write beyond its arrays."""
        instance(state, "state", State, needed="a State that `begin` made")
        if state.seed != self.seed or (state.network is not self.network and state.network != self.network):
            raise FormatError("state: found one of another network or seed; one that `begin` made here is needed")
        samples = whole(state.samples, "state.samples", 1, MOST_SAMPLES)
        whole(state.first_sample, "state.first_sample", 0, MOST_FIRST)
        whole(state.t, "state.t", 0, MOST_STEPS)
        for index, (layer, kinds) in enumerate(zip(self.layers, self._kinds, strict=True)):
            for name, array in _arrays(layer).items():
                if not isinstance(array, np.ndarray) or (array.shape, array.dtype) != kinds[name]:
                    shape, kind = kinds[name]
                    raise ShapeError(f"layer {index}: {name}: found {shown(array)}; {kind} of shape {shape} is needed")
        traces, short = self._trace_type(), np.dtype(np.int16)
        for name, kind in (("p", traces), ("q", traces), ("r", short)):
            arrays = getattr(state, name)
            if not isinstance(arrays, list) or len(arrays) != len(self.constants):
                raise ShapeError(f"state.{name}: found other than one array for each of {len(self.constants)} layers")
            for array, constants in zip(arrays, self.constants, strict=True):
                shape = (samples, constants.neurons if name == "r" else constants.inputs)
                if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != kind:
                    raise ShapeError(f"state.{name}: found {shown(array)}; {kind} of shape {shape} is needed")
                if not (array.flags.c_contiguous and array.flags.writeable and array.flags.aligned):
                    raise FormatError(
                        f"state.{name}: found a read-only array or a view; own arrays in C order are needed"
                    )

    def learn(self, state: State, frame, labels, rate_shift: int = 0) -> StepOutcome:
        """One step of a training sequence: forward, and after the burn-in a step of every layer's weights.

        Parameters
        ----------
        state : State
            Moves on by a step.
        frame : (B, C, H, W) or (B, N)
            Input spikes of the step: counts, 0 .. 255.
        labels : (B,) integers
            Class of each sample.
        rate_shift : int
            The learning rate is ``2**-rate_shift``; -64 to 64 (``docs/learning.md``, Weights).

        Raises
        ------
        FormatError, ShapeError, RangeError
            A frame or labels that do not fit the network, labels or a shift that are no integers, or a batch whose sums
            could leave 63 bits.
        """
        self.check_state(state)
        rate_shift = whole(rate_shift, "Learner.learn: rate_shift", -64, 64)
        found = array_of(labels, "Learner.learn: labels")
        if found.dtype == bool:
            raise FormatError("Learner.learn: labels are booleans; the number of each class is needed")
        labels = integer_array(labels, "Learner.learn: labels")
        if labels.shape != (state.samples,):
            raise ShapeError(f"Learner.learn: found labels of shape {labels.shape}; ({state.samples},) is needed")
        if labels.size and (labels.min() < 0 or labels.max() >= self.network.classes):
            raise RangeError(
                f"Learner.learn: found labels {labels.min()} to {labels.max()}; 0 to {self.network.classes - 1} can be"
            )
        labels = labels.astype(np.int64)
        outcome = self._step(state, frame, labels, rate_shift, self.steps)
        self.steps += 1
        return outcome

    def watch(self, state: State, frame) -> StepOutcome:
        """One step of a test sequence: forward and predictions, no learning."""
        self.check_state(state)
        return self._step(state, frame, None, 0, EVALUATION + state.t)

    def votes(self, frames, first_sample: int = 0) -> np.ndarray:
        """How often each readout chose each class: ``(layers, B, classes)``, over the steps after the burn-in.

        Parameters
        ----------
        frames : (T, B, C, H, W) or (T, B, N)
        first_sample : int
            Number of the first sequence in its set.
        """
        frames = array_of(frames, "Learner.votes: frames")
        burn_in = self.network.rule.burn_in
        if frames.ndim != 2 + len(self.network.shape) or len(frames) <= burn_in:
            raise ShapeError(
                f"Learner.votes: found frames of shape {frames.shape}; (T, B, *{self.network.shape}) with more than "
                f"the {burn_in} steps of the burn-in is needed"
            )
        state = self.begin(frames.shape[1], first_sample)
        counts = np.zeros((len(self.layers), frames.shape[1], self.network.classes), np.int64)
        rows = np.arange(frames.shape[1])
        for frame in frames:
            for layer, chosen in enumerate(self.watch(state, frame).predictions):
                if chosen[0] >= 0:
                    counts[layer, rows, chosen] += 1
        return counts

    # -- one step ------------------------------------------------------------------------------

    def _step(self, state: State, frame, labels, rate_shift: int, step: int) -> StepOutcome:
        x = self._input(state, frame)
        self._prepare(state.samples)
        awake = state.t >= self.network.rule.burn_in
        predictions, counters = [], np.zeros((len(self.layers), COUNTERS), np.int64)
        for index in range(len(self.layers)):
            self._forward(index, state, x, step, counters[index])
            if awake:
                self._learn(index, state, labels, rate_shift, step, counters[index])
                predictions.append(self.buffers[index].predicted.copy())
            else:
                predictions.append(np.full(state.samples, -1, np.int64))
            x = self.buffers[index].spikes
        state.t += 1
        return StepOutcome(np.array(predictions), counters, x.copy())

    def _input(self, state: State, frame) -> np.ndarray:
        """The frame as ``(B, H * W * C)``."""
        frame = array_of(frame, "Learner: frame")
        shape = self.network.shape
        if frame.shape != (state.samples, *shape):
            raise ShapeError(f"Learner: found a frame of shape {frame.shape}; ({state.samples}, *{shape}) is needed")
        if frame.dtype != np.uint8 and frame.dtype != bool:
            if frame.dtype.kind not in "iu" or (frame.size and (frame.min() < 0 or frame.max() > 255)):
                raise RangeError(
                    f"Learner: a frame holds counts of spikes from 0 to 255; found {frame.dtype} beyond that"
                )
        if len(shape) == 3:
            frame = np.moveaxis(frame, 1, 3)
        return for_kernel(frame.reshape(state.samples, -1), np.uint8)

    def _prepare(self, samples: int) -> None:
        if samples != self._samples:
            rule, plain = self.network.rule, self.path == "reference"
            batch = [for_batch(k, rule, samples) for k in self.constants]
            for index, constants in enumerate(batch):
                check_sums(index, constants, samples, self.network.classes)
            self.batch_constants = batch
            self.buffers = [Buffers(k, samples, self.network.classes, plain) for k in self.batch_constants]
            self._samples = samples

    def _parts(self, samples: int) -> list[slice]:
        size = self.chunk or -(-samples // self.threads)
        return [slice(a, min(a + size, samples)) for a in range(0, samples, size)]

    def _each(self, work, items: list) -> list:
        """Results of `work` for every item, in order."""
        if self._pool is None or len(items) == 1:
            return [work(item) for item in items]
        return list(self._pool.map(work, items))

    def _forward(self, index: int, state: State, x, step: int, counters) -> None:
        """Traces, charges, membranes and spikes of one layer."""
        k, f, weights, kernels = self.batch_constants[index], self.buffers[index], self.layers[index], self._kernels
        c, p, q, r = k.parameters, state.p[index], state.q[index], state.r[index]
        if weights.stale:
            kernels.pack(weights.weight, k.window, weights.packed)
            weights.stale = False

        def work(part: slice):
            found = np.zeros(COUNTERS, np.int64)
            sample = state.first_sample + part.start
            kernels.traces(p[part], q[part], x[part], k.decay_p, k.gain_p, k.decay_q, k.gain_q, c, step, sample, found)
            kernels.charge(p[part], weights.weight, weights.packed, k, f.charges[part])
            kernels.fire(
                f.charges[part], weights.bias, c, k.window, k.pool, r[part], f.u[part], f.choice[part], f.spikes[part],
                found,
            )  # fmt: skip
            return found

        for found in self._each(work, self._parts(state.samples)):
            counters += found

    def _learn(self, index: int, state: State, labels, rate_shift: int, step: int, counters) -> None:
        """Readout of one layer and, with labels, its errors, gradients and new weights."""
        k, f, kernels = self.batch_constants[index], self.buffers[index], self._kernels
        c, rule, window, pool = k.parameters, self.network.rule, k.window, k.pool
        if labels is None and not rule.dropout_in_test:
            c = c._replace(dropout=0)
        targets = np.full(state.samples, NO_LABEL, np.int64) if labels is None else labels
        parts = self._parts(state.samples)

        def answer_errors(part: slice):
            found = np.zeros(COUNTERS, np.int64)
            kernels.read(f.u[part], f.choice[part], k.readout, k.table, c, window, pool, f.y[part], found)
            sample = state.first_sample + part.start
            peak = kernels.output_errors(
                f.y[part], targets[part], c, step, sample, f.delta[part], f.predicted[part], found
            )
            return found, peak

        peaks = []
        for found, peak in self._each(answer_errors, parts):
            counters += found
            peaks.append(peak)
        if labels is None:
            return

        quiet = int(c.quiet_factor * int(counters[U_SUM]) < c.quiet_sum)
        first = kernels.exponent(max(peaks)) - c.error_places
        peaks = self._each(lambda part: kernels.spread(f.delta[part], first, k.feedback, c, f.v[part]), parts)
        second = kernels.exponent(max(peaks)) - c.error_places

        def local(part: slice):
            return kernels.local_peak(f.v[part], second, f.choice[part], f.u[part], k.slope, quiet, c, window, pool)

        third = kernels.exponent(max(self._each(local, parts))) - c.error_places

        def last(part: slice):
            kernels.errors(
                f.v[part], second, third, f.choice[part], f.u[part], k.slope, quiet, c, window, pool, f.e[part]
            )

        self._each(last, parts)
        self._move(index, state.p[index], rate_shift, step, counters)

    # -- weights -------------------------------------------------------------------------------

    def _move(self, index: int, p, rate_shift: int, step: int, counters) -> None:
        """Gradients of one layer from its errors, and the weights and biases that follow."""
        k, f, weights, kernels = self.batch_constants[index], self.buffers[index], self.layers[index], self._kernels
        if not self._move_fused(index, p, rate_shift, step, counters):
            gradient = f.gradients()
            parts = self._parts(len(p)) if self.chunk else [slice(0, len(p))]

            def gather(share: int):
                for part in parts:
                    kernels.accumulate(p[part], f.e[part], k, share, self.threads, gradient)

            self._each(gather, list(range(self.threads)))
            shift = self._shift(weights, 0, kernels.largest(gradient), rate_shift)
            kernels.update(
                weights.master.reshape(-1), gradient.reshape(-1), shift, k.parameters, step, DRAW_WEIGHT,
                weights.weight.reshape(-1), counters,
            )  # fmt: skip
        f.bias_gradient[:] = 0
        kernels.accumulate_bias(f.e, f.bias_gradient)
        shift = self._shift(weights, 1, kernels.largest(f.bias_gradient), rate_shift)
        kernels.update(
            weights.bias_master, f.bias_gradient, shift, k.parameters, step, DRAW_BIAS, weights.bias, counters
        )  # fmt: skip
        weights.stale = True

    def _move_fused(self, index: int, p, rate_shift: int, step: int, counters) -> bool:
        """A dense layer without a stored gradient, where the kernels have such a way; whether they had."""
        k, f, weights, kernels = self.batch_constants[index], self.buffers[index], self.layers[index], self._kernels
        if self.chunk or not kernels.dense_fits(k, p, weights.master):
            return False
        previous = self._previous(weights, 0)
        if previous is not None and not kernels.dense_takes(previous + rate_shift, -1, k):
            return False
        scratch = f.dense(kernels)
        kernels.lay_out(p, f.e, scratch)
        shares = list(range(self.threads))
        if previous is None:
            coarsely = kernels.coarse(f.e, k.parameters, scratch)
            peaks = self._each(
                lambda share: kernels.dense_peak(scratch, k.parameters, coarsely, share, self.threads), shares
            )
            bound = max(peaks)
            own = int(kernels.exponent(bound))
            if not kernels.dense_takes(own + rate_shift, bound, k):
                return False
        else:
            own, bound = previous, -1
        shift = own + rate_shift

        def work(share: int):
            found = np.zeros(COUNTERS, np.int64)
            peak = kernels.dense_step(
                scratch, shift, bound, k.parameters, step, DRAW_WEIGHT, share, self.threads,
                weights.master[0, 0], weights.weight[0, 0], found,
            )  # fmt: skip
            return found, peak

        peaks = []
        for found, peak in self._each(work, shares):
            counters += found
            peaks.append(peak)
        if max(peaks):
            weights.exponents[0] = int(kernels.exponent(max(peaks)))
        return True

    def _previous(self, weights: Weights, which: int) -> int | None:
        """The exponent of the last gradient, where the rule goes by it and there was one."""
        if self.network.rule.gradient_scale == "previous" and weights.exponents[which] != UNKNOWN:
            return weights.exponents[which]
        return None

    def _shift(self, weights: Weights, which: int, peak: int, rate_shift: int) -> int:
        """By how much gradients are shifted right; takes note of their own exponent."""
        own = int(self._kernels.exponent(peak))
        previous = self._previous(weights, which)
        if peak:
            weights.exponents[which] = own
        return min(max((own if previous is None else previous) + rate_shift, 0), 62)

    # -- what was learned ------------------------------------------------------------------------

    def weights_sha256(self) -> str:
        """Digest of all master weights and biases: int32, little-endian, layer by layer."""
        digest = hashlib.sha256()
        for weights in self.layers:
            for master in (weights.master, weights.bias_master):
                digest.update(np.ascontiguousarray(master, "<i4").tobytes())
        return digest.hexdigest()
