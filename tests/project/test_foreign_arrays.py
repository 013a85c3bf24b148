"""What callers hand to compiled code: states and arrays of others are refused, arrays that lie otherwise give the same.

All of it runs in a process of its own: a kernel that reads or writes beyond an array may end it.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from intsnn import Affine, Fixed, Input, Network, Readout, SignedIF, encode_rate, integer_ann, simulate
from intsnn.engine.backends.fused.runner import prepare
from intsnn.errors import IntsnnError
from intsnn.formats import arithmetic, reals
from intsnn.formats import packing as packed
from intsnn.learning.learner import Conv, Dense, Learner, LearningNetwork, Rule, Widths
from intsnn.learning.stdp import PairRule, Plasticity, by_shift

HERE = Path(__file__).parent
CODES = np.arange(8, dtype=np.int64).reshape(4, 2)


def network():
    return Network.sequential(
        Input((2,), Fixed(4)), Affine([[3, -2], [1, 4]]), SignedIF(5, 3), Affine([[1, 1], [1, 2]]), Readout(),
        t_drive=3, levels=3,
    )  # fmt: skip


def learning(inputs=5, units=4, **changes):
    return LearningNetwork((inputs,), (Dense(units),), 3, Rule.corrected(burn_in=0, weight_scale="0.1", **changes))


def ones(inputs=5, samples=2):
    return np.ones((samples, inputs), np.uint8)


def others() -> dict[str, tuple]:
    """Learners whose state is not that of `learning()`: of other sizes, layers, widths or seed."""
    conv = LearningNetwork((5, 4, 4), (Conv(4, 3),), 3, Rule.corrected(burn_in=0))
    two = LearningNetwork((5,), (Dense(4), Dense(4)), 3, Rule.corrected(burn_in=0, weight_scale="0.1"))
    return {
        "fewer inputs": (learning(1), 0), "many inputs": (learning(20_000), 0), "fewer units": (learning(5, 1), 0),
        "more units": (learning(5, 64), 0), "maps": (conv, 0), "two layers": (two, 0), "another seed": (learning(), 1),
        "wider traces": (learning(widths=Widths.parse("P18 Q18")), 0),
        "another rule": (learning(refractory_decay="0.5"), 0),
    }  # fmt: skip


def moved(state, name, array):
    """The state with another array in place of the first of `p`, `q` or `r`."""
    getattr(state, name)[0] = array
    return state


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def spoilt(array) -> dict[str, object]:
    """Arrays that could not take the place of `array` in a kernel."""
    wide = np.zeros((array.shape[0], 2 * array.shape[1]), array.dtype)
    other = np.int32 if array.dtype != np.int32 else np.int64
    return {
        "none": None, "a list": array.tolist(), "rows fewer": array[:1].copy(), "a column fewer": array[:, 1:].copy(),
        "flat": array.reshape(-1).copy(), "another type": array.astype(other), "floats": array.astype(float),
        "bytes swapped": array.astype(array.dtype.newbyteorder()), "strides": wide[:, ::2], "read-only": frozen(array),
        "column order": np.asfortranarray(np.vstack([array, array]))[: len(array)],
    }  # fmt: skip


def refusals():
    """Calls by name, each of which has to be refused."""
    for path in ("compiled", "reference"):
        mine = Learner(learning(), path=path)
        for name, (other, seed) in others().items():
            state = Learner(other, seed, path=path).begin(2)
            yield f"{path} learn, {name}", lambda m=mine, s=state: m.learn(s, ones(), [0, 1])
            yield f"{path} watch, {name}", lambda m=mine, s=state: m.watch(s, ones())
        for name in ("p", "q", "r"):
            for what, array in spoilt(getattr(mine.begin(2), name)[0]).items():
                state = moved(mine.begin(2), name, array)
                yield f"{path} {name} is {what}", lambda m=mine, s=state: m.watch(s, ones())
        for field, value in (
            ("samples", 3),
            ("samples", 0),
            ("t", -1),
            ("first_sample", 2**63),
            ("p", []),
            ("r", None),
        ):
            state = mine.begin(2)
            setattr(state, field, value)
            yield f"{path} {field} = {value}", lambda m=mine, s=state: m.watch(s, ones())
        for what, frame in {
            "of another batch": ones(samples=3), "of another network": ones(7), "flat": np.ones(5, np.uint8),
            "of floats": ones().astype(float), "of negative counts": -ones().astype(int), "none": None,
        }.items():  # fmt: skip
            yield f"{path} frame {what}", lambda m=mine, f=frame: m.learn(m.begin(2), f, [0, 1])
        for what, labels in {
            "of another batch": [0, 1, 2], "beyond": [0, 3], "below": [0, -1], "floats": [0.0, 1.0], "none": None,
            "one-hot": [[1, 0, 0], [0, 1, 0]], "booleans": [True, False], "words": ["0", "1"], "huge": [2**70, 0],
        }.items():  # fmt: skip
            yield f"{path} labels {what}", lambda m=mine, la=labels: m.learn(m.begin(2), ones(), la)
        for what, frames in {
            "no step": np.zeros((0, 2, 5), np.uint8),
            "a frame": ones(),
            "wide": np.ones((2, 2, 6), int),
        }.items():
            yield f"{path} votes of {what}", lambda m=mine, f=frames: m.votes(f)
        for name in ("master", "weight", "bias", "bias_master", "packed"):
            own = Learner(learning(), path=path)
            setattr(own.layers[0], name, getattr(Learner(learning(3, 2), path=path).layers[0], name).astype(np.float32))
            yield f"{path} {name} of another learner", lambda m=own: m.learn(m.begin(2), ones(), [0, 1])
        rule = PairRule(by_shift(7, 2), by_shift(7, 2))
        for name in ("x", "y", "weight"):
            for what, array in spoilt(getattr(Plasticity(rule, np.ones((5, 4), int), 2, path=path), name)).items():
                own = Plasticity(rule, np.ones((5, 4), int), 2, path=path)
                setattr(own, name, array)
                yield f"{path} plasticity, {name} is {what}", lambda m=own: m.step(ones(), ones(4))
        own = Plasticity(rule, np.ones((5, 4), int), 2, path=path)
        own.eligibility = np.zeros((2, 1, 1), np.int32)
        yield f"{path} eligibility of another", lambda m=own: m.step(ones(), ones(4), [1, 1])
        own = Plasticity(rule, np.ones((5, 4), int), 2, path=path)
        own.counters = np.zeros(1, np.int64)
        yield f"{path} counters of another", lambda m=own: m.step(ones(), ones(4))
        for what, pre, post in (
            ("fewer", ones(4), ones(4)),
            ("swapped", ones(4), ones(5)),
            ("flat", np.ones(5, int), ones(4)),
        ):
            own = Plasticity(rule, np.ones((5, 4), int), 2, path=path)
            yield f"{path} spikes {what}", lambda m=own, a=pre, b=post: m.step(a, b)
    yield from files_of_others()
    net, run = network(), prepare(network())
    run(CODES)
    for what, inputs in {
        "of another size": np.ones((4, 3), int), "of no axis": np.array(3), "of 6 axes": np.ones((1,) * 6, int),
        "of words": np.array([["a", "b"]]), "of halves": CODES + 0.5, "beyond the format": CODES * 99,
        "of dates": np.zeros((4, 2), "M8[s]"), "of fields": np.zeros((4, 2), [("a", int)]),
    }.items():  # fmt: skip
        yield f"simulate, inputs {what}", lambda i=inputs: simulate(net, i)
        yield f"prepare, inputs {what}", lambda i=inputs: run(i)
        yield f"integer ANN, inputs {what}", lambda i=inputs: integer_ann(net, i)
    yield from cameras()
    yield "unpack of words", lambda: packed.unpack(np.array([1, 2], np.uint16), Fixed(4), 4)
    yield "unpack of too few", lambda: packed.unpack(np.array([1], np.uint8), Fixed(4), 400)
    yield "pack beyond", lambda: packed.pack([1 << 20], Fixed(4))


def files_of_others():
    import tempfile

    from intsnn.learning import files as learn_files

    learner = Learner(learning())
    with tempfile.TemporaryDirectory() as folder:
        learn_files.save(f"{folder}/a.h5", learner, learner.begin(2))
        saved = learn_files.load(f"{folder}/a.h5", trust=True)
        for name, (other, seed) in others().items():
            found = Learner(other, seed)
            yield f"restore into {name}", lambda f=found: saved.restore(f)
            yield f"state for {name}", lambda f=found: saved.state(f)
            yield (
                f"save with a state of {name}",
                lambda f=found: learn_files.save(f"{folder}/b.h5", learner, f.begin(2)),
            )
        assert not Path(f"{folder}/b.h5").exists()


def cameras():
    from intsnn.datasets.camera import CAMERA, place, stream, stream_frames

    image = place(np.full((1, 1, 8, 8), 200, np.uint8), 255, CAMERA)

    def frames(placed=image, samples=(0,), out=None, divide=(1, 1)):
        stream_frames(
            placed,
            samples,
            np.zeros((1, 2, 2, 34, 34), np.uint8) if out is None else out,
            bin_us=9000,
            clip=1,
            divide=divide,
        )

    yield "a stream without a border", lambda: stream(np.full((9, 9), 9, np.uint8), 0)
    yield "a stream of words", lambda: stream(image[0].astype(np.int16), 0)
    yield "a stream of a batch", lambda: stream(image, 0)
    yield "a stream of a point", lambda: stream(np.zeros((1, 1), np.uint8), 0)
    yield "frames of more samples", lambda: frames(samples=(0, 1))
    yield "frames of other pixels", lambda: frames(out=np.zeros((1, 2, 2, 17, 34), np.uint8))
    yield "frames of one polarity", lambda: frames(out=np.zeros((1, 2, 1, 34, 34), np.uint8))
    yield "frames of fewer images", lambda: frames(out=np.zeros((0, 2, 2, 34, 34), np.uint8))
    yield "frames of words", lambda: frames(out=np.zeros((1, 2, 2, 34, 34), np.int16))
    yield "frames in strides", lambda: frames(out=np.zeros((1, 2, 2, 34, 68), np.uint8)[..., ::2])
    yield "frames that are read-only", lambda: frames(out=frozen(np.zeros((1, 2, 2, 34, 34), np.uint8)))
    yield "frames divided by 0", lambda: frames(divide=(0, 1))


def laid_out(array) -> dict[str, np.ndarray]:
    """The same numbers, lying otherwise in memory."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    room = np.zeros(array.nbytes + 1, np.uint8)
    unaligned = room[1:].view(array.dtype).reshape(array.shape)
    unaligned[...] = array
    return {
        "read-only": frozen(array), "strides": wide[..., ::2], "column order": np.asfortranarray(array),
        "backwards": np.ascontiguousarray(array[::-1])[::-1], "bytes swapped": array.astype(array.dtype.newbyteorder()),
        "unaligned": unaligned, "objects": array.astype(object), "a list": array.tolist(),
    }  # fmt: skip


def equalities():
    """Calls by name with what they must answer."""
    net, run = network(), prepare(network())
    expected = simulate(net, CODES, path="reference").outputs
    q = Fixed(8, 2)
    total = arithmetic.add(CODES, q, CODES, q)[0]
    rounded = arithmetic.rescale(CODES, q, Fixed(6), "RND", "SAT")
    spikes, bits = encode_rate(CODES, 3, 7), packed.pack(CODES, Fixed(5))
    quantised = reals.quantise(CODES / 8, q, "TRN", "SAT")[0]
    for kind in (np.int8, np.int32, np.int64):
        for what, codes in laid_out(CODES.astype(kind)).items():
            name = f"{np.dtype(kind).name} {what}"
            yield f"simulate, {name}", lambda c=codes: simulate(net, c).outputs, expected
            yield f"prepare, {name}", lambda c=codes: run(c).outputs, expected
            yield f"integer ANN, {name}", lambda c=codes: integer_ann(net, c).outputs, integer_ann(net, CODES).outputs
            yield f"add, {name}", lambda c=codes: arithmetic.add(c, q, c, q)[0], total
            yield f"rescale, {name}", lambda c=codes: arithmetic.rescale(c, q, Fixed(6), "RND", "SAT"), rounded
            yield f"encode_rate, {name}", lambda c=codes: encode_rate(c, 3, 7), spikes
            yield f"pack, {name}", lambda c=codes: packed.pack(c, Fixed(5)), bits
    for what, codes in laid_out(CODES / 8).items():
        yield f"quantise, {what}", lambda c=codes: reals.quantise(c, q, "TRN", "SAT")[0], quantised
    for what, data in laid_out(bits).items():
        if what not in ("objects", "a list"):
            yield f"unpack, {what}", lambda d=data: packed.unpack(d, Fixed(5), (4, 2)), CODES.astype(np.int8)
    frame = np.arange(10, dtype=np.uint8).reshape(2, 5)
    digest = stepped(frame)
    for what, given in laid_out(frame).items():
        if what != "objects":
            yield f"learn, {what}", lambda g=given: stepped(g), digest


def stepped(frame):
    learner = Learner(learning())
    learner.learn(learner.begin(2), np.asarray(frame), [0, 1])
    return np.array([learner.weights_sha256()])


def main() -> None:
    """Run all calls and print how they ended."""
    faults, refused, equal = [], 0, 0
    for name, call in refusals():
        try:
            call()
        except IntsnnError:
            refused += 1
        except BaseException as error:
            faults.append(f"{name}: {type(error).__name__} {error}"[:200])
        else:
            faults.append(f"{name}: taken")
    for name, call, expected in equalities():
        try:
            same = np.array_equal(call(), expected)
        except BaseException as error:
            faults.append(f"{name}: {type(error).__name__} {error}"[:200])
        else:
            equal += same
            faults += [] if same else [f"{name}: differs"]
    print(json.dumps({"faults": faults, "refused": refused, "equal": equal}))


@pytest.fixture(scope="module")
def ended():
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_foreign_arrays as t; t.main()"
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code], capture_output=True, text=True, cwd=HERE.parent
    )


def test_no_array_of_others_ends_the_process(ended):
    assert ended.returncode == 0, f"{ended.returncode}: {ended.stderr[-3000:]}"


def test_each_is_refused_or_gives_the_same(ended):
    found = json.loads(ended.stdout)
    assert found["faults"] == []
    assert found["refused"] > 250 and found["equal"] > 150
