"""Waiting for an event, and the feed of changes: nobody polls, nobody waits for ever, and memory is bounded."""

import asyncio

import pytest

from streams.profile.bag import Moment
from streams.serve.interface import Change
from streams.serve.replica import arrivals
from streams.serve.replica.arrivals import Feed, Waiting, has
from tests.streams.profile.test_bag import event, fold_all

BAG = fold_all([event("view", 1, "a", "one"), event("cart", 2, "a", "two")])


def test_a_bag_has_the_events_that_it_shows_and_the_one_that_is_its_floor() -> None:
    assert has(BAG, "one") and has(BAG, "two") and not has(BAG, "three")
    full = fold_all([event("view", 1, "a", "one"), event("view", 2, "b", "two")], max_slots=1)
    assert full.floor == Moment(1, "one", "a", "view")
    assert has(full, "one") and has(full, "two")


async def test_a_call_wakes_with_its_event_and_not_with_another() -> None:
    waiting = Waiting()
    calls = [asyncio.create_task(waiting.wait("ada", name, 10)) for name in ("one", "three")]
    await asyncio.sleep(0)
    waiting.arrived({"bob": BAG})
    assert waiting.users == ["ada"]
    waiting.arrived({"ada": BAG})
    assert await calls[0]
    assert not calls[1].done()
    calls[1].cancel()
    await asyncio.gather(calls[1], return_exceptions=True)
    assert waiting.users == []


async def test_a_call_ends_at_its_time_and_leaves_nothing() -> None:
    waiting = Waiting()
    assert not await waiting.wait("ada", "one", 0.01)
    assert not await waiting.wait("ada", "one", 0)
    assert waiting.users == []


async def test_calls_above_the_limit_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MOST_WAITING", 1)
    waiting = Waiting()
    first = asyncio.create_task(waiting.wait("ada", "one", 10))
    await asyncio.sleep(0)
    assert not await waiting.wait("ada", "one", 10)
    waiting.arrived({"ada": BAG})
    assert await first
    assert not await waiting.wait("ada", "one", 0.01), "there is room again"


def changes(*users: str, offset: int = 0) -> list[Change]:
    return [Change(user, 0, offset) for user in users]


async def test_a_reader_gets_what_changes_after_it_came() -> None:
    feed = Feed()
    feed.add(changes("before"))
    async with feed.reader() as groups:
        soon = asyncio.ensure_future(anext(groups))
        await asyncio.sleep(0)
        feed.add(changes("ada", "bob"))
        assert await soon == changes("ada", "bob")
        feed.add(changes("cy"))
        assert await anext(groups) == changes("cy")


async def test_a_slow_reader_gets_the_newest_change_of_each_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "KEPT", 2)
    feed = Feed()
    async with feed.reader() as slow, feed.reader() as other:
        feed.add(changes("ada", "bob", offset=1))
        assert await anext(other) == changes("ada", "bob", offset=1)
        feed.add(changes("ada", offset=2))
        assert await anext(slow) == [*changes("bob", offset=1), *changes("ada", offset=2)]
        feed.add(changes("a", "b", "c", offset=3))
        assert await anext(slow) == changes("b", "c", offset=3)
        assert await anext(other) == changes("b", "c", offset=3)


async def test_a_reader_that_leaves_while_it_waits_is_gone() -> None:
    feed = Feed()
    async with feed.reader() as groups:
        soon = asyncio.ensure_future(anext(groups))
        await asyncio.sleep(0)
        soon.cancel()
        await asyncio.gather(soon, return_exceptions=True)
    feed.add(changes("ada"))
