"""Differentiable quantisers."""
