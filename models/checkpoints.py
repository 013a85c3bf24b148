"""Whose checkpoint is it? What all trainings ask before they go on from a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import FormatError, ImportRefused

__all__ = ["check_identity"]


def check_identity(
    path: str | os.PathLike[str], own: Mapping[str, Any], theirs: object, others: Sequence[str] = ()
) -> None:
    """Refuse a checkpoint that another training has written.

    Parameters
    ----------
    path : path-like
        Of the checkpoint.
    own : mapping
        All that decides the result of the training at hand.
    theirs : object
        What the checkpoint holds in its place.
    others : sequence of str
        What is known to differ besides.

    Raises
    ------
    ImportRefused
        `theirs` is no such mapping.
    FormatError
        One of its fields differs.
    """
    if not isinstance(theirs, Mapping):
        raise ImportRefused(
            f"{os.fspath(path)} is no checkpoint that can be read: it does not say what it belongs to", code="field"
        )
    different = [*sorted(name for name in own if own[name] != theirs.get(name)), *others]
    if different:
        raise FormatError(
            f"{os.fspath(path)} belongs to another training ({', '.join(different)} differ); give another file or "
            "start anew"
        )
