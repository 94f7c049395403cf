"""`tastestream warm` against a real picture server: what it fetches, how it fails, how it stops, and how it goes on."""

import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from model.bundle import DEFAULT_BUNDLE, Bundle
from model.bundle.manifest import content_checksum
from model.quantization import HEADER_BYTES
from streams.embed.disk_cache import DiskCache
from streams.embed.opening import CACHE
from streams.runtime.process import locked_folder
from streams.warm import commands
from streams.web.circuit_breaker import OUTCOMES_TO_JUDGE
from tests.command import Command, Done
from tests.forked import Forked
from tests.streams.warm.shop import Shop, open_shop, wait_until

REPOSITORY = Path(__file__).parents[3]
IN_FLIGHT = 8
DRAIN_TIMEOUT = 0.3  # seconds; for runs whose pictures in flight never arrive


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


def settings(**others: str) -> dict[str, str]:
    """The environment of a run in the current folder."""
    named = {
        "share_features": "false", "fetch_allow_networks": "127.0.0.0/8",
        "embed_in_flight": str(IN_FLIGHT), "fetch_attempts": "1", **others
    }  # fmt: skip
    return {f"TASTESTREAM_{name.upper()}": value for name, value in named.items()}


load_once = cache(Bundle.load)  # a bundle opens two networks, which takes longer than most runs


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Done]:
    """Runs the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Bundle, "load", load_once)
    command = Command(monkeypatch, capsys)
    return lambda *arguments, **others: command("warm", *map(str, arguments), **settings(**others))


class Counts(NamedTuple):
    """The counts of the summary."""

    total: int
    new: int
    found: int
    failed: int


def counts(done: Done | str) -> Counts:
    said = re.search(
        r"([\d,]+) pictures?: ([\d,]+) new, ([\d,]+) already cached, ([\d,]+) failed, in [\d.]+ s \([\d,.]+/s\)",
        done if isinstance(done, str) else done.out,
    )
    assert said, done
    return Counts(*(int(number.replace(",", "")) for number in said.groups()))


def write(path: Path, urls: list[str]) -> Path:
    path.write_text("".join(f"{url}\n" for url in urls))
    return path


def as_format(file_format: str, urls: list[str]) -> str:
    if file_format == "csv":
        return "id,image_url\n" + "".join(f"1,{url}\n" for url in urls)
    if file_format == "jsonl":
        return "".join(json.dumps({"image_url": url}) + "\n" for url in urls)
    return "\n".join(urls)


# What is fetched


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_all_pictures_are_fetched_once_and_a_second_run_fetches_none(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path, suffix: str
) -> None:
    (tmp_path / f"list.{suffix}").write_text(as_format(suffix, shop.urls(30)))
    done = warm(f"list.{suffix}")
    assert (done.code, counts(done)) == (0, Counts(30, 30, 0, 0)), done.err
    assert shop.asked == {str(number): 1 for number in range(30)}
    shop.asked.clear()
    done = warm(f"list.{suffix}")
    assert (done.code, counts(done)) == (0, Counts(30, 0, 30, 0))
    assert shop.asked == {}


def test_all_pictures_of_a_parquet_file_are_fetched(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    pyarrow: Any = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"picture": shop.urls(20)}), tmp_path / "list.parquet")
    assert counts(warm("list.parquet", "--column", "picture")) == Counts(20, 20, 0, 0)
    assert shop.asked.total() == 20


def test_the_cache_of_the_embed_worker_is_filled(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    warm(write(tmp_path / "list.txt", shop.urls(3)), data_dir="here")
    bundle = Bundle.load()
    row_bytes = {bundle.backbone_version: HEADER_BYTES + bundle.backbone().feature_size}
    disk = DiskCache(tmp_path / "here" / "embed" / CACHE, row_bytes=row_bytes, max_bytes=1024**2, max_age=60)
    found = {disk.get(bundle.backbone_version, url, now=time.time()) for url in shop.urls(3)}
    disk.close()
    assert len(found) == 1  # all URLs serve the same picture
    assert None not in found


def test_a_repeated_picture_is_fetched_once(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    urls = [url for url in shop.urls(10) for _ in range(3)] + shop.urls(10)
    done = warm(write(tmp_path / "list.txt", urls))
    assert counts(done) == Counts(40, 10, 30, 0)
    assert shop.asked == {str(number): 1 for number in range(10)}


def test_a_repeated_failure_is_fetched_once_in_each_run(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    source = write(tmp_path / "list.txt", [f"{shop.url}/gone", *shop.urls(30), f"{shop.url}/gone"])
    for run in (1, 2):
        done = warm(source, cache_failure_age="0")
        assert (done.code, counts(done).failed) == (1, 2)
        assert shop.asked["gone"] == run


def test_another_item_network_fetches_nothing(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    source = write(tmp_path / "list.txt", shop.urls(5))
    warm(source)
    assert counts(warm(source, bundle=str(another_bundle(tmp_path / "bundle", "items.onnx")))) == Counts(5, 0, 5, 0)
    assert shop.asked == {str(number): 1 for number in range(5)}


def test_another_backbone_fetches_all_again(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    source = write(tmp_path / "list.txt", shop.urls(5))
    warm(source)
    assert counts(warm(source, bundle=str(another_bundle(tmp_path / "bundle", "backbone.onnx")))) == Counts(5, 5, 0, 0)
    assert shop.asked == {str(number): 2 for number in range(5)}
    assert counts(warm(source)) == Counts(5, 0, 5, 0)


def test_the_pictures_of_both_bundles_are_fetched_once(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    source = write(tmp_path / "list.txt", shop.urls(5))
    following = str(another_bundle(tmp_path / "bundle", "backbone.onnx"))
    assert counts(warm(source, next_bundle=following)) == Counts(5, 5, 0, 0)
    assert counts(warm(source, bundle=following)) == Counts(5, 0, 5, 0)
    assert counts(warm(source)) == Counts(5, 0, 5, 0)
    assert shop.asked == {str(number): 1 for number in range(5)}


def test_without_a_broker_it_says_how_to_stay_local(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    source = write(tmp_path / "list.txt", shop.urls(2))
    nobody = {"share_features": "true", "broker": "127.0.0.1:9", "broker_timeout": "0.5"}
    done = warm(source, **nobody)
    assert (done.code, done.out) == (69, "")
    assert "no broker at" in done.err and "use --local to fill the cache of this machine alone" in done.err
    assert shop.asked == {}
    assert counts(warm(source, "--local", **nobody)) == Counts(2, 2, 0, 0)


def another_bundle(folder: Path, name: str) -> Path:
    """The shipped bundle with another version of a network: its file differs in a comment."""
    shutil.copytree(DEFAULT_BUNDLE, folder)
    network = folder / name
    network.write_bytes(network.read_bytes() + b"\x32\x07another")  # ModelProto.doc_string
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(network.read_bytes()).hexdigest()
    manifest |= {"embedder_version": "", "backbone_version": ""}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"checksum": content_checksum(manifest)}))
    return folder


def test_the_limit_reads_only_the_first_n_entries(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    assert counts(warm(write(tmp_path / "list.txt", shop.urls(50)), "--limit", 7)) == Counts(7, 7, 0, 0)
    assert set(shop.asked) == {str(number) for number in range(7)}


def test_the_rate_is_kept_and_cached_pictures_do_not_wait(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path
) -> None:
    source = write(tmp_path / "list.txt", shop.urls(11))
    started_at = time.monotonic()
    assert counts(warm(source, "--rate", 20)).new == 11
    assert time.monotonic() - started_at >= 0.5
    started_at = time.monotonic()
    assert counts(warm(source, "--rate", 0.1)).found == 11
    assert time.monotonic() - started_at < 60  # of 110 at that rate


@pytest.mark.parametrize("in_flight", [1, 4])
def test_the_number_of_pictures_in_flight_is_limited(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path, in_flight: int
) -> None:
    warm(write(tmp_path / "list.txt", shop.urls(20)), embed_in_flight=str(in_flight))
    assert shop.max_active <= in_flight


def test_a_full_cache_is_reported(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    disk = DiskCache(tmp_path / "data/embed" / CACHE, row_bytes={}, max_bytes=8 * 1024**2, max_age=60)
    for number in range(1500):
        disk.put("old", f"{number}", os.urandom(8 * 1024), now=0)
    disk.close()
    source = write(tmp_path / "list.txt", shop.urls(2))
    assert (
        "the cache is full, so new embeddings displace old ones; TASTESTREAM_CACHE_DISK is 9,000,000 bytes"
        in warm(source, cache_disk="9000000").out
    )
    assert "full" not in warm(source, cache_disk="9000000").out  # nothing was added
    assert "full" not in warm(write(source, shop.urls(3))).out


# Failures


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


def test_a_bad_argument_is_one_line_and_changes_no_file(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("sku,title\n1,shoe\n")
    assert "it has: sku, title" in the_one_line(warm("list.csv"), 2)
    (tmp_path / "list.jsonl").write_text(f'{{"url": "{shop.url}/0"}}\n')
    assert "is the list itself" in the_one_line(warm("list.jsonl", "--failures", "list.jsonl"), 2)
    assert shop.url in (tmp_path / "list.jsonl").read_text()
    assert "cannot be written" in the_one_line(warm("list.jsonl", "--failures", "none/failed.jsonl"), 2)
    assert not (tmp_path / "data").exists()


def test_it_refuses_to_run_while_the_embed_worker_holds_the_folder(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path
) -> None:
    source = write(tmp_path / "list.txt", shop.urls(2))
    with locked_folder(tmp_path / "data", "embed"):
        line = the_one_line(warm(source), 78)
    assert f"data folder {tmp_path}/data/embed is in use by process {os.getpid()}" in line
    assert shop.asked == {}


def test_a_truncated_list_is_reported_after_the_summary(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    data = gzip.compress("\n".join(300 * shop.urls(10)).encode())
    (tmp_path / "list.txt.gz").write_bytes(data[:-20])
    done = warm("list.txt.gz")
    assert done.code == 1
    assert done.out.startswith("stopped: ")
    assert (counts(done).new, counts(done).failed) == (10, 0)
    assert "list.txt.gz cannot be read after line" in done.err


def test_a_cache_that_cannot_be_written_stops_the_run(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = DiskCache.put

    def on_a_full_disk(disk: DiskCache, version: str, url: str, row: bytes, *, now: float) -> None:
        put(disk, version, url, row, now=now)
        disk.write_error = "No space left on device"

    monkeypatch.setattr(DiskCache, "put", on_a_full_disk)
    done = warm(write(tmp_path / "list.txt", shop.urls(500)))
    assert done.code == 1
    assert "error: cannot write to the picture cache: No space left on device" in done.err
    assert shop.asked.total() < 100


# Stopping, and going on


@contextmanager
def started(
    folder: Path, *arguments: str, stdin: int | None = None, drain_timeout: float = 4.0, **others: str
) -> Generator[subprocess.Popen[str]]:
    """Run the command as a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASTESTREAM_")}
    process = Forked(
        [sys.executable, "-m", "tests.streams.warm.impatient", str(drain_timeout), "warm", *arguments],
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


def test_a_run_after_a_kill_goes_on_where_the_last_one_stopped(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path
) -> None:
    source = write(tmp_path / "list.txt", shop.urls(80))
    shop.patience = 40
    with started(tmp_path, str(source)) as process:
        wait_until(lambda: shop.asked.total() >= 40 + IN_FLIGHT)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert set(shop.asked.values()) == {1}
    shop.patience = 1_000_000
    done = warm(source)
    kept = counts(done).found
    assert 0 < kept <= 40, "some of those that were made may not have been written yet"
    assert (done.code, counts(done)) == (0, Counts(80, 80 - kept, kept, 0))
    assert sum(count - 1 for count in shop.asked.values()) == 40 + IN_FLIGHT - kept  # only the others are fetched again
    assert len(shop.asked) == 80


@contextmanager
def signal_when(condition: Callable[[], bool], number: signal.Signals) -> Generator[None]:
    """Send a signal to this process, where the command runs, once a condition holds."""
    ours = signal.getsignal(number)

    def send() -> None:
        wait_until(condition)
        assert signal.getsignal(number) is not ours, "the command does not handle the signal"
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_with_a_summary(
    warm: Callable[..., Done], shop: Shop, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "DRAIN_TIMEOUT", DRAIN_TIMEOUT)
    shop.patience = 20
    source = write(tmp_path / "list.txt", shop.urls(200))
    with signal_when(lambda: shop.asked.total() >= 20 + IN_FLIGHT, number):
        done = warm(source)
    assert done.code == 130, done.err
    assert done.out.startswith("stopped: ")
    assert counts(done).new == 20  # and none of the pictures that hang
    assert "Traceback" not in done.err
    assert "never retrieved" not in done.err


def test_a_signal_stops_it_cleanly_while_failing_pictures_wait_for_a_retry(shop: Shop, tmp_path: Path) -> None:
    shop.broken = True
    source = write(tmp_path / "list.txt", shop.urls(50))
    with started(tmp_path, str(source), drain_timeout=DRAIN_TIMEOUT, fetch_attempts="100") as process:
        wait_until(lambda: shop.asked.total() >= OUTCOMES_TO_JUDGE)  # then the circuit breaker is open
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, counts(out)) == (130, Counts(0, 0, 0, 0))
    assert err == ""


def test_pictures_in_flight_arrive_after_a_signal(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    source = write(tmp_path / "list.txt", shop.urls(5000))
    with started(tmp_path, str(source)) as process:
        wait_until(lambda: shop.asked.total() >= 20)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert counts(out).new == shop.asked.total()
    assert counts(out).failed == 0


def test_standard_input_is_read_as_it_arrives_and_a_signal_ends_the_wait_for_more(shop: Shop, tmp_path: Path) -> None:
    with started(tmp_path, "-", "--format", "csv", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write("image_url\n" + "".join(f"{url}\n" for url in shop.urls(5)))
        process.stdin.flush()
        wait_until(lambda: shop.asked.total() == 5)
        process.send_signal(signal.SIGTERM)
        process.wait(60)  # although its input is still open
        assert process.stdout is not None
        assert counts(process.stdout.read()) == Counts(5, 5, 0, 0)
    assert process.returncode == 130


def test_the_end_of_standard_input_ends_the_run(warm: Callable[..., Done], shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("\n".join(shop.urls(5)))
    stdin = os.dup(0)
    try:
        with (tmp_path / "input").open() as file:
            os.dup2(file.fileno(), 0)
        done = warm("-")
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
    assert (done.code, counts(done)) == (0, Counts(5, 5, 0, 0))
