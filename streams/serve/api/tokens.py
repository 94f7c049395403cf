"""Tokens of the API: the file that holds their hashes, and the check of a token.

A token is 256 random bits. Its hash is one SHA-256: nobody can try 2^256 tokens, so a slow hash such as scrypt, which protects
passwords that people choose, would only make each request slow.
"""

import fcntl
import hashlib
import os
import secrets
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from hmac import compare_digest
from pathlib import Path
from time import monotonic
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from model.exceptions import TastestreamError
from streams.exceptions import StartupError

Scope = Literal["read", "write", "names", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "tst_"  # so that people and scanners recognise a token that was committed by mistake
MAX_TOKENS = 1_000  # each request compares with all of them
CHECK = 1.0  # seconds between two looks at the file: how long a revoked token still works


class Token(Struct, frozen=True, kw_only=True):
    """A token as the file has it."""

    name: Annotated[str, Meta(pattern=r"^[\w.-]{1,64}$")]
    scopes: Annotated[list[Scope], Meta(min_length=1)]
    created: Annotated[datetime, Meta(tz=True)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    expires: Annotated[datetime, Meta(tz=True)] | None = None  # None: valid until it is revoked

    @property
    def granted(self) -> frozenset[Scope]:
        """What it permits: `admin` permits everything."""
        return frozenset(SCOPES if "admin" in self.scopes else self.scopes)

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= now


class _File(Struct, frozen=True):
    tokens: Annotated[list[Token], Meta(max_length=MAX_TOKENS)]


class TokenError(TastestreamError):
    """A token cannot be created or revoked."""


def hash_of(token: str) -> str:
    """The hash of a token, hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_tokens(path: Path) -> list[Token]:
    """The tokens of a file; none if there is no file. Raises StartupError if it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).tokens
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StartupError(f"the tokens in {path} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StartupError(
            f"the tokens in {path} cannot be read: {error}; restore the file, or remove it and create new tokens"
        ) from error


def create_token(path: Path, name: str, scopes: list[Scope], *, now: datetime, expires: datetime | None = None) -> str:
    """Add a token to the file, and return it: it is nowhere else.

    Args:
        path: of the file.
        name: who uses the token.
        scopes: what it permits.
        now: when it is created.
        expires: when it expires; None for never.

    Raises:
        TokenError: the name is taken or not valid, or there are too many tokens.
        StartupError: the file cannot be read or written.
    """
    token = PREFIX + secrets.token_urlsafe(32)
    entry = Token(name=name, scopes=scopes, created=now.astimezone(UTC), sha256=hash_of(token), expires=expires)
    try:
        msgspec.convert(msgspec.to_builtins(entry), Token)
    except msgspec.ValidationError:
        raise TokenError(f"the name {name!r} is not valid: use up to 64 letters, digits, dots, - and _") from None
    with _locked(path):
        tokens = read_tokens(path)
        if any(one.name == name for one in tokens):
            raise TokenError(f"there is a token {name} already; revoke it first, or choose another name")
        if len(tokens) >= MAX_TOKENS:
            raise TokenError(f"there are {MAX_TOKENS} tokens; revoke one first")
        _write(path, [*tokens, entry])
    return token


def revoke_token(path: Path, name: str) -> None:
    """Remove a token from the file. Raises TokenError if there is none of this name, and StartupError."""
    with _locked(path):
        tokens = read_tokens(path)
        left = [one for one in tokens if one.name != name]
        if len(left) == len(tokens):
            known = ", ".join(one.name for one in tokens) or "none"
            raise TokenError(f"there is no token {name!r} in {path}; there are: {known}")
        _write(path, left)


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Keep other commands from changing the file. Raises StartupError if its folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock").open("a")
    except OSError as error:
        raise StartupError(f"the tokens in {path} cannot be written: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, tokens: list[Token]) -> None:
    """Replace the file as a whole, readable by its owner only: a worker that reads it meanwhile reads the old one."""
    content = msgspec.json.format(msgspec.json.encode(_File(tokens)), indent=1)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:  # mode 0600
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError as error:
        raise StartupError(f"the tokens in {path} cannot be written: {error.strerror}") from error


class Tokens:
    """The tokens of a file as a worker checks them. Reads the file again when it changes."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises StartupError if it cannot be read."""
        self._path = path
        self._mark = self._marked()
        self._tokens = read_tokens(path)
        self._hashes = [(bytes.fromhex(one.sha256), one) for one in self._tokens]
        self._next = monotonic() + CHECK
        self.problem = ""  # why the file as it is now is not used
        self.ever = bool(self._tokens)  # whether there was a token since the start: then each request needs one

    def find(self, given: str) -> Token | None:
        """The token that somebody sent; None if it is none. The time that it takes does not depend on what was sent."""
        self._reload()
        digest = hashlib.sha256(given.encode(errors="replace")).digest()
        found = None
        for known, token in self._hashes:
            if compare_digest(known, digest):
                found = token
        return found

    @property
    def needed(self) -> bool:
        """Whether requests need a token."""
        self._reload()
        return self.ever

    def _reload(self) -> None:
        """Read the file if it has changed. While it cannot be read, the tokens that were read last count."""
        if monotonic() < self._next:
            return
        self._next = monotonic() + CHECK
        mark = self._marked()
        if mark == self._mark and not self.problem:
            return
        try:
            self._tokens = read_tokens(self._path)
        except StartupError as error:
            self.problem = str(error)
            return
        self._mark, self.problem = mark, ""
        self._hashes = [(bytes.fromhex(one.sha256), one) for one in self._tokens]
        self.ever = self.ever or bool(self._tokens)

    def _marked(self) -> tuple[int, int, int] | None:
        """What differs when the file was replaced."""
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size
