"""`tastestream token`: a token is printed once, and a worker that runs accepts it until it is revoked."""

from datetime import timedelta
from pathlib import Path

import pytest

from streams.serve.api.tokens import Tokens, read_tokens
from tests.command import Command


@pytest.fixture
def tastestream(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return Command(monkeypatch, capsys)


def test_a_token_is_created_listed_and_revoked(tastestream: Command, tmp_path: Path) -> None:
    done = tastestream("token", "create", "--scope", "read", "--scope", "write", "--name", "shop")
    assert (done.code, done.err) == (0, "")
    token = done.out.strip()
    found = Tokens(tmp_path / "data" / "tokens.json").find(token)
    assert found is not None
    assert (found.name, found.granted) == ("shop", {"read", "write"})
    listed = tastestream("token", "list").out
    assert "shop" in listed and "read, write" in listed and token not in listed
    assert tastestream("token", "revoke", "--name", "shop").code == 0
    assert Tokens(tmp_path / "data" / "tokens.json").find(token) is None


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (("create", "--scope", "read", "--name", "a b"), 1, "is not valid"),
        (("create", "--scope", "all", "--name", "shop"), 2, "'all' is not one of"),
        (("create", "--name", "shop"), 2, "--scope"),
        (("create", "--scope", "read", "--name", "shop", "--expires", "90"), 2, "--expires '90': expected a duration"),
        (("create", "--scope", "read", "--name", "shop", "--expires", "-1d"), 2, "expected a duration"),
        (("create", "--scope", "read", "--name", "shop", "--expires", "0d"), 2, "would never be valid"),
        (("revoke", "--name", "nobody"), 1, "there is no token 'nobody'"),
    ],
)
def test_a_wrong_argument_gets_one_line(tastestream: Command, arguments: tuple[str, ...], code: int, line: str) -> None:
    done = tastestream("token", *arguments)
    assert (done.code, done.out) == (code, "")
    [error] = done.err.splitlines()
    assert line in error


def test_a_token_expires_when_it_was_told_to(tastestream: Command, tmp_path: Path) -> None:
    for name, expires in (("soon", ("--expires", "90d")), ("far", ("--expires", "999999d")), ("never", ())):
        assert tastestream("token", "create", "--scope", "read", "--name", name, *expires).code == 0
    found = {one.name: one for one in read_tokens(tmp_path / "data" / "tokens.json")}
    assert found["soon"].expires == found["soon"].created + timedelta(days=90)
    assert found["far"].expires == found["far"].created + timedelta(days=999_999)
    assert found["never"].expires is None
    listed = tastestream("token", "list").out
    assert f"{found['soon'].expires:%Y-%m-%d %H:%M:%SZ}" in listed and "(expired)" not in listed


def test_the_file_is_a_setting(tastestream: Command, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    done = tastestream("token", "create", "--scope", "admin", "--name", "a", TASTESTREAM_SERVE_TOKENS=str(elsewhere))
    assert Tokens(elsewhere).find(done.out.strip()) is not None
    assert not (tmp_path / "data" / "tokens.json").exists()


def test_a_damaged_file_is_a_wrong_setting(tastestream: Command, tmp_path: Path) -> None:
    (tmp_path / "data" / "tokens.json").write_text("{")
    for command in (("list",), ("create", "--scope", "read", "--name", "a"), ("revoke", "--name", "a")):
        done = tastestream("token", *command)
        assert (done.code, len(done.err.splitlines())) == (78, 1)
