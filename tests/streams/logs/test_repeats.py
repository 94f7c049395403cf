"""Lines that repeat: the first is written at once, and one line a minute sums up the others."""

import io
import logging
import threading

import pytest

from streams.logs.repeats import KINDS, Kind, Repeats, SummingHandler, summed

LETTERS = "dead letters"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def line(text: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("streams.embed.refusal", level, "", 0, "dead letter: %s", (text,), None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repeats(clock: Clock) -> Repeats:
    return Repeats(60.0, clock)


def test_forty_lines_of_one_host_are_the_first_and_a_warning_with_their_number(repeats: Repeats, clock: Clock) -> None:
    written = [repeats.add(Kind(LETTERS, "shop:443"), line(f"number {number}")) for number in range(40)]
    assert written == [True] + [False] * 39
    clock.now += 59
    assert (repeats.sums(), repeats.due) == ([], 1)
    clock.now += 1
    [sum_] = repeats.sums()
    assert sum_.getMessage() == "40 dead letters of shop:443 in 60 s; the last: dead letter: number 39"
    assert (sum_.levelno, sum_.name) == (logging.WARNING, "streams.embed.refusal")


def test_a_host_that_goes_on_gets_one_line_a_minute_and_one_that_stops_is_forgotten(
    repeats: Repeats, clock: Clock
) -> None:
    kind = Kind(LETTERS, "shop:443")
    for _ in range(2):
        repeats.add(kind, line("a"))
    clock.now += 60
    assert len(repeats.sums()) == 1
    assert [repeats.add(kind, line("b")) for _ in range(5)] == [False] * 5
    clock.now += 60
    assert [one.getMessage()[:25] for one in repeats.sums()] == ["5 dead letters of shop:44"]
    assert not repeats.add(kind, line("alone"))
    clock.now += 60
    assert [one.getMessage() for one in repeats.sums()] == ["dead letter: alone"], "one line needs no sum"
    clock.now += 60
    assert (repeats.sums(), repeats.due) == ([], None)
    assert repeats.add(kind, line("c"))


def test_kinds_do_not_mix_and_an_error_stays_one(repeats: Repeats, clock: Clock) -> None:
    for host in ("a", "b", "b"):
        assert repeats.add(Kind(LETTERS, host), line(host, logging.ERROR)) is (
            repeats._windows[Kind(LETTERS, host)].held == 0
        )
    repeats.add(Kind(LETTERS, "b"), line("b", logging.ERROR))
    clock.now += 60
    [sum_] = repeats.sums()
    assert (sum_.levelname, sum_.getMessage()) == ("ERROR", "3 dead letters of b in 60 s; the last: dead letter: b")


def test_the_kinds_are_bounded(repeats: Repeats, clock: Clock) -> None:
    for number in range(KINDS + 50):
        repeats.add(Kind(LETTERS, str(number)), line(str(number)))
    assert len(repeats._windows) == KINDS + 1
    clock.now += 60
    assert [one.getMessage() for one in repeats.sums()] == [
        f"50 dead letters of others in 60 s; the last: dead letter: {KINDS + 49}"
    ]


def test_a_thread_writes_the_sum_when_it_is_due() -> None:
    written = io.StringIO()
    summary = threading.Event()

    class Telling(SummingHandler):
        def flush(self) -> None:
            if " in 0 s; the last" in written.getvalue():
                summary.set()

    handler = Telling(written, Repeats(0.2))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    for number in range(3):
        logger.warning("letter %d", number, extra=summed(LETTERS, "shop"))
    logger.warning("another line")
    assert summary.wait(60)
    handler.close()
    assert written.getvalue().splitlines() == [
        "letter 0",
        "another line",
        "3 dead letters of shop in 0 s; the last: letter 2",
    ]


def test_the_end_of_the_process_does_not_lose_a_sum() -> None:
    written = io.StringIO()
    handler = SummingHandler(written)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    for number in range(3):
        logger.warning("letter %d", number, extra=summed(LETTERS, "shop"))
    handler.close()
    assert written.getvalue().splitlines()[1].startswith("3 dead letters of shop in ")
