"""Every tier of instructions gives the same integers, and a forced one really is the one that runs."""

import json
import os
import subprocess
import sys

import pytest

from intsnn.errors import TierError
from intsnn.kernels import cpu

MINE = cpu.TIERS[: cpu.TIERS.index(cpu.probe()) + 1]

# Outputs of the fused path and of both paths of `simulate`, on workloads, a trained network and odd shapes.
SCRIPT = """
import hashlib, json
import numpy as np
from intsnn import Affine, Conv2d, Flatten, IF, Input, MaxPool2d, Network, Readout, SignedIF, simulate
from intsnn import datasets
from intsnn.bench.workloads import build
from intsnn.kernels import cpu, selftest
from intsnn.models import digits, keras
from intsnn.pipeline import convert_float
from intsnn.runner import prepare

def odd(seed):
    rng = np.random.default_rng(seed)
    weights = lambda *shape: rng.integers(-127, 128, shape)
    return Network.sequential(
        Input((3, 9, 7)), Conv2d(weights(33, 3, 3, 3), padding=1, bias=rng.integers(-999, 999, 33), bias_mode="spread"),
        SignedIF(20000, 7), MaxPool2d(2), Conv2d(weights(70, 33, 2, 2), multiplier=rng.integers(1, 9, 70)),
        SignedIF(9000, 7), Flatten(), Affine(weights(300, 420)), SignedIF(3000, 7), Affine(weights(10, 300)), Readout(),
        t_drive=7, levels=7,
    ), rng.integers(0, 256, (5, 3, 9, 7)), {"settle": True}

cases = {f"odd {seed}": odd(seed) for seed in range(2)}
for name, options in (("mlp-b256", {"batch": 20, "width": 0.3}), ("lenet-b64", {"batch": 3, "width": 0.5}),
                      ("resnet18-b8", {"batch": 1, "width": 0.15})):
    workload = build(name, **options)
    cases[name] = workload.network, workload.inputs, {"steps": workload.steps}
data = datasets.load("digits:test:20")
source = keras.load(digits.network_file())
trained = convert_float(source, datasets.load("digits:train:200"), weight_bits=8, activation_bits=4)
cases["digits"] = trained.conversion.network, data.images, {"settle": True}
found = {}
for name, (network, inputs, options) in cases.items():
    answers = [prepare(network, **options)(inputs).outputs]
    answers += [simulate(network, inputs, path=path, **options).outputs for path in ("layer", "step")]
    found[name] = [hashlib.sha256(np.ascontiguousarray(a, np.int64).tobytes()).hexdigest() for a in answers]
    if name.startswith("odd"):
        want = simulate(network, inputs[:1], path="reference", **options).outputs
        found[name].append(bool((want == answers[0][:1]).all()))
print(json.dumps({"tier": cpu.tier(), "reason": cpu.reason(), "found": found,
                  "faults": [f for f in map(selftest.fault_of, selftest.cases(7)) if f]}))
"""


def run(tier, script, **more):
    environment = {**os.environ, cpu.VARIABLE: tier, "PYTHONPATH": os.pathsep.join(sys.path), **more}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def answers():
    return {tier: run(tier, SCRIPT) for tier in MINE}


@pytest.mark.parametrize("tier", MINE)
def test_every_tier_gives_the_same(answers, tier):
    found = answers[tier]
    assert found["tier"] == tier and "named by" in found["reason"]
    assert found["faults"] == []
    for name, (fused, *others) in found["found"].items():
        assert all(other in (fused, True) for other in others), name
        assert fused == answers["portable"]["found"][name][0], name


@pytest.mark.parametrize(("tier", "wide"), [(t, t in ("avx512", "vnni")) for t in MINE if t != "portable"])
def test_a_forced_tier_keeps_to_its_registers(tier, wide):
    script = """
import json
import numpy as np
from intsnn.kernels import tiles
from intsnn.kernels.jit import kernel

@kernel
def add(sums, rows, items):
    tiles.gather_8(sums, 0, rows, 0, items, 0, 2, 256)

add(np.zeros(256, np.int32), np.zeros(1024, np.int8), np.zeros(9, np.uint32))
print(json.dumps("zmm" in "".join(add.inspect_asm().values())))
"""
    assert run(tier, script, INTSNN_CACHE="") is wide


def test_unknown_and_lacking_tiers(monkeypatch):
    monkeypatch.setenv(cpu.VARIABLE, "sse9")
    with pytest.raises(TierError, match="'sse9', which is no tier; this machine has portable"):
        cpu._asked("avx2")
    monkeypatch.setenv(cpu.VARIABLE, "vnni")
    with pytest.raises(TierError, match="this processor lacks it; it has portable, avx2"):
        cpu._asked("avx2")
    monkeypatch.setenv(cpu.VARIABLE, " AVX2 ")
    assert cpu._asked("vnni") == "avx2"
    monkeypatch.setenv(cpu.VARIABLE, "")
    assert cpu._asked("vnni") is None


def test_a_tier_that_fails_its_self_test_is_given_up(monkeypatch):
    monkeypatch.delenv(cpu.VARIABLE, raising=False)
    monkeypatch.setattr(cpu, "_fault", lambda name: "" if name == "avx2" else "other numbers")
    monkeypatch.setattr(cpu, "probe", lambda: "vnni")
    monkeypatch.setattr(cpu, "_aim", lambda name, asked: None)
    choice = cpu._choice.__wrapped__()
    assert choice.tier == "avx2" and "avx512 failed its self-test (other numbers)" in choice.reason
