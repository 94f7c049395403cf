"""An event of a data set becomes a message that the workers read without loss."""

import pytest

from offline_training.replay.play.events import PlayedEvent
from offline_training.replay.play.messages import Naming, encode
from streams.messages import parse_interaction

EVENT = PlayedEvent(2, 5, "ada", "hat", "purchase", 1_600_000_000_123)
NAMING = Naming("0123456789abcdef", "second-")


@pytest.mark.parametrize("kind", ["view", "cart", "purchase", "return"])
def test_the_workers_read_the_event_as_it_was(kind: str) -> None:
    event = EVENT._replace(type=kind)
    sent = NAMING.interaction(event, "http://127.0.0.1:1/5")
    assert parse_interaction(encode(sent), now=2e9, max_future=0) == sent
    assert (sent.timestamp, sent.item_id, sent.type) == (event.time, "hat", kind)
    assert sent.user_id == "second-ada"


def test_event_ids_are_stable_and_sort_in_the_order_of_the_events() -> None:
    ids = [NAMING.event_id(number) for number in (0, 9, 10, 99, 100, 1_000_000)]
    assert ids == sorted(ids) == [NAMING.event_id(number) for number in (0, 9, 10, 99, 100, 1_000_000)]
    assert NAMING.number(ids[-1]) == 1_000_000


@pytest.mark.parametrize(
    "event_id",
    ["", "hm-3", "replay-", Naming("0123456789abcdef").event_id(5), Naming("f" * 16, "second-").event_id(5),
     NAMING.prefix, NAMING.prefix + "x", NAMING.prefix + "-1"],
)  # fmt: skip
def test_ids_of_other_events_are_not_recognised(event_id: str) -> None:
    assert NAMING.number(event_id) is None
