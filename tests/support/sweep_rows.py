"""Rows of a sweep as the benchmark leaves them, made up: what reports and exports are tested on."""

import copy
import hashlib
import random

EVIL = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> \"q\" 's' & &lt; $x_{$ \\frac "
    "\x00\x1b[31m \u202e\ud800 --> ]]> </svg></style> https://example.com/x.js"
)
METHODS = ("fast-snn", "qffs", "ca-lif")
MODELS = {"lenet5": 44_426, "mlp_98.15": 199_210}
LAYERS = (("conv1", 0.02, 3456), ("conv2", 0.10, 1024), ("dense1", 0.70, 120), ("dense2", 0.18, 84))
BITS = ((1, 2, 3, 4, 8), (2, 3, 4, 5, 8))
VERSIONS = {"intsnn": "0.1.0", "numpy": "2.4.6", "numba": "0.68.1", "python": "3.11.7"}


def make_rows(models=("lenet5", "mlp_98.15"), methods=METHODS, weights=BITS[0], activations=BITS[1], seeds=(0,)):
    """One row for each cell of the grid; the same on every call."""
    return [
        make_row(model, method, w, a, seed)
        for model in models
        for method in methods
        for w in weights
        for a in activations
        for seed in seeds
    ]


def make_row(model="lenet5", method="fast-snn", weight_bits=4, activation_bits=4, seed=0):
    """A row that is consistent in itself: accuracies grow with widths and steps, memory with widths."""
    key = hashlib.sha256(repr((model, method, weight_bits, activation_bits, seed)).encode()).hexdigest()
    chance = random.Random(key)
    count, drive, method_loss = MODELS.get(model, 50_000), 2**activation_bits - 1, 0.4 * METHODS.index(method)
    loss = 88 * 0.02 ** (weight_bits - 1) + 30 * 0.12 ** (activation_bits - 1) + method_loss * 0.5**activation_bits
    best = 99.1 if model == "lenet5" else 98.15
    accuracy = round(max(9.8, best - loss + chance.uniform(-0.06, 0.06)), 2)
    settle = drive + 1 + chance.randrange(4)
    by_step = [
        round(9.8 + (accuracy - 9.8) * min(1.0, 1 - 0.55 ** (4 * (t + 1) / drive)) ** (0.4 + 3 / (t + 2)), 2)
        for t in range(settle)
    ]
    by_step[-1] = accuracy
    layers = _layers(count, weight_bits, activation_bits, chance)
    memory = [kind for layer in layers for kind in layer["memory"].items()]
    return {
        "key": key,
        "model": model,
        "data": "mnist:test",
        "method": method,
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
        "t_drive": drive,
        "state_bits": None,
        "seed": seed,
        "samples": 10_000,
        "accuracy": accuracy,
        "accuracy_drive": by_step[drive - 1],
        "ann_accuracy": accuracy,
        "float_accuracy": best,
        "agreement": 100.0,
        "accuracy_by_step": by_step,
        "latency_mean": drive * 0.8 + chance.random(),
        "latency_max": settle,
        "extra_steps_max": settle - drive,
        "spikes": 900.0 * activation_bits + 100 * chance.random(),
        "synops": 180_000.0 * activation_bits + 1000 * chance.random(),
        "saturations": 0,
        "mismatches": 0,
        "verified_samples": 100,
        "seconds": 3.0 + chance.random() / 3,
        "peak_rss_bytes": 210_000_000 + chance.randrange(10**6),
        "formula_bits": sum(item["formula_bits"] for _, item in memory),
        "measured_bytes": sum(item["measured_bytes"] for _, item in memory),
        "weight_formula_bits": sum(item["formula_bits"] for kind, item in memory if kind == "weights"),
        "weight_measured_bytes": sum(item["measured_bytes"] for kind, item in memory if kind == "weights"),
        "layers": layers,
        "versions": dict(VERSIONS),
        "source_sha256": "5f" * 32,
        "created": "2026-01-02T03:04:05+00:00",
        "error": None,
    }


def _layers(count, weight_bits, activation_bits, chance):
    found = []
    for depth, (name, share, neurons) in enumerate(LAYERS):
        v_bits = 7 + weight_bits + activation_bits + depth
        bound, weights = v_bits + 2 + depth, round(count * share)
        top = int(2 ** (v_bits - 1) * chance.uniform(0.35, 0.95))
        memory = {
            "weights": _item(weights * weight_bits),
            "biases": _item(neurons // 20 * 16),
            "thresholds": _item(neurons // 20 * 16),
        }
        found.append({"name": name, "kind": "Conv2d" if "conv" in name else "Affine", "neurons": None}
                     | {"spike_rate": None, "v_min": None, "v_max": None, "v_bits": None}
                     | {"bound_bits": bound, "peak_bits": bound - 1 - depth // 2, "memory": memory})  # fmt: skip
        rate = 0.16 / (depth + 1) + 0.25 / (2**activation_bits - 1) + 0.01 * chance.random()
        found.append({"name": f"{name}/relu", "kind": "Neuron", "neurons": neurons}
                     | {"spike_rate": rate, "v_min": -top // 2, "v_max": top, "v_bits": v_bits}
                     | {"bound_bits": v_bits, "peak_bits": v_bits - 1}
                     | {"memory": {"membranes": _item(neurons * v_bits)}})  # fmt: skip
    return found


def _item(bits):
    return {"formula_bits": bits, "measured_bytes": -(-bits // 8) + 3}


def fail(row, message="the worker died (signal 9)"):
    """`row` as a cell that failed leaves it: what was asked for, and why there is no result."""
    asked = ("key", "model", "data", "method", "weight_bits", "activation_bits", "t_drive", "state_bits", "seed")
    kept = (*asked, "samples", "versions", "source_sha256", "created")
    return {name: row[name] if name in kept else None for name in row} | {"layers": [], "error": message}


def small(**options):
    """Rows of one model, two methods, few widths."""
    grid = {"models": ("lenet5",), "methods": ("fast-snn", "qffs"), "weights": (2, 4), "activations": (2, 4)}
    return make_rows(**(grid | options))


def evil(row):
    """`row` with hostile text wherever a text can be."""
    row = copy.deepcopy(row)
    row |= {name: EVIL for name in ("model", "data", "method", "source_sha256", "created", "same_as")}
    row["versions"], row["settings"] = {EVIL: EVIL}, {EVIL: EVIL}
    for layer in row["layers"]:
        layer |= {"name": EVIL + layer["name"], "kind": EVIL}
        layer["memory"] = {EVIL + kind: item for kind, item in layer["memory"].items()}
    return row


def troubled():
    """Three methods; a failed cell, one that is not there, a hostile model, one seed that failed."""
    rows = make_rows(models=("lenet5",), weights=(1, 2, 4), activations=(2, 4, 8))
    rows[7] = fail(rows[7], "ConversionError: the charge of conv1 does not fit 48 bits")
    del rows[11]
    hostile = [evil(row) for row in small(methods=("fast-snn",), seeds=(0, 1))]
    hostile[-1] = fail(hostile[-1], EVIL)
    return rows + hostile
