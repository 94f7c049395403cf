"""The units for systemd are valid, closed, and treat exit codes and signals as the workers mean them."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streams.runtime import process
from streams.runtime.supervisor import KINDS
from streams.settings import PREFIX, Settings
from tests.deploy.queries import DEPLOY

UNITS = DEPLOY / "systemd"
WORKER = UNITS / "tastestream@.service"
PROGRAM = "/opt/tastestream/bin/tastestream"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: apt-get install systemd)"
)


def option(section: str, name: str) -> list[str]:
    """The values of an option, which may be there several times."""
    inside, values = "", []
    for line in WORKER.read_text("utf-8").splitlines():
        if line.startswith("["):
            inside = line.strip("[]")
        elif inside == section and line.startswith(f"{name}="):
            values.append(line.partition("=")[2])
    return values


@needs_systemd
@pytest.mark.parametrize("kind", KINDS)
def test_systemd_finds_nothing_wrong(kind: str, tmp_path: Path) -> None:
    units = [tmp_path / f"tastestream@{kind}.service", tmp_path / "tastestream.target"]
    program = Path(sys.executable).with_name("tastestream")
    units[0].write_text(WORKER.read_text("utf-8").replace(PROGRAM, str(program)))
    shutil.copy(UNITS / "tastestream.target", units[1])
    checked = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr
    assert "tastestream" not in checked.stderr


@needs_systemd
def test_a_worker_can_do_little_to_its_machine(tmp_path: Path) -> None:
    """systemd's exposure level: 10 is unprotected, 9.6 a service without any such option."""
    unit = tmp_path / "tastestream-embed.service"
    unit.write_text(WORKER.read_text("utf-8"))
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)]
    rated = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert rated.returncode == 0, rated.stdout[-2000:] + rated.stderr


def test_a_worker_is_not_restarted_if_that_would_not_help() -> None:
    assert option("Service", "Restart") == ["on-failure"]
    [codes] = option("Service", "RestartPreventExitStatus")
    assert codes.split() == ["2", str(process.MISCONFIGURED)]


def test_a_worker_has_enough_time_to_stop() -> None:
    [seconds] = option("Service", "TimeoutStopSec")
    assert int(seconds) >= process.STOP_TIMEOUT + 4


def test_each_worker_has_a_data_folder_of_its_own() -> None:
    assert "TASTESTREAM_DATA_DIR=%S/tastestream/%i" in option("Service", "Environment")
    assert option("Service", "StateDirectory") == ["tastestream/%i"]


def test_the_example_names_settings_that_exist() -> None:
    parser = configparser.ConfigParser()
    text = (UNITS / "settings.env").read_text("utf-8").replace(f"# {PREFIX}", PREFIX)
    parser.read_string("[settings]\n" + text)
    unknown = [name for name in parser["settings"] if name.removeprefix(PREFIX.lower()) not in Settings.model_fields]
    assert not unknown
