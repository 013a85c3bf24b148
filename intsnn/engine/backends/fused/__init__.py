"""Path ``fused``: a whole network in one compiled call a sample."""
