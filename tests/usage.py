"""Memory and processor time of a process, from /proc (Linux)."""

import os
from contextlib import suppress
from pathlib import Path

MB = 1024**2


def resident_mb(pid: int | str = "self") -> float:
    """Current resident memory, MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


def peak_resident_mb(pid: int | str = "self") -> float:
    """Peak of the resident memory since the start or the last `reset_peak`, MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def reset_peak(pid: int | str = "self") -> None:
    """Start a new peak of the resident memory."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def processor_seconds(pid: int | str = "self") -> float:
    """User and system time of all threads so far, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The processes that a process has started, and that have not ended."""
    started: list[str] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            started += Path(task, "children").read_text().split()
    return sorted(map(int, started))
