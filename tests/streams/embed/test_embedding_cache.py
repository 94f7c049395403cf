"""An embedding comes from memory, disk, or one fetch from a real local server. Failures are remembered for a while."""

import asyncio
import gc
import io
import socket
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from PIL import Image
from prometheus_client import REGISTRY

from model.bundle import Bundle
from model.preprocessing import decode_picture
from model.quantization import quantize
from streams.bundles import Bundles
from streams.embed.batcher import Batcher
from streams.embed.decoding import pool
from streams.embed.decoding.limits import DecoderLimits
from streams.embed.decoding.pool import DecoderPool
from streams.embed.disk_cache import DiskCache
from streams.embed.embedding_cache import ENTRY_OVERHEAD, CodeBatcher, Codes, EmbeddingCache, Failures, MemoryCache
from streams.embed.networks import Networks, open_networks
from streams.embed.pipeline import PicturePipeline, Sized
from streams.exceptions import DeliveryError, FetchError
from streams.features.follower import Follower
from streams.features.records import features_key
from streams.features.sharing import Send, Sharing
from streams.features.taking import Own
from streams.kafka.records import Outgoing
from streams.settings import read_settings
from streams.web import large_places
from streams.web.circuit_breaker import FIRST_OPEN_SECONDS, OUTCOMES_TO_JUDGE, SILENT_FAILURES_TO_OPEN
from streams.web.fetch import Fetcher
from streams.web.host_limiter import HostLimiter, HostLimits
from streams.web.limits import LARGE_PICTURE_BYTES, FetchLimits
from tests.model.bundle.networks import write_colours
from tests.model.unbounded_pictures import avif_of_items
from tests.streams.warm.test_warm import another_bundle
from tests.streams.web.servers import LOOPBACK, serving

FAILURE_AGE = 30.0  # seconds
MEMORY = 1024**2  # bytes
MAX_AGE = 1000.0  # seconds
PATIENT = FetchLimits(
    connect_timeout=300, idle_timeout=300, total_timeout=300
)  # a test ends sooner than a fetch gives up


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@cache
def decoders() -> DecoderPool:
    """Decoder processes, started once for all tests here."""
    pool = DecoderPool(DecoderLimits(seconds=30, memory=640 * 1024**2), 1)
    pool.start()
    return pool


@pytest.fixture(scope="module", autouse=True)
def end_decoders() -> Generator[None]:
    yield
    decoders().close()
    decoders.cache_clear()


@cache
def shipped() -> Networks:
    """The networks of the shipped bundle, opened once for all tests."""
    return open_networks(Bundles(Bundle.load()), 1)


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


@dataclass
class Shop:
    """A picture server that counts requests. /N is a picture, /text and /cut are not, /missing is a 404."""

    asked: Counter[str] = field(default_factory=Counter[str])
    may_respond: asyncio.Event = field(default_factory=asyncio.Event)
    broken: int = 0  # how many more requests are answered with 503
    bad: frozenset[str] = frozenset()  # the pictures whose requests are always answered so
    retry_after: int | None = None  # seconds that those ask for
    others: dict[str, bytes] = field(default_factory=dict[str, bytes])  # pictures by name
    url: str = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        name = request.path.strip("/")
        self.asked[name] += 1
        await self.may_respond.wait()
        if self.broken or name in self.bad:
            self.broken = max(0, self.broken - 1)
            return web.Response(
                status=503, headers={"Retry-After": str(self.retry_after)} if self.retry_after else None
            )
        if name.isdigit():
            return web.Response(body=png(int(name)))
        bodies = self.others | {
            "text": b"this is no picture",
            "long-text": b"no picture" * 100_000,
            "cut": png(1)[:500],
        }
        return web.Response(body=bodies[name]) if name in bodies else web.Response(status=404)


@dataclass
class Clock:
    now: float = 1_400_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def shop() -> AsyncGenerator[Shop]:
    shop = Shop()
    shop.may_respond.set()
    async with serving(shop.answer) as shop.url:
        yield shop


@asynccontextmanager
async def opened(
    bundle: Bundle,
    folder: Path,
    clock: Clock,
    *,
    memory: int = MEMORY,
    attempts: int = 1,
    max_in_flight: int = 64,
    max_large: int = 4,
    pauses: list[float] | None = None,
    networks: Networks | None = None,
    send: Send | None = None,
) -> AsyncGenerator[EmbeddingCache]:
    """The real cache, from the fetcher to the model. The pauses between attempts are appended to `pauses`, and skipped."""

    async def skip(seconds: float) -> None:
        (pauses if pauses is not None else []).append(seconds)

    networks = networks or shipped()
    disk = DiskCache(folder, row_bytes=networks.row_bytes, max_bytes=1024**2, max_age=MAX_AGE)
    with ThreadPoolExecutor(3) as threads:
        async with Fetcher(PATIENT, LOOPBACK) as fetcher:
            pipeline = PicturePipeline(
                fetcher,
                {one.version: Sized(one.image_size, Batcher(one.run, threads, 8)) for one in networks.pictures},
                max_pixels=10_000,
                host_limiter=HostLimiter(),
                max_in_flight=max_in_flight,
                max_large=max_large,
                attempts=attempts,
                decoders=decoders(),
                sleep=skip,
            )
            sharing = None
            if send is not None:
                own = Own()
                follower = Follower(read_settings(), disk, networks.row_bytes, folder / "p.json", own=own)
                follower.caught_up.set()  # there is nothing to follow
                sharing = Sharing(send, own, follower)
            coders = [CodeBatcher(one, one.run and Batcher(one.run, threads, 8)) for one in networks.coders]
            yield EmbeddingCache(
                pipeline, coders, disk, memory=memory, failure_age=FAILURE_AGE, sharing=sharing, clock=clock
            )
    disk.close()


async def failure(cache: EmbeddingCache, url: str) -> FetchError:
    with pytest.raises(FetchError) as failed:
        await cache.codes(url)
    return failed.value


async def test_the_result_is_the_quantized_embedding_of_the_model(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    async with opened(bundle, tmp_path / "c", Clock()) as cache:
        found = await cache.codes(f"{shop.url}/7")
    [direct] = bundle.embedder().embed(decode_picture(png(7), bundle.image_size)[None])
    assert found == Codes(quantize(direct))


async def test_concurrent_requests_for_one_url_share_one_fetch(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    async with opened(bundle, tmp_path / "c", Clock()) as cache:
        await cache.codes(f"{shop.url}/8")  # a host that has responded gets one more request at a time
        shop.may_respond.clear()
        requests = [asyncio.create_task(cache.codes(f"{shop.url}/{number % 2}")) for number in range(20)]
        async with asyncio.timeout(60):
            while len(shop.asked) < 3:
                await asyncio.wait(requests, timeout=0.01)
        shop.may_respond.set()
        found = await asyncio.gather(*requests)
    assert shop.asked == {"8": 1, "0": 1, "1": 1}
    assert len(set(found)) == 2


async def test_a_cancelled_request_does_not_cancel_the_fetch_of_others(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    shop.may_respond.clear()
    async with opened(bundle, tmp_path / "c", Clock()) as cache:
        first, second = (asyncio.create_task(cache.codes(f"{shop.url}/1")) for _ in range(2))
        async with asyncio.timeout(60):
            while not shop.asked:
                await asyncio.wait({first}, timeout=0.01)
        first.cancel()
        shop.may_respond.set()
        assert await second
    assert shop.asked == {"1": 1}


def found_in(where: str) -> float:
    """The count of embeddings found in one place, from the metric."""
    return REGISTRY.get_sample_value("tastestream_pictures_total", {"where": where}) or 0


async def test_each_stage_of_a_picture_is_timed(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    def counts() -> list[float]:
        names = [{"worker": "embed", "stage": stage} for stage in ("fetch", "decode")]
        return [REGISTRY.get_sample_value("tastestream_stage_seconds_count", one) or 0 for one in names]

    before = counts()
    async with opened(bundle, tmp_path / "c", Clock()) as cache:
        for name in ("1", "1", "2"):
            await cache.codes(f"{shop.url}/{name}")
    assert [count - start for count, start in zip(counts(), before, strict=True)] == [2, 2]


async def test_memory_and_then_disk_save_a_fetch(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    memory, disk, fetch = (found_in(where) for where in ("memory", "disk", "fetch"))
    async with opened(bundle, tmp_path / "c", Clock()) as cache:
        first = await cache.codes(f"{shop.url}/1")
        assert await cache.codes(f"{shop.url}/1") == first
    assert (found_in("memory"), found_in("disk"), found_in("fetch")) == (memory + 1, disk, fetch + 1)
    async with opened(bundle, tmp_path / "c", Clock()) as restarted:
        assert await restarted.codes(f"{shop.url}/1") == first
        assert await restarted.codes(f"{shop.url}/1") == first
    assert (found_in("memory"), found_in("disk"), found_in("fetch")) == (memory + 2, disk + 1, fetch + 1)
    assert shop.asked == {"1": 1}


# Two bundles


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with a backbone of its own, which makes no features of a black picture."""
    return write_colours(tmp_path_factory.mktemp("bundles") / "colours")


async def test_a_picture_is_fetched_and_decoded_once_for_two_backbones(
    bundle: Bundle, colours: Bundle, tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = 0
    decode = DecoderPool.decode

    async def counted(pool: DecoderPool, *arguments: Any) -> Any:
        nonlocal decoded
        decoded += 1
        return await decode(pool, *arguments)

    monkeypatch.setattr(DecoderPool, "decode", counted)
    networks = open_networks(Bundles(bundle, colours), 1)
    async with opened(bundle, tmp_path / "c", Clock(), networks=networks) as cache:
        first = await cache.codes(f"{shop.url}/7")
        assert await cache.codes(f"{shop.url}/7") == first
    assert (shop.asked, decoded) == ({"7": 1}, 1)
    picture = decode_picture(png(7), bundle.image_size)[None]
    assert first == Codes(*(quantize(one.embedder().embed(picture)[0]) for one in (bundle, colours)))


async def test_only_the_features_of_the_other_backbone_are_made(
    bundle: Bundle, colours: Bundle, tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(bundle, tmp_path / "c", Clock()) as cache:
        served = await cache.codes(f"{shop.url}/7")
    networks = open_networks(Bundles(bundle, colours), 1)
    asked: list[Collection[str] | None] = []
    made = PicturePipeline[bytes].made

    async def watched(pipeline: PicturePipeline[bytes], url: str, versions: Collection[str], crowded: Any) -> Any:
        asked.append(versions)
        return await made(pipeline, url, versions, crowded)

    monkeypatch.setattr(PicturePipeline, "made", watched)
    async with opened(bundle, tmp_path / "c", Clock(), networks=networks) as cache:
        assert not cache.cached(f"{shop.url}/7")
        both = await cache.codes(f"{shop.url}/7")
        assert cache.cached(f"{shop.url}/7")
    assert asked == [[colours.backbone_version]]
    assert (both.served, bool(both.next)) == (served.served, True)
    assert shop.asked == {"7": 2}
    async with opened(bundle, tmp_path / "c", Clock(), networks=open_networks(Bundles(colours, bundle), 1)) as cache:
        assert await cache.codes(f"{shop.url}/7") == Codes(both.next, both.served)
    assert shop.asked == {"7": 2}


async def test_another_item_network_needs_no_fetch(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    async with opened(bundle, tmp_path / "c", Clock()) as cache:
        served = await cache.codes(f"{shop.url}/7")
    following = Bundle.load(another_bundle(tmp_path / "next", "items.onnx"))
    networks = open_networks(Bundles(bundle, following), 1)
    async with opened(bundle, tmp_path / "c", Clock(), networks=networks) as cache:
        assert cache.cached(f"{shop.url}/7")
        assert await cache.codes(f"{shop.url}/7") == Codes(served.served, served.served)
    assert shop.asked == {"7": 1}


async def test_a_picture_that_is_gone_costs_the_next_code_and_not_the_event(
    bundle: Bundle, colours: Bundle, tmp_path: Path, shop: Shop
) -> None:
    clock, url = Clock(), f"{shop.url}/7"
    async with opened(bundle, tmp_path / "c", clock) as cache:
        served = await cache.codes(url)
    shop.bad = frozenset({"7"})
    networks = open_networks(Bundles(bundle, colours), 1)
    async with opened(bundle, tmp_path / "c", clock, networks=networks) as cache:
        for _ in range(3):
            assert await cache.codes(url) == served
        assert shop.asked == {"7": 2}, "the failure is remembered"
        shop.bad = frozenset()
        clock.now += FAILURE_AGE
        assert (await cache.codes(url)).next


async def test_a_picture_that_the_next_network_makes_no_numbers_of_keeps_its_served_code(
    bundle: Bundle, colours: Bundle, tmp_path: Path, shop: Shop
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, "PNG")
    shop.others["black"] = file.getvalue()
    networks = open_networks(Bundles(bundle, colours), 1)
    async with opened(bundle, tmp_path / "c", Clock(), networks=networks) as cache:
        for _ in range(3):
            found = await cache.codes(f"{shop.url}/black")
            assert (len(found.served), found.next) == (171, b"")
    assert shop.asked == {"black": 1}
    async with opened(bundle, tmp_path / "c2", Clock(), networks=open_networks(Bundles(colours), 1)) as cache:
        assert (await failure(cache, f"{shop.url}/black")).reason == "invalid_embedding"


async def test_a_picture_that_was_forgotten_is_fetched_again(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    url = f"{shop.url}/1"
    async with opened(bundle, tmp_path / "c", Clock()) as cache:
        await cache.codes(url)
        cache.forget(url)
        assert cache._disk.write({features_key(bundle.backbone_version, url): None})
        assert not cache.cached(url)
        await cache.codes(url)
    assert shop.asked == {"1": 2}


async def test_features_that_the_broker_did_not_take_are_not_kept(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    """The event comes again. If it found them on disk, nobody would share them."""
    refusing = True

    async def send(_: list[Outgoing]) -> None:
        if refusing:
            raise DeliveryError("the broker said no")

    async with opened(bundle, tmp_path / "c", Clock(), send=send) as cache:
        with pytest.raises(DeliveryError):
            await cache.codes(f"{shop.url}/1")
        assert not cache.cached(f"{shop.url}/1")
        refusing = False
        assert await cache.codes(f"{shop.url}/1")
        assert cache.cached(f"{shop.url}/1")
    assert shop.asked == {"1": 2}


async def test_a_fetch_that_no_caller_waits_for_ends_when_the_cache_is_closed(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    shop.may_respond.clear()
    async with opened(bundle, tmp_path / "c", Clock()) as cache:
        before = asyncio.all_tasks()
        waiting = asyncio.create_task(cache.codes(f"{shop.url}/1"))
        async with asyncio.timeout(60):
            while not shop.asked:
                await asyncio.wait({waiting}, timeout=0.01)
        waiting.cancel()
        await cache.close()
        assert [task for task in asyncio.all_tasks() - before if "EmbeddingCache" in repr(task)] == []


async def test_a_picture_over_the_maximum_age_is_fetched_again_although_it_is_in_memory(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    clock = Clock()
    async with opened(bundle, tmp_path / "c", clock) as cache:
        await cache.codes(f"{shop.url}/1")
        clock.now += MAX_AGE
        assert cache.cached(f"{shop.url}/1")
        clock.now += 1
        assert not cache.cached(f"{shop.url}/1")
        await cache.codes(f"{shop.url}/1")
    assert shop.asked == {"1": 2}


async def test_without_room_in_memory_the_disk_is_read(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    before = found_in("disk")
    async with opened(bundle, tmp_path / "c", Clock(), memory=0) as cache:
        assert await cache.codes(f"{shop.url}/1") == await cache.codes(f"{shop.url}/1")
    assert found_in("disk") == before + 1
    assert shop.asked == {"1": 1}


@pytest.mark.parametrize(
    ("path", "reason"), [("missing", "http_status"), ("text", "not_a_picture"), ("cut", "truncated_picture")]
)
async def test_a_failure_is_remembered_for_a_while_and_then_retried(
    bundle: Bundle, tmp_path: Path, shop: Shop, path: str, reason: str
) -> None:
    clock = Clock()
    async with opened(bundle, tmp_path / "c", clock) as cache:
        first = await failure(cache, f"{shop.url}/{path}")
        clock.now += FAILURE_AGE - 1
        again = await failure(cache, f"{shop.url}/{path}")
        assert shop.asked == {path: 1}
        clock.now += 1
        await failure(cache, f"{shop.url}/{path}")
        assert shop.asked == {path: 2}
    assert (first.reason, str(first)) == (again.reason, str(again))
    assert first.reason == reason
    assert f"image_url '{shop.url}/{path}'" in str(first)


async def test_a_remembered_failure_does_not_keep_the_bytes(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    async with opened(bundle, tmp_path / "c", Clock()) as cache:
        await failure(cache, f"{shop.url}/long-text")
        tracemalloc.start()
        try:
            for number in range(20):  # a megabyte each
                await failure(cache, f"{shop.url}/long-text?{number}")
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kept < 5_000_000  # the last bytes may still be referenced


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://shop.example/{number:010}.jpg", "image_url: no answer within 10 s, as of {number:010}"),
        ("https://shop.example/{number:010}" + "x" * 2000, "{number:010}"),
        ("https://shop.example/{number:010}" + "ж" * 1000 + "😀", "{number:010}: 😀" + "x" * 200),
    ],
    ids=["ordinary", "long", "wide characters"],
)
def test_remembered_failures_take_no_more_memory_than_the_limit(url: str, message: str) -> None:
    limit = 1024**2
    failures = Failures(FAILURE_AGE, Clock(), limit)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(10_000):
            failures.add(url.format(number=number), FetchError("timeout", message.format(number=number)))
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.2 * limit < kept < limit
    with pytest.raises(FetchError):
        failures.check(url.format(number=9999))
    failures.check(url.format(number=0))  # the oldest is forgotten


async def test_a_failure_does_not_affect_other_urls(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    async with opened(bundle, tmp_path / "c", Clock()) as cache:
        await failure(cache, f"{shop.url}/missing")
        assert await cache.codes(f"{shop.url}/1")


async def test_a_transient_failure_is_retried_after_growing_pauses(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    shop.broken = 2
    pauses: list[float] = []
    async with opened(bundle, tmp_path / "c", Clock(), attempts=3, pauses=pauses) as cache:
        assert await cache.codes(f"{shop.url}/1")
    assert shop.asked == {"1": 3}
    first, second = pauses
    assert 0.2 <= first <= 0.25 and 0.4 <= second <= 0.5


async def test_the_pause_follows_retry_after(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    shop.broken, shop.retry_after = 1, 3
    pauses: list[float] = []
    async with opened(bundle, tmp_path / "c", Clock(), attempts=2, pauses=pauses) as cache:
        await cache.codes(f"{shop.url}/1")
    assert 3 <= pauses[0] <= 3.75


async def test_a_permanent_failure_is_not_retried(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    async with opened(bundle, tmp_path / "c", Clock(), attempts=3) as cache:
        await failure(cache, f"{shop.url}/missing")
    assert shop.asked == {"missing": 1}


async def test_the_number_of_attempts_is_limited(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    shop.broken = 10
    async with opened(bundle, tmp_path / "c", Clock(), attempts=3) as cache:
        error = await failure(cache, f"{shop.url}/1")
    assert (error.reason, error.transient) == ("http_status", True)
    assert shop.asked == {"1": 3}


# Memory


def test_memory_is_bounded_and_drops_the_least_recently_used() -> None:
    size = len("url-0") + 100 + ENTRY_OVERHEAD
    memory = MemoryCache(3 * size)
    for number in range(3):
        memory.put(f"url-{number}", bytes(100))
    memory.get("url-0")
    memory.put("url-3", bytes(100))
    assert [number for number in range(4) if memory.get(f"url-{number}") is not None] == [0, 2, 3]


def test_memory_counts_bytes_and_not_entries() -> None:
    memory = MemoryCache(10_000)
    kept: list[bytes] = []
    for number in range(1000):
        memory.put(f"url-{number % 500}", bytes(number % 700))
        kept = [found for other in range(500) if (found := memory.get(f"url-{other}")) is not None]
        assert sum(len(found) + ENTRY_OVERHEAD for found in kept) <= 10_000
    assert len(kept) >= 10


def test_an_entry_larger_than_the_memory_is_not_kept() -> None:
    memory = MemoryCache(100)
    memory.put("url", bytes(200))
    assert memory.get("url") is None


async def test_a_host_that_hangs_does_not_delay_other_hosts(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    hanging = Shop()
    async with (
        serving(hanging.answer) as hanging.url,
        opened(bundle, tmp_path / "c", Clock(), max_large=1) as cache,
    ):
        waiting = [asyncio.create_task(cache.codes(f"{hanging.url}/{number}")) for number in range(20)]
        async with asyncio.timeout(60):
            while not hanging.asked:
                await asyncio.wait(waiting, timeout=0.01)
        for number in range(3):
            await cache.codes(f"{shop.url}/{number}")
        assert not any(task.done() for task in waiting), "they still wait for the host"
        assert sum(hanging.asked.values()) <= HostLimits().initial, "the host gets few of them"
        for task in waiting:
            task.cancel()
        hanging.may_respond.set()


@dataclass
class Slow:
    """A server that sends `size` bytes at once and ends the response when told to."""

    size: int
    started: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * self.size)
        self.started.release()
        await self.may_end.wait()
        return response

    async def all_started(self, number: int) -> None:
        async with asyncio.timeout(60):
            for _ in range(number):
                await self.started.acquire()


@pytest.mark.parametrize(("size", "free"), [(1000, True), (LARGE_PICTURE_BYTES + 100_000, False)])
async def test_an_unfinished_response_delays_large_pictures_only_if_it_is_large(
    bundle: Bundle, tmp_path: Path, size: int, free: bool
) -> None:
    slow, large = Slow(size), Slow(LARGE_PICTURE_BYTES + 100_000)
    large.may_end.set()
    async with (
        serving(slow.answer, "0.0.0.0") as slow_url,
        serving(large.answer) as large_url,
        opened(bundle, tmp_path / "c", Clock(), max_large=2) as cache,
    ):
        hosts = [slow_url.replace("0.0.0.0", f"127.0.0.{number}") for number in (2, 3)]
        waiting = [asyncio.create_task(cache.codes(f"{host}/1")) for host in hosts]
        await slow.all_started(2)
        another = asyncio.create_task(failure(cache, f"{large_url}/1"))
        done, _ = await asyncio.wait([another], timeout=60 if free else 0.3)
        assert bool(done) is free
        slow.may_end.set()
        assert (await another).reason == "not_a_picture"
        await asyncio.gather(*waiting, return_exceptions=True)


async def drip(request: web.BaseRequest) -> web.StreamResponse:
    """Sends a large picture that never ends, a byte at a time."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(bytes(132 * 1024))
    while True:
        await asyncio.sleep(0.05)
        await response.write(b"x")


@pytest.mark.parametrize("hosts", [1, 2, 30])
async def test_large_pictures_that_drip_do_not_keep_those_of_other_hosts_waiting(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hosts: int
) -> None:
    monkeypatch.setattr(large_places, "GRACE", 0.5)
    large = Slow(LARGE_PICTURE_BYTES + 100_000)
    large.may_end.set()
    async with (
        serving(drip, "0.0.0.0") as drip_url,
        serving(large.answer) as large_url,
        opened(bundle, tmp_path / "c", Clock(), max_large=4) as cache,
    ):
        dripping = [
            asyncio.create_task(failure(cache, f"{drip_url.replace('0.0.0.0', f'127.0.1.{1 + n % hosts}')}/{n}"))
            for n in range(30)
        ]
        await asyncio.wait(dripping, timeout=0.5)
        async with asyncio.timeout(60):
            for number in range(10):
                assert (await failure(cache, f"{large_url}/{number}")).reason == "not_a_picture"
        for task in dripping:
            task.cancel()
        await asyncio.gather(*dripping, return_exceptions=True)


async def test_a_large_picture_that_drips_fails_and_says_why(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_places, "GRACE", 0.2)
    async with serving(drip) as url, opened(bundle, tmp_path / "c", Clock(), max_large=1) as cache:
        first, second = (asyncio.create_task(failure(cache, f"{url}/{number}")) for number in range(2))
        error = await first
        second.cancel()
    assert (error.reason, error.transient) == ("timeout", True)
    assert "less than 32768 bytes a second while other large pictures waited" in str(error)


async def test_small_pictures_pass_unfinished_large_ones(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    slow = Slow(LARGE_PICTURE_BYTES + 100_000)
    async with serving(slow.answer) as url, opened(bundle, tmp_path / "c", Clock(), max_large=2) as cache:
        waiting = [asyncio.create_task(failure(cache, f"{url}/{number}")) for number in range(4)]
        await slow.all_started(4)
        for number in range(3):
            assert await cache.codes(f"{shop.url}/{number}")
        assert not any(task.done() for task in waiting)
        slow.may_end.set()
        assert [error.reason for error in await asyncio.gather(*waiting)] == ["not_a_picture"] * 4


@pytest.mark.parametrize("hosts", [1, 30])
@pytest.mark.parametrize("padding", [0, LARGE_PICTURE_BYTES], ids=["small", "large"])
async def test_pictures_that_take_long_to_decode_do_not_delay_those_of_other_hosts(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, padding: int, hosts: int
) -> None:
    monkeypatch.setattr(pool, "QUICK", 0.02)  # between a costly picture and a good one, on slow machines and fast ones
    costly, good = (picture + bytes(padding) for picture in (avif_of_items("iloc", 10_000), png(1)))
    asked = 0

    async def answer(request: web.BaseRequest) -> web.Response:
        nonlocal asked
        asked += "costly" in request.path
        return web.Response(body=costly if "costly" in request.path else good)

    async with serving(answer, "0.0.0.0") as url, opened(bundle, tmp_path / "c", Clock(), max_large=64) as cache:
        good_url = url.replace("0.0.0.0", "127.0.2.1")
        await cache.codes(f"{good_url}/first")
        hostile = [
            asyncio.create_task(cache.codes(f"{url.replace('0.0.0.0', f'127.0.1.{1 + n % hosts}')}/costly-{n}"))
            for n in range(60)  # fewer than places for large pictures
        ]
        await asyncio.sleep(0.5)
        had = sum(task.done() for task in hostile)
        await asyncio.gather(*(cache.codes(f"{good_url}/{n}") for n in range(10)))
        # Two are being decoded, and each good picture lets one pass; on a busy machine some pass before the good ones are
        # there. First come, first served: all that wait for a decoder, 30 or more.
        done = sum(task.done() for task in hostile)
        assert done <= had + 20
        # Pictures that wait for a decoder hold the slots of their host: 40, and a few that the model has.
        assert asked - done < pool.PER_HOST + HostLimits().per_host + 10 or hosts > 1
        for task in hostile:
            task.cancel()
        await asyncio.gather(*hostile, return_exceptions=True)


async def test_the_queue_of_the_model_is_bounded(
    bundle: Bundle, tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a model that is slower than the picture server would fill the memory with pixels."""
    waiting = 0
    most = 0
    made = Batcher.made

    async def watched(batcher: Batcher[Any, Any], given: Any) -> Any:
        nonlocal waiting, most
        if isinstance(given, bytes):  # features, which take little memory
            return await made(batcher, given)
        waiting += 1
        most = max(most, waiting)
        try:
            return await made(batcher, given)
        finally:
            waiting -= 1

    monkeypatch.setattr(Batcher, "made", watched)
    async with opened(bundle, tmp_path / "c", Clock(), max_in_flight=5) as cache:
        await asyncio.gather(*(cache.codes(f"{shop.url}/{number}") for number in range(40)))
    assert 1 < most <= 5


async def test_a_failing_host_gets_few_requests_before_its_circuit_breaker_opens(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    shop.broken = 1_000_000
    async with opened(bundle, tmp_path / "c", Clock(), attempts=1) as cache:
        reasons = [(await failure(cache, f"{shop.url}/{number}")).reason for number in range(20)]
    assert reasons == ["http_status"] * OUTCOMES_TO_JUDGE + ["host_unavailable"] * (20 - OUTCOMES_TO_JUDGE)
    assert sum(shop.asked.values()) == OUTCOMES_TO_JUDGE


async def test_a_redirect_to_a_host_that_is_gone_stops_no_other_picture_of_its_host(
    bundle: Bundle, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = f"http://127.0.0.1:{closed.getsockname()[1]}/"

    async def answer(request: web.BaseRequest) -> web.Response:
        if "away" in request.path:
            raise web.HTTPFound(gone)
        return web.Response(body=png(1))

    async with serving(answer) as url, opened(bundle, tmp_path / "c", Clock()) as cache:
        for number in range(SILENT_FAILURES_TO_OPEN):
            assert (await failure(cache, f"{url}/away-{number}")).reason == "host_unreachable"
        await cache.codes(f"{url}/1")


@pytest.mark.parametrize("retry_after", [None, 30])
@pytest.mark.parametrize("bad", [range(8), range(0, 60, 3)])
async def test_the_good_pictures_of_a_host_that_fails_for_some_go_on(
    bundle: Bundle, tmp_path: Path, shop: Shop, bad: range, retry_after: int | None
) -> None:
    shop.bad, shop.retry_after = frozenset(map(str, bad)), retry_after
    async with opened(bundle, tmp_path / "c", Clock(), attempts=4) as cache:
        urls = [f"{shop.url}/{number}" for number in range(60)]
        found = await asyncio.gather(*map(cache.codes, urls), return_exceptions=True)
        assert isinstance(await cache.codes(f"{shop.url}/1000"), Codes), "nor is it refused afterwards"
    failed = {number: error for number, error in enumerate(found) if isinstance(error, BaseException)}
    assert set(failed) == set(bad)
    assert {error.reason for error in failed.values() if isinstance(error, FetchError)} == {"http_status"}
    assert {shop.asked[str(number)] for number in range(60) if number not in bad} == {1}


# Crowded partitions


def crowded() -> bool:
    return True


async def test_a_failure_is_not_retried_for_an_event_that_many_others_wait_behind(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    shop.broken = 1
    async with opened(bundle, tmp_path / "c", Clock(), attempts=3) as cache:
        with pytest.raises(FetchError) as failed:
            await cache.codes(f"{shop.url}/1", crowded)
    assert failed.value.reason == "http_status"
    assert shop.asked == {"1": 1}


@pytest.mark.parametrize("patient", [0, 1, 2])
async def test_a_failure_is_retried_for_all_as_long_as_one_of_them_can_wait(
    bundle: Bundle, tmp_path: Path, shop: Shop, patient: int
) -> None:
    shop.broken = 2
    async with opened(bundle, tmp_path / "c", Clock(), attempts=3) as cache:
        found = await asyncio.gather(
            *(cache.codes(f"{shop.url}/1", lambda n=n: n != patient) for n in range(3)), return_exceptions=True
        )
    assert [type(one) for one in found] == [Codes] * 3
    assert shop.asked == {"1": 3}


async def test_the_one_that_could_wait_no_longer_counts_once_it_is_cancelled(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    shop.broken = 10
    shop.may_respond.clear()
    async with opened(bundle, tmp_path / "c", Clock(), attempts=3) as cache:
        patient = asyncio.create_task(cache.codes(f"{shop.url}/1"))
        hurried = asyncio.create_task(cache.codes(f"{shop.url}/1", crowded))
        async with asyncio.timeout(60):
            while not shop.asked:
                await asyncio.wait({hurried}, timeout=0.01)
        patient.cancel()
        await asyncio.wait({patient})
        shop.may_respond.set()
        with pytest.raises(FetchError):
            await hurried
    assert shop.asked == {"1": 1}


async def test_a_failure_that_was_not_retried_is_remembered_for_crowded_partitions_only(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    shop.broken = 1
    async with opened(bundle, tmp_path / "c", Clock(), attempts=3) as cache:
        for _ in range(2):
            with pytest.raises(FetchError):
                await cache.codes(f"{shop.url}/1", crowded)
        assert shop.asked == {"1": 1}
        assert await cache.codes(f"{shop.url}/1")
    assert shop.asked == {"1": 2}


async def test_a_failure_that_was_retried_in_vain_is_remembered_for_all(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    shop.broken = 3
    async with opened(bundle, tmp_path / "c", Clock(), attempts=3) as cache:
        for _ in range(2):
            await failure(cache, f"{shop.url}/1")
    assert shop.asked == {"1": 3}


ENDS = {"short": "", "long": "a" * 2000, "Chinese": "中" * 900, "emoji": "\U0001f455" * 900}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_memory_cache_takes_no_more_memory_than_it_may(end: str) -> None:
    limit = 4 * 1024**2
    tracemalloc.start()
    try:
        memory = MemoryCache(limit)
        for number in range(20_000):
            memory.put(f"http://cdn.example/{number}{end}", number.to_bytes(136, "big"))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= limit


async def test_events_that_wait_for_a_host_without_a_response_or_were_refused_are_counted(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    clock = Clock()
    async with opened(bundle, tmp_path / "c", clock) as cache:
        shop.broken = OUTCOMES_TO_JUDGE
        for number in range(OUTCOMES_TO_JUDGE + 3):
            await failure(cache, f"{shop.url}/{number}")
        await failure(cache, f"{shop.url}/0")  # remembered, so nobody asks the host
        host = shop.url.removeprefix("http://")
        [found] = cache.circuits(20)
        assert (found.host, found.waiting, found.refused) == (host, 0, 5)
        assert abs(found.since - clock.now * 1000) < 60_000
        assert cache.circuits(0) == ()
        await asyncio.sleep(FIRST_OPEN_SECONDS)
        shop.may_respond.clear()
        trial = [asyncio.create_task(cache.codes(f"{shop.url}/77")) for _ in range(3)]
        while not shop.asked["77"]:  # noqa: ASYNC110 -- the shop tells nobody
            await asyncio.sleep(0.01)
        [found] = cache.circuits(20)
        assert found.waiting == 3
        shop.may_respond.set()
        await asyncio.gather(*trial)
        assert cache.circuits(20) == ()
