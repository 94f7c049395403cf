"""The crash journal: finds the record that kills its worker, so that it becomes a dead letter instead of a crash loop.

A worker that dies hard (a segmentation fault, the kernel's OOM killer, a stall) cannot say which record it worked on, and the
broker delivers the same records to the next run. So each run leaves a small file in the worker's folder, and a clean stop
removes it. A run that finds the file goes *careful* if a partition is still where the dead run began to read it:

    1. The worker processes one record at a time, of all its partitions together, until it has committed the records of the
       partition that the dead run can have had in hand, or for `LIMIT` seconds.
    2. The record in hand stands in the file, on disk, before the agent gets it, and until it is finished.
    3. A death is counted for the record in hand. It was the only one in the process, so no other record is at fault.
    4. After `DEATHS` deaths a record is not processed any more: it becomes a dead letter.

A run that does not find the file, or whose partitions have moved on, writes the file once for each assignment and does nothing
for a record. The file is removed, or names no record, whenever the worker ends for another reason: a stop, a broker that is
away, a full disk.

The embed worker reads two topics, events and items. They share the file, and being careful: one record at a time is one record of
both topics. `InFlightTracker.alone` sees to that.
"""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Annotated, NamedTuple

import msgspec
from aiokafka import TopicPartition

from streams.exceptions import EventError

logger = logging.getLogger(__name__)

NAME = "crash-journal.json"
DEATHS = 3  # of a worker with one record in hand, after which the record becomes a dead letter

# Seconds that a worker is careful, unless a record is under suspicion. A record that kills is among the first ones, while
# slow pictures could keep a worker careful for hours.
LIMIT = 60.0


_Natural = Annotated[int, msgspec.Meta(ge=0)]


class _Place(NamedTuple):
    """A record, or where reading begins."""

    topic: str
    partition: _Natural
    offset: _Natural

    @property
    def tp(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    def __str__(self) -> str:
        return "/".join(map(str, self))


class _State(msgspec.Struct, frozen=True):
    """The contents of the file."""

    topic_ids: dict[str, str] = {}  # by topic that the places are in; none where the broker has no ids
    began: list[_Place] = []  # where the run began to read
    deaths: list[tuple[_Place, _Natural]] = []  # number of deaths with this record in hand
    in_hand: _Place | None = None  # the record that is processed alone


class CrashJournal:
    """What is known of the runs before this one that did not stop cleanly, and what this run leaves to the next.

    A file that cannot be read counts as none. If it cannot be written, the worker runs without.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = monotonic) -> None:
        """Read what the run before left in the worker's folder."""
        self._path = folder / NAME
        self._clock = clock
        self._writable = True
        state = self._read()
        self._before = frozenset(state.began)  # where the run before began
        self._topic_ids = state.topic_ids
        self._began = state.began
        self._deaths = dict(state.deaths)
        self._in_hand: _Place | None = None
        self._windows: dict[TopicPartition, int] = {}  # by partition, the offset at which it is no longer careful
        self._suspects: dict[TopicPartition, int] = {}  # the same, because of records that deaths are counted for
        self._deadline = 0.0  # of the windows, on the clock
        if (killer := state.in_hand) is not None:
            deaths = self._deaths[killer] = self._deaths.get(killer, 0) + 1
            self._write()  # so that a death before the next record is not counted again
            logger.warning("the worker died with %s in hand, %d of at most %d times", killer, deaths, DEATHS)

    @property
    def careful(self) -> bool:
        """Whether records have to be processed one at a time."""
        return bool(self._windows or self._suspects)

    def begin(
        self,
        topic: str,
        positions: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
        share: int,
        topic_id: str = "",
    ) -> None:
        """The partitions of a topic were assigned.

        Args:
            topic: that they are of.
            positions: where reading begins, the committed offset, by partition.
            ends: end of each partition.
            share: maximum number of records of a partition that a run has in hand.
            topic_id: of the topic. A topic that was deleted and created again has other records at the same offsets.
        """
        known = self._topic_ids.get(topic, topic_id)
        if topic_id and known != topic_id:
            self._before = frozenset(place for place in self._before if place.topic != topic)
            self._deaths = {record: count for record, count in self._deaths.items() if record.topic != topic}
        if topic_id:
            self._topic_ids[topic] = topic_id
        began = [_Place(topic, tp.partition, position) for tp, position in positions.items()]
        self._began = [place for place in self._began if place.topic != topic] + began
        if self._in_hand is not None and self._in_hand.topic == topic:
            self._in_hand = None
        for windows in (self._windows, self._suspects):
            for tp in [tp for tp in windows if tp.topic == topic]:
                del windows[tp]
        self._deadline = self._clock() + LIMIT
        for place in began:
            end = ends.get(place.tp, 0)
            if place in self._before and place.offset < end:
                self._windows[place.tp] = min(place.offset + share, end)
            for record in [record for record in self._deaths if record.tp == place.tp]:
                if place.offset <= record.offset < end:
                    self._suspects[place.tp] = max(self._suspects.get(place.tp, 0), record.offset + 1)
                else:  # committed, or of a topic that was re-created on a broker without ids
                    del self._deaths[record]
        self._write()
        if self.careful:
            logger.warning(
                "the worker died before it made progress on %s; processing one record at a time to find the one at fault",
                ", ".join(sorted({f"{tp.topic}/{tp.partition}" for tp in (*self._windows, *self._suspects)})),
            )

    def hold(self, tp: TopicPartition, offset: int) -> bool:
        """Write down the record that is processed next, alone.

        Returns:
            Whether it must not be processed, because the worker has died with it too often.
        """
        record = _Place(tp.topic, tp.partition, offset)
        if self._deaths.get(record, 0) >= DEATHS:
            return True
        self._in_hand = record
        self._write()
        return False

    def release(self, topic: str, committed: Mapping[TopicPartition, int]) -> None:
        """No record of a topic is in hand any more.

        Args:
            topic: that is read.
            committed: the committed offset by partition. If the worker were careful only until these records are finished, and
                died before it commits them, the next run would begin where this one began.
        """
        if self._in_hand is not None and self._in_hand.topic == topic:
            self._deaths.pop(self._in_hand, None)  # it was processed: it does not kill
            self._in_hand = None
            self._write()
        late = self._clock() >= self._deadline
        self._windows = {} if late else _open(self._windows, topic, committed)
        self._suspects = _open(self._suspects, topic, committed)
        if not self.careful:
            logger.info("processing records side by side again")

    def acquit(self) -> None:
        """The worker ends for a reason that no record has caused: do not count it as a death."""
        self._in_hand = None
        self._write()
        self._writable = False

    def close(self) -> None:
        """The worker has stopped cleanly."""
        self._writable = False
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s cannot be removed: %s", self._path, error.strerror)

    def _read(self) -> _State:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_State)
        except FileNotFoundError:
            return _State()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            logger.warning("%s cannot be read, and is ignored: %s", self._path, error)
            return _State()

    def _write(self) -> None:
        """Replace the file. The contents are on disk when this returns."""
        if not self._writable:
            return
        new = self._path.with_suffix(".new")
        try:
            with new.open("wb") as file:
                state = _State(self._topic_ids, self._began, list(self._deaths.items()), self._in_hand)
                file.write(msgspec.json.encode(state))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            self._writable = False
            logger.warning("%s cannot be written; a record that kills the worker is not found: %s", new, error.strerror)


def quarantine() -> EventError:
    """Why a record that must not be processed becomes a dead letter."""
    return EventError("worker_crashed", f"the worker died {DEATHS} times while it processed nothing but this record")


def _open(
    windows: Mapping[TopicPartition, int], topic: str, committed: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """The windows that their partition has not passed. Of other topics nothing is known."""
    return {tp: end for tp, end in windows.items() if tp.topic != topic or (tp in committed and committed[tp] < end)}
