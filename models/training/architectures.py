"""Reference networks for training, each at any width and for any input size that it fits.

`width` multiplies the channels of hidden layers. No layer is larger than its publication has it at width 1.
"""

from __future__ import annotations

from collections.abc import Callable

from ...errors import DataNotFoundError, FormatError, ShapeError
from .blueprint import (
    Add,
    AvgPool,
    Blueprint,
    Chain,
    Conv,
    ConvTranspose,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    Relu,
    Shape,
    Upsample,
)

__all__ = [
    "BLUEPRINTS", "alexnet", "blueprint", "convnet", "hourglass", "lenet", "plif", "resnet18", "resnet20", "vgg11",
    "vgg16",
]  # fmt: skip

VGG = {
    11: (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    16: (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"),
}


def _scaled(channels: int, width: float) -> int:
    if width <= 0:
        raise FormatError(f"width: found {width}; it has to be positive")
    return max(1, round(channels * width))


def _conv(chain: Chain, name: str, outputs: int, kernel: int, **options) -> str:
    """Convolution, BatchNorm, ReLU."""
    chain.add(Conv, name, outputs=outputs, kernel=kernel, **options)
    return chain.add(Relu, f"{name}_relu")


def _dense(chain: Chain, name: str, outputs: int) -> str:
    chain.add(Dense, name, outputs=outputs)
    return chain.add(Relu, f"{name}_relu")


def lenet(input_shape: Shape = (1, 28, 28), classes: int = 10, width: float = 1.0) -> Blueprint:
    """LeNet with max-pools: conv5x5 32, pool, conv5x5 64, pool, dense 256, dense (LeCun et al. 1998, wider)."""
    chain = Chain()
    for number, outputs in enumerate((32, 64), 1):
        _conv(chain, f"conv{number}", _scaled(outputs, width), 5)
        chain.add(MaxPool, f"pool{number}", kernel=2, stride=2)
    chain.add(Flatten, "flatten")
    _dense(chain, "dense1", _scaled(256, width))
    chain.add(Dense, "classes", outputs=classes, norm=False)
    return Blueprint("lenet", input_shape, tuple(chain.layers))


def convnet(input_shape: Shape = (1, 8, 8), classes: int = 10, width: float = 1.0) -> Blueprint:
    """Small network for small images: conv3x3 16, conv3x3 32, pool, dense 64, dense. Our own, no publication's."""
    chain = Chain()
    _conv(chain, "conv1", _scaled(16, width), 3, padding=1)
    _conv(chain, "conv2", _scaled(32, width), 3, padding=1)
    chain.add(MaxPool, "pool", kernel=2, stride=2)
    chain.add(Flatten, "flatten")
    _dense(chain, "dense1", _scaled(64, width))
    chain.add(Dense, "classes", outputs=classes, norm=False)
    return Blueprint("convnet", input_shape, tuple(chain.layers))


def _vgg(depth: int, input_shape: Shape, classes: int, width: float) -> Blueprint:
    chain, number, pools = Chain(), 0, 0
    size = min(input_shape[1:])
    for item in VGG[depth]:
        if isinstance(item, str):  # "M"
            if size >= 2:  # small inputs keep the last pools out
                pools += 1
                chain.add(MaxPool, f"pool{pools}", kernel=2, stride=2)
                size //= 2
        else:
            number += 1
            _conv(chain, f"conv{number}", _scaled(item, width), 3, padding=1)
    if size > 1:
        chain.add(AvgPool, "average")
    chain.add(Flatten, "flatten")
    chain.add(Dense, "classes", outputs=classes, norm=False)
    return Blueprint(f"vgg{depth}", input_shape, tuple(chain.layers))


def vgg11(input_shape: Shape = (3, 32, 32), classes: int = 10, width: float = 1.0) -> Blueprint:
    """VGG-11 with BatchNorm and one dense layer (Simonyan & Zisserman 2015, the form used on CIFAR-10)."""
    return _vgg(11, input_shape, classes, width)


def vgg16(input_shape: Shape = (3, 32, 32), classes: int = 10, width: float = 1.0) -> Blueprint:
    """VGG-16 with BatchNorm and one dense layer (Simonyan & Zisserman 2015, the form used on CIFAR-10)."""
    return _vgg(16, input_shape, classes, width)


def _block(chain: Chain, name: str, channels: int, stride: int, shortcut: bool) -> None:
    """Two convolutions beside an identity or a 1x1 convolution."""
    start = chain.last
    _conv(chain, f"{name}a", channels, 3, stride=stride, padding=1)
    main = chain.add(Conv, f"{name}b", outputs=channels, kernel=3, padding=1)
    skip = start
    if shortcut:
        skip = chain.add(Conv, f"{name}s", (start,), outputs=channels, kernel=1, stride=stride)
    chain.add(Add, f"{name}_add", (main, skip))
    chain.add(Relu, f"{name}_relu")


def _resnet(name: str, stages, input_shape: Shape, classes: int, width: float) -> Blueprint:
    chain = Chain()
    channels = _scaled(stages[0][0], width)
    _conv(chain, "conv1", channels, 3, padding=1)
    for number, (outputs, blocks) in enumerate(stages, 1):
        for block in range(blocks):
            stride = 2 if number > 1 and block == 0 else 1
            outgoing = _scaled(outputs, width)
            _block(chain, f"block{number}_{block + 1}", outgoing, stride, stride > 1 or outgoing != channels)
            channels = outgoing
    chain.add(AvgPool, "average")
    chain.add(Flatten, "flatten")
    chain.add(Dense, "classes", outputs=classes, norm=False)
    return Blueprint(name, input_shape, tuple(chain.layers))


def resnet18(input_shape: Shape = (3, 32, 32), classes: int = 10, width: float = 1.0) -> Blueprint:
    """ResNet-18 as it is used on CIFAR-10: 3x3 stem, no pool, four stages of two blocks (He et al. 2016)."""
    return _resnet("resnet18", ((64, 2), (128, 2), (256, 2), (512, 2)), input_shape, classes, width)


def resnet20(input_shape: Shape = (3, 32, 32), classes: int = 10, width: float = 1.0) -> Blueprint:
    """ResNet-20: three stages of three blocks; 1x1 convolutions where the size changes (He et al. 2016, form B)."""
    return _resnet("resnet20", ((16, 3), (32, 3), (64, 3)), input_shape, classes, width)


def alexnet(input_shape: Shape = (3, 32, 32), classes: int = 10, width: float = 1.0) -> Blueprint:
    """AlexNet in the form that Fast-SNN trains on CIFAR-10: five 3x3 convolutions, strides in place of pools."""
    chain = Chain()
    for number, (outputs, stride) in enumerate(((96, 1), (256, 2), (384, 2), (384, 2), (256, 1)), 1):
        _conv(chain, f"conv{number}", _scaled(outputs, width), 3, stride=stride, padding=1)
    chain.add(Flatten, "flatten")
    for number in (1, 2):
        chain.add(Dropout, f"dropout{number}", rate=0.2)
        _dense(chain, f"dense{number}", _scaled(1024, width))
    chain.add(Dense, "classes", outputs=classes, norm=False)
    return Blueprint("alexnet", input_shape, tuple(chain.layers))


def plif(input_shape: Shape = (2, 34, 34), classes: int = 10, width: float = 1.0) -> Blueprint:
    """Event-camera network after Fang et al. 2021 (PLIF), N-MNIST form.

    Two 3x3 convolutions of 128 channels, each with a max-pool, a dense layer of 2048, and the classes.
    """
    chain = Chain()
    for number in (1, 2):
        _conv(chain, f"conv{number}", _scaled(128, width), 3, padding=1)
        chain.add(MaxPool, f"pool{number}", kernel=2, stride=2)
    chain.add(Flatten, "flatten")
    chain.add(Dropout, "dropout1", rate=0.5)
    _dense(chain, "dense1", _scaled(2048, width))
    chain.add(Dropout, "dropout2", rate=0.5)
    chain.add(Dense, "classes", outputs=classes, norm=False)
    return Blueprint("plif", input_shape, tuple(chain.layers))


def hourglass(input_shape: Shape = (1, 24, 24), classes: int = 11, width: float = 1.0) -> Blueprint:
    """A class for every pixel; height and width have to be divisible by four. Our own, no publication's.

    conv3x3 16, max-pool, conv3x3 32, max-pool, conv3x3 64 twice, nearest upsampling, conv3x3 32, transposed conv4x4 of
    stride 2 to 32, 1x1 classes.
    """
    if len(input_shape) != 3 or input_shape[1] % 4 or input_shape[2] % 4:
        raise ShapeError(f"hourglass: found input {input_shape}; images of 4 n x 4 m pixels are needed")
    chain = Chain()
    _conv(chain, "conv1", _scaled(16, width), 3, padding=1)
    chain.add(MaxPool, "pool1", kernel=2, stride=2)
    _conv(chain, "conv2", _scaled(32, width), 3, padding=1)
    chain.add(MaxPool, "pool2", kernel=2, stride=2)
    _conv(chain, "conv3", _scaled(64, width), 3, padding=1)
    _conv(chain, "conv4", _scaled(64, width), 3, padding=1)
    chain.add(Upsample, "upsample", factor=2)
    _conv(chain, "conv5", _scaled(32, width), 3, padding=1)
    chain.add(ConvTranspose, "enlarge", outputs=_scaled(32, width), kernel=4, stride=2, padding=1)
    chain.add(Relu, "enlarge_relu")
    chain.add(Conv, "classes", outputs=classes, kernel=1, norm=False)
    return Blueprint("hourglass", input_shape, tuple(chain.layers))


BLUEPRINTS: dict[str, Callable[..., Blueprint]] = {
    make.__name__: make for make in (convnet, lenet, vgg11, vgg16, resnet18, resnet20, alexnet, plif, hourglass)
}


def blueprint(name: str, **options) -> Blueprint:
    """The architecture called `name`, with `input_shape`, `classes` and `width` as options.

    Raises
    ------
    DataNotFoundError
        If there is none of that name.
    ShapeError, FormatError
        If the sizes do not fit.
    """
    if name not in BLUEPRINTS:
        raise DataNotFoundError(f"there is no architecture {name!r} to train; choose one of {', '.join(BLUEPRINTS)}")
    return BLUEPRINTS[name](**options)
