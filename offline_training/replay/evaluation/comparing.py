"""Side-by-side results of several runs over the same events. Pure, except for reading the runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from offline_training.replay.evaluation import targets
from offline_training.replay.evaluation.baselines import MONTH
from offline_training.replay.evaluation.field_summaries import FieldSummary, summaries_of
from offline_training.replay.evaluation.prequential import SERVED, MeasuredTargets, Rules
from offline_training.replay.evaluation.results import RESULTS, ReplayResults, read
from offline_training.replay.evaluation.summaries import Difference, MetricSummary, summaries
from offline_training.replay.exceptions import ReplayError


@dataclass
class ComparedRun:
    """One of the runs. `measured` holds its targets, if the folder has them."""

    name: str
    folder: Path
    results: ReplayResults
    measured: MeasuredTargets | None


@dataclass
class RunComparison:
    """Side-by-side results of several runs.

    Attributes:
        dataset: name of the data set.
        rules: what was measured.
        runs: facts about each run, by name.
        groups: the figures, by group of targets. The runs are the methods; differences are to the first run.
        fields: the figures by field, of the runs and of the 28-day trend of the first run, which the leads are over.
            Empty unless all runs have their targets and the same fields.
        fine_fields: names of the fields of `NDCG@5 of fine fields`.
        coverage: by run and `coverage@k`.
        paired: whether differences have intervals, which needs the targets of all runs.
        notes: what a reader of the figures must know.
    """

    dataset: str
    rules: Rules
    runs: dict[str, dict[str, Any]]
    groups: list[MetricSummary]
    fields: list[FieldSummary]
    fine_fields: list[str]
    coverage: dict[str, dict[str, float]]
    paired: bool
    notes: list[str] = field(default_factory=list[str])


def read_runs(paths: Sequence[Path]) -> list[ComparedRun]:
    """Read runs from their folders, or from `results.json` in them.

    Raises:
        ReplayError: a run cannot be read, or the runs are not comparable.
    """
    folders = [path.parent if path.name == RESULTS else path for path in paths]
    found: list[ComparedRun] = []
    for folder, name in zip(folders, names_of(folders), strict=True):
        results = read(folder / RESULTS)
        measured = None
        if (folder / targets.TARGETS).is_file():
            measured, figures = targets.read(folder / targets.TARGETS)
            if figures != results.rules.figures or SERVED not in measured.figures:
                raise ReplayError(
                    f"{folder / targets.TARGETS}: it does not belong to the {RESULTS} beside it: run that replay again"
                )
        found.append(ComparedRun(name, folder, results, measured))
    first, *others = found
    for other in others:
        _check(first, other)
    return found


def names_of(folders: Sequence[Path]) -> list[str]:
    """Name the runs by their folders, with as much of the path as tells them apart.

    Raises:
        ReplayError: a run is given twice.
    """
    paths = [folder.resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        twice = next(folder for folder, path in zip(folders, paths, strict=True) if paths.count(path) > 1)
        raise ReplayError(f"{twice}: the run is given twice; give another one")
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len({*names, MONTH}) == len(names) + 1:
            return names
    return [str(path) for path in paths]


def _check(first: ComparedRun, other: ComparedRun) -> None:
    """Check that two runs are comparable. Raises ReplayError with what differs."""
    one, two = first.results, other.results
    asked = {
        "stream": (one.stream, two.stream),
        **{name: (one.selection.get(name), two.selection.get(name)) for name in one.selection},
        "targets": (sorted(one.rules.targets), sorted(two.rules.targets)),
        "delay": (one.rules.delay, two.rules.delay),
        "k": (list(one.rules.ks), list(two.rules.ks)),
        "paper": (one.rules.paper, two.rules.paper),
        "measured users": (one.options.get("measured"), two.options.get("measured")),
    }
    different = [f"{name} {a!r} and {b!r}" for name, (a, b) in asked.items() if a != b]
    if different:
        raise ReplayError(f"{first.folder} and {other.folder} are not comparable: {'; '.join(different)}")
    if _target_counts(first) != _target_counts(other):
        raise ReplayError(
            f"{first.folder} and {other.folder} are not comparable: {one.bundle} and {two.bundle} know different categories"
        )
    if first.measured is not None and other.measured is not None:
        same = np.array_equal(first.measured.places, other.measured.places)
        if not same or not np.array_equal(first.measured.labels, other.measured.labels):
            raise ReplayError(
                f"{first.folder} and {other.folder} are not comparable: their targets differ, because {one.bundle} and "
                f"{two.bundle} know different categories of the items"
            )


def _target_counts(run: ComparedRun) -> tuple[int, int, dict[str, float]]:
    groups = run.results.groups
    targets_, ceiling = (groups[0].targets, groups[0].ceiling) if groups else (0, {})
    return targets_, run.results.without_known_category, ceiling


def compare_runs(runs: Sequence[ComparedRun]) -> RunComparison:
    """Compare the figures of runs at the same targets, each with the first run."""
    first, *others = runs
    rules = first.results.rules
    return RunComparison(
        dataset=first.results.dataset,
        rules=rules,
        runs={run.name: _facts(run) for run in runs},
        groups=_groups(runs, rules),
        fields=_fields(runs),
        fine_fields=first.results.fine_fields,
        coverage={run.name: run.results.coverage[SERVED] for run in runs},
        paired=all(run.measured is not None for run in runs),
        notes=[
            f"{run.name} and {first.name} have different events without a recommendation: a picture was available in one of them only"
            for run in others
            if run.results.played["without_recommendation"] != first.results.played["without_recommendation"]
        ],
    )


def _facts(run: ComparedRun) -> dict[str, Any]:
    results = run.results
    return {
        "bundle": results.bundle,
        "folder": str(run.folder),
        **{name: results.played[name] for name in ("answered", "events", "users", "without_recommendation")},
        "tag": results.options["tag"],
        "latency": results.latency,
        "ages": results.ages,
        "check": results.check,
    }


def _fields(runs: Sequence[ComparedRun]) -> list[FieldSummary]:
    measured = {run.name: run.measured for run in runs if run.measured is not None}
    if len(measured) < len(runs):
        return []
    first, *others = (one.by_field for one in measured.values())
    if any((one.figures, one.fine) != (first.figures, first.fine) for one in others):
        return []
    rows = {name: one.by_field.rows[SERVED] for name, one in measured.items()}
    trend = first.rows[MONTH]
    return summaries_of(next(iter(measured.values())), {**rows, MONTH: trend}, dict.fromkeys(rows, trend))


def _groups(runs: Sequence[ComparedRun], rules: Rules) -> list[MetricSummary]:
    first, *others = runs
    measured = [run.measured for run in runs if run.measured is not None]
    if len(measured) == len(runs):
        figures = {run.name: one.figures[SERVED] for run, one in zip(runs, measured, strict=True)}
        merged = replace(measured[0], figures=figures)
        return summaries(merged, rules, [(other.name, first.name) for other in others])
    found: list[MetricSummary] = []
    for group in first.results.groups:
        same = {
            run.name: one
            for run in runs
            for one in run.results.groups
            if (one.kind, one.name, one.targets) == (group.kind, group.name, group.targets)
        }
        if len(same) == len(runs):
            found.append(
                MetricSummary(
                    group.kind,
                    group.name,
                    group.targets,
                    group.users,
                    figures={name: one.figures[SERVED] for name, one in same.items()},
                    ceiling=group.ceiling,
                    intervals={name: one.intervals[SERVED] for name, one in same.items()},
                    differences=[Difference(other.name, first.name) for other in others],
                )
            )
    return found
