"""Networks trained in Keras."""
