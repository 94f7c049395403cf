"""Every setting of the running system, in one place, typed.

A value comes, in this order, from an environment variable `TASTESTREAM_<NAME>`, a `.env` file in the working folder,
the TOML file given as `--config`, or the default below. Durations are seconds, sizes are bytes unless the name says otherwise.
"""

import ssl
import tomllib
from importlib.metadata import version
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from model.limits import MAX_PICTURE_BYTES, MAX_PIXELS
from streams.exceptions import StartupError
from streams.web.addresses import WEB_PORTS, check_proxy, host_pattern

PREFIX = "TASTESTREAM_"
MAY_HOLD_A_PASSWORD = frozenset({"sasl_password", "fetch_proxy"})  # and is not repeated in a message

WeightedType = Literal["purchase", "cart", "view"]

DEFAULT_TYPE_WEIGHTS: dict[WeightedType, float] = {"purchase": 1.0, "cart": 0.6, "view": 0.3}
"""Weight of an interaction of each type in a bag, 0 to 1: a purchase says more about a taste than a view."""


class Settings(BaseSettings):
    """What `tastestream` can be told. Immutable once read."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    # -- Kafka
    broker: str = Field("kafka://localhost:9092", description="brokers, separated by commas")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    sasl_username: str = Field("", description="needed with SASL")
    sasl_password: SecretStr = Field(SecretStr(""), description="never shown")
    tls_ca_file: Path | None = Field(None, description="certificate authority of the brokers; the system's if unset")
    tls_cert_file: Path | None = Field(None, description="client certificate, for mutual TLS")
    tls_key_file: Path | None = Field(None, description="its private key")
    broker_timeout: float = Field(60.0, gt=0, description="how long a start waits for a broker")
    session_timeout: float = Field(6.0, ge=1, description="how soon a dead worker's partitions move")
    idempotence: bool = Field(
        True,
        description="whether a record that is sent again is written once; false for a broker that knows no producer ids",
    )
    poll_interval: float = Field(
        0.01,
        ge=0,
        le=1,
        description="between two requests for events to a broker at least: under load, they come in larger batches",
    )
    commit_interval: float = Field(
        1.0, gt=0, description="how often offsets are committed: bounds the duplicates after a crash"
    )
    stall_timeout: float = Field(
        60.0, ge=1, description="work without progress after which a worker ends, to be started again"
    )
    partitions: int = Field(8, ge=1, description="of the topics that are created")
    replication_factor: int = Field(1, ge=1, description="of the topics that are created")
    interactions_topic: str = Field("user-interactions", description="the shop's events, in")
    embedded_topic: str = Field("embedded-interactions", description="between the workers")
    recommendations_topic: str = Field("user-recommendations", description="recommendations, out")
    dlq_topic: str = Field("user-interactions-dlq", description="dead letters")

    # -- this machine
    data_dir: Path = Field(Path("data"), description="RocksDB files; each worker needs its own")
    bundle: Path | None = Field(None, description="the model bundle's folder; the shipped one if unset")
    model_threads: int = Field(1, ge=1, description="threads of ONNX Runtime for one batch")
    web_host: str = Field("127.0.0.1", description="address of /live, /ready and /metrics; it asks for no password")
    embed_port: int = Field(6066, ge=0, le=65535, description="of the embed worker; 0 picks a free one")
    profile_port: int = Field(6067, ge=0, le=65535, description="of the profile worker; 0 picks a free one")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")

    # -- messages
    max_future: float = Field(86_400.0, ge=0, description="how far ahead of the clock an event's time may be")

    # -- pictures
    fetch_allow_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (), description="CIDRs beyond the public internet that pictures may come from, on any port; separated by commas"
    )
    fetch_allow_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="the only hosts that pictures may come from, separated by commas; "
        "cdn.example, or .cdn.example for all names below it; all hosts if empty",
    )
    fetch_ports: Annotated[tuple[int, ...], NoDecode] = Field(
        WEB_PORTS, description="ports that pictures may come from on the public internet, separated by commas"
    )
    fetch_proxy: str = Field(
        "",
        description="http://host:port of a proxy that pictures are fetched through; the environment's is never used. "
        "It looks names up by itself, so it has to refuse addresses inside: what is checked here is what the same "
        "names resolve to on this machine",
    )
    fetch_user_agent: str = Field(
        f"tastestream/{version('tastestream')} (product pictures)",
        description="what the worker calls itself; a page or an address to complain to is good manners",
    )
    fetch_max_bytes: int = Field(MAX_PICTURE_BYTES, ge=1024, description="of one picture")
    fetch_max_pixels: int = Field(MAX_PIXELS, ge=1024, description="of one picture, by its header")
    fetch_timeout: float = Field(
        10.0, gt=0, description="for one attempt, from the first byte sent to the last received"
    )
    fetch_attempts: int = Field(5, ge=1, description="at a picture, for failures that time may heal")
    fetch_connections: int = Field(
        256, ge=1, description="pictures on their way at a time, from the question to the embedding"
    )
    fetch_large: int = Field(
        16, ge=1, description="of them, those above 128 KiB that are read and decoded at a time; bounds memory"
    )
    embed_batch: int = Field(8, ge=1, description="pictures in one call of the model")
    embed_in_flight: int = Field(
        4096, ge=1, description="events that the embed worker works on at a time, in equal shares for its partitions"
    )
    cache_memory: int = Field(32 * 1024**2, ge=0, description="bytes of embeddings kept in memory")
    cache_disk: int = Field(1024**3, ge=0, description="bytes of embeddings kept on disk")
    cache_max_age: float = Field(30 * 86_400.0, gt=0, description="after which a picture is fetched again")
    cache_failure_age: float = Field(
        30.0, ge=0, description="for which a picture that could not be had is not tried again"
    )

    # -- profiles
    bag_size: int = Field(64, ge=1, description="newest items that are scored")
    max_slots: int = Field(128, ge=1, description="items kept for a user, returned ones among them")
    top_k: int = Field(10, ge=1, description="categories, and items with their attention, in a recommendation")
    type_weights: Annotated[dict[WeightedType, float], NoDecode] = Field(
        default=DEFAULT_TYPE_WEIGHTS, description="purchase=1,cart=.6,view=.3"
    )
    half_life: float | None = Field(None, gt=0, description="age at which an item counts half; none if unset")
    profile_batch: int = Field(256, ge=1, description="events folded and scored in one step at most")
    recent_items: int = Field(
        30_000, ge=0, description="items of the bags written last that are kept in memory, about a kilobyte each"
    )
    rocksdb_memory: int = Field(
        64 * 1024**2, ge=1024**2, description="RocksDB's cache and write buffers, all partitions together"
    )

    @field_validator("fetch_allow_networks", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        return (
            tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("fetch_allow_hosts", "fetch_ports", mode="before")
    @classmethod
    def _separated_by_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("fetch_allow_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host_pattern(host) for host in value)

    @field_validator("fetch_ports")
    @classmethod
    def _ports(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("at least one port is needed")
        for port in value:
            if not 1 <= port <= 65535:
                raise ValueError(f"{port} is not a port, which is between 1 and 65535")
        return value

    @field_validator("fetch_proxy")
    @classmethod
    def _proxy(cls, value: str) -> str:
        if value:
            check_proxy(value)
        return value

    @field_validator("fetch_user_agent")
    @classmethod
    def _user_agent(cls, value: str) -> str:
        if not value.strip() or not value.isascii() or not value.isprintable():
            raise ValueError("it has to be printable ASCII, and not empty")
        return value

    @field_validator("type_weights", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        return {name.strip(): weight.strip() for name, _, weight in pairs}

    @field_validator("type_weights")
    @classmethod
    def _weights_positive(cls, value: dict[str, float]) -> dict[str, float]:
        missing = [name for name in get_args(WeightedType) if name not in value]
        if missing:
            raise ValueError(f"a weight is missing for {', '.join(missing)}")
        for name, weight in value.items():
            if not 0 <= weight <= 1:
                raise ValueError(f"the weight of {name} is {weight}, but weights are between 0 and 1")
        return value

    @field_validator("half_life", mode="before")
    @classmethod
    def _no_half_life(cls, value: Any) -> Any:
        return None if value in ("", "none") else value

    @model_validator(mode="after")
    def _fit_together(self) -> "Settings":
        if self.bag_size > self.max_slots:
            raise ValueError(f"BAG_SIZE ({self.bag_size}) cannot be above MAX_SLOTS ({self.max_slots})")
        if self.stall_timeout < 2 * self.session_timeout:
            raise ValueError(
                f"STALL_TIMEOUT ({self.stall_timeout:g} s) cannot be below twice SESSION_TIMEOUT ({self.session_timeout:g} s): "
                "joining a group takes that long after a worker has died"
            )
        if self.security_protocol.startswith("SASL") and not self.sasl_username:
            raise ValueError(
                f"SECURITY_PROTOCOL is {self.security_protocol}, so SASL_USERNAME and SASL_PASSWORD are needed"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of precedence that the module's first lines promise."""
        del file_secret_settings
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def bootstrap_servers(self) -> list[str]:
        """host:port of each broker, without the scheme."""
        return [part.strip().removeprefix("kafka://") for part in self.broker.split(",") if part.strip()]

    @property
    def ssl_context(self) -> ssl.SSLContext | None:
        """For `SSL` and `SASL_SSL`; None otherwise."""
        if not self.security_protocol.endswith("SSL"):
            return None
        context = ssl.create_default_context(cafile=self.tls_ca_file)
        if self.tls_cert_file:
            context.load_cert_chain(self.tls_cert_file, self.tls_key_file)
        return context

    def aiokafka(self) -> dict[str, Any]:
        """Arguments that every aiokafka client of ours takes: where the brokers are, and how to be let in."""
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
            "ssl_context": self.ssl_context,
            **(
                {
                    "sasl_mechanism": self.sasl_mechanism,
                    "sasl_plain_username": self.sasl_username,
                    "sasl_plain_password": self.sasl_password.get_secret_value(),
                }
                if self.security_protocol.startswith("SASL")
                else {}
            ),
        }


def read_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Settings from the environment, `.env`, `config` and the defaults; `overrides` beat them all.

    Raises StartupError, naming the setting, its value and what is wrong with it.
    """
    if config is not None and not config.is_file():
        raise StartupError(f"--config {config}: there is no such file")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    unknown = sorted(_unknown_names(config))
    if unknown:
        raise StartupError(
            f"--config {config}: unknown setting {', '.join(unknown)}; `tastestream settings` lists them all"
        )
    try:
        return FromFile(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise StartupError(f"settings: {message}") from error
        name = str(first["loc"][0])  # what follows is the place within the value
        given = "" if name in MAY_HOLD_A_PASSWORD else f" is {first['input']!r}"
        raise StartupError(f"setting {PREFIX}{name.upper()}{given}: {message}") from error


def _unknown_names(config: Path | None) -> set[str]:
    if config is None:
        return set()
    try:
        return set(tomllib.loads(config.read_text())) - set(Settings.model_fields)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartupError(f"--config {config}: not a TOML file: {error}") from error
