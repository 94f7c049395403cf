"""`results.json`: every figure of a run, and all that a report needs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from offline_training.replay.answers.latency import LatencySpan
from offline_training.replay.evaluation.field_summaries import FieldSummary
from offline_training.replay.evaluation.items import ItemResults
from offline_training.replay.evaluation.learnt import Learnt
from offline_training.replay.evaluation.prequential import Rules
from offline_training.replay.evaluation.samples import SampleUser
from offline_training.replay.evaluation.summaries import MetricSummary
from offline_training.replay.exceptions import ReplayError

RESULTS = "results.json"
VERSION = 4
"""Version of the file format; others are refused."""


@dataclass(kw_only=True)
class ReplayResults:
    """The results of a run.

    Attributes:
        version: of the file format.
        stream: fingerprint of the data set.
        dataset: name of the data set's folder.
        bundle: name and version of the bundle that is served.
        beside: names and versions of the other bundles, by method.
        selection: the fields of `EventSelection`.
        options: options of the command: lead, speed, rate, delay, tag.
        played: numbers of events, users and answers; times; counts of what was left out or has no recommendation, by reason.
        rules: what was measured.
        groups: the figures, by group of targets.
        fields: the figures by field, of all targets and of items that the user does not own yet.
        learnt: what each bundle learnt from, by method, and how much of it was played; None: its manifest does not say it.
        fine_fields: names of the fields of `NDCG@5 of fine fields`.
        derived: methods whose figures by field come from the list of the best categories alone.
        without_known_category: number of events of a target type that are no targets: the bundle knows no category of the item.
        whole_days: whether the times of all targets are whole days, so that the order within a day is unknown.
        coverage: by method and `coverage@k`.
        latency: percentiles from sending an event to its recommendation, milliseconds.
        latency_over_time: the same over the course of the run.
        ages: percentiles of the age of the recommendations at their targets, days of event time.
        samples: a few users.
        check: the fields of `Agreement`; None: not checked.
        items: the figures of recommended items; None: not measured, or no target.
        notes: what a reader of the figures must know.
    """

    version: int = VERSION
    stream: str
    dataset: str
    bundle: str
    beside: dict[str, str] = field(default_factory=dict[str, str])
    selection: dict[str, Any]
    options: dict[str, Any]
    played: dict[str, Any]
    rules: Rules
    groups: list[MetricSummary]
    fields: list[FieldSummary]
    learnt: dict[str, Learnt | None]
    fine_fields: list[str]
    derived: list[str]
    without_known_category: int
    whole_days: bool
    coverage: dict[str, dict[str, float]]
    latency: dict[str, float]
    latency_over_time: list[LatencySpan]
    ages: dict[str, float]
    samples: list[SampleUser]
    check: dict[str, Any] | None = None
    items: ItemResults | None = None
    notes: list[str] = field(default_factory=list[str])


class _VersionOnly(msgspec.Struct):
    version: int | None = None


def write(results: ReplayResults, folder: Path) -> None:
    """Write `results.json`. Raises ReplayError when it cannot be written."""
    write_json(results, folder / RESULTS)


def write_json(value: Any, path: Path) -> None:
    """Write a dataclass with `rules` as indented JSON. Raises ReplayError when it cannot be written."""
    plain = msgspec.to_builtins(value, str_keys=True)
    plain["rules"]["targets"] = sorted(plain["rules"]["targets"])  # a set has no order
    write_text(msgspec.json.format(msgspec.json.encode(plain), indent=2).decode() + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write a text file. Raises ReplayError when it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReplayError(f"{path} cannot be written: {error.strerror}: make room, and run it again") from error


def read(path: Path) -> ReplayResults:
    """Read `results.json`. Raises ReplayError for anything else."""
    again = "run the same `tastestream replay` again; it only evaluates again"
    try:
        data = path.read_bytes()
        version = msgspec.json.decode(data, type=_VersionOnly).version
        if version != VERSION:
            raise ReplayError(f"{path}: expected results of version {VERSION}, found {version or 'none'}: {again}")
        return msgspec.json.decode(data, type=ReplayResults)
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}: give the --out of a finished replay") from error
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise ReplayError(f"{path}: expected what `tastestream replay` wrote, found {error}: {again}") from error
