"""This machine: the bundle, the data folder, the disk, the ports, the clock."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from model.exceptions import TastestreamError
from streams.bundles import load_bundles
from streams.doctor.finding import Finding, fail, ok, warn
from streams.settings import Settings

GB = 1024**3
LEAST_FREE = 1 * GB  # below this, RocksDB or the cache may stop a worker at any moment
TIMEOUT = aiohttp.ClientTimeout(total=3)  # seconds until a program on this machine has answered
BUILT = 1_764_000_000  # seconds since 1970, when this was written: no clock can be earlier


def bundles(settings: Settings) -> Finding:
    """Whether the bundles are whole."""
    try:
        return ok("bundle", str(load_bundles(settings)))
    except TastestreamError as error:
        return fail(
            "bundle",
            str(error),
            "name the folder of a whole bundle (TASTESTREAM_BUNDLE), or unset it for the shipped one",
        )


def clock(now: float) -> Finding:
    """Whether the clock can be right. now: seconds since 1970."""
    if now < BUILT:
        return fail(
            "clock",
            f"this machine's clock is {BUILT - now:,.0f} s before this version was made",
            "set the clock, with NTP",
        )
    return ok("clock", "this machine's clock can be right")


def data_folder(settings: Settings) -> Iterator[Finding]:
    """Whether the data folder can be written, and has room."""
    folder = settings.state_dir.absolute()
    fix = f"set TASTESTREAM_DATA_DIR to a folder that {_user()} can write"
    there = next(one for one in (folder, *folder.parents) if one.exists())  # what a worker would create is in here
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
    except OSError as error:
        yield fail("data folder", f"{folder} cannot be written: {there}: {error.strerror}", fix)
        return
    yield ok("data folder", f"{folder} can be written")
    yield disk(folder, shutil.disk_usage(there).free, settings.cache_disk)


def disk(folder: Path, free: int, cache: int) -> Finding:
    """Whether a disk has room.

    Args:
        folder: on that disk.
        free: bytes.
        cache: what the picture cache may take, bytes.
    """
    fact = f"{free / GB:.1f} GB are free for {folder}"
    if free < LEAST_FREE:
        return fail(
            "disk",
            fact,
            f"free some: a worker needs {LEAST_FREE / GB:.0f} GB at least, or set TASTESTREAM_DATA_DIR to a larger disk",
        )
    if free < cache:
        smaller = f"set TASTESTREAM_CACHE_DISK to less than {cache} bytes"
        return warn(
            "disk", f"{fact}, and the picture cache may take {cache / GB:.1f} GB", f"{smaller}, or use a larger disk"
        )
    return ok("disk", fact)


async def ports(settings: Settings) -> list[Finding]:
    """Whether the ports of the workers are free, or a worker has them."""
    wanted = (
        ("EMBED_PORT", settings.web_host, settings.embed_port),
        ("PROFILE_PORT", settings.web_host, settings.profile_port),
        ("SERVE_PORT", settings.serve_host, settings.serve_port),
    )
    return list(await asyncio.gather(*(_port(*one) for one in wanted)))


async def _port(name: str, host: str, port: int) -> Finding:
    what = f"port {port}"
    try:
        family = (await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
        with socket.socket(family[0]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(family[4])
    except OSError as error:
        if await _is_worker(port):
            return ok(what, f"a worker answers there ({name})")
        return fail(
            what,
            f"{host}:{port} cannot be used ({name}): {error.strerror}",
            f"stop the program that listens there, or set TASTESTREAM_{name} to another port, or 0 to pick a free one",
        )
    return ok(what, f"free ({name})")


async def _is_worker(port: int) -> bool:
    """Whether a worker of ours listens on a port of this machine."""
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as session,
            session.get(f"http://127.0.0.1:{port}/live") as answer,
        ):
            return "live" in (await answer.json())
    except (aiohttp.ClientError, TimeoutError, ValueError, TypeError):
        return False


def _user() -> str:
    return f"the user with id {os.getuid()}"
