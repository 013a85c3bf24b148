"""What is a number? Formats, their notations, exact arithmetic on codes, packing."""

from ..support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "arithmetic": ("RandomKey accumulate add multiply negate rescale shift_left shift_right subtract"),
        "fixed": "Fixed Overflow Rounding",
        "integers": "at_index check_range each for_kernel integer_array limits smallest_dtype whole_array",
        "notation": "Notation as_overflow as_rounding parse",
        "packing": "pack packed_size unpack",
        "reals": "QuantiseReport dequantise quantise",
        "weights": "Bipolar Levels WeightFormat apot",
    },
)
