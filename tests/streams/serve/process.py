"""A serve worker as a process, without a broker."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from streams.profile.databases import BagDatabases, RocksDBMemory
from streams.serve.replica.store import HELD_KEY, SPREAD_KEY
from tests.forked import Forked, run_forked
from tests.kafka.broker import free_port
from tests.kafka.system import COMMAND_TIMEOUT, stop

PARTITIONS = 2


def environment(folder: Path, port: int, **settings: object) -> dict[str, str]:
    """Variables of a worker, with settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("TASTESTREAM_")}
    given = {
        "broker": f"127.0.0.1:{free_port()}",  # nobody
        "data_dir": folder,
        "serve_port": port,
        "broker_timeout": 60,
        **settings,
    }
    return own | {f"TASTESTREAM_{name.upper()}": str(value) for name, value in given.items()}


def run(folder: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a worker that ends by itself."""
    return run_forked(("worker", "serve"), environment(folder, free_port(), **settings), timeout=COMMAND_TIMEOUT)


@contextmanager
def worker(
    folder: Path, port: int, *, through: tuple[str, ...] = (), **settings: object
) -> Generator[subprocess.Popen[bytes]]:
    """Run a worker while this is open, which logs to `log` in the folder. `through`: a command that runs its arguments."""
    command = [*through, sys.executable, "-m", "streams", "worker", "serve", "--with-parent"]
    with (folder / "log").open("wb") as log:
        process = Forked(
            command,
            env=environment(folder, port, **settings),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    try:
        yield process
    finally:
        stop(process)


def get(port: int, path: str) -> tuple[int, Mapping[str, object]]:
    """Status and JSON of an answer; the status is 0 if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as response:
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
