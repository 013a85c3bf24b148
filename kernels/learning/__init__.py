"""Steps of learning."""
