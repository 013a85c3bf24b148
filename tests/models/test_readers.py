"""One door: what is in a file decides who reads it, and what nobody reads is told by name with the next step."""

import json
import pickle
import zipfile

import h5py
import numpy as np
import pytest

from intsnn.cli.main import main
from intsnn.errors import ImportRefused, ShapeError
from intsnn.files import save
from intsnn.layers import Affine, Input, Readout, SignedIF
from intsnn.models.readers import load, reasons
from intsnn.network import FloatAffine, FloatInput, FloatNetwork, FloatReLU, FloatSigmoid, Network


def status(*arguments):
    """Exit status of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0


def float_network(*more):
    rng = np.random.default_rng(0)
    nodes = (
        FloatInput(name="in", shape=(4,)),
        FloatAffine(name="d", inputs=("in",), weight=rng.normal(size=(3, 4))),
        FloatReLU(name="r", inputs=("d",)),
        FloatAffine(name="e", inputs=("r",), weight=rng.normal(size=(2, 3))),
        *more,
    )
    return FloatNetwork(nodes, nodes[-1].name)


def test_own_files_of_every_kind_whatever_they_are_called(tmp_path):
    spiking = Network.sequential(Input((4,)), Affine(np.ones((2, 4), int)), SignedIF(3, 3), Readout(), t_drive=3)
    for network in (spiking, float_network()):
        save(network, tmp_path / "net.bin")
        assert type(load(tmp_path / "net.bin", trust=True)) is type(network)
        assert reasons(tmp_path / "net.bin", trust=True) == []


def written(path, kind):
    """A file that holds no network, or none that is taken."""
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"weight": [1.0]}, protocol=2))
    elif kind == "npy":
        np.save(path.with_suffix(".npy"), np.ones(3))
        path.with_suffix(".npy").rename(path)
    elif kind in ("npz", "torch", "zip"):
        member = {"npz": "x.npy", "torch": "archive/data.pkl", "zip": "readme.txt"}[kind]
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, b"\x93NUMPY")
    elif kind == "safetensors":
        header = json.dumps({"fc.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    elif kind in ("state dict", "nir", "netx", "hdf5"):
        name = {"state dict": "fc1.weight", "nir": "node/nodes/0/weight", "netx": "layer/0/weight", "hdf5": "x"}[kind]
        with h5py.File(path, "w") as file:
            file[name] = np.ones((2, 2), np.float32)
            if kind == "nir":
                file["version"] = b"1.0"
    else:
        path.write_bytes({"json": b' {"class_name": "Sequential"}', "tflite": b"\x1c\0\0\0TFL3" + b"\0" * 40,
                          "empty": b"", "text": b"hello, world", "gzip": b"\x1f\x8b\x08\0\0\0"}[kind])  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("pickle", "is a pickle, as PyTorch writes .*intsnn.from_torch.module, .3, 32, 32..; intsnn.save.net"),
        ("torch", "is a PyTorch archive .pickled.*intsnn.from_torch"),
        ("safetensors", "is a state dict in safetensors.*--architecture"),
        ("state dict", "is a state dict in HDF5.*--architecture"),
        ("npy", "is an array of NumPy.*--data"),
        ("npz", "is an archive of NumPy arrays.*--data"),
        ("zip", "is a zip archive without a network"),
        ("nir", "is a graph in NIR"),
        ("netx", "is a network of lava-dl"),
        ("hdf5", "is HDF5, but of no program"),
        ("json", "is JSON.*--architecture"),
        ("tflite", "TensorFlow Lite.*model.save"),
        ("gzip", "is packed with gzip"),
        ("empty", "is empty"),
        ("text", "is of no known format"),
    ],
)
def test_what_no_reader_takes(tmp_path, kind, said):
    path = written(tmp_path / "file.h5", kind)
    with pytest.raises(ImportRefused, match=said) as caught:
        load(path, trust=True)
    words = str(caught.value)
    assert "networks are taken from files of intsnn, of Keras" in words and "\n" not in words
    assert reasons(path, trust=True) == [("", words)]


def test_state_dicts_with_a_list_of_their_layers(tmp_path):
    """HDF5 by the one door; its refusals are those of its reader."""
    rng = np.random.default_rng(1)
    with h5py.File(tmp_path / "state.h5", "w") as file:
        for name, shape in (("a.weight", (3, 4)), ("a.bias", (3,)), ("b.weight", (2, 3)), ("b.bias", (2,))):
            file[name] = rng.normal(size=shape).astype(np.float32)
    layers = [
        {"name": "a", "type": "Linear", "in_features": 4, "out_features": 3},
        {"name": "r", "type": "ReLU"},
        {"name": "b", "type": "Linear", "in_features": 3, "out_features": 2},
    ]
    (tmp_path / "net.json").write_text(json.dumps({"input": [4], "layers": layers}))
    network = load(tmp_path / "state.h5", architecture=tmp_path / "net.json", trust=True)
    assert network.input_shape == (4,) and reasons(tmp_path / "state.h5", architecture=tmp_path / "net.json") == []
    (tmp_path / "net.json").write_text(json.dumps({"input": [4], "layers": layers[1:]}))
    with pytest.raises(ShapeError, match="layer 'b'"):
        load(tmp_path / "state.h5", architecture=tmp_path / "net.json", trust=True)


def test_a_folder_of_tensorflow(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(ImportRefused, match="is a SavedModel folder.*model.save"):
        load(tmp_path)


def test_check_lists_every_reason(tmp_path, capsys):
    """Exit 3 and all of them, or 0; the same in JSON."""
    bad = float_network(
        FloatSigmoid(name="s", inputs=("e",)), FloatAffine(name="f", inputs=("s",), weight=np.ones((2, 2))),
        FloatSigmoid(name="t", inputs=("f",)), FloatAffine(name="g", inputs=("t",), weight=np.ones((2, 2))),
    )  # fmt: skip
    save(bad, tmp_path / "bad.h5")
    save(float_network(), tmp_path / "good.h5")
    report = tmp_path / "r.json"
    assert status("inspect", tmp_path / "bad.h5", "--check", "--json", report) == 3
    said = capsys.readouterr().out
    assert "layer 's': a sigmoid inside" in said and "layer 't': a sigmoid inside" in said
    assert "2 reasons not to convert" in said
    found = json.loads(report.read_text())
    assert found["converts"] is False and [row["layer"] for row in found["reasons"]] == ["s", "t"]
    assert status("inspect", tmp_path / "good.h5", "--check", "--json", report) == 0
    assert json.loads(report.read_text())["converts"] is True
    assert "converts" in capsys.readouterr().out


def test_the_shape_of_the_input_on_the_command_line(tmp_path, capsys):
    save(float_network(), tmp_path / "net.h5")
    for text in ("3,x", "", "3;2", "-1,2"):
        assert status("inspect", tmp_path / "net.h5", "--input-shape", text) == 2
        assert "give C,H,W (images), C,L (signals) or N" in capsys.readouterr().err
