"""The place up to which the features topic has been read."""

from pathlib import Path

import pytest

from streams.features.position import Position, read_position, write_position

HERE = Position("topic-1", "cache-1", {"v1": {0: 5, 1: 9}})


def test_a_position_is_found_again(tmp_path: Path) -> None:
    assert read_position(tmp_path / "p.json") == Position()
    write_position(tmp_path / "p.json", HERE)
    assert read_position(tmp_path / "p.json") == HERE
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"offsets": {"v1": {"x": 1}}}', b'{"offsets": 7}', b"\xff"])
def test_a_damaged_file_is_the_beginning(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "p.json").write_bytes(content)
    assert read_position(tmp_path / "p.json") == Position()
    assert caplog.text.count("cannot be read, so the features of pictures are read from the beginning") == 1


@pytest.mark.parametrize(
    ("topic", "cache", "offsets"),
    [
        ("topic-1", "cache-1", {0: 5, 1: 9}),
        ("", "cache-1", {0: 5, 1: 9}),  # a broker without ids
        ("topic-2", "cache-1", {}),
        ("topic-1", "cache-2", {}),
    ],
)
def test_another_topic_or_cache_starts_at_the_beginning(topic: str, cache: str, offsets: dict[int, int]) -> None:
    assert HERE.of(topic, cache, ["v1"]) == Position(topic, cache, {"v1": offsets})


def test_a_new_version_is_read_from_the_beginning_and_the_others_are_not_read_again() -> None:
    both = HERE.of("topic-1", "cache-1", ["v1", "v2"])
    assert both.offsets == {"v1": {0: 5, 1: 9}, "v2": {}}
    assert (both.start(0), both.start(1), both.start(2)) == (0, 0, 0)
    read = both.at({0: 7, 1: 2})
    assert read.offsets == {"v1": {0: 7, 1: 9}, "v2": {0: 7, 1: 2}}
    assert (read.start(0), read.start(1)) == (7, 2)
    assert read.of("topic-1", "cache-1", ["v2"]).offsets == {"v2": {0: 7, 1: 2}}
