"""Tiles of the fused path: 16-bit sums in registers, integrate-and-fire on 32 neurons, lists of non-zero bytes.

Portable vector IR like `vector.py`: every processor runs the same functions, wide registers only make them faster.
The plain function beside each one is its meaning and what runs with the JIT off.
"""

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils

from .jit import intrinsic, kernel

WIDTH = 32  # neurons of a tile; channel counts are padded to a multiple
LANES = 16  # neurons of one vector instruction
SAFE_EVENTS = 256  # so many int8 weights add up within int16
INT32, INT64 = ir.IntType(32), ir.IntType(64)


def _pointer(context, builder, kind, value, index, lanes, bits):
    """Pointer to `lanes` integers of `bits` that begin at element `index` of a flat array."""
    data = context.make_array(kind)(context, builder, value).data
    vector = ir.VectorType(ir.IntType(bits), lanes)
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _splat(builder, value, lanes):
    wide = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(wide, ir.Undefined), value, ir.Constant(INT32, 0))
    return builder.shuffle_vector(
        first, ir.Constant(wide, ir.Undefined), ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)
    )


# -- sums ------------------------------------------------------------------------------------------


def _plain_gather(sums, width, first, rows, events, ranges, count):
    """``sums[o] = sum(rows[first + (base + events[e]) * width + o])`` over the events of `count` ranges, o < width.

    `ranges` holds begin, end and base of each; base and event count weight rows of `width`. int16 sums are exact for
    at most `SAFE_EVENTS` events.
    """
    for o in range(width):
        sums[o] = 0
    for r in range(count):
        for e in range(ranges[3 * r], ranges[3 * r + 1]):
            start = first + (ranges[3 * r + 2] + np.int64(events[e])) * width
            for o in range(width):
                sums[o] += rows[start + o]


def _gather_tile(vectors):
    def gather(typing_context, sums, first, rows, events, ranges, count):
        signature = types.void(sums, first, rows, events, ranges, count)

        def codegen(context, builder, signature, arguments):
            kinds = signature.args
            wide, narrow = ir.VectorType(ir.IntType(16), WIDTH), ir.VectorType(ir.IntType(8), WIDTH)
            zero = ir.Constant(wide, [0] * WIDTH)
            cells = []
            for _ in range(vectors):
                cell = cgutils.alloca_once(builder, wide)
                builder.store(zero, cell)
                cells.append(cell)
            rows_data = context.make_array(kinds[2])(context, builder, arguments[2]).data
            events_data = context.make_array(kinds[3])(context, builder, arguments[3]).data
            ranges_data = context.make_array(kinds[4])(context, builder, arguments[4]).data
            first = context.cast(builder, arguments[1], kinds[1], types.int64)
            size = ir.Constant(INT64, vectors * WIDTH)
            count = context.cast(builder, arguments[5], kinds[5], types.int64)
            with cgutils.for_range(builder, count, intp=INT64) as outer:
                at = builder.mul(outer.index, ir.Constant(INT64, 3))

                def field(i, at=at):
                    return builder.load(builder.gep(ranges_data, [builder.add(at, ir.Constant(INT64, i))]))

                begin, end = field(0), field(1)
                start = builder.gep(rows_data, [builder.add(first, builder.mul(field(2), size))])
                with cgutils.for_range_slice(builder, begin, end, ir.Constant(INT64, 1), intp=INT64) as (event, _):
                    offset = builder.zext(builder.load(builder.gep(events_data, [event])), INT64)
                    row = builder.gep(start, [builder.mul(offset, size)])
                    for k, cell in enumerate(cells):
                        place = builder.gep(row, [ir.Constant(INT64, k * WIDTH)])
                        weights = builder.load(builder.bitcast(place, narrow.as_pointer()), align=1)
                        builder.store(builder.add(builder.load(cell), builder.sext(weights, wide)), cell)
            for k, cell in enumerate(cells):
                target = _pointer(context, builder, kinds[0], arguments[0], ir.Constant(INT64, k * WIDTH), WIDTH, 16)
                builder.store(builder.load(cell), target, align=2)
            return context.get_dummy_value()

        return signature, codegen

    return intrinsic(gather)


# -- neurons ---------------------------------------------------------------------------------------


def _plain_fire(sums, at, extra, extra_at, multiplier, bias, bias_at, threshold, v_negative, channel, most, v, count,
                neuron, out, out_at):  # fmt: skip
    """One step of `WIDTH` integrate-and-fire neurons with charge ``sums * multiplier + extra + bias``."""
    for k in range(WIDTH):
        x = np.int64(v[neuron + k]) + np.int64(sums[at + k]) * np.int64(multiplier[channel + k])
        x += np.int64(extra[extra_at + k]) + np.int64(bias[bias_at + k])
        c = np.int64(count[neuron + k])
        s = int(x >= threshold[channel + k] and c < most) - int(x < v_negative[channel + k] and c > 0)
        v[neuron + k] = x - s * np.int64(threshold[channel + k])
        count[neuron + k] = c + s
        out[out_at + k] = s


def _fire(scaled):
    def fire(typing_context, sums, at, extra, extra_at, multiplier, bias, bias_at, threshold, v_negative, channel, most,
             v, count, neuron, out, out_at):  # fmt: skip
        kinds = (sums, at, extra, extra_at, multiplier, bias, bias_at, threshold, v_negative, channel, most, v, count,
                 neuron, out, out_at)  # fmt: skip
        names = ("sums", "at", "extra", "extra_at", "multiplier", "bias", "bias_at", "threshold", "v_negative",
                 "channel", "most", "v", "count", "neuron", "out", "out_at")  # fmt: skip

        def codegen(context, builder, signature, arguments):
            kind, value = dict(zip(names, kinds, strict=True)), dict(zip(names, arguments, strict=True))

            def integer(name):
                return context.cast(builder, value[name], kind[name], types.int64)

            def half(shift):
                """Lanes ``shift..shift + LANES``: one full-width register of masks each."""

                def place(name, at):
                    bits = kind[name].dtype.bitwidth
                    index = builder.add(integer(at), ir.Constant(INT64, shift))
                    return _pointer(context, builder, kind[name], value[name], index, LANES, bits), max(1, bits // 8)

                def load(name, at):
                    pointer, align = place(name, at)
                    vector = builder.load(pointer, align=align)
                    return vector if kind[name].dtype.bitwidth == 32 else builder.sext(vector, wide)

                def store(vector, name, at):
                    pointer, align = place(name, at)
                    bits = kind[name].dtype.bitwidth
                    if bits < 32:
                        vector = builder.trunc(vector, ir.VectorType(ir.IntType(bits), LANES))
                    builder.store(vector, pointer, align=align)

                charge = load("sums", "at")
                if scaled:
                    charge = builder.mul(charge, load("multiplier", "channel"))
                charge = builder.add(charge, builder.add(load("extra", "extra_at"), load("bias", "bias_at")))
                x = builder.add(load("v", "neuron"), charge)
                theta, net = load("threshold", "channel"), load("count", "neuron")
                up = builder.and_(builder.icmp_signed(">=", x, theta), builder.icmp_signed("<", net, top))
                low = builder.icmp_signed("<", x, load("v_negative", "channel"))
                down = builder.and_(low, builder.icmp_signed(">", net, zero))
                change = builder.sub(builder.select(up, theta, zero), builder.select(down, theta, zero))
                spike = builder.sub(builder.select(up, ones, zero), builder.select(down, ones, zero))
                store(builder.sub(x, change), "v", "neuron")
                store(builder.add(net, spike), "count", "neuron")
                store(spike, "out", "out_at")

            wide = ir.VectorType(INT32, LANES)
            zero, ones = ir.Constant(wide, [0] * LANES), ir.Constant(wide, [1] * LANES)
            top = _splat(builder, builder.trunc(integer("most"), INT32), LANES)
            for shift in range(0, WIDTH, LANES):
                half(shift)
            return context.get_dummy_value()

        return types.void(*kinds), codegen

    return intrinsic(fire)


# -- lists -----------------------------------------------------------------------------------------


def _nonzero64(typing_context, array, at):
    """Bit k is set where byte ``array[at + k]`` is not zero, k < 64."""

    def codegen(context, builder, signature, arguments):
        index = context.cast(builder, arguments[1], signature.args[1], types.int64)
        place = _pointer(context, builder, signature.args[0], arguments[0], index, 64, 8)
        vector = builder.load(place, align=1)
        set_lanes = builder.icmp_unsigned("!=", vector, ir.Constant(vector.type, [0] * 64))
        return builder.bitcast(set_lanes, INT64)

    return types.uint64(array, at), codegen


def _trailing_zeros(typing_context, word):
    """Number of zero bits below the lowest set bit of a non-zero word."""

    def codegen(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(word), codegen


if config.DISABLE_JIT:
    fire_scaled = fire_unit = _plain_fire

    def nonzero64(array, at):
        """Bit k is set where byte ``array[at + k]`` is not zero, k < 64."""
        return sum(1 << k for k in range(64) if array[at + k])

    def trailing_zeros(word):
        """Number of zero bits below the lowest set bit of a non-zero word."""
        return (int(word) & -int(word)).bit_length() - 1

    def clear_lowest(word):
        """`word` without its lowest set bit."""
        return int(word) & (int(word) - 1)

    def _plain_gather_of(width):
        def gather(sums, first, rows, events, ranges, count):
            _plain_gather(sums, width, first, rows, events, ranges, count)

        return gather

    gather_1, gather_2, gather_4, gather_8 = (_plain_gather_of(n * WIDTH) for n in (1, 2, 4, 8))
else:
    gather_1, gather_2, gather_4, gather_8 = (_gather_tile(n) for n in (1, 2, 4, 8))
    fire_scaled, fire_unit = _fire(True), _fire(False)
    nonzero64, trailing_zeros = intrinsic(_nonzero64), intrinsic(_trailing_zeros)

    @kernel(inline="always")
    def clear_lowest(word):
        """`word` without its lowest set bit."""
        return word & (word - np.uint64(1))
