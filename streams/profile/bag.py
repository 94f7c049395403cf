"""The bag of one user and the fold that makes it. Pure: no I/O, no clock, nothing is mutated.

`fold` does not depend on the order or the number of deliveries: any permutation of the events, with any duplicates,
ends in the same bag. At-least-once delivery then loses nothing and doubles nothing, and a replay changes nothing.

How it comes about: every event is a component with a place in a total order (`Moment`). A slot is the maximum, for each
interaction type, of the components of one item, and a maximum does not care for order or repetition. What is thrown away
is thrown away by height alone: the *floor* only rises, and a component at or below it does not exist, whether it came
before the floor rose or comes after.
"""

from collections.abc import Collection, Mapping
from operator import itemgetter
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from streams.messages import EmbeddedInteraction


class Moment(NamedTuple):
    """The place of an event in the total order of events. Times tie often, so the order needs the other fields."""

    timestamp: int  # milliseconds since the epoch
    event_id: str
    item_id: str
    type: str


_LOWEST = Moment(-1, "", "", "")  # below every moment


class Picture(Struct, frozen=True, array_like=True):
    """The newest picture of an item."""

    moment: Moment
    embedder: str  # version of the embedder that made the embedding
    image_url: str
    embedding: bytes  # model.quantization's bytes


class Slot(Struct, frozen=True, array_like=True):
    """What is known of one item: the newest component of each interaction type, and the newest picture."""

    item_id: str
    newest: dict[str, Moment]
    picture: Picture | None = None

    @property
    def last(self) -> Moment:
        """The newest component of any type: the slot with the oldest of these is the first to be dropped."""
        return max(self.newest.values())

    @property
    def since_return(self) -> dict[str, Moment]:
        """The components newer than the newest return, by type; the item is in the bag while there is one."""
        returned = self.newest.get("return")
        if returned is None:
            return self.newest
        return {kind: moment for kind, moment in self.newest.items() if moment > returned}

    def above(self, floor: Moment) -> "Slot | None":
        """The slot without what is at or below `floor`; None when nothing is left."""
        if all(moment > floor for moment in self.newest.values()):
            return self
        newest = {kind: moment for kind, moment in self.newest.items() if moment > floor}
        picture = self.picture if self.picture and self.picture.moment > floor else None
        return Slot(self.item_id, newest, picture) if newest else None


class Bag(Struct, frozen=True):
    """All that is kept of one user. Without slots it is the bag of a user who was erased, or was never seen."""

    slots: Mapping[str, Slot] = {}
    floor: Moment | None = None


def fold(bag: Bag, event: EmbeddedInteraction, *, max_slots: int, embedder: str) -> Bag:
    """The bag after `event`. Returns `bag` itself when the event changes nothing.

    max_slots: items kept at most. Over that, the slot whose newest component is the oldest is dropped, and the floor
        rises to that component.
    embedder: version of the embedder in use. When one event was embedded by several, its embedding is the one that counts.
    """
    if event.type == "erase":
        # Above everything with a timestamp up to the erasure's: a real component has an event id, so it sorts after "".
        return _raise_floor(bag, Moment(event.timestamp + 1, "", "", ""))
    moment = Moment(event.timestamp, event.event_id, event.item_id, event.type)
    if bag.floor is not None and moment <= bag.floor:
        return bag
    picture = Picture(moment, event.embedder, event.image_url, event.embedding) if event.embedding else None
    alone = Slot(event.item_id, {event.type: moment}, picture)
    before = bag.slots.get(event.item_id)
    after = alone if before is None else join(before, alone, embedder=embedder)
    if after is not before:
        bag = replace(bag, slots={**bag.slots, event.item_id: after})
    while len(bag.slots) > max_slots:
        bag = _raise_floor(bag, min(slot.last for slot in bag.slots.values()))
    return bag


def join(one: Slot, other: Slot, *, embedder: str) -> Slot:
    """What two slots of one item know together. Returns `one` itself when `other` adds nothing.

    Commutative, associative and idempotent, and so is the fold, which joins an event at a time.
    """
    newest, picture = one.newest, one.picture
    for kind, moment in other.newest.items():
        if moment > newest.get(kind, _LOWEST):
            newest = {**newest, kind: moment}
    if other.picture and (picture is None or _rank(other.picture, embedder) > _rank(picture, embedder)):
        picture = other.picture
    if newest is one.newest and picture is one.picture:
        return one
    return Slot(one.item_id, newest, picture)


def _rank(picture: Picture, embedder: str) -> tuple[Moment, bool, str, str, bytes]:
    """The newest picture wins; of one event, the embedder in use; the rest makes the order total."""
    return picture.moment, picture.embedder == embedder, picture.embedder, picture.image_url, picture.embedding


def _raise_floor(bag: Bag, floor: Moment) -> Bag:
    if bag.floor is not None and floor <= bag.floor:
        return bag
    kept = {item_id: slot.above(floor) for item_id, slot in bag.slots.items()}
    return Bag({item_id: slot for item_id, slot in kept.items() if slot is not None}, floor)


class BagItem(NamedTuple):
    """One item of the bag as the aggregator is to see it."""

    item_id: str
    types: Collection[str]  # the interaction types newer than the newest return; the strongest is the effective one
    timestamp: int  # milliseconds since the epoch, of the newest of them
    embedding: bytes


def items(bag: Bag, *, embedder: str, bag_size: int) -> list[BagItem]:
    """The newest `bag_size` items in the bag, newest first, that have an embedding by `embedder`.

    Embeddings of another embedder live in another space, so they are never scored together with these.
    """
    found: list[tuple[Moment, Slot, Picture, Mapping[str, Moment]]] = []
    for slot in bag.slots.values():
        picture, since = slot.picture, slot.since_return
        if since and picture and picture.embedder == embedder:
            found.append((max(since.values()), slot, picture, since))
    found.sort(key=itemgetter(0), reverse=True)
    return [
        BagItem(slot.item_id, since, last.timestamp, picture.embedding)
        for last, slot, picture, since in found[:bag_size]
    ]
