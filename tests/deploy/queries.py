"""What the alerts and dashboards under `deploy/` ask Prometheus for, and what the workers expose."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
METRICS = ROOT / "docs" / "reference" / "metrics.md"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
# A selector: the name of a metric, and the matchers behind it.
SELECTOR = re.compile(r"\b(tastestream_\w+|process_\w+|up)\b(?:\{([^}]*)\})?")
# What Prometheus adds to every series, and `le` of a histogram.
ALWAYS = {"job", "instance", "le"}


def alerts() -> list[dict[str, Any]]:
    """The alerts, in the order of the file."""
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics that a query names, each with the labels that it is selected by."""
    for name, matchers in SELECTOR.findall(query):
        yield name, set(re.findall(r"(\w+)\s*(?:=|!)", matchers))


@cache
def documented() -> dict[str, set[str]]:
    """The series of our metrics, each with its labels: those of the reference, which is written from the code."""
    series: dict[str, set[str]] = {}
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", METRICS.read_text("utf-8"), re.MULTILINE)
    for name, kind, labels in rows:
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        series |= {name + part: set(re.findall(r"\w+", labels)) for part in parts}
    return series


def unknown(query: str) -> list[str]:
    """What a query names of ours, and no worker exposes: metrics, and labels in braces."""
    series = documented()
    named = [(name, labels) for name, labels in selectors(query) if name.startswith("tastestream_")]
    missing = [name for name, _ in named if name not in series]
    strange = [f"{name}{{{one}}}" for name, labels in named for one in labels - series.get(name, labels) - ALWAYS]
    return missing + strange
