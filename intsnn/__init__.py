"""Spiking neural networks in which every number is an integer of a declared width, simulated bit for bit.

The names here are the public surface; ``docs/semantics.md`` says what each number means.
"""

import importlib as _importlib
import os as _os
import sys as _sys
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING

_here = _os.path.dirname(_os.path.abspath(__file__))
if not _os.path.isdir(_os.path.join(_here, "kernels")):  # source tree: siblings, see setup.cfg
    __path__.append(_os.path.dirname(_here))

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .ann import integer_ann
    from .convert import Rule, convert
    from .files import save
    from .formats import Bipolar, Fixed, Levels, Overflow, Rounding
    from .inputs import Events, encode_rate
    from .layers import Add, Affine, AvgPool2d, Conv2d, Flatten, Input, MaxPool2d, Readout, Scale, SumPool2d, Upsample2d
    from .models.readers import load
    from .network import Network
    from .neurons import IF, LIF, QFFS, CaLIF, CubaLIF, Decay, Neuron, Refractory, SignedIF, loihi
    from .simulate import Result, simulate
    from .verify import verify

# Where each name lives: imported on first use, so that the command line and parts of the package start at once.
_PLACES = {
    name: module
    for module, names in {
        "ann": "integer_ann",
        "convert": "Rule convert",
        "files": "save",
        "formats": "Bipolar Fixed Levels Overflow Rounding",
        "inputs": "Events encode_rate",
        "layers": "Add Affine AvgPool2d Conv2d Flatten Input MaxPool2d Readout Scale SumPool2d Upsample2d",
        "models.readers": "load",
        "network": "Network",
        "neurons": "CaLIF CubaLIF Decay IF LIF Neuron QFFS Refractory SignedIF loihi",
        "simulate": "Result simulate",
        "verify": "verify",
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
    "Overflow",
    "Readout",
    "Refractory",
    "Result",
    "Rounding",
    "Rule",
    "Scale",
    "SignedIF",
    "SumPool2d",
    "Upsample2d",
    "convert",
    "encode_rate",
    "integer_ann",
    "load",
    "loihi",
    "save",
    "simulate",
    "verify",
]


class _Package(_ModuleType):
    """This module, in which a function keeps its place against the submodule of the same name."""

    def __setattr__(self, name: str, value) -> None:
        if name in _PLACES and isinstance(value, _ModuleType):
            return  # what an import of intsnn.simulate does behind our back
        super().__setattr__(name, value)

    def __getattr__(self, name: str):
        if name not in _PLACES:
            raise AttributeError(f"module 'intsnn' has no attribute {name!r}")
        value = getattr(_importlib.import_module(f".{_PLACES[name]}", __name__), name)
        vars(self)[name] = value
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_PLACES})


_sys.modules[__name__].__class__ = _Package
