"""The command ends at SIGTERM from its first moments on, also where a process without a handler would not get the signal."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kafka.broker import free_port
from tests.kafka.system import next_line, wait_until

PATIENCE = 60.0  # seconds


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Settings with a broker that does not exist."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TASTESTREAM_")}
    return plain | {
        "TASTESTREAM_BROKER": f"127.0.0.1:{free_port()}",
        "TASTESTREAM_DATA_DIR": str(tmp_path / "data"),
        "TASTESTREAM_EMBED_PORT": "0",
        "TASTESTREAM_PROFILE_PORT": "0",
        "TASTESTREAM_SERVE_PORT": "0",
    }


@contextmanager
def running(
    *arguments: str, environment: dict[str, str], folder: Path | None = None
) -> Generator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "streams", *arguments],
        env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def handles_sigterm(process: subprocess.Popen[str]) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(status.split("SigCgt:")[1].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def loaded(process: subprocess.Popen[str]) -> str:
    """The files that a process has mapped."""
    return Path(f"/proc/{process.pid}/maps").read_text()


@pytest.mark.parametrize("kind", ["embed", "profile", "serve", "all"])
def test_a_worker_handles_sigterm_before_it_imports_anything_heavy(environment: dict[str, str], kind: str) -> None:
    with running("worker", kind, environment=environment) as process:
        while not handles_sigterm(process):
            assert process.poll() is None
            time.sleep(0)
        heavy = [name for name in ("onnxruntime", "numpy", "pydantic_core", "rocksdict") if name in loaded(process)]
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE)
    assert heavy == []
    assert (process.returncode, output) == (0, "")


def test_a_command_that_waits_for_the_broker_ends_at_sigterm(environment: dict[str, str]) -> None:
    with running("topics", environment=environment | {"TASTESTREAM_BROKER_TIMEOUT": "300"}) as process:
        assert process.stdout is not None
        assert "no broker at" in next_line(process.stdout)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert all("no broker at" in line for line in output.splitlines()), "no traceback"


AMID_A_DEL = """
import signal, time
import streams.cli
from streams.__main__ import main

class Dying:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0)

def run():
    Dying()
    time.sleep(60)

streams.cli.main = run
main()
"""


def test_a_command_ends_if_the_signal_comes_amid_a_del_which_loses_exceptions() -> None:
    ended = subprocess.run([sys.executable, "-c", AMID_A_DEL], capture_output=True, text=True, timeout=PATIENCE)
    assert (ended.returncode, ended.stderr) == (143, "")


def test_modules_of_the_working_folder_are_not_imported_instead_of_ours(
    environment: dict[str, str], tmp_path: Path
) -> None:
    for name in ("model", "streams", "typer"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the working folder was imported')")
    with running("worker", "all", environment=environment, folder=tmp_path) as process:
        data = tmp_path / "data"
        wait_until(lambda: all((data / kind / "LOCK").exists() for kind in ("embed", "profile", "serve")), PATIENCE)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert "of the working folder" not in output
