"""The examples in the documentation run, and so do those in the docstrings."""

import doctest
import importlib
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


def blocks(text):
    """Line number and source of every fenced block that is marked as Python."""
    return [
        (text[: match.start(1)].count("\n") + 1, match[1])
        for match in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(page, tmp_path, monkeypatch):
    """All blocks of a page in one namespace, in an empty folder; those with ``>>>`` must print what they show."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(os.fspath(ROOT))
    namespace = {"__name__": "example"}
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
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "page", "page", 0)
    assert doctest.DocTestRunner().run(example, out=lambda text: None).failed == 1
