"""What do conversion and verification say: as tables for people, as plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from ..analysis.description import span, span_text
from ..analysis.scores import OutputError
from ..analysis.verification import Verification
from ..conversion.pipeline import Stage
from ..conversion.spikes import Conversion
from .console import Console, number, percent, points

__all__ = [
    "layer_rows",
    "show_layers",
    "show_stages",
    "show_verification",
    "stages_values",
    "verification_values",
]


def show_stages(console: Console, on: str, stages: Sequence[Stage]) -> None:
    """Table of accuracies and losses `on` some data, or of errors of outputs."""
    if stages[0].error is None:
        rows = [(stage.name, percent(stage.accuracy), points(stage.loss)) for stage in stages]
        console.table(f"Accuracy on {on}", ("stage", "accuracy", "lost"), rows)
        return
    errors = [(stage.name, *_error(stage.error), *_error(stage.target_error)) for stage in stages]
    columns = (
        "stage", "mean |error| to float", "RMS", "largest", "mean |error| to target", "RMS to target",
        "largest to target",
    )  # fmt: skip
    console.table(f"Error of the outputs, in real units, on {on}", columns, errors)


def _error(found: OutputError | None) -> tuple[str | None, ...]:
    return (None,) * 3 if found is None else tuple(f"{value:.6g}" for value in found.values().values())


def stages_values(stages: Iterable[Stage]) -> list[dict]:
    """Stages as plain values; errors where outputs are no classes."""
    rows = []
    for stage in stages:
        row: dict = {"name": stage.name, "accuracy": stage.accuracy, "loss": stage.loss}
        for name, error in (("error", stage.error), ("target_error", stage.target_error)):
            row |= {} if error is None else {name: error.values()}
        rows.append(row)
    return rows


def layer_rows(conversion: Conversion, zeroed: dict[str, int], clipped: dict[str, int]) -> list[dict]:
    """One entry for each layer with weights or neurons."""
    rows = []
    network = conversion.network
    for name in network.order:
        layer, found = network.nodes[name], dict(conversion.layers.get(name, {}))
        if layer.weighted:
            found |= {"weights": layer.weight.size, "format": str(layer.weight_format)}
            found |= {"zeroed": zeroed.get(name), "clipped": clipped.get(name)}
            found |= {"dead": conversion.dead.get(name, 0), "coarsened": conversion.coarsened.get(name, 0)}
        elif name in network.neurons:
            found["threshold"] = span(layer.threshold)
        if found:
            rows.append({"name": name, "kind": type(layer).__name__, **found})
    return rows


def show_layers(console: Console, rows: list[dict]) -> None:
    """Table of what `layer_rows` found."""
    columns = ("layer", "weights", "count", "zeroed", "clipped", "r", "theta", "membrane bits", "moved levels")
    keys = ("name", "format", "weights", "zeroed", "clipped", "shift", "threshold", "membrane_bits")
    cells = [
        (*(span_text(row[key]) if isinstance(row.get(key), dict) else row.get(key) for key in keys), _moved(row))
        for row in rows
    ]
    console.table("Layers", columns, cells)
    for key, text in (
        ("dead", "output channels that cannot move a level, their weights now zero"),
        ("coarsened", "bits by which codes are shorter, so that thresholds fit"),
    ):
        counted = [f"{row['name']} {number(row[key])}" for row in rows if row.get(key)]
        if counted:
            console.line(f"{text}: {', '.join(counted)}")


def _moved(row: dict) -> str | None:
    """Levels of a layer that rounding moved."""
    return f"{row['moved_levels']} of {row['levels']}" if "moved_levels" in row else None


def verification_values(outcome: Verification, seconds: float) -> dict:
    """A `Verification` as plain values."""
    first = outcome.first or outcome.first_ann
    return {
        "compared": outcome.compared,
        "mismatches": outcome.mismatches,
        "reference_samples": outcome.reference_samples,
        "samples": outcome.samples,
        "ok": outcome.ok,
        "due": outcome.due,
        "reasons": outcome.reasons,
        "path_mismatches": outcome.path_mismatches,
        "ann_mismatches": outcome.ann_mismatches,
        "ann_agreement": outcome.ann_agreement,
        "layers": outcome.layers,
        "neurons": outcome.neurons,
        "first": None if first is None else asdict(first) | {"text": str(first)},
        "paths": list(outcome.paths),
        "settled": outcome.settled,
        "extra_steps": outcome.extra_steps,
        "overflows": outcome.overflows,
        "seconds": seconds,
    }


def show_verification(console: Console, outcome: Verification) -> None:
    """What was compared, what differs, and whether that is as it must be."""
    paths = ", ".join(path for path in outcome.paths if path != "reference")
    console.line(
        f"{number(outcome.samples)} samples: paths {paths} on all, the plain reference on the first "
        f"{number(outcome.reference_samples)}; {number(outcome.compared)} integers compared"
    )
    console.line(f"between the paths: {number(outcome.path_mismatches)} mismatches")
    if outcome.neurons:
        rest = "settled" if outcome.settled else "not at rest at the bound"
        console.line(
            f"network ({rest}) against the integer ANN: {number(outcome.ann_mismatches)} of "
            f"{number(sum(outcome.neurons.values()))} values differ, {number(outcome.ann_agreement)} of "
            f"{number(outcome.samples)} predictions agree"
        )
        if outcome.ann_mismatches:
            rows = [
                (name, outcome.neurons[name], count, f"{100 * count / outcome.neurons[name]:.4f} %")
                for name, count in outcome.layers.items()
            ]
            console.table("Mismatch against the integer ANN", ("layer", "values", "differ", "share"), rows)
    if not outcome.due:
        console.line(f"equality with the integer ANN is not due: {'; '.join(outcome.reasons)}")
    first = outcome.first or outcome.first_ann
    if first is not None:
        console.line(f"first difference: {first}")
    console.line("equal wherever equality is due" if outcome.ok else "NOT EQUAL")
