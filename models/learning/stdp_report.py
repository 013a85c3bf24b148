"""What ``intsnn train`` does for recipes of spike-timing plasticity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from ...analysis.scores import check_labels
from ...datasets import catalogue as datasets
from ...datasets.overlap import unseen
from ...errors import DataNotFoundError, UnsupportedError
from ...kernels.learning.parameters import PAIR_CHANGED, PAIR_CLIPPED
from ..training.checkpoints import digests_of, learned
from ..training.recipes import Progress
from .decolle_report import now_and_then
from .sequences import RateSequences
from .stdp import answers, shares, train
from .stdp_recipes import RECIPES

__all__ = ["run"]


def run(
    name: str, settings: dict[str, Any], progress: Callable[[Progress], None] | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """As `decolle_work.run`; ``threads`` make no difference, there is one."""
    if settings.get("device") not in (None, "cpu"):
        raise UnsupportedError(f"--device {settings['device']}: learning with integers runs on the cpu")
    if name not in RECIPES:
        raise DataNotFoundError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}")
    changes = {key: settings[key] for key in ("seed", "epochs") if settings.get(key) is not None}
    chosen = replace(RECIPES[name], **changes)
    data = RateSequences(datasets.load(settings.get("data") or chosen.data, "train"), chosen, False)
    test = RateSequences(datasets.load(settings.get("test") or chosen.test), chosen, True)
    say(f"{name}: {len(data):,} images of {data.name}, {chosen.steps} steps each, without labels; seed {chosen.seed}")
    check_labels(test.labels, data.classes, test.name)
    overlap = unseen(data, test, settings.get("allow_overlap", False), say)
    work = train(
        chosen, data, steps=settings.get("steps"), checkpoint=settings.get("checkpoint"),
        resume=not settings.get("anew"),
        save_every=60.0 if settings.get("save_every") is None else settings["save_every"],
        progress=progress or now_and_then(say), say=say,
    )  # fmt: skip
    share, digests = shares(work), digests_of(data, test)
    right = int((answers(chosen, work.synapse.weight, work.adaptation, share, test) == test.labels).sum())
    accuracy, speaking = 100.0 * right / len(test), int((share.sum(0) > 0).sum())
    if settings.get("output"):
        kept = {
            "recipe": name, "data": data.name, "test": test.name, "seed": chosen.seed, "accuracy": accuracy, **overlap,
            **digests, "settings": asdict(chosen),
        }  # fmt: skip
        work.save(settings["output"], share, kept)
    counters = work.synapse.counters
    bits = work.synapse.weight.size * chosen.weight_bits + int(work.synapse.weight.shape[0]) * chosen.trace_bits
    say(f"test {accuracy:.2f} % of {len(test):,} after {work.steps:,} steps; {speaking} of {chosen.neurons} fire")
    say(f"weights {work.weights_sha256()}")
    say(learned(data.name, test.name, digests))
    return {
        "recipe": name,
        "data": data.name,
        "test": test.name,
        "seed": chosen.seed,
        **overlap,
        "accuracy": accuracy,
        "steps": work.steps,
        "weights_sha256": work.weights_sha256(),
        **digests,
        "saturations": int(counters[PAIR_CLIPPED]),
        "changed": int(counters[PAIR_CHANGED]),
        "neurons_firing": speaking,
        "memory": {
            "weight_and_trace_bits": bits,
            "measured_bytes": work.synapse.weight.nbytes + work.synapse.x[0].nbytes,
        },
        "history": work.history,
        "settings": asdict(chosen),
    }
