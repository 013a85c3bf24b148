"""Rounding, overflow and packing of single numbers."""
