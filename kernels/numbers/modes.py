"""The names of the rounding and overflow rules, as the small integers that kernels branch on."""

from enum import IntEnum

__all__ = ["Overflow", "Rounding"]


class Rounding(IntEnum):
    """What becomes of a result that lies between two codes (names of ap_fixed).

    The numbers are part of the file format and of every kernel signature: they never change.
    """

    TRN = 0  # floor: toward minus infinity, what `>>` does
    TRN_ZERO = 1  # toward zero, what C's `/` does
    RND = 2  # nearest, a tie goes up (plus infinity)
    RND_CONV = 3  # nearest, a tie goes to the even code
    RND_INF = 4  # nearest, a tie goes away from zero
    RND_ZERO = 5  # nearest, a tie goes toward zero
    RND_MIN_INF = 6  # nearest, a tie goes down (minus infinity)
    STOCHASTIC = 7  # up with the probability of the fraction: floor(x + R), R uniform in [0, 1)


class Overflow(IntEnum):
    """What becomes of a rounded result outside the code range (names of ap_fixed).

    The numbers are part of the file format and of every kernel signature: they never change.
    """

    SAT = 0  # the nearest end of the range
    SAT_SYM = 1  # the nearest end of the symmetric range [-max, max]
    WRAP = 2  # modulo the number of codes: drops the high bits of a two's-complement code
    TRAP = 3  # an error that names the element; kernels return the value unchanged, callers raise
