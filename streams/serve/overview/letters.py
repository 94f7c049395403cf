"""Dead letters of the last hour by reason, counted from the records themselves. Pure.

Letters that come faster than they are read are skipped, and counted under the reason `unread`. Notes of `dlq redrive` are no letters.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

from aiokafka import TopicPartition

from streams.dead_letter import PREFIX
from streams.dead_letters.notes import is_note
from streams.kafka.fetched import records_in
from streams.serve.overview.types import Reason

HOUR, MINUTE = 3_600_000, 60_000  # milliseconds
BEHIND = 5000  # letters of a partition that may wait; more of them are skipped
REASONS = 50  # that are told apart: anybody can write to the topic
MAX_REASON = 64  # characters
UNREAD, OTHER = "unread", "other"
_HEADER = PREFIX + "reason"


class LetterCounts:
    """Counts letters by minute and reason."""

    def __init__(self) -> None:
        self._positions: dict[TopicPartition, int] = {}
        self._minutes: dict[int, Counter[str]] = {}  # by minutes since the epoch
        self._newest: dict[str, int] = {}  # milliseconds since the epoch, by reason

    def follows(self, partitions: int) -> bool:
        """Whether so many partitions are read."""
        return len(self._positions) >= partitions

    def begin(self, at: Mapping[TopicPartition, int]) -> None:
        """Read partitions that are not read yet from some offsets on."""
        self._positions = {**at, **self._positions}

    def forget(self) -> None:
        """The topic is another: read it anew. What was counted stays."""
        self._positions.clear()

    def waiting(self, ends: Mapping[TopicPartition, int], now: int) -> dict[TopicPartition, int]:
        """Where letters wait to be read. Skips those that are too many.

        Args:
            ends: of the dead letter topic.
            now: milliseconds since the epoch.
        """
        found: dict[TopicPartition, int] = {}
        for tp, position in self._positions.items():
            end = ends.get(tp, position)
            if end - position > BEHIND:
                self._count(UNREAD, end - BEHIND - position, now)
                self._positions[tp] = end - BEHIND
            if end > position:
                found[tp] = self._positions[tp]
        return found

    def take(self, fetched: Mapping[TopicPartition, bytes], since: int) -> int:
        """Count the letters in what was fetched from there on.

        Args:
            fetched: of the dead letter topic.
            since: milliseconds since the epoch.

        Returns:
            How many of them were written since then.
        """
        taken = 0
        for tp, data in fetched.items():
            records, self._positions[tp] = records_in(data, self._positions[tp])
            for record in records:
                if not is_note(record.headers):
                    reasons = [content for name, content in record.headers if name == _HEADER]
                    reason = (reasons[-1] or b"").decode(errors="replace")[:MAX_REASON] if reasons else ""
                    self._count(reason, 1, max(record.timestamp, 0))
                    taken += record.timestamp >= since
        return taken

    def since(self, first: int) -> Counter[str]:
        """Letters by reason since a time, to the minute. `first`: milliseconds since the epoch."""
        found: Counter[str] = Counter()
        for minute, counts in self._minutes.items():
            if minute * MINUTE >= first - MINUTE:
                found.update(counts)
        return found

    def reasons(self, now: int) -> list[Reason]:
        """Those of the last hour, the most frequent first."""
        self._minutes = {minute: some for minute, some in self._minutes.items() if minute * MINUTE >= now - HOUR}
        counts = self.since(0)
        self._newest = {reason: self._newest[reason] for reason in counts}
        return [
            Reason(reason=reason, count=count, newest=datetime.fromtimestamp(self._newest[reason] / 1000, UTC))
            for reason, count in counts.most_common()
        ]

    def _count(self, reason: str, number: int, at: int) -> None:
        reason = reason if reason in self._newest or len(self._newest) < REASONS else OTHER
        self._minutes.setdefault(at // MINUTE, Counter())[reason] += number
        self._newest[reason] = max(at, self._newest.get(reason, 0))
