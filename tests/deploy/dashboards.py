"""Writes the dashboards in `deploy/grafana/dashboards/`: `make reference`, or `python -m tests.deploy.dashboards`.

A panel is a line of the tables below: what it shows, in which unit, and a query for each line in it. `LEGEND: QUERY` in short.
Every metric is narrowed down to the chosen job, and `RATE` is the interval that Grafana chooses for rates.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.deploy.queries import DEPLOY, SELECTOR

FOLDER = DEPLOY / "grafana" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${source}"}
COLUMNS = 24  # of Grafana's grid
HEIGHTS = {"stat": 4, "timeseries": 8, "table": 8}
RATE = "[$__rate_interval]"
STAGES = f"histogram_quantile(0.99, sum by (le, worker, stage) (rate(tastestream_stage_seconds_bucket{RATE})))"
INSTANCE = "{{worker}} {{instance}}"


@dataclass(frozen=True)
class Panel:
    """A panel. `unit` is Grafana's name of it; `width` is in columns of 24; `help` is shown when asked for."""

    title: str
    unit: str
    queries: Mapping[str, str]  # legend: query
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    width: int = 12
    help: str = ""


def stat(title: str, unit: str, query: str, help: str = "") -> Panel:  # noqa: A002 -- the name is Panel's
    """One number."""
    return Panel(title, unit, {title: query}, "stat", 4, help)


def quantiles(metric: str, by: str = "") -> dict[str, str]:
    """Half and 99 % of a histogram; by: a label that gets lines of its own."""
    labels, legend = (f"le, {by}", f"{{{{{by}}}}} ") if by else ("le", "")
    return {
        f"{legend}{name}": f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{RATE})))"
        for name, q in (("p50", 0.5), ("p99", 0.99))
    }


def rates(metric: str, by: str) -> dict[str, str]:
    """How much of a counter comes each second, by a label."""
    return {f"{{{{{by}}}}}": f"sum by ({by}) (rate({metric}{RATE}))"}


def bundles(role: str) -> str:
    """How many different bundles have a role."""
    return f'count(count by (name, version, embedder) (tastestream_bundle_info{{role="{role}"}})) or vector(0)'


def of(kinds: str, query: str) -> str:
    """A query of workers of these kinds alone: the others expose a 0. kinds: a regular expression."""
    return f'{query} and on (instance) tastestream_ready{{worker=~"{kinds}"}}'


def half_and_most(metric: str, by: str, labels: str) -> dict[str, str]:
    """The same as `quantiles`, of the series with these labels."""
    return {
        legend: query.replace("_bucket[", f"_bucket{{{labels}}}[") for legend, query in quantiles(metric, by).items()
    }


NOW = (
    stat("Workers that are ready", "none", "sum(tastestream_ready)"),
    stat(
        "Events a second",
        "short",
        f'sum(rate(tastestream_events_total{{worker="profile"}}{RATE}))',
        "With a recommendation.",
    ),
    stat("Events that wait", "short", "sum(tastestream_lag >= 0)", "Of partitions whose lag is known."),
    stat(
        "Lag unknown",
        "none",
        "count(tastestream_lag == -1) or vector(0)",
        "Workers that are not ready, or whose broker is away.",
    ),
    stat("Dead letters a minute", "short", f"60 * sum(rate(tastestream_dead_letters_total{RATE})) or vector(0)"),
    stat(
        "Starts in an hour",
        "none",
        "sum(changes(process_start_time_seconds[1h]))",
        "Of processes that Prometheus saw before.",
    ),
    Panel(
        "Seconds from an event to its recommendation",
        "s",
        quantiles("tastestream_recommendation_seconds"),
        help="By the time at which the event's record was sent.",
    ),
    Panel(
        "Age of the oldest event that waits",
        "s",
        {"{{topic}} {{partition}}": "max by (topic, partition) (tastestream_group_lag_seconds)"},
    ),
    Panel("Events a second", "short", rates("tastestream_events_total", "worker")),
    Panel("Events that wait, by worker", "short", {INSTANCE: "tastestream_lag >= 0"}),
    Panel(
        "Events that wait, by partition",
        "short",
        {"{{topic}} {{partition}}": "max by (topic, partition) (tastestream_group_lag)"},
    ),
    Panel("Seconds of each stage (99 %)", "s", {"{{worker}} {{stage}}": STAGES}),
    Panel("Seconds of a micro-batch", "s", quantiles("tastestream_batch_seconds", "worker")),
    Panel("Dead letters a second, by reason", "short", rates("tastestream_dead_letters_total", "reason")),
    Panel(
        "Events in flight, and behind an open transaction",
        "short",
        {f"{INSTANCE} in flight": "tastestream_in_flight", f"{INSTANCE} held back": "tastestream_held_back > 0"},
    ),
    Panel("HTTP requests a second, by status", "short", rates("tastestream_serve_requests_total", "status")),
    Panel("Seconds of an HTTP answer", "s", quantiles("tastestream_serve_seconds", "route")),
    Panel(
        "HTTP streams, and what was turned away",
        "short",
        {
            "open streams": "sum(tastestream_serve_streams)",
            "dropped a second": f"sum(rate(tastestream_serve_streams_dropped_total{RATE}))",
            "refused connections a second": f"sum(rate(tastestream_serve_connections_refused_total{RATE}))",
        },
    ),
    Panel(
        "Processor",
        "percentunit",
        {"{{instance}}": f"rate(process_cpu_seconds_total{RATE})"},
        help="100 % is one core.",
    ),
    Panel("Memory", "bytes", {"{{instance}}": "process_resident_memory_bytes"}),
    Panel("Seconds that the event loop is late", "s", quantiles("tastestream_event_loop_lag_seconds", "worker")),
    Panel("Seconds since the last commit", "s", {INSTANCE: "tastestream_commit_age_seconds"}),
)

BAGS = (
    stat("Records to recover", "short", "sum(tastestream_recovery_left_records)", "At most."),
    stat("Oldest copy", "s", "max(tastestream_replica_age_seconds)"),
    stat(
        "Rows passed over", "none", "sum(increase(tastestream_quarantined_rows_total[1d]))", "In a day. It should be 0."
    ),
    stat("Starts in a day", "none", "sum(changes(process_start_time_seconds[1d]))"),
    stat("Least free disk", "bytes", "min(tastestream_disk_free_bytes)"),
    stat("Bags in memory", "short", "sum(tastestream_replica_cached_bags)", "Of serve workers."),
    Panel("Records to recover", "short", {"{{instance}}": of("profile", "tastestream_recovery_left_records")}),
    Panel(
        "Records recovered a second",
        "short",
        {"{{instance}}": of("profile", f"rate(tastestream_recovery_records_total{RATE})")},
    ),
    Panel("Seconds of the last recovery", "s", {"{{instance}}": "tastestream_recovery_seconds > 0"}),
    Panel("Records that a standby copy lacks", "short", {"{{instance}} {{partition}}": "tastestream_standby_lag"}),
    Panel("Size of RocksDB", "bytes", {"{{instance}} {{database}} {{where}}": "tastestream_rocksdb_bytes"}),
    Panel(
        "Writes that RocksDB made wait, a second",
        "short",
        {"{{instance}} {{database}} {{kind}}": f"rate(tastestream_rocksdb_write_stalls_total{RATE})"},
    ),
    Panel("Records that a serve worker lacks", "short", {"{{instance}} {{partition}}": "tastestream_replica_lag >= 0"}),
    Panel("Free disk", "bytes", {"{{instance}}": "tastestream_disk_free_bytes"}),
    Panel("Age of a copy", "s", {"{{instance}} {{partition}}": "tastestream_replica_age_seconds >= 0"}),
    Panel(
        "Events a second, profile workers",
        "short",
        {"{{instance}}": f'rate(tastestream_events_total{{worker="profile"}}{RATE})'},
    ),
    Panel("Events that wait, profile workers", "short", {"{{instance}}": 'tastestream_lag{worker="profile"} >= 0'}),
    Panel("Seconds of a micro-batch", "s", quantiles("tastestream_batch_seconds", "worker")),
    Panel("Seconds since the start", "s", {"{{instance}}": "time() - process_start_time_seconds"}),
    Panel("Bags read by serve workers a second", "short", rates("tastestream_replica_reads_total", "where")),
    Panel("Rows passed over a second", "short", {"{{instance}}": f"rate(tastestream_quarantined_rows_total{RATE})"}),
    Panel("Seconds to count a partition for the trend", "s", quantiles("tastestream_trend_scan_seconds")),
    Panel("Open files", "short", {"{{instance}}": "process_open_fds"}),
)

PICTURES = (
    stat("Pictures a second", "short", f"sum(rate(tastestream_pictures_total{RATE}))"),
    stat(
        "Found without a request",
        "percentunit",
        f'sum(rate(tastestream_pictures_total{{where=~"memory|disk"}}{RATE})) '
        f"/ (sum(rate(tastestream_pictures_total{RATE})) > 0)",
    ),
    stat(
        "Requests that fail",
        "percentunit",
        f'sum(rate(tastestream_pictures_total{{where="failure"}}{RATE})) '
        f'/ (sum(rate(tastestream_pictures_total{{where=~"fetch|failure"}}{RATE})) > 0) or vector(0)',
    ),
    stat("Events in flight", "short", 'sum(tastestream_in_flight{worker="embed"})'),
    stat("Decoders replaced in an hour", "none", "sum(increase(tastestream_decoder_restarts_total[1h])) or vector(0)"),
    stat("Items that wait", "short", "sum(tastestream_items_lag >= 0)"),
    Panel("Pictures a second, by where they were found", "short", rates("tastestream_pictures_total", "where")),
    Panel("Events in flight", "short", {"{{instance}}": 'tastestream_in_flight{worker="embed"}'}),
    Panel("Decoders replaced a second, by cause", "short", rates("tastestream_decoder_restarts_total", "cause")),
    Panel(
        "Dead letters of pictures a second",
        "short",
        {
            "{{reason}}": 'sum by (reason) (rate(tastestream_dead_letters_total{worker="embed", '
            f'reason!~"missing_field|invalid_.*|timestamp_.*"}}{RATE}))'
        },
    ),
    Panel(
        "Seconds of a request and of decoding",
        "s",
        half_and_most("tastestream_stage_seconds", "stage", 'worker="embed", stage=~"fetch|decode|model"'),
    ),
    Panel("Hosts, by circuit breaker", "short", {"{{instance}} {{state}}": "tastestream_picture_hosts"}),
    Panel(
        "Requests that fail, by host",
        "percentunit",
        {"{{host}} {{state}}": "max by (host, state) (tastestream_picture_host_failures)"},
    ),
    Panel("Size of the cache", "bytes", {"{{instance}} {{where}}": "tastestream_cache_bytes"}),
    Panel("Age of the oldest file of the cache", "s", {"{{instance}} {{where}}": "tastestream_cache_age_seconds"}),
    Panel("Features of other workers a second", "short", rates("tastestream_features_followed_total", "what")),
    Panel(
        "Records of topics that wait",
        "short",
        {
            "{{instance}} features": of("embed|serve", "tastestream_features_lag"),
            "{{instance}} items": of("embed", "tastestream_items_lag"),
            "{{instance}} catalogue": of("serve", "tastestream_catalogue_lag"),
        },
        help="-1: the topic is not followed.",
    ),
    Panel("Items of the catalogue a second", "short", rates("tastestream_items_total", "what")),
    Panel("Items in the catalogue", "short", {"{{instance}}": "tastestream_catalogue_items > 0"}),
)

MODELS = (
    stat(
        "Bundles in use",
        "none",
        bundles("served"),
        "1 outside of a rollout.",
    ),
    stat(
        "Next bundles",
        "none",
        bundles("next"),
    ),
    stat("Bundles refused", "none", "sum(increase(tastestream_bundle_refusals_total[1d])) or vector(0)", "In a day."),
    stat(
        "Batches without the next bundle",
        "none",
        "sum(increase(tastestream_next_bundle_failures_total[1d]))",
        "In a day.",
    ),
    stat("Age of the trend", "s", "time() - max(tastestream_trend_written_seconds > 0)"),
    stat("Snapshots refused", "none", "sum(increase(tastestream_trend_refused_total[1d]))", "In a day."),
    Panel(
        "Bundles in use",
        "none",
        {"": "sum by (instance, worker, role, name, version, embedder) (tastestream_bundle_info)"},
        "table",
        24,
    ),
    Panel(
        "Seconds since the bundle was loaded",
        "s",
        {f"{INSTANCE} {{{{role}}}}": "time() - tastestream_bundle_since_seconds"},
    ),
    Panel(
        "Bundles loaded and refused",
        "short",
        {
            f"{INSTANCE} loaded": f"increase(tastestream_bundle_swaps_total{RATE})",
            f"{INSTANCE} refused": f"increase(tastestream_bundle_refusals_total{RATE})",
        },
    ),
    Panel("Age of the trend", "s", {"{{instance}}": "time() - (tastestream_trend_written_seconds > 0)"}),
    Panel(
        "Snapshots of the trend that wait, and partitions being counted",
        "short",
        {
            "{{instance}} wait": of("profile|serve", "tastestream_trend_lag"),
            "{{instance}} counted": of("profile", "tastestream_trend_uncounted"),
        },
        help="-1: the topic is not followed.",
    ),
    Panel(
        "Cold starts and items that are passed over, a second",
        "short",
        {
            "cold starts": f"sum(rate(tastestream_cold_starts_total{RATE}))",
            "items": f"sum(rate(tastestream_unscored_items_total{RATE}))",
        },
        help="Both rise if bags hold embeddings of another embedder.",
    ),
    Panel(
        "Snapshots written a second",
        "short",
        {"{{instance}}": of("profile", f"rate(tastestream_trend_published_total{RATE})")},
    ),
)

DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "now": ("Now", NOW),
    "bags": ("Bags and recovery", BAGS),
    "pictures": ("Pictures", PICTURES),
    "models": ("Models", MODELS),
}


def narrowed(query: str) -> str:
    """The query, with each of its metrics narrowed down to the chosen job."""

    def chosen(found: re.Match[str]) -> str:
        matchers = ", ".join(filter(None, ('job=~"$job"', found[2])))
        return f"{found[1]}{{{matchers}}}"

    return SELECTOR.sub(chosen, query)


def files() -> dict[str, str]:
    """All dashboards: file name to JSON."""
    return {f"{name}.json": json.dumps(_dashboard(name, *one), indent=1) + "\n" for name, one in DASHBOARDS.items()}


def _dashboard(name: str, title: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    return {
        "uid": f"tastestream-{name}",
        "title": f"tastestream: {title}",
        "tags": ["tastestream"],
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [
            {
                "type": "dashboards",
                "tags": ["tastestream"],
                "title": "tastestream",
                "keepTime": True,
                "includeVars": True,
            }
        ],
        "annotations": {"list": [_alerts()]},
        "templating": {"list": _variables()},
        "panels": _placed(panels),
    }


def _alerts() -> dict[str, Any]:
    """Marks where alerts fire."""
    expr = 'ALERTS{alertstate="firing", alertname=~"Tastestream.+"}'
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": expr,
        "titleFormat": "{{alertname}}",
    }


def _variables() -> list[dict[str, Any]]:
    jobs = {"query": "label_values(tastestream_quarantined_rows_total, job)", "refId": "jobs"}
    return [
        {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {
            "name": "job",
            "type": "query",
            "datasource": SOURCE,
            "query": jobs,
            "refresh": 2,
            "multi": True,
            "includeAll": True,
        },
    ]


def _placed(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """The panels from left to right, in rows of 24 columns."""
    placed: list[dict[str, Any]] = []
    x = y = height = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > COLUMNS:
            x, y, height = 0, y + height, 0
        place = {"x": x, "y": y, "w": panel.width, "h": HEIGHTS[panel.kind]}
        placed.append({"id": number, **_panel(panel), "gridPos": place})
        x, height = x + panel.width, max(height, place["h"])
    return placed


def _panel(panel: Panel) -> dict[str, Any]:
    once = {"format": "table", "instant": True} if panel.kind == "table" else {}
    targets = [
        {"refId": chr(ord("A") + number), "expr": narrowed(query), "legendFormat": legend} | once
        for number, (legend, query) in enumerate(panel.queries.items())
    ]
    shown: dict[str, Any] = {"type": panel.kind, "title": panel.title, "datasource": SOURCE, "targets": targets}
    if panel.help:
        shown["description"] = panel.help
    return shown | {"fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []}}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file, text in files().items():
        (FOLDER / file).write_text(text, "utf-8")
        sys.stdout.write(f"wrote {FOLDER / file}\n")
