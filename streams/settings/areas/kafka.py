"""Settings of the connection to the brokers, and of how workers read from and write to them."""

import ssl
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from streams.settings.brokers import Broker, SecurityProtocol, common_protocol, parse_broker
from streams.settings.values import parts


class KafkaSettings(BaseSettings):
    """Where Kafka is, and how to talk to it."""

    broker: str = Field(
        "kafka://localhost:9092",
        description="Kafka brokers to connect to first, as host:port, separated by commas; the port is 9092 if it is left "
        "out. A scheme such as SASL_SSL:// sets SECURITY_PROTOCOL. Change it unless Kafka runs on the same machine.",
    )
    security_protocol: SecurityProtocol = Field(
        "PLAINTEXT",
        description="Protocol of the connection to the brokers: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL. "
        "Set it to the protocol of the brokers' listener. A scheme in BROKER must not contradict it.",
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512",
        description="SASL mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. "
        "Set it to the one that the brokers offer, if SECURITY_PROTOCOL is SASL_PLAINTEXT or SASL_SSL.",
    )
    sasl_username: str = Field(
        "", description="User name for SASL. Required if SECURITY_PROTOCOL is SASL_PLAINTEXT or SASL_SSL."
    )
    sasl_password: SecretStr = Field(
        SecretStr(""), description="Password for SASL. It is never printed. Set it together with SASL_USERNAME."
    )
    tls_ca_file: Path | None = Field(
        None,
        description="Path of the certificate authorities that sign the brokers' certificates (PEM). "
        "Set it for a private authority; if unset, the system's authorities count.",
    )
    tls_cert_file: Path | None = Field(
        None,
        description="Path of the client's certificate (PEM). Set it if the brokers ask clients for one (mutual TLS).",
    )
    tls_key_file: Path | None = Field(
        None,
        description="Path of the client's private key (PEM), which must not have a passphrase. "
        "Set it together with TLS_CERT_FILE, unless that file holds the key too.",
    )
    broker_timeout: float = Field(
        60.0,
        gt=0,
        description="Maximum seconds to wait for a broker when a worker or a command starts, and when a command gets no answer. "
        "Raise it if brokers take longer to start than workers.",
    )
    session_timeout: float = Field(
        6.0,
        ge=1,
        description="Seconds without a heartbeat after which a worker counts as dead and its partitions move to others. "
        "Lower it for a faster takeover; raise it if a slow network moves partitions of workers that are alive.",
    )
    static_membership: bool = Field(
        False,
        description="Whether a worker that starts again within SESSION_TIMEOUT takes its old place in its group, by its name "
        "(WORKER_HOST): nobody else pauses, and its partitions wait for it. Set it, with a longer SESSION_TIMEOUT, if a restart is "
        "quicker than to read the bags elsewhere. No two workers of a kind may share a name then.",
    )
    idempotence: bool = Field(
        True,
        description="Whether producers are idempotent, so that a record that is sent again is written once. "
        "Set it to false only for a broker that does not support producer ids.",
    )
    poll_interval: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Minimum seconds between fetch requests to a broker. Raise it for throughput, lower it for latency.",
    )
    max_batch_bytes: int = Field(
        32 * 1024**2,
        ge=1024**2,
        le=1024**3,
        description="Maximum size of a compressed batch of records after it is inflated, in bytes. A larger one becomes a dead "
        "letter. Raise it if your producers send larger batches; each assigned partition can take this much memory.",
    )
    commit_interval: float = Field(
        1.0,
        gt=0,
        description="Seconds between commits of offsets. "
        "Lower it for fewer duplicates after a crash, raise it for fewer requests to the brokers.",
    )
    stall_timeout: float = Field(
        60.0,
        ge=1,
        description="Seconds without progress, while there is work, after which a worker ends so that it is restarted. "
        "It is at least twice SESSION_TIMEOUT. Raise it if workers end although they only wait for something slow.",
    )

    @field_validator("broker")
    @classmethod
    def _broker(cls, value: str) -> str:
        if not _brokers(value):
            raise ValueError("at least one broker is needed")
        return value

    @field_validator("broker", mode="before")
    @classmethod
    def _broker_list(cls, value: Any) -> Any:
        return ",".join(map(str, listed)) if isinstance(listed := parts(value), list) else value

    @model_validator(mode="after")
    def _worker_may_be_replaced(self) -> Self:
        if self.stall_timeout < 2 * self.session_timeout:
            raise ValueError(
                f"STALL_TIMEOUT ({self.stall_timeout:g} s) cannot be below twice SESSION_TIMEOUT ({self.session_timeout:g} s): "
                "after a worker has died, the others need that long to take its partitions"
            )
        return self

    @model_validator(mode="after")
    def _brokers_accept_us(self) -> Self:
        protocol = common_protocol(_brokers(self.broker))
        if protocol and protocol != self.security_protocol:
            if "security_protocol" in self.model_fields_set:
                raise ValueError(
                    f"BROKER says {protocol}:// but SECURITY_PROTOCOL is {self.security_protocol}; leave one of them out"
                )
            object.__setattr__(self, "security_protocol", protocol)  # the model is frozen for everybody else
        if self.security_protocol.startswith("SASL") and not self.sasl_username:
            raise ValueError(
                f"SECURITY_PROTOCOL is {self.security_protocol}, so SASL_USERNAME and SASL_PASSWORD are needed"
            )
        if self.tls_key_file and not self.tls_cert_file:
            raise ValueError("TLS_KEY_FILE is set, so TLS_CERT_FILE is needed")
        self._check_tls_files()
        return self

    def _check_tls_files(self) -> None:
        """Load the files once, so that a wrong one is a wrong setting and not a crash of each client.

        Raises:
            ValueError: One of them is missing or is not what it has to be.
        """
        files: dict[str, Path] = {
            name: path for name in ("tls_ca_file", "tls_cert_file", "tls_key_file") if (path := getattr(self, name))
        }
        try:
            missing = [name for name, path in files.items() if not path.is_file()]
            _ = None if missing else self.ssl_context
        except OSError as error:  # what ssl raises too
            named = ", ".join(map(str, files.values()))
            raise ValueError(f"the TLS files cannot be loaded ({error}): {named}") from error
        if missing:
            raise ValueError(f"{missing[0].upper()} is {files[missing[0]]}, but there is no such file")

    @property
    def bootstrap_servers(self) -> list[str]:
        """host:port of each broker, without the scheme; an IPv6 address is in brackets."""
        return [broker.server for broker in _brokers(self.broker)]

    @property
    def ssl_context(self) -> ssl.SSLContext | None:
        """For `SSL` and `SASL_SSL`; None otherwise."""
        if not self.security_protocol.endswith("SSL"):
            return None
        context = ssl.create_default_context(cafile=self.tls_ca_file)
        if self.tls_cert_file:
            context.load_cert_chain(
                self.tls_cert_file, self.tls_key_file, password=""
            )  # else OpenSSL asks the terminal
        return context


def _brokers(text: str) -> list[Broker]:
    return [parse_broker(part) for part in text.split(",") if part.strip()]
