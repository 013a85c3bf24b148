"""One compiled interpreter for whole networks."""
