"""Records of `items`. An input is the length of the key (1 byte), the key, and the value; none is null."""

import msgspec

from streams.exceptions import MessageError
from streams.item_messages import MAX_CATEGORIES, MAX_CATEGORY, MAX_PRICE, MAX_TITLE, MAX_URL, parse_item
from streams.messages import MAX_ID
from streams.text import UNSAFE

ITEM = {"image_url": "https://shop.example/1.jpg", "title": "A shoe", "categories": ["shoe"], "price": 12.5}


def record(key: bytes, value: bytes) -> bytes:
    """A record as one input."""
    return bytes([len(key)]) + key + value


def seeds() -> list[bytes]:
    """Items with each field, and some that are broken."""
    changes: list[dict[str, object]] = [
        {}, {"item_id": "shoe"}, {"item_id": 7}, {"currency": "EUR"}, {"in_stock": False}, {"url": "https://shop.example/1"},
        {"categories": ["x"] * 32}, {"categories": ["x"] * 33}, {"price": -1}, {"price": 1e13}, {"title": "a\nb"},
        {"image_url": None}, {"url": "javascript:1"}, {"more": [[{"deep": {}}]]},
    ]  # fmt: skip
    made = [record(b"shoe", msgspec.json.encode({**ITEM, **change})) for change in changes]
    whole = msgspec.json.encode(ITEM)
    return [
        *made,
        b"",
        record(b"shoe", b""),
        record(b"", whole),
        record(b"7", msgspec.json.encode({**ITEM, "item_id": 7})),
        record("ж😀".encode(), whole),
        record(b"\xff", whole),
        record(b"a", b"[" * 500),
    ]


def check(data: bytes) -> str:
    """Read a record; if it is an item, write it again."""
    size = data[0] if data else 0
    key, value = data[1 : 1 + size], data[1 + size :]
    try:
        item_id, item = parse_item(key, value or None)
    except MessageError as error:
        assert error.reason.isidentifier()
        return error.reason
    assert item_id.encode() == key
    assert 1 <= len(item_id) <= MAX_ID
    if item is None:
        return "removed"
    texts = [item_id, item.image_url, item.title, item.url or "", item.currency or "", *item.categories]
    assert not any(UNSAFE.search(text) for text in texts)
    assert len(item.categories) <= MAX_CATEGORIES
    assert all(1 <= len(label) <= MAX_CATEGORY for label in item.categories)
    assert len(item.title) <= MAX_TITLE
    assert len(item.url or "") <= MAX_URL
    assert 0 <= (item.price or 0) <= MAX_PRICE
    assert parse_item(key, msgspec.json.encode(item)) == (item_id, item)
    return "accepted"
