"""What each method lists for somebody who is about to buy: the items of the serve worker, and what every shop can list without it.

What is in the bag is left out of every list. What the baselines know is of strictly earlier days, as in `purchases`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.item_search import item_metrics
from model.item_search.index import CodeIndex
from model.item_search.item_metrics import LISTED
from model.item_search.ranking import Options, Shares, Taste, recommend_items
from model.item_search.vectors import unit
from model.item_search.weights import RankingWeights
from model.quantization import dequantize, quantize_all
from offline_training.tasks.item_baselines import POPULAR_DAYS, WINDOWS, CoPurchases, ItemCounts, best, like_the_last
from offline_training.tasks.purchases import Rows, Taken

RECOMMENDED = "recommended"
CO_PURCHASE, LAST_PICTURE = "co-purchase", "picture of the last item"
METHODS = (RECOMMENDED, *WINDOWS, CO_PURCHASE, LAST_PICTURE)


class Catalogued(NamedTuple):
    """The items as a serve worker holds them."""

    rows: list[bytes]
    """Their codes."""
    code_index: CodeIndex
    shares: Shares | None

    @classmethod
    def of(cls, bundle: Bundle, codes: NDArray[np.float32]) -> "Catalogued":
        """Store codes, float32 [N, d], by the bundle's own embedder."""
        return cls.stored(bundle, quantize_all(codes))

    @classmethod
    def stored(cls, bundle: Bundle, rows: list[bytes]) -> "Catalogued":
        """Take codes as `quantize` stores them, by the bundle's own embedder."""
        index, labels = CodeIndex(bundle.embedding_size), bundle.item_labels()
        index.put(np.arange(len(rows)), rows)
        return cls(rows, index, None if labels is None else labels.of)

    def codes(self, places: Sequence[int]) -> list[bytes]:
        """The codes of items."""
        return [self.rows[place] for place in places]


class Asking(NamedTuple):
    """Somebody who is about to buy.

    Attributes:
        taste: of the user.
        user: place in `Taken.users`.
        day: the baselines know what happened before it.
        bag: items that are left out of every list.
        last: the newest item of the bag; None without one.
        popularity: what the ranking counts as taken, float32 [N]; None for the purchases of `POPULAR_DAYS` days.
    """

    taste: Taste
    user: int
    day: int
    bag: Rows
    last: int | None
    popularity: NDArray[np.float32] | None = None


class ItemMethods:
    """Makes the list of each method."""

    def __init__(
        self,
        items: Catalogued,
        taken: Taken,
        *,
        weights: RankingWeights,
        methods: Sequence[str] = METHODS,
        options: Options = Options(count=LISTED),  # noqa: B008  (frozen)
    ) -> None:
        """Take what the methods know.

        Args:
            items: N items.
            taken: what all users took.
            weights: of the ranking.
            methods: names of `METHODS`.
            options: of `recommend_items`.
        """
        number = len(items.rows)
        self._items, self._weights, self._methods, self._options = items, weights, methods, options
        self._counts, self._together = ItemCounts(taken, number), CoPurchases(taken, number)
        self._units = unit(dequantize(items.rows, items.code_index.size))

    def never(self, day: int, targets: Rows) -> NDArray[np.bool_]:
        """Whether nobody bought an item before a day, [T]."""
        return self._counts.before(day, None)[targets] == 0

    def ranks(self, asking: Asking, targets: Rows) -> Mapping[str, NDArray[np.int64]]:
        """The place of each target in the list of each method: [T], from 0, or `NOT_LISTED`."""
        return {name: item_metrics.ranks_of(listed, targets) for name, listed in self.lists(asking).items()}

    def lists(self, asking: Asking) -> Mapping[str, Sequence[int] | NDArray[np.integer]]:
        """The best items of each method, best first, by its name."""
        day, bag = asking.day, asking.bag
        ever, lately = self._counts.before(day, None), self._counts.before(day, POPULAR_DAYS)
        found: dict[str, Sequence[int] | NDArray[np.integer]] = {}
        for name in self._methods:
            if name == RECOMMENDED:
                found[name] = self._recommended(asking, lately)
            elif name == CO_PURCHASE:
                found[name] = best(self._together.scores(asking.user, day, bag, ever), lately, bag)
            elif name == LAST_PICTURE:
                alike = lately if asking.last is None else like_the_last(self._units, asking.last)
                found[name] = best(alike, lately, bag)
            else:
                found[name] = best(self._counts.before(day, WINDOWS[name]), ever, bag)
        return found

    def _recommended(self, asking: Asking, lately: NDArray[np.float32]) -> list[int]:
        mask = np.ones(len(self._items.rows), bool)
        mask[asking.bag] = False
        found = recommend_items(
            asking.taste,
            nearest=self._items.code_index.search,
            codes=self._items.codes,
            shares=self._items.shares,
            popularity=lately if asking.popularity is None else asking.popularity,
            mask=mask,
            weights=self._weights,
            options=self._options,
        )
        return [item.place for item in found]
