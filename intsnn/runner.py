"""A network prepared for speed: the fused path behind one call, numpy array in, outputs out.

`prepare` packs weights and lays out small buffers once; the `Runner` it returns answers the outputs (and extra steps)
of `simulate` with the same bits and no per-layer report. Feed-forward integrate-and-fire networks inside proven
bounds run fused (`intsnn.kernels.fused`); anything else is refused with the reason, and `simulate` takes it.
"""

from __future__ import annotations

import itertools
import math
import threading
from dataclasses import dataclass

import numpy as np

from .bounds import fits
from .errors import FormatError, UnsupportedError
from .executor import bias_schedule
from .formats import Overflow
from .inputs import Source
from .layers import Add, Affine, Conv2d, Flatten, Input, MaxPool2d, Readout, Scale, SumPool2d
from .neurons import Neuron
from .simulate import predict, to_api

__all__ = ["Outcome", "Runner", "prepare", "why_not_fused"]

WIDTH = 32  # of a tile, see intsnn.kernels.tiles
LONGEST_CHUNK = 16
NO_CODES, NO_FRAMES = np.zeros((1, 1, 1), np.int32), np.zeros((1, 1, 1), np.int8)
BLOCK_BYTES = 1 << 19  # states of a block of samples
GRAIN = 4  # samples that a thread takes at a time


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of a `Runner`: `outputs` (B, K) int64, `extra_steps` (B,), `settled` and `predictions` (B,)."""

    network: object
    outputs: np.ndarray
    extra_steps: np.ndarray
    settled: bool | None

    @property
    def predictions(self) -> np.ndarray:
        """Index of the first best output of each sample."""
        return predict(self.network, self.outputs)


def _padded(n: int) -> int:
    return -(-n // WIDTH) * WIDTH


def _tiles(channels: int) -> list[tuple[int, int]]:
    """First column and width of the tiles that cover `channels`: 256, 128, 64 and 32 wide."""
    found, column = [], 0
    while column < channels:
        width = next(w for w in (256, 128, 64, 32) if w <= channels - column)
        found.append((column, width))
        column += width
    return found


def _consumers(network, name: str) -> list[str]:
    return [b for a, b in network.edges if a == name]


def _spikes_of(network, connection: str) -> str:
    """The node whose spikes a connection reads (through a Flatten)."""
    source = network.inputs_of(connection)[0]
    return network.inputs_of(source)[0] if isinstance(network.nodes[source], Flatten) else source


def _covers(network, name: str) -> bool:
    """Whether a convolution is one window over its whole input: then it is a dense layer."""
    layer, shape = network.nodes[name], network.shapes[network.inputs_of(name)[0]]
    return layer.weight.shape[2:] == shape[1:] and layer.padding == ((0, 0), (0, 0)) and layer.dilation == (1, 1)


def why_not_fused(network, bounds, frames: bool = False) -> str | None:
    """Why the fused path does not take `network`, or None. `bounds` are those of the run; `frames`: input by steps."""
    if network.recurrent:
        return "the network is recurrent"
    if not isinstance(network.nodes[network.output_name], Readout):
        return "the output is no Readout"
    for name in network.order:
        layer = network.nodes[name]
        sources = network.inputs_of(name)
        source = network.nodes[sources[0]] if sources else None
        kind = type(layer).__name__
        if isinstance(layer, Affine | Conv2d):
            if layer.delay:
                return f"{name} has a delay"
            if np.abs(layer.weight).max() > 127:
                return f"{name} has weights beyond 127"
            if np.abs(layer.multiplier).max() >= 1 << 31:
                return f"{name} has multipliers beyond 31 bits"
            if isinstance(layer, Conv2d) and (layer.groups != 1 or layer.dilation[1] != 1):
                return f"{name} has groups or a horizontal dilation"
            if not fits(bounds[name].low, bounds[name].high, 32):
                return f"the sums of {name} need more than 32 bits"
            if not isinstance(source, Input | Neuron | MaxPool2d | SumPool2d | Flatten):
                return f"{name} reads sums of {sources[0]}"
        elif isinstance(layer, Neuron):
            bound = bounds[name]
            plain = (
                bound.v_low is not None
                and layer.max_spikes_per_step == 1
                and layer.compare == ">="
                and not np.any(layer.bias)
                and layer.acc_format is None
            )
            if not plain:
                return f"{name} is no plain integrate-and-fire neuron"
            symmetric = layer.v_overflow == Overflow.SAT_SYM and layer.v_format.signed
            lowest = -layer.v_format.max if symmetric else layer.v_format.min
            if int(bound.v_low.min()) < lowest or int(bound.v_high.max()) > layer.v_format.max:
                return f"the membrane of {name} may overflow"
            if not fits(layer.threshold, layer.threshold, 32) or not fits(layer.v_negative, layer.v_negative, 32):
                return f"the parameters of {name} need more than 32 bits"
            if not fits(bound.v_low, bound.v_high, 32) or int(bound.total_high.max()) >= 1 << 15:
                return f"the membrane of {name} needs more than 32 bits, or its count more than 15"
            if not isinstance(source, Affine | Conv2d | Add):
                return f"{name} is not fed by a connection or a join"
        elif isinstance(layer, SumPool2d | MaxPool2d):
            if not isinstance(source, Neuron | MaxPool2d | SumPool2d):
                return f"{name} pools no spikes"
            if int(bounds[name].high.max()) > 16 or int(bounds[name].low.min()) < -16:
                return f"the sums of {name} are too large to be listed"
        elif isinstance(layer, Flatten):
            if not all(isinstance(network.nodes[b], Affine) for b in _consumers(network, name)):
                return f"{name} feeds no dense layer"
        elif isinstance(layer, Scale):
            if not isinstance(source, Neuron | MaxPool2d | SumPool2d) or not all(
                isinstance(network.nodes[b], Add) for b in _consumers(network, name)
            ):
                return f"{name} is no branch of a join"
        elif isinstance(layer, Add):
            if not all(
                isinstance(network.nodes[s], Affine | Conv2d | Scale | Neuron | MaxPool2d | SumPool2d) for s in sources
            ):
                return f"{name} joins something else than connections and spikes"
            if not all(isinstance(network.nodes[b], Neuron) for b in _consumers(network, name)):
                return f"{name} feeds no neuron"
            if not fits(bounds[name].low, bounds[name].high, 32):
                return f"the sums of {name} need more than 32 bits"
        elif isinstance(layer, Readout):
            if layer.kind == "first_spike" or not isinstance(source, Affine | Conv2d):
                return f"{name} is no sum of a connection"
            if isinstance(source, Conv2d) and not _covers(network, sources[0]):
                return f"{sources[0]} reads out more than one window"
            if isinstance(network.nodes[_spikes_of(network, sources[0])], Input):
                return f"{name} reads the input without a neuron in between"
        elif isinstance(layer, Input):
            if frames and not -16 <= layer.low <= layer.high <= 16:
                return f"frames of {name} may hold values beyond 16"
        else:
            return f"{name} ({kind}) has no fused form"
    return None


class _Program:
    """Table of operations and the flat buffers of constants for one network and one kind of input."""

    def __init__(self, network, bounds, constant: bool, driven: int, chunk: int) -> None:
        from .kernels import fused

        self.F = fused.Operation
        self.K = fused.Kind
        self.network, self.bounds, self.constant = network, bounds, constant
        self.drive, self.driven, self.chunk = network.t_drive or driven, driven, chunk
        self.table: list[dict] = []
        self.rows: list[np.ndarray] = []
        self.numbers: list[np.ndarray] = []
        self.row_size = self.number_size = 0
        self.spike_slots: dict[str, int] = {}
        self.spikes = self.states = 0
        self.charge = WIDTH  # the first charges stay zero: what is read where nothing is added
        self.events = self.offsets = self.widest = 1
        self.current_inputs = self.loose = 1
        for name in network.order:
            self._node(name, network.nodes[name])

    # -- constants and buffers -------------------------------------------------------------------

    def _put_rows(self, array: np.ndarray) -> int:
        at = self.row_size
        flat = np.ascontiguousarray(array, np.int8).reshape(-1)
        self.rows.append(flat)
        self.row_size += flat.size
        return at

    def _put_numbers(self, values, channels: int, padding: int = 0) -> int:
        full = np.full(_padded(channels), padding, np.int64)
        full[:channels] = np.broadcast_to(values, (channels,))
        at = self.number_size
        self.numbers.append(full.astype(np.int32))
        self.number_size += full.size
        return at

    def _put_bias(self, layer, channels: int) -> int:
        """Rows of the driven steps and one of zeros."""
        wide = _padded(channels)
        rows = np.zeros((self.driven + 1, wide), np.int32)
        if layer is not None and layer.bias is not None:
            schedule = bias_schedule(layer.bias, layer.bias_mode, self.drive, 0, self.driven)
            rows[: self.driven, :channels] = schedule.astype(np.int32)
        at = self.number_size
        self.numbers.append(rows.reshape(-1))
        self.number_size += rows.size
        return at

    def _slot(self, name: str) -> int:
        """Where the spikes of `name` lie, all steps of a chunk."""
        shape = self._map(name)
        at = self.spikes
        self.spikes += self.chunk * shape[0] * shape[1] * shape[2]
        self.spike_slots[name] = at
        return at

    def _map(self, name: str) -> tuple[int, int, int]:
        """Height, width and padded channels of a node."""
        shape = self.network.shapes[name]
        if len(shape) == 1:
            return 1, 1, _padded(shape[0])
        return shape[1], shape[2], _padded(shape[0])

    def _state(self, cells: int) -> int:
        at = self.states
        self.states += cells
        return at

    # -- operations ------------------------------------------------------------------------------

    def _node(self, name: str, layer) -> None:
        network = self.network
        if isinstance(layer, Input):
            self.input_slot = 0 if self.constant else self._slot(name)
        elif isinstance(layer, Neuron):
            self._neuron(name, layer)
        elif isinstance(layer, SumPool2d | MaxPool2d):
            source = network.inputs_of(name)[0]
            fields = self._geometry(source, name, layer.kernel_size, layer.stride, layer.padding, (1, 1))
            fields["SOURCE"] = self.spike_slots[source]
            fields["TARGET"] = self._slot(name)
            if isinstance(layer, MaxPool2d):
                h, w, c = self._map(source)
                oh, ow, _ = self._map(name)
                fields["STATE"] = self._state((h * w + oh * ow) * c)
            self._emit("MAX_POOL" if isinstance(layer, MaxPool2d) else "SUM_POOL", fields)
        elif isinstance(layer, Readout):
            connection = network.inputs_of(name)[0]
            fields = self._connection(connection)
            fields["OUTPUTS"] = int(np.prod(network.shapes[name]))
            self._emit("READOUT", fields)

    def _emit(self, kind: str, fields: dict) -> None:
        self.table.append({"KIND": int(self.K[kind]), **fields})

    def _geometry(self, source: str, name: str, kernel, stride, padding, dilation) -> dict:
        h, w, c = self._map(source)
        oh, ow, oc = self._map(name)
        return {
            "HEIGHT": h, "WIDTH_IN": w, "CHANNELS": c, "OUT_HEIGHT": oh, "OUT_WIDTH": ow, "OUT_CHANNELS": oc,
            "KERNEL_Y": kernel[0], "KERNEL_X": kernel[1], "STRIDE_Y": stride[0], "STRIDE_X": stride[1],
            "TOP": padding[0][0], "LEFT": padding[1][0], "DILATION_Y": dilation[0],
        }  # fmt: skip

    def _connection(self, name: str) -> dict:
        """Geometry, weights, multiplier and bias of a connection from spikes."""
        network, layer = self.network, self.network.nodes[name]
        feeding, source = network.inputs_of(name)[0], _spikes_of(network, name)
        h, w, c = self._map(source)
        if isinstance(layer, Conv2d) and not _covers(network, name):
            fields = self._geometry(source, name, layer.weight.shape[2:], layer.stride, layer.padding, layer.dilation)
            outputs, inputs, kh, kw = layer.weight.shape
            packed = np.zeros((kh, kw, c, _padded(outputs)), np.int8)
            packed[:, :, :inputs, :outputs] = layer.weight.transpose(2, 3, 1, 0)
        else:
            outputs = layer.weight.shape[0]
            real = network.shapes[source]
            weight = layer.weight.reshape(outputs, *real)
            if len(real) == 3:
                weight = weight.transpose(0, 2, 3, 1)
            packed = np.zeros((h * w, c, _padded(outputs)), np.int8)
            packed[:, : real[0], :outputs] = weight.reshape(outputs, h * w, real[0]).transpose(1, 2, 0)
            fields = self._geometry(source, name, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))
            fields |= {"HEIGHT": 1, "WIDTH_IN": 1, "CHANNELS": h * w * c}  # a map as one long pixel
        signed = int(self.bounds[feeding].low.min()) < 0
        packed = packed.reshape(-1, packed.shape[-1])
        fields["NEGATED"] = len(packed) if signed else 0
        if signed:
            packed = np.concatenate([packed, -packed])
        fields["ROWS"] = len(packed)
        fields["WEIGHTS"] = self.row_size
        for column, width in _tiles(packed.shape[1]):
            self._put_rows(packed[:, column : column + width])
        fields["SOURCE"] = self.spike_slots[source]
        fields["MULTIPLIER"] = self._put_numbers(layer.multiplier, outputs)
        fields["SCALED"] = int(np.any(layer.multiplier != 1))
        fields["BIAS"] = self._put_bias(layer, outputs)
        cells = self.chunk * h * w * c
        repeat = max(1, int(self.bounds[feeding].high.max()), -int(self.bounds[feeding].low.min()))
        self.events = max(self.events, cells * repeat + 1)
        self.offsets = max(self.offsets, self.chunk * fields["HEIGHT"] * (fields["WIDTH_IN"] + 1) + 1)
        self.widest = max(self.widest, fields["OUT_CHANNELS"])
        return fields

    def _constant_connection(self, name: str, at: int) -> None:
        """Charge of the constant input, once per sample."""
        network, layer = self.network, self.network.nodes[name]
        source = _spikes_of(network, name)
        shape, out = network.shapes[source], network.shapes[name]
        if isinstance(layer, Conv2d):
            fields = self._geometry(source, name, layer.weight.shape[2:], layer.stride, layer.padding, layer.dilation)
            weight, inputs = layer.weight.transpose(2, 3, 1, 0), shape[0]
        else:
            fields = self._geometry(source, name, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))
            inputs = int(np.prod(shape))
            weight = layer.weight
            if len(shape) == 3:
                weight = weight.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(weight.shape)
            weight = weight.T
            fields |= {"HEIGHT": 1, "WIDTH_IN": 1}
        outputs = out[0]
        fields |= {
            "IN_CHANNELS": inputs, "REAL_OUT": outputs, "EXTRA": at, "WIDE_WEIGHTS": self._put_rows(weight),
            "MULTIPLIER": self._put_numbers(layer.multiplier, outputs),
        }  # fmt: skip
        entries = fields["HEIGHT"] * fields["WIDTH_IN"] * inputs
        self.current_inputs = max(self.current_inputs, entries + 1)
        self.loose = max(self.loose, int(np.prod(out)))
        self.offsets = max(self.offsets, fields["HEIGHT"] * fields["WIDTH_IN"] + 1)
        self.widest = max(self.widest, _padded(outputs))
        self._emit("CURRENT", fields)

    def _is_constant(self, name: str) -> bool:
        """Whether a connection reads the constant input."""
        return self.constant and isinstance(self.network.nodes[_spikes_of(self.network, name)], Input)

    def _neuron(self, name: str, layer: Neuron) -> None:
        network = self.network
        feeding = network.inputs_of(name)[0]
        branches = network.inputs_of(feeding) if isinstance(network.nodes[feeding], Add) else (feeding,)
        h, w, c = self._map(name)
        channels = network.shapes[name][0]
        spikes_in = [b for b in branches if isinstance(network.nodes[b], Affine | Conv2d) and not self._is_constant(b)]
        others = [b for b in branches if b not in spikes_in]
        main = spikes_in[0] if spikes_in else None
        constants = [b for b in others if isinstance(network.nodes[b], Affine | Conv2d)]
        extra_steps, extra = 0, 0
        if len(branches) == 1 and constants:
            extra_steps, extra = 1, self.charge
            self.charge += h * w * c
            self._constant_connection(branches[0], extra)
        elif len(branches) > 1:
            if constants:
                raise UnsupportedError(f"{name}: a join with a branch from a constant input has no fused form")
            extra_steps, extra = 2, self.charge
            self.charge += self.chunk * h * w * c
            first = 1
            for branch in [*spikes_in[1:], *others]:
                self._branch(branch, extra, first)
                first = 0
        if main is not None:
            fields, connection = self._connection(main), None
        else:
            fields, connection = self._geometry(name, name, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)), branches[0]
            fields["MULTIPLIER"] = self._put_numbers(1, channels)
            source = network.nodes[connection]
            fields["BIAS"] = self._put_bias(
                source if isinstance(source, Affine | Conv2d) and constants else None, channels
            )
            self.widest = max(self.widest, c)
        lowest = np.iinfo(np.int32).min
        fields |= {
            "TARGET": self._slot(name),
            "THRESHOLD": self._put_numbers(layer.threshold, channels, np.iinfo(np.int32).max),
            "V_NEGATIVE": self._put_numbers(layer.v_negative if layer.signed else lowest, channels, lowest),
            "V_INITIAL": self._put_numbers(layer.v_initial, channels),
            "CAP": min((1 << 15) - 1, layer.max_count or (1 << 15) - 1),
            "STATE": self._state(h * w * c),
            "EXTRA": extra,
            "EXTRA_STEPS": extra_steps,
        }
        self._emit("CONNECT_FIRE" if main is not None else "FIRE", fields)

    def _branch(self, name: str, extra: int, first: int) -> None:
        """A branch of a join other than the fused one: its charge of every step."""
        layer = self.network.nodes[name]
        if isinstance(layer, Affine | Conv2d):
            self._emit("CONNECT_ADD", {**self._connection(name), "EXTRA": extra, "FIRST": first})
            return
        source = self.network.inputs_of(name)[0] if isinstance(layer, Scale) else name
        factor = layer.scale if isinstance(layer, Scale) else 1
        channels = self.network.shapes[name][0]
        fields = self._geometry(source, name, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))
        fields |= {
            "SOURCE": self.spike_slots[source], "MULTIPLIER": self._put_numbers(factor, channels), "EXTRA": extra,
            "FIRST": first,
        }  # fmt: skip
        self._emit("SCALE_ADD", fields)

    @property
    def block(self) -> int:
        """Samples that go through the network together: as many as stay in cache."""
        bytes_each = self.spikes + 6 * self.states + 4 * self.charge
        return max(1, min(16, BLOCK_BYTES // bytes_each))

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The table and the flat constants."""
        table = np.zeros((len(self.table), len(self.F)), np.int64)
        for i, fields in enumerate(self.table):
            for field_name, value in fields.items():
                table[i, self.F[field_name]] = value
        rows = np.concatenate([*self.rows, np.zeros(256, np.int8)])
        numbers = np.concatenate([*self.numbers, np.zeros(WIDTH, np.int32)])
        return table, rows, numbers


class Runner:
    """A prepared network; call it with inputs as `simulate` takes them. Made by `prepare`."""

    def __init__(self, network, steps: int | None, settle: bool, threads: int) -> None:
        if threads < 1:
            raise FormatError(f"threads: found {threads}; at least 1 is needed")
        self.network, self.steps, self.settle, self.threads = network, steps, settle, threads
        self._programs: dict[tuple, tuple] = {}
        self._buffers: dict[tuple, list[list[np.ndarray]]] = {}
        self._lock = threading.Lock()
        self._input = network.nodes[network.input_name]
        self._output_shape = network.shapes[network.output_name]
        self._known_lengths: dict[int | None, tuple[int, int, int]] = {}

    def _lengths(self, source: Source) -> tuple[int, int, int]:
        """Driven steps, least number of steps, limit: the same as in `simulate`."""
        known = self._known_lengths.get(source.steps)
        if known is None:
            known = self._known_lengths[source.steps] = self._find_lengths(source)
        return known

    def _find_lengths(self, source: Source) -> tuple[int, int, int]:
        network = self.network
        steps = self.steps if self.steps is not None else network.t_drive or source.steps
        if steps is None or steps < 1:
            raise FormatError(f"steps: found {steps}; this network and input need a number of steps, at least 1")
        limits = [n for n in (network.t_drive, source.steps) if n is not None]
        driven = min([steps, *limits]) if not self.settle else min(limits or [steps])
        bound = network.settling_bound
        extra = bound if bound is not None else len(network.spiking) * driven
        least = max(steps, driven)
        return driven, least, max(least, driven + extra) if self.settle else least

    def _program(self, constant: bool, driven: int, limit: int):
        key = (constant, driven, limit)
        if key not in self._programs:
            bounds = self.network.bounds(limit, driven)
            reason = why_not_fused(self.network, bounds, not constant)
            if reason:
                raise UnsupportedError(f"prepare: {reason}; use simulate")
            chunk = min(LONGEST_CHUNK, limit if limit > driven else driven)
            program = _Program(self.network, bounds, constant, driven, chunk)
            self._programs[key] = (program, *program.finish())
        return key, self._programs[key]

    def _new_buffers(self, program: _Program, block: int) -> list[np.ndarray]:
        """What one thread holds for `block` samples: spikes, v, counts, charge, events, offsets, and scratch."""
        kernel_rows = max((fields.get("KERNEL_Y", 1) for fields in program.table), default=1)
        return [
            np.zeros((block, program.spikes + 64), np.int8),
            np.zeros((block, program.states + WIDTH), np.int32),
            np.zeros((block, program.states + WIDTH), np.int16),
            np.zeros((block, program.charge + WIDTH), np.int32),
            np.empty((block, program.events), np.uint32),
            np.zeros((block, program.offsets), np.int32),
            np.zeros(3 * kernel_rows + 3, np.int64),
            np.zeros(3, np.int64),
            np.zeros(8 * WIDTH, np.int16),
            np.zeros(max(program.widest, 8 * WIDTH), np.int32),
            np.empty(program.current_inputs, np.int32),
            np.empty(program.current_inputs, np.int32),
            np.zeros(program.widest, np.int32),
            np.empty(program.loose, np.int32),
        ]

    def buffers(self) -> dict[str, int]:
        """Bytes of every buffer that a thread holds, by name, for the programs used so far (largest of each)."""
        names = ("spikes", "membranes", "counts", "charge", "events", "offsets", "ranges", "part", "sums", "wide sums",
                 "input indices", "input values", "no bias", "input charge")  # fmt: skip
        found: dict[str, int] = {}
        for sets in self._buffers.values():
            for arrays in sets:
                for name, array in zip(names, arrays, strict=True):
                    found[name] = max(found.get(name, 0), array.nbytes)
        return found

    def __call__(self, inputs, *, time_axis: int | None = None) -> Outcome:
        """Outputs of `inputs` (as in `simulate`), the same bits for any number of threads."""
        from .kernels.fused import run_samples

        network = self.network
        source = Source(self._input, inputs, time_axis)
        driven, least, limit = self._lengths(source)
        key, (program, table, rows, numbers) = self._program(source.constant, driven, limit)
        samples = source.samples
        shape = self._output_shape
        totals = np.empty((samples, math.prod(shape)), np.int64)
        extra = np.empty(samples, np.int64)
        settled = np.empty(samples, np.bool_)
        codes, frames, area, input_offset = self._inputs(source, program)

        def work(buffers, start, stop):
            run_samples(
                start, stop, table, codes, frames, area, input_offset, source.constant, driven, least, limit,
                self.settle, program.chunk, driven, rows, numbers, *buffers[:10], *buffers[10:12], buffers[12],
                buffers[13], totals, extra, settled,
            )  # fmt: skip

        block = min(program.block, max(1, samples))
        held = self._take(key, program, block, min(self.threads, max(1, samples // 2)))
        try:
            if len(held) == 1:
                work(held[0], 0, samples)
            else:
                self._share(work, held, samples, block)
        finally:
            with self._lock:
                self._buffers[(*key, block)].extend(held)
        outputs = totals
        if len(shape) == 3:
            outputs = np.ascontiguousarray(to_api(totals, shape).reshape(samples, -1))
        done = bool(settled.all()) if self.settle else None
        return Outcome(network, outputs, extra, done)

    def _take(self, key, program: _Program, block: int, count: int) -> list[list[np.ndarray]]:
        with self._lock:
            free = self._buffers.setdefault((*key, block), [])
            taken = [free.pop() if free else self._new_buffers(program, block) for _ in range(count)]
        return taken

    def _share(self, work, held, samples: int, block: int) -> None:
        """Threads take a block or a few samples at a time: a slow core gets fewer of them."""
        grain = max(GRAIN, block)
        spans = itertools.count(0, grain)
        failures: list[BaseException] = []

        def loop(buffers):
            try:
                while not failures:
                    start = next(spans)
                    if start >= samples:
                        return
                    work(buffers, start, min(start + grain, samples))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=loop, args=(buffers,)) for buffers in held[1:]]
        for thread in threads:
            thread.start()
        loop(held[0])
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def _inputs(self, source: Source, program: _Program):
        """Codes of constant inputs (B, 1, H * W * C) int32, or frames (T, B, C * H * W) int8; pixels; where they go."""
        if source.constant:
            return source.block(0, source.samples, np.int32), NO_FRAMES, 1, 0
        layer = source.layer
        raw = source.raw(0, source.samples)
        if layer.multiplier != 1 or layer.offset != 0:
            raw = raw.astype(np.int64) * layer.multiplier + layer.offset
        if raw.dtype != np.int8:
            # the format is checked, and its bound was checked to be small: no value is lost
            raw = raw.view(np.int8) if raw.dtype.itemsize == 1 else raw.astype(np.int8)
        area = math.prod(layer.shape[1:]) if len(layer.shape) == 3 else 1
        return NO_CODES, np.ascontiguousarray(raw), area, program.input_slot


def prepare(network, *, steps: int | None = None, settle: bool = False, threads: int = 1) -> Runner:
    """Prepare `network` for many fast runs.

    Parameters
    ----------
    steps, settle, threads
        As in `simulate`.

    Returns
    -------
    Runner
        Call it with inputs. Raises `UnsupportedError` with the reason where the network has no fused form.
    """
    return Runner(network, steps, settle, threads)
