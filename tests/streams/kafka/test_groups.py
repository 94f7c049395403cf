"""Which consumer groups are taken, and which belong to other topics."""

from dataclasses import replace

import pytest

from streams.exceptions import TopicsError
from streams.kafka.groups import GroupState, GroupUse, check_group, group_uses, subscription
from streams.settings import read_settings

USE = GroupUse("group", "ours", "EMBEDDED_TOPIC", owns="changes")


def state(*members: set[str], committed: tuple[str, ...] = ()) -> GroupState:
    return GroupState(frozenset(committed), tuple(map(frozenset, members)))


def refusal(seen: GroupState) -> str:
    with pytest.raises(TopicsError) as refused:
        check_group(USE, seen)
    message = str(refused.value)
    assert all(part in message for part in ("group with its changelog changes", "TASTESTREAM_EMBEDDED_TOPIC is ours"))
    assert "set TASTESTREAM_NAMESPACE" in message
    return message


@pytest.mark.parametrize(
    "seen",
    [
        state(),
        state(committed=("ours",)),
        state(committed=("ours", "theirs")),
        state({"ours", "changes"}, {"ours", "changes"}, committed=("ours",)),
        state(set()),  # in a rebalance the broker does not say what its members read
    ],
    ids=["new", "ours", "both", "members of ours", "unknown members"],
)
def test_a_group_is_taken(seen: GroupState) -> None:
    check_group(USE, seen)


def test_a_group_with_commits_for_another_topic_only_is_refused() -> None:
    message = refusal(state(committed=("theirs",)))
    assert "belongs to theirs, " in message
    assert (
        "`kafka-consumer-groups.sh --bootstrap-server BROKER --group group --delete-offsets --topic theirs`" in message
    )


def test_the_step_names_every_topic_that_has_to_go() -> None:
    assert "--delete-offsets --topic theirs --topic third`" in refusal(state(committed=("third", "theirs")))


@pytest.mark.parametrize("committed", [(), ("ours",), ("theirs",)])
def test_one_member_with_another_topic_is_enough_to_be_refused(committed: tuple[str, ...]) -> None:
    message = refusal(state({"ours", "changes"}, {"theirs", "changes"}, committed=committed))
    assert "belongs to running workers that read theirs, " in message


def test_an_embed_worker_checks_the_group_behind_it_too_because_it_writes_what_that_group_reads() -> None:
    settings = read_settings(namespace="shop", interactions_topic="clicks")
    embed = GroupUse("shop-tastestream-embed", "clicks", "INTERACTIONS_TOPIC")
    profile = GroupUse(
        "shop-tastestream-profile",
        "shop-embedded-interactions",
        "EMBEDDED_TOPIC",
        owns="shop-tastestream-profile-bags-changelog",
    )
    assert group_uses(settings) == [embed, profile]
    assert group_uses(settings, "embed") == [replace(embed, joins=True), profile]
    assert group_uses(settings, "profile") == [replace(profile, joins=True)]


@pytest.mark.parametrize(
    "metadata",
    [b"", b"\x00", b"\x00\x01\x00\x00\x00\x02\x00\x03abc", b"\x00\x00\x00\x00\x00\x01\x00\x01\xff", b"\xff" * 40],
)
def test_a_member_that_says_nothing_of_its_topics_is_unknown(metadata: bytes) -> None:
    assert subscription(metadata) == frozenset()


def test_the_topics_of_a_member_are_read_from_any_version_of_its_metadata() -> None:
    version_1 = (
        b"\x00\x01\x00\x00\x00\x02\x00\x03abc\x00\x01d\x00\x00\x00\x00" + b"\x00\x00\x00\x00"
    )  # owned partitions at the end
    assert subscription(version_1) == {"abc", "d"}
