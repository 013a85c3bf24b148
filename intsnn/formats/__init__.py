"""What is a number? Formats, their notations, exact arithmetic on codes, packing."""

from ..faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "arguments": (
            "SEEDS STEPS array_of choice flag function_or_none instance mapping path_of rational real "
            "seed_of sequence shown text whole whole_or_none wholes"
        ),
        "arithmetic": (
            "QuantiseReport RandomKey accumulate add dequantise multiply negate quantise rescale "
            "shift_left shift_right subtract"
        ),
        "fixed": "Bipolar Fixed Levels Overflow Rounding WeightFormat apot",
        "integers": "at_index check_range each for_kernel integer_array limits smallest_dtype",
        "notation": "Notation as_overflow as_rounding parse",
        "packing": "pack packed_size unpack",
    },
)
