"""Looks at the brokers once a second for as long as the serve worker runs, and puts what it sees on a board.

It joins no group. A broker that is away is what it has to tell, and is never an error of the worker.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from math import nan

from aiokafka.errors import KafkaError

from streams import metrics
from streams.exceptions import BrokerUnreachable
from streams.kafka.groups import group_uses
from streams.kafka.observing import Look, Observer
from streams.serve.overview.board import Board, Names
from streams.serve.overview.latency import grown_in_turn
from streams.serve.state import State
from streams.settings import Settings

logger = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two looks
ROUNDS = 2  # requests to a broker for the times of first records
HOUR = 3_600_000  # milliseconds
FRESH = 2000  # milliseconds: a letter is new if it is not older than the look before by more than this

# Bytes of each partition, and of a response, that are read at a look
OF_INPUT, OF_OUTPUT, OF_LETTERS = (16 * 1024, 64 * 1024), (128 * 1024, 512 * 1024), (128 * 1024, 512 * 1024)


class Watch:
    """Follows the system.

    Attributes:
        board: what is known of it.
    """

    def __init__(self, settings: Settings, replica: Callable[[], list[State]]) -> None:
        """Does not connect yet. `replica`: the state of the bags."""
        self._settings = settings
        self._uses = group_uses(settings)
        self._replica = replica
        self.board = Board(
            Names(
                settings.interactions_topic,
                settings.embedded_topic,
                settings.recommendations_topic,
                settings.dlq_topic,
                {settings.embed_group: "embed worker", settings.profile_group: "profile worker"},
            )
        )
        self._turn = 0
        self._published: set[tuple[str, str]] = set()  # topics and partitions that have series

    async def run(self) -> None:
        """Look until it is cancelled."""
        while True:
            try:
                async with Observer(self._settings) as observer:
                    while True:
                        begun = time.monotonic()
                        await self._look(observer)
                        self._publish()
                        await asyncio.sleep(max(0.0, begun + INTERVAL - time.monotonic()))
            except (BrokerUnreachable, KafkaError, TimeoutError, OSError) as error:
                if self.board.now.verdict.reason != "broker_away":
                    logger.warning("the overview does not know how far the workers are: %s", error)
                self.board.away(int(time.time() * 1000), str(error) or repr(error), self._replica())
                self._publish()
                await asyncio.sleep(INTERVAL)

    async def _look(self, observer: Observer) -> None:
        board = self.board
        look = await observer.look(self._uses, [board.names.output, board.names.letters], rounds=ROUNDS)
        before = board.before
        if before is not None:
            await self._sample(observer, before, look)
        letters = await self._letters(observer, look)
        board.look(look, letters, self._replica())

    async def _sample(self, observer: Observer, before: Look, look: Look) -> None:
        """Take some events, and look for their recommendations and those of others."""
        names, sampler = self.board.names, self.board.sampler
        if names.output not in look.topics or self._replaced(names.output, before, look):
            sampler.forget()
            return
        self._turn += 1
        tp = grown_in_turn(before.ends, look.ends, names.input, turn=self._turn)
        if tp is not None:
            position = before.ends[tp]
            for data in (await observer.fetch(look.topics, {tp: position}, *OF_INPUT)).values():
                sampler.take(data, position, before.ends, look.topics[names.output].partitions)
        at = {tp: position for tp, position in sampler.positions.items() if look.ends.get(tp, 0) > position}
        fetched = await observer.fetch(look.topics, at, *OF_OUTPUT) if at else {}
        sampler.look(fetched, look.ends, look.at)

    async def _letters(self, observer: Observer, look: Look) -> int:
        """Read dead letters that are new; at first, those of the last hour. Returns their number."""
        name, letters = self.board.names.letters, self.board.letters
        if name not in look.topics:
            letters.forget()
            return 0
        before = self.board.before
        if before is not None and self._replaced(name, before, look):
            letters.forget()
        if not letters.follows(look.topics[name].partitions):
            found = await observer.offsets_at({name: look.topics[name]}, look.at - HOUR)
            letters.begin(
                {tp: offset if offset >= 0 else look.ends[tp] for tp, offset in found.items() if tp in look.ends}
            )
        waiting = letters.waiting(look.ends, look.at)
        if not waiting:
            return 0
        fetched = await observer.fetch(look.topics, waiting, *OF_LETTERS)
        return letters.take(fetched, look.at - FRESH if before is None else before.at - FRESH)

    @staticmethod
    def _replaced(name: str, before: Look, look: Look) -> bool:
        """Whether a topic was deleted and created again."""
        return name in before.topics and before.topics[name].is_another(look.topics[name])

    def _publish(self) -> None:
        """Set the metrics. Series of partitions that are gone are removed."""
        there: set[tuple[str, str]] = set()
        for group in self.board.now.groups:
            for one in group.partitions:
                labels = group.topic, str(one.partition)
                there.add(labels)
                metrics.group_lag.labels(*labels).set(nan if one.events is None else one.events)
                metrics.group_lag_seconds.labels(*labels).set(nan if one.seconds is None else one.seconds)
        for labels in self._published - there:
            metrics.group_lag.remove(*labels)
            metrics.group_lag_seconds.remove(*labels)
        self._published = there
