"""What becomes of text when its reader has left (``| head``)?

What is shown to people then goes nowhere, and the command goes on to its results and its exit status; a result that was
to go there is lost, and that is an error.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["Stream", "say", "to_stdout"]


class Stream(io.TextIOBase):
    """A stream that takes everything; what is written when its reader has left goes nowhere.

    `read_on` says whether somebody still reads it.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.read_on = stream is not None  # Python has none where it was closed before the start

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self.read_on and bool(getattr(self._stream, "isatty", lambda: False)())

    def fileno(self) -> int:
        if self._stream is None:
            raise io.UnsupportedOperation("there is no stream")
        return self._stream.fileno()

    def write(self, text: Any) -> int:
        if self.read_on:
            with self._reader():
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        if self.read_on:
            with self._reader():
                self._stream.flush()

    @contextlib.contextmanager
    def _reader(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Windows says of a closed pipe that the argument is wrong
            if error.errno != errno.EPIPE and not (os.name == "nt" and error.errno == errno.EINVAL):
                raise
            self.read_on = False
            # what is still in its buffer would be tried again at the end of the process
            with contextlib.suppress(OSError, ValueError, AttributeError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


def say(text: str) -> None:
    """One line on standard output, for programs without a console; nowhere once its reader has left."""
    stream = Stream(sys.stdout)
    stream.write(f"{text}\n")
    stream.flush()


def to_stdout(text: str) -> None:
    """A result on standard output, whole, in UTF-8; BrokenPipeError where its reader left before the end."""
    shown = Stream(sys.stdout)
    shown.flush()
    raw = getattr(sys.stdout, "buffer", None)
    stream = shown if raw is None else Stream(raw)
    stream.write(text if raw is None else text.encode())
    stream.flush()
    if not stream.read_on:
        raise BrokenPipeError(errno.EPIPE, "its reader left before the end; write to a file")
