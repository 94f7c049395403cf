"""The serve worker without a broker: it waits, answers /live, answers from what is on disk, and says why it ends."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from streams.profile.databases import BagDatabases, RocksDBMemory
from streams.serve.replica.store import HELD_KEY, SPREAD_KEY
from tests.kafka.broker import free_port
from tests.kafka.system import stop, wait_until

PARTITIONS = 2


def environment(folder: Path, port: int, **settings: object) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("TASTESTREAM_")}
    given = {
        "broker": f"127.0.0.1:{free_port(port)}",  # nobody
        "data_dir": folder,
        "serve_port": port,
        "broker_timeout": 60,
        **settings,
    }
    return own | {f"TASTESTREAM_{name.upper()}": str(value) for name, value in given.items()}


def run(folder: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a worker that ends by itself."""
    command = [sys.executable, "-m", "streams", "worker", "serve"]
    variables = environment(folder, free_port(), **settings)
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


@contextmanager
def worker(folder: Path, port: int) -> Generator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "streams", "worker", "serve", "--with-parent"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment(folder, port), stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder
        )
    try:
        yield process
    finally:
        stop(process)


def get(port: int, path: str) -> tuple[int, Mapping[str, object]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
    except OSError:
        return 0, {}


def bags_on_disk(folder: Path) -> None:
    """What an earlier run leaves, which had read everything."""
    databases = BagDatabases(folder / "serve" / "bags", RocksDBMemory(8 * 1024**2), lambda _: None)
    for partition in range(PARTITIONS):
        databases.open(partition)
        databases.write(partition, {SPREAD_KEY: b"%d" % PARTITIONS, HELD_KEY: b"1700000000.0"}, 41)
        databases.close(partition)


def test_without_bags_it_is_alive_and_not_ready(tmp_path: Path) -> None:
    port = free_port()
    with worker(tmp_path, port) as process:
        wait_until(lambda: get(port, "/live")[0] == 200, 30, (tmp_path / "log").read_text)
        status, body = get(port, "/ready")
        assert (status, body["ready"], body["partitions"]) == (503, False, [])
        assert "no broker" in str(body["reason"])
        assert stop(process) == 0


def test_with_bags_it_answers_at_once_and_says_that_they_are_stale(tmp_path: Path) -> None:
    bags_on_disk(tmp_path)
    port = free_port()
    with worker(tmp_path, port) as process:
        wait_until(lambda: get(port, "/ready")[0] == 200, 30, (tmp_path / "log").read_text)
        partitions = get(port, "/ready")[1]["partitions"]
        assert isinstance(partitions, list) and len(partitions) == PARTITIONS
        for one in partitions:
            assert (one["offset"], one["lag"], one["source"]) == (41, None, "stale")
            assert one["age"] > 1e6
        assert stop(process) == 0


@pytest.mark.parametrize(
    ("settings", "code", "told"),
    [
        ({"broker_timeout": 0.5}, 69, "no broker at 127.0.0.1"),
        (
            {"serve_partitions": "7"},
            78,
            "SERVE_PARTITIONS names partition 7, but the bags are in the partitions 0 to 1",
        ),
        ({"serve_host": "203.0.113.9"}, 78, "create one with `tastestream token create --scope read --name NAME`"),
        ({"serve_port": "tcp://10.0.0.1:6068"}, 78, "enableServiceLinks"),
    ],
)
def test_it_says_why_it_cannot_run(tmp_path: Path, settings: dict[str, object], code: int, told: str) -> None:
    if "broker_timeout" not in settings:
        bags_on_disk(tmp_path)
    ended = run(tmp_path, **settings)
    assert told in ended.stderr
    assert ended.returncode == code, ended.stderr


def test_a_second_worker_of_one_folder_is_refused(tmp_path: Path) -> None:
    port = free_port()
    with worker(tmp_path, port):
        wait_until(lambda: get(port, "/live")[0] == 200, 30)
        ended = run(tmp_path)
        assert ended.returncode == 78
        assert "each serve worker needs its own" in ended.stderr


def test_bags_of_partitions_that_are_not_served_leave_the_disk(tmp_path: Path) -> None:
    bags_on_disk(tmp_path)
    ended = run(tmp_path, serve_partitions="1", serve_host="203.0.113.9")
    assert ended.returncode == 78
    assert [path.name for path in (tmp_path / "serve" / "bags").iterdir()] == ["partition-1"]
