"""Which programs have no fused form: what `REFUSED` lists, and nothing else that is fed forward."""

from __future__ import annotations

from typing import cast

import numpy as np

from ....formats.fixed import Overflow, Rounding
from ....layers import primitives as P
from ....layers.base import fits
from ....layers.neurons import Neuron
from ...program import Instruction, Program
from .forms import Forms, is_plain

__all__ = ["REFUSED", "refuses"]

# What is refused, as `docs/speed.md` has it; the reasons below are found under these words.
REFUSED = {
    "ann": "the integer ANN has no steps",
    "recurrent": "the network is recurrent",
    "delay": "{} has a delay",
    "weights": "{} has weights beyond 31 bits",
    "multipliers": "{} has multipliers beyond 31 bits",
    "sums": "the sums of {} need more than 32 bits",
    "codes": "the codes of {} need more than 32 bits",
    "totals": "the totals of {} need more than 32 bits",
    "counts": "the counts of {} need more than 15 bits",
    "random": "{} rounds at random",
    "trap": "{} may overflow where an overflow is an error",
    "restart": "{} begins anew during a run",
    "kind": "{} has no fused form",
}


def refuses(program: Program, frames: bool = False) -> str | None:
    """Why `program` has no fused form, or None; `frames`: whether the input comes by steps."""
    if program.schedule.totals:
        return REFUSED["ann"]
    if program.recurrent:
        return REFUSED["recurrent"]
    forms = Forms(program, frames)
    for instruction in program.instructions:
        check = _CHECKS.get(type(instruction.primitive))
        if check is None:
            kind = type(program.network.nodes[instruction.node]).__name__
            return REFUSED["kind"].format(f"{instruction.node} ({kind})")
        reason = check(program, instruction, forms)
        if reason:
            return REFUSED[reason].format(instruction.node)
    return None


def _feed(program: Program, instruction: Instruction, forms: Forms) -> str | None:
    layer = cast(P.Feed, instruction.primitive).input
    return None if -(1 << 31) <= layer.low <= layer.high < 1 << 31 else "codes"


def _connect(program: Program, instruction: Instruction, forms: Forms) -> str | None:
    connect, name = cast(P.Connect, instruction.primitive), instruction.name
    if connect.delay:
        return "delay"
    if np.abs(connect.multiplier).max() >= 1 << 31:
        return "multipliers"
    if np.abs(connect.weight).max() >= 1 << 31:
        return "weights"
    fires = all(isinstance(reader.primitive, P.Fire) for reader in program.readers(name))
    return "sums" if forms.is_wide(name) and not fires else None


def _fire(program: Program, instruction: Instruction, forms: Forms) -> str | None:
    layer, bound = cast(P.Fire, instruction.primitive).neuron, instruction.output.bound
    if not fits(bound.total_low, bound.total_high, 16):
        return "counts"
    if is_plain(instruction):  # a format of 48 bits holds its membrane
        return None
    return _general(program, instruction, layer)


def _general(program: Program, instruction: Instruction, layer: Neuron) -> str | None:
    """What the general neuron does not do on this path."""
    decays = [layer.v_decay]
    if layer.u_format is not None:
        decays.append(layer.u_decay)
    if layer.refractory.kind == "trace":
        decays.append(layer.refractory.decay)
    if any(d.rounding == Rounding.STOCHASTIC and d.kind in ("shift", "multiply") for d in decays):
        return "random"
    if layer.restart_every:
        return "restart"
    traps = layer.v_overflow == Overflow.TRAP
    traps |= layer.u_format is not None and layer.u_overflow == Overflow.TRAP
    traps |= layer.acc_format is not None and layer.acc_overflow == Overflow.TRAP
    return "trap" if traps else None


def _value(program: Program, instruction: Instruction, forms: Forms) -> str | None:
    name = instruction.name
    return "sums" if forms[name] == "values" and not program.holds(name, 32) else None


def _times(program: Program, instruction: Instruction, forms: Forms) -> str | None:
    factor = cast(P.Times, instruction.primitive).factor
    return "multipliers" if np.abs(factor).max() >= 1 << 31 else _value(program, instruction, forms)


def _pool(program: Program, instruction: Instruction, forms: Forms) -> str | None:
    bound, pool = instruction.output.bound, cast(P.Reduce, instruction.primitive)
    if pool.kind == "max" and not fits(bound.total_low, bound.total_high, 32):
        return "totals"
    return _value(program, instruction, forms)


def _total(program: Program, instruction: Instruction, forms: Forms) -> str | None:
    return None  # of any size: they are kept in 64 bits


_CHECKS = {
    P.Feed: _feed, P.Connect: _connect, P.Fire: _fire, P.Reduce: _pool, P.Copy: _value, P.Times: _times,
    P.Sum: _value, P.Divide: _value, P.Accumulate: _total, P.FirstSpike: _total,
}  # fmt: skip
