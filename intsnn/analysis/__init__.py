"""What can be said about a network? Verification, descriptions, accuracy, memory."""

from ..support.faces import attach

__all__, __getattr__, __dir__ = attach(
    __name__,
    {
        "curves": "Curve curve",
        "description": "Description describe float_bytes span span_text",
        "scores": (
            "Aim OutputError accuracy aim_of check_labels classes_of confusion mean_iou near_chance output_error"
        ),
        "verification": "Difference Verification verify",
    },
)
