"""Before each purchase: what was known of the user and of all users, and what the user took. The task *purchases*.

A context is a user and a day on which the user bought something. Known is everything of strictly earlier days: the user's bag with
the age of each item, and the trend of all users. Each purchase of the day is a target.

    taken = read_taken(folder, catalogue, apart=users)         # what all users took, by user and day
    split = make_contexts(taken, max_bag=64)                   # training, validation, test; and the users that were set apart
    batch = split.train.padded(some)                           # rows, log weights and ages of some bags, [B, M]
    trend = trend_of(taken, 100 * catalogue.matrix)            # by true labels, in hundredths; or ItemLabels.of(rows of all items)
    trend.at(split.train.day[some])                            # float32 [B, 3, D], an input of the aggregator
    split.train.targets                                        # rows of what was bought, with `of_target`, their context
    popularity(taken, catalogue.matrix, fields, 28).at(days)   # a baseline: float64 [B, D], the share of each label in 28 days

Whether a user is held out depends on the CRC-32 of the name, as in `split`. A held-out day has an earlier one of the same user.
`trend_of` counts as the profile worker does: each item of a bag on the day on which it was last touched before the context, by its
strongest type. `popularity` counts each purchase. Returns are left out, as in `split`.
"""

import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.aggregator import TREND_DAYS
from model.bundle.manifest import Field
from model.metrics import Scores
from offline_training.datasets.parquet import DAY, parquet_module
from offline_training.datasets.prepare import EVENTS
from offline_training.datasets.records import DatasetError
from offline_training.tasks.bags import PADDING, Bags
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.split import HELD_OUT, MAX_BAG, VALIDATION, Split
from streams.profile.counts import in_hundredths
from streams.settings import DEFAULT_TYPE_WEIGHTS
from streams.trend.trend import WHOLE_ITEM

NO_ITEM = -60.0  # log weight of the item of zeros that stands for an empty bag
PAIRS = 4_000_000  # pairs of a context and an item that are in memory at once
AT_A_TIME = 4096  # items whose labels are summed at once
EVER = 5.0  # purchases, spread over the labels of a field, that are added to all purchases so far
RECENT = 50.0  # purchases, spread as those so far, that are added to a window
PURCHASE = "purchase"
NEVER = np.iinfo(np.int32).max

Rows = NDArray[np.int32]


@dataclass(frozen=True)
class Taken:
    """E touches of items, sorted by user, then day, then as in the data set. An item counts once for a user and a day.

    Attributes:
        users: names of U users.
        user: int32 [E].
        day: int32 [E], days since the epoch, UTC.
        row: int32 [E], row of the catalogue.
        weight: int64 [E], hundredths: the weight of the strongest type so far.
        bought: bool [E], whether it was a purchase.
        until: int32 [E], the day on which the user touched the item again; `NEVER` if not.
        apart: bool [U], users that are set apart. Each of their purchases counts, also two of an item on one day.
    """

    users: list[str]
    user: Rows
    day: Rows
    row: Rows
    weight: NDArray[np.int64]
    bought: NDArray[np.bool_]
    until: Rows
    apart: NDArray[np.bool_]

    @property
    def days(self) -> range:
        """All days from the first touch to the day after the last."""
        return range(int(self.day.min()), int(self.day.max()) + 2)


class PaddedBags(NamedTuple):
    """Bags of B contexts, padded to the longest: int32, float32, float32 [B, M]. An empty bag has one item of weight `NO_ITEM`."""

    rows: Rows
    """`PADDING` behind the last item, and for the item of an empty bag."""
    log_weight: NDArray[np.float32]
    """-inf behind the last item."""
    ages: NDArray[np.float32]
    """Days since an item was last touched."""


class Contexts(NamedTuple):
    """C contexts.

    Attributes:
        user: int32 [C], place in `Taken.users`.
        day: int32 [C], days since the epoch.
        starts: int64 [C + 1], where the items of each bag are in the next three arrays.
        rows: int32 [S], items of all bags, each bag from the oldest to the newest.
        log_weight: float32 [S].
        ages: float32 [S], whole days since the item was last touched.
        targets: int32 [T], rows of the items that were bought, by context.
        of_target: int64 [T], the context of each target.
    """

    user: Rows
    day: Rows
    starts: NDArray[np.int64]
    rows: Rows
    log_weight: NDArray[np.float32]
    ages: NDArray[np.float32]
    targets: Rows
    of_target: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of items in each bag, int64 [C]."""
        return np.diff(self.starts)

    def owned(self) -> NDArray[np.bool_]:
        """Whether each target is in the bag already, bool [T]."""
        span = int(max(self.rows.max(initial=0), self.targets.max(initial=0))) + 1
        held = np.repeat(np.arange(len(self.day)), self.sizes) * span + self.rows
        return np.isin(self.of_target * span + self.targets, held)

    def of(self, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> "Contexts":
        """Return some contexts, by number or by mask, in ascending order."""
        mask = np.zeros(len(self.day), bool)
        mask[chosen] = True
        items, targets = np.repeat(mask, self.sizes), mask[self.of_target]
        return Contexts(
            self.user[mask],
            self.day[mask],
            np.concatenate([[0], np.cumsum(self.sizes[mask])]),
            self.rows[items],
            self.log_weight[items],
            self.ages[items],
            self.targets[targets],
            (np.cumsum(mask) - 1)[self.of_target[targets]],
        )

    def padded(self, chosen: NDArray[np.integer] | slice) -> PaddedBags:
        """Pad the bags of some contexts to the longest of them."""
        starts, sizes = self.starts[:-1][chosen], self.sizes[chosen]
        places = np.arange(max(int(sizes.max(initial=0)), 1))
        inside = places < sizes[:, None]
        found = (starts[:, None] + places)[inside]
        rows = np.full(inside.shape, PADDING, np.int32)
        log_weight, ages = np.full(inside.shape, -np.inf, np.float32), np.zeros(inside.shape, np.float32)
        rows[inside], log_weight[inside], ages[inside] = self.rows[found], self.log_weight[found], self.ages[found]
        log_weight[sizes == 0, 0] = NO_ITEM
        return PaddedBags(rows, log_weight, ages)


class PurchaseSplit(NamedTuple):
    """The contexts by their use. `validation` and `test` have a bag; `train` and `apart` have first purchases, too."""

    train: Contexts
    validation: Contexts
    test: Contexts
    apart: Contexts


@dataclass(frozen=True)
class Daily:
    """Numbers for each day of a data set.

    Attributes:
        first: the day of the first row, since the epoch.
        values: [days, ...].
    """

    first: int
    values: Scores

    def at(self, days: NDArray[np.integer]) -> Scores:
        """Return the rows of some days, since the epoch. Before the first day is the first, after the last is the last."""
        return self.values[np.clip(days - self.first, 0, len(self.values) - 1)]


def read_taken(folder: Path, catalogue: Catalogue, *, apart: Collection[str] = (), until: int | None = None) -> Taken:
    """Read what users took from a prepared data set. Events of items that the catalogue does not have are left out.

    Args:
        folder: the data set.
        catalogue: its items.
        apart: users that are set apart.
        until: only events before this time, milliseconds since the epoch.

    Raises:
        DatasetError: there is no file of events, no purchase is left, or none is by a user of `apart`.
    """
    path = folder / EVENTS
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file: `tastestream dataset` creates the folder")
    table = parquet_module().read_table(path, columns=["user", "item", "type", "time"])
    compute, arrow = import_module("pyarrow.compute"), import_module("pyarrow")
    known = compute.index_in(table["item"], value_set=arrow.array(catalogue.items))
    rows = compute.fill_null(known, PADDING).to_numpy().astype(np.int32)
    users = table["user"].combine_chunks().dictionary_encode()
    users = users.combine_chunks() if hasattr(users, "num_chunks") else users
    kinds = compute.fill_null(compute.index_in(table["type"], value_set=arrow.array(list(DEFAULT_TYPE_WEIGHTS))), -1)
    kinds = kinds.to_numpy()
    kept = (rows != PADDING) & (kinds >= 0)
    if until is not None:
        kept &= table["time"].to_numpy() < until
    bought = kinds == list(DEFAULT_TYPE_WEIGHTS).index(PURCHASE)
    if not (kept & bought).any():
        raise DatasetError(
            f"{path}: none of its {len(rows)} events is a purchase of an item with an embedding and a category"
        )
    hundredths = np.array(list(in_hundredths(DEFAULT_TYPE_WEIGHTS).values()), np.int64)
    names: list[str] = users.dictionary.to_pylist()
    of_user = users.indices.to_numpy()[kept]
    set_apart = np.array([name in apart for name in names])
    if apart and not set_apart[of_user[bought[kept]]].any():
        raise DatasetError(
            f"{path}: none of the {len(apart)} users that are set apart, such as {next(iter(apart))!r}, bought an item"
        )
    return make_taken(
        names,
        user=of_user,
        day=table["time"].to_numpy()[kept] // DAY,
        row=rows[kept],
        weight=hundredths[kinds[kept]],
        bought=bought[kept],
        apart=set_apart,
    )


def users_of(folder: Path) -> set[str]:
    """Return the names of the users of a prepared data set. Raises DatasetError without a file of events."""
    path = folder / EVENTS
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file: `tastestream dataset` creates the folder")
    return set(parquet_module().read_table(path, columns=["user"])["user"].unique().to_pylist())


def make_taken(
    users: Sequence[str],
    *,
    user: NDArray[np.integer],
    day: NDArray[np.integer],
    row: NDArray[np.integer],
    weight: NDArray[np.integer],
    bought: NDArray[np.bool_],
    apart: NDArray[np.bool_],
) -> Taken:
    """Sort touches in time order by user and day, and merge those of a user, a day and an item. For the arguments, see `Taken`."""
    order = np.lexsort((day, user))  # stable: of one day as they come
    user, day, row, weight, bought = user[order], day[order], row[order], weight[order].copy(), bought[order].copy()
    # by user and item, then in time: a stable sort keeps the days in order
    by_item = np.lexsort((row, user))
    same_item = _same(by_item, user, row)  # as the touch before, in this order
    group = np.cumsum(~same_item)
    weight[by_item] = np.maximum.accumulate(group * 1000 + weight[by_item]) - group * 1000
    same_day = same_item & _same(by_item, day)
    first = np.flatnonzero(~same_day)
    merged_weight = np.maximum.reduceat(weight[by_item], first)
    merged_bought = np.logical_or.reduceat(bought[by_item], first)
    count = np.diff(np.append(first, len(by_item)))
    weight[by_item] = np.repeat(merged_weight, count)
    each = apart[user[by_item]]  # of users that are set apart each purchase counts
    bought[by_item] = np.where(each, bought[by_item], np.repeat(merged_bought, count))
    kept = np.zeros(len(user), bool)
    kept[by_item] = ~same_day | (each & bought[by_item])
    until = np.full(len(user), NEVER, np.int32)
    again = kept[by_item]
    some = by_item[again]
    until[some[:-1]] = np.where(_same(some, user, row)[1:], day[some[1:]], NEVER)
    return Taken(
        list(users),
        user[kept].astype(np.int32),
        day[kept].astype(np.int32),
        row[kept].astype(np.int32),
        weight[kept].astype(np.int64),
        bought[kept],
        until[kept],
        apart,
    )


def _same(order: NDArray[np.integer], *values: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each element, in this order, equals the one before in all values. The first one does not."""
    found = np.zeros(len(order), bool)
    found[1:] = True
    for some in values:
        ordered = some[order]
        found[1:] &= ordered[1:] == ordered[:-1]
    return found


def make_contexts(taken: Taken, *, max_bag: int = MAX_BAG["purchases"]) -> PurchaseSplit:
    """Make the contexts of all users. The newest `max_bag` items of a bag are kept.

    Raises:
        DatasetError: training, validation or test has no context.
    """
    every = _contexts(taken, max_bag)
    apart = taken.apart[every.user]
    numbers = np.array([zlib.crc32(name.encode()) for name in taken.users])[every.user]
    held_out, validates = numbers % HELD_OUT == 0, numbers // HELD_OUT % VALIDATION == 0
    warm = every.sizes > 0
    parts = {
        "train": ~(apart | held_out | validates),
        "validation": ~(apart | held_out) & validates & warm,
        "test": ~apart & held_out & warm,
    }
    for name, part in parts.items():
        if not part.any():
            raise DatasetError(
                f"task purchases: no purchase for {name} among {len(taken.users)} users; "
                "users who bought on two days or more are needed"
            )
    return PurchaseSplit(**{name: every.of(part) for name, part in parts.items()}, apart=every.of(apart))


def as_split(contexts: PurchaseSplit, matrix: NDArray[np.bool_]) -> Split:
    """Return the contexts with a bag as the bags of a task, for networks that use neither ages nor trend.

    The targets of a bag are the labels of everything that was bought on its day.

    Args:
        contexts: the contexts.
        matrix: labels of the items, bool [N, D].
    """
    train, validation, test = (as_bags(part, matrix) for part in (contexts.train, contexts.validation, contexts.test))
    return Split(train, validation, test, np.zeros(len(matrix), bool), np.arange(len(matrix)))


def as_bags(contexts: Contexts, matrix: NDArray[np.bool_]) -> Bags:
    """Return the contexts with a bag as bags. Their targets are the labels of everything that was bought on the day."""
    warm = contexts.of(contexts.sizes > 0)
    targets = np.zeros((len(warm.day), matrix.shape[1]), bool)
    np.logical_or.at(targets, warm.of_target, matrix[warm.targets])
    padded = warm.padded(slice(None))
    return Bags(padded.rows, padded.log_weight, targets)


def _contexts(taken: Taken, max_bag: int) -> Contexts:
    """The contexts of all users, by user and day."""
    change = np.ones(len(taken.user), bool)
    change[1:] = (taken.user[1:] != taken.user[:-1]) | (taken.day[1:] != taken.day[:-1])
    visit = np.cumsum(change) - 1  # the number of the user and day, of each touch
    asked = np.logical_or.reduceat(taken.bought, np.flatnonzero(change))  # whether it is a context
    before = np.cumsum(asked)  # contexts up to each visit
    user, day = taken.user[change][asked], taken.day[change][asked]
    last = np.searchsorted(user, taken.user, side="right")  # behind the last context of the user of each touch
    low = before[visit]
    # the touch is the newest one of its item in the contexts after its day, up to the day of the next touch
    high = np.where(taken.until == NEVER, last, _upto(user, day, taken.user, taken.until))
    blocks = list(_bag_items(taken, low, np.maximum(high, low), max_bag))
    context, touch = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    sizes = np.bincount(context, minlength=len(day))
    targets = np.flatnonzero(taken.bought)
    return Contexts(
        user,
        day,
        np.concatenate([[0], np.cumsum(sizes)]),
        taken.row[touch],
        np.log(taken.weight[touch] / 100).astype(np.float32),
        (day[context] - taken.day[touch]).astype(np.float32),
        taken.row[targets],
        (before - 1)[visit[targets]],
    )


def _upto(user: Rows, day: Rows, of: Rows, until: Rows) -> NDArray[np.int64]:
    """Count the contexts, sorted by user and day, that come at or before a user and a day."""
    span = np.int64(NEVER) + 1
    return np.searchsorted(user * span + day, of * span + until, side="right")


def _bag_items(
    taken: Taken, low: NDArray[np.integer], high: NDArray[np.integer], max_bag: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the context and the touch of each item of the bags: sorted by context, then time.

    Args:
        taken: the touches.
        low: [E], the first context that each touch is in.
        high: [E], behind the last one.
        max_bag: maximum number of items in a bag; the newest are kept.
    """
    ends = np.append(np.flatnonzero(np.diff(taken.user)) + 1, len(taken.user))  # of each user
    total = np.cumsum(high - low)[ends - 1]
    start = 0
    while start < len(ends):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + PAIRS, side="right")))
        touches = np.arange(ends[start - 1] if start else 0, ends[stop - 1])
        counts = (high - low)[touches]
        touch = np.repeat(touches, counts)
        firsts = np.cumsum(counts) - counts
        context = np.arange(len(touch)) - np.repeat(firsts - low[touches], counts)
        order = np.argsort(context, kind="stable")
        context, touch = context[order], touch[order]
        newer = np.searchsorted(context, context, side="right") - np.arange(len(context)) - 1
        yield context[newer < max_bag], touch[newer < max_bag]
        start = stop


def trend_of(taken: Taken, hundredths: NDArray[np.number]) -> Daily:
    """Return the trend at the begin of each day, float32 [days, 3, D], in items, as the profile worker counts it.

    Args:
        taken: what all users took.
        hundredths: how much each item belongs to each label, [N, D], 0 to 100: whole numbers give exactly what the worker gives.
    """
    days, moved = len(taken.days), taken.until != NEVER  # to a later day

    def counted(day: Rows, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        return _by_day(day[mask] - taken.days[0], taken.row[mask], taken.weight[mask], hundredths, days)

    every = counted(taken.day, np.ones(len(moved), bool))
    windows: list[NDArray[np.float64]] = []
    for length in TREND_DAYS:
        gone = moved if length is None else moved & (taken.until - taken.day < length)
        change = every - counted(taken.until, gone)
        if length is not None:  # a touch that is still the newest leaves the window on its end
            change[length:] -= counted(taken.day, ~gone)[:-length]
        windows.append(_before(change))
    return Daily(taken.days[0], (np.stack(windows, axis=1) / WHOLE_ITEM).astype(np.float32))


def popularity(taken: Taken, matrix: NDArray[np.bool_], fields: Sequence[Field], days: int | None) -> Daily:
    """Return how often each label was bought in the last `days` before each day, None: ever; lightly smoothed, float64 [days, D].

    The shares of a field sum to 1. A label of no field has its share of all purchases.

    Args:
        taken: what all users took.
        matrix: labels of the items, bool [N, D].
        fields: labels that exclude each other.
        days: length of the window.
    """
    length, mask = len(taken.days), taken.bought
    day = taken.day[mask] - taken.days[0]
    labels = np.concatenate([matrix, np.ones((len(matrix), 1), bool)], axis=1)  # the last column counts the purchases
    counts = _before(_by_day(day, taken.row[mask], np.ones(len(day), np.int64), labels, length))
    little = np.full(labels.shape[1], EVER / 2)
    little[-1] = EVER
    for field in fields:
        little[field.categories] = EVER / len(field.categories)
    ever = _shares(counts + little, fields)
    if days is None:
        return Daily(taken.days[0], ever[:, :-1])
    recent = counts - counts[np.maximum(np.arange(length) - days, 0)]
    return Daily(taken.days[0], _shares(recent + RECENT * ever, fields)[:, :-1])


def _shares(counts: NDArray[np.float64], fields: Sequence[Field]) -> NDArray[np.float64]:
    """Divide counts [days, D + 1] by their sum in each field, and the others by the last column."""
    found = counts / counts[:, -1:]
    for field in fields:
        own = counts[:, field.categories]
        found[:, field.categories] = own / own.sum(axis=1, keepdims=True)
    return found


def _by_day(
    day: Rows, rows: Rows, weights: NDArray[np.int64], labels: NDArray[np.generic], days: int
) -> NDArray[np.float64]:
    """Sum the weighted labels of items by day, [days, D]. Whole numbers below 2**53 are exact.

    Args:
        day: int32 [n], from 0.
        rows: int32 [n], the item of each.
        weights: int64 [n].
        labels: [N, D].
        days: number of days.
    """
    found = np.zeros((days, labels.shape[1]))
    order = np.argsort(day, kind="stable")
    ends = np.searchsorted(day[order], np.arange(days), side="right")
    for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        for part in range(start, end, AT_A_TIME):
            some = order[part : min(part + AT_A_TIME, end)]
            found[number] += weights[some].astype(np.float64) @ labels[rows[some]].astype(np.float64)
    return found


def _before(change: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over strictly earlier days."""
    found = np.zeros_like(change)
    found[1:] = np.cumsum(change, axis=0)[:-1]
    return found
