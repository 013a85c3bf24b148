"""Explicit vector loops: what LLVM does not find by itself in a loop over a variable number of channels.

Written as vector IR that does not name a processor: the width of the registers is LLVM's business. The plain loop
beside each one is its meaning, and what the tier `portable` compiles.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .cpu import tier
from .jit import intrinsic, kernel

LANES = 16


def _plain_add_rows(sums, at, width, rows, row_at, stride, indices, values, begin, end):
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


def _plain_if_tile(current, at, stride, threshold, v_negative, channel, most, v, count, neuron, out, out_at,
                   out_stride, steps, peaks):  # fmt: skip
    """`LANES` integrate-and-fire neurons over all steps; the equations are those of `reference.if_run`.

    `at` and `stride` say where the charge of a step lies in `current`, `out_at` and `out_stride` where its spikes go.
    `peaks` ``(4 * LANES,)``: least and largest membrane, least and largest charge, lane by lane.
    """
    for k in range(LANES):
        for t in range(steps):
            a = current[at + t * stride + k]
            x = v[neuron + k] + a
            up = x >= threshold[channel + k] and count[neuron + k] < most
            down = x < v_negative[channel + k] and count[neuron + k] > 0
            s = int(up) - int(down)
            v[neuron + k] = x - s * threshold[channel + k]
            count[neuron + k] += s
            out[out_at + t * out_stride + k] = s
            peaks[k], peaks[LANES + k] = min(peaks[k], x), max(peaks[LANES + k], x)
            peaks[2 * LANES + k] = min(peaks[2 * LANES + k], a)
            peaks[3 * LANES + k] = max(peaks[3 * LANES + k], a)


def _if_tile(typing_context, current, at, stride, threshold, v_negative, channel, most, v, count, neuron, out, out_at,
             out_stride, steps, peaks):  # fmt: skip
    names = ("current", "at", "stride", "threshold", "v_negative", "channel", "most", "v", "count", "neuron", "out",
             "out_at", "out_stride", "steps", "peaks")  # fmt: skip
    kinds = (current, at, stride, threshold, v_negative, channel, most, v, count, neuron, out, out_at, out_stride,
             steps, peaks)  # fmt: skip
    signature = types.void(*kinds)

    def codegen(context, builder, signature, arguments):
        value = dict(zip(names, arguments, strict=True))
        kind = dict(zip(names, kinds, strict=True))
        int64 = ir.IntType(64)

        def integer(name):
            return context.cast(builder, value[name], kind[name], types.int64)

        def place(name, index):
            """Pointer to the vector that begins at element `index` of array `name`, and its alignment."""
            bits = kind[name].dtype.bitwidth
            data = context.make_array(kind[name])(context, builder, value[name]).data
            vector = ir.VectorType(ir.IntType(bits), LANES)
            return builder.bitcast(builder.gep(data, [index]), vector.as_pointer()), max(1, bits // 8)

        def load(name, index):
            pointer, align = place(name, index)
            return builder.load(pointer, align=align)

        def store(vector, name, index):
            pointer, align = place(name, index)
            builder.store(vector, pointer, align=align)

        def resize(vector, bits):
            found = vector.type.element.width
            wanted = ir.VectorType(ir.IntType(bits), LANES)
            if found == bits:
                return vector
            return builder.sext(vector, wanted) if found < bits else builder.trunc(vector, wanted)

        def cell(vector):
            pointer = cgutils.alloca_once(builder, vector.type)
            builder.store(vector, pointer)
            return pointer

        bits = kind["v"].dtype.bitwidth
        wide = ir.VectorType(ir.IntType(bits), LANES)
        zero = ir.Constant(wide, [0] * LANES)
        channel, neuron = integer("channel"), integer("neuron")
        theta, negative = load("threshold", channel), load("v_negative", channel)
        lowest = builder.trunc(integer("most"), ir.IntType(bits)) if bits < 64 else integer("most")
        top = builder.insert_element(ir.Constant(wide, ir.Undefined), lowest, ir.Constant(ir.IntType(32), 0))
        first_lane = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        top = builder.shuffle_vector(top, ir.Constant(wide, ir.Undefined), first_lane)
        membrane, net = cell(load("v", neuron)), cell(resize(load("count", neuron), bits))
        at_peak = [ir.Constant(int64, i * LANES) for i in range(4)]
        peak = [cell(load("peaks", index)) for index in at_peak]

        def extend(pointer, vector, order):
            seen = builder.load(pointer)
            builder.store(builder.select(builder.icmp_signed(order, vector, seen), vector, seen), pointer)

        with cgutils.for_range(builder, integer("steps"), intp=int64) as loop:
            source = builder.add(integer("at"), builder.mul(loop.index, integer("stride")))
            a = resize(load("current", source), bits)
            x = builder.add(builder.load(membrane), a)
            counted = builder.load(net)
            up = builder.and_(builder.icmp_signed(">=", x, theta), builder.icmp_signed("<", counted, top))
            down = builder.and_(builder.icmp_signed("<", x, negative), builder.icmp_signed(">", counted, zero))
            change = builder.sub(builder.select(up, theta, zero), builder.select(down, theta, zero))
            spike = builder.sub(builder.zext(up, wide), builder.zext(down, wide))
            builder.store(builder.sub(x, change), membrane)
            builder.store(builder.add(counted, spike), net)
            target = builder.add(integer("out_at"), builder.mul(loop.index, integer("out_stride")))
            store(resize(spike, kind["out"].dtype.bitwidth), "out", target)
            for pointer, vector, order in zip(peak, (x, x, a, a), "<><>", strict=True):
                extend(pointer, vector, order)
        store(builder.load(membrane), "v", neuron)
        store(resize(builder.load(net), kind["count"].dtype.bitwidth), "count", neuron)
        for pointer, index in zip(peak, at_peak, strict=True):
            store(builder.load(pointer), "peaks", index)
        return context.get_dummy_value()

    return signature, codegen


if tier() == "portable":
    if_tile, add_rows = kernel(_plain_if_tile), kernel(_plain_add_rows)
else:
    if_tile = intrinsic(_if_tile)
    add_tile_4 = _tile(4)
    add_tile_2 = _tile(2)
    add_tile_1 = _tile(1)

    @kernel(inline="always")
    def add_rows(sums, at, width, rows, row_at, stride, indices, values, begin, end):
        """Twin of `_plain_add_rows`; `sums`, `rows`, `indices`, `values` are flat and C-contiguous."""
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
