"""`tastestream lag` says what is unfinished, how old it is and who has the partition, within 80 columns."""

import io

import pytest

from streams.console import PlainConsole
from streams.kafka.lag import GroupLag, Owner, PartitionLag
from streams.lag import age, show_group, summary

ADA = Owner(client="tastestream-profile-shop-profile-0", host="2001:db8:85a3::8a2e:370:7334", member="m")


def group(*partitions: PartitionLag, state: str = "Stable") -> GroupLag:
    return GroupLag(topic="events", group="workers", state=state, members=1, partitions=list(partitions))


def lag(partition: int, events: int | None, seconds: float | None, owner: Owner | None = ADA) -> PartitionLag:
    return PartitionLag(partition=partition, position=None, events=events, seconds=seconds, owner=owner)


def printed(one: GroupLag) -> list[str]:
    out = io.StringIO()
    show_group(PlainConsole(file=out, width=80), one)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "unknown"),
        (0.0, "-"),
        (0.04, "0.0 s"),
        (59.96, "60.0 s"),
        (61.0, "1 m 1 s"),
        (7260.0, "2 h 1 m"),
        (90_000.0, "1 d 1 h"),
    ],
)
def test_an_age_has_two_units(seconds: float | None, shown: str) -> None:
    assert age(seconds) == shown


def test_a_long_name_is_folded_and_not_cut() -> None:
    lines = printed(group(lag(0, 12_345_678, 86_400 * 400)))
    assert max(map(len, lines)) <= 80
    shown = "".join(line.split("│")[4].strip() for line in lines if line.startswith("│"))
    assert shown == f"{ADA.client} at{ADA.host}", "the line breaks at a space"


def test_a_partition_has_a_worker_or_none_or_nobody_knows() -> None:
    def worker(one: GroupLag) -> str:
        return printed(one)[-2].split("│")[4].strip()

    assert worker(group(lag(0, 1, 1.0, None))) == "none"
    assert worker(group(lag(0, 1, 1.0, None), state="PreparingRebalance")) == "unknown"


def test_escapes_of_a_stranger_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in "".join(printed(group(lag(0, 0, 0.0, Owner("\x1b[2J", "host", "m")))))


def test_the_summary_names_what_nobody_reads() -> None:
    found = summary([group(*(lag(number, 2, 30.0, None) for number in range(7)))])
    assert found == (
        "14 unfinished events in 7 partitions, the oldest 30.0 s old; "
        "no worker reads events/0, events/1, events/2, events/3, events/4 and others"
    )
    assert summary([group(lag(0, 0, 0.0, None))]) == "no event is unfinished"
    assert summary([group(lag(0, 1, None))]) == "1 unfinished event in 1 partition"
    assert summary([group(lag(0, None, None))]) == "the lag of some partitions is unknown"
