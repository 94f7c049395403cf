"""The container engine of this machine, and the services of docker-compose.yml in a project of their own."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = "tastestream-image-test"  # its containers and volumes have other names than yours
IMAGE = "tastestream:local"
# The image's user, a read-only root and no capabilities, as in docker-compose.yml.
LOCKED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp")


def engine() -> str | None:
    """`docker` or `podman`, whichever answers; None if neither does."""
    for name in ("docker", "podman"):
        if shutil.which(name) and _ends_well(name, "info"):
            return name
    return None


def compose(engine: str) -> tuple[str, ...] | None:
    """The words that run Compose with an engine; None if it is not installed, or is docker-compose 1.x."""
    if engine == "docker" and _ends_well("docker", "compose", "version"):
        return ("docker", "compose")
    if engine == "podman" and shutil.which("podman-compose"):
        return ("podman-compose",)
    return None


def no_compose() -> str:
    """Why there is no Compose."""
    if shutil.which("docker-compose"):
        return (
            "docker-compose.yml needs Compose 2 (`docker compose`) or podman-compose; here is docker-compose 1.x only"
        )
    return "Compose is not installed: install Compose 2 (`docker compose`) or podman-compose"


def run(*words: str, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository. Its output ends up in the message if it fails."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert not check or done.returncode == 0, (
        f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    )
    return done


def _ends_well(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, timeout=60).returncode == 0


class Stack:
    """The services of docker-compose.yml, unchanged."""

    def __init__(self, engine: str, compose: Sequence[str]) -> None:
        self._engine = engine
        self._compose = (*compose, "--project-name", PROJECT)

    def compose(self, *words: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a Compose command on this project."""
        return run(*self._compose, *words, timeout=timeout, check=check)

    def python(self, service: str, code: str) -> str:
        """Run Python in the container of a service. Returns what it prints."""
        return self.compose("exec", "-T", service, "python", "-c", code).stdout

    def exit_code(self, service: str) -> int:
        """The code with which the container of a service has ended."""
        found = run(self._engine, "ps", "--all", "--format", "{{.Names}}").stdout.split()
        [name] = [name for name in found if name.startswith(PROJECT) and name.strip("_-1234567890").endswith(service)]
        [seen] = json.loads(run(self._engine, "inspect", name).stdout)
        return seen["State"]["ExitCode"]
