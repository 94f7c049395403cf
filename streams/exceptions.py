"""The exceptions of the running system. Their root is `model.exceptions.TastestreamError`.

TastestreamError
├── StartupError           a restart would not help: exit code 78
│   ├── TopicsError        a topic is missing, may not be read, or cannot work
│   ├── DecoderError       the processes that decode pictures do not start
│   └── DataFolderError    the data folder cannot be used, or another worker uses it
├── UnreadableTime         a text or a number is not a time, or not one that can be right
├── ListError              a list of URLs cannot be read
├── BrokerUnreachable      no broker answers within `BROKER_TIMEOUT`: exit code 69
├── StateError             RocksDB cannot read or write: the worker stops, and a restart may help
├── DeliveryError          the broker did not acknowledge a record: the worker restarts at the last commit
├── BagsMoved              the bags are in another generation of the internal topics: the worker starts again, on that one
├── StallError             there is work and no progress: the worker stops, and a restart helps
└── EventError             one event cannot be processed: it becomes one dead letter
    ├── MessageError       the message is not valid; `field` names the field at fault
    └── FetchError         its picture cannot be fetched
"""

from model.exceptions import TastestreamError


class StartupError(TastestreamError):
    """Settings, bundle, topics or data folder are wrong. A restart would not help."""


class TopicsError(StartupError):
    """A topic is missing, may not be read, or has a partition count or a clean-up policy that cannot work."""


class DataFolderError(StartupError):
    """The data folder cannot be used, or another worker uses it."""


class DecoderError(StartupError):
    """A process that decodes pictures does not start."""


class UnreadableTime(TastestreamError):
    """A value is not a time, or not one that can be right.

    Attributes:
        reason: `no_time`, `ambiguous_time` or `time_out_of_range`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ListError(TastestreamError):
    """A list of URLs, or its column, is missing or cannot be read, or the file for its failures cannot be written."""


class BrokerUnreachable(TastestreamError):
    """No broker answers within `BROKER_TIMEOUT`, or the one that answered went away."""


class StateError(TastestreamError):
    """RocksDB reports an error, such as a full disk or a damaged file. Uncommitted events are delivered again after a restart."""


class DeliveryError(TastestreamError):
    """The broker did not acknowledge a record. The event that caused it is not acknowledged, and is read again after a restart."""


class BagsMoved(TastestreamError):
    """The bags are in another generation of the internal topics than the one that the worker uses."""


class StallError(TastestreamError):
    """The worker has work and makes no progress, although the broker answers."""


class EventError(TastestreamError):
    """One event cannot be processed. It becomes one dead letter.

    Attributes:
        reason: Short and stable (`snake_case`), for the dead letter's header and the metric's label.
        field: The field at fault, or "" for the whole message.
        transient: Whether a later attempt may succeed (a host that is down), or none ever will (a broken message).
    """

    def __init__(self, reason: str, message: str, *, field: str = "", transient: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field
        self.transient = transient


class MessageError(EventError):
    """A message is not valid: it is not JSON, or a field is missing, mistyped, oversized or unsafe."""


class FetchError(EventError):
    """The picture of an event cannot be fetched. `field` is always `image_url`.

    Attributes:
        retry_after: Seconds that the host asks to wait before the next attempt, or 0.
        status: The HTTP status that the host answered with, or 0 if it did not answer.
    """

    def __init__(
        self, reason: str, message: str, *, transient: bool = False, retry_after: float = 0.0, status: int = 0
    ) -> None:
        super().__init__(reason, message, field="image_url", transient=transient)
        self.retry_after = retry_after
        self.status = status
