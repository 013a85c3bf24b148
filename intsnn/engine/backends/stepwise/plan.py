"""A program run step by step: one operation for each instruction, over blocks of samples and chunks of steps.

A `Plan` fixes everything that does not change (packed weights, types from the proven ranges, which neuron kernel); a
`Worker` holds the buffers and states of one block. The three backends on it are the same plan with other chunks or
other kernels:

* ``layer``: all driven steps of a layer in one call (feed-forward networks);
* ``step``: one step of every layer at a time;
* ``reference``: the plain Python kernels on unbounded integers, one step at a time.

A program of totals, which has no steps, is one step here. Values lie as ``(B, T, H * W * C)``, channel fastest.
"""

from __future__ import annotations

from types import ModuleType
from typing import cast

import numpy as np

from ....formats.fixed import Overflow
from ....kernels.toolchain.arrays import zeros
from ...program import Program
from .binding import Binding, forgets_order
from .bindings import BINDINGS, ConnectBinding
from .firing import FireBinding

__all__ = ["PATHS", "Plan", "Worker"]

PATHS = ("layer", "step", "reference")
STEPS_PER_CALL = 16  # longest chunk of the layer path: bounds the buffers, not the run


def absorbing(network) -> bool:
    """Whether a quiet undriven step is followed by quiet steps only (no state moves without spikes or input)."""
    return all(
        not layer.leaks and not np.any(layer.bias) and layer.reset != "none" and layer.v_overflow != Overflow.WRAP
        for layer in (network.nodes[name] for name in network.neurons)
    )


class Plan:
    """What a run of `program` needs.

    `path` is one of `PATHS`; `counts`: whether the net counts of all neurons are asked for.
    """

    def __init__(self, program: Program, path: str, seed: int = 0, counts: bool = True) -> None:
        self.program, self.path, self.counts, self.seed = program, path, counts, seed
        self.network, self.schedule, self.bounds = program.network, program.schedule, program.bounds
        self.reference, self.totals = path == "reference", program.schedule.totals
        self.linear: ModuleType
        self.neuron: ModuleType
        if self.reference:
            from ....kernels.layers import reference as plain_linear
            from ....kernels.neurons import reference as plain_neuron

            self.linear, self.neuron = plain_linear, plain_neuron
        else:
            from ....kernels.layers import compiled as linear
            from ....kernels.neurons import compiled as neuron

            self.linear, self.neuron = linear, neuron
        self.absorbing = absorbing(self.network)
        self.layers = {name: i for i, name in enumerate(self.network.order)}  # the key of random bits, too
        self.sizes = {name: program.size(name) for name in program.values}
        self.aliases = forgets_order(program)
        self.dtypes: dict[str, type] = {}
        self.operations: list[Binding] = []
        for instruction in program.instructions:
            operation = BINDINGS[type(instruction.primitive)](self, instruction)
            self.dtypes[instruction.name] = operation.dtype
            self.operations.append(operation)
        neurons = [self.network.nodes[name] for name in self.network.neurons]
        self.restarts = {(layer.restart_every, layer.restart_phase) for layer in neurons if layer.restart_every}
        self.by_name = {operation.name: operation for operation in self.operations}
        self.delayed = [op for op in self.operations if isinstance(op, ConnectBinding) and op.primitive.delay]

    def neuron_operation(self, name: str) -> FireBinding:
        """The operation of a layer of neurons."""
        return cast(FireBinding, self.by_name[name])

    def bytes_per_sample(self) -> int:
        """Largest buffer of one sample in one chunk."""
        steps = 1 if self.path != "layer" else min(self.schedule.driven, STEPS_PER_CALL)
        return max(size * steps * 4 for size in self.sizes.values())

    def chunks(self, start: int, limit: int, driven: bool) -> int:
        """How many steps to do next, from `start`, at most up to `limit`."""
        longest = STEPS_PER_CALL if self.path == "layer" else 1
        if not driven and not self.absorbing:
            longest = 1
        elif not driven:
            longest = min(longest, 4)
        longest = min(longest, limit - start)
        for every, phase in self.restarts:  # a chunk ends where neurons begin anew
            longest = min(longest, every - (start - phase) % every)
        return longest


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
            found = self._buffers[key] = zeros(shape, dtype)
        return found

    def begin(self, sources, start: int, stop: int, state=None) -> None:
        """Load the samples ``start..stop`` of each source and reset every state, or set it to that of another run.

        Parameters
        ----------
        sources : mapping of name to Source
            Of every input.
        state : State, optional
            Of all samples.
        """
        plan = self.plan
        self.first_sample, self.samples = start, stop - start
        self.codes = {name: source.block(start, stop, plan.dtypes[name]) for name, source in sources.items()}
        self.constant = {name: source.constant for name, source in sources.items()}
        self.began = 0 if state is None else state.step
        self.alive = np.ones(self.samples, np.uint8)
        self.values.clear()
        for operation in plan.operations:
            self.states[operation.name] = operation.begin(self)
            if state is not None:
                operation.restore(self, state, slice(start, stop))

    def advance(self, start: int, steps: int) -> None:
        """Run every operation over the steps ``start..start + steps``; results are in `values`."""
        self.start, self.steps = start, steps
        self.driven_steps = max(0, min(self.plan.schedule.driven - start, steps))
        for operation in self.plan.operations:
            self.values[operation.name] = operation.run(self)
        for operation in self.plan.delayed:
            operation.keep(self)

    def on_the_way(self) -> np.ndarray:
        """Samples of which something still waits in front of a delayed connection, ``(B,)`` bool."""
        waiting = np.zeros(self.samples, bool)
        for operation in self.plan.delayed:
            if not operation.recurrent:
                waiting |= (self.states[operation.name]["line"] != 0).any(axis=(1, 2))
        return waiting
