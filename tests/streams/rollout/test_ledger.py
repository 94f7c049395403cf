"""What a command knows of the rows, on disk while it runs."""

import multiprocessing
from pathlib import Path

import pytest

from streams.exceptions import DataFolderError
from streams.profile.bag import Moment
from streams.profile.databases import RocksDBMemory
from streams.profile.rows import encode_floor, header_of, slot_key, user_prefix
from streams.rollout.held import Held, encode_held
from streams.rollout.ledger import Ledger, open_ledger
from streams.settings import Settings


def row(at: int, url: str = "http://x/1", state: str = "missing") -> bytes:
    return encode_held(Held(state, 0, Moment(at, "e", "i", "view"), url))  # pyright: ignore[reportArgumentType]


def keys(ledger: Ledger) -> list[tuple[str, bytes]]:
    return [(row.user_id, row.key) for row in ledger.rows()]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)  # pyright: ignore[reportCallIssue]


def test_the_last_row_of_a_key_counts_and_none_removes_it(settings: Settings) -> None:
    with open_ledger(settings, "prepare") as ledger:
        ledger.write({slot_key("ann", "i"): row(1), slot_key("bob", "i"): row(1)})
        ledger.write({slot_key("ann", "i"): row(2), slot_key("bob", "i"): None})
        [only] = ledger.rows()
        assert (only.user_id, only.held.moment.timestamp) == ("ann", 2)
        assert ledger.row(slot_key("bob", "i")) is None


def test_the_floor_of_a_user_hides_rows_of_this_user_alone(settings: Settings) -> None:
    floor = encode_floor(Moment(5, "", "", ""))
    with open_ledger(settings, "prepare") as ledger:
        for user in ("ann", "ann2", "bob"):
            ledger.write({slot_key(user, "old"): row(4), slot_key(user, "new"): row(5)})
        ledger.write({header_of(user_prefix("ann")): floor})
        assert keys(ledger) == [
            ("ann", slot_key("ann", "new")),
            *(("bob", slot_key("bob", item)) for item in ("new", "old")),
            *(("ann2", slot_key("ann2", item)) for item in ("new", "old")),
        ]


def test_rows_wait_by_picture_however_many_users_have_it(settings: Settings) -> None:
    with open_ledger(settings, "prepare") as ledger:
        ledger.write({slot_key(user, "i"): row(1, "http://x/1") for user in ("ann", "bob")})
        ledger.write({slot_key("eve", "i"): row(1, "http://x/2")})
        ledger.fetch_later(ledger.rows())
        waiting = {url: [one.user_id for one in ledger.waiting(number)] for number, url in ledger.to_fetch()}
        assert waiting == {"http://x/1": ["ann", "bob"], "http://x/2": ["eve"]}
        assert ledger.pictures_to_fetch() == 2


def test_codes_are_kept_by_url(settings: Settings) -> None:
    with open_ledger(settings, "prepare") as ledger:
        ledger.want(["http://x/1"])
        assert ledger.wanted("http://x/1")
        assert not ledger.wanted("http://x/2")
        ledger.put_codes([("http://x/1", b"code"), ("http://x/2", b"")])
        assert (ledger.code("http://x/1"), ledger.code("http://x/2"), ledger.code("http://x/3")) == (b"code", b"", None)
        ledger.put_codes([("http://x/1", None)])
        assert ledger.code("http://x/1") is None


def test_nothing_is_left_on_disk_and_what_a_killed_run_left_is_not_read(settings: Settings) -> None:
    folder = settings.state_dir.absolute() / "rollout" / "prepare" / "ledger"
    folder.mkdir(parents=True)
    left = RocksDBMemory(1024**2).open(folder)
    Ledger(left, folder).write({slot_key("eve", "i"): row(1)})
    left.close()
    with open_ledger(settings, "prepare") as ledger:
        assert keys(ledger) == []
        ledger.write({slot_key("ann", "i"): row(1)})
        assert folder.exists()
    assert not folder.exists()


def _second(folder: Path, command: str) -> str:
    try:
        with open_ledger(Settings(data_dir=folder), command):  # pyright: ignore[reportCallIssue]
            return ""
    except DataFolderError as error:
        return str(error)


def test_a_second_run_of_a_command_says_in_one_line_that_the_first_is_at_work(
    settings: Settings, tmp_path: Path
) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as other, open_ledger(settings, "prepare"):
        message = other.apply(_second, (tmp_path, "prepare"))
        assert "`tastestream rollout prepare` is running there" in message
        assert "\n" not in message
        assert other.apply(_second, (tmp_path, "status")) == "", "one may look while another prepares"
