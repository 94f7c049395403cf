"""How the changelog of the bags is followed by who does not own the partitions: the standby, and the replica of a serve worker."""

import logging

from streams.kafka.following import Following
from streams.settings import Settings

WAIT = 0.05  # seconds: see `Following`
PAUSE = 1.0  # seconds until the next attempt


def following_bags(settings: Settings, *, problem: str, logger: logging.Logger) -> Following:
    """Follow the changelog. `problem`, `logger`: as `Following` takes them."""
    return Following(
        settings,
        settings.bags_changelog,
        problem=problem,
        missing="the next start of a profile worker creates it",
        logger=logger,
        isolation="read_uncommitted",  # as the recovery of the bags
        wait=WAIT,
        pause=PAUSE,
    )
