"""A stall is work without progress while the broker answers. An outage is no stall, nor a missing topic, nor an idle worker."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.group_coordinator import NoGroupCoordinator
from typing_extensions import override

from streams.engine.in_flight import InFlightTracker
from streams.kafka.metadata import DescribedTopic
from streams.monitoring.watchdog import SILENT, Observation, StallTimer, Watchdog
from tests.records import record

WORKING = Observation(progress=7, not_ready="", in_flight=3, lag=12)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    "seen",
    [
        WORKING,
        replace(WORKING, lag=0),
        replace(WORKING, in_flight=0),
        Observation(progress=7, not_ready="recovering bags", in_flight=0, lag=0),
        Observation(progress=7, not_ready="", in_flight=3, lag=None),
        Observation(progress=7, not_ready="the worker has yet to read the new topic", in_flight=0, lag=None),
    ],
    ids=[
        "events wait",
        "an event is never finished",
        "no event is read",
        "never ready",
        "an event is never finished, and the lag is unknown",
        "the new topic is never read",
    ],
)
def test_time_without_progress_adds_up(clock: Clock, seen: Observation) -> None:
    timer = StallTimer(clock)
    assert timer.seconds(seen) == 0
    clock.now += 20
    assert timer.seconds(seen) == 20
    clock.now += 20
    assert timer.seconds(seen) == 40


@pytest.mark.parametrize(
    "seen",
    [
        replace(WORKING, progress=8),
        replace(WORKING, lag=None, waits=True),
        Observation(progress=7, not_ready="topic events does not exist", in_flight=0, lag=None, waits=True),
        Observation(progress=7, not_ready="", in_flight=0, lag=0),
    ],
    ids=["progress", "the broker does not answer", "there is no topic", "nothing to do"],
)
def test_the_timer_restarts(clock: Clock, seen: Observation) -> None:
    timer = StallTimer(clock)
    timer.seconds(WORKING)
    clock.now += 50
    assert timer.seconds(seen) == 0
    clock.now += 5
    assert timer.seconds(replace(WORKING, progress=seen.progress)) == 5


@pytest.mark.parametrize(
    ("seen", "overdue"),
    [
        (WORKING, 39),
        (replace(WORKING, progress=8, moved=1040.0), 39),
        (replace(WORKING, commits=1), 0),
        (replace(WORKING, waits=True), 0),
        (replace(WORKING, not_ready="rebalancing"), 0),
    ],
    ids=["no progress either", "events are finished", "a commit", "the broker does not answer", "partitions move"],
)
def test_a_commit_is_overdue_whatever_else_progresses(clock: Clock, seen: Observation, overdue: float) -> None:
    timer = StallTimer(clock, commit_interval=1.0)
    assert timer.uncommitted(WORKING) == 0
    clock.now += 40
    assert timer.uncommitted(seen) == overdue


def test_the_time_counts_from_the_last_move_and_not_from_the_look_that_found_it(clock: Clock) -> None:
    timer = StallTimer(clock)
    timer.seconds(replace(WORKING, in_flight=0, lag=0))
    clock.now += 9
    assert timer.seconds(replace(WORKING, moved=1002.0)) == 7


async def test_a_request_to_live_sees_what_happened_since_the_last_check(clock: Clock) -> None:
    tracker = InFlightTracker(100)
    consumer = SimpleNamespace(commits=3, thread_alive=True)
    conf = SimpleNamespace(broker_commit_interval=1.0)
    app: Any = SimpleNamespace(
        reads="events", consumer=consumer, conf=conf, in_flight=tracker, tables={}, should_stop=False
    )
    dog = Watchdog(app, name="embed", timeout=60, kafka={}, not_ready=lambda _: "")
    dog._timer = StallTimer(clock)
    assert dog.look()[0] == 0, "nothing is known before the first check"
    dog.seen = Observation(progress=0, not_ready="", in_flight=0, lag=0, commits=3)
    tp = TopicPartition("events", 0)
    tracker.begin({tp: 0})
    tracker.put(tp, [record("events", offset=offset) for offset in range(40)])
    clock.now += 9
    tracker.moved = clock.now - 7  # when they came
    consumer.commits += 9
    seconds, seen = dog.look()
    assert (seen.in_flight, seconds) == (40, 7)


async def test_a_request_to_live_does_not_hide_a_problem_of_the_last_check() -> None:
    consumer, conf = SimpleNamespace(commits=3, thread_alive=True), SimpleNamespace(broker_commit_interval=1.0)
    app: Any = SimpleNamespace(
        reads="events", consumer=consumer, conf=conf, in_flight=InFlightTracker(1), tables={}, should_stop=False
    )
    dog = Watchdog(app, name="embed", timeout=60, kafka={}, not_ready=lambda _: "")
    dog.problem = "the worker has yet to read the new topic"
    dog.seen = Observation(progress=0, not_ready=dog.problem, in_flight=0, lag=None, commits=3)
    assert dog.look()[1].has_work


async def test_a_broker_that_goes_away_as_the_probe_has_started_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    class Probe(AIOKafkaConsumer):
        """Starts as aiokafka's own does, and knows no broker afterwards."""

        @override
        async def start(self) -> None:
            self._coordinator = NoGroupCoordinator(self._client, self._subscription)  # begins a task

    monkeypatch.setattr("streams.monitoring.watchdog.AIOKafkaConsumer", Probe)
    conf, consumer = SimpleNamespace(broker_commit_interval=1.0), SimpleNamespace(commits=3, thread_alive=True)
    app: Any = SimpleNamespace(
        reads="events", consumer=consumer, conf=conf, in_flight=InFlightTracker(1), should_stop=False,
        tables=SimpleNamespace(changelog_topics=[], values=list[Any]),
    )  # fmt: skip
    dog = Watchdog(app, name="embed", timeout=60, kafka={"bootstrap_servers": "127.0.0.1:1"}, not_ready=lambda _: "")
    seen = await dog._observe()
    assert (dog.problem, seen.waits) == (SILENT, True)


def test_an_observation_is_readable() -> None:
    assert str(WORKING) == "ready, 3 events in flight, lag 12"
    assert (
        str(replace(WORKING, lag=None, not_ready="rebalancing"))
        == "not ready (rebalancing), 3 events in flight, lag unknown"
    )


@pytest.mark.parametrize(
    ("unread", "not_ready", "reopened"),
    [
        (set[TopicPartition](), "", False),
        ({TopicPartition("events", 0)}, "", True),
        ({TopicPartition("events", 0)}, "rebalancing", False),
    ],
    ids=["all are read", "one is not read", "a rebalance has just begun"],
)
async def test_a_worker_that_does_not_read_a_partition_begins_again(
    unread: set[TopicPartition], not_ready: str, reopened: bool
) -> None:
    calls: list[str] = []

    async def reopen() -> None:
        calls.append("reopen")

    topic = DescribedTopic(2, "of-now")
    consumer = SimpleNamespace(reading=topic, known_partitions=2, unread=lambda: unread, reopen=reopen)
    conf = SimpleNamespace(broker_commit_interval=1.0)
    app: Any = SimpleNamespace(reads="events", consumer=consumer, conf=conf)
    dog = Watchdog(app, name="embed", timeout=60, kafka={}, not_ready=lambda _: not_ready)

    assert bool(await dog._compare(topic, "")) is reopened
    assert calls == ["reopen"] * reopened
