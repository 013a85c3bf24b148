"""The command line in this process: what the tests of commands call it through."""

from types import SimpleNamespace

from click.testing import CliRunner

from intsnn.cli.main import main


def call(*arguments):
    """Run the command line in this process: exit status and everything it printed."""
    done = CliRunner().invoke(main, [str(item) for item in arguments])
    return SimpleNamespace(code=done.exit_code, text=done.output)


def good(*arguments):
    """Run a command that must succeed; what it printed."""
    done = call(*arguments)
    assert done.code == 0, done.text
    return done.text


def bad(code, *arguments):
    """Run a command that must fail in one line; that line."""
    done = call(*arguments)
    assert done.code == code, done.text
    assert "Traceback" not in done.text
    lines = [line for line in done.text.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and done.text.rstrip().endswith(lines[0]), done.text
    return lines[0]
