"""Imports run one way, kernels <- intsnn <- models <- bench <- cli, and each tool is used in its place only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import HANGING

FOLDERS = {"intsnn": "intsnn", "kernels": "intsnn.kernels", "models": "intsnn.models", "bench": "intsnn.bench"}
RANK = {"kernels": 0, "intsnn": 1, "models": 2, "bench": 3, "cli": 4}

# Third-party package -> where it may be imported (a module or everything under it) and whether only inside functions.
PLACES = {
    "numpy": (("intsnn",), False),
    "numba": (("intsnn.kernels",), False),
    "llvmlite": (("intsnn.kernels",), False),
    "h5py": (("intsnn.files.hdf5",), False),
    "click": (("intsnn.cli.main", "intsnn.cli.commands"), False),
    "rich": (("intsnn.cli.console", "intsnn.cli.commands"), False),
    "joblib": (("intsnn",), True),
    "torch": (
        (
            "intsnn.models.qat",
            "intsnn.models.bptt",
            "intsnn.models.training.loop",
            "intsnn.models.training.provenance",
            "intsnn.bench.speed.peers",
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
    "snntorch": (("intsnn.bench.speed.peers",), True),
    "spikingjelly": (("intsnn.bench.speed.peers",), True),
    "onnx": (("intsnn.bench.speed.peers",), True),
    "onnxruntime": (("intsnn.bench.speed.peers",), True),
}
# A package that is an extra as a whole: its modules import the extra at once, others import them when they need it.
WHOLE = {
    "intsnn.models.qat": ("torch", "brevitas"),
    "intsnn.models.bptt": ("torch",),
    "intsnn.models.training.loop": ("torch",),
    "intsnn.models.training.provenance": ("torch",),
}
LAZY_REEXPORTS = {("intsnn", "models")}  # intsnn.load


def layer(module):
    """Which rank a module has, by its dotted name."""
    parts = module.split(".")
    if parts[:2] in (["intsnn", "cli"], ["intsnn", "commands"], ["intsnn", "__main__"]):
        return "cli"
    return parts[1] if len(parts) > 1 and parts[1] in RANK else "intsnn"


def within(module, package):
    """Whether a module is a package or in it."""
    return f"{module}.".startswith(f"{package}.")


def imports(source, module, package):
    """Every import in a source: (dotted name, names taken from it, line, whether inside a function)."""
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
                found.append((package + name if name.startswith(".") else name, (), node.lineno, inside))
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            inside = True  # never run
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(source), False)
    return found


def complaints(source, module, package):
    """What a source breaks, a sentence each."""
    found = []
    own = layer(module)
    for name, taken, line, inside in imports(source, module, package):
        top = name.split(".")[0]
        where = f"{module}:{line}"
        if top == "intsnn":
            targets = [name, *(f"{name}.{item}" for item in taken)]
            for target in targets:
                if RANK[layer(target)] > RANK[own] and not (inside and (module, layer(target)) in LAZY_REEXPORTS):
                    found.append(f"{where} imports {target}, which stands above it")
                elif layer(target) == "cli" and own != "cli":
                    found.append(f"{where} imports the command line")
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


def sources(root):
    """Path, dotted module and package of every source file."""
    for folder, package in FOLDERS.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            parent = ".".join((package, *parts[:-1]))
            yield path, parent if parts[-1] == "__init__" else f"{parent}.{parts[-1]}", parent


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


@pytest.mark.parametrize(
    "module, package, source, part",
    [
        ("intsnn.kernels.layers.compiled", "intsnn.kernels", "from ..formats import Fixed", "stands above"),
        ("intsnn.kernels.layers.compiled", "intsnn.kernels", "from .. import formats", "stands above"),
        (
            "intsnn.kernels.layers.compiled",
            "intsnn.kernels",
            "def f():\n    import intsnn.formats.fixed",
            "stands above",
        ),
        ("intsnn.kernels.layers.compiled", "intsnn.kernels", "import h5py", "h5py, which belongs"),
        ("intsnn.simulate", "intsnn", "from .models import keras", "stands above"),
        ("intsnn.simulate", "intsnn", "from . import models", "stands above"),
        ("intsnn.simulate", "intsnn", "import importlib\nimportlib.import_module('.bench', 'intsnn')", "stands above"),
        ("intsnn", "intsnn", "from .models.keras import load", "stands above"),
        ("intsnn.simulate", "intsnn", "import numba", "numba, which belongs"),
        ("intsnn.files.network_file", "intsnn", "import h5py", "h5py, which belongs"),
        ("intsnn.simulate", "intsnn", "import joblib", "at once"),
        ("intsnn.simulate", "intsnn", "from rich.progress import track", "rich, which belongs"),
        ("intsnn.simulate", "intsnn", "import scipy", "does not know"),
        ("intsnn.simulate", "intsnn", "import kernels", "top-level kernels"),
        ("intsnn.models.keras.load", "intsnn.models", "from ..bench import sweep", "stands above"),
        ("intsnn.models.keras.load", "intsnn.models", "import torch", "torch, which belongs"),
        ("intsnn.models.zoo.catalogue", "intsnn.models", "from .qat.training import train", "at once"),
        ("intsnn.models.zoo.catalogue", "intsnn.models", "from .qat import training", "at once"),
        ("intsnn.models.zoo.catalogue", "intsnn.models", "from .bptt.training import train", "at once"),
        ("intsnn.models.zoo.catalogue", "intsnn.models", "from .torch_training import Run", "at once"),
        ("intsnn.models.bptt.work", "intsnn.models.bptt", "import brevitas", "brevitas, which belongs"),
        ("intsnn.models.training.loop", "intsnn.models", "import brevitas", "brevitas, which belongs"),
        ("intsnn.bench.speed.peers.torch", "intsnn.bench.speed.peers", "import torch", "at once"),
        ("intsnn.bench.sweep.sweep", "intsnn.bench", "from ..cli import main", "stands above"),
        ("intsnn.bench.sweep.sweep", "intsnn.bench", "from ..commands.common import cores", "stands above"),
        ("intsnn.bench.sweep.sweep", "intsnn.bench", "import click", "click, which belongs"),
        ("intsnn.bench.speed.plots", "intsnn.bench", "import matplotlib.pyplot as plt", "at once"),
    ],
)
def test_wrong_imports_are_seen(module, package, source, part):
    found = complaints(source, module, package)
    assert found and part in found[0]


@pytest.mark.parametrize(
    "module, package, source",
    [
        ("intsnn", "intsnn", "def __getattr__(name):\n    from .models import load\n    return load"),
        ("intsnn.simulate", "intsnn", "from .kernels import linear\nfrom .kernels.jit import kernel"),
        ("intsnn.bench.speed.plots", "intsnn.bench", "def f():\n    import matplotlib.pyplot"),
        ("intsnn.cli.main", "intsnn", "import click\nfrom .bench import sweep"),
        (
            "intsnn.cli.commands.run",
            "intsnn.cli.commands",
            "import click\nfrom .common import cores\nfrom ..bench import sweep",
        ),
        ("intsnn.models.keras.load", "intsnn.models", "from ..hdf5 import read_tree\nfrom .. import floatnet"),
        ("intsnn.kernels.layers.compiled", "intsnn.kernels", "import numba\nfrom . import jit"),
        ("intsnn.models.qat.quantisers.weights", "intsnn.models.qat", "import torch\nfrom .rounding import half_up"),
        ("intsnn.models.bptt.network", "intsnn.models.bptt", "import torch\nfrom ..qat.sigmoids import SigmoidWeight"),
        ("intsnn.cli.commands.train", "intsnn.cli.commands", "def f():\n    from ..models.qat.training import train"),
    ],
)
def test_right_imports_pass(module, package, source):
    assert complaints(source, module, package) == []


def test_importing_intsnn_is_light():
    """No extra, no compiler and no command line is loaded before somebody uses it."""
    heavy = "numba h5py click rich joblib torch brevitas matplotlib PIL dask distributed nir snntorch".split()
    code = f"import sys, intsnn; print([name for name in {heavy!r} if name in sys.modules])"
    here = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here, timeout=HANGING)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
