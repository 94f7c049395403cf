"""Which bytes are an interaction, which are refused and why; the published documents say the same."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

import jsonschema
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model.preprocessing import DECODERS
from streams.exceptions import MessageError
from streams.messages import (
    MAX_EMBEDDED_BYTES,
    EmbeddedInteraction,
    Interaction,
    as_datetime,
    encode_embedded,
    milliseconds,
    parse_embedded,
    parse_interaction,
)
from streams.schema import EXAMPLE_INTERACTION, asyncapi, interaction_schema, item_schema, recommendation_schema
from streams.settings import read_settings

NOW = datetime(2014, 6, 1, tzinfo=UTC).timestamp()
PURCHASE: dict[str, Any] = {
    "event_id": "e1",
    "user_id": "anna",
    "item_id": "shoe",
    "type": "purchase",
    "timestamp": "2014-05-01T12:00:00Z",
    "image_url": "https://shop.example/shoe.jpg",
}
NOON = 1_398_945_600_000  # 2014-05-01T12:00:00Z
ABSENT = object()

P = ParamSpec("P")
T = TypeVar("T")


def but(**fields: object) -> dict[str, Any]:
    """The purchase with other fields; ABSENT leaves one out."""
    return {name: value for name, value in (PURCHASE | fields).items() if value is not ABSENT}


def parse(event: dict[str, Any]) -> Interaction:
    return parse_interaction(json.dumps(event).encode(), now=NOW, max_future=3600)


def refusal(event: dict[str, Any]) -> MessageError:
    with pytest.raises(MessageError) as refused:
        parse(event)
    return refused.value


def test_a_complete_event_is_accepted_unchanged() -> None:
    assert msgspec.structs.asdict(parse(PURCHASE)) == PURCHASE | {"timestamp": NOON}


def test_unknown_fields_are_ignored() -> None:
    assert parse(but(price=3, nested={"a": [1]})) == parse(PURCHASE)


# Times


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        (NOON, NOON),
        ("2014-05-01T12:00:00Z", NOON),
        ("2014-05-01T12:00:00+00:00", NOON),
        ("2014-05-01T14:00:00+02:00", NOON),
        ("2014-05-01T06:30:00-05:30", NOON),
        ("2014-05-01T12:00:00.123Z", NOON + 123),
        ("2014-05-01T12:00:00.123999Z", NOON + 123),
        ("1990-01-01T00:00:00Z", 631_152_000_000),
        (631_152_000_000, 631_152_000_000),
    ],
)
def test_both_forms_of_a_timestamp_are_the_same_time_in_milliseconds(written: str | int, instant: int) -> None:
    assert parse(but(timestamp=written)).timestamp == instant


@given(st.integers(0, 253_402_300_799_999))
def test_milliseconds_survive_the_conversion_to_a_datetime_and_back(timestamp: int) -> None:
    assert milliseconds(as_datetime(timestamp)) == timestamp


@pytest.mark.parametrize("timestamp", [int(NOW * 1000) + 3_600_001, "2014-06-01T01:00:00.001Z", "9999-12-31T23:59:59Z"])
def test_a_timestamp_too_far_ahead_of_the_clock_is_refused(timestamp: str | int) -> None:
    error = refusal(but(timestamp=timestamp))
    assert (error.reason, error.field) == ("timestamp_in_future", "timestamp")


def test_a_timestamp_a_little_ahead_of_the_clock_is_accepted() -> None:
    assert parse(but(timestamp=int(NOW * 1000) + 3_600_000))


@pytest.mark.parametrize(
    ("timestamp", "read_as"),
    [
        (NOON // 1000, "1970-01-17T04:35:45.600"),
        (0, "1970-01-01T00:00:00"),
        (631_151_999_999, "1989-12-31T23:59:59.999"),
        ("1989-12-31T23:59:59Z", "1989-12-31T23:59:59"),
    ],
)
@pytest.mark.parametrize("kind", ["purchase", "erase"])
def test_a_time_before_1990_is_refused_saying_how_it_was_read_and_that_milliseconds_are_expected(
    timestamp: str | int, read_as: str, kind: str
) -> None:
    error = refusal(but(timestamp=timestamp, type=kind))
    assert (error.reason, error.field) == ("timestamp_too_old", "timestamp")
    assert read_as in str(error)
    assert "milliseconds since 1970" in str(error)


def test_the_least_time_is_an_argument() -> None:
    value = as_json(but(timestamp="1985-03-01T00:00:00Z"))
    assert parse_interaction(value, now=NOW, max_future=0, earliest=0).timestamp == 478_483_200_000


@pytest.mark.parametrize("timestamp", [NOON * 1000, NOON * 1_000_000, 1.398e9, "1398945600"])
def test_a_time_in_another_unit_is_refused_saying_which_is_expected(timestamp: object) -> None:
    assert "integer milliseconds since 1970" in str(refusal(but(timestamp=timestamp)))


# Ids as numbers


@pytest.mark.parametrize("name", ["user_id", "item_id", "event_id"])
@pytest.mark.parametrize("number", [42, 0, -7, 108_775_015, 2**53 + 1, 2**64 + 1, 10**127])
def test_an_integer_is_the_same_id_as_its_decimal_text(name: str, number: int) -> None:
    assert parse(but(**{name: number})) == parse(but(**{name: str(number)}))


def test_zero_has_no_sign() -> None:
    value = json.dumps(but(user_id=0)).replace('"user_id": 0', '"user_id": -0').encode()
    assert parse_interaction(value, now=NOW, max_future=0).user_id == "0"


@pytest.mark.parametrize("resend", [{"user_id": 42, "item_id": 7}, {"user_id": "42", "item_id": "7"}])
def test_an_event_without_an_id_gets_the_same_id_whether_its_ids_are_numbers_or_text(resend: dict[str, object]) -> None:
    one = parse(but(event_id=ABSENT, user_id=42, item_id=7))
    assert parse(but(event_id=ABSENT, **resend)).event_id == one.event_id


# Event ids


@pytest.mark.parametrize(
    "resend", [{}, {"timestamp": NOON}, {"timestamp": "2014-05-01T14:00:00+02:00"}, {"note": "again"}]
)
def test_an_event_without_an_id_is_the_same_event_when_it_is_sent_again(resend: dict[str, object]) -> None:
    assert parse(but(event_id=ABSENT, **resend)).event_id == parse(but(event_id=None)).event_id


@pytest.mark.parametrize(
    "other",
    [
        {"user_id": "bert"},
        {"item_id": "hat"},
        {"type": "view"},
        {"timestamp": NOON + 1},
        {"image_url": "https://a.example/"},
    ],
)
def test_another_event_has_another_derived_id(other: dict[str, object]) -> None:
    assert parse(but(event_id=ABSENT, **other)).event_id != parse(but(event_id=ABSENT)).event_id


def test_a_derived_id_cannot_be_made_equal_by_moving_text_between_fields() -> None:
    one = parse(but(event_id=ABSENT, user_id="ab", item_id="c"))
    two = parse(but(event_id=ABSENT, user_id="a", item_id="bc"))
    assert one.event_id != two.event_id


# Which fields which type needs


def test_an_erase_needs_only_a_user_and_a_timestamp() -> None:
    erase = parse({"user_id": "anna", "type": "erase", "timestamp": NOON})
    assert (erase.item_id, erase.image_url) == ("", "")


def test_an_erase_drops_the_fields_of_an_item() -> None:
    erase = parse(but(type="erase"))
    assert (erase.item_id, erase.image_url) == ("", "")


def test_a_return_needs_no_picture() -> None:
    assert parse(but(type="return", image_url=ABSENT)).image_url == ""


# One table for the parser and the JSON Schema: both accept and refuse the same

ACCEPTED: dict[str, dict[str, Any]] = {
    "purchase": PURCHASE,
    "view": but(type="view"),
    "cart": but(type="cart"),
    "unknown field": but(price=1),
    "no event_id": but(event_id=ABSENT),
    "null event_id": but(event_id=None),
    "integer time": but(timestamp=NOON),
    "return": but(type="return"),
    "return without picture": but(type="return", image_url=ABSENT),
    "return with null picture": but(type="return", image_url=None),
    "bare erase": {"user_id": "anna", "type": "erase", "timestamp": NOON},
    **{f"{name} an integer": but(**{name: 42}) for name in ("user_id", "item_id", "event_id")},
    "erase with null item": but(type="erase", item_id=None, image_url=None),
    "longest user_id": but(user_id="u" * 256),
    "unicode user_id": but(user_id="Zoë 🙂"),
}
CONTROLS = {
    "a line feed": "\n",
    "a carriage return": "\r",
    "a zero byte": "\0",
    "DEL": "\x7f",
    "a C1 control": "\x85",
    "another C1 control": "\x9b",
    "a right-to-left override": "\u202e",
    "a left-to-right isolate": "\u2066",
    "a pop of an isolate": "\u2069",
    "a right-to-left mark": "\u200f",
    "an Arabic letter mark": "\u061c",
    "a line separator": "\u2028",
    "a paragraph separator": "\u2029",
}
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    **{f"no {name}": (but(**{name: ABSENT}), "missing_field", name) for name in PURCHASE if name != "event_id"},
    **{f"null {name}": (but(**{name: None}), "missing_field", name) for name in ("item_id", "image_url")},
    **{f"null {name}": (but(**{name: None}), "invalid_field", name) for name in ("user_id", "type", "timestamp")},
    **{f"{name} a number": (but(**{name: 7}), "invalid_field", name) for name in ("type", "image_url")},
    **{
        f"{name} {value}": (but(**{name: value}), "invalid_field", name)
        for name in ("user_id", "item_id", "event_id")
        for value in (True, False, 1.5, 1e300)
    },
    **{f"{name} too many digits": (but(**{name: 10**256}), "invalid_field", name) for name in ("user_id", "item_id")},
    "event_id too many digits": (but(event_id=10**128), "invalid_field", "event_id"),
    "user_id more digits than Python reads": (but(user_id=10**4299), "invalid_field", "user_id"),
    **{
        f"{name} with {name_of} {where}": (but(**{name: text.format(control)}), "invalid_field", name)
        for name in ("user_id", "item_id", "event_id", "image_url")
        for name_of, control in CONTROLS.items()
        for where, text in {"at the end": "a{}", "alone": "{}", "at the start": "{}a"}.items()
    },
    "timestamp in seconds": (but(timestamp=NOON // 1000), "timestamp_too_old", "timestamp"),
    **{f"{name} a list": (but(**{name: ["x"]}), "invalid_field", name) for name in PURCHASE},
    **{f"{name} empty": (but(**{name: ""}), "invalid_field", name) for name in PURCHASE},
    **{f"{name} with a line end": (but(**{name: "a\nb"}), "invalid_field", name) for name in PURCHASE},
    "timestamp a bool": (but(timestamp=True), "invalid_field", "timestamp"),
    "timestamp a fraction": (but(timestamp=1.5), "invalid_field", "timestamp"),
    "timestamp negative": (but(timestamp=-1), "invalid_field", "timestamp"),
    "timestamp after 9999": (but(timestamp=253_402_300_800_000), "invalid_field", "timestamp"),
    "timestamp after 9999 in UTC": (but(timestamp="9999-12-31T23:59:59-14:00"), "invalid_field", "timestamp"),
    "timestamp without zone": (but(timestamp="2014-05-01T12:00:00"), "invalid_field", "timestamp"),
    "timestamp a day": (but(timestamp="2014-05-01"), "invalid_field", "timestamp"),
    "user_id too long": (but(user_id="u" * 257), "invalid_field", "user_id"),
    "event_id too long": (but(event_id="e" * 129), "invalid_field", "event_id"),
    "image_url too long": (but(image_url="h" * 2049), "invalid_field", "image_url"),
    "unknown type": (but(type="stare"), "invalid_field", "type"),
    "return without item": (but(type="return", item_id=ABSENT), "missing_field", "item_id"),
}
NOT_IN_A_SCHEMA = {  # the schema's `format` is advice
    "timestamp without zone",
    "timestamp a day",
    "timestamp with a line end",
    "timestamp empty",
    "timestamp after 9999 in UTC",
    "timestamp in seconds",  # EARLIEST_DATE is a setting
    *(case for case in REFUSED if "digits" in case or case.endswith(" 1e+300")),  # integers, in JSON Schema
}


def schema_accepts(event: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(interaction_schema()).is_valid(event)


@pytest.mark.parametrize("event", ACCEPTED.values(), ids=ACCEPTED)
def test_the_schema_accepts_what_the_parser_accepts(event: dict[str, Any]) -> None:
    assert parse(event)
    assert schema_accepts(event)


@pytest.mark.parametrize("case", REFUSED)
def test_the_parser_names_the_field_that_it_refuses_and_the_schema_refuses_it_too(case: str) -> None:
    event, reason, field = REFUSED[case]
    error = refusal(event)
    assert (error.reason, error.field) == (reason, field)
    assert field in str(error)
    assert schema_accepts(event) == (case in NOT_IN_A_SCHEMA)


@pytest.mark.parametrize("half", ["\\ud800", "\\udfff", "\\ud800\\u0041", "\\udc00\\ud800"])
def test_half_a_surrogate_pair_is_no_text(half: str) -> None:
    value = json.dumps(PURCHASE).replace("anna", half).encode()
    with pytest.raises(MessageError):
        parse_interaction(value, now=NOW, max_future=0)


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS)
@pytest.mark.parametrize("field", ["event_id", "user_id", "item_id", "image_url"])
def test_an_embedded_interaction_with_a_control_character_is_refused(field: str, control: str) -> None:
    fields: dict[str, Any] = {"event_id": "e", "user_id": "u", "item_id": "i", "type": "view", "timestamp": NOON}
    with pytest.raises(MessageError) as refused:
        parse_embedded(msgspec.msgpack.encode(fields | {field: f"a{control}"}))
    assert (refused.value.reason, refused.value.field) == ("invalid_field", field)
    assert str(refused.value).isprintable()


def test_an_embedded_interaction_is_small_enough_for_the_changelog() -> None:
    """A compressed record of a few kilobytes may hold megabytes, and its row would be refused each time."""
    fields = {"event_id": "e", "user_id": "u", "item_id": "i", "type": "view", "timestamp": NOON, "embedder": "another"}
    with pytest.raises(MessageError) as refused:
        parse_embedded(msgspec.msgpack.encode(fields | {"embedding": bytes(MAX_EMBEDDED_BYTES)}))
    assert refused.value.reason == "message_too_large"


# Any bytes

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20)
json_values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=5), scalars, max_size=3)
nearly_events = st.fixed_dictionaries(
    {}, optional={name: st.just(value) | json_values for name, value in PURCHASE.items()}
)


def outcome(parser: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | MessageError:
    """What a parser returns, or the only exception that it may raise."""
    try:
        return parser(*args, **kwargs)
    except MessageError as error:
        return error


def as_json(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


@given(st.none() | st.binary() | nearly_events.map(as_json))
@example(b'{"x": ' + b"[" * 50_000)
@example(b'{"user_id": "\\ud800", "type": "erase", "timestamp": 0}')
@example(b'{"user_id": "anna\xff", "type": "erase", "timestamp": 0}')
@example(b'{"user_id": "a", "type": "erase", "timestamp": "0001-01-01T00:00:00+14:00"}')
@example(b'{"user_id": "a", "type": "erase", "timestamp": 1e999}')
def test_any_bytes_are_an_interaction_or_a_message_error(value: bytes | None) -> None:
    found = outcome(parse_interaction, value, now=NOW, max_future=3600)
    if isinstance(found, MessageError):
        assert str(found)
        assert found.reason.isidentifier()
    else:
        assert found.user_id.encode()
        assert as_datetime(found.timestamp)
        assert found.event_id


@given(st.none() | st.binary() | nearly_events.map(msgspec.msgpack.encode))
@example(b"\x81\xa1x" + b"\x91" * 50_000)
@example(msgspec.msgpack.encode(PURCHASE | {"timestamp": 2**63}))
def test_any_bytes_are_an_embedded_interaction_or_a_message_error(value: bytes | None) -> None:
    found = outcome(parse_embedded, value)
    assert found.reason.isidentifier() if isinstance(found, MessageError) else as_datetime(found.timestamp)


@pytest.mark.parametrize("kind", ["purchase", "return", "erase"])
def test_the_profile_worker_reads_what_the_embed_worker_writes(kind: Any) -> None:
    event = EmbeddedInteraction(
        event_id="e1", user_id="anna", item_id="" if kind == "erase" else "shoe", type=kind, timestamp=NOON
    )
    assert parse_embedded(encode_embedded(event)) == event


# The documents


def test_the_example_in_the_schema_is_an_interaction() -> None:
    assert parse(EXAMPLE_INTERACTION)
    assert schema_accepts(EXAMPLE_INTERACTION)


@pytest.mark.parametrize("schema", [interaction_schema(), recommendation_schema()])
def test_the_schemas_are_valid_schemas(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_schema_names_every_picture_format_that_is_read() -> None:
    fields = interaction_schema()["$defs"]["InteractionMessage"]["properties"]
    described = json.dumps(fields["image_url"]).upper()
    assert [name for name in DECODERS if name not in described] == []


def test_the_asyncapi_document_has_all_topics_with_their_names_in_the_settings() -> None:
    document = asyncapi(read_settings(interactions_topic="clicks"))
    assert [channel["address"] for channel in document["channels"].values()] == [
        "clicks",
        "items",
        "embedded-interactions",
        "user-recommendations",
        "user-interactions-dlq",
    ]
    assert document["asyncapi"].startswith("3.")
    channels = {f"#/channels/{name}" for name in document["channels"]}
    assert {operation["channel"]["$ref"] for operation in document["operations"].values()} == channels


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("asyncapi", asyncapi(read_settings())),
        ("interaction", interaction_schema()),
        ("item", item_schema()),
        ("recommendation", recommendation_schema()),
    ],
)
def test_the_command_prints_the_documents(name: str, document: dict[str, Any]) -> None:
    done = subprocess.run([sys.executable, "-m", "streams", "schema", name], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == document
