"""Options that have to be known whichever part of the tests is run."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How fast a machine that others use as well makes up its examples says nothing about the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--seeds", type=int, default=1, help="how many seeds each fault scenario is played with")
    group.addoption(
        "--faults", choices=("short", "all", "long"), default="short", help="which fault scenarios are played"
    )
    group.addoption("--rows", type=Path, default=None, help="a file to add a line to for each scenario, as JSON")
    group.addoption(
        "--broken", action="store_true", help="play each scenario with the break that it has to find, and expect it to"
    )
    group.addoption(
        "--break",
        action="append",
        default=[],
        help="a fault point of tests/faults/points.py or breaks.py for all workers",
    )
