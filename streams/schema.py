"""The contract with other systems: JSON Schemas of the messages, and an AsyncAPI 3.0 document of the topics.

Both are generated from `streams.messages`, `streams.item_messages` and the settings, so that they cannot drift from the code.
"""

from typing import Any

import msgspec

from streams.dead_letter import PREFIX
from streams.item_messages import ItemMessage
from streams.messages import EVENT_ID_HEADER, EmbeddedInteraction, InteractionMessage, Recommendation, json_schema
from streams.settings import Settings

VERSION = "1.2.0"

EXAMPLE_INTERACTION = {
    "event_id": "01HV5S4K2M",
    "user_id": "A3SGXH7AUHU8GW",
    "item_id": "B00005N7NQ",
    "type": "purchase",
    "timestamp": "2014-05-01T12:00:00Z",
    "image_url": "https://shop.example/B00005N7NQ.jpg",
}
EXAMPLE_ITEM = {
    "image_url": "https://shop.example/B00005N7NQ.jpg",
    "title": "Compact camera, 24 mm",
    "categories": ["camera", "new arrivals"],
    "price": 249.0,
    "currency": "EUR",
    "in_stock": True,
    "url": "https://shop.example/items/B00005N7NQ",
}
_ERASE = {"properties": {"type": {"const": "erase"}}}
_RETURN = {"properties": {"type": {"const": "return"}}}


def interaction_schema() -> dict[str, Any]:
    """JSON Schema of the values on `user-interactions`, with the rules that the types alone do not express."""
    schema = json_schema(InteractionMessage)
    interaction = schema["$defs"]["InteractionMessage"]
    interaction["title"] = "Interaction"
    interaction["if"] = {"not": _ERASE}
    interaction["then"] = {
        "required": ["item_id"],
        "properties": {"item_id": {"type": ["string", "integer"]}},
        "if": {"not": _RETURN},
        "then": {"required": ["image_url"], "properties": {"image_url": {"type": "string"}}},
    }
    interaction["examples"] = [EXAMPLE_INTERACTION]
    return schema


def item_schema() -> dict[str, Any]:
    """JSON Schema of the values on `items`, except null."""
    schema = json_schema(ItemMessage)
    item = schema["$defs"]["ItemMessage"]
    item["title"] = "Item"
    item["examples"] = [EXAMPLE_ITEM]
    return schema


def recommendation_schema() -> dict[str, Any]:
    """JSON Schema of the values on `user-recommendations`, except null."""
    return json_schema(Recommendation)


def asyncapi(settings: Settings) -> dict[str, Any]:
    """AsyncAPI 3.0 document: the topics, their messages, and who sends and receives them."""
    channels = {
        "interactions": _channel(
            settings.interactions_topic, "Input: the events of the shop.", "interaction",
            "any; use the user id, so that the events of a user keep their order. The user id in the body counts.",
            "application/json", interaction_schema(),
        ),
        "items": _channel(
            settings.items_topic,
            "Input, optional: the items of the shop. A null value removes an item.",
            "item", "the item id, UTF-8", "application/json", item_schema(),
        ),
        "embedded": _channel(
            settings.embedded_topic, "Between the workers: events with the embedding of their picture.", "embeddedInteraction",
            "the user id, UTF-8", "application/msgpack", json_schema(EmbeddedInteraction),
        ),
        "recommendations": _channel(
            settings.recommendations_topic,
            f"Output: each user's newest recommendation. Null after an erasure, whose event id is in the header {EVENT_ID_HEADER}.",
            "recommendation", "the user id, UTF-8", "application/json", recommendation_schema(),
        ),
        "deadLetters": _channel(
            settings.dlq_topic,
            f"Events and items that cannot be processed: key, value and headers of the original, and headers {PREFIX}* that say why. "
            f"Records with the header {PREFIX}note are notes of `tastestream dlq redrive`.",
            "deadLetter", "the key of the original", "application/octet-stream", {},
        ),
    }  # fmt: skip
    directions = {
        "interactions": "receive",
        "items": "receive",
        "embedded": "send",
        "recommendations": "send",
        "deadLetters": "send",
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "tastestream",
            "version": VERSION,
            "description": "Turns a stream of shop events with pictures into category recommendations.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {
            f"{direction}{name[0].upper()}{name[1:]}": {"action": direction, "channel": {"$ref": f"#/channels/{name}"}}
            for name, direction in directions.items()
        },
    }


def _channel(  # noqa: PLR0917 -- a table's row
    address: str, what: str, message: str, key: str, content_type: str, schema: dict[str, Any]
) -> dict[str, Any]:
    return {
        "address": address,
        "description": what,
        "messages": {
            message: {
                "contentType": content_type,
                "payload": {"schemaFormat": "application/schema+json;version=draft-2020-12", "schema": schema},
                "bindings": {"kafka": {"key": {"type": "string", "description": key}}},
            }
        },
    }


def to_json(document: dict[str, Any]) -> str:
    """Indented JSON."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
