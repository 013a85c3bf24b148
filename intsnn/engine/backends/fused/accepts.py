"""Which programs have a fused form, and why others have none."""

from __future__ import annotations

from typing import cast

import numpy as np

from ....formats.fixed import Overflow
from ....layers import primitives as P
from ....layers.base import fits
from ...program import Instruction, Program

__all__ = ["connection", "covers", "refuses", "spikes_of"]

MOST_IN_FRAMES = 16  # in size, of the values of frames and of pooled spikes: they are listed that often
SPIKES = P.Fire | P.Reduce


def connection(program: Program, name: str) -> P.Connect:
    """The primitive of a connection."""
    return cast(P.Connect, program[name].primitive)


def spikes_of(program: Program, name: str) -> str:
    """The value whose spikes a connection reads (through a flattening)."""
    (source,) = program[name].inputs
    return program[source].inputs[0] if isinstance(program[source].primitive, P.Copy) else source


def covers(connect: P.Connect) -> bool:
    """Whether a convolution is one window over its whole input: then it is a dense layer."""
    w = connect.window
    return (
        (w.kernel_height, w.kernel_width) == (w.height, w.width)
        and (w.out_height, w.out_width) == (1, 1)
        and (w.pad_top, w.pad_left) == (0, 0)
        and (w.dilation_y, w.dilation_x) == (1, 1)
    )


def _reach(connect: P.Connect, bound) -> int:
    """The largest sum of weights times inputs, in size, before the multiplier."""
    most = max(-int(bound.low.min()), int(bound.high.max()))
    return int(np.abs(connect.weight.astype(np.int64)).reshape(len(connect.weight), -1).sum(axis=1).max()) * most


def refuses(program: Program, frames: bool = False) -> str | None:
    """Why `program` has no fused form, or None; `frames`: whether the input comes by steps."""
    if program.schedule.totals:
        return "the integer ANN has no steps"
    if program.recurrent:
        return "the network is recurrent"
    if len(program.network.inputs) > 1 or len(program.network.outputs) > 1:
        return "the network has several inputs or outputs"
    if not isinstance(program[program.network.output_name].primitive, P.Accumulate | P.FirstSpike):
        return "the output is no Readout"
    for instruction in program.instructions:
        check = _CHECKS.get(type(instruction.primitive))
        reason = check(program, instruction, frames) if check else _no_form(program, instruction)
        if reason:
            return reason
    return None


def _no_form(program: Program, instruction: Instruction) -> str:
    return f"{instruction.node} ({type(program.network.nodes[instruction.node]).__name__}) has no fused form"


def _source(program: Program, instruction: Instruction) -> P.Primitive:
    return program[instruction.inputs[0]].primitive


def _all_read_by(program: Program, name: str, kind) -> bool:
    return all(isinstance(reader.primitive, kind) for reader in program.readers(name))


def _connect(program: Program, instruction: Instruction, frames: bool) -> str | None:
    connect, name = cast(P.Connect, instruction.primitive), instruction.name
    (source,) = instruction.inputs
    if connect.delay:
        return f"{name} has a delay"
    if np.abs(connect.weight).max() > 127:
        return f"{name} has weights beyond 127"
    if np.abs(connect.multiplier).max() >= 1 << 31:
        return f"{name} has multipliers beyond 31 bits"
    if connect.window.groups != 1 or connect.window.dilation_x != 1:
        return f"{name} has groups or a horizontal dilation"
    fitting = _all_read_by(program, name, P.Fire) or program.holds(name, 32)
    if _reach(connect, program.values[source].bound) >= 1 << 31 or not fitting:
        return f"the sums of {name} need more than 32 bits"
    if not isinstance(_source(program, instruction), P.Feed | SPIKES | P.Copy):
        return f"{name} reads sums of {source}"
    return None


def _fire(program: Program, instruction: Instruction, frames: bool) -> str | None:
    layer, name, bound = cast(P.Fire, instruction.primitive).neuron, instruction.name, instruction.output.bound
    plain = (
        bound.v_low is not None
        and layer.max_spikes_per_step == 1
        and layer.compare == ">="
        and not np.any(layer.bias)
        and layer.acc_format is None
    )
    if not plain or bound.v_low is None or bound.v_high is None:
        return f"{name} is no plain integrate-and-fire neuron"
    symmetric = layer.v_overflow == Overflow.SAT_SYM and layer.v_format.signed
    lowest = -layer.v_format.max if symmetric else layer.v_format.min
    if int(bound.v_low.min()) < lowest or int(bound.v_high.max()) > layer.v_format.max:
        return f"the membrane of {name} may overflow"
    own = map(np.asarray, (layer.threshold, layer.v_negative, layer.v_initial))
    fitting = all(fits(number, number, 62) for number in (*own, bound.v_low, bound.v_high))
    if not fitting or int(bound.total_high.max()) >= 1 << 15:
        return f"the membrane of {name} needs more than 62 bits, or its count more than 15"
    source = _source(program, instruction)
    if not isinstance(source, P.Connect | P.Sum):
        return f"{name} is not fed by a connection or a join"
    return None


def _pool(program: Program, instruction: Instruction, frames: bool) -> str | None:
    name, bound = instruction.node, instruction.output.bound
    if not isinstance(_source(program, instruction), SPIKES):
        return f"{name} pools no spikes"
    if int(bound.high.max()) > MOST_IN_FRAMES or int(bound.low.min()) < -MOST_IN_FRAMES:
        return f"the sums of {name} are too large to be listed"
    if cast(P.Reduce, instruction.primitive).kind == "max" and not fits(bound.total_low, bound.total_high, 16):
        return f"the totals of {name} need more than 16 bits"
    return None


def _copy(program: Program, instruction: Instruction, frames: bool) -> str | None:
    name, copy = instruction.name, cast(P.Copy, instruction.primitive)
    in_order = np.array_equal(copy.places.reshape(-1), np.arange(program.size(instruction.inputs[0])))
    if not in_order or len(instruction.output.shape) != 1:
        return _no_form(program, instruction)
    if not _all_read_by(program, name, P.Connect):
        return f"{name} feeds no dense layer"
    if not isinstance(_source(program, instruction), P.Feed | SPIKES):
        return f"{name} reads sums of {instruction.inputs[0]}"
    return None


def _scale(program: Program, instruction: Instruction, frames: bool) -> str | None:
    if not isinstance(_source(program, instruction), SPIKES) or not _all_read_by(program, instruction.name, P.Sum):
        return f"{instruction.name} is no branch of a join"
    return None


def _add(program: Program, instruction: Instruction, frames: bool) -> str | None:
    name, branches = instruction.name, [program[source] for source in instruction.inputs]
    if not all(isinstance(branch.primitive, P.Connect | P.Times | SPIKES) for branch in branches):
        return f"{name} joins something else than connections and spikes"
    if not _all_read_by(program, name, P.Fire):
        return f"{name} feeds no neuron"
    if not program.holds(name, 32):
        return f"the sums of {name} need more than 32 bits"
    connected = [branch.name for branch in branches if isinstance(branch.primitive, P.Connect)]
    if not frames and any(isinstance(program[spikes_of(program, c)].primitive, P.Feed) for c in connected):
        return f"{program.readers(name)[0].name}: a join with a branch from a constant input has no fused form"
    return None


def _total(program: Program, instruction: Instruction, frames: bool) -> str | None:
    name, (source,) = instruction.name, instruction.inputs
    if isinstance(instruction.primitive, P.FirstSpike) or not isinstance(program[source].primitive, P.Connect):
        return f"{name} is no sum of a connection"
    if len(program.values[program[source].inputs[0]].shape) == 3 and not covers(connection(program, source)):
        return f"{source} reads out more than one window"
    if isinstance(program[spikes_of(program, source)].primitive, P.Feed):
        return f"{name} reads the input without a neuron in between"
    return None


def _feed(program: Program, instruction: Instruction, frames: bool) -> str | None:
    layer = cast(P.Feed, instruction.primitive).input
    if frames and not -MOST_IN_FRAMES <= layer.low <= layer.high <= MOST_IN_FRAMES:
        return f"frames of {instruction.name} may hold values beyond {MOST_IN_FRAMES}"
    return None


_CHECKS = {
    P.Feed: _feed, P.Connect: _connect, P.Fire: _fire, P.Reduce: _pool, P.Copy: _copy, P.Times: _scale, P.Sum: _add,
    P.Accumulate: _total, P.FirstSpike: _total,
}  # fmt: skip
