"""Each intrinsic once on a small known input: what it wrote must be what the plain function writes.

`toolchain/tier.py` runs `main` in a process of its own for every tier that it has not seen on this machine.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .toolchain.jit import kernel
from .toolchain.tier import FAULT, tier

__all__ = ["Case", "cases", "main"]


class Case(NamedTuple):
    """One call: arrays among the arguments are written or read, the result is compared too."""

    name: str
    fast: Callable[..., Any]  # an intrinsic or a kernel, to be called from compiled code
    plain: Callable[..., Any]
    arguments: tuple[Any, ...]
    grown: int | None = None  # the argument that is a list: what lies behind the length returned does not count


def cases(seed: int = 1) -> Iterator[Case]:
    """Every intrinsic of the tier that is in use."""
    from .layers import vector

    rng = np.random.default_rng(seed)

    def numbers(shape, dtype, low=-100, high=100):
        return rng.integers(low, high, shape).astype(dtype)

    if tier() != "portable":
        yield from _neuron_cases(numbers)
    adders = (1, 2, 4) if tier() != "portable" else ()
    for count in adders:
        tile = getattr(vector, f"add_tile_{count}")
        for sums, rows in ((np.int32, np.int8), (np.int32, np.int32), (np.int64, np.int8)):
            width = count * vector.LANES

            def add(sums, at, rows, row_at, stride, indices, values, begin, end, width=width):
                vector.plain_add_rows(sums, at, width, rows, row_at, stride, indices, values, begin, end)

            yield Case(
                f"add_tile_{count} {sums.__name__} {rows.__name__}",
                tile,
                add,
                (numbers(width + 5, sums), 5, numbers(4 * width, rows), 2, width, numbers(9, np.int32, 0, 3),
                 numbers(9, sums), 1, 8),
            )  # fmt: skip
    yield from _fused_cases(numbers)
    yield from _count_cases(numbers)


def _count_cases(numbers) -> Iterator[Case]:
    """Of the count path."""
    from .count import vectors as v
    from .count import windows as w

    padded, classes = 128, (np.uint8, np.int16) if 4 in v.FORMS else (np.int16,)
    scales = np.stack([
        numbers(padded, np.int64, -900, 0), numbers(padded, np.int64, 1, 900), numbers(padded, np.int64, 1, 1 << 32),
        numbers(padded, np.int64, 3, 9),
    ]).astype(np.uint32).view(np.int32).reshape(-1)  # fmt: skip
    scales = np.concatenate([scales, numbers(2 * padded, np.int32)])  # factors and biases of a join
    big = np.concatenate([np.array([0, 11, 40], np.int64), numbers(padded, np.int64, 0, 1 << 36)])
    for depth in v.FORMS:
        source = np.uint8 if depth == 4 else np.int16
        for width, rows in [(64, n) for n in v.ROWS_64] + [(32, n) for n in v.ROWS_32]:
            for fires in (1, 0, 2) if rows == v.ROWS_64[0] else (1,):  # sums go out the same way from all
                at = v.DotLevelPlaces(
                    data=3, out=2, charges=5, pixels=len(scales), span=rows, weights=0, runs=0, run_count=3,
                    run_length=8, fires=fires, multiplier=4 * padded, bias=5 * padded, scales=0, offsets=3,
                    padded=padded, column=64, channels=64 + width - 5,
                )  # fmt: skip
                pixels = np.concatenate([np.arange(rows, dtype=np.int32) * by for by in (30, 200, 20)])
                arrays = v.DotArrays(
                    numbers(400, source, 0, 250), v.pack_tile(numbers((24, width), np.int64, -127, 128), depth),
                    np.concatenate([scales, pixels]), big, numbers(400, np.int32), np.zeros(rows * width, np.int32),
                    np.zeros(rows * 200 + 200, source),
                )  # fmt: skip
                plain = _narrowed(v.plain_level_dots, rows, width)
                fast = getattr(v, f"dots_{rows}_{width}")
                yield Case(
                    f"dots {depth} {rows} {width} {fires}", fast, _without_sums(plain) if fires else plain, (arrays, at)
                )
    level = v.LevelPlaces(scales=0, offsets=3, padded=padded)
    for out in classes:
        given = (numbers(90, np.int32, -2000, 2000), 3, scales, big, np.zeros(90, out), 5, 77, level)
        yield Case(f"level_row {out.__name__}", v.level_row, v.plain_level_row, given)
        for channels in (5, 16, 37):
            for most in (True, False):
                window = w.WindowPlaces(at=7, ny=2, nx=3, row=150, pixel=40, channels=channels, to=2)
                some = (numbers(400, out, 0 if out == np.uint8 else -90, 40), np.zeros(60, out), window)
                fast = w.window_most if most else w.window_total
                yield Case(f"window {most} {channels} {out.__name__}", fast, partial(w.plain_window, most=most), some)
        row = {"pixels": 3, "step": 40, "to": 2, "to_step": 35, "scales": 0, "offsets": 3}
        taps = v.TapPlaces(begin=2, runs=0, taps=3, weights=0, padded=padded, channels=32, **row)
        each = (numbers(400, out, 0, 250), big, numbers(3 * padded, np.int16), np.zeros(64, np.int32), taps)
        yield Case(f"depthwise {out.__name__}", v.depthwise, v.plain_depthwise, each)
        levelled = (*each[:3], scales, np.zeros(150, out), taps)
        yield Case(f"depthwise levels {out.__name__}", v.depthwise_levels, v.plain_depthwise_levels, levelled)
        for keep in (0, 1):
            scaled = v.ScalePlaces(source=3, factor=4 * padded, to=5, channels=37, keep=keep)
            given_row = (numbers(90, out, 0, 90), scales, numbers(90, np.int32), scaled)
            yield Case(f"scale_row {keep} {out.__name__}", v.scale_row, v.plain_scale_row, given_row)
    if 4 in v.FORMS:
        window = w.WindowPlaces(at=7, ny=2, nx=3, row=150, pixel=40, channels=37, to=2)
        some = (numbers(400, np.uint8, 0, 250), np.zeros(60, np.int16), window)
        yield Case("window sums of bytes", w.window_total, partial(w.plain_window, most=False), some)


def _without_sums(plain):
    """`plain` with sums that nobody sees: they are in registers only."""
    return lambda arrays, at: plain(arrays._replace(sums=arrays.sums.copy()), at)


def _fused_cases(numbers) -> Iterator[Case]:
    """Of the fused path."""
    for some in (_gather_cases, _dot_cases, _fire_cases, _list_cases, _window_cases):
        yield from some(numbers)


def _narrowed(function, *sizes):
    return lambda *arguments: function(*sizes, *arguments)


def _gather_cases(numbers) -> Iterator[Case]:
    from .fused import rows
    from .fused.tiles import UNIT, WIDTH

    for count in (1, 2, 4, 8):
        width = count * WIDTH
        for safe, few, listed in ((4, 0, 7), (256, 0, 7), (4, 0, 0), (8, 4, 7), (256, 8, 7), (8, 4, 0)):
            if not few and not rows.PAIRED:
                continue
            function, plain = (
                (rows.__dict__[f"bytes_{count}"], rows.plain_bytes)
                if few
                else (rows.__dict__[f"pairs_{count}"], rows.plain_pairs)
            )
            items = np.array([*[0, 1, 4, 2, 2, 3, 1][:listed], *[5] * 16], np.uint32) * UNIT
            packed = rows.pack_rows(numbers((5, width), np.int8, *((-15, 16) if few else ())), few)
            arguments = (numbers(width + 2, np.int32), 2, packed, 0, items, listed, rows.Room(safe, few))
            yield Case(f"gather {width} {safe} {few} {listed}", function, _narrowed(plain, width), arguments)


def _dot_cases(numbers) -> Iterator[Case]:
    from .fused import tiles

    for width, dots in ((64, tiles.dots_64), (32, tiles.dots_32)):
        group = tiles.DOT_GROUP[width]
        arrays = (
            numbers(group * 70, np.int32),
            numbers(200, tiles.DOT_TYPE),
            np.arange(group + 1, dtype=np.int64) * 11,
            tiles.pack_dots(numbers((16, width), np.int8)),
            numbers(width + 1, np.int32),
        )
        at = tiles.DotPlaces(sums=3, stride=70, where=1, weights=0, runs=2, run_stride=20, run_length=8, initial=1)
        yield Case(f"dots_{width}", dots, _narrowed(tiles.plain_dots, group, width), (*arrays, at))


def _fire_cases(numbers) -> Iterator[Case]:
    from .fused import neurons, tiles

    def given(scaled, kind=np.int32, unit=1):
        """Arguments: multipliers 1 to 50 of the numbers; bias, thresholds and v_negative one after the other."""
        factors = numbers(50, np.int32, -3, 9) if scaled else np.ones(50, np.int32)
        bounds = (numbers(60, kind), numbers(50, kind, 1, 90), numbers(50, kind, -60, 0))
        at = neurons.FirePlaces(
            charge=3, charge_stride=40, steps=4, multiplier=5, bias=1, bias_stride=9, threshold=65, v_negative=115,
            fewest=-2, most=2, v_from=2, v=1, count_from=3, count_to=44, spikes=6, spikes_stride=41,
        )  # fmt: skip
        return (
            numbers(200, np.int32), factors * np.int32(unit), np.concatenate(bounds) * kind(unit),
            numbers(40, kind) * kind(unit), np.zeros(40, kind), numbers(80, np.int16, -2, 3), np.zeros(200, np.int8),
            at,
        )  # fmt: skip

    for counted, scaled, function in (
        (False, False, neurons.fire), (False, True, neurons.fire_scaled), (True, True, neurons.fire_counted),
    ):  # fmt: skip
        plain = partial(neurons.plain_fire, counted=counted or not tiles.PAIRED)
        yield Case(f"fire counted={counted} scaled={scaled}", function, plain, given(scaled))
    yield Case("fire_wide", neurons.fire_wide, neurons.plain_fire, given(True, np.int64, 1 << 27))
    for keep in (0, 1):
        places = neurons.DepositPlaces(sums=2, multiplier=3, bias=50, charge=5, width=32, keep=keep)
        arrays = (numbers(40, np.int32), numbers(90, np.int32), numbers(40, np.int32))
        yield Case(f"deposit {keep}", neurons.deposit, neurons.plain_deposit, (*arrays, places))


def _list_cases(numbers) -> Iterator[Case]:
    from .fused import tiles

    spikes = numbers(128, np.int8, -3, 4)
    yield Case("count_nonzero", tiles.count_nonzero, tiles.plain_count, (spikes, 3, 96))
    yield Case("weigh", tiles.weigh, tiles.plain_weigh, (numbers(128, np.int8), 3, 96))
    for high in (2, 4):
        given = (numbers(64, np.int8, 1 - high, high), 0, 64, 7, 100, np.zeros(300, np.uint32), 2)
        yield Case(f"list_bytes {high}", tiles.list_bytes, tiles.plain_list, given, 5)
    collected = (np.zeros(200, np.uint32), 3, numbers(99, np.uint32, 5, 99), 3, 40, -2)
    yield Case("collect", tiles.collect, tiles.plain_collect, collected, 0)


def _window_cases(numbers) -> Iterator[Case]:
    from .fused import tiles

    window = tiles.Pixels(at=11, ny=2, nx=3, row=300, pixel=40, channels=32)
    yield Case("window_sum", tiles.window_sum, tiles.plain_window_sum, (numbers(900, np.int8, -4, 5), 850, window))
    counts, spikes = numbers(900, np.int16, -30, 30), np.zeros(50, np.int8)
    sums, weights = np.zeros(50, np.int32), numbers(600, np.int8, -127, 128)
    weighed = (sums, 9, numbers(900, np.int8, -16, 17), weights, 5, 160, window)
    yield Case("window_weigh", tiles.window_weigh, tiles.plain_window_weigh, weighed)
    yield Case("window_max", tiles.window_max, tiles.plain_window_max, (counts, 860, spikes, 7, window))


def _neuron_cases(numbers) -> Iterator[Case]:
    """Vector neurons of two widths with most of their parts: two steps of 128 neurons of 5 channels."""
    from . import parameters as P
    from .neurons import vector as k
    from .neurons.printed import span_2

    size, period = 128, 70
    for width, product in ((16, 16), (32, 64)):
        kind = np.dtype(f"int{width}").type
        state = {
            k.ROUNDED: 1, k.UP: 3, k.UP_NEGATIVE: 4, k.REST: 7, k.COUNTS: 1, k.CLAMP: k.SATURATE, k.LOW: -64,
            k.HIGH: 63, k.SPAN: 127,
        }  # fmt: skip
        parts = {at + place: value for at in (k.U, k.V) for place, value in state.items()}
        parts |= {k.U + k.KIND: P.SHIFT, k.U + k.LEAST: 1, k.U + k.CLAMP: k.WRAP}
        parts |= {k.V + k.KIND: P.MULTIPLY, k.V + k.PRODUCT: product, k.V + k.PLACES: 3, k.V + k.COUNTS: 2}
        factors, above = [5, 0, 7, 8, 1], [0] * 5
        if width == 16:  # eighths with 16 binary places, minus 1 where they do not fit
            half = 1 << 15
            above = [-int(n > 3) for n in factors]
            factors = [(n << 13) + 2 * half * a for n, a in zip(factors, above, strict=True)]
            parts |= {k.V + k.PLACES: 16, k.V + k.REST: 2 * half - 1, k.V + k.UP: half - 1, k.V + k.UP_NEGATIVE: half}
        parts |= {k.HAS_U: 1, k.U_SHIFT: 1, k.BIASED: 1, k.RESET: P.RESET_SUBTRACT, k.LATE: int(width == 16)}
        parts |= {k.SIGNED: 1, k.CAPPED: 1, k.MOST: 2, k.COUNTED: 1, k.HOLDS: int(width == 32), k.HOLD: 1}
        rows = [numbers(5, kind, *ends) for ends in ((9, 60), (9, 60), (-20, 0), (-9, 9))]
        rows += [[3, 1, 5, 2, 4], [7, 1, 31, 3, 15], [3, 0, 15, 1, 7], [4, 1, 16, 2, 8]]
        table = np.stack([*rows, factors, above, [0] * 5, [0] * 5]).astype(kind)
        table = np.ascontiguousarray(table[:, np.arange(period + k.lanes_of(width)) % 5])
        constants = np.zeros(k.CONSTANTS, np.int64)
        for place, value in parts.items():
            constants[place] = value
        yield Case(
            f"neurons of {width} bits",
            span_2,  # the other levels are parts of it
            k.plain_span,
            (
                k.Settings(constants, table, period),
                numbers(2 * size, np.int16, -40, 60),
                P.NeuronState(
                    u=numbers(size, kind, -64, 64),
                    v=numbers(size, kind, -64, 64),
                    counts=numbers(size, np.int16 if width == 16 else np.int32, 0, 3),
                    pending=numbers(size, np.int8, -1, 2),
                    refractory=numbers(size, kind, 0, 2),
                ),
                np.zeros(2 * size, np.int8),
                P.Records(np.zeros(2 * size, kind), np.zeros(2 * size, kind)),
                np.zeros(1, np.int64),
                numbers(8, np.int64),
                k.Stretch(
                    steps=2, driven=1, size=size, stride=size, current=0, state=0, out=0, begin=0, end=size, until=0,
                    keeps_u=1, keeps_v=1,
                ),
            ),
        )  # fmt: skip


def _arrays(arguments: tuple[Any, ...]) -> Iterator[np.ndarray]:
    """All of them, those in tuples too."""
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            yield argument
        elif isinstance(argument, tuple):
            yield from _arrays(argument)


def _copy(argument):
    if isinstance(argument, tuple):
        return tuple(map(_copy, argument)) if type(argument) is tuple else type(argument)(*map(_copy, argument))
    return argument.copy() if isinstance(argument, np.ndarray) else argument


def _written(arguments: tuple[Any, ...]) -> list[list[int]]:
    return [array.tolist() for array in _arrays(arguments)]


def fault_of(case: Case) -> str:
    """What `case.fast` does otherwise than `case.plain`; empty: nothing."""
    fast = case.fast
    copies = [_copy(case.arguments) for _ in range(2)]

    @kernel
    def call(arguments):
        return fast(*arguments)

    try:
        found = call(copies[0])
    except Exception as error:  # whatever the compiler has against it
        return f"{case.name}: {type(error).__name__}"
    expected = case.plain(*copies[1])
    if case.grown is not None:
        for copy, length in zip(copies, (found, expected), strict=True):
            copy[case.grown][length:] = 0
    if found != expected or _written(copies[0]) != _written(copies[1]):
        return f"{case.name}: other numbers than the plain function"
    return ""


def main() -> int:
    """0 if all agree; else `FAULT`, and the first one is printed."""
    for case in cases():
        fault = fault_of(case)
        if fault:
            print(fault)
            return FAULT
    return 0
