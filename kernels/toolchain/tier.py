"""Which instructions compiled kernels use: one of four tiers, settled once in a process before anything compiles.

``portable`` plain loops for any processor; ``avx2`` and ``avx512`` explicit vectors; ``vnni`` also the byte dot
products of AVX-512. Every tier gives the same integers. The best tier that the processor has is used; the environment
variable ``INTSNN_KERNELS`` names a lower one, and code is then generated for a processor of that tier.

A tier of explicit vectors is used after its intrinsics gave the results of the plain functions once
(`selftest.py`). This runs in a process of its own, because wrong instructions end a process; the verdict is kept
beside the compiled code. A tier that fails is given up for the next one down, and `reason` says so.
"""

import functools
import hashlib
import os
import platform
import signal
import subprocess
import sys
from typing import Any, NamedTuple

from ..errors import TierError
from . import cache
from .once import locked, working

__all__ = ["TIERS", "probe", "reason", "tier"]

TIERS = ("portable", "avx2", "avx512", "vnni")
VARIABLE = "INTSNN_KERNELS"
NEEDED = {  # features that a tier adds to the one before it, as LLVM calls them
    "avx2": ("avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "popcnt"),
    "avx512": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
    "vnni": ("avx512vnni",),
}
PROCESSORS = {"portable": "x86-64", "avx2": "x86-64-v3", "avx512": "x86-64-v4"}  # what a lower tier is compiled for
PATIENCE = 300  # seconds for a self-test; it takes a few
FAULT = 33  # exit status of a self-test that found other numbers
CRASHES = {signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}  # what wrong instructions end in


class _Choice(NamedTuple):
    tier: str
    reason: str


def tier() -> str:
    """The tier that is used, one of `TIERS`; the same for the whole life of a process.

    Raises
    ------
    TierError
        ``INTSNN_KERNELS`` is no tier, or one that the processor lacks, or comes too late: Numba has already
        begun to compile for the whole processor.
    """
    return _choice().tier


def reason() -> str:
    """Why that tier, in one sentence."""
    return _choice().reason


@functools.cache
def probe() -> str:
    """The best tier that the processor has by its own word."""
    import llvmlite.binding

    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "portable"
    has = llvmlite.binding.get_host_cpu_features()
    best = "portable"
    for name in TIERS[1:]:
        if not all(has.get(feature, False) for feature in NEEDED[name]):
            break
        best = name
    return best


_assumed: str | None = None  # what a self-test works with: no question, no further test


def assume(name: str) -> None:
    """Use tier `name` untested: for the process of a self-test, before kernels are imported."""
    global _assumed
    _assumed = name


@functools.cache
def _choice() -> _Choice:
    import numba

    settings: Any = numba.config  # they come into being at run time: no type checker sees one
    best = probe()
    wanted = _assumed or _asked(best)
    if settings.DISABLE_JIT:
        return _Choice("portable", "portable: the compiler is switched off")
    if wanted is None and (settings.CPU_NAME is not None or settings.CPU_FEATURES is not None):
        other = settings.CPU_NAME or "other features"
        return _Choice("portable", f"portable: Numba is told to compile for {other}")
    name = wanted or best
    text = f"{name}: named by {VARIABLE}" if wanted else f"{name}: the best tier of this processor"
    while name != "portable" and not _assumed:
        fault = _fault(name)
        if not fault:
            break
        below = TIERS[TIERS.index(name) - 1]
        text = f"{below}: {name} failed its self-test ({fault})"
        name = below
    if name != best:
        _aim(name, bool(wanted))
    return _Choice(name, text)


def _asked(best: str) -> str | None:
    """The tier that the environment names, None for the best one."""
    word = os.environ.get(VARIABLE, "").strip().lower()
    if not word:
        return None
    have = ", ".join(TIERS[: TIERS.index(best) + 1])
    if word not in TIERS:
        raise TierError(f"{VARIABLE}: found {word!r}, which is no tier; this machine has {have}")
    if TIERS.index(word) > TIERS.index(best):
        raise TierError(f"{VARIABLE}: found {word!r}, but this processor lacks it; it has {have}")
    return word


def _aim(name: str, asked: bool) -> None:
    """Let Numba generate code for a processor of tier `name` and no more."""
    import numba
    from numba.core.registry import cpu_target

    if platform.machine().lower() not in ("x86_64", "amd64"):
        return
    if "_toplevel_target_context" in vars(cpu_target):  # its code generator exists and cannot be changed
        if not asked:
            return
        raise TierError(
            f"{VARIABLE}: found {name!r} too late, Numba compiles for the whole processor already; "
            f"use intsnn before other compiled functions, or set NUMBA_CPU_NAME={PROCESSORS[name]} too"
        )
    settings: Any = numba.config
    settings.CPU_NAME, settings.CPU_FEATURES = PROCESSORS[name], ""


# -- self-test -------------------------------------------------------------------------------------


def _fault(name: str) -> str:
    """What the self-test of tier `name` has against it; empty: nothing."""
    place, key = cache.folder(name), f"selftest-{_processor()}.txt"
    with locked(place if cache.kept_text(place, key) is None else None, "selftest"):
        kept = cache.kept_text(place, key)
        return _tested(name, place, key) if kept is None else kept.strip()


def _tested(name: str, place: str | None, key: str) -> str:
    """What the self-test has against the tier, tested now; a verdict is kept."""
    if not any(word in os.path.basename(sys.executable or "").lower() for word in ("python", "pypy")):
        return ""  # inside another program: there is no interpreter to start
    package = __package__.rpartition(".")[0]
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        f"from {package}.toolchain import tier; tier.assume({name!r})\n"
        f"from {package} import selftest; sys.exit(selftest.main())"
    )
    try:
        with working(f"self-test of {name}"):
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
            )
    except OSError:
        return ""
    except subprocess.TimeoutExpired:
        return f"no answer within {PATIENCE} s"
    if done.returncode == FAULT:
        fault = done.stdout.strip()
    elif -done.returncode in CRASHES or done.returncode > 255 or "LLVM ERROR" in done.stderr:
        fault = f"the process ended with status {done.returncode}"
    elif done.returncode == 0:
        fault = ""
    else:  # it was stopped, or could not import what runs here: no verdict
        return ""
    cache.keep_text(place, key, fault)
    return fault


def _processor() -> str:
    """Short digest of the processor: a home folder may serve several machines."""
    import llvmlite.binding

    features = llvmlite.binding.get_host_cpu_features().flatten()
    return hashlib.sha256(f"{llvmlite.binding.get_host_cpu_name()} {features}".encode()).hexdigest()[:12]
