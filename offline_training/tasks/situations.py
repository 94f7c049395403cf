"""The moments at which an aggregator that uses the trend answers, made from the contexts of the task *purchases*.

    read       somebody asks at the time of the purchase: ages and trend of that day
    published  the answer at the user's last event before the purchase: ages and trend of then
    session    somebody asks while the user looks at items: some of what the user buys that day is in the bag as viewed, minutes ago

Purchases alone do not tell what a user looked at. So the views of a session are simulated: items that the user buys on that day, and
among them, as noise, items that others buy on that day. What was viewed is no target.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from offline_training.tasks.purchases import Contexts
from offline_training.tasks.split import MAX_BAG
from streams.settings import DEFAULT_TYPE_WEIGHTS

VIEWED = 3  # most items that a simulated session shows of what the user buys


def read(contexts: Contexts) -> Contexts:
    """Return the contexts with an item in the bag."""
    return contexts.of(contexts.sizes > 0)


def published(contexts: Contexts) -> Contexts:
    """Return the contexts with an item in the bag, with ages and trend as of the newest item."""
    warm = read(contexts)
    newest = np.minimum.reduceat(warm.ages, warm.starts[:-1])
    ages = warm.ages - np.repeat(newest, warm.sizes)
    return warm._replace(ages=ages, day=(warm.day - newest).astype(np.int32))


def session(
    contexts: Contexts, *, seed: int, viewed: int | None = None, noise: int = 0, log_weight: float | None = None
) -> Contexts:
    """Return the contexts with two purchases or more, with some of them in the bag as viewed.

    Args:
        contexts: also those without an item in the bag.
        seed: random seed.
        viewed: how many purchases are shown. None: one to `VIEWED`, at random; one is always left as the target.
        noise: how many items that others buy on that day are shown for each of them.
        log_weight: of what is shown; None for that of a view.
    """
    rng = np.random.default_rng(seed)
    weight = float(np.log(DEFAULT_TYPE_WEIGHTS["view"])) if log_weight is None else log_weight
    ends = np.searchsorted(contexts.of_target, np.arange(len(contexts.day) + 1))
    day_of_target = contexts.day[contexts.of_target]
    by_day = np.argsort(day_of_target, kind="stable")
    sorted_days = day_of_target[by_day]
    chosen: list[int] = []
    bags: list[tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]] = []
    targets: list[NDArray[np.int32]] = []
    for number in np.flatnonzero(np.diff(ends) > 1).tolist():
        bought = rng.permutation(np.unique(contexts.targets[ends[number] : ends[number + 1]]))
        if len(bought) < 2:
            continue
        count = min(viewed or int(rng.integers(1, VIEWED + 1)), len(bought) - 1)
        low, high = np.searchsorted(sorted_days, [contexts.day[number], contexts.day[number] + 1])
        others = contexts.targets[by_day[rng.integers(low, high, noise * count)]]
        shown = np.unique(np.concatenate([bought[:count], np.setdiff1d(others, bought[count:])]))
        rng.shuffle(shown)
        items = slice(contexts.starts[number], contexts.starts[number + 1])
        bags.append(_with_shown(contexts.rows[items], contexts.log_weight[items], contexts.ages[items], shown, weight))
        chosen.append(number)
        targets.append(contexts.targets[ends[number] : ends[number + 1]])
        targets[-1] = targets[-1][~np.isin(targets[-1], shown)]
    sizes = [len(rows) for rows, _, _ in bags]
    kept = np.array(chosen, np.int64)
    return Contexts(
        contexts.user[kept],
        contexts.day[kept],
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.concatenate([np.empty(0, np.int32), *(rows for rows, _, _ in bags)]),
        np.concatenate([np.empty(0, np.float32), *(weights for _, weights, _ in bags)]),
        np.concatenate([np.empty(0, np.float32), *(ages for _, _, ages in bags)]),
        np.concatenate([np.empty(0, np.int32), *targets]),
        np.repeat(np.arange(len(kept)), [len(part) for part in targets]),
    )


def joined(parts: Sequence[Contexts]) -> Contexts:
    """Return the contexts of all parts, one part after the other."""
    items = np.cumsum([0, *(len(part.rows) for part in parts)])
    numbers = np.cumsum([0, *(len(part.day) for part in parts)])
    return Contexts(
        np.concatenate([part.user for part in parts]),
        np.concatenate([part.day for part in parts]),
        np.concatenate([[0], *(part.starts[1:] + start for part, start in zip(parts, items, strict=False))]),
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.log_weight for part in parts]),
        np.concatenate([part.ages for part in parts]),
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.of_target + start for part, start in zip(parts, numbers, strict=False)]),
    )


def _with_shown(
    rows: NDArray[np.int32],
    log_weight: NDArray[np.float32],
    ages: NDArray[np.float32],
    shown: NDArray[np.int32],
    weight: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Put items into a bag as touched just now. An item that is in it already keeps its strongest type."""
    strongest = {int(row): float(log) for row, log in zip(rows, log_weight, strict=True)}
    kept, limit = ~np.isin(rows, shown), MAX_BAG["purchases"]
    weights = [max(weight, strongest.get(int(row), weight)) for row in shown]
    return (
        np.concatenate([rows[kept], shown])[-limit:].astype(np.int32),
        np.concatenate([log_weight[kept], weights])[-limit:].astype(np.float32),
        np.concatenate([ages[kept], np.zeros(len(shown))])[-limit:].astype(np.float32),
    )
