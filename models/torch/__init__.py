"""Networks of PyTorch: modules as they are in memory, and state dicts with a description of the layers."""

from ...support.faces import attach

__all__, __getattr__, __dir__ = attach(__name__, {"trace": "from_torch", "state": "load_state"})
