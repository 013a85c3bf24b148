"""A learner in a file: what it learned, and, for a training that goes on, where its sequences are.

One HDF5 file, written all or nothing and read by the rules of `intsnn.files.hdf5`: master weights and biases as
integers, the description of network and rule as text, and in checkpoints the traces of the batch at hand. Constants,
readouts and forward weights follow from description and seed, and are not stored.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..errors import FormatError, ImportRefused
from ..files.hdf5 import Tree, read_tree, write_tree
from ..formats.arguments import flag, instance, mapping, path_of
from ..formats.arguments import text as a_text
from .learner import Learner, State
from .rule import Conv, Dense, LearningNetwork, Rule

__all__ = ["Saved", "from_tree", "load", "network_from_json", "network_to_json", "save"]

FORMAT, VERSION = "intsnn-learner", 1
BUDGET = 1 << 32  # bytes that a file may unfold to
MOST_VALUES = 1 << 24  # of one array that follows from the description
KINDS = {"Conv": Conv, "Dense": Dense}


def network_to_json(network: LearningNetwork) -> dict[str, Any]:
    """Description of a network and its rule as plain values."""
    instance(network, "network", LearningNetwork)
    return {
        "shape": list(network.shape),
        "layers": [{"kind": type(layer).__name__, **asdict(layer)} for layer in network.layers],
        "classes": network.classes,
        "rule": network.rule.to_json(),
    }


def network_from_json(values: Mapping[str, Any]) -> LearningNetwork:
    """The network that `network_to_json` described.

    Raises
    ------
    FormatError
        A description that is none.
    """
    mapping(values, "values")
    try:
        layers = []
        for entry in values["layers"]:
            entry = dict(entry)
            layers.append(KINDS[entry.pop("kind")](**entry))
        rule = Rule.from_json(dict(values["rule"]))
        return LearningNetwork(tuple(values["shape"]), tuple(layers), int(values["classes"]), rule)
    except (AttributeError, ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"no description of a learning network: {type(error).__name__} {error}") from None


@dataclass(frozen=True, eq=False)
class Saved:
    """Contents of a file.

    Attributes
    ----------
    network : LearningNetwork
    seed, steps : int
    facts : dict
        What `save` was given.
    arrays : dict of str to ndarray
        Of the learner, ``layer/name``.
    extra : dict of str to ndarray
        What `save` was given.
    samples, first_sample, t : int
        Of the sequences at work; `samples` 0: none.
    weights_sha256 : str
        Digest that the restored weights must have.
    """

    network: LearningNetwork
    seed: int
    steps: int
    facts: dict[str, Any]
    arrays: Mapping[str, np.ndarray]
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    samples: int = 0
    first_sample: int = 0
    t: int = 0
    weights_sha256: str = ""

    def learner(self, threads: int = 1, path: str = "compiled", chunk: int | None = None) -> Learner:
        """A learner that goes on where the saved one was."""
        found = Learner(self.network, self.seed, threads, path, chunk)
        self.restore(found)
        return found

    def restore(self, learner: Learner) -> None:
        """Bring a learner of the same network and seed to the saved state.

        Raises
        ------
        FormatError
            Arrays that are not those of this learner.
        """
        self._check(learner)
        for index, layer in enumerate(learner.layers):
            top = learner.constants[index].parameters.master_max
            for name in ("master", "bias_master"):
                target = getattr(layer, name)
                target[:] = self._array(f"{index}/{name}", target, -top, top)
            exponents = self._array(f"{index}/exponents", np.zeros(2, np.int64), -1, 62)
            layer.exponents = [int(value) for value in exponents]
            learner.renew(index, layer)
        if learner.weights_sha256() != self.weights_sha256:
            raise FormatError("learner: the weights are not those whose digest the file states")
        learner.steps = self.steps

    def state(self, learner: Learner) -> State | None:
        """The sequences that were at work, if there were any."""
        self._check(learner)
        if not self.samples:
            return None
        state = learner.begin(self.samples, self.first_sample)
        state.t = self.t
        for index, constants in enumerate(learner.constants):
            c = constants.parameters
            for name, top in (("p", c.p_max), ("q", c.q_max), ("r", c.r_max)):
                target = getattr(state, name)[index]
                target[:] = self._array(f"{index}/{name}", target, 0, top)
        return state

    def _check(self, learner: Learner) -> None:
        instance(learner, "learner", Learner)
        if learner.network != self.network or learner.seed != self.seed:
            raise FormatError("learner: found one of another network or seed; one like the saved learner is needed")

    def _array(self, name: str, like: np.ndarray, low: int, high: int) -> np.ndarray:
        found = self.arrays.get(name)
        if found is None or found.shape != like.shape or found.dtype.kind != "i":
            what = "nothing" if found is None else f"{found.dtype} of shape {found.shape}"
            raise FormatError(f"learner: {name} is {what}; integers of shape {like.shape} are needed")
        if found.size and (found.min() < low or found.max() > high):
            raise FormatError(f"learner: {name} holds {found.min()} to {found.max()}; {low} to {high} is possible")
        return found


def save(
    path: str | os.PathLike[str],
    learner: Learner,
    state: State | None = None,
    facts: Mapping[str, Any] | None = None,
    extra: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write a learner, all or nothing.

    Parameters
    ----------
    path : path-like
    learner : Learner
    state : State, optional
        The sequences at work, for a training that goes on within them.
    facts : mapping, optional
        Plain values to keep beside it.
    extra : mapping of str to ndarray, optional
        Integers to keep beside it.
    """
    path = path_of(path)
    instance(learner, "learner", Learner)
    if state is not None:
        learner.check_state(state)
    facts = {} if facts is None else mapping(facts, "facts")
    extra = {} if extra is None else mapping(extra, "extra")
    arrays: dict[str, np.ndarray] = {}
    for index, layer in enumerate(learner.layers):
        arrays[f"{index}/master"], arrays[f"{index}/bias_master"] = layer.master, layer.bias_master
        arrays[f"{index}/exponents"] = np.array(layer.exponents, np.int64)
        if state is not None:
            for name in ("p", "q", "r"):
                arrays[f"{index}/{name}"] = getattr(state, name)[index]
    description = {
        "format": FORMAT, "version": VERSION, "network": network_to_json(learner.network), "seed": learner.seed,
        "steps": learner.steps, "facts": dict(facts or {}),
        "state": None if state is None else [state.samples, state.first_sample, state.t],
        "weights_sha256": learner.weights_sha256(),
    }  # fmt: skip
    text = json.dumps(description, sort_keys=True, allow_nan=False).encode()
    datasets = {"description": np.frombuffer(text, np.uint8)}
    datasets |= {f"layers/{name}": array for name, array in arrays.items()}
    datasets |= {f"extra/{name}": np.asarray(array) for name, array in (extra or {}).items()}
    write_tree(path, datasets)


def load(path: str | os.PathLike[str], trust: bool = False) -> Saved:
    """Read what `save` wrote.

    Raises
    ------
    ImportRefused
        A file that breaks a rule of the reader, or that holds no learner.
    """
    path, trust = path_of(path), flag(trust, "trust")
    return from_tree(read_tree(path, trust=trust, budget=BUDGET), os.fspath(path))


def from_tree(tree: Tree, label: str) -> Saved:
    """As `load`, of a file called `label` that was read already."""
    instance(tree, "tree", Tree)
    label = a_text(label, "label")
    values = _description(tree, label)
    try:
        samples, first, t = values["state"] or (0, 0, 0)
        found = Saved(
            network=network_from_json(values["network"]),
            seed=int(values["seed"]),
            steps=int(values["steps"]),
            facts=dict(values["facts"]),
            arrays=tree.below("layers"),
            extra=dict(tree.below("extra")),
            samples=int(samples),
            first_sample=int(first),
            t=int(t),
            weights_sha256=str(values["weights_sha256"]),
        )
    except (FormatError, KeyError, TypeError, ValueError) as error:
        raise ImportRefused(f"{label} holds no learner that can be read: {error}", code="field") from None
    if min(found.seed, found.steps, found.samples, found.first_sample, found.t) < 0:
        raise ImportRefused(f"{label}: a count of the learner is negative", code="range")
    _check_sizes(found, label)
    return found


def _check_sizes(saved: Saved, label: str) -> None:
    """The weights that a description asks for are in the file, and what follows from it is of a size that can be."""
    for index, (here, neurons, pooled) in enumerate(saved.network.geometry()):
        layer = saved.network.layers[index]
        weights = getattr(layer, "kernel", 1) ** 2 * here[2] * neurons[2]
        stored = saved.arrays.get(f"{index}/master")
        if stored is None or stored.size != weights:
            raise ImportRefused(
                f"{label}: layer {index} has not the {weights} weights of its description", code="shape"
            )
        if max(math.prod(here), math.prod(neurons), saved.network.classes * math.prod(pooled)) > MOST_VALUES:
            raise ImportRefused(f"{label}: layer {index} would have more than {MOST_VALUES} values", code="shape")


def _description(tree: Tree, label: str) -> dict[str, Any]:
    array = tree.datasets.get("description")
    if array is None or array.dtype != np.uint8 or array.ndim != 1:
        raise ImportRefused(f"{label} holds no learner: it has no description", code="format")
    try:
        values = json.loads(array.tobytes())
    except (ValueError, RecursionError):
        raise ImportRefused(f"{label}: the description is no JSON", code="json", where="description") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ImportRefused(f"{label} holds no learner: its description is of another kind", code="format")
    if values.get("version") != VERSION:
        raise ImportRefused(
            f"{label} is of version {values.get('version')}; this intsnn reads version {VERSION}", code="schema"
        )
    return values
