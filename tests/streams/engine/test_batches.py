"""The channel of an agent yields micro-batches, and an agent that fails is never restarted."""

from pathlib import Path

import pytest
from aiokafka import TopicPartition
from mode import CrashingSupervisor

from streams.engine.app import App, Batches, new_app
from streams.engine.in_flight import InFlightTracker, Pending
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
