"""One compiled pass of totals through whole networks: the count path."""
