"""What integer learning reaches and costs."""
