"""Spiking neural networks in which every number is an integer of a declared width, simulated bit for bit.

The names here are the public surface; ``docs/semantics.md`` says what each number means.
"""

import os as _os

_here = _os.path.dirname(_os.path.abspath(__file__))
if not _os.path.isdir(_os.path.join(_here, "kernels")):  # source tree: siblings, see setup.cfg
    __path__.append(_os.path.dirname(_here))

__version__ = "0.1.0"

# Imported at once: some functions share their name with their module, and none of these loads a compiler or HDF5.
from .ann import integer_ann
from .convert import Rule, convert
from .formats import Bipolar, Fixed, Levels, Overflow, Rounding
from .inputs import Events, encode_rate
from .layers import Add, Affine, AvgPool2d, Conv2d, Flatten, Input, MaxPool2d, Readout, Scale, SumPool2d
from .network import Network
from .neurons import IF, LIF, QFFS, CaLIF, CubaLIF, Decay, Neuron, Refractory, SignedIF, loihi
from .simulate import Result, simulate
from .verify import verify

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
    "convert",
    "encode_rate",
    "integer_ann",
    "load",
    "loihi",
    "save",
    "simulate",
    "verify",
]


def __getattr__(name: str):
    """`load` and `save` on first use: they bring in HDF5."""
    if name == "load":
        from .models.readers import load

        return load
    if name == "save":
        from .files import save

        return save
    raise AttributeError(f"module 'intsnn' has no attribute {name!r}")
