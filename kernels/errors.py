"""The errors that kernels raise on purpose; `intsnn/errors.py` names them to the world with all others."""

__all__ = ["IntsnnError", "TierError"]


class IntsnnError(Exception):
    """Base of every error that intsnn raises on purpose."""


class TierError(IntsnnError, ValueError):
    """Instructions that are asked for and cannot be used: an unknown word, or a tier that the machine lacks."""
