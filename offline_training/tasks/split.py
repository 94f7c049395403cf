"""Turns events into bags with targets, and splits them into training, validation and test, for three tasks of four.

    profile  Which categories are in the bag? Users are held out; their items are known from training. The paper's task.
    unseen   The same, but a tenth of the products is only in held-out bags. Measures what the picture itself says.
    next     Which categories does the user take afterwards? Each history is cut in time.

The fourth, *purchases*, is in `offline_training.tasks.purchases`: it asks at every day of a user, and knows the days before.

Whether a user or a product is held out depends only on the CRC-32 of its name, so it does not change when the data grow.

Source: Savchenko and Demochkin, "Decision-making in visual product recommendation using neural aggregation network and
context gating", DDA 2018 (profile).
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from offline_training.datasets.parquet import parquet_module
from offline_training.datasets.prepare import EVENTS
from offline_training.datasets.records import DatasetError
from offline_training.tasks.bags import PADDING, Bags, make_bags
from offline_training.tasks.catalogue import Catalogue
from streams.settings import DEFAULT_TYPE_WEIGHTS

TaskName = Literal["profile", "unseen", "next", "purchases"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)
MAX_BAG: dict[TaskName, int] = {"profile": 8, "unseen": 8, "next": 16, "purchases": 64}
"""Default maximum number of items in a bag. Before a purchase it is what the profile worker scores by default."""
HELD_OUT = 10  # one user (or product) of so many is held out
VALIDATION = 20  # one of so many of the other users validates
FEW_USERS = 2_000
"""Below this number, one user in ten is too few to measure on, and one in twenty too few to validate on."""
FOLDS = 5  # of few users
VALIDATION_OF_FEW = 10
FEWEST_USERS = 50  # 99 of 100 shops of this size have a user for each part, whatever the ids are

TASK_TEXTS: dict[TaskName, str] = {
    "profile": "which categories are in the bag, of items known from training",
    "unseen": "which categories are in the bag, of products never seen in training",
    "next": "which categories the user takes afterwards",
    "purchases": "which categories the next purchase has, given the bag, its ages and what all users want now",
}
"""What each task predicts, for manifests and reports."""


def task_named(name: str) -> TaskName:
    """Return the task of this name. Raises DatasetError when there is none."""
    for task in TASKS:
        if task == name:
            return task
    raise DatasetError(f"--task {name!r}: expected {', '.join(TASKS)}")


class Split(NamedTuple):
    """The bags of a task.

    Attributes:
        train: bags to train on.
        validation: bags for early stopping and for choosing thresholds.
        test: held-out bags, for the figures.
        new: bool [items], items that training must not see.
        products: int64 [items], the product that each item is a variant of.
        drawn: draws as many training bags as `train` has, different ones at each call. None when the task allows none.
        afterwards: of *next* only: the rows that each user of `test` took afterwards, int32 [n] each.
    """

    train: Bags
    validation: Bags
    test: Bags
    new: NDArray[np.bool_]
    products: NDArray[np.int64]
    drawn: Callable[[np.random.Generator], Bags] | None = None
    afterwards: Sequence[NDArray[np.int32]] = ()


class Events(NamedTuple):
    """All events of a user in time order: rows int32 [n], log weights float32 [n]."""

    rows: NDArray[np.int32]
    log_weights: NDArray[np.float32]


@dataclass(frozen=True)
class Histories:
    """What users did, in time order.

    Attributes:
        users: names of N users.
        rows: of each user, the distinct items, int32 [m], by the time of their first event.
        events: of each user, all events. None when all events have the same weight.
    """

    users: list[str]
    rows: list[NDArray[np.int32]]
    events: list[Events] | None = None


def read_histories(folder: Path, catalogue: Catalogue, *, until: int | None = None) -> Histories:
    """Read the events of a prepared data set: all of them, or those before `until`, milliseconds since the epoch.

    Returns, and events of items that the catalogue does not have, are left out.

    Raises:
        DatasetError: there is no file of events, or no event is left.
    """
    path = folder / EVENTS
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file: `tastestream dataset` creates the folder")
    table = parquet_module().read_table(path, columns=["user", "item", "type", "time"])
    row_of = {item: row for row, item in enumerate(catalogue.items)}
    items = table["item"].to_pylist()
    rows = np.fromiter((row_of.get(item, PADDING) for item in items), np.int32, len(items))
    users = np.asarray(table["user"].to_pylist(), dtype=object)
    types = np.asarray(table["type"].to_pylist(), dtype=object)
    times = np.asarray(table["time"].to_numpy())
    early = np.ones(len(times), bool) if until is None else times < until
    kept = (rows != PADDING) & (types != "return") & early
    if not kept.any():
        returns, late = int(((rows != PADDING) & (types == "return")).sum()), int((~early).sum())
        unknown = int((rows == PADDING).sum())
        raise DatasetError(
            f"{path}: none of its {len(items)} events is left: {unknown} of items without an embedding, {returns} returns"
            f"{f', {late} too late to learn from' if late else ''}"
        )
    names, of = np.unique(users[kept].astype(str), return_inverse=True)
    order = np.lexsort((times[kept], of))
    rows, of = rows[kept][order], of[order]
    log_weights = np.log([DEFAULT_TYPE_WEIGHTS[kind] for kind in types[kept][order]]).astype(np.float32)
    starts = np.cumsum(np.bincount(of, minlength=len(names)))[:-1]
    of_users = np.split(rows, starts)
    events = [Events(*both) for both in zip(of_users, np.split(log_weights, starts), strict=True)]
    return Histories(
        names.tolist(), [_first_of_each(part) for part in of_users], events if np.ptp(log_weights) else None
    )


def make_folds(
    task: TaskName, histories: Histories, catalogue: Catalogue, *, variants: int = 0, max_bag: int | None = None
) -> list[Split]:
    """Make the splits by which methods are compared: one, or `FOLDS` where there are few users, so that each is held out once.

    Args and Raises: as of `make_split`.
    """
    folds = FOLDS if len(histories.users) < FEW_USERS else 1
    return [
        make_split(
            task,
            histories,
            catalogue,
            variants=variants,
            max_bag=max_bag,
            folds=folds if folds > 1 else HELD_OUT,
            fold=fold,
        )
        for fold in range(folds)
    ]


def make_split(
    task: TaskName,
    histories: Histories,
    catalogue: Catalogue,
    *,
    variants: int = 0,
    max_bag: int | None = None,
    folds: int = HELD_OUT,
    fold: int = 0,
) -> Split:
    """Make the bags of a task.

    Args:
        task: the task.
        histories: what users did.
        catalogue: the items.
        variants: number of trailing characters of an item id that only tell variants of one product apart (H&M: 3, the colour).
        max_bag: maximum number of items in a bag; the newest are kept. None for the task's default, `MAX_BAG`.
        folds: one user (or product) of so many is held out; a divisor of `HELD_OUT`.
        fold: which of the folds is held out, from 0.

    Raises:
        DatasetError: training, validation or test has no user.
    """
    limit = max_bag or MAX_BAG[task]
    names, products = np.unique([item[: len(item) - variants] for item in catalogue.items], return_inverse=True)
    new = np.zeros(len(catalogue.items), bool)
    if task == "unseen":
        new = np.array([_fold_of(name, folds) == fold for name in names])[products]
    parts: dict[str, list[_Pair]] = {"train": [], "validation": [], "test": []}
    known: list[tuple[NDArray[np.int32], Events | None]] = []
    nothing = [None] * len(histories.users)
    one_validates = VALIDATION if len(histories.users) >= FEW_USERS else VALIDATION_OF_FEW
    for user, history, events in zip(histories.users, histories.rows, histories.events or nothing, strict=True):
        validates = zlib.crc32(user.encode()) // HELD_OUT % one_validates == 0
        held_out = task != "unseen" and _fold_of(user, folds) == fold
        for pair in _PAIRS[task](history, new, held_out):
            part = "test" if pair.held_out else "validation" if validates else "train"
            parts[part].append(pair._replace(events=events))
        known_part = history[~new[history]]
        if len(known_part) >= 2 and not validates and not held_out:
            known.append((known_part, events))
    for name, part in parts.items():
        if not part:
            needed = 4 if task == "next" else 2
            able = sum(len(rows) >= needed for rows in histories.rows)
            raise DatasetError(
                f"task {task}: no user for {name}: {able} of {len(histories.users)} users have {needed} items or more, and about one "
                f"in {HELD_OUT} is held out, by its id: expected {FEWEST_USERS} such users or more"
            )
    train, validation, test = (_bags(part, catalogue.matrix, limit) for part in parts.values())
    split = Split(train, validation, test, new, products)

    def in_any_order(rng: np.random.Generator) -> Bags:
        """Draw bags as if the users had taken their items in another order: a taste lasts longer than a history."""
        chosen = rng.choice(len(known), len(train.rows), replace=False)
        pairs = [
            _halves(rng.permutation(history))._replace(events=events, in_order=False)
            for history, events in (known[number] for number in chosen)
        ]
        return _bags(pairs, catalogue.matrix, limit)

    def of_some_products(rng: np.random.Generator) -> Bags:
        """Draw bags as if other products were the ones that training has not seen."""
        fold = rng.integers(HELD_OUT, size=len(names))[products]
        pairs: list[_Pair] = []
        for number in rng.permutation(len(known)):
            history, events = known[number]
            folds = fold[history]
            for one in np.flatnonzero(np.bincount(folds) >= 2):
                part = history[folds == one]
                pairs.append(_Pair(part, part, held_out=False, events=events))
            if len(pairs) >= len(train.rows):
                break
        return _bags(pairs[: len(train.rows)], catalogue.matrix, limit)

    if task == "next":
        return split._replace(drawn=in_any_order, afterwards=[pair.asked for pair in parts["test"]])
    return split._replace(drawn=of_some_products) if task == "unseen" else split


def later_bags(before: Histories, histories: Histories, catalogue: Catalogue, max_bag: int) -> Bags:
    """Make the bags that users had at some time, with the labels of the items that they took first after it as targets.

    Users who did not take items both before and after it are left out.

    Args:
        before: what users did before that time.
        histories: what they did altogether.
        catalogue: the items.
        max_bag: maximum number of items in a bag; the newest are kept.
    """
    known = dict(zip(before.users, before.rows, strict=True))
    nothing = [None] * len(histories.users)
    pairs = [
        _Pair(known[user], history[len(known[user]) :], held_out=True, events=events)
        for user, history, events in zip(histories.users, histories.rows, histories.events or nothing, strict=True)
        if user in known and len(history) > len(known[user])
    ]
    if not pairs:
        return make_bags([], np.zeros((0, len(catalogue.labels)), bool), max_bag)
    return _bags(pairs, catalogue.matrix, max_bag)


class _Pair(NamedTuple):
    """A bag, and the items whose labels are its targets.

    Attributes:
        bag: int32 [m], rows of the items in the bag.
        asked: int32 [n], rows of the items whose labels are to be predicted; the bag itself in *profile* and *unseen*.
        held_out: whether the pair belongs to the test bags.
        events: all events of the user; None when all have the same weight.
        in_order: whether the bag and the asked items are in time order.
    """

    bag: NDArray[np.int32]
    asked: NDArray[np.int32]
    held_out: bool
    events: Events | None = None
    in_order: bool = True

    def log_weight(self) -> NDArray[np.float32]:
        """Return the log weight of each item of the bag, float32 [m].

        An item weighs as much as the heaviest event with it. Events after the first asked item do not count.
        """
        if self.events is None:
            return np.zeros(len(self.bag), np.float32)
        rows, log_weights = self.events
        if self.in_order and self.asked is not self.bag:
            before = int(np.isin(rows, self.asked).argmax())
            rows, log_weights = rows[:before], log_weights[:before]
        return np.array([log_weights[rows == row].max() for row in self.bag], np.float32)


def _profile(history: NDArray[np.int32], _: NDArray[np.bool_], held_out: bool) -> Iterator[_Pair]:
    if len(history) >= 2:
        yield _Pair(history, history, held_out)


def _unseen(history: NDArray[np.int32], new: NDArray[np.bool_], _: bool) -> Iterator[_Pair]:
    for part, held_out in ((history[~new[history]], False), (history[new[history]], True)):
        if len(part) >= 2:
            yield _Pair(part, part, held_out)


def _next(history: NDArray[np.int32], _: NDArray[np.bool_], held_out: bool) -> Iterator[_Pair]:
    if len(history) >= 4:
        yield _halves(history, held_out=held_out)


def _halves(history: NDArray[Any], *, held_out: bool = False) -> _Pair:
    """Make the first half the bag, and ask for the second."""
    half = len(history) // 2
    return _Pair(history[:half], history[half:], held_out)


_PAIRS: dict[TaskName, Callable[[NDArray[np.int32], NDArray[np.bool_], bool], Iterator[_Pair]]] = {
    "profile": _profile,
    "unseen": _unseen,
    "next": _next,
}
"""By task: makes the pairs of a user from the history, int32 [m], which items are new, bool [items], and who is held out."""


def held_out_user(name: str) -> bool:
    """Tell whether the training of a bundle must not see a user, in the tasks that hold out users."""
    return _fold_of(name, HELD_OUT) == 0


def _fold_of(name: str, folds: int) -> int:
    """Return which of the folds a user or a product is in, from 0."""
    return zlib.crc32(name.encode()) % HELD_OUT % folds


def _first_of_each(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """Keep the first occurrence of each row, in order."""
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]


def _bags(pairs: Sequence[_Pair], matrix: NDArray[np.bool_], limit: int) -> Bags:
    """Keep the newest `limit` items of each bag. Where the bag itself is asked for, only their labels are targets."""
    targets = [matrix[asked[-limit:] if asked is bag else asked].any(axis=0) for bag, asked, *_ in pairs]
    log_weights = [pair.log_weight()[-limit:] for pair in pairs]
    return make_bags([pair.bag[-limit:] for pair in pairs], np.stack(targets), limit, log_weights)
