"""Mutants to choose from: a fair sample, drawn by a seed, of what can go wrong in one line.

    python tests/mutation/mutant_proposals.py --seed 1 --count 60 FILE ...

writes entries for `mutants.toml`. Candidates are found in the syntax tree: comparisons at their border or turned round,
constants one off, minimum for maximum, and for or, plus for minus, shifts the other way, a clip or a condition left
out, arguments swapped. Messages, docstrings, annotations and lines that are not unique in their function are left out.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mutants import ROOT, Mutant, changed, spans

COMPARISONS = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not",
    ast.IsNot: "is",
}  # fmt: skip
OPERATORS = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.FloorDiv: "*", ast.Mod: "//", ast.LShift: ">>", ast.RShift: "<<",
    ast.BitAnd: "|", ast.BitOr: "&", ast.Div: "*",
}  # fmt: skip
BLIND = ("min", "max", "isinstance", "getattr", "like")  # arguments swapped are the same, or fall over at once
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum", "maximum": "minimum",
         "floor": "ceil", "ceil": "floor"}  # fmt: skip


def changes(node: ast.AST, text) -> Iterator[str]:
    """What could stand instead of an expression."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        yield f"{text(node.left)} {COMPARISONS[type(node.ops[0])]} {text(node.comparators[0])}"
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield str(node.value + 1)
        if node.value > 0:
            yield str(node.value - 1)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield str(not node.value)
    elif isinstance(node, ast.BoolOp) and len(node.values) == 2:
        word = "or" if isinstance(node.op, ast.And) else "and"
        yield f"({text(node.values[0])}) {word} ({text(node.values[1])})"
        yield text(node.values[0])
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        if not is_type(node.right) and not is_text(node.left) and not is_text(node.right):
            yield f"({text(node.left)}) {OPERATORS[type(node.op)]} ({text(node.right)})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield text(node.operand)
    elif isinstance(node, ast.IfExp):
        yield text(node.body)
        yield text(node.orelse)
    elif isinstance(node, ast.Call) and not node.keywords:
        function = text(node.func)
        last = function.rpartition(".")[2]
        if last in NAMES:
            yield f"{function[: len(function) - len(last)]}{NAMES[last]}({', '.join(map(text, node.args))})"
        if last in ("min", "max", "clip", "minimum", "maximum", "abs") and node.args:
            yield text(node.args[0])
        if len(node.args) == 2 and isinstance(node.func, ast.Name) and last not in BLIND:
            yield f"{function}({text(node.args[1])}, {text(node.args[0])})"


def is_type(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id[:1].isupper() and not node.id.isupper()


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def is_prose(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def candidates(file: str) -> list[Mutant]:
    """All mutants of one file."""
    source = (ROOT / file).read_text("utf-8")
    lines, found = source.splitlines(), []
    scopes = [s for s in spans(source) if s[0]]
    times = Counter((name, line.strip()) for name, first, last in scopes for line in lines[first - 1 : last])

    def text(node: ast.AST) -> str:
        return ast.get_source_segment(source, node) or ""

    def visit(node: ast.AST) -> None:
        if is_prose(node):
            return
        if isinstance(node, ast.expr) and node.lineno == node.end_lineno and node.lineno not in marked:
            line = lines[node.lineno - 1]
            prefix = line.encode()[: node.col_offset].decode()
            suffix = line.encode()[node.end_col_offset :].decode()
            inner = [name for name, first, last in scopes if first <= node.lineno <= last]
            for new in changes(node, text):
                whole = f"{prefix}{new}{suffix}".strip()
                mutant = Mutant(file, inner[-1] if inner else "", line.strip(), whole, "")
                if inner and times[inner[-1], line.strip()] == 1:
                    found.append(mutant)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child)

    marked = {i for i, line in enumerate(lines, 1) if line.lstrip().startswith(("def ", "class ", "@", "assert "))}
    visit(ast.parse(source))
    unique = {(m.within, m.line, m.becomes): m for m in found}
    return list(unique.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=60)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    files = sorted(str(Path(f)) for f in options.files)
    pool = {file: candidates(file) for file in files}
    by_line = {}
    for mutants in pool.values():  # a line is drawn first, then what becomes of it: long lines count once
        for mutant in mutants:
            by_line.setdefault((mutant.file, mutant.within, mutant.line), []).append(mutant)
    drawn = rng.sample(sorted(by_line), min(options.count, len(by_line)))
    print(f"# {options.count} of {len(by_line)} lines ({sum(map(len, pool.values()))} mutants), seed {options.seed}")
    for key in sorted(drawn):
        mutant = rng.choice(by_line[key])
        try:
            changed(mutant, (ROOT / mutant.file).read_text("utf-8"))
        except LookupError:  # no Python, or the same Python
            continue
        print("\n[[mutant]]")
        for name in ("file", "within", "line", "becomes"):
            print(f"{name} = {json.dumps(getattr(mutant, name), ensure_ascii=False)}")
        print('tests = ""')


if __name__ == "__main__":
    main()
