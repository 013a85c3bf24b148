"""Accuracy and memory over widths."""
