"""Batches as bytes: sent to the broker as they are, and changed in the log of a stopped broker."""

import struct
from collections.abc import Callable, Iterator

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest

from tests.kafka.broker import KafkaBroker


async def produce_raw(broker: KafkaBroker, tp: TopicPartition, *batches: bytes) -> list[int]:
    """Send batches as they are. Returns the base offset of each; an error code of the broker fails."""
    client = AIOKafkaClient(bootstrap_servers=broker.bootstrap, request_timeout_ms=120_000)
    await client.bootstrap()
    try:
        await client.set_topics([tp.topic])
        node = client.cluster.leader_for_partition(tp)
        assert node is not None
        offsets: list[int] = []
        for batch in batches:
            request = ProduceRequest(None, -1, 60_000, [(tp.topic, [(tp.partition, batch)])])
            response = await client.send(node, request)
            [(_, [(_, error, offset, *_)])] = response.topics
            assert error == 0, f"the broker answered with error {error}"
            offsets.append(offset)
        return offsets
    finally:
        await client.close()


def edit_log(broker: KafkaBroker, tp: TopicPartition, change: Callable[[bytes], bytes], *, offset: int = 0) -> int:
    """Change the batch at or behind `offset` in the log of a stopped broker. The size stays. Returns the batch's base offset.

    A broker that was stopped cleanly does not check its log when it starts, and it never checks what it serves.
    """
    assert not broker.running
    for path in sorted((broker.folder / "data" / f"{tp.topic}-{tp.partition}").glob("*.log")):
        log = bytearray(path.read_bytes())
        for start, end in _frames(log):
            (base,) = struct.unpack_from(">q", log, start)
            if base >= offset:
                changed = change(bytes(log[start:end]))
                assert len(changed) == end - start
                log[start:end] = changed
                path.write_bytes(log)
                return base
    raise AssertionError(f"{tp} has no batch at {offset}")


def _frames(log: bytes | bytearray) -> Iterator[tuple[int, int]]:
    start = 0
    while start + 12 <= len(log):
        (length,) = struct.unpack_from(">i", log, start + 8)
        if length <= 0:  # the rest of the file is allocated and not used
            return
        yield start, start + 12 + length
        start += 12 + length
