"""One look at the brokers after the other becomes what is said of the system. Pure: clocks and bytes come from `watch.py`."""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import TopicPartition

from streams.kafka.fleet import bundles_of
from streams.kafka.groups import REBALANCING
from streams.kafka.lag import GroupLag, PartitionLag, total
from streams.kafka.observing import Look
from streams.serve.overview.heard import Heard
from streams.serve.overview.history import Rows, rate
from streams.serve.overview.latency import Sampler
from streams.serve.overview.letters import LetterCounts
from streams.serve.overview.marks import Marks
from streams.serve.overview.types import Latency, Now, Overview, Second, WorkerBundles
from streams.serve.overview.verdict import Facts, Judge
from streams.serve.state import State

RECENT = 300  # seconds of events and dead letters that the verdict is made of


@dataclass(frozen=True)
class Names:
    """Topics and groups of the settings."""

    input: str
    embedded: str
    output: str
    letters: str
    workers: Mapping[str, str]  # what the members of each group are called

    @property
    def needed(self) -> list[str]:
        """Topics that have to exist."""
        return [self.input, self.embedded, self.output, self.letters]


class Board:
    """What is known of the system."""

    def __init__(self, names: Names) -> None:
        """Nothing is known yet."""
        self.names = names
        self.sampler = Sampler(names.output)
        self.letters = LetterCounts()
        self._rows = Rows()
        self._heard = Heard()
        self._marks = Marks()
        self._judge = Judge()
        self._look: Look | None = None
        self._problem = ""
        self._moved: dict[
            str, tuple[int, int]
        ] = {}  # by group: sum of its positions, and when it last changed or nothing waited
        self._unsettled: dict[str, int] = {}  # by group: since when it has been rebalancing
        self._recent: deque[float] = deque(maxlen=RECENT)  # events of each of the last seconds
        self._listeners: set[Callable[[Now], object]] = set()
        self._now = Now(
            at=None,
            verdict=self._judge.verdict(self._facts([], 0), 0),
            second=None,
            latency=Latency(p50=None, p99=None, samples=0),
            groups=[],
            dead_letters=[],
            open_circuits=[],
            marks=[],
        )

    @property
    def before(self) -> Look | None:
        """The newest look; None before the first, and after an outage."""
        return None if self._problem else self._look

    def look(self, look: Look, letters: int, replica: Sequence[State]) -> None:
        """Take a look into account.

        Args:
            look: newer than the one before.
            letters: dead letters that were read since that one.
            replica: state of the bags.
        """
        before = self.before
        seconds = (look.at - before.at) / 1000 if before else 0.0
        events, age = total(look.groups)
        latency = self.sampler.latency(look.at)
        row = Second(
            at=look.at,
            events_in=rate(before.ends, look.ends, self.names.input, seconds) if before else None,
            events_out=rate(before.ends, look.ends, self.names.output, seconds) if before else None,
            dead_letters=round(letters / seconds, 2) if seconds > 0 else None,
            p50=latency.p50,
            p99=latency.p99,
            lag_events=events,
            lag_seconds=None if age is None else round(age, 1),
        )
        self._rows.add(row)
        self._recent.append((row.events_in or 0.0) * seconds)
        self._heard.look(look.at, look.remarks.values())
        self._marks.look(look, dict(self.names.workers))
        for group in look.groups:
            self._progress(group, look.at)
        self._look, self._problem = look, ""
        self._say(look.at, replica, look.groups, row, latency)

    def away(self, at: int, problem: str, replica: Sequence[State]) -> None:
        """The broker does not answer. `at`: milliseconds since the epoch."""
        self._problem = problem
        row = Second(at=at)
        self._rows.add(row)
        self._marks.away(at, problem)
        self.sampler.forget()
        unknown = [_unknown(group) for group in self._look.groups] if self._look else []
        self._say(at, replica, unknown, row, self.sampler.latency(at))

    @property
    def now(self) -> Now:
        """What is said at the newest look."""
        return self._now

    @property
    def workers(self) -> list[WorkerBundles]:
        """The workers at the newest look; none while the broker does not answer."""
        look = self.before
        if look is None:
            return []
        live = {remark.worker for remark in self._heard.live(look.at)}
        loaded = {
            lag.owner.member: remark.bundles
            for group in look.groups
            for lag in group.partitions
            if lag.owner
            and (remark := look.remarks.get(TopicPartition(group.topic, lag.partition)))
            and remark.worker in live
        }
        return [
            WorkerBundles(
                group=group,
                client=one.client,
                host=one.host.removeprefix("/"),
                bundles=loaded.get(one.id) or bundles_of(one.metadata),
            )
            for group, members in look.members.items()
            for one in members
        ]

    def overview(self, seconds: int, step: int) -> Overview:
        """The same with the last `seconds` seconds, in steps of `step` seconds."""
        now = self._now
        return Overview(
            at=now.at,
            verdict=now.verdict,
            second=now.second,
            latency=now.latency,
            groups=now.groups,
            dead_letters=now.dead_letters,
            open_circuits=now.open_circuits,
            marks=now.marks,
            history=self._rows.steps(seconds, step),
        )

    def _progress(self, group: GroupLag, at: int) -> None:
        """Note since when a group has finished nothing although events wait, and since when it rebalances."""
        finished = sum(one.position or 0 for one in group.partitions)
        before = self._moved.get(group.group)
        if before is None or before[0] != finished or not any(one.events for one in group.partitions):
            self._moved[group.group] = finished, at
        if group.state in REBALANCING:
            self._unsettled.setdefault(group.group, at)
        else:
            self._unsettled.pop(group.group, None)

    @contextmanager
    def told(self, listener: Callable[[Now], object]) -> Generator[None]:
        """Call a listener with what is said at each look while this is open."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    def _say(self, at: int, replica: Sequence[State], groups: list[GroupLag], row: Second, latency: Latency) -> None:
        facts = self._facts(replica, at, row, latency)
        self._now = Now(
            at=datetime.fromtimestamp(at / 1000, UTC),
            verdict=self._judge.verdict(facts, at),
            second=row,
            latency=latency,
            groups=groups,
            dead_letters=self.letters.reasons(at),
            open_circuits=list(facts.circuits),
            marks=self._marks.marks(at),
        )
        for listener in list(self._listeners):
            listener(self._now)

    def _facts(
        self, replica: Sequence[State], at: int, row: Second | None = None, latency: Latency | None = None
    ) -> Facts:
        return Facts(
            problem=self._problem,
            look=self._look,
            topics=self.names.needed,
            names=self.names.workers,
            waiting={group: (at - since) / 1000 for group, (_, since) in self._moved.items()},
            unsettled={group: (at - since) / 1000 for group, since in self._unsettled.items()},
            letters=self.letters.since(at - RECENT * 1000),
            events=sum(self._recent),
            circuits=[] if self._problem else self._heard.circuits(at),
            replica=replica,
            second=row,
            latency=latency or Latency(p50=None, p99=None, samples=0),
        )


def _unknown(group: GroupLag) -> GroupLag:
    """A group of which nobody knows how far it is."""
    partitions = [
        PartitionLag(partition=one.partition, position=None, events=None, seconds=None, owner=None)
        for one in group.partitions
    ]
    return GroupLag(topic=group.topic, group=group.group, state="", members=0, partitions=partitions)
