"""Which record answers which event."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from streams.dead_letter import Letter, Origin, dead_letter
from streams.exceptions import EventError
from streams.messages import (
    EVENT_ID_HEADER,
    EmbeddedInteraction,
    Model,
    Recommendation,
    encode_embedded,
    encode_recommendation,
)
from streams.send.answers import Answer, Awaited, Erased, Sent
from streams.send.events import Event, checked_event, event_value, unchecked_event
from streams.send.report import details, heading, json_line, summary
from tests.records import record

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def sent(user: str, event_id: str, offset: int) -> Sent:
    value = event_value(user_id=user, type="erase", timestamp=1, event_id=event_id)
    return Sent(checked_event(value, now=2e9, max_future=0, earliest=0), Origin("in", 0, offset), 0.0)


def recommendation(user: str, event_id: str) -> Recommendation:
    return Recommendation(
        user_id=user, event_id=event_id, timestamp=NOW, produced_at=NOW, model=Model("m", "1"), bag_size=1,
        cold_start=False, categories=[], attention=[],
    )  # fmt: skip


def recommended(user: str, event_id: str) -> Any:
    return record(topic="out", key=user.encode(), value=encode_recommendation(recommendation(user, event_id)))


def erased(user: str, event_id: str) -> Any:
    return record(topic="out", key=user.encode(), value=None, headers=[(EVENT_ID_HEADER, event_id.encode())])


def letter_of(original: Any, worker: str) -> Any:
    key, value, headers = dead_letter(
        original, EventError("http_status", "gone", field="image_url"), worker=worker, at=NOW
    )
    return record(topic="dlq", key=key, value=value, headers=headers)


@pytest.fixture
def awaited() -> Awaited:
    return Awaited("out", "dlq")


def test_a_recommendation_and_a_null_value_answer_the_event_that_they_name(awaited: Awaited) -> None:
    first, second = sent("ada", "one", 1), sent("ada", "two", 2)
    awaited.add(first)
    awaited.add(second)
    assert awaited.take(recommended("bob", "one")) is None
    assert awaited.take(recommended("ada", "three")) is None
    assert awaited.take(recommended("ada", "two")) == (second, recommendation("ada", "two"))
    assert awaited.take(recommended("ada", "two")) is None, "it was answered"
    assert awaited.take(erased("ada", "one")) == (first, Erased())
    assert len(awaited) == 0


def test_an_event_that_was_sent_twice_is_answered_twice(awaited: Awaited) -> None:
    first, second = sent("ada", "one", 1), sent("ada", "one", 2)
    awaited.add(first)
    awaited.add(second)
    answered = [awaited.take(recommended("ada", "one")) for _ in range(3)]
    assert [one and one[0] for one in answered] == [first, second, None]


def test_a_dead_letter_of_the_embed_worker_answers_the_record_that_it_names(awaited: Awaited) -> None:
    broken = Sent(unchecked_event(b"{"), Origin("in", 0, 7), 0.0)
    awaited.add(broken)
    assert awaited.take(letter_of(record(topic="in", offset=8, value=b"{"), "embed")) is None
    found = awaited.take(letter_of(record(topic="in", offset=7, value=b"{"), "embed"))
    assert found is not None
    assert found[0] == broken
    assert isinstance(found[1], Letter)
    assert found[1].reason == "http_status"
    assert len(awaited) == 0


def test_a_dead_letter_of_the_profile_worker_answers_the_event_in_it(awaited: Awaited) -> None:
    one = sent("ada", "one", 1)
    awaited.add(one)
    embedded = EmbeddedInteraction(event_id="one", user_id="ada", item_id="lamp", type="view", timestamp=1)
    found = awaited.take(letter_of(record(topic="embedded", offset=99, value=encode_embedded(embedded)), "profile"))
    assert found is not None
    assert found[0] == one


def test_what_is_no_answer_changes_nothing(awaited: Awaited) -> None:
    one = sent("ada", "one", 1)
    awaited.add(one)
    for noise in (
        record(topic="out", value=b"no JSON"),
        record(topic="out", value=None),
        record(topic="dlq", value=b"\xff"),
        record(topic="elsewhere", value=b""),
    ):
        assert awaited.take(noise) is None
    assert awaited.give_up() == [one]
    assert awaited.take(recommended("ada", "one")) is None


# What is shown of it


def shown(answer: Answer | None) -> str:
    one = sent("ada", "one", 1)
    return "\n".join([heading(one, answer, 1.5).plain, *details(answer)])


def test_people_read_what_an_event_caused() -> None:
    assert shown(None) == "ada erase: no answer within 2 s (in/0/1)"
    assert shown(Erased()) == "ada erase: erased after 1.50 s"
    assert shown(recommendation("ada", "one")).startswith("ada erase: recommendation after 1.50 s\n")


def test_json_says_the_outcome_and_the_place() -> None:
    one = sent("ada", "one", 1)
    line = msgspec.json.decode(json_line(one, Erased(), 1.5))
    assert line == {
        "outcome": "erased", "user_id": "ada", "event_id": "one", "topic": "in", "partition": 0, "offset": 1, "seconds": 1.5,
    }  # fmt: skip
    assert msgspec.json.decode(json_line(one, None, 1.5))["outcome"] == "no_answer"


def test_control_characters_of_strangers_are_escaped() -> None:
    event = Event(b"", "ada", "one", "ada \x1b[2J")
    assert "\x1b" not in heading(Sent(event, Origin("in", 0, 1), 0.0), None, 1.0).plain


def test_the_summary_counts_what_there_is() -> None:
    assert summary({"answered": 2, "dead letters": 0, "refused": 1}) == "3 events: 2 answered, 1 refused"
