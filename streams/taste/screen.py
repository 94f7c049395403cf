"""A profile on a terminal: categories with bars, the photos that spoke, and what was not used. Fits 80 columns."""

from rich.table import Table
from rich.text import Text

from streams.console import PlainConsole
from streams.taste.photos import Found
from streams.taste.profile import Profile
from streams.taste.work import Looked
from streams.text import visible

BAR = 20  # characters of a full bar
KINDS = 8  # of other files that are named
EXAMPLES = 3  # photos of each reason that are named
NAME = 28  # characters of a file name


def print_profile(console: PlainConsole, profile: Profile, top: int) -> None:
    """Print a profile. top: the number of photos that are listed."""
    times = [photo.taken for photo in profile.photos]
    older = f"; {profile.older:,} older ones were not opened" if profile.older else ""
    model = f"{visible(profile.model.name)} {visible(profile.model.version)}"
    console.print(
        f"{_count(profile.bag_size, 'photo')}, {min(times):%Y-%m-%d} to {max(times):%Y-%m-%d}{older}; model {model}"
    )
    console.print()
    console.print(_categories(profile))
    console.print()
    console.print(_photos(profile, top))
    lines = not_used(profile)
    if lines:
        console.print()
    for line in lines:
        console.print(line, soft_wrap=True)


def none_found(found: Found, looked: Looked) -> str:
    """Why there is no profile, on one line. Pure."""
    parts = [f"{_count(count, 'photo')} {reason}" for reason, count in looked.reasons.most_common()]
    if looked.refused:
        first = looked.refused[0]
        parts[-1] += f" (the first: {first.photo.name}: {first.detail})"
    if found.others:
        parts.append(_kinds(dict(found.others.most_common())))
    if found.unreadable:
        first_place = found.unreadable[0]
        parts.append(
            f"{_count(found.unreadable_count, 'place')} cannot be opened (the first: {first_place.name or '.'}: {first_place.error})"
        )
    return f"there is no photo that can be read: {'; '.join(parts) or 'the folder is empty'}"


def _categories(profile: Profile) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("category", no_wrap=True, max_width=24)
    table.add_column("score", justify="right")
    table.add_column("", no_wrap=True)
    table.add_column("because of", no_wrap=True, max_width=NAME)
    best = max((one.score for one in profile.categories), default=0.0)
    behind = {one.category: one.photos for one in profile.because}
    for one in profile.categories:
        photos = behind.get(one.category, [])
        table.add_row(
            one.category, f"{one.score:.2f}", _bar(one.score, best, "green"), _short(photos[0]) if photos else ""
        )
    return table


def _photos(profile: Profile, top: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("photo", no_wrap=True, max_width=NAME)
    table.add_column("taken", no_wrap=True)
    table.add_column("attention", justify="right")
    table.add_column("", no_wrap=True)
    best = profile.photos[0].weight
    for photo in profile.photos[:top]:
        table.add_row(
            _short(photo.name), f"{photo.taken:%Y-%m-%d}", f"{photo.weight:.0%}", _bar(photo.weight, best, "magenta")
        )
    rest = profile.photos[top:]
    if rest:
        table.add_row(f"and {len(rest):,} more", "", f"{sum(photo.weight for photo in rest):.0%}", "")
    return table


def not_used(profile: Profile) -> list[str]:
    """A line for each reason why photos and files were not used. Pure."""
    lines: list[str] = []
    for reason, count in profile.refused_count.items():
        examples = [one for one in profile.refused if one.reason == reason][:EXAMPLES]
        lines.append(f"not used: {_count(count, 'photo')}, {reason}")
        lines += [f"  {visible(one.name)}: {visible(one.detail)}" for one in examples]
        if count > len(examples):
            lines.append(f"  and {count - len(examples):,} more")
    if profile.others:
        lines.append(f"no photos: {_kinds(profile.others)}")
    if profile.unreadable_count:
        lines.append(f"cannot be opened: {_count(profile.unreadable_count, 'file or folder', 'files or folders')}")
        lines += [f"  {visible(one.name)}: {visible(one.error)}" for one in profile.unreadable[:EXAMPLES]]
    return lines


def _kinds(others: dict[str, int]) -> str:
    named = list(others.items())
    rest = sum(count for _, count in named[KINDS:])
    parts = [f"{count:,} {visible(kind)}" for kind, count in named[:KINDS]]
    return ", ".join([*parts, f"{rest:,} of other kinds"] if rest else parts)


def _short(name: str) -> str:
    """A name that fits its column. The end says more than the folders before it."""
    shown = visible(name)
    return shown if len(shown) <= NAME else f"…{shown[-NAME + 1 :]}"


def _bar(value: float, best: float, colour: str) -> Text:
    filled = round(BAR * value / best) if best else 0
    return Text.assemble(("█" * filled, colour))


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
