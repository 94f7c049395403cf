"""Fault points: `python -m tests.faults.armed POINT[:N] ... -- worker profile` is `tastestream worker profile` with faults.

Patches the running code from outside and then calls the command line, so that production code has no fault points and pays
nothing for them. Each point is one function here, with one named target. There are two kinds: moments at which the process
dies or stands still, the N-th time it comes there; and deliberate breaks, each of which has to turn a scenario red.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

Method = Any  # of classes whose types are not ours to check here
POINTS: dict[str, Callable[[int], None]] = {}


def point(patch: Callable[[int], None]) -> Callable[[int], None]:
    POINTS[patch.__name__.replace("_", "-")] = patch
    return patch


def die(where: str) -> NoReturn:
    """As `kill -9` at this very moment."""
    sys.stderr.write(f"fault point: killed {where}\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def after(owner: type[Any], name: str, then: Callable[[int, tuple[Any, ...]], None]) -> None:
    """Call `then`, with how often it was, after each call of a coroutine method that ended without an exception."""
    method: Method = getattr(owner, name)
    calls = 0

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        result = await method(*args, **kwargs)
        calls += 1
        then(calls, args)
        return result

    setattr(owner, name, wrapped)


# -- moments at which the process dies or stands still


@point
def after_table_write(n: int) -> None:
    """The rows are in the changelog and on disk; nothing is committed, and the output may be out or not."""
    from streams.profile.table import BagTable  # noqa: PLC0415

    after(BagTable, "write", lambda calls, _: die("after a table write") if calls == n else None)


@point
def before_disk_write(n: int) -> None:
    """The rows are in the changelog and not on disk."""
    from streams.profile.store import BagStore  # noqa: PLC0415

    write: Method = BagStore.write
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == n:
            die("between the changelog and the disk")
        return write(*args, **kwargs)

    BagStore.write = wrapped


@point
def after_output(n: int) -> None:
    """Rows and recommendations are at the broker; nothing is committed."""
    from streams.profile.worker import ProfileWorker  # noqa: PLC0415

    after(ProfileWorker, "_deliver", lambda calls, _: die("after an output") if calls == n else None)


@point
def before_commit(n: int) -> None:
    """Of either worker: everything is out, and the commit was about to be sent. Idle ones do not count."""
    from aiokafka import AIOKafkaConsumer  # noqa: PLC0415

    commit: Method = AIOKafkaConsumer.commit
    calls = 0

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == n:
            die("before a commit")
        return await commit(*args, **kwargs)

    AIOKafkaConsumer.commit = wrapped


@point
def freeze_consumer(n: int) -> None:
    """After the N-th commit no more records arrive, while the process lives and its loop turns."""
    from aiokafka import AIOKafkaConsumer  # noqa: PLC0415
    from aiokafka.consumer.fetcher import Fetcher  # noqa: PLC0415

    fetch: Method = Fetcher.fetched_records
    frozen = threading.Event()
    after(AIOKafkaConsumer, "commit", lambda calls, _: frozen.set() if calls == n else None)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        if frozen.is_set():
            await asyncio.Event().wait()  # for ever
        return await fetch(*args, **kwargs)

    Fetcher.fetched_records = wrapped


# -- deliberate breaks, each of which some scenario has to find


@point
def break_acknowledge_early(n: int) -> None:
    """The profile worker acknowledges its events half a second before anything of them is sent."""
    from streams.profile.worker import ProfileWorker  # noqa: PLC0415

    deliver: Method = ProfileWorker._deliver
    late: set[asyncio.Task[None]] = set()

    async def wrapped(*args: Any, **kwargs: Any) -> None:
        async def deliver_late() -> None:
            await asyncio.sleep(0.5)
            await deliver(*args, **kwargs)

        late.add(asyncio.create_task(deliver_late()))

    ProfileWorker._deliver = wrapped


@point
def break_skip_changelog(n: int) -> None:
    """Every N-th write goes to disk only."""
    from streams.profile.table import BagTable  # noqa: PLC0415

    write: Method = BagTable.write
    calls = 0

    async def wrapped(self: Any, partition: int, rows: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % n:
            return await write(self, partition, rows)
        return self.data.write(partition, rows, self.data.last_offset(partition))

    BagTable.write = wrapped


@point
def break_do_not_wait(n: int) -> None:
    """Nothing waits for the broker: what is sent counts as delivered, and rows go to disk at once."""
    from streams.delivery import Publisher  # noqa: PLC0415
    from streams.profile.table import BagTable  # noqa: PLC0415

    send: Method = Publisher.send

    def read(sent: asyncio.Future[int]) -> None:
        sent.exception()

    async def at_once(*args: Any, **kwargs: Any) -> asyncio.Future[int]:
        (await send(*args, **kwargs)).add_done_callback(read)
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        done.set_result(0)
        return done

    async def write(self: Any, partition: int, rows: Any) -> None:
        for key, value in rows.items():
            await self._publisher.send(self.changelog_topic_name, key, value, partition=partition)
        self.data.write(partition, rows, self.data.last_offset(partition) + len(rows))

    Publisher.send = at_once
    BagTable.write = write


@point
def break_keep_cache(n: int) -> None:
    """Bags are cached in memory, and the cache is not emptied when partitions are revoked."""
    from streams.profile.rows import encode_bag  # noqa: PLC0415
    from streams.profile.worker import ProfileWorker  # noqa: PLC0415

    load: Method = ProfileWorker._load
    cache: dict[str, Any] = {}

    def wrapped(self: Any, partition: int, user_id: str) -> Any:
        if user_id in cache:
            known = cache[user_id].after
            cache[user_id] = type(cache[user_id])(list(encode_bag(user_id, known)), known, known)
        else:
            cache[user_id] = load(self, partition, user_id)
        return cache[user_id]

    ProfileWorker._load = wrapped


@point
def break_drop_output(n: int) -> None:
    """Of every N-th batch nothing is published, and it is acknowledged."""
    from streams.profile.worker import ProfileWorker  # noqa: PLC0415

    deliver: Method = ProfileWorker._deliver
    calls = 0

    async def wrapped(self: Any, profiles: Any, records: Any, letters: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        return await deliver(self, profiles, [] if calls % n == 0 else records, letters, *args)

    ProfileWorker._deliver = wrapped


@point
def break_forget_floor(n: int) -> None:
    """An erasure deletes the rows and leaves no floor: old events bring the user back."""
    from streams.profile import worker  # noqa: PLC0415

    changes: Method = worker.changes

    def wrapped(*args: Any) -> Any:
        return {key: value for key, value in changes(*args).items() if not key.endswith(b"\x00")}

    worker.changes = wrapped


@point
def break_drop_letters(n: int) -> None:
    """The embed worker drops what it cannot process."""
    from streams import delivery  # noqa: PLC0415

    send: Method = delivery.Publisher.send

    async def wrapped(self: Any, topic: str, *args: Any, **kwargs: Any) -> Any:
        if topic.endswith("-dlq"):
            nothing: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            nothing.set_result(-1)
            return nothing
        return await send(self, topic, *args, **kwargs)

    delivery.Publisher.send = wrapped


@point
def break_acknowledge_out_of_order(n: int) -> None:
    """A finished event is acknowledged whatever is pending before it."""
    from streams.engine.intake import Intake  # noqa: PLC0415

    def committable(self: Any) -> dict[Any, int]:
        newest: dict[Any, int] = {}
        for tp, partition in self._partitions.items():
            done = max((one.record.offset + 1 for one in partition.queue if one.finished), default=partition.done)
            if done > partition.committed:
                newest[tp] = done
        return newest

    Intake.committable = committable


def main(arguments: list[str]) -> None:
    divide = arguments.index("--")
    for named in arguments[:divide]:
        name, _, n = named.partition(":")
        POINTS[name](int(n or 1))
    sys.argv = ["tastestream", *arguments[divide + 1 :]]
    from streams.cli import main as command_line  # noqa: PLC0415

    command_line()


if __name__ == "__main__":
    main(sys.argv[1:])
