"""What a worker says beside the offsets that it commits, for who looks at its group. docs/design/engine.md says why it is there.

A remark is a short JSON document in front of the mark of the topic (`streams.kafka.metadata`). While a worker has nothing to say
there is none. While it has, a new one comes every few seconds, so that a reader notices when it stands for nobody any more.
Pure apart from a clock.
"""

from collections.abc import Callable
from time import monotonic
from typing import Annotated
from uuid import uuid4

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from streams.kafka.fleet import MemberBundles
from streams.kafka.metadata import SAYS
from streams.messages import MAX_TIMESTAMP

EVERY = 5.0  # seconds between two remarks at least, while there is something to say
MAX_CIRCUITS = 20  # in a remark
MAX_BYTES = (
    2000  # of a remark; a broker permits 4,096 bytes beside an offset unless `offset.metadata.max.bytes` says otherwise
)


class Circuit(Struct, frozen=True, array_like=True):
    """A host whose pictures a worker does not ask for, because its circuit breaker is open."""

    host: str  # and port
    since: Annotated[int, Meta(ge=0, le=MAX_TIMESTAMP)]  # milliseconds since the epoch, by the worker's clock
    waiting: Annotated[int, Meta(ge=0)]  # events and items that wait for its pictures now
    refused: Annotated[int, Meta(ge=0)]  # those that were refused since then


class Said(Struct, frozen=True, omit_defaults=True):
    """What a worker has to say."""

    circuits: tuple[Circuit, ...] = ()
    bundles: MemberBundles | None = None  # what it has now, if that is not what it had when it started


class Remark(Said, frozen=True, omit_defaults=True):
    """What a worker said."""

    worker: str = ""  # tells processes apart
    number: int = 0  # grows with each remark
    every: float = EVERY  # seconds until the next one is due


NOTHING = Said()


def silent() -> str:
    """No text: for a worker that has nothing to say."""
    return ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Remark).decode


class Remarks:
    """Makes the text beside the commits of one worker."""

    def __init__(
        self, say: Callable[[], Said], commit_interval: float = 0.0, clock: Callable[[], float] = monotonic
    ) -> None:
        """Says nothing yet.

        Args:
            say: what there is to say now. Called at each commit.
            commit_interval: seconds between two commits.
            clock: seconds.
        """
        self._say = say
        self._every = max(EVERY, commit_interval)
        self._clock = clock
        self._worker = uuid4().hex[:12]
        self._number = 0
        self._text = ""
        self._due = 0.0

    def __call__(self) -> str:
        """The text now; "" if there is nothing to say."""
        if self._text and self._clock() < self._due:
            return self._text
        said = self._say()
        self._text = ""
        if said != NOTHING:
            self._number += 1
            self._due = self._clock() + self._every
            self._text = written(Remark(said.circuits, said.bundles, self._worker, self._number, self._every))
        return self._text


def written(remark: Remark) -> str:
    """The text of a remark. It has the first circuits, as many as fit."""
    circuits = remark.circuits[:MAX_CIRCUITS]
    while len(data := _encode(replace(remark, circuits=circuits))) > MAX_BYTES and circuits:
        circuits = circuits[:-1]
    return f"{SAYS}{data.decode()} " if len(data) <= MAX_BYTES else ""


def remark_in(text: str | None) -> Remark | None:
    """The remark in the text beside an offset; None if there is none that can be read. Another tool may have written any text."""
    if not text or not text.startswith(SAYS):
        return None
    try:
        return _decode(text.removeprefix(SAYS).rpartition(" ")[0])
    except (ValueError, RecursionError):  # errors of msgspec and of decoding text are ValueErrors
        return None
