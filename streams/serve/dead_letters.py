"""Dead letters for the API: found by a filter, one by its place, and their events sent again. One request at a time."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta

from streams.dead_letter import Letter
from streams.dead_letters.letter_filter import LetterFilter
from streams.dead_letters.notes import History
from streams.dead_letters.reading import DeadLetterReader
from streams.dead_letters.redrive import Sender, make_plan, verdicts
from streams.dead_letters.verdict import Skip
from streams.serve.interface import Busy, FoundLetter, FoundLetters, Redriven, SearchTooLong
from streams.settings import Settings

SEARCH = 20.0  # seconds that a search may take
REDRIVE = 60.0  # seconds to send events again
RATE = 200.0  # events per second that are sent again
NOTES = timedelta(hours=1)  # before the first letter: notes on earlier attempts are older than the letters


class LetterDesk:
    """The `Letters` of the serve worker. It connects for each request: they are rare."""

    def __init__(self, settings: Settings) -> None:
        """Does not connect."""
        self._settings = settings
        self._one = asyncio.Lock()

    async def find(self, letter_filter: LetterFilter) -> FoundLetters:
        """Letters, newest first. Raises as `Letters.find` says."""
        history, newest = History(), deque[Letter](maxlen=letter_filter.limit)
        read = matching = 0
        since = None if letter_filter.since is None else letter_filter.since - NOTES
        async with self._reader(SEARCH) as topic:
            async for letter in topic.letters(history.add, since and int(since.timestamp() * 1000)):
                read += 1
                if letter_filter.matches(letter):
                    matching += 1
                    newest.append(letter)
        letters = [FoundLetter(one, history.attempts(one), history.sent(one)) for one in reversed(newest)]
        return FoundLetters(letters, matching, read)

    async def get(self, partition: int, offset: int) -> Letter | None:
        """The letter at a place. Raises as `find` does."""
        async with self._reader(SEARCH) as topic:
            return await topic.letter(partition, offset)

    async def redrive(self, letter_filter: LetterFilter, *, max_attempts: int, dry_run: bool) -> Redriven:
        """Send the events of letters again, or say which would be. Raises as `Letters.redrive` says."""
        sent: Counter[tuple[str, str]] = Counter()
        skipped: Counter[Skip] = Counter()
        doubtful = 0
        async with self._reader(REDRIVE) as topic:
            plan = await make_plan(topic, letter_filter, lambda: None)
            async with nullcontext() if dry_run else Sender(self._settings, RATE, sent) as sender:
                async for letter, judged in verdicts(
                    self._settings, topic, letter_filter, plan, max_attempts=max_attempts
                ):
                    if isinstance(judged, Skip):
                        skipped[judged] += 1
                        continue
                    doubtful += judged.doubtful
                    if sender is None:
                        sent[judged.topic, letter.reason] += 1
                    else:
                        await sender.send(letter, judged)
        return Redriven(plan.selected, sent.total(), doubtful, {skip.name: count for skip, count in skipped.items()})

    @asynccontextmanager
    async def _reader(self, seconds: float) -> AsyncGenerator[DeadLetterReader]:
        if self._one.locked():
            raise Busy
        async with self._one:
            try:
                async with asyncio.timeout(seconds), DeadLetterReader(self._settings) as topic:
                    yield topic
            except TimeoutError as error:
                raise SearchTooLong(f"it took longer than {seconds:g} s") from error
