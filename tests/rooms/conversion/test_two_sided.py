"""Values of both signs become levels of both signs: folding keeps the function, and the theorem holds."""

import numpy as np
import pytest

from intsnn.conversion import NeuronRule, convert, quantise_network
from intsnn.conversion.fold import fold
from intsnn.conversion.quantise import calibrate, tied
from intsnn.engine import equality_conditions, integer_ann, simulate
from intsnn.errors import ConversionError, UnsupportedError
from intsnn.network import (
    FloatAdd,
    FloatAffine,
    FloatAvgPool2d,
    FloatBatchNorm,
    FloatConcat,
    FloatConv2d,
    FloatFlatten,
    FloatHardTanh,
    FloatInput,
    FloatLeakyReLU,
    FloatMaxPool2d,
    FloatNetwork,
    FloatReLU,
    FloatSelect,
    FloatSigmoid,
    FloatSoftmax,
    FloatUpsample2d,
    forward,
)


class Sketch:
    """Nodes so far, and the shape of each."""

    def __init__(self, rng, shape):
        self.rng, self.nodes, self.shapes = rng, [FloatInput(name="in", shape=shape)], {"in": shape}

    def put(self, kind, *inputs, **options):
        node = kind(name=f"{kind.__name__[5:].lower()}{len(self.nodes)}", inputs=inputs, **options)
        self.shapes[node.name] = node.output_shape([self.shapes[name] for name in inputs])
        self.nodes.append(node)
        return node.name

    def chance(self, share):
        return self.rng.random() < share

    def convolution(self, x, out=None, kernel=None):
        rng, channels = self.rng, self.shapes[x][0]
        if out is None and channels > 1 and self.chance(0.2):  # each channel by itself
            weight = rng.normal(0, 0.5, (channels, 1, 3, 3))
            padding = ((1, 1), (1, 1))
            return self.put(FloatConv2d, x, weight=weight, padding=padding, groups=channels)
        out, kernel = out or int(rng.integers(1, 5)), kernel or int(rng.choice([1, 3]))
        weight = rng.normal(0, 1 / np.sqrt(channels * kernel**2), (out, channels, kernel, kernel))
        bias = rng.normal(0, 0.2, out) if self.chance(0.7) else None
        return self.put(FloatConv2d, x, weight=weight, bias=bias, padding=((kernel // 2,) * 2,) * 2)

    def norm(self, x):
        rng, channels = self.rng, self.shapes[x][0]
        gamma, beta, mean = (rng.normal(at, 0.5, channels) for at in (0.3, 0, 0))
        variance = rng.uniform(0.5, 2, channels)
        return self.put(FloatBatchNorm, x, gamma=gamma, beta=beta, mean=mean, variance=variance, epsilon=1e-3)

    def activation(self, x):
        kind = self.rng.choice(["relu", "relu6", "tanh", "leaky", "none"], p=[0.35, 0.2, 0.15, 0.1, 0.2])
        if kind == "none":
            return x
        options = {"relu6": {"max_value": 1.5}, "tanh": {"limit": 1.0}, "leaky": {"slope": 0.25}}.get(kind, {})
        return self.put({"tanh": FloatHardTanh, "leaky": FloatLeakyReLU}.get(kind, FloatReLU), x, **options)

    def pool(self, x):
        if min(self.shapes[x][1:]) < 2:
            return x
        kind = FloatMaxPool2d if self.chance(0.5) else FloatAvgPool2d
        return self.put(kind, x, kernel=(2, 2), stride=(2, 2))

    def move(self, x):
        if self.chance(0.5):
            return self.put(FloatUpsample2d, x, factor=(2, 2), mode=str(self.rng.choice(["nearest", "zeros"])))
        shape = self.shapes[x]
        places = np.arange(int(np.prod(shape))).reshape(shape)
        places = (
            places[::-1] if self.chance(0.5) else np.pad(places[:, 1:], ((0, 0), (0, 1), (0, 0)), constant_values=-1)
        )
        return self.put(FloatSelect, x, places=places)

    def meet(self, one, other):
        """Two branches side by side, or added up."""
        if one == other or self.shapes[one][1:] != self.shapes[other][1:]:
            return other
        if self.chance(0.5):
            return self.put(FloatConcat, one, other)
        if self.shapes[one] != self.shapes[other]:
            one = self.convolution(one, self.shapes[other][0], 1)
        return self.put(FloatAdd, one, other)


def random_network(seed):
    """A float network for images, of up to six blocks behind its first ReLU, with three outputs."""
    rng = np.random.default_rng(seed)
    s = Sketch(rng, (int(rng.integers(1, 4)), 6, 6))
    x, kept = s.convolution("in"), []
    x = s.put(FloatReLU, s.norm(x) if s.chance(0.4) else x)
    for _ in range(int(rng.integers(1, 7))):
        block = str(rng.choice(["layer", "norm", "pool", "keep", "meet", "move"], p=[0.35, 0.1, 0.15, 0.12, 0.2, 0.08]))
        if block == "layer":
            x = s.convolution(x)
            x = s.activation(s.norm(x) if s.chance(0.5) else x)
        elif block == "keep":
            kept.append(x)
        elif block == "meet" and kept:
            x = s.meet(kept.pop(), x)
            x = s.activation(x) if s.chance(0.5) else x
        elif block in ("norm", "pool", "move"):
            x = getattr(s, block)(x)
    size = s.shapes[x][1:]
    if s.chance(0.5):
        x = s.put(FloatMaxPool2d if s.chance(0.5) else FloatAvgPool2d, x, kernel=size, stride=size)
    x = s.put(FloatFlatten, x)
    weight = rng.normal(0, 1 / np.sqrt(s.shapes[x][0]), (3, s.shapes[x][0]))
    x = s.put(FloatAffine, x, weight=weight, bias=rng.normal(0, 0.2, 3))
    end = str(rng.choice(["", "softmax", "sigmoid"]))
    if end:
        x = s.put(FloatSoftmax if end == "softmax" else FloatSigmoid, x)
    return FloatNetwork(tuple(s.nodes), x)


def conv(name, source, weight, **options):
    return FloatConv2d(name=name, inputs=(source,), weight=np.asarray(weight, float), **options)


def images(network, count=24, seed=5):
    return np.random.default_rng(seed).integers(0, 256, (count, *network.input_shape))


def same_function(network):
    """The folded network; outputs are those of the network, before its softmax or sigmoid."""
    folded, x = fold(network), images(network) / 255
    wanted, found = forward(network, x, dtype=np.float64), forward(folded, x, dtype=np.float64)
    if network[network.output].orders:
        last = type(network[network.output])(name="o", inputs=("x",))
        found = last.apply([found])
    assert np.allclose(wanted, found, atol=1e-7)
    return folded


def in_integers(folded, bits=(8, 4), rule=None):
    """Converted; equal to its integer ANN on every path, and to the quantised ANN wherever no level moved."""
    raw = images(folded)
    conversion = convert(
        quantise_network(folded, raw, weight_bits=bits[0], activation_bits=bits[1], rounding="nearest").network, rule
    )
    network = conversion.network
    assert equality_conditions(network) == []
    ann = integer_ann(network, raw)
    for name, levels in integer_ann(network, raw, path="step").levels.items():
        assert np.array_equal(ann.levels[name], levels), name
    for path, some in (("reference", raw[:1]), ("step", raw[:4]), ("layer", raw[:4]), ("auto", raw[:4])):
        rest = simulate(network, some, settle=True, path=path, reports=path != "auto")
        assert np.array_equal(rest.outputs, ann.outputs[: len(some)]), path
    if not any(row.get("moved_levels") for row in conversion.layers.values()):
        real = forward(conversion.joined, raw / 255, dtype=np.float64)
        unit = network.metadata["readout_unit"]
        assert np.abs(real - ann.outputs * unit).max() <= 2e-3 * np.abs(real).max() + 1e-9
    return conversion


@pytest.mark.parametrize("first", range(0, 60, 12))
def test_random_networks(first):
    """Every kind of layer in any order; what is refused says why."""
    converted = 0
    for seed in range(first, first + 12):
        network = random_network(seed)
        try:
            folded = same_function(network)
        except UnsupportedError as error:
            assert "LeakyReLU" in str(error)
            continue
        in_integers(folded, ((2, 4, 8)[seed % 3], (1, 2, 4, 6)[seed % 4]))
        converted += 1
    assert converted >= 10


def bottleneck(rng):
    """A linear bottleneck with a residual: expand, depthwise, project, add; and once more."""
    nodes = [FloatInput(name="in", shape=(2, 6, 6)), conv("stem", "in", rng.normal(0, 0.4, (4, 2, 1, 1)))]
    nodes.append(FloatReLU(name="r", inputs=("stem",), max_value=6.0))
    nodes.append(conv("p0", "r", rng.normal(0, 0.4, (3, 4, 1, 1))))
    last = "p0"
    for k in "12":
        nodes += [
            conv(f"e{k}", last, rng.normal(0, 0.6, (8, 3, 1, 1))), FloatReLU(name=f"re{k}", inputs=(f"e{k}",)),
            conv(f"d{k}", f"re{k}", rng.normal(0, 0.3, (8, 1, 3, 3)), padding=((1, 1), (1, 1)), groups=8),
            FloatReLU(name=f"rd{k}", inputs=(f"d{k}",)), conv(f"p{k}", f"rd{k}", rng.normal(0, 0.3, (3, 8, 1, 1))),
            FloatAdd(name=f"a{k}", inputs=(last, f"p{k}")),
        ]  # fmt: skip
        last = f"a{k}"
    nodes += [FloatFlatten(name="f", inputs=(last,))]
    nodes += [FloatAffine(name="o", inputs=("f",), weight=rng.normal(0, 0.2, (4, 108)))]
    return FloatNetwork(tuple(nodes), "o")


def test_a_linear_bottleneck_has_levels_of_both_signs():
    """Each block reads a stream in levels; the branch past a block is the same stream."""
    folded = same_function(bottleneck(np.random.default_rng(1)))
    assert {node.name for node in folded.nodes if node.two_sided} == {"p0/levels", "a1/levels", "a2/levels"}
    assert folded["a1"].inputs == ("p0/levels", "p1")
    made = in_integers(folded).network
    assert made.nodes["p0/levels"].min_count == -15 and made.nodes["re1"].min_count == 0
    assert integer_ann(made, images(folded)).levels["a1/levels"].min() < 0


def head(name, channels, size):
    rng = np.random.default_rng(channels)
    weight = rng.normal(0, 0.3, (3, channels * size * size))
    return FloatFlatten(name="f", inputs=(name,)), FloatAffine(name="o", inputs=("f",), weight=weight)


def test_a_pool_of_values_without_an_activation():
    rng = np.random.default_rng(2)
    nodes = (
        FloatInput(name="in", shape=(1, 6, 6)), conv("c", "in", rng.normal(0, 0.5, (3, 1, 3, 3))),
        FloatMaxPool2d(name="p", inputs=("c",), kernel=(2, 2), stride=(2, 2)), *head("p", 3, 2),
    )  # fmt: skip
    folded = same_function(FloatNetwork(nodes, "o"))
    assert folded["p"].inputs == ("c/levels",)
    in_integers(folded)


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 0), (0, 1))])
def test_a_norm_that_falls_in_some_channels_moves_behind_the_pool(padding):
    """Its largest value is the least of what comes in: two changes of sign, and no level is lost."""
    rng = np.random.default_rng(3)
    nodes = (
        FloatInput(name="in", shape=(1, 6, 6)), conv("c", "in", rng.normal(0, 0.5, (4, 1, 1, 1))),
        FloatReLU(name="r", inputs=("c",)),
        FloatBatchNorm(
            name="b", inputs=("r",), gamma=np.array([1.0, -0.7, 0.5, -2]), beta=rng.normal(size=4),
            mean=rng.normal(size=4), variance=np.ones(4), epsilon=0.0,
        ),
        FloatMaxPool2d(name="p", inputs=("b",), kernel=(2, 2), stride=(2, 2), padding=padding),
        *head("p", 4, 3),
    )  # fmt: skip
    folded = same_function(FloatNetwork(nodes, "o"))
    assert folded["p"].inputs == ("b/signs",) and not any(node.two_sided for node in folded.nodes)
    in_integers(folded)


def test_a_leaky_relu_is_two_activations():
    rng = np.random.default_rng(4)
    nodes = (
        FloatInput(name="in", shape=(1, 6, 6)), conv("c", "in", rng.normal(0, 0.5, (3, 1, 3, 3))),
        FloatLeakyReLU(name="l", inputs=("c",), slope=0.3),
        FloatMaxPool2d(name="p", inputs=("l",), kernel=(2, 2), stride=(2, 2)),
        conv("g", "p", rng.normal(0, 0.5, (6, 1, 1, 1)), groups=3), FloatReLU(name="r", inputs=("g",)),
        *head("r", 6, 2),
    )  # fmt: skip
    folded = same_function(FloatNetwork(nodes, "o"))
    assert {"l", "l/levels"} <= {node.name for node in folded.nodes if node.activates}
    assert tied(folded)["l"] == tied(folded)["l/levels"]
    in_integers(folded, (8, 6))
    ended = FloatNetwork((*nodes[:3], FloatFlatten(name="f", inputs=("l",))), "f")
    with pytest.raises(UnsupportedError, match="a LeakyReLU at the end"):
        fold(ended)
    twice = FloatNetwork((*nodes[:3], FloatAdd(name="a", inputs=("l", "l")), *head("a", 3, 4)), "o")
    with pytest.raises(UnsupportedError, match="'a' .Add. reads has no integer form"):
        fold(twice)


@pytest.mark.parametrize("kind", [FloatAdd, FloatConcat])
def test_branches_meet_in_one_unit(kind):
    """Of two ReLUs in front of a linear layer, and of a mean beside one: a unit four times as fine."""
    rng = np.random.default_rng(6)
    nodes = (
        FloatInput(name="in", shape=(1, 4, 4)), conv("c1", "in", rng.normal(0, 0.5, (3, 1, 1, 1))),
        conv("c2", "in", rng.normal(0, 2.0, (3, 1, 1, 1))), FloatReLU(name="r1", inputs=("c1",)),
        FloatReLU(name="r2", inputs=("c2",)), kind(name="both", inputs=("r1", "r2")),
        *head("both", 6 if kind is FloatConcat else 3, 4),
    )  # fmt: skip
    folded = same_function(FloatNetwork(nodes, "o"))
    assert tied(folded) == {"r1": "r1", "r2": "r1"}
    made = in_integers(folded)
    assert made.network.nodes["both"].bound is not None and "both" not in made.layers
    quantised = quantise_network(folded, images(folded), rounding="nearest").network.graph
    assert quantised["r1"].step == quantised["r2"].step


def test_tied_activations_are_weighed_each_by_its_own_values():
    """A small range beside a large one, and a limit that is not that of the other."""
    rng = np.random.default_rng(13)
    nodes = (
        FloatInput(name="in", shape=(1, 4, 4)), conv("c1", "in", rng.normal(0, 0.5, (3, 1, 1, 1))),
        conv("c2", "in", rng.normal(0, 20.0, (3, 1, 1, 1))), FloatReLU(name="r1", inputs=("c1",)),
        FloatReLU(name="r2", inputs=("c2",), max_value=0.5), FloatConcat(name="both", inputs=("r1", "r2")),
        *head("both", 6, 4),
    )  # fmt: skip
    folded = fold(FloatNetwork(nodes, "o"))
    x = images(folded)
    values = forward(folded, x / 255.0, record=["r1", "r2"])
    tops = {name: float(values[name].max()) for name in ("r1", "r2")}
    assert tops["r2"] == 0.5 < tops["r1"]
    found = calibrate(folded, x)
    assert {name: top for name, (_, top) in found.histograms.items()}["r1"] == pytest.approx(tops["r1"])
    quantised = quantise_network(found.network, found, rounding="nearest").network.graph
    step, levels = quantised["r1"].step, quantised["r1"].levels
    assert quantised["r2"].step == step

    def error(clip):
        rounded = {name: np.minimum(np.floor(v / clip * levels + 0.5), levels) * clip / levels for name, v in kept()}
        return sum(np.square(rounded[name] - v).sum() for name, v in kept())

    def kept():
        return [(name, value[value > 0]) for name, value in values.items()]

    least = min(error(clip) for clip in np.linspace(0.05, 1, 191) * max(tops.values()))
    assert error(step * levels) <= 1.01 * least


def test_levels_are_put_once_for_all_readers():
    """A value of both signs that a max-pool and a join read has one neuron."""
    rng = np.random.default_rng(14)
    nodes = (
        FloatInput(name="in", shape=(1, 4, 4)), conv("c", "in", rng.normal(0, 0.5, (3, 1, 1, 1))),
        FloatMaxPool2d(name="m", inputs=("c",), kernel=(2, 2), stride=(2, 2)),
        FloatMaxPool2d(name="n", inputs=("c",), kernel=(2, 1), stride=(2, 2)),
        FloatConcat(name="both", inputs=("m", "n")), *head("both", 6, 2),
    )  # fmt: skip
    folded = same_function(FloatNetwork(nodes, "o"))
    assert [node.name for node in folded.nodes if node.activates] == ["c/levels"]
    in_integers(folded)


def test_the_input_beside_an_activation_becomes_levels():
    rng = np.random.default_rng(7)
    nodes = (
        FloatInput(name="in", shape=(1, 4, 4)), conv("c", "in", rng.normal(0, 0.5, (3, 1, 1, 1))),
        FloatReLU(name="r", inputs=("c",)), FloatConcat(name="both", inputs=("in", "r")), *head("both", 4, 4),
    )  # fmt: skip
    folded = same_function(FloatNetwork(nodes, "o"))
    assert folded["both"].inputs == ("in/levels", "r")
    in_integers(folded, (8, 8))


def test_factors_of_each_channel_take_charges():
    """A pre-activation network, and a depthwise convolution in front of a plain one, lose no level."""
    rng = np.random.default_rng(8)
    nodes = (
        FloatInput(name="in", shape=(1, 4, 4)), conv("c", "in", rng.normal(0, 0.5, (3, 1, 1, 1))),
        conv("scale", "c", rng.normal(0, 1, (3, 1, 1, 1)), groups=3), FloatReLU(name="r", inputs=("scale",)),
        conv("d", "r", rng.normal(0, 0.5, (3, 1, 3, 3)), padding=((1, 1), (1, 1)), groups=3),
        conv("s", "d", rng.normal(0, 1, (3, 1, 1, 1)), groups=3), conv("m", "s", rng.normal(0, 0.5, (3, 3, 1, 1))),
        FloatAdd(name="a", inputs=("c", "m")), FloatReLU(name="r2", inputs=("a",)), *head("r2", 3, 4),
    )  # fmt: skip
    folded = same_function(FloatNetwork(nodes, "o"))
    assert not any(node.two_sided for node in folded.nodes)
    in_integers(folded)


def test_a_sigmoid_is_dropped_at_the_end_alone():
    rng = np.random.default_rng(9)
    first = FloatInput(name="in", shape=(3,)), FloatAffine(name="d", inputs=("in",), weight=rng.normal(size=(2, 3)))
    assert fold(FloatNetwork((*first, FloatSigmoid(name="s", inputs=("d",))), "s")).output == "d"
    inside = FloatSigmoid(name="s", inputs=("d",)), FloatAffine(name="e", inputs=("s",), weight=rng.normal(size=(2, 2)))
    with pytest.raises(UnsupportedError, match="'s': a sigmoid inside"):
        fold(FloatNetwork((*first, *inside), "e"))


def test_unsigned_neurons_have_no_second_side():
    rng = np.random.default_rng(10)
    nodes = (
        FloatInput(name="in", shape=(4,)), FloatAffine(name="d", inputs=("in",), weight=rng.normal(size=(3, 4))),
        FloatHardTanh(name="t", inputs=("d",)), FloatAffine(name="e", inputs=("t",), weight=rng.normal(size=(2, 3))),
    )  # fmt: skip
    quantised = quantise_network(fold(FloatNetwork(nodes, "e")), images(FloatNetwork(nodes, "e"))).network
    with pytest.raises(ConversionError, match="'t': its counts have two signs"):
        convert(quantised, NeuronRule(signed=False))
    for method in ("fast-snn", "qffs", "ca-lif"):
        assert convert(quantised, NeuronRule(method=method)).network.nodes["t"].min_count == -15
