"""What do operators do that only move values? On constants they are carried out, on computed values they move places.

`SHAPERS` give another shape to the same values in a row; `MOVERS` choose, reorder and repeat. Both work on the whole
tensor, batch included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from .builder import MAX_VALUES, Assembly, Given
from .graph import OnnxNode

__all__ = ["MOVERS", "SHAPERS"]

Shape = tuple[int, ...]
Move = Callable[[np.ndarray], np.ndarray]


def _numbers(b: Assembly, op: OnnxNode, inputs: Sequence[Given], index: int, name: str) -> Shape | None:
    """Whole numbers that old opsets have in an attribute, and new ones in an input."""
    if op.has(name):
        return op.integers(name)
    found = b.optional(op, inputs, index, name)
    return None if found is None else b.indices(op, found, name)


def _axes(op: OnnxNode, axes: Sequence[int], rank: int) -> Shape:
    """Axes from 0, each once."""
    if any(not -rank <= axis < rank for axis in axes) or len({axis % rank for axis in axes}) < len(axes):
        raise op.bad(f"axes {list(axes)[:8]} of a tensor of {rank} axes cannot be")
    return tuple(axis % rank for axis in axes)


def _axis(op: OnnxNode, default: int, rank: int) -> int:
    return _axes(op, (op.integer("axis", default),), rank)[0]


def _room(op: OnnxNode, count: int) -> None:
    if not 0 < count <= MAX_VALUES:
        raise op.bad(f"its result has {count} values; 1 to {MAX_VALUES} are possible")


# -- other shapes -----------------------------------------------------------------------------------------------------


def _reshape(b: Assembly, op: OnnxNode, inputs: Sequence[Given], shape: Shape) -> Shape:
    target = _numbers(b, op, inputs, 1, "shape")
    if target is None:
        raise op.bad("it has no shape")
    zeros = bool(op.integer("allowzero", 0))
    found = [shape[k] if n == 0 and not zeros and k < len(shape) else n for k, n in enumerate(target)]
    known, size = math.prod(n for n in found if n != -1), math.prod(shape)
    if found.count(-1) > 1 or any(n < -1 for n in found) or (-1 in found and (known < 1 or size % known)):
        raise op.bad(f"the shape {list(target)[:8]} does not fit {shape}")
    found = [size // known if n == -1 else n for n in found]
    if math.prod(found) != size:
        raise op.bad(f"the shape {list(target)[:8]} does not fit {shape}")
    return tuple(found)


def _flatten(b: Assembly, op: OnnxNode, inputs: Sequence[Given], shape: Shape) -> Shape:
    axis = op.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise op.bad(f"its axis is {axis}, its input has {len(shape)} axes")
    axis += len(shape) if axis < 0 else 0
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def _squeeze(b: Assembly, op: OnnxNode, inputs: Sequence[Given], shape: Shape) -> Shape:
    axes = _numbers(b, op, inputs, 1, "axes")
    if axes is None:
        gone = {k for k, n in enumerate(shape) if n == 1}
    else:
        gone = {*_axes(op, axes, len(shape))}
        if any(shape[k] != 1 for k in gone):
            raise op.bad(f"it removes the axes {sorted(gone)} of {shape}; only those of size 1 can go")
    return tuple(n for k, n in enumerate(shape) if k not in gone)


def _unsqueeze(b: Assembly, op: OnnxNode, inputs: Sequence[Given], shape: Shape) -> Shape:
    axes = _numbers(b, op, inputs, 1, "axes")
    if axes is None:
        raise op.bad("it has no axes")
    rank = len(shape) + len(axes)
    added, left = _axes(op, axes, rank), iter(shape)
    return tuple(1 if k in added else next(left) for k in range(rank))


def _same(b: Assembly, op: OnnxNode, inputs: Sequence[Given], shape: Shape) -> Shape:
    return shape


# -- other places -----------------------------------------------------------------------------------------------------


def _transpose(b: Assembly, op: OnnxNode, inputs: Sequence[Given], shape: Shape) -> Move:
    perm = op.integers("perm")
    axes = tuple(reversed(range(len(shape)))) if perm is None else _axes(op, perm, len(shape))
    if len(axes) != len(shape):
        raise op.bad(f"perm {list(axes)} does not fit a tensor of {len(shape)} axes")
    return lambda x: x.transpose(axes)


def _slice(b: Assembly, op: OnnxNode, inputs: Sequence[Given], shape: Shape) -> Move:
    starts, ends = (_numbers(b, op, inputs, k, name) for k, name in ((1, "starts"), (2, "ends")))
    axes = _numbers(b, op, inputs, 3, "axes")
    steps = _numbers(b, op, inputs, 4, "steps")
    if starts is None or ends is None:
        raise op.bad("it has no starts or ends")
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise op.bad("starts, ends, axes and steps have to be of one length, and no step 0")
    cut = [slice(None)] * len(shape)
    for axis, start, end, step in zip(_axes(op, axes, len(shape)), starts, ends, steps, strict=True):
        cut[axis] = slice(start, end, step)
    return lambda x: x[tuple(cut)]


def _gather(b: Assembly, op: OnnxNode, inputs: Sequence[Given], shape: Shape) -> Move:
    chosen = b.constant(op, inputs, 1, "indices")
    axis = _axis(op, 0, len(shape))
    size = shape[axis]
    if chosen.dtype.kind not in "iu" or (chosen.size and not (-size <= chosen.min() and chosen.max() < size)):
        raise op.bad(f"its indices are not within an axis of {size}")
    _room(op, math.prod(shape) // max(size, 1) * chosen.size)
    return lambda x: np.take(x, chosen.astype(np.int64), axis)


def _pad(b: Assembly, op: OnnxNode, inputs: Sequence[Given], shape: Shape) -> Move:
    mode = op.text("mode", "constant")
    modes = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in modes:
        raise op.unsupported(f"mode {mode!r}; {', '.join(modes)} are taken")
    value = b.optional(op, inputs, 2, "value")
    filling = op.number("value", 0.0) if value is None else float(value.reshape(-1)[0]) if value.size == 1 else math.nan
    if mode == "constant" and filling != 0:
        raise op.unsupported(f"it pads with {filling:g}; only zeros are taken")
    pads = _numbers(b, op, inputs, 1, "pads")
    axes = _numbers(b, op, inputs, 3, "axes")
    axes = tuple(range(len(shape))) if axes is None else _axes(op, axes, len(shape))
    if pads is None or len(pads) != 2 * len(axes):
        raise op.bad(f"pads are {pads}; two for each of {len(axes)} axes are needed")
    sides = {axis: (pads[k], pads[k + len(axes)]) for k, axis in enumerate(axes)}
    both = [sides.get(axis, (0, 0)) for axis in range(len(shape))]
    left = [n + min(low, 0) + min(high, 0) for n, (low, high) in zip(shape, both, strict=True)]
    if min(left, default=1) < 1:
        raise op.bad(f"pads {pads} leave nothing of {shape}")
    _room(op, math.prod(n + max(low, 0) + max(high, 0) for n, (low, high) in zip(left, both, strict=True)))
    if mode == "reflect" and any(max(side) >= n for n, side in zip(left, both, strict=True)):
        raise op.unsupported(f"it reflects more than there is: pads {pads} of {shape}")

    def move(x: np.ndarray) -> np.ndarray:
        kept = tuple(slice(max(-low, 0), n - max(-high, 0)) for n, (low, high) in zip(shape, both, strict=True))
        around = [(max(low, 0), max(high, 0)) for low, high in both]
        if mode != "constant":
            return np.pad(x[kept], around, mode=modes[mode])  # type: ignore[call-overload]
        return np.pad(x[kept], around, constant_values=-1)

    return move


def _depth_to_space(b: Assembly, op: OnnxNode, inputs: Sequence[Given], shape: Shape) -> Move:
    block, mode = op.integer("blocksize", 0), op.text("mode", "DCR")
    if len(shape) != 4 or block < 1 or shape[1] % (block * block) or mode not in ("DCR", "CRD"):
        raise op.bad(f"blocksize {block} and mode {mode!r} do not fit {shape}")
    n, c, h, w = shape
    c //= block * block
    if mode == "DCR":
        return lambda x: x.reshape(n, block, block, c, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c, h * block, -1)
    return lambda x: x.reshape(n, c, block, block, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c, h * block, -1)


def _space_to_depth(b: Assembly, op: OnnxNode, inputs: Sequence[Given], shape: Shape) -> Move:
    block = op.integer("blocksize", 0)
    if len(shape) != 4 or block < 1 or shape[2] % block or shape[3] % block:
        raise op.bad(f"blocksize {block} does not fit {shape}")
    n, c, h, w = shape[0], shape[1], shape[2] // block, shape[3] // block
    return lambda x: x.reshape(n, c, h, block, w, block).transpose(0, 3, 5, 1, 2, 4).reshape(n, -1, h, w)


def _expand(b: Assembly, op: OnnxNode, inputs: Sequence[Given], shape: Shape) -> Move:
    target = b.indices(op, b.constant(op, inputs, 1, "shape"), "sizes")
    rank = max(len(shape), len(target))
    sizes = [(1,) * (rank - len(each)) + tuple(each) for each in (shape, target)]
    if any(n < 1 or (n != m and 1 not in (n, m)) for n, m in zip(*sizes, strict=True)):
        raise op.bad(f"{shape} cannot be repeated to {target}")
    found = tuple(max(n, m) for n, m in zip(*sizes, strict=True))
    _room(op, math.prod(found))
    return lambda x: np.broadcast_to(x, found)


SHAPERS = {
    "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Identity": _same,
}  # fmt: skip
MOVERS = {
    "Transpose": _transpose, "Slice": _slice, "Gather": _gather, "Pad": _pad, "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth, "Expand": _expand,
}  # fmt: skip
