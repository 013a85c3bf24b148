"""Nothing is learned from, or calibrated with, what an accuracy is measured on, unless that is asked for and said."""

import json

import numpy as np
import pytest
from command_line import bad, good

from intsnn.bench.sweep.cells import Cells
from intsnn.bench.sweep.grid import Grid, ModelSpec
from intsnn.conversion.pipeline import convert_float
from intsnn.datasets import catalogue as datasets
from intsnn.datasets.events import load_events
from intsnn.datasets.overlap import check_overlap, digests
from intsnn.errors import ConversionError
from intsnn.files.network_file import read_info
from intsnn.models import digits
from intsnn.models.keras import load as keras

SOURCE = str(digits.network_file())


def test_samples_are_known_by_their_content():
    codes = np.random.default_rng(0).integers(0, 256, (5, 1, 4, 4))
    known = digests(codes)
    assert len(set(known)) == 5 and all(len(one) == 16 for one in known)
    for other in (codes.astype(np.uint8), codes.astype(">u2"), codes.astype(np.int32), codes.reshape(5, 16)):
        assert digests(other) == known
    assert digests(np.asfortranarray(codes)) == known and digests(codes[::-1]) == known[::-1]
    changed = codes.copy()
    changed[3, 0, 2, 1] ^= 1
    assert [a == b for a, b in zip(digests(changed), known, strict=True)] == [True, True, True, False, True]
    wide = codes + np.array([0, 0, 300, 0, -300])[:, None, None, None]  # 64 bits where they are needed
    assert [a == b for a, b in zip(digests(wide), known, strict=True)] == [True, True, False, True, False]
    assert len(set(digests(wide))) == 5 and digests(wide) == digests(wide.astype(np.int16))
    assert digests(codes[:0]) == []


def test_an_overlap_is_counted():
    known, tested = [b"a", b"b"], [b"b", b"c", b"b"]
    assert check_overlap(known, [b"c"], ("x", "y"), False, "no") is None
    found = check_overlap(known, tested, ("x", "y"), True, "no")
    assert (found.samples, found.of) == (2, 3) and str(found) == "2 of 3 samples of y are also in x"
    with pytest.raises(ConversionError, match="2 of 3 samples of y are also in x.*; use others"):
        check_overlap(known, tested, ("x", "y"), False, "use others")


def test_a_part_that_is_not_named_is_the_training_part(tmp_path):
    assert datasets.load("digits:20").name == "digits:test:20"
    assert datasets.load("digits:20", "train").name == "digits:train:20"
    assert datasets.load("digits:test:20", "train").name == "digits:test:20"
    assert load_events("digits-saccades:3").name == "digits-saccades:test:3"
    assert load_events("digits-saccades:3", "train").name == "digits-saccades:train:3"
    x = np.arange(60, dtype=np.uint8).reshape(6, 10)
    np.savez(tmp_path / "whole.npz", x=x)
    np.savez(tmp_path / "parts.npz", x_train=x[:4], x_test=x[4:])
    np.savez(tmp_path / "all.npz", x=x, x_train=x[:4], x_test=x[4:])
    found = {(name, part): datasets.load(tmp_path / f"{name}.npz", part) for name in ("whole", "parts", "all")
             for part in ("train", "test")}  # fmt: skip
    sizes = {key: len(each) for key, each in found.items()}
    assert sizes == {
        ("whole", "train"): 6, ("whole", "test"): 6, ("parts", "train"): 4, ("parts", "test"): 2, ("all", "train"): 4,
        ("all", "test"): 6,
    }  # fmt: skip
    assert found["parts", "train"].name.endswith(":train") and found["whole", "train"].name.endswith(".npz")


def test_the_parts_of_the_sets_at_hand_have_nothing_in_common():
    for name in ("digits", "digits-segments"):
        assert not set(datasets.load(f"{name}:train").digests()) & set(datasets.load(f"{name}:test").digests())


def test_streams_of_one_image_are_one_thing_to_learn():
    images = datasets.load("digits:train:5").digests()
    assert load_events("digits-saccades:train:5").digests() == images


def test_a_pipeline_refuses_what_it_was_calibrated_with(tmp_path):
    network, learn = keras.load(SOURCE), datasets.load("digits:train:40")
    with pytest.raises(ConversionError, match="all 10 samples of digits:train:10 are also in digits:train:40"):
        convert_float(network, learn, evaluation=datasets.load("digits:train:10"))
    np.savez(tmp_path / "copy.npz", x=learn.images[30:].astype(np.int32), y=learn.labels[30:], maximum=16)
    with pytest.raises(ConversionError, match="all 10 samples"):
        convert_float(network, learn, evaluation=datasets.load(tmp_path / "copy.npz"))
    found = convert_float(network, learn, evaluation=datasets.load("digits:train:45"), allow_overlap=True)
    assert (found.overlap.samples, found.overlap.of) == (40, 45)


def test_convert_calibrates_on_the_training_part_and_says_what_overlaps(tmp_path):
    net, report = tmp_path / "net.h5", tmp_path / "c.json"
    convert = ("convert", SOURCE, "-o", net, "--json", report, "--activations", 2)
    text = good(*convert, "--calibrate", "digits:50", "--evaluate", "digits:20")
    values = json.loads(report.read_text())
    assert values["calibrated_on"] == "digits:train:50" and values["evaluated_on"] == "digits:test:20"
    assert "Accuracy on digits:test:20\n" in text and not values["on_calibration_data"] and values["overlap"] is None
    net.unlink()
    line = bad(3, *convert, "--calibrate", "digits:test:50", "--evaluate", "digits:20")
    assert "all 20 samples of digits:test:20 are also in digits:test:50" in line and "--allow-overlap" in line
    assert not net.exists()
    text = good(*convert, "--calibrate", "digits:test:50", "--evaluate", "digits:20", "--allow-overlap")
    values = json.loads(report.read_text())
    assert "(overlap allowed: all 20 samples of digits:test:20 are also in digits:test:50)" in text
    assert values["overlap"] == {"learned": "digits:test:50", "measured": "digits:test:20", "samples": 20, "of": 20}
    assert read_info(net).provenance["overlap"] == values["overlap"]
    assert "no unseen data" in good("run", net, "--data", "digits:5")
    assert "no unseen data" not in good("run", net, "--data", "digits:train:5")


@pytest.mark.parametrize("recipe", ["stdp-digits", "decolle-digits"])
def test_learning_with_integers_refuses_its_test(recipe, tmp_path):
    train = ("train", "--recipe", recipe, "--steps", 3, "--checkpoint", tmp_path / "c", "--json", tmp_path / "t.json")
    line = bad(3, *train, "--data", "digits:train:40", "--test", "digits:train:20")
    assert "all 20 samples of digits:train:20 are also in digits:train:40" in line
    assert not (tmp_path / "c").exists()
    text = good(*train, "--data", "digits:40", "--test", "digits:train:20", "--allow-overlap")
    values = json.loads((tmp_path / "t.json").read_text())
    assert "overlap allowed: all 20 samples" in text and values["data"] == "digits:train:40"
    assert values["overlap"]["samples"] == 20


def test_training_data_have_one_scale(tmp_path):
    digits = datasets.load("digits:train:60")
    for name, most in (("a", 16), ("b", 15)):
        np.savez(tmp_path / f"{name}.npz", x=np.minimum(digits.images, most)[:40], y=digits.labels[:40])
    other = np.minimum(digits.images[40:], 16)
    np.savez(tmp_path / "c.npz", x=other, y=digits.labels[40:])
    train = ("train", "--recipe", "stdp-digits", "--steps", 2, "--checkpoint", tmp_path / "k", "--json", tmp_path / "t")
    line = bad(3, *train, "--data", tmp_path / "b.npz", "--test", tmp_path / "c.npz")
    assert "15 in" in line and "16 in" in line and "maximum" in line
    assert "16ths, assumed" in good(*train, "--data", tmp_path / "a.npz", "--test", tmp_path / "c.npz")
    assert "0 to 16" in json.loads((tmp_path / "t").read_text())["input_scale_assumed"]


def test_training_with_torch_refuses_its_test(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: pip install intsnn[qat]")
    out = ("-o", tmp_path / "net.h5", "--json", tmp_path / "t.json", "--epochs", 1)
    train = ("train", "--recipe", "digits-qffs", *out)
    line = bad(3, *train, "--data", "digits:train:64", "--test", "digits:train:16")
    assert "all 16 samples of digits:train:16 are also in digits:train:64" in line
    assert list(tmp_path.iterdir()) == []
    text = good(*train, "--data", "digits:256", "--test", "digits:train:16", "--allow-overlap")
    values = json.loads((tmp_path / "t.json").read_text())
    assert values["data"] == "digits:train:256" and values["overlap"]["samples"] == 16 and "overlap allowed" in text
    tune = ("tune", "--recipe", "digits-qffs", "--checkpoint", tmp_path / "net.h5.checkpoint", "--epochs", 1)
    more = ("-o", tmp_path / "tuned.h5", "--data", "digits:256")
    assert "also in digits:train:256" in bad(3, *tune, *more, "--test", "digits:train:16")
    line = bad(3, "train", "--recipe", "plif-digits-saccades-binary", *out, "--data", "digits-saccades:8", "--test",
               "digits-saccades:train:4")  # fmt: skip
    assert "all 4 samples of digits-saccades:train:4 are also in digits-saccades:train:8" in line


def test_a_sweep_calibrates_on_the_training_part_and_refuses_what_it_tests_on(tmp_path):
    grid = Grid(models=(ModelSpec(SOURCE, calibrate="digits:90"),), data=("digits:20",))
    assert Cells(grid, trust=True).all()[0].settings["calibration_samples"] == 2000
    cells = Cells(Grid(models=(ModelSpec(SOURCE, calibrate="digits:test"),), data=("digits:20",)), trust=True)
    with pytest.raises(ConversionError, match="all 20 samples of digits:test:20 are also in digits:test"):
        cells.all()
    sweep = ("bench", "--model", SOURCE, "--trust", "--data", "digits:20", "--results", tmp_path / "r.sqlite")
    line = bad(3, *sweep, "--calibrate", "digits:test")
    assert "also in digits:test" in line


def test_a_study_of_a_recipe_refuses_what_it_tests_on(tmp_path):
    from intsnn.bench.learning import study as learn_study

    path = tmp_path / "own.toml"
    path.write_text('base = "decolle-digits"\ndata = "digits:test:40"\ntest = "digits:20"\n')
    with pytest.raises(ConversionError, match="all 20 samples of digits:test:20 are also in digits:test:40"):
        learn_study.split(learn_study.Run(f"recipe:{path}", 1))
