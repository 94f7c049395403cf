"""A decoder process gives what `decode_picture` gives in this process, for sound and hostile files, within its limits."""

import asyncio
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.exceptions import PictureError
from model.heic import decoders_with_heic, has_heic
from model.preprocessing import decode_picture
from streams.embed.decoding.limits import DecoderLimits
from streams.embed.decoding.pool import DecoderPool, open_decoders
from tests.model.costly_pictures import COSTLY
from tests.model.hostile_pictures import FORMATS, hostile_pictures, mutated, sound
from tests.model.unbounded_pictures import avif_of_items, jpeg_of_arithmetic_scans, webp_of_alpha_groups, webp_of_groups
from tests.streams.embed.decoding.conftest import DEFAULTS
from tests.usage import MB, peak_resident_mb

SIZE = 96
PIXELS = 25_000_000
SHORT = DecoderLimits(seconds=0.5, memory=DEFAULTS.memory)

pytestmark = pytest.mark.skipif("AVIF" not in FORMATS, reason="this Pillow has no AVIF")


def here(data: bytes) -> bytes | tuple[str, str]:
    """What decoding gives in this process: the pixels, or reason and message."""
    try:
        return decode_picture(data, SIZE, PIXELS).tobytes()
    except PictureError as error:
        return error.reason, str(error)


async def there(pool: DecoderPool, data: bytes) -> bytes | tuple[str, str]:
    """The same, in a decoder process."""
    try:
        return (await pool.decode(data, SIZE, PIXELS)).tobytes()
    except PictureError as error:
        return error.reason, str(error)


async def refused(pool: DecoderPool, data: bytes) -> PictureError:
    with pytest.raises(PictureError) as caught:
        await pool.decode(data, SIZE, PIXELS)
    return caught.value


def odd_modes() -> list[bytes]:
    """Files whose pixels need a conversion that others do not."""
    made: list[bytes] = []
    for mode, file_format in (
        ("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("P", "GIF"), ("L", "JPEG"),
        ("CMYK", "JPEG"), ("RGBA", "WEBP"), ("RGBA", "AVIF"),
    ):  # fmt: skip
        exif = Image.Exif()
        exif[0x0112] = 6
        file = io.BytesIO()
        picture = Image.new(mode, (70, 40), 0)
        picture.save(file, file_format, exif=exif)
        made.append(file.getvalue())
    return made


async def test_every_file_has_the_outcome_that_it_has_in_this_process(decoders: DecoderPool) -> None:
    files = {name: file.data for name, file in hostile_pictures().items()}
    files |= {f"sound {name}": sound(name) for name in FORMATS}
    files |= {f"odd mode {number}": data for number, data in enumerate(odd_modes())}
    files |= {f"{name} {seed}": mutated(sound(name, 48), seed) for name in FORMATS for seed in range(100)}
    files |= {
        f"odd mode {number}, {seed}": mutated(data, seed)
        for number, data in enumerate(odd_modes())
        for seed in range(50)
    }
    before = decoders.pids
    found = dict(zip(files, await asyncio.gather(*(there(decoders, data) for data in files.values())), strict=True))
    differing = [name for name, data in files.items() if found[name] != here(data)]
    assert not differing
    assert decoders.pids == before  # and no process died


@pytest.mark.parametrize("kind", ["iloc", "ipma", "iref"])
async def test_a_picture_that_takes_too_long_is_refused_and_others_go_on(kind: str) -> None:
    data = avif_of_items(kind, 150_000)
    with open_decoders(SHORT, count=1) as pool:
        hostile = asyncio.create_task(refused(pool, data))
        after = await asyncio.gather(*(pool.decode(sound(name), SIZE, PIXELS) for name in FORMATS))
        error = await hostile
    assert error.reason == "picture_too_costly"
    assert "more than 0.5 s of processor time" in str(error)
    assert len(after) == len(FORMATS)


@pytest.mark.parametrize("made", [webp_of_groups, webp_of_alpha_groups], ids=["pixels", "alpha"])
async def test_a_picture_that_takes_too_much_memory_is_refused_as_costly_and_not_as_damaged(
    made: Callable[[], bytes],
) -> None:
    with open_decoders(DEFAULTS, count=1) as pool:
        first = pool.pids
        error = await refused(pool, made())
        assert error.reason == "picture_too_costly"
        assert f"more memory than a decoder may have, {DEFAULTS.memory} bytes" in str(error)
        assert pool.pids != first  # what a library has lost without memory is gone with its process
        assert (await refused(pool, sound("WEBP")[:-200])).reason == "truncated_picture"


@pytest.mark.slow
async def test_the_costliest_legal_picture_fits_into_the_default_memory(decoders: DecoderPool) -> None:
    data = COSTLY["WebP lossy"]()
    for _ in range(3):  # also when others came before
        assert (await decoders.decode(data, 224, PIXELS)).shape == (224, 224, 3)
    assert all(peak_resident_mb(pid) < DEFAULTS.memory / MB for pid in decoders.pids)


async def test_python_without_memory_says_so() -> None:
    with open_decoders(DecoderLimits(seconds=30, memory=192 * MB), count=1) as pool:
        assert (await refused(pool, COSTLY["GIF with transparency"]())).reason == "picture_too_costly"
        assert np.array_equal(await pool.decode(sound("PNG"), SIZE, PIXELS), decode_picture(sound("PNG"), SIZE))


async def test_the_event_loop_runs_on_while_a_picture_is_decoded(decoders: DecoderPool) -> None:
    busy = asyncio.create_task(decoders.decode(jpeg_of_arithmetic_scans(20), SIZE, PIXELS))
    longest, last = 0.0, time.thread_time()
    while not busy.done():
        await asyncio.sleep(0.005)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    assert longest < 0.1  # processor seconds: what others on this machine take does not count
    await busy


@pytest.mark.skipif(not has_heic(), reason="the extra heic is not installed")
async def test_heic_is_decoded_in_the_sandbox_by_a_pool_that_asks_for_it_and_by_no_other() -> None:
    data = (Path(__file__).parents[2] / "taste" / "bonsai.heic").read_bytes()
    expected = decode_picture(data, SIZE, decoders=decoders_with_heic())
    limits = DecoderLimits(DEFAULTS.seconds, DEFAULTS.memory, heic=True)
    with open_decoders(limits, count=1) as pool:
        assert np.array_equal(await pool.decode(data, SIZE, 1_000_000), expected)
        pid = pool.pids[0]
        for length in range(300, len(data), 3000):
            with pytest.raises(PictureError):
                await pool.decode(data[:length], SIZE, 1_000_000)
        assert pool.pids == [pid]
        assert np.array_equal(await pool.decode(data, SIZE, 1_000_000), expected)
    with open_decoders(DEFAULTS, count=1) as pool, pytest.raises(PictureError, match="a HEIC file of"):
        await pool.decode(data, SIZE, 1_000_000)
