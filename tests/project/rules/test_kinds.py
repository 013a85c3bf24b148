"""Which class a layer has is asked where layers live; whoever asks for several raises for one that it does not know."""

import ast
import functools
import warnings

import pytest
from house import against, functions, trees

# Classes of these modules are kinds, but for those that are no layer, node or primitive.
LAYERS = ("intsnn/layers/",)
NODES = ("intsnn/network/float_nodes.py", "intsnn/network/quantised.py")
PRIMITIVES = ("intsnn/layers/primitives.py",)
SPECIFICATIONS = ("models/training/blueprint.py", "intsnn/learning/rule.py")
FACTS = {
    "Layer", "FloatNode", "Primitive", "Bound", "Build", "Value", "State", "Parameter", "Schedule", "Decay",
    "Refractory", "FloatNetwork", "QuantisedNetwork", "InputScale",
}  # fmt: skip
AT_HOME = (*LAYERS, "intsnn/network/float_nodes.py")


def classes(root, places, but=()):
    """Names of the kinds that some modules define."""
    return frozenset(
        node.name
        for place, tree in trees(root).items() if place.startswith(places) and place not in but
        for node in tree.body if isinstance(node, ast.ClassDef) and node.name not in FACTS
    )  # fmt: skip


@functools.cache
def layer_kinds(root):
    """Classes of layers and of nodes of float networks. Primitives have names of their own module."""
    return classes(root, (*LAYERS, *NODES), PRIMITIVES) | {"PASSIVE", "LINEAR", "KINDS"}


def named(node):
    """Names in an expression, the last part of dotted ones, but for those of primitives (``primitives.Add``)."""
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Attribute) and ast.unparse(each.value) != "primitives":
            yield each.attr


def unions(tree, kinds):
    """Names that a module binds to several kinds, such as ``LINEAR = (Affine, Conv2d)``."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple | ast.BinOp | ast.Name):
            if {*named(node.value)} & kinds:
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def asked(tree, kinds):
    """Every place in a module that asks whether something is one of `kinds`."""
    taken = {
        alias.asname or alias.name
        for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("primitives")
        for alias in node.names
    }  # fmt: skip
    kinds = (kinds | unions(tree, kinds)) - taken
    for node in ast.walk(tree):
        if asks(node, kinds):
            yield node


def asks(node, kinds):
    """Whether a call, a comparison or a pattern asks for a kind."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
        return len(node.args) == 2 and bool({*named(node.args[1])} & kinds)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        typed = any(ast.unparse(side).startswith("type(") for side in sides)
        return typed and any({*named(side)} & kinds for side in sides)
    return isinstance(node, ast.MatchClass) and bool({*named(node.cls)} & kinds)


def outside(root):
    """How often each module outside the home of layers asks for a kind."""
    kinds = layer_kinds(root)
    found = {
        place: sum(1 for _ in asked(tree, kinds))
        for place, tree in trees(root).items()
        if not place.startswith(AT_HOME)
    }
    return {place: count for place, count in found.items() if count}


def leaves(body):
    """Whether the statements after a body are never reached from it."""
    last = body[-1]
    if isinstance(last, ast.If):
        return bool(last.orelse) and leaves(last.body) and leaves(last.orelse)
    return isinstance(last, ast.Return | ast.Continue | ast.Raise | ast.Break)


def raises(body):
    """Whether a body ends in an error, whatever it asks before."""
    last = body[-1]
    if isinstance(last, ast.If):
        return bool(last.orelse) and raises(last.body) and raises(last.orelse)
    return isinstance(last, ast.Raise)


def chains(function, kinds):
    """Line and end of each chain over kinds in a function: "raises", "guesses" or "falls through".

    A chain is an ``if`` with at least one ``elif``, or several ``if`` one after the other that each leave, of which at
    least two ask for a kind.
    """

    def a_question(node):
        return isinstance(node, ast.If) and any(asks(each, kinds) for each in ast.walk(node.test))

    def visit(body):
        place = 0
        while place < len(body):
            node = body[place]
            if not isinstance(node, ast.If):
                for field in ("body", "orelse", "finalbody"):
                    inner = getattr(node, field, None)
                    if isinstance(inner, list) and not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
                        yield from visit(inner)
                for handler in getattr(node, "handlers", ()):
                    yield from visit(handler.body)
                place += 1
                continue
            first, questions, rest = node, 0, None
            while True:
                questions += a_question(node)
                yield from visit(node.body)
                if len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
                    node = node.orelse[0]
                    continue
                rest = node.orelse
                if not rest and leaves(node.body) and place + 1 < len(body):
                    if isinstance(body[place + 1], ast.If):
                        place += 1
                        node = body[place]
                        continue
                    rest = body[place + 1 :]
                break
            if node.orelse:
                yield from visit(node.orelse)
            if questions > 1:
                yield first.lineno, "falls through" if not rest else "raises" if raises(rest) else "guesses"
            place += 1

    return visit(function.body)


def guesses(root):
    """Functions that ask for several kinds and do not raise for another: how many of their chains."""
    kinds = layer_kinds(root) | classes(root, (*PRIMITIVES, *SPECIFICATIONS))
    found = {}
    for place, tree in trees(root).items():
        known = kinds | unions(tree, kinds)
        for name, function in functions(tree):
            count = sum(end != "raises" for _, end in chains(function, known))
            if count:
                found[f"{place}:{name}"] = count
    return found


# File -> how often it may ask; a count that falls is written down here, and none may rise. The three of `bench` say the
# mathematics of every kind again on purpose: what is compared with the engine shares no code with it. Those of `models`
# make the layers of torch, and the nodes and layers that become of a blueprint.
OUTSIDE = {
    "models/bptt/integers.py": 2,
    "models/bptt/network.py": 2,
    "models/qat/bridge.py": 1,
    "models/qat/network.py": 1,
    "bench/speed/evaluate.py": 13,
    "bench/speed/simulators.py": 10,
    "bench/speed/torch_loops.py": 23,
    "bench/speed/ann_pass.py": 10,
    "bench/studies/width_curves.py": 11,
}

# Function -> (chains that do not raise, why the other kinds need nothing there).
GUESSING = {
    "bench/speed/evaluate.py:evaluate": (1, "`apply` behind the last branch raises"),
    "bench/speed/torch_loops.py:torch_step.call": (1, "networks of the comparison, refused before they come here"),
    "bench/speed/torch_loops.py:torch_folded.call": (1, "networks of the comparison, refused before they come here"),
    "bench/speed/simulators.py:_modules": (1, "networks of the comparison, refused before they come here"),
    "bench/studies/width_curves.py:levels_and_outputs": (1, "`_moved` behind the last branch raises"),
}


def test_kinds_are_asked_at_home(repository):
    found = outside(repository)
    wrong = [
        f"{place} asks {count} times which kind a layer is, {OUTSIDE.get(place, 0)} allowed; read a fact of the layer"
        for place, count in found.items() if count > OUTSIDE.get(place, 0)
    ]  # fmt: skip
    assert not wrong, "\n".join(wrong)
    for place, allowed in OUTSIDE.items():
        if found.get(place, 0) < allowed:
            warnings.warn(f"{place} asks {found.get(place, 0)} times now; lower its entry from {allowed}", stacklevel=1)


def test_last_branches_raise(repository):
    wrong = against(GUESSING, guesses(repository), stale=False)
    assert not wrong, "\n".join(wrong)


KINDS = frozenset({"Conv2d", "Affine", "Add", "KINDS"})


@pytest.mark.parametrize(
    "source, count",
    [
        ("isinstance(layer, Conv2d)", 1),
        ("isinstance(layer, (Conv2d, layers.Affine))", 1),
        ("isinstance(layer, Conv2d | Affine)", 1),
        ("issubclass(kind, Conv2d)", 1),
        ("type(layer) is Conv2d", 1),
        ("type(layer) in (Conv2d, Affine)", 1),
        ("match layer:\n    case Conv2d(): pass\n    case Affine(): pass", 2),
        ("WEIGHTED = (Conv2d, Affine)\nisinstance(layer, WEIGHTED)", 1),
        ("isinstance(layer, base.KINDS)", 1),
        ("isinstance(value, int)", 0),
        ("from ..layers.primitives import Add\nisinstance(each, Add)", 0),
        ("isinstance(each, primitives.Add)", 0),
        ("from ..layers import Add\nisinstance(each, Add)", 1),
    ],
)
def test_questions_are_seen(source, count):
    assert sum(1 for _ in asked(ast.parse(source), KINDS)) == count


ELSE_RAISES = """
if isinstance(x, Conv2d): a()
elif isinstance(x, Affine): b()
else: raise TypeError(x)"""
AFTER_RAISES = """
if isinstance(x, Conv2d): return 1
if isinstance(x, Affine): return 2
raise TypeError(x)"""
INNER = """
for x in y:
    if isinstance(x, Conv2d): a()
    elif isinstance(x, Affine): b()
    else: c()"""


@pytest.mark.parametrize(
    "body, ends",
    [
        (ELSE_RAISES, ["raises"]),
        (ELSE_RAISES.replace("raise TypeError(x)", "c()"), ["guesses"]),
        (ELSE_RAISES.replace("else: raise TypeError(x)", ""), ["falls through"]),
        (AFTER_RAISES, ["raises"]),
        (AFTER_RAISES.replace("raise TypeError(x)", "return 3"), ["guesses"]),
        (AFTER_RAISES.replace("return 2\nraise TypeError(x)", "return 2"), ["falls through"]),
        (INNER, ["guesses"]),
        ("if isinstance(x, Conv2d): a()\nelse: b()", []),
        ("if x: a()\nelif y: b()\nelse: c()", []),
    ],
)
def test_ends_of_chains_are_seen(body, ends):
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (function,) = ast.parse(f"def f(x):\n{lines}").body
    assert [end for _, end in chains(function, KINDS)] == ends
