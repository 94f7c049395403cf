"""Values of `embedded-interactions`: MessagePack."""

import msgspec

from streams.exceptions import MessageError
from streams.messages import MAX_ID, EmbeddedInteraction, encode_embedded, parse_embedded
from streams.text import UNSAFE


def seeds() -> list[bytes]:
    """Events with and without an embedding, and broken ones."""
    viewed = EmbeddedInteraction(
        event_id="e1", user_id="u1", item_id="shoe-1", type="view", timestamp=1_600_000_000_000,
        image_url="https://shop.example/1.jpg", embedder_version="0123456789ab", embedding=bytes(range(40)),
    )  # fmt: skip
    erased = EmbeddedInteraction(event_id="e2", user_id="u1", item_id="", type="erase", timestamp=1)
    made = [encode_embedded(viewed), encode_embedded(erased)]
    others = [{"event_id": "e"}, [1, 2], {**msgspec.structs.asdict(erased), "timestamp": -1}, None]
    return [*made, *map(msgspec.msgpack.encode, others), made[0][:-3], b"\x91" * 300]


def check(data: bytes) -> str:
    """Parse an embedded interaction."""
    try:
        read = parse_embedded(data)
    except MessageError as error:
        assert error.reason.isidentifier()
        return error.reason
    assert len(read.user_id) <= MAX_ID
    assert not any(UNSAFE.search(text) for text in (read.user_id, read.event_id, read.item_id, read.image_url))
    assert parse_embedded(encode_embedded(read)) == read
    return "accepted"
