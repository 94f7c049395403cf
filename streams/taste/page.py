"""A profile as one page with the photos in it. It loads nothing, runs no script, and needs no network."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from streams.messages import CategoryScore
from streams.taste.profile import Profile, ProfilePhoto
from streams.taste.screen import not_used
from streams.taste.work import Answer
from streams.text import visible

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
POLICY = (
    "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)
SMALL = 96  # pixels, of the photos beside a category
QUALITY = 82  # of a JPEG, up to 100
LARGE = 1.6  # times the mean attention: such a photo is shown large
MOST_LARGE = 3  # photos that are shown large
WHITE = 255


class PagePicture(NamedTuple):
    """A photo on the page: two JPEGs, empty if there is none."""

    large: bytes
    small: bytes


def pictures_of(
    answer: Answer, thumbnails: Mapping[Path, NDArray[np.uint8]]
) -> tuple[list[PagePicture], list[list[tuple[str, bytes]]]]:
    """The photos in the order of the profile, and those behind each of its categories, with their names."""
    made: dict[Path, PagePicture] = {}
    for path, pixels in thumbnails.items():
        picture = Image.fromarray(trimmed(pixels))
        large = _jpeg(picture)
        picture.thumbnail((SMALL, SMALL))
        made[path] = PagePicture(large, _jpeg(picture))
    none = PagePicture(b"", b"")
    behind = [
        [(photo.name, made.get(photo.path, none).small) for photo in answer.because[one.category]]
        for one in answer.taste.categories
    ]
    return [made.get(photo.path, none) for photo, _ in answer.ranked], behind


def trimmed(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture without the white bars that made it a square: as much from both sides as both have."""
    content: NDArray[np.bool_] = np.asarray((pixels < WHITE).any(axis=2))
    if not content.any():
        return pixels
    above, left = _white(content), _white(content.transpose())
    return pixels[above : len(pixels) - above, left : pixels.shape[1] - left]


def _white(content: NDArray[np.bool_]) -> int:
    """How many lines without content there are above and below, at least."""
    lines = np.unique(np.nonzero(content)[0])
    return min(int(lines[0]), len(content) - 1 - int(lines[-1]))


def page(profile: Profile, pictures: tuple[Sequence[PagePicture], Sequence[Sequence[tuple[str, bytes]]]]) -> str:
    """The page. pictures: as of `pictures_of`."""
    shown, behind = pictures
    times = [photo.taken for photo in profile.photos]
    first, last = f"{min(times):%-d %B %Y}", f"{max(times):%-d %B %Y}"
    names = [_text(one.category) for one in profile.categories[:2]]
    title = f"{names[0]}, then {names[1]}" if len(names) > 1 else names[0]
    older = f" {profile.older:,} older ones were not opened." if profile.older else ""
    best = max((one.score for one in profile.categories), default=0.0) or 1.0
    mean = 1 / len(profile.photos)
    rows = "".join(_category(one, best, some) for one, some in zip(profile.categories, behind, strict=True))
    tiles = "".join(
        _tile(photo, picture, large=place < MOST_LARGE and photo.weight > LARGE * mean)
        for place, (photo, picture) in enumerate(zip(profile.photos, shown, strict=True))
    )
    photos = "one photo says" if profile.bag_size == 1 else f"{profile.bag_size:,} photos say"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>What {photos}: {title}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<h1><em>{names[0]}</em>{f", then {names[1]}" if len(names) > 1 else ""}</h1>
<p>What {photos}, {first if first == last else f"{first} to {last}"}.{older}</p>
</header>
<section aria-labelledby="categories">
<h2 id="categories">What they say</h2>
<p>How likely each category is to be wanted next, and the photos that raise it most.</p>
<ol class="categories">{rows}</ol>
</section>
<section aria-labelledby="photos">
<h2 id="photos">Which photos spoke</h2>
<p>The share of attention that the model gave to each photo, the largest first.</p>
<ul class="photos">{tiles}</ul>
</section>
{_fields(profile)}
{_not_used(profile)}
<footer>Made on this machine by tastestream, {profile.produced_at:%-d %B %Y}, with the model {_text(profile.model.name)}
{_text(profile.model.version)}. No photo left it: this page loads nothing and sends nothing.</footer>
</main>
</body>
</html>
"""


def _category(one: CategoryScore, best: float, behind: Sequence[tuple[str, bytes]]) -> str:
    images = "".join(
        f'<img src="{_data(content)}" width="44" height="44" alt="because of {_text(name)}">'
        for name, content in behind
        if content
    )
    return (
        f'<li><span class="name">{_text(one.category)}</span><span class="bar">{_bar(one.score / best)}</span>'
        f'<span class="score">{one.score:.2f}</span><span class="behind">{images}</span></li>'
    )


def _bar(part: float) -> str:
    width = f"{100 * part:.1f}"
    return (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="10"></rect>'
        f'<rect class="fill" width="{width}" height="10"></rect></svg>'
    )


def _tile(photo: ProfilePhoto, picture: PagePicture, *, large: bool) -> str:
    name, day = _text(photo.name.rpartition("/")[2]), f"{photo.taken:%-d %b %Y}"
    share = f"{photo.weight:.0%}" if photo.weight >= 0.1 else f"{photo.weight:.1%}"
    image = (
        f'<img src="{_data(picture.large)}" alt="{_text(photo.name)}, {day}: {share} of the attention">'
        if picture.large
        else ""
    )
    viewed = ' · <span class="viewed">viewed</span>' if photo.type == "view" else ""
    return (
        f'<li{" class=large" if large else ""}><figure><div class="frame">{image}<span class="share">{share}</span></div>'
        f'<figcaption><b title="{_text(photo.name)}">{name}</b>{day}{viewed}</figcaption></figure></li>'
    )


def _fields(profile: Profile) -> str:
    if not profile.fields:
        return ""
    groups = "".join(
        f"<div><dt>{_text(field.field)}</dt>"
        + "".join(f"<dd>{_text(one.category)} <span>{one.score:.0%}</span></dd>" for one in field.values)
        + "</div>"
        for field in profile.fields
    )
    return (
        '<section aria-labelledby="fields"><h2 id="fields">In each group</h2>'
        "<p>Of categories that exclude each other, the likeliest.</p>"
        f'<dl class="fields">{groups}</dl></section>'
    )


def _not_used(profile: Profile) -> str:
    lines = not_used(profile)
    if not lines:
        return ""
    files = sum(profile.refused_count.values()) + sum(profile.others.values()) + profile.unreadable_count
    listed = "".join(
        f"<li>{escape(line)}</li>" if line.startswith(" ") else f"<li><b>{escape(line)}</b></li>" for line in lines
    )
    return f"<details><summary>What was not used: {files:,} file{'' if files == 1 else 's'}</summary><ul>{listed}</ul></details>"


def _text(text: str) -> str:
    """Text of strangers, on one line, for a page and its attributes."""
    return escape(visible(text))


def _data(content: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
