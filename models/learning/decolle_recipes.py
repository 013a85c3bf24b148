"""Recipes of integer learning: network, rule, data and budget, by name or from a TOML file. Nothing runs here."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from ...errors import DataNotFoundError, FormatError, IntsnnError
from ...formats.arguments import whole_or_none
from ...learning.rule import Conv, Dense, Rule, Schedule, Widths

__all__ = ["RECIPES", "Recipe", "read_recipe", "recipe", "recipe_from_json", "with_widths"]

CODINGS = ("events", "rate")
WINDOWS = ("start", "random")


@dataclass(frozen=True)
class Recipe:
    """One training with integers only.

    Parameters
    ----------
    name, note : str
    data, test : str
        Training and test data: recordings or generated events by the names of `intsnn.datasets.events`, or images
        by those of `intsnn.datasets.catalogue`.
    layers : tuple of Conv or Dense
    rule : Rule
    schedule : Schedule
        Of the learning rate, by epochs.
    coding : {"events", "rate"}
        Recordings, or images whose pixels fire at random with a probability proportional to their code.
    steps, test_steps : int
        Time steps of a sequence in training and in tests.
    bin_us : int
        Microseconds of a step.
    divide : int
        Coordinates of events are divided by it.
    start_us : int or None
        Where sequences begin, as `intsnn.datasets.framing.frames` takes it: None at the first event of a recording.
    window : {"start", "random"}
        Training sequences begin there, or at random from there on; those of a test always there.
    peak : int
        Of rate coding: the brightest pixel fires with probability `peak` / 256 in a step.
    batch, test_batch, epochs : int
    tests_every : int or None
        Test after every so many epochs too, not only at the end.
    seed : int

    Raises
    ------
    FormatError
        A value that cannot be.
    """

    name: str
    note: str
    data: str
    test: str
    layers: tuple
    rule: Rule = field(default_factory=Rule.corrected)
    schedule: Schedule = field(default_factory=Schedule)
    coding: str = "events"
    steps: int = 60
    test_steps: int = 60
    bin_us: int = 5000
    divide: int = 1
    start_us: int | None = None
    window: str = "start"
    peak: int = 128
    batch: int = 25
    test_batch: int = 50
    epochs: int = 10
    tests_every: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        for name, allowed in (("coding", CODINGS), ("window", WINDOWS)):
            if getattr(self, name) not in allowed:
                raise FormatError(f"recipe {self.name!r}: {name} is {getattr(self, name)!r}; {allowed} are possible")
        for name, top in (
            ("steps", 1 << 30), ("test_steps", 1 << 30), ("bin_us", 1 << 30), ("divide", 1 << 10), ("peak", 256),
            ("batch", 1 << 20), ("test_batch", 1 << 20), ("epochs", 1 << 30), ("tests_every", 1 << 30),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is None and name == "tests_every":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= top:
                raise FormatError(f"recipe {self.name!r}: {name} is {value!r}; 1 to {top} is possible")
        whole_or_none(self.start_us, f"recipe {self.name!r}: start_us", -(1 << 61), 1 << 61)
        if not isinstance(self.seed, int) or not 0 <= self.seed < 1 << 62:
            raise FormatError(f"recipe {self.name!r}: seed is {self.seed!r}; 0 to 2**62 - 1 is possible")
        if self.rule.burn_in >= min(self.steps, self.test_steps):
            raise FormatError(
                f"recipe {self.name!r}: a burn-in of {self.rule.burn_in} steps leaves nothing of sequences of "
                f"{min(self.steps, self.test_steps)} steps"
            )

    def to_json(self) -> dict[str, Any]:
        """Every field as a plain value."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        found["layers"] = [{"kind": type(layer).__name__, **asdict(layer)} for layer in self.layers]
        found["rule"], found["schedule"] = self.rule.to_json(), asdict(self.schedule)
        return found


def _small(**changes) -> Rule:
    """The corrected rule for short sequences: shorter burn-in and time constants, weights that reach further."""
    settings: dict[str, Any] = {
        "tau_membrane": (5, 8), "tau_synapse": (3, 4), "weight_scale": "0.04", "burn_in": 8,
    }  # fmt: skip
    return Rule.corrected(**settings | changes)


SMALL: dict[str, Any] = {
    "layers": (Conv(16, 5, 2, pool=2), Conv(64, 5, 2)), "rule": _small(), "schedule": Schedule(-3, 2),
    "divide": 2, "bin_us": 7500, "steps": 40, "test_steps": 40, "epochs": 8,
}  # fmt: skip

_ALL = (
    Recipe(
        name="decolle-dvsgesture",
        note="network, widths, rule and budget of Schaefer & Joshi (2020), oddities included",
        data="dvs-gesture:train",
        test="dvs-gesture:test",
        layers=(Conv(64, 7, 2, pool=2), Conv(128, 7, 2), Conv(128, 7, 2, pool=2)),
        rule=Rule.published(),
        schedule=Schedule(every=80),
        steps=500,
        test_steps=1800,
        bin_us=1000,
        divide=4,
        window="random",
        batch=72,
        test_batch=24,
        epochs=320,
    ),
    Recipe(
        name="decolle-nmnist",
        note="recordings of 34x34, halved; published widths",
        data="nmnist:train",
        test="nmnist:test",
        **SMALL,
    ),
    Recipe(
        name="decolle-mnist-saccades",
        note="events made from MNIST by three saccades; published widths",
        data="mnist-saccades:train:2000",
        test="mnist-saccades:test:1000",
        **SMALL,
    ),
    Recipe(
        name="decolle-digits",
        note="embedded 8x8 digits, rate-coded: needs no data folder",
        data="digits:train",
        test="digits:test",
        layers=(Conv(16, 3, 1, pool=2), Dense(256)),
        rule=_small(burn_in=5, tau_membrane=(5, 6), tau_synapse=(2, 3), weight_scale="0.05"),
        schedule=Schedule(-2, 2),
        coding="rate",
        steps=20,
        test_steps=20,
        epochs=6,
    ),
)

RECIPES: Mapping[str, Recipe] = MappingProxyType({each.name: each for each in _ALL})


def recipe_from_json(values: dict[str, Any]) -> Recipe:
    """The recipe that `Recipe.to_json` described.

    Raises
    ------
    FormatError
        A description that is none.
    """
    try:
        layers = []
        for entry in values["layers"]:
            entry = dict(entry)
            layers.append({"Conv": Conv, "Dense": Dense}[entry.pop("kind")](**entry))
        parts = {"layers": tuple(layers), "rule": Rule.from_json(dict(values["rule"]))}
        return Recipe(**{**values, **parts, "schedule": Schedule(**values["schedule"])})
    except (IntsnnError, AttributeError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise FormatError(f"no description of a recipe: {type(error).__name__} {str(error)[:200]}") from None


def recipe(name: str) -> Recipe:
    """The recipe of that name, or of that TOML file.

    Raises
    ------
    DataNotFoundError
        There is no such recipe.
    FormatError
        The file describes none.
    """
    if name in RECIPES:
        return RECIPES[name]
    if name.endswith(".toml"):
        return read_recipe(name)
    raise DataNotFoundError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}, or give a .toml file")


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """A recipe from a TOML file: ``base`` (the name of another) and whatever differs from it.

    Keys are the fields of `Recipe`. ``layers`` is a list of tables, ``{conv = 16, kernel = 5, padding = 2, pool = 2}``
    or ``{dense = 64}``; the tables ``rule`` and ``schedule`` hold fields of `Rule` and `Schedule`, real numbers as
    text. Without ``base``, ``rule.mode`` chooses "published" or "corrected".

    Raises
    ------
    FormatError
        Text that is no TOML, unknown keys, missing or wrong values.
    """
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except FileNotFoundError:
        raise DataNotFoundError(f"there is no recipe file {os.fspath(path)}") from None
    except (ValueError, RecursionError) as error:  # numbers of too many digits and deep lists among them
        raise FormatError(f"{os.fspath(path)} is no TOML that can be read: {str(error)[:200]}") from None
    try:
        return _from_toml(values, os.path.splitext(os.path.basename(os.fspath(path)))[0])
    except IntsnnError as error:
        raise FormatError(f"{os.fspath(path)}: {error}") from None
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:  # a value of another kind
        raise FormatError(f"{os.fspath(path)}: these values make no recipe ({str(error)[:200]})") from None


def _from_toml(values: dict[str, Any], name: str) -> Recipe:
    base = None
    if "base" in values:
        base = RECIPES.get(str(values.pop("base")))
        if base is None:
            raise FormatError(f"base names no recipe; there are {', '.join(RECIPES)}")
    known = {item.name for item in fields(Recipe)}
    if unknown := sorted(set(values) - known):
        raise FormatError(f"a recipe has no {unknown[0]!r}; its keys are base, {', '.join(sorted(known))}")
    for key in ("name", "note", "data", "test"):
        if key in values and (not isinstance(values[key], str) or "\0" in values[key]):
            raise FormatError(f"{key} is {values[key]!r}; a text is needed")
    if "layers" in values:
        values["layers"] = tuple(_layer(entry) for entry in _list(values["layers"]))
    rule = _table(values.pop("rule", {}), "rule")
    mode = rule.pop("mode", None)
    if mode not in (None, "published", "corrected"):
        raise FormatError(f"rule.mode is {mode!r}; 'published' and 'corrected' are possible")
    start = (getattr(Rule, mode)() if mode else base.rule if base else Rule.corrected()).to_json()
    values["rule"] = Rule.from_json({**start, **rule})
    schedule = _table(values.pop("schedule", {}), "schedule")
    try:
        values["schedule"] = replace(base.schedule if base else Schedule(), **schedule)
        if base:
            return replace(base, **{"name": name, **values})
        missing = [key for key in ("data", "test", "layers") if key not in values]
        if missing:
            raise FormatError(f"{missing[0]!r} is missing; give it, or the base to take it from")
        return Recipe(**{"name": name, "note": "", **values})
    except TypeError as error:
        raise FormatError(str(error)) from None


def _list(value) -> list:
    if not isinstance(value, list):
        raise FormatError(f"layers is {value!r}; a list of tables is needed")
    return value


def _table(value, what: str) -> dict:
    if not isinstance(value, dict):
        raise FormatError(f"{what} is {value!r}; a table is needed")
    return dict(value)


def _layer(entry) -> Conv | Dense:
    entry = _table(entry, "a layer")
    try:
        if "conv" in entry:
            return Conv(entry.pop("conv"), **entry)
        return Dense(entry.pop("dense"), **entry)
    except (KeyError, TypeError):
        raise FormatError(
            f"a layer is {entry}; give {{conv = CHANNELS, kernel = SIZE}}, with padding, stride and pool, or "
            "{dense = UNITS}"
        ) from None


def with_widths(chosen: Recipe, text: str) -> Recipe:
    """The recipe with some widths changed, ``"P8 Q8"``."""
    rule = chosen.rule
    return replace(chosen, rule=replace(rule, widths=Widths.parse(text, rule.widths)))
