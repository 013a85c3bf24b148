"""Spiking neural networks in which every number is an integer of a declared width, simulated bit for bit.

The names here are the public surface; ``docs/semantics.md`` says what each number means.
"""

import importlib as _importlib
import os as _os
from typing import TYPE_CHECKING

_here = _os.path.dirname(_os.path.abspath(__file__))
if not _os.path.isdir(_os.path.join(_here, "kernels")):  # source tree: siblings, see setup.cfg
    __path__.append(_os.path.dirname(_here))

from .support.version import __version__ as __version__  # noqa: E402  after the path that finds the rest

if TYPE_CHECKING:
    from .analysis.verification import verify
    from .conversion.spikes import NeuronRule, Rule, convert
    from .engine.ann import integer_ann
    from .engine.inputs import Events, encode_rate
    from .engine.result import Result
    from .engine.simulation import simulate
    from .files.network_file import save
    from .formats.fixed import Fixed, Overflow, Rounding
    from .formats.weights import Bipolar, Levels
    from .layers.connections import Affine, Conv2d
    from .layers.joins import Add, Scale
    from .layers.neurons import Decay, Neuron, Refractory
    from .layers.pooling import AvgPool2d, MaxPool2d, SumPool2d
    from .layers.ports import Input, Readout
    from .layers.presets import IF, LIF, QFFS, CaLIF, CubaLIF, SignedIF, loihi
    from .layers.reshape import Concat, Flatten, Select, Upsample2d
    from .models.readers import load
    from .models.torch.trace import from_torch
    from .network.spiking import Network

# Where each name lives: imported on first use, so that the command line and parts of the package start at once.
_PLACES = {
    name: module
    for module, names in {
        "analysis": "verify",
        "conversion": "NeuronRule Rule convert",
        "engine": "Events Result encode_rate integer_ann simulate",
        "files": "save",
        "formats": "Bipolar Fixed Levels Overflow Rounding",
        "layers": (
            "Add Affine AvgPool2d CaLIF Concat Conv2d CubaLIF Decay Flatten IF Input LIF MaxPool2d Neuron QFFS Readout "
            "Refractory Scale Select SignedIF SumPool2d Upsample2d loihi"
        ),
        "models.readers": "load",
        "models.torch": "from_torch",
        "network": "Network",
    }.items()
    for name in names.split()
}

__all__ = [
    "IF",
    "LIF",
    "QFFS",
    "Add",
    "Affine",
    "AvgPool2d",
    "Bipolar",
    "CaLIF",
    "Concat",
    "Conv2d",
    "CubaLIF",
    "Decay",
    "Events",
    "Fixed",
    "Flatten",
    "Input",
    "Levels",
    "MaxPool2d",
    "Network",
    "Neuron",
    "NeuronRule",
    "Overflow",
    "Readout",
    "Refractory",
    "Result",
    "Rounding",
    "Rule",
    "Scale",
    "Select",
    "SignedIF",
    "SumPool2d",
    "Upsample2d",
    "convert",
    "encode_rate",
    "from_torch",
    "integer_ann",
    "load",
    "loihi",
    "save",
    "simulate",
    "verify",
]


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module 'intsnn' has no attribute {name!r}")
    value = getattr(_importlib.import_module(f".{_PLACES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
