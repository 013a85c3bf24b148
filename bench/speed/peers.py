"""How do others compute the same network? Torch loops, SpikingJelly, snnTorch; one int8 ANN pass of ONNX Runtime.

A peer takes a `Workload` and gives a function from its numpy inputs to its outputs. All SNN peers compute the very
function of the integer network in float32, where integers below 2**24 are exact (in float64 where sums go further);
their outputs are compared with ours before anything is timed. Nothing here is imported before a peer is asked for.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .ann_pass import int8_pass
from .simulators import snn_torch, spikingjelly
from .torch_loops import Call, torch_folded, torch_step

__all__ = ["PEERS", "Absent", "Peer", "absent", "prepare_peer"]


class Absent(ImportError):
    """A peer that cannot be had here, and why."""


@dataclass(frozen=True)
class Peer:
    """Something to compare with: packages that it needs, ``"snn"`` or ``"ann-int8"``, how it is prepared."""

    name: str
    kind: str
    packages: tuple[str, ...]
    prepare: Callable[[Any, int], Call]
    about: str

    @property
    def version(self) -> str:
        """Of the packages, as installed."""
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in self.packages)


def absent(peer: Peer) -> str | None:
    """Which package of `peer` is not installed, or None."""
    for name in peer.packages:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return f"{name} is not installed"
    return None


def prepare_peer(peer: Peer, workload, threads: int) -> Call:
    """The function to time.

    Raises
    ------
    Absent
        If a package is missing or cannot be imported.
    UnsupportedError
        If the peer has no form of this network.
    """
    reason = absent(peer)
    if reason:
        raise Absent(reason)
    try:
        return peer.prepare(workload, threads)
    except ImportError as error:
        raise Absent(f"{peer.name} cannot be imported: {error}") from error


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "torch-step", "snn", ("torch",), lambda w, n: torch_step(w, n, False),
            "hand-written loop over steps, first layer of a constant input once",
        ),
        Peer(
            "torch-step-cl", "snn", ("torch",), lambda w, n: torch_step(w, n, True),
            "the same, channels last",
        ),
        Peer(
            "torch-folded", "snn", ("torch",), torch_folded,
            "layer by layer, T folded into the batch, readout once over counts",
        ),
        Peer(
            "spikingjelly-s", "snn", ("spikingjelly", "torch"), lambda w, n: spikingjelly(w, n, "s"),
            "IFNode, single step",
        ),
        Peer(
            "spikingjelly-m", "snn", ("spikingjelly", "torch"), lambda w, n: spikingjelly(w, n, "m"),
            "IFNode, multi step, torch backend",
        ),
        Peer("snntorch", "snn", ("snntorch", "torch"), snn_torch, "Leaky, reset by subtraction"),
        Peer(
            "onnxruntime-int8", "ann-int8", ("onnxruntime", "onnx"), int8_pass,
            "one pass of an int8 ANN of the same architecture (with max-pools), not T steps",
        ),
    )
}  # fmt: skip
