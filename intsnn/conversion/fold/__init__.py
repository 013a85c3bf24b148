"""How does a float network get the form that converts, and what stands in its way?"""

from ...support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__, {"rescaled": "without_rescaling", "rewrite": "fold refusals", "trial": "obstacles"}
)
