"""A sweep: every cell of a grid that the results do not have yet, computed once, committed when it is done."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..network import Network
from .cells import Workshop, pack, row
from .grid import Cell
from .provenance import source_digest
from .results import Results
from .tallies import Tally, ann_view, spike_view
from .workers import Answer, Task, Workers

__all__ = ["Events", "Summary", "sweep"]

BATCH = 400_000_000  # neurons times steps times samples of a batch: some seconds
LEAST_BATCH = 16  # samples


@dataclass(frozen=True)
class Events:
    """Who hears what happens; every one is called in the process of the sweep.

    `begins(cells, found)`: all cells, and how many are there already. `finished(row)`: committed. `moved(done, cost)`:
    work done and all work, in units of their own.
    """

    begins: Callable[[int, int], None] = lambda cells, found: None
    finished: Callable[[dict[str, Any]], None] = lambda row: None
    moved: Callable[[int, int], None] = lambda done, cost: None


@dataclass
class Summary:
    """What a sweep came to.

    `found` cells were there already, `stale` of the others were there from another source of intsnn; `computed` are
    new; `undone` says why some have no row (their workers died, or a fault of intsnn); `retries` tasks were given out
    again.
    """

    cells: int = 0
    found: int = 0
    stale: int = 0
    computed: int = 0
    retries: int = 0
    undone: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class _Job:
    """Cells that differ in their method only, under way."""

    cells: dict[str, Cell]
    networks: dict[str, Network | Exception]
    representative: dict[str, str]  # method -> the one that was measured for it
    order: list[str]  # the measured methods
    float_accuracy: float | None
    labelled: bool
    cost: int = 0
    waiting: set[int] = field(default_factory=set)
    verify_of: dict[int, str] = field(default_factory=dict)
    tallies: dict[int, list[Tally]] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: Exception | None = None
    fault: str | None = None
    seconds: float = 0.0
    peak: int | None = None


def sweep(
    shop: Workshop, results: Results, workers: Workers, *, events: Events | None = None, share: bool = True
) -> Summary:
    """Compute the missing cells of `shop` and commit their rows to `results`.

    Parameters
    ----------
    shop : Workshop
    results : Results
    workers : Workers
        Entered already.
    events : Events
    share : bool
        Measure networks that cannot differ in any spike (a method under another name) once for all of them; each is
        verified by itself in any case.
    """
    events = events or Events()
    source = source_digest()
    cells = shop.cells()
    known, specs = results.keys(), results.specs()
    missing = [cell for cell in cells if cell.key(source) not in known]
    summary = Summary(len(cells), len(cells) - len(missing), sum(cell.spec in specs for cell in missing))
    events.begins(len(cells), summary.found)
    run = _Sweep(shop, results, events, summary, share, missing)
    if missing:
        run.go(workers)
    return summary


class _Sweep:
    def __init__(self, shop, results, events, summary, share, missing: list[Cell]) -> None:
        self.shop, self.results, self.events, self.summary, self.share = shop, results, events, summary, share
        self.groups = [list(group) for _, group in itertools.groupby(missing, key=lambda cell: cell.work.spec)]
        self.jobs: dict[int, _Job] = {}
        self.ready: list[_Job] = []  # done as soon as they were made: no network at all
        self.total, self.done = sum(group[0].cost for group in self.groups), 0
        self.fault: BaseException | None = None

    def go(self, workers: Workers) -> None:
        self.events.moved(0, self.total)
        for answer in workers.do(self._tasks()):
            self._commit_ready()
            self._take(answer)
        self._commit_ready()
        self.summary.retries = workers.retries
        if self.fault is not None:
            raise self.fault

    def _tasks(self) -> Iterator[Task]:
        """Tasks of one job after the other, made when somebody is free for them."""
        try:
            for number, group in enumerate(self.groups):
                job, tasks = self._prepare(number, group)
                if tasks:
                    self.jobs[number] = job
                    yield from tasks
                else:
                    self.ready.append(job)
        except Exception as error:  # joblib may read this in a thread of its own, where nobody would hear it
            self.fault = error

    # -- one job -----------------------------------------------------------------------------------

    def _prepare(self, number: int, group: list[Cell]) -> tuple[_Job, list[Task]]:
        work, data = group[0].work, self.shop.samples(group[0].work)
        cells = {cell.method: cell for cell in group}
        networks = self.shop.networks(work, list(cells))
        good = {method: network for method, network in networks.items() if isinstance(network, Network)}
        representative = _represented(good, self.share)
        order = [method for method in good if representative[method] == method]
        job = _Job(cells, networks, representative, order, self.shop.float_accuracy(work), data.labels is not None)
        job.cost = group[0].cost
        tasks: list[Task] = []

        def add(kind: str, methods: list[str], start: int, stop: int, detail: bool = False, reference: int = 0) -> None:
            packed = tuple(pack(good[method]) for method in methods)
            labels = None if data.labels is None else data.labels[start:stop]
            same = _same_ann([good[method] for method in methods])
            tasks.append(
                Task(number, len(tasks), kind, packed, same, data.images[start:stop], labels, detail, reference, source)
            )

        source = source_digest()
        checked = min(self.shop.grid.verify, len(data))
        for method in good:
            if checked:
                job.verify_of[len(tasks)] = method
                add("verify", [method], 0, checked, reference=min(self.shop.grid.reference, checked))
        if order:
            for start, stop, detail in _batches(good[order[0]], len(data), self.shop.grid.detail):
                add("measure", order, start, stop, detail)
        costs = np.diff(np.linspace(0, job.cost, len(tasks) + 1).astype(np.int64))
        tasks = [replace(task, cost=int(cost)) for task, cost in zip(tasks, costs, strict=True)]
        job.waiting = set(range(len(tasks)))
        return job, tasks

    def _take(self, answer: Answer) -> None:
        job = self.jobs[answer.job]
        job.waiting.discard(answer.part)
        job.seconds += answer.seconds
        if answer.peak is not None:
            job.peak = max(job.peak or 0, answer.peak)
        if answer.error is not None:
            job.error = job.error or answer.error
        elif answer.fault is not None:
            job.fault = job.fault or answer.fault
        elif answer.part in job.verify_of:
            job.checks[job.verify_of[answer.part]] = answer.value
        else:
            job.tallies[answer.part] = answer.value
        self.done += answer.cost
        self.events.moved(self.done, self.total)
        if not job.waiting:
            self._commit(job)
            del self.jobs[answer.job]

    def _commit_ready(self) -> None:
        while self.ready:
            job = self.ready.pop()
            self._commit(job)
            self.done += job.cost
            self.events.moved(self.done, self.total)

    def _commit(self, job: _Job) -> None:
        if job.fault is not None:
            self.summary.undone |= {str(cell): job.fault for cell in job.cells.values()}
            return
        rows = [(cell.spec, self._row(job, method, cell)) for method, cell in job.cells.items()]
        self.results.add(rows)
        self.summary.computed += len(rows)
        for _, values in rows:
            self.events.finished(values)

    def _row(self, job: _Job, method: str, cell: Cell) -> dict[str, Any]:
        network = job.networks[method]
        if isinstance(network, Exception) or job.error is not None:
            error = network if isinstance(network, Exception) else job.error
            return row(cell, error, float_accuracy=job.float_accuracy)
        first = job.representative[method]
        at = job.order.index(first)
        tally = Tally()
        for part in sorted(job.tallies):
            tally = tally + job.tallies[part][at]
        return row(
            cell, network, tally, job.checks.get(method, UNCHECKED), labelled=job.labelled,
            float_accuracy=job.float_accuracy, seconds=job.seconds, peak=job.peak,
            same_as=None if first == method else first,
        )  # fmt: skip


UNCHECKED: dict[str, Any] = {
    "samples": 0, "reference_samples": 0, "compared": 0, "path_mismatches": 0, "ann_mismatches": 0, "overflows": 0,
    "paths": [], "first": None,
}  # fmt: skip


def _represented(networks: dict[str, Network], share: bool) -> dict[str, str]:
    """Which method is measured for each: itself, or one whose spikes cannot differ."""
    found, views = {}, {}
    for method, network in networks.items():
        found[method] = views.setdefault(spike_view(network), method) if share else method
    return found


def _same_ann(networks: list[Network]) -> tuple[int, ...]:
    """Of each network, the first with the same integer ANN."""
    views: dict[tuple, int] = {}
    return tuple(views.setdefault(ann_view(network), i) for i, network in enumerate(networks))


def _batches(network: Network, samples: int, detail: int | None) -> Iterator[tuple[int, int, bool]]:
    """Spans of samples, and whether they are measured in detail: the first ones are."""
    neurons = sum(int(np.prod(network.shapes[name])) for name in network.spiking)
    size = max(LEAST_BATCH, BATCH // max(1, neurons * ((network.t_drive or 16) + 1)))
    detailed = samples if detail is None else min(detail, samples)
    for low, high, flag in ((0, detailed, True), (detailed, samples, False)):
        for start in range(low, high, size):
            yield start, min(start + size, high), flag
