"""Quantised layers of a float graph: integer weight codes with scales, activations with levels.

They run in `intsnn.network.floating.forward` as the fake-quantised float network, and `intsnn.convert` turns the
same nodes into integers. Weights are ``scale * codes`` per output channel; an activation is
``step * clip(floor(x / step + 1/2), 0, levels)`` (half up: what ``V0 = theta >> 1`` does exactly), or with levels of
both signs from ``-levels`` on.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from ..errors import FormatError, RangeError, UnsupportedError
from ..formats.arguments import array_of, instance, rational, shown, whole
from ..formats.arguments import real as real_number
from ..formats.arguments import text as a_text
from ..formats.fixed import Fixed
from ..formats.integers import whole_array
from ..formats.weights import Bipolar, Levels
from ..layers.base import Layer
from ..layers.connections import Affine, Conv2d
from .float_nodes import FloatAffine, FloatConv2d
from .floating import FloatNetwork
from .node import FloatNode, check_node, float_array

__all__ = [
    "InputScale", "QuantAffine", "QuantConv2d", "QuantHardTanh", "QuantReLU", "QuantisedNetwork", "with_codes"
]  # fmt: skip


def _check_codes(node, codes: np.ndarray) -> None:
    """Codes within their format, one positive scale per output channel (or one for all)."""
    fmt = node.weight_format
    allowed = (fmt.min, fmt.max) if isinstance(fmt, Fixed) else None
    if allowed is not None and codes.size and (codes.min() < allowed[0] or codes.max() > allowed[1]):
        raise RangeError(f"layer {node.name!r}: codes {codes.min()} to {codes.max()} do not fit {fmt}")
    if isinstance(fmt, Bipolar) and not np.isin(codes, (-1, 1)).all():
        raise RangeError(f"layer {node.name!r}: bipolar codes must be -1 or +1")
    if isinstance(fmt, Levels) and not np.isin(codes, fmt.table).all():
        raise RangeError(f"layer {node.name!r}: a code is no level of {fmt}")
    scale = np.asarray(node.scale, np.float64)
    if scale.shape not in ((), (codes.shape[0],)) or not np.isfinite(scale).all() or (scale <= 0).any():
        raise FormatError(f"layer {node.name!r}: scale must be positive, one number or {codes.shape[0]}")


@dataclass(frozen=True, eq=False, kw_only=True)
class _Quantised(FloatNode):
    """Shared construction: `weight` follows from codes and scale."""

    codes: np.ndarray = field(metadata={"weights": "weight_format"})
    scale: np.ndarray | float
    weight_format: Fixed | Bipolar | Levels = Fixed(8)
    weight: Any = field(default=None, metadata={"stored": False})  # an array once built
    bias: np.ndarray | None = None

    quantised = True
    stands_for: ClassVar[type[FloatNode]]  # whose codes it has
    forms: ClassVar[dict[type[FloatNode], type[_Quantised]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _Quantised.forms[cls.stands_for] = _Quantised.forms[cls] = cls

    def __post_init__(self) -> None:
        check_node(self)
        codes = whole_array(self.codes, f"layer {self.name!r}: codes")
        if not codes.ndim or not codes.size:
            raise FormatError(f"layer {self.name!r}: codes of shape {codes.shape} are none")
        instance(self.weight_format, f"layer {self.name!r}: weight_format", Fixed, Bipolar, Levels)
        scale = float_array(self.scale, f"layer {self.name!r}: scale")
        if scale.shape not in ((), (codes.shape[0],)):
            raise FormatError(f"layer {self.name!r}: scale must be positive, one number or {codes.shape[0]}")
        scale = np.ascontiguousarray(np.broadcast_to(scale.astype(np.float64), (codes.shape[0],)))
        if self.bias is not None:
            object.__setattr__(self, "bias", float_array(self.bias, f"layer {self.name!r}: bias"))
        _check_codes(self, codes)
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "weight", codes * scale.reshape(-1, *(1,) * (codes.ndim - 1)))
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                if value.dtype.kind == "f" and not np.isfinite(value).all():
                    raise FormatError(f"layer {self.name!r}: {item.name} has to be finite")
                value.setflags(write=False)

    @abstractmethod
    def connection(self, bias_mode: str) -> Layer:
        """The integer layer of its codes, without a bias."""

    def becomes(self, converter, sources):
        converter.connect(self, sources[0])

    def details(self) -> dict[str, Any]:
        size = self.codes.size + (0 if self.bias is None else self.bias.size)
        found = {"format": str(self.weight_format), "scale": np.asarray(self.scale), "parameters": size}
        return found if self.bias is None else {**found, "bias": self.bias}


def with_codes(node: FloatNode, codes: np.ndarray, scale: np.ndarray, weight_format: Fixed | Bipolar | Levels) -> Any:
    """The weighted `node` with `codes` and `scale` in place of its weight.

    Raises `UnsupportedError` for a kind that has no form with codes.
    """
    form = _Quantised.forms.get(type(node))
    if form is None:
        raise UnsupportedError(f"layer {node.name!r}: the weights of a {type(node).__name__} have no codes")
    kept = {item.name: getattr(node, item.name) for item in fields(node)}
    return form(**kept | {"codes": codes, "scale": scale, "weight_format": weight_format, "weight": None})


@dataclass(frozen=True, eq=False, kw_only=True)
class QuantConv2d(_Quantised, FloatConv2d):
    """Convolution with `codes` ``(O, I / groups, kh, kw)`` in `weight_format` and `scale` ``(O,)`` or one number."""

    stands_for = FloatConv2d

    def connection(self, bias_mode: str) -> Layer:
        return Conv2d(
            self.codes, weight_format=self.weight_format, bias_mode=bias_mode, stride=self.stride,
            padding=self.padding, dilation=self.dilation, groups=self.groups,
        )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class QuantAffine(_Quantised, FloatAffine):
    """Dense layer with `codes` ``(out, in)`` in `weight_format` and `scale` ``(out,)`` or one number."""

    stands_for = FloatAffine

    def connection(self, bias_mode: str) -> Layer:
        return Affine(self.codes, weight_format=self.weight_format, bias_mode=bias_mode)


@dataclass(frozen=True, eq=False, kw_only=True)
class QuantReLU(FloatNode):
    """``step * clip(floor(x / step + 1/2), 0, levels)``."""

    step: float
    levels: int

    activates = True
    quantised = True

    def __post_init__(self) -> None:
        super().__post_init__()
        step = real_number(self.step, f"layer {self.name!r}: step", np.nextafter(0, 1), allowed="it must be positive")
        object.__setattr__(self, "step", step)
        object.__setattr__(self, "levels", whole(self.levels, f"layer {self.name!r}: levels", 1, 1 << 20))

    @property
    def bottom(self) -> int:
        """The least level."""
        return -self.levels if self.two_sided else 0

    def apply(self, arrays):
        x = arrays[0]
        step = x.dtype.type(self.step)
        return np.clip(np.floor(x / step + x.dtype.type(0.5)), self.bottom, self.levels) * step

    def becomes(self, converter, sources):
        converter.fire(self, sources[0])

    def details(self) -> dict[str, Any]:
        return {"levels": self.levels, "scale": np.asarray(self.step)}


@dataclass(frozen=True, eq=False, kw_only=True)
class QuantHardTanh(QuantReLU):
    """``step * clip(floor(x / step + 1/2), -levels, levels)``: an activation of two sides."""

    two_sided = True


@dataclass(frozen=True)
class InputScale:
    """Real input = ``scale * raw + offset``, as exact fractions; the file of a network does not say it."""

    scale: Fraction = Fraction(1, 255)
    offset: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", rational(self.scale, "input scale: scale"))
        object.__setattr__(self, "offset", rational(self.offset, "input scale: offset"))
        if self.scale <= 0:
            raise FormatError(f"input scale: scale: found {self.scale}; it must be positive")
        try:
            fits = float(self.scale) > 0 and math.isfinite(float(self.offset))
        except OverflowError:
            fits = False
        if not fits:
            raise FormatError("input scale: its numbers are too large or too small for a float")

    @classmethod
    def parse(cls, text: str) -> InputScale:
        """``"1/255"``, ``"0.0039"``, ``"1/255,-0.5"``: SCALE[,OFFSET]."""
        parts = a_text(text, "input scale: text").split(",")
        try:
            if len(parts) > 2:
                raise ValueError
            return cls(*(rational(part.strip(), "input scale", 1000) for part in parts))
        except ValueError:
            raise FormatError(
                f"input scale: found {text[:60]!r}; give SCALE[,OFFSET], for example 1/255 or 2/255,-1"
            ) from None

    def __str__(self) -> str:
        return f"{self.scale}" + (f",{self.offset}" if self.offset else "")

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Real input (float32) of the integers `raw`."""
        raw = array_of(raw, "raw")
        if raw.dtype.kind not in "biuf":
            raise FormatError(f"raw: found {shown(raw)}; numbers are needed")
        return (raw.astype(np.float64) * float(self.scale) + float(self.offset)).astype(np.float32)

    def integers(self) -> tuple[int, int, Fraction]:
        """``(multiplier, offset, unit)``: real input = ``unit * (multiplier * raw + offset)`` with whole numbers."""
        ratio = (self.offset / self.scale).limit_denominator(1 << 12)
        if ratio != self.offset / self.scale:
            raise FormatError(
                f"input scale: offset / scale = {float(self.offset / self.scale)} is no fraction with a denominator "
                "up to 4096; give exact fractions such as 2/255,-1"
            )
        return ratio.denominator, ratio.numerator, self.scale / ratio.denominator


@dataclass(frozen=True, eq=False)
class QuantisedNetwork:
    """A quantised ANN: graph of `QuantConv2d`, `QuantAffine`, `QuantReLU`, pools, flatten and adds.

    `input_format` is that of the raw integers that come in, `input_scale` what they stand for.
    """

    graph: FloatNetwork
    input_scale: InputScale = InputScale()
    input_format: Fixed = Fixed(8, signed=False)

    def __post_init__(self) -> None:
        instance(self.graph, "QuantisedNetwork.graph", FloatNetwork)
        instance(self.input_scale, "QuantisedNetwork.input_scale", InputScale)
        instance(self.input_format, "QuantisedNetwork.input_format", Fixed)

    @property
    def levels(self) -> int | None:
        """Levels of the activations, if all have the same number."""
        nodes: tuple[Any, ...] = self.graph.nodes
        found = {node.levels for node in nodes if node.activates and node.quantised}
        return found.pop() if len(found) == 1 else None
