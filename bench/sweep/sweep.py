"""A sweep: every cell of a grid that the results do not have yet, computed once, committed when it is done."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...network.spiking import Network
from ..provenance import source_digest
from .cells import Cells, pack, row
from .grid import Cell
from .results import Results
from .tallies import Tally, ann_view, spike_view
from .workers import Answer, Task, Workers

__all__ = ["Events", "Summary", "sweep"]

BATCH = 400_000_000  # neurons times steps times samples of a batch: some seconds
LEAST_BATCH = 16  # samples
TRAINING_COST = 4  # of a sample in an epoch, where a step of a sample costs 1; for the time left, roughly
LOOK_SECONDS = 1.0  # how often trainings are asked how far they are


@dataclass(frozen=True)
class Events:
    """Who hears what happens; every one is called in the process of the sweep.

    `begins(cells, found)`: all cells, and how many are there already. `finished(row)`: committed. `moved(done, cost)`:
    work done and all work, in units of their own. `trains(text)`: how far a training is, nothing when
    none is left; also from another thread.
    """

    begins: Callable[[int, int], None] = lambda cells, found: None
    finished: Callable[[dict[str, Any]], None] = lambda row: None
    moved: Callable[[int, int], None] = lambda done, cost: None
    trains: Callable[[str], None] = lambda text: None


@dataclass
class Summary:
    """What a sweep came to.

    `found` cells were there already, `stale` of the others were there from another source of intsnn; `computed` are
    new; `undone` says why some have no row (their workers died, or a fault of intsnn); `retries` tasks were given out
    again; `trained` networks were trained for cells.
    """

    cells: int = 0
    found: int = 0
    stale: int = 0
    computed: int = 0
    retries: int = 0
    trained: int = 0
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
    training: dict[str, Any] | None = None  # how it was trained
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
    cells: Cells, results: Results, workers: Workers, *, events: Events | None = None, share: bool = True
) -> Summary:
    """Compute the missing ones of `cells` and commit their rows to `results`.

    Parameters
    ----------
    cells : Cells
    results : Results
        What cells train is kept beside it, in a folder of its name and ``.trained``.
    workers : Workers
        Entered already.
    events : Events
    share : bool
        Measure networks that cannot differ in any spike (a method under another name) once for all of them; each is
        verified by itself in any case.
    """
    events = events or Events()
    source = source_digest()
    listed = cells.all()
    known, specs = results.keys(), results.specs()
    missing = [cell for cell in listed if cell.key(source) not in known]
    summary = Summary(len(listed), len(listed) - len(missing), sum(cell.spec in specs for cell in missing))
    events.begins(len(listed), summary.found)
    run = _Sweep(cells, results, events, summary, share, missing)
    if missing:
        run.go(workers)
    return summary


class _Sweep:
    def __init__(self, cells, results, events, summary, share, missing: list[Cell]) -> None:
        self.cells, self.results, self.events, self.summary, self.share = cells, results, events, summary, share
        groups = [list(group) for _, group in itertools.groupby(missing, key=lambda cell: cell.work.spec)]
        self.todo = list(enumerate(groups))
        self.jobs: dict[int, _Job] = {}
        self.ready: list[_Job] = []  # done as soon as they were made: no network at all
        self.fault: BaseException | None = None
        folder = f"{results.path}.trained"
        self.training = {number: cells.training(group[0].work, folder) for number, group in self.todo}
        needed = [training for training in self.training.values() if training is not None and not training.done]
        self.trainings = list({training.key: training for training in needed}.values())
        self.asked: set[str] = set()  # keys of trainings that were given out
        self.under_way: set[str] = set()  # those of them that have not come back
        self.failed: dict[str, Exception | str] = {}  # key -> error of its cells, or what went wrong with us
        self.total = sum(group[0].cost for _, group in self.todo)
        self.total += sum(TRAINING_COST * training.cost for training in self.trainings)
        self.done = 0

    def go(self, workers: Workers) -> None:
        self.events.moved(0, self.total)
        with _Watch(self):
            if self.trainings and workers.backend != "local":
                # training computes in floats and keeps files: it is done here, whoever does the rest
                with Workers(jobs=workers.jobs) as here:
                    self._round(here, self._trainings())
            # a round ends when nothing is left but what waits for trainings under way
            while self.todo and self.fault is None:
                self._round(workers, self._tasks())
        if self.fault is not None:
            raise self.fault

    def _round(self, workers: Workers, tasks: Iterator[Task]) -> None:
        before = workers.retries
        for answer in workers.do(self._heard(tasks)):
            self._commit_ready()
            self._take(answer)
        self._commit_ready()
        self.summary.retries += workers.retries - before

    def _heard(self, tasks: Iterator[Task]) -> Iterator[Task]:
        """`tasks`; joblib may read them in a thread of its own, where nobody would hear an error."""
        try:
            yield from tasks
        except Exception as error:
            self.fault = error

    def _tasks(self) -> Iterator[Task]:
        """Tasks of one job after the other, made when somebody is free for them; never waits for a training."""
        while self.todo:
            at = next((i for i, (number, _) in enumerate(self.todo) if self._trained(number)), None)
            if at is not None:
                number, group = self.todo.pop(at)
                job, tasks = self._prepare(number, group)
                if tasks:
                    self.jobs[number] = job
                    yield from tasks
                else:
                    self.ready.append(job)
            elif (task := next(self._trainings(), None)) is not None:
                yield task
            else:
                return

    # -- trainings ---------------------------------------------------------------------------------

    def _trained(self, number: int) -> bool:
        """Whether a job has nothing to wait for."""
        training = self.training[number]
        return training is None or training.key in self.failed or training.done

    def _trainings(self) -> Iterator[Task]:
        """Those that nobody does yet."""
        for at, training in enumerate(self.trainings):
            if training.key not in self.asked:
                self.asked.add(training.key)
                self.under_way.add(training.key)
                cost = TRAINING_COST * training.cost
                yield Task(
                    -1 - at, 0, "train", (), (), None, None, source=source_digest(), cost=cost, training=training
                )

    def _take_training(self, answer: Answer) -> None:
        training = self.trainings[-1 - answer.job]
        if answer.error is not None or answer.fault is not None:
            self.failed[training.key] = answer.error or answer.fault or ""
        elif not training.done:
            self.failed[training.key] = f"{training.file} has gone"
        else:
            self.summary.trained += 1
        self.under_way.discard(training.key)  # first: what watches counts nothing twice
        self.done += answer.cost
        if not self.under_way:
            self.events.trains("")
        self.events.moved(self.done, self.total)

    # -- one job -----------------------------------------------------------------------------------

    def _prepare(self, number: int, group: list[Cell]) -> tuple[_Job, list[Task]]:
        work, data = group[0].work, self.cells.samples(group[0].work)
        cells = {cell.method: cell for cell in group}
        training = self.training[number]
        failure = None if training is None else self.failed.get(training.key)
        networks: dict[str, Network | Exception]
        if failure is None:
            networks = self.cells.networks(work, list(cells), training)
        else:
            networks = dict.fromkeys(cells, failure if isinstance(failure, Exception) else Exception(failure))
        good = {method: network for method, network in networks.items() if isinstance(network, Network)}
        representative = _represented(good, self.share)
        order = [method for method in good if representative[method] == method]
        job = _Job(cells, networks, representative, order, self.cells.float_accuracy(work), data.labels is not None)
        job.cost = group[0].cost
        if failure is None and training is not None:
            job.training = training.facts(trust=self.cells.trust)
        elif isinstance(failure, str):
            job.fault = failure
        tasks: list[Task] = []

        def add(kind: str, methods: list[str], start: int, stop: int, detail: bool = False, reference: int = 0) -> None:
            packed = tuple(pack(good[method]) for method in methods)
            labels = None if data.labels is None else data.labels[start:stop]
            same = _same_ann([good[method] for method in methods])
            tasks.append(
                Task(number, len(tasks), kind, packed, same, data.images[start:stop], labels, detail, reference, source)
            )

        source = source_digest()
        checked = min(self.cells.grid.verify, len(data))
        for method in good:
            if checked:
                job.verify_of[len(tasks)] = method
                add("verify", [method], 0, checked, reference=min(self.cells.grid.reference, checked))
        if order:
            for start, stop, detail in _batches(good[order[0]], len(data), self.cells.grid.detail):
                add("measure", order, start, stop, detail)
        costs = np.diff(np.linspace(0, job.cost, len(tasks) + 1).astype(np.int64))
        tasks = [replace(task, cost=int(cost)) for task, cost in zip(tasks, costs, strict=True)]
        job.waiting = set(range(len(tasks)))
        return job, tasks

    def _take(self, answer: Answer) -> None:
        if answer.job < 0:
            self._take_training(answer)
            return
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
        error = network if isinstance(network, Exception) else job.error
        if error is not None:
            return row(cell, error, float_accuracy=job.float_accuracy, training=job.training)
        first = job.representative[method]
        at = job.order.index(first)
        tally = Tally()
        for part in sorted(job.tallies):
            tally = tally + job.tallies[part][at]
        return row(
            cell, network, tally, job.checks.get(method, UNCHECKED), labelled=job.labelled,
            float_accuracy=job.float_accuracy, seconds=job.seconds, peak=job.peak,
            same_as=None if first == method else first, training=job.training,
        )  # fmt: skip


class _Watch:
    """While it is entered: tells now and then how far the trainings are, which other processes do."""

    def __init__(self, run: _Sweep) -> None:
        self.run, self.stop = run, threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watch:
        if self.run.trainings:
            self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()

    def _look(self) -> None:
        told: dict[str, int] = {}
        while not self.stop.wait(LOOK_SECONDS):
            done, part = self.run.done, 0
            for training in [t for t in self.run.trainings if t.key in self.run.under_way]:
                epochs, loss = training.progress()
                part += TRAINING_COST * epochs * len(training.data)
                if epochs > told.get(training.key, 0):
                    told[training.key] = epochs
                    self.run.events.trains(f"{training}: epoch {epochs} of {training.recipe.epochs}, loss {loss:.4f}")
            if part:
                self.run.events.moved(done + part, self.run.total)


UNCHECKED: dict[str, Any] = {
    "samples": 0, "reference_samples": 0, "compared": 0, "path_mismatches": 0, "ann_mismatches": 0, "overflows": 0,
    "paths": [], "first": None,
}  # fmt: skip


def _represented(networks: dict[str, Network], share: bool) -> dict[str, str]:
    """Which method is measured for each: itself, or one whose spikes cannot differ."""
    found: dict[str, str] = {}
    views: dict[tuple, str] = {}
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
