"""A network as primitives in order, with the proven range of every value: what every backend starts from.

`lower` makes it of the layers' own answers (`Layer.lower`); nothing here or behind it asks for the class of a layer. A
`Schedule` of totals makes the program of the integer ANN: the same weights and thresholds on whole charges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..layers.base import Bound, Shape, Value, fits
from ..layers.primitives import Primitive
from ..layers.schedule import Schedule
from ..network.bounds import analyse, check_totals
from ..network.spiking import Network

__all__ = ["Instruction", "Program", "Value", "lower"]


@dataclass(frozen=True, eq=False)
class Instruction:
    """One primitive: the node that it belongs to, the names of the values it reads, and the value it makes."""

    node: str
    primitive: Primitive
    inputs: tuple[str, ...]
    output: Value

    @property
    def name(self) -> str:
        """Name of its output."""
        return self.output.name


KEPT = 4  # programs of a network: the integer ANN, driven, settled, and one more


class _Builder:
    """Makes the instructions of one node."""

    def __init__(self, program: Program, node: str, shape: Shape, bound: Bound) -> None:
        self.program, self.node, self.shape, self.bound = program, node, shape, bound

    def __call__(self, primitive: Primitive, *inputs: Value, part: str = "", bound: Bound | None = None) -> Value:
        # no node has a name with a NUL in it
        made = (
            Value(f"{self.node}\0{part}", self.shape, bound or self.bound) if part else self.program.values[self.node]
        )
        self.program.values[made.name] = made
        self.program.instructions.append(Instruction(self.node, primitive, tuple(v.name for v in inputs), made))
        return made


class Program:
    """What is computed, in order.

    Attributes
    ----------
    network : Network
        Where it comes from: names, shapes, metadata.
    schedule : Schedule
    bounds : dict of name to Bound
        Of every node, proven for the schedule.
    instructions : list of Instruction
        A value is made before it is read, but for what comes back by a connection with a delay.
    values : dict of name to Value
        The last value of a node has its name.
    """

    def __init__(self, network: Network, schedule: Schedule) -> None:
        self.network, self.schedule = network, schedule
        self.bounds = analyse(network, schedule)
        check_totals(network, self.bounds, schedule)
        self.values: dict[str, Value] = {
            name: Value(name, network.shapes[name], self.bounds[name]) for name in network.order
        }
        self.instructions: list[Instruction] = []
        for name in network.order:
            build = _Builder(self, name, network.shapes[name], self.bounds[name])
            sources = [self.values[source] for source in network.inputs_of(name)]
            network.nodes[name].lower(build, sources, schedule)
        self.position = {instruction.name: i for i, instruction in enumerate(self.instructions)}
        self._readers: dict[str, list[Instruction]] = {name: [] for name in self.values}
        for instruction in self.instructions:
            for source in instruction.inputs:
                self._readers[source].append(instruction)

    @property
    def recurrent(self) -> bool:
        """Whether a value is read before it is made."""
        return self.network.recurrent

    def __getitem__(self, name: str) -> Instruction:
        """The instruction that makes the value `name`."""
        return self.instructions[self.position[name]]

    def readers(self, name: str) -> Sequence[Instruction]:
        """Instructions that read the value `name`."""
        return self._readers[name]

    def comes_back(self, instruction: Instruction) -> bool:
        """Whether its input is made later in a step: it sees that of the step before."""
        here = self.position[instruction.name]
        return any(self.position[source] >= here for source in instruction.inputs)

    def size(self, name: str) -> int:
        """Elements of a value, for one sample."""
        return math.prod(self.values[name].shape)

    def range(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest integers of a value, per channel: of a step, or of totals if there are no steps."""
        bound = self.values[name].bound
        return (bound.total_low, bound.total_high) if self.schedule.totals else (bound.low, bound.high)

    def holds(self, name: str, bits: int) -> bool:
        """Whether a value is proven to fit `bits` signed."""
        return fits(*self.range(name), bits)


def lower(network: Network, schedule: Schedule) -> Program:
    """The program of a run of `network` by `schedule`; the last `KEPT` of a network are kept with it.

    Networks never change, and bounds of all weights take longer than many a run.

    Raises
    ------
    RangeError
        If a running total could need more than 63 bits, naming the layer.
    """
    kept: dict[Schedule, Program] = network.lowered
    program = kept.pop(schedule, None) or Program(network, schedule)
    kept[schedule] = program  # the last one used stands last
    for oldest in list(kept)[:-KEPT]:
        kept.pop(oldest, None)
    return program
