"""The settings: their names, defaults and descriptions, and the rules that a value has to meet.

A description says what the setting is, its unit, and when to change it. `tastestream settings` and the reference
pages print it. Durations are seconds and sizes are bytes.
"""

import re
import ssl
from datetime import UTC, date, datetime, time
from importlib.metadata import version
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from socket import gethostname
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import Field, PrivateAttr, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from model.limits import MAX_PICTURE_BYTES, MAX_PIXELS
from streams.settings.brokers import Broker, SecurityProtocol, common_protocol, parse_broker
from streams.settings.names import (
    BAGS_TABLE,
    CLIENT,
    EMBED_GROUP,
    GENERATIONS,
    ITEMS_GROUP,
    PROFILE_GROUP,
    RESIZE,
    SEPARATOR,
    check_namespace,
    check_topic,
    in_namespace,
    of_generation,
)
from streams.settings.values import pairs, parts, unquoted
from streams.web.addresses import WEB_PORTS, check_proxy, host_pattern
from streams.web.limits import LARGE_PICTURE_BYTES

PREFIX = "TASTESTREAM_"

TOPICS = (
    "interactions_topic",
    "embedded_topic",
    "recommendations_topic",
    "next_recommendations_topic",
    "dlq_topic",
    "features_topic",
    "category_trend_topic",
    "items_topic",
)
"""The settings that name a topic. Their defaults follow `namespace`."""

WeightedType = Literal["purchase", "cart", "view"]

DEFAULT_TYPE_WEIGHTS: dict[WeightedType, float] = {"purchase": 1.0, "cart": 0.6, "view": 0.3}
"""Weight of an interaction of each type in a bag, 0 to 1: a purchase says more about a taste than a view."""


class Settings(BaseSettings):
    """Immutable once read. `read_settings` reads it and reports what is wrong in one line."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8-sig",  # editors on Windows begin a file with a byte order mark
        env_ignore_empty=True,  # `TASTESTREAM_BUNDLE=` is how a compose file leaves a setting unset
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
    )

    _worker: str = PrivateAttr("")  # the kind of worker that reads the settings; "" in a command
    _generation: int = PrivateAttr(1)  # of the internal topics
    _first_embedded_topic: str = PrivateAttr("")  # `embedded_topic` in the first generation; "" if it is that

    # -- Kafka
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
    partitions: int = Field(
        8,
        ge=1,
        description="Number of partitions of topics that tastestream creates. "
        "Set it before the first start: it is the most workers of one kind that can share the load.",
    )
    replication_factor: int = Field(
        1,
        ge=1,
        description="Number of copies of each partition of topics that tastestream creates. "
        "Set it to 3 on a cluster of three or more brokers.",
    )
    interactions_retention: float = Field(
        90 * 86_400.0,
        gt=0,
        description="Seconds for which the topic of events keeps an event; 90 days. It is the past that a retraining can learn from, "
        "and the time until an erased user's events are gone. `tastestream topics --apply` sets it on a topic that exists.",
    )
    dlq_retention: float = Field(
        90 * 86_400.0,
        gt=0,
        description="Seconds for which the topic of dead letters keeps one; 90 days. Set it to the time that you promise to your "
        "users. `tastestream topics --apply` sets it on a topic that exists.",
    )
    namespace: str = Field(
        "",
        description="Prefix, followed by a hyphen, of the consumer groups, the changelog topic, and every topic that is not "
        "named by a setting: shop makes shop-tastestream-embed and shop-user-interactions. Set it if several installations "
        "share a cluster, or if ACLs allow one prefix. Set it before the first start: bags do not move to another namespace.",
    )
    interactions_topic: str = Field(
        "user-interactions",
        min_length=1,
        description="Name of the input topic: the shop's events. If unset, it follows NAMESPACE. "
        "Set it to read a topic that you have already.",
    )
    embedded_topic: str = Field(
        "embedded-interactions",
        min_length=1,
        description="Name of the topic between the workers: events with embeddings. If unset, it follows NAMESPACE. "
        "Set it if your cluster has rules for names.",
    )
    recommendations_topic: str = Field(
        "user-recommendations",
        min_length=1,
        description="Name of the output topic: recommendations. If unset, it follows NAMESPACE. "
        "Set it to write to a topic that you have already.",
    )
    next_recommendations_topic: str = Field(
        "user-recommendations-next",
        min_length=1,
        description="Name of the topic of what NEXT_BUNDLE would recommend. If unset, it follows NAMESPACE. "
        "Set it if your cluster has rules for names.",
    )
    dlq_topic: str = Field(
        "user-interactions-dlq",
        min_length=1,
        description="Name of the topic of dead letters: events that cannot be processed. If unset, it follows NAMESPACE. "
        "Set it if your cluster has rules for names.",
    )
    features_topic: str = Field(
        "picture-features",
        min_length=1,
        description="Name of the topic of picture features, which all embed workers share. If unset, it follows NAMESPACE. "
        "Set it if your cluster has rules for names.",
    )
    category_trend_topic: str = Field(
        "category-trend",
        min_length=1,
        description="Name of the topic of the trend: what all shoppers took, by category and day. If unset, it follows NAMESPACE. "
        "Set it if your cluster has rules for names.",
    )
    items_topic: str = Field(
        "items",
        min_length=1,
        description="Name of the topic of the catalogue, which the shop may write. If unset, it follows NAMESPACE. "
        "Set it to read a topic that you have already.",
    )

    # -- this machine
    data_dir: Path = Field(
        Path("data"),
        description="Folder of the RocksDB files, with a folder for NAMESPACE in it. Put it on a local disk that outlives the "
        "process; workers of the same kind and namespace cannot share one.",
    )
    bundle: Path | None = Field(
        None,
        description="Folder of the model bundle. Set it to use a model of your own; if unset, the one in the package is used.",
    )
    next_bundle: Path | None = Field(
        None,
        description="Folder of the model bundle that is prepared while BUNDLE is served: bags keep the embeddings of both. "
        "Set it for a rollout, and after one to the bundle before, so that a rollback is possible.",
    )
    rollout_share: float = Field(
        0.99,
        ge=0,
        le=1,
        description="Least share of the items in the bags, 0 to 1, that must have a code of NEXT_BUNDLE before `tastestream rollout "
        "promote` permits to serve it. Lower it if many pictures are gone and no adapter stands in for them.",
    )
    bundle_key: Path | None = Field(
        None,
        description="Path of the Ed25519 public key (PEM) that must have signed each bundle; workers refuse every other bundle, "
        "the one in the package included. Needs the extra `sign`. Set it if others can write to the bundle's folder.",
    )
    model_threads: int = Field(
        1,
        ge=1,
        description="Number of threads of ONNX Runtime for one batch. Raise it if a worker has several cores to itself.",
    )
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
    serve_partitions: Annotated[tuple[int, ...], NoDecode] = Field(
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
    serve_origins: Annotated[tuple[str, ...], NoDecode] = Field(
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

    intake_memory: int = Field(
        16 * 1024**2,
        ge=1024**2,
        description="Maximum size of the records that a worker has read and not finished, in bytes, in equal shares for its "
        "partitions; as much again is fetched ahead. A record that is larger than a share is read by itself. "
        "Raise it if events of many kilobytes wait although the processor is idle.",
    )

    # -- messages
    earliest_date: date = Field(
        date(1990, 1, 1),
        ge=date(1970, 1, 1),
        description="Date, UTC, before which the timestamp of an event is refused: such an event becomes a dead letter. "
        "Timestamps in seconds instead of milliseconds lie in 1970. Move it back if your history is older.",
    )
    max_future: float = Field(
        300.0,
        ge=0,
        description="Maximum seconds that the timestamp of an event may be ahead of the clock; "
        "an event further ahead becomes a dead letter. Raise it if the clocks of producers are wrong: whoever may produce can "
        "fill or empty a bag for that long, because newer events win.",
    )

    # -- pictures
    fetch_allow_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (),
        description="Networks that pictures may come from besides the public internet, on any port, as CIDRs separated by "
        "commas. Add the network of your own picture servers, such as 10.1.0.0/16.",
    )
    fetch_allow_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="The only hosts that pictures may come from, separated by commas; all hosts if empty. "
        "cdn.example is one host, .cdn.example is every name below it. Set it if all your pictures come from a few hosts.",
    )
    fetch_ports: Annotated[tuple[int, ...], NoDecode] = Field(
        WEB_PORTS,
        description="Ports on the public internet that pictures may come from, separated by commas. "
        "Add the port of a picture server that uses another one.",
    )
    fetch_proxy: str = Field(
        "",
        description="Proxy for picture requests, as http://host:port; http_proxy and its like are never used. "
        "Set it if workers cannot reach the internet by themselves. A proxy looks up names again: it has to refuse internal "
        "addresses itself, because the worker checks only what the names resolve to on its own machine.",
    )
    fetch_user_agent: str = Field(
        f"tastestream/{version('tastestream')} (product pictures)",
        description="User-Agent of picture requests. Include a contact address, so that the owner of a server can reach you.",
    )
    fetch_max_bytes: int = Field(
        MAX_PICTURE_BYTES,
        ge=1024,
        description="Maximum size of a picture, in bytes. Raise it if pictures of your shop are larger; memory grows with it.",
    )
    fetch_max_pixels: int = Field(
        MAX_PIXELS,
        ge=1024,
        description="Maximum number of pixels of a picture, by its header. "
        "Raise it if pictures of your shop are larger; memory and decoding time grow with it.",
    )
    fetch_timeout: float = Field(
        10.0,
        gt=0,
        description="Maximum seconds for one attempt to fetch a picture, from the first byte sent to the last byte received. "
        "Raise it for slow picture servers.",
    )
    fetch_attempts: int = Field(
        5,
        ge=1,
        description="Maximum number of attempts to fetch a picture; only transient failures are retried. "
        "Raise it if pictures fail that can be fetched a minute later.",
    )
    fetch_connections: int = Field(
        256,
        ge=1,
        description="Maximum number of pictures that are being fetched and embedded at a time. "
        "Raise it if slow picture servers leave the processor idle; memory grows with it.",
    )
    fetch_large: int = Field(
        16,
        ge=1,
        description=f"Maximum number of pictures above {LARGE_PICTURE_BYTES // 1024} KiB that are read and decoded at a time. "
        "Lower it to save memory, raise it if most pictures are large.",
    )
    decoder_seconds: float = Field(
        5.0,
        ge=0.1,
        description="Maximum processor seconds to decode one picture, in a process of its own. "
        "A picture that needs more becomes a dead letter. Raise it on a slow machine, or together with FETCH_MAX_PIXELS.",
    )
    decoder_memory: int = Field(
        640 * 1024**2,
        ge=192 * 1024**2,  # with less, not even small pictures can be decoded
        description="Maximum memory of each of the two decoder processes, in bytes of address space. A picture that needs more "
        "becomes a dead letter. Raise it together with FETCH_MAX_PIXELS; lower both to save memory.",
    )
    embed_batch: int = Field(
        8,
        ge=1,
        description="Maximum number of pictures in one call of the model. "
        "Raise it for throughput, lower it for latency.",
    )
    embed_in_flight: int = Field(
        4096,
        ge=1,
        description="Maximum number of events that the embed worker has in flight, in equal shares for its partitions. "
        "Raise it if events wait behind slow pictures; memory grows with it.",
    )
    share_features: bool = Field(
        True,
        description="Whether the features of pictures are written to FEATURES_TOPIC, and those of other embed workers are taken "
        "from it, so that a picture is fetched once for all workers and bundles. Turn it off to save the topic's space.",
    )
    cache_memory: int = Field(
        32 * 1024**2,
        ge=0,
        description="Maximum size of the embeddings that are cached in memory, in bytes. "
        "Raise it if tastestream_pictures_total counts many embeddings from disk.",
    )
    cache_disk: int = Field(
        1024**3,
        ge=0,
        description="Maximum size of the features of pictures that are cached on disk, in bytes: about 1,100 for a picture. "
        "Raise it until the pictures of all items on sale fit.",
    )
    cache_max_age: float = Field(
        30 * 86_400.0,
        gt=0,
        description="Seconds after which the features of a picture expire and it is fetched again. "
        "Lower it if pictures change under the same URL.",
    )
    cache_failure_age: float = Field(
        30.0,
        ge=0,
        description="Seconds before a failed picture is retried. Raise it to spare a picture server that often fails.",
    )

    # -- profiles
    bag_size: int = Field(
        64,
        ge=1,
        description="Maximum number of items in a bag that are scored, newest first. It cannot be above MAX_SLOTS. "
        "Lower it if older items should not count.",
    )
    max_slots: int = Field(
        128,
        ge=1,
        description="Maximum number of items that are kept for a user, returned ones included. "
        "Raise it for longer histories; disk and recovery time grow with it.",
    )
    top_k: int = Field(
        10,
        ge=1,
        description="Maximum number of categories in a recommendation, and of items with their attention. "
        "Raise it if consumers need more.",
    )
    type_weights: Annotated[dict[WeightedType, float], NoDecode] = Field(
        default=DEFAULT_TYPE_WEIGHTS,
        description="Weight of each interaction type in a bag, 0 to 1, as purchase=1,cart=0.6,view=0.3. "
        "Change it if views say more, or less, about your shoppers.",
    )
    half_life: float | None = Field(
        None,
        gt=0,
        description="Seconds after which an item counts half; if unset or `none`, age does not count. "
        "Set it if tastes change quickly, for example to 7776000 for 90 days.",
    )
    profile_batch: int = Field(
        256,
        ge=1,
        description="Maximum number of events that the profile worker folds and scores in one micro-batch. "
        "Raise it for throughput, lower it for latency under load.",
    )
    trend_interval: float = Field(
        10.0,
        gt=0,
        description="Seconds between two snapshots of a partition on CATEGORY_TREND_TOPIC, at least; the first event of a new day "
        "brings one at once. Raise it to save space on the topic. Used with a bundle that has labels.npz.",
    )
    standby: bool = Field(
        False,
        description="Whether a profile worker keeps a copy of the bags of all partitions, so that it takes over those of another "
        "worker without reading them first. Costs the disk space and the writes of all bags. Set it if you run two workers or more.",
    )
    recent_items: int = Field(
        30_000,
        ge=0,
        description="Number of items, of the bags that changed last, that are kept in memory, as far as RECENT_MEMORY permits. "
        "Raise it if more shoppers than that are active at a time.",
    )
    recent_memory: int = Field(
        64 * 1024**2,
        ge=0,
        description="Maximum size of the bags that RECENT_ITEMS keeps in memory, in bytes; an item takes one to two kilobytes, "
        "more with long ids and URLs. Raise it together with RECENT_ITEMS.",
    )
    rocksdb_memory: int = Field(
        64 * 1024**2,
        ge=1024**2,
        description="Maximum size of RocksDB's cache and write buffers, in bytes, for all partitions together. "
        "Raise it if bags are read from disk often.",
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

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, value: str) -> str:
        check_namespace(value)
        return value

    @field_validator(*TOPICS)
    @classmethod
    def _topic(cls, value: str) -> str:
        check_topic(value)
        return value

    @field_validator("embed_port", "profile_port", "serve_port", mode="before")
    @classmethod
    def _port(cls, value: Any) -> Any:
        if isinstance(value, str) and "://" in value:
            raise ValueError(
                "Kubernetes sets this variable for a Service of that name; set `enableServiceLinks: false` in the pod, "
                "or set the port there"
            )
        return value

    @field_validator("fetch_allow_networks", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        listed = parts(value)
        if not isinstance(listed, list | tuple):
            return listed
        return tuple(ip_network(str(network)) for network in cast("list[Any]", listed))

    @field_validator("fetch_allow_hosts", "fetch_ports", "serve_partitions", "serve_origins", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return parts(value)

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

    @field_validator("serve_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not re.fullmatch(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?", origin):
                raise ValueError(
                    f"{origin} is not a site; expected https://shop.example, in lower case and without a path"
                )
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
        return pairs(value)

    @field_validator("type_weights")
    @classmethod
    def _weights_between_0_and_1(cls, value: dict[str, float]) -> dict[str, float]:
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
        return None if value == "none" else value

    @field_validator("*", mode="before")  # the last one runs first
    @classmethod
    def _unquoted(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        text = unquoted(value)
        default = cls.model_fields[info.field_name or ""].default
        empty = not text.strip() and not isinstance(default, str | tuple | SecretStr)
        return default if empty else text  # a number or a path cannot be empty: the setting is unset

    @model_validator(mode="after")
    def _fit_together(self) -> "Settings":
        if self.bag_size > self.max_slots:
            raise ValueError(f"BAG_SIZE ({self.bag_size}) cannot be above MAX_SLOTS ({self.max_slots})")
        if self.stall_timeout < 2 * self.session_timeout:
            raise ValueError(
                f"STALL_TIMEOUT ({self.stall_timeout:g} s) cannot be below twice SESSION_TIMEOUT ({self.session_timeout:g} s): "
                "after a worker has died, the others need that long to take its partitions"
            )
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
        for name in TOPICS:
            if self.follows_namespace(name):  # the model is frozen for everybody else
                object.__setattr__(self, name, in_namespace(self.namespace, getattr(self, name)))
        self._check_topics_differ()
        return self

    def _check_topics_differ(self) -> None:
        """Raises ValueError if two topics have one name: workers would read what they write."""
        owners = {self.bags_changelog: "the changelog topic"}
        for name in TOPICS:
            topic, owner = getattr(self, name), name.upper()
            if topic in owners:
                raise ValueError(f"{owner} is {topic}, which is {owners[topic]} too; each topic needs its own name")
            owners[topic] = owner

    def _check_tls_files(self) -> None:
        """Load the files once, so that a wrong one is a wrong setting and not a crash of each client.

        Raises:
            ValueError: One of them is missing or is not what it has to be.
        """
        for name in ("tls_ca_file", "tls_cert_file", "tls_key_file"):
            path: Path | None = getattr(self, name)
            if path and not path.is_file():
                raise ValueError(f"{name.upper()} is {path}, but there is no such file")
        try:
            _ = self.ssl_context
        except OSError as error:  # what ssl raises too
            named = ", ".join(str(path) for path in (self.tls_ca_file, self.tls_cert_file, self.tls_key_file) if path)
            raise ValueError(f"the TLS files cannot be loaded ({error}): {named}") from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of precedence: arguments, environment, `.env`, TOML file."""
        del file_secret_settings
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def bootstrap_servers(self) -> list[str]:
        """host:port of each broker, without the scheme; an IPv6 address is in brackets."""
        return [broker.server for broker in _brokers(self.broker)]

    def follows_namespace(self, name: str) -> bool:
        """Whether the value of this setting comes from its default and `namespace`: a topic that no source names."""
        return name in TOPICS and name not in self.model_fields_set

    @property
    def embed_group(self) -> str:
        """The consumer group of the embed workers."""
        return in_namespace(self.namespace, EMBED_GROUP)

    @property
    def items_group(self) -> str:
        """The consumer group in which the embed workers read the items of the shop."""
        return in_namespace(self.namespace, ITEMS_GROUP)

    @property
    def profile_group(self) -> str:
        """The consumer group of the profile workers."""
        return in_namespace(self.namespace, of_generation(PROFILE_GROUP, self._generation))

    @property
    def bags_changelog(self) -> str:
        """The changelog topic of the bags, as Faust names it."""
        return f"{self.profile_group}{SEPARATOR}{BAGS_TABLE}{SEPARATOR}changelog"

    @property
    def bags_folder(self) -> str:
        """Name of the folder of the bags in the folder of a worker."""
        return of_generation(BAGS_TABLE, self._generation)

    @property
    def generations_topic(self) -> str:
        """The topic that says which generation of the internal topics is in use. It exists once the bags were moved."""
        return in_namespace(self.namespace, GENERATIONS)

    @property
    def resize_id(self) -> str:
        """The transactional id of the command that moves the bags."""
        return in_namespace(self.namespace, RESIZE)

    @property
    def generation(self) -> int:
        """The generation of the internal topics that the names are of: `embedded_topic`, `profile_group`, `bags_changelog`."""
        return self._generation

    def of_generation(self, number: int) -> "Settings":
        """The same settings with the internal topics and the group of a generation. `streams.kafka.generations` knows which."""
        copied = self.model_copy()
        copied._generation = number
        copied._first_embedded_topic = first = self._first_embedded_topic or self.embedded_topic
        # The model is frozen for everybody else.
        object.__setattr__(copied, "embedded_topic", of_generation(first, number))
        return copied

    def worker_name(self, kind: str) -> str:
        """The name of a worker of a kind on this machine: `embed-web1`."""
        return f"{kind}{SEPARATOR}{self.worker_host or gethostname()}"

    def of_worker(self, kind: str) -> "Settings":
        """The same settings for a worker of a kind, whose clients name it at the brokers."""
        copied = self.model_copy()
        copied._worker = kind
        return copied

    @property
    def client_id(self) -> str:
        """What clients call themselves at the brokers, for quotas and logs: `tastestream-embed-web1`, or `tastestream` in a command."""
        name = f"{CLIENT}{SEPARATOR}{self.worker_name(self._worker)}" if self._worker else CLIENT
        return in_namespace(self.namespace, name)

    @property
    def group_instance_id(self) -> str | None:
        """By what its groups know a worker when it comes back; None if each start is a new member."""
        return in_namespace(self.namespace, self.worker_name(self._worker)) if self.static_membership else None

    @property
    def state_dir(self) -> Path:
        """Folder of this namespace's files: those of another namespace belong to other topics."""
        return self.data_dir / self.namespace

    @property
    def tokens_file(self) -> Path:
        """File of the tokens of the HTTP API."""
        return self.serve_tokens or self.state_dir / "tokens.json"

    @property
    def earliest(self) -> int:
        """The beginning of EARLIEST_DATE, milliseconds since the epoch."""
        return round(datetime.combine(self.earliest_date, time(), UTC).timestamp() * 1000)

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

    def aiokafka(self) -> dict[str, Any]:
        """Arguments of every aiokafka client: where the brokers are, and how to authenticate."""
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": self.client_id,
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


def _brokers(text: str) -> list[Broker]:
    return [parse_broker(part) for part in text.split(",") if part.strip()]
