"""The audit finds vulnerable packages of a lock file, and says so when it could not look."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.audit import RUN, Pin, pins

LOCK = """\
# made by make lock
aiohttp==3.0.0 \\
    --hash=sha256:0
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:0
uvloop==0.22.1
"""


@contextmanager
def database(answer: bytes, status: int = 200) -> Generator[tuple[str, list[bytes]]]:
    """A server that answers every query like this. Yields its URL, and the queries."""
    asked: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base's
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def audit(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    lock = folder / "run.txt"
    lock.write_text(LOCK)
    command = [sys.executable, "-m", "tests.audit", str(lock)]
    return subprocess.run(
        command, env={**os.environ, "OSV": url}, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_packages_of_a_lock_file_are_found() -> None:
    assert pins(LOCK) == [Pin("aiohttp", "3.0.0"), Pin("colorama", "0.4.6"), Pin("uvloop", "0.22.1")]
    locked = RUN.read_text().splitlines()
    assert len(pins(RUN.read_text())) == sum("==" in line and line[0].isalnum() for line in locked if line) > 20


def test_a_vulnerable_package_is_named_and_fails(tmp_path: Path) -> None:
    with database(json.dumps({"results": [{"vulns": [{"id": "PYSEC-1"}, {"id": "GHSA-2"}]}, {}, {}]}).encode()) as (
        url,
        asked,
    ):
        ended = audit(url, tmp_path)
    assert ended.returncode == 1
    assert ended.stdout.splitlines() == [
        "aiohttp 3.0.0: PYSEC-1, GHSA-2 (https://osv.dev/PYSEC-1)",
        "1 of 3 packages have known vulnerabilities",
    ]
    [query, *_] = json.loads(asked[0])["queries"]
    assert query == {"package": {"name": "aiohttp", "ecosystem": "PyPI"}, "version": "3.0.0"}


def test_packages_without_vulnerabilities_pass(tmp_path: Path) -> None:
    with database(b'{"results": [{}, {}, {}]}') as (url, _):
        ended = audit(url, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "0 of 3 packages have known vulnerabilities\n")


@pytest.mark.parametrize(
    ("answer", "status"), [(b"", 503), (b"<html>", 200), (b"{}", 200), (b"[]", 200), (b'{"results": [{}]}', 200)]
)
def test_an_answer_that_is_none_is_not_a_pass(tmp_path: Path, answer: bytes, status: int) -> None:
    with database(answer, status) as (url, _):
        ended = audit(url, tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"audit: nothing was checked: the vulnerability database at {url} cannot be asked (")
    assert ended.stderr.count("\n") == 1


def test_without_the_internet_it_says_so_in_one_line_and_fails(tmp_path: Path) -> None:
    with database(b"") as (url, _):
        pass  # nobody listens there now
    ended = audit(url, tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "nothing was checked" in ended.stderr
