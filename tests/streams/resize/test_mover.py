"""Which partition a row goes to, and which rows no worker reads."""

from streams.kafka.partitioning import partition_of
from streams.profile.rows import header_of, slot_key, user_prefix
from streams.resize.mover import at_home, home_of


def test_all_rows_of_a_user_go_to_the_partition_of_the_user() -> None:
    for user in ("ada", "grace", "ü" * 40):
        expected = partition_of(user.encode(), 7)
        assert home_of(slot_key(user, "shoe"), 7) == expected
        assert home_of(header_of(user_prefix(user)), 7) == expected


def test_rows_in_a_partition_that_is_not_that_of_their_user_are_left_behind() -> None:
    key = slot_key("ada", "shoe")
    home = home_of(key, 4)
    assert at_home([(key, b"1")], home, 4) == [(key, b"1")]
    assert at_home([(key, b"1")], (home + 1) % 4, 4) == []
