"""Dead letters, and what became of their events. Pure."""

from typing import Annotated

from msgspec import Meta, Struct

from streams.serve.api.types.values import Count, Time


class LetterSummary(Struct, frozen=True, kw_only=True):
    """A dead letter without its bytes."""

    partition: Count
    offset: Count
    at: Time
    reason: str
    field: Annotated[str, Meta(description='the field at fault; "" for the whole event')]
    error: str
    worker: str
    topic: Annotated[str, Meta(description='of the original; "" if the letter does not say')]
    user_id: Annotated[str, Meta(description="as in the event, or its key")]
    event_id: str
    host: Annotated[str, Meta(description='of the picture; "" if there is none')]
    attempts: Annotated[int, Meta(ge=0, description="how often the event had been sent again before it failed")]
    sent: Annotated[bool, Meta(description="whether the event was sent again since")]


class LettersAnswer(Struct, frozen=True, kw_only=True):
    """Dead letters that match."""

    letters: Annotated[list[LetterSummary], Meta(description="newest first")]
    matching: Annotated[int, Meta(ge=0, description="all that match, those beyond `limit` too")]
    read: Annotated[int, Meta(ge=0, description="dead letters that were looked at")]


class RedriveAnswer(Struct, frozen=True, kw_only=True):
    """What became of dead letters whose events were to be sent again."""

    dry_run: Annotated[bool, Meta(description="whether nothing was sent")]
    selected: Count
    sent: Annotated[int, Meta(ge=0, description="events that were sent, or would be")]
    doubtful: Annotated[
        int, Meta(ge=0, description="of these, that may have been sent before by a run that was killed")
    ]
    skipped: Annotated[
        dict[str, int],
        Meta(
            description="events that are not sent, by cause: truncated (only a part is left), unreadable, elsewhere (it is no "
            "event of users), sent (before; if it failed again, it has a newer letter), exhausted (`max_attempts`)"
        ),
    ]
