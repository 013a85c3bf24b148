"""What is installed, and that it works wherever it is started from."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from waiting import HANGING

import intsnn

CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}


def run(arguments, cwd, **environment):
    """Run this Python; its output, or the test fails with what it said."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=CLEAN | environment, capture_output=True, text=True, timeout=HANGING
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def built(repository, tmp_path_factory):
    """A wheel and a source archive of a copy of the tree (building litters), made without a network."""
    pytest.importorskip("wheel", reason="needs the extra `test`")
    folder = tmp_path_factory.mktemp("build")
    copy = folder / "tree"
    litter = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(repository, copy, ignore=litter)
    code = "from setuptools import build_meta as b; print(b.build_sdist('..'), b.build_wheel('..'))"
    run(["-c", code], copy)
    (wheel,), (archive,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, archive


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A folder that holds what the wheel installs."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(built[0]) as archive:
        archive.extractall(folder)
    return folder


def sources(root, folders):
    return {path.relative_to(root).as_posix() for folder in folders for path in (root / folder).rglob("*.py")}


def test_wheel_holds_the_package_and_nothing_else(built, repository):
    names = set(zipfile.ZipFile(built[0]).namelist())
    expected = sources(repository, ["intsnn"])
    expected |= {f"intsnn/{name}" for name in sources(repository, ["kernels", "models", "bench"])}
    expected |= {"intsnn/py.typed"} | {
        f"intsnn/datasets/data/{path.name}" for path in (repository / "intsnn/datasets/data").iterdir()
    }
    expected |= {f"intsnn/models/zoo/networks/{path.name}" for path in (repository / "models/zoo/networks").iterdir()}
    assert {name for name in names if ".dist-info/" not in name} == expected
    about = f"intsnn-{intsnn.__version__}.dist-info"
    assert zipfile.ZipFile(built[0]).read(f"{about}/top_level.txt").split() == [b"intsnn"]
    assert b"intsnn = intsnn.cli.main:main" in zipfile.ZipFile(built[0]).read(f"{about}/entry_points.txt")
    assert any(name.startswith(about) and name.endswith("LICENSE") for name in names)


def test_source_archive_keeps_the_layout(built, repository):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= sources(repository, ["intsnn", "kernels", "models", "bench", "tests"])
    assert names >= {f"intsnn/datasets/data/{path.name}" for path in (repository / "intsnn/datasets/data").iterdir()}
    assert names >= {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", ".ci/run"}
    assert not any("__pycache__" in name for name in names)


PROBE = """
import importlib.resources, intsnn, intsnn.models, intsnn.bench, intsnn.kernels.toolchain.jit, intsnn.datasets.catalogue
print(intsnn.__file__, intsnn.kernels.toolchain.jit.__file__, len(intsnn.datasets.catalogue.load("digits")))
"""


def test_from_the_wheel(installed, tmp_path):
    package, kernels, count = run(["-c", PROBE], tmp_path, PYTHONPATH=str(installed)).split()
    assert Path(package) == installed / "intsnn" / "__init__.py"
    assert Path(kernels) == installed / "intsnn" / "kernels" / "toolchain" / "jit.py"
    assert count == "360"


def test_from_the_source_tree(repository, installed):
    """In the root the source tree comes before an installed copy, and is whole."""
    package, kernels, _ = run(["-c", PROBE], repository, PYTHONPATH=str(installed)).split()
    assert Path(package) == repository / "intsnn" / "__init__.py"
    assert Path(kernels) == repository / "kernels" / "toolchain" / "jit.py"


def test_folders_are_no_modules_of_their_own(repository):
    for name in ("kernels", "models", "bench"):
        done = subprocess.run(
            [sys.executable, "-c", f"import {name}"], cwd=repository, env=CLEAN, capture_output=True, timeout=HANGING
        )
        assert f"import intsnn.{name}, not {name}".encode() in done.stderr


@pytest.mark.parametrize("place", ["root", "elsewhere"])
def test_command_line_starts(place, repository, installed, tmp_path):
    where = repository if place == "root" else tmp_path
    assert intsnn.__version__ in run(["-m", "intsnn", "--version"], where, PYTHONPATH=str(installed))


def test_metadata_agree():
    """The version is said once; the extras that the documentation names exist."""
    try:
        about = importlib.metadata.metadata("intsnn")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("intsnn is not installed in this environment")
    assert about["Version"] == intsnn.__version__
    extras = {
        "events",
        "qat",
        "report",
        "distributed",
        "images",
        "peers",
        "nir",
        "onnx",
        "safetensors",
        "torch",
        "test",
        "dev",
    }
    assert set(about.get_all("Provides-Extra")) == extras
