"""A fingerprint of a few KiB tells how much of another set of names was in the first one."""

import msgspec
import pytest

from model.fingerprint import KEPT, Fingerprint, event_name, fingerprint, known_in


def names(first: int, count: int) -> list[str]:
    return [f"user-{number}" for number in range(first, first + count)]


def test_of_a_small_set_the_share_is_exact() -> None:
    sample = fingerprint(names(0, 1000))
    assert (sample.zeros, len(sample)) == (0, 1000)
    assert known_in(sample, names(0, 100)) == (100, 100)
    assert known_in(sample, names(900, 300)) == (100, 300)
    assert known_in(sample, names(5000, 300)) == (0, 300)


@pytest.mark.parametrize("known", [0.0, 0.3, 1.0])
def test_of_a_large_set_the_share_is_estimated_from_a_bounded_sample(known: float) -> None:
    sample = fingerprint(names(0, 100_000))
    assert KEPT / 2 < len(sample) <= KEPT
    asked = names(0, int(20_000 * known)) + names(500_000, int(20_000 * (1 - known)))
    found = known_in(sample, asked)
    assert 400 < found.compared < 1400
    assert found.share == pytest.approx(known, abs=0.06 if 0 < known < 1 else 0)


def test_the_order_and_repetitions_change_nothing() -> None:
    once = names(0, 9000)
    assert fingerprint(once) == fingerprint(once[::-1] + once[:10])
    assert known_in(fingerprint(once), once[:5000] * 2) == known_in(fingerprint(once), once[:5000])


@pytest.mark.parametrize("empty", [[], names(0, 10)])
def test_nothing_is_known_in_or_of_an_empty_set(empty: list[str]) -> None:
    assert known_in(fingerprint([]), empty).share == 0.0
    assert known_in(fingerprint(empty), []) == (0, 0)


def test_an_event_is_known_by_its_user_item_and_day() -> None:
    noon, day = 1_600_000_000_000, 86_400_000
    first = event_name("u", "i", noon)
    assert first == event_name("u", "i", noon + 3_600_000)
    assert len({first, event_name("u", "i", noon + day), event_name("u2", "i", noon), event_name("u", "i2", noon)}) == 4
    assert event_name("u", "1i", noon) != event_name("u1", "i", noon)


def test_a_fingerprint_is_text_in_json_and_holds_no_name() -> None:
    sample = fingerprint(["alice@shop.example", "bob@shop.example"])
    encoded = msgspec.json.encode(sample)
    assert b"alice" not in encoded
    assert msgspec.json.decode(encoded, type=Fingerprint) == sample


@pytest.mark.parametrize(
    "made", [{"zeros": 33, "kept": ""}, {"zeros": 0, "kept": "AAA="}, {"zeros": 0, "kept": "A" * 30_000}]
)
def test_a_damaged_fingerprint_is_refused(made: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(made, Fingerprint)
