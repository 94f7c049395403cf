"""`tastestream warm` against a real picture server: what is fetched, what is not, how it ends, and how it goes on."""

import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from model.bundle import DEFAULT_BUNDLE, Bundle
from model.quantization import HEADER_BYTES
from streams.embed.disk_cache import DiskCache
from streams.runtime.process import locked_folder
from streams.web.hosts import FAILURES
from tests.command import Command, Done
from tests.streams.warm.shop import Shop, open_shop, wait_until

REPOSITORY = Path(__file__).parents[3]
IN_FLIGHT = 8


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


def settings(**others: str) -> dict[str, str]:
    """The environment of a run in the current folder."""
    named = {
        "fetch_allow_networks": "127.0.0.0/8", "embed_in_flight": str(IN_FLIGHT), "fetch_attempts": "1", **others
    }  # fmt: skip
    return {f"TASTESTREAM_{name.upper()}": value for name, value in named.items()}


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Done]:
    """Runs the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    command = Command(monkeypatch, capsys)
    return lambda *arguments, **others: command("warm", *map(str, arguments), **settings(**others))


class Counts(NamedTuple):
    """What the summary says."""

    total: int
    new: int
    found: int
    failed: int


def counts(done: Done | str) -> Counts:
    said = re.search(
        r"([\d,]+) pictures?: ([\d,]+) new, ([\d,]+) already there, ([\d,]+) failed, in [\d.]+ s \([\d,.]+ a second\)",
        done if isinstance(done, str) else done.out,
    )
    assert said, done
    return Counts(*(int(number.replace(",", "")) for number in said.groups()))


def write(path: Path, urls: list[str]) -> Path:
    path.write_text("".join(f"{url}\n" for url in urls))
    return path


def as_form(form: str, urls: list[str]) -> str:
    if form == "csv":
        return "id,image_url\n" + "".join(f"1,{url}\n" for url in urls)
    if form == "jsonl":
        return "".join(json.dumps({"image_url": url}) + "\n" for url in urls)
    return "\n".join(urls)


# What is fetched


@pytest.mark.parametrize("form", ["csv", "jsonl", "txt"])
def test_all_pictures_of_a_list_are_fetched_once_and_the_second_run_asks_for_none(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path, form: str
) -> None:
    (tmp_path / f"list.{form}").write_text(as_form(form, shop.urls(30)))
    done = warm(f"list.{form}")
    assert (done.code, counts(done)) == (0, Counts(30, 30, 0, 0)), done.err
    assert shop.asked == {str(number): 1 for number in range(30)}
    shop.asked.clear()
    done = warm(f"list.{form}")
    assert (done.code, counts(done)) == (0, Counts(30, 0, 30, 0))
    assert shop.asked == {}


def test_parquet_too(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    pyarrow: Any = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"picture": shop.urls(20)}), tmp_path / "list.parquet")
    assert counts(warm("list.parquet", "--column", "picture")) == Counts(20, 20, 0, 0)
    assert shop.asked.total() == 20


def test_it_is_the_embed_workers_cache_that_is_filled(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    warm(write(tmp_path / "list.txt", shop.urls(3)), data_dir="here")
    bundle = Bundle.load()
    disk = DiskCache(
        tmp_path / "here" / "embed" / "cache",
        embedder=bundle.embedder_version,
        length=HEADER_BYTES + bundle.embedding_size,
        max_bytes=1024**2,
        max_age=60,
    )
    found = {disk.get(url, now=time.time()) for url in shop.urls(3)}
    disk.close()
    assert len(found) == 1  # it is one picture
    assert None not in found


def test_a_picture_that_comes_again_is_not_fetched_again(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    urls = [url for url in shop.urls(10) for _ in range(3)] + shop.urls(10)
    done = warm(write(tmp_path / "list.txt", urls))
    assert counts(done) == Counts(40, 10, 30, 0)
    assert shop.asked == {str(number): 1 for number in range(10)}


def test_a_failure_that_comes_again_is_not_fetched_again_but_by_the_next_run(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path
) -> None:
    source = write(tmp_path / "list.txt", [f"{shop.url}/gone", *shop.urls(30), f"{shop.url}/gone"])
    for run in (1, 2):
        done = warm(source, cache_failure_age="0")
        assert (done.code, counts(done).failed) == (1, 2)
        assert shop.asked["gone"] == run


def test_another_embedder_makes_all_again(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    source = write(tmp_path / "list.txt", shop.urls(5))
    warm(source)
    assert counts(warm(source, bundle=str(another_bundle(tmp_path / "bundle")))) == Counts(5, 5, 0, 0)
    assert shop.asked == {str(number): 2 for number in range(5)}
    assert counts(warm(source)) == Counts(5, 0, 5, 0)


def another_bundle(folder: Path) -> Path:
    """The shipped bundle, with a network whose file differs in a remark."""
    shutil.copytree(DEFAULT_BUNDLE, folder)
    network = folder / "embedder.onnx"
    network.write_bytes(network.read_bytes() + b"\x32\x07another")  # ModelProto.doc_string
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["embedder.onnx"] = hashlib.sha256(network.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_the_first_n_are_taken(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    assert counts(warm(write(tmp_path / "list.txt", shop.urls(50)), "--limit", 7)) == Counts(7, 7, 0, 0)
    assert set(shop.asked) == {str(number) for number in range(7)}


def test_the_rate_is_kept_and_what_is_cached_does_not_wait(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path
) -> None:
    source = write(tmp_path / "list.txt", shop.urls(11))
    begun = time.monotonic()
    assert counts(warm(source, "--rate", 10)).new == 11
    assert time.monotonic() - begun >= 1.0
    begun = time.monotonic()
    assert counts(warm(source, "--rate", 0.1)).found == 11
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("in_flight", [1, 4])
def test_no_more_are_in_flight_than_the_setting_says(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path, in_flight: int
) -> None:
    warm(write(tmp_path / "list.txt", shop.urls(20)), embed_in_flight=str(in_flight))
    assert shop.busiest <= in_flight


def test_a_cache_that_is_too_small_for_the_list_says_so(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    disk = DiskCache(tmp_path / "data/embed/cache", embedder="old", length=1024, max_bytes=8 * 1024**2, max_age=60)
    for number in range(12_000):
        disk.put(f"{number}", os.urandom(1024), now=0)
    disk.close()
    source = write(tmp_path / "list.txt", shop.urls(2))
    assert (
        "the cache is full, and the oldest go: TASTESTREAM_CACHE_DISK is 9,000,000 bytes"
        in warm(source, cache_disk="9000000").out
    )
    assert "full" not in warm(source, cache_disk="9000000").out  # nothing was added
    assert "full" not in warm(write(source, shop.urls(3))).out


# What fails


def test_failures_are_counted_by_reason_and_written_as_a_list_for_another_run(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path
) -> None:
    here = tmp_path / "shoe.jpg"
    here.write_bytes(shop.picture)
    source = write(
        tmp_path / "list.txt",
        [
            f"{shop.url}/0",
            f"{shop.url}/gone",
            f"{shop.url}/text",
            str(here),
            f"file://{here}",
            "http://10.0.0.1/1",
            "x" * 3000,
        ],
    )
    done = warm(source, "--failures", "failed.jsonl")
    assert (done.code, counts(done)) == (1, Counts(7, 1, 0, 6))
    [line] = [line for line in done.out.splitlines() if line.startswith("  failed: ")]
    assert line.startswith("  failed: url_scheme 2, ")
    rows = [json.loads(line) for line in (tmp_path / "failed.jsonl").read_text().splitlines()]
    assert {(row["line"], row["url"], row["reason"]) for row in rows} == {
        (2, f"{shop.url}/gone", "http_status"),
        (3, f"{shop.url}/text", "not_a_picture"),
        (4, str(here), "url_scheme"),
        (5, f"file://{here}", "url_scheme"),
        (6, "http://10.0.0.1/1", "address_not_public"),
        (7, "x" * 3000, "url_invalid"),
    }
    assert all(row["error"] for row in rows)
    again = warm("failed.jsonl")
    assert counts(again) == Counts(6, 0, 0, 6)
    assert shop.asked == {"0": 1, "gone": 2, "text": 2}


def test_broken_lines_are_failures_and_the_others_are_fetched(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "list.jsonl").write_text(f'{{"url": "{shop.url}/0"}}\n{{"url"\n{{}}\n{{"url": "{shop.url}/1"}}\n')
    done = warm("list.jsonl", "--failures", "failed.jsonl")
    assert (done.code, counts(done)) == (1, Counts(4, 2, 0, 2))
    rows = [json.loads(line) for line in (tmp_path / "failed.jsonl").read_text().splitlines()]
    assert [(row["line"], row["url"], row["reason"]) for row in rows] == [(2, None, "broken_line"), (3, None, "no_url")]


def test_a_surrogate_in_a_url_is_one_failure(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(f"{shop.url}/0\n{shop.url}/\xff\n".encode("latin-1"))
    done = warm("list.txt", "--failures", "failed.jsonl")
    assert counts(done) == Counts(2, 1, 0, 1)
    assert json.loads((tmp_path / "failed.jsonl").read_text())["reason"] == "url_invalid"


def the_one_line(done: Done, code: int) -> str:
    assert (done.code, done.out) == (code, ""), done
    [line] = done.err.splitlines()
    return line


def test_a_bad_argument_is_one_line_and_leaves_the_files_alone(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text("sku,title\n1,shoe\n")
    assert "it has: sku, title" in the_one_line(warm("list.csv"), 2)
    (tmp_path / "list.jsonl").write_text(f'{{"url": "{shop.url}/0"}}\n')
    assert "is the list itself" in the_one_line(warm("list.jsonl", "--failures", "list.jsonl"), 2)
    assert shop.url in (tmp_path / "list.jsonl").read_text()
    assert "cannot be written" in the_one_line(warm("list.jsonl", "--failures", "none/failed.jsonl"), 2)
    assert not (tmp_path / "data").exists()


def test_while_the_embed_worker_has_the_folder_it_says_so_and_ends(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path
) -> None:
    source = write(tmp_path / "list.txt", shop.urls(2))
    with locked_folder(tmp_path / "data", "embed"):
        line = the_one_line(warm(source), 78)
    assert f"data folder {tmp_path}/data/embed is in use by process {os.getpid()}" in line
    assert shop.asked == {}


def test_a_list_that_ends_early_is_said_after_what_was_done(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path
) -> None:
    data = gzip.compress("\n".join(300 * shop.urls(10)).encode())
    (tmp_path / "list.txt.gz").write_bytes(data[:-20])
    done = warm("list.txt.gz")
    assert done.code == 1
    assert done.out.startswith("stopped: ")
    assert (counts(done).new, counts(done).failed) == (10, 0)
    assert "list.txt.gz cannot be read on after line" in done.err


def test_a_cache_that_cannot_be_written_ends_it(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = DiskCache.put

    def on_a_full_disk(disk: DiskCache, url: str, embedding: bytes, *, now: float) -> None:
        put(disk, url, embedding, now=now)
        disk.unwritten = "No space left on device"

    monkeypatch.setattr(DiskCache, "put", on_a_full_disk)
    done = warm(write(tmp_path / "list.txt", shop.urls(500)))
    assert done.code == 1
    assert "error: the cache cannot be written: No space left on device" in done.err
    assert shop.asked.total() < 100


# How it ends, and goes on


@contextmanager
def started(folder: Path, *arguments: str, stdin: int | None = None, **others: str) -> Generator[subprocess.Popen[str]]:
    """The command as a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASTESTREAM_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "streams", "warm", *arguments],
        cwd=folder,
        env={**inherited, **settings(**others), "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_run_goes_on_where_it_stopped(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    source = write(tmp_path / "list.txt", shop.urls(80))
    shop.patience = 40
    with started(tmp_path, str(source)) as process:
        wait_until(lambda: shop.asked.total() >= 40 + IN_FLIGHT)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert set(shop.asked.values()) == {1}
    shop.patience = 1_000_000
    done = warm(source)
    assert (done.code, counts(done)) == (0, Counts(80, 40, 40, 0))
    assert sum(count - 1 for count in shop.asked.values()) == IN_FLIGHT  # what was in flight, and nothing else
    assert len(shop.asked) == 80


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary(shop: Shop, tmp_path: Path, number: signal.Signals) -> None:
    shop.patience = 20
    with started(tmp_path, str(write(tmp_path / "list.txt", shop.urls(200)))) as process:
        wait_until(lambda: shop.asked.total() >= 20 + IN_FLIGHT)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out.startswith("stopped: ")
    assert counts(out).new == 20  # and whatever the shop has kept waiting for longer than a picture may take
    assert "Traceback" not in err
    assert "never retrieved" not in err


def test_a_signal_ends_it_cleanly_while_failing_pictures_wait_for_their_next_attempt(
    shop: Shop, tmp_path: Path
) -> None:
    shop.broken = True
    with started(tmp_path, str(write(tmp_path / "list.txt", shop.urls(50))), fetch_attempts="100") as process:
        wait_until(lambda: shop.asked.total() >= FAILURES)  # then the host is left alone
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, counts(out)) == (130, Counts(0, 0, 0, 0))
    assert err == ""


def test_a_signal_lets_what_is_in_flight_arrive(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    source = write(tmp_path / "list.txt", shop.urls(5000))
    with started(tmp_path, str(source)) as process:
        wait_until(lambda: shop.asked.total() >= 20)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert counts(out).new == shop.asked.total()
    assert counts(out).failed == 0


def test_standard_input_is_read_as_it_comes_and_a_signal_ends_the_wait_for_more(shop: Shop, tmp_path: Path) -> None:
    with started(tmp_path, "-", "--format", "csv", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write("image_url\n" + "".join(f"{url}\n" for url in shop.urls(5)))
        process.stdin.flush()
        wait_until(lambda: shop.asked.total() == 5)
        process.send_signal(signal.SIGTERM)
        process.wait(60)  # although nobody ends its input
        assert process.stdout is not None
        assert counts(process.stdout.read()) == Counts(5, 5, 0, 0)
    assert process.returncode == 130


def test_standard_input_ends_it(shop: Shop, tmp_path: Path) -> None:
    with started(tmp_path, "-", stdin=subprocess.PIPE) as process:
        out, _ = process.communicate("\n".join(shop.urls(5)), timeout=60)
    assert (process.returncode, counts(out)) == (0, Counts(5, 5, 0, 0))
