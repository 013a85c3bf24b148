"""A reader that leaves (``| head -1``) takes neither a result nor the exit status with it."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from waiting import HANGING

from intsnn import IF, Affine, Fixed, Flatten, Input, Network, Readout
from intsnn.files import network_file as files
from intsnn.models import digits
from intsnn.support.pipes import Stream, to_stdout

SOURCE = str(digits.network_file())

PROGRAM = """
    import json, os, sys
    from intsnn.cli.main import main

    for arguments in json.loads(sys.argv[1]):
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        if "--both" in arguments:
            arguments.remove("--both")
            os.dup2(writer, 2)
        sys.stdout = open(1, "w", closefd=False)
        try:
            main(arguments)
        except SystemExit as end:
            with open(os.environ["STATUS"], "a") as status:
                status.write(f"{end.code} ")
"""


def unread(folder, *commands):
    """Exit status of each command, run where nobody reads its output; what went to standard error."""
    status = folder / "status"
    status.write_text("")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), json.dumps([[str(w) for w in c] for c in commands])],
        capture_output=True, text=True, timeout=HANGING, cwd=folder, env=os.environ | {"STATUS": str(status)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [int(word) for word in status.read_text().split()], done.stderr


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    rng = np.random.default_rng(0)
    made = Network.sequential(
        Input((1, 8, 8), Fixed(5, signed=False)),
        Flatten(),
        Affine(rng.integers(-3, 4, (10, 64)), weight_format=Fixed(3)),
        IF(40),
        Readout(),
        t_drive=3,
    )
    path = tmp_path_factory.mktemp("net") / "net.h5"
    files.save(made, path)
    return path


def test_results_and_status_are_those_of_a_command_that_is_read(network, tmp_path):
    commands = {
        "inspect.json": ("inspect", SOURCE),
        "run.json": ("run", network, "--data", "digits:20", "--path", "reference"),
        "memory.json": ("memory", "vgg11-binary"),
        "train.json": ("train", "--list"),
        "zoo.json": ("zoo",),
    }
    status, errors = unread(
        tmp_path,
        *((*command, "--json", name) for name, command in commands.items()),
        ("inspect", tmp_path / "none.h5"),
        ("inspect", tmp_path / "none.h5", "--both"),
        ("inspect", SOURCE, "--json", "-"),
    )
    assert status == [0] * len(commands) + [3, 3, 3]
    assert "Traceback" not in errors and "Exception ignored" not in errors
    found = {name: json.loads((tmp_path / name).read_text()) for name in commands}
    assert found["run.json"]["samples"] == 20 and found["zoo.json"] and found["train.json"]["recipes"]
    assert errors.count("Error: ") == 1  # the others had nobody to tell


def test_a_stream_whose_reader_left():
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as file:
        stream = Stream(file)
        assert stream.read_on and stream.encoding.lower() == "utf-8" and not stream.isatty()
        os.close(reader)
        for _ in range(3):
            assert stream.write("äx" * 100_000) == 200_000
            stream.flush()
        assert not stream.read_on


def test_what_is_no_closed_pipe_is_still_an_error():
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space"), open("/dev/full", "w") as file:
        stream = Stream(file)
        stream.write("x")
        stream.flush()


def test_a_process_without_standard_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    stream = Stream(sys.stdout)
    assert stream.write("x") == 1 and not stream.read_on and not stream.isatty()
    with pytest.raises(BrokenPipeError):
        to_stdout("x")


def test_results_on_standard_output_are_utf_8(capfdbinary):
    to_stdout("ä\n")
    assert capfdbinary.readouterr().out == "ä\n".encode()
