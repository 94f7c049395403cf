"""Finds events that were committed before their effects.

Each sample of the committed offsets is compared with the ends of the next topics, read a moment later. An effect of the embed
worker is the embedded event or the dead letter. An effect of the profile worker is the recommendation or the dead letter and,
in the changelog, rows that contain the event: folding it again changes nothing.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from streams.profile.bag import fold
from streams.profile.rows import decode_bag, user_of
from streams.settings.names import BAGS_CHANGELOG
from tests.faults.tap import EMBEDDED, INPUT, LETTERS, OUTPUT, Embedded, Seen, changelog_of
from tests.kafka.system import Record
from tests.oracle import MAX_SLOTS

if TYPE_CHECKING:
    from tests.faults.verdict import Input

Place = tuple[TopicPartition, int]


def acknowledged_early(given: "Input", seen: Seen, kept: Collection[str]) -> list[str]:
    """Describe the events that were committed too early. kept: the versions of the embedders in use."""
    letters = _letters(seen)
    passed_on: dict[str, list[Place]] = {}
    for one in seen.embedded:
        if one.event is not None:
            place = TopicPartition(one.topic, one.partition), one.offset
            passed_on.setdefault(one.event.event_id, []).append(place)
    published: dict[str, Place] = {}
    for output in seen.outputs:
        published.setdefault(output.event_id, (TopicPartition(OUTPUT, output.partition), output.offset))

    effects: dict[TopicPartition, dict[int, tuple[str, list[Place]]]] = {}
    for record in given.records:
        tp = TopicPartition(INPUT, record.partition)
        event = given.valid.get((record.partition, record.offset))
        event_id = event.event_id if event else "poison"
        places = passed_on.get(event_id, []) if event else []
        effects.setdefault(tp, {})[record.offset] = (event_id, places + letters.get((tp, record.offset), []))
    for one in seen.embedded:
        tp = TopicPartition(one.topic, one.partition)
        event_id = one.event.event_id if one.event else "poison"
        places = [published[event_id]] if one.event and event_id in published else []
        effects.setdefault(tp, {})[one.offset] = (event_id, places + letters.get((tp, one.offset), []))

    early: list[str] = []
    done: dict[TopicPartition, int] = {}
    changelogs = {BAGS_CHANGELOG: _Changelog(seen.changelog)}
    changelogs |= {topic: _Changelog(found) for topic, found in seen.later_changelogs.items()}
    by_place = {(one.topic, one.partition, one.offset): one for one in seen.embedded}
    for sample in seen.samples:
        for tp, committed in sample.committed.items():
            begins = done.get(tp, 0)
            done[tp] = max(begins, committed)
            changelog = changelog_beside(tp.topic)
            rows = changelogs.setdefault(changelog, _Changelog([]))
            if changelog and committed > begins:
                rows.advance(tp.partition, sample.ends[TopicPartition(changelog, tp.partition)])
            for offset in range(begins, committed):
                if offset not in effects.get(tp, {}):  # of an aborted transaction, or its marker
                    continue
                event_id, places = effects[tp][offset]
                where = f"{event_id} at {tp.topic} {tp.partition}/{offset}"
                there = [target.topic for target, place in places if place < sample.ends.get(target, 0)]
                if not there:
                    early.append(f"{where}, without any effect")
                elif OUTPUT in there and not rows.hold(by_place[tp.topic, tp.partition, offset], kept):
                    early.append(f"{where}, not in the changelog")
    return early


def changelog_beside(topic: str) -> str:
    """The changelog of the bags that the events of a topic change; "" if they change none."""
    if topic == EMBEDDED:
        return BAGS_CHANGELOG
    return changelog_of(int(topic.removeprefix(f"{EMBEDDED}-g"))) if topic.startswith(EMBEDDED) else ""


def _letters(seen: Seen) -> dict[Place, list[Place]]:
    """The places of the dead letters, by the place of their originals."""
    found: dict[Place, list[Place]] = {}
    for letter in seen.letters:
        headers = letter.headers
        if "tastestream-offset" in headers:
            original = TopicPartition(headers["tastestream-topic"], int(headers["tastestream-partition"]))
            place = (TopicPartition(LETTERS, letter.partition), letter.offset)
            found.setdefault((original, int(headers["tastestream-offset"])), []).append(place)
    return found


class _Changelog:
    """The rows that recovery would find at some offset."""

    def __init__(self, changelog: list[Record]) -> None:
        self._ahead: dict[int, list[Record]] = {}
        for record in reversed(changelog):
            self._ahead.setdefault(record.partition, []).append(record)
        self._users: dict[tuple[int, str], dict[bytes, bytes]] = {}

    def advance(self, partition: int, end: int) -> None:
        ahead = self._ahead.get(partition, [])
        while ahead and ahead[-1].offset < end:
            record = ahead.pop()
            key = record.key or b""
            rows = self._users.setdefault((partition, user_of(key)), {})
            if record.value is None:
                rows.pop(key, None)
            else:
                rows[key] = record.value

    def hold(self, one: Embedded, kept: Collection[str]) -> bool:
        """Whether the rows contain an event."""
        event = one.event
        if event is None:
            return True
        bag = decode_bag(self._users.get((one.partition, event.user_id), {}).items())
        return fold(bag, event, max_slots=MAX_SLOTS, kept=kept) is bag
