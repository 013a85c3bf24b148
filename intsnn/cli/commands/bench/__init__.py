"""Commands that measure: sweeps of widths, speed, learning."""

from .sweep import command

__all__ = ["command"]
