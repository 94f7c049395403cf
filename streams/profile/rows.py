"""A bag as rows of bytes, for RocksDB and the changelog topic. Pure.

Each user has one header row (the floor) and one row per slot. A key starts with the length of the user id and the user id, so
one prefix scan reads one user and never another whose id has the same beginning:

    key     length of the user id (2 bytes, big-endian) | user id (UTF-8) | 0x00                    header
            length of the user id                       | user id         | 0x01 | item id (UTF-8)  slot
    value   format version (1 byte) | MessagePack array
"""

from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from model.quantization import is_finite
from streams.exceptions import StartupError
from streams.messages import MAX_TIMESTAMP
from streams.profile.bag import Bag, Moment, Slot

Rows = Mapping[bytes, bytes]
Changes = dict[bytes, bytes | None]  # None deletes the row

_FORMAT = b"\x01"
_OTHER_FORMATS = frozenset(bytes([version]) for version in range(2, 32))  # of later versions; anything else is no row
_HEADER, _SLOT = b"\x00", b"\x01"
MAX_ROW_BYTES = 512 * 1024  # of a value: a worker has to be able to send it again, uncompressed, in a record of 1 MiB
_TYPES = frozenset({"view", "cart", "purchase", "return"})

_encode = msgspec.msgpack.Encoder().encode
_floor_decoder = msgspec.msgpack.Decoder(Moment)
_slot_decoder = msgspec.msgpack.Decoder(Slot)


class UnknownRowFormat(StartupError):
    """A newer or unknown version of tastestream wrote this row."""


def user_prefix(user_id: str) -> bytes:
    """The bytes that the keys of this user's rows start with, and no other key."""
    encoded = user_id.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def prefix_of(key: bytes) -> bytes:
    """The `user_prefix` of the user whose row `key` is."""
    return key[: 2 + int.from_bytes(key[:2], "big")]


def user_of(key: bytes) -> str:
    """The user whose row `key` is."""
    return prefix_of(key)[2:].decode()


def header_of(prefix: bytes) -> bytes:
    """The key of a user's header row."""
    return prefix + _HEADER


def slot_key(user_id: str, item_id: str) -> bytes:
    """The key of a slot's row."""
    return user_prefix(user_id) + _SLOT + item_id.encode()


def is_header(key: bytes) -> bool:
    """Whether a row is a header, and not a slot."""
    return len(key) == 3 + int.from_bytes(key[:2], "big") and key.endswith(_HEADER)


def encode_floor(floor: Moment) -> bytes:
    """The value of a header row."""
    return _FORMAT + _encode(floor)


def encode_slot(slot: Slot) -> bytes:
    """The value of a slot's row."""
    return _FORMAT + _encode(slot)


def decode_floor(value: bytes) -> Moment:
    """The floor in a header row. Raises UnknownRowFormat."""
    return _floor_decoder.decode(_content(value))


def decode_slot(value: bytes) -> Slot:
    """The slot in its row. Raises UnknownRowFormat."""
    return _slot_decoder.decode(_content(value))


def fault(key: bytes | None, value: bytes | None) -> str:
    """What is wrong with a row that somebody wrote to the changelog or the disk; "" if it can be used.

    Raises:
        UnknownRowFormat: it is a row, of a format that this version does not know.
    """
    try:
        size = int.from_bytes((key or b"")[:2], "big")
        user, suffix = (key or b"")[2 : 2 + size], (key or b"")[2 + size :]
        if not user or len(user) < size or not (suffix == _HEADER or (suffix[:1] == _SLOT and len(suffix) > 1)):
            return "the key is not that of a row"
        _ = user.decode(), suffix.decode()
        if value is None:
            return ""
        if value[:1] in _OTHER_FORMATS:
            msgspec.msgpack.decode(value[1:])
        elif not value.startswith(_FORMAT):
            return "the value is not that of a row"
        _parsed(suffix, value)
    except _RowFault as found:
        return str(found)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return f"it cannot be decoded: {error}"
    return ""


class _RowFault(Exception):
    """What is wrong with a row that can be decoded."""


def _parsed(suffix: bytes, value: bytes) -> Moment | Slot:
    """Decode a row and check it. `suffix`: the end of its key, behind the user's prefix."""
    if value.startswith(_FORMAT) and len(value) > MAX_ROW_BYTES:
        raise _RowFault(f"the value has {len(value)} bytes; at most {MAX_ROW_BYTES} are used")
    if suffix == _HEADER:
        floor = decode_floor(value)
        if floor.timestamp < 0:
            raise _RowFault("the time of the floor is negative")
        return floor
    if suffix[:1] != _SLOT or len(suffix) == 1:
        raise _RowFault("the key is not that of a row")
    slot = decode_slot(value)
    if slot.item_id.encode() != suffix[1:]:
        raise _RowFault("the item differs from that of the key")
    newest, picture = slot.newest, slot.picture
    times = [moment[0] for moment in newest.values()]
    if picture is not None:
        times.append(picture.moment[0])
        if not is_finite(picture.embedding):
            raise _RowFault("the embedding is too short or not finite")
    if not newest or min(times) < 0 or max(times) > MAX_TIMESTAMP:
        raise _RowFault("it has no event, or one at an impossible time")
    if not newest.keys() <= _TYPES:
        raise _RowFault("it has an event of an unknown type")
    return slot


def _content(value: bytes) -> bytes:
    if not value.startswith(_FORMAT):
        raise UnknownRowFormat(
            f"row format {value[:1]!r} is unknown; this version reads {_FORMAT!r}: run the version of tastestream that wrote it"
        )
    return value[1:]


def decode_bag(rows: Iterable[tuple[bytes, bytes]], passed_over: Callable[[bytes, str], object] | None = None) -> Bag:
    """Decode the rows of one user. Leaves out whatever lies at or below the floor, and rows that cannot be used.

    Args:
        rows: keys and values.
        passed_over: called with the key of each row that cannot be used, and its `fault`.

    Raises:
        UnknownRowFormat: another version of tastestream wrote a row.
    """
    floor: Moment | None = None
    slots: list[Slot] = []
    size: int | None = None  # of the user's prefix
    for key, value in rows:
        if size is None:
            size = len(prefix_of(key))
        try:
            row = _parsed(key[size:], value)
        except (_RowFault, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, UnknownRowFormat):
            what = fault(key, value)
            if passed_over is not None:
                passed_over(key, what)
            continue
        if isinstance(row, Slot):
            slots.append(row)
        else:
            floor = row
    kept = slots if floor is None else [above for slot in slots if (above := slot.above(floor)) is not None]
    return Bag({slot.item_id: slot for slot in kept}, floor)


def keys_of(user_id: str, bag: Bag) -> list[bytes]:
    """The keys of all rows of a bag."""
    prefix = user_prefix(user_id)
    header = [] if bag.floor is None else [header_of(prefix)]
    return [*header, *(prefix + _SLOT + item_id.encode() for item_id in bag.slots)]


def encode_bag(user_id: str, bag: Bag) -> dict[bytes, bytes]:
    """All rows of a bag."""
    prefix = user_prefix(user_id)
    rows = {prefix + _SLOT + item_id.encode(): encode_slot(slot) for item_id, slot in bag.slots.items()}
    if bag.floor is not None:
        rows[header_of(prefix)] = encode_floor(bag.floor)
    return rows


def changes(user_id: str, stored: Collection[bytes], before: Bag, after: Bag) -> Changes:
    """The rows to write so that a store that holds `before` holds `after`.

    The header comes first and deletions come last. A worker that dies in between leaves rows that mean at least what they meant
    before, and folding the same event again completes the change.

    Args:
        user_id: whose rows.
        stored: keys of all rows that the store has for the user. Those without a slot in `after` are deleted, also if the floor
            had hidden them already.
        before: the bag that the store holds.
        after: the bag that it is to hold.
    """
    hidden = len(stored) - len(before.slots) - (before.floor is not None)
    if after is before and not hidden:
        return {}
    prefix = user_prefix(user_id)
    rows: Changes = {}
    if after.floor is not None and after.floor != before.floor:
        rows[header_of(prefix)] = encode_floor(after.floor)
    for item_id, slot in after.slots.items():
        if slot is not before.slots.get(item_id):
            rows[prefix + _SLOT + item_id.encode()] = encode_slot(slot)
    for key in stored:
        suffix = key[len(prefix) :]
        if suffix != _HEADER and suffix[1:].decode() not in after.slots:
            rows[key] = None
    return rows
