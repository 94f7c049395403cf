"""What the tests of `model/` share: the shipped bundle, and where the data sets are."""

import os
from pathlib import Path

import pytest

from model.bundle import Bundle

REPOSITORY = Path(__file__).parents[2]
DATA = Path(os.environ.get("TASTESTREAM_TEST_DATA", REPOSITORY / ".." / "shared" / "data"))


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="session")
def data() -> Path:
    if not (DATA / "mobilenet").is_dir():
        pytest.skip(f"needs the data sets, and {DATA} has none: set TASTESTREAM_TEST_DATA to their folder")
    return DATA
