"""Questions asked once, with their commands."""
