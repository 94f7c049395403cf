"""All checks, in the order in which a worker meets what they look at."""

import time
from collections.abc import AsyncGenerator

from aiokafka.errors import TopicAuthorizationFailedError

from streams.bundles import load_bundles
from streams.doctor import brokers, machine
from streams.doctor.finding import Finding
from streams.doctor.picture import picture
from streams.doctor.topics import topics
from streams.exceptions import TopicsError
from streams.kafka.generations import in_use
from streams.settings import Settings


async def diagnose(settings: Settings, picture_url: str | None = None) -> AsyncGenerator[Finding]:
    """Look at everything, and yield what was found.

    Args:
        settings: of the workers.
        picture_url: a picture to fetch; None for none.
    """
    yield machine.clock(time.time())
    bundle = machine.bundles(settings)
    yield bundle
    for finding in machine.data_folder(settings):
        yield finding
    for finding in await machine.ports(settings):
        yield finding
    reached = await brokers.reachable(settings)
    for finding in reached:
        yield finding
    if any(finding.level == "ok" for finding in reached):
        admin, finding = await brokers.cluster(settings)
        yield finding
        if admin is not None:
            try:
                trend = bundle.level == "ok" and bool(load_bundles(settings).served.labels_version)
                if finding.level == "ok":
                    for one in await topics(await _named(settings), admin, trend=trend):
                        yield one
            finally:
                await admin.close()
    if picture_url is not None:
        yield await picture(settings, picture_url)


async def _named(settings: Settings) -> Settings:
    """The settings with the names of the topics in use; with the first names if that may not be known, which the rights say."""
    try:
        return await in_use(settings)
    except TopicsError as error:
        if isinstance(error.__cause__, TopicAuthorizationFailedError):
            return settings
        raise
