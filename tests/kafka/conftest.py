"""One real Kafka for each test module, so that no module sees what another one left on the topics."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.broker import KafkaBroker, KafkaUnavailable
from tests.kafka.system import System


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A broker and a data folder; the test starts the workers."""
    folder: Path = tmp_path_factory.mktemp("system")
    try:
        broker = KafkaBroker(folder / "kafka")
        broker.start()
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka for the test: {error}")
    try:
        yield System(broker, folder)
    finally:
        broker.stop()
