"""``intsnn demo``: the main job on real digits that come with intsnn."""

from __future__ import annotations

import os

import click

from ..common import (
    MISMATCH,
    Failure,
    check_output,
    cores,
    finish,
    json_option,
    run_values,
    sha256,
    threads_option,
    writing,
)

__all__ = ["command"]

DEMO_BITS = 4  # of weights and activations


@click.command("demo")
@click.option("-o", "--output", metavar="NET.h5", help="Keep the converted network here.")
@threads_option
@json_option
def command(output: str | None, threads: int | None, json_path: str | None) -> None:
    """Convert, run and verify on real digits.

    A small Keras network and the UCI handwritten digits come with intsnn; nothing else is needed.
    """
    import tempfile

    check_output(output)
    check_output(json_path, output)
    if output is not None:
        _demo(output, threads or cores(), json_path, kept=True)
        return
    with tempfile.TemporaryDirectory(prefix="intsnn-") as folder:
        _demo(os.path.join(folder, "digits.h5"), threads or cores(), json_path, kept=False)


def _demo(output: str, threads: int, json_path: str | None, kept: bool) -> None:
    import time

    from ...analysis.description import describe
    from ...analysis.verification import verify as verify_network
    from ...datasets import catalogue as datasets
    from ...engine.simulation import simulate
    from ...files import network_file as files
    from ...models import digits
    from ...models.keras import load as keras
    from ..console import Console, size
    from ..tables import show_stages, show_verification, stages_values, verification_values

    start = time.perf_counter()
    console = Console(json_path)
    source = digits.network_file()
    trained = keras.load(source)
    learn, test = datasets.load("digits:train"), datasets.load("digits:test")
    console.line(
        f"A trained Keras network in integers: weights and activations of {DEMO_BITS} bits, {len(test)} real digits"
    )
    found = _converted(console, source, trained, (learn, test), output, threads)
    network = files.load(output)  # from here on, what is in the file
    show_stages(console, test.name, found.stages)
    result = simulate(network, test.images, settle=True, threads=threads)
    correct = int((result.predictions == test.labels).sum())
    extra = int(result.extra_steps.max(initial=0))
    before, totals = describe(trained).totals, describe(network).totals
    _show_memory(console, before, totals)
    console.line()
    console.line(
        f"run: {correct} of {result.samples} right in {result.steps} steps ({extra} after the drive), "
        f"{result.spikes_per_neuron:.2f} spikes per neuron, {result.overflows} overflows"
    )
    with console.progress("verify") as progress:
        outcome = verify_network(network, test.images, reference=2, threads=threads, progress=progress)
    show_verification(console, outcome)
    seconds = time.perf_counter() - start
    if kept:
        console.line(f"written {output}, {size(os.path.getsize(output))}")
    console.line(f"{seconds:.1f} s")
    finish(
        console,
        {
            "output": output if kept else None,
            "accuracy": 100.0 * correct / result.samples,
            "float_accuracy": found.stages[0].accuracy,
            **run_values(result, correct),
            "stages": stages_values(found.stages),
            "memory": {"float": before, "integer": totals},
            "verify": verification_values(outcome, seconds),
            "compared": outcome.compared,
            "mismatches": outcome.mismatches,
            "seconds": seconds,
        },
    )
    if not outcome.ok:
        raise Failure(f"{outcome.mismatches} mismatches; first: {outcome.first}", MISMATCH)


def _converted(console, source, trained, data, output: str, threads: int):
    """Convert the Keras network by (calibration, test) data and write it to `output`."""
    from ...conversion.pipeline import convert_float
    from ...conversion.spikes import NeuronRule
    from ...files import network_file as files
    from ..tables import stages_values

    learn, test = data
    with console.progress("convert") as progress:
        found = convert_float(
            trained, learn, evaluation=test, rule=NeuronRule(), weight_bits=DEMO_BITS, activation_bits=DEMO_BITS,
            threads=threads, progress=progress,
        )  # fmt: skip
    provenance = {
        "source": source.name,
        "source_sha256": sha256(os.fspath(source)),
        "calibrated_on": learn.name,
        "input_scale": str(found.quantised.input_scale),
        "settings": {"method": "fast-snn", "weights": DEMO_BITS, "activations": DEMO_BITS},
        "evaluated_on": test.name,
        "stages": stages_values(found.stages),
    }
    with writing(output):
        files.save(found.network, output, provenance=provenance)
    return found


def _show_memory(console, before: dict, totals: dict) -> None:
    """Bytes of the network in float32 and in integers."""
    rows: list[tuple] = [
        (what, before[key], totals[key], f"{before[key] / totals[key]:.1f} x")
        for what, key in (("weights, packed", "weight_bytes"), ("with biases and thresholds", "bytes"))
    ]
    rows.append(("membranes of one sample", None, totals["membrane_bytes"], None))
    console.table("Memory in bytes", ("what", "float32", "integers", "smaller"), rows)
