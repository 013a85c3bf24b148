"""How is a network run? Inputs, paths, results."""

from ..support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "ann": "AnnResult equality_conditions integer_ann",
        "inputs": "Events Source encode_rate",
        "result": "LayerReport Result decide places predict to_api",
        "simulation": "simulate",
        "backends.fused.runner": "Outcome Runner prepare why_not_fused",
    },
)
