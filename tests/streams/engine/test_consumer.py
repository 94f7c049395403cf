"""Records fetched across a rebalance are read again, and never skipped."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.errors import OffsetMetadataTooLargeError
from faust.transport.consumer import Fetcher

from streams.engine.consumer import CHUNK, Consumer
from streams.engine.in_flight import InFlightTracker, Room
from streams.kafka.metadata import DescribedTopic
from tests.records import record

TP = TopicPartition("events", 0)
TOPIC = DescribedTopic(partitions=1, id="of-now")


class Client:
    """The part of aiokafka's client that matters here: a log per partition, and positions that a poll moves."""

    def __init__(self) -> None:
        self.logs: dict[TopicPartition, list[int]] = {}
        self.positions: dict[TopicPartition, int] = {}
        self.end = 10
        self.metadata = ""
        self.permitted = 4096  # characters beside an offset
        self.commits: list[dict[TopicPartition, Any]] = []
        self.value = b"{}"  # of each record
        self._arrived = asyncio.Event()

    def append(self, *offsets: int, tp: TopicPartition = TP) -> None:
        self.logs[tp] = self.logs.get(tp, []) + list(offsets)
        self._arrived.set()

    async def getmany(self, *partitions: TopicPartition, max_records: int, timeout_ms: int = 0) -> dict[Any, list[Any]]:
        """Up to `max_records` of the first partition that has records, as aiokafka does."""
        while not (found := self._drained(partitions, max_records)) and timeout_ms:
            self._arrived.clear()
            await asyncio.wait_for(self._arrived.wait(), timeout_ms / 1000)
        return found

    def _drained(self, partitions: tuple[TopicPartition, ...], count: int) -> dict[Any, list[Any]]:
        for tp in partitions:
            if found := [offset for offset in self.logs.get(tp, []) if offset >= self.positions.get(tp, 0)][:count]:
                self.positions[tp] = found[-1] + 1
                return {tp: [record(tp.topic, tp.partition, offset, value=self.value) for offset in found]}
        return {}

    @property
    def _coordinator(self) -> "Client":
        return self

    async def fetch_committed_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, Any]:
        await asyncio.sleep(0)
        return dict.fromkeys(partitions, OffsetAndMetadata(3, self.metadata))

    async def commit(self, offsets: dict[TopicPartition, Any]) -> None:
        if any(len(one.metadata) > self.permitted for one in offsets.values()):
            raise OffsetMetadataTooLargeError
        self.commits.append(offsets)

    def assignment(self) -> set[TopicPartition]:
        return {TP}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0, 1}

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.end)

    async def position(self, tp: TopicPartition) -> int:
        return self.positions.get(tp, 0)

    async def seek_to_beginning(self, tp: TopicPartition) -> None:
        self.positions[tp] = 0

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.positions[tp] = offset


ROOM = Room(10, 10**6)


async def poll(consumer: Any, generation: int, rooms: dict[TopicPartition, Room] | None = None) -> Any:
    """The offsets that a poll returns, by partition, and the positions."""
    found, positions = await consumer._poll(generation, rooms or {TP: ROOM}, 1)
    return {tp: [one.offset for one in records] for tp, records in found.items()}, positions


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Any:
    made: Any = Consumer.__new__(Consumer)
    made.generation = 1
    made._polling = None
    made.reading = None
    made.app = SimpleNamespace(kafka={}, reads=TP.topic)
    monkeypatch.setattr(Consumer, "_client", Client())
    return made


async def test_a_poll_of_an_earlier_generation_takes_no_record_of_the_next(consumer: Any) -> None:
    stale = asyncio.create_task(poll(consumer, 1))
    await asyncio.sleep(0)
    consumer.generation = 2  # the partitions are revoked, and assigned again
    assert await consumer._seek_to_committed(TOPIC) == {TP: 3}
    consumer._client.append(3, 4)

    assert await stale == ({}, {})
    assert await poll(consumer, 2) == ({TP: [3, 4]}, {TP: 5})


async def test_a_poll_of_an_earlier_generation_does_not_start(consumer: Any) -> None:
    consumer._client.append(0)
    consumer.generation = 2
    assert await poll(consumer, 1) == ({}, {})
    assert consumer._client.positions == {}


async def test_a_poll_returns_the_records_and_the_position(consumer: Any) -> None:
    polling = asyncio.create_task(poll(consumer, 1))
    await asyncio.sleep(0)
    consumer._client.append(0, 1)
    assert await polling == ({TP: [0, 1]}, {TP: 2})


async def test_a_long_backlog_of_one_partition_leaves_room_for_the_others(consumer: Any) -> None:
    other = TopicPartition("events", 1)
    consumer._client.append(*range(100))
    consumer._client.append(7, 8, tp=other)
    polled = {TP: [0, 1, 2], other: [7, 8]}
    assert await poll(consumer, 1, {TP: Room(3, 10**6), other: Room(3, 10**6)}) == (polled, {TP: 3, other: 9})


async def test_a_poll_takes_no_more_bytes_than_there_is_room_for(consumer: Any) -> None:
    """Only after the records are there their size is known, so some may come that do not fit."""
    consumer._client.value = bytes(100_000)
    consumer._client.append(*range(1000))
    found, _ = await poll(consumer, 1, {TP: Room(1000, 10**6)})
    assert len(found[TP]) == CHUNK
    assert (await poll(consumer, 1, {TP: Room(1000, 1)}))[0] == {TP: list(range(CHUNK, 2 * CHUNK))}


async def test_the_partitions_of_a_poll_share_its_bytes(consumer: Any) -> None:
    """Each may exceed its own room by a few records, but not all of them."""
    others = [TopicPartition("events", number) for number in range(50)]
    consumer._client.value = bytes(100_000)
    for tp in others:
        consumer._client.append(*range(100), tp=tp)
    found, _ = await poll(consumer, 1, dict.fromkeys(others, Room(100, 10**5)))
    assert sum(map(len, found.values())) < 50 + CHUNK


async def test_small_records_fill_the_room_in_one_poll(consumer: Any) -> None:
    consumer._client.append(*range(1000))
    found, positions = await poll(consumer, 1, {TP: Room(300, 10**6)})
    assert found == {TP: list(range(300))}
    assert positions == {TP: 300}


@pytest.mark.parametrize(("end", "position"), [(2, 0), (3, 3)], ids=["re-created", "behind an open transaction"])
async def test_a_topic_that_ends_before_the_committed_offset_is_read_from_its_start(
    consumer: Any, monkeypatch: pytest.MonkeyPatch, end: int, position: int
) -> None:
    """The topic was truncated or re-created, unless only its committed records end there. aiokafka would seek silently."""

    async def high_watermarks(kafka: object, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, end)

    monkeypatch.setattr("streams.engine.consumer.high_watermarks", high_watermarks)
    consumer._client.end = 2
    assert await consumer._seek_to_committed(TOPIC) == {TP: position}


OLD, NEW, NO_ID = (DescribedTopic(1, name) for name in ("of-before", "of-now", ""))


@pytest.mark.parametrize(
    ("metadata", "seen", "topic", "position"),
    [
        ("topic-id=of-now", None, NEW, 3),
        ("topic-id=of-before", None, NEW, 0),
        ("topic-id=of-now", OLD, NEW, 3),
        ("", None, NEW, 3),
        ("", NEW, NEW, 3),
        ("", OLD, NEW, 0),
        ("of another tool", None, NEW, 3),
        ("says={} topic-id=of-now", None, NEW, 3),
        ("says={} topic-id=of-before", None, NEW, 0),
        ("topic-id=of-before", None, NO_ID, 3),
    ],
    ids=[
        "of this topic",
        "of the topic before it",
        "of this topic, by another worker",
        "by an earlier version",
        "by an earlier version, and the topic is the same",
        "by an earlier version, and the topic is another",
        "by another tool",
        "of this topic, with a remark",
        "of the topic before it, with a remark",
        "the broker has no ids",
    ],
)
async def test_an_offset_of_an_earlier_topic_of_this_name_does_not_count(
    consumer: Any, metadata: str, seen: DescribedTopic | None, topic: DescribedTopic, position: int
) -> None:
    consumer._client.metadata = metadata
    consumer.reading = seen
    assert await consumer._seek_to_committed(topic) == {TP: position}
    assert consumer.reading == topic


async def test_an_offset_without_the_id_of_the_topic_gets_it_at_the_start(consumer: Any) -> None:
    """So that a topic that is created again while no worker runs is noticed, even if no event came in between."""
    await consumer._seek_to_committed(NEW)
    assert consumer._client.commits == [{TP: OffsetAndMetadata(3, "topic-id=of-now")}]
    consumer._client.metadata = "topic-id=of-now"
    await consumer._seek_to_committed(NEW)
    assert len(consumer._client.commits) == 1


async def test_an_assigned_partition_that_the_broker_did_not_name_when_reading_began_is_unread(consumer: Any) -> None:
    """A broker may answer before it knows a new topic. Nobody would read the partition, and the lag would be 0."""
    consumer.app.in_flight = InFlightTracker(10)
    consumer.app.in_flight.begin({})
    assert consumer.unread() == {TP}
    consumer.app.in_flight.begin({TP: 3})
    assert consumer.unread() == set()


OTHER = TopicPartition("events", 1)


@pytest.fixture
def committing(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A consumer that has finished an event of one of its two partitions."""

    async def here(self: object, work: Any) -> Any:
        return await work

    monkeypatch.setattr(Consumer, "_in_thread", here)
    tracker = consumer.app.in_flight = InFlightTracker(10)
    consumer.app.remark = lambda: ""
    consumer.reading, consumer.commits, consumer._remark = TOPIC, 0, ""
    tracker.begin({TP: 3, OTHER: 7})
    tracker.advance(TP, 4)
    return consumer


async def test_a_remark_stands_beside_all_offsets_once_and_is_taken_back(committing: Any) -> None:
    assert await committing.force_commit()
    committing.app.remark = lambda: "says={} "
    assert await committing.force_commit()
    assert not await committing.force_commit(), "nothing is new"
    committing.app.in_flight.advance(OTHER, 9)
    assert await committing.force_commit()
    committing.app.remark = lambda: ""
    assert await committing.force_commit()
    mark, said = "topic-id=of-now", "says={} topic-id=of-now"
    assert committing._client.commits == [
        {TP: OffsetAndMetadata(4, mark)},
        {TP: OffsetAndMetadata(4, said), OTHER: OffsetAndMetadata(7, said)},
        {OTHER: OffsetAndMetadata(9, said)},
        {TP: OffsetAndMetadata(4, mark), OTHER: OffsetAndMetadata(9, mark)},
    ]


async def test_a_remark_never_passes_an_event_that_is_not_finished(committing: Any) -> None:
    committing.app.in_flight.put(OTHER, [record(OTHER.topic, OTHER.partition, offset) for offset in (7, 8)])
    _, second = await committing.app.in_flight.take(2)
    second.finish()
    committing.app.remark = lambda: "says={} "
    await committing.force_commit()
    assert committing._client.commits[-1][OTHER].offset == 7


async def test_a_broker_that_permits_no_remark_gets_offsets_without_one(committing: Any) -> None:
    committing._client.permitted = len("topic-id=of-now")
    committing.app.remark = lambda: "says={} "
    assert await committing.force_commit()
    assert committing._client.commits[-1][TP] == OffsetAndMetadata(4, "topic-id=of-now")
    assert committing.app.remark() == ""


async def test_a_remark_of_the_worker_before_goes_when_reading_begins(consumer: Any) -> None:
    consumer._client.metadata = "says={} topic-id=of-now"
    assert await consumer._seek_to_committed(NEW) == {TP: 3}
    assert consumer._client.commits == [{TP: OffsetAndMetadata(3, "topic-id=of-now")}]


async def test_a_fetcher_that_is_stopped_amid_a_rebalance_does_not_crash(
    consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when two workers are stopped at the same time: the second one learns that the first has left while it stops itself."""
    monkeypatch.setattr(Consumer, "should_stop", False)
    consumer.can_resume_flow = asyncio.Event()  # never set: the flow is stopped
    app: Any = SimpleNamespace(consumer=consumer, rebalancing=True, in_flight=InFlightTracker(1))
    consumer.app, fetcher = app, Fetcher(app)
    await fetcher.start()
    await asyncio.sleep(0)
    await fetcher.stop()
    assert fetcher.crash_reason is None
