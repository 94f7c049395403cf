"""The size of RocksDB databases, and how often RocksDB made a write wait. Read at each scrape; a database takes microseconds."""

import re
from collections.abc import Callable, Iterable
from typing import Protocol

from streams.metrics import rocksdb_bytes, rocksdb_stalls
from streams.metrics.live import Rows

_TOTAL = re.compile(r"total-(delay|stop)s: (\d+)")


class Database(Protocol):
    """The properties of `rocksdict.Rdict`."""

    def property_value(self, name: str) -> str | None: ...

    def property_int_value(self, name: str) -> int | None: ...


def watch_databases(name: str, databases: Callable[[], Iterable[Database]]) -> None:
    """Show databases under a name from now on. `databases` is asked at each scrape, and returns those that are open."""

    def sizes() -> Rows:
        for where, of in (("disk", "rocksdb.total-sst-files-size"), ("memory", "rocksdb.cur-size-all-mem-tables")):
            yield (name, where), sum(one.property_int_value(of) or 0 for one in databases())

    def stalls() -> Rows:
        totals = {"delay": 0, "stop": 0}
        for one in databases():
            for kind, count in _TOTAL.findall(one.property_value("rocksdb.cf-write-stall-stats") or ""):
                totals[kind] += int(count)
        return [((name, kind), count) for kind, count in totals.items()]

    rocksdb_bytes.watch(name, sizes)
    rocksdb_stalls.watch(name, stalls)


def forget_databases(name: str) -> None:
    """Show the databases under a name no more."""
    rocksdb_bytes.forget(name)
    rocksdb_stalls.forget(name)
