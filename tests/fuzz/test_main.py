"""`python -m tests.fuzz` keeps an input that fails, and says where it is."""

from pathlib import Path

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz import times


def test_a_target_that_holds_passes_and_counts_its_outcomes() -> None:
    found = fuzz.unguided("times", 1)
    assert not found.failed
    assert "outcomes" in found.covered


def test_an_input_that_fails_is_kept_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(data: bytes) -> str:
        assert len(data) < 20, "too long"
        return "accepted"

    monkeypatch.setattr(fuzz, "CACHE", tmp_path)
    monkeypatch.setattr(times, "check", check)
    found = fuzz.unguided("times", 60)
    assert found.failed
    [kept, text] = sorted((tmp_path / "times").iterdir())
    assert len(kept.read_bytes()) >= 20
    assert str(kept) in found.covered
    assert "too long" in text.read_text()
