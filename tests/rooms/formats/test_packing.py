"""Dense packing: layout, size, round trip, and refusal of what cannot be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsnn.errors import FormatError, RangeError
from intsnn.formats.fixed import Fixed
from intsnn.formats.packing import pack, packed_size, unpack
from intsnn.formats.weights import Bipolar, Levels, apot
from intsnn.kernels.numbers import packing
from intsnn.kernels.numbers import reference as exact


def code_range(weight_format) -> tuple[int, int]:
    if isinstance(weight_format, Fixed):
        return weight_format.min, weight_format.max
    return 0, 1 if isinstance(weight_format, Bipolar) else len(weight_format.table) - 1


FORMATS = [
    *(Fixed(bits, signed=signed) for bits in range(1, 9) for signed in (True, False)),
    *(Fixed(bits, narrow=True) for bits in range(2, 9)),
    *(Fixed(bits, signed=signed) for bits in (9, 10, 12) for signed in (True, False)),
    Bipolar(),
    *(apot(bits) for bits in range(2, 6)),
    Levels((-2, -1, 0, 1, 2)),
    Levels(tuple(range(-100, 156))),
]


def test_layout_is_little_endian_in_bits_and_bytes():
    assert pack([1, 2, 3], Fixed(4, signed=False)).tolist() == [0x21, 0x03]
    assert pack([1, 0, 0, 0, 0, 0, 0, 0, 1], Bipolar()).tolist() == [1, 1]
    assert pack([-1, 0, 1, -4], Fixed(3)).tolist() == [0b01_000_111, 0b1000]  # 111 000 001 100, low bits first
    assert pack([-128, 127], Fixed(8)).tolist() == [128, 127]


@pytest.mark.parametrize("weight_format", FORMATS, ids=str)
def test_every_code_and_length_round_trips(weight_format):
    lo, hi = code_range(weight_format)
    every = np.arange(lo, hi + 1)
    rng = np.random.default_rng(1)
    for codes in [every, every[::-1], *(rng.integers(lo, hi + 1, n) for n in range(20))]:
        packed = pack(codes, weight_format)
        assert packed.dtype == np.uint8
        assert packed.size == packed_size(codes.size, weight_format.bits) == -(-codes.size * weight_format.bits // 8)
        assert packed.tobytes() == exact.pack_bits(codes.tolist(), weight_format.bits)
        back = unpack(packed, weight_format, codes.shape)
        assert back.tolist() == codes.tolist()


@given(st.integers(1, 32), st.booleans(), st.data())
def test_kernels_equal_plain_reference(bits, signed, data):
    lo, hi = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    codes = data.draw(st.lists(st.integers(lo, hi), max_size=50))
    fields = np.array([c % 2**bits for c in codes], dtype=np.uint8 if bits <= 8 else np.uint32)
    out = np.full(packed_size(len(codes), bits), 255, dtype=np.uint8)
    packing.pack(fields, bits, out)
    assert out.tobytes() == exact.pack_bits(codes, bits)
    back = np.full(len(codes), 99, dtype=Fixed(bits, signed=signed).dtype)
    packing.unpack(out, bits, signed, back)
    assert back.tolist() == codes == exact.unpack_bits(out.tobytes(), bits, len(codes), signed)


def test_shape_and_order():
    codes = np.arange(24).reshape(2, 3, 4) % 16 - 8
    packed = pack(codes, Fixed(4))
    assert np.array_equal(unpack(packed, Fixed(4), (2, 3, 4)), codes)
    assert np.array_equal(packed, pack(codes.ravel(), Fixed(4)))
    assert np.array_equal(pack(np.asfortranarray(codes), Fixed(4)), packed)
    assert unpack(packed[:2], Fixed(4), 4).tolist() == [-8, -7, -6, -5]


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(RangeError, match=r"8 at index 1 is outside -8\.\.7"):
        pack([7, 8], Fixed(4))
    with pytest.raises(RangeError, match=r"-8 at index 0 is outside -7\.\.7"):
        pack([-8], Fixed(4, narrow=True))
    with pytest.raises(RangeError, match=r"outside 0\.\.14"):
        pack([15], apot(4))
    with pytest.raises(FormatError, match="fxp-s33/0 cannot be packed"):
        pack([1], Fixed(33))
    with pytest.raises(FormatError, match="must be integers"):
        pack([0.5], Fixed(4))


def test_what_cannot_be_unpacked_is_refused():
    good = pack([1, 2, 3], Fixed(4))
    with pytest.raises(RangeError, match="2 bytes of packed codes"):
        unpack(good, Fixed(4), 5)
    with pytest.raises(RangeError, match="must be 0"):
        unpack(np.array([0, 16], dtype=np.uint8), Fixed(4), 3)
    with pytest.raises(RangeError, match="outside 0..14"):
        unpack(np.array([15], dtype=np.uint8), apot(4), 1)
    with pytest.raises(RangeError, match=r"outside -7\.\.7"):
        unpack(np.array([8], dtype=np.uint8), Fixed(4, narrow=True), 1)
    with pytest.raises(FormatError, match="1-d uint8"):
        unpack(good.astype(np.int8), Fixed(4), 3)
    with pytest.raises(FormatError, match="shape: an entry: found -3"):
        unpack(good, Fixed(4), (-3,))
