"""`results.json`: every figure of a run, and what it takes to tell of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from offline_training.replay.exceptions import ReplayError
from offline_training.replay.latency import Span
from offline_training.replay.prequential import Rules
from offline_training.replay.samples import Sample
from offline_training.replay.summaries import MetricSummary

RESULTS = "results.json"
VERSION = 2
"""Of the file; another one is refused."""


@dataclass(kw_only=True)
class Results:
    """All that a run says."""

    version: int = VERSION
    stream: str
    """`DataSet.fingerprint`."""
    dataset: str
    bundle: str
    """Name and version of the one that is served."""
    beside: dict[str, str] = field(default_factory=dict[str, str])
    """Names and versions of the others, by method."""
    selection: dict[str, Any]
    """Of users and times: `Selection`'s fields."""
    options: dict[str, Any]
    played: dict[str, Any]
    """Events, users, from, to, answered, without recommendation and left out, each by its reason."""
    rules: Rules
    groups: list[MetricSummary]
    without_known_category: int
    whole_days: bool
    """Whether the times of all targets are days, so that what happened within one is not known."""
    coverage: dict[str, dict[str, float]]
    latency: dict[str, float]
    """Milliseconds from produce to recommendation."""
    latency_over_time: list[Span]
    ages: dict[str, float]
    """Days of event time, of the recommendations at their targets."""
    samples: list[Sample]
    check: dict[str, Any] | None = None
    """Whether online equals offline."""
    notes: list[str] = field(default_factory=list[str])


class _Header(msgspec.Struct):
    version: int | None = None


def write(results: Results, folder: Path) -> None:
    """Raises ReplayError when there is no place for it."""
    write_json(results, folder / RESULTS)


def write_json(told: Any, path: Path) -> None:
    """Anything with `rules`, indented. Raises ReplayError when there is no place for it."""
    plain = msgspec.to_builtins(told, str_keys=True)
    plain["rules"]["targets"] = sorted(plain["rules"]["targets"])  # a set has no order of its own
    write_text(msgspec.json.format(msgspec.json.encode(plain), indent=2).decode() + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Raises ReplayError when there is no place for it."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReplayError(f"{path} cannot be written: {error.strerror}: make room, and run it again") from error


def read(path: Path) -> Results:
    """What `write` wrote. Raises ReplayError for anything else."""
    again = "run the same `tastestream replay` again, which plays nothing"
    try:
        data = path.read_bytes()
        version = msgspec.json.decode(data, type=_Header).version
        if version != VERSION:
            raise ReplayError(f"{path}: expected results of version {VERSION}, found {version or 'none'}: {again}")
        return msgspec.json.decode(data, type=Results)
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}: name the --out of a finished replay") from error
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise ReplayError(f"{path}: expected what `tastestream replay` wrote, found {error}: {again}") from error
