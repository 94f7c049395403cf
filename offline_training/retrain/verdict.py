"""The rule by which the next bundle passes, and `comparison.json`. Pure, except for writing the file."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from model.bundle import Bundle
from model.metrics import Interval
from offline_training.datasets.records import DatasetError

COMPARISON = "comparison.json"


class BundleName(Struct, frozen=True):
    """Which bundle it is."""

    name: str
    version: str
    embedder_version: str


class Lead(Struct, frozen=True):
    """A difference between two methods over the same users, with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, ends: Interval) -> "Lead":
        return cls(round(value, 5), round(ends.low, 5), round(ends.high, 5))


class Figure(Struct, frozen=True):
    """A figure of both bundles and of the trend.

    Attributes:
        next: of the next bundle.
        current: of the current bundle.
        trend: of the most popular categories, which are the same for all users.
        over_current: next minus current.
        over_trend: next minus trend.
    """

    next: float
    current: float
    trend: float
    over_current: Lead
    over_trend: Lead


class Comparison(Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """The contents of `comparison.json`.

    Attributes:
        passed: whether the next bundle is not worse, by the rule.
        rule: the rule, in words.
        margin: how far below zero the interval of a difference may begin.
        next: the bundle that was trained.
        against: the current bundle.
        figures: by name.
        since: begin of the held-out time, RFC 3339.
        until: time of its last event.
        users: users with a target in that time.
        targets: number of targets.
    """

    passed: bool
    rule: str
    margin: float
    next: BundleName
    against: BundleName
    figures: dict[str, Figure]
    since: str
    until: str
    users: int
    targets: int


def name_of(bundle: Bundle) -> BundleName:
    return BundleName(bundle.name, bundle.version, bundle.embedder_version)


def passes(figures: Mapping[str, Figure], margin: float) -> bool:
    """Whether the next bundle is not worse: no difference from the current one may lie more than `margin` below zero."""
    return all(figure.over_current.low > -margin for figure in figures.values())


def rule_text(figures: Mapping[str, Figure], margin: float) -> str:
    return f"the 95 % interval over users of next minus current begins above {-margin:g} in {' and in '.join(figures)}"


def write(comparison: Comparison, folder: Path) -> None:
    """Write `comparison.json`. Raises DatasetError when it cannot be written."""
    path = folder / COMPARISON
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(comparison), indent=2) + b"\n")
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error.strerror}: make room, and run it again") from error
