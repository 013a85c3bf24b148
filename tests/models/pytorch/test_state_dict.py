"""State dicts of PyTorch, in HDF5 and as safetensors, become networks with a description; hostile ones are refused."""

import json
import pickle
import struct
import zipfile

import h5py
import numpy as np
import pytest
from counting import bytes_taken

from intsnn.errors import DataNotFoundError, FormatError, ImportRefused, IntsnnError, ShapeError, UnsupportedError
from intsnn.files import save
from intsnn.models.torch import load_state
from intsnn.models.torch.advice import RECIPE, pickle_refusal
from intsnn.network import (
    FloatAdd,
    FloatAffine,
    FloatBatchNorm,
    FloatConcat,
    FloatConv2d,
    FloatFlatten,
    FloatInput,
    FloatMaxPool2d,
    FloatNetwork,
    FloatReLU,
    forward,
)
from intsnn.network.composed import TransposedWindow, transposed_convolution

TYPES = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64", "uint16": "BF16"}
PLAN = {
    "input": [2, 6, 6],
    "layers": [
        {"name": "body.0", "type": "Conv2d", "in_channels": 2, "out_channels": 4, "kernel_size": 3, "padding": 1},
        {"name": "body.1", "type": "BatchNorm2d", "num_features": 4, "eps": 0.01},
        {"name": "act", "type": "ReLU"},
        {"name": "side", "type": "Conv2d", "padding": "same", "groups": 2, "bias": False},
        {"name": "sum", "type": "Add", "inputs": ["act", "side"]},
        {"name": "both", "type": "Concat", "inputs": ["sum", "act"]},
        {"type": "MaxPool2d", "kernel_size": 2},
        {"name": "up", "type": "ConvTranspose2d", "stride": 2, "padding": 1, "groups": 2},
        {"type": "Dropout", "p": 0.5},
        {"type": "Flatten"},
        {"name": "fc", "type": "Linear", "in_features": 144, "out_features": 3},
    ],
}
TOML = """
input = [2, 6, 6]
layers = [
    {name = "body.0", type = "Conv2d", in_channels = 2, out_channels = 4, kernel_size = 3, padding = 1},
    {name = "body.1", type = "BatchNorm2d", num_features = 4, eps = 0.01},
    {name = "act", type = "ReLU"},
    {name = "side", type = "Conv2d", padding = "same", groups = 2, bias = false},
    {name = "sum", type = "Add", inputs = ["act", "side"]},
    {name = "both", type = "Concat", inputs = ["sum", "act"]},
    {type = "MaxPool2d", kernel_size = 2},
    {name = "up", type = "ConvTranspose2d", stride = 2, padding = 1, groups = 2},
    {type = "Dropout", p = 0.5},
    {type = "Flatten"},
    {name = "fc", type = "Linear", in_features = 144, out_features = 3},
]
"""


def arrays(seed=0, dtype=np.float32):
    random = np.random.default_rng(seed)

    def values(*shape):
        return random.normal(size=shape).astype(dtype)

    return {
        "body.0.weight": values(4, 2, 3, 3), "body.0.bias": values(4), "body.1.weight": values(4),
        "body.1.bias": values(4), "body.1.running_mean": values(4),
        "body.1.running_var": np.abs(values(4)) + dtype(0.1),
        "body.1.num_batches_tracked": np.int64(7), "side.weight": values(4, 2, 3, 3), "up.weight": values(8, 2, 4, 4),
        "up.bias": values(4), "fc.weight": values(3, 144), "fc.bias": values(3),
    }  # fmt: skip


def hdf5(path, state, nested=False):
    with h5py.File(path, "w") as file:
        for name, value in state.items():
            file[name.replace(".", "/") if nested else name] = value
    return path


def safetensors(path, state, edit=None, tail=b""):
    """The format as it is written down: length, header, bytes. `edit` changes the header."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, value in state.items():
        value = np.asarray(value)
        span = [len(data), len(data) + value.nbytes]
        header[name] = {"dtype": TYPES[str(value.dtype)], "shape": list(value.shape), "data_offsets": span}
        data += value.tobytes()
    text = edit(header) if edit else None
    text = json.dumps(header).encode() if text is None else text
    path.write_bytes(struct.pack("<Q", len(text)) + text + data + tail)
    return path


def plain(state):
    """The network of `PLAN`, by the definition of each layer."""
    around = ((1, 1), (1, 1))
    nodes = [
        FloatInput(name="in", shape=(2, 6, 6)),
        FloatConv2d(
            name="c", inputs=("in",), weight=state["body.0.weight"], bias=state["body.0.bias"], padding=around
        ),
        FloatBatchNorm(
            name="n", inputs=("c",), gamma=state["body.1.weight"], beta=state["body.1.bias"],
            mean=state["body.1.running_mean"], variance=state["body.1.running_var"], epsilon=0.01,
        ),
        FloatReLU(name="r", inputs=("n",)),
        FloatConv2d(name="s", inputs=("r",), weight=state["side.weight"], padding=around, groups=2),
        FloatAdd(name="a", inputs=("r", "s")),
        FloatConcat(name="b", inputs=("a", "r")),
        FloatMaxPool2d(name="m", inputs=("b",), kernel=(2, 2), stride=(2, 2)),
        *transposed_convolution(
            "u", "m", (8, 3, 3), state["up.weight"], bias=state["up.bias"],
            window=TransposedWindow(stride=(2, 2), padding=around, groups=2),
        ),
        FloatFlatten(name="f", inputs=("u",)),
        FloatAffine(name="l", inputs=("f",), weight=state["fc.weight"], bias=state["fc.bias"]),
    ]  # fmt: skip
    return FloatNetwork(tuple(nodes), "l")


def answers(network):
    return forward(network, np.random.default_rng(9).normal(size=(4, 2, 6, 6)), dtype=np.float64)


def written(folder, plan=PLAN, name="plan.json"):
    path = folder / name
    path.write_text(plan if isinstance(plan, str) else json.dumps(plan))
    return path


@pytest.mark.parametrize("kind", ["dotted", "nested", "safetensors"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_state_dicts(kind, dtype, tmp_path):
    state = arrays(1, dtype)
    if kind == "safetensors":
        pytest.importorskip("safetensors", reason="needs the extra `safetensors`")
        path = safetensors(tmp_path / "state.safetensors", state)
    else:
        path = hdf5(tmp_path / "state.h5", state, kind == "nested")
    network = load_state(path, written(tmp_path))
    assert np.array_equal(answers(network), answers(plain(state)))
    assert network["body.0"].weight.dtype == (np.float64 if dtype is np.float64 else np.float32)
    assert network.metadata["source"] == path.name and len(network.metadata["source_sha256"]) == 64
    assert [node.name for node in network.nodes if node.weighted] == ["body.0", "side", "up", "fc"]
    save(network, tmp_path / "net.h5")


def test_descriptions(tmp_path):
    """JSON, TOML, a mapping, and a network or its file as a template make the same."""
    state, other = arrays(1), arrays(2)
    path = hdf5(tmp_path / "state.h5", state)
    network = load_state(path, PLAN, trust=True)
    assert np.array_equal(answers(network), answers(plain(state)))
    save(load_state(hdf5(tmp_path / "other.h5", other), PLAN, trust=True), tmp_path / "template.h5")
    template = load_state(tmp_path / "other.h5", PLAN, trust=True)
    assert not np.array_equal(answers(template), answers(network))
    for plan in (written(tmp_path), written(tmp_path, TOML, "plan.toml"), tmp_path / "template.h5", template):
        assert np.array_equal(answers(load_state(path, plan, trust=True)), answers(network)), plan


def test_prefixes(tmp_path):
    """As checkpoints nest them; what does not begin with the prefix is of something else."""
    state = arrays(1)
    deep = {f"state_dict.model.{name}": value for name, value in state.items()}
    path = hdf5(tmp_path / "state.h5", deep | {"state_dict.loss.weight": np.ones(3, np.float32)}, nested=True)
    network = load_state(path, PLAN, prefix="model.", trust=True)
    assert np.array_equal(answers(network), answers(plain(state)))
    with pytest.raises(ImportRefused, match=r"no array 'body\.0\.weight'; give prefix='model\.'") as caught:
        load_state(path, PLAN, trust=True)
    assert caught.value.code == "weights"
    with pytest.raises(ImportRefused, match="no array that begins with 'net.'"):
        load_state(path, PLAN, prefix="net.", trust=True)


def test_output_and_one_dimension(tmp_path):
    random = np.random.default_rng(0)
    state = {"c.weight": random.normal(size=(3, 2, 4)), "b.running_mean": np.ones(3), "b.running_var": np.full(3, 4.0)}
    plan = {
        "input": [2, 9],
        "layers": [
            {"name": "c", "type": "Conv1d", "stride": 2},
            {"name": "b", "type": "BatchNorm1d"},
            {"name": "p", "type": "MaxPool1d", "kernel_size": 3},
            {"name": "late", "type": "Sigmoid"},
        ],
        "output": "p",
    }
    network = load_state(hdf5(tmp_path / "s.h5", state), plan, trust=True)
    x = random.normal(size=(1, 2, 9))
    wide = np.stack([(x[0, None, :, 2 * t : 2 * t + 4] * state["c.weight"]).sum((1, 2)) for t in range(3)], 1)
    expected = ((wide - 1) / np.sqrt(4 + 1e-5)).max(1)
    assert np.allclose(forward(network, x, dtype=np.float64).reshape(-1), expected)
    template = load_state(tmp_path / "s.h5", network, trust=True)
    assert np.array_equal(forward(template, x), forward(network, x))


# -- what is refused --------------------------------------------------------------------------------------------------


def changed(layer, **options):
    """`PLAN` with other options of one layer; None drops one."""
    plan = json.loads(json.dumps(PLAN))
    plan["layers"][layer].update(options)
    plan["layers"][layer] = {name: value for name, value in plan["layers"][layer].items() if value is not None}
    return plan


PLANS = {
    "list": ([1, 2], "an object with 'input' and 'layers'", "architecture"),
    "no json": ("{", "no JSON to be read", "architecture"),
    "deep json": ("[" * 100000, "no JSON to be read", "architecture"),
    "no input": ({"layers": PLAN["layers"]}, "input", "architecture"),
    "endless input": (PLAN | {"input": [1 << 20, 1 << 10, 1 << 10]}, "at most", ShapeError),
    "flat input": (PLAN | {"input": []}, "input_shape", ShapeError),
    "no layers": ({"input": [2, 6, 6]}, "a list of layers", "architecture"),
    "empty": (PLAN | {"layers": []}, "0 layers", "architecture"),
    "many": (PLAN | {"layers": [{"type": "ReLU"}] * 1025}, "1025 layers", "architecture"),
    "layers of numbers": (PLAN | {"layers": [1]}, "a mapping", "architecture"),
    "unknown word": (PLAN | {"weights": 1}, "'weights' is not known", "architecture"),
    "unknown output": (PLAN | {"output": "ghost"}, "no layer", "architecture"),
    "unknown type": (changed(2, type="GELU"), "layer 'act' .GELU.*train with ReLU", UnsupportedError),
    "type of the system": (changed(2, type="os.system"), "not among the layers", UnsupportedError),
    "dunder": (changed(2, type="__import__"), "not among the layers", UnsupportedError),
    "call as a type": (changed(2, type="clamp"), "not among the layers", UnsupportedError),
    "type of a number": (changed(2, type=7), "the type of layer 2", "architecture"),
    "no type": (changed(2, type=None), "the type of layer 2", "architecture"),
    "name twice": (changed(2, name="body.0"), "a name of its own", "architecture"),
    "name of the input": (changed(2, name="input"), "a name of its own", "architecture"),
    "name of a number": (changed(2, name=3), "the name of layer 2", "architecture"),
    "reads ahead": (changed(2, inputs=["fc"]), "no layer before it", "architecture"),
    "reads numbers": (changed(2, inputs=[1]), "no layer before it", "architecture"),
    "reads two": (changed(2, inputs=["body.0", "body.1"]), "2 inputs", "architecture"),
    "adds one": (changed(4, inputs=["act"]), "two or more", "architecture"),
    "unknown option": (changed(0, strides=2), "'strides' is not known; it has name, type", "architecture"),
    "stride of zero": (changed(0, stride=0), "stride", "architecture"),
    "stride of text": (changed(0, stride="2"), "stride", "architecture"),
    "stride of three": (changed(0, stride=[1, 2, 3]), "one or two", "architecture"),
    "endless padding": (changed(0, padding=1 << 40), "padding", "architecture"),
    "large padding": (changed(0, padding=1 << 20), "more than", ShapeError),
    "other channels": (changed(0, in_channels=3), "in_channels is 3, its arrays have 2", ShapeError),
    "other kernel": (changed(0, kernel_size=5), r"kernel_size is \(5, 5\)", ShapeError),
    "other features": (changed(10, out_features=5), "out_features is 5", ShapeError),
    "no bias": (changed(0, bias=False), "bias is False", ShapeError),
    "bias": (changed(3, bias=True), "bias is True", ShapeError),
    "other groups": (changed(0, groups=2), "in_channels is 2, its arrays have 4", ShapeError),
    "other name": (changed(0, name="body.2"), r"no array 'body\.2\.weight'; it has body\.0\.bias", "weights"),
    "left over": (changed(2, type="Identity", name="x") | {"layers": PLAN["layers"][:3]}, "belongs to no", "weights"),
    "epsilon": (changed(1, eps=-1.0), "epsilon", "architecture"),
    "reflected": (changed(0, padding_mode="reflect"), "padding_mode", UnsupportedError),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_descriptions_that_are_refused(name, tmp_path):
    plan, words, kind = PLANS[name]
    path = hdf5(tmp_path / "state.h5", arrays())
    refused(path, written(tmp_path, plan), words, kind)


def refused(path, plan, words, kind, **options):
    expected = ImportRefused if isinstance(kind, str) else kind
    with bytes_taken() as taken, pytest.raises(expected, match=words) as caught:
        load_state(path, plan, trust=True, **options)
    if isinstance(kind, str):
        assert caught.value.code == kind, str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1500
    assert taken.most < 24 << 20


def test_toml_that_is_none_and_no_file(tmp_path):
    path = hdf5(tmp_path / "state.h5", arrays())
    refused(path, written(tmp_path, "a = ", "plan.toml"), "no TOML", "architecture")
    refused(path, written(tmp_path, "a = " + "[" * 100000, "deep.toml"), "no TOML", "architecture")
    refused(path, written(tmp_path, " " * (1 << 20) + "{}", "long.json"), "more than", "architecture")
    refused(path, tmp_path, "no regular file|not a regular file", "not-regular")
    refused(path, tmp_path / "none.json", "there is no file", DataNotFoundError)
    refused(tmp_path / "none.h5", PLAN, "there is no file", DataNotFoundError)
    refused(path, 7, "architecture", FormatError)


STATES = {
    "missing": (lambda s: (s.pop("fc.bias"), s.pop("fc.weight")), "no array 'fc.weight'", "weights"),
    "left over": (lambda s: s.update({"ghost.weight": np.ones(2, np.float32)}), "'ghost.weight' belongs", "weights"),
    "integers": (lambda s: s.update({"fc.bias": np.ones(3, np.int64)}), "is of int64|type I64", UnsupportedError),
    "transposed": (lambda s: s.update({"fc.weight": s["fc.weight"].T.copy()}), "in_features|out_features", ShapeError),
    "other rank": (lambda s: s.update({"fc.weight": s["fc.weight"].ravel()}), "is needed", ShapeError),
    "short bias": (lambda s: s.update({"body.0.bias": np.ones(3, np.float32)}), r"\(4\) is needed", ShapeError),
    "nan": (lambda s: s["fc.bias"].fill(np.nan), "finite|not-finite", IntsnnError),
    "variance": (lambda s: s["body.1.running_var"].fill(-1), "variance", "architecture"),
    "no statistics": (lambda s: s.pop("body.1.running_mean"), "no running statistics", UnsupportedError),
    "empty": (lambda s: s.clear(), "no array|describes 0 arrays", ImportRefused),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["hdf5", "safetensors"])
@pytest.mark.parametrize("name", STATES)
def test_arrays_that_are_refused(kind, name, tmp_path):
    if kind == "safetensors":
        pytest.importorskip("safetensors", reason="needs the extra `safetensors`")
    edit, words, error = STATES[name]
    state = arrays()
    edit(state)
    path = hdf5(tmp_path / "s.h5", state) if kind == "hdf5" else safetensors(tmp_path / "s.safetensors", state)
    refused(path, PLAN, words, error)


def entry(name="fc.weight", **changes):
    def edit(header):
        header[name].update(changes)

    return edit


def twice(header):
    text = json.dumps(header)
    return ("{" + text[1:-1] + ', "fc.bias": ' + json.dumps(header["fc.bias"]) + "}").encode()


HEADERS = {
    "unknown type": (entry(dtype="F31"), "type 'F31'", "type"),
    "type of a list": (entry(dtype=["F32"]), "the type", "type"),
    "bfloat16": (entry(dtype="BF16", shape=[6, 144]), "type BF16.*save it as float32", UnsupportedError),
    "more fields": (entry(extra=1), "something else than", "header"),
    "not an object": (lambda h: h.update({"fc.weight": 7}), "something else than", "header"),
    "shape of text": (entry(shape="3"), "no whole numbers", "header"),
    "negative shape": (entry(shape=[-3, -144]), "no whole numbers", "header"),
    "shape of floats": (entry(shape=[3.0, 144]), "no whole numbers", "header"),
    "truth as a size": (entry(shape=[True, 432]), "no whole numbers", "header"),
    "many axes": (entry(shape=[1] * 9), "no whole numbers", "header"),
    "bomb": (entry(shape=[1 << 40, 1 << 40]), "has 1728 bytes", "size-mismatch"),
    "beyond the file": (entry(shape=[1 << 20, 1 << 20], data_offsets=[0, 4 << 40]), "begin at|take", "size-mismatch"),
    "backwards": (entry(data_offsets=[100, 0]), "has -100 bytes", "size-mismatch"),
    "overlap": (entry("fc.bias", data_offsets=[0, 12]), "begin at", "size-mismatch"),
    "one offset": (entry(data_offsets=[0]), "no whole numbers", "header"),
    "no arrays": (lambda h: h.clear(), "describes 0 arrays", "header"),
    "list": (lambda h: b"[1, 2]    ", "not an HDF5 file", "not-hdf5"),
    "object left open": (lambda h: b"{" + b'"a": [' * 40000, "no JSON to be read", "json"),
    "no text": (lambda h: b'{"\xff\xff": 1}', "no JSON to be read", "json"),
    "name twice": (twice, "a name is there twice", "json"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_are_refused(name, tmp_path):
    """Before the library sees the file: it need not be installed."""
    edit, words, kind = HEADERS[name]
    refused(safetensors(tmp_path / "s.safetensors", arrays(), edit), PLAN, words, kind)


def test_sizes_of_files_that_are_refused(tmp_path):
    path = safetensors(tmp_path / "s.safetensors", arrays(), tail=b"more")
    refused(path, PLAN, "the file has", "size-mismatch")
    whole = safetensors(tmp_path / "s.safetensors", arrays()).read_bytes()
    path.write_bytes(whole[:-1])
    refused(path, PLAN, "the file has", "size-mismatch")
    path.write_bytes(struct.pack("<Q", 1 << 62) + whole[8:])
    refused(path, PLAN, "its header has", "header")
    path.write_bytes(struct.pack("<Q", len(whole)) + whole[8:])
    refused(path, PLAN, "its header has", "header")
    path.write_bytes(whole)
    refused(path, PLAN, "the budget is 99", "budget", budget=99)


def test_damaged_safetensors_never_say_something_else(tmp_path):
    """A byte of the header that changed is refused, or it is in a part that does not count."""
    pytest.importorskip("safetensors", reason="needs the extra `safetensors`")
    path = safetensors(tmp_path / "s.safetensors", arrays())
    whole, right = path.read_bytes(), answers(load_state(path, PLAN))
    random = np.random.default_rng(0)
    seen = set()
    for at in random.integers(0, 8 + int.from_bytes(whole[:8], "little"), 200).tolist():
        path.write_bytes(whole[:at] + bytes([whole[at] ^ int(random.integers(1, 256))]) + whole[at + 1 :])
        try:
            found = load_state(path, PLAN, trust=True)
        except IntsnnError as error:
            seen.add(type(error).__name__)
        else:
            assert np.array_equal(answers(found), right)
            seen.add("same")
    assert "ImportRefused" in seen


def test_pickles_are_never_loaded(tmp_path):
    """Archives and bare pickles are refused with the three lines that help."""
    bare, archive = tmp_path / "old.pt", tmp_path / "new.pt"
    bare.write_bytes(pickle.dumps({"a": np.ones(3)}, protocol=2))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", b"cos\nsystem\n(S'true'\ntR.")
    for path in (bare, archive):
        with pytest.raises(ImportRefused, match="pickled, never loaded here") as caught:
            load_state(path, PLAN)
        assert caught.value.code == "zip" and RECIPE in str(caught.value)
    assert RECIPE in str(pickle_refusal(bare)) and pickle_refusal(archive) is None
    assert pickle_refusal(tmp_path / "none.pt") is None and pickle_refusal(tmp_path) is None
    from intsnn import load

    with pytest.raises(ImportRefused, match="from_torch"):
        load(archive)
    path = hdf5(tmp_path / "state.h5", arrays())
    with pytest.raises(ImportRefused, match="give it as --architecture"):
        load(path, trust=True)


def test_templates_that_do_not_fit(tmp_path):
    path = hdf5(tmp_path / "state.h5", arrays())
    network = load_state(path, PLAN, trust=True)
    wide = arrays() | {"fc.weight": np.ones((4, 144), np.float32)}
    refused(hdf5(tmp_path / "wide.h5", wide), network, r"\(4, 144\) here, \(3, 144\) in the template", ShapeError)
    short = {name: value for name, value in arrays().items() if name != "fc.bias"}
    refused(hdf5(tmp_path / "short.h5", short), network, "no array 'fc.bias'", "weights")
    more = arrays() | {"more.weight": np.ones(4, np.float32)}
    refused(hdf5(tmp_path / "more.h5", more), network, "belongs to no layer", "weights")
    from intsnn import Input, Network, Readout

    save(Network.sequential(Input((2,)), Readout()), tmp_path / "spikes.h5")
    refused(path, tmp_path / "spikes.h5", "a float network is needed", "kind")


def test_what_torch_itself_writes(tmp_path):
    """The arrays of a module, saved as they come, with the layers described or the module as a template."""
    torch = pytest.importorskip("torch", reason="needs the extra `torch`")
    pytest.importorskip("safetensors", reason="needs the extra `safetensors`")
    from safetensors.torch import save_file
    from torch import nn

    from intsnn import from_torch

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 4, 3, 2, groups=2), nn.Flatten(),
        nn.Linear(324, 3),
    ).eval()  # fmt: skip
    template = from_torch(module, (2, 6, 6))
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.1)
    save_file(module.state_dict(), tmp_path / "state.safetensors")
    plan = {
        "input": [2, 6, 6],
        "layers": [
            {"name": "0", "type": "Conv2d"}, {"name": "1", "type": "BatchNorm2d"}, {"name": "2", "type": "ReLU"},
            {"name": "3", "type": "ConvTranspose2d", "stride": 2, "groups": 2}, {"name": "4", "type": "Flatten"},
            {"name": "5", "type": "Linear"},
        ],
    }  # fmt: skip
    wanted = answers(from_torch(module, (2, 6, 6)))
    for architecture in (plan, template):
        assert np.array_equal(answers(load_state(tmp_path / "state.safetensors", architecture)), wanted)
    assert not np.array_equal(answers(template), wanted)
