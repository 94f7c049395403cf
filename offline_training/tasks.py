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
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from offline_training.catalogue import Catalogue
from offline_training.datasets.prepare import EVENTS
from offline_training.datasets.records import DatasetError
from offline_training.datasets.tables import parquet_module

TaskName = Literal["profile", "unseen", "next"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)
MAX_BAG: dict[TaskName, int] = {"profile": 8, "unseen": 8, "next": 16}
HELD_OUT = 10  # one in so many
VALIDATION = 20  # one in so many of the rest
PADDING = -1

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


class Bags(NamedTuple):
    """Of N users.

    rows: int32 [N, M], rows of the catalogue in the order of time, PADDING behind them. targets: bool [N, D].
    afterwards: of *next*, the rows of what each user took then.
    """

    rows: NDArray[np.int32]
    targets: NDArray[np.bool_]
    afterwards: Sequence[NDArray[np.int32]] = ()


class Split(NamedTuple):
    """The bags of a task. Thresholds and early stopping are chosen on `validation`, figures come from `test`."""

    train: Bags
    validation: Bags
    test: Bags
    new: NDArray[np.bool_]
    """bool [items]: those that training may not see."""


@dataclass(frozen=True)
class Histories:
    """The items of each user in the order of time, each once."""

    users: list[str]
    rows: list[NDArray[np.int32]]


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
    kept = (rows != PADDING) & (np.asarray(table["type"].to_pylist(), dtype=object) != "return")
    if not kept.any():
        raise DatasetError(f"{path}: none of its {len(items)} events is of an item with an embedding")
    names, of = np.unique(users[kept].astype(str), return_inverse=True)
    order = np.lexsort((np.asarray(table["time"].to_numpy())[kept], of))
    rows, of = rows[kept][order], of[order]
    ends = np.cumsum(np.bincount(of, minlength=len(names)))
    return Histories(names.tolist(), [_first_of_each(part) for part in np.split(rows, ends[:-1])])


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
    new = np.zeros(len(catalogue.items), bool)
    if task == "unseen":
        new = np.array([_one_in(HELD_OUT, item[: len(item) - variants]) for item in catalogue.items])
    parts: dict[str, list[_Asked]] = {"train": [], "validation": [], "test": []}
    for user, history in zip(histories.users, histories.rows, strict=True):
        validates = zlib.crc32(user.encode()) // HELD_OUT % VALIDATION == 0
        for bag, of, held_out in _PAIRS[task](user, history, new):
            part = "test" if held_out else "validation" if validates else "train"
            asked = of[-limit:] if of is bag else of
            targets = np.asarray(catalogue.matrix[asked].any(axis=0))
            parts[part].append(_Asked(bag[-limit:], targets, None if of is bag else of))
    for name, part in parts.items():
        if not part:
            raise DatasetError(
                f"task {task}: no user for {name} among {len(histories.users)}; "
                f"{'four items' if task == 'next' else 'two items'} or more of a user are needed"
            )
    train, validation, test = (_padded(part, limit) for part in parts.values())
    return Split(train, validation, test, new)


class _Asked(NamedTuple):
    bag: NDArray[np.int32]
    targets: NDArray[np.bool_]
    afterwards: NDArray[np.int32] | None


_Pair = tuple[NDArray[np.int32], NDArray[np.int32], bool]


def _profile(user: str, history: NDArray[np.int32], _: NDArray[np.bool_]) -> Iterator[_Pair]:
    if len(history) >= 2:
        yield history, history, _one_in(HELD_OUT, user)


def _unseen(_: str, history: NDArray[np.int32], new: NDArray[np.bool_]) -> Iterator[_Pair]:
    for part, held_out in ((history[~new[history]], False), (history[new[history]], True)):
        if len(part) >= 2:
            yield part, part, held_out


def _next(user: str, history: NDArray[np.int32], _: NDArray[np.bool_]) -> Iterator[_Pair]:
    if len(history) >= 4:
        half = len(history) // 2
        yield history[:half], history[half:], _one_in(HELD_OUT, user)


_PAIRS: dict[TaskName, Callable[[str, NDArray[np.int32], NDArray[np.bool_]], Iterator[_Pair]]] = {
    "profile": _profile,
    "unseen": _unseen,
    "next": _next,
}
"""From a user's history to pairs of a bag and the items whose labels are asked for, and whether they are held out."""


def _one_in(count: int, name: str) -> bool:
    return zlib.crc32(name.encode()) % count == 0


def _first_of_each(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]


def _padded(part: list[_Asked], limit: int) -> Bags:
    rows = np.full((len(part), limit), PADDING, np.int32)
    for number, one in enumerate(part):
        rows[number, : len(one.bag)] = one.bag
    afterwards = [one.afterwards for one in part if one.afterwards is not None]
    return Bags(rows, np.stack([one.targets for one in part]), afterwards)
