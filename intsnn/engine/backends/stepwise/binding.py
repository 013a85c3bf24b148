"""What an operation of the stepwise backend is: its values and types, its states, and what of them outlives a step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from ....layers import primitives as P
from ...program import Instruction, Program
from ...result import to_api
from ...state import Kept, State, checked

if TYPE_CHECKING:
    from .plan import Plan, Worker

__all__ = ["Binding", "forgets_order", "narrow_ints", "sum_dtype"]


def forgets_order(program: Program) -> dict[str, str]:
    """Flattened maps that only dense connections read, and the maps: the weights are reordered instead."""
    found = {}
    for instruction in program.instructions:
        if not isinstance(instruction.primitive, P.Copy) or instruction.name in program.network.outputs:
            continue
        if len(instruction.inputs) != 1:
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
