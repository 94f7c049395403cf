"""The exceptions of the running system; the root is `model.exceptions.TastestreamError`.

TastestreamError
├── StartupError           the worker must not start: exit code 78, one line, no restart
│   ├── TopicsError        a topic is missing, may not be read, or cannot work
│   └── DataFolderError    another worker holds the data folder
├── ListError              a list of URLs cannot be read
├── BrokerUnreachable      no broker answered in the time that was given: exit code 69
├── StateError             the local state cannot be read or written: the worker stops, and a restart may help
├── DeliveryError          the broker did not take a record: the worker stops and starts again at the last commit
├── StallError             there is work, and no progress: the worker stops, and a restart helps
└── EventError             one event cannot be processed: it becomes one dead letter
    ├── MessageError       the message itself is broken; `field` names where
    └── FetchError         its picture cannot be had
"""

from model.exceptions import TastestreamError


class StartupError(TastestreamError):
    """The configuration or its surroundings are wrong; a restart would not help."""


class TopicsError(StartupError):
    """A topic is missing, may not be read, or exists with a partition count or a clean-up policy that cannot work."""


class DataFolderError(StartupError):
    """The data folder cannot be used, or another worker is using it."""


class ListError(TastestreamError):
    """A list of URLs, or a column of it, is not there or cannot be read; or there is no place for what failed of it."""


class BrokerUnreachable(TastestreamError):
    """No broker answered within the time that `BROKER_TIMEOUT` gives."""


class StateError(TastestreamError):
    """RocksDB reports something: a full disk, a damaged file. What is uncommitted is delivered again after a restart."""


class DeliveryError(TastestreamError):
    """The broker did not acknowledge a record. What caused it stays unacknowledged, and is read again after a restart."""


class StallError(TastestreamError):
    """The worker has work and makes no progress although the broker answers."""


class EventError(TastestreamError):
    """One event cannot be processed. It ends as one dead letter.

    reason: short and stable (`snake_case`), for the dead letter's header and the metric's label.
    field: the field of the message that is at fault, or "" for the whole message.
    transient: whether time may heal it (a host that is down), or never will (a broken message).
    """

    def __init__(self, reason: str, message: str, *, field: str = "", transient: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field
        self.transient = transient


class MessageError(EventError):
    """A message that is not valid: broken JSON, a field missing, mistyped, oversized or unsafe."""


class FetchError(EventError):
    """The picture of an event cannot be had; `field` is always `image_url`.

    retry_after: seconds after which its host wants to be asked again, or 0.
    """

    def __init__(self, reason: str, message: str, *, transient: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(reason, message, field="image_url", transient=transient)
        self.retry_after = retry_after
