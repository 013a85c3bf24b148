"""Connections as fields of operations: geometry, weights in the form that a kernel reads, multiplier and bias."""

from __future__ import annotations

import math

import numpy as np

from ....layers import primitives as P
from .forms import Forms, connection, covers
from .layout import Wishes, padded
from .maps import Maps
from .store import Store

__all__ = ["DENSE_SHARE", "Connections"]

MOST_PRODUCTS = 1 << 16  # of a dot product in 32 bits: 2^16 * 255 * 127 fits
# spikes an input beyond which dot products are faster than rows, for 32, 64 and more outputs; measured; 1: never
DENSE_SHARE = {
    "vnni": (0.12, 0.16, 0.27), "avx512": (0.6, 0.8, 0.9), "avx2": (0.8, 0.9, 0.9), "portable": (1.0, 1.0, 1.0)
}  # fmt: skip


def _tiles(channels: int) -> list[tuple[int, int]]:
    """First column and width of the tiles that cover `channels`: 256, 128, 64 and 32 wide."""
    found, column = [], 0
    while column < channels:
        width = next(w for w in (256, 128, 64, 32) if w <= channels - column)
        found.append((column, width))
        column += width
    return found


class Connections:
    """The connections of a program: each answer is the fields of its operation; constants go to `store`.

    Parameters
    ----------
    forms : Forms
    maps : Maps
    store : Store
    wishes : Wishes
        What lists and copies need is noted there.
    chunk : int
        Steps of one pass.
    """

    def __init__(self, forms: Forms, maps: Maps, store: Store, wishes: Wishes, chunk: int) -> None:
        from ....kernels.fused import rows, tiles

        self.program, self.forms, self.maps, self.store, self.wishes = forms.program, forms, maps, store, wishes
        self.chunk, self._tiles_module, self._rows_module = chunk, tiles, rows
        self._zeros = store.put_numbers(0, 1)

    def _is_map(self, name: str) -> bool:
        """Whether a connection reads a map, and not a row."""
        return len(self.maps.shape(self.program[name].inputs[0])) == 3

    def _padded_map(self, f: dict[str, int]) -> tuple[int, int]:
        """Height and width of the input with all that windows reach."""
        height = (f["OUT_HEIGHT"] - 1) * f["STRIDE_Y"] + (f["KERNEL_Y"] - 1) * f["DILATION_Y"] + 1
        width = (f["OUT_WIDTH"] - 1) * f["STRIDE_X"] + f["KERNEL_X"]
        return max(f["TOP"] + f["HEIGHT"], height), max(f["LEFT"] + f["WIDTH_IN"], width)

    def listed(self, name: str, wide: bool = False) -> dict[str, int]:
        """Those of a connection from bytes that are listed."""
        connect, source = connection(self.program, name), self.forms.source(name)
        h, w, c = self.maps.of(source)
        outputs, inputs, kh, kw = connect.weight.shape
        if self._is_map(name) and not covers(connect):
            fields = self.maps.windows(source, name, connect.window)
            packed: np.ndarray = np.zeros((kh, kw, c, padded(outputs)), np.int8)
            packed[:, :, :inputs, :outputs] = connect.weight.transpose(2, 3, 1, 0)
        else:
            real = self.maps.shape(source)
            packed = np.zeros((h * w, c, padded(outputs)), np.int8)
            packed[:, : real[0], :outputs] = self._dense(connect, source).reshape(h * w, real[0], outputs)
            fields = self.maps.places(source, name)
            fields |= {"HEIGHT": 1, "WIDTH_IN": 1, "CHANNELS": h * w * c}  # a map as one long pixel
        packed = packed.reshape(-1, packed.shape[-1])
        bound = self.program.values[source].bound
        low, high = int(bound.low.min()), int(bound.high.max())
        signed, repeat = low < 0, max(1, high, -low)
        self._put_rows_of(fields, packed, signed)
        cells = fields["HEIGHT"] * fields["WIDTH_IN"] * fields["CHANNELS"]
        self._put_dots_of(fields, packed, signed, cells)
        window = fields["KERNEL_Y"] * fields["KERNEL_X"] * fields["CHANNELS"]
        self.wishes.flat = max(self.wishes.flat, window * repeat)
        dense = fields["DOTS"] >= 0
        self.wishes.lists.append((fields, repeat, self.chunk * (fields["DENSE_ABOVE"] if dense else cells * repeat)))
        self.put_scale(fields, connect, wide)
        return fields

    def _dense(self, connect: P.Connect, source: str) -> np.ndarray:
        """Weights ``(H * W * C, O)`` of a dense layer, in the order in which its input lies."""
        real, outputs = self.maps.shape(source), len(connect.weight)
        weight = connect.weight.reshape(outputs, *real)
        if len(real) == 3:
            weight = weight.transpose(0, 2, 3, 1)
        return weight.reshape(outputs, -1).T

    def put_scale(self, fields: dict[str, int], connect: P.Connect | None, wide: bool = False) -> None:
        """Multiplier and bias of a connection; 1 and 0 of none."""
        multiplier, outputs = 1 if connect is None else connect.multiplier, fields["REAL_OUT"]
        fields["MULTIPLIER"] = self.store.put_numbers(multiplier, outputs)
        fields["SCALED"] = int(np.any(multiplier != 1))
        bias, mode = (None, "step") if connect is None else (connect.bias, connect.bias_mode)
        fields["BIAS"] = self.store.put_bias(bias, mode, outputs, wide)

    def _put_rows_of(self, fields: dict[str, int], packed: np.ndarray, signed: bool) -> None:
        """Weight rows ``(K, channels)`` and, for negative spikes, their negated copy."""
        fields["NEGATED"] = len(packed) if signed else 0
        largest = max(1, int(np.abs(packed.astype(np.int16)).max()))
        if signed:
            packed = np.concatenate([packed, -packed])
        fields["ROWS"] = len(packed)
        fields["SAFE"] = ((1 << 15) - 1) // largest // 4 * 4
        few = fields["FEW"] = self._rows_module.few_of(largest)
        parts = [self._rows_module.pack_rows(packed[:, c : c + w], few) for c, w in _tiles(packed.shape[1])]
        fields["WEIGHTS"] = self.store.put("rows", np.concatenate(parts))

    def _put_dots_of(self, fields: dict[str, int], packed: np.ndarray, signed: bool, cells: int) -> None:
        """Weights of dot products, and from how many non-zero inputs on they pay."""
        depth = self._tiles_module.DOT_DEPTH
        share = DENSE_SHARE[self._tiles_module.TIER][min(2, packed.shape[1] // 64)]
        fields |= {"DOTS": -1, "DENSE_ABOVE": 0, "PADDED_HEIGHT": 0, "PADDED_WIDTH": 0, "INITIAL": self._zeros}
        if share >= 1 or len(packed) > MOST_PRODUCTS:
            return
        fields["DOTS"] = self.store.put_dots(packed)
        fields["DENSE_ABOVE"] = int(cells * share)
        fields["FLIP"] = -128 if signed and depth == 4 else 0
        initial = -128 * packed.sum(axis=0, dtype=np.int64) if fields["FLIP"] else 0
        fields["INITIAL"] = self.store.put_numbers(initial, packed.shape[1])
        height, width = self._padded_map(fields)
        if depth != 4 or fields["FLIP"] or (height, width) != (fields["HEIGHT"], fields["WIDTH_IN"]):
            fields |= {"PADDED_HEIGHT": height, "PADDED_WIDTH": width}

    def constant(self, name: str) -> dict[str, int]:
        """Sums of the constant input, once per sample; what reads them multiplies."""
        connect, source = connection(self.program, name), self.forms.source(name)
        outputs = connect.weight.shape[0]
        if self._is_map(name):
            fields = self.maps.windows(source, name, connect.window)
            weight, inputs = connect.weight.transpose(2, 3, 1, 0), self.maps.shape(source)[0]
        else:
            fields = self.maps.places(source, name) | {"HEIGHT": 1, "WIDTH_IN": 1}
            weight, inputs = self._dense(connect, source)[None, None], math.prod(self.maps.shape(source))
        fields |= {
            "IN_CHANNELS": inputs, "MULTIPLIER": self.store.put_numbers(1, outputs),
            "BIAS": self.store.put_numbers(0, outputs), "DOTS": -1, "FIRST": 1,
        }  # fmt: skip
        depth, bound = self._tiles_module.DOT_DEPTH, self.program.values[source].bound
        low, high = int(bound.low.min()), int(bound.high.max())
        narrow = (0 <= low and high <= 255) or (-128 <= low and high <= 127)
        deep = -(-inputs // depth) * depth
        if narrow and DENSE_SHARE[self._tiles_module.TIER][0] < 1 and weight[..., 0].size <= MOST_PRODUCTS:
            full = np.zeros((*weight.shape[:2], deep, padded(outputs)), np.int8)
            full[:, :, :inputs, :outputs] = weight
            matrix = full.reshape(-1, full.shape[-1])
            height, width = self._padded_map(fields)
            fields |= {
                "DOTS": self.store.put_dots(matrix), "CHANNELS": deep, "PADDED_HEIGHT": height, "PADDED_WIDTH": width,
                "FLIP": -128 if low < 0 and depth == 4 else 0,
            }  # fmt: skip
            initial = -128 * matrix.sum(axis=0, dtype=np.int64) if fields["FLIP"] else 0
            fields["INITIAL"] = self.store.put_numbers(initial, full.shape[-1])
        else:
            fields["WIDE_WEIGHTS"] = self.store.put("rows", np.ascontiguousarray(weight, np.int8))
            entries = fields["HEIGHT"] * fields["WIDTH_IN"] * inputs
            self.wishes.inputs = max(self.wishes.inputs, entries + 1)
            self.wishes.loose = max(self.wishes.loose, math.prod(self.maps.shape(name)))
            self.wishes.wide = max(self.wishes.wide, outputs)
        return fields

    def general(self, name: str, wide: bool = False) -> dict[str, int]:
        """Geometry, weights of 32 bits, multiplier and bias of any connection."""
        connect, source = connection(self.program, name), self.forms.source(name)
        outputs, inputs, kh, kw = connect.weight.shape
        if self._is_map(name):
            fields = self.maps.windows(source, name, connect.window)
            groups = connect.window.groups
            weight = connect.weight.reshape(groups, outputs // groups, inputs, kh, kw).transpose(3, 4, 0, 2, 1)
        else:
            fields, weight = self.maps.places(source, name), self._dense(connect, source)
            fields |= {"KERNEL_Y": fields["HEIGHT"], "KERNEL_X": fields["WIDTH_IN"]}
        fields["WEIGHTS"] = self.store.put("numbers", np.ascontiguousarray(weight, np.int32))
        self.put_scale(fields, connect, wide)
        return fields

    def planes(self, name: str) -> dict[str, int]:
        """Geometry and weights ``(ky, kx, C)`` of a connection of each channel with itself."""
        connect = connection(self.program, name)
        fields = self.maps.windows(self.forms.source(name), name, connect.window)
        weight = connect.weight[:, 0].transpose(1, 2, 0)
        full = np.zeros((*weight.shape[:2], padded(len(connect.weight))), np.int8)
        full[:, :, : len(connect.weight)] = weight
        fields["WEIGHTS"] = self.store.put("rows", full)
        return fields
