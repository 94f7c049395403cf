"""The number of partitions that the bags are spread over follows from where their rows are."""

import random

import pytest

from streams.engine.producer import partition_of
from streams.profile.rows import user_prefix
from streams.profile.spread import spread


def rows(users: int, partitions: int, *, seed: int = 0) -> list[tuple[int, bytes]]:
    """Partition and key of a header row of each user."""
    names = [f"user-{number}" for number in random.Random(seed).sample(range(10_000), users)]
    return [(partition_of(name.encode(), partitions), user_prefix(name) + b"\x00") for name in names]


@pytest.mark.parametrize("partitions", [1, 2, 3, 4, 8, 30, 100])
@pytest.mark.parametrize("more", [0, 1, 2, 28])
def test_the_number_at_the_first_bag_is_found(partitions: int, more: int) -> None:
    """Partitions were added to one topic or to both."""
    found = rows(20 * partitions, partitions)
    assert spread(found, usual=partitions + more, most=partitions + more) == partitions
    assert spread(found, usual=partitions, most=partitions + more) == partitions


def test_a_topic_of_events_that_is_smaller_than_the_changelog_does_not_change_the_number() -> None:
    assert spread(rows(40, 4), usual=2, most=4) == 4


@pytest.mark.parametrize(("usual", "most"), [(4, 4), (4, 6), (6, 6)])
def test_without_bags_the_topics_decide(usual: int, most: int) -> None:
    assert spread([], usual=usual, most=most) == usual


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("users", [1, 2, 3])
def test_a_few_users_are_found_where_they_are(users: int, seed: int) -> None:
    """Several numbers may explain their rows; any of them is right."""
    found = rows(users, 4, seed=seed)
    number = spread(found, usual=6, most=6)
    assert all(partition_of(key[2:-1], number) == partition for partition, key in found)


def test_rows_of_strangers_change_nothing() -> None:
    foreign = [
        *((number, user_prefix("nobody") + b"\x00") for number in range(6)),
        (0, b""),
        (1, b"\x00"),
        (2, b"\xff\xff"),
        (3, b"\x00\x00\x00"),
        (4, b"\x00\x09short"),
    ]
    assert spread([*rows(40, 4), *foreign], usual=6, most=6) == 4
    assert spread(foreign, usual=4, most=6) == 4
