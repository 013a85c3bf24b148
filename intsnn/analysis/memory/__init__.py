"""How much memory does it take, by formula and as measured?"""

from ...support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "formulas": (
            "BASE_WIDTHS CONVENTIONS KINDS Architecture Item Sizes count float_share resolve_widths saving_ratio"
        ),
        "measured": "FileBytes allocate file_bytes network_items run_bytes runner_bytes with_run",
        "process": "peak_memory",
        "report": "Accumulator Report accumulators allocated cell formula memory",
    },
)
