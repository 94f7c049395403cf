"""What a comparison found, as `TASK.json` keeps it: all that a report shows."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec

from offline_training.datasets.records import DatasetError
from offline_training.tasks.tasks import TASKS

VERSION = 2
"""Of the files; another one is refused."""


class Bin(msgspec.Struct, frozen=True):
    """Pairs of user and label whose scores are in one tenth of 0 to 1."""

    mean_score: float
    share_relevant: float
    pairs: int


class Guess(msgspec.Struct, frozen=True):
    """A label that a method gives a high score, and whether the user has it."""

    label: str
    score: float
    right: bool


class Answer(msgspec.Struct, frozen=True):
    """What a run says of an example. attention: of each item of the bag; empty where there is no network. guesses: best first."""

    attention: list[float]
    guesses: list[Guess]


class Example(msgspec.Struct, frozen=True):
    """A held-out user all of whose pictures are local files. afterwards: the items asked for, of *next* only."""

    bag: list[str]
    afterwards: list[str]
    labels: list[str]


class Cost(msgspec.Struct, frozen=True):
    """Of a call on one core, in milliseconds (the median), and of an item's row in the state, in bytes."""

    batch_ms: float
    one_ms: float
    state_bytes: int


class Lead(msgspec.Struct, frozen=True):
    """How far the best method's micro F1 is ahead, and the 95 % interval of that difference over the choice of users."""

    difference: float
    low: float
    high: float


class Run(msgspec.Struct, frozen=True):
    """One method, trained with one seed."""

    method: str
    seed: int
    figures: dict[str, float]
    seconds: float
    train_loss: list[float]  # by epoch; empty where nothing is trained
    validation_loss: list[float]
    recall_at: list[float]  # by k = 1, 2, ...
    precision_at: list[float]
    reliability: list[Bin]
    answers: list[Answer]  # by example


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All runs on a task, and what it is."""

    version: int = VERSION
    task: str
    question: str
    labels: int
    items: int
    users: dict[str, int]  # by part of the split
    max_bag: int
    ceilings: dict[str, float]
    recall_ceiling_at: list[float]  # by k = 1, 2, ...
    methods: dict[str, str]  # what each is, in a line
    runs: list[Run]
    costs: dict[str, Cost]
    leads: dict[str, Lead]  # over each of the other methods
    examples: list[Example]
    pictures: dict[str, bytes]  # JPEGs of the items of the examples


class _Header(msgspec.Struct, frozen=True):
    version: int | None = None


def by_method(comparison: Comparison) -> dict[str, list[Run]]:
    """The runs of each method, in the order of the first."""
    found: dict[str, list[Run]] = {}
    for run in comparison.runs:
        found.setdefault(run.method, []).append(run)
    return found


def spread(runs: Sequence[Run], figure: str) -> tuple[float, float]:
    """Mean over seeds, and half the distance between the lowest and the highest."""
    values = [run.figures[figure] for run in runs]
    return statistics.fmean(values), (max(values) - min(values)) / 2


def mean_by_place(lists: Sequence[Sequence[float]]) -> list[float]:
    """Mean over seeds of figures by k or by epoch."""
    return [statistics.fmean(values) for values in zip(*lists, strict=True)]


def best(comparison: Comparison) -> str | None:
    """The trained method with the highest micro F1 on validation users, None when no method is trained."""
    trained = {name: runs for name, runs in by_method(comparison).items() if runs[0].train_loss}
    return max(trained, key=lambda name: spread(trained[name], "validation micro F1")[0], default=None)


def write(comparison: Comparison, folder: Path) -> None:
    """`TASK.json` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(comparison), indent=2)
    (folder / f"{comparison.task}.json").write_bytes(data + b"\n")


def read(path: Path) -> Comparison:
    """What `write` wrote. Raises DatasetError for anything else."""
    try:
        data = path.read_bytes()
        version = msgspec.json.decode(data, type=_Header).version
        if version != VERSION:
            raise DatasetError(
                f"{path}: expected results of version {VERSION}, found {version or 'none'}: "
                "run `tastestream train compare` again"
            )
        found = msgspec.json.decode(data, type=Comparison)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise DatasetError(f"{path}: expected what `tastestream train compare` wrote, found {error}") from error
    if not found.runs:
        raise DatasetError(f"{path}: expected the runs of a comparison, found none: compare some methods")
    return found


def read_folder(folder: Path) -> list[Comparison]:
    """Every `TASK.json` in `folder`. Raises DatasetError where one is of another version, or there is none."""
    paths = [folder / f"{task}.json" for task in TASKS]
    found = [read(path) for path in paths if path.exists()]
    if not found:
        there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        raise DatasetError(
            f"{folder}: expected {', '.join(path.name for path in paths[:-1])} or {paths[-1].name}, "
            f"found {', '.join(there[:3]) + (' ...' if there[3:] else '') if there else 'nothing'}: "
            "`tastestream train compare` writes them"
        )
    return found
