"""Every form of a kernel is compiled once, by one process for all that need it; and whoever asks is told of it.

Numba's cache has no locks: processes that start together compile the same kernels, and two that keep different forms
of one kernel at the same moment may write them under one number. Here a process that needs a form which another one
is compiling waits for it and takes it from the cache.
"""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: everybody compiles for himself
    fcntl = None  # type: ignore[assignment]

__all__ = ["Listener", "compile_once", "listening", "locked", "working"]

PATIENCE = 300  # seconds; whoever holds a lock for longer has been stopped, and is waited for no more
PAUSE = 0.02  # seconds between two looks at a lock

Listener = Callable[[str, bool], None]
_listeners: list[Listener] = []


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Inside, ``listener(name, ready)`` hears of each kernel that has to be compiled: before, and when it is ready.

    Also of one that another process is compiling. It is called by the thread that compiles, also for the kernels
    that a kernel calls (inside it), and for the self-test of a tier of instructions.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextlib.contextmanager
def working(name: str) -> Iterator[None]:
    """What happens inside is `name`: the listeners are told."""
    listeners = tuple(_listeners)
    for listener in listeners:
        listener(name, False)
    try:
        yield
    finally:
        for listener in listeners:
            listener(name, True)


def compile_once(dispatcher: Any, folder: str | None) -> None:
    """Let `dispatcher` compile what nobody else has compiled or is compiling; its code is kept in `folder`."""
    cache, compiler = dispatcher._cache, dispatcher._compiler
    keep, compile_ = cache.save_overload, compiler.compile
    name = f"{dispatcher.py_func.__module__}.{dispatcher.py_func.__qualname__}"

    @functools.wraps(compile_)
    def compiled(arguments: Any, result: Any) -> Any:
        with working(name), locked(folder, name):
            made = cache.load_overload(arguments, dispatcher.targetctx)  # somebody else may have been quicker
            if made is not None:  # where Numba looks for it when it compiles a caller
                dispatcher.targetctx.insert_user_function(made.entry_point, made.fndesc, [made.library])
            else:
                made = compile_(arguments, result)
                with contextlib.suppress(OSError):  # a full disk
                    keep(arguments, made)
        return made

    compiler.compile = compiled
    cache.save_overload = lambda signature, made: None  # it is kept already, before others could look for it


@contextlib.contextmanager
def locked(folder: str | None, name: str) -> Iterator[None]:
    """Hold the lock `name`; where locks cannot be, nobody waits. It ends with the process, whatever ends that."""
    handle = _opened(folder, name)
    try:
        if handle is not None:
            _lock(handle)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _opened(folder: str | None, name: str) -> int | None:
    if folder is None or fcntl is None:
        return None
    try:
        return os.open(os.path.join(folder, f"{name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None


def _lock(handle: int) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(PAUSE)
        except OSError:  # a file system without locks
            return None
    return None
