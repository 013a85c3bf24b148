"""Spiking neural networks in which every number is an integer of a declared width."""

import os as _os

_here = _os.path.dirname(_os.path.abspath(__file__))
if not _os.path.isdir(_os.path.join(_here, "kernels")):  # source tree: siblings, see setup.cfg
    __path__.append(_os.path.dirname(_here))

__version__ = "0.1.0"
