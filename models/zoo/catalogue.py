"""Networks that come with the project: trained by its own code, converted, packed, each with a card of what it reaches.

``zoo:NAME`` stands for the file wherever a network file is taken. How an entry is made is in `intsnn.models.zoo.entry`.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ...errors import DataNotFoundError, ImportRefused
from ...formats.arguments import path_of, text

__all__ = ["Card", "PREFIX", "card", "cards", "find"]

PREFIX = "zoo:"
FOLDER = Path(__file__).parent / "networks"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known about a network of the zoo; accuracies in per cent of all `samples`.

    Attributes
    ----------
    name, description : str
    data : str
        What it was measured on: ``intsnn run zoo:NAME --data DATA`` gives `accuracy` exactly.
    recipe, command : str
        How it was trained.
    seed : int
    architecture, method : str
    weight_bits, end_bits, activation_bits : int
        Of the weights, of those of the first and last layer, of the activations.
    t_drive : int
    float_accuracy : float or None
        Of the float network that training started from, in torch. Event networks (`method` ``"bptt"``): of the twin
        with float weights, trained for as many epochs.
    quantised_accuracy : float
        Of the fake-quantised network in torch.
    ann_accuracy : float or None
        Of the integer quantised ANN; event networks have none.
    accuracy : float
        Of the settled spikes; of event networks after the last frame.
    accuracy_drive : float
        Of the spikes after T_drive steps.
    samples, extra_steps : int
    mismatches, compared : int
        Neurons of the settled network, over all samples, that differ from the integer ANN; and how many there are.
        Event networks: spikes of 100 streams that differ from the same integers in torch.
    torch_differing : tuple of int
        How many of the levels, or of those spikes, differ from the float network of torch in float32, and in float64.
    first_right : int
        Right among the first 100 samples.
    memory : dict of str to int
        ``weights`` (number), ``weight_bytes`` (packed), ``float_bytes`` (the same in float32), ``file_bytes``.
    mean_iou : float or None
        Of the settled spikes, in per cent, where every pixel has a class; accuracies are those of pixels then.
    seconds : float
        Of training on one CPU thread.
    sha256 : str
        Of the file.
    note : str
    """

    name: str
    description: str
    data: str
    recipe: str
    command: str
    seed: int
    architecture: str
    method: str
    weight_bits: int
    end_bits: int
    activation_bits: int
    t_drive: int
    float_accuracy: float | None
    quantised_accuracy: float
    ann_accuracy: float | None
    accuracy: float
    accuracy_drive: float
    samples: int
    extra_steps: int
    mismatches: int
    compared: int
    torch_differing: tuple[int, int]
    first_right: int
    memory: dict[str, int] = field(default_factory=dict)
    mean_iou: float | None = None
    seconds: float = 0.0
    sha256: str = ""
    note: str = ""

    def values(self) -> dict[str, Any]:
        """Plain values, as the card is kept."""
        return asdict(self) | {"torch_differing": list(self.torch_differing)}


def find(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The file of ``zoo:NAME``; any other path as it is.

    Raises
    ------
    DataNotFoundError
        If the zoo has none of that name.
    """
    if not path_of(path).startswith(PREFIX) or not isinstance(path, str):
        return path
    name = path.removeprefix(PREFIX)
    known = names()
    if name not in known:
        raise DataNotFoundError(f"there is no network {path!r}; the zoo has {', '.join(known) or 'none'}")
    return str(FOLDER / f"{name}.h5")


def names() -> tuple[str, ...]:
    """Names of all networks, in order."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.json"))) if FOLDER.is_dir() else ()


def card(name: str) -> Card:
    """The card of a network.

    Raises
    ------
    DataNotFoundError
        If there is none of that name.
    ImportRefused
        If the card is damaged.
    """
    find(PREFIX + text(name, "name"))
    file = FOLDER / f"{name}.json"
    try:
        values = json.loads(file.read_text("utf-8"))
        return Card(**values | {"torch_differing": tuple(values["torch_differing"])})
    except (ValueError, TypeError, KeyError) as error:
        expected = ", ".join(item.name for item in fields(Card))
        raise ImportRefused(f"{file} is no card with the fields {expected}: {error}", code="json") from error


def cards() -> tuple[Card, ...]:
    """All cards, by name."""
    return tuple(card(name) for name in names())
