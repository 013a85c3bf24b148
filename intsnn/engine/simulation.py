"""Run a network on data: the same integers for every batch size, thread count and backend.

Three numbers that are not to be mixed up: L (levels, `max_count` of the neurons), T_drive (in the
network: how long input and bias flow) and `steps` (how long is observed). See ``docs/semantics.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import FormatError, ShapeError, UnsupportedError
from ..formats.arguments import (
    STEPS,
    choice,
    flag,
    function_or_none,
    instance,
    path_of,
    seed_of,
    sequence,
    shown,
    whole,
    whole_or_none,
)
from ..formats.integers import whole_array
from ..layers.schedule import Schedule
from ..network.schedule import schedule
from ..network.spiking import spiking_network
from .backends.base import WANTS, Backend, Request
from .backends.fused.runner import Fused
from .backends.stepwise.run import Stepwise
from .inputs import Source, frames_given, sources_of
from .program import lower
from .result import Result
from .state import State

if TYPE_CHECKING:
    from ..files.recording import RecordingWriter

__all__ = ["BACKENDS", "backends_of", "paths_of", "simulate"]

BACKENDS: tuple[Backend, ...] = (Fused(), Stepwise("layer"), Stepwise("step"), Stepwise("reference"))
"""All of them, the fastest first. The last refuses nothing."""

QUANTITIES = ("spikes", "counts", "v", "u", "current")
MOST_THREADS = 1024


def _wanted(network, record: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`record` as quantities per layer; ``"v"`` means v of every neuron layer."""
    wanted: dict[str, set[str]] = {}
    for entry in (record,) if isinstance(record, str) else sequence(record, "record", "names are needed"):
        if not isinstance(entry, str):
            raise FormatError(f"record: found {shown(entry)}; names are needed")
        name, _, quantity = entry.rpartition(".")
        if quantity not in QUANTITIES or (name and name not in network.nodes):
            raise FormatError(
                f"record: found {shown(entry)}; give a quantity ({', '.join(QUANTITIES)}) or layer.quantity with a "
                f"layer of {', '.join(network.nodes)}"
            )
        for target in (name,) if name else _layers_with(network, quantity):
            if target not in _layers_with(network, quantity):
                raise FormatError(f"record: {target} ({type(network.nodes[target]).__name__}) has no {quantity}")
            wanted.setdefault(target, set()).add(quantity)
    return {name: tuple(sorted(quantities)) for name, quantities in wanted.items()}


def _layers_with(network, quantity: str) -> tuple[str, ...]:
    if quantity == "v":
        return network.neurons
    if quantity == "u":
        return tuple(name for name in network.neurons if network.nodes[name].u_format is not None)
    if quantity in ("spikes", "counts"):
        return network.spiking
    return tuple(name for name, layer in network.nodes.items() if not layer.answers)


def simulate(
    network,
    inputs,
    *,
    steps: int | None = None,
    settle: bool = False,
    record: Iterable[str] = (),
    record_to=None,
    record_labels=None,
    record_length: str = "ragged",
    strict: bool = False,
    threads: int = 1,
    batch_size: int | None = None,
    path: str = "auto",
    seed: int = 0,
    keep_final: bool = False,
    keep_state: bool = False,
    state: State | None = None,
    reports: bool | None = None,
    time_axis: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Simulate `network` on `inputs`, bit for bit.

    Parameters
    ----------
    network : Network
    inputs : array or Events, or mapping of name to those
        ``(B, *shape)`` constant codes, ``(T, B, *shape)`` frames or spike trains, or `Events`; of a network with
        several inputs, by their names.
    steps : int, optional
        How many steps are observed; default T_drive of the network, else the length of the input. Input and bias
        stop after ``min(steps, T_drive)``; nothing is rescaled.
    settle : bool
        Finish the drive and run each sample until no neuron fires, at most layers x L steps more.
    record : names
        ``"spikes"``, ``"counts"``, ``"v"``, ``"u"``, ``"current"`` of every layer that has it, or ``"layer.v"``.
    record_to : path, optional
        Write the records to this HDF5 file instead of memory, with inputs, outputs and predictions
        (``docs/files.md``; `intsnn.files.recording.load` reads it).
    record_labels : (B,) or (B, H, W) integers, optional
        Labels that go into that file.
    record_length : {"ragged", "equal"}
        In that file: of every sample its own steps, end to end, or of all as many as the longest has.
    strict : bool
        Any overflow is an error.
    threads : int
        Blocks of samples are taken from a queue by this many threads.
    batch_size : int, optional
        Samples per block; chosen by memory if not given. Never changes a bit.
    path : {"auto", "fused", "layer", "step", "reference"}
        The backend. ``"auto"``: the fastest that gives what is asked for and takes the network.
    seed : int
        Key of stochastic rounding, 0 to 2**63 - 1.
    keep_final : bool
        Keep the final net counts and membranes of every spiking layer in `Result.final`.
    keep_state : bool
        Keep what another run needs to go on from here in `Result.state`.
    state : State, optional
        Go on from the state of another run of this network (one of each sample): `steps` are further steps, frames are
        those of the steps that follow. Cut anywhere, a run gives the same bits as in one piece.
    reports : bool, optional
        Fill `Result.layers`: by default, unless `path` names a backend that has no reports. With False, and without
        records, final values and states, ``"auto"`` may take the fused backend.
    time_axis : int, optional
        Time axis of frames, if not the first.
    progress : callable, optional
        Called with (samples done, samples in all).

    Raises
    ------
    RangeError
        Input or state outside what is possible; a total that could need more than 63 bits (before anything runs);
        an overflow under TRAP or `strict` (layer, step, neuron and value are named).
    ShapeError, FormatError
        Inputs or options that do not fit the network.
    """
    spiking_network(network)
    choice(path, "path", ("auto", *(backend.name for backend in BACKENDS)))
    steps = whole_or_none(steps, "steps", 1, STEPS)
    threads = whole(threads, "threads", 1, MOST_THREADS)
    batch_size = whole_or_none(batch_size, "batch_size", 1)
    seed = seed_of(seed)
    settle, strict, keep_final = flag(settle, "settle"), flag(strict, "strict"), flag(keep_final, "keep_final")
    keep_state = flag(keep_state, "keep_state")
    if reports is None:
        reports = all("reports" in backend.gives for backend in BACKENDS if backend.name == path)
    reports = flag(reports, "reports")
    record_to = None if record_to is None else path_of(record_to, "record_to")
    choice(record_length, "record_length", ("ragged", "equal"))
    function_or_none(progress, "progress")
    instance(state, "state", State, none=True)
    sources = sources_of(network, inputs, time_axis)
    _check_samples(sources, state)
    recorded = _wanted(network, record)
    for name in network.outputs:
        if not network.nodes[name].answers:
            raise ShapeError(f"Network: the output {name!r} has no counts; end with a Neuron or a Readout")
    request = Request(
        lower(network, _schedule(network, sources, steps, settle, state)), sources, settle, strict, threads, seed,
        batch_size, record=recorded, start=state, progress=progress,
    )  # fmt: skip
    asked = {"outputs": True, "reports": reports, "records": recorded, "final": keep_final, "state": keep_state}
    wants = {word for word, is_asked in asked.items() if is_asked}
    if record_labels is not None:
        record_labels = whole_array(record_labels, "record_labels")
        if record_labels.ndim == 0 or len(record_labels) != request.samples:
            found = f"found shape {record_labels.shape}"
            raise ShapeError(f"record_labels: {found}; one for each of the {request.samples} samples is needed")
    if record_to is not None:
        wants |= {"records"}

        def recorder(request: Request) -> RecordingWriter:
            from ..files.recording import RecordingWriter

            shape = network.nodes[network.input_name].shape
            facts = {"steps": request.schedule.least, "driven": request.schedule.driven, "settle": int(settle)}
            if not request.sources[network.input_name].constant:
                shape = (request.input_steps, *shape)
            return RecordingWriter(
                record_to, network, recorded, request.program.bounds, facts, shape, record_labels, record_length
            )

        request = replace(request, recorder=recorder)
    request = replace(request, wants=frozenset(wants))
    return _backend(request, path).run(request)


def _schedule(network, sources: Mapping[str, Source], steps: int | None, settle: bool, state: State | None) -> Schedule:
    """When the run is driven, in steps since the very first one."""
    given, began = frames_given(sources), 0 if state is None else state.step
    if not began:
        return schedule(network, given, steps, settle)
    for name, layer in network.nodes.items():
        if layer.weighted and layer.bias is not None and layer.bias_mode == "spread" and network.t_drive is None:
            raise UnsupportedError(
                f"state: the bias of {name} is spread over a drive that nothing declares; a network that is run in "
                "pieces needs a t_drive"
            )
    further = steps or given or 0
    if not further and not settle:
        raise FormatError("steps: how many further steps are meant? give steps")
    found = schedule(network, None if given is None else began + given, began + further, settle)
    # whether it is at rest is seen in a step
    return replace(found, limit=max(found.limit, began + 1))


def _check_samples(sources: Mapping[str, Source], state: State | None) -> None:
    samples = next(iter(sources.values())).samples
    if state is not None and state.samples not in (None, samples):
        raise ShapeError(f"state: found {state.samples} samples for inputs of {samples}; one for each is needed")


def backends_of(request: Request) -> tuple[Backend, ...]:
    """Backends that take the program of `request` and give what it wants, the fastest first."""
    return tuple(b for b in BACKENDS if request.needs <= b.gives and not b.refuses(request.program, request.frames))


def paths_of(
    network, inputs, *, steps: int | None = None, settle: bool = False, time_axis: int | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the backends that take such a run, the fastest first: those that give everything, and those that do not.

    Parameters as in `simulate`.
    """
    steps, settle = whole_or_none(steps, "steps", 1, STEPS), flag(settle, "settle")
    sources = sources_of(spiking_network(network), inputs, time_axis)
    program = lower(network, schedule(network, frames_given(sources), steps, settle))
    frames = any(not source.constant for source in sources.values())
    taken = [backend for backend in BACKENDS if not backend.refuses(program, frames)]
    whole_ones = tuple(b.name for b in taken if b.gives >= set(WANTS))
    return whole_ones, tuple(b.name for b in taken if b.name not in whole_ones)


def _backend(request: Request, path: str) -> Backend:
    """The backend called `path`, or the fastest that does.

    Raises
    ------
    UnsupportedError
        It does not take the network, or does not give what is asked for.
    """
    if path == "auto":
        return backends_of(request)[0]
    backend = next(b for b in BACKENDS if b.name == path)
    reason = backend.refuses(request.program, request.frames)
    missing = sorted(request.needs - backend.gives)
    if reason is None and missing:
        reason = f"{path} gives no {' and no '.join(missing)}"
    if reason is not None:
        raise UnsupportedError(f"path: {reason}")
    return backend
