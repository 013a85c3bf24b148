"""What each layer of Keras becomes."""
