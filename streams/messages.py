"""The messages on the topics: their types, how they are parsed, and what is refused.

Pure: no Kafka, and the clock is an argument. The JSON Schemas of `streams.schema` are generated from these types.
"""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct, field

from streams.exceptions import MessageError
from streams.text import UNSAFE, UNSAFE_PATTERN, visible

InteractionType = Literal["view", "cart", "purchase", "return", "erase"]
PICTURED: frozenset[InteractionType] = frozenset(
    {"view", "cart", "purchase"}
)  # events with a picture, which get an embedding

EVENT_ID_HEADER = "tastestream-event-id"  # on the null value after an erasure, which has no body for the id

MAX_MESSAGE_BYTES = 64 * 1024  # an interaction is a few hundred bytes; more is a mistake or an attack
MAX_EMBEDDED_BYTES = 256 * 1024  # of an embedded interaction: a row of the bags has to fit a record of 1 MiB
MAX_TIMESTAMP = 253_402_300_799_999  # the last millisecond of the year 9999, where RFC 3339 ends

EARLIEST = 631_152_000_000  # milliseconds, 1990-01-01T00:00:00Z: seconds that are read as milliseconds lie in 1970

# Other systems use identifiers as keys, file names and cells of tables: no control characters, and a bounded length.
# The schema says so with `not`: in some languages, Python among them, `$` matches before a final line feed as well.
SAFE: dict[str, Any] = {"not": {"pattern": UNSAFE_PATTERN}}
MAX_ID, MAX_EVENT_ID = 256, 128  # characters
Text = Annotated[str, Meta(min_length=1, extra_json_schema=SAFE)]
UserId = Annotated[Text, Meta(max_length=MAX_ID, description="the shopper")]
ItemId = Annotated[Text, Meta(max_length=MAX_ID, description="the item in the picture")]
EventId = Annotated[
    Text,
    Meta(
        max_length=MAX_EVENT_ID,
        description="the same each time that an event is sent; derived from the other fields if missing",
    ),
]
ImageUrl = Annotated[
    Text,
    Meta(max_length=2048, description="URL of the item's picture, http or https; JPEG, PNG, WebP, GIF or AVIF"),
]
Number = Annotated[
    int, Meta(description="an integer is the same as its decimal text")
]  # an id as producers may write it
Timestamp = (
    Annotated[datetime, Meta(tz=True, description="RFC 3339, with a time zone")]
    | Annotated[int, Meta(ge=0, le=MAX_TIMESTAMP, description="milliseconds since 1970-01-01T00:00:00Z")]
)


class InteractionMessage(Struct, frozen=True, kw_only=True):
    """An event of the shop, as it is written to `user-interactions`. Other fields are ignored."""

    user_id: UserId | Number
    type: InteractionType
    timestamp: Timestamp
    event_id: EventId | Number | None = None
    item_id: ItemId | Number | None = None
    image_url: ImageUrl | None = None


class Interaction(Struct, frozen=True, kw_only=True, gc=False):
    """A valid interaction: the timestamp is in milliseconds since the epoch, and there always is an event id.

    `item_id` is "" for an `erase`. `image_url` is "" for an `erase`, and may be "" for a `return`.
    """

    event_id: str
    user_id: str
    item_id: str
    type: InteractionType
    timestamp: int
    image_url: str


class Code(NamedTuple):
    """An embedding in an embedded interaction."""

    embedder_version: str
    embedding: bytes  # as `model.quantization` encodes it
    adapted: bool  # whether it was made from the embedding of another embedder, and not from the picture


class EmbeddedInteraction(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An interaction with the embeddings of its picture, as the embed worker publishes it (MessagePack).

    `embedding` holds the bytes of `model.quantization`, and `embedder_version` says which embedder made them. Both
    are empty for `return` and `erase`, which need no picture. While a bundle is being prepared, `next_embedding` is that of its
    embedder. Ids and timestamps have the same bounds as in an interaction, because they become keys of rows.

    A prepared interaction brings an embedding for a picture that is in the bag already, and nothing else: no recommendation
    follows.
    """

    event_id: EventId
    user_id: UserId
    item_id: Annotated[str, Meta(max_length=MAX_ID, extra_json_schema=SAFE)]  # "" for an `erase`
    type: InteractionType
    timestamp: Annotated[int, Meta(ge=0, le=MAX_TIMESTAMP)]
    image_url: Annotated[str, Meta(max_length=2048, extra_json_schema=SAFE)] = ""
    embedder_version: str = field(default="", name="embedder")  # the name on the topic
    embedding: bytes = b""
    adapted: bool = False  # whether `embedding` was made from that of another embedder, and not from the picture
    next_embedder_version: str = field(default="", name="next_embedder")
    next_embedding: bytes = b""
    prepared: bool = False

    @property
    def codes(self) -> list[Code]:
        """The embeddings that there are."""
        found = [
            Code(self.embedder_version, self.embedding, self.adapted),
            Code(self.next_embedder_version, self.next_embedding, adapted=False),
        ]
        return [code for code in found if code.embedding]


class Model(Struct, frozen=True, gc=False):
    """The bundle that made a recommendation."""

    name: str
    version: str


class CategoryScore(Struct, frozen=True, gc=False):
    """How likely it is that the user wants this category next."""

    category: str
    score: Annotated[float, Meta(ge=0, le=1)]


class FieldScores(Struct, frozen=True, gc=False):
    """The best values of a field: of categories that exclude each other, such as the colours."""

    field: str
    values: Annotated[list[CategoryScore], Meta(description="best first; the scores of all values of a field sum to 1")]


class ItemAttention(Struct, frozen=True, gc=False):
    """How much an item of the bag contributed to the scores. The weights of a bag sum to 1."""

    item_id: str
    weight: Annotated[float, Meta(ge=0, le=1)]


class Recommendation(Struct, frozen=True, kw_only=True, gc=False):
    """A recommendation, as it is published to `user-recommendations`, keyed by user. The value is null after an erasure."""

    user_id: str
    event_id: Annotated[str, Meta(description="id of the event that caused the recommendation")]
    timestamp: Annotated[datetime, Meta(tz=True, description="timestamp of that event")]
    produced_at: Annotated[datetime, Meta(tz=True, description="when the recommendation was made")]
    model: Model
    bag_size: Annotated[int, Meta(ge=0, description="number of items that were scored")]
    cold_start: Annotated[
        bool,
        Meta(description="whether the bag is empty; the categories are the model's prior then, or follow the trend"),
    ]
    categories: Annotated[list[CategoryScore], Meta(description="the categories with the highest scores, best first")]
    attention: Annotated[list[ItemAttention], Meta(description="the items with the highest weights, heaviest first")]
    fields: Annotated[list[FieldScores], Meta(description="the best values of each field of the model")] = []
    trend_version: (
        Annotated[
            int, Meta(description="offset on `category-trend` up to which the trend counts; null without a trend")
        ]
        | None
    ) = None


_interaction_decoder = msgspec.json.Decoder(InteractionMessage)
_embedded_decoder = msgspec.msgpack.Decoder(EmbeddedInteraction)
encode_embedded = msgspec.msgpack.Encoder().encode
encode_recommendation = msgspec.json.Encoder().encode


def parse_interaction(value: bytes | None, *, now: float, max_future: float, earliest: int = EARLIEST) -> Interaction:
    """Parse a value of `user-interactions`.

    Args:
        value: JSON.
        now: The clock, seconds since the epoch.
        max_future: Seconds that the timestamp may be ahead of the clock.
        earliest: The least timestamp, milliseconds since the epoch.

    Raises:
        MessageError: Something is missing, mistyped, oversized or unsafe; `field` names it.
    """
    if not value:
        raise MessageError("empty_message", "the value is empty; an interaction is a JSON object")
    if len(value) > MAX_MESSAGE_BYTES:
        raise MessageError(
            "message_too_large", f"the value has {len(value)} bytes; at most {MAX_MESSAGE_BYTES} are accepted"
        )
    try:
        message = _interaction_decoder.decode(value)
    except msgspec.ValidationError as error:
        raise message_error(error) from error
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
    ) as error:  # a few kilobytes can nest deeper than the stack
        raise MessageError("invalid_json", f"the value is not JSON: {error}") from error

    event_id, user_id, item_id = (
        checked("event_id", message.event_id, MAX_EVENT_ID),
        checked("user_id", message.user_id, MAX_ID) or "",
        checked("item_id", message.item_id, MAX_ID),
    )
    image_url = checked("image_url", message.image_url)
    timestamp = _time(message.timestamp, now=now, max_future=max_future, earliest=earliest)
    erase = message.type == "erase"
    if not erase:
        if item_id is None:
            raise MessageError("missing_field", f"item_id is missing; a {message.type} needs it", field="item_id")
        if image_url is None and message.type != "return":
            raise MessageError("missing_field", f"image_url is missing; a {message.type} needs it", field="image_url")
    item_id = "" if erase else item_id or ""
    image_url = "" if erase else image_url or ""
    return Interaction(
        event_id=event_id or derived_event_id(user_id, item_id, message.type, timestamp, image_url),
        user_id=user_id,
        item_id=item_id,
        type=message.type,
        timestamp=timestamp,
        image_url=image_url,
    )


def as_id(given: Any) -> str | None:
    """An id as text: an integer is the same as its decimal text. None if it can be no id."""
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    return given if isinstance(given, str) else None


def checked(name: str, given: str | int | None, max_length: int | None = None) -> str | None:
    """The text of a field, of which msgspec has checked the length unless it was an integer. Raises MessageError."""
    text = as_id(given)
    if text is None:
        return None
    if max_length is not None and len(text) > max_length:
        raise MessageError("invalid_field", f"{name}: Expected an integer of at most {max_length} digits", field=name)
    if found := UNSAFE.search(text):
        raise MessageError(
            "invalid_field",
            f"{name}: contains the control character {visible(found[0])} at character {found.start()}; "
            "send text without control characters",
            field=name,
        )
    return text


def _time(given: datetime | int, *, now: float, max_future: float, earliest: int) -> int:
    """A timestamp in milliseconds since the epoch. Raises MessageError if it is out of bounds."""
    timestamp = given if isinstance(given, int) else milliseconds(given)
    if not 0 <= timestamp <= MAX_TIMESTAMP:  # in UTC: an offset can lead out of the years of a datetime
        raise MessageError("invalid_field", f"timestamp {given} is before 1970 or after 9999", field="timestamp")
    if timestamp < earliest:
        raise MessageError(
            "timestamp_too_old",
            f"timestamp {given} is {as_datetime(timestamp).isoformat()}, before {as_datetime(earliest):%Y-%m-%d} "
            "(EARLIEST_DATE); an integer has to be milliseconds since 1970, and not seconds",
            field="timestamp",
        )
    if timestamp > (now + max_future) * 1000:
        raise MessageError(
            "timestamp_in_future",
            f"timestamp {as_datetime(timestamp).isoformat()} is more than {max_future:g} s (MAX_FUTURE) ahead of the clock",
            field="timestamp",
        )
    return timestamp


def parse_embedded(value: bytes | None) -> EmbeddedInteraction:
    """Parse a value of `embedded-interactions`, MessagePack. Raises MessageError, as `parse_interaction` does."""
    if not value:
        raise MessageError("empty_message", "the value is empty; an embedded interaction is a MessagePack map")
    if len(value) > MAX_EMBEDDED_BYTES:
        raise MessageError(
            "message_too_large", f"the value has {len(value)} bytes; at most {MAX_EMBEDDED_BYTES} are accepted"
        )
    try:
        event = _embedded_decoder.decode(value)
    except msgspec.ValidationError as error:
        raise message_error(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError("invalid_msgpack", f"the value is not MessagePack: {error}") from error
    for name in ("event_id", "user_id", "item_id", "image_url"):
        checked(name, getattr(event, name))
    return event


def with_embedding(interaction: Interaction, embedder_version: str, embedding: bytes) -> EmbeddedInteraction:
    """An interaction with the embedding that this embedder made of its picture; b"" for a type without a picture."""
    return EmbeddedInteraction(
        event_id=interaction.event_id,
        user_id=interaction.user_id,
        item_id=interaction.item_id,
        type=interaction.type,
        timestamp=interaction.timestamp,
        image_url=interaction.image_url,
        embedder_version=embedder_version if embedding else "",
        embedding=embedding,
    )


def derived_event_id(user_id: str, item_id: str, kind: str, timestamp: int, image_url: str) -> str:
    """An event id made of the other fields, so that an event that is sent again keeps its id. 128 bits of SHA-256, in hex."""
    fields = msgspec.json.encode([user_id, item_id, kind, timestamp, image_url])
    return "derived-" + hashlib.sha256(fields).hexdigest()[:32]


def milliseconds(time: datetime) -> int:
    """Milliseconds since the epoch, rounded down."""
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def as_datetime(timestamp: int) -> datetime:
    """The time, UTC, of `timestamp` milliseconds since the epoch."""
    return datetime.fromtimestamp(timestamp // 1000, UTC).replace(microsecond=timestamp % 1000 * 1000)


def message_error(error: msgspec.ValidationError) -> MessageError:
    """A MessageError with the bare name of the field, which msgspec gives as a JSON path or in backquotes."""
    text = str(error)
    missing = re.search(r"missing required field `(\w+)`", text)
    if missing:
        return MessageError("missing_field", f"{missing[1]} is missing", field=missing[1])
    place = re.search(r" - at `\$\.?([^`]*)`", text)
    field = place[1] if place else ""
    fact = text.removesuffix(place[0]) if place else text
    if field == "timestamp":
        fact += "; write RFC 3339 with a time zone, or integer milliseconds since 1970"
    return MessageError("invalid_field", f"{field or 'the message'}: {fact}", field=field)


def json_schema(message: Any) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one of the types above."""
    schema = msgspec.json.schema(message)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
