"""Rules for the tests themselves: no clock decides, everything random has a seed, no name is shared."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import HANGING

HERE = Path(__file__).resolve().parents[1]
CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "time", "time_ns"}
TOOLS = {"mutants.py"}  # run by hand, no test
# the one place that waits, and what drives a browser by it
KEEPERS = {"waiting.py", "browser.py"}
# limits that have to strike, and waits behind which a process is killed: neither fails on a busy machine
LIMITS = {("test_memory.py", 0.01), ("test_workers.py", 20), ("browser.py", 10)}
UNSEEDED = {"random", "randint", "randrange", "choice", "choices", "shuffle", "sample", "uniform", "rand", "randn"}


def complaints(source, file="test_x.py"):
    """What breaks a rule in the source of a test file, a line each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, ast.unparse(node.func.value)
        if owner == "time" and name in CLOCKS and file not in KEEPERS:
            found.append(f"{node.lineno}: time.{name}(); wait by waiting.py, and count work instead of timing it")
        limits = [keyword.value for keyword in node.keywords if keyword.arg == "timeout"]
        limits += node.args[:1] if name in ("wait", "join", "wait_for") else []
        for limit in limits:
            if isinstance(limit, ast.Constant) and isinstance(limit.value, int | float):
                if (file, limit.value) not in LIMITS:
                    found.append(f"{node.lineno}: a limit of {limit.value} s; HANGING of waiting.py is the one")
        if name in ("communicate", "wait") and not node.args and not node.keywords and "process" in owner:
            if file not in KEEPERS:
                found.append(f"{node.lineno}: {owner}.{name}() may hang; use waiting.py")
        if (name == "default_rng" or (owner, name) == ("random", "Random")) and not node.args and not node.keywords:
            found.append(f"{node.lineno}: {owner}.{name}() without a seed")
        if owner in ("random", "np.random") and name in UNSEEDED:
            found.append(f"{node.lineno}: {owner}.{name}() without a seed")
        if name in ("gettempdir", "mkdtemp", "mktemp") and owner == "tempfile":
            found.append(f"{node.lineno}: tempfile.{name}(); tmp_path is a folder of the test's own")
    return found


@pytest.mark.parametrize(
    "path", sorted(path for path in HERE.rglob("*.py") if path.name not in TOOLS), ids=lambda path: path.stem
)
def test_tests_keep_the_rules(path):
    assert complaints(path.read_text("utf-8"), path.name) == []


@pytest.mark.parametrize(
    "source",
    [
        "start = time.monotonic()",
        "subprocess.run(command, timeout=60)",
        "process.wait(60)",
        "process.wait()",
        "process.communicate()",
        "np.random.default_rng()",
        "random.Random()",
        "np.random.rand(3)",
        "tempfile.mkdtemp()",
    ],
)
def test_the_rules_see(source):
    assert len(complaints(source)) == 1


def test_what_the_rules_allow():
    assert complaints("ended(process)\nrun(timeout=HANGING)\nrandom.Random(3)\nrng.random()\ntime.sleep(0.01)") == []


def test_the_table_of_long_tests_names_tests():
    """What `make quick` leaves out is there, and is little: a test that is renamed is quick until measured."""
    table = json.loads((HERE / "long.json").read_text("utf-8"))
    functions = {
        f"{path.relative_to(HERE).as_posix()}::{node.name}": node
        for path in HERE.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    tests = {name for name in functions if "::test_" in name}
    assert not table["tests"].keys() - tests and not table["fixtures"].keys() - functions.keys()
    assert len(table["tests"]) < len(tests) / 5


def test_quick_leaves_out_what_the_table_names():
    """A test by its name, whatever its parameters, and those that need a fixture."""
    table = json.loads((HERE / "long.json").read_text("utf-8"))
    name = next(name for name in table["tests"] if name.startswith("rooms/formats/"))
    files = [name.split("::")[0], "kernels/test_tiers.py"]

    def collected(*options):
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--collect-only",
            *options,
            *(str(HERE / file) for file in files),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANGING, cwd=HERE.parent)
        assert done.returncode == 0, done.stdout
        return {line for line in done.stdout.splitlines() if "::" in line}

    every, quick = collected(), collected("--quick")
    assert quick < every
    functions = {line.split("[")[0].removeprefix("tests/") for line in every - quick}
    assert (
        name in functions and "kernels/test_tiers.py::test_every_tier_gives_the_integers_of_the_reference" in functions
    )
    assert functions - table["tests"].keys() == {
        "kernels/test_tiers.py::test_every_tier_counts_alike",
        "kernels/test_tiers.py::test_every_tier_gives_the_integers_of_the_reference",
        "kernels/test_tiers.py::test_tier_is_used_when_it_is_named",
    }
