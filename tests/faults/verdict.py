"""The verdict on a scenario: compares the input (through the oracle) with the output (from the tap and the disks).

conservation    every event is in the output, or is a dead letter, or a null that an erasure explains
bags            the bags on disk and in the changelog are the fold of the input topic
scores          the last recommendation of each user equals the direct computation; null for an empty bag. If the bundle uses the trend,
                it is computed with the version of the trend and the event time that the recommendation names
trend           the latest snapshots are the sum over the bags, if the bundle uses the trend
lag             everything is committed
acknowledgement no event was committed before its effects were on the next topic
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from time import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.exceptions import MessageError
from streams.messages import Interaction, parse_interaction
from streams.profile.bag import Bag
from tests.faults.acknowledged import acknowledged_early
from tests.faults.tap import INPUT, Output, Sample, Seen
from tests.kafka.system import Record
from tests.oracle import Expected, Oracle, trend_of
from tests.stored import bags_of, closed_offset, closed_rows, partitions_on_disk
from tests.trend import Rows, latest_rows, total, windows

TOLERANCE = 1e-3  # of a published score
NAMED = 5  # examples in a message


@dataclass
class Row:
    """One line of the table."""

    scenario: str
    seed: int
    events: int = 0
    duplicates: int = 0
    lost: int = 0
    differing_bags: int = 0
    silence: float = 0.0  # seconds without output
    crashes: int = 0  # times that a worker ended by itself
    passed: bool = False
    note: str = ""
    broken_by: str = ""  # the deliberate break that the scenario had to find

    def line(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Input:
    """The records of `user-interactions`, parsed."""

    records: list[Record]
    valid: dict[tuple[int, int], Interaction] = field(default_factory=dict[tuple[int, int], Interaction])

    @staticmethod
    def of(records: list[Record]) -> "Input":
        found = Input(records)
        for record in records:
            try:
                event = parse_interaction(record.value, now=time(), max_future=300)
            except MessageError:
                continue
            found.valid[record.partition, record.offset] = event
        return found


@dataclass
class Findings:
    """The problems, in sentences, and the counts for the table."""

    problems: list[str] = field(default_factory=list[str])
    duplicates: int = 0
    lost: int = 0
    differing_bags: int = 0

    def add(self, what: str, examples: Sequence[Any] = ()) -> None:
        more = f" and {len(examples) - NAMED} more" if len(examples) > NAMED else ""
        shown = f": {', '.join(map(str, examples[:NAMED]))}{more}" if examples else ""
        self.problems.append(what + shown)


def judge(
    given: Input,
    seen: Seen,
    last: Sample | None,
    disks: Iterable[Path],
    oracle: Oracle,
    *,
    snapshots: Iterable[Record] = (),
    may_fail: Callable[[Interaction], bool] = lambda _: False,
) -> Findings:
    """Judge a scenario whose workers have stopped and whose tap has read everything.

    Args:
        given: the input topic.
        seen: what the tap read.
        last: its latest sample.
        disks: the `bags` folders of all profile workers.
        oracle: computes the expected bags and scores.
        snapshots: the records of the trend.
        may_fail: tells whether an event may become a dead letter, since its picture is not available in this scenario.
    """
    found = Findings()
    lettered = _conservation(given, seen, found, may_fail)
    came = {output.event_id for output in seen.outputs}
    folded = [
        event
        for place, event in given.valid.items()
        if place not in lettered and (event.event_id in came or not may_fail(event))
    ]
    expected = oracle.expected(folded)
    differing: set[str] = set()
    for where, bags in (("on disk", _on_disk(disks)), ("in the changelog", _in_changelog(seen.changelog))):
        differ = _differing(expected, bags)
        if differ:
            found.add(f"{len(differ)} bags {where} are not the fold of the input", sorted(differ))
        differing |= differ
    found.differing_bags = len(differing)
    records = list(snapshots)
    wrong = [
        f"{user} ({reason})"
        for user, one in sorted(expected.items())
        if (reason := wrong_recommendation(oracle, one, user, seen.last, records))
    ]
    if wrong:
        found.add(f"{len(wrong)} users have a wrong last recommendation", wrong)
    if oracle.bundle.labels_version:
        trend = total(latest_rows(records), oracle.bundle.labels_version)
        if off := differing_days(trend, trend_of((one.bag for one in expected.values()), oracle.bundle)):
            found.add(f"{len(off)} days of the trend are not the sum over the bags", off)
    if last is None or last.lag:
        found.add(f"lag {last and last.lag}")
    if early := acknowledged_early(given, seen, oracle.bundles.row_bytes):
        found.add(f"{len(early)} events were committed ahead of their effects", early)
    return found


def _conservation(
    given: Input, seen: Seen, found: Findings, may_fail: Callable[[Interaction], bool]
) -> set[tuple[int, int]]:
    """Count lost and duplicate events. Returns the places of valid events that became dead letters only."""
    outputs: dict[str, list[Output]] = {}
    for output in seen.outputs:
        outputs.setdefault(output.event_id, []).append(output)
    letters = _letters_by_place(seen)
    produced = Counter(event.event_id for event in given.valid.values())
    lettered = {place for place, event in given.valid.items() if event.event_id not in outputs and place in letters}
    poison = [(record.partition, record.offset) for record in given.records]
    lost = [f"poison at {place}" for place in poison if place not in given.valid and place not in letters]
    lost += [
        f"{event.event_id} of {event.user_id} at {place}"
        for place, event in given.valid.items()
        if event.event_id not in outputs and place not in letters
    ]
    if lost:
        found.add(f"{len(lost)} events are lost", lost)
    refused = [
        f"{given.valid[place].event_id}: {letters[place].headers.get('tastestream-error')}"
        for place in sorted(lettered)
        if not may_fail(given.valid[place])
    ]
    if refused:
        found.add(f"{len(refused)} good events became dead letters", refused)
    if nulls := _unfounded_nulls(given, outputs):
        found.add(f"{len(nulls)} events became null, but no erasure covers them", nulls)
    if strange := [event_id for event_id in outputs if event_id not in produced]:
        found.add(f"{len(strange)} outputs of events that were not produced", strange)
    found.lost = len(lost) + len(refused) + len(nulls)
    found.duplicates = sum(max(0, len(came) - produced[event_id]) for event_id, came in outputs.items())
    return lettered


def _unfounded_nulls(given: Input, outputs: dict[str, list[Output]]) -> list[str]:
    erased: dict[str, int] = {}
    for event in given.valid.values():
        if event.type == "erase":
            erased[event.user_id] = max(erased.get(event.user_id, -1), event.timestamp)
    return [
        event.event_id
        for event in given.valid.values()
        if event.timestamp > erased.get(event.user_id, -1)
        and any(output.null for output in outputs.get(event.event_id, []))
    ]


def _letters_by_place(seen: Seen) -> dict[tuple[int, int], Record]:
    """The dead letters, by partition and offset of their originals on `user-interactions`."""
    return {
        (int(letter.headers["tastestream-partition"]), int(letter.headers["tastestream-offset"])): letter
        for letter in seen.letters
        if letter.headers.get("tastestream-topic") == INPUT
    }


def _on_disk(disks: Iterable[Path]) -> dict[str, Bag]:
    """The bags of the newest database of each partition, on whichever worker it is."""
    newest: dict[int, tuple[int, Path]] = {}
    for disk in disks:
        for partition in partitions_on_disk(disk):
            found = (closed_offset(disk, partition), disk)
            newest[partition] = max(newest.get(partition, found), found)
    rows = [row for partition, (_, disk) in newest.items() for row in closed_rows(disk, partition)]
    return bags_of(rows)


def _in_changelog(changelog: list[Record]) -> dict[str, Bag]:
    newest = {record.key or b"": record.value for record in changelog}
    return bags_of((key, value) for key, value in newest.items() if value is not None)


def _differing(expected: dict[str, Expected], bags: dict[str, Bag]) -> set[str]:
    nothing = Bag()
    users = expected.keys() | bags.keys()
    return {user for user in users if bags.get(user, nothing) != (expected[user].bag if user in expected else nothing)}


def differing_days(trend: Rows, expected: Rows) -> list[int]:
    """The days whose counts differ."""
    return [day for day in sorted(trend.keys() | expected.keys()) if trend.get(day) != expected.get(day)]


def wrong_recommendation(
    oracle: Oracle, expected: Expected, user: str, last: dict[str, bytes | None], snapshots: Sequence[Record]
) -> str:
    """What is wrong with the last recommendation of a user; empty if nothing is."""
    if user not in last:
        return "none"
    value = last[user]
    if (value is None) != (not expected.bag.slots):
        return "null" if value is None else "should be null"
    if value is None:
        return ""
    published = json.loads(value)
    if published["bag_size"] != len(expected.items):
        return f"bag of {published['bag_size']}, expected {len(expected.items)}"
    scores = expected.scores
    if oracle.bundle.labels_version:
        version, end = published["trend_version"], snapshots[-1].offset if snapshots else -1
        if version is None or not 0 <= version <= end:
            return f"version {version} of the trend, which ends at {end}"
        scores = scores_with_trend(oracle, expected.bag, published, snapshots)
    every = list(range(len(scores)))
    lists = [(published["categories"], every)]
    lists += [
        (one["values"], field.categories)
        for one, field in zip(published.get("fields", []), oracle.bundle.fields, strict=True)
    ]
    off = max(_distance(listed, scores, places, oracle.bundle.categories) for listed, places in lists)
    return f"a score is off by {off:.1e}" if off > TOLERANCE else ""


def scores_with_trend(
    oracle: Oracle, bag: Bag, published: dict[str, Any], snapshots: Sequence[Record]
) -> NDArray[np.float32]:
    """The scores [D] of a bag with the version of the trend, and at the event time, that a recommendation names."""
    known = (record for record in snapshots if record.offset <= published["trend_version"])
    rows = total(latest_rows(known), oracle.bundle.labels_version)
    moment = round(datetime.fromisoformat(published["timestamp"]).timestamp() * 1000)
    return oracle.scores_at(bag, moment, windows(rows, moment, len(oracle.bundle.categories)))


def _distance(
    listed: list[dict[str, Any]], scores: NDArray[np.float32], places: Sequence[int], names: Sequence[str]
) -> float:
    """How far a list is from the best of some scores, at most: each from the score of its category, and from that of its rank.

    Args:
        listed: categories with their scores, best first.
        scores: of all categories, [D].
        places: of the categories that can be listed.
        names: of all categories.
    """
    named = dict(zip(names, scores.tolist(), strict=True))
    best = sorted((float(scores[place]) for place in places), reverse=True)
    told = [(one["score"], named[one["category"]], rank) for one, rank in zip(listed, best, strict=False)]
    return max(max(abs(score - own), abs(score - rank)) for score, own, rank in told)


def silence(outputs: list[Output], windows: list[tuple[float, float]], partitions: int) -> float:
    """The longest time without output of a partition while events were produced, in seconds.

    Args:
        outputs: all outputs.
        windows: start and end of each load. A silence begins and ends with an output or with its window.
        partitions: number of partitions.
    """
    longest = 0.0
    for begun, ended in windows:
        for partition in range(partitions):
            times = [begun, *(o.arrived for o in outputs if o.partition == partition and o.arrived > begun)]
            gaps = [min(after, ended) - before for before, after in pairwise(times) if before < ended]
            longest = max(longest, *gaps, 0.0)
    return longest
