"""What is committed beside an offset names the topic, and the texts of others do not."""

import pytest

from streams.kafka.metadata import DescribedTopic, marked_id


@pytest.mark.parametrize("number", ["", "4e366d94-70ec-4d1a-a434-462a083f046e"])
def test_the_id_of_a_topic_can_be_read_back(number: str) -> None:
    assert marked_id(DescribedTopic(4, number).mark) == number


@pytest.mark.parametrize("text", ["", None, "metadata", '{"topic-id": 3}', " topic-id=3", "topic-id"])
def test_a_text_of_another_tool_names_no_topic(text: str | None) -> None:
    assert marked_id(text) == ""


@pytest.mark.parametrize(
    ("before", "now", "another"), [("a", "b", True), ("a", "a", False), ("", "b", False), ("a", "", False)]
)
def test_only_two_different_ids_make_another_topic(before: str, now: str, another: bool) -> None:
    assert DescribedTopic(4, before).is_another(DescribedTopic(4, now)) is another
