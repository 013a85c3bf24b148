"""Spikes made from images."""
