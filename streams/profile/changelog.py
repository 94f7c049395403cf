"""The changelog, read back. Pure: decides what to write; `table.py` reads the topic and writes the store.

Rows are joined, not overwritten: of two writers of one partition, where one did not know yet that it had lost it, neither
takes anything back from the other, whoever came last. Where the newest record of a key is less than the join, or a row
that an erasure covers still stands in the topic, the difference has to be written to the topic again (`Merge.repairs`),
for compaction keeps the newest record only.
"""

from collections.abc import Callable, Iterable, Iterator

from streams.profile.bag import join
from streams.profile.rows import Changes, decode_floor, decode_slot, encode_slot, header_of, is_header, prefix_of

Get = Callable[[bytes], bytes | None]
Scan = Callable[[bytes], Iterable[tuple[bytes, bytes]]]  # prefix to rows

USERS_AT_ONCE = 100  # whose rows are looked through in one go: some tens of milliseconds


class Merge:
    """One recovery of one partition, batch by batch, and its `finish` when the end of the topic is reached.

    The changes that each step returns have to be in the store before the next one.
    """

    def __init__(self, get: Get, scan: Scan, *, embedder: str) -> None:
        """get, scan: read the store. embedder: the version in use, whose embedding counts where one event has several."""
        self._get = get
        self._scan = scan
        self._embedder = embedder
        self._floors: set[bytes] = set()  # prefixes of users whose floor may have risen above rows
        # The newest record of each key where it is not what the store holds.
        self._newest: dict[bytes, bytes | None] = {}

    def apply(self, records: Iterable[tuple[bytes, bytes | None]]) -> Changes:
        """What a batch of records, in the order of the topic, changes in the store."""
        rows: Changes = {}
        for key, value in records:
            before = rows[key] if key in rows else self._get(key)
            if value is None:
                if before is None:
                    continue
                if self._covered(key, before, rows):
                    rows[key] = None
                    self._newest.pop(key, None)
                else:  # by somebody who knew less, or whose floor stands further on: the end will tell
                    self._newest[key] = None
                    self._floors.add(prefix_of(key))
                continue
            after = value if before is None or before == value else self._join(key, before, value)
            if after == value:
                self._newest.pop(key, None)
            else:
                self._newest[key] = value
            if after != value or is_header(key):
                self._floors.add(prefix_of(key))
            rows[key] = after
        return rows

    def finish(self) -> Iterator[Changes]:
        """What the floors cut off, once all records are applied: each part is to be written to the store before the next."""
        prefixes = sorted(self._floors)
        for start in range(0, len(prefixes), USERS_AT_ONCE):
            yield self._cut(prefixes[start : start + USERS_AT_ONCE])

    def _cut(self, prefixes: Iterable[bytes]) -> Changes:
        cut: Changes = {}
        for prefix in prefixes:
            header = self._get(header_of(prefix))
            if header is None:
                continue
            floor = decode_floor(header)
            for key, value in self._scan(prefix):
                if is_header(key):
                    continue
                slot = decode_slot(value)
                kept = slot.above(floor)
                if kept is not slot:
                    self._newest.setdefault(key, value)
                    cut[key] = None if kept is None else encode_slot(kept)
        return cut

    def _covered(self, key: bytes, row: bytes, rows: Changes) -> bool:
        """Whether the floor that is known so far covers a row."""
        header = header_of(prefix_of(key))
        floor = rows[header] if header in rows else self._get(header)
        return floor is not None and not is_header(key) and decode_slot(row).above(decode_floor(floor)) is None

    def repairs(self) -> Changes:
        """After `finish`: what has to be written to the topic, so that its newest records say what the store says."""
        return {key: row for key, newest in sorted(self._newest.items()) if (row := self._get(key)) != newest}

    def _join(self, key: bytes, before: bytes, incoming: bytes) -> bytes:
        """The two rows joined: `incoming` itself, byte for byte, where `before` adds nothing to it."""
        if is_header(key):
            return max(before, incoming, key=decode_floor)
        slot = decode_slot(incoming)
        joined = join(slot, decode_slot(before), embedder=self._embedder)
        return incoming if joined is slot else encode_slot(joined)
