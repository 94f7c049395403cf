"""Observes a running system: every record that the workers write, with its time of arrival, and samples of the committed offsets.

It reads in a thread and belongs to no consumer group, so the workers are not affected.
"""

import asyncio
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple, Self

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.kafka.reading import read_past_damage
from streams.messages import EmbeddedInteraction, parse_embedded
from streams.profile.rows import fault
from streams.settings.names import BAGS_CHANGELOG, BAGS_TABLE, EMBED_GROUP, PROFILE_GROUP, of_generation
from tests.kafka.system import MAX_BATCH_BYTES, Record

INPUT, EMBEDDED, OUTPUT, LETTERS = (
    "user-interactions", "embedded-interactions", "user-recommendations", "user-interactions-dlq"
)  # fmt: skip
SOURCES = {EMBED_GROUP: INPUT, PROFILE_GROUP: EMBEDDED}  # of the first generation of the internal topics
EVENT_ID_HEADER = "tastestream-event-id"  # of the null after an erasure
SAMPLE_INTERVAL = 0.25  # seconds between two samples of the committed offsets
POLL = 100  # milliseconds that one read waits for records
START_TIMEOUT = 90.0  # seconds


class Output(NamedTuple):
    """One record of `user-recommendations`."""

    arrived: float  # monotonic seconds
    partition: int
    offset: int
    user: str
    event_id: str
    null: bool


class Embedded(NamedTuple):
    """One record of `embedded-interactions`, of any generation. `event` is None if it cannot be parsed."""

    partition: int
    offset: int
    event: EmbeddedInteraction | None
    topic: str = EMBEDDED


class Sample(NamedTuple):
    """The committed offsets of both groups and, read a moment later, the ends of the topics."""

    committed: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]
    at: float  # monotonic seconds

    @property
    def lag(self) -> int:
        """Number of uncommitted events. It can be too high, since the ends are read later."""
        return sum(end - self.committed.get(tp, 0) for tp, end in self.ends.items() if tp.topic in SOURCES.values())


class _Body(msgspec.Struct):
    event_id: str


@dataclass
class Seen:
    """Everything read so far. Lists are in order within each partition."""

    outputs: list[Output] = field(default_factory=list[Output])
    last: dict[str, bytes | None] = field(default_factory=dict[str, bytes | None])  # newest recommendation by user
    embedded: list[Embedded] = field(default_factory=list[Embedded])
    letters: list[Record] = field(default_factory=list[Record])
    changelog: list[Record] = field(default_factory=list[Record])
    later_changelogs: dict[str, list[Record]] = field(default_factory=dict[str, list[Record]])  # by generation's topic
    samples: list[Sample] = field(default_factory=list[Sample])


class Tap:
    """Reads from a `with` block's start to its end. The topics must exist; the broker may go away meanwhile."""

    def __init__(self, bootstrap: str) -> None:
        self.seen = Seen()
        self.latest: Sample | None = None
        self._bootstrap = bootstrap
        self._positions: dict[TopicPartition, int] = {}
        self._later: list[int] = []  # generations of the internal topics that are read as well
        self._open = threading.Event()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._shared: dict[bytes, bytes] = {}
        self._decode = msgspec.json.Decoder(_Body).decode
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = monotonic() + START_TIMEOUT
        while not self._open.wait(POLL / 1000):
            self.check()
            assert monotonic() < deadline, "the tap did not start in time"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def follow(self, generation: int) -> None:
        """Read a later generation of the internal topics as well. Its topics exist, and nothing is on them."""
        self._later.append(generation)

    def _sources(self) -> dict[str, str]:
        return SOURCES | {of_generation(PROFILE_GROUP, one): of_generation(EMBEDDED, one) for one in self._later}

    @property
    def _changelogs(self) -> list[str]:
        return [BAGS_CHANGELOG, *(changelog_of(one) for one in self._later)]

    @property
    def caught_up(self) -> bool:
        """Whether everything up to the latest sample has been read."""
        self.check()
        sample = self.latest
        return sample is not None and all(
            self._positions.get(tp, 0) >= end for tp, end in sample.ends.items() if tp.topic != INPUT
        )

    def check(self) -> None:
        """Raise the exception that made the tap fail, if there is one."""
        if self._failure:
            raise AssertionError("the tap failed") from self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._watch())
        except BaseException as error:  # noqa: BLE001 -- `check` raises it
            self._failure = error

    async def _watch(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._sample())

    async def _read(self) -> None:
        read_past_damage(MAX_BATCH_BYTES)
        consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            read = 0
            takers = {OUTPUT: self._output, LETTERS: self._letter}
            while not self._stop.is_set():
                if read != (read := 1 + len(self._later)):
                    embedded = list(self._sources().values())[1:]
                    takers |= dict.fromkeys(embedded, self._embedded) | dict.fromkeys(self._changelogs, self._row)
                    tps = await self._partitions(*takers)
                    consumer.assign(tps)
                    for tp in tps:
                        consumer.seek(tp, self._positions.get(tp, 0))
                    self._open.set()
                for tp, batch in (await consumer.getmany(timeout_ms=POLL)).items():
                    now = monotonic()
                    for one in batch:
                        takers[tp.topic](one, now)
                    self._positions[tp] = batch[-1].offset + 1
        finally:
            await consumer.stop()

    async def _partitions(self, *topics: str) -> list[TopicPartition]:
        """All partitions of these topics. Waits for topics that were created a moment ago, and for a broker that is away."""
        async with asyncio.timeout(START_TIMEOUT):
            while True:
                with suppress(KafkaError, OSError):
                    found = await self._described(topics)
                    if {tp.topic for tp in found} == set(topics):
                        return found
                await asyncio.sleep(POLL / 1000)

    async def _described(self, topics: tuple[str, ...]) -> list[TopicPartition]:
        """The partitions of those topics that there are. Raises KafkaError and OSError."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        try:
            await admin.start()
            described = await admin.describe_topics(list(topics))
        finally:
            await admin.close()
        return [TopicPartition(one["topic"], number) for one in described for number in range(len(one["partitions"]))]

    async def _sample(self) -> None:
        """Read the committed offsets, then the ends: an effect that is missing below the ends was missing at the commit."""
        while not self._stop.is_set():
            tps = await self._partitions(*self._sources().values(), OUTPUT, LETTERS, *self._changelogs)
            consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, request_timeout_ms=5000)
            admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap, request_timeout_ms=5000)
            try:
                await admin.start()
                await consumer.start()
                await self._sample_until_it_fails(consumer, admin, tps)
            except (KafkaError, OSError, TimeoutError):  # the broker is down
                await asyncio.sleep(SAMPLE_INTERVAL)
            finally:
                with suppress(KafkaError, OSError):
                    await admin.close()
                    await consumer.stop()

    async def _sample_until_it_fails(
        self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, tps: list[TopicPartition]
    ) -> None:
        sources = self._sources()
        while not self._stop.is_set() and sources == self._sources():
            committed: dict[TopicPartition, int] = {}
            for group, topic in sources.items():
                for tp, offset in (await admin.list_consumer_group_offsets(group)).items():
                    if tp.topic == topic:
                        committed[tp] = max(offset.offset, 0)
            sample = Sample(committed, await consumer.end_offsets(tps), monotonic())
            if self.latest is None or sample.committed != self.latest.committed:
                self.seen.samples.append(sample)
            self.latest = sample
            await asyncio.sleep(SAMPLE_INTERVAL)

    # -- one method for each topic

    def _output(self, record: Any, now: float) -> None:
        user = record.key.decode()
        if record.value is None:
            event_id = dict(record.headers).get(EVENT_ID_HEADER, b"").decode()
        else:
            event_id = self._decode(record.value).event_id
        self.seen.outputs.append(
            Output(now, record.partition, record.offset, user, sys.intern(event_id), record.value is None)
        )
        self.seen.last[user] = record.value

    def _embedded(self, record: Any, _: float) -> None:
        try:
            event = parse_embedded(record.value)
        except Exception:  # noqa: BLE001 -- some scenarios produce invalid records
            event = None
        else:  # the same picture gives the same bytes, which are kept once
            shared = self._shared.setdefault(event.embedding, event.embedding)
            event = msgspec.structs.replace(event, embedding=shared)
        self.seen.embedded.append(Embedded(record.partition, record.offset, event, record.topic))

    def _letter(self, record: Any, _: float) -> None:
        self.seen.letters.append(_record(record))

    def _row(self, record: Any, _: float) -> None:
        if not fault(record.key, record.value):  # strangers write garbage, which recovery passes over
            first = record.topic == BAGS_CHANGELOG
            changelog = self.seen.changelog if first else self.seen.later_changelogs.setdefault(record.topic, [])
            changelog.append(_record(record))


def changelog_of(generation: int) -> str:
    """The changelog of the bags of a generation."""
    return f"{of_generation(PROFILE_GROUP, generation)}-{BAGS_TABLE}-changelog"


def _record(record: Any) -> Record:
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    return Record(record.partition, record.offset, record.key, record.value, headers, record.timestamp)
