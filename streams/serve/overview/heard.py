"""What the workers say beside their commits (`streams.kafka.remarks`), as long as somebody stands behind it. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from streams.kafka.remarks import Remark
from streams.serve.overview.types import OpenCircuit

SILENT = 6  # remarks that may fail to come before a worker counts as gone
LISTED = 20  # hosts


class _Heard(NamedTuple):
    at: int  # when it was heard first, milliseconds since the epoch
    remark: Remark


class Heard:
    """The newest remark of each worker."""

    def __init__(self) -> None:
        """Nobody has said anything."""
        self._newest: dict[str, _Heard] = {}  # by worker

    def look(self, at: int, remarks: Iterable[Remark]) -> None:
        """Take the remarks of a look into account. `at`: milliseconds since the epoch."""
        found: dict[str, _Heard] = {}
        for remark in remarks:
            best, before = found.get(remark.worker), self._newest.get(remark.worker)
            if best is None or remark.number > best.remark.number:
                if before is None or before.remark.number != remark.number:
                    before = _Heard(at, remark)
                found[remark.worker] = before
        self._newest = found

    def live(self, now: int) -> list[Remark]:
        """The remarks behind which somebody stands. `now`: milliseconds since the epoch."""
        return [heard.remark for heard in self._newest.values() if now - heard.at <= SILENT * heard.remark.every * 1000]

    def circuits(self, now: int) -> list[OpenCircuit]:
        """The hosts that some worker does not ask for pictures, those first that cost most events."""
        by_host: dict[str, list[tuple[int, int, int]]] = {}
        for remark in self.live(now):
            for one in remark.circuits:
                by_host.setdefault(one.host, []).append((one.since, one.waiting, one.refused))
        found = [_joined(host, said) for host, said in by_host.items()]
        return sorted(found, key=lambda one: (-one.refused - one.waiting, one.host))[:LISTED]


def _joined(host: str, said: list[tuple[int, int, int]]) -> OpenCircuit:
    since, waiting, refused = zip(*said, strict=True)
    return OpenCircuit(
        host=host,
        since=datetime.fromtimestamp(min(since) / 1000, UTC),
        workers=len(said),
        waiting=sum(waiting),
        refused=sum(refused),
    )
