"""A worker of a scenario: a process that can be killed, stopped, frozen and restarted, with its data folder and its log."""

import os
import signal
import subprocess
from pathlib import Path
from time import monotonic

from tests.kafka.system import System
from tests.usage import resident_mb

STOP = 30.0  # seconds that a worker may take to end beside others; tests/kafka/test_under_load.py measures it alone
LOG_TAIL = 40  # lines of the log in a failure message
MISCONFIGURED = 78  # exit code of a worker that a restart would not repair


class Worker:
    """One worker: its process, its data folder and its log."""

    def __init__(self, kind: str, system: System, always: tuple[str, ...]) -> None:
        self.kind = kind
        self.system = system
        self.crashes: list[int] = []  # exit codes, one for each time it ended by itself
        self.hits = 0  # times that a fault point killed it
        self.kept = True  # whether `tend` restarts it when it ends by itself
        self.data = system.folder / "data"
        self._always = always  # fault points that are active in every process
        self._process: subprocess.Popen[bytes] | None = None
        self._points: tuple[str, ...] = ()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def bags(self) -> Path:
        """Folder of the databases."""
        return self.data / "profile" / "bags"

    @property
    def log(self) -> str:
        return self.system.log()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def wanted(self) -> bool:
        return self._process is not None

    @property
    def frozen(self) -> bool:
        """Whether a signal has stopped the process."""
        return self.running and Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    @property
    def ready(self) -> bool:
        return self.running and self.system.get(self.kind, "/ready")[0] == 200

    @property
    def memory(self) -> float:
        """Resident, in MB."""
        return resident_mb(self.pid)

    def start(self, *points: str) -> None:
        """Start the process. points: fault points of `armed.py`, which a restart after a crash does not get."""
        assert not self.wanted, f"the {self.kind} worker is already running"
        self._points = points
        self._launch(*points)

    def _launch(self, *points: str) -> None:
        named = (*self._always, *points)
        self._process = self.system.launch(self.kind, through=_through(named))

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command with the settings of this worker."""
        return self.system.begin(*arguments, through=_through(self._always))

    def tend(self) -> None:
        """Restart the process, without its fault points, if it ended by itself."""
        if not self.kept or self._process is None or (code := self._process.poll()) is None:
            return
        assert code != MISCONFIGURED, f"the {self.kind} worker refuses to run:\n{self.tail()}"
        self.ended()
        if self._points and code == -signal.SIGKILL:
            self.hits += 1
        else:
            self.crashes.append(code)
        self._points = ()
        self._launch()

    def kill(self) -> None:
        """Send SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self.ended()

    def ended(self, timeout: float = 30.0) -> int:
        """Wait until the process ends. Returns the exit code; `tend` does not restart it."""
        assert self._process is not None
        code = self._process.wait(timeout)
        if self._process.stdin:
            self._process.stdin.close()
        self._process = None
        return code

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM. Returns exit code and seconds. Sends SIGKILL after twice the allowed time."""
        begun = monotonic()
        self.terminate()
        return self._finish(begun)

    def terminate(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def _finish(self, begun: float) -> tuple[int, float]:
        if self._process is None:
            return 0, 0.0
        try:
            code = self.ended(2 * STOP)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL, monotonic() - begun
        return code, monotonic() - begun

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, *points: str) -> None:
        """Kill and start."""
        self.kill()
        self.start(*points)

    def tail(self) -> str:
        return f"-- end of the log of {self.system.folder.name}\n" + "\n".join(self.log.splitlines()[-LOG_TAIL:])


def _through(points: tuple[str, ...]) -> tuple[str, ...]:
    """The module to run, and its own arguments."""
    return ("tests.faults.armed", *points, "--") if points else ("streams",)
