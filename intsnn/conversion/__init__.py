"""How does a float network become spikes?"""

from ..support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "pipeline": "Pipeline Stage accuracy aim convert_float doubts measure",
        "quantise": "ROUNDINGS Calibration Quantisation calibrate quantise_network",
        "redrive": "redriven",
        "spikes": "METHODS Conversion NeuronRule Rule convert",
        "weights": "Width quantise_weights quantised_node weight_format",
    },
)
