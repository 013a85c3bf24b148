"""PyTorch modules become float networks that compute the same, or are refused by name with the reason."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`")
import torch.nn.functional as F  # noqa: E402  after the skip
from torch import nn  # noqa: E402

import intsnn  # noqa: E402
from intsnn.conversion.fold import fold  # noqa: E402
from intsnn.conversion.quantise import quantise_network  # noqa: E402
from intsnn.errors import FormatError, IntsnnError, MismatchError, ShapeError, UnsupportedError  # noqa: E402
from intsnn.models.torch.trace import from_torch  # noqa: E402
from intsnn.network import forward  # noqa: E402

torch.set_num_threads(1)


class Call(nn.Module):
    """A function of its own modules and one tensor."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.function(self, x)


def lively(module, seed=0):
    """With statistics and parameters that no layer has by default, so that a forgotten one is seen."""
    torch.manual_seed(seed)
    for part in module.modules():
        for name, value in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            if value.is_floating_point():
                spread = torch.rand_like(value) if name in ("running_var",) else torch.randn_like(value)
                value.data = spread * 0.5 + (0.6 if name == "running_var" else 0.1)
    return module


def values(shape, seed=1):
    return torch.randn((3, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(module, shape, folder=None, expected=None):
    """The network of a module, whose values are those of the module to 1e-5 (here: of doubles, to 1e-9)."""
    module = module.double().eval()
    x = values(shape)
    with torch.no_grad():
        wanted = (expected or module)(x.clone()).numpy()
    network = from_torch(module, shape)
    found = forward(network, x.numpy(), dtype=np.float64)
    assert found.size == wanted.size
    assert np.allclose(found.reshape(wanted.shape), wanted, rtol=1e-9, atol=1e-9)
    if folder is not None:
        intsnn.save(network, folder / "net.h5")
        again = intsnn.load(folder / "net.h5", trust=True)
        assert np.array_equal(forward(again, x.numpy(), dtype=np.float64), found)
        assert again.metadata == network.metadata and again.metadata["format"] == "pytorch"
    return network


IMAGE, LINE, VECTOR = (4, 6, 8), (4, 12), (12,)
LAYERS = [
    (nn.Conv2d(4, 6, 3), IMAGE),
    (nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), 2, bias=False), IMAGE),
    (nn.Conv2d(4, 4, 4, padding="same", groups=4), IMAGE),
    (nn.Conv2d(4, 2, 2, padding="valid"), IMAGE),
    (nn.Conv1d(4, 6, 3, 2, 1, 2), LINE),
    (nn.Conv1d(4, 6, 4, padding="same"), LINE),
    (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1), IMAGE),
    (nn.ConvTranspose2d(4, 6, (2, 3), (1, 3), (1, 0), (0, 2), 2, dilation=(2, 1)), IMAGE),
    (nn.ConvTranspose1d(4, 3, 4, 2, 1), LINE),
    (nn.Linear(12, 5), VECTOR),
    (nn.Linear(12, 5, bias=False), LINE),
    (nn.Linear(8, 5), IMAGE),
    (nn.BatchNorm1d(12), VECTOR),
    (nn.BatchNorm1d(4, eps=0.1), LINE),
    (nn.BatchNorm2d(4, affine=False), IMAGE),
    (nn.BatchNorm2d(4, eps=0.5), IMAGE),
    (nn.ReLU(), IMAGE),
    (nn.ReLU6(), LINE),
    (nn.Hardtanh(), VECTOR),
    (nn.Hardtanh(0, 0.7), IMAGE),
    (nn.Hardtanh(-0.3, 0.3), LINE),
    (nn.LeakyReLU(0.2), IMAGE),
    (nn.PReLU(init=0.3), IMAGE),
    (nn.MaxPool2d(2), IMAGE),
    (nn.MaxPool2d((3, 2), (2, 3), (1, 1)), IMAGE),
    (nn.MaxPool2d(3, 2, 1, ceil_mode=True), (2, 6, 9)),
    (nn.MaxPool2d(2, 3, 1, ceil_mode=True), (2, 6, 7)),
    (nn.MaxPool1d(3, 2, 1, ceil_mode=True), LINE),
    (nn.AvgPool2d((3, 2), (2, 3), (1, 1)), IMAGE),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (2, 6, 9)),
    (nn.AvgPool2d(3, 2, 0, ceil_mode=True), (2, 6, 8)),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (2, 6, 8)),
    (nn.AvgPool1d(3, 2, 1, ceil_mode=True), (2, 10)),
    (nn.AvgPool1d(3), LINE),
    (nn.AdaptiveAvgPool2d(1), IMAGE),
    (nn.AdaptiveAvgPool2d((3, None)), IMAGE),
    (nn.AdaptiveAvgPool1d(4), LINE),
    (nn.AdaptiveMaxPool2d((2, 4)), IMAGE),
    (nn.AdaptiveMaxPool1d(6), LINE),
    (nn.Upsample(scale_factor=2), IMAGE),
    (nn.Upsample(scale_factor=(1.0, 3.0)), IMAGE),
    (nn.Upsample(size=(12, 8)), IMAGE),
    (nn.Upsample(scale_factor=3), LINE),
    (nn.UpsamplingNearest2d(scale_factor=2), IMAGE),
    (nn.Flatten(), IMAGE),
    (nn.Flatten(2), IMAGE),
    (nn.Flatten(1, 2), IMAGE),
    (nn.Unflatten(1, (3, 4)), VECTOR),
    (nn.ZeroPad2d((1, 2, 0, 3)), IMAGE),
    (nn.ZeroPad2d((-1, 2, 1, -2)), IMAGE),
    (nn.ZeroPad1d(2), LINE),
    (nn.PixelShuffle(2), IMAGE),
    (nn.PixelUnshuffle(2), IMAGE),
    (nn.ChannelShuffle(2), IMAGE),
    (nn.Identity(), LINE),
    (nn.Dropout(0.5), IMAGE),
    (nn.Dropout2d(0.5), IMAGE),
    (nn.Softmax(1), VECTOR),
    (nn.Softmax(-1), VECTOR),
    (nn.Sigmoid(), VECTOR),
    (nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(4, 3, 2, padding=1)), IMAGE),
    (nn.Sequential(nn.ZeroPad1d(1), nn.Conv1d(4, 3, 2)), LINE),
    (nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(2)), IMAGE),
    (nn.Sequential(nn.ZeroPad2d(1), nn.ZeroPad2d((0, 1, 0, 0)), nn.ReLU(), nn.Conv2d(4, 2, 3)), IMAGE),
]


@pytest.mark.parametrize("layer, shape", LAYERS, ids=[repr(layer).replace("\n", "")[:60] for layer, _ in LAYERS])
def test_layers(layer, shape, tmp_path):
    same(lively(layer), shape, tmp_path)


FUNCTIONS = {
    "relu": (lambda m, x: F.relu(x), IMAGE),
    "relu of torch": (lambda m, x: torch.relu(x), IMAGE),
    "method": (lambda m, x: x.relu().clamp(min=0), IMAGE),
    "relu6": (lambda m, x: F.relu6(x), IMAGE),
    "clamp": (lambda m, x: torch.clamp(x, 0, 0.5) + x.clamp(-0.5, max=0.5), IMAGE),
    "hardtanh": (lambda m, x: F.hardtanh(x, -2, 2), IMAGE),
    "leaky": (lambda m, x: F.leaky_relu(x, negative_slope=0.3), IMAGE),
    "max pool": (lambda m, x: F.max_pool2d(x, 2, stride=1, padding=1), IMAGE),
    "max pool 1": (lambda m, x: F.max_pool1d(x, 3), LINE),
    "mean pool": (lambda m, x: F.avg_pool2d(x, kernel_size=(2, 4)), IMAGE),
    "mean pool 1": (lambda m, x: F.avg_pool1d(x, 2, 2, 1), LINE),
    "adaptive": (lambda m, x: F.adaptive_avg_pool2d(x, (1, 2)), IMAGE),
    "mean": (lambda m, x: x.mean((2, 3)), IMAGE),
    "mean kept": (lambda m, x: torch.mean(x, dim=[-1, -2], keepdim=True), IMAGE),
    "mean of rows": (lambda m, x: x.mean(-1), IMAGE),
    "mean of a line": (lambda m, x: x.mean(2), LINE),
    "largest": (lambda m, x: x.amax(dim=(2, 3)), IMAGE),
    "pad": (lambda m, x: F.pad(x, (1, 2, 3, 0)), IMAGE),
    "pad channels": (lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 2)), IMAGE),
    "pad a line": (lambda m, x: F.pad(x, [1, -2], mode="constant", value=0.0), LINE),
    "interpolate": (lambda m, x: F.interpolate(x, scale_factor=2, mode="nearest"), IMAGE),
    "interpolate to": (lambda m, x: F.interpolate(x, size=(18, 8)), IMAGE),
    "interpolate a line": (lambda m, x: F.interpolate(x, scale_factor=2.0), LINE),
    "view": (lambda m, x: x.view(x.size(0), -1), IMAGE),
    "view of all": (lambda m, x: x.view(-1, 4 * 6 * 8), IMAGE),
    "view of shape": (lambda m, x: x.view(x.shape[0], 8, x.shape[1] // 2, -1), IMAGE),
    "reshape": (lambda m, x: torch.reshape(x, (x.shape[0], 12, 16)), IMAGE),
    "flatten": (lambda m, x: torch.flatten(x, 1), IMAGE),
    "flatten, method": (lambda m, x: x.flatten(start_dim=1), IMAGE),
    "permute": (lambda m, x: x.permute(0, 2, 3, 1), IMAGE),
    "permute by list": (lambda m, x: torch.permute(x, [0, 3, 1, 2]), IMAGE),
    "transpose": (lambda m, x: x.transpose(1, -1).contiguous(), IMAGE),
    "squeeze": (lambda m, x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(2), IMAGE),
    "unsqueeze": (lambda m, x: x.unsqueeze(1), LINE),
    "unsqueeze and back": (lambda m, x: torch.squeeze(x.unsqueeze(-1), -1), LINE),
    "slice": (lambda m, x: x[:, 1:3, ::2, -3:], IMAGE),
    "item": (lambda m, x: x[:, 2], IMAGE),
    "ellipsis": (lambda m, x: x[..., 1:-1], IMAGE),
    "new axis": (lambda m, x: x[:, None], LINE),
    "chunk": (lambda m, x: torch.cat(x.chunk(2, 1)[::-1], 1), IMAGE),
    "chunk by name": (lambda m, x: torch.chunk(x, chunks=2, dim=1)[1], IMAGE),
    "split": (lambda m, x: torch.cat([x.split([1, 3], dim=1)[1], x], dim=1), IMAGE),
    "split evenly": (lambda m, x: torch.split(x, 3, 2)[1], IMAGE),
    "cat of vectors": (lambda m, x: torch.cat((x, F.relu(x)), -1), VECTOR),
    "cat of rows": (lambda m, x: torch.cat((x, F.relu(x)), 2), IMAGE),
    "cat of lines": (lambda m, x: torch.cat((x, F.relu(x)), 1), LINE),
    "cat along lines": (lambda m, x: torch.cat((x, F.relu(x)), dim=-1), LINE),
    "stack": (lambda m, x: torch.stack((x, F.relu(x)), 1), LINE),
    "add": (lambda m, x: x + F.relu(x), IMAGE),
    "add twice": (lambda m, x: x + x, VECTOR),
    "torch.add": (lambda m, x: torch.add(x, F.relu(x)), IMAGE),
    "sub": (lambda m, x: F.relu(x) - x, IMAGE),
    "neg": (lambda m, x: -x, IMAGE),
    "broadcast": (lambda m, x: x + x.mean((2, 3), keepdim=True), IMAGE),
    "add a number": (lambda m, x: 2 + x, IMAGE),
    "subtract": (lambda m, x: 1.5 - (x - 0.5), IMAGE),
    "multiply": (lambda m, x: 2 * x * 0.25, VECTOR),
    "divide": (lambda m, x: x / 3, IMAGE),
    "divide, method": (lambda m, x: x.div(3.0).mul(2), LINE),
    "by channel": (lambda m, x: (x - torch.tensor([1.0, 2, 3, 4]).double().view(1, 4, 1, 1)) / 0.5, IMAGE),
    "by element": (lambda m, x: x * torch.arange(1.0, 13).double(), LINE),
    "by place": (lambda m, x: x + torch.arange(48.0).double().view(6, 8), IMAGE),
    "flat first": (lambda m, x: F.relu(x.view(x.size(0), -1)).view(-1, 4, 6, 8) + x, IMAGE),
    "pixel shuffle": (lambda m, x: F.pixel_shuffle(x, 2), IMAGE),
    "channel shuffle": (lambda m, x: x.view(-1, 2, 2, 6, 8).transpose(1, 2).reshape(-1, 4, 6, 8), IMAGE),
    "focus": (lambda m, x: torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]], 1), IMAGE),
    "dropout": (lambda m, x: F.dropout(x, 0.5, m.training), IMAGE),
    "softmax": (lambda m, x: F.softmax(x, dim=1), VECTOR),
    "sigmoid, squeezed": (lambda m, x: torch.sigmoid(x[:, :1]).squeeze(1), VECTOR),
    "dim": (lambda m, x: x.flatten(x.dim() - 3), IMAGE),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, tmp_path):
    function, shape = FUNCTIONS[name]
    same(Call(function), shape, tmp_path)


def test_functions_with_parameters():
    def compute(m, x):
        x = F.conv2d(x, m.conv.weight, m.conv.bias, stride=2, padding=1)
        x = F.conv_transpose2d(x, m.up.weight, None, 2, output_padding=1)
        return F.linear(x.flatten(1), m.fc.weight, bias=m.fc.bias * 2)

    class Own(nn.Conv2d):
        """Traced, as it is no class of torch."""

        def forward(self, x):
            return super().forward(x) * 2

    parts = {"conv": Own(4, 5, 3), "up": nn.ConvTranspose2d(5, 2, 3, bias=False), "fc": nn.Linear(2 * 8 * 10, 3)}
    same(lively(Call(compute, **parts)), (4, 6, 8))
    same(lively(nn.Sequential(Own(4, 5, 3), nn.ReLU())), IMAGE)


def test_parametrised_and_shared_layers():
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, padding=1))
    network = same(Call(lambda m, x: m.conv(F.relu(m.conv(x))), conv=conv), IMAGE)
    assert [node.name for node in network.nodes if node.weighted] == ["conv", "conv_2"]
    assert [node.source for node in network.nodes if node.weighted] == ["Conv2d conv"] * 2


def test_what_happens_in_place():
    """ReLU in place changes the tensor under every name that it has; a view of it is refused."""
    same(Call(lambda m, x: (m.act(x), x)[1] + 1, act=nn.ReLU(inplace=True)), IMAGE)
    same(Call(lambda m, x: m.conv(F.relu(x, inplace=True)) + x, conv=nn.Conv2d(4, 4, 1)), IMAGE)

    def added(m, x):
        y = m.same(x)
        y.mul_(2)
        return x + y.add_(1)

    same(Call(added, same=nn.Identity()), IMAGE)

    def unseen(m, x):
        y = x
        y += 1  # traced as y = y + 1
        return x + y

    with pytest.raises(MismatchError, match="write y = y . 1"):
        from_torch(Call(unseen), IMAGE)
    with pytest.raises(UnsupportedError, match="changed in place through a view"):
        from_torch(Call(lambda m, x: (lambda v: (F.relu_(x), v)[1] + 1)(x.flatten(1))), IMAGE)


def test_moves_cost_nothing_where_order_stays():
    """A chain of views is one node at most, none where the order of values is that of the node."""
    network = same(Call(lambda m, x: x.view(x.size(0), -1).unsqueeze(1).view(-1, 4, 6, 8).relu()), IMAGE)
    assert [type(node).__name__ for node in network.nodes] == ["FloatInput", "FloatReLU"]
    network = same(Call(lambda m, x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2).relu()), IMAGE)
    assert len(network.nodes) == 2
    network = same(lively(nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(4, 2, 3))), IMAGE)
    assert network["1"].padding == ((1, 1), (1, 1)) and len(network.nodes) == 2


def test_log_softmax_is_said():
    module = Call(lambda m, x: F.log_softmax(x, 1))
    network = same(module, VECTOR, expected=lambda x: torch.softmax(x, 1))
    assert "kept as softmax" in network.metadata["notes"][0]


def test_types_of_parameters():
    """Doubles stay doubles, halves become single precision, and the module is left as it was."""
    for kind, expected in ((torch.float64, np.float64), (torch.float32, np.float32), (torch.bfloat16, np.float32)):
        module = lively(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout())).to(kind).train()
        before = module[0].weight.clone()
        network = from_torch(module, (1, 5, 5))
        assert network["0"].weight.dtype == expected and module.training
        assert module[0].weight.dtype == kind and torch.equal(module[0].weight, before)
        assert np.array_equal(network["0"].weight, before.detach().double().numpy())


def test_defaults_of_further_arguments_are_kept():
    class Optional(nn.Module):
        def forward(self, x, mask=None, scale=2):
            return x * scale if mask is None else x * mask

    same(Optional(), IMAGE)


# -- random modules ---------------------------------------------------------------------------------------------------


class Random(nn.Module):
    """A network of maps with branches, then of vectors, drawn by a seed."""

    def __init__(self, seed):
        super().__init__()
        draw = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.parts = nn.ModuleList()
        channels, size, self.plan = 2, 8, []
        for _ in range(int(draw.integers(2, 6))):
            choice = draw.choice(["conv", "norm", "act", "pool", "join", "cat", "move", "up"])
            if choice == "conv":
                groups = int(draw.choice([1, channels]))
                out = channels * int(draw.integers(1, 3)) if groups > 1 else int(draw.integers(1, 7)) * 2
                kernel, dilation = int(draw.integers(1, 4)), int(draw.integers(1, 3))
                self.parts.append(nn.Conv2d(channels, out, kernel, 1, "same", dilation, groups, bool(draw.integers(2))))
                channels = out
            elif choice == "norm":
                self.parts.append(nn.BatchNorm2d(channels, eps=float(draw.uniform(1e-5, 1e-1))))
            elif choice == "act":
                acts = [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1), nn.Hardtanh(-2, 2), nn.ReLU(inplace=True)]
                self.parts.append(acts[int(draw.integers(len(acts)))])
            elif choice == "pool" and size > 2:
                pools = [
                    nn.MaxPool2d(2), nn.AvgPool2d(2), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1),
                    nn.AdaptiveAvgPool2d(size // 2), nn.Conv2d(channels, channels, 2, 2),
                ]  # fmt: skip
                self.parts.append(pools[int(draw.integers(len(pools)))])
                size //= 2
            elif choice == "up" and size < 8:
                ups = [nn.Upsample(scale_factor=2), nn.ConvTranspose2d(channels, channels, 2, 2)]
                self.parts.append(ups[int(draw.integers(len(ups)))])
                size *= 2
            elif choice in ("join", "cat") and channels < 16:
                self.parts.append(nn.Conv2d(channels, channels, 1))
                channels *= 2 if choice == "cat" else 1
            elif choice == "move":
                self.parts.append(nn.ChannelShuffle(2) if channels % 2 == 0 else nn.Identity())
            else:
                continue
            self.plan.append(str(choice))
        self.tail = nn.Sequential(nn.Linear(channels * size * size, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x):
        for choice, part in zip(self.plan, self.parts, strict=True):
            if choice == "join":
                x = part(x) + x
            elif choice == "cat":
                x = torch.cat([x, part(x)], dim=1)
            else:
                x = part(x)
        return self.tail(x.flatten(1))


@pytest.mark.parametrize("block", range(10))
def test_random_modules(block, tmp_path):
    """Two hundred of them, against torch, also in single precision, and through a file."""
    for seed in range(20 * block, 20 * block + 20):
        module = lively(Random(seed), seed).float().eval()
        x = values((2, 8, 8), seed).float()
        with torch.no_grad():
            wanted = module(x.clone()).numpy()
        found = forward(from_torch(module, (2, 8, 8)), x.numpy())
        assert np.allclose(found, wanted, rtol=1e-5, atol=1e-5 * max(1, np.abs(wanted).max())), (seed, module.plan)
        same(module, (2, 8, 8), tmp_path if seed % 4 == 0 else None)


def test_a_plain_network_is_converted():
    """All the way to integers: what the spiking network answers is what its quantised network does."""
    module = lively(
        nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3),
            nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 3),
        )
    )  # fmt: skip
    network = from_torch(module, (1, 8, 8))
    raw = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8))
    quantised = quantise_network(fold(network), raw, rounding="nearest").network
    converted = intsnn.convert(quantised).network
    run = intsnn.simulate(converted, raw, settle=True)
    assert np.array_equal(run.predictions, intsnn.integer_ann(converted, raw).predictions)
    assert np.array_equal(run.predictions, forward(network, raw / 255).argmax(1))
    assert len(np.unique(run.outputs, axis=0)) == 20


# -- what is refused --------------------------------------------------------------------------------------------------


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Two(nn.Module):
    def forward(self, x, y):
        return x + y


class Pair(nn.Module):
    def forward(self, x):
        return x, x


REFUSED = {
    "conv reflect": (nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect"), IMAGE, "padding_mode is 'reflect'"),
    "max pool dilation": (nn.MaxPool2d(2, dilation=2), IMAGE, "dilation"),
    "divisor": (nn.AvgPool2d(2, divisor_override=3), IMAGE, "divisor_override"),
    "adaptive": (nn.AdaptiveAvgPool2d(5), IMAGE, "different sizes"),
    "hardtanh": (nn.Hardtanh(-1, 2), IMAGE, "cuts to -1 ... 2"),
    "prelu": (lively(nn.PReLU(4)), IMAGE, "slopes differ"),
    "batch": (nn.BatchNorm2d(4, track_running_stats=False), IMAGE, "no running statistics"),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE, "mode 'bilinear'"),
    "upsample": (nn.Upsample(scale_factor=1.5), IMAGE, "enlarged 1.5 times"),
    "softmax inside": (nn.Sequential(nn.Softmax(1), nn.Linear(12, 3)), VECTOR, "reads a softmax.*at the end"),
    "softmax of rows": (nn.Softmax(3), IMAGE, "goes over axis 3"),
    "silu": (nn.Sequential(nn.Conv2d(4, 2, 3), nn.SiLU()), IMAGE, "layer '1' .SiLU.*train with ReLU"),
    "hardswish": (nn.Hardswish(), IMAGE, "Hardswish.*train with ReLU"),
    "gelu": (Call(lambda m, x: F.gelu(x)), IMAGE, "gelu.*train with ReLU"),
    "tanh": (Call(lambda m, x: x.tanh()), IMAGE, "tanh.*curved"),
    "groups": (nn.GroupNorm(2, 4), IMAGE, "GroupNorm.*use BatchNorm"),
    "layers": (nn.LayerNorm(12), VECTOR, "LayerNorm.*use BatchNorm"),
    "attention": (Call(lambda m, x: torch.matmul(x, x.transpose(1, 2))), LINE, "matmul.*products of two"),
    "gate": (Call(lambda m, x: x * x.mean((2, 3), keepdim=True)), IMAGE, "products of two"),
    "inverse": (Call(lambda m, x: 1 / x), VECTOR, "divides by a tensor"),
    "unknown": (Call(lambda m, x: torch.fft.fft(x).real), VECTOR, "not among the layers that are taken"),
    "dropout": (Call(lambda m, x: F.dropout(x * 0)), VECTOR, "training=self.training"),
    "mixes": (Call(lambda m, x: x.view(-1, 12)), IMAGE, "input_shape|mixes samples|a row for each"),
    "batch moved": (Call(lambda m, x: x.permute(1, 0, 2, 3).permute(1, 0, 2, 3)), IMAGE, "the batch"),
    "sample": (Call(lambda m, x: x[0:2]), VECTOR, "picks samples"),
    "squeezed": (Call(lambda m, x: x.unsqueeze(1).squeeze()), VECTOR, "name the axis"),
    "control flow": (Branches(), VECTOR, "cannot be followed.*control flow"),
    "two inputs": (Two(), VECTOR, "does not take an input"),
    "two outputs": (Pair(), VECTOR, "returns a tuple"),
    "wrong shape": (nn.Linear(5, 2), VECTOR, r"does not take an input \(2, 12\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    module, shape, words = REFUSED[name]
    with pytest.raises(IntsnnError, match=words) as caught:
        from_torch(module, shape)
    assert "\n" not in str(caught.value) and 20 < len(str(caught.value)) < 700


def test_recurrent_layers_are_refused():
    with pytest.raises(UnsupportedError, match="LSTM.*state with gates"):
        from_torch(Call(lambda m, x: m.lstm(x)[0], lstm=nn.LSTM(12, 3, batch_first=True)), LINE)
    with pytest.raises(UnsupportedError, match="returns a tuple"):
        from_torch(nn.LSTM(12, 3), LINE)


def test_a_hook_is_noticed():
    """What the graph does not show makes other values, and no network comes out."""
    module = nn.Sequential(nn.Linear(12, 4), nn.ReLU())
    module[0].register_forward_hook(lambda module, arguments, result: result + 1)
    with pytest.raises(MismatchError, match="gives other values"):
        from_torch(module, VECTOR)


def test_parameters_that_are_not_finite():
    module = nn.Linear(12, 3)
    module.weight.data[0, 0] = float("nan")
    with pytest.raises(FormatError, match="finite floats"):
        from_torch(module, VECTOR)


@pytest.mark.parametrize("shape", [(), (1, 2, 3, 4), (0,), (-1, 3), "abc", 7, (1.5,), (1 << 25,)])
def test_shapes_that_cannot_be(shape):
    with pytest.raises(ShapeError, match="input_shape"):
        from_torch(nn.ReLU(), shape)


def test_no_module():
    for thing in (None, nn.ReLU, {"a": torch.ones(1)}):
        with pytest.raises(FormatError, match=r"a torch\.nn\.Module is needed"):
            from_torch(thing, VECTOR)
