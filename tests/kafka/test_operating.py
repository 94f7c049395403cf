"""What an operator sees of the workers of one machine: metrics on one page, a restart, logs, names at the broker, and traces.

One story is played once. Each test then holds one sentence against what was recorded.
"""

import asyncio
import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from prometheus_client.parser import text_string_to_metric_families

from streams.demo.catalogue import CATALOGUE
from tests.kafka.broker import free_port
from tests.kafka.system import PATIENCE, READS, System, picture_server, stop, wait_until
from tests.streams.test_tracing import PARENT, SAMPLED, TRACE, collecting

USER = "ada-7f3c"  # found in no log line
EVENTS, MISSING = 6, 8  # events with a picture, and events whose picture is not there
HOST = "web1"
RESTART = 2 * PATIENCE  # seconds
WORKERS = ("embed", "profile", "serve")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Story:
    """What was seen, in order."""

    metrics: str = ""
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict[str, tuple[int, Any]])  # of /ready and /live
    clients: dict[str, list[str]] = field(default_factory=dict[str, list[str]])  # client ids of the members of a group
    without_profile: tuple[int, Any] = (0, None)  # /ready after a kill
    afterwards: str = ""  # the metrics after the restart
    pids: list[int] = field(default_factory=list[int])  # of the profile worker, before and after
    lines: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])  # of the log
    host: str = ""  # of the pictures
    spans: list[Any] = field(default_factory=list[Any])  # that a collector received
    recommended: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])  # headers by event id

    def value(self, name: str, **labels: str) -> float:
        return samples(self.metrics)[f"tastestream_{name}", frozenset(labels.items())]


def samples(page: str) -> Samples:
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(page)
        for one in family.samples
    }


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture(scope="module")
def story(system: System) -> Iterator[Story]:
    port = free_port()
    with picture_server(CATALOGUE) as base, collecting() as collector:
        system.configure(
            supervisor_port=port, log_format="json", worker_host=HOST, trace_endpoint=collector.url, trace_share=0
        )
        process = system.launch("all")
        try:
            for kind in WORKERS:
                system.wait_ready(kind, process)
            story = play(system, port, base, process)
            story.spans = collector.spans
            yield story
        finally:
            stop(process)


def play(system: System, port: int, base: str, process: Any) -> Story:
    story = Story(host=base.removeprefix("http://"))
    names = sorted(path.name for path in CATALOGUE.glob("*.jpg"))[:EVENTS]
    names += [f"missing-{number}.jpg" for number in range(MISSING)]
    events = [
        {
            "event_id": f"of-{name}",
            "user_id": USER,
            "item_id": name,
            "type": "purchase",
            "timestamp": 1_400_000_000_000 + number,
            "image_url": f"{base}/{name}",
        }
        for number, name in enumerate(names)
    ]
    asyncio.run(system.produce([*events, {**events[0], "type": "borrow"}]))
    asyncio.run(system.settled())

    story.metrics = get(port, "/metrics")[1]
    for path in ("/ready", "/live"):
        status, body = get(port, path)
        story.answers[path] = status, json.loads(body)
    story.clients = asyncio.run(clients_of(system))

    story.pids.append(system.worker_pid("profile"))
    os.kill(story.pids[0], signal.SIGKILL)
    wait_until(lambda: without_profile(story, port), RESTART, system.log)
    wait_until(lambda: get(port, "/ready")[0] == 200, RESTART, system.log)
    story.pids.append(system.worker_pid("profile"))
    story.afterwards = get(port, "/metrics")[1]

    traced = {**events[1], "event_id": "traced"}
    asyncio.run(produce_traced(system, json.dumps(traced).encode()))
    asyncio.run(system.settled())
    story.recommended = {
        one["event_id"]: record.headers
        for record in asyncio.run(system.read("user-recommendations"))
        if (one := json.loads(record.value or b"{}"))
    }
    assert stop(process) == 0
    story.lines = [json.loads(line) for line in system.log().splitlines()]
    return story


def without_profile(story: Story, port: int) -> bool:
    """Whether the workers are not ready. Keeps that answer: a moment later the profile worker may be back."""
    status, body = get(port, "/ready")
    if status == 503:
        story.without_profile = status, json.loads(body)
    return status == 503


async def produce_traced(system: System, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        await producer.send_and_wait("user-interactions", value, key=b"ada", headers=[("traceparent", SAMPLED)])


async def clients_of(system: System) -> dict[str, list[str]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=system.broker.bootstrap)
    await admin.start()
    try:
        found: dict[str, list[str]] = {}
        for kind, (group, _) in READS.items():
            answer: Any
            [answer] = await admin.describe_consumer_groups([group])
            [(_, _, _, _, _, members, *_)] = answer.groups
            found[kind] = [client for _, client, *_ in members]
        return found
    finally:
        await admin.close()


# -- metrics


def test_each_stage_of_the_events_is_timed(story: Story) -> None:
    assert story.value("recommendation_seconds_count", worker="profile") == EVENTS
    assert 0 < story.value("recommendation_seconds_sum", worker="profile") < EVENTS * 60
    timed = {
        (dict(labels)["worker"], dict(labels)["stage"])
        for (name, labels), value in samples(story.metrics).items()
        if name == "tastestream_stage_seconds_count" and value
    }
    assert timed == {("embed", stage) for stage in ("queue", "fetch", "decode", "model", "delivery")} | {
        ("profile", stage) for stage in ("queue", "fold", "score", "delivery")
    }


def test_the_workers_show_what_they_hold(story: Story) -> None:
    for worker in WORKERS:
        assert story.value("ready", worker=worker) == 1
        assert story.value("disk_free_bytes", worker=worker) > 0
        assert story.value("event_loop_lag_seconds_count", worker=worker) > 0
        assert story.value("worker_up", worker=worker) == story.value("worker_scraped", worker=worker) == 1
    for worker in ("embed", "profile"):
        assert 0 <= story.value("commit_age_seconds", worker=worker) < 30
    assert story.value("recovery_left_records", worker="profile") == 0
    assert story.value("cold_starts_total", worker="profile") == 0
    assert story.value("unscored_items_total", worker="profile") == 0
    assert story.value("cache_bytes", worker="embed", where="memory") > EVENTS * 100
    assert story.value("rocksdb_bytes", worker="embed", database="cache", where="memory") > 0
    assert story.value("rocksdb_bytes", worker="profile", database="bags", where="memory") > 0
    assert story.value("rocksdb_write_stalls_total", worker="profile", database="bags", kind="stop") == 0
    assert story.value("picture_hosts", worker="embed", state="closed") == 1
    assert story.value("dead_letters_total", worker="embed", reason="invalid_field") == 1


def test_each_metric_is_in_the_reference_and_no_label_names_a_user(story: Story) -> None:
    reference = (Path(__file__).parents[2] / "docs/reference/metrics.md").read_text()
    named = set(re.findall(r"^\| `(tastestream_\w+)` \|", reference, re.MULTILINE))
    shown = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(story.metrics)
        if family.name.startswith("tastestream_") and not family.name.endswith("_created")
    }
    assert shown == named
    assert USER not in story.metrics


def test_the_workers_are_ready_and_live_as_one(story: Story) -> None:
    for path, what in (("/ready", "ready"), ("/live", "live")):
        status, said = story.answers[path]
        assert (status, said[what]) == (200, True)
        assert {kind: one["answer"][what] for kind, one in said["workers"].items()} == dict.fromkeys(WORKERS, True)


def test_a_worker_that_was_killed_counts_as_a_restart_and_not_ready_meanwhile(story: Story) -> None:
    status, said = story.without_profile
    assert (status, said["ready"]) == (503, False)
    assert story.pids[0] != story.pids[1]
    after = samples(story.afterwards)
    for worker, restarts in (("profile", 1), ("embed", 0)):
        assert after["tastestream_worker_restarts_total", frozenset({("worker", worker)})] == restarts
    assert after["tastestream_recovery_seconds", frozenset({("worker", "profile")})] > 0


# -- logs


def test_each_line_names_its_worker(story: Story) -> None:
    assert {line["worker"] for line in story.lines} == {f"{kind}-{HOST}" for kind in ("supervisor", *WORKERS)}


def test_the_dead_letters_of_a_host_are_one_line_and_a_sum(story: Story) -> None:
    letters = [line for line in story.lines if story.host in line.get("message", "")]
    first, sum_ = letters
    assert (first["level"], first["topic"]) == ("WARNING", "user-interactions")
    assert first["event_id"].startswith("of-missing-")
    assert {"partition", "offset"} <= first.keys()
    assert (sum_["level"], sum_["count"], sum_["of"]) == ("WARNING", MISSING, story.host)
    assert sum_["message"].startswith(f"{MISSING} dead letters of {story.host} in ")


def test_no_line_names_a_user(story: Story) -> None:
    assert not [line for line in story.lines if USER in json.dumps(line)]


def test_the_clients_name_their_workers_at_the_broker(story: Story) -> None:
    assert story.clients == {kind: [f"tastestream-{kind}-{HOST}"] for kind in READS}


# -- traces


def test_a_trace_goes_from_the_producer_through_both_topics_to_the_recommendation(story: Story) -> None:
    embed, profile = sorted(story.spans, key=lambda span: span.name)
    assert (embed.name, profile.name) == ("embed", "profile")
    assert embed.trace_id.hex() == profile.trace_id.hex() == TRACE
    assert embed.parent_span_id.hex() == PARENT
    assert profile.parent_span_id == embed.span_id
    assert story.recommended["traced"]["traceparent"] == f"00-{TRACE}-{profile.span_id.hex()}-01"
    others = [headers for event_id, headers in story.recommended.items() if event_id != "traced"]
    assert len(others) == EVENTS
    assert not any("traceparent" in headers for headers in others), "an event without a header is not traced"
