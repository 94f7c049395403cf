"""What a process of this machine uses, as the kernel counts it (Linux)."""

import os
from pathlib import Path

MB = 1024**2


def resident_mb(pid: int | str = "self") -> float:
    """Resident memory, now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


def peak_resident_mb(pid: int | str = "self") -> float:
    """Resident memory at its highest, since the start or `reset_peak`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def reset_peak(pid: int | str = "self") -> None:
    """The peak of the resident memory begins anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def processor_seconds(pid: int | str = "self") -> float:
    """User and system time so far, of all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
