"""Pictures of several digits with a class for every pixel: data for dense prediction, made from single digits.

A canvas three digits wide holds `DIGITS` digits at random places where no stroke touches another, and `FRAGMENTS` cut
out of further digits that belong to the background, as all that is dark does. Everything follows from SplitMix64: the
pictures are the same on every machine.
"""

from __future__ import annotations

import numpy as np

from .splitmix import words

__all__ = ["BACKGROUND", "compose"]

DIGITS = 4  # in each picture, as far as there is room
FRAGMENTS = 3
TRIES = 12  # places tried for a digit
BACKGROUND = 10  # class of all that is no digit
DRAWS = 64  # random words of a picture


class _Dice:
    """Whole numbers from the words of one picture."""

    def __init__(self, words: np.ndarray) -> None:
        self.words, self.used = words, 0

    def below(self, limit: int) -> int:
        word = int(self.words[self.used])
        self.used += 1
        return (word >> 32) * limit >> 32


def compose(images: np.ndarray, labels: np.ndarray, maximum: int, count: int, seed: int):
    """Pictures and the classes of their pixels.

    Parameters
    ----------
    images : (N, 1, H, W) uint8
        Single digits, dark around.
    labels : (N,) int64
        0 to 9.
    maximum : int
        Code of full brightness; a pixel of at least a quarter of it belongs to the stroke.
    count : int
        How many pictures.
    seed : int

    Returns
    -------
    pictures : (count, 1, 3 H, 3 W) uint8
    classes : (count, 3 H, 3 W) int64
        0 to 9 on the strokes of digits, 10 elsewhere.
    """
    height, width = images.shape[2:]
    pictures = np.zeros((count, 1, 3 * height, 3 * width), np.uint8)
    classes = np.full((count, 3 * height, 3 * width), BACKGROUND, np.int64)
    drawn = words(seed, count * DRAWS).reshape(count, DRAWS)
    for picture, kind, row in zip(pictures[:, 0], classes, drawn, strict=True):
        dice = _Dice(row)
        placed = 0
        for _ in range(TRIES):
            if placed == DIGITS:
                break
            which, y, x = dice.below(len(images)), dice.below(2 * height + 1), dice.below(2 * width + 1)
            digit, place = images[which, 0], (slice(y, y + height), slice(x, x + width))
            if (_grown(picture[place] > 0) & (digit > 0)).any():
                continue  # a stroke would touch another
            picture[place] = np.maximum(picture[place], digit)
            kind[place][4 * digit.astype(np.int64) >= maximum] = labels[which]
            placed += 1
        for _ in range(FRAGMENTS):
            which, part = dice.below(len(images)), dice.below(4)
            half = slice(part * height // 4, (part + 1) * height // 4)
            digit = images[which, 0, half]
            y, x = dice.below(3 * height - len(digit) + 1), dice.below(2 * width + 1)
            place = (slice(y, y + len(digit)), slice(x, x + width))
            if not (_grown(picture[place] > 0) & (digit > 0)).any():
                picture[place] = np.maximum(picture[place], digit)
    return pictures, classes


def _grown(mask: np.ndarray) -> np.ndarray:
    """`mask` and all its neighbours, diagonal ones too."""
    wide = np.pad(mask, 1)
    rows = wide[:-2] | wide[1:-1] | wide[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
