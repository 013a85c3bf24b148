"""What do the layers of PyTorch do that only move values? They give a tensor other places, and compute nothing."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from ...formats.arguments import shown, whole
from .sketch import Signal, Sketch, Spot

__all__ = ["MOVES"]


def _flatten(s: Sketch, at: Spot, x: Signal) -> Signal:
    rank = len(x.shape) + 1
    first, last = (
        whole(at.get(name, default), f"{at}: {name}", -rank, rank - 1) % rank
        for name, default in (("start_dim", 1), ("end_dim", -1))
    )
    if first < 1 or last < first:
        raise at.unsupported(f"it joins axes {first} to {last}; the batch (axis 0) has to stay by itself")
    joined = math.prod(x.shape[first - 1 : last])
    return x.reshaped((*x.shape[: first - 1], joined, *x.shape[last:]))


def _unflatten(s: Sketch, at: Spot, x: Signal) -> Signal:
    rank = len(x.shape) + 1
    axis = whole(at.get("dim"), f"{at}: dim", -rank, rank - 1) % rank
    sizes = at.get("unflattened_size")
    if axis < 1 or not isinstance(sizes, list | tuple) or not all(type(n) is int for n in sizes):
        raise at.unsupported(f"axis {axis} in {shown(sizes)} is not taken; an axis behind the batch in whole sizes is")
    sizes, whole_axis = list(sizes), x.shape[axis - 1]
    known = math.prod(n for n in sizes if n != -1)
    if sizes.count(-1) == 1 and known > 0:
        sizes[sizes.index(-1)] = whole_axis // known
    if min(sizes, default=0) < 1 or math.prod(sizes) != whole_axis:
        raise at.misfit(f"{whole_axis} values do not make {tuple(sizes)}")
    return x.reshaped((*x.shape[: axis - 1], *sizes, *x.shape[axis:]))


def _identity(s: Sketch, at: Spot, x: Signal) -> Signal:
    if at.flag("training"):
        raise at.unsupported("it is in training mode; write F.dropout(x, p, training=self.training)")
    return x


def _zero_pad(s: Sketch, at: Spot, x: Signal) -> Signal:
    """Zeros around the last axes, first those of the last one; negative numbers cut."""
    value = at.get("padding")
    axes = 1 if at.kind.endswith("1d") else 2
    numbers = list(value) if isinstance(value, list | tuple) else [value] * (2 * axes)
    numbers = [whole(n, f"{at}: padding", -(1 << 20), 1 << 20) for n in numbers]
    if len(numbers) % 2 or len(numbers) // 2 > len(x.shape):
        raise at.bad(f"padding is {shown(value)}; two numbers for each of at most {len(x.shape)} axes are needed")
    if at.get("mode", "constant") != "constant" or at.get("value", 0) not in (0, 0.0):
        raise at.unsupported(f"mode {shown(at.get('mode'))} with {shown(at.get('value'))}: only zeros are put around")
    pairs = tuple((numbers[i], numbers[i + 1]) for i in range(0, len(numbers), 2))[::-1]
    cut = [(0, 0)] * (len(x.shape) - len(pairs)) + [(max(-a, 0), max(-b, 0)) for a, b in pairs]
    if any(n <= a + b for n, (a, b) in zip(x.shape, cut, strict=True)):
        raise at.misfit(f"cutting {pairs} leaves nothing of {x.shape}")
    if any(map(any, cut)):
        x = x.moved(lambda places: places[tuple(slice(a, n - b) for n, (a, b) in zip(x.shape, cut, strict=True))])
    pairs = tuple((max(a, 0), max(b, 0)) for a, b in pairs)
    if x.border or len(pairs) > 2 or len(pairs) >= len(x.shape):
        return x.moved(lambda p: np.pad(p, [(0, 0)] * (p.ndim - len(pairs)) + list(pairs), constant_values=-1))
    kept = len(x.shape) - len(pairs)
    grown = (*x.shape[:kept], *(n + a + b for n, (a, b) in zip(x.shape[kept:], pairs, strict=True)))
    return replace(x, shape=grown, border=pairs, storage=object())


def _blocks(at: Spot, x: Signal, name: str) -> tuple[int, tuple[int, ...]]:
    if len(x.shape) != 3:
        raise at.misfit(f"it reads {x.shape}; (C, H, W) is needed")
    return at.whole(name, None, 1, 1 << 12), x.shape


def _pixel_shuffle(s: Sketch, at: Spot, x: Signal) -> Signal:
    r, (c, h, w) = _blocks(at, x, "upscale_factor")
    if c % (r * r):
        raise at.misfit(f"{c} channels are no multiple of {r} x {r}")
    shape = (c // (r * r), r, r, h, w)
    return x.moved(lambda p: p.reshape(shape).transpose(0, 3, 1, 4, 2).reshape(shape[0], h * r, w * r))


def _pixel_unshuffle(s: Sketch, at: Spot, x: Signal) -> Signal:
    r, (c, h, w) = _blocks(at, x, "downscale_factor")
    if h % r or w % r:
        raise at.misfit(f"maps of {h} x {w} are not made of squares of {r} x {r}")
    shape = (c, h // r, r, w // r, r)
    return x.moved(lambda p: p.reshape(shape).transpose(0, 2, 4, 1, 3).reshape(c * r * r, h // r, w // r))


def _channel_shuffle(s: Sketch, at: Spot, x: Signal) -> Signal:
    groups = at.whole("groups", None, 1)
    if not x.shape or x.shape[0] % groups:
        raise at.misfit(f"the channels of {x.shape} do not make {groups} groups")
    rest = x.shape[1:]
    return x.moved(lambda p: p.reshape(groups, -1, *rest).swapaxes(0, 1).reshape(x.shape))


MOVES: Mapping[str, Callable[[Sketch, Spot, Signal], Signal]] = types.MappingProxyType(
    {
        "Flatten": _flatten,
        "Unflatten": _unflatten,
        "Identity": _identity,
        "ZeroPad": _zero_pad,
        "PixelShuffle": _pixel_shuffle,
        "PixelUnshuffle": _pixel_unshuffle,
        "ChannelShuffle": _channel_shuffle,
    }
)
