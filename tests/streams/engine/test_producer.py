"""The guard is asked before every request, and records sent together go out in few batches, in order."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch

from streams.engine.producer import Producer, guard_client
from streams.kafka.records import Outgoing


async def test_the_guard_is_asked_before_each_request_and_can_stop_it() -> None:
    sent: list[int] = []
    allowed = [True]

    async def send(node: int, request: object) -> str:
        sent.append(node)
        return "answer"

    def before_send() -> None:
        if not allowed[0]:
            raise SystemExit

    producer: Any = SimpleNamespace(client=SimpleNamespace(send=send))
    guard_client(producer, before_send)

    assert await producer.client.send(1, "request") == "answer"
    allowed[0] = False
    with pytest.raises(SystemExit):
        await producer.client.send(2, "request")
    assert sent == [1]


class Client:
    """The part of aiokafka's producer that matters here, with its real batches."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self.logs: dict[int, list[tuple[bytes | None, bytes | None, Any]]] = {0: [(b"earlier", b"", [])] * 5, 1: []}
        self.batches = 0
        self.refused = -1  # number of the batch to refuse
        self.led = {0, 1}
        self.client = SimpleNamespace(cluster=SimpleNamespace(available_partitions_for_topic=lambda _: self.led))  # pyright: ignore[reportUnknownLambdaType]

    async def partitions_for(self, topic: str) -> set[int]:
        assert topic == "bags"
        return {1, 0}

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(self._batch_size, 0)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> "asyncio.Future[Any]":
        assert topic == "bags"
        assert batch.closed()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.batches == self.refused:
            answer.set_exception(KafkaTimeoutError())
        else:
            answer.set_result(SimpleNamespace(offset=len(self.logs[partition])))
            self.logs[partition] += [(one.key, one.value, one.headers) for one in DefaultRecordBatch(batch._build())]
        self.batches += 1
        return answer


def producer_of(client: Client, monkeypatch: pytest.MonkeyPatch) -> Producer:
    made = Producer.__new__(Producer)
    monkeypatch.setattr(made, "_ensure_producer", lambda: client)
    return made


def records(count: int) -> list[Outgoing]:
    return [(f"user-{n}".encode(), b"%d" % n * 50, [("id", b"%d" % n)] if n % 2 else ()) for n in range(count)]


async def test_records_of_one_partition_are_written_in_order_however_many_batches_they_fill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, outgoing = Client(1000), records(100)
    ends = await producer_of(client, monkeypatch).send_batches("bags", outgoing, partition=0)
    assert client.logs[0][5:] == [(key, value, list(headers)) for key, value, headers in outgoing]
    assert ends == {0: 104}
    assert 5 < client.batches < 50


async def test_a_record_larger_than_a_batch_gets_a_batch_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(100)
    assert await producer_of(client, monkeypatch).send_batches("bags", [(b"key", b"long" * 100, ())], partition=1) == {
        1: 0
    }
    assert client.batches == 1


async def test_keys_choose_partitions_as_in_every_kafka_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hashes of these keys are Kafka's own: -790332482, 479470107, -973932308 and -58897971."""
    keys = [b"foobar", b"abc", b"21", b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"]
    client = Client(100_000)
    ends = await producer_of(client, monkeypatch).send_batches("bags", [(key, b"", ()) for key in keys])
    assert [key for key, _, _ in client.logs[0][5:]] == [b"foobar", b"21"]
    assert [key for key, _, _ in client.logs[1]] == [keys[1], keys[3]]
    assert ends == {0: 6, 1: 1}
    assert client.batches == 2


async def test_a_record_without_a_key_goes_to_a_partition_with_a_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(1000)
    client.led = {1}
    nothing: list[Outgoing] = [(None, None, ())] * 20
    assert await producer_of(client, monkeypatch).send_batches("bags", nothing) == {1: 19}


async def test_one_refused_batch_fails_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(1000)
    client.refused = 3
    with pytest.raises(KafkaTimeoutError):
        await producer_of(client, monkeypatch).send_batches("bags", records(100), partition=0)


async def test_sending_no_records_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The topic may not exist: asking for its metadata would block."""
    client = Client(1000)
    assert await producer_of(client, monkeypatch).send_batches("nowhere", []) == {}
    assert client.batches == 0
