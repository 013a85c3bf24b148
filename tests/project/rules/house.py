"""What the rules of the house read: source files, their modules, and tables of exceptions that may only shrink."""

import ast
import functools
import warnings

FOLDERS = {"intsnn": "intsnn", "kernels": "intsnn.kernels", "models": "intsnn.models", "bench": "intsnn.bench"}


@functools.cache
def sources(root):
    """(path, dotted module, package) of every source file below `root`."""
    found = []
    for folder, package in FOLDERS.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            parent = ".".join((package, *parts[:-1]))
            found.append((path, parent if parts[-1] == "__init__" else f"{parent}.{parts[-1]}", parent))
    return tuple(found)


@functools.cache
def trees(root):
    """Syntax trees of the source files, by their place, such as "kernels/layers/compiled.py"."""
    return {
        path.relative_to(root).as_posix(): ast.parse(path.read_text("utf-8"), str(path)) for path, *_ in sources(root)
    }


def statements(function):
    """The body of a function or class without its docstring."""
    body = function.body
    first = body[0]
    told = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return body[1:] if told else body


def functions(tree):
    """(qualified name, definition) of every function, methods and inner ones too."""

    def visit(node, above):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{above}.{child.name}" if above else child.name
                if not isinstance(child, ast.ClassDef):
                    yield name, child
                yield from visit(child, name)
            else:
                yield from visit(child, above)

    return visit(tree, "")


def against(table, found, limit=0, stale=True):
    """What is wrong between a table of exceptions and what was counted, a sentence each.

    `table`: key -> (count, reason); `found`: key -> count of all that is above `limit`. A key that is missing, a count
    that has grown and (`stale`) an entry that is needed no longer are wrong; a count that fell is a warning to lower
    the entry.
    """
    wrong = []
    for key, count in sorted(found.items()):
        if key not in table:
            wrong.append(f"{key}: {count}, at most {limit}")
            continue
        allowed, reason = table[key]
        assert reason and isinstance(reason, str), key
        if count > allowed:
            wrong.append(f"{key}: {count}, the exception allows {allowed} ({reason})")
        elif count < allowed:
            warnings.warn(f"{key}: {count} now; lower the exception from {allowed}", stacklevel=2)
    for key in sorted({*table} - {*found}):
        said = f"{key}: needs no exception any more; take it out of the table"
        if stale:
            wrong.append(said)
        else:
            warnings.warn(said, stacklevel=2)
    return wrong
