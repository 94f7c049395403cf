"""Merges changelog records into the store during recovery. Pure: `table.py` reads the topic and writes the store.

Rows are merged, not overwritten. A worker that does not know yet that it has lost a partition may still write to it; merging
keeps what both writers wrote, in whatever order the records reached the topic. Compaction keeps only the newest record of a
key. If that record holds less than the merged row, or if the topic still holds a row that an erasure covers, the row has to be
written to the topic again (`Merge.repairs`).
"""

from collections.abc import Callable, Collection, Iterable, Iterator

from streams.profile.bag import join
from streams.profile.rows import Changes, decode_floor, decode_slot, encode_slot, header_of, is_header, prefix_of

Get = Callable[[bytes], bytes | None]
Scan = Callable[[bytes], Iterable[tuple[bytes, bytes]]]  # prefix to rows

REMEMBERED = 100_000  # users without a floor: some megabytes
USERS_AT_ONCE = 100  # users whose rows are scanned in one step: some tens of milliseconds


class Merge:
    """One recovery of one partition: `apply` for each batch, then `finish` at the end of the topic, then `repairs`.

    Write the changes that a step returns to the store before the next step.
    """

    def __init__(self, get: Get, scan: Scan, *, kept: Collection[str]) -> None:
        """Read the store with `get` and `scan`. `kept`: the versions of the embedders in use, as `fold` takes them."""
        self._get = get
        self._scan = scan
        self._kept = kept
        self._floors: set[bytes] = set()  # prefixes of users whose floor may cover some rows
        self._without: set[bytes] = set()  # of users who had none: asking the store again for each row takes too long
        # The newest record of each key whose stored row differs from it.
        self._newest: dict[bytes, bytes | None] = {}

    def apply(self, records: Iterable[tuple[bytes, bytes | None]]) -> Changes:
        """The changes to the store for a batch of records, in topic order."""
        rows: Changes = {}
        for key, value in records:
            before = rows[key] if key in rows else self._get(key)
            if value is None:
                if before is None:
                    self._newest.pop(key, None)
                    continue
                if self._covered(key, before, rows):
                    rows[key] = None
                    self._newest.pop(key, None)
                else:  # its writer knew less, or its floor comes later in the topic: `finish` decides
                    self._newest[key] = None
                    self._floors.add(prefix_of(key))
                continue
            after = value if before is None or before == value else self._join(key, before, value)
            if after == value:
                self._newest.pop(key, None)
            else:
                self._newest[key] = value
            if after != value or is_header(key) or self._may_be_covered(key, rows):
                self._floors.add(prefix_of(key))
            rows[key] = after
        return rows

    def finish(self) -> Iterator[Changes]:
        """After the last `apply`: remove what the floors cover, in steps. Write each step to the store before the next."""
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
                slot = decode_slot(key, value)
                kept = slot.above(floor)
                if kept is not slot:
                    self._newest.setdefault(key, value)
                    cut[key] = None if kept is None else encode_slot(kept)
        return cut

    def _covered(self, key: bytes, row: bytes, rows: Changes) -> bool:
        """Whether the floor known so far covers a row."""
        floor = self._floor(key, rows)
        return floor is not None and not is_header(key) and decode_slot(key, row).above(decode_floor(floor)) is None

    def _may_be_covered(self, key: bytes, rows: Changes) -> bool:
        """Whether the user of a slot has a floor. It may be of an earlier merge."""
        prefix = prefix_of(key)
        if prefix in self._floors or prefix in self._without:
            return prefix in self._floors
        if self._floor(key, rows) is not None:
            return True
        if len(self._without) >= REMEMBERED:
            self._without.clear()
        self._without.add(prefix)
        return False

    def _floor(self, key: bytes, rows: Changes) -> bytes | None:
        """The header row of the user of a row, as far as it is known."""
        header = header_of(prefix_of(key))
        return rows[header] if header in rows else self._get(header)

    def repairs(self) -> Changes:
        """After `finish`: the rows to write to the topic, so that its newest records match the store."""
        return {key: row for key, newest in sorted(self._newest.items()) if (row := self._get(key)) != newest}

    def _join(self, key: bytes, before: bytes, incoming: bytes) -> bytes:
        """Merge two rows. Returns `incoming` itself, byte for byte, if `before` adds nothing."""
        if is_header(key):
            return max(before, incoming, key=decode_floor)
        slot = decode_slot(key, incoming)
        joined = join(slot, decode_slot(key, before), kept=self._kept)
        return incoming if joined is slot else encode_slot(joined)
