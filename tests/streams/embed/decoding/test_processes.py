"""Decoder processes hold no secret, outlive nobody, and are replaced when they die."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from model.exceptions import PictureError
from streams.embed.decoding import decoder, pool
from streams.embed.decoding.decoder import IDLE_WAITS, processor_use
from streams.embed.decoding.limits import DecoderLimits
from streams.embed.decoding.pool import DecoderPool, open_decoders
from streams.exceptions import DecoderError
from tests.kafka.system import next_line, wait_until
from tests.model.hostile_pictures import FORMATS, sound
from tests.model.unbounded_pictures import avif_of_items, jpeg_of_arithmetic_scans
from tests.streams.embed.decoding.conftest import DEFAULTS

ROOT = Path(__file__).parents[4]
SIZE, PIXELS = 96, 25_000_000
PATIENT = DecoderLimits(seconds=600, memory=DEFAULTS.memory)
TIMEOUT = 60.0  # seconds, on a busy machine
WORKER = """
import sys, time
from streams.embed.decoding.limits import DecoderLimits
from streams.embed.decoding.pool import open_decoders
with open_decoders(DecoderLimits(600, 640 * 1024**2)) as pool:
    if len(sys.argv) > 1:
        pool._threads.submit(pool._decode, open(sys.argv[1], "rb").read(), 96, 25_000_000)
    print(*pool.pids, flush=True)
    time.sleep(600)
"""


def restarts(cause: str) -> float:
    return REGISTRY.get_sample_value("tastestream_decoder_restarts_total", {"cause": cause}) or 0.0


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descriptors(pid: int) -> list[str]:
    """The open files of a process."""
    return sorted(file.name for file in Path(f"/proc/{pid}/fd").iterdir())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 -- it is a condition of another process
            await asyncio.sleep(0.01)


async def computing(decoders: DecoderPool) -> int:
    """A process that decodes, once one does."""
    before: dict[int, float] = {}

    def found() -> list[int]:
        started = [pid for pid in decoders.pids if alive(pid) and descriptors(pid) == ["0"]]
        return [pid for pid in started if processor_use(pid)[1] > before.setdefault(pid, processor_use(pid)[1])]

    async with asyncio.timeout(TIMEOUT):
        while not (pids := found()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return pids[0]


def test_a_decoder_has_no_variable_of_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASTESTREAM_SASL_PASSWORD", "hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    with open_decoders(DEFAULTS, count=1) as decoders:
        [pid] = decoders.pids
        given = Path(f"/proc/{pid}/environ").read_text().split("\0")
    names = {line.partition("=")[0] for line in given} - {""}
    assert names <= {"OPENBLAS_NUM_THREADS", *decoder.ENVIRONMENT}


def test_a_decoder_has_its_pipe_and_no_other_file(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        with open_decoders(DEFAULTS) as decoders:
            opened = [descriptors(pid) for pid in decoders.pids]
            threads = [list(Path(f"/proc/{pid}/task").iterdir()) for pid in decoders.pids]
    assert opened == [["0"], ["0"]]
    assert all(len(one) == 1 for one in threads)  # the filter of system calls holds for the thread that installs it


def test_closing_ends_the_processes_at_once() -> None:
    with open_decoders(PATIENT) as decoders:
        pids = decoders.pids
        decoders._threads.submit(decoders._decode, avif_of_items("iloc", 150_000), SIZE, PIXELS)
        before = os.times()
    after = os.times()
    assert after.children_user - before.children_user < 2  # processor seconds; the picture takes more than 5
    assert not any(map(alive, pids))


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "decoding"])
def test_no_decoder_outlives_a_worker_that_is_killed(tmp_path: Path, busy: bool) -> None:
    arguments: list[str] = []
    if busy:
        (tmp_path / "long").write_bytes(avif_of_items("iloc", 150_000))
        arguments = [str(tmp_path / "long")]
    with subprocess.Popen([sys.executable, "-c", WORKER, *arguments], cwd=ROOT, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        pids = [int(pid) for pid in next_line(worker.stdout).split()]
        if busy:
            wait_until(lambda: any(processor_use(pid)[1] > 1 for pid in pids), TIMEOUT)
        assert len(pids) == 2
        assert all(map(alive, pids))
        worker.kill()
    wait_until(lambda: not any(map(alive, pids)), TIMEOUT)


async def test_a_picture_that_crashes_its_decoder_is_refused_and_not_tried_again() -> None:
    before = restarts("crash")
    with open_decoders(PATIENT) as decoders:
        hostile = asyncio.create_task(decoders.decode(avif_of_items("iloc", 150_000), SIZE, PIXELS))
        pid = await computing(decoders)
        os.kill(pid, signal.SIGSEGV)
        with pytest.raises(PictureError, match=r"crash their decoder \(signal SIGSEGV\)") as caught:
            await hostile
        assert caught.value.reason == "decoder_crashed"
        assert pid not in decoders.pids
        assert len([one for one in decoders.pids if alive(one)]) == 2  # it is replaced already
    assert restarts("crash") == before + 1


async def test_a_picture_whose_decoder_is_killed_by_others_is_tried_once_more() -> None:
    before = restarts("killed")
    with open_decoders(PATIENT, count=1) as decoders:
        innocent = asyncio.create_task(decoders.decode(jpeg_of_arithmetic_scans(50), SIZE, PIXELS))
        os.kill(await computing(decoders), signal.SIGKILL)
        assert (await innocent).shape == (SIZE, SIZE, 3)
        unlucky = asyncio.create_task(decoders.decode(avif_of_items("iloc", 150_000), SIZE, PIXELS))
        for _ in range(2):
            os.kill(pid := await computing(decoders), signal.SIGKILL)
            await until(lambda old=pid: old not in decoders.pids)
        with pytest.raises(PictureError, match=r"killed twice, not by this worker \(signal SIGKILL\)") as caught:
            await unlucky
        assert caught.value.reason == "decoder_crashed"
    assert restarts("killed") == before + 3


async def test_a_decoder_that_dies_while_it_is_idle_costs_no_picture() -> None:
    with open_decoders(DEFAULTS, count=1) as decoders:
        for number in (signal.SIGKILL, signal.SIGSEGV):
            [pid] = decoders.pids
            os.kill(pid, number)
            wait_until(lambda old=pid: not alive(old), TIMEOUT)
            assert (await decoders.decode(sound("PNG"), SIZE, PIXELS)).shape == (SIZE, SIZE, 3)


async def test_a_decoder_that_ends_before_its_first_picture_is_counted_and_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = restarts("start")
    with open_decoders(DEFAULTS, count=1) as decoders:
        [pid] = decoders.pids
        monkeypatch.setattr(decoder, "PROGRAM", "no.such.program")
        os.kill(pid, signal.SIGKILL)
        waiting = asyncio.create_task(decoders.decode(sound("PNG"), SIZE, PIXELS))
        await until(lambda: restarts("start") > before)
        monkeypatch.undo()
        assert (await waiting).shape == (SIZE, SIZE, 3)


async def test_a_decoder_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_decoders(DecoderLimits(seconds=0.1, memory=DEFAULTS.memory), count=1) as decoders:
        [pid] = decoders.pids
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(PictureError, match=r"no answer in 1[01] waits of 0\.1 s") as caught:
            await decoders.decode(sound("PNG"), SIZE, PIXELS)
        assert caught.value.reason == "picture_too_costly"
        assert not alive(pid)


async def test_a_decoder_that_has_stopped_its_timer_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "spins.py").write_text(
        "from streams.embed.decoding.process import _answer, _read\nfrom streams.embed.decoding.messages import *\n"
        "_answer(READY, b'')\n_read(REQUEST.size)\nwhile True: pass\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(decoder, "PROGRAM", "spins")
    with open_decoders(DecoderLimits(seconds=0.2, memory=DEFAULTS.memory), count=1) as decoders:
        [pid] = decoders.pids
        monkeypatch.undo()
        with pytest.raises(PictureError, match=r"more than 0\.2 s of processor time, without a timer") as caught:
            await decoders.decode(sound("PNG"), SIZE, PIXELS)
        assert caught.value.reason == "picture_too_costly"
        assert not alive(pid)


LIES = {
    "unknown reason": ("REFUSED, b'be_my_guest\\nhello'", "unknown reason 'be_my_guest'"),
    "too few pixels": ("PIXELS, bytes(9)", "9 bytes of pixels"),
    "too many pixels": ("PIXELS, bytes(96 * 96 * 3 + 1)", "27649 bytes of pixels"),
    "too much text": ("REFUSED, b'not_a_picture' * 1000", "13000 bytes of text"),
    "unknown kind": ("7, b''", "an answer of kind 7"),
    "ready twice": ("READY, b''", "an answer of kind 0"),
    "half an answer": ("None, None", "exit code 3"),
}


@pytest.mark.parametrize(("answer", "said"), LIES.values(), ids=LIES)
async def test_an_answer_that_no_decoder_gives_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, said: str
) -> None:
    program = (
        "import os\nfrom streams.embed.decoding.process import _answer, _read\n"
        "from streams.embed.decoding.messages import *\n"
        "_answer(READY, b'')\nlength, _, _ = REQUEST.unpack(_read(REQUEST.size))\n"
        f"kind, body = {answer}\n"
        "if kind is None: _read(length); os.write(0, b'1'); os._exit(3)\n"
        "_answer(kind, body)\n_read(1 << 30)\n"
    )
    (tmp_path / "liar.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(decoder, "PROGRAM", "liar")
    with open_decoders(DEFAULTS, count=1) as decoders:
        monkeypatch.undo()  # the next process is an honest one
        with pytest.raises(PictureError) as caught:
            await decoders.decode(sound("PNG"), SIZE, PIXELS)
        assert (await decoders.decode(sound("PNG"), SIZE, PIXELS)).shape == (SIZE, SIZE, 3)
    assert caught.value.reason == "decoder_crashed"
    assert said in str(caught.value)


class _SlowSender(socket.socket):
    """A socket whose sender goes on only when the receiver has read everything and is gone."""

    def sendmsg(self, *arguments: Any) -> int:
        sent = super().sendmsg(*arguments)
        gone = select.poll()
        gone.register(self, select.POLLRDHUP)
        assert gone.poll(TIMEOUT * 1000)
        return sent


async def test_a_picture_is_to_blame_for_a_death_before_its_sender_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dies.py").write_text(
        "import os\nfrom streams.embed.decoding.process import _answer, _read\n"
        "from streams.embed.decoding.messages import *\n"
        "_answer(READY, b'')\n_read(REQUEST.unpack(_read(REQUEST.size))[0])\nos._exit(3)\n"
    )
    pair = socket.socketpair

    def slow_pair() -> tuple[socket.socket, socket.socket]:
        ours, theirs = pair()
        return _SlowSender(fileno=ours.detach()), theirs

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(decoder, "PROGRAM", "dies")
    monkeypatch.setattr(decoder.socket, "socketpair", slow_pair)
    with open_decoders(DEFAULTS, count=1) as decoders:
        monkeypatch.undo()  # the next process is an honest one
        with pytest.raises(PictureError, match="crash their decoder") as caught:
            await decoders.decode(sound("PNG"), SIZE, PIXELS)
    assert caught.value.reason == "decoder_crashed"


async def test_the_text_of_a_refusal_is_one_visible_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "liar.py").write_text(
        "from streams.embed.decoding.process import _answer, _read\nfrom streams.embed.decoding.messages import *\n"
        "_answer(READY, b'')\n_read(REQUEST.size)\n"
        "_answer(REFUSED, b'not_a_picture\\n\\x1b[2J\\nERROR forged \\xff\\xe2\\x80\\xae')\n_read(1 << 30)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(decoder, "PROGRAM", "liar")
    with open_decoders(DEFAULTS, count=1) as decoders, pytest.raises(PictureError) as caught:
        await decoders.decode(sound("PNG"), SIZE, PIXELS)
    assert str(caught.value).isprintable()
    assert r"\x1b[2J\nERROR forged" in str(caught.value)


def test_a_decoder_that_cannot_start_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "PROGRAM", "no.such.program")
    with pytest.raises(DecoderError, match="ends before its first picture: exit code 1"), open_decoders(DEFAULTS):
        raise AssertionError("it started")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DecoderError, match="no decoder process can be started"), open_decoders(DEFAULTS):
        raise AssertionError("it started")


async def test_a_decoder_that_cannot_be_replaced_is_tried_until_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "FIRST_PAUSE", 0.05)
    with open_decoders(DEFAULTS, count=1) as decoders:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        [pid] = decoders.pids
        os.kill(pid, signal.SIGKILL)
        waiting = asyncio.create_task(decoders.decode(sound("PNG"), SIZE, PIXELS))
        await until(lambda: not alive(pid))
        await asyncio.wait([waiting], timeout=0.3)
        assert not waiting.done()
        monkeypatch.undo()
        assert (await waiting).shape == (SIZE, SIZE, 3)


async def test_a_decoder_that_gets_no_processor_is_waited_for() -> None:
    seconds, processor = 0.4, min(os.sched_getaffinity(0))
    with open_decoders(DecoderLimits(seconds, DEFAULTS.memory), count=1) as decoders:
        [pid] = decoders.pids
        os.sched_setaffinity(pid, {processor})
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        with subprocess.Popen(
            [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{processor}}})\nwhile 1: pass"]
        ) as busy:
            waiting = asyncio.create_task(decoders.decode(sound("WEBP", 2000), SIZE, PIXELS))
            await asyncio.wait([waiting], timeout=seconds * IDLE_WAITS * 1.5)
            starved = not waiting.done()
            busy.kill()
        assert starved
        os.sched_setaffinity(pid, os.sched_getaffinity(0))
        with suppress(PermissionError):  # without it, the decoder goes on when nothing else wants the processor
            os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
        assert (await waiting).shape == (SIZE, SIZE, 3)
        assert decoders.pids == [pid]


async def test_all_formats_are_decoded_side_by_side() -> None:
    with open_decoders(DEFAULTS, count=3) as decoders:
        found = await asyncio.gather(
            *(decoders.decode(sound(FORMATS[n % len(FORMATS)]), SIZE, PIXELS) for n in range(60))
        )
    assert {one.shape for one in found} == {(SIZE, SIZE, 3)}


async def test_the_first_picture_starts_a_process_and_one_that_rests_ends_until_the_next_picture() -> None:
    picture = sound("JPEG")
    with open_decoders(DEFAULTS, lazy=True) as decoders:
        assert decoders.pids == []
        before = await decoders.decode(picture, SIZE, PIXELS)
        [first] = decoders.pids
        await decoders.decode(picture, SIZE, PIXELS)
        decoders.rest(TIMEOUT)
        assert decoders.pids == [first]  # pictures one by one need one process, and it has not rested for long enough
        decoders.rest(0)
        assert decoders.pids == [] and not alive(first)
        assert (await decoders.decode(picture, SIZE, PIXELS) == before).all()
        [second] = decoders.pids
    assert first != second and not alive(second)


async def test_pictures_that_come_at_once_start_all_processes() -> None:
    with open_decoders(DEFAULTS, lazy=True) as decoders:
        await asyncio.gather(*(decoders.decode(sound("JPEG"), SIZE, PIXELS) for _ in range(8)))
        assert len(decoders.pids) == 2
