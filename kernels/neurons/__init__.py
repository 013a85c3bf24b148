"""One step of a layer of neurons."""
