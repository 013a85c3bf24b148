"""Is what was learned from, or calibrated with, among what an accuracy is measured on?

Samples are known by their content: the digest of their integers, whatever dtype and shape they are kept in. Names say
nothing: a copy of a file is the same data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConversionError

__all__ = ["Overlap", "check_overlap", "digests", "unseen"]

BLOCK = 1 << 24  # bytes that are brought to one dtype at a time


@dataclass(frozen=True)
class Overlap:
    """So many of the `measured` samples are among the `learned` ones, by `name` of both."""

    learned: str
    measured: str
    samples: int
    of: int

    def __str__(self) -> str:
        what = "all" if self.samples == self.of else f"{self.samples:,} of"
        return f"{what} {self.of:,} samples of {self.measured} are also in {self.learned}"

    def values(self) -> dict:
        """As plain values, for what is stored beside an accuracy."""
        return {"learned": self.learned, "measured": self.measured, "samples": self.samples, "of": self.of}


def digests(samples: np.ndarray) -> list[bytes]:
    """Of each sample 16 bytes (BLAKE2b) of its integers, in C order: bytes where all fit, else 64 bits.

    Parameters
    ----------
    samples : (N, ...) integers
        The same digests for every dtype, byte order and shape of a sample.
    """
    found = []
    flat = samples.reshape(len(samples), -1) if samples.size else np.zeros((len(samples), 0), np.uint8)
    step = max(1, BLOCK // max(1, flat.shape[1] * 8))
    for start in range(0, len(flat), step):
        part = flat[start : start + step]
        small = (part.min(axis=1, initial=0) >= 0) & (part.max(axis=1, initial=0) <= 255)
        narrow, wide = part.astype(np.uint8), None if small.all() else part.astype("<i8")
        for i, fits in enumerate(small):
            content = narrow[i] if fits or wide is None else wide[i]
            found.append(hashlib.blake2b(content.tobytes(), digest_size=16, person=b"8" if fits else b"64").digest())
    return found


def check_overlap(
    learned: Iterable[bytes], measured: Iterable[bytes], names: tuple[str, str], allowed: bool, advice: str
) -> Overlap | None:
    """What two data sets have in common, or None.

    Parameters
    ----------
    learned, measured : iterable of bytes
        `digests` of what was learned from and of what an accuracy is measured on.
    names : (str, str)
        Of both.
    allowed : bool
        Say it instead of refusing it.
    advice : str
        What to give instead, for the error.

    Raises
    ------
    ConversionError
        If they have a sample in common and that is not `allowed`.
    """
    known, tested = set(learned), list(measured)
    count = sum(digest in known for digest in tested)
    if not count:
        return None
    found = Overlap(*names, count, len(tested))
    if not allowed:
        raise ConversionError(f"{found}: such an accuracy is not one on unseen data; {advice}")
    return found


def unseen(data: Any, test: Any, allowed: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Whether the data of a training fit together: what of it has to be kept beside its accuracy.

    Parameters
    ----------
    data, test : Dataset, or anything with a `name` and `digests`; with a `maximum` if its codes stand for real values
    allowed : bool
        To learn from what is tested on.
    say : callable
        Called with a line about an overlap that is allowed, and about a scale of the codes that was assumed.

    Returns
    -------
    dict
        ``overlap``, ``input_scale_assumed``: what there is of them.

    Raises
    ------
    ConversionError
        If they have a sample in common and that is not `allowed`, or codes of different worth.
    """
    kept: dict[str, Any] = {}
    maxima = [getattr(each, "maximum", None) for each in (data, test)]
    if maxima[0] != maxima[1]:
        raise ConversionError(
            f"the code of value 1 is {maxima[0]} in {data.name} and {maxima[1]} in {test.name}; store the same "
            "`maximum` in both files"
        )
    if assumed := getattr(data, "assumed", ""):
        say(f"codes are {maxima[0]}ths, assumed: {assumed}")
        kept["input_scale_assumed"] = assumed
    known, tested = (each.digests() for each in (data, test))
    advice = "learn from other data, such as the training part, or allow it (--allow-overlap)"
    found = check_overlap(known, tested, (data.name, test.name), allowed, advice)
    if found is None:
        return kept
    say(f"overlap allowed: {found}; an accuracy is not one on unseen data")
    return kept | {"overlap": found.values()}
