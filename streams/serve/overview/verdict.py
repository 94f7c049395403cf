"""One sentence: all is well, or what is wrong, since when, and which page of the documentation helps. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from streams.kafka.groups import REBALANCING
from streams.kafka.lag import GroupLag
from streams.kafka.observing import Look
from streams.serve.overview.types import Latency, OpenCircuit, Second, Verdict
from streams.serve.state import State
from streams.text import visible

RUNBOOK, SERVE = "docs/operate/runbook.md", "docs/operate/serve.md"
LATE = 30.0  # seconds that an event may wait
STALLED = 60.0  # seconds without a commit while events wait; STALL_TIMEOUT is as long by default
UNSETTLED = 30.0  # seconds that a rebalance may take
DEAD_SHARE, DEAD = (
    0.01,
    10,
)  # dead letters of five minutes: the share of events, and the number, above which they are too many
STALE = 30.0  # seconds that the replica may be old


# Reasons of dead letters whose cause may be the host of the picture
OF_HOSTS = frozenset({"host_unavailable", "host_unreachable", "http_status", "response_broken", "timeout"})


class Trouble(NamedTuple):
    """Something that is wrong."""

    reason: str
    text: str
    runbook: str
    since: datetime | None = None  # if it is known; otherwise since it was seen first


@dataclass(frozen=True)
class Facts:
    """What a verdict is made of."""

    problem: str  # of the connection to the broker; "" if it answers
    look: Look | None  # the newest
    topics: Sequence[str]  # that have to exist
    names: Mapping[str, str]  # what the members of each group are called
    waiting: Mapping[str, float]  # seconds without a commit while events wait, by group
    unsettled: Mapping[str, float]  # seconds that a rebalance takes, by group
    letters: Mapping[str, int]  # dead letters of the last five minutes, by reason
    events: float  # events of the last five minutes
    circuits: Sequence[OpenCircuit]  # those first that cost most events
    replica: Sequence[State]
    second: Second | None
    latency: Latency


def troubles(facts: Facts) -> Iterator[Trouble]:
    """All that is wrong, the cause of the others first."""
    if facts.problem:
        yield Trouble("broker_away", f"The broker does not answer: {facts.problem}", f"{RUNBOOK}#the-broker-is-away")
        return
    look = facts.look
    if look is None:
        return
    for name in facts.topics:
        if name not in look.topics:
            yield Trouble("topic_missing", f"Topic {name} does not exist.", f"{RUNBOOK}#a-topic-has-changed")
    for group in look.groups:
        if group.partitions:
            yield from _of_group(group, facts)
    yield from _of_hosts(facts)
    yield from _of_letters(facts)
    late = [state for state in facts.replica if state.source != "live" and (state.age is None or state.age > STALE)]
    if late:
        some = ", ".join(str(state.partition) for state in late[:8])
        yield Trouble(
            "replica_late",
            f"This serve worker reads old bags in the partitions {some}.",
            f"{SERVE}#how-old-is-an-answer",
        )


def _of_group(group: GroupLag, facts: Facts) -> Iterator[Trouble]:
    name, events = facts.names[group.group], group.events or 0
    waiting = f", and {events:,} event{'s wait' if events != 1 else ' waits'}" if events else ""
    if not group.state:
        yield Trouble(
            "group_unknown", f"The broker does not say how far the {name}s are.", f"{RUNBOOK}#the-broker-is-away"
        )
        return
    if not group.members:
        yield Trouble(f"no_worker_{group.topic}", f"No {name} runs{waiting}.", f"{RUNBOOK}#nobody-reads-a-partition")
        return
    lost = [one.partition for one in group.partitions if one.events and one.partition in group.unowned]
    if lost:
        some = ", ".join(map(str, lost[:8]))
        yield Trouble(
            f"unread_{group.topic}",
            f"No {name} reads the partitions {some} of {group.topic}{waiting}.",
            f"{RUNBOOK}#nobody-reads-a-partition",
        )
    if group.state in REBALANCING and facts.unsettled.get(group.group, 0) > UNSETTLED:
        yield Trouble(
            f"unsettled_{group.topic}",
            f"The {name}s have been sharing their partitions for {facts.unsettled[group.group]:.0f} s{waiting}.",
            f"{RUNBOOK}#a-worker-starts-again-and-again",
        )
    if facts.waiting.get(group.group, 0) > STALLED:
        yield Trouble(
            f"stalled_{group.topic}",
            f"The {name}s have finished nothing for {facts.waiting[group.group]:.0f} s{waiting}.",
            f"{RUNBOOK}#a-worker-stalls",
        )
    seconds = max((one.seconds or 0.0 for one in group.partitions), default=0.0)
    if seconds > LATE and not lost:
        yield Trouble(
            f"late_{group.topic}",
            f"The {name}s are late: the oldest of {events:,} events has waited for {seconds:.0f} s.",
            f"{RUNBOOK}#lag-grows",
        )


def _of_hosts(facts: Facts) -> Iterator[Trouble]:
    """Strangers can name hosts that never answer, so circuits alone are no trouble: they have to cost events."""
    waiting = sum(one.waiting for one in facts.circuits)
    refused = sum(count for reason, count in facts.letters.items() if reason in OF_HOSTS)
    if facts.circuits and _are_many(waiting + refused, facts):
        cost = f"{refused:,} events were refused in the last five minutes, and {waiting:,} wait"
        since = min(one.since for one in facts.circuits)
        yield Trouble(
            "hosts_away",
            f"{_unfetched(facts.circuits)}: {cost}.",
            f"{RUNBOOK}#pictures-of-a-host-are-not-fetched",
            since,
        )


def _unfetched(circuits: Sequence[OpenCircuit]) -> str:
    """That pictures of some hosts are not fetched."""
    others = f" and {len(circuits) - 1} other host{'s' if len(circuits) > 2 else ''}" if len(circuits) > 1 else ""
    return f"Pictures of {visible(circuits[0].host)}{others} are not fetched"


def _are_many(number: int, facts: Facts) -> bool:
    """Whether so many of the events of the last five minutes are too many."""
    return number >= DEAD and number > DEAD_SHARE * facts.events


def _of_letters(facts: Facts) -> Iterator[Trouble]:
    defects, number = facts.letters.get("internal_error", 0), sum(facts.letters.values())
    if defects:
        yield Trouble(
            "internal_error",
            f"{defects:,} events met a defect in the last five minutes.",
            f"{RUNBOOK}#dead-letters-pile-up",
        )
    if _are_many(number, facts):
        worst = max(facts.letters, key=lambda reason: facts.letters[reason])
        yield Trouble(
            "dead_letters",
            f"{number:,} events became dead letters in the last five minutes, most of them with the reason {worst}.",
            f"{RUNBOOK}#dead-letters-pile-up",
        )


class Judge:
    """Remembers since when something has been wrong."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}

    def verdict(self, facts: Facts, now: int) -> Verdict:
        """The verdict. `now`: milliseconds since the epoch."""
        found = list(troubles(facts))
        self._since = {one.reason: self._since.get(one.reason, now) for one in found}
        if found:
            first = found[0]
            since = first.since or datetime.fromtimestamp(self._since[first.reason] / 1000, UTC)
            return Verdict(well=False, reason=first.reason, text=first.text, since=since, runbook=first.runbook)
        return Verdict(well=facts.look is not None, reason="", text=_well(facts), since=None, runbook="")


def _well(facts: Facts) -> str:
    if facts.look is None:
        return "The brokers have not been asked yet."
    hosts = f" {_unfetched(facts.circuits)}." if facts.circuits else ""
    coming = facts.second.events_in if facts.second else None
    if not coming:
        return f"All is well. No events come in.{hosts}"
    took = "" if facts.latency.p50 is None else f", half of them are answered within {_duration(facts.latency.p50)}"
    return f"All is well. {coming:,.1f} events a second come in{took}.{hosts}"


def _duration(seconds: float) -> str:
    """As the charts write it."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
