"""Files of records: a layout in which no name collides, narrow types, and what belongs to the samples."""

import dataclasses
import re

import h5py
import numpy as np
import pytest

from intsnn import IF, Affine, Conv2d, Events, Fixed, Flatten, Input, MaxPool2d, Network, Readout, SignedIF, simulate
from intsnn.engine.simulation import QUANTITIES, _layers_with
from intsnn.errors import FormatError, ImportRefused, ShapeError
from intsnn.files import network_file as files
from intsnn.files.nodes import LAYERS, stored_fields
from intsnn.files.recording import load
from intsnn.layers import Decay, Refractory

ODD = ("steps", "n", "n/v", "samples", "layers", "order", "n%2Fv", ".", "..", "spikes", "rows", "ä b")


def chain(names, threshold=5):
    """One neuron layer after another."""
    layers = [("in", Input((2,), Fixed(4)))]
    for name in names:
        layers += [(f"w {name}", Affine([[3, -1], [1, 2]], weight_format=Fixed(3))), (name, IF(threshold))]
    return Network.sequential(*layers)


def test_no_name_collides(tmp_path):
    network, codes = chain(ODD), np.array([[7, -3], [1, 6], [5, 5]])
    everything = ("spikes", "v", "counts", "current")
    expected = simulate(network, codes, steps=6, record=everything)
    simulate(network, codes, steps=6, record=everything, record_to=tmp_path / "r.h5")
    found = load(tmp_path / "r.h5")
    assert set(found.layers) == set(network.nodes)
    for key, values in expected.records.items():
        name, _, quantity = key.rpartition(".")
        for b in range(3):
            assert np.array_equal(found.sample(name, quantity, b), values[:, b])
    assert np.array_equal(found.inputs, codes) and found.inputs.dtype == np.int8


def settling():
    """Samples that come to rest after 3, 4, ... steps."""
    return Network.sequential(
        Input((1,), Fixed(7, signed=False)),
        ("a", Affine([[1]])),
        ("n", SignedIF(20, levels=9, v_initial=0)),
        ("b", Affine([[2]])),
        ("m", SignedIF(30, levels=9, v_initial=0)),
        ("o", Readout()),
        t_drive=3,
        levels=9,
    )


@pytest.mark.parametrize("length", ["ragged", "equal"])
def test_the_split_changes_nothing(length, tmp_path):
    """Also where a later block is longer, or shorter, than those before it."""
    network = settling()
    codes = np.array([[0], [25], [100], [1], [127], [40], [0]])
    contents = []
    for batch_size, threads in ((1, 1), (2, 2), (3, 1), (7, 1)):
        result = simulate(
            network, codes, settle=True, record=("spikes", "v", "counts", "current"), record_to=tmp_path / "r.h5",
            record_length=length, batch_size=batch_size, threads=threads,
        )  # fmt: skip
        found = load(tmp_path / "r.h5", trust=True)
        contents.append({(name, key): array.tolist() for name, q in found.layers.items() for key, array in q.items()})
        assert len(set(found.rows.tolist())) > 2 and found.length == length and found.settle
        assert (found.rows.max(), found.driven, found.steps) == (result.steps, 3, 3)
        if length == "equal":
            assert {array.shape[:2] for q in found.layers.values() for array in q.values()} == {(7, result.steps)}
    assert all(content == contents[0] for content in contents[1:])


def test_types_are_those_that_bounds_prove(tmp_path):
    network = Network.sequential(
        Input((1, 4, 4), Fixed(4, signed=False)),
        ("c", Conv2d(np.ones((2, 1, 3, 3), int) * 100, padding=1, weight_format=Fixed(8))),
        ("n", IF(1000, v_format=Fixed(20), u_format=Fixed(40), u_decay=Decay.by_shift(1))),
        ("p", MaxPool2d(2)),
        ("f", Flatten()),
        ("a", Affine(np.ones((3, 8), int), weight_format=Fixed(2))),
        ("o", IF(300, v_format=Fixed(30), max_spikes_per_step=1)),
    )
    codes = np.random.default_rng(0).integers(0, 16, (2, 1, 4, 4))
    simulate(network, codes, steps=4, record=QUANTITIES, record_to=tmp_path / "r.h5")
    found = load(tmp_path / "r.h5").layers
    kinds = {(name, key): array.dtype.name for name, q in found.items() for key, array in q.items()}
    assert kinds["c", "current"] == "int16"  # 9 * 15 * 100
    assert kinds["n", "spikes"] == kinds["p", "spikes"] == kinds["o", "spikes"] == "int8"
    assert kinds["n", "u"] == "int64" and kinds["n", "v"] == "int32"
    assert kinds["n", "counts"] == kinds["a", "current"] == kinds["o", "v"] == "int8"  # 4 spikes, 8, 32


def test_small_runs_take_little_room(tmp_path):
    """Two images, 16 steps, 3,000 neurons: below what their spikes and membranes take as they are."""
    rng = np.random.default_rng(0)
    network = Network.sequential(
        Input((100,), Fixed(8, signed=False)), Affine(rng.integers(-3, 4, (3000, 100)), weight_format=Fixed(3)), IF(900)
    )
    simulate(network, rng.integers(0, 256, (2, 100)), steps=16, record=("spikes", "v"), record_to=tmp_path / "r.h5")
    assert (tmp_path / "r.h5").stat().st_size < 2 * 16 * 3000 * (1 + 2) + 20_000


def test_silence_is_read_again(tmp_path):
    """Zeros deflate 1,000 to 1, more than files of networks may."""
    network = Network.sequential(Input((2000,)), IF(1 << 20))
    simulate(network, np.zeros((20, 2000), int), steps=20, record="spikes", record_to=tmp_path / "r.h5")
    assert not load(tmp_path / "r.h5").layers["neuron_1"]["spikes"].any()


@pytest.mark.parametrize("kind", ["constant", "frames", "events"])
def test_inputs_are_kept_as_they_came(kind, tmp_path):
    network = Network.sequential(Input((2,), Fixed(4), multiplier=3, offset=1), IF(5), t_drive=3)
    frames = np.array([[[1, 2]], [[0, -8]], [[7, 3]], [[5, 5]]])  # (T, B, 2); the last one comes too late
    inputs = {"constant": frames[0], "frames": frames}.get(kind)
    if kind == "events":
        step, sample, index = np.nonzero(frames)
        inputs = Events(step, sample, index, 4, 1, frames[step, sample, index])
    simulate(network, inputs, record="v", record_to=tmp_path / "r.h5", record_labels=[1])
    found = load(tmp_path / "r.h5")
    assert found.inputs.tolist() == (frames[0] if kind == "constant" else frames[:3].swapaxes(0, 1)).tolist()
    assert found.labels.tolist() == [1] and found.predictions.shape == (1,) and found.outputs.shape == (1, 2)


def test_labels_and_length_that_cannot_be(tmp_path):
    network, path = Network.sequential(Input((2,)), IF(5)), tmp_path / "r.h5"
    for labels, error in (([1], ShapeError), (1, ShapeError), ([0.5, 1], FormatError), (["a", "b"], FormatError)):
        with pytest.raises(error, match="record_labels"):
            simulate(network, [[1, 1], [2, 2]], steps=2, record="v", record_to=path, record_labels=labels)
    with pytest.raises(FormatError, match="record_length"):
        simulate(network, [[1, 1]], steps=2, record="v", record_to=path, record_length="long")
    assert list(tmp_path.iterdir()) == []


def test_the_digest_is_of_what_is_computed(tmp_path):
    network = chain(["n"])
    files.save(network, tmp_path / "n.h5", provenance={"source": "somewhere"})
    again = files.load(tmp_path / "n.h5")
    digest = files.network_digest(network)
    assert re.fullmatch("[0-9a-f]{64}", digest) and files.network_digest(again) == digest
    told = dataclasses.replace(network, metadata={"a": 1})
    assert files.network_digest(told) == digest
    others = [chain(["m"]), chain(["n"], threshold=6), dataclasses.replace(network, t_drive=3)]
    assert len({digest, *map(files.network_digest, others)}) == 4


def test_other_files_are_no_records(tmp_path):
    network = chain(["n"])
    files.save(network, tmp_path / "n.h5")
    with pytest.raises(ImportRefused, match="no records"):
        load(tmp_path / "n.h5")
    simulate(network, [[1, 2]], steps=3, record="v", record_to=tmp_path / "r.h5")
    whole = (tmp_path / "r.h5").read_bytes()
    for what in ("network_sha256", "samples/rows", "samples/outputs", "shorter"):
        (tmp_path / "r.h5").write_bytes(whole)
        with h5py.File(tmp_path / "r.h5", "r+") as file:
            if what == "shorter":
                file["layers/n/v"].resize(2, axis=0)
            elif "/" in what:
                del file[what]
            else:
                del file.attrs[what]
        with pytest.raises(ImportRefused):
            load(tmp_path / "r.h5", trust=True)


# ---- the page --------------------------------------------------------------------------------------------------------


def defaults(cls, prefix=""):
    """Stored fields of a class and their defaults, as the page writes them."""
    found = {}
    for item in dataclasses.fields(cls):
        if item.name not in stored_fields(cls):
            continue
        default = item.default
        if default is dataclasses.MISSING and item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        if isinstance(default, Decay | Refractory):
            found |= {f"{prefix}{item.name}.{key}": text for key, text in defaults(type(default)).items()}
        elif default is dataclasses.MISSING:
            found[prefix + item.name] = "needed"
        else:
            word = getattr(default, "name", default)
            word = list(word) if isinstance(word, tuple) else word
            found[prefix + item.name] = (
                '"none"'
                if word is None
                else f'"{word}"'
                if isinstance(word, str | Fixed)
                else (str(int(word)) if isinstance(word, bool) else str(word))
            )
    return found


def test_the_page_has_every_field_with_its_default(repository):
    text = (repository / "docs" / "files.md").read_text("utf-8")
    section = text[text.index("### Fields of every node") : text.index("### Weights")]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))
    own = {name: cls for name, cls in LAYERS.items() if cls.__module__.startswith("intsnn.")}
    assert sorted(rows) == sorted(own)
    for name, cls in own.items():
        expected = ", ".join(f"`{key}` {value}" for key, value in defaults(cls).items())
        assert rows[name] == (expected or "none"), name


def test_the_page_says_what_can_be_recorded(repository):
    text = (repository / "docs" / "files.md").read_text("utf-8")
    section = text[text.index("## Records") :]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*)\|", section, re.MULTILINE))
    network = Network.sequential(
        Input((1, 4, 4)), ("c", Conv2d(np.ones((1, 1, 1, 1), int))), ("n", IF(3, u_format=Fixed(9))),
        ("p", MaxPool2d(2)), ("f", Flatten()), ("a", Affine(np.ones((2, 4), int))), ("o", Readout()),
    )  # fmt: skip
    for name, layer in network.nodes.items():
        can = {quantity for quantity in QUANTITIES if name in _layers_with(network, quantity)}
        assert set(re.findall(r"`(\w+)`", rows[type(layer).__name__])) == can, name
    assert set(rows) >= set(LAYERS)
