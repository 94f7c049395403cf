"""The memory of a worker is bounded in bytes, whatever the size of the records that wait for it."""

import json
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaProducer

from tests.kafka.system import System
from tests.usage import peak_resident_mb, reset_peak, resident_mb

LARGE, COUNT = 900_000, 400  # bytes and number of records: 360 MB
LIMIT_MB = 400


def large_events() -> Iterator[bytes]:
    """Events that are refused only after they were read."""
    for number in range(COUNT):
        event = {"user_id": f"user-{number}", "item_id": "thing", "type": "return", "timestamp": 1_700_000_000_000}
        yield json.dumps({**event, "note": "x" * LARGE}).encode()


@pytest.mark.slow
@pytest.mark.parametrize("codec", [None, "gzip"])
async def test_a_backlog_of_large_records_does_not_fill_the_memory(system: System, codec: str | None) -> None:
    assert system.command("topics").returncode == 0
    with system.worker("embed"):
        pid = system.worker_pid("embed")
        await system.produce([next(large_events())])
        await system.settled("embed")
    async with AIOKafkaProducer(
        bootstrap_servers=system.broker.bootstrap, compression_type=codec, max_request_size=2**30, linger_ms=200
    ) as producer:
        for delivery in [
            await producer.send("user-interactions", value, key=b"%d" % number)
            for number, value in enumerate(large_events())
        ]:
            await delivery
    with system.worker("embed"):
        pid = system.worker_pid("embed")
        reset_peak(pid)
        before = resident_mb(pid)
        await system.settled("embed", timeout=120)
        peak = peak_resident_mb(pid)
    print(f"{codec}: {before:.0f} MB, then at most {peak:.0f} MB")  # noqa: T201
    assert peak < LIMIT_MB
