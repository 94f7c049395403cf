"""How far a command is, where there is no terminal."""

import logging

import pytest

from streams.rollout import progress
from streams.rollout.progress import shown_work


def test_without_a_terminal_a_line_of_the_log_says_now_and_then_how_far_it_is(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    with shown_work() as work:
        work.begin("reading the bags", 10)
        work.advance(3)
        assert not caplog.messages, "a short step says nothing"
        monkeypatch.setattr(progress, "LOG_INTERVAL", 0.0)
        work.advance(2)
        work.begin("preparing", 4)
        work.advance()
    assert caplog.messages == ["reading the bags: 5 of about 10", "preparing: 1 of about 4"]
    assert not capsys.readouterr().out, "standard output has the result only"
