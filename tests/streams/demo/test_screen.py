"""The demo fits a terminal of 80 x 24."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from model.bundle import Bundle
from streams.dead_letter import dead_letter, letter_of
from streams.demo.catalogue import interleaved, read_products, read_shoppers
from streams.demo.screen import Screen
from streams.exceptions import EventError
from tests.records import record

STORY = interleaved(read_shoppers())
CATEGORIES = sorted({read_products()[step.item_id].category for _, step in STORY}, key=len, reverse=True)


def recommendation(item_id: str, number: int) -> dict[str, Any]:
    """A recommendation with the longest category names first, in which every score changes."""
    scores = [{"category": name, "score": 0.5 + 0.1 * (number % 4)} for name in CATEGORIES]
    attention = [{"item_id": item, "weight": 0.2} for item in (item_id, *list(read_products())[:4])]
    return {"categories": scores, "attention": attention, "cold_start": False}


@pytest.mark.parametrize("width", [80, 110, 200])
def test_the_table_fits_24_lines_and_shows_whole_categories(width: int) -> None:
    output = io.StringIO()
    console = Console(file=output, width=width, height=24)
    products, shoppers = read_products(), read_shoppers()
    with Screen(console, shoppers, products) as screen:
        for number, (shopper, step) in enumerate(STORY):
            screen.show_event(shopper, step, recommendation(step.item_id, number), 123.4)
        output.truncate(0)
    lines = output.getvalue().strip("\0").splitlines()
    assert len(lines) <= 23, "one line is left for the last event"
    assert max(map(len, lines)) <= width
    for category in CATEGORIES[:3]:
        assert sum(category in line for line in lines) == len(shoppers)


def test_no_word_is_cut_at_80_columns() -> None:
    output = io.StringIO()
    console = Console(file=output, width=80, height=24)
    longest = sorted(Bundle.load().categories, key=len)[-3:]
    with Screen(console, read_shoppers(), read_products()) as screen:
        for number, (shopper, step) in enumerate(STORY):
            found = recommendation(step.item_id, number)
            scores = [{"category": name, "score": 0.5 + 0.1 * (number % 4)} for name in longest]
            screen.show_event(shopper, step, found | {"categories": scores}, 123.4)
    printed = output.getvalue()
    assert "…" not in printed
    assert all(printed.count(name) >= len(read_shoppers()) for name in longest)


def test_a_dead_letter_and_an_erasure_are_shown() -> None:
    output = io.StringIO()
    screen = Screen(Console(file=output, width=200), read_shoppers(), read_products())
    error = EventError("http_status", "the answer was 404", field="image_url")
    original = record("user-interactions", value=b'{"user_id": "me", "event_id": "[red]e1"}')
    key, value, headers = dead_letter(original, error, worker="embed", at=datetime.now(UTC))
    screen.show_letter(letter_of(record("user-interactions-dlq", key=key, value=value, headers=headers)))
    screen.show_erasure("me")
    assert output.getvalue().splitlines() == [
        "me [red]e1 → dead letter http_status: the answer was 404",
        "me is erased",
    ]
