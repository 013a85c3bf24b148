"""What is trained how: recipes as plain data, one for each network that can be made again.

A recipe names its data, its network, its quantisers and its stages; together with the seed it decides every number of
the result. Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import FormatError
from ..training.recipes import SIGMOID_KINDS, check_choices, named

__all__ = ["RECIPES", "Recipe", "Stage", "recipe"]

ACTIVATION_KINDS = ("lsq", "clip", "power-of-two", "free")
TOOLKIT_KINDS = ("power-of-two", "free")  # of Brevitas
WEIGHT_KINDS = ("symmetric", "symmetric-tensor", "apot", "max", *SIGMOID_KINDS, *TOOLKIT_KINDS)
AUGMENTATIONS = ("none", "affine", "shift-flip")
METHODS = ("fast-snn", "qffs", "ca-lif")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run of the optimiser at fixed widths.

    Attributes
    ----------
    name : str
    weight_bits, activation_bits, end_bits : int or None
        None: float. `end_bits` are for the first and the last layer with weights (default: `weight_bits`).
    epochs : int
    rate : float
        Learning rate at its start.
    drops : tuple of int
        Epochs after which the rate is divided by ten; without any it falls to zero along a cosine.
    decay : float
        Weight decay of the weights (none on scales, biases and BatchNorm).
    merge : bool
        Fold the BatchNorms into the weights before this stage, and train without them.
    augmentation : str or None
        Another one than that of the recipe.
    """

    name: str
    epochs: int
    rate: float
    weight_bits: int | None = None
    activation_bits: int | None = None
    end_bits: int | None = None
    drops: tuple[int, ...] = ()
    decay: float = 5e-4
    merge: bool = False
    augmentation: str | None = None

    def __post_init__(self) -> None:
        if self.augmentation not in (None, *AUGMENTATIONS):
            raise FormatError(
                f"stage {self.name!r}: augmentation is {self.augmentation!r}; choose one of {AUGMENTATIONS}"
            )
        if self.epochs < 1 or not self.rate > 0:
            raise FormatError(f"stage {self.name!r}: found {self.epochs} epochs at rate {self.rate}; both are positive")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one network is trained.

    Attributes
    ----------
    name : str
    data : str
        Name of a data set; its training part is learned, its test part measured once at the end of each stage.
    architecture : str
        Name in `intsnn.models.training.architectures`; `width` multiplies its channels.
    method : {"fast-snn", "qffs", "ca-lif"}
        Neuron that the network is converted to.
    activation, weight, ends : str
        Quantisers of activations, weights, and the weights of the first and last layer (default: `weight`).
    step_elements : {"batch", "all"}
        Over what the gradient of an LSQ step is normalised.
    stages : tuple of Stage
        Each starts from what the one before has learned.
    batch : int
    momentum : float
    augmentation : {"none", "affine", "shift-flip"}
    smoothing : float
        Label smoothing.
    channels_last : bool
        Memory layout in torch: faster for large images. Part of a recipe because it decides the order of sums.
    seed : int
    note : str
        Where the settings are from, and which of them are ours.
    """

    name: str
    data: str
    architecture: str
    stages: tuple[Stage, ...]
    method: str = "fast-snn"
    width: float = 1.0
    activation: str = "lsq"
    weight: str = "symmetric"
    ends: str | None = None
    step_elements: str = "batch"
    batch: int = 128
    momentum: float = 0.9
    augmentation: str = "none"
    smoothing: float = 0.0
    channels_last: bool = False
    seed: int = 1
    note: str = ""

    def __post_init__(self) -> None:
        choices = (
            ("activation", self.activation, ACTIVATION_KINDS),
            ("weight", self.weight, WEIGHT_KINDS),
            ("ends", self.ends, (None, *WEIGHT_KINDS)),
            ("augmentation", self.augmentation, AUGMENTATIONS),
            ("method", self.method, METHODS),
        )
        check_choices(self.name, choices)
        if not self.stages or self.batch < 2:
            raise FormatError(f"recipe {self.name!r}: it needs a stage, and batches of two samples or more")

    @property
    def epochs(self) -> int:
        """Of all stages together."""
        return sum(stage.epochs for stage in self.stages)


def _float(epochs: int, rate: float = 0.05, **options) -> Stage:
    return Stage(name="float", epochs=epochs, rate=rate, **options)


def _both(weights: int, activations: int, epochs: int, rate: float, ends: int | None = None, **options) -> Stage:
    return Stage(
        name=f"w{weights} a{activations}", weight_bits=weights, activation_bits=activations, end_bits=ends,
        epochs=epochs, rate=rate, **options,
    )  # fmt: skip


_QFFS = "LSQ activations as in Li et al. 2022; weight bits, rates, epochs and augmentation are our choice"
_FAST = (
    "learned clip and APoT weights, 8 bits in the first and last layer, widths lowered stage by stage, as Hu et al. "
    "2023 publish them; rates and epochs are scaled down to the data"
)
_CALIF = (
    "Brevitas, BatchNorm merged first, {} scales exported as they are, after Gao et al. 2023; their toolkit, widths "
    "and rates are not public: these are our choice"
)
_SIGMOID = (
    "weights by the differentiable quantisation function of Shymyrbay et al. 2023, its temperature and offsets as "
    "there, 8 bits in the first and last layer; the activations (LSQ), rates and epochs are our choice"
)


_DIGITS: dict[str, Any] = {"data": "digits", "architecture": "convnet", "batch": 32, "augmentation": "affine"}


def _calif(name: str, scales: str, weights: int, activations: int, epochs: tuple[int, int], **options) -> Recipe:
    return Recipe(
        name=name, method="ca-lif", activation=scales, weight=scales, note=_CALIF.format(scales),
        stages=(_float(epochs[0]), _both(weights, activations, epochs[1], 0.01, decay=1e-4, merge=True)), **options,
    )  # fmt: skip


def _qffs(name: str, data: str, architecture: str, stages: tuple[Stage, ...], **options) -> Recipe:
    return Recipe(name=name, data=data, architecture=architecture, method="qffs", stages=stages, note=_QFFS, **options)


def _fast(name: str, data: str, architecture: str, stages: tuple[Stage, ...], note: str = "", **options) -> Recipe:
    return Recipe(
        name=name, data=data, architecture=architecture, method="fast-snn", activation="clip", weight="apot",
        ends="max", stages=stages, note=_FAST + note, **options,
    )  # fmt: skip


def _vgg_cifar(name: str, activations: int) -> Recipe:
    """Widths of activations 4, 3, 2 one after the other, down to `activations`."""
    stages = (
        _float(8, 0.1),
        _both(4, 4, 3, 0.04, 8, decay=1e-4),
        _both(4, 3, 3, 0.04, 8, decay=1e-4),
        _both(4, 2, 5, 0.04, 8, decay=1e-4),
    )
    return _fast(
        name, "cifar10-jpeg", "vgg11", stages[: 6 - activations], width=0.375, augmentation="shift-flip",
        channels_last=True,
    )  # fmt: skip


def _sigmoid(weight: str, weights: int, activations: int) -> Recipe:
    return Recipe(
        name=f"digits-{weight}", method="fast-snn", weight=weight, ends="max", note=_SIGMOID,
        stages=(_float(20), _both(weights, activations, 40, 0.02, 8, decay=0.0)), **_DIGITS,
    )  # fmt: skip


_ALL = (
    _qffs(
        "lenet-mnist-qffs", "mnist", "lenet", (_float(3), _both(4, 2, 17, 0.02, decay=1e-4)), augmentation="affine",
    ),
    _qffs(
        "lenet-fashion-qffs", "fashion-mnist", "lenet",
        (_float(4), _both(4, 2, 16, 0.02, decay=1e-4), _both(4, 2, 8, 0.01, decay=1e-4, augmentation="none")),
        augmentation="shift-flip", channels_last=True,
    ),
    _fast(
        "lenet-mnist-fast", "mnist", "lenet",
        (
            _float(5, 0.1),
            _both(4, 4, 5, 0.04, 8, decay=1e-4),
            _both(3, 3, 5, 0.04, 8, decay=1e-4),
            _both(2, 2, 10, 0.04, 8, decay=3e-5),
        ),
        augmentation="affine", channels_last=True,
    ),
    _calif("lenet-mnist-ca-lif", "power-of-two", 4, 3, (5, 10), data="mnist", architecture="lenet", width=0.5,
           augmentation="affine", channels_last=True),
    _fast(
        "segments-fast", "digits-segments", "hourglass",
        (_float(10, 0.1), _both(4, 4, 4, 0.04, 8, decay=1e-4), _both(4, 3, 5, 0.04, 8, decay=1e-4)),
        "; data and network are our own", batch=32, channels_last=True,
    ),
    _vgg_cifar("vgg11-cifar-fast-t7", 3),
    _vgg_cifar("vgg11-cifar-fast", 2),
    _qffs("digits-qffs", stages=(_float(20), _both(4, 2, 40, 0.02, decay=1e-4)), **_DIGITS),
    _fast(
        "digits-fast",
        stages=(
            _float(20),
            _both(4, 4, 15, 0.04, 8, decay=1e-4),
            _both(3, 3, 15, 0.04, 8, decay=1e-4),
            _both(2, 2, 25, 0.04, 8, decay=3e-5),
        ),
        **_DIGITS,
    ),
    _calif("digits-ca-lif", "power-of-two", 4, 4, (20, 30), **_DIGITS),
    _calif("digits-ca-lif-free", "free", 4, 3, (20, 30), **_DIGITS),
    _sigmoid("binary", 1, 3),
    _sigmoid("ternary", 2, 2),
)  # fmt: skip

RECIPES: dict[str, Recipe] = {each.name: each for each in _ALL}


def recipe(name: str, **changes) -> Recipe:
    """The recipe called `name`, with fields replaced by `changes`.

    Raises
    ------
    DataNotFoundError
        If there is none of that name.
    """
    return named(RECIPES, name, changes)
