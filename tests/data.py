"""The data sets that some tests measure with. They are not part of the repository: such tests skip where it is missing."""

import os
from pathlib import Path

import pytest

from streams.demo.catalogue import CATALOGUE

DATA = Path(os.environ.get("TEST_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))


def needs(*parts: str) -> pytest.MarkDecorator:
    """Skip a test where this part of the data is missing."""
    missing = [part for part in parts if not (DATA / part).exists()]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)} in {DATA} (TEST_DATA_DIR)")


def photos() -> Path:
    """A folder of JPEG files for load: thousands of a shop's where the data is, else the demo's."""
    shop = DATA / "hm" / "images"
    return shop if shop.exists() else CATALOGUE
