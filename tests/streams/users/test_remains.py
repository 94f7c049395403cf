"""Where data of an erased user still is, and until when."""

from datetime import UTC, datetime, timedelta

from streams.kafka.topics import TopicSpec
from streams.users.remains import remainders
from streams.users.report import remaining

ERASED = datetime(2026, 5, 1, tzinfo=UTC)
SPECS = [TopicSpec("events", "", "delete"), TopicSpec("bags", "", "compact"), TopicSpec("features", "", "compact")]
PERSONAL = {"events": "events", "bags": "rows"}


def test_an_event_stays_for_the_retention_after_its_file_is_full() -> None:
    configs = {"events": {"retention.ms": "86400000", "segment.ms": "3600000"}}
    [one] = remainders(SPECS, configs, PERSONAL, ERASED)
    assert one.until == ERASED + timedelta(hours=25)
    assert remaining(one) == "events: events, until 2026-05-02 01:00Z (segment.ms 1:00:00, retention.ms 1 day, 0:00:00)"


def test_a_replaced_value_stays_until_its_file_has_to_be_compacted() -> None:
    configs = {"bags": {"max.compaction.lag.ms": "86400000", "segment.ms": "86400000", "retention.ms": "1"}}
    [one] = remainders(SPECS, configs, PERSONAL, ERASED)
    assert one.until == ERASED + timedelta(days=2)


def test_a_topic_without_a_limit_is_named_as_such() -> None:
    endless = {"events": {"retention.ms": "-1", "segment.ms": "1"}, "bags": {"max.compaction.lag.ms": str(2**63 - 1)}}
    found = remainders(SPECS, endless, PERSONAL, ERASED)
    assert [one.until for one in found] == [None, None]
    assert remaining(found[0]) == (
        "events: events, without a limit that the topic sets (segment.ms 0:00:00, retention.ms without a limit)"
    )


def test_topics_without_personal_data_and_topics_that_do_not_exist_are_left_out() -> None:
    configs = {"features": {"max.compaction.lag.ms": "1", "segment.ms": "1"}}
    assert remainders(SPECS, configs, PERSONAL, ERASED) == []
