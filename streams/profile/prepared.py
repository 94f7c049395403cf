"""Whether an item of a bag has a code of another embedder yet, such as that of the next bundle. Pure."""

from typing import Literal

from streams.profile.bag import Slot

CodeState = Literal["native", "adapted", "stale", "missing"]
"""native    the newest picture has a code of that embedder, made from the picture
adapted   the same, made from the code of another embedder
stale     only an older picture has one
missing   no picture has one"""


def code_state(slot: Slot, embedder_version: str) -> CodeState | None:
    """The state of the code of an embedder; None if the item has no picture."""
    newest, there = slot.newest_picture, slot.picture(embedder_version)
    if newest is None:
        return None
    if there is None:
        return "missing"
    if there.moment != newest.moment:
        return "stale"
    return "adapted" if there.adapted else "native"
