"""What is trained how: recipes as plain data, one for each network that can be made again.

A recipe names its data, its network, its quantisers and its stages; together with the seed it decides every number of
the result. Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...errors import DataNotFoundError, FormatError

__all__ = ["RECIPES", "Recipe", "Stage", "recipe"]

ACTIVATION_KINDS = ("lsq", "clip", "power-of-two", "free")
SIGMOID_KINDS = ("binary", "ternary", "five", "powers", "3-bit", "4-bit")  # level sets of the differentiable function
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
        Name in `intsnn.models.architectures_trained`; `width` multiplies its channels.
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
        for field, found, allowed in (
            ("activation", self.activation, ACTIVATION_KINDS),
            ("weight", self.weight, WEIGHT_KINDS),
            ("ends", self.ends, (None, *WEIGHT_KINDS)),
            ("augmentation", self.augmentation, AUGMENTATIONS),
            ("method", self.method, METHODS),
        ):
            if found not in allowed:
                raise FormatError(f"recipe {self.name!r}: {field} is {found!r}; choose one of {allowed}")
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


def _calif(name: str, scales: str, weights: int, activations: int, epochs: tuple[int, int], **options) -> Recipe:
    return Recipe(
        name=name, method="ca-lif", activation=scales, weight=scales, note=_CALIF.format(scales),
        stages=(_float(epochs[0]), _both(weights, activations, epochs[1], 0.01, decay=1e-4, merge=True)), **options,
    )  # fmt: skip


def _vgg_cifar(name: str, activations: int) -> Recipe:
    """Widths of activations 4, 3, 2 one after the other, down to `activations`."""
    stages = (
        _float(8, 0.1),
        _both(4, 4, 3, 0.04, 8, decay=1e-4),
        _both(4, 3, 3, 0.04, 8, decay=1e-4),
        _both(4, 2, 5, 0.04, 8, decay=1e-4),
    )
    return Recipe(
        name=name, data="cifar10-jpeg", architecture="vgg11", width=0.375, method="fast-snn", activation="clip",
        weight="apot", ends="max", augmentation="shift-flip", channels_last=True, note=_FAST,
        stages=stages[: 6 - activations],
    )  # fmt: skip


_ALL = (
    Recipe(
        name="lenet-mnist-qffs",
        data="mnist",
        architecture="lenet",
        method="qffs",
        augmentation="affine",
        stages=(_float(3), _both(4, 2, 17, 0.02, decay=1e-4)),
        note=_QFFS,
    ),
    Recipe(
        name="lenet-fashion-qffs",
        data="fashion-mnist",
        architecture="lenet",
        method="qffs",
        augmentation="shift-flip",
        channels_last=True,
        stages=(
            _float(4), _both(4, 2, 16, 0.02, decay=1e-4), _both(4, 2, 8, 0.01, decay=1e-4, augmentation="none"),
        ),
        note=_QFFS,
    ),
    Recipe(
        name="lenet-mnist-fast",
        data="mnist",
        architecture="lenet",
        method="fast-snn",
        activation="clip",
        weight="apot",
        ends="max",
        augmentation="affine",
        channels_last=True,
        stages=(
            _float(5, 0.1),
            _both(4, 4, 5, 0.04, 8, decay=1e-4),
            _both(3, 3, 5, 0.04, 8, decay=1e-4),
            _both(2, 2, 10, 0.04, 8, decay=3e-5),
        ),
        note=_FAST,
    ),
    _calif("lenet-mnist-ca-lif", "power-of-two", 4, 3, (5, 10), data="mnist", architecture="lenet", width=0.5,
           augmentation="affine", channels_last=True),
    Recipe(
        name="segments-fast",
        data="digits-segments",
        architecture="hourglass",
        method="fast-snn",
        activation="clip",
        weight="apot",
        ends="max",
        batch=32,
        channels_last=True,
        stages=(_float(10, 0.1), _both(4, 4, 4, 0.04, 8, decay=1e-4), _both(4, 3, 5, 0.04, 8, decay=1e-4)),
        note=_FAST + "; data and network are our own",
    ),
    _vgg_cifar("vgg11-cifar-fast-t7", 3),
    _vgg_cifar("vgg11-cifar-fast", 2),
    Recipe(
        name="digits-qffs",
        data="digits",
        architecture="convnet",
        method="qffs",
        batch=32,
        augmentation="affine",
        stages=(_float(20), _both(4, 2, 40, 0.02, decay=1e-4)),
        note=_QFFS,
    ),
    Recipe(
        name="digits-fast",
        data="digits",
        architecture="convnet",
        method="fast-snn",
        activation="clip",
        weight="apot",
        ends="max",
        batch=32,
        augmentation="affine",
        stages=(
            _float(20),
            _both(4, 4, 15, 0.04, 8, decay=1e-4),
            _both(3, 3, 15, 0.04, 8, decay=1e-4),
            _both(2, 2, 25, 0.04, 8, decay=3e-5),
        ),
        note=_FAST,
    ),
    _calif("digits-ca-lif", "power-of-two", 4, 4, (20, 30), data="digits", architecture="convnet", batch=32,
           augmentation="affine"),
    _calif("digits-ca-lif-free", "free", 4, 3, (20, 30), data="digits", architecture="convnet", batch=32,
           augmentation="affine"),
    Recipe(
        name="digits-binary",
        data="digits",
        architecture="convnet",
        method="fast-snn",
        weight="binary",
        ends="max",
        batch=32,
        augmentation="affine",
        stages=(_float(20), _both(1, 3, 40, 0.02, 8, decay=0.0)),
        note=_SIGMOID,
    ),
    Recipe(
        name="digits-ternary",
        data="digits",
        architecture="convnet",
        method="fast-snn",
        weight="ternary",
        ends="max",
        batch=32,
        augmentation="affine",
        stages=(_float(20), _both(2, 2, 40, 0.02, 8, decay=0.0)),
        note=_SIGMOID,
    ),
)  # fmt: skip

RECIPES: dict[str, Recipe] = {found.name: found for found in _ALL}


def recipe(name: str, **changes) -> Recipe:
    """The recipe called `name`, with fields replaced by `changes`.

    Raises
    ------
    DataNotFoundError
        If there is none of that name.
    """
    if name not in RECIPES:
        raise DataNotFoundError(f"there is no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return replace(RECIPES[name], **changes)
