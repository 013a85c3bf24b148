"""Connections and pools."""
