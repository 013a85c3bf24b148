"""What shape does a layer have that cannot be read? Told from its options, so that what follows it can be looked at."""

from __future__ import annotations

from typing import Any

from .graph import FIRST, Layer

__all__ = ["plausible"]

_SAME = {
    "ELU", "PReLU", "ThresholdedReLU", "LeakyReLU", "ReLU", "Softmax", "Activation", "LayerNormalization", "Multiply",
    "GroupNormalization", "UnitNormalization", "RMSNormalization", "BatchNormalization", "Maximum", "Minimum", "Add",
    "Average", "Subtract", "Masking", "Rescaling", "Normalization", "MultiHeadAttention", "Attention", "Dropout",
    "AdditiveAttention", "SpatialDropout1D", "SpatialDropout2D",
}  # fmt: skip
_WRAPPERS = ("QuantizeWrapper", "QuantizeWrapperV2", "QuantizeLayer", "SpectralNormalization", "ClusterWeights")
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU")
_DENSE = ("Dense", "QDense", "EinsumDense")
_CONVOLUTIONS = ("Conv1D", "Conv2D", "SeparableConv1D", "SeparableConv2D", "QConv1D", "QConv2D")


def plausible(kind: str, config: dict[str, Any], inputs: list[tuple[int, ...]], layout: str) -> tuple[int, ...] | None:
    """Shape in Keras of what a layer of class `kind` makes of tensors of the shapes `inputs`, or None."""
    if not inputs:
        return None
    first = inputs[0]
    if kind in _SAME or (kind in _WRAPPERS and not isinstance(config.get("layer"), dict)):
        return first
    if kind in _WRAPPERS:
        inner = config["layer"]
        options = inner.get("config")
        if not isinstance(options, dict) or not isinstance(inner.get("class_name"), str):
            return None
        return plausible(inner["class_name"], options, inputs, layout)
    layer = Layer("", kind, config)
    try:
        if kind in _DENSE:
            return (*first[:-1], layer.integer("units", "output_dim"))
        if kind in _RECURRENT:
            sequences = layer.flag("return_sequences", default=False)
            return (*(first[:1] if sequences else ()), layer.integer("units", "output_dim"))
        if kind in _CONVOLUTIONS:
            return _window(layer, first, layout)
    except ValueError:  # an option is damaged too
        return None
    return None


def _window(layer: Layer, shape: tuple[int, ...], layout: str) -> tuple[int, ...] | None:
    if len(shape) != layer.rank + 1:
        return None
    one = 1 if layer.rank == 1 else [1, 1]
    filters = layer.integer("filters", "nb_filter")
    windows = list(zip(layer.plane("kernel_size"), layer.plane("strides", default=one), strict=True))[2 - layer.rank :]
    fits = layer.get("padding", default="valid") == "valid"
    sizes = shape[1:] if layout == FIRST else shape[:-1]
    size = tuple((n - k) // s + 1 if fits else -(-n // s) for n, (k, s) in zip(sizes, windows, strict=True))
    if min(size) < 1:
        return None
    return (filters, *size) if layout == FIRST else (*size, filters)
