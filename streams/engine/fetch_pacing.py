"""Limits fetch requests per broker to one in an interval.

aiokafka asks for the next records as soon as it has received some. Under a load that leaves processors idle, this leads to
more and more responses with fewer and fewer records, and each response costs broker and worker as much as a large one. An idle
worker loses nothing: its open request was sent long before the next event.

The wait comes before the request, not after the response, so that a response is fresh.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.fetch import FetchRequest


def pace_fetches(
    consumer: AIOKafkaConsumer,
    interval: float,
    clock: Callable[[], float] = monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Leave at least `interval` seconds between two fetch requests of the consumer to the same broker."""
    client: Any = consumer._client
    send = client.send
    free: dict[int, float] = {}  # monotonic time at which the next request may leave, by broker

    async def paced(node_id: int, request: Any, **options: Any) -> Any:
        if isinstance(request, FetchRequest):
            await sleep(free.get(node_id, 0.0) - clock())
            free[node_id] = clock() + interval
        return await send(node_id, request, **options)

    client.send = paced
