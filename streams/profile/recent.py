"""The bags that were written last, decoded: a user who comes back soon costs neither a scan of the disk nor a decoding.

Holds what is on disk and nothing else: whoever writes a partition by another way, or closes it, has to say so.
"""

from collections import OrderedDict

from streams.profile.bag import Bag


class RecentBags:
    """At most `slots` slots of bags, the longest unused of them dropped first. A slot takes about a kilobyte."""

    def __init__(self, slots: int) -> None:
        self._limit = slots
        self._held = 0
        self._bags: OrderedDict[tuple[int, str], Bag] = OrderedDict()

    def get(self, partition: int, user_id: str) -> Bag | None:
        """The bag that the disk holds; None when it is not known here."""
        bag = self._bags.get((partition, user_id))
        if bag is not None:
            self._bags.move_to_end((partition, user_id))
        return bag

    def put(self, partition: int, user_id: str, bag: Bag) -> None:
        """The disk holds this bag now, and no row beside it."""
        before = self._bags.pop((partition, user_id), None)
        self._held += _size(bag) - (0 if before is None else _size(before))
        self._bags[partition, user_id] = bag
        while self._held > self._limit:
            _, dropped = self._bags.popitem(last=False)
            self._held -= _size(dropped)

    def forget(self, partition: int) -> None:
        """The disk of this partition may hold something else from now on."""
        for key in [key for key in self._bags if key[0] == partition]:
            self._held -= _size(self._bags.pop(key))


def _size(bag: Bag) -> int:
    return 1 + len(bag.slots)  # the bag of a user who was erased takes memory, too
