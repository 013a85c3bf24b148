"""How each primitive runs step by step: its buffers, its states, and the kernel that does it.

`BINDINGS` has one operation for every primitive; none is refused here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ....layers import primitives as P
from ....layers.base import fits
from ....layers.schedule import bias_schedule
from ...program import Instruction
from ...state import Kept

if TYPE_CHECKING:
    from .plan import Plan, Worker

from .binding import Binding, narrow_ints
from .firing import FireBinding, LevelBinding

__all__ = ["BINDINGS", "ConnectBinding"]

MOST_SCHEDULED = 1 << 20  # biases of all steps are made once where they are not more than this


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


class CopyBinding(Binding):
    """Values are moved, none is computed: every backend does the same."""

    primitive: P.Copy

    def __init__(self, plan: Plan, instruction: Instruction) -> None:
        super().__init__(plan, instruction)
        shapes = [plan.program.values[source].shape for source in self.sources]
        begins = np.cumsum([0, *map(math.prod, shapes)])
        lying = [begin + np.argsort(_fastest_last(shape)) for begin, shape in zip(begins, shapes, strict=False)]
        here, there = _fastest_last(self.shape), np.concatenate(lying)
        places = self.primitive.places.reshape(-1)[here]
        self.zeros = places < 0
        self.places = np.where(self.zeros, 0, there[places])
        whole = len(shapes) == 1 and np.array_equal(self.places, np.arange(begins[-1]))
        self.alias = self.name in plan.aliases or whole

    def choose_dtype(self) -> Any:
        return np.result_type(*(self.plan.dtypes[source] for source in self.sources))

    def run(self, worker: Worker) -> np.ndarray:
        x = worker.values[self.source]
        if self.alias:
            return x
        if len(self.sources) > 1:
            parts = [worker.values[source] for source in self.sources]
            steps = max(part.shape[1] for part in parts)  # one that never changes comes once
            parts = [np.broadcast_to(part, (len(part), steps, part.shape[2])) for part in parts]
            x = np.concatenate(parts, axis=2, dtype=self.dtype)
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
