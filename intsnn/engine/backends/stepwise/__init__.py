"""Paths ``layer``, ``step`` and ``reference``: one operation a node, over chunks of steps."""
