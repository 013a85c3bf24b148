"""A name with a leading underscore is used where it is defined, and nowhere else."""

import ast

import pytest
from house import against, trees

# Names of the standard library that are public although they begin so.
PUBLIC = {"_replace", "_asdict", "_fields", "_make", "_exit", "_getframe", "_MEIPASS"}


def private(name):
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__")) and name != "_"


def own(tree):
    """Private names that a module defines, as a variable, a function, a class, a parameter or an attribute."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            found.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("__setattr__"):
            found |= {part.value for part in node.args if isinstance(part, ast.Constant)}
    return found


def complaints(tree, place):
    """Where a module uses a private name of another, a sentence each."""
    found, mine = [], own(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names = [alias.name for alias in node.names] + (node.module or "").split(".")
            found += [f"{place}:{node.lineno} imports {name}" for name in names if private(name)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
            found += [f"{place}:{node.lineno} imports {name}" for name in names if private(name)]
        elif isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in mine | PUBLIC:
            found.append(f"{place}:{node.lineno} uses {ast.unparse(node)}")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr", "delattr"):
            named = [part.value for part in node.args[1:2] if isinstance(part, ast.Constant)]
            found += [f"{place}:{node.lineno} uses {ast.unparse(node)}" for name in named if private(str(name))]
    return found


# File -> (places, why).
EXCEPTIONS = {
    "bench/sweep/workers.py": (1, "joblib offers its Dask backend under no other name"),
    "kernels/toolchain/once.py": (2, "Numba shows the cache and the compiler of a function under no other names"),
}


def test_private_names_stay_at_home(repository):
    lines = {place: complaints(tree, place) for place, tree in trees(repository).items()}
    wrong = against(EXCEPTIONS, {place: len(found) for place, found in lines.items() if found})
    assert not wrong, "\n".join([*wrong, *(line for found in lines.values() for line in found)])


@pytest.mark.parametrize(
    "source",
    [
        "from ..learning.learner import _batch",
        "from ..cli import _console",
        "import intsnn._hidden",
        "from .. import console\nconsole._console()",
        "def f(learner):\n    return learner._batch",
        "def f(node):\n    node._value = 1",
        "getattr(learner, '_batch')",
    ],
)
def test_foreign_private_names_are_seen(source):
    assert len(complaints(ast.parse(source), "x.py")) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from __future__ import annotations",
        "import os\nos._exit(1)",
        "class A:\n    def _f(self): ...\n    def g(self, other): return other._f()",
        "class A:\n    def __init__(self):\n        self._x = 1\ndef f(a): return a._x",
        "class A:\n    def __post_init__(self):\n        object.__setattr__(self, '_x', 1)\n        return self._x",
        "row._replace(a=1)",
        "x.__class__",
    ],
)
def test_own_private_names_pass(source):
    assert complaints(ast.parse(source), "x.py") == []
