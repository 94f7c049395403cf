"""From files to a profile: finds photos, embeds the newest in processes of this machine, and scores them. Stores nothing."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.exceptions import PictureError
from model.heic import has_heic
from streams.profile.scoring import Recommender, ScoringOptions
from streams.serve.explanation import raisers
from streams.serve.interface import Tasted, Uploaded
from streams.serve.taste import Shown, Taste, bag_of, taste_of
from streams.serve.tasting import PictureTaster, open_taster
from streams.settings import Settings
from streams.taste.photos import Found, Photo, newest_first
from streams.taste.profile import MAX_REFUSED, Because, Profile, ProfilePhoto, RefusedPhoto, UnreadablePlace
from streams.trend.trend import no_trend

AT_ONCE = 4  # photos whose bytes are in memory
MAX_BYTES = 64 * 1024**2  # of a photo; a JPEG of 50 megapixels has up to 40 MB
MAX_PIXELS = 64_000_000  # of a photo: the largest cameras of phones but those that combine nine pixels into one anyway
DECODER_SECONDS = 30.0  # processor time of a photo
DECODER_MEMORY = 1024**3  # bytes: of 48 megapixels a WebP takes 0.9 GB, a HEIC 0.5 and a JPEG 0.3
BEHIND = 3  # photos that are named for a category
HEIC_MISSING = "HEIC is read with the extra heic: pip install 'tastestream[heic]'"


class Refused(NamedTuple):
    """A photo that cannot be used."""

    photo: Photo
    reason: str
    detail: str


@dataclass
class Looked:
    """The photos that were opened, newest first."""

    used: list[tuple[Photo, Tasted]] = field(default_factory=list[tuple[Photo, Tasted]])
    refused: list[Refused] = field(default_factory=list[Refused])
    reasons: Counter[str] = field(default_factory=Counter[str])
    names: dict[bytes, str] = field(default_factory=dict[bytes, str])  # of the photos that are used, by their digest

    def refuse(self, photo: Photo, reason: str, detail: str) -> None:
        """Note a photo that cannot be used; all are counted, and the first are kept."""
        self.reasons[reason] += 1
        if len(self.refused) < MAX_REFUSED:
            self.refused.append(Refused(photo, reason, detail))

    @property
    def count(self) -> int:
        """All that were opened."""
        return len(self.used) + self.reasons.total()


def for_photos(settings: Settings) -> Settings:
    """The settings with limits for one's own photos: those of cameras are larger than those of shops."""
    return settings.model_copy(
        update={
            "fetch_max_bytes": max(settings.fetch_max_bytes, MAX_BYTES),
            "fetch_max_pixels": max(settings.fetch_max_pixels, MAX_PIXELS),
            "decoder_seconds": max(settings.decoder_seconds, DECODER_SECONDS),
            "decoder_memory": max(settings.decoder_memory, DECODER_MEMORY),
        }
    )


class Opened(NamedTuple):
    """What opens and scores photos."""

    taster: PictureTaster
    places: asyncio.Semaphore
    max_bytes: int


async def look(
    settings: Settings,
    bundle: Bundle,
    photos: Sequence[Photo],
    *,
    bag_size: int,
    thumbnail: int | None,
    done: Callable[[Looked], object],
) -> tuple[Looked, dict[Path, NDArray[np.uint8]]]:
    """Embed the newest photos until there are enough of them.

    Args:
        settings: with limits as of `for_photos`.
        bundle: the model.
        photos: in any order.
        bag_size: photos that are enough.
        thumbnail: side of the thumbnails of the photos that are used, pixels; None for no thumbnails.
        done: called after each photo that was opened.

    Returns:
        What was opened, and the thumbnails by the paths of the photos.

    Raises:
        DecoderError: the decoder processes do not start.
    """
    looked, ordered = Looked(), iter(newest_first(photos))
    thumbnails: dict[Path, NDArray[np.uint8]] = {}
    async with open_taster(for_photos(settings), bundle, heic=has_heic()) as taster:
        opened = Opened(taster, asyncio.Semaphore(AT_ONCE), for_photos(settings).fetch_max_bytes)
        while some := list(islice(ordered, bag_size - len(looked.used))):
            for start in range(0, len(some), AT_ONCE):
                part = some[start : start + AT_ONCE]
                for photo, found in zip(
                    part, await asyncio.gather(*(_open(photo, opened) for photo in part)), strict=True
                ):
                    _note(photo, found, looked)
                    done(looked)
        if thumbnail is not None:
            for photo, _ in looked.used:
                with suppress(OSError, PictureError):  # the file has changed since
                    content = await asyncio.to_thread(_read, photo.path, opened.max_bytes)
                    thumbnails[photo.path] = await taster.pixels(content, thumbnail)
    return looked, thumbnails


class _Seen(NamedTuple):
    tasted: Tasted
    digest: bytes


async def _open(photo: Photo, opened: Opened) -> _Seen | Refused:
    """Read and embed a photo."""
    if photo.format == "HEIC" and not has_heic():
        return Refused(photo, "not_a_picture", HEIC_MISSING)
    async with opened.places:
        try:
            content = await asyncio.to_thread(_read, photo.path, opened.max_bytes)
        except OSError as error:
            return Refused(photo, "unreadable_file", error.strerror or str(error))
        except PictureError as error:
            return Refused(photo, error.reason, str(error))
        tasted = await opened.taster.one(Uploaded(photo.name, content))
        return _Seen(tasted, hashlib.sha256(content).digest())


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise PictureError("picture_too_many_bytes", f"more than {most} bytes, which is the limit")
    return content


def _note(photo: Photo, found: _Seen | Refused, looked: Looked) -> None:
    if isinstance(found, Refused):
        looked.refuse(*found)
    elif not found.tasted.code:
        looked.refuse(photo, found.tasted.reason, found.tasted.detail)
    elif found.digest in looked.names:
        looked.refuse(photo, "duplicate", f"the same photo as {looked.names[found.digest]}")
    else:
        looked.names[found.digest] = photo.name
        looked.used.append((photo, found.tasted))


class Ranked(NamedTuple):
    """A photo of the bag."""

    photo: Photo
    weight: float  # its attention


class Answer(NamedTuple):
    """What the photos say."""

    taste: Taste
    ranked: list[Ranked]  # the one with the most attention first
    because: dict[str, list[Photo]]  # by category: the photos that raise it, the one that raises it most first


def answer_of(bundle: Bundle, settings: Settings, looked: Looked, now: datetime, *, top: int, bag_size: int) -> Answer:
    """Score the photos that are used as the workers score a bag of them."""
    options = ScoringOptions(bag_size, top, settings.type_weights, settings.half_life)
    recommender = Recommender(bundle, bundle.aggregator(settings.model_threads), options)
    trend, moment = no_trend(len(bundle.categories)), int(now.timestamp() * 1000)
    used = looked.used[::-1]
    shown = [Shown(tasted, photo.type, int(photo.taken.timestamp() * 1000)) for photo, tasted in used]
    taste = taste_of(recommender, trend, shown, moment)
    ranked = [Ranked(photo, said.weight or 0.0) for (photo, _), said in zip(used, taste.pictures, strict=True)]
    behind = raisers(
        recommender,
        bag_of(shown, bundle.embedder_version),
        moment,
        trend,
        categories=[one.category for one in taste.categories],
        most=BEHIND,
    )
    return Answer(
        taste,
        sorted(ranked, key=lambda one: (-one.weight, one.photo.name)),
        {name: [used[int(one.item_id)][0] for one in raised] for name, raised in behind.items()},
    )


def profile_of(answer: Answer, found: Found, looked: Looked, now: datetime) -> Profile:
    """The result. Pure."""
    taste = answer.taste
    return Profile(
        produced_at=now,
        model=taste.model,
        bag_size=taste.bag_size,
        categories=taste.categories,
        fields=taste.fields,
        photos=[
            ProfilePhoto(name=photo.name, type=photo.type, taken=photo.taken, taken_by=photo.taken_by, weight=weight)
            for photo, weight in answer.ranked
        ],
        because=[Because(name, [photo.name for photo in photos]) for name, photos in answer.because.items()],
        refused=[
            RefusedPhoto(name=photo.name, reason=reason, detail=detail) for photo, reason, detail in looked.refused
        ],
        refused_count=dict(looked.reasons.most_common()),
        older=len(found.photos) - looked.count,
        others=dict(found.others.most_common()),
        unreadable=[UnreadablePlace(*one) for one in found.unreadable],
        unreadable_count=found.unreadable_count,
    )
