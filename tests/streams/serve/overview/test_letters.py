"""Dead letters count by their reasons, whatever anybody writes to the topic, and however fast."""

from aiokafka import TopicPartition

from streams.dead_letters.notes import note_headers
from streams.serve.overview.letters import BEHIND, HOUR, MAX_REASON, OTHER, REASONS, UNREAD, LetterCounts
from tests.streams.kafka.made import Made, batch

TP = TopicPartition("dead", 0)
AT = 1_764_331_200_000


def letter(reason: str, at: int = AT) -> Made:
    return Made(headers=[("tastestream-reason", reason.encode())], timestamp=at)


def counted(*letters: Made) -> LetterCounts:
    counts = LetterCounts()
    counts.begin({TP: 5})
    assert counts.waiting({TP: 5 + len(letters)}, AT) == {TP: 5}
    counts.take({TP: batch(letters, base=5)}, AT)
    return counts


def reasons(counts: LetterCounts, now: int = AT) -> dict[str, int]:
    return {one.reason: one.count for one in counts.reasons(now)}


def test_letters_count_by_reason_the_most_frequent_first() -> None:
    counts = counted(letter("timeout"), letter("http_status"), letter("timeout"))
    assert list(reasons(counts).items()) == [("timeout", 2), ("http_status", 1)]
    assert counts.waiting({TP: 8}, AT) == {}


def test_notes_are_no_letters() -> None:
    assert reasons(counted(Made(headers=note_headers(), timestamp=AT), letter("timeout"))) == {"timeout": 1}


def test_the_reason_of_the_worker_counts_and_not_one_that_a_producer_forged() -> None:
    forged = Made(headers=[("tastestream-reason", b"forged"), ("tastestream-reason", b"timeout")], timestamp=AT)
    assert reasons(counted(forged, Made(timestamp=AT))) == {"timeout": 1, "": 1}


def test_strange_reasons_are_bounded() -> None:
    counts = counted(*(letter(f"{number} {'y' * 100}") for number in range(3 * REASONS)), letter("x" * 1000))
    found = reasons(counts)
    assert len(found) <= REASONS + 1
    assert found[OTHER] > 1
    assert max(map(len, found)) <= MAX_REASON


def test_an_hour_counts() -> None:
    counts = counted(letter("timeout", AT - HOUR // 2), letter("http_status"))
    assert counts.since(AT - 300_000) == {"http_status": 1}
    assert reasons(counts, AT) == {"timeout": 1, "http_status": 1}
    assert reasons(counts, AT + HOUR // 2 + 60_000) == {"http_status": 1}
    assert reasons(counts, AT + 2 * HOUR) == {}


def test_a_flood_is_skipped_and_says_so() -> None:
    counts = LetterCounts()
    counts.begin({TP: 5})
    assert counts.waiting({TP: 5 + BEHIND + 70}, AT) == {TP: 75}
    assert reasons(counts) == {UNREAD: 70}


def test_only_letters_of_the_last_seconds_are_new() -> None:
    counts = LetterCounts()
    counts.begin({TP: 0})
    assert (
        counts.take({TP: batch([letter("a", AT - HOUR // 2), letter("b", AT - 500), letter("b", AT)])}, AT - 1000) == 2
    )
