"""The vector code of the neurons of the fused path, and of charge that waits for a join.

Like ``tiles.py``: the plain function beside each is its meaning and the tier ``portable``.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir

from ..toolchain.emit import BYTE, INT32, INT64, Emit, emitted, vector
from ..toolchain.jit import kernel
from .tiles import LANES, TIER, WIDTH


class FirePlaces(NamedTuple):
    """Where `WIDTH` neurons begin in their arrays; the strides lead from step to step."""

    charge: int
    charge_stride: int
    steps: int
    multiplier: int  # among `numbers`
    bias: int  # among `constants`, and so are the next ones
    bias_stride: int
    threshold: int
    v_negative: int
    fewest: int  # the least net count, and the largest
    most: int
    v_from: int
    v: int
    count_from: int
    count_to: int
    spikes: int
    spikes_stride: int


def plain_fire(charge, numbers, constants, v_from, v, counts, spikes, at, counted=True):
    """`WIDTH` integrate-and-fire neurons; a step has charge ``charge * multiplier + bias``.

    Without `counted` there is neither cap nor negative spike, and counts are not touched. (`fire` takes every
    multiplier for 1; `fire_wide` has membranes and `constants` in 64 bits.)
    """
    for k in range(WIDTH):
        x, n = np.int64(v_from[at.v_from + k]), np.int64(counts[at.count_from + k]) if counted else 0
        theta, low = np.int64(constants[at.threshold + k]), np.int64(constants[at.v_negative + k])
        for t in range(at.steps):
            x += np.int64(charge[at.charge + t * at.charge_stride + k]) * np.int64(numbers[at.multiplier + k])
            x += np.int64(constants[at.bias + t * at.bias_stride + k])
            s = int(x >= theta)
            if counted:
                s = int(x >= theta and n < at.most) - int(x < low and n > at.fewest)
            x -= s * theta
            n += s
            spikes[at.spikes + t * at.spikes_stride + k] = s
        v[at.v + k] = x
        if counted:
            counts[at.count_to + k] = n


def _portable_fire(charge, numbers, constants, v_from, v, counts, spikes, at):
    """`plain_fire` with the neurons innermost."""
    x, c = v[at.v : at.v + WIDTH], counts[at.count_to : at.count_to + WIDTH]
    x[:] = v_from[at.v_from : at.v_from + WIDTH]
    c[:] = counts[at.count_from : at.count_from + WIDTH]
    factor, theta = numbers[at.multiplier : at.multiplier + WIDTH], constants[at.threshold : at.threshold + WIDTH]
    low, fewest, most = constants[at.v_negative : at.v_negative + WIDTH], at.fewest, at.most
    for t in range(at.steps):
        a = charge[at.charge + t * at.charge_stride : at.charge + t * at.charge_stride + WIDTH]
        bias = constants[at.bias + t * at.bias_stride : at.bias + t * at.bias_stride + WIDTH]
        out = spikes[at.spikes + t * at.spikes_stride : at.spikes + t * at.spikes_stride + WIDTH]
        for k in range(WIDTH):
            u = np.int64(x[k]) + np.int64(a[k]) * np.int64(factor[k]) + np.int64(bias[k])
            s = np.int64(u >= theta[k] and c[k] < most) - np.int64(u < low[k] and c[k] > fewest)
            x[k] = u - s * np.int64(theta[k])
            c[k] += s
            out[k] = s


def _fire_body(counted, scaled, word=INT32):
    def fire(e: Emit):
        lanes = LANES * 32 // word.width
        b, kind, small = e.builder, vector(lanes, word), vector(lanes, BYTE)
        zero, one = e.zeros(kind), e.constant(kind, 1)
        parts = range(0, WIDTH, lanes)

        def widened(pointer, element):
            value = e.read(pointer, vector(lanes, element))
            return value if value.type == kind else b.sext(value, kind)

        def pointer(name, index, part=0):
            return e.pointer(name, e.sum(e.whole(f"at.{index}"), part))

        def load(name, index, part):
            return widened(pointer(name, index, part), e.element(name))

        theta = [load("constants", "threshold", part) for part in parts]
        factor = [load("numbers", "multiplier", part) for part in parts] if scaled else []
        low = [load("constants", "v_negative", part) for part in parts]
        fewest, most = (
            e.splat(end if word == INT64 else b.trunc(end, word), lanes)
            for end in (e.whole("at.fewest"), e.whole("at.most"))
        )
        v = [e.cell(load("v_from", "v_from", part)) for part in parts]
        net = [e.cell(load("counts", "count_from", part) if counted else zero) for part in parts]
        all_charge, bias, spikes = (
            pointer("charge", "charge"),
            pointer("constants", "bias"),
            pointer("spikes", "spikes"),
        )
        with e.loop(0, e.whole("at.steps")) as t:
            charge = e.shift(all_charge, b.mul(t, e.whole("at.charge_stride")))
            offset = e.shift(bias, b.mul(t, e.whole("at.bias_stride")))
            target = e.shift(spikes, b.mul(t, e.whole("at.spikes_stride")))
            for k, part in enumerate(parts):
                x = b.add(e.get(v[k]), e.read(e.shift(offset, part), kind))
                a = widened(e.shift(charge, part), e.element("charge"))
                x = b.add(x, b.mul(a, factor[k]) if scaled else a)
                up = b.icmp_signed(">=", x, theta[k])
                if counted:
                    n = e.get(net[k])
                    up = b.and_(up, b.icmp_signed("<", n, most))
                    down = b.and_(b.icmp_signed("<", x, low[k]), b.icmp_signed(">", n, fewest))
                    spike = b.sub(b.select(up, one, zero), b.select(down, one, zero))
                    x = b.sub(x, b.sub(b.select(up, theta[k], zero), b.select(down, theta[k], zero)))
                    e.put(b.add(n, spike), net[k])
                    byte = b.trunc(spike, small)
                else:
                    x = b.sub(x, b.select(up, theta[k], zero))
                    byte = b.zext(up, small)
                e.put(x, v[k])
                e.write(byte, e.shift(target, part))
        for k, part in enumerate(parts):
            e.write(e.get(v[k]), pointer("v", "v", part))
            if counted:
                narrow = b.trunc(e.get(net[k]), vector(lanes, e.element("counts")))
                e.write(narrow, pointer("counts", "count_to", part))

    return fire


class DepositPlaces(NamedTuple):
    """Where `width` channels begin in the arrays of `deposit`; `keep` 1: what is there is added to."""

    sums: int
    multiplier: int  # among `numbers`
    bias: int  # there too
    charge: int
    width: int
    keep: int


def plain_deposit(sums, numbers, charge, at):
    """``charge`` = ``sums * multiplier + bias`` of `width` channels, added to what is there if `keep`."""
    for o in range(at.width):
        a = np.int64(sums[at.sums + o]) * np.int64(numbers[at.multiplier + o]) + np.int64(numbers[at.bias + o])
        charge[at.charge + o] = np.int64(charge[at.charge + o]) + a if at.keep else a


def _deposit(e: Emit):
    b, kind = e.builder, vector(LANES, INT32)
    keep = b.icmp_signed("!=", e.whole("at.keep"), e.number(0))
    mask = e.splat(b.select(keep, ir.Constant(INT32, -1), e.zeros(INT32)), LANES)

    def load(name, index, o):
        return e.read(e.pointer(name, b.add(e.whole(f"at.{index}"), o)), kind)

    with e.loop(0, e.whole("at.width"), LANES) as o:
        a = b.add(b.mul(load("sums", "sums", o), load("numbers", "multiplier", o)), load("numbers", "bias", o))
        place = e.pointer("charge", b.add(e.whole("at.charge"), o))
        e.write(b.add(a, b.and_(e.read(place, kind), mask)), place)


if TIER == "portable":
    fire = fire_scaled = fire_counted = fire_wide = kernel(_portable_fire)  # caps and v_negative are out of reach
    deposit = kernel(plain_deposit)
else:
    _FIRE = "charge numbers constants v_from v counts spikes at"
    fire, fire_scaled = (emitted(_FIRE, _fire_body(False, scaled)) for scaled in (False, True))
    fire_counted, fire_wide = (emitted(_FIRE, _fire_body(True, True, word)) for word in (INT32, INT64))
    deposit = emitted("sums numbers charge at", _deposit)
