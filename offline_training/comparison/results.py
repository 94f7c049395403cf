"""The results of a comparison, as `TASK.json` stores them. The report shows nothing else."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec

from offline_training.datasets.records import DatasetError
from offline_training.tasks.split import TASKS

VERSION = 2
"""Format version of the files. Files of another version are refused."""


class Bin(msgspec.Struct, frozen=True):
    """Pairs of user and label whose scores lie in one tenth of the range 0 to 1."""

    mean_score: float
    share_relevant: float
    pairs: int


class ScoredLabel(msgspec.Struct, frozen=True):
    """A label, the score that a method gives it, and whether the user has it."""

    label: str
    score: float
    right: bool


class Prediction(msgspec.Struct, frozen=True):
    """The output of a method for an example.

    Attributes:
        attention: the attention on each item of the bag; empty for methods without a network.
        labels: the best labels, best first.
    """

    attention: list[float]
    labels: list[ScoredLabel] = msgspec.field(name="guesses")


class Example(msgspec.Struct, frozen=True):
    """A held-out user whose pictures can all be read.

    Attributes:
        bag: items of the bag, oldest first.
        afterwards: items that the user took afterwards; of *next* only.
        labels: the labels that the user has.
    """

    bag: list[str]
    afterwards: list[str]
    labels: list[str]


class Cost(msgspec.Struct, frozen=True):
    """Median time of a call on one core, milliseconds, and size of an item's row in the state, bytes."""

    batch_ms: float
    one_ms: float
    state_bytes: int


class Lead(msgspec.Struct, frozen=True):
    """How much higher a figure of one method is than that of another, and the 95 % interval of it over the choice of users."""

    difference: float
    low: float
    high: float


class MethodRun(msgspec.Struct, frozen=True):
    """A method that was trained and measured with one seed."""

    method: str
    seed: int
    figures: dict[str, float]
    seconds: float
    train_loss: list[float]  # by epoch; empty if the method is not trained
    validation_loss: list[float]
    recall_at: list[float]  # by k = 1, 2, ...
    precision_at: list[float]
    reliability: list[Bin]
    predictions: list[Prediction] = msgspec.field(name="answers")  # by example
    steps: list[int] = []  # of the training, by fold
    converged: bool = True  # whether more steps would not have helped


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All runs on a task, and a description of the task."""

    version: int = VERSION
    task: str
    question: str
    labels: int
    items: int
    users: dict[str, int]  # by part of the split
    folds: int = 1
    max_bag: int
    ceilings: dict[str, float]
    recall_ceiling_at: list[float]  # by k = 1, 2, ...
    methods: dict[str, str]  # a description of each method in one line
    runs: list[MethodRun]
    costs: dict[str, Cost]
    leads: dict[str, Lead]  # of the best method over each other one
    examples: list[Example]
    pictures: dict[str, bytes]  # JPEGs of the items of the examples
    trend_leads: dict[str, Lead] = {}
    """Of the task purchases: how much higher the macro hit@3 of each method is than that of the 28-day trend."""

    @property
    def figure(self) -> str:
        """The figure that counts."""
        return "macro hit@3" if self.trend_leads else "micro F1"


class _Versioned(msgspec.Struct, frozen=True):
    version: int | None = None


def by_method(comparison: Comparison) -> dict[str, list[MethodRun]]:
    """Group the runs by method, in the order in which the methods first occur."""
    runs: dict[str, list[MethodRun]] = {}
    for run in comparison.runs:
        runs.setdefault(run.method, []).append(run)
    return runs


def spread(runs: Sequence[MethodRun], figure: str) -> tuple[float, float]:
    """Return a figure's mean over seeds, and half the distance between its lowest and highest value."""
    values = [run.figures[figure] for run in runs]
    return statistics.fmean(values), (max(values) - min(values)) / 2


def mean_by_place(lists: Sequence[Sequence[float]]) -> list[float]:
    """Average lists of one length place by place, such as the curves of several seeds."""
    return [statistics.fmean(values) for values in zip(*lists, strict=True)]


def best(comparison: Comparison) -> str | None:
    """Return the trained method with the highest figure that counts on validation users. None if no method is trained."""
    trained = {name: runs for name, runs in by_method(comparison).items() if runs[0].train_loss}
    return max(trained, key=lambda name: spread(trained[name], f"validation {comparison.figure}")[0], default=None)


def write(comparison: Comparison, folder: Path) -> None:
    """Write `TASK.json` to `folder`, which is created when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(comparison), indent=2)
    (folder / f"{comparison.task}.json").write_bytes(data + b"\n")


def read(path: Path) -> Comparison:
    """Read a file that `write` wrote.

    Raises:
        DatasetError: it is of another version, or no such file at all, or it has no runs.
    """
    try:
        data = path.read_bytes()
        version = msgspec.json.decode(data, type=_Versioned).version
        if version != VERSION:
            raise DatasetError(
                f"{path}: expected results of version {VERSION}, found {version or 'none'}: "
                "run `tastestream train compare` again"
            )
        comparison = msgspec.json.decode(data, type=Comparison)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise DatasetError(f"{path}: expected a file that `tastestream train compare` wrote, found {error}") from error
    if not comparison.runs:
        raise DatasetError(f"{path}: expected the runs of a comparison, found none: compare some methods")
    return comparison


def read_folder(folder: Path) -> list[Comparison]:
    """Read every `TASK.json` in `folder`.

    Raises:
        DatasetError: there is none, or `read` refuses one.
    """
    paths = [folder / f"{task}.json" for task in TASKS]
    comparisons = [read(path) for path in paths if path.exists()]
    if not comparisons:
        there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        raise DatasetError(
            f"{folder}: expected {', '.join(path.name for path in paths[:-1])} or {paths[-1].name}, "
            f"found {', '.join(there[:3]) + (' ...' if there[3:] else '') if there else 'nothing'}: "
            "`tastestream train compare` writes them"
        )
    return comparisons
