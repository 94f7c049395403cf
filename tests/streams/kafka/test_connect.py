"""A broker that answers before it is ready is waited for."""

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from aiokafka.errors import ClusterAuthorizationFailedError, KafkaError

from streams.exceptions import BrokerUnreachable, TopicsError
from streams.kafka.topics import connected, partitions_of
from streams.settings import read_settings

API_VERSIONS, METADATA = 18, 3


class StartingBroker:
    """Knows two requests, in version 0. It lists itself as a broker from the second question on, or never."""

    def __init__(self, *, ready: bool) -> None:
        self.ready = ready
        self.port = 0
        self.asked = 0
        self.gone = 1_000  # questions that it answers

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while size := await reader.read(4):
            request = await reader.readexactly(int.from_bytes(size))
            key, _, correlation = struct.unpack_from(">hhi", request)
            if key == METADATA and self.asked == self.gone:
                break
            body = (
                self.metadata() if key == METADATA else struct.pack(">hi6h", 0, 2, API_VERSIONS, 0, 0, METADATA, 0, 0)
            )
            writer.write(struct.pack(">ii", 4 + len(body), correlation) + body)
        writer.close()

    def metadata(self) -> bytes:
        self.asked += 1
        if not self.ready or self.asked == 1:
            return struct.pack(">ii", 0, 0)  # neither brokers nor topics
        host = b"127.0.0.1"
        return struct.pack(f">iih{len(host)}sii", 1, 7, len(host), host, self.port, 0)


@asynccontextmanager
async def starting(*, ready: bool) -> AsyncGenerator[StartingBroker]:
    broker = StartingBroker(ready=ready)
    async with await asyncio.start_server(broker.serve, "127.0.0.1", 0) as server:
        broker.port = server.sockets[0].getsockname()[1]
        yield broker


async def test_a_broker_that_lists_none_yet_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        starting(ready=True) as broker,
        connected(read_settings(broker=f"127.0.0.1:{broker.port}", broker_timeout=60)) as admin,
    ):
        assert admin._client.get_random_node() == 7
    assert "yet; trying for another" in caplog.text


async def test_a_broker_that_never_lists_one_is_unreachable() -> None:
    async with starting(ready=False) as broker:
        with pytest.raises(BrokerUnreachable, match="none is ready yet"):
            await connected(read_settings(broker=f"127.0.0.1:{broker.port}", broker_timeout=0.5)).__aenter__()


async def test_a_broker_that_goes_away_after_the_connection_is_unreachable() -> None:
    async with starting(ready=True) as broker:
        settings = read_settings(broker=f"127.0.0.1:{broker.port}", broker_timeout=60)
        async with connected(settings) as admin:
            asked = broker.asked
            broker.gone = asked
            with pytest.raises(KafkaError):
                await admin.describe_topics()
        broker.asked, broker.gone = 1, asked
        with pytest.raises(BrokerUnreachable, match="went away"):
            await partitions_of(settings, {})


async def test_what_a_broker_refuses_is_no_broker_that_went_away() -> None:
    async with starting(ready=True) as broker:
        settings = read_settings(broker=f"127.0.0.1:{broker.port}", broker_timeout=60)
        with pytest.raises(TopicsError, match=r"refuses: .*ClusterAuthorizationFailed"):
            async with connected(settings):
                raise ClusterAuthorizationFailedError
