"""What fetching pictures may cost. Imports nothing heavy, so that the settings can name these numbers as defaults."""

from dataclasses import dataclass

from model.limits import MAX_PICTURE_BYTES

LARGE_PICTURE_BYTES = 128 * 1024
"""A picture with more bytes is large: only a few large pictures are read and decoded at a time, which bounds memory. Smaller
ones cost so little that they are read from every host at once."""


@dataclass(frozen=True)
class FetchLimits:
    """What one fetch, and all fetches together, may cost.

    Attributes:
        max_bytes: bytes of a body, after decompression.
        connect_timeout: seconds for the look-up of a name, and again for the connection.
        idle_timeout: seconds between two pieces of a response.
        total_timeout: seconds for everything, including redirects and the wait for a free connection.
        max_redirects: redirects that are followed.
        connections: connections in use at a time. At most four times as many are open, including idle ones.
        connections_per_host: connections in use at a time to one host, so that one slow host does not hold all of them.
        user_agent: the User-Agent header. The setting FETCH_USER_AGENT adds the version.
    """

    max_bytes: int = MAX_PICTURE_BYTES
    connect_timeout: float = 3.0
    idle_timeout: float = 5.0
    total_timeout: float = 10.0
    max_redirects: int = 3
    connections: int = 256
    connections_per_host: int = 8
    user_agent: str = "tastestream"
