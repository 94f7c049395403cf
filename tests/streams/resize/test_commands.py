"""What `topics resize` refuses, and what `--status` says."""

import pytest

from streams.exceptions import TopicsError
from streams.kafka.fleet import Member
from streams.kafka.generations import FIRST, begun, draining, going_back, switched
from streams.resize.commands import check_target, status_lines
from streams.resize.waiting import late, unable
from streams.settings import read_settings

COPYING = begun(FIRST, 6)
AFTER = switched(draining(COPYING), {0: 70})


def status(layout: object) -> str:
    return "\n".join(status_lines(read_settings(), layout))  # pyright: ignore[reportArgumentType]


def test_another_number_than_that_under_way_is_refused_with_both_ways_out() -> None:
    check_target(COPYING, 6)
    with pytest.raises(
        TopicsError, match=r"a resize to 6 partitions is under way: go on with --partitions 6, or .*--rollback"
    ):
        check_target(COPYING, 3)


def test_a_rollback_under_way_has_to_be_finished() -> None:
    with pytest.raises(TopicsError, match="finish it with `tastestream topics resize --rollback`"):
        check_target(going_back(AFTER), 6)


def test_the_status_names_the_topics_and_the_next_step() -> None:
    assert status(FIRST) == ("serves     generation 1: embedded-interactions, tastestream-profile-bags-changelog")
    assert "go on with --partitions 6; --rollback takes it back" in status(COPYING)
    assert "events wait" not in status(COPYING)
    assert "events wait until the move is finished" in status(draining(COPYING))
    assert "kept       generation 1: embedded-interactions, " in status(AFTER)
    assert "--rollback returns to the generation that is kept; --delete-old deletes it" in status(AFTER)
    assert "go on with --rollback" in status(going_back(AFTER))
    rolled_back = status(switched(draining(going_back(AFTER)), {0: 80}))
    assert "kept       generation 2, 6 partitions" in rolled_back
    assert rolled_back.endswith("\n--delete-old deletes the generation that is kept")
    assert "takes it back" not in status(going_back(AFTER))


def test_workers_of_an_earlier_version_and_workers_that_have_not_followed_are_named() -> None:
    before = Member("tastestream-embed", "10.0.0.1", "a", None, None)
    first, second = (Member("tastestream-embed", f"10.0.0.{one + 1}", "b", None, one) for one in (1, 2))
    assert unable([before, first, second]) == ["the member of tastestream-embed at 10.0.0.1"]
    assert late([before, first, second], 2) == ["the embed worker at 10.0.0.1", "the embed worker at 10.0.0.2"]
    assert late([second], 2) == []
    assert late([], 2) == []
