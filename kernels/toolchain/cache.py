"""Where compiled code is kept between processes: one private folder for each state of the sources.

Numba's own cache goes stale when a callee in another file changes, does not see the settings that change code, and
fails where nothing is writable. Therefore the folder is named after a digest of every kernel source (of the versions
of Python, Numba and llvmlite, and of these settings) and after the tier of instructions; without a writable folder
nothing is kept.
"""

import hashlib
import os
import platform
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["folder", "keep_text", "kept_text"]

# Settings of Numba that change the code of a kernel and are no part of its own key.
SETTINGS = ("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # frozen into a bundle without metadata
        return str(getattr(__import__(package), "__version__", ""))


def _digest() -> str:
    """Digest of all that compiled code depends on but the processor: Numba itself tells processors apart."""
    import numba

    about = f"{sys.version} {platform.machine()} {_version('numba')} {_version('llvmlite')}"
    about += "".join(f" {getattr(numba.config, name, None) or 0}" for name in SETTINGS)
    digest = hashlib.sha256(about.encode())
    kernels = Path(__file__).resolve().parent.parent
    for path in sorted(kernels.rglob("*.py")):
        digest.update(path.relative_to(kernels).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def folder(tier: str) -> str | None:
    """A private writable folder for the compiled code of `tier`, or None."""
    base = os.environ.get("INTSNN_CACHE")
    if base == "":  # explicitly off
        return None
    if base is None:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        base = os.path.join(base, "intsnn")
    path = os.path.join(base, f"{_digest()}-{tier}")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        if hasattr(os, "getuid") and os.stat(path).st_uid != os.getuid():
            return None  # never run compiled code that somebody else wrote
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError:
        return None
    return path


def kept_text(path: str | None, name: str) -> str | None:
    """What `keep_text` wrote under `name`, or None."""
    try:
        return Path(path, name).read_text("utf-8") if path else None
    except (OSError, UnicodeDecodeError):
        return None


def keep_text(path: str | None, name: str, text: str) -> None:
    """Keep a short text under `name`, whole or not at all; where that is impossible nothing happens."""
    if not path:
        return
    try:
        handle, draft = tempfile.mkstemp(dir=path)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, os.path.join(path, name))
    except OSError:
        pass
