"""Static bounds: how large every sum and membrane can become, proven from weights and formats.

Every stream carries, per channel, the range of one step and the range of its running total. The
running total is what makes membranes bounded: a capped neuron has a net count in [0, max_count] at any
time, so the charge that reaches the next layer is bounded for any number of steps.
"""

from __future__ import annotations

from ..errors import RangeError
from ..layers.base import Bound, fits
from ..layers.schedule import Schedule

__all__ = ["TOTAL_BITS", "Bound", "analyse", "check_totals", "fits"]

TOTAL_BITS = 63  # signed; one less than the type that holds it: V0 and the sum of a step may be added


def analyse(network, schedule: Schedule) -> dict[str, Bound]:
    """Bounds of every node of `network` for a run by `schedule`, by name.

    Valid while no format overflows; that is what they are used to prove. (Steps and totals of sums, spikes and counts
    are valid in any case.)
    """
    bounds: dict[str, Bound] = {}
    for name in network.order:
        sources = network.inputs_of(name)
        for source in sources:
            if source not in bounds:  # a recurrent edge: what comes back is bounded by the neuron alone
                bounds[source] = network.nodes[source].bound_alone(network.shapes[source][0], schedule)
        shapes = [network.shapes[source] for source in sources]
        bounds[name] = network.nodes[name].bound([bounds[source] for source in sources], shapes, schedule)
    return bounds


def check_totals(network, bounds: dict[str, Bound], schedule: Schedule) -> None:
    """Refuse a run of which a running total could leave `TOTAL_BITS` bits.

    Totals are kept by readouts, by max-pools (of their inputs too: the same bound) and as counts by neurons; in the
    integer ANN by every node. Bounds are of formats and weights, not of the data: every backend refuses the same runs,
    before it begins.

    Raises
    ------
    RangeError
        Naming the first layer, the number that its total could reach, and what would help.
    """
    for name in network.order:
        layer, bound = network.nodes[name], bounds[name]
        if (layer.keeps_total or schedule.totals) and not fits(bound.total_low, bound.total_high, TOTAL_BITS):
            low, high = int(bound.total_low.min()), int(bound.total_high.max())
            raise RangeError(
                f"{name} ({type(layer).__name__}): its total over {schedule.limit} steps, {schedule.driven} of them "
                f"driven, can reach {high if high >= -low else low}, which needs more than {TOTAL_BITS} bits; "
                "run fewer steps, cap the counts of neurons (max_count), or use smaller weights, multipliers or inputs"
            )
