"""How long a run lasts: which of its steps are driven, how many it has at least and at most.

One rule for `simulate`, `prepare`, `integer_ann` and `verify`. See *Time* in ``docs/semantics.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import FormatError

__all__ = ["Duration", "duration"]


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
    return Duration(driven, least, max(least, driven + network.settling_steps(driven)) if settle else least)
