"""What does each layer of PyTorch become? One closed table, for modules in memory and for layers that a file describes.

Options and arrays have the names that PyTorch gives them. What is not in the table is an error that names the layer,
with the reason where there is one.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...formats.arguments import shown, whole
from ...network.composed import TransposedWindow, transposed_convolution
from ...network.float_activations import FloatHardTanh, FloatLeakyReLU, FloatSigmoid
from ...network.float_nodes import (
    FloatAffine,
    FloatAvgPool2d,
    FloatBatchNorm,
    FloatConv2d,
    FloatMaxPool2d,
    FloatReLU,
    FloatSoftmax,
    FloatUpsample2d,
)
from ...network.node import Padding
from .moves import MOVES
from .sketch import Pair, Signal, Sketch, Spot

__all__ = ["KINDS_OF_LAYERS", "LayerKind", "becomes", "why_not"]

NONE: Padding = ((0, 0), (0, 0))


# -- connections ------------------------------------------------------------------------------------------------------


def _sizes_fit(at: Spot, **found: int | Pair) -> None:
    """Sizes that a description gives beside the arrays have to be theirs."""
    for name, size in found.items():
        if at.get(name) is None:
            continue
        told = at.pair(name) if isinstance(size, tuple) else at.whole(name)
        if told != size:
            raise at.misfit(f"{name} is {told}, its arrays have {size}")


def _kernel(at: Spot) -> np.ndarray:
    weight = at.array("weight", (None,) * (3 if at.kind.endswith("1d") else 4))
    if 0 in weight.shape:
        raise at.misfit(f"its weight is {weight.shape}; no axis may be empty")
    return weight[:, :, None, :] if weight.ndim == 3 else weight


def _zero_mode(at: Spot) -> None:
    if (mode := at.get("padding_mode", "zeros")) != "zeros":
        raise at.unsupported(f"padding_mode is {shown(mode)}; only zeros are put around an image")


def _bias(at: Spot, size: int) -> np.ndarray | None:
    if at.get("bias") is not None and at.flag("bias") != ("bias" in at.arrays):
        raise at.misfit(f"bias is {at.flag('bias')}, but it has {'an' if 'bias' in at.arrays else 'no'} array 'bias'")
    return at.array("bias", (size,)) if "bias" in at.arrays else None


def _around(x: Signal, padding: Padding) -> tuple[Signal, Padding]:
    """A tensor without its border of zeros, and the padding of a layer with it."""
    if not x.border:
        return x, padding
    border = (((0, 0),) * 2 + x.border)[-2:]
    added = tuple((p[0] + b[0], p[1] + b[1]) for p, b in zip(padding, border, strict=True))
    return replace(x, shape=x.inner, border=()), added  # type: ignore[return-value]


def _convolution(s: Sketch, at: Spot, x: Signal) -> Signal:
    weight, x = _kernel(at), s.image(at, x)
    _zero_mode(at)
    groups, dilation = at.whole("groups", 1, 1), at.pair("dilation", 1)
    out, (kh, kw) = weight.shape[0], weight.shape[2:]
    _sizes_fit(at, out_channels=out, in_channels=weight.shape[1] * groups, kernel_size=(kh, kw))
    if at.get("padding") == "same":
        if at.pair("stride", 1) != (1, 1):
            raise at.bad("padding 'same' needs a stride of 1")
        total = [d * (k - 1) for d, k in zip(dilation, (kh, kw), strict=True)]
        padding: Any = tuple((n // 2, n - n // 2) for n in total)
    elif at.get("padding") == "valid":
        padding = NONE
    else:
        padding = tuple((n, n) for n in at.pair("padding", 0, low=0, flat=0))
    x, padding = _around(x, padding)
    return s.result(
        at, FloatConv2d, x, weight=weight, bias=_bias(at, out), stride=at.pair("stride", 1), padding=padding,
        dilation=dilation, groups=groups,
    )  # fmt: skip


def _transposed(s: Sketch, at: Spot, x: Signal) -> Signal:
    weight, x = _kernel(at), s.image(at, x)
    _zero_mode(at)
    groups = at.whole("groups", 1, 1)
    out = weight.shape[1] * groups
    _sizes_fit(at, in_channels=weight.shape[0], out_channels=out, kernel_size=weight.shape[2:])
    stride, dilation = at.pair("stride", 1), at.pair("dilation", 1)
    extra = at.pair("output_padding", 0, low=0, flat=0)
    if any(more >= max(s, d) for more, s, d in zip(extra, stride, dilation, strict=True) if more):
        raise at.bad(f"output_padding {extra} has to be smaller than the stride {stride} or the dilation {dilation}")
    source = s.node_of(at, x)
    rows, columns = at.pair("padding", 0, low=0, flat=0)
    padding = ((rows, rows), (columns, columns))
    nodes = transposed_convolution(
        s.free(at), source, s.shapes[source], weight, bias=_bias(at, out), origin=f"{at.kind} {at.name}",
        window=TransposedWindow(stride, padding, extra, dilation, groups),
    )  # fmt: skip
    for node in nodes:
        s.add(node)
    return s.value(nodes[-1].name, len(x.shape))


def _linear(s: Sketch, at: Spot, x: Signal) -> Signal:
    weight = at.array("weight", (None, None))
    _sizes_fit(at, out_features=weight.shape[0], in_features=weight.shape[1])
    bias = _bias(at, weight.shape[0])
    if not x.shape or x.shape[-1] != weight.shape[1] or 0 in weight.shape:
        raise at.misfit(f"its weight (out, in) is {weight.shape}, the last axis of {x.shape} does not fit")
    if len(x.shape) == 1:
        return Signal(s.emit(FloatAffine, at, (s.node_of(at, x),), weight=weight, bias=bias), (weight.shape[0],))
    # over the last of several axes: a convolution of 1 x 1 over the others
    rest = x.shape[:-1]
    maps = x.moved(lambda places: np.moveaxis(places, -1, 0).reshape(x.shape[-1], 1, -1))
    name = s.emit(FloatConv2d, at, (s.node_of(at, maps),), weight=weight[:, :, None, None], bias=bias)
    return s.value(name, 3).moved(lambda places: np.moveaxis(places.reshape(-1, *rest), 0, -1))


def _batch_norm(s: Sketch, at: Spot, x: Signal) -> Signal:
    ranks = (1, 2) if at.kind.endswith("1d") else (3,)
    if len(x.shape) not in ranks:
        raise at.misfit(f"it reads {x.shape}, which has another number of axes")
    channels = x.shape[0]
    if "running_mean" not in at.arrays:
        raise at.unsupported("it has no running statistics, so that the result would depend on the batch")
    mean, variance = (at.array(name, (channels,)) for name in ("running_mean", "running_var"))
    _sizes_fit(at, num_features=channels)
    gamma = at.array("weight", (channels,)) if "weight" in at.arrays else np.ones(channels, mean.dtype)
    beta = at.array("bias", (channels,)) if "bias" in at.arrays else np.zeros(channels, mean.dtype)
    return s.result(
        at, FloatBatchNorm, x, gamma=gamma, beta=beta, mean=mean, variance=variance, epsilon=at.real("eps", 1e-5)
    )


# -- activations ------------------------------------------------------------------------------------------------------


def _relu(s: Sketch, at: Spot, x: Signal) -> Signal:
    return s.alike(at, FloatReLU, x)


def _relu6(s: Sketch, at: Spot, x: Signal) -> Signal:
    return s.alike(at, FloatReLU, x, max_value=6.0)


def _hardtanh(s: Sketch, at: Spot, x: Signal) -> Signal:
    low, high = at.real("min_val", -1.0), at.real("max_val", 1.0)
    if low == 0 and high > 0:
        return s.alike(at, FloatReLU, x, max_value=high)
    if low == -high and high > 0:
        return s.alike(at, FloatHardTanh, x, limit=high)
    raise at.unsupported(f"it cuts to {low:g} ... {high:g}; 0 ... a and -a ... a are taken")


def _clamp(s: Sketch, at: Spot, x: Signal) -> Signal:
    if at.get("max") is None and at.get("min") is not None and at.real("min") == 0:
        return s.alike(at, FloatReLU, x)
    if at.get("min") is None or at.get("max") is None:
        raise at.unsupported("values are cut on one side only; clamp(min=0), 0 ... a and -a ... a are taken")
    return _hardtanh(s, replace(at, options={"min_val": at.get("min"), "max_val": at.get("max")}), x)


def _leaky(s: Sketch, at: Spot, x: Signal) -> Signal:
    slope = at.real("negative_slope", 0.01)
    if not 0 <= slope <= 1:
        raise at.unsupported(f"its slope is {slope:g}; 0 to 1 is taken")
    return s.alike(at, FloatLeakyReLU, x, slope=slope)


def _prelu(s: Sketch, at: Spot, x: Signal) -> Signal:
    slopes = at.array("weight", (None,))
    if not slopes.size or (slopes != slopes[0]).any():
        raise at.unsupported("its slopes differ between the channels; one slope from 0 to 1 is taken")
    return _leaky(s, replace(at, options={"negative_slope": float(slopes[0])}), x)


def _ending(word: str, cls: Any) -> Callable[[Sketch, Spot, Signal], Signal]:
    """What only stands at the end; LogSoftmax keeps the order of Softmax."""

    def build(s: Sketch, at: Spot, x: Signal) -> Signal:
        if word != "sigmoid":
            axis = at.get("dim", 1)
            if axis not in (1, -len(x.shape)) or len(x.shape) not in (1, 3):
                raise at.unsupported(f"it goes over axis {shown(axis)} of {x.shape}; classes are the first axis")
            if word == "log-softmax":
                s.notes.append(f"{at}: kept as softmax, whose values have the same order")
            return Signal(s.emit(cls, at, (s.node_of(at, x),)), x.shape, ending=word)
        return s.alike(at, cls, x, ending=word)

    return build


# -- windows ----------------------------------------------------------------------------------------------------------


def _windows(at: Spot, x: Signal) -> tuple[Pair, Pair, Pair, Pair]:
    """Kernel, stride, padding, and rows and columns that windows reach beyond it where the count is rounded up."""
    kernel = at.pair("kernel_size")
    stride = kernel if at.get("stride") in (None, [], ()) else at.pair("stride")
    padding = at.pair("padding", 0, low=0, flat=0)
    extra = [0, 0]
    if at.flag("ceil_mode"):
        sizes = (1, x.shape[-1]) if at.kind.endswith("1d") else x.shape[-2:]
        for axis, (n, k, step, p) in enumerate(zip(sizes, kernel, stride, padding, strict=True)):
            count = -(-(n + 2 * p - k) // step) + 1
            if (count - 1) * step >= n + p:  # no window starts in the padding behind
                count -= 1
            extra[axis] = max((count - 1) * step + k - n - 2 * p, 0)
    return kernel, stride, padding, (extra[0], extra[1])


def _pads(padding: Pair, extra: Pair) -> Any:
    return tuple((p, p + more) for p, more in zip(padding, extra, strict=True))


def _max_pool(s: Sketch, at: Spot, x: Signal) -> Signal:
    x = s.image(at, x)
    if at.pair("dilation", 1) != (1, 1):
        raise at.unsupported("windows with dilation are not pooled")
    if at.flag("return_indices"):
        raise at.unsupported("places of the largest values are not returned")
    kernel, stride, padding, extra = _windows(at, x)
    return s.result(at, FloatMaxPool2d, x, kernel=kernel, stride=stride, padding=_pads(padding, extra))


def _avg_pool(s: Sketch, at: Spot, x: Signal) -> Signal:
    x = s.image(at, x)
    if at.get("divisor_override") is not None:
        raise at.unsupported("divisor_override is not taken; the size of the window divides")
    kernel, stride, padding, extra = _windows(at, x)
    counted = at.flag("count_include_pad", True)
    if counted and any(extra):
        # zeros that count are put around the image; what windows reach beyond them does not count
        around = [(0, 0), *_pads(padding, (0, 0))[3 - len(x.shape) :]]
        x = x.moved(lambda places: np.pad(places, around, constant_values=-1))
        padding, counted = (0, 0), False
    return s.result(
        at, FloatAvgPool2d, x, kernel=kernel, stride=stride, padding=_pads(padding, extra), count_include_pad=counted
    )


def _adaptive(cls: Any) -> Callable[[Sketch, Spot, Signal], Signal]:
    def build(s: Sketch, at: Spot, x: Signal) -> Signal:
        x, flat = s.image(at, x), at.kind.endswith("1d")
        if at.flag("return_indices"):
            raise at.unsupported("places of the largest values are not returned")
        sizes = (1, *x.shape[1:]) if flat else x.shape[1:]
        asked = at.get("output_size")
        asked = list(asked) if isinstance(asked, list | tuple) else [asked] * (1 if flat else 2)
        if len(asked) != (1 if flat else 2):
            raise at.bad(f"output_size is {shown(at.get('output_size'))}; a size for each axis of the maps is needed")
        wanted = [1] * flat + [
            n if size is None else whole(size, f"{at}: output_size", 1)
            for size, n in zip(asked, sizes[-len(asked) :], strict=True)
        ]
        if any(n % size for n, size in zip(sizes, wanted, strict=True)):
            raise at.unsupported(
                f"{tuple(sizes)} in {tuple(wanted)} windows have different sizes; sizes that divide are taken"
            )
        kernel = tuple(n // size for n, size in zip(sizes, wanted, strict=True))
        return s.result(at, cls, x, kernel=kernel, stride=kernel)

    return build


def _upsample(s: Sketch, at: Spot, x: Signal) -> Signal:
    if (mode := at.get("mode", "nearest")) not in ("nearest", "nearest-exact"):
        raise at.unsupported(f"mode {shown(mode)} computes values between others; only 'nearest' is taken")
    if len(x.shape) not in (2, 3):
        raise at.misfit(f"it reads {x.shape}; (C, L) or (C, H, W) is needed")
    sizes, count = x.shape[1:], len(x.shape) - 1
    size, factor = at.get("size"), at.get("scale_factor")
    given = size if size is not None else factor
    given = list(given) if isinstance(given, list | tuple) else [given] * count
    if len(given) != count or (size is None) == (factor is None):
        raise at.bad(f"size {shown(size)} and scale_factor {shown(factor)}: one of them is needed, for {count} axes")
    factors = []
    for n, value in zip(sizes, given, strict=True):
        if size is not None:
            value = whole(value, f"{at}: size", 1) / n
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 1 or value != int(value):
            raise at.unsupported(f"{n} values are enlarged {shown(value)} times; whole factors are taken")
        factors.append(int(value))
    return s.result(at, FloatUpsample2d, x, factor=(*[1] * (2 - count), *factors))


# -- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerKind:
    """How a kind of layer is built, and which options and arrays it has, by their names in PyTorch.

    `sizes` are what a description may give besides: sizes are compared with the arrays, `p`, `inplace` and `momentum`
    change nothing.
    """

    build: Callable[[Sketch, Spot, Signal], Signal]
    options: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()


_CONV_SIZES = ("in_channels", "out_channels", "kernel_size", "bias")
_TWO = ("weight", "bias")
_CONV = LayerKind(_convolution, ("stride", "padding", "dilation", "groups", "padding_mode"), _TWO, _CONV_SIZES)
_TURNED = LayerKind(
    _transposed, ("stride", "padding", "output_padding", "dilation", "groups", "padding_mode"), _TWO, _CONV_SIZES
)
_NORM = LayerKind(_batch_norm, ("eps",), (*_TWO, "running_mean", "running_var"), ("num_features", "momentum"))
_MAX = LayerKind(_max_pool, ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"))
_MEAN = LayerKind(_avg_pool, ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"))
_ADAPTIVE_MEAN = LayerKind(_adaptive(FloatAvgPool2d), ("output_size",))
_ADAPTIVE_MAX = LayerKind(_adaptive(FloatMaxPool2d), ("output_size", "return_indices"))
_SAME = LayerKind(MOVES["Identity"], sizes=("p", "inplace"))
_IN_PLACE = ("inplace",)
_ENLARGE = LayerKind(_upsample, ("size", "scale_factor", "mode"))

KINDS_OF_LAYERS: Mapping[str, LayerKind] = types.MappingProxyType(
    {
        **dict.fromkeys(("Conv1d", "Conv2d"), _CONV),
        **dict.fromkeys(("ConvTranspose1d", "ConvTranspose2d"), _TURNED),
        "Linear": LayerKind(_linear, (), _TWO, ("in_features", "out_features", "bias")),
        **dict.fromkeys(("BatchNorm1d", "BatchNorm2d"), _NORM),
        "ReLU": LayerKind(_relu, sizes=_IN_PLACE),
        "ReLU6": LayerKind(_relu6, sizes=_IN_PLACE),
        "Hardtanh": LayerKind(_hardtanh, ("min_val", "max_val"), sizes=_IN_PLACE),
        "LeakyReLU": LayerKind(_leaky, ("negative_slope",), sizes=_IN_PLACE),
        "PReLU": LayerKind(_prelu, (), ("weight",), ("num_parameters",)),
        "Softmax": LayerKind(_ending("softmax", FloatSoftmax), ("dim",)),
        "LogSoftmax": LayerKind(_ending("log-softmax", FloatSoftmax), ("dim",)),
        "Sigmoid": LayerKind(_ending("sigmoid", FloatSigmoid)),
        **dict.fromkeys(("MaxPool1d", "MaxPool2d"), _MAX),
        **dict.fromkeys(("AvgPool1d", "AvgPool2d"), _MEAN),
        **dict.fromkeys(("AdaptiveAvgPool1d", "AdaptiveAvgPool2d"), _ADAPTIVE_MEAN),
        **dict.fromkeys(("AdaptiveMaxPool1d", "AdaptiveMaxPool2d"), _ADAPTIVE_MAX),
        **dict.fromkeys(("Upsample", "UpsamplingNearest2d"), _ENLARGE),
        "Flatten": LayerKind(MOVES["Flatten"], ("start_dim", "end_dim")),
        "Unflatten": LayerKind(MOVES["Unflatten"], ("dim", "unflattened_size")),
        **dict.fromkeys(("ZeroPad1d", "ZeroPad2d"), LayerKind(MOVES["ZeroPad"], ("padding",))),
        "PixelShuffle": LayerKind(MOVES["PixelShuffle"], ("upscale_factor",)),
        "PixelUnshuffle": LayerKind(MOVES["PixelUnshuffle"], ("downscale_factor",)),
        "ChannelShuffle": LayerKind(MOVES["ChannelShuffle"], ("groups",)),
        **dict.fromkeys(("Identity", "Dropout", "Dropout1d", "Dropout2d", "AlphaDropout"), _SAME),
    }
)
# kinds that only calls have, with options that no module has
_CALLED: Mapping[str, LayerKind] = types.MappingProxyType(
    {
        "clamp": LayerKind(_clamp, ("min", "max")),
        "dropout": LayerKind(MOVES["Identity"], ("training",)),
        "pad": LayerKind(MOVES["ZeroPad"], ("padding", "mode", "value")),
    }
)

_SMOOTH = "it is neither piecewise linear nor monotone, so that no threshold gives its values; train with ReLU"
_CURVED = "it is curved, so that no count of spikes gives its values; train with ReLU or Hardtanh"
_PRODUCT = "products of two values that both depend on the input have no spiking form"
_RECURRENT = "a state with gates goes from step to step; only layers without a state are taken"
_BY_SAMPLE = "it divides by statistics of each sample, which are not known beforehand; use BatchNorm"
_REASONS = {
    **dict.fromkeys(("silu", "swish", "hardswish", "gelu", "mish"), _SMOOTH),
    **dict.fromkeys(("tanh", "elu", "selu", "celu", "softplus", "softsign", "hardsigmoid", "logsigmoid"), _CURVED),
    **dict.fromkeys(("lstm", "gru", "rnn", "lstmcell", "grucell", "rnncell"), _RECURRENT),
    **dict.fromkeys(
        ("multiheadattention", "transformer", "transformerencoder", "transformerencoderlayer", "transformerdecoder",
         "transformerdecoderlayer", "scaled_dot_product_attention", "matmul", "bmm", "einsum", "bilinear", "glu"),
        _PRODUCT,
    ),
    **dict.fromkeys(
        ("layernorm", "groupnorm", "instancenorm1d", "instancenorm2d", "localresponsenorm", "rmsnorm", "layer_norm",
         "group_norm", "instance_norm"),
        _BY_SAMPLE,
    ),
    **dict.fromkeys(("conv3d", "maxpool3d", "avgpool3d", "batchnorm3d", "convtranspose3d"), "maps have two dimensions"),
    **dict.fromkeys(("embedding", "embeddingbag"), "it reads a table of words; images and vectors are taken"),
}  # fmt: skip


def why_not(kind: str) -> str:
    """Why a kind of layer or function, by its name in PyTorch, is not taken."""
    found = _REASONS.get(kind.lower().rstrip("_"))
    return found or f"it is not among the layers that are taken: {', '.join(KINDS_OF_LAYERS)}"


def becomes(s: Sketch, at: Spot, x: Any) -> Signal:
    """What a layer makes of a tensor; `UnsupportedError` for kinds that are not in the table."""
    kind = _CALLED.get(at.kind) or KINDS_OF_LAYERS.get(at.kind)
    if kind is None:
        raise at.unsupported(why_not(at.kind))
    if not isinstance(x, Signal):
        raise UnsupportedError(f"{at}: it reads {shown(x)}; one tensor that depends on the input is taken")
    return kind.build(s, at, x)
