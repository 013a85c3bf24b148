"""When is a network driven, and how long does it run: one description for layers, backends and bounds.

See *Time* in ``docs/semantics.md``. How a `Schedule` follows from a network and from what is asked for stands in
`intsnn.network.schedule`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Schedule", "bias_schedule", "bias_total"]


@dataclass(frozen=True)
class Schedule:
    """Steps of a run.

    Attributes
    ----------
    driven : int
        Steps with input and bias, from step 0 on.
    least : int
        Steps that every sample has.
    limit : int
        Steps at most (beyond `least`: to settle).
    drive : int
        Steps over which a spread bias is spread: T_drive of the network, else `driven`.
    levels : int or None
        L of a converted network.
    totals : bool
        Whether there are no steps but totals: the integer ANN, in which a neuron has a level of its whole charge.
    """

    driven: int
    least: int
    limit: int
    drive: int
    levels: int | None = None
    totals: bool = False

    def of_totals(self) -> Schedule:
        """The same drive without steps."""
        return replace(self, least=self.driven, limit=self.driven, totals=True)


def bias_schedule(bias: np.ndarray, mode: str, drive: int, start: int, steps: int) -> np.ndarray:
    """Bias of the steps ``start..start + steps``: ``(steps, O)``, exact, zero after the drive.

    ``"spread"``: ``b_t = floor((t + 1) B / drive) - floor(t B / drive)``; ``"step"``: B; ``"once"``: B at t = 0.
    """
    wide = bias.astype(object)
    rows = []
    for t in range(start, start + steps):
        if t >= drive:
            rows.append(wide * 0)
        elif mode == "spread":
            rows.append(wide * (t + 1) // drive - wide * t // drive)
        elif mode == "step":
            rows.append(wide)
        else:
            rows.append(wide if t == 0 else wide * 0)
    return np.array(rows, dtype=object).reshape(steps, bias.shape[0])


def bias_total(bias: np.ndarray, mode: str, schedule: Schedule) -> np.ndarray:
    """Sum of `bias_schedule` over the driven steps, ``(O,)`` Python integers."""
    wide = bias.astype(object)
    driven = schedule.driven
    return {"step": wide * driven, "once": wide, "spread": wide * driven // schedule.drive}[mode]
