"""What several test files share: where the data are, and how hypothesis runs."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

LONGEST = ("test_tiers", "test_no_float", "test_killed", "test_narrow", "test_learn", "test_simulate", "test_bptt")


def pytest_collection_modifyitems(items):
    """The longest files first: two processes then end at about the same time."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


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
