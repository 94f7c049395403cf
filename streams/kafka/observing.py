"""Asks the brokers how far the groups are, without joining any. One connection to each broker, and few requests.

One look takes one request for metadata, three or four to each broker (first offsets, ends, times of first records), whatever
the number of partitions, and two to the coordinator of each group. What a broker does not answer is left out, and is unknown.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy
from aiokafka.structs import OffsetAndMetadata

from streams.exceptions import BrokerUnreachable
from streams.kafka.fetched import first_time
from streams.kafka.groups import REBALANCING, GroupMember, GroupUse, describe_group
from streams.kafka.lag import GroupLag, Owner, owners_of, partition_lags, positions, unfinished
from streams.kafka.metadata import DescribedTopic, ask, connection_broke, topics_now
from streams.kafka.remarks import Remark, remark_in
from streams.settings import Settings

COMMITTED = 1  # read_committed, as the protocol numbers it
TIMEOUT = 5.0  # seconds for the answer of a broker
# Bytes of a partition, and of a whole response, that are asked for to see one record. A batch of a producer with Kafka's default
# size fits. What does not fit is asked for once more.
USUAL, LARGE = (20 * 1024, 512 * 1024), (1024**2, 2 * 1024**2)

Ends = dict[TopicPartition, int]
_Parts = dict[str, list[tuple[int, ...]]]  # of a request, by topic: partition, and what is asked of it


@dataclass(frozen=True)
class Look:
    """What the brokers say at one moment. What one of them does not say is left out."""

    at: int  # milliseconds since the epoch
    topics: Mapping[str, DescribedTopic]
    starts: Ends
    ends: Ends  # of committed records
    groups: list[GroupLag]
    members: Mapping[str, list[GroupMember]]  # by group
    remarks: Mapping[TopicPartition, Remark] = field(
        default_factory=dict[TopicPartition, Remark]
    )  # beside committed offsets


@dataclass(frozen=True)
class _Group:
    """What the coordinator of a group says."""

    committed: Mapping[TopicPartition, OffsetAndMetadata] | None = None  # None if it does not answer
    state: str = ""
    members: list[GroupMember] = field(default_factory=list[GroupMember])
    owners: Mapping[TopicPartition, Owner] = field(default_factory=dict[TopicPartition, Owner])  # none in a rebalance


class Observer:
    """Looks at topics and groups for as long as it is open. An asynchronous context manager; opening it raises BrokerUnreachable."""

    def __init__(self, settings: Settings) -> None:
        """Does not connect yet."""
        self._broker = settings.broker
        self._admin = AIOKafkaAdminClient(**settings.aiokafka(), request_timeout_ms=int(TIMEOUT * 1000))
        self._coordinators: dict[str, int] = {}  # id of the broker, by group
        self._times: dict[TopicPartition, tuple[int, int]] = {}  # position, and the time of the record there

    async def __aenter__(self) -> Self:
        try:
            await self._admin.start()
        except KafkaError as error:
            await self._admin.close()
            raise BrokerUnreachable(f"no broker at {self._broker} (TASTESTREAM_BROKER): {error}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()

    async def look(self, uses: Sequence[GroupUse], others: Iterable[str] = (), *, rounds: int = 1) -> Look:
        """Look once.

        Args:
            uses: the groups.
            others: further topics whose ends are wanted.
            rounds: how often a broker may be asked for times of first records. Batches may be too large for one response; what is
                left is unknown.

        Raises:
            KafkaError: no broker says which topics there are.
        """
        topics = await topics_now(self._admin._client, [*(use.topic for use in uses), *others])
        (starts, ends), groups = await asyncio.gather(
            asyncio.gather(
                self._offsets(topics, OffsetResetStrategy.EARLIEST), self._offsets(topics, OffsetResetStrategy.LATEST)
            ),
            asyncio.gather(*(self._group(use, topics) for use in uses)),
        )
        at: dict[str, dict[TopicPartition, int]] = {}  # positions by group
        events: dict[str, dict[TopicPartition, int]] = {}
        first: dict[TopicPartition, int] = {}
        for use, group in zip(uses, groups, strict=True):
            own = {tp: start for tp, start in starts.items() if tp.topic == use.topic}
            at[use.group] = {}
            if group.committed is not None and use.topic in topics:
                at[use.group] = positions(topics[use.topic], group.committed, own)
            events[use.group] = unfinished(at[use.group], ends)
            first |= {tp: at[use.group][tp] for tp, count in events[use.group].items() if count}
        times = await self._first_times(topics, first, rounds)
        now = int(time.time() * 1000)
        lags = [
            GroupLag(
                topic=use.topic,
                group=use.group,
                state=found.state,
                members=len(found.members),
                partitions=partition_lags(
                    partitions_of(use.topic, topics), at[use.group], events[use.group], times, found.owners, now=now
                ),
            )
            for use, found in zip(uses, groups, strict=True)
        ]
        return Look(
            now,
            topics,
            starts,
            ends,
            lags,
            {use.group: found.members for use, found in zip(uses, groups, strict=True)},
            {
                tp: remark
                for group in groups
                for tp, (_, text) in (group.committed or {}).items()
                if (remark := remark_in(text)) is not None
            },
        )

    async def offsets_at(self, topics: Mapping[str, DescribedTopic], time: int) -> Ends:
        """The first record of each partition that was sent at a time (milliseconds) or later: its offset; -1 if there is none."""
        return await self._offsets(topics, time)

    async def _first_times(
        self, topics: Mapping[str, DescribedTopic], at: Mapping[TopicPartition, int], rounds: int
    ) -> dict[TopicPartition, int]:
        """When the first records at or behind some offsets were sent, milliseconds since the epoch, where that is known.

        A partition whose offset is the same as at the last look is not asked for again.
        """
        known = {tp: found for tp, found in self._times.items() if at.get(tp) == found[0]}
        for number in range(rounds):
            left = {tp: offset for tp, offset in at.items() if tp not in known}
            if not left:
                break
            fetched = await self.fetch(topics, left, *(LARGE if number else USUAL))
            found = {tp: first_time(data, at[tp]) for tp, data in fetched.items()}
            new = {tp: (at[tp], moment) for tp, moment in found.items() if moment is not None}
            if not new:
                break
            known |= new
        self._times = known
        return {tp: moment for tp, (_, moment) in known.items()}

    async def fetch(
        self,
        topics: Mapping[str, DescribedTopic],
        at: Mapping[TopicPartition, int],
        of_partition: int,
        total: int,
    ) -> dict[TopicPartition, bytes]:
        """Batches of records at some offsets, where a leader answers: committed ones, without waiting for any.

        Args:
            topics: as they are now.
            at: offsets.
            of_partition: bytes of each partition at most. The first batch of a response is sent whole, however large. Of a
                partition whose first batch does not fit, nothing is sent.
            total: bytes of a response at most.
        """

        def request(wanted: _Parts) -> FetchRequest:
            return FetchRequest(0, 0, total, COMMITTED, [*wanted.items()])  # pyright: ignore[reportArgumentType] -- triples

        parts = {tp: (tp.partition, offset, of_partition) for tp, offset in at.items()}
        answers = await self._ask_leaders(topics, parts, request)
        return {
            TopicPartition(topic, one[0]): one[-1]
            for answer in answers
            for topic, partitions in answer.topics
            for one in partitions
            if not one[1] and one[-1]
        }

    async def _offsets(self, topics: Mapping[str, DescribedTopic], which: int) -> Ends:
        def request(wanted: _Parts) -> OffsetRequest:
            return OffsetRequest(-1, COMMITTED, [*wanted.items()])  # pyright: ignore[reportArgumentType] -- pairs

        parts = {tp: (tp.partition, which) for name in topics for tp in partitions_of(name, topics)}
        answers = await self._ask_leaders(topics, parts, request)
        return {
            TopicPartition(topic, partition): offset
            for answer in answers
            for topic, partitions in answer.topics
            for partition, error, _, offset in partitions
            if not error
        }

    async def _ask_leaders(
        self,
        topics: Mapping[str, DescribedTopic],
        parts: Mapping[TopicPartition, tuple[int, ...]],
        request: Callable[[_Parts], Any],
    ) -> list[Any]:
        """Send one request to each leader, with the parts of its partitions. Returns the answers of those that answer."""
        by_leader: dict[int, _Parts] = {}
        for tp, part in parts.items():
            topic = topics.get(tp.topic)
            leader = topic.leaders[tp.partition] if topic and tp.partition < topic.partitions else -1
            if leader >= 0:
                by_leader.setdefault(leader, {}).setdefault(tp.topic, []).append(part)
        found = await asyncio.gather(*(self._answer(request(own), node) for node, own in by_leader.items()))
        return [answer for answer in found if answer is not None]

    async def _answer(self, request: Any, node: int) -> Any:
        """The answer of a broker; None if it does not answer."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return await ask(self._admin._client, request, node)
        except (KafkaError, TimeoutError):
            return None

    async def _group(self, use: GroupUse, topics: Mapping[str, DescribedTopic]) -> _Group:
        """The offsets that a group committed, and its members."""
        wanted = partitions_of(use.topic, topics)
        if not wanted:
            return _Group()
        try:
            async with asyncio.timeout(TIMEOUT):
                coordinator = self._coordinators.pop(use.group, None)
                if coordinator is None:
                    coordinator = await self._admin.find_coordinator(use.group)
                committed = await self._admin.list_consumer_group_offsets(use.group, coordinator, wanted)
                state, members = await describe_group(self._admin, use.group, coordinator)
        except asyncio.CancelledError:
            if not connection_broke():
                raise
            return _Group()
        except (KafkaError, TimeoutError):
            return _Group()
        self._coordinators[use.group] = coordinator  # until it is another broker
        owners = owners_of((Owner(one.client, one.host.removeprefix("/"), one.id), one.assignment) for one in members)
        return _Group(committed, state, members, {} if state in REBALANCING else owners)


def partitions_of(name: str, topics: Mapping[str, DescribedTopic]) -> list[TopicPartition]:
    """All partitions of a topic; none if it does not exist."""
    return [TopicPartition(name, number) for number in range(topics[name].partitions)] if name in topics else []
