"""What happened between two looks at the brokers: marks on the charts. Pure.

A rebalance shorter than the pause between two looks is seen by what it changed.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from streams.kafka.fleet import MemberBundles, bundles_of
from streams.kafka.groups import REBALANCING, GroupMember
from streams.kafka.lag import GroupLag, Owner
from streams.kafka.observing import Look
from streams.serve.overview.types import Mark

HOUR = 3_600_000  # milliseconds
MARKS = 100  # that are kept


@dataclass
class _Known:
    """What is known of a group."""

    members: dict[str, GroupMember]
    owners: dict[int, Owner | None]
    bundles: MemberBundles | None = None
    since: int | None = None  # when a rebalance began that is not over
    moved: int | None = None  # when partitions moved, until events are finished again
    positions: dict[int, int] = field(default_factory=dict[int, int])


class Marks:
    """The marks of the last hour."""

    def __init__(self) -> None:
        self._marks: deque[Mark] = deque(maxlen=MARKS)
        self._groups: dict[str, _Known] = {}
        self._ids: dict[str, str] = {}  # of topics, by name
        self._away: int | None = None

    def marks(self, now: int) -> list[Mark]:
        """Those of the last hour, oldest first. `now`: milliseconds since the epoch."""
        while self._marks and self._marks[0].at.timestamp() * 1000 < now - HOUR:
            self._marks.popleft()
        return list(self._marks)

    def away(self, now: int, problem: str) -> None:
        """The broker does not answer."""
        if self._away is None:
            self._away = now
            self._add(now, "broker_away", f"the broker does not answer: {problem}")

    def look(self, look: Look, names: dict[str, str]) -> None:
        """Compare a look with the one before. `names`: what the members of each group are called."""
        if self._away is not None:
            self._add(look.at, "broker_back", f"the broker answers again after {_seconds(look.at - self._away)}")
            self._away = None
        for name, topic in look.topics.items():
            if topic.id and self._ids.get(name, topic.id) != topic.id:
                self._add(look.at, "topic_changed", f"topic {name} was deleted and created again")
            self._ids[name] = topic.id
        for group in look.groups:
            if group.state:
                self._group(look.at, group, look.members[group.group], names[group.group])

    def _group(self, at: int, group: GroupLag, members: Iterable[GroupMember], name: str) -> None:
        there = {one.id: one for one in members}
        owners = {one.partition: one.owner for one in group.partitions}
        known = self._groups.get(group.group)
        if known is None:
            since = at if group.state in REBALANCING else None
            self._groups[group.group] = _Known(there, owners, _newest_bundles(there.values()), since)
            return
        for gone in known.members.keys() - there.keys():
            self._add(at, "left", f"{name} {_called(known.members[gone])} has left")
        for new in there.keys() - known.members.keys():
            self._add(at, "joined", f"{name} {_called(there[new])} has joined")
        known.members = there
        if group.state in REBALANCING:
            if known.since is None:
                known.since = at
                self._add(at, "rebalance", f"the {name}s are sharing their partitions anew")
            return
        moved = [number for number, owner in owners.items() if owner != known.owners.get(number)]
        if known.since is not None:
            self._add(at, "settled", f"the {name}s have their partitions again after {_seconds(at - known.since)}")
        elif moved:
            listed = ", ".join(map(str, moved[:8])) + (" and others" if len(moved) > 8 else "")
            self._add(at, "rebalance", f"partitions {listed} of {group.topic} went to other {name}s")
        positions = {one.partition: one.position for one in group.partitions if one.position is not None}
        if moved:
            known.moved, known.positions = known.since or at, positions
        elif known.moved is not None and any(
            found > known.positions.get(one, found) for one, found in positions.items()
        ):
            self._add(
                at, "resumed", f"the {name}s finish events again, {_seconds(at - known.moved)} after partitions moved"
            )
            known.moved = None
        bundles = _newest_bundles(there.values())
        if bundles is not None and known.bundles is not None and bundles != known.bundles:
            self._add(at, "bundle", f"the {name}s serve {bundles.served}")
        known.since, known.owners, known.bundles = None, owners, bundles or known.bundles

    def _add(self, at: int, kind: Any, text: str) -> None:
        self._marks.append(Mark(at=datetime.fromtimestamp(at / 1000, UTC), kind=kind, text=text))


def _called(member: GroupMember) -> str:
    return f"{member.client} at {member.host.removeprefix('/')}"


def _newest_bundles(members: Iterable[GroupMember]) -> MemberBundles | None:
    """What the members have, if all of them have the same."""
    found = {bundles_of(one.metadata) for one in members}
    return found.pop() if len(found) == 1 else None


def _seconds(milliseconds: int) -> str:
    return f"{max(milliseconds, 0) / 1000:.0f} s"
