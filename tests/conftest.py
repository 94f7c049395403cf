"""Settings and options of all tests."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Test processes that run side by side (pytest-xdist) use one thread each for arithmetic: more would only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# How fast Hypothesis makes examples on a busy machine says nothing about the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

# Files on Kafka that take longer than the others, by several starts of workers one after the other.
LONG = {
    f"test_{name}" for name in ("dead_letters", "namespaces", "peers", "refusals", "replay", "topic_changes", "workers")
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--seeds", type=int, default=1, help="number of seeds of each fault scenario")
    group.addoption("--faults", choices=("short", "all", "long"), default="short", help="which fault scenarios run")
    group.addoption("--rows", type=Path, default=None, help="file to which each scenario adds a line of JSON")
    group.addoption(
        "--broken",
        action="store_true",
        help="run each scenario with the deliberate break that it has to find, and expect it to fail",
    )
    group.addoption(
        "--break",
        action="append",
        default=[],
        help="a fault point of tests/faults/points.py or breaks.py, for all workers",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first, and the tests that train: one that starts last would keep one process busy while the others have ended.

    Slow tests have no time limit.
    """
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(0))  # no limit
    items.sort(key=lambda item: item.path.stem not in LONG and item.get_closest_marker("training") is None)


def pytest_collection_finish() -> None:
    """Exclude the imported libraries from garbage collection: there are half a million of their objects."""
    gc.collect()
    gc.freeze()
