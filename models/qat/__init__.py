"""Quantisation-aware training: what makes the networks that the rest of the project only runs.

Needs the extra ``qat`` (torch; Brevitas for some recipes). The modules of this package import torch as they are loaded,
so nothing outside imports them before it trains. What comes out is a `QuantisedNetwork` in HDF5, and nothing else
passes from here to the simulation.
"""
