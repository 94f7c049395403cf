"""What differs between the configuration of a topic and what it has to be."""

from streams.kafka.configs import differences


def names(wanted: dict[str, str], found: dict[str, str]) -> list[str]:
    return [one.name for one in differences(wanted, found)]


def test_a_retention_has_to_be_the_one_of_the_settings() -> None:
    assert names({"retention.ms": "10"}, {"retention.ms": "10"}) == []
    assert names({"retention.ms": "10"}, {"retention.ms": "9"}) == ["retention.ms"]
    assert names({"retention.ms": "10"}, {"retention.ms": "-1"}) == ["retention.ms"]


def test_values_may_be_compacted_sooner_and_not_later() -> None:
    wanted = {"max.compaction.lag.ms": "10", "segment.ms": "10", "min.compaction.lag.ms": "5"}
    assert names(wanted, {"max.compaction.lag.ms": "9", "segment.ms": "1", "min.compaction.lag.ms": "6"}) == []
    later = {"max.compaction.lag.ms": "11", "segment.ms": "11", "min.compaction.lag.ms": "4"}
    assert names(wanted, later) == list(wanted)
    assert names({"segment.ms": "10"}, {"segment.ms": "-1"}) == ["segment.ms"], "no limit at all"


def test_what_the_broker_does_not_report_counts_as_right() -> None:
    assert names({"retention.ms": "10"}, {}) == []
