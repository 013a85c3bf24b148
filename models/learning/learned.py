"""What ``intsnn train`` learned with integers alone, from its file: described, counted and run on data.

Two kinds of file: a learner of `intsnn.learning.files` (integer DECOLLE), and weights that spike-timing plasticity
left, with what each neuron came to stand for. Both say how data become frames, so that a test gives what it gave
after the training.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from ...analysis.description import Description, span
from ...analysis.memory.formulas import Item
from ...analysis.memory.report import Report
from ...analysis.scores import check_labels
from ...datasets import catalogue as datasets
from ...errors import FormatError, ImportRefused, IntsnnError, ShapeError
from ...files.hdf5 import Tree, read_tree
from ...learning import files as learn_files
from ...learning import memory as learn_memory
from ...learning.rule import Conv
from .decolle import right_answers
from .decolle_recipes import RECIPES, Recipe, recipe_from_json
from .sequences import RateSequences, sequences
from .stdp import FORMAT as STDP
from .stdp import answers
from .stdp_recipes import StdpRecipe

__all__ = ["Learned", "Tested", "load"]

MOST_VALUES = 1 << 24  # of one array that follows from a description


@dataclass(frozen=True)
class Tested:
    """Outcome of `Learned.test`: how many of `samples` were right by each readout (the last is that of the network)."""

    data: str
    samples: int
    steps: int
    right: tuple[int, ...]

    @property
    def accuracies(self) -> list[float]:
        """Per cent by each readout."""
        return [100.0 * count / self.samples for count in self.right]


class Learned(Protocol):
    """What both kinds of file can do."""

    @property
    def facts(self) -> dict[str, Any]:
        """What its training said of itself."""
        ...

    def describe(self) -> Description:
        """Layers, widths and bytes."""
        ...

    def memory(self, convention: str | None) -> Report:
        """What learning with one sample takes, counted and measured."""
        ...

    def test(self, spec: str | None, steps: int | None, threads: int) -> Tested:
        """Run what was learned on data (None: the test data of its training)."""
        ...


def load(path: str | os.PathLike[str], trust: bool = False) -> Learned | None:
    """What was learned, or None where a file holds nothing of the kind.

    Raises
    ------
    ImportRefused, DataNotFoundError
        A file that cannot be read, or that lies about itself.
    """
    tree = read_tree(path, trust=trust, budget=learn_files.BUDGET)
    label = os.fspath(path)
    array = tree.datasets.get("description")
    if array is None or array.dtype != np.uint8 or array.ndim != 1:
        return None
    try:
        values = json.loads(array.tobytes())
    except (ValueError, RecursionError):
        raise ImportRefused(f"{label}: the description is no JSON", code="json", where="description") from None
    kind = values.get("format") if isinstance(values, dict) else None
    if kind == STDP:
        return _stdp(values, tree, label)
    if kind == learn_files.FORMAT:
        return _Decolle(learn_files.from_tree(tree, label), label)
    return None


def _chosen(spec: str | None, facts: Mapping[str, Any], label: str) -> str:
    """The data that is asked for, or those of the training."""
    found = spec or facts.get("test")
    if not isinstance(found, str):
        raise FormatError(f"{label} does not say on what data it was tested; give --data")
    return found


# ---------------------------------------------------------------------------------------------------------------------
# integer DECOLLE
# ---------------------------------------------------------------------------------------------------------------------


class _Decolle:
    def __init__(self, saved: learn_files.Saved, label: str) -> None:
        self.saved, self.label, self.facts = saved, label, saved.facts
        self.network = saved.network
        self.learner = saved.learner()

    def recipe(self) -> Recipe:
        """How data become sequences."""
        settings = self.facts.get("settings")
        if isinstance(settings, Mapping):
            try:
                return recipe_from_json(dict(settings))
            except FormatError as error:
                raise ImportRefused(f"{self.label}: {error}", code="field") from None
        known = RECIPES.get(str(self.facts.get("recipe")))
        if known is None:
            raise FormatError(f"{self.label} does not say how data become sequences; train it again to run it")
        return known

    def describe(self) -> Description:
        widths = self.network.rule.widths
        rows = []
        for index, (_, neurons, _) in enumerate(self.network.geometry()):
            layer, weights = self.network.layers[index], self.learner.layers[index]
            count = weights.weight.size + weights.bias.size
            row: dict[str, Any] = {
                "name": f"layer{index + 1}", "kind": type(layer).__name__,
                "shape": [neurons[2], *neurons[:2]] if isinstance(layer, Conv) else [neurons[2]],
                "inputs": [f"layer{index}" if index else "input"], "format": f"fxp-s{widths.weight}/0",
                "weight": span(weights.weight), "bias": span(weights.bias), "parameters": count,
                "neurons": math.prod(neurons), "state_bits": widths.state, "bytes": -(-count * widths.weight // 8),
                "detail": "",
            }  # fmt: skip
            if isinstance(layer, Conv):
                pad = f" pad {layer.padding}" if layer.padding else ""
                pool = f", pool {layer.pool}" if layer.pool > 1 else ""
                stride = f" /{layer.stride}" if layer.stride > 1 else ""
                row["detail"] = f"{layer.kernel}x{layer.kernel}{stride}{pad}{pool}"
                row |= {
                    "kernel": [layer.kernel] * 2, "stride": [layer.stride] * 2, "padding": [[layer.padding] * 2] * 2,
                    "dilation": [1, 1], "groups": 1, "pool": layer.pool,
                }  # fmt: skip
            rows.append(row)
        neurons = sum(row["neurons"] for row in rows)
        totals = {
            "parameters": sum(row["parameters"] for row in rows),
            "weight_bytes": sum(-(-layer.weight.size * widths.weight // 8) for layer in self.learner.layers),
            "bytes": sum(row["bytes"] for row in rows),
            "neurons": neurons,
            "membrane_bytes": -(-neurons * widths.state // 8),
        }
        facts = {
            "input": list(self.network.shape), "classes": self.network.classes, "widths": str(widths),
            "seed": self.saved.seed, "steps": self.saved.steps, "weights_sha256": self.saved.weights_sha256,
            **{key: value for key, value in self.facts.items() if isinstance(value, str | int | float)},
        }  # fmt: skip
        return Description("learner", "network that learned with integers", facts, rows, totals)

    def memory(self, convention: str | None) -> Report:
        return learn_memory.memory(self.network, convention or learn_memory.CONVENTION)

    def test(self, spec: str | None, steps: int | None, threads: int) -> Tested:
        from dataclasses import replace

        chosen = self.recipe()
        if steps is not None:
            chosen = replace(chosen, test_steps=steps)
        data = sequences(chosen, True, _chosen(spec, self.facts, self.label))
        if tuple(data.shape) != self.network.shape:
            raise ShapeError(f"data {data.name}: frames of {data.shape}; {self.label} learned {self.network.shape}")
        check_labels(data.labels, self.network.classes, data.name)
        right = right_answers(self.saved.learner(threads), data, chosen.test_batch)
        return Tested(data.name, len(data), chosen.test_steps, tuple(int(count) for count in right))


# ---------------------------------------------------------------------------------------------------------------------
# spike-timing plasticity
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Stdp:
    """`share` ``(classes, neurons)``: what the spikes of a neuron count for a class; None in checkpoints."""

    label: str
    chosen: StdpRecipe
    facts: dict[str, Any]
    weight: np.ndarray
    adaptation: np.ndarray
    share: np.ndarray | None

    def describe(self) -> Description:
        c, size = self.chosen, int(self.weight.size)
        weight_bytes = -(-size * c.weight_bits // 8)
        row = {
            "name": "layer1", "kind": "Dense", "shape": [c.neurons], "inputs": ["input"],
            "detail": "one of all fires in a step", "format": f"fxp-u{c.weight_bits}/0", "weight": span(self.weight),
            "threshold": span(self.adaptation + c.threshold), "parameters": size, "neurons": c.neurons,
            "bytes": weight_bytes, "state_bits": _membrane_bits(self),
        }  # fmt: skip
        totals = {
            "parameters": size, "weight_bytes": weight_bytes, "bytes": weight_bytes, "neurons": c.neurons,
            "membrane_bytes": -(-c.neurons * _membrane_bits(self) // 8),
        }  # fmt: skip
        facts = {
            "input": [len(self.weight)],
            **{k: v for k, v in self.facts.items() if isinstance(v, str | int | float)},
        }
        return Description("plasticity", "layer that learned by spike-timing plasticity", facts, [row], totals)

    def memory(self, convention: str | None) -> Report:
        if convention not in (None, "declared"):
            raise FormatError(f"convention: found {convention!r}; for plasticity there is declared alone")
        c, inputs = self.chosen, len(self.weight)
        top = int((self.adaptation + c.threshold).max(initial=0))
        items = (
            Item("layer1", "weights", "weight", self.weight.size, c.weight_bits, measured_bytes=self.weight.nbytes),
            Item("layer1", "traces", "trace", inputs, c.trace_bits, measured_bytes=8 * inputs),
            Item("layer1", "membranes", "v", c.neurons, _membrane_bits(self), measured_bytes=8 * c.neurons),
            Item(
                "layer1", "thresholds", "adaptation", c.neurons, top.bit_length(), measured_bytes=self.adaptation.nbytes
            ),
        )
        return Report("plasticity", "declared", items)

    def test(self, spec: str | None, steps: int | None, threads: int) -> Tested:
        from dataclasses import replace

        if self.share is None:
            raise FormatError(
                f"{self.label} is a checkpoint, which does not say what its neurons stand for; train -o does"
            )
        chosen = self.chosen if steps is None else replace(self.chosen, steps=steps)
        data = RateSequences(datasets.load(_chosen(spec, self.facts, self.label)), chosen, True)
        if math.prod(data.shape) != len(self.weight):
            raise ShapeError(
                f"data {data.name}: images of {data.shape}; {self.label} learned {len(self.weight)} pixels"
            )
        check_labels(data.labels, len(self.share), data.name)
        found = answers(chosen, self.weight, self.adaptation, self.share, data)
        return Tested(data.name, len(data), chosen.steps, (int((found == data.labels).sum()),))


def _membrane_bits(learned: _Stdp) -> int:
    """Bits that hold every membrane: ``v - (v >> k) + s`` never passes ``2**k`` times the largest sum of a step."""
    largest = int(learned.weight.sum(0, dtype=np.int64).max(initial=0))
    return max(1, ((largest + 1) << learned.chosen.leak_shift).bit_length())


def _stdp(values: dict[str, Any], tree: Tree, label: str) -> _Stdp:
    arrays = tree.datasets
    try:
        learned = values.get("learned") or {}
        settings = dict(learned.get("settings") or {"name": "", "note": "", "data": "", "test": ""})
        known = {item.name for item in fields(StdpRecipe)}
        settings = {**{k: v for k, v in values["identity"].items() if k in known and k not in settings}, **settings}
        chosen = StdpRecipe(**{key: value for key, value in settings.items() if key in known})
        weight, adaptation = np.asarray(arrays["weight"]), np.asarray(arrays["adaptation"])
        share = arrays.get("share")
        top = (1 << chosen.weight_bits) - 1
        fits = weight.ndim == 2 and weight.shape[1] == chosen.neurons and adaptation.shape == (chosen.neurons,)
        fits = fits and weight.dtype.kind in "iu" and adaptation.dtype.kind in "iu" and 0 < weight.size <= MOST_VALUES
        fits = fits and 0 <= int(weight.min()) and int(weight.max()) <= top and 0 <= int(adaptation.min())
        fits = fits and int(adaptation.max()) < 1 << 48
        if share is not None:
            fits = fits and share.ndim == 2 and share.dtype.kind in "iu" and share.shape[1] == chosen.neurons
            fits = fits and len(share) > 1 and 0 <= int(share.min()) and int(share.max()) <= 1024
        if not fits:
            raise ValueError("its arrays are not those of its description")
    except (IntsnnError, AttributeError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ImportRefused(f"{label} holds no learned layer that can be read: {error}", code="field") from None
    facts = {key: value for key, value in learned.items() if key != "settings"}
    facts |= {"steps": values.get("steps"), "weights_sha256": values.get("sha256")}
    return _Stdp(label, chosen, facts, weight, adaptation.astype(np.int64), share)
