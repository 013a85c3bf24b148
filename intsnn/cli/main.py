"""The command line: the group, its exit status, and the table of commands.

Exit status: 0 done; 2 an option or its value is wrong; 3 a file, network or data set is missing or refused; 4 not equal
where equality is due; 5 a fault of intsnn itself; 130 interrupted. An error is one line on standard error; with
``INTSNN_DEBUG=1`` the traceback stands before it.

A command is a module of `intsnn.cli.commands`, imported when it is called: ``intsnn --help`` has to be quick.
"""

from __future__ import annotations

import importlib
import os
import traceback
import warnings
from typing import Any

import click

from ..errors import IntsnnError, MismatchError
from ..support.version import __version__
from .common import INTERNAL, INTERRUPTED, MISMATCH, REFUSED, Failure, compiling_shown, one_line

__all__ = ["COMMANDS", "main", "one_line"]

# A command NAME is intsnn/cli/commands/NAME.py; its line of help stands here too, so that the list needs no import.
COMMANDS = {
    "bench": "Sweep bit widths: accuracy, memory, spikes; measure speed.",
    "convert": "Convert a trained network SRC to spikes and integers.",
    "demo": "Convert, run and verify on real digits.",
    "inspect": "Show the layers, widths and bytes of FILE.",
    "memory": "Count and measure the memory of NETWORK.",
    "report": "Show the RESULTS of a sweep as a page with plots.",
    "run": "Run a spiking network NET on DATA.",
    "train": "Train a network by a recipe.",
    "tune": "Fine-tune a network layer by layer, for T steps.",
    "verify": "Compare all paths of NET and its ANN on DATA.",
    "zoo": "Show the trained networks that come with intsnn.",
}


def failure(error: BaseException) -> Failure:
    """What the command line says of an exception."""
    if isinstance(error, KeyboardInterrupt):
        return Failure("interrupted", INTERRUPTED)
    if isinstance(error, IntsnnError):
        return Failure(str(error), MISMATCH if isinstance(error, MismatchError) else REFUSED)
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return Failure(f"{name}{error.strerror or error}", REFUSED)
    if isinstance(error, MemoryError):
        return Failure("not enough memory; use fewer samples, a smaller --batch-size or fewer --threads", REFUSED)
    return Failure(
        f"{type(error).__name__}: {error} (a fault of intsnn; INTSNN_DEBUG=1 shows where it happened)", INTERNAL
    )


def _warning(message, category, filename, lineno, file=None, line=None) -> None:
    """What the command line says of a warning: one line, with its place only where it is none of ours."""
    text = f"warning: {message}\n" if category is UserWarning else ""
    click.echo(text or warnings.formatwarning(message, category, filename, lineno, line), err=True, nl=False)


class _Commands(click.Group):
    """A group that imports a command when it is called, and in which every error is one line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f".commands.{cmd_name}", __package__).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings(), compiling_shown():
            warnings.showwarning = _warning
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if os.environ.get("INTSNN_DEBUG") == "1":
                traceback.print_exc()
            raise failure(error) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="intsnn")
def main() -> None:
    """Spiking neural networks in which every number is an integer, simulated bit for bit.

    Exit status: 0 done, 2 wrong use, 3 missing or refused input, 4 not equal where equality is due, 5 internal fault.
    """
