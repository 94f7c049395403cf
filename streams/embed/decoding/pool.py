"""A few decoder processes for many pictures. A process that dies is replaced at once, and the pictures that wait go on."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Generator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty, LifoQueue
from threading import Event, Lock
from time import monotonic
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from model.exceptions import PictureError
from streams import metrics
from streams.embed.decoding.decoder import Decoder, DecoderDied
from streams.embed.decoding.limits import DecoderLimits
from streams.embed.decoding.turns import KNOWN_HOSTS, Turns
from streams.exceptions import DecoderError

logger = logging.getLogger(__name__)

DECODERS = 2  # processes. Two keep ahead of the model
PER_HOST = (
    32  # pictures of one host that wait for a decoder or have one: enough for both to be busy while the host pauses
)
QUICK = 1.0  # processor seconds that pictures of a sound host take on average
RECENT = 8  # pictures that the average is of
UNPROVEN = ""  # stands for all hosts whose pictures are not quick, and for new ones
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds before another attempt to start a process; doubles each time


@contextmanager
def open_decoders(limits: DecoderLimits, count: int = DECODERS, *, lazy: bool = False) -> Generator["DecoderPool"]:
    """Start decoder processes, and end them afterwards.

    Args:
        limits: of each process.
        count: of processes.
        lazy: whether the first pictures start them.

    Raises:
        DecoderError: they do not start.
    """
    pool = DecoderPool(limits, count)
    try:
        if not lazy:
            pool.start()
        yield pool
    finally:
        pool.close()


class _Picture(NamedTuple):
    host: str
    data: bytes
    size: int
    max_pixels: int
    decoded: "Future[NDArray[np.uint8]]"


class _Work:
    """What a picture costs. That it waits for a processor of a busy machine does not count."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder, self._pid, self._began = decoder, decoder.pid, monotonic()
        self._used = decoder.processor_seconds()

    def seconds(self) -> float:
        """Processor seconds so far; those by the clock if the process was started anew, or does not say."""
        used = self._decoder.processor_seconds()
        return used - self._used if used and self._decoder.pid == self._pid else monotonic() - self._began


class DecoderPool:
    """Decodes pictures in processes, one picture at a time in each. Each has a thread here that waits for its answer.

    `Turns` decides whose picture is next. A host is proven while its recent pictures are decoded quickly. Unproven hosts,
    including new ones, count as one host: anybody can invent hosts with costly pictures.
    """

    def __init__(self, limits: DecoderLimits, count: int) -> None:
        self._decoders = [Decoder(limits) for _ in range(count)]
        self._threads = ThreadPoolExecutor(count, "decode")
        self._idle: LifoQueue[Decoder] = LifoQueue()  # pictures that come one by one need one process
        for decoder in self._decoders:
            self._idle.put(decoder)
        self._last = monotonic()  # when a picture was done
        self._closing = Event()
        self._limits = limits
        self._turns = Turns[_Picture]()
        self._seconds = OrderedDict[str, float]()  # mean of recent pictures, by host; least recently used first
        self._lock = Lock()  # guards the turns and the seconds
        self._rooms = WeakValueDictionary[str, asyncio.Semaphore]()  # by host; whoever is in one keeps it

    @property
    def pids(self) -> list[int]:
        """Ids of the processes."""
        return [decoder.pid for decoder in self._decoders if decoder.pid is not None]

    def start(self) -> None:
        """Start the processes side by side.

        A thread of the pool starts them: the kernel ends a process with the thread that has started it.
        """
        for unfiltered in set(self._threads.map(Decoder.start, self._decoders)):
            _warn(unfiltered)

    def rest(self, seconds: float) -> None:
        """End the processes if there was no picture for so long. The next one starts them again."""
        if monotonic() - self._last < seconds:
            return
        idle: list[Decoder] = []
        try:
            while True:
                idle.append(self._idle.get_nowait())
        except Empty:
            pass
        for decoder in idle:
            decoder.close()
            self._idle.put(decoder)

    def room(self, host: str) -> asyncio.Semaphore:
        """Room for a picture of a host, to be held until it is decoded: `PER_HOST` pictures at a time get it."""
        with self._lock:
            return self._rooms.setdefault(self._turn_of(host), asyncio.Semaphore(PER_HOST))

    async def decode(self, data: bytes, size: int, max_pixels: int, host: str = "") -> NDArray[np.uint8]:
        """As `model.preprocessing.decode_picture`, in one of the processes. Hosts share the processes equally.

        Raises:
            PictureError: the picture cannot be decoded, costs too much, or has crashed its process.
        """
        picture = _Picture(host, data, size, max_pixels, Future())
        with self._lock:
            self._turns.put(self._turn_of(host), picture)
        self._threads.submit(self._decode_next)
        return await asyncio.wrap_future(picture.decoded)

    def close(self) -> None:
        """End the processes. Pictures that are being decoded fail."""
        self._closing.set()
        for decoder in self._decoders:
            decoder.kill()
        self._threads.shutdown(cancel_futures=True)
        for picture in self._turns.clear():
            picture.decoded.cancel()
        for decoder in self._decoders:
            decoder.close()

    def _turn_of(self, host: str) -> str:
        return host if self._seconds.get(host, QUICK) < QUICK else UNPROVEN

    def _decode_next(self) -> None:
        """Decode the picture whose turn it is."""
        with self._lock:
            turn, picture = self._turns.take()
        decoded = picture.decoded
        try:
            if decoded.set_running_or_notify_cancel():
                decoded.set_result(self._decode(picture.data, picture.size, picture.max_pixels, picture.host))
        except BaseException as error:  # noqa: BLE001 -- whoever waits for the picture raises it
            decoded.set_exception(error)
        finally:
            with self._lock:
                self._turns.end(turn)
            del decoded, picture  # the traceback of an error would keep them

    def _count(self, host: str, seconds: float) -> None:
        with self._lock:
            mean = self._seconds.pop(host, seconds)
            self._seconds[host] = mean + (seconds - mean) / RECENT
            if len(self._seconds) > KNOWN_HOSTS:
                self._seconds.popitem(last=False)

    def _decode(self, data: bytes, size: int, max_pixels: int, host: str = "") -> NDArray[np.uint8]:
        decoder = self._idle.get()
        work = _Work(decoder)
        try:
            if decoder.pid is None:
                self._start(decoder)
            try:
                return self._decode_with(decoder, data, size, max_pixels)
            except DecoderDied as death:
                if death.cause != "killed":
                    raise
                return self._decode_with(decoder, data, size, max_pixels)
        except DecoderDied as death:
            raise self._refusal(len(data), death) from death
        finally:
            self._count(host, work.seconds())
            self._last = monotonic()
            self._idle.put(decoder)

    def _decode_with(self, decoder: Decoder, data: bytes, size: int, max_pixels: int) -> NDArray[np.uint8]:
        """Decode, and replace the process if this was too much for it."""
        try:
            return decoder.decode(data, size, max_pixels)
        except DecoderDied as death:
            self._start(decoder, death.cause)
            raise
        except PictureError as error:
            if error.reason == "picture_too_costly":  # libraries that had no memory may have lost some
                self._start(decoder, "memory")
            raise

    def _start(self, decoder: Decoder, cause: str = "") -> None:
        """Start a new process, however long that takes: without it no picture can be decoded. `cause`: of a restart.

        Raises:
            CancelledError: the pool is being closed.
        """
        pause = FIRST_PAUSE
        while not self._closing.is_set():
            try:
                unfiltered = decoder.start()
            except DecoderError as error:
                logger.error("%s; trying again in %.1f s", error, pause)  # noqa: TRY400 -- the message says everything
                metrics.decoder_restarts.labels("start").inc()
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if cause:
                    metrics.decoder_restarts.labels(cause).inc()
                else:
                    _warn(unfiltered)
                break
        if self._closing.is_set():
            decoder.kill()
            raise CancelledError

    def _refusal(self, size: int, death: DecoderDied) -> PictureError:
        if death.cause == "deadline":
            return PictureError(
                "picture_too_costly",
                f"{size} bytes that take too long to decode ({death}): send another file of the picture, or raise DECODER_SECONDS",
            )
        if death.cause == "crash":
            return PictureError(
                "decoder_crashed", f"{size} bytes that crash their decoder ({death}): send another file of the picture"
            )
        return PictureError(
            "decoder_crashed",
            f"{size} bytes whose decoder was killed twice, not by this worker ({death}): "
            "give the worker more memory if there is too little, and send the event again",
        )


def _warn(unfiltered: str) -> None:
    """Log why system calls of a process are not filtered, if they are not."""
    if unfiltered:
        logger.warning(
            "system calls of the decoder processes are not filtered (%s); their other limits hold", unfiltered
        )
