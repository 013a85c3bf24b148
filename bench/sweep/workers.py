"""Who computes? Processes of this machine or a Dask cluster, through joblib; a worker that dies costs its task a retry.

A task is whole in itself: networks and samples go to the worker, sums come back. It reads no file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import FormatError, IntsnnError, UnsupportedError
from ..provenance import source_digest

if TYPE_CHECKING:
    from .trained import Training

__all__ = ["Answer", "Task", "Workers"]

BACKENDS = ("local", "dask")
TRIES = 3  # of a task whose worker dies
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
WATCH_SECONDS = 0.5
CONNECT_SECONDS = 30


@dataclass(frozen=True, eq=False)
class Task:
    """A part of a job.

    `kind` is ``"measure"`` (the networks on the samples, `detail` or outputs only), ``"verify"`` (the first network
    by every path, `reference` samples by the plain one too) or ``"train"`` (`training`, the only kind that reads and
    writes files: it stays on the machine of the sweep).
    """

    job: int
    part: int
    kind: str
    networks: tuple
    same_ann: tuple[int, ...]
    images: Any
    labels: Any
    detail: bool = False
    reference: int = 0
    source: str = ""
    cost: int = 0
    training: Training | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of a task: `value`, or `error` that belongs to the cell, or `fault` that does not."""

    job: int
    part: int
    cost: int
    value: Any = None
    error: IntsnnError | None = None
    fault: str | None = None
    seconds: float = 0.0
    peak: int | None = None


def run_task(task: Task) -> Answer:
    """Do it, in whatever process this is."""
    start = time.perf_counter()
    try:
        if task.source != source_digest():
            raise UnsupportedError("the worker has another source of intsnn; install the same one everywhere")
        from ...analysis.memory.process import forget_peak, lifelong_peak, peak_so_far

        forget_peak()
        value = KINDS[task.kind](task)
        peak = peak_so_far() or lifelong_peak()
    except UnsupportedError as error:
        if task.source != source_digest():
            return Answer(task.job, task.part, task.cost, fault=str(error))
        return Answer(task.job, task.part, task.cost, error=error)
    except IntsnnError as error:
        return Answer(task.job, task.part, task.cost, error=error)
    except Exception as error:  # a fault of ours, or no memory: the cell stays undone, and the sweep goes on
        if isinstance(error, ImportError) and task.kind == "train":
            text = f"training needs {error.name}, which is not installed; install intsnn[qat]"
            return Answer(task.job, task.part, task.cost, fault=text)
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}, line {where.lineno})"
        return Answer(task.job, task.part, task.cost, fault=text)
    return Answer(task.job, task.part, task.cost, value, seconds=time.perf_counter() - start, peak=peak)


def _measure(task: Task):
    from .cells import unpack
    from .tallies import measure

    networks = [unpack(parts) for parts in task.networks]
    return measure(networks, list(task.same_ann), task.images, task.labels, task.detail)


def _verify(task: Task) -> dict[str, Any]:
    from ...analysis.verification import verify
    from .cells import unpack

    found = verify(unpack(task.networks[0]), task.images, reference=task.reference)
    return {
        "samples": found.samples, "reference_samples": found.reference_samples, "compared": found.compared,
        "path_mismatches": found.path_mismatches, "ann_mismatches": found.ann_mismatches,
        "overflows": found.overflows, "paths": list(found.paths),
        "first": None if found.first is None else str(found.first),
    }  # fmt: skip


def _train(task: Task) -> None:
    from .trained import train

    if task.training is None:
        raise FormatError("a task that trains needs a training")
    train(task.training)


# looked up when called: what stands here may be replaced
KINDS: dict[str, Callable[[Task], Any]] = {
    "measure": lambda task: _measure(task), "verify": lambda task: _verify(task), "train": lambda task: _train(task),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# backends
# ---------------------------------------------------------------------------------------------------------------------


class Workers:
    """Does tasks, in any order; when they are done it may be given others.

    Parameters
    ----------
    backend : {"local", "dask"}
        Processes of this machine, or the cluster of `scheduler`.
    jobs : int
        Processes; 1 works in this one. A cluster has as many as it has.
    scheduler : str or None
        Address, such as ``tcp://10.0.0.1:8786``.

    Raises
    ------
    FormatError
        Options that do not go together.
    UnsupportedError
        Dask is not installed, or nobody answers.
    """

    def __init__(self, backend: str = "local", jobs: int = 1, scheduler: str | None = None) -> None:
        if backend not in BACKENDS:
            raise FormatError(f"backend: found {backend!r}; choose one of {', '.join(BACKENDS)}")
        if (backend == "dask") != (scheduler is not None):
            raise FormatError("backend: dask needs the address of a scheduler, and nothing else takes one")
        if jobs < 1:
            raise FormatError(f"jobs: found {jobs}; at least 1 is needed")
        self.backend, self.jobs, self.scheduler = backend, jobs, scheduler
        self._client: Any = None
        self._own: _Processes | None = None
        self.retries = 0

    def __enter__(self) -> Workers:
        if self.backend == "dask":
            self._client = _connect(self.scheduler)
        elif self.jobs > 1:
            self._own = _Processes()
        return self

    def __exit__(self, *_) -> None:
        if self._own is not None:
            self._own.stop()
        if self._client is not None:
            self._client.close()

    def do(self, tasks: Iterable[Task]) -> Iterator[Answer]:
        """Answers in the order in which they come; `tasks` is read as workers get free."""
        if self._client is not None:
            yield from self._on_cluster(tasks)
            return
        import joblib

        call = run_task if self._own is None else self._own
        parallel = joblib.Parallel(self.jobs, backend="threading", return_as="generator_unordered", batch_size=1)
        try:
            yield from _quietly(parallel(joblib.delayed(call)(task) for task in tasks))
        except BaseException:
            if self._own is not None:
                self._own.stop()
            raise
        finally:
            if self._own is not None:
                self.retries = self._own.retries

    def _on_cluster(self, tasks: Iterable[Task]) -> Iterator[Answer]:
        """Dask itself gives the task of a dead worker to another one."""
        import joblib

        with joblib.parallel_config(backend=_cluster_backend(self._client)):
            parallel = joblib.Parallel(n_jobs=-1, return_as="generator_unordered", batch_size=1)
            yield from _quietly(parallel(joblib.delayed(run_task)(task) for task in tasks))


def _quietly(answers) -> Iterator[Answer]:
    """`answers`, without joblib's warning that some are thrown away: who stops a sweep knows."""
    try:
        for answer in answers:  # noqa: UP028  `yield from` would close them first
            yield answer
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            answers.close()


def _cluster_backend(client):
    """joblib's backend for Dask in two points other than it is.

    It answers also for a task whose workers died too often, where joblib would wait for ever; and a cluster of one
    thread computes, where joblib would do so in this process.
    """
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):
        def submit(self, func, callback=None):
            future = super().submit(func, callback)

            def ended(done) -> None:
                error = done.exception()
                if error is not None and callback is not None:
                    callback([_given_up(task, error) for _, (task,), _ in func.items])

            future.add_done_callback(ended)
            return future

        def effective_n_jobs(self, n_jobs):
            return max(2, super().effective_n_jobs(n_jobs))

    return Backend(client=client)


def _given_up(task: Task, error: BaseException) -> Answer:
    reason = " ".join(str(error).split()) or type(error).__name__
    return Answer(task.job, task.part, task.cost, fault=f"the cluster gave it up: {reason}")


def _connect(address: str | None):
    try:
        from distributed import Client
    except ImportError:
        message = "the backend dask needs distributed, which is not installed; install intsnn[distributed]"
        raise UnsupportedError(message) from None
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UnsupportedError(f"no Dask scheduler answers at {address}: {error}") from None
    if not client.scheduler_info()["workers"]:
        client.close()
        raise UnsupportedError(f"the Dask cluster at {address} has no workers; start some (dask worker {address})")
    return client


class _Processes:
    """A process for each task under way, so that one that dies takes no other task with it; free ones are used again.

    The first task runs alone: where nothing is compiled yet, the others then find it compiled.
    """

    def __init__(self) -> None:
        self._free: list[Any] = []
        self._lock = threading.Lock()
        self._first = threading.Lock()
        self._warm = threading.Event()
        self._all: list[Any] = []
        self._stopping = False
        self.retries = 0

    def __call__(self, task: Task) -> Answer:
        if self._warm.is_set():
            return self._run(task)
        with self._first:
            if not self._warm.is_set():
                try:
                    return self._run(task)
                finally:
                    self._warm.set()
        return self._run(task)

    def _run(self, task: Task) -> Answer:
        from joblib.externals.loky.process_executor import BrokenProcessPool, ShutdownExecutorError

        reason = ""
        for _ in range(TRIES):
            executor = self._some()
            try:
                answer = executor.submit(run_task, task).result()
                self._back(executor, task)
                return answer
            except (BrokenProcessPool, ShutdownExecutorError) as error:
                if self._stopping:
                    break
                with self._lock:
                    self.retries += 1
                reason = " ".join(str(error).split("\n")[0].split())
        return Answer(task.job, task.part, task.cost, fault=f"its worker died {TRIES} times: {reason}")

    def _some(self):
        """A process that has nothing to do."""
        with self._lock:
            if self._free:
                return self._free.pop()
        from joblib.externals.loky import ProcessPoolExecutor

        executor = ProcessPoolExecutor(1, initializer=_begin_worker, initargs=(os.getpid(),), env=ONE_THREAD)
        with self._lock:
            self._all.append(executor)
        return executor

    def _back(self, executor, task: Task) -> None:
        """It is free; one that trained holds torch, which is no part of what a later cell takes."""
        with self._lock:
            if task.kind != "train":
                self._free.append(executor)
                return
            with contextlib.suppress(ValueError):
                self._all.remove(executor)
        executor.shutdown(wait=True, kill_workers=True)

    def stop(self) -> None:
        """End all processes, whatever they do."""
        self._stopping = True
        with self._lock:
            executors, self._all = self._all, []
        for executor in executors:
            with contextlib.suppress(Exception):
                executor.shutdown(wait=True, kill_workers=True)


def _begin_worker(parent: int) -> None:
    """Ctrl-C is the business of the parent; a worker whose parent is gone has nothing left to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
