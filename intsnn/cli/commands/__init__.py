"""The commands of ``intsnn``, a file each: what is in ``NAME.py`` as `command` is ``intsnn NAME``."""
