"""What several test files share: where the data are, which tests run in which order, and how hypothesis runs."""

import json
import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Processes share the processor already: threads of theirs would wait for each other. Before numpy comes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The same examples in every run, and nothing that depends on how busy the machine is;
# ``--hypothesis-profile search`` looks at others.
settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, print_blob=True
)
settings.register_profile("search", parent=settings.get_profile("default"), derandomize=False)
settings.load_profile("default")

# Tests that take long, all parameters together, and fixtures of a file that do: seconds of processor time with the
# kernels compiled. `--measure` writes the table; a test that it does not know is quick.
TABLE = Path(__file__).with_name("long.json")
LONG, LONG_FIXTURE = 0.5, 2.0


def pytest_addoption(parser):
    parser.addoption("--order", type=int, metavar="SEED", help="run files, and the tests of each, in a random order")
    parser.addoption("--quick", action="store_true", help="leave out the tests that take long (tests/long.json)")
    parser.addoption("--measure", action="store_true", help="write tests/long.json anew, from all tests that run")


def pytest_configure(config):
    if config.getoption("--measure"):
        config.pluginmanager.register(Measured(config))


def function_of(nodeid):
    """A test without its parameters, by file and name."""
    return nodeid.split("[")[0].removeprefix("tests/")


def file_of(nodeid):
    return nodeid.split("::")[0].removeprefix("tests/")


def is_long(item, table):
    """Whether the table has the test, or a fixture that it needs."""
    fixtures = {f"{file_of(item.nodeid)}::{name}" for name in item.fixturenames}
    return function_of(item.nodeid) in table["tests"] or not fixtures.isdisjoint(table["fixtures"])


def pytest_collection_modifyitems(config, items):
    """The longest files first: two processes then end at about the same time. Or any order that is asked for."""
    table = json.loads(TABLE.read_text("utf-8"))
    if config.getoption("--quick"):
        left_out = {item for item in items if is_long(item, table)}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    seed = config.getoption("--order")
    if seed is None:
        seconds = dict.fromkeys((file_of(item.nodeid) for item in items), 0.0)
        for name, value in (table["tests"] | table["fixtures"]).items():
            seconds[file_of(name)] = seconds.get(file_of(name), 0.0) + value
        items.sort(key=lambda item: -seconds[file_of(item.nodeid)])
        return
    chance = random.Random(seed)
    files = sorted({item.path for item in items})
    place = {path: chance.random() for path in files}
    places = {item.nodeid: chance.random() for item in items}
    items.sort(key=lambda item: (place[item.path], places[item.nodeid]))


class Measured:
    """Sums the processor time of tests and of fixtures that several share, over all processes of a run."""

    def __init__(self, config):
        self.collects = not hasattr(config, "workerinput")
        self.tests, self.fixtures = {}, {}
        self.inside = []  # the fixtures that are being set up: seconds of those within
        self.properties = []  # of the test that runs

    @staticmethod
    def now():
        spent = os.times()
        return spent.user + spent.system + spent.children_user + spent.children_system

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        if fixturedef.scope == "function":
            return (yield)
        begin = self.now()
        self.inside.append(0.0)
        try:
            return (yield)
        finally:
            whole = self.now() - begin
            own = whole - self.inside.pop()
            if self.inside:
                self.inside[-1] += whole
            self.properties.append((fixturedef.argname, own))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item):
        self.begin = self.now()
        self.properties.clear()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item):
        try:
            return (yield)
        finally:
            own = self.now() - self.begin - sum(seconds for _, seconds in self.properties)
            item.user_properties += [("", own), *self.properties]

    def pytest_runtest_logreport(self, report):
        if not self.collects or report.when != "teardown":
            return
        for name, seconds in report.user_properties:
            kept = self.fixtures if name else self.tests
            key = f"{file_of(report.nodeid)}::{name}" if name else function_of(report.nodeid)
            kept[key] = kept.get(key, 0.0) + seconds

    def pytest_sessionfinish(self):
        if not self.collects:
            return
        kept = (("tests", self.tests, LONG), ("fixtures", self.fixtures, LONG_FIXTURE))
        table = {
            what: {key: round(seconds, 1) for key, seconds in sorted(found.items()) if seconds >= least}
            for what, found, least in kept
        }
        TABLE.write_text(json.dumps(table, indent=1) + "\n", "utf-8")


@pytest.fixture(autouse=True)
def torch_starts_anew():
    """Random numbers of torch do not depend on the tests before."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data, or the test is skipped."""
    folder = os.environ.get("INTSNN_DATA")
    if not folder:
        pytest.skip("INTSNN_DATA is not set: this test needs real data")
    return Path(folder)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree, or the test is skipped (installed package without its sources)."""
    root = Path(__file__).resolve().parent.parent
    if not (root / "intsnn" / "__init__.py").is_file():
        pytest.skip("the source tree is not here: this test reads it")
    return root
