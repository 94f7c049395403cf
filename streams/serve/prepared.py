"""How far a rollout is: which items of the bags have a code of the next bundle. Every item is counted, as it changes. Pure."""

from collections import Counter
from collections.abc import Mapping

from streams.profile.bag import Bag
from streams.profile.prepared import CodeState, code_state


class PreparedItems:
    """Counts the items of all bags that it is told of (`streams.serve.catalogue.held.Taker`)."""

    def __init__(self, embedder_version: str) -> None:
        """`embedder_version`: of the next bundle."""
        self._version = embedder_version
        self._states: Counter[CodeState] = Counter()

    @property
    def states(self) -> dict[CodeState, int]:
        """The number of items with a picture, by the state of their code."""
        return {state: count for state, count in self._states.items() if count}

    def written(self, partition: int, before: Mapping[str, Bag], after: Mapping[str, Bag]) -> None:
        """Bags have changed: what they had of the slots that changed, and what they have."""
        del partition
        states = self._states.copy()  # who reads meanwhile sees the one or the other
        for bags, step in ((before, -1), (after, 1)):
            for bag in bags.values():
                for slot in bag.slots.values():
                    state = code_state(slot, self._version)
                    if state is not None:
                        states[state] += step
        self._states = states

    def forget_bags(self) -> None:
        """All bags are about to be told again."""
        self._states = Counter()
