"""Items as the shop writes them to `items`: the type, how a record is parsed, and what is refused.

Pure: no Kafka. The JSON Schema of `streams.schema` is generated from the type.
"""

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from streams.exceptions import MessageError
from streams.messages import MAX_ID, MAX_MESSAGE_BYTES, SAFE, ImageUrl, ItemId, Number, Text, checked, message_error

MAX_CATEGORIES = 32  # of an item
MAX_CATEGORY, MAX_TITLE, MAX_URL = 200, 500, 2048  # characters
MAX_PRICE = 1e12  # far above any price, and far below what float32 holds

# Others show the address as a link: no `javascript:` or `data:`. The `not` says the same of control characters as `SAFE` does.
PageUrl = Annotated[
    str,
    Meta(
        pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^/]",
        max_length=MAX_URL,
        extra_json_schema=SAFE,
        description="URL of the item's page in the shop, http or https",
    ),
]
Category = Annotated[Text, Meta(max_length=MAX_CATEGORY)]


class ItemMessage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item of the shop, as it is written to `items` under its id. Other fields are ignored. A null value removes the item."""

    image_url: ImageUrl
    item_id: Annotated[ItemId, Meta(description="the same as the key of the record")] | Number | None = None
    title: Annotated[str, Meta(max_length=MAX_TITLE, extra_json_schema=SAFE, description="what shoppers read")] = ""
    categories: Annotated[
        list[Category],
        Meta(max_length=MAX_CATEGORIES, description="the shop's own labels, such as those that a filter names"),
    ] = []
    price: Annotated[float, Meta(ge=0, le=MAX_PRICE, description="in `currency`")] | None = None
    currency: (
        Annotated[str, Meta(min_length=3, max_length=3, pattern="^[A-Z]{3}$", description="ISO 4217, such as EUR")]
        | None
    ) = None
    in_stock: Annotated[bool, Meta(description="whether it can be bought now")] | None = None
    url: PageUrl | None = None


class ItemRecord(NamedTuple):
    """A valid record of `items`."""

    item_id: str
    item: ItemMessage | None  # None: the item is removed


_decoder = msgspec.json.Decoder(ItemMessage)


def parse_item(key: bytes | None, value: bytes | None) -> ItemRecord:
    """Parse a record of `items`.

    Args:
        key: the item id, UTF-8. Compaction goes by it, so a record without one is refused.
        value: JSON, or None to remove the item.

    Raises:
        MessageError: something is missing, mistyped, oversized or unsafe; `field` names it. That of the key is `item_id`.
    """
    item_id = _id_of(key)
    if value is None:
        return ItemRecord(item_id, None)
    if not value:
        raise MessageError("empty_message", "the value is empty; an item is a JSON object, and null removes it")
    if len(value) > MAX_MESSAGE_BYTES:
        raise MessageError(
            "message_too_large", f"the value has {len(value)} bytes; at most {MAX_MESSAGE_BYTES} are accepted"
        )
    try:
        item = _decoder.decode(value)
    except msgspec.ValidationError as error:
        raise message_error(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError("invalid_json", f"the value is not JSON: {error}") from error
    named = checked("item_id", item.item_id, MAX_ID)
    if named is not None and named != item_id:
        raise MessageError(
            "invalid_field",
            f"item_id: the value says {named!r}, but the key of the record is {item_id!r}; write the same id, or none in the value",
            field="item_id",
        )
    for name in ("image_url", "title", "url"):
        checked(name, getattr(item, name))
    for number, category in enumerate(item.categories):
        checked(f"categories[{number}]", category)
    return ItemRecord(item_id, item)


def _id_of(key: bytes | None) -> str:
    """The item id in the key of a record. Raises MessageError."""
    if not key:
        raise MessageError("missing_field", "the record has no key; its key has to be the item id", field="item_id")
    try:
        item_id = key.decode()
    except UnicodeDecodeError as error:
        raise MessageError("invalid_field", f"item_id: the key is not UTF-8: {error}", field="item_id") from error
    if len(item_id) > MAX_ID:
        raise MessageError(
            "invalid_field", f"item_id: the key has {len(item_id)} characters; at most {MAX_ID}", field="item_id"
        )
    checked("item_id", item_id)
    return item_id
