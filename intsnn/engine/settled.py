"""What a network answers at rest, by the equality theorem: where it is proven, the integer ANN stands in for the steps.

The theorem (``docs/semantics.md``) has conditions on the layers (`equality_conditions`) and one on the run: no format
overflows. `unproven` proves the latter for every input by the static bounds. Then the outputs of a settling run are
those of one pass of totals, and `settle` simulates only some of the samples: for what has no place in a pass (steps,
spikes, sums), and to look whether the theorem holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import MismatchError, ShapeError, UnsupportedError
from ..formats.arguments import STEPS, array_of, flag, shown, whole, whole_or_none
from ..network.schedule import schedule
from ..network.spiking import Network, spiking_network
from .ann import equality_conditions, integer_ann, prepare_ann
from .inputs import Events, frames_given, sources_of
from .program import Program, lower
from .result import Result, predict
from .simulation import MOST_THREADS, simulate

__all__ = ["CHECKED", "Settled", "unproven", "settle"]

CHECKED = 100  # samples that are simulated step by step
CHECKED_BYTES = 1 << 29  # of their levels and membranes; of larger networks fewer are


@dataclass(frozen=True, eq=False)
class Settled:
    """Answers at rest of all samples, and what some of them did on the way.

    Attributes
    ----------
    network : Network
    outputs : (B, K) int64
    simulated : Result
        Of the samples `chosen`, step by step: spikes, steps and sums are those of these samples alone.
    chosen : (N,) int64
    compared : int
        Integers of these samples (outputs, and with reports counts of neurons and max-pools) that are equal to those of
        the pass of totals; if one was not, there would be an error instead.
    """

    network: Network
    outputs: np.ndarray
    simulated: Result
    chosen: np.ndarray
    compared: int

    @cached_property
    def predictions(self) -> np.ndarray:
        """Decision of each sample, as `Result.predictions`."""
        return predict(self.network, self.outputs)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.outputs)


def _overflows(program: Program) -> list[str]:
    """Layers of which the static bounds do not exclude an overflow."""
    reasons = []
    for name in program.network.neurons:
        layer, bound = program.network.nodes[name], program.bounds[name]
        (source,) = program.network.inputs_of(name)
        seen = program.bounds[source]
        if (
            bound.v_low is None
            or bound.v_high is None
            or not _holds(layer.v_format, layer.v_overflow, bound.v_low, bound.v_high)
        ):
            reasons.append(f"the membrane of {name} may overflow {layer.v_format}")
        if layer.acc_format is not None and not _holds(layer.acc_format, layer.acc_overflow, seen.low, seen.high):
            reasons.append(f"the sums of {name} may overflow {layer.acc_format}")
    return reasons


def _holds(fmt, overflow, low: np.ndarray, high: np.ndarray) -> bool:
    """Whether a format holds a range, the codes that its overflow mode never gives left out."""
    least = -fmt.max if overflow.name == "SAT_SYM" and fmt.signed else fmt.min
    return least <= int(low.min()) and int(high.max()) <= fmt.max


def unproven(network, inputs, *, steps: int | None = None, time_axis: int | None = None) -> list[str]:
    """Why the integer ANN may not stand in for a settling run of `network` on `inputs`; empty: it provably may.

    Parameters as in `simulate`. Of the inputs only their form matters, never what they hold.
    """
    reasons = equality_conditions(spiking_network(network))
    steps = whole_or_none(steps, "steps", 1, STEPS)
    if reasons:
        return reasons
    sources = sources_of(network, inputs, time_axis)
    return _overflows(lower(network, schedule(network, frames_given(sources), steps, True)))


def settle(
    network,
    inputs,
    *,
    checked: int | None = None,
    steps: int | None = None,
    threads: int = 1,
    reports: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Settled:
    """Outputs of a settling run by one pass of totals; some samples also step by step, and compared.

    Parameters
    ----------
    network, inputs, steps
        As in `simulate` with ``settle=True``.
    checked : int, optional
        How many samples are simulated, spread evenly over all of them; by default `CHECKED`, of very large networks
        fewer.
    threads : int
    reports : bool
        False: of the samples that are simulated only outputs are wanted and compared, by the fastest path there is.
    progress : callable, optional
        Called with (samples done, samples in all).

    Raises
    ------
    UnsupportedError
        Where equality is not proven, with all reasons (`unproven`).
    MismatchError
        If a sample that was simulated gave something else.
    """
    checked, steps = whole_or_none(checked, "checked", 0, STEPS), whole_or_none(steps, "steps", 1, STEPS)
    threads, reports = whole(threads, "threads", 1, MOST_THREADS), flag(reports, "reports")
    reasons = unproven(network, inputs, steps=steps)
    if reasons:
        raise UnsupportedError(f"settle: equality with the integer ANN is not proven: {'; '.join(reasons)}")
    if checked is None:
        each = 16 * sum(math.prod(network.shapes[name]) for name in network.spiking)
        checked = max(1, min(CHECKED, CHECKED_BYTES // max(1, each)))
    ann = prepare_ann(network, steps=steps, threads=threads)(inputs, progress=progress)
    samples = len(ann.outputs)
    chosen = np.linspace(0, samples - 1, min(checked, samples)).round().astype(np.int64)
    part = _chosen(network, inputs, chosen)
    run = simulate(network, part, settle=True, steps=steps, threads=threads, keep_final=reports, reports=reports)
    levels = integer_ann(network, part, steps=steps, threads=threads).levels if reports else {}
    compared = _equal("outputs", ann.outputs[chosen], run.outputs, chosen)
    for name, found in levels.items() if len(chosen) else ():
        compared += _equal(f"the net counts of {name}", found, run.final[f"{name}.counts"], chosen)
    if run.settled is False or run.overflows:
        raise MismatchError(f"settle: {run.overflows} overflows, at rest: {run.settled}, where none can be")
    return Settled(network, ann.outputs, run, chosen, compared)


def _equal(what: str, expected: np.ndarray, found: np.ndarray, chosen: np.ndarray) -> int:
    """How many integers were compared; raises where a simulated sample gave something else."""
    differ = np.argwhere(expected != found)
    if len(differ):
        at = tuple(int(i) for i in differ[0])
        raise MismatchError(
            f"settle: {what} of sample {int(chosen[at[0]])} differ at {at[1:]}: {int(expected[at])} by the integer "
            f"ANN, {int(found[at])} step by step"
        )
    return found.size


def _chosen(network, inputs, chosen: np.ndarray):
    """Some samples of the inputs."""
    if isinstance(inputs, dict):
        return {name: _chosen(network, part, chosen) for name, part in inputs.items()}
    if isinstance(inputs, Events):
        place = np.full(inputs.samples, -1)
        place[chosen] = np.arange(len(chosen))
        keep = place[inputs.sample] >= 0
        value = None if inputs.value is None else inputs.value[keep]
        return Events(
            inputs.step[keep], place[inputs.sample[keep]], inputs.index[keep], inputs.steps, len(chosen), value
        )  # fmt: skip
    inputs = array_of(inputs, "inputs")
    if inputs.ndim < 2:
        raise ShapeError(f"inputs: found {shown(inputs)}; samples (B, ...) or frames (T, B, ...) are needed")
    rank = len(network.shapes[network.input_name])
    return inputs[:, chosen] if inputs.ndim in (rank + 2, 5) else inputs[chosen]
