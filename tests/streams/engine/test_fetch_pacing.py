"""Fetch requests keep their interval, and nothing else waits."""

from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest

from streams.engine.fetch_pacing import pace_fetches

INTERVAL = 0.1  # seconds
SOON = 0.05


class Client:
    """Records what was sent where, and when."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, int, str]] = []

    async def send(self, node_id: int, request: Any, *, group: str = "default") -> str:
        self.sent.append((monotonic(), node_id, group))
        return f"answer to {type(request).__name__}"


@pytest.fixture
def client() -> Any:
    made = Client()
    consumer: Any = SimpleNamespace(_client=made)
    pace_fetches(consumer, INTERVAL)
    return made


FETCH = FetchRequest(50, 1, 1024, 0, [("events", [(0, 0, 1024)])])


async def test_a_second_fetch_request_waits_for_the_interval(client: Any) -> None:
    assert await client.send(1, FETCH) == await client.send(1, FETCH) == "answer to FetchRequest"
    (first, *_), (second, *_) = client.sent
    assert INTERVAL - 0.005 <= second - first < INTERVAL + SOON


async def test_after_a_pause_a_fetch_request_leaves_at_once(client: Any) -> None:
    await client.send(1, FETCH)
    before = monotonic()
    while monotonic() < before + INTERVAL:  # nothing else runs in this loop
        pass
    before = monotonic()
    await client.send(1, FETCH)
    assert client.sent[-1][0] - before < SOON


async def test_other_brokers_and_other_requests_do_not_wait(client: Any) -> None:
    before = monotonic()
    await client.send(1, FETCH)
    await client.send(2, FETCH)
    await client.send(1, "heartbeat", group="coordination")
    assert client.sent[-1][0] - before < SOON
    assert [(node, group) for _, node, group in client.sent] == [(1, "default"), (2, "default"), (1, "coordination")]
