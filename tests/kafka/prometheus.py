"""A real Prometheus for a test: it scrapes workers, evaluates the alerts of `deploy/`, and answers queries.

Debian's package `prometheus` has the program.
"""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

from tests.deploy.queries import ALERTS
from tests.kafka.broker import free_port
from tests.kafka.system import stop, wait_until

PROGRAM = shutil.which("prometheus")
WHY_NOT = "prometheus is not installed (Debian: apt-get install prometheus)"
JOB = "tastestream"
SCRAPE = 1.0  # seconds between two scrapes
START = 60.0  # seconds until it answers
UNITS = {"s": 1, "m": 60, "h": 3600}
LONGEST = 20.0  # seconds that an alert waits until it fires, at most

# Not behind `changes(...`: workers do not start faster.
_DURATION = re.compile(r"(?P<before>(?<!seconds\{job=\"tastestream\"\})\[|offset )(?P<number>\d+)(?P<unit>[smh])")
_AGE = re.compile(r"(?P<before>tastestream_\w+_(?:age|lag)_seconds > )(?P<number>\d+)")


def sped_up(rules: str, factor: float) -> str:
    """Alerts for a time that runs `factor` times as fast: what they wait for, look back at, and call too old.

    Args:
        rules: a rule file.
        factor: 60 makes a second of a minute.
    """
    document: dict[str, Any] = yaml.safe_load(rules)
    for group in document["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                number, unit = int(rule["for"][:-1]), rule["for"][-1]
                rule["for"] = _milliseconds(min(number * UNITS[unit] / factor, LONGEST))
            rule["expr"] = _AGE.sub(lambda found: f"{found['before']}{int(found['number']) / factor:g}", rule["expr"])
            rule["expr"] = _DURATION.sub(
                lambda found: (
                    found["before"]
                    + _milliseconds(max(int(found["number"]) * UNITS[found["unit"]] / factor, 4 * SCRAPE))
                ),
                rule["expr"],
            )
    return yaml.safe_dump(document)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"


def filled_in(query: str) -> str:
    """A query of a panel, with what Grafana fills in."""
    return query.replace("$job", JOB).replace("$__rate_interval", _milliseconds(10 * SCRAPE))


class Series(NamedTuple):
    """One series of an answer: its labels, and its points as (seconds since the epoch, value)."""

    labels: Mapping[str, str]
    points: list[tuple[float, float]]


class Prometheus:
    """Scrapes ports of this machine from the start of a `with` block to its end."""

    def __init__(self, folder: Path, targets: Mapping[str, int], *, factor: float = 1) -> None:
        """Args:
        folder: is created.
        targets: ports to scrape, by the name of the instance.
        factor: how many times as fast time runs for the alerts.
        """
        folder.mkdir(parents=True)
        self._folder = folder
        self._port = free_port()
        (folder / "alerts.yaml").write_text(sped_up(ALERTS.read_text("utf-8"), factor), "utf-8")
        scraped = [{"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}} for name, port in targets.items()]
        interval = _milliseconds(SCRAPE)
        configuration = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": "500ms"},
            "rule_files": ["alerts.yaml"],
            "scrape_configs": [{"job_name": JOB, "static_configs": scraped}],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration), "utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        assert PROGRAM, WHY_NOT
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    PROGRAM,
                    f"--config.file={self._folder / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(self._is_ready, START, lambda: (self._folder / "log").read_text("utf-8")[-3000:])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            stop(self._process)

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = self._ask("/api/v1/alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def instant(self, query: str) -> list[Series]:
        """What a query is now."""
        answer = self._ask("/api/v1/query", query=query)
        return [Series(one["metric"], [_point(one["value"])]) for one in answer["result"]]

    def over(self, query: str, start: float, end: float, step: float) -> list[Series]:
        """What a query was from `start` to `end`, seconds since the epoch, each `step` seconds."""
        answer = self._ask("/api/v1/query_range", query=query, start=str(start), end=str(end), step=str(step))
        return [Series(one["metric"], list(map(_point, one["values"]))) for one in answer["result"]]

    def wait_firing(self, names: Iterable[str], timeout: float) -> dict[str, float]:
        """Wait until these alerts have fired. Returns after how many seconds each one did."""
        begun = time.monotonic()
        wanted, seen = set(names), dict[str, float]()

        def all_fired() -> bool:
            for name in (self.firing() & wanted) - seen.keys():
                seen[name] = time.monotonic() - begun
            return seen.keys() == wanted

        wait_until(all_fired, timeout, lambda: f"not fired in {timedelta(seconds=timeout)}: {wanted - seen.keys()}")
        return seen

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=2):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def _ask(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self._port}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as response:
            return json.load(response)["data"]


def _point(pair: tuple[float, str]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
