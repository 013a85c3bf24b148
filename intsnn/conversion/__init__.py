"""How does a float network become spikes?"""

from ..faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "compensate": "Width",
        "pipeline": "Pipeline Stage accuracy aim convert_float doubts measure",
        "quantise": "ROUNDINGS Calibration Quantisation calibrate quantise_network quantise_weights",
        "redrive": "redriven",
        "spikes": "METHODS Conversion Rule convert",
    },
)
