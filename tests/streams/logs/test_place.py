"""Log lines name users only where a setting allows it."""

import logging

import pytest

from streams import metrics
from streams.logs.place import HIDDEN, allow_user_ids, shown_user
from streams.profile.quarantine import usable_rows
from streams.profile.rows import user_prefix
from tests.records import record


@pytest.mark.parametrize("allowed", [True, False])
def test_users_are_shown_only_if_that_is_allowed(
    allowed: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streams.logs.place._user_ids", False)
    allow_user_ids(allowed)
    assert shown_user("ada") == ("ada" if allowed else HIDDEN)
    before = metrics.quarantined_rows._value.get()
    assert usable_rows(3, [record(key=user_prefix("ada") + b"?", value=b"no row")]) == []
    assert metrics.quarantined_rows._value.get() == before + 1
    [line] = [one for one in caplog.records if one.levelno >= logging.INFO]
    assert ("ada" in line.getMessage()) is allowed
