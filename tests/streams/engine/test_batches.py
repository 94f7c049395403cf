"""The channel of an agent yields micro-batches, and an agent that fails is never restarted."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from mode import CrashingSupervisor

from streams.engine.app import App, Batches, new_app
from streams.engine.in_flight import InFlightTracker, Pending
from streams.runtime.crash_journal import DEATHS, NAME, CrashJournal
from streams.settings import Settings
from tests.records import record

TOPIC = "events"
TP = TopicPartition(TOPIC, 0)


@pytest.fixture
def app(tmp_path: Path) -> App:
    made = new_app("group", Settings.model_construct(), tmp_path, max_in_flight=10, finish_before_revocation=False)
    made.in_flight.begin({TP: 0})
    return made


async def test_a_batch_holds_at_most_the_limit_and_what_is_there(app: App) -> None:
    sizes: list[int] = []

    async def agent(batches: Batches) -> None:
        async for batch in batches:
            sizes.append(len(batch))
            if sum(sizes) == 5:
                break

    app.read(TOPIC, agent, name="reader", limit=3)
    app.in_flight.put(TP, [record(TOPIC, offset=offset) for offset in range(5)])
    channel = app.agents["reader"].channel
    await agent(aiter(channel))  # pyright: ignore[reportArgumentType] -- a stream, as far as the agent uses it
    assert sizes == [3, 2]
    assert {topic for found in app.topics for topic in found.topics} == {TOPIC}, "iterating subscribes to the topic"


async def test_every_copy_of_the_channel_takes_from_the_same_tracker(app: App) -> None:
    async def agent(batches: Batches) -> None: ...

    app.read(TOPIC, agent, name="reader", limit=1)
    first = aiter(app.agents["reader"].channel.clone())
    second = aiter(app.agents["reader"].channel)
    app.in_flight.put(TP, [record(TOPIC, offset=0), record(TOPIC, offset=1)])
    taken: list[list[Pending]] = [await anext(first), await anext(second)]  # pyright: ignore[reportAssignmentType]
    assert [batch[0].record.offset for batch in taken] == [0, 1]


def test_an_agent_that_fails_is_never_restarted(app: App) -> None:
    """Faust's default supervisor would restart it past its batch."""
    assert app.conf.agent_supervisor is CrashingSupervisor
    assert isinstance(app.in_flight, InFlightTracker)


async def test_while_the_journal_is_careful_a_batch_is_one_record_and_waits_for_the_one_before(
    app: App, tmp_path: Path
) -> None:
    async def agent(batches: Batches) -> None: ...

    for _ in range(2):  # the first run dies
        app.crash_journal = CrashJournal(tmp_path)
        app.crash_journal.begin(TOPIC, {TP: 0}, {TP: 3}, 10)
    journal = app.crash_journal
    assert journal is not None
    app.read(TOPIC, agent, name="reader", limit=3)
    channel: Any = aiter(app.agents["reader"].channel)
    app.in_flight.put(TP, [record(TOPIC, offset=offset) for offset in range(5)])

    following = asyncio.ensure_future(anext(channel))
    for offset in range(3):
        [alone] = await following
        assert alone.record.offset == offset
        assert f'["{TOPIC}",0,{offset}]' in (tmp_path / NAME).read_text().partition("in_hand")[2]
        following = asyncio.ensure_future(anext(channel))
        await asyncio.sleep(0)
        assert not following.done()
        alone.finish()
        app.in_flight.committed(app.in_flight.committable())
    assert [one.record.offset for one in await following] == [3, 4]
    assert not journal.careful


async def test_a_rebalance_does_not_acquit_a_record_that_is_not_finished(app: App, tmp_path: Path) -> None:
    async def agent(batches: Batches) -> None: ...

    for _ in range(DEATHS):  # the first run dies with many records in hand, the others with one
        journal = CrashJournal(tmp_path)
        journal.begin(TOPIC, {TP: 0}, {TP: 3}, 10)
        if journal.careful:
            journal.hold(TP, 0)
    journal = app.crash_journal = CrashJournal(tmp_path)
    journal.begin(TOPIC, {TP: 0}, {TP: 3}, 10)
    app.read(TOPIC, agent, name="reader", limit=3)
    channel: Any = aiter(app.agents["reader"].channel)
    app.in_flight.put(TP, [record(TOPIC)])
    await anext(channel)
    following = asyncio.ensure_future(anext(channel))
    app.in_flight.forget()
    await asyncio.sleep(0.01)
    journal.begin(TOPIC, {TP: 0}, {TP: 3}, 10)
    app.in_flight.begin({TP: 0})
    app.in_flight.put(TP, [record(TOPIC)])

    [again] = await following
    assert not again.quarantined
    journal = CrashJournal(tmp_path)  # it dies again
    journal.begin(TOPIC, {TP: 0}, {TP: 3}, 10)
    assert journal.hold(TP, 0)


async def test_while_the_journal_is_careful_a_record_waits_for_those_of_the_other_topic(
    app: App, tmp_path: Path
) -> None:
    async def agent(batches: Batches) -> None: ...

    CrashJournal(tmp_path).begin(TOPIC, {TP: 0}, {TP: 3}, 10)
    app.crash_journal = CrashJournal(tmp_path)
    app.crash_journal.begin(TOPIC, {TP: 0}, {TP: 3}, 10)
    other = TopicPartition("items", 0)
    beside = app.beside = InFlightTracker(10)
    beside.begin({other: 0})
    beside.put(other, [record("items")])
    [item] = await beside.take(1)
    app.read(TOPIC, agent, name="reader", limit=3)
    app.in_flight.begin({TP: 0})
    app.in_flight.put(TP, [record(TOPIC, offset=offset) for offset in range(3)])
    channel: Any = aiter(app.agents["reader"].channel)
    following = asyncio.ensure_future(anext(channel))
    await asyncio.sleep(0.01)
    assert not following.done()
    item.finish()
    [alone] = await following
    entering = asyncio.ensure_future(entered(app.in_flight))
    await asyncio.sleep(0.01)
    assert not entering.done(), "an item waits for the event"
    alone.finish()
    await entering
    assert (await anext(channel))[0].record.offset == 1


async def entered(tracker: InFlightTracker) -> None:
    """Have the process alone, and see that no record is handed out meanwhile."""
    async with tracker.alone():
        taking = asyncio.ensure_future(tracker.take(1))
        await asyncio.sleep(0.01)
        assert not taking.done()
        taking.cancel()


async def test_a_record_that_arrives_before_the_first_assignment_is_not_taken_in_a_batch(
    app: App, tmp_path: Path
) -> None:
    async def agent(batches: Batches) -> None: ...

    CrashJournal(tmp_path).begin(TOPIC, {TP: 0}, {TP: 5}, 10)
    app.crash_journal = CrashJournal(tmp_path)
    app.read(TOPIC, agent, name="reader", limit=3)
    channel: Any = aiter(app.agents["reader"].channel)
    first = asyncio.ensure_future(anext(channel))  # an agent waits before there are partitions
    await asyncio.sleep(0)
    app.crash_journal.begin(TOPIC, {TP: 0}, {TP: 5}, 10)
    app.in_flight.put(TP, [record(TOPIC, offset=offset) for offset in range(5)])

    assert len(await first) == 1


async def test_without_a_death_before_it_a_run_writes_nothing_for_a_record(app: App, tmp_path: Path) -> None:
    async def agent(batches: Batches) -> None: ...

    app.crash_journal = CrashJournal(tmp_path)
    app.crash_journal.begin(TOPIC, {TP: 0}, {TP: 5}, 10)
    app.read(TOPIC, agent, name="reader", limit=3)
    channel: Any = aiter(app.agents["reader"].channel)
    app.in_flight.put(TP, [record(TOPIC, offset=offset) for offset in range(5)])
    (tmp_path / NAME).unlink()

    assert [len(await anext(channel)), len(await anext(channel))] == [3, 2]
    assert not (tmp_path / NAME).exists()
