"""``python -m intsnn``: the same as the command ``intsnn``."""

from .cli.main import main

if __name__ == "__main__":
    main(prog_name="intsnn")
