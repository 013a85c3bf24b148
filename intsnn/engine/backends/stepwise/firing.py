"""Spiking neurons step by step, and their levels in the integer ANN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ....layers import primitives as P
from ....layers.base import fits
from ...program import Instruction
from ...state import Kept
from .neuron_constants import neuron_channels, neuron_parameters
from .neuron_width import Narrow, narrowest

if TYPE_CHECKING:
    from .plan import Plan, Worker

from .binding import Binding

__all__ = ["FireBinding", "LevelBinding"]


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

        dtype = object if plan.reference else np.int64
        self.each = neuron_channels(layer, self.channels, dtype)
        self.v_initial = np.ascontiguousarray(np.broadcast_to(layer.v_initial, (self.channels,)), dtype)

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
        if self.layer.restarts(worker.start):
            for what in ("u", "pending", "refractory"):
                state[what][...] = 0
            state["v"].reshape(worker.samples, -1, self.channels)[...] = self.v_initial
        steps = worker.steps
        out = self.out(worker, steps)
        kept = worker.records.get(self.name, ())

        def record(what):
            shape = (worker.samples, steps if what in kept else 0, self.size)
            return worker.buffer(self.name, f"{what} record", shape, self.state_type)

        arguments = (
            current, worker.driven_steps, worker.start, worker.first_sample, self.parameters, self.each, worker.alive,
            state["u"], state["v"], state["count"], state["pending"], state["refractory"], out, record("u"),
            record("v"), state["counters"], state["first"],
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
        out, ends = self.out(worker, 1), (self.primitive.bottom, self.primitive.top)
        self.plan.neuron.levels(worker.values[self.source], self.v_initial, self.threshold, ends, worker.alive, out)
        return out
