"""Which operations does a graph have, and in which order? Nodes are taken with their names and attributes checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import ImportRefused, UnsupportedError
from ...formats.arguments import shown
from .files import DOMAINS, ModelFile

__all__ = ["MAX_SIDE", "OnnxNode", "operations_of"]

MAX_NODES = 1 << 16
MAX_NAME = 255
MAX_SIDE = 1 << 20  # of kernels, strides and sizes
MAX_LIST = 1 << 16  # numbers of an attribute

# What kind of value an attribute is said to hold.
KINDS = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings"}


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """One node of a graph.

    Attributes
    ----------
    name : str
        Its own, or that of what it computes; used once in a graph.
    kind, domain : str
        Its operator: ``Conv`` of ``""``, say.
    inputs, outputs : tuple of str
        Names of tensors; ``""`` where one is left out.
    file : ModelFile
    """

    name: str
    kind: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    file: ModelFile
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.file.label}: node {self.name!r} ({shown(self.kind)[1:-1]})"

    @property
    def opset(self) -> int:
        """Version of the operators of ONNX."""
        return self.file.opset

    @property
    def source(self) -> str:
        """Where it came from, for messages."""
        return f"{self.kind} {self.name}"

    def bad(self, message: str) -> ImportRefused:
        """That something of it cannot be."""
        return ImportRefused(f"{self}: {message}", code="config", where=self.name)

    def unsupported(self, message: str) -> UnsupportedError:
        """That something of it is not taken."""
        return UnsupportedError(f"{self}: {message}")

    def has(self, name: str) -> bool:
        """Whether it has an attribute."""
        return name in self.attributes

    def _value(self, name: str, kind: str, default: Any) -> Any:
        if name not in self.attributes:
            return default
        found = self.attributes[name]
        if KINDS.get(found.type) != kind:
            raise self.bad(f"its attribute {name} is of kind {found.type}; {kind!r} is needed")
        value = getattr(found, kind)
        if kind in ("ints", "floats") and len(value) > MAX_LIST:
            raise self.bad(f"its attribute {name} has {len(value)} numbers, at most {MAX_LIST} are possible")
        return value

    def integer(self, name: str, default: int) -> int:
        """A whole number."""
        return int(self._value(name, "i", default))

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        found = float(self._value(name, "f", default))
        if not math.isfinite(found):
            raise self.bad(f"its attribute {name} is {found}; a finite number is needed")
        return found

    def text(self, name: str, default: str) -> str:
        """A short text."""
        found = self._value(name, "s", default)
        return found if isinstance(found, str) else bytes(found[:64]).decode("utf-8", "replace")

    def integers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...] | None:
        """Whole numbers, or the default."""
        found = self._value(name, "ints", default)
        return None if found is None else tuple(int(n) for n in found)

    def numbers(self, name: str) -> tuple[float, ...]:
        """Numbers in a row."""
        return tuple(float(x) for x in self._value(name, "floats", ()))

    def tensor(self, name: str) -> np.ndarray | None:
        """An array, or None."""
        found = self._value(name, "t", None)
        return None if found is None else self.file.array(found, f"the attribute {name} of {shown(self.name)}")

    def sizes(self, name: str, count: int, default: int, low: int = 1) -> tuple[int, ...]:
        """`count` whole numbers within ``low`` .. ``MAX_SIDE``, all `default` where there are none."""
        found = self.integers(name)
        if found is None or not found:
            return (default,) * count
        if len(found) != count or any(not low <= n <= MAX_SIDE for n in found):
            raise self.bad(f"{name} is {list(found[:8])}; {count} numbers from {low} to {MAX_SIDE} are needed")
        return found


def operations_of(file: ModelFile) -> list[OnnxNode]:
    """The nodes of the graph that its output needs, in their order.

    Raises
    ------
    ImportRefused
        Names twice, an input that no node before computes (``code`` ``graph``).
    """
    graph = file.model.graph
    if not 0 < len(graph.node) <= MAX_NODES:
        raise _refused(file, f"has {len(graph.node)} nodes; 1 to {MAX_NODES} are possible")
    if len(graph.sparse_initializer):
        raise UnsupportedError(f"{file.label}: has sparse initialisers; save the weights as plain arrays")
    known = {each.name for each in (*graph.initializer, *graph.input)}
    texts = [known, *((node.name, node.op_type, node.domain, *node.input, *node.output) for node in graph.node)]
    texts += [[each.name for each in node.attribute] for node in graph.node]
    if not all(isinstance(text, str) for names in texts for text in names):  # the library gives bytes then
        raise ImportRefused(f"{file.label}: a name in it is no UTF-8", code="damaged")
    found = [_operation(file, node, number) for number, node in enumerate(graph.node)]
    later: set[str] = set()
    for name in [name for each in found for name in each.outputs if name]:
        if name in later or name in known:
            raise _refused(
                file, f"{shown(name)} is computed twice, or by a node and from outside; names are given once"
            )
        later.add(name)
    before = known | {""}
    for each in found:
        for name in each.inputs:
            if name not in before:
                where = "only it or a later node computes" if name in later else "is nowhere in the file"
                raise _refused(
                    file,
                    f"node {each.name!r} ({shown(each.kind)[1:-1]}) reads {shown(name)}, which {where}; nodes have to "
                    "be sorted, without circles, and initialisers be there",
                )
        before.update(each.outputs)
    return _needed(found, {each.name for each in graph.output})


def _operation(file: ModelFile, node: Any, number: int) -> OnnxNode:
    outputs = tuple(node.output)
    name = node.name or next((name for name in outputs if name), "")
    if not any(outputs) or len(name) > MAX_NAME or any(len(each) > MAX_NAME for each in (*outputs, *node.input)):
        raise _refused(
            file,
            f"node {number} ({shown(node.op_type)[1:-1]}) has no output, or a name of more than {MAX_NAME} characters",
        )
    return OnnxNode(
        " ".join(name.split()) or f"node_{number}", node.op_type, "" if node.domain in DOMAINS else node.domain,
        tuple(node.input), outputs, file, {each.name: each for each in node.attribute},
    )  # fmt: skip


def _needed(found: list[OnnxNode], wanted: set[str]) -> list[OnnxNode]:
    kept = []
    for each in reversed(found):
        if wanted & {*each.outputs}:
            wanted.update(each.inputs)
            kept.append(each)
    return kept[::-1]


def _refused(file: ModelFile, message: str) -> ImportRefused:
    return ImportRefused(f"{file.label}: {message}", code="graph")
