"""The bag of one user, and the fold that builds it. Pure: no I/O, no clock, no mutation.

The bag is a state-based CRDT (Shapiro et al., 2011): a map of last-writer-wins slots with a low-water mark.

- Every event has a place in a total order, its `Moment`.
- A slot holds one item. For each interaction type it keeps the newest moment, so merging two slots takes maxima.
- A slot keeps the newest picture of each embedder in use: the one that is served, and the one that is prepared. Which of them
  is which makes no difference to the bag.
- The *floor* is the low-water mark. It only rises, and whatever lies at or below it does not exist, no matter whether it
  arrived before the floor rose or after.

Merging is commutative, associative and idempotent. `fold` merges one event, so any permutation of the events, with any
duplicates, gives the same bag. At-least-once delivery therefore loses nothing and counts nothing twice, and replaying a
topic changes nothing.

Nothing here can be part of a reference cycle, so garbage collection passes over it (`gc=False`). A worker holds hundreds of
thousands of these objects: to visit them would pause it for 50 ms now and then.
"""

from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter, itemgetter
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from streams.messages import EmbeddedInteraction


class Moment(Struct, frozen=True, order=True, array_like=True, gc=False):
    """The place of an event in the total order. Timestamps often tie, so the order uses the other fields as well."""

    timestamp: int  # milliseconds since the epoch
    event_id: str
    item_id: str
    type: str


_LOWEST = Moment(-1, "", "", "")  # below every moment


class Embedder(NamedTuple):
    """An embedder in use, as far as bags are concerned."""

    version: str
    row_bytes: int  # length of its embeddings, encoded


class Picture(Struct, frozen=True, array_like=True, gc=False):
    """A picture of an item, as one embedder sees it."""

    moment: Moment
    embedder_version: str  # of the embedder that made the embedding
    image_url: str
    embedding: bytes  # as `model.quantization` encodes it
    adapted: bool = False  # whether it was made from the embedding of another embedder, and not from the picture


class Slot(Struct, frozen=True, gc=False):
    """One item: the newest moment of each interaction type, and the newest picture of each embedder in use."""

    item_id: str
    newest: dict[str, Moment]
    pictures: tuple[Picture, ...] = ()  # in the order of their embedder versions

    def picture(self, embedder_version: str) -> Picture | None:
        """The picture of an embedder."""
        for picture in self.pictures:
            if picture.embedder_version == embedder_version:
                return picture
        return None

    @property
    def newest_picture(self) -> Picture | None:
        """The newest picture of any embedder."""
        return max(self.pictures, key=_age, default=None)

    @property
    def last(self) -> Moment:
        """The newest moment of any type. When a bag is full, the slot with the lowest `last` is dropped."""
        return max(self.newest.values())

    @property
    def since_return(self) -> dict[str, Moment]:
        """The moments newer than the newest return, by type. The item is in the bag while there is one."""
        returned = self.newest.get("return")
        if returned is None:
            return self.newest
        return {kind: moment for kind, moment in self.newest.items() if moment > returned}

    def above(self, floor: Moment) -> "Slot | None":
        """The slot without everything at or below `floor`; None if nothing is left."""
        if min(self.newest.values()) > floor and not [one for one in self.pictures if one.moment <= floor]:
            return self
        newest = {kind: moment for kind, moment in self.newest.items() if moment > floor}
        pictures = tuple(picture for picture in self.pictures if picture.moment > floor)
        return Slot(self.item_id, newest, pictures) if newest else None


class Bag(Struct, frozen=True, gc=False):
    """Everything that is kept of one user. A bag without slots belongs to a user who is unknown or was erased."""

    slots: Mapping[str, Slot] = {}
    floor: Moment | None = None


def fold(bag: Bag, event: EmbeddedInteraction, *, max_slots: int, kept: Collection[str]) -> Bag:
    """Merge one event into a bag.

    Args:
        bag: is not changed.
        event: an erasure raises the floor above every moment up to its timestamp.
        max_slots: maximum number of items. Beyond it, the slot with the lowest `last` is dropped, and the floor rises to
            that moment.
        kept: the versions of the embedders in use.

    Returns:
        The bag after the event; `bag` itself if the event changes nothing.
    """
    if event.type == "erase":
        # A real moment has an event id, so it sorts after "": this floor covers timestamps up to the erasure's.
        return _raise_floor(bag, Moment(event.timestamp + 1, "", "", ""))
    moment = Moment(event.timestamp, event.event_id, event.item_id, event.type)
    if bag.floor is not None and moment <= bag.floor:
        return bag
    alone = Slot(event.item_id, {event.type: moment}, _pictures(event, moment, kept))
    before = bag.slots.get(event.item_id)
    after = alone if before is None else join(before, alone, kept=kept)
    if after is not before:
        bag = replace(bag, slots={**bag.slots, event.item_id: after})
    while len(bag.slots) > max_slots:
        bag = _raise_floor(bag, min(slot.last for slot in bag.slots.values()))
    return bag


def join(one: Slot, other: Slot, *, kept: Collection[str]) -> Slot:
    """Merge two slots of one item: the join of the CRDT, commutative, associative and idempotent.

    Returns:
        The merged slot; `one` itself if `other` adds nothing.
    """
    newest, pictures = one.newest, one.pictures
    for kind, moment in other.newest.items():
        if moment > newest.get(kind, _LOWEST):
            newest = {**newest, kind: moment}
    if other.pictures:
        pictures = _joined(pictures, other.pictures, kept)
    if newest is one.newest and pictures is one.pictures:
        return one
    return Slot(one.item_id, newest, pictures)


def _pictures(event: EmbeddedInteraction, moment: Moment, kept: Collection[str]) -> tuple[Picture, ...]:
    """The picture of an event as each embedder sees it."""
    if not event.next_embedding:
        if not event.embedding:
            return ()
        return (Picture(moment, event.embedder_version, event.image_url, event.embedding, event.adapted),)
    pictures = tuple(
        Picture(moment, code.embedder_version, event.image_url, code.embedding, code.adapted) for code in event.codes
    )
    return _newest(pictures, kept)


def _joined(pictures: tuple[Picture, ...], others: tuple[Picture, ...], kept: Collection[str]) -> tuple[Picture, ...]:
    """The pictures of two slots of one item; `pictures` itself if the others add nothing."""
    if len(pictures) == len(others) == 1 and pictures[0].embedder_version == others[0].embedder_version:
        return others if _is_newer(others[0], pictures[0]) else pictures  # as `_newest`, in a third of the time
    joined = _newest(pictures + others, kept)
    return pictures if joined == pictures else joined


def _newest(pictures: tuple[Picture, ...], kept: Collection[str]) -> tuple[Picture, ...]:
    """The newest picture of each embedder in use, and the newest one of all others unless those are newer.

    That last one belongs to an embedder that other workers use already, or still. What is left out here is older than something
    that stays, so that a floor which covers the one covers the other too: the order of events and floors makes no difference.
    """
    newest: dict[str, Picture] = {}
    for picture in pictures:
        version = picture.embedder_version if picture.embedder_version in kept else ""
        other = newest.get(version)
        if other is None or _is_newer(picture, other):
            newest[version] = picture
    stray = newest.pop("", None)
    if stray is not None and all(stray.moment >= picture.moment for picture in newest.values()):
        newest[""] = stray
    return tuple(sorted(newest.values(), key=attrgetter("embedder_version")))


def _is_newer(picture: Picture, other: Picture) -> bool:
    if picture.moment != other.moment:
        return picture.moment > other.moment
    return _age(picture) > _age(other)


def _age(picture: Picture) -> tuple[Moment, bool, str, str, bytes]:
    """Order pictures: the newest first, then one that was not adapted; the other fields make the order total."""
    return picture.moment, not picture.adapted, picture.embedder_version, picture.image_url, picture.embedding


def _raise_floor(bag: Bag, floor: Moment) -> Bag:
    if bag.floor is not None and floor <= bag.floor:
        return bag
    kept = {item_id: slot.above(floor) for item_id, slot in bag.slots.items()}
    return Bag({item_id: slot for item_id, slot in kept.items() if slot is not None}, floor)


class BagItem(NamedTuple):
    """One item of a bag as the aggregator sees it."""

    item_id: str
    types: Collection[str]  # interaction types newer than the newest return; the strongest is the effective one
    timestamp: int  # milliseconds since the epoch, of the newest of them
    embedding: bytes


class Touched(NamedTuple):
    """A slot that is in the bag, with what happened to it since its newest return."""

    last: Moment  # the newest of them
    since: Mapping[str, Moment]
    slot: Slot


def newest_first(bag: Bag) -> list[Touched]:
    """The slots that are in the bag, whatever embedder has seen them, the one that was touched last first."""
    found: list[Touched] = []
    for slot in bag.slots.values():
        since = slot.newest if "return" not in slot.newest else slot.since_return
        if since:
            found.append(Touched(max(since.values()), since, slot))
    found.sort(key=itemgetter(0), reverse=True)
    return found


def items(touched: Iterable[Touched], *, embedder: Embedder, bag_size: int) -> list[BagItem]:
    """The newest `bag_size` items of a bag that have an embedding of this embedder, newest first.

    Embeddings of different embedders live in different spaces, so they are never scored together. An embedding that only claims
    to be of this embedder, and has another length, is not scored either.

    Args:
        touched: the slots of the bag, as `newest_first` returns them.
        embedder: the one whose embeddings are wanted.
        bag_size: how many items are scored at most.
    """
    version, row_bytes = embedder
    found: list[BagItem] = []
    for last, since, slot in touched:
        for picture in slot.pictures:
            if picture.embedder_version == version and len(picture.embedding) == row_bytes:
                found.append(BagItem(slot.item_id, since, last.timestamp, picture.embedding))
                if len(found) == bag_size:
                    return found
    return found
