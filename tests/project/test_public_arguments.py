"""Every public constructor and function, every parameter, a table of wrong values: an error of ours in one sentence.

What is public is found from `__all__` of the package and of the modules below, and the parameters from the signatures:
a new parameter is covered the day it appears, a new callable without a valid call fails. `python -m pytest -s` shows
how many parameters and values were tried.
"""

import enum
import importlib
import inspect
import re
import warnings
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from intsnn import IF, Affine, Fixed, Input, Network, Readout, Rounding, SignedIF, convert, simulate
from intsnn.conversion.quantise import quantise_network
from intsnn.engine.backends.fused.runner import prepare
from intsnn.engine.inputs import Events, Source
from intsnn.errors import IntsnnError
from intsnn.files import network_file as files
from intsnn.layers.neurons import Decay
from intsnn.learning.learner import Dense, Learner, LearningNetwork, Rule, Schedule
from intsnn.learning.stdp import PairRule, Plasticity, by_shift
from intsnn.network.floating import FloatAffine, FloatInput, FloatNetwork, FloatNode, FloatReLU

MODULES = """formats arithmetic notation packed neurons layers network inputs simulate runner ann verify convert
floatnet quantised quantise fold redrive learn learn_rule learn_stdp learn_files datasets files memory describe curve
models.event_frames models.event_data models.saccades models.readers models.keras models.zoo""".split()

# Made by functions of ours as their answer, never by a caller; what they are handed to looks at them again.
ANSWERS = set(
    """simulate.Result simulate.LayerReport runner.Outcome ann.AnnResult verify.Difference verify.Verification
    convert.Conversion quantise.Calibration quantise.Quantisation learn.Outcome learn.State learn_files.Saved
    datasets.Dataset files.FileInfo memory.Accumulator memory.Report describe.Description curve.Curve models.zoo.Card
    models.event_data.EventSet arithmetic.QuantiseReport notation.Notation""".split()
)
# Names that other modules of the package share: they get what was checked at the door.
SHARED = set(
    """layers.output_shape layers.Upsample2d.sizes inputs.Source.raw inputs.Source.block inputs.Events.frames
    program.why_not_fused floatnet.FloatNode describe.span_text models.event_frames.check_binning
    models.event_frames.warn_if_empty""".split()
)
WORDS = {"what"}  # parameters that only name something in messages


def path(obj) -> str:
    return f"{obj.__module__.removeprefix('intsnn.')}.{obj.__qualname__}"


def members(cls):
    """Public methods of a class, its call among them."""
    for name in dir(cls):
        found = inspect.getattr_static(cls, name)
        found = found.__func__ if isinstance(found, classmethod | staticmethod) else found
        if inspect.isfunction(found) and (not name.startswith("_") or (name == "__call__" and name in vars(cls))):
            yield name, found


@cache
def public() -> dict[str, object]:
    """Constructors, functions and methods by name, with what tells their parameters."""
    found: dict[str, object] = {}
    for module in ["intsnn", *(f"intsnn.{name}" for name in MODULES)]:
        home = importlib.import_module(module)
        for name in home.__all__:
            obj = getattr(home, name)
            if inspect.isclass(obj) and not issubclass(obj, BaseException | enum.Enum):
                found[path(obj)] = obj
                found |= {f"{path(obj)}.{method}": function for method, function in members(obj)}
            elif inspect.isfunction(inspect.unwrap(obj)) if callable(obj) else False:
                found[path(obj)] = obj
    return {key: obj for key, obj in found.items() if key not in SHARED and key not in ANSWERS and parameters(obj)}


def parameters(obj) -> list[inspect.Parameter]:
    found = inspect.signature(obj).parameters.values()
    return [p for p in found if p.name not in ("self", "cls") and p.kind is not p.VAR_KEYWORD and p.name not in WORDS]


# -- valid calls -------------------------------------------------------------------------------------------------------

FOLDER = ""  # where files of this module are; set by a fixture


@cache
def network():
    return Network.sequential(
        Input((2,), Fixed(8, signed=False)), Affine([[3, -2], [1, 4]]), SignedIF(5, 3), Affine([[1, 1], [1, 2]]),
        Readout(), t_drive=3, levels=3,
    )  # fmt: skip


@cache
def floats():
    weight = np.array([[0.5, -0.25], [1, 0.75]], np.float32)
    return FloatNetwork(
        (
            FloatInput(name="in", shape=(2,)), FloatAffine(name="a", inputs=("in",), weight=weight),
            FloatReLU(name="r", inputs=("a",)), FloatAffine(name="b", inputs=("r",), weight=weight),
        ),
        "b",
    )  # fmt: skip


@cache
def quantised():
    return quantise_network(floats(), CODES, rounding="nearest").network


@cache
def learning():
    return LearningNetwork((3,), (Dense(4),), 3, Rule.corrected(burn_in=0, weight_scale="0.1"))


def learner():
    return Learner(learning(), path="reference")


@cache
def result():
    return simulate(network(), CODES, path="reference")


@cache
def saved():
    from intsnn.learning import files as learn_files

    name = f"{FOLDER}/learner.h5"
    learn_files.save(name, learner(), learner().begin(2))
    return learn_files.load(name, trust=True)


def learner_tree():
    from intsnn.files.hdf5 import read_tree

    return saved() and read_tree(f"{FOLDER}/learner.h5", trust=True)


@cache
def network_file():
    files.save(network(), f"{FOLDER}/net.h5")
    return f"{FOLDER}/net.h5"


@cache
def tree():
    from intsnn.files.hdf5 import read_tree

    return read_tree(network_file(), trust=True)


@cache
def pair_rule():
    return PairRule(by_shift(7, 2), by_shift(7, 2))


def plasticity():
    return Plasticity(pair_rule(), [[3, 4]], path="reference")


@cache
def recordings():
    from intsnn.datasets.events import load_events

    return load_events("digits-saccades:test:2")


@cache
def report():
    from intsnn.analysis.memory.report import formula

    return formula(architecture())


def architecture():
    from intsnn.models.published import architecture as named

    return named("decolle-dvsgesture")


def camera():
    from intsnn.datasets.camera import CAMERA

    return CAMERA


def image(*shape):
    return np.pad(np.full((*shape, 3, 3), 9, np.uint8), ((0, 0),) * len(shape) + ((1, 1), (1, 1)))


CODES = np.array([[3, 1], [100, 7], [5, 5]])
Q = Fixed(8, 3)
EVENTS = np.zeros(3, [("x", int), ("y", int), ("t", int), ("p", int)])
BINS = {"steps": 2, "bin_us": 200_000}
ONE = np.ones(2, np.float32)
MAPS = ("floatnet.FloatAvgPool2d", "floatnet.FloatMaxPool2d", "floatnet.FloatUpsample2d", "floatnet.FloatConv2d")
SHAPES = dict.fromkeys((*MAPS, "quantised.QuantConv2d"), (1, 4, 4))  # of inputs that are maps
POOL = {"name": "p", "inputs": ("in",), "kernel": (2, 2), "stride": (2, 2)}
BINARY = {"a": [1, 2], "a_format": Q, "b": [3, 4], "b_format": Q}

# Arguments of a valid call, where defaults are not enough; of a method the object as `self`.
VALID = {
    "formats.Fixed": lambda: {"bits": 8},
    "formats.Levels": lambda: {"table": (-1, 0, 1)},
    "formats.apot": lambda: {"bits": 3},
    "formats.Bipolar.codes": lambda: {"self": bipolar(), "values": [-1, 1]},
    "formats.Bipolar.values": lambda: {"self": bipolar(), "codes": [0, 1]},
    "formats.Fixed.check": lambda: {"self": Q, "codes": [1]},
    "formats.Fixed.codes": lambda: {"self": Q, "values": [1]},
    "formats.Fixed.contains": lambda: {"self": Q, "codes": [1]},
    "formats.Fixed.values": lambda: {"self": Q, "codes": [1]},
    "formats.Fixed.for_range": lambda: {"lo": -4, "hi": 7},
    "formats.Fixed.notation": lambda: {"self": Q},
    "formats.Fixed.parse": lambda: {"text": "Q4.3"},
    "formats.Levels.codes": lambda: {"self": levels(), "values": [-1, 1]},
    "formats.Levels.values": lambda: {"self": levels(), "codes": [0, 1]},
    "arithmetic.RandomKey.word": lambda: {"self": key(), "element": 3},
    "arithmetic.accumulate": lambda: {"a": [1, 2], "a_format": Q},
    "arithmetic.add": lambda: BINARY,
    "arithmetic.subtract": lambda: BINARY,
    "arithmetic.multiply": lambda: BINARY,
    "arithmetic.negate": lambda: {"a": [1, 2], "a_format": Q},
    "arithmetic.dequantise": lambda: {"codes": [1, 2], "number_format": Q},
    "arithmetic.quantise": lambda: {"real": [0.5], "to_format": Q, "rounding": "TRN", "overflow": "SAT"},
    "arithmetic.rescale": lambda: {
        "codes": [1], "from_format": Q, "to_format": Q, "rounding": "TRN", "overflow": "SAT",
    },
    "arithmetic.shift_left": lambda: {"a": [1], "a_format": Q, "k": 2},
    "arithmetic.shift_right": lambda: {"a": [1], "a_format": Q, "k": 2, "rounding": "TRN"},
    "notation.as_overflow": lambda: {"value": "SAT"},
    "notation.as_rounding": lambda: {"value": "TRN"},
    "notation.parse": lambda: {"text": "Q4.3"},
    "packed.pack": lambda: {"codes": [1, 2], "weight_format": Fixed(4)},
    "packed.packed_size": lambda: {"count": 3, "bits": 4},
    "packed.unpack": lambda: {"data": np.array([0x21], np.uint8), "weight_format": Fixed(4), "shape": 2},
    "neurons.IF": lambda: {"threshold": 5},
    "neurons.LIF": lambda: {"threshold": 5, "decay": Decay.by_shift(2)},
    "neurons.QFFS": lambda: {"threshold": 5, "levels": 3},
    "neurons.CaLIF": lambda: {"threshold": 5},
    "neurons.SignedIF": lambda: {"threshold": 5},
    "neurons.CubaLIF": lambda: {"threshold": 5, "u_decay": Decay.by_shift(2), "v_decay": Decay.by_shift(3)},
    "neurons.Neuron": lambda: {"threshold": 5, "u_format": Fixed(16), "u_range": (-9, 9)},
    "neurons.Decay.by_multiply": lambda: {"multiplier": 3, "shift": 2},
    "neurons.Decay.by_shift": lambda: {"shift": 2},
    "neurons.Decay.by_subtract": lambda: {"amount": 2},
    "neurons.loihi": lambda: {"vth": 100, "du": 10, "dv": 10},
    "layers.Affine": lambda: {"weight": [[1, 2], [3, 4]]},
    "layers.Conv2d": lambda: {"weight": np.ones((2, 1, 2, 2), int)},
    "layers.Input": lambda: {"shape": (2,)},
    "layers.integers": lambda: {"values": [1, 2], "what": "values"},
    "network.Network": lambda: {"nodes": {"in": Input((2,)), "n": IF(3)}, "edges": (("in", "n"),)},
    "network.Network.sequential": lambda: {"layers": Input((2,))},
    "network.Network.bounds": lambda: {"self": network()},
    "network.Network.describe": lambda: {"self": network(), "name": "input_0"},
    "network.Network.inputs_of": lambda: {"self": network(), "name": "affine_1"},
    "inputs.Events": lambda: {"step": [0], "sample": [0], "index": [1], "steps": 2, "samples": 1},
    "inputs.Source": lambda: {"layer": Input((2,)), "data": CODES},
    "inputs.encode_rate": lambda: {"codes": CODES, "steps": 2, "maximum": 255},
    "simulate.simulate": lambda: {"network": network(), "inputs": CODES, "path": "reference"},
    "runner.Runner": lambda: {"network": network(), "steps": None, "settle": False, "threads": 1},
    "runner.Runner.__call__": lambda: {"self": prepare(network()), "inputs": CODES},
    "runner.prepare": lambda: {"network": network()},
    "ann.equality_conditions": lambda: {"network": network()},
    "ann.integer_ann": lambda: {"network": network(), "inputs": CODES},
    "verify.verify": lambda: {"network": network(), "inputs": CODES[:1], "reference": 1},
    "convert.convert": lambda: {"quantised": quantised()},
    "floatnet.FloatAdd": lambda: {"name": "s", "inputs": ("in", "in")},
    "floatnet.FloatAffine": lambda: {"name": "a", "inputs": ("in",), "weight": np.ones((2, 2), np.float32)},
    "floatnet.FloatAvgPool2d": lambda: POOL,
    "floatnet.FloatMaxPool2d": lambda: POOL,
    "floatnet.FloatBatchNorm": lambda: {
        "name": "n", "inputs": ("in",), "gamma": ONE, "beta": ONE, "mean": ONE, "variance": ONE, "epsilon": 0.1,
    },
    "floatnet.FloatConv2d": lambda: {"name": "c", "inputs": ("in",), "weight": np.ones((1, 1, 2, 2), np.float32)},
    "floatnet.FloatFlatten": lambda: {"name": "f", "inputs": ("in",)},
    "floatnet.FloatReLU": lambda: {"name": "r", "inputs": ("in",)},
    "floatnet.FloatSoftmax": lambda: {"name": "s", "inputs": ("in",)},
    "floatnet.FloatInput": lambda: {"name": "in", "shape": (2,)},
    "floatnet.FloatUpsample2d": lambda: {"name": "u", "inputs": ("in",), "factor": (2, 2)},
    "floatnet.FloatNetwork": lambda: {"nodes": floats().nodes, "output": "b"},
    "floatnet.FloatNetwork.consumers": lambda: {"self": floats(), "name": "a"},
    "floatnet.blocks": lambda: {"network": floats(), "x": CODES / 255},
    "floatnet.forward": lambda: {"network": floats(), "x": CODES / 255},
    "quantised.InputScale.apply": lambda: {"self": quantised().input_scale, "raw": CODES},
    "quantised.InputScale.parse": lambda: {"text": "1/255"},
    "quantised.QuantAffine": lambda: {"name": "a", "inputs": ("in",), "codes": [[1, 2]], "scale": 0.5},
    "quantised.QuantConv2d": lambda: {"name": "a", "inputs": ("in",), "codes": [[[[1, 2]]]], "scale": 0.5},
    "quantised.QuantReLU": lambda: {"name": "a", "inputs": ("in",), "step": 0.5, "levels": 3},
    "quantised.QuantisedNetwork": lambda: {"graph": quantised().graph},
    "quantise.calibrate": lambda: {"network": floats(), "raw": CODES},
    "quantise.quantise_network": lambda: {"network": floats(), "raw": CODES, "rounding": "nearest"},
    "quantise.quantise_weights": lambda: {"weight": np.ones((2, 3)), "bits": 4},
    "fold.fold": lambda: {"network": floats()},
    "redrive.redriven": lambda: {"network": network(), "t_drive": 4},
    "learn_rule.Conv": lambda: {"channels": 2, "kernel": 3},
    "learn_rule.Dense": lambda: {"units": 2},
    "learn_rule.LearningNetwork": lambda: {"shape": (3,), "layers": (Dense(4),), "classes": 3},
    "learn_rule.Rule.from_json": lambda: {"values": Rule().to_json()},
    "learn_rule.Schedule.shift": lambda: {"self": Schedule(), "epoch": 3},
    "learn_rule.Widths.parse": lambda: {"text": "P8 Q8"},
    "learn.Learner": lambda: {"network": learning(), "path": "reference"},
    "learn.Learner.begin": lambda: {"self": learner(), "samples": 2},
    "learn.Learner.learn": lambda: {
        "self": learner(), "state": learner().begin(2), "frame": np.ones((2, 3), np.uint8), "labels": [0, 1],
    },
    "learn.Learner.watch": lambda: {
        "self": learner(), "state": learner().begin(2), "frame": np.ones((2, 3), np.uint8),
    },
    "learn.Learner.votes": lambda: {"self": learner(), "frames": np.ones((2, 2, 3), np.uint8)},
    "learn_stdp.PairRule": lambda: {"potentiation": by_shift(7, 2), "depression": by_shift(7, 2)},
    "learn_stdp.PairRule.parameters": lambda: {"self": pair_rule(), "seed": 1, "layer": 2},
    "learn_stdp.Plasticity": lambda: {"rule": pair_rule(), "weight": [[3, 4]], "path": "reference"},
    "learn_stdp.Plasticity.step": lambda: {"self": plasticity(), "pre": [[1]], "post": [[0, 1]]},
    "learn_stdp.by_shift": lambda: {"trace_bits": 3, "shift": 1},
    "learn_files.from_tree": lambda: {"tree": learner_tree(), "label": "a file"},
    "learn_files.load": lambda: {"path": saved() and f"{FOLDER}/learner.h5", "trust": True},
    "learn_files.save": lambda: {"path": f"{FOLDER}/new.h5", "learner": learner()},
    "learn_files.network_from_json": lambda: {"values": json_of_network()},
    "learn_files.network_to_json": lambda: {"network": learning()},
    "datasets.load": lambda: {"spec": "digits:test:3"},
    "datasets.full_scale": lambda: {"low": 0, "high": 16},
    "datasets.shuffled": lambda: {"count": 4, "seed": 1},
    "files.component": lambda: {"name": "a/b"},
    "files.network_digest": lambda: {"network": network()},
    "files.from_tree": lambda: {"tree": tree(), "label": "a file"},
    "files.info_from_tree": lambda: {"tree": tree(), "label": "a file"},
    "files.is_ours": lambda: {"tree": tree()},
    "files.load": lambda: {"path": network_file(), "trust": True},
    "files.read_info": lambda: {"path": network_file(), "trust": True},
    "files.save": lambda: {"network": network(), "path": f"{FOLDER}/other.h5"},
    "files.stored_bytes": lambda: {"network": network()},
    "memory.accumulators": lambda: {"network": network(), "result": result()},
    "memory.allocated": lambda: {"architecture": architecture(), "widths": {name: 0 for name in "WGPQRUSAE"}},
    "memory.Report.totals": lambda: {"self": report(), "by": "kind"},
    "learn_files.Saved.learner": lambda: {"self": saved(), "path": "reference"},
    "learn_files.Saved.restore": lambda: {"self": saved(), "learner": learner()},
    "learn_files.Saved.state": lambda: {"self": saved(), "learner": learner()},
    "models.event_data.EventSet.events": lambda: {"self": recordings(), "index": 0},
    "memory.formula": lambda: {"architecture": architecture()},
    "memory.cell": lambda: {"network": network()},
    "memory.memory": lambda: {"network": network(), "run": False, "file": False},
    "describe.describe": lambda: {"network": network()},
    "describe.float_bytes": lambda: {"network": floats()},
    "describe.span": lambda: {"values": [1, 2]},
    "curve.curve": lambda: {"network": network(), "images": CODES, "labels": [0, 1, 0], "steps": 2},
    "models.event_frames.frame_set": lambda: {"events": recordings(), **BINS},
    "models.event_frames.frame_shape": lambda: {"shape": (2, 34, 34)},
    "models.event_frames.frames": lambda: {"events": EVENTS, "shape": (2, 34, 34), **BINS},
    "models.event_data.is_event_data": lambda: {"spec": "nmnist"},
    "models.event_data.load_events": lambda: {"spec": "digits-saccades:test:2"},
    "models.saccades.pixel_table": lambda: {"intensity": "log"},
    "models.saccades.place": lambda: {"images": np.ones((1, 1, 8, 8), np.uint8), "maximum": 16, "camera": camera()},
    "models.saccades.stream": lambda: {"placed": image(), "sample": 0},
    "models.saccades.stream_frames": lambda: {
        "placed": image(1), "samples": [0], "out": np.zeros((1, 2, 2, 34, 34), np.uint8), "bin_us": 1000,
        "divide": (1, 1), "clip": 1,
    },
    "models.saccades.trajectory": lambda: {"camera": camera()},
    "models.readers.load": lambda: {"path": network_file(), "trust": True},
    "models.keras.load": lambda: {"path": f"{FOLDER}/none.h5", "trust": True},
    "models.zoo.card": lambda: {"name": "digits-fast"},
    "models.zoo.find": lambda: {"path": "zoo:digits-fast"},
}  # fmt: skip
DERIVED = {
    "quantised.QuantAffine.weight",
    "quantised.QuantConv2d.weight",
}  # made anew from the codes, whatever is given
MISSING = {"models.keras.load"}  # its valid call ends in an error of ours: there is no such file


def bipolar():
    from intsnn import Bipolar

    return Bipolar()


def levels():
    from intsnn import Levels

    return Levels((-1, 0, 1))


def key():
    from intsnn.formats.arithmetic import RandomKey

    return RandomKey()


def json_of_network():
    from intsnn.learning.files import network_to_json

    return network_to_json(learning())


# -- wrong values ------------------------------------------------------------------------------------------------------


class Strange:
    """Of no class of ours, and no array either."""

    def __array__(self, *arguments, **options):
        raise RuntimeError("no array")


def wrong() -> dict[str, object]:
    return {
        "true": True, "two": 2.0, "half": 0.5, "nan": float("nan"), "inf": float("inf"), "numpy float": np.float32(1),
        "0-d float": np.array(1.0), "minus": -3, "huge": 2**80, "-huge": -(2**80), "text": "no such", "bytes": b"\x00",
        "none": None, "object": object(), "strange": Strange(), "complex": 1j, "fraction": Fraction(1, 3),
        "floats": np.full((2, 3), 0.5), "nans": np.full(2, np.nan), "ints": np.array([1, 2]), "words": np.array(["a"]),
        "objects": np.array([None, object()]), "huge ints": np.array([2**80, 1]), "ragged": [[1], [2, 3]],
        "lists": [[1, 2], [3, 4]], "empty": [], "dict": {"a": 1}, "numbers": {1: 2}, "fixed": Fixed(5, 1),
        "decay": Decay.by_shift(1), "mode": Rounding.TRN, "network": network(), "floats of ours": floats(),
        "quantised": quantised(), "events": Events([0], [0], [0], 1, 1), "dense": Dense(2), "rule": Rule(),
        "source": Source(Input((2,)), CODES), "class": Fixed, "function": lambda *arguments: None,
        "date": np.datetime64("2020"), "span of time": np.timedelta64(3), "learner": learner(),
    }  # fmt: skip


CODE = {"ints", "lists", "empty", "minus", "true"}  # integers of any shape; booleans are the codes 0 and 1
HUGE = {"huge", "-huge", "huge ints"}
SIGNED = {"minus", "ints", "empty"}
NUMBERS = {"two", "half", "numpy float", "0-d float", "minus", "huge", "-huge", "fraction"}
FLOATS = {"two", "half", "nan", "inf", "numpy float", "0-d float", "floats", "nans"}

# Which of the values are right, by what an annotation says.
RIGHT = {
    r"\bNone\b": {"none"},
    r"\bbool\b": {"true"},
    r"\b(float|Fraction)\b": NUMBERS,
    r"\bstr\b": {"text"},
    r"\b(Fixed|WeightFormat)\b": {"fixed"},
    r"\bDecay\b": {"decay"},
    r"\b(Rounding|Overflow)\b": {"mode"},
    r"(?<!Quantised)(?<!Float)(?<!Learning)\bNetwork\b": {"network"},
    r"\bFloatNetwork\b": {"floats of ours"},
    r"\bQuantisedNetwork\b": {"quantised"},
    r"\b(Mapping|dict)\b": {"dict"},
    r"\bCallable\b": {"class", "function"},
    r"\bIterable\[str\]|tuple\[str": {"words", "empty", "dict"},
    r"\btuple\[int, int\]|\bPair\b|\btuple \| int\b": {"ints"},
    r"\b(tuple\[int, \.\.\.\])": {"ints"},
    r"\bLearner\b": {"learner"},
    r"\bRule$": {"rule"},
}
# Which are right besides, by name of the parameter and by its whole name: negative numbers, arrays, empty lists.
BY_NAME: dict[str, set[str]] = {
    "a": CODE,
    "b": CODE,
    "codes": CODE,
    "values": CODE,
    "network": {"network"},
    "inputs": {"lists", "events"},
    "rounding": {"none"},
    "overflow": {"none"},
    "result": {"none"},
    "record_to": {"none", "text"},
    "record_labels": {"none"},
    "frac": {"minus"},
    "lo": {"minus"},
    "hi": {"minus"},
    "offset": {"minus"},
    "bias": {"minus", "ints"},
    "multiplier": {"minus", "ints"},
    "amplitude": {"minus"},
    "rate_shift": {"minus"},
    "start_us": {"minus"},
    "start": {"minus"},
    "low": {"minus"},
    "high": {"minus"},
    "gain": {"minus"},
    "threshold": {"ints", "empty"},
    "v_initial": SIGNED,
    "v_negative": SIGNED,
    "scale": SIGNED,
    "weight": {"lists", "ints"},
    "raw": {"lists"},
    "x": {"lists"},
    "padding": {"lists"},
    "batch": {"huge"},
    "batch_size": {"huge"},
    "budget": {"huge"},
    "reference": {"huge"},
    "chunk": {"huge"},
    "groups": {"huge"},
    "count": {"huge"},
    "metadata": {"numbers"},
    "reward": {"none"},
    "labels": {"ints"},
}
BY_PLACE: dict[str, set[str]] = {
    "arithmetic.quantise.real": CODE | {"two", "half", "numpy float", "0-d float", "fraction", "floats"} | HUGE,
    "formats.Fixed.contains.codes": HUGE,
    "describe.span.values": {"two", "half", "numpy float", "0-d float", "floats"},
    "quantise.quantise_weights.weight": {"floats"},
    "quantised.InputScale.apply.raw": CODE | NUMBERS | {"nan", "inf", "floats", "nans", "true"},
    "inputs.Source.data": {"lists", "events"},
    "models.event_frames.frame_set.indices": {"empty", "numbers"},
    "models.keras.load.input_shape": {"ints", "empty"},
    "learn_rule.Rule.tau_membrane": {"two"},
    "learn_rule.Rule.tau_synapse": {"two"},  # exact as they print
    "models.saccades.Camera.corners": {"lists"},
    "neurons.Neuron.u_range": {"ints"},
    "neurons.Neuron.bias": {"empty"},
    "neurons.loihi.bias": {"minus"},
}
# Other words by which a message may name a parameter.
ALSO: dict[str, str] = {
    "inputs": "its input",
    "quantised.QuantAffine.codes": "weight",
    "quantised.QuantConv2d.codes": "weight",
    "learn_files.network_from_json.values": "no description",
    "arithmetic.quantise.real": "quantise:",
    "formats.Fixed.for_range.lo": "range",
    "formats.Fixed.for_range.hi": "range",
    "inputs.Source.data": "input",
    "simulate.simulate.inputs": "input",
    "ann.integer_ann.inputs": "input",
    "verify.verify.inputs": "input",
    "runner.Runner.__call__.inputs": "input",
    "learn_rule.Rule.from_json.values": "no field",
    "memory.allocated.widths": "width",
    "memory.formula.widths": "width",
    "notation.as_overflow.value": "overflow",
    "notation.as_rounding.value": "rounding",
    "network.Network.nodes": "no layer",
    "network.Network.edges": "layers",
    "network.Network.sequential.layers": "no layer",
    "packed.unpack.weight_format": "bits",
    "packed.unpack.shape": "packed byte",
    "models.saccades.stream_frames.divide": "out",
    "floatnet.FloatNetwork.nodes": "network",
}


def allowed(key: str, parameter: inspect.Parameter) -> set[str]:
    annotation = parameter.annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    found = set().union(*(right for pattern, right in RIGHT.items() if re.search(pattern, text)))
    given = found | BY_NAME.get(parameter.name, set()) | BY_PLACE.get(f"{key}.{parameter.name}", set())
    if re.search(r"\bint\b", text) and not re.search(r"\bfloat\b|Fraction|ndarray", text):
        assert not given & FLOATS, f"{key}.{parameter.name}: no float is a whole number"
    return given


def call(key: str, obj, name: str | None, value):
    """The valid call with one argument replaced."""
    arguments = dict(VALID[key]()) if key in VALID else {}
    if name is not None:
        arguments[name] = value
    spread = [p.name for p in inspect.signature(obj).parameters.values() if p.kind is p.VAR_POSITIONAL]
    if "self" in arguments:
        obj = getattr(arguments.pop("self"), key.rpartition(".")[2])
    elif "." in getattr(obj, "__qualname__", ""):  # of a class
        home = importlib.import_module(obj.__module__)
        obj = getattr(getattr(home, obj.__qualname__.split(".")[0]), key.rpartition(".")[2])
    rest = [arguments.pop(name) for name in spread]
    found = obj(*rest, **arguments)
    if inspect.isgenerator(found):
        list(found)
    elif isinstance(found, FloatNode):  # its network looks at it again
        first = () if isinstance(found, FloatInput) else (FloatInput(name="in", shape=SHAPES.get(key, (2,))),)
        FloatNetwork((*first, found), found.name)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    global FOLDER
    FOLDER = str(tmp_path_factory.mktemp("arguments"))
    convert(quantised())  # compiled code is loaded before a clock of pytest looks
    yield FOLDER


@pytest.fixture(scope="module")
def tally():
    counts = {"callables": 0, "parameters": 0, "values": 0, "accepted": 0}
    yield counts
    print("\npublic arguments: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))


def test_every_public_callable_has_a_valid_call():
    found = public()
    assert len(found) > 100
    unknown = [
        key
        for key, obj in found.items()
        if key not in VALID and (any(p.default is p.empty for p in parameters(obj)) or is_method(obj))
    ]
    assert not unknown, f"without a valid call: {unknown}"
    assert not VALID.keys() - found.keys(), "valid calls of what is not public"
    assert not (SHARED | ANSWERS) & VALID.keys()


def is_method(obj) -> bool:
    return "self" in inspect.signature(obj).parameters


@pytest.mark.parametrize("key", sorted(public()))
def test_wrong_values_are_refused_in_one_sentence(key, tally, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    obj = public()[key]
    faults = []
    if key not in MISSING:
        call(key, obj, None, None)
    tally["callables"] += 1
    for parameter in parameters(obj):
        tally["parameters"] += 1
        right = allowed(key, parameter)
        for name, value in wrong().items():
            tally["values"] += 1
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    warnings.filterwarnings("ignore", "(.*: )?no event of", UserWarning)
                    call(key, obj, parameter.name, value)
            except IntsnnError as error:
                said = str(error)
                names = (ALSO.get(f"{key}.{parameter.name}"), ALSO.get(parameter.name), parameter.name)
                named = any(word in said for word in names if word)
                named |= name == "text" and "no such" in said
                named |= key in MISSING and name in right and "there is no file" in said
                if not named or "\n" in said or "Traceback" in said or not 5 < len(said) < 700:
                    faults.append(f"{parameter.name} = {name}: says {said[:160]!r}")
            except Exception as error:
                faults.append(f"{parameter.name} = {name}: {type(error).__name__} {str(error)[:100]!r}")
            else:
                tally["accepted"] += 1
                if name not in right and f"{key}.{parameter.name}" not in DERIVED:
                    faults.append(f"{parameter.name} = {name}: taken")
    assert not faults, f"{key}\n" + "\n".join(faults)
