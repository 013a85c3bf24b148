"""The only file that configures Numba: one decorator, one cache folder.

Numba's own cache goes stale when a callee in another file changes and fails where nothing is
writable. Therefore the cache folder is keyed by a digest of every kernel source (and of the
versions of Numba and Python); without a writable folder, kernels compile in each process.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

import numba
from numba.extending import intrinsic

__all__ = ["cache_folder", "intrinsic", "kernel", "like"]


def _digest() -> str:
    """Digest of all sources that compiled code depends on."""
    digest = hashlib.sha256(f"{sys.version} {numba.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _find_cache_folder() -> str | None:
    """A private writable folder for compiled code, or None."""
    base = os.environ.get("INTSNN_CACHE")
    if base == "":  # explicitly off
        return None
    if base is None:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        base = os.path.join(base, "intsnn")
    folder = os.path.join(base, _digest())
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if hasattr(os, "getuid") and os.stat(folder).st_uid != os.getuid():
            return None  # never run compiled code that somebody else wrote
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return None
    return folder


cache_folder = _find_cache_folder()


def kernel(function=None, *, inline: str = "never"):
    """Compile `function` on first use: no Python objects, no GIL, no fast-math.

    ``inline="always"`` pastes it into its callers: for what is called in inner loops with many arrays.
    """
    if function is None:
        return lambda function: kernel(function, inline=inline)
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = cache_folder or ""  # read once, while decorating; then given back
    try:
        return numba.njit(cache=cache_folder is not None, nogil=True, error_model="numpy", inline=inline)(function)
    finally:
        numba.config.CACHE_DIR = before


if numba.config.DISABLE_JIT:

    def like(reference, value):
        """`value` as an integer of the type of `reference`."""
        return type(reference)(value)

else:

    @intrinsic
    def like(typing_context, reference, value):
        """`value` as an integer of the type of `reference` (stops promotion to int64)."""
        if not isinstance(reference, numba.types.Integer):
            return None

        def codegen(context, builder, signature, arguments):
            return context.cast(builder, arguments[1], signature.args[1], signature.args[0])

        return reference(reference, value), codegen
