"""What does the user type and see?"""

from .main import main

__all__ = ["main"]
