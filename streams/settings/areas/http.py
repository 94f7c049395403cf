"""Settings of everything that workers serve over HTTP: the endpoints of each worker, and the HTTP API."""

import re
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from streams.settings.values import Listed


class HttpSettings(BaseSettings):
    """Where workers listen, and how much is served to whom."""

    web_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address on which workers serve /live, /ready and /metrics, without a password. "
        "Set it to 0.0.0.0 so that an orchestrator or Prometheus on another machine can reach them.",
    )
    embed_port: int = Field(
        6066,
        ge=0,
        le=65535,
        description="Port of the embed worker's /live, /ready and /metrics; 0 picks a free one. "
        "Change it if several embed workers share a machine.",
    )
    profile_port: int = Field(
        6067,
        ge=0,
        le=65535,
        description="Port of the profile worker's /live, /ready and /metrics; 0 picks a free one. "
        "Change it if several profile workers share a machine.",
    )
    supervisor_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port, on WEB_HOST, of the supervisor of `worker all`: /live, /ready and /metrics of all its workers as one, and "
        "how often it restarted them; 0 picks a free one, and without a port it does not listen. Set it to scrape one port a machine.",
    )
    serve_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address of the HTTP API of the serve worker. Set it to 0.0.0.0 so that other machines can ask; "
        "without a token (`tastestream token create`) the worker refuses every address but loopback.",
    )
    serve_port: int = Field(
        6068,
        ge=0,
        le=65535,
        description="Port of the HTTP API of the serve worker, its /live, /ready and /metrics among it; 0 picks a free one. "
        "Change it if several serve workers share a machine.",
    )
    serve_partitions: Listed[int] = Field(
        (),
        description="Partitions of the bags that the serve worker answers for, separated by commas; all if empty. "
        "Set it to split users over several serve workers whose memory would not hold all.",
    )
    serve_tokens: Path | None = Field(
        None,
        description="File of the hashes of the HTTP API's tokens, which `tastestream token` writes; if unset, tokens.json in "
        "DATA_DIR. Set it to a file that all serve workers read.",
    )
    api_url: str = Field(
        "",
        description="Address of the HTTP API that `tastestream user` asks, such as http://taste.example:6068; if unset, that of "
        "SERVE_PORT on this machine.",
    )
    api_token: SecretStr = Field(
        SecretStr(""),
        description="Token that `tastestream user` sends to the HTTP API. It is never printed. Set it if the API asks for one.",
    )
    serve_rate: float = Field(
        1000.0,
        ge=0,
        description="Maximum requests per second of one token to the HTTP API; 0 for no limit. "
        "Lower it if one client slows down the others.",
    )
    serve_origins: Listed[str] = Field(
        (),
        description="Sites whose pages may ask the HTTP API from a browser, such as https://shop.example, separated by commas "
        "(CORS); none if empty. Set it if your pages ask without a server of yours in between.",
    )
    serve_connections: int = Field(
        1000,
        ge=1,
        description="Maximum number of open connections to the HTTP API; more are answered with 503. "
        "Raise it together with the limit of open files.",
    )
    serve_streams: int = Field(
        100,
        ge=0,
        description="Maximum number of open streams (/v1/stream, /v1/overview/live); more are answered with 503. "
        "Raise it, with SERVE_CONNECTIONS, if more pages show changes.",
    )
    serve_token_streams: int = Field(
        50,
        ge=0,
        description="Maximum number of open streams of one token; more are answered with 429. Without tokens it counts for everybody "
        "together. Raise it if a server of yours opens a stream for each page.",
    )
    serve_upload_bytes: int = Field(
        64 * 1024**2,
        ge=1024**2,
        description="Maximum size of the pictures that one request to the HTTP API uploads, in bytes; all requests together may "
        "use twice as much memory. Lower it to save memory.",
    )
    serve_log_ids: bool = Field(
        False,
        description="Whether the access log of the HTTP API has paths, with the ids of users and items in them, and addresses of "
        "clients. Turn it on to look into a problem.",
    )

    @field_validator("embed_port", "profile_port", "serve_port", mode="before")
    @classmethod
    def _port(cls, value: Any) -> Any:
        if isinstance(value, str) and "://" in value:
            raise ValueError(
                "Kubernetes sets this variable for a Service of that name; set `enableServiceLinks: false` in the pod, "
                "or set the port there"
            )
        return value

    @field_validator("serve_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not re.fullmatch(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?", origin):
                raise ValueError(
                    f"{origin} is not a site; expected https://shop.example, in lower case and without a path"
                )
        return value
