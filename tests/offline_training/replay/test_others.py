"""Which records of the input topic are of others."""

import pytest

from offline_training.replay.play.events import PlayedEvent
from offline_training.replay.play.messages import Naming, encode
from offline_training.replay.play.others import of_others


def test_events_of_any_replay_are_not_of_others() -> None:
    event = PlayedEvent(0, 7, "ada", "hat", "view", 1)
    for naming in (Naming("0123456789abcdef"), Naming("fedcba9876543210", "tag-")):
        assert of_others(encode(naming.interaction(event, "http://x/y"))) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b'{"event_id": "01HV", "user_id": "ada"}', "event 01HV"),
        (b'{"event_id": 17}', "event 17"),
        (b'{"user_id": "ada"}', "an event without an id"),
        (b'{"event_id": "a\\u001b[31m"}', r"event a\x1b[31m"),
        (b'{"event_id": "my replay-1"}', "event my replay-1"),
        (b"[]", "a record that is no event"),
        (b"\x00\xff", "a record that is no event"),
        (b"", "a record that is no event"),
        (None, "a record that is no event"),
    ],
)
def test_any_other_record_is_and_its_id_is_visible_text(value: bytes | None, said: str) -> None:
    assert of_others(value) == said
