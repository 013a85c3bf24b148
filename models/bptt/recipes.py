"""What is trained how on event data: recipes as plain data. Nothing here needs torch.

The publication names neither neuron nor surrogate, steps or networks; those here are our choice: the LIF neuron and the
network family of Fang et al. 2021 (PLIF), whose figures are the usual full-precision references on this kind of data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...errors import FormatError
from ..training.recipes import SIGMOID_KINDS, check_choices, named

__all__ = ["ENDS", "RECIPES", "WEIGHT_KINDS", "Binning", "EventRecipe", "recipe"]

WEIGHT_KINDS = ("float", *SIGMOID_KINDS)
ENDS = ("same", "8-bit", "float")


@dataclass(frozen=True, kw_only=True)
class Binning:
    """Events to frames, as `intsnn.datasets.framing.frames` takes it; the network carries it on to where it runs."""

    steps: int = 6
    bin_us: int = 52_500
    divide: int = 2
    start_us: int | None = 0
    clip: int = 7


@dataclass(frozen=True, kw_only=True)
class EventRecipe:
    """How one event network is trained.

    Attributes
    ----------
    name : str
    data : str
        Name of an event data set (`intsnn.datasets.events`): its training part is learned, its test part measured.
    samples : int, optional
        Learn the first so many recordings only.
    architecture : str
        Name in `intsnn.models.training.architectures`; `width` multiplies its channels.
    binning : Binning
    weight : {"float", "binary", "ternary", "five", "powers", "3-bit", "4-bit"}
        ``"float"`` is the full-precision twin.
    first, last : {"same", "8-bit", "float"}
        Weights of the first and the last layer (the parent code leaves them float; "float" has no integer form).
    float_epochs, epochs : int
        With float weights first, then with quantised ones; the twin trains for the sum of both.
    hard_epochs : int
        In so many of the last epochs the forward pass takes the steps of inference, the gradient the sigmoids.
    rate, float_rate : float
        Learning rates of Adam at the start, with quantised and with float weights; each stage falls to zero along a
        cosine. alpha and beta of the quantisers learn at a fiftieth of it.
    warming : float
        tau rises by so much an epoch (20 in the parent code, over 35 epochs).
    decay : (multiplier, shift)
        The membrane keeps ``multiplier / 2**shift`` of itself each step.
    reset : {"zero", "subtract"}
    surrogate : float
        Sharpness of the arctangent surrogate.
    dropout : float
        Behind the spikes of dense layers; the same for all steps of a sample.
    shift : int
        Frames of a batch are moved by up to so many pixels.
    batch, seed : int
    smoothing : float
        Of the labels.
    fraction_bits : int
        Binary places of a charge in the integer network (`intsnn.models.bptt.integers`).
    note : str
    """

    name: str
    data: str
    samples: int | None = None
    architecture: str = "plif"
    width: float = 1.0
    binning: Binning = Binning()
    weight: str = "binary"
    first: str = "8-bit"
    last: str = "8-bit"
    float_epochs: int = 1
    epochs: int = 2
    hard_epochs: int = 1
    rate: float = 5e-3
    float_rate: float = 5e-3
    warming: float = 100.0
    decay: tuple[int, int] = (3, 2)
    reset: str = "zero"
    surrogate: float = 2.0
    dropout: float = 0.0
    shift: int = 0
    batch: int = 32
    seed: int = 0
    smoothing: float = 0.0
    fraction_bits: int = 8
    note: str = ""

    def __post_init__(self) -> None:
        choices = (
            ("weight", self.weight, WEIGHT_KINDS), ("first", self.first, ENDS), ("last", self.last, ENDS),
            ("reset", self.reset, ("zero", "subtract")),
        )  # fmt: skip
        check_choices(self.name, choices, ", ".join)
        multiplier, shift = self.decay
        if not (0 <= multiplier <= 1 << shift and 0 <= shift <= 8):
            raise FormatError(
                f"recipe {self.name!r}: the decay {multiplier} / 2**{shift} is not within 0 to 1 and 8 bits"
            )
        if self.float_epochs < 0 or self.epochs < 1 or not 0 <= self.hard_epochs <= self.epochs:
            raise FormatError(
                f"recipe {self.name!r}: found {self.float_epochs} + {self.epochs} epochs, of the last "
                f"{self.hard_epochs} hard"
            )
        if not 0 <= self.fraction_bits <= 16:
            raise FormatError(f"recipe {self.name!r}: found {self.fraction_bits} binary places; 0 to 16 are possible")

    @property
    def train_spec(self) -> str:
        """Name of what is learned."""
        return f"{self.data}:train" + (f":{self.samples}" if self.samples else "")

    @property
    def stages(self) -> tuple[tuple[str, int], ...]:
        """Name and epochs of each stage."""
        if self.weight == "float":
            return (("float", self.float_epochs + self.epochs),)
        return (("float", self.float_epochs), (self.weight, self.epochs))[0 if self.float_epochs else 1 :]


_CHOICE = "neuron, surrogate, steps and network are our choice (the publication does not name them)"
_ENDS = "binary weights, 8 bits in the first and last layer"


def _binary(stream: str, data: str, note: str = _ENDS, **options) -> EventRecipe:
    return EventRecipe(name=f"plif-{stream}-binary", data=data, note=f"{note}; {_CHOICE}", **{"width": 0.125} | options)


_SACCADES = _binary(
    "saccades", "mnist-saccades", width=0.25, epochs=5, hard_epochs=2, warming=60.0, batch=64
)  # fmt: skip
_NMNIST = _binary(
    "nmnist", "nmnist", f"{_ENDS}; of N-MNIST whatever is in the folder", float_epochs=5, epochs=10, hard_epochs=3,
    warming=20.0, shift=1,
)  # fmt: skip
_DIGITS = _binary(
    "digits-saccades", "digits-saccades",
    "needs no data folder: streams from the embedded digits; binary weights, 8 bits at the ends",
    float_epochs=4, epochs=8, hard_epochs=2, warming=20.0,
)  # fmt: skip


def _twin(of: EventRecipe) -> EventRecipe:
    return replace(
        of, name=of.name.replace(of.weight, "float"), weight="float", first="same", last="same",
        note=f"the full-precision twin of {of.name}; has no integer form",
    )  # fmt: skip


_ALL = (
    _SACCADES,
    _twin(_SACCADES),
    replace(
        _SACCADES, name="plif-saccades-binary-all", first="same", last="same",
        note=f"binary weights in every layer; {_CHOICE}",
    ),
    replace(
        _SACCADES, name="plif-saccades-ternary", weight="ternary",
        note=f"ternary weights, 8 bits in the first and last layer; {_CHOICE}",
    ),
    _NMNIST,
    _twin(_NMNIST),
    _DIGITS,
    _twin(_DIGITS),
)  # fmt: skip

RECIPES: dict[str, EventRecipe] = {each.name: each for each in _ALL}


def recipe(name: str, **changes) -> EventRecipe:
    """The recipe called `name`, with fields replaced by `changes`.

    Raises
    ------
    DataNotFoundError
        If there is none of that name.
    """
    return named(RECIPES, name, changes)
