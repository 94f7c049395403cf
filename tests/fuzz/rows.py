"""Rows of bags, as in the changelog and on disk. An input is the length of the key (2 bytes), the key, and the value."""

from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, fold
from streams.profile.rows import (
    UnknownRowFormat,
    decode_bag,
    encode_bag,
    fault,
    is_header,
    prefix_of,
    user_of,
    user_prefix,
)


def row(key: bytes, value: bytes) -> bytes:
    """A row as one input."""
    return len(key).to_bytes(2, "big") + key + value


def seeds() -> list[bytes]:
    """The rows of a small bag, and rows that are broken at their limits."""
    bag = Bag()
    for time, kind in enumerate(("view", "purchase", "return", "cart", "erase", "view"), start=1):
        event = EmbeddedInteraction(
            event_id=f"e{time}", user_id="u1", item_id="" if kind == "erase" else f"i{time % 3}", type=kind, timestamp=time,
            image_url="https://shop.example/1.jpg", embedder_version="v1", embedding=bytes(8) + bytes(range(16)),
        )  # fmt: skip
        bag = fold(bag, event, max_slots=4, kept={"v1"})
    rows = encode_bag("u1", bag)
    prefix = user_prefix("u1")
    broken = [
        (b"", b""),
        (prefix, b"\x01"),
        (prefix + b"\x00", b"\x02\xc0"),
        (b"\xff\xff" + b"u" * 20, b"\x01\x90"),
        (prefix + b"\x01i", b""),
    ]
    slots = [one for one in rows.items() if not is_header(one[0])]
    broken.append((slots[0][0] + b"x", slots[0][1]))  # the slot of another item
    return [row(key, value) for key, value in [*rows.items(), *broken]]


def check(data: bytes) -> str:
    """Check a row; if it has no fault, read it and write it again."""
    size = int.from_bytes(data[:2], "big")
    key, value = data[2 : 2 + size], data[2 + size :]
    try:
        problem = fault(key, value)
    except UnknownRowFormat:
        return "unknown format"
    assert isinstance(fault(key, None), str)
    if problem:
        return problem.partition(":")[0]
    bag = decode_bag([(key, value)])
    assert (bag.floor is not None) == is_header(key)
    assert key.startswith(prefix_of(key))
    rows = encode_bag(user_of(key), bag)
    assert list(rows) == [key]
    assert not any(fault(*one) for one in rows.items())
    assert decode_bag(rows.items()) == bag
    return "accepted"
