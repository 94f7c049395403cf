"""Fault points: places where a worker dies, freezes or fails when it reaches them for the N-th time.

Each one is a function that patches one named target from outside, so production code contains no fault points. `armed.py`
starts a worker with them. The deliberate breaks are in `breaks.py`.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

Method = Any  # a method that a fault point replaces
POINTS: dict[str, Callable[[int], None]] = {}


def point(patch: Callable[[int], None]) -> Callable[[int], None]:
    POINTS[patch.__name__.replace("_", "-")] = patch
    return patch


def die(where: str) -> NoReturn:
    """Die as if by `kill -9`."""
    sys.stderr.write(f"fault point: killed {where}\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def after(owner: type[Any], name: str, then: Callable[[int, tuple[Any, ...]], None]) -> None:
    """Call `then` with the number of calls and the arguments, after each successful call of a coroutine method."""
    method: Method = getattr(owner, name)
    calls = 0

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        result = await method(*args, **kwargs)
        calls += 1
        then(calls, args)
        return result

    setattr(owner, name, wrapped)


# -- the process dies, freezes or fails


@point
def after_table_write(n: int) -> None:
    """Rows are in the changelog and on disk, nothing is committed; the output may be sent or not."""
    from streams.profile.table import BagTable  # noqa: PLC0415

    after(BagTable, "write", lambda calls, _: die("after a table write") if calls == n else None)


@point
def before_disk_write(n: int) -> None:
    """Rows are in the changelog but not on disk."""
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
    """The broker has rows and recommendations; nothing is committed."""
    from streams.profile.worker import ProfileWorker  # noqa: PLC0415

    after(ProfileWorker, "_deliver", lambda calls, _: die("after an output") if calls == n else None)


@point
def before_commit(n: int) -> None:
    """Of either worker: everything is delivered, and the N-th commit is about to be sent."""
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
def freeze_before_rows(n: int) -> None:
    """Freeze when, for the first time, at least N rows are about to go to the changelog."""
    from streams.profile.table import BagTable  # noqa: PLC0415

    append: Method = BagTable._append
    stopped = False

    async def wrapped(self: Any, partition: int, rows: Any, *, after: int) -> int:
        nonlocal stopped
        if not stopped and len(rows) >= n:
            stopped = True
            os.kill(os.getpid(), signal.SIGSTOP)
        return await append(self, partition, rows, after=after)

    BagTable._append = wrapped


@point
def freeze_consumer(n: int) -> None:
    """After the N-th commit no more records arrive, while the process and its event loop keep running."""
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


@point
def fail_in_agent(n: int) -> None:
    """An exception leaves the agent of either worker, at its N-th batch (profile) or event (embed)."""
    from streams.embed.worker import EmbedWorker  # noqa: PLC0415
    from streams.profile.worker import ProfileWorker  # noqa: PLC0415

    calls = 0

    def failing(process: Method) -> Method:
        async def wrapped(*args: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == n:
                raise RuntimeError("fault point: the agent fails")
            await process(*args)

        return wrapped

    EmbedWorker._process = failing(EmbedWorker._process)
    ProfileWorker._process = failing(ProfileWorker._process)


@point
def before_second_note(n: int) -> None:
    """`dlq redrive` has sent its N-th event and has not noted where it is."""
    from streams.dead_letters.redrive import Sender  # noqa: PLC0415

    write: Method = Sender._note
    calls = 0

    async def wrapped(self: Any, note: Any) -> None:
        nonlocal calls
        calls += note.to is not None
        if note.to is not None and calls == n:
            die("between an event and its note")
        await write(self, note)

    Sender._note = wrapped


@point
def on_poison(n: int) -> None:
    """A worker dies each time it processes an event of an item called kills-embed or kills-profile, or the item kills-items.

    N is 1 for a death as by `kill -9`, 2 for an exit at once.
    """
    from streams.embed.items import ItemReader  # noqa: PLC0415
    from streams.embed.worker import EmbedWorker  # noqa: PLC0415
    from streams.profile.worker import ProfileWorker  # noqa: PLC0415

    def end() -> NoReturn:
        if n == 1:
            die("by a poisonous event")
        os._exit(3)

    embedded: Method = EmbedWorker._embedded
    made: Method = ItemReader._embedded
    parse: Method = ProfileWorker._parse

    async def poisoned(self: Any, pending: Any) -> Any:
        if b'"kills-embed"' in (pending.record.value or b"") and not pending.quarantined:
            end()
        return await embedded(self, pending)

    async def poisoned_item(self: Any, pending: Any) -> Any:
        if pending.record.key == b"kills-items" and not pending.quarantined:
            end()
        return await made(self, pending)

    def poisoned_too(self: Any, value: bytes | None) -> Any:
        if b"kills-profile" in (value or b""):
            end()
        return parse(self, value)

    EmbedWorker._embedded = poisoned
    ItemReader._embedded = poisoned_item
    ProfileWorker._parse = poisoned_too


@point
def defect(n: int) -> None:
    """The embed worker meets an unexpected error with each event of an item called defect."""
    from streams.embed.worker import EmbedWorker  # noqa: PLC0415

    embedded: Method = EmbedWorker._embedded

    async def failing(self: Any, pending: Any) -> Any:
        if b'"defect"' in (pending.record.value or b""):
            raise RuntimeError("fault point: a defect")
        return await embedded(self, pending)

    EmbedWorker._embedded = failing
