"""How is a network run? Inputs, paths, results."""

from ..faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "ann": "AnnResult equality_conditions integer_ann",
        "inputs": "Events Source encode_rate",
        "schedule": "Duration duration settling_steps",
        "simulation": "LayerReport Result simulate",
    },
)
