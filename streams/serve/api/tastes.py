"""Counts whose taste the new arrivals meet: to how many bags of a sample each of them would be recommended now.

It asks for each bag what `GET /v1/users/{user_id}/recommendations?items=12` asks for its user, so there is no other rule.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from msgspec import UNSET

from model.item_search.ranking import Options
from streams.profile.bag import Bag
from streams.serve.api.item_answers import asked_of, left_out, ranked, wanted_of
from streams.serve.api.parameters import MAX_LISTED, RecommendationQuery
from streams.serve.api.scoring import score_bags
from streams.serve.api.survey import Survey
from streams.serve.interface import Bags, Catalogue, Scorer, Serving

BAGS = 200  # in a sample: a share of 10 % is known to 4 points more or less (95 %)
SLOTS = 1000  # of bags that are read at a time: some ten milliseconds in the event loop
READS = 8  # at most: bags of erased users have no slots
RECOMMENDED = 12  # items for each bag, as the page shows them of a shopper
QUERY = RecommendationQuery(items=RECOMMENDED)


@dataclass
class Tally:
    """A count, which may be under way."""

    bundle: tuple[str, str]  # name and version
    moment: int = 0  # of the scores, milliseconds since the epoch; 0 before the first count
    arrivals: frozenset[int] = frozenset()  # the places that were the newest at its beginning
    bags: int = 0  # that were scored
    met: Counter[int] = field(default_factory=Counter[int])  # bags by place
    complete: bool = False

    def of(self, place: int) -> int | None:
        """To how many of the bags the item at a place would be recommended; None if it was not among the newest."""
        return self.met[place] if place in self.arrivals else None


class TasteCount:
    """The newest count: that which has ended, or the first one while it is under way."""

    def __init__(self, serving: Serving, now: Callable[[], int], thread: Executor) -> None:
        """`now`: milliseconds since the epoch. `thread`: where it counts."""
        self._serving = serving
        self._now = now
        self._last: Tally | None = None
        self.survey = Survey("counting the tastes that new items meet", self._begin, thread)

    def ask(self) -> Tally:
        """What is known, of the bundle in use. It begins to count, if that was long ago."""
        self.survey.ask()
        bundle = self._serving.scorer().recommender.bundle
        if self._last is None or self._last.bundle != (bundle.name, bundle.version):
            return Tally((bundle.name, bundle.version))
        return self._last

    async def _begin(self) -> Iterator[None]:
        """Raises StateError."""
        scorer, catalogue = self._serving.scorer(), self._serving.catalogue
        bags = await sample(self._serving.bags, BAGS)
        bundle = scorer.recommender.bundle
        arrivals = frozenset(catalogue.listing("new", MAX_LISTED))
        tally = Tally((bundle.name, bundle.version), self._now(), arrivals)
        if self._last is None or self._last.bundle != tally.bundle:
            self._last = tally
        return self._count(tally, scorer, catalogue, bags)

    def _count(self, tally: Tally, scorer: Scorer, catalogue: Catalogue, bags: Sequence[Bag]) -> Iterator[None]:
        for bag in bags:
            yield
            found = recommended(scorer, catalogue, bag, tally.moment)
            if found is not None:
                tally.bags += 1
                tally.met.update(found)
        tally.complete = True
        self._last = tally


async def sample(bags: Bags, most: int) -> list[Bag]:
    """Some bags with items, at most so many, each once. Raises StateError."""
    found: dict[str, Bag] = {}
    for _ in range(READS):
        some = bags.sample(SLOTS)
        if some.keys() <= found.keys():  # it has come round
            break
        found |= some
        if sum(bool(bag.slots) for bag in found.values()) >= most:
            break
        await asyncio.sleep(0)
    return [bag for bag in found.values() if bag.slots][:most]


def recommended(scorer: Scorer, catalogue: Catalogue, bag: Bag, moment: int) -> list[int] | None:
    """The places of the items that are recommended for a bag; None for a bag without an item that is scored: it has no taste."""
    [full] = score_bags(scorer, [(bag, moment)], UNSET)
    if not full.answer.items:
        return None
    mask = catalogue.mask(wanted_of(QUERY, left_out(QUERY, bag)))
    if not mask.any():
        return []
    asked = asked_of(full, scorer.recommender.bundle)
    options = Options(count=RECOMMENDED, diversity=QUERY.diversity)
    return [place for place, _, _ in ranked(scorer.recommender, catalogue, asked, mask=mask, options=options)]
