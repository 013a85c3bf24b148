"""Is it equal? Every compiled path, the plain reference and the integer quantised ANN on the same data.

The compiled paths must agree in every spike of every step and in the final counts and membranes on all samples; on the
first few the plain reference joins them, and every membrane of every step is compared too. The fused path, which keeps
no records, must give the same outputs and extra steps. The settled network must equal the integer ANN in every neuron
wherever the conditions of the theorem hold (`intsnn.ann.equality_conditions`); elsewhere the mismatch is a result, not
a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from .ann import equality_conditions, integer_ann
from .arguments import STEPS, array_of, function_or_none, shown, whole, whole_or_none
from .errors import ShapeError, UnsupportedError
from .inputs import Events
from .network import spiking_network
from .runner import prepare
from .simulate import MOST_THREADS, Result, simulate

__all__ = ["Difference", "Verification", "verify"]

BATCH = 64
RECORD_BYTES = 256 << 20  # of spikes and membranes held at a time


@dataclass(frozen=True)
class Difference:
    """The first place where two computations differ."""

    between: str
    layer: str
    sample: int
    step: int | None
    neuron: tuple[int, ...]
    expected: int
    found: int

    def __str__(self) -> str:
        step = "at the end" if self.step is None else f"step {self.step}"
        return (
            f"{self.between}: {self.layer}, sample {self.sample}, {step}, neuron {self.neuron}: "
            f"{self.expected} against {self.found}"
        )


@dataclass
class Verification:
    """Outcome of `verify`.

    `compared` integers were compared, `mismatches` of them differ where equality is due (`path_mismatches` between
    the execution paths, `ann_mismatches` neurons between the settled network and the integer ANN). `layers` and
    `neurons` give the latter and the number of neurons by layer. `due` says whether equality with the ANN is due,
    `reasons` why not. `first` is the first difference that counts.
    """

    samples: int = 0
    reference_samples: int = 0
    compared: int = 0
    path_mismatches: int = 0
    ann_mismatches: int = 0
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
        return self.path_mismatches + (self.ann_mismatches if self.due else 0)

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


def _first_difference(between: str, key: str, expected, found, start: int, final: bool) -> Difference:
    """Where two arrays ``(T, B, *shape)`` or ``(B, *shape)`` differ first: by sample, then step, then neuron."""
    if key == "outputs" or final:
        at = np.argwhere(expected != found)[0]
        sample, step, neuron = int(at[0]), None, tuple(int(i) for i in at[1:])
    else:
        steps = min(len(expected), len(found))
        different = np.argwhere(np.swapaxes(expected[:steps] != found[:steps], 0, 1))
        if not len(different):  # one simply went on for longer
            return Difference(between, key, start, steps, (), len(expected), len(found))
        at = different[0]
        sample, step, neuron = int(at[0]), int(at[1]), tuple(int(i) for i in at[2:])
        at = (step, sample, *neuron)
    return Difference(between, key, start + sample, step, neuron, int(expected[tuple(at)]), int(found[tuple(at)]))


def _everything(result: Result) -> dict[str, np.ndarray]:
    """All that a run can be compared by."""
    final = {f"final {key}": values for key, values in result.final.items()}
    return {**result.records, **final, "outputs": result.outputs, "extra steps": result.extra_steps[None]}


def _compare_paths(outcome: Verification, network, part, start: int, options, baseline: Result, path: str) -> None:
    other = simulate(network, part, path=path, **options)
    expected, found = _everything(baseline), _everything(other)
    order = {name: i for i, name in enumerate(network.order)}
    for key in sorted(expected, key=lambda k: order.get(k.removeprefix("final ").rsplit(".", 1)[0], len(order))):
        a, b = expected[key], found[key]
        outcome.compared += a.size
        different = a.size if a.shape != b.shape else int((a != b).sum())
        if different:
            outcome.path_mismatches += different
            if outcome.first is None:
                outcome.first = _first_difference(
                    f"{outcome.paths[0]} path against {path}",
                    key.removeprefix("final "),
                    a,
                    b,
                    start,
                    key[:6] == "final ",
                )


def _prepared(network, settle: bool, steps: int | None, threads: int, part):
    """The fused path, or None where the network has none."""
    try:
        runner = prepare(network, settle=settle, steps=steps, threads=threads)
        runner(part)
    except UnsupportedError:
        return None
    return runner


def _compare_fused(outcome: Verification, runner, part, start: int, baseline: Result) -> None:
    """The fused path keeps no records: its outputs, sums over all spikes of the last layers, and its extra steps."""
    fused = runner(part)
    pairs = {"outputs": (baseline.outputs, fused.outputs), "extra steps": (baseline.extra_steps, fused.extra_steps)}
    for key, (a, b) in pairs.items():
        outcome.compared += a.size
        different = int((a != b).sum())
        outcome.path_mismatches += different
        if different and outcome.first is None:
            between = f"{outcome.paths[0]} path against fused"
            outcome.first = _first_difference(between, key, a, b, start, True)


def _compare_ann(outcome: Verification, network, part, start: int, baseline: Result) -> None:
    ann = integer_ann(network, part)
    same = ann.predictions == baseline.predictions
    outcome.ann_agreement += int(same.all(axis=tuple(range(1, same.ndim))).sum())  # of maps: every pixel
    for name, levels in ann.levels.items():
        counts = baseline.final[f"{name}.counts"]
        outcome.compared += levels.size
        outcome.neurons[name] = outcome.neurons.get(name, 0) + levels.size
        different = int((levels != counts).sum())
        outcome.layers[name] = outcome.layers.get(name, 0) + different
        outcome.ann_mismatches += different
        if different and outcome.first_ann is None:
            outcome.first_ann = _first_difference(
                "integer ANN against settled network", f"{name}.counts", levels, counts, start, True
            )
    outcome.compared += ann.outputs.size
    different = int((ann.outputs != baseline.outputs).sum())
    outcome.layers["outputs"] = outcome.layers.get("outputs", 0) + different
    outcome.neurons["outputs"] = outcome.neurons.get("outputs", 0) + ann.outputs.size
    outcome.ann_mismatches += different
    if different and outcome.first_ann is None:
        outcome.first_ann = _first_difference(
            "integer ANN against settled network", "outputs", ann.outputs, baseline.outputs, start, True
        )


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
        Steps to observe where the network does not say.
    progress : callable, optional
        Called with (samples done, samples in all).
    """
    spiking_network(network)
    reference = whole(reference, "reference", 0)
    threads = whole(threads, "threads", 1, MOST_THREADS)
    steps = whole_or_none(steps, "steps", 1, STEPS)
    function_or_none(progress, "progress")
    if not isinstance(inputs, Events):
        inputs = array_of(inputs, "inputs")
        if inputs.ndim < 2:
            raise ShapeError(f"inputs: found {shown(inputs)}; samples (B, ...) or frames (T, B, ...) are needed")
    outcome = Verification()
    rank = len(network.shapes[network.input_name])
    axis = 1 if not isinstance(inputs, Events) and np.ndim(inputs) in (rank + 2, 5) else 0
    total = inputs.samples if isinstance(inputs, Events) else np.shape(inputs)[axis]
    settle = network.settling_bound is not None
    try:
        outcome.reasons = equality_conditions(network)
        has_ann = settle and total > 0
        integer_ann(network, _part(inputs, 0, min(1, total), axis))
    except UnsupportedError as error:
        has_ann, outcome.reasons = False, [str(error)]
    outcome.due = has_ann and not outcome.reasons
    paths = ("step",) if network.recurrent else ("layer", "step")
    runner = _prepared(network, settle, steps, threads, _part(inputs, 0, min(1, total), axis)) if total else None
    outcome.paths = (*paths, *(("fused",) if runner else ()), "reference")
    sizes = sum(int(np.prod(network.shapes[name])) for name in network.spiking)
    length = (network.t_drive or steps or 16) + 4
    batch = max(1, min(BATCH, RECORD_BYTES // max(1, sizes * length * 2)))
    options: dict[str, Any] = {"settle": settle, "steps": steps, "keep_final": True, "threads": threads}
    options["batch_size"] = max(1, batch // threads)
    done = 0
    while done < total:
        stop = min(done + batch, total)
        if done < reference:  # the first samples in a batch of their own
            stop = min(reference, stop)
        part = _part(inputs, done, stop, axis)
        options["record"] = ("spikes", "v") if done < reference else ("spikes",)
        baseline = simulate(network, part, path=paths[0], **options)
        for path in paths[1:]:
            _compare_paths(outcome, network, part, done, options, baseline, path)
        if done < reference:
            _compare_paths(outcome, network, part, done, options, baseline, "reference")
            outcome.reference_samples = stop
        if runner is not None:
            _compare_fused(outcome, runner, part, done, baseline)
        if has_ann:
            _compare_ann(outcome, network, part, done, baseline)
        outcome.overflows += baseline.overflows
        outcome.settled &= baseline.settled is not False
        outcome.extra_steps = max(outcome.extra_steps, int(baseline.extra_steps.max(initial=0)))
        done = stop
        if progress is not None:
            progress(done, total)
    outcome.samples = total
    if outcome.due and outcome.overflows:
        outcome.due, outcome.reasons = False, [f"{outcome.overflows} overflows were seen"]
    if outcome.due and outcome.first is None:
        outcome.first = outcome.first_ann
    return outcome
