"""Problem documents (RFC 9457): everything that the API can refuse, its HTTP status, and what to do.

A refused event has the reason that the dead letter of that event would have. The `type` of a problem is an address of the
worker itself, which explains it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from aiohttp import hdrs
from msgspec import Meta, Struct

from model.exceptions import TastestreamError

CONTENT_TYPE = "application/problem+json"
PREFIX = "/problems/"  # of a type; the reason follows


class Kind(NamedTuple):
    """A kind of problem."""

    status: int
    title: str
    remedy: str


PROBLEMS: dict[str, Kind] = {
    # -- of an event; dead letters have the same reasons
    "empty_message": Kind(400, "The body is empty", "Send a JSON document."),
    "invalid_json": Kind(400, "The body is not JSON", "Send JSON in UTF-8."),
    "missing_field": Kind(400, "A field is missing", "Send the field that `field` names."),
    "invalid_field": Kind(400, "A field or a parameter is not valid", "Correct the field that `field` names."),
    "message_too_large": Kind(400, "An event is too large", "Send events of at most 64 KiB."),
    "timestamp_too_old": Kind(
        400, "A timestamp is too old", "Send milliseconds, not seconds, or change EARLIEST_DATE."
    ),
    "timestamp_in_future": Kind(400, "A timestamp is in the future", "Correct the clock of the sender."),
    # -- of a request
    "malformed_request": Kind(400, "The request is not HTTP/1.1", "Use an HTTP/1.1 client."),
    "unknown_parameter": Kind(400, "A parameter is unknown", "Leave the parameter out, or correct its name."),
    "invalid_form": Kind(400, "The form is broken", "Send multipart/form-data (RFC 7578)."),
    "not_authenticated": Kind(401, "A token is needed", "Send the header `Authorization: Bearer TOKEN`."),
    "token_expired": Kind(401, "The token has expired", "Create a new token: `tastestream token create`."),
    "not_permitted": Kind(403, "The token does not permit this", "Use a token with the scope that `detail` names."),
    "foreign_host": Kind(403, "The host is not this machine", "Ask for localhost, or create a token."),
    "cross_site": Kind(403, "The request comes from another site", "Add the site to SERVE_ORIGINS."),
    "unknown_route": Kind(404, "There is no such resource", "See /openapi.json."),
    "unknown_user": Kind(404, "The user is unknown", "Nothing is held on this user: no event, or an erasure."),
    "unknown_item": Kind(404, "The item is unknown", "Send an event with the item, or write it to the topic `items`."),
    "unknown_letter": Kind(404, "There is no such dead letter", "It may be too old: see GET /v1/dead-letters."),
    "unknown_category": Kind(404, "The category is unknown", "Use a category of the bundle: GET /v1/status."),
    "method_not_allowed": Kind(405, "The method is not allowed", "Use a method that the header `Allow` names."),
    "not_acceptable": Kind(406, "The answer has another media type", "Accept the media type that `detail` names."),
    "slow_request": Kind(408, "The body took too long", "Send the body without pauses."),
    "body_too_large": Kind(413, "The body is too large", "Send less at a time."),
    "too_many_pictures": Kind(413, "There are too many pictures", "Send at most 64 pictures at a time."),
    "uri_too_long": Kind(414, "The address is too long", "Send fewer parameters."),
    "unsupported_media_type": Kind(415, "The body has another media type", "Send the media type that `detail` names."),
    "expectation_failed": Kind(417, "The expectation is unknown", "Leave the header `Expect` out."),
    "not_served": Kind(421, "Another worker serves this user", "Ask the worker that serves this partition."),
    "unusable_picture": Kind(422, "The picture cannot be used", "Send a JPEG, PNG, WebP, GIF or AVIF file."),
    "too_many_requests": Kind(429, "There are too many requests", "Wait for as long as `Retry-After` says."),
    "too_many_token_streams": Kind(429, "The token has too many streams", "Close one, or raise SERVE_TOKEN_STREAMS."),
    "headers_too_large": Kind(431, "The headers are too large", "Send shorter headers, such as cookies."),
    # -- of the worker
    "invalid_scores": Kind(500, "The model made no scores", "Check the bundle: `tastestream bundle check`."),
    "internal_error": Kind(500, "The worker has a defect", "See the log of the worker."),
    "catalogue_not_ready": Kind(503, "The items are being read", "Wait for as long as `Retry-After` says."),
    "not_ready": Kind(503, "The replica is being read", "Wait for as long as `Retry-After` says."),
    "broker_unreachable": Kind(503, "The broker does not take events", "Send the request again later."),
    "state_unreadable": Kind(503, "The disk of the worker fails", "See the log of the worker."),
    "busy": Kind(503, "The worker is busy", "Wait for as long as `Retry-After` says."),
    "search_too_long": Kind(503, "The search took too long", "Search a shorter time: `since` and `until`."),
    "too_many_streams": Kind(503, "There are too many streams", "Close one, or raise SERVE_STREAMS."),
    "too_many_connections": Kind(503, "There are too many connections", "Close one, or raise SERVE_CONNECTIONS."),
}


class RefusedEvent(Struct, frozen=True):
    """Why an event of a request was refused."""

    index: Annotated[int, Meta(ge=0, description="place in the request, from 0")]
    reason: Annotated[str, Meta(description="as on dead letters")]
    field: Annotated[str, Meta(description='the field at fault; "" for the whole event')]
    detail: str


class ProblemDocument(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is wrong (RFC 9457)."""

    type: Annotated[str, Meta(description="address of an explanation")]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: Annotated[str, Meta(description="what is wrong in this request, and with which value")]
    reason: Annotated[str, Meta(description="short and stable; the last part of `type`")]
    field: Annotated[str, Meta(description="the field or parameter at fault")] = ""
    events: Annotated[list[RefusedEvent], Meta(description="the events that were refused")] = []


class Problem(TastestreamError):
    """A request that cannot be answered.

    Attributes:
        reason: a key of `PROBLEMS`.
        headers: of the response.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        field: str = "",
        retry_after: int = 0,
        headers: Mapping[Any, str] | None = None,
        events: list[RefusedEvent] | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.kind = PROBLEMS[reason]
        self.field = field
        self.events = events or []
        self.headers: dict[str, str] = {str(name): value for name, value in (headers or {}).items()}
        if retry_after:
            self.headers[hdrs.RETRY_AFTER] = str(retry_after)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.kind.status

    def document(self) -> bytes:
        """The problem as JSON."""
        return msgspec.json.encode(
            ProblemDocument(
                type=PREFIX + self.reason,
                title=self.kind.title,
                status=self.status,
                detail=str(self),
                reason=self.reason,
                field=self.field,
                events=self.events,
            )
        )
