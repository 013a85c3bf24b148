"""How each primitive runs step by step: its buffers, its states, and the kernel that does it.

`BINDINGS` has one operation for every primitive; none is refused here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from ....layers import primitives as P
from ....layers.base import fits
from ....layers.schedule import bias_schedule
from ...program import Instruction, Program
from ...result import to_api
from ...state import Kept, State, checked
from .neuron_constants import neuron_parameters
from .neuron_width import Narrow, narrowest

if TYPE_CHECKING:
    from .plan import Plan, Worker

__all__ = ["BINDINGS", "ConnectBinding", "FireBinding", "Binding", "forgets_order"]

MOST_SCHEDULED = 1 << 20  # biases of all steps are made once where they are not more than this


def forgets_order(program: Program) -> dict[str, str]:
    """Flattened maps that only dense connections read, and the maps: the weights are reordered instead."""
    found = {}
    for instruction in program.instructions:
        if not isinstance(instruction.primitive, P.Copy) or instruction.name in program.network.outputs:
            continue
        (source,) = instruction.inputs
        shape, readers = program.values[source].shape, program.readers(instruction.name)
        flat = len(shape) == 3 and len(instruction.output.shape) == 1
        dense = all(isinstance(r.primitive, P.Connect) and r.primitive.window.height == 1 for r in readers)
        if flat and dense and np.array_equal(instruction.primitive.places, np.arange(math.prod(shape))):
            found[instruction.name] = source
    return found


def sum_dtype(plan: Plan, instruction: Instruction):
    """int32 where the range proves it, else int64; Python integers for the reference.

    int16 for what only neurons read, where the range proves that: few other kernels have to be compiled for it.
    """
    if plan.reference:
        return object
    program, name, primitive = plan.program, instruction.name, instruction.primitive
    readers = program.readers(name)
    if isinstance(primitive, P.Connect) and readers and not plan.totals and program.holds(name, 16):
        narrow = np.abs(primitive.multiplier).max(initial=0) < 1 << 15
        if narrow and all(isinstance(reader.primitive, P.Fire) for reader in readers):
            return np.int16
    return np.int32 if program.holds(name, 32) else np.int64


def narrow_ints(array: np.ndarray) -> np.ndarray:
    """`array` in the narrowest of int8, int32, int64 (few types: every one is compiled once)."""
    for dtype in (np.int8, np.int32):
        info = np.iinfo(dtype)
        if array.size == 0 or (array.min() >= info.min and array.max() <= info.max):
            return np.ascontiguousarray(array, dtype=dtype)
    return np.ascontiguousarray(array, dtype=np.int64)


class Binding(ABC):
    """One instruction: `begin` makes its state for a block, `run` its values for a chunk."""

    def __init__(self, plan: Plan, instruction: Instruction) -> None:
        self.plan, self.instruction = plan, instruction
        self.name, self.node, self.primitive = instruction.name, instruction.node, instruction.primitive
        self.shape = instruction.output.shape
        self.size = plan.sizes[self.name]
        self.sources = instruction.inputs
        self.dtype = self.choose_dtype()

    @property
    def source(self) -> str:
        """Name of the only value that is read."""
        return self.sources[0]

    def choose_dtype(self) -> Any:
        """Type of its values."""
        return sum_dtype(self.plan, self.instruction)

    def begin(self, worker: Worker) -> dict[str, np.ndarray]:
        """States of a block, as they are before the first step."""
        return {}

    def outlives(self) -> dict[str, Kept]:
        """What of its states outlives a step, by quantity."""
        return {}

    def restore(self, worker: Worker, state: State, rows: slice) -> None:
        """Set the states to those of another run, of which these are the samples `rows`."""
        for what, kept in self.outlives().items():
            name, array = f"{self.name}.{what}", worker.states[self.name][what]
            if array.size:
                array.reshape(worker.samples, -1)[...] = checked(name, kept, state.arrays[name][rows])

    def left(self, worker: Worker) -> dict[str, np.ndarray]:
        """What outlives the latest step, ``(B, *shape)`` int64 by ``"layer.quantity"``."""
        found = {}
        for what, kept in self.outlives().items():
            flat = worker.states[self.name][what].reshape(worker.samples, -1).astype(np.int64)
            found[f"{self.name}.{what}"] = to_api(flat, kept.shape).copy()
        return found

    @abstractmethod
    def run(self, worker: Worker) -> np.ndarray:
        """Values of the chunk ``(B, T, elements)``; T may be 1 where they are the same in all steps."""

    def out(self, worker: Worker, steps: int) -> np.ndarray:
        """The buffer of its values."""
        return worker.buffer(self.name, "out", (worker.samples, steps, self.size), self.dtype)


class FeedBinding(Binding):
    """Codes in driven steps, then silence; of totals, the sum of what all driven steps bring."""

    def run(self, worker: Worker) -> np.ndarray:
        codes, driven, constant = worker.codes[self.name], worker.driven_steps, worker.constant[self.name]
        if self.plan.totals:
            most = self.plan.schedule.driven
            return codes * most if constant else codes[:, :most].sum(1, keepdims=True)
        if constant and driven == worker.steps:
            return codes
        if driven == 0:
            return worker.buffer(self.name, "silence", (worker.samples, 1, codes.shape[2]), self.dtype)
        frame = worker.start - worker.began  # a run that goes on brings its own frames
        if not constant and driven == worker.steps:
            return np.ascontiguousarray(codes[:, frame : frame + driven])
        mixed = np.zeros((worker.samples, worker.steps, codes.shape[2]), self.dtype)
        mixed[:, :driven] = codes if constant else codes[:, frame : frame + driven]
        return mixed


class ConnectBinding(Binding):
    """Weights times what comes in, and the bias of the step."""

    primitive: P.Connect

    def __init__(self, plan: Plan, instruction: Instruction) -> None:
        super().__init__(plan, instruction)
        connect = self.primitive
        weight, self.window = connect.weight, connect.window
        outputs, per_group, kh, kw = weight.shape
        if self.source in plan.aliases:  # columns from C, H, W to H, W, C order
            channels, *area = plan.program.values[plan.aliases[self.source]].shape
            weight = weight.reshape(outputs, channels, math.prod(area)).swapaxes(1, 2).reshape(weight.shape)
        groups = self.window.groups
        packed = weight.reshape(groups, outputs // groups, per_group, kh, kw).transpose(3, 4, 0, 2, 1)
        packed = packed.reshape(kh, kw, groups * per_group, outputs // groups)
        if self.dtype == np.int32 and np.abs(connect.multiplier).max(initial=0) >= 1 << 31:
            self.dtype = np.int64
        self.weight = packed.astype(object) if plan.reference else narrow_ints(packed)
        self.multiplier = np.ascontiguousarray(np.broadcast_to(connect.multiplier, (outputs,)), dtype=self.dtype)
        self.no_bias = np.zeros((1, outputs), self.dtype)
        self.recurrent = plan.program.comes_back(instruction)
        self.schedule: np.ndarray | None = None
        if connect.bias is not None and outputs * plan.schedule.driven <= MOST_SCHEDULED:
            self.schedule = self._biases(0, plan.schedule.driven)

    def begin(self, worker: Worker) -> dict[str, np.ndarray]:
        if not self.primitive.delay:
            return {}
        source_type = object if self.plan.reference else self.plan.dtypes.get(self.source, np.int8)
        line = worker.buffer(self.name, "delay line", (worker.samples, 1, self.plan.sizes[self.source]), source_type)
        line[...] = 0
        return {"line": line}

    def outlives(self) -> dict[str, Kept]:
        if not self.primitive.delay:
            return {}
        source = self.plan.program.values[self.source]
        bound = source.bound.with_zero()
        return {"line": Kept(source.shape, bound.low, bound.high)}

    def keep(self, worker: Worker) -> None:
        """What comes back is seen in the next step."""
        if self.recurrent:
            worker.states[self.name]["line"][...] = worker.values[self.source][:, -1:]

    def _delayed(self, worker: Worker) -> np.ndarray:
        """The input one step later: what the source sent before this chunk, then all but its last step."""
        line = worker.states[self.name]["line"]
        if self.recurrent:
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
        if self.primitive.bias is None or not worker.driven_steps:
            return self.no_bias
        start, driven = worker.start, worker.driven_steps
        if self.schedule is not None and driven == worker.steps:
            return self.schedule[start : start + driven]
        rows = self._biases(start, worker.steps)
        rows[driven:] = 0
        return rows

    def _biases(self, start: int, steps: int) -> np.ndarray:
        connect = self.primitive
        assert connect.bias is not None
        rows = bias_schedule(connect.bias, connect.bias_mode, self.plan.schedule.drive, start, steps)
        return rows if self.plan.reference else rows.astype(self.dtype)

    def run(self, worker: Worker) -> np.ndarray:
        x = self._delayed(worker) if self.primitive.delay else worker.values[self.source]
        window = self.window
        out = self.out(worker, worker.steps)
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


class FireBinding(Binding):
    """Spiking neurons, in the narrowest kernel that is proven to do."""

    primitive: P.Fire

    def __init__(self, plan: Plan, instruction: Instruction) -> None:
        super().__init__(plan, instruction)
        self.layer = layer = self.primitive.neuron
        self.channels = self.shape[0]
        self.parameters = neuron_parameters(layer, plan.seed, plan.layers[self.node])
        self.counts = plan.counts or self.name in plan.network.outputs
        self.narrow = self._narrow()
        self.state_type: type
        self.count_type: type
        self.pending_type: type
        if self.narrow is None:
            self.state_type = object if plan.reference else np.int64
            counts = plan.bounds[self.name]
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

    def choose_dtype(self) -> Any:
        return object if self.plan.reference else np.int8

    def _narrow(self) -> Narrow | None:
        """The vector kernel of this layer, if it has one."""
        plan = self.plan
        if plan.reference:
            return None
        from ....kernels.toolchain.tier import tier

        if tier() == "portable":
            return None
        return narrowest(
            self.layer, plan.program.values[self.source].bound, plan.bounds[self.name], plan.dtypes[self.source],
            plan.schedule.limit, self.shape, self.counts,
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

    def outlives(self) -> dict[str, Kept]:
        layer, bound = self.layer, self.instruction.output.bound
        reach = {} if self.narrow is None else self.narrow.reach
        ends: dict[str, tuple[Any, Any]] = {"v": (layer.v_format.min, layer.v_format.max)}
        least, most = ends["v"]
        if bound.v_low is not None and bound.v_high is not None and layer.acc_format is None:
            if least <= int(bound.v_low.min()) and int(bound.v_high.max()) <= most:  # proven: it never overflows
                ends["v"] = bound.v_low, bound.v_high
        found = {}
        if layer.u_format is not None:
            ends["u"] = layer.u_range or (layer.u_format.min, layer.u_format.max)
        for what, (low, high) in ends.items():
            least, most = reach.get(what, (low, high))
            found[what] = Kept(self.shape, np.maximum(low, least), np.minimum(high, most))
        found["count"] = Kept(self.shape, bound.total_low, bound.total_high)
        if layer.reset_delay:
            found["pending"] = Kept(self.shape, bound.low, bound.high)
        if layer.refractory.kind == "counter":
            found["refractory"] = Kept(self.shape, 0, layer.refractory.steps)
        elif layer.refractory.kind == "trace":
            found["refractory"] = Kept(self.shape, layer.refractory.format.min, layer.refractory.format.max)
        return found

    def run(self, worker: Worker) -> np.ndarray:
        current, state = worker.values[self.source], worker.states[self.name]
        steps = worker.steps
        out = self.out(worker, steps)
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


class LevelBinding(Binding):
    """The neuron of the integer ANN: level of the total charge."""

    primitive: P.Level

    def __init__(self, plan: Plan, instruction: Instruction) -> None:
        super().__init__(plan, instruction)
        channels = self.shape[0]
        self.v_initial = np.ascontiguousarray(np.broadcast_to(self.primitive.v_initial, (channels,)))
        self.threshold = np.ascontiguousarray(np.broadcast_to(self.primitive.threshold, (channels,)))

    def choose_dtype(self) -> Any:
        return np.int32

    def run(self, worker: Worker) -> np.ndarray:
        out, top = self.out(worker, 1), self.primitive.top
        self.plan.neuron.levels(worker.values[self.source], self.v_initial, self.threshold, top, worker.alive, out)
        return out


class CopyBinding(Binding):
    """Values are moved, none is computed: every backend does the same."""

    primitive: P.Copy

    def __init__(self, plan: Plan, instruction: Instruction) -> None:
        super().__init__(plan, instruction)
        source = plan.program.values[self.source].shape
        here, there = _fastest_last(self.shape), np.argsort(_fastest_last(source))
        places = self.primitive.places.reshape(-1)[here]
        self.zeros = places < 0
        self.places = np.where(self.zeros, 0, there[places])
        self.alias = self.name in plan.aliases or np.array_equal(self.places, np.arange(math.prod(source)))

    def choose_dtype(self) -> Any:
        return self.plan.dtypes[self.source]

    def run(self, worker: Worker) -> np.ndarray:
        x = worker.values[self.source]
        if self.alias:
            return x
        out = self.out(worker, x.shape[1])
        np.take(x, self.places, axis=2, out=out, mode="clip")
        out[:, :, self.zeros] = 0
        return out


def _fastest_last(shape: tuple[int, ...]) -> np.ndarray:
    """Index in API order (C, H, W) of each value as it lies, channel fastest."""
    order = np.arange(math.prod(shape)).reshape(shape)
    return (np.moveaxis(order, 0, -1) if len(shape) == 3 else order).reshape(-1)


class ReduceBinding(Binding):
    """Sums over windows, or the step difference of the maximum of totals."""

    primitive: P.Reduce

    def __init__(self, plan: Plan, instruction: Instruction) -> None:
        super().__init__(plan, instruction)
        self.window, self.inputs = self.primitive.window, plan.sizes[self.source]
        self.largest = self.primitive.kind == "max"

    def choose_dtype(self) -> Any:
        return self.plan.dtypes[self.source] if self.primitive.kind == "max" else super().choose_dtype()

    def begin(self, worker: Worker) -> dict[str, np.ndarray]:
        if not self.largest:
            return {}
        bound = self.instruction.output.bound
        narrow = self.dtype != np.int64 and fits(bound.total_low, bound.total_high, 32)
        dtype = object if self.plan.reference else np.int32 if narrow else np.int64
        count = worker.buffer(self.name, "count", (worker.samples, self.inputs), dtype)
        best = worker.buffer(self.name, "best", (worker.samples, self.size), dtype)
        count[...] = 0
        best[...] = 0
        return {"inputs": count, "count": best}

    def outlives(self) -> dict[str, Kept]:
        if not self.largest:
            return {}
        bound, source = self.instruction.output.bound, self.plan.program.values[self.source].shape
        found = {"inputs": Kept(source, bound.total_low, bound.total_high)}
        return found | {"count": Kept(self.shape, bound.total_low, bound.total_high)}

    def run(self, worker: Worker) -> np.ndarray:
        x = worker.values[self.source]
        linear = self.plan.linear
        if self.largest:
            out, state = self.out(worker, worker.steps), worker.states[self.name]
            linear.max_pool(x, self.window, worker.alive, state["inputs"], state["count"], out)
        else:
            out = self.out(worker, x.shape[1])
            linear.sum_pool(x, self.window, worker.alive, out)
        return out


class DivideBinding(Binding):
    """The quotient of each step, rounded, where the sum lies: nobody else reads that."""

    primitive: P.Divide

    def choose_dtype(self) -> Any:
        return self.plan.dtypes[self.source]

    def run(self, worker: Worker) -> np.ndarray:
        x = worker.values[self.source]
        self.plan.linear.divide(x, self.primitive.divisor, int(self.primitive.rounding), worker.alive, x)
        return x


class TimesBinding(Binding):
    """A factor for each channel."""

    primitive: P.Times

    def __init__(self, plan: Plan, instruction: Instruction) -> None:
        super().__init__(plan, instruction)
        factor = np.broadcast_to(self.primitive.factor, (self.shape[0],))
        self.factor = np.ascontiguousarray(factor, dtype=self.dtype)

    def run(self, worker: Worker) -> np.ndarray:
        x = worker.values[self.source]
        out = self.out(worker, x.shape[1])
        self.plan.linear.scale(x, self.factor, worker.alive, out)
        return out


class SumBinding(Binding):
    """The sum of all inputs, one after the other."""

    def run(self, worker: Worker) -> np.ndarray:
        total = worker.values[self.sources[0]]
        for source in self.sources[1:]:
            other = worker.values[source]
            out = self.out(worker, max(total.shape[1], other.shape[1]))
            self.plan.linear.add(total, other, worker.alive, out)
            total = out
        return total


class TotalBinding(Binding):
    """Running totals of what comes in, or when it came first; its values are those of its input."""

    def choose_dtype(self) -> Any:
        return object if self.plan.reference else np.int64

    def begin(self, worker: Worker) -> dict[str, np.ndarray]:
        total = worker.buffer(self.name, "total", (worker.samples, self.size), self.dtype)
        total[...] = -1 if isinstance(self.primitive, P.FirstSpike) else 0
        return {"total": total}

    def outlives(self) -> dict[str, Kept]:
        bound, last = self.instruction.output.bound, self.plan.schedule.limit - 1
        if isinstance(self.primitive, P.FirstSpike):
            return {"total": Kept(self.shape, -1, last)}
        return {"total": Kept(self.shape, bound.total_low, bound.total_high)}

    def run(self, worker: Worker) -> np.ndarray:
        x, total = worker.values[self.source], worker.states[self.name]["total"]
        linear = self.plan.linear
        if isinstance(self.primitive, P.FirstSpike):
            linear.first_spike(x, worker.steps, worker.start, worker.alive, total)
        else:
            linear.accumulate(x, worker.steps, worker.alive, total)
        return x


BINDINGS: dict[type[P.Primitive], type[Binding]] = {
    P.Feed: FeedBinding,
    P.Connect: ConnectBinding,
    P.Fire: FireBinding,
    P.Level: LevelBinding,
    P.Reduce: ReduceBinding,
    P.Divide: DivideBinding,
    P.Copy: CopyBinding,
    P.Times: TimesBinding,
    P.Sum: SumBinding,
    P.Accumulate: TotalBinding,
    P.FirstSpike: TotalBinding,
}
