"""Finished runs over the same events, side by side: `tastestream replay compare`. Pure but for the reading."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from offline_training.replay import targets
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.prequential import SERVED, Measured, Rules
from offline_training.replay.report.results import RESULTS, Results, read
from offline_training.replay.summaries import Difference, MetricSummary, summaries


@dataclass
class Side:
    """One of the runs."""

    name: str
    folder: Path
    results: Results
    measured: Measured | None
    """Its targets, where the folder has them."""


@dataclass
class Compared:
    """What there is to tell of the runs."""

    dataset: str
    rules: Rules
    runs: dict[str, dict[str, Any]]
    """By name: bundle, played, latency, ages, check, tag."""
    groups: list[MetricSummary]
    """The runs are the methods; differences are to the first."""
    coverage: dict[str, dict[str, float]]
    paired: bool
    """Whether differences have intervals, which takes the targets of all runs."""
    notes: list[str] = field(default_factory=list[str])


def read_sides(paths: Sequence[Path]) -> list[Side]:
    """The runs in folders, or of `results.json` in them. Raises ReplayError, also when they are not comparable."""
    folders = [path.parent if path.name == RESULTS else path for path in paths]
    found: list[Side] = []
    for folder, name in zip(folders, names_of(folders), strict=True):
        results = read(folder / RESULTS)
        measured = None
        if (folder / targets.TARGETS).is_file():
            measured, figures = targets.read(folder / targets.TARGETS)
            if figures != results.rules.figures or SERVED not in measured.figures:
                raise ReplayError(
                    f"{folder / targets.TARGETS}: it is not of {RESULTS} beside it: run that replay again"
                )
        found.append(Side(name, folder, results, measured))
    first, *others = found
    for other in others:
        _check(first, other)
    return found


def names_of(folders: Sequence[Path]) -> list[str]:
    """What the runs are called: by their folders, with as much of the path as it takes. Raises ReplayError for one given twice."""
    paths = [folder.resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        twice = next(folder for folder, path in zip(folders, paths, strict=True) if paths.count(path) > 1)
        raise ReplayError(f"{twice}: the same run is given twice: name another one")
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _check(first: Side, other: Side) -> None:
    """Raises ReplayError with what differs, where the runs do not answer the same question."""
    one, two = first.results, other.results
    asked = {
        "stream": (one.stream, two.stream),
        **{name: (one.selection.get(name), two.selection.get(name)) for name in one.selection},
        "targets": (sorted(one.rules.targets), sorted(two.rules.targets)),
        "delay": (one.rules.delay, two.rules.delay),
        "k": (list(one.rules.ks), list(two.rules.ks)),
    }
    different = [f"{name} {a!r} and {b!r}" for name, (a, b) in asked.items() if a != b]
    if different:
        raise ReplayError(f"{first.folder} and {other.folder} are not comparable: {'; '.join(different)}")
    if _questions(first) != _questions(other):
        raise ReplayError(
            f"{first.folder} and {other.folder} are not comparable: {one.bundle} and {two.bundle} know other categories of the items"
        )
    if first.measured is not None and other.measured is not None:
        same = np.array_equal(first.measured.places, other.measured.places)
        if not same or not np.array_equal(first.measured.labels, other.measured.labels):
            raise ReplayError(
                f"{first.folder} and {other.folder} are not comparable: their targets are not the same, as {one.bundle} and "
                f"{two.bundle} know other categories of the items"
            )


def _questions(side: Side) -> tuple[int, int, dict[str, float]]:
    groups = side.results.groups
    targets_, ceiling = (groups[0].targets, groups[0].ceiling) if groups else (0, {})
    return targets_, side.results.without_known_category, ceiling


def compared(sides: Sequence[Side]) -> Compared:
    """The figures of the runs by the same targets, and what the others have over the first."""
    first, *others = sides
    rules = first.results.rules
    return Compared(
        dataset=first.results.dataset,
        rules=rules,
        runs={side.name: _told(side) for side in sides},
        groups=_groups(sides, rules),
        coverage={side.name: side.results.coverage[SERVED] for side in sides},
        paired=all(side.measured is not None for side in sides),
        notes=[
            f"{side.name} and {first.name} have other events without a recommendation: a picture could be had in one of them only"
            for side in others
            if side.results.played["without_recommendation"] != first.results.played["without_recommendation"]
        ],
    )


def _told(side: Side) -> dict[str, Any]:
    results = side.results
    return {
        "bundle": results.bundle,
        "folder": str(side.folder),
        **{name: results.played[name] for name in ("answered", "events", "users", "without_recommendation")},
        "tag": results.options["tag"],
        "latency": results.latency,
        "ages": results.ages,
        "check": results.check,
    }


def _groups(sides: Sequence[Side], rules: Rules) -> list[MetricSummary]:
    first, *others = sides
    measured = [side.measured for side in sides if side.measured is not None]
    if len(measured) == len(sides):
        figures = {side.name: one.figures[SERVED] for side, one in zip(sides, measured, strict=True)}
        merged = replace(measured[0], figures=figures)
        return summaries(merged, rules, [(other.name, first.name) for other in others])
    found: list[MetricSummary] = []
    for group in first.results.groups:
        same = {
            side.name: one
            for side in sides
            for one in side.results.groups
            if (one.kind, one.name, one.targets) == (group.kind, group.name, group.targets)
        }
        if len(same) == len(sides):
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
