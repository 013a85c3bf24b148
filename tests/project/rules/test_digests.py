"""A file that is added in any room changes the digests that say which results and which compiled code are valid."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from house import FOLDERS
from waiting import HANGING

# Rooms whose files change no number of a sweep: what the user sees, and what is measured beside it.
SHOWN = ("intsnn/cli", "bench")

# Plants a file in each folder in turn, and says which of the two digests it changes.
PLANT = """
import importlib.util, json, sys
from pathlib import Path
from intsnn.bench import provenance
from intsnn.kernels.toolchain import cache

def digests():
    return [cache._digest(), provenance.digest_of(provenance.sources())]

before, found = digests(), {}
assert before == digests()
for folder in json.loads(sys.argv[1]):
    planted = Path(folder, "planted.py")
    planted.write_text("x = 1\\n")
    found[folder] = [one != other for one, other in zip(before, digests())]
    planted.unlink()
changed = Path("kernels/layers/compiled.py")
changed.write_text(changed.read_text() + "x = 1\\n")
found["changed"] = [one != other for one, other in zip(before, digests())]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def planted(repository, tmp_path_factory):
    """Folder -> whether a file in it changes the digest of compiled code, and that of a sweep."""
    copy = tmp_path_factory.mktemp("tree")
    for top in FOLDERS:
        for path in (repository / top).rglob("*.py"):
            target = copy / path.relative_to(repository)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    folders = sorted({path.parent.relative_to(copy).as_posix() for path in copy.rglob("*.py")})
    folders += ["kernels/rooms/deep", "intsnn/rooms/deep", "models/rooms/deep"]
    for name in folders[-3:]:
        (copy / name).mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", PLANT, json.dumps(folders)], cwd=copy, capture_output=True, text=True, timeout=HANGING
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_compiled_code_is_made_anew(planted):
    """By any file below kernels/, and by no other."""
    assert {folder for folder, (code, _) in planted.items() if code} == {
        folder for folder in planted if folder == "changed" or Path(folder).parts[0] == "kernels"
    }
    assert planted["kernels/rooms/deep"] == [True, True]


def test_sweeps_are_made_anew(planted):
    """By any file below intsnn/, kernels/ and models/, but not by what only shows results."""
    counted = {folder for folder, (_, sweep) in planted.items() if sweep}
    shown = {folder for folder in planted if f"{folder}/".startswith(tuple(f"{name}/" for name in SHOWN))}
    assert counted == {*planted} - shown
    assert {"intsnn/engine/backends/fused", "models/qat/quantisers", "intsnn/rooms/deep", "changed"} <= counted
    assert {"intsnn/cli", "intsnn/cli/commands/bench", "bench/report"} <= shown
