from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.streams.serve.catalogue.made import Made


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    made = Made(tmp_path / "catalogue")
    yield made
    made.store.close()
