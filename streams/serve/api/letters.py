"""Dead letters: found by a filter, one with its bytes, and sent again. All need the scope `admin`: they hold what users did."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from msgspec import UNSET

from streams.dead_letter import host_of, subject
from streams.dead_letters.document import LetterDocument, document_of
from streams.dead_letters.letter_filter import LetterFilter
from streams.exceptions import BrokerUnreachable, DeliveryError, TopicsError
from streams.serve.api.context import Call
from streams.serve.api.parameters import LettersQuery, NoQuery, Redrive
from streams.serve.api.problems import Problem
from streams.serve.api.replies import reply
from streams.serve.api.routes import Route
from streams.serve.api.types.letters import LettersAnswer, LetterSummary, RedriveAnswer
from streams.serve.interface import Busy, FoundLetter, SearchTooLong

PAST = timedelta(days=1)  # that is searched if nobody says otherwise


async def find(call: Call[LettersQuery, None]) -> web.StreamResponse:
    """The newest dead letters that match."""
    given = _filter(call.query)
    if given.since is None:
        given = _filter(call.query, since=datetime.fromtimestamp(call.api.now / 1000, UTC) - PAST)
    with _problems():
        found = await call.api.serving.letters.find(given)
    letters = [_summary(one) for one in found.letters]
    return reply(LettersAnswer(letters=letters, matching=found.matching, read=found.read))


async def get(call: Call[NoQuery, None]) -> web.StreamResponse:
    """One dead letter with its bytes."""
    partition, offset = int(call.path["partition"]), int(call.path["offset"])
    with _problems():
        letter = await call.api.serving.letters.get(partition, offset)
    if letter is None:
        raise Problem("unknown_letter", f"there is no dead letter at offset {offset} of partition {partition}")
    return reply(document_of(letter, None))


async def redrive(call: Call[NoQuery, Redrive]) -> web.StreamResponse:
    """Send the events of dead letters again."""
    body = call.body
    given = _filter(body)
    if given == LetterFilter(limit=body.limit):
        raise Problem("missing_field", "name letters, or a condition such as `reason` or `since`", field="letters")
    with _problems():
        found = await call.api.serving.letters.redrive(given, max_attempts=body.max_attempts, dry_run=body.dry_run)
    return reply(
        RedriveAnswer(
            dry_run=body.dry_run,
            selected=found.selected,
            sent=found.sent,
            doubtful=found.doubtful,
            skipped=found.skipped,
        )
    )


def _filter(given: LettersQuery | Redrive, since: datetime | None = None) -> LetterFilter:
    """The filter that a request describes. Raises Problem."""
    values: dict[str, Any] = {
        "user": None if given.user_id is UNSET else given.user_id,
        "host": None if given.host is UNSET else given.host.lower(),
        "topic": None if given.topic is UNSET else given.topic,
        "since": since if given.since is UNSET else given.since,
        "until": None if given.until is UNSET else given.until,
    }
    if values["since"] and values["until"] and values["since"] >= values["until"]:
        raise Problem("invalid_field", "until: it is not after `since`", field="until")
    if isinstance(given, Redrive) and given.letters:
        values["places"] = frozenset((one.partition, one.offset) for one in given.letters)
    reasons = frozenset[str]() if given.reason is UNSET else frozenset([given.reason])
    return LetterFilter(reasons, limit=given.limit, **values)


def _summary(found: FoundLetter) -> LetterSummary:
    letter, who = found.letter, subject(found.letter)
    return LetterSummary(
        partition=letter.partition,
        offset=letter.offset,
        at=letter.at,
        reason=letter.reason,
        field=letter.field,
        error=letter.error,
        worker=letter.worker,
        topic=letter.origin.topic if letter.origin else "",
        user_id=who.user,
        event_id=who.event_id,
        host=host_of(letter),
        attempts=found.attempts,
        sent=found.sent,
    )


@contextmanager
def _problems() -> Generator[None]:
    try:
        yield
    except Busy:
        raise Problem("busy", "another request reads dead letters", retry_after=2) from None
    except SearchTooLong as error:
        raise Problem("search_too_long", str(error), retry_after=5) from error
    except (BrokerUnreachable, DeliveryError, TopicsError) as error:
        raise Problem("broker_unreachable", str(error), retry_after=5) from error


_PROBLEMS = ("busy", "search_too_long", "broker_unreachable")

ROUTES = [
    Route(
        method="GET",
        path="/v1/dead-letters",
        name="dead_letters",
        summary="The newest dead letters that match, without their bytes.",
        scope="admin",
        handler=find,
        query=LettersQuery,
        answer=LettersAnswer,
        problems=_PROBLEMS,
    ),
    Route(
        method="GET",
        path="/v1/dead-letters/{partition}/{offset}",
        name="dead_letter",
        summary="A dead letter with the bytes of the original.",
        scope="admin",
        handler=get,
        answer=LetterDocument,
        problems=("unknown_letter", *_PROBLEMS),
    ),
    Route(
        method="POST",
        path="/v1/dead-letters/redrive",
        name="redrive",
        summary="Send the events of dead letters again, to the topics that they came from. Sends nothing unless `dry_run` is false.",
        scope="admin",
        handler=redrive,
        body=Redrive,
        answer=RedriveAnswer,
        problems=_PROBLEMS,
    ),
]
