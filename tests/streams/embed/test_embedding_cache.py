"""Where an embedding comes from: memory, disk, or one flight to a real local server; failures are remembered for a while."""

import asyncio
import gc
import io
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from numpy.typing import NDArray
from PIL import Image
from prometheus_client import REGISTRY

from model.bundle import Bundle
from model.preprocessing import decode_picture
from model.quantization import HEADER_BYTES, quantize
from streams.embed.batcher import EmbeddingBatcher
from streams.embed.disk_cache import DiskCache
from streams.embed.embedding_cache import ENTRY_OVERHEAD, EmbeddingCache, Memory
from streams.embed.pipeline import EmbeddingPipeline
from streams.exceptions import FetchError
from streams.web.fetch import SMALL, Fetcher, FetchLimits
from streams.web.hosts import FAILURES, HostLimits, Hosts
from tests.streams.web.servers import LOOPBACK, serving

FAILURE_AGE = 30.0  # seconds
MEMORY = 1024**2  # bytes
MAX_AGE = 1000.0  # seconds


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


@dataclass
class Shop:
    """A server of pictures that counts who asks for what. /N is a picture, /text and /cut are none, /missing is a 404."""

    asked: Counter[str] = field(default_factory=Counter[str])
    answers_wait: asyncio.Event = field(default_factory=asyncio.Event)
    broken: int = 0  # how many more requests are answered with 503
    retry_after: int | None = None  # seconds that those ask for
    url: str = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        name = request.path.strip("/")
        self.asked[name] += 1
        await self.answers_wait.wait()
        if self.broken:
            self.broken -= 1
            return web.Response(
                status=503, headers={"Retry-After": str(self.retry_after)} if self.retry_after else None
            )
        if name.isdigit():
            return web.Response(body=png(int(name)))
        bodies = {"text": b"this is no picture", "long-text": b"no picture" * 100_000, "cut": png(1)[:500]}
        return web.Response(body=bodies[name]) if name in bodies else web.Response(status=404)


@dataclass
class Clock:
    now: float = 1_400_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def shop() -> AsyncGenerator[Shop]:
    shop = Shop()
    shop.answers_wait.set()
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
    places: int = 64,
    large: int = 4,
    crowded: bool = False,
    pauses: list[float] | None = None,
) -> AsyncGenerator[EmbeddingCache]:
    """The real thing, from the fetcher to the model. pauses: where those between attempts go, which are not waited for."""

    async def passed(seconds: float) -> None:
        (pauses if pauses is not None else []).append(seconds)

    disk = DiskCache(
        folder,
        embedder=bundle.embedder_version,
        length=HEADER_BYTES + bundle.embedding_size,
        max_bytes=1024**2,
        max_age=MAX_AGE,
    )
    with ThreadPoolExecutor(3) as threads:
        async with Fetcher(FetchLimits(), LOOPBACK) as fetcher:
            maker = EmbeddingPipeline(
                fetcher,
                EmbeddingBatcher(bundle.embedder(), threads, 8),
                image_size=bundle.image_size,
                max_pixels=10_000,
                hosts=Hosts(),
                places=places,
                large=large,
                attempts=attempts,
                decoders=threads,
                crowded=lambda: crowded,
                sleep=passed,
            )
            yield EmbeddingCache(maker, disk, memory=memory, failure_age=FAILURE_AGE, clock=clock)
    disk.close()


async def failure(pictures: EmbeddingCache, url: str) -> FetchError:
    with pytest.raises(FetchError) as failed:
        await pictures.embedding(url)
    return failed.value


async def test_the_embedding_is_the_models_quantized(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    async with opened(bundle, tmp_path / "c", Clock()) as pictures:
        found = await pictures.embedding(f"{shop.url}/7")
    [direct] = bundle.embedder().embed(decode_picture(png(7), bundle.image_size)[None])
    assert found == quantize(direct)


async def test_many_who_want_one_url_share_one_flight(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    async with opened(bundle, tmp_path / "c", Clock()) as pictures:
        await pictures.embedding(f"{shop.url}/8")  # a host that has answered gets two attempts at a time
        shop.answers_wait.clear()
        wanted = [asyncio.create_task(pictures.embedding(f"{shop.url}/{number % 2}")) for number in range(20)]
        async with asyncio.timeout(10):
            while len(shop.asked) < 3:
                await asyncio.wait(wanted, timeout=0.01)
        shop.answers_wait.set()
        found = await asyncio.gather(*wanted)
    assert shop.asked == {"8": 1, "0": 1, "1": 1}
    assert len(set(found)) == 2


async def test_one_who_gives_up_does_not_take_the_flight_of_others_down(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    shop.answers_wait.clear()
    async with opened(bundle, tmp_path / "c", Clock()) as pictures:
        first, second = (asyncio.create_task(pictures.embedding(f"{shop.url}/1")) for _ in range(2))
        async with asyncio.timeout(10):
            while not shop.asked:
                await asyncio.wait({first}, timeout=0.01)
        first.cancel()
        shop.answers_wait.set()
        assert await second
    assert shop.asked == {"1": 1}


def found_in(where: str) -> float:
    """How often the metric says that an embedding was found there."""
    return REGISTRY.get_sample_value("tastestream_pictures_total", {"where": where}) or 0


async def test_memory_and_then_disk_save_the_flight(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    memory, disk, fetch = (found_in(where) for where in ("memory", "disk", "fetch"))
    async with opened(bundle, tmp_path / "c", Clock()) as pictures:
        first = await pictures.embedding(f"{shop.url}/1")
        assert await pictures.embedding(f"{shop.url}/1") == first
    assert (found_in("memory"), found_in("disk"), found_in("fetch")) == (memory + 1, disk, fetch + 1)
    async with opened(bundle, tmp_path / "c", Clock()) as restarted:
        assert await restarted.embedding(f"{shop.url}/1") == first
        assert await restarted.embedding(f"{shop.url}/1") == first
    assert (found_in("memory"), found_in("disk"), found_in("fetch")) == (memory + 2, disk + 1, fetch + 1)
    assert shop.asked == {"1": 1}


async def test_a_flight_that_nobody_waits_for_ends_when_the_pictures_are_closed(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    shop.answers_wait.clear()
    async with opened(bundle, tmp_path / "c", Clock()) as pictures:
        before = asyncio.all_tasks()
        waiting = asyncio.create_task(pictures.embedding(f"{shop.url}/1"))
        async with asyncio.timeout(10):
            while not shop.asked:
                await asyncio.wait({waiting}, timeout=0.01)
        waiting.cancel()
        await pictures.close()
        assert [task for task in asyncio.all_tasks() - before if "EmbeddingCache" in repr(task)] == []


async def test_a_picture_over_its_age_is_fetched_again_although_it_is_in_memory(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    clock = Clock()
    async with opened(bundle, tmp_path / "c", clock) as pictures:
        await pictures.embedding(f"{shop.url}/1")
        clock.now += MAX_AGE
        assert pictures.cached(f"{shop.url}/1")
        clock.now += 1
        assert pictures.cached(f"{shop.url}/1") is None
        await pictures.embedding(f"{shop.url}/1")
    assert shop.asked == {"1": 2}


async def test_without_room_in_memory_the_disk_answers(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    before = found_in("disk")
    async with opened(bundle, tmp_path / "c", Clock(), memory=0) as pictures:
        assert await pictures.embedding(f"{shop.url}/1") == await pictures.embedding(f"{shop.url}/1")
    assert found_in("disk") == before + 1
    assert shop.asked == {"1": 1}


@pytest.mark.parametrize(
    ("path", "reason"), [("missing", "http_status"), ("text", "not_a_picture"), ("cut", "truncated_picture")]
)
async def test_a_failure_is_remembered_for_its_age_and_then_tried_again(
    bundle: Bundle, tmp_path: Path, shop: Shop, path: str, reason: str
) -> None:
    clock = Clock()
    async with opened(bundle, tmp_path / "c", clock) as pictures:
        first = await failure(pictures, f"{shop.url}/{path}")
        clock.now += FAILURE_AGE - 1
        again = await failure(pictures, f"{shop.url}/{path}")
        assert shop.asked == {path: 1}
        clock.now += 1
        await failure(pictures, f"{shop.url}/{path}")
        assert shop.asked == {path: 2}
    assert (first.reason, str(first)) == (again.reason, str(again))
    assert first.reason == reason
    assert f"image_url '{shop.url}/{path}'" in str(first)


async def test_a_failure_is_remembered_without_what_came(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    async with opened(bundle, tmp_path / "c", Clock()) as pictures:
        await failure(pictures, f"{shop.url}/long-text")
        tracemalloc.start()
        try:
            for number in range(20):  # of a megabyte each
                await failure(pictures, f"{shop.url}/long-text?{number}")
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kept < 5_000_000  # the last ones may still be in hand


async def test_a_failure_says_nothing_about_other_urls(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    async with opened(bundle, tmp_path / "c", Clock()) as pictures:
        await failure(pictures, f"{shop.url}/missing")
        assert await pictures.embedding(f"{shop.url}/1")


async def test_what_time_may_heal_is_tried_again_after_growing_pauses(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    shop.broken = 2
    pauses: list[float] = []
    async with opened(bundle, tmp_path / "c", Clock(), attempts=3, pauses=pauses) as pictures:
        assert await pictures.embedding(f"{shop.url}/1")
    assert shop.asked == {"1": 3}
    first, second = pauses
    assert 0.2 <= first <= 0.25 and 0.4 <= second <= 0.5


async def test_a_host_says_itself_when_it_wants_to_be_asked_again(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    shop.broken, shop.retry_after = 1, 3
    pauses: list[float] = []
    async with opened(bundle, tmp_path / "c", Clock(), attempts=2, pauses=pauses) as pictures:
        await failure(pictures, f"{shop.url}/1")  # no time has passed, and so the host is not asked
    assert shop.asked == {"1": 1}
    assert 3 <= pauses[0] <= 3.75


async def test_what_time_does_not_heal_is_not_tried_again(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    async with opened(bundle, tmp_path / "c", Clock(), attempts=3) as pictures:
        await failure(pictures, f"{shop.url}/missing")
    assert shop.asked == {"missing": 1}


async def test_the_attempts_have_an_end(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    shop.broken = 10
    async with opened(bundle, tmp_path / "c", Clock(), attempts=3) as pictures:
        error = await failure(pictures, f"{shop.url}/1")
    assert (error.reason, error.transient) == ("http_status", True)
    assert shop.asked == {"1": 3}


# The memory


def test_memory_holds_as_many_bytes_as_it_may_and_drops_what_was_used_longest_ago() -> None:
    size = len("url-0") + 100 + ENTRY_OVERHEAD
    memory = Memory(3 * size)
    for number in range(3):
        memory.put(f"url-{number}", bytes(100))
    memory.get("url-0")
    memory.put("url-3", bytes(100))
    assert [number for number in range(4) if memory.get(f"url-{number}") is not None] == [0, 2, 3]


def test_memory_counts_bytes_and_not_entries() -> None:
    memory = Memory(10_000)
    kept: list[bytes] = []
    for number in range(1000):
        memory.put(f"url-{number % 500}", bytes(number % 700))
        kept = [found for other in range(500) if (found := memory.get(f"url-{other}")) is not None]
        assert sum(len(found) + ENTRY_OVERHEAD for found in kept) <= 10_000
    assert len(kept) >= 10


def test_what_is_larger_than_the_memory_is_not_kept() -> None:
    memory = Memory(100)
    memory.put("url", bytes(200))
    assert memory.get("url") is None


async def test_a_host_that_hangs_holds_no_slot_and_nobody_else_back(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    hanging = Shop()
    async with (
        serving(hanging.answer) as hanging.url,
        opened(bundle, tmp_path / "c", Clock(), large=1) as pictures,
    ):
        waiting = [asyncio.create_task(pictures.embedding(f"{hanging.url}/{number}")) for number in range(20)]
        async with asyncio.timeout(10):
            while not hanging.asked:
                await asyncio.wait(waiting, timeout=0.01)
        for number in range(3):
            await pictures.embedding(f"{shop.url}/{number}")
        assert not any(task.done() for task in waiting), "they still wait"
        assert sum(hanging.asked.values()) <= HostLimits().first, "and few of them at the host"
        for task in waiting:
            task.cancel()
        hanging.answers_wait.set()


@dataclass
class Slow:
    """A server whose pictures begin with so many bytes at once; the rest comes when it is told."""

    size: int
    begun: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * self.size)
        self.begun.release()
        await self.goes_on.wait()
        return response

    async def all_begun(self, number: int) -> None:
        async with asyncio.timeout(10):
            for _ in range(number):
                await self.begun.acquire()


@pytest.mark.parametrize(("size", "free"), [(1000, True), (SMALL + 100_000, False)])
async def test_answers_that_do_not_end_hold_up_large_pictures_only_when_they_are_large(
    bundle: Bundle, tmp_path: Path, size: int, free: bool
) -> None:
    slow, large = Slow(size), Slow(SMALL + 100_000)
    large.goes_on.set()
    async with (
        serving(slow.answer) as slow_url,
        serving(large.answer) as large_url,
        opened(bundle, tmp_path / "c", Clock(), large=2) as pictures,
    ):
        waiting = [asyncio.create_task(pictures.embedding(f"{slow_url}/{number}")) for number in range(2)]
        await slow.all_begun(2)
        another = asyncio.create_task(failure(pictures, f"{large_url}/1"))
        done, _ = await asyncio.wait([another], timeout=5 if free else 0.3)
        assert bool(done) is free
        slow.goes_on.set()
        assert (await another).reason == "not_a_picture"
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_small_pictures_pass_large_ones_that_do_not_end(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    slow = Slow(SMALL + 100_000)
    async with serving(slow.answer) as url, opened(bundle, tmp_path / "c", Clock(), large=2) as pictures:
        waiting = [asyncio.create_task(failure(pictures, f"{url}/{number}")) for number in range(4)]
        await slow.all_begun(4)
        for number in range(3):
            assert await pictures.embedding(f"{shop.url}/{number}")
        assert not any(task.done() for task in waiting)
        slow.goes_on.set()
        assert [error.reason for error in await asyncio.gather(*waiting)] == ["not_a_picture"] * 4


async def test_no_more_pictures_wait_for_the_model_than_there_are_places(
    bundle: Bundle, tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a model that is slower than the shop's server fills the memory with pixels."""
    waiting = 0
    most = 0
    embed = EmbeddingBatcher.embed

    async def watched(batcher: EmbeddingBatcher, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        try:
            return await embed(batcher, picture)
        finally:
            waiting -= 1

    monkeypatch.setattr(EmbeddingBatcher, "embed", watched)
    async with opened(bundle, tmp_path / "c", Clock(), places=5) as pictures:
        await asyncio.gather(*(pictures.embedding(f"{shop.url}/{number}") for number in range(40)))
    assert 1 < most <= 5


async def test_of_a_host_that_fails_only_so_many_pictures_are_asked_for(
    bundle: Bundle, tmp_path: Path, shop: Shop
) -> None:
    shop.broken = 1_000_000
    async with opened(bundle, tmp_path / "c", Clock(), attempts=1) as pictures:
        reasons = [(await failure(pictures, f"{shop.url}/{number}")).reason for number in range(20)]
    assert reasons == ["http_status"] * FAILURES + ["host_unavailable"] * (20 - FAILURES)
    assert sum(shop.asked.values()) == FAILURES


async def test_when_it_is_crowded_a_failure_is_final(bundle: Bundle, tmp_path: Path, shop: Shop) -> None:
    shop.broken = 1
    async with opened(bundle, tmp_path / "c", Clock(), attempts=3, crowded=True) as pictures:
        assert (await failure(pictures, f"{shop.url}/1")).reason == "http_status"
    assert shop.asked == {"1": 1}
