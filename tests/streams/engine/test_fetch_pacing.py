"""Fetch requests keep their interval, and nothing else waits."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest

from streams.engine.fetch_pacing import pace_fetches

INTERVAL = 0.1  # seconds
FETCH = FetchRequest(50, 1, 1024, 0, [("events", [(0, 0, 1024)])])


class Client:
    """Records what was sent where, and when, by a clock that only its own sleep moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sent: list[tuple[float, int, str]] = []

    async def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.0)

    async def send(self, node_id: int, request: Any, *, group: str = "default") -> str:
        self.sent.append((self.now, node_id, group))
        return f"answer to {type(request).__name__}"


@pytest.fixture
def client() -> Any:
    made = Client()
    consumer: Any = SimpleNamespace(_client=made)
    pace_fetches(consumer, INTERVAL, clock=lambda: made.now, sleep=made.sleep)
    return made


async def test_a_second_fetch_request_waits_for_the_interval(client: Any) -> None:
    assert await client.send(1, FETCH) == await client.send(1, FETCH) == "answer to FetchRequest"
    assert [at for at, _, _ in client.sent] == pytest.approx([100.0, 100.0 + INTERVAL])


async def test_the_second_request_waits_only_for_the_rest_of_the_interval(client: Any) -> None:
    await client.send(1, FETCH)
    client.now += INTERVAL / 4
    await client.send(1, FETCH)
    assert client.sent[-1][0] == pytest.approx(100.0 + INTERVAL)


async def test_after_a_pause_a_fetch_request_leaves_at_once(client: Any) -> None:
    await client.send(1, FETCH)
    client.now += 2 * INTERVAL
    await client.send(1, FETCH)
    assert client.sent[-1][0] == pytest.approx(100.0 + 2 * INTERVAL)


async def test_other_brokers_and_other_requests_do_not_wait(client: Any) -> None:
    await client.send(1, FETCH)
    await client.send(2, FETCH)
    await client.send(1, "heartbeat", group="coordination")
    assert client.sent == [(100.0, 1, "default"), (100.0, 2, "default"), (100.0, 1, "coordination")]
