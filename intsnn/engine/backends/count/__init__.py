"""The integer quantised ANN in one compiled pass of totals."""
