"""How long a run lasts: which of its steps are driven, how many it has at least and at most.

One rule for `simulate`, `prepare`, `integer_ann` and `verify`. See *Time* in ``docs/semantics.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import FormatError
from ..layers.neurons import Neuron

__all__ = ["Duration", "duration", "settling_steps"]


@dataclass(frozen=True)
class Duration:
    """`driven` steps with input and bias, `least` steps in all, `limit` steps at most (beyond `least`: to settle)."""

    driven: int
    least: int
    limit: int


def duration(network, given: int | None, steps: int | None, settle: bool) -> Duration:
    """Duration of a run of `network`.

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
    return Duration(driven, least, max(least, driven + settling_steps(network, driven)) if settle else least)


def settling_steps(network, driven: int) -> int:
    """Most steps that a settling run of `network` adds after `driven` driven steps: L for each layer, plus the delays.

    L is `levels`, else `t_drive`, else `driven`; a layer of a feed-forward network that comes to rest only at a larger
    `max_count` (no leak, reset by subtraction) counts with that.
    """
    reach = network.levels or network.t_drive or driven
    delays = sum(getattr(layer, "delay", 0) for layer in network.nodes.values())
    layers = [network.nodes[name] for name in network.spiking]
    if network.recurrent:
        return len(layers) * reach + delays
    return sum(max(reach, _cap(layer)) for layer in layers) + delays


def _cap(layer) -> int:
    """`max_count` where reaching it is what a layer may need to come to rest, else 0."""
    if not isinstance(layer, Neuron) or layer.max_count is None or layer.reset != "subtract":
        return 0
    leaks = layer.v_decay.kind != "none" or layer.u_format is not None or layer.refractory.kind != "none"
    return 0 if leaks else layer.max_count
