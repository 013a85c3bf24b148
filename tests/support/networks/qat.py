"""Small networks with random weights for the tests of training; torch has to be there."""

import pytest
import torch

from intsnn.models.qat.network import QuantNetwork
from intsnn.models.qat.quantisers.activations import ClipReLU, LsqReLU
from intsnn.models.qat.quantisers.sigmoids import SigmoidWeight
from intsnn.models.qat.quantisers.weights import ApotWeight, MaxWeight, SymmetricWeight
from intsnn.models.training.blueprint import (
    Add,
    AvgPool,
    Blueprint,
    Chain,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    Relu,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For a test file that imports it: torch uses one thread, as its results belong to a number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(input_shape=(1, 8, 8), classes=10, width=1.0):
    chain = Chain()
    chain.add(Conv, "conv", outputs=8, kernel=3, padding=1)
    chain.add(Relu, "conv_relu")
    chain.add(MaxPool, "pool", kernel=2, stride=2)
    chain.add(Flatten, "flatten")
    chain.add(Dropout, "dropout", rate=0.1)
    chain.add(Dense, "dense", outputs=24)
    chain.add(Relu, "dense_relu")
    chain.add(Dense, "classes", outputs=classes, norm=False)
    return Blueprint("tiny", input_shape, tuple(chain.layers))


def joined(input_shape=(2, 9, 9)):
    """A residual block with a 1x1 branch, one with an identity, strides, padding, an average, groups."""
    chain = Chain()
    chain.add(Conv, "stem", outputs=6, kernel=3, padding=1)
    chain.add(Relu, "stem_relu")
    chain.add(Conv, "a", outputs=6, kernel=3, stride=2, padding=1, groups=2)
    chain.add(Relu, "a_relu")
    chain.add(Conv, "b", outputs=6, kernel=3, padding=1)
    chain.add(Conv, "skip", ("stem_relu",), outputs=6, kernel=1, stride=2)
    chain.add(Add, "join", ("b", "skip"))
    chain.add(Relu, "join_relu")
    chain.add(Conv, "c", outputs=6, kernel=3, padding=1)
    chain.add(Add, "again", ("c", "join_relu"))
    chain.add(Relu, "again_relu")
    chain.add(AvgPool, "average")
    chain.add(Flatten, "flatten")
    chain.add(Dense, "classes", outputs=5, norm=False)
    return Blueprint("joined", input_shape, tuple(chain.layers))


KINDS = {
    "lsq symmetric": (LsqReLU, lambda layer: SymmetricWeight(layer.outputs, layer.norm), None, 4),
    "clip apot": (ClipReLU, lambda layer: ApotWeight(), lambda layer: MaxWeight(), 3),
    "clip powers": (ClipReLU, lambda layer: SigmoidWeight("powers"), None, 3),
    "lsq binary": (LsqReLU, lambda layer: SigmoidWeight("binary"), None, 1),
}


def made(kind, plan, seed=0, bits=2):
    """A network with random weights, BatchNorms that have seen data, and signs that some of them turn around."""
    activation, weight, ends, width = KINDS[kind]
    torch.manual_seed(seed)
    network = QuantNetwork(plan, activation, weight, ends)
    x = torch.rand(64, *plan.input_shape, generator=torch.Generator().manual_seed(seed))
    network.set_bits(width, bits, 8 if ends else None, x)
    with torch.no_grad():
        for module in network.linear.values():
            if module.norm is not None:
                module.norm.weight.uniform_(-1.0, 1.5)
                module.norm.bias.uniform_(-0.3, 0.5)
            else:
                module.bias.normal_()
        network.train()
        for _ in range(20):
            network(x)
    for module in network.modules():
        if isinstance(module, SigmoidWeight):
            module.tau = 2000.0
    return network.eval()
