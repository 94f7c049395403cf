"""`tastestream rollout prepare`: gives the items in the bags the codes of `NEXT_BUNDLE`.

1. The changelog of the bags says which rows lack a code.
2. Codes are made from the features on `picture-features`, once for each picture, and sent in the order of the users, so that a
   profile worker reads each bag once.
3. The pictures that are left are fetched. Their features go to the topic.
4. Where a picture is gone, the code is adapted from that of another embedder.

What was sent is in the changelog soon after. So a run that is killed needs no notes, and the next one continues.
"""

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic

from rich.console import Console

from streams.exceptions import BrokerUnreachable, FetchError, StartupError
from streams.kafka.fleet import BundleName, fleet
from streams.kafka.generations import in_use
from streams.rollout.bundles import both
from streams.rollout.coder import Coder
from streams.rollout.fetching import Fetch, open_fetching
from streams.rollout.gates import without_embedder
from streams.rollout.held import prepared, total
from streams.rollout.ledger import Ledger, Row, batched, open_ledger
from streams.rollout.progress import Work, shown_work
from streams.rollout.reading import Ends, Survey, improvable, read_bags, read_features, surveyed
from streams.rollout.report import dry_run_lines, prepare_lines, say
from streams.rollout.sending import Sender
from streams.runtime.process import configure_logging, stop_event, unless_stopped
from streams.settings import Settings

logger = logging.getLogger(__name__)

STOPPED = 130  # exit code after Ctrl-C, as a shell reports it
NOT_ALL = 1  # exit code if some items have no code

FROM_FEATURES, FETCHED, ADAPTED = "from features", "fetched", "adapted"
KEEP_UP_INTERVAL = 5.0  # seconds
NO_FEATURES = "no_features"  # why an item has no code: --no-fetch, and nothing adapts its code


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    rate: float | None = None  # interactions a second; None for no limit
    limit: int | None = None  # items to look at
    dry_run: bool = False
    fetch: bool = True


@dataclass
class Tally:
    """What a run has done."""

    survey: Survey = field(default_factory=Survey)
    sent: Counter[str] = field(default_factory=Counter[str])  # items, by how their codes were made
    left: Counter[str] = field(default_factory=Counter[str])  # items without a code, by reason
    to_fetch: int = 0  # items whose pictures a dry run would fetch
    adaptable: int = 0  # those of these whose code could be adapted


def run_prepare(settings: Settings, console: Console, options: Options) -> int:
    """Prepare, and print a summary, however the run ends.

    Returns:
        The exit code: 0 if all items have a code, 1 if some do not, 130 after a signal.

    Raises:
        TastestreamError: a setting, a bundle, the broker, a topic or the disk does not permit it, or another run is at work.
    """
    configure_logging(settings)
    with open_ledger(settings, "prepare") as ledger:
        return asyncio.run(_prepare(settings, ledger, console, options))


async def _prepare(settings: Settings, ledger: Ledger, console: Console, options: Options) -> int:
    stop = stop_event(with_parent=False)
    served, following = both(settings)
    if served.embedder_version == following.embedder_version:
        say(
            console,
            "nothing to prepare: BUNDLE and NEXT_BUNDLE have the same embedder, so the codes of the bags fit both",
        )
        return 0
    settings = await in_use(settings)
    tally, started, done = Tally(), monotonic(), False
    coder = Coder(following, settings.model_threads)
    job = Preparation(settings, ledger, coder, tally, options, served=served.embedder_version)
    try:
        await unless_stopped(job.run(), stop)
        done = not stop.is_set()
    finally:
        if tally.survey.shares:  # otherwise nothing was read, and the failure says why
            for line in _summary(tally, ledger, options, BundleName.of(following), monotonic() - started, done=done):
                say(console, line)
    if not done:
        return STOPPED
    return NOT_ALL if tally.left else 0


def _summary(
    tally: Tally, ledger: Ledger, options: Options, following: BundleName, seconds: float, *, done: bool
) -> list[str]:
    before = total(tally.survey.shares.values())
    if options.dry_run and done:
        return dry_run_lines(
            following=following,
            before=before,
            known=tally.sent.total(),
            to_fetch=tally.to_fetch,
            pictures=ledger.pictures_to_fetch(),
            adaptable=tally.adaptable,
        )
    return prepare_lines(
        following=following, before=before, sent=tally.sent, left=tally.left, seconds=seconds, done=done
    )


class Preparation:
    """One run."""

    def __init__(
        self, settings: Settings, ledger: Ledger, coder: Coder, tally: Tally, options: Options, *, served: str
    ) -> None:
        """Prepare a run. `served`: version of the embedder of `BUNDLE`."""
        self._settings = settings
        self._ledger = ledger
        self._coder = coder
        self._tally = tally
        self._options = options
        self._served = served
        self._ends: Ends = {}  # of the changelog, as far as it was read

    async def run(self) -> None:
        """All steps. Raises TastestreamError."""
        await self._check_fleet()
        with shown_work() as work:
            await self._survey(work)
            if self._options.dry_run:
                await self._send_known(None, work)
                self._count_the_rest()
                return
            async with Sender(self._settings, rate=self._options.rate) as sender:
                self._tally.sent = sender.sent
                await self._send_known(sender, work)
                if self._options.fetch:
                    await self._fetch(sender, work)
                else:
                    await self._adapt_all(sender)

    async def _check_fleet(self) -> None:
        """Raise StartupError if a profile worker does not have the bundle. An embed worker without it is only logged."""
        members = await fleet(self._settings)
        embedding = [one for one in members if one.group == self._settings.embed_group]
        profiles = [one for one in members if one.group == self._settings.profile_group]
        if others := without_embedder(profiles, self._coder.version):
            raise StartupError(
                f"{others[0]}: restart all profile workers with this NEXT_BUNDLE before you prepare, then the embed workers"
            )
        for line in without_embedder(embedding, self._coder.version):
            logger.warning("%s: new events lack the next bundle's code until it has this NEXT_BUNDLE", line)

    async def _survey(self, work: Work) -> None:
        settings, ledger, coder, tally = self._settings, self._ledger, self._coder, self._tally
        self._ends = await read_bags(settings, ledger, work, served=self._served, following=coder.version)
        tally.survey = surveyed(ledger, self._ends, limit=self._options.limit)
        if settings.share_features and tally.survey.chosen:
            await read_features(
                settings,
                ledger,
                work,
                version=coder.features_version,
                fits=coder.fits,
                codes=None if self._options.dry_run else coder.of_features,
            )

    async def _send_known(self, sender: Sender | None, work: Work) -> None:
        """Send the codes that were made from features. The rows that still lack one wait for their pictures."""
        work.begin("preparing", self._tally.survey.chosen)
        chosen = islice((row for row in self._ledger.rows() if improvable(row)), self._options.limit)
        for rows in batched(chosen):
            later: list[Row] = []
            for row in rows:
                code = self._ledger.code(row.held.image_url)
                if code is not None:
                    await self._send(sender, row, code, FROM_FEATURES)
                elif row.held.lacks:
                    later.append(row)
            self._ledger.fetch_later(later)
            work.advance(len(rows))
            await asyncio.sleep(0)  # signals and acknowledgements get their turn
        if sender is not None:
            await sender.flush()

    async def _send(self, sender: Sender | None, row: Row, code: bytes, how: str, *, adapted: bool = False) -> None:
        if sender is None:
            self._tally.sent[how] += 1
            return
        event = prepared(row.user_id, row.held, version=self._coder.version, code=code, adapted=adapted)
        await sender.send(event, row.held.partition, how)

    async def _fetch(self, sender: Sender, work: Work) -> None:
        """Fetch the pictures that rows wait for, many at a time, and prepare the rows of each."""
        pictures = self._ledger.pictures_to_fetch()
        if not pictures:
            return
        settings = self._settings
        work.begin("fetching", pictures)
        slots = asyncio.Semaphore(min(settings.embed_in_flight, settings.fetch_connections))  # more would only wait
        keeping_up = asyncio.create_task(self._keep_up())
        try:
            async with open_fetching(settings, self._coder) as fetch, asyncio.TaskGroup() as tasks:
                for number, url in self._ledger.to_fetch():
                    await slots.acquire()
                    task = tasks.create_task(self._fetched(fetch, sender, number, url))
                    task.add_done_callback(lambda _: (slots.release(), work.advance()))
        except ExceptionGroup as group:  # the first failure has cancelled the other pictures
            raise group.exceptions[0] from group
        finally:
            keeping_up.cancel()
            with suppress(asyncio.CancelledError):
                await keeping_up
        await sender.flush()

    async def _keep_up(self) -> None:
        """Read what the changelog got meanwhile, for as long as pictures are fetched: nobody is sent who was erased since."""
        while True:
            await asyncio.sleep(KEEP_UP_INTERVAL)
            try:
                self._ends = await read_bags(
                    self._settings,
                    self._ledger,
                    None,
                    served=self._served,
                    following=self._coder.version,
                    since=self._ends,
                )
            except BrokerUnreachable as error:  # what is sent meets it as well
                logger.warning("%s", error)

    async def _fetched(self, fetch: Fetch, sender: Sender, number: bytes, url: str) -> None:
        try:
            features = await fetch(url)
        except FetchError as error:
            if error.transient:  # the next run asks again
                self._leave(number, error.reason)
            else:
                await self._adapt(sender, number, error.reason)
            return
        if self._settings.share_features:
            await sender.send_features(self._coder.features_version, url, features)
        [code] = self._coder.of_features([features]) if self._coder.fits(features) else [None]
        if code is None:
            self._leave(number, "invalid_embedding")
            return
        for row in self._ledger.waiting(number):
            await self._send(sender, row, code, FETCHED)

    async def _adapt_all(self, sender: Sender) -> None:
        for number, _ in self._ledger.to_fetch():
            await self._adapt(sender, number, NO_FEATURES)
            await asyncio.sleep(0)
        await sender.flush()

    async def _adapt(self, sender: Sender, number: bytes, reason: str) -> None:
        """Adapt the codes of the rows of a picture. `reason`: why the picture is not there."""
        for row in self._ledger.waiting(number):
            code = self._coder.adapted(row.held.embedder_version, row.held.embedding)
            if code is None:
                self._tally.left[reason] += 1
            else:
                await self._send(sender, row, code, ADAPTED, adapted=True)

    def _leave(self, number: bytes, reason: str) -> None:
        self._tally.left[reason] += sum(1 for _ in self._ledger.waiting(number))

    def _count_the_rest(self) -> None:
        """For a dry run: what would be fetched, and could be adapted instead."""
        for number, _ in self._ledger.to_fetch():
            for row in self._ledger.waiting(number):
                self._tally.to_fetch += 1
                self._tally.adaptable += self._coder.adapts(row.held.embedder_version)
