"""Which records are an item, which are refused and why; the published schema says the same."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.exceptions import MessageError
from streams.item_messages import ItemMessage, ItemRecord, parse_item
from streams.schema import EXAMPLE_ITEM, item_schema
from streams.text import UNSAFE
from tests.streams.test_messages import ABSENT, CONTROLS

SHOE: dict[str, Any] = {"image_url": "https://shop.example/shoe.jpg"}
FULL: dict[str, Any] = {
    "item_id": "shoe",
    "image_url": "https://shop.example/shoe.jpg",
    "title": "A shoe",
    "categories": ["shoe", "new"],
    "price": 12.5,
    "currency": "EUR",
    "in_stock": True,
    "url": "https://shop.example/shoe",
}


def but(**fields: object) -> dict[str, Any]:
    """The full item with other fields; ABSENT leaves one out."""
    return {name: value for name, value in (FULL | fields).items() if value is not ABSENT}


def parse(item: object, key: bytes | None = b"shoe") -> ItemRecord:
    return parse_item(key, json.dumps(item).encode())


def test_a_full_item_is_accepted_unchanged_and_a_bare_one_needs_a_picture_only() -> None:
    assert parse(FULL) == ItemRecord("shoe", ItemMessage(**FULL))
    assert parse(SHOE) == ItemRecord("shoe", ItemMessage(image_url=SHOE["image_url"]))
    assert parse(FULL | {"colour": "red", "stock": {"berlin": 3}}) == parse(FULL)


def test_null_removes_the_item_that_the_key_names() -> None:
    assert parse_item("Zoë 🙂".encode(), None) == ItemRecord("Zoë 🙂", None)


ACCEPTED: dict[str, dict[str, Any]] = {
    "full": FULL,
    "bare": SHOE,
    "nulls": but(item_id=None, price=None, currency=None, in_stock=None, url=None),
    "an integer price": but(price=12),
    "free": but(price=0),
    "no labels": but(categories=[]),
    "most labels": but(categories=["x" * 200] * 32),
    "longest title": but(title="t" * 500),
    "no title": but(title=""),
    "http in capitals": but(url="HTTP://shop.example/shoe"),
}
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no image_url": (but(image_url=ABSENT), "missing_field", "image_url"),
    **{
        f"{name} {value!r:.20}": (but(**{name: value}), "invalid_field", name)
        for name, values in {
            "image_url": [None, 5, "", "h" * 2049, ["x"]],
            "title": [None, 5, "t" * 501],
            "categories": [None, "shoe", {"a": 1}],
            "price": [-0.01, -1, "12.50", True, [12], 1.1e12],
            "currency": ["", "eur", "EU", "EURO", "€", 978, "EUR\n"],
            "in_stock": [1, "yes", 0],
            "url": ["", "shoe", "/shoe", "javascript:alert(1)", "data:text/html,x", "ftp://shop.example/", " http://a", "http:///a"],
            "item_id": [True, 1.5, [], ""],
        }.items()
        for value in values
    },
    "too many labels": (but(categories=["x"] * 33), "invalid_field", "categories"),
    "a label that is empty": (but(categories=["x", ""]), "invalid_field", "categories[1]"),
    "a label that is too long": (but(categories=["x" * 201]), "invalid_field", "categories[0]"),
    "a label that is a number": (but(categories=["x", 5]), "invalid_field", "categories[1]"),
    **{
        f"{name} with {what}": (but(**{name: FULL[name] + control}), "invalid_field", name)
        for name in ("image_url", "title", "url")
        for what, control in CONTROLS.items()
    },
    **{
        f"a label with {what}": (but(categories=["shoe", f"a{control}"]), "invalid_field", "categories[1]")
        for what, control in CONTROLS.items()
    },
}  # fmt: skip


def schema_accepts(item: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(item_schema()).is_valid(item)


@pytest.mark.parametrize("item", ACCEPTED.values(), ids=ACCEPTED)
def test_the_schema_accepts_what_the_parser_accepts(item: dict[str, Any]) -> None:
    assert parse(item).item is not None
    assert schema_accepts(item)


@pytest.mark.parametrize("case", REFUSED)
def test_the_parser_names_the_field_that_it_refuses_and_the_schema_refuses_it_too(case: str) -> None:
    item, reason, field = REFUSED[case]
    with pytest.raises(MessageError) as refused:
        parse(item)
    # A path of msgspec has no number of an item: `[...]`.
    assert (refused.value.reason, refused.value.field.replace("[...]", "[1]")) == (reason, field)
    assert not schema_accepts(item)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "missing_field"),
        (b"", "missing_field"),
        (b"\xff\xfe", "invalid_field"),
        (b"a\n", "invalid_field"),
        ("a\u202eb".encode(), "invalid_field"),
        (b"x" * 257, "invalid_field"),
        (b"\xed\xa0\x80", "invalid_field"),  # half a surrogate pair
    ],
)
@pytest.mark.parametrize("value", [None, json.dumps(SHOE).encode()])
def test_a_key_that_is_no_item_id_is_refused_also_with_a_null(
    key: bytes | None, reason: str, value: bytes | None
) -> None:
    with pytest.raises(MessageError) as refused:
        parse_item(key, value)
    assert (refused.value.reason, refused.value.field) == (reason, "item_id")


def test_a_key_of_256_characters_of_four_bytes_is_an_item_id() -> None:
    assert parse(SHOE, ("🙂" * 256).encode()).item_id == "🙂" * 256


@pytest.mark.parametrize(("key", "item_id"), [(b"shoe", "shoe"), (b"42", 42), (b"42", "42"), (b"-1", -1)])
def test_an_id_in_the_value_may_repeat_the_key_also_as_an_integer(key: bytes, item_id: object) -> None:
    assert parse(but(item_id=item_id), key).item_id == key.decode()


@pytest.mark.parametrize(("key", "item_id"), [(b"shoe", "Shoe"), (b"42", 43), (b"042", 42), (b"shoe", "shoe ")])
def test_an_id_in_the_value_that_differs_from_the_key_is_refused(key: bytes, item_id: object) -> None:
    with pytest.raises(MessageError, match="the same id, or none") as refused:
        parse(but(item_id=item_id), key)
    assert (refused.value.reason, refused.value.field) == ("invalid_field", "item_id")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty_message"),
        (b"{", "invalid_json"),
        (b"null", "invalid_field"),
        (b"[]", "invalid_field"),
        (b"\xff", "invalid_json"),
        (b'{"x": ' + b"[" * 50_000, "invalid_json"),
        (b'{"image_url":"http://a/b","price":NaN}', "invalid_json"),
        (b'{"image_url":"http://a/b","price":1e999}', "invalid_field"),
        (b'{"image_url":"' + b"x" * 70_000 + b'"}', "message_too_large"),
    ],
)
def test_a_value_that_is_no_item_is_refused(value: bytes, reason: str) -> None:
    with pytest.raises(MessageError) as refused:
        parse_item(b"shoe", value)
    assert refused.value.reason == reason


@given(st.one_of(st.none(), st.binary(), st.text().map(str.encode)), st.one_of(st.none(), st.binary()))
@example(b"a", b'{"image_url": "\\ud800"}')
def test_any_bytes_are_an_item_or_a_message_error(key: bytes | None, value: bytes | None) -> None:
    try:
        read = parse_item(key, value)
    except MessageError as error:
        assert error.reason.isidentifier()
    else:
        assert not UNSAFE.search(read.item_id)


def test_the_example_in_the_schema_is_an_item() -> None:
    assert parse(EXAMPLE_ITEM).item is not None
    assert schema_accepts(EXAMPLE_ITEM)
    jsonschema.Draft202012Validator.check_schema(item_schema())
