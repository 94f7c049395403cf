"""The places for large pictures are shared fairly among hosts, and slow pictures do not keep them from others."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.exceptions import FetchError
from streams.web import large_places
from streams.web.large_places import LargePlaces, Place


class Pictures:
    """Large pictures that hold their places until the block ends."""

    def __init__(self, places: LargePlaces) -> None:
        self.places = places
        self.held: list[Place] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.end: list[asyncio.Event] = []

    async def start(self, *hosts: str) -> dict[str, int]:
        """One more picture of each of these hosts. Gives how many places each host has then."""
        for host in hosts:
            end = asyncio.Event()
            self.end.append(end)
            self.tasks.append(asyncio.create_task(self._hold(host, end)))
        return await self.now()

    async def now(self) -> dict[str, int]:
        for _ in range(5):
            await asyncio.sleep(0)
        return dict(Counter(place.host for place in self.held))

    async def _hold(self, host: str, end: asyncio.Event) -> None:
        async with self.places.place(host) as place:
            self.held.append(place)
            try:
                await end.wait()
            finally:
                self.held.remove(place)


@asynccontextmanager
async def pictures(places: LargePlaces) -> AsyncGenerator[Pictures]:
    made = Pictures(places)
    try:
        yield made
    finally:
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_one_host_leaves_half_of_the_places_for_the_next() -> None:
    async with pictures(LargePlaces(16)) as some:
        assert await some.start(*"a" * 20) == {"a": 8}
        assert await some.start(*"b" * 20) == {"a": 8, "b": 5}
        assert await some.start(*"c" * 20) == {"a": 8, "b": 5, "c": 3}
        assert sum((await some.start(*"defgh")).values()) == 16


async def test_a_free_place_goes_to_the_host_with_the_fewest() -> None:
    async with pictures(LargePlaces(4)) as some:
        await some.start(*"aa", *"bb")
        assert await some.start(*"aabbcd") == {"a": 2, "b": 1, "c": 1}
        some.end[0].set()
        assert await some.now() == {"a": 1, "b": 1, "c": 1, "d": 1}


async def test_a_host_gets_no_more_than_its_share_while_others_have_places() -> None:
    async with pictures(LargePlaces(6)) as some:
        assert await some.start(*"aaaa") == {"a": 3}
        assert await some.start(*"bbbb") == {"a": 3, "b": 2}
        some.end[0].set()
        assert await some.now() == {"a": 2, "b": 2}, "one is left for a third host"


async def test_a_host_whose_pictures_take_long_to_decode_leaves_places_for_the_next() -> None:
    async with pictures(LargePlaces(4)) as some:
        await some.start(*"aaaa")
        for place in some.held:
            place.end()
        assert await some.start("b") == {"a": 2, "b": 1}


async def test_a_single_place_is_given_to_one_after_the_other() -> None:
    async with pictures(LargePlaces(1)) as some:
        assert await some.start("a", "b", "c") == {"a": 1}
        some.end[0].set()
        assert await some.now() == {"b": 1}
        some.end[1].set()
        assert await some.now() == {"c": 1}


async def test_a_picture_that_waits_too_long_fails_without_blame_and_leaves_the_queue() -> None:
    places = LargePlaces(1, wait=0.05)
    async with pictures(places) as some:
        await some.start("a")
        with pytest.raises(FetchError, match=r"no place for a large picture of b within 0\.05 s") as failed:
            async with places.place("b"):
                pass
        assert (failed.value.reason, failed.value.transient) == ("host_unavailable", True)
        some.end[0].set()
        assert await some.now() == {}
        assert await some.start("c") == {"c": 1}


async def test_a_cancelled_wait_leaves_the_place_to_the_next() -> None:
    async with pictures(LargePlaces(1)) as some:
        await some.start("a", "b", "c")
        some.tasks[1].cancel()
        some.end[0].set()
        assert await some.now() == {"c": 1}


async def test_a_wait_that_is_cancelled_when_it_is_admitted_leaves_the_place_to_the_next() -> None:
    async with pictures(LargePlaces(1)) as some:
        await some.start("a", "b", "c")
        some.end[0].set()
        await asyncio.sleep(0)  # `a` ends, and `b` is admitted but has not run
        some.tasks[1].cancel()
        assert await some.now() == {"c": 1}


# Slow pictures


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_places, "GRACE", 0.1)
    monkeypatch.setattr(large_places, "CHECK_INTERVAL", 0.01)


@pytest.mark.usefixtures("quick")
async def test_a_slow_picture_loses_its_place_only_while_others_wait() -> None:
    lost = asyncio.Event()
    async with pictures(LargePlaces(1)) as some:
        await some.start("drips")
        some.held[0].begin(give_up=lost.set)
        await asyncio.sleep(0.3)
        assert not lost.is_set()
        await some.start("waits")
        await asyncio.wait_for(lost.wait(), 60)
        assert some.held[0].lost


@pytest.mark.usefixtures("quick")
async def test_a_slow_picture_keeps_its_place_while_another_is_free() -> None:
    lost = asyncio.Event()
    async with pictures(LargePlaces(4)) as some:
        await some.start(*"aaa")
        for place in some.held:
            place.begin(give_up=lost.set)
        await asyncio.sleep(0.3)
        assert not lost.is_set()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("ended", [False, True])
async def test_a_picture_that_arrives_fast_or_is_being_decoded_keeps_its_place(ended: bool) -> None:
    lost = asyncio.Event()
    async with pictures(LargePlaces(1)) as some:
        await some.start("fast", "waits")
        some.held[0].begin(give_up=lost.set)
        if ended:
            some.held[0].end()
        for _ in range(10):
            some.held[0].received(10 * large_places.BYTES_PER_SECOND)
            await asyncio.sleep(0.04)
        assert not lost.is_set()


@given(st.integers(1, 9), st.lists(st.sampled_from("abcd") | st.integers(0, 30), max_size=40))
async def test_the_places_are_never_exceeded_and_all_are_given_back(count: int, steps: list[str | int]) -> None:
    """A letter is a new picture of a host, and a number ends one."""
    async with pictures(LargePlaces(count)) as some:
        for step in steps:
            if isinstance(step, str):
                await some.start(step)
            elif step < len(some.end):
                some.end[step].set()
            assert sum((await some.now()).values()) <= count
        for end in some.end:
            end.set()
        await asyncio.gather(*some.tasks)
        assert not some.places._taken and not some.places._waiting
