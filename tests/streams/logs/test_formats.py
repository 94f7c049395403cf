"""A line names its worker and, where there is one, its record and event; JSON is one object a line, whatever a message quotes."""

import asyncio
import json
import logging

import pytest

from streams.logs.formats import JsonLines, TextLines
from streams.logs.place import about, found_event, place, working_on
from tests.records import record
from tests.streams.test_text import HOSTILE


def line_of(text: str) -> logging.LogRecord:
    return logging.LogRecord("streams.embed.refusal", logging.WARNING, "", 0, "dead letter: %s", (text,), None)


def test_a_line_of_json_has_the_worker_and_the_record() -> None:
    formatter = JsonLines("embed-web1")
    with about(record("events", 3, 17), "of-ada"):
        found = json.loads(formatter.format(line_of("too large")))
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "WARNING",
        "worker": "embed-web1",
        "logger": "streams.embed.refusal",
        "message": "dead letter: too large",
        "topic": "events",
        "partition": 3,
        "offset": 17,
        "event_id": "of-ada",
    }
    assert "topic" not in json.loads(formatter.format(line_of("x"))), "the record counts inside the block only"


def test_a_line_of_text_ends_with_the_record() -> None:
    with about(record("events", 3, 17), "of-ada"):
        assert (
            TextLines("embed-web1")
            .format(line_of("too large"))
            .endswith(" WARNING embed-web1 streams.embed.refusal: dead letter: too large [events/3/17 event of-ada]")
        )
    assert TextLines("").format(line_of("x")).endswith(" WARNING streams.embed.refusal: dead letter: x")


@pytest.mark.parametrize("text", [*HOSTILE, "half \ud83d"])
def test_json_is_one_line_of_visible_characters(text: str) -> None:
    written = JsonLines("embed").format(line_of(text))
    assert written.isprintable()
    assert json.loads(written)["message"] in {
        f"dead letter: {text}",
        f"dead letter: {text!s}".replace("\ud83d", "\\ud83d"),
    }


def test_json_has_the_traceback_in_its_object() -> None:
    error = ValueError("a\nb")
    record = logging.LogRecord("n", logging.ERROR, "", 0, "x", (), (type(error), error, None))
    written = JsonLines("embed").format(record)
    assert written.isprintable()
    assert "ValueError: a\nb" in json.loads(written)["exception"]


async def test_tasks_side_by_side_have_records_of_their_own() -> None:
    async def work(offset: int) -> str:
        working_on(record("events", 0, offset))
        await asyncio.sleep(0)
        found_event(f"of-{offset}")
        await asyncio.sleep(0)
        return str(place())

    found = await asyncio.gather(*(asyncio.create_task(work(offset)) for offset in range(3)))
    assert found == ["events/0/0 event of-0", "events/0/1 event of-1", "events/0/2 event of-2"]
    assert place() is None
