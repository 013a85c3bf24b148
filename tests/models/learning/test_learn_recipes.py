"""Recipes of integer learning: what they say, what ``intsnn train`` does with them, checkpoints that survive a kill."""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace

import numba
import numpy as np
import pytest
from waiting import HANGING

from intsnn.datasets import catalogue as datasets
from intsnn.datasets.events import load_events
from intsnn.datasets.framing import frame_set
from intsnn.errors import DataNotFoundError, FormatError, ImportRefused, RangeError
from intsnn.learning import files as learn_files
from intsnn.learning.learner import Conv, Dense, Learner, LearningNetwork, Rule, Widths
from intsnn.models.learning.decolle import Training, network_of, train
from intsnn.models.learning.decolle_recipes import RECIPES, Recipe, read_recipe, recipe, with_widths
from intsnn.models.learning.sequences import EventSequences, RateSequences, order, sequences
from intsnn.models.training.checkpoints import samples_sha256

KILLS = int(os.environ.get("INTSNN_KILLS", "2"))
compiled_only = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="takes too long without the compiler")


@pytest.fixture(scope="module")
def small():
    """A recipe of a few hundred steps, and its data."""
    chosen = replace(
        recipe("decolle-digits"), layers=(Conv(4, 3, 1, pool=2), Dense(32)), data="digits:train:100",
        test="digits:test:60", steps=10, test_steps=10, batch=20, epochs=4, tests_every=2,
    )  # fmt: skip
    return chosen, sequences(chosen, False), sequences(chosen, True)


def test_the_published_recipe():
    """Network, widths, schedule and budget as Schaefer & Joshi publish them."""
    found = recipe("decolle-dvsgesture")
    assert found.rule == Rule.published() and found.rule.widths == Widths()
    assert found.layers == (Conv(64, 7, 2, pool=2), Conv(128, 7, 2), Conv(128, 7, 2, pool=2))
    assert (found.batch, found.epochs, found.steps, found.test_steps, found.divide) == (72, 320, 500, 1800, 4)
    assert [found.schedule.shift(epoch) for epoch in (0, 78, 79, 319)] == [0, 0, 1, 4]
    assert found.window == "random" and found.rule.burn_in == 50 and found.bin_us == 1000


def test_all_recipes_can_be_built():
    for chosen in RECIPES.values():
        shape = {"digits": (1, 8, 8), "nmnist": (2, 17, 17), "mnist-saccades": (2, 17, 17), "dvs-gesture": (2, 32, 32)}
        LearningNetwork(shape[chosen.data.split(":")[0]], chosen.layers, 11, chosen.rule)
        json.dumps(chosen.to_json(), allow_nan=False)


def test_a_recipe_from_toml(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'base = "decolle-digits"\nepochs = 2\nlayers = [{conv = 5, kernel = 3, padding = 1}, {dense = 7}]\n'
        '[rule]\nwidths = "P8 Q7"\nweight_scale = "0.125"\n[schedule]\nevery = 3\n'
    )
    found = read_recipe(path)
    base = RECIPES["decolle-digits"]
    assert found.name == "mine" and found.epochs == 2 and found.layers == (Conv(5, 3, 1), Dense(7))
    assert found.rule == replace(base.rule, widths=Widths.parse("P8 Q7"), weight_scale="0.125")
    assert found.schedule == replace(base.schedule, every=3) and found.data == base.data
    path.write_text('data = "digits:train"\ntest = "digits"\nlayers = [{dense = 7}]\n[rule]\nmode = "published"\n')
    assert read_recipe(path).rule == Rule.published()
    assert recipe(str(path)) == read_recipe(path)


@pytest.mark.parametrize(
    "text, part",
    [
        ("epochs = ", "no TOML"),
        ('base = "none"', "names no recipe"),
        ('base = "decolle-digits"\nspeed = 3', "has no 'speed'"),
        ('base = "decolle-digits"\nlayers = [{pool = 3}]', "a layer is"),
        ('base = "decolle-digits"\nlayers = [{dense = 3, pool = 3}]', "a layer is"),
        ('base = "decolle-digits"\nlayers = 3', "a list of tables"),
        ('base = "decolle-digits"\nsteps = 3', "burn-in of 5"),
        ('base = "decolle-digits"\nbatch = 0', "batch is 0"),
        ('base = "decolle-digits"\ncoding = "morse"', "coding is 'morse'"),
        ('base = "decolle-digits"\n[rule]\nspeed = 3', "no field 'speed'"),
        ('base = "decolle-digits"\n[rule]\nmode = "best"', "rule.mode"),
        ('base = "decolle-digits"\n[schedule]\nhalf = 3', "half"),
        ('data = "digits"\ntest = "digits"', "'layers' is missing"),
    ],
)
def test_toml_that_is_no_recipe(tmp_path, text, part):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(FormatError, match=part):
        read_recipe(path)


def test_recipes_that_are_not_there(tmp_path):
    with pytest.raises(DataNotFoundError, match="decolle-nmnist"):
        recipe("decolle")
    with pytest.raises(DataNotFoundError, match="no recipe file"):
        recipe(str(tmp_path / "none.toml"))


def test_widths_of_a_recipe():
    chosen = with_widths(with_widths(RECIPES["decolle-digits"], "P9 G12"), "P12 S4")
    assert chosen.rule.widths == Widths.parse("P12 G12 S4")


# -- data ----------------------------------------------------------------------------------------------------------


def test_order_is_a_permutation_of_its_epoch():
    first, again, other = order(50, 3, 0), order(50, 3, 0), order(50, 3, 1)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert sorted(first) == sorted(other) == list(range(50))


def test_rate_coding(small):
    """Spikes come with probability code / maximum * peak / 256, depend on epoch and sample only, never without ink."""
    chosen, data, test = small
    frames = data.frames([3, 7], 0)
    assert frames.shape == (10, 2, 1, 8, 8) and frames.dtype == np.uint8 and frames.max() == 1
    assert np.array_equal(frames[:, 1], data.frames([7], 0)[:, 0])
    assert not np.array_equal(frames, data.frames([3, 7], 1))
    assert np.array_equal(test.frames([0], 0), test.frames([0], 5))
    long = RateSequences(
        sequences_of_digits(), replace(chosen, test_steps=4000, peak=256), test=True
    )  # fmt: skip
    codes = sequences_of_digits().images[2].astype(float)
    mean = long.frames([2], 0).mean((0, 1))
    assert np.abs(mean - codes / 16).max() < 0.04
    assert (mean[codes == 0] == 0).all() and (mean[codes == 16] == 1).all()


def sequences_of_digits():
    from intsnn.datasets import catalogue as datasets

    return datasets.load("digits:test:5")


def test_windows_and_kept_frames_of_events():
    """Kept frames are those of the recording; random windows lie within it and follow from epoch and sample."""
    chosen = replace(
        recipe("decolle-nmnist"), data="digits-saccades:train:4", test="digits-saccades:test:3", steps=20,
        test_steps=20,
    )  # fmt: skip
    data = sequences(chosen, False)
    first = data.frames([0, 2], 0)
    assert first.shape == (20, 2, 2, 17, 17) and first.max() == 1
    assert np.array_equal(first, data.frames([0, 2], 0)) and np.array_equal(first, data.frames([0, 2], 3))
    free = sequences(replace(chosen, window="random", bin_us=1000), False)
    one = free.frames([1], 0)
    assert np.array_equal(one, free.frames([1], 0)) and not np.array_equal(one, free.frames([1], 1))


# -- the loop ------------------------------------------------------------------------------------------------------


@compiled_only
def test_interrupted_anywhere_is_uninterrupted(small, tmp_path):
    """Cut at any step, within a sequence too, and with another number of threads: same weights, history and test."""
    chosen, data, test = small
    whole = train(chosen, data, test)
    assert whole.learner.steps == 4 * 5 * 10 and len(whole.history) == 4
    assert [entry["test"] is not None for entry in whole.history] == [False, True, False, True]
    path = str(tmp_path / "run.checkpoint")
    for steps, threads in ((1, 1), (57, 2), (58, 1), (130, 1), (None, 2)):
        part = train(chosen, data, test, steps=steps, threads=threads, checkpoint=path)
    assert part.learner.weights_sha256() == whole.learner.weights_sha256()
    assert part.history == whole.history
    assert part.accuracies == whole.accuracies and np.array_equal(part.totals, whole.totals)
    again = train(chosen, data, test, checkpoint=path)  # nothing is left to do
    assert again.learner.weights_sha256() == whole.learner.weights_sha256()


@compiled_only
def test_the_loop_is_the_rule(small):
    """Plain calls of the learner with the same frames give the same weights; the reference path too."""
    chosen, data, test = small
    trained = train(chosen, data, test, steps=23)
    learner = Learner(network_of(chosen, data), chosen.seed)
    for batch in range(3):
        chosen_samples = order(100, chosen.seed, 0)[batch * 20 : batch * 20 + 20]
        state = learner.begin(20)
        for frame in data.frames(chosen_samples, 0)[: 10 if batch < 2 else 3]:
            learner.learn(state, frame, data.labels[chosen_samples], chosen.schedule.shift(0))
    assert learner.weights_sha256() == trained.learner.weights_sha256()
    plain = train(chosen, data, replace_test(test), steps=3, path="reference")
    assert plain.learner.weights_sha256() == train(chosen, data, replace_test(test), steps=3).learner.weights_sha256()


def replace_test(test):
    """Five samples only: the reference is slow."""
    import copy

    few = copy.copy(test)
    few.labels = test.labels[:5]
    return few


@compiled_only
def test_checkpoints_of_other_trainings_are_refused(small, tmp_path):
    chosen, data, test = small
    path = str(tmp_path / "run.checkpoint")
    train(chosen, data, test, steps=3, checkpoint=path)
    for other, part in (
        (replace(chosen, seed=1), "seed"), (with_widths(chosen, "P9"), "rule"), (replace(chosen, batch=10), "batch"),
    ):  # fmt: skip
        with pytest.raises(FormatError, match=f"another training.*{part}"):
            train(other, sequences(other, False), test, steps=4, checkpoint=path)
    content = open(path, "rb").read()
    for broken in (b"", b"nothing", content[: len(content) // 2]):
        open(path, "wb").write(broken)
        with pytest.raises(ImportRefused):
            train(chosen, data, test, steps=4, checkpoint=path)
    train(chosen, data, test, steps=3, checkpoint=path, resume=False)  # anew
    saved = learn_files.load(path)
    facts = saved.facts
    for change in ({"identity": []}, {"identity": None}, {"epoch": None}, {"batch": "first"}, {"history": 3}):
        learner = saved.learner()
        learn_files.save(path, learner, saved.state(learner), facts | change, saved.extra)
        with pytest.raises(ImportRefused, match="no checkpoint that can be read"):
            train(chosen, data, test, steps=4, checkpoint=path)
    learn_files.save(path, learner, saved.state(learner), facts, saved.extra)
    train(chosen, data, test, steps=3, checkpoint=path)
    assert learn_files.load(path).steps == 3


def test_files_that_lie_are_refused(small, tmp_path):
    """A weight beyond its width, a missing array, another digest, a description that is none."""
    from intsnn.files.hdf5 import read_tree, write_tree

    chosen, data, _ = small
    learner, path = Learner(network_of(chosen, data), 3), tmp_path / "net.h5"
    learner_state = learner.begin(2)
    learner.learn(learner_state, data.frames([0, 1], 0)[0], data.labels[:2])
    learn_files.save(path, learner, learner_state, {"a": 1})
    saved = learn_files.load(path)
    again = saved.learner()
    assert (again.weights_sha256(), again.steps, saved.facts) == (learner.weights_sha256(), 1, {"a": 1})
    state = saved.state(again)
    assert state.t == 1 and all(np.array_equal(x, y) for x, y in zip(state.q, learner_state.q, strict=True))
    arrays = {name: np.array(array) for name, array in read_tree(path, trust=True).datasets.items()}

    def refused(change, part, error=FormatError):
        wrong = {name: array.copy() for name, array in arrays.items()}
        change(wrong)
        write_tree(path, wrong)
        with pytest.raises(error, match=part):
            found = learn_files.load(path)
            found.state(found.learner())

    refused(lambda x: x["layers/0/master"].__setitem__(0, 600), "-511 to 511")
    refused(lambda x: x["layers/0/master"].__setitem__((0, 0, 0, 0), 77), "digest")
    refused(lambda x: x["layers/0/q"].__setitem__((0, 0), 5000), "0 to 1023")
    refused(lambda x: x.pop("layers/1/master"), "layer 1 has not the 2048 weights", ImportRefused)
    refused(lambda x: x.pop("description"), "no description", ImportRefused)
    refused(lambda x: x.update(description=np.zeros(4, np.uint8)), "no JSON", ImportRefused)


# -- the command ---------------------------------------------------------------------------------------------------

TOML = """
base = "decolle-digits"
data = "digits:train:200"
test = "digits:test:50"
epochs = 2
steps = 12
test_steps = 12
"""


def intsnn(folder, *arguments, before=""):
    """Run the command in a folder; `before` is Python source that runs ahead of it, in its process."""
    program = f"import sys\n{before}\nfrom intsnn.cli.main import main\nmain(sys.argv[1:])"
    command = [sys.executable, "-W", "ignore", "-c", program, "train", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=HANGING)
    return done.returncode, done.stdout, done.stderr


@compiled_only
def test_the_command(tmp_path):
    """JSON, checkpoint, weights and plots of a TOML recipe; more steps go on from the checkpoint."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: no plots")
    (tmp_path / "mine.toml").write_text(TOML)
    options = ["--recipe", "mine.toml", "--json", "r.json", "-o", "net.h5", "--plots", "plots", "--threads", "2"]
    status, out, err = intsnn(tmp_path, *options)
    assert status == 0, err
    values = json.loads((tmp_path / "r.json").read_text())
    assert values["steps"] == 2 * 8 * 12 and 0 <= values["accuracy"] <= 100
    assert values["saturations"] == sum(values["saturations_of"].values())
    assert values["memory"]["formula_bits"] == 1_258_128  # worked out by hand in test_learn_memory.py
    assert values["memory"]["measured_bytes"] > values["memory"]["formula_bits"] / 8
    assert f"weights {values['weights_sha256']}" in out and "epoch    2  loss" in out
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {"mine.png", "mine.svg"}
    saved = learn_files.load(tmp_path / "net.h5")
    assert saved.learner().weights_sha256() == values["weights_sha256"] and saved.facts["recipe"] == "mine"
    status, out, err = intsnn(tmp_path, "--recipe", "mine.toml", "--steps", "250", "--json", "more.json",
                              "--checkpoint", "net.h5.checkpoint")  # fmt: skip
    assert status == 0, err
    assert json.loads((tmp_path / "more.json").read_text())["steps"] == 250


def test_wrong_use(tmp_path):
    for arguments, code, part in (
        ((), 2, "--recipe NAME is needed"),
        (("--recipe", "decolle"), 2, "no recipe 'decolle'"),
        (("--recipe", "none.toml"), 3, "no recipe file"),
        (("--recipe", "lenet-mnist-qffs"), 2, "-o NET.h5 is needed"),
        (("--recipe", "lenet-mnist-qffs", "-o", "x.h5", "--steps", "3"), 2, "learning with integers"),
        (("--recipe", "decolle-digits", "--device", "cuda"), 3, "runs on the cpu"),
    ):
        status, _, err = intsnn(tmp_path, *arguments)
        assert status == code and part in err, (arguments, status, err)


DIES = """
import os, signal
from intsnn.support import atomic

left = {moments}

def counted(function, late):
    def call(*arguments):
        global left
        found = function(*arguments) if late else None
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return found if late else function(*arguments)
    return call

atomic.temporary_beside = counted(atomic.temporary_beside, late=True)  # the new file is there, and empty
atomic.publish = counted(atomic.publish, late=False)  # it is written, and has no name yet
os.replace = counted(os.replace, late=True)  # it has its name
"""


@compiled_only
def test_killed_trainings_end_in_the_same_weights(tmp_path):
    """SIGKILL around the saving of any of the 192 steps; ``INTSNN_KILLS=10`` kills it that often."""
    if not hasattr(signal, "SIGKILL"):
        pytest.skip("this system has no SIGKILL")
    (tmp_path / "mine.toml").write_text(TOML)
    status, _, err = intsnn(tmp_path, "--recipe", "mine.toml", "--json", "whole.json", "--checkpoint", "whole")
    assert status == 0, err
    rng = random.Random(0)
    for _ in range(KILLS):
        dies = DIES.format(moments=rng.randrange(1, 3 * 192 // (KILLS + 1)))
        status, out, err = intsnn(
            tmp_path, "--recipe", "mine.toml", "--save-every", "0", "--checkpoint", "run", before=dies
        )
        assert status == -signal.SIGKILL, out + err
    status, _, err = intsnn(tmp_path, "--recipe", "mine.toml", "--json", "run.json", "--checkpoint", "run")
    assert status == 0, err
    whole, run = (json.loads((tmp_path / name).read_text()) for name in ("whole.json", "run.json"))
    for name in ("weights_sha256", "steps", "accuracies", "saturations", "history"):
        assert run[name] == whole[name], name
    assert not list(tmp_path.glob(".run.*")), "a killed run left files that nobody removes"


def test_a_training_may_not_overrun_its_counts(small, tmp_path):
    """A checkpoint whose position and step count disagree is refused."""
    from intsnn.learning.files import save

    chosen, data, _ = small
    work = Training(chosen, data, Learner(network_of(chosen, data), chosen.seed))
    work.step()
    work.batch = 2
    path = str(tmp_path / "c")
    facts = {"identity": work.identity(), "epoch": 0, "batch": 2, "history": []}
    save(path, work.learner, work.state, facts, {"votes": work.votes, "tally": work.tally, "totals": work.totals})
    with pytest.raises(ImportRefused, match="counts disagree"):
        Training(chosen, data, Learner(network_of(chosen, data), chosen.seed)).resume(path)


@compiled_only
def test_a_checkpoint_knows_its_samples(small, tmp_path):
    """The same name and count with one other pixel, or one other label, is other data."""
    chosen, data, test = small
    images = datasets.load(chosen.data)
    path, said = str(tmp_path / "c"), []
    train(chosen, data, test, steps=3, checkpoint=path, say=said.append)
    assert not said
    kept = open(path, "rb").read()
    pixel, label = images.images.copy(), images.labels.copy()
    pixel[99, 0, 0, 0] ^= 1
    label[0] = (label[0] + 1) % 10
    for other in (replace(images, images=pixel), replace(images, labels=label)):
        with pytest.raises(FormatError, match=r"belongs to another training \(samples_sha256 differ\)"):
            train(chosen, RateSequences(other, chosen, False), test, steps=5, checkpoint=path)
    assert open(path, "rb").read() == kept
    train(chosen, data, test, steps=5, checkpoint=path, say=said.append)
    (line,) = said
    assert line.startswith(
        f"goes on from {path} after 3 learning steps: its samples are those of digits:train:100 (sha256 "
    )
    assert line[-17:-1] == samples_sha256(data)[:16] == samples_sha256(images)[:16]
    saved = learn_files.load(path)
    facts = dict(saved.facts, identity={k: v for k, v in saved.facts["identity"].items() if k != "samples_sha256"})
    learn_files.save(path, saved.learner(), facts=facts, extra=saved.extra)
    with pytest.raises(FormatError, match="does not say which samples it has learned"):
        train(chosen, data, test, steps=6, checkpoint=path)


def test_digests_know_recordings_by_their_events(tmp_path, monkeypatch):
    """Names and order on the disk say nothing; an event, a label and the order of the set do."""
    monkeypatch.setenv("INTSNN_DATA", str(tmp_path))

    def put(path, event):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(bytes(event))

    put("NMNIST/Test/3/1.bin", (1, 1, 0, 0, 5))
    put("NMNIST/Test/4/2.bin", (2, 1, 0, 0, 5))
    first = samples_sha256(load_events("nmnist:test"))
    (tmp_path / "NMNIST/Test/4/2.bin").rename(tmp_path / "NMNIST/Test/4/7.bin")
    assert samples_sha256(load_events("nmnist:test")) == first
    put("NMNIST/Test/4/7.bin", (2, 1, 0, 0, 6))
    assert samples_sha256(load_events("nmnist:test")) != first
    (tmp_path / "NMNIST/Test/4/7.bin").unlink()
    put("NMNIST/Test/5/2.bin", (2, 1, 0, 0, 5))
    assert samples_sha256(load_events("nmnist:test")) != first


def test_counters_of_a_training_have_a_bound(small, monkeypatch):
    """The step count at which the largest counter could leave 64 bits is refused before anything is learned."""
    chosen, data, test = small
    monkeypatch.setattr(Training, "step", lambda self: pytest.fail("a step was made"))
    with pytest.raises(RangeError, match="may count up to .* in layer 0, which leaves 64 bits"):
        train(chosen, data, test, steps=1 << 50)


def test_where_sequences_begin():
    """At the first event of a recording, or at a time of its clock, also before 0; frames without events are said."""
    chosen = replace(recipe("decolle-nmnist"), data="digits-saccades:train:4", steps=20, test_steps=20)
    events = load_events("digits-saccades:train:4")
    for start in (None, 0, -15_000, 30_000):
        found = sequences(replace(chosen, start_us=start), False).frames([2, 0], 0)
        options = {"steps": 20, "bin_us": chosen.bin_us, "divide": 2, "start_us": start}
        assert np.array_equal(found, frame_set(events, [2, 0], **options).swapaxes(0, 1))
    late = sequences(replace(chosen, start_us=10**15), False)
    with pytest.warns(UserWarning, match="no event of 2 recordings .* start_us says where frames begin") as warned:
        late.frames([1, 3], 0)
        late.frames([0], 0)
    assert len(warned) == 1  # once
    shifted = replace(events, reader=lambda index: later(events.reader(index), 1_600_000_000_000_000))
    for one, other in zip(
        EventSequences(shifted, chosen, False).frames([0, 3], 0),
        sequences(chosen, False).frames([0, 3], 0),
        strict=True,
    ):
        assert np.array_equal(one, other)  # microseconds since 1970
    with pytest.raises(FormatError, match="start_us: found 0.5"):
        replace(chosen, start_us=0.5)


def later(events, microseconds):
    events = events.copy()
    events["t"] += microseconds
    return events


def test_recipe_values_are_checked():
    with pytest.raises(FormatError, match="seed"):
        Recipe("x", "", "digits", "digits", (Dense(3),), seed=-1)
    with pytest.raises(FormatError, match="window"):
        Recipe("x", "", "digits", "digits", (Dense(3),), window="end")


def test_the_recipe_in_the_documentation(repository, tmp_path):
    """The TOML of docs/learning.md can be read and its network can be built."""
    text = (repository / "docs" / "learning.md").read_text("utf-8")
    block = text.split("```toml\n")[1].split("```")[0]
    (tmp_path / "mine.toml").write_text(block)
    found = read_recipe(tmp_path / "mine.toml")
    assert found.epochs == 20 and found.rule.widths == Widths.parse("P9 Q8 G12") and len(found.layers) == 2
    LearningNetwork((2, 17, 17), found.layers, 10, found.rule)


def test_progress_of_every_family():
    """What a bar shows."""
    from intsnn.cli.commands.train import _shown
    from intsnn.models.learning.decolle import SequenceProgress
    from intsnn.models.learning.stdp import PairProgress

    state = SequenceProgress(1, 4, 2, 5, 30, 120, 0.25, 50.0, 1234, 5, 61.0)
    note = "loss 0.2500  train 50.0 %  1,234 weight changes  5 saturations, 1 min 01 s left"
    assert state.part == 0.25 and _shown(state) == ("learning, epoch 2/4", note)
    state = PairProgress(0, 1, 10, 40, 7, 8, None)
    assert state.part == 0.25 and _shown(state) == ("learning, epoch 1/1", "7 spikes  8 weight changes")
    pytest.importorskip("torch", reason="torch is not installed: pip install intsnn[qat]")
    from intsnn.models.training.loop import EpochProgress

    state = EpochProgress("quantised", 1, 4, 2, 4, 0.125, 3.0)
    assert state.part == 0.375 and _shown(state) == ("quantised, epoch 2/4", "loss 0.1250, 0 min 03 s left")


def test_plots_of_both_families(tmp_path):
    """Curves by layer, by kind and alone; entries without a test have no point; no history is an empty picture."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: no plots")
    from intsnn.bench.learning.plots import _curves, plot_history

    history = [
        {"epoch": 1, "loss": [0.5, 0.25], "test": None, "saturations": {"state": 3}, "changed": 7},
        {"epoch": 2, "loss": [0.4, 0.2], "test": [50.0, 75.0], "saturations": {"state": 0}, "changed": 8},
    ]
    assert _curves(history, "loss") == {"layer 1": [(1, 0.5), (2, 0.4)], "layer 2": [(1, 0.25), (2, 0.2)]}
    assert _curves(history, "test") == {"layer 1": [(2, 50.0)], "layer 2": [(2, 75.0)]}
    assert _curves(history, "saturations") == {"state": [(1, 3), (2, 0)]} and _curves(history, "changed")[""][1] == (
        2,
        8,
    )
    for name, entries in (("one", history), ("two", [{"epoch": 1, "fired": 3, "saturations": 9}]), ("none", [])):
        assert all(os.path.getsize(path) > 1000 for path in plot_history(entries, str(tmp_path), name))
