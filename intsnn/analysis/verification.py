"""Is it equal? Every backend, the plain reference and the integer quantised ANN on the same data.

The backends that keep everything must agree in every spike of every step, in the final counts and membranes, and in
outputs, predictions, lengths and counters on all samples; on the first few the plain reference joins them, and every
membrane and current u of every step is compared too. Those that keep no records (``fused``) must give the same outputs,
predictions and extra steps. The integer ANN is that of the count path, which on the first samples must equal that of
the layers. A backend that is added to `intsnn.engine.simulation.BACKENDS` is compared too. The settled
network must equal the integer ANN in every neuron wherever the conditions of the theorem hold
(`intsnn.engine.ann.equality_conditions`); elsewhere the mismatch is a result, not a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, cast

import numpy as np

from ..engine.ann import AnnResult, AnnRunner, equality_conditions, integer_ann, prepare_ann
from ..engine.inputs import Events
from ..engine.result import LayerReport, Result
from ..engine.simulation import MOST_THREADS, paths_of, simulate
from ..errors import RangeError, ShapeError, UnsupportedError
from ..formats.arguments import STEPS, array_of, function_or_none, shown, whole, whole_or_none
from ..network.spiking import spiking_network

__all__ = ["Difference", "Verification", "verify"]

BATCH = 64
RECORD_BYTES = 256 << 20  # of spikes and membranes held at a time
COUNTERS = tuple(entry.name for entry in fields(LayerReport) if entry.name != "name")
ANN = "integer ANN against settled network"
ANNS = "integer ANN by layers against count path"


@dataclass(frozen=True)
class Difference:
    """The first place where two computations differ.

    `layer` is ``layer.quantity``, or a result of the whole network (outputs, predictions, extra steps, settled).
    `sample` is None for counters, which are of all samples at once, `step` None for what is compared at the end. Where
    one run went on for longer, `step` is the first that the other has not, and the values are the numbers of steps.
    """

    between: str
    layer: str
    sample: int | None
    step: int | None
    neuron: tuple[int, ...]
    expected: int
    found: int

    def __str__(self) -> str:
        sample = "all samples" if self.sample is None else f"sample {self.sample}"
        step = "at the end" if self.step is None else f"step {self.step}"
        neuron = f", neuron {self.neuron}" if self.neuron else ""
        return f"{self.between}: {self.layer}, {sample}, {step}{neuron}: {self.expected} against {self.found}"


@dataclass
class Verification:
    """Outcome of `verify`.

    `compared` integers were compared. `path_mismatches` differ between the execution paths, `ann_mismatches` between
    the settled network and the integer ANN (`layers` and `neurons`: of how many, by layer), `due_mismatches` of the
    latter where equality is due: the conditions of the theorem hold, in the batch nothing overflowed and all came to
    rest. `due` says whether equality with the ANN is due everywhere, `reasons` why not. `first` is the first difference
    that counts, `first_ann` the first one from the ANN, due or not.
    """

    samples: int = 0
    reference_samples: int = 0
    compared: int = 0
    path_mismatches: int = 0
    ann_mismatches: int = 0
    due_mismatches: int = 0
    due: bool = True
    reasons: list[str] = field(default_factory=list)
    layers: dict[str, int] = field(default_factory=dict)
    neurons: dict[str, int] = field(default_factory=dict)
    first: Difference | None = None
    first_ann: Difference | None = None
    settled: bool = True
    extra_steps: int = 0
    overflows: int = 0
    paths: tuple[str, ...] = ()
    ann_agreement: int = 0

    @property
    def mismatches(self) -> int:
        """Differences where equality is due."""
        return self.path_mismatches + self.due_mismatches

    @property
    def ok(self) -> bool:
        """Whether everything that must be equal is."""
        return self.mismatches == 0


def _part(inputs, start: int, stop: int, samples_axis: int):
    """Samples ``start..stop`` of arrays or events."""
    if isinstance(inputs, Events):
        chosen = (inputs.sample >= start) & (inputs.sample < stop)
        return Events(
            inputs.step[chosen], inputs.sample[chosen] - start, inputs.index[chosen], inputs.steps, stop - start,
            cast(np.ndarray, inputs.value)[chosen],
        )  # fmt: skip
    return inputs[start:stop] if samples_axis == 0 else inputs[:, start:stop]


@dataclass(frozen=True)
class _Quantity:
    """Integers of a run that can be compared: `layer` names them, `axes` says what the first axes are."""

    layer: str
    values: np.ndarray
    axes: str  # "steps": (T, B, ...); "samples": (B, ...); "all": of all samples

    def difference(self, other: _Quantity, between: str, start: int) -> tuple[int, Difference | None]:
        """How many values differ in `other`, and the first one by sample, then step, then neuron."""
        expected, found = self.values, other.values
        longer = 0
        if self.axes == "steps" and len(expected) != len(found):  # one went on for longer
            longer = max(expected.size, found.size) - min(expected.size, found.size)
            steps = len(expected), len(found)
            expected, found = expected[: min(steps)], found[: min(steps)]
        differ = expected != found
        count = int(np.sum(differ))
        if not count and not longer:
            return 0, None
        if not count:
            return longer, Difference(between, self.layer, start, min(steps), (), *steps)
        if self.axes == "steps":
            differ = np.swapaxes(differ, 0, 1)
        at = [int(i) for i in np.argwhere(differ)[0]]
        sample, step, neuron = None, None, at
        if self.axes != "all":
            sample, *neuron = at
        if self.axes == "steps":
            step, *neuron = neuron
            at[:2] = at[1::-1]
        place = None if sample is None else start + sample
        values = int(expected[tuple(at)]), int(found[tuple(at)])
        return count + longer, Difference(between, self.layer, place, step, tuple(neuron), *values)


def _everything(network, result: Result) -> list[_Quantity]:
    """All that a run can be compared by, in the order of the layers."""
    found = []
    for name in network.order:
        for where, axes in ((result.records, "steps"), (result.final, "samples")):
            found += [_Quantity(key, where[key], axes) for key in where if key.rpartition(".")[0] == name]
        if name in result.layers:
            report = result.layers[name]
            found += [_Quantity(f"{name}.{word}", np.array(getattr(report, word)), "all") for word in COUNTERS]
    return [*found, *_results(result)]


def _results(result) -> list[_Quantity]:
    """What a run without records has too."""
    settled = -1 if result.settled is None else int(result.settled)
    return [
        _Quantity("outputs", result.outputs, "samples"),
        _Quantity("predictions", result.predictions, "samples"),
        _Quantity("extra steps", result.extra_steps, "samples"),
        _Quantity("settled", np.array(settled), "all"),
    ]


def _compare_paths(outcome: Verification, baseline: list[_Quantity], other: list[_Quantity], path: str, start: int):
    """Two paths on the samples from `start` on: every difference counts."""
    for expected, found in zip(baseline, other, strict=True):
        outcome.compared += expected.values.size
        count, first = expected.difference(found, f"{outcome.paths[0]} path against {path}", start)
        outcome.path_mismatches += count
        outcome.first = outcome.first or first


def _compare_anns(outcome: Verification, ann: AnnResult, other: AnnResult, start: int) -> None:
    """The integer ANN of the count path against that of the layers: every difference counts."""
    pairs = [(f"{name}.counts", levels, other.levels[name]) for name, levels in ann.levels.items()]
    for key, found, expected in [*pairs, ("outputs", ann.outputs, other.outputs)]:
        outcome.compared += expected.size
        count, first = _Quantity(key, expected, "samples").difference(_Quantity(key, found, "samples"), ANNS, start)
        outcome.path_mismatches += count
        outcome.first = outcome.first or first


def _compare_ann(outcome: Verification, ann: AnnResult, start: int, baseline: Result, due: bool):
    """Levels, outputs and predictions of the integer ANN against the settled network; first of those that are `due`."""
    same = ann.predictions == baseline.predictions
    outcome.ann_agreement += int(same.all(axis=tuple(range(1, same.ndim))).sum())  # of maps: every pixel
    pairs = [(f"{name}.counts", levels, baseline.final[f"{name}.counts"]) for name, levels in ann.levels.items()]
    pairs += [("outputs", ann.outputs, baseline.outputs), ("predictions", ann.predictions, baseline.predictions)]
    first_due = None
    for key, expected, found in pairs:
        outcome.compared += expected.size
        count, first = _Quantity(key, expected, "samples").difference(_Quantity(key, found, "samples"), ANN, start)
        name = key.removesuffix(".counts")
        for tally, size in ((outcome.neurons, expected.size), (outcome.layers, count)):
            tally[name] = tally.get(name, 0) + size
        outcome.ann_mismatches += count
        outcome.first_ann = outcome.first_ann or first
        if due:
            outcome.due_mismatches += count
            first_due = first_due or first
    return first_due


def _conclude(outcome: Verification, conditions: bool, has_ann: bool) -> None:
    """Whether equality with the ANN is due, and why not."""
    if conditions and outcome.overflows:
        outcome.reasons.append(f"{outcome.overflows} overflows were seen")
    if conditions and not outcome.settled:
        outcome.reasons.append("not every sample came to rest")
    outcome.due = has_ann and not outcome.reasons
    if not outcome.layers.get("predictions"):  # they have a number of their own
        outcome.layers.pop("predictions", None), outcome.neurons.pop("predictions", None)


def _samples(network, inputs) -> tuple[Any, int, int]:
    """Inputs as arrays or events, the axis of their samples, and how many there are."""
    if isinstance(inputs, Events):
        return inputs, 0, inputs.samples
    inputs = array_of(inputs, "inputs")
    if inputs.ndim < 2:
        raise ShapeError(f"inputs: found {shown(inputs)}; samples (B, ...) or frames (T, B, ...) are needed")
    axis = 1 if inputs.ndim in (len(network.shapes[network.input_name]) + 2, 5) else 0
    return inputs, axis, inputs.shape[axis]


def _ann_of(outcome: Verification, network, one, steps: int | None, threads: int) -> AnnRunner | None:
    """The integer ANN, ready to run, or None; and why it need not be equal. `one`: a sample to try it on."""
    try:
        outcome.reasons = equality_conditions(network)
        count = prepare_ann(network, steps=steps, levels=True, threads=threads)
        count(one)
    except (UnsupportedError, RangeError) as error:
        outcome.reasons = [str(error)]
        return None
    return count


def verify(
    network,
    inputs,
    *,
    reference: int = 2,
    threads: int = 1,
    steps: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Compare every execution path and the integer ANN of `network` on `inputs` (as in `simulate`).

    Parameters
    ----------
    reference : int
        On how many of the first samples the plain reference (slow) runs too.
    threads : int
        Threads of the compiled paths.
    steps : int, optional
        Steps to observe, and to drive the network and its ANN, where neither network nor input say.
    progress : callable, optional
        Called with (samples done, samples in all).
    """
    spiking_network(network)
    reference = whole(reference, "reference", 0)
    threads = whole(threads, "threads", 1, MOST_THREADS)
    steps = whole_or_none(steps, "steps", 1, STEPS)
    function_or_none(progress, "progress")
    inputs, axis, total = _samples(network, inputs)
    outcome = Verification()
    count = _ann_of(outcome, network, _part(inputs, 0, 1, axis), steps, threads) if total else None
    has_ann = count is not None
    conditions = has_ann and not outcome.reasons
    settle = has_ann or network.settling_bound is not None
    paths: tuple[str, ...] = ("step",)
    quick: tuple[str, ...] = ()
    if total:
        paths, quick = paths_of(network, _part(inputs, 0, 1, axis), steps=steps, settle=settle)
        paths = paths[:-1]  # the reference takes its turn on the first samples
    outcome.paths = (*paths, *quick, "reference")
    sizes = sum(int(np.prod(network.shapes[name])) for name in network.spiking)
    length = (network.t_drive or steps or 16) + 4
    batch = max(1, min(BATCH, RECORD_BYTES // max(1, sizes * length * 2)))
    options: dict[str, Any] = {"settle": settle, "steps": steps, "keep_final": True, "threads": threads}
    options["batch_size"] = max(1, batch // threads)
    first_due, done = None, 0
    while done < total:
        stop = min(done + batch, total)
        if done < reference:  # the first samples in a batch of their own
            stop = min(reference, stop)
        part = _part(inputs, done, stop, axis)
        options["record"] = ("spikes", "v", "u") if done < reference else ("spikes",)
        baseline = simulate(network, part, path=paths[0], **options)
        everything = _everything(network, baseline)
        for path in (*paths[1:], *(("reference",) if done < reference else ())):
            other = _everything(network, simulate(network, part, path=path, **options))
            _compare_paths(outcome, everything, other, path, done)
        if done < reference:
            outcome.reference_samples = stop
        for path in quick:
            given = simulate(network, part, path=path, settle=settle, steps=steps, threads=threads)
            _compare_paths(outcome, _results(baseline), _results(given), path, done)
        if count is not None:
            due = conditions and baseline.settled is not False and not baseline.overflows
            ann = count(part)
            if done < reference:
                _compare_anns(outcome, ann, integer_ann(network, part, steps=steps, path="step"), done)
            found = _compare_ann(outcome, ann, done, baseline, due)
            first_due = first_due or found
        outcome.overflows += baseline.overflows
        outcome.settled &= baseline.settled is not False
        outcome.extra_steps = max(outcome.extra_steps, int(baseline.extra_steps.max(initial=0)))
        done = stop
        if progress is not None:
            progress(done, total)
    outcome.samples = total
    _conclude(outcome, conditions, has_ann)
    outcome.first = outcome.first or first_due
    return outcome
