"""Whose checkpoint is it? What all trainings ask before they go on from a file, and say of what they learned."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import FormatError, ImportRefused

__all__ = ["SAMPLES", "check_identity", "digests_of", "goes_on", "learned", "samples_sha256"]

SAMPLES = "samples_sha256"


def samples_sha256(data: Any) -> str:
    """Digest of all samples of a data set, by their content and in their order, and of their labels.

    Parameters
    ----------
    data : Dataset, EventSet, Sequences or Frames
        Its `digests` know the samples (`intsnn.datasets.overlap`): neither names of files nor how they are kept count.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for sample in data.digests():
        digest.update(sample)
    if data.labels is not None:
        digest.update(np.ascontiguousarray(data.labels, "<i8").tobytes())
    return digest.hexdigest()


def digests_of(data: Any, test: Any) -> dict[str, str]:
    """Digests of what was learned and of what it was tested on, for what is kept of a training."""
    return {SAMPLES: samples_sha256(data), "test_sha256": samples_sha256(test)}


def goes_on(path: str | os.PathLike[str], done: str, own: Mapping[str, Any]) -> str:
    """What a training says that goes on from a checkpoint; `own` as for `check_identity`."""
    return (
        f"goes on from {os.fspath(path)} after {done}: its samples are those of {own['data']} "
        f"(sha256 {own[SAMPLES][:16]})"
    )


def learned(data: str, test: str, digests: Mapping[str, str]) -> str:
    """What a training says at its end; `digests` as `digests_of` gives them."""
    return (
        f"learned the samples of {data} (sha256 {digests[SAMPLES][:16]}), tested on {test} "
        f"(sha256 {digests['test_sha256'][:16]})"
    )


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
    if SAMPLES in own and SAMPLES not in theirs:
        raise FormatError(
            f"{os.fspath(path)} does not say which samples it has learned (an older intsnn wrote it); give another "
            "file or start anew"
        )
    different = [*sorted(name for name in own if own[name] != theirs.get(name)), *others]
    if different:
        raise FormatError(
            f"{os.fspath(path)} belongs to another training ({', '.join(different)} differ); give another file or "
            "start anew"
        )
