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
from model.item_search.item_metrics import FIGURES, LISTED
from model.item_search.ranking import Options, Taste
from model.item_search.weights import RankingWeights
from model.quantization import dequantize
from offline_training.tasks.item_methods import METHODS, RECOMMENDED, Asking, Catalogued, ItemMethods
from offline_training.tasks.purchase_figures import answers_of
from offline_training.tasks.purchases import Contexts, Rows, Taken

GROUPS = ("all", "never bought before", "first purchase of a user")


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
    compared = ItemMethods(items, taken, weights=weights or bundle.ranking(), methods=methods, options=options)
    ends = np.searchsorted(contexts.of_target, np.arange(len(contexts.day) + 1))
    owned = contexts.owned()
    measuring = Measuring(methods)
    for number, taste in enumerate(tastes_of(bundle, taken, contexts, codes, items.rows)):
        advance(1)
        targets = np.arange(ends[number], ends[number + 1])
        rows = contexts.targets[targets[~owned[targets]]]
        if not len(rows):
            continue
        bag = contexts.rows[contexts.starts[number] : contexts.starts[number + 1]]
        last = int(bag[-1]) if len(bag) else None
        asking = Asking(taste, int(contexts.user[number]), int(contexts.day[number]), bag, last)
        measuring.add(compared, asking, rows)
    return measuring.measured(int(owned.sum()))


class Measuring:
    """Collects the targets of `MeasuredItems`, in the order in which they come.

    Args:
        methods: names of `METHODS`.
    """

    def __init__(self, methods: Sequence[str] = METHODS) -> None:
        self._users: list[NDArray[np.int32]] = []
        self._ranks: Mapping[str, list[NDArray[np.int64]]] = {name: [] for name in methods}
        self._never: list[NDArray[np.bool_]] = []
        self._first: list[NDArray[np.bool_]] = []

    def add(self, methods: ItemMethods, asking: Asking, targets: Rows) -> None:
        """Measure at what somebody bought, rows [T] of items that are not in the bag."""
        for name, ranks in methods.ranks(asking, targets).items():
            self._ranks[name].append(ranks)
        self._users.append(np.full(len(targets), asking.user, np.int32))
        self._never.append(methods.never(asking.day, targets))
        self._first.append(np.full(len(targets), asking.last is None))

    def measured(self, owned: int) -> MeasuredItems:
        """Everything so far. `owned`: purchases of articles that are in the bag."""
        return MeasuredItems(
            np.concatenate([*self._users, np.zeros(0, np.int32)]),
            {name: np.concatenate([*ranks, np.zeros(0, np.int64)]) for name, ranks in self._ranks.items()},
            np.concatenate([*self._never, np.zeros(0, bool)]),
            np.concatenate([*self._first, np.zeros(0, bool)]),
            owned,
        )
