"""The table of mutants fits the sources: every line is where it says, every test is there; and a run tells truth."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import mutants
import pytest

SUITES, TABLE = mutants.load()


def test_every_line_is_there_once(repository):
    wrong = []
    for mutant in TABLE:
        try:
            mutants.changed(mutant, (repository / mutant.file).read_text("utf-8"))
        except LookupError as error:
            wrong.append(str(error))
    assert not wrong, "\n".join(wrong)


def test_the_table_is_large_enough_and_says_nothing_twice():
    assert len(TABLE) >= 120
    assert {m.file.split("/")[0] for m in TABLE} == {"kernels", "intsnn"}
    assert max(Counter((m.file, m.within, m.line, m.becomes) for m in TABLE).values()) == 1
    assert {m.tests for m in TABLE} == set(SUITES)
    assert sum(bool(m.equivalent) for m in TABLE) <= 0.1 * len(TABLE)


def test_every_test_named_exists(repository):
    for suite in SUITES.values():
        files = [a for a in suite.arguments if a.startswith("tests/")]
        assert files
        for argument in files:
            file, *names = argument.split("::")
            source = (repository / file).read_text("utf-8")
            assert all(f"def {name}(" in source for name in names), argument


def mutant(**parts):
    given = {"file": "f.py", "within": "C.f", "line": "return a", "becomes": "return b", "tests": ""}
    return mutants.Mutant(**{**given, **parts})


SOURCE = """
def f(a, b):
    return a


class C:
    def f(self, a, b):
        return a

    def g(self, a, b):
        return a
        return a
"""


def test_a_line_is_found_by_its_function():
    changed = mutants.changed(mutant(), SOURCE)
    assert changed.count("return b") == 1 and changed.splitlines()[7] == "        return b"
    for parts in ({"within": "C.g"}, {"within": "C.h"}, {"line": "return c"}, {"within": "C"}):
        with pytest.raises(LookupError, match="is there"):
            mutants.changed(mutant(**parts), SOURCE)
    with pytest.raises(LookupError, match="no Python"):
        mutants.changed(mutant(becomes="return ("), SOURCE)
    with pytest.raises(LookupError, match="changes nothing"):
        mutants.changed(mutant(becomes="return (a)"), SOURCE)


def test_the_verdict(capsys):
    alive, excused = mutant(), mutant(equivalent="both are the same")
    killed = [mutant(line=str(i)) for i in range(98)]
    assert mutants.report({"killed": killed, "survived": [alive, alive]}, 100, 1) == 0
    assert mutants.report({"killed": killed[:97], "survived": [alive] * 3}, 100, 1) == 1
    assert mutants.report({"killed": killed[:97], "survived": [alive, alive, excused]}, 100, 1) == 0
    assert mutants.report({"killed": [*killed, excused], "survived": [alive]}, 100, 1) == 1  # a reason refuted
    assert mutants.report({"killed": killed * 2, "lost": [alive]}, 197, 1) == 1
    assert mutants.report({"killed": killed * 2, "broken": [alive]}, 197, 1) == 1
    said = capsys.readouterr().out
    assert "both are the same" in said and "no reason is given" in said


def test_a_run_of_two(tmp_path, repository):
    """One mutant that a test sees, one that it cannot: in a copy, and the checkout stays as it is."""
    table = tmp_path / "table.toml"
    table.write_text(
        '[suites.one]\narguments = ["tests/mutation/test_mutants.py::test_a_line_is_found_by_its_function"]\n'
        '[[mutant]]\nfile = "tests/mutation/mutants.py"\nwithin = "changed"\nline = "if len(found) != 1:"\n'
        'becomes = "if len(found) < 1:"\ntests = "one"\n'
        '[[mutant]]\nfile = "tests/mutation/mutants.py"\nwithin = "changed"\nline = "if len(found) != 1:"\n'
        'becomes = "if not len(found) == 1:"\ntests = "one"\n',
        "utf-8",
    )
    before = (repository / "tests" / "mutation" / "mutants.py").read_bytes()
    found = subprocess.run(
        [sys.executable, Path(mutants.__file__), "--table", table, "--base", tmp_path / "base", "--jobs", "1"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 1, found.stdout + found.stderr  # one of two is not 98 %
    assert "2 mutants" in found.stdout and "1 killed" in found.stdout and "1 survived" in found.stdout
    assert (repository / "tests" / "mutation" / "mutants.py").read_bytes() == before
