"""Imports run one way, from floor to floor, never in a circle; and each tool is used in its place only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from house import FOLDERS, sources
from waiting import HANGING

# Ground first: a module imports its own room and what lies below, also inside functions. Rooms of one floor know
# nothing of each other.
FLOORS = (
    ("kernels",), ("errors",), ("support",), ("formats",), ("layers",), ("network",), ("files",),
    ("datasets", "engine"), ("analysis",), ("conversion", "learning"), ("models",), ("bench",), ("cli",),
)  # fmt: skip
# The same inside three of them.
INNER = {
    "kernels": (
        ("errors", "parameters"), ("toolchain",), ("numbers",), ("layers",), ("neurons",),
        ("inputs", "fused", "count", "learning"), ("selftest",),
    ),
    "models": (
        ("torch", "training"), ("keras", "onnx", "qat", "learning", "zoo"), ("bptt", "digits", "published", "readers"),
        ("families",),
    ),
    "bench": (("figures", "provenance"), ("speed", "sweep"), ("learning", "report"), ("studies",)),
}  # fmt: skip


def ranks(floors):
    """Room to the number of its floor."""
    return {room: rank for rank, rooms in enumerate(floors) for room in rooms}


RANK = ranks(FLOORS)
INNER_RANK = {room: ranks(floors) for room, floors in INNER.items()}

# Third-party package -> where it may be imported (a module or everything under it) and whether only inside functions.
PLACES = {
    "numpy": (("intsnn",), False),
    "numba": (("intsnn.kernels",), False),
    "llvmlite": (("intsnn.kernels",), False),
    "h5py": (("intsnn.files.hdf5",), False),
    "click": (("intsnn.cli",), False),
    "rich": (("intsnn.cli",), False),
    "joblib": (("intsnn",), True),
    "torch": (
        (
            "intsnn.models.qat",
            "intsnn.models.bptt",
            "intsnn.models.torch.trace",
            "intsnn.models.training.loop",
            "intsnn.models.training.provenance",
            "intsnn.bench.speed.simulators",
            "intsnn.bench.speed.torch_loops",
            "intsnn.bench.learning.speed",
            "intsnn.bench.learning.float_torch",
            "intsnn.bench.sweep.trained",
        ),
        True,
    ),
    "brevitas": (("intsnn.models.qat",), True),
    "matplotlib": (("intsnn.bench",), True),
    "PIL": (("intsnn.datasets.decoders",), True),
    "dask": (("intsnn.bench",), True),
    "distributed": (("intsnn.bench",), True),
    "snntorch": (("intsnn.bench.speed.simulators",), True),
    "spikingjelly": (("intsnn.bench.speed.simulators",), True),
    "safetensors": (("intsnn.models.torch.stored",), True),
    "onnx": (("intsnn.models.onnx", "intsnn.bench.speed.ann_pass"), True),
    "onnxruntime": (("intsnn.bench.speed.ann_pass",), True),
}
# A package that is an extra as a whole: its modules import the extra at once, others import them when they need it.
WHOLE = {
    "intsnn.models.qat": ("torch", "brevitas"),
    "intsnn.models.bptt": ("torch",),
    "intsnn.models.training.loop": ("torch",),
    "intsnn.models.training.provenance": ("torch",),
}


def room(module):
    """The room of a module, by its dotted name; None for the face of the package, which hands on names of all."""
    parts = module.split(".")
    if len(parts) < 2:
        return None
    return "cli" if parts[1] == "__main__" else parts[1]


def above(module, target):
    """Whether what a module imports stands above it, or beside it on the same floor."""
    own, other = room(module), room(target)
    rank = RANK
    if own == other and own in INNER:
        parts = module.split("."), target.split(".")
        if any(len(each) < 3 for each in parts):
            return False  # the face of the room
        rank, own, other = INNER_RANK[own], parts[0][2], parts[1][2]
    return own != other and other in rank and rank[other] >= rank[own]


def within(module, package):
    """Whether a module is a package or in it."""
    return f"{module}.".startswith(f"{package}.")


def imports(source, module, package, typed=True):
    """Every import in a source: (dotted name, names taken from it, line, whether inside a function).

    `typed`: those that only the type checker sees, too.
    """
    found = []

    def visit(node, inside):
        if isinstance(node, ast.Import):
            found.extend((alias.name, (), node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join(parts + ([node.module] if node.module else []))
            found.append((base, tuple(alias.name for alias in node.names), node.lineno, inside))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            if node.args and isinstance(node.args[0], ast.Constant):
                name = str(node.args[0].value)
                dots = len(name) - len(name.lstrip("."))
                base = package.rsplit(".", dots - 1)[0] if dots > 1 else package
                found.append((f"{base}.{name[dots:]}" if dots else name, (), node.lineno, inside))
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            inside = True  # never run
            if not typed:
                return
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(source), False)
    return found


def complaints(source, module, package):
    """What a source breaks, a sentence each."""
    found = []
    own = room(module)
    for name, taken, line, inside in imports(source, module, package):
        top = name.split(".")[0]
        where = f"{module}:{line}"
        if top == "intsnn":
            for target in [name, *(f"{name}.{item}" for item in taken)] if own else ():
                other = room(target)
                if other is None:
                    if target == name and all(item in RANK for item in taken):
                        continue  # `from .. import errors`: the room is named by what is taken
                    found.append(f"{where} imports the face of the package")
                elif other not in RANK:
                    if target == name:
                        found.append(f"{where} imports {target}, which is in no room")
                elif above(module, target):
                    found.append(f"{where} imports {target}, which stands above it")
            for whole in WHOLE:
                if within(name, whole) and not any(within(module, own) for own in WHOLE) and not inside:
                    found.append(f"{where} imports {name} at once; import it where it is used")
        elif top in PLACES:
            places, lazy = PLACES[top]
            free = any(within(module, whole) and top in extras for whole, extras in WHOLE.items())
            if not any(within(module, place) for place in places):
                found.append(f"{where} imports {top}, which belongs to {', '.join(places)}")
            elif lazy and not inside and not free:
                found.append(f"{where} imports {top} at once; import it where it is used")
        elif top in FOLDERS:
            found.append(f"{where} imports the top-level {top}; it is {FOLDERS[top]}")
        elif top not in sys.stdlib_module_names:
            found.append(f"{where} imports {top}, which this test does not know")
    return found


def test_imports_run_one_way(repository):
    files = list(sources(repository))
    assert {module for _, module, _ in files} >= {
        "intsnn",
        "intsnn.kernels.toolchain.jit",
        "intsnn.models",
        "intsnn.bench",
    }
    found = [line for path, module, package in files for line in complaints(path.read_text("utf-8"), module, package)]
    assert not found, "\n".join(found)


def test_every_inner_room_has_a_floor(repository):
    for _, module, _ in sources(repository):
        parts = module.split(".")
        if len(parts) > 2 and parts[1] in INNER:
            assert parts[2] in INNER_RANK[parts[1]], f"{parts[2]} of {parts[1]} stands on no floor"
    for top, floors in INNER.items():
        for name in ranks(floors):
            assert any((repository / top / place).exists() for place in (name, f"{name}.py")), f"{top} has no {name}"


COMPILED, LEARNER, NETWORK_FILE = "kernels.layers.compiled", "learning.learner", "files.network_file"
ZOO, SWEEP, SIMULATION = "models.zoo.catalogue", "bench.sweep.sweep", "engine.simulation"


@pytest.mark.parametrize(
    "module, source, part",
    [
        (COMPILED, "from ...formats import Fixed", "stands above"),
        (COMPILED, "from ... import formats", "stands above"),
        (COMPILED, "def f():\n    import intsnn.formats.fixed", "stands above"),
        (COMPILED, "import h5py", "h5py, which belongs"),
        (SIMULATION, "from ..models import keras", "stands above"),
        (SIMULATION, "from .. import models", "stands above"),
        (SIMULATION, "from ..datasets import load", "stands above"),
        (SIMULATION, "from .. import __version__", "the face"),
        (SIMULATION, "from ..house import door", "in no room"),
        (SIMULATION, "def f():\n    from ..analysis.scores import accuracy", "stands above"),
        (SIMULATION, "import importlib\nimportlib.import_module('...bench', 'intsnn.engine')", "stands above"),
        (LEARNER, "from ..conversion.fold import fold", "stands above"),
        (SIMULATION, "import numba", "numba, which belongs"),
        (NETWORK_FILE, "import h5py", "h5py, which belongs"),
        (SIMULATION, "import joblib", "at once"),
        (SIMULATION, "from rich.progress import track", "rich, which belongs"),
        (SIMULATION, "import scipy", "does not know"),
        (SIMULATION, "import kernels", "top-level kernels"),
        ("models.keras.load", "from ...bench import sweep", "stands above"),
        ("models.keras.load", "import torch", "torch, which belongs"),
        (COMPILED, "from ..neurons import compiled", "stands above"),
        (COMPILED, "def f():\n    from .. import fused", "stands above"),
        ("kernels.fused.rows", "from ..learning import tiles", "stands above"),
        ("models.qat.training", "from ..bptt import neuron", "stands above"),
        ("models.training.loop", "from ..zoo.catalogue import get", "stands above"),
        ("bench.speed.measure", "from ..sweep.cells import row", "stands above"),
        (SWEEP, "from ..report.write import write", "stands above"),
        (ZOO, "from ..qat.training import train", "stands above"),
        ("models.readers", "from .qat.training import train", "at once"),
        ("models.readers", "from .qat import training", "at once"),
        ("models.published", "from .bptt.training import train", "stands above"),
        (ZOO, "from ..training.loop import Run", "at once"),
        ("models.bptt.work", "import brevitas", "brevitas, which belongs"),
        ("models.training.loop", "import brevitas", "brevitas, which belongs"),
        ("bench.speed.torch_loops", "import torch", "at once"),
        (SWEEP, "from ...cli import main", "stands above"),
        (SWEEP, "from ...cli.common import cores", "stands above"),
        (SWEEP, "import click", "click, which belongs"),
        ("bench.speed.plots", "import matplotlib.pyplot as plt", "at once"),
    ],
)
def test_wrong_imports_are_seen(module, source, part):
    module = f"intsnn.{module}"
    found = complaints(source, module, module.rpartition(".")[0])
    assert found and part in found[0]


@pytest.mark.parametrize(
    "module, source",
    [
        ("", "def __getattr__(name):\n    from .models import load\n    return load"),
        (SIMULATION, "from ..kernels.layers import compiled\nfrom ..kernels.toolchain.jit import kernel"),
        ("kernels.neurons.compiled", "from ..layers import reference\nfrom ..parameters import Window"),
        ("bench.studies.ablation", "from ..sweep import cells\nfrom ..provenance import versions"),
        (SIMULATION, "from .. import errors\nfrom ..errors import IntsnnError\nfrom .backends import fused"),
        ("bench.speed.plots", "def f():\n    import matplotlib.pyplot"),
        ("cli.main", "import click\nfrom ..bench import sweep"),
        ("cli.commands.run", "import click\nfrom ..common import cores\nfrom ...bench import sweep"),
        ("models.keras.load", "from ...files.hdf5 import read_tree\nfrom ...network import floating"),
        (COMPILED, "import numba\nfrom . import jit"),
        ("models.qat.quantisers.weights", "import torch\nfrom .rounding import half_up"),
        ("models.bptt.network", "import torch\nfrom ..qat.quantisers.sigmoids import SigmoidWeight"),
        ("cli.commands.train", "def f():\n    from ...models.qat.training import train"),
    ],
)
def test_right_imports_pass(module, source):
    module = f"intsnn.{module}".rstrip(".")
    assert complaints(source, module, module.rpartition(".")[0] or "intsnn") == []


def circles(edges):
    """Groups of modules that import each other, straight or over others (Tarjan's algorithm)."""
    index, lowest, stack, found = {}, {}, [], []

    def visit(module):
        index[module] = lowest[module] = len(index)
        stack.append(module)
        for other in edges.get(module, ()):
            if other not in index:
                visit(other)
            if other in stack:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in edges:
        if module not in index:
            visit(module)
    return found


def graph(root):
    """What each module imports of ours, late imports included; those for the type checker alone do not count."""
    files = {module: (path.read_text("utf-8"), package) for path, module, package in sources(root)}
    edges = {}
    for module, (source, package) in files.items():
        found = edges.setdefault(module, [])
        for name, taken, *_ in imports(source, module, package, typed=False):
            for target in [f"{name}.{item}" if f"{name}.{item}" in files else name for item in taken] or [name]:
                if target in files and target != module:
                    found.append(target)
    return edges


def test_no_circles(repository):
    """A face hands on names of its rooms when they are asked for; that is no import."""
    assert circles(graph(repository)) == []
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["d"]}) == [["b", "c"]]


def test_importing_intsnn_is_light():
    """No extra, no compiler and no command line is loaded before somebody uses it."""
    heavy = "numba h5py click rich joblib torch brevitas matplotlib PIL dask distributed nir onnx snntorch".split()
    code = f"import sys, intsnn; print([name for name in {heavy!r} if name in sys.modules])"
    here = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here, timeout=HANGING)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
