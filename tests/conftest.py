"""What several test files share: where the data are, in which order tests run, and how hypothesis runs."""

import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run, and nothing that depends on how busy the machine is;
# ``--hypothesis-profile search`` looks at others.
settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, print_blob=True
)
settings.register_profile("search", parent=settings.get_profile("default"), derandomize=False)
settings.load_profile("default")

LONGEST = ("test_tiers", "test_no_float", "test_killed", "test_narrow", "test_learn", "test_simulate", "test_bptt")


def pytest_addoption(parser):
    parser.addoption("--order", type=int, metavar="SEED", help="run files, and the tests of each, in a random order")


def pytest_collection_modifyitems(config, items):
    """The longest files first: two processes then end at about the same time. Or any order that is asked for."""
    seed = config.getoption("--order")
    if seed is None:
        rank = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))
        return
    chance = random.Random(seed)
    files = sorted({item.path for item in items})
    place = {path: chance.random() for path in files}
    places = {item.nodeid: chance.random() for item in items}
    items.sort(key=lambda item: (place[item.path], places[item.nodeid]))


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
