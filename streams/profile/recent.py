"""A cache of recently written bags, decoded: a user who comes back soon costs no scan of the disk and no decoding.

It holds exactly what is on disk. Call `forget` before writing to a partition in any other way, or closing it.
"""

from collections import OrderedDict

from streams.profile.bag import Bag


class RecentBags:
    """An LRU cache of at most `slots` slots, about a kilobyte each."""

    def __init__(self, slots: int) -> None:
        self._limit = slots
        self._held = 0
        self._bags: OrderedDict[tuple[int, str], Bag] = OrderedDict()

    def get(self, partition: int, user_id: str) -> Bag | None:
        """The bag that the disk holds; None if it is not cached."""
        bag = self._bags.get((partition, user_id))
        if bag is not None:
            self._bags.move_to_end((partition, user_id))
        return bag

    def put(self, partition: int, user_id: str, bag: Bag) -> None:
        """Cache a bag. The disk must hold exactly this bag for the user."""
        before = self._bags.pop((partition, user_id), None)
        self._held += _size(bag) - (0 if before is None else _size(before))
        self._bags[partition, user_id] = bag
        while self._held > self._limit:
            _, dropped = self._bags.popitem(last=False)
            self._held -= _size(dropped)

    def forget(self, partition: int) -> None:
        """Drop all bags of a partition, because its disk may change from now on."""
        for key in [key for key in self._bags if key[0] == partition]:
            self._held -= _size(self._bags.pop(key))


def _size(bag: Bag) -> int:
    return 1 + len(bag.slots)  # the bag of an erased user takes memory as well
