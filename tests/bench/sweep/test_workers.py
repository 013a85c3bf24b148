"""Who computes changes nothing: this process, others, a Dask cluster, workers that die."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from sweeping import CELLS, SOURCE, environment, grid, lasting, left_alone, whole
from waiting import HANGING, ended, until

from intsnn.bench.provenance import source_digest
from intsnn.bench.sweep.cells import Cells, pack
from intsnn.bench.sweep.results import Results
from intsnn.bench.sweep.sweep import Events, sweep
from intsnn.bench.sweep.workers import Task, Workers
from intsnn.conversion.pipeline import convert_float
from intsnn.datasets import catalogue as datasets
from intsnn.errors import FormatError, UnsupportedError
from intsnn.models.keras import load as keras

needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return left_alone(tmp_path_factory.mktemp("whole") / "r.sqlite")


# -- processes of this machine ----------------------------------------------------------------------------------------


@needs_signals
def test_a_dead_process_costs_its_task_a_retry(uninterrupted, tmp_path):
    path, killed = tmp_path / "r.sqlite", []

    def moved(done, cost):
        if done and not killed:
            killed.extend(pid for executor in local._own._all[:1] for pid in executor._processes)
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    with Results(path) as results, Workers(jobs=2) as local:
        summary = sweep(Cells(grid(), trust=True), results, local, events=Events(moved=moved))
    assert len(killed) == 1 and summary.retries == 1 and not summary.undone and summary.computed == CELLS
    assert lasting(path) == lasting(uninterrupted)


class Deadly:
    """Ends whatever process unpickles it."""

    def __reduce__(self):
        return os._exit, (1,)


def make_tasks(count):
    found = convert_float(
        keras.load(SOURCE, trust=True), datasets.load("digits:train:20"), weight_bits=2, activation_bits=2
    )
    data = datasets.load(f"digits:{3 * count}")
    for part in range(count):
        here = slice(3 * part, 3 * part + 3)
        images, labels = data.images[here], data.labels[here]
        yield Task(0, part, "measure", (pack(found.network),), (0,), images, labels, True, source=source_digest())


@needs_signals
def test_a_deadly_task_is_given_up_and_harms_no_other():
    good = list(make_tasks(5))
    deadly = Task(1, 0, "measure", (), (), Deadly(), None, source=source_digest())
    with Workers(jobs=2) as local:
        answers = {(answer.job, answer.part): answer for answer in local.do([*good[:2], deadly, *good[2:]])}
        assert local.retries == 3
    with Workers() as here:
        alone = {(answer.job, answer.part): answer for answer in here.do(good)}
    assert "died 3 times" in answers.pop((1, 0)).fault
    assert answers.keys() == alone.keys()
    for key, answer in answers.items():
        assert answer.fault is None and answer.error is None
        assert answer.value[0].correct_by_step.tolist() == alone[key].value[0].correct_by_step.tolist()
        assert answer.value[0].layers == alone[key].value[0].layers


@pytest.mark.parametrize(
    "options, word",
    [
        (("ray",), "local, dask"),
        (("dask",), "scheduler"),
        (("local", 2, "tcp://127.0.0.1:1"), "scheduler"),
        (("local", 0), "at least 1"),
    ],
)
def test_workers_that_cannot_be(options, word):
    with pytest.raises(FormatError, match=word):
        Workers(*options)


# -- a cluster --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def cluster(folder, workers, *options, **settings):
    """A Dask scheduler and some workers, each a process of its own: the address, and the workers."""
    pytest.importorskip("distributed", reason="needs the extra `distributed`")
    from distributed import Client

    started = []
    patience = {f"DASK_DISTRIBUTED__COMM__TIMEOUTS__{name}": f"{HANGING}s" for name in ("CONNECT", "TCP")}
    patience["DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL"] = f"{HANGING}s"

    def begin(name, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.{name}", *arguments]
        with open(folder / "log", "a") as log:
            variables = environment() | patience | settings
            started.append(subprocess.Popen(command, stdout=log, stderr=log, env=variables, cwd=folder))

    def address():
        with contextlib.suppress(OSError, ValueError, KeyError):
            return json.loads((folder / "s.json").read_text())["address"]

    try:
        begin("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", "s.json")
        assert until(address, lambda: started[0].poll() is None), (folder / "log").read_text()
        for _ in range(workers):
            begin("dask_worker", address(), "--nthreads", "1", "--no-dashboard", "--death-timeout", str(HANGING),
                  *options)  # fmt: skip
        with Client(address(), set_as_default=False, timeout=HANGING) as client:
            client.wait_for_workers(workers, timeout=HANGING)
        yield address(), started[1:]
    finally:
        for process in reversed(started):
            process.terminate()  # not killed: a nanny takes its worker along
        for process in started:
            try:
                process.wait(20)  # then it is killed, which harms nobody
            except subprocess.TimeoutExpired:
                process.kill()


class Unreadable:
    """Cannot be unpickled where there is no file of that name: anywhere."""

    def __reduce__(self):
        return open, ("/no/such/folder/file",)


@needs_signals
def test_a_dask_cluster_of_which_a_worker_dies(uninterrupted, tmp_path):
    """Two workers, one killed in the middle: the same rows, bit for bit."""
    path, killed = tmp_path / "r.sqlite", []

    def moved(done, cost):
        if done > cost // 4 and not killed:
            killed.append(processes[0].pid)
            processes[0].kill()

    with cluster(tmp_path, 2, "--no-nanny") as (address, processes):
        with Results(path) as results, Workers("dask", scheduler=address) as there:
            summary = sweep(Cells(grid(), trust=True), results, there, events=Events(moved=moved))
        assert killed and ended(processes[0]) == -signal.SIGKILL and processes[1].poll() is None
        # what the cluster itself gives up is answered too, and one worker is enough for the rest
        lost = Task(1, 0, "measure", (), (), Unreadable(), None, source=source_digest())
        with Workers("dask", scheduler=address) as there:
            answers = {(answer.job, answer.part): answer for answer in there.do([lost, *make_tasks(2)])}
        assert "the cluster gave it up" in answers.pop((1, 0)).fault
        assert [answers[0, part].value[0].samples for part in (0, 1)] == [3, 3] and len(answers) == 2
    assert not summary.undone and summary.computed == CELLS
    assert lasting(path) == lasting(uninterrupted) and whole(path)


def test_no_cluster_answers(monkeypatch):
    pytest.importorskip("distributed", reason="needs the extra `distributed`")
    from intsnn.bench.sweep import workers

    monkeypatch.setattr(workers, "CONNECT_SECONDS", 1)
    with socket.socket() as silent:  # it has a port of its own, and does not listen
        silent.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with (
            pytest.raises(UnsupportedError, match=f"no Dask scheduler answers at {address}"),
            Workers("dask", scheduler=address),
        ):
            pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UnsupportedError, match=r"intsnn\[distributed\]"), Workers("dask", scheduler=address):
        pass
