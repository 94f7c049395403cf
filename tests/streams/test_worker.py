"""What the workers are built on: a frozen process is noticed, and Faust without its compiled stream is refused."""

from pathlib import Path

import faust.streams
import pytest

from streams.app import new_app
from streams.exceptions import StartupError
from streams.settings import Settings
from streams.worker import FreezeGuard


def test_a_process_that_stood_still_for_longer_than_the_limit_is_noticed() -> None:
    now = 100.0
    guard = FreezeGuard(6.0, clock=lambda: now)

    now += 6.0
    assert not guard.stood_still
    now += 0.1
    assert guard.stood_still
    guard.beat()
    assert not guard.stood_still


def test_faust_without_its_compiled_stream_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_app("test", Settings.model_construct(), tmp_path)

    monkeypatch.setattr(faust.streams, "_CStreamIterator", None)
    with pytest.raises(StartupError, match="compiled extension"):
        new_app("test", Settings.model_construct(), tmp_path)
