"""Are the gates guarded? One-line mutants of the sources, each against the tests that should see it.

    python tests/mutation/mutants.py [--jobs N] [--limit SECONDS] [FILE or FILE:FUNCTION ...]

The table `mutants.toml` holds them: file, enclosing function, text of the line, what stands there instead, and the name
of the tests that run. A line is found by its text, never by its number; a text that is not there exactly once is an
error. The tree is copied to a temporary folder, one copy for each job at a place that is always the same (compiled code
is kept by path and by the digest of all kernel sources: a mutant outside the kernels compiles nothing anew), and the
checkout is never written to. A mutant in the kernels has a digest, and a cache, of its own; where its logic can be seen
without the compiler the tests named run with ``NUMBA_DISABLE_JIT=1`` (``compiled = false``). Code of one tier of
instructions that is wrong fails the self-test, and a lower tier is used: tests of such code ask first that no tier was
given up.

mutmut and cosmic-ray do not do: mutmut swaps functions inside one process (trampolines that Numba cannot compile, and a
cache that it cannot tell apart), cosmic-ray changes the checkout itself, and neither takes a table of mutants.

Exit status: 0 at least 98 % killed, what a survivor is excused by counts; 1 fewer, a line that is not found, a reason
that is refuted (its mutant was killed), or tests that fail without a mutant.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("mutants.toml")
LEAST = 0.98
PARTS = ("intsnn", "kernels", "models", "bench", "tests", "docs")
FILES = ("setup.cfg", "pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "ruff.toml")
NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info", ".hypothesis")


@dataclass(frozen=True)
class Suite:
    """Tests that run together: arguments of pytest, and whether the kernels are compiled."""

    name: str
    arguments: tuple[str, ...]
    compiled: bool


@dataclass(frozen=True)
class Mutant:
    """One line and what stands there instead; `equivalent`: why no test can see it."""

    file: str
    within: str  # qualified name of the enclosing function or class, "" for the module
    line: str
    becomes: str
    tests: str
    equivalent: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.within}: {self.line}  ->  {self.becomes}"


def load(path: Path = TABLE) -> tuple[dict[str, Suite], list[Mutant]]:
    """Suites by name, and mutants."""
    with open(path, "rb") as file:
        table = tomllib.load(file)
    suites = {
        name: Suite(name, tuple(given["arguments"]), given.get("compiled", True))
        for name, given in table["suites"].items()
    }
    return suites, [Mutant(**entry) for entry in table["mutant"]]


def spans(source: str) -> Iterator[tuple[str, int, int]]:
    """Qualified name, first and last line of the module and of every function and class in it."""
    yield "", 1, len(source.splitlines())

    def inside(node: ast.AST, path: str) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                name = f"{path}.{child.name}" if path else child.name
                yield name, child.lineno, child.end_lineno or child.lineno
                yield from inside(child, name)
            else:
                yield from inside(child, path)

    yield from inside(ast.parse(source), "")


def places(mutant: Mutant, source: str) -> list[int]:
    """Lines, counted from 0, on which the text of `mutant` stands within its function."""
    lines = source.splitlines()
    return sorted(
        {
            at
            for name, first, last in spans(source)
            if name == mutant.within
            for at in range(first - 1, last)
            if lines[at].strip() == mutant.line
        }
    )


def changed(mutant: Mutant, source: str) -> str:
    """`source` with the mutant in it.

    Raises
    ------
    LookupError
        The line is not there exactly once, or what comes out is no Python.
    """
    found = places(mutant, source)
    if len(found) != 1:
        raise LookupError(f"{mutant.file}, {mutant.within or 'module'}: {mutant.line!r} is there {len(found)} times")
    lines = source.splitlines(keepends=True)
    lines[found[0]] = lines[found[0]].replace(mutant.line, mutant.becomes)
    result = "".join(lines)
    try:
        tree = ast.parse(result)
    except SyntaxError as error:
        raise LookupError(f"{mutant}: no Python: {error}") from None
    if ast.dump(tree) == ast.dump(ast.parse(source)):
        raise LookupError(f"{mutant}: changes nothing")
    return result


class Tree:
    """A copy of the sources at a place that stays the same from run to run."""

    def __init__(self, base: Path, number: int) -> None:
        self.root, self.cache = base / f"tree-{number}", base / "cache"
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, self.root / part, ignore=NOT_COPIED)  # with times: Numba looks at them
        for name in FILES:
            if (ROOT / name).is_file():
                shutil.copy2(ROOT / name, self.root / name)

    def pytest(self, suite: Suite, limit: float, cache: Path | None = None) -> tuple[int | None, str]:
        """Exit status of the tests, None when they took longer than `limit` seconds; and what they said."""
        variables = {"INTSNN_CACHE": str(cache or self.cache), "NUMBA_DISABLE_JIT": str(int(not suite.compiled))}
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            child = os.fork()  # everything heavy is imported already
            if child == 0:
                os.setsid()
                run_tests(self.root, suite, variables, said.fileno())
            status, end = None, time.monotonic() + limit
            while status is None and time.monotonic() < end:
                ended, code = os.waitpid(child, os.WNOHANG)
                if ended:
                    status = os.waitstatus_to_exitcode(code)
                else:
                    time.sleep(0.05)
            try:
                os.killpg(child, signal.SIGKILL)  # what it started, too
            except ProcessLookupError:
                pass
            if status is None:
                os.waitpid(child, 0)
            said.seek(0)
            return status, said.read()

    def run(self, mutant: Mutant, suite: Suite, limit: float) -> tuple[str, str]:
        """``killed``, ``timeout``, ``survived``, ``lost`` (the line) or ``broken`` (the tests do not run)."""
        path = self.root / mutant.file
        before, times = path.read_bytes(), path.stat()
        try:
            after = changed(mutant, before.decode())
        except LookupError as error:
            return "lost", str(error)
        with tempfile.TemporaryDirectory(dir=self.root.parent) as own:
            try:
                path.write_text(after, "utf-8")
                kernels = mutant.file.startswith("kernels/")
                status, said = self.pytest(suite, limit, Path(own) if kernels else None)
            finally:
                path.write_bytes(before)
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        if status is None:
            return "timeout", ""
        if status in (1, 2, 4) or status < 0 or status == 139:  # a test failed, its file cannot be imported, or a crash
            reason = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR", "E  "))]
            return "killed", reason[-1] if reason else f"exit status {status}"
        return ("survived", "") if status == 0 else ("broken", said[-600:])


def run_tests(root: Path, suite: Suite, variables: dict[str, str], output: int) -> None:
    """pytest in this process, which then ends."""
    status = 3
    try:
        os.chdir(root)
        os.environ.pop("INTSNN_DATA", None)
        os.environ |= variables | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "CI": "1"}  # derandomised
        sys.dont_write_bytecode = True
        sys.path[:] = [str(root), *(p for p in sys.path if not p.startswith(str(ROOT / "tests")))]
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        import numba
        import pytest

        numba.config.DISABLE_JIT = int(variables["NUMBA_DISABLE_JIT"])
        import intsnn

        if Path(intsnn.__file__).parent != root / "intsnn":
            raise RuntimeError(f"{intsnn.__file__} is not in {root}")
        options = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short"]
        status = int(pytest.main([*options, *suite.arguments]))
    except BaseException:
        traceback.print_exc()
        status = 2
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def select(mutants: list[Mutant], wanted: list[str]) -> list[Mutant]:
    """Those of the files (or ``file:function``) named; all without a name."""
    return [m for m in mutants if not wanted or any(f"{m.file}:{m.within}:".startswith(w) for w in wanted)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wanted", nargs="*", help="beginnings of file:function")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--limit", type=float, default=200.0, help="seconds for the tests of one mutant")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--base", type=Path, help="folder of the copies and of what is compiled; always the same one")
    options = parser.parse_args()
    suites, mutants = load(options.table)
    mutants = select(mutants, options.wanted)
    base = options.base or Path(tempfile.gettempdir()) / f"intsnn-mutants-{os.getuid()}"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if base.stat().st_uid != os.getuid():
        print(f"{base} belongs to somebody else")
        return 1
    begin = time.monotonic()
    for name in ("h5py", "hypothesis", "numba", "numpy", "pytest"):
        importlib.import_module(name)  # once, for all that is forked
    groups: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        groups.setdefault(mutant.tests, []).append(mutant)
    jobs = max(1, min(options.jobs, len(groups)))
    context = multiprocessing.get_context("fork")
    number = context.Value("i", 0)
    found: dict[str, list[Mutant]] = {}
    with ProcessPoolExecutor(jobs, context, use_tree, (base, number)) as pool:
        order = sorted(groups, key=lambda name: -len(groups[name]))
        for outcomes in pool.map(
            try_all, [suites[n] for n in order], [groups[n] for n in order], [options.limit] * len(order)
        ):
            for mutant, outcome in outcomes:
                found.setdefault(outcome, []).append(mutant)
    return report(found, len(mutants), time.monotonic() - begin)


def use_tree(base: Path, number) -> None:
    """A copy of the sources for this process."""
    global _tree
    with number.get_lock():
        own = number.value
        number.value += 1
    _tree = Tree(base, own)


def try_all(suite: Suite, mutants: list[Mutant], limit: float) -> list[tuple[Mutant, str]]:
    """What becomes of each mutant; first the tests run without one, which also compiles what they need."""
    start = time.monotonic()
    status, said = _tree.pytest(suite, 1200)
    without = time.monotonic() - start
    print(f"{'no mutant':9} {without:6.1f} s  {suite.name}", flush=True)
    if status != 0:
        print(f"the tests {suite.name!r} fail without a mutant (exit status {status}):\n{said[-3000:]}", flush=True)
        return [(mutant, "broken") for mutant in mutants]
    outcomes = []
    for mutant in mutants:
        start = time.monotonic()
        anew = suite.compiled and mutant.file.startswith("kernels/")  # compiles: takes longer than it took without
        outcome, why = _tree.run(mutant, suite, limit if anew else min(limit, 30 + 5 * without))
        print(f"{outcome:9} {time.monotonic() - start:6.1f} s  {mutant}\n        {why}"[:420], flush=True)
        outcomes.append((mutant, outcome))
    return outcomes


def report(found: dict[str, list[Mutant]], total: int, seconds: float) -> int:
    """Print the outcome; the exit status."""
    survived = found.get("survived", [])
    excused = [m for m in survived if m.equivalent]
    killed = found.get("killed", []) + found.get("timeout", [])
    refuted = [m for m in killed if m.equivalent]
    bad = found.get("lost", []) + found.get("broken", []) + refuted
    share = (len(killed) + len(excused)) / max(1, total)
    late = len(found.get("timeout", []))
    print(f"\n{total} mutants in {seconds / 60:.1f} min: {len(killed)} killed ({late} by the time limit),")
    print(f"{len(survived)} survived, {len(excused)} of them equivalent; {100 * share:.1f} % killed or equivalent")
    for mutant in survived:
        print(f"  survived: {mutant}\n    {mutant.equivalent or 'no reason is given: a test is missing'}")
    for outcome in ("lost", "broken"):
        for mutant in found.get(outcome, []):
            print(f"  {outcome}: {mutant}")
    for mutant in refuted:
        print(f"  killed, so it is not equivalent: {mutant}")
    return int(share < LEAST or bool(bad))


if __name__ == "__main__":
    sys.exit(main())
