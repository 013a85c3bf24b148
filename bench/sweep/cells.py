"""From a grid to numbers: which cells there are, the networks of a cell, and its row.

Everything that floats is done here, in one process: models are read, calibrated, quantised and converted. What is left
for the workers is integers, so the machine they run on changes no bit.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np

from ...analysis.scores import aim_of, check_labels, near_chance
from ...conversion.pipeline import accuracy, check_fit, input_format
from ...conversion.quantise import Calibration, calibrate, quantise_network
from ...conversion.spikes import NeuronRule, convert
from ...datasets import catalogue as datasets
from ...datasets.catalogue import Dataset
from ...datasets.overlap import check_overlap
from ...datasets.splitmix import shuffled
from ...engine.ann import equality_conditions
from ...engine.result import Result, decide, places
from ...errors import ConversionError, FormatError, ShapeError, UnsupportedError
from ...network.floating import FloatNetwork, forward
from ...network.quantised import InputScale, QuantisedNetwork
from ...network.spiking import Network
from ..provenance import source_digest, versions
from .grid import Cell, Grid, parse_method
from .sources import Model, data_digest, read_data, read_model, training_part
from .tallies import Tally, splits_alike, synops
from .trained import Training, planned

__all__ = ["Cells", "pack", "row", "unpack"]


NO_ACCURACY = "no accuracy, for its outputs are no classes; intsnn convert and run give their error"


class Cells:
    """Models, data and what was made of them for one grid.

    Parameters
    ----------
    grid : Grid
    trust : bool
        Read model files in this process instead of a limited child process.

    Raises
    ------
    FormatError
        A grid without cells, data or methods that are none.
    ConversionError, DataNotFoundError, ImportRefused, RangeError, ShapeError
        A model, recipe or data set that cannot be had, or that do not fit; labels beyond the outputs; training or
        calibration data that are also tested on.

    Attributes
    ----------
    notes : list of str
        What the figures have to be read with: assumed input scales, float accuracies near chance.
    """

    def __init__(self, grid: Grid, *, trust: bool = False) -> None:
        self.grid, self.trust = grid.check(), trust
        self.models = {source.label: read_model(source, trust) for source in grid.models}
        self.data = {spec: read_data(spec, grid.samples) for spec in grid.data}
        self.digests = {spec: data_digest(data) for spec, data in self.data.items()}
        self._training: dict[str, Dataset] = {}
        self._training_digests: dict[str, str] = {}
        self._contents: dict[str, list[bytes]] = {}  # digests of samples, by the name of the data
        self._no_classes: set[tuple[str, str]] = set()  # model and spec whose labels are not what comes out
        self.notes: list[str] = []
        self.specs = {data.name: spec for spec, data in self.data.items()}

    def all(self) -> list[Cell]:
        """All cells of the grid, those that share work beside each other."""
        return list(self._cells())

    def _cells(self) -> Iterator[Cell]:
        grid = self.grid
        for label, model in self.models.items():
            weights, activations = model.widths(grid)
            for spec, data in self.data.items():
                self._check_fit(model, spec)
                settings = self._settings(model, spec)
                # a seed has its own calibration, and activations their own means: those change least often
                axes = (model.seeds(grid), activations, weights, grid.state_bits, grid.t_drive, model.methods(grid))
                for seed, activation_bits, weight_bits, state_bits, t_drive, method in itertools.product(*axes):
                    yield Cell(
                        label, data.name, method, weight_bits, activation_bits, t_drive, state_bits, seed, len(data),
                        model.sha256, self.digests[spec], settings,
                    )  # fmt: skip

    def _check_fit(self, model: Model, spec: str) -> None:
        """Refuse data whose samples do not have the size of the input; a network to be trained takes its own."""
        data = self.data[spec]
        if model.recipe is None:
            read = cast("Network | QuantisedNetwork | FloatNetwork", model.network)  # no recipe, as said above
            network = read.graph if isinstance(read, QuantisedNetwork) else read
            check_fit(network, data)
            if isinstance(network, Network):
                (outputs, pixels), start = places(network), network.shapes[network.input_name]
            else:
                found, start = network.shapes[network.output], network.input_shape
                outputs, pixels = int(found[0]), int(np.prod(found[1:]))
            aim = aim_of(data, outputs, pixels, int(np.prod(start)))
            if aim.kind != "classes":
                self._no_classes.add((model.source.label, spec))
            if aim.note:
                self._note(f"{model.source.label} on {data.name}: {aim.note if aim.decision else NO_ACCURACY}")
            if isinstance(read, FloatNetwork):
                self._check_unseen(model, spec)
            return
        own, _ = self._training_of(model, spec)
        if data.labels is not None and own.classes:
            check_labels(data.labels, len(own.classes), data.name)
        self._check_unseen(model, spec)
        if own.images.shape[1:] != data.images.shape[1:] or own.maximum != data.maximum:
            raise ShapeError(
                f"data {data.name}: its samples are {data.images.shape[1:]} up to {data.maximum}, those of {own.name}, "
                f"which {model.source.label} learns, {own.images.shape[1:]} up to {own.maximum}; use data like that"
            )

    def _check_unseen(self, model: Model, spec: str) -> None:
        """Refuse to test on what is learned, or calibrated with."""
        own, data = self._training_of(model, spec)[0], self.data[spec]
        for each in (own, data):
            if each.name not in self._contents:
                self._contents[each.name] = each.digests()
        advice = f"calibrate {model.source.label} with other data, such as the training part"
        check_overlap(self._contents[own.name], self._contents[data.name], (own.name, data.name), False, advice)
        if own.assumed and not model.source.input_scale and isinstance(model.network, FloatNetwork):
            self._note(f"{model.source.label}: input scale {InputScale(own.scale)} assumed; {own.assumed}")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _settings(self, model: Model, spec: str) -> dict[str, Any]:
        """Everything else that can change a result."""
        grid = self.grid
        found: dict[str, Any] = {"detail": grid.detail, "verify": grid.verify, "reference": grid.reference}
        if isinstance(model.network, FloatNetwork):
            found |= {
                "first_last": grid.first_last,
                "rounding": grid.rounding,
                "bias_correction": grid.bias_correction,
                "input_scale": model.source.input_scale,
                "calibration": self._training_of(model, spec)[1],
                "calibration_samples": grid.calibration_samples,
            }
        elif model.recipe is not None:
            found |= {
                "first_last": grid.first_last,
                "epochs": grid.epochs,
                "training": self._training_of(model, spec)[1],
            }
        return found

    def _training_of(self, model: Model, spec: str) -> tuple[Dataset, str]:
        """What a model is calibrated with, or learns, and its digest."""
        recipe = model.recipe
        name = model.source.calibrate or (f"{recipe.data}:train" if recipe is not None else training_part(spec))
        if name not in self._training:
            self._training[name] = datasets.load(name, "train")
            self._training_digests[name] = data_digest(self._training[name])
        return self._training[name], self._training_digests[name]

    # -- networks --------------------------------------------------------------------------------

    def _calibration(self, model: Model, spec: str, seed: int) -> tuple[Calibration, Any]:
        data, _ = self._training_of(model, spec)
        check_fit(cast(FloatNetwork, model.network), data)  # others are calibrated already
        text = model.source.input_scale
        scale = model.input_scale(text, data)
        count = min(self.grid.calibration_samples or len(data), len(data))
        key = (data.name, count, seed, str(scale))
        if key not in model.calibrations:
            chosen = np.sort(shuffled(len(data), seed)[:count]) if seed else slice(count)
            model.calibrations = {key: calibrate(model.folded, data.images[chosen], scale)}  # the latest only
        return model.calibrations[key], input_format(data)

    def training(self, work: Cell, folder: str) -> Training | None:
        """What has to be trained for a cell, and is kept in `folder`; the same for cells that can share it."""
        model, spec = self.models[work.model], self.specs[work.data]
        if model.recipe is None:
            return None
        data, sha256 = self._training_of(model, spec)
        recipe = planned(
            model.recipe, weight_bits=work.weight_bits, activation_bits=work.activation_bits, seed=work.seed,
            epochs=self.grid.epochs, first_last=self.grid.first_last,
        )  # fmt: skip
        return Training(recipe, data, sha256, folder)

    def networks(
        self, work: Cell, methods: list[str], training: Training | None = None
    ) -> dict[str, Network | Exception]:
        """The network of each method, or why there is none; quantised once for all of them.

        `training` is what was trained for this cell, if it is one that trains.
        """
        model, spec = self.models[work.model], self.specs[work.data]
        if isinstance(model.network, Network):
            if work.state_bits is not None or work.t_drive is not None:
                reason = f"{work.model} is a spiking network and is run as it is; leave out state_bits and t_drive"
                return dict.fromkeys(methods, FormatError(reason))
            if not splits_alike(model.network):
                reason = f"{work.model} rounds at random by the number of the sample; a sweep splits samples"
                return dict.fromkeys(methods, UnsupportedError(reason))
            return dict.fromkeys(methods, model.network)
        found: dict[str, Network | Exception] = {}
        try:
            quantised: Any = training.network(trust=self.trust) if training is not None else model.network
            if isinstance(quantised, FloatNetwork):
                calibration, fmt = self._calibration(model, spec, work.seed)
                quantised = quantise_network(
                    model.folded, calibration, weight_bits=work.weight_bits, activation_bits=work.activation_bits,
                    input_format=fmt, first_last_bits=self.grid.first_last, bias_correction=self.grid.bias_correction,
                    rounding=self.grid.rounding,
                ).network  # fmt: skip
        except (ConversionError, UnsupportedError) as error:
            return dict.fromkeys(methods, error)
        for method in methods:
            rule = NeuronRule(**parse_method(method)[1], t_drive=work.t_drive, state_bits=work.state_bits)
            try:
                found[method] = convert(quantised, rule).network
            except (ConversionError, UnsupportedError) as error:
                found[method] = error
        return found

    def float_accuracy(self, work: Cell) -> float | None:
        """Per cent of the float network on the samples of the cell, or None."""
        model, spec = self.models[work.model], self.specs[work.data]
        data = self.data[spec]
        if not isinstance(model.network, FloatNetwork) or self.samples(work).labels is None:
            return None
        key = (data.name,)
        if key not in model.accuracies:
            scale = model.input_scale(model.source.input_scale, self._training_of(model, spec)[0])
            outputs, labels = forward(model.plain, scale.apply(data.images)), cast(np.ndarray, data.labels)
            found = model.accuracies[key] = accuracy(decide(outputs), labels)
            if why := near_chance(found, labels, outputs.shape[1]):
                label = model.source.label
                self._note(
                    f"warning: {label} has {found:.2f} % in floats on {data.name}, and {why}; input scale {scale}"
                )
        return model.accuracies[key]

    def samples(self, work: Cell) -> Dataset:
        """The data of a cell, without labels where they are not what its outputs stand for."""
        spec = self.specs[work.data]
        data = self.data[spec]
        return dataclasses.replace(data, labels=None) if (work.model, spec) in self._no_classes else data


def pack(network: Network) -> tuple:
    """What another process needs to build `network` again."""
    return dict(network.nodes), network.edges, network.t_drive, network.levels, dict(network.metadata)


def unpack(parts: tuple) -> Network:
    """The network that `pack` took apart."""
    return Network(*parts)


# ---------------------------------------------------------------------------------------------------------------------
# rows
# ---------------------------------------------------------------------------------------------------------------------


def row(
    cell: Cell,
    network: Network | Exception,
    tally: Tally | None = None,
    check: dict[str, Any] | None = None,
    *,
    labelled: bool = True,
    float_accuracy: float | None = None,
    seconds: float = 0.0,
    peak: int | None = None,
    same_as: str | None = None,
    training: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The row of a finished cell (``docs/benchmark.md`` explains the columns), or of one that has no network."""
    found: dict[str, Any] = {
        "key": cell.key(source_digest()), "model": cell.model, "data": cell.data, "method": cell.method,
        "weight_bits": cell.weight_bits, "activation_bits": cell.activation_bits, "t_drive": cell.t_drive,
        "state_bits": cell.state_bits, "seed": cell.seed, "samples": cell.samples, "same_as": same_as,
        "settings": dict(cell.settings), "training": training,
        "model_sha256": cell.model_sha256, "data_sha256": cell.data_sha256,
        "versions": versions(), "source_sha256": source_digest(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"), "error": None, "layers": [],
    }  # fmt: skip
    if found["t_drive"] is None:
        found["t_drive"] = (1 << cell.activation_bits) - 1 if cell.activation_bits else None
    found |= dict.fromkeys(MEASURED)
    if isinstance(network, Exception):
        return found | {"error": f"{type(network).__name__}: {network}", "float_accuracy": float_accuracy}
    assert tally is not None and check is not None
    found["t_drive"] = network.t_drive
    return found | _measured(network, tally, check, labelled) | {
        "float_accuracy": float_accuracy, "seconds": seconds, "peak_rss_bytes": peak,
    }  # fmt: skip


MEASURED = (
    "accuracy", "accuracy_drive", "ann_accuracy", "float_accuracy", "agreement", "accuracy_by_step", "detail_samples",
    "latency_mean", "latency_max", "extra_steps_max", "decision_mean", "settled", "spikes", "synops", "saturations",
    "compared", "ann_mismatches", "mismatches", "equality_due", "reasons", "by_theorem", "verified_samples",
    "reference_samples", "paths", "seconds", "peak_rss_bytes", "formula_bits", "measured_bytes", "weight_formula_bits",
    "weight_measured_bytes",
)  # fmt: skip


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole


def _measured(network: Network, tally: Tally, check: dict[str, Any], labelled: bool) -> dict[str, Any]:
    n, detailed = tally.samples, tally.detailed
    overflows = tally.overflows + check["overflows"]
    reasons = equality_conditions(network)
    if overflows:
        reasons.append(f"{overflows} overflows were seen")
    if network.levels is None or tally.unsettled:
        reasons.append("not every sample came to rest")
    unequal = max(tally.differ, check["ann_mismatches"])
    neurons = [tally.layers[name] for name in network.neurons] if tally.layers else []
    operations = synops(network, tally.maps) if tally.maps else {}
    extra = tally.extra_max
    drive = network.t_drive or 0
    found: dict[str, Any] = {
        "accuracy": _percent(tally.correct, n) if labelled else None,
        "ann_accuracy": _percent(tally.ann_correct, tally.ann_samples) if labelled and tally.ann_samples else None,
        "agreement": _percent(tally.agree, tally.ann_samples) if tally.ann_samples else None,
        "detail_samples": detailed,
        "extra_steps_max": extra,
        "settled": tally.unsettled == 0 if network.levels is not None else None,
        "compared": tally.compared + check["compared"],
        "ann_mismatches": unequal if tally.ann_samples else None,
        "mismatches": check["path_mismatches"] + (0 if reasons else unequal),
        "equality_due": not reasons,
        "reasons": reasons,
        "by_theorem": tally.by_theorem,
        "verified_samples": check["samples"],
        "reference_samples": check["reference_samples"],
        "paths": check["paths"],
    }
    if detailed:
        curve = labelled and len(tally.correct_by_step) > 0
        found |= {
            "accuracy_drive": _percent(tally.correct_drive, detailed) if curve else None,
            "accuracy_by_step": [_percent(int(c), detailed) for c in tally.correct_by_step] if curve else None,
            "latency_mean": tally.last_sum / detailed,
            "latency_max": drive + extra if extra else tally.last_max,
            "decision_mean": tally.decided_sum / detailed if tally.decided_sum else None,
            "spikes": sum(layer.spikes for layer in neurons) / detailed,
            "synops": sum(operations.values()) / detailed,
            "saturations": sum(layer.saturations for layer in neurons),
        }
    found |= _memory(network, tally, operations)
    return found


def _memory(network: Network, tally: Tally, operations: dict[str, int]) -> dict[str, Any]:
    """Bytes and widths, and the layers."""
    from ...analysis.memory.report import cell as memory_of

    outputs = np.array([[tally.output_low, tally.output_high]], np.int64)
    seen = None
    if tally.layers:
        none = np.zeros(0, np.int64)
        steps = (network.t_drive or 1) + tally.extra_max
        seen = Result(network, outputs, steps=steps, extra_steps=none, settled=None, layers=tally.layers)
    found = memory_of(network, seen)
    layers = []
    for name in network.order:
        layer, sizes = network.nodes[name], dict(found["layers"].get(name, {}))
        if not sizes.get("memory") and not (layer.fires or layer.weighted):
            continue
        entry: dict[str, Any] = {
            "name": name, "kind": type(layer).__name__, "neurons": None, "spike_rate": None, "spikes": None,
            "synops": None, "dead": None, "saturations": None, "v_min": None, "v_max": None, "v_bits": None,
            "bound_bits": None, "peak_bits": None,
        }  # fmt: skip
        entry |= {key: value for key, value in sizes.items() if key != "layer"}
        if name in operations and tally.detailed:
            entry["synops"] = operations[name] / tally.detailed
        if layer.fires:
            report = tally.layers.get(name)
            entry["neurons"] = int(np.prod(network.shapes[name]))
            if report is not None and tally.detailed:
                per_sample = report.spikes / tally.detailed
                entry |= {
                    "spikes": per_sample,
                    "spike_rate": per_sample / (entry["neurons"] * network.t_drive) if network.t_drive else None,
                    "dead": int((tally.maps[name] == 0).sum()),
                    "saturations": report.saturations,
                }
        layers.append(entry)
    totals = {name: value for name, value in found.items() if name != "layers"}
    return {**totals, "layers": layers}
