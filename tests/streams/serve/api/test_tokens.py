"""The file of tokens: what it holds, and what is refused."""

import hashlib
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streams.exceptions import StartupError
from streams.serve.api.tokens import MAX_TOKENS, TokenError, Tokens, create_token, read_tokens, revoke_token

NOW = datetime(2026, 11, 28, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "tokens.json"


def test_the_file_has_the_hash_and_not_the_token(path: Path) -> None:
    token = create_token(path, "shop", ["read"], now=NOW)
    [found] = read_tokens(path)
    assert (found.name, found.scopes, found.created) == ("shop", ["read"], NOW)
    assert found.sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert token.startswith("tst_") and len(token) == 47
    assert token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_token_is_found_and_no_other_text_is(path: Path) -> None:
    first, second = (create_token(path, name, ["read"], now=NOW) for name in ("a", "b"))
    tokens = Tokens(path)
    assert [found.name for one in (first, second) if (found := tokens.find(one))] == ["a", "b"]
    for other in ("", first[:-1], first + "x", first.upper(), read_tokens(path)[0].sha256, "\ud800"):
        assert tokens.find(other) is None


def test_no_two_tokens_are_equal(path: Path) -> None:
    assert len({create_token(path, f"t{number}", ["read"], now=NOW) for number in range(20)}) == 20


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a\nb", "../a", "é\u202e"])
def test_a_name_that_is_none_is_refused(path: Path, name: str) -> None:
    with pytest.raises(TokenError, match="is not valid"):
        create_token(path, name, ["read"], now=NOW)


def test_a_name_is_taken_once(path: Path) -> None:
    create_token(path, "shop", ["read"], now=NOW)
    with pytest.raises(TokenError, match="there is a token shop already"):
        create_token(path, "shop", ["admin"], now=NOW)


def test_a_token_is_revoked_by_its_name(path: Path) -> None:
    create_token(path, "shop", ["read"], now=NOW)
    with pytest.raises(TokenError, match="there are: shop"):
        revoke_token(path, "ship")
    revoke_token(path, "shop")
    assert read_tokens(path) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"tokens": [{}]}',
        b'{"tokens": [{"name": "a", "scopes": ["all"], "created": "2026-01-01T00:00:00Z", "sha256": "'
        + b"0" * 64
        + b'"}]}',
    ],
)
def test_a_damaged_file_is_named(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    for read in (lambda: read_tokens(path), lambda: Tokens(path), lambda: create_token(path, "a", ["read"], now=NOW)):
        with pytest.raises(StartupError, match="cannot be read") as refused:
            read()
        assert str(path) in str(refused.value)
    assert path.read_bytes() == content


def test_there_is_a_most_of_tokens(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_TOKENS == 1000
    monkeypatch.setattr("streams.serve.api.tokens.MAX_TOKENS", 2)
    for name in ("a", "b"):
        create_token(path, name, ["read"], now=NOW)
    with pytest.raises(TokenError, match="there are 2 tokens"):
        create_token(path, "c", ["read"], now=NOW)
