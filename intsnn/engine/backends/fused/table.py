"""A program as a table of operations with flat constants: what `intsnn.kernels.fused.interpreter` interprets.

`Table` lays it out: operations in order, where the tail of dense layers begins, which spikes share memory because they
are never needed at once, and how large every buffer has to be. What has no
such table says `intsnn.engine.backends.fused.accepts`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ....kernels.fused.opcodes import Arena, Aside, Constants, Kind, Operation
from ....kernels.toolchain.arrays import zeros
from ....layers import primitives as P
from ....layers.base import fits
from ....layers.schedule import bias_schedule
from ...program import Program
from .accepts import connection, covers, spikes_of

__all__ = ["Table"]

WIDTH = 32  # of a tile, see intsnn.kernels.fused.tiles
BLOCK_BYTES = 5 << 17  # spikes, charges, states and lists of a block of samples
MOST_SAMPLES = 16  # of a block
MOST_PRODUCTS = 1 << 16  # of a dot product in 32 bits: 2^16 * 255 * 127 fits
# spikes an input beyond which dot products are faster than rows, for 32, 64 and more outputs; measured; 1: never
DENSE_SHARE = {
    "vnni": (0.12, 0.16, 0.27), "avx512": (0.6, 0.8, 0.9), "avx2": (0.8, 0.9, 0.9), "portable": (1.0, 1.0, 1.0)
}  # fmt: skip


def _padded(n: int) -> int:
    return -(-n // WIDTH) * WIDTH


def _tiles(channels: int) -> list[tuple[int, int]]:
    """First column and width of the tiles that cover `channels`: 256, 128, 64 and 32 wide."""
    found, column = [], 0
    while column < channels:
        width = next(w for w in (256, 128, 64, 32) if w <= channels - column)
        found.append((column, width))
        column += width
    return found


def _is_wide(layer, bound, charge) -> bool:
    """Whether a neuron needs more than 32 bits for a number of its own or for the charge of a step."""
    own = map(np.asarray, (layer.threshold, layer.v_negative, layer.v_initial))
    return not all(fits(number, number, 32) for number in (*own, bound.v_low, bound.v_high, charge.low, charge.high))


@dataclass
class _Step:
    """One operation before addresses are known: fields by column, and the nodes that it reads and writes."""

    kind: str
    fields: dict[str, int]
    source: str | None = None  # node whose spikes are read
    target: str | None = None
    charge: str | None = None  # neuron whose charge is read or written
    states: int = 0  # membranes and counts that the operation keeps

    @property
    def flat(self) -> bool:
        """Whether samples can take the place of pixels."""
        f = self.fields
        single = f["HEIGHT"] * f["WIDTH_IN"] * f["OUT_HEIGHT"] * f["OUT_WIDTH"] * f["KERNEL_Y"] * f["KERNEL_X"] == 1
        return single and f["TOP"] == f["LEFT"] == 0  # else the only window lies in the padding


@dataclass
class _Sizes:
    """Elements of the buffers that operations share, the largest wish of all."""

    flat: int = 1  # items of one window
    pad: int = 1  # copy for dot products; `pad_each` once more for every sample of a block
    pad_each: int = 0
    inputs: int = 1  # of a constant input of wide codes
    loose: int = 1
    wide: int = WIDTH
    lists: list[tuple[dict, int, int]] = field(default_factory=list)  # fields, repeats, items of a sample at most


class Table:
    """Table of operations and the flat constants for one program and one kind of input.

    Parameters
    ----------
    program : Program
    constant : bool
        Whether the input is a constant code, else frames of small integers.
    chunk : int
        Steps of one pass.
    kept : bool
        Whether states outlive a pass.

    Attributes
    ----------
    table : array int64 (operations, columns)
    split : int
        First operation of the tail.
    block : int
        Samples that go through the network together.
    constants : tuple
        What `Constants` of ``intsnn.kernels.fused.opcodes`` holds, as `run_samples` takes it.
    input_slot, input_by : int
        Where the frames of the first sample go, and how far the next one is.
    """

    def __init__(self, program: Program, constant: bool, chunk: int, kept: bool) -> None:
        from ....kernels.fused import interpreter as fused
        from ....kernels.fused import rows, tiles

        self.run_samples = fused.run_samples
        self._tiles_module, self._rows_module = tiles, rows
        self.program, self.bounds, self.constant = program, program.bounds, constant
        self.drive, self.driven, self.chunk, self.kept = program.schedule.drive, program.schedule.driven, chunk, kept
        self._steps: list[_Step] = []
        self._rows: list[np.ndarray] = []
        self._dots: list[np.ndarray] = []
        self._numbers: list[np.ndarray] = []
        self._big: list[np.ndarray] = []
        self._used = {"rows": 0, "dots": 0, "numbers": 0, "big": 0}
        self._sizes = _Sizes()
        self._zeros = self._put_numbers(0, WIDTH)
        for instruction in program.instructions:
            self._instruction(instruction.name, instruction.primitive)
        self._lay_out()

    # -- constants -------------------------------------------------------------------------------

    def _put(self, pool: str, array: np.ndarray) -> int:
        """Append to a flat pool, from a cache line on."""
        at = self._used[pool]
        line = 64 // array.itemsize
        size = -(-array.size // line) * line
        full = np.zeros(size, array.dtype)
        full[: array.size] = array.reshape(-1)
        getattr(self, f"_{pool}").append(full)
        self._used[pool] += size
        return at

    def _put_numbers(self, values, channels: int, padding: int = 0, wide: bool = False) -> int:
        full = np.full(_padded(channels), padding, np.int64)
        full[:channels] = np.broadcast_to(values, (channels,))
        return self._put("big", full) if wide else self._put("numbers", full.astype(np.int32))

    def _put_bias(self, connect: P.Connect | None, channels: int, wide: bool = False) -> int:
        """Rows of the driven steps and one of zeros."""
        rows = np.zeros((self.driven + 1, _padded(channels)), np.int64)
        if connect is not None and connect.bias is not None:
            schedule = bias_schedule(connect.bias, connect.bias_mode, self.drive, 0, self.driven)
            rows[: self.driven, :channels] = schedule
        return self._put("big", rows) if wide else self._put("numbers", rows.astype(np.int32))

    def _put_dots(self, matrix: np.ndarray) -> int:
        """Weights ``(K, channels)`` for dot products, tile after tile."""
        wide = self._tiles_module.DOT_WIDTH
        parts = [self._tiles_module.pack_dots(matrix[:, c : c + wide]) for c in range(0, matrix.shape[1], wide)]
        return self._put("dots", np.concatenate(parts))

    # -- operations ------------------------------------------------------------------------------

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.program.values[name].shape

    def _map(self, name: str) -> tuple[int, int, int]:
        """Height, width and padded channels of a value."""
        shape = self._shape(name)
        return (shape[1], shape[2], _padded(shape[0])) if len(shape) == 3 else (1, 1, _padded(shape[0]))

    def _instruction(self, name: str, primitive: P.Primitive) -> None:
        if isinstance(primitive, P.Fire):
            self._neuron(name, primitive.neuron)
        elif isinstance(primitive, P.Reduce):
            (source,) = self.program[name].inputs
            step = _Step("SUM_POOL", self._windows(source, name, primitive.window), source, name)
            if primitive.kind == "max":
                (h, w, c), (oh, ow, _) = self._map(source), self._map(name)
                step.kind, step.states = "MAX_POOL", (h * w + oh * ow) * c
            self._steps.append(step)
        elif isinstance(primitive, P.Accumulate):
            (feeding,) = self.program[name].inputs
            fields, source = self._connection(feeding)
            fields["OUTPUTS"] = math.prod(self._shape(name))
            self._steps.append(_Step("READOUT", fields, source))
        elif isinstance(primitive, P.Feed | P.Connect | P.Copy | P.Times | P.Sum):
            pass  # these go into what reads them
        else:
            raise TypeError(f"{name}: no table has a {type(primitive).__name__}")

    def _places(self, source: str, name: str) -> dict[str, int]:
        """Sizes of maps of which every place is by itself."""
        h, w, c = self._map(source)
        oh, ow, oc = self._map(name)
        return {
            "HEIGHT": h, "WIDTH_IN": w, "CHANNELS": c, "OUT_HEIGHT": oh, "OUT_WIDTH": ow, "OUT_CHANNELS": oc,
            "KERNEL_Y": 1, "KERNEL_X": 1, "STRIDE_Y": 1, "STRIDE_X": 1, "TOP": 0, "LEFT": 0, "DILATION_Y": 1,
        }  # fmt: skip

    def _windows(self, source: str, name: str, window) -> dict[str, int]:
        """Sizes of maps and of the windows over them."""
        return self._places(source, name) | {
            "KERNEL_Y": window.kernel_height, "KERNEL_X": window.kernel_width, "STRIDE_Y": window.stride_y,
            "STRIDE_X": window.stride_x, "TOP": window.pad_top, "LEFT": window.pad_left,
            "DILATION_Y": window.dilation_y,
        }  # fmt: skip

    def _padded_map(self, f: dict[str, int]) -> tuple[int, int]:
        """Height and width of the input with all that windows reach."""
        height = (f["OUT_HEIGHT"] - 1) * f["STRIDE_Y"] + (f["KERNEL_Y"] - 1) * f["DILATION_Y"] + 1
        width = (f["OUT_WIDTH"] - 1) * f["STRIDE_X"] + f["KERNEL_X"]
        return max(f["TOP"] + f["HEIGHT"], height), max(f["LEFT"] + f["WIDTH_IN"], width)

    def _connection(self, name: str, wide: bool = False) -> tuple[dict[str, int], str]:
        """Geometry, weights, multiplier and bias of a connection from spikes, and whose spikes."""
        connect, source = connection(self.program, name), spikes_of(self.program, name)
        (feeding,) = self.program[name].inputs
        h, w, c = self._map(source)
        outputs, inputs, kh, kw = connect.weight.shape
        if len(self._shape(feeding)) == 3 and not covers(connect):
            fields = self._windows(source, name, connect.window)
            packed: np.ndarray = np.zeros((kh, kw, c, _padded(outputs)), np.int8)
            packed[:, :, :inputs, :outputs] = connect.weight.transpose(2, 3, 1, 0)
        else:
            real = self._shape(source)
            weight = connect.weight.reshape(outputs, *real)
            if len(real) == 3:
                weight = weight.transpose(0, 2, 3, 1)
            packed = np.zeros((h * w, c, _padded(outputs)), np.int8)
            packed[:, : real[0], :outputs] = weight.reshape(outputs, h * w, real[0]).transpose(1, 2, 0)
            fields = self._places(source, name)
            fields |= {"HEIGHT": 1, "WIDTH_IN": 1, "CHANNELS": h * w * c}  # a map as one long pixel
        packed = packed.reshape(-1, packed.shape[-1])
        low, high = int(self.bounds[feeding].low.min()), int(self.bounds[feeding].high.max())
        signed, repeat = low < 0, max(1, high, -low)
        self._put_rows_of(fields, packed, signed)
        cells = fields["HEIGHT"] * fields["WIDTH_IN"] * fields["CHANNELS"]
        self._put_dots_of(fields, packed, signed, cells)
        window = fields["KERNEL_Y"] * fields["KERNEL_X"] * fields["CHANNELS"]
        self._sizes.flat = max(self._sizes.flat, window * repeat)
        dense = fields["DOTS"] >= 0
        self._sizes.lists.append((fields, repeat, self.chunk * (fields["DENSE_ABOVE"] if dense else cells * repeat)))
        fields["MULTIPLIER"] = self._put_numbers(connect.multiplier, outputs)
        fields["SCALED"] = int(np.any(connect.multiplier != 1))
        fields["BIAS"] = self._put_bias(connect, outputs, wide)
        return fields, source

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
        fields["WEIGHTS"] = self._put("rows", np.concatenate(parts))

    def _put_dots_of(self, fields: dict[str, int], packed: np.ndarray, signed: bool, cells: int) -> None:
        """Weights of dot products, and from how many non-zero inputs on they pay."""
        depth = self._tiles_module.DOT_DEPTH
        share = DENSE_SHARE[self._tiles_module.TIER][min(2, packed.shape[1] // 64)]
        fields |= {"DOTS": -1, "DENSE_ABOVE": 0, "PADDED_HEIGHT": 0, "PADDED_WIDTH": 0, "INITIAL": self._zeros}
        if share >= 1 or len(packed) > MOST_PRODUCTS:
            return
        fields["DOTS"] = self._put_dots(packed)
        fields["DENSE_ABOVE"] = int(cells * share)
        fields["FLIP"] = -128 if signed and depth == 4 else 0
        initial = -128 * packed.sum(axis=0, dtype=np.int64) if fields["FLIP"] else 0
        fields["INITIAL"] = self._put_numbers(initial, packed.shape[1])
        height, width = self._padded_map(fields)
        if depth != 4 or fields["FLIP"] or (height, width) != (fields["HEIGHT"], fields["WIDTH_IN"]):
            fields |= {"PADDED_HEIGHT": height, "PADDED_WIDTH": width}

    def _constant_connection(self, name: str, neuron: str) -> None:
        """Sums of the constant input, once per sample; its neuron multiplies."""
        connect, source = connection(self.program, name), spikes_of(self.program, name)
        (feeding,) = self.program[name].inputs
        shape, outputs = self._shape(source), connect.weight.shape[0]
        if len(self._shape(feeding)) == 3:
            fields = self._windows(source, name, connect.window)
            weight, inputs = connect.weight.transpose(2, 3, 1, 0), shape[0]
        else:
            fields = self._places(source, name) | {"HEIGHT": 1, "WIDTH_IN": 1}
            inputs, weight = math.prod(shape), connect.weight.reshape(outputs, -1)
            if len(shape) == 3:
                weight = weight.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(weight.shape)
            weight = weight.T[None, None]
        fields |= {
            "IN_CHANNELS": inputs, "REAL_OUT": outputs, "MULTIPLIER": self._put_numbers(1, outputs),
            "BIAS": self._put_numbers(0, outputs), "DOTS": -1, "FIRST": 1,
        }  # fmt: skip
        depth, feed = self._tiles_module.DOT_DEPTH, self.program[source].primitive
        assert isinstance(feed, P.Feed)
        low, high = feed.input.low, feed.input.high
        narrow = (0 <= low and high <= 255) or (-128 <= low and high <= 127)
        deep = -(-inputs // depth) * depth
        if narrow and DENSE_SHARE[self._tiles_module.TIER][0] < 1 and weight[..., 0].size <= MOST_PRODUCTS:
            full = np.zeros((*weight.shape[:2], deep, _padded(outputs)), np.int8)
            full[:, :, :inputs, :outputs] = weight
            matrix = full.reshape(-1, full.shape[-1])
            height, width = self._padded_map(fields)
            fields |= {
                "DOTS": self._put_dots(matrix), "CHANNELS": deep, "PADDED_HEIGHT": height, "PADDED_WIDTH": width,
                "FLIP": -128 if low < 0 and depth == 4 else 0,
            }  # fmt: skip
            initial = -128 * matrix.sum(axis=0, dtype=np.int64) if fields["FLIP"] else 0
            fields["INITIAL"] = self._put_numbers(initial, full.shape[-1])
        else:
            fields["WIDE_WEIGHTS"] = self._put("rows", np.ascontiguousarray(weight, np.int8))
            entries = fields["HEIGHT"] * fields["WIDTH_IN"] * inputs
            self._sizes.inputs = max(self._sizes.inputs, entries + 1)
            self._sizes.loose = max(self._sizes.loose, math.prod(self._shape(name)))
            self._sizes.wide = max(self._sizes.wide, outputs)
        self._steps.append(_Step("CURRENT", fields, charge=neuron))

    def _is_constant(self, name: str) -> bool:
        """Whether a connection reads the constant input."""
        return self.constant and isinstance(self.program[spikes_of(self.program, name)].primitive, P.Feed)

    def _neuron(self, name: str, layer) -> None:
        program = self.program
        (feeding,) = program[name].inputs
        joins = isinstance(program[feeding].primitive, P.Sum)
        branches = program[feeding].inputs if joins else (feeding,)
        h, w, c = self._map(name)
        channels = self._shape(name)[0]
        source = None
        wide = _is_wide(layer, self.bounds[name], self.bounds[feeding])
        if joins or self._is_constant(feeding):
            multiplier = 1 if joins else connection(program, feeding).multiplier
            fields = self._places(name, name)
            fields |= {
                "DOTS": -1, "EXTRA_STEPS": 2 if joins else 1, "SCALED": int(np.any(multiplier != 1)),
                "MULTIPLIER": self._put_numbers(multiplier, channels),
            }  # fmt: skip
            fields["BIAS"] = self._put_bias(None if joins else connection(program, feeding), channels, wide)
            if joins:
                for first, branch in enumerate(branches):
                    self._branch(branch, name, int(first == 0))
            else:
                self._constant_connection(feeding, name)
        else:
            fields, source = self._connection(feeding, wide)
        highest = np.iinfo(np.int64 if wide else np.int32).max
        v_negative = layer.v_negative if layer.signed else -highest
        fields |= {
            "WIDE": int(wide),
            "THRESHOLD": self._put_numbers(layer.threshold, channels, highest, wide),
            "V_NEGATIVE": self._put_numbers(v_negative, channels, -highest, wide),
            "V_INITIAL": self._put_numbers(layer.v_initial, channels, 0, wide),
            "CAP": min((1 << 15) - 1, layer.max_count or (1 << 15) - 1),
            "COUNTED": int(layer.signed or layer.max_count is not None),
        }
        kind = "CONNECT_FIRE" if source else "FIRE"
        self._steps.append(_Step(kind, fields, source, name, None if source else name, h * w * c))

    def _branch(self, name: str, neuron: str, first: int) -> None:
        """A branch of a join: its charge of every step."""
        primitive = self.program[name].primitive
        if isinstance(primitive, P.Connect):
            fields, source = self._connection(name)
            kind = "CONNECT_ADD"
        else:
            scale = isinstance(primitive, P.Times)
            kind, source = "SCALE_ADD", self.program[name].inputs[0] if scale else name
            fields = self._places(source, name)
            factor = primitive.factor if isinstance(primitive, P.Times) else 1
            fields["MULTIPLIER"] = self._put_numbers(factor, self._shape(name)[0])
        fields["FIRST"] = first
        self._steps.append(_Step(kind, fields, source, charge=neuron))

    # -- addresses -------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        steps = self._steps
        self.split = len(steps)
        while self.split and steps[self.split - 1].flat:
            self.split -= 1
        tail = steps[self.split :]
        for step in tail:
            step.fields["TAIL"] = 1
        self._place_spikes({n for s in tail for n in (s.source, s.target) if n is not None})
        self._place_charges({s.charge for s in tail if s.charge is not None})
        self._place_states()
        lists = max((most for fields, _, most in self._sizes.lists if fields.get("TAIL")), default=0)
        each = self._each["spikes"] + 4 * (self._each["charge"] + lists) + 6 * self._each["states"]
        self.block = MOST_SAMPLES
        while self.block > 1 and self.block * each > BLOCK_BYTES:
            self.block //= 2
        self._place_lists()
        table = np.zeros((len(steps), len(Operation)), np.int64)
        for i, step in enumerate(steps):
            table[i, Operation.KIND] = Kind[step.kind]
            for column, value in step.fields.items():
                table[i, Operation[column]] = value
        self.table = table
        pools = (
            (self._rows, np.int8), (self._dots, self._tiles_module.DOT_TYPE), (self._numbers, np.int32),
            (self._big, np.int64),
        )  # fmt: skip
        joined = (_joined(pool, kind) for pool, kind in pools)
        self.constants = tuple(Constants(table, self.split, self.block, self.chunk, int(self.kept), *joined))
        del self._rows, self._dots, self._numbers, self._big

    def _place_spikes(self, together: set[str]) -> None:
        """Addresses of spikes: those of `together` for each sample, the others where no two in use overlap."""
        lives: dict[str, list[int]] = {}
        for i, step in enumerate(self._steps):
            for node in (step.target, step.source):
                if node is not None:
                    lives.setdefault(node, [i, i])[1] = i
        source = self.program.network.input_name
        if source in lives:
            lives[source][0] = -1
        sizes = {node: _lined(self.chunk * int(np.prod(self._map(node)))) for node in lives}
        head = _first_fit({n: (a, b, sizes[n]) for n, (a, b) in lives.items() if n not in together})
        shared = max((at + sizes[node] for node, at in head.items()), default=0)
        each = 0
        places: dict[str, tuple[int, int]] = {node: (at, 0) for node, at in head.items()}
        for node in (n for n in lives if n in together):
            places[node] = (shared + each, -1)
            each += sizes[node]
        self._shared, self._each = {"spikes": shared}, {"spikes": each}
        places = {node: (at, each if by < 0 else 0) for node, (at, by) in places.items()}
        for step in self._steps:
            for node, word in ((step.source, "SOURCE"), (step.target, "TARGET")):
                if node is not None:
                    step.fields[word], step.fields[f"{word}_BY"] = places[node]
        self.input_slot, self.input_by = places.get(source, (0, 0))

    def _place_charges(self, together: set[str]) -> None:
        """Addresses of charges; that of a constant input outlives the pass, if states do."""
        shared = each = 0
        groups: dict[str, list[_Step]] = {}
        for step in self._steps:
            if step.charge is not None:
                groups.setdefault(step.charge, []).append(step)
        places = {}
        for neuron, members in groups.items():
            constant = members[0].kind == "CURRENT"
            size = int(np.prod(self._map(neuron))) * (1 if constant else self.chunk)
            size = _lined(size + self._tiles_module.DOT_ROWS * self._map(neuron)[2])
            if neuron in together or (constant and self.kept):
                places[neuron] = (each, True)
                each += size
            else:  # one join after the other
                places[neuron] = (0, False)
                shared = max(shared, size)
        self._shared["charge"], self._each["charge"] = shared, each
        for neuron, members in groups.items():
            at, own = places[neuron]
            for step in members:
                step.fields |= {"EXTRA": at + shared if own else at, "EXTRA_BY": each if own else 0}

    def _place_states(self) -> None:
        """Addresses of membranes and counts, for each sample if they are kept; the first ones nobody reads."""
        begin = 2 * WIDTH
        each = shared = 0
        for step in self._steps:
            if self.kept:
                step.fields["STATE"] = begin + each
                each += _lined(step.states)
            elif step.kind == "MAX_POOL":
                step.fields["STATE"] = begin
                shared = max(shared, step.states)
        for step in self._steps:
            step.fields["STATE_BY"] = each
        self._shared["states"], self._each["states"] = begin + _lined(shared), each

    def _place_lists(self) -> None:
        """Sizes of the rings of lists, and the largest of everything that operations share."""
        items = offsets = 1
        slack = self._tiles_module.SLACK
        for fields, repeat, most in self._sizes.lists:
            times = self.block if fields.get("TAIL") else 1
            ring = 1 if fields.get("TAIL") else (fields["KERNEL_Y"] - 1) * fields["DILATION_Y"] + 1
            row = self.chunk * fields["WIDTH_IN"] * fields["CHANNELS"] * repeat
            size = min(row, most) * times + slack
            fields |= {"RING": ring, "RING_SIZE": size}
            items = max(items, ring * size + slack)
            offsets = max(offsets, ring * self.chunk * (fields["WIDTH_IN"] * times + 1) + 1)
        pad = 1
        for step in self._steps:
            f = step.fields
            times = 1 if step.kind == "CURRENT" else self.chunk
            times *= self.block if f.get("TAIL") else 1
            pad = max(pad, times * f.get("PADDED_HEIGHT", 0) * f.get("PADDED_WIDTH", 0) * f["CHANNELS"])
            if step.kind == "CURRENT":
                offsets = max(offsets, f["HEIGHT"] * f["WIDTH_IN"] + 1)
        self._list_sizes = {"items": items, "offsets": offsets, "pad": pad}

    def buffers(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """What one thread holds: that of `Arena` and of `Aside`."""
        tiles, block, sizes = self._tiles_module, self.block, self._sizes
        total = {word: self._shared[word] + block * self._each[word] for word in self._each}
        membranes = 2 * WIDTH + block * self._each["states"]
        rows = tiles.DOT_ROWS * (self.chunk + 1)
        high = max(step.fields["KERNEL_Y"] for step in self._steps)
        wide = membranes if any(step.fields.get("WIDE") for step in self._steps) else 0
        arena = Arena(
            spikes=zeros(total["spikes"] + tiles.SLACK, np.int8),
            membranes=zeros(membranes + WIDTH, np.int32),
            wide_membranes=zeros(wide + WIDTH, np.int64),
            counts=zeros(total["states"] + WIDTH, np.int16),
            charge=zeros(total["charge"] + WIDTH, np.int32),
            lists=zeros(self._list_sizes["items"], np.uint32),
            list_offsets=zeros(self._list_sizes["offsets"], np.int64),
            window=zeros(sizes.flat + 2 * tiles.SLACK, np.uint32),
            addresses=zeros(max(rows, high), np.int64),
            sums=zeros(max(rows * tiles.DOT_WIDTH, self.chunk * 8 * WIDTH, sizes.wide), np.int32),
            padded_spikes=zeros(self._list_sizes["pad"] + tiles.SLACK, tiles.DOT_TYPE),
        )
        aside = Aside(
            input_indices=zeros(sizes.inputs, np.int32),
            input_values=zeros(sizes.inputs, np.int32),
            no_bias=zeros(sizes.wide, np.int32),
            input_charge=zeros(sizes.loose, np.int32),
            samples=zeros(block, np.int64),
            turn=zeros(1, np.int64),
        )
        return tuple(arena), tuple(aside)


def _joined(parts: list[np.ndarray], kind) -> np.ndarray:
    """One flat array of all parts, with room behind it for what vectors read too far."""
    size = sum(part.size for part in parts)
    whole = zeros(size + 256, kind)
    at = 0
    for part in parts:
        whole[at : at + part.size] = part
        at += part.size
    return whole


def _lined(size: int) -> int:
    """`size` up to whole cache lines of bytes."""
    return -(-size // 64) * 64


def _first_fit(wishes: dict[str, tuple[int, int, int]]) -> dict[str, int]:
    """An address for each (first use, last use, size), such that what is in use at the same time does not overlap."""
    placed: dict[str, int] = {}
    for name, (begin, end, size) in sorted(wishes.items(), key=lambda wish: -wish[1][2]):
        taken = sorted(
            (placed[other], placed[other] + wishes[other][2])
            for other in placed
            if wishes[other][0] <= end and begin <= wishes[other][1]
        )
        at = 0
        for low, high in taken:
            if at + size <= low:
                break
            at = max(at, high)
        placed[name] = at
    return placed
