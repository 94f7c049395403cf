"""Values of `user-interactions`: JSON."""

import msgspec

from streams.exceptions import MessageError
from streams.messages import (
    MAX_EVENT_ID,
    MAX_ID,
    Interaction,
    encode_embedded,
    parse_embedded,
    parse_interaction,
    with_embedding,
)
from streams.text import UNSAFE

NOW = 1_700_000_000.0  # seconds
EVENT = {
    "user_id": "u1",
    "item_id": "shoe-1",
    "type": "view",
    "timestamp": 1_600_000_000_000,
    "image_url": "https://shop.example/1.jpg",
}


def seeds() -> list[bytes]:
    """Events of each type, with ids and times in each form, and broken ones."""
    changes: list[dict[str, object]] = [
        *({"type": kind} for kind in ("view", "cart", "purchase", "return", "erase")),
        {"event_id": "e-1"}, {"user_id": 42, "item_id": 108775015, "event_id": 7}, {"user_id": "ж😀"},
        *({"timestamp": time} for time in ("2020-09-13T12:26:40Z", "2020-09-13T14:26:40.5+02:00", 1_600_000_000, 0, -1)),
        {"user_id": "a\nb"}, {"item_id": None}, {"image_url": 5}, {"more": [[{"deep": {}}]]},
    ]  # fmt: skip
    made = [msgspec.json.encode({**EVENT, **change}) for change in changes]
    return [*made, b"", b"null", b"[" * 500, b'{"user_id":"\\ud800"}', b"\xff\xfe{}", made[0][:40]]


def check(data: bytes) -> str:
    """Parse an interaction, and send it on as the embed worker does."""
    try:
        read = parse_interaction(data, now=NOW, max_future=300.0)
    except MessageError as error:
        assert error.reason.isidentifier()
        return error.reason
    _within_limits(read)
    again = {name: value for name, value in msgspec.structs.asdict(read).items() if value != ""}
    assert parse_interaction(msgspec.json.encode(again), now=NOW, max_future=300.0) == read
    sent = with_embedding(read, "embedder", b"\0" * 16)
    assert parse_embedded(encode_embedded(sent)) == sent
    return "accepted"


def _within_limits(read: Interaction) -> None:
    assert 1 <= len(read.user_id) <= MAX_ID
    assert 1 <= len(read.event_id) <= MAX_EVENT_ID
    assert len(read.item_id) <= MAX_ID
    assert bool(read.item_id) == (read.type != "erase")
    assert not any(UNSAFE.search(text) for text in (read.user_id, read.event_id, read.item_id, read.image_url))
    assert 0 <= read.timestamp <= (NOW + 300) * 1000
