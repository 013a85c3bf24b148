"""Each intrinsic once on a small known input: what it wrote must be what the plain function writes.

`cpu.py` runs `main` in a process of its own for every tier that it has not seen on this machine.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .cpu import FAULT, tier
from .jit import kernel

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
    from . import vector

    rng = np.random.default_rng(seed)

    def numbers(shape, dtype, low=-100, high=100):
        return rng.integers(low, high, shape).astype(dtype)

    for bits in (np.int16, np.int32, np.int64):
        yield Case(
            f"if_tile {bits.__name__}",
            vector.if_tile,
            vector._plain_if_tile,
            (numbers(99, np.int32), 3, 20, numbers(40, bits, 1, 60), numbers(40, bits, -9, 0), 5, np.int32(2),
             numbers(40, bits), numbers(40, np.int32, 0, 3), 7, np.zeros(99, np.int8), 1, 17, 4,
             np.zeros(4 * vector.LANES, bits)),
        )  # fmt: skip
    adders = (1, 2, 4) if tier() != "portable" else ()
    for count in adders:
        tile = getattr(vector, f"add_tile_{count}")
        for sums, rows in ((np.int32, np.int8), (np.int32, np.int32), (np.int64, np.int8)):
            width = count * vector.LANES

            def add(sums, at, rows, row_at, stride, indices, values, begin, end, width=width):
                vector._plain_add_rows(sums, at, width, rows, row_at, stride, indices, values, begin, end)

            yield Case(
                f"add_tile_{count} {sums.__name__} {rows.__name__}",
                tile,
                add,
                (numbers(width + 5, sums), 5, numbers(4 * width, rows), 2, width, numbers(9, np.int32, 0, 3),
                 numbers(9, sums), 1, 8),
            )  # fmt: skip
    yield from _fused_cases(numbers)


def _fused_cases(numbers) -> Iterator[Case]:
    from . import tiles

    def narrowed(function, *sizes):
        return lambda *arguments: function(*sizes, *arguments)

    for count, gather in ((1, tiles.gather_1), (2, tiles.gather_2), (4, tiles.gather_4), (8, tiles.gather_8)):
        width = count * tiles.WIDTH
        rows = tiles.pack_rows(numbers((5, width), np.int8))
        for safe in (4, 256):
            items = np.array([9, 0, 1, 4, 2, 2, 3, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], np.uint32)
            yield Case(
                f"gather_{count} {safe}",
                gather,
                narrowed(tiles._plain_gather, width),
                (numbers(width + 2, np.int32), 2, rows, 0, items * tiles.UNIT, 1, 7, safe),
            )
    for width, dots in ((64, tiles.dots_64), (32, tiles.dots_32)):
        group = tiles.DOT_GROUP[width]
        weights = tiles.pack_dots(numbers((16, width), np.int8))
        data = numbers(200, tiles.DOT_TYPE)
        where = np.arange(group + 1, dtype=np.int64) * 11
        yield Case(
            f"dots_{width}",
            dots,
            narrowed(tiles._plain_dots, group, width),
            (numbers(group * 70, np.int32), 3, 70, data, where, 1, weights, 0, 2, 20, 8, numbers(width + 1, np.int32),
            1),
        )
    bounds = (numbers(50, np.int32, 1, 90), numbers(50, np.int32, -60, 0))
    for counted, scaled, function in (
        (False, False, tiles.fire), (False, True, tiles.fire_scaled), (True, True, tiles.fire_counted),
    ):  # fmt: skip
        factor = numbers(50, np.int32, -3, 9) if scaled else np.ones(50, np.int32)
        yield Case(
            f"fire counted={counted} scaled={scaled}",
            function,
            lambda *arguments, counted=counted or not tiles.PAIRED: tiles._plain_fire(*arguments, counted),
            (numbers(200, np.int32), 3, 40, 4, factor, numbers(60, np.int32), 1, 9, *bounds, 5, 2,
             numbers(40, np.int32), 2, np.zeros(40, np.int32), 1, numbers(40, np.int16, 0, 3), 3,
             np.zeros(40, np.int16), 4, np.zeros(200, np.int8), 6, 41),
        )  # fmt: skip
    big = np.int64(1) << 40
    wide = [numbers(60, np.int64, low, high) * big for low, high in ((-9, 9), (1, 90), (-60, 0), (-9, 9))]
    yield Case(
        "fire_wide",
        tiles.fire_wide,
        tiles._plain_fire,
        (numbers(200, np.int32, -(1 << 20), 1 << 20), 3, 40, 4, numbers(50, np.int32, 1 << 20, 1 << 26), wide[0], 1, 9,
         *wide[1:3], 5, 2, wide[3], 2, np.zeros(40, np.int64), 1, numbers(40, np.int16, 0, 3), 3,
         np.zeros(40, np.int16), 4, np.zeros(200, np.int8), 6, 41),
    )  # fmt: skip
    for keep in (0, 1):
        sums, factor, bias, charge = (numbers(40, np.int32) for _ in range(4))
        arguments = (sums, 2, 32, factor, 3, bias, 4, charge, 5, keep)
        yield Case(f"deposit {keep}", tiles.deposit, tiles._plain_deposit, arguments)
    spikes = numbers(128, np.int8, -3, 4)
    yield Case("count_nonzero", tiles.count_nonzero, tiles._plain_count, (spikes, 3, 96))
    yield Case("weigh", tiles.weigh, tiles._plain_weigh, (numbers(128, np.int8), 3, 96))
    for high in (2, 4):
        listed = (numbers(64, np.int8, 1 - high, high), 0, 64, 7, 100, np.zeros(300, np.uint32), 2)
        yield Case(f"list_bytes {high}", tiles.list_bytes, tiles._plain_list, listed, 5)
    collected = (np.zeros(200, np.uint32), 3, numbers(99, np.uint32, 5, 99), 3, 40, -2)
    yield Case("collect", tiles.collect, tiles._plain_collect, collected, 0)
    window = (11, 2, 3, 300, 40, 32)
    yield Case("window_sum", tiles.window_sum, tiles._plain_window_sum, (numbers(900, np.int8, -4, 5), 850, *window))
    yield Case(
        "window_max",
        tiles.window_max,
        tiles._plain_window_max,
        (numbers(900, np.int16, -30, 30), *window, 860, np.zeros(50, np.int8), 7),
    )


def _written(arguments: tuple[Any, ...]) -> list[list[int]]:
    return [a.tolist() for a in arguments if isinstance(a, np.ndarray)]


def fault_of(case: Case) -> str:
    """What `case.fast` does otherwise than `case.plain`; empty: nothing."""
    fast = case.fast
    copies = [tuple(a.copy() if isinstance(a, np.ndarray) else a for a in case.arguments) for _ in range(2)]

    @kernel
    def call(arguments):
        return fast(*arguments)

    try:
        found = call(copies[0])
    except Exception as error:  # whatever the compiler has against it
        return f"{case.name}: {type(error).__name__}"
    expected = case.plain(*copies[1])
    for n, length in enumerate((found, expected) if case.grown is not None else ()):
        copies[n][case.grown][length:] = 0
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
