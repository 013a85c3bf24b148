"""Maps that grow: nearest and zero-filled upsampling, transposed convolutions, a class for every pixel."""

import numpy as np
import pytest

from intsnn.analysis.scores import accuracy, confusion, mean_iou
from intsnn.analysis.verification import verify
from intsnn.conversion.quantise import quantise_network
from intsnn.conversion.spikes import NeuronRule, convert
from intsnn.datasets.catalogue import load
from intsnn.datasets.segments import compose
from intsnn.engine.ann import integer_ann
from intsnn.engine.backends.fused.runner import prepare
from intsnn.engine.simulation import simulate
from intsnn.errors import FormatError, ImportRefused, ShapeError
from intsnn.files import network_file as files
from intsnn.formats.fixed import Fixed
from intsnn.layers import IF, Conv2d, Flatten, Input, Readout, SignedIF, Upsample2d
from intsnn.network.float_nodes import FloatConv2d, FloatInput, FloatReLU, FloatUpsample2d
from intsnn.network.floating import FloatNetwork, forward
from intsnn.network.spiking import Network


def dense_network(levels=3):
    """conv, nearest, conv, zeros in between, conv, 1x1: three classes for each of 16 x 16 pixels."""

    rng = np.random.default_rng(0)

    def conv(outputs, inputs, kernel, padding):
        weight = rng.integers(-3, 4, (outputs, inputs, kernel, kernel))
        bias = rng.integers(-4, 5, outputs)
        return Conv2d(weight, bias, Fixed(3), "spread", padding=padding)

    return Network.sequential(
        Input((1, 4, 4)), conv(3, 1, 3, 1), ("n1", SignedIF(7, levels, v_initial=3)), Upsample2d(2), conv(4, 3, 3, 1),
        ("n2", SignedIF(9, levels, v_initial=4)), Upsample2d(2, "zeros"), conv(5, 4, 4, 2),
        ("n3", SignedIF(8, levels, v_initial=4)), conv(3, 5, 1, 0), Readout(), t_drive=levels, levels=levels,
    )  # fmt: skip


def test_values_are_copied_or_moved_apart():
    image = np.arange(6).reshape(1, 1, 2, 3)
    for mode, expected in (
        ("nearest", [[0, 0, 1, 1, 2, 2]] * 3 + [[3, 3, 4, 4, 5, 5]] * 3),
        ("zeros", [[0, 0, 1, 0, 2], [0] * 5, [0] * 5, [3, 0, 4, 0, 5]]),
    ):
        network = Network.sequential(Input((1, 2, 3)), Upsample2d((3, 2), mode), Readout(), t_drive=1)
        for path in ("layer", "step", "reference"):
            found = simulate(network, image, path=path)
            assert found.outputs.reshape(network.shapes["readout_2"][1:]).tolist() == expected
        grown = FloatUpsample2d(name="up", inputs=("x",), factor=(3, 2), mode=mode)
        graph = FloatNetwork((FloatInput(name="x", shape=(1, 2, 3)), grown), "up")
        assert forward(graph, image)[0, 0].tolist() == expected


def test_zeros_and_a_turned_kernel_are_a_transposed_convolution():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install intsnn[qat]")
    rng = np.random.default_rng(1)
    for kernel, stride, padding in ((4, 2, 1), (3, 2, 0), (2, 3, 1), (3, 1, 1)):
        weight, x = rng.integers(-3, 4, (2, 5, kernel, kernel)), rng.integers(0, 9, (4, 2, 3, 5))
        turned = weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
        conv = Conv2d(turned, weight_format=Fixed(4), padding=kernel - 1 - padding)
        network = Network.sequential(Input((2, 3, 5)), Upsample2d(stride, "zeros"), conv, Readout(), t_drive=1)
        expected = torch.nn.functional.conv_transpose2d(
            torch.from_numpy(x), torch.from_numpy(weight), stride=stride, padding=padding
        )
        assert np.array_equal(simulate(network, x).outputs.reshape(expected.shape), expected.numpy())


def test_every_pixel_has_its_class():
    network, x = dense_network(), np.random.default_rng(2).integers(0, 6, (6, 1, 4, 4))
    run = simulate(network, x, settle=True)
    maps = run.outputs.reshape(6, 3, 16, 16)
    assert run.settled and run.samples == 6 and run.predictions.shape == (6, 16, 16)
    assert np.array_equal(run.predictions, maps.argmax(axis=1))
    assert len(np.unique(run.predictions)) > 1
    outcome = verify(network, x, reference=1)
    assert outcome.due and outcome.ok and outcome.mismatches == 0 and outcome.ann_agreement == 6
    assert np.array_equal(integer_ann(network, x).predictions, run.predictions)


def test_one_pixel_is_a_vector_of_classes():
    network = Network.sequential(
        Input((1, 1, 1)), Conv2d(np.array([1, 3, 2]).reshape(3, 1, 1, 1)), Readout(), t_drive=1
    )
    assert simulate(network, np.ones((2, 1, 1, 1), np.int64)).predictions.tolist() == [1, 1]


def test_the_fused_path_gives_the_same_maps():
    network, x = dense_network(), np.random.default_rng(4).integers(0, 6, (3, 1, 4, 4))
    want = simulate(network, x, settle=True, path="step")
    got = prepare(network, settle=True)(x)
    assert want.outputs.any() and np.array_equal(got.outputs, want.outputs)
    assert np.array_equal(got.predictions, want.predictions) and got.predictions.ndim == 3


def test_files_keep_factor_and_mode(tmp_path):
    network = dense_network()
    files.save(network, tmp_path / "net.h5")
    again = files.load(tmp_path / "net.h5")
    assert again.nodes["upsample2d_6"] == Upsample2d((2, 2), "zeros")
    x = np.random.default_rng(3).integers(0, 6, (2, 1, 4, 4))
    assert np.array_equal(simulate(again, x, settle=True).outputs, simulate(network, x, settle=True).outputs)


def test_a_mode_that_does_not_exist_is_refused(tmp_path):
    import h5py

    files.save(dense_network(), tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        del file.attrs["digest"], file.attrs["intsnn"]
        file["nodes/upsample2d_3"].attrs["mode"] = "bilinear"
    with pytest.raises(ImportRefused, match="'bilinear'; choose one of nearest, zeros"):
        files.load(tmp_path / "net.h5")


def test_what_cannot_be_is_said():
    with pytest.raises(ShapeError, match="Upsample2d.factor: found 0; .* 1 to"):
        Upsample2d(0)
    with pytest.raises(FormatError, match="choose one of nearest, zeros"):
        Upsample2d(2, "linear")
    with pytest.raises(ShapeError, match=r"\(C, H, W\) is needed"):
        Network.sequential(Input((1, 2, 2)), Flatten(), Upsample2d(2), Readout())
    with pytest.raises(ShapeError, match="'u': factor: .* 1 to"):
        FloatNetwork(
            (FloatInput(name="x", shape=(1, 2, 2)), FloatUpsample2d(name="u", inputs=("x",), factor=(0, 1))), "u"
        )


def test_a_float_network_with_upsampling_is_quantised_and_converted():
    """Upsampling between a convolution and its ReLU, and in front of one."""
    rng = np.random.default_rng(4)

    def conv(name, source, outputs, inputs):
        return FloatConv2d(
            name=name, inputs=(source,), weight=rng.normal(0, 0.4, (outputs, inputs, 3, 3)).astype(np.float32),
            bias=rng.normal(0, 0.1, outputs).astype(np.float32), padding=((1, 1), (1, 1)),
        )  # fmt: skip

    nodes = (
        FloatInput(name="x", shape=(1, 6, 6)), conv("a", "x", 4, 1),
        FloatUpsample2d(name="up", inputs=("a",), factor=(2, 2)), FloatReLU(name="ra", inputs=("up",)),
        FloatUpsample2d(name="zeros", inputs=("ra",), factor=(1, 2), mode="zeros"), conv("b", "zeros", 4, 4),
        FloatReLU(name="rb", inputs=("b",)), conv("out", "rb", 3, 4),
    )  # fmt: skip
    raw = rng.integers(0, 256, (20, 1, 6, 6))
    quantised = quantise_network(FloatNetwork(nodes, "out"), raw, weight_bits=4, activation_bits=3).network
    made = convert(quantised, NeuronRule("qffs"))
    assert all(layer.get("moved_levels", 0) == 0 for layer in made.layers.values())
    run = simulate(made.network, raw, settle=True, keep_final=True)
    levels = forward(quantised.graph, raw / 255.0, record=["ra", "rb", "out"], dtype=np.float64)
    for name in ("ra", "rb"):
        assert np.array_equal(np.rint(levels[name] / quantised.graph[name].step), run.final[f"{name}.counts"])
    assert run.predictions.shape == (20, 12, 23)
    assert (run.predictions == levels["out"].argmax(axis=1)).mean() > 0.999  # the readout rounds its bias


# -- data and scores ---------------------------------------------------------------------------------------------------


def test_pictures_are_the_same_everywhere():
    data = load("digits-segments:train:40")
    assert data.images.shape == (40, 1, 24, 24) and data.labels.shape == (40, 24, 24) and data.maximum == 16
    assert data.classes[:10] == tuple("0123456789") and data.classes[10] == "background"
    assert np.array_equal(load("digits-segments:train:10").images, data.images[:10])
    assert (int(data.images.sum()), int(data.labels.sum())) == (48637, 208699)
    assert not np.array_equal(load("digits-segments:test:10").images, data.images[:10])


def test_strokes_have_the_class_of_their_digit_and_do_not_touch():
    images = np.zeros((2, 1, 4, 4), np.uint8)
    images[0, 0, 1:3, 1:3], images[1, 0, :, 0] = 16, 3  # too faint to be of a stroke
    pictures, classes = compose(images, np.array([7, 2]), 16, 50, 3)
    assert set(np.unique(classes)) == {7, 10}
    assert (pictures[:, 0][classes == 7] == 16).all()
    squares = (classes == 7).sum(axis=(1, 2))
    assert (squares % 4 == 0).all() and squares.max() > 4
    assert (pictures[:, 0][classes == 10] == 16).any()  # fragments are background


def test_scores():
    labels, guesses = np.array([[[0, 0], [1, 2]]]), np.array([[[0, 1], [1, 1]]])
    assert accuracy(guesses, labels) == 50.0
    assert confusion(guesses, labels, 4).tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0] * 4]
    assert mean_iou(guesses, labels, 4) == pytest.approx(100 * (1 / 2 + 1 / 3 + 0) / 3)  # class 3 is nowhere
    assert mean_iou(labels, labels, 3) == 100.0
    with pytest.raises(ShapeError, match="one for each"):
        accuracy(guesses[:, 0, 0], labels)


def test_an_unsigned_network_keeps_what_came_too_early():
    """IF neurons behind an upsampling: no special case."""
    network = Network.sequential(Input((1, 1, 1)), Upsample2d(2), ("n", IF(2)), Readout(), t_drive=4)
    assert simulate(network, [[[[1]]]]).outputs.tolist() == [[2, 2, 2, 2]]
