"""A program as a table of operations with flat constants: what `intsnn.kernels.fused.interpreter` interprets.

`Table` lays it out: operations in order, and what they need. Which form a value has and which kernel makes it says
`forms`; how connections are written, `connections`; where everything lies, `layout`; what has no such table, `accepts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ....kernels.fused.opcodes import Constants, Kind, Operation
from ....layers import primitives as P
from ....layers.base import fits
from ...program import Instruction, Program
from .connections import Connections
from .firing import general_neuron
from .forms import Forms, connection, covers, is_plain
from .layout import Layout, TableRow, Wishes
from .maps import SUMS, Maps
from .store import Store

__all__ = ["Table"]

ALONE = P.Feed | P.Reduce | P.Copy | P.Divide  # operations that write their values, and add them to no others
SETTLING = 4  # steps of a pass behind the drive, where rest is for ever


def _is_wide(layer, bound, charge) -> bool:
    """Whether a neuron needs more than 32 bits for a number of its own or for the charge of a step."""
    own = map(np.asarray, (layer.threshold, layer.v_negative, layer.v_initial))
    return not all(fits(number, number, 32) for number in (*own, bound.v_low, bound.v_high, charge.low, charge.high))


class Table:
    """Table of operations and the flat constants for one program and one kind of input.

    Bytes are made in the order of the program. All else is written when something reads it: `_writers` says by what.

    Parameters
    ----------
    program : Program
    constant : bool
        Whether the input is a constant code, else frames.
    chunk : int
        Steps of one pass.
    kept : bool
        Whether states outlive a pass.

    Attributes
    ----------
    layout : Layout
        Where everything lies.
    constants : tuple
        What `Constants` of ``intsnn.kernels.fused.opcodes`` holds, as `run_samples` takes it.
    coded : bool
        Whether what comes in is read as codes, also where it comes by steps.
    answers : dict of str to (int, int, bool)
        Of every output where it begins and ends among all, and whether it is a step, counted from 1 (0: never).
    """

    def __init__(self, program: Program, constant: bool, chunk: int, kept: bool) -> None:
        from ....kernels.fused import tiles

        self.program = program
        self.forms, self.maps = Forms(program, not constant), Maps(program)
        self.coded = self.forms[program.network.input_name] == "codes"
        self._steps: list[TableRow] = []
        self._made: set[str] = set()  # values and sums that are written
        wishes, self._store = Wishes(), Store(program.schedule, tiles)
        self._connections = Connections(self.forms, self.maps, self._store, wishes, chunk)
        makers: dict[type[P.Primitive], Callable[[Instruction], None]] = {
            P.Fire: self._neuron, P.Reduce: self._pool, P.Copy: self._copy
        }  # fmt: skip
        self._writers: dict[type[P.Primitive], Callable[[Instruction, str, bool], None]] = {
            P.Feed: self._write_codes, P.Connect: self._write_connection, P.Times: self._write_product,
            P.Sum: self._write_sum, P.Reduce: self._write_pool, P.Copy: self._write_copy,
            P.Divide: self._write_quotient,
        }  # fmt: skip
        for instruction in program.instructions:
            name = instruction.name
            if instruction.inputs and self.forms[name] == "bytes" and self.forms.root(name) == name:
                makers[type(instruction.primitive)](instruction)
        self.answers: dict[str, tuple[int, int, bool]] = {}
        for name in program.network.outputs:
            self._answer(program[name])
        self.layout = Layout(self._steps, wishes, (chunk, kept), program.network.input_name, self.maps.of, tiles)
        leaks = any(program.network.nodes[name].leaks for name in program.network.neurons)
        settling = min(chunk, 1 if leaks else SETTLING)
        at = self._filled(), self.layout.split, self.layout.block, chunk, settling, int(kept)
        self.constants = tuple(Constants(*at, *self._store.arrays()))
        self.run_samples = self._interpreter()

    def _filled(self) -> np.ndarray:
        """The table, (operations, columns)."""
        table = np.zeros((len(self._steps), len(Operation)), np.int64)
        for i, step in enumerate(self._steps):
            table[i, Operation.KIND] = Kind[step.kind]
            for column, value in step.fields.items():
                table[i, Operation[column]] = value
        return table

    def _interpreter(self) -> Callable:
        """The kernel that knows all operations of the table, and as few besides as may be: they have to be compiled."""
        from ....kernels.fused.interpreter import run_samples

        if all(Kind.FEED < Kind[step.kind] < Kind.FIRE_GENERAL or step.kind == "CURRENT" for step in self._steps):
            return run_samples
        from ....kernels.fused.complete import run_all_samples

        return run_all_samples

    def _add(self, kind: str, fields: dict[str, int], **parts) -> None:
        self._steps.append(TableRow(kind, fields, **parts))

    # -- bytes -----------------------------------------------------------------------------------

    def _pool(self, instruction: Instruction) -> None:
        primitive, name = instruction.primitive, instruction.name
        assert isinstance(primitive, P.Reduce)
        source = self.forms.source(name)
        fields = self.maps.windows(source, name, primitive.window)
        if primitive.kind == "max":
            states = self.maps.maximum_states(source, name)
            self._add("MAX_POOL", fields, source=source, target=name, states=states)
        else:
            self._add("SUM_POOL", fields, source=source, target=name)

    def _copy(self, instruction: Instruction) -> None:
        primitive, name = instruction.primitive, instruction.name
        assert isinstance(primitive, P.Copy)
        sources = self.forms.sources(name)
        for at, source in enumerate(sources):
            fields = self.maps.copied(self._store, sources, at, name, primitive)
            self._add("COPY", fields, source=source, target=name)

    def _neuron(self, instruction: Instruction) -> None:
        primitive, name, (feeding,) = instruction.primitive, instruction.name, instruction.inputs
        assert isinstance(primitive, P.Fire)
        wide_charge = isinstance(self.program[feeding].primitive, P.Connect) and self.forms.is_wide(feeding)
        if wide_charge or not is_plain(instruction):
            fields = self.maps.places(name, name) | {"FROM_WIDE": int(wide_charge)}
            lies = {"wide_charge": self._wide_charge(feeding)} if wide_charge else {"charge": self._values(feeding)}
            states = general_neuron(self._store, fields, self.program, instruction)
            self._add("FIRE_GENERAL", fields, target=name, states=states, membranes=True, **lies)
            return
        layer, read, states = primitive.neuron, self.program[feeding].primitive, math.prod(self.maps.of(name))
        wide = _is_wide(layer, instruction.output.bound, self.program.values[feeding].bound)
        kernel = self.forms.kernel(feeding) if isinstance(read, P.Connect) else ""
        if kernel == "lists":
            fields = self._connections.listed(feeding, wide)
            self._put_plain(fields, layer, wide)
            self._add("CONNECT_FIRE", fields, source=self.forms.source(feeding), target=name, states=states)
            return
        fields = self.maps.places(name, name) | {"DOTS": -1, "EXTRA_STEPS": 1 if kernel == "codes" else 2}
        self._connections.put_scale(fields, read if isinstance(read, P.Connect) else None, wide)
        self._put_plain(fields, layer, wide)
        charge = self._sums(feeding) if kernel else self._values(feeding)  # it multiplies the sums of a connection
        self._add("FIRE", fields, target=name, charge=charge, states=states)

    def _put_plain(self, fields: dict[str, int], layer, wide: bool) -> None:
        """Numbers of neurons that integrate and fire."""
        channels, highest = fields["REAL_OUT"], np.iinfo(np.int64 if wide else np.int32).max
        v_negative = layer.v_negative if layer.signed else -highest
        fields |= {
            "WIDE": int(wide),
            "THRESHOLD": self._store.put_numbers(layer.threshold, channels, highest, wide),
            "V_NEGATIVE": self._store.put_numbers(v_negative, channels, -highest, wide),
            "V_INITIAL": self._store.put_numbers(layer.v_initial, channels, 0, wide),
            "FEWEST_SPIKES": max(-(1 << 15), layer.min_count),
            "CAP": min((1 << 15) - 1, layer.max_count or (1 << 15) - 1),
            "COUNTED": int(layer.signed or layer.max_count is not None),
        }

    # -- values ----------------------------------------------------------------------------------

    def _values(self, name: str) -> str:
        """Name of the charge that holds a value in every step; it is written where it is not yet."""
        name = self.forms.root(name)
        if name not in self._made:
            self._write(name, name, True)
            self._made.add(name)
        return name

    def _lies(self, name: str, fields: dict[str, int]) -> dict[str, str]:
        """Whose bytes or values those of `name` are, as parts of a step; `fields` say which."""
        root = self.forms.root(name)
        if self.forms[root] == "bytes":
            return {"source": root}
        fields["FROM_VALUES"] = 1
        return {"values": self._values(root)}

    def _write(self, name: str, charge: str, first: bool) -> None:
        """Write a value to a charge (`first`), or add it to what is there."""
        instruction = self.program[name]
        if self.forms[name] == "bytes":
            self._write_scaled(name, 1, charge, first)
        elif name in self._made or (not first and isinstance(instruction.primitive, ALONE)):
            self._write_values(self._values(name), 1, charge, first)
        else:
            self._writers[type(instruction.primitive)](instruction, charge, first)

    def _write_scaled(self, name: str, factor, charge: str, first: bool) -> None:
        """Write a value times a factor to a charge, or add it."""
        source = self.forms.root(name)
        if self.forms[source] != "bytes":
            self._write_values(self._values(source), factor, charge, first)
            return
        fields = self.maps.places(source, source) | {"FIRST": int(first)}
        fields["MULTIPLIER"] = self._store.put_numbers(factor, fields["REAL_OUT"])
        self._add("SCALE_ADD", fields, source=source, charge=charge)

    def _write_values(self, values: str, factor, charge: str, first: bool) -> None:
        """The same of values that are written already."""
        fields = self.maps.places(values, values) | {"FIRST": int(first)}
        self._connections.put_scale(fields, None)
        fields["MULTIPLIER"] = self._store.put_numbers(factor, fields["REAL_OUT"])
        self._add("SCALE_VALUES", fields, charge=charge, values=values)

    def _write_codes(self, instruction: Instruction, charge: str, first: bool) -> None:
        name, before = instruction.name, self.program.network.inputs
        at = sum(self.program.size(other) for other in before[: before.index(name)])
        self._add("FEED", self.maps.places(name, name) | {"INPUT": at}, charge=charge)

    def _sums(self, name: str) -> str:
        """Name of the charge that holds the sums of a connection, without multiplier and bias."""
        charge, kernel = name + SUMS, self.forms.kernel(name)
        if charge in self._made:
            return charge
        self._made.add(charge)
        if kernel == "codes":
            self._add("CURRENT", self._connections.constant(name), charge=charge)
        elif kernel == "planes":
            self._add("CONNECT_PLANES", self._connections.planes(name), source=self.forms.source(name), charge=charge)
        else:
            fields = self._connections.general(name) | {"FIRST": 1}
            self._connections.put_scale(fields, None)
            self._add("CONNECT_VALUES", fields, charge=charge, **self._lies(self.forms.source(name), fields))
        return charge

    def _wide_charge(self, name: str) -> str:
        """Name of the charge of 64 bits to which a connection is written, for the neuron that comes next."""
        fields = self._connections.general(name, wide=True)
        self._add("CONNECT_WIDE", fields, wide_charge=name, **self._lies(self.forms.source(name), fields))
        return name

    def _write_connection(self, instruction: Instruction, charge: str, first: bool) -> None:
        name, kernel = instruction.name, self.forms.kernel(instruction.name)
        source = self.forms.source(name)
        if kernel == "lists":
            fields = self._connections.listed(name)  # the layout goes on to fill these very fields
            fields["FIRST"] = int(first)
            self._add("CONNECT_ADD", fields, source=source, charge=charge)
        elif kernel == "general":
            fields = self._connections.general(name) | {"FIRST": int(first)}
            self._add("CONNECT_VALUES", fields, charge=charge, **self._lies(source, fields))
        else:
            sums, fields = self._sums(name), self.maps.places(name, name)
            fields |= {"FIRST": int(first), "EXTRA_STEPS": 1 if kernel == "codes" else 2}
            self._connections.put_scale(fields, connection(self.program, name))
            self._add("SCALE_VALUES", fields, charge=charge, values=sums)

    def _write_product(self, instruction: Instruction, charge: str, first: bool) -> None:
        primitive = instruction.primitive
        assert isinstance(primitive, P.Times)
        self._write_scaled(instruction.inputs[0], primitive.factor, charge, first)

    def _write_sum(self, instruction: Instruction, charge: str, first: bool) -> None:
        for name in instruction.inputs:
            self._write(name, charge, first)
            first = False

    def _write_pool(self, instruction: Instruction, charge: str, first: bool) -> None:
        primitive, name = instruction.primitive, instruction.name
        assert isinstance(primitive, P.Reduce)
        source = self.forms.source(name)
        fields = self.maps.windows(source, name, primitive.window)
        if primitive.kind == "max":
            parts = {"states": self.maps.maximum_states(source, name), "membranes": True}
            self._add("MAX_VALUES", fields, charge=charge, **parts, **self._lies(source, fields))
        else:
            self._add("SUM_VALUES", fields, charge=charge, **self._lies(source, fields))

    def _write_copy(self, instruction: Instruction, charge: str, first: bool) -> None:
        primitive, name = instruction.primitive, instruction.name
        assert isinstance(primitive, P.Copy)
        sources = [self._values(source) for source in self.forms.sources(name)]
        for at, source in enumerate(sources):
            fields = self.maps.copied(self._store, sources, at, name, primitive) | {"FROM_VALUES": 1}
            self._add("COPY", fields, charge=charge, values=source)

    def _write_quotient(self, instruction: Instruction, charge: str, first: bool) -> None:
        primitive, name = instruction.primitive, instruction.name
        assert isinstance(primitive, P.Divide)
        fields = self.maps.places(name, name) | {"DIVISOR": primitive.divisor, "ROUNDING": int(primitive.rounding)}
        self._add("DIVIDE", fields, charge=charge, values=self._values(instruction.inputs[0]))

    # -- what goes out ---------------------------------------------------------------------------

    def _answer(self, instruction: Instruction) -> None:
        """Totals over all steps: of a connection by its weights, of what else there is as it lies."""
        by_time = isinstance(instruction.primitive, P.FirstSpike)
        totals = by_time or isinstance(instruction.primitive, P.Accumulate)
        name = instruction.inputs[0] if totals else instruction.name
        begin = max((end for _, end, _ in self.answers.values()), default=0)
        self.answers[instruction.name] = begin, begin + math.prod(self.maps.shape(name)), by_time
        read = self.program[name].primitive
        if isinstance(read, P.Connect) and not by_time:
            kernel, source = self.forms.kernel(name), self.forms.source(name)
            if kernel == "lists" and (len(self.maps.shape(self.program[name].inputs[0])) == 1 or covers(read)):
                fields = self._connections.listed(name)
                fields |= {"OUTPUTS": math.prod(self.maps.shape(name)), "ANSWER": begin}
                self._add("READOUT", fields, source=source)
                return
            if kernel == "general" and math.prod(self.maps.shape(name)[1:]) == 1:
                fields = self._connections.general(name) | {"ANSWER": begin}
                self._add("READ_VALUES", fields, **self._lies(source, fields))
                return
        fields = self.maps.places(name, name) | {"BY_TIME": int(by_time), "ANSWER": begin}
        self._add("TOTAL", fields, **self._lies(name, fields))
