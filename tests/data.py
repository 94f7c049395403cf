"""Data sets that are not part of the repository. Tests that need them are skipped if they are missing."""

import os
from pathlib import Path

import pytest

from streams.demo.catalogue import CATALOGUE

DATA = Path(os.environ.get("TEST_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))


def needs(*parts: str) -> pytest.MarkDecorator:
    """Skip a test if this part of the data is missing."""
    missing = [part for part in parts if not (DATA / part).exists()]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)} in {DATA} (TEST_DATA_DIR)")


def photos() -> Path:
    """A folder of JPEG files for load tests: thousands of a shop if they are available, else those of the demo."""
    shop = DATA / "hm" / "images"
    return shop if shop.exists() else CATALOGUE
