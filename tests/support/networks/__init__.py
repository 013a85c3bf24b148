"""Networks that tests are made of."""
