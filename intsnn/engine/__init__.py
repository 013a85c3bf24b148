"""How is a network run? Inputs, paths, results."""

from ..support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "ann": "AnnResult AnnRunner equality_conditions integer_ann prepare_ann",
        "inputs": "Events Source encode_rate",
        "program": "Instruction Program Value lower",
        "result": "LayerReport Result decide places predict to_api",
        "settled": "Settled settle unproven",
        "simulation": "BACKENDS backends_of simulate",
        "state": "State",
        "backends.fused.runner": "Fused Runner prepare",
    },
)
