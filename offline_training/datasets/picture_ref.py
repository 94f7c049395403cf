"""Where the picture of an item is. Pure: nothing is opened or fetched here."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from streams.web.addresses import absolute

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:")
WEB = re.compile(r"https?://", re.IGNORECASE)
MEMBER = re.compile(r"(?P<archive>.*?\.zip)!/(?P<member>.+)", re.IGNORECASE | re.DOTALL)


class ArchiveMember(NamedTuple):
    """A member of a ZIP archive."""

    archive: Path
    member: str


@dataclass(frozen=True, slots=True)
class PictureRef:
    """A reference to a picture: a URL, a file, or a member of a ZIP archive.

    Data sets hold it as text, in one of three forms:

        https://shop.example/hat.jpg    a URL of any scheme; `data:` URLs count, too
        photos/hat.jpg                  the path of a file
        photos.zip!/women/hat.jpg       a member of an archive, which stays packed
    """

    text: str

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Read the text form; None for an empty text, which stands for "no picture". `//host/path` is https."""
        text = (text or "").strip()
        return cls(absolute(text)) if text else None

    @classmethod
    def in_archive(cls, archive: Path, member: str) -> Self:
        """Refer to a member of an archive."""
        return cls(f"{archive}!/{member}")

    @property
    def is_url(self) -> bool:
        """Whether the picture has to be fetched. If not, it is local: a file, or a member of an archive."""
        return URL.match(self.text) is not None

    @property
    def is_web_url(self) -> bool:
        """Whether it is an http or https URL."""
        return WEB.match(self.text) is not None

    @property
    def archive_member(self) -> ArchiveMember | None:
        """The archive and the member; None for a plain file or a URL."""
        found = None if self.is_url else MEMBER.fullmatch(self.text)
        return ArchiveMember(Path(found["archive"]), found["member"]) if found else None

    @property
    def path(self) -> Path:
        """The path of a local picture. Of an archive's member: archive and member, as one path that names both."""
        return Path(self.text)

    def within(self, folder: Path) -> Self:
        """Resolve a relative path against `folder`. A URL stays as it is."""
        return self if self.is_url else type(self)(str(folder / self.text))

    def absolute(self) -> Self:
        """Make a path absolute, so that it holds in every working folder. A URL stays as it is."""
        return self if self.is_url else type(self)(str(self.path.absolute()))

    def __str__(self) -> str:
        return self.text
