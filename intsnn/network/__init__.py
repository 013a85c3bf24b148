"""What is a network? Spiking, float and quantised graphs, and the bounds of their sums."""

from ..support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "bounds": "TOTAL_BITS Bound analyse check_totals fits",
        "float_activations": "FloatHardTanh FloatLeakyReLU FloatSigmoid",
        "float_moves": "FloatConcat FloatSelect FloatSigns",
        "float_nodes": (
            "FloatAdd FloatAffine FloatAvgPool2d FloatBatchNorm FloatConv2d FloatFlatten FloatInput "
            "FloatMaxPool2d FloatReLU FloatSoftmax FloatUpsample2d"
        ),
        "floating": "FloatNetwork blocks forward",
        "node": "FloatNode",
        "quantised": "InputScale QuantAffine QuantConv2d QuantHardTanh QuantReLU QuantisedNetwork with_codes",
        "schedule": "Schedule settling_steps",
        "spiking": "Network",
    },
)
