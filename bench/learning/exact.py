"""Is learning exact? Random networks and widths, four ways to compute, everything compared in every step.

``python -m intsnn.bench.learning.exact --configs 50 --steps 1000`` compares, for each configuration and step,

* the plain reference with the compiled path (a small batch, for the reference is slow);
* a batch of eight with eight times one sample whose gradients add up, and with two threads.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ...errors import MismatchError
from ...formats.fixed import Rounding
from ...kernels.learning.parameters import SPIKES, W_CHANGED
from ...learning.learner import Conv, Dense, Learner, LearningNetwork, Rule, State, StepOutcome, Widths
from ...support.pipes import say

__all__ = ["check", "difference", "main", "random_frame", "random_network"]

RANGES = {
    "weight": (2, 8), "gradient": (2, 14), "membrane": (3, 14), "synapse": (3, 12), "refractory": (1, 6),
    "state": (2, 10), "readout": (2, 8), "activation": (2, 9), "sigmoid": (1, 9), "error": (2, 8), "random": (1, 16),
    "constant": (6, 20), "slope": (2, 12),
}  # fmt: skip
WIDEST = {"membrane": 18, "synapse": 16, "random": 16, "gradient": 18}
WIDE_EVERY = 8  # one configuration in so many is wide: sums beyond 32 bits
SEQUENCE = 40  # steps
BATCH = 8


def random_widths(rng: np.random.Generator, wide: bool = False) -> Widths:
    """Every width drawn; `wide`: at the upper ends and beyond, where sums leave 32 bits."""
    if not wide:
        return Widths(**{name: int(rng.integers(low, high + 1)) for name, (low, high) in RANGES.items()})
    return Widths(
        **{
            name: min(int(rng.integers(high, high + 5)), WIDEST.get(name, 16))
            for name, (_, high) in RANGES.items()
        }
    )  # fmt: skip


def random_network(rng: np.random.Generator, wide: bool = False) -> LearningNetwork:
    """A convolution with or without a pool, often a second one, often a dense layer; every width and option drawn."""
    make = Rule.published if rng.random() < 0.4 else Rule.corrected
    rule = make(
        widths=random_widths(rng, wide),
        weight_scale=Fraction(int(rng.integers(1, 40)), 1000),
        tau_membrane=(int(rng.integers(2, 6)), int(rng.integers(6, 20))),
        tau_synapse=(int(rng.integers(2, 4)), int(rng.integers(4, 9))),
        refractory_decay=Fraction(int(rng.integers(0, 9)), 10),
        trace_cap=Fraction(int(rng.integers(1, 5)), 4),
        trace_rounding=Rounding(int(rng.choice([Rounding.RND_CONV, Rounding.STOCHASTIC, Rounding.TRN, Rounding.RND]))),
        threshold=Fraction(int(rng.integers(-4, 5)), 8),
        dropout=Fraction(int(rng.integers(0, 3)), 4),
        rate_penalty=Fraction(int(rng.integers(0, 3)), 50),
        quiet_penalty=Fraction(int(rng.integers(0, 3)), 100),
        mean_penalties=bool(rng.integers(2)),
        inclusive_codes=bool(rng.integers(2)),
        inclusive_random=bool(rng.integers(2)),
        zero_start=bool(rng.random() < 0.2),
        state_clamp=int(rng.choice([1, 2, 8])),
        gradient_scale=str(rng.choice(["batch", "previous"])),
        step_limit=None if rng.random() < 0.5 else int(rng.integers(1, 9)),
        burn_in=int(rng.integers(0, 3)),
    )
    layers: list[Conv | Dense] = [
        Conv(
            int(rng.integers(1, 5)), int(rng.integers(1, 4)), padding=int(rng.integers(0, 2)),
            stride=int(rng.integers(1, 3)), pool=int(rng.integers(1, 3)),
        )
    ]  # fmt: skip
    if rng.random() < 0.6:
        layers.append(Conv(int(rng.integers(1, 5)), int(rng.integers(1, 3)), padding=1, pool=int(rng.integers(1, 3))))
    if rng.random() < 0.6:
        layers.append(Dense(int(rng.integers(1, 8))))
    shape = (int(rng.integers(1, 3)), int(rng.integers(5, 8)), int(rng.integers(5, 8)))
    return LearningNetwork(shape, tuple(layers), int(rng.integers(2, 6)), rule)


def random_frame(rng: np.random.Generator, samples: int, shape: Sequence[int], density: float = 0.25) -> np.ndarray:
    """Events of one step, now and then two at a place."""
    frame = (rng.random((samples, *shape)) < density).astype(np.uint8)
    return frame + (frame & (rng.random(frame.shape) < 0.05))


def difference(
    one: tuple[Learner, State, StepOutcome], two: tuple[Learner, State, StepOutcome], buffers: bool = True
) -> str | None:
    """What differs between two learners after a step, or None: weights, traces, answers and inner sums."""
    pairs = [(f"outcome.{name}", getattr(one[2], name), getattr(two[2], name)) for name in
             ("predictions", "counters", "spikes")]  # fmt: skip
    for index in range(len(one[0].layers)):
        for name in ("p", "q", "r"):
            pairs.append((f"{name} of layer {index}", getattr(one[1], name)[index], getattr(two[1], name)[index]))
        for name in ("master", "bias_master", "weight", "bias"):
            left, right = one[0].layers[index], two[0].layers[index]
            pairs.append((f"{name} of layer {index}", getattr(left, name), getattr(right, name)))
        if one[0].layers[index].exponents != two[0].layers[index].exponents:
            return f"exponents of layer {index}"
        for name in ("charges", "u", "choice", "y", "delta", "v", "e", "bias_gradient") if buffers else ():
            left_buffer, right_buffer = one[0].buffers[index], two[0].buffers[index]
            pairs.append((f"{name} of layer {index}", getattr(left_buffer, name), getattr(right_buffer, name)))
    return next((name for name, left, right in pairs if not np.array_equal(left, right)), None)


def _together(learners: dict[str, Learner], rng: np.random.Generator, samples: int, steps: int) -> dict[str, int]:
    """One stream through all of them; the first difference is an error."""
    names = list(learners)
    network = learners[names[0]].network
    counts = {"steps": 0, "changed": 0, "spikes": 0}
    states: dict[str, State] = {}
    labels = np.zeros(samples, np.int64)
    for t in range(steps):
        if t % SEQUENCE == 0:
            states = {name: learner.begin(samples) for name, learner in learners.items()}
            labels = rng.integers(0, network.classes, samples)
        frame = random_frame(rng, samples, network.shape, float(rng.choice([0.02, 0.3])))
        shift = int(rng.integers(0, 3))
        done = {
            name: (learner, states[name], learner.learn(states[name], frame, labels, shift))
            for name, learner in learners.items()
        }
        for name in names[1:]:
            found = difference(done[names[0]], done[name])
            if found:
                raise MismatchError(f"learning step {t}: {found} differs between {names[0]!r} and {name!r}")
        counters = done[names[0]][2].counters
        counts["steps"] += 1
        counts["changed"] += int(counters[:, W_CHANGED].sum())
        counts["spikes"] += int(counters[:, SPIKES].sum())
    digests = {learner.weights_sha256() for learner in learners.values()}
    if len(digests) != 1:
        raise MismatchError(f"weights of {', '.join(names)} differ")
    return counts


def check(case: int, steps: int, samples: int = 1) -> dict[str, int]:
    """Compare one configuration; counts of what happened in it.

    Raises
    ------
    MismatchError
        Two ways gave different integers.
    """
    rng = np.random.default_rng(case)
    network = random_network(rng, wide=case % WIDE_EVERY == WIDE_EVERY - 1)
    slow = {"reference": Learner(network, case, path="reference"), "compiled": Learner(network, case)}
    counts = _together(slow, rng, samples, steps)
    ways = {
        "batch of eight": Learner(network, case),
        "one by one": Learner(network, case, chunk=1),
        "two threads": Learner(network, case, threads=2),
    }
    more = _together(ways, rng, BATCH, steps)
    return {name: counts[name] + more[name] for name in counts}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: all equal; 4: a difference."""
    parser = argparse.ArgumentParser(prog="python -m intsnn.bench.learning.exact", description=__doc__)
    parser.add_argument("--configs", type=int, default=50)
    parser.add_argument("--steps", type=int, default=1000, help="learning steps of each comparison")
    parser.add_argument("--first", type=int, default=0, help="number of the first configuration")
    given = parser.parse_args(arguments)
    began, total = time.monotonic(), {"steps": 0, "changed": 0, "spikes": 0}
    for case in range(given.first, given.first + given.configs):
        try:
            counts = check(case, given.steps)
        except MismatchError as error:
            print(f"configuration {case}: {error}", file=sys.stderr)
            return 4
        total = {name: total[name] + counts[name] for name in total}
        say(f"configuration {case}: equal in every step; {counts['changed']:,} weight changes")
    say(
        f"{given.configs} configurations, {total['steps']:,} compared steps, {total['changed']:,} weight changes, "
        f"{total['spikes']:,} spikes: all equal ({time.monotonic() - began:.0f} s)"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
