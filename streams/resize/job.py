"""The steps of a resize and of a rollback. Each step can be killed: the layout at the broker says where to go on.

1. copy: the rows go to the target's changelog while the workers run, until few are left.
2. drain: the embed workers send to the target's topic. The profile workers finish what they have.
3. The last rows go over, and both changelogs are compared.
4. switch: the workers start again on the target.

What fails after step 1 is taken back: the embed workers send to the serving topic again, and the events that wait at the target are
moved there.
"""

import asyncio
from time import monotonic

from msgspec.structs import replace
from rich.console import Console

from model.exceptions import TastestreamError
from streams.console import say
from streams.exceptions import StateError
from streams.kafka.bulk_sending import BulkSender
from streams.kafka.generations import Layout, LayoutWriter, abandoned, draining, filling, switched
from streams.kafka.topics import partitions_of
from streams.logs.place import shown_user
from streams.profile.spread import partitions_of_bags
from streams.resize.ledger import Ledger, Side
from streams.resize.leftovers import move_leftovers
from streams.resize.mover import Changelog, Mover
from streams.resize.topics import create_generation, delete_unused, forget_trend
from streams.resize.waiting import check_fleet, until_all_send, until_worked_off
from streams.settings import Settings

FEW = 1_000  # rows that the last step may have to copy, at most: a fraction of a second
ROUNDS = 20  # copies of what came during the copy before, at most


class Job:
    """Moves the bags from the generation that serves to the target. The only writer of the layout while it runs."""

    def __init__(self, settings: Settings, layout: Layout, writer: LayoutWriter, console: Console) -> None:
        """Does nothing yet.

        Args:
            settings: of the installation.
            layout: as it is at the broker.
            writer: writes it.
            console: gets a line for each step.
        """
        self.layout = layout
        self._settings = settings
        self._writer = writer
        self._console = console

    async def write(self, layout: Layout) -> None:
        """Write a layout. Raises as `LayoutWriter.write` does."""
        self.layout = await self._writer.write(layout)

    def generation(self, number: int) -> Settings:
        """The settings with the names of a generation."""
        return self._settings.of_generation(number)

    async def partitions(self, number: int) -> int:
        """Number of partitions of the bags of a generation. Raises TopicsError and BrokerUnreachable."""
        if number in self.layout.partitions:
            return self.layout.partitions[number]
        settings = self.generation(number)
        return await partitions_of_bags(settings, await partitions_of(settings, wanted(settings)))

    async def run(self, ledger: Ledger) -> None:
        """All steps, from where the layout says.

        Args:
            ledger: empty.

        Raises:
            TastestreamError: a step is not possible. Unless the broker went away, nothing waits: a drain was taken back.
        """
        layout = self.layout
        source, target = await self._changelog(layout.serving), await self._changelog(layout.target)
        await create_generation(target.settings, target.partitions)
        await check_fleet(source.settings)
        if layout.is_draining:  # a run before was killed: nothing shall wait while all is read and compared again
            await self.take_back()
        begun = monotonic()
        async with BulkSender(target.settings, target.topic) as sender:
            mover = Mover(source, target, ledger, sender, layout.copied)
            await self._copy(mover, ledger)
            say(
                self._console,
                f"copied {ledger.rows[Side.source]:,} rows to {target.topic}, over {target.partitions} partitions, "
                f"in {monotonic() - begun:.1f} s",
            )
            # What the profile workers have yet to do, the events would wait for.
            await until_worked_off(source.settings, self._console, enough=FEW)
            await mover.catch_up(self._note)
            begun = monotonic()
            try:
                await self._drain(mover, source, target)
                check(ledger)
            except (TastestreamError, asyncio.CancelledError):
                say(self._console, "taking the switch back")
                try:
                    await self.take_back()
                except TastestreamError:
                    say(self._console, "events still wait: run the command again at once, or with --rollback")
                    raise
                raise
            await forget_trend(self._settings, target.partitions, source.partitions)
            await self.write(switched(self.layout, mover.ends))
        say(
            self._console,
            f"{ledger.rows[Side.target]:,} rows are the same in both changelogs; generation {self.layout.serving} serves, and events "
            f"waited for {monotonic() - begun:.1f} s; the workers start again now",
        )

    async def _changelog(self, number: int) -> Changelog:
        return Changelog(self.generation(number), await self.partitions(number))

    async def _copy(self, mover: Mover, ledger: Ledger) -> None:
        """Copy until few rows are left. Raises StateError if the changelogs do not become the same."""
        for _ in range(ROUNDS):
            if await mover.catch_up(self._note) <= FEW:
                break
        if ledger.differing:
            await mover.copy_again(self._note)
        check(ledger)

    async def _note(self, copied: dict[int, int]) -> None:
        if copied != self.layout.copied:
            await self.write(replace(self.layout, copied=copied))

    async def _drain(self, mover: Mover, source: Changelog, target: Changelog) -> None:
        """Let the workers finish what the source has, and copy the last rows."""
        await self.write(draining(self.layout))
        say(self._console, f"events go to {target.settings.embedded_topic} from now on, and wait there")
        await until_all_send(self._settings, self.layout.events, self._console)
        if not await until_worked_off(source.settings, self._console):
            count = await move_leftovers(source.settings, target.settings, target.partitions)
            say(self._console, f"no profile worker runs, so {count:,} events were moved to the new topic")
        await mover.catch_up(self._note)

    async def take_back(self) -> None:
        """Let the embed workers send to the serving generation again, and move what waits at the target there.

        Raises:
            TastestreamError: the broker does not permit it.
        """
        if self.layout.is_draining:
            await self.write(filling(self.layout))
        await until_all_send(self._settings, self.layout.serving, self._console)
        serving = self.generation(self.layout.serving)
        count = await move_leftovers(
            self.generation(self.layout.target), serving, await self.partitions(self.layout.serving)
        )
        say(self._console, f"events go to {serving.embedded_topic} again; {count:,} were moved back to it")

    async def abandon(self) -> None:
        """Take a resize back that has not switched. Raises TastestreamError."""
        await create_generation(self.generation(self.layout.target), self.layout.partitions[self.layout.target])
        await self.take_back()
        await self.write(abandoned(self.layout))
        await delete_unused(self._settings, self.layout)


def wanted(settings: Settings) -> dict[str, str]:
    """The internal topics, each with the environment variable that names it."""
    return {
        settings.embedded_topic: "TASTESTREAM_EMBEDDED_TOPIC",
        settings.bags_changelog: "TASTESTREAM_NAMESPACE",
    }


def check(ledger: Ledger) -> None:
    """Raise StateError if the changelogs are not the same."""
    if ledger.differing:
        first = shown_user(next(ledger.differences())[:64])
        raise StateError(
            f"{ledger.differing:,} rows differ between the changelogs, the first of them with the key {first}; nothing was switched; "
            "run the command again, which copies them once more"
        )
