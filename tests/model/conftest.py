"""Fixture of the tests of `model/`: the shipped bundle."""

import pytest

from model.bundle import Bundle


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return Bundle.load()
