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
from intsnn.engine.ann import prepare_ann
from intsnn.engine.backends.fused.runner import prepare
from intsnn.engine.inputs import Events, Source
from intsnn.errors import IntsnnError
from intsnn.files import network_file as files
from intsnn.layers import Decay
from intsnn.layers.base import Layer
from intsnn.learning.learner import Dense, Learner, LearningNetwork, Rule, Schedule
from intsnn.learning.stdp import PairRule, Plasticity, by_shift
from intsnn.network.float_nodes import FloatAffine, FloatInput, FloatNode, FloatReLU
from intsnn.network.floating import FloatNetwork

MODULES = """formats.fixed formats.weights formats.arithmetic formats.reals formats.notation formats.packing
layers.neurons layers.base network.spiking engine.inputs engine.simulation engine.result
engine.backends.fused.runner engine.ann engine.settled analysis.verification conversion.spikes network.floating
network.float_nodes network.float_moves network.float_activations network.node network.quantised
conversion.quantise conversion.weights conversion.fold
conversion.redrive
learning.learner learning.rule learning.stdp learning.files datasets.catalogue files.network_file analysis.memory.report
analysis.description analysis.curves
datasets.framing datasets.events datasets.camera datasets.splitmix models.readers models.keras.load
models.torch.trace models.torch.state models.zoo.catalogue engine.state formats.integers""".split()

# Made by functions of ours as their answer, never by a caller; what they are handed to looks at them again.
ANSWERS = set(
    """engine.Result engine.LayerReport engine.Outcome engine.AnnResult engine.Settled analysis.Difference
    analysis.Verification conversion.Conversion conversion.Calibration conversion.Quantisation learning.StepOutcome
    learning.State learning.Saved datasets.Dataset files.FileInfo analysis.Accumulator analysis.Report
    analysis.Description analysis.Curve models.zoo.Card datasets.EventSet formats.QuantiseReport
    formats.Notation""".split()
)
# Names that other modules of the package share: they get what was checked at the door.
SHARED = set(
    """layers.output_shape engine.Source.raw engine.Source.block engine.Events.frames engine.Fused.refuses
    engine.Fused.run engine.LayerReport.of_parts engine.backends_of engine.decide
    layers.Bound layers.Bound.times layers.Bound.with_zero
    layers.Build layers.Build.__call__ layers.Value layers.fits layers.ParameterSize layers.StateSize
    layers.Layer layers.Schedule layers.bias_schedule layers.bias_total network.analyse network.check_totals
    network.schedule network.settling_steps engine.State.belongs learning.Learner.check_state
    learning.Learner.renew engine.places engine.predict engine.to_api conversion.Width conversion.quantised_node
    conversion.weight_format network.FloatNode network.with_codes analysis.span_text datasets.check_binning
    datasets.warn_if_empty
    datasets.words formats.at_index formats.check_range formats.each formats.for_kernel formats.integer_array
    formats.limits formats.smallest_dtype""".split()
)
WORDS = {"what"}  # parameters that only name something in messages


def path(obj) -> str:
    """Room and name: which file of a room a name stands in is nobody's concern."""
    rooms = obj.__module__.split(".")[1:]
    return ".".join([*rooms[: 2 if rooms[0] == "models" else 1], obj.__qualname__])


def members(cls):
    """Public methods of a class, its call among them."""
    for name in dir(cls):
        found = inspect.getattr_static(cls, name)
        found = found.__func__ if isinstance(found, classmethod | staticmethod) else found
        if issubclass(cls, Layer) and name in (
            *vars(Layer),
            "fan_out",
            "bound_alone",
            "least",
            "most",
            "places",
            "restarts",
            "sizes",
        ):
            continue  # what a layer answers is asked by networks, which were checked
        if issubclass(cls, FloatNode) and name in (*vars(FloatNode), "rows", "connection"):
            continue  # so is what a node answers
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
def state_dict():
    import h5py

    with h5py.File(f"{FOLDER}/state.h5", "w") as file:
        file["fc.weight"] = np.ones((2, 2), np.float32)
    return f"{FOLDER}/state.h5"


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
DENSE = {"input": [2], "layers": [{"name": "fc", "type": "Linear"}]}  # of a state dict
Q = Fixed(8, 3)
EVENTS = np.zeros(3, [("x", int), ("y", int), ("t", int), ("p", int)])
BINS = {"steps": 2, "bin_us": 200_000}
ONE = np.ones(2, np.float32)
MAPS = ("network.FloatAvgPool2d", "network.FloatMaxPool2d", "network.FloatUpsample2d", "network.FloatConv2d")
SHAPES = dict.fromkeys((*MAPS, "network.QuantConv2d"), (1, 4, 4))  # of inputs that are maps
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
    "formats.RandomKey.word": lambda: {"self": key(), "element": 3},
    "formats.accumulate": lambda: {"a": [1, 2], "a_format": Q},
    "formats.add": lambda: BINARY,
    "formats.subtract": lambda: BINARY,
    "formats.multiply": lambda: BINARY,
    "formats.negate": lambda: {"a": [1, 2], "a_format": Q},
    "formats.dequantise": lambda: {"codes": [1, 2], "number_format": Q},
    "formats.quantise": lambda: {"real": [0.5], "to_format": Q, "rounding": "TRN", "overflow": "SAT"},
    "formats.rescale": lambda: {
        "codes": [1], "from_format": Q, "to_format": Q, "rounding": "TRN", "overflow": "SAT",
    },
    "formats.shift_left": lambda: {"a": [1], "a_format": Q, "k": 2},
    "formats.shift_right": lambda: {"a": [1], "a_format": Q, "k": 2, "rounding": "TRN"},
    "formats.as_overflow": lambda: {"value": "SAT"},
    "formats.as_rounding": lambda: {"value": "TRN"},
    "formats.parse": lambda: {"text": "Q4.3"},
    "formats.pack": lambda: {"codes": [1, 2], "weight_format": Fixed(4)},
    "formats.packed_size": lambda: {"count": 3, "bits": 4},
    "formats.unpack": lambda: {"data": np.array([0x21], np.uint8), "weight_format": Fixed(4), "shape": 2},
    "layers.IF": lambda: {"threshold": 5},
    "layers.LIF": lambda: {"threshold": 5, "decay": Decay.by_shift(2)},
    "layers.QFFS": lambda: {"threshold": 5, "levels": 3},
    "layers.CaLIF": lambda: {"threshold": 5},
    "layers.SignedIF": lambda: {"threshold": 5},
    "layers.CubaLIF": lambda: {"threshold": 5, "u_decay": Decay.by_shift(2), "v_decay": Decay.by_shift(3)},
    "layers.Select": lambda: {"indices": [1, 0, -1]},
    "layers.Neuron": lambda: {"threshold": 5, "u_format": Fixed(16), "u_range": (-9, 9)},
    "layers.Decay.by_multiply": lambda: {"multiplier": 3, "shift": 2},
    "layers.Decay.by_shift": lambda: {"shift": 2},
    "layers.Decay.by_subtract": lambda: {"amount": 2},
    "layers.loihi": lambda: {"vth": 100, "du": 10, "dv": 10},
    "layers.Affine": lambda: {"weight": [[1, 2], [3, 4]]},
    "layers.Conv2d": lambda: {"weight": np.ones((2, 1, 2, 2), int)},
    "layers.Input": lambda: {"shape": (2,)},
    "formats.whole_array": lambda: {"values": [1, 2], "what": "values"},
    "network.Network": lambda: {"nodes": {"in": Input((2,)), "n": IF(3)}, "edges": (("in", "n"),)},
    "network.Network.sequential": lambda: {"layers": Input((2,))},
    "network.Network.bounds": lambda: {"self": network()},
    "network.Network.describe": lambda: {"self": network(), "name": "input_0"},
    "network.Network.inputs_of": lambda: {"self": network(), "name": "affine_1"},
    "engine.Events": lambda: {"step": [0], "sample": [0], "index": [1], "steps": 2, "samples": 1},
    "engine.Source": lambda: {"layer": Input((2,)), "data": CODES},
    "engine.encode_rate": lambda: {"codes": CODES, "steps": 2, "maximum": 255},
    "engine.simulate": lambda: {"network": network(), "inputs": CODES, "path": "reference"},
    "engine.Runner": lambda: {"network": network(), "steps": None, "settle": False, "threads": 1},
    "engine.Runner.__call__": lambda: {"self": prepare(network()), "inputs": CODES},
    "engine.paths_of": lambda: {"network": network(), "inputs": CODES},
    "engine.State": lambda: {"step": 1, "arrays": {"n.v": [[1, 2]]}},
    "engine.prepare": lambda: {"network": network()},
    "engine.equality_conditions": lambda: {"network": network()},
    "engine.integer_ann": lambda: {"network": network(), "inputs": CODES},
    "engine.AnnRunner": lambda: {"network": network(), "steps": None, "levels": False, "threads": 1},
    "engine.AnnRunner.__call__": lambda: {"self": prepare_ann(network()), "inputs": CODES},
    "engine.prepare_ann": lambda: {"network": network()},
    "engine.settle": lambda: {"network": network(), "inputs": CODES},
    "engine.unproven": lambda: {"network": network(), "inputs": CODES},
    "analysis.verify": lambda: {"network": network(), "inputs": CODES[:1], "reference": 1},
    "conversion.convert": lambda: {"quantised": quantised()},
    "network.FloatAdd": lambda: {"name": "s", "inputs": ("in", "in")},
    "network.FloatAffine": lambda: {"name": "a", "inputs": ("in",), "weight": np.ones((2, 2), np.float32)},
    "network.FloatAvgPool2d": lambda: POOL,
    "network.FloatMaxPool2d": lambda: POOL,
    "network.FloatBatchNorm": lambda: {
        "name": "n", "inputs": ("in",), "gamma": ONE, "beta": ONE, "mean": ONE, "variance": ONE, "epsilon": 0.1,
    },
    "network.FloatConcat": lambda: {"name": "s", "inputs": ("in", "in")},
    "network.FloatSelect": lambda: {"name": "s", "inputs": ("in",), "places": [1, 0, -1]},
    "network.FloatSigns": lambda: {"name": "s", "inputs": ("in",), "signs": [1, -1]},
    "network.FloatHardTanh": lambda: {"name": "h", "inputs": ("in",)},
    "network.FloatLeakyReLU": lambda: {"name": "l", "inputs": ("in",)},
    "network.FloatSigmoid": lambda: {"name": "s", "inputs": ("in",)},
    "network.FloatConv2d": lambda: {"name": "c", "inputs": ("in",), "weight": np.ones((1, 1, 2, 2), np.float32)},
    "network.FloatFlatten": lambda: {"name": "f", "inputs": ("in",)},
    "network.FloatReLU": lambda: {"name": "r", "inputs": ("in",)},
    "network.FloatSoftmax": lambda: {"name": "s", "inputs": ("in",)},
    "network.FloatInput": lambda: {"name": "in", "shape": (2,)},
    "network.FloatUpsample2d": lambda: {"name": "u", "inputs": ("in",), "factor": (2, 2)},
    "network.FloatNetwork": lambda: {"nodes": floats().nodes, "output": "b"},
    "network.FloatNetwork.consumers": lambda: {"self": floats(), "name": "a"},
    "network.blocks": lambda: {"network": floats(), "x": CODES / 255},
    "network.forward": lambda: {"network": floats(), "x": CODES / 255},
    "network.InputScale.apply": lambda: {"self": quantised().input_scale, "raw": CODES},
    "network.InputScale.parse": lambda: {"text": "1/255"},
    "network.QuantAffine": lambda: {"name": "a", "inputs": ("in",), "codes": [[1, 2]], "scale": 0.5},
    "network.QuantConv2d": lambda: {"name": "a", "inputs": ("in",), "codes": [[[[1, 2]]]], "scale": 0.5},
    "network.QuantHardTanh": lambda: {"name": "a", "inputs": ("in",), "step": 0.5, "levels": 3},
    "network.QuantReLU": lambda: {"name": "a", "inputs": ("in",), "step": 0.5, "levels": 3},
    "network.QuantisedNetwork": lambda: {"graph": quantised().graph},
    "conversion.calibrate": lambda: {"network": floats(), "raw": CODES},
    "conversion.quantise_network": lambda: {"network": floats(), "raw": CODES, "rounding": "nearest"},
    "conversion.quantise_weights": lambda: {"weight": np.ones((2, 3)), "bits": 4},
    "conversion.fold": lambda: {"network": floats()},
    "conversion.obstacles": lambda: {"network": floats()},
    "conversion.refusals": lambda: {"network": floats()},
    "conversion.without_rescaling": lambda: {
        "network": floats(), "given": None, "default": quantised().input_scale,
    },
    "conversion.redriven": lambda: {"network": network(), "t_drive": 4},
    "learning.Conv": lambda: {"channels": 2, "kernel": 3},
    "learning.Dense": lambda: {"units": 2},
    "learning.LearningNetwork": lambda: {"shape": (3,), "layers": (Dense(4),), "classes": 3},
    "learning.Rule.from_json": lambda: {"values": Rule().to_json()},
    "learning.Schedule.shift": lambda: {"self": Schedule(), "epoch": 3},
    "learning.Widths.parse": lambda: {"text": "P8 Q8"},
    "learning.Learner": lambda: {"network": learning(), "path": "reference"},
    "learning.Learner.begin": lambda: {"self": learner(), "samples": 2},
    "learning.Learner.learn": lambda: {
        "self": learner(), "state": learner().begin(2), "frame": np.ones((2, 3), np.uint8), "labels": [0, 1],
    },
    "learning.Learner.watch": lambda: {
        "self": learner(), "state": learner().begin(2), "frame": np.ones((2, 3), np.uint8),
    },
    "learning.Learner.votes": lambda: {"self": learner(), "frames": np.ones((2, 2, 3), np.uint8)},
    "learning.PairRule": lambda: {"potentiation": by_shift(7, 2), "depression": by_shift(7, 2)},
    "learning.PairRule.parameters": lambda: {"self": pair_rule(), "seed": 1, "layer": 2},
    "learning.Plasticity": lambda: {"rule": pair_rule(), "weight": [[3, 4]], "path": "reference"},
    "learning.Plasticity.step": lambda: {"self": plasticity(), "pre": [[1]], "post": [[0, 1]]},
    "learning.by_shift": lambda: {"trace_bits": 3, "shift": 1},
    "learning.from_tree": lambda: {"tree": learner_tree(), "label": "a file"},
    "learning.load": lambda: {"path": saved() and f"{FOLDER}/learner.h5", "trust": True},
    "learning.save": lambda: {"path": f"{FOLDER}/new.h5", "learner": learner()},
    "learning.network_from_json": lambda: {"values": json_of_network()},
    "learning.network_to_json": lambda: {"network": learning()},
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
    "analysis.accumulators": lambda: {"network": network(), "result": result()},
    "analysis.allocated": lambda: {"architecture": architecture(), "widths": {name: 0 for name in "WGPQRUSAE"}},
    "analysis.Report.totals": lambda: {"self": report(), "by": "kind"},
    "learning.Saved.learner": lambda: {"self": saved(), "path": "reference"},
    "learning.Saved.restore": lambda: {"self": saved(), "learner": learner()},
    "learning.Saved.state": lambda: {"self": saved(), "learner": learner()},
    "datasets.EventSet.events": lambda: {"self": recordings(), "index": 0},
    "analysis.formula": lambda: {"architecture": architecture()},
    "analysis.cell": lambda: {"network": network()},
    "analysis.memory": lambda: {"network": network(), "run": False, "file": False},
    "analysis.describe": lambda: {"network": network()},
    "analysis.float_bytes": lambda: {"network": floats()},
    "analysis.span": lambda: {"values": [1, 2]},
    "analysis.curve": lambda: {"network": network(), "images": CODES, "labels": [0, 1, 0], "steps": 2},
    "datasets.frame_set": lambda: {"events": recordings(), **BINS},
    "datasets.frame_shape": lambda: {"shape": (2, 34, 34)},
    "datasets.frames": lambda: {"events": EVENTS, "shape": (2, 34, 34), **BINS},
    "datasets.is_event_data": lambda: {"spec": "nmnist"},
    "datasets.load_events": lambda: {"spec": "digits-saccades:test:2"},
    "datasets.pixel_table": lambda: {"intensity": "log"},
    "datasets.place": lambda: {"images": np.ones((1, 1, 8, 8), np.uint8), "maximum": 16, "camera": camera()},
    "datasets.stream": lambda: {"placed": image(), "sample": 0},
    "datasets.stream_frames": lambda: {
        "placed": image(1), "samples": [0], "out": np.zeros((1, 2, 2, 34, 34), np.uint8), "bin_us": 1000,
        "divide": (1, 1), "clip": 1,
    },
    "datasets.trajectory": lambda: {"camera": camera()},
    "models.readers.reasons": lambda: {"path": network_file()},
    "models.readers.load": lambda: {"path": network_file(), "trust": True},
    "models.keras.problems": lambda: {"path": f"{FOLDER}/none.h5", "trust": True},
    "models.keras.load": lambda: {"path": f"{FOLDER}/none.h5", "trust": True},
    "models.torch.load_state": lambda: {"path": state_dict(), "architecture": DENSE, "trust": True},
    "models.torch.from_torch": lambda: {"module": None, "input_shape": (2,)},
    "models.zoo.card": lambda: {"name": "digits-fast"},
    "models.zoo.find": lambda: {"path": "zoo:digits-fast"},
}  # fmt: skip
DERIVED = {
    "network.QuantAffine.weight",
    "network.QuantConv2d.weight",
}  # made anew from the codes, whatever is given
# their valid calls end in an error of ours: there is no such file, and no module without torch
MISSING = {"models.keras.load", "models.keras.problems", "models.torch.from_torch"}


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
    "formats.quantise.real": CODE | {"two", "half", "numpy float", "0-d float", "fraction", "floats"} | HUGE,
    "formats.Fixed.contains.codes": HUGE,
    "analysis.span.values": {"two", "half", "numpy float", "0-d float", "floats"},
    "conversion.quantise_weights.weight": {"floats"},
    "network.InputScale.apply.raw": CODE | NUMBERS | {"nan", "inf", "floats", "nans", "true"},
    "engine.Source.data": {"lists", "events"},
    "datasets.frame_set.indices": {"empty", "numbers"},
    "models.keras.load.input_shape": {"ints", "empty"},
    "models.keras.problems.input_shape": {"ints", "empty"},
    "layers.Select.indices": {"ints"},
    "learning.Rule.tau_membrane": {"two"},
    "learning.Rule.tau_synapse": {"two"},  # exact as they print
    "datasets.Camera.corners": {"lists"},
    "layers.Neuron.u_range": {"ints"},
    "layers.Decay.shift": {"ints"},
    "layers.Decay.amount": {"ints"},
    "layers.Decay.by_shift.shift": {"ints"},
    "layers.Decay.by_subtract.amount": {"ints"},
    "layers.Neuron.bias": {"empty"},
    "layers.loihi.bias": {"minus"},
}
# Other words by which a message may name a parameter.
ALSO: dict[str, str] = {
    "inputs": "its input",
    "models.torch.from_torch.input_shape": "module",
    "models.torch.load_state.architecture": "no array",
    "network.QuantAffine.codes": "weight",
    "network.QuantConv2d.codes": "weight",
    "learning.network_from_json.values": "no description",
    "formats.quantise.real": "quantise:",
    "formats.Fixed.for_range.lo": "range",
    "formats.Fixed.for_range.hi": "range",
    "engine.Source.data": "input",
    "engine.paths_of.inputs": "input",
    "engine.simulate.inputs": "input",
    "engine.integer_ann.inputs": "input",
    "engine.AnnRunner.__call__.inputs": "input",
    "engine.settle.inputs": "input",
    "engine.unproven.inputs": "input",
    "analysis.verify.inputs": "input",
    "engine.Runner.__call__.inputs": "input",
    "learning.Rule.from_json.values": "no field",
    "analysis.allocated.widths": "width",
    "analysis.formula.widths": "width",
    "formats.as_overflow.value": "overflow",
    "formats.as_rounding.value": "rounding",
    "network.Network.nodes": "no layer",
    "network.Network.edges": "layers",
    "network.Network.sequential.layers": "no layer",
    "formats.unpack.weight_format": "bits",
    "formats.unpack.shape": "packed byte",
    "datasets.stream_frames.divide": "out",
    "network.FloatNetwork.nodes": "network",
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
