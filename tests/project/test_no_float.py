"""No float enters a compiled simulation kernel, and the narrow kernels stay narrow.

Everything runs in a process of its own. What is looked at is the code that runs, whether it was compiled there or
came from the cache.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile

import pytest
from machine_code import assembly, forms, types_of
from waiting import HANGING

FLOAT = re.compile(r"(?<![\w.%@\"!])(?:double|float|half|bfloat|x86_fp80|f(?:add|sub|mul|div|rem|cmp))\b")
FLOAT_TYPE = re.compile(r"\b(?:float|complex)(?:16|32|64|128)?\b")


def floats_in(dispatcher):
    """Every place where a float type stands in a compiled function, as text; and how many forms it has."""
    found, count = [], 0
    name = dispatcher.py_func.__name__
    for signature, text, module in forms(dispatcher):
        count += 1
        kinds = [(f"argument {i}", str(kind)) for i, kind in enumerate(signature)]
        kinds += [("result", str(dispatcher.overloads[signature].signature.return_type))]
        variables = types_of(text)
        if not variables:
            raise RuntimeError(f"{name}{signature}: no types are known")
        code = str(module)
        found += [f"{name}{signature}: {what} is {k}" for what, k in kinds + variables if FLOAT_TYPE.search(k)]
        found += [f"{name}{signature}: {line.strip()}" for line in code.splitlines() if FLOAT.search(line)]
    return found, count


def exercise():
    """Run networks with every kind of node on narrow and wide integers, and the helpers that runs use."""
    import numpy as np

    from intsnn.engine.ann import integer_ann
    from intsnn.engine.backends.fused.runner import prepare
    from intsnn.engine.backends.stepwise.plan import PATHS
    from intsnn.engine.inputs import encode_rate
    from intsnn.engine.simulation import simulate
    from intsnn.formats.arithmetic import rescale
    from intsnn.formats.fixed import Fixed, Overflow, Rounding
    from intsnn.formats.packing import pack, unpack
    from intsnn.formats.reals import quantise
    from intsnn.layers import (
        IF,
        LIF,
        Add,
        Affine,
        AvgPool2d,
        Conv2d,
        CubaLIF,
        Decay,
        Flatten,
        Input,
        MaxPool2d,
        Readout,
        Refractory,
        Scale,
        SignedIF,
        SumPool2d,
    )
    from intsnn.network.spiking import Network

    rng = np.random.default_rng(1)
    stochastic = Decay.by_shift(2, Rounding.STOCHASTIC)
    for wide in (False, True):
        factor = 1 << 24 if wide else 1
        layers = {
            "in": Input((2, 8, 8), Fixed(4)),
            "conv": Conv2d(
                rng.integers(-8, 8, (80, 2, 3, 3)), bias=rng.integers(-9, 9, 80), padding=1, multiplier=factor
            ),
            "one": SignedIF(40 * factor, levels=7, v_format=Fixed(40)),
            "depth": Conv2d(rng.integers(-8, 8, (80, 1, 3, 3)), padding=1, groups=80, dilation=1),
            "join": Add(),
            "two": SignedIF(20, levels=7, reset_delay=1),
            "sums": SumPool2d(2),
            "scaled": Scale(3 * factor),
            "three": SignedIF(5 * factor, levels=7, v_format=Fixed(40)),
            "greatest": MaxPool2d(2),
            "flat": Flatten(),
            "dense": Affine(rng.integers(-8, 8, (5, 320)), bias=3, delay=1),
            "out": Readout(),
        }
        names = list(layers)
        edges = [*zip(names[:3], names[1:4], strict=False), ("depth", "join"), ("one", "join")]
        edges += zip(names[4:-1], names[5:], strict=True)
        network = Network(layers, edges, t_drive=7, levels=7)
        codes = rng.integers(-8, 8, (3, 2, 8, 8))
        for path in [path for path in PATHS if path != "reference"]:
            simulate(network, codes, settle=True, path=path)
            simulate(network, codes, settle=True, path=path, record=("spikes", "v", "current"))
        simulate(network, np.repeat(codes[None], 9, axis=0))
        integer_ann(network, codes)
        leaky = CubaLIF(
            9, stochastic, Decay.by_multiply(3, 2, Rounding.STOCHASTIC), u_format=Fixed(12), acc_format=Fixed(12),
            v_overflow=Overflow.WRAP, max_spikes_per_step=3, signed=True,
            refractory=Refractory("trace", amplitude=2, decay=stochastic),
        )  # fmt: skip
        network = Network.sequential(
            Input((2, 8, 8), Fixed(4)), Scale(factor), AvgPool2d(2), leaky, Flatten(), IF(2), Readout("first_spike")
        )
        simulate(network, codes, steps=4, record=("u", "v"))
    layers = {
        "in": Input((2, 8, 8), Fixed(4)),
        "conv": Conv2d(rng.integers(-8, 8, (80, 2, 3, 3)), bias=3, padding=1),
        "one": SignedIF(40, levels=7),
        "again": Conv2d(rng.integers(-8, 8, (80, 80, 3, 3)), padding=1, multiplier=2),
        "skip": Scale(3),
        "join": Add(),
        "two": SignedIF(20, levels=7),
        "sums": SumPool2d(2),
        "next": Conv2d(rng.integers(-8, 8, (24, 80, 3, 3)), padding=1, bias=rng.integers(-9, 9, 24)),
        "three": SignedIF(5, levels=7),
        "greatest": MaxPool2d(2),
        "flat": Flatten(),
        "dense": Affine(rng.integers(-8, 8, (5, 96)), bias=3),
        "out": Readout(),
    }
    names = list(layers)
    edges = [*zip(names[:3], names[1:4], strict=True), ("again", "join"), ("one", "skip"), ("skip", "join")]
    edges += zip(names[5:-1], names[6:], strict=True)
    run = prepare(Network(layers, edges, t_drive=7, levels=7), settle=True)
    run(codes)
    for _ in range(2):  # the second time it is known what such frames are
        run(np.repeat(codes[None], 9, axis=0).astype(np.int8))
    ends = (Flatten(), Affine(rng.integers(-8, 8, (5, 96))), Readout())
    first = (Input((2, 8, 8), Fixed(4)), Conv2d(rng.integers(-8, 8, (6, 2, 3, 3)), padding=1))
    short = Network.sequential(*first, SignedIF(40, levels=7), MaxPool2d(2), *ends)
    for path in ("count", "step"):
        integer_ann(short, codes, steps=3, path=path)
    for neuron in (LIF(9, Decay.by_shift(2), v_format=Fixed(16)), CubaLIF(9, Decay.by_shift(1), Decay.by_shift(2))):
        leaking = Network.sequential(*first, neuron, SumPool2d(2), *ends)
        simulate(leaking, codes, steps=4, path="fused")
    for bits in (2, 20, 34):  # plain neurons that need 16, 32 and 64 bits
        top = (1 << bits) - 1
        network = Network.sequential(
            Input((3,), Fixed(bits + 1)), Affine(np.eye(3, dtype=int)), IF(1, v_format=Fixed(40)), Readout()
        )
        simulate(network, [[0, 1, top], [1, 0, top]], steps=3)
    encode_rate(rng.integers(0, 256, (2, 5)), 3, 255)
    quantise([0.3, -1.7], Fixed(8, 4), "STOCHASTIC", "SAT")
    rescale([1, -2, 300], Fixed(16, 3), Fixed(8), "STOCHASTIC", "WRAP")
    unpack(pack([1, -2, 3], Fixed(3)), Fixed(3), 3)
    exercise_learning(rng)
    exercise_camera(rng)


def exercise_learning(rng):
    """From events to new weights: both modes, both ways of every sum, narrow and wide integers."""
    import numpy as np

    from intsnn.learning.learner import Conv, Dense, Learner, LearningNetwork, Rule, Widths

    layers = (Conv(3, 3, 1, pool=2), Conv(3, 2), Dense(32))
    wide = Widths(weight=12, membrane=18, synapse=16, gradient=18, state=12, readout=10, error=10)
    for rule in (
        Rule.published(burn_in=1, weight_scale="0.01", tau_membrane=(2, 5)),
        Rule.corrected(burn_in=1, weight_scale="0.01", tau_membrane=(2, 5), trace_rounding="STOCHASTIC",
                       widths=Widths(random=4)),
        Rule.corrected(burn_in=1, weight_scale="0.01", tau_membrane=(2, 5), trace_rounding="floor", widths=wide),
    ):  # fmt: skip
        learner = Learner(LearningNetwork((2, 6, 6), layers, 3, rule))
        state = learner.begin(4)
        for density in (0.0, 0.1, 0.9, 0.9, 0.9):
            learner.learn(state, (rng.random((4, 2, 6, 6)) < density).astype(np.uint8), [0, 1, 2, 0])
        learner.votes((rng.random((3, 2, 2, 6, 6)) < 0.5).astype(np.uint8))
    exercise_spike_timing(rng)


def exercise_camera(rng):
    """Events of images, with all kinds of noise, and their frames."""
    import numpy as np

    from intsnn.datasets import camera as saccades

    camera = saccades.Camera(mismatch=2, jitter=2, noise=100)
    placed = saccades.place(rng.integers(0, 17, (2, 1, 8, 8)), 16, camera)
    events = saccades.stream(placed[0], 0, camera=camera)
    out = np.zeros((2, 5, 2, camera.rows // 2, camera.columns // 2), np.uint8)
    bin_us = int(events["t"].max()) // 4
    saccades.stream_frames(placed, np.arange(2), out, bin_us=bin_us, divide=(2, 2), clip=1, camera=camera)


def exercise_spike_timing(rng):
    """Pair-based and three-factor rules with random bits everywhere, narrow and wide weights."""
    from intsnn.layers import Decay
    from intsnn.learning.stdp import PairRule, Plasticity, Trace, by_shift

    trace = Trace(7, 64, Decay.by_shift(3, 7))
    for bits in (7, 12):
        rule = PairRule(by_shift(7, 2), by_shift(7, 3), trace, trace, bits, soft=True, eligibility=Decay.by_shift(2, 7))
        learner = Plasticity(rule, rng.integers(0, 100, (6, 5)), samples=2)
        for reward in (None, None, [1, -1], [2, 0]):
            learner.step(rng.integers(0, 2, (2, 6)), rng.integers(0, 2, (2, 5)), reward)


def dispatchers():
    """Every compiled function of the kernels, by name; not those that are pasted into their callers."""
    import importlib
    import pkgutil

    from numba.core.registry import CPUDispatcher

    import intsnn.kernels

    found = {}
    for part in pkgutil.walk_packages(intsnn.kernels.__path__, "intsnn.kernels."):
        for name, value in vars(importlib.import_module(part.name)).items():
            if isinstance(value, CPUDispatcher) and value.py_func.__module__ == part.name:
                if value.targetoptions.get("inline") != "always":
                    found[f"{part.name.removeprefix('intsnn.kernels.')}.{name}"] = value
    return found


def mean(x):
    return x.sum() / len(x)


def hidden(x):
    half = x[0] * 0.5
    return int(half)


def whole(x):
    return x.sum() // len(x)


def compiled_and_kept(function):
    """`function` as it was compiled, and as it comes from a cache."""
    import numba
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        numba.config.CACHE_DIR = folder
        made = [numba.njit(cache=True)(function) for _ in range(2)]
        for dispatcher in made:
            dispatcher(np.arange(5))
    assert [sum(dispatcher.stats.cache_hits.values()) for dispatcher in made] == [0, 1]
    return made


def main():
    """What the tests below look at, as JSON."""
    exercise()
    report = {"compiled": {}, "floats": []}
    for name, dispatcher in dispatchers().items():
        found, report["compiled"][name] = floats_in(dispatcher)
        report["floats"] += found

    for function in (mean, hidden, whole):
        report[function.__name__] = [found for found, _ in map(floats_in, compiled_and_kept(function))]

    from intsnn.kernels.layers import compiled as linear
    from intsnn.kernels.neurons import narrow as membrane
    from intsnn.kernels.toolchain import tier as cpu

    report["machine"], report["tier"] = platform.machine(), cpu.tier()
    for name, dispatcher in (("neurons", membrane._run_0), ("convolve", linear.convolve)):
        report[name] = {}
        for signature, _, module in forms(dispatcher):
            state = signature[9] if name == "neurons" else signature[10]
            code = assembly(dispatcher, module) if name == "neurons" else ""
            arithmetic = re.findall(r"^\s+v?p(?:add|sub|mull|cmpgt)([wdq])\s", code, re.MULTILINE)
            vectors = re.findall(r"= (?:add|sub|mul)[a-z ]* <\d+ x i\d+>", str(module))
            found = {"asm": {w: arithmetic.count(w) for w in "wdq"}, "ir": sorted(set(vectors))}
            report[name].setdefault(str(state.dtype), []).append(found)
    print(json.dumps(report))


@pytest.fixture(scope="module")
def report():
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"NUMBA_DISABLE_JIT": "0", "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, os.path.abspath(__file__)], env=environment, capture_output=True, text=True, timeout=HANGING
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_no_float_in_compiled_kernels(report):
    assert report["floats"] == []


# kernels that no other tier has a use for; the last is compiled elsewhere if a self-test happens to run
ONE_TIER = {"learning.dense._margins": "vnni", "count.vectors._level_of_one": "portable"}


def test_every_kernel_was_looked_at(report):
    idle = [name for name, count in report["compiled"].items() if not count]
    idle = [name for name in idle if ONE_TIER.get(name, report["tier"]) == report["tier"]]
    assert idle == [] and len(report["compiled"]) > 15


def test_the_check_sees_floats(report):
    """A division, and a float between two integers that no argument or result shows; in compiled and in kept code."""
    for divided, between, exact in zip(report["mean"], report["hidden"], report["whole"], strict=True):
        assert any("result is float64" in line for line in divided)
        assert any("is float64" in line for line in between) and any("double" in line for line in between)
        assert exact == []


def test_narrow_kernels_are_narrow_vectors(report):
    """Membranes and sums are added at their own width; nothing is widened on the way."""
    if report["tier"] == "portable":
        pytest.skip("the tier portable has no vectors of its own")
    for bits, lanes in ((16, 64), (32, 32), (64, 16)):
        for variant in report["neurons"][f"int{bits}"]:
            assert f"= add <{lanes} x i{bits}>" in variant["ir"]
            assert not any(f"add <{lanes} x i{2 * bits}>" in line for line in variant["ir"])
    for variant in report["convolve"]["int32"]:  # the loop over events: weight times value, added to the sums
        for operation in ("add", "mul"):
            assert f"= {operation} <16 x i32>" in variant["ir"]
        assert not any("mul" in line and "i64>" in line for line in variant["ir"])
    if report["machine"] in ("x86_64", "AMD64"):
        narrow, wide = (report["neurons"][kind][0]["asm"] for kind in ("int16", "int64"))
        assert narrow["w"] > narrow["d"] + narrow["q"] and wide["q"] and not wide["w"]  # the check can tell them apart


if __name__ == "__main__":
    main()
