"""In which units do charges flow? Branches and their ranges, the unit of a neuron, and what joins rounded."""
