"""A worker that cannot start says why in one line, with an exit code that a supervisor understands. No test here needs a broker."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model.bundle import DEFAULT_BUNDLE
from streams.demo.broker import free_port
from tests.forked import Forked, run_forked
from tests.kafka.system import COMMAND_TIMEOUT, stop, wait_until
from tests.model.bundle.networks import write_colours

UNAVAILABLE, MISCONFIGURED = 69, 78  # EX_UNAVAILABLE and EX_CONFIG of sysexits.h


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Settings with a broker that does not exist."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TASTESTREAM_")}
    return plain | {
        "TASTESTREAM_BROKER": f"127.0.0.1:{free_port()}",
        "TASTESTREAM_BROKER_TIMEOUT": "1",
        "TASTESTREAM_DATA_DIR": str(tmp_path / "data"),
        "TASTESTREAM_EMBED_PORT": "0",
        "TASTESTREAM_PROFILE_PORT": "0",
    }


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A copy of the bundle in which one bit of one network is flipped."""
    folder = tmp_path / "bundle"
    shutil.copytree(DEFAULT_BUNDLE, folder)
    data = bytearray((folder / "aggregator.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "aggregator.onnx").write_bytes(data)
    return folder


def run(which: str, environment: dict[str, str]) -> tuple[int, list[str]]:
    """Run a worker to its end. Returns its exit code, and the lines that it printed without time, level and logger."""
    done = run_forked(("worker", which), environment, timeout=COMMAND_TIMEOUT)
    return done.returncode, [line.split(": ", 1)[-1] for line in (done.stdout + done.stderr).splitlines()]


@contextmanager
def running(which: str, environment: dict[str, str]) -> Generator[subprocess.Popen[bytes]]:
    process = Forked([sys.executable, "-m", "streams", "worker", which], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        stop(process)


def test_two_workers_of_a_kind_cannot_share_a_data_folder(environment: dict[str, str], tmp_path: Path) -> None:
    lock = tmp_path / "data" / "profile" / "LOCK"
    with running("profile", environment | {"TASTESTREAM_BROKER_TIMEOUT": "600"}) as first:
        wait_until(lambda: lock.exists() and lock.read_text() == str(first.pid))
        code, lines = run("profile", environment)
    assert code == MISCONFIGURED
    [line] = lines
    assert f"data folder {lock.parent} is in use by process {first.pid};" in line
    assert "TASTESTREAM_DATA_DIR" in line


def test_the_data_folder_of_a_worker_that_ended_can_be_used(environment: dict[str, str]) -> None:
    assert run("embed", environment)[0] == UNAVAILABLE
    assert run("embed", environment)[0] == UNAVAILABLE


def test_a_data_folder_that_cannot_be_created_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, lines = run("embed", environment | {"TASTESTREAM_DATA_DIR": str(tmp_path / "file")})
    assert code == MISCONFIGURED
    [line] = lines
    assert f"data folder {tmp_path / 'file' / 'embed'}: Not a directory" in line
    assert "TASTESTREAM_DATA_DIR" in line


def test_a_worker_waits_for_an_unreachable_broker_logs_it_and_gives_up(environment: dict[str, str]) -> None:
    begun = time.monotonic()
    code, lines = run("profile", environment | {"TASTESTREAM_BROKER_TIMEOUT": "2"})
    broker = environment["TASTESTREAM_BROKER"]
    assert code == UNAVAILABLE
    assert time.monotonic() - begun > 2
    assert lines[0].startswith(f"no broker at {broker} yet; trying for another 2 s")
    assert lines[-1].startswith(f"no broker at {broker} within 2 s (TASTESTREAM_BROKER, TASTESTREAM_BROKER_TIMEOUT)")
    assert all(line.startswith("no broker at") for line in lines), "no traceback, and no line of a library"


def test_a_worker_that_waits_for_a_broker_can_be_stopped(environment: dict[str, str], tmp_path: Path) -> None:
    lock = tmp_path / "data" / "embed" / "LOCK"
    with running("embed", environment | {"TASTESTREAM_BROKER_TIMEOUT": "600"}) as process:
        wait_until(lambda: lock.exists() and lock.read_text() == str(process.pid))
        assert stop(process) == 0, "it waits for the broker for ten minutes, and ends long before"


@pytest.mark.parametrize("which", ["embed", "profile"])
def test_a_missing_bundle_is_named(which: str, environment: dict[str, str], tmp_path: Path) -> None:
    code, lines = run(which, environment | {"TASTESTREAM_BUNDLE": str(tmp_path / "nowhere")})
    assert code == MISCONFIGURED
    [line] = lines
    assert f"{tmp_path / 'nowhere'}: expected a bundle's folder, found nothing" in line


def test_a_damaged_bundle_is_named(environment: dict[str, str], damaged: Path) -> None:
    code, lines = run("profile", environment | {"TASTESTREAM_BUNDLE": str(damaged)})
    assert code == MISCONFIGURED
    [line] = lines
    assert f"{damaged / 'aggregator.onnx'}: expected SHA-256" in line


@pytest.mark.parametrize("which", ["embed", "profile"])
def test_a_next_bundle_that_cannot_be_used_is_named_and_so_is_its_setting(
    which: str, environment: dict[str, str], damaged: Path, tmp_path: Path
) -> None:
    for folder, said in (
        (damaged, f"NEXT_BUNDLE: {damaged / 'aggregator.onnx'}: expected SHA-256"),
        (tmp_path / "nowhere", f"NEXT_BUNDLE: {tmp_path / 'nowhere'}: expected a bundle's folder, found nothing"),
    ):
        code, lines = run(which, environment | {"TASTESTREAM_NEXT_BUNDLE": str(folder)})
        assert code == MISCONFIGURED
        [line] = lines
        assert said in line


def test_a_next_bundle_with_other_categories_is_allowed_and_said_in_one_line(
    environment: dict[str, str], tmp_path: Path
) -> None:
    following = write_colours(tmp_path / "colours")
    code, lines = run("profile", environment | {"TASTESTREAM_NEXT_BUNDLE": str(following.path)})
    assert code == UNAVAILABLE, "it looks for the broker"
    [line] = [line for line in lines if "categories" in line]
    assert "NEXT_BUNDLE has other categories than BUNDLE: 1 more (colour), " in line


@pytest.mark.parametrize("which", ["embed", "profile", "all"])
def test_a_wrong_setting_is_named(which: str, environment: dict[str, str]) -> None:
    for name, value in (("TASTESTREAM_TOP_K", "many"), ("TASTESTREAM_TOPK", "7")):
        code, lines = run(which, environment | {name: value})
        assert code == MISCONFIGURED
        [line] = lines
        assert name in line


def test_the_supervisor_ends_with_code_78_if_a_worker_does(environment: dict[str, str], damaged: Path) -> None:
    code, lines = run("all", environment | {"TASTESTREAM_BUNDLE": str(damaged)})
    assert code == MISCONFIGURED
    assert not any("restarting it in" in line for line in lines)
    assert sum("expected SHA-256" in line for line in lines) in (1, 2, 3), "one line of each worker that got that far"


def test_the_supervisor_ends_with_code_69_if_the_workers_find_no_broker(environment: dict[str, str]) -> None:
    code, lines = run("all", environment)
    assert code == UNAVAILABLE
    assert not any("restarting it in" in line for line in lines)
