"""The interpreter of the fused path with all operations: for networks that have some on values, or general neurons.

It takes twice as long to compile as that of spikes alone.
"""

from ..toolchain.jit import kernel
from .general import fire_general
from .interpreter import begin_current, interpreter, latest_activity, run_spikes
from .opcodes import FEED, FIRE_GENERAL, KIND, MAX_VALUES
from .values import feed, latest_change, run_on_values

__all__ = ["run_all_samples"]


@kernel
def _begin(op, this, who, codes, pools, arena, aside):
    """FEED, or CURRENT: once for the whole run of the samples in `who`."""
    if op[KIND] == FEED:
        for i in range(this.samples):
            feed(op, this, who[i], codes, arena.charge)
    else:
        begin_current(op, this, who, codes, pools, arena, aside)


@kernel
def _run(op, this, who, pools, arena, totals, latest):
    """One operation for the samples of `who`; `latest` keeps the last steps in which they fired."""
    kind, spikes, charge = op[KIND], arena.spikes, arena.charge
    if kind < FIRE_GENERAL:
        run_spikes(op, this, who, pools, arena, totals, latest)
        return
    for i in range(this.samples):
        b = who[i]
        if kind == FIRE_GENERAL:
            fire_general(op, this, b, pools, arena)
            if this.now >= this.driven:
                latest[b] = latest_activity(op, b, this.steps, spikes, latest[b], this.now)
        else:
            run_on_values(op, this, b, pools, arena, totals)
            if this.now >= this.driven and kind == MAX_VALUES:
                latest[b] = latest_change(op, this, b, charge, latest[b])


run_all_samples = interpreter("run_all_samples", _begin, _run)
