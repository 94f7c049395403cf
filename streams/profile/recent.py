"""A cache of recently written bags, decoded: a user who comes back soon costs no scan of the disk and no decoding.

It holds exactly what is on disk. Call `forget` before writing to a partition in any other way, or closing it.
"""

from collections import OrderedDict

from streams.profile.bag import Bag, Slot
from streams.text import memory_of

BAG_BYTES = 900  # of the objects around a bag without slots, with its user and its place in the cache
SLOT_BYTES = 500  # of the objects around a slot without moments and pictures
PICTURE_BYTES = 400  # of the objects around a picture without its moment
MOMENT_BYTES = 200  # of the objects around a moment; measured: 160


class RecentBags:
    """An LRU cache of at most `slots` slots that take at most `max_bytes` bytes."""

    def __init__(self, slots: int, max_bytes: int) -> None:
        self._limit = slots
        self._max_bytes = max_bytes
        self._held = 0  # slots, and one for each bag: the bag of an erased user takes memory as well
        self._bytes = 0
        self._bags: OrderedDict[tuple[int, str], tuple[Bag, int]] = OrderedDict()  # bags and their bytes

    def __len__(self) -> int:
        """The number of bags."""
        return len(self._bags)

    def get(self, partition: int, user_id: str) -> Bag | None:
        """The bag that the disk holds; None if it is not cached."""
        found = self._bags.get((partition, user_id))
        if found is None:
            return None
        self._bags.move_to_end((partition, user_id))
        return found[0]

    def put(self, partition: int, user_id: str, bag: Bag) -> None:
        """Cache a bag. The disk must hold exactly this bag for the user."""
        key = (partition, user_id)
        before = self._bags.get(key)
        if before is None:
            size = BAG_BYTES + memory_of(user_id) + sum(map(_slot_bytes, bag.slots.values()))
        else:
            size = before[1] + _growth(before[0], bag)
            self._drop(key)
        self._bags[key] = (bag, size)
        self._held += 1 + len(bag.slots)
        self._bytes += size
        while self._held > self._limit or self._bytes > self._max_bytes:
            self._drop(next(iter(self._bags)))

    def forget(self, partition: int) -> None:
        """Drop all bags of a partition, because its disk may change from now on."""
        for key in [key for key in self._bags if key[0] == partition]:
            self._drop(key)

    def _drop(self, key: tuple[int, str]) -> None:
        bag, size = self._bags.pop(key)
        self._held -= 1 + len(bag.slots)
        self._bytes -= size


def _growth(before: Bag, after: Bag) -> int:
    """By how many bytes a bag grew. An event changes about one slot, so the others are not measured again."""
    grown = sum(_slot_bytes(slot) for item, slot in after.slots.items() if before.slots.get(item) is not slot)
    return grown - sum(_slot_bytes(slot) for item, slot in before.slots.items() if after.slots.get(item) is not slot)


def _slot_bytes(slot: Slot) -> int:
    """The memory of a slot, bytes; rather too much than too little. Each text counts as often as it occurs."""
    moments = [*slot.newest.values(), *[picture.moment for picture in slot.pictures]]
    size = SLOT_BYTES + MOMENT_BYTES * len(moments) + PICTURE_BYTES * len(slot.pictures)
    texts = [slot.item_id]
    for moment in moments:
        texts += moment.event_id, moment.item_id
    for picture in slot.pictures:
        texts += picture.image_url, picture.embedder_version
        size += len(picture.embedding)
    together = "".join(texts)
    return size + (len(together) if together.isascii() else sum(map(memory_of, texts)))
