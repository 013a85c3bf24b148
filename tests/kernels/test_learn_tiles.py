"""The vector code of learning: each tile is its plain function, and every tier learns the same weights."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from waiting import HANGING

from intsnn.kernels import selftest
from intsnn.kernels.learning import dense_tiles as learn_dense_tiles
from intsnn.kernels.learning import tiles as learn_tiles
from intsnn.kernels.learning.dense_tiles import BYTES, WORDS
from intsnn.kernels.learning.tiles import GROUP, ROWS, SETTINGS, TALLIES, WIDTH
from intsnn.kernels.toolchain import tier as cpu

LOWER = [name for name in ("portable", "avx2") if name in cpu.TIERS[: cpu.TIERS.index(cpu.probe())]]

SCRIPT = """
import json
import numpy as np
from intsnn.kernels.toolchain import tier as cpu
from intsnn.learning.learner import Dense, Learner, LearningNetwork, Rule

digests = []
for scale in ("batch", "previous"):
    rule = Rule.corrected(
        burn_in=0, weight_scale="0.002", tau_membrane=(5, 9), trace_cap="0.2", gradient_scale=scale
    )
    learner, rng = Learner(LearningNetwork((31,), (Dense(64), Dense(32)), 4, rule), seed=3), np.random.default_rng(1)
    state = learner.begin(5)
    for density in (0.5, 0.9, 0.9, 0.9):
        learner.learn(state, (rng.random((5, 31)) < density).astype(np.uint8), [0, 1, 2, 3, 0])
    digests.append(learner.weights_sha256())
print(json.dumps({"tier": cpu.tier(), "digests": digests}))
"""


def cases():
    """One call of every tile."""
    rng = np.random.default_rng(2)

    def numbers(size, kind, low, high):
        return rng.integers(low, high, size).astype(kind)

    rows = rng.integers(0, 50, ROWS + 3)
    factors, weights = numbers(900, np.int16, -4000, 4000), numbers(3 * 5 * WIDTH * 2 + 4, np.int16, -127, 128)
    sums = np.zeros(ROWS * WIDTH, np.int32)
    yield "dot", learn_tiles._plain_dot_tile, (factors, rows, 2, weights, 4, 3, 5, 60, sums)
    counts = np.array([2, 3, 4, 200, 60, 26, 900, 260, 64])
    errors = numbers(2600, np.int16, -31, 32)
    outer = (factors, 5, errors, 3, counts)
    yield "outer", learn_tiles._plain_outer_tile, (*outer, sums)
    low, high = np.zeros(WIDTH, np.int32), np.zeros(WIDTH, np.int32)
    yield "extremes", plain_extremes, (*outer, low, high)
    inputs, bytes_ = numbers(3 * ROWS * BYTES + 4, np.uint8, 0, 256), numbers(3 * WIDTH * BYTES + 4, np.int8, -128, 128)
    yield "coarse", learn_dense_tiles._plain_coarse_tile, (inputs, 4, bytes_, 4, 3, low, high)
    traces, out = numbers(200, np.int16, 0, 4096), np.zeros(WIDTH + 5, np.int32)
    pairs = numbers(200, np.int32, -(1 << 31), 1 << 31)
    yield "pair_vector", learn_dense_tiles._plain_pair_vector, (traces, 3, traces, 101, out, 2)
    yield (
        "quad_vector",
        learn_dense_tiles._plain_quad_vector,
        (pairs & 0x0FFF0FFF, 3, pairs & 0x0FFF0FFF, 90, 4, out, 2),
    )
    yield "quad_block", learn_dense_tiles._plain_quad_block, (pairs, 3, pairs, 90, out, 2)
    for kind in (np.int8, np.int16):
        beside = (numbers(100, kind, -127, 128), 3, numbers(100, kind, -127, 128), 60, out, 2)
        yield "pair_block", learn_dense_tiles._plain_pair_block, beside
    words = rng.integers(0, 1 << 63, 200).astype(np.uint64)
    settings = np.zeros(SETTINGS, np.int32)
    settings[:] = (0, 3, 4, 1, 11, 5, 14, 2, 511, 2, 2, 1, 127)
    gradient, master = numbers(3 * GROUP + 1, np.int32, -(1 << 20), 1 << 20), numbers(900, np.int16, -511, 512)
    gradient[7:20] = 0
    full = settings.copy()
    full[:] = (0, 4, 8, 1, 16, 0, 20, 1022, 511, 2, 2, 1, 127)
    for kind in (np.int8, np.int16):
        tallies, weight = numbers(TALLIES, np.int32, 0, 9), np.zeros(900, kind)
        for inclusive in (False, True):
            name = "step_tile_inclusive" if inclusive else "step_tile"
            arguments = (gradient, 1, words, 8, settings, master, weight, 5, tallies, 3)
            yield name, learn_tiles._plain_step(inclusive), arguments
        rest = (*outer, np.uint64(0xFEDCBA9876543210), 77, full, master, weight, 3, 64, tallies)
        yield "outer_step", plain_outer_step, rest
        yield "outer_step_known", plain_outer_step_known, rest
    yield (
        "words",
        learn_tiles._plain_words_tile,
        (np.uint64(0xFEDCBA9876543210), 123456789, np.zeros(learn_tiles.WORDS + 3, np.uint64), 2),
    )


def plain_extremes(p, p_at, e, e_at, counts, low, high):
    """`_plain_extremes_tile` out of plain functions only."""
    sums = np.empty(ROWS * WIDTH, np.int32)
    learn_tiles._plain_outer_tile(p, p_at, e, e_at, counts, sums)
    low[:] = np.minimum(low, sums.reshape(ROWS, WIDTH).min(0))
    high[:] = np.maximum(high, sums.reshape(ROWS, WIDTH).max(0))


def plain_outer_step(p, p_at, e, e_at, counts, key, first, s, master, weight, where, stride, tallies):
    """`_plain_outer_step_tile` out of plain functions only."""
    sums, row, words = np.empty(ROWS * WIDTH, np.int32), np.empty(WIDTH, np.int32), np.empty(WORDS, np.uint64)
    learn_tiles._plain_outer_tile(p, p_at, e, e_at, counts, sums)
    step = learn_tiles._plain_step(False)
    peaks = np.maximum(tallies[2:], np.abs(sums).reshape(-1, learn_tiles.LANES).max(0))
    for r in range(ROWS):
        row[list(learn_dense_tiles.ORDER)] = sums[r * WIDTH : (r + 1) * WIDTH]
        for i in range(WORDS):
            words[i] = learn_tiles.absorb(key, first + r * stride // 4 + i)
        step(row, 0, words, 0, s, master, weight, where + r * stride, tallies, 1)
    tallies[2:] = peaks  # lane by lane in the order of the sums


def plain_outer_step_known(*arguments):
    """The same, but that sizes are not asked for."""
    peaks = arguments[-1][2:].copy()
    plain_outer_step(*arguments)
    arguments[-1][2:] = peaks


def tile_of(name):
    for place in (learn_tiles, learn_dense_tiles):
        for known in (name, f"{name}_tile", name.replace("_step", "_step_tile")):
            if known in place.__dict__:
                return place.__dict__[known]
    raise KeyError(name)


@pytest.mark.parametrize("name, plain, arguments", list(cases()), ids=lambda x: x if isinstance(x, str) else "")
def test_tile_is_its_plain_function(name, plain, arguments):
    if name.startswith("outer_step") and cpu.tier() == "portable":
        pytest.skip("the portable tier has one tile for both, in another order of sizes")
    assert selftest.fault_of(selftest.Case(name, tile_of(name), plain, arguments)) == ""


def test_a_tile_that_is_wrong_is_seen():
    name, plain, arguments = next(cases())

    def wrong(*arguments):
        plain(*arguments)
        arguments[-1][3] += 1

    assert "other numbers" in selftest.fault_of(selftest.Case(name, learn_tiles.dot_tile, wrong, arguments))


@pytest.mark.skipif(cpu.probe() == "portable", reason="this processor has one tier only")
def test_every_tier_learns_the_same_weights():
    found = {}
    for tier in ("", *LOWER):
        environment = {
            **os.environ,
            cpu.VARIABLE: tier,
            "NUMBA_DISABLE_JIT": "0",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=HANGING
        )
        assert done.returncode == 0, done.stderr[-2000:]
        answer = json.loads(done.stdout.splitlines()[-1])
        assert answer["tier"] == (tier or cpu.probe())
        found[answer["tier"]] = answer["digests"]
    assert len(found) == 1 + len(LOWER) and len({tuple(digests) for digests in found.values()}) == 1
