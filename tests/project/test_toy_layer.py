"""A layer that is added by the file in CONTRIBUTING.md runs, is bounded, stored, counted, described and verified."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from waiting import HANGING

USES = """
import numpy as np
from intsnn import Affine, Conv2d, Fixed, Flatten, Input, Network, Readout, SignedIF
from intsnn import integer_ann, load, save, simulate, verify
from intsnn.analysis import describe
from intsnn.analysis.memory import memory
from intsnn.bench.sweep.tallies import synops
from intsnn.conversion import redriven
from intsnn.layers import Mirror2d

rng = np.random.default_rng(0)
first, last = rng.integers(-9, 9, (2, 1, 2, 2)), rng.integers(-9, 9, (3, 24))
neuron = SignedIF(40, 3, v_format=Fixed(20))

def network(*mirror, weights=last):
    layers = (Conv2d(first), neuron, *mirror, Flatten(), Affine(weights), Readout())
    return Network.sequential(Input((1, 4, 5), Fixed(8, signed=False)), *layers, t_drive=3, levels=3)

mirrored = network(Mirror2d())
codes = rng.integers(0, 256, (6, 1, 4, 5))
# the same network without it: its readout sees the columns from the other side
other = network(weights=last.reshape(3, 2, 3, 4)[..., ::-1].reshape(3, 24))
expected = simulate(other, codes, settle=True).outputs
for path in ("layer", "step", "reference"):
    assert np.array_equal(simulate(mirrored, codes, settle=True, path=path).outputs, expected), path
assert np.array_equal(integer_ann(mirrored, codes).outputs, expected) and expected.any()
assert mirrored.bounds()["mirror2d_3"].high.max() == 1
outcome = verify(mirrored, codes)
assert outcome.ok and outcome.due and outcome.compared > 1000, outcome
save(mirrored, "toy.h5")
again = load("toy.h5")
assert again.nodes["mirror2d_3"] == Mirror2d() and np.array_equal(simulate(again, codes, settle=True).outputs, expected)
assert any(row["name"] == "mirror2d_3" for row in describe(mirrored).layers)
assert {item.name for item in memory(mirrored).items} >= {"weight", "v", "total"}
slower = redriven(mirrored, 6)
assert np.array_equal(integer_ann(slower, codes).levels["neuron_2"], integer_ann(mirrored, codes).levels["neuron_2"])
spikes = {"neuron_2": rng.integers(0, 4, (2, 3, 4))}
assert list(synops(mirrored, spikes).values()) == list(synops(other, spikes).values()) == [3 * spikes["neuron_2"].sum()]
print("whole")
"""


@pytest.fixture(scope="module")
def tree(repository, tmp_path_factory):
    """A copy of the sources with the file of the recipe, and its name in the face."""
    root = tmp_path_factory.mktemp("toy")
    for folder in ("intsnn", "kernels", "models", "bench"):
        shutil.copytree(repository / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    page = (repository / "CONTRIBUTING.md").read_text("utf-8")
    (source,) = re.findall(r"<!-- toy layer -->\n```python\n(.*?)^```", page, re.M | re.S)
    (root / "intsnn/layers/mirror.py").write_text(source, "utf-8")
    face = root / "intsnn/layers/__init__.py"
    text = face.read_text("utf-8")
    assert text.count('        "neurons": ') == 1
    face.write_text(text.replace('        "neurons": ', '        "mirror": "Mirror2d",\n        "neurons": '), "utf-8")
    return root


def test_one_file_adds_a_layer(tree):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "PYTHONPATH": str(tree)
    }
    done = subprocess.run(
        [sys.executable, "-c", USES], cwd=tree, env=environment, capture_output=True, text=True, timeout=HANGING
    )
    assert done.stdout.strip() == "whole", done.stderr
