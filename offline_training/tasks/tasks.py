"""From events to bags with targets: the three questions that a recommendation of categories can be asked.

    profile  which categories are in the bag? Users are held out, their items are known from training. The paper's task.
    unseen   the same, but a tenth of the products is in held-out bags only: what does the picture itself say?
    next     which categories does the user take afterwards? The history is split in time.

Who is held out depends on a name's CRC-32 alone, and so stays when the data grow.

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

from offline_training.datasets.prepare import EVENTS
from offline_training.datasets.records import DatasetError
from offline_training.datasets.tables import parquet_module
from offline_training.tasks.bags import PADDING, TYPE_WEIGHTS, Bags, make_bags
from offline_training.tasks.catalogue import Catalogue

TaskName = Literal["profile", "unseen", "next"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)
MAX_BAG: dict[TaskName, int] = {"profile": 8, "unseen": 8, "next": 16}
HELD_OUT = 10  # one in so many
VALIDATION = 20  # one in so many of the rest

TASK_TEXTS: dict[TaskName, str] = {
    "profile": "which categories are in the bag, of items known from training",
    "unseen": "which categories are in the bag, of products never seen in training",
    "next": "which categories the user takes afterwards",
}


def task_named(name: str) -> TaskName:
    """Raises DatasetError when there is no such task."""
    for task in TASKS:
        if task == name:
            return task
    raise DatasetError(f"--task {name!r}: expected {', '.join(TASKS)}")


class Split(NamedTuple):
    """The bags of a task. Thresholds and early stopping are chosen on `validation`, figures come from `test`."""

    train: Bags
    validation: Bags
    test: Bags
    new: NDArray[np.bool_]
    """bool [items]: those that training may not see."""
    products: NDArray[np.int64]
    """int [items]: the number of the product that an item is a variant of."""
    drawn: Callable[[np.random.Generator], Bags] | None = None
    """As many training bags as `train` has, others at each call; None where there are no others."""
    afterwards: Sequence[NDArray[np.int32]] = ()
    """Of *next*, what each user of `test` took then."""


class Events(NamedTuple):
    """All that a user did, in the order of time: rows int32 [n], log weights float32 [n]."""

    rows: NDArray[np.int32]
    log_weights: NDArray[np.float32]


@dataclass(frozen=True)
class Histories:
    """What users did, in the order of time."""

    users: list[str]
    rows: list[NDArray[np.int32]]
    """The items of each, each once."""
    events: list[Events] | None = None
    """None where all are of one weight."""


def read_histories(folder: Path, catalogue: Catalogue) -> Histories:
    """The events of a prepared data set; returns, and events of items that the catalogue lacks, are left out."""
    path = folder / EVENTS
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file: `tastestream dataset` makes the folder")
    table = parquet_module().read_table(path, columns=["user", "item", "type", "time"])
    row_of = {item: row for row, item in enumerate(catalogue.items)}
    items = table["item"].to_pylist()
    rows = np.fromiter((row_of.get(item, PADDING) for item in items), np.int32, len(items))
    users = np.asarray(table["user"].to_pylist(), dtype=object)
    types = np.asarray(table["type"].to_pylist(), dtype=object)
    kept = (rows != PADDING) & (types != "return")
    if not kept.any():
        raise DatasetError(f"{path}: none of its {len(items)} events is of an item with an embedding")
    names, of = np.unique(users[kept].astype(str), return_inverse=True)
    order = np.lexsort((np.asarray(table["time"].to_numpy())[kept], of))
    rows, of = rows[kept][order], of[order]
    log_weights = np.log([TYPE_WEIGHTS[kind] for kind in types[kept][order]]).astype(np.float32)
    starts = np.cumsum(np.bincount(of, minlength=len(names)))[:-1]
    of_users = np.split(rows, starts)
    events = [Events(*both) for both in zip(of_users, np.split(log_weights, starts), strict=True)]
    return Histories(
        names.tolist(), [_first_of_each(part) for part in of_users], events if np.ptp(log_weights) else None
    )


def make_split(
    task: TaskName, histories: Histories, catalogue: Catalogue, *, variants: int = 0, max_bag: int | None = None
) -> Split:
    """The bags of a task.

    Args:
        variants: trailing characters of an item's name that tell the variants of one product apart (H&M: 3, the colour).
        max_bag: the newest items that count; the task's own number by default.

    Raises:
        DatasetError: when a part of it is empty.
    """
    limit = max_bag or MAX_BAG[task]
    names, products = np.unique([item[: len(item) - variants] for item in catalogue.items], return_inverse=True)
    new = np.zeros(len(catalogue.items), bool)
    if task == "unseen":
        new = np.array([_one_in(HELD_OUT, name) for name in names])[products]
    parts: dict[str, list[_Pair]] = {"train": [], "validation": [], "test": []}
    known: list[tuple[NDArray[np.int32], Events | None]] = []
    nothing = [None] * len(histories.users)
    for user, history, events in zip(histories.users, histories.rows, histories.events or nothing, strict=True):
        validates = zlib.crc32(user.encode()) // HELD_OUT % VALIDATION == 0
        for pair in _PAIRS[task](user, history, new):
            part = "test" if pair.held_out else "validation" if validates else "train"
            parts[part].append(pair._replace(events=events))
        known_part = history[~new[history]]
        if len(known_part) >= 2 and not validates and (task == "unseen" or not _one_in(HELD_OUT, user)):
            known.append((known_part, events))
    for name, part in parts.items():
        if not part:
            raise DatasetError(
                f"task {task}: no user for {name} among {len(histories.users)}; "
                f"{'four items' if task == 'next' else 'two items'} or more of a user are needed"
            )
    train, validation, test = (_bags(part, catalogue.matrix, limit) for part in parts.values())
    split = Split(train, validation, test, new, products)

    def in_any_order(chance: np.random.Generator) -> Bags:
        """What would be asked had the users taken their items in another order: tastes last longer than a history."""
        chosen = chance.choice(len(known), len(train.rows), replace=False)
        pairs = [
            _halves(chance.permutation(history))._replace(events=events, in_order=False)
            for history, events in (known[number] for number in chosen)
        ]
        return _bags(pairs, catalogue.matrix, limit)

    def of_some_products(chance: np.random.Generator) -> Bags:
        """What would be asked were others of the products those that training has not seen."""
        fold = chance.integers(HELD_OUT, size=len(names))[products]
        pairs: list[_Pair] = []
        for number in chance.permutation(len(known)):
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


class _Pair(NamedTuple):
    """A bag, the items whose labels are asked for, and whether it is held out."""

    bag: NDArray[np.int32]
    asked: NDArray[np.int32]
    held_out: bool
    events: Events | None = None
    in_order: bool = True

    def log_weight(self) -> NDArray[np.float32]:
        """Of each item of the bag, by the heaviest that the user had done with it before the first of what is asked for."""
        if self.events is None:
            return np.zeros(len(self.bag), np.float32)
        rows, log_weights = self.events
        if self.in_order and self.asked is not self.bag:
            before = int(np.isin(rows, self.asked).argmax())
            rows, log_weights = rows[:before], log_weights[:before]
        return np.array([log_weights[rows == row].max() for row in self.bag], np.float32)


def _profile(user: str, history: NDArray[np.int32], _: NDArray[np.bool_]) -> Iterator[_Pair]:
    if len(history) >= 2:
        yield _Pair(history, history, _one_in(HELD_OUT, user))


def _unseen(_: str, history: NDArray[np.int32], new: NDArray[np.bool_]) -> Iterator[_Pair]:
    for part, held_out in ((history[~new[history]], False), (history[new[history]], True)):
        if len(part) >= 2:
            yield _Pair(part, part, held_out)


def _next(user: str, history: NDArray[np.int32], _: NDArray[np.bool_]) -> Iterator[_Pair]:
    if len(history) >= 4:
        yield _halves(history, held_out=_one_in(HELD_OUT, user))


def _halves(history: NDArray[Any], *, held_out: bool = False) -> _Pair:
    half = len(history) // 2
    return _Pair(history[:half], history[half:], held_out)


_PAIRS: dict[TaskName, Callable[[str, NDArray[np.int32], NDArray[np.bool_]], Iterator[_Pair]]] = {
    "profile": _profile,
    "unseen": _unseen,
    "next": _next,
}
"""From a user's history."""


def _one_in(count: int, name: str) -> bool:
    return zlib.crc32(name.encode()) % count == 0


def _first_of_each(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]


def _bags(pairs: Sequence[_Pair], matrix: NDArray[np.bool_], limit: int) -> Bags:
    """The newest `limit` items of each bag; where the bag itself is asked for, of these items only."""
    targets = [matrix[asked[-limit:] if asked is bag else asked].any(axis=0) for bag, asked, *_ in pairs]
    log_weights = [pair.log_weight()[-limit:] for pair in pairs]
    return make_bags([pair.bag[-limit:] for pair in pairs], np.stack(targets), limit, log_weights)
