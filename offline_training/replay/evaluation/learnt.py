"""Whether a bundle has learnt from the users or the events that are played: then its figures are too high.

The manifest has fingerprints of both. Users who have other names in the data set that is played are not recognised.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from model.bundle import Bundle
from model.fingerprint import DAY, Fingerprint, Known, event_name, known_in
from offline_training.replay.play.events import EventStream, PlayedEvent


@dataclass
class Learnt:
    """What a bundle learnt from, and how much of it is played.

    Attributes:
        bundle: name and version.
        date: when it was trained, RFC 3339; "": unknown.
        command: that trained it.
        source: the data set.
        users, events: how many it learnt from.
        from_time, to_time: of the events, RFC 3339.
        known_users, known_events: how many of those that are played and could be compared it learnt from.
        compared_users, compared_events: how many could be compared. Of many, the fingerprints hold a random part.
    """

    bundle: str
    date: str
    command: str
    source: str
    users: int
    events: int
    from_time: str
    to_time: str
    known_users: int
    compared_users: int
    known_events: int
    compared_events: int


def learnt_of(bundle: Bundle, stream: EventStream) -> Learnt | None:
    """Compare the events that are played with those that a bundle learnt from. None: its manifest does not say from which."""
    data, training = bundle.manifest.data, bundle.manifest.training
    if data is None:
        return None
    users = known_in(data.user_ids, stream.overview.of_user)
    events = known_events(data.user_items, stream.events())
    return Learnt(
        f"{bundle.name} {bundle.version}", training.date, training.command, data.source, data.users, data.events,
        data.from_time, data.to_time, users.known, users.compared, events.known, events.compared,
    )  # fmt: skip


def known_events(sample: Fingerprint, events: Iterable[PlayedEvent]) -> Known:
    """Count the events, in time order, that a sample can tell about, and those of them that it has. Returns teach nothing."""
    known = compared = 0
    for _, some in groupby(events, key=lambda event: event.time // DAY):  # a name has a day: no two days have the same
        found = known_in(sample, {event_name(one.user, one.item, one.time) for one in some if one.type != "return"})
        known, compared = known + found.known, compared + found.compared
    return Known(known, compared)
