"""What the commands share: how they fail, the options that several have, what they read and check.

Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import click

from ..errors import ConversionError, DataNotFoundError, FormatError, IntsnnError
from ..support.pipes import Stream

__all__ = [
    "DATA_HELP", "INTERNAL", "INTERRUPTED", "LEARN_HELP", "MISMATCH", "REFUSED", "USAGE", "Failure", "check_output",
    "compiling_shown", "cores", "file_of", "finish", "input_shape_option", "integer_network", "json_option",
    "load_network", "network_or_learned", "of_ours", "one_line", "only_integers", "options_checked", "overlap_option",
    "read_data", "read_inputs", "run_values", "sha256", "threads_option", "trust_option", "writing",
]  # fmt: skip

USAGE, REFUSED, MISMATCH, INTERNAL, INTERRUPTED = 2, 3, 4, 5, 130  # exit status
DATA_HELP = "NAME[:train|:test][:N] (digits, mnist, ...) or a .npz or .h5 file."
LEARN_HELP = f"{DATA_HELP} Without a part: the training part."


class Failure(click.ClickException):
    """An error that ends the command: one line, and its exit status."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(one_line(message))
        self.exit_code = exit_code  # type: ignore[misc]  # of this error: click's annotation says of the class

    def show(self, file: IO[Any] | None = None) -> None:
        """The line; where nobody reads it any more, the exit status says it all the same."""
        # click writes to it and asks what it is; a Stream does that without being all of a file
        super().show(cast("IO[Any]", Stream(sys.stderr)) if file is None else file)


def one_line(text: str) -> str:
    """`text` without line breaks and control characters (names in files may hold any)."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in " ".join(str(text).split()))


@contextmanager
def options_checked() -> Iterator[None]:
    """Here a FormatError is about an option."""
    try:
        yield
    except FormatError as error:
        raise Failure(str(error), USAGE) from None


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Here an OSError is about the file that is written, which libraries do not always say."""
    try:
        yield
    except OSError as error:
        if isinstance(error, IntsnnError):
            raise
        where = "standard output" if path == "-" else path
        raise Failure(f"{where} could not be written: {error.strerror or error}", REFUSED) from error


@contextmanager
def compiling_shown() -> Iterator[None]:
    """Here standard error says when kernels have to be compiled, instead of a silent half minute."""
    from ..kernels.toolchain.once import listening

    shown: list[Any] = []

    def listener(name: str, ready: bool) -> None:
        from .console import Compiling

        if not shown:
            shown.append(Compiling())
        shown[0](name, ready)

    with listening(listener):
        yield


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


json_option = click.option("--json", "json_path", metavar="FILE", help="Write the results as JSON (- for stdout).")
trust_option = click.option("--trust", is_flag=True, help="Read the file in this process: a file of known origin only.")
overlap_option = click.option(
    "--allow-overlap", is_flag=True, help="Measure also on data that were learned from; the figure says so."
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), default=None, metavar="N", help="Default: all cores. Never changes a bit."
)


def read_data(spec: str, part: str = "test"):
    """The data set `spec` names (of its `part`, unless it says one); a spec that cannot be read is wrong use, a file
    that cannot is refused."""
    from ..datasets import catalogue as datasets

    try:
        return datasets.load(spec, part)
    except FormatError as error:
        is_file = os.path.isfile(re.sub(r"(:(train|test))?(:[0-9]+)?$", "", spec))
        raise Failure(str(error), REFUSED if is_file else USAGE) from None


def read_inputs(network, spec: str):
    """What `spec` names as inputs of a spiking network: images, or event data binned as the network says."""
    from ..datasets.events import is_event_data

    if is_event_data(spec):
        from ..datasets.binned import event_inputs

        with options_checked():
            return event_inputs(network, spec)
    from ..conversion.pipeline import check_fit

    dataset = read_data(spec)
    check_fit(network, dataset)
    return dataset


def file_of(path: str) -> str:
    """The file of a network: that of ``zoo:NAME``, or the path itself."""
    from ..models.zoo.catalogue import find

    return str(find(path))


def input_shape_option(command):
    """``--input-shape C,H,W`` as a tuple, for files that leave it open."""

    def read(ctx, parameter, text):
        if text is None:
            return None
        parts = text.replace("x", ",").split(",")
        if not all(part.strip().isdecimal() for part in parts):
            raise Failure(
                f"--input-shape: found {text[:60]!r}; give C,H,W (images), C,L (signals) or N "
                "(vectors), for example 3,32,32",
                USAGE,
            )
        return tuple(int(part) for part in parts)

    return click.option(
        "--input-shape", callback=read, metavar="C,H,W", help="Of one sample, where the file leaves it open."
    )(command)


def load_network(path: str, trust: bool, **options):
    """Whatever network is in the file: our own, or a trained one."""
    from ..models.readers import load

    return load(path, trust=trust, **options)


def integer_network(path: str, trust: bool):
    """The converted network in a file, or an error that says how to make one."""
    return only_integers(load_network(path, trust), path)


def only_integers(network, path: str):
    """`network` if it is a converted one, or an error that says how to make one."""
    from ..network.spiking import Network

    if isinstance(network, Network):
        return network
    what, more = ("a quantised ANN", "") if hasattr(network, "graph") else ("a float network", " --calibrate DATA")
    raise ConversionError(
        f"{path} holds {what}, not a spiking network; convert it first: intsnn convert {path} -o NET.h5{more}"
    )


def network_or_learned(path: str, trust: bool, **options):
    """The network in a file and None, or None and what `intsnn train` learned with integers."""
    try:
        return load_network(path, trust, **options), None
    except IntsnnError as error:
        from ..models.learning import learned

        try:
            found = learned.load(path, trust) if os.path.isfile(path) and _is_hdf5(path) else None
        except IntsnnError:
            found = None  # what keeps it from being a network says more
        if found is None:
            raise error from None
        return None, found


def of_ours(path: str, trust: bool) -> bool:
    """Whether a file with a network is one that intsnn defines, and not a trained one of another program."""
    from ..files.hdf5 import read_tree
    from ..files.network_file import is_ours
    from ..models.readers import SKIPPED

    skipped = ("model_weights", *SKIPPED)
    return _is_hdf5(path) and is_ours(read_tree(path, trust=trust, skip=skipped, attributes=("format",)))


def _is_hdf5(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def check_output(path: str | None, *inputs: str | None) -> None:
    """Find out before the work that its result has no place to go, or would go where something of `inputs` is."""
    if path is None or path == "-":
        return
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise DataNotFoundError(f"there is no folder {folder} to write {os.path.basename(path)} in")
    if os.path.isdir(path):
        raise Failure(f"{path} is a folder; give the name of a file to write", USAGE)
    if not os.access(folder, os.W_OK):
        raise Failure(f"{folder}: {os.strerror(13)}", REFUSED)
    for source in inputs:
        if source and _same_file(path, source):
            raise Failure(f"{path} is also what is read or written here; write to another file", USAGE)


def _same_file(one: str, other: str) -> bool:
    """Also of files that are not there yet."""
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def finish(console, values: dict, exit_code: int = 0) -> None:
    """Leave the JSON that was asked for, and end with `exit_code`."""
    with writing(console.json_path or ""):
        console.finish(values)
    if exit_code:
        raise click.exceptions.Exit(exit_code)


def run_values(result: Any, correct: int | None) -> dict[str, Any]:
    """Plain values of a `simulate.Result` of which so many predictions are right."""
    return {
        "samples": result.samples,
        "correct": correct,
        "steps": result.steps,
        "extra_steps": int(result.extra_steps.max(initial=0)),
        "settled": result.settled,
        "spikes_per_neuron": result.spikes_per_neuron,
        "overflows": result.overflows,
    }


def sha256(path: str) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
