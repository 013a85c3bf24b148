"""Quantised networks in ONNX files."""
