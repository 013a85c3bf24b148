"""Which code and which versions made a result?"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
from pathlib import Path

from .. import errors
from ..support.version import __version__

__all__ = ["source_digest", "training_digest", "versions"]

# What can change a number of a cell. Reports, the command line and the speed comparison cannot.
OWN = ("grid.py", "sources.py", "trained.py", "cells.py", "tallies.py")  # of bench/sweep
SHOWN = ("cli/", "__main__.py")  # of intsnn
TRAINING = ("models/qat/", "models/training/blueprint.py", "models/training/architectures.py")
NO_TRAINING = ("models/qat/recipes.py", "models/qat/work.py", "models/qat/tuning.py", "models/qat/__init__.py")
PACKAGES = ("numpy", "numba", "h5py", "joblib")


def sources() -> dict[str, Path]:
    """Every source file that can change a result, by a name that is the same wherever the package lies."""
    sweep = Path(__file__).resolve().parent / "sweep"
    package = Path(errors.__file__).resolve().parent
    files = {f"bench/sweep/{name}": sweep / name for name in OWN}
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        if not name.startswith((*SHOWN, "bench/", "kernels/", "models/")):  # installed, these lie inside
            files[f"intsnn/{name}"] = path
    for part in ("kernels", "models"):
        folder = package / part if (package / part).is_dir() else package.parent / part
        files |= {f"{part}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*.py")}
    return files


def digest_of(files: dict[str, Path]) -> str:
    """SHA-256 of names and contents."""
    found = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        found.update(f"{name} {len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()


@functools.cache
def source_digest() -> str:
    """SHA-256 of every source file that can change a result, as they were when this process first asked."""
    return digest_of(sources())


@functools.cache
def training_digest() -> str:
    """SHA-256 of the source that decides what a training comes to, whatever the recipe.

    A changed kernel is no reason to train again, nor is another recipe.
    """
    found = {name: path for name, path in sources().items() if name.startswith(TRAINING)}
    return digest_of({name: path for name, path in found.items() if name not in NO_TRAINING})


@functools.cache
def versions() -> dict[str, str]:
    """Of intsnn, Python, the machine and the packages that compute."""
    found = {"intsnn": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        found[name] = importlib.metadata.version(name)
    return found
