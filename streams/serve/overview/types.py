"""What is said of the system. The OpenAPI document is generated from these types. Pure."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from streams.kafka.fleet import MemberBundles
from streams.kafka.lag import GroupLag

Time = Annotated[datetime, Meta(tz=True)]
Rate = Annotated[float, Meta(ge=0, description="per second; null while it is unknown")]
Seconds = Annotated[float, Meta(ge=0, description="seconds; null while it is unknown")]
Count = Annotated[int, Meta(ge=0, description="null while it is unknown")]


class WorkerBundles(Struct, frozen=True, kw_only=True):
    """Which bundles a worker has, as far as its group knows."""

    group: str
    client: str
    host: str
    bundles: Annotated[MemberBundles, Meta(description="null if the worker does not say")] | None


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether all is well."""

    well: bool
    reason: Annotated[str, Meta(description='short and stable; "" if all is well')]
    text: Annotated[str, Meta(description="one sentence for people")]
    since: Annotated[Time, Meta(description="since when; null if all is well")] | None
    runbook: Annotated[str, Meta(description='page and heading of the documentation that helps; "" if all is well')]


class Latency(Struct, frozen=True, kw_only=True):
    """From the producer's record to the recommendation, by the times of both records, in the last minute."""

    p50: Seconds | None
    p99: Seconds | None
    samples: Annotated[int, Meta(ge=0, description="events that were measured")]


class Reason(Struct, frozen=True, kw_only=True):
    """Dead letters of one reason in the last hour."""

    reason: Annotated[str, Meta(description='as on dead letters; "other" for those beyond the 50 most frequent')]
    count: Annotated[int, Meta(ge=0)]
    newest: Time


class OpenCircuit(Struct, frozen=True, kw_only=True):
    """A host that embed workers do not ask for pictures, because its circuit breaker is open."""

    host: Annotated[str, Meta(description="and port")]
    since: Time
    workers: Annotated[int, Meta(ge=1, description="embed workers that do not ask it")]
    waiting: Annotated[int, Meta(ge=0, description="events and items that wait for its pictures")]
    refused: Annotated[int, Meta(ge=0, description="events and items that were refused since then")]


class Mark(Struct, frozen=True, kw_only=True):
    """Something that happened."""

    at: Time
    kind: Literal[
        "rebalance", "settled", "joined", "left", "resumed", "broker_away", "broker_back", "topic_changed", "bundle"
    ]
    text: Annotated[str, Meta(description="one sentence for people")]


class Second(Struct, frozen=True, kw_only=True):
    """What was measured at one moment."""

    at: Annotated[int, Meta(ge=0, description="milliseconds since 1970")]
    events_in: Rate | None = None
    events_out: Rate | None = None
    dead_letters: Rate | None = None
    p50: Seconds | None = None
    p99: Seconds | None = None
    lag_events: Count | None = None
    lag_seconds: Seconds | None = None


class History(Struct, frozen=True, kw_only=True):
    """The last hour in columns of the same length, oldest first. A rate is the mean of a step, all else the largest value in it."""

    step: Annotated[int, Meta(ge=1, description="seconds")]
    at: Annotated[
        list[int],
        Meta(description="beginnings of the steps, milliseconds since 1970; steps without a value are left out"),
    ]
    events_in: list[float | None]
    events_out: list[float | None]
    dead_letters: list[float | None]
    p50: list[float | None]
    p99: list[float | None]
    lag_events: list[int | None]
    lag_seconds: list[float | None]


class Now(Struct, frozen=True, kw_only=True):
    """What the system does now."""

    at: Annotated[Time, Meta(description="of the look at the brokers; null before the first")] | None
    verdict: Verdict
    second: Annotated[Second, Meta(description="null before the first look")] | None
    latency: Latency
    groups: Annotated[list[GroupLag], Meta(description="the workers and what they have yet to finish, by partition")]
    dead_letters: Annotated[list[Reason], Meta(description="of the last hour, the most frequent reason first")]
    open_circuits: Annotated[
        list[OpenCircuit],
        Meta(description="hosts without pictures at the moment, at most 20, those first that cost most events"),
    ]
    marks: Annotated[list[Mark], Meta(description="of the last hour, oldest first")]


class Overview(Now, frozen=True, kw_only=True):
    """What the system does now, and did in the last hour."""

    history: History
