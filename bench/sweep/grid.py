"""Which cells has a sweep? Axes from options or a TOML file; a cell is one point of the grid, with a key of its own."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ...conversion.quantise import ROUNDINGS
from ...conversion.spikes import METHODS, NeuronRule
from ...errors import DataNotFoundError, FormatError
from ...formats.arguments import shown

__all__ = ["Cell", "Grid", "ModelSpec", "parse_method", "read_toml"]

CURVES = 1000  # samples of which every step is looked at

AS_IS = "as-is"  # method of a spiking network that is run as it is
RECIPE, ZOO = "recipe:", "zoo:"  # in place of a file: a network to be trained, one that comes with the project
SWITCHES: dict[str, dict[str, Any]] = {
    "no-cap": {"cap": False},
    "unsigned": {"signed": False},
    "bias-once": {"bias": "once"},
    "odd-thresholds": {"odd_thresholds": True},
}


def parse_method(text: str) -> tuple[str, dict[str, Any]]:
    """``fast-snn+no-cap+v-negative=-0.5`` in its one spelling, and as the settings of a `NeuronRule`.

    Raises `FormatError` for what is no method or no variant of one.
    """
    name, *words = (word.strip() for word in str(text).split("+"))
    settings: dict[str, Any] = {"method": name}
    for word in words:
        switch, _, value = word.partition("=")
        if word in SWITCHES:
            settings |= SWITCHES[word]
        elif switch == "v-negative":
            try:
                settings["v_negative"] = float(value)
            except ValueError:
                raise FormatError(f"method {text!r}: v-negative takes a number from -1 to 0, not {value!r}") from None
        else:
            raise FormatError(
                f"method {text!r}: found the variant {word!r}; choose from {', '.join([*SWITCHES, 'v-negative=X'])}"
            )
    if name not in METHODS:
        raise FormatError(f"method {text!r}: found {name!r}; choose one of {', '.join(METHODS)}")
    NeuronRule(**settings)  # checks the values
    variants = sorted(f"v-negative={settings['v_negative']:g}" if w.startswith("v-neg") else w for w in set(words))
    return "+".join((name, *variants)), settings


@dataclass(frozen=True)
class ModelSpec:
    """A model, and what it does not say itself.

    `file` is a path, ``zoo:NAME`` for a network that comes with the project, or ``recipe:NAME`` for one that each cell
    trains (`intsnn.models.qat.recipes`). `name` is what reports call it (default: the name of the file without its
    ending); `calibrate` the data that its scales come from, or that a recipe learns (default: the training part of the
    data that it is measured on, and of the data of the recipe).
    """

    file: str
    name: str = ""
    backend: str | None = None
    architecture: str | None = None
    input_scale: str | None = None
    calibrate: str | None = None

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.name or (self.file if self.file.startswith((RECIPE, ZOO)) else Path(self.file).stem)


@dataclass(frozen=True)
class Grid:
    """Axes and settings of a sweep.

    Attributes
    ----------
    models : tuple of ModelSpec
    data : tuple of str
        As `intsnn.datasets.load` takes them.
    methods : tuple of str
        See `parse_method`.
    weights, activations : tuple of int, or None
        Bits, 1 to 8. A model that is quantised already has its own. None: 8 and 4, or those that a recipe ends in.
    t_drive : tuple of int or None
        Driven steps; None: L = 2**activations - 1.
    state_bits : tuple of int or None
        Width of the membranes; None: of each what it provably needs.
    seeds : tuple of int
        Of the choice of calibration samples (0 takes the first ones) and of trainings. A model that is quantised
        already has none.
    samples : int or None
        The first N of the data; None: all.
    detail : int or None
        On how many of them spikes, operations, layers and the accuracy after each step are measured step by step;
        None: all. Answers at rest are of all samples.
    verify, reference : int
        On how many samples all execution paths are compared, and on how many the plain reference (slow) too.
    calibration_samples : int or None
        None: all.
    first_last : int or None
        Other width of the first and last layer.
    epochs : int or None
        At most so many for each stage of a training.
    rounding : str
        Of the weights, see `intsnn.conversion.quantise.quantise_network`.
    bias_correction : bool
    """

    models: tuple[ModelSpec, ...] = ()
    data: tuple[str, ...] = ()
    methods: tuple[str, ...] = METHODS
    weights: tuple[int, ...] | None = None
    activations: tuple[int, ...] | None = None
    t_drive: tuple[int | None, ...] = (None,)
    state_bits: tuple[int | None, ...] = (None,)
    seeds: tuple[int, ...] = (0,)
    samples: int | None = None
    detail: int | None = CURVES
    verify: int = 32
    reference: int = 1
    calibration_samples: int | None = 2000
    first_last: int | None = None
    epochs: int | None = None
    rounding: str = "auto"
    bias_correction: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "methods", tuple(parse_method(m)[0] for m in self.methods))
        for name in ("models", "data", "weights", "activations", "t_drive", "state_bits", "seeds"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _distinct(name, getattr(self, name)))
        for name in ("weights", "activations"):
            _within(name, getattr(self, name) or (), 1, 8)
        _within("t_drive", self.t_drive, 1, 1 << 20, "steps")
        _within("state_bits", self.state_bits, 3, 48)
        _within("seeds", self.seeds, 0, (1 << 63) - 1, "")
        _within("first_last", (self.first_last,), 1, 8)
        _within("epochs", (self.epochs,), 1, 1 << 20, "epochs")
        for name in ("samples", "detail", "calibration_samples"):
            _within(name, (getattr(self, name),), 1, 1 << 40, "samples")
        for name in ("verify", "reference"):
            _within(name, (getattr(self, name),), 0, 1 << 40, "samples")
        if self.rounding not in ROUNDINGS:
            raise FormatError(f"rounding: found {shown(self.rounding)}; choose one of {', '.join(ROUNDINGS)}")
        labels = [source.label for source in self.models]
        for label in labels:
            if labels.count(label) > 1:
                raise FormatError(f"models: two are called {label!r}; give them different names")

    def check(self) -> Grid:
        """Itself, if it has cells at all."""
        for name in ("models", "data", "methods", "weights", "activations", "t_drive", "state_bits", "seeds"):
            if getattr(self, name) == ():
                raise FormatError(f"{name}: none given; a sweep needs at least one")
        return self


def _distinct(name: str, values: Iterable[Any]) -> tuple[Any, ...]:
    """Each value once, in their order."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, list | tuple | dict):
            raise FormatError(f"{name}: found {shown(value)} in the list; single values are needed")
        # 1 is neither True nor 1.0 here: what is no whole number is refused later
        if not any(value == other and type(value) is type(other) for other in found):
            found.append(value)
    return tuple(found)


def _within(name: str, values: Iterable[int | None], low: int, high: int, unit: str = "bits") -> None:
    for value in values:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high):
            raise FormatError(f"{name}: found {shown(value)}; {low} to {high} {unit}".rstrip() + " is possible")


# ---------------------------------------------------------------------------------------------------------------------
# TOML
# ---------------------------------------------------------------------------------------------------------------------

LISTS = ("data", "methods", "weights", "activations", "t_drive", "state_bits", "seeds")
NUMBERS = ("samples", "detail", "verify", "reference", "calibration_samples", "first_last", "epochs")
NOTHING = {"t_drive": "levels", "state_bits": "proven"}  # TOML has no null
ALL = ("samples", "detail", "calibration_samples")  # may be "all"


def read_toml(path: str | os.PathLike[str]) -> Grid:
    """The grid that a TOML file describes (``docs/benchmark.md``); its paths are relative to the file.

    Raises
    ------
    DataNotFoundError
        There is no such file.
    FormatError
        No TOML, a key that is none, or a value that cannot be; the file and the key are named.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise DataNotFoundError(f"there is no file {path}; a sweep is described in TOML") from None
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is no text in UTF-8 (byte {error.start}); a sweep is described in TOML") from None
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of too many digits and deep lists among them
        raise FormatError(f"{path} is no TOML that can be read: {str(error)[:200]}") from None
    try:
        return _grid(values, path.parent)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


def _grid(values: Mapping[str, Any], folder: Path) -> Grid:
    known = {item.name for item in fields(Grid)}
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise FormatError(f"found the key {shown(name)}; the keys are {', '.join(sorted(known))}")
        if name == "models":
            found[name] = tuple(_source(item, folder) for item in _list(name, value))
        elif name in LISTS:
            nothing = NOTHING.get(name)
            found[name] = tuple(None if nothing and item == nothing else item for item in _list(name, value))
        elif name in NUMBERS:
            found[name] = None if name in ALL and value == "all" else value
        elif name != "rounding" and not isinstance(value, bool):
            raise FormatError(f"{name}: found {shown(value)}; true or false is possible")
        else:
            found[name] = value
    for name in ("data", "methods"):
        for item in found.get(name, ()):
            if not isinstance(item, str) or "\0" in item:
                raise FormatError(f"{name}: found {shown(item)}; a text is needed")
    found["data"] = tuple(_data_path(item, folder) for item in found.get("data", ()))
    return Grid(**found)


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise FormatError(f"{name}: found {shown(value)}; a list is needed, also of one")
    return value


def _source(item: Any, folder: Path) -> ModelSpec:
    names = [entry.name for entry in fields(ModelSpec)]
    table = {"file": item} if isinstance(item, str) else item
    if not isinstance(table, dict) or not isinstance(table.get("file"), str):
        raise FormatError(
            f"models: found {shown(item)}; a path or a table with file and, as needed, {', '.join(names[1:])}"
        )
    for name, value in table.items():
        if name not in names or not isinstance(value, str) or "\0" in value:
            raise FormatError(f"models: found {name} = {shown(value)}; texts are possible for {', '.join(names)}")
    named = [name for name in ("file", "architecture") if name in table and not table[name].startswith((RECIPE, ZOO))]
    paths = {name: os.path.join(folder, table[name]) for name in named}
    if "calibrate" in table:
        paths["calibrate"] = _data_path(table["calibrate"], folder)
    return ModelSpec(**(table | paths))


def _data_path(spec: str, folder: Path) -> str:
    """A spec whose file, if it names one, is found from `folder`."""
    name = spec.split(":")[0]
    return os.path.join(folder, spec) if name.endswith((".npz", ".h5", ".hdf5")) else spec


# ---------------------------------------------------------------------------------------------------------------------
# cells
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One point of the grid: what is asked, with digests of the files that it is asked of.

    `model` and `data` are names for people; what counts are the digests. `settings` holds everything else that can
    change a result.
    """

    model: str
    data: str
    method: str
    weight_bits: int
    activation_bits: int
    t_drive: int | None
    state_bits: int | None
    seed: int
    samples: int
    model_sha256: str
    data_sha256: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> str:
        """SHA-256 of what is asked, whoever answers."""
        values = asdict(self) | {"settings": dict(self.settings)}
        del values["model"], values["data"]
        return digest(values)

    def key(self, source: str) -> str:
        """SHA-256 of what is asked and of the source that answers: a cell is computed once for each."""
        return digest({"spec": self.spec, "source": source})

    @property
    def work(self) -> Cell:
        """The cell without its method: cells that agree in it share quantisation and the integer ANN."""
        return replace(self, method="")

    @property
    def cost(self) -> int:
        """Steps times samples: what the time grows with."""
        return ((self.t_drive or (1 << self.activation_bits) - 1) + 1) * self.samples

    def __str__(self) -> str:
        state = "" if self.state_bits is None else f" v{self.state_bits}"
        return f"{self.model} {self.data} {self.method} w{self.weight_bits} a{self.activation_bits}{state}"


def digest(values: Mapping[str, Any] | Sequence[Any]) -> str:
    """SHA-256 of JSON values in their one spelling."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
