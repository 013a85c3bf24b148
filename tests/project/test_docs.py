"""The examples in the documentation run, and so do those in the docstrings."""

import doctest
import importlib
import importlib.util
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page for page in [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")] if page.is_file())
MODULES = sorted(
    ".".join(("intsnn", *path.relative_to(ROOT / "intsnn" if folder == "intsnn" else ROOT).with_suffix("").parts))
    for folder in ("intsnn", "kernels", "models", "bench")
    for path in (ROOT / folder).rglob("*.py")
    if ">>>" in path.read_text("utf-8")
)


NEEDS = re.compile(r"(?:^<!-- needs: (\w+) -->\n)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def module_of_torch():
    """What examples call `module`."""
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 10))


EXTRAS = {"torch": module_of_torch}  # what a block may need, and the `module` that it is about


def blocks(text):
    """Line number and source of every fenced block that is marked as Python, without those whose extra is missing."""
    return [
        (text[: match.start(2)].count("\n") + 1, match[2])
        for match in NEEDS.finditer(text) if not match[1] or importlib.util.find_spec(match[1])
    ]  # fmt: skip


def things(text):
    """What the blocks of a page find there, by the extras that they need."""
    found = {match[1] for match in NEEDS.finditer(text) if match[1] and importlib.util.find_spec(match[1])}
    return {"module": EXTRAS["torch"]()} if "torch" in found else {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(page, tmp_path, monkeypatch):
    """All blocks of a page in one namespace, in an empty folder; those with ``>>>`` must print what they show."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(os.fspath(ROOT))
    namespace = {"__name__": "example", **things(page.read_text("utf-8"))}
    for line, source in blocks(page.read_text("utf-8")):
        if ">>>" in source:
            example = doctest.DocTestParser().get_doctest(source, namespace, page.name, str(page), line - 1)
            report = []
            doctest.DocTestRunner().run(example, out=report.append, clear_globs=False)
            namespace = example.globs
            assert not report, "".join(report)
        else:
            exec(compile("\n" * (line - 1) + source, str(page), "exec"), namespace)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    report = []
    module = importlib.import_module(name)
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, globs=vars(module).copy()):
        doctest.DocTestRunner().run(example, out=report.append)
    assert not report, "".join(report)


def test_blocks_are_found_and_can_fail():
    assert blocks("a\n```python\nx = 1\n```\n```\ny\n```\n```python\nz\n```\n") == [(3, "x = 1\n"), (9, "z\n")]
    assert blocks("<!-- needs: numpy -->\n```python\nx\n```\n<!-- needs: nosuch -->\n```python\ny\n```\n") == [
        (3, "x\n")
    ]
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "page", "page", 0)
    assert doctest.DocTestRunner().run(example, out=lambda text: None).failed == 1
