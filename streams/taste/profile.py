"""The result of `tastestream taste`, as `--json` prints it."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from streams.messages import CategoryScore, FieldScores, Model
from streams.serve.taste import Kind

MAX_REFUSED = 100  # photos that are listed


class ProfilePhoto(Struct, frozen=True, kw_only=True):
    """A photo of the bag."""

    name: Annotated[str, Meta(description="path below the folder that was named")]
    type: Kind
    taken: Annotated[datetime, Meta(tz=True)]
    taken_by: Annotated[
        Literal["exif", "file"], Meta(description="whether `taken` is from EXIF, or the time when the file was changed")
    ]
    weight: Annotated[float, Meta(ge=0, le=1, description="its attention; the weights of all photos sum to 1")]


class Because(Struct, frozen=True):
    """Why a category has its score: the photos that raise it most, by leave-one-out."""

    category: str
    photos: Annotated[list[str], Meta(description="names; the one that raises it most first")]


class RefusedPhoto(Struct, frozen=True, kw_only=True):
    """A file that begins like a picture, and is none that can be read."""

    name: str
    reason: Annotated[str, Meta(description="as in dead letters; or `duplicate`, `unreadable_file`")]
    detail: str


class UnreadablePlace(Struct, frozen=True):
    """A file or folder that cannot be opened."""

    name: str
    error: str


class Profile(Struct, frozen=True, kw_only=True):
    """What somebody's photos say."""

    produced_at: Annotated[datetime, Meta(tz=True)]
    model: Model
    bag_size: Annotated[int, Meta(ge=1, description="number of photos that were scored")]
    categories: Annotated[list[CategoryScore], Meta(description="the categories with the highest scores, best first")]
    fields: Annotated[list[FieldScores], Meta(description="the best values of each field of the model")]
    photos: Annotated[
        list[ProfilePhoto], Meta(description="the photos that were scored; the one with the most attention first")
    ]
    because: Annotated[list[Because], Meta(description="the photos behind each of the categories")]
    refused: Annotated[list[RefusedPhoto], Meta(description=f"photos that could not be used: the first {MAX_REFUSED}")]
    refused_count: Annotated[dict[str, int], Meta(description="all of them, by reason")]
    older: Annotated[int, Meta(ge=0, description="photos that are older than the bag, and were not opened")]
    others: Annotated[
        dict[str, int],
        Meta(description="files that are no pictures, by what they are: their suffix, `hidden`, `link`, `empty`"),
    ]
    unreadable: Annotated[list[UnreadablePlace], Meta(description="files and folders that cannot be opened: the first")]
    unreadable_count: Annotated[int, Meta(ge=0)]


encode = msgspec.json.Encoder().encode
