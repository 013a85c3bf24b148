"""The tiers of instructions: every one gives the same integers, generates its own code, and can be asked for."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from machine_code import assembly_of
from waiting import HANGING

from intsnn.errors import IntsnnError, TierError
from intsnn.kernels.toolchain import tier as cpu

ANN_SEEDS = range(1000, 1025)
HERE = os.path.abspath(__file__)
TIERS = cpu.TIERS[: cpu.TIERS.index(cpu.probe()) + 1]
CLEAN = {name: value for name, value in os.environ.items() if name not in ("INTSNN_KERNELS", "NUMBA_DISABLE_JIT")}
CLEAN["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)


def child(*arguments, **environment):
    """Run a Python of its own, with this environment and nothing said about tiers."""
    return subprocess.run(
        [sys.executable, *arguments], env=CLEAN | environment, capture_output=True, text=True, timeout=HANGING
    )


# -- what a child runs ------------------------------------------------------------------------------


def networks():
    """Networks that take every path between them: (name, network, input, options)."""
    from intsnn import IF, Affine, Conv2d, Fixed, Flatten, Input, MaxPool2d, Network, Readout, Rounding, SignedIF
    from intsnn.layers import LIF, QFFS, AvgPool2d, CubaLIF, Decay, Refractory, SumPool2d, Upsample2d, loihi

    rng = np.random.default_rng(3)

    def weights(*size):
        return rng.integers(-8, 9, size)

    convolutions = Network.sequential(
        Input((3, 9, 9), Fixed(8, signed=False)),
        Conv2d(weights(20, 3, 3, 3), padding=1, bias=rng.integers(-300, 300, 20), bias_mode="spread"),
        SignedIF(rng.integers(500, 900, 20), levels=7),
        Conv2d(weights(70, 20, 3, 3), padding=1),
        SignedIF(40, levels=7),
        MaxPool2d(3),
        Flatten(),
        Affine(weights(40, 630)),
        SignedIF(30, levels=7),
        Affine(weights(10, 40)),
        Readout(),
        t_drive=7,
        levels=7,
    )
    images = rng.integers(0, 256, (5, 3, 9, 9))
    yield "convolutions", convolutions, images, {"settle": True}
    values = Network.sequential(
        Input((3, 9, 9), Fixed(8, signed=False)),
        AvgPool2d(2, 1),
        Conv2d(weights(40, 3, 3, 3), padding=1, dilation=(1, 2), bias=rng.integers(-300, 300, 40), bias_mode="once"),
        SignedIF(rng.integers(500, 900, 40), levels=7),
        Conv2d(weights(40, 1, 3, 3), groups=40, padding=1, multiplier=rng.integers(1, 5, 40)),
        SignedIF(20, levels=7),
        Conv2d(100 * weights(20, 10, 3, 3), groups=4, weight_format=Fixed(12)),
        SignedIF(4000, levels=7),
        Upsample2d(2),
        MaxPool2d(2, 1),
        SumPool2d(5, 5),
        Conv2d(weights(5, 20, 1, 1), bias=[1, 2, 3, 4, 5]),
        IF(9, refractory=Refractory("counter", steps=1)),
        Readout(),
        t_drive=7,
        levels=7,
    )
    yield "values", values, images, {"settle": True}
    spikes = rng.integers(0, 2, (12, 4, 30))
    for name, neuron in (
        ("if", IF(40)),
        ("lif", LIF(40, Decay.by_shift(3, Rounding.RND_CONV), v_format=Fixed(8))),
        ("qffs", QFFS(40, 5)),
        ("cuba", CubaLIF(90, Decay.by_shift(2), Decay.by_multiply(3000, 12), bias=3)),
        ("loihi", loihi(1, 300, 200)),
        ("wide", LIF(40, Decay.by_multiply(5, 3, Rounding.RND), v_format=Fixed(40), v_initial=2**36)),
    ):
        layers = (Input((30,)), Affine(weights(75, 30), bias=2), neuron, Affine(weights(75, 75)), neuron)
        yield name, Network.sequential(*layers, Affine(weights(6, 75)), Readout()), spikes, {}


def digest(*arrays):
    """Short name of some integers."""
    return hashlib.sha256(repr([np.asarray(a).tolist() for a in arrays]).encode()).hexdigest()[:16]


def what_a_tier_gives(with_reference):
    """Digests of every output and record of all networks by name, and the tier that made them."""
    from networks.ann import ann_network

    import intsnn
    from intsnn.datasets.catalogue import load
    from intsnn.engine.ann import integer_ann
    from intsnn.engine.backends.fused.runner import prepare
    from intsnn.engine.simulation import simulate
    from intsnn.kernels.toolchain import tier as cpu

    found = {"tier": cpu.tier(), "reason": cpu.reason()}
    for name, network, inputs, options in networks():
        paths = ("reference", "step") if with_reference else ("step",)
        for path in paths:
            run = simulate(network, inputs, path=path, record=("spikes", "v"), **options)
            found[f"{name} {path}"] = digest(run.outputs, *(run.records[key] for key in sorted(run.records)))
        found[f"{name} fused"] = digest(prepare(network, **options)(inputs).outputs)
        found[f"{name} outputs"] = digest(simulate(network, inputs, **options).outputs)
    network, codes = intsnn.load("zoo:digits-ca-lif"), load("digits:test").images[:40]
    run = simulate(network, codes, settle=True, record="spikes")
    found["zoo layer"] = digest(run.outputs, *(run.records[key] for key in sorted(run.records)))
    found["zoo outputs"] = digest(run.outputs)
    found["zoo fused"] = digest(prepare(network, settle=True)(codes).outputs)
    for seed in ANN_SEEDS:
        network, codes = ann_network(seed)
        for path in ("count", "step"):
            try:
                ann = integer_ann(network, codes, path=path)
                found[f"ann {seed} {path}"] = digest(ann.outputs, *(ann.levels[name] for name in sorted(ann.levels)))
            except intsnn.errors.RangeError as error:
                found[f"ann {seed} {path}"] = str(error)
    return found


def registers_of():
    """Which registers the code of some kernels uses when it is made for the tier that is in use."""
    from intsnn.kernels.layers import compiled as linear
    from intsnn.kernels.neurons import compiled as neuron
    from intsnn.kernels.neurons import narrow as membrane  # noqa: F401

    rng = np.random.default_rng(1)
    alive = np.ones(2, np.uint8)
    x = rng.integers(-3, 4, (2, 4, 200)).astype(np.int8)
    neuron.tally(x, 4, alive, np.zeros((2, 4), np.uint8), np.zeros(200, np.uint8), np.zeros(200, np.uint8))
    linear.accumulate(x, 4, alive, np.zeros((2, 200), np.int64))
    compiled = [neuron.tally, linear.accumulate]
    if cpu.tier() != "portable":
        from intsnn import IF, Affine, Fixed, Input, Network, simulate

        network = Network.sequential(Input((40,), Fixed(4)), Affine(rng.integers(-8, 8, (70, 40))), IF(9))
        simulate(network, x[:, :, :40], steps=2)
        compiled += [membrane._run_0, membrane._run_1, linear.convolve]
    code = assembly_of(compiled)
    return {"length": len(code), **{name: f"%{name}" in code for name in ("xmm", "ymm", "zmm")}}


def main():
    what, *rest = sys.argv[1:]
    found = registers_of() if what == "registers" else what_a_tier_gives(rest == ["portable"])
    print(json.dumps(found))


# -- the same integers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def given():
    """What every tier gave."""
    found = {}
    for tier in TIERS:
        done = child(HERE, "run", tier, INTSNN_KERNELS=tier)
        assert done.returncode == 0, (tier, done.stderr[-2000:])
        found[tier] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("tier", TIERS)
def test_tier_is_used_when_it_is_named(given, tier):
    assert given[tier]["tier"] == tier
    assert given[tier]["reason"] == f"{tier}: named by INTSNN_KERNELS"


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_gives_the_integers_of_the_reference(given, tier):
    """Outputs, spikes and membranes of the step path; outputs of the fused path."""
    reference = given["portable"]
    names = [key.removesuffix(" reference") for key in reference if key.endswith(" reference")]
    assert len(names) == 8
    for name in names:
        assert given[tier][f"{name} step"] == reference[f"{name} reference"], name
    for name in (*names, "zoo"):
        assert given[tier][f"{name} fused"] == given[tier][f"{name} outputs"] == reference[f"{name} outputs"], name
    assert given[tier]["zoo layer"] == reference["zoo layer"]


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_counts_alike(given, tier):
    """The count path: the integers of the layers of its own tier, which are those of all tiers."""
    for seed in ANN_SEEDS:
        expected = given["portable"][f"ann {seed} step"]
        assert given[tier][f"ann {seed} count"] == given[tier][f"ann {seed} step"] == expected, seed
    assert len({given[tier][f"ann {seed} count"] for seed in ANN_SEEDS}) == len(ANN_SEEDS)


# -- the code ---------------------------------------------------------------------------------------


@pytest.mark.skipif(len(TIERS) < 2, reason="this processor has the tier portable only")
@pytest.mark.parametrize("tier", TIERS)
def test_code_is_that_of_the_tier(tier):
    """No wide registers below the tier that has them; the check sees them where they are."""
    done = child(HERE, "registers", tier, INTSNN_KERNELS=tier)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["length"] > 1000 and found["xmm"]
    assert found["ymm"] == (tier != "portable")
    assert found["zmm"] == (tier in ("avx512", "vnni"))


# -- which tier -------------------------------------------------------------------------------------


def test_unknown_word_is_refused():
    """As an error of intsnn, also by the command line."""
    code = """from intsnn.errors import IntsnnError
try:
    import intsnn.kernels.toolchain.jit
except IntsnnError as e:
    print(e)
"""
    done = child("-c", code, INTSNN_KERNELS="sse9")
    expected = f"INTSNN_KERNELS: found 'sse9', which is no tier; this machine has {', '.join(TIERS)}"
    assert done.stdout.strip() == expected, done.stderr
    done = child("-m", "intsnn", "inspect", "zoo:digits-fast", INTSNN_KERNELS="sse9")
    assert done.returncode == 3 and expected in done.stderr and "Traceback" not in done.stderr


def test_word_may_be_written_in_capitals(monkeypatch):
    monkeypatch.setenv(cpu.VARIABLE, " AVX2 ")
    assert cpu._asked("vnni") == "avx2"
    monkeypatch.setenv(cpu.VARIABLE, "")
    assert cpu._asked("vnni") is None


@pytest.mark.parametrize("best, word", [("portable", "avx2"), ("avx2", "avx512"), ("avx512", "vnni")])
def test_tier_that_the_machine_lacks_is_refused(monkeypatch, best, word):
    monkeypatch.setenv(cpu.VARIABLE, word)
    with pytest.raises(TierError, match=f"found '{word}', but this processor lacks it; it has portable") as found:
        cpu._asked(best)
    assert isinstance(found.value, IntsnnError) and isinstance(found.value, ValueError)
    assert str(found.value).endswith(best)


@pytest.mark.parametrize(
    "left_out, best",
    [(None, "vnni"), ("avx512vnni", "avx512"), ("avx512dq", "avx2"), ("bmi2", "portable"), ("avx2", "portable")],
)
def test_probe_asks_for_every_feature(monkeypatch, left_out, best):
    binding = pytest.importorskip("llvmlite.binding")
    features = {name: name != left_out for names in cpu.NEEDED.values() for name in names}
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: features)
    monkeypatch.setattr(cpu.platform, "machine", lambda: "x86_64")
    assert cpu.probe.__wrapped__() == best
    monkeypatch.setattr(cpu.platform, "machine", lambda: "aarch64")
    assert cpu.probe.__wrapped__() == "portable"


@pytest.mark.skipif(len(TIERS) < 2, reason="this processor has the tier portable only")
def test_lower_tier_comes_too_late_behind_other_compiled_code():
    code = "import numba\n@numba.njit\ndef f(x): return x\nf(1)\nimport intsnn.kernels.toolchain.jit"
    done = child("-c", code, INTSNN_KERNELS="portable")
    assert done.returncode != 0 and "found 'portable' too late" in done.stderr and "NUMBA_CPU_NAME" in done.stderr


def test_other_target_of_numba_is_portable():
    code = "from intsnn.kernels.toolchain import tier as cpu; print(cpu.tier(), cpu.reason())"
    done = child("-c", code, NUMBA_CPU_NAME="generic")
    assert done.stdout.strip() == "portable portable: Numba is told to compile for generic", done.stderr


# -- the self-test ----------------------------------------------------------------------------------


@pytest.fixture
def choice(monkeypatch, tmp_path):
    """``choice(faults)``: the tier of a machine with everything, whose tiers in `faults` fail their self-test."""
    aimed = []

    def choose(faults):
        monkeypatch.delenv(cpu.VARIABLE, raising=False)
        monkeypatch.setattr(cpu, "probe", lambda: "vnni")
        monkeypatch.setattr(cpu, "_fault", lambda name: faults.get(name, ""))
        monkeypatch.setattr(cpu, "_aim", lambda name, asked: aimed.append((name, asked)))
        numba = pytest.importorskip("numba")
        for name, value in (("DISABLE_JIT", 0), ("CPU_NAME", None), ("CPU_FEATURES", None)):
            monkeypatch.setattr(numba.config, name, value)
        return cpu._choice.__wrapped__(), aimed

    return choose


def test_failed_self_test_falls_back_one_tier(choice):
    assert choice({}) == (("vnni", "vnni: the best tier of this processor"), [])
    found, aimed = choice({"vnni": "dots: other numbers"})
    assert found == ("avx512", "avx512: vnni failed its self-test (dots: other numbers)")
    assert aimed == [("avx512", False)]
    found, _ = choice({"vnni": "a", "avx512": "b", "avx2": "c"})
    assert found == ("portable", "portable: avx2 failed its self-test (c)")


@pytest.mark.parametrize(
    "status, out, error, fault, kept",
    [
        (0, "", "", "", True),
        (cpu.FAULT, "gather: other numbers than the plain function\n", "", "gather: other numbers than", True),
        (-4, "", "", "ended with status -4", True),  # an illegal instruction
        (1, "", "LLVM ERROR: Cannot select", "ended with status 1", True),
        (1, "", "ModuleNotFoundError: no intsnn", "", False),  # no verdict
        (-9, "", "", "", False),
    ],
)
def test_verdict_of_the_self_test(monkeypatch, tmp_path, status, out, error, fault, kept):
    calls = []

    def run(command, **_):
        calls.append(command)
        return subprocess.CompletedProcess(command, status, out, error)

    monkeypatch.setattr(cpu.cache, "folder", lambda tier: str(tmp_path))
    monkeypatch.setattr(cpu.subprocess, "run", run)
    for _ in range(2):
        found = cpu._fault("avx2")
        assert fault in found and bool(found) == bool(fault)
    assert len(calls) == (1 if kept else 2)  # the second time it is read


def test_self_test_that_cannot_start_is_no_fault(monkeypatch, tmp_path):
    monkeypatch.setattr(cpu.cache, "folder", lambda tier: str(tmp_path))
    monkeypatch.setattr(cpu.sys, "executable", "/opt/program/with-python-inside.bin/editor")
    assert cpu._fault("avx2") == ""
    monkeypatch.setattr(cpu.sys, "executable", str(tmp_path / "python-that-is-not-there"))
    assert cpu._fault("avx2") == ""
    assert list(tmp_path.glob("*.txt")) == []


@pytest.mark.skipif(len(TIERS) < 2, reason="this processor has the tier portable only")
def test_wrong_intrinsic_is_found_and_given_up(repository, tmp_path):
    """A package whose vector code adds one too much still runs, on plain loops, and says why."""
    for folder in ("intsnn", "kernels"):
        ignored = shutil.ignore_patterns("__pycache__", "data", "commands")
        shutil.copytree(repository / folder, tmp_path / folder, ignore=ignored)
    source = tmp_path / "kernels" / "neurons" / "lanes.py"
    right = "exact = self.b.add(x, change)"
    text = source.read_text("utf-8")
    assert text.count(right) == 1
    source.write_text(text.replace(right, "exact = self.b.sub(x, change)"), "utf-8")
    code = "from intsnn.kernels.toolchain import tier as cpu; print(cpu.tier(), '|', cpu.reason())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=HANGING,
        env=CLEAN | {"PYTHONPATH": str(tmp_path), "INTSNN_CACHE": str(tmp_path / "cache"), "INTSNN_KERNELS": "avx2"},
    )  # fmt: skip
    tier, _, reason = done.stdout.strip().partition(" | ")
    assert tier == "portable", done.stderr
    assert reason.startswith("portable: avx2 failed its self-test (neurons of 16 bits: other numbers")
    assert len(list(Path(tmp_path / "cache").glob("*-avx2/selftest-*.txt"))) == 1


if __name__ == "__main__":
    main()
