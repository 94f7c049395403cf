"""Measures recommended items before each purchase, beside what every shop can do without them. Needs no torch.

A target is an article that was bought and is not in the bag: what is in the bag is left out of every list. Known is what happened on
strictly earlier days, as in `purchases`. The items are recommended as the serve worker does, by `recommend_items`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.field_metrics import interval, paired
from model.item_search import item_metrics
from model.item_search.index import CodeIndex
from model.item_search.item_metrics import FIGURES, LISTED
from model.item_search.ranking import Options, Shares, Taste, recommend_items
from model.item_search.vectors import unit
from model.item_search.weights import RankingWeights
from model.quantization import dequantize, quantize_all
from offline_training.tasks.item_baselines import POPULAR_DAYS, WINDOWS, CoPurchases, ItemCounts, best, like_the_last
from offline_training.tasks.purchase_figures import answers_of
from offline_training.tasks.purchases import Contexts, Rows, Taken

RECOMMENDED = "recommended"
CO_PURCHASE, LAST_PICTURE = "co-purchase", "picture of the last item"
METHODS = (RECOMMENDED, *WINDOWS, CO_PURCHASE, LAST_PICTURE)
GROUPS = ("all", "never bought before", "first purchase of a user")


class Catalogued(NamedTuple):
    """The items as a serve worker holds them."""

    rows: list[bytes]
    """Their codes."""
    code_index: CodeIndex
    shares: Shares | None

    @classmethod
    def of(cls, bundle: Bundle, codes: NDArray[np.float32]) -> "Catalogued":
        """Store codes, float32 [N, d], by the bundle's own embedder."""
        rows, index, labels = quantize_all(codes), CodeIndex(codes.shape[1]), bundle.item_labels()
        index.put(np.arange(len(rows)), rows)
        return cls(rows, index, None if labels is None else labels.of)

    def codes(self, places: Sequence[int]) -> list[bytes]:
        """The codes of items."""
        return [self.rows[place] for place in places]


class MeasuredItems(NamedTuple):
    """T targets.

    Attributes:
        users: int32 [T].
        ranks: int64 [T] by method: the place of the article in its list, from 0, or `NOT_LISTED`.
        never: bool [T], articles that nobody bought before: pictures are their only signal.
        first: bool [T], purchases of users without a bag.
        owned: number of purchases of articles that are in the bag, which are no targets.
    """

    users: Rows
    ranks: dict[str, NDArray[np.int64]]
    never: NDArray[np.bool_]
    first: NDArray[np.bool_]
    owned: int

    def groups(self) -> dict[str, NDArray[np.bool_]]:
        """The targets of each of `GROUPS`."""
        return dict(zip(GROUPS, (np.ones(len(self.users), bool), self.never, self.first), strict=True))

    def figures(self) -> dict[str, dict[str, float]]:
        """Figures under `GROUP, METHOD`, rounded to four places. Those of `RECOMMENDED` have an interval over users, and each lead.

        So `all, recommended` has `hit@12`, `hit@12 low`, and `hit@12 - co-purchase` with ` low` and ` high`, paired over users.
        """
        found: dict[str, dict[str, float]] = {}
        for group, chosen in self.groups().items():
            if not chosen.any():
                continue
            users = self.users[chosen]
            values = {name: item_metrics.figures(ranks[chosen]) for name, ranks in self.ranks.items()}
            for name, own in values.items():
                found[f"{group}, {name}"] = {figure: float(value.mean()) for figure, value in own.items()}
                found[f"{group}, {name}"]["purchases"] = int(chosen.sum())
            ours = found[f"{group}, {RECOMMENDED}"]
            for figure in FIGURES:
                ours[f"{figure} low"], ours[f"{figure} high"] = interval(values[RECOMMENDED][figure], users)
                for name in self.ranks:
                    if name != RECOMMENDED:
                        lead = paired(values[RECOMMENDED][figure], values[name][figure], users)
                        ours |= dict(
                            zip((f"{figure} - {name}{end}" for end in ("", " low", " high")), lead, strict=True)
                        )
        return {group: {name: round(value, 4) for name, value in own.items()} for group, own in found.items()}


def tastes_of(
    bundle: Bundle, taken: Taken, contexts: Contexts, codes: NDArray[np.float32], rows: Sequence[bytes]
) -> Iterator[Taste]:
    """The taste of each context. The arguments are those of `answers_of`, and the codes as they are stored."""
    stored = dequantize(rows, codes.shape[1])
    for number, answer in enumerate(answers_of(bundle, taken, contexts, codes)):
        bag = contexts.rows[contexts.starts[number] : contexts.starts[number + 1]]
        yield Taste(stored[bag], answer.attention, answer.scores)


def measure_items(
    bundle: Bundle,
    taken: Taken,
    contexts: Contexts,
    codes: NDArray[np.float32],
    *,
    weights: RankingWeights | None = None,
    methods: Sequence[str] = METHODS,
    options: Options = Options(count=LISTED),  # noqa: B008  (frozen)
    advance: Callable[[int], None] = lambda _: None,
) -> MeasuredItems:
    """Measure a bundle and the baselines at some contexts.

    Args:
        bundle: the bundle.
        taken: what all users took.
        contexts: C contexts. Those without a target are left out.
        codes: float32 [N, d], by the bundle's own embedder.
        weights: of the ranking; None for the bundle's.
        methods: names of `METHODS`.
        options: of `recommend_items`.
        advance: is called with the number of contexts that are done.
    """
    items = Catalogued.of(bundle, codes)
    counts, together = ItemCounts(taken, len(codes)), CoPurchases(taken, len(codes))
    units = unit(dequantize(items.rows, codes.shape[1]))
    weights = weights or bundle.ranking()
    ends = np.searchsorted(contexts.of_target, np.arange(len(contexts.day) + 1))
    owned = contexts.owned()
    ranks: Mapping[str, list[NDArray[np.int64]]] = {name: [] for name in methods}
    never: list[NDArray[np.bool_]] = []
    chosen: list[NDArray[np.intp]] = []
    for number, taste in enumerate(tastes_of(bundle, taken, contexts, codes, items.rows)):
        advance(1)
        targets = np.arange(ends[number], ends[number + 1])
        targets = targets[~owned[targets]]
        if not len(targets):
            continue
        user, day = int(contexts.user[number]), int(contexts.day[number])
        bag = contexts.rows[contexts.starts[number] : contexts.starts[number + 1]]
        popular = {name: counts.before(day, window) for name, window in WINDOWS.items()}
        ever, lately = counts.before(day, None), counts.before(day, POPULAR_DAYS)
        for name in methods:
            if name == RECOMMENDED:
                mask = np.ones(len(codes), bool)
                mask[bag] = False
                listed = [
                    item.place
                    for item in recommend_items(
                        taste,
                        nearest=items.code_index.search,
                        codes=items.codes,
                        shares=items.shares,
                        popularity=lately,
                        mask=mask,
                        weights=weights,
                        options=options,
                    )
                ]
            elif name == CO_PURCHASE:
                listed = best(together.scores(user, day, bag, ever), lately, bag)
            elif name == LAST_PICTURE:
                alike = like_the_last(units, int(bag[-1])) if len(bag) else lately
                listed = best(alike, lately, bag)
            else:
                listed = best(popular[name], ever, bag)
            ranks[name].append(item_metrics.ranks_of(listed, contexts.targets[targets]))
        never.append(ever[contexts.targets[targets]] == 0)
        chosen.append(targets)
    every = np.concatenate(chosen) if chosen else np.zeros(0, np.intp)
    return MeasuredItems(
        contexts.user[contexts.of_target[every]],
        {name: np.concatenate([*parts, np.zeros(0, np.int64)]) for name, parts in ranks.items()},
        np.concatenate([*never, np.zeros(0, bool)]),
        contexts.sizes[contexts.of_target[every]] == 0,
        int(owned.sum()),
    )
