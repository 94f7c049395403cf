"""Which worker gets which partitions, if some of them hold copies of the bags. Pure; `assignor.py` asks it.

A partition goes to a worker that has its bags on disk already, as long as there is one. A worker without them gets its share
when it has caught up and joins again. So no partition waits until a million bags are read from the changelog.
"""

from collections.abc import Collection, Iterable, Mapping


def place(
    partitions: int, owned: Mapping[str, Collection[int]], warm: Mapping[str, Collection[int] | None]
) -> dict[str, list[int]]:
    """Place each partition once: where it is warm, evenly, and where it was before as far as that allows.

    Args:
        partitions: their number.
        owned: the partitions that each worker had before. Two workers may name the same one.
        warm: the partitions that each worker has on disk and could take over at once; None if it does not say.

    Returns:
        The partitions of each worker, in order.
    """
    members = sorted(warm)
    able = [
        [one for one in members if (known := warm[one]) is None or number in known or number in owned[one]] or members
        for number in range(partitions)
    ]
    placed: dict[str, set[int]] = {one: set() for one in members}

    def least(candidates: Iterable[str]) -> str:
        """The one with the fewest partitions so far."""
        return min(candidates, key=lambda one: (len(placed[one]), one))

    before = {number: [one for one in able[number] if number in owned[one]] for number in range(partitions)}
    for number in sorted(range(partitions), key=lambda number: not before[number]):  # first those that may stay
        placed[least(before[number] or able[number])].add(number)
    moved = True
    while moved:  # each move makes the shares more equal, so this ends
        moved = False
        for giver in sorted(members, key=lambda one: (-len(placed[one]), one)):
            for number in sorted(placed[giver], reverse=True):
                taker = least(able[number])
                if len(placed[giver]) - len(placed[taker]) > 1:
                    placed[giver].discard(number)
                    placed[taker].add(number)
                    moved = True
    return {one: sorted(numbers) for one, numbers in placed.items()}


def held_back(placed: Mapping[str, Collection[int]]) -> set[str]:
    """The workers with fewer partitions than their share, because they have no bags of others yet."""
    fair = sum(map(len, placed.values())) // max(len(placed), 1)
    return {one for one, numbers in placed.items() if len(numbers) < fair}
