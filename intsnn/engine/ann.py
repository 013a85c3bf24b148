"""The integer quantised ANN that a converted network stands for, and when both must be equal.

Same weights, thresholds and integers; every neuron becomes
``n = clip(floor((V0 + Q) / theta), 0, L)`` of its total charge Q. `intsnn.verify` compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import UnsupportedError
from ..formats.arguments import STEPS, choice, flag, function_or_none, whole, whole_or_none
from ..network.schedule import schedule
from ..network.spiking import Network, spiking_network
from .backends.count.runner import CountPass
from .backends.stepwise.plan import Plan, Worker
from .inputs import frames_given, sources_of
from .program import Program, lower
from .result import predict, to_api

__all__ = ["AnnResult", "AnnRunner", "equality_conditions", "integer_ann", "prepare_ann"]


MOST_THREADS = 1024
LAYER_BATCH = 64  # samples that the layers take at a time
PATHS = ("auto", "count", "step")


@dataclass(frozen=True, eq=False)
class AnnResult:
    """Outcome of `integer_ann`, all int64.

    Outputs are ``(B, K)``, predictions ``(B,)`` (of maps ``(B, H, W)``), levels by layer ``(B, *shape)`` where they
    were asked for.
    """

    network: Network
    outputs: np.ndarray
    levels: dict[str, np.ndarray]

    @cached_property
    def predictions(self) -> np.ndarray:
        """Decision of each sample, as `Result.predictions`."""
        return predict(self.network, self.outputs)


def _refusals(network) -> list[str]:
    """Why `network` has no integer ANN."""
    reasons = ["the network is recurrent"] if network.recurrent else []
    for name, layer in network.nodes.items():
        reasons += layer.no_ann(name, network.levels)
    return reasons


def equality_conditions(network) -> list[str]:
    """What stands between the settled network and equality with its integer ANN; empty if it must hold.

    The theorem (``docs/semantics.md``): no leak, reset by subtraction, `>=`, signed spikes with v_negative = 0,
    the net count capped at L, no overflow, run until quiet.
    """
    reasons = _refusals(spiking_network(network))
    for name in network.neurons:
        layer = network.nodes[name]
        if not layer.signed:
            reasons.append(f"{name} is unsigned: a spike too many is never taken back")
        elif np.any(layer.v_negative):
            reasons.append(f"{name} takes spikes back below v_negative = {int(layer.v_negative.min())}, not below 0")
        if layer.max_count is None:
            reasons.append(f"{name} has no cap: a saturated neuron never comes to rest")
        elif network.levels is not None and layer.max_count != network.levels:
            reasons.append(f"{name} is capped at {layer.max_count}, not at L = {network.levels}")
        if layer.compare != ">=":
            reasons.append(f"{name} compares with >: v = theta may stay")
    return reasons


def integer_ann(
    network,
    inputs,
    *,
    steps: int | None = None,
    batch_size: int | None = None,
    time_axis: int | None = None,
    threads: int = 1,
    levels: bool = True,
    path: str = "auto",
) -> AnnResult:
    """Levels and outputs of the integer quantised ANN of `network` on `inputs` (as in `simulate`).

    Parameters
    ----------
    network, inputs, time_axis
        As in `simulate`; the drive is that of a settling run.
    steps : int, optional
        Driven steps of a network without t_drive on constant codes: there they must be said.
    batch_size : int, optional
        Samples at a time; chosen by memory if not given. Never changes a bit.
    threads : int
        Of the count path.
    levels : bool
        Whether the levels of the layers are wanted: outputs alone need less time and memory.
    path : {"auto", "count", "step"}
        ``"count"``: the fused count path, which takes every network that has an integer ANN; ``"step"``: the kernels
        of `simulate`, layer by layer, on totals. Both give the same integers.

    Raises
    ------
    UnsupportedError
        If the network has none: leaks, other resets, recurrence, rounding pools.
    RangeError
        If a total of a layer could need more than 63 bits.
    FormatError
        If nothing says how many steps are driven.
    """
    steps = whole_or_none(steps, "steps", 1, STEPS)
    batch_size = whole_or_none(batch_size, "batch_size", 1)
    threads = whole(threads, "threads", 1, MOST_THREADS)
    levels, path = flag(levels, "levels"), choice(path, "path", PATHS)
    _check(network)
    sources = sources_of(network, inputs, time_axis)
    when = schedule(network, frames_given(sources), steps, settle=True).of_totals()
    program = lower(network, when)
    if path == "step":
        return _by_layers(program, sources, batch_size or LAYER_BATCH, levels)
    made = CountPass(program, {name: source.constant for name, source in sources.items()}, levels, threads)
    return _by_counts(made, sources, batch_size or made.batch)


def _check(network) -> None:
    """Raise `UnsupportedError` where a network has no integer ANN."""
    reasons = _refusals(spiking_network(network))
    if reasons:
        raise UnsupportedError(f"this network has no integer ANN: {'; '.join(reasons)}")


def _by_counts(made: CountPass, sources, batch_size: int, progress=None) -> AnnResult:
    """The count path, block by block."""
    samples = next(iter(sources.values())).samples
    totals, kept = [], []
    for start in range(0, samples, batch_size):
        stop = min(start + batch_size, samples)
        total, level = made.run(sources, start, stop)
        totals.append(total)
        kept.append(level)
        if progress is not None:
            progress(stop, samples)
    nothing = made.nothing
    if len(totals) == 1:
        return _of_counts(made, totals[0], kept[0])
    return _of_counts(made, _joined(totals, nothing[0]), _joined(kept, nothing[1]))


def _of_counts(made: CountPass, totals: np.ndarray, kept: np.ndarray) -> AnnResult:
    """What a pass gave, in API order."""
    levels = {name: made.levels(kept, name) for name in made.table.kept}
    return AnnResult(made.network, made.outputs(totals, made.network.output_name), levels)


def _joined(parts: list[np.ndarray], none: np.ndarray) -> np.ndarray:
    """Blocks of samples one after the other."""
    return np.concatenate(parts) if parts else none


def _by_layers(program: Program, sources, batch_size: int, wanted: bool) -> AnnResult:
    """The kernels of `simulate` on totals."""
    network, samples = program.network, next(iter(sources.values())).samples
    worker = Worker(Plan(program, "step"))
    outputs: list[np.ndarray] = []
    levels: dict[str, list[np.ndarray]] = {name: [] for name in network.spiking} if wanted else {}
    for start in range(0, samples, batch_size):
        stop = min(start + batch_size, samples)
        worker.begin(sources, start, stop)
        worker.advance(0, 1)
        for name, found in levels.items():
            found.append(to_api(worker.values[name][:, 0].astype(np.int64), network.shapes[name]))
        state = worker.states[network.output_name]
        total = state["total"] if "total" in state else worker.values[network.output_name][:, 0]
        outputs.append(to_api(total.astype(np.int64), network.shapes[network.output_name]).reshape(worker.samples, -1))
    size = math.prod(network.shapes[network.output_name])
    return AnnResult(
        network,
        _joined(outputs, np.zeros((0, size), np.int64)),
        {name: _joined(found, np.zeros((0, *network.shapes[name]), np.int64)) for name, found in levels.items()},
    )


class AnnRunner:
    """The integer ANN of a network, prepared: call it with inputs as `integer_ann` takes them. See `prepare_ann`."""

    def __init__(self, network, steps: int | None, levels: bool, threads: int) -> None:
        self.network, self.steps = network, whole_or_none(steps, "steps", 1, STEPS)
        self.levels, self.threads = flag(levels, "levels"), whole(threads, "threads", 1, MOST_THREADS)
        _check(network)
        self._passes: dict[tuple, CountPass] = {}
        self._again: tuple[tuple[int, ...], CountPass, int] | None = None  # a shape of bytes that go in as they are

    def __call__(
        self, inputs, *, time_axis: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> AnnResult:
        """Outputs, and levels where they were asked for, of `inputs`; `progress` is called with (done, in all)."""
        function_or_none(progress, "progress")
        if self._again is not None and self._fits(inputs) and time_axis is None and progress is None:
            _, known, top = self._again
            if top == 255 or int(inputs.max()) <= top:
                return _of_counts(known, *known.run_codes(inputs.reshape(len(inputs), -1)))
        sources = sources_of(self.network, inputs, time_axis)
        key = tuple(source.steps for source in sources.values())
        made = self._passes.get(key)
        if made is None:
            program = lower(self.network, schedule(self.network, frames_given(sources), self.steps, True).of_totals())
            constant = {name: source.constant for name, source in sources.items()}
            made = self._passes[key] = CountPass(program, constant, self.levels, self.threads)
        self._look(inputs, made, time_axis)
        return _by_counts(made, sources, made.batch, progress)

    def _fits(self, inputs) -> bool:
        """Whether `inputs` look like those of the call before, which the kernel reads where they are."""
        assert self._again is not None
        plain = type(inputs) is np.ndarray and inputs.dtype == np.uint8 and inputs.shape == self._again[0]
        return plain and inputs.flags.c_contiguous and inputs.flags.writeable

    def _look(self, inputs, made: CountPass, time_axis: int | None) -> None:
        """Remember inputs that need no other order, type or sum; only their values are looked at the next time."""
        layer = self.network.nodes[self.network.input_name]
        top = layer.format.max
        bytes_ = isinstance(inputs, np.ndarray) and inputs.dtype == np.uint8 and 0 < len(inputs) <= made.batch
        if bytes_ and time_axis is None and made.takes_bytes and not layer.format.signed and top <= 255:
            constant = inputs.ndim == len(layer.shape) + 1
            if (
                constant
                and (layer.multiplier, layer.offset) == (1, 0)
                and (len(layer.shape) == 1 or layer.shape[0] == 1)
            ):
                self._again = (inputs.shape, made, top)


def prepare_ann(network, *, steps: int | None = None, levels: bool = False, threads: int = 1) -> AnnRunner:
    """Prepare the integer ANN of `network` for many fast runs: the count path behind one call.

    Parameters
    ----------
    steps, levels, threads
        As in `integer_ann`.

    Returns
    -------
    AnnRunner
        Call it with inputs. Raises as `integer_ann` does.
    """
    return AnnRunner(network, steps, levels, threads)
