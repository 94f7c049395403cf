"""Deliberate breaks of the code. Each scenario has to find one: `pytest tests/faults --faults all --broken`.

A scenario names its break with `@broken_by("NAME[:N]")`. With `--broken` the scenario is expected to fail.
"""

import asyncio
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace

from tests.faults.points import POINTS, Method, point

__all__ = ["POINTS", "broken_by"]

EARLY = 0.5  # seconds


def broken_by(name: str) -> pytest.MarkDecorator:
    """The break that this scenario has to find, without the prefix `break-`."""
    return pytest.mark.broken_by(f"break-{name}")


@point
def break_acknowledge_early(n: int) -> None:
    """Both workers acknowledge events half a second before they send anything."""
    from streams.embed.worker import EmbedWorker  # noqa: PLC0415
    from streams.profile.worker import ProfileWorker  # noqa: PLC0415

    deliver: Method = ProfileWorker._deliver
    process: Method = EmbedWorker._process
    late: set[asyncio.Task[None]] = set()

    async def delivered_late(*args: Any, **kwargs: Any) -> None:
        async def deliver_late() -> None:
            await asyncio.sleep(EARLY)
            await deliver(*args, **kwargs)

        late.add(asyncio.create_task(deliver_late()))

    async def processed_late(self: Any, pending: Any) -> None:
        record = pending.record
        pending.finish()
        pending.record = record  # the tracker gives it up
        await asyncio.sleep(EARLY)
        await process(self, pending)

    ProfileWorker._deliver = delivered_late
    EmbedWorker._process = processed_late


@point
def break_skip_changelog(n: int) -> None:
    """Every N-th write goes to disk only, not to the changelog."""
    from streams.profile.table import BagTable  # noqa: PLC0415

    write: Method = BagTable.write
    calls = 0

    async def wrapped(self: Any, partition: int, rows: Any, bags: Any, before: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % n:
            return await write(self, partition, rows, bags, before)
        return self.data.write(partition, rows, self.data.last_offset(partition))

    BagTable.write = wrapped


@point
def break_do_not_wait(n: int) -> None:
    """Nothing waits for the broker: sent counts as delivered, and rows go to disk at once."""
    from streams.engine.publisher import Publisher  # noqa: PLC0415
    from streams.profile.table import BagTable  # noqa: PLC0415

    on_their_way: set[asyncio.Task[Any]] = set()

    def without_waiting(send: Method) -> Method:
        async def sent(*args: Any, **kwargs: Any) -> None:
            task = asyncio.ensure_future(send(*args, **kwargs))
            on_their_way.add(task)
            task.add_done_callback(read)

        return sent

    def read(task: asyncio.Task[Any]) -> None:
        on_their_way.discard(task)
        if not task.cancelled():
            task.exception()

    async def write(self: Any, partition: int, rows: Any, bags: Any, before: Any) -> None:
        records = [(key, value, ()) for key, value in rows.items()]
        await self._publisher.send_all(self.changelog_topic_name, records, partition=partition)
        self.data.write(partition, rows, self.data.last_offset(partition) + len(rows))

    Publisher.send = without_waiting(Publisher.send)
    Publisher.send_all = without_waiting(Publisher.send_all)
    BagTable.write = write


@point
def break_keep_cache(n: int) -> None:
    """The cache of recent bags is not cleared when partitions are revoked."""
    from streams.profile.recent import RecentBags  # noqa: PLC0415

    def forget(self: Any, partition: int) -> None:
        """Do nothing."""

    RecentBags.forget = forget


@point
def break_drop_output(n: int) -> None:
    """Every N-th batch is acknowledged without publishing anything."""
    from streams.profile.worker import ProfileWorker  # noqa: PLC0415

    deliver: Method = ProfileWorker._deliver
    calls = 0

    async def wrapped(self: Any, outcome: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % n == 0:
            outcome.recommendations = []
        return await deliver(self, outcome, batch)

    ProfileWorker._deliver = wrapped


@point
def break_forget_floor(n: int) -> None:
    """An erasure deletes the rows but stores no floor, so old events bring the user back."""
    from streams.profile import batch  # noqa: PLC0415

    changes: Method = batch.changes

    def wrapped(*args: Any) -> Any:
        return {key: value for key, value in changes(*args).items() if not key.endswith(b"\x00")}

    batch.changes = wrapped


@point
def break_drop_letters(n: int) -> None:
    """The embed worker drops events that it cannot process."""
    from streams.engine.publisher import Publisher  # noqa: PLC0415

    send: Method = Publisher.send

    async def wrapped(self: Any, topic: str, *args: Any, **kwargs: Any) -> Any:
        if not topic.endswith("-dlq"):
            await send(self, topic, *args, **kwargs)

    Publisher.send = wrapped


@point
def break_acknowledge_out_of_order(n: int) -> None:
    """A finished event is committed even if an earlier one is unfinished."""
    from streams.engine.in_flight import InFlightTracker  # noqa: PLC0415

    def committable(self: Any) -> dict[Any, int]:
        newest: dict[Any, int] = {}
        for tp, partition in self._partitions.items():
            done = max((one.offset + 1 for one in partition.queue if one.finished), default=partition.done)
            if done > partition.committed:
                newest[tp] = done
        return newest

    InFlightTracker.committable = committable


@point
def break_never_reconnect(n: int) -> None:
    """A process that has lost a connection opens no new one."""
    from aiokafka.client import AIOKafkaClient  # noqa: PLC0415
    from aiokafka.conn import CloseReason  # noqa: PLC0415

    connection: Method = AIOKafkaClient._get_conn
    closed: Method = AIOKafkaClient._on_connection_closed
    lost = False

    def on_closed(self: Any, conn: Any, reason: Any) -> None:
        nonlocal lost
        lost = lost or reason is CloseReason.CONNECTION_BROKEN
        closed(self, conn, reason)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        return None if lost else await connection(*args, **kwargs)

    AIOKafkaClient._on_connection_closed = on_closed
    AIOKafkaClient._get_conn = wrapped


@point
def break_read_from_the_end(n: int) -> None:
    """A group without committed offsets starts at the end of the topic."""
    from aiokafka import AIOKafkaConsumer  # noqa: PLC0415

    AIOKafkaConsumer.seek_to_beginning = AIOKafkaConsumer.seek_to_end


@point
def break_ignore_disk_errors(n: int) -> None:
    """A failed write to disk counts as written."""
    from streams.profile.store import BagStore  # noqa: PLC0415

    write: Method = BagStore.write

    def wrapped(*args: Any, **kwargs: Any) -> None:
        with suppress(Exception):
            write(*args, **kwargs)

    BagStore.write = wrapped


@point
def break_skip_recovery(n: int) -> None:
    """A database that is behind its changelog counts as caught up."""
    from streams.profile.table import BagTable  # noqa: PLC0415

    async def read_back(self: Any, consumer: Any, partitions: list[Any]) -> None:
        for tp, end in (await consumer.end_offsets(partitions)).items():
            self.data.open(tp.partition)
            self.data.write(tp.partition, {}, end - 1)

    BagTable._read_back = read_back


@point
def break_trust_the_dead(n: int) -> None:
    """A paused worker keeps writing, nobody checks for other writers, and recovery overwrites rows."""
    from streams.profile.changelog import Merge  # noqa: PLC0415
    from streams.profile.table import BagTable  # noqa: PLC0415
    from streams.runtime.freeze_guard import FreezeGuard  # noqa: PLC0415

    async def append(self: Any, partition: int, rows: Any, *, after: int) -> int:
        records = [(key, value, ()) for key, value in rows.items()]
        return (await self._publisher.send_all(self.changelog_topic_name, records, partition=partition))[partition]

    def unguarded(self: Any) -> None: ...

    def overwritten(self: Any, records: Any) -> Any:
        return dict(records)

    def unrepaired(self: Any) -> Any:
        return {}

    FreezeGuard.check = unguarded
    BagTable._append = append
    Merge.apply = overwritten
    Merge.repairs = unrepaired


@point
def break_copy_once(n: int) -> None:
    """A resize copies what there is at its start, and compares nothing."""
    from streams.resize import job  # noqa: PLC0415
    from streams.resize.mover import Mover  # noqa: PLC0415

    catch_up: Method = Mover.catch_up

    async def once(self: Any, note: Any) -> int:
        return 0 if self._read else await catch_up(self, note)

    def unchecked(ledger: Any) -> None: ...

    Mover.catch_up = once
    job.check = unchecked


@point
def break_no_watchdog(n: int) -> None:
    """The watchdog does nothing."""
    from streams.monitoring.watchdog import Watchdog  # noqa: PLC0415

    async def run(self: Any) -> None:
        await asyncio.Event().wait()

    Watchdog.run = run


@point
def break_count_twice(n: int) -> None:
    """Two deliveries of one event count as two events."""
    from streams.profile import batch  # noqa: PLC0415

    fold: Method = batch.fold
    deliveries = count()

    def wrapped(bag: Any, interaction: Any, **kwargs: Any) -> Any:
        return fold(bag, replace(interaction, event_id=f"{interaction.event_id} {next(deliveries)}"), **kwargs)

    batch.fold = wrapped


@point
def break_swallow_agent_errors(n: int) -> None:
    """An exception in an agent is ignored, and Faust restarts the agent past its batch."""
    from mode import OneForOneSupervisor  # noqa: PLC0415

    from streams.engine import app  # noqa: PLC0415
    from streams.engine.consumer import Consumer  # noqa: PLC0415

    async def on_task_error(self: Any, exc: BaseException) -> None:
        """Do nothing."""

    Consumer.on_task_error = on_task_error
    app.CrashingSupervisor = OneForOneSupervisor


@point
def break_count_no_bags(n: int) -> None:
    """After an assignment, what the bags on disk add to the trend is not counted."""
    from streams.profile.store import BagStore  # noqa: PLC0415

    def users_after(self: Any, partition: int, prefix: bytes, least: int) -> list[tuple[bytes, bytes]]:
        return []

    BagStore.users_after = users_after


@point
def break_count_for_ever(n: int) -> None:
    """What leaves a bag is not taken off the trend."""
    from streams.profile import trend_state  # noqa: PLC0415

    changes_of: Method = trend_state.changes_of

    def wrapped(*args: Any, **kwargs: Any) -> list[Any]:
        return [(sign, item) for sign, item in changes_of(*args, **kwargs) if sign > 0]

    trend_state.changes_of = wrapped
