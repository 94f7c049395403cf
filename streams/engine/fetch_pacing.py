"""When a consumer's client asks a broker for records: at most once in an interval.

aiokafka asks for the next records as soon as it has some. Under a load that leaves processors idle it would so have ever
more answers with ever fewer records, each of which costs broker and worker as much as a large one. Idle, nothing waits: the
question that is open has been asked long before.

The wait comes before the question, not after the answer, so that what is answered is new.
"""

import asyncio
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.fetch import FetchRequest


def pace_fetches(consumer: AIOKafkaConsumer, interval: float) -> None:
    """Have at least `interval` seconds between two of the consumer's requests for records to the same broker."""
    client: Any = consumer._client
    send = client.send
    free: dict[int, float] = {}  # when the next request may leave, by broker

    async def paced(node_id: int, request: Any, **options: Any) -> Any:
        if isinstance(request, FetchRequest):
            await asyncio.sleep(free.get(node_id, 0.0) - monotonic())
            free[node_id] = monotonic() + interval
        return await send(node_id, request, **options)

    client.send = paced
