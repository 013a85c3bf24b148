"""Random networks that learn, and small streams of events for them."""

from intsnn.bench.learning.exact import random_frame, random_network

__all__ = ["random_frame", "random_network"]
