"""All that stands against reading a file, told at once."""

import json

import hostile
import numpy as np
import pytest
from hostile import keras_file, sequential
from networks.keras import Functional

from intsnn.errors import DataNotFoundError, ImportRefused
from intsnn.models import readers
from intsnn.models.keras.load import load, problems


def told(path, **options):
    return problems(path, trust=True, **options)


def test_a_network_that_is_taken_has_none(tmp_path):
    assert told(keras_file(tmp_path / "x.h5", *hostile.small())) == []


def test_every_layer_is_told(tmp_path):
    """Shapes are guessed behind what cannot be read, so that the layers behind it can be looked at."""
    rng = np.random.default_rng(0)
    layers = [
        ("Conv2D", {"name": "c1", "batch_input_shape": [None, 8, 8, 1], "filters": 3, "kernel_size": [3, 3],
                    "activation": "swish", "use_bias": False}),
        ("PReLU", {"name": "slopes"}),
        ("Conv2D", {"name": "c2", "filters": 4, "kernel_size": [3, 3], "strides": [2, 2], "padding": "reflect",
                    "use_bias": False}),
        ("Conv2D", {"name": "c3", "filters": 5, "kernel_size": [3, 3], "padding": "same", "use_bias": False}),
        ("Lambda", {"name": "code"}),
        ("Dense", {"name": "d1", "units": 4}),
        ("ELU", {"name": "curve"}),
        ("Dense", {"name": "d2", "units": 4, "activation": "softmax"}),
    ]  # fmt: skip
    weights = {
        "c1": {"kernel": rng.normal(size=(3, 3, 1, 3)).astype("f4")},
        "c2": {"kernel": rng.normal(size=(3, 3, 3, 4)).astype("f4")},
        "c3": {"kernel": rng.normal(size=(3, 3, 4, 6)).astype("f4")},
    }
    path = keras_file(tmp_path / "x.h5", layers, weights)
    found = told(path)
    assert [sentence.split("'")[1] for sentence in found] == ["c1", "slopes", "c2", "c3", "code", "curve"]
    wanted = ["swish", "one slope", "reflect", "needs (3, 3, 4, 5)", "Python", "LeakyReLU"]
    for sentence, words in zip(found, wanted, strict=True):
        assert words in sentence and "\n" not in sentence
    with pytest.raises(Exception) as caught:
        load(path, trust=True)
    assert str(caught.value) == found[0]


@pytest.mark.parametrize(
    "kind, config, units",
    [
        ("LSTM", {"units": 5}, 5),
        ("GRU", {"units": 5, "return_sequences": True}, 5),
        ("QuantizeWrapperV2", {"layer": {"class_name": "Conv1D", "config": {"filters": 6, "kernel_size": [3]}}}, 6),
        ("MultiHeadAttention", {}, 4),
    ],
)
def test_shapes_behind_layers_that_are_refused(kind, config, units, tmp_path):
    layers = [("InputLayer", {"name": "in", "batch_input_shape": [None, 9, 4]}), (kind, {"name": "x"} | config)]
    layers.append(("Dense", {"name": "d", "units": 2, "use_bias": False}))
    layers.append(("Activation", {"name": "a", "activation": "gelu"}))
    path = keras_file(tmp_path / "x.h5", layers, {"d": {"kernel": np.ones((units, 2), "f4")}})
    found = told(path)
    assert len(found) == 2 and kind in found[0] and "'gelu'" in found[1]
    keras_file(path, layers, {"d": {"kernel": np.ones((units + 1, 2), "f4")}})
    assert f"({units + 1}, 2), the architecture needs ({units}, 2)" in told(path)[1]


def test_a_sequence_is_guessed_as_one(tmp_path):
    layers = [("InputLayer", {"name": "in", "batch_input_shape": [None, 9, 4]})]
    layers += [("GRU", {"name": "x", "units": 5, "return_sequences": True})]
    layers += [("Conv1D", {"name": "c", "filters": 2, "kernel_size": [3], "use_bias": False})]
    path = keras_file(tmp_path / "x.h5", layers, {"c": {"kernel": np.ones((3, 6, 2), "f4")}})
    assert "the architecture needs (3, 5, 2)" in told(path)[1]


def test_branches_that_do_not_depend_on_it_are_looked_at(tmp_path):
    m = Functional((4,))
    left = m.layer("Lambda", {"name": "code"}, [m.start], m.x)
    right = m.dense(m.start, 4, "linear")
    m.entries[-1]["config"]["activation"] = "tanh"
    output = m.layer("Multiply", {"name": "gate"}, [left, right], m.x, listed=True)
    found = told(m.save(tmp_path / "x.h5", output))
    assert [sentence.split("'")[1] for sentence in found] == ["dense_1", "code", "gate"]


@pytest.mark.parametrize("case", hostile.NETWORKS, ids=lambda case: case.name)
def test_what_load_refuses_is_told_first(case, tmp_path):
    path = case.make(tmp_path)
    try:
        load(path, trust=True, **case.options)
    except Exception as error:
        found = told(path, **case.options)
        assert found[0] == str(error)
        assert len(set(found)) == len(found)
    else:
        pytest.fail("load takes it")


def test_files_and_arguments(tmp_path):
    with pytest.raises(DataNotFoundError):
        told(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no network")
    assert len(told(tmp_path / "text.h5")) == 1
    with pytest.raises(ImportRefused, match="'jax' is not known"):
        told(tmp_path / "text.h5", backend="jax")
    layers, weights = hostile.small()
    layers[0][1]["batch_input_shape"] = [None, None, None, 1]
    path = keras_file(tmp_path / "x.h5", layers, weights, full=False)
    (tmp_path / "a.json").write_text(json.dumps(sequential(layers)))
    (sentence,) = told(path, architecture=tmp_path / "a.json")
    assert "--input-shape C,H,W" in sentence
    assert told(path, architecture=tmp_path / "a.json", input_shape=[1, 6, 6]) == []
    net = readers.load(path, architecture=tmp_path / "a.json", input_shape=[1, 6, 6], trust=True)
    assert net.input_shape == (1, 6, 6)
