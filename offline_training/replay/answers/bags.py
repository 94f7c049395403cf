"""The bag of each user before and after each event, by the same fold as in the profile worker. Pure."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

from model.bundle import Bundle
from offline_training.datasets.picture_ref import PictureRef
from offline_training.replay.play.events import PlayedEvent, PlayedItem
from offline_training.replay.play.messages import Naming
from streams.messages import PICTURED, EmbeddedInteraction, with_embedding
from streams.profile.bag import Bag, fold
from streams.settings import Settings


class Changed(NamedTuple):
    """An event and the bag of its user."""

    event: PlayedEvent
    interaction: EmbeddedInteraction | None  # None: it changes no bag and has no recommendation
    before: Bag
    after: Bag
    reason: str = ""  # why there is no recommendation


def changed_bags(
    events: Iterable[PlayedEvent],
    items: Mapping[str, PlayedItem],
    embedded: Mapping[PictureRef, bytes],
    bundle: Bundle,
    settings: Settings,
    *,
    naming: Naming,
    dead: Collection[int] = (),
) -> Iterator[Changed]:
    """Fold the events into bags, one after the other.

    An event that became a dead letter, or whose picture has no embedding, changes no bag.

    Args:
        events: in time order.
        items: the items, by id.
        embedded: embeddings by picture.
        bundle: the bundle, whose embedder made the embeddings.
        settings: the settings of the workers.
        naming: the ids of events and users.
        dead: places of events that became dead letters.
    """
    bags: dict[str, Bag] = {}
    for event in events:
        before = bags.get(event.user, Bag())
        picture = items[event.item].picture if event.type in PICTURED else None
        embedding = b"" if picture is None else embedded.get(picture)
        if event.place in dead or embedding is None:
            yield Changed(event, None, before, before, "dead letter" if event.place in dead else "no picture")
            continue
        interaction = with_embedding(naming.interaction(event, ""), bundle.embedder_version, embedding)
        after = fold(before, interaction, max_slots=settings.max_slots, kept={bundle.embedder_version})
        bags[event.user] = after
        yield Changed(event, interaction, before, after)


class Moment(NamedTuple):
    """A time of the stream, and what is known at it."""

    time: int  # milliseconds
    news: list[Changed]  # what has become known since the moment before
    bags: Mapping[str, Bag]  # by user, as they are known; they change with the next moment
    events: list[PlayedEvent]  # of that time


def by_moment(changed: Iterable[Changed], delay: int) -> Iterator[Moment]:
    """Go through the times of the events. What happens at a time is not known at it.

    Args:
        changed: the events with their bags, in time order.
        delay: until an event is known, milliseconds.
    """
    bags: dict[str, Bag] = {}
    waiting: deque[Changed] = deque()  # events that are not known yet
    for time, some in groupby(changed, key=lambda one: one.event.time):
        news: list[Changed] = []
        while waiting and is_before(waiting[0].event.time, time, delay):
            news.append(one := waiting.popleft())
            bags[one.event.user] = one.after
        of_time = list(some)
        yield Moment(time, news, bags, [one.event for one in of_time])
        waiting.extend(of_time)


def is_before(time: int, now: int, delay: int) -> bool:
    """Whether an event of a time is known at another time. Events of the same time never are.

    Args:
        time: of the event, milliseconds.
        now: the other time, milliseconds.
        delay: until an event is known, milliseconds.
    """
    return time < now and time <= now - delay
