"""What does each layer of Keras become? A closed table from the name of a class to the function that writes its nodes.

What a name in a file can reach is what stands in `BUILDERS`; `REASONS` says why well-known layers do not.
"""

from __future__ import annotations

from collections.abc import Callable

from ..axes import Value
from ..builder import Builder
from ..graph import Layer
from . import activations, arithmetic, shaping, weighted, windows

__all__ = ["BUILDERS", "REASONS"]

# the only way from a name in a file to code
BUILDERS: dict[str, Callable[[Builder, Layer, list[Value]], Value]] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Convolution2D"), weighted.convolution),
    **dict.fromkeys(
        ("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"), weighted.depthwise_convolution
    ),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose"), weighted.transposed),
    "Dense": weighted.dense_layer,
    **dict.fromkeys(
        ("BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization"),
        weighted.batch_norm,
    ),
    "Rescaling": weighted.rescaling,
    "Normalization": weighted.normalization,
    "Activation": activations.activation,
    "ReLU": activations.relu,
    "LeakyReLU": activations.leaky_relu,
    "Softmax": activations.softmax,
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"), windows.pool),
    **dict.fromkeys(
        ("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D"),
        windows.global_pool,
    ),
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D"), windows.zeros_around),
    **dict.fromkeys(("Cropping1D", "Cropping2D"), windows.crop),
    **dict.fromkeys(("UpSampling1D", "UpSampling2D"), windows.upsampling),
    "Flatten": shaping.flatten,
    "Reshape": shaping.reshape,
    "Permute": shaping.permute,
    "Add": arithmetic.added,
    "Subtract": arithmetic.subtracted,
    "Average": arithmetic.average,
    "Concatenate": arithmetic.concatenate,
    "Merge": arithmetic.merge,
    **dict.fromkeys(
        (
            "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity",
            "RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation", "RandomTranslation",
            "RandomZoom", "SpatialDropout1D", "SpatialDropout2D",
        ),
        shaping.nothing,
    ),
}  # fmt: skip

_RECURRENT = "it is recurrent, and conversion gives every layer one value for each sample; unroll it, or use Conv1D"
_ATTENTION = "it multiplies values of the network with each other, which spikes of one layer cannot; use convolutions"
_CURVE = "its curve has no counterpart in spikes, which are a ReLU with levels; train with ReLU or LeakyReLU"
_THREE = "volumes are not taken; vectors, signals and images are"
_STATISTICS = "it normalises with statistics of the sample at hand, which are not fixed; use BatchNormalization"
_LOOKUP = "it looks things up in a table; give its result as the input"
_QUANTISED = "it belongs to quantisation-aware training with TensorFlow; save the network before quantize_model"

_QKERAS = "it belongs to QKeras, which trains with quantised weights; save the network with the plain layers of Keras"

REASONS = {
    "Lambda": "it carries Python code, which is never run; write it with layers or operators, which are saved by name",
    "TensorFlowOpLayer": "it carries a node of a TensorFlow graph; save the network with TensorFlow 2.4 or later",
    **dict.fromkeys(
        ("LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D", "CuDNNLSTM", "CuDNNGRU"), _RECURRENT
    ),
    "Bidirectional": f"of what it wraps {_RECURRENT}",
    "TimeDistributed": "it repeats a layer over time; apply the layer itself (Dense takes the last axis) or use Conv1D",
    "SpectralNormalization": "it scales the weights of the layer it wraps; take the wrapper off and save",
    "ClusterWeights": "it is a wrapper of weight clustering; strip the wrapper (tfmot strip_clustering) and save",
    **dict.fromkeys(
        ("QDense", "QConv1D", "QConv2D", "QDepthwiseConv2D", "QActivation", "QBatchNormalization"), _QKERAS
    ),
    **dict.fromkeys(("QuantizeWrapper", "QuantizeWrapperV2", "QuantizeLayer"), _QUANTISED),
    **dict.fromkeys(
        ("Attention", "AdditiveAttention", "MultiHeadAttention", "GroupedQueryAttention", "GroupQueryAttention"),
        _ATTENTION,
    ),
    "Multiply": "it multiplies two values of the network; a gate of constants can be a Rescaling",
    "Dot": "it multiplies two values of the network; use a Dense layer",
    "Maximum": "it compares two branches; use Add, or Concatenate and MaxPooling",
    "Minimum": "it compares two branches; use Add",
    "ELU": _CURVE,
    "ThresholdedReLU": "it jumps at its threshold; use ReLU",
    "PReLU": "it has a slope for each value, learned with the weights; use LeakyReLU, which has one slope",
    **dict.fromkeys(("LayerNormalization", "GroupNormalization", "UnitNormalization", "RMSNormalization"), _STATISTICS),
    **dict.fromkeys(("Conv3D", "Conv3DTranspose", "MaxPooling3D", "AveragePooling3D", "GlobalAveragePooling3D",
                     "GlobalMaxPooling3D", "UpSampling3D", "ZeroPadding3D", "Cropping3D"), _THREE),
    "Embedding": f"{_LOOKUP} (embeddings are vectors)",
    **dict.fromkeys(("TextVectorization", "StringLookup", "IntegerLookup", "Hashing", "Discretization",
                     "CategoryEncoding", "HashedCrossing"), _LOOKUP),
    "Resizing": "it interpolates; resize the data beforehand and take it out of the model",
    "CenterCrop": "it may resize; crop the data beforehand and take it out of the model",
    "RandomCrop": "it may resize; crop the data beforehand and take it out of the model",
    "RepeatVector": "it repeats a vector along time; use UpSampling1D behind Reshape",
    "Masking": "it hides steps of time, which conversion does not know; pad with zeros and take it out of the model",
    "LocallyConnected1D": "its kernels differ from place to place; use Conv1D",
    "LocallyConnected2D": "its kernels differ from place to place; use Conv2D",
    "Convolution1D": "signals of Keras 1 are not taken; load and save the network with Keras 2",
    "MaxoutDense": "it takes the largest of several dense layers; use Dense with ReLU",
    "Highway": "it multiplies two values of the network; use Dense and Add",
    "EinsumDense": "its product is written as an equation; use Dense",
    "TFSMLayer": "it runs a TensorFlow graph; export the network as Keras layers",
}  # fmt: skip
