"""The ledger knows in how many rows two changelogs differ, whatever the order in which they are read."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from streams.resize.ledger import Ledger, Row, Side, open_ledger
from streams.settings import read_settings


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(read_settings(data_dir=tmp_path)) as made:
        yield made


def test_two_empty_changelogs_are_the_same(ledger: Ledger) -> None:
    assert ledger.differing == 0
    assert ledger.rows == [0, 0]


def test_a_row_that_only_one_has_differs_until_the_other_has_it(ledger: Ledger) -> None:
    ledger.note(Side.source, [(b"a", b"1"), (b"b", b"2")])
    assert ledger.differing == 2
    ledger.note(Side.target, [(b"a", b"1"), (b"b", b"1")])
    assert ledger.differing == 1
    assert list(ledger.differences()) == [b"b"]
    ledger.note(Side.target, [(b"b", b"2")])
    assert ledger.differing == 0
    assert ledger.rows == [2, 2]


def test_the_newest_record_of_a_key_counts(ledger: Ledger) -> None:
    ledger.note(Side.source, [(b"a", b"1"), (b"a", b"2"), (b"a", b"3")])
    ledger.note(Side.target, [(b"a", b"3")])
    assert ledger.differing == 0
    ledger.note(Side.source, [(b"a", None)])
    assert ledger.differing == 1
    assert list(ledger.surplus()) == [b"a"]
    ledger.note(Side.target, [(b"a", None)])
    assert ledger.differing == 0
    assert ledger.rows == [0, 0]


def test_a_deletion_of_a_row_that_the_other_never_had_is_no_difference(ledger: Ledger) -> None:
    ledger.note(Side.source, [(b"a", None)])
    assert ledger.differing == 0


def test_any_order_gives_the_same_answer(ledger: Ledger) -> None:
    random = Random(1)
    newest: list[dict[bytes, bytes | None]] = [{}, {}]
    for _ in range(300):
        side = random.choice(list(Side))
        rows: list[Row] = [
            (b"%d" % random.randrange(20), random.choice([None, b"1", b"2"])) for _ in range(random.randrange(4))
        ]
        ledger.note(side, rows)
        newest[side] |= dict(rows)
        keys = newest[0].keys() | newest[1].keys()
        assert ledger.differing == sum(newest[0].get(key) != newest[1].get(key) for key in keys)
        assert ledger.rows == [sum(value is not None for value in one.values()) for one in newest]


def test_nothing_of_a_killed_run_is_left(tmp_path: Path) -> None:
    settings = read_settings(data_dir=tmp_path)
    with open_ledger(settings) as ledger:
        ledger.note(Side.source, [(b"a", b"1")])
    with open_ledger(settings) as ledger:
        assert list(ledger.differences()) == []
    assert not (tmp_path / "resize" / "ledger").exists()
