"""What does one layer compute? Ports, connections, pools, joins, neurons."""

from ..support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "base": "Bound Build Layer ParameterSize Shape StateSize Value fits kinds output_shape",
        "connections": "Affine Conv2d",
        "joins": "Add Scale",
        "neurons": "Decay Neuron Refractory",
        "pooling": "AvgPool2d MaxPool2d SumPool2d",
        "ports": "Input Readout",
        "presets": "CaLIF CubaLIF IF LIF QFFS SignedIF loihi",
        "reshape": "Concat Flatten Moving Select Upsample2d",
        "schedule": "Schedule bias_schedule bias_total",
    },
)
