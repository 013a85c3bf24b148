"""The ways to run a network."""
