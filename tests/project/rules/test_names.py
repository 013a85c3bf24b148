"""A name is said once: packages, faces, public names, modules."""

import ast
import configparser
from collections import defaultdict

import pytest
from house import against, sources, trees


def packages(root):
    """Dotted name -> folder of every folder that has an ``__init__.py``."""
    return {
        module: path.parent.relative_to(root).as_posix()
        for path, module, package in sources(root) if path.name == "__init__.py"
    }  # fmt: skip


def test_packages_are_listed(repository):
    recipe = configparser.ConfigParser()
    recipe.read(repository / "setup.cfg", "utf-8")
    listed = recipe["options"]["packages"].split()
    places = dict(line.split(" = ") for line in recipe["options"]["package_dir"].strip().splitlines())
    assert len(listed) == len({*listed})
    assert {*listed} == {*packages(repository)}
    assert places == packages(repository)


def test_every_folder_of_modules_is_a_package(repository):
    held = {path.parent.relative_to(repository).as_posix() for path, *_ in sources(repository)}
    assert held == {*packages(repository).values()}


def stored(node):
    """Whether a node is a name that gets a value."""
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def defines(tree):
    """What a face defines instead of handing it on, a sentence each."""
    found = []
    for node in tree.body:
        told = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = {each.id for each in ast.walk(node) if stored(each)}
        handed = isinstance(node, ast.Assign) and names <= {"__all__", "__getattr__", "__dir__"}
        refused = (
            isinstance(node, ast.If) and len(node.body) == 1 and isinstance(node.body[0], ast.Raise)
        )  # a wrong name
        if not (told or handed or refused or isinstance(node, ast.Import | ast.ImportFrom)):
            found.append(f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}")
    return found


def test_faces_define_nothing(repository):
    """Only that of the package itself does: it finds the folders beside it."""
    faces = {place: tree for place, tree in trees(repository).items() if place.endswith("__init__.py")}
    assert defines(faces.pop("intsnn/__init__.py"))
    assert {place: found for place, tree in faces.items() if (found := defines(tree))} == {}


@pytest.mark.parametrize(
    "source", ["def f(): ...", "class A: ...", "X = 1", "if x:\n    import y", "f()", "for x in y: ..."]
)
def test_definitions_in_faces_are_seen(source):
    assert len(defines(ast.parse(source))) == 1


def test_what_faces_may_hold():
    source = "'''Doc.'''\nfrom .a import b\n__all__ = ['b']\n__all__, __getattr__, __dir__ = attach(__name__, {})"
    assert defines(ast.parse(source)) == []


def public(tree):
    """Functions and classes that a module defines for others."""
    listed = None
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__all__" for target in node.targets):
            listed = {each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)}
    named = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {name for name in named if name[0] != "_" and (listed is None or name in listed)}


def handed(tree):
    """Names that a face hands on: module relative to it -> names."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "attach":
            found |= {module: names.split() for module, names in ast.literal_eval(node.args[1]).items()}
    return found


def bound(tree):
    """Names that a module binds on its top level, imported or defined."""
    found = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        else:
            found |= {each.id for each in ast.walk(node) if stored(each)}
    return found


def test_faces_hand_on_what_exists(repository):
    known, count = trees(repository), 0
    for place, tree in known.items():
        for module, names in handed(tree).items() if place.endswith("__init__.py") else ():
            target = f"{place.removesuffix('/__init__.py')}/{module.replace('.', '/')}.py"
            missing = {*names} - bound(known[target])
            assert not missing, f"{place}: {target} lacks {sorted(missing)}"
            count += len(names)
    assert count > 100


def twins(places):
    """Whether the places are a plain and a compiled twin, or parts of one, in the kernels."""
    return all(place.startswith("kernels/") for place in places) and any("reference" in place for place in places)


def repeated(root):
    """Public name -> how many modules define it, but for twins and for what every command and every tool calls so."""
    found = defaultdict(list)
    for place, tree in trees(root).items():
        for name in public(tree):
            found[name].append(place)
    return {
        name: len(places) for name, places in found.items()
        if len(places) > 1 and name not in ("command", "main") and not twins(places)
    }  # fmt: skip


# Name -> (modules that define it, why).
REPEATED = {
    "Add": (2, "a layer; what a recipe says of one"),
    "Conv": (2, "of a learning network; what a recipe says of one"),
    "Dense": (2, "of a learning network; what a recipe says of one"),
    "Events": (2, "an input; what a sweep tells while it runs"),
    "Flatten": (2, "a layer; what a recipe says of one"),
    "Layer": (3, "of a network; of Keras; of a recipe"),
    "Schedule": (2, "of a run; of a learning rate"),
    "State": (2, "of a run; of a learner"),
    "Value": (2, "of a program; of a model of Keras"),
    "Recipe": (2, "one a family of training"),
    "Run": (2, "of a training; of a study"),
    "Source": (2, "of inputs; of a Keras file"),
    "Stage": (2, "of a conversion; of a recipe"),
    "Trained": (4, "one a family of training"),
    "Training": (3, "one a family of training"),
    "accumulate": (5, "the operation and its kernels"),
    "add": (4, "the operation and its kernels; an entry of the zoo"),
    "build": (3, "one a family of training; a workload"),
    "evaluate": (3, "one a family of training; a workload"),
    "fire": (3, "kernels of learning; the comparison's own mathematics"),
    "fits": (2, "a bound; a learning step"),
    "fold": (2, "of a network; of what was trained"),
    "forward": (2, "of a float network; of the training in numpy"),
    "frames": (2, "of events, and its kernel"),
    "from_tree": (2, "of a network; of one that learns"),
    "integer_network": (2, "of a command; of a training"),
    "layer_rows": (2, "on a terminal; on a page"),
    "load": (9, "each reads what its module is about"),
    "measure": (5, "each study and comparison measures its own"),
    "memory": (3, "of a network; of one that learns; of a study"),
    "narrowest": (2, "width of a neuron; type of an array"),
    "number": (2, "on a terminal; on a page"),
    "pack": (4, "codes and their kernel; bits in sums; a cell"),
    "read": (4, "a number; a model of Keras; kernels"),
    "read_data": (2, "of a command; of a sweep"),
    "recipe": (3, "one a family of training"),
    "render": (2, "figures of the documentation; a page"),
    "rescale": (2, "the operation and its kernel"),
    "rows": (2, "each study has its own"),
    "run": (5, "one a family of training"),
    "save": (3, "each writes what its module is about"),
    "short": (2, "of Keras; of an axis"),
    "stream": (3, "of a camera, and its kernels"),
    "text": (2, "an argument; a cell of a table"),
    "train": (6, "one a family of training"),
    "unpack": (3, "codes and their kernel; a cell"),
}


def test_public_names_are_defined_once(repository):
    wrong = against(REPEATED, repeated(repository), 1)
    assert not wrong, "\n".join(wrong)


def repeats_folder(place):
    """Whether a module, or a folder, says the name of its folder once more."""
    *above, name = place.removesuffix(".py").split("/")
    if name == "__init__":
        *above, name = above
    folder = above[-1] if above else ""
    return name.split("_")[0] in {folder, folder.removesuffix("s")} and "_" in name


def test_module_names_do_not_repeat_the_folder(repository):
    assert [place for place in trees(repository) if repeats_folder(place)] == []
    assert repeats_folder("intsnn/learning/learning_rule.py") and repeats_folder("intsnn/layers/layer_base.py")
    assert repeats_folder("bench/report/report_axes/__init__.py")
    assert not repeats_folder("intsnn/files/network_file.py") and not repeats_folder("intsnn/layers/base.py")
