"""``intsnn run``: a spiking network on data."""

from __future__ import annotations

import re
from typing import Any

import click

from ...errors import FormatError
from ..common import (
    DATA_HELP,
    USAGE,
    Failure,
    check_output,
    cores,
    file_of,
    finish,
    json_option,
    network_or_learned,
    only_integers,
    options_checked,
    read_inputs,
    run_values,
    threads_option,
    trust_option,
)

__all__ = ["command"]

FOR_NETWORKS = ("settle", "strict", "record", "length", "what", "path_", "batch_size", "in_steps", "checked")
QUANTITIES = ("spikes", "counts", "v", "u", "current")


@click.command("run")
@click.argument("net")
@click.option("--data", required=True, metavar="DATA", help=f"{DATA_HELP} Or event data.")
@click.option("--steps", type=click.IntRange(min=1), metavar="T", help="Steps to observe; default T_drive.")
@click.option("--settle/--no-settle", default=None, help="Go on until quiet; default for converted networks.")
@click.option("--strict", is_flag=True, help="Any overflow is an error.")
@click.option("--record", metavar="FILE", help="Write what every layer did in every step to this HDF5 file.")
@click.option("--length", type=click.Choice(["ragged", "equal"]), default="ragged", show_default=True,
              help="In that file: of each sample its own steps, or of all as many as the longest has.")  # fmt: skip
@click.option("--what", default="spikes,v", show_default=True, metavar="LIST", help=f"Of {', '.join(QUANTITIES)}.")
@click.option(
    "--path", "path_", type=click.Choice(["auto", "layer", "step", "reference"]), default="auto", show_default=True
)
@click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Samples at a time. Never changes a bit.")
@click.option("--simulate", "in_steps", is_flag=True,
              help="All samples in steps, even where the equality theorem gives the answers.")  # fmt: skip
@click.option("--checked", type=click.IntRange(min=0), metavar="N",
              help="Where it does: how many samples are simulated in steps and compared; default 100.")  # fmt: skip
@trust_option
@threads_option
@json_option
def command(
    net: str, data: str, steps: int | None, settle: bool | None, strict: bool, record: str | None, length: str,
    what: str, path_: str, batch_size: int | None, in_steps: bool, checked: int | None, trust: bool,
    threads: int | None, json_path: str | None,
) -> None:  # fmt: skip
    """Run a spiking network NET on DATA.

    A settling run finishes the drive of T_drive steps and goes on until no neuron fires, whatever T is; --no-settle
    observes T steps and no more. Where it is proven that at rest NET equals its integer ANN, that one answers, and 100
    samples are simulated in steps and compared: spikes, steps and sums are those of these samples.

    NET may also be what intsnn train learned with integers: DATA are then made into sequences as the recipe says, and
    tested as at the end of the training.
    """
    import time
    from dataclasses import asdict

    from ...conversion.pipeline import aim
    from ..console import Console

    quantities = tuple(word.strip() for word in what.split(","))
    if not all(word.rpartition(".")[2] in QUANTITIES for word in quantities):
        raise Failure(f"--what: found {what!r}; a list of {', '.join(QUANTITIES)}, or of layer.quantity", USAGE)
    check_output(record, net)
    check_output(json_path, net, record)
    network, taught = network_or_learned(net, trust)
    console = Console(json_path)
    if taught is not None:
        _refuse_options_of_networks(net)
        _run_learned(net, taught, data, steps, threads or cores(), console)
        return
    network = only_integers(network, net)
    dataset = read_inputs(network, data)
    judged = aim(network, dataset)
    learned = _learned_from(net, trust)
    settle = network.levels is not None if settle is None else settle
    start = time.perf_counter()
    options = {
        "steps": steps, "settle": settle, "record": quantities if record else (), "record_to": record,
        "record_labels": dataset.labels if record else None, "record_length": length, "strict": strict,
        "batch_size": batch_size, "path": path_,
    }  # fmt: skip
    plain = settle and steps is None and batch_size is None and path_ == "auto" and not (record or in_steps)
    with options_checked(), console.progress("simulate") as progress:
        answers, result = _answers(network, dataset.images, plain, checked, threads or cores(), progress, options)
    seconds = time.perf_counter() - start
    correct, outcome = _judge(console, network, dataset, judged, answers or result)
    if answers is not None:
        _show_theorem(console, answers)
    for note in _notes(judged.note, learned, dataset, outcome.get("mean_iou")):
        console.line(note)
    _show_steps(console, result, settle, steps)
    _show_layers(console, network, result)
    if record:
        console.line(f"\nrecorded {what} to {record}")
    console.line(f"{seconds:.2f} s")
    finish(
        console,
        {
            "network": net,
            "data": dataset.name,
            "accuracy": outcome.pop("accuracy", None),
            "judged_by": judged.kind,
            "decision": judged.decision,
            "learned_from": learned,
            **outcome,
            **run_values(result, correct),
            **_how(answers, result),
            "seconds": seconds,
            "threads": threads or cores(),
            "path": path_,
            "record": record,
            "layers": [asdict(layer) | {"overflows": layer.overflows} for layer in result.layers.values()],
        },
    )


def _answers(
    network, images, plain: bool, checked: int | None, threads: int, progress, options: dict[str, Any]
) -> tuple[Any, Any]:
    """What the theorem answers of all samples, or None; and the run of those that are simulated in steps.

    `plain`: nothing is asked for that only steps give.
    """
    from ...engine.settled import settle, unproven
    from ...engine.simulation import simulate

    reasons = unproven(network, images) if plain else ["with these options all samples run in steps"]
    if not reasons:
        answers = settle(network, images, checked=checked, threads=threads, progress=progress)
        return answers, answers.simulated
    if checked is not None:
        raise FormatError(f"--checked: equality with the integer ANN cannot be used: {'; '.join(reasons)}")
    return None, simulate(network, images, threads=threads, progress=progress, **options)


def _notes(judged: str, learned: str | None, dataset, mean_iou: float | None) -> list[str]:
    """What has to be said beside the figure."""
    from ..console import percent

    notes = [f"({judged})"] if judged else []
    if _same_data(learned, dataset.name):
        notes.append(f"(no unseen data: the network was calibrated or trained on {learned})")
    if mean_iou is not None:
        notes.append(f"mean intersection over union of {len(dataset.classes)} classes: {percent(mean_iou)}")
    return notes


def _show_theorem(console, answers) -> None:
    from ..console import number

    simulated, compared = number(answers.simulated.samples), number(answers.compared)
    console.line(
        f"settled answers by the equality theorem; {simulated} samples simulated step by step: 0 differ ({compared} "
        "integers, and a difference ends the run; --simulate: all in steps)"
    )


def _how(answers, result) -> dict[str, Any]:
    """Plain values of how the answers came about, and of how many samples they are."""
    if answers is None:
        return {"how": {"answers": "steps", "simulated": result.samples}}
    how = {"answers": "theorem", "simulated": result.samples, "compared": answers.compared}
    return {"samples": answers.samples, "how": how}


def _refuse_options_of_networks(net: str) -> None:
    """What was learned with integers takes --steps and --threads, and none of the other options of a run."""
    ctx = click.get_current_context()
    given = [p.opts[0] for p in ctx.command.params if p.name in FOR_NETWORKS and _given(ctx, p.name)]
    if given:
        raise Failure(f"{', '.join(given)}: {net} was learned with integers; --steps and --threads are for it", USAGE)


def _judge(console, network, dataset, judged, result) -> tuple[int | None, dict]:
    """Say how good the outputs are: how many samples are right, and the plain values of that.

    ``accuracy`` and ``mean_iou`` where the labels are outputs, ``target_error`` where there is a target.
    """
    from ...analysis.scores import accuracy as accuracy_of
    from ...analysis.scores import mean_iou
    from ..console import number, percent

    if judged.kind != "classes":
        labels = "samples without labels" if dataset.labels is None else "samples, whose labels are no outputs"
        console.line(f"{dataset.name}: {number(result.samples)} {labels}")
        error = _show_error(console, network, dataset, judged, result)
        return None, {} if error is None else {"target_error": error.values()}
    found = {"accuracy": accuracy_of(result.predictions, dataset.labels)}
    correct = int((result.predictions == dataset.labels).sum())
    pixels = ""
    if dataset.labels.ndim == 3:
        found["mean_iou"] = mean_iou(result.predictions, dataset.labels, len(dataset.classes))
        pixels = " pixels"
    of = f"{number(dataset.labels.size)}{pixels}"
    console.line(f"{dataset.name}: {percent(found['accuracy'])} ({number(correct)} of {of} right)")
    return correct, found


def _show_steps(console, result, settle: bool, steps: int | None) -> None:
    from ..console import number

    extra = int(result.extra_steps.max(initial=0))
    rest = "" if result.settled is None else "; settled" if result.settled else "; NOT settled at the bound"
    console.line(f"{result.steps} steps, {extra} of them after the drive{rest}")
    if settle and steps is not None and result.steps > steps:
        console.line(f"(a settling run goes on after step {steps}; --no-settle stops there)")
    console.line(f"{result.spikes_per_neuron:.3f} spikes per neuron and sample, {number(result.overflows)} overflows")


def _show_layers(console, network, result) -> None:
    rows = [
        (
            layer.name, layer.neurons, round(layer.spikes / max(1, layer.neurons * result.samples), 3), layer.peak_sum,
            layer.peak_v, network.nodes[layer.name].v_format.bits, layer.dead, layer.always_on, layer.overflows,
        )
        for layer in result.layers.values()
    ]  # fmt: skip
    columns = ("layer", "neurons", "spikes", "peak |sum|", "peak |v|", "v bits", "dead", "always on", "overflows")
    console.table("Layers (spikes: per neuron and sample)", columns, rows)


def _show_error(console, network, dataset, judged, result):
    """Distance of the outputs from their targets in real units, or None where there is no target or no unit."""
    from ...analysis.scores import output_error
    from ...conversion.pipeline import wanted
    from ...network.quantised import InputScale

    unit, scale = network.metadata.get("readout_unit"), network.metadata.get("input_scale")
    if judged.kind == "nothing":
        return None
    if not isinstance(unit, float) or not isinstance(scale, str):
        console.line("(no error of its outputs: the file does not say what one unit of them is worth)")
        return None
    target = wanted(judged, dataset, InputScale.parse(scale).apply(dataset.images))
    if target is None:
        return None
    error = output_error(result.outputs * unit, target)
    console.line(
        f"error of the outputs in real units: mean |error| {error.mean_absolute:.6g}, RMS {error.rms:.6g}, largest "
        f"{error.largest:.6g}"
    )
    return error


def _learned_from(net: str, trust: bool) -> str | None:
    """The data that the file names as those of its calibration, or of its training."""
    from ...files.network_file import read_info

    provenance = read_info(file_of(net), trust=trust).provenance
    found = provenance.get("calibrated_on") or provenance.get("data")
    return found if isinstance(found, str) else None


def _same_data(one: str | None, other: str) -> bool:
    """Whether two names stand for one part of one set, of whatever number of samples."""
    return one is not None and re.sub(r":[0-9]+$", "", one) == re.sub(r":[0-9]+$", "", other)


def _given(ctx: click.Context, name: str | None) -> bool:
    return name is not None and ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _run_learned(net: str, taught, data: str, steps: int | None, threads: int, console) -> None:
    """Test what was learned with integers."""
    import time

    from ..console import number, percent

    start = time.perf_counter()
    with options_checked():
        found = taught.test(data, steps, threads)
    accuracies, correct = found.accuracies, found.right[-1]
    console.line(f"{found.data}: {percent(accuracies[-1])} ({number(correct)} of {number(found.samples)} right)")
    if len(accuracies) > 1:
        console.line("by the readout of each layer: " + ", ".join(percent(value) for value in accuracies))
    console.line(f"{found.steps} steps of each sequence")
    before = taught.facts.get("accuracy")
    if before is not None and taught.facts.get("test") == found.data:
        console.line(f"after its training it had {percent(float(before))} of the same data")
    seconds = time.perf_counter() - start
    console.line(f"{seconds:.2f} s")
    finish(
        console,
        {
            "network": net, "data": found.data, "accuracy": accuracies[-1], "accuracies": accuracies,
            "samples": found.samples, "correct": correct, "steps": found.steps, "seconds": seconds, "threads": threads,
            "weights_sha256": taught.facts.get("weights_sha256"),
        },
    )  # fmt: skip
