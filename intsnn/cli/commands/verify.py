"""``intsnn verify``: do all paths and the integer ANN agree?"""

from __future__ import annotations

import click

from ..common import (
    DATA_HELP,
    MISMATCH,
    Failure,
    check_output,
    cores,
    finish,
    integer_network,
    json_option,
    options_checked,
    read_data,
    threads_option,
    trust_option,
)

__all__ = ["command"]


@click.command("verify")
@click.argument("net")
@click.option("--data", required=True, metavar="DATA", help=DATA_HELP)
@click.option("--reference", type=click.IntRange(min=0), default=2, show_default=True, metavar="N",
              help="On how many samples the plain reference (slow) runs.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), metavar="T", help="Where the network does not say.")
@trust_option
@threads_option
@json_option
def command(
    net: str, data: str, reference: int, steps: int | None, trust: bool, threads: int | None, json_path: str | None
) -> None:
    """Compare all paths of NET and its ANN on DATA.

    Every compiled path and the integer ANN run on all DATA, the plain reference on the first samples. Exit status 0
    if all are equal where equality is due, else 4. Converted networks with the default neuron equal their ANN in every
    neuron; for the published variants the mismatch is shown and is no failure.
    """
    import time

    from ...analysis.verification import verify as verify_network
    from ...conversion.pipeline import check_fit
    from ..console import Console
    from ..tables import show_verification, verification_values

    check_output(json_path, net)
    network = integer_network(net, trust)
    dataset = read_data(data)
    check_fit(network, dataset)
    console = Console(json_path)
    start = time.perf_counter()
    with options_checked(), console.progress("verify") as progress:
        outcome = verify_network(
            network, dataset.images, reference=reference, threads=threads or cores(), steps=steps, progress=progress
        )
    values = {"network": net, "data": dataset.name} | verification_values(outcome, time.perf_counter() - start)
    show_verification(console, outcome)
    finish(console, values)
    if not outcome.ok:
        raise Failure(f"{net} on {dataset.name}: {outcome.mismatches} mismatches; first: {outcome.first}", MISMATCH)
