"""What does one layer compute? Ports, connections, pools, joins, neurons."""

from ..support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "base": (
            "Add Affine AvgPool2d Conv2d Flatten Input MaxPool2d Readout Scale SumPool2d Upsample2d "
            "integers output_shape"
        ),
        "neurons": "CaLIF CubaLIF Decay IF LIF Neuron QFFS Refractory SignedIF loihi",
    },
)
