"""One training with integers from the data to the figures: what ``intsnn train`` does for these recipes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...analysis.scores import check_labels
from ...datasets.overlap import unseen
from ...errors import UnsupportedError
from ...learning import memory as learn_memory
from ...learning.files import save
from ..training.checkpoints import digests_of, learned
from ..training.recipes import Progress
from .decolle import SATURATIONS, Trained, train
from .decolle_recipes import Recipe, recipe
from .sequences import sequences

__all__ = ["facts_of", "now_and_then", "run"]

QUIET = 30  # seconds without a line


def run(
    name: str,
    settings: dict[str, Any],
    progress: Callable[[Progress], None] | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train by the recipe `name` (or TOML file) and measure what was learned.

    Parameters
    ----------
    name : str
    settings : dict
        ``checkpoint`` and ``output`` (paths, ``output`` may be None); ``data``, ``test``, ``seed``, ``epochs`` and
        ``steps`` (None: those of the recipe); ``anew`` (bool); ``threads``; ``save_every`` (seconds); ``device``.
    progress : callable or None
        Called a few times a second.
    say : callable
        Called with a line of text after each epoch and with the results.

    Returns
    -------
    dict
        Plain values, with ``accuracy, steps, weights_sha256, saturations, memory, history`` among them.
    """
    if settings.get("device") not in (None, "cpu"):
        raise UnsupportedError(f"--device {settings['device']}: learning with integers runs on the cpu")
    chosen = recipe(name)
    changes = {key: settings[key] for key in ("seed", "epochs") if settings.get(key) is not None}
    chosen = replace(chosen, **changes)
    data, test = sequences(chosen, False, settings.get("data")), sequences(chosen, True, settings.get("test"))
    check_labels(test.labels, data.classes, test.name)
    say(
        f"{chosen.name}: {len(data):,} sequences of {data.name}, {chosen.steps} steps each, tested on {len(test):,} of "
        f"{test.name}; seed {chosen.seed}, {chosen.rule.widths}"
    )
    overlap = unseen(data, test, settings.get("allow_overlap", False), say)
    trained = train(
        chosen, data, test, steps=settings.get("steps"), threads=settings.get("threads") or 1,
        checkpoint=settings.get("checkpoint"), resume=not settings.get("anew"),
        save_every=60.0 if settings.get("save_every") is None else settings["save_every"],
        progress=progress or now_and_then(say),
        log=lambda entry: say(_line(entry)), say=say,
    )  # fmt: skip
    values = facts_of(chosen, trained, data.name, test.name) | overlap
    say(f"test {values['accuracy']:.2f} % of {len(test):,} after {values['steps']:,} learning steps")
    size = values["memory"]
    say(
        f"memory while learning {size['formula_bits']:,} bits, {size['saving']:.2f} % less than in 32-bit floats; "
        f"measured {size['measured_bytes']:,} bytes"
    )
    say(f"weights {values['weights_sha256']}")
    digests = digests_of(data, test)
    values |= digests
    say(learned(data.name, test.name, digests))
    if settings.get("output"):
        kept = ("recipe", "data", "test", "seed", "steps", "accuracy", "weights_sha256", *digests, *overlap)
        facts = {key: values[key] for key in kept} | _binning(chosen) | {"settings": chosen.to_json()}
        save(settings["output"], trained.learner, facts=facts)
        say(f"written {settings['output']}")
    return values


def _binning(chosen: Recipe) -> dict[str, Any]:
    """How a test makes frames of events, for those who run what was learned."""
    if chosen.coding != "events":
        return {}
    return {
        "events": {
            "steps": chosen.test_steps, "bin_us": chosen.bin_us, "divide": chosen.divide, "start_us": chosen.start_us,
            "clip": 1,
        }
    }  # fmt: skip


def now_and_then(say: Callable[[str], None]) -> Callable[[Any], None]:
    """Where there is no terminal: a line every half minute, within long epochs."""
    last = time.monotonic()

    def show(state: Any) -> None:
        nonlocal last
        if time.monotonic() - last >= QUIET:
            last = time.monotonic()
            left = "" if state.left is None else f"  about {state.left / 60:.0f} min left"
            say(f"  epoch {state.epoch + 1}/{state.epochs}, step {state.step:,} of {state.steps:,}  {state.note}{left}")

    return show


def _line(entry: dict[str, Any]) -> str:
    text = f"epoch {entry['epoch']:>4}  loss {entry['loss'][-1]:.4f}  train {entry['train'][-1]:6.2f} %"
    if entry["test"] is not None:
        text += f"  test {entry['test'][-1]:6.2f} %"
    return text + f"  {entry['changed']:,} weight changes  {sum(entry['saturations'].values()):,} saturations"


def facts_of(chosen: Recipe, trained: Trained, data: str, test: str) -> dict[str, Any]:
    """Plain values of a training that has ended."""
    size = learn_memory.memory(trained.learner.network, name=chosen.name)
    saturations = {name: int(trained.totals[:, which].sum()) for name, which in SATURATIONS.items()}
    return {
        "recipe": chosen.name,
        "data": data,
        "test": test,
        "seed": chosen.seed,
        "widths": str(chosen.rule.widths),
        "accuracy": trained.accuracy,
        "accuracies": trained.accuracies,
        "steps": trained.learner.steps,
        "weights_sha256": trained.learner.weights_sha256(),
        "saturations": sum(saturations.values()),
        "saturations_of": saturations,
        "memory": {
            "convention": size.convention,
            "formula_bits": size.bits,
            "fp32_bits": size.bits_fp32,
            "saving": size.saving,
            "measured_bytes": size.measured_bytes,
            "counted_bytes": size.counted_bytes,
        },
        "history": trained.history,
        "settings": chosen.to_json(),
        "seconds": trained.seconds,
    }
