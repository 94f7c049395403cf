"""Waits for the workers during a resize, and says for whom."""

import asyncio
from collections.abc import Iterable, Sequence
from time import monotonic

from aiokafka.errors import KafkaError
from rich.console import Console

from streams.console import say
from streams.exceptions import BrokerUnreachable, StallError, StartupError
from streams.kafka.fleet import Member, fleet, members
from streams.kafka.groups import GroupUse, group_uses
from streams.kafka.lag import GroupLag
from streams.kafka.observing import Observer
from streams.kafka.topics import connected
from streams.settings import Settings
from streams.text import visible

LOOK = 0.2  # seconds between two looks
TELL = 5.0  # seconds between two lines
PATIENCE = 60.0  # seconds for the workers to follow. Events wait meanwhile.


def unable(fleet_members: Iterable[Member]) -> list[str]:
    """The members that do not say which internal topics they use, each in one line: workers of an earlier version. Pure."""
    return [
        f"the member of {visible(one.group)} at {visible(one.host)}" for one in fleet_members if one.generation is None
    ]


def late(embedding: Sequence[Member], generation: int) -> list[str]:
    """The embed workers that do not send to a generation yet, each in one line. Pure."""
    return [f"the embed worker at {visible(one.host)}" for one in embedding if one.generation != generation]


async def check_fleet(settings: Settings) -> None:
    """Raise StartupError if a running worker would not follow: it would go on with the topics before."""
    if lines := unable(await fleet(settings)):
        raise StartupError(
            f"{lines[0]} is of an earlier version of tastestream, which does not know other internal topics: restart it with this "
            "version"
        )


async def until_all_send(settings: Settings, generation: int, console: Console) -> None:
    """Wait until all embed workers send to a generation.

    Raises:
        StallError: one does not within `PATIENCE`.
        TastestreamError: the broker does not answer, or refuses.
    """
    deadline, told = monotonic() + PATIENCE, monotonic() + TELL
    async with connected(settings) as admin:
        while lines := late(await members(admin, settings.embed_group, settings.broker_timeout), generation):
            if monotonic() > deadline:
                raise StallError(f"{lines[0]} does not send to the other topics within {PATIENCE:.0f} s: restart it")
            if monotonic() > told:
                say(console, f"waiting for {lines[0]}")
                told = monotonic() + TELL
            await asyncio.sleep(LOOK)


async def until_worked_off(settings: Settings, console: Console, *, enough: int = 0) -> bool:
    """Wait until the profile workers have finished the events of a generation.

    Args:
        settings: with the names of the generation.
        console: gets lines while it takes long.
        enough: number of events that may be left.

    Returns:
        False if no profile worker runs, and events are left.

    Raises:
        StallError: there was no progress for `PATIENCE` seconds.
        TastestreamError: the broker does not answer.
    """
    least, deadline, told = -1, monotonic() + PATIENCE, monotonic() + TELL
    async with Observer(settings) as observer:
        while True:
            found = await look(observer, settings)
            left = found.events
            if left is not None and left <= enough:
                return True
            if left is not None and found.state == "Empty":
                return False
            if left is not None and (least < 0 or left < least):
                least, deadline = left, monotonic() + PATIENCE
            if monotonic() > deadline:
                raise StallError(f"the profile workers have not finished {left} events within {PATIENCE:.0f} s")
            if monotonic() > told:
                say(
                    console,
                    f"waiting for the profile workers: {'unknown' if left is None else f'{left:,}'} events left",
                )
                told = monotonic() + TELL
            await asyncio.sleep(LOOK)


async def look(observer: Observer, settings: Settings) -> GroupLag:
    """How far the profile workers of a generation are. Raises BrokerUnreachable."""
    try:
        return (await observer.look([profile_use(settings)])).groups[0]
    except KafkaError as error:
        raise BrokerUnreachable(f"the broker at {settings.broker} does not answer: {error!r}") from error


def profile_use(settings: Settings) -> GroupUse:
    """The group of the profile workers of a generation."""
    [use] = group_uses(settings, "profile")
    return use
