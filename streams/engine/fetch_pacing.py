"""Limits how often and how much a consumer fetches: one request per broker in an interval, and a number of bytes.

aiokafka asks for the next records as soon as it has received some. Under a load that leaves processors idle, this leads to
more and more responses with fewer and fewer records, and each response costs broker and worker as much as a large one. An idle
worker loses nothing: its open request was sent long before the next event.

The wait comes before the request, not after the response, so that a response is fresh.

The client holds at most one response of each partition that is not read yet, so a limit per partition bounds all of them. A
batch that is larger than the limit still comes, one in a response: it would block its partition otherwise.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.fetch import FetchRequest

LARGEST_PARTITION_FETCH = 1024**2  # bytes of one partition; more in one response makes no consumer faster
SMALLEST_PARTITION_FETCH = 16 * 1024  # bytes of one partition; some dozens of events


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


def limit_fetches(consumer: AIOKafkaConsumer, max_bytes: int, partitions: int = 1) -> None:
    """Let a consumer hold at most `max_bytes` bytes of so many partitions that are fetched and not read, as Kafka stores them.

    Applies to later requests, so it may be called again for another number of partitions. aiokafka has no setting that can
    change after the start.
    """
    share = min(max(max_bytes // max(partitions, 1), SMALLEST_PARTITION_FETCH), LARGEST_PARTITION_FETCH)
    fetcher: Any = consumer._fetcher
    for one in (consumer, fetcher) if fetcher else (consumer,):  # the fetcher is there after the start
        one._fetch_max_bytes = max_bytes
        one._max_partition_fetch_bytes = share
