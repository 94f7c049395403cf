"""Events to send: made of options, and lines as they are."""

import json

import pytest

from streams.exceptions import MessageError
from streams.messages import derived_event_id
from streams.send.events import checked_event, event_value, unchecked_event

VALUE = event_value(user_id="ada", item_id="lamp", type="view", timestamp=1_400_000_000_000, image_url="http://a/b")


def test_a_field_without_a_value_is_left_out() -> None:
    assert json.loads(event_value(user_id="ada", item_id=None, timestamp=0)) == {"user_id": "ada", "timestamp": 0}


def test_an_event_is_keyed_by_its_user_and_knows_the_id_that_its_answer_will_have() -> None:
    event = checked_event(VALUE, now=2e9, max_future=0, earliest=0)
    assert (event.value, event.key, event.name) == (VALUE, b"ada", "ada view lamp")
    assert event.event_id == derived_event_id("ada", "lamp", "view", 1_400_000_000_000, "http://a/b")


def test_what_the_worker_would_refuse_is_refused_and_names_the_field() -> None:
    with pytest.raises(MessageError, match="image_url is missing"):
        checked_event(
            event_value(user_id="ada", item_id="lamp", type="view", timestamp=1), now=2e9, max_future=0, earliest=0
        )
    with pytest.raises(MessageError, match="ahead of the clock"):
        checked_event(VALUE, now=1e9, max_future=0, earliest=0)


def test_an_unchecked_event_may_be_anything() -> None:
    assert unchecked_event(VALUE) == checked_event(VALUE, now=2e9, max_future=0, earliest=0)
    broken = unchecked_event(b"{")
    assert (broken.value, broken.key, broken.event_id) == (b"{", None, "")
