"""Whether a picture can be fetched and decoded, under the rules of the embed worker."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from model.exceptions import TastestreamError
from streams.doctor.finding import Finding, fail, ok
from streams.embed.opening import open_pipeline
from streams.exceptions import EventError
from streams.settings import Settings

SIDE = 224  # pixels of the decoded picture; any will do

FIXES = {
    "address_not_public": "if it is your own server, permit its network: TASTESTREAM_FETCH_ALLOW_NETWORKS, such as 10.0.0.0/8",
    "host_not_allowed": "add the host to TASTESTREAM_FETCH_ALLOW_HOSTS, or leave that setting empty",
    "port_not_allowed": "add the port to TASTESTREAM_FETCH_PORTS",
    "host_unreachable": "check the name and the server; if this machine needs a proxy, set TASTESTREAM_FETCH_PROXY",
    "timeout": "make the server answer sooner, or raise TASTESTREAM_FETCH_TIMEOUT",
    "certificate_invalid": "give the server a certificate that is valid for its name",
    "picture_too_many_bytes": "send smaller pictures, or raise TASTESTREAM_FETCH_MAX_BYTES",
    "picture_too_large": "send smaller pictures, or raise TASTESTREAM_FETCH_MAX_PIXELS",
    "http_status": "make the server answer 200 at this address, without a login",
}


async def picture(settings: Settings, url: str) -> Finding:
    """Fetch and decode a picture once."""

    def nothing(pictures: Sequence[NDArray[np.uint8]]) -> Sequence[bytes]:
        return [b"x"] * len(pictures)

    once = settings.model_copy(update={"fetch_attempts": 1})
    try:
        async with open_pipeline(once, {"doctor": (SIDE, nothing)}) as pipeline:
            await pipeline.made(url)
    except EventError as error:
        fix = FIXES.get(error.reason, f"docs/operate/dead-letters.md explains the reason {error.reason}")
        return fail("picture", f"{error} ({error.reason})", fix)
    except TastestreamError as error:
        return fail("picture", str(error), "the decoder processes have to start: see docs/operate/pictures.md")
    return ok("picture", f"a picture of {urlsplit(url).hostname} was fetched and decoded")
