"""How a network is run: one operation per node, over blocks of samples and chunks of steps.

A `Plan` fixes everything that does not change (packed weights, types from the static bounds, which
neuron kernel); a `Worker` holds the buffers and states of one block. All paths are the same plan with
other chunks or other kernels:

* ``layer``: all driven steps of a layer in one call (feed-forward networks);
* ``step``: one step of every layer at a time;
* ``reference``: the plain Python kernels on unbounded integers, one step at a time;
* ``ann``: the integer quantised ANN, one pass over totals of charge instead of steps.

Values lie as ``(B, T, H * W * C)``, channel fastest.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from types import ModuleType
from typing import cast

import numpy as np

from ....formats.fixed import Overflow
from ....layers.base import (
    Add,
    Affine,
    AvgPool2d,
    Conv2d,
    Flatten,
    Input,
    MaxPool2d,
    Readout,
    Scale,
    SumPool2d,
    Upsample2d,
    padding_pairs,
    pair,
)
from ....layers.neurons import Decay, Neuron
from ....network.bounds import analyse, check_totals, fits
from .neuron_width import Narrow, narrowest

__all__ = ["PATHS", "Plan", "Worker", "bias_schedule"]

PATHS = ("layer", "step", "reference")
STEPS_PER_CALL = 16  # longest chunk of the layer path: bounds the buffers, not the run
ALIGNMENT = 64  # bytes
MOST_SCHEDULED = 1 << 20  # biases of all steps are made once where they are not more than this


def bias_schedule(bias: np.ndarray, mode: str, drive: int, start: int, steps: int) -> np.ndarray:
    """Bias of the steps ``start..start + steps``: ``(steps, O)``, exact, zero after the drive.

    ``"spread"``: ``b_t = floor((t + 1) B / drive) - floor(t B / drive)``; ``"step"``: B; ``"once"``: B at t = 0.
    """
    wide = bias.astype(object)
    rows = []
    for t in range(start, start + steps):
        if t >= drive:
            rows.append(wide * 0)
        elif mode == "spread":
            rows.append(wide * (t + 1) // drive - wide * t // drive)
        elif mode == "step":
            rows.append(wide)
        else:
            rows.append(wide if t == 0 else wide * 0)
    return np.array(rows, dtype=object).reshape(steps, bias.shape[0])


def _codes(decay: Decay) -> tuple[int, int, int, int, int]:
    """A `Decay` as the five integers of `NeuronParameters`."""
    from ....kernels import parameters as P

    kind = {"none": P.NONE, "shift": P.SHIFT, "multiply": P.MULTIPLY, "subtract": P.SUBTRACT}[decay.kind]
    first = {"shift": decay.shift, "multiply": decay.multiplier}.get(decay.kind, decay.amount)
    return kind, first, decay.shift, int(decay.rounding), int(decay.at_least_one)


def neuron_parameters(neuron: Neuron, seed: int, layer: int):
    """The parts of `neuron` that are the same for all channels, as kernels take them."""
    from ....kernels import parameters as P

    u_decay, v_decay, trace_decay = _codes(neuron.u_decay), _codes(neuron.v_decay), _codes(neuron.refractory.decay)
    acc, u, trace = neuron.acc_format, neuron.u_format, neuron.refractory.format
    u_low, u_high = neuron.u_range or ((u.min, u.max) if u else (0, 0))
    return P.NeuronParameters(
        has_acc=int(acc is not None),
        acc_low=acc.min if acc else 0,
        acc_high=acc.max if acc else 0,
        acc_overflow=int(neuron.acc_overflow),
        has_u=int(u is not None),
        u_low=u_low,
        u_high=u_high,
        u_overflow=int(neuron.u_overflow),
        u_decay=u_decay[0],
        u_decay_a=u_decay[1],
        u_decay_b=u_decay[2],
        u_rounding=u_decay[3],
        u_least=u_decay[4],
        u_shift=neuron.u_shift,
        v_low=neuron.v_format.min,
        v_high=neuron.v_format.max,
        v_overflow=int(neuron.v_overflow),
        v_decay=v_decay[0],
        v_decay_a=v_decay[1],
        v_decay_b=v_decay[2],
        v_rounding=v_decay[3],
        v_least=v_decay[4],
        strict=int(neuron.compare == ">"),
        reset={"none": P.RESET_NONE, "subtract": P.RESET_SUBTRACT, "zero": P.RESET_ZERO}[neuron.reset],
        reset_delay=neuron.reset_delay,
        signed=int(neuron.signed),
        max_count=-1 if neuron.max_count is None else neuron.max_count,
        max_spikes=neuron.max_spikes_per_step,
        refractory={"none": P.REFRACTORY_NONE, "counter": P.REFRACTORY_COUNTER, "trace": P.REFRACTORY_TRACE}[
            neuron.refractory.kind
        ],
        refractory_steps=neuron.refractory.steps,
        trace_amplitude=neuron.refractory.amplitude,
        trace_low=trace.min,
        trace_high=trace.max,
        trace_decay=trace_decay[0],
        trace_decay_a=trace_decay[1],
        trace_decay_b=trace_decay[2],
        trace_rounding=trace_decay[3],
        trace_least=trace_decay[4],
        seed=seed,
        layer=layer,
    )


def absorbing(network) -> bool:
    """Whether a quiet undriven step is followed by quiet steps only (no state moves without spikes or input)."""
    return all(
        layer.v_decay.kind == "none"
        and layer.u_format is None
        and layer.refractory.kind == "none"
        and not np.any(layer.bias)
        and layer.reset != "none"
        and layer.v_overflow != Overflow.WRAP
        for layer in (network.nodes[name] for name in network.neurons)
    )


def _aligned(shape: tuple[int, ...], dtype) -> np.ndarray:
    """Zeros that begin where a vector register would like them to."""
    if np.dtype(dtype).hasobject:
        return np.zeros(shape, dtype)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.zeros(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size].view(dtype).reshape(shape)


def _narrow_ints(array: np.ndarray) -> np.ndarray:
    """`array` in the narrowest of int8, int32, int64 (few types: every one is compiled once)."""
    for dtype in (np.int8, np.int32):
        info = np.iinfo(dtype)
        if array.size == 0 or (array.min() >= info.min and array.max() <= info.max):
            return np.ascontiguousarray(array, dtype=dtype)
    return np.ascontiguousarray(array, dtype=np.int64)


class Plan:
    """What a run of `network` over at most `steps` steps needs, `driven` of them driven.

    `path` is one of `PATHS`; `drive` the steps over which the bias is spread; `counts`: whether the net counts of all
    neurons are asked for.
    """

    def __init__(self, network, steps: int, driven: int, path: str, seed: int = 0, counts: bool = True) -> None:
        self.network, self.steps, self.driven, self.path, self.counts = network, steps, driven, path, counts
        self.reference, self.totals = path == "reference", path == "ann"
        self.linear: ModuleType
        self.neuron: ModuleType
        if self.reference:
            from ....kernels.layers import reference as linear_reference
            from ....kernels.neurons import reference as neuron_reference

            self.linear, self.neuron = linear_reference, neuron_reference
        else:
            from ....kernels.layers import compiled as linear
            from ....kernels.neurons import compiled as neuron

            self.linear, self.neuron = linear, neuron
        self.drive = network.t_drive or driven
        self.bounds = analyse(network, steps, driven, levels=self.totals)
        check_totals(network, self.bounds, steps, driven, everywhere=self.totals)
        self.absorbing = absorbing(network)
        self.shapes = network.shapes
        self.sizes = {name: int(np.prod(shape)) for name, shape in network.shapes.items()}
        self.aliases = self._find_aliases()
        self.dtypes: dict[str, type] = {}
        self.operations: list[_Operation] = []
        self.layers = {name: i for i, name in enumerate(network.order)}
        for name in network.order:
            self.operations.append(self._operation(name, network.nodes[name], seed))

    def _find_aliases(self) -> set[str]:
        """Flattens of maps that feed only `Affine`: no copy, the weights are reordered instead."""
        network = self.network
        return {
            name
            for name, layer in network.nodes.items()
            if isinstance(layer, Flatten)
            and all(isinstance(network.nodes[b], Affine) for a, b in network.edges if a == name)
            and name != network.output_name
        }

    def _sum_dtype(self, name: str):
        """int32 where the bound of one step proves it, else int64; Python integers for the reference.

        int16 for what only neurons read, where the bound proves that: few other kernels have to be compiled for it.
        """
        if self.reference:
            return object
        bound = self.bounds[name]
        low, high = (bound.total_low, bound.total_high) if self.totals else (bound.low, bound.high)
        if isinstance(self.network.nodes[name], AvgPool2d):  # the sum of the window is there before the average
            area = math.prod(self.network.nodes[name].kernel_size)
            low, high = low * area, high * area
        layer, readers = self.network.nodes[name], [b for a, b in self.network.edges if a == name]
        if isinstance(layer, Affine | Conv2d) and readers and not self.totals and fits(low, high, 16):
            narrow = np.abs(layer.multiplier).max(initial=0) < 1 << 15
            if narrow and all(isinstance(self.network.nodes[reader], Neuron) for reader in readers):
                return np.int16
        return np.int32 if fits(low, high, 32) else np.int64

    def _operation(self, name: str, layer, seed: int) -> _Operation:
        sources = self.network.inputs_of(name)
        dtype = self._sum_dtype(name)
        operation: _Operation
        if isinstance(layer, Input):
            operation = _Input(name, dtype)
        elif isinstance(layer, Affine | Conv2d):
            operation = _Connection(self, name, layer, sources[0], dtype)
        elif isinstance(layer, Neuron):
            operation = (
                _Levels(self, name, layer, sources[0]) if self.totals else _Neuron(self, name, layer, sources[0], seed)
            )
        elif isinstance(layer, Flatten):
            operation = _Flatten(self, name, sources[0])
        elif isinstance(layer, Upsample2d):
            operation = _Upsample(self, name, layer, sources[0])
        elif isinstance(layer, MaxPool2d):
            operation = _Pool(self, name, layer, sources[0], self.dtypes[sources[0]])
        elif isinstance(layer, SumPool2d | AvgPool2d):
            operation = _Pool(self, name, layer, sources[0], dtype)
        elif isinstance(layer, Scale):
            operation = _Scale(self, name, layer, sources[0], dtype)
        elif isinstance(layer, Add):
            operation = _Add(name, sources, dtype)
        else:
            operation = _Readout(name, layer, sources[0], object if self.reference else np.int64)
        self.dtypes[name] = operation.dtype
        return operation

    def neuron_operation(self, name: str) -> _Neuron:
        """The operation of a layer of neurons."""
        return cast(_Neuron, self.operations[self.layers[name]])

    def window(self, source: str, name: str, layer=None):
        """Geometry of a connection or pool from `source` to `name`."""
        from ....kernels.parameters import Window

        shape, out = self.shapes[source], self.shapes[name]
        if len(shape) == 1:
            return Window(1, 1, shape[0], 1, 1, out[0])
        if isinstance(layer, Conv2d):
            (rows, columns), dilation, groups = layer.weight.shape[2:], pair(layer.dilation, name), layer.groups
        else:
            (rows, columns), dilation, groups = pair(layer.kernel_size, name), (1, 1), 1
        stride, ((top, _), (left, _)) = pair(layer.stride, name), padding_pairs(layer.padding, name)
        return Window(
            shape[1], shape[2], shape[0], out[1], out[2], out[0], rows, columns, *stride, top, left, *dilation, groups
        )

    def bytes_per_sample(self) -> int:
        """Largest buffer of one sample in one chunk."""
        steps = 1 if self.path != "layer" else min(self.driven, STEPS_PER_CALL)
        return max(size * steps * 4 for size in self.sizes.values())

    def chunks(self, start: int, limit: int, driven: bool) -> int:
        """How many steps to do next, from `start`, at most up to `limit`."""
        longest = STEPS_PER_CALL if self.path == "layer" else 1
        if not driven and not self.absorbing:
            longest = 1
        elif not driven:
            longest = min(longest, 4)
        return min(longest, limit - start)


class Worker:
    """Buffers and states of one block of samples; `records` says which of u and v to keep, by neuron."""

    def __init__(self, plan: Plan, records: dict[str, tuple[str, ...]] | None = None) -> None:
        self.plan, self.records = plan, records or {}
        self._buffers: dict[tuple, np.ndarray] = {}
        self.values: dict[str, np.ndarray] = {}
        self.states: dict[str, dict[str, np.ndarray]] = {}

    def buffer(self, name: str, what: str, shape: tuple[int, ...], dtype) -> np.ndarray:
        """A buffer that is allocated once and used again in every chunk of the same shape."""
        key = (name, what, shape, dtype)
        found = self._buffers.get(key)
        if found is None:
            found = self._buffers[key] = _aligned(shape, dtype)
        return found

    def begin(self, source, start: int, stop: int) -> None:
        """Load the samples ``start..stop`` and reset every state."""
        plan = self.plan
        self.first_sample, self.samples = start, stop - start
        self.codes = source.block(start, stop, plan.dtypes[plan.network.input_name])
        self.constant = source.constant
        self.alive = np.ones(self.samples, np.uint8)
        self.values.clear()
        for operation in plan.operations:
            self.states[operation.name] = operation.begin(self)

    def advance(self, start: int, steps: int) -> None:
        """Run every node over the steps ``start..start + steps``; results are in `values`."""
        self.start, self.steps = start, steps
        self.driven_steps = max(0, min(self.plan.driven - start, steps))
        for operation in self.plan.operations:
            self.values[operation.name] = operation.run(self)

    def on_the_way(self) -> np.ndarray:
        """Samples of which something still waits in front of a delayed connection, ``(B,)`` bool."""
        waiting = np.zeros(self.samples, bool)
        for operation in self.plan.operations:
            if isinstance(operation, _Connection) and operation.layer.delay and not operation.recurrent:
                waiting |= (self.states[operation.name]["line"] != 0).any(axis=(1, 2))
        return waiting


class _Operation(ABC):
    """One node: `begin` makes its state for a block, `run` its values for a chunk."""

    def __init__(self, name: str, source: str, dtype) -> None:
        self.name, self.source, self.dtype = name, source, dtype

    def begin(self, worker: Worker) -> dict[str, np.ndarray]:
        return {}

    @abstractmethod
    def run(self, worker: Worker) -> np.ndarray: ...

    def out(self, worker: Worker, size: int, steps: int) -> np.ndarray:
        return worker.buffer(self.name, "out", (worker.samples, steps, size), self.dtype)


class _Input(_Operation):
    def __init__(self, name: str, dtype) -> None:
        super().__init__(name, "", dtype)  # nothing feeds it

    def run(self, worker: Worker) -> np.ndarray:
        codes, driven = worker.codes, worker.driven_steps
        if worker.plan.totals:
            return (
                codes * worker.plan.driven if worker.constant else codes[:, : worker.plan.driven].sum(1, keepdims=True)
            )
        if worker.constant and driven == worker.steps:
            return codes
        if driven == 0:
            return worker.buffer(self.name, "silence", (worker.samples, 1, codes.shape[2]), self.dtype)
        if not worker.constant and driven == worker.steps:
            return np.ascontiguousarray(codes[:, worker.start : worker.start + driven])
        mixed = np.zeros((worker.samples, worker.steps, codes.shape[2]), self.dtype)
        mixed[:, :driven] = codes if worker.constant else codes[:, worker.start : worker.start + driven]
        return mixed


class _Connection(_Operation):
    def __init__(self, plan: Plan, name: str, layer, source: str, dtype) -> None:
        super().__init__(name, source, dtype)
        self.layer, self.plan = layer, plan
        weight = layer.weight
        if isinstance(layer, Affine):
            if source in plan.aliases:  # columns from C, H, W to H, W, C order
                channels, *area = plan.shapes[plan.network.inputs_of(source)[0]]
                weight = weight.reshape(weight.shape[0], channels, int(np.prod(area))).swapaxes(1, 2)
            packed = weight.reshape(1, 1, weight.shape[0], -1).swapaxes(2, 3)
        else:
            outputs, per_group, kh, kw = weight.shape
            packed = weight.reshape(layer.groups, outputs // layer.groups, per_group, kh, kw).transpose(3, 4, 0, 2, 1)
            packed = packed.reshape(kh, kw, layer.groups * per_group, outputs // layer.groups)
        self.window = plan.window(source, name, layer)
        outputs = weight.shape[0]
        if self.dtype == np.int32 and np.abs(layer.multiplier).max(initial=0) >= 1 << 31:
            self.dtype = np.int64
        self.weight = packed.astype(object) if plan.reference else _narrow_ints(packed)
        self.multiplier = np.ascontiguousarray(np.broadcast_to(layer.multiplier, (outputs,)), dtype=self.dtype)
        self.no_bias = np.zeros((1, outputs), self.dtype)
        self.recurrent = plan.layers[source] >= plan.layers[name]
        self.schedule: np.ndarray | None = None
        if layer.bias is not None and not plan.totals and outputs * plan.driven <= MOST_SCHEDULED:
            self.schedule = self._biases(0, plan.driven)

    def begin(self, worker: Worker) -> dict[str, np.ndarray]:
        if not self.layer.delay:
            return {}
        size = self.plan.sizes[self.source]
        source_type = object if self.plan.reference else self.plan.dtypes.get(self.source, np.int8)
        line = worker.buffer(self.name, "delay line", (worker.samples, 1, size), source_type)
        line[...] = 0
        return {"line": line}

    def _delayed(self, worker: Worker) -> np.ndarray:
        """The input one step later: what the source sent before this chunk, then all but its last step."""
        line = worker.states[self.name]["line"]
        if self.recurrent:  # the source runs after this node: its values are still those of the last step
            sent = worker.values.get(self.source)
            if sent is not None:
                line[...] = sent[:, -1:]
            return line
        sent = worker.values[self.source]
        late = worker.buffer(self.name, "late", (worker.samples, worker.steps, line.shape[2]), line.dtype)
        late[:, :1] = line
        if worker.steps > 1:
            late[:, 1:] = sent[:, :-1] if sent.shape[1] > 1 else sent
        line[...] = sent[:, -1:]
        return late

    def bias(self, worker: Worker) -> np.ndarray:
        """Bias of this chunk, ``(T, O)`` or ``(1, O)``."""
        if self.layer.bias is None or not worker.driven_steps:
            return self.no_bias
        if self.plan.totals:
            wide, driven, drive = self.layer.bias.astype(object), self.plan.driven, self.plan.drive
            total = {"step": wide * driven, "once": wide, "spread": wide * driven // drive}[self.layer.bias_mode]
            return total[None].astype(self.dtype)  # the sum of `bias_schedule`
        start, driven = worker.start, worker.driven_steps
        if self.schedule is not None and driven == worker.steps:
            return self.schedule[start : start + driven]
        rows = self._biases(start, worker.steps)
        rows[driven:] = 0
        return rows

    def _biases(self, start: int, steps: int) -> np.ndarray:
        rows = bias_schedule(self.layer.bias, self.layer.bias_mode, self.plan.drive, start, steps)
        return rows if self.plan.reference else rows.astype(self.dtype)

    def run(self, worker: Worker) -> np.ndarray:
        x = self._delayed(worker) if self.layer.delay and not self.plan.totals else worker.values[self.source]
        window = self.window
        out = self.out(worker, window.out_height * window.out_width * window.out_channels, worker.steps)
        pixels, events = window.height * window.width, x.shape[1] * x.shape[2]
        if self.plan.reference:
            scratch: tuple[np.ndarray | None, ...] = (None, None, None, None)
        else:
            scratch = (
                worker.buffer(self.name, "offsets", (pixels * x.shape[1] + 1,), np.int32),
                worker.buffer(self.name, "indices", (events + 1,), np.int32),
                worker.buffer(self.name, "values", (events + 1,), self.dtype),
                worker.buffer(self.name, "sums", (window.out_channels,), self.dtype),
            )
        self.plan.linear.convolve(
            x, self.weight, window, self.multiplier, self.bias(worker), worker.alive, *scratch, out
        )
        return out


class _Neuron(_Operation):
    def __init__(self, plan: Plan, name: str, layer: Neuron, source: str, seed: int) -> None:
        super().__init__(name, source, object if plan.reference else np.int8)
        self.layer, self.plan = layer, plan
        self.size = plan.sizes[name]
        self.channels = plan.shapes[name][0]
        self.parameters = neuron_parameters(layer, seed, plan.layers[name])
        self.counts = plan.counts or name == plan.network.output_name
        self.narrow = self._narrow(source)
        self.state_type: type
        self.count_type: type
        self.pending_type: type
        if self.narrow is None:
            self.state_type = object if plan.reference else np.int64
            counts = plan.bounds[name]
            count_type = np.int32 if fits(counts.total_low, counts.total_high, 32) else np.int64
            self.count_type = object if plan.reference else count_type
            self.pending_type = object if plan.reference else np.int32
        else:
            self.state_type, self.count_type, self.pending_type = (
                self.narrow.state_type,
                self.narrow.count_type,
                np.int8,
            )
            self.constants, self.table = self.narrow.constants, self.narrow.table
            self.counts = self.narrow.counted
            if not self.narrow.capped:
                self.parameters = self.parameters._replace(max_count=-1)

        def per_channel(values):
            return np.ascontiguousarray(
                np.broadcast_to(values, (self.channels,)), object if plan.reference else np.int64
            )

        self.threshold, self.bias = per_channel(layer.threshold), per_channel(layer.bias)
        self.v_initial, self.v_negative = per_channel(layer.v_initial), per_channel(layer.v_negative)

    def _narrow(self, source: str) -> Narrow | None:
        """The vector kernel of this layer, if it has one."""
        plan = self.plan
        if plan.reference:
            return None
        from ....kernels.toolchain.tier import tier

        if tier() == "portable":
            return None
        return narrowest(
            self.layer, plan.bounds[source], plan.bounds[self.name], plan.dtypes[source], plan.steps,
            plan.shapes[self.name], self.counts,
        )  # fmt: skip

    def begin(self, worker: Worker) -> dict[str, np.ndarray]:
        from ....kernels.parameters import COUNTERS, FIRSTS

        layer, samples = self.layer, worker.samples

        def state(what, dtype, needed=True):
            array = worker.buffer(self.name, what, (samples, self.size if needed else 0), dtype)
            array[...] = 0
            return array

        states = {
            "u": state("u", self.state_type, layer.u_format is not None),
            "v": state("v", self.state_type),
            "count": state("count", self.count_type, self.narrow is None or self.counts),
            "pending": state("pending", self.pending_type, bool(layer.reset_delay)),
            "refractory": state("refractory", self.state_type, layer.refractory.kind != "none"),
            "counters": np.zeros(COUNTERS, object if self.plan.reference else np.int64),
            "first": np.zeros(FIRSTS, object if self.plan.reference else np.int64),
        }
        states["v"].reshape(samples, -1, self.channels)[...] = self.v_initial
        return states

    def run(self, worker: Worker) -> np.ndarray:
        current, state = worker.values[self.source], worker.states[self.name]
        steps = worker.steps
        out = self.out(worker, self.size, steps)
        kept = worker.records.get(self.name, ())

        def record(what):
            shape = (worker.samples, steps if what in kept else 0, self.size)
            return worker.buffer(self.name, f"{what} record", shape, self.state_type)

        arguments = (
            current, worker.driven_steps, worker.start, worker.first_sample, self.parameters, self.threshold,
            self.v_negative, self.bias, worker.alive, state["u"], state["v"], state["count"], state["pending"],
            state["refractory"], out, record("u"), record("v"), state["counters"], state["first"],
        )  # fmt: skip
        if self.narrow is None:
            self.plan.neuron.neuron_run(*arguments)
        else:
            from ....kernels.neurons.narrow import narrow_run

            narrow_run(self.constants, self.table, self.narrow.period, *arguments)
        return out

    def membrane(self, worker: Worker) -> np.ndarray:
        """v at the end of the latest step, as a record has it: a delayed reset is not yet in it."""
        return worker.states[self.name]["v"]


class _Levels(_Operation):
    """The neuron of the integer ANN: level of the total charge."""

    def __init__(self, plan: Plan, name: str, layer: Neuron, source: str) -> None:
        super().__init__(name, source, np.int32)
        self.plan, self.size = plan, plan.sizes[name]
        channels = plan.shapes[name][0]
        self.v_initial = np.ascontiguousarray(np.broadcast_to(layer.v_initial, (channels,)))
        self.threshold = np.ascontiguousarray(np.broadcast_to(layer.threshold, (channels,)))
        self.top = layer.max_count or plan.network.levels

    def run(self, worker: Worker) -> np.ndarray:
        out = self.out(worker, self.size, 1)
        self.plan.neuron.levels(worker.values[self.source], self.v_initial, self.threshold, self.top, worker.alive, out)
        return out


class _Flatten(_Operation):
    def __init__(self, plan: Plan, name: str, source: str) -> None:
        super().__init__(name, source, plan.dtypes[source])
        self.shape = plan.shapes[source]
        self.alias = name in plan.aliases or len(self.shape) == 1

    def run(self, worker: Worker) -> np.ndarray:
        x = worker.values[self.source]
        if self.alias:
            return x
        channels, height, width = self.shape
        out = self.out(worker, x.shape[2], x.shape[1])
        maps = x.reshape(*x.shape[:2], height * width, channels).swapaxes(2, 3)
        out.reshape(*x.shape[:2], channels, height * width)[...] = maps
        return out


class _Upsample(_Operation):
    """Values are copied, none is computed: every path does the same."""

    def __init__(self, plan: Plan, name: str, layer: Upsample2d, source: str) -> None:
        super().__init__(name, source, plan.dtypes[source])
        (self.rows, self.columns), self.nearest = pair(layer.factor, name), layer.mode == "nearest"
        self.inputs, self.outputs = plan.shapes[source], plan.shapes[name]

    def run(self, worker: Worker) -> np.ndarray:
        x = worker.values[self.source]
        channels, height, width = self.inputs
        out = self.out(worker, int(np.prod(self.outputs)), x.shape[1])
        maps = x.reshape(*x.shape[:2], height, width, channels)
        large = out.reshape(*x.shape[:2], *self.outputs[1:], channels)  # made of zeros, and zeros stay zeros
        for row in range(self.rows if self.nearest else 1):
            for column in range(self.columns if self.nearest else 1):
                large[:, :, row :: self.rows, column :: self.columns] = maps
        return out


class _Pool(_Operation):
    def __init__(self, plan: Plan, name: str, layer, source: str, dtype) -> None:
        super().__init__(name, source, dtype)
        self.plan, self.layer = plan, layer
        self.window = plan.window(source, name, layer)
        self.inputs, self.outputs = plan.sizes[source], plan.sizes[name]

    def begin(self, worker: Worker) -> dict[str, np.ndarray]:
        if not isinstance(self.layer, MaxPool2d):
            return {}
        bound = self.plan.bounds[self.name]
        narrow = self.dtype != np.int64 and fits(bound.total_low, bound.total_high, 32)
        dtype = object if self.plan.reference else np.int32 if narrow else np.int64
        count = worker.buffer(self.name, "count", (worker.samples, self.inputs), dtype)
        best = worker.buffer(self.name, "best", (worker.samples, self.outputs), dtype)
        count[...] = 0
        best[...] = 0
        return {"inputs": count, "count": best}

    def run(self, worker: Worker) -> np.ndarray:
        x = worker.values[self.source]
        linear = self.plan.linear
        if isinstance(self.layer, MaxPool2d):
            out = self.out(worker, self.outputs, worker.steps)
            state = worker.states[self.name]
            linear.max_pool(x, self.window, worker.alive, state["inputs"], state["count"], out)
            return out
        out = self.out(worker, self.outputs, x.shape[1])
        linear.sum_pool(x, self.window, worker.alive, out)
        if isinstance(self.layer, AvgPool2d):
            area = self.window.kernel_height * self.window.kernel_width
            linear.divide(out, area, int(self.layer.rounding), worker.alive, out)
        return out


class _Scale(_Operation):
    def __init__(self, plan: Plan, name: str, layer: Scale, source: str, dtype) -> None:
        super().__init__(name, source, dtype)
        self.linear = plan.linear
        self.factor = np.ascontiguousarray(np.broadcast_to(layer.scale, (plan.shapes[name][0],)), dtype=dtype)

    def run(self, worker: Worker) -> np.ndarray:
        x = worker.values[self.source]
        out = self.out(worker, x.shape[2], x.shape[1])
        self.linear.scale(x, self.factor, worker.alive, out)
        return out


class _Add(_Operation):
    def __init__(self, name: str, sources: tuple[str, ...], dtype) -> None:
        super().__init__(name, sources[0], dtype)
        self.sources = sources

    def run(self, worker: Worker) -> np.ndarray:
        total = worker.values[self.sources[0]]
        for source in self.sources[1:]:
            other = worker.values[source]
            out = self.out(worker, total.shape[2], max(total.shape[1], other.shape[1]))
            worker.plan.linear.add(total, other, worker.alive, out)
            total = out
        return total


class _Readout(_Operation):
    def __init__(self, name: str, layer: Readout, source: str, dtype) -> None:
        super().__init__(name, source, dtype)
        self.layer = layer

    def begin(self, worker: Worker) -> dict[str, np.ndarray]:
        size = worker.plan.sizes[self.name]
        total = worker.buffer(self.name, "total", (worker.samples, size), self.dtype)
        total[...] = -1 if self.layer.kind == "first_spike" else 0
        return {"total": total}

    def run(self, worker: Worker) -> np.ndarray:
        x, total = worker.values[self.source], worker.states[self.name]["total"]
        linear = worker.plan.linear
        if self.layer.kind == "first_spike":
            linear.first_spike(x, worker.steps, worker.start, worker.alive, total)
        else:
            linear.accumulate(x, worker.steps, worker.alive, total)
        return x
