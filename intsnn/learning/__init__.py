"""How does a network learn with integers only?"""

from ..support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "backends": "Compiled Plain",
        "constants": "LayerConstants for_batch layer_constants sigmoid_tables starting_weights",
        "files": "Saved from_tree load network_from_json network_to_json save",
        "learner": "Conv Dense Learner LearningNetwork StepOutcome Rule Schedule State Widths",
        "memory": "architecture_of symbols",
        "stdp": "PairRule Plasticity Trace by_shift",
    },
)
