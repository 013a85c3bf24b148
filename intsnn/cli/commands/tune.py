"""``intsnn tune``: fine-tune a trained network layer by layer for T steps."""

from __future__ import annotations

import click

from ...errors import DataNotFoundError
from ..common import DATA_HELP, LEARN_HELP, check_output, finish, json_option, options_checked, overlap_option

__all__ = ["command"]


@click.command("tune")
@click.option("--recipe", required=True, metavar="NAME", help="What was trained; intsnn train --list shows all.")
@click.option("--checkpoint", required=True, metavar="FILE", help="Of the finished training: NET.h5.checkpoint.")
@click.option("-o", "--output", required=True, metavar="NET.h5", help="Where the network goes; for intsnn convert.")
@click.option("--data", metavar="DATA", help=f"The training data, where they were others. {LEARN_HELP}")
@click.option("--test", metavar="DATA", help=f"Other test data. {DATA_HELP}")
@overlap_option
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), metavar="N", help="Seed of the training, where another.")
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="As it was given to the training.")
@click.option("--tune-epochs", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
              help="For each layer.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), default=1e-3, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), metavar="T", help="To be right in T steps; default T_drive.")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Training samples that judge; default all.")
@click.option("--force", is_flag=True, help="Keep every layer, whatever the training accuracy says.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", default=1, show_default=True,
              help="As in the training.")  # fmt: skip
@json_option
def command(recipe: str, output: str, json_path: str | None, **settings) -> None:
    """Fine-tune a network layer by layer, for T steps.

    The algorithm of Fast-SNN: spikes give the values, the quantised ANN the gradients and targets; what does not raise
    the accuracy on the training data is rolled back.

    Example: intsnn tune --recipe digits-fast --checkpoint net.h5.checkpoint -o tuned.h5
    """
    from ..console import Console

    check_output(output, settings["checkpoint"])
    check_output(json_path, output)
    console = Console(json_path)
    try:
        from ...models.qat import work
    except ImportError as error:
        raise DataNotFoundError(
            f"fine-tuning needs {error.name}, which is not installed: pip install intsnn[qat]"
        ) from error
    with options_checked():
        values = work.fine_tune(recipe, settings | {"output": output}, console.line)
    finish(console, values)
