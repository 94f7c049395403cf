"""A bag as rows of bytes, for RocksDB and the changelog topic. Pure.

Each user has one header row (the floor) and one row per slot. A key starts with the length of the user id and the user id, so
one prefix scan reads one user and never another whose id has the same beginning:

    key     length of the user id (2 bytes, big-endian) | user id (UTF-8) | 0x00                    header
            length of the user id                       | user id         | 0x01 | item id (UTF-8)  slot
    value   format version (1 byte) | MessagePack array

A header has format 1. A slot has format 2, which names the item and each moment once. Slots of format 1, with one picture, are
read, and written in format 2 when they change.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import pairwise
from operator import attrgetter

import msgspec
from msgspec import Struct

from model.quantization import is_finite
from streams.exceptions import StartupError
from streams.messages import MAX_TIMESTAMP
from streams.profile.bag import Bag, Moment, Picture, Slot

Rows = Mapping[bytes, bytes]
Changes = dict[bytes, bytes | None]  # None deletes the row

_FORMAT_1, _FORMAT_2 = b"\x01", b"\x02"
_FORMATS = (_FORMAT_1, _FORMAT_2)
_OTHER_FORMATS = frozenset(bytes([version]) for version in range(3, 32))  # of later versions; anything else is no row
_HEADER, _SLOT = b"\x00", b"\x01"
MAX_ROW_BYTES = 896 * 1024  # of a value: a worker has to be able to send it again, uncompressed, in a record of 1 MiB
_TYPES = frozenset({"view", "cart", "purchase", "return"})


class _Slot1(Struct, frozen=True, array_like=True, gc=False):
    """A slot in format 1."""

    item_id: str
    newest: dict[str, Moment]
    picture: Picture | None = None


class _Pictures(Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """The pictures of one moment and URL, in format 2."""

    type: str
    image_url: str
    embeddings: list[tuple[str, bytes, bool]]  # embedder version, embedding, whether it is adapted
    event: tuple[int, str] | None = None  # timestamp and id; None if it is the newest event of this type


class _Slot2(Struct, frozen=True, array_like=True, gc=False):
    """A slot in format 2. The key names the item."""

    newest: dict[str, tuple[int, str]]  # timestamp and id of the newest event, by type
    pictures: list[_Pictures]


_encode = msgspec.msgpack.Encoder().encode
_floor_decoder = msgspec.msgpack.Decoder(Moment)
_slot_1_decoder = msgspec.msgpack.Decoder(_Slot1)
_slot_2_decoder = msgspec.msgpack.Decoder(_Slot2)


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
    return _FORMAT_1 + _encode(floor)


def encode_slot(slot: Slot) -> bytes:
    """The value of a slot's row."""
    newest = {kind: (moment.timestamp, moment.event_id) for kind, moment in slot.newest.items()}
    groups: list[_Pictures] = []
    before: Picture | None = None
    for picture in slot.pictures:
        moment = picture.moment
        if before is None or before.moment != moment or before.image_url != picture.image_url:
            event = None if slot.newest.get(moment.type) == moment else (moment.timestamp, moment.event_id)
            groups.append(_Pictures(moment.type, picture.image_url, [], event))
        groups[-1].embeddings.append((picture.embedder_version, picture.embedding, picture.adapted))
        before = picture
    return _FORMAT_2 + _encode(_Slot2(newest, groups))


def decode_floor(value: bytes) -> Moment:
    """The floor in a header row. Raises UnknownRowFormat."""
    return _floor_decoder.decode(_content(value))


def decode_slot(key: bytes, value: bytes) -> Slot:
    """The slot in its row. Raises UnknownRowFormat."""
    return _slot(key[len(prefix_of(key)) + 1 :].decode(), value)


def _slot(item_id: str, value: bytes) -> Slot:
    content = _content(value)
    if value.startswith(_FORMAT_1):
        early = _slot_1_decoder.decode(content)
        if early.item_id != item_id:
            raise _RowFault("the item differs from that of the key")
        return Slot(item_id, early.newest, (early.picture,) if early.picture else ())
    found = _slot_2_decoder.decode(content)
    newest = {kind: Moment(timestamp, event_id, item_id, kind) for kind, (timestamp, event_id) in found.newest.items()}
    pictures: list[Picture] = []
    for group in found.pictures:
        moment = newest.get(group.type) if group.event is None else Moment(*group.event, item_id, group.type)
        if moment is None:
            raise _RowFault("a picture names an event that is not there")
        for version, embedding, adapted in group.embeddings:
            pictures.append(Picture(moment, version, group.image_url, embedding, adapted))
    if len(pictures) > 1:
        pictures.sort(key=attrgetter("embedder_version"))
        if any(one.embedder_version == other.embedder_version for one, other in pairwise(pictures)):
            raise _RowFault("it has two pictures of one embedder")
    return Slot(item_id, newest, tuple(pictures))


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
        elif not value.startswith(_FORMATS):
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
    if value.startswith(_FORMATS) and len(value) > MAX_ROW_BYTES:
        raise _RowFault(f"the value has {len(value)} bytes; at most {MAX_ROW_BYTES} are used")
    if suffix == _HEADER:
        floor = decode_floor(value)
        if floor.timestamp < 0:
            raise _RowFault("the time of the floor is negative")
        return floor
    if suffix[:1] != _SLOT or len(suffix) == 1:
        raise _RowFault("the key is not that of a row")
    slot = _slot(suffix[1:].decode(), value)
    newest = slot.newest
    times = [moment.timestamp for moment in newest.values()]
    for picture in slot.pictures:
        times.append(picture.moment.timestamp)
        if not is_finite(picture.embedding):
            raise _RowFault("the embedding is too short or not finite")
    if not newest or min(times) < 0 or max(times) > MAX_TIMESTAMP:
        raise _RowFault("it has no event, or one at an impossible time")
    if not newest.keys() <= _TYPES:
        raise _RowFault("it has an event of an unknown type")
    return slot


def _content(value: bytes) -> bytes:
    if not value.startswith(_FORMATS):
        raise UnknownRowFormat(
            f"row format {value[:1]!r} is unknown; this version reads {_FORMAT_1!r} and {_FORMAT_2!r}: "
            "run the version of tastestream that wrote it"
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


def changed(user_id: str, bag: Bag, rows: Changes) -> Bag:
    """The bag that a store holds after these rows were written to it.

    Args:
        user_id: whose bag.
        bag: what the store held before.
        rows: of this user, all of them usable.
    """
    size = len(user_prefix(user_id))
    floor, slots = bag.floor, dict(bag.slots)
    for key, value in rows.items():
        if key[size:] == _HEADER:
            floor = floor if value is None else decode_floor(value)
        elif value is None:
            slots.pop(key[size + 1 :].decode(), None)
        else:
            slot = decode_slot(key, value)
            slots[slot.item_id] = slot
    if floor is not None:
        slots = {item_id: kept for item_id, slot in slots.items() if (kept := slot.above(floor)) is not None}
    return Bag(slots, floor)
