"""How long a run lasts: which of its steps are driven, how many it has at least and at most.

One rule for every backend, for the integer ANN and for bounds. See *Time* in ``docs/semantics.md``.
"""

from __future__ import annotations

from ..errors import FormatError
from ..layers.schedule import Schedule

__all__ = ["Schedule", "schedule", "settling_steps"]


def schedule(network, given: int | None, steps: int | None, settle: bool) -> Schedule:
    """When a run of `network` is driven and how long it lasts.

    Parameters
    ----------
    given : int or None
        Frames of the input; None: a constant input.
    steps : int or None
        Steps asked for, at least 1.
    settle : bool
        Whether the drive is finished and the network runs on until it rests.

    Raises
    ------
    FormatError
        If nothing says how many steps there are.
    """
    if steps is None:
        steps = network.t_drive or given
        if steps is None:
            raise FormatError("steps: this network declares no t_drive and the input no time axis; give steps")
    limits = [n for n in (network.t_drive, given) if n is not None]
    driven = min(limits or [steps]) if settle else min([steps, *limits])
    least = max(steps, driven)
    limit = max(least, driven + settling_steps(network, driven)) if settle else least
    return Schedule(driven, least, limit, network.t_drive or driven, network.levels)


def settling_steps(network, driven: int) -> int:
    """Most steps that a settling run of `network` adds after `driven` driven steps: L for each layer, plus the delays.

    L is `levels`, else `t_drive`, else `driven`; a layer of a feed-forward network that comes to rest only at a larger
    `max_count` (no leak, reset by subtraction) counts with that, and one whose net count may fall below 0 with as many
    steps more as it may fall.
    """
    reach = network.levels or network.t_drive or driven
    delays = sum(layer.delay for layer in network.nodes.values())
    layers = [network.nodes[name] for name in network.spiking]
    if network.recurrent:
        return sum(reach - layer.lowest_count for layer in layers) + delays
    return sum(max(reach, layer.rests_at) - layer.lowest_count for layer in layers) + delays
