"""Which generation of the internal topics is in use, and how a resize goes through the layouts."""

import msgspec
import pytest

from streams.exceptions import TopicsError
from streams.kafka.generations import (
    FIRST,
    Layout,
    abandoned,
    begun,
    decoded,
    draining,
    filling,
    going_back,
    switched,
)
from streams.settings import read_settings


def test_a_resize_goes_to_a_new_generation_and_keeps_the_one_before() -> None:
    copying = begun(FIRST, 6)
    assert (copying.serving, copying.events, copying.target, copying.partitions) == (1, 1, 2, {2: 6})
    assert not copying.is_draining
    waiting = draining(copying)
    assert (waiting.serving, waiting.events) == (1, 2)
    assert waiting.is_draining
    after = switched(waiting, {0: 70})
    assert after == Layout(serving=2, events=2, kept=1, last=2, partitions={2: 6}, marks={0: 70})
    assert after.in_use == {1, 2}


def test_a_rollback_copies_only_what_came_since_the_switch() -> None:
    back = going_back(switched(draining(begun(FIRST, 6)), {0: 70, 1: 80}))
    assert (back.serving, back.target, back.copied) == (2, 1, {0: 70, 1: 80})
    after = switched(draining(back), {0: 9})
    assert (after.serving, after.kept, after.events, after.marks) == (1, 2, 1, {0: 9})


def test_a_resize_that_is_taken_back_leaves_its_generation_unused_and_no_number_is_used_twice() -> None:
    taken_back = abandoned(draining(begun(FIRST, 6)))
    assert taken_back.in_use == {1}
    assert taken_back.events == 1
    assert begun(taken_back, 6).target == 3


def test_events_go_to_the_serving_generation_again_when_a_drain_is_taken_back() -> None:
    again = filling(draining(begun(FIRST, 6)))
    assert (again.events, again.target) == (1, 2)


def test_a_layout_is_read_as_it_was_written() -> None:
    layout = switched(draining(begun(FIRST, 6)), {0: 70, 11: 80})
    assert decoded(msgspec.json.encode(layout), "generations") == layout


@pytest.mark.parametrize("value", [b"", b"[]", b"{", b'{"serving": "two"}', b"\xff"])
def test_what_is_no_layout_is_refused(value: bytes) -> None:
    with pytest.raises(TopicsError, match="topic generations holds a record that is no layout"):
        decoded(value, "generations")


def test_a_generation_has_topics_and_a_group_of_its_own() -> None:
    settings = read_settings(namespace="shop")
    second = settings.of_generation(2)
    assert second.embedded_topic == "shop-embedded-interactions-g2"
    assert second.profile_group == "shop-tastestream-profile-g2"
    assert second.bags_changelog == "shop-tastestream-profile-g2-bags-changelog"
    assert second.bags_folder == "bags-g2"
    assert second.embed_group == settings.embed_group
    assert second.of_generation(3).embedded_topic == "shop-embedded-interactions-g3"
    first = second.of_generation(1)
    assert (first.embedded_topic, first.bags_changelog) == (settings.embedded_topic, settings.bags_changelog)
    assert settings.generation == 1
