"""`tastestream replay` refuses bad input before it sends any event, in one line that says what to do."""

from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from tests.command import Command, Done
from tests.offline_training.replay.made import shop, write


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    shop(tmp_path / "shop", users=2, each=3)
    return Command(monkeypatch, capsys)


def line(done: Done, code: int) -> str:
    assert done.code == code, done.err
    [line] = [one for one in done.err.splitlines() if one.startswith("error: ")]
    return line


def test_a_folder_that_is_no_data_set_is_refused(replay: Command) -> None:
    assert "events.parquet: there is no such file: prepare the data set" in line(
        replay("replay", "nowhere", "--out", "run"), 1
    )
    assert not Path("run").exists()


def test_more_categories_than_a_recommendation_lists_are_refused(replay: Command) -> None:
    said = line(replay("replay", "shop", "--out", "run", "--k", "11"), 1)
    assert "--k 11: a recommendation lists 10 categories: set TASTESTREAM_TOP_K" in said


def test_an_unusable_folder_of_the_run_is_refused(replay: Command) -> None:
    Path("run").write_text("a file")
    assert "'--out': dir 'run' is a file" in line(replay("replay", "shop", "--out", "run"), 2)
    Path("other").mkdir()
    Path("other", "run.json").write_text("not ours")
    assert "--out other: " in line(replay("replay", "shop", "--out", "other"), 1)


def test_without_a_broker_it_exits_with_69_and_says_how_to_resume(replay: Command) -> None:
    settings = {"TASTESTREAM_BROKER": "kafka://127.0.0.1:1", "TASTESTREAM_BROKER_TIMEOUT": "1"}
    said = line(replay("replay", "shop", "--out", "run", **settings), 69)
    assert said.startswith("error: no broker at kafka://127.0.0.1:1 within 1 s")
    assert said.endswith("run the same command again to resume")


def test_missing_pictures_are_reported_before_any_event_is_sent(replay: Command, tmp_path: Path) -> None:
    items = {name: (str(tmp_path / "moved" / f"{name}.jpg"), ["hats"]) for name in "ab"}
    write(tmp_path / "moved", [("ada", "a", "purchase", 1)], items)
    said = line(replay("replay", "moved", "--out", "run"), 1)
    assert f"moved: its pictures are missing, such as {tmp_path}/moved/a.jpg: there is no such file: prepare" in said
