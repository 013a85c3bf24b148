"""Named architectures: published networks by their sizes alone, for counting memory without weights.

Sizes follow from kernels, padding and pools; the numbers that a publication prints are in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..analysis.memory.formulas import BASE_WIDTHS, Architecture, Sizes
from ..errors import DataNotFoundError

__all__ = ["ARCHITECTURES", "architecture"]

CLASSES = 11  # DVS128 Gesture
VGG11 = (64, 128, 256, 256, 512, 512, 512, 512)
VGG11_POOLED = (0, 1, 3, 5)  # a 2x2 pool follows these
FLOAT = MappingProxyType({"W": 32})


def decolle_dvsgesture() -> Architecture:
    """Three convolutions 7x7 with padding 2 on 2x32x32 events, each with its own fixed readout; biases on."""
    channels, size, layers = 2, 32, []
    for number, (width, pool) in enumerate(((64, 2), (128, 1), (128, 2)), 1):
        side = size + 2 * 2 - 7 + 1
        pooled = side // pool
        inputs = channels * size * size
        layers.append(
            Sizes(
                name=f"layer{number}",
                weights=channels * width * 7 * 7,
                biases=width,
                inputs=inputs,
                neurons=width * side * side,
                outputs=width * pooled * pooled,
                published_outputs=1440 if number == 1 else None,  # printed with one digit too few
                classes=CLASSES,
                events=inputs if number == 1 else 0,
            )
        )
        channels, size = width, pooled
    return Architecture(
        name="decolle-dvsgesture",
        source="Schaefer & Joshi, ICONS 2020, doi 10.1145/3407197.3407203",
        layers=tuple(layers),
        widths=BASE_WIDTHS,
        convention="schaefer-joshi",
    )


def vgg11_binary() -> Architecture:
    """VGG-11 with one-bit weights, first convolution and classifier in FP32, no biases.

    Input 3x32x32, pools of 2x2 behind the layers of `VGG11_POOLED`, global average, 10 classes. Pools and input matter
    for states only, which are counted where a width U is given: the publications do not name one.
    """
    channels, size, layers = 3, 32, []
    for number, width in enumerate(VGG11):
        pooled = size // 2 if number in VGG11_POOLED else size
        layers.append(
            Sizes(
                name=f"conv{number + 1}",
                weights=channels * width * 3 * 3,
                inputs=channels * size * size,
                neurons=width * size * size,
                outputs=width * pooled * pooled,
                events=channels * size * size if number == 0 else 0,
                widths=FLOAT if number == 0 else {},
            )
        )
        channels, size = width, pooled
    layers.append(
        Sizes("classifier", weights=channels * 10, inputs=channels, neurons=10, outputs=10, widths=FLOAT | {"U": 0})
    )
    return Architecture(
        name="vgg11-binary",
        source="check network of the binary-weight convention (Shymyrbay, Fouda & Eltawil, IJCNN 2023, "
        "arXiv 2305.19295)",
        layers=tuple(layers),
        widths=MappingProxyType({"W": 1}),
        convention="binary-weight",
    )


def _recipe(name: str, shape: tuple[int, ...]) -> Callable[[], Architecture]:
    """The network of a recipe of integer learning, with ten classes, at the widths of the recipe."""

    def make() -> Architecture:
        from ..learning.memory import architecture_of
        from ..learning.rule import LearningNetwork
        from .learning.decolle_recipes import RECIPES

        chosen = RECIPES[name]
        network = LearningNetwork(shape, chosen.layers, 10, chosen.rule)
        return architecture_of(network, name, f"recipe {name} of intsnn train")

    return make


ARCHITECTURES: Mapping[str, Callable[[], Architecture]] = MappingProxyType(
    {
        "decolle-dvsgesture": decolle_dvsgesture,
        "vgg11-binary": vgg11_binary,
        "decolle-nmnist": _recipe("decolle-nmnist", (2, 17, 17)),
        "decolle-mnist-saccades": _recipe("decolle-mnist-saccades", (2, 17, 17)),
        "decolle-digits": _recipe("decolle-digits", (1, 8, 8)),
    }
)


def architecture(name: str) -> Architecture:
    """The architecture of that name; `DataNotFoundError` lists the names if there is none."""
    if name not in ARCHITECTURES:
        raise DataNotFoundError(f"{name!r} is no named architecture; there are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]()
