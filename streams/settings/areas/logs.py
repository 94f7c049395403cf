"""Settings of log lines and traces, and the name of the machine in them."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class LogSettings(BaseSettings):
    """What a worker says of its work, and under which name."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        description="Least level of log lines: DEBUG, INFO, WARNING or ERROR. Set it to DEBUG to see tracebacks.",
    )
    log_format: Literal["text", "json"] = Field(
        "text",
        description="Form of log lines: text for people, or json, an object a line, for a log store. Set it to json if a machine reads "
        "the log.",
    )
    log_user_ids: bool = Field(
        False,
        description="Whether log lines of the level INFO and above may name users. Turn it on to look into a problem of one user.",
    )
    trace_endpoint: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="URL to which the embed and the profile worker send traces of events, OTLP over HTTP, such as "
        "http://localhost:4318/v1/traces; no traces if unset. Needs the extra `tracing`.",
    )
    trace_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the events that are traced, 0 to 1, of those that come without a `traceparent` header; with one, the "
        "header decides. Raise it to see more events, lower it if the collector cannot take as many.",
    )
    worker_host: str = Field(
        "",
        max_length=100,
        description="Name of this machine in log lines and in the client ids at the brokers, after the kind of the worker: "
        "embed-web1. If unset, the host name. Set it if several workers of a kind share a host name.",
    )
