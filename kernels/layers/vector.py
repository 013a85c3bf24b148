"""Explicit vector loops: what LLVM does not find by itself in a loop over a variable number of channels.

Written as vector IR that does not name a processor: the width of the registers is LLVM's business. The plain loop
beside each one is its meaning, and what the tier `portable` compiles.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..toolchain.jit import intrinsic, kernel
from ..toolchain.tier import tier

LANES = 16


def plain_add_rows(sums, at, width, rows, row_at, stride, indices, values, begin, end):
    """``sums[at + o] += rows[row_at + indices[e] * stride + o] * values[e]`` for o < width and begin <= e < end."""
    for e in range(begin, end):
        start = row_at + indices[e] * stride
        for o in range(width):
            sums[at + o] += rows[start + o] * values[e]


def _tile(vectors):
    """Intrinsic that keeps ``vectors * LANES`` sums in registers over all events."""

    def add_tile(typing_context, sums, at, rows, row_at, stride, indices, values, begin, end):
        signature = types.void(sums, at, rows, row_at, stride, indices, values, begin, end)

        def codegen(context, builder, signature, arguments):
            def pointer(i):
                struct = context.make_array(signature.args[i])(context, builder, arguments[i])
                return struct.data

            def integer(i):
                return context.cast(builder, arguments[i], signature.args[i], types.int64)

            sum_bits, row_bits = signature.args[0].dtype.bitwidth, signature.args[2].dtype.bitwidth
            wide = ir.VectorType(ir.IntType(sum_bits), LANES)
            narrow = ir.VectorType(ir.IntType(row_bits), LANES)
            targets, cells = [], []
            base = builder.gep(pointer(0), [integer(1)])
            for k in range(vectors):
                place = builder.gep(base, [ir.Constant(ir.IntType(64), k * LANES)])
                target = builder.bitcast(place, wide.as_pointer())
                cell = cgutils.alloca_once(builder, wide)
                builder.store(builder.load(target, align=sum_bits // 8), cell)
                targets.append(target)
                cells.append(cell)
            row_base = builder.gep(pointer(2), [integer(3)])
            index_base, value_base, stride = pointer(5), pointer(6), integer(4)
            with cgutils.for_range_slice(
                builder, integer(7), integer(8), ir.Constant(ir.IntType(64), 1), intp=ir.IntType(64)
            ) as (event, _):
                index = builder.load(builder.gep(index_base, [event]))
                index = builder.zext(index, ir.IntType(64))
                value = builder.load(builder.gep(value_base, [event]))
                splat = builder.insert_element(ir.Constant(wide, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
                mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
                splat = builder.shuffle_vector(splat, ir.Constant(wide, ir.Undefined), mask)
                row = builder.gep(row_base, [builder.mul(index, stride)])
                for k, cell in enumerate(cells):
                    place = builder.gep(row, [ir.Constant(ir.IntType(64), k * LANES)])
                    weights = builder.load(builder.bitcast(place, narrow.as_pointer()), align=row_bits // 8)
                    if row_bits < sum_bits:
                        weights = builder.sext(weights, wide)
                    elif row_bits > sum_bits:
                        weights = builder.trunc(weights, wide)
                    builder.store(builder.add(builder.load(cell), builder.mul(weights, splat)), cell)
            for target, cell in zip(targets, cells, strict=True):
                builder.store(builder.load(cell), target, align=sum_bits // 8)
            return context.get_dummy_value()

        return signature, codegen

    return intrinsic(add_tile)


if tier() == "portable":
    add_rows = kernel(plain_add_rows)
else:
    add_tile_4 = _tile(4)
    add_tile_2 = _tile(2)
    add_tile_1 = _tile(1)

    @kernel(inline="always")
    def add_rows(sums, at, width, rows, row_at, stride, indices, values, begin, end):
        """Twin of `plain_add_rows`; `sums`, `rows`, `indices`, `values` are flat and C-contiguous."""
        o = 0
        while width - o >= 4 * LANES:
            add_tile_4(sums, at + o, rows, row_at + o, stride, indices, values, begin, end)
            o += 4 * LANES
        if width - o >= 2 * LANES:
            add_tile_2(sums, at + o, rows, row_at + o, stride, indices, values, begin, end)
            o += 2 * LANES
        if width - o >= LANES:
            add_tile_1(sums, at + o, rows, row_at + o, stride, indices, values, begin, end)
            o += LANES
        if o < width:
            for e in range(begin, end):
                start = row_at + indices[e] * stride
                value = values[e]
                for k in range(o, width):
                    sums[at + k] += rows[start + k] * value
