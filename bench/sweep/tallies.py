"""What does a network do on some samples, as sums that add up over any split of them?

A `Tally` holds whole numbers only, so batches may be measured anywhere and in any order: their sum is always the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from ...analysis.scores import check_labels
from ...engine.ann import AnnResult, prepare_ann
from ...engine.backends.fused.runner import prepare
from ...engine.result import LayerReport, Result, decide, places
from ...engine.settled import unproven
from ...engine.simulation import simulate
from ...errors import MismatchError, UnsupportedError
from ...network.spiking import Network

__all__ = ["Tally", "ann_view", "measure", "spike_view", "splits_alike", "synops"]

RECORD_BYTES = 48 << 20  # spikes of all steps that are held at a time
ANN_SAMPLES = 256  # whose levels are held at a time
NONE = np.zeros(0, np.int64)  # spikes of a layer that has none of its own


@dataclass
class Tally:
    """Sums over samples.

    Attributes
    ----------
    samples, correct : int
        All samples; those that the settled network gets right (0 without labels).
    ann_samples, ann_correct, agree : int
        Samples with an integer ANN; what it gets right; predictions that are the same.
    compared, differ : int
        Integers compared with the integer ANN (all levels and outputs in detail, else outputs), and unequal ones.
    by_theorem : int
        Samples whose settled answers are those of the integer ANN by the equality theorem, without steps.
    unsettled, extra_max : int
        Samples not at rest at the bound; most steps beyond the drive.
    detailed : int
        Samples of which the rest is known.
    correct_by_step : int64 array (T,)
        Right after each step; the last entry holds from there on.
    correct_drive : int
        Right when the drive ends.
    last_sum, last_max : int
        Step of the last spike (1 is the first), sum and largest.
    decided_sum : int
        Step from which on the prediction stays, sum.
    output_low, output_high : int
    layers : dict of name to LayerReport
        `dead` and `always_on` are not filled.
    maps : dict of name to int64 array of the shape of the layer
        Spikes of either sign by neuron.
    """

    samples: int = 0
    correct: int = 0
    ann_samples: int = 0
    ann_correct: int = 0
    agree: int = 0
    compared: int = 0
    differ: int = 0
    by_theorem: int = 0
    unsettled: int = 0
    extra_max: int = 0
    detailed: int = 0
    correct_by_step: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    correct_drive: int = 0
    last_sum: int = 0
    last_max: int = 0
    decided_sum: int = 0
    output_low: int = 0
    output_high: int = 0
    layers: dict[str, LayerReport] = field(default_factory=dict)
    maps: dict[str, np.ndarray] = field(default_factory=dict)

    def __add__(self, other: Tally) -> Tally:
        found = Tally(layers=_added(self.layers, other.layers, _both), maps=_added(self.maps, other.maps, np.add))
        for item in fields(Tally):
            a, b = getattr(self, item.name), getattr(other, item.name)
            if item.name == "correct_by_step":
                found.correct_by_step = _held(a, len(b)) + _held(b, len(a))
            elif item.name in ("extra_max", "last_max", "output_high"):
                setattr(found, item.name, max(a, b))
            elif item.name == "output_low":
                found.output_low = min(a, b)
            elif isinstance(a, int):
                setattr(found, item.name, a + b)
        return found

    @property
    def overflows(self) -> int:
        """Of all layers together."""
        return sum(layer.overflows for layer in self.layers.values())


def _held(values: np.ndarray, length: int) -> np.ndarray:
    """`values` of at least `length` entries, the last one going on."""
    missing = max(0, length - len(values))
    return np.concatenate([values, np.full(missing, values[-1] if len(values) else 0, np.int64)])


def _added(a: dict, b: dict, both) -> dict:
    return {name: both(a[name], b[name]) if name in a and name in b else a.get(name, b.get(name)) for name in a | b}


def _both(a: LayerReport, b: LayerReport) -> LayerReport:
    return LayerReport.of_parts(a.name, a.neurons, [vars(a), vars(b)])


# ---------------------------------------------------------------------------------------------------------------------
# measuring
# ---------------------------------------------------------------------------------------------------------------------


def measure(networks: list[Network], same_ann: list[int], images, labels, detail: bool) -> list[Tally]:
    """Run each of `networks` on the samples.

    Parameters
    ----------
    networks : list of Network
    same_ann : list of int
        Of each network, the first one whose integer ANN is the same.
    images : (B, *shape) integers
    labels : (B,) integers or None
    detail : bool
        Also what only a record of every spike tells.

    Raises
    ------
    MismatchError
        If two ways to count the same do not agree.
    UnsupportedError
        If every pixel has a label: a sweep counts samples.
    ShapeError, RangeError
        Labels that the outputs of a network cannot stand for.
    """
    if labels is not None and labels.ndim != 1:
        raise UnsupportedError(f"a sweep takes one label a sample, found {labels.shape}; intsnn run takes pixels")
    for network in networks if labels is not None else []:
        check_labels(labels, places(network)[0], "of a sweep")
    found = [Tally() for _ in networks]
    runners: dict[int, Any] = {}
    anns: dict[int, Any] = {}
    proven = [_proven(network, images) for network in networks]
    for start in range(0, len(images), ANN_SAMPLES):
        part = slice(start, start + ANN_SAMPLES)
        x, y = images[part], None if labels is None else labels[part]
        levels: dict[int, AnnResult | None] = {}
        for i, network in enumerate(networks):
            first = same_ann[i]
            if first not in levels:
                levels[first] = _ann(networks[first], x, anns, first, detail)
            ann = levels[first]
            if detail:
                found[i] += _detailed(network, x, y, ann)
            elif proven[i] and ann is not None:  # the theorem: at rest it answers what its ANN does
                nothing = np.zeros(len(x), np.int64)
                found[i] += _answers(x, y, ann, None, ann.predictions, nothing, True)
            else:
                found[i] += _plain(network, x, y, ann, runners, i)
    return found


def _ann(network: Network, images, prepared: dict[int, Any], i: int, levels: bool) -> AnnResult | None:
    """The integer ANN on the samples, or None where there is none."""
    try:
        if i not in prepared:
            prepared[i] = prepare_ann(network, levels=levels)
        return prepared[i](images)
    except UnsupportedError:
        return None


def _proven(network: Network, images) -> bool:
    """Whether every answer at rest is that of the integer ANN, whatever comes in."""
    return bool(len(images)) and _settles(network) and not unproven(network, images[:1])


def _settles(network: Network) -> bool:
    return network.levels is not None


def _plain(network: Network, x, y, ann: AnnResult | None, runners: dict, i: int) -> Tally:
    """Outputs only, by the fused path where there is one."""
    if i not in runners:
        runners[i] = prepare(network, settle=_settles(network))
    outcome = None
    if runners[i] is not None:
        try:
            outcome = runners[i](x)
        except UnsupportedError:
            runners[i] = None
    if outcome is None:
        outcome = simulate(network, x, settle=_settles(network), reports=False)
    return _answers(x, y, ann, outcome.outputs, outcome.predictions, outcome.extra_steps, outcome.settled)


def _answers(x, y, ann: AnnResult | None, outputs, predictions, extra, settled) -> Tally:
    """Sums of the answers; `outputs` None: they are those of the ANN, and there is nothing to compare."""
    found = Tally(samples=len(x), extra_max=int(extra.max(initial=0)), unsettled=0 if settled is not False else len(x))
    if y is not None:
        found.correct = int((predictions == y).sum())
    if ann is not None:
        found.ann_samples = len(x)
        found.agree = int((predictions == ann.predictions).sum())
        if outputs is None:
            found.by_theorem = len(x)
        else:
            found.compared, found.differ = outputs.size, int((outputs != ann.outputs).sum())
        if y is not None:
            found.ann_correct = int((ann.predictions == y).sum())
    return found


def _detailed(network: Network, x, y, ann: AnnResult | None) -> Tally:
    """Blocks of samples whose spikes of all steps are held."""
    steps = (network.t_drive or 16) + 4
    size = steps * sum(int(np.prod(network.shapes[name])) for name in network.spiking)
    block = max(1, RECORD_BYTES // max(1, size))
    found = Tally()
    for start in range(0, len(x), block):
        part = slice(start, start + block)
        found += _block(network, x[part], None if y is None else y[part], ann, part)
    return found


def _block(network: Network, x, y, ann: AnnResult | None, part: slice) -> Tally:
    output = network.nodes[network.output_name]
    source = network.output_name if output.spikes else network.inputs_of(network.output_name)[0]
    sums = source not in network.spiking
    wanted = [f"{name}.spikes" for name in network.spiking]
    if sums:
        wanted.append(f"{source}.current")
    result = simulate(network, x, settle=_settles(network), keep_final=True, record=wanted)
    here = None
    if ann is not None:
        here = AnnResult(network, ann.outputs[part], {name: n[part] for name, n in ann.levels.items()})
    found = _answers(x, y, here, result.outputs, result.predictions, result.extra_steps, result.settled)
    if here is not None:
        for name, levels in here.levels.items():
            found.compared += levels.size
            found.differ += int((levels != result.final[f"{name}.counts"]).sum())
    found.detailed, found.layers = len(x), result.layers
    found.output_low, found.output_high = int(result.outputs.min(initial=0)), int(result.outputs.max(initial=0))
    last = np.zeros(len(x), np.int64)
    for name in network.spiking:
        record = result.records[f"{name}.spikes"]  # (T, B, *shape)
        found.maps[name] = np.abs(record).sum(axis=(0, 1), dtype=np.int64)
        active: np.ndarray = record.view(np.bool_) if record.dtype == np.int8 else np.not_equal(record, 0)
        active = np.asarray(active.reshape(*record.shape[:2], -1).any(axis=2))
        last = np.maximum(last, np.where(active.any(axis=0), len(active) - np.argmax(active[::-1], axis=0), 0))
    for name in network.neurons:
        if int(found.maps[name].sum()) != result.layers[name].spikes:
            raise MismatchError(f"{name}: the record holds {int(found.maps[name].sum())} spikes, counted were others")
    found.last_sum, found.last_max = int(last.sum()), int(last.max(initial=0))
    if output.keeps_total:
        _by_step(found, network, result, f"{source}.{'current' if sums else 'spikes'}", y)
    return found


def _by_step(found: Tally, network: Network, result: Result, key: str, y) -> None:
    """Predictions after each step, from what went into the readout."""
    totals = result.records[key].astype(np.int64)
    totals = np.cumsum(totals.reshape(*totals.shape[:2], -1), axis=0)
    if not np.array_equal(totals[-1], result.outputs):
        raise MismatchError(f"{key}: what went into the readout does not add up to its outputs")
    guesses = decide(totals, axis=2)  # (T, B)
    wrong = guesses != guesses[-1]
    found.decided_sum = int(np.where(wrong.any(axis=0), len(wrong) - np.argmax(wrong[::-1], axis=0) + 1, 1).sum())
    if y is not None:
        found.correct_by_step = (guesses == y).sum(axis=1, dtype=np.int64)
        drive = min(len(guesses), network.t_drive or len(guesses))
        found.correct_drive = int(found.correct_by_step[drive - 1])


# ---------------------------------------------------------------------------------------------------------------------
# synaptic operations
# ---------------------------------------------------------------------------------------------------------------------


def synops(network: Network, maps: dict[str, np.ndarray]) -> dict[str, int]:
    """Additions that spikes cause, by connection.

    `maps` are spikes by neuron; one that reaches n weights of the next layer causes n additions. Products of the input
    are none. Pools and joins in between pass every spike on.
    """
    arriving: dict[str, np.ndarray] = {}  # by layer, how many spikes reach each place of its output
    found = {}
    for name in network.order:
        layer, shape = network.nodes[name], network.shapes[name]
        sources = [arriving[source] for source in network.inputs_of(name) if source in arriving]
        if layer.weighted:
            if sources:
                found[name] = int((sources[0] * layer.fan_out(sources[0].shape, shape)).sum())
        elif layer.spikes or sources and not layer.answers:
            passed = layer.spread(maps.get(name, NONE), sources, shape)
            if passed is None:
                raise UnsupportedError(f"{name}: a {type(layer).__name__} does not say where spikes go (spread)")
            arriving[name] = passed
    return found


# ---------------------------------------------------------------------------------------------------------------------
# networks that do the same
# ---------------------------------------------------------------------------------------------------------------------

SHOWN = ("preset",)  # of a neuron: a name, no number
ANN_IGNORES = (
    "preset", "reset_delay", "signed", "v_negative", "max_count", "v_format", "v_overflow", "bias_mode", "compare",
)  # fmt: skip


def spike_view(network: Network) -> tuple:
    """All that decides the spikes of `network`, comparable: equal views, equal spikes and equal membranes before reset.

    The name of a preset is no number. A reset by subtraction that comes a step later, before anything else happens in
    that step, leaves the same membrane for the compare, unless something else acts in between.
    """
    parts = []
    for name in network.order:
        layer = network.nodes[name]
        ignored: tuple[str, ...] = SHOWN
        if layer.fires and not layer.leaks and layer.reset == "subtract" and layer.max_spikes_per_step == 1:
            ignored = (*SHOWN, "reset_delay")
        parts.append((name, _values(layer, ignored)))
    return (*parts, network.edges, network.t_drive, network.levels)


def ann_view(network: Network) -> tuple:
    """All that decides the integer ANN of `network`, comparable."""
    parts = [(name, _values(network.nodes[name], ANN_IGNORES)) for name in network.order]
    tops = tuple(network.nodes[name].max_count or network.levels for name in network.neurons)
    return (*parts, tops, network.edges, network.t_drive, network.levels)


def _values(layer, ignored: tuple[str, ...]) -> tuple:
    found: list[Any] = [type(layer).__name__]
    for item in fields(layer):
        if item.name in ignored:
            continue
        value = getattr(layer, item.name)
        if isinstance(value, np.ndarray):
            value = (value.dtype.str, value.shape, value.tobytes())
        found.append((item.name, value))
    return tuple(found)


def splits_alike(network: Network) -> bool:
    """Whether every sample gives the same alone as among others: no random bits are keyed by its number."""
    return not any(layer.draws for layer in network.nodes.values())
