"""Random networks that learn, and small streams of events for them."""

from fractions import Fraction

import numpy as np

from intsnn.formats import Rounding
from intsnn.learn_rule import Conv, Dense, LearningNetwork, Rule, Widths

RANGES = {
    "weight": (2, 8), "gradient": (2, 14), "membrane": (3, 14), "synapse": (3, 12), "refractory": (1, 6),
    "state": (2, 10), "readout": (2, 8), "activation": (2, 9), "sigmoid": (1, 9), "error": (2, 8), "random": (1, 16),
    "constant": (6, 20), "slope": (2, 12),
}  # fmt: skip


def random_network(rng, wide: bool = False) -> LearningNetwork:
    """A convolution with or without a pool, often a second one, often a dense layer; every width and option drawn."""
    ranges = {name: (high, high + 4) for name, (_, high) in RANGES.items()} if wide else RANGES
    limits = {"membrane": 18, "synapse": 16, "random": 16, "gradient": 18}
    widths = Widths(
        **{
            name: min(int(rng.integers(low, high + 1)), limits.get(name, 16) if wide else 99)
            for name, (low, high) in ranges.items()
        }
    )
    make = Rule.published if rng.random() < 0.4 else Rule.corrected
    scale = Fraction(int(rng.integers(1, 40)), 1000)
    changes = {
        "widths": widths,
        "weight_scale": scale,
        "tau_membrane": (int(rng.integers(2, 6)), int(rng.integers(6, 20))),
        "tau_synapse": (int(rng.integers(2, 4)), int(rng.integers(4, 9))),
        "refractory_decay": Fraction(int(rng.integers(0, 9)), 10),
        "trace_cap": Fraction(int(rng.integers(1, 5)), 4),
        "trace_rounding": rng.choice([Rounding.RND_CONV, Rounding.STOCHASTIC, Rounding.TRN, Rounding.RND]),
        "threshold": Fraction(int(rng.integers(-4, 5)), 8),
        "dropout": Fraction(int(rng.integers(0, 3)), 4),
        "rate_penalty": Fraction(int(rng.integers(0, 3)), 50),
        "quiet_penalty": Fraction(int(rng.integers(0, 3)), 100),
        "mean_penalties": bool(rng.integers(2)),
        "inclusive_codes": bool(rng.integers(2)),
        "inclusive_random": bool(rng.integers(2)),
        "zero_start": bool(rng.random() < 0.2),
        "state_clamp": int(rng.choice([1, 2, 8])),
        "gradient_scale": str(rng.choice(["batch", "previous"])),
        "step_limit": None if rng.random() < 0.5 else int(rng.integers(1, 9)),
        "burn_in": int(rng.integers(0, 3)),
    }
    kernel = int(rng.integers(1, 4))
    layers = [
        Conv(
            int(rng.integers(1, 5)), kernel, padding=int(rng.integers(0, 2)), stride=int(rng.integers(1, 3)),
            pool=int(rng.integers(1, 3)),
        )
    ]  # fmt: skip
    if rng.random() < 0.6:
        layers.append(Conv(int(rng.integers(1, 5)), int(rng.integers(1, 3)), padding=1, pool=int(rng.integers(1, 3))))
    if rng.random() < 0.6:
        layers.append(Dense(int(rng.integers(1, 8))))
    shape = (int(rng.integers(1, 3)), int(rng.integers(5, 8)), int(rng.integers(5, 8)))
    return LearningNetwork(shape, tuple(layers), int(rng.integers(2, 6)), make(**changes))


def random_frame(rng, samples: int, shape, density: float = 0.25) -> np.ndarray:
    """Events of one step, now and then two at a place."""
    frame = (rng.random((samples, *shape)) < density).astype(np.uint8)
    return frame + (frame & (rng.random(frame.shape) < 0.05))
