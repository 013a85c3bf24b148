"""What does a call of a function, of a method or of an operator of PyTorch become?

Looked up by name in closed tables; the parameters have the names and the order that PyTorch gives them. Numbers and
shapes that are computed on the way stay numbers; the size of the batch is `BATCH`, which nothing may compute with.
"""

from __future__ import annotations

import inspect
import math
import operator
import types
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...formats.arguments import shown
from ...network.float_moves import FloatConcat
from ...network.float_nodes import FloatAdd, FloatAvgPool2d, FloatMaxPool2d
from .layers import becomes, why_not
from .sketch import Signal, Sketch, Spot

__all__ = ["BATCH", "Batch", "called"]


class Batch:
    """The size of the batch, whatever it is: views may name it, and nothing is computed with it."""

    def __repr__(self) -> str:
        return "the batch"


BATCH = Batch()

# function or method -> kind of layer, and its parameters behind the tensor
_LAYERS = {
    "relu": ("ReLU", "inplace"), "relu_": ("ReLU", ""), "relu6": ("ReLU6", "inplace"),
    "hardtanh": ("Hardtanh", "min_val max_val inplace"), "hardtanh_": ("Hardtanh", "min_val max_val"),
    "leaky_relu": ("LeakyReLU", "negative_slope inplace"), "leaky_relu_": ("LeakyReLU", "negative_slope"),
    "prelu": ("PReLU", "weight"), "clamp": ("clamp", "min max"), "clamp_": ("clamp", "min max"),
    "clip": ("clamp", "min max"), "clip_": ("clamp", "min max"), "clamp_min": ("clamp", "min"),
    "sigmoid": ("Sigmoid", ""), "softmax": ("Softmax", "dim _stacklevel dtype"),
    "log_softmax": ("LogSoftmax", "dim _stacklevel dtype"),
    "dropout": ("dropout", "p training inplace"), "dropout1d": ("dropout", "p training inplace"),
    "dropout2d": ("dropout", "p training inplace"),
    "conv1d": ("Conv1d", "weight bias stride padding dilation groups"),
    "conv2d": ("Conv2d", "weight bias stride padding dilation groups"),
    "conv_transpose1d": ("ConvTranspose1d", "weight bias stride padding output_padding groups dilation"),
    "conv_transpose2d": ("ConvTranspose2d", "weight bias stride padding output_padding groups dilation"),
    "linear": ("Linear", "weight bias"),
    "max_pool1d": ("MaxPool1d", "kernel_size stride padding dilation ceil_mode return_indices"),
    "max_pool2d": ("MaxPool2d", "kernel_size stride padding dilation ceil_mode return_indices"),
    "avg_pool1d": ("AvgPool1d", "kernel_size stride padding ceil_mode count_include_pad"),
    "avg_pool2d": ("AvgPool2d", "kernel_size stride padding ceil_mode count_include_pad divisor_override"),
    "adaptive_avg_pool1d": ("AdaptiveAvgPool1d", "output_size"),
    "adaptive_avg_pool2d": ("AdaptiveAvgPool2d", "output_size"),
    "adaptive_max_pool1d": ("AdaptiveMaxPool1d", "output_size return_indices"),
    "adaptive_max_pool2d": ("AdaptiveMaxPool2d", "output_size return_indices"),
    "interpolate": ("Upsample", "size scale_factor mode align_corners recompute_scale_factor antialias"),
    "upsample": ("Upsample", "size scale_factor mode align_corners"),
    "pad": ("pad", "padding mode value"), "flatten": ("Flatten", "start_dim end_dim"),
    "unflatten": ("Unflatten", "dim unflattened_size"), "pixel_shuffle": ("PixelShuffle", "upscale_factor"),
    "pixel_unshuffle": ("PixelUnshuffle", "downscale_factor"), "channel_shuffle": ("ChannelShuffle", "groups"),
}  # fmt: skip
_RENAMED = {"pad": {"pad": "padding"}, "unflatten": {"sizes": "unflattened_size"}}  # keyword -> option


def called(s: Sketch, at: Spot, args: tuple, options: dict[str, Any]) -> Any:
    """The value of a call: a tensor, a list of them, a number or a shape; `at.kind` is what is called.

    Raises
    ------
    UnsupportedError
        What is called is in no table, or mixes samples, or multiplies tensors.
    FormatError, ShapeError
        Its arguments are not those of PyTorch, or do not fit.
    """
    name = at.kind
    if name in _LAYERS:
        return _as_layer(s, at, args, options)
    if name in _FUNCTIONS:
        function = _FUNCTIONS[name]
        try:
            inspect.signature(function).bind(s, at, *args, **options)
        except TypeError as error:
            raise at.bad(f"its arguments are not known here ({error})") from None
        return function(s, at, *args, **options)
    if name in _ARITHMETIC:
        return _arithmetic(s, at, args, options)
    raise at.unsupported(why_not(name))


def _as_layer(s: Sketch, at: Spot, args: tuple, options: dict[str, Any]) -> Signal:
    """A call that is a layer: arrays among its arguments are the arrays of the layer."""
    kind, names = _LAYERS[at.kind]
    given = {_RENAMED.get(at.kind, {}).get(name, name): value for name, value in options.items()}
    x = args[0] if args else given.pop("input", None)
    words = names.split()
    if len(args) - 1 > len(words):
        raise at.bad(f"it has {len(args)} arguments; at most {len(words) + 1} are known")
    given |= dict(zip(words, args[1:], strict=False))
    if unknown := [name for name in given if name not in words]:
        raise at.bad(f"{unknown[0]!r} is no argument that is known here")
    if kind == "dropout":
        given.setdefault("training", True)  # as the function has it
    arrays = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
    if signals := [name for name in words if isinstance(given.get(name), Signal)]:
        raise at.unsupported(f"its {signals[0]} depends on the input; only constants are taken")
    plain = {name: value for name, value in given.items() if name not in arrays}
    return becomes(s, replace(at, kind=kind, options=plain, arrays=arrays), x)


# -- arithmetic -------------------------------------------------------------------------------------------------------

_NUMBERS: Mapping[str, Callable[..., Any]] = types.MappingProxyType(
    {
        "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
        "floordiv": operator.floordiv, "neg": operator.neg, "mod": operator.mod,
    }
)  # fmt: skip
_ARITHMETIC = {
    name: base
    for base, names in {
        "add": "add add_ iadd __add__ __radd__ __iadd__",
        "sub": "sub sub_ isub subtract __sub__ __isub__",
        "mul": "mul mul_ imul multiply __mul__ __rmul__ __imul__",
        "truediv": "truediv div div_ itruediv divide true_divide __truediv__",
        "floordiv": "floordiv floor_divide",
        "neg": "neg negative neg_",
        "mod": "mod",
        "rsub": "rsub __rsub__",
    }.items()
    for name in names.split()
}


def _arithmetic(s: Sketch, at: Spot, args: tuple, options: dict[str, Any]) -> Any:
    base = _ARITHMETIC[at.kind]
    values = (*args, *(options.pop(name) for name in ("input", "other") if name in options))
    if options and options not in ({"alpha": 1}, {"rounding_mode": None}):
        raise at.unsupported(f"the argument {next(iter(options))!r} is not taken")
    if len(values) != (1 if base == "neg" else 2):
        raise at.bad(f"it has {len(values)} operands")
    if any(isinstance(value, Batch) for value in values):
        raise at.unsupported("it computes with the size of the batch; write -1 in views")
    if base == "rsub":
        base, values = "sub", values[::-1]
    signals = [value for value in values if isinstance(value, Signal)]
    if not signals:
        return _constants(at, base, values)
    if base in ("floordiv", "mod"):
        raise at.unsupported("whole-number division of values is not taken")
    if base == "neg":
        return s.scaled(at, signals[0], np.float64(-1), np.float64(0))
    if len(signals) == 2:
        return _branches(s, at, base, *signals)
    constant = next(value for value in values if not isinstance(value, Signal))
    return _with_constant(s, at, base, signals[0], constant, first=isinstance(values[0], Signal))


def _constants(at: Spot, base: str, values: tuple) -> Any:
    if not all(isinstance(v, int | float | np.ndarray) and not isinstance(v, bool) for v in values):
        raise at.unsupported(f"it computes with {', '.join(map(shown, values))}; numbers are taken")
    try:
        return _NUMBERS[base](*values)
    except (ArithmeticError, ValueError) as error:
        raise at.bad(f"its operands do not fit ({error})") from None


def _branches(s: Sketch, at: Spot, base: str, a: Signal, b: Signal) -> Signal:
    if base not in ("add", "sub"):
        raise at.unsupported(
            "two tensors that both depend on the input are multiplied or divided: " + why_not("matmul")
        )
    if len(a.shape) != len(b.shape):
        raise at.misfit(f"it adds {a.shape} and {b.shape}; as many axes are needed")
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise at.misfit(f"it adds {a.shape} and {b.shape}, which do not fit") from None
    a, b = (x if x.shape == shape else x.moved(lambda p: np.broadcast_to(p, shape)) for x in (a, b))
    if base == "sub":
        b = s.scaled(replace(at, name=f"{at.name}/minus"), b, np.float64(-1), np.float64(0))
    if a.places is None and b.places is None and not a.border and not b.border and not a.ending and not b.ending:
        if s.shapes[a.node] == s.shapes[b.node]:  # wherever they are, they lie alike
            return Signal(s.emit(FloatAdd, at, (a.node, b.node)), shape)
    return Signal(s.emit(FloatAdd, at, (s.node_of(at, a), s.node_of(at, b))), shape)


def _with_constant(s: Sketch, at: Spot, base: str, x: Signal, constant: Any, first: bool) -> Signal:
    if isinstance(constant, bool) or not isinstance(constant, int | float | np.ndarray):
        raise at.unsupported(f"it computes with {shown(constant)}; a number or an array of floats is taken")
    value = np.asarray(constant)
    value = value.astype(np.float64) if value.dtype.kind in "iu" or not isinstance(constant, np.ndarray) else value
    if value.dtype not in (np.float32, np.float64) or not np.isfinite(value).all():
        raise at.unsupported(f"its constant is {shown(value)}; finite floats are taken")
    if value.ndim == len(x.shape) + 1 and value.shape[0] == 1:
        value = value[0]
    try:
        fits = value.ndim <= len(x.shape) and np.broadcast_shapes(value.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise at.misfit(f"its constant is {np.shape(constant)}, the tensor (N, {', '.join(map(str, x.shape))})")
    one, zero = np.ones((), value.dtype), np.zeros((), value.dtype)
    if base == "add":
        return s.scaled(at, x, one, value)
    if base == "sub":
        return s.scaled(at, x, one, -value) if first else s.scaled(at, x, -one, value)
    if base == "mul":
        return s.scaled(at, x, value, zero)
    if not first or (value == 0).any():
        raise at.unsupported("it divides by a tensor that depends on the input, or by zero; constants divide")
    return s.scaled(at, x, 1 / value.astype(np.float64), zero)


# -- shapes -----------------------------------------------------------------------------------------------------------


def _tensor(at: Spot, x: Any) -> Signal:
    if not isinstance(x, Signal):
        raise at.unsupported(f"it reads {shown(x)}; one tensor that depends on the input is taken")
    return x


def _axis(at: Spot, x: Signal, dim: Any, more: int = 0) -> int:
    """The place of an axis in the shape without the batch."""
    rank = len(x.shape) + 1 + more
    if type(dim) is not int or not -rank <= dim < rank:
        raise at.bad(f"axis {shown(dim)} of {rank} axes is not there")
    if dim % rank == 0:
        raise at.unsupported("it works along the batch (axis 0), where samples have to stay apart")
    return dim % rank - 1


def _sizes(at: Spot, sizes: tuple) -> list:
    if len(sizes) == 1 and isinstance(sizes[0], list | tuple):
        sizes = tuple(sizes[0])
    if not sizes or not all(isinstance(n, Batch) or (type(n) is int and n >= -1) for n in sizes):
        raise at.bad(f"its sizes are {shown(list(sizes))}; whole numbers are needed")
    return list(sizes)


def _view(s: Sketch, at: Spot, x: Any, *sizes: Any, **named: Any) -> Signal:
    x = _tensor(at, x)
    if list(named) in (["shape"], ["size"]):
        sizes = tuple(named.values())
    elif named:
        raise at.unsupported(f"the argument {next(iter(named))!r} is not taken")
    wanted, total = _sizes(at, sizes), math.prod(x.shape)
    first, rest = wanted[0], wanted[1:]
    if any(isinstance(n, Batch) for n in rest):
        raise at.unsupported(f"it moves the batch to another axis: {wanted}")
    known = math.prod(n for n in rest if n != -1)
    if rest.count(-1) == 1 and known > 0 and isinstance(first, Batch):
        rest[rest.index(-1)] = total // known
    if not (isinstance(first, Batch) or first == -1) or -1 in rest or math.prod(rest) != total:
        raise at.unsupported(f"{x.shape} in the shape {wanted} mixes samples; write x.view(x.size(0), ...) or flatten")
    return x.reshaped(tuple(rest))


def _permute(s: Sketch, at: Spot, x: Any, *dims: Any, **named: Any) -> Signal:
    x = _tensor(at, x)
    if list(named) == ["dims"]:
        dims = (named["dims"],)
    order = [n % (len(x.shape) + 1) for n in _dims(at, dims)]
    if sorted(order) != list(range(len(x.shape) + 1)) or order[0] != 0:
        raise at.unsupported(f"the order {order} of axes is not taken; each once, the batch (axis 0) first, is")
    return x.moved(lambda places: places.transpose([n - 1 for n in order[1:]]))


def _dims(at: Spot, dims: tuple) -> list[int]:
    if len(dims) == 1 and isinstance(dims[0], list | tuple):
        dims = tuple(dims[0])
    if not all(type(n) is int for n in dims):
        raise at.bad(f"its axes are {shown(list(dims))}; whole numbers are needed")
    return list(dims)


def _transpose(s: Sketch, at: Spot, x: Any, dim0: Any, dim1: Any) -> Signal:
    x = _tensor(at, x)
    a, b = _axis(at, x, dim0), _axis(at, x, dim1)
    return x.moved(lambda places: places.swapaxes(a, b))


def _squeeze(s: Sketch, at: Spot, x: Any, dim: Any = None) -> Signal:
    x = _tensor(at, x)
    if dim is None:
        raise at.unsupported("squeeze() without an axis also drops a batch of one sample; name the axis")
    axes = {_axis(at, x, n) for n in _dims(at, (dim,))}
    return x.reshaped(tuple(n for i, n in enumerate(x.shape) if i not in axes or n != 1))


def _unsqueeze(s: Sketch, at: Spot, x: Any, dim: Any) -> Signal:
    x = _tensor(at, x)
    axis = _axis(at, x, dim, more=1)
    return x.reshaped((*x.shape[:axis], 1, *x.shape[axis:]))


def _size(s: Sketch, at: Spot, x: Any, dim: Any = None) -> Any:
    shape = (BATCH, *_tensor(at, x).shape)
    if dim is None:
        return shape
    if type(dim) is not int or not -len(shape) <= dim < len(shape):
        raise at.bad(f"axis {shown(dim)} of {len(shape)} axes is not there")
    return shape[dim]


def _attribute(s: Sketch, at: Spot, x: Any, name: Any) -> Any:
    shape = (BATCH, *_tensor(at, x).shape)
    known = {"shape": shape, "ndim": len(shape), "device": None, "dtype": None, "requires_grad": False}
    if name not in known:
        raise at.unsupported(f"the attribute {shown(name)} of a tensor is not taken")
    return known[name]


def _rank(s: Sketch, at: Spot, x: Any) -> int:
    return len(_tensor(at, x).shape) + 1


def _item(s: Sketch, at: Spot, x: Any, index: Any) -> Any:
    if isinstance(x, list | tuple):
        try:
            return x[index]
        except (TypeError, IndexError):
            raise at.bad(f"{shown(index)} is no place in {len(x)} values") from None
    x = _tensor(at, x)
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(part is None or part is ... or isinstance(part, slice) or type(part) is int for part in parts):
        raise at.unsupported("it is indexed by a tensor or a list; whole numbers and slices are taken")
    for part in parts:
        if isinstance(part, slice) and not all(n is None or type(n) is int for n in (part.start, part.stop, part.step)):
            raise at.unsupported("a slice does not begin or end at a whole number")
    axes = sum(part is not None and part is not ... for part in parts)
    over = parts[0] is ... and axes <= len(x.shape)
    if not over and parts[0] != slice(None):
        raise at.unsupported("it picks samples of the batch; x[:, ...] picks within each")
    try:
        found = x.spots()[None][tuple(parts)]
    except IndexError as error:
        raise at.misfit(f"{error}") from None
    if not found.size:
        raise at.misfit("nothing is left of it")
    return x.moved(lambda places: found[0])


def _chunk(s: Sketch, at: Spot, input: Any, chunks: Any, dim: Any = 0) -> list[Signal]:
    x = _tensor(at, input)
    axis = _axis(at, x, dim)
    if type(chunks) is not int or chunks < 1:
        raise at.bad(f"{shown(chunks)} parts are not possible")
    return _split(s, at, x, -(-x.shape[axis] // chunks), dim)


def _split(s: Sketch, at: Spot, tensor: Any, split_size_or_sections: Any, dim: Any = 0) -> list[Signal]:
    x, sizes = _tensor(at, tensor), split_size_or_sections
    axis = _axis(at, x, dim)
    if type(sizes) is int and sizes > 0:
        ends = list(range(sizes, x.shape[axis], sizes))
    elif isinstance(sizes, list | tuple) and all(type(n) is int and n > 0 for n in sizes):
        ends = list(np.cumsum(sizes)[:-1].tolist())
        if sum(sizes) != x.shape[axis]:
            raise at.misfit(f"parts of {list(sizes)} do not make {x.shape[axis]}")
    else:
        raise at.bad(f"parts of {shown(sizes)} are not possible")
    parts = np.split(x.spots(), ends, axis)
    return [x.moved(lambda places, part=part: part) for part in parts]  # type: ignore[misc]


def _cat(s: Sketch, at: Spot, tensors: Any, dim: Any = 0, axis: Any = None) -> Signal:
    values = [_tensor(at, x) for x in tensors] if isinstance(tensors, list | tuple) else []
    if not values:
        raise at.bad("a list of tensors is needed")
    along = _axis(at, values[0], dim if axis is None else axis)
    kept = [(*x.shape[:along], *x.shape[along + 1 :]) for x in values]
    if any(len(x.shape) <= along or rest != kept[0] for x, rest in zip(values, kept, strict=True)):
        raise at.misfit(f"{', '.join(str(x.shape) for x in values)} do not fit side by side along axis {along + 1}")
    if len(values) == 1:
        return values[0]
    if along == 0 and len(kept[0]) in (0, 2):  # vectors, or channels
        return s.value(s.emit(FloatConcat, at, [s.node_of(at, x) for x in values]), len(values[0].shape))
    rest, count = kept[0], sum(x.shape[along] for x in values)
    maps = [x.moved(lambda p: np.moveaxis(p, along, 0).reshape(p.shape[along], 1, -1)) for x in values]
    joined = s.value(s.emit(FloatConcat, at, [s.node_of(at, x) for x in maps]), 3)
    return joined.moved(lambda places: np.moveaxis(places.reshape(count, *rest), 0, along))


def _stack(s: Sketch, at: Spot, tensors: Any, dim: Any = 0) -> Signal:
    if not isinstance(tensors, list | tuple):
        raise at.bad("a list of tensors is needed")
    return _cat(s, at, [_unsqueeze(s, at, x, dim) for x in tensors], dim)


def _same(s: Sketch, at: Spot, x: Any, *rest: Any, **named: Any) -> Any:
    return x


def _checked(s: Sketch, at: Spot, *rest: Any, **named: Any) -> None:
    """An assertion: what it is about is known by now, and checked where it matters."""


def _equal(s: Sketch, at: Spot, a: Any, b: Any) -> bool:
    if isinstance(a, Signal | np.ndarray) or isinstance(b, Signal | np.ndarray):
        raise at.unsupported("values of tensors are compared")
    return a == b


def _pooled(cls: Any) -> Callable[..., Signal]:
    """Mean or largest value over one or both axes of maps."""

    def pool(s: Sketch, at: Spot, input: Any, dim: Any = None, keepdim: Any = False, **named: Any) -> Signal:
        x = _tensor(at, input)
        if named not in ({}, {"dtype": None}) or dim is None:
            raise at.unsupported("it is taken over axes of maps, mean(dim=(2, 3)) say")
        axes = {_axis(at, x, n) for n in _dims(at, (dim,))}
        if len(x.shape) not in (2, 3) or 0 in axes:
            raise at.unsupported(
                f"it goes over axes {sorted(n + 1 for n in axes)} of {x.shape}; axes of maps are taken"
            )
        kernel = tuple(n if i in axes else 1 for i, n in enumerate(x.shape))[1:]
        kernel = (1,) * (3 - len(x.shape)) + kernel
        y = s.result(at, cls, x, kernel=kernel, stride=kernel)
        return y if keepdim else y.reshaped(tuple(n for i, n in enumerate(y.shape) if i not in axes))

    return pool


_FUNCTIONS: Mapping[str, Callable[..., Any]] = types.MappingProxyType(
    {
        "view": _view, "reshape": _view, "permute": _permute, "transpose": _transpose, "swapaxes": _transpose,
        "squeeze": _squeeze, "unsqueeze": _unsqueeze, "size": _size, "getattr": _attribute, "dim": _rank,
        "getitem": _item, "chunk": _chunk, "split": _split, "cat": _cat, "concat": _cat, "concatenate": _cat,
        "stack": _stack, "contiguous": _same, "clone": _same, "detach": _same, "float": _same,
        "_assert": _checked, "_assert_is_none": _checked, "eq": _equal, "mean": _pooled(FloatAvgPool2d),
        "amax": _pooled(FloatMaxPool2d),
    }
)  # fmt: skip
