"""Recipes of integer learning."""
