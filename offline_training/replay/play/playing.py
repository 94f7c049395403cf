"""Plays the events of a stream: serves their pictures, sends them, and shows the progress."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from model.bundle import Bundle
from offline_training.replay.play.events import EventStream, PlayedEvent
from offline_training.replay.play.messages import Naming
from offline_training.replay.play.pacing import Pace
from offline_training.replay.play.picture_server import served_pictures
from offline_training.replay.play.player import Keep, Player
from streams.console import PlainConsole
from streams.messages import as_datetime
from streams.runtime.process import stop_event
from streams.settings import Settings

logger = logging.getLogger(__name__)

BAR_EVERY = 0.2  # seconds between two updates of the bar, on a terminal
LOG_EVERY = 30.0  # seconds between two log lines, without a terminal


async def play(
    settings: Settings,
    stream: EventStream,
    remaining: Iterator[PlayedEvent],
    keep: Keep,
    *,
    answered: int,
    bundle: Bundle,
    naming: Naming,
    pace: Pace,
    lead: int,
    host: str,
    port: int,
    live_topics: bool,
) -> bool:
    """Play the remaining events of a stream until they are all answered, or SIGINT or SIGTERM stops it.

    Args:
        settings: name the broker and the topics, which are created when they are missing.
        stream: the events that are played in all.
        remaining: the events that have no answer yet, in time order.
        keep: receives the answers. The next events of their users are sent after it returns.
        answered: number of events that have an answer already.
        bundle: the bundle that the workers serve.
        naming: the ids of events and users.
        pace: when an event may be sent.
        lead: maximum number of unanswered events.
        host: address on which local pictures are served.
        port: port on which local pictures are served; 0: any free one.
        live_topics: whether to play to an input topic that has events of others.

    Returns:
        Whether all events are answered.

    Raises:
        ReplayError: the pictures are missing, the address cannot be used, others produce to the input topic, or no
            answers come.
        BrokerUnreachable: the broker does not answer.
        TopicsError: a topic cannot be used.
        DeliveryError: the broker rejected an event.
    """
    stream.dataset.check_pictures()
    stop = stop_event(with_parent=False)
    player = Player(settings, bundle, naming, keep, lead=lead, pace=pace, live_topics=live_topics)
    served = served_pictures(stream.items, stream.dataset.folders, host, port, max_bytes=settings.fetch_max_bytes)
    async with served as url_of, player:
        showing = asyncio.create_task(_show(player, answered, len(stream)))
        try:
            return await player.play(remaining, stream.items, url_of, stop)
        finally:
            showing.cancel()
            with suppress(asyncio.CancelledError):
                await showing


async def _show(player: Player, before: int, total: int) -> None:
    """Update a progress bar on a terminal; without one, log the progress."""
    console = PlainConsole(stderr=True)
    with Progress(
        TextColumn("replay {task.fields[time]}"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,}  {task.fields[rate]}/s  lead {task.fields[lead]:,}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not console.is_terminal,
    ) as progress:
        bar = progress.add_task("", total=total, completed=before, time="", rate="-", lead=0)
        while True:
            speed = progress.tasks[0].speed
            progress.update(
                bar,
                completed=before + player.played,
                time=f"{as_datetime(player.event_time):%Y-%m-%d}" if player.event_time else "",
                rate="-" if speed is None else f"{speed:,.0f}",
                lead=player.lead,
            )
            await asyncio.sleep(BAR_EVERY if console.is_terminal else LOG_EVERY)
            if not console.is_terminal:
                logger.info(
                    "%d of %d events answered, event time %s; %d unanswered in flight",
                    before + player.played, total, f"{as_datetime(player.event_time):%Y-%m-%dT%H:%M:%SZ}", player.lead,
                )  # fmt: skip
